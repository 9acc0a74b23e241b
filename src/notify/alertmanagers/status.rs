//! Which Alertmanagers there are and how they fare.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use parking_lot::RwLock;

/// What was sent to one Alertmanager.
#[derive(Debug, Default)]
pub struct AlertmanagerCounters {
    /// Alerts in requests, taken or not.
    pub sent: AtomicU64,
    /// Of these the ones in requests that failed.
    pub errors: AtomicU64,
    /// Alerts that were never sent: the queue was full, or the process ended.
    pub dropped: AtomicU64,
    /// Alerts that wait.
    pub queue_length: AtomicU64,
    /// Requests.
    pub requests: AtomicU64,
    /// Time that requests took, microseconds.
    pub request_time_us: AtomicU64,
    /// Whether the last request failed.
    pub is_failing: AtomicBool,
}

/// Reads which Alertmanagers there are. Copies read the same.
#[derive(Clone, Debug, Default)]
pub struct AlertmanagerStatus(Arc<Board>);

#[derive(Debug, Default)]
struct Board {
    known: RwLock<Known>,
    unsent: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    active: BTreeSet<String>,
    dropped: Vec<String>,
    counters: BTreeMap<String, Arc<AlertmanagerCounters>>,
}

impl AlertmanagerStatus {
    /// Most alerts that wait for each.
    pub const QUEUE_CAPACITY: usize = super::line::QUEUE_CAPACITY;

    /// Addresses that alerts are sent to, sorted, without passwords.
    pub fn active(&self) -> Vec<String> {
        self.0.known.read().active.iter().map(|url| without_password(url)).collect()
    }

    /// Addresses that relabelling dropped, without passwords.
    pub fn dropped(&self) -> Vec<String> {
        self.0.known.read().dropped.iter().map(|url| without_password(url)).collect()
    }

    /// The counters of each that alerts are sent to, by address without password.
    pub fn counters_of_active(&self) -> Vec<(String, Arc<AlertmanagerCounters>)> {
        let known = self.0.known.read();
        let active = known.active.iter().filter_map(|url| Some((url, known.counters.get(url)?)));
        active.map(|(url, counters)| (without_password(url), Arc::clone(counters))).collect()
    }

    /// Alerts that came while Alertmanagers were configured but none was found.
    pub fn unsent(&self) -> u64 {
        self.0.unsent.load(Relaxed)
    }

    pub(super) fn lose_unsent(&self, count: usize) {
        self.0.unsent.fetch_add(count as u64, Relaxed);
    }

    /// The counters of that address; one that comes back goes on counting.
    pub(super) fn counters(&self, url: &str) -> Arc<AlertmanagerCounters> {
        Arc::clone(self.0.known.write().counters.entry(url.to_owned()).or_default())
    }

    pub(super) fn set(&self, active: BTreeSet<String>, dropped: Vec<String>) {
        let mut known = self.0.known.write();
        let Known { counters, .. } = &mut *known;
        counters.retain(|url, _| active.contains(url));
        (known.active, known.dropped) = (active, dropped);
    }
}

/// A URL without the password it may hold.
pub(super) fn without_password(url: &str) -> String {
    match reqwest::Url::parse(url) {
        Ok(mut parsed) if parsed.password().is_some() => {
            // Fails only for URLs that cannot have one.
            let _ = parsed.set_password(Some("xxxxx"));
            parsed.into()
        }
        _ => url.to_owned(),
    }
}
