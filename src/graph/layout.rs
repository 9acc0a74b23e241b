//! Places a service graph on a plane: callers left, called right, namespaces together, few crossings.
//!
//! In: nodes and edges. Out: boxes and paths in pixels, origin top left. Invariant: a pure function of the topology
//! (ids, namespaces, names, who calls whom): traffic, health and the order of the input move nothing, so a page can poll
//! numbers and a cache can be keyed by [`topology`].
//!
//! [`keep`] draws a graph that has changed a little without moving what stays.
//!
//! The layered method: break cycles, rank by longest path, give long edges a dummy in each rank they pass, order the
//! ranks by barycentres, then pull each rank straight by isotonic regression. A part that would be much wider than a screen is
//! folded: some ranks share a column.

pub mod boxes;
pub mod keep;
mod order;
mod place;
mod rank;

use std::collections::HashMap;
use std::sync::Arc;

use super::types::{NodeKind, ServiceGraph};

/// Measures of the drawing, in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Height of a node.
    pub node_height: f64,
    /// Width of one character of a name.
    pub character_width: f64,
    /// Least width of a node.
    pub min_width: f64,
    /// Most width of a node.
    pub max_width: f64,
    /// Space between ranks.
    pub rank_gap: f64,
    /// Space between nodes of a rank.
    pub row_gap: f64,
    /// More space between nodes of different namespaces.
    pub namespace_gap: f64,
    /// Space between parts of the graph that nothing connects.
    pub component_gap: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            node_height: 36.0,
            character_width: 7.2,
            min_width: 72.0,
            max_width: 220.0,
            rank_gap: 96.0,
            row_gap: 14.0,
            namespace_gap: 18.0,
            component_gap: 48.0,
        }
    }
}

/// A point, y downwards.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// From the left.
    pub x: f64,
    /// From the top.
    pub y: f64,
}

/// Where a node stands.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeBox {
    /// Id of the node.
    pub id: Arc<str>,
    /// Left edge.
    pub x: f64,
    /// Top edge.
    pub y: f64,
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
}

/// How an edge runs.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgePath {
    /// Id of the edge.
    pub id: Arc<str>,
    /// From the caller's box to the called one's, two points at least.
    pub points: Vec<Point>,
}

/// How far a piece that runs straight up or down swings out to the right, around what stands between its ends.
const SWING: f64 = 56.0;

impl EdgePath {
    /// The path as cubic Bézier pieces (two control points and the end), with level tangents at each point.
    pub fn curves(&self) -> impl Iterator<Item = [Point; 3]> + '_ {
        self.points.windows(2).map(|pair| {
            let (a, b) = (pair[0], pair[1]);
            let is_upright = (b.y - a.y).abs() > 2.0 * (b.x - a.x).abs() && (b.x - a.x).abs() < SWING;
            let middle = if is_upright { a.x.max(b.x) + SWING } else { (a.x + b.x) / 2.0 };
            [Point { x: middle, y: a.y }, Point { x: middle, y: b.y }, b]
        })
    }
}

/// The drawing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    /// Width of everything.
    pub width: f64,
    /// Height of everything.
    pub height: f64,
    /// In the order of the graph's nodes.
    pub nodes: Vec<NodeBox>,
    /// In the order of the graph's edges.
    pub edges: Vec<EdgePath>,
}

/// A node as the layout sees it.
struct Vertex {
    width: f64,
    height: f64,
    /// Number of its namespace.
    group: u32,
    /// Stays in the first rank: traffic comes in here.
    entrance: bool,
}

/// One connected part, by indices into the vertices of the whole.
struct Component {
    vertices: Vec<usize>,
    /// Index of the edge, from, to.
    edges: Vec<(usize, usize, usize)>,
}

/// A part, placed with its own origin.
#[derive(Default)]
struct Placed {
    width: f64,
    height: f64,
    /// Vertex, left top corner.
    boxes: Vec<(usize, Point)>,
    /// Edge, its points.
    paths: Vec<(usize, Vec<Point>)>,
}

/// A part that is narrower is never folded: a chain of a dozen calls is read best in one line.
const WIDE_FROM: f64 = 4_000.0;
/// How many times as wide as high a wide part may be: somewhat more than the frame that it is seen in.
const SHAPE_MAX: f64 = 2.6;

/// Lays the graph out.
pub fn layout(graph: &ServiceGraph, options: &Options) -> Layout {
    let mut by_id: Vec<usize> = (0..graph.nodes.len()).collect();
    by_id.sort_by(|a, b| graph.nodes[*a].id.cmp(&graph.nodes[*b].id));
    let index: HashMap<&str, usize> = by_id.iter().enumerate().map(|(v, n)| (&*graph.nodes[*n].id, v)).collect();
    let vertices = vertices(graph, &by_id, options);
    let mut ends: Vec<(usize, usize, usize)> = graph
        .edges
        .iter()
        .enumerate()
        .filter_map(|(e, edge)| Some((e, *index.get(&*edge.source)?, *index.get(&*edge.target)?)))
        .collect();
    ends.sort_by_key(|(_, from, to)| (*from, *to));

    let mut placed: Vec<Placed> =
        components(vertices.len(), &ends).into_iter().map(|part| place_component(&part, &vertices, options)).collect();
    let (width, height) = pack(&mut placed, options.component_gap);
    let mut layout = Layout { width, height, nodes: Vec::new(), edges: Vec::new() };
    let mut corners = vec![Point::default(); vertices.len()];
    let mut paths: Vec<Vec<Point>> = vec![Vec::new(); graph.edges.len()];
    for part in placed {
        part.boxes.into_iter().for_each(|(vertex, corner)| corners[vertex] = corner);
        part.paths.into_iter().for_each(|(edge, points)| paths[edge] = points);
    }
    for node in &graph.nodes {
        let vertex = index[&*node.id];
        let (Point { x, y }, size) = (corners[vertex], &vertices[vertex]);
        layout.nodes.push(NodeBox { id: Arc::clone(&node.id), x, y, width: size.width, height: size.height });
    }
    for (edge, points) in graph.edges.iter().zip(paths) {
        layout.edges.push(EdgePath { id: Arc::clone(&edge.id), points });
    }
    layout
}

/// A number that is equal for graphs with the same drawing (stable between builds of this program).
pub fn topology(graph: &ServiceGraph) -> u64 {
    let mut ids: Vec<&str> =
        graph.nodes.iter().map(|node| &*node.id).chain(graph.edges.iter().map(|e| &*e.id)).collect();
    ids.sort_unstable();
    crate::model::fnv1a(ids.iter().flat_map(|id| id.bytes().chain([0xff])))
}

fn vertices(graph: &ServiceGraph, by_id: &[usize], options: &Options) -> Vec<Vertex> {
    let mut namespaces: Vec<&str> = graph.nodes.iter().map(|n| n.namespace.as_deref().unwrap_or_default()).collect();
    namespaces.sort_unstable();
    namespaces.dedup();
    let measure = |at: &usize| {
        let node = &graph.nodes[*at];
        let longest = node.name.chars().take(64).count() as f64 * options.character_width + 24.0;
        Vertex {
            width: longest.clamp(options.min_width, options.max_width.max(options.min_width)),
            height: options.node_height,
            group: namespaces.binary_search(&node.namespace.as_deref().unwrap_or_default()).unwrap_or(0) as u32,
            entrance: matches!(node.kind, NodeKind::Unknown | NodeKind::Gateway),
        }
    };
    by_id.iter().map(measure).collect()
}

/// Connected parts, the largest first, then by their first vertex.
fn components(vertices: usize, edges: &[(usize, usize, usize)]) -> Vec<Component> {
    let mut parent: Vec<usize> = (0..vertices).collect();
    fn root(parent: &mut [usize], mut v: usize) -> usize {
        while parent[v] != v {
            parent[v] = parent[parent[v]];
            v = parent[v];
        }
        v
    }
    for (_, from, to) in edges {
        let (a, b) = (root(&mut parent, *from), root(&mut parent, *to));
        parent[a.max(b)] = a.min(b);
    }
    let mut number: HashMap<usize, usize> = HashMap::new();
    let mut parts: Vec<Component> = Vec::new();
    for v in 0..vertices {
        let at = *number.entry(root(&mut parent, v)).or_insert_with(|| {
            parts.push(Component { vertices: Vec::new(), edges: Vec::new() });
            parts.len() - 1
        });
        parts[at].vertices.push(v);
    }
    for edge in edges {
        let at = number[&root(&mut parent, edge.1)];
        parts[at].edges.push(*edge);
    }
    parts.sort_by_key(|part| std::cmp::Reverse(part.vertices.len()));
    parts
}

fn place_component(part: &Component, vertices: &[Vertex], options: &Options) -> Placed {
    let mut ranks_a_column = 1;
    loop {
        let mut ranked = rank::Ranked::new(part, vertices, ranks_a_column);
        order::order(&mut ranked);
        let placed = place::place(&ranked, part, vertices, options);
        let shape = placed.width / placed.height.max(1.0);
        if placed.width <= WIDE_FROM || shape <= SHAPE_MAX || ranked.ranks.len() < 2 {
            return placed;
        }
        // Twice as many ranks to a column: half as wide, and twice as high.
        let wanted = (ranks_a_column as f64 * (shape / SHAPE_MAX).sqrt()).ceil() as usize;
        ranks_a_column = wanted.max(ranks_a_column + 1);
    }
}

/// Puts the parts on shelves about as wide as the widest of them. Returns width and height of all.
fn pack(parts: &mut [Placed], gap: f64) -> (f64, f64) {
    let widest = parts.iter().map(|part| part.width).fold(0.0, f64::max);
    let area: f64 = parts.iter().map(|part| (part.width + gap) * (part.height + gap)).sum();
    let shelf_width = widest.max(area.sqrt() * 1.4);
    let (mut x, mut y, mut shelf_height, mut width) = (0.0, 0.0, 0.0_f64, 0.0_f64);
    for part in parts {
        if x > 0.0 && x + part.width > shelf_width {
            (x, y, shelf_height) = (0.0, y + shelf_height + gap, 0.0);
        }
        let shift = |point: &mut Point| (point.x, point.y) = (point.x + x, point.y + y);
        part.boxes.iter_mut().for_each(|(_, corner)| shift(corner));
        part.paths.iter_mut().flat_map(|(_, points)| points).for_each(shift);
        width = width.max(x + part.width);
        shelf_height = shelf_height.max(part.height);
        x += part.width + gap;
    }
    (width, y + shelf_height)
}
