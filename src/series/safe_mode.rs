//! Safe mode: what the memory tier still takes when memory is short.
//!
//! In: how much memory the process uses, and what rules read. Out: whether a series is still stored, and how long samples
//! stay. While it lasts, scraped samples that no rule reads are not stored, and all samples stay only as long as rules
//! look back; edge minutes, rules, reports of scrapes and what rules record go on. It ends by itself once memory has been
//! well below the limit for a while. Knows neither how memory is measured nor what scraping is.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use crate::model::{Labels, METRIC_NAME, MatchOp, Matcher, Timestamp};

/// Memory must be below this share of the limit…
const RELIEF_PERCENT: u64 = 85;
/// …for this long before safe mode ends, so that it does not flap.
const RELIEF_TIME: Duration = Duration::from_secs(60);
/// Samples stay at least this long, whatever the rules read: PromQL looks five minutes back, and graphs a little more.
const WINDOW_MIN: Duration = Duration::from_secs(15 * 60);

/// What rules read: the series that fit one of the selectors, and how far back.
#[derive(Clone, Debug, Default)]
pub struct Needs {
    by_metric: HashMap<String, Vec<Vec<Matcher>>>,
    /// Selectors that do not say one metric name.
    other: Vec<Vec<Matcher>>,
    /// How far back the longest of them looks.
    range: Duration,
}

impl Needs {
    /// Adds what one selector reads, `range` back from the time of the evaluation.
    pub fn add(&mut self, matchers: Vec<Matcher>, range: Duration) {
        self.range = self.range.max(range);
        let name = matchers.iter().find(|one| &*one.name == METRIC_NAME && one.op == MatchOp::Equal);
        match name.map(|one| one.value.to_string()) {
            Some(name) => self.by_metric.entry(name).or_default().push(matchers),
            None => self.other.push(matchers),
        }
    }

    fn hold(&self, labels: &Labels) -> bool {
        let named = self.by_metric.get(labels.metric_name()).into_iter().flatten();
        named.chain(&self.other).any(|matchers| matchers.iter().all(|matcher| matcher.matches_labels(labels)))
    }
}

/// Whether memory is short, and since when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SafeModeState {
    /// Since when safe mode lasts; `None` while memory suffices.
    pub since: Option<Timestamp>,
    /// When it ended last.
    pub ended: Option<Timestamp>,
    /// Bytes the process used when it was measured last.
    pub used_bytes: u64,
    /// Above this many bytes safe mode begins; 0: never.
    pub limit_bytes: u64,
    /// Since when memory is well below the limit.
    relieved: Option<Timestamp>,
}

/// What a measurement changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SafeModeChange {
    /// Memory is short from now on.
    Began,
    /// It suffices again.
    Ended,
}

/// Safe mode of one memory tier.
#[derive(Debug, Default)]
pub struct SafeMode {
    active: AtomicBool,
    /// Counts what may change the answer of [`SafeMode::stores`].
    generation: AtomicU32,
    needs: RwLock<Needs>,
    state: Mutex<SafeModeState>,
    /// Samples that were not stored because of it.
    pub dropped_samples: AtomicU64,
    /// How often it began.
    pub entered: AtomicU64,
}

impl SafeMode {
    /// Above how many bytes it begins; 0: never.
    pub fn set_limit(&self, limit_bytes: u64) {
        self.state.lock().limit_bytes = limit_bytes;
    }

    /// What rules read from now on.
    pub fn set_needs(&self, needs: Needs) {
        *self.needs.write() = needs;
        self.generation.fetch_add(1, Relaxed);
    }

    /// Takes a measurement of the process' memory. Gives what it changed.
    pub fn observe(&self, used_bytes: u64, now: Timestamp) -> Option<SafeModeChange> {
        let mut state = self.state.lock();
        state.used_bytes = used_bytes;
        let limit = state.limit_bytes;
        if state.since.is_none() {
            if limit == 0 || used_bytes <= limit {
                return None;
            }
            (state.since, state.relieved) = (Some(now), None);
            self.entered.fetch_add(1, Relaxed);
            self.turn(true);
            return Some(SafeModeChange::Began);
        }
        if limit > 0 && used_bytes > limit / 100 * RELIEF_PERCENT {
            state.relieved = None;
            return None;
        }
        let relieved = *state.relieved.get_or_insert(now);
        if now.since(relieved) < RELIEF_TIME {
            return None;
        }
        (state.since, state.ended) = (None, Some(now));
        self.turn(false);
        Some(SafeModeChange::Ended)
    }

    /// Whether it lasts now.
    #[inline]
    pub fn is_active(&self) -> bool {
        self.active.load(Relaxed)
    }

    /// Changes whenever [`SafeMode::stores`] may answer differently.
    pub fn generation(&self) -> u32 {
        self.generation.load(Relaxed)
    }

    /// Whether scraped samples of that series are stored now.
    pub fn stores(&self, labels: &Labels) -> bool {
        !self.is_active() || self.needs.read().hold(labels)
    }

    /// How it stands.
    pub fn state(&self) -> SafeModeState {
        *self.state.lock()
    }

    /// How long samples stay in memory now, of the configured `window`.
    pub(super) fn window(&self, window: Duration) -> Duration {
        if self.is_active() { window.min(self.needs.read().range.max(WINDOW_MIN)) } else { window }
    }

    fn turn(&self, active: bool) {
        self.active.store(active, Relaxed);
        self.generation.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + seconds * 1000)
    }

    #[test]
    fn begins_above_the_limit_and_ends_after_a_minute_well_below_it() {
        let mode = SafeMode::default();
        assert_eq!(mode.observe(u64::MAX, at(0)), None); // no limit
        mode.set_limit(1000);
        assert_eq!((mode.observe(1000, at(5)), mode.is_active()), (None, false));
        assert_eq!((mode.observe(1001, at(10)), mode.is_active()), (Some(SafeModeChange::Began), true));
        for (seconds, used) in [(15, 900), (20, 840), (70, 840), (75, 851), (80, 850), (139, 10)] {
            assert_eq!((mode.observe(used, at(seconds)), mode.is_active()), (None, true), "{seconds}");
        }
        assert_eq!((mode.observe(10, at(140)), mode.is_active()), (Some(SafeModeChange::Ended), false));
        let state = mode.state();
        assert_eq!((state.since, state.ended, state.used_bytes), (None, Some(at(140)), 10));
        assert_eq!(mode.observe(1001, at(145)), Some(SafeModeChange::Began));
        assert_eq!(mode.entered.load(Relaxed), 2);
    }

    #[test]
    fn stores_what_a_rule_reads_and_keeps_it_as_long_as_rules_look_back() {
        let mode = SafeMode::default();
        let labels = |name: &str, code: &str| Labels::from_pairs([(METRIC_NAME, name), ("code", code)]);
        let hour = Duration::from_secs(3600);
        mode.set_limit(1);
        assert!(mode.stores(&labels("a", "200")));
        mode.observe(2, at(0));
        assert!(!mode.stores(&labels("a", "200")));
        assert_eq!(mode.window(hour), WINDOW_MIN);
        let before = mode.generation();
        let mut needs = Needs::default();
        needs.add(vec![Matcher::equal(METRIC_NAME, "a"), Matcher::equal("code", "500")], Duration::from_secs(300));
        needs.add(vec![Matcher::new(MatchOp::Regex, METRIC_NAME, "b.*").expect("a regex")], 2 * WINDOW_MIN);
        mode.set_needs(needs);
        assert_ne!(mode.generation(), before);
        assert!(mode.stores(&labels("a", "500")) && mode.stores(&labels("bb", "1")));
        assert!(!mode.stores(&labels("a", "200")) && !mode.stores(&labels("c", "500")));
        assert_eq!((mode.window(hour), mode.window(WINDOW_MIN)), (2 * WINDOW_MIN, WINDOW_MIN));
    }
}
