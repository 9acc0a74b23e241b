//! One edge, caller to called service: what both sides say of it, so that what is lost between them is seen.

use super::super::{
    calls::Calls,
    frame::{Board, cluster, one_of},
    grafana::{Dashboard, Panel},
    panel::{bad_above, bad_below, blue, heatmap, lines, stat},
};

const SELECTED: &str = r#"destination_cluster=~"$cluster", source_workload_namespace="$source_namespace", source_workload="$source", destination_service_name="$service""#;
const CALLER: Calls = Calls::of_clients(SELECTED);
const CALLED: Calls = Calls::of_servers(SELECTED);

/// See the module.
pub(in super::super) fn edge() -> Dashboard {
    let calls_of_source =
        r#"istio_requests_total{source_workload_namespace="$source_namespace", source_workload="$source"}"#;
    let mut panels = overview();
    panels.extend(details());
    Board {
        uid: "meshscope-edge",
        title: "Mesh edge",
        description: "One caller and one called service: what both sides say of it, and what is lost between them.",
        tag: "istio",
        page: "/graph?range=1h&namespace=${source_namespace}",
        variables: vec![
            cluster(),
            one_of(
                ("source_namespace", "Caller namespace"),
                "Namespace of the caller",
                "label_values(istio_requests_total, source_workload_namespace)",
            ),
            one_of(
                ("source", "Caller"),
                "The calling workload; `unknown` has no proxy",
                r#"label_values(istio_requests_total{source_workload_namespace="$source_namespace"}, source_workload)"#,
            ),
            one_of(
                ("service", "Service"),
                "The called service",
                &format!("label_values({calls_of_source}, destination_service_name)"),
            ),
        ],
    }
    .with(panels)
}

fn overview() -> Vec<Panel> {
    vec![
        stat(("Requests", "Requests a second as the caller sees them."), "reqps", blue())
            .query(CALLER.requests(""), ""),
        stat(("Errors", "Share of them that failed."), "percentunit", bad_above(0.001, 0.1))
            .query(CALLER.error_share(""), ""),
        stat(("Latency p95", "Nineteen of twenty are faster."), "ms", bad_above(500.0, 1_000.0))
            .query(CALLER.quantile("0.95", ""), ""),
        stat(("mTLS share", "Share that arrives over mutual TLS."), "percentunit", bad_below(0.95, 1.0))
            .query(CALLED.mtls_share(""), ""),
    ]
}

fn details() -> Vec<Panel> {
    vec![
        lines(
            (
                "Both sides",
                "Requests a second as either side counts them. The caller's line above the called one's: calls that never arrived (circuit breaker, connection failure). Below: retries.",
            ),
            "reqps",
        )
        .query(CALLER.requests(""), "sent by the caller")
        .query(CALLED.requests(""), "arrived"),
        lines(("Errors of both sides", "Failed requests a second as either side counts them."), "reqps")
            .query(format!("{} or 0 * {}", CALLER.failed(""), CALLER.requests("")), "seen by the caller")
            .query(format!("{} or 0 * {}", CALLED.failed(""), CALLED.requests("")), "seen by the called"),
        lines(("Latency of both sides", "95th percentile: the gap is what the network and the proxies add."), "ms")
            .query(CALLER.quantile("0.95", ""), "caller")
            .query(CALLED.quantile("0.95", ""), "called")
            .exemplars(),
        heatmap(("Duration", "How many requests took how long, as the caller sees it."), "ms")
            .query(CALLER.rate("istio_request_duration_milliseconds_bucket", "", "le"), "{{le}}"),
        lines(("Codes and flags", "Requests a second by response code and response flag, as the caller sees it."), "reqps")
            .query(CALLER.requests("response_code, response_flags"), "{{response_code}} {{response_flags}}"),
        lines(("By version", "Requests a second by workload that answered."), "reqps")
            .query(
                CALLER.requests("destination_workload, destination_version"),
                "{{destination_workload}} {{destination_version}}",
            ),
        lines(("Bytes", "Bytes a second of bodies, both ways."), "Bps")
            .query(CALLER.rate("istio_request_bytes_sum", "", ""), "requests")
            .query(CALLER.rate("istio_response_bytes_sum", "", ""), "responses"),
        lines(("TCP bytes", "Bytes a second when the service is called over TCP."), "Bps")
            .query(CALLER.rate("istio_tcp_received_bytes_total", "", ""), "from the caller")
            .query(CALLER.rate("istio_tcp_sent_bytes_total", "", ""), "to the caller")
            .when_empty("not called over TCP"),
    ]
}
