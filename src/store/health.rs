//! Whether PostgreSQL answers, for pages, readiness and back-off.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Store;
use crate::clock::Clock;
use crate::model::Timestamp;

const PROBE_INTERVAL: Duration = Duration::from_secs(1);
const PROBE_LIMIT: Duration = Duration::from_secs(3);

/// Whether PostgreSQL answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answered last time.
    Available,
    /// It did not.
    Away {
        /// Since when.
        since: Timestamp,
        /// What was seen last.
        reason: String,
    },
}

impl Health {
    /// Since when it is away, and what was seen last; `None` while it answers.
    pub fn why_away(&self) -> Option<String> {
        match self {
            Self::Available => None,
            Self::Away { since, reason } => Some(format!("since {since}: {reason}")),
        }
    }
}

/// Waits until PostgreSQL is found to be away and says why; for ever when nobody looks any more.
///
/// What is watched is locked while it is looked at: whoever looks a second time meanwhile may wait for a writer that waits for
/// him. So what comes out is the reason, not the look.
pub async fn went_away(mut health: watch::Receiver<Health>) -> String {
    let away = health.wait_for(|health| *health != Health::Available).await;
    match away.ok().and_then(|health| health.why_away()) {
        Some(reason) => reason,
        None => std::future::pending().await,
    }
}

impl Store {
    /// The latest finding of [`Store::watch_health`]; available until that runs.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.0.health.subscribe()
    }

    /// Whether the server answers a small question within `limit`.
    pub async fn is_answering(&self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.probe()).await.is_ok_and(|answer| answer.is_ok())
    }

    /// Asks the server each second whether it is there, until `shutdown`.
    pub async fn watch_health(self, clock: Clock, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(PROBE_INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = tick.tick() => {}
            }
            let failure = match tokio::time::timeout(PROBE_LIMIT, self.probe()).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(format!("no answer within {PROBE_LIMIT:?}")),
            };
            self.0.health.send_if_modified(|health| turn(health, failure, clock.now()));
        }
    }
}

/// Moves `health` on; says whether that is news.
fn turn(health: &mut Health, failure: Option<String>, now: Timestamp) -> bool {
    let next = match (&*health, failure) {
        (_, None) => Health::Available,
        (Health::Available, Some(reason)) => Health::Away { since: now, reason },
        (Health::Away { since, .. }, Some(reason)) => Health::Away { since: *since, reason },
    };
    let changed = *health != next;
    if changed {
        match &next {
            Health::Available => tracing::info!("PostgreSQL is back"),
            Health::Away { reason, .. } => tracing::warn!("PostgreSQL is away: {reason}"),
        }
    }
    *health = next;
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn away_keeps_the_time_it_began() {
        let at = Timestamp::from_millis;
        let mut health = Health::Available;
        assert!(turn(&mut health, Some("reset".into()), at(5)));
        assert!(turn(&mut health, Some("refused".into()), at(9)));
        assert_eq!(health, Health::Away { since: at(5), reason: "refused".into() });
        assert!(!turn(&mut health, Some("refused".into()), at(10)));
        assert!(turn(&mut health, None, at(11)));
        assert!(!turn(&mut health, None, at(12)));
    }
}
