//! Places a graph in boxes: nodes of one namespace or cluster stand in a frame of their own, and frames are placed as nodes
//! are.
//!
//! In: nodes and edges, and by what they are boxed. Out: a [`Layout`] and the frames. Invariant: a pure function of the
//! topology, as [`layout`](super::layout()) is; frames of one level never overlap, and a node lies in its frames.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{EdgePath, Layout, NodeBox, Options, Placed, Point, Vertex, components, pack, place_component, vertices};
use crate::graph::types::{Node, NodeKind, ServiceGraph};

/// Space between a frame and what is in it.
const PADDING: f64 = 16.0;
/// Room for a frame's name.
const TITLE_HEIGHT: f64 = 20.0;
/// Space between frames of one column.
const FRAME_GAP: f64 = 26.0;

/// By what nodes are boxed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoxKind {
    /// Kubernetes clusters.
    Cluster,
    /// Kubernetes namespaces, of each cluster for itself where clusters are boxed too.
    Namespace,
}

impl BoxKind {
    /// Lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Namespace => "namespace",
        }
    }

    /// What a node has of it; what lies outside of the mesh has none.
    fn of(self, node: &Node) -> Option<&str> {
        match self {
            Self::Cluster => node.cluster.as_deref(),
            Self::Namespace => node.namespace.as_deref(),
        }
    }
}

/// A frame around nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// Of what it is.
    pub kind: BoxKind,
    /// Name of the cluster or namespace.
    pub name: Arc<str>,
    /// Left edge.
    pub x: f64,
    /// Top edge.
    pub y: f64,
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
}

/// What stands together.
#[derive(Default)]
struct Block {
    width: f64,
    height: f64,
    /// Node of the graph, left top corner.
    corners: Vec<(usize, Point)>,
    /// Edge of the graph, its points.
    paths: Vec<(usize, Vec<Point>)>,
    /// Outer frames before inner ones.
    frames: Vec<Frame>,
}

/// A part of a block: what is in one frame, or a node that is in none.
struct Unit {
    block: Block,
    is_entrance: bool,
}

/// Lays the graph out in boxes, the outermost kind first. Without kinds it is [`layout`](super::layout()).
pub fn boxed(graph: &ServiceGraph, options: &Options, kinds: &[BoxKind]) -> (Layout, Vec<Frame>) {
    let widths: Vec<f64> = {
        let order: Vec<usize> = (0..graph.nodes.len()).collect();
        vertices(graph, &order, options).iter().map(|vertex| vertex.width).collect()
    };
    let index: HashMap<&str, usize> = graph.nodes.iter().enumerate().map(|(at, node)| (&*node.id, at)).collect();
    let ends: Vec<(usize, usize, usize)> = (graph.edges.iter().enumerate())
        .filter_map(|(at, edge)| Some((at, *index.get(&*edge.source)?, *index.get(&*edge.target)?)))
        .collect();
    let all: Vec<usize> = (0..graph.nodes.len()).collect();
    let scene = Scene { graph, options, widths: &widths };
    let Block { width, height, corners, paths, frames } = scene.block(&all, &ends, kinds);
    let mut places = vec![Point::default(); graph.nodes.len()];
    corners.into_iter().for_each(|(node, corner)| places[node] = corner);
    let mut points: Vec<Vec<Point>> = vec![Vec::new(); graph.edges.len()];
    paths.into_iter().for_each(|(edge, path)| points[edge] = path);
    let nodes = graph.nodes.iter().zip(places).zip(&widths);
    let nodes = nodes.map(|((node, Point { x, y }), width)| NodeBox {
        id: Arc::clone(&node.id),
        x,
        y,
        width: *width,
        height: options.node_height,
    });
    let edges = graph.edges.iter().zip(points).map(|(edge, points)| EdgePath { id: Arc::clone(&edge.id), points });
    (Layout { width, height, nodes: nodes.collect(), edges: edges.collect() }, frames)
}

struct Scene<'a> {
    graph: &'a ServiceGraph,
    options: &'a Options,
    /// Of each node.
    widths: &'a [f64],
}

impl Scene<'_> {
    /// Places nodes and the edges among them.
    fn block(&self, nodes: &[usize], edges: &[(usize, usize, usize)], kinds: &[BoxKind]) -> Block {
        let Some((kind, deeper)) = kinds.split_first() else { return self.leaf(nodes, edges) };
        let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let mut alone: Vec<usize> = Vec::new();
        for node in nodes {
            match kind.of(&self.graph.nodes[*node]) {
                Some(name) => groups.entry(name).or_default().push(*node),
                None => alone.push(*node),
            }
        }
        // One cluster alone is no news.
        if *kind == BoxKind::Cluster && groups.len() < 2 {
            return self.block(nodes, edges, deeper);
        }
        let mut unit_of: HashMap<usize, usize> = HashMap::new();
        let mut members: Vec<(Option<&str>, Vec<usize>)> =
            groups.into_iter().map(|(name, nodes)| (Some(name), nodes)).collect();
        members.extend(alone.into_iter().map(|node| (None, vec![node])));
        for (unit, (_, nodes)) in members.iter().enumerate() {
            nodes.iter().for_each(|node| _ = unit_of.insert(*node, unit));
        }
        let (mut inner, mut outer) = (vec![Vec::new(); members.len()], Vec::new());
        for (edge, from, to) in edges {
            match (unit_of.get(from), unit_of.get(to)) {
                (Some(a), Some(b)) if a == b => inner[*a].push((*edge, *from, *to)),
                (Some(a), Some(b)) => outer.push(Between { edge: *edge, ends: (*from, *to), units: (*a, *b) }),
                _ => {}
            }
        }
        let units = members.iter().zip(&inner).map(|((name, nodes), edges)| match name {
            Some(name) => Unit {
                block: framed(self.block(nodes, edges, deeper), *kind, name),
                is_entrance: nodes.iter().all(|node| self.is_entrance(*node)),
            },
            None => {
                Unit { block: self.leaf(nodes, edges), is_entrance: nodes.iter().all(|node| self.is_entrance(*node)) }
            }
        });
        self.assemble(units.collect(), &outer)
    }

    fn is_entrance(&self, node: usize) -> bool {
        matches!(self.graph.nodes[node].kind, NodeKind::Unknown | NodeKind::Gateway)
    }

    /// Nodes without frames.
    fn leaf(&self, nodes: &[usize], edges: &[(usize, usize, usize)]) -> Block {
        let mut by_id = nodes.to_vec();
        by_id.sort_by(|a, b| self.graph.nodes[*a].id.cmp(&self.graph.nodes[*b].id));
        let local: HashMap<usize, usize> = by_id.iter().enumerate().map(|(at, node)| (*node, at)).collect();
        let vertices = vertices(self.graph, &by_id, self.options);
        let mut ends: Vec<(usize, usize, usize)> =
            edges.iter().map(|(edge, from, to)| (*edge, local[from], local[to])).collect();
        ends.sort_by_key(|(_, from, to)| (*from, *to));
        let (placed, width, height) = placed(&vertices, &ends, self.options);
        let mut block = Block { width, height, ..Block::default() };
        for part in placed {
            block.corners.extend(part.boxes.into_iter().map(|(vertex, corner)| (by_id[vertex], corner)));
            block.paths.extend(part.paths);
        }
        block
    }

    /// Places units as nodes are placed, and leads the edges between them.
    fn assemble(&self, units: Vec<Unit>, outer: &[Between]) -> Block {
        let vertices: Vec<Vertex> = (units.iter().enumerate())
            .map(|(at, unit)| Vertex {
                width: unit.block.width,
                height: unit.block.height,
                group: u32::try_from(at).unwrap_or(0),
                entrance: unit.is_entrance,
            })
            .collect();
        let mut pairs: Vec<(usize, usize)> = outer.iter().map(|between| between.units).collect();
        pairs.sort_unstable();
        pairs.dedup();
        let ends: Vec<_> = pairs.iter().enumerate().map(|(at, (from, to))| (at, *from, *to)).collect();
        let options = Options { row_gap: FRAME_GAP, namespace_gap: 0.0, ..*self.options };
        let (parts, width, height) = placed(&vertices, &ends, &options);
        let mut corners = vec![Point::default(); units.len()];
        let mut ways: Vec<Vec<Point>> = vec![Vec::new(); pairs.len()];
        for part in parts {
            part.boxes.into_iter().for_each(|(unit, corner)| corners[unit] = corner);
            part.paths.into_iter().for_each(|(pair, points)| ways[pair] = points);
        }
        let mut whole = Block { width, height, ..Block::default() };
        for (unit, corner) in units.into_iter().zip(corners) {
            whole.take(unit.block, corner);
        }
        let places: HashMap<usize, Point> = whole.corners.iter().copied().collect();
        for Between { edge, ends: (from, to), units } in outer {
            let way = pairs.binary_search(units).ok().map(|at| ways[at].as_slice()).unwrap_or_default();
            let backwards = way.first().zip(way.last()).is_some_and(|(first, last)| first.x > last.x);
            let port = |node: &usize, right: bool| {
                let corner = places.get(node).copied().unwrap_or_default();
                let x = if right { corner.x + self.widths[*node] } else { corner.x };
                Point { x, y: corner.y + self.options.node_height / 2.0 }
            };
            let bends = way.get(1..way.len().saturating_sub(1)).unwrap_or_default();
            let mut points = vec![port(from, !backwards)];
            points.extend_from_slice(bends);
            points.push(port(to, backwards));
            whole.paths.push((*edge, points));
        }
        whole
    }
}

/// An edge from one unit to another.
struct Between {
    edge: usize,
    ends: (usize, usize),
    units: (usize, usize),
}

impl Block {
    /// Takes another block in, moved.
    fn take(&mut self, other: Self, by: Point) {
        let moved = |point: Point| Point { x: point.x + by.x, y: point.y + by.y };
        self.corners.extend(other.corners.into_iter().map(|(node, corner)| (node, moved(corner))));
        let paths = other.paths.into_iter();
        self.paths.extend(paths.map(|(edge, points)| (edge, points.into_iter().map(moved).collect())));
        self.frames.extend(other.frames.into_iter().map(|frame| Frame {
            x: frame.x + by.x,
            y: frame.y + by.y,
            ..frame
        }));
    }
}

/// A block in a frame with a name.
fn framed(inner: Block, kind: BoxKind, name: &str) -> Block {
    // A short name needs no more than its content, a long one is cut by who draws it.
    let (width, height) = (inner.width + 2.0 * PADDING, inner.height + 2.0 * PADDING + TITLE_HEIGHT);
    let frame = Frame { kind, name: name.into(), x: 0.0, y: 0.0, width, height };
    let mut block = Block { width, height, frames: vec![frame], ..Block::default() };
    block.take(inner, Point { x: PADDING, y: PADDING + TITLE_HEIGHT });
    block
}

fn placed(vertices: &[Vertex], ends: &[(usize, usize, usize)], options: &Options) -> (Vec<Placed>, f64, f64) {
    let parts = components(vertices.len(), ends);
    let mut placed: Vec<Placed> = parts.iter().map(|part| place_component(part, vertices, options)).collect();
    let (width, height) = pack(&mut placed, options.component_gap);
    (placed, width, height)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::testing::{answered, calls};
    use crate::graph::types::Edge;
    use crate::graph::{GraphOptions, build};
    use crate::model::workload::Workload;
    use crate::model::{EdgeMinute, Timestamp};

    /// A graph of calls `cluster/namespace/name`.
    fn graph(ends: &[(&str, &str)]) -> ServiceGraph {
        let from = Timestamp::from_millis(1_763_834_400_000);
        let workload = |place: &str| {
            let parts: Vec<&str> = place.split('/').collect();
            Workload {
                cluster: Some(parts[0].into()),
                namespace: Some(parts[1].into()),
                name: Some(parts[2].into()),
                ..Workload::default()
            }
        };
        let minute = |(source, destination): &(&str, &str)| {
            answered(from, calls(workload(source), workload(destination)), &[("200", 60.0)])
        };
        let minutes: Vec<EdgeMinute> = ends.iter().map(minute).collect();
        build(&minutes, &GraphOptions::new(from, Timestamp::from_millis(1_763_834_460_000)))
    }

    const CALLS: [(&str, &str); 7] = [
        ("east/shop/web", "east/shop/cart"),
        ("east/shop/cart", "east/data/db"),
        ("east/shop/web", "east/pay/bill"),
        ("east/pay/bill", "west/data/ledger"),
        ("west/data/ledger", "east/shop/web"),
        ("east/shop/cart", "west/data/ledger"),
        ("west/shop/web", "west/data/ledger"),
    ];

    #[test]
    fn nodes_lie_in_their_frames_and_frames_of_one_level_apart() {
        let graph = graph(&CALLS);
        let (layout, frames) = boxed(&graph, &Options::default(), &[BoxKind::Cluster, BoxKind::Namespace]);
        let named = |kind: BoxKind| frames.iter().filter(|frame| frame.kind == kind).collect::<Vec<_>>();
        assert_eq!(named(BoxKind::Cluster).len(), 2);
        assert_eq!(named(BoxKind::Namespace).len(), 5, "data and shop of both clusters, pay of one");
        for level in [BoxKind::Cluster, BoxKind::Namespace].map(named) {
            for (at, a) in level.iter().enumerate() {
                for b in &level[at + 1..] {
                    let apart =
                        a.x + a.width <= b.x || b.x + b.width <= a.x || a.y + a.height <= b.y || b.y + b.height <= a.y;
                    assert!(apart, "{a:?} and {b:?} overlap");
                }
            }
        }
        for (node, place) in graph.nodes.iter().zip(&layout.nodes) {
            let within = |frame: &&Frame| {
                place.x >= frame.x
                    && place.y >= frame.y
                    && place.x + place.width <= frame.x + frame.width
                    && place.y + place.height <= frame.y + frame.height
            };
            let around: Vec<&str> = frames.iter().filter(within).map(|frame| &*frame.name).collect();
            assert_eq!(around, [node.cluster.as_deref(), node.namespace.as_deref()].map(Option::unwrap_or_default));
            assert!(place.x + place.width <= layout.width && place.y + place.height <= layout.height);
        }
        let ends = |edge: &Edge| [&edge.source, &edge.target].map(|id| graph.node(id).is_some());
        assert!(graph.edges.iter().all(|edge| ends(edge) == [true, true]));
        assert!(layout.edges.iter().all(|path| path.points.len() >= 2), "each edge is drawn");
    }

    #[test]
    fn one_cluster_alone_has_no_frame_and_the_same_graph_the_same_drawing() {
        let graph = graph(&CALLS[..2]);
        let kinds = [BoxKind::Cluster, BoxKind::Namespace];
        let (layout, frames) = boxed(&graph, &Options::default(), &kinds);
        assert_eq!(frames.iter().map(|frame| &*frame.name).collect::<Vec<_>>(), ["data", "shop"]);
        assert_eq!(boxed(&graph, &Options::default(), &kinds), (layout, frames));
        assert_eq!(boxed(&graph, &Options::default(), &[]).0, super::super::layout(&graph, &Options::default()));
        assert_eq!(boxed(&ServiceGraph::default(), &Options::default(), &kinds).1, []);
    }
}
