//! Linkerd: golden signals as callers see them, mutual TLS, policy, the split by route, certificates, the control plane.

use super::super::{
    frame::{Board, any_of},
    grafana::{Dashboard, Panel},
    panel::{bad_above, bad_below, blue, lines, stat, table},
};

/// The callers' report: only it sees failed connections and timeouts.
const OUT: &str = r#"direction="outbound", namespace=~"$namespace", deployment=~"$deployment""#;
/// The called side's: it knows callers without a proxy.
const IN: &str = r#"direction="inbound", namespace=~"$namespace", deployment=~"$deployment""#;
const NONE: &str = "no Linkerd proxy is scraped (port 4191)";
/// Containers of the control plane: the jobs of `mesh.discover` and of Linkerd's own Prometheus name their component.
const CONTROL: &str = r#"job=~"linkerd.*", component!="""#;
const NO_CONTROL_PLANE: &str = "the control plane is not scraped (job linkerd-control-plane)";

/// See the module.
pub(in super::super) fn linkerd() -> Dashboard {
    let mut panels = overview();
    panels.extend(signals());
    panels.extend(policy());
    panels.extend(proxies());
    let mut panels: Vec<Panel> = panels.into_iter().map(|panel| panel.when_empty(NONE)).collect();
    panels.extend(control_plane().into_iter().map(|panel| panel.when_empty(NO_CONTROL_PLANE)));
    Board {
        uid: "meshscope-linkerd",
        title: "Linkerd mesh",
        description: "Golden signals of a Linkerd mesh, mutual TLS, policy, retries, certificates and the control plane. Latency is the time to the first byte.",
        tag: "linkerd",
        page: "/graph",
        variables: vec![
            any_of(("namespace", "Namespace"), "Namespace of the pods", "label_values(response_total, namespace)"),
            any_of(
                ("deployment", "Deployment"),
                "Deployment of the pods",
                r#"label_values(response_total{namespace=~"$namespace"}, deployment)"#,
            ),
        ],
    }
    .with(panels)
}

fn rate(counter: &str, matchers: &str, by: &str) -> String {
    let sum = if by.is_empty() { "sum".to_owned() } else { format!("sum by ({by})") };
    format!("{sum} (rate({counter}{{{matchers}}}[$__rate_interval]))")
}

fn success(matchers: &str, by: &str) -> String {
    let all = rate("response_total", matchers, by);
    let good = rate("response_total", &format!(r#"{matchers}, classification="success""#), by);
    format!("({good} or 0 * {all}) / {all}")
}

fn quantile(quantile: &str, matchers: &str, by: &str) -> String {
    let by = if by.is_empty() { "le".to_owned() } else { format!("le, {by}") };
    format!("histogram_quantile({quantile}, {})", rate("response_latency_ms_bucket", matchers, &by))
}

fn tls(by: &str) -> String {
    let all = rate("request_total", IN, by);
    let secured = rate("request_total", &format!(r#"{IN}, tls="true""#), by);
    format!("({secured} or 0 * {all}) / {all}")
}

fn overview() -> Vec<Panel> {
    vec![
        stat(("Requests", "Requests a second that are served."), "reqps", blue())
            .query(rate("request_total", IN, ""), ""),
        stat(
            ("Success", "Share that succeeded. Linkerd calls less than 95 % a warning."),
            "percentunit",
            bad_below(0.9, 0.95),
        )
        .query(success(IN, ""), ""),
        stat(("Latency p95", "Nineteen of twenty have their first byte sooner."), "ms", bad_above(500.0, 1_000.0))
            .query(quantile("0.95", IN, ""), ""),
        stat(("mTLS share", "Share of requests that arrive over mutual TLS."), "percentunit", bad_below(0.95, 1.0))
            .query(tls(""), ""),
    ]
}

fn signals() -> Vec<Panel> {
    let deployment = "deployment, namespace";
    let name = "{{deployment}}.{{namespace}}";
    let edge = "deployment, namespace, dst_service, dst_namespace";
    vec![
        lines(("Requests by deployment", "Requests a second that each deployment serves."), "reqps")
            .query(rate("request_total", IN, deployment), name),
        lines(("Success by deployment", "Share of the requests to each deployment that succeeded."), "percentunit")
            .query(success(IN, deployment), name)
            .whole_share(),
        lines(("p95 by deployment", "95th percentile of the time to the first byte."), "ms")
            .query(quantile("0.95", IN, deployment), name),
        lines(("mTLS by deployment", "Share over mutual TLS by called deployment."), "percentunit")
            .query(tls(deployment), name)
            .whole_share(),
        table((
            "Edges",
            "Deployment to called service, as callers count: requests, success, p95. From request counters, so short calls are here too.",
        ))
        .row(format!("topk(50, {})", rate("response_total", OUT, edge)))
        .row(success(OUT, edge))
        .row(quantile("0.95", OUT, edge))
        .column("Value #A", "Requests", "reqps")
        .column("Value #B", "Success", "percentunit")
        .column("Value #C", "p95", "ms")
        .column("deployment", "Caller", "string")
        .column("dst_service", "Service", "string"),
    ]
}

fn policy() -> Vec<Panel> {
    let chosen = r#"namespace=~"$namespace""#;
    let route = "route_namespace, route_name, http_status, error";
    vec![
        lines(("Denied", "Requests and connections that a policy denied, a second."), "ops")
            .query(
                rate("inbound_http_authz_deny_total", chosen, "deployment, authz_name"),
                "http {{deployment}} {{authz_name}}",
            )
            .query(
                rate("inbound_tcp_authz_deny_total", chosen, "deployment, authz_name"),
                "tcp {{deployment}} {{authz_name}}",
            ),
        lines(("Routes", "Requests a second by HTTPRoute, status and error."), "reqps").query(
            rate("outbound_http_route_request_statuses_total", chosen, route),
            "{{route_name}} {{http_status}} {{error}}",
        ),
        lines(("Backends of routes", "The traffic split: requests a second by HTTPRoute and backend."), "reqps").query(
            rate("outbound_http_route_backend_requests_total", chosen, "route_name, backend_name"),
            "{{route_name}} {{backend_name}}",
        ),
        lines(("Retries", "Requests that proxies sent again, a second, by route."), "reqps")
            .query(rate("outbound_http_route_retry_requests_total", chosen, "route_name"), "{{route_name}}"),
        lines(("Endpoints", "Endpoints of balancers: pending ones were taken out by the circuit breaker."), "none")
            .query(
                format!("sum by (backend_name, endpoint_state) (outbound_http_balancer_endpoints{{{chosen}}})"),
                "{{backend_name}} {{endpoint_state}}",
            ),
        lines(("Profile routes", "Requests a second by route of a ServiceProfile."), "reqps").query(
            rate("route_response_total", &format!(r#"direction="outbound", {chosen}"#), "dst, rt_route"),
            "{{dst}} {{rt_route}}",
        ),
    ]
}

fn proxies() -> Vec<Panel> {
    let chosen = r#"namespace=~"$namespace", deployment=~"$deployment""#;
    let expiry = "control_identity_cert_expiration_timestamp_seconds";
    vec![
        lines(("TCP connections", "Connections that are open now, by deployment and side."), "none").query(
            format!("sum by (deployment, direction) (tcp_open_connections{{{chosen}}})"),
            "{{deployment}} {{direction}}",
        ),
        lines(("TCP bytes", "Bytes a second, by deployment."), "Bps")
            .query(rate("tcp_read_bytes_total", chosen, "deployment"), "read {{deployment}}")
            .query(rate("tcp_write_bytes_total", chosen, "deployment"), "written {{deployment}}"),
        lines(("Certificates", "Seconds until the certificate of a proxy expires, the next by deployment."), "s")
            .query(
                format!(
                    "min by (deployment) ({expiry}{{{chosen}}} or identity_cert_expiration_timestamp_seconds{{{chosen}}}) - time()"
                ),
                "{{deployment}}",
            )
            .signed(),
        lines(("Memory of proxies", "What proxies hold, by deployment."), "bytes")
            .query(format!("sum by (deployment) (process_resident_memory_bytes{{{chosen}}})"), "{{deployment}}"),
        lines(("TCP failures", "Connections that ended with an error, a second, by side and error."), "ops").query(
            rate("tcp_close_total", &format!(r#"{chosen}, errno!="""#), "deployment, direction, errno"),
            "{{deployment}} {{direction}} {{errno}}",
        ),
        lines(("TCP duration", "95th percentile of how long connections lasted, by side."), "ms").query(
            format!(
                "histogram_quantile(0.95, {})",
                rate("tcp_connection_duration_ms_bucket", chosen, "le, deployment, direction")
            ),
            "{{deployment}} {{direction}}",
        ),
    ]
}

fn control_plane() -> Vec<Panel> {
    let of = |metric: &str| format!("sum by (component) ({metric}{{{CONTROL}}})");
    let slowest = |histogram: &str, also: &str| {
        format!(
            "histogram_quantile(0.99, {})",
            rate(&format!("{histogram}_bucket"), CONTROL, &format!("le, component{also}"))
        )
    };
    vec![
        lines(
            ("Control plane requests", "Requests a second that the control plane serves, by component and code."),
            "reqps",
        )
        .query(rate("http_server_requests_total", CONTROL, "component, code"), "{{component}} {{code}}"),
        lines(
            ("Control plane latency", "99th percentile of what the control plane answers, and of what it asks."),
            "s",
        )
        .query(slowest("http_server_request_latency_seconds", ""), "answers {{component}}")
        .query(slowest("http_client_request_latency_seconds", ", client"), "asks {{component}} {{client}}"),
        lines(("Requests to the API server", "Requests a second of the control plane, by client and code."), "reqps")
            .query(
                rate("http_client_requests_total", CONTROL, "component, client, code"),
                "{{component}} {{client}} {{code}}",
            ),
        lines(("In flight", "Requests of the control plane that wait for an answer."), "none")
            .query(of("http_client_in_flight_requests"), "{{component}}"),
        lines(("gRPC messages", "Messages a second that proxies and the control plane exchange."), "ops")
            .query(rate("grpc_server_msg_sent_total", CONTROL, "component"), "sent {{component}}")
            .query(rate("grpc_server_msg_received_total", CONTROL, "component"), "received {{component}}"),
        lines(("Answer size", "99th percentile of the answers of the control plane."), "bytes")
            .query(slowest("http_server_response_size_bytes", ""), "{{component}}"),
        lines(("Control plane memory", "What the control plane holds, as Go counts it."), "bytes")
            .query(of("go_memstats_alloc_bytes"), "{{component}}"),
        lines(("Threads and files", "Threads and open files of the control plane: a steady rise is a leak."), "none")
            .query(of("go_threads"), "threads {{component}}")
            .query(of("process_open_fds"), "files {{component}}"),
        lines(("Pauses", "Longest pause of the garbage collector, by component."), "s").query(
            format!(r#"max by (component) (go_gc_duration_seconds{{{CONTROL}, quantile="1"}})"#),
            "{{component}}",
        ),
    ]
}
