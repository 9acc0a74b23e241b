//! The mesh: the guide's two panels, "Request Rate" and "Error Rate", done right, and what one asks next.

use super::super::{
    calls::Calls,
    frame::{Board, any_of, cluster, namespace, reporter},
    grafana::{Dashboard, Panel},
    panel::{bad_above, bad_below, blue, lines, stat, table},
};

/// What every query selects.
const SELECTED: &str = r#"destination_cluster=~"$cluster", destination_service_namespace=~"$namespace", destination_workload=~"$workload""#;
const CALLS: Calls = Calls::chosen(SELECTED);
const ARRIVING: Calls = Calls::of_servers(SELECTED);
const BY_SERVICE: &str = "destination_service_name, destination_service_namespace";
const SERVICE: &str = "{{destination_service_name}}.{{destination_service_namespace}}";
const EDGE: &str =
    "source_workload, source_workload_namespace, destination_service_name, destination_service_namespace";

/// See the module.
pub(in super::super) fn mesh() -> Dashboard {
    let mut panels = overview();
    panels.extend(signals());
    panels.extend([edges(), workloads(), tcp_services(), versions()]);
    Board {
        uid: "meshscope-istio-mesh",
        title: "Service Mesh Metrics",
        description: "Golden signals of an Istio mesh: rate, errors, latency, mTLS, response flags and the busiest edges.",
        tag: "istio",
        page: "/graph",
        variables: vec![
            cluster(),
            namespace(),
            any_of(
                ("workload", "Workload"),
                "Called workload; `unknown` is a call that reached none",
                r#"label_values(istio_requests_total{destination_service_namespace=~"$namespace"}, destination_workload)"#,
            ),
            reporter(),
        ],
    }
    .with(panels)
}

fn overview() -> Vec<Panel> {
    vec![
        stat(("Requests", "Requests a second now, HTTP and gRPC."), "reqps", blue()).query(CALLS.requests(""), ""),
        stat(
            (
                "Errors",
                "Share of requests that failed now: 5xx, no response, or a gRPC status that is the server's fault.",
            ),
            "percentunit",
            bad_above(0.001, 0.1),
        )
        .query(CALLS.error_share(""), ""),
        stat(("Latency p95", "Nineteen of twenty requests are faster than this."), "ms", bad_above(500.0, 1_000.0))
            .query(CALLS.quantile("0.95", ""), ""),
        stat(
            (
                "mTLS share",
                "Share of requests that arrive over mutual TLS, reported by the called side whatever `Seen by` says: a caller's proxy does not know.",
            ),
            "percentunit",
            bad_below(0.95, 1.0),
        )
        .query(ARRIVING.mtls_share(""), ""),
    ]
}

fn signals() -> Vec<Panel> {
    let bytes = |counter| CALLS.rate(counter, "", "destination_service_name");
    vec![
        lines(("Request Rate", "Requests a second by called service."), "reqps").query(CALLS.requests(BY_SERVICE), SERVICE),
        lines(
            (
                "Error Rate",
                "Share of requests to each service that failed: 5xx, no response (code 0), or a gRPC status that is the server's fault. Injected faults are included: see Response flags.",
            ),
            "percentunit",
        )
        .query(CALLS.error_share(BY_SERVICE), SERVICE),
        lines(
            (
                "Latency",
                "Duration of the whole request, over all chosen services. Pods with their own histogram buckets distort it.",
            ),
            "ms",
        )
        .query(CALLS.quantile("0.50", ""), "p50")
        .query(CALLS.quantile("0.95", ""), "p95")
        .query(CALLS.quantile("0.99", ""), "p99")
        .exemplars(),
        lines(
            (
                "Response flags",
                "Why proxies refused, lost or changed calls. UH: all hosts ejected. UO: circuit breaker limit. UF: connection failed. UC: upstream closed. UT: timeout. URX: retries used up. NR: no route. NC: no cluster. DC: caller hung up. DI, FI: fault injected.",
            ),
            "reqps",
        )
        .query(
            format!(
                "{} > 0",
                CALLS.rate("istio_requests_total", r#"response_flags!="-""#, "response_flags, destination_service_name")
            ),
            "{{response_flags}} {{destination_service_name}}",
        )
        .when_empty("no flags: nothing was refused, lost or changed"),
        lines(
            (
                "mTLS share by workload",
                "Share of requests to each workload over mutual TLS, as the called side reports. Below 100 % there are callers that STRICT would cut off.",
            ),
            "percentunit",
        )
        .query(
            ARRIVING.mtls_share("destination_workload, destination_workload_namespace"),
            "{{destination_workload}}.{{destination_workload_namespace}}",
        )
        .whole_share(),
        lines(
            (
                "TCP traffic",
                "Bytes a second of TCP services. Istio names the directions from the service: received is what clients sent.",
            ),
            "Bps",
        )
        .query(bytes("istio_tcp_received_bytes_total"), "received {{destination_service_name}}")
        .query(bytes("istio_tcp_sent_bytes_total"), "sent {{destination_service_name}}")
        .when_empty("no TCP services are called"),
    ]
}

/// The busiest edges with their errors and latency, joined by caller and called.
fn edges() -> Panel {
    let busiest = format!("topk(25, {})", CALLS.requests(EDGE));
    table((
        "Top edges",
        "The 25 busiest edges, caller to called service, with the share of failed requests and the 95th percentile of each. A caller leads to the board of the edge, a service to its own.",
    ))
    .row(busiest.clone())
    .row(format!("{} and {busiest}", CALLS.error_share(EDGE)))
    .row(format!("{} and {busiest}", CALLS.quantile("0.95", EDGE)))
    .column("Value #A", "Requests", "reqps")
    .column("Value #B", "Errors", "percentunit")
    .column("Value #C", "p95", "ms")
    .leading(
        "source_workload",
        "Caller",
        "/d/meshscope-edge?${datasource:queryparam}&${__url_time_range}&var-source_namespace=${__data.fields.source_workload_namespace}&var-source=${__data.fields.source_workload}&var-service=${__data.fields.destination_service_name}",
    )
    .column("source_workload_namespace", "Caller namespace", "string")
    .leading(
        "destination_service_name",
        "Service",
        "/d/meshscope-service?${datasource:queryparam}&${__url_time_range}&var-service_namespace=${__data.fields.destination_service_namespace}&var-service=${__data.fields.destination_service_name}",
    )
    .column("destination_service_namespace", "Service namespace", "string")
}

fn workloads() -> Panel {
    let by = "destination_workload, destination_workload_namespace, destination_service";
    table((
        "HTTP and gRPC workloads",
        "Every called workload: requests, success, median, p90 and p99. `unknown` is a call that reached none.",
    ))
    .row(CALLS.requests(by))
    .row(format!("1 - {}", CALLS.error_share(by)))
    .row(CALLS.quantile("0.50", by))
    .row(CALLS.quantile("0.90", by))
    .row(CALLS.quantile("0.99", by))
    .column("Value #A", "Requests", "reqps")
    .column("Value #B", "Success", "percentunit")
    .column("Value #C", "p50", "ms")
    .column("Value #D", "p90", "ms")
    .column("Value #E", "p99", "ms")
    .column("destination_service", "Service", "string")
    .leading(
        "destination_workload",
        "Workload",
        "/d/meshscope-workload?${datasource:queryparam}&${__url_time_range}&var-workload_namespace=${__data.fields.destination_workload_namespace}&var-workload=${__data.fields.destination_workload}",
    )
    .column("destination_workload_namespace", "Namespace", "string")
}

fn tcp_services() -> Panel {
    let by = "destination_workload, destination_workload_namespace, destination_service";
    table(("TCP workloads", "Bytes a second of every workload called over TCP, from and to its clients."))
        .row(CALLS.rate("istio_tcp_received_bytes_total", "", by))
        .row(CALLS.rate("istio_tcp_sent_bytes_total", "", by))
        .column("Value #A", "From clients", "Bps")
        .column("Value #B", "To clients", "Bps")
        .sized(16, 8)
}

fn versions() -> Panel {
    table((
        "Istio components by version",
        "How many proxies, istiods and ztunnels run each version; more than one version of a kind is an upgrade under way or forgotten.",
    ))
    .row("sum by (component, tag) (istio_build)")
    .column("Value", "Running", "none")
    .column("component", "Component", "string")
    .column("tag", "Version", "string")
    .sized(8, 8)
}
