//! Traces and the service graph: who calls whom by spans and by proxies, which operations are slow or fail.

use super::super::{
    calls::graph,
    frame::{Board, any_of},
    grafana::{Dashboard, Panel},
    panel::{bad_above, blue, heatmap, lines, node_graph, stat, table},
};

const SERVED: &str = r#"span_kind="SPAN_KIND_SERVER", service=~"$service""#;
const NONE: &str = "no spans came: send OTLP to meshscope, or let Tempo make metrics of them";

/// See the module.
pub(in super::super) fn traces() -> Dashboard {
    let mut panels = overview();
    panels.extend(graphs());
    panels.extend(operations());
    Board {
        uid: "meshscope-traces",
        title: "Traces and service graph",
        description: "Who calls whom, by spans and by proxies, and which operations are slow or fail. Names are Tempo's.",
        tag: "traces",
        page: "/traces",
        variables: vec![any_of(
            ("service", "Service"),
            "Services that sent spans",
            "label_values(traces_spanmetrics_calls_total, service)",
        )],
    }
    .with(panels.into_iter().map(|panel| panel.when_empty(NONE)).collect())
}

fn rate(counter: &str, matchers: &str, by: &str) -> String {
    format!("sum by ({by}) (rate({counter}{{{matchers}}}[$__rate_interval]))")
}

fn failed(by: &str) -> String {
    let all = rate("traces_spanmetrics_calls_total", SERVED, by);
    let failed = rate("traces_spanmetrics_calls_total", &format!(r#"{SERVED}, status_code="STATUS_CODE_ERROR""#), by);
    format!("({failed} or 0 * {all}) / {all}")
}

fn quantile(quantile: &str, by: &str) -> String {
    let by = if by.is_empty() { "le".to_owned() } else { format!("le, {by}") };
    format!("histogram_quantile({quantile}, {})", rate("traces_spanmetrics_latency_bucket", SERVED, &by))
}

fn overview() -> Vec<Panel> {
    vec![
        stat(("Spans", "Spans of served calls a second: sampling keeps fewer than there are calls."), "ops", blue())
            .query(rate("traces_spanmetrics_calls_total", SERVED, ""), ""),
        stat(("Errors", "Share of them with an error."), "percentunit", bad_above(0.001, 0.1)).query(failed(""), ""),
        stat(("Duration p95", "Nineteen of twenty are faster."), "s", bad_above(0.5, 1.0))
            .query(quantile("0.95", ""), ""),
        stat(("Edges", "Pairs of services that call each other."), "none", blue())
            .query("count(count by (client, server) (traces_service_graph_request_total))", ""),
    ]
}

fn graphs() -> Vec<Panel> {
    let spans = r#"sum by (client, server) (rate(traces_service_graph_request_total[$__rate_interval]))"#;
    let proxies = r#"sum by (source_canonical_service, destination_canonical_service) (rate(istio_requests_total{reporter=~"source|waypoint"}[$__rate_interval]))"#;
    vec![
        node_graph(
            ("Service graph of spans", "Who calls whom, as spans say; numbers are sampled calls a second."),
            graph(spans, "client", "server"),
        ),
        node_graph(
            ("Service graph of proxies", "Who calls whom, as Istio's proxies say; numbers are calls a second, all of them."),
            graph(proxies, "source_canonical_service", "destination_canonical_service"),
        ),
        table(("Edges of the graph", "Caller and called: sampled calls, failures, p95 as the called side measures it."))
            .row("sum by (client, server) (rate(traces_service_graph_request_total[$__rate_interval]))")
            .row("sum by (client, server) (rate(traces_service_graph_request_failed_total[$__rate_interval]))")
            .row("histogram_quantile(0.95, sum by (le, client, server) (rate(traces_service_graph_request_server_seconds_bucket[$__rate_interval])))")
            .column("Value #A", "Calls", "reqps")
            .column("Value #B", "Failed", "reqps")
            .column("Value #C", "p95", "s")
            .column("client", "Caller", "string")
            .column("server", "Called", "string"),
    ]
}

fn operations() -> Vec<Panel> {
    let name = "{{service}}";
    vec![
        lines(("Spans by service", "Spans of served calls a second."), "ops")
            .query(rate("traces_spanmetrics_calls_total", SERVED, "service"), name),
        lines(("Errors by service", "Share of served calls with an error."), "percentunit")
            .query(failed("service"), name),
        lines(("p95 by service", "95th percentile of the duration; points are traces."), "s")
            .query(quantile("0.95", "service"), name)
            .exemplars(),
        heatmap(("Durations", "How many served calls took how long."), "s")
            .query(rate("traces_spanmetrics_latency_bucket", SERVED, "le"), "{{le}}"),
        table(("Operations", "The 25 busiest operations: calls, errors, p90."))
            .row(format!("topk(25, {})", rate("traces_spanmetrics_calls_total", SERVED, "service, span_name")))
            .row(failed("service, span_name"))
            .row(quantile("0.90", "service, span_name"))
            .column("Value #A", "Calls", "ops")
            .column("Value #B", "Errors", "percentunit")
            .column("Value #C", "p90", "s")
            .column("service", "Service", "string")
            .column("span_name", "Operation", "string"),
    ]
}
