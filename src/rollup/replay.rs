//! Counts the samples that a journal tells again, so that a restart goes on where the last process was.
//!
//! In: rows of the journal, in its order. Out: minutes, and slots that scrapes claim by the labels of their series.
//! Invariant: the rules are those of a running process ([`super`]), so a minute comes out as it was counted the first time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::accumulator::{LabelsKey, TakenUp, labels_key};
use super::{Counting, MAX_GAP, Rollup, SlotId, counting, istio};
use crate::model::workload::EdgeKey;
use crate::model::{EdgeMinute, Labels, METRIC_NAME, Timestamp, is_stale};
use crate::series::SeriesRef;

const MINUTE: Duration = Duration::from_secs(60);
/// The series that says how each scrape of a target went; its labels are those of the target.
const UP: &str = "up";

/// A replay under way.
pub struct Replay {
    rollup: Rollup,
    /// Samples before this are not needed.
    from: Timestamp,
    floor: Timestamp,
    newest: Option<Timestamp>,
    /// By place of the series.
    known: Vec<Met>,
    /// By hashes of the labels: the labels of a large mesh are half a gigabyte.
    slots: Vec<(LabelsKey, SlotId)>,
    targets: Vec<Target>,
    /// Targets by `job` and `instance`; more than one only where other labels tell them apart.
    target_ids: HashMap<(Arc<str>, Arc<str>), Vec<usize>>,
    batch: Vec<(SlotId, f64)>,
    last_edge: LastEdge,
}

/// What a series is to the rollup.
#[derive(Clone, Copy)]
enum Known {
    Other,
    Counts(SlotId),
    Target(u32),
}

/// A series that was met; the place of one that is gone may be another's.
#[derive(Clone, Copy)]
struct Met {
    series: SeriesRef,
    known: Known,
}

/// Series of one edge come one after the other, and differ in their names and buckets only: the key of an edge, made of
/// twenty labels, is made once for all of them.
#[derive(Default)]
struct LastEdge {
    shared: (u64, u64),
    key: Option<EdgeKey>,
    text: String,
}

impl LastEdge {
    /// As [`counting`].
    fn counting(&mut self, labels: &Labels) -> Option<Counting> {
        let Some(name) = labels.metric_name().strip_prefix("istio_") else { return counting(labels) };
        let (counted, is_tcp) = istio::counted(name, labels)?;
        let mut shared = labels.table_key_without(&[METRIC_NAME, "le"], &mut self.text);
        shared.0 ^= u64::from(is_tcp);
        if self.shared != shared {
            (self.shared, self.key) = (shared, istio::edge(labels, is_tcp));
        }
        Some(Counting { edge: self.key.clone()?, counted })
    }
}

/// One target, as its `up` tells.
struct Target {
    labels: Labels,
    at: Timestamp,
    /// When it was last scraped well, up to then.
    good_at: Option<Timestamp>,
    good_before: Option<Timestamp>,
}

impl Replay {
    pub(super) fn new(rollup: Rollup, floor: Timestamp) -> Self {
        rollup.state.lock().begin_replay(floor);
        Self {
            rollup,
            from: floor - MAX_GAP,
            floor,
            newest: None,
            known: Vec::new(),
            slots: Vec::new(),
            targets: Vec::new(),
            target_ids: HashMap::new(),
            batch: Vec::new(),
            last_edge: LastEdge::default(),
        }
    }

    /// Samples before this do not matter.
    pub fn from(&self) -> Timestamp {
        self.from
    }

    /// Counts samples of one time. `labels` tells those of a series that was not met before.
    pub fn row(&mut self, at: Timestamp, samples: &[(SeriesRef, f64)], labels: impl Fn(SeriesRef) -> Option<Labels>) {
        if at < self.from {
            return;
        }
        self.newest = self.newest.max(Some(at));
        self.batch.clear();
        for &(series, value) in samples {
            let known = match self.known.get(series.place()) {
                Some(met) if met.series == series => met.known,
                _ => {
                    let known = labels(series).map_or(Known::Other, |labels| self.meet(at, labels));
                    self.remember(series, known);
                    known
                }
            };
            match known {
                Known::Other => {}
                Known::Counts(slot) => self.batch.push((slot, value)),
                Known::Target(target) => self.targets[target as usize].scraped(at, value),
            }
        }
        if !self.batch.is_empty() {
            self.rollup.state.lock().observe_replayed(at, &self.batch);
        }
    }

    /// The time of the newest sample; `None` when there was none.
    pub fn newest(&self) -> Option<Timestamp> {
        self.newest
    }

    /// Takes up what is stored of a minute, after all rows. `false`: no sample tells of it, so it must be deleted, for
    /// the next scrape counts it again.
    #[must_use]
    pub fn take_up(&self, stored: EdgeMinute) -> bool {
        // What was counted in the last second before a crash may not be in the journal.
        let end = self.newest.map(|newest| newest.floor_to(MINUTE) + 2 * MINUTE);
        let is_counted_anew = stored.minute >= self.floor && end.is_some_and(|end| stored.minute < end);
        self.rollup.state.lock().take_up(stored, is_counted_anew) == TakenUp::Held
    }

    /// The first minute that is counted.
    pub fn floor(&self) -> Timestamp {
        self.floor
    }

    /// No sample tells of anything: minutes grow from `floor` on, those before it are not in memory.
    pub fn raise_floor(&mut self, floor: Timestamp) {
        self.floor = self.floor.max(floor);
        self.rollup.state.lock().begin_replay(self.floor);
    }

    /// Hands over to the scrapes.
    ///
    /// `has_same_settings`: targets are scraped as they were, so a series that is new counted from zero since the last
    /// scrape. Otherwise it may have been there all the while, and was dropped or had another name.
    pub fn finish(self, now: Timestamp, has_same_settings: bool) {
        let good = |target: Target| Some((target.labels, target.good_at?));
        let targets =
            if has_same_settings { self.targets.into_iter().filter_map(good).collect() } else { HashMap::new() };
        self.rollup.state.lock().finish_replay(now, self.slots, targets);
        self.rollup.counters.reset();
    }

    fn remember(&mut self, series: SeriesRef, known: Known) {
        if self.known.len() <= series.place() {
            // No series has this number: its upper half counts reuses of a place.
            self.known.resize(series.place() + 1, Met { series: SeriesRef(u64::MAX), known: Known::Other });
        }
        self.known[series.place()] = Met { series, known };
    }

    fn meet(&mut self, at: Timestamp, labels: Labels) -> Known {
        if labels.metric_name() == UP {
            return self.meet_target(at, labels.without_name());
        }
        let Some(counting) = self.last_edge.counting(&labels) else { return Known::Other };
        let zero_at = self.target_of(&labels).and_then(|target| self.targets[target].zero_at(at));
        match self.rollup.state.lock().open(&labels, counting, zero_at) {
            Some(slot) => {
                self.slots.push((labels_key(&labels), slot));
                Known::Counts(slot)
            }
            None => Known::Other,
        }
    }

    fn meet_target(&mut self, at: Timestamp, labels: Labels) -> Known {
        let id = self.targets.len();
        self.target_ids.entry(place(&labels)).or_default().push(id);
        // Before its first sample nothing is known of it.
        let at = at - Duration::from_millis(1);
        self.targets.push(Target { labels, at, good_at: None, good_before: None });
        Known::Target(u32::try_from(id).unwrap_or(u32::MAX))
    }

    /// The target whose labels the series bears all.
    fn target_of(&self, labels: &Labels) -> Option<usize> {
        let ids = self.target_ids.get(&place(labels))?;
        let bears = |id: &usize| self.targets[*id].labels.iter().all(|(name, value)| labels.value(name) == value);
        ids.iter().copied().find(bears)
    }
}

fn place(labels: &Labels) -> (Arc<str>, Arc<str>) {
    (labels.value("job").into(), labels.value("instance").into())
}

impl Target {
    fn scraped(&mut self, at: Timestamp, up: f64) {
        if at <= self.at {
            return;
        }
        (self.good_before, self.at) = (self.good_at, at);
        if is_stale(up) {
            self.good_at = None; // it is no target any more
        } else if up == 1.0 {
            self.good_at = Some(at);
        }
    }

    /// Since when a series that a good page at `at` has for the first time counted from zero. `up` may come before or
    /// after the other series of its page.
    fn zero_at(&self, at: Timestamp) -> Option<Timestamp> {
        let good_at = if self.at < at { self.good_at } else { self.good_before };
        good_at.filter(|good_at| *good_at < at && at.since(*good_at) <= MAX_GAP)
    }
}
