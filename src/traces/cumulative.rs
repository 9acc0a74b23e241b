//! Counters and histograms derived from spans, written to the memory tier as cumulative series.
//!
//! In: increments. Out: samples at each slot. Invariant: never more series than the limit; a series starts with a zero
//! at the slot before its first value, so `increase()` sees its first increments; a series that no longer moves ends
//! with a stale marker.

use std::hash::{BuildHasher as _, Hash};
use std::time::Duration;

use hashbrown::hash_table::Entry;
use hashbrown::{Equivalent, HashTable};

use crate::model::{Labels, METRIC_NAME, Timestamp, stale_marker};
use crate::series::{Head, Row, SeriesRef};

/// Groups written between two yields to other tasks.
const GROUPS_PER_TURN: usize = 64;

/// One series of a group: metric name, and bucket bound for a bucket.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SeriesShape {
    name: &'static str,
    le: Option<String>,
    counter: bool,
}

/// A histogram within a group: where its series stand.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HistogramAt {
    first: usize,
    bounds: &'static [f64],
}

/// The series that each label set of a processor has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layout(Vec<SeriesShape>);

impl Layout {
    /// Adds a counter and says where it stands.
    pub(crate) fn counter(&mut self, name: &'static str) -> usize {
        self.0.push(SeriesShape { name, le: None, counter: true });
        self.0.len() - 1
    }

    /// Adds a gauge and says where it stands.
    pub(crate) fn gauge(&mut self, name: &'static str) -> usize {
        self.0.push(SeriesShape { name, le: None, counter: false });
        self.0.len() - 1
    }

    /// Adds a classic histogram: `names` are those of buckets, sum and count; bounds in the unit of the metric.
    pub(crate) fn histogram(&mut self, names: [&'static str; 3], bounds: &'static [f64]) -> HistogramAt {
        let first = self.0.len();
        let les = bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        self.0.extend(les.map(|le| SeriesShape { name: names[0], le: Some(le), counter: true }));
        self.0.extend([names[1], names[2]].map(|name| SeriesShape { name, le: None, counter: true }));
        HistogramAt { first, bounds }
    }

    fn labels(&self, at: usize, group: &Labels) -> Labels {
        let SeriesShape { name, le, .. } = &self.0[at];
        let own = [(METRIC_NAME, *name), ("le", le.as_deref().unwrap_or(""))];
        Labels::from_pairs(group.iter().chain(own))
    }
}

/// The values of one label set.
#[derive(Debug)]
pub(crate) struct Group {
    labels: Labels,
    values: Vec<f64>,
    series: Vec<Option<SeriesRef>>,
    touched: Timestamp,
    written: bool,
    ended: bool,
}

impl Group {
    /// Adds to a counter.
    pub(crate) fn add(&mut self, at: usize, by: f64) {
        self.values[at] += by;
    }

    /// Sets a gauge.
    pub(crate) fn set(&mut self, at: usize, value: f64) {
        self.values[at] = value;
    }

    /// Counts a value in a histogram.
    pub(crate) fn observe(&mut self, histogram: HistogramAt, value: f64) {
        let HistogramAt { first, bounds } = histogram;
        let infinity = first + bounds.len();
        let bucket = first + bounds.partition_point(|bound| *bound < value);
        self.values[bucket..=infinity].iter_mut().for_each(|count| *count += 1.0);
        self.values[infinity + 1] += value;
        self.values[infinity + 2] += 1.0;
    }
}

/// All groups of one processor.
#[derive(Debug)]
pub(crate) struct Registry<K> {
    layout: Layout,
    hasher: foldhash::fast::RandomState,
    groups: HashTable<(K, Group)>,
    series_limit: usize,
}

impl<K: Hash + Eq> Registry<K> {
    pub(crate) fn new(layout: Layout, series_limit: usize) -> Self {
        Self { layout, hasher: Default::default(), groups: HashTable::new(), series_limit }
    }

    /// The group of that key, made of `own` when there is room; `None` when the series limit is reached.
    pub(crate) fn group<Q: Hash + Equivalent<K>>(
        &mut self,
        key: &Q,
        now: Timestamp,
        own: impl FnOnce() -> (K, Labels),
    ) -> Option<&mut Group> {
        let width = self.layout.0.len();
        let full = (self.groups.len() + 1) * width > self.series_limit;
        let Self { hasher, groups, .. } = self;
        let is = |(known, _): &(K, Group)| key.equivalent(known);
        let (_, group) = match groups.entry(hasher.hash_one(key), is, |(known, _)| hasher.hash_one(known)) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(_) if full => return None,
            Entry::Vacant(entry) => {
                let ((key, labels), values, series) = (own(), vec![0.0; width], vec![None; width]);
                let group = Group { labels, values, series, touched: now, written: false, ended: false };
                entry.insert((key, group)).into_mut()
            }
        };
        group.touched = now;
        Some(group)
    }

    /// Writes all series at `slot`, ends those untouched for `stale_after`; how many samples were refused.
    pub(crate) async fn write(&mut self, head: &Head, slot: Slot, stale_after: Duration) -> u64 {
        let (layout, mut refused) = (&self.layout, 0);
        for (i, (_, group)) in self.groups.iter_mut().enumerate() {
            group.ended = slot.at.since(group.touched) >= stale_after;
            refused += group.write(layout, head, slot);
            if i % GROUPS_PER_TURN == GROUPS_PER_TURN - 1 {
                tokio::task::yield_now().await;
            }
        }
        self.groups.retain(|(_, group)| !group.ended);
        refused
    }

    /// Ends all series.
    pub(crate) fn end(&mut self, head: &Head, at: Timestamp) {
        for (_, group) in self.groups.drain() {
            let markers = group.series.iter().flatten();
            head.append(&markers.map(|series| Row { series: *series, at, value: stale_marker() }).collect::<Vec<_>>());
        }
    }
}

/// When samples are written, and how far apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub(crate) at: Timestamp,
    pub(crate) interval: Duration,
}

impl Group {
    fn write(&mut self, layout: &Layout, head: &Head, slot: Slot) -> u64 {
        let mut refused = 0;
        // A series that the memory tier has forgotten in the meantime is interned once more.
        for _ in 0..2 {
            refused = 0;
            let mut rows = Vec::with_capacity(self.values.len() * 2);
            for at in 0..self.values.len() {
                if self.series[at].is_none() {
                    self.series[at] = head.intern(&layout.labels(at, &self.labels)).ok();
                }
                let Some(series) = self.series[at] else {
                    refused += 1;
                    continue;
                };
                if !self.written && layout.0[at].counter {
                    rows.push((at, Row { series, at: slot.at - slot.interval, value: 0.0 }));
                }
                let value = if self.ended { stale_marker() } else { self.values[at] };
                rows.push((at, Row { series, at: slot.at, value }));
            }
            let appended = head.append(&rows.iter().map(|(_, row)| *row).collect::<Vec<_>>());
            for row in &appended.vanished {
                self.series[rows[*row].0] = None;
            }
            if appended.vanished.is_empty() {
                break;
            }
        }
        self.written = true;
        refused
    }
}
