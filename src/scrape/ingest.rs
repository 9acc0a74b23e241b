//! From a page to stored samples: known series by the cache, new ones by labels, honour and relabel rules, limits.
//!
//! Sync. Invariants: nothing of a page is stored unless all of it was read; a series that the page no longer has, and
//! every series of a failed scrape, gets a stale marker at the time of the scrape.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::cache::{Cache, Meaning};
use super::exposition::{Entry, MetricKind, Parser, Sample, parse_labels, protobuf_to_text};
use super::fetch::{self, Fetched, ScrapeError};
use super::labels::{check_limits, join_labels};
use super::workspace::Workspace;
use super::{Counters, MetricMetadata, metadata};
use crate::discovery::{Limits, Target, relabel};
use crate::model::{Labels, METRIC_NAME, Timestamp, stale_marker};
use crate::rollup::{self, Rollup};
use crate::series::{Head, Row, SeriesRef};

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
    cache: Cache,
    reports: Vec<(Labels, Option<SeriesRef>)>,
    live: usize,
    live_seen: usize,
    counts: Counts,
    metadata: metadata::Table,
    /// When the last good page was scraped. A series that it did not have counts from zero since then.
    good_at: Option<Timestamp>,
    /// Whether a scrape has failed since.
    failed_since: bool,
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

    /// Reads the page in `work.body` and stores its samples at `at`, or stores the failure. Gives what it counted.
    pub fn ingest(
        &mut self,
        target: &Target,
        sinks: &Sinks,
        scrape: Scrape,
        work: &mut Workspace,
    ) -> (Counts, Result<(), ScrapeError>) {
        work.clear();
        self.intern_reports(target, sinks); // first, so that a page that fills the memory tier does not hide `up`
        (self.counts, self.live_seen) = (Counts::default(), 0);
        let Scrape { at, fetched, started } = scrape;
        let result = fetched.and_then(|fetched| self.read_page(target, sinks, (at, fetched), work));
        match &result {
            Ok(()) => {
                self.settle(sinks, work);
                (self.good_at, self.failed_since) = (Some(at), false);
            }
            Err(_) => {
                work.clear();
                self.end_all(sinks, work);
                self.failed_since = true;
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

    fn read_page(
        &mut self,
        target: &Target,
        sinks: &Sinks,
        (at, fetched): (Timestamp, Fetched),
        work: &mut Workspace,
    ) -> Result<(), ScrapeError> {
        let limit_bytes = target.job.limits.body_bytes;
        if fetched.gzip {
            fetch::gunzip(&work.body, &mut work.page, limit_bytes)?;
        } else {
            std::mem::swap(&mut work.body, &mut work.page);
        }
        if fetched.protobuf {
            let text = protobuf_to_text(&work.page, limit_bytes)?;
            work.page = text.ok_or(ScrapeError::BodyTooLarge { limit_bytes })?.into_bytes();
        }
        let page = std::mem::take(&mut work.page);
        sinks.counters.page_bytes.fetch_add(page.len() as u64, Ordering::Relaxed);
        let result = self.read_entries(target, sinks, (at, fetched, &page), work);
        work.page = page;
        result
    }

    fn read_entries(
        &mut self,
        target: &Target,
        sinks: &Sinks,
        (at, fetched, page): (Timestamp, Fetched, &[u8]),
        work: &mut Workspace,
    ) -> Result<(), ScrapeError> {
        let shared = &sinks.metadata;
        let mut parser = Parser::new(fetched.format, page);
        let mut kind = MetricKind::Unknown;
        // After a longer failure known series begin anew, and new ones with them.
        let holds = |good_at: &Timestamp| !self.failed_since || at.since(*good_at) <= rollup::MAX_GAP;
        let zero_at = self.good_at.filter(|good_at| *good_at < at && holds(good_at));
        let reader = Reader { target, sinks, at, limits: target.job.limits, zero_at };
        self.cache.begin_page();
        self.metadata.begin_page();
        loop {
            let cache = &self.cache;
            match parser.next_entry(|rest| cache.predict(rest)) {
                None => break,
                Some(Err(error)) => return Err(error.into()),
                Some(Ok(Entry::Sample(sample))) => {
                    self.sample(&reader, &sample, kind, work).map_err(|error| match error {
                        Admission::Malformed(reason) => parser.error_at(sample.key, reason).into(),
                        Admission::Limit(reason) => ScrapeError::LabelLimit(reason),
                    })?
                }
                Some(Ok(Entry::Kind { name, kind: new })) => {
                    kind = new;
                    self.metadata.kind(shared, name, new);
                }
                Some(Ok(Entry::Help { name, text })) => self.metadata.help(shared, name, text),
                Some(Ok(Entry::Unit { name, unit })) => self.metadata.unit(shared, name, unit),
            }
        }
        let (found, limit) = (self.counts.kept, target.job.limits.samples);
        if limit > 0 && found > limit { Err(ScrapeError::SampleLimit { found, limit }) } else { Ok(()) }
    }

    /// The path of every sample; only [`Self::admit`] allocates.
    fn sample(
        &mut self,
        reader: &Reader<'_>,
        sample: &Sample<'_>,
        kind: MetricKind,
        work: &mut Workspace,
    ) -> Result<(), Admission> {
        let Reader { sinks, limits, .. } = reader;
        self.counts.scraped += 1;
        if sample.exemplar.is_some() {
            sinks.counters.exemplars.fetch_add(1, Ordering::Relaxed);
        }
        let meaning = match self.cache.find(sample.key, sample.recognised) {
            Some((key, Meaning::Refused)) if self.cache.page().is_multiple_of(REFUSED_RETRY_PAGES) => {
                // It has been counting all the while.
                let meaning = self.admit(&Reader { zero_at: None, ..*reader }, sample.key, kind)?;
                self.cache.redefine(key, meaning);
                meaning
            }
            Some((_, meaning)) => meaning,
            // Past the limit the page fails anyway; it is read on only to say how many samples there are.
            None if limits.samples > 0 && self.counts.kept >= limits.samples => Meaning::Refused,
            None => {
                let meaning = self.admit(reader, sample.key, kind)?;
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
            Meaning::Series(index) => index,
        };
        self.take(reader, sample, index, work);
        Ok(())
    }

    /// A sample of a known series goes into the workspace.
    fn take(&mut self, reader: &Reader<'_>, sample: &Sample<'_>, index: u32, work: &mut Workspace) {
        let Reader { target, sinks, at, .. } = reader;
        let config = &target.job.config;
        self.counts.kept += 1;
        let own_time = sample.at.filter(|_| config.honor_timestamps);
        let page = self.cache.page();
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

    /// The cold path: what a key that was never seen stands for.
    fn admit(&mut self, reader: &Reader<'_>, key: &[u8], kind: MetricKind) -> Result<Meaning, Admission> {
        let Reader { target, sinks, limits, zero_at, .. } = reader;
        let scraped = parse_labels(key, kind).map_err(Admission::Malformed)?;
        if !scraped.iter().any(|(name, value)| name == METRIC_NAME && !value.is_empty()) {
            return Err(Admission::Malformed("the series has no metric name".to_owned()));
        }
        let config = &target.job.config;
        let labels = join_labels(scraped, &target.labels, config.honor_labels);
        let Some(labels) = relabel::apply(&config.metric_relabel_configs, labels) else { return Ok(Meaning::Dropped) };
        if labels.metric_name().is_empty() {
            return Ok(Meaning::Dropped);
        }
        check_limits(&labels, limits).map_err(Admission::Limit)?;
        let Ok(series) = sinks.head.intern(&labels) else { return Ok(Meaning::Refused) };
        let (index, _) = self.cache.series_index(series, || {
            let slot = match zero_at {
                Some(zero_at) => sinks.rollup.slot_since(&labels, *zero_at),
                None => sinks.rollup.slot(&labels),
            };
            (labels, slot)
        });
        Ok(Meaning::Series(index))
    }

    /// After a good page: new series live from now on, vanished ones end.
    fn settle(&mut self, sinks: &Sinks, work: &mut Workspace) {
        let page = self.cache.page();
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
        self.end_where(sinks, work, |_| true);
    }

    fn end_where(&mut self, sinks: &Sinks, work: &mut Workspace, ends: impl Fn(u32) -> bool) {
        let before = work.batch.len();
        for (index, series) in self.cache.series.iter_mut().enumerate().filter(|(_, s)| s.live && ends(s.seen)) {
            series.live = false;
            work.batch.push((series.series, stale_marker()));
            work.indices.push(index as u32);
            work.increments.extend(series.slot.map(|slot| (slot, stale_marker())));
        }
        let ended = work.batch.len() - before;
        self.live -= ended;
        sinks.counters.stale_markers.fetch_add(ended as u64, Ordering::Relaxed);
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
        if !work.increments.is_empty() {
            sinks.rollup.observe(at, &work.increments);
        }
        for (row, index) in work.timed.iter().zip(&work.timed_indices) {
            if let Some(slot) = self.cache.series[*index as usize].slot {
                sinks.rollup.observe(row.at, &[(slot, row.value)]);
            }
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
    /// What is in the workspace's body, or why nothing is.
    pub fetched: Result<Fetched, ScrapeError>,
    /// When it began.
    pub started: tokio::time::Instant,
}

struct Reader<'a> {
    target: &'a Target,
    sinks: &'a Sinks,
    at: Timestamp,
    limits: Limits,
    /// Since when a series that was never seen counts, when that is known.
    zero_at: Option<Timestamp>,
}

/// Why a series fails the page.
enum Admission {
    Malformed(String),
    Limit(String),
}
