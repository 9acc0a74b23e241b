//! Gathers items into batches on their way to the store, and tells who sent them when they are stored.
//!
//! In: deliveries, each with a [`Receipt`]. Out: parcels on a bounded channel: a batch with the receipts of all that is in
//! it. Whoever writes a batch settles its receipts; a receipt that is dropped says that its items are lost, so no way out
//! of the process is taken for "stored". Invariant: a request hears one verdict, the worst of all its batches; nothing waits
//! longer than the delay for a batch to fill; batches that wait for the store are counted against a limit. It does not know
//! what items are.

mod receipt;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, sleep_until};

pub use receipt::{Receipt, Verdict, Waiting};

/// Batches encoded at the same time; more wait for one of them.
const ENCODINGS_MAX: usize = 2;

/// Items of one sender, that are stored together or in several batches.
#[derive(Debug)]
pub struct Delivery<T> {
    /// The items, in the order they came.
    pub items: Vec<T>,
    /// Whom to tell when all of them are stored.
    pub receipt: Receipt,
}

/// A batch on its way to the store.
#[derive(Debug)]
pub struct Parcel<B> {
    /// What is written.
    pub batch: B,
    /// One for each delivery that has items in it.
    pub receipts: Vec<Receipt>,
}

impl<B> Parcel<B> {
    /// Tells all senders what became of their items in this batch.
    pub fn settle(self, verdict: Verdict) {
        self.receipts.into_iter().for_each(|receipt| receipt.settle(verdict));
    }
}

/// When a batch is closed, and how many may wait.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Items of one batch at most.
    pub items: usize,
    /// How long an item waits for its batch to fill.
    pub delay: Duration,
    /// Batches that are encoded or wait for the store, at most; past it [`Batcher::has_room`] says no.
    pub pending: usize,
}

/// What a batcher counted, read by `telemetry`.
#[derive(Debug, Default)]
pub struct Counters {
    /// Batches made.
    pub batches: AtomicU64,
    /// Bytes of those batches.
    pub batch_bytes: AtomicU64,
    /// Batches waiting for the store now (a gauge).
    pub pending_batches: AtomicU64,
    /// Batches lost because the store's side was gone or did not take them before the shutdown deadline.
    pub lost_batches: AtomicU64,
}

/// Makes a batch of items and says how many bytes it has; `None` when there is nothing to store. Runs on a blocking thread.
pub type Encode<T, B> = Arc<dyn Fn(Vec<T>) -> Option<(B, usize)> + Send + Sync>;

/// Gathers items, encodes them beside the task that feeds it, and hands the batches on.
pub struct Batcher<T, B> {
    limits: Limits,
    encode: Encode<T, B>,
    output: mpsc::Sender<Parcel<B>>,
    counters: Arc<Counters>,
    gathered: Vec<T>,
    receipts: Vec<Receipt>,
    since: Option<Instant>,
    encodings: VecDeque<Encoding<B>>,
    outbox: VecDeque<Parcel<B>>,
}

/// A batch that is being encoded.
struct Encoding<B> {
    task: JoinHandle<Option<(B, usize)>>,
    receipts: Vec<Receipt>,
}

impl<T: Send + 'static, B: Send + 'static> Batcher<T, B> {
    /// An empty one.
    pub fn new(limits: Limits, encode: Encode<T, B>, output: mpsc::Sender<Parcel<B>>, counters: Arc<Counters>) -> Self {
        Self {
            limits: Limits { items: limits.items.max(1), pending: limits.pending.max(1), ..limits },
            encode,
            output,
            counters,
            gathered: Vec::new(),
            receipts: Vec::new(),
            since: None,
            encodings: VecDeque::new(),
            outbox: VecDeque::new(),
        }
    }

    /// Whether more may be gathered: so long the store takes what is made.
    pub fn has_room(&self) -> bool {
        self.pending() < self.limits.pending
    }

    fn pending(&self) -> usize {
        self.outbox.len() + self.encodings.len()
    }

    /// Adds the items of a delivery; full batches are encoded at once. Waits while [`ENCODINGS_MAX`] are being encoded.
    pub async fn gather(&mut self, delivery: Delivery<T>) {
        let Delivery { items, receipt } = delivery;
        let mut items = items.into_iter();
        while items.len() > 0 {
            let room = self.limits.items - self.gathered.len();
            self.gathered.extend(items.by_ref().take(room));
            self.receipts.push(receipt.clone());
            self.since.get_or_insert_with(Instant::now);
            if self.gathered.len() >= self.limits.items {
                self.close();
                while self.encodings.len() >= ENCODINGS_MAX {
                    let encoded = front(&mut self.encodings).await;
                    self.encoded(encoded);
                }
            }
        }
        // From here on its clones, one in each batch, say what becomes of the delivery.
        receipt.settle(Verdict::Stored);
        self.publish();
    }

    /// Does the one thing that is due next: hands a batch on, takes one that is encoded, or closes one that has waited. Never
    /// returns while there is nothing to do. `false`: nobody takes batches any more. May be dropped at any time.
    pub async fn turn(&mut self) -> bool {
        let due = self.since.map(|since| since + self.limits.delay).filter(|_| self.has_room());
        let output = self.output.clone();
        tokio::select! {
            place = output.reserve(), if !self.outbox.is_empty() => {
                let Ok(place) = place else { return false };
                if let Some(parcel) = self.outbox.pop_front() {
                    place.send(parcel);
                }
            }
            encoded = front(&mut self.encodings) => self.encoded(encoded),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.close(),
        }
        self.publish();
        true
    }

    /// Closes the last batch and hands over all there are; those that are not taken within `patience` are lost.
    pub async fn finish(&mut self, patience: Duration) {
        self.close();
        while !self.encodings.is_empty() {
            let encoded = front(&mut self.encodings).await;
            self.encoded(encoded);
        }
        let output = self.output.clone();
        let hand_over = async {
            while !self.outbox.is_empty() {
                let Ok(place) = output.reserve().await else { break };
                let Some(parcel) = self.outbox.pop_front() else { break };
                place.send(parcel);
            }
        };
        let _ = tokio::time::timeout(patience, hand_over).await;
        self.counters.lost_batches.fetch_add(self.outbox.len() as u64, Relaxed);
        self.outbox.clear();
        self.publish();
    }

    /// Begins to encode what is gathered.
    fn close(&mut self) {
        self.since = None;
        let (items, receipts) = (std::mem::take(&mut self.gathered), std::mem::take(&mut self.receipts));
        if items.is_empty() {
            return;
        }
        let encode = Arc::clone(&self.encode);
        // Compressing a full batch takes milliseconds.
        let task = tokio::task::spawn_blocking(move || encode(items));
        self.encodings.push_back(Encoding { task, receipts });
    }

    /// Takes what became of the oldest encoding.
    fn encoded(&mut self, encoded: Result<Option<(B, usize)>, JoinError>) {
        let receipts = self.encodings.pop_front().map(|encoding| encoding.receipts).unwrap_or_default();
        match encoded {
            Ok(Some((batch, bytes))) => {
                self.counters.batches.fetch_add(1, Relaxed);
                self.counters.batch_bytes.fetch_add(bytes as u64, Relaxed);
                self.outbox.push_back(Parcel { batch, receipts });
            }
            Ok(None) => receipts.into_iter().for_each(|receipt| receipt.settle(Verdict::Stored)),
            Err(error) => {
                // The same items would fail again: their senders must not come again.
                tracing::error!(%error, "encoding a batch failed");
                self.counters.lost_batches.fetch_add(1, Relaxed);
                receipts.into_iter().for_each(|receipt| receipt.settle(Verdict::Refused));
            }
        }
    }

    fn publish(&self) {
        self.counters.pending_batches.store(self.pending() as u64, Relaxed);
    }
}

/// The end of the oldest encoding; never, when there is none. May be dropped at any time: the encoding goes on.
async fn front<B>(encodings: &mut VecDeque<Encoding<B>>) -> Result<Option<(B, usize)>, JoinError> {
    match encodings.front_mut() {
        Some(encoding) => (&mut encoding.task).await,
        None => std::future::pending().await,
    }
}
