//! Chunks: the samples of one series over one closed window, and the series they belong to.
//!
//! Invariant: chunk rows, the boundary up to which everything is in chunks, and the trimming of the journal commit
//! together, so that a crash neither loses nor doubles a sample.

mod catalogue;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use futures_util::TryStreamExt;
use sqlx::postgres::PgConnection;
use sqlx::{Postgres, Transaction};
use tokio::sync::OwnedMutexGuard;

use super::bulk::{Column, Insert, OnConflict};
use super::{Store, StoreError, values};
use crate::model::{Labels, METRIC_NAME, MatchOp, Matcher, Timestamp};
use catalogue::{SeriesIds, WrittenSeries, insert_label_sets, insert_metrics, insert_series, series_ids};

/// The longest time from the first to the last sample of one chunk: how far before a range its chunks are looked for.
pub const CHUNK_SPAN_MAX: Duration = Duration::from_secs(24 * 3600);

/// The label that tells the buckets of one histogram apart; kept with the series, not with its label set.
const BUCKET_LABEL: &str = "le";

/// Which table of chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkTier {
    /// All samples.
    Raw,
    /// Thinned to about one sample each 5 minutes.
    FiveMinutes,
}

impl ChunkTier {
    fn table(self) -> &'static str {
        match self {
            Self::Raw => "chunk_raw",
            Self::FiveMinutes => "chunk_5m",
        }
    }
}

/// Samples of one series, as `series` encodes them.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// Which series.
    pub labels: Labels,
    /// Its first sample: with the series, the identity of the chunk.
    pub from: Timestamp,
    /// Its last sample.
    pub to: Timestamp,
    /// How many samples.
    pub sample_count: u32,
    /// The samples.
    pub bytes: Vec<u8>,
}

/// A chunk as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredChunk {
    /// Its first sample.
    pub from: Timestamp,
    /// Its last sample.
    pub to: Timestamp,
    /// How many samples.
    pub sample_count: u32,
    /// The samples.
    pub bytes: Vec<u8>,
}

/// The chunks of one series, oldest first. Chunks may overlap where samples came late.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredSeries {
    /// Which series.
    pub labels: Labels,
    /// Its chunks.
    pub chunks: Vec<StoredChunk>,
}

impl Store {
    /// Writes chunks. One that is there already is replaced unless the stored one has more samples.
    ///
    /// # Errors
    /// When the server is away, or a chunk covers more than [`CHUNK_SPAN_MAX`].
    pub async fn write_chunks(&self, tier: ChunkTier, chunks: Vec<Chunk>) -> Result<(), StoreError> {
        let doing = "write chunks";
        let _catalogue = self.0.ids.catalogue.lock().await;
        let mut transaction = self.begin_relaxed(doing).await?;
        let written = self.write_chunk_rows(&mut transaction, tier, chunks).await?;
        transaction.commit().await.map_err(StoreError::doing(doing))?;
        self.remember(written);
        Ok(())
    }

    /// Begins to close a window: its chunks are written a part at a time, and count only once all are there.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn close_window(&self) -> Result<ClosingWindow, StoreError> {
        // Read before any chunk is cut: a later entry may hold a late sample that the chunks lack.
        let journal_end = self.journal_end().await?;
        let catalogue = Arc::clone(&self.0.ids.catalogue).lock_owned().await;
        let transaction = self.begin_relaxed("write chunks").await?;
        Ok(ClosingWindow { store: self.clone(), transaction, written: Vec::new(), journal_end, _catalogue: catalogue })
    }

    /// The boundary of the last [`ClosingWindow::finish`].
    ///
    /// # Errors
    /// When the server is away.
    pub async fn chunked_until(&self) -> Result<Option<Timestamp>, StoreError> {
        self.progress("chunked_until").await
    }

    async fn write_chunk_rows(
        &self,
        connection: &mut PgConnection,
        tier: ChunkTier,
        chunks: Vec<Chunk>,
    ) -> Result<WrittenSeries, StoreError> {
        check_spans(&chunks)?;
        let (ids, written) = self.write_series(connection, &chunks).await?;
        insert_chunks(connection, tier, &ids, chunks).await?;
        Ok(written)
    }

    /// Inserts the series that are not known to be stored; returns the id of each chunk's series.
    async fn write_series(
        &self,
        connection: &mut PgConnection,
        chunks: &[Chunk],
    ) -> Result<(Vec<i64>, WrittenSeries), StoreError> {
        let known = &self.0.ids;
        let ids: Vec<SeriesIds> = chunks.iter().map(|chunk| series_ids(&chunk.labels)).collect();
        let day = |chunk: &Chunk| values::time(chunk.to).date_naive();
        // Of several chunks of one series the last day counts.
        let mut last_days: HashMap<i64, (NaiveDate, usize)> = HashMap::new();
        for (at, (id, chunk)) in ids.iter().zip(chunks).enumerate() {
            let entry = last_days.entry(id.series).or_insert((day(chunk), at));
            *entry = (*entry).max((day(chunk), at));
        }
        let missing = known.series.missing(last_days.iter().map(|(id, (day, _))| (*id, *day)));
        let new: Vec<(usize, NaiveDate)> =
            last_days.iter().filter(|(id, _)| missing.contains(id)).map(|(_, (day, at))| (*at, *day)).collect();
        let label_sets = known.label_sets.missing(new.iter().map(|(at, _)| (ids[*at].label_set, ())));
        let metrics = known.metrics.missing(new.iter().map(|(at, _)| (ids[*at].metric, ())));
        insert_label_sets(connection, &new, &ids, chunks, &label_sets).await?;
        insert_metrics(connection, &new, &ids, chunks, &metrics).await?;
        insert_series(connection, &new, &ids, chunks).await?;
        let series = new.iter().map(|(at, day)| (ids[*at].series, *day)).collect();
        let series_of_chunks = ids.iter().map(|id| id.series).collect();
        Ok((series_of_chunks, WrittenSeries { series, label_sets, metrics }))
    }

    fn remember(&self, written: WrittenSeries) {
        let known = &self.0.ids;
        known.series.add(written.series);
        known.label_sets.add(written.label_sets.into_iter().map(|id| (id, ())));
        known.metrics.add(written.metrics.into_iter().map(|id| (id, ())));
    }

    /// The chunks in `[from, to]` of every series that satisfies the matchers. `None`: they hold more than
    /// `sample_limit` samples.
    ///
    /// # Errors
    /// When the server is away or a row is damaged.
    pub async fn select_chunks(
        &self,
        tier: ChunkTier,
        matchers: &[Matcher],
        (from, to): (Timestamp, Timestamp),
        sample_limit: usize,
    ) -> Result<Option<Vec<StoredSeries>>, StoreError> {
        let found = self.find_series(matchers, from).await?;
        let sql = match tier {
            ChunkTier::Raw => include_str!("sql/select_chunk_raw.sql"),
            ChunkTier::FiveMinutes => include_str!("sql/select_chunk_5m.sql"),
        };
        let ids: Vec<i64> = found.keys().copied().collect();
        type Row = (i64, DateTime<Utc>, DateTime<Utc>, i32, Vec<u8>);
        let mut rows = sqlx::query_as::<_, Row>(sql)
            .bind(&ids)
            .bind(values::time(from - CHUNK_SPAN_MAX))
            .bind(values::time(from))
            .bind(values::time(to))
            .fetch(self.pool());
        let (mut chunks, mut samples) = (HashMap::<i64, Vec<StoredChunk>>::new(), 0_usize);
        while let Some(row) = rows.try_next().await.map_err(StoreError::doing("read chunks"))? {
            let (series, chunk_from, chunk_to, count, bytes) = row;
            let count = count.unsigned_abs();
            // Chunks at the edges reach out of the range: only those inside count against the limit.
            if from <= Timestamp::from(chunk_from) && Timestamp::from(chunk_to) <= to {
                samples = samples.saturating_add(count as usize);
            }
            if samples > sample_limit {
                return Ok(None);
            }
            let chunk = StoredChunk { from: chunk_from.into(), to: chunk_to.into(), sample_count: count, bytes };
            chunks.entry(series).or_default().push(chunk);
        }
        let series = chunks.into_iter().filter_map(|(id, mut chunks)| {
            chunks.sort_by_key(|chunk| chunk.from);
            Some(StoredSeries { labels: found.get(&id)?.clone(), chunks })
        });
        Ok(Some(series.collect()))
    }

    /// Label sets of the series that satisfy the matchers and have a chunk in `[from, to]`, as far as whole days tell.
    ///
    /// # Errors
    /// When the server is away or a row is damaged.
    pub async fn stored_series(
        &self,
        matchers: &[Matcher],
        (from, to): (Timestamp, Timestamp),
    ) -> Result<Vec<Labels>, StoreError> {
        let found = self.find_series(matchers, from).await?;
        let ids: Vec<i64> = found.keys().copied().collect();
        let with_chunks: Vec<i64> = sqlx::query_scalar(include_str!("sql/series_with_chunks.sql"))
            .bind(&ids)
            .bind(values::time(from - CHUNK_SPAN_MAX))
            .bind(values::time(from))
            .bind(values::time(to))
            .fetch_all(self.pool())
            .await
            .map_err(StoreError::doing("find series with chunks"))?;
        Ok(with_chunks.iter().filter_map(|id| found.get(id).cloned()).collect())
    }

    /// Series that satisfy the matchers and have samples on or after the day of `from`.
    ///
    /// Metric names are matched here (there are few); of the other matchers the equalities narrow the label sets in
    /// PostgreSQL, and all are checked here once for each label set and once for each `le`.
    async fn find_series(&self, matchers: &[Matcher], from: Timestamp) -> Result<HashMap<i64, Labels>, StoreError> {
        let (of_name, rest): (Vec<&Matcher>, Vec<&Matcher>) = matchers.iter().partition(|m| &*m.name == METRIC_NAME);
        let (of_bucket, of_labels): (Vec<&Matcher>, Vec<&Matcher>) =
            rest.into_iter().partition(|m| &*m.name == BUCKET_LABEL);
        let metrics: Vec<(i64, String)> = sqlx::query_as("SELECT metric_id, name FROM metric")
            .fetch_all(self.pool())
            .await
            .map_err(StoreError::doing("read metric names"))?;
        let metrics: HashMap<i64, String> =
            metrics.into_iter().filter(|(_, name)| of_name.iter().all(|m| m.matches(name))).collect();
        let equal: serde_json::Map<String, serde_json::Value> = (of_labels.iter())
            .filter(|m| m.op == MatchOp::Equal && !m.value.is_empty())
            .map(|m| (values::text(&m.name).into_owned(), values::text(&m.value).into_owned().into()))
            .collect();
        let metric_ids: Vec<i64> = metrics.keys().copied().collect();
        let label_sets = self.find_label_sets(equal.into(), &of_labels).await?;
        let label_set_ids: Vec<i64> = label_sets.keys().copied().collect();
        let mut rows = sqlx::query_as::<_, (i64, i64, i64, Option<String>)>(include_str!("sql/find_series.sql"))
            .bind(&metric_ids)
            .bind(&label_set_ids)
            .bind(values::time(from).date_naive())
            .fetch(self.pool());
        let mut found = HashMap::new();
        while let Some((id, metric, label_set, le)) = rows.try_next().await.map_err(StoreError::doing("find series"))? {
            let le = le.unwrap_or_default();
            if let (Some(name), Some(labels)) = (metrics.get(&metric), label_sets.get(&label_set))
                && of_bucket.iter().all(|m| m.matches(&le))
            {
                let own = [(METRIC_NAME, name.as_str()), (BUCKET_LABEL, le.as_str())];
                found.insert(id, labels.iter().chain(own).collect());
            }
        }
        Ok(found)
    }

    async fn find_label_sets(
        &self,
        equal: serde_json::Value,
        matchers: &[&Matcher],
    ) -> Result<HashMap<i64, Labels>, StoreError> {
        let query = "SELECT label_set_id, labels FROM label_set WHERE labels @> $1";
        let mut rows = sqlx::query_as::<_, (i64, serde_json::Value)>(query).bind(equal).fetch(self.pool());
        let mut found = HashMap::new();
        while let Some((id, labels)) = rows.try_next().await.map_err(StoreError::doing("read label sets"))? {
            let labels = values::labels_from(labels)?;
            if matchers.iter().all(|m| m.matches_labels(&labels)) {
                found.insert(id, labels);
            }
        }
        Ok(found)
    }

    /// How far the recurring work of that name has got.
    pub(super) async fn progress(&self, name: &str) -> Result<Option<Timestamp>, StoreError> {
        let at: Option<DateTime<Utc>> = sqlx::query_scalar("SELECT at FROM progress WHERE name = $1")
            .bind(name)
            .fetch_optional(self.pool())
            .await
            .map_err(StoreError::doing("read progress"))?;
        Ok(at.map(Timestamp::from))
    }
}

/// A window whose chunks are being written. Dropped before [`ClosingWindow::finish`], nothing has happened.
pub struct ClosingWindow {
    store: Store,
    transaction: Transaction<'static, Postgres>,
    written: Vec<WrittenSeries>,
    journal_end: i64,
    _catalogue: OwnedMutexGuard<()>,
}

impl ClosingWindow {
    /// Writes some of the window's chunks.
    ///
    /// # Errors
    /// When the server is away, or a chunk covers more than [`CHUNK_SPAN_MAX`]; then the whole window must be begun again.
    pub async fn write(&mut self, chunks: Vec<Chunk>) -> Result<(), StoreError> {
        let written = self.store.write_chunk_rows(&mut self.transaction, ChunkTier::Raw, chunks).await?;
        self.written.push(written);
        Ok(())
    }

    /// Commits: all chunks before `until` are stored, that boundary is remembered, and the journal's whole epochs before
    /// it are trimmed. Returns how many entries were trimmed.
    ///
    /// # Errors
    /// When the server is away; then nothing has happened, or only the acknowledgement was lost.
    pub async fn finish(mut self, until: Timestamp) -> Result<u64, StoreError> {
        set_progress(&mut self.transaction, "chunked_until", until).await?;
        let trim = sqlx::query(include_str!("sql/trim_journal.sql")).bind(self.journal_end).bind(values::time(until));
        let done = trim.execute(&mut *self.transaction).await;
        let trimmed = done.map_err(StoreError::doing("trim the journal"))?.rows_affected();
        self.transaction.commit().await.map_err(StoreError::doing("write chunks"))?;
        self.written.into_iter().for_each(|written| self.store.remember(written));
        Ok(trimmed)
    }
}

/// Moves the boundary on, never back; unless it lies over a day ahead, where only a wrong clock can have put it.
pub(super) async fn set_progress(connection: &mut PgConnection, name: &str, at: Timestamp) -> Result<(), StoreError> {
    let upsert = sqlx::query(include_str!("sql/set_progress.sql"));
    let done = upsert.bind(name).bind(values::time(at)).execute(connection).await;
    done.map(drop).map_err(StoreError::doing("write progress"))
}

fn check_spans(chunks: &[Chunk]) -> Result<(), StoreError> {
    match chunks.iter().find(|chunk| chunk.to.since(chunk.from) > CHUNK_SPAN_MAX) {
        None => Ok(()),
        Some(chunk) => Err(StoreError::ChunkTooLong {
            labels: chunk.labels.to_string(),
            hours: chunk.to.since(chunk.from).as_secs() / 3600,
            limit_hours: CHUNK_SPAN_MAX.as_secs() / 3600,
        }),
    }
}

async fn insert_chunks(
    connection: &mut PgConnection,
    tier: ChunkTier,
    ids: &[i64],
    chunks: Vec<Chunk>,
) -> Result<(), StoreError> {
    // One statement may not touch a row twice: of equal keys the fullest chunk stays.
    let mut rows: Vec<(i64, Chunk)> = ids.iter().copied().zip(chunks).collect();
    rows.sort_by_key(|(id, chunk)| (*id, chunk.from, std::cmp::Reverse(chunk.sample_count)));
    rows.dedup_by_key(|(id, chunk)| (*id, chunk.from));
    let columns = vec![
        ("series_id", Column::Bigint(rows.iter().map(|(id, _)| *id).collect())),
        ("from_at", Column::Time(rows.iter().map(|(_, c)| values::time(c.from)).collect())),
        ("to_at", Column::Time(rows.iter().map(|(_, c)| values::time(c.to)).collect())),
        ("sample_count", Column::Integer(rows.iter().map(|(_, c)| c.sample_count.cast_signed()).collect())),
        ("bytes", Column::Bytes(rows.into_iter().map(|(_, c)| c.bytes).collect())),
    ];
    let on_conflict = OnConflict::Seldom(match tier {
        ChunkTier::Raw => include_str!("sql/chunk_raw_conflict.sql"),
        ChunkTier::FiveMinutes => include_str!("sql/chunk_5m_conflict.sql"),
    });
    Insert { table: tier.table(), columns, on_conflict }.run(connection).await
}
