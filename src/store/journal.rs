//! The journal: every accepted sample, in order, until it is in a chunk.

use chrono::{DateTime, Utc};

use super::ids::id_of;
use super::{Store, StoreError, values};
use crate::model::Timestamp;

/// Samples to make durable, as `series` encodes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewJournalEntry {
    /// Earliest sample.
    pub from: Timestamp,
    /// Latest sample.
    pub to: Timestamp,
    /// How many.
    pub sample_count: u64,
    /// Whether it can be read without the entries before it. Trimming never parts an epoch from its start.
    pub starts_epoch: bool,
    /// The samples.
    pub bytes: Vec<u8>,
}

/// A row of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// Its place in the order of writing.
    pub seq: i64,
    /// What was written.
    pub entry: NewJournalEntry,
}

impl Store {
    /// Appends entries in order, durably: the commit waits for the disk. One that is there already stays as it is.
    ///
    /// # Errors
    /// When the server is away; then none is appended, or the acknowledgement was lost and a repeat is harmless.
    pub async fn append_journal(&self, entries: &[NewJournalEntry]) -> Result<(), StoreError> {
        let doing = "append to the journal";
        let mut transaction = self.begin_write(doing).await?;
        for entry in entries {
            let insert = "INSERT INTO journal (content_id, from_at, to_at, sample_count, starts_epoch, bytes)
                          VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (content_id) DO NOTHING";
            sqlx::query(insert)
                .bind(id_of([&entry.bytes]))
                .bind(values::time(entry.from))
                .bind(values::time(entry.to))
                .bind(i64::try_from(entry.sample_count).unwrap_or(i64::MAX))
                .bind(entry.starts_epoch)
                .bind(&entry.bytes)
                .execute(&mut *transaction)
                .await
                .map_err(StoreError::doing(doing))?;
        }
        transaction.commit().await.map_err(StoreError::doing(doing))
    }

    /// The entries after the place `after` (0: all), in order, at most `limit`.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn journal_page(&self, after: i64, limit: u32) -> Result<Vec<JournalEntry>, StoreError> {
        type Row = (i64, DateTime<Utc>, DateTime<Utc>, i64, bool, Vec<u8>);
        let query = "SELECT seq, from_at, to_at, sample_count, starts_epoch, bytes FROM journal
                     WHERE seq > $1 ORDER BY seq LIMIT $2";
        let rows: Vec<Row> = sqlx::query_as(query)
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(self.pool())
            .await
            .map_err(StoreError::doing("read the journal"))?;
        let entry = |(seq, from, to, sample_count, starts_epoch, bytes): Row| {
            let (from, to) = (from.into(), to.into());
            let sample_count = sample_count.unsigned_abs();
            JournalEntry { seq, entry: NewJournalEntry { from, to, sample_count, starts_epoch, bytes } }
        };
        Ok(rows.into_iter().map(entry).collect())
    }

    /// Whether targets are scraped by the same `settings` as when this was last called; remembers them.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn exchange_scrape_settings(&self, settings: &str) -> Result<bool, StoreError> {
        let doing = "compare the scrape settings";
        let id = id_of([settings]);
        let before: Option<i64> = sqlx::query_scalar("SELECT settings_id FROM scrape_settings")
            .fetch_optional(self.pool())
            .await
            .map_err(StoreError::doing(doing))?;
        let upsert = "INSERT INTO scrape_settings (settings_id) VALUES ($1)
                      ON CONFLICT (only_row) DO UPDATE SET settings_id = excluded.settings_id";
        self.write_one(doing, sqlx::query(upsert).bind(id)).await?;
        Ok(before == Some(id))
    }

    /// How many entries and how many bytes of samples the journal holds.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn journal_size(&self) -> Result<(u64, u64), StoreError> {
        let query = "SELECT count(*), coalesce(sum(length(bytes)), 0)::bigint FROM journal";
        let (rows, bytes): (i64, i64) =
            sqlx::query_as(query).fetch_one(self.pool()).await.map_err(StoreError::doing("measure the journal"))?;
        Ok((rows.unsigned_abs(), bytes.unsigned_abs()))
    }

    /// How many samples the entries hold that reach into `[from, until)`.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn journal_samples(&self, (from, until): (Timestamp, Timestamp)) -> Result<u64, StoreError> {
        let query = "SELECT coalesce(sum(sample_count), 0)::bigint FROM journal WHERE to_at >= $1 AND from_at < $2";
        let samples: i64 = sqlx::query_scalar(query)
            .bind(values::time(from))
            .bind(values::time(until))
            .fetch_one(self.pool())
            .await
            .map_err(StoreError::doing("measure the journal"))?;
        Ok(samples.unsigned_abs())
    }

    /// The place of the first entry, `None` in an empty journal.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn journal_start(&self) -> Result<Option<i64>, StoreError> {
        let start = sqlx::query_scalar("SELECT min(seq) FROM journal").fetch_one(self.pool()).await;
        start.map_err(StoreError::doing("read the journal's start"))
    }

    /// The place after which entries must be read, from the start of an epoch on, to find all samples from `from` on.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn journal_place_of(&self, from: Timestamp) -> Result<i64, StoreError> {
        let query = "SELECT coalesce(max(seq) - 1, 0) FROM journal
                     WHERE starts_epoch AND seq <= (SELECT min(seq) FROM journal WHERE to_at >= $1)";
        let place = sqlx::query_scalar(query).bind(values::time(from)).fetch_one(self.pool()).await;
        place.map_err(StoreError::doing("look for a place in the journal"))
    }

    /// The place of the last entry, 0 in an empty journal.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn journal_end(&self) -> Result<i64, StoreError> {
        let end = sqlx::query_scalar("SELECT coalesce(max(seq), 0) FROM journal").fetch_one(self.pool()).await;
        end.map_err(StoreError::doing("read the journal's end"))
    }
}
