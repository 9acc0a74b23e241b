//! The journal a second time, for whoever sends samples on to other stores.
//!
//! In: each batch as it is closed. Out: [`Feed::take`], in the same order. Invariant: what waits is bounded in bytes; past
//! the limit the oldest batches go, with those of their epoch that cannot be read without them, and are counted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use super::head::Head;
use super::journal::JournalBatch;
use crate::model::Timestamp;

/// Takes every accepted sample once, from when it was made on. Dropping it ends it.
pub struct Feed {
    head: Head,
    line: Arc<Line>,
}

/// What waits for one [`Feed`].
pub(super) struct Line {
    limit_bytes: usize,
    waiting: Mutex<Waiting>,
    dropped_samples: AtomicU64,
    newest: AtomicI64,
}

#[derive(Default)]
struct Waiting {
    batches: VecDeque<JournalBatch>,
    bytes: usize,
    samples: usize,
    /// The start of the epoch that is being written was dropped: nothing can be read before the next one.
    misses_start: bool,
}

impl Head {
    /// From now on every accepted sample is kept for the feed too, in at most `limit_bytes` of journal batches.
    ///
    /// Samples that are restored at start do not come again.
    pub fn feed(&self, limit_bytes: usize) -> Feed {
        let line = Arc::new(Line {
            limit_bytes,
            waiting: Mutex::default(),
            dropped_samples: AtomicU64::new(0),
            newest: AtomicI64::new(Timestamp::MIN.as_millis()),
        });
        self.0.journal.add_line(&line, &self.0.counters);
        Feed { head: self.clone(), line }
    }
}

impl Feed {
    /// The oldest batch that waits, closing the one that is being written when there is no other.
    pub fn take(&self) -> Option<JournalBatch> {
        if self.line.waiting.lock().batches.is_empty() {
            self.head.0.journal.close_batch(&self.head.0.counters);
        }
        let mut waiting = self.line.waiting.lock();
        let batch = waiting.batches.pop_front()?;
        waiting.bytes -= batch.bytes.len();
        waiting.samples -= batch.sample_count;
        Some(batch)
    }

    /// Samples in the closed batches that wait.
    pub fn waiting_samples(&self) -> usize {
        self.line.waiting.lock().samples
    }

    /// Samples that were dropped because too many bytes waited, since this was last asked.
    pub fn take_dropped(&self) -> u64 {
        self.line.dropped_samples.swap(0, Relaxed)
    }

    /// Time of the newest sample that has come; `None` before the first.
    pub fn newest(&self) -> Option<Timestamp> {
        let newest = Timestamp::from_millis(self.line.newest.load(Relaxed));
        (newest != Timestamp::MIN).then_some(newest)
    }
}

impl Line {
    /// Takes a copy of a batch that was closed.
    pub(super) fn offer(&self, batch: &JournalBatch) {
        self.newest.fetch_max(batch.to.as_millis(), Relaxed);
        let mut waiting = self.waiting.lock();
        if waiting.misses_start && !batch.starts_epoch {
            self.dropped_samples.fetch_add(batch.sample_count as u64, Relaxed);
            return;
        }
        waiting.misses_start = false;
        waiting.bytes += batch.bytes.len();
        waiting.samples += batch.sample_count;
        waiting.batches.push_back(batch.clone());
        while waiting.bytes > self.limit_bytes {
            self.drop_oldest(&mut waiting);
            while waiting.batches.front().is_some_and(|batch| !batch.starts_epoch) {
                self.drop_oldest(&mut waiting);
            }
            waiting.misses_start = waiting.batches.is_empty();
        }
    }

    /// Most bytes that wait.
    pub(super) fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    /// Whether nothing can be read before a new epoch starts.
    pub(super) fn misses_start(&self) -> bool {
        self.waiting.lock().misses_start
    }

    fn drop_oldest(&self, waiting: &mut Waiting) {
        let Some(batch) = waiting.batches.pop_front() else { return };
        waiting.bytes -= batch.bytes.len();
        waiting.samples -= batch.sample_count;
        self.dropped_samples.fetch_add(batch.sample_count as u64, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::model::Labels;
    use crate::series::{Config, JournalReader, Told};
    use crate::units::ByteSize;

    fn head(journal_limit_bytes: u64) -> Head {
        Head::new(Config { journal_limit_bytes: ByteSize(journal_limit_bytes), ..Config::default() })
    }

    fn append(head: &Head, from: i64, to: i64) {
        for i in from..to {
            let series = ["a", "b"].map(|name| head.intern(&Labels::from_pairs([("__name__", name)])).unwrap());
            // Values that do not compress, so that a few batches fill a small limit.
            let value = |salt: u64| f64::from_bits((i as u64 + salt).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 12);
            head.append_at(Timestamp::from_millis(i * 1000), &[(series[0], value(0)), (series[1], value(7))]);
        }
    }

    /// All that waits, as `name@seconds`.
    fn read(feed: &Feed, reader: &mut JournalReader<(), String>) -> Vec<String> {
        let mut found = Vec::new();
        while let Some(batch) = feed.take() {
            let told = Told {
                block: &mut |_| (),
                member: &mut |(), metric, _| Some(metric.to_owned()),
                row: &mut |at, row| {
                    found.extend(row.iter().map(|(name, _)| format!("{name}@{}", at.as_millis() / 1000)));
                },
            };
            reader.read(&batch.bytes, told).unwrap();
        }
        found
    }

    #[test]
    fn a_feed_gets_every_sample_from_its_beginning_on_whether_or_not_a_journal_is_kept() {
        for limit in [0, 1 << 20] {
            let head = head(limit);
            append(&head, 0, 3);
            let (feed, mut reader) = (head.feed(1 << 20), JournalReader::default());
            append(&head, 3, 5);
            assert_eq!(read(&feed, &mut reader), ["a@3", "b@3", "a@4", "b@4"], "limit {limit}");
            assert!(limit == 0 || head.drain_journal().is_some(), "the journal has its own copy");
            append(&head, 5, 6);
            assert_eq!(read(&feed, &mut reader), ["a@5", "b@5"]);
            assert_eq!((feed.waiting_samples(), feed.newest()), (0, Some(Timestamp::from_millis(5000))));
        }
    }

    #[test]
    fn a_full_feed_drops_the_oldest_counts_them_and_stays_readable() {
        for journal_limit in [0, 1 << 20] {
            let head = head(journal_limit);
            let (feed, mut reader) = (head.feed(4096), JournalReader::default());
            let mut read_before = Vec::new();
            for i in 0..400 {
                append(&head, i, i + 1);
                head.0.journal.close_batch(&head.0.counters);
                if i == 2 {
                    read_before = read(&feed, &mut reader);
                }
            }
            assert_eq!(read_before.len(), 6);
            let rest = read(&feed, &mut reader);
            assert_eq!(read_before.len() + rest.len() + feed.take_dropped() as usize, 800, "journal {journal_limit}");
            assert!(rest.is_empty() || rest.last().is_some_and(|last| last == "b@399"), "{rest:?}");
            append(&head, 400, 401);
            assert_eq!(read(&feed, &mut reader).last().map(String::as_str), Some("b@400"));
        }
    }
}
