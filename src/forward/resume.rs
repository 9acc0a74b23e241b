//! Where a remote stands in the journal, so that a process that was killed goes on where it stopped.
//!
//! In: the batches that were read and sent. Out: the newest of them that PostgreSQL holds, noted there; at start, the
//! entries after it. Invariants: what is noted has been taken, or refused for good; what was sent after the last note is
//! sent a second time. This module does not know PostgreSQL: [`Keeper`] holds functions of whoever does.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::remote::Remote;

/// How often a place is noted at most, and how soon it is tried again to read the journal.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long PostgreSQL may take: samples must not wait for it.
const NOTE_LIMIT: Duration = Duration::from_secs(2);
/// Batches whose entries are looked for. Each holds about a second; PostgreSQL may lag behind by some.
const BATCHES_MAX: usize = 256;

/// Answers of whoever keeps the journal.
pub type Answer<T> = BoxFuture<'static, Result<T, String>>;

/// What keeps the journal and the places of remotes in it.
#[derive(Clone)]
pub struct Keeper {
    /// The id under which the journal keeps a batch of those bytes.
    pub id_of: fn(&[u8]) -> i64,
    /// Where the remote of that name stopped before this process began; `None` when it has never sent anything.
    pub stopped_at: Arc<dyn Fn(String) -> Answer<Option<Stopped>> + Send + Sync>,
    /// Some entries after that place, in order, none of this process; empty at the end.
    pub entries: Arc<dyn Fn(i64) -> Answer<Vec<Entry>> + Send + Sync>,
    /// Notes where the remote of that name stands; which batch that is, `None` when the journal holds none of them yet.
    pub note: Arc<dyn Fn(String, Standing) -> Answer<Option<i64>> + Send + Sync>,
}

/// Where a remote stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// After that entry.
    Entry(i64),
    /// After the newest of those batches that the journal holds.
    Batches(Vec<i64>),
}

/// Where a remote stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    /// The last entry that was dealt with.
    pub after: i64,
    /// The entry before the first that must be read, so that those after `after` can be.
    pub read_after: i64,
    /// Samples of the entries that are to be sent.
    pub waiting_samples: u64,
    /// Entries that were to be sent and are no longer in the journal.
    pub missed_entries: u64,
}

/// An entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place.
    pub place: i64,
    /// How many samples.
    pub sample_count: u64,
    /// The batch.
    pub bytes: Vec<u8>,
}

/// The place of one remote.
pub(super) struct Place {
    keeper: Option<Keeper>,
    name: String,
    /// Batches that were read since the last note, the oldest first.
    read: VecDeque<i64>,
    noted_at: Option<Instant>,
}

impl Place {
    pub(super) fn new(keeper: Option<Keeper>, name: String) -> Self {
        Self { keeper, name, read: VecDeque::new(), noted_at: None }
    }

    /// A batch was read; its samples are sent before the next [`Self::note`].
    pub(super) fn read(&mut self, bytes: &[u8]) {
        let Some(keeper) = &self.keeper else { return };
        if self.read.len() == BATCHES_MAX {
            self.read.pop_front();
        }
        self.read.push_back((keeper.id_of)(bytes));
    }

    /// Notes that all that was read has been dealt with, when it is time.
    pub(super) async fn note(&mut self) {
        if self.noted_at.is_none_or(|at| at.elapsed() >= INTERVAL) {
            self.note_now().await;
        }
    }

    /// Notes it for the last time, waiting a moment for the journal to hold it.
    pub(super) async fn note_last(&mut self) {
        for _ in 0..4 {
            self.note_now().await;
            if self.read.is_empty() {
                return;
            }
            tokio::time::sleep(INTERVAL / 3).await;
        }
    }

    async fn note_now(&mut self) {
        if self.read.is_empty() {
            return;
        }
        self.noted_at = Some(Instant::now());
        if let Some(found) = self.tell(Standing::Batches(self.read.iter().copied().collect())).await {
            let upto = self.read.iter().position(|id| *id == found).map_or(0, |at| at + 1);
            self.read.drain(..upto);
        }
    }

    async fn tell(&self, standing: Standing) -> Option<i64> {
        let keeper = self.keeper.as_ref()?;
        match tokio::time::timeout(NOTE_LIMIT, (keeper.note)(self.name.clone(), standing)).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                tracing::debug!(remote = %self.name, "the place of remote write `{}` is not noted: {error}", self.name);
                None
            }
            Err(_) => None,
        }
    }
}

impl Remote {
    /// Sends what the process before this one did not, as far as the journal reaches.
    pub(super) async fn catch_up(&mut self, stop: &CancellationToken) {
        let Some(keeper) = self.place.keeper.clone() else { return };
        let name = self.place.name.clone();
        let Some(Some(stopped)) = self.ask(stop, || (keeper.stopped_at)(name.clone())).await else { return };
        let counters = Arc::clone(&self.line.counters);
        counters.missed_entries.fetch_add(stopped.missed_entries, Relaxed);
        counters.journal_samples.store(stopped.waiting_samples, Relaxed);
        if stopped.missed_entries > 0 {
            let missed = stopped.missed_entries;
            tracing::warn!(remote = %name, "remote write `{name}`: up to {missed} journal entries were trimmed before they were sent");
        }
        let mut after = stopped.read_after;
        loop {
            let Some(page) = self.ask(stop, || (keeper.entries)(after)).await else { return };
            if page.is_empty() {
                break;
            }
            for entry in page {
                after = entry.place;
                self.send_entry(&entry, entry.place > stopped.after).await;
                if stop.is_cancelled() {
                    break;
                }
            }
            self.count();
            if after > stopped.after {
                self.place.tell(Standing::Entry(after)).await;
            }
        }
        counters.journal_samples.store(0, Relaxed);
    }

    /// One entry is one round: a receiver that has some of it refuses no other with it.
    async fn send_entry(&mut self, entry: &Entry, is_new: bool) {
        let samples = self.read_batch(&entry.bytes, entry.sample_count);
        if is_new {
            self.line.send_again(&samples, &self.metadata).await;
            let counters = &self.line.counters;
            let left = counters.journal_samples.load(Relaxed).saturating_sub(entry.sample_count);
            counters.journal_samples.store(left, Relaxed);
        }
    }

    /// Asks until there is an answer; `None` when it is time to stop.
    async fn ask<T>(&self, stop: &CancellationToken, question: impl Fn() -> Answer<T>) -> Option<T> {
        loop {
            if stop.is_cancelled() {
                return None;
            }
            match question().await {
                Ok(answer) => return Some(answer),
                Err(error) => self.line.tell(&format!("the journal cannot be read yet: {error}")),
            }
            tokio::select! {
                () = stop.cancelled() => return None,
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
    }
}
