//! Recording rules: the samples of an expression under a name of their own.
//!
//! In: what the expression returned. Out: samples to write. Pure.

use std::collections::HashSet;

use super::definition::RecordingRule;
use crate::model::{Labels, METRIC_NAME};
use crate::promql;

/// The samples to write.
///
/// # Errors
/// When two of them are the same series, or there are more than `limit` (0 is no limit).
pub fn samples(
    rule: &RecordingRule,
    result: Vec<promql::InstantSample>,
    limit: usize,
) -> Result<Vec<(Labels, f64)>, String> {
    let set: Vec<(&str, &str)> = std::iter::once((METRIC_NAME, rule.name.as_str()))
        .chain(rule.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())))
        .collect();
    let samples: Vec<(Labels, f64)> = result
        .into_iter()
        // The last of a repeated name counts, and an empty value deletes.
        .map(|sample| (sample.labels.iter().chain(set.iter().copied()).collect(), sample.value))
        .collect();
    let mut seen = HashSet::with_capacity(samples.len());
    if !samples.iter().all(|(labels, _)| seen.insert(labels)) {
        return Err("vector contains metrics with the same labelset after applying rule labels".to_owned());
    }
    if limit > 0 && samples.len() > limit {
        return Err(format!("exceeded limit of {limit} with {} series", samples.len()));
    }
    Ok(samples)
}
