//! The labels of a scraped series: joined with its target's, and within limits. Pure.

use std::borrow::Cow;

use super::exposition::LabelPair;
use crate::discovery::Limits;
use crate::model::Labels;

/// Scraped labels with the target's: on a conflict the target's win and the scraped are renamed `exported_…`, or with
/// `honor_labels` the scraped win, an empty one included.
pub(super) fn join_labels(scraped: Vec<LabelPair<'_>>, target: &Labels, honor: bool) -> Labels {
    if honor {
        let free = |name: &str| !scraped.iter().any(|(n, _)| n == name);
        let own: Vec<(&str, &str)> = target.iter().filter(|(name, _)| free(name)).collect();
        return scraped.iter().map(|(n, v)| (&**n, &**v)).chain(own).collect();
    }
    // The common case, without lists of what is kept and what not.
    if target.iter().all(|(name, _)| scraped.iter().all(|(n, _)| n != name)) {
        return scraped.iter().map(|(n, v)| (&**n, &**v)).chain(target.iter()).collect();
    }
    let (mut conflicting, kept): (Vec<_>, Vec<_>) =
        scraped.into_iter().filter(|(_, value)| !value.is_empty()).partition(|(name, _)| target.get(name).is_some());
    if conflicting.is_empty() {
        return kept.iter().map(|(n, v)| (&**n, &**v)).chain(target.iter()).collect();
    }
    let own = target.iter().map(|(name, value)| (Cow::Borrowed(name), Cow::Borrowed(value)));
    let mut labels: Vec<LabelPair<'_>> = kept.into_iter().chain(own).collect();
    conflicting.sort_by_key(|(name, _)| name.len()); // shorter first, as Prometheus resolves them
    for (name, value) in conflicting {
        let mut renamed = format!("exported_{name}");
        while labels.iter().any(|(n, _)| **n == renamed) {
            renamed.insert_str(0, "exported_");
        }
        labels.push((Cow::Owned(renamed), value));
    }
    labels.into_iter().collect()
}

/// Whether a series is within the label limits of its job.
pub(super) fn check_limits(labels: &Labels, limits: &Limits) -> Result<(), String> {
    if limits.labels == 0 && limits.label_name_bytes == 0 && limits.label_value_bytes == 0 {
        return Ok(());
    }
    let metric: String = labels.metric_name().chars().take(50).collect();
    let (count, limit) = (labels.len() as u64, limits.labels);
    if limit > 0 && count > limit {
        return Err(format!("label_limit exceeded (metric: {metric}, number of labels: {count}, limit: {limit})"));
    }
    if limits.label_name_bytes == 0 && limits.label_value_bytes == 0 {
        return Ok(());
    }
    for (name, value) in labels {
        let shown: String = name.chars().take(50).collect();
        let over = |text: &str, limit: u64| limit > 0 && text.len() as u64 > limit;
        let about = |which: &str, text: &str, limit: u64| {
            format!("{which} exceeded (metric: {metric}, label name: {shown}, length: {}, limit: {limit})", text.len())
        };
        if over(name, limits.label_name_bytes) {
            return Err(about("label_name_length_limit", name, limits.label_name_bytes));
        }
        if over(value, limits.label_value_bytes) {
            return Err(about("label_value_length_limit", value, limits.label_value_bytes));
        }
    }
    Ok(())
}
