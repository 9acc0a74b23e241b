//! Keeps silences in PostgreSQL: reads them at start and when SQL changed them, writes what people change.
//!
//! In: rows of `silence`, changes of [`Silences`]. Out: the same, the other way. Invariant: while PostgreSQL is away the
//! silences in memory stay in force, and what changed is written when it is back. A row that cannot be read is named once
//! and left out.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::notify::{SILENCE_RETENTION, Silence, Silences};
use crate::store::{self, Store, StoreError};

/// How soon a silence that was written by SQL takes effect, and how often a write that failed is tried again.
const INTERVAL: Duration = Duration::from_secs(10);
/// Rounds between two deletions of silences whose retention is over.
const ROUNDS_TO_DELETE: u32 = 90;
/// How long the last pass at the end may take.
const LAST_PASS_LIMIT: Duration = Duration::from_secs(5);

/// The silences of one process and where they are kept.
pub(super) struct Keeper {
    silences: Silences,
    store: Store,
    clock: Clock,
    /// Rows that were named as damaged.
    named: BTreeSet<String>,
}

impl Keeper {
    pub(super) fn new(silences: Silences, store: Store, clock: Clock) -> Self {
        silences.keep();
        Self { silences, store, clock, named: BTreeSet::new() }
    }

    /// Takes up what is stored.
    ///
    /// # Errors
    /// When PostgreSQL is away.
    pub(super) async fn read(&mut self) -> Result<(), StoreError> {
        let store::StoredSilences { silences, damaged } = self.store.silences().await?;
        for reason in damaged {
            if self.named.insert(reason.clone()) {
                tracing::error!("a stored silence is left out, because it cannot be read: {reason}");
            }
        }
        self.silences.merge(silences.into_iter().map(silence).collect(), self.clock.now());
        Ok(())
    }

    /// Writes changes at once and looks for those of others, until told to stop; then what is left.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.reset(); // they were just read
        let mut rounds = 0_u32;
        let silences = self.silences.clone();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = silences.changed() => {}
                _ = tick.tick() => {
                    rounds += 1;
                    if let Err(error) = self.look_after(rounds.is_multiple_of(ROUNDS_TO_DELETE)).await {
                        // That PostgreSQL is away is said elsewhere.
                        tracing::debug!("the silences in memory stay in force: {error}");
                    }
                }
            }
            self.write().await;
        }
        if tokio::time::timeout(LAST_PASS_LIMIT, self.write()).await.is_err() {
            tracing::error!("silences changed and are not written: they are lost at the next start");
        }
    }

    async fn look_after(&mut self, delete: bool) -> Result<(), StoreError> {
        self.read().await?;
        let now = self.clock.now();
        self.silences.forget_old(now);
        if delete {
            self.store.delete_silences(now - SILENCE_RETENTION).await?;
        }
        Ok(())
    }

    async fn write(&self) {
        for silence in self.silences.unwritten() {
            let (id, updated_at) = (silence.id.clone(), silence.updated_at);
            match self.store.write_silence(&stored(silence)).await {
                Ok(()) => self.silences.written(&id, updated_at),
                Err(error) => {
                    tracing::warn!("silence `{id}` acts, but is not yet written: {error}");
                    return;
                }
            }
        }
    }
}

fn silence(stored: store::Silence) -> Silence {
    let store::Silence { id, matchers, starts_at, ends_at, created_by, comment, updated_at } = stored;
    Silence { id, matchers, starts_at, ends_at, created_by, comment, updated_at }
}

fn stored(silence: Silence) -> store::Silence {
    let Silence { id, matchers, starts_at, ends_at, created_by, comment, updated_at } = silence;
    store::Silence { id, matchers, starts_at, ends_at, created_by, comment, updated_at }
}
