//! Two traces side by side: the same operation at the same place of the tree is one row, with what it took in each.
//!
//! Pure. In: the spans of both. Out: rows, parents before their children. Invariant: each span that a waterfall shows is
//! counted in one row; no recursion.

use std::collections::HashMap;

use super::waterfall;
use crate::model::Span;
use crate::model::span::{SpanKind, SpanStatus};

/// The spans of one operation below one parent, in one of the traces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// How many; 0: the operation does not occur there.
    pub spans: u64,
    /// Their durations summed up, nanoseconds.
    pub total_ns: u64,
    /// How many failed.
    pub errors: u64,
    /// How many of them the end of the trace waited for.
    pub critical: u64,
}

/// One operation at one place of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComparedRow<'s> {
    /// How deep in the tree; 0 is a root.
    pub depth: usize,
    /// Whose.
    pub service: &'s str,
    /// Which.
    pub name: &'s str,
    /// Its part in the call.
    pub kind: SpanKind,
    /// In the first trace.
    pub first: Side,
    /// In the second one.
    pub second: Side,
}

/// Two traces compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison<'s> {
    /// The operations, parents first, those of the first trace before those that only the second has.
    pub rows: Vec<ComparedRow<'s>>,
    /// Duration of each trace, nanoseconds.
    pub durations_ns: [u64; 2],
    /// Spans of each that are not shown.
    pub omitted: [usize; 2],
}

/// What tells a row from its siblings.
type Operation<'s> = (&'s str, &'s str, SpanKind);

#[derive(Default)]
struct Tree<'s> {
    rows: Vec<ComparedRow<'s>>,
    children: Vec<Vec<usize>>,
    roots: Vec<usize>,
    places: HashMap<(Option<usize>, Operation<'s>), usize>,
}

/// Lays two traces side by side.
pub fn compare<'s>(first: &'s [Span], second: &'s [Span]) -> Comparison<'s> {
    let mut tree = Tree::default();
    let [(first_ns, first_omitted), (second_ns, second_omitted)] =
        [tree.add(first, |row| &mut row.first), tree.add(second, |row| &mut row.second)];
    Comparison { rows: tree.in_order(), durations_ns: [first_ns, second_ns], omitted: [first_omitted, second_omitted] }
}

impl<'s> Tree<'s> {
    /// Adds a trace; gives its duration and how many of its spans are left out.
    fn add(&mut self, spans: &'s [Span], side: for<'r> fn(&'r mut ComparedRow<'s>) -> &'r mut Side) -> (u64, usize) {
        let fall = waterfall(spans);
        // The places of the rows above the one that is looked at, by depth.
        let mut above: Vec<usize> = Vec::new();
        for row in &fall.rows {
            let span = &spans[row.span];
            above.truncate(row.depth);
            let place = self.place(above.last().copied(), (&span.service, &span.name, span.kind), row.depth);
            above.push(place);
            let side = side(&mut self.rows[place]);
            side.spans += 1;
            side.total_ns = side.total_ns.saturating_add(span.duration_ns);
            side.errors += u64::from(span.status == SpanStatus::Error);
            side.critical += u64::from(row.critical);
        }
        (fall.duration_ns, fall.omitted)
    }

    fn place(&mut self, parent: Option<usize>, operation: Operation<'s>, depth: usize) -> usize {
        let Self { rows, children, roots, places } = self;
        *places.entry((parent, operation)).or_insert_with(|| {
            let (place, (service, name, kind)) = (rows.len(), operation);
            rows.push(ComparedRow { depth, service, name, kind, first: Side::default(), second: Side::default() });
            children.push(Vec::new());
            match parent {
                Some(parent) => children[parent].push(place),
                None => roots.push(place),
            }
            place
        })
    }

    /// The rows, parents before their children.
    fn in_order(self) -> Vec<ComparedRow<'s>> {
        let Self { rows, children, roots, .. } = self;
        let mut stack: Vec<usize> = roots.into_iter().rev().collect();
        let mut order = Vec::with_capacity(rows.len());
        while let Some(place) = stack.pop() {
            order.push(place);
            stack.extend(children[place].iter().rev());
        }
        order.into_iter().map(|place| rows[place].clone()).collect()
    }
}
