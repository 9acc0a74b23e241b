//! Structural operators: child, descendant, parent, ancestor, sibling.
//!
//! In: two sets of spans of one trace. Out: the set that the operator makes of them. Pure; one pass over the trace.

use std::collections::{HashMap, HashSet};

use super::ast::{Form, Relation};
use super::fields::Trace;
use crate::model::span::SpanId;

/// Places of spans, in their order in the trace.
pub(super) fn related(trace: &Trace<'_>, relation: Relation, form: Form, left: &[u32], right: &[u32]) -> Vec<u32> {
    let stands = standing(trace, relation, left);
    match form {
        Form::Plain => right.iter().copied().filter(|at| stands[*at as usize]).collect(),
        Form::Negated => right.iter().copied().filter(|at| !stands[*at as usize]).collect(),
        Form::Union => {
            let inverse = match relation {
                Relation::Child => Relation::Parent,
                Relation::Parent => Relation::Child,
                Relation::Descendant => Relation::Ancestor,
                Relation::Ancestor => Relation::Descendant,
                Relation::Sibling => Relation::Sibling,
            };
            let stands_back = standing(trace, inverse, right);
            let from_right = right.iter().copied().filter(|at| stands[*at as usize]);
            let mut both: Vec<u32> =
                left.iter().copied().filter(|at| stands_back[*at as usize]).chain(from_right).collect();
            both.sort_unstable();
            both.dedup();
            both
        }
    }
}

/// For each span of the trace, whether it stands in that relation to one of `others`: is its child, and so on.
fn standing(trace: &Trace<'_>, relation: Relation, others: &[u32]) -> Vec<bool> {
    let mut is_other = vec![false; trace.spans.len()];
    others.iter().for_each(|at| is_other[*at as usize] = true);
    let mut stands = vec![false; trace.spans.len()];
    match relation {
        Relation::Child => {
            for (stands, parent) in stands.iter_mut().zip(&trace.parents) {
                *stands = parent.is_some_and(|parent| is_other[parent as usize]);
            }
        }
        Relation::Descendant => {
            for at in &trace.order {
                if let Some(parent) = trace.parents[*at as usize] {
                    stands[*at as usize] = is_other[parent as usize] || stands[parent as usize];
                }
            }
        }
        Relation::Parent => {
            others
                .iter()
                .filter_map(|at| trace.parents[*at as usize])
                .for_each(|parent| stands[parent as usize] = true);
        }
        Relation::Ancestor => {
            for at in trace.order.iter().rev() {
                if let Some(parent) = trace.parents[*at as usize]
                    && (is_other[*at as usize] || stands[*at as usize])
                {
                    stands[parent as usize] = true;
                }
            }
        }
        Relation::Sibling => siblings(trace, others, &mut stands),
    }
    stands
}

/// Spans whose parent has another child among `others`. The parent itself need not have come.
fn siblings(trace: &Trace<'_>, others: &[u32], stands: &mut [bool]) {
    let mut of_parent: HashMap<SpanId, u32> = HashMap::new();
    for at in others {
        if let Some(parent) = trace.spans[*at as usize].parent_id {
            let count = of_parent.entry(parent).or_insert(0);
            *count += 1;
        }
    }
    let others: HashSet<u32> = others.iter().copied().collect();
    for (at, stands) in (0_u32..).zip(stands) {
        let found = trace.spans[at as usize].parent_id.and_then(|parent| of_parent.get(&parent));
        // A span is no sibling of itself.
        *stands = found.is_some_and(|count| *count > u32::from(others.contains(&at)));
    }
}
