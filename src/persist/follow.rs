//! How a standby follows the leader, and takes over from it.
//!
//! In: the journal that the leader writes, and how far its chunks are. Out: a memory tier that holds what the leader's
//! holds, a second or two later; at a takeover, the rollup too. Invariant: memory holds nothing that is not in the journal
//! or in chunks, so a takeover is what a start after a crash is: the same edge minutes, each counted once.

use std::time::{Duration, Instant};

use super::journal::entry;
use super::limited;
use super::restore::{Before, Counter, PAGE, Replayed, Restored, chunked_until, damaged, first_minute, restore_edges};
use super::shadow::Shadow;
use crate::model::Timestamp;
use crate::rollup::Rollup;
use crate::series::{Head, Rereading};
use crate::store::{JournalEntry, NewJournalEntry, Store, StoreError};

/// How long PostgreSQL may take to give a page of the journal: a connection over which nothing comes must not hold the
/// standby for ever.
const PAGE_LIMIT: Duration = Duration::from_secs(20);

/// Why a standby cannot follow.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// PostgreSQL is away: try again.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Entries were trimmed before this standby had read them: it must begin anew.
    #[error("journal entries from {after} to {first} are gone before they were read")]
    FellBehind {
        /// The last entry that was read.
        after: i64,
        /// The first one there is.
        first: i64,
    },
}

/// Follows one leader after the other.
pub struct Follower {
    store: Store,
    head: Head,
    /// The last entry that was read.
    after: i64,
    /// The newest sample of all entries.
    newest: Timestamp,
    /// The last entry of which samples wait to be merged into chunks.
    late: i64,
    unreadable: u64,
}

impl Follower {
    /// Fills `head`, into which nothing else is appended.
    pub fn new(store: Store, head: Head) -> Self {
        Self { store, head, after: 0, newest: Timestamp::MIN, late: 0, unreadable: 0 }
    }

    /// The newest sample that the leader has journaled, as far as it was read.
    pub fn newest(&self) -> Timestamp {
        self.newest
    }

    /// Reads what was journaled since; how many samples. Call it each second.
    ///
    /// # Errors
    /// When PostgreSQL is away, or this standby has fallen behind.
    pub async fn catch_up(&mut self, now: Timestamp) -> Result<u64, FollowError> {
        let first = limited(PAGE_LIMIT, "read the journal", self.store.journal_start()).await?;
        if let Some(first) = first.filter(|first| self.after > 0 && *first > self.after + 1) {
            return Err(FollowError::FellBehind { after: self.after, first });
        }
        if let Some(until) = chunked_until(&self.store, now).await? {
            self.head.mark_chunked(until);
        }
        if let Some(newest) = self.store.loaded_until().await? {
            self.head.raise_complete_from(newest + Duration::from_millis(1));
        }
        let past_written = self.store.past_written().await?;
        let mut samples = 0;
        loop {
            let page = limited(PAGE_LIMIT, "read the journal", self.store.journal_page(self.after, PAGE)).await?;
            let (Some(last), Some(newest)) = (page.last(), page.iter().map(|row| row.entry.to).max()) else { break };
            let after = last.seq;
            let head = self.head.clone();
            let replaying = tokio::task::spawn_blocking(move || replay(&head, &page, past_written));
            let replayed = replaying.await.map_err(damaged)?;
            (self.after, self.newest) = (after, self.newest.max(newest));
            samples += replayed.samples;
            self.tell_unreadable(&replayed);
        }
        self.forget_late(past_written);
        Ok(samples)
    }

    fn tell_unreadable(&mut self, replayed: &Replayed) {
        if let (count @ 1.., Some(reason)) = (replayed.unreadable, &replayed.first_error) {
            if self.unreadable == 0 {
                tracing::error!("journal entries of the leader cannot be read, their samples are not here: {reason}");
            }
            self.unreadable += count;
        }
    }

    /// Samples that came late wait to be merged into their chunks, which the leader does: those up to one entry are set
    /// apart, and forgotten when the leader says that it is past that entry.
    fn forget_late(&mut self, past_written: i64) {
        if self.late > 0 && past_written >= self.late {
            self.head.past_written(true);
            self.late = 0;
        }
        if self.late == 0 && self.head.has_past() {
            self.head.take_past();
            self.late = self.after;
        }
    }

    /// Makes memory and rollup those of a leader: reads what the former one journaled last, adds what only this process
    /// has scraped, and counts the edge minutes that may still grow. This process must hold the lease, so that nobody else
    /// writes; scrapes must not run any more.
    ///
    /// # Errors
    /// When PostgreSQL is away, or this standby has fallen behind: then it must begin anew.
    pub async fn take_over(
        mut self,
        shadow: &Shadow,
        (rollup, before): (&Rollup, Before),
        now: Timestamp,
    ) -> Result<Restored, FollowError> {
        let start = Instant::now();
        self.catch_up(now).await?;
        let unseen = shadow.unseen_by(&self.head, self.newest).await;
        let unseen: Vec<NewJournalEntry> = match unseen {
            Ok(batches) => batches.iter().map(entry).collect(),
            Err(reason) => {
                tracing::error!("what was scraped since the leader was lost is left out: {reason}");
                Vec::new()
            }
        };
        let mut restored = Restored::default();
        restored.progress.samples = unseen.iter().map(|entry| entry.sample_count).sum();
        self.store.append_journal(&unseen).await?;
        self.catch_up(now).await?;
        self.head.return_past(); // what the former leader did not merge
        self.head.finish_replay();
        let chunked = chunked_until(&self.store, now).await?;
        let counting = rollup.replay(first_minute(&self.store, chunked, now, before.keep).await?);
        let from = counting.from();
        let counter = Counter::start(self.head.clone(), counting);
        let counting = self.count(counter, from).await?.finish().await?;
        restore_edges(&self.store, counting, (before, now), &mut restored).await?;
        restored.took = start.elapsed();
        Ok(restored)
    }

    /// Gives the rows of the journal from `from` on to `counter`.
    async fn count(&self, mut counter: Counter, from: Timestamp) -> Result<Counter, StoreError> {
        let mut again = Rereading::default();
        let mut page = self.store.journal_page(self.store.journal_place_of(from).await?, PAGE).await?;
        while let Some(last) = page.last() {
            let (after, head) = (last.seq, self.head.clone());
            let counting = tokio::task::spawn_blocking(move || {
                for row in &page {
                    // What cannot be read was told when it was read first.
                    let _ = head.reread(&mut again, &row.entry.bytes, |at, samples| counter.row(at, samples));
                }
                (counter, again)
            });
            let (counted, next) = tokio::join!(counting, self.store.journal_page(after, PAGE));
            (counter, again) = counted.map_err(damaged)?;
            page = next?;
        }
        Ok(counter)
    }
}

fn replay(head: &Head, page: &[JournalEntry], past_written: i64) -> Replayed {
    let mut replayed = Replayed { entries: page.len() as u64, ..Replayed::default() };
    for row in page {
        match head.replay_to(&row.entry.bytes, row.seq <= past_written, |_, _| {}) {
            Ok(samples) => replayed.samples += samples as u64,
            Err(error) => {
                replayed.unreadable += 1;
                replayed.first_error.get_or_insert_with(|| format!("entry {}: {error}", row.seq));
            }
        }
    }
    replayed
}
