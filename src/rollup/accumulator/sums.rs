//! Adds up minutes of edges where they are, without copying each of them.
//!
//! In: minutes held. Out: one [`EdgeMinute`] for each edge. Invariant: the sum of an edge is that of the minutes that
//! [`Accumulator::edges_of`] gives for it.

use std::sync::Arc;

use super::{Accumulator, Cell, Edge};
use crate::model::workload::{EdgeKey, LatencyHistogram};
use crate::model::{EdgeMinute, Timestamp};

/// Sums of the wanted edges.
pub(in crate::rollup) struct Sums<'w> {
    wanted: &'w dyn Fn(&EdgeKey) -> bool,
    /// By number of the edge, which another one may have got meanwhile.
    by_number: Vec<Place>,
    /// Those whose number another edge has got.
    displaced: Vec<EdgeMinute>,
}

/// What is known under a number.
#[derive(Default)]
enum Place {
    #[default]
    Vacant,
    Unwanted(Arc<EdgeKey>),
    Sum(EdgeMinute),
}

impl Place {
    fn key(&self) -> Option<&Arc<EdgeKey>> {
        match self {
            Self::Vacant => None,
            Self::Unwanted(key) => Some(key),
            Self::Sum(sum) => Some(&sum.edge),
        }
    }
}

impl<'w> Sums<'w> {
    /// None yet.
    pub(in crate::rollup) fn of(wanted: &'w dyn Fn(&EdgeKey) -> bool) -> Self {
        Self { wanted, by_number: Vec::new(), displaced: Vec::new() }
    }

    /// The sums, each under `minute`.
    pub(in crate::rollup) fn into_minutes(self, minute: Timestamp) -> impl Iterator<Item = EdgeMinute> {
        let sums = self.by_number.into_iter().filter_map(|place| match place {
            Place::Sum(sum) => Some(sum),
            _ => None,
        });
        sums.chain(self.displaced).map(move |sum| EdgeMinute { minute, ..sum })
    }

    /// The sum of an edge, when it is wanted. Its key is held, so no other edge's key can lie at the same place.
    fn of_edge(&mut self, number: u32, key: &Arc<EdgeKey>) -> Option<&mut EdgeMinute> {
        let at = number as usize;
        if self.by_number.len() <= at {
            self.by_number.resize_with(at + 1, Place::default);
        }
        let place = &mut self.by_number[at];
        if !place.key().is_some_and(|known| Arc::ptr_eq(known, key)) {
            let new = match (self.wanted)(key) {
                true => Place::Sum(EdgeMinute::empty(Timestamp::MIN, Arc::clone(key))),
                false => Place::Unwanted(Arc::clone(key)),
            };
            if let Place::Sum(sum) = std::mem::replace(place, new) {
                self.displaced.push(sum);
            }
        }
        match place {
            Place::Sum(sum) => Some(sum),
            _ => None,
        }
    }
}

impl Accumulator {
    /// Adds what was counted in one minute; whether anything was.
    pub(in crate::rollup) fn add_minute_to(&self, minute: i64, sums: &mut Sums<'_>) -> bool {
        let Some(cells) = self.minutes.get(&minute) else { return false };
        for (id, cell) in cells {
            let Some(edge) = &self.edges[*id as usize] else { continue };
            if let Some(sum) = sums.of_edge(*id, &edge.key) {
                self.add_cell(edge, cell, sum);
            }
        }
        !cells.is_empty()
    }

    fn add_cell(&self, edge: &Edge, cell: &Cell, sum: &mut EdgeMinute) {
        for (outcome, count) in edge.outcomes.iter().zip(&cell.requests).filter(|(_, count)| **count > 0.0) {
            match sum.requests.iter_mut().find(|(known, _)| known == outcome) {
                Some((_, all)) => *all += count,
                None => sum.requests.push((outcome.clone(), *count)),
            }
        }
        for (layout, cumulative) in &cell.latency {
            let bounds_ms = &self.layouts[usize::from(*layout)];
            if sum.latency.counts.is_empty() {
                sum.latency.bounds_ms = Arc::clone(bounds_ms);
                sum.latency.counts = vec![0.0; cumulative.len()];
            }
            if Arc::ptr_eq(bounds_ms, &sum.latency.bounds_ms) {
                add_parts(cumulative, &mut sum.latency.counts);
            } else {
                let mut counts = vec![0.0; cumulative.len()];
                add_parts(cumulative, &mut counts);
                sum.latency.merge(&LatencyHistogram { bounds_ms: Arc::clone(bounds_ms), counts, sum_ms: 0.0 });
            }
        }
        sum.latency.sum_ms += cell.latency_sum_ms;
        sum.request_bytes += cell.request_bytes;
        sum.response_bytes += cell.response_bytes;
        sum.request_messages += cell.request_messages;
        sum.response_messages += cell.response_messages;
        sum.connections_closed += cell.connections_closed;
    }
}

/// Adds each bucket's own count. A restart can be seen in one bucket and not in the next, so a difference may come out
/// below zero: then it is none.
fn add_parts(cumulative: &[f64], counts: &mut [f64]) {
    let mut before = 0.0_f64;
    for (count, sum) in cumulative.iter().zip(counts) {
        *sum += (count - before).max(0.0);
        before = before.max(*count);
    }
}
