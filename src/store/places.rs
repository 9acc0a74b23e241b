//! Where receivers of remote write stand in the journal.

use super::ids::id_of;
use super::{Store, StoreError};

/// Where a receiver stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalPlace {
    /// The last entry that it has.
    pub seq: i64,
    /// The entry before the first that must be read, so that those after `seq` can be: the start of its epoch.
    pub read_after: i64,
    /// Samples of the entries after `seq`, up to the end that was asked for.
    pub waiting_samples: u64,
    /// Entries after `seq` that are no longer there, at most.
    pub missed_entries: u64,
}

/// The id under which the journal keeps a batch.
pub fn journal_id(bytes: &[u8]) -> i64 {
    id_of([bytes])
}

impl Store {
    /// Where a receiver stands, with what waits for it up to the entry `until`; `None` when it is not known.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn journal_place(&self, name: &str, until: i64) -> Result<Option<JournalPlace>, StoreError> {
        let query = "SELECT place.seq, coalesce(epoch.seq, first.seq, place.seq + 1) - 1,
                            coalesce(waiting.samples, 0)::bigint,
                            greatest(coalesce(first.seq, $2 + 1) - place.seq - 1, 0)
                     FROM remote_write_place place
                     LEFT JOIN LATERAL (SELECT max(seq) AS seq FROM journal WHERE starts_epoch AND seq <= place.seq) epoch ON true
                     LEFT JOIN LATERAL (SELECT min(seq) AS seq FROM journal) first ON true
                     LEFT JOIN LATERAL (SELECT sum(sample_count) AS samples FROM journal
                                        WHERE seq > place.seq AND seq <= $2) waiting ON true
                     WHERE place.remote = $1";
        let row: Option<(i64, i64, i64, i64)> = sqlx::query_as(query)
            .bind(name)
            .bind(until)
            .fetch_optional(self.pool())
            .await
            .map_err(StoreError::doing("read a receiver's place in the journal"))?;
        Ok(row.map(|(seq, read_after, waiting, missed)| JournalPlace {
            seq,
            read_after,
            waiting_samples: waiting.unsigned_abs(),
            missed_entries: missed.unsigned_abs(),
        }))
    }

    /// Notes that a receiver stands after the newest of these batches that the journal holds; which one that is.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn note_journal_batch(&self, name: &str, ids: &[i64]) -> Result<Option<i64>, StoreError> {
        let query = "WITH newest AS (SELECT seq, content_id FROM journal WHERE content_id = ANY($2) ORDER BY seq DESC LIMIT 1),
                          noted AS (INSERT INTO remote_write_place (remote, seq) SELECT $1, seq FROM newest
                                    ON CONFLICT (remote) DO UPDATE SET seq = greatest(remote_write_place.seq, excluded.seq))
                     SELECT content_id FROM newest";
        let doing = "note a receiver's place in the journal";
        let mut transaction = self.begin_write(doing).await?;
        let found = sqlx::query_scalar(query).bind(name).bind(ids).fetch_optional(&mut *transaction).await;
        let found = found.map_err(StoreError::doing(doing))?;
        transaction.commit().await.map_err(StoreError::doing(doing))?;
        Ok(found)
    }

    /// Notes that a receiver stands after that entry.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn note_journal_entry(&self, name: &str, seq: i64) -> Result<(), StoreError> {
        let query = "INSERT INTO remote_write_place (remote, seq) VALUES ($1, $2)
                     ON CONFLICT (remote) DO UPDATE SET seq = greatest(remote_write_place.seq, excluded.seq)";
        let statement = sqlx::query(query).bind(name).bind(seq);
        self.write_one("note a receiver's place in the journal", statement).await.map(drop)
    }
}
