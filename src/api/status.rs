//! `status/*`, health, readiness, reload.

use std::collections::BTreeMap;

use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::oneshot;

use super::State;
use super::encode::{go_time, success};
use super::error::ApiError;
use super::params::Params;

/// The Prometheus whose API is answered: clients choose their features by it.
const PROMETHEUS_VERSION: &str = "3.5.0";

pub(super) async fn build_info() -> Response {
    // Without `features`: Grafana takes a server that has them for Mimir.
    success(serde_json::json!({
        "version": PROMETHEUS_VERSION,
        "revision": concat!("meshscope-", env!("CARGO_PKG_VERSION")),
        "branch": "",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
    }))
}

pub(super) async fn runtime_info(Shared(state): Shared<State>) -> Response {
    success(serde_json::json!({
        "startTime": go_time(Some(state.started_at)),
        "CWD": "",
        "hostname": "",
        "serverTime": go_time(Some(state.clock.now())),
        "reloadConfigSuccess": true,
        "lastConfigTime": go_time(Some(state.started_at)),
        "corruptionCount": 0,
        "goroutineCount": 0,
        "GOMAXPROCS": std::thread::available_parallelism().map_or(1, usize::from),
        "GOMEMLIMIT": 0,
        "GOGC": "",
        "GODEBUG": "",
        "storageRetention": state.retention,
    }))
}

pub(super) async fn configuration(Shared(state): Shared<State>) -> Response {
    success(serde_json::json!({"yaml": (state.configuration)()}))
}

/// Settings under the names of Prometheus' flags, for clients that look for them.
pub(super) async fn flags(Shared(state): Shared<State>) -> Response {
    success(BTreeMap::from([
        ("query.lookback-delta", "5m".to_owned()),
        ("query.max-concurrency", "20".to_owned()),
        ("query.timeout", "2m".to_owned()),
        ("storage.tsdb.retention.time", state.retention.to_string()),
        ("web.enable-lifecycle", "true".to_owned()),
    ]))
}

#[derive(Serialize)]
struct NameAndValue {
    name: String,
    value: u64,
}

/// How full the memory tier is, and of what.
pub(super) async fn head(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    let limit = match params.limit()? {
        0 => 10,
        limit => limit,
    };
    let stats = state.head.stats();
    let cardinality = state.head.cardinality(limit);
    let list = |pairs: Vec<(String, u64)>| -> Vec<NameAndValue> {
        pairs.into_iter().map(|(name, value)| NameAndValue { name, value }).collect()
    };
    let ms = |at: Option<crate::model::Timestamp>| at.map_or(0, crate::model::Timestamp::as_millis);
    Ok(success(serde_json::json!({
        "headStats": {
            "numSeries": stats.series,
            "numLabelPairs": stats.symbols,
            "chunkCount": stats.chunks,
            "minTime": ms(stats.min_time),
            "maxTime": ms(stats.max_time),
        },
        "seriesCountByMetricName": list(cardinality.series_by_metric),
        "labelValueCountByLabelName": list(cardinality.values_by_label),
        "memoryInBytesByLabelName": list(cardinality.bytes_by_label),
        "seriesCountByLabelValuePair": list(cardinality.series_by_pair),
    })))
}

/// Our own metrics.
pub(super) async fn metrics(Shared(state): Shared<State>) -> Response {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(axum::http::header::CONTENT_TYPE, kind)], (state.metrics)()).into_response()
}

/// Alerts go to receivers directly, so there is no Alertmanager to name.
pub(super) async fn alertmanagers() -> Response {
    success(serde_json::json!({"activeAlertmanagers": [], "droppedAlertmanagers": []}))
}

pub(super) async fn healthy() -> &'static str {
    "meshscope is healthy.\n"
}

pub(super) async fn ready(Shared(state): Shared<State>) -> Response {
    match *state.ready.borrow() {
        true => "meshscope is ready.\n".into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, "meshscope is still restoring what was there before the start.\n")
            .into_response(),
    }
}

/// Reads the configuration again. A refused one leaves the old one in force.
pub(super) async fn reload(Shared(state): Shared<State>) -> Response {
    let (answer, outcome) = oneshot::channel();
    if state.reload.send(answer).await.is_err() {
        return (StatusCode::SERVICE_UNAVAILABLE, "meshscope is stopping.\n").into_response();
    }
    match outcome.await {
        Ok(Ok(())) => StatusCode::OK.into_response(),
        Ok(Err(mistakes)) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("failed to reload config:\n{mistakes}\n")).into_response()
        }
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "meshscope is stopping.\n").into_response(),
    }
}
