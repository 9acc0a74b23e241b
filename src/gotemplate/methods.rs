//! Methods of what Alertmanager gives to templates: label sets, lists of alerts, times, durations.
//!
//! In: a value, a name, arguments. Out: a value, or Go's error text. Pure. As in Go a method goes before a label of the
//! same name.

use std::sync::Arc;

use chrono::{Datelike, Timelike};
use chrono_tz::Tz;

use super::value::{Struct, Value};
use super::{json, time};
use crate::model::Labels;

type Called = Option<Result<Value, String>>;

/// Calls the method `name` of `on`; `None` when its type has no such method.
pub fn call(on: &Value, name: &str, args: &[Value]) -> Called {
    match on {
        Value::Kv(labels) => kv(labels, name, args),
        Value::Named("template.Alerts", items) => match name {
            "Firing" => Some(none(name, args).map(|()| with_status(items, "firing"))),
            "Resolved" => Some(none(name, args).map(|()| with_status(items, "resolved"))),
            _ => None,
        },
        Value::Named("template.Pairs", items) => match name {
            "Names" => Some(none(name, args).map(|()| fields(items, "Name"))),
            "Values" => Some(none(name, args).map(|()| fields(items, "Value"))),
            "String" => Some(none(name, args).map(|()| Value::text(&on.to_string()))),
            _ => None,
        },
        Value::Zoned(at, zone) => zoned((*at, *zone), name, args),
        Value::Time(at) => zoned((*at, Tz::UTC), name, args),
        Value::Duration(ns) => duration(*ns, name, args),
        _ => None,
    }
}

/// `a=b, c=d`, the alert's name first, as Alertmanager prints a label set.
pub fn pairs_text(labels: &Labels) -> String {
    let texts: Vec<String> = sorted(labels).iter().map(|(name, value)| format!("{name}={value}")).collect();
    texts.join(", ")
}

/// `[]string`.
pub fn strings<'a>(texts: impl Iterator<Item = &'a str>) -> Value {
    Value::Named("[]string", texts.map(Value::text).collect())
}

/// The texts of a list of strings.
pub fn texts(value: &Value) -> Option<Vec<&str>> {
    let (Value::List(items) | Value::Named(_, items)) = value else { return None };
    let text = |item| match item {
        &Value::String(ref text) | &Value::Safe(_, ref text) => Some(&**text),
        _ => None,
    };
    items.iter().map(text).collect()
}

fn sorted(labels: &Labels) -> Vec<(&str, &str)> {
    let mut pairs: Vec<(&str, &str)> = labels.iter().collect();
    pairs.sort_by_key(|(name, _)| (*name != "alertname", *name));
    pairs
}

fn none(name: &str, args: &[Value]) -> Result<(), String> {
    match args.len() {
        0 => Ok(()),
        got => Err(format!("wrong number of args for {name}: want 0 got {got}")),
    }
}

fn one<'a>(name: &str, args: &'a [Value]) -> Result<&'a Value, String> {
    match args {
        [arg] => Ok(arg),
        _ => Err(format!("wrong number of args for {name}: want 1 got {}", args.len())),
    }
}

fn wrong(expected: &str, got: &Value) -> String {
    format!("wrong type for value; expected {expected}; got {}", got.type_name())
}

fn kv(labels: &Labels, name: &str, args: &[Value]) -> Called {
    let pair = |(name, value): (&str, &str)| {
        let fields = vec![("Name", Value::text(name)), ("Value", Value::text(value))];
        Value::Struct(Arc::new(Struct { type_name: "template.Pair", fields }))
    };
    let names = || strings(sorted(labels).into_iter().map(|(name, _)| name));
    let values = || strings(sorted(labels).into_iter().map(|(_, value)| value));
    Some(match name {
        "SortedPairs" => {
            none(name, args).map(|()| Value::Named("template.Pairs", sorted(labels).into_iter().map(pair).collect()))
        }
        "Names" => none(name, args).map(|()| names()),
        "Values" => none(name, args).map(|()| values()),
        "String" => none(name, args).map(|()| Value::text(&pairs_text(labels))),
        "Remove" => one(name, args).and_then(|arg| {
            let gone = texts(arg).ok_or_else(|| wrong("[]string", arg))?;
            Ok(Value::Kv(labels.iter().filter(|(name, _)| !gone.contains(name)).collect()))
        }),
        _ => return None,
    })
}

fn with_status(items: &[Value], status: &str) -> Value {
    let is = |item: &&Value| matches!(item.field("Status"), Ok(Value::String(text)) if &*text == status);
    Value::Named("template.Alerts", items.iter().filter(is).cloned().collect())
}

fn fields(items: &[Value], field: &str) -> Value {
    Value::Named("[]string", items.iter().filter_map(|item| item.field(field).ok()).collect())
}

fn zoned(of: (crate::model::Timestamp, Tz), name: &str, args: &[Value]) -> Called {
    let (at, zone) = of;
    let local = at.to_chrono().with_timezone(&zone);
    let int = |n: i64| none(name, args).map(|()| Value::Int(n));
    let other = || match one(name, args)? {
        Value::Zoned(at, _) | Value::Time(at) => Ok(*at),
        got => Err(wrong("time.Time", got)),
    };
    let nanoseconds = |ms: i64| ms.saturating_mul(1_000_000);
    Some(match name {
        "Format" => one(name, args).and_then(|layout| match layout {
            Value::String(layout) => Ok(Value::text(&time::format(at, zone, layout))),
            got => Err(wrong("string", got)),
        }),
        "String" => none(name, args).map(|()| Value::text(&Value::Zoned(at, zone).to_string())),
        "Unix" => int(at.as_millis().div_euclid(1000)),
        "UnixMilli" => int(at.as_millis()),
        "UnixNano" => int(nanoseconds(at.as_millis())),
        "UTC" | "Local" => none(name, args).map(|()| Value::Zoned(at, Tz::UTC)),
        "IsZero" => none(name, args).map(|()| Value::Bool(at == time::ZERO)),
        "Year" => int(i64::from(local.year())),
        "YearDay" => int(i64::from(local.ordinal())),
        "Day" => int(i64::from(local.day())),
        "Hour" => int(i64::from(local.hour())),
        "Minute" => int(i64::from(local.minute())),
        "Second" => int(i64::from(local.second())),
        "Month" => none(name, args).map(|()| Value::text(&local.format("%B").to_string())),
        "Weekday" => none(name, args).map(|()| Value::text(&local.format("%A").to_string())),
        "Sub" => other().map(|other| Value::Duration(nanoseconds(at.as_millis().saturating_sub(other.as_millis())))),
        "Before" => other().map(|other| Value::Bool(at < other)),
        "After" => other().map(|other| Value::Bool(at > other)),
        "Equal" => other().map(|other| Value::Bool(at == other)),
        "Add" => one(name, args).and_then(|arg| match arg {
            Value::Duration(ns) | Value::Int(ns) => {
                let moved = at.as_millis().saturating_add(ns / 1_000_000).clamp(time::ZERO.as_millis(), time::LAST_MS);
                Ok(Value::Zoned(crate::model::Timestamp::from_millis(moved), zone))
            }
            got => Err(wrong("time.Duration", got)),
        }),
        "MarshalJSON" => none(name, args).map(|()| Value::text(&json::marshal(&Value::Zoned(at, zone)))),
        _ => return None,
    })
}

fn duration(ns: i64, name: &str, args: &[Value]) -> Called {
    let float = |v: f64| none(name, args).map(|()| Value::Float(v));
    let step = || match one(name, args)? {
        Value::Duration(step) | Value::Int(step) => Ok((*step).max(0)),
        got => Err(wrong("time.Duration", got)),
    };
    Some(match name {
        "Hours" => float(ns as f64 / 3.6e12),
        "Minutes" => float(ns as f64 / 6e10),
        "Seconds" => float(ns as f64 / 1e9),
        "Milliseconds" => none(name, args).map(|()| Value::Int(ns / 1_000_000)),
        "Nanoseconds" => none(name, args).map(|()| Value::Int(ns)),
        "String" => none(name, args).map(|()| Value::text(&super::go_duration(ns))),
        "Truncate" => step().map(|step| Value::Duration(if step == 0 { ns } else { ns - ns % step })),
        "Round" => step().map(|step| match step {
            0 => Value::Duration(ns),
            step => {
                let half = if ns < 0 { -(step / 2) } else { step / 2 };
                let shifted = ns.saturating_add(half);
                Value::Duration(shifted - shifted % step)
            }
        }),
        _ => return None,
    })
}
