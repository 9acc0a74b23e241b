//! The one way from a decoded request to the queue, for all protocols, and from the store back to the answer.
//!
//! Invariant: all chunks of a request are queued, or none; a request is answered as taken when the store has all of it; one that
//! is sent again is taken once.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use parking_lot::Mutex;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};

use super::known::{Fingerprint, Known};
use super::metrics::{self, Encoding, MetricsError, Taken};
use super::pairs::KeptByAll;
use super::{Config, Counters, Decoded, DecodedLogs, Limits, LogTrim};
use crate::access_logs::{self, AccessRecord};
use crate::batching::{Delivery, Receipt, Verdict, Waiting};
use crate::model::{Span, Timestamp};
use crate::push;

/// Spans or log records of one chunk at most: what becomes one stored batch.
const CHUNK_ITEMS: usize = 2048;
/// Memory of one chunk at most (one item more than it), so that the capacity of the queue bounds its memory.
const CHUNK_BYTES: usize = 1 << 20;
/// Below this size a request is decoded among the other tasks; above, the thread is given to it alone: that is 100 µs of work.
const INLINE_BYTES: usize = 32 << 10;

/// Why a request is not answered as taken.
#[derive(Clone, Copy, Debug)]
pub(super) enum Refused {
    /// The queue is full or closing: the client should come again after this time.
    QueueFull(Duration),
    /// PostgreSQL does not have it yet: the same. What is stored by then is known again by its ids when it is read.
    NotStored(Duration),
    /// PostgreSQL will never take it.
    ForGood,
}

impl Refused {
    /// What the client is told; `of` is what the request has in it.
    pub(super) fn message(self, of: &str) -> String {
        match self {
            Self::QueueFull(_) => format!("the {of} queue is full, send again later"),
            Self::NotStored(_) => {
                format!("PostgreSQL does not have every {of} of this request yet, send it again later")
            }
            Self::ForGood => format!("PostgreSQL refuses a {of} of this request: see the log of meshscope"),
        }
    }

    /// When to come again; `None`: never.
    pub(super) fn retry_after(self) -> Option<Duration> {
        match self {
            Self::QueueFull(after) | Self::NotStored(after) => Some(after),
            Self::ForGood => None,
        }
    }
}

/// Takes decoded requests. Clones share it.
#[derive(Clone)]
pub(super) struct Intake {
    sink: mpsc::Sender<Delivery<Span>>,
    pub(super) limits: Arc<Limits>,
    /// Of decoders of spans.
    pub(super) kept: Arc<KeptByAll>,
    pub(super) counters: Arc<Counters>,
    pub(super) retry_after: Duration,
    acknowledge_timeout: Duration,
    /// One permit for each request that may wait for the store.
    waiting: Arc<Semaphore>,
    /// Requests of spans and of log records that came already.
    known: Arc<Mutex<Known>>,
    /// Where metrics go; `None` where nobody takes them.
    pub(super) metrics: Option<push::Intake>,
    /// What reads access logs and where they go; `None` where nobody takes them.
    pub(super) logs: Option<(access_logs::Reader, mpsc::Sender<Delivery<AccessRecord>>)>,
}

impl Intake {
    pub(super) fn new(config: &Config, sink: mpsc::Sender<Delivery<Span>>) -> Self {
        Self {
            sink,
            limits: Arc::new(config.limits.clone()),
            kept: Arc::default(),
            counters: Arc::default(),
            retry_after: config.retry_after.get(),
            acknowledge_timeout: config.acknowledge_timeout.get(),
            waiting: Arc::new(Semaphore::new(config.max_waiting_requests.clamp(1, Semaphore::MAX_PERMITS))),
            known: Arc::default(),
            metrics: None,
            logs: None,
        }
    }

    /// Queues the spans, waits until they are stored, and says what the client should know. `turn` is what the request
    /// held while it was decoded; it is given back before the wait.
    pub(super) async fn take<P>(
        &self,
        (decoded, body): (Decoded, Fingerprint),
        turn: P,
    ) -> Result<ExportTraceServiceResponse, Refused> {
        let Decoded { spans, tally, warning } = decoded;
        let count = spans.len() as u64;
        let queued = self.queue(&self.sink, (spans, Some(body)), Span::memory_bytes);
        let queued = queued.inspect_err(|_| _ = self.counters.refused_spans.fetch_add(count, Relaxed))?;
        if queued.is_new {
            self.counters.accepted_spans.fetch_add(count, Relaxed);
            self.counters.add(&tally);
        }
        drop(turn);
        self.stored(queued).await?;
        let error_message = [tally.message(), warning].into_iter().flatten().collect::<Vec<_>>().join("; ");
        let rejected_spans = i64::try_from(tally.total_rejected()).unwrap_or(i64::MAX);
        let partial_success =
            (!error_message.is_empty()).then_some(ExportTracePartialSuccess { rejected_spans, error_message });
        Ok(ExportTraceServiceResponse { partial_success })
    }

    /// Queues the records, waits until they are stored, and says what the client should know.
    pub(super) async fn take_logs<P>(
        &self,
        sink: &mpsc::Sender<Delivery<AccessRecord>>,
        (decoded, body): (DecodedLogs, Fingerprint),
        turn: P,
    ) -> Result<ExportLogsServiceResponse, Refused> {
        let DecodedLogs { records, tally, warning } = decoded;
        let count = records.len() as u64;
        // What a client says without a time it may say again and mean another request.
        let body = (tally.trimmed(LogTrim::Time) == 0).then_some(body);
        let queued = self.queue(sink, (records, body), AccessRecord::memory_bytes);
        let queued = queued.inspect_err(|_| _ = self.counters.refused_log_records.fetch_add(count, Relaxed))?;
        if queued.is_new {
            self.counters.accepted_log_records.fetch_add(count, Relaxed);
            self.counters.add_logs(&tally);
        }
        drop(turn);
        self.stored(queued).await?;
        let error_message = [tally.message(), warning].into_iter().flatten().collect::<Vec<_>>().join("; ");
        let rejected_log_records = i64::try_from(tally.total_rejected()).unwrap_or(i64::MAX);
        let partial_success =
            (!error_message.is_empty()).then_some(ExportLogsPartialSuccess { rejected_log_records, error_message });
        Ok(ExportLogsServiceResponse { partial_success })
    }

    /// Queues all items, or none; those of a body that came already are not queued again.
    fn queue<T>(
        &self,
        sink: &mpsc::Sender<Delivery<T>>,
        (items, body): (Vec<T>, Option<Fingerprint>),
        bytes_of: fn(&T) -> usize,
    ) -> Result<Queued<'_>, Refused> {
        let full = || {
            self.counters.refused_requests.fetch_add(1, Relaxed);
            Refused::QueueFull(self.retry_after)
        };
        let body = body.filter(|_| !items.is_empty());
        let chunks = chunked(items, sink.max_capacity(), bytes_of);
        let permit = self.waiting.try_acquire().map_err(|_| full())?;
        // Held until the request is remembered: the same may come on two connections at once.
        let mut known = self.known.lock();
        if let Some(waiting) = body.and_then(|body| known.verdict_of(body)) {
            self.counters.repeated_requests.fetch_add(1, Relaxed);
            return Ok(Queued { waiting, is_new: false, _permit: permit });
        }
        let places = sink.try_reserve_many(chunks.len()).map_err(|_| full())?;
        let (receipt, waiting) = Receipt::new();
        for (place, items) in places.zip(chunks) {
            place.send(Delivery { items, receipt: receipt.clone() });
        }
        if let Some(body) = body {
            known.remember(body, waiting.clone());
        }
        drop(known);
        // From here on its clones, one in each delivery, say what becomes of the request.
        receipt.settle(Verdict::Stored);
        Ok(Queued { waiting, is_new: true, _permit: permit })
    }

    /// Waits until the store has all of a request, but not for ever.
    async fn stored(&self, queued: Queued<'_>) -> Result<(), Refused> {
        let refused = match tokio::time::timeout(self.acknowledge_timeout, queued.waiting.verdict()).await {
            Ok(Verdict::Stored) => return Ok(()),
            Ok(Verdict::Refused) => Refused::ForGood,
            Ok(Verdict::Lost) | Err(_) => Refused::NotStored(self.retry_after),
        };
        self.counters.unstored_requests.fetch_add(1, Relaxed);
        Err(refused)
    }
}

/// A request in the queue.
struct Queued<'a> {
    waiting: Waiting,
    /// Whether it came for the first time.
    is_new: bool,
    _permit: SemaphorePermit<'a>,
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
    let taken = on_blocking_thread(move || metrics::take(&sink, &body, encoding)).await;
    let taken = taken.ok_or(MetricsRefusal::Internal)?;
    let mut taken = taken.map_err(|error| match error {
        MetricsError::Closed(closed) => MetricsRefusal::Unavailable(closed.to_string()),
        broken => MetricsRefusal::Malformed(broken.to_string()),
    })?;
    intake.store_past(std::mem::take(&mut taken.past)).await.map_err(MetricsRefusal::Unavailable)?;
    Ok(taken)
}

/// Runs `decode` here; when its input is large, others' work is taken off this thread first. `None` when it panicked, which is
/// logged.
pub(super) async fn run_decode<T: Send + 'static>(
    size_bytes: usize,
    decode: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    if size_bytes <= INLINE_BYTES {
        return Some(decode());
    }
    if Handle::current().runtime_flavor() != RuntimeFlavor::MultiThread {
        return on_blocking_thread(decode).await;
    }
    // This thread has just received the bytes, so they lie in its cache: another would fetch them once more.
    match tokio::task::block_in_place(|| std::panic::catch_unwind(AssertUnwindSafe(decode))) {
        Ok(decoded) => Some(decoded),
        Err(_) => {
            tracing::error!("decoding an OTLP request failed");
            None
        }
    }
}

/// Runs `decode` on a blocking thread. `None` when it panicked, which is logged.
async fn on_blocking_thread<T: Send + 'static>(decode: impl FnOnce() -> T + Send + 'static) -> Option<T> {
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
    if !items.is_empty() && items.len() <= chunk_items && total_bytes <= chunk_bytes {
        return vec![items];
    }
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
