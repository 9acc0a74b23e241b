//! A body or detail of the configuration whose texts are templates: text, list or mapping, as JSON.
//!
//! In: what the configuration says, a notification. Out: JSON. As Alertmanager 0.33 does it (seen by sending both the
//! same): each text is expanded, then read as YAML 1.1; what is no text there (a number, `yes`, a list, a mapping, nothing)
//! takes its place. Other than there a text that comes out of an alert is not expanded once more: labels are no templates.

use serde_json::{Map, Number, Value as Json};

use super::templates::{About, Templates, Text};
use crate::yaml;

/// How deep a text may nest.
const DEPTH_MAX: usize = 32;

/// See the module.
pub(super) enum Typed {
    Text(Text),
    List(Vec<Typed>),
    Map(Vec<(Text, Typed)>),
    Fixed(Json),
}

impl Typed {
    /// Checks every text; `key` is what errors call them.
    pub(super) fn new(templates: &Templates, key: &str, written: &Json) -> Result<Self, String> {
        Ok(match written {
            Json::String(text) => Self::Text(templates.text(key, text)?),
            Json::Array(items) => {
                Self::List(items.iter().map(|item| Self::new(templates, key, item)).collect::<Result<_, _>>()?)
            }
            Json::Object(entries) => {
                let entry = |(name, value): (&String, &Json)| {
                    Ok((templates.text(key, name)?, Self::new(templates, key, value)?))
                };
                Self::Map(entries.iter().map(entry).collect::<Result<_, String>>()?)
            }
            other => Self::Fixed(other.clone()),
        })
    }

    /// What it says of a notification.
    pub(super) fn run(&self, about: &About) -> Result<Json, String> {
        Ok(match self {
            Self::Text(text) => typed(text.run(about)?, 0),
            Self::List(items) => Json::Array(items.iter().map(|item| item.run(about)).collect::<Result<_, _>>()?),
            Self::Map(entries) => {
                let entry = |(name, value): &(Text, Self)| Ok((name.run(about)?, value.run(about)?));
                Json::Object(entries.iter().map(entry).collect::<Result<Map<_, _>, String>>()?)
            }
            Self::Fixed(value) => value.clone(),
        })
    }
}

/// The text, or what it means as YAML 1.1 when that is no text.
pub(super) fn typed(text: String, depth: usize) -> Json {
    if depth >= DEPTH_MAX {
        return text.into();
    }
    // JSON is YAML whose keys are all texts: there a key `y` is no truth.
    match serde_json::from_str::<Json>(&text) {
        Ok(Json::String(_)) => return text.into(),
        Ok(value) => return of_json(value, depth),
        Err(_) => {}
    }
    // A tab begins nothing in YAML.
    let plain = text.trim_matches([' ', '\n', '\r']);
    if let Some(value) = scalar(plain) {
        return value;
    }
    // A document that is a comment or two documents says nothing, or more than one value can.
    match yaml::documents(&text) {
        Ok(documents) if documents.is_empty() && plain.starts_with('#') => Json::Null,
        Ok(documents) => match documents.as_slice() {
            [only] if !matches!(only.value, yaml::Value::String(_)) && !has_odd_key(only) => of_yaml(only, depth),
            _ => text.into(),
        },
        Err(_) => text.into(),
    }
}

fn of_json(value: Json, depth: usize) -> Json {
    match value {
        Json::String(text) => typed(text, depth + 1),
        Json::Array(items) => items.into_iter().map(|item| of_json(item, depth + 1)).collect(),
        Json::Object(entries) => {
            entries.into_iter().map(|(name, value)| (name, of_json(value, depth + 1))).collect::<Map<_, _>>().into()
        }
        Json::Number(number) => whole(number),
        other => other,
    }
}

fn of_yaml(node: &yaml::Node, depth: usize) -> Json {
    match &node.value {
        yaml::Value::Null => Json::Null,
        yaml::Value::Bool(value) => (*value).into(),
        yaml::Value::Number(text) => scalar(text).unwrap_or_else(|| text.clone().into()),
        yaml::Value::String(text) => typed(text.clone(), depth + 1),
        yaml::Value::Sequence(items) => items.iter().map(|item| of_yaml(item, depth + 1)).collect(),
        yaml::Value::Mapping(entries) => {
            // Keys that are no texts are left out, as there.
            let entry = |(key, value): &(yaml::Node, yaml::Node)| match &key.value {
                yaml::Value::String(name) if scalar(name).is_none() => Some((name.clone(), of_yaml(value, depth + 1))),
                _ => None,
            };
            entries.iter().filter_map(entry).collect::<Map<_, _>>().into()
        }
    }
}

/// Whether a list or mapping stands where a key belongs, as in `{{ x }}`: no document for Alertmanager.
fn has_odd_key(node: &yaml::Node) -> bool {
    let is_odd = |key: &yaml::Node| matches!(key.value, yaml::Value::Sequence(_) | yaml::Value::Mapping(_));
    node.items().iter().any(has_odd_key) || node.entries().iter().any(|(key, value)| is_odd(key) || has_odd_key(value))
}

/// What a plain scalar means in YAML 1.1 when it is no text.
fn scalar(text: &str) -> Option<Json> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Some(Json::Null),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Some(true.into()),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Some(false.into());
        }
        _ => {}
    }
    let first = text.bytes().find(|byte| !matches!(byte, b'+' | b'-' | b'.'))?;
    if !first.is_ascii_digit() || text.ends_with('_') {
        return None;
    }
    let digits = text.replace('_', "");
    let (minus, unsigned) = match digits.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, digits.strip_prefix('+').unwrap_or(&digits)),
    };
    let radix = |prefix: &str, base| Some(i64::from_str_radix(unsigned.strip_prefix(prefix)?, base).ok());
    let whole_number = match unsigned.len() {
        1 => None,
        _ => radix("0x", 16).or_else(|| radix("0b", 2)).or_else(|| radix("0o", 8)).or_else(|| radix("0", 8)).flatten(),
    };
    if let Some(value) = whole_number {
        return Some(if minus { -value } else { value }.into());
    }
    let is_decimal = unsigned.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    let value: Json =
        is_decimal.then(|| digits.strip_prefix('+').unwrap_or(&digits))?.parse::<f64>().ok().and_then(|float| {
            let exact = digits.parse::<i64>().map(Number::from).or_else(|_| digits.parse::<u64>().map(Number::from));
            Some(Json::Number(exact.ok().or_else(|| Number::from_f64(float).filter(|_| float.is_finite()))?))
        })?;
    match value {
        Json::Number(number) => Some(whole(number)),
        other => Some(other),
    }
}

/// Without a fraction of nothing, as Go prints it.
fn whole(number: Number) -> Json {
    match number.as_f64() {
        Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 9e15 => (float as i64).into(),
        _ => Json::Number(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_as_alertmanager_0_33_reads_them() {
        // Each seen as Alertmanager's body.
        for (text, expect) in [
            ("yes", "true"),
            ("off", "false"),
            ("~", "null"),
            ("", "null"),
            ("0x10", "16"),
            ("0b11", "3"),
            ("0o17", "15"),
            ("017", "15"),
            ("1_000", "1000"),
            ("1e3", "1000"),
            (".5", "0.5"),
            ("+5", "5"),
            ("-3", "-3"),
            ("1.", "1"),
            ("1.0", "1"),
            ("  1  ", "1"),
            ("-0", "0"),
            ("12345678901234567890", "12345678901234567890"),
            ("99999999999999999999999", "1e+23"),
            ("1e400", "\"1e400\""),
            ("2026-01-01", "\"2026-01-01\""),
            ("1:30", "\"1:30\""),
            ("CPU: high", "{\"CPU\":\"high\"}"),
            ("- x", "[\"x\"]"),
            ("# c", "null"),
            ("foo # c", "\"foo # c\""),
            ("a: {b: 1", "\"a: {b: 1\""),
            ("'q'", "\"'q'\""),
            ("\"q\"", "\"\\\"q\\\"\""),
            (" x ", "\" x \""),
            ("[a, b]", "[\"a\",\"b\"]"),
            ("*x", "\"*x\""),
            ("a\n---\nb", "\"a\\n---\\nb\""),
            ("{1: 2}", "{}"),
            ("{yes: 1}", "{}"),
            ("{a: ''}", "{\"a\":null}"),
            ("{x: 'yes'}", "{\"x\":true}"),
            ("{\"b\":{\"y\":[\"1\",null]},\"a\":2.0}", "{\"a\":2,\"b\":{\"y\":[1,null]}}"),
            ("a: b: c", "\"a: b: c\""),
            ("@x", "\"@x\""),
            ("\t", "\"\\t\""),
            ("{{ .Status }}", "\"{{ .Status }}\""),
        ] {
            assert_eq!(typed(text.to_owned(), 0).to_string(), expect, "{text:?}");
        }
        let deep = "[".repeat(5_000);
        assert_eq!(typed(deep.clone(), 0), Json::from(deep));
    }
}
