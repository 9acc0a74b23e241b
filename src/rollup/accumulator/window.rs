//! Which minutes are held: those of the last `rollup.keep`, none before the first that is known whole, and after a restart
//! those in which the process did not run.
//!
//! In: times of samples and of the clock. Out: minutes dropped. Invariant: a minute outside the window does not grow.

use super::{Accumulator, MINUTE_MS, NEVER, minute_of};
use crate::model::Timestamp;

/// How far ahead of the newest scrape a minute of spans may lie.
const AHEAD_MS: i64 = 2 * MINUTE_MS;
/// So many batches in a row outside the window mean that the clock was set, should nobody call `advance`.
const STRAYS_BELIEVED: u32 = 32;

impl Accumulator {
    /// Moves the window to end at `now`, which a clock says: backwards too.
    pub(in crate::rollup) fn advance(&mut self, now: Timestamp) {
        self.end_claims(now.as_millis());
        let minute = minute_of(now.as_millis());
        self.strays = 0;
        if self.now.is_none_or(|now| minute > now || minute < now - self.keep_ms()) {
            self.now = Some(minute);
            self.drop_outside(minute);
        }
    }

    /// Moves the window on with the samples. A time far outside it is not believed at once: one page with timestamps
    /// of its own must not end the minutes of all others.
    pub(super) fn follow(&mut self, at: Timestamp) {
        let (minute, keep_ms) = (minute_of(at.as_millis()), self.keep_ms());
        let near = self.now.is_none_or(|now| (now - keep_ms..=now + keep_ms).contains(&minute));
        self.strays = if near { 0 } else { self.strays + 1 };
        if self.strays >= STRAYS_BELIEVED || (near && self.now.is_none_or(|now| minute > now)) {
            self.advance(at);
        }
    }

    /// How long minutes are held, in milliseconds.
    pub(super) fn keep_ms(&self) -> i64 {
        self.config.keep.as_millis().max(MINUTE_MS)
    }

    /// The first minute that may still grow; `None` before the first time is known.
    pub(in crate::rollup) fn oldest_held(&self) -> Option<i64> {
        let newest = self.now.or_else(|| self.minutes.last_key_value().map(|(minute, _)| *minute))?;
        Some(self.oldest_held_at(newest))
    }

    fn oldest_held_at(&self, newest: i64) -> i64 {
        let kept = minute_of(newest - self.keep_ms());
        let reached = self.restored.reach.map_or(kept, |reach| reach.min(kept));
        reached.max(self.restored.floor.unwrap_or(NEVER))
    }

    /// Whether nothing may be counted in that minute.
    pub(super) fn is_outside(&self, minute: i64) -> bool {
        self.oldest_held().is_some_and(|oldest| minute < oldest) || self.now.is_some_and(|now| minute > now + AHEAD_MS)
    }

    /// Whether a minute leaves memory once it is written, when the window ends at `newest`.
    pub(super) fn has_left(&self, minute: i64, newest: i64) -> bool {
        minute < self.oldest_held_at(newest) || minute > newest + self.keep_ms()
    }

    /// Drops what has left the window, but for what is not written yet.
    pub(super) fn drop_outside(&mut self, newest: i64) {
        let left: Vec<i64> = self.minutes.keys().copied().filter(|minute| self.has_left(*minute, newest)).collect();
        left.iter().for_each(|minute| self.drop_cells(*minute, self.holds_unwritten));
        if self.holds_unwritten {
            self.enforce_unwritten_limit(&left);
        }
    }
}
