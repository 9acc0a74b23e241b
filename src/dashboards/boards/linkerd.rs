//! Linkerd: golden signals as callers see them, mutual TLS, policy, the split by route, certificates.

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

/// See the module.
pub(in super::super) fn linkerd() -> Dashboard {
    let mut panels = overview();
    panels.extend(signals());
    panels.extend(policy());
    panels.extend(proxies());
    Board {
        uid: "meshscope-linkerd",
        title: "Linkerd mesh",
        description: "Golden signals of a Linkerd mesh, mutual TLS, policy, retries and certificates. Latency is the time to the first byte.",
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
    .with(panels.into_iter().map(|panel| panel.when_empty(NONE)).collect())
}

fn rate(counter: &str, matchers: &str, by: &str) -> String {
    format!("sum by ({by}) (rate({counter}{{{matchers}}}[$__rate_interval]))")
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
    ]
}
