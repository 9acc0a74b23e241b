//! Which samples of a series stand for all of them over months.
//!
//! In: the samples of one series, oldest first. Out: some of them, at their own times with their own values. Of each slot of
//! five minutes (aligned to the epoch) a counter keeps its last sample, and everywhere both sides of each fall, so that its
//! increase between any two kept samples is exact; everything else keeps first, last, smallest and largest. Stale markers
//! stay, with the sample before and after each; so does the first sample of all, and one at each side of a gap. Where
//! that would leave more than five minutes between two samples that had others between them, the last that is near enough
//! stays too: an instant query finds a value wherever it found one before.
//!
//! Invariant: thinning what is thinned changes nothing that matters, so windows may be thinned again.

use std::sync::Arc;
use std::time::Duration;

use super::block::{Block, Member};
use crate::model::{Timestamp, is_stale};

/// The distance of thinned samples.
pub const THINNED_STEP: Duration = Duration::from_secs(300);
/// Ends of the names of metrics that only grow.
const COUNTERS: [&str; 4] = ["_total", "_count", "_sum", "_bucket"];

/// Whether thinning treats the metric as a counter: by its name, as OpenMetrics and the Prometheus conventions have it.
pub fn is_counter_name(metric: &str) -> bool {
    COUNTERS.iter().any(|suffix| metric.ends_with(suffix))
}

/// Thins every series of a label set.
pub fn thin_block(block: Block) -> Block {
    let mut last_times: Option<Arc<[Timestamp]>> = None;
    let thinned = |((metric, bucket), member): ((String, String), Member)| {
        let mut thinned = thin(&member, is_counter_name(&metric));
        // Idle counters of one scrape keep the same samples: their times are one column again.
        match &last_times {
            Some(times) if *times == thinned.times => thinned.times = Arc::clone(times),
            _ => last_times = Some(Arc::clone(&thinned.times)),
        }
        ((metric, bucket), thinned)
    };
    block.into_iter().map(thinned).collect()
}

/// The samples that stay of one series.
pub fn thin(member: &Member, is_counter: bool) -> Member {
    let (times, values) = (&member.times, &member.values);
    let mut keep = vec![false; values.len()];
    // As ranges in PromQL: open on the left, so that a range that ends at a full five minutes ends with a slot.
    let slot = |i: usize| (times[i].as_millis() - 1).div_euclid(THINNED_STEP.as_millis() as i64);
    let mut start = 0;
    while start < values.len() {
        let end = (start..values.len()).find(|i| slot(*i) != slot(start)).unwrap_or(values.len());
        keep[end - 1] = true;
        if !is_counter {
            keep_extremes(&mut keep[start..end], &values[start..end]);
        }
        start = end;
    }
    if let Some(first) = keep.first_mut() {
        *first = true;
    }
    for i in 1..values.len() {
        let (before, after) = (values[i - 1], values[i]);
        let is_fall = is_counter && after < before;
        let is_gap = times[i].since(times[i - 1]) > THINNED_STEP;
        if is_fall || is_gap || is_stale(before) || is_stale(after) {
            (keep[i - 1], keep[i]) = (true, true);
        }
    }
    bridge(&mut keep, times);
    let kept = |i: &usize| keep[*i];
    Member {
        times: (0..values.len()).filter(kept).map(|i| times[i]).collect(),
        values: (0..values.len()).filter(kept).map(|i| values[i]).collect(),
    }
}

/// First, smallest and largest of one slot; markers are no values.
fn keep_extremes(keep: &mut [bool], values: &[f64]) {
    keep[0] = true;
    let numbers = || (0..values.len()).filter(|i| !values[*i].is_nan());
    let smallest = numbers().min_by(|a, b| values[*a].total_cmp(&values[*b]));
    let largest = numbers().max_by(|a, b| values[*a].total_cmp(&values[*b]));
    smallest.into_iter().chain(largest).for_each(|i| keep[i] = true);
}

/// Keeps samples between kept ones that are too far apart.
fn bridge(keep: &mut [bool], times: &[Timestamp]) {
    let mut last = 0;
    for i in 1..keep.len() {
        if times[i].since(times[last]) > THINNED_STEP && last < i - 1 {
            keep[i - 1] = true; // the one before was still near enough
            last = i - 1;
        }
        if keep[i] {
            last = i;
        }
    }
}

#[cfg(test)]
#[path = "thin/tests.rs"]
mod tests;
