//! The one way from a decoded request to the queue, for all protocols.
//!
//! Invariant: all chunks of a request are queued, or none.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use tokio::sync::mpsc;

use super::metrics::{self, Encoding, MetricsError, Taken};
use super::{Config, Counters, Decoded, DecodedLogs, Limits};
use crate::access_logs::{self, AccessRecord};
use crate::model::{Span, Timestamp};
use crate::push;

/// Spans or log records of one chunk at most: what becomes one stored batch.
const CHUNK_ITEMS: usize = 2048;
/// Memory of one chunk at most (one item more than it), so that the capacity of the queue bounds its memory.
const CHUNK_BYTES: usize = 1 << 20;
/// Below this size a request is decoded where it is; above, on a blocking thread (CONVENTIONS §2.8: 500 µs of work).
const INLINE_BYTES: usize = 32 << 10;

/// The queue is full or closing: the client should come again after this time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused {
    pub(super) retry_after: Duration,
}

/// Takes decoded requests. Clones share it.
#[derive(Clone)]
pub(super) struct Intake {
    sink: mpsc::Sender<Vec<Span>>,
    pub(super) limits: Arc<Limits>,
    pub(super) counters: Arc<Counters>,
    pub(super) retry_after: Duration,
    /// Where metrics go; `None` where nobody takes them.
    pub(super) metrics: Option<push::Intake>,
    /// What reads access logs and where they go; `None` where nobody takes them.
    pub(super) logs: Option<(access_logs::Reader, mpsc::Sender<Vec<AccessRecord>>)>,
}

impl Intake {
    pub(super) fn new(config: &Config, sink: mpsc::Sender<Vec<Span>>) -> Self {
        let (limits, counters) = (Arc::new(config.limits.clone()), Arc::default());
        Self { sink, limits, counters, retry_after: config.retry_after.get(), metrics: None, logs: None }
    }

    /// Queues the spans and says what the client should know.
    pub(super) fn take(&self, decoded: Decoded) -> Result<ExportTraceServiceResponse, Refused> {
        let Decoded { spans, tally, warning } = decoded;
        let count = spans.len() as u64;
        self.queue(&self.sink, spans, Span::memory_bytes)
            .inspect_err(|_| _ = self.counters.refused_spans.fetch_add(count, Relaxed))?;
        self.counters.accepted_spans.fetch_add(count, Relaxed);
        self.counters.add(&tally);
        let error_message = [tally.message(), warning].into_iter().flatten().collect::<Vec<_>>().join("; ");
        let rejected_spans = i64::try_from(tally.total_rejected()).unwrap_or(i64::MAX);
        let partial_success =
            (!error_message.is_empty()).then_some(ExportTracePartialSuccess { rejected_spans, error_message });
        Ok(ExportTraceServiceResponse { partial_success })
    }

    /// Queues the records and says what the client should know.
    pub(super) fn take_logs(
        &self,
        sink: &mpsc::Sender<Vec<AccessRecord>>,
        decoded: DecodedLogs,
    ) -> Result<ExportLogsServiceResponse, Refused> {
        let DecodedLogs { records, tally, warning } = decoded;
        let count = records.len() as u64;
        self.queue(sink, records, AccessRecord::memory_bytes)
            .inspect_err(|_| _ = self.counters.refused_log_records.fetch_add(count, Relaxed))?;
        self.counters.accepted_log_records.fetch_add(count, Relaxed);
        self.counters.add_logs(&tally);
        let error_message = [tally.message(), warning].into_iter().flatten().collect::<Vec<_>>().join("; ");
        let rejected_log_records = i64::try_from(tally.total_rejected()).unwrap_or(i64::MAX);
        let partial_success =
            (!error_message.is_empty()).then_some(ExportLogsPartialSuccess { rejected_log_records, error_message });
        Ok(ExportLogsServiceResponse { partial_success })
    }

    /// Queues all items, or none.
    fn queue<T>(&self, sink: &mpsc::Sender<Vec<T>>, items: Vec<T>, bytes_of: fn(&T) -> usize) -> Result<(), Refused> {
        let chunks = chunked(items, sink.max_capacity(), bytes_of);
        let Ok(places) = sink.try_reserve_many(chunks.len()) else {
            self.counters.refused_requests.fetch_add(1, Relaxed);
            return Err(Refused { retry_after: self.retry_after });
        };
        for (place, chunk) in places.zip(chunks) {
            place.send(chunk);
        }
        Ok(())
    }
}

/// Why metrics are not taken.
pub(super) enum MetricsRefusal {
    /// The body is broken: for good.
    Malformed(String),
    /// PostgreSQL is away, which has to take what is older than memory, or meshscope stops.
    Unavailable(String),
    /// Our own fault.
    Internal,
}

/// Stores the metrics of a body, and waits for what is older than memory to be in history.
pub(super) async fn take_metrics(
    intake: push::Intake,
    body: bytes::Bytes,
    encoding: Encoding,
) -> Result<Taken, MetricsRefusal> {
    let sink = intake.clone();
    // Always on a blocking thread: a batch may have to wait for another.
    let taken = run_decode(usize::MAX, move || metrics::take(&sink, &body, encoding)).await;
    let taken = taken.ok_or(MetricsRefusal::Internal)?;
    let mut taken = taken.map_err(|error| match error {
        MetricsError::Closed(closed) => MetricsRefusal::Unavailable(closed.to_string()),
        broken => MetricsRefusal::Malformed(broken.to_string()),
    })?;
    intake.store_past(std::mem::take(&mut taken.past)).await.map_err(MetricsRefusal::Unavailable)?;
    Ok(taken)
}

/// Runs `decode` here or on a blocking thread, by the size of its input. `None` when it panicked, which is logged.
pub(super) async fn run_decode<T: Send + 'static>(
    size_bytes: usize,
    decode: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    if size_bytes <= INLINE_BYTES {
        return Some(decode());
    }
    match tokio::task::spawn_blocking(decode).await {
        Ok(decoded) => Some(decoded),
        Err(error) => {
            tracing::error!(%error, "decoding an OTLP request failed");
            None
        }
    }
}

/// The time now; spans and log records are judged against it.
pub(super) fn now() -> Timestamp {
    Timestamp::from(chrono::Utc::now())
}

fn chunked<T>(items: Vec<T>, most_chunks: usize, bytes_of: fn(&T) -> usize) -> Vec<Vec<T>> {
    let total_bytes: usize = items.iter().map(bytes_of).sum();
    // A request that needs more chunks than the queue has places could never be taken: make its chunks larger.
    let (chunk_items, chunk_bytes) = if items.len() / CHUNK_ITEMS + total_bytes / CHUNK_BYTES + 1 > most_chunks {
        (usize::MAX, total_bytes / most_chunks.max(1) + 1)
    } else {
        (CHUNK_ITEMS, CHUNK_BYTES)
    };
    let (mut chunks, mut chunk, mut bytes) = (Vec::new(), Vec::new(), 0);
    for item in items {
        bytes += bytes_of(&item);
        chunk.push(item);
        if chunk.len() >= chunk_items || bytes >= chunk_bytes {
            chunks.push(std::mem::take(&mut chunk));
            bytes = 0;
        }
    }
    if !chunk.is_empty() {
        chunks.push(chunk);
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::super::tests::span;
    use super::*;

    #[test]
    fn a_request_never_needs_more_chunks_than_the_queue_has_places() {
        for (spans, places) in [(0, 1), (1, 1), (2048, 4), (5000, 4), (50_000, 1), (50_000, 3), (50_000, 100)] {
            let chunks = chunked((0..spans).map(|i| span(i as u64 + 1)).collect(), places, Span::memory_bytes);
            assert!(chunks.len() <= places, "{spans} spans in {} chunks of {places}", chunks.len());
            assert_eq!(chunks.iter().map(Vec::len).sum::<usize>(), spans);
        }
    }
}
