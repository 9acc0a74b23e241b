//! Between our values and what PostgreSQL can hold: times in its range, text without NUL, labels as jsonb.

use std::borrow::Cow;
use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::StoreError;
use crate::model::{Labels, Timestamp};

/// 0001-01-01 and 9999-12-31: within what PostgreSQL, chrono and clients all take.
const TIME_MIN_MS: i64 = -62_135_596_800_000;
const TIME_MAX_MS: i64 = 253_402_214_400_000;

/// The time for PostgreSQL, `Timestamp::MIN` and `MAX` moved to the edges of its calendar.
pub(super) fn time(at: Timestamp) -> DateTime<Utc> {
    Timestamp::from_millis(at.as_millis().clamp(TIME_MIN_MS, TIME_MAX_MS)).to_chrono()
}

/// Nanoseconds since the epoch as a bigint.
pub(super) fn nanos(ns: u64) -> i64 {
    i64::try_from(ns).unwrap_or(i64::MAX)
}

/// PostgreSQL's text cannot hold NUL: it is stored as the replacement character.
pub(super) fn text(value: &str) -> Cow<'_, str> {
    if value.contains('\0') { Cow::Owned(value.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(value) }
}

/// Labels as a JSON object.
pub(super) fn labels_json(labels: &Labels) -> Value {
    Value::Object(labels.iter().map(|(n, v)| (text(n).into_owned(), Value::String(text(v).into_owned()))).collect())
}

/// Labels from a JSON object of texts.
pub(super) fn labels_from(value: Value) -> Result<Labels, StoreError> {
    let pairs: BTreeMap<String, String> = serde_json::from_value(value)
        .map_err(|error| StoreError::Damaged { what: "label set", reason: error.to_string() })?;
    Ok(Labels::from_pairs(pairs))
}

/// A JSON document without NUL in its texts.
pub(super) fn json(value: Value) -> Value {
    match value {
        Value::String(string) => Value::String(text(&string).into_owned()),
        Value::Array(items) => Value::Array(items.into_iter().map(json).collect()),
        Value::Object(map) => Value::Object(map.into_iter().map(|(k, v)| (text(&k).into_owned(), json(v))).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn extreme_times_stay_in_order() {
        assert!(time(Timestamp::MIN) < time(Timestamp::from_millis(0)));
        assert!(time(Timestamp::MAX) > time(Timestamp::from_millis(4_102_444_800_000)));
        assert_eq!(Timestamp::from(time(Timestamp::from_millis(1234))), Timestamp::from_millis(1234));
    }

    #[test]
    fn labels_survive_json_and_nul_does_not() {
        let labels = Labels::from_pairs([("a", "x\"\\é"), ("b", "1")]);
        assert_eq!(labels_from(labels_json(&labels)).unwrap(), labels);
        assert_eq!(text("a\0b"), "a\u{fffd}b");
        assert_eq!(json(serde_json::json!({"k": ["\0"]})), serde_json::json!({"k": ["\u{fffd}"]}));
    }
}
