//! Which series satisfy matchers, and their chunks.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::TryStreamExt;
use tokio::sync::mpsc;

use super::super::{Store, StoreError, values};
use super::{BUCKET_LABEL, CHUNK_SPAN_MAX, Chunk, ChunkRow, ChunkTier};
use crate::model::{Labels, METRIC_NAME, MatchOp, Matcher, Timestamp};

/// Bytes of chunks that are handed over at once.
const BATCH_BYTES: usize = 4 << 20;
/// How far after the start of a window its last row may say that it begins.
const PARTS_SPAN: Duration = Duration::from_millis(Chunk::PARTS_MAX as u64);

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
        let found = self.find_series(matchers, from).await?;
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<i64> = found.keys().copied().collect();
        let with_chunks: Vec<i64> = sqlx::query_scalar(include_str!("../sql/label_sets_with_chunks.sql"))
            .bind(&ids)
            .bind(values::time(from - CHUNK_SPAN_MAX))
            .bind(values::time(from))
            .bind(values::time(to + PARTS_SPAN))
            .fetch_all(self.pool())
            .await
            .map_err(StoreError::doing("find series with chunks"))?;
        let with_chunks: HashSet<i64> = with_chunks.into_iter().collect();
        let named = found.into_iter().filter(|(id, _)| with_chunks.contains(id)).flat_map(|(_, series)| series);
        Ok(named.map(|series| series.labels).collect())
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
        let (of_name, rest): (Vec<&Matcher>, Vec<&Matcher>) = matchers.iter().partition(|m| &*m.name == METRIC_NAME);
        let (of_bucket, of_labels): (Vec<&Matcher>, Vec<&Matcher>) =
            rest.into_iter().partition(|m| &*m.name == BUCKET_LABEL);
        let metrics = self.metric_names().await?;
        let metrics: HashMap<i64, &str> = (metrics.iter())
            .filter(|(_, name)| of_name.iter().all(|m| m.matches(name)))
            .map(|(id, name)| (*id, name.as_str()))
            .collect();
        if metrics.is_empty() {
            return Ok(HashMap::new()); // a young store, or a metric that is not old: label sets need not be looked through
        }
        let equal: serde_json::Map<String, serde_json::Value> = (of_labels.iter())
            .filter(|m| m.op == MatchOp::Equal && !m.value.is_empty())
            .map(|m| (values::text(&m.name).into_owned(), values::text(&m.value).into_owned().into()))
            .collect();
        let metric_ids: Vec<i64> = metrics.keys().copied().collect();
        let label_sets = self.find_label_sets(equal.into(), &of_labels).await?;
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
                && of_bucket.iter().all(|m| m.matches(&bucket))
            {
                let own = [(METRIC_NAME, *metric), (BUCKET_LABEL, bucket.as_str())];
                let labels = shared.iter().chain(own).collect();
                let series = FoundSeries { metric: (*metric).to_owned(), bucket, labels };
                found.entry(label_set).or_default().push(series);
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
}
