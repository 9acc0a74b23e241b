//! The scrape pages: `/pods/POD/stats/prometheus`, in the text form an Istio sidecar answers on port 15020.
//!
//! In: a [`Proxy`]. Out: exposition text, families by name, Envoy's first, then the agent's; gzip when asked (by the
//! router's layer). One listener serves every pod, told apart by path; real ports would be fourteen and more.

use std::{fmt::Write as _, sync::Arc};

use axum::{
    Router,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use parking_lot::Mutex;
use tower_http::compression::{CompressionLayer, CompressionLevel};

use super::{
    proxy::{ConnectionTotals, Histogram, Proxy, RequestSeries},
    topology::PROXY_VERSION,
    traffic::Simulation,
};

/// Content type of the text format, as Envoy states it.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4";
/// Certificates live a day and are renewed at half of it.
const CERTIFICATE_SECONDS: f64 = 86_400.0;

/// Serves a page for every pod of the simulation.
pub fn router(simulation: Arc<Mutex<Simulation>>) -> Router {
    Router::new()
        .route("/pods/{pod}/stats/prometheus", get(page))
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest))
        .with_state(simulation)
}

async fn page(State(simulation): State<Arc<Mutex<Simulation>>>, Path(pod): Path<String>) -> Response {
    let text = simulation.lock().page(&pod);
    match text {
        Some(text) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        None => (StatusCode::NOT_FOUND, format!("no pod `{pod}` in the simulated mesh\n")).into_response(),
    }
}

/// The page of one proxy that has been up for `uptime_seconds`.
pub fn render(proxy: &Proxy, uptime_seconds: f64) -> String {
    let mut text = String::with_capacity(16 * 1024 + proxy.requests.len() * 72 * 1024);
    clusters(&mut text, proxy);
    server(&mut text, proxy, uptime_seconds);
    let build = format!("component=\"proxy\",tag=\"{PROXY_VERSION}\"");
    single(&mut text, "istio_build", "gauge", &build, 1.0);
    requests(&mut text, proxy);
    connections(&mut text, proxy);
    let left = CERTIFICATE_SECONDS - uptime_seconds % (CERTIFICATE_SECONDS / 2.0);
    single(&mut text, "istio_agent_cert_expiry_seconds", "gauge", "resource_name=\"default\"", left);
    single(&mut text, "istio_agent_startup_duration_seconds", "gauge", "", 1.7);
    text
}

// Writing to a String cannot fail, so the results of `write!` below carry nothing.

fn type_line(text: &mut String, name: &str, kind: &str) {
    let _ = writeln!(text, "# TYPE {name} {kind}");
}

fn sample(text: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let _ = writeln!(text, "{name}{{{labels}}} {value}");
}

fn single(text: &mut String, name: &str, kind: &str, labels: &str, value: f64) {
    type_line(text, name, kind);
    sample(text, name, labels, value);
}

/// What Istio's bootstrap keeps of Envoy's own statistics (prefixes `server`, `cluster_manager`, `listener_manager`).
fn server(text: &mut String, proxy: &Proxy, uptime_seconds: f64) {
    let series = proxy.requests.len() + proxy.connections.len();
    let memory = 42.0e6 + series as f64 * 60.0e3;
    single(text, "envoy_cluster_manager_active_clusters", "gauge", "", 34.0);
    single(text, "envoy_cluster_manager_cds_update_rejected", "counter", "", 0.0);
    single(text, "envoy_listener_manager_lds_update_rejected", "counter", "", 0.0);
    single(text, "envoy_listener_manager_total_listeners_active", "gauge", "", 21.0);
    single(text, "envoy_server_concurrency", "gauge", "", 2.0);
    single(text, "envoy_server_days_until_first_cert_expiring", "gauge", "", 0.0);
    single(text, "envoy_server_live", "gauge", "", 1.0);
    single(text, "envoy_server_memory_allocated", "gauge", "", memory);
    single(text, "envoy_server_memory_heap_size", "gauge", "", (memory * 1.4).round());
    single(text, "envoy_server_state", "gauge", "", 0.0);
    single(text, "envoy_server_uptime", "gauge", "", uptime_seconds.floor());
}

/// The opt-in statistics of upstream clusters (`proxyStatsMatcher`), and of `xds-grpc`, which is always on.
fn clusters(text: &mut String, proxy: &Proxy) {
    let opted_in: Vec<_> =
        proxy.clusters.iter().map(|(name, cluster)| (format!("cluster_name=\"{name}\""), cluster)).collect();
    let mut family = |name: &str, kind: &str, value: fn(&super::proxy::ClusterSeries) -> u64, control_plane: u64| {
        type_line(text, name, kind);
        for (labels, cluster) in &opted_in {
            sample(text, name, labels, value(cluster));
        }
        sample(text, name, "cluster_name=\"xds-grpc\"", control_plane);
    };
    family("envoy_cluster_circuit_breakers_default_cx_open", "gauge", |_| 0, 0);
    family("envoy_cluster_circuit_breakers_default_rq_open", "gauge", |_| 0, 0);
    family("envoy_cluster_circuit_breakers_default_rq_pending_open", "gauge", |cluster| u64::from(cluster.open), 0);
    family("envoy_cluster_membership_healthy", "gauge", |cluster| cluster.hosts - cluster.ejected, 1);
    family("envoy_cluster_membership_total", "gauge", |cluster| cluster.hosts, 1);
    family("envoy_cluster_outlier_detection_ejections_active", "gauge", |cluster| cluster.ejected, 0);
    family("envoy_cluster_outlier_detection_ejections_enforced_total", "counter", |cluster| cluster.ejections, 0);
    family("envoy_cluster_upstream_rq_pending_overflow", "counter", |cluster| cluster.pending_overflow, 0);
    family("envoy_cluster_upstream_rq_retry", "counter", |cluster| cluster.retries, 0);
}

fn requests(text: &mut String, proxy: &Proxy) {
    if !proxy.messages.is_empty() {
        type_line(text, "istio_request_messages_total", "counter");
        for series in proxy.messages.values() {
            sample(text, "istio_request_messages_total", &series.labels, series.requests);
        }
        type_line(text, "istio_response_messages_total", "counter");
        for series in proxy.messages.values() {
            sample(text, "istio_response_messages_total", &series.labels, series.responses);
        }
    }
    if proxy.requests.is_empty() {
        return;
    }
    type_line(text, "istio_requests_total", "counter");
    for series in proxy.requests.values() {
        sample(text, "istio_requests_total", &series.labels, series.duration_ms.count);
    }
    histogram(text, proxy, "istio_request_bytes", |series| &series.request_bytes);
    histogram(text, proxy, "istio_request_duration_milliseconds", |series| &series.duration_ms);
    histogram(text, proxy, "istio_response_bytes", |series| &series.response_bytes);
}

fn histogram(text: &mut String, proxy: &Proxy, name: &str, of: fn(&RequestSeries) -> &Histogram) {
    type_line(text, name, "histogram");
    for series in proxy.requests.values() {
        let (labels, values) = (&series.labels, of(series));
        for (bound, count) in values.cumulative() {
            let _ = writeln!(text, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}");
        }
        let _ = writeln!(text, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", values.count);
        let _ = writeln!(text, "{name}_sum{{{labels}}} {}", values.sum);
        let _ = writeln!(text, "{name}_count{{{labels}}} {}", values.count);
    }
}

fn connections(text: &mut String, proxy: &Proxy) {
    if proxy.connections.is_empty() {
        return;
    }
    let mut family = |name: &str, value: fn(&ConnectionTotals) -> u64| {
        type_line(text, name, "counter");
        for series in proxy.connections.values() {
            sample(text, name, &series.labels, value(&series.totals));
        }
    };
    family("istio_tcp_connections_closed_total", |totals| totals.closed);
    family("istio_tcp_connections_opened_total", |totals| totals.opened);
    family("istio_tcp_received_bytes_total", |totals| totals.received_bytes);
    family("istio_tcp_sent_bytes_total", |totals| totals.sent_bytes);
}
