//! Finds the parts of traces that a search must open, newest first, and the batches they are in.
//!
//! In: conditions on index rows. Out: ids of traces, places of batches, batches. Invariant: each statement walks an index
//! and returns a bounded number of rows; statements are made for their conditions, since a general one could use no index.

use chrono::{DateTime, Utc};
use sqlx::postgres::{PgRow, Postgres};
use sqlx::{QueryBuilder, Row};

use crate::model::Timestamp;
use crate::model::span::{TraceId, hex};
use crate::store::{Store, StoreError, values};

/// Classes of the longest span, as the index `trace_part_by_duration` of migration 0023 has them: the number of these
/// nanoseconds that it reaches.
const CLASS_BOUNDS: [u64; 8] =
    [10_000_000, 30_000_000, 100_000_000, 300_000_000, 1_000_000_000, 3_000_000_000, 10_000_000_000, 30_000_000_000];
/// Newest rows that are looked through for what is common, before the index of contents is asked for what is rare.
const WALK_ROWS: i64 = 20_000;
const COLUMNS: &str = "trace_id, start_at, batch_id, batch_at";
const ORDER: &str = " ORDER BY start_at DESC, trace_id DESC, batch_id DESC LIMIT ";

/// What the index row of a part must say. All conditions must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct PartSearch {
    /// Earliest start.
    pub from: Timestamp,
    /// Latest start.
    pub to: Timestamp,
    /// Services that all take part.
    pub services: Vec<String>,
    /// Operations that all occur.
    pub operations: Vec<String>,
    /// A span failed.
    pub error: bool,
    /// The longest span takes at least this long, nanoseconds.
    pub longest_ns_min: Option<u64>,
    /// Hashes that must all occur ([`crate::model::span::TracePart::attribute_hashes`]).
    pub attribute_hashes: Vec<i64>,
}

impl PartSearch {
    /// All that started from `from` to `to`.
    pub fn any(from: Timestamp, to: Timestamp) -> Self {
        Self {
            from,
            to,
            services: Vec::new(),
            operations: Vec::new(),
            error: false,
            longest_ns_min: None,
            attribute_hashes: Vec::new(),
        }
    }
}

/// One row of the index: where a search goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartKey {
    /// Which trace.
    pub trace_id: TraceId,
    /// Start of the part.
    pub start_at: DateTime<Utc>,
    /// Which batch.
    pub batch: BatchKey,
}

/// Which stored batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BatchKey {
    /// Its last start, by which its partition is found.
    pub from_at: DateTime<Utc>,
    /// Its id.
    pub id: i64,
}

/// Where spans of a trace are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredPart {
    /// Which trace.
    pub trace_id: TraceId,
    /// Which batch.
    pub batch: BatchKey,
    /// Spans in it.
    pub span_count: u32,
}

impl Store {
    /// The newest parts that satisfy the search, newest first, those behind `after` when it is given.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn search_parts(
        &self,
        search: &PartSearch,
        after: Option<PartKey>,
        limit: usize,
    ) -> Result<Vec<PartKey>, StoreError> {
        // Not kept: a kept statement may be planned for any values, and so for no index.
        let doing = || StoreError::doing("search traces");
        let mut query = QueryBuilder::new("");
        push_walk(&mut query, search, after, limit);
        let mut rows = query.build().persistent(false).fetch_all(self.pool()).await.map_err(doing())?;
        if rows.len() < limit && has_content(search) {
            // It is rare. How rare, the server's statistics do not know: kept from walking through time, it asks the index
            // of contents, whose answer cannot be large.
            let mut transaction = self.begin("search traces").await?;
            sqlx::query(BY_CONTENT).execute(&mut *transaction).await.map_err(doing())?;
            let mut query = QueryBuilder::new("");
            push_by_content(&mut query, search, after, limit);
            rows = query.build().persistent(false).fetch_all(&mut *transaction).await.map_err(doing())?;
            transaction.commit().await.map_err(doing())?;
        }
        let key = |row: &PgRow| {
            Ok(PartKey { trace_id: trace_id(row)?, start_at: row.get("start_at"), batch: batch_key(row) })
        };
        rows.iter().map(key).collect()
    }

    /// How the server would run the statements of that search, one line for each step (`EXPLAIN`).
    ///
    /// # Errors
    /// When the server is away.
    pub async fn explain_search(&self, search: &PartSearch, limit: usize) -> Result<Vec<String>, StoreError> {
        let doing = || StoreError::doing("explain a search");
        let mut lines = Vec::new();
        for rare in [false, true].into_iter().filter(|rare| !rare || has_content(search)) {
            let mut transaction = self.begin("explain a search").await?;
            let mut query = QueryBuilder::new("EXPLAIN ");
            if rare {
                sqlx::query(BY_CONTENT).execute(&mut *transaction).await.map_err(doing())?;
                push_by_content(&mut query, search, None, limit);
            } else {
                push_walk(&mut query, search, None, limit);
            }
            let rows = query.build().persistent(false).fetch_all(&mut *transaction).await.map_err(doing())?;
            lines.extend(rows.iter().map(|row| row.get::<String, _>(0)));
            transaction.commit().await.map_err(doing())?;
        }
        Ok(lines)
    }

    /// Where the spans of these traces are, oldest batch first; at most `limit` places.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn parts_of(&self, traces: &[TraceId], limit: usize) -> Result<Vec<StoredPart>, StoreError> {
        let ids: Vec<String> = traces.iter().map(|id| hex(id)).collect();
        let query = "SELECT uuid_send(trace_id) AS trace_id, batch_id, batch_at, span_count FROM trace_part
                     WHERE trace_id = ANY($1::text[]::uuid[]) ORDER BY batch_at, batch_id LIMIT $2";
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = sqlx::query(query).bind(ids).bind(limit).fetch_all(self.pool()).await;
        let part = |row: &PgRow| {
            let span_count = row.get::<i32, _>("span_count").unsigned_abs();
            Ok(StoredPart { trace_id: trace_id(row)?, batch: batch_key(row), span_count })
        };
        rows.map_err(StoreError::doing("find traces"))?.iter().map(part).collect()
    }

    /// These batches, as `traces` encoded them.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn span_batches(&self, batches: &[BatchKey]) -> Result<Vec<Vec<u8>>, StoreError> {
        let (ids, times): (Vec<i64>, Vec<DateTime<Utc>>) = batches.iter().map(|key| (key.id, key.from_at)).unzip();
        let query = "SELECT b.bytes FROM unnest($1::bigint[], $2::timestamptz[]) AS wanted(id, at)
                     JOIN span_batch b ON b.batch_id = wanted.id AND b.from_at = wanted.at
                     ORDER BY b.from_at, b.batch_id";
        let found = sqlx::query_scalar(query).bind(ids).bind(times).fetch_all(self.pool()).await;
        found.map_err(StoreError::doing("read spans"))
    }
}

/// Keeps the server, until the transaction ends, from walking through time and through whole tables; a bitmap of the index of
/// contents is left.
const BY_CONTENT: &str =
    "SELECT set_config('enable_indexscan', 'off', true), set_config('enable_seqscan', 'off', true)";

fn has_content(search: &PartSearch) -> bool {
    !(search.services.is_empty() && search.operations.is_empty() && search.attribute_hashes.is_empty())
}

/// From the newest row on, in order of time. Contents are sought in the newest rows only. A duration walks each class that
/// can hold it, since slow traces may be far apart.
fn push_walk(query: &mut QueryBuilder<Postgres>, search: &PartSearch, after: Option<PartKey>, limit: usize) {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let class = CLASS_BOUNDS.iter().filter(|bound| search.longest_ns_min >= Some(**bound)).count();
    query.push("SELECT uuid_send(trace_id) AS trace_id, start_at, batch_id, batch_at FROM (");
    if has_content(search) {
        query.push("SELECT * FROM (SELECT * FROM trace_part WHERE ");
        push_time(query, search, after);
        query.push(ORDER).push_bind(WALK_ROWS).push(") newest WHERE true");
        push_conditions(query, search);
    } else if class > 0 {
        for class in class..=CLASS_BOUNDS.len() {
            query.push(format!("(SELECT {COLUMNS} FROM trace_part WHERE "));
            push_time(query, search, after);
            push_conditions(query, search);
            let bounds = CLASS_BOUNDS.map(|bound| bound.to_string()).join(",");
            query.push(format!(" AND width_bucket(longest_ns, '{{{bounds}}}'::bigint[]) = {class}"));
            query.push(ORDER).push_bind(limit).push(")");
            query.push(if class < CLASS_BOUNDS.len() { " UNION ALL " } else { "" });
        }
    } else {
        query.push(format!("SELECT {COLUMNS} FROM trace_part WHERE "));
        push_time(query, search, after);
        push_conditions(query, search);
        query.push(ORDER).push_bind(limit);
    }
    query.push(") found").push(ORDER).push_bind(limit);
}

/// All rows with these contents, then the newest of them.
fn push_by_content(query: &mut QueryBuilder<Postgres>, search: &PartSearch, after: Option<PartKey>, limit: usize) {
    query.push("SELECT uuid_send(trace_id) AS trace_id, start_at, batch_id, batch_at FROM trace_part WHERE ");
    push_time(query, search, after);
    push_conditions(query, search);
    query.push(" ORDER BY start_at DESC, trace_part.trace_id DESC, batch_id DESC LIMIT ");
    query.push_bind(i64::try_from(limit).unwrap_or(i64::MAX));
}

fn push_time(query: &mut QueryBuilder<Postgres>, search: &PartSearch, after: Option<PartKey>) {
    query.push("start_at BETWEEN ").push_bind(values::time(search.from)).push(" AND ");
    let latest = after.map_or(values::time(search.to), |after| after.start_at.min(values::time(search.to)));
    query.push_bind(latest);
    if let Some(after) = after {
        query.push(" AND (start_at, trace_id, batch_id) < (").push_bind(after.start_at).push(", ");
        query.push_bind(hex(&after.trace_id)).push("::uuid, ").push_bind(after.batch.id).push(")");
    }
}

fn push_conditions(query: &mut QueryBuilder<Postgres>, search: &PartSearch) {
    let clean = |texts: &[String]| texts.iter().map(|text| values::text(text).into_owned()).collect::<Vec<_>>();
    for (column, wanted) in [("services", &search.services), ("operations", &search.operations)] {
        if !wanted.is_empty() {
            query.push(format!(" AND {column} @> ")).push_bind(clean(wanted));
        }
    }
    if !search.attribute_hashes.is_empty() {
        query.push(" AND attribute_hashes @> ").push_bind(search.attribute_hashes.clone());
    }
    if search.error {
        query.push(" AND error_count > 0");
    }
    if let Some(least) = search.longest_ns_min {
        query.push(" AND longest_ns >= ").push_bind(values::nanos(least));
    }
}

fn trace_id(row: &PgRow) -> Result<TraceId, StoreError> {
    let id: Vec<u8> = row.get("trace_id");
    TraceId::try_from(id.as_slice())
        .map_err(|_| StoreError::Damaged { what: "trace id", reason: format!("{} bytes", id.len()) })
}

fn batch_key(row: &PgRow) -> BatchKey {
    BatchKey { from_at: row.get("batch_at"), id: row.get("batch_id") }
}
