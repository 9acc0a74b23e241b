//! Chunks of samples that memory has let go of before they were cut: read from the journal again.
//!
//! In: a range of time, and the journal. Out: merged chunks. It happens when chunks could not be written for longer than
//! memory reaches back, when safe mode made that short, and when a process starts after a long pause.
//!
//! Invariant: what the journal has is not trimmed before it is in a chunk; memory is bounded, some millions of samples are
//! held at one time. Merging keeps what is there, so reading more than was lost does no harm.

use std::time::Duration;

use super::chunks::BATCH;
use super::merge::{Horizons, merge};
use crate::model::Timestamp;
use crate::series::{Config, Head, JournalPart};
use crate::store::{ChunkWriter, Store, StoreError};
use crate::units::{ByteSize, PromDuration};

/// Samples in memory at one time, about; the label sets are read in as many parts as that needs.
const PART_SAMPLES: u64 = 20_000_000;
/// Journal entries read at once.
const PAGE: u32 = 64;

/// Merges what the journal holds of `[from, until)` into chunks; returns how many were written.
pub(super) async fn recover(
    store: &Store,
    writer: &mut ChunkWriter,
    horizons: Horizons,
    (from, until): (Timestamp, Timestamp),
) -> Result<usize, StoreError> {
    let shards = store.journal_samples((from, until)).await? / PART_SAMPLES + 1;
    tracing::warn!("samples from {from} to {until} have left memory before they were in chunks: reading the journal");
    let mut written = 0;
    for shard in 0..shards {
        let head = read_part(store, JournalPart { from, until, shard, shards }).await?;
        let cutting = tokio::task::spawn_blocking(move || head.closed_blocks(until));
        let mut blocks = cutting.await.map_err(failed)?.into_iter().peekable();
        while blocks.peek().is_some() {
            written += merge(writer, horizons, blocks.by_ref().take(BATCH).collect()).await?;
        }
    }
    Ok(written)
}

/// A memory tier of its own with that part of the journal. An entry that cannot be read is passed over, as at start.
async fn read_part(store: &Store, part: JournalPart) -> Result<Head, StoreError> {
    let head = Head::new(Config {
        memory_window: PromDuration::from(Duration::from_secs(400 * 24 * 3600)),
        series_limit: usize::MAX,
        journal_limit_bytes: ByteSize(0),
        memory_limit: Some(ByteSize(0)),
        exemplars: 0,
        ..Config::default()
    });
    let mut page = store.journal_page(0, PAGE).await?;
    while let Some(last) = page.last() {
        let after = last.seq;
        let replaying = tokio::task::spawn_blocking({
            let head = head.clone();
            move || page.iter().filter(|row| head.replay_part(&row.entry.bytes, part).is_err()).count()
        });
        let (unreadable, next) = tokio::join!(replaying, store.journal_page(after, PAGE));
        if let count @ 1.. = unreadable.map_err(failed)? {
            tracing::error!("{count} journal entries cannot be read: their samples are in no chunk");
        }
        page = next?;
    }
    head.finish_replay();
    Ok(head)
}

fn failed(error: tokio::task::JoinError) -> StoreError {
    StoreError::Damaged { what: "journal", reason: error.to_string() }
}
