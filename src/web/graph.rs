//! The page of the service graph: who calls whom, how much, how well; a click shows one node or edge in detail.

use askama::Template;
use axum::extract::{Query, State as Shared};
use axum::response::Response;
use serde::Deserialize;

use super::drawing::{Drawing, draw, label};
use super::frame::{Frame, render};
use super::{State, error, format, range};
use crate::graph::{self, Connections, Edge, GraphOptions, MutualTlsEvidence, Node, Requests, ServiceGraph, View};

const RANGES: [&str; 5] = ["5m", "15m", "1h", "6h", "24h"];
const VIEWS: [(View, &str); 4] =
    [(View::Workload, "Workloads"), (View::App, "Apps"), (View::VersionedApp, "Versions"), (View::Service, "Services")];

/// What the URL says.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Asked {
    range: Option<String>,
    at: Option<String>,
    view: Option<String>,
    namespace: Option<String>,
    idle: Option<String>,
    select: Option<String>,
}

#[derive(Template)]
#[template(path = "graph.html")]
struct Page {
    frame: Frame,
    drawing: Drawing,
    totals: Vec<(&'static str, String)>,
    views: Vec<Choice>,
    ranges: Vec<Choice>,
    idle: Choice,
    namespaces: Vec<Choice>,
    edges: Vec<EdgeRow>,
    detail: Option<Detail>,
    empty: Option<String>,
    left_out: usize,
    link: String,
    live: bool,
    until: String,
}

/// One of several ways to look, as a link.
struct Choice {
    name: String,
    href: String,
    current: bool,
}

/// One edge as a row of the table.
struct EdgeRow {
    id: String,
    source: String,
    target: String,
    protocol: &'static str,
    health: &'static str,
    reason: String,
    rate: String,
    errors: String,
    p50: String,
    p95: String,
    p99: String,
    mtls: String,
    href: String,
}

/// What is selected.
struct Detail {
    title: String,
    kind: String,
    health: &'static str,
    reason: String,
    facts: Vec<(&'static str, String)>,
    outcomes: Vec<Outcome>,
    notes: Vec<String>,
    neighbours: Vec<EdgeRow>,
    explore: Option<String>,
    traces: Option<String>,
}

struct Outcome {
    what: String,
    words: String,
    share: String,
    width: f64,
    class: &'static str,
}

pub(super) async fn page(Shared(state): Shared<State>, Query(asked): Query<Asked>) -> Response {
    let now = state.clock.now();
    let range = range::Query { range: asked.range.clone(), at: asked.at.clone() };
    let range = match range.read("15m", now) {
        Ok(range) => range,
        Err(message) => return error::bad_request(&state, "graph", message),
    };
    let view = match asked.view.as_deref().filter(|view| !view.is_empty()).map(View::from_name) {
        None => View::default(),
        Some(Some(view)) => view,
        Some(None) => {
            let message = "view: use one of workload, app, versionedApp, service".to_owned();
            return error::bad_request(&state, "graph", message);
        }
    };
    let (minutes, warning) = state.archive.edges(range.from, range.to, now).await;
    let options = GraphOptions {
        view,
        include_idle: asked.idle.as_deref() == Some("1"),
        thresholds: state.thresholds,
        ..GraphOptions::new(range.from, range.to)
    };
    // A day of a large mesh is many minutes to add up.
    let built = tokio::task::spawn_blocking(move || graph::build(&minutes, &options)).await;
    let Ok(mut graph) = built else { return error::internal("the graph could not be built") };
    let namespaces = asked.namespaces(&graph);
    asked.keep_namespace(&mut graph);
    let page = Page {
        frame: Frame::new(&state, "graph").warn(warning),
        drawing: draw(&graph, asked.select.as_deref()),
        totals: totals(&graph),
        views: VIEWS.map(|(one, name)| asked.choice(name, "view", one.as_str(), one == view)).into(),
        ranges: RANGES.map(|text| asked.choice(text, "range", text, text == range.text)).into(),
        idle: asked.choice("Idle edges", "idle", if asked.idle.is_some() { "" } else { "1" }, asked.idle.is_some()),
        namespaces,
        edges: graph.edges.iter().map(|edge| asked.edge_row(edge, &graph)).collect(),
        detail: asked.detail(&graph),
        empty: graph.empty_because.clone(),
        left_out: graph.edges_left_out,
        link: asked.href("select", ""),
        live: range.live,
        until: range.to.to_string(),
    };
    render(&page)
}

fn totals(graph: &ServiceGraph) -> Vec<(&'static str, String)> {
    let totals = &graph.totals;
    let share = |share: Option<f64>| share.map_or_else(|| "–".to_owned(), format::percent);
    vec![
        ("Requests", format::rate(totals.rate)),
        ("Errors", share(totals.error_ratio)),
        ("Mutual TLS", share(totals.mtls_share)),
        ("Failing edges", totals.failed_edges.to_string()),
        ("Degraded edges", totals.degraded_edges.to_string()),
        ("Edges", totals.edges.to_string()),
    ]
}

impl Asked {
    /// This page's address with one parameter changed; an empty value removes it.
    fn href(&self, name: &str, value: &str) -> String {
        let own = [
            ("range", &self.range),
            ("at", &self.at),
            ("view", &self.view),
            ("namespace", &self.namespace),
            ("idle", &self.idle),
            ("select", &self.select),
        ];
        let kept = own.into_iter().filter(|(own, _)| *own != name).filter_map(|(own, v)| Some((own, v.as_deref()?)));
        let all: Vec<(&str, &str)> = kept.chain([(name, value)]).filter(|(_, value)| !value.is_empty()).collect();
        let url = reqwest::Url::parse_with_params("http://x/graph", all);
        url.map_or_else(
            |_| "/graph".to_owned(),
            |url| match url.query() {
                Some(query) if !query.is_empty() => format!("/graph?{query}"),
                _ => "/graph".to_owned(),
            },
        )
    }

    fn choice(&self, text: &str, name: &str, value: &str, current: bool) -> Choice {
        Choice { name: text.to_owned(), href: self.href(name, value), current }
    }

    fn namespaces(&self, graph: &ServiceGraph) -> Vec<Choice> {
        let mut names: Vec<&str> = graph.nodes.iter().filter_map(|node| node.namespace.as_deref()).collect();
        names.sort_unstable();
        names.dedup();
        let asked = self.namespace.as_deref().unwrap_or_default();
        let all = self.choice("All namespaces", "namespace", "", asked.is_empty());
        std::iter::once(all)
            .chain(names.iter().map(|name| self.choice(name, "namespace", name, *name == asked)))
            .collect()
    }

    /// Leaves the edges that begin or end in the namespace asked for.
    fn keep_namespace(&self, graph: &mut ServiceGraph) {
        let Some(asked) = self.namespace.as_deref().filter(|asked| !asked.is_empty()) else { return };
        let inside: std::collections::HashSet<_> = graph
            .nodes
            .iter()
            .filter(|node| node.namespace.as_deref() == Some(asked))
            .map(|node| node.id.clone())
            .collect();
        graph.edges.retain(|edge| inside.contains(&edge.source) || inside.contains(&edge.target));
        let near: std::collections::HashSet<_> =
            graph.edges.iter().flat_map(|edge| [edge.source.clone(), edge.target.clone()]).collect();
        graph.nodes.retain(|node| near.contains(&node.id));
        if graph.edges.is_empty() && graph.empty_because.is_none() {
            graph.empty_because = Some(format!("No edge begins or ends in the namespace {asked:?} in this range."));
        }
    }

    fn edge_row(&self, edge: &Edge, graph: &ServiceGraph) -> EdgeRow {
        let name = |id: &str| graph.node(id).map(label).unwrap_or_default();
        let latency = edge.requests.as_ref().map(|requests| requests.latency).unwrap_or_default();
        let rate = match (&edge.requests, &edge.connections) {
            (Some(requests), _) => format::rate(requests.rate),
            (None, Some(c)) => format::bytes_rate(c.sent_bytes_per_second + c.received_bytes_per_second),
            (None, None) => "idle".to_owned(),
        };
        EdgeRow {
            id: edge.id.to_string(),
            source: name(&edge.source),
            target: name(&edge.target),
            protocol: edge.protocol.as_str(),
            health: edge.health.status.as_str(),
            reason: edge.health.reason.clone(),
            rate,
            errors: edge.requests.as_ref().map_or_else(|| "–".to_owned(), |r| format::percent(r.error_ratio)),
            p50: format::latency(latency.p50_ms),
            p95: format::latency(latency.p95_ms),
            p99: format::latency(latency.p99_ms),
            mtls: edge.mtls.share.map_or_else(|| "?".to_owned(), format::percent),
            href: self.href("select", &edge.id),
        }
    }

    fn detail(&self, graph: &ServiceGraph) -> Option<Detail> {
        let id = self.select.as_deref().filter(|id| !id.is_empty())?;
        if let Some(node) = graph.node(id) {
            return Some(self.node_detail(node, graph));
        }
        if let Some(edge) = graph.edge(id) {
            return Some(self.edge_detail(edge, graph));
        }
        Some(Detail {
            title: "Not in this range".to_owned(),
            kind: String::new(),
            health: "idle",
            reason: "What this address selects had no traffic in the range shown.".to_owned(),
            facts: vec![],
            outcomes: vec![],
            notes: vec!["Choose a longer range, or show idle edges.".to_owned()],
            neighbours: vec![],
            explore: None,
            traces: None,
        })
    }

    fn node_detail(&self, node: &Node, graph: &ServiceGraph) -> Detail {
        let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "–".to_owned(), format::percent);
        let mut facts = vec![
            ("Requests in", format::rate(node.inbound.rate)),
            ("Errors in", ratio(node.inbound.error_ratio)),
            ("Requests out", format::rate(node.outbound.rate)),
            ("Errors out", ratio(node.outbound.error_ratio)),
            ("Bytes in", format::bytes_rate(node.inbound.bytes_per_second)),
        ];
        facts.extend(node.namespace.as_ref().map(|namespace| ("Namespace", namespace.to_string())));
        facts.extend(node.version.as_ref().map(|version| ("Version", version.to_string())));
        facts.extend(node.cluster.as_ref().map(|cluster| ("Cluster", cluster.to_string())));
        let touches = |edge: &&Edge| edge.source == node.id || edge.target == node.id;
        Detail {
            title: label(node),
            kind: node.kind.as_str().to_owned(),
            health: node.health.status.as_str(),
            reason: node.health.reason.clone(),
            facts,
            outcomes: vec![],
            notes: vec![],
            neighbours: graph.edges.iter().filter(touches).map(|edge| self.edge_row(edge, graph)).collect(),
            explore: Some(explore_link(&format!(
                "sum by (response_code) (rate(istio_requests_total{{reporter=~\"source|waypoint\",destination_workload={:?}}}[1m]))",
                &*node.name
            ))),
            traces: node.app.as_ref().map(|app| traces_link(app, node.namespace.as_deref())),
        }
    }

    fn edge_detail(&self, edge: &Edge, graph: &ServiceGraph) -> Detail {
        let name = |id: &str| graph.node(id).map(label).unwrap_or_default();
        let mut facts = Vec::new();
        if let Some(requests) = &edge.requests {
            facts.extend(request_facts(requests));
        }
        if let Some(connections) = &edge.connections {
            facts.extend(connection_facts(connections));
        }
        facts.push(("Mutual TLS", mutual_tls(edge)));
        facts.push(("Reported by", edge.reporters.iter().map(|r| r.as_str()).collect::<Vec<_>>().join(", ")));
        facts.push(("Seen in", edge.evidence.as_str().to_owned()));
        facts.extend(edge.retry_amplification.map(|times| ("Tries per request", format!("{times:.2}"))));
        let principals = |list: &[std::sync::Arc<str>]| list.iter().map(|p| &**p).collect::<Vec<_>>().join(", ");
        facts.extend(
            Some(principals(&edge.source_principals)).filter(|p| !p.is_empty()).map(|p| ("Caller identity", p)),
        );
        let outcomes = edge.requests.as_ref().map(|r| &r.outcomes).or(edge.connections.as_ref().map(|c| &c.failures));
        let target = graph.node(&edge.target);
        Detail {
            title: format!("{} → {}", name(&edge.source), name(&edge.target)),
            kind: edge.protocol.as_str().to_owned(),
            health: edge.health.status.as_str(),
            reason: edge.health.reason.clone(),
            facts,
            outcomes: outcomes.into_iter().flatten().take(12).map(outcome).collect(),
            notes: edge.disagreement.iter().cloned().collect(),
            neighbours: vec![],
            explore: target.map(|target| {
                explore_link(&format!(
                    "histogram_quantile(0.95, sum by (le) (rate(istio_request_duration_milliseconds_bucket{{reporter=~\"source|waypoint\",destination_workload={:?}}}[1m])))",
                    &*target.name
                ))
            }),
            traces: target.and_then(|target| Some(traces_link(target.app.as_deref()?, target.namespace.as_deref()))),
        }
    }
}

fn request_facts(requests: &Requests) -> Vec<(&'static str, String)> {
    let latency = &requests.latency;
    let mut facts = vec![
        ("Requests", format::rate(requests.rate)),
        ("Errors", format::percent(requests.error_ratio)),
        ("4xx", format::percent(requests.client_error_ratio)),
        ("p50", format::latency(latency.p50_ms)),
        ("p95", format::latency(latency.p95_ms)),
        ("p99", format::latency(latency.p99_ms)),
    ];
    if requests.injected > 0.0 {
        facts.push(("Faults injected", format::percent(requests.injected / requests.count.max(1.0))));
    }
    if latency.first_byte {
        facts.push(("Latency is", "to the first byte (Linkerd)".to_owned()));
    }
    facts
}

fn connection_facts(connections: &Connections) -> Vec<(&'static str, String)> {
    vec![
        ("Connections opened", format::rate(connections.opened_rate)),
        ("Connections failed", format::number(connections.failed)),
        ("Sent", format::bytes_rate(connections.sent_bytes_per_second)),
        ("Received", format::bytes_rate(connections.received_bytes_per_second)),
    ]
}

fn mutual_tls(edge: &Edge) -> String {
    let share = edge.mtls.share.map(format::percent);
    match (share, edge.mtls.evidence) {
        (Some(share), MutualTlsEvidence::Reported) => format!("{share}, reported by the called side"),
        (Some(share), MutualTlsEvidence::Principal) => format!("{share}, by the identity that the caller saw"),
        _ => "not known: the caller's proxy does not report it".to_owned(),
    }
}

fn outcome(share: &graph::OutcomeShare) -> Outcome {
    let mut what = share.outcome.code.to_string();
    if !share.outcome.grpc_status.is_empty() {
        what = format!("{what} grpc {}", share.outcome.grpc_status);
    }
    if !["", "-"].contains(&&*share.outcome.flags) {
        what = format!("{what} {}", share.outcome.flags);
    }
    Outcome {
        what,
        words: share.words.clone().unwrap_or_default(),
        share: format::percent(share.share),
        width: (share.share * 100.0).clamp(1.0, 100.0),
        class: if share.class.is_error() { "failure" } else { "" },
    }
}

fn explore_link(query: &str) -> String {
    link("explore", &[("query", query)])
}

fn traces_link(app: &str, namespace: Option<&str>) -> String {
    let service = namespace.map_or_else(|| app.to_owned(), |namespace| format!("{app}.{namespace}"));
    link("traces", &[("service", &service)])
}

fn link(page: &str, parameters: &[(&str, &str)]) -> String {
    let url = reqwest::Url::parse_with_params("http://x/", parameters);
    let query = url.ok().and_then(|url| url.query().map(str::to_owned)).unwrap_or_default();
    format!("/{page}?{query}")
}
