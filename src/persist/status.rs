//! How each part of `persist` fares, for pages and metrics, and the pauses between its attempts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

use crate::model::Timestamp;
use crate::store::StoreError;

/// Pause after the first failure, and the longest one.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// How one part fares. Shared with pages and metrics.
#[derive(Debug)]
pub struct PartStatus {
    /// `journal`, `chunks`, `rollups`, `spans`, `access_logs`, `alerts`, `alert_states`, `changes`, `maintenance`.
    pub name: &'static str,
    /// Items written: samples, chunks, edge minutes, spans, records, transitions, generations, rounds.
    pub written: AtomicU64,
    /// Attempts that failed and are tried again.
    pub failures: AtomicU64,
    /// Items given up: PostgreSQL refused them for a reason that trying again does not mend.
    pub dropped: AtomicU64,
    /// Items held, waiting to be written.
    pub pending: AtomicU64,
    state: Mutex<PartState>,
}

/// When a part last succeeded and failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartState {
    /// When all was written last.
    pub succeeded_at: Option<Timestamp>,
    /// When an attempt failed last, and why.
    pub failed: Option<(Timestamp, String)>,
    /// Attempts that failed since the last success; 0: all is well.
    pub failures_in_a_row: u32,
}

impl PartStatus {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            written: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            pending: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    /// When it last succeeded and failed.
    pub fn state(&self) -> PartState {
        self.state.lock().clone()
    }

    pub(super) fn succeeded(&self, at: Timestamp, items: usize) {
        self.written.fetch_add(items as u64, Relaxed);
        let mut state = self.state.lock();
        if state.failures_in_a_row > 0 {
            tracing::info!(part = self.name, "{} are written again", self.name);
        }
        state.succeeded_at = Some(at);
        state.failures_in_a_row = 0;
    }

    /// Counts a failure; returns how long to wait before the next attempt.
    pub(super) fn failed(&self, at: Timestamp, error: &StoreError) -> Duration {
        self.failures.fetch_add(1, Relaxed);
        let mut state = self.state.lock();
        if state.failures_in_a_row == 0 {
            tracing::warn!(part = self.name, "cannot write {} for now: {error}", self.name);
        }
        let pause = PAUSE_MIN.saturating_mul(1 << state.failures_in_a_row.min(8)).min(PAUSE_MAX);
        state.failed = Some((at, error.to_string()));
        state.failures_in_a_row = state.failures_in_a_row.saturating_add(1);
        pause
    }

    /// Counts items that PostgreSQL will never take.
    pub(super) fn gave_up(&self, at: Timestamp, items: usize, error: &StoreError) {
        tracing::error!(part = self.name, "dropped {items} of {}: {error}", self.name);
        self.dropped.fetch_add(items as u64, Relaxed);
        self.state.lock().failed = Some((at, error.to_string()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_half_a_minute_and_begin_anew_after_a_success() {
        let (status, at) = (PartStatus::new("test"), Timestamp::from_millis(1));
        let error = StoreError::Query { doing: "test", source: sqlx::Error::PoolTimedOut };
        let pauses: Vec<u64> = (0..9).map(|_| status.failed(at, &error).as_millis() as u64).collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
        status.succeeded(at, 3);
        assert_eq!(status.failed(at, &error), PAUSE_MIN);
        assert_eq!((status.written.load(Relaxed), status.failures.load(Relaxed)), (3, 10));
    }
}
