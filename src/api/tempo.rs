//! Tempo's HTTP API at `/tempo/api`, for Grafana's data source of type Tempo and for Kiali.
//!
//! In: the archive of spans. Out: the shapes of Tempo's messages in its JSON (64-bit numbers as text, ids in base64 where it
//! has bytes), errors as plain text with its statuses. Knows nothing of the database.

mod metrics;
mod search;
mod tags;
mod trace;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use serde_json::{Value as Json, json};

use super::params::Params;
use super::{State, error};
use crate::model::Timestamp;
use crate::model::span::{AttributeValue, Attributes};
use crate::traceql::{self, Value};
use std::time::Duration;

/// How far back is looked unless told.
const RANGE_DEFAULT: Duration = Duration::from_secs(3600);

/// The routes.
pub(super) fn router() -> Router<State> {
    Router::new()
        .route("/tempo/api/echo", get(async || "echo"))
        .route("/tempo/ready", get(async || "ready\n"))
        .route("/tempo/status/services", get(async || "meshscope: Running\n"))
        .route("/tempo/api/status/buildinfo", get(build_info))
        .route("/tempo/api/traces/{id}", get(trace::version_1))
        .route("/tempo/api/v2/traces/{id}", get(trace::version_2))
        .route("/tempo/api/search", get(search::search))
        .route("/tempo/api/search/tags", get(tags::names))
        .route("/tempo/api/v2/search/tags", get(tags::scopes))
        .route("/tempo/api/search/tag/{tag}/values", get(tags::values))
        .route("/tempo/api/v2/search/tag/{tag}/values", get(tags::typed_values))
        .route("/tempo/api/metrics/query_range", get(metrics::range))
        .route("/tempo/api/metrics/query", get(metrics::instant))
        .route("/tempo/{*unknown}", any(error::not_found))
}

/// Grafana chooses what it asks by this version of Tempo.
async fn build_info() -> Response {
    axum::Json(json!({
        "version": "2.7.1", "revision": "meshscope", "branch": "", "buildUser": "", "buildDate": "",
        "goVersion": "", "meshscope": env!("CARGO_PKG_VERSION"),
    }))
    .into_response()
}

/// What is wrong with a request: plain text, as Tempo answers.
#[derive(Debug)]
struct Fault(StatusCode, String);

impl Fault {
    fn bad(message: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, message.into())
    }

    fn parameter(name: &str, reason: impl std::fmt::Display) -> Self {
        Self::bad(format!("invalid {name}: {reason}"))
    }
}

impl From<tokio::task::JoinError> for Fault {
    fn from(error: tokio::task::JoinError) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

impl From<traceql::ParseError> for Fault {
    fn from(error: traceql::ParseError) -> Self {
        Self::bad(format!("invalid TraceQL query: {error}"))
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

/// `start` and `end`: seconds since the epoch, also with a fraction, nanoseconds, or RFC 3339. The last hour unless told.
fn range(params: &Params, now: Timestamp) -> Result<(Timestamp, Timestamp), Fault> {
    let end = time(params, "end")?.unwrap_or(now + Duration::from_secs(1));
    let start = time(params, "start")?.unwrap_or(end - RANGE_DEFAULT);
    if start >= end {
        let (start, end) = (start.as_millis() / 1000, end.as_millis() / 1000);
        return Err(Fault::bad(format!("http parameter start must be before end. received start={start} end={end}")));
    }
    Ok((start, end))
}

fn time(params: &Params, name: &str) -> Result<Option<Timestamp>, Fault> {
    let Some(text) = params.get(name) else { return Ok(None) };
    if text.len() > 15
        && let Ok(ns) = text.parse::<i64>()
    {
        return Ok(Some(Timestamp::from_millis(ns / 1_000_000)));
    }
    let wrong =
        |_| Fault::parameter(name, format!("{text:?} is neither seconds nor nanoseconds since 1970 nor RFC 3339"));
    params.time(name).map_err(wrong).map(|at| at.filter(|at| at.as_millis() != 0))
}

/// A whole number above zero, or what stands for its absence.
fn count(params: &Params, name: &str, default: usize, most: usize) -> Result<usize, Fault> {
    let Some(text) = params.get(name) else { return Ok(default) };
    let number = text.parse::<usize>().map_err(|_| Fault::parameter(name, "must be a non-negative number"))?;
    match number {
        0 => Ok(default),
        number => Ok(number.min(most)),
    }
}

/// OTLP's `AnyValue`.
fn any_value(value: &AttributeValue) -> Json {
    match value {
        AttributeValue::String(text) => json!({"stringValue": &**text}),
        AttributeValue::Bool(value) => json!({"boolValue": value}),
        AttributeValue::Int(value) => json!({"intValue": value.to_string()}),
        AttributeValue::Double(value) => json!({"doubleValue": number(*value)}),
        AttributeValue::Json(text) => match serde_json::from_str(text) {
            Ok(inner @ (Json::Array(_) | Json::Object(_))) => nested(&inner),
            _ => json!({"stringValue": &**text}),
        },
    }
}

fn nested(value: &Json) -> Json {
    match value {
        Json::Array(members) => json!({"arrayValue": {"values": members.iter().map(nested).collect::<Vec<_>>()}}),
        Json::Object(members) => {
            let pair = |(key, value): (&String, &Json)| json!({"key": key, "value": nested(value)});
            json!({"kvlistValue": {"values": members.iter().map(pair).collect::<Vec<_>>()}})
        }
        Json::String(text) => json!({"stringValue": text}),
        Json::Bool(value) => json!({"boolValue": value}),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => json!({"intValue": whole.to_string()}),
            None => json!({"doubleValue": number}),
        },
        Json::Null => json!({}),
    }
}

/// Numbers that JSON has no place for are texts, as in protobuf's JSON.
fn number(value: f64) -> Json {
    match value {
        _ if value.is_nan() => json!("NaN"),
        f64::INFINITY => json!("Infinity"),
        f64::NEG_INFINITY => json!("-Infinity"),
        _ => json!(value),
    }
}

fn key_values(attributes: &Attributes) -> Vec<Json> {
    attributes.iter().map(|(key, value)| json!({"key": &**key, "value": any_value(value)})).collect()
}

/// `AnyValue` of what a query reads.
fn query_value(value: &Value) -> Json {
    match value {
        Value::Int(number) => json!({"intValue": number.to_string()}),
        Value::Float(value) => json!({"doubleValue": number(*value)}),
        Value::Bool(value) => json!({"boolValue": value}),
        other => json!({"stringValue": other.text()}),
    }
}
