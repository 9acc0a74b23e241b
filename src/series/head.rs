//! The memory tier: series by label set, appended to by scrapes and rules, read by queries.
//!
//! In: label sets and samples. Out: references, selections, journal batches, closed chunks. Invariants: a query never
//! holds a lock while it reads samples; an append takes the lock of one group, and of the index only for what is new.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicI64, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use serde::Deserialize;

use super::cardinality::Reports;
use super::exemplars::Exemplars;
use super::group::Group;
use super::index::{BlockRef, Index, SharedLabels};
use super::journal::{Journal, JournalBatch};
use super::label_cache::LabelCache;
use super::label_rules::{LabelLists, LabelRules, problems};
use super::past::Past;
use super::replay::JournalReader;
use super::safe_mode::SafeMode;
use crate::model::{Labels, Timestamp};
use crate::units::{ByteSize, PromDuration};

/// Rows that wait this long after the last one are packed at garbage collection: their target is gone or slow.
const IDLE: Duration = Duration::from_secs(5 * 60);

/// Limits of the memory tier.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long samples stay in memory. Default 3 h.
    pub memory_window: PromDuration,
    /// How far behind the newest sample of its series a sample may be. Default 0: only newer ones.
    pub out_of_order_window: PromDuration,
    /// Most series in memory; past it new series are refused and counted. Default 2 million.
    pub series_limit: usize,
    /// Most bytes of samples that wait to be written to the journal in PostgreSQL; past it the oldest are dropped and
    /// counted. Default 256MiB; 0 keeps no journal.
    pub journal_limit_bytes: ByteSize,
    /// Memory of the process above which safe mode begins; 0: never. Default: three quarters of what the machine or the
    /// control group allows.
    pub memory_limit: Option<ByteSize>,
    /// Labels of metrics (`*` in the name stands for any text) that alone are stored; series that become equal are added.
    pub keep_labels: LabelLists,
    /// Labels of metrics that are not stored; series that become equal are added.
    pub drop_labels: LabelLists,
    /// Most exemplars in memory, of all series; past it the oldest goes. About 200 bytes each. Default 100,000; 0 keeps
    /// none.
    pub exemplars: usize,
}

impl Default for Config {
    fn default() -> Self {
        let hours = |h: u64| PromDuration::from(Duration::from_secs(h * 3600));
        Self {
            memory_window: hours(3),
            out_of_order_window: hours(0),
            series_limit: 2_000_000,
            journal_limit_bytes: ByteSize(256 << 20),
            memory_limit: None,
            keep_labels: LabelLists::new(),
            drop_labels: LabelLists::new(),
            exemplars: 100_000,
        }
    }
}

impl Config {
    /// What is wrong with the rules for labels.
    pub fn problems(&self) -> Vec<String> {
        let mut found = problems("storage.keep_labels", &self.keep_labels);
        found.extend(problems("storage.drop_labels", &self.drop_labels));
        found
    }
}

/// Names one series of the memory tier while it lives; never reused for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesRef(pub(crate) u64);

impl SeriesRef {
    /// A number that no other series has while this one lives: small, so that it may be a place in a table.
    pub(crate) fn place(self) -> usize {
        self.0 as u32 as usize
    }
}

/// One sample of one series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Which series.
    pub series: SeriesRef,
    /// When.
    pub at: Timestamp,
    /// What; a stale marker ends the series.
    pub value: f64,
}

/// Why a series was refused.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The memory tier is full.
    #[error("the limit of {limit} series in memory (storage.series_limit) is reached")]
    SeriesLimit {
        /// The limit.
        limit: usize,
    },
}

/// What became of the rows of one append.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// Stored.
    pub accepted: usize,
    /// Same time and same bits as what is stored: nothing to do.
    pub duplicates: usize,
    /// Same time as what is stored, another value: refused.
    pub conflicting: usize,
    /// Older than the newest sample of its series by more than the window: refused.
    pub out_of_order: usize,
    /// Indices into the batch whose series no longer lives: intern it again.
    pub vanished: Vec<usize>,
}

/// What the memory tier has counted since it was made.
#[derive(Debug, Default)]
pub struct Counters {
    /// Samples stored.
    pub samples_accepted: AtomicU64,
    /// Samples that were there already, with the same value.
    pub samples_duplicate: AtomicU64,
    /// Samples refused because another value was there for their time.
    pub samples_conflicting: AtomicU64,
    /// Samples refused because they were too old.
    pub samples_out_of_order: AtomicU64,
    /// Samples dropped because they left the memory window.
    pub samples_expired: AtomicU64,
    /// Series made.
    pub series_created: AtomicU64,
    /// Series forgotten because they had no samples any more.
    pub series_removed: AtomicU64,
    /// New series refused because of the limit.
    pub series_refused: AtomicU64,
    /// Journal batches dropped because PostgreSQL did not take them in time.
    pub journal_dropped_batches: AtomicU64,
    /// Samples in those batches.
    pub journal_dropped_samples: AtomicU64,
}

/// The memory tier. Clones share it.
#[derive(Clone)]
pub struct Head(pub(super) Arc<Shared>);

/// What clones of a [`Head`] share.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) index: RwLock<Index>,
    pub(super) label_cache: LabelCache,
    pub(super) label_rules: LabelRules,
    pub(super) safe_mode: SafeMode,
    pub(super) reports: Reports,
    pub(super) groups: Mutex<Vec<Arc<Group>>>,
    pub(super) next_group: AtomicU64,
    pub(super) journal: Journal,
    pub(super) replayer: Mutex<JournalReader<SharedLabels, SeriesRef>>,
    pub(super) exemplars: Exemplars,
    pub(super) counters: Counters,
    /// From when on all samples are here; [`Timestamp::MAX`] before the first.
    pub(super) complete_from: AtomicI64,
    /// What `complete_from` begins with at least: samples before it were let go of, or written past memory.
    pub(super) incomplete_until: AtomicI64,
    /// Up to where samples are in chunks; [`Timestamp::MIN`] before the first cut.
    pub(super) chunked_until: AtomicI64,
    /// Before it samples are late: their window is cut, or being cut, into chunks.
    pub(super) closing: AtomicI64,
    pub(super) past: Mutex<Past>,
    /// Before it samples have left memory that were in no chunk; [`Timestamp::MIN`]: none have.
    pub(super) lost_until: AtomicI64,
    pub(super) max_time: AtomicI64,
}

impl Head {
    /// An empty memory tier.
    pub fn new(config: Config) -> Self {
        let limit_bytes = usize::try_from(config.journal_limit_bytes.0).unwrap_or(usize::MAX);
        let safe_mode = SafeMode::default();
        safe_mode.set_limit(config.memory_limit.map_or(0, |limit| limit.0));
        let exemplars = Exemplars::new(config.exemplars);
        Self(Arc::new(Shared {
            label_rules: LabelRules::new(&config.keep_labels, &config.drop_labels),
            safe_mode,
            reports: Reports::default(),
            config,
            index: RwLock::new(Index::new()),
            label_cache: LabelCache::default(),
            groups: Mutex::default(),
            next_group: AtomicU64::new(0),
            journal: Journal::new(limit_bytes),
            replayer: Mutex::default(),
            exemplars,
            counters: Counters::default(),
            complete_from: AtomicI64::new(Timestamp::MAX.as_millis()),
            incomplete_until: AtomicI64::new(Timestamp::MIN.as_millis()),
            chunked_until: AtomicI64::new(Timestamp::MIN.as_millis()),
            lost_until: AtomicI64::new(Timestamp::MIN.as_millis()),
            closing: AtomicI64::new(Timestamp::MIN.as_millis()),
            past: Mutex::default(),
            max_time: AtomicI64::new(Timestamp::MIN.as_millis()),
        }))
    }

    /// Finds or makes the series of that label set.
    ///
    /// A series that gets no sample is forgotten at the second garbage collection after this.
    ///
    /// # Errors
    /// When a new series would pass the limit.
    pub fn intern(&self, labels: &Labels) -> Result<SeriesRef, AppendError> {
        if let Some(found) = self.0.index.read().find(labels) {
            return Ok(SeriesRef(found));
        }
        let mut index = self.0.index.write();
        let limit = self.0.config.series_limit;
        if index.len() >= limit {
            if let Some(found) = index.find(labels) {
                return Ok(SeriesRef(found));
            }
            self.0.counters.series_refused.fetch_add(1, Relaxed);
            return Err(AppendError::SeriesLimit { limit });
        }
        let (reference, is_new) = index.intern(labels);
        self.0.counters.series_created.fetch_add(u64::from(is_new), Relaxed);
        Ok(SeriesRef(reference))
    }

    /// Whether a series of these labels is in memory.
    pub fn holds(&self, labels: &Labels) -> bool {
        self.0.index.read().find(labels).is_some()
    }

    /// What a series has in common with those whose labels differ only in the metric name and `le`, for
    /// [`Head::intern_in`].
    pub(crate) fn block_of(&self, series: SeriesRef) -> Option<BlockRef> {
        self.0.index.read().block_of(series.0)
    }

    /// As [`Head::intern`], for a series of a known block: its other labels are not looked at. `None` when no series of
    /// the block lives any more.
    pub(crate) fn intern_in(
        &self,
        block: BlockRef,
        metric: &str,
        bucket: &str,
    ) -> Option<Result<SeriesRef, AppendError>> {
        let mut index = self.0.index.write();
        if let Some(found) = index.find_in(block, metric, bucket).ok()? {
            return Some(Ok(SeriesRef(found)));
        }
        let limit = self.0.config.series_limit;
        if index.len() >= limit {
            self.0.counters.series_refused.fetch_add(1, Relaxed);
            return Some(Err(AppendError::SeriesLimit { limit }));
        }
        self.0.counters.series_created.fetch_add(1, Relaxed);
        Some(Ok(SeriesRef(index.make_in(block, metric, bucket))))
    }

    /// The label set of a living series.
    pub fn labels(&self, series: SeriesRef) -> Option<Labels> {
        self.0.index.read().labels(series.0)
    }

    /// The sample of a series at that very time, when memory has one.
    pub fn value_at(&self, series: SeriesRef, at: Timestamp) -> Option<f64> {
        let places: Vec<super::index::Place> = self.0.index.read().places(series.0).cloned().collect();
        places.iter().find_map(|place| place.group.lock().value_at(place.slot, at.as_millis())).map(f64::from_bits)
    }

    /// Appends samples that share one time: a scrape, an evaluation.
    ///
    /// Cheapest when the same series come in the same order each time.
    pub fn append_at(&self, at: Timestamp, batch: &[(SeriesRef, f64)]) -> Appended {
        self.0.append_live(at.as_millis(), batch)
    }

    /// Appends samples at their own times, of each series the older before the newer.
    pub fn append(&self, rows: &[Row]) -> Appended {
        let mut appended = Appended::default();
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|i| rows[*i].at); // stable: equal times stay in the order given
        for same_time in order.chunk_by(|a, b| rows[*a].at == rows[*b].at) {
            let batch: Vec<(SeriesRef, f64)> = same_time.iter().map(|i| (rows[*i].series, rows[*i].value)).collect();
            let part = self.append_at(rows[same_time[0]].at, &batch);
            appended.accepted += part.accepted;
            appended.duplicates += part.duplicates;
            appended.conflicting += part.conflicting;
            appended.out_of_order += part.out_of_order;
            appended.vanished.extend(part.vanished.into_iter().map(|i| same_time[i]));
        }
        appended.vanished.sort_unstable();
        appended
    }

    /// Drops samples older than the memory window before `now`, and series without samples. Call it each minute or so.
    ///
    /// Samples go in blocks of up to 128 times, so some older ones stay a while.
    pub fn collect_garbage(&self, now: Timestamp) {
        let shared = &self.0;
        let horizon = now - self.kept();
        shared.raise_complete_from(horizon.as_millis());
        // Late samples stay until they are in chunks, or for some hours. Held throughout, so that none comes in unseen.
        let mut past = shared.past.lock();
        let pinned = shared.groups_of(&past.pinned(now));
        let groups = shared.groups.lock().clone();
        let (mut expired, mut removed) = (0, 0);
        for group in groups.iter().filter(|group| !pinned.contains(&group.id())) {
            let mut state = group.lock();
            let collected = state.collect(horizon.as_millis(), (now - IDLE).as_millis());
            expired += collected.dropped;
            if collected.dropped > 0 && horizon.as_millis() > shared.chunked_until.load(Relaxed) {
                shared.lost_until.fetch_max(horizon.as_millis(), Relaxed);
            }
            if collected.emptied.is_empty() {
                continue;
            }
            let mut index = shared.index.write();
            for (slot, reference) in collected.emptied {
                state.vacate(slot);
                removed += u64::from(index.vacate(reference, group.id(), slot));
            }
        }
        shared.groups.lock().retain(|group| !group.lock().is_deserted());
        removed += shared.index.write().remove_unused() as u64;
        shared.label_cache.age();
        shared.counters.samples_expired.fetch_add(expired, Relaxed);
        shared.counters.series_removed.fetch_add(removed, Relaxed);
    }

    /// How long samples stay in memory at present: `storage.memory_window`, or less when memory is short.
    pub fn kept(&self) -> Duration {
        self.0.safe_mode.window(self.0.config.memory_window.get())
    }

    /// From when on memory holds every sample: before it only PostgreSQL does. [`Timestamp::MAX`] before the first sample.
    pub fn complete_from(&self) -> Timestamp {
        Timestamp::from_millis(self.0.complete_from.load(Relaxed))
    }

    /// Takes the oldest journal batch, `None` when nothing was appended since.
    ///
    /// Whoever takes it owns it: write it, or offer it again with [`Head::return_journal`]. One taker at a time, in order.
    pub fn drain_journal(&self) -> Option<JournalBatch> {
        self.0.journal.drain()
    }

    /// Puts a batch that could not be written back in front of the others.
    ///
    /// When several are held, return the newest first. Past the limit the oldest is dropped and counted.
    pub fn return_journal(&self, batch: JournalBatch) {
        self.0.journal.give_back(batch, &self.0.counters);
    }

    /// Which labels are stored.
    pub fn label_rules(&self) -> &LabelRules {
        &self.0.label_rules
    }

    /// Whether memory is short, and what is stored then.
    pub fn safe_mode(&self) -> &SafeMode {
        &self.0.safe_mode
    }

    /// The exemplars of the series.
    pub fn exemplars(&self) -> &Exemplars {
        &self.0.exemplars
    }

    /// The limits it was made with.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// What was counted so far.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }
}

impl Shared {
    /// Memory holds only what is from there on, also when its first sample, a late one, is yet to come.
    pub(super) fn raise_complete_from(&self, from: i64) {
        self.incomplete_until.fetch_max(from, SeqCst);
        let empty = Timestamp::MAX.as_millis();
        let raise = |now: i64| (now != empty && now < from).then_some(from);
        let _ = self.complete_from.fetch_update(SeqCst, SeqCst, raise); // unchanged where it is later already
    }

    /// The groups in which those series have samples.
    fn groups_of(&self, series: &HashSet<u64>) -> HashSet<u64> {
        let index = self.index.read();
        series.iter().flat_map(|reference| index.places(*reference)).map(|place| place.group.id()).collect()
    }
}
