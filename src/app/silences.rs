//! Brings stored silences to the dispatcher, at start and whenever they change.
//!
//! In: rows of `silence`. Out: a watch channel whose sender lives as long as the process. Invariant: while PostgreSQL is
//! away the silences last read stay in force.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::notify::Silence;
use crate::store::{self, Store, StoreError};

/// How soon a silence that was written takes effect.
const INTERVAL: Duration = Duration::from_secs(10);

/// All stored silences.
pub(super) async fn read(store: &Store) -> Result<Vec<Silence>, StoreError> {
    Ok(store.silences().await?.into_iter().map(silence).collect())
}

/// Looks for changes until told to stop.
pub(super) async fn follow(store: Store, silences: watch::Sender<Vec<Silence>>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.reset(); // they were just read
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let found = tokio::select! {
            () = stop.cancelled() => return,
            found = read(&store) => found,
        };
        match found {
            Ok(found) => {
                let changed = |known: &mut Vec<Silence>| {
                    let differs = *known != found;
                    if differs {
                        *known = found;
                    }
                    differs
                };
                if silences.send_if_modified(changed) {
                    tracing::info!("the silences have changed");
                }
            }
            // That PostgreSQL is away is said elsewhere.
            Err(error) => tracing::debug!("the silences last read stay in force: {error}"),
        }
    }
}

fn silence(stored: store::Silence) -> Silence {
    let store::Silence { id, matchers, starts_at, ends_at, created_by, comment, updated_at: _ } = stored;
    Silence { id, matchers, starts_at, ends_at, created_by, comment }
}
