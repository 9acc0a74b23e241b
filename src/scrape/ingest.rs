//! From a page to stored samples: known series by the cache, new ones by labels, honour and relabel rules, limits.
//!
//! Sync. Invariants: nothing of a page is stored unless all of it was read; a series that the page no longer has, and
//! every series of a failed scrape, gets a stale marker at the time of the scrape.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::admission::Admission;
use super::cache::{Cache, Meaning};
use super::exposition::{self, MetricKind, Sample, parse_labels};
use super::fetch::ScrapeError;
use super::members::Added;
use super::page_memory::Reservation;
use super::reading::Reading;
use super::templates::Templates;
use super::workspace::Workspace;
use super::{Counters, MetricMetadata, metadata};
use crate::discovery::{Limits, Target};
use crate::model::{Labels, METRIC_NAME, Timestamp, stale_marker};
use crate::rollup::Rollup;
use crate::series::{Exemplar, Head, Row, SeriesRef};

/// How far ahead a page's own timestamp may be.
const AHEAD_LIMIT: Duration = Duration::from_secs(600);
/// After how many pages a series that the full memory tier refused is offered again.
const REFUSED_RETRY_PAGES: u32 = 10;
/// The series that each scrape adds, in the order their values are computed.
const REPORT_NAMES: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];

/// Where samples go.
pub(super) struct Sinks {
    pub head: Head,
    pub rollup: Rollup,
    pub counters: Arc<Counters>,
    pub metadata: metadata::Shared,
}

/// What one scrape counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counts {
    pub scraped: u64,
    pub kept: u64,
    pub added: u64,
}

/// What a target's loop knows of its series.
#[derive(Debug, Default)]
pub(super) struct TargetState {
    pub(super) cache: Cache,
    reports: Vec<(Labels, Option<SeriesRef>)>,
    live: usize,
    live_seen: usize,
    pub(super) counts: Counts,
    pub(super) metadata: metadata::Table,
    /// When the last good page was scraped. A series that it did not have counts from zero since then.
    pub(super) good_at: Option<Timestamp>,
    /// What series of the page have in common.
    pub(super) templates: Templates,
    /// The page under way.
    pub(super) reading: Option<Reading>,
}

impl TargetState {
    /// Forgets what keys stand for: rules or limits changed.
    pub fn settings_changed(&mut self) {
        self.cache.forget_keys();
        self.good_at = None; // what the new rules bring in was there before, under another name or dropped
    }

    /// The metadata of the target, when it changed since this was last asked.
    pub fn changed_metadata(&mut self) -> Option<Arc<[Arc<MetricMetadata>]>> {
        self.metadata.changed()
    }

    /// Before a scrape.
    pub fn begin(&mut self, target: &Target, sinks: &Sinks, work: &mut Workspace) {
        work.clear();
        self.take_up(target, sinks);
        self.intern_reports(target, sinks); // first, so that a page that fills the memory tier does not hide `up`
        (self.counts, self.live_seen, self.reading) = (Counts::default(), 0, None);
    }

    /// Reads what is left of the page and stores its samples, or stores the failure. Gives what it counted.
    pub fn finish(
        &mut self,
        target: &Target,
        sinks: &Sinks,
        scrape: Scrape,
        work: &mut Workspace,
    ) -> (Counts, Result<(), ScrapeError>) {
        let Scrape { at, fetched, started, memory } = scrape;
        if fetched.is_err() {
            self.counts = Counts::default(); // nobody knows how many the whole page has
        }
        let result = fetched.and_then(|()| self.end_page(target, sinks, work));
        (self.reading, self.templates) = (None, Templates::default());
        work.page.clear();
        drop(memory);
        match &result {
            Ok(()) => {
                self.settle(sinks, work);
                self.good_at = Some(at);
            }
            Err(_) => {
                work.clear();
                self.end_all(sinks, work);
            }
        }
        let counts = self.counts;
        let seconds = started.elapsed().as_secs_f64();
        let up = if result.is_ok() { 1.0 } else { 0.0 };
        let report = [up, seconds, counts.scraped as f64, counts.kept as f64, counts.added as f64];
        self.store(sinks, at, (report, work));
        for slot in self.cache.end_page(result.is_ok()) {
            sinks.rollup.release(slot);
        }
        (counts, result)
    }

    /// The target is gone: ends all its series at `at` and gives back what they held.
    pub fn remove(&mut self, sinks: &Sinks, at: Timestamp, work: &mut Workspace) {
        work.clear();
        self.end_all(sinks, work);
        self.store(sinks, at, ([stale_marker(); 5], work));
        self.release(sinks);
    }

    /// Gives back the slots without ending the series: meshscope stops.
    pub fn release(&mut self, sinks: &Sinks) {
        self.good_at = None;
        for slot in self.cache.clear() {
            sinks.rollup.release(slot);
        }
    }

    /// Reads what is left of a page that has arrived whole.
    fn end_page(&mut self, target: &Target, sinks: &Sinks, work: &mut Workspace) -> Result<(), ScrapeError> {
        let rest = std::mem::take(&mut work.page);
        let read = self.read((target, sinks), (&rest, true), work);
        work.page = rest;
        read?;
        let (found, limit) = (self.counts.kept, target.job.limits.samples);
        if limit > 0 && found > limit { Err(ScrapeError::SampleLimit { found, limit }) } else { Ok(()) }
    }

    /// The path of every sample; only [`Self::admit`] allocates.
    pub(super) fn sample<'a>(
        &mut self,
        reader: &Reader<'_>,
        sample: &Sample<'_>,
        (family, spelled): (Family<'_>, impl Fn() -> Result<Cow<'a, [u8]>, String>),
        work: &mut Workspace,
    ) -> Result<(), Admission> {
        let Reader { sinks, limits, .. } = reader;
        self.counts.scraped += 1;
        let meaning = match self.cache.find(sample.key, sample.recognised) {
            Some((key, meaning)) if self.is_retried(sinks, meaning) => {
                // It has been counting all the while.
                let text = spelled().map_err(Admission::Malformed)?;
                let meaning = self.admit(&Reader { zero_at: None, ..*reader }, &text, family)?;
                self.cache.redefine(key, meaning);
                meaning
            }
            Some((_, meaning)) => meaning,
            // Past the limit the page fails anyway; it is read on only to say how many samples there are.
            None if limits.samples > 0 && self.counts.kept >= limits.samples => Meaning::Refused,
            None => {
                let text = spelled().map_err(Admission::Malformed)?;
                let meaning = self.admit(reader, &text, family)?;
                self.cache.insert(sample.key, meaning);
                meaning
            }
        };
        let index = match meaning {
            Meaning::Dropped => return Ok(()),
            Meaning::Refused => {
                self.counts.kept += 1;
                sinks.counters.series_limit.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            Meaning::Member(at) => {
                self.take_member(reader, sample.value, at, work);
                return Ok(());
            }
            Meaning::Series(index) => index,
        };
        self.take(reader, sample, index, work);
        match &sample.exemplar {
            Some(exemplar) => self.exemplar(reader, sample, exemplar, (index, work)),
            None => Ok(()),
        }
    }

    /// The exemplar of a sample waits until the page is known to be good.
    fn exemplar(
        &mut self,
        reader: &Reader<'_>,
        sample: &Sample<'_>,
        exemplar: &exposition::Exemplar<'_>,
        (index, work): (u32, &mut Workspace),
    ) -> Result<(), Admission> {
        reader.sinks.counters.exemplars.fetch_add(1, Ordering::Relaxed);
        let labels = parse_labels(exemplar.labels, MetricKind::Unknown).map_err(Admission::Malformed)?;
        // One without a time of its own has that of its sample.
        let own_time = sample.at.filter(|_| reader.target.job.config.honor_timestamps);
        let at = exemplar.at.or(own_time).unwrap_or(reader.at);
        let labels = labels.into_iter().collect();
        work.exemplars.push((index, Exemplar { labels, value: exemplar.value, at }));
        Ok(())
    }

    /// A sample of a known series goes into the workspace.
    fn take(&mut self, reader: &Reader<'_>, sample: &Sample<'_>, index: u32, work: &mut Workspace) {
        let Reader { target, sinks, at, .. } = reader;
        let config = &target.job.config;
        self.counts.kept += 1;
        let own_time = sample.at.filter(|_| config.honor_timestamps);
        let page = self.cache.page();
        if self.hold_back(reader, sample.value, index, work) {
            return;
        }
        let series = &mut self.cache.series[index as usize];
        let repeated = std::mem::replace(&mut series.seen, page) == page;
        if own_time.is_none() || config.track_timestamps_staleness {
            if repeated && own_time.is_none() {
                sinks.counters.duplicates.fetch_add(1, Ordering::Relaxed);
                return; // the first wins
            }
            if !repeated {
                if series.live {
                    self.live_seen += 1;
                } else {
                    work.newly_live.push(index);
                }
            }
        }
        if let Some(own_time) = own_time {
            if own_time > *at + AHEAD_LIMIT {
                sinks.counters.too_far_ahead.fetch_add(1, Ordering::Relaxed);
                return;
            }
            work.timed.push(Row { series: series.series, at: own_time, value: sample.value });
            work.timed_indices.push(index);
            return;
        }
        work.batch.push((series.series, sample.value));
        work.indices.push(index);
        if let Some(slot) = series.slot {
            work.increments.push((slot, sample.value));
        }
    }

    /// Whether a key that was refused is offered again on this page.
    fn is_retried(&self, sinks: &Sinks, meaning: Meaning) -> bool {
        self.cache.page().is_multiple_of(REFUSED_RETRY_PAGES)
            && match meaning {
                Meaning::Refused => true,
                Meaning::Member(at) => self.cache.members.is_uncounted(at) && !sinks.head.safe_mode().is_active(),
                Meaning::Series(_) | Meaning::Dropped => false,
            }
    }

    /// A sample of a series that is added up with others, or that only counts for edges.
    fn take_member(&mut self, reader: &Reader<'_>, value: f64, at: u32, work: &mut Workspace) {
        let Reader { sinks, .. } = reader;
        let page = self.cache.page();
        self.counts.kept += 1;
        match self.cache.members.add(at, value, page) {
            Added::Repeated => {
                sinks.counters.duplicates.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Added::Counted => drop(sinks.head.safe_mode().dropped_samples.fetch_add(1, Ordering::Relaxed)),
            Added::Total(None, _) => {}
            Added::Total(Some(row), total) => work.batch[row as usize].1 = total,
            Added::New(index, _) if self.hold_back(reader, value, index, work) => {}
            Added::New(index, total) => {
                let series = &mut self.cache.series[index as usize];
                series.seen = page;
                if series.live {
                    self.live_seen += 1;
                } else {
                    work.newly_live.push(index);
                }
                self.cache.members.set_row(at, work.batch.len());
                work.batch.push((series.series, total));
                work.indices.push(index);
            }
        }
        work.increments.extend(self.cache.members.get(at).slot.map(|slot| (slot, value)));
    }

    /// While memory is short, keeps the sample of a series that no rule reads from being stored. The series ends with a
    /// stale marker, and edges go on counting. False when the sample is to be stored.
    fn hold_back(&mut self, reader: &Reader<'_>, value: f64, index: u32, work: &mut Workspace) -> bool {
        let (safe_mode, page) = (reader.sinks.head.safe_mode(), self.cache.page());
        let series = &mut self.cache.series[index as usize];
        if !(series.held_back || safe_mode.is_active()) {
            return false; // the common case
        }
        let was_held_back = series.held_back;
        let generation = safe_mode.generation();
        if std::mem::replace(&mut series.judged, generation) != generation {
            series.held_back = !safe_mode.stores(&series.labels.to_labels());
        }
        if !series.held_back {
            return false;
        }
        safe_mode.dropped_samples.fetch_add(1, Ordering::Relaxed);
        if std::mem::replace(&mut series.seen, page) == page {
            return true;
        }
        if series.live {
            self.live_seen += 1;
            if !was_held_back {
                work.batch.push((series.series, stale_marker()));
                work.indices.push(index);
            }
        } else {
            work.newly_live.push(index);
        }
        work.increments.extend(series.slot.map(|slot| (slot, value)));
        true
    }

    /// After a good page: new series live from now on, vanished ones end.
    fn settle(&mut self, sinks: &Sinks, work: &mut Workspace) {
        let page = self.cache.page();
        let increments = &mut work.increments;
        self.cache.members.settle(page, |slot| increments.push((slot, stale_marker())));
        if self.live_seen < self.live {
            self.end_where(sinks, work, |seen| seen != page);
        }
        for index in &work.newly_live {
            self.cache.series[*index as usize].live = true;
        }
        self.live += work.newly_live.len();
        self.counts.added = work.newly_live.len() as u64;
    }

    fn end_all(&mut self, sinks: &Sinks, work: &mut Workspace) {
        self.cache.members.end_all(|slot| work.increments.push((slot, stale_marker())));
        self.end_where(sinks, work, |_| true);
    }

    fn end_where(&mut self, sinks: &Sinks, work: &mut Workspace, ends: impl Fn(u32) -> bool) {
        let before = work.batch.len();
        let mut ended = 0;
        for (index, series) in self.cache.series.iter_mut().enumerate().filter(|(_, s)| s.live && ends(s.seen)) {
            series.live = false;
            ended += 1;
            if !series.held_back {
                work.batch.push((series.series, stale_marker()));
                work.indices.push(index as u32);
            }
            work.increments.extend(series.slot.map(|slot| (slot, stale_marker())));
        }
        let markers = work.batch.len() - before;
        self.live -= ended;
        sinks.counters.stale_markers.fetch_add(markers as u64, Ordering::Relaxed);
    }

    /// Everything in the workspace and the report goes to the memory tier and the rollup.
    fn store(&mut self, sinks: &Sinks, at: Timestamp, (report, work): ([f64; 5], &mut Workspace)) {
        let (samples, counters) = (work.batch.len(), &sinks.counters);
        self.append_report(sinks, report, &mut work.batch);
        let mut appended = sinks.head.append_at(at, &work.batch);
        for row in std::mem::take(&mut appended.vanished) {
            let (old, value) = work.batch[row];
            let series = if row < samples {
                self.revive(sinks, work.indices[row])
            } else {
                let report = self.reports.iter_mut().find(|(_, series)| *series == Some(old));
                report.and_then(|(labels, series)| {
                    *series = sinks.head.intern(labels).ok();
                    *series
                })
            };
            let again = series.map(|series| sinks.head.append_at(at, &[(series, value)])).unwrap_or_default();
            appended.accepted += again.accepted;
        }
        let timed = sinks.head.append(&work.timed);
        for row in timed.vanished {
            let Some(series) = self.revive(sinks, work.timed_indices[row]) else { continue };
            appended.accepted += sinks.head.append(&[Row { series, ..work.timed[row] }]).accepted;
        }
        let refused = appended.out_of_order + appended.conflicting + timed.out_of_order + timed.conflicting;
        counters.out_of_order.fetch_add(refused as u64, Ordering::Relaxed);
        counters.samples.fetch_add((appended.accepted + timed.accepted) as u64, Ordering::Relaxed);
        // Of one page the older before the newer, as Prometheus takes them.
        work.exemplars.sort_by_key(|(_, exemplar)| exemplar.at);
        for (index, exemplar) in work.exemplars.drain(..) {
            let series = &self.cache.series[index as usize].labels;
            let _ = sinks.head.exemplars().add(&series.to_labels(), exemplar); // counted there
        }
        if !work.increments.is_empty() {
            sinks.rollup.observe(at, &work.increments);
        }
        for (row, index) in work.timed.iter().zip(&work.timed_indices) {
            if let Some(slot) = self.cache.series[*index as usize].slot {
                sinks.rollup.observe(row.at, &[(slot, row.value)]);
            }
        }
    }

    /// At the first scrape: goes on where the process before this one was.
    fn take_up(&mut self, target: &Target, sinks: &Sinks) {
        if self.reports.is_empty() {
            self.good_at = sinks.rollup.claim_target(&target.labels);
        }
    }

    fn intern_reports(&mut self, target: &Target, sinks: &Sinks) {
        if self.reports.is_empty() {
            self.reports = REPORT_NAMES.iter().map(|name| (target.labels.with(METRIC_NAME, name), None)).collect();
        }
        for (labels, series) in self.reports.iter_mut().filter(|(_, series)| series.is_none()) {
            *series = sinks.head.intern(labels).ok();
        }
    }

    fn append_report(&self, sinks: &Sinks, report: [f64; 5], batch: &mut Vec<(SeriesRef, f64)>) {
        for ((_, series), value) in self.reports.iter().zip(report) {
            match series {
                Some(series) => batch.push((*series, value)),
                None => drop(sinks.counters.series_limit.fetch_add(1, Ordering::Relaxed)),
            }
        }
    }

    /// The memory tier has forgotten the series (it was idle for long): interns it again.
    fn revive(&mut self, sinks: &Sinks, index: u32) -> Option<SeriesRef> {
        let series = sinks.head.intern(&self.cache.series[index as usize].labels.to_labels()).ok()?;
        self.cache.rename(index, series);
        Some(series)
    }
}

/// One scrape, as far as it came.
#[derive(Debug)]
pub(super) struct Scrape {
    /// The time of its samples.
    pub at: Timestamp,
    /// Whether the page has arrived whole; what is not read of it is in the workspace.
    pub fetched: Result<(), ScrapeError>,
    /// When it began.
    pub started: tokio::time::Instant,
    /// What its page holds of the memory for pages.
    pub memory: Reservation,
}

pub(super) struct Reader<'a> {
    pub target: &'a Target,
    pub sinks: &'a Sinks,
    pub at: Timestamp,
    pub limits: Limits,
    /// Since when a series that was never seen counts, when that is known.
    pub zero_at: Option<Timestamp>,
}

/// The metric that the last TYPE line named.
#[derive(Clone, Copy)]
pub(super) struct Family<'a> {
    pub name: &'a [u8],
    pub kind: MetricKind,
}

impl Family<'_> {
    /// Whether values of that metric may be added up: counters, and the parts of histograms and summaries that count.
    pub fn is_addable(&self, metric: &[u8]) -> bool {
        let suffixes: &[&[u8]] = match self.kind {
            MetricKind::Counter => &[b"", b"_total"],
            MetricKind::Histogram => &[b"_bucket", b"_sum", b"_count"],
            MetricKind::Summary => &[b"_sum", b"_count"],
            _ => return false,
        };
        metric.strip_prefix(self.name).is_some_and(|suffix| suffixes.contains(&suffix))
    }
}
