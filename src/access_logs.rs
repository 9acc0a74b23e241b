//! Access logs of the mesh's proxies: recognises their records, says what became of each request, counts and keeps them.
//!
//! In: the texts of OTLP log records, where they stand. Out: [`AccessRecord`]s; of these the last in memory ([`Live`]),
//! series per edge and reason in the memory tier, and compressed [`AccessLogBatch`]es for `persist`. Invariant: every
//! structure has a bound in [`Config`]; what does not fit is counted, never silently dropped. Knows nothing of OTLP,
//! PostgreSQL or HTTP.

mod batch;
mod counted;
mod fields;
mod format;
mod json;
mod live;
mod pipeline;
mod reasons;
mod record;

#[cfg(test)]
mod tests;

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use serde::Deserialize;

pub use batch::{decode_batch, encode_batch, ends_of};
pub use fields::Fields;
pub use format::{Format, FormatError};
pub use live::{Filter, Live, codes_of};
pub use pipeline::Pipeline;
pub use record::{Origin, Reader, Session, Stamp};

pub use crate::model::access_log::{AccessLogBatch, AccessLogPart, AccessRecord, Detail, Reason};
use crate::units::{ByteSize, PromDuration};

/// Formats, bounds and intervals: the block `access_logs`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Text formats of your own, as `meshConfig.accessLogFormat` or a provider's `logFormat.text` has them; those of Istio
    /// and of Envoy itself are known.
    pub formats: Vec<Format>,
    /// Records of one stored batch at most. Default 2,048.
    pub batch_records: usize,
    /// How long a record waits for its batch to fill. Default 1 s.
    pub batch_delay: PromDuration,
    /// Batches waiting for the store; when there are as many, no more records are taken and OTLP clients are told to
    /// retry. Default 64.
    pub pending_batches: usize,
    /// Records held in memory, so that they are found before they are stored. Default 50,000.
    pub live_records: usize,
    /// Memory of those records at most. Default 64 MiB.
    pub live_bytes: ByteSize,
    /// How often series are written. Default 15 s.
    pub metrics_interval: PromDuration,
    /// A series without a new record for this long ends. Default 15 m.
    pub stale_after: PromDuration,
    /// Series made of records at most; records that would need more are kept, but not counted there. Default 50,000.
    pub series_limit: usize,
    /// Compressed bytes of stored batches that one search opens; an answer that needed more says that it is partial.
    /// Default 32 MiB.
    pub search_bytes: ByteSize,
}

impl Default for Config {
    fn default() -> Self {
        let seconds = |seconds| PromDuration::from(Duration::from_secs(seconds));
        Self {
            formats: Vec::new(),
            batch_records: 2048,
            batch_delay: seconds(1),
            pending_batches: 64,
            live_records: 50_000,
            live_bytes: ByteSize(64 << 20),
            metrics_interval: seconds(15),
            stale_after: seconds(900),
            series_limit: 50_000,
            search_bytes: ByteSize(32 << 20),
        }
    }
}

impl Config {
    /// An empty ring of the last records.
    pub fn live(&self) -> Live {
        Live::new(self.live_records, usize::try_from(self.live_bytes.0).unwrap_or(usize::MAX))
    }
}

/// Counters of the pipeline, read by `telemetry`.
#[derive(Debug, Default)]
pub struct Counters {
    /// Records taken from the queue.
    pub records: AtomicU64,
    /// Batches made.
    pub batches: AtomicU64,
    /// Bytes of those batches.
    pub batch_bytes: AtomicU64,
    /// Batches waiting for the store now (a gauge).
    pub pending_batches: AtomicU64,
    /// Batches lost because the store's side was gone or did not take them before the shutdown deadline.
    pub lost_batches: AtomicU64,
    /// Records not counted in series, because of the series limit.
    pub uncounted_records: AtomicU64,
    /// Samples that the memory tier did not take.
    pub refused_samples: AtomicU64,
}
