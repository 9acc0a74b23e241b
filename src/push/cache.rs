//! From the labels of a series as they were sent to its place in memory.
//!
//! Two generations: what is not asked for while a generation fills up is forgotten with the next. Invariant: at most the
//! limit is held; a slot of the rollup is given back once, when its entry goes.

use std::hash::BuildHasher;

use hashbrown::HashTable;

use super::scraped::Scraped;
use crate::rollup::{Rollup, SlotId};
use crate::series::SeriesRef;

/// Where the samples of a series go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place {
    pub(super) series: SeriesRef,
    pub(super) slot: Option<SlotId>,
    /// Whether its samples say how a scrape went.
    pub(super) is_up: bool,
}

struct Entry {
    key: Box<[u8]>,
    place: Place,
}

/// The places by key.
pub(super) struct Cache {
    hasher: foldhash::fast::RandomState,
    young: HashTable<Entry>,
    old: HashTable<Entry>,
    half: usize,
    /// When targets were scraped, as scrapers of ours say.
    pub(super) scraped: Scraped,
}

impl Cache {
    pub(super) fn new(limit: usize) -> Self {
        let (young, old) = (HashTable::new(), HashTable::new());
        Self {
            hasher: foldhash::fast::RandomState::default(),
            young,
            old,
            half: (limit / 2).max(1),
            scraped: Scraped::default(),
        }
    }

    /// The place of that key. One of the older generation becomes young again.
    pub(super) fn find(&mut self, key: &[u8]) -> Option<Place> {
        let hash = self.hasher.hash_one(key);
        if let Some(entry) = self.young.find(hash, |entry| *entry.key == *key) {
            return Some(entry.place);
        }
        let found = self.old.find_entry(hash, |entry| *entry.key == *key).ok()?;
        let (entry, _) = found.remove();
        let place = entry.place;
        self.put(hash, entry);
        Some(place)
    }

    /// Remembers a place.
    pub(super) fn insert(&mut self, key: &[u8], place: Place) {
        self.put(self.hasher.hash_one(key), Entry { key: key.into(), place });
    }

    /// What the series counts is known now.
    pub(super) fn count_in(&mut self, key: &[u8], slot: SlotId) {
        self.change(key, |place| place.slot = Some(slot));
    }

    /// The series was forgotten by memory and has another reference now.
    pub(super) fn rename(&mut self, key: &[u8], series: SeriesRef) {
        self.change(key, |place| place.series = series);
    }

    fn change(&mut self, key: &[u8], change: impl Fn(&mut Place)) {
        let hash = self.hasher.hash_one(key);
        for table in [&mut self.young, &mut self.old] {
            if let Some(entry) = table.find_mut(hash, |entry| *entry.key == *key) {
                change(&mut entry.place);
            }
        }
    }

    /// Forgets the older generation when the younger is full. Not while a batch holds places.
    pub(super) fn age(&mut self, rollup: &Rollup) {
        if self.young.len() >= self.half {
            let old = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
            old.into_iter().filter_map(|entry| entry.place.slot).for_each(|slot| rollup.release(slot));
        }
    }

    fn put(&mut self, hash: u64, entry: Entry) {
        let hasher = &self.hasher;
        self.young.insert_unique(hash, entry, |entry| hasher.hash_one(&*entry.key));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_is_used_and_forgets_the_rest() {
        let (mut cache, rollup) = (Cache::new(100), Rollup::default());
        let place = |n: u64| Place { series: SeriesRef(n), slot: None, is_up: false };
        for n in 0..1000_u64 {
            assert_eq!(cache.find(&n.to_le_bytes()), None);
            cache.insert(&n.to_le_bytes(), place(n));
            assert_eq!(cache.find(&0_u64.to_le_bytes()), Some(place(0)), "asked for each time");
            cache.age(&rollup);
            assert!(cache.len() <= 100, "{}", cache.len());
        }
        assert_eq!(cache.find(&1_u64.to_le_bytes()), None);
        cache.rename(&0_u64.to_le_bytes(), SeriesRef(7));
        assert_eq!(cache.find(&0_u64.to_le_bytes()), Some(place(7)));
    }
}
