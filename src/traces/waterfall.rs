//! Lays the spans of a trace out as the rows of a waterfall: a tree, in order of start, with the critical path.
//!
//! Pure. Takes any spans: cycles, missing parents, repeated spans and skewed clocks give rows all the same. Invariant:
//! each span is in at most one row; repeated spans and those beyond the limit are counted instead; no recursion.

use std::collections::{HashMap, HashSet};

use crate::model::Span;
use crate::model::span::{SpanId, SpanKey, SpanKind};

/// Rows at most.
const ROW_LIMIT: usize = 10_000;

/// A trace laid out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Waterfall {
    /// One for each span shown, parents before their children.
    pub rows: Vec<Row>,
    /// Start of the trace after mending clocks, nanoseconds since the epoch.
    pub start_ns: u64,
    /// From the first start to the last end, nanoseconds.
    pub duration_ns: u64,
    /// Spans that were received more than once; shown once.
    pub repeated: usize,
    /// Spans whose parent is not among the spans: the trace is incomplete.
    pub orphans: usize,
    /// Spans beyond the limit of rows.
    pub omitted: usize,
}

/// One span in a waterfall.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// How deep in the tree; 0 is a root.
    pub depth: usize,
    /// Index into the spans given.
    pub span: usize,
    /// From the start of the trace to the start of the span, nanoseconds, clocks mended.
    pub offset_ns: u64,
    /// Duration, nanoseconds.
    pub duration_ns: u64,
    /// By how much the start was moved because the host's clock differs from its parent's, nanoseconds.
    pub skew_ns: i64,
    /// How many children it has.
    pub children: usize,
    /// Whether the trace would have ended earlier, had this span been shorter.
    pub critical: bool,
    /// Whether it names a parent that is not among the spans.
    pub orphan: bool,
}

/// Lays out the spans of one trace.
pub fn waterfall(spans: &[Span]) -> Waterfall {
    let tree = Tree::of(spans);
    let starts = tree.mended_starts(spans);
    let shown: Vec<usize> = tree.order.iter().map(|(at, _)| *at).collect();
    let start = shown.iter().map(|at| starts[*at]).min().unwrap_or(0);
    let end = shown.iter().map(|at| starts[*at] + i128::from(spans[*at].duration_ns)).max().unwrap_or(0);
    let critical = tree.critical_path(spans, &starts);
    let narrow = |ns: i128| u64::try_from(ns.max(0)).unwrap_or(u64::MAX);
    let rows = tree.order.iter().take(ROW_LIMIT).map(|&(at, depth)| Row {
        depth,
        span: at,
        offset_ns: narrow(starts[at] - start),
        duration_ns: spans[at].duration_ns,
        skew_ns: i64::try_from(starts[at] - i128::from(spans[at].start_ns)).unwrap_or(0),
        children: tree.children[at].len(),
        critical: critical[at],
        orphan: tree.parent[at].is_none() && spans[at].parent_id.is_some(),
    });
    let rows: Vec<Row> = rows.collect();
    Waterfall {
        start_ns: narrow(start),
        duration_ns: narrow(end - start),
        repeated: spans.len() - tree.order.len(),
        orphans: shown.iter().filter(|at| tree.parent[**at].is_none() && spans[**at].parent_id.is_some()).count(),
        omitted: tree.order.len() - rows.len(),
        rows,
    }
}

struct Tree {
    parent: Vec<Option<usize>>,
    children: Vec<Vec<usize>>,
    /// Every distinct span once with its depth, parents first.
    order: Vec<(usize, usize)>,
}

impl Tree {
    fn of(spans: &[Span]) -> Self {
        let mut distinct: HashSet<SpanKey> = HashSet::new();
        let mut by_id: HashMap<SpanId, usize> = HashMap::new();
        let mut shown = Vec::new();
        for (at, span) in spans.iter().enumerate() {
            if distinct.insert(span.key()) {
                shown.push(at);
            }
        }
        for &at in &shown {
            let named = by_id.entry(spans[at].span_id).or_insert(at);
            // Children hang below the server's side of a shared id.
            if spans[at].kind == SpanKind::Server {
                *named = at;
            }
        }
        let mut tree = Self { parent: vec![None; spans.len()], children: vec![Vec::new(); spans.len()], order: vec![] };
        for &at in &shown {
            tree.parent[at] = spans[at].parent_id.and_then(|id| by_id.get(&id)).copied().filter(|parent| *parent != at);
        }
        tree.cut_cycles(&shown);
        for &at in &shown {
            if let Some(parent) = tree.parent[at] {
                tree.children[parent].push(at);
            }
        }
        for children in &mut tree.children {
            children.sort_by_key(|at| (spans[*at].start_ns, *at));
        }
        let mut roots: Vec<usize> = shown.into_iter().filter(|at| tree.parent[*at].is_none()).collect();
        // The true root first, then what lost its parent.
        roots.sort_by_key(|at| (spans[*at].parent_id.is_some(), spans[*at].start_ns, *at));
        tree.order = tree.walk(roots);
        tree
    }

    /// Makes a root of one span of each ring of parents.
    fn cut_cycles(&mut self, shown: &[usize]) {
        let mut seen_in_walk = vec![0_usize; self.parent.len()]; // 0: not seen; else the number of the walk
        for (walk, &start) in (1..).zip(shown) {
            let mut at = start;
            while seen_in_walk[at] == 0 {
                seen_in_walk[at] = walk;
                match self.parent[at] {
                    Some(parent) if seen_in_walk[parent] == walk => self.parent[at] = None,
                    Some(parent) => at = parent,
                    None => {}
                }
            }
        }
    }

    fn walk(&self, roots: Vec<usize>) -> Vec<(usize, usize)> {
        let mut stack: Vec<(usize, usize)> = roots.into_iter().rev().map(|at| (at, 0)).collect();
        let mut order = Vec::new();
        while let Some((at, depth)) = stack.pop() {
            order.push((at, depth));
            stack.extend(self.children[at].iter().rev().map(|child| (*child, depth + 1)));
        }
        order
    }

    /// Starts with the clocks of other hosts mended: a span of another service that lies outside its parent is moved
    /// into the middle of it, as Jaeger does, and all below moves along.
    fn mended_starts(&self, spans: &[Span]) -> Vec<i128> {
        let mut starts: Vec<i128> = spans.iter().map(|span| i128::from(span.start_ns)).collect();
        let mut moved = vec![0_i128; spans.len()];
        for &(at, _) in &self.order {
            let Some(parent) = self.parent[at] else { continue };
            let same_clock = spans[at].resource == spans[parent].resource;
            let (from, span_ns) = (starts[at] + moved[parent], i128::from(spans[at].duration_ns));
            let (parent_from, parent_ns) = (starts[parent], i128::from(spans[parent].duration_ns));
            let outside = from < parent_from || from + span_ns > parent_from + parent_ns;
            // A longer child is asynchronous work; its clock cannot be judged, unless it began before it was asked.
            let target = match () {
                () if same_clock || !outside => from,
                () if span_ns <= parent_ns => parent_from + (parent_ns - span_ns) / 2,
                () if from < parent_from => parent_from,
                () => from,
            };
            moved[at] = target - starts[at];
            starts[at] = target;
        }
        starts
    }

    /// Which spans the end of the trace waited for: from the end of each root backwards, always the child that ended
    /// last.
    fn critical_path(&self, spans: &[Span], starts: &[i128]) -> Vec<bool> {
        let mut critical = vec![false; spans.len()];
        let end = |at: usize| starts[at] + i128::from(spans[at].duration_ns);
        let first_root = self.order.first().map(|(at, _)| (*at, end(*at)));
        let mut stack: Vec<(usize, i128)> = first_root.into_iter().collect();
        while let Some((at, until)) = stack.pop() {
            critical[at] = true;
            let mut children: Vec<usize> = self.children[at].clone();
            children.sort_by_key(|child| std::cmp::Reverse(end(*child)));
            let mut cursor = until;
            for child in children {
                // Work that went on after its parent had ended delayed nobody.
                let child_end = end(child);
                if child_end <= cursor && starts[child] >= starts[at] {
                    stack.push((child, child_end));
                    cursor = starts[child];
                }
            }
        }
        critical
    }
}
