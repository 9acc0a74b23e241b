//! Thins raw chunks, a whole day in one transaction.
//!
//! In: days all of whose windows are in chunks. Out: one row of `chunk_5m` per label set and day, and the boundary up to
//! which that is done; raw chunks after it are not dropped, however old.
//!
//! Invariant: idempotent, and bounded in memory: some label sets at a time.

use std::time::Duration;

use super::merge::{decoded, row};
use crate::model::Timestamp;
use crate::series::{Block, merge_blocks, thin_block};
use crate::store::{Chunk, ChunkTier, Store, StoreError};

/// What is thinned at once.
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);
/// Label sets in memory at one time, each with up to twelve chunks.
const LABEL_SETS: u32 = 128;

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
    let mut damaged = Vec::new();
    let of_label_set = |chunks: &[Chunk]| {
        let mut whole = Block::new();
        for chunk in chunks {
            match decoded(chunk) {
                Ok(block) => merge_blocks(&mut whole, block),
                Err(reason) => damaged.push((chunk.clone(), reason)),
            }
        }
        row(chunks[0].label_set, day, &thin_block(whole))
    };
    let rows = page.chunk_by(|a, b| a.label_set == b.label_set).filter_map(of_label_set).collect();
    (rows, damaged)
}
