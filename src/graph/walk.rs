//! Parts of a graph by who reaches whom: neighbourhood, callers, callees, blast radius.
//!
//! In: a graph and the id of a node. Out: node ids, or a smaller graph. An id that is not in the graph gives nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::types::ServiceGraph;

/// Which way to walk along edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From called to caller.
    Callers,
    /// From caller to called.
    Callees,
    /// Both.
    Both,
}

/// Every node within `hops` of `start`, with its distance; `start` itself is at 0. Sorted by id.
pub fn within(graph: &ServiceGraph, start: &str, hops: usize, direction: Direction) -> BTreeMap<Arc<str>, usize> {
    let mut links: BTreeMap<&str, Vec<&Arc<str>>> = BTreeMap::new();
    for edge in &graph.edges {
        if direction != Direction::Callers {
            links.entry(&edge.source).or_default().push(&edge.target);
        }
        if direction != Direction::Callees {
            links.entry(&edge.target).or_default().push(&edge.source);
        }
    }
    let mut found = BTreeMap::new();
    let Some(node) = graph.nodes.iter().find(|node| *node.id == *start) else { return found };
    found.insert(Arc::clone(&node.id), 0);
    let mut queue = VecDeque::from([(Arc::clone(&node.id), 0)]);
    while let Some((at, distance)) = queue.pop_front() {
        if distance >= hops {
            continue;
        }
        for next in links.get(&*at).into_iter().flatten().copied() {
            if !found.contains_key(next) {
                found.insert(Arc::clone(next), distance + 1);
                queue.push_back((Arc::clone(next), distance + 1));
            }
        }
    }
    found
}

/// The graph of the nodes within `hops` of `start` and the edges among them.
pub fn focus(graph: &ServiceGraph, start: &str, hops: usize) -> ServiceGraph {
    keep(graph, &within(graph, start, hops, Direction::Both).into_keys().collect())
}

/// Whom a failure of `start` can hurt: everybody who calls it, directly or through others, with the distance.
pub fn blast_radius(graph: &ServiceGraph, start: &str) -> BTreeMap<Arc<str>, usize> {
    let mut hurt = within(graph, start, usize::MAX, Direction::Callers);
    hurt.remove(start);
    hurt
}

/// Somebody whom a failure hurts.
#[derive(Clone, Debug, PartialEq)]
pub struct Hurt {
    /// Id of the node.
    pub node: Arc<str>,
    /// Calls between it and what fails, at least.
    pub hops: usize,
    /// Share of its outgoing calls that lead there, directly or through others, 0 to 1.
    pub share: f64,
    /// Its requests per second that lead there.
    pub rate: f64,
}

/// Rounds in which shares are carried from called to caller; a chain longer than this, or a cycle, ends there.
const ROUNDS_MAX: usize = 64;

/// Whom a failure of `start` can hurt, the most hurt first: callers, and their callers, by the share of their calls that
/// lead there. The share of a caller is the sum over its calls of the share that each has of its requests, times the share
/// of the called.
pub fn weighted_blast_radius(graph: &ServiceGraph, start: &str) -> Vec<Hurt> {
    let hops = blast_radius(graph, start);
    let edges: Vec<&super::types::Edge> = graph
        .edges
        .iter()
        .filter(|edge| hops.contains_key(&edge.source) && (hops.contains_key(&edge.target) || *edge.target == *start))
        .collect();
    let mut shares: BTreeMap<&str, f64> = BTreeMap::from([(start, 1.0)]);
    for _ in 0..ROUNDS_MAX {
        let mut next: BTreeMap<&str, f64> = BTreeMap::from([(start, 1.0)]);
        for edge in edges.iter().filter(|edge| *edge.source != *start) {
            let of_called = shares.get(&*edge.target).copied().unwrap_or(0.0);
            *next.entry(&edge.source).or_default() += edge.share_of_outbound * of_called;
        }
        next.values_mut().for_each(|share| *share = share.min(1.0));
        let moved = next.iter().any(|(id, share)| (share - shares.get(id).unwrap_or(&0.0)).abs() > 1e-6);
        shares = next;
        if !moved {
            break;
        }
    }
    let rate = |id: &str| graph.node(id).map_or(0.0, |node| node.outbound.rate);
    let mut hurt: Vec<Hurt> = hops
        .iter()
        .map(|(id, hops)| {
            let share = shares.get(&**id).copied().unwrap_or(0.0);
            Hurt { node: Arc::clone(id), hops: *hops, share, rate: rate(id) * share }
        })
        .collect();
    hurt.sort_by(|a, b| b.rate.total_cmp(&a.rate).then(b.share.total_cmp(&a.share)).then_with(|| a.node.cmp(&b.node)));
    hurt
}

/// Every node on a way from `source` to `target`, both included; empty when there is none.
pub fn between(graph: &ServiceGraph, source: &str, target: &str) -> BTreeSet<Arc<str>> {
    let down = within(graph, source, usize::MAX, Direction::Callees);
    let up = within(graph, target, usize::MAX, Direction::Callers);
    if !down.contains_key(target) {
        return BTreeSet::new();
    }
    down.into_keys().filter(|id| up.contains_key(id)).collect()
}

/// The ids of the edges of a shortest way from `source` to `target`, of several the busiest at each step; `None` when no
/// calls lead there, nothing between a node and itself.
pub fn path(graph: &ServiceGraph, source: &str, target: &str) -> Option<Vec<Arc<str>>> {
    let up = within(graph, target, usize::MAX, Direction::Callers);
    let mut left = *up.get(source)?;
    let (mut at, mut way) = (source, Vec::new());
    while left > 0 {
        let nearer = graph.edges.iter().filter(|edge| *edge.source == *at && up.get(&edge.target) == Some(&(left - 1)));
        let next = nearer.max_by(|a, b| a.rate().total_cmp(&b.rate()).then_with(|| b.id.cmp(&a.id)))?;
        way.push(Arc::clone(&next.id));
        (at, left) = (&next.target, left - 1);
    }
    Some(way)
}

/// The graph of the given nodes and the edges among them. Totals and shares stay those of the whole graph.
pub fn keep(graph: &ServiceGraph, ids: &BTreeSet<Arc<str>>) -> ServiceGraph {
    ServiceGraph {
        nodes: graph.nodes.iter().filter(|node| ids.contains(&node.id)).cloned().collect(),
        edges: graph.edges.iter().filter(|e| ids.contains(&e.source) && ids.contains(&e.target)).cloned().collect(),
        totals: graph.totals.clone(),
        edges_left_out: graph.edges_left_out,
        idle_hidden: graph.idle_hidden,
        empty_because: graph.empty_because.clone(),
    }
}

/// The graph of the edges that start or end in one of the namespaces.
pub fn touching(graph: &ServiceGraph, namespaces: &[&str]) -> ServiceGraph {
    let inside = |id: &str| {
        let namespace = graph.node(id).and_then(|node| node.namespace.as_deref());
        namespace.is_some_and(|namespace| namespaces.contains(&namespace))
    };
    let edges: Vec<_> = graph.edges.iter().filter(|edge| inside(&edge.source) || inside(&edge.target)).collect();
    let ids = edges.iter().flat_map(|edge| [Arc::clone(&edge.source), Arc::clone(&edge.target)]).collect();
    ServiceGraph { edges: edges.into_iter().cloned().collect(), ..keep(graph, &ids) }
}
