//! Reads series of the memory tier family by family: the buckets of a histogram were scraped one after another, so they
//! have their times, their place in every frame and all labels but `le` in common.
//!
//! In: references of series. Out: families, and one by one the series that have a history of their own: several places,
//! late samples, or times at which they were not there. Invariant: each series comes out once.

use std::sync::Arc;

use super::frame::ABSENT;
use super::group::Group;
use super::head::Shared;
use super::{Family, Selection};
use crate::model::Timestamp;

/// A series and its only place.
struct Row {
    group: u64,
    slot: u32,
    /// Its block and metric name.
    family: (u32, u32),
    reference: u64,
}

/// Series that are to be read, by group and slot.
pub(super) struct Plan {
    rows: Vec<Row>,
    /// Each with the end of its rows.
    groups: Vec<(Arc<Group>, usize)>,
    /// Series that have had several places.
    others: Vec<u64>,
}

impl Plan {
    /// How many groups there are to read.
    pub(super) fn groups(&self) -> usize {
        self.groups.len()
    }
}

impl Shared {
    /// Finds where those series are.
    pub(super) fn plan_families(&self, series: &[u64]) -> Plan {
        let index = self.index.read();
        let mut plan = Plan { rows: Vec::with_capacity(series.len()), groups: Vec::new(), others: Vec::new() };
        for &reference in series {
            match index.only_place(reference) {
                Some((place, family)) => {
                    plan.rows.push(Row { group: place.group.id(), slot: place.slot, family, reference });
                }
                None => plan.others.push(reference),
            }
        }
        plan.rows.sort_by_key(|row| (row.group, row.slot));
        let mut end = 0;
        for of_group in plan.rows.chunk_by(|a, b| a.group == b.group) {
            end += of_group.len();
            if let Some((place, _)) = index.only_place(of_group[0].reference) {
                plan.groups.push((Arc::clone(&place.group), end));
            }
        }
        plan
    }

    /// Reads the `i`th group of the plan, past the last the series that are in no group; how many samples.
    pub(super) fn read_part(&self, plan: &Plan, i: usize, range: (i64, i64), selection: &mut Selection) -> usize {
        let (families_before, series_before) = (selection.families.len(), selection.series.len());
        let alone = match plan.groups.get(i) {
            Some(_) => self.read_group(plan, i, range, &mut selection.families),
            None => plan.others.clone(),
        };
        if !alone.is_empty() {
            self.read((&alone, true), range.0, range.1, &mut |series| selection.series.push(series));
        }
        let families = selection.families[families_before..].iter().map(|family| family.values.len());
        let series = selection.series[series_before..].iter().map(|series| series.values.len());
        families.sum::<usize>() + series.sum::<usize>()
    }

    /// Adds the families of the `i`th group; returns the series that must be read one by one.
    fn read_group(&self, plan: &Plan, i: usize, (from, to): (i64, i64), families: &mut Vec<Family>) -> Vec<u64> {
        let (group, end) = &plan.groups[i];
        let start = i.checked_sub(1).map_or(0, |before| plan.groups[before].1);
        let rows = &plan.rows[start..*end];
        let slots: Vec<u32> = rows.iter().map(|row| row.slot).collect();
        let (snapshot, moved) = {
            let state = group.lock();
            let is_here = |row: &Row| state.is_owned(row.slot, row.reference);
            (state.snapshot(&slots, from, to), rows.iter().any(|row| !is_here(row)))
        };
        if moved {
            // Garbage collection came in between.
            return rows.iter().map(|row| row.reference).collect();
        }
        let times: Arc<[Timestamp]> = snapshot.times().into_iter().map(Timestamp::from_millis).collect();
        let values = snapshot.matrix(times.len());
        let row_of = |i: usize| &values[i * times.len()..(i + 1) * times.len()];
        let mut alone = Vec::new();
        let mut at = 0;
        for family in rows.chunk_by(|a, b| a.family == b.family) {
            let mut whole: Vec<u64> = Vec::with_capacity(family.len());
            let mut found: Vec<f64> = Vec::with_capacity(family.len() * times.len());
            for (i, row) in (at..).zip(family) {
                let bits = row_of(i);
                if !snapshot.late(i).is_empty() {
                    alone.push(row.reference);
                } else if bits.contains(&ABSENT) {
                    alone.extend(bits.iter().any(|bits| *bits != ABSENT).then_some(row.reference));
                } else {
                    whole.push(row.reference);
                    found.extend(bits.iter().map(|bits| f64::from_bits(*bits)));
                }
            }
            at += family.len();
            if !found.is_empty()
                && let Some(names) = self.label_cache.family(&whole, &self.index.read())
            {
                families.push(Family { names, times: Arc::clone(&times), values: found });
            }
        }
        alone
    }
}
