//! Which metrics and labels Istio, Linkerd and Envoy have. Source: istio/proxy `istio_stats.cc`, istio/ztunnel
//! `metrics.rs`, istiod's and the agent's `monitoring.go` (1.29), Envoy's statistics as its Prometheus page names them,
//! linkerd2-proxy and its reference of proxy metrics.
//!
//! Only names under a prefix that belongs to one program are judged: anybody may have a `request_total`.

/// Endings of the series of a histogram.
const OF_HISTOGRAM: [&str; 3] = ["_bucket", "_count", "_sum"];
/// A name this near to a known one is taken for a slip.
const SLIP: usize = 3;

/// Names below a prefix: all that there are.
struct Closed {
    prefix: &'static str,
    whose: &'static str,
    names: &'static [&'static str],
}

const CLOSED: &[Closed] = &[
    Closed { prefix: "istio_", whose: "Istio", names: ISTIO },
    Closed { prefix: "pilot_", whose: "istiod", names: PILOT },
    Closed { prefix: "citadel_", whose: "istiod", names: CITADEL },
    Closed { prefix: "galley_", whose: "istiod", names: GALLEY },
    Closed { prefix: "sidecar_injection_", whose: "istiod", names: INJECTION },
    Closed { prefix: "inbound_", whose: "Linkerd", names: LINKERD_INBOUND },
    Closed { prefix: "outbound_", whose: "Linkerd", names: LINKERD_OUTBOUND },
];

const ISTIO: &[&str] = &[
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
    "istio_build",
    "istio_dns_requests_total",
    "istio_dns_upstream_requests_total",
    "istio_dns_upstream_failures_total",
    "istio_dns_upstream_request_duration_seconds",
    "istio_on_demand_dns_total",
    "istio_crl_policy_rejections_total",
    "istio_xds_connection_terminations_total",
    "istio_xds_message_total",
    "istio_xds_message_bytes_total",
    "istio_active_proxy_count_total",
    "istio_active_proxy_count",
    "istio_pending_proxy_count",
    "istio_cni_install_ready",
    "istio_cni_installs_total",
    "istio_cni_repair_pods_repaired_total",
];
/// What the agent says of itself, and hands on of Go and the process.
const AGENT: &str = "istio_agent_";

const PILOT: &[&str] = &[
    "pilot_xds",
    "pilot_xds_pushes",
    "pilot_xds_push_time",
    "pilot_xds_send_time",
    "pilot_xds_push_errors",
    "pilot_xds_push_context_errors",
    "pilot_xds_config_size_bytes",
    "pilot_xds_cds_reject",
    "pilot_xds_eds_reject",
    "pilot_xds_rds_reject",
    "pilot_xds_lds_reject",
    "pilot_xds_ecds_reject",
    "pilot_xds_expired_nonce",
    "pilot_xds_write_timeout",
    "pilot_xds_recv_max",
    "pilot_xds_eds_instances",
    "pilot_xds_eds_all_locality_endpoints",
    "pilot_xds_delayed_pushes_total",
    "pilot_xds_delayed_push_timeouts_total",
    "pilot_xds_delayed_push_timeout_pushes_total",
    "pilot_total_xds_rejects",
    "pilot_total_xds_internal_errors",
    "pilot_total_rejected_configs",
    "pilot_proxy_convergence_time",
    "pilot_proxy_queue_time",
    "pilot_push_triggers",
    "pilot_pushcontext_init_seconds",
    "pilot_debounce_time",
    "pilot_inbound_updates",
    "pilot_k8s_cfg_events",
    "pilot_k8s_reg_events",
    "pilot_k8s_object_errors",
    "pilot_k8s_endpoints_with_no_pods",
    "pilot_k8s_endpoints_pending_pod",
    "pilot_virt_services",
    "pilot_vservice_dup_domain",
    "pilot_services",
    "pilot_destrule_subsets",
    "pilot_dns_cluster_without_endpoints",
    "pilot_duplicate_envoy_clusters",
    "pilot_eds_no_instances",
    "pilot_endpoint_not_ready",
    "pilot_no_ip",
    "pilot_invalid_out_listeners",
    "pilot_conflict_inbound_listener",
    "pilot_conflict_outbound_listener_http_over_current_tcp",
    "pilot_conflict_outbound_listener_http_over_https",
    "pilot_conflict_outbound_listener_tcp_over_current_http",
    "pilot_conflict_outbound_listener_tcp_over_current_tcp",
    "pilot_envoy_filter_status",
    "pilot_info",
    "pilot_jwks_resolver_network_fetch_success_total",
    "pilot_jwks_resolver_network_fetch_fail_total",
    "pilot_rds_expired_nonce",
    "pilot_sds_certificate_errors_total",
    "pilot_worker_queue_depth",
    "pilot_worker_queue_duration",
    "pilot_worker_queue_latency",
];

const CITADEL: &[&str] = &[
    "citadel_server_root_cert_expiry_timestamp",
    "citadel_server_root_cert_expiry_seconds",
    "citadel_server_cert_chain_expiry_timestamp",
    "citadel_server_cert_chain_expiry_seconds",
    "citadel_server_csr_count",
    "citadel_server_csr_parsing_err_count",
    "citadel_server_csr_sign_err_count",
    "citadel_server_id_extraction_err_count",
    "citadel_server_authentication_failure_count",
    "citadel_server_success_cert_issuance_count",
];

const GALLEY: &[&str] = &[
    "galley_validation_passed",
    "galley_validation_failed",
    "galley_validation_http_error",
    "galley_validation_config_updates",
    "galley_validation_config_update_error",
    "galley_validation_config_load_error",
    "galley_validation_config_load",
    "galley_validation_config_delete_error",
];

const INJECTION: &[&str] = &[
    "sidecar_injection_requests_total",
    "sidecar_injection_success_total",
    "sidecar_injection_failure_total",
    "sidecar_injection_skip_total",
    "sidecar_injection_time_seconds",
];

const LINKERD_INBOUND: &[&str] = &[
    "inbound_http_authz_allow_total",
    "inbound_http_authz_deny_total",
    "inbound_http_route_not_found_total",
    "inbound_http_errors_total",
    "inbound_http_local_rate_limit_total",
    "inbound_http_request_body_data_bytes",
    "inbound_http_response_body_data_bytes",
    "inbound_http_request_frame_size",
    "inbound_http_response_frame_size",
    "inbound_http_request_count",
    "inbound_http_response_statuses_total",
    "inbound_http_request_duration_seconds",
    "inbound_grpc_request_count",
    "inbound_grpc_response_statuses_total",
    "inbound_tcp_authz_allow_total",
    "inbound_tcp_authz_deny_total",
    "inbound_tcp_authz_terminate_total",
    "inbound_tcp_errors_total",
    "inbound_tcp_transport_header_connections_total",
    "inbound_tcp_detect_latency_seconds",
    "inbound_tcp_protocol_connections_total",
    "inbound_tls_detect_latency_seconds",
];

const LINKERD_OUTBOUND: &[&str] = &[
    "outbound_http_errors_total",
    "outbound_http_balancer_endpoints",
    "outbound_http_balancer_adds_total",
    "outbound_http_balancer_removes_total",
    "outbound_http_balancer_queue_length",
    "outbound_http_balancer_queue_requests_total",
    "outbound_http_balancer_queue_gate_open",
    "outbound_http_balancer_queue_gate_timeout_total",
    "outbound_http_balancer_p2c_endpoints",
    "outbound_http_route_request_duration_seconds",
    "outbound_http_route_request_statuses_total",
    "outbound_http_route_request_frame_size",
    "outbound_http_route_retry_requests_total",
    "outbound_http_route_retry_limit_exceeded_total",
    "outbound_http_route_retry_overflow_total",
    "outbound_http_route_retry_successes_total",
    "outbound_http_route_backend_requests_total",
    "outbound_http_route_backend_response_duration_seconds",
    "outbound_http_route_backend_response_statuses_total",
    "outbound_http_route_backend_response_frame_size",
    "outbound_grpc_route_request_duration_seconds",
    "outbound_grpc_route_request_statuses_total",
    "outbound_grpc_route_request_frame_size",
    "outbound_grpc_route_retry_requests_total",
    "outbound_grpc_route_retry_limit_exceeded_total",
    "outbound_grpc_route_retry_overflow_total",
    "outbound_grpc_route_retry_successes_total",
    "outbound_grpc_route_backend_requests_total",
    "outbound_grpc_route_backend_response_duration_seconds",
    "outbound_grpc_route_backend_response_statuses_total",
    "outbound_grpc_route_backend_response_frame_size",
    "outbound_tcp_balancer_endpoints",
    "outbound_tcp_balancer_adds_total",
    "outbound_tcp_balancer_removes_total",
    "outbound_tcp_balancer_queue_length",
    "outbound_tcp_balancer_queue_requests_total",
    "outbound_tcp_balancer_queue_gate_open",
    "outbound_tcp_balancer_queue_gate_timeout_total",
    "outbound_tcp_balancer_p2c_endpoints",
    "outbound_tcp_errors_total",
    "outbound_tcp_protocol_connections_total",
    "outbound_tls_detect_latency_seconds",
];
/// Linkerd's prefixes are common words; only below these more is it taken for Linkerd's.
const LINKERD_PARTS: [&str; 4] = ["http_", "grpc_", "tcp_", "tls_"];

/// Names that were, what became of them.
const WAS: &[(&str, &str)] = &[
    ("istio_request_count", "istio_requests_total"),
    ("istio_request_duration_seconds", "istio_request_duration_milliseconds"),
    ("istio_request_duration", "istio_request_duration_milliseconds"),
    ("istio_request_size", "istio_request_bytes"),
    ("istio_response_size", "istio_response_bytes"),
    ("istio_tcp_bytes_sent", "istio_tcp_sent_bytes_total"),
    ("istio_tcp_bytes_received", "istio_tcp_received_bytes_total"),
    ("pilot_xds_pushes_total", "pilot_xds_pushes"),
    ("pilot_xds_cds_rejects", "pilot_xds_cds_reject"),
];
/// Components that Istio no longer has.
const GONE: &[(&str, &str)] = &[
    ("mixer_", "Mixer"),
    ("istio_mixer_", "Mixer"),
    ("galley_runtime_", "Galley"),
    ("galley_source_", "Galley"),
    ("galley_istio_", "Galley"),
    ("galley_mcp_", "Galley"),
    ("mixer_runtime_", "Mixer"),
];

/// What Envoy's names go on with behind `envoy_`: the scopes of its statistics.
const ENVOY_SCOPES: &[&str] = &[
    "access_logs",
    "cluster",
    "cluster_manager",
    "control_plane",
    "dns",
    "dns_cache",
    "dns_filter",
    "ext_authz",
    "file_system",
    "filesystem",
    "grpc",
    "http",
    "http1",
    "http2",
    "http3",
    "listener",
    "listener_manager",
    "local_rate_limit",
    "main_thread",
    "mongo",
    "mysql",
    "network",
    "overload",
    "postgres",
    "quic",
    "rbac",
    "ratelimit",
    "redis",
    "route",
    "runtime",
    "sds",
    "secret",
    "server",
    "tcp",
    "thrift",
    "thread_local",
    "tls",
    "tls_inspector",
    "tracing",
    "udp",
    "vhost",
    "wasm",
    "watchdog",
    "worker",
    "workers",
    "zookeeper",
    "bandwidth",
    "connection_limit",
    "conn_limit",
    "http_local_rate_limit",
    "health_check",
    "dispatcher",
    "cors",
    "jwt_authn",
    "lua",
    "metric",
    "original_dst",
];

/// Why there is no such metric; none when there is, or when the name could be anybody's.
pub(super) fn unknown(name: &str) -> Option<String> {
    let base = OF_HISTOGRAM.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name);
    if let Some((_, now)) = WAS.iter().find(|(was, _)| *was == base || *was == name) {
        return Some(format!("that was its name once; it is {now}"));
    }
    if let Some((_, component)) = GONE.iter().find(|(prefix, _)| name.starts_with(prefix)) {
        return Some(format!("{component} told it, which Istio no longer has"));
    }
    if let Some(rest) = name.strip_prefix("envoy_") {
        let is_scope =
            |scope: &str| rest.strip_prefix(scope).is_some_and(|more| more.is_empty() || more.starts_with('_'));
        return (!ENVOY_SCOPES.iter().any(|scope| is_scope(scope)))
            .then(|| "none of Envoy's statistics begins so".to_owned());
    }
    let closed = CLOSED.iter().find(|closed| name.starts_with(closed.prefix))?;
    if name.starts_with(AGENT) || closed.names.contains(&base) || closed.names.contains(&name) {
        return None;
    }
    let rest = name.strip_prefix(closed.prefix).unwrap_or_default();
    if closed.whose == "Linkerd" && !LINKERD_PARTS.iter().any(|part| rest.starts_with(part)) {
        return None;
    }
    let near = closed.names.iter().map(|known| (strsim::osa_distance(known, base), known)).min();
    match near {
        Some((distance, known)) if distance <= SLIP => {
            Some(format!("{} has no such metric; did you mean {known}?", closed.whose))
        }
        // Other meshes inject sidecars too.
        _ if closed.prefix == "sidecar_injection_" => None,
        _ => Some(format!("{} has no such metric", closed.whose)),
    }
}

/// Labels that only the requests of Istio have.
const OF_REQUESTS: [&str; 2] = ["response_code", "grpc_response_status"];
/// Labels of Linkerd's that latency does not have.
const NOT_OF_LATENCY: [&str; 1] = ["classification"];

/// Why the metric does not have the label, as far as that is sure; the rest is told by the linter.
pub(super) fn missing_label(name: &str, label: &str) -> Option<String> {
    if name.starts_with("istio_tcp_") && OF_REQUESTS.contains(&label) {
        return Some(format!("{name} counts connections, which have no {label}: this selects nothing"));
    }
    if name.starts_with("response_latency_ms") && NOT_OF_LATENCY.contains(&label) {
        return Some(format!("Linkerd puts no {label} on {name}: this selects nothing"));
    }
    if name.starts_with("request_total") && ["classification", "status_code", "grpc_status"].contains(&label) {
        return Some(format!("Linkerd counts {name} when a request begins, so it has no {label}: ask response_total"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_meshes_are_known_and_slips_are_told() {
        for name in [
            "istio_requests_total",
            "istio_request_duration_milliseconds_bucket",
            "istio_agent_process_open_fds",
            "pilot_xds_push_time_sum",
            "envoy_cluster_upstream_rq_total",
            "envoy_server_live",
            "request_total",
            "outbound_http_balancer_endpoints",
            "inbound_orders_total",
            "sidecar_injection_total",
            "up",
            "job:istio_requests:rate5m",
        ] {
            assert_eq!(unknown(name), None, "{name}");
        }
        for (name, word) in [
            ("istio_request_total", "istio_requests_total"),
            ("istio_request_duration_seconds_bucket", "istio_request_duration_milliseconds"),
            ("mixer_runtime_dispatches_total", "Mixer"),
            ("envoy_clusters_total", "Envoy"),
            ("pilot_made_up", "istiod has no such metric"),
            ("outbound_http_made_up_total", "Linkerd"),
        ] {
            assert!(unknown(name).is_some_and(|why| why.contains(word)), "{name}: {:?}", unknown(name));
        }
    }
}
