//! What the memory tier holds, in numbers, for pages, `/metrics` and `/api/v1/status/tsdb`.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;

use super::head::Head;
use crate::model::{METRIC_NAME, Timestamp};

/// Sizes of the memory tier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeadStats {
    /// Living series.
    pub series: usize,
    /// Samples in memory.
    pub samples: u64,
    /// Bytes of memory of samples, series and index, without the journal; counted, not measured.
    pub bytes: usize,
    /// Of those, bytes of packed samples.
    pub packed_bytes: usize,
    /// Of those, bytes of the index: labels and which series have them.
    pub index_bytes: usize,
    /// Packed frames (up to 16 times of one group).
    pub chunks: usize,
    /// Groups of series that are appended together.
    pub groups: usize,
    /// Distinct label names and values.
    pub symbols: usize,
    /// Bytes that wait for the journal.
    pub journal_bytes: usize,
    /// Journal batches dropped so far because PostgreSQL did not take them.
    pub journal_dropped_batches: u64,
    /// From when on memory holds everything, `None` before the first sample.
    pub min_time: Option<Timestamp>,
    /// Newest sample so far, `None` before the first.
    pub max_time: Option<Timestamp>,
}

/// What most series have in common, most first. The lists are those of Prometheus' `/api/v1/status/tsdb`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cardinality {
    /// Metric names by number of series.
    pub series_by_metric: Vec<(String, u64)>,
    /// Label names by number of distinct values.
    pub values_by_label: Vec<(String, u64)>,
    /// Label names by bytes of their distinct values.
    pub bytes_by_label: Vec<(String, u64)>,
    /// `name=value` pairs by number of series.
    pub series_by_pair: Vec<(String, u64)>,
}

impl Head {
    /// Sizes now. Visits every group: for pages and `/metrics`, not for hot paths.
    pub fn stats(&self) -> HeadStats {
        let shared = &self.0;
        let groups = shared.groups.lock().clone();
        let mut stats = HeadStats { groups: groups.len(), ..HeadStats::default() };
        let mut other_bytes = 0;
        for group in &groups {
            let sizes = group.lock().sizes();
            stats.samples += sizes.samples;
            stats.chunks += sizes.frames;
            stats.packed_bytes += sizes.frame_bytes;
            other_bytes += sizes.other_bytes;
        }
        {
            let index = shared.index.read();
            stats.series = index.len();
            stats.symbols = index.symbol_count();
            stats.index_bytes = index.size_bytes();
        }
        stats.bytes = stats.packed_bytes + stats.index_bytes + other_bytes + shared.label_cache.size_bytes();
        stats.journal_bytes = shared.journal.size_bytes();
        stats.journal_dropped_batches = shared.counters.journal_dropped_batches.load(Relaxed);
        let min_time = self.complete_from();
        let max_time = Timestamp::from_millis(shared.max_time.load(Relaxed));
        stats.min_time = (min_time != Timestamp::MAX).then_some(min_time);
        stats.max_time = (max_time != Timestamp::MIN).then_some(max_time);
        stats
    }

    /// The `limit` largest of each kind.
    pub fn cardinality(&self, limit: usize) -> Cardinality {
        let mut labels: HashMap<String, (u64, u64)> = HashMap::new();
        let (mut metrics, mut pairs) = (Vec::new(), Vec::new());
        self.0.index.read().visit_pairs(|name, value, series| {
            match labels.get_mut(name) {
                Some((values, bytes)) => {
                    *values += 1;
                    *bytes += value.len() as u64;
                }
                None => {
                    labels.insert(name.to_owned(), (1, value.len() as u64));
                }
            }
            if name == METRIC_NAME {
                metrics.push((value.to_owned(), series));
            }
            pairs.push((name.to_owned(), value.to_owned(), series));
            if pairs.len() > (limit + 1) * 16 {
                keep_largest(&mut pairs, limit);
            }
        });
        let pairs = pairs.into_iter().map(|(name, value, series)| (format!("{name}={value}"), series)).collect();
        let by =
            |pick: fn(&(u64, u64)) -> u64| labels.iter().map(|(name, counts)| (name.clone(), pick(counts))).collect();
        Cardinality {
            values_by_label: largest(by(|counts| counts.0), limit),
            bytes_by_label: largest(by(|counts| counts.1), limit),
            series_by_metric: largest(metrics, limit),
            series_by_pair: largest(pairs, limit),
        }
    }
}

fn largest(mut entries: Vec<(String, u64)>, limit: usize) -> Vec<(String, u64)> {
    entries.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    entries.truncate(limit);
    entries
}

/// Forgets pairs that cannot be among the largest, so that as many as there are need no memory.
fn keep_largest(pairs: &mut Vec<(String, String, u64)>, limit: usize) {
    pairs.sort_by(|a, b| b.2.cmp(&a.2).then_with(|| (&a.0, &a.1).cmp(&(&b.0, &b.1))));
    pairs.truncate(limit);
}
