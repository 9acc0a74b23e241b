//! Writes what edges did, a few seconds after they did it.
//!
//! In: the minutes of the rollup that changed. Out: rows, and in the same transaction up to which minute they are complete,
//! which tells a restart from where to count again. Invariant: a minute stays in the rollup until it is written.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{LAST_PASS_LIMIT, PartStatus, WRITE_LIMIT, limited};
use crate::clock::Clock;
use crate::model::Timestamp;
use crate::rollup::Rollup;
use crate::store::{Store, StoreError};

const INTERVAL: Duration = Duration::from_secs(10);
/// Rows of one transaction.
const TRANSACTION_ROWS: usize = 20_000;

/// Writes the minutes of the rollup.
pub struct RollupPersist {
    rollup: Rollup,
    store: Store,
    clock: Clock,
    status: Arc<PartStatus>,
    /// The last boundary written.
    complete_until: Option<Timestamp>,
}

impl RollupPersist {
    /// Start it after [`super::restore()`].
    pub fn new(rollup: Rollup, store: Store, clock: Clock) -> Self {
        rollup.hold_unwritten();
        Self { rollup, store, clock, status: Arc::new(PartStatus::new("rollups")), complete_until: None }
    }

    /// How it fares.
    pub fn status(&self) -> Arc<PartStatus> {
        Arc::clone(&self.status)
    }

    /// Writes every ten seconds until `shutdown`, then once more.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = tick.tick() => {}
            }
            if let Err(error) = self.write_changed(WRITE_LIMIT).await {
                let pause = self.status.failed(self.clock.now(), &error);
                tick.reset_at(Instant::now() + pause.max(INTERVAL));
            }
        }
        if let Err(error) = self.write_changed(LAST_PASS_LIMIT).await {
            self.status.failed(self.clock.now(), &error);
            tracing::error!("the last edge minutes before shutdown are not written: {error}");
        }
    }

    /// Writes each minute that changed since it was written, the oldest first.
    async fn write_changed(&mut self, limit: Duration) -> Result<(), StoreError> {
        loop {
            let unwritten = self.rollup.unwritten(TRANSACTION_ROWS);
            let (count, until) = (unwritten.minutes.len(), unwritten.complete_until);
            self.status.pending.store(count as u64, Relaxed);
            if count == 0 && until == self.complete_until {
                self.status.succeeded(self.clock.now(), 0);
                return Ok(());
            }
            let write = self.store.write_edges_until(unwritten.minutes.clone(), until);
            match limited(limit, "write edges", write).await {
                Ok(()) => self.status.succeeded(self.clock.now(), count),
                Err(error) if error.is_temporary() => return Err(error),
                Err(error) => self.status.gave_up(self.clock.now(), count, &error),
            }
            self.complete_until = until;
            self.rollup.mark_written(&unwritten);
            if count < TRANSACTION_ROWS {
                self.status.pending.store(0, Relaxed);
                return Ok(()); // what has changed since then is for the next time
            }
        }
    }
}
