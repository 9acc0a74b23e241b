//! The samples in PostgreSQL as a store of series that PromQL can ask.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::model::{Labels, Matcher, Timestamp};
use crate::series::{QueryError, Queryable, Select, Selection, SeriesSamples, decode_chunk};
use crate::store::{ChunkTier, Health, Store, StoreError, StoredSeries};

/// Name in error messages and warnings.
const NAME: &str = "PostgreSQL history";

/// Reads chunks: the raw ones and those thinned to 5 minutes, whose samples are some of the raw ones at their own times, so
/// that both together are right wherever one ends.
#[derive(Clone)]
pub struct History(Store);

impl History {
    /// Asks that store.
    pub fn new(store: Store) -> Self {
        Self(store)
    }

    /// Fails at once while PostgreSQL is known to be away: a page must not wait for a connection that will not come.
    fn check_available(&self) -> Result<(), QueryError> {
        match &*self.0.health().borrow() {
            Health::Available => Ok(()),
            Health::Away { since, reason } => {
                Err(QueryError::Unavailable { store: NAME, reason: format!("since {since}: {reason}") })
            }
        }
    }

    async fn select_chunks(&self, select: &Select) -> Result<Vec<StoredSeries>, QueryError> {
        let range = (select.from, select.to);
        let mut found: HashMap<Labels, StoredSeries> = HashMap::new();
        for tier in [ChunkTier::Raw, ChunkTier::FiveMinutes] {
            let part =
                self.0.select_chunks(tier, &select.matchers, range, select.sample_limit).await.map_err(unavailable)?;
            for series in part.ok_or(QueryError::TooManySamples)? {
                match found.get_mut(&series.labels) {
                    Some(known) => known.chunks.extend(series.chunks),
                    None => drop(found.insert(series.labels.clone(), series)),
                }
            }
        }
        Ok(found.into_values().collect())
    }
}

impl Queryable for History {
    fn select(&self, select: Select) -> BoxFuture<'_, Result<Selection, QueryError>> {
        Box::pin(async move {
            self.check_available()?;
            let stored = self.select_chunks(&select).await?;
            let decoding = tokio::task::spawn_blocking(move || decode(stored, &select));
            let decoded =
                decoding.await.map_err(|error| QueryError::Unavailable { store: NAME, reason: error.to_string() });
            Ok(Selection { series: decoded??, warnings: Vec::new() })
        })
    }

    fn series(
        &self,
        any_of: Vec<Vec<Matcher>>,
        from: Timestamp,
        to: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<Labels>, QueryError>> {
        Box::pin(async move {
            self.check_available()?;
            let any_of = if any_of.is_empty() { vec![Vec::new()] } else { any_of };
            let mut found = HashSet::new();
            for matchers in any_of {
                found.extend(self.0.stored_series(&matchers, (from, to)).await.map_err(unavailable)?);
            }
            Ok(found.into_iter().collect())
        })
    }
}

fn unavailable(error: StoreError) -> QueryError {
    match error {
        StoreError::Damaged { what, reason } => QueryError::Damaged { labels: what.to_owned(), reason },
        error => QueryError::Unavailable { store: NAME, reason: error.to_string() },
    }
}

/// Samples in the range, in all at most the limit.
fn decode(stored: Vec<StoredSeries>, select: &Select) -> Result<Vec<SeriesSamples>, QueryError> {
    let (mut decoded, mut samples) = (Vec::with_capacity(stored.len()), 0_usize);
    // Series of one scrape have the same times: one column then serves them all.
    let mut last_times: Arc<[Timestamp]> = Arc::from([]);
    for series in stored {
        let (times, values) = decode_series(&series, select)?;
        if times.is_empty() {
            continue;
        }
        samples = samples.saturating_add(times.len());
        if samples > select.sample_limit {
            return Err(QueryError::TooManySamples);
        }
        if *last_times != *times {
            last_times = times.into();
        }
        decoded.push(SeriesSamples { labels: series.labels, times: Arc::clone(&last_times), values });
    }
    Ok(decoded)
}

fn decode_series(series: &StoredSeries, select: &Select) -> Result<(Vec<Timestamp>, Vec<f64>), QueryError> {
    let (mut times, mut values) = (Vec::new(), Vec::new());
    for chunk in &series.chunks {
        let damaged = |reason: String| QueryError::Damaged { labels: series.labels.to_string(), reason };
        let (chunk_times, chunk_values) = decode_chunk(&chunk.bytes).map_err(|error| damaged(error.to_string()))?;
        let range =
            chunk_times.partition_point(|at| *at < select.from)..chunk_times.partition_point(|at| *at <= select.to);
        times.extend_from_slice(&chunk_times[range.clone()]);
        values.extend_from_slice(&chunk_values[range]);
    }
    if times.is_sorted_by(|a, b| a < b) {
        return Ok((times, values));
    }
    // Chunks overlap: each time once, the value of the first chunk that has it.
    let mut order: Vec<usize> = (0..times.len()).collect();
    order.sort_by_key(|i| times[*i]); // stable
    order.dedup_by_key(|i| times[*i]);
    Ok((order.iter().map(|i| times[*i]).collect(), order.iter().map(|i| values[*i]).collect()))
}
