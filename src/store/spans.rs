//! Span batches, each with the index of the traces in it.

mod index;
mod search;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
pub use search::{BatchKey, PartScan, PartSearch, StoredPart, TracePlace};
use sqlx::Row;

use self::index::BatchIndex;
use super::bulk::{COPY_ROWS_MIN, COPY_ROWS_MIN_LOCAL};
use super::ids::id_of;
use super::{Store, StoreError, values};
use crate::model::span::{SpanBatch, TraceId, TracePart};
use crate::model::{Timestamp, span_key};

/// How long before the newest span of its batch a trace's first one may start and still be indexed under its own time.
const ODD_START: Duration = Duration::from_secs(24 * 3600);
/// Parts looked at, when the search has a condition on the whole trace.
const SCAN_PARTS_MAX: usize = 20_000;
/// Parts read at a time.
const PAGE_PARTS: usize = 1_000;
/// Batches that the traces of one page are put together from.
const SUMMARY_BATCHES_MAX: i64 = 1_024;
/// Batches of one trace that are read; of a trace in more of them the later spans are left out.
const TRACE_BATCHES_MAX: i64 = 256;
/// Parts from which operations are listed.
const OPERATION_PARTS_MAX: usize = 20_000;

/// What to look for. All conditions but the duration must hold in one stored part of the trace.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceSearch {
    /// Earliest start.
    pub from: Timestamp,
    /// Latest start.
    pub to: Timestamp,
    /// A service that takes part.
    pub service: Option<String>,
    /// An operation that occurs.
    pub operation: Option<String>,
    /// Shortest duration of the trace, nanoseconds.
    pub duration_ns_min: Option<u64>,
    /// Longest duration of the trace, nanoseconds.
    pub duration_ns_max: Option<u64>,
    /// Only traces with a failed span.
    pub error_only: bool,
    /// Most traces to return; the newest are taken.
    pub limit: usize,
}

impl TraceSearch {
    /// The newest `limit` of all that started from `from` to `to`.
    pub fn any(from: Timestamp, to: Timestamp, limit: usize) -> Self {
        Self {
            from,
            to,
            service: None,
            operation: None,
            duration_ns_min: None,
            duration_ns_max: None,
            error_only: false,
            limit,
        }
    }
}

/// One trace, put together from its parts.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceSummary {
    /// Which trace.
    pub trace_id: TraceId,
    /// Its first start, nanoseconds since the epoch.
    pub start_ns: u64,
    /// Its last end.
    pub end_ns: u64,
    /// How many spans.
    pub span_count: u64,
    /// How many of them failed.
    pub error_count: u64,
    /// Service of its root span, when that has come.
    pub root_service: Option<Arc<str>>,
    /// Operation of its root span.
    pub root_name: Option<Arc<str>>,
    /// Its services, sorted.
    pub services: Vec<Arc<str>>,
}

impl Store {
    /// Writes batches; one that is there already stays as it is.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn write_spans(&self, batches: Vec<SpanBatch>) -> Result<(), StoreError> {
        let mut batches: Vec<(i64, SpanBatch)> =
            batches.into_iter().map(|batch| (id_of([&batch.bytes]), batch)).collect();
        batches.sort_by_key(|(id, batch)| (*id, batch.to_ns));
        batches.dedup_by_key(|(id, batch)| (*id, batch.to_ns));
        let mut transaction = self.begin("write spans").await?;
        // A batch is one row, and wide: what is in it decides.
        let traces: usize = batches.iter().map(|(_, batch)| batch.parts.len()).sum();
        let copied_from = if self.private_server().is_some() { COPY_ROWS_MIN_LOCAL } else { COPY_ROWS_MIN };
        let copy_rows_min = if traces >= copied_from { 1 } else { usize::MAX };
        index::insert(batches).run_from(copy_rows_min, &mut transaction).await?;
        transaction.commit().await.map_err(StoreError::doing("write spans"))
    }

    /// The batches that hold spans of that trace, as `traces` encoded them; they hold other traces' spans too. Of a trace
    /// in more than 256 batches the first ones.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn trace(&self, trace_id: TraceId) -> Result<Vec<Vec<u8>>, StoreError> {
        let query = "SELECT bytes FROM span_batch WHERE keys @> ARRAY[$1::bigint] ORDER BY last_at, batch_id LIMIT $2";
        let query = sqlx::query(query).bind(span_key::of_trace(&trace_id)).bind(TRACE_BATCHES_MAX);
        self.fetch_by_key("read a trace", query, |row| row.try_get(0)).await
    }

    /// The newest traces that satisfy the search, newest first.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn search_traces(&self, search: &TraceSearch) -> Result<Vec<TraceSummary>, StoreError> {
        let parts = PartSearch {
            from: search.from,
            to: search.to,
            services: search.service.iter().cloned().collect(),
            operations: search.operation.iter().cloned().collect(),
            error: search.error_only,
            longest_ns_min: None,
            attribute_keys: Vec::new(),
        };
        let range = search.duration_ns_min.unwrap_or(0)..=search.duration_ns_max.unwrap_or(u64::MAX);
        let page = if range == (0..=u64::MAX) { search.limit.clamp(20, PAGE_PARTS) } else { PAGE_PARTS };
        let (mut found, mut seen, mut looked) = (Vec::new(), HashSet::new(), 0);
        let mut scan = PartScan::new(parts);
        while found.len() < search.limit && looked < SCAN_PARTS_MAX {
            let parts = scan.next(self, page).await?;
            looked += parts.len();
            let new: Vec<TraceId> = parts.iter().map(|part| part.part.trace_id).filter(|id| seen.insert(*id)).collect();
            let summaries = self.summaries(&new).await?;
            found.extend(
                summaries.into_iter().filter(|trace| range.contains(&trace.end_ns.saturating_sub(trace.start_ns))),
            );
            if parts.len() < page {
                break;
            }
        }
        found.sort_by_key(|trace| std::cmp::Reverse(trace.start_ns));
        found.truncate(search.limit);
        Ok(found)
    }

    /// These traces, each put together from all its parts.
    async fn summaries(&self, traces: &[TraceId]) -> Result<Vec<TraceSummary>, StoreError> {
        let doing = || StoreError::doing("search traces");
        let keys: Vec<i64> = traces.iter().map(span_key::of_trace).collect();
        let columns = index::COLUMNS;
        let query =
            format!("SELECT {columns} FROM span_batch WHERE keys && $1::bigint[] ORDER BY last_at DESC LIMIT $2");
        let query = sqlx::query(sqlx::AssertSqlSafe(query)).bind(keys).bind(SUMMARY_BATCHES_MAX);
        let mut transaction = self.begin_by_key("search traces").await?;
        let mut rows = query.fetch(&mut *transaction);
        let wanted: HashSet<&TraceId> = traces.iter().collect();
        let mut found: HashMap<TraceId, TraceSummary> = HashMap::new();
        while let Some(row) = rows.try_next().await.map_err(doing())? {
            let index = BatchIndex::read(&row)?;
            for (at, id) in index.traces().filter(|(_, id)| wanted.contains(id)) {
                let part = index.part(at, id);
                match found.get_mut(&id) {
                    Some(summary) => summary.add(part),
                    None => _ = found.insert(id, part.into()),
                }
            }
        }
        drop(rows);
        transaction.commit().await.map_err(doing())?;
        Ok(found.into_values().collect())
    }

    /// Services with a span that starts in `[from, to]`, sorted; of a busy range, those of the newest traces of each of 24
    /// slices.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn span_services(&self, from: Timestamp, to: Timestamp) -> Result<Vec<String>, StoreError> {
        let query = include_str!("sql/span_services.sql");
        let names =
            sqlx::query_scalar(query).bind(values::time(from)).bind(values::time(to)).fetch_all(self.pool()).await;
        names.map_err(StoreError::doing("list services"))
    }

    /// Operations that occur together with that service in the newest parts of `[from, to]`, sorted. A part tells its
    /// services and its operations, not which belongs to which: operations of services called in the same trace are
    /// among them, unless some part has the service alone.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn span_operations(
        &self,
        service: &str,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<String>, StoreError> {
        let search = PartSearch { services: vec![service.to_owned()], ..PartSearch::any(from, to) };
        let parts = PartScan::new(search).next(self, OPERATION_PARTS_MAX).await?;
        let alone = parts.iter().any(|part| part.part.services.len() == 1);
        let told = parts.iter().filter(|part| !alone || part.part.services.len() == 1);
        let names: BTreeSet<&Arc<str>> = told.flat_map(|part| &part.part.operations).collect();
        Ok(names.into_iter().map(|name| name.to_string()).collect())
    }
}

impl From<TracePart> for TraceSummary {
    fn from(part: TracePart) -> Self {
        Self {
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
}

impl TraceSummary {
    /// Joins another part of the same trace.
    fn add(&mut self, part: TracePart) {
        self.start_ns = self.start_ns.min(part.start_ns);
        self.end_ns = self.end_ns.max(part.end_ns);
        self.span_count += u64::from(part.span_count);
        self.error_count += u64::from(part.error_count);
        // Of several roots the same one, in whatever order they come.
        self.root_service = self.root_service.take().max(part.root_service);
        self.root_name = self.root_name.take().max(part.root_name);
        self.services.extend(part.services);
        self.services.sort();
        self.services.dedup();
    }
}

fn at(ns: u64) -> chrono::DateTime<chrono::Utc> {
    values::time(Timestamp::from_nanos(ns))
}

/// The time under which a part is found: its start, or that of the newest span of its batch when it lies more than
/// a day before that. A span with a time in 1970 must not take its trace to where all is past its retention.
fn indexed_ns(start_ns: u64, to_ns: u64) -> u64 {
    if u128::from(to_ns.saturating_sub(start_ns)) > ODD_START.as_nanos() { to_ns } else { start_ns }
}

fn count(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
