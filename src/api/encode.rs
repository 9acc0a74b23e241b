//! Answers as Prometheus writes them, to the byte: numbers as text, times as seconds, warnings last.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::model::{Labels, Timestamp};
use crate::promql::{Answer, Value, format_value};

/// Most warnings, and most infos, in one answer.
const NOTES_MAX: usize = 10;

/// `{"status":"success","data":…}` with any data.
pub(super) fn success(data: impl Serialize) -> Response {
    success_with(data, &[])
}

/// The same with warnings.
pub(super) fn success_with(data: impl Serialize, warnings: &[String]) -> Response {
    match serde_json::to_string(&data) {
        Ok(data) => envelope(&data, warnings, &[]),
        Err(error) => super::error::ApiError::Internal(format!("cannot encode the answer: {error}")).into_response(),
    }
}

/// The answer to a query.
pub(super) fn query_answer(answer: &Answer) -> Response {
    envelope(&query_data(&answer.value), &answer.warnings, &answer.infos)
}

fn envelope(data: &str, warnings: &[String], infos: &[String]) -> Response {
    let mut body = String::with_capacity(data.len() + 64);
    body.push_str(r#"{"status":"success","data":"#);
    body.push_str(data);
    push_notes(&mut body, "warnings", warnings, "warning");
    push_notes(&mut body, "infos", infos, "info");
    body.push('}');
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn push_notes(body: &mut String, key: &str, notes: &[String], noun: &str) {
    if notes.is_empty() {
        return;
    }
    let mut shown: Vec<String> = notes.iter().take(NOTES_MAX).cloned().collect();
    if notes.len() > NOTES_MAX {
        shown.push(format!("{} more {noun} annotations omitted", notes.len() - NOTES_MAX));
    }
    // Texts always serialise.
    let list = serde_json::to_string(&shown).unwrap_or_default();
    body.push_str(&format!(",\"{key}\":{list}"));
}

fn query_data(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Scalar { at, value } => {
            out.push_str(r#"{"resultType":"scalar","result":"#);
            push_point(&mut out, *at, *value);
        }
        Value::String { at, value } => {
            out.push_str(&format!(r#"{{"resultType":"string","result":[{},"#, seconds(*at)));
            push_text(&mut out, value);
            out.push(']');
        }
        Value::Vector(samples) => {
            out.push_str(r#"{"resultType":"vector","result":["#);
            for (i, sample) in samples.iter().enumerate() {
                out.push_str(if i == 0 { r#"{"metric":"# } else { r#",{"metric":"# });
                push_labels(&mut out, &sample.labels);
                out.push_str(r#","value":"#);
                push_point(&mut out, sample.at, sample.value);
                out.push('}');
            }
            out.push(']');
        }
        Value::Matrix(series) => {
            out.push_str(r#"{"resultType":"matrix","result":["#);
            for (i, one) in series.iter().enumerate() {
                out.push_str(if i == 0 { r#"{"metric":"# } else { r#",{"metric":"# });
                push_labels(&mut out, &one.labels);
                out.push_str(r#","values":["#);
                for (j, (at, value)) in one.times.iter().zip(&one.values).enumerate() {
                    if j > 0 {
                        out.push(',');
                    }
                    push_point(&mut out, *at, *value);
                }
                out.push_str("]}");
            }
            out.push(']');
        }
    }
    out.push('}');
    out
}

fn push_point(out: &mut String, at: Timestamp, value: f64) {
    out.push('[');
    out.push_str(&seconds(at));
    out.push_str(",\"");
    out.push_str(&format_value(value));
    out.push_str("\"]");
}

/// Seconds with up to three decimals and no trailing zeros.
pub(super) fn seconds(at: Timestamp) -> String {
    let ms = at.as_millis();
    let (sign, ms) = (if ms < 0 { "-" } else { "" }, ms.unsigned_abs());
    let (whole, rest) = (ms / 1000, ms % 1000);
    match rest {
        0 => format!("{sign}{whole}"),
        _ => format!("{sign}{whole}.{rest:03}").trim_end_matches('0').to_owned(),
    }
}

fn push_text(out: &mut String, text: &str) {
    // A text always serialises.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}

/// A label set as a JSON object, in label order.
pub(super) fn push_labels(out: &mut String, labels: &Labels) {
    out.push('{');
    for (i, (name, value)) in labels.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        push_text(out, name);
        out.push(':');
        push_text(out, value);
    }
    out.push('}');
}

/// Serialises a label set as a JSON object.
pub(super) fn label_map<S: serde::Serializer>(labels: &Labels, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(labels.iter())
}

/// A time in RFC 3339 as Go prints it; Go's zero time when there is none.
pub(super) fn go_time(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), crate::notify::go_time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_seconds_without_trailing_zeros() {
        let check = |ms, expect: &str| assert_eq!(seconds(Timestamp::from_millis(ms)), expect);
        check(1_435_781_451_781, "1435781451.781");
        check(4000, "4");
        check(-1, "-0.001");
        check(1500, "1.5");
    }

    #[test]
    fn writes_each_kind_of_value() {
        let at = Timestamp::from_millis(4000);
        assert_eq!(query_data(&Value::Scalar { at, value: 2.0 }), r#"{"resultType":"scalar","result":[4,"2"]}"#);
        assert_eq!(query_data(&Value::Vector(vec![])), r#"{"resultType":"vector","result":[]}"#);
        assert_eq!(query_data(&Value::Matrix(vec![])), r#"{"resultType":"matrix","result":[]}"#);
    }
}
