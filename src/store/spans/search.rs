//! Finds the parts of traces that a search must open, newest first, and the batches they are in.
//!
//! In: conditions on parts. Out: parts, places of batches, batches. Invariant: each statement walks an index and returns a
//! bounded number of rows; statements are made for their conditions, since a general one could use no index.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use chrono::{DateTime, Utc};
use sqlx::postgres::{PgArguments, PgRow, Postgres};
use sqlx::query::Query;
use sqlx::{QueryBuilder, Row, Transaction};

use super::at;
use super::index::{BatchIndex, COLUMNS};
use crate::model::span::{TraceId, TracePart};
use crate::model::{Timestamp, span_key};
use crate::store::{Store, StoreError, values};

/// Newest batches that are looked through for what is common, before the index of keys is asked for what is rare.
const WALK_BATCHES: i64 = 64;
/// Batches whose index is read at once, at first and at most: a narrow search reads on and on.
const PAGE_BATCHES: std::ops::RangeInclusive<i64> = 4..=64;
/// Batches whose index one search reads.
const SCAN_BATCHES_MAX: usize = 4_096;
const ORDER: &str = " ORDER BY last_at DESC, batch_id DESC LIMIT ";

/// What a part must say. All conditions must hold.
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
    /// Attributes ([`span_key::of_attribute`]) that all occur in the batch; which of its traces has them, its spans tell.
    pub attribute_keys: Vec<i64>,
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
            attribute_keys: Vec::new(),
        }
    }
}

/// Which stored batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BatchKey {
    /// Its last start, by which its partition is found.
    pub last_at: DateTime<Utc>,
    /// Its id.
    pub id: i64,
}

/// A part that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredPart {
    /// Which batch it is in.
    pub batch: BatchKey,
    /// When it started, nanoseconds since the epoch; a time that is odd beside that of its batch counts as the batch's.
    pub started_ns: u64,
    /// What the index tells of it.
    pub part: TracePart,
}

/// Where spans of a trace are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TracePlace {
    /// Which trace.
    pub trace_id: TraceId,
    /// Which batch.
    pub batch: BatchKey,
    /// Spans in it.
    pub span_count: u32,
}

/// A search for parts under way.
///
/// Batches come by their last start, newest first, so a part that started after the last of those that were read is newer than
/// any that will be.
pub struct PartScan {
    search: PartSearch,
    found: BinaryHeap<NewestFirst>,
    after: Option<BatchKey>,
    /// What is sought is too rare for walking through the newest batches.
    rare: bool,
    page: i64,
    read: usize,
    ended: bool,
    /// It ended before all was read.
    pub cut: bool,
}

struct NewestFirst(StoredPart);

impl PartScan {
    /// A search that has read nothing yet.
    pub fn new(search: PartSearch) -> Self {
        let page = *PAGE_BATCHES.start();
        Self { search, found: BinaryHeap::new(), after: None, rare: false, page, read: 0, ended: false, cut: false }
    }

    /// The next parts, newest first; fewer than `limit` are the last ones.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn next(&mut self, store: &Store, limit: usize) -> Result<Vec<StoredPart>, StoreError> {
        let mut parts = Vec::new();
        loop {
            let newer =
                |part: &StoredPart| self.ended || self.after.is_some_and(|key| at(part.started_ns) >= key.last_at);
            while parts.len() < limit && self.found.peek().is_some_and(|next| newer(&next.0)) {
                parts.extend(self.found.pop().map(|next| next.0));
            }
            if parts.len() == limit || self.ended {
                return Ok(parts);
            }
            self.read_on(store).await?;
        }
    }

    /// Reads the index of the next batches.
    async fn read_on(&mut self, store: &Store) -> Result<(), StoreError> {
        let rows = store.batches_of(self).await?;
        if let Some(row) = rows.last() {
            self.after = Some(BatchKey { last_at: row.get("last_at"), id: row.get("batch_id") });
        }
        for row in &rows {
            self.found.extend(BatchIndex::read(row)?.matching(&self.search).into_iter().map(NewestFirst));
        }
        self.read += rows.len();
        let full = i64::try_from(rows.len()) == Ok(self.page);
        // The walk looks through few batches: where it found less, the index of keys goes on behind the last.
        let walked = !self.rare && self.has_keys();
        let all = !full && !walked;
        self.cut = !all && self.read >= SCAN_BATCHES_MAX;
        self.ended = all || self.cut;
        self.rare |= walked && !full;
        self.page = (self.page * 2).min(*PAGE_BATCHES.end());
        Ok(())
    }

    fn has_keys(&self) -> bool {
        !keys_of(&self.search).0.is_empty() || !self.any_keys().is_empty()
    }

    /// Of these keys one must be there.
    fn any_keys(&self) -> Vec<i64> {
        let least = self.search.longest_ns_min.unwrap_or(0);
        span_key::of_slow(least, self.search.services.first().map(String::as_str)).unwrap_or_default()
    }

    /// From the newest batch on, in order of time: keys are sought in the newest ones only.
    fn push_walk(&self, query: &mut QueryBuilder<Postgres>) {
        if self.has_keys() {
            query.push(format!("SELECT {COLUMNS} FROM (SELECT * FROM span_batch WHERE "));
            self.push_time(query);
            query.push(ORDER).push_bind(WALK_BATCHES).push(") newest WHERE true");
            self.push_keys(query);
        } else {
            query.push(format!("SELECT {COLUMNS} FROM span_batch WHERE "));
            self.push_time(query);
        }
        query.push(ORDER).push_bind(self.page);
    }

    /// All batches with these keys, then the newest of them.
    fn push_by_key(&self, query: &mut QueryBuilder<Postgres>) {
        query.push(format!("SELECT {COLUMNS} FROM span_batch WHERE "));
        self.push_time(query);
        self.push_keys(query);
        query.push(ORDER).push_bind(self.page);
    }

    fn push_time(&self, query: &mut QueryBuilder<Postgres>) {
        query.push("last_at >= ").push_bind(values::time(self.search.from));
        query.push(" AND first_at <= ").push_bind(values::time(self.search.to));
        if let Some(after) = self.after {
            query.push(" AND (last_at, batch_id) < (").push_bind(after.last_at).push(", ");
            query.push_bind(after.id).push(")");
        }
    }

    fn push_keys(&self, query: &mut QueryBuilder<Postgres>) {
        let (mut keys, attributes) = keys_of(&self.search);
        if attributes {
            // A batch that does not list all its attributes may have these.
            let mut others = keys.clone();
            others.retain(|key| !self.search.attribute_keys.contains(key));
            others.push(span_key::of_more_attributes());
            query.push(" AND (keys @> ").push_bind(std::mem::take(&mut keys));
            query.push(" OR keys @> ").push_bind(others).push(")");
        } else if !keys.is_empty() {
            query.push(" AND keys @> ").push_bind(keys);
        }
        let any = self.any_keys();
        if !any.is_empty() {
            query.push(" AND keys && ").push_bind(any);
        }
    }
}

/// Keys that must all be there, and whether some are of attributes.
fn keys_of(search: &PartSearch) -> (Vec<i64>, bool) {
    let mut keys: Vec<i64> = search.services.iter().map(|service| span_key::of_service(service)).collect();
    keys.extend(search.operations.iter().map(|operation| span_key::of_operation(operation)));
    if search.error {
        keys.push(span_key::of_error(search.services.first().map(String::as_str)));
    }
    keys.extend(&search.attribute_keys);
    (keys, !search.attribute_keys.is_empty())
}

impl Store {
    /// Begins a transaction whose statements ask the index of keys: how rare a key is, the server's statistics do not know,
    /// so they are kept from walking through time and through whole tables.
    pub(super) async fn begin_by_key(&self, doing: &'static str) -> Result<Transaction<'static, Postgres>, StoreError> {
        let settings = "SELECT set_config('enable_indexscan', 'off', true), set_config('enable_seqscan', 'off', true)";
        let mut transaction = self.begin(doing).await?;
        sqlx::query(settings).execute(&mut *transaction).await.map_err(StoreError::doing(doing))?;
        Ok(transaction)
    }

    /// What `read` makes of the rows of a question to the index of keys.
    pub(super) async fn fetch_by_key<T: Send + Unpin>(
        &self,
        doing: &'static str,
        query: Query<'_, Postgres, PgArguments>,
        read: impl FnMut(PgRow) -> Result<T, sqlx::Error> + Send,
    ) -> Result<Vec<T>, StoreError> {
        let mut transaction = self.begin_by_key(doing).await?;
        let found = query.try_map(read).fetch_all(&mut *transaction).await.map_err(StoreError::doing(doing))?;
        transaction.commit().await.map_err(StoreError::doing(doing))?;
        Ok(found)
    }

    async fn batches_of(&self, scan: &PartScan) -> Result<Vec<PgRow>, StoreError> {
        // Not kept: a kept statement may be planned for any values, and so for no index.
        let mut query = QueryBuilder::new("");
        if !scan.rare {
            scan.push_walk(&mut query);
            let rows = query.build().persistent(false).fetch_all(self.pool()).await;
            return rows.map_err(StoreError::doing("search traces"));
        }
        scan.push_by_key(&mut query);
        self.fetch_by_key("search traces", query.build().persistent(false), Ok).await
    }

    /// How the server would run the statements of that search, one line for each step (`EXPLAIN`).
    ///
    /// # Errors
    /// When the server is away.
    pub async fn explain_search(&self, search: &PartSearch) -> Result<Vec<String>, StoreError> {
        let doing = || StoreError::doing("explain a search");
        let (scan, mut lines) = (PartScan::new(search.clone()), Vec::new());
        for rare in [false, true].into_iter().filter(|rare| !rare || scan.has_keys()) {
            let mut query = QueryBuilder::new("EXPLAIN ");
            let mut transaction = if rare {
                scan.push_by_key(&mut query);
                self.begin_by_key("explain a search").await?
            } else {
                scan.push_walk(&mut query);
                self.begin("explain a search").await?
            };
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
    pub async fn places_of(&self, traces: &[TraceId], limit: usize) -> Result<Vec<TracePlace>, StoreError> {
        let keys: Vec<i64> = traces.iter().map(span_key::of_trace).collect();
        let ids: Vec<Vec<u8>> = traces.iter().map(|id| id.to_vec()).collect();
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let query = sqlx::query(include_str!("../sql/trace_places.sql")).bind(keys).bind(ids).bind(limit);
        let place = |row: &PgRow| {
            let id: Vec<u8> = row.get("trace_id");
            let damaged = |_| StoreError::Damaged { what: "trace id", reason: format!("{} bytes", id.len()) };
            Ok(TracePlace {
                trace_id: TraceId::try_from(id.as_slice()).map_err(damaged)?,
                batch: BatchKey { last_at: row.get("last_at"), id: row.get("batch_id") },
                span_count: row.get::<i32, _>("span_count").unsigned_abs(),
            })
        };
        self.fetch_by_key("find traces", query, Ok).await?.iter().map(place).collect()
    }

    /// These batches, as `traces` encoded them.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn span_batches(&self, batches: &[BatchKey]) -> Result<Vec<Vec<u8>>, StoreError> {
        let (ids, times): (Vec<i64>, Vec<DateTime<Utc>>) = batches.iter().map(|key| (key.id, key.last_at)).unzip();
        let query = "SELECT b.bytes FROM unnest($1::bigint[], $2::timestamptz[]) AS wanted(id, at)
                     JOIN span_batch b ON b.batch_id = wanted.id AND b.last_at = wanted.at
                     ORDER BY b.last_at, b.batch_id";
        let found = sqlx::query_scalar(query).bind(ids).bind(times).fetch_all(self.pool()).await;
        found.map_err(StoreError::doing("read spans"))
    }
}

impl Ord for NewestFirst {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |own: &Self| (own.0.started_ns, own.0.part.trace_id, own.0.batch);
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for NewestFirst {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for NewestFirst {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for NewestFirst {}
