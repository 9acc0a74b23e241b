//! Edges, traces and alert history for pages and APIs: memory and PostgreSQL as one.
//!
//! Invariant: an answer is never less than what memory holds; when PostgreSQL is away it comes with the reason.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use super::access_logs::LogReading;
use crate::access_logs;
use crate::model::span::{Span, SpanId, TraceId, TracePart};
use crate::model::{AlertTransition, EdgeMinute, Timestamp};
use crate::rollup::Rollup;
use crate::store::{AlertQuery, Health, RollupTier, Store, StoreError, TraceSearch, TraceSummary};
use crate::traces::{self, Filter, IndexConfig, Live, decode_batch};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// Ranges longer than this are read by the hour.
const MINUTES_READ: Duration = Duration::from_secs(12 * 3600);
const HISTORY: Duration = Duration::from_secs(7 * 86_400);
/// Searches at the same time.
const SEARCHES_MAX: usize = 2;
/// How long a page waits for PostgreSQL.
const PATIENCE: Duration = Duration::from_secs(5);

/// What traces are looked for.
#[derive(Clone, Debug)]
pub struct TraceQuery {
    /// Earliest start.
    pub from: Timestamp,
    /// Latest start.
    pub to: Timestamp,
    /// A service that takes part.
    pub service: Option<String>,
    /// An operation that occurs.
    pub operation: Option<String>,
    /// Shortest duration.
    pub duration_min: Option<Duration>,
    /// Only traces with a failed span.
    pub errors_only: bool,
    /// Most traces; the newest are taken.
    pub limit: usize,
}

/// Reads edges, traces and alert history wherever they are. Clones share it.
#[derive(Clone)]
pub struct Archive {
    pub(super) store: Store,
    rollup: Rollup,
    pub(super) live: Live,
    health: watch::Receiver<Health>,
    /// The first minute that memory holds whole.
    whole_from: Timestamp,
    kept: Kept,
    pub(super) reading: Arc<Reading>,
    pub(super) logs: LogReading,
}

/// Bounds of reading spans.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) search_bytes: u64,
    pub(super) trace_spans: usize,
    pub(super) index: IndexConfig,
    /// Searches that open batches at the same time; more wait.
    pub(super) permits: Semaphore,
}

/// How long minutes are there to be read.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// In memory: `rollup.keep`.
    pub in_memory: Duration,
    /// In PostgreSQL: `storage.retention.edge_minutes`; what is older is there by the hour.
    pub stored: Duration,
}

impl Archive {
    /// Reads memory for minutes from `whole_from` on that it keeps, PostgreSQL for the others.
    pub fn new(store: Store, rollup: Rollup, live: Live, whole_from: Timestamp, kept: Kept) -> Self {
        let health = store.health();
        let whole_from = whole_from.floor_to(MINUTE);
        Self {
            store,
            rollup,
            live,
            health,
            whole_from,
            kept,
            reading: Arc::new(Reading::of(&traces::Config::default())),
            logs: LogReading::of(&access_logs::Config::default(), access_logs::Live::new(0, 0)),
        }
    }

    /// The same, with the bounds on reading spans that the configuration has.
    #[must_use]
    pub fn reading(self, config: &traces::Config) -> Self {
        Self { reading: Arc::new(Reading::of(config)), ..self }
    }

    /// The same, with the last access log records and the bounds on reading stored ones.
    #[must_use]
    pub fn with_access_logs(self, config: &access_logs::Config, live: access_logs::Live) -> Self {
        Self { logs: LogReading::of(config, live), ..self }
    }

    /// Why PostgreSQL does not answer; `None` when it does.
    pub fn away(&self) -> Option<String> {
        match &*self.health.borrow() {
            Health::Available => None,
            Health::Away { since, reason } => Some(format!("since {since}: {reason}")),
        }
    }

    /// What each edge did in the minutes that start in `[from, to)`, and why some of it may be missing.
    ///
    /// Of a range longer than 12 h, sums of its stored part come instead of minutes. Where that reaches back beyond the
    /// minutes that are kept, its ends are those of full hours.
    pub async fn edges(&self, from: Timestamp, to: Timestamp, now: Timestamp) -> (Vec<EdgeMinute>, Option<String>) {
        let from = from.floor_to(MINUTE);
        let seam = self.whole_from.max((now - self.kept.in_memory).floor_to(MINUTE) + MINUTE);
        let mut minutes: Vec<EdgeMinute> = Vec::new();
        let mut warning = None;
        if from < seam {
            let end = to.min(seam);
            match self.read(self.stored_edges((from, end), now)).await {
                Ok(stored) => minutes = stored,
                Err(reason) => {
                    // What waits to be written is still here.
                    minutes = self.rollup.recent(from);
                    minutes.retain(|minute| minute.minute < end);
                    warning = Some(format!("Of edges before {seam} only what is not stored yet is shown: {reason}."));
                }
            }
        }
        if to > seam {
            let recent = self.rollup.recent(from.max(seam));
            minutes.extend(recent.into_iter().filter(|minute| minute.minute < to));
        }
        (minutes, warning)
    }

    /// Minutes of a short range. Of a long one the full hours that are summed already, and sums of the minutes before and
    /// after them.
    async fn stored_edges(
        &self,
        (from, to): (Timestamp, Timestamp),
        now: Timestamp,
    ) -> Result<Vec<EdgeMinute>, StoreError> {
        if to.since(from) <= MINUTES_READ {
            return self.store.edges(RollupTier::Minutes, from, to).await;
        }
        let rolled = self.store.rolled_hours_until().await?.unwrap_or(Timestamp::MIN);
        let Hourly { before, hours, after } = hourly((from, to), rolled, now - self.kept.stored);
        let mut edges = Vec::new();
        for (tier, (from, to)) in
            [(RollupTier::Minutes, before), (RollupTier::Hours, hours), (RollupTier::Minutes, after)]
        {
            if from < to {
                edges.extend(self.store.edge_totals(tier, from, to).await?);
            }
        }
        Ok(edges)
    }

    /// All spans of a trace, each once, up to `traces.trace_spans`; and why some may be missing.
    pub async fn trace(&self, id: TraceId) -> (Vec<Span>, Option<String>) {
        let mut spans = self.live.trace(id);
        let mut warning;
        match self.read(self.store.trace(id)).await {
            Ok(batches) => {
                let decoded = tokio::task::spawn_blocking(move || joined(spans, &batches, id)).await;
                (spans, warning) = decoded.unwrap_or_else(|error| (Vec::new(), Some(error.to_string())));
            }
            Err(reason) => warning = Some(format!("Stored spans are not shown: {reason}.")),
        }
        spans.sort_by_key(|span| span.start_ns);
        if spans.len() > self.reading.trace_spans {
            let all = spans.len();
            spans.truncate(self.reading.trace_spans);
            warning = Some(format!("Of at least {all} spans of this trace the first {} are shown.", spans.len()));
        }
        (spans, warning)
    }

    /// The newest traces that match, newest first.
    pub async fn search_traces(&self, query: &TraceQuery) -> (Vec<TraceSummary>, Option<String>) {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let search = TraceSearch {
            from: query.from,
            to: query.to,
            service: query.service.clone(),
            operation: query.operation.clone(),
            duration_ns_min: query.duration_min.map(nanos),
            duration_ns_max: None,
            error_only: query.errors_only,
            attribute_hashes: Vec::new(),
            limit: query.limit,
        };
        let (mut found, warning) = match self.read(self.store.search_traces(&search)).await {
            Ok(found) => (found, None),
            Err(reason) => (Vec::new(), Some(format!("Stored traces are not searched: {reason}."))),
        };
        self.add_live(query, &mut found);
        found.sort_by_key(|trace| std::cmp::Reverse(trace.start_ns));
        found.truncate(query.limit);
        (found, warning)
    }

    /// What has not reached PostgreSQL yet, and what has grown since.
    fn add_live(&self, query: &TraceQuery, found: &mut Vec<TraceSummary>) {
        let at_ns = |at: Timestamp| u64::try_from(at.as_millis()).unwrap_or(0).saturating_mul(1_000_000);
        let filter = Filter {
            service: query.service.clone(),
            operation: query.operation.clone(),
            errors_only: query.errors_only,
            from_ns: Some(at_ns(query.from)),
            to_ns: Some(at_ns(query.to)),
            limit: query.limit,
            ..Filter::default()
        };
        let min = query.duration_min.map_or(0, |min| u64::try_from(min.as_nanos()).unwrap_or(u64::MAX));
        let mut by_id: HashMap<TraceId, usize> = found.iter().enumerate().map(|(i, t)| (t.trace_id, i)).collect();
        for part in self.live.recent(&filter) {
            let live = summary(part);
            match by_id.get(&live.trace_id) {
                Some(&at) if found[at].span_count < live.span_count => found[at] = live,
                Some(_) => {}
                None if live.end_ns.saturating_sub(live.start_ns) >= min => {
                    by_id.insert(live.trace_id, found.len());
                    found.push(live);
                }
                None => {}
            }
        }
    }

    /// Names of services with spans in the range, sorted.
    pub async fn services(&self, from: Timestamp, to: Timestamp) -> Vec<String> {
        let mut names: BTreeSet<String> = self.live.services().iter().map(|name| name.to_string()).collect();
        names.extend(self.read(self.store.span_services(from, to)).await.unwrap_or_default());
        names.into_iter().collect()
    }

    /// The newest changes of alert states of the last week, newest first.
    pub async fn alert_history(&self, now: Timestamp, limit: usize) -> (Vec<AlertTransition>, Option<String>) {
        let query = AlertQuery { from: now - HISTORY, to: now + MINUTE, matchers: Vec::new(), limit };
        match self.read(self.store.alert_events(&query)).await {
            Ok(events) => (events, None),
            Err(reason) => (Vec::new(), Some(format!("The history of alerts is not shown: {reason}."))),
        }
    }

    /// Asks PostgreSQL, unless it is known to be away, and not for ever.
    pub(super) async fn read<T>(&self, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, String> {
        if let Some(away) = self.away() {
            return Err(format!("PostgreSQL is away {away}"));
        }
        match tokio::time::timeout(PATIENCE, work).await {
            Ok(done) => done.map_err(|error| error.to_string()),
            Err(_) => Err(format!("PostgreSQL did not answer within {PATIENCE:?}")),
        }
    }
}

impl Reading {
    fn of(config: &traces::Config) -> Self {
        Self {
            search_bytes: config.search_bytes.0,
            trace_spans: config.trace_spans,
            index: config.index.clone(),
            permits: Semaphore::new(SEARCHES_MAX),
        }
    }
}

/// A range in three parts that follow each other.
#[derive(Debug, PartialEq)]
struct Hourly {
    before: (Timestamp, Timestamp),
    hours: (Timestamp, Timestamp),
    after: (Timestamp, Timestamp),
}

/// Hours are summed until `rolled`, minutes are there since `minutes_from`.
fn hourly((from, to): (Timestamp, Timestamp), rolled: Timestamp, minutes_from: Timestamp) -> Hourly {
    let next_hour = |at: Timestamp| if at.floor_to(HOUR) == at { at } else { at.floor_to(HOUR) + HOUR };
    let first = if from >= minutes_from { next_hour(from) } else { from.floor_to(HOUR) };
    let end = if to.floor_to(HOUR) >= minutes_from { to.floor_to(HOUR) } else { next_hour(to) };
    let first = first.min(to);
    let last = end.min(rolled).max(first);
    Hourly { before: (from, first), hours: (first, last), after: (last, to) }
}

/// Spans of memory with those of batches, each once.
fn joined(mut spans: Vec<Span>, batches: &[Vec<u8>], id: TraceId) -> (Vec<Span>, Option<String>) {
    let mut seen: HashSet<SpanId> = spans.iter().map(|span| span.span_id).collect();
    let mut warning = None;
    for bytes in batches {
        match decode_batch(bytes) {
            Ok(stored) => {
                let own = stored.into_iter().filter(|span| span.trace_id == id);
                spans.extend(own.filter(|span| seen.insert(span.span_id)));
            }
            Err(error) => warning = Some(format!("A stored part of this trace is damaged: {error}.")),
        }
    }
    (spans, warning)
}

fn summary(part: TracePart) -> TraceSummary {
    TraceSummary {
        trace_id: part.trace_id,
        start_ns: part.start_ns,
        end_ns: part.end_ns,
        span_count: u64::from(part.span_count),
        error_count: u64::from(part.error_count),
        root_service: part.root_service,
        root_name: part.root_name,
        services: part.services,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times in minutes.
    #[test]
    fn a_long_range_is_cut_at_full_hours_without_gap_or_overlap() {
        let at = |minute: i64| Timestamp::from_millis(minute * 60_000);
        let cut = |from, to, rolled, minutes_from| {
            let Hourly { before, hours, after } = hourly((at(from), at(to)), at(rolled), at(minutes_from));
            [before, hours, after].map(|(from, to)| (from.as_millis() / 60_000, to.as_millis() / 60_000))
        };
        let day = 24 * 60;
        // All in minutes still kept; the last full hour is summed, or not yet.
        assert_eq!(cut(90, day + 65, day + 60, 0), [(90, 120), (120, day + 60), (day + 60, day + 65)]);
        assert_eq!(cut(90, day + 65, day, 0), [(90, 120), (120, day), (day, day + 65)]);
        assert_eq!(cut(60, day, day, 0), [(60, 60), (60, day), (day, day)]);
        // Nothing is summed yet.
        assert_eq!(cut(90, day, 0, 0), [(90, 120), (120, 120), (120, day)]);
        // Minutes before the second day are gone: the range begins, or ends, with a full hour.
        assert_eq!(cut(90, 2 * day + 5, 2 * day, day), [(90, 60), (60, 2 * day), (2 * day, 2 * day + 5)]);
        assert_eq!(cut(90, day - 30, 2 * day, 2 * day), [(90, 60), (60, day), (day, day - 30)]);
    }
}
