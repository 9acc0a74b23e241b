//! Jaeger's HTTP API at `/jaeger/api`, for Grafana's data source of type Jaeger and for Kiali.
//!
//! In: the archive of spans, and the service graph's series for dependencies. Out: Jaeger's JSON (`jaeger-query` 1.x): every
//! answer in `{"data", "total", "limit", "offset", "errors"}`, errors with their status in it. Knows nothing of the database.

mod find;
mod model;

use axum::Router;
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use serde_json::{Value as Json, json};
use std::collections::BTreeSet;
use std::time::Duration;

use super::params::Params;
use super::{State, error};
use crate::model::Timestamp;
use crate::model::span::{SpanKind, trace_id_from_hex};
use crate::persist::Wanted;
use crate::promql::{QueryOptions, Value};
use crate::traceql::Needs;

/// How far back services and operations are listed.
const NAMES_RANGE: Duration = Duration::from_secs(48 * 3600);
/// Spans that are looked at for the operations of a service.
const SPANS_READ: usize = 20_000;
const LOOKBACK_DEFAULT: u64 = 24 * 3_600_000;

/// The routes.
pub(super) fn router() -> Router<State> {
    Router::new()
        .route("/jaeger/api/services", get(services))
        .route("/jaeger/api/services/{service}/operations", get(operation_names))
        .route("/jaeger/api/operations", get(operations))
        .route("/jaeger/api/traces", get(find::traces))
        .route("/jaeger/api/traces/{id}", get(trace))
        .route("/jaeger/api/dependencies", get(dependencies))
        .route("/jaeger/{*unknown}", any(error::not_found))
}

/// What is wrong with a request.
#[derive(Debug)]
struct Fault(StatusCode, String);

impl Fault {
    fn bad(message: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, message.into())
    }
}

impl From<tokio::task::JoinError> for Fault {
    fn from(error: tokio::task::JoinError) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let errors = json!([{"code": self.0.as_u16(), "msg": self.1}]);
        let body = json!({"data": null, "total": 0, "limit": 0, "offset": 0, "errors": errors});
        (self.0, axum::Json(body)).into_response()
    }
}

/// What was found, and what may be missing of it as a warning in `errors`, which Jaeger has for partial answers.
fn answer(data: Json, total: usize, note: Option<String>) -> Response {
    let errors = note.map_or(Json::Null, |note| json!([{"code": 206, "msg": note}]));
    axum::Json(json!({"data": data, "total": total, "limit": 0, "offset": 0, "errors": errors})).into_response()
}

async fn services(Shared(state): Shared<State>) -> Response {
    let now = state.clock.now();
    let found = state.archive.services(now - NAMES_RANGE, now + Duration::from_secs(60)).await;
    let total = found.len();
    answer(json!(found), total, None)
}

/// Operations of a service with their kinds, of its last spans.
async fn known_operations(state: &State, service: &str) -> (BTreeSet<(String, &'static str)>, Option<String>) {
    let now = state.clock.now();
    let needs = Needs { service: Some(service.to_owned()), ..Needs::default() };
    let wanted = Wanted { from: now - NAMES_RANGE, to: now + Duration::from_secs(60), needs };
    let (spans, note) = state.archive.recent_spans(&wanted, SPANS_READ).await;
    let of_service = spans.iter().filter(|span| &*span.service == service);
    (of_service.map(|span| (span.name.to_string(), kind_name(span.kind))).collect(), note)
}

/// Kind as the tag `span.kind` has it; empty for one that is not said.
fn kind_name(kind: SpanKind) -> &'static str {
    if kind == SpanKind::Unspecified { "" } else { kind.word() }
}

async fn operation_names(Shared(state): Shared<State>, Path(service): Path<String>) -> Response {
    let (found, note) = known_operations(&state, &service).await;
    let names: BTreeSet<String> = found.into_iter().map(|(name, _)| name).collect();
    let total = names.len();
    answer(json!(names), total, note)
}

async fn operations(Shared(state): Shared<State>, params: Params) -> Result<Response, Fault> {
    let service = params.get("service").ok_or_else(|| Fault::bad("parameter 'service' is required"))?;
    let kind = params.get("spanKind");
    let (found, note) = known_operations(&state, service).await;
    let found: Vec<Json> = (found.iter())
        .filter(|(_, of)| kind.is_none_or(|kind| kind == *of))
        .map(|(name, kind)| json!({"name": name, "spanKind": kind}))
        .collect();
    let total = found.len();
    Ok(answer(json!(found), total, note))
}

async fn trace(Shared(state): Shared<State>, Path(id): Path<String>) -> Result<Response, Fault> {
    let known =
        trace_id_from_hex(&id).ok_or_else(|| Fault::bad(format!("malformed trace ID {id:?}: not hexadecimal")))?;
    let found = state.archive.trace(known).await;
    let (spans, note) = found.map_err(|unknown| Fault(StatusCode::SERVICE_UNAVAILABLE, unknown.to_string()))?;
    if spans.is_empty() {
        return Err(Fault(StatusCode::NOT_FOUND, "trace not found".to_owned()));
    }
    let trace = tokio::task::spawn_blocking(move || model::trace(&spans)).await?;
    Ok(answer(json!([trace]), 1, note))
}

/// Calls between services, from the series of the service graph.
async fn dependencies(Shared(state): Shared<State>, params: Params) -> Result<Response, Fault> {
    let number = |name: &str| match params.get(name).map(str::parse::<u64>) {
        None => Ok(None),
        Some(Ok(number)) => Ok(Some(number)),
        Some(Err(_)) => Err(Fault::bad(format!("unable to parse param '{name}': not a number of milliseconds"))),
    };
    let end = number("endTs")?.and_then(|ms| i64::try_from(ms).ok()).map_or(state.clock.now(), Timestamp::from_millis);
    let lookback_ms = number("lookback")?.unwrap_or(LOOKBACK_DEFAULT).clamp(1000, 400 * LOOKBACK_DEFAULT);
    let query = format!(
        "sum by (client, server) (increase(traces_service_graph_request_total[{}s])) > 0",
        lookback_ms.div_ceil(1000)
    );
    let internal = |error: String| Fault(StatusCode::INTERNAL_SERVER_ERROR, error);
    let expr = state.engine.parse(&query).map_err(|error| internal(error.to_string()))?;
    let found = state.engine.instant(&*state.series, &expr, end, &QueryOptions::default()).await;
    let found = found.map_err(|error| internal(error.to_string()))?;
    let Value::Vector(samples) = found.value else { return Ok(answer(json!([]), 0, None)) };
    let mut links: Vec<(String, String, u64)> = (samples.iter())
        .map(|sample| {
            let label = |name| sample.labels.get(name).unwrap_or_default().to_owned();
            (label("client"), label("server"), sample.value.round() as u64)
        })
        .collect();
    links.sort();
    let link =
        |(parent, child, calls): &(String, String, u64)| json!({"parent": parent, "child": child, "callCount": calls});
    let total = links.len();
    Ok(answer(links.iter().map(link).collect(), total, None))
}
