//! The samples of one request on their way into memory.
//!
//! In: series and their samples, in any order. Out: samples in memory and counted for edges, the ones too old for memory
//! for history, and what was refused, sample by sample. Invariant: a refused sample never keeps out a good one.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::cache::{Cache, Place};
use super::labels::{self, RawPair, SeriesError};
use super::{Config, Shared};
use crate::model::{Labels, Timestamp};
use crate::rollup::Rollup;
use crate::scrape::exposition::MetricKind;
use crate::series::{Appended, Exemplar, ExemplarError, SeriesSamples};

/// The series that says how a target's scrapes go.
const UP: &str = "up";
/// How far ahead of the clock a sample may be, as in Prometheus' remote write handler.
const AHEAD_LIMIT: Duration = Duration::from_secs(600);

/// A series of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesId(usize);

impl SeriesId {
    /// How many series the batch had before this one.
    pub fn index(self) -> usize {
        self.0
    }
}

/// Why a sample is refused. Texts are those of Prometheus (`storage/interface.go`).
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum SampleError {
    /// Older than the newest of its series, while `storage.out_of_order_window` is 0.
    #[error("out of order sample")]
    OutOfOrder,
    /// Older than memory, while `storage.out_of_order_window` is 0.
    #[error("out of bounds")]
    OutOfBounds,
    /// More than ten minutes ahead.
    #[error("out of bounds: timestamp is too far in the future")]
    TooFarAhead,
    /// Older than `storage.out_of_order_window` allows.
    #[error("too old sample")]
    TooOld,
    /// Another value is there for that time.
    #[error("duplicate sample for timestamp {at_ms}; overrides not allowed: existing {existing}, new value {offered}")]
    Duplicate {
        /// The time in milliseconds.
        at_ms: i64,
        /// What is there.
        existing: f64,
        /// What was sent.
        offered: f64,
    },
    /// Memory refused the series once more after it had forgotten it: it is full.
    #[error("the memory tier is full (storage.series_limit)")]
    Full,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub struct Committed {
    /// Samples stored, those for history included.
    pub accepted: usize,
    /// Exemplars kept.
    pub exemplars: usize,
    /// Refused samples: series, time, why.
    pub refused: Vec<(SeriesId, Timestamp, SampleError)>,
    /// Refused exemplars: series, why.
    pub refused_exemplars: Vec<(SeriesId, ExemplarError)>,
    /// What must be given to [`super::Intake::store_past`] before the request counts as stored.
    pub past: Vec<SeriesSamples>,
    /// The labels of the series that had something refused, by the order of [`Committed::refused`].
    labels: Vec<Labels>,
}

impl Committed {
    /// The labels of a series of which something was refused.
    pub fn labels(&self, series: SeriesId) -> &Labels {
        &self.labels[series.0]
    }
}

struct Pending {
    at: i64,
    series: usize,
    value: f64,
}

/// A request being stored.
pub struct Batch<'a> {
    shared: &'a Shared,
    cache: &'a mut Cache,
    /// Each with where its key lies in `keys`.
    series: Vec<(Place, std::ops::Range<usize>)>,
    keys: Vec<u8>,
    key: Vec<u8>,
    samples: Vec<Pending>,
    exemplars: Vec<(usize, Exemplar)>,
    /// Whether the sender scrapes, and sends all of it.
    from_scraper: bool,
    /// Series that are new to memory and count traffic, from such a sender.
    fresh: Vec<usize>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(shared: &'a Shared, cache: &'a mut Cache) -> Self {
        let (series, keys, key) = (Vec::new(), Vec::new(), Vec::new());
        let (samples, exemplars, fresh) = (Vec::new(), Vec::new(), Vec::new());
        Self { shared, cache, series, keys, key, samples, exemplars, from_scraper: false, fresh }
    }

    /// The sender scrapes, and sends all that it scrapes: a counter that is new on a target counts from its first value.
    pub fn of_scraper(&mut self) {
        self.from_scraper = true;
    }

    /// The limits.
    pub fn config(&self) -> &'a Config {
        &self.shared.config
    }

    /// The series of those labels, in any order; a known one costs no allocation.
    ///
    /// # Errors
    /// When the labels are not good, or the memory tier is full.
    pub fn series(&mut self, pairs: &[(&[u8], &[u8])]) -> Result<SeriesId, SeriesError> {
        labels::write_key(pairs, &mut self.key);
        let place = match self.cache.find(&self.key) {
            Some(place) => place,
            None => self.admit(pairs).inspect_err(|_| {
                self.shared.counters.refused_series.fetch_add(1, Relaxed);
            })?,
        };
        let start = self.keys.len();
        self.keys.extend_from_slice(&self.key);
        self.series.push((place, start..self.keys.len()));
        Ok(SeriesId(self.series.len() - 1))
    }

    fn admit(&mut self, pairs: &[RawPair<'_>]) -> Result<Place, SeriesError> {
        let good = labels::check(pairs, &self.shared.config)?;
        let full = |error: crate::series::AppendError| SeriesError::Full {
            reason: error.to_string(),
            labels: labels::shown(pairs),
        };
        let metric = good.metric_name();
        let is_fresh = self.from_scraper && Rollup::may_count(metric) && !self.shared.head.holds(&good);
        let series = self.shared.head.intern(&good).map_err(full)?;
        let is_up = metric == UP;
        let slot = match is_fresh {
            true => {
                self.fresh.push(self.series.len());
                None
            }
            // What was sent before is not known, so a counter's first value counts for nothing.
            false => self.shared.rollup.slot(&good),
        };
        let place = Place { series, slot, is_up };
        self.cache.insert(&self.key, place);
        Ok(place)
    }

    /// Adds a sample.
    pub fn sample(&mut self, series: SeriesId, at: Timestamp, value: f64) {
        self.samples.push(Pending { at: at.as_millis(), series: series.0, value });
    }

    /// Adds an exemplar.
    pub fn exemplar(&mut self, series: SeriesId, exemplar: Exemplar) {
        self.exemplars.push((series.0, exemplar));
    }

    /// Remembers what a metric is.
    pub fn metadata(&mut self, name: &str, kind: MetricKind, help: &str, unit: &str) {
        self.shared.metadata.set(name, kind, help, unit);
    }

    /// Stores all of it.
    pub(super) fn commit(mut self) -> Committed {
        let mut done = Committed::default();
        let now = self.shared.clock.now();
        let mut samples = std::mem::take(&mut self.samples);
        let mut past = Vec::new();
        samples.retain(|one| match self.judge(now, one) {
            Ok(Way::Memory) => true,
            Ok(Way::History) => {
                past.push((one.series, one.at, one.value));
                false
            }
            Err(error) => {
                done.refused.push((SeriesId(one.series), Timestamp::from_millis(one.at), error));
                false
            }
        });
        self.take_scrapes(&samples);
        samples.sort_by_key(|one| one.at); // stable: of one series and time the first given stays the first
        for same_time in samples.chunk_by(|a, b| a.at == b.at) {
            self.append(same_time, &mut done);
        }
        done.accepted += past.len();
        self.set_aside(past, &mut done);
        self.keep_exemplars(&mut done);
        if !done.refused.is_empty() || !done.refused_exemplars.is_empty() {
            done.labels = (0..self.series.len()).map(|series| self.labels(series)).collect();
        }
        let counters = &self.shared.counters;
        counters.samples.fetch_add(done.accepted as u64, Relaxed);
        counters.refused_samples.fetch_add(done.refused.len() as u64, Relaxed);
        self.cache.age(&self.shared.rollup);
        done
    }

    /// Takes from a scraper's samples when targets were scraped, and since when new counters count.
    fn take_scrapes(&mut self, samples: &[Pending]) {
        if !self.from_scraper {
            return;
        }
        for one in samples.iter().filter(|one| self.series[one.series].0.is_up && one.value == 1.0) {
            let (labels, rollup) = (self.labels(one.series), &self.shared.rollup);
            let claim = || rollup.claim_target(&labels.without_name());
            self.cache.scraped.note(&labels, Timestamp::from_millis(one.at), claim);
        }
        for series in std::mem::take(&mut self.fresh) {
            let Some(first) = samples.iter().filter(|one| one.series == series).map(|one| one.at).min() else {
                continue;
            };
            let labels = self.labels(series);
            let slot = match self.cache.scraped.before(&labels, Timestamp::from_millis(first)) {
                Some(zero_at) => self.shared.rollup.slot_since(&labels, zero_at),
                None => self.shared.rollup.slot(&labels),
            };
            if let Some(slot) = slot {
                let (place, key) = &mut self.series[series];
                place.slot = Some(slot);
                self.cache.count_in(&self.keys[key.clone()], slot);
            }
        }
    }

    /// Where a sample of that time goes.
    fn judge(&self, now: Timestamp, sample: &Pending) -> Result<Way, SampleError> {
        let (at, limits) = (Timestamp::from_millis(sample.at), self.shared.head.config());
        if at > now + AHEAD_LIMIT {
            return Err(SampleError::TooFarAhead);
        }
        if at >= now - limits.memory_window.get() {
            return Ok(Way::Memory);
        }
        match &self.shared.past {
            _ if limits.out_of_order_window.is_zero() => Err(SampleError::OutOfBounds),
            Some(_) if now.since(at) <= limits.out_of_order_window.get() => Ok(Way::History),
            _ => Err(SampleError::TooOld),
        }
    }

    /// Appends samples of one time and counts for edges what was stored.
    fn append(&mut self, samples: &[Pending], done: &mut Committed) {
        let (head, at) = (&self.shared.head, Timestamp::from_millis(samples[0].at));
        let batch: Vec<_> = samples.iter().map(|one| (self.series[one.series].0.series, one.value)).collect();
        let appended = head.append_at(at, &batch);
        let mut increments = Vec::new();
        if appended.conflicting + appended.out_of_order == 0 && appended.vanished.is_empty() {
            done.accepted += samples.len();
            increments.extend(samples.iter().filter_map(|one| Some((self.series[one.series].0.slot?, one.value))));
        } else {
            // Each once more by itself: what was stored is a duplicate of itself now, the others say what is wrong.
            for one in samples {
                match self.append_one(at, one) {
                    Ok(()) => {
                        done.accepted += 1;
                        increments.extend(self.series[one.series].0.slot.map(|slot| (slot, one.value)));
                    }
                    Err(error) => done.refused.push((SeriesId(one.series), at, error)),
                }
            }
        }
        if !increments.is_empty() {
            self.shared.rollup.observe(at, &increments);
        }
    }

    fn append_one(&mut self, at: Timestamp, sample: &Pending) -> Result<(), SampleError> {
        let head = &self.shared.head;
        let mut appended = head.append_at(at, &[(self.series[sample.series].0.series, sample.value)]);
        if !appended.vanished.is_empty() {
            // Memory has forgotten the series: it was idle for long.
            let (place, key) = &mut self.series[sample.series];
            let key = &self.keys[key.clone()];
            place.series = head.intern(&labels::labels_of_key(key)).map_err(|_| SampleError::Full)?;
            self.cache.rename(key, place.series);
            appended = head.append_at(at, &[(place.series, sample.value)]);
        }
        let Appended { conflicting, out_of_order, .. } = appended;
        match (conflicting, out_of_order) {
            (0, 0) => Ok(()),
            (0, _) if head.config().out_of_order_window.is_zero() => Err(SampleError::OutOfOrder),
            (0, _) => Err(SampleError::TooOld),
            _ => {
                let series = self.series[sample.series].0.series;
                let existing = head.value_at(series, at).unwrap_or(f64::NAN);
                Err(SampleError::Duplicate { at_ms: sample.at, existing, offered: sample.value })
            }
        }
    }

    /// Puts samples for history by series.
    fn set_aside(&self, mut past: Vec<(usize, i64, f64)>, done: &mut Committed) {
        past.sort_by_key(|(series, at, _)| (self.series[*series].0.series, *at));
        past.dedup_by_key(|(series, at, _)| (self.series[*series].0.series, *at));
        for of_series in past.chunk_by(|a, b| self.series[a.0].0.series == self.series[b.0].0.series) {
            done.past.push(SeriesSamples {
                labels: self.labels(of_series[0].0),
                times: of_series.iter().map(|(_, at, _)| Timestamp::from_millis(*at)).collect(),
                values: of_series.iter().map(|(_, _, value)| *value).collect(),
            });
        }
        self.shared.counters.past_samples.fetch_add(past.len() as u64, Relaxed);
    }

    fn keep_exemplars(&mut self, done: &mut Committed) {
        let mut exemplars = std::mem::take(&mut self.exemplars);
        exemplars.sort_by_key(|(_, exemplar)| exemplar.at);
        for (series, exemplar) in exemplars {
            match self.shared.head.exemplars().add(&self.labels(series), exemplar) {
                Ok(()) => done.exemplars += 1,
                Err(error) => done.refused_exemplars.push((SeriesId(series), error)),
            }
        }
    }

    fn labels(&self, series: usize) -> Labels {
        labels::labels_of_key(&self.keys[self.series[series].1.clone()])
    }
}

/// Where a sample goes.
enum Way {
    Memory,
    History,
}
