//! Chunks: the samples of the series of one label set over one closed window, and the series they belong to.
//!
//! In: names of series, and bytes whose inside `series` knows. Out: rows, and back. Rows are read, merged by the caller and
//! written within one [`ChunkWriter`], of which there is one at a time.
//!
//! Invariant: chunk rows, the boundary up to which everything is in chunks, and the trimming of the journal commit
//! together, so that a crash neither loses nor doubles a sample.

mod catalogue;
mod labels;
mod scope;
mod select;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnection;
use sqlx::{Postgres, Transaction};
use tokio::sync::OwnedMutexGuard;

use super::bulk::{Column, Insert, OnConflict};
use super::metric_names::move_mark;
use super::{Store, StoreError, values};
use crate::model::{Labels, Timestamp};
pub use catalogue::{SeriesNames, label_set_id};
use catalogue::{WrittenSeries, insert_names};
pub use select::FoundSeries;

/// The longest time from the start to the last sample of one chunk: how far before a range its chunks are looked for.
pub const CHUNK_SPAN_MAX: Duration = Duration::from_secs(24 * 3600);

/// The label that tells the buckets of one histogram apart; kept with the series, not with its label set.
const BUCKET_LABEL: &str = "le";
/// Writers of chunks wait for each other on this advisory lock ("chnk" in ASCII), other processes' included.
const CHUNK_LOCK: i64 = 0x6368_6e6b;

/// Which table of chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChunkTier {
    /// All samples, in windows of two hours.
    Raw,
    /// Thinned to about one sample each 5 minutes, in windows of a day.
    FiveMinutes,
}

impl ChunkTier {
    fn table(self) -> &'static str {
        match self {
            Self::Raw => "chunk_raw",
            Self::FiveMinutes => "chunk_5m",
        }
    }

    /// How long a window is. Windows are aligned to the epoch.
    pub fn window(self) -> Duration {
        match self {
            Self::Raw => Duration::from_secs(2 * 3600),
            Self::FiveMinutes => Duration::from_secs(24 * 3600),
        }
    }
}

/// A row: samples of the series of one label set in one window. Very many series take several rows, see [`Chunk::PARTS_MAX`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Which label set ([`label_set_id`]).
    pub label_set: i64,
    /// Start of the window, and a millisecond more for each row of the window before this one: with the label set, the
    /// identity of the chunk.
    pub from: Timestamp,
    /// Its last sample.
    pub to: Timestamp,
    /// How many samples, of all its series.
    pub sample_count: u32,
    /// The samples, as `series` encodes them.
    pub bytes: Vec<u8>,
}

impl Chunk {
    /// Most rows of one label set and window; `sql/read_chunk_*.sql` look as far.
    pub const PARTS_MAX: u32 = 10_000;

    /// What the rows of a label set and window tell apart.
    pub const PART_STEP: Duration = Duration::from_millis(1);

    /// Start of its window.
    pub fn window(&self, tier: ChunkTier) -> Timestamp {
        self.from.floor_to(tier.window())
    }

    /// Name of the row for people, as SQL that finds it.
    pub fn place(&self, tier: ChunkTier) -> String {
        format!("{} WHERE label_set_id = {} AND from_at = '{}'", tier.table(), self.label_set, self.from)
    }
}

type ChunkRow = (i64, DateTime<Utc>, DateTime<Utc>, i32, Vec<u8>);

impl From<ChunkRow> for Chunk {
    fn from((label_set, from, to, count, bytes): ChunkRow) -> Self {
        Self { label_set, from: from.into(), to: to.into(), sample_count: count.unsigned_abs(), bytes }
    }
}

impl Store {
    /// Begins to write chunks: they count only once all are there. Waits for other writers.
    ///
    /// # Errors
    /// When the server is away, or another writer takes long.
    pub async fn write_chunks(&self) -> Result<ChunkWriter, StoreError> {
        let doing = "write chunks";
        let catalogue = Arc::clone(&self.0.ids.catalogue).lock_owned().await;
        let mut transaction = self.begin_relaxed(doing).await?;
        let lock = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(CHUNK_LOCK).execute(&mut *transaction).await;
        lock.map_err(StoreError::doing("wait for other writers of chunks"))?;
        Ok(ChunkWriter { store: self.clone(), transaction, written: Vec::new(), damaged: 0, _catalogue: catalogue })
    }

    /// The boundary of the last [`ChunkWriter::close`].
    ///
    /// # Errors
    /// When the server is away.
    pub async fn chunked_until(&self) -> Result<Option<Timestamp>, StoreError> {
        self.progress("chunked_until").await
    }

    /// The newest sample that was ever written past the memory tier: memory never holds all up to there.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn loaded_until(&self) -> Result<Option<Timestamp>, StoreError> {
        self.progress("loaded_until").await
    }

    /// Up to where raw chunks are thinned.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn thinned_until(&self) -> Result<Option<Timestamp>, StoreError> {
        self.progress("thinned_until").await
    }

    /// The last journal entry of which all samples for closed windows are in chunks.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn past_written(&self) -> Result<i64, StoreError> {
        let query = "SELECT seq FROM progress WHERE name = 'past_written'";
        let seq: Option<i64> =
            sqlx::query_scalar(query).fetch_optional(self.pool()).await.map_err(StoreError::doing("read progress"))?;
        Ok(seq.unwrap_or(0))
    }

    /// The start of the first raw chunk that begins in `[from, to)`.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn first_raw_chunk(&self, from: Timestamp, to: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let query = "SELECT min(from_at) FROM chunk_raw WHERE from_at >= $1 AND from_at < $2";
        let found: Option<DateTime<Utc>> = sqlx::query_scalar(query)
            .bind(values::time(from))
            .bind(values::time(to))
            .fetch_one(self.pool())
            .await
            .map_err(StoreError::doing("look for the first chunk"))?;
        Ok(found.map(Timestamp::from))
    }

    /// How many chunks of this process's work could not be read and were kept in `chunk_damaged`.
    pub fn damaged_chunks(&self) -> u64 {
        self.0.damaged_chunks.load(Relaxed)
    }

    /// How often a query met a chunk that could not be read, and answered without it.
    pub fn unreadable_chunks(&self) -> u64 {
        self.0.unreadable_chunks.load(Relaxed)
    }

    /// A query met so many.
    pub fn count_unreadable_chunks(&self, count: u64) {
        self.0.unreadable_chunks.fetch_add(count, Relaxed);
    }

    fn remember(&self, written: WrittenSeries) {
        let known = &self.0.ids;
        known.series.add(written.series);
        known.label_sets.add(written.label_sets.into_iter().map(|id| (id, ())));
        known.metrics.add(written.metrics.into_iter().map(|id| (id, ())));
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

/// Chunks that are being read, merged and written. Dropped before [`ChunkWriter::finish`], nothing has happened.
pub struct ChunkWriter {
    store: Store,
    transaction: Transaction<'static, Postgres>,
    written: Vec<WrittenSeries>,
    damaged: u64,
    _catalogue: OwnedMutexGuard<()>,
}

impl ChunkWriter {
    /// The chunks there are of those label sets and windows.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn read(&mut self, tier: ChunkTier, keys: &[(i64, Timestamp)]) -> Result<Vec<Chunk>, StoreError> {
        let sql = match tier {
            ChunkTier::Raw => include_str!("sql/read_chunk_raw.sql"),
            ChunkTier::FiveMinutes => include_str!("sql/read_chunk_5m.sql"),
        };
        let (ids, windows): (Vec<i64>, Vec<DateTime<Utc>>) =
            keys.iter().map(|(id, window)| (*id, values::time(*window))).unzip();
        let rows: Vec<ChunkRow> = sqlx::query_as(sql)
            .bind(ids)
            .bind(windows)
            .fetch_all(&mut *self.transaction)
            .await
            .map_err(StoreError::doing("read chunks"))?;
        Ok(rows.into_iter().map(Chunk::from).collect())
    }

    /// The raw chunks in `[from, to)` of the next `label_sets` label sets from the id `first` on, by label set and time.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn raw_page(
        &mut self,
        (from, to): (Timestamp, Timestamp),
        first: i64,
        label_sets: u32,
    ) -> Result<Vec<Chunk>, StoreError> {
        let rows: Vec<ChunkRow> = sqlx::query_as(include_str!("sql/chunk_raw_page.sql"))
            .bind(values::time(from))
            .bind(values::time(to))
            .bind(first)
            .bind(i64::from(label_sets))
            .fetch_all(&mut *self.transaction)
            .await
            .map_err(StoreError::doing("read chunks"))?;
        Ok(rows.into_iter().map(Chunk::from).collect())
    }

    /// Inserts the series that are not known to be stored.
    ///
    /// # Errors
    /// When the server is away; then all must be begun again.
    pub async fn name(&mut self, names: &[SeriesNames]) -> Result<(), StoreError> {
        let written = insert_names(&mut self.transaction, &self.store.0.ids, names).await?;
        self.written.push(written);
        Ok(())
    }

    /// Deletes the rows of those label sets and windows but the first of each, before fewer of them are written again.
    ///
    /// # Errors
    /// When the server is away; then all must be begun again.
    pub async fn drop_parts(&mut self, tier: ChunkTier, keys: &[(i64, Timestamp)]) -> Result<(), StoreError> {
        let sql = match tier {
            ChunkTier::Raw => include_str!("sql/drop_parts_chunk_raw.sql"),
            ChunkTier::FiveMinutes => include_str!("sql/drop_parts_chunk_5m.sql"),
        };
        let (ids, windows): (Vec<i64>, Vec<DateTime<Utc>>) =
            keys.iter().map(|(id, window)| (*id, values::time(*window))).unzip();
        let done = sqlx::query(sql).bind(ids).bind(windows).execute(&mut *self.transaction).await;
        done.map(drop).map_err(StoreError::doing("replace chunks"))
    }

    /// Writes chunks, each once; one that is there already is replaced.
    ///
    /// # Errors
    /// When the server is away, or a chunk covers more than [`CHUNK_SPAN_MAX`]; then all must be begun again.
    pub async fn write(&mut self, tier: ChunkTier, chunks: Vec<Chunk>) -> Result<(), StoreError> {
        check_spans(&chunks)?;
        insert_chunks(&mut self.transaction, tier, chunks).await
    }

    /// Keeps a chunk that cannot be read as it is, before its row is replaced or its partition dropped.
    ///
    /// # Errors
    /// When the server is away; then all must be begun again.
    pub async fn set_aside(&mut self, tier: ChunkTier, damaged: &[(Chunk, String)]) -> Result<(), StoreError> {
        for (chunk, reason) in damaged {
            let insert = "INSERT INTO chunk_damaged (tier, label_set_id, from_at, to_at, sample_count, bytes, reason)
                          VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING";
            let done = sqlx::query(insert)
                .bind(tier.table())
                .bind(chunk.label_set)
                .bind(values::time(chunk.from))
                .bind(values::time(chunk.to))
                .bind(chunk.sample_count.min(i32::MAX as u32) as i32)
                .bind(&chunk.bytes)
                .bind(reason)
                .execute(&mut *self.transaction)
                .await;
            done.map_err(StoreError::doing("keep damaged chunks"))?;
        }
        self.damaged += damaged.len() as u64;
        Ok(())
    }

    /// All samples before `until` are in these chunks, or in earlier ones; the journal's whole epochs before it are
    /// trimmed, up to the entry `journal_end`. Returns how many entries.
    ///
    /// # Errors
    /// When the server is away; then all must be begun again.
    pub async fn close(&mut self, until: Timestamp, journal_end: i64) -> Result<u64, StoreError> {
        set_progress(&mut self.transaction, "chunked_until", until).await?;
        let trim = sqlx::query(include_str!("sql/trim_journal.sql")).bind(journal_end).bind(values::time(until));
        let done = trim.execute(&mut *self.transaction).await;
        Ok(done.map_err(StoreError::doing("trim the journal"))?.rows_affected())
    }

    /// All samples for closed windows of the journal's entries up to `journal_end` are in chunks.
    ///
    /// # Errors
    /// When the server is away; then all must be begun again.
    pub async fn past_written(&mut self, journal_end: i64) -> Result<(), StoreError> {
        let upsert = "INSERT INTO progress (name, at, seq) VALUES ('past_written', now(), $1)
                      ON CONFLICT (name) DO UPDATE SET at = excluded.at, seq = greatest(progress.seq, excluded.seq)";
        let done = sqlx::query(upsert).bind(journal_end).execute(&mut *self.transaction).await;
        done.map(drop).map_err(StoreError::doing("write progress"))
    }

    /// Samples up to `newest` are written that no memory tier and no journal has.
    ///
    /// # Errors
    /// When the server is away; then all must be begun again.
    pub async fn loaded(&mut self, newest: Timestamp) -> Result<(), StoreError> {
        let upsert = "INSERT INTO progress (name, at) VALUES ('loaded_until', $1)
                      ON CONFLICT (name) DO UPDATE SET at = greatest(progress.at, excluded.at)";
        let done = sqlx::query(upsert).bind(values::time(newest)).execute(&mut *self.transaction).await;
        done.map(drop).map_err(StoreError::doing("write progress"))
    }

    /// All raw chunks before `until` are thinned.
    ///
    /// # Errors
    /// When the server is away; then all must be begun again.
    pub async fn thinned(&mut self, until: Timestamp) -> Result<(), StoreError> {
        set_progress(&mut self.transaction, "thinned_until", until).await
    }

    /// Commits.
    ///
    /// # Errors
    /// When the server is away; then nothing has happened, or only the acknowledgement was lost.
    pub async fn finish(mut self) -> Result<(), StoreError> {
        let adds_names = self.written.iter().any(|written| !written.metrics.is_empty());
        if adds_names {
            move_mark(&mut self.transaction).await?;
        }
        let committed = self.transaction.commit().await;
        if adds_names {
            self.store.0.metric_names.changed(); // also when only the acknowledgement was lost
        }
        committed.map_err(StoreError::doing("write chunks"))?;
        self.store.0.damaged_chunks.fetch_add(self.damaged, Relaxed);
        self.written.into_iter().for_each(|written| self.store.remember(written));
        Ok(())
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
            labels: format!("label set {}", chunk.label_set),
            hours: chunk.to.since(chunk.from).as_secs() / 3600,
            limit_hours: CHUNK_SPAN_MAX.as_secs() / 3600,
        }),
    }
}

async fn insert_chunks(connection: &mut PgConnection, tier: ChunkTier, rows: Vec<Chunk>) -> Result<(), StoreError> {
    let columns = vec![
        ("label_set_id", Column::Bigint(rows.iter().map(|c| c.label_set).collect())),
        ("from_at", Column::Time(rows.iter().map(|c| values::time(c.from)).collect())),
        ("to_at", Column::Time(rows.iter().map(|c| values::time(c.to)).collect())),
        ("sample_count", Column::Integer(rows.iter().map(|c| c.sample_count.min(i32::MAX as u32) as i32).collect())),
        ("bytes", Column::Bytes(rows.into_iter().map(|c| c.bytes).collect())),
    ];
    let on_conflict = OnConflict::Seldom(match tier {
        ChunkTier::Raw => include_str!("sql/chunk_raw_conflict.sql"),
        ChunkTier::FiveMinutes => include_str!("sql/chunk_5m_conflict.sql"),
    });
    Insert { table: tier.table(), columns, on_conflict }.run(connection).await
}

/// The labels that the series of a label set share.
fn shared_labels(labels: &Labels) -> impl Iterator<Item = (&str, &str)> {
    labels.iter().filter(|(name, _)| *name != crate::model::METRIC_NAME && *name != BUCKET_LABEL)
}
