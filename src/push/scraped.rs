//! When targets were scraped, as a scraper says that sends everything it scrapes (`serve --shard`).
//!
//! In: its samples of `up`. Out: since when a counter that is new can have counted: since the scrape before the one that
//! first had it, so its first value counts in full. Invariant: at most [`TARGETS_MAX`] targets are held.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::{Labels, Timestamp};
use crate::rollup::MAX_GAP;

/// Targets that are remembered; with more all are forgotten, and first values count for nothing until the next scrape.
const TARGETS_MAX: usize = 200_000;

/// The last two good scrapes of each target, by its `job` and `instance`.
#[derive(Default)]
pub(super) struct Scraped(HashMap<(Arc<str>, Arc<str>), [i64; 2]>);

impl Scraped {
    /// The target was scraped well. `claim` tells of a target that is new here when it was scraped before a restart.
    pub(super) fn note(&mut self, labels: &Labels, at: Timestamp, claim: impl FnOnce() -> Option<Timestamp>) {
        if self.0.len() >= TARGETS_MAX {
            self.0.clear();
        }
        let first = || [i64::MIN, claim().map_or(i64::MIN, Timestamp::as_millis)];
        let [before, last] = self.0.entry(key(labels)).or_insert_with(first);
        match at.as_millis() {
            at if at > *last => (*before, *last) = (*last, at),
            at if at < *last && at > *before => *before = at,
            _ => {}
        }
    }

    /// The last good scrape of the series' target before `at`, when it is not too long ago.
    pub(super) fn before(&self, labels: &Labels, at: Timestamp) -> Option<Timestamp> {
        let scrapes = self.0.get(&key(labels))?;
        let before = scrapes.iter().copied().filter(|scrape| *scrape != i64::MIN && *scrape < at.as_millis()).max()?;
        Some(Timestamp::from_millis(before)).filter(|before| at.since(*before) <= MAX_GAP)
    }
}

fn key(labels: &Labels) -> (Arc<str>, Arc<str>) {
    (labels.value("job").into(), labels.value("instance").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scrape_before_a_sample_is_known_in_any_order() {
        let of = |instance: &str| Labels::from_pairs([("job", "j"), ("instance", instance)]);
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1000);
        let mut scraped = Scraped::default();
        assert_eq!(scraped.before(&of("a"), at(10)), None);
        scraped.note(&of("a"), at(10), || None);
        // The target's first scrape: nobody knows when its counters were zero.
        assert_eq!(scraped.before(&of("a"), at(10)), None);
        scraped.note(&of("a"), at(30), || panic!("it is known"));
        scraped.note(&of("a"), at(20), || panic!("it is known"));
        assert_eq!(scraped.before(&of("a"), at(30)), Some(at(20)));
        assert_eq!(scraped.before(&of("a"), at(40)), Some(at(30)));
        assert_eq!(scraped.before(&of("a"), at(1000)), None, "too long ago");
        assert_eq!(scraped.before(&of("b"), at(40)), None);
        scraped.note(&of("b"), at(50), || Some(at(45)));
        assert_eq!(scraped.before(&of("b"), at(50)), Some(at(45)), "before a restart");
    }
}
