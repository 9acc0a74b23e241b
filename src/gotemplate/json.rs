//! Values as Go's `encoding/json` writes them.
//!
//! In: a value. Out: JSON text. Pure. Invariant: `<`, `>` and `&` are escaped, as Go does by default.

use super::value::Value;

/// JSON of a value.
pub fn marshal(value: &Value) -> String {
    go_escaped(&json(value).to_string())
}

/// JSON text with the characters escaped that Go escapes and others do not. Outside of strings JSON has none of them.
pub fn go_escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

fn json(value: &Value) -> serde_json::Value {
    use serde_json::Value as Json;
    match value {
        Value::Nil => Json::Null,
        Value::Bool(b) => Json::Bool(*b),
        Value::Int(n) | Value::Duration(n) => Json::from(*n),
        Value::Float(v) => serde_json::Number::from_f64(*v).map_or(Json::Null, Json::Number),
        Value::String(text) | Value::Safe(_, text) => Json::String(text.to_string()),
        Value::List(items) | Value::Named(_, items) => items.iter().map(json).collect(),
        Value::Map(map) => {
            map.iter().map(|(key, value)| (key.clone(), json(value))).collect::<serde_json::Map<_, _>>().into()
        }
        Value::Labels(labels) | Value::Kv(labels) => labels
            .iter()
            .map(|(name, value)| (name.to_owned(), Json::String(value.to_owned())))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Struct(of) => {
            let named = |name: &str| match of.type_name {
                "template.Alert" | "template.Data" => name[..1].to_ascii_lowercase() + &name[1..],
                _ => name.to_owned(),
            };
            of.fields.iter().map(|(name, value)| (named(name), json(value))).collect::<serde_json::Map<_, _>>().into()
        }
        Value::Time(at) => Json::String(super::time::format(*at, chrono_tz::Tz::UTC, RFC_3339)),
        Value::Zoned(at, zone) => Json::String(super::time::format(*at, *zone, RFC_3339)),
    }
}

const RFC_3339: &str = "2006-01-02T15:04:05.999999999Z07:00";
