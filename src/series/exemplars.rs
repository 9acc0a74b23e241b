//! Exemplars: single observations behind samples, most often with the id of a trace.
//!
//! In: a series and an exemplar of it. Out: those of chosen series in a range of time. Invariant: never more than the
//! limit; the oldest to come is the first to go. The rules of what is taken are those of Prometheus
//! (`tsdb/exemplar.go`). Memory only: a restart begins with none.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::RwLock;

use crate::model::{Labels, Matcher, Timestamp};

/// Most characters of all names and values of an exemplar's labels (OpenMetrics 1.0, "Exemplars").
const LABEL_CHARS_MAX: usize = 128;

/// One observation.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// Its own labels, such as `trace_id`.
    pub labels: Labels,
    /// What was observed, in the unit of its series.
    pub value: f64,
    /// When.
    pub at: Timestamp,
}

/// Why an exemplar is not taken. Texts are those of Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExemplarError {
    /// It is older than the newest of its series.
    #[error("out of order exemplar")]
    OutOfOrder,
    /// Its labels are too long.
    #[error("label length for exemplar exceeds maximum of 128 UTF-8 characters")]
    LabelsTooLong,
    /// None are kept.
    #[error("exemplar storage is disabled")]
    Disabled,
}

/// The exemplars of one series, oldest first.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesExemplars {
    /// Which series.
    pub series: Labels,
    /// Its exemplars.
    pub exemplars: Vec<Exemplar>,
}

/// What became of exemplars since the start.
#[derive(Debug, Default)]
pub struct ExemplarCounters {
    /// Kept.
    pub accepted: AtomicU64,
    /// The same as the newest of their series: nothing to do.
    pub duplicates: AtomicU64,
    /// Refused because a newer one of their series is there.
    pub out_of_order: AtomicU64,
    /// Refused because of the length of their labels.
    pub labels_too_long: AtomicU64,
}

/// The last exemplars of all series.
#[derive(Debug)]
pub struct Exemplars {
    limit: usize,
    kept: RwLock<Kept>,
    counters: ExemplarCounters,
}

#[derive(Debug, Default)]
struct Kept {
    /// Whose the exemplars are, in the order they came. The first of a series in here is the first of its queue.
    order: VecDeque<Labels>,
    by_series: HashMap<Labels, VecDeque<Exemplar>>,
    /// How many were ever kept.
    total: u64,
}

impl Exemplars {
    /// Keeps at most `limit`; 0 keeps none.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, kept: RwLock::default(), counters: ExemplarCounters::default() }
    }

    /// Takes an exemplar of a series. One that is the same as the newest of its series is taken as well, and changes
    /// nothing.
    ///
    /// # Errors
    /// When it is older than the newest of its series, or its labels are too long.
    pub fn add(&self, series: &Labels, exemplar: Exemplar) -> Result<(), ExemplarError> {
        if self.limit == 0 {
            return Err(ExemplarError::Disabled);
        }
        let chars: usize = exemplar.labels.iter().map(|(n, v)| n.chars().count() + v.chars().count()).sum();
        if chars > LABEL_CHARS_MAX {
            self.counters.labels_too_long.fetch_add(1, Relaxed);
            return Err(ExemplarError::LabelsTooLong);
        }
        let mut guard = self.kept.write();
        let kept = &mut *guard;
        // The key is shared with the queue, whose text would be held twice otherwise.
        let shared = kept.by_series.get_key_value(series).map_or(series, |(known, _)| known).clone();
        let queue = kept.by_series.entry(shared.clone()).or_default();
        match queue.back() {
            Some(newest) if *newest == exemplar => {
                self.counters.duplicates.fetch_add(1, Relaxed);
                return Ok(());
            }
            Some(newest) if !comes_after(&exemplar, newest) => {
                self.counters.out_of_order.fetch_add(1, Relaxed);
                return Err(ExemplarError::OutOfOrder);
            }
            _ => {}
        }
        queue.push_back(exemplar);
        kept.order.push_back(shared);
        kept.total += 1;
        if kept.order.len() > self.limit {
            kept.drop_oldest();
        }
        self.counters.accepted.fetch_add(1, Relaxed);
        Ok(())
    }

    /// The exemplars in `[from, to]` of the series that satisfy all matchers of any set, by series.
    pub fn select(&self, any_of: &[Vec<Matcher>], from: Timestamp, to: Timestamp) -> Vec<SeriesExemplars> {
        let kept = self.kept.read();
        let wanted = |series: &Labels| any_of.iter().any(|all| all.iter().all(|one| one.matches_labels(series)));
        let mut found: Vec<SeriesExemplars> = (kept.by_series.iter())
            .filter(|(series, _)| wanted(series))
            .map(|(series, queue)| SeriesExemplars {
                series: series.clone(),
                exemplars: queue.iter().filter(|one| one.at >= from && one.at <= to).cloned().collect(),
            })
            .filter(|found| !found.exemplars.is_empty())
            .collect();
        drop(kept);
        found.sort_by(|a, b| a.series.cmp(&b.series));
        found
    }

    /// Bytes of what is kept, about.
    pub fn size_bytes(&self) -> usize {
        let kept = self.kept.read();
        let of = |queue: &VecDeque<Exemplar>| -> usize {
            queue.iter().map(|one| size_of::<Exemplar>() + one.labels.size_bytes()).sum()
        };
        let series: usize = kept.by_series.iter().map(|(labels, queue)| labels.size_bytes() + of(queue)).sum();
        series + kept.order.len() * size_of::<Labels>()
    }

    /// How many were ever kept: where [`Self::since`] goes on from.
    pub fn total(&self) -> u64 {
        self.kept.read().total
    }

    /// Those kept since there were `total`, by their series, in the order they came; and how many there are now. What has
    /// gone since is passed over.
    pub fn since(&self, total: u64) -> (Vec<(Labels, Exemplar)>, u64) {
        let kept = self.kept.read();
        let new = usize::try_from(kept.total.saturating_sub(total)).unwrap_or(usize::MAX);
        let mut from_end: HashMap<&Labels, usize> = HashMap::new();
        let newest_first = kept.order.iter().rev().take(new).filter_map(|series| {
            let queue = kept.by_series.get(series)?;
            let place = from_end.entry(series).or_default();
            *place += 1;
            Some((series.clone(), queue.get(queue.len().checked_sub(*place)?)?.clone()))
        });
        let mut found: Vec<(Labels, Exemplar)> = newest_first.collect();
        found.reverse();
        (found, kept.total)
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.kept.read().order.len()
    }

    /// Whether none are kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What became of them.
    pub fn counters(&self) -> &ExemplarCounters {
        &self.counters
    }
}

impl Kept {
    fn drop_oldest(&mut self) {
        let Some(series) = self.order.pop_front() else { return };
        let Some(queue) = self.by_series.get_mut(&series) else { return };
        queue.pop_front();
        if queue.is_empty() {
            self.by_series.remove(&series);
        }
    }
}

/// Whether an exemplar may stand behind the newest: later, or at the same time with a larger value, or another label set.
fn comes_after(exemplar: &Exemplar, newest: &Exemplar) -> bool {
    let (at, value) = (exemplar.at.cmp(&newest.at), exemplar.value.total_cmp(&newest.value));
    let labels = exemplar.labels.fingerprint().cmp(&newest.labels.fingerprint());
    at.then(value).then(labels).is_ge()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::model::METRIC_NAME;

    fn series(name: &str) -> Labels {
        Labels::from_pairs([(METRIC_NAME, name)])
    }

    fn exemplar(at: i64, value: f64) -> Exemplar {
        Exemplar { labels: Labels::from_pairs([("trace_id", "a")]), value, at: Timestamp::from_millis(at) }
    }

    fn all(kept: &Exemplars, name: &str) -> Vec<i64> {
        let matchers = vec![vec![Matcher::equal(METRIC_NAME, name)]];
        let found = kept.select(&matchers, Timestamp::MIN, Timestamp::MAX);
        found.iter().flat_map(|one| &one.exemplars).map(|one| one.at.as_millis()).collect()
    }

    #[test]
    fn takes_what_is_newer_and_says_why_it_takes_nothing_else() {
        let kept = Exemplars::new(10);
        for (at, value, expect) in [
            (5, 1.0, Ok(())),
            (5, 1.0, Ok(())), // the same again
            (5, 0.5, Err(ExemplarError::OutOfOrder)),
            (5, 2.0, Ok(())),
            (4, 9.0, Err(ExemplarError::OutOfOrder)),
            (6, 0.0, Ok(())),
        ] {
            assert_eq!(kept.add(&series("a"), exemplar(at, value)), expect, "{at} {value}");
        }
        assert_eq!(all(&kept, "a"), [5, 5, 6]);
        let long = Labels::from_pairs([("trace_id", "ü".repeat(121))]);
        let long = Exemplar { labels: long, ..exemplar(7, 1.0) };
        assert_eq!(kept.add(&series("a"), long), Err(ExemplarError::LabelsTooLong));
        let fits = Exemplar { labels: Labels::from_pairs([("trace_id", "ü".repeat(120))]), ..exemplar(7, 1.0) };
        assert_eq!(kept.add(&series("a"), fits), Ok(()));
        assert_eq!(Exemplars::new(0).add(&series("a"), exemplar(1, 1.0)), Err(ExemplarError::Disabled));
    }

    #[test]
    fn never_holds_more_than_its_limit_and_forgets_series_without_exemplars() {
        let kept = Exemplars::new(3);
        for at in 0..100 {
            kept.add(&series(["a", "b", "c", "d", "e"][at as usize % 5]), exemplar(at, 1.0)).unwrap();
            assert!(kept.len() <= 3 && kept.kept.read().by_series.len() <= 3);
        }
        assert_eq!((all(&kept, "c"), all(&kept, "d"), all(&kept, "e")), (vec![97], vec![98], vec![99]));
        assert_eq!(all(&kept, "a"), [] as [i64; 0]);
        let range = kept.select(&[vec![]], Timestamp::from_millis(98), Timestamp::from_millis(98));
        assert_eq!(range.iter().map(|one| one.series.metric_name()).collect::<Vec<_>>(), ["d"]);
    }

    #[test]
    fn tells_what_came_since_in_its_order_without_what_has_gone() {
        let kept = Exemplars::new(4);
        let since = |total| {
            let (found, now) = kept.since(total);
            let shown = found.iter().map(|(series, one)| format!("{}{}", series.metric_name(), one.at.as_millis()));
            (shown.collect::<Vec<_>>().join(" "), now)
        };
        for (name, at) in [("a", 1), ("b", 2), ("a", 3)] {
            kept.add(&series(name), exemplar(at, 1.0)).unwrap();
        }
        assert_eq!(since(0), ("a1 b2 a3".to_owned(), 3));
        assert_eq!(since(2), ("a3".to_owned(), 3));
        for at in 4..8 {
            kept.add(&series("a"), exemplar(at, 1.0)).unwrap();
        }
        assert_eq!((since(1), since(7)), (("a4 a5 a6 a7".to_owned(), 7), (String::new(), 7)));
    }
}
