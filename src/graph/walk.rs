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
