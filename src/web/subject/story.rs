//! What one node or edge did over a range: window by window, inbound and outbound, by version, by code and flag.
//!
//! In: sums of edges by window and how a node is told. Out: [`Story`]. Pure, but for [`read`], which reads the sums.

use std::sync::Arc;

use super::State;
use super::plot::LINES_MAX;
use crate::graph::{self, Edge, GraphOptions, Node, NodeKind, OutcomeShare, ServiceGraph};
use crate::model::workload::LatencyHistogram;
use crate::model::{EdgeMinute, Timestamp};
use crate::persist::EdgeFilter;

/// From this many sums on, windows are built from those only that name the subject.
const SUMS_ALL: usize = 5_000;

/// The subject in the graph of the whole range.
pub(super) struct Found {
    graph: ServiceGraph,
    id: Arc<str>,
    sides: (Vec<Edge>, Vec<Edge>),
    options: GraphOptions,
}

/// Whose page it is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Subject {
    /// A service of a namespace.
    Service(Option<String>, String),
    /// A workload of a namespace.
    Workload(Option<String>, String),
    /// An edge, by its id.
    Edge(String),
    /// What a graph of that view has under an id: a node or an edge.
    Shown(graph::View, String),
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
    /// Of the busiest versions, where there are several: the share of the requests, window by window.
    pub(super) splits: Vec<(String, Vec<Option<f64>>)>,
    /// How requests to it ended, most first.
    pub(super) outcomes: Vec<OutcomeShare>,
}

impl Subject {
    fn view(&self) -> graph::View {
        match self {
            Self::Shown(view, _) => *view,
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
            Self::Shown(_, id) => {
                let node = graph.node(id).map(|node| Arc::clone(&node.id));
                node.or_else(|| graph.edge(id).map(|edge| Arc::clone(&edge.id)))
            }
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
}

impl Found {
    /// Finds the subject in the graph of `sums`, those of the whole range; `None` when it has no traffic there.
    pub(super) fn of(subject: &Subject, sums: &[EdgeMinute], options: GraphOptions) -> Option<Self> {
        let options = GraphOptions { view: subject.view(), ..options };
        let graph = graph::build(sums, &options);
        let id = subject.find(&graph)?;
        Some(Self { sides: sides(&graph, &id), graph, id, options })
    }

    /// Which edges concern it; all, where a mesh of `sums` sums and so many windows is small.
    pub(super) fn concerns(&self, sums: usize, windows: usize) -> EdgeFilter {
        if sums * windows < SUMS_ALL {
            return Arc::new(|_| true);
        }
        let names = self.names();
        Arc::new(move |key| {
            let (source, called) = (&key.source, &key.destination);
            let texts = [&source.name, &source.app, &called.name, &called.app, &key.service.name];
            texts.into_iter().flatten().any(|text| names.iter().any(|name| **name == **text))
        })
    }

    /// The names by which edges that concern it can be told.
    fn names(&self) -> Vec<String> {
        let edge = self.graph.edge(&self.id);
        let ends = edge.map_or_else(|| vec![&*self.id], |edge| vec![&*edge.source, &*edge.target]);
        let nodes = ends.into_iter().filter_map(|id| self.graph.node(id));
        nodes.flat_map(|node| [Some(node.name.to_string()), node.app.as_deref().map(str::to_owned)]).flatten().collect()
    }

    /// Tells the story from the sums in each window of the edges that concern the subject. `bounds` are those of the windows.
    pub(super) fn tell(self, subject: &Subject, own: &[EdgeMinute], bounds: &[Timestamp]) -> Story {
        let Self { graph, id, sides: (inbound, outbound), options } = self;
        let parts = parts(own, bounds);
        let windows = parts.iter().map(|((from, to), part)| {
            let built = graph::build(part.iter().copied(), &GraphOptions { from: *from, to: *to, ..options.clone() });
            Window { known: *to > options.from, ..window(*from, &self::sides(&built, &id)) }
        });
        let windows = windows.collect();
        let (versions, splits) = match subject {
            Subject::Service(namespace, name) => {
                let service = (namespace.as_deref(), name.as_str());
                let versions = versions(own, &options, service);
                let splits = splits(&versions, &parts, (&options, service));
                (versions, splits)
            }
            _ => (Vec::new(), Vec::new()),
        };
        let outcomes = outcomes(&inbound);
        Story { id, inbound, outbound, windows, versions, splits, outcomes, graph }
    }
}

/// A window and the sums in it.
type Part<'a> = ((Timestamp, Timestamp), Vec<&'a EdgeMinute>);

/// The sums of each window that has a length.
fn parts<'a>(sums: &'a [EdgeMinute], bounds: &[Timestamp]) -> Vec<Part<'a>> {
    let windows = bounds.windows(2).map(|pair| (pair[0], pair[1])).filter(|(from, to)| from < to);
    let mut parts: Vec<Part<'a>> = windows.map(|window| (window, Vec::new())).collect();
    for sum in sums {
        let at = parts.partition_point(|((from, _), _)| *from <= sum.minute).wrapping_sub(1);
        if let Some(((_, to), part)) = parts.get_mut(at)
            && sum.minute < *to
        {
            part.push(sum);
        }
    }
    parts
}

/// Reads and tells the story of a subject over the windows between `bounds`, and says why some of it may be missing. The whole
/// range is read first: of a large mesh few edges concern the subject, and only of those each window is read.
///
/// # Errors
/// Why it cannot be told.
pub(super) async fn read(
    state: &State,
    subject: &Subject,
    bounds: &[Timestamp],
    now: Timestamp,
) -> Result<(Option<Story>, Option<String>), String> {
    let (Some(from), Some(to)) = (bounds.first().copied(), bounds.last().copied()) else { return Ok((None, None)) };
    let mut whole = state.archive.edge_sums(&[from, to], now).await;
    let first = whole.observed_from(from, to);
    let warning = whole.warning.take();
    // A sum stands under the start of its window, which may lie before the first traffic in it.
    whole.edges.iter_mut().for_each(|edge| edge.minute = edge.minute.max(first));
    let options = GraphOptions { health: state.health.clone(), ..GraphOptions::new(first, to) };
    let (asked, windows) = (subject.clone(), bounds.len());
    let found = tokio::task::spawn_blocking(move || {
        let found = Found::of(&asked, &whole.edges, options)?;
        Some((found.concerns(whole.edges.len(), windows), found))
    });
    let Some((concerns, found)) = found.await.map_err(|error| error.to_string())? else { return Ok((None, warning)) };
    let mut read = state.archive.edge_sums_of(concerns, bounds, now).await;
    read.edges.iter_mut().for_each(|edge| edge.minute = edge.minute.max(first));
    let subject = subject.clone();
    let told = tokio::task::spawn_blocking(move || found.tell(&subject, &read.edges, &read.bounds));
    Ok((Some(told.await.map_err(|error| error.to_string())?), warning.or(read.warning)))
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
fn versions<'a>(
    sums: impl IntoIterator<Item = &'a EdgeMinute>,
    options: &GraphOptions,
    (namespace, name): (Option<&str>, &str),
) -> Vec<Version> {
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

/// The share of each of the busiest versions, window by window; nothing where one version answers alone.
fn splits(
    all: &[Version],
    parts: &[Part<'_>],
    (options, service): (&GraphOptions, (Option<&str>, &str)),
) -> Vec<(String, Vec<Option<f64>>)> {
    if all.len() < 2 {
        return Vec::new();
    }
    let windows = parts.iter().map(|((from, to), part)| {
        versions(part.iter().copied(), &GraphOptions { from: *from, to: *to, ..options.clone() }, service)
    });
    let windows: Vec<Vec<Version>> = windows.collect();
    let line = |one: &Version| {
        let share = |window: &Vec<Version>| {
            // In a window without requests there is no share.
            let own = window.iter().find(|other| other.node.id == one.node.id).map_or(0.0, |own| own.share);
            (!window.is_empty()).then_some(own)
        };
        (one.node.name.to_string(), windows.iter().map(share).collect())
    };
    all.iter().take(LINES_MAX).map(line).collect()
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
