//! Edges, traces and alert history for pages and APIs: memory and PostgreSQL as one.
//!
//! Invariant: an answer is never less than what memory holds; when PostgreSQL is away it comes with the reason.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::access_logs::LogReading;
use crate::access_logs;
use crate::model::span::{Span, SpanKey, TraceId};
use crate::model::workload::EdgeKey;
use crate::model::{AlertTransition, EdgeMinute, Timestamp};
use crate::rollup::Rollup;
use crate::store::{AlertQuery, Health, Store, StoreError, TraceSearch, TraceSummary, went_away};
use crate::traces::{self, Filter, IndexConfig, Live, decode_traces};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const HISTORY: Duration = Duration::from_secs(7 * 86_400);
/// Searches at the same time.
const SEARCHES_MAX: usize = 2;
/// How long a page waits for PostgreSQL.
const PATIENCE: Duration = Duration::from_secs(5);
/// After so long it is asked whether it is there at all, and how long that may take: a server that works on a large answer says
/// so, one that hangs does not.
const DOUBT: Duration = Duration::from_millis(1_500);
const PROOF: Duration = Duration::from_secs(1);
/// How long nobody else waits for a server that did not say so. By then the probe of each second has found it.
const SILENCE: Duration = Duration::from_secs(3);

/// Edges that are counted elsewhere: their sums in each of some windows, which rise, or why they are not known.
pub type EdgeSource =
    Arc<dyn Fn(Vec<(Timestamp, Timestamp)>) -> BoxFuture<'static, Result<Vec<EdgeMinute>, String>> + Send + Sync>;

/// Which edges are wanted.
pub type EdgeFilter = Arc<dyn Fn(&EdgeKey) -> bool + Send + Sync>;

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

/// Whether there is a trace is not known: memory has nothing of it, and what is stored could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotKnown(String);

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
    elsewhere: Option<EdgeSource>,
    pub(super) reading: Arc<Reading>,
    pub(super) logs: LogReading,
    /// Until when a server that hangs is not asked.
    silent_until: Arc<Mutex<Option<Instant>>>,
}

/// What edges did between bounds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EdgeRange {
    /// Sums of edges, each under a minute within its window.
    pub edges: Vec<EdgeMinute>,
    /// The first minute in which any edge did something.
    pub first: Option<Timestamp>,
    /// Why some of it may be missing.
    pub warning: Option<String>,
    /// The bounds as they were read: see [`Archive::edge_sums`].
    pub bounds: Vec<Timestamp>,
}

/// What a graph is built from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GraphEdges {
    /// Sums of edges of the range and of the time before it.
    pub edges: Vec<EdgeMinute>,
    /// Start of the range as read, or the first traffic in it where there was none before.
    pub from: Timestamp,
    /// End of the range as read.
    pub to: Timestamp,
    /// Why some of it may be missing.
    pub warning: Option<String>,
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
            elsewhere: None,
            reading: Arc::new(Reading::of(&traces::Config::default())),
            logs: LogReading::of(&access_logs::Config::default(), access_logs::Live::new(0, 0)),
            silent_until: Arc::default(),
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

    /// The same, with the edges that are counted elsewhere. Of an edge that is counted here as well, theirs are shown.
    #[must_use]
    pub fn with_edges_of(self, elsewhere: Option<EdgeSource>) -> Self {
        Self { elsewhere, ..self }
    }

    /// Why PostgreSQL does not answer; `None` when it does.
    pub fn away(&self) -> Option<String> {
        self.health.borrow().why_away()
    }

    /// From when on edges are known by the minute; before it by the hour.
    pub(super) fn minutes_from(&self, now: Timestamp) -> Timestamp {
        next_hour(now - self.kept.stored)
    }

    /// What each edge did between each two of `bounds`, which rise.
    ///
    /// Bounds move down to where a minute begins; before the minutes that are kept, to where an hour begins, the last one
    /// up to where one ends. An edge may have several sums in a window: of memory, and of PostgreSQL.
    pub async fn edge_sums(&self, bounds: &[Timestamp], now: Timestamp) -> EdgeRange {
        self.edge_sums_of(Arc::new(|_| true), bounds, now).await
    }

    /// The same of the wanted edges alone: the others cost little.
    pub async fn edge_sums_of(&self, wanted: EdgeFilter, bounds: &[Timestamp], now: Timestamp) -> EdgeRange {
        let minutes_from = self.minutes_from(now);
        let bounds = aligned(bounds, minutes_from);
        let seam = self.whole_from.max((now - self.kept.in_memory).floor_to(MINUTE) + MINUTE);
        let mut range = EdgeRange { edges: Vec::new(), first: None, warning: None, bounds };
        let stored = windows(&range.bounds, Timestamp::MIN, seam);
        // Memory is summed while PostgreSQL reads.
        let recent = self.remembered(&wanted, windows(&range.bounds, seam, Timestamp::MAX));
        if !stored.is_empty() {
            match self.read(self.store.edge_sums(&stored, minutes_from, &*wanted)).await {
                Ok(sums) => (range.edges, range.first) = (sums.edges, sums.first),
                Err(reason) => {
                    // What waits to be written is still here.
                    (range.edges, range.first) = self.remembered(&wanted, stored).await;
                    range.warning = Some(match seam > now {
                        // A standby counts no edges: all that it shows is stored.
                        true => format!("No edges can be shown: {reason}."),
                        false => format!("Of edges before {seam} only what is not stored yet is shown: {reason}."),
                    });
                }
            }
        }
        let (recent, first) = recent.await;
        range.edges.extend(recent);
        range.first = range.first.into_iter().chain(first).min();
        if let Some(elsewhere) = &self.elsewhere {
            // Nobody knows what is yet to come.
            let pairs = range.bounds.windows(2).map(|pair| (pair[0], pair[1].min(now)));
            let asked = elsewhere(pairs.filter(|(from, to)| from < to).collect());
            range.join(asked.await, &*wanted);
        }
        range
    }

    /// The sums of memory in windows. It begins at once, whenever the answer is waited for.
    fn remembered(
        &self,
        wanted: &EdgeFilter,
        windows: Vec<(Timestamp, Timestamp)>,
    ) -> impl Future<Output = (Vec<EdgeMinute>, Option<Timestamp>)> + use<> {
        let (rollup, wanted) = (self.rollup.clone(), Arc::clone(wanted));
        let summed = tokio::task::spawn_blocking(move || rollup.sums_of(&*wanted, &windows));
        async move {
            summed.await.unwrap_or_else(|error| {
                tracing::error!("edges of memory could not be summed: {error}");
                (Vec::new(), None)
            })
        }
    }

    /// What a graph of `[from, to)` is built from, with what was before it for `before`, which tells idle edges from none.
    pub async fn graph_edges(
        &self,
        (from, to): (Timestamp, Timestamp),
        before: Duration,
        now: Timestamp,
    ) -> GraphEdges {
        let range = self.edge_sums(&[from - before, from, to], now).await;
        let (from, to) = (range.bounds[1], range.bounds[2]);
        // Rates of a young mesh are of its own age: an hour's graph of a mesh that was first scraped a minute ago shows
        // its real rates, not a sixtieth of them.
        let observed_from = range.observed_from(from, to);
        let mut edges = range.edges;
        // A sum stands under the start of its window, which may lie before the first traffic in it.
        edges
            .iter_mut()
            .filter(|edge| edge.minute >= from)
            .for_each(|edge| edge.minute = edge.minute.max(observed_from));
        GraphEdges { edges, from: observed_from, to, warning: range.warning }
    }

    /// All spans of a trace, each once, up to `traces.trace_spans`; and why some may be missing. None: there is no such trace.
    ///
    /// # Errors
    /// When nothing of it is in memory and what is stored could not be read.
    pub async fn trace(&self, id: TraceId) -> Result<(Vec<Span>, Option<String>), NotKnown> {
        let mut spans = self.live.trace(id);
        let mut warning;
        match self.read(self.store.trace(id)).await {
            Ok(batches) => {
                let most = self.reading.trace_spans;
                let decoded = tokio::task::spawn_blocking(move || joined(spans, &batches, id, most)).await;
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
        match warning {
            Some(reason) if spans.is_empty() => Err(NotKnown(reason)),
            warning => Ok((spans, warning)),
        }
    }

    /// The newest traces that match, newest first.
    pub async fn search_traces(&self, query: &TraceQuery) -> (Vec<TraceSummary>, Option<String>) {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let search = TraceSearch {
            service: query.service.clone(),
            operation: query.operation.clone(),
            duration_ns_min: query.duration_min.map(nanos),
            error_only: query.errors_only,
            ..TraceSearch::any(query.from, query.to, query.limit)
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
        let filter = Filter {
            service: query.service.clone(),
            operation: query.operation.clone(),
            errors_only: query.errors_only,
            from_ns: Some(query.from.as_nanos()),
            to_ns: Some(query.to.as_nanos()),
            limit: query.limit,
            ..Filter::default()
        };
        let min = query.duration_min.map_or(0, |min| u64::try_from(min.as_nanos()).unwrap_or(u64::MAX));
        let mut by_id: HashMap<TraceId, usize> = found.iter().enumerate().map(|(i, t)| (t.trace_id, i)).collect();
        for part in self.live.recent(&filter) {
            let live = TraceSummary::from(part);
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
        if self.silent_until.lock().is_some_and(|until| Instant::now() < until) {
            return Err("PostgreSQL does not answer".to_owned());
        }
        tokio::select! {
            done = tokio::time::timeout(PATIENCE, work) => match done {
                Ok(done) => done.map_err(|error| error.to_string()),
                Err(_) => Err(format!("PostgreSQL did not answer within {PATIENCE:?}")),
            },
            reason = self.gone() => Err(reason),
        }
    }

    /// Waits until PostgreSQL is known to be away, or is found to hang.
    async fn gone(&self) -> String {
        let hung = async {
            tokio::time::sleep(DOUBT).await;
            while self.store.is_answering(PROOF).await {
                tokio::time::sleep(PROOF).await;
            }
        };
        tokio::select! {
            away = went_away(self.health.clone()) => format!("PostgreSQL is away {away}"),
            () = hung => {
                *self.silent_until.lock() = Some(Instant::now() + SILENCE);
                format!("PostgreSQL did not answer within {:?}", DOUBT + PROOF)
            }
        }
    }
}

impl EdgeRange {
    /// Adds what was counted elsewhere, in place of what was counted here of the same edges.
    fn join(&mut self, theirs: Result<Vec<EdgeMinute>, String>, wanted: &dyn Fn(&EdgeKey) -> bool) {
        match theirs {
            Ok(mut theirs) => {
                theirs.retain(|sum| wanted(&sum.edge));
                let known: HashSet<&EdgeKey> = theirs.iter().map(|sum| &*sum.edge).collect();
                self.edges.retain(|sum| !known.contains(&*sum.edge));
                self.first = self.first.into_iter().chain(theirs.iter().map(|sum| sum.minute).min()).min();
                self.edges.extend(theirs);
            }
            Err(reason) => {
                let own = std::mem::take(&mut self.warning).map(|own| format!(" {own}")).unwrap_or_default();
                self.warning = Some(format!("Only edges that are counted here are shown: {reason}.{own}"));
            }
        }
    }

    /// Start of `from..to`, or the first traffic in it where there was none before.
    pub fn observed_from(&self, from: Timestamp, to: Timestamp) -> Timestamp {
        self.first.map_or(from, |first| first.max(from)).min(to)
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

/// Where an hour begins at that time or after it.
fn next_hour(at: Timestamp) -> Timestamp {
    if at.floor_to(HOUR) == at { at } else { at.floor_to(HOUR) + HOUR }
}

/// Bounds at minutes, and at hours before `minutes_from`.
fn aligned(bounds: &[Timestamp], minutes_from: Timestamp) -> Vec<Timestamp> {
    let last = bounds.len().saturating_sub(1);
    let aligned = bounds.iter().enumerate().map(|(at, bound)| match (*bound < minutes_from, at == last) {
        (true, true) => next_hour(*bound),
        (true, false) => bound.floor_to(HOUR),
        (false, true) => *bound,
        (false, false) => bound.floor_to(MINUTE),
    });
    aligned.collect()
}

/// What of the windows between bounds lies in `[from, to)`.
fn windows(bounds: &[Timestamp], from: Timestamp, to: Timestamp) -> Vec<(Timestamp, Timestamp)> {
    // A minute that begins in a window counts whole.
    let whole = |at: Timestamp| if at.floor_to(MINUTE) == at { at } else { at.floor_to(MINUTE) + MINUTE };
    let cut = |pair: &[Timestamp]| (pair[0].max(from), whole(pair[1]).min(to));
    bounds.windows(2).map(cut).filter(|(from, to)| from < to).collect()
}

/// Spans of memory with those of batches, each once. No further batch is opened when there are more than `most`.
fn joined(mut spans: Vec<Span>, batches: &[Vec<u8>], id: TraceId, most: usize) -> (Vec<Span>, Option<String>) {
    let mut seen: HashSet<SpanKey> = spans.iter().map(Span::key).collect();
    let mut warning = None;
    for bytes in batches {
        if spans.len() > most {
            break;
        }
        match decode_traces(bytes, |stored| *stored == id) {
            Ok(own) => spans.extend(own.into_iter().filter(|span| seen.insert(span.key()))),
            Err(error) => warning = Some(format!("A stored part of this trace is damaged: {error}.")),
        }
    }
    (spans, warning)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times in minutes.
    #[test]
    fn bounds_are_at_hours_where_minutes_are_gone_and_windows_are_cut_at_a_seam() {
        let at = |minute: i64| Timestamp::from_millis(minute * 60_000);
        let check = |bounds: &[i64], minutes_from: i64, expect: &[i64]| {
            let bounds: Vec<Timestamp> = bounds.iter().map(|minute| at(*minute) + Duration::from_secs(7)).collect();
            let found: Vec<i64> = aligned(&bounds, at(minutes_from)).iter().map(|at| at.as_millis() / 60_000).collect();
            assert_eq!(found, expect, "{bounds:?}");
        };
        check(&[90, 100, 130], 0, &[90, 100, 130]);
        check(&[90, 100, 130], 600, &[60, 60, 180]);
        check(&[90, 130, 601], 600, &[60, 120, 601]);
        let cut = windows(&[at(0), at(10), at(10), at(20)], at(5), at(15));
        assert_eq!(cut, [(at(5), at(10)), (at(10), at(15))]);
        assert_eq!(windows(&[at(0), at(10)], at(20), Timestamp::MAX), []);
    }
}
