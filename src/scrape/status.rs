//! What pages and APIs show of scraping: each target's health, dropped targets, metadata.
//!
//! A read handle; only scraping writes. Answers are copies, so no reader holds up a scrape longer than a clone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use super::MetricMetadata;
use crate::discovery::{Target, TargetKey, Targets};
use crate::model::Timestamp;

/// Whether the last scrape worked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// Not scraped yet.
    #[default]
    Unknown,
    /// It did.
    Up,
    /// It did not.
    Down,
}

impl Health {
    /// As `/api/v1/targets` writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// One target and its last scrape.
#[derive(Clone, Debug)]
pub struct TargetStatus {
    /// The target.
    pub target: Arc<Target>,
    /// Whether the last scrape worked.
    pub health: Health,
    /// Why it did not.
    pub last_error: Option<String>,
    /// When it began.
    pub last_scrape: Option<Timestamp>,
    /// How long it took.
    pub last_duration: Duration,
    /// Samples on the page.
    pub samples_scraped: u64,
    /// Samples left after relabelling.
    pub samples_kept: u64,
    /// Series that were not there the scrape before.
    pub series_added: u64,
    /// What is remembered of its page to read the next one: bytes of memory, about.
    pub remembered_bytes: usize,
}

impl TargetStatus {
    fn new(target: Arc<Target>) -> Self {
        Self {
            target,
            health: Health::Unknown,
            last_error: None,
            last_scrape: None,
            last_duration: Duration::ZERO,
            samples_scraped: 0,
            samples_kept: 0,
            series_added: 0,
            remembered_bytes: 0,
        }
    }
}

/// What one target says about its metrics.
#[derive(Clone, Debug)]
pub struct TargetMetadata {
    /// The target.
    pub target: Arc<Target>,
    /// Its metrics, by name.
    pub metrics: Arc<[Arc<MetricMetadata>]>,
}

/// One target as its loop writes it.
#[derive(Debug)]
pub(super) struct Cell {
    pub status: Mutex<TargetStatus>,
    pub metadata: Mutex<Arc<[Arc<MetricMetadata>]>>,
}

impl Cell {
    pub fn new(target: Arc<Target>) -> Self {
        Self { status: Mutex::new(TargetStatus::new(target)), metadata: Mutex::new(Arc::default()) }
    }
}

/// The state of scraping. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Status(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    cells: RwLock<BTreeMap<TargetKey, Arc<Cell>>>,
    discovered: RwLock<Arc<Targets>>,
}

impl Status {
    /// All active targets, by job, then labels.
    pub fn targets(&self) -> Vec<TargetStatus> {
        self.0.cells.read().values().map(|cell| cell.status.lock().clone()).collect()
    }

    /// Bytes of memory that the pages of all targets take between scrapes, about.
    pub fn remembered_bytes(&self) -> usize {
        self.0.cells.read().values().map(|cell| cell.status.lock().remembered_bytes).sum()
    }

    /// What discovery found last: dropped targets and its problems.
    pub fn discovered(&self) -> Arc<Targets> {
        Arc::clone(&self.0.discovered.read())
    }

    /// The metadata of each active target, by metric name. Equal texts are shared.
    pub fn metadata(&self) -> Vec<TargetMetadata> {
        let read = |cell: &Arc<Cell>| TargetMetadata {
            target: Arc::clone(&cell.status.lock().target),
            metrics: Arc::clone(&cell.metadata.lock()),
        };
        self.0.cells.read().values().map(read).collect()
    }

    pub(super) fn set_discovered(&self, discovered: Arc<Targets>) {
        *self.0.discovered.write() = discovered;
    }

    pub(super) fn add(&self, key: TargetKey, cell: Arc<Cell>) {
        self.0.cells.write().insert(key, cell);
    }

    pub(super) fn remove(&self, key: &TargetKey) {
        self.0.cells.write().remove(key);
    }
}
