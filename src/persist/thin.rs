//! Thins raw chunks, a whole day in one transaction.
//!
//! In: days all of whose windows are in chunks. Out: one row of `chunk_5m` per label set and day, and the boundary up to
//! which that is done; raw chunks after it are not dropped, however old.
//!
//! Invariant: idempotent, and bounded in memory: some label sets at a time.

use std::time::Duration;

use super::merge::{decoded, rows};
use crate::model::Timestamp;
use crate::series::{Block, merge_blocks, thin_block};
use crate::store::{Chunk, ChunkTier, Store, StoreError};

/// What is thinned at once.
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);
/// Label sets in memory at one time, as bytes: each has twelve windows of chunks.
const LABEL_SETS: u32 = 128;
/// Samples of a label set that are decoded at one time, about; one with more is thinned in as many passes as that needs.
const PASS_SAMPLES: u64 = 10_000_000;

/// What was thinned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Thinned {
    /// All before it is thinned.
    pub(super) until: Timestamp,
    /// Rows written.
    pub(super) chunks: usize,
}

/// Thins every day that ends at or before `until` and is not thinned yet.
pub(super) async fn thin_days(store: &Store, until: Timestamp) -> Result<Thinned, StoreError> {
    let until = until.floor_to(DAY);
    let mut done = Thinned { until: store.thinned_until().await?.unwrap_or(Timestamp::MIN), chunks: 0 };
    while done.until < until {
        // Days without chunks are passed over, however many there are.
        let first = store.first_raw_chunk(done.until, until).await?;
        let day = first.map_or(until, |first| first.floor_to(DAY));
        let end = if day < until { day + DAY } else { until };
        let chunks = thin_day(store, day, end).await?;
        if chunks > 0 {
            tracing::info!(chunks, "samples from {day} to {end} are thinned");
        }
        done = Thinned { until: end, chunks: done.chunks + chunks };
    }
    Ok(done)
}

async fn thin_day(store: &Store, day: Timestamp, end: Timestamp) -> Result<usize, StoreError> {
    let mut writer = store.write_chunks().await?;
    let (mut next, mut written) = (Some(i64::MIN), 0);
    while let Some(first) = next {
        let page = writer.raw_page((day, end), first, LABEL_SETS).await?;
        next = page.last().and_then(|chunk| chunk.label_set.checked_add(1));
        let thinning = tokio::task::spawn_blocking(move || thin_page(&page, day));
        let thinned = thinning.await.map_err(|error| StoreError::Damaged { what: "chunk", reason: error.to_string() });
        let (rows, damaged) = thinned?;
        written += rows.len();
        writer.set_aside(ChunkTier::Raw, &damaged).await?;
        writer.write(ChunkTier::FiveMinutes, rows).await?;
    }
    writer.thinned(end).await?;
    writer.finish().await?;
    Ok(written)
}

/// Rows of a day, and the raw chunks that cannot be read.
fn thin_page(page: &[Chunk], day: Timestamp) -> (Vec<Chunk>, Vec<(Chunk, String)>) {
    let (mut thinned, mut damaged) = (Vec::new(), Vec::new());
    for chunks in page.chunk_by(|a, b| a.label_set == b.label_set) {
        let samples: u64 = chunks.iter().map(|chunk| u64::from(chunk.sample_count)).sum();
        let passes = samples / PASS_SAMPLES + 1;
        let mut readable: Vec<&Chunk> = chunks.iter().collect();
        let mut of_day = Block::new();
        for pass in 0..passes {
            let (block, unreadable) = read_pass(&readable, (pass, passes));
            of_day.extend(thin_block(block));
            readable.retain(|chunk| !unreadable.iter().any(|(bad, _)| bad.from == chunk.from));
            damaged.extend(unreadable);
        }
        thinned.extend(rows(chunks[0].label_set, day, &of_day));
    }
    (thinned, damaged)
}

/// The series whose turn it is, of all chunks of a day.
fn read_pass(chunks: &[&Chunk], (pass, passes): (u64, u64)) -> (Block, Vec<(Chunk, String)>) {
    let turn = |metric: &str, bucket: &str| {
        use std::hash::BuildHasher;
        passes == 1 || foldhash::fast::FixedState::default().hash_one((metric, bucket)) % passes == pass
    };
    let (mut whole, mut damaged) = (Block::new(), Vec::new());
    for chunk in chunks {
        match decoded(chunk, turn) {
            Ok(block) => merge_blocks(&mut whole, block),
            Err(reason) => damaged.push(((*chunk).clone(), reason)),
        }
    }
    (whole, damaged)
}
