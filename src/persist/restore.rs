//! Brings memory back at start: samples from the journal, and the minutes that may still grow.

use std::time::{Duration, Instant};

use crate::model::Timestamp;
use crate::rollup::Rollup;
use crate::series::{CHUNK_WINDOW, Head};
use crate::store::{JournalEntry, RollupTier, Store, StoreError};

/// Journal entries read at once; the next ones are read while these are replayed.
const PAGE: u32 = 128;
/// Minutes before now that may still be counted in.
const OPEN_MINUTES: Duration = Duration::from_secs(180);

/// How far a restore has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RestoreProgress {
    /// Journal entries replayed.
    pub entries: u64,
    /// Journal entries there are.
    pub entries_total: u64,
    /// Samples restored.
    pub samples: u64,
}

/// What a restore brought back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Journal entries read and samples restored.
    pub progress: RestoreProgress,
    /// Journal entries that could not be read, and why the first could not.
    pub unreadable: (u64, Option<String>),
    /// Edge minutes taken up again.
    pub edge_minutes: usize,
    /// How long it took.
    pub took: Duration,
}

/// Restores samples and open edge minutes. Call it before anything is appended.
///
/// Samples before the last boundary are in chunks and are not cut again. An entry that cannot be read is counted and
/// passed over, with those of its epoch that need it.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn restore(
    store: &Store,
    head: &Head,
    rollup: &Rollup,
    now: Timestamp,
    mut on_progress: impl FnMut(RestoreProgress),
) -> Result<Restored, StoreError> {
    let start = Instant::now();
    match store.chunked_until().await? {
        Some(until) if until > now + CHUNK_WINDOW => {
            // Believing it would keep samples from chunks until then; chunks cut twice do no harm.
            tracing::warn!("samples are marked as stored until {until}, which is yet to come: was the clock wrong?");
        }
        Some(until) => head.mark_chunked(until),
        None => {}
    }
    let mut restored = Restored::default();
    restored.progress.entries_total = store.journal_size().await?.0;
    let past_written = store.past_written().await?;
    let mut page = store.journal_page(0, PAGE).await?;
    while let Some(last) = page.last() {
        let after = last.seq;
        let replaying = tokio::task::spawn_blocking({
            let head = head.clone();
            move || replay(&head, &page, past_written)
        });
        let (replayed, next) = tokio::join!(replaying, store.journal_page(after, PAGE));
        let replayed = replayed.map_err(|error| StoreError::Damaged { what: "journal", reason: error.to_string() })?;
        restored.progress.entries += replayed.entries;
        restored.progress.samples += replayed.samples;
        restored.unreadable.0 += replayed.unreadable;
        restored.unreadable.1 = restored.unreadable.1.or(replayed.first_error);
        on_progress(restored.progress);
        page = next?;
    }
    head.finish_replay();
    restored.edge_minutes = restore_edges(store, rollup, now).await?;
    restored.took = start.elapsed();
    if let (count @ 1.., Some(reason)) = &restored.unreadable {
        tracing::error!("{count} journal entries cannot be read, their samples are lost: {reason}");
    }
    Ok(restored)
}

#[derive(Default)]
struct Replayed {
    entries: u64,
    samples: u64,
    unreadable: u64,
    first_error: Option<String>,
}

/// Samples of entries after `past_written` that came late may be in no chunk yet.
fn replay(head: &Head, page: &[JournalEntry], past_written: i64) -> Replayed {
    let mut replayed = Replayed { entries: page.len() as u64, ..Replayed::default() };
    for row in page {
        match head.replay_entry(&row.entry.bytes, row.seq <= past_written) {
            Ok(samples) => replayed.samples += samples as u64,
            Err(error) => {
                replayed.unreadable += 1;
                replayed.first_error.get_or_insert_with(|| format!("entry {}: {error}", row.seq));
            }
        }
    }
    replayed
}

/// A minute is written as a whole: what the last process counted in the running minute must be in memory before this one
/// writes it, or it would be lost.
async fn restore_edges(store: &Store, rollup: &Rollup, now: Timestamp) -> Result<usize, StoreError> {
    let minutes = store.edges(RollupTier::Minutes, now - OPEN_MINUTES, Timestamp::MAX).await?;
    let count = minutes.len();
    minutes.into_iter().for_each(|minute| rollup.add(minute));
    Ok(count)
}
