//! The service graph as SVG: boxes, curves and the numbers on them, ready for the template.

use crate::graph::layout::{EdgePath, Layout, NodeBox, Options, layout};
use crate::graph::{Edge, Node, NodeKind, ServiceGraph};

use super::format;

/// Space around the drawing.
const MARGIN: f64 = 24.0;
/// Longest name drawn in a box; the whole name is in its title.
const NAME_CHARS: usize = 26;

/// One node, placed.
pub(super) struct DrawnNode {
    pub(super) id: String,
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) name: String,
    pub(super) sub: String,
    pub(super) title: String,
    pub(super) class: String,
    pub(super) selected: bool,
}

/// One edge, routed.
pub(super) struct DrawnEdge {
    pub(super) id: String,
    pub(super) path: String,
    pub(super) label: String,
    pub(super) label_x: f64,
    pub(super) label_y: f64,
    pub(super) title: String,
    pub(super) class: String,
    pub(super) marker: &'static str,
    pub(super) selected: bool,
    pub(super) source: String,
    pub(super) target: String,
}

/// The whole drawing.
pub(super) struct Drawing {
    pub(super) view_box: String,
    pub(super) nodes: Vec<DrawnNode>,
    pub(super) edges: Vec<DrawnEdge>,
}

/// Draws a graph; `selected` is the id of a node or an edge.
pub(super) fn draw(graph: &ServiceGraph, selected: Option<&str>) -> Drawing {
    let options = Options { node_height: 44.0, rank_gap: 128.0, row_gap: 22.0, min_width: 112.0, ..Options::default() };
    let Layout { width, height, nodes, edges } = layout(graph, &options);
    let is_selected = |id: &str| selected == Some(id);
    Drawing {
        view_box: format!(
            "{} {} {} {}",
            -MARGIN,
            -MARGIN,
            (width + 2.0 * MARGIN).max(320.0),
            (height + 2.0 * MARGIN).max(200.0)
        ),
        nodes: graph
            .nodes
            .iter()
            .zip(&nodes)
            .map(|(node, place)| drawn_node(node, place, is_selected(&node.id)))
            .collect(),
        edges: graph
            .edges
            .iter()
            .zip(&edges)
            .map(|(edge, path)| drawn_edge(edge, path, graph, is_selected(&edge.id)))
            .collect(),
    }
}

fn drawn_node(node: &Node, place: &NodeBox, selected: bool) -> DrawnNode {
    let traffic = if node.inbound.edges > 0 { &node.inbound } else { &node.outbound };
    let busy = match (traffic.rate, traffic.connection_rate) {
        (rate, _) if rate > 0.0 => format::rate(rate),
        (_, connections) if connections > 0.0 => format!("{} conn", format::rate(connections)),
        _ if traffic.bytes_per_second > 0.0 => format::bytes_rate(traffic.bytes_per_second),
        _ => "idle".to_owned(),
    };
    let failing =
        traffic.error_ratio.filter(|ratio| *ratio > 0.0).map(|ratio| format!(" · {} err", format::percent(ratio)));
    let outside = matches!(
        node.kind,
        NodeKind::Unknown | NodeKind::External | NodeKind::Passthrough | NodeKind::BlackHole | NodeKind::Identity
    );
    DrawnNode {
        id: node.id.to_string(),
        x: place.x,
        y: place.y,
        width: place.width,
        height: place.height,
        name: shortened(&label(node)),
        sub: format!("{busy}{}", failing.unwrap_or_default()),
        title: format!(
            "{} ({}{})\n{}: {}",
            node.name,
            node.kind.as_str(),
            node.namespace.as_ref().map(|n| format!(" in {n}")).unwrap_or_default(),
            node.health.status.as_str(),
            node.health.reason
        ),
        class: format!("node {}{}", node.health.status.as_str(), if outside { " outside" } else { "" }),
        selected,
    }
}

/// What a node is called on the page.
pub(super) fn label(node: &Node) -> String {
    match node.kind {
        NodeKind::Unknown => "outside the mesh".to_owned(),
        _ => node.name.to_string(),
    }
}

fn drawn_edge(edge: &Edge, path: &EdgePath, graph: &ServiceGraph, selected: bool) -> DrawnEdge {
    let first = path.points.first().copied().unwrap_or_default();
    let mut curve = format!("M{:.1} {:.1}", first.x, first.y);
    for [a, b, end] in path.curves() {
        curve.push_str(&format!("C{:.1} {:.1} {:.1} {:.1} {:.1} {:.1}", a.x, a.y, b.x, b.y, end.x, end.y));
    }
    let (near, far) = middle(path);
    let name = |id: &str| graph.node(id).map(label).unwrap_or_default();
    let protocol = edge.protocol.as_str();
    let label = edge_label(edge);
    DrawnEdge {
        id: edge.id.to_string(),
        path: curve,
        label_x: (near.0 + far.0) / 2.0,
        label_y: (near.1 + far.1) / 2.0 - 5.0,
        title: format!("{} → {} ({protocol})\n{label}\n{}", name(&edge.source), name(&edge.target), edge.health.reason),
        label,
        class: format!("edge {} {protocol}", edge.health.status.as_str()),
        marker: edge.health.status.as_str(),
        selected,
        source: edge.source.to_string(),
        target: edge.target.to_string(),
    }
}

/// The two points around the middle of a path.
fn middle(path: &EdgePath) -> ((f64, f64), (f64, f64)) {
    let at = path.points.len().saturating_sub(1) / 2;
    let point = |at: usize| path.points.get(at).map_or((0.0, 0.0), |p| (p.x, p.y));
    (point(at), point(at + 1))
}

fn edge_label(edge: &Edge) -> String {
    match (&edge.requests, &edge.connections) {
        (Some(requests), _) if requests.error_ratio > 0.0 => {
            format!("{} · {} err", format::rate(requests.rate), format::percent(requests.error_ratio))
        }
        (Some(requests), _) => {
            format!("{} · {}", format::rate(requests.rate), format::latency(requests.latency.p95_ms))
        }
        (None, Some(connections)) => {
            format::bytes_rate(connections.sent_bytes_per_second + connections.received_bytes_per_second)
        }
        (None, None) => "idle".to_owned(),
    }
}

fn shortened(name: &str) -> String {
    match name.char_indices().nth(NAME_CHARS) {
        Some((cut, _)) => format!("{}…", &name[..cut]),
        None => name.to_owned(),
    }
}
