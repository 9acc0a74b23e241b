//! Loads history in bulk: samples of the past go straight into chunks, past memory and journal.
//!
//! In: samples of many series, of any age up to now. Out: rows of `chunk_raw`, and of `chunk_5m` where raw ones are past
//! their retention. One call is one transaction; calling again with the same samples changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::chunks::horizons;
use super::merge::merge;
use crate::model::{Labels, METRIC_NAME, Timestamp};
use crate::series::{Block, CHUNK_WINDOW, ClosedBlock, Head, Member, SeriesSamples};
use crate::store::{RetentionConfig, Store, StoreError};

/// Label sets and windows merged at once.
const BATCH: usize = 256;

/// What became of samples loaded in bulk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backfilled {
    /// Samples merged; those that were there already count too.
    pub samples: usize,
    /// Chunks written.
    pub chunks: usize,
    /// Samples left out: older than every retention.
    pub too_old: usize,
    /// Samples left out: of a time yet to come.
    pub in_future: usize,
}

/// Where to load history.
#[derive(Clone)]
pub struct Backfill {
    /// The database.
    pub store: Store,
    /// How long samples are kept.
    pub retention: RetentionConfig,
    /// The memory tier of this process when it serves queries, so that they look into PostgreSQL for what was loaded.
    /// Another process's memory tier learns nothing: there, samples of the last `storage.memory_window` are seen when they
    /// have left it.
    pub head: Option<Head>,
}

impl Backfill {
    /// Merges samples into the chunks of their windows: of two of one series and time the stored one stays.
    ///
    /// Give up to some hundred thousand samples at once, the same series together where that is possible: each window and
    /// label set that a call touches is read and written once.
    ///
    /// # Errors
    /// When PostgreSQL is away; then nothing of this call is stored, or only the acknowledgement was lost.
    pub async fn write(&self, now: Timestamp, series: Vec<SeriesSamples>) -> Result<Backfilled, StoreError> {
        let kept = self.retention.raw.max(self.retention.five_minutes).get();
        let (blocks, mut done, newest) = by_window(series, (now - kept, now));
        if blocks.is_empty() {
            return Ok(done);
        }
        let mut writer = self.store.write_chunks().await?;
        let horizons = horizons(&self.store, Some(self.retention.raw.get()), now).await?;
        let mut blocks = blocks.into_iter().peekable();
        while blocks.peek().is_some() {
            let batch = blocks.by_ref().take(BATCH).collect();
            done.chunks += merge(&mut writer, horizons, batch).await?;
        }
        if let Some(newest) = newest {
            writer.loaded(newest).await?;
        }
        writer.finish().await?;
        if let (Some(head), Some(newest)) = (&self.head, newest) {
            head.raise_complete_from(newest + std::time::Duration::from_millis(1));
        }
        Ok(done)
    }
}

/// Samples in `[oldest, newest]` by window and label set, and the newest of all.
fn by_window(
    series: Vec<SeriesSamples>,
    (oldest, newest): (Timestamp, Timestamp),
) -> (Vec<ClosedBlock>, Backfilled, Option<Timestamp>) {
    let mut blocks = BTreeMap::<(Labels, Timestamp), Block>::new();
    let (mut done, mut last) = (Backfilled::default(), None);
    for SeriesSamples { labels, times, values } in series {
        let shared = labels.without(&[METRIC_NAME, "le"]);
        let name = (labels.metric_name().to_owned(), labels.value("le").to_owned());
        let mut samples: Vec<(Timestamp, f64)> = times.iter().copied().zip(values).collect();
        samples.sort_by_key(|(at, _)| *at); // stable: of equal times the first stays
        samples.dedup_by_key(|(at, _)| *at);
        let start = samples.partition_point(|(at, _)| *at < oldest);
        let end = samples.partition_point(|(at, _)| *at <= newest).max(start);
        done.too_old += start;
        done.in_future += samples.len() - end;
        done.samples += end - start;
        last = last.max(samples[start..end].last().map(|(at, _)| *at));
        let window = |at: Timestamp| at.floor_to(CHUNK_WINDOW);
        for part in samples[start..end].chunk_by(|a, b| window(a.0) == window(b.0)) {
            let (times, values): (Vec<Timestamp>, Vec<f64>) = part.iter().copied().unzip();
            let member = Member { times: Arc::from(times), values };
            let block = blocks.entry((shared.clone(), window(part[0].0))).or_default();
            match block.get_mut(&name) {
                Some(known) => known.merge(&member),
                None => drop(block.insert(name.clone(), member)),
            }
        }
    }
    let closed = |((labels, window), block)| ClosedBlock { labels, window, block };
    (blocks.into_iter().map(closed).collect(), done, last)
}
