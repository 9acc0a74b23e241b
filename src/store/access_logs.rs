//! Batches of access log records, and the index of the edges, codes and reasons in them.
//!
//! Invariant: each statement walks an index and returns a bounded number of rows; statements are made for their conditions,
//! since a general one could use no index.

use chrono::{DateTime, Utc};
use sqlx::postgres::Postgres;
use sqlx::{QueryBuilder, Row};

use super::bulk::{Column, Insert, OnConflict};
use super::ids::id_of;
use super::{BatchKey, Store, StoreError, values};
use crate::model::Timestamp;
use crate::model::access_log::{AccessLogBatch, AccessLogPart, Reason};

/// Which index rows are wanted: all that is said must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLogSearch {
    /// Earliest start.
    pub from: Timestamp,
    /// Latest start.
    pub to: Timestamp,
    /// The caller, `namespace/name` or the name alone.
    pub source: Option<String>,
    /// The called workload or service, or a host.
    pub destination: Option<String>,
    /// One of these.
    pub reasons: Vec<Reason>,
    /// HTTP statuses from the first to the last.
    pub codes: Option<(u16, u16)>,
    /// A hash of a trace id ([`crate::model::access_log::trace_hash`]).
    pub trace_hash: Option<i64>,
}

/// One index row: where a search goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessLogKey {
    /// Its batch.
    pub batch: BatchKey,
    /// Its latest record.
    pub to_at: DateTime<Utc>,
    /// Its place in the batch.
    pub part: i32,
}

impl Store {
    /// Writes batches; one that is there already stays as it is.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn write_access_logs(&self, batches: Vec<AccessLogBatch>) -> Result<(), StoreError> {
        let mut batches: Vec<(i64, AccessLogBatch)> =
            batches.into_iter().map(|batch| (id_of([&batch.bytes]), batch)).collect();
        batches.sort_by_key(|(id, batch)| (*id, batch.to_ns));
        batches.dedup_by_key(|(id, batch)| (*id, batch.to_ns));
        let mut transaction = self.begin("write access logs").await?;
        part_insert(&mut batches).run(&mut transaction).await?;
        batch_insert(batches).run(&mut transaction).await?;
        transaction.commit().await.map_err(StoreError::doing("write access logs"))
    }

    /// The index rows that satisfy the search, the one with the latest record first, those behind `after` when it is given.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn access_log_parts(
        &self,
        search: &AccessLogSearch,
        after: Option<AccessLogKey>,
        limit: usize,
    ) -> Result<Vec<AccessLogKey>, StoreError> {
        let doing = || StoreError::doing("search access logs");
        // Not kept: a kept statement may be planned for any values, and so for no index.
        let mut query = QueryBuilder::new("");
        push_walk(&mut query, search, after, limit);
        let mut rows = query.build().persistent(false).fetch_all(self.pool()).await.map_err(doing())?;
        if rows.len() < limit && search.names_content() {
            // It is rare. How rare, the server's statistics do not know: kept from walking through time, it asks the indexes
            // of contents, whose answer cannot be large.
            let mut transaction = self.begin("search access logs").await?;
            sqlx::query(BY_CONTENT).execute(&mut *transaction).await.map_err(doing())?;
            let mut query = QueryBuilder::new("");
            push_by_content(&mut query, search, after, limit);
            rows = query.build().persistent(false).fetch_all(&mut *transaction).await.map_err(doing())?;
            transaction.commit().await.map_err(doing())?;
        }
        let key = |row: &sqlx::postgres::PgRow| AccessLogKey {
            batch: BatchKey { last_at: row.get("batch_at"), id: row.get("batch_id") },
            to_at: row.get("to_at"),
            part: row.get("part"),
        };
        Ok(rows.iter().map(key).collect())
    }

    /// This batch, as `access_logs` encoded it; `None` when its retention has ended.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn access_log_batch(&self, key: BatchKey) -> Result<Option<Vec<u8>>, StoreError> {
        let query = "SELECT bytes FROM access_log_batch WHERE batch_id = $1 AND from_at = $2";
        let found = sqlx::query_scalar(query).bind(key.id).bind(key.last_at).fetch_optional(self.pool()).await;
        found.map_err(StoreError::doing("read access logs"))
    }
}

impl AccessLogSearch {
    /// Whether it asks for what an index of contents has.
    fn names_content(&self) -> bool {
        let Self { source, destination, reasons, codes, trace_hash, .. } = self;
        source.is_some() || destination.is_some() || !reasons.is_empty() || codes.is_some() || trace_hash.is_some()
    }
}

/// Newest rows that are looked through for what is common, before the indexes of contents are asked for what is rare.
const WALK_ROWS: i64 = 20_000;
const ORDER: &str = " ORDER BY to_at DESC, batch_id DESC, part DESC LIMIT ";
/// Keeps the server, until the transaction ends, from walking through time and through whole tables; bitmaps of the indexes of
/// contents are left.
const BY_CONTENT: &str =
    "SELECT set_config('enable_indexscan', 'off', true), set_config('enable_seqscan', 'off', true)";

/// From the newest row on, in order of time. Contents are sought in the newest rows only.
fn push_walk(query: &mut QueryBuilder<Postgres>, search: &AccessLogSearch, after: Option<AccessLogKey>, limit: usize) {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let walked = if search.names_content() { WALK_ROWS } else { limit };
    query.push("SELECT batch_id, batch_at, to_at, part FROM (SELECT * FROM access_log_part WHERE ");
    push_time(query, search, after);
    query.push(ORDER).push_bind(walked).push(") newest WHERE true");
    push_conditions(query, search);
    query.push(ORDER).push_bind(limit);
}

/// All rows with these contents, then the newest of them.
fn push_by_content(
    query: &mut QueryBuilder<Postgres>,
    search: &AccessLogSearch,
    after: Option<AccessLogKey>,
    limit: usize,
) {
    query.push("SELECT batch_id, batch_at, to_at, part FROM access_log_part WHERE ");
    push_time(query, search, after);
    push_conditions(query, search);
    query.push(ORDER).push_bind(i64::try_from(limit).unwrap_or(i64::MAX));
}

fn push_time(query: &mut QueryBuilder<Postgres>, search: &AccessLogSearch, after: Option<AccessLogKey>) {
    query.push("to_at >= ").push_bind(values::time(search.from));
    query.push(" AND from_at <= ").push_bind(values::time(search.to));
    if let Some(AccessLogKey { batch, to_at, part }) = after {
        query.push(" AND to_at <= ").push_bind(to_at);
        query.push(" AND (to_at, batch_id, part) < (").push_bind(to_at).push(", ").push_bind(batch.id).push(", ");
        query.push_bind(part).push(")");
    }
}

fn push_conditions(query: &mut QueryBuilder<Postgres>, search: &AccessLogSearch) {
    let AccessLogSearch { source, destination, reasons, codes, trace_hash, .. } = search;
    if let Some(source) = source {
        query.push(format!(" AND {SOURCE_NAMES} && ")).push_bind(names_of(source)).push("::text[]");
    }
    if let Some(destination) = destination {
        query.push(format!(" AND {CALLED_NAMES} && ")).push_bind(names_of(destination)).push("::text[]");
    }
    if !reasons.is_empty() {
        let names: Vec<&str> = reasons.iter().map(|reason| reason.as_str()).collect();
        query.push(" AND reason = ANY(").push_bind(names).push(")");
    }
    if let Some((first, last)) = codes {
        query.push(" AND code BETWEEN ").push_bind(i32::from(*first)).push(" AND ").push_bind(i32::from(*last));
    }
    if let Some(hash) = trace_hash {
        query.push(" AND trace_hashes @> ").push_bind(vec![*hash]);
    }
}

/// By what names the caller of a row, and what it called, are found: whole, and without the namespace. The indexes of
/// migration 0047 have the same expressions.
const SOURCE_NAMES: &str = "ARRAY[source, split_part(source, '/', 2)]";
const CALLED_NAMES: &str = "ARRAY[destination, split_part(destination, '/', 2), service, split_part(service, '/', 2)]";

/// The names a row may have of what is asked for.
fn names_of(wanted: &str) -> Vec<String> {
    let wanted = values::text(wanted).into_owned();
    // `cart.shop.svc.cluster.local` stands in the index as `shop/cart`.
    let mut labels = wanted.split('.');
    let host = match (labels.next(), labels.next(), labels.next()) {
        (Some(name), Some(namespace), Some("svc")) => Some(format!("{namespace}/{name}")),
        _ => None,
    };
    [wanted].into_iter().chain(host).collect()
}

fn at(ns: u64) -> chrono::DateTime<chrono::Utc> {
    values::time(Timestamp::from_nanos(ns))
}

fn count(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn batch_insert(batches: Vec<(i64, AccessLogBatch)>) -> Insert {
    let columns = vec![
        ("batch_id", Column::Bigint(batches.iter().map(|(id, _)| *id).collect())),
        // One record with a time in 1970 must not take its batch to where all is past its retention.
        ("from_at", Column::Time(batches.iter().map(|(_, b)| at(b.to_ns)).collect())),
        ("to_at", Column::Time(batches.iter().map(|(_, b)| at(b.to_ns)).collect())),
        ("record_count", Column::Integer(batches.iter().map(|(_, b)| count(b.record_count)).collect())),
        ("bytes", Column::Bytes(batches.into_iter().map(|(_, b)| b.bytes).collect())),
    ];
    Insert { table: "access_log_batch", columns, on_conflict: OnConflict::Seldom("(batch_id, from_at) DO NOTHING") }
}

/// The index rows of all batches; takes the parts out of the batches.
fn part_insert(batches: &mut [(i64, AccessLogBatch)]) -> Insert {
    let mut rows: Vec<(i64, u64, usize, AccessLogPart)> = Vec::new();
    for (id, batch) in batches {
        let (id, to_ns) = (*id, batch.to_ns);
        let parts = std::mem::take(&mut batch.parts).into_iter().enumerate();
        rows.extend(parts.map(|(place, part)| (id, to_ns, place, part)));
    }
    let place = |place: usize| i32::try_from(place).unwrap_or(i32::MAX);
    let columns = vec![
        ("batch_id", Column::Bigint(rows.iter().map(|(id, ..)| *id).collect())),
        ("batch_at", Column::Time(rows.iter().map(|(_, to_ns, ..)| at(*to_ns)).collect())),
        ("part", Column::Integer(rows.iter().map(|(_, _, at, _)| place(*at)).collect())),
        ("from_at", Column::Time(rows.iter().map(|(.., p)| at(p.from_ns)).collect())),
        ("to_at", Column::Time(rows.iter().map(|(.., p)| at(p.to_ns)).collect())),
        ("source", Column::Text(rows.iter().map(|(.., p)| p.source.clone()).collect())),
        ("destination", Column::Text(rows.iter().map(|(.., p)| p.destination.clone()).collect())),
        ("service", Column::Text(rows.iter().map(|(.., p)| p.service.clone()).collect())),
        ("code", Column::Integer(rows.iter().map(|(.., p)| i32::from(p.code)).collect())),
        ("reason", Column::Text(rows.iter().map(|(.., p)| p.reason.as_str().to_owned()).collect())),
        ("record_count", Column::Integer(rows.iter().map(|(.., p)| count(p.record_count)).collect())),
        ("trace_hashes", Column::BigintArray(rows.into_iter().map(|(.., p)| p.trace_hashes).collect())),
    ];
    Insert {
        table: "access_log_part",
        columns,
        on_conflict: OnConflict::Seldom("(batch_id, batch_at, part) DO NOTHING"),
    }
}
