//! The samples in PostgreSQL as a store of series that PromQL can ask.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch};

use crate::model::{Labels, Matcher, Timestamp};
use crate::series::{CHUNK_WINDOW, Member, QueryError, Queryable, Select, Selection, SeriesSamples, decode_block};
use crate::store::{Chunk, ChunkTier, FoundSeries, Health, Store, StoreError, went_away};

/// Name in error messages and warnings.
const NAME: &str = "PostgreSQL history";

/// Chunks that cannot be read and are named in an answer; the others are counted.
const UNREADABLE_NAMED: usize = 3;
/// Most batches of chunks between PostgreSQL and the decoder.
const BATCHES: usize = 2;

/// Reads chunks: the raw ones and those thinned to 5 minutes, whose samples are some of the raw ones at their own times, so
/// that both together are right wherever one ends.
#[derive(Clone)]
pub struct History(Store);

impl History {
    /// Asks that store.
    pub fn new(store: Store) -> Self {
        Self(store)
    }

    /// Reads both tiers; a few megabytes are in memory beside what was decoded.
    async fn gather(&self, select: &Select) -> Result<Gathered, QueryError> {
        let found = self.0.find_series(&select.matchers, select.from).await.map_err(unavailable)?;
        let label_sets: Vec<i64> = found.keys().copied().collect();
        let mut gathered = Gathered::new(found, select);
        if label_sets.is_empty() {
            return Ok(gathered);
        }
        for tier in [ChunkTier::Raw, ChunkTier::FiveMinutes] {
            let (sender, mut batches) = mpsc::channel::<Vec<Chunk>>(BATCHES);
            let range = (select.from, select.to);
            let (store, label_sets) = (&self.0, &label_sets);
            let reading = async move { store.read_chunks(tier, label_sets, range, &sender).await.map_err(unavailable) };
            // Owns the receiver: when decoding fails, reading ends.
            let decoding = async move {
                while let Some(batch) = batches.recv().await {
                    gathered = blocking(move || gathered.take(tier, &batch)).await??;
                }
                Ok::<_, QueryError>(gathered)
            };
            let (read, decoded) = tokio::join!(reading, decoding);
            gathered = decoded?;
            read?;
        }
        Ok(gathered)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, QueryError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| QueryError::Unavailable { store: NAME, reason: error.to_string() })
}

impl Queryable for History {
    fn select(&self, select: Select) -> BoxFuture<'_, Result<Selection, QueryError>> {
        Box::pin(async move {
            let gathered = unless_away(self.0.health(), self.gather(&select)).await?;
            self.0.count_unreadable_chunks(gathered.unreadable.count);
            blocking(move || gathered.finish()).await?
        })
    }

    fn series(
        &self,
        any_of: Vec<Vec<Matcher>>,
        from: Timestamp,
        to: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<Labels>, QueryError>> {
        Box::pin(async move {
            let reading = async {
                let mut found = HashSet::new();
                for matchers in or_all(any_of) {
                    found.extend(self.0.stored_series(&matchers, (from, to)).await.map_err(unavailable)?);
                }
                Ok(found.into_iter().collect())
            };
            unless_away(self.0.health(), reading).await
        })
    }

    fn label_names(
        &self,
        any_of: Vec<Vec<Matcher>>,
        from: Timestamp,
        to: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<String>, QueryError>> {
        Box::pin(async move {
            let reading = async {
                let mut found = BTreeSet::new();
                for matchers in or_all(any_of) {
                    found.extend(self.0.stored_label_names(&matchers, (from, to)).await.map_err(unavailable)?);
                }
                Ok(found.into_iter().collect())
            };
            unless_away(self.0.health(), reading).await
        })
    }

    fn label_values(
        &self,
        name: String,
        any_of: Vec<Vec<Matcher>>,
        from: Timestamp,
        to: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<String>, QueryError>> {
        Box::pin(async move {
            let reading = async {
                let mut found = BTreeSet::new();
                for matchers in or_all(any_of) {
                    let values = self.0.stored_label_values(&name, &matchers, (from, to)).await;
                    found.extend(values.map_err(unavailable)?);
                }
                Ok(found.into_iter().collect())
            };
            unless_away(self.0.health(), reading).await
        })
    }
}

/// Without any list of matchers, every series is asked for.
fn or_all(any_of: Vec<Vec<Matcher>>) -> Vec<Vec<Matcher>> {
    if any_of.is_empty() { vec![Vec::new()] } else { any_of }
}

/// Waits for `work`, but not for a server that is away, or has gone away meanwhile: memory answers alone then.
async fn unless_away<T>(
    health: watch::Receiver<Health>,
    work: impl Future<Output = Result<T, QueryError>>,
) -> Result<T, QueryError> {
    let gone = went_away(health);
    tokio::select! {
        // Looked at first: while it is away, no connection will come.
        biased;
        reason = gone => Err(QueryError::Unavailable { store: NAME, reason }),
        done = work => done,
    }
}

fn unavailable(error: StoreError) -> QueryError {
    match error {
        StoreError::Damaged { what, reason } => QueryError::Damaged { labels: what.to_owned(), reason },
        error => QueryError::Unavailable { store: NAME, reason: error.to_string() },
    }
}

/// Samples of the series found, as they are decoded.
struct Gathered {
    found: HashMap<i64, Vec<FoundSeries>>,
    range: (Timestamp, Timestamp),
    sample_limit: usize,
    samples: usize,
    /// By label set and place in `found`.
    pieces: HashMap<(i64, usize), Vec<Member>>,
    /// Label sets and windows that have raw chunks.
    raw: HashSet<(i64, Timestamp)>,
    /// Windows with thinned chunks, and with raw ones of any label set.
    windows: [BTreeSet<Timestamp>; 2],
    unreadable: Unreadable,
}

/// Chunks that could not be read: the answer goes without them and says so.
#[derive(Default)]
struct Unreadable {
    count: u64,
    /// Label sets and windows of raw ones: thinned samples stand in for these.
    raw: HashSet<(i64, Timestamp)>,
    warnings: Vec<String>,
}

impl Unreadable {
    fn note(&mut self, (tier, chunk): (ChunkTier, &Chunk), labels: &Labels, reason: &str) {
        self.count += 1;
        if tier == ChunkTier::Raw {
            self.raw.insert((chunk.label_set, chunk.window(tier)));
        }
        if self.warnings.len() < UNREADABLE_NAMED {
            let (place, to, samples) = (chunk.place(tier), chunk.to, chunk.sample_count);
            let from = chunk.window(tier);
            self.warnings.push(format!(
                "{samples} samples from {from} to {to} of series like {labels} are missing: their chunk cannot be read \
                 ({reason}). Restore the row from a backup of the database, or give it up: DELETE FROM {place}"
            ));
        }
    }

    fn into_warnings(mut self) -> Vec<String> {
        let named = self.warnings.len() as u64;
        if self.count > named {
            self.warnings.push(format!("{} more chunks cannot be read", self.count - named));
        }
        self.warnings
    }
}

impl Gathered {
    fn new(found: HashMap<i64, Vec<FoundSeries>>, select: &Select) -> Self {
        Self {
            found,
            range: (select.from, select.to),
            sample_limit: select.sample_limit,
            samples: 0,
            pieces: HashMap::new(),
            raw: HashSet::new(),
            windows: Default::default(),
            unreadable: Unreadable::default(),
        }
    }

    /// Decodes some chunks. Raw ones come first: of a window that has them thinned samples are not needed.
    fn take(mut self, tier: ChunkTier, chunks: &[Chunk]) -> Result<Self, QueryError> {
        for chunk in chunks {
            let Some(wanted) = self.found.get(&chunk.label_set) else { continue };
            let is_wanted = |metric: &str, bucket: &str| {
                wanted.iter().any(|series| series.metric == metric && series.bucket == bucket)
            };
            let block = match decode_block(&chunk.bytes, is_wanted) {
                Ok(block) => block,
                Err(error) => {
                    let labels = wanted.first().map(|series| series.labels.clone()).unwrap_or_else(Labels::empty);
                    self.unreadable.note((tier, chunk), &labels, &error.to_string());
                    continue;
                }
            };
            if tier == ChunkTier::Raw {
                self.raw.insert((chunk.label_set, chunk.window(tier)));
                self.windows[1].insert(chunk.window(tier));
            } else {
                self.windows[0].extend(windows_between(self.range.0.max(chunk.from), self.range.1.min(chunk.to)));
            }
            for (i, series) in wanted.iter().enumerate() {
                let Some(member) = block.get(&(series.metric.clone(), series.bucket.clone())) else { continue };
                let Some(member) = within(member, self.range) else { continue };
                let is_raw = |at: Timestamp| {
                    let key = (chunk.label_set, at.floor_to(CHUNK_WINDOW));
                    self.raw.contains(&key) && !self.unreadable.raw.contains(&key)
                };
                if tier == ChunkTier::FiveMinutes && member.times.iter().all(|at| is_raw(*at)) {
                    continue;
                }
                self.samples = self.samples.saturating_add(member.values.len());
                self.pieces.entry((chunk.label_set, i)).or_default().push(member);
            }
            // Thinned samples of windows with raw ones count twice until they are merged: at most one in twenty.
            if self.samples / 2 > self.sample_limit {
                return Err(QueryError::TooManySamples);
            }
        }
        Ok(self)
    }

    fn finish(self) -> Result<Selection, QueryError> {
        let (mut series, mut samples) = (Vec::with_capacity(self.pieces.len()), 0_usize);
        // Series of one scrape have the same times: one column then serves them all.
        let mut last_times: Arc<[Timestamp]> = Arc::from([]);
        for ((label_set, i), mut pieces) in self.pieces {
            let Some(found) = self.found.get(&label_set).and_then(|found| found.get(i)) else { continue };
            pieces.sort_by_key(|piece| piece.times.first().copied());
            let Member { times, values } = joined(pieces);
            samples = samples.saturating_add(values.len());
            if samples > self.sample_limit {
                return Err(QueryError::TooManySamples);
            }
            if *last_times != *times {
                last_times = times;
            }
            series.push(SeriesSamples { labels: found.labels.clone(), times: Arc::clone(&last_times), values });
        }
        let thinned_alone = self.windows[0].iter().rfind(|window| !self.windows[1].contains(*window));
        let thinned_until = thinned_alone.map(|window| *window + CHUNK_WINDOW);
        let warnings = self.unreadable.into_warnings();
        Ok(Selection { series, warnings, thinned_until, ..Selection::default() })
    }
}

/// The windows that have a moment in `[from, to]`.
fn windows_between(from: Timestamp, to: Timestamp) -> impl Iterator<Item = Timestamp> {
    std::iter::successors(Some(from.floor_to(CHUNK_WINDOW)), |window| Some(*window + CHUNK_WINDOW))
        .take_while(move |window| *window <= to)
}

/// The samples in the range; `None` without any.
fn within(member: &Member, (from, to): (Timestamp, Timestamp)) -> Option<Member> {
    let range = member.times.partition_point(|at| *at < from)..member.times.partition_point(|at| *at <= to);
    if range.is_empty() {
        return None;
    }
    if range.len() == member.times.len() {
        return Some(member.clone());
    }
    Some(Member { times: member.times[range.clone()].into(), values: member.values[range].to_vec() })
}

/// Pieces, sorted by their first sample, as one; each time once.
fn joined(mut pieces: Vec<Member>) -> Member {
    if pieces.len() == 1
        && let Some(only) = pieces.pop()
    {
        return only;
    }
    let mut samples: Vec<(Timestamp, f64)> =
        pieces.iter().flat_map(|piece| piece.times.iter().copied().zip(piece.values.iter().copied())).collect();
    if !samples.is_sorted_by(|a, b| a.0 < b.0) {
        samples.sort_by_key(|(at, _)| *at);
        samples.dedup_by_key(|(at, _)| *at);
    }
    let (times, values): (Vec<Timestamp>, Vec<f64>) = samples.into_iter().unzip();
    Member { times: times.into(), values }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::*;

    /// A value that is watched is locked while it is looked at: who looks twice waits for a writer that waits for him.
    #[test]
    fn a_query_while_postgres_comes_and_goes_ends_and_holds_up_nobody() {
        let (sender, health) = watch::channel(Health::Available);
        let (done, ended) = std::sync::mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || {
            let away = Health::Away { since: Timestamp::from_millis(0), reason: "no answer".to_owned() };
            while !stopped.load(Ordering::Relaxed) {
                sender.send_replace(away.clone());
                sender.send_replace(Health::Available);
            }
        });
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            for _ in 0..1_000_000 {
                let work = std::future::pending::<Result<(), QueryError>>();
                let answer = runtime.block_on(unless_away(health.clone(), work));
                assert!(matches!(answer, Err(QueryError::Unavailable { store: NAME, .. })), "{answer:?}");
            }
            done.send(()).unwrap();
        });
        let ended = ended.recv_timeout(Duration::from_secs(60));
        stop.store(true, Ordering::Relaxed);
        assert!(ended.is_ok(), "a query and the watch of PostgreSQL wait for each other");
    }
}
