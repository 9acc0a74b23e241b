//! Adds up minutes of edges where they are, without copying each of them.
//!
//! In: minutes held. Out: one [`EdgeMinute`] for each edge. Invariant: the sum of an edge is that of the minutes that
//! [`Accumulator::edges_of`] gives for it.

use std::sync::Arc;

use super::{Accumulator, Cell, Edge, FastMap};
use crate::model::workload::{EdgeKey, LatencyHistogram};
use crate::model::{EdgeMinute, Timestamp};

/// Sums of edges, by where the key of the edge lies: it is held, so no other edge can lie there.
#[derive(Default)]
pub(in crate::rollup) struct Sums(FastMap<usize, (Arc<EdgeKey>, EdgeMinute)>);

impl Sums {
    /// The sums, each under `minute`.
    pub(in crate::rollup) fn into_minutes(self, minute: Timestamp) -> impl Iterator<Item = EdgeMinute> {
        self.0.into_values().map(move |(_, sum)| EdgeMinute { minute, ..sum })
    }
}

impl Accumulator {
    /// Adds what was counted in one minute; whether anything was.
    pub(in crate::rollup) fn add_minute_to(&self, minute: i64, sums: &mut Sums) -> bool {
        let Some(cells) = self.minutes.get(&minute) else { return false };
        for (id, cell) in cells {
            let Some(edge) = &self.edges[*id as usize] else { continue };
            let new = || {
                let empty = EdgeMinute::empty(Timestamp::from_millis(minute), EdgeKey::clone(&edge.key));
                (Arc::clone(&edge.key), empty)
            };
            let (_, sum) = sums.0.entry(Arc::as_ptr(&edge.key) as usize).or_insert_with(new);
            self.add_cell(edge, cell, sum);
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
