//! What a template computes with, printed as Go's `fmt` prints it.
//!
//! In: nothing. Out: [`Value`], its Go spelling, its truth. Knows nothing of rules or alerts. Invariant: a missing key of
//! a string map is the empty string, a missing key of any other map is nil, as in Go.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use chrono_tz::Tz;

use super::numbers::shortest;
use crate::model::{Labels, Timestamp};

/// A value of the template language.
#[derive(Clone, Debug)]
pub enum Value {
    /// `nil`.
    Nil,
    /// `bool`.
    Bool(bool),
    /// `int`.
    Int(i64),
    /// `float64`.
    Float(f64),
    /// `string`.
    String(Arc<str>),
    /// A slice.
    List(Arc<[Value]>),
    /// `map[string]interface {}`.
    Map(Arc<BTreeMap<String, Value>>),
    /// `map[string]string`: the labels of a sample.
    Labels(Labels),
    /// A struct: only its own fields can be asked for.
    Struct(Arc<Struct>),
    /// `*time.Time`.
    Time(Timestamp),
    /// `*time.Duration`, in nanoseconds.
    Duration(i64),
    /// `template.KV`: labels or annotations with methods.
    Kv(Labels),
    /// A slice of a named type, whose methods follow from the name: `template.Alerts`, `template.Pairs`, `[]string`.
    Named(&'static str, Arc<[Value]>),
    /// A text that is not escaped again: `template.HTML` or `template.URL`.
    Safe(&'static str, Arc<str>),
    /// `time.Time` in a zone.
    Zoned(Timestamp, Tz),
}

/// A Go struct.
#[derive(Debug)]
pub struct Struct {
    /// The type as Go spells it in error messages.
    pub type_name: &'static str,
    /// Fields in declared order.
    pub fields: Vec<(&'static str, Value)>,
}

impl Value {
    /// A string value.
    pub fn text(text: &str) -> Self {
        Self::String(Arc::from(text))
    }

    /// The type as Go spells it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::String(_) => "string",
            Self::List(_) => "[]interface {}",
            Self::Map(_) => "map[string]interface {}",
            Self::Labels(_) => "map[string]string",
            Self::Struct(of) => of.type_name,
            Self::Time(_) => "*time.Time",
            Self::Duration(_) => "*time.Duration",
            Self::Kv(_) => "template.KV",
            Self::Named(name, _) | Self::Safe(name, _) => name,
            Self::Zoned(..) => "time.Time",
        }
    }

    /// Whether `if` takes it for true: not zero and not empty.
    pub fn is_true(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(b) => *b,
            Self::Int(n) => *n != 0,
            Self::Float(v) => *v != 0.0,
            Self::String(s) => !s.is_empty(),
            Self::List(items) => !items.is_empty(),
            Self::Map(map) => !map.is_empty(),
            Self::Labels(labels) | Self::Kv(labels) => !labels.is_empty(),
            Self::Named(_, items) => !items.is_empty(),
            Self::Safe(_, text) => !text.is_empty(),
            Self::Struct(_) | Self::Time(_) | Self::Duration(_) | Self::Zoned(..) => true,
        }
    }

    /// The field or map entry `name`.
    ///
    /// # Errors
    /// When the type has no such field; the text is Go's.
    pub fn field(&self, name: &str) -> Result<Self, String> {
        let missing = || format!("can't evaluate field {name} in type {}", self.type_name());
        match self {
            Self::Labels(labels) | Self::Kv(labels) => Ok(Self::text(labels.value(name))),
            Self::Map(map) => Ok(map.get(name).cloned().unwrap_or(Self::Nil)),
            Self::Struct(of) => {
                of.fields.iter().find(|(field, _)| *field == name).map(|(_, v)| v.clone()).ok_or_else(missing)
            }
            Self::Nil => Err(format!("nil data; no entry for key \"{name}\"")),
            _ => Err(missing()),
        }
    }
}

/// As Go's `%v`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("<nil>"),
            Self::Bool(b) => write!(f, "{b}"),
            Self::Int(n) => write!(f, "{n}"),
            Self::Float(v) => f.write_str(&shortest(*v)),
            Self::String(s) => f.write_str(s),
            Self::List(items) => bracketed(f, "[", items.iter().map(|item| (None, item))),
            Self::Map(map) => bracketed(f, "map[", map.iter().map(|(k, v)| (Some(k.as_str()), v))),
            Self::Labels(labels) => {
                let text: Vec<String> = labels.iter().map(|(name, value)| format!("{name}:{value}")).collect();
                write!(f, "map[{}]", text.join(" "))
            }
            Self::Struct(of) => bracketed(f, "{", of.fields.iter().map(|(_, v)| (None, v))),
            Self::Time(at) => f.write_str(&go_time(*at)),
            Self::Duration(ns) => f.write_str(&go_duration(*ns)),
            Self::Kv(labels) => f.write_str(&super::methods::pairs_text(labels)),
            Self::Named("template.Pairs", items) => {
                let of = |pair: &Value, field| pair.field(field).map(|value| value.to_string()).unwrap_or_default();
                let texts = items.iter().map(|pair| format!("{}={}", of(pair, "Name"), of(pair, "Value")));
                f.write_str(&texts.collect::<Vec<_>>().join(", "))
            }
            Self::Named(_, items) => bracketed(f, "[", items.iter().map(|item| (None, item))),
            Self::Safe(_, text) => f.write_str(text),
            Self::Zoned(at, zone) => {
                f.write_str(&super::time::format(*at, *zone, "2006-01-02 15:04:05.999999999 -0700 MST"))
            }
        }
    }
}

fn bracketed<'a>(
    f: &mut fmt::Formatter<'_>,
    open: &str,
    items: impl Iterator<Item = (Option<&'a str>, &'a Value)>,
) -> fmt::Result {
    f.write_str(open)?;
    for (i, (key, item)) in items.enumerate() {
        if i > 0 {
            f.write_char(' ')?;
        }
        match key {
            Some(key) => write!(f, "{key}:{item}")?,
            None => write!(f, "{item}")?,
        }
    }
    f.write_char(if open == "{" { '}' } else { ']' })
}

/// As Go prints a UTC time: `2022-01-25 12:36:43.5 +0000 UTC`.
pub fn go_time(at: Timestamp) -> String {
    let mut text = at.to_chrono().format("%Y-%m-%d %H:%M:%S").to_string();
    let ms = at.as_millis().rem_euclid(1000);
    if ms != 0 {
        text.push_str(format!(".{ms:03}").trim_end_matches('0'));
    }
    text.push_str(" +0000 UTC");
    text
}

/// As Go prints a duration: `2h15m30.5s`, `1.5ms`, `0s`.
pub fn go_duration(ns: i64) -> String {
    let (sign, total) = (if ns < 0 { "-" } else { "" }, ns.unsigned_abs());
    let with_unit = |value: f64, unit: &str| format!("{sign}{}{unit}", shortest(value));
    match total {
        0 => return "0s".to_owned(),
        1..=999 => return format!("{sign}{total}ns"),
        1000..=999_999 => return with_unit(total as f64 / 1e3, "µs"),
        1_000_000..=999_999_999 => return with_unit(total as f64 / 1e6, "ms"),
        _ => {}
    }
    let (whole, fraction) = (total / 1_000_000_000, total % 1_000_000_000);
    let mut text = sign.to_owned();
    if whole >= 3600 {
        text.push_str(&format!("{}h", whole / 3600));
    }
    if whole >= 60 {
        text.push_str(&format!("{}m", whole / 60 % 60));
    }
    text.push_str(&(whole % 60).to_string());
    if fraction != 0 {
        text.push_str(format!(".{fraction:09}").trim_end_matches('0'));
    }
    text.push('s');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_go_does() {
        let labels = Labels::from_pairs([("instance", "a"), ("__name__", "m")]);
        let check = |value: Value, expect: &str| assert_eq!(value.to_string(), expect);
        check(Value::Labels(labels), "map[__name__:m instance:a]");
        check(Value::List([Value::Int(1), Value::text("b")].into()), "[1 b]");
        check(Value::Float(1e21), "1e+21");
        check(Value::Float(f64::INFINITY), "+Inf");
        check(Value::Float(100_000_000.0), "1e+08");
        check(Value::Time(Timestamp::from_millis(1_643_114_203_500)), "2022-01-25 12:36:43.5 +0000 UTC");
        for (ns, expect) in [
            (0, "0s"),
            (1500, "1.5µs"),
            (90_000_000_000, "1m30s"),
            (-1_500_000_000, "-1.5s"),
            (3_600_000_000_000, "1h0m0s"),
            (1_500_000, "1.5ms"),
        ] {
            check(Value::Duration(ns), expect);
        }
    }
}
