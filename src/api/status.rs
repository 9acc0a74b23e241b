//! `status/*`, health, readiness, reload.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::encode::{go_time, success};
use super::error::ApiError;
use super::params::Params;
use super::{ReloadRequest, State};

/// The Prometheus whose API is answered: clients choose their features by it.
const PROMETHEUS_VERSION: &str = "3.5.3";
/// Entries of each list of `status/tsdb` unless told.
const TOP_DEFAULT: usize = 10;

/// Without `features`: Grafana takes a server that has them for Mimir.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BuildInfo {
    version: &'static str,
    revision: &'static str,
    branch: &'static str,
    build_user: &'static str,
    build_date: &'static str,
    go_version: &'static str,
}

const BUILD_INFO: BuildInfo = BuildInfo {
    version: PROMETHEUS_VERSION,
    revision: concat!("meshscope-", env!("CARGO_PKG_VERSION")),
    branch: "",
    build_user: "",
    build_date: "",
    go_version: "",
};

pub(super) async fn build_info() -> Response {
    success(BUILD_INFO)
}

/// The same as plain JSON, under the type that Prometheus gives it.
pub(super) async fn version() -> Result<Response, ApiError> {
    let mut body = serde_json::to_string(&BUILD_INFO).map_err(|error| ApiError::Internal(error.to_string()))?;
    body.push('\n');
    Ok(body.into_response())
}

/// What a Go program says of itself. What only Go has is zero or empty here.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RuntimeInfo {
    start_time: String,
    #[serde(rename = "CWD")]
    working_directory: String,
    hostname: String,
    server_time: String,
    reload_config_success: bool,
    last_config_time: String,
    corruption_count: u64,
    goroutine_count: u64,
    #[serde(rename = "GOMAXPROCS")]
    threads_max: usize,
    #[serde(rename = "GOMEMLIMIT")]
    go_memory_limit: u64,
    #[serde(rename = "GOGC")]
    go_collector: &'static str,
    #[serde(rename = "GODEBUG")]
    go_debug: &'static str,
    storage_retention: Arc<str>,
}

pub(super) async fn runtime_info(Shared(state): Shared<State>) -> Response {
    let reload = (state.last_reload)();
    let hostname = hostname().await;
    success(RuntimeInfo {
        start_time: go_time(Some(state.started_at)),
        working_directory: std::env::current_dir().unwrap_or_default().display().to_string(),
        hostname,
        server_time: go_time(Some(state.clock.now())),
        reload_config_success: reload.success,
        last_config_time: go_time(Some(reload.at)),
        corruption_count: 0,
        goroutine_count: 0,
        threads_max: std::thread::available_parallelism().map_or(1, usize::from),
        go_memory_limit: 0,
        go_collector: "",
        go_debug: "",
        storage_retention: state.retention,
    })
}

/// The machine's name; empty where it cannot be told.
pub(super) async fn hostname() -> String {
    let name = tokio::fs::read_to_string("/proc/sys/kernel/hostname").await.unwrap_or_default();
    name.trim().to_owned()
}

pub(super) async fn configuration(Shared(state): Shared<State>) -> Response {
    success(BTreeMap::from([("yaml", (state.configuration)())]))
}

/// Settings under the names of Prometheus' flags, for clients that look for them.
pub(super) async fn flags(Shared(state): Shared<State>) -> Response {
    let engine = state.engine.config();
    let features = [
        (engine.experimental_functions, "promql-experimental-functions"),
        (engine.duration_expressions, "promql-duration-expr"),
        (engine.delayed_name_removal, "promql-delayed-name-removal"),
    ];
    let features: Vec<&str> = features.into_iter().filter(|(on, _)| *on).map(|(_, name)| name).collect();
    success(BTreeMap::from([
        ("agent", "false".to_owned()),
        ("enable-feature", features.join(",")),
        ("web.cors.origin", ".*".to_owned()),
        ("web.enable-admin-api", "false".to_owned()),
        ("web.route-prefix", "/".to_owned()),
        ("query.lookback-delta", engine.lookback_delta.to_string()),
        ("query.max-concurrency", engine.concurrency.to_string()),
        ("query.max-samples", engine.max_samples.to_string()),
        ("query.timeout", engine.timeout.to_string()),
        ("storage.tsdb.retention.time", state.retention.to_string()),
        ("web.enable-lifecycle", "true".to_owned()),
    ]))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HeadStatus {
    head_stats: HeadStats,
    series_count_by_metric_name: Vec<NameAndValue>,
    label_value_count_by_label_name: Vec<NameAndValue>,
    memory_in_bytes_by_label_name: Vec<NameAndValue>,
    series_count_by_label_value_pair: Vec<NameAndValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HeadStats {
    num_series: usize,
    num_label_pairs: usize,
    chunk_count: usize,
    min_time: i64,
    max_time: i64,
}

#[derive(Serialize)]
struct NameAndValue {
    name: String,
    value: u64,
}

/// How full the memory tier is, and of what.
pub(super) async fn head(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    let wrong = || ApiError::BadData("limit must be a positive number".to_owned());
    let limit = match params.get("limit") {
        None => TOP_DEFAULT,
        Some(text) => text.parse().ok().filter(|limit| *limit > 0).ok_or_else(wrong)?,
    };
    let stats = state.head.stats();
    let cardinality = state.head.cardinality(limit);
    let list = |pairs: Vec<(String, u64)>| -> Vec<NameAndValue> {
        pairs.into_iter().map(|(name, value)| NameAndValue { name, value }).collect()
    };
    let ms = |at: Option<crate::model::Timestamp>| at.map_or(0, crate::model::Timestamp::as_millis);
    Ok(success(HeadStatus {
        head_stats: HeadStats {
            num_series: stats.series,
            num_label_pairs: stats.symbols,
            chunk_count: stats.chunks,
            min_time: ms(stats.min_time),
            max_time: ms(stats.max_time),
        },
        series_count_by_metric_name: list(cardinality.series_by_metric),
        label_value_count_by_label_name: list(cardinality.values_by_label),
        memory_in_bytes_by_label_name: list(cardinality.bytes_by_label),
        series_count_by_label_value_pair: list(cardinality.series_by_pair),
    }))
}

/// Our own metrics.
pub(super) async fn metrics(Shared(state): Shared<State>) -> Response {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(axum::http::header::CONTENT_TYPE, kind)], (state.metrics)()).into_response()
}

#[derive(Serialize)]
struct Replay {
    min: u64,
    max: u64,
    current: u64,
}

/// How far the journal is replayed, in segments as Prometheus counts them: none is left before anything is answered.
pub(super) async fn replay() -> Response {
    success(Replay { min: 0, max: 0, current: 0 })
}

/// A notice for people who look at a page: Prometheus' own interface shows them above its pages.
#[derive(Serialize)]
struct Notification {
    text: &'static str,
    date: String,
    active: bool,
}

/// Whether the last reload was refused: the other states of Prometheus' list are ones in which nothing is answered here.
pub(super) async fn notifications(Shared(state): Shared<State>) -> Response {
    let refused_at = (state.last_reload)().refused_at;
    let notice = |at| Notification { text: "Configuration reload has failed.", date: go_time(Some(at)), active: true };
    success(refused_at.map(notice).into_iter().collect::<Vec<_>>())
}

/// The same as a stream of events, of which there is none here: 204, with which Prometheus turns away those that are too
/// many, tells an `EventSource` not to come back.
pub(super) async fn live_notifications() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// `/-/quit`: only whoever runs the process ends it.
pub(super) async fn quit() -> Response {
    (StatusCode::FORBIDDEN, "meshscope is not stopped over HTTP: send the process SIGTERM.\n").into_response()
}

/// What deletes or copies samples is turned off, as in Prometheus unless it is started with `--web.enable-admin-api`.
pub(super) async fn admin() -> ApiError {
    ApiError::Disabled("admin APIs disabled")
}

/// `DELETE /api/v1/series`, which Prometheus keeps for another time.
pub(super) async fn not_implemented() -> ApiError {
    ApiError::Internal("not implemented".to_owned())
}

/// The Alertmanagers of the block `alerting`; our own receivers are told directly.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Alertmanagers {
    active_alertmanagers: Vec<Alertmanager>,
    dropped_alertmanagers: Vec<Alertmanager>,
}

#[derive(Serialize)]
struct Alertmanager {
    url: String,
}

pub(super) async fn alertmanagers(Shared(state): Shared<State>) -> Response {
    let listed = |urls: Vec<String>| urls.into_iter().map(|url| Alertmanager { url }).collect();
    success(Alertmanagers {
        active_alertmanagers: listed(state.alertmanagers.active()),
        dropped_alertmanagers: listed(state.alertmanagers.dropped()),
    })
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
    ask_for_reload(state.reload).await
}

/// Asks for a reload and answers how it went.
pub async fn ask_for_reload(reload: mpsc::Sender<ReloadRequest>) -> Response {
    let (answer, outcome) = oneshot::channel();
    if reload.send(answer).await.is_err() {
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
