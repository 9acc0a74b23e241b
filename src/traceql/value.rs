//! Values of TraceQL: what attributes and intrinsics hold, and how they compare.
//!
//! Pure. Invariant: values of kinds that do not compare are neither equal nor unequal, smaller nor larger.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::model::span::{AttributeValue, SpanKind, SpanStatus};

/// A value of an attribute or an intrinsic.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Not there.
    Nil,
    /// Text.
    String(Arc<str>),
    /// Whole number.
    Int(i64),
    /// Number.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// Nanoseconds.
    Duration(i64),
    /// How a span ended.
    Status(SpanStatus),
    /// The part of a span in a call.
    Kind(SpanKind),
}

impl Value {
    /// Of a span's attribute. Lists are read by [`Value::list`].
    pub(super) fn of(value: &AttributeValue) -> Self {
        match value {
            AttributeValue::String(text) | AttributeValue::Json(text) => Self::String(Arc::clone(text)),
            AttributeValue::Bool(value) => Self::Bool(*value),
            AttributeValue::Int(value) => Self::Int(*value),
            AttributeValue::Double(value) => Self::Float(*value),
        }
    }

    /// The members of an attribute that is a list, which match one by one as Tempo has it; else the value alone.
    pub(super) fn list(value: &AttributeValue, out: &mut Vec<Self>) {
        if let AttributeValue::Json(text) = value
            && text.starts_with('[')
            && let Ok(serde_json::Value::Array(members)) = serde_json::from_str(text)
        {
            out.extend(members.iter().map(|member| match member {
                serde_json::Value::Bool(value) => Self::Bool(*value),
                serde_json::Value::String(text) => Self::String(Arc::from(text.as_str())),
                serde_json::Value::Number(number) => match number.as_i64() {
                    Some(whole) => Self::Int(whole),
                    None => Self::Float(number.as_f64().unwrap_or(f64::NAN)),
                },
                other => Self::String(other.to_string().into()),
            }));
            return;
        }
        out.push(Self::of(value));
    }

    /// As a number: durations in nanoseconds.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Int(number) | Self::Duration(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            _ => None,
        }
    }

    /// Order of two values that compare; `None` for others.
    pub(super) fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Int(a) | Self::Duration(a), Self::Int(b) | Self::Duration(b)) => Some(a.cmp(b)),
            (Self::String(a), Self::String(b)) => Some(a.cmp(b)),
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::Status(a), Self::Status(b)) => Some(status_order(*a).cmp(&status_order(*b))),
            (Self::Kind(a), Self::Kind(b)) => Some(a.cmp(b)),
            _ => self.number()?.partial_cmp(&other.number()?),
        }
    }

    /// Whether values of these two kinds may be compared at all.
    pub(super) fn comparable(&self, other: &Self) -> bool {
        let numeric = |value: &Self| value.number().is_some();
        match (self, other) {
            (Self::Nil, _) | (_, Self::Nil) => true,
            (a, b) if numeric(a) => numeric(b),
            (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
        }
    }

    /// The name of its kind, for errors.
    pub(super) fn kind_name(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::String(_) => "string",
            Self::Int(_) => "integer",
            Self::Float(_) => "float",
            Self::Bool(_) => "boolean",
            Self::Duration(_) => "duration",
            Self::Status(_) => "status",
            Self::Kind(_) => "kind",
        }
    }

    /// As text without quotes: what a list of values shows, and what series are told apart by.
    pub fn text(&self) -> String {
        match self {
            Self::Nil => "nil".to_owned(),
            Self::String(text) => text.to_string(),
            Self::Int(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Bool(value) => value.to_string(),
            Self::Duration(ns) => duration_text(*ns),
            Self::Status(status) => status.word().to_owned(),
            Self::Kind(kind) => kind.word().to_owned(),
        }
    }
}

/// Tempo orders statuses error, ok, unset.
fn status_order(status: SpanStatus) -> u8 {
    match status {
        SpanStatus::Error => 0,
        SpanStatus::Ok => 1,
        SpanStatus::Unset => 2,
    }
}

/// A duration as Go writes it, with the largest unit that keeps it above one.
fn duration_text(ns: i64) -> String {
    let (sign, size) = if ns < 0 { ("-", ns.unsigned_abs()) } else { ("", ns.unsigned_abs()) };
    let scaled = |unit: f64, name: &str| format!("{sign}{}{name}", size as f64 / unit);
    match size {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{size}ns"),
        1_000..1_000_000 => scaled(1e3, "µs"),
        1_000_000..1_000_000_000 => scaled(1e6, "ms"),
        _ => {
            let (hours, minutes) = (size / 3_600_000_000_000, size / 60_000_000_000 % 60);
            let seconds = (size % 60_000_000_000) as f64 / 1e9;
            match (hours, minutes) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, _) => format!("{sign}{minutes}m{seconds}s"),
                _ => format!("{sign}{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}
