//! Samples of finished stretches of time as chunks for PostgreSQL.
//!
//! In: a time up to which to cut. Out: one [`ClosedBlock`] per label set and two-hour window. Nothing is forgotten here:
//! memory keeps the samples until they leave its window. `persist` cuts, writes, then says so with
//! [`Head::mark_chunked`]; until then the same cut gives the same blocks.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::SeriesSamples;
use super::block::{Block, Member};
use super::head::Head;
use crate::model::{Labels, METRIC_NAME, Timestamp};

/// The width of the windows that chunks keep within.
pub const CHUNK_WINDOW: Duration = Duration::from_secs(2 * 3600);
/// How many series are read at once.
const SLICE: usize = 2048;
/// The label that, beside the metric name, tells the series of one label set apart.
const BUCKET: &str = "le";

/// The samples of the series of one label set in one window.
#[derive(Clone, Debug, PartialEq)]
pub struct ClosedBlock {
    /// The labels that its series share: all but the metric name and `le`.
    pub labels: Labels,
    /// Start of the window.
    pub window: Timestamp,
    /// The samples. A label set may come in several blocks of one window.
    pub block: Block,
}

impl Head {
    /// Calls `visit` with a block for each label set and two-hour window (aligned to the epoch) of the samples before
    /// `until` that are not in chunks yet.
    ///
    /// The windows start at the last [`Head::mark_chunked`], at first with the oldest window of the samples in memory.
    /// Say [`Head::begin_close`] before, so that samples that come after the cut are not missed. Blocks no append; reads
    /// for a while, so call it where blocking is allowed.
    pub fn visit_closed_blocks(&self, until: Timestamp, mut visit: impl FnMut(ClosedBlock)) {
        let Some(start) = self.chunk_start() else { return };
        let mut series = self.0.index.read().all();
        let mut from = start;
        while from < until {
            let end = (from.floor_to(CHUNK_WINDOW) + CHUNK_WINDOW).min(until);
            self.visit_blocks(&mut series, (from, end), &mut visit);
            // Samples may lie years back, with nothing between them and today's.
            from = self.oldest_since(end).map_or(until, |oldest| oldest.floor_to(CHUNK_WINDOW).max(end));
        }
    }

    /// All blocks that [`Head::visit_closed_blocks`] gives, at once.
    pub fn closed_blocks(&self, until: Timestamp) -> Vec<ClosedBlock> {
        let mut blocks = Vec::new();
        self.visit_closed_blocks(until, |block| blocks.push(block));
        blocks
    }

    /// Reads `series` in `[from, end)`, which lies within one window, by label set.
    pub(super) fn visit_blocks(
        &self,
        series: &mut [u64],
        (from, end): (Timestamp, Timestamp),
        visit: &mut impl FnMut(ClosedBlock),
    ) {
        {
            let index = self.0.index.read();
            series.sort_by_cached_key(|reference| index.naming(*reference).map(|(serial, ..)| serial));
        }
        let mut open: Option<ClosedBlock> = None;
        for slice in series.chunks(SLICE) {
            self.0.read((slice, false), from.as_millis(), end.as_millis() - 1, &mut |samples| {
                if open.as_ref().is_some_and(|open| !is_same_set(&open.labels, &samples.labels))
                    && let Some(full) = open.take()
                {
                    visit(full);
                }
                let SeriesSamples { labels, times, values } = samples;
                let name = (labels.metric_name().to_owned(), labels.value(BUCKET).to_owned());
                let open = open.get_or_insert_with(|| ClosedBlock {
                    labels: labels.without(&[METRIC_NAME, BUCKET]),
                    window: from.floor_to(CHUNK_WINDOW),
                    block: Block::new(),
                });
                open.block.insert(name, Member { times, values });
            });
        }
        if let Some(full) = open {
            visit(full);
        }
    }

    /// The chunks up to `until` are in PostgreSQL: do not give them again. Also for use after a restart.
    pub fn mark_chunked(&self, until: Timestamp) {
        self.begin_close(until);
        self.0.chunked_until.fetch_max(until.as_millis(), Relaxed);
    }

    /// Up to where samples are in chunks; `None` before the first [`Head::mark_chunked`].
    pub fn chunked_until(&self) -> Option<Timestamp> {
        let until = Timestamp::from_millis(self.0.chunked_until.load(Relaxed));
        (until != Timestamp::MIN).then_some(until)
    }

    /// Where the next cut starts; `None` when there are no samples.
    fn chunk_start(&self) -> Option<Timestamp> {
        let oldest = self.oldest_since(Timestamp::MIN)?.floor_to(CHUNK_WINDOW);
        Some(self.chunked_until().map_or(oldest, |until| until.max(oldest)))
    }

    /// Not later than the oldest sample from `from` on.
    fn oldest_since(&self, from: Timestamp) -> Option<Timestamp> {
        let groups = self.0.groups.lock().clone();
        let oldest = groups.iter().filter_map(|group| group.lock().oldest_since(from.as_millis())).min();
        oldest.map(Timestamp::from_millis)
    }
}

/// Whether `labels`, less metric name and `le`, are `shared`.
fn is_same_set(shared: &Labels, labels: &Labels) -> bool {
    labels.iter().filter(|(name, _)| *name != METRIC_NAME && *name != BUCKET).eq(shared.iter())
}
