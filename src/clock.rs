//! What time it is: the wall clock at start, moved on by tokio's clock, so that a test with paused time drives it.
//!
//! Tokio's clock stands still while a laptop sleeps and knows nothing of a wall clock that is set. A [`ClockKeeper`] brings
//! both together again. Invariant: a clock never goes back, for samples and slots must not; where the wall clock was set
//! back it goes slower until they meet.
//!
//! A leaf: imports only `model`.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::model::Timestamp;

/// How often the wall clock is looked at.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Differences up to this are left alone: the system slews both clocks alike.
const TOLERANCE_MS: i64 = 500;
/// By how much a clock that is ahead goes slower in each [`CHECK_INTERVAL`].
const SLOWER_MS: i64 = 250;

/// A clock. Copies agree with each other.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    wall: Timestamp,
    anchor: Instant,
    correction: Option<&'static Correction>,
}

/// What a keeper has found out, in milliseconds.
#[derive(Debug, Default)]
struct Correction {
    /// To be added.
    offset_ms: AtomicI64,
    /// The latest time that was told: none is told that is before it.
    latest_ms: AtomicI64,
    /// By how much the clock is ahead of the wall clock, which was set back; 0 when they agree.
    ahead_ms: AtomicI64,
    /// How often the wall clock was seen to jump, either way.
    jumps: AtomicU64,
}

/// Keeps a clock together with the wall clock.
pub struct ClockKeeper {
    clock: Clock,
    correction: &'static Correction,
}

impl Clock {
    /// Reads the wall clock once; from then on follows tokio's clock.
    pub fn system() -> Self {
        Self::starting_at(Timestamp::from(chrono::Utc::now()))
    }

    /// As [`Clock::system`], with the keeper that must run for it to follow the wall clock. Call it once a process: what
    /// the copies share is never freed.
    pub fn kept() -> (Self, ClockKeeper) {
        Self::kept_from(Timestamp::from(chrono::Utc::now()))
    }

    fn kept_from(wall: Timestamp) -> (Self, ClockKeeper) {
        let correction: &'static Correction = Box::leak(Box::default());
        let clock = Self { correction: Some(correction), ..Self::starting_at(wall) };
        (clock, ClockKeeper { clock, correction })
    }

    /// A clock that says `wall` now.
    pub fn starting_at(wall: Timestamp) -> Self {
        Self { wall, anchor: Instant::now(), correction: None }
    }

    /// The time now. Never before what it said last.
    pub fn now(&self) -> Timestamp {
        let now = self.wall + self.anchor.elapsed();
        let Some(correction) = self.correction else { return now };
        let now_ms = now.as_millis() + correction.offset_ms.load(Relaxed);
        Timestamp::from_millis(correction.latest_ms.fetch_max(now_ms, Relaxed).max(now_ms))
    }

    /// By how much this clock is ahead of the system's, which was set back; zero when they agree.
    pub fn ahead(&self) -> Duration {
        let ahead_ms = self.correction.map_or(0, |correction| correction.ahead_ms.load(Relaxed));
        Duration::from_millis(u64::try_from(ahead_ms).unwrap_or(0))
    }

    /// How often the system's clock was seen to jump: it was set, or the machine slept.
    pub fn jumps(&self) -> u64 {
        self.correction.map_or(0, |correction| correction.jumps.load(Relaxed))
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

impl ClockKeeper {
    /// Compares each second until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        self.follow(|| Timestamp::from(chrono::Utc::now()), shutdown).await;
    }

    async fn follow(self, wall: impl Fn() -> Timestamp, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(CHECK_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_ahead = false;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = tick.tick() => {}
            }
            let (wall, now) = (wall(), self.clock.now());
            let behind_ms = wall.as_millis() - now.as_millis();
            self.correction.ahead_ms.store(if behind_ms < -TOLERANCE_MS { -behind_ms } else { 0 }, Relaxed);
            if behind_ms > TOLERANCE_MS {
                self.correction.jumps.fetch_add(1, Relaxed);
                self.correction.offset_ms.fetch_add(behind_ms, Relaxed);
                tracing::warn!("the clock goes on from {now} to {wall}: the system slept, or its clock was set");
            } else if behind_ms < -TOLERANCE_MS {
                self.correction.offset_ms.fetch_sub(SLOWER_MS.min(-behind_ms), Relaxed);
                if !is_ahead {
                    self.correction.jumps.fetch_add(1, Relaxed);
                    let ahead = Duration::from_millis(behind_ms.unsigned_abs());
                    tracing::warn!("the system's clock was set back by {ahead:?}: time goes slower until they agree");
                }
            }
            is_ahead = behind_ms < -TOLERANCE_MS;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::sync::Arc;

    use super::*;

    const START_MS: i64 = 1_768_435_200_000;

    /// A kept clock, and by how much its wall clock differs from tokio's.
    fn kept() -> (Clock, Arc<AtomicI64>) {
        let (clock, keeper) = Clock::kept_from(Timestamp::from_millis(START_MS));
        let (offset, start) = (Arc::new(AtomicI64::new(0)), Instant::now());
        let seen = Arc::clone(&offset);
        let wall = move || Timestamp::from_millis(START_MS + seen.load(Relaxed)) + start.elapsed();
        tokio::spawn(async move { keeper.follow(wall, CancellationToken::new()).await });
        (clock, offset)
    }

    async fn pass(seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn goes_on_to_the_wall_clock_after_a_sleep_of_the_machine() {
        let (clock, offset) = kept();
        pass(10).await;
        assert_eq!(clock.now().as_millis(), START_MS + 10_000);
        offset.store(3_600_000, Relaxed);
        pass(2).await;
        assert_eq!(clock.now().as_millis(), START_MS + 12_000 + 3_600_000);
        offset.fetch_add(TOLERANCE_MS, Relaxed);
        pass(2).await;
        assert_eq!(clock.now().as_millis(), START_MS + 14_000 + 3_600_000, "a small difference is left alone");
        assert_eq!((clock.jumps(), clock.ahead()), (1, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn never_goes_back_and_meets_a_wall_clock_that_was_set_back() {
        let (clock, offset) = kept();
        pass(5).await;
        offset.store(-10_000, Relaxed);
        pass(2).await;
        assert!(clock.ahead() > Duration::from_secs(8), "{:?}", clock.ahead());
        let (mut last, mut slots) = (clock.now(), 0);
        for _ in 0..600 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = clock.now();
            assert!(now >= last, "{last} {now}");
            slots += i32::from(clock.instant_of(now + CHECK_INTERVAL) > Instant::now());
            last = now;
        }
        assert_eq!(slots, 600);
        let difference = last.as_millis() - (START_MS + 67_000 - 10_000);
        assert!(difference <= TOLERANCE_MS, "{difference} ms ahead of the wall clock");
        assert_eq!((clock.jumps(), clock.ahead()), (1, Duration::ZERO));
    }
}
