//! What the field knows of metrics without asking: which are counters, which labels Istio and Linkerd put on theirs, and
//! which values those labels can have. Source: istio/proxy `istio_stats.cc` (1.29), istio/ztunnel `metrics.rs`,
//! linkerd2-proxy and its reference of proxy metrics.

use super::walk::metric;
use crate::promql::ast::VectorSelector;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetricKind {
    Counter,
    Gauge,
    Unknown,
}

/// Metrics whose name says counter and that are none.
const GAUGES_NAMED_LIKE_COUNTERS: [&str; 6] = [
    "envoy_cluster_membership_total",
    "istio_active_proxy_count_total",
    "machine_memory_total",
    "kubelet_volume_stats_total",
    "node_memory_total",
    "node_cooling_device_total",
];

/// Gauges that are often taken for counters, and those of meshes.
const GAUGES: [&str; 24] = [
    "up",
    "istio_build",
    "istio_agent_cert_expiry_seconds",
    "istio_tcp_sockets_open",
    "pilot_xds",
    "pilot_services",
    "pilot_virt_services",
    "pilot_conflict_inbound_listener",
    "pilot_no_ip",
    "pilot_endpoint_not_ready",
    "pilot_vservice_dup_domain",
    "pilot_destrule_subsets",
    "pilot_duplicate_envoy_clusters",
    "pilot_eds_no_instances",
    "envoy_server_days_until_first_cert_expiring",
    "envoy_server_concurrency",
    "envoy_server_live",
    "tcp_open_connections",
    "outbound_http_balancer_endpoints",
    "citadel_server_root_cert_expiry_timestamp",
    "citadel_server_root_cert_expiry_seconds",
    "identity_cert_expiration_timestamp_seconds",
    "container_memory_working_set_bytes",
    "process_resident_memory_bytes",
];

const GAUGE_ENDINGS: [&str; 6] =
    ["_timestamp_seconds", "_ratio", "_info", "_celsius", "_percent", "_connections_active"];
/// What counts or sums of histograms end in.
const HISTOGRAM_BASES: [&str; 8] =
    ["_seconds", "_milliseconds", "_ms", "_bytes", "_duration", "_latency", "_time", "_size"];

/// What the metric is, as far as its name tells.
pub(super) fn kind(name: &str) -> MetricKind {
    if name.contains(':') || GAUGES_NAMED_LIKE_COUNTERS.contains(&name) {
        return MetricKind::Unknown;
    }
    if GAUGES.contains(&name) || GAUGE_ENDINGS.iter().any(|ending| name.ends_with(ending)) {
        return MetricKind::Gauge;
    }
    let of_histogram = |ending: &str| {
        name.strip_suffix(ending).is_some_and(|base| HISTOGRAM_BASES.iter().any(|unit| base.ends_with(unit)))
    };
    match name.ends_with("_total") || name.ends_with("_bucket") || of_histogram("_count") || of_histogram("_sum") {
        true => MetricKind::Counter,
        false => MetricKind::Unknown,
    }
}

/// Whether the metric counts requests, so that a share of it can be judged on too few.
pub(super) fn counts_requests(name: &str) -> bool {
    kind(name) == MetricKind::Counter
        && ["request", "response", "_rpc", "grpc_", "_calls", "_http"].iter().any(|part| name.contains(part))
        && !name.ends_with("_bucket")
        && !name.ends_with("_sum")
        && !name.contains("bytes")
}

/// The labels that Istio puts on what it tells of calls, unless a Telemetry says otherwise.
pub const ISTIO_LABELS: [&str; 25] = [
    "reporter",
    "source_workload",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_canonical_service",
    "source_canonical_revision",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_cluster",
    "destination_service",
    "destination_service_name",
    "destination_service_namespace",
    "request_protocol",
    "response_code",
    "grpc_response_status",
    "response_flags",
    "connection_security_policy",
];

/// Names that people use instead of Istio's.
const ISTIO_MISTAKEN: [(&str, &str); 9] = [
    ("code", "response_code"),
    ("status", "response_code"),
    ("status_code", "response_code"),
    ("grpc_status", "grpc_response_status"),
    ("grpc_code", "grpc_response_status"),
    ("flags", "response_flags"),
    ("source_namespace", "source_workload_namespace"),
    ("destination_namespace", "destination_workload_namespace"),
    ("destination_workload_name", "destination_workload"),
];

/// What Istio's proxies tell of calls; of histograms the name without the ending of its series.
pub const ISTIO_METRICS: [&str; 12] = [
    "istio_requests_total",
    "istio_request_duration_milliseconds",
    "istio_request_bytes",
    "istio_response_bytes",
    "istio_request_messages_total",
    "istio_response_messages_total",
    "istio_tcp_connections_opened_total",
    "istio_tcp_connections_closed_total",
    "istio_tcp_connections_failed_total",
    "istio_tcp_sent_bytes_total",
    "istio_tcp_received_bytes_total",
    "istio_tcp_sockets_open",
];

/// The name of the metric that a series belongs to: that of a histogram without `_bucket`, `_count` or `_sum`.
pub fn metric_of_series(name: &str) -> &str {
    ["_bucket", "_count", "_sum"].iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name)
}

/// Whether both proxies of a call report the metric under the label `reporter`.
pub(super) fn is_istio_traffic(name: &str) -> bool {
    ISTIO_METRICS.contains(&metric_of_series(name))
}

const LINKERD_METRICS: [&str; 7] = [
    "request_total",
    "response_total",
    "response_latency_ms_bucket",
    "response_latency_ms_count",
    "response_latency_ms_sum",
    "tcp_open_total",
    "tcp_close_total",
];
const LINKERD_ONLY: [&str; 7] =
    ["direction", "classification", "no_tls_reason", "rt_route", "target_addr", "client_id", "server_id"];

/// Whether it is Linkerd's metric: the names are common ones, so a label that only Linkerd has must be there too.
pub(super) fn is_linkerd_traffic(selector: &VectorSelector) -> bool {
    metric(selector).is_some_and(|name| LINKERD_METRICS.contains(&name))
        && selector.matchers.iter().any(|m| LINKERD_ONLY.contains(&&*m.name) || m.name.starts_with("dst_"))
}

/// The label that is meant, when `label` is none of Istio's but looks like one. Pods bring labels of their own, so only a
/// likeness counts.
pub(super) fn meant_istio_label(label: &str) -> Option<&'static str> {
    if ISTIO_LABELS.contains(&label) {
        return None;
    }
    let mistaken = ISTIO_MISTAKEN.iter().find(|(name, _)| *name == label).map(|(_, meant)| *meant);
    mistaken.or_else(|| {
        let near = |known: &&&str| label.len() > 6 && strsim::osa_distance(known, label) <= 2;
        ISTIO_LABELS.iter().find(near).copied()
    })
}

/// Values that a label can have, as far as they are fixed by the mesh.
pub(super) fn possible_values(selector: &VectorSelector, label: &str) -> Option<Vec<String>> {
    let fixed = |values: &[&str]| Some(values.iter().map(|value| (*value).to_owned()).collect());
    if metric(selector).is_some_and(is_istio_traffic) {
        return match label {
            "reporter" => fixed(&["source", "destination", "waypoint"]),
            "connection_security_policy" => fixed(&["mutual_tls", "none", "unknown"]),
            "request_protocol" => fixed(&["http", "grpc", "tcp"]),
            "response_code" => Some(std::iter::once(0).chain(100..600).map(|code: u16| code.to_string()).collect()),
            "grpc_response_status" => {
                Some(std::iter::once(String::new()).chain((0..=16).map(|code: u8| code.to_string())).collect())
            }
            _ => None,
        };
    }
    if is_linkerd_traffic(selector) {
        return match label {
            "direction" => fixed(&["inbound", "outbound"]),
            "classification" => fixed(&["success", "failure"]),
            "peer" => fixed(&["src", "dst"]),
            _ => None,
        };
    }
    None
}
