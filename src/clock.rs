//! What time it is: the wall clock at start, moved on by tokio's clock, so that a test with paused time drives it.
//!
//! A leaf: imports only `model`.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::Timestamp;

/// A clock. Copies agree with each other.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    wall: Timestamp,
    anchor: Instant,
}

impl Clock {
    /// Reads the wall clock once; from then on follows tokio's clock.
    pub fn system() -> Self {
        Self::starting_at(Timestamp::from(chrono::Utc::now()))
    }

    /// A clock that says `wall` now.
    pub fn starting_at(wall: Timestamp) -> Self {
        Self { wall, anchor: Instant::now() }
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.wall + self.anchor.elapsed()
    }

    /// The instant at which this clock will say `at`; now, when that is past.
    pub fn instant_of(&self, at: Timestamp) -> Instant {
        Instant::now() + at.since(self.now())
    }

    /// The first time at or after now that is `offset` past a multiple of `interval` since the epoch.
    pub fn next_slot(&self, interval: Duration, offset: Duration) -> Timestamp {
        let (now, interval_ms) = (self.now().as_millis(), (interval.as_millis() as i64).max(1));
        let offset_ms = (offset.as_millis() as i64).rem_euclid(interval_ms);
        let slot = (now - offset_ms).div_euclid(interval_ms) * interval_ms + offset_ms;
        Timestamp::from_millis(if slot < now { slot + interval_ms } else { slot })
    }
}
