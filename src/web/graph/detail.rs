//! What the graph page says of its edges, and of the node or edge that is selected.
//!
//! In: the graph shown and the address. Out: rows and a panel of words and numbers, ready for the template.

use super::Address;
use crate::graph::walk::{self, Direction};
use crate::graph::{self, Connections, Edge, MutualTlsEvidence, Node, Requests, ServiceGraph};
use crate::model::access_log::party;
use crate::model::workload::MeshKind;
use crate::web::ask::{given, link};
use crate::web::drawing::{label, layers, source_mark};
use crate::web::format;
use crate::web::subject::rows::{edge_page, node_address};

/// Nodes to which ways are offered.
const WAYS_SHOWN: usize = 200;

/// How busy an edge is: its requests, or the bytes of its connections.
pub(super) fn busy(edge: &Edge) -> String {
    match (&edge.requests, &edge.connections) {
        (Some(requests), _) => format::rate(requests.rate),
        (None, Some(c)) => format::bytes_rate(c.sent_bytes_per_second + c.received_bytes_per_second),
        (None, None) => "idle".to_owned(),
    }
}

/// One edge as a row of the table.
pub(super) struct EdgeRow {
    pub(super) id: String,
    pub(super) source: String,
    pub(super) target: String,
    pub(super) protocol: &'static str,
    pub(super) health: &'static str,
    pub(super) reason: String,
    pub(super) rate: String,
    pub(super) errors: String,
    pub(super) p50: String,
    pub(super) p95: String,
    pub(super) p99: String,
    pub(super) mtls: String,
    pub(super) seen_in: &'static str,
    pub(super) href: String,
}

/// What is selected.
pub(super) struct Detail {
    pub(super) title: String,
    pub(super) kind: String,
    pub(super) health: &'static str,
    pub(super) reason: String,
    pub(super) facts: Vec<(&'static str, String)>,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) notes: Vec<String>,
    pub(super) neighbours: Vec<EdgeRow>,
    pub(super) explore: Option<String>,
    pub(super) traces: Option<String>,
    pub(super) logs: Option<String>,
    /// Its own page.
    pub(super) page: Option<String>,
    /// The graph of it and what is near, of a node.
    pub(super) focus: Option<String>,
    /// Nodes that its calls lead to, directly or through others, by id and name; and what a form that chooses one keeps.
    pub(super) ways: Vec<(String, String)>,
    pub(super) beside: Vec<(&'static str, String)>,
}

pub(super) struct Outcome {
    pub(super) what: String,
    pub(super) words: String,
    pub(super) share: String,
    pub(super) width: f64,
    pub(super) class: &'static str,
}

impl Address {
    /// An edge as a row.
    pub(super) fn edge_row(&self, edge: &Edge, graph: &ServiceGraph) -> EdgeRow {
        let name = |id: &str| graph.node(id).map(label).unwrap_or_default();
        let latency = edge.requests.as_ref().map(|requests| requests.latency).unwrap_or_default();
        EdgeRow {
            id: edge.id.to_string(),
            source: name(&edge.source),
            target: name(&edge.target),
            protocol: edge.protocol.as_str(),
            health: edge.health.status.as_str(),
            reason: edge.health.reason.clone(),
            rate: busy(edge),
            errors: edge.requests.as_ref().map_or_else(|| "–".to_owned(), |r| format::percent(r.error_ratio)),
            p50: format::latency(latency.p50_ms),
            p95: format::latency(latency.p95_ms),
            p99: format::latency(latency.p99_ms),
            mtls: edge.mtls.share.map_or_else(|| "?".to_owned(), format::percent),
            seen_in: source_mark(edge),
            href: self.href("select", &edge.id),
        }
    }

    /// What the address selects; `None` when it selects nothing.
    pub(super) fn detail(&self, graph: &ServiceGraph) -> Option<Detail> {
        let id = given(self.select.as_deref())?;
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
            logs: None,
            page: None,
            focus: None,
            ways: vec![],
            beside: vec![],
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
            explore: Some(explore_link(&requests_query(node, graph))),
            traces: node.app.as_ref().map(|app| traces_link(app, node.namespace.as_deref())),
            logs: Some(link("logs", &[("destination", &of_logs(node))])),
            page: node_address(node, self.range.as_deref(), self.at.as_deref()),
            focus: Some(self.href("focus", &node.id)),
            ways: ways(graph, &node.id),
            beside: {
                let from = ("way_from", node.id.to_string());
                self.beside(&["way_from", "way_to"]).into_iter().chain([from]).collect()
            },
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
        facts.push(("Share of the caller's calls", format::percent(edge.share_of_outbound)));
        facts.push(("Bytes", format::bytes_rate(edge.bytes_per_second())));
        facts.push(("Layers", layers(edge).to_owned()));
        facts.push(("Mutual TLS", mutual_tls(edge)));
        facts.push(("Reported by", edge.reporters.iter().map(|r| r.as_str()).collect::<Vec<_>>().join(", ")));
        facts.push(("Seen in", source_mark(edge).to_owned()));
        facts.extend(edge.retry_amplification.map(|times| ("Tries per request", format!("{times:.2}"))));
        let principals =
            |list: &[std::sync::Arc<str>]| list.iter().take(4).map(|p| &**p).collect::<Vec<_>>().join(", ");
        for (name, list) in
            [("Caller identity", &edge.source_principals), ("Called identity", &edge.destination_principals)]
        {
            facts.extend(Some(principals(list)).filter(|list| !list.is_empty()).map(|list| (name, list)));
        }
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
            explore: target.map(|target| explore_link(&latency_query(edge, target))),
            traces: target.and_then(|target| Some(traces_link(target.app.as_deref()?, target.namespace.as_deref()))),
            logs: graph.node(&edge.source).zip(target).map(|(source, target)| {
                let source = party(source.namespace.as_deref(), Some(&source.name));
                link("logs", &[("source", &source), ("destination", &of_logs(target))])
            }),
            page: Some(edge_page(&edge.id, self.range.as_deref(), self.at.as_deref())),
            focus: None,
            ways: vec![],
            beside: vec![],
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
        ("p90", format::latency(latency.p90_ms)),
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

/// Whether only Linkerd's proxies tell of an edge.
fn is_linkerd(edge: &Edge) -> bool {
    edge.meshes.contains(&MeshKind::Linkerd) && !edge.meshes.contains(&MeshKind::Istio)
}

/// The requests that a node answers, in PromQL.
fn requests_query(node: &Node, graph: &ServiceGraph) -> String {
    let mut touching = graph.edges.iter().filter(|edge| edge.source == node.id || edge.target == node.id).peekable();
    match touching.peek().is_some() && touching.all(is_linkerd) {
        true => format!(
            "sum by (classification, status_code) (rate(response_total{{direction=\"outbound\",dst_deployment={:?}}}[1m]))",
            &*node.name
        ),
        false => format!(
            "sum by (response_code) (rate(istio_requests_total{{reporter=~\"source|waypoint\",destination_workload={:?}}}[1m]))",
            &*node.name
        ),
    }
}

/// The 95th percentile of an edge's latency, in PromQL.
fn latency_query(edge: &Edge, target: &Node) -> String {
    let (bucket, own) = match is_linkerd(edge) {
        true => ("response_latency_ms_bucket", format!("direction=\"outbound\",dst_deployment={:?}", &*target.name)),
        false => (
            "istio_request_duration_milliseconds_bucket",
            format!("reporter=~\"source|waypoint\",destination_workload={:?}", &*target.name),
        ),
    };
    format!("histogram_quantile(0.95, sum by (le) (rate({bucket}{{{own}}}[1m])))")
}

fn explore_link(query: &str) -> String {
    link("explore", &[("query", query)])
}

/// What access logs call a node: by its service, which both sides of a call know.
fn of_logs(node: &Node) -> String {
    party(node.namespace.as_deref(), Some(node.app.as_deref().unwrap_or(&node.name)))
}

fn traces_link(app: &str, namespace: Option<&str>) -> String {
    let service = namespace.map_or_else(|| app.to_owned(), |namespace| format!("{app}.{namespace}"));
    link("traces", &[("service", &service)])
}

/// Nodes that the calls of a node lead to, nearest first.
fn ways(graph: &ServiceGraph, id: &str) -> Vec<(String, String)> {
    let mut reached: Vec<_> = walk::within(graph, id, graph.nodes.len(), Direction::Callees).into_iter().collect();
    reached.sort_by(|a, b| a.1.cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
    let named = |(id, hops): (std::sync::Arc<str>, usize)| {
        let name = (hops > 0).then(|| graph.node(&id).map(label)).flatten()?;
        Some((id.to_string(), name))
    };
    reached.into_iter().filter_map(named).take(WAYS_SHOWN).collect()
}
