//! The task that takes spans from the receiver and feeds everything made of them.
//!
//! In: deliveries of spans, the clock. Out: batches with the receipts of their deliveries, live spans, series, edges.
//! Invariant: derived series go on while the store is away; when its batches pile up to the limit no more spans are taken,
//! so the receiver's queue fills and clients are told to retry: nothing that was accepted is dropped.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{interval, sleep_until};
use tokio_util::sync::CancellationToken;

use super::calls::Call;
use super::cumulative::Slot;
use super::edges::{EDGES_BEFORE_FLUSH, Edges};
use super::pairing::Pairing;
use super::service_graph::ServiceGraph;
use super::span_metrics::SpanMetrics;
use super::{Config, Counters, Live, encode_batch};
use crate::batching::{self, Batcher, Delivery, Parcel};
use crate::clock::Clock;
use crate::model::span::SpanBatch;
use crate::model::{Span, Timestamp};
use crate::rollup::Rollup;
use crate::series::Head;

/// How often waiting sides of calls are looked at (Tempo: every 2 s).
const SWEEP: Duration = Duration::from_secs(2);
/// Spans looked at between two yields to other tasks: about 500 µs of work.
const SPANS_PER_TURN: usize = 128;
/// How long the store may take for the last batches at shutdown.
const LAST_BATCHES: Duration = Duration::from_secs(5);

/// Everything done with spans after they were received.
pub struct Pipeline {
    config: Config,
    input: mpsc::Receiver<Delivery<Span>>,
    head: Head,
    rollup: Rollup,
    clock: Clock,
    live: Live,
    counters: Arc<Counters>,
    derived: Derived,
    batcher: Batcher<Arc<Span>, SpanBatch>,
}

/// Where the results go.
pub struct Outputs {
    /// Derived series.
    pub head: Head,
    /// Calls, as edge minutes.
    pub rollup: Rollup,
    /// Batches for the store.
    pub batches: mpsc::Sender<Parcel<SpanBatch>>,
}

/// What is counted from spans.
struct Derived {
    span_metrics: SpanMetrics,
    service_graph: ServiceGraph,
    pairing: Pairing,
    edges: Edges,
    calls: Vec<Call>,
}

impl Pipeline {
    /// A pipeline that reads `input`. Nothing runs before [`Pipeline::run`].
    pub fn new(config: Config, input: mpsc::Receiver<Delivery<Span>>, outputs: Outputs, clock: Clock) -> Self {
        let live_bytes = usize::try_from(config.live_bytes.0).unwrap_or(usize::MAX);
        let Outputs { head, rollup, batches } = outputs;
        let counters = Arc::<Counters>::default();
        let limits = batching::Limits {
            items: config.batch_spans,
            delay: config.batch_delay.get(),
            pending: config.pending_batches,
        };
        let index = config.index.clone();
        let encode: batching::Encode<Arc<Span>, SpanBatch> = Arc::new(move |spans| {
            let batch = encode_batch(&spans, &index)?;
            let bytes = batch.bytes.len();
            Some((batch, bytes))
        });
        let derived = Derived {
            span_metrics: SpanMetrics::new(config.span_metrics_series_limit),
            service_graph: ServiceGraph::new(config.service_graph_series_limit),
            pairing: Pairing::new(config.pair_wait.get(), config.pair_limit),
            edges: Edges::default(),
            calls: Vec::new(),
        };
        Self {
            live: Live::new(config.live_spans, live_bytes),
            config,
            input,
            head,
            rollup,
            clock,
            batcher: Batcher::new(limits, encode, batches, Arc::clone(&counters.batching)),
            counters,
            derived,
        }
    }

    /// The last spans, for reading.
    pub fn live(&self) -> Live {
        self.live.clone()
    }

    /// What the pipeline counted so far.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Runs until `shutdown` fires or the receiver is gone; then takes what is queued, hands over the last batch, writes
    /// the series a last time and ends them.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let every = self.config.metrics_interval.get().max(Duration::from_millis(100));
        let mut sweep = interval(SWEEP);
        let mut slot = self.clock.next_slot(every, Duration::ZERO);
        loop {
            let room = self.batcher.has_room();
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = sleep_until(self.clock.instant_of(slot)) => {
                    self.write_series(Slot { at: slot, interval: every }).await;
                    // A slot that was missed is left out: the next one holds its increments too.
                    slot = self.clock.next_slot(every, Duration::ZERO).max(slot + every);
                }
                _ = sweep.tick() => self.sweep(),
                open = self.batcher.turn() => if !open { break },
                delivery = self.input.recv(), if room => match delivery {
                    Some(delivery) => self.take(delivery).await,
                    None => break,
                },
            }
        }
        self.finish(every).await;
    }

    async fn finish(mut self, every: Duration) {
        self.input.close();
        while let Some(delivery) = self.input.recv().await {
            self.take(delivery).await;
        }
        self.sweep();
        let at = self.clock.now();
        self.write_series(Slot { at, interval: every }).await;
        let ended = at + Duration::from_millis(1);
        self.derived.span_metrics.end(&self.head, ended);
        self.derived.service_graph.end(&self.head, ended);
        self.batcher.finish(LAST_BATCHES).await;
    }

    async fn take(&mut self, delivery: Delivery<Span>) {
        let Delivery { items, receipt } = delivery;
        self.counters.spans.fetch_add(items.len() as u64, Relaxed);
        // Memory and the batch share a span: a copy would count up the references of all its texts.
        let items: Vec<Arc<Span>> = items.into_iter().map(Arc::new).collect();
        for turn in items.chunks(SPANS_PER_TURN) {
            let now = self.clock.now();
            let repeated = self.live.push_shared(turn);
            self.counters.repeated_spans.fetch_add(repeated.len() as u64, Relaxed);
            // What is sent again was counted the first time. It is stored again, and known again when it is read.
            let new = turn.iter().enumerate().filter(|(at, _)| repeated.binary_search(at).is_err());
            for (_, span) in new {
                self.derived.span_metrics.observe(span, now);
                self.derived.pairing.observe(span, now, &mut self.derived.calls);
            }
            self.count_calls(now);
            tokio::task::yield_now().await;
        }
        self.batcher.gather(Delivery { items, receipt }).await;
    }

    fn sweep(&mut self) {
        let now = self.clock.now();
        self.derived.pairing.expire(now, &mut self.derived.calls);
        self.count_calls(now);
        self.flush_edges();
    }

    fn count_calls(&mut self, now: Timestamp) {
        let max_age = self.config.edge_max_age.get();
        let mut calls = std::mem::take(&mut self.derived.calls);
        self.counters.pairs.fetch_add(calls.len() as u64, Relaxed);
        for call in calls.drain(..) {
            self.derived.service_graph.observe(&call, now);
            self.derived.edges.observe(&call, now, max_age);
            if self.derived.edges.len() >= EDGES_BEFORE_FLUSH {
                self.flush_edges();
            }
        }
        self.derived.calls = calls; // keeps its memory for the next turn
        self.publish_counters();
    }

    fn flush_edges(&mut self) {
        for edge in self.derived.edges.flush() {
            self.rollup.add(edge);
        }
    }

    fn publish_counters(&self) {
        let Derived { span_metrics, service_graph, pairing, edges, .. } = &self.derived;
        self.counters.span_metrics_dropped.store(span_metrics.dropped, Relaxed);
        self.counters.service_graph_dropped.store(service_graph.dropped, Relaxed);
        self.counters.waiting_sides.store(pairing.len() as u64, Relaxed);
        self.counters.expired_edges.store(pairing.expired, Relaxed);
        self.counters.dropped_spans.store(pairing.dropped, Relaxed);
        self.counters.edges_out_of_window.store(edges.out_of_window, Relaxed);
    }

    async fn write_series(&mut self, slot: Slot) {
        let stale_after = self.config.stale_after.get();
        let refused = self.derived.span_metrics.write(&self.head, slot, stale_after).await
            + self.derived.service_graph.write(&self.head, slot, stale_after).await;
        self.counters.refused_samples.fetch_add(refused, Relaxed);
    }
}
