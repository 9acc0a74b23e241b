//! Draws a graph that has changed a little so that all that was drawn before stands where it stood.
//!
//! In: the former drawing and the graph of now. Out: the drawing of now, which is the former one of the next time.
//! Invariant: a pure function of both. What stays does not move, except that what lies behind a frame that must grow gives
//! way by one row. What goes keeps its place free, so what comes back stands where it stood. What comes gets a free place beside
//! those it calls or is called by. When too much has come and gone since the drawing was arranged, it is arranged anew by
//! [`boxed`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::boxes::{BoxKind, FRAME_GAP, Frame, PADDING, TITLE_HEIGHT, boxed};
use super::place::LOOP_HEIGHT;
use super::{EdgePath, Layout, NodeBox, Options, Point, vertices};
use crate::graph::types::{Node, ServiceGraph};

/// Nodes that may come at once, or a quarter of all, before the drawing is arranged anew.
const COMING_MAX: usize = 4;
/// Nodes that may have come or gone since the drawing was arranged, or half of all.
const DISORDER_MAX: usize = 12;
/// Edges remembered beside twice those of now.
const GONE_EDGES_MAX: usize = 1_000;
/// Room between a node and what it stands beside, so that an edge into it is seen.
const SIDE_GAP: f64 = 8.0;

/// A drawing and what it remembers of what was in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kept {
    /// What frames stand around, the outermost first, as far as the graph has more than one of them.
    levels: Vec<BoxKind>,
    nodes: BTreeMap<Arc<str>, NodeBox>,
    paths: BTreeMap<Arc<str>, Path>,
    /// By the names of the frames around them and their own.
    frames: BTreeMap<Vec<Arc<str>>, Frame>,
    width: f64,
    height: f64,
    /// Nodes that came since all was arranged.
    came: usize,
}

#[derive(Clone, Debug, PartialEq)]
struct Path {
    source: Arc<str>,
    target: Arc<str>,
    points: Vec<Point>,
}

/// A rectangle.
#[derive(Clone, Copy, Debug, Default)]
struct Area {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

/// Left to right, or top to bottom.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Axis {
    X,
    Y,
}

impl Kept {
    /// Draws a graph: as `former` did where that is the like, else arranged by [`boxed`].
    pub fn draw(former: Option<&Self>, graph: &ServiceGraph, options: &Options, kinds: &[BoxKind]) -> Self {
        former
            .and_then(|former| former.next(graph, options, kinds))
            .unwrap_or_else(|| Self::arrange(graph, options, kinds))
    }

    /// The drawing of a graph that [`Kept::draw`] drew, in the order of its nodes and edges; frames around others first.
    pub fn show(&self, graph: &ServiceGraph) -> (Layout, Vec<Frame>) {
        let nodes = graph.nodes.iter().filter_map(|node| self.nodes.get(&node.id).cloned());
        let path = |id: &Arc<str>| self.paths.get(id).map(|path| path.points.clone()).unwrap_or_default();
        let edges = graph.edges.iter().map(|edge| EdgePath { id: Arc::clone(&edge.id), points: path(&edge.id) });
        let used: HashSet<Vec<Arc<str>>> = (graph.nodes.iter())
            .flat_map(|node| {
                let names = names(node, &self.levels);
                (1..=names.len()).map(move |depth| names[..depth].to_vec())
            })
            .collect();
        let frames = self.frames.iter().filter(|(names, _)| used.contains(*names)).map(|(_, frame)| frame.clone());
        let layout = Layout { width: self.width, height: self.height, nodes: nodes.collect(), edges: edges.collect() };
        (layout, frames.collect())
    }

    /// A number that is equal for equal drawings, by which a reader can name the one that is seen.
    pub fn name(&self) -> u64 {
        let text = |text: &str| text.bytes().chain([0xff]).collect::<Vec<u8>>();
        let number = |number: f64| number.to_bits().to_le_bytes();
        let nodes = self.nodes.values().flat_map(|node| [text(&node.id), [number(node.x), number(node.y)].concat()]);
        let frames = self.frames.iter().flat_map(|(names, frame)| {
            let sides = [frame.x, frame.y, frame.width, frame.height].map(number).concat();
            names.iter().map(|name| text(name)).chain([sides]).collect::<Vec<_>>()
        });
        let paths = self.paths.iter().flat_map(|(id, path)| {
            let points = path.points.iter().flat_map(|point| [number(point.x), number(point.y)].concat());
            [text(id), points.collect()]
        });
        let size = [number(self.width), number(self.height)].concat();
        crate::model::fnv1a(nodes.chain(frames).chain(paths).chain([size]).flatten())
    }

    /// Nodes and edges that it holds: what it costs to remember.
    pub fn weight(&self) -> usize {
        self.nodes.len() + self.paths.len()
    }

    fn arrange(graph: &ServiceGraph, options: &Options, kinds: &[BoxKind]) -> Self {
        let (layout, frames) = boxed(graph, options, kinds);
        let mut kept =
            Self { levels: levels(graph, kinds), width: layout.width, height: layout.height, ..Self::default() };
        for (node, place) in graph.nodes.iter().zip(layout.nodes) {
            let names = names(node, &kept.levels);
            for depth in 1..=names.len() {
                let own = |frame: &&Frame| {
                    frame.kind == kept.levels[depth - 1]
                        && frame.name == names[depth - 1]
                        && area(frame).holds(&of_node(&place))
                };
                if !kept.frames.contains_key(&names[..depth])
                    && let Some(frame) = frames.iter().find(own)
                {
                    kept.frames.insert(names[..depth].to_vec(), frame.clone());
                }
            }
            kept.nodes.insert(Arc::clone(&node.id), place);
        }
        for (edge, path) in graph.edges.iter().zip(layout.edges) {
            let (source, target) = (Arc::clone(&edge.source), Arc::clone(&edge.target));
            kept.paths.insert(Arc::clone(&edge.id), Path { source, target, points: path.points });
        }
        kept
    }

    /// The next drawing, with all that stays in its place; `None` when it had better be arranged anew.
    fn next(&self, graph: &ServiceGraph, options: &Options, kinds: &[BoxKind]) -> Option<Self> {
        let coming: Vec<usize> =
            (0..graph.nodes.len()).filter(|at| !self.nodes.contains_key(&graph.nodes[*at].id)).collect();
        let all = graph.nodes.len();
        let gone = self.nodes.len() + coming.len() - all;
        let is_like = coming.len() < all
            && coming.len() <= COMING_MAX.max(all / 4)
            && self.came + coming.len() + gone <= DISORDER_MAX.max(all / 2)
            && self.levels == levels(graph, kinds);
        if !is_like {
            return None;
        }
        let mut kept = Self { came: self.came + coming.len(), ..self.clone() };
        kept.insert_all(coming, graph, options);
        for edge in &graph.edges {
            if !kept.paths.contains_key(&edge.id) {
                let points = kept.route(&edge.source, &edge.target)?;
                let (source, target) = (Arc::clone(&edge.source), Arc::clone(&edge.target));
                kept.paths.insert(Arc::clone(&edge.id), Path { source, target, points });
            }
        }
        if kept.paths.len() > 2 * graph.edges.len() + GONE_EDGES_MAX {
            let here: HashSet<&str> = graph.edges.iter().map(|edge| &*edge.id).collect();
            kept.paths.retain(|id, _| here.contains(&**id));
        }
        kept.resize();
        Some(kept)
    }

    /// Inserts nodes, those next to what is placed first.
    fn insert_all(&mut self, mut coming: Vec<usize>, graph: &ServiceGraph, options: &Options) {
        coming.sort_by(|a, b| graph.nodes[*a].id.cmp(&graph.nodes[*b].id));
        let (mut callers_of, mut called_by) = (HashMap::<&str, Vec<_>>::new(), HashMap::<&str, Vec<_>>::new());
        for edge in &graph.edges {
            callers_of.entry(&edge.target).or_default().push(&edge.source);
            called_by.entry(&edge.source).or_default().push(&edge.target);
        }
        while !coming.is_empty() {
            let placed = |ids: Option<&Vec<&Arc<str>>>| -> Vec<Area> {
                ids.into_iter().flatten().filter_map(|id| self.nodes.get(*id)).map(of_node).collect()
            };
            let neighbours = |at: &usize| {
                let id = &*graph.nodes[*at].id;
                (placed(callers_of.get(id)), placed(called_by.get(id)))
            };
            let next = coming.iter().position(|at| {
                let (callers, called) = neighbours(at);
                !callers.is_empty() || !called.is_empty()
            });
            let at = coming.remove(next.unwrap_or(0));
            let (callers, called) = neighbours(&at);
            self.insert((graph, at), &callers, &called, options);
        }
    }

    /// Puts a node next to those that call it or that it calls, into its frame; a frame that is not there is made.
    fn insert(&mut self, (graph, at): (&ServiceGraph, usize), callers: &[Area], called: &[Area], options: &Options) {
        let node = &graph.nodes[at];
        let width = vertices(graph, &[at], options)[0].width;
        let names = names(node, &self.levels);
        let there = (0..=names.len()).rev().find(|depth| self.frames.contains_key(&names[..*depth])).unwrap_or(0);
        let missing = (names.len() - there) as f64;
        let size = (width + missing * 2.0 * PADDING, options.node_height + missing * (2.0 * PADDING + TITLE_HEIGHT));
        let wish = self.wish(size, callers, called, options);
        let Point { x, y } = match there {
            0 => self.spot(&[], (wish, size), options).unwrap_or(Point { x: 0.0, y: self.height + FRAME_GAP }),
            depth => self.spot_in(&names[..depth], (wish, size), options),
        };
        for (step, depth) in (there..names.len()).enumerate() {
            let (inset, lowered) = (step as f64 * PADDING, step as f64 * (PADDING + TITLE_HEIGHT));
            let frame = Frame {
                kind: self.levels[depth],
                name: Arc::clone(&names[depth]),
                x: x + inset,
                y: y + lowered,
                width: size.0 - 2.0 * inset,
                height: size.1 - lowered - inset,
            };
            self.frames.insert(names[..=depth].to_vec(), frame);
        }
        let place = NodeBox {
            id: Arc::clone(&node.id),
            x: x + missing * PADDING,
            y: y + missing * (PADDING + TITLE_HEIGHT),
            width,
            height: options.node_height,
        };
        self.nodes.insert(Arc::clone(&node.id), place);
        self.resize();
    }

    /// Right of those that call it, else left of those it calls; on the level of both.
    fn wish(&self, size: (f64, f64), callers: &[Area], called: &[Area], options: &Options) -> Point {
        let right = callers.iter().map(|area| area.right).fold(f64::NEG_INFINITY, f64::max);
        let left = called.iter().map(|area| area.left).fold(f64::INFINITY, f64::min);
        let x = match (right.is_finite(), left.is_finite()) {
            (true, _) => right + options.rank_gap,
            (_, true) => left - options.rank_gap - size.0,
            _ => 0.0,
        };
        let levels = callers.iter().chain(called).map(|area| (area.top + area.bottom) / 2.0);
        let y = match callers.len() + called.len() {
            0 => self.height,
            count => levels.sum::<f64>() / count as f64 - size.1 / 2.0,
        };
        // In line with the column it is nearest to.
        let centre = x + size.0 / 2.0;
        let columns = self.nodes.values().map(|node| node.x + node.width / 2.0);
        let nearest = columns.min_by(|a, b| (a - centre).abs().total_cmp(&(b - centre).abs()));
        let near = nearest.filter(|column| (column - centre).abs() < options.rank_gap / 2.0);
        Point { x: near.map_or(x, |column| column - size.0 / 2.0).max(0.0), y: y.max(0.0) }
    }

    /// A free place in a frame, which grows when it is full.
    fn spot_in(&mut self, names: &[Arc<str>], (wish, size): (Point, (f64, f64)), options: &Options) -> Point {
        let inner = |kept: &Self| kept.frames.get(names).map(|frame| area(frame).inner()).unwrap_or_default();
        let wider = wish.x + size.0 - inner(self).right;
        if wider > 0.0 && wish.x >= inner(self).left {
            self.grow(names, Axis::X, wider);
        }
        let narrow = size.0 - (inner(self).right - inner(self).left);
        if narrow > 0.0 && !self.grow(names, Axis::X, narrow) {
            self.give_way(names, Axis::X, narrow);
        }
        let within = inner(self);
        let wish = Point { x: wish.x.min(within.right - size.0).max(within.left), y: wish.y };
        if let Some(spot) = self.spot(names, (wish, size), options) {
            return spot;
        }
        let row = size.1 + options.row_gap.max(FRAME_GAP);
        if !self.grow(names, Axis::Y, row) {
            self.give_way(names, Axis::Y, row);
        }
        let below = Point { x: wish.x, y: inner(self).bottom - size.1 };
        self.spot(names, (wish, size), options).unwrap_or(below)
    }

    /// The free place nearest to a wish, straight above or below it, within a frame or anywhere.
    fn spot(&self, names: &[Arc<str>], (wish, size): (Point, (f64, f64)), options: &Options) -> Option<Point> {
        let within = self.frames.get(names).map(|frame| area(frame).inner());
        let at = |y: f64| Area { left: wish.x, top: y, right: wish.x + size.0, bottom: y + size.1 };
        let in_column = |taken: &Area| taken.left < wish.x + size.0 + SIDE_GAP && wish.x - SIDE_GAP < taken.right;
        let frames = self.frames.iter().filter(|(own, _)| !names.starts_with(own));
        let frames = frames.map(|(_, frame)| area(frame).wider(FRAME_GAP));
        let nodes = self.nodes.values().map(|node| of_node(node).wider(options.row_gap));
        let taken: Vec<Area> = frames.chain(nodes).filter(in_column).collect();
        let (first, last) = match within {
            Some(within) => (within.top, within.bottom - size.1),
            None => (0.0, f64::INFINITY),
        };
        let beside = taken.iter().flat_map(|taken| [taken.bottom, taken.top - size.1]);
        let candidates = beside.chain([wish.y.clamp(first, last.max(first)), first]);
        let free = |y: &f64| *y >= first && *y <= last && !taken.iter().any(|taken| taken.meets_in_y(&at(*y)));
        let found = candidates.filter(free).min_by(|a, b| {
            let far = |y: &f64| (y - wish.y).abs();
            far(a).total_cmp(&far(b)).then_with(|| a.total_cmp(b))
        });
        found.map(|y| Point { x: wish.x, y })
    }

    /// Makes a frame, and those around it, longer on one side when nothing is in the way. Returns whether it did.
    fn grow(&mut self, names: &[Arc<str>], axis: Axis, by: f64) -> bool {
        let around = (1..=names.len()).map(|depth| &names[..depth]);
        let free = around.clone().all(|own| {
            let Some(frame) = self.frames.get(own) else { return false };
            let strip = area(frame).behind(axis, by + FRAME_GAP);
            let frames = self.frames.iter().filter(|(other, _)| !own.starts_with(other) && !other.starts_with(own));
            let outside = |node: &&NodeBox| !area(frame).holds(&of_node(node));
            !frames.map(|(_, frame)| area(frame)).any(|other| other.meets(&strip))
                && !self.nodes.values().filter(outside).any(|node| of_node(node).meets(&strip))
        });
        if free {
            for own in around {
                if let Some(frame) = self.frames.get_mut(own) {
                    let length = if axis == Axis::X { &mut frame.width } else { &mut frame.height };
                    *length += by;
                }
            }
        }
        free
    }

    /// Makes room at the end of a frame: all that begins behind it moves, frames that reach over it become longer. Order and
    /// distances stay, so nothing comes to lie over another.
    fn give_way(&mut self, names: &[Arc<str>], axis: Axis, by: f64) {
        let Some(frame) = self.frames.get(names) else { return };
        let cut = if axis == Axis::X { frame.x + frame.width } else { frame.y + frame.height } - PADDING;
        let mut moved: HashSet<Arc<str>> = HashSet::new();
        for node in self.nodes.values_mut() {
            let begin = if axis == Axis::X { &mut node.x } else { &mut node.y };
            if *begin >= cut {
                *begin += by;
                moved.insert(Arc::clone(&node.id));
            }
        }
        for frame in self.frames.values_mut() {
            let (begin, length) = match axis {
                Axis::X => (&mut frame.x, &mut frame.width),
                Axis::Y => (&mut frame.y, &mut frame.height),
            };
            if *begin >= cut {
                *begin += by;
            } else if *begin + *length > cut {
                *length += by;
            }
        }
        for Path { source, target, points } in self.paths.values_mut() {
            let last = points.len().saturating_sub(1);
            for (at, point) in points.iter_mut().enumerate() {
                let along = if axis == Axis::X { &mut point.x } else { &mut point.y };
                // Its ends stay on their nodes.
                let moves = match at {
                    0 => moved.contains(source),
                    at if at == last => moved.contains(target),
                    _ => *along >= cut,
                };
                if moves {
                    *along += by;
                }
            }
        }
    }

    /// Straight from node to node; `None` when one of them is not there.
    fn route(&self, source: &str, target: &str) -> Option<Vec<Point>> {
        let (from, to) = (of_node(self.nodes.get(source)?), of_node(self.nodes.get(target)?));
        let middle = |area: &Area| (area.top + area.bottom) / 2.0;
        if source == target {
            let (right, top) = (from.right, from.top);
            let points = [(right - 28.0, top), (right - 14.0, top - LOOP_HEIGHT), (right - 2.0, top)];
            return Some(points.map(|(x, y)| Point { x, y }).into());
        }
        let (a, b) = if from.right + SIDE_GAP <= to.left {
            (from.right, to.left)
        } else if to.right + SIDE_GAP <= from.left {
            (from.left, to.right)
        } else {
            // One above the other.
            (from.right, to.right)
        };
        Some(vec![Point { x: a, y: middle(&from) }, Point { x: b, y: middle(&to) }])
    }

    /// The size of all. It never becomes smaller, or the whole drawing would be seen at another scale.
    fn resize(&mut self) {
        let areas = self.nodes.values().map(of_node).chain(self.frames.values().map(area));
        for Area { right, bottom, .. } in areas {
            (self.width, self.height) = (self.width.max(right), self.height.max(bottom));
        }
    }
}

impl Area {
    /// Room for nodes in a frame.
    fn inner(&self) -> Self {
        Self {
            left: self.left + PADDING,
            top: self.top + PADDING + TITLE_HEIGHT,
            right: self.right - PADDING,
            bottom: self.bottom - PADDING,
        }
    }

    /// With room above and below it.
    fn wider(&self, by: f64) -> Self {
        Self { top: self.top - by, bottom: self.bottom + by, ..*self }
    }

    /// The strip behind its right or lower side.
    fn behind(&self, axis: Axis, by: f64) -> Self {
        match axis {
            Axis::X => Self { left: self.right, right: self.right + by, ..*self },
            Axis::Y => Self { top: self.bottom, bottom: self.bottom + by, ..*self },
        }
    }

    fn meets_in_y(&self, other: &Self) -> bool {
        self.top < other.bottom && other.top < self.bottom
    }

    fn meets(&self, other: &Self) -> bool {
        self.meets_in_y(other) && self.left < other.right && other.left < self.right
    }

    fn holds(&self, other: &Self) -> bool {
        self.left <= other.left && other.right <= self.right && self.top <= other.top && other.bottom <= self.bottom
    }
}

fn of_node(node: &NodeBox) -> Area {
    Area { left: node.x, top: node.y, right: node.x + node.width, bottom: node.y + node.height }
}

fn area(frame: &Frame) -> Area {
    Area { left: frame.x, top: frame.y, right: frame.x + frame.width, bottom: frame.y + frame.height }
}

/// The kinds of frames that a graph has: one cluster alone has none, as in [`boxed`].
fn levels(graph: &ServiceGraph, kinds: &[BoxKind]) -> Vec<BoxKind> {
    let clusters: HashSet<&str> = graph.nodes.iter().filter_map(|node| node.cluster.as_deref()).collect();
    kinds.iter().copied().filter(|kind| *kind != BoxKind::Cluster || clusters.len() > 1).collect()
}

/// The names of the frames around a node, the outermost first.
fn names(node: &Node, levels: &[BoxKind]) -> Vec<Arc<str>> {
    levels.iter().map_while(|kind| kind.of(node)).map(Arc::from).collect()
}

#[cfg(test)]
mod tests;
