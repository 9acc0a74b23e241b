//! The task that takes records from the receiver: keeps the last ones, counts them, and makes batches for the store.
//!
//! In: chunks of records, the clock. Out: batches, live records, series. Invariant: series go on while the store is away;
//! when its batches pile up to the limit no more records are taken, so the receiver's queue fills and clients are told to
//! retry: nothing that was accepted is dropped.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::counted::Counted;
use super::{Config, Counters, Live, encode_batch};
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
    input: mpsc::Receiver<Vec<AccessRecord>>,
    batches: mpsc::Sender<AccessLogBatch>,
    head: Head,
    clock: Clock,
    live: Live,
    counters: Arc<Counters>,
    counted: Counted,
    gathered: Vec<Arc<AccessRecord>>,
    gathered_since: Option<Instant>,
    outbox: VecDeque<AccessLogBatch>,
}

impl Pipeline {
    /// A pipeline that reads `input`. Nothing runs before [`Pipeline::run`].
    pub fn new(
        config: Config,
        input: mpsc::Receiver<Vec<AccessRecord>>,
        (head, batches): (Head, mpsc::Sender<AccessLogBatch>),
        clock: Clock,
    ) -> Self {
        Self {
            live: config.live(),
            counted: Counted::new(config.series_limit),
            config,
            input,
            batches,
            head,
            clock,
            counters: Arc::default(),
            gathered: Vec::new(),
            gathered_since: None,
            outbox: VecDeque::new(),
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
        let batches = self.batches.clone();
        loop {
            let room = self.outbox.len() < self.config.pending_batches.max(1);
            let flush_at = self.gathered_since.map(|since| since + self.config.batch_delay.get());
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = sleep_until(self.clock.instant_of(slot)) => {
                    self.write_series(Slot { at: slot, interval: every }).await;
                    // A slot that was missed is left out: the next one holds its increments too.
                    slot = self.clock.next_slot(every, Duration::ZERO).max(slot + every);
                }
                place = batches.reserve(), if !self.outbox.is_empty() => {
                    let Ok(place) = place else { break };
                    if let Some(batch) = self.outbox.pop_front() {
                        place.send(batch);
                    }
                }
                () = sleep_until(flush_at.unwrap_or_else(Instant::now)), if room && flush_at.is_some() => {
                    self.make_batch().await;
                }
                records = self.input.recv(), if room => match records {
                    Some(records) => self.take(records).await,
                    None => break,
                },
            }
            self.counters.pending_batches.store(self.outbox.len() as u64, Relaxed);
        }
        self.finish(every).await;
    }

    async fn finish(mut self, every: Duration) {
        self.input.close();
        while let Some(records) = self.input.recv().await {
            self.take(records).await;
        }
        self.make_batch().await;
        let at = self.clock.now();
        self.write_series(Slot { at, interval: every }).await;
        self.counted.end(&self.head, at + Duration::from_millis(1));
        let (mut outbox, batches) = (std::mem::take(&mut self.outbox), self.batches.clone());
        let hand_over = async {
            while let Ok(place) = batches.reserve().await {
                let Some(batch) = outbox.pop_front() else { break };
                place.send(batch);
            }
        };
        let _ = tokio::time::timeout(LAST_BATCHES, hand_over).await;
        self.counters.lost_batches.fetch_add(outbox.len() as u64, Relaxed);
        self.counters.pending_batches.store(0, Relaxed);
    }

    async fn take(&mut self, records: Vec<AccessRecord>) {
        self.counters.records.fetch_add(records.len() as u64, Relaxed);
        let records: Vec<Arc<AccessRecord>> = records.into_iter().map(Arc::new).collect();
        for turn in records.chunks(RECORDS_PER_TURN) {
            let now = self.clock.now();
            self.live.push(turn);
            turn.iter().for_each(|record| self.counted.observe(record, now));
            self.counters.uncounted_records.store(self.counted.dropped, Relaxed);
            tokio::task::yield_now().await;
        }
        for record in records {
            self.gathered_since.get_or_insert_with(Instant::now);
            self.gathered.push(record);
            if self.gathered.len() >= self.config.batch_records.max(1) {
                self.make_batch().await;
            }
        }
    }

    async fn make_batch(&mut self) {
        self.gathered_since = None;
        let records = std::mem::take(&mut self.gathered);
        let count = records.len() as u64;
        // Compressing a full batch takes milliseconds.
        match tokio::task::spawn_blocking(move || encode_batch(&records)).await {
            Ok(Some(batch)) => {
                self.counters.batches.fetch_add(1, Relaxed);
                self.counters.batch_bytes.fetch_add(batch.bytes.len() as u64, Relaxed);
                self.outbox.push_back(batch);
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, "encoding a batch of {count} access log records failed");
                self.counters.lost_batches.fetch_add(1, Relaxed);
            }
        }
    }

    async fn write_series(&mut self, slot: Slot) {
        let refused = self.counted.write(&self.head, slot, self.config.stale_after.get()).await;
        self.counters.refused_samples.fetch_add(refused, Relaxed);
    }
}
