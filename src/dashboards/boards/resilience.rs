//! Circuit breaking, ejection, retries, timeouts, faults. What is not collected by default says so: absent is not zero.

use super::super::{
    calls::Calls,
    frame::{Board, cluster, namespace},
    grafana::{Dashboard, Panel},
    panel::{bad_above, lines, stat, table},
};

const SELECTED: &str = r#"destination_cluster=~"$cluster", destination_service_namespace=~"$namespace""#;
/// Refused by the caller's proxy, so only it knows.
const CALLS: Calls = Calls::of_clients(SELECTED);
const NOT_COLLECTED: &str =
    "not collected: opt in with proxyStatsMatcher (outlier_detection, circuit_breakers, upstream_rq)";
/// All clusters but that of the control plane.
const UPSTREAM: &str = r#"cluster_name!="xds-grpc", cluster_name!~"inbound.*|.*Cluster""#;

/// See the module.
pub(in super::super) fn resilience() -> Dashboard {
    let mut panels = overview();
    panels.extend(flags());
    panels.extend(clusters());
    Board {
        uid: "meshscope-resilience",
        title: "Circuit breaking and retries",
        description: "What circuit breakers refuse, which hosts are ejected, how much is retried, what times out, which faults are injected.",
        tag: "istio",
        page: "/graph",
        variables: vec![cluster(), namespace()],
    }
    .with(panels)
}

fn overview() -> Vec<Panel> {
    let now = |flags| format!("{} or vector(0)", CALLS.flagged(flags, ""));
    let number = |words| stat(words, "reqps", bad_above(0.001, 1.0));
    vec![
        number(("Refused", "Calls a second that circuit breakers refuse (UO).")).query(now("UO"), ""),
        number(("No healthy host", "Calls a second that find every host ejected (UH).")).query(now("UH"), ""),
        number(("Timed out", "Calls a second that waited too long (UT).")).query(now("UT"), ""),
        number(("Injected faults", "Calls a second that are delayed or aborted on purpose (DI, FI)."))
            .query(now("DI|FI"), ""),
    ]
}

fn flags() -> Vec<Panel> {
    let edge = "source_workload, destination_service_name";
    let name = "{{source_workload}} {{destination_service_name}}";
    let of = |words, flags: &str, empty| {
        lines(words, "reqps").query(format!("{} > 0", CALLS.flagged(flags, edge)), name).when_empty(empty)
    };
    vec![
        of(
            (
                "Circuit breaker refusals",
                "Calls a second refused because a pool was full or all hosts were ejected (UO, UH).",
            ),
            "UO|UH",
            "nothing is refused",
        ),
        of(
            ("Connection failures", "Calls a second whose connection failed or was cut (UF, UC)."),
            "UF|UC",
            "all connections hold",
        ),
        of(("Timeouts", "Calls a second that waited longer than the route allows (UT)."), "UT", "nothing times out"),
        of(
            ("Retries used up", "Calls a second that failed after their last try (URX)."),
            "URX",
            "no retries are used up",
        ),
        of(
            (
                "Injected faults by edge",
                "Calls a second that are delayed or aborted on purpose (DI, FI): is a test left on?",
            ),
            "DI|FI",
            "no faults are injected",
        ),
        of(
            ("Callers that hung up", "Calls a second whose caller went away (DC): often its own timeout is shorter."),
            "DC",
            "nobody hung up",
        ),
    ]
}

fn clusters() -> Vec<Panel> {
    let rate = |counter: &str| format!("sum by (app, cluster_name) (rate({counter}{{{UPSTREAM}}}[$__rate_interval]))");
    let name = "{{app}} {{cluster_name}}";
    let panels = vec![
        lines(("Open circuit breakers", "Proxies whose circuit breaker is open now, by called cluster."), "none")
            .query(
                format!(
                    "sum by (cluster_name) (envoy_cluster_circuit_breakers_default_rq_pending_open{{{UPSTREAM}}}) > 0"
                ),
                "pending {{cluster_name}}",
            )
            .query(
                format!("sum by (cluster_name) (envoy_cluster_circuit_breakers_default_rq_open{{{UPSTREAM}}}) > 0"),
                "requests {{cluster_name}}",
            )
            .query(
                format!("sum by (cluster_name) (envoy_cluster_circuit_breakers_default_cx_open{{{UPSTREAM}}}) > 0"),
                "connections {{cluster_name}}",
            ),
        lines(("Overflow", "Requests a second that found the pool full, by caller and cluster."), "reqps")
            .query(rate("envoy_cluster_upstream_rq_pending_overflow"), name),
        lines(
            ("Ejected hosts", "Hosts taken out by outlier detection, as the proxy that ejects most sees it."),
            "none",
        )
        .query(
            format!("max by (cluster_name) (envoy_cluster_outlier_detection_ejections_active{{{UPSTREAM}}})"),
            "{{cluster_name}}",
        ),
        lines(("Ejections", "Hosts taken out a second, by caller and cluster."), "ops")
            .query(rate("envoy_cluster_outlier_detection_ejections_enforced_total"), name),
        lines(("Retries", "Requests sent again a second, by caller and cluster."), "reqps")
            .query(rate("envoy_cluster_upstream_rq_retry"), name),
        lines(
            ("Retry limits", "Retries a second that a budget or limit refused, and requests past their timeout."),
            "reqps",
        )
        .query(rate("envoy_cluster_upstream_rq_retry_overflow"), "budget {{app}} {{cluster_name}}")
        .query(rate("envoy_cluster_upstream_rq_timeout"), "timeout {{app}} {{cluster_name}}"),
        table((
            "Healthy hosts",
            "Hosts of each called cluster and how many of them are healthy, as the worst-off proxy sees it.",
        ))
        .row(format!("min by (cluster_name) (envoy_cluster_membership_healthy{{{UPSTREAM}}})"))
        .row(format!("max by (cluster_name) (envoy_cluster_membership_total{{{UPSTREAM}}})"))
        .column("Value #A", "Healthy", "none")
        .column("Value #B", "Hosts", "none")
        .column("cluster_name", "Cluster", "string"),
    ];
    panels.into_iter().map(|panel| panel.when_empty(NOT_COLLECTED)).collect()
}
