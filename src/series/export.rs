//! Samples of finished stretches of time as chunks for PostgreSQL.
//!
//! In: a time up to which to cut. Out: one [`ClosedChunk`] per series and two-hour window. Nothing is forgotten here:
//! memory keeps the samples until they leave its window. `persist` cuts, writes, then says so with
//! [`Head::mark_chunked`]; until then the same cut gives the same chunks.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::chunk::encode_chunk;
use super::head::Head;
use crate::model::{Labels, Timestamp};

/// The width of the windows that chunks keep within.
pub const CHUNK_WINDOW: Duration = Duration::from_secs(2 * 3600);
/// How many series are read at once.
const SLICE: usize = 2048;

/// The samples of one series in one window, encoded.
#[derive(Clone, Debug, PartialEq)]
pub struct ClosedChunk {
    /// Which series.
    pub labels: Labels,
    /// Time of the first sample.
    pub from: Timestamp,
    /// Time of the last sample.
    pub to: Timestamp,
    /// How many samples.
    pub sample_count: u32,
    /// What [`super::decode_chunk`] reads.
    pub bytes: Vec<u8>,
}

impl Head {
    /// Calls `visit` with a chunk for each series and two-hour window (aligned to the epoch) of the samples before `until`
    /// that are not in chunks yet.
    ///
    /// The windows start at the last [`Head::mark_chunked`], at first with the oldest window of the samples in memory. A
    /// series with samples in three windows gives three chunks. Samples that come late, for before `until`, after the
    /// cut, will be in no chunk: cut at least `out_of_order_window` behind. Blocks no append; reads for a while, so call it
    /// where blocking is allowed.
    pub fn visit_closed_chunks(&self, until: Timestamp, mut visit: impl FnMut(ClosedChunk)) {
        let Some(start) = self.chunk_start() else { return };
        let mut series = self.0.index.read().all();
        self.0.sort_by_group(&mut series);
        let mut from = start;
        while from < until {
            let end = (from.floor_to(CHUNK_WINDOW) + CHUNK_WINDOW).min(until);
            for slice in series.chunks(SLICE) {
                self.0.read((slice, false), from.as_millis(), end.as_millis() - 1, &mut |samples| {
                    visit(ClosedChunk {
                        from: samples.times[0],
                        to: samples.times[samples.times.len() - 1],
                        sample_count: samples.values.len() as u32,
                        bytes: encode_chunk(&samples.times, &samples.values),
                        labels: samples.labels,
                    });
                });
            }
            from = end;
        }
    }

    /// All chunks that [`Head::visit_closed_chunks`] gives, at once: about 1.5 kB a series.
    pub fn closed_chunks(&self, until: Timestamp) -> Vec<ClosedChunk> {
        let mut chunks = Vec::new();
        self.visit_closed_chunks(until, |chunk| chunks.push(chunk));
        chunks
    }

    /// The chunks up to `until` are in PostgreSQL: do not give them again. Also for use after a restart.
    pub fn mark_chunked(&self, until: Timestamp) {
        self.0.chunked_until.fetch_max(until.as_millis(), Relaxed);
    }

    /// Up to where samples are in chunks; `None` before the first [`Head::mark_chunked`].
    pub fn chunked_until(&self) -> Option<Timestamp> {
        let until = Timestamp::from_millis(self.0.chunked_until.load(Relaxed));
        (until != Timestamp::MIN).then_some(until)
    }

    /// Where the next cut starts; `None` when there are no samples.
    fn chunk_start(&self) -> Option<Timestamp> {
        let oldest = self.oldest_sample()?.floor_to(CHUNK_WINDOW);
        Some(self.chunked_until().map_or(oldest, |until| until.max(oldest)))
    }

    fn oldest_sample(&self) -> Option<Timestamp> {
        let groups = self.0.groups.lock().clone();
        groups.iter().filter_map(|group| group.lock().oldest()).min().map(Timestamp::from_millis)
    }
}
