//! Holds spans on their way to the store, and derives metrics and edges from them.
//!
//! In: chunks of spans from `otlp`. Out: compressed [`SpanBatch`]es for `persist`, the last spans in memory ([`Live`]),
//! span metrics and service-graph series in the memory tier, edge minutes in the rollup. Invariant: every structure has
//! a bound in [`Config`]; what does not fit is dropped and counted, never silently. Knows nothing of PostgreSQL or HTTP.

mod batch;
mod calls;
pub(crate) mod codec;
mod compare;
pub(crate) mod cumulative;
mod edges;
mod hops;
mod identity;
mod introductions;
mod live;
mod pairing;
mod pipeline;
mod service_graph;
mod sides;
mod span_metrics;
mod waterfall;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use serde::Deserialize;

pub use batch::{IndexConfig, encode_batch, has_attribute};
pub use codec::{BatchError, decode_batch, decode_traces};
pub use compare::{ComparedRow, Comparison, Side, compare};
pub use hops::{Hop, hops};
pub(crate) use identity::{NodeId, called_service, known_text, service_of_host};
pub use identity::{speaks_for, workload_of_pod};
pub use live::{Filter, Live};
pub use pipeline::{Outputs, Pipeline};
pub use waterfall::{Row, Waterfall, waterfall};

use crate::batching;
pub use crate::model::span::{SpanBatch, TracePart};
use crate::units::{ByteSize, PromDuration};

/// Bounds and intervals of everything done with spans.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long spans are kept in PostgreSQL. Default: what `storage.retention.spans` says, 48 h.
    pub retention: Option<PromDuration>,
    /// Spans of one stored batch at most. Default 2,048.
    pub batch_spans: usize,
    /// How long a span waits for its batch to fill; its sender waits as long for the answer. Default 200 ms.
    pub batch_delay: PromDuration,
    /// Batches waiting for the store; when there are as many, no more spans are taken and OTLP clients are told to
    /// retry. Default 64.
    pub pending_batches: usize,
    /// Spans held in memory so that a trace can be read before it is stored. Default 200,000.
    pub live_spans: usize,
    /// Memory of those spans at most. Default 256 MiB.
    pub live_bytes: ByteSize,
    /// How often derived series are written. Default 15 s.
    pub metrics_interval: PromDuration,
    /// A derived series without a new span for this long ends. Default 15 m, as Tempo's.
    pub stale_after: PromDuration,
    /// Series of the span metrics at most; spans that would need more are not counted there. Default 100,000.
    pub span_metrics_series_limit: usize,
    /// Series of the service graph at most. Default 50,000.
    pub service_graph_series_limit: usize,
    /// How long one side of a call waits for the other. Default 10 s, as Tempo's.
    pub pair_wait: PromDuration,
    /// Calls waiting for their other side at most. Default 10,000, as Tempo's.
    pub pair_limit: usize,
    /// A call is added to the mesh graph only when it began at most this long ago; older ones (replayed spans) still
    /// count in the derived series. Default 15 m.
    pub edge_max_age: PromDuration,
    /// Compressed bytes of stored batches that one search opens; an answer that needed more says that it is partial.
    /// Default 64 MiB.
    pub search_bytes: ByteSize,
    /// Spans of one trace that are read; an answer without the others says so. Default 50,000.
    pub trace_spans: usize,
    /// Which attributes can be searched in stored traces.
    pub index: IndexConfig,
}

impl Default for Config {
    fn default() -> Self {
        let seconds = |seconds| PromDuration::from(Duration::from_secs(seconds));
        Self {
            retention: None,
            batch_spans: 2048,
            batch_delay: PromDuration::from(Duration::from_millis(200)),
            pending_batches: 64,
            live_spans: 200_000,
            live_bytes: ByteSize(256 << 20),
            metrics_interval: seconds(15),
            stale_after: seconds(900),
            span_metrics_series_limit: 100_000,
            service_graph_series_limit: 50_000,
            pair_wait: seconds(10),
            pair_limit: 10_000,
            edge_max_age: seconds(900),
            search_bytes: ByteSize(64 << 20),
            trace_spans: 50_000,
            index: IndexConfig::default(),
        }
    }
}

/// Counters of the pipeline, read by `telemetry`.
#[derive(Debug, Default)]
pub struct Counters {
    /// Spans taken from the queue.
    pub spans: AtomicU64,
    /// Of these the ones that memory held already: sent again, and not counted again.
    pub repeated_spans: AtomicU64,
    /// Batches made, waiting and lost.
    pub batching: Arc<batching::Counters>,
    /// Spans not counted in span metrics, because of the series limit.
    pub span_metrics_dropped: AtomicU64,
    /// Calls not counted in the service graph, because of the series limit.
    pub service_graph_dropped: AtomicU64,
    /// Calls that found their other side, or need none.
    pub pairs: AtomicU64,
    /// Sides of calls whose other side did not come in time (Tempo: `traces_service_graph_expired_edges`).
    pub expired_edges: AtomicU64,
    /// Sides of calls waiting for their other side now (a gauge).
    pub waiting_sides: AtomicU64,
    /// Sides of calls that found no place to wait (Tempo: `traces_service_graph_dropped_spans_total`).
    pub dropped_spans: AtomicU64,
    /// Calls that began too long ago, or in the future, for the mesh graph.
    pub edges_out_of_window: AtomicU64,
    /// Derived samples that the memory tier did not take.
    pub refused_samples: AtomicU64,
}
