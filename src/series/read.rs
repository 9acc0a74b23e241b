//! Queries on the memory tier.
//!
//! In: matchers and a time range. Out: label sets and samples. Locks are held to find series and to take snapshots of
//! their groups, not while samples are unpacked; long answers yield to other tasks in between.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use futures_util::future::BoxFuture;

use super::frame::ABSENT;
use super::group::Snapshot;
use super::head::{Head, Shared};
use super::index::Place;
use super::{QueryError, Queryable, Select, Selection, SeriesSamples};
use crate::model::{Labels, Matcher, Timestamp};

/// How many series are read between two moments in which other tasks and locks may come in.
const SLICE: usize = 2048;
/// The same in samples, where series are read family by family.
const SLICE_SAMPLES: usize = 50_000;

/// Times and values of one series.
pub(super) type Columns = (Arc<[Timestamp]>, Vec<f64>);

/// One place of one series that is to be read.
struct Wanted {
    place: Place,
    /// Which of the series asked for.
    series: usize,
}

impl Shared {
    /// References of the series that satisfy any of the matcher lists (of all without a list), each once.
    fn matching(&self, any_of: &[Vec<Matcher>]) -> Vec<u64> {
        let index = self.index.read();
        match any_of {
            [] => index.all(),
            [one] => index.select(one),
            several => {
                let mut found: Vec<u64> = several.iter().flat_map(|matchers| index.select(matchers)).collect();
                found.sort_unstable();
                found.dedup();
                found
            }
        }
    }

    /// Orders series so that those of one group lie together, which lets them share a time column and a snapshot.
    pub(super) fn sort_by_group(&self, series: &mut [u64]) {
        let index = self.index.read();
        series.sort_by_cached_key(|reference| {
            index.places(*reference).last().map(|place| (place.group.id(), place.slot))
        });
    }

    /// Takes snapshots of all places of those series, a group at a time.
    fn snapshots(&self, series: &[u64], from: i64, to: i64, mut visit: impl FnMut(&[Wanted], &Snapshot)) {
        let mut wanted: Vec<Wanted> = Vec::with_capacity(series.len());
        {
            let index = self.index.read();
            for (i, reference) in series.iter().enumerate() {
                wanted.extend(index.places(*reference).map(|place| Wanted { place: place.clone(), series: i }));
            }
        }
        wanted.sort_by_key(|wanted| (wanted.place.group.id(), wanted.place.slot));
        for of_group in wanted.chunk_by(|a, b| a.place.group.id() == b.place.group.id()) {
            let slots: Vec<u32> = of_group.iter().map(|wanted| wanted.place.slot).collect();
            let snapshot = of_group[0].place.group.lock().snapshot(&slots, from, to);
            visit(of_group, &snapshot);
        }
    }

    /// Reads the samples of those series in `[from, to]`; those without any are left out. Label sets that will be asked
    /// for again are cached.
    pub(super) fn read(
        &self,
        (series, is_cached): (&[u64], bool),
        from: i64,
        to: i64,
        emit: &mut dyn FnMut(SeriesSamples),
    ) {
        let mut columns: Vec<Option<Columns>> = vec![None; series.len()];
        let mut bits = Vec::new();
        self.snapshots(series, from, to, |of_group, snapshot| {
            let times: Vec<Timestamp> = snapshot.times().into_iter().map(Timestamp::from_millis).collect();
            let shared_times: Arc<[Timestamp]> = times.as_slice().into();
            for (i, wanted) in of_group.iter().enumerate() {
                bits.clear();
                snapshot.values(i, &mut bits);
                let holes = bits.iter().filter(|bits| **bits == ABSENT).count();
                let late = snapshot.late(i);
                if holes == bits.len() && late.is_empty() {
                    continue;
                }
                let found = if holes == 0 && late.is_empty() {
                    (shared_times.clone(), bits.iter().map(|bits| f64::from_bits(*bits)).collect())
                } else {
                    own_columns(&times, &bits, late)
                };
                let column = &mut columns[wanted.series];
                *column = Some(match column.take() {
                    None => found,
                    Some(other) => merge_columns(&found, &other),
                });
            }
        });
        let (found, columns): (Vec<u64>, Vec<Columns>) =
            series.iter().zip(columns).filter_map(|(reference, columns)| Some((*reference, columns?))).unzip();
        for (labels, (times, values)) in self.labels_of(&found, is_cached).into_iter().zip(columns) {
            if let Some(labels) = labels {
                emit(SeriesSamples { labels, times, values });
            }
        }
    }

    /// The label sets of those series, `None` for those that have ended meanwhile.
    fn labels_of(&self, series: &[u64], is_cached: bool) -> Vec<Option<Labels>> {
        let index = self.index.read();
        if is_cached {
            self.label_cache.labels(series, &index)
        } else {
            series.iter().map(|reference| index.labels(*reference)).collect()
        }
    }

    /// Whether each of those series has a sample in `[from, to]`.
    fn presence(&self, series: &[u64], from: i64, to: i64) -> Vec<bool> {
        let mut present = vec![false; series.len()];
        self.snapshots(series, from, to, |of_group, snapshot| {
            for (i, wanted) in of_group.iter().enumerate() {
                present[wanted.series] |= snapshot.is_present(i);
            }
        });
        present
    }

    /// Whether any sample in memory can lie in the range.
    fn reaches(&self, from: Timestamp, to: Timestamp) -> bool {
        let oldest_kept = self.complete_from.load(Relaxed).saturating_sub(self.config.memory_window.as_millis());
        from.as_millis() <= self.max_time.load(Relaxed) && to.as_millis() >= oldest_kept
    }
}

/// The samples of a series that lacks some of its group's times or has others.
fn own_columns(times: &[Timestamp], bits: &[u64], late: &[(i64, u64)]) -> Columns {
    let rows = times.iter().copied().zip(bits.iter().copied()).filter(|(_, bits)| *bits != ABSENT);
    let mut samples: Vec<(Timestamp, u64)> =
        rows.chain(late.iter().map(|(at, bits)| (Timestamp::from_millis(*at), *bits))).collect();
    if !late.is_empty() {
        samples.sort_by_key(|(at, _)| *at);
        samples.dedup_by_key(|(at, _)| *at);
    }
    columns(samples.into_iter().map(|(at, bits)| (at, f64::from_bits(bits))))
}

/// The samples of both, by time; of two at one time those of `first`.
pub(super) fn merge_columns(first: &Columns, second: &Columns) -> Columns {
    let mut samples: Vec<(Timestamp, f64)> = (first.0.iter().copied().zip(first.1.iter().copied()))
        .chain(second.0.iter().copied().zip(second.1.iter().copied()))
        .collect();
    samples.sort_by_key(|(at, _)| *at); // stable: of equal times the first one's comes first
    samples.dedup_by_key(|(at, _)| *at);
    columns(samples.into_iter())
}

/// Samples as two columns.
fn columns(samples: impl Iterator<Item = (Timestamp, f64)>) -> Columns {
    let (times, values): (Vec<Timestamp>, Vec<f64>) = samples.unzip();
    (times.into(), values)
}

impl Head {
    /// As [`Queryable::select`], family by family where that can be.
    async fn select_families(&self, series: &[u64], select: &Select) -> Result<Selection, QueryError> {
        let range = (select.from.as_millis(), select.to.as_millis());
        let mut selection = Selection::default();
        let (mut samples, mut since_yield) = (0_usize, 0_usize);
        let plan = self.0.plan_families(series);
        for i in 0..=plan.groups() {
            let found = self.0.read_part(&plan, i, range, &mut selection);
            samples += found;
            if samples > select.sample_limit {
                return Err(QueryError::TooManySamples);
            }
            since_yield += found;
            if since_yield > SLICE_SAMPLES {
                since_yield = 0;
                tokio::task::yield_now().await;
            }
        }
        Ok(selection)
    }
}

impl Queryable for Head {
    fn select(&self, select: Select) -> BoxFuture<'_, Result<Selection, QueryError>> {
        Box::pin(async move {
            let mut selection = Selection::default();
            if select.from > select.to {
                return Ok(selection);
            }
            let mut series = self.0.index.read().select(&select.matchers);
            if select.hint.families {
                return self.select_families(&series, &select).await;
            }
            self.0.sort_by_group(&mut series);
            let mut samples = 0_usize;
            for (i, slice) in series.chunks(SLICE).enumerate() {
                if i > 0 {
                    tokio::task::yield_now().await;
                }
                self.0.read((slice, true), select.from.as_millis(), select.to.as_millis(), &mut |found| {
                    samples += found.values.len();
                    selection.series.push(found);
                });
                if samples > select.sample_limit {
                    return Err(QueryError::TooManySamples);
                }
            }
            Ok(selection)
        })
    }

    fn series(
        &self,
        any_of: Vec<Vec<Matcher>>,
        from: Timestamp,
        to: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<Labels>, QueryError>> {
        Box::pin(async move {
            let mut found = Vec::new();
            if from > to {
                return Ok(found);
            }
            let mut series = self.0.matching(&any_of);
            self.0.sort_by_group(&mut series);
            for (i, slice) in series.chunks(SLICE).enumerate() {
                if i > 0 {
                    tokio::task::yield_now().await;
                }
                let present = self.0.presence(slice, from.as_millis(), to.as_millis());
                let index = self.0.index.read();
                let in_range = slice.iter().zip(present).filter(|(_, is_present)| *is_present);
                found.extend(in_range.filter_map(|(reference, _)| index.labels(*reference)));
            }
            Ok(found)
        })
    }

    /// As Prometheus answers from its head: of all series in memory when the range reaches into it.
    fn label_names(
        &self,
        any_of: Vec<Vec<Matcher>>,
        from: Timestamp,
        to: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<String>, QueryError>> {
        let series = (!any_of.is_empty()).then(|| self.0.matching(&any_of));
        let names = self.0.reaches(from, to).then(|| self.0.index.read().label_names(series.as_deref()));
        Box::pin(async move { Ok(names.into_iter().flatten().collect()) })
    }

    /// As Prometheus answers from its head: of all series in memory when the range reaches into it.
    fn label_values(
        &self,
        name: String,
        any_of: Vec<Vec<Matcher>>,
        from: Timestamp,
        to: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<String>, QueryError>> {
        let series = (!any_of.is_empty()).then(|| self.0.matching(&any_of));
        let values = self.0.reaches(from, to).then(|| self.0.index.read().label_values(&name, series.as_deref()));
        Box::pin(async move { Ok(values.into_iter().flatten().collect()) })
    }
}
