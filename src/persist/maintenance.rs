//! Partitions, retention, and hours from minutes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{PartStatus, limited};
use crate::clock::Clock;
use crate::store::{RetentionConfig, Store, StoreError};

/// How often hours are rolled up.
const ROLL_INTERVAL: Duration = Duration::from_secs(600);
/// Every how many of these rounds partitions are looked after.
const MAINTAIN_EVERY: u32 = 6;
/// How long after its end an hour is summed: its last minutes may still grow.
const SETTLE: Duration = Duration::from_secs(600);
/// How long one round may take.
const ROUND_LIMIT: Duration = Duration::from_secs(900);

/// Keeps the database in shape.
pub struct Maintenance {
    store: Store,
    retention: RetentionConfig,
    clock: Clock,
    status: Arc<PartStatus>,
}

impl Maintenance {
    /// Keeps data as long as `retention` says.
    pub fn new(store: Store, retention: RetentionConfig, clock: Clock) -> Self {
        Self { store, retention, clock, status: Arc::new(PartStatus::new("maintenance")) }
    }

    /// How it fares.
    pub fn status(&self) -> Arc<PartStatus> {
        Arc::clone(&self.status)
    }

    /// Rolls hours up every ten minutes and looks after partitions each hour, at once and until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(ROLL_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rounds_done = 0;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = tick.tick() => {}
            }
            let outcome = tokio::select! {
                () = shutdown.cancelled() => return, // each step is a transaction or idempotent
                outcome = limited(ROUND_LIMIT, "maintain the database", self.round(rounds_done % MAINTAIN_EVERY == 0)) => outcome,
            };
            match outcome {
                Ok(()) => {
                    rounds_done += 1;
                    self.status.succeeded(self.clock.now(), 1);
                }
                Err(error) => {
                    let pause = self.status.failed(self.clock.now(), &error);
                    tick.reset_at(Instant::now() + pause);
                }
            }
        }
    }

    /// Hours first: retention may drop the minutes they are made of.
    async fn round(&self, maintain: bool) -> Result<(), StoreError> {
        let now = self.clock.now();
        self.store.roll_hours(now, SETTLE).await?;
        if maintain {
            let done = self.store.maintain(&self.retention, now).await?;
            tracing::debug!(?done, "looked after the database");
            if done.made > 0 {
                self.store.sync_files().await?;
            }
        }
        Ok(())
    }
}
