//! The buffers of a scrape.

use crate::rollup::SlotId;
use crate::series::{Exemplar, Row, SeriesRef};

/// Buffers that scrapes borrow in turn, so that their number is bounded by the scrapes under way.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    /// Where the bytes of a connection arrive.
    pub received: Vec<u8>,
    /// What has arrived of the page and is not read.
    pub page: Vec<u8>,
    /// What the unpacking of a compressed page gave last.
    pub unpacked: Vec<u8>,
    pub batch: Vec<(SeriesRef, f64)>,
    /// The cache's index of each row of `batch`.
    pub indices: Vec<u32>,
    pub increments: Vec<(SlotId, f64)>,
    pub timed: Vec<Row>,
    pub timed_indices: Vec<u32>,
    pub newly_live: Vec<u32>,
    /// Exemplars with the cache's index of their series.
    pub exemplars: Vec<(u32, Exemplar)>,
}

impl Workspace {
    /// Empties all.
    pub fn clear(&mut self) {
        let Self {
            received: _,
            page,
            unpacked,
            batch,
            indices,
            increments,
            timed,
            timed_indices,
            newly_live,
            exemplars,
        } = self;
        page.clear();
        unpacked.clear();
        batch.clear();
        indices.clear();
        increments.clear();
        timed.clear();
        timed_indices.clear();
        newly_live.clear();
        exemplars.clear();
    }

    /// Bytes it holds on to.
    pub fn capacity_bytes(&self) -> usize {
        self.received.capacity()
            + self.page.capacity()
            + self.unpacked.capacity()
            + self.batch.capacity() * size_of::<(SeriesRef, f64)>()
    }
}
