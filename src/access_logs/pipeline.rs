//! The task that takes records from the receiver: keeps the last ones, counts them, and makes batches for the store.
//!
//! In: deliveries of records, the clock. Out: batches with the receipts of their deliveries, live records, series.
//! Invariant: series go on while the store is away; when its batches pile up to the limit no more records are taken, so the
//! receiver's queue fills and clients are told to retry: nothing that was accepted is dropped.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use super::counted::Counted;
use super::{Config, Counters, Live, encode_batch};
use crate::batching::{self, Batcher, Delivery, Parcel};
use crate::clock::Clock;
use crate::model::access_log::{AccessLogBatch, AccessRecord};
use crate::series::Head;
use crate::traces::cumulative::Slot;

/// Records looked at between two yields to other tasks: about 500 µs of work.
const RECORDS_PER_TURN: usize = 256;
/// How long the store may take for the last batches at shutdown.
const LAST_BATCHES: Duration = Duration::from_secs(5);

/// Everything done with records after they were received.
pub struct Pipeline {
    config: Config,
    input: mpsc::Receiver<Delivery<AccessRecord>>,
    head: Head,
    clock: Clock,
    live: Live,
    counters: Arc<Counters>,
    counted: Counted,
    batcher: Batcher<Arc<AccessRecord>, AccessLogBatch>,
}

impl Pipeline {
    /// A pipeline that reads `input`. Nothing runs before [`Pipeline::run`].
    pub fn new(
        config: Config,
        input: mpsc::Receiver<Delivery<AccessRecord>>,
        (head, batches): (Head, mpsc::Sender<Parcel<AccessLogBatch>>),
        clock: Clock,
    ) -> Self {
        let counters = Arc::<Counters>::default();
        let limits = batching::Limits {
            items: config.batch_records,
            delay: config.batch_delay.get(),
            pending: config.pending_batches,
        };
        let encode: batching::Encode<Arc<AccessRecord>, AccessLogBatch> = Arc::new(|records| {
            let batch = encode_batch(&records)?;
            let bytes = batch.bytes.len();
            Some((batch, bytes))
        });
        Self {
            live: config.live(),
            counted: Counted::new(config.series_limit),
            config,
            input,
            head,
            clock,
            batcher: Batcher::new(limits, encode, batches, Arc::clone(&counters.batching)),
            counters,
        }
    }

    /// The last records, for reading.
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
        let at = self.clock.now();
        self.write_series(Slot { at, interval: every }).await;
        self.counted.end(&self.head, at + Duration::from_millis(1));
        self.batcher.finish(LAST_BATCHES).await;
    }

    async fn take(&mut self, delivery: Delivery<AccessRecord>) {
        let Delivery { items, receipt } = delivery;
        self.counters.records.fetch_add(items.len() as u64, Relaxed);
        let records: Vec<Arc<AccessRecord>> = items.into_iter().map(Arc::new).collect();
        for turn in records.chunks(RECORDS_PER_TURN) {
            let now = self.clock.now();
            self.live.push(turn);
            turn.iter().for_each(|record| self.counted.observe(record, now));
            self.counters.uncounted_records.store(self.counted.dropped, Relaxed);
            tokio::task::yield_now().await;
        }
        self.batcher.gather(Delivery { items: records, receipt }).await;
    }

    async fn write_series(&mut self, slot: Slot) {
        let refused = self.counted.write(&self.head, slot, self.config.stale_after.get()).await;
        self.counters.refused_samples.fetch_add(refused, Relaxed);
    }
}
