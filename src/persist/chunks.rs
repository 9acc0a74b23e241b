//! Cuts closed windows of the memory tier into chunks, merges what came late into them, and thins whole days.
//!
//! In: the memory tier. Out: rows of `chunk_raw` and `chunk_5m`. A window is cut once after its end; samples that come for
//! it later are merged within seconds; a day is thinned once all of it is in chunks, long before its raw chunks are
//! dropped. Each of these is one transaction.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::merge::{Horizons, merge};
use super::recover::recover;
use super::{PartStatus, limited, thin};
use crate::clock::Clock;
use crate::model::Timestamp;
use crate::series::{CHUNK_WINDOW, ClosedBlock, Head};
use crate::store::{ChunkWriter, RetentionConfig, Store, StoreError};

/// How often to look whether a window has closed or a sample came late.
const INTERVAL: Duration = Duration::from_secs(10);
/// A window is cut this long after its end: a scrape carries the time at which it began.
const SETTLE: Duration = Duration::from_secs(300);
/// How much of a window may be cut at once, by what memory keeps; a part is merged into the chunk of those before.
const CUT_STEPS: [Duration; 6] = [
    CHUNK_WINDOW,
    Duration::from_secs(3600),
    Duration::from_secs(1800),
    Duration::from_secs(600),
    Duration::from_secs(300),
    Duration::from_secs(60),
];
/// Label sets merged at once.
pub(super) const BATCH: usize = 256;
/// Samples cut at once, about: a few batches are in memory, decoded.
const BATCH_SAMPLES: usize = 500_000;
/// How long a whole window may take.
const WINDOW_LIMIT: Duration = Duration::from_secs(600);
/// How long thinning a day may take.
const DAY_LIMIT: Duration = Duration::from_secs(3600);

/// Writes the chunks of closed windows, trims the journal, and thins.
pub struct ChunkPersist {
    head: Head,
    store: Store,
    clock: Clock,
    lateness: Duration,
    raw_kept: Option<Duration>,
    status: Arc<PartStatus>,
}

impl ChunkPersist {
    /// Windows are cut `lateness` later than they could be, so that what comes late by less need not be merged. Start it
    /// after [`super::restore()`].
    pub fn new(head: Head, store: Store, clock: Clock, lateness: Duration) -> Self {
        Self { head, store, clock, lateness, raw_kept: None, status: Arc::new(PartStatus::new("chunks")) }
    }

    /// Samples older than the retention of raw ones go to the thinned tier. Without this all go to the raw one.
    pub fn keeping(self, retention: &RetentionConfig) -> Self {
        Self { raw_kept: Some(retention.raw.get()), ..self }
    }

    /// How it fares.
    pub fn status(&self) -> Arc<PartStatus> {
        Arc::clone(&self.status)
    }

    /// Looks every ten seconds until `shutdown`. Nothing is lost without a last pass: the samples are in the journal.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut thinned_until = None;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = tick.tick() => {}
            }
            let until = cut_due(self.clock.now(), self.head.kept(), SETTLE + self.lateness);
            let outcome = tokio::select! {
                () = shutdown.cancelled() => return, // the transaction is dropped: nothing has happened
                outcome = self.pass(until, &mut thinned_until) => outcome,
            };
            match outcome {
                Ok(chunks) => self.status.succeeded(self.clock.now(), chunks),
                Err(error) => {
                    let pause = self.status.failed(self.clock.now(), &error);
                    tick.reset_at(Instant::now() + pause);
                }
            }
        }
    }

    async fn pass(&self, until: Timestamp, thinned_until: &mut Option<Timestamp>) -> Result<usize, StoreError> {
        let closed = limited(WINDOW_LIMIT, "write chunks", self.close_windows(until)).await?;
        let late = limited(WINDOW_LIMIT, "merge late samples", self.merge_past()).await?;
        let day = until.floor_to(thin::DAY);
        if thinned_until.is_none_or(|done| done < day) {
            let thinned = limited(DAY_LIMIT, "thin chunks", thin::thin_days(&self.store, until)).await?;
            *thinned_until = Some(thinned.until.max(day));
            return Ok(closed + late + thinned.chunks);
        }
        Ok(closed + late)
    }

    /// Writes everything before `until` that is not in chunks yet, and what came late; returns how many chunks. Idempotent.
    ///
    /// # Errors
    /// When PostgreSQL is away; then nothing has happened.
    pub async fn close_windows(&self, until: Timestamp) -> Result<usize, StoreError> {
        if self.head.chunked_until().is_some_and(|done| done >= until) {
            return Ok(0);
        }
        let written = self.write(Some(until)).await?;
        self.head.mark_chunked(until);
        if written > 0 {
            tracing::info!(chunks = written, "samples before {until} are in chunks");
        }
        Ok(written)
    }

    /// Merges samples that came for closed windows into their chunks; returns how many chunks. Idempotent.
    ///
    /// # Errors
    /// When PostgreSQL is away; then nothing has happened, and the samples wait in memory.
    pub async fn merge_past(&self) -> Result<usize, StoreError> {
        if self.head.has_past() { self.write(None).await } else { Ok(0) }
    }

    /// Thins the raw chunks of every day that ends at or before `until`; returns how many chunks. Idempotent.
    ///
    /// # Errors
    /// When PostgreSQL is away; then the days that were done stay done.
    pub async fn thin(&self, until: Timestamp) -> Result<usize, StoreError> {
        thin::thin_days(&self.store, until).await.map(|thinned| thinned.chunks)
    }

    async fn write(&self, until: Option<Timestamp>) -> Result<usize, StoreError> {
        // Read before anything is cut: a later entry may hold a late sample that the chunks lack.
        let journal_end = self.store.journal_end().await?;
        let mut writer = self.store.write_chunks().await?;
        let horizons = horizons(&self.store, self.raw_kept, self.clock.now()).await?;
        if let Some(until) = until {
            self.head.begin_close(until);
        }
        let pending = PastGuard { head: &self.head, is_written: false };
        let lost_past = self.head.lost_past();
        let lost = until.and_then(|until| self.head.lost().map(|(from, end)| (from, end.min(until))));
        let mut written = self.merge_batches(&mut writer, horizons, until).await?;
        for range in [lost, lost_past].into_iter().flatten() {
            written += recover(&self.store, &mut writer, horizons, range).await?;
        }
        writer.past_written(journal_end).await?;
        if let Some(until) = until {
            writer.close(until, journal_end).await?;
        }
        writer.finish().await?;
        pending.written(lost_past.is_some());
        Ok(written)
    }

    /// Cuts on a blocking thread and writes here, a few batches apart.
    async fn merge_batches(
        &self,
        writer: &mut ChunkWriter,
        horizons: Horizons,
        until: Option<Timestamp>,
    ) -> Result<usize, StoreError> {
        let (sender, mut batches) = mpsc::channel::<Vec<ClosedBlock>>(1);
        let head = self.head.clone();
        let cut = tokio::task::spawn_blocking(move || {
            let (mut batch, mut samples) = (Vec::with_capacity(BATCH), 0);
            let mut collect = |block: ClosedBlock| {
                samples += block.block.values().map(|member| member.values.len()).sum::<usize>();
                batch.push(block);
                if batch.len() == BATCH || samples >= BATCH_SAMPLES {
                    samples = 0;
                    // A closed channel: the writer has failed, and the rest is cut in vain but briefly.
                    let _ = sender.blocking_send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH)));
                }
            };
            head.visit_past(&head.take_past(), &mut collect);
            if let Some(until) = until {
                head.visit_closed_blocks(until, &mut collect);
            }
            let _ = sender.blocking_send(batch);
        });
        let mut written = 0;
        while let Some(batch) = batches.recv().await {
            written += merge(writer, horizons, batch).await?;
        }
        match cut.await {
            Ok(()) => Ok(written),
            Err(error) => Err(StoreError::Damaged { what: "memory tier", reason: error.to_string() }),
        }
    }
}

/// Up to where samples are to be in chunks: to the end of the last window that has settled. Where memory lets go of samples
/// before that, windows are cut in parts, and sooner, so that no query finds a hole between memory and chunks.
fn cut_due(now: Timestamp, kept: Duration, settle: Duration) -> Timestamp {
    let settle = settle.min(kept / 4);
    let step = CUT_STEPS.into_iter().find(|step| *step + settle + 3 * INTERVAL <= kept);
    (now - settle).floor_to(step.unwrap_or(INTERVAL))
}

/// Gives late samples back when they could not be written, also when the work is dropped halfway.
struct PastGuard<'a> {
    head: &'a Head,
    is_written: bool,
}

impl PastGuard<'_> {
    fn written(mut self, from_journal: bool) {
        self.is_written = true;
        self.head.past_written(from_journal);
    }
}

impl Drop for PastGuard<'_> {
    fn drop(&mut self) {
        if !self.is_written {
            self.head.return_past();
        }
    }
}

/// Which windows have raw chunks, and which are thinned.
pub(super) async fn horizons(
    store: &Store,
    raw_kept: Option<Duration>,
    now: Timestamp,
) -> Result<Horizons, StoreError> {
    let thinned_until = store.thinned_until().await?.unwrap_or(Timestamp::MIN);
    // A partition is dropped whole.
    let raw_from = raw_kept.map_or(Timestamp::MIN, |kept| (now - kept).floor_to(thin::DAY));
    Ok(Horizons { raw_from, thinned_until })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times in minutes.
    #[test]
    fn samples_are_in_chunks_before_memory_lets_go_of_them() {
        let at = |minute: i64| Timestamp::from_millis(minute * 60_000);
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        let due = |now, kept| cut_due(at(now), minutes(kept), minutes(10)).as_millis() / 60_000;
        assert_eq!([due(249, 180), due(250, 180), due(369, 180)], [120, 240, 240], "whole windows by default");
        assert_eq!([due(190, 120), due(249, 120), due(250, 120)], [180, 180, 240], "by the hour");
        for kept in [1, 2, 5, 16, 31, 60, 90, 120, 131, 180, 600].map(minutes) {
            for now in (0..86_400).step_by(7).map(|second| Timestamp::from_millis(second * 1000)) {
                let uncut = now.since(cut_due(now, kept, minutes(10)));
                assert!(uncut + 2 * INTERVAL <= kept, "{kept:?} are kept, {uncut:?} are not in chunks");
            }
        }
    }
}
