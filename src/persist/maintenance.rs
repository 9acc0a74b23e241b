//! Partitions, retention, hours from minutes, and packs of edges.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{PartStatus, limited};
use crate::clock::Clock;
use crate::store::{RetentionConfig, Store, StoreError};

/// How often edges are packed: a minute is packed soon after it is complete.
const PACK_INTERVAL: Duration = Duration::from_secs(60);
/// Most packs of one round. A history without packs gets them bit by bit.
const PACKS_MAX: usize = 240;
/// Every how many of these rounds hours are rolled up …
const ROLL_EVERY: u32 = 10;
/// … and partitions are looked after.
const MAINTAIN_EVERY: u32 = 60;
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

    /// Packs edges each minute, rolls hours up every ten minutes and looks after partitions each hour, at once and until
    /// `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(PACK_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rounds_done: u32 = 0;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = tick.tick() => {}
            }
            let outcome = tokio::select! {
                () = shutdown.cancelled() => return, // each step is a transaction or idempotent
                outcome = limited(ROUND_LIMIT, "maintain the database", self.round(rounds_done)) => outcome,
            };
            match outcome {
                Ok(()) => {
                    rounds_done = rounds_done.wrapping_add(1);
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
    async fn round(&self, rounds_done: u32) -> Result<(), StoreError> {
        let now = self.clock.now();
        if rounds_done.is_multiple_of(ROLL_EVERY) {
            self.store.roll_hours(now, SETTLE).await?;
        }
        self.store.pack_edges(now, PACKS_MAX).await?;
        if rounds_done.is_multiple_of(MAINTAIN_EVERY) {
            let done = self.store.maintain(&self.retention, now).await?;
            tracing::debug!(?done, "looked after the database");
            if done.made > 0 {
                self.store.sync_files().await?;
            }
        }
        Ok(())
    }
}
