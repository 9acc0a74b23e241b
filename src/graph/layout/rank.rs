//! Ranks: cycles broken, longest path, a dummy in each rank a long edge passes.
//!
//! In: one connected part. Out: [`Ranked`], whose links all join neighbouring ranks. Where a part is folded, several ranks
//! become one, and an edge within that has no link.

use std::collections::BTreeSet;

use super::{Component, Vertex};

/// Dummies in one part; past it the longest edges run straight, under the nodes.
const DUMMY_LIMIT: usize = 20_000;
/// Edges of a part in which nobody can follow one by its bends: those would only drive the nodes apart.
const CROWDED_FROM: usize = 1_000;
/// Dummies in each rank of a part that is folded or crowded, in the mean.
const FEW_DUMMIES: usize = 40;
/// Group of dummies: none.
pub(super) const NO_GROUP: u32 = u32::MAX;

/// One place in a rank: a node or the bend of a long edge.
pub(super) struct Slot {
    /// The vertex; `None` for a bend.
    pub(super) vertex: Option<usize>,
    /// Namespace; [`NO_GROUP`] for a bend.
    pub(super) group: u32,
    /// Neighbours in the rank before.
    pub(super) left: Vec<usize>,
    /// Neighbours in the rank after.
    pub(super) right: Vec<usize>,
}

/// An edge as a walk over slots from low to high rank.
pub(super) struct Walk {
    pub(super) edge: usize,
    pub(super) slots: Vec<usize>,
    /// It goes from high to low rank.
    pub(super) reversed: bool,
}

/// A part with ranks.
pub(super) struct Ranked {
    pub(super) slots: Vec<Slot>,
    /// Slots of each rank, in drawing order.
    pub(super) ranks: Vec<Vec<usize>>,
    pub(super) walks: Vec<Walk>,
    /// Edges from a vertex to itself.
    pub(super) loops: Vec<(usize, usize)>,
}

impl Ranked {
    /// Ranks a part; so many ranks become one.
    pub(super) fn new(part: &Component, vertices: &[Vertex], ranks_a_column: usize) -> Self {
        let n = part.vertices.len();
        let local = |v: usize| part.vertices.binary_search(&v).unwrap_or(0);
        let (mut loops, mut edges) = (Vec::new(), Vec::new());
        for (edge, from, to) in &part.edges {
            if from == to { loops.push((*edge, local(*from))) } else { edges.push((*edge, local(*from), local(*to))) }
        }
        let entrance = |v: usize| vertices[part.vertices[v]].entrance;
        let position = acyclic_order(n, &edges, entrance);
        let forward: Vec<(usize, usize, usize, bool)> = edges
            .into_iter()
            .map(|(edge, a, b)| if position[a] < position[b] { (edge, a, b, false) } else { (edge, b, a, true) })
            .collect();
        let mut rank = ranks(&position, &forward, entrance);
        rank.iter_mut().for_each(|rank| *rank /= ranks_a_column.max(1));

        let mut slots: Vec<Slot> = (0..n)
            .map(|v| Slot {
                vertex: Some(part.vertices[v]),
                group: vertices[part.vertices[v]].group,
                left: Vec::new(),
                right: Vec::new(),
            })
            .collect();
        let depth = rank.iter().max().map_or(0, |deepest| deepest + 1);
        let mut ranked = vec![Vec::new(); depth];
        let mut first_order: Vec<usize> = (0..n).collect();
        first_order.sort_by_key(|v| (slots[*v].group, *v));
        first_order.iter().for_each(|v| ranked[rank[*v]].push(*v));
        let few = ranks_a_column > 1 || forward.len() > CROWDED_FROM;
        let dummies = if few { depth * FEW_DUMMIES } else { DUMMY_LIMIT };
        let walks = walks(&forward, (&rank, dummies), &mut slots, &mut ranked);
        Self { slots, ranks: ranked, walks, loops }
    }
}

/// An order of the vertices with few edges against it (Eades, Lin, Smyth): sinks last, sources first, then whoever calls
/// most more than it is called. Ties go to the lower vertex, so it is deterministic. Returns each vertex's position.
fn acyclic_order(n: usize, edges: &[(usize, usize, usize)], entrance: impl Fn(usize) -> bool) -> Vec<usize> {
    let (mut calls, mut called) = (vec![Vec::new(); n], vec![Vec::new(); n]);
    for (_, from, to) in edges {
        calls[*from].push(*to);
        called[*to].push(*from);
    }
    let (mut out, mut inward): (Vec<usize>, Vec<usize>) =
        (calls.iter().map(Vec::len).collect(), called.iter().map(Vec::len).collect());
    // The smallest key goes next: a sink, then a source, then by surplus of calls.
    let key = |v: usize, out: usize, inward: usize| match (out, inward) {
        (0, _) => (0, 0, v),
        (_, 0) => (1, 0, v),
        _ => (2 + isize::from(!entrance(v)), inward as isize - out as isize, v),
    };
    let mut open: BTreeSet<(isize, isize, usize)> = (0..n).map(|v| key(v, out[v], inward[v])).collect();
    let (mut first, mut last, mut done) = (Vec::with_capacity(n), Vec::new(), vec![false; n]);
    while let Some((class, _, v)) = open.pop_first() {
        done[v] = true;
        if class == 0 {
            last.push(v)
        } else {
            first.push(v)
        }
        for (other, called_by_v) in calls[v].iter().map(|to| (*to, true)).chain(called[v].iter().map(|v| (*v, false))) {
            if done[other] {
                continue;
            }
            open.remove(&key(other, out[other], inward[other]));
            let degree = if called_by_v { &mut inward[other] } else { &mut out[other] };
            *degree = degree.saturating_sub(1);
            open.insert(key(other, out[other], inward[other]));
        }
    }
    let mut position = vec![0; n];
    for (at, v) in first.iter().chain(last.iter().rev()).enumerate() {
        position[*v] = at;
    }
    position
}

/// Longest path from the left; then callers nobody calls move next to whom they call, entrances stay.
fn ranks(position: &[usize], edges: &[(usize, usize, usize, bool)], entrance: impl Fn(usize) -> bool) -> Vec<usize> {
    let n = position.len();
    let (mut by_position, mut out, mut called) = (vec![0; n], vec![Vec::new(); n], vec![false; n]);
    for (v, at) in position.iter().enumerate() {
        by_position[*at] = v;
    }
    for (_, from, to, _) in edges {
        out[*from].push(*to);
        called[*to] = true;
    }
    let mut rank = vec![0; n];
    for v in &by_position {
        for to in &out[*v] {
            rank[*to] = rank[*to].max(rank[*v] + 1);
        }
    }
    for v in 0..n {
        if !called[v] && !entrance(v) {
            rank[v] = out[v].iter().map(|to| rank[*to]).min().map_or(0, |nearest: usize| nearest.saturating_sub(1));
        }
    }
    rank
}

fn walks(
    edges: &[(usize, usize, usize, bool)],
    (rank, dummies): (&[usize], usize),
    slots: &mut Vec<Slot>,
    ranked: &mut [Vec<usize>],
) -> Vec<Walk> {
    // Short edges get their bends first.
    let mut by_span: Vec<usize> = (0..edges.len()).collect();
    by_span.sort_by_key(|e| (rank[edges[*e].2] - rank[edges[*e].1], *e));
    let (mut left, mut bends) = (dummies.min(DUMMY_LIMIT), vec![false; edges.len()]);
    for e in by_span {
        let span = rank[edges[e].2] - rank[edges[e].1];
        let needed = span.saturating_sub(1);
        if span > 0 && needed <= left {
            left -= needed;
            bends[e] = true;
        }
    }
    let mut walks = Vec::with_capacity(edges.len());
    for ((edge, from, to, reversed), bent) in edges.iter().copied().zip(bends) {
        let mut walk = vec![from];
        if bent {
            for passed in &mut ranked[rank[from] + 1..rank[to]] {
                slots.push(Slot { vertex: None, group: NO_GROUP, left: Vec::new(), right: Vec::new() });
                passed.push(slots.len() - 1);
                walk.push(slots.len() - 1);
            }
        }
        walk.push(to);
        if bent {
            for pair in walk.windows(2) {
                slots[pair[0]].right.push(pair[1]);
                slots[pair[1]].left.push(pair[0]);
            }
        }
        walks.push(Walk { edge, slots: walk, reversed });
    }
    walks
}
