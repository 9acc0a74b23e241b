//! The service graph as SVG: boxes, curves and the numbers on them, ready for the template.
//!
//! In: a graph and what is selected. Out: a [`Drawing`]. Names of any length or script are cut to what a box holds; the
//! whole name is in its title and on the page's table.

mod labels;

use std::collections::HashSet;

use crate::graph::find::Found;
use crate::graph::layout::{EdgePath, Layout, NodeBox, Options, layout};
use crate::graph::{Edge, Node, NodeKind, ServiceGraph};

use super::format;
use labels::{Area, Spot};

/// Space around the drawing.
const MARGIN: f64 = 16.0;
/// Characters that fit into the widest box; the layout gives each name the width it needs up to there.
const NAME_CHARS: usize = 28;
/// Longest name in titles, panels and tables.
const LABEL_CHARS: usize = 160;
/// Most edges that carry their numbers; in larger drawings these are the selected, the worst and the busiest ones.
const LABELLED_MAX: usize = 300;

/// One node, placed.
pub(super) struct DrawnNode {
    pub(super) id: String,
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) name: String,
    /// Its namespace, or what it is where it has none.
    pub(super) place: String,
    pub(super) numbers: String,
    pub(super) title: String,
    pub(super) class: String,
}

/// One edge, routed.
pub(super) struct DrawnEdge {
    pub(super) id: String,
    pub(super) path: String,
    /// The numbers on it and where they stand; `None` where there are too many to read.
    pub(super) label: Option<(String, Spot)>,
    pub(super) title: String,
    pub(super) class: String,
    pub(super) health: &'static str,
    pub(super) source: String,
    pub(super) target: String,
}

/// The whole drawing.
#[derive(Default)]
pub(super) struct Drawing {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) view_box: String,
    pub(super) nodes: Vec<DrawnNode>,
    pub(super) edges: Vec<DrawnEdge>,
}

/// Draws a graph; `selected` is the id of a node or an edge. What is not among `found` is dimmed.
pub(super) fn draw(graph: &ServiceGraph, selected: Option<&str>, found: Option<&Found>) -> Drawing {
    let options = Options {
        node_height: 56.0,
        character_width: 8.5,
        min_width: 156.0,
        max_width: 250.0,
        rank_gap: 136.0,
        row_gap: 18.0,
        ..Options::default()
    };
    let placed = layout(graph, &options);
    let near = Near { found: found.map(ids_of), ..near(graph, selected) };
    let edge_labels = edge_labels(graph, &placed, &near);
    let (width, height) = (placed.width + 2.0 * MARGIN, placed.height + 2.0 * MARGIN);
    let Layout { nodes, edges, .. } = placed;
    let nodes = graph.nodes.iter().zip(&nodes).map(|(node, place)| drawn_node(node, place, near.class(&node.id)));
    let edges = (graph.edges.iter().zip(&edges).zip(edge_labels))
        .map(|((edge, path), label)| drawn_edge(edge, path, label, (graph, near.class(&edge.id))));
    Drawing {
        width,
        height,
        view_box: format!("{} {} {width:.1} {height:.1}", -MARGIN, -MARGIN),
        nodes: nodes.collect(),
        edges: edges.collect(),
    }
}

/// What is selected and what touches it.
struct Near<'a> {
    selected: Option<&'a str>,
    ids: HashSet<&'a str>,
    /// What an expression is true of.
    found: Option<HashSet<&'a str>>,
}

fn ids_of(found: &Found) -> HashSet<&str> {
    found.nodes.iter().chain(&found.edges).map(|id| &**id).collect()
}

fn near<'a>(graph: &'a ServiceGraph, selected: Option<&'a str>) -> Near<'a> {
    let mut ids = HashSet::new();
    for edge in &graph.edges {
        let touching = [&*edge.id, &*edge.source, &*edge.target];
        if selected.is_some_and(|selected| touching.contains(&selected)) {
            ids.extend(touching);
        }
    }
    // What an old address selects may be gone: then nothing is far from it either.
    Near { selected: selected.filter(|id| ids.contains(id)), ids, found: None }
}

impl Near<'_> {
    fn class(&self, id: &str) -> &'static str {
        if self.found.as_ref().is_some_and(|found| !found.contains(id)) && self.selected != Some(id) {
            return " dimmed";
        }
        match self.selected {
            None => "",
            Some(selected) if selected == id => " selected",
            Some(_) if self.ids.contains(id) => "",
            Some(_) => " far",
        }
    }
}

fn drawn_node(node: &Node, place: &NodeBox, near: &str) -> DrawnNode {
    let outside = matches!(
        node.kind,
        NodeKind::Unknown | NodeKind::External | NodeKind::Passthrough | NodeKind::BlackHole | NodeKind::Identity
    );
    let kind = match node.kind {
        NodeKind::Unknown => "no proxy",
        NodeKind::Passthrough => "undeclared hosts",
        NodeKind::BlackHole => "blocked hosts",
        kind => kind.as_str(),
    };
    let within = match &node.namespace {
        Some(namespace) if matches!(node.kind, NodeKind::Workload | NodeKind::App) => namespace.to_string(),
        Some(namespace) => format!("{namespace} · {kind}"),
        None => kind.to_owned(),
    };
    let (name, numbers, health) = (label(node), node_numbers(node), node.health.status.as_str());
    DrawnNode {
        id: node.id.to_string(),
        x: place.x,
        y: place.y,
        width: place.width,
        height: place.height,
        // It begins with the words that are drawn, so that what is seen and what is read out agree.
        title: format!("{name}\n{within}\n{numbers}\n{health}: {}", node.health.reason),
        numbers,
        name: format::shortened(&name, NAME_CHARS),
        place: format::shortened(&within, NAME_CHARS),
        class: format!("node {health}{}{near}", if outside { " outside" } else { "" }),
    }
}

fn node_numbers(node: &Node) -> String {
    let traffic = if node.inbound.edges > 0 { &node.inbound } else { &node.outbound };
    let busy = match (traffic.rate, traffic.connection_rate) {
        (rate, _) if rate > 0.0 => format::rate(rate),
        (_, opened) if opened > 0.0 => format!("{} conn", format::rate(opened)),
        _ if traffic.bytes_per_second > 0.0 => format::bytes_rate(traffic.bytes_per_second),
        _ => return "idle".to_owned(),
    };
    match traffic.error_ratio.filter(|ratio| *ratio > 0.0) {
        Some(ratio) => format!("{busy} · {} err", format::percent(ratio)),
        None => busy,
    }
}

/// What a node is called on the page.
pub(super) fn label(node: &Node) -> String {
    match node.kind {
        NodeKind::Unknown => "outside the mesh".to_owned(),
        _ => format::shortened(&node.name, LABEL_CHARS),
    }
}

type Label = (String, Spot);

fn drawn_edge(edge: &Edge, path: &EdgePath, label: Option<Label>, near: (&ServiceGraph, &str)) -> DrawnEdge {
    let first = path.points.first().copied().unwrap_or_default();
    let mut curve = format!("M{:.1} {:.1}", first.x, first.y);
    for [a, b, end] in path.curves() {
        curve.push_str(&format!("C{:.1} {:.1} {:.1} {:.1} {:.1} {:.1}", a.x, a.y, b.x, b.y, end.x, end.y));
    }
    let (graph, near) = near;
    let name = |id: &str| graph.node(id).map(self::label).unwrap_or_default();
    let (protocol, health) = (edge.protocol.as_str(), edge.health.status.as_str());
    let numbers = edge_numbers(edge);
    DrawnEdge {
        id: edge.id.to_string(),
        path: curve,
        label,
        title: format!(
            "{} → {} ({protocol})\n{numbers}\n{health}: {}",
            name(&edge.source),
            name(&edge.target),
            edge.health.reason
        ),
        class: format!("edge {health} {protocol}{near}"),
        health,
        source: edge.source.to_string(),
        target: edge.target.to_string(),
    }
}

/// The numbers of each edge, the worst and busiest placed first, so that they stand best.
fn edge_labels(graph: &ServiceGraph, placed: &Layout, near: &Near) -> Vec<Option<Label>> {
    let mut order: Vec<usize> = (0..graph.edges.len()).collect();
    let rate = |edge: &Edge| edge.requests.as_ref().map_or(0.0, |requests| requests.rate);
    let weight = |at: usize| {
        let edge = &graph.edges[at];
        (near.selected.is_some() && near.ids.contains(&*edge.id), edge.health.status, rate(edge))
    };
    order.sort_by(|a, b| weight(*b).partial_cmp(&weight(*a)).unwrap_or(std::cmp::Ordering::Equal));
    let mut taken: Vec<Area> =
        placed.nodes.iter().map(|node| Area::new(node.x, node.y, node.width, node.height)).collect();
    let mut found = vec![None; graph.edges.len()];
    for at in order.into_iter().take(LABELLED_MAX) {
        let text = edge_numbers(&graph.edges[at]);
        found[at] = labels::place(&placed.edges[at], &text, &mut taken).map(|spot| (text, spot));
    }
    found
}

fn edge_numbers(edge: &Edge) -> String {
    match (&edge.requests, &edge.connections) {
        (Some(requests), _) if requests.error_ratio > 0.0 => {
            format!("{} · {} err", format::rate(requests.rate), format::percent(requests.error_ratio))
        }
        (Some(requests), _) => match requests.latency.p95_ms {
            Some(p95) => format!("{} · {}", format::rate(requests.rate), format::latency(Some(p95))),
            None => format::rate(requests.rate),
        },
        (None, Some(connections)) => {
            format::bytes_rate(connections.sent_bytes_per_second + connections.received_bytes_per_second)
        }
        (None, None) => "idle".to_owned(),
    }
}
