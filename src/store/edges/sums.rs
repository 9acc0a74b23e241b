//! Adds up what an edge did.

use std::collections::HashMap;

use crate::model::EdgeMinute;
use crate::model::workload::LatencyHistogram;

pub(super) fn add_to(totals: &mut HashMap<i64, EdgeMinute>, edge: i64, minute: EdgeMinute) {
    match totals.get_mut(&edge) {
        Some(total) => add(total, minute),
        None => drop(totals.insert(edge, minute)),
    }
}

/// Adds what the same edge did at another time.
pub(super) fn add(total: &mut EdgeMinute, more: EdgeMinute) {
    for (outcome, count) in more.requests {
        match total.requests.iter_mut().find(|(known, _)| *known == outcome) {
            Some((_, sum)) => *sum += count,
            None => total.requests.push((outcome, count)),
        }
    }
    add_latency(&mut total.latency, more.latency);
    total.request_bytes += more.request_bytes;
    total.response_bytes += more.response_bytes;
    total.connections_closed += more.connections_closed;
    total.request_messages += more.request_messages;
    total.response_messages += more.response_messages;
}

/// Adds histograms. Of different layouts the sum has all bounds of both: each bucket's count stays under its own bound.
fn add_latency(total: &mut LatencyHistogram, more: LatencyHistogram) {
    if more.counts.is_empty() {
        total.sum_ms += more.sum_ms;
        return;
    }
    if total.counts.is_empty() {
        *total = LatencyHistogram { sum_ms: total.sum_ms + more.sum_ms, ..more };
        return;
    }
    if total.bounds_ms != more.bounds_ms {
        let mut bounds: Vec<f64> = total.bounds_ms.iter().chain(&*more.bounds_ms).copied().collect();
        bounds.sort_by(f64::total_cmp);
        bounds.dedup();
        total.counts = spread(total, &bounds);
        let counts = spread(&more, &bounds);
        total.counts.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        total.bounds_ms = bounds.into();
    } else {
        total.counts.iter_mut().zip(more.counts).for_each(|(sum, count)| *sum += count);
    }
    total.sum_ms += more.sum_ms;
}

fn spread(histogram: &LatencyHistogram, bounds: &[f64]) -> Vec<f64> {
    let mut counts = vec![0.0; bounds.len() + 1];
    for (i, count) in histogram.counts.iter().enumerate() {
        let place = histogram.bounds_ms.get(i).map_or(bounds.len(), |bound| bounds.partition_point(|b| b < bound));
        counts[place] += count;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_of_two_layouts_add_up_under_their_own_bounds() {
        let histogram = |bounds: &[f64], counts: &[f64]| LatencyHistogram {
            bounds_ms: bounds.into(),
            counts: counts.to_vec(),
            sum_ms: 1.0,
        };
        let mut total = histogram(&[1.0, 5.0], &[1.0, 2.0, 3.0]);
        add_latency(&mut total, histogram(&[5.0, 10.0], &[10.0, 20.0, 30.0]));
        assert_eq!(total.bounds_ms, [1.0, 5.0, 10.0].into());
        assert_eq!(total.counts, [1.0, 12.0, 20.0, 33.0]);
        assert_eq!(total.sum_ms, 2.0);
    }
}
