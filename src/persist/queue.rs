//! Writes what comes through a channel: batches of spans and of access logs, and alert transitions.
//!
//! Invariant: what is held is bounded. While PostgreSQL is away the queue fills, then is no longer read; the channel fills,
//! and its sender refuses or waits as it sees fit. Nothing that was taken is dropped but what PostgreSQL refuses for good.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{LAST_PASS_LIMIT, PartStatus, WRITE_LIMIT, limited};
use crate::clock::Clock;
use crate::model::AlertTransition;
use crate::model::access_log::AccessLogBatch;
use crate::model::span::SpanBatch;
use crate::store::{Store, StoreError};

/// Limits of one queue, in its own unit of weight.
#[derive(Clone, Copy)]
struct Limits {
    /// Written together.
    batch: usize,
    /// Held at most.
    held: usize,
    /// How long an item waits for others.
    linger: Duration,
}

/// Spans and access logs: weighed in bytes, with about 100 bytes for each index row.
const SPANS: Limits = Limits { batch: 4 << 20, held: 64 << 20, linger: Duration::from_millis(500) };
/// Alert transitions: counted.
const ALERTS: Limits = Limits { batch: 1000, held: 50_000, linger: Duration::from_millis(500) };

/// Writes span batches.
pub struct SpanPersist {
    input: mpsc::Receiver<SpanBatch>,
    store: Store,
    clock: Clock,
    status: Arc<PartStatus>,
}

impl SpanPersist {
    /// Writes what `input` brings.
    pub fn new(input: mpsc::Receiver<SpanBatch>, store: Store, clock: Clock) -> Self {
        Self { input, store, clock, status: Arc::new(PartStatus::new("spans")) }
    }

    /// How it fares.
    pub fn status(&self) -> Arc<PartStatus> {
        Arc::clone(&self.status)
    }

    /// Writes until the channel is closed, or `shutdown` fires and the channel is empty.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { input, store, clock, status } = self;
        let weight = |batch: &SpanBatch| batch.bytes.len() + 100 * batch.parts.len();
        let count = |batch: &SpanBatch| batch.span_count as usize;
        let write = move |batches: Vec<SpanBatch>| {
            let store = store.clone();
            async move { store.write_spans(batches).await }
        };
        Queue { input, held: VecDeque::new(), held_weight: 0, limits: SPANS, weight, count, clock, status }
            .run(write, shutdown)
            .await;
    }
}

/// Writes batches of access log records.
pub struct AccessLogPersist {
    input: mpsc::Receiver<AccessLogBatch>,
    store: Store,
    clock: Clock,
    status: Arc<PartStatus>,
}

impl AccessLogPersist {
    /// Writes what `input` brings.
    pub fn new(input: mpsc::Receiver<AccessLogBatch>, store: Store, clock: Clock) -> Self {
        Self { input, store, clock, status: Arc::new(PartStatus::new("access_logs")) }
    }

    /// How it fares.
    pub fn status(&self) -> Arc<PartStatus> {
        Arc::clone(&self.status)
    }

    /// Writes until the channel is closed, or `shutdown` fires and the channel is empty.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { input, store, clock, status } = self;
        let weight = |batch: &AccessLogBatch| batch.bytes.len() + 100 * batch.parts.len();
        let count = |batch: &AccessLogBatch| batch.record_count as usize;
        let write = move |batches: Vec<AccessLogBatch>| {
            let store = store.clone();
            async move { store.write_access_logs(batches).await }
        };
        Queue { input, held: VecDeque::new(), held_weight: 0, limits: SPANS, weight, count, clock, status }
            .run(write, shutdown)
            .await;
    }
}

/// Writes alert transitions.
pub struct AlertPersist {
    input: mpsc::Receiver<AlertTransition>,
    store: Store,
    clock: Clock,
    status: Arc<PartStatus>,
}

impl AlertPersist {
    /// Writes what `input` brings.
    pub fn new(input: mpsc::Receiver<AlertTransition>, store: Store, clock: Clock) -> Self {
        Self { input, store, clock, status: Arc::new(PartStatus::new("alerts")) }
    }

    /// How it fares.
    pub fn status(&self) -> Arc<PartStatus> {
        Arc::clone(&self.status)
    }

    /// Writes until the channel is closed, or `shutdown` fires and the channel is empty.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { input, store, clock, status } = self;
        let write = move |events: Vec<AlertTransition>| {
            let store = store.clone();
            async move { store.append_alert_events(&events).await }
        };
        let one = |_: &AlertTransition| 1;
        Queue { input, held: VecDeque::new(), held_weight: 0, limits: ALERTS, weight: one, count: one, clock, status }
            .run(write, shutdown)
            .await;
    }
}

struct Queue<T> {
    input: mpsc::Receiver<T>,
    held: VecDeque<T>,
    held_weight: usize,
    limits: Limits,
    weight: fn(&T) -> usize,
    count: fn(&T) -> usize,
    clock: Clock,
    status: Arc<PartStatus>,
}

impl<T: Clone> Queue<T> {
    async fn run<F>(mut self, write: impl Fn(Vec<T>) -> F, shutdown: CancellationToken)
    where
        F: Future<Output = Result<(), StoreError>>,
    {
        let mut due = Instant::now();
        let mut open = true;
        while open || !self.held.is_empty() {
            tokio::select! {
                () = shutdown.cancelled() => break,
                item = self.input.recv(), if open && self.held_weight < self.limits.held => match item {
                    Some(item) => {
                        if self.held.is_empty() {
                            due = due.max(Instant::now() + self.limits.linger);
                        }
                        self.hold(item);
                        // A full batch waits for nobody, but a failed one waits for its pause.
                        let well = self.status.state().failures_in_a_row == 0;
                        if self.held_weight < self.limits.batch || !well {
                            continue;
                        }
                        due = Instant::now();
                    }
                    None => open = false,
                },
                () = tokio::time::sleep_until(due), if !self.held.is_empty() => {}
            }
            if Instant::now() >= due || !open {
                due = Instant::now();
                if let Err(error) = self.flush(&write, WRITE_LIMIT).await {
                    due += self.status.failed(self.clock.now(), &error);
                    if !open {
                        tokio::select! {
                            () = shutdown.cancelled() => break,
                            () = tokio::time::sleep_until(due) => {}
                        }
                    }
                }
            }
        }
        self.last_pass(&write).await;
    }

    /// What is still in the channel counts as taken.
    async fn last_pass<F>(&mut self, write: &impl Fn(Vec<T>) -> F)
    where
        F: Future<Output = Result<(), StoreError>>,
    {
        self.input.close();
        while let Some(item) = self.input.recv().await {
            self.hold(item);
        }
        if let Err(error) = self.flush(write, LAST_PASS_LIMIT).await {
            self.status.failed(self.clock.now(), &error);
            let lost = self.held.len();
            tracing::error!("the last {lost} of {} before shutdown are not written: {error}", self.status.name);
        }
    }

    fn hold(&mut self, item: T) {
        self.held_weight += (self.weight)(&item);
        self.status.pending.fetch_add((self.count)(&item) as u64, Relaxed);
        self.held.push_back(item);
    }

    /// Writes all that is held, oldest first.
    async fn flush<F>(&mut self, write: &impl Fn(Vec<T>) -> F, limit: Duration) -> Result<(), StoreError>
    where
        F: Future<Output = Result<(), StoreError>>,
    {
        while !self.held.is_empty() {
            let batch = self.next_batch();
            match limited(limit, "write", write(batch.clone())).await {
                Ok(()) => self.done(batch.len(), true),
                Err(error) if error.is_temporary() => return Err(error),
                Err(error) if batch.len() == 1 => {
                    self.status.gave_up(self.clock.now(), (self.count)(&batch[0]), &error);
                    self.done(1, false);
                }
                // One of them is refused: the others must not go with it.
                Err(_) => self.write_each(batch, write, limit).await?,
            }
        }
        Ok(())
    }

    async fn write_each<F>(
        &mut self,
        batch: Vec<T>,
        write: &impl Fn(Vec<T>) -> F,
        limit: Duration,
    ) -> Result<(), StoreError>
    where
        F: Future<Output = Result<(), StoreError>>,
    {
        for item in batch {
            let count = (self.count)(&item);
            match limited(limit, "write", write(vec![item])).await {
                Ok(()) => self.done(1, true),
                Err(error) if error.is_temporary() => return Err(error),
                Err(error) => {
                    self.status.gave_up(self.clock.now(), count, &error);
                    self.done(1, false);
                }
            }
        }
        Ok(())
    }

    fn next_batch(&self) -> Vec<T> {
        let mut weight = 0;
        let fits = |item: &&T| {
            let first = weight == 0;
            weight += (self.weight)(item).max(1);
            first || weight <= self.limits.batch
        };
        self.held.iter().take_while(fits).cloned().collect()
    }

    fn done(&mut self, items: usize, written: bool) {
        let mut counted = 0;
        for item in self.held.drain(..items) {
            self.held_weight -= (self.weight)(&item);
            counted += (self.count)(&item);
        }
        self.status.pending.fetch_sub(counted as u64, Relaxed);
        if written {
            self.status.succeeded(self.clock.now(), counted);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::model::Timestamp;
    use parking_lot::Mutex;

    const LIMITS: Limits = Limits { batch: 4, held: 8, linger: Duration::from_millis(500) };

    fn queue(input: mpsc::Receiver<u32>) -> Queue<u32> {
        let clock = Clock::starting_at(Timestamp::from_millis(0));
        let status = Arc::new(PartStatus::new("test"));
        let one = |_: &u32| 1;
        Queue { input, held: VecDeque::new(), held_weight: 0, limits: LIMITS, weight: one, count: one, clock, status }
    }

    fn away() -> StoreError {
        StoreError::Query { doing: "test", source: sqlx::Error::PoolTimedOut }
    }

    #[tokio::test(start_paused = true)]
    async fn holds_a_bounded_number_while_the_store_is_away_and_writes_all_in_order_after() {
        let (sender, input) = mpsc::channel(2);
        let queue = queue(input);
        let status = Arc::clone(&queue.status);
        let written = Arc::new(Mutex::new(Vec::new()));
        let back = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let write = {
            let (written, back) = (Arc::clone(&written), Arc::clone(&back));
            move |batch: Vec<u32>| {
                let (written, back) = (Arc::clone(&written), Arc::clone(&back));
                async move {
                    if !back.load(Relaxed) {
                        return Err(away());
                    }
                    written.lock().push(batch);
                    Ok(())
                }
            }
        };
        let task = tokio::spawn(queue.run(write, CancellationToken::new()));
        let mut sent = 0;
        while tokio::time::timeout(Duration::from_secs(120), sender.send(sent)).await.is_ok() {
            sent += 1;
        }
        assert_eq!(sent, 10, "8 held and 2 in the channel");
        assert_eq!(status.pending.load(Relaxed), 8);
        back.store(true, Relaxed);
        drop(sender);
        task.await.unwrap();
        let written = written.lock().clone();
        assert!(written.iter().all(|batch| batch.len() <= 4), "{written:?}");
        assert_eq!(written.concat(), (0..10).collect::<Vec<_>>());
        assert_eq!((status.written.load(Relaxed), status.pending.load(Relaxed)), (10, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn one_refused_item_does_not_take_the_others_with_it() {
        let (sender, input) = mpsc::channel(8);
        let queue = queue(input);
        let status = Arc::clone(&queue.status);
        let written = Arc::new(Mutex::new(Vec::new()));
        let write = {
            let written = Arc::clone(&written);
            move |batch: Vec<u32>| {
                let written = Arc::clone(&written);
                async move {
                    if batch.contains(&2) {
                        return Err(StoreError::Query { doing: "test", source: sqlx::Error::RowNotFound });
                    }
                    written.lock().extend(batch);
                    Ok(())
                }
            }
        };
        for item in 0..5 {
            sender.send(item).await.unwrap();
        }
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        queue.run(write, shutdown).await;
        assert_eq!(*written.lock(), [0, 1, 3, 4]);
        assert_eq!((status.written.load(Relaxed), status.dropped.load(Relaxed)), (4, 1));
    }
}
