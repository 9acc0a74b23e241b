//! Brings memory back at start: samples from the journal, and edge minutes counted from them again.
//!
//! In: the journal, stored edge minutes, and up to where these are complete. Out: the memory tier and the rollup as they
//! were. Invariant: of a minute that may still grow, memory holds what the samples tell, and the store no more than that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::model::Timestamp;
use crate::rollup::{MAX_GAP, Replay, Rollup};
use crate::series::{CHUNK_WINDOW, Head, SeriesRef};
use crate::store::{JournalEntry, RollupTier, Store, StoreError};

/// Journal entries read at once; the next ones are read while these are replayed.
pub(super) const PAGE: u32 = 128;
/// Samples handed over at once to be counted, at least, and how many such parts may wait: a few megabytes each.
const ROWS_SAMPLES: usize = 1 << 17;
const ROWS_WAITING: usize = 4;
const MINUTE: Duration = Duration::from_secs(60);
/// Without samples to count again, minutes before now that are taken up as they are stored.
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
    /// Stored edge minutes that were looked at.
    pub edge_minutes: usize,
    /// Stored edge minutes that no sample tells of, so that they were deleted.
    pub edge_minutes_deleted: usize,
    /// The first edge minute that memory holds whole.
    pub edges_whole_from: Option<Timestamp>,
    /// How long it took.
    pub took: Duration,
}

/// How memory was.
#[derive(Clone, Copy, Debug)]
pub struct Before {
    /// How long edge minutes may grow: `rollup.keep`.
    pub keep: Duration,
    /// Whether targets were scraped by the same rules: then a series that is new now counted from zero since the last
    /// scrape of its target.
    pub has_same_settings: bool,
}

/// Restores samples and edge minutes. Call it before anything is appended.
///
/// Samples before the last boundary are in chunks and are not cut again. An entry that cannot be read is counted and
/// passed over, with those of its epoch that need it.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn restore(
    store: &Store,
    head: &Head,
    (rollup, before): (&Rollup, Before),
    now: Timestamp,
    mut on_progress: impl FnMut(RestoreProgress),
) -> Result<Restored, StoreError> {
    let start = Instant::now();
    let chunked_until = chunked_until(store, now).await?;
    if let Some(until) = chunked_until {
        head.mark_chunked(until);
    }
    if let Some(newest) = store.loaded_until().await? {
        head.raise_complete_from(newest + Duration::from_millis(1));
    }
    let counting = rollup.replay(first_minute(store, chunked_until, now, before.keep).await?);
    let mut restored = Restored::default();
    restored.progress.entries_total = store.journal_size().await?.0;
    let past_written = store.past_written().await?;
    let mut counter = Counter::start(head.clone(), counting);
    let mut page = store.journal_page(0, PAGE).await?;
    while let Some(last) = page.last() {
        let after = last.seq;
        let replaying = tokio::task::spawn_blocking({
            let head = head.clone();
            move || {
                let replayed = replay(&head, &mut counter, (&page, past_written));
                (replayed, counter)
            }
        });
        let (replayed, next) = tokio::join!(replaying, store.journal_page(after, PAGE));
        let (replayed, given_back) = replayed.map_err(damaged)?;
        counter = given_back;
        restored.progress.entries += replayed.entries;
        restored.progress.samples += replayed.samples;
        restored.unreadable.0 += replayed.unreadable;
        restored.unreadable.1 = restored.unreadable.1.or(replayed.first_error);
        on_progress(restored.progress);
        page = next?;
    }
    head.finish_replay();
    let counting = counter.finish().await?;
    restore_edges(store, counting, (before, now), &mut restored).await?;
    restored.took = start.elapsed();
    if let (count @ 1.., Some(reason)) = &restored.unreadable {
        tracing::error!("{count} journal entries cannot be read, their samples are lost: {reason}");
    }
    Ok(restored)
}

pub(super) fn damaged(error: tokio::task::JoinError) -> StoreError {
    StoreError::Damaged { what: "journal", reason: error.to_string() }
}

/// Rows on their way from the thread that replays to the one that counts.
#[derive(Default)]
struct Rows {
    /// Of each row its time and where its samples end.
    ends: Vec<(Timestamp, usize)>,
    samples: Vec<(SeriesRef, f64)>,
}

/// Counts rows in their order, on a thread of its own.
pub(super) struct Counter {
    from: Timestamp,
    rows: Rows,
    sender: mpsc::Sender<Rows>,
    counting: JoinHandle<Replay>,
}

impl Counter {
    pub(super) fn start(head: Head, mut counting: Replay) -> Self {
        let (sender, mut receiver) = mpsc::channel::<Rows>(ROWS_WAITING);
        let from = counting.from();
        let counting = tokio::task::spawn_blocking(move || {
            while let Some(rows) = receiver.blocking_recv() {
                let mut start = 0;
                for (at, end) in rows.ends {
                    counting.row(at, &rows.samples[start..end], |series| head.labels(series));
                    start = end;
                }
            }
            counting
        });
        Self { from, rows: Rows::default(), sender, counting }
    }

    /// Takes a row, on a thread that may block.
    pub(super) fn row(&mut self, at: Timestamp, samples: &[(SeriesRef, f64)]) {
        if at < self.from {
            return;
        }
        self.rows.samples.extend_from_slice(samples);
        self.rows.ends.push((at, self.rows.samples.len()));
        if self.rows.samples.len() >= ROWS_SAMPLES {
            let next = Rows { samples: Vec::with_capacity(ROWS_SAMPLES + samples.len()), ends: Vec::new() };
            // A closed channel: counting has panicked, which `finish` will tell.
            let _ = self.sender.blocking_send(std::mem::replace(&mut self.rows, next));
        }
    }

    /// Waits until all rows are counted.
    pub(super) async fn finish(self) -> Result<Replay, StoreError> {
        let Self { rows, sender, counting, .. } = self;
        let _ = sender.send(rows).await; // as above
        drop(sender);
        counting.await.map_err(damaged)
    }
}

#[derive(Default)]
pub(super) struct Replayed {
    pub(super) entries: u64,
    pub(super) samples: u64,
    pub(super) unreadable: u64,
    pub(super) first_error: Option<String>,
}

/// Samples of entries after `past_written` that came late may be in no chunk yet.
fn replay(head: &Head, counter: &mut Counter, (page, past_written): (&[JournalEntry], i64)) -> Replayed {
    let mut replayed = Replayed { entries: page.len() as u64, ..Replayed::default() };
    for row in page {
        let count = |at, samples: &[_]| counter.row(at, samples);
        match head.replay_to(&row.entry.bytes, row.seq <= past_written, count) {
            Ok(samples) => replayed.samples += samples as u64,
            Err(error) => {
                replayed.unreadable += 1;
                replayed.first_error.get_or_insert_with(|| format!("entry {}: {error}", row.seq));
            }
        }
    }
    replayed
}

/// Up to where samples are in chunks.
pub(super) async fn chunked_until(store: &Store, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
    let until = store.chunked_until().await?;
    if let Some(until) = until.filter(|until| *until > now + CHUNK_WINDOW) {
        // Believing it would keep samples from chunks until then; chunks cut twice do no harm.
        tracing::warn!("samples are marked as stored until {until}, which is yet to come: was the clock wrong?");
        return Ok(None);
    }
    Ok(until)
}

/// The first minute to count again: what is older is written and did not change any more, or lacks samples.
pub(super) async fn first_minute(
    store: &Store,
    chunked_until: Option<Timestamp>,
    now: Timestamp,
    keep: Duration,
) -> Result<Timestamp, StoreError> {
    let written = store.edges_complete_until().await?;
    let kept = (now - keep).floor_to(MINUTE);
    let first = written.map_or(kept, |written| written.min(kept));
    // The journal is trimmed up to the chunks; before a minute the last sample of each series is needed too.
    let in_journal = chunked_until.map(|until| (until + MAX_GAP + MINUTE - Duration::from_millis(1)).floor_to(MINUTE));
    Ok(in_journal.map_or(first, |in_journal| first.max(in_journal)))
}

/// Compares what is stored with what was counted again. A minute is written as a whole: what cannot be counted again must
/// be in memory before this process writes it, or it would be lost.
pub(super) async fn restore_edges(
    store: &Store,
    mut counting: Replay,
    (before, now): (Before, Timestamp),
    restored: &mut Restored,
) -> Result<(), StoreError> {
    let open = (now - OPEN_MINUTES).floor_to(MINUTE);
    if counting.newest().is_none() {
        counting.raise_floor(open);
    }
    let floor = counting.floor();
    let stored = store.edges(RollupTier::Minutes, floor, Timestamp::MAX).await?;
    restored.edge_minutes = stored.len();
    let mut unfounded = Vec::new();
    for minute in stored {
        let key = (Arc::clone(&minute.edge), minute.minute);
        if !counting.take_up(minute) {
            unfounded.push(key);
        }
    }
    restored.edge_minutes_deleted = unfounded.len();
    store.delete_edge_minutes(&unfounded).await?;
    counting.finish(now, before.has_same_settings);
    restored.edges_whole_from = Some(floor);
    Ok(())
}
