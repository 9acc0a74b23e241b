//! What the views of PostgreSQL say: golden signals from minutes and hours of edges, for Grafana's PostgreSQL data source.
//!
//! The views are those of `docs/sql.md`; a test runs the queries as the role that may read nothing else.

use super::super::{
    frame::{Board, any_of, sql_source},
    grafana::{CHOSEN_SQL, Dashboard, Panel, Variable},
    panel::{bad_above, blue, lines, stat, table},
};

const NONE: &str = "no minute is stored: is the mesh scraped, and is this meshscope's database?";

/// See the module.
pub(in super::super) fn sql() -> Dashboard {
    let mut panels = overview();
    panels.extend(services());
    panels.extend([edges(), hours(), sides(), traces()]);
    let board = Board {
        uid: "meshscope-sql",
        title: "Mesh by SQL",
        description: "Golden signals from the views of meshscope's PostgreSQL: minutes of two days, hours of four hundred.",
        tag: "sql",
        page: "/graph",
        variables: vec![variable(
            ("namespace", "Namespace"),
            "Namespace of the called service",
            "SELECT DISTINCT service_namespace FROM red_1h WHERE service_namespace IS NOT NULL \
             UNION SELECT DISTINCT service_namespace FROM red_1m WHERE service_namespace IS NOT NULL",
        )],
    };
    let mut dashboard = board.with(panels.into_iter().map(|panel| panel.when_empty(NONE)).collect());
    // Nothing here asks a Prometheus: neither the first variable nor annotations.
    dashboard.templating.list[0] = sql_source();
    dashboard.annotations.list.clear();
    dashboard
}

/// Values that SQL gives. "All" stands for each of them, so that a query may say `IN ($name)`.
fn variable(name: (&'static str, &'static str), description: &'static str, query: &str) -> Variable {
    Variable { datasource: Some(CHOSEN_SQL), all_value: None, ..any_of(name, description, query) }
}

fn overview() -> Vec<Panel> {
    let of = |what: &str| {
        format!(
            "SELECT {what}\nFROM red_1m\nWHERE $__timeFilter(minute) AND protocol <> 'tcp' AND service_namespace IN ($namespace)"
        )
    };
    vec![
        stat(("Requests", "Requests of the time range."), "short", blue()).sql(&of("sum(requests) AS requests")),
        stat(
            ("Errors", "Share of them that failed; faults injected on purpose are none."),
            "percentunit",
            bad_above(0.001, 0.1),
        )
        .sql(&of("sum(errors) / nullif(sum(requests), 0) AS errors")),
        stat(("Latency p95", "Nineteen of twenty requests are faster than this."), "ms", bad_above(500.0, 1_000.0))
            .sql(&of("histogram_quantile(0.95, latency_sum(latency_bounds_ms, latency_counts)) AS p95")),
        stat(("Services", "Services that were called."), "none", blue())
            .sql(&of("count(DISTINCT (service_namespace, service)) AS services")),
    ]
}

fn services() -> Vec<Panel> {
    let by_minute = |value: &str| {
        format!(
            "SELECT minute AS time, service AS metric, {value}\nFROM red_1m\nWHERE $__timeFilter(minute) AND protocol <> 'tcp' AND service_namespace IN ($namespace)\nGROUP BY minute, service\nORDER BY minute"
        )
    };
    vec![
        lines(("Requests by service", "Requests a second."), "reqps").sql(&by_minute("sum(requests) / 60 AS value")),
        lines(("Errors by service", "Share of each service's requests that failed."), "percentunit")
            .sql(&by_minute("sum(errors) / nullif(sum(requests), 0) AS value")),
        lines(
            ("p95 by service", "95th percentile of the duration; the sum of the histograms, not a mean of quantiles."),
            "ms",
        )
        .sql(&by_minute("histogram_quantile(0.95, latency_sum(latency_bounds_ms, latency_counts)) AS value")),
        lines(("Bytes by service", "Bytes a second of requests and responses together."), "Bps")
            .sql(&by_minute("sum(request_bytes + response_bytes) / 60 AS value")),
    ]
}

fn edges() -> Panel {
    table(("Edges that fail", "Who is hurt: callers by failed requests, at most 50."))
        .sql(
            "SELECT source_namespace, source_workload, service_namespace, service, sum(requests) AS requests, sum(errors) AS errors,\n       \
             sum(errors) / nullif(sum(requests), 0) AS share\nFROM edge_red_1m\nWHERE $__timeFilter(minute) AND service_namespace IN ($namespace)\n\
             GROUP BY source_namespace, source_workload, service_namespace, service\nHAVING sum(errors) > 0\nORDER BY errors DESC\nLIMIT 50",
        )
        .column("source_namespace", "Caller namespace", "string")
        .column("source_workload", "Caller", "string")
        .column("service_namespace", "Namespace", "string")
        .column("service", "Service", "string")
        .column("requests", "Requests", "short")
        .column("errors", "Errors", "short")
        .column("share", "Share", "percentunit")
}

fn hours() -> Panel {
    lines(("Requests by hour", "Requests a second of each namespace by the hour: for weeks and months."), "reqps").sql(
        "SELECT hour AS time, service_namespace AS metric, sum(requests) / 3600 AS value\nFROM red_1h\n\
         WHERE $__timeFilter(hour) AND protocol <> 'tcp' AND service_namespace IN ($namespace)\n\
         GROUP BY hour, service_namespace\nORDER BY hour",
    )
}

fn sides() -> Panel {
    table((
        "Edges whose sides disagree",
        "What the caller's proxy and the called one's count, where they differ by more than a tenth: the network, or a proxy that is not scraped.",
    ))
    .sql(
        "SELECT source_workload, destination_workload, service,\n       \
         sum(requests) FILTER (WHERE reporter = 'source') AS caller, sum(requests) FILTER (WHERE reporter = 'destination') AS called\n\
         FROM edge_report_1m\nWHERE $__timeFilter(minute) AND service_namespace IN ($namespace)\n\
         GROUP BY source_workload, destination_workload, service\n\
         HAVING abs(sum(requests) FILTER (WHERE reporter = 'source') - sum(requests) FILTER (WHERE reporter = 'destination'))\n       \
         > 0.1 * sum(requests) FILTER (WHERE reporter = 'source')\nORDER BY caller DESC\nLIMIT 50",
    )
    .sized(12, 9)
    .column("source_workload", "Caller", "string")
    .column("destination_workload", "Called", "string")
    .column("service", "Service", "string")
    .column("caller", "As the caller saw", "short")
    .column("called", "As the called saw", "short")
}

fn traces() -> Panel {
    table(("Slow traces with errors", "The slowest traces of the time range with a failed span, at most 50."))
        .sql(
            "SELECT start_at, trace_id, root_service, root_name, duration_ms, span_count, error_count\nFROM span_search\n\
             WHERE batch_at >= $__timeFrom() AND $__timeFilter(start_at) AND error_count > 0\nORDER BY duration_ms DESC\nLIMIT 50",
        )
        .column("duration_ms", "Duration", "ms")
        .column("span_count", "Spans", "none")
        .column("error_count", "Errors", "none")
        .column("root_service", "Service", "string")
        .column("root_name", "Operation", "string")
        .leading("trace_id", "Trace", "${meshscope}/traces/${__value.text}")
}
