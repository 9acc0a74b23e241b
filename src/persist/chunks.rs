//! Cuts closed windows of the memory tier into chunks and writes them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{PartStatus, limited};
use crate::clock::Clock;
use crate::model::Timestamp;
use crate::series::{CHUNK_WINDOW, Head};
use crate::store::{Chunk, ClosingWindow, Store, StoreError};

/// How often to look whether a window has closed.
const INTERVAL: Duration = Duration::from_secs(120);
/// A window is cut this long after its end: a scrape carries the time at which it began.
const SETTLE: Duration = Duration::from_secs(300);
/// Chunks written by one COPY; a few of these are in memory at once.
const BATCH: usize = 8192;
/// How long a whole window may take.
const WINDOW_LIMIT: Duration = Duration::from_secs(600);

/// Writes the chunks of closed windows and trims the journal.
pub struct ChunkPersist {
    head: Head,
    store: Store,
    clock: Clock,
    lateness: Duration,
    status: Arc<PartStatus>,
}

impl ChunkPersist {
    /// `lateness` is how late a sample may come (`out_of_order_window` of the memory tier). Start it after
    /// [`super::restore()`].
    pub fn new(head: Head, store: Store, clock: Clock, lateness: Duration) -> Self {
        Self { head, store, clock, lateness, status: Arc::new(PartStatus::new("chunks")) }
    }

    /// How it fares.
    pub fn status(&self) -> Arc<PartStatus> {
        Arc::clone(&self.status)
    }

    /// Looks every two minutes until `shutdown`. Nothing is lost without a last pass: the samples are in the journal.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = tick.tick() => {}
            }
            let until = (self.clock.now() - SETTLE - self.lateness).floor_to(CHUNK_WINDOW);
            let pass = limited(WINDOW_LIMIT, "write chunks", self.close_windows(until));
            let outcome = tokio::select! {
                () = shutdown.cancelled() => return, // the transaction is dropped: nothing has happened
                outcome = pass => outcome,
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

    /// Writes everything before `until` that is not in chunks yet; returns how many chunks. Idempotent.
    ///
    /// # Errors
    /// When PostgreSQL is away; then nothing has happened.
    pub async fn close_windows(&self, until: Timestamp) -> Result<usize, StoreError> {
        if self.head.chunked_until().is_some_and(|done| done >= until) {
            return Ok(0);
        }
        let mut window = self.store.close_window().await?;
        let written = self.write_chunks(&mut window, until).await?;
        let trimmed = window.finish(until).await?;
        self.head.mark_chunked(until);
        if written > 0 {
            tracing::info!(chunks = written, trimmed, "samples before {until} are in chunks");
        }
        Ok(written)
    }

    /// Cuts on a blocking thread and writes here, a few batches apart.
    async fn write_chunks(&self, window: &mut ClosingWindow, until: Timestamp) -> Result<usize, StoreError> {
        let (sender, mut batches) = mpsc::channel::<Vec<Chunk>>(1);
        let head = self.head.clone();
        let cut = tokio::task::spawn_blocking(move || {
            let mut batch = Vec::with_capacity(BATCH);
            head.visit_closed_chunks(until, |closed| {
                let (labels, from, to) = (closed.labels, closed.from, closed.to);
                batch.push(Chunk { labels, from, to, sample_count: closed.sample_count, bytes: closed.bytes });
                if batch.len() == BATCH {
                    // A closed channel: the writer has failed, and the rest is cut in vain but briefly.
                    let _ = sender.blocking_send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH)));
                }
            });
            let _ = sender.blocking_send(batch);
        });
        let mut written = 0;
        while let Some(batch) = batches.recv().await {
            written += batch.len();
            window.write(batch).await?;
        }
        match cut.await {
            Ok(()) => Ok(written),
            Err(error) => Err(StoreError::Damaged { what: "memory tier", reason: error.to_string() }),
        }
    }
}
