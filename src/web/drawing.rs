//! The service graph as SVG: boxes, curves and the numbers on them, ready for the template.
//!
//! In: a graph and what is selected. Out: a [`Drawing`]. Names of any length or script are cut to what a box holds; the
//! whole name is in its title and on the page's table.

mod curve;
mod labels;
pub(super) mod update;

use std::collections::HashSet;

use crate::graph::find::Found;
use crate::graph::layout::boxes::{BoxKind, Frame};
use crate::graph::layout::keep::Kept;
use crate::graph::layout::{Layout, NodeBox, Options};
use crate::graph::{Edge, Evidence, Node, NodeKind, ServiceGraph};
use crate::model::workload::MeshKind;

use super::format;
use curve::Grain;
use labels::{Area, Spot};

/// Space around the drawing.
const MARGIN: f64 = 16.0;
/// Characters that fit into the widest box; the layout gives each name the width it needs up to there.
const NAME_CHARS: usize = 28;
/// Longest name in titles, panels and tables.
const LABEL_CHARS: usize = 160;
/// Most edges that carry their numbers; in larger drawings these are the selected, the worst and the busiest ones.
const LABELLED_MAX: usize = 300;

/// A drawing of more edges is large.
const LARGE_FROM: usize = 1_500;

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
    /// It carries requests over connections that are reported too: two layers of one edge.
    pub(super) layered: bool,
}

/// A frame around the nodes of a namespace or a cluster.
pub(super) struct DrawnBox {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) name: String,
    pub(super) title: String,
    pub(super) kind: &'static str,
}

/// The whole drawing.
#[derive(Default)]
pub(super) struct Drawing {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) view_box: String,
    /// So many edges that each is drawn with as little as it needs; the script gives a title to what is pointed at.
    pub(super) large: bool,
    pub(super) boxes: Vec<DrawnBox>,
    pub(super) nodes: Vec<DrawnNode>,
    pub(super) edges: Vec<DrawnEdge>,
}

/// How a graph is to be drawn.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Look<'a> {
    /// Id of a node or an edge.
    pub(super) selected: Option<&'a str>,
    /// What is not among it is dimmed.
    pub(super) found: Option<&'a Found>,
    /// What nodes stand in frames of, the outermost first.
    pub(super) kinds: &'a [BoxKind],
    /// The drawing that is seen now: what stays does not move.
    pub(super) former: Option<&'a Kept>,
}

/// Draws a graph. Also returns what the next drawing needs to leave it in its place.
pub(super) fn draw(graph: &ServiceGraph, look: Look<'_>) -> (Drawing, Kept) {
    let Look { selected, found, kinds, former } = look;
    let sources = Sources::of(graph);
    let options = Options {
        node_height: 56.0,
        character_width: 8.5,
        min_width: 156.0,
        max_width: 250.0,
        // As wide as what stands on an edge.
        rank_gap: if sources.differ { 188.0 } else { 136.0 },
        row_gap: 18.0,
        ..Options::default()
    };
    let kept = Kept::draw(former, graph, &options, kinds);
    let (placed, frames) = kept.show(graph);
    let near = Near { found: found.map(ids_of), ..near(graph, selected) };
    let edge_labels = edge_labels(graph, &placed, &near, &sources);
    let (width, height) = (placed.width + 2.0 * MARGIN, placed.height + 2.0 * MARGIN);
    let Layout { nodes, edges, .. } = placed;
    let nodes = graph.nodes.iter().zip(&nodes).map(|(node, place)| drawn_node(node, place, near.class(&node.id)));
    let large = graph.edges.len() > LARGE_FROM;
    let grain = if large { Grain::Whole } else { Grain::Tenth };
    let mut parts: Vec<_> = graph.edges.iter().zip(&edges).zip(edge_labels).collect();
    // What is drawn last lies on top: what fails, and what is selected, is not lost among what does well.
    parts.sort_by_key(|((edge, _), _)| (near.selected == Some(&*edge.id), edge.health.status));
    let edges = parts
        .into_iter()
        .map(|((edge, path), label)| drawn_edge(edge, curve::data(path, grain), label, (graph, near.class(&edge.id))));
    let boxes = frames.iter().map(drawn_box);
    let drawing = Drawing {
        width,
        height,
        view_box: format!("{} {} {width:.1} {height:.1}", -MARGIN, -MARGIN),
        large,
        boxes: boxes.collect(),
        nodes: nodes.collect(),
        edges: edges.collect(),
    };
    (drawing, kept)
}

fn drawn_box(frame: &Frame) -> DrawnBox {
    let Frame { kind, name, x, y, width, height } = frame;
    // As many characters as stand over the narrowest node.
    let room = (width / 7.0) as usize;
    DrawnBox {
        x: *x,
        y: *y,
        width: *width,
        height: *height,
        name: format::visible(name, room.clamp(8, LABEL_CHARS)),
        title: format!("{} {}", kind.as_str(), format::visible(name, LABEL_CHARS)),
        kind: kind.as_str(),
    }
}

/// Which mesh tells of edges, where that is worth saying: in a graph of one mesh it is always the same. What only spans
/// tell of is dotted, and that spans tell of an edge as well stands in its title, the table and the panel.
struct Sources {
    differ: bool,
}

impl Sources {
    fn of(graph: &ServiceGraph) -> Self {
        let mut meshes = graph.edges.iter().filter_map(mesh_mark);
        let first = meshes.next();
        Self { differ: meshes.any(|one| Some(one) != first) }
    }

    /// What stands behind the numbers of an edge.
    fn mark(&self, edge: &Edge) -> String {
        match mesh_mark(edge) {
            Some(mark) if self.differ => format!(" · {mark}"),
            _ => String::new(),
        }
    }
}

/// The mesh whose proxies report an edge.
fn mesh_mark(edge: &Edge) -> Option<&'static str> {
    let is_in = |mesh: MeshKind| edge.meshes.contains(&mesh);
    match (edge.evidence, is_in(MeshKind::Istio), is_in(MeshKind::Linkerd)) {
        (Evidence::Traces, ..) => None,
        (_, true, true) => Some("Istio + Linkerd"),
        (_, false, true) => Some("Linkerd"),
        _ => Some("Istio"),
    }
}

/// Who tells of an edge: the mesh whose proxies report it, spans, or both.
pub(super) fn source_mark(edge: &Edge) -> &'static str {
    let is_in = |mesh: MeshKind| edge.meshes.contains(&mesh);
    match (is_in(MeshKind::Istio), is_in(MeshKind::Linkerd), edge.evidence) {
        (_, _, Evidence::Traces) => "traces",
        (true, true, Evidence::Both) => "Istio + Linkerd + traces",
        (true, true, Evidence::Metrics) => "Istio + Linkerd",
        (false, true, Evidence::Both) => "Linkerd + traces",
        (false, true, Evidence::Metrics) => "Linkerd",
        (_, _, Evidence::Both) => "Istio + traces",
        (_, _, Evidence::Metrics) => "Istio",
    }
}

/// The layers of an edge in words: requests are told by a waypoint or a sidecar, connections by ztunnel or the same.
pub(super) fn layers(edge: &Edge) -> &'static str {
    match (edge.requests.is_some(), edge.connections.is_some()) {
        (true, true) => "requests (L7) over connections (L4)",
        (true, false) => "requests (L7)",
        (false, true) => "connections (L4)",
        (false, false) => "none in this range",
    }
}

/// How fast dots move along an edge: 0 for one without traffic, up to 5.
fn speed(edge: &Edge) -> u8 {
    match edge.rate() {
        rate if rate <= 0.0 => u8::from(edge.bytes_per_second() > 0.0),
        rate if rate < 1.0 => 1,
        rate if rate < 10.0 => 2,
        rate if rate < 100.0 => 3,
        rate if rate < 1000.0 => 4,
        _ => 5,
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

/// No screen shows more of it.
fn tenth(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
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
        Some(namespace) if matches!(node.kind, NodeKind::Workload | NodeKind::App) => {
            format::visible(namespace, LABEL_CHARS)
        }
        Some(namespace) => format!("{} · {kind}", format::visible(namespace, LABEL_CHARS)),
        None => kind.to_owned(),
    };
    let (whole, numbers, health) = (label(node), node_numbers(node), node.health.status.as_str());
    let (name, place_name) = (format::shortened(&whole, NAME_CHARS), format::shortened(&within, NAME_CHARS));
    // It begins with the words that are drawn, so that what is seen and what is read out agree (WCAG 2.5.3).
    let mut title = format!("{name}\n{place_name}\n{numbers}\n{health}: {}", node.health.reason);
    if name != whole || place_name != within {
        title.push_str(&format!("\n{whole}, {within}"));
    }
    DrawnNode {
        id: node.id.to_string(),
        x: tenth(place.x),
        y: tenth(place.y),
        width: tenth(place.width),
        height: tenth(place.height),
        title,
        numbers,
        name,
        place: place_name,
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
        _ => format::visible(&node.name, LABEL_CHARS),
    }
}

type Label = (String, Spot);

fn drawn_edge(edge: &Edge, path: String, label: Option<Label>, near: (&ServiceGraph, &str)) -> DrawnEdge {
    let (graph, near) = near;
    let name = |id: &str| graph.node(id).map(self::label).unwrap_or_default();
    let (protocol, health) = (edge.protocol.as_str(), edge.health.status.as_str());
    let numbers = edge_numbers(edge);
    DrawnEdge {
        id: edge.id.to_string(),
        path,
        label,
        title: format!(
            "{} → {} ({protocol}, {})\n{numbers}\n{health}: {}",
            name(&edge.source),
            name(&edge.target),
            source_mark(edge),
            edge.health.reason
        ),
        class: format!(
            "edge {health} {protocol} speed-{}{}{near}",
            speed(edge),
            if edge.evidence == Evidence::Traces { " spans" } else { "" }
        ),
        health,
        source: edge.source.to_string(),
        target: edge.target.to_string(),
        layered: edge.requests.is_some() && edge.connections.is_some(),
    }
}

/// The numbers of each edge, the worst and busiest placed first, so that they stand best.
fn edge_labels(graph: &ServiceGraph, placed: &Layout, near: &Near, sources: &Sources) -> Vec<Option<Label>> {
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
        let edge = &graph.edges[at];
        let text = edge_numbers(edge) + &sources.mark(edge);
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
