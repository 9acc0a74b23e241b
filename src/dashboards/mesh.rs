//! The mesh dashboard: the guide's two panels, "Request Rate" and "Error Rate", done right, and what one asks next.
//!
//! In: nothing. Out: a [`Dashboard`]. Rules of counting: rates, never raw counters; one reporter at a time, never the sum
//! of both; mTLS only from the called side, for the caller's proxy does not know it.

use serde_json::{Value, json};

use super::grafana::{
    CHOSEN, Choice, Dashboard, Defaults, FieldConfig, GridPosition, Panel, PanelKind, Range, SCHEMA_VERSION, Step,
    Target, Templating, Thresholds, Variable, VariableKind,
};

/// What every query selects: one view of the traffic to the chosen services and workloads.
const SELECTED: &str =
    r#"reporter=~"$reporter", destination_service_namespace=~"$namespace", destination_workload=~"$workload""#;
/// The same traffic as the called side sees it: the only one that knows about mTLS.
const CALLED_SIDE: &str = r#"reporter=~"destination|waypoint", destination_service_namespace=~"$namespace", destination_workload=~"$workload""#;
/// Failed: 5xx or no response; a gRPC call carries its failure under a 200.
const HTTP_FAILED: &str = r#"response_code=~"5..|0""#;
const GRPC_FAILED: &str = r#"grpc_response_status=~"2|4|12|13|14|15""#;

/// The dashboard of the whole mesh.
pub fn mesh() -> Dashboard {
    Dashboard {
        uid: "meshscope-istio-mesh",
        title: "Service Mesh Metrics",
        description: "Golden signals of an Istio mesh: rate, errors, latency, mTLS, response flags and the busiest edges.",
        tags: vec!["istio", "meshscope"],
        schema_version: SCHEMA_VERSION,
        editable: true,
        graph_tooltip: 1,
        refresh: "30s",
        time: Range { from: "now-1h", to: "now" },
        timezone: "browser",
        templating: Templating { list: variables() },
        panels: panels(),
    }
}

fn variables() -> Vec<Variable> {
    let query = |name, label, description, query: &str| Variable {
        name,
        label,
        description,
        kind: VariableKind::Query,
        query: query.to_owned(),
        datasource: Some(CHOSEN),
        refresh: 2,
        sort: 1,
        multi: true,
        include_all: true,
        all_value: Some(".*"),
        current: Some(Choice { text: "All".to_owned(), value: "$__all".to_owned(), selected: true }),
        options: Vec::new(),
    };
    let views = [("client", "source|waypoint", true), ("server", "destination|waypoint", false)];
    let options: Vec<Choice> = views
        .iter()
        .map(|&(text, value, selected)| Choice { text: text.to_owned(), value: value.to_owned(), selected })
        .collect();
    vec![
        Variable {
            name: "datasource",
            label: "Data source",
            description: "Prometheus, or meshscope's Prometheus API",
            kind: VariableKind::Datasource,
            query: "prometheus".to_owned(),
            datasource: None,
            refresh: 1,
            sort: 0,
            multi: false,
            include_all: false,
            all_value: None,
            current: None,
            options: Vec::new(),
        },
        query(
            "namespace",
            "Namespace",
            "Namespace of the called service",
            "label_values(istio_requests_total, destination_service_namespace)",
        ),
        query(
            "workload",
            "Workload",
            "Called workload; `unknown` is a call that reached none",
            r#"label_values(istio_requests_total{destination_service_namespace=~"$namespace"}, destination_workload)"#,
        ),
        Variable {
            name: "reporter",
            label: "Seen by",
            description: "The client's view sees refused, timed out and injected calls; the server's view sees callers without a proxy. Never both: each call would count twice.",
            kind: VariableKind::Custom,
            query: "client : source|waypoint,server : destination|waypoint".to_owned(),
            datasource: None,
            refresh: 0,
            sort: 0,
            multi: false,
            include_all: false,
            all_value: None,
            current: options.first().cloned(),
            options,
        },
    ]
}

fn panels() -> Vec<Panel> {
    let [requests, errors, latency, mtls] = stats();
    let mut panels = vec![requests, errors, latency, mtls];
    panels.extend(signals());
    panels.extend(causes());
    panels.push(edges());
    for (index, panel) in (1_u32..).zip(&mut panels) {
        panel.id = index;
    }
    panels
}

/// The rate of failed calls by `labels`: both kinds of failure, each series once.
fn failed(labels: &str) -> String {
    format!(
        "sum by ({labels}) (rate(istio_requests_total{{{SELECTED}, {HTTP_FAILED}}}[$__rate_interval]) or rate(istio_requests_total{{{SELECTED}, {GRPC_FAILED}}}[$__rate_interval]))"
    )
}

fn requests(labels: &str) -> String {
    format!("sum by ({labels}) (rate(istio_requests_total{{{SELECTED}}}[$__rate_interval]))")
}

/// Failed calls as a share of all; 0, not nothing, where there is traffic and no failure.
fn error_share(labels: &str) -> String {
    let (failed, requests) = (failed(labels), requests(labels));
    format!("({failed} or 0 * {requests}) / {requests}")
}

fn quantile(quantile: &str, labels: &str) -> String {
    let comma = if labels.is_empty() { "" } else { ", " };
    format!(
        "histogram_quantile({quantile}, sum by (le{comma}{labels}) (rate(istio_request_duration_milliseconds_bucket{{{SELECTED}}}[$__rate_interval])))"
    )
}

fn mtls_share(labels: &str) -> String {
    let rate =
        |also: &str| format!("sum by ({labels}) (rate(istio_requests_total{{{CALLED_SIDE}{also}}}[$__rate_interval]))");
    let (secured, all) = (rate(r#", connection_security_policy="mutual_tls""#), rate(""));
    format!("({secured} or 0 * {all}) / {all}")
}

fn stats() -> [Panel; 4] {
    let bad_above =
        |degraded, failing| vec![step("green", None), step("orange", Some(degraded)), step("red", Some(failing))];
    [
        stat(
            ("Requests", "Requests a second now, HTTP and gRPC."),
            ("reqps", at(0, 0, 6, 4)),
            requests(""),
            vec![step("blue", None)],
        ),
        stat(
            (
                "Errors",
                "Share of requests that failed now: 5xx, no response, or a gRPC status that is the server's fault.",
            ),
            ("percentunit", at(6, 0, 6, 4)),
            error_share(""),
            bad_above(0.001, 0.1),
        ),
        stat(
            ("Latency p95", "Nineteen of twenty requests are faster than this."),
            ("ms", at(12, 0, 6, 4)),
            quantile("0.95", ""),
            bad_above(500.0, 1_000.0),
        ),
        stat(
            (
                "mTLS share",
                "Share of requests that arrive over mutual TLS, reported by the called side whatever `Seen by` says: a caller's proxy does not know.",
            ),
            ("percentunit", at(18, 0, 6, 4)),
            mtls_share(""),
            vec![step("red", None), step("orange", Some(0.95)), step("green", Some(1.0))],
        ),
    ]
}

fn signals() -> [Panel; 3] {
    let by = "destination_service_name, destination_service_namespace";
    let name = "{{destination_service_name}}.{{destination_service_namespace}}";
    [
        lines(
            ("Request Rate", "Requests a second by called service."),
            ("reqps", at(0, 4, 12, 9)),
            vec![target("A", requests(by), name)],
        ),
        lines(
            (
                "Error Rate",
                "Share of requests to each service that failed: 5xx, no response (code 0), or a gRPC status that is the server's fault. Injected faults are included: see Response flags.",
            ),
            ("percentunit", at(12, 4, 12, 9)),
            vec![target("A", error_share(by), name)],
        ),
        lines(
            (
                "Latency",
                "Duration of the whole request, over all chosen services. Pods with their own histogram buckets distort it.",
            ),
            ("ms", at(0, 13, 12, 9)),
            vec![
                target("A", quantile("0.50", ""), "p50"),
                target("B", quantile("0.95", ""), "p95"),
                target("C", quantile("0.99", ""), "p99"),
            ],
        ),
    ]
}

fn causes() -> [Panel; 3] {
    [
        when_empty(
            "no flags: nothing was refused, lost or changed",
            lines(
                (
                    "Response flags",
                    "Why proxies refused, lost or changed calls. UH: all hosts ejected. UO: circuit breaker limit. UF: connection failed. UC: upstream closed. UT: timeout. URX: retries used up. NR: no route. NC: no cluster. DC: caller hung up. DI, FI: fault injected.",
                ),
                ("reqps", at(12, 13, 12, 9)),
                vec![target(
                    "A",
                    format!(
                        r#"sum by (response_flags, destination_service_name) (rate(istio_requests_total{{{SELECTED}, response_flags!="-"}}[$__rate_interval])) > 0"#
                    ),
                    "{{response_flags}} {{destination_service_name}}",
                )],
            ),
        ),
        whole_share(lines(
            (
                "mTLS share by workload",
                "Share of requests to each workload over mutual TLS, as the called side reports. Below 100 % there are callers that STRICT would cut off.",
            ),
            ("percentunit", at(0, 22, 12, 8)),
            vec![target(
                "A",
                mtls_share("destination_workload, destination_workload_namespace"),
                "{{destination_workload}}.{{destination_workload_namespace}}",
            )],
        )),
        when_empty(
            "no TCP services are called",
            lines(
                (
                    "TCP traffic",
                    "Bytes a second of TCP services. Istio names the directions from the service: received is what clients sent.",
                ),
                ("Bps", at(12, 22, 12, 8)),
                vec![
                    target("A", bytes("istio_tcp_received_bytes_total"), "received {{destination_service_name}}"),
                    target("B", bytes("istio_tcp_sent_bytes_total"), "sent {{destination_service_name}}"),
                ],
            ),
        ),
    ]
}

fn bytes(metric: &str) -> String {
    format!("sum by (destination_service_name) (rate({metric}{{{SELECTED}}}[$__rate_interval]))")
}

/// The busiest edges with their errors and latency, joined by caller and called.
fn edges() -> Panel {
    let by = "source_workload, source_workload_namespace, destination_service_name, destination_service_namespace";
    let busiest = format!("topk(25, {})", requests(by));
    let table =
        |ref_id, expr: String| Target { instant: true, range: false, format: "table", ..target(ref_id, expr, "") };
    let column = |name: &str, title: &str, unit: &str| {
        json!({
            "matcher": { "id": "byName", "options": name },
            "properties": [{ "id": "displayName", "value": title }, { "id": "unit", "value": unit }],
        })
    };
    let panel = lines(
        (
            "Top edges",
            "The 25 busiest edges, caller to called service, with the share of failed requests and the 95th percentile of each.",
        ),
        ("short", at(0, 30, 24, 11)),
        vec![
            table("A", busiest.clone()),
            table("B", format!("{} and {busiest}", error_share(by))),
            table("C", format!("{} and {busiest}", quantile("0.95", by))),
        ],
    );
    Panel {
        kind: PanelKind::Table,
        options: json!({ "showHeader": true, "sortBy": [{ "displayName": "Requests", "desc": true }] }),
        transformations: vec![
            json!({ "id": "merge", "options": {} }),
            json!({ "id": "organize", "options": { "excludeByName": { "Time": true }, "indexByName": {
                "source_workload": 0, "source_workload_namespace": 1, "destination_service_name": 2,
                "destination_service_namespace": 3, "Value #A": 4, "Value #B": 5, "Value #C": 6,
            } } }),
        ],
        field_config: FieldConfig {
            overrides: vec![
                column("Value #A", "Requests", "reqps"),
                column("Value #B", "Errors", "percentunit"),
                column("Value #C", "p95", "ms"),
                column("source_workload", "Caller", "string"),
                column("source_workload_namespace", "Caller namespace", "string"),
                column("destination_service_name", "Service", "string"),
                column("destination_service_namespace", "Service namespace", "string"),
            ],
            defaults: Defaults { custom: json!({ "filterable": true }), ..panel.field_config.defaults },
        },
        ..panel
    }
}

/// Column, row, width, height.
const fn at(x: u32, y: u32, w: u32, h: u32) -> GridPosition {
    GridPosition { h, w, x, y }
}

const fn step(color: &'static str, value: Option<f64>) -> Step {
    Step { color, value }
}

fn target(ref_id: &'static str, expr: String, legend_format: &'static str) -> Target {
    Target { ref_id, expr, legend_format, datasource: CHOSEN, instant: false, range: true, format: "time_series" }
}

/// A panel of lines over time.
fn lines(
    (title, description): (&'static str, &'static str),
    (unit, grid_pos): (&'static str, GridPosition),
    targets: Vec<Target>,
) -> Panel {
    Panel {
        id: 0,
        title,
        description,
        kind: PanelKind::Timeseries,
        grid_pos,
        datasource: CHOSEN,
        targets,
        field_config: FieldConfig {
            defaults: Defaults {
                unit,
                min: Some(0.0),
                max: None,
                thresholds: Thresholds { mode: "absolute", steps: vec![step("green", None)] },
                no_value: "no samples: is the mesh scraped?",
                custom: json!({ "fillOpacity": 10, "lineWidth": 1, "showPoints": "never", "spanNulls": false }),
            },
            overrides: Vec::new(),
        },
        options: json!({
            "legend": { "displayMode": "table", "placement": "right", "showLegend": true, "calcs": ["mean", "max"] },
            "tooltip": { "mode": "multi", "sort": "desc" },
        }),
        transformations: Vec::new(),
    }
}

/// The same panel with other words when there is nothing to draw.
fn when_empty(no_value: &'static str, panel: Panel) -> Panel {
    let FieldConfig { defaults, overrides } = panel.field_config;
    Panel { field_config: FieldConfig { defaults: Defaults { no_value, ..defaults }, overrides }, ..panel }
}

/// The same panel with an axis from nothing to all. Not for errors: a share of a thousandth would be invisible.
fn whole_share(panel: Panel) -> Panel {
    let FieldConfig { defaults, overrides } = panel.field_config;
    Panel { field_config: FieldConfig { defaults: Defaults { max: Some(1.0), ..defaults }, overrides }, ..panel }
}

/// A panel of one number.
fn stat(
    words: (&'static str, &'static str),
    shape: (&'static str, GridPosition),
    expr: String,
    steps: Vec<Step>,
) -> Panel {
    let panel = lines(words, shape, vec![target("A", expr, "")]);
    Panel {
        kind: PanelKind::Stat,
        options: json!({
            "colorMode": "value", "graphMode": "area", "textMode": "value", "justifyMode": "auto",
            "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
        }),
        field_config: FieldConfig {
            defaults: Defaults {
                thresholds: Thresholds { mode: "absolute", steps },
                custom: Value::Object(serde_json::Map::new()),
                ..panel.field_config.defaults
            },
            overrides: Vec::new(),
        },
        ..panel
    }
}
