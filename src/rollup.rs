//! Turns increments of mesh counters and histograms into per-edge minutes.
//!
//! In: the counter samples of each scrape, as slot and value. Out: [`EdgeMinute`]s. Knows Istio's and Linkerd's labels,
//! nothing of HTTP or PostgreSQL.

use crate::model::{EdgeMinute, Labels, Timestamp};

/// Names one mesh series while its scraper knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotId(pub(crate) u32);

/// The accumulator of edge minutes. Clones share it.
#[derive(Clone, Default)]
pub struct Rollup;

impl Rollup {
    /// The slot for a series that counts traffic of the mesh; `None` for any other series.
    ///
    /// Call once when a scrape first meets the series, and [`Rollup::release`] when it is gone.
    pub fn slot(&self, labels: &Labels) -> Option<SlotId> {
        let _ = labels;
        None
    }

    /// Counts the increments since each slot's last sample. A stale marker ends a slot's run without a reset.
    pub fn observe(&self, at: Timestamp, batch: &[(SlotId, f64)]) {
        let _ = (at, batch);
    }

    /// Forgets a slot.
    pub fn release(&self, slot: SlotId) {
        let _ = slot;
    }

    /// Adds what was counted elsewhere (paired spans).
    pub fn add(&self, minute: EdgeMinute) {
        let _ = minute;
    }

    /// Everything counted in minutes at or after `from` that is still in memory, open minutes included.
    pub fn recent(&self, from: Timestamp) -> Vec<EdgeMinute> {
        let _ = from;
        Vec::new()
    }
}
