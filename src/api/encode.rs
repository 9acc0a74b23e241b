//! Answers as Prometheus writes them, to the byte: numbers as text, times as seconds, warnings last.
//!
//! In: data. Out: responses. Each body is written once, into one buffer that the connection then sends as it is.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::error::ApiError;
use super::go_json;
use crate::model::{Labels, Timestamp};
use crate::promql::{Answer, Value};

/// Most warnings, and most infos, in one answer.
const NOTES_MAX: usize = 10;
/// Answers with more points than this are written on a blocking thread.
const INLINE_POINTS: usize = 20_000;
const HEAD: &str = r#"{"status":"success","data":"#;

/// `{"status":"success","data":…}` with any data.
pub(super) fn success(data: impl Serialize) -> Response {
    success_with(data, &[])
}

/// The same with warnings.
pub(super) fn success_with(data: impl Serialize, warnings: &[String]) -> Response {
    let mut body = HEAD.to_owned();
    match go_json::push(&mut body, &data) {
        Ok(()) => finish(body, warnings, &[]),
        Err(error) => ApiError::Internal(format!("cannot encode the answer: {error}")).into_response(),
    }
}

/// A list of label sets, with warnings.
pub(super) fn label_sets(sets: &[Labels], warnings: &[String]) -> Response {
    let mut body = HEAD.to_owned();
    push_list(&mut body, sets, push_labels);
    finish(body, warnings, &[])
}

/// What a query cost, when the asker wants to know.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Stats {
    pub timings: Timings,
    pub samples: Samples,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Timings {
    /// Seconds, as all others.
    pub eval_total_time: f64,
    /// Results come sorted.
    pub result_sort_time: f64,
    pub query_preparation_time: f64,
    pub inner_eval_time: f64,
    pub exec_queue_time: f64,
    /// Waiting for the turn included.
    pub exec_total_time: f64,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Samples {
    pub total_queryable_samples: usize,
    pub peak_samples: usize,
}

/// The answer to a query.
pub(super) async fn query_answer(answer: Answer, stats: Option<Stats>) -> Response {
    if points(&answer.value) <= INLINE_POINTS {
        return write_answer(&answer, stats);
    }
    let written = tokio::task::spawn_blocking(move || write_answer(&answer, stats)).await;
    written.unwrap_or_else(|error| ApiError::Internal(format!("cannot encode the answer: {error}")).into_response())
}

fn write_answer(answer: &Answer, stats: Option<Stats>) -> Response {
    let mut body = String::with_capacity(size_guess(&answer.value));
    body.push_str(HEAD);
    push_query_data(&mut body, &answer.value);
    if let Some(stats) = stats {
        body.push_str(r#","stats":"#);
        // Numbers always serialise.
        let _ = go_json::push(&mut body, &stats);
    }
    body.push('}');
    finish(body, &answer.warnings, &answer.infos)
}

fn points(value: &Value) -> usize {
    match value {
        Value::Matrix(series) => series.iter().map(|one| one.values.len()).sum(),
        Value::Vector(samples) => samples.len(),
        Value::Scalar { .. } | Value::String { .. } => 1,
    }
}

/// Close to the length of the body, so that the buffer seldom grows.
fn size_guess(value: &Value) -> usize {
    const POINT: usize = 28;
    let labels = |labels: &Labels| 40 + labels.size_bytes() + labels.len() * 6;
    128 + match value {
        Value::Matrix(series) => series.iter().map(|one| labels(&one.labels) + one.values.len() * POINT).sum(),
        Value::Vector(samples) => samples.iter().map(|one| labels(&one.labels) + POINT).sum(),
        Value::Scalar { .. } => 0,
        Value::String { value, .. } => value.len(),
    }
}

fn finish(mut body: String, warnings: &[String], infos: &[String]) -> Response {
    push_notes(&mut body, "warnings", warnings, "warning");
    push_notes(&mut body, "infos", infos, "info");
    body.push('}');
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn push_notes(body: &mut String, key: &str, notes: &[String], noun: &str) {
    if notes.is_empty() {
        return;
    }
    body.push_str(",\"");
    body.push_str(key);
    body.push_str("\":");
    let omitted = notes.len().saturating_sub(NOTES_MAX);
    push_list(body, &notes[..notes.len() - omitted], |body, note| go_json::push_text(body, note));
    if omitted > 0 {
        body.pop();
        body.push_str(&format!(",\"{omitted} more {noun} annotations omitted\"]"));
    }
}

pub(super) fn push_list<T>(out: &mut String, items: &[T], mut push: impl FnMut(&mut String, &T)) {
    out.push('[');
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        push(out, item);
    }
    out.push(']');
}

/// `"resultType":…,"result":…` with the brace before it, without the one after.
fn push_query_data(out: &mut String, value: &Value) {
    out.push_str(r#"{"resultType":""#);
    out.push_str(value.kind().as_str());
    out.push_str(r#"","result":"#);
    match value {
        Value::Scalar { at, value } => {
            push_time(out, *at);
            // A scalar never has an exponent in Prometheus, unlike a sample.
            go_json::push_plain_number(out, *value);
            out.push_str("\"]");
        }
        Value::String { at, value } => {
            out.push('[');
            push_seconds(out, *at);
            out.push(',');
            go_json::push_text(out, value);
            out.push(']');
        }
        Value::Vector(samples) => push_list(out, samples, |out, sample| {
            out.push_str(r#"{"metric":"#);
            push_labels(out, &sample.labels);
            out.push_str(r#","value":"#);
            push_point(out, sample.at, sample.value);
            out.push('}');
        }),
        Value::Matrix(series) => push_list(out, series, |out, one| {
            out.push_str(r#"{"metric":"#);
            push_labels(out, &one.labels);
            out.push_str(r#","values":["#);
            for (j, (at, value)) in one.times.iter().zip(&one.values).enumerate() {
                if j > 0 {
                    out.push(',');
                }
                push_point(out, *at, *value);
            }
            out.push_str("]}");
        }),
    }
}

fn push_point(out: &mut String, at: Timestamp, value: f64) {
    push_time(out, at);
    go_json::push_number(out, value);
    out.push_str("\"]");
}

/// The start of a point: `[4,"`.
fn push_time(out: &mut String, at: Timestamp) {
    out.push('[');
    push_seconds(out, at);
    out.push_str(",\"");
}

/// Seconds: whole, or with three decimals.
pub(super) fn push_seconds(out: &mut String, at: Timestamp) {
    let ms = at.as_millis();
    if ms < 0 {
        out.push('-');
    }
    let ms = ms.unsigned_abs();
    go_json::push_integer(out, ms / 1000);
    let rest = ms % 1000;
    if rest > 0 {
        let digit = |n: u64| char::from(b'0' + (n % 10) as u8);
        out.extend(['.', digit(rest / 100), digit(rest / 10), digit(rest)]);
    }
}

/// A label set as a JSON object, in label order. Prometheus escapes no HTML here, unlike in every other text.
pub(super) fn push_labels(out: &mut String, labels: &Labels) {
    out.push('{');
    for (i, (name, value)) in labels.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        go_json::push_raw_text(out, name);
        out.push(':');
        go_json::push_raw_text(out, value);
    }
    out.push('}');
}

/// Serialises a label set as a JSON object.
pub(super) fn label_map<S: serde::Serializer>(labels: &Labels, serializer: S) -> Result<S::Ok, S::Error> {
    let mut text = String::with_capacity(labels.size_bytes() + labels.len() * 6 + 2);
    push_labels(&mut text, labels);
    serde_json::value::RawValue::from_string(text).map_err(serde::ser::Error::custom)?.serialize(serializer)
}

/// A time in RFC 3339 as Go prints it; Go's zero time when there is none.
pub(super) fn go_time(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), crate::notify::go_time)
}

/// Nanoseconds since the epoch in RFC 3339.
pub(super) fn go_time_ns(ns: u64) -> String {
    let at = chrono::DateTime::from_timestamp_nanos(i64::try_from(ns).unwrap_or(i64::MAX));
    let text = at.format("%Y-%m-%dT%H:%M:%S%.9f").to_string();
    format!("{}Z", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::SeriesSamples;

    fn data(value: &Value) -> String {
        let mut out = String::new();
        push_query_data(&mut out, value);
        out + "}"
    }

    #[test]
    fn prints_seconds_whole_or_with_three_decimals() {
        let check = |ms, expect: &str| {
            let mut out = String::new();
            push_seconds(&mut out, Timestamp::from_millis(ms));
            assert_eq!(out, expect);
        };
        check(1_435_781_451_781, "1435781451.781");
        check(4000, "4");
        check(-1, "-0.001");
        check(1500, "1.500");
        check(10, "0.010");
        check(-2500, "-2.500");
    }

    #[test]
    fn writes_each_kind_of_value() {
        let at = Timestamp::from_millis(4000);
        let scalar = |value| data(&Value::Scalar { at, value });
        assert_eq!(scalar(2.0), r#"{"resultType":"scalar","result":[4,"2"]}"#);
        assert_eq!(scalar(1e21), r#"{"resultType":"scalar","result":[4,"1000000000000000000000"]}"#);
        assert_eq!(scalar(1e-7), r#"{"resultType":"scalar","result":[4,"0.0000001"]}"#);
        assert_eq!(data(&Value::Vector(vec![])), r#"{"resultType":"vector","result":[]}"#);
        assert_eq!(data(&Value::Matrix(vec![])), r#"{"resultType":"matrix","result":[]}"#);
        let text = Value::String { at, value: "<a>\n\u{2028}".into() };
        assert_eq!(data(&text), r#"{"resultType":"string","result":[4,"\u003ca\u003e\n\u2028"]}"#);
        let series = SeriesSamples {
            labels: Labels::from_pairs([("__name__", "x"), ("path", "</a&b>\"\\\u{1}")]),
            times: [at, Timestamp::from_millis(4500)].into(),
            values: vec![1e-7, f64::NEG_INFINITY],
        };
        let expect = r#"{"resultType":"matrix","result":[{"metric":{"__name__":"x","path":"</a&b>\"\\\u0001"},"values":[[4,"1e-07"],[4.500,"-Inf"]]}]}"#;
        assert_eq!(data(&Value::Matrix(vec![series])), expect);
    }

    #[test]
    fn tells_ten_notes_and_counts_the_others() {
        let notes: Vec<String> = (0..12).map(|i| format!("n{i}")).collect();
        let mut body = String::new();
        push_notes(&mut body, "infos", &notes, "info");
        assert!(body.starts_with(r#","infos":["n0","n1","#), "{body}");
        assert!(body.ends_with(r#","n9","2 more info annotations omitted"]"#), "{body}");
        let mut body = String::new();
        push_notes(&mut body, "warnings", &notes[..1], "warning");
        assert_eq!(body, r#","warnings":["n0"]"#);
    }
}
