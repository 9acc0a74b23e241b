//! The cold path: what a key that was never seen stands for.
//!
//! In: keys as written. Out: their meaning for the cache, with the series in memory and the slot of the rollup.
//! Invariant: a series is the same whether its labels were read in full or taken from one like it ([`Template`]).

use std::sync::atomic::Ordering;

use super::cache::Meaning;
use super::exposition::{MetricKind, canonical_float, parse_labels};
use super::ingest::{Family, Reader, TargetState};
use super::labels::{check_limits, join_labels};
use super::templates::{BUCKET, KeyParts, Template, is_plain};
use crate::discovery::{Limits, relabel};
use crate::model::{Labels, METRIC_NAME};
use crate::rollup::{Rollup, SlotId};

/// Why a series fails the page.
#[derive(Debug)]
pub(super) enum Admission {
    Malformed(String),
    Limit(String),
}

impl TargetState {
    /// What a key that was never seen stands for.
    pub(super) fn admit(&mut self, reader: &Reader<'_>, key: &[u8], family: Family<'_>) -> Result<Meaning, Admission> {
        let parts = KeyParts::of(key).filter(|parts| self.follows_templates(reader, parts.metric));
        let Some(parts) = parts else { return self.admit_in_full(reader, key, family).map(|(meaning, _)| meaning) };
        let hash = self.cache.hash(parts.labels);
        if let Some(meaning) = self.admit_like(reader, (&parts, hash), family.kind) {
            return Ok(meaning);
        }
        let (meaning, is_plain) = self.admit_in_full(reader, key, family)?;
        if let (Meaning::Series(index), true) = (meaning, is_plain) {
            self.make_template(reader, (&parts, hash), index);
        }
        Ok(meaning)
    }

    /// Whether series of that metric are stored as their labels and the target's say, without rules that look at each.
    fn follows_templates(&self, reader: &Reader<'_>, metric: &str) -> bool {
        let Reader { target, sinks, limits, .. } = reader;
        let Limits { labels, label_name_bytes, label_value_bytes, .. } = limits;
        target.job.config.metric_relabel_configs.is_empty()
            && (*labels, *label_name_bytes, *label_value_bytes) == (0, 0, 0)
            && !sinks.head.label_rules().applies_to(metric)
            && !sinks.head.safe_mode().is_active()
            && self.cache.members.len() == 0
            && target.labels.get(BUCKET).is_none()
    }

    /// A series whose other labels are those of one that was read in full.
    fn admit_like(
        &mut self,
        reader: &Reader<'_>,
        (parts, hash): (&KeyParts<'_>, u64),
        kind: MetricKind,
    ) -> Option<Meaning> {
        let Reader { sinks, zero_at, .. } = reader;
        let template = self.templates.get(hash, parts.labels)?;
        let canonical = (kind == MetricKind::Histogram).then(|| canonical_float(parts.bound));
        let bound = canonical.as_deref().unwrap_or(parts.bound);
        let series = match sinks.head.intern_in(template.block, parts.metric, bound) {
            Some(Ok(series)) => series,
            Some(Err(_)) => return Some(Meaning::Refused),
            None => {
                self.templates.remove(hash, parts.labels);
                return None;
            }
        };
        let neighbour = template.histogram.as_ref().filter(|(metric, _)| **metric == *parts.metric);
        let neighbour = neighbour.map(|(_, slot)| *slot).filter(|_| !bound.is_empty());
        let (index, _) = self.cache.series_index(series, |shared| {
            let labels = shared.compact_like(&template.labels, parts.metric, bound);
            let beside = neighbour.and_then(|neighbour| sinks.rollup.slot_beside(neighbour, bound, *zero_at));
            let slot = beside
                .or_else(|| Rollup::may_count(parts.metric).then(|| slot_of(reader, &labels.to_labels())).flatten());
            (labels, slot)
        });
        let state = &self.cache.series[index as usize];
        if let Some(slot) = state.slot.filter(|_| !bound.is_empty()) {
            template.histogram = Some((state.labels.metric().clone(), slot));
        }
        Some(Meaning::Series(index))
    }

    fn make_template(&mut self, reader: &Reader<'_>, (parts, hash): (&KeyParts<'_>, u64), index: u32) {
        let state = &self.cache.series[index as usize];
        let Some(block) = reader.sinks.head.block_of(state.series) else { return };
        let histogram = state.slot.filter(|_| !parts.bound.is_empty());
        let histogram = histogram.map(|slot| (state.labels.metric().clone(), slot));
        self.templates.insert(hash, parts.labels, Template { labels: state.labels.clone(), block, histogram });
    }

    /// By all its labels; whether those are where a template needs them.
    fn admit_in_full(
        &mut self,
        reader: &Reader<'_>,
        key: &[u8],
        family: Family<'_>,
    ) -> Result<(Meaning, bool), Admission> {
        let Reader { target, sinks, limits, zero_at, .. } = reader;
        let scraped = parse_labels(key, family.kind).map_err(Admission::Malformed)?;
        let Some((_, name)) = scraped.iter().find(|(name, value)| name == METRIC_NAME && !value.is_empty()) else {
            return Err(Admission::Malformed("the series has no metric name".to_owned()));
        };
        let is_addable = family.is_addable(name.as_bytes());
        let is_plain = is_plain(&scraped);
        let config = &target.job.config;
        let labels = join_labels(scraped, &target.labels, config.honor_labels);
        let Some(labels) = relabel::apply(&config.metric_relabel_configs, labels) else {
            return Ok((Meaning::Dropped, false));
        };
        if labels.metric_name().is_empty() {
            return Ok((Meaning::Dropped, false));
        }
        check_limits(&labels, limits).map_err(Admission::Limit)?;
        let stored = self.stored_labels(reader, &labels, is_addable);
        if !sinks.head.safe_mode().stores(stored.as_ref().unwrap_or(&labels)) {
            // Memory is short and no rule reads it: edges go on counting, nothing else is kept.
            let member = self.cache.members.admit(&labels, None, zero_at.is_some(), || slot_of(reader, &labels));
            return Ok((Meaning::Member(member), false));
        }
        let Ok(series) = sinks.head.intern(stored.as_ref().unwrap_or(&labels)) else {
            return Ok((Meaning::Refused, false));
        };
        if let Some(stored) = stored {
            let (index, _) = self.cache.series_index(series, |shared| (shared.compact(&stored), None));
            let slot = || slot_of(reader, &labels);
            let member = self.cache.members.admit(&labels, Some(index), zero_at.is_some(), slot);
            return Ok((Meaning::Member(member), false));
        }
        let counted_in = self.cache.members.take_slot(&labels); // while memory was short
        let (index, is_new) = self
            .cache
            .series_index(series, |shared| (shared.compact(&labels), counted_in.or_else(|| slot_of(reader, &labels))));
        if let Some(slot) = counted_in.filter(|_| !is_new) {
            sinks.rollup.release(slot); // another spelling of a known series, which has its own
        }
        Ok((Meaning::Series(index), is_plain))
    }

    /// The labels under which a series is added up with others, when `storage.keep_labels` or `drop_labels` names its
    /// metric. Labels of the target stay, so that series of two targets never meet.
    fn stored_labels(&self, reader: &Reader<'_>, labels: &Labels, is_addable: bool) -> Option<Labels> {
        let Reader { target, sinks, .. } = reader;
        let (rules, metric) = (sinks.head.label_rules(), labels.metric_name());
        if !rules.applies_to(metric) {
            return None;
        }
        let keeps = |name: &str| rules.keeps(metric, name) || target.labels.get(name).is_some();
        let is_of_target = target.labels.iter().all(|(name, value)| labels.value(name) == value);
        if is_addable && is_of_target {
            return Some(labels.filter(keeps));
        }
        if labels.iter().any(|(name, _)| !keeps(name)) {
            sinks.counters.label_rules_not_applied.fetch_add(1, Ordering::Relaxed);
        }
        None
    }
}

/// Where increments of a series go that is new since the last good page, or whose past nobody knows.
fn slot_of(reader: &Reader<'_>, labels: &Labels) -> Option<SlotId> {
    match reader.zero_at {
        Some(zero_at) => reader.sinks.rollup.slot_since(labels, zero_at),
        None => reader.sinks.rollup.slot(labels),
    }
}
