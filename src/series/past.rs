//! Samples that came for a time whose window was cut into chunks already: which windows of which series to cut again.
//!
//! In: times and series as they are appended or replayed. Out: [`PastWindows`] for `persist`, which reads the samples from
//! memory and merges them into the stored chunks. Invariants: memory does not let go of a sample whose window waits here,
//! for [`PINNED_LIMIT`] at most, and then says that the journal must be asked for it; what is taken waits on until it is
//! said to be written. Locks are taken in the order past, group, journal, index.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

use super::export::{CHUNK_WINDOW, ClosedBlock};
use super::head::{Appended, Head, SeriesRef, Shared};
use crate::model::Timestamp;

/// Most windows of series that wait; past it samples for closed windows are refused and counted as out of order.
const WAITING_LIMIT: usize = 2_000_000;

/// How long late samples hold their groups in memory while they cannot be merged: PostgreSQL may be away for days.
const PINNED_LIMIT: Duration = Duration::from_secs(3 * 3600);

/// Windows, by their start, and the series with late samples in them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PastWindows(BTreeMap<i64, HashSet<u64>>);

impl PastWindows {
    /// How many windows of how many series.
    pub fn len(&self) -> usize {
        self.0.values().map(HashSet::len).sum()
    }

    /// Whether nothing came late.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// From the start of the first window to the end of the last.
    fn range(&self) -> Option<(Timestamp, Timestamp)> {
        let (first, last) = (self.0.keys().next()?, self.0.keys().next_back()?);
        Some((Timestamp::from_millis(*first), Timestamp::from_millis(*last) + CHUNK_WINDOW))
    }

    fn add(&mut self, other: Self) {
        for (window, series) in other.0 {
            self.0.entry(window).or_default().extend(series);
        }
    }
}

/// What waits to be cut again.
#[derive(Default)]
pub(super) struct Past {
    waiting: PastWindows,
    /// How many windows of series wait.
    count: usize,
    /// Taken, and not written yet.
    taken: PastWindows,
    /// Since when some wait or are taken, as garbage collection saw it.
    pinned_since: Option<Timestamp>,
    /// Memory has let go of some before they were written.
    is_lost: bool,
}

impl Past {
    /// References of the series of which a sample must stay in memory.
    pub(super) fn pinned(&mut self, now: Timestamp) -> HashSet<u64> {
        if self.waiting.is_empty() && self.taken.is_empty() {
            self.pinned_since = None;
            return HashSet::new();
        }
        let since = *self.pinned_since.get_or_insert(now);
        if now.since(since) > PINNED_LIMIT {
            self.is_lost = true;
            return HashSet::new();
        }
        [&self.waiting, &self.taken].into_iter().flat_map(|windows| windows.0.values().flatten().copied()).collect()
    }

    fn mark(&mut self, at: i64, series: impl Iterator<Item = u64>) {
        let window = Timestamp::from_millis(at).floor_to(CHUNK_WINDOW).as_millis();
        let marked = self.waiting.0.entry(window).or_default();
        let before = marked.len();
        marked.extend(series);
        self.count += marked.len() - before;
    }
}

impl Shared {
    /// Runs an append; when it is for a closed window, that window of its series is cut again.
    pub(super) fn append_marking(
        &self,
        at: i64,
        batch: &[(SeriesRef, f64)],
        append: impl FnOnce() -> Appended,
    ) -> Appended {
        if at >= self.closing.load(SeqCst) {
            let appended = append();
            // The window may have been closed meanwhile, and cut before the samples were there.
            if at < self.closing.load(SeqCst) && appended.accepted > 0 {
                self.past.lock().mark(at, batch.iter().map(|(series, _)| series.0));
            }
            return appended;
        }
        // Held throughout: garbage collection must not see the samples without the mark, nor a taker the journal.
        let mut past = self.past.lock();
        if past.count.saturating_add(batch.len()) > WAITING_LIMIT {
            return Appended { out_of_order: batch.len(), ..Appended::default() };
        }
        let appended = append();
        if appended.accepted > 0 {
            past.mark(at, batch.iter().map(|(series, _)| series.0));
        }
        appended
    }
}

impl Head {
    /// Samples before `until` that come from now on are for a closed window. Call it before the cut up to there.
    pub fn begin_close(&self, until: Timestamp) {
        self.0.closing.fetch_max(until.as_millis(), SeqCst);
    }

    /// From when on samples are in memory only; what is older is, or will soon be, in chunks.
    pub fn closed_until(&self) -> Timestamp {
        Timestamp::from_millis(self.0.closing.load(SeqCst))
    }

    /// Samples before `until` are not all here, whatever garbage collection knows: they were written past memory.
    pub fn raise_complete_from(&self, until: Timestamp) {
        self.0.raise_complete_from(until.as_millis());
    }

    /// Whether samples came for closed windows.
    pub fn has_past(&self) -> bool {
        !self.0.past.lock().waiting.is_empty()
    }

    /// Takes the closed windows that got samples since. Then say [`Head::past_written`] or [`Head::return_past`].
    pub fn take_past(&self) -> PastWindows {
        let mut past = self.0.past.lock();
        let waiting = std::mem::take(&mut past.waiting);
        past.count = 0;
        past.taken.add(waiting);
        past.taken.clone()
    }

    /// What was taken is in chunks; `from_journal` says that the range of [`Head::lost_past`] was read from there.
    pub fn past_written(&self, from_journal: bool) {
        let mut past = self.0.past.lock();
        if past.is_lost && !from_journal {
            drop(past);
            return self.return_past(); // memory let go of some while they were being read
        }
        past.taken = PastWindows::default();
        (past.pinned_since, past.is_lost) = (None, false);
    }

    /// The range of the late samples that wait, when memory has let go of some of them: the journal has them.
    pub fn lost_past(&self) -> Option<(Timestamp, Timestamp)> {
        let past = self.0.past.lock();
        if !past.is_lost {
            return None;
        }
        let ranges = [past.waiting.range(), past.taken.range()];
        ranges.into_iter().flatten().reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// The range in which samples have left memory before they were cut into chunks: the journal has them. Chunks could
    /// not be written for longer than memory reaches back, or memory was short.
    pub fn lost(&self) -> Option<(Timestamp, Timestamp)> {
        let from = self.0.chunked_until.load(Relaxed);
        let until = self.0.lost_until.load(Relaxed);
        (until > from).then(|| (Timestamp::from_millis(from), Timestamp::from_millis(until)))
    }

    /// What was taken could not be written: it waits again.
    pub fn return_past(&self) {
        let mut past = self.0.past.lock();
        let taken = std::mem::take(&mut past.taken);
        past.waiting.add(taken);
        past.count = past.waiting.len();
    }

    /// Marks that `at` of that series must be merged into chunks: a journal says that it came late.
    pub(super) fn mark_past(&self, at: i64, batch: &[(SeriesRef, f64)]) {
        if at < self.0.closing.load(SeqCst) {
            self.0.past.lock().mark(at, batch.iter().map(|(series, _)| series.0));
        }
    }

    /// Calls `visit` with what memory holds of those series in those windows.
    pub fn visit_past(&self, windows: &PastWindows, mut visit: impl FnMut(ClosedBlock)) {
        for (window, series) in &windows.0 {
            let start = Timestamp::from_millis(*window);
            let mut series: Vec<u64> = series.iter().copied().collect();
            self.visit_blocks(&mut series, (start, start + CHUNK_WINDOW), &mut visit);
        }
    }
}
