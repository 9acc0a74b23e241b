//! What one node or edge did over a range: window by window, inbound and outbound, by version, by code and flag.
//!
//! In: sums of edges by window and how a node is told. Out: [`Story`]. Pure.

use std::sync::Arc;

use crate::graph::{self, Edge, GraphOptions, Node, NodeKind, OutcomeShare, ServiceGraph};
use crate::model::workload::LatencyHistogram;
use crate::model::{EdgeMinute, Timestamp};

/// From this many sums on, windows are built from those only that name the subject.
const SUMS_ALL: usize = 5_000;

/// Whose page it is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Subject {
    /// A service of a namespace.
    Service(Option<String>, String),
    /// A workload of a namespace.
    Workload(Option<String>, String),
    /// An edge, by its id.
    Edge(String),
}

/// What the subject did in one window.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    pub(super) from: Timestamp,
    /// Whether the mesh was seen then: before its first traffic nothing is known.
    pub(super) known: bool,
    pub(super) rate_in: f64,
    pub(super) rate_out: f64,
    /// `None` without requests.
    pub(super) error_ratio: Option<f64>,
    pub(super) bytes: f64,
    pub(super) histogram: LatencyHistogram,
}

/// One version of the called, and its part of the requests.
pub(super) struct Version {
    pub(super) node: Node,
    pub(super) rate: f64,
    pub(super) share: f64,
    pub(super) error_ratio: f64,
    pub(super) p95_ms: Option<f64>,
}

/// All that a page tells.
pub(super) struct Story {
    /// The graph of the whole range, in which the subject is.
    pub(super) graph: ServiceGraph,
    /// Id of the subject there.
    pub(super) id: Arc<str>,
    /// Edges that carry calls to it (the edge itself, of an edge).
    pub(super) inbound: Vec<Edge>,
    /// Edges that carry its calls.
    pub(super) outbound: Vec<Edge>,
    pub(super) windows: Vec<Window>,
    pub(super) versions: Vec<Version>,
    /// How requests to it ended, most first.
    pub(super) outcomes: Vec<OutcomeShare>,
}

impl Subject {
    fn view(&self) -> graph::View {
        match self {
            Self::Service(..) => graph::View::Service,
            Self::Workload(..) => graph::View::Workload,
            Self::Edge(id) if id.starts_with("app:") => graph::View::App,
            Self::Edge(id) if id.contains(">service:") && !id.starts_with("workload:") => graph::View::Service,
            Self::Edge(_) => graph::View::Workload,
        }
    }

    /// Its id in a graph; `None` when it has no traffic there.
    fn find(&self, graph: &ServiceGraph) -> Option<Arc<str>> {
        let named = |node: &&Node, namespace: &Option<String>, name: &str| {
            *node.name == *name && node.namespace.as_deref() == namespace.as_deref()
        };
        match self {
            Self::Edge(id) => graph.edge(id).map(|edge| Arc::clone(&edge.id)),
            Self::Service(namespace, name) | Self::Workload(namespace, name) => {
                let mut fitting = graph.nodes.iter().filter(|node| named(node, namespace, name));
                let is_workload = |node: &&Node| node.id.starts_with("workload:");
                let found = match self {
                    Self::Workload(..) => fitting.find(is_workload),
                    _ => fitting.next(),
                };
                found.map(|node| Arc::clone(&node.id))
            }
        }
    }

    /// The names by which sums that concern it can be told.
    fn names(&self, graph: &ServiceGraph, id: &str) -> Vec<String> {
        let mut names = Vec::new();
        let ends = graph.edge(id).map_or_else(|| vec![id], |edge| vec![&*edge.source, &*edge.target]);
        for node in ends.into_iter().filter_map(|id| graph.node(id)) {
            names.push(node.name.to_string());
            names.extend(node.app.as_deref().map(str::to_owned));
        }
        names
    }
}

/// Tells the story; `None` when the subject has no traffic in the range. `bounds` are those of the windows.
pub(super) fn tell(
    subject: &Subject,
    sums: &[EdgeMinute],
    bounds: &[Timestamp],
    options: GraphOptions,
) -> Option<Story> {
    let options = GraphOptions { view: subject.view(), ..options };
    let graph = graph::build(sums, &options);
    let id = subject.find(&graph)?;
    let of = |graph: &ServiceGraph| sides(graph, &id);
    let (inbound, outbound) = of(&graph);
    let names = subject.names(&graph, &id);
    let concerns = |sum: &&EdgeMinute| {
        let key = &sum.edge;
        let texts = [&key.source.name, &key.source.app, &key.destination.name, &key.destination.app, &key.service.name];
        sums.len() < SUMS_ALL || texts.into_iter().flatten().any(|text| names.iter().any(|name| **name == **text))
    };
    let own: Vec<EdgeMinute> = sums.iter().filter(concerns).cloned().collect();
    let windows = bounds.windows(2).filter(|pair| pair[0] < pair[1]).map(|pair| {
        let within = |sum: &&EdgeMinute| sum.minute >= pair[0] && sum.minute < pair[1];
        let part: Vec<EdgeMinute> = own.iter().filter(within).cloned().collect();
        let built = graph::build(&part, &GraphOptions { from: pair[0], to: pair[1], ..options.clone() });
        Window { known: pair[1] > options.from, ..window(pair[0], &of(&built)) }
    });
    let windows = windows.collect();
    let versions = match subject {
        Subject::Service(namespace, name) => versions(&own, &options, (namespace.as_deref(), name)),
        _ => Vec::new(),
    };
    let outcomes = outcomes(&inbound);
    Some(Story { id, inbound, outbound, windows, versions, outcomes, graph })
}

/// The edges into and out of a node; of an edge, itself.
fn sides(graph: &ServiceGraph, id: &str) -> (Vec<Edge>, Vec<Edge>) {
    if let Some(edge) = graph.edge(id) {
        return (vec![edge.clone()], Vec::new());
    }
    let mut sides = (Vec::new(), Vec::new());
    for edge in &graph.edges {
        if *edge.target == *id {
            sides.0.push(edge.clone());
        } else if *edge.source == *id {
            sides.1.push(edge.clone());
        }
    }
    let busiest = |a: &Edge, b: &Edge| {
        let weight = |edge: &Edge| (edge.health.status, edge.rate());
        weight(b).partial_cmp(&weight(a)).unwrap_or(std::cmp::Ordering::Equal)
    };
    sides.0.sort_by(busiest);
    sides.1.sort_by(busiest);
    sides
}

fn window(from: Timestamp, (inbound, outbound): &(Vec<Edge>, Vec<Edge>)) -> Window {
    // Who is only a caller is told by its calls.
    let told = if inbound.is_empty() { outbound } else { inbound };
    let mut window = Window { from, ..Window::default() };
    let (mut errors, mut counted) = (0.0, 0.0);
    for edge in told {
        window.bytes += edge.bytes_per_second();
        if let Some(requests) = &edge.requests {
            errors += requests.errors;
            counted += requests.count - requests.injected;
            window.histogram.merge(&requests.histogram);
        }
    }
    window.rate_in = inbound.iter().map(Edge::rate).sum();
    window.rate_out = outbound.iter().map(Edge::rate).sum();
    window.error_ratio = (counted > 0.0).then(|| errors / counted);
    window
}

/// The workloads that answer for a service, the busiest first.
fn versions(sums: &[EdgeMinute], options: &GraphOptions, (namespace, name): (Option<&str>, &str)) -> Vec<Version> {
    let graph = graph::build(sums, &GraphOptions { view: graph::View::Workload, ..options.clone() });
    let called =
        |edge: &&Edge| edge.services.iter().any(|(service, place)| **service == *name && place.as_deref() == namespace);
    let mut versions: Vec<Version> = Vec::new();
    for edge in graph.edges.iter().filter(called) {
        let (Some(requests), Some(node)) = (&edge.requests, graph.node(&edge.target)) else { continue };
        if node.kind == NodeKind::Service {
            continue;
        }
        let at = match versions.iter().position(|version| version.node.id == node.id) {
            Some(at) => at,
            None => {
                let node = node.clone();
                versions.push(Version { node, rate: 0.0, share: 0.0, error_ratio: 0.0, p95_ms: None });
                versions.len() - 1
            }
        };
        let version = &mut versions[at];
        // Until all are in: errors per second, and the slowest caller's view.
        version.error_ratio += requests.error_ratio * requests.rate;
        version.rate += requests.rate;
        version.p95_ms = version.p95_ms.into_iter().chain(requests.latency.p95_ms).reduce(f64::max);
    }
    let all: f64 = versions.iter().map(|version| version.rate).sum();
    for version in &mut versions {
        version.error_ratio = if version.rate > 0.0 { version.error_ratio / version.rate } else { 0.0 };
        version.share = if all > 0.0 { version.rate / all } else { 0.0 };
    }
    versions.sort_by(|a, b| b.rate.total_cmp(&a.rate).then_with(|| a.node.id.cmp(&b.node.id)));
    versions
}

/// How requests over several edges ended.
fn outcomes(edges: &[Edge]) -> Vec<OutcomeShare> {
    let of_edges = edges.iter().filter_map(|edge| edge.requests.as_ref()).flat_map(|requests| &requests.outcomes);
    let of_connections = edges.iter().filter_map(|edge| edge.connections.as_ref()).flat_map(|c| &c.failures);
    let mut found: Vec<OutcomeShare> = Vec::new();
    for share in of_edges.chain(of_connections) {
        match found.iter_mut().find(|known| known.outcome == share.outcome) {
            Some(known) => known.count += share.count,
            None => found.push(share.clone()),
        }
    }
    let all: f64 = found.iter().map(|share| share.count).sum();
    found.iter_mut().for_each(|share| share.share = if all > 0.0 { share.count / all } else { 0.0 });
    found.sort_by(|a, b| b.count.total_cmp(&a.count).then_with(|| a.outcome.cmp(&b.outcome)));
    found
}
