//! What people know a notification by: its group, and the labels and summaries of its alerts, in lower case.
//!
//! In: the payload as Alertmanager has it. Out: a text to search in. Pure. Invariant: at most [`BYTES_MAX`] bytes, so that
//! it stays in its row and a search reads no body.

use std::collections::HashSet;

use serde_json::Value;

/// What PostgreSQL keeps within a row rather than beside it is some 2,000 bytes.
const BYTES_MAX: usize = 1_400;
/// Alerts that are looked at: of ten thousand the first ones fill the text.
const ALERTS_MAX: usize = 100;

/// The text of a notification. Each word stands in it once, what the alerts have in common first.
pub(super) fn subject(group_key: &str, payload: &Value) -> String {
    let mut text = Words::default();
    text.add(group_key);
    text.add_all(&payload["commonLabels"]);
    text.add_all(&payload["commonAnnotations"]["summary"]);
    let alerts = payload["alerts"].as_array().into_iter().flatten().take(ALERTS_MAX);
    for alert in alerts {
        text.add_all(&alert["labels"]);
        text.add_all(&alert["annotations"]["summary"]);
    }
    text.whole
}

#[derive(Default)]
struct Words {
    whole: String,
    known: HashSet<String>,
}

impl Words {
    /// A text, or the values of a map.
    fn add_all(&mut self, of: &Value) {
        match of {
            Value::String(text) => self.add(text),
            Value::Object(fields) => fields.values().filter_map(Value::as_str).for_each(|text| self.add(text)),
            _ => {}
        }
    }

    fn add(&mut self, text: &str) {
        let left = BYTES_MAX.saturating_sub(self.whole.len() + 1);
        if left == 0 || text.is_empty() {
            return;
        }
        // In lower case a letter may take more bytes, so it is cut after that.
        let mut lower: String = text.chars().take(left).flat_map(char::to_lowercase).collect();
        let end = (0..=left.min(lower.len())).rev().find(|at| lower.is_char_boundary(*at)).unwrap_or(0);
        lower.truncate(end);
        if !self.known.contains(&lower) {
            if !self.whole.is_empty() {
                self.whole.push('\n');
            }
            self.whole.push_str(&lower);
            self.known.insert(lower);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_people_search_for_once_and_is_bounded() {
        let payload = serde_json::json!({
            "commonLabels": {"alertname": "Errors", "severity": "page"},
            "alerts": [
                {"labels": {"alertname": "Errors", "service": "Cart"}, "annotations": {"summary": "Cart FAILS", "description": "long"}},
                {"labels": {"alertname": "Errors", "service": "web"}, "annotations": {"summary": 7}},
                null,
            ],
        });
        let text = subject("{}:{alertname=\"Errors\"}", &payload);
        assert_eq!(text, "{}:{alertname=\"errors\"}\nerrors\npage\ncart\ncart fails\nweb");
        for rubbish in [Value::Null, serde_json::json!([1]), serde_json::json!({"alerts": {"labels": 3}})] {
            assert_eq!(subject("g", &rubbish), "g");
        }
        let alert = |i: usize| serde_json::json!({"labels": {"service": format!("İ{}é{i}", "x".repeat(i))}});
        let many = serde_json::json!({"alerts": (0..10_000).map(alert).collect::<Vec<_>>()});
        for key in ["g".to_owned(), "İ".repeat(2_000)] {
            let text = subject(&key, &many);
            assert!(text.len() <= BYTES_MAX && text.len() > BYTES_MAX - 200, "{}", text.len());
        }
    }
}
