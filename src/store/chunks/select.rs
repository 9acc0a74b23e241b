//! Which series satisfy matchers, and their chunks.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::TryStreamExt;
use tokio::sync::mpsc;

use super::super::{Store, StoreError, values};
use super::scope::{Scope, Split};
use super::{BUCKET_LABEL, CHUNK_SPAN_MAX, Chunk, ChunkRow, ChunkTier};
use crate::model::{Labels, METRIC_NAME, Matcher, Timestamp};

/// Bytes of chunks that are handed over at once.
const BATCH_BYTES: usize = 4 << 20;
/// How far after the start of a window its last row may say that it begins.
pub(super) const PARTS_SPAN: Duration = Duration::from_millis(Chunk::PARTS_MAX as u64);

/// A series that satisfies matchers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundSeries {
    /// Metric name.
    pub metric: String,
    /// Its `le`, empty without one.
    pub bucket: String,
    /// All its labels.
    pub labels: Labels,
}

impl Store {
    /// Sends the chunks in `[from, to]` of those label sets, a few megabytes at a time, in any order. Stops without an
    /// error when nobody listens any more.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn read_chunks(
        &self,
        tier: ChunkTier,
        label_sets: &[i64],
        (from, to): (Timestamp, Timestamp),
        batches: &mpsc::Sender<Vec<Chunk>>,
    ) -> Result<(), StoreError> {
        let sql = match tier {
            ChunkTier::Raw => include_str!("../sql/select_chunk_raw.sql"),
            ChunkTier::FiveMinutes => include_str!("../sql/select_chunk_5m.sql"),
        };
        let mut rows = sqlx::query_as::<_, ChunkRow>(sql)
            .bind(label_sets)
            .bind(values::time(from - CHUNK_SPAN_MAX))
            .bind(values::time(from))
            .bind(values::time(to + PARTS_SPAN))
            .fetch(self.pool());
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.try_next().await.map_err(StoreError::doing("read chunks"))? {
            let chunk = Chunk::from(row);
            bytes += chunk.bytes.len();
            batch.push(chunk);
            if bytes >= BATCH_BYTES {
                bytes = 0;
                if batches.send(std::mem::take(&mut batch)).await.is_err() {
                    return Ok(());
                }
            }
        }
        // A closed channel: the reader has had enough.
        let _ = batches.send(batch).await;
        Ok(())
    }

    /// Label sets of the series that satisfy the matchers and have a chunk in `[from, to]`, as far as windows tell.
    ///
    /// # Errors
    /// When the server is away or a row is damaged.
    pub async fn stored_series(
        &self,
        matchers: &[Matcher],
        (from, to): (Timestamp, Timestamp),
    ) -> Result<Vec<Labels>, StoreError> {
        let found = self.find_within(matchers, from, Some((from, to))).await?;
        Ok(found.into_values().flatten().map(|series| series.labels).collect())
    }

    /// Series that satisfy the matchers and have samples on or after the day of `from`, by label set.
    ///
    /// Metric names are matched here (there are few); of the other matchers the equalities narrow the label sets in
    /// PostgreSQL, and all are checked here once for each label set and once for each `le`.
    ///
    /// # Errors
    /// When the server is away or a row is damaged.
    pub async fn find_series(
        &self,
        matchers: &[Matcher],
        from: Timestamp,
    ) -> Result<HashMap<i64, Vec<FoundSeries>>, StoreError> {
        self.find_within(matchers, from, None).await
    }

    /// The same; with a range only of label sets that have a chunk in it.
    async fn find_within(
        &self,
        matchers: &[Matcher],
        from: Timestamp,
        range: Option<(Timestamp, Timestamp)>,
    ) -> Result<HashMap<i64, Vec<FoundSeries>>, StoreError> {
        let split = Split::of(matchers);
        let names = self.metric_names().await?;
        let metrics = split.metrics(&names);
        if metrics.is_empty() {
            return Ok(HashMap::new()); // a young store, or a metric that is not old: label sets need not be looked through
        }
        let metric_ids: Vec<i64> = metrics.keys().copied().collect();
        let scope = Scope::of(split.labels);
        let scope = match range {
            // Of a few metrics, few label sets are looked up among the chunks.
            Some(range) if !split.name.is_empty() => scope.within(range).with_metrics(metric_ids.clone(), from),
            Some(range) => scope.within(range),
            None => scope,
        };
        let mut label_sets = HashMap::new();
        scope.each(self, |id, labels| drop(label_sets.insert(id, labels))).await?;
        let label_set_ids: Vec<i64> = label_sets.keys().copied().collect();
        let mut rows = sqlx::query_as::<_, (i64, i64, Option<String>)>(include_str!("../sql/find_series.sql"))
            .bind(&metric_ids)
            .bind(&label_set_ids)
            .bind(values::time(from).date_naive())
            .fetch(self.pool());
        let mut found = HashMap::<i64, Vec<FoundSeries>>::new();
        while let Some((metric, label_set, le)) = rows.try_next().await.map_err(StoreError::doing("find series"))? {
            let bucket = le.unwrap_or_default();
            if let (Some(metric), Some(shared)) = (metrics.get(&metric), label_sets.get(&label_set))
                && split.bucket.iter().all(|m| m.matches(&bucket))
            {
                let own = [(METRIC_NAME, *metric), (BUCKET_LABEL, bucket.as_str())];
                let labels = shared.iter().chain(own).collect();
                let series = FoundSeries { metric: (*metric).to_owned(), bucket, labels };
                found.entry(label_set).or_default().push(series);
            }
        }
        Ok(found)
    }
}
