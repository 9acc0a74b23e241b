//! One service: how it does, who calls it, which of its workloads answer, and which are at fault.

use super::super::{
    calls::Calls,
    frame::{Board, any_of, cluster, one_of, reporter},
    grafana::{Dashboard, Panel},
    panel::{bad_above, bad_below, blue, heatmap, lines, stat},
};

const SELECTED: &str = r#"destination_cluster=~"$cluster", destination_service_namespace="$service_namespace", destination_service_name="$service", source_workload_namespace=~"$source_namespace", source_workload=~"$source", destination_workload=~"$workload""#;
const CALLS: Calls = Calls::chosen(SELECTED);
const ARRIVING: Calls = Calls::of_servers(SELECTED);
const CALLER: &str = "source_workload, source_workload_namespace";
const CALLER_NAME: &str = "{{source_workload}}.{{source_workload_namespace}}";
const CALLED: &str = "destination_workload, destination_workload_namespace";
const CALLED_NAME: &str = "{{destination_workload}}.{{destination_workload_namespace}}";

/// See the module.
pub(in super::super) fn service() -> Dashboard {
    let mut panels = overview();
    panels.extend(by("callers", CALLER, CALLER_NAME));
    panels.extend(by("workloads", CALLED, CALLED_NAME));
    panels.extend(sizes());
    Board {
        uid: "meshscope-service",
        title: "Mesh service",
        description: "How one service does, who calls it, which of its workloads answer.",
        tag: "istio",
        page: "/graph?range=1h&namespace=${service_namespace}",
        variables: variables(),
    }
    .with(panels)
}

fn variables() -> Vec<super::super::grafana::Variable> {
    let of_service = |label: &str| {
        format!(
            r#"label_values(istio_requests_total{{destination_service_namespace="$service_namespace", destination_service_name="$service"}}, {label})"#
        )
    };
    vec![
        cluster(),
        one_of(
            ("service_namespace", "Namespace"),
            "Namespace of the service",
            "label_values(istio_requests_total, destination_service_namespace)",
        ),
        one_of(
            ("service", "Service"),
            "The service",
            r#"label_values({__name__=~"istio_requests_total|istio_tcp_connections_opened_total", destination_service_namespace="$service_namespace"}, destination_service_name)"#,
        ),
        any_of(
            ("source_namespace", "Caller namespace"),
            "Namespace of callers",
            &of_service("source_workload_namespace"),
        ),
        any_of(("source", "Caller"), "Callers; `unknown` has no proxy", &of_service("source_workload")),
        any_of(("workload", "Workload"), "Workloads behind the service", &of_service("destination_workload")),
        reporter(),
    ]
}

fn overview() -> Vec<Panel> {
    vec![
        stat(("Requests", "Requests a second now."), "reqps", blue()).query(CALLS.requests(""), ""),
        stat(("Errors", "Share of requests that failed now."), "percentunit", bad_above(0.001, 0.1))
            .query(CALLS.error_share(""), ""),
        stat(("Latency p95", "Nineteen of twenty requests are faster."), "ms", bad_above(500.0, 1_000.0))
            .query(CALLS.quantile("0.95", ""), ""),
        stat(("mTLS share", "Share of requests that arrive over mutual TLS."), "percentunit", bad_below(0.95, 1.0))
            .query(ARRIVING.mtls_share(""), ""),
        lines(("Requests by code", "Requests a second by response code; 0 is no response."), "reqps")
            .query(CALLS.requests("response_code"), "{{response_code}}"),
        lines(
            ("gRPC by status", "gRPC calls a second by status: 0 is OK, 14 is unavailable, 4 is a deadline passed."),
            "reqps",
        )
        .query(
            CALLS.rate("istio_requests_total", r#"request_protocol="grpc""#, "grpc_response_status"),
            "{{grpc_response_status}}",
        )
        .when_empty("no gRPC calls"),
        heatmap(
            (
                "Duration",
                "How many requests took how long; a second band is a second population, such as a cache miss.",
            ),
            "ms",
        )
        .query(CALLS.rate("istio_request_duration_milliseconds_bucket", "", "le"), "{{le}}"),
        lines(("Latency", "Duration of the whole request; points are traces of single requests."), "ms")
            .query(CALLS.quantile("0.50", ""), "p50")
            .query(CALLS.quantile("0.90", ""), "p90")
            .query(CALLS.quantile("0.95", ""), "p95")
            .query(CALLS.quantile("0.99", ""), "p99")
            .exemplars(),
    ]
}

/// Rate, errors, latency and mutual TLS, by the one side or the other.
fn by(side: &'static str, labels: &str, name: &'static str) -> Vec<Panel> {
    let [rate, errors, latency, mtls] = if side == "callers" {
        [
            ("Requests by caller", "Requests a second by calling workload; `unknown` has no proxy."),
            ("Errors by caller", "Share of each caller's requests that failed."),
            ("p95 by caller", "95th percentile of the duration, by calling workload."),
            ("mTLS by caller", "Share over mutual TLS by calling workload, as the called side reports."),
        ]
    } else {
        [
            (
                "Requests by workload",
                "Requests a second by workload that answered; `unknown` is a call that reached none.",
            ),
            ("Errors by workload", "Share of requests to each workload that failed: is one version at fault?"),
            ("p95 by workload", "95th percentile of the duration, by workload that answered."),
            ("mTLS by workload", "Share over mutual TLS by workload that answered, as the called side reports."),
        ]
    };
    vec![
        lines(rate, "reqps").query(CALLS.requests(labels), name),
        lines(errors, "percentunit").query(CALLS.error_share(labels), name),
        lines(latency, "ms").query(CALLS.quantile("0.95", labels), name),
        lines(mtls, "percentunit").query(ARRIVING.mtls_share(labels), name).whole_share(),
    ]
}

fn sizes() -> Vec<Panel> {
    let bytes = |counter| CALLS.rate(counter, "", CALLER);
    let quantile = |histogram, quantile| CALLS.quantile_of(histogram, quantile, "");
    vec![
        lines(("Request size", "Bytes of requests: median and 95th percentile."), "bytes")
            .query(quantile("istio_request_bytes", "0.50"), "p50")
            .query(quantile("istio_request_bytes", "0.95"), "p95"),
        lines(("Response size", "Bytes of responses: median and 95th percentile."), "bytes")
            .query(quantile("istio_response_bytes", "0.50"), "p50")
            .query(quantile("istio_response_bytes", "0.95"), "p95"),
        lines(("TCP received by caller", "Bytes a second that TCP clients sent to the service."), "Bps")
            .query(bytes("istio_tcp_received_bytes_total"), CALLER_NAME)
            .when_empty("the service is not called over TCP"),
        lines(("TCP sent by caller", "Bytes a second that the service sent to TCP clients."), "Bps")
            .query(bytes("istio_tcp_sent_bytes_total"), CALLER_NAME)
            .when_empty("the service is not called over TCP"),
    ]
}
