//! Makes accepted samples durable, each second.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{LAST_PASS_LIMIT, PartStatus, WRITE_LIMIT, limited};
use crate::clock::Clock;
use crate::series::{Head, JournalBatch};
use crate::store::{Health, NewJournalEntry, Store, StoreError};

const INTERVAL: Duration = Duration::from_secs(1);
/// Most bytes of one transaction. After an outage the backlog goes in several.
const TRANSACTION_BYTES: usize = 8 << 20;

/// Drains the journal of the memory tier into PostgreSQL.
pub struct JournalPersist {
    head: Head,
    store: Store,
    clock: Clock,
    status: Arc<PartStatus>,
}

impl JournalPersist {
    /// Start it after [`super::restore()`].
    pub fn new(head: Head, store: Store, clock: Clock) -> Self {
        Self { head, store, clock, status: Arc::new(PartStatus::new("journal")) }
    }

    /// How it fares.
    pub fn status(&self) -> Arc<PartStatus> {
        Arc::clone(&self.status)
    }

    /// Writes each second until `shutdown`, then once more.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut health = self.store.health();
        let mut failed = false;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                // A pause may be long; what waited for PostgreSQL is safe a second after its return all the same.
                Ok(()) = health.changed(), if failed => {
                    if *health.borrow_and_update() != Health::Available {
                        continue;
                    }
                }
                _ = tick.tick() => {}
            }
            let written = self.write_all(WRITE_LIMIT).await;
            failed = written.is_err();
            if let Err(error) = written {
                let pause = self.status.failed(self.clock.now(), &error);
                tick.reset_at(Instant::now() + pause);
            }
        }
        if let Err(error) = self.write_all(LAST_PASS_LIMIT).await {
            self.status.failed(self.clock.now(), &error);
            tracing::error!("the last samples before shutdown are not in the journal: {error}");
        }
    }

    /// Writes until nothing is left. What could not be written goes back to the memory tier, in its order.
    async fn write_all(&self, limit: Duration) -> Result<(), StoreError> {
        loop {
            let batches = self.take();
            if batches.is_empty() {
                self.status.pending.store(0, Relaxed);
                self.status.succeeded(self.clock.now(), 0);
                return Ok(());
            }
            let samples: usize = batches.iter().map(|batch| batch.sample_count).sum();
            self.status.pending.store(samples as u64, Relaxed);
            let entries: Vec<NewJournalEntry> = batches.iter().map(entry).collect();
            match limited(limit, "append to the journal", self.store.append_journal(&entries)).await {
                Ok(()) => self.status.succeeded(self.clock.now(), samples),
                Err(error) if error.is_temporary() => {
                    batches.into_iter().rev().for_each(|batch| self.head.return_journal(batch));
                    return Err(error);
                }
                Err(error) => self.status.gave_up(self.clock.now(), samples, &error),
            }
        }
    }

    fn take(&self) -> Vec<JournalBatch> {
        let (mut batches, mut bytes) = (Vec::new(), 0);
        while bytes < TRANSACTION_BYTES
            && let Some(batch) = self.head.drain_journal()
        {
            bytes += batch.bytes.len();
            batches.push(batch);
        }
        batches
    }
}

pub(super) fn entry(batch: &JournalBatch) -> NewJournalEntry {
    NewJournalEntry {
        from: batch.from,
        to: batch.to,
        sample_count: batch.sample_count as u64,
        starts_epoch: batch.starts_epoch,
        bytes: batch.bytes.clone(),
    }
}
