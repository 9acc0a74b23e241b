//! Span batches and the index of the traces in them.

mod search;

use std::collections::HashSet;
use std::sync::Arc;

pub use search::{BatchKey, PartKey, PartSearch, StoredPart};

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::bulk::{Column, Insert, OnConflict};
use super::ids::id_of;
use super::{Store, StoreError, values};
use crate::model::Timestamp;
use crate::model::span::{SpanBatch, TraceId, TracePart, hex};

/// Index rows looked at, when the search has a condition on the whole trace.
const SCAN_PARTS_MAX: usize = 20_000;
/// Index rows read at a time.
const PAGE_PARTS: usize = 1_000;
/// Batches of one trace that are read; of a trace in more of them the later spans are left out.
const TRACE_BATCHES_MAX: i64 = 256;
/// Index rows from which operations are listed.
const OPERATION_PARTS_MAX: i64 = 20_000;

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
    /// Hashes that must all occur ([`TracePart::attribute_hashes`]).
    pub attribute_hashes: Vec<i64>,
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
            attribute_hashes: Vec::new(),
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
        part_insert(&mut batches).run(&mut transaction).await?;
        batch_insert(batches).run(&mut transaction).await?;
        transaction.commit().await.map_err(StoreError::doing("write spans"))
    }

    /// The batches that hold spans of that trace, as `traces` encoded them; they hold other traces' spans too. Of a trace
    /// in more than 256 batches the first ones.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn trace(&self, trace_id: TraceId) -> Result<Vec<Vec<u8>>, StoreError> {
        let query = "SELECT bytes FROM span_batch
                     WHERE (batch_id, from_at) IN (SELECT batch_id, batch_at FROM trace_part WHERE trace_id = $1::uuid)
                     ORDER BY from_at, batch_id LIMIT $2";
        let batches = sqlx::query_scalar(query).bind(hex(&trace_id)).bind(TRACE_BATCHES_MAX).fetch_all(self.pool());
        batches.await.map_err(StoreError::doing("read a trace"))
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
            attribute_hashes: search.attribute_hashes.clone(),
        };
        let range = search.duration_ns_min.unwrap_or(0)..=search.duration_ns_max.unwrap_or(u64::MAX);
        let page = if range == (0..=u64::MAX) { search.limit.clamp(20, PAGE_PARTS) } else { PAGE_PARTS };
        let (mut found, mut seen, mut after, mut looked) = (Vec::new(), HashSet::new(), None, 0);
        while found.len() < search.limit && looked < SCAN_PARTS_MAX {
            let keys = self.search_parts(&parts, after, page).await?;
            after = keys.last().copied();
            looked += keys.len();
            let new: Vec<TraceId> = keys.iter().map(|key| key.trace_id).filter(|id| seen.insert(*id)).collect();
            let summaries = self.summaries(&new).await?;
            found.extend(
                summaries.into_iter().filter(|trace| range.contains(&trace.end_ns.saturating_sub(trace.start_ns))),
            );
            if keys.len() < page {
                break;
            }
        }
        found.sort_by_key(|trace| std::cmp::Reverse(trace.start_ns));
        found.truncate(search.limit);
        Ok(found)
    }

    /// These traces, each put together from all its parts.
    async fn summaries(&self, traces: &[TraceId]) -> Result<Vec<TraceSummary>, StoreError> {
        let ids: Vec<String> = traces.iter().map(|id| hex(id)).collect();
        let rows = sqlx::query(include_str!("sql/trace_summaries.sql")).bind(ids).fetch_all(self.pool()).await;
        rows.map_err(StoreError::doing("search traces"))?.iter().map(summary_from).collect()
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
        let names = sqlx::query_scalar(include_str!("sql/span_operations.sql"))
            .bind(values::time(from))
            .bind(values::time(to))
            .bind(vec![values::text(service).into_owned()])
            .bind(OPERATION_PARTS_MAX)
            .fetch_all(self.pool())
            .await;
        names.map_err(StoreError::doing("list operations"))
    }
}

fn at(ns: u64) -> chrono::DateTime<chrono::Utc> {
    values::time(Timestamp::from_nanos(ns))
}

fn count(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn batch_insert(batches: Vec<(i64, SpanBatch)>) -> Insert {
    let columns = vec![
        ("batch_id", Column::Bigint(batches.iter().map(|(id, _)| *id).collect())),
        // One span with a time in 1970 must not take its batch to where all is past its retention.
        ("from_at", Column::Time(batches.iter().map(|(_, b)| at(b.to_ns)).collect())),
        ("to_at", Column::Time(batches.iter().map(|(_, b)| at(b.to_ns)).collect())),
        ("span_count", Column::Integer(batches.iter().map(|(_, b)| count(b.span_count)).collect())),
        ("bytes", Column::Bytes(batches.into_iter().map(|(_, b)| b.bytes).collect())),
    ];
    Insert { table: "span_batch", columns, on_conflict: OnConflict::Seldom("(batch_id, from_at) DO NOTHING") }
}

/// The index rows of all batches; takes the parts out of the batches.
fn part_insert(batches: &mut [(i64, SpanBatch)]) -> Insert {
    let mut rows: Vec<(i64, u64, TracePart)> = Vec::new();
    for (id, batch) in batches {
        let (id, to_ns) = (*id, batch.to_ns);
        rows.extend(std::mem::take(&mut batch.parts).into_iter().map(|part| (id, to_ns, part)));
    }
    let texts = |list: &[Arc<str>]| list.iter().map(|text| text.to_string()).collect();
    let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
    let columns = vec![
        ("trace_id", Column::Uuid(rows.iter().map(|(.., p)| p.trace_id).collect())),
        ("start_at", Column::Time(rows.iter().map(|(.., p)| at(p.start_ns)).collect())),
        ("batch_id", Column::Bigint(rows.iter().map(|(id, ..)| *id).collect())),
        ("batch_at", Column::Time(rows.iter().map(|(_, to_ns, _)| at(*to_ns)).collect())),
        ("start_ns", Column::Bigint(rows.iter().map(|(.., p)| values::nanos(p.start_ns)).collect())),
        ("end_ns", Column::Bigint(rows.iter().map(|(.., p)| values::nanos(p.end_ns)).collect())),
        ("span_count", Column::Integer(rows.iter().map(|(.., p)| count(p.span_count)).collect())),
        ("error_count", Column::Integer(rows.iter().map(|(.., p)| count(p.error_count)).collect())),
        ("longest_ns", Column::Bigint(rows.iter().map(|(.., p)| values::nanos(p.longest_ns)).collect())),
        ("root_service", Column::OptionalText(rows.iter().map(|(.., p)| text(&p.root_service)).collect())),
        ("root_name", Column::OptionalText(rows.iter().map(|(.., p)| text(&p.root_name)).collect())),
        ("services", Column::TextArray(rows.iter().map(|(.., p)| texts(&p.services)).collect())),
        ("operations", Column::TextArray(rows.iter().map(|(.., p)| texts(&p.operations)).collect())),
        ("attribute_hashes", Column::BigintArray(rows.into_iter().map(|(.., p)| p.attribute_hashes).collect())),
    ];
    Insert {
        table: "trace_part",
        columns,
        on_conflict: OnConflict::Seldom("(trace_id, start_at, batch_id) DO NOTHING"),
    }
}

fn summary_from(row: &PgRow) -> Result<TraceSummary, StoreError> {
    let id: Vec<u8> = row.get("trace_id");
    let trace_id = TraceId::try_from(id.as_slice())
        .map_err(|_| StoreError::Damaged { what: "trace id", reason: format!("{} bytes", id.len()) })?;
    let unsigned = |name: &str| row.get::<i64, _>(name).unsigned_abs();
    let text = |name: &str| row.get::<Option<String>, _>(name).map(Arc::<str>::from);
    Ok(TraceSummary {
        trace_id,
        start_ns: unsigned("start_ns"),
        end_ns: unsigned("end_ns"),
        span_count: unsigned("span_count"),
        error_count: unsigned("error_count"),
        root_service: text("root_service"),
        root_name: text("root_name"),
        services: row.get::<Vec<String>, _>("services").into_iter().map(Arc::from).collect(),
    })
}
