//! One workload: what it is asked, what it asks of others, and what its proxy takes.

use super::super::{
    calls::Calls,
    frame::{Board, cluster_of, one_of, reporter},
    grafana::{Dashboard, Panel},
    panel::{bad_above, blue, lines, stat},
};

const INBOUND: &str = r#"destination_cluster=~"$cluster", destination_workload_namespace="$workload_namespace", destination_workload="$workload""#;
const OUTBOUND: &str =
    r#"source_cluster=~"$cluster", source_workload_namespace="$workload_namespace", source_workload="$workload""#;
const ASKED: Calls = Calls::chosen(INBOUND);
const ARRIVING: Calls = Calls::of_servers(INBOUND);
/// What it calls: its own proxy saw it, even where nobody answered.
const ASKING: Calls = Calls::of_clients(OUTBOUND);
const CALLER: &str = "source_workload, source_workload_namespace";
const CALLER_NAME: &str = "{{source_workload}}.{{source_workload_namespace}}";
const SERVICE: &str = "destination_service_name, destination_service_namespace";
const SERVICE_NAME: &str = "{{destination_service_name}}.{{destination_service_namespace}}";

/// See the module.
pub(in super::super) fn workload() -> Dashboard {
    let mut panels = overview();
    panels.extend(inbound());
    panels.extend(outbound());
    Board {
        uid: "meshscope-workload",
        title: "Mesh workload",
        description: "What one workload is asked, what it asks of others, and what its proxy takes.",
        tag: "istio",
        page: "/graph?range=1h&namespace=${workload_namespace}",
        variables: vec![
            cluster_of("Cluster of the workload"),
            one_of(
                ("workload_namespace", "Namespace"),
                "Namespace of the workload",
                r#"query_result(count by (namespace) (label_replace(istio_requests_total, "namespace", "$1", "destination_workload_namespace", "(.+)") or label_replace(istio_requests_total, "namespace", "$1", "source_workload_namespace", "(.+)")))"#,
            ),
            one_of(
                ("workload", "Workload"),
                "The workload",
                r#"label_values(istio_requests_total{destination_workload_namespace="$workload_namespace"}, destination_workload)"#,
            ),
            reporter(),
        ],
    }
    .with(panels)
}

fn overview() -> Vec<Panel> {
    vec![
        stat(("Requests", "Requests a second that it is asked now."), "reqps", blue()).query(ASKED.requests(""), ""),
        stat(("Errors", "Share of them that failed."), "percentunit", bad_above(0.001, 0.1))
            .query(ASKED.error_share(""), ""),
        stat(("Its calls", "Requests a second that it makes now."), "reqps", blue()).query(ASKING.requests(""), ""),
        stat(("Errors of its calls", "Share of its own calls that failed."), "percentunit", bad_above(0.001, 0.1))
            .query(ASKING.error_share(""), ""),
    ]
}

fn inbound() -> Vec<Panel> {
    vec![
        lines(("Requests by caller", "Requests a second by calling workload; `unknown` has no proxy."), "reqps")
            .query(ASKED.requests(CALLER), CALLER_NAME),
        lines(("Errors by caller", "Share of each caller's requests that failed."), "percentunit")
            .query(ASKED.error_share(CALLER), CALLER_NAME),
        lines(("Latency", "Duration of what it is asked; points are traces of single requests."), "ms")
            .query(ASKED.quantile("0.50", ""), "p50")
            .query(ASKED.quantile("0.95", ""), "p95")
            .query(ASKED.quantile("0.99", ""), "p99")
            .exemplars(),
        lines(("mTLS share by caller", "Share over mutual TLS by calling workload."), "percentunit")
            .query(ARRIVING.mtls_share(CALLER), CALLER_NAME)
            .whole_share(),
        lines(("TCP received", "Bytes a second that TCP clients sent to it."), "Bps")
            .query(ASKED.rate("istio_tcp_received_bytes_total", "", CALLER), CALLER_NAME)
            .when_empty("it is not called over TCP"),
        lines(("TCP sent", "Bytes a second that it sent to TCP clients."), "Bps")
            .query(ASKED.rate("istio_tcp_sent_bytes_total", "", CALLER), CALLER_NAME)
            .when_empty("it is not called over TCP"),
    ]
}

fn outbound() -> Vec<Panel> {
    let pod = r#"namespace="$workload_namespace", pod=~"$workload-.*""#;
    vec![
        lines(("Calls by service", "Requests a second that it makes, by called service."), "reqps")
            .query(ASKING.requests(SERVICE), SERVICE_NAME)
            .when_empty("it calls nobody"),
        lines(("Errors of its calls by service", "Share of its calls to each service that failed."), "percentunit")
            .query(ASKING.error_share(SERVICE), SERVICE_NAME)
            .when_empty("it calls nobody"),
        lines(("p95 of its calls by service", "95th percentile of what it waits for each service."), "ms")
            .query(ASKING.quantile("0.95", SERVICE), SERVICE_NAME)
            .when_empty("it calls nobody"),
        lines(("Flags of its calls", "Why its calls were refused, lost or changed."), "reqps")
            .query(
                format!(
                    "{} > 0",
                    ASKING.rate(
                        "istio_requests_total",
                        r#"response_flags!="-""#,
                        "response_flags, destination_service_name"
                    )
                ),
                "{{response_flags}} {{destination_service_name}}",
            )
            .when_empty("no flags: nothing was refused, lost or changed"),
        lines(("Memory of its proxies", "What Envoy allocated, by pod."), "bytes")
            .query(format!("sum by (pod) (envoy_server_memory_allocated{{{pod}}})"), "{{pod}}")
            .when_empty("no proxy of it is scraped"),
        lines(("Certificates of its proxies", "Seconds until the certificate of each pod expires."), "s")
            .query(format!("min by (pod) (istio_agent_cert_expiry_seconds{{{pod}}})"), "{{pod}}")
            .when_empty("no proxy of it is scraped"),
    ]
}
