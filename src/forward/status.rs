//! How each remote fares, for the metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};

use parking_lot::RwLock;

/// What one remote has done since it was started.
#[derive(Debug, Default)]
pub struct Counters {
    /// Samples that wait or are under way, unpacked.
    pub unpacked_samples: AtomicU64,
    /// Samples that wait in closed batches of the journal.
    pub packed_samples: AtomicU64,
    /// Samples of the journal that a process before this one did not send, and that are still to be sent.
    pub journal_samples: AtomicU64,
    /// Journal entries that were trimmed before they were sent, at most.
    pub missed_entries: AtomicU64,
    /// Samples sent a second time after a start that the receiver refused, most of them because it has them.
    pub repeated_samples: AtomicU64,
    /// Samples that the receiver took.
    pub sent_samples: AtomicU64,
    /// Samples that the receiver refused for good.
    pub failed_samples: AtomicU64,
    /// Samples of requests that failed and were tried again.
    pub retried_samples: AtomicU64,
    /// Samples dropped because too many waited.
    pub dropped_backlog: AtomicU64,
    /// Samples of batches of the journal that could not be read.
    pub dropped_unreadable: AtomicU64,
    /// Samples dropped because of `sample_age_limit`.
    pub dropped_too_old: AtomicU64,
    /// Samples dropped because the process, or the remote, ended before they were taken.
    pub dropped_shutdown: AtomicU64,
    /// Bytes of requests that were taken, compressed.
    pub sent_bytes: AtomicU64,
    /// Exemplars that the receiver took.
    pub sent_exemplars: AtomicU64,
    /// Exemplars dropped because too many waited for a sample of their series.
    pub dropped_exemplars: AtomicU64,
    /// Metrics whose metadata the receiver took.
    pub sent_metadata: AtomicU64,
    /// Metrics whose metadata it did not take.
    pub failed_metadata: AtomicU64,
    /// Time of the newest sample that came, milliseconds.
    pub newest_in_ms: AtomicI64,
    /// Time of the newest sample that was taken, milliseconds.
    pub newest_sent_ms: AtomicI64,
    /// Requests that may be under way at once.
    pub shards: AtomicU64,
}

/// Reads how the remotes fare. Copies read the same.
#[derive(Clone, Debug, Default)]
pub struct Status(Arc<RwLock<BTreeMap<String, Arc<Counters>>>>);

impl Status {
    /// The counters of each remote, by name.
    pub fn remotes(&self) -> Vec<(String, Arc<Counters>)> {
        self.0.read().iter().map(|(name, counters)| (name.clone(), Arc::clone(counters))).collect()
    }

    /// The counters of that remote; a remote that starts anew goes on counting.
    pub(super) fn counters(&self, name: &str) -> Arc<Counters> {
        Arc::clone(self.0.write().entry(name.to_owned()).or_default())
    }

    pub(super) fn remove(&self, name: &str) {
        self.0.write().remove(name);
    }
}
