//! Mutual TLS and authorization: who still calls in plain text, who is denied, which certificates end.

use super::super::{
    calls::Calls,
    frame::{Board, cluster, namespace},
    grafana::{Dashboard, Panel},
    panel::{bad_above, bad_below, lines, stat, table},
};

const SELECTED: &str = r#"destination_cluster=~"$cluster", destination_service_namespace=~"$namespace""#;
/// Only the called side knows how it was called.
const ARRIVING: Calls = Calls::of_servers(SELECTED);
const PLAIN: &str = r#"connection_security_policy!="mutual_tls""#;
const EDGE: &str = "source_workload, source_workload_namespace, destination_workload, destination_workload_namespace";

/// See the module.
pub(in super::super) fn security() -> Dashboard {
    let mut panels = overview();
    panels.extend(plain_text());
    panels.extend(denied());
    panels.extend(certificates());
    Board {
        uid: "meshscope-security",
        title: "mTLS and authorization",
        description: "Who still calls in plain text (whom STRICT would cut off), who is denied, which certificates end.",
        tag: "istio",
        page: "/graph",
        variables: vec![cluster(), namespace()],
    }
    .with(panels)
}

fn overview() -> Vec<Panel> {
    let edges = format!("count({} > 0) or vector(0)", ARRIVING.rate("istio_requests_total", PLAIN, EDGE));
    vec![
        stat(("mTLS share", "Share of requests that arrive over mutual TLS."), "percentunit", bad_below(0.95, 1.0))
            .query(ARRIVING.mtls_share(""), ""),
        stat(("Edges in plain text", "Edges that STRICT would cut off."), "none", bad_above(1.0, 10.0))
            .query(edges, ""),
        stat(
            ("Denied", "Requests that are denied now, a second: 403, or gRPC status 7."),
            "reqps",
            bad_above(0.001, 1.0),
        )
        .query(
            format!(
                "({} or vector(0)) + ({} or vector(0))",
                ARRIVING.rate("istio_requests_total", r#"response_code="403""#, ""),
                ARRIVING.rate("istio_requests_total", r#"grpc_response_status="7""#, "")
            ),
            "",
        ),
        stat(
            ("Next certificate", "Seconds until the first certificate of a proxy expires."),
            "s",
            bad_below(3_600.0, 7_200.0),
        )
        .query("min(istio_agent_cert_expiry_seconds)", "")
        .when_empty("no proxy is scraped (port 15020)"),
    ]
}

fn plain_text() -> Vec<Panel> {
    let workload = "destination_workload, destination_workload_namespace";
    vec![
        lines(("mTLS share by workload", "Below 100 % somebody calls in plain text."), "percentunit")
            .query(ARRIVING.mtls_share(workload), "{{destination_workload}}.{{destination_workload_namespace}}")
            .whole_share(),
        lines(("By policy", "Requests a second by how they arrive: `none` is plain text, `unknown` is not reported."), "reqps")
            .query(ARRIVING.requests("connection_security_policy"), "{{connection_security_policy}}"),
        table((
            "Plain text edges",
            "Callers that STRICT would cut off; `unknown` has no proxy: give it one, or a PeerAuthentication for that port.",
        ))
        .row(format!("topk(50, {} > 0)", ARRIVING.rate("istio_requests_total", PLAIN, EDGE)))
        .column("Value", "Requests", "reqps")
        .column("source_workload", "Caller", "string")
        .column("source_workload_namespace", "Caller namespace", "string")
        .column("destination_workload", "Workload", "string")
        .column("destination_workload_namespace", "Namespace", "string")
        .when_empty("nobody calls in plain text"),
        table(("Identities", "Who calls as whom: the certificates of callers, by called workload."))
            .row(format!(
                "topk(50, {})",
                ARRIVING.rate(
                    "istio_requests_total",
                    r#"source_principal!="unknown""#,
                    "source_principal, destination_workload, destination_workload_namespace"
                )
            ))
            .column("Value", "Requests", "reqps")
            .column("source_principal", "Identity of the caller", "string")
            .column("destination_workload", "Workload", "string")
            .column("destination_workload_namespace", "Namespace", "string"),
    ]
}

fn denied() -> Vec<Panel> {
    let by = "source_workload, destination_workload";
    let name = "{{source_workload}} {{destination_workload}}";
    let none = "nothing is denied";
    vec![
        lines(("Denied by edge", "Requests that an AuthorizationPolicy denied (403), a second."), "reqps")
            .query(ARRIVING.rate("istio_requests_total", r#"response_code="403""#, by), name)
            .query(ARRIVING.rate("istio_requests_total", r#"grpc_response_status="7""#, by), name)
            .when_empty(none),
        lines(("Without a valid token", "Requests that a RequestAuthentication refused (401), a second."), "reqps")
            .query(ARRIVING.rate("istio_requests_total", r#"response_code="401""#, by), name)
            .when_empty(none),
        lines(("TCP in plain text", "TCP connections a second that arrive in plain text."), "ops")
            .query(ARRIVING.rate("istio_tcp_connections_opened_total", PLAIN, by), name)
            .when_empty("none arrives in plain text"),
        lines(("TCP by policy", "TCP connections a second by how they arrive."), "ops")
            .query(
                ARRIVING.rate("istio_tcp_connections_opened_total", "", "connection_security_policy"),
                "{{connection_security_policy}}",
            )
            .when_empty("no TCP services are called"),
    ]
}

fn certificates() -> Vec<Panel> {
    vec![
        lines(
            (
                "Certificates of proxies",
                "Seconds until the next certificate expires, by namespace; they are renewed at half their life.",
            ),
            "s",
        )
        .query("min by (namespace) (istio_agent_cert_expiry_seconds)", "{{namespace}}")
        .when_empty("no proxy is scraped (port 15020)"),
        lines(("Root certificate", "Seconds until istiod's root certificate expires."), "s")
            .query("min by (pod) (citadel_server_root_cert_expiry_timestamp) - time()", "{{pod}}")
            .when_empty("istiod is not scraped (port 15014)")
            .signed(),
    ]
}
