//! What a target showed before: from the raw bytes of a series to its reference, without parsing labels.
//!
//! Keys are kept as a 64-bit hash and a length, not as text: Istio's keys are 900 bytes, the hash is keyed per target, and
//! two keys of one page meet by chance once in 10¹² pages of 5,000 series. Each key remembers which one followed it, so an
//! unchanged page is recognised in order with one hash over each key and no search for its end.
//!
//! Invariant: an index is valid until [`Cache::shrink`] or [`Cache::forget_keys`], which run between pages only.

use std::hash::{BuildHasher, Hasher};

use hashbrown::HashTable;

use super::compact::{CompactLabels, SharedParts};
use super::members::Members;
use crate::rollup::SlotId;
use crate::series::SeriesRef;

/// What a key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A series, by index into [`Cache::series`].
    Series(u32),
    /// A part of a series, or of edges only, by index into [`Cache::members`].
    Member(u32),
    /// Relabelling drops it.
    Dropped,
    /// The memory tier was full; worth another try later.
    Refused,
}

#[derive(Debug)]
struct Key {
    hash: u64,
    length: u32,
    /// The key that followed this one last time.
    next: u32,
    /// Number of the last page that had it.
    seen: u32,
    meaning: Meaning,
}

/// One series of the target.
#[derive(Debug)]
pub(super) struct SeriesState {
    /// Where its samples go.
    pub series: SeriesRef,
    /// To intern it again when the memory tier has forgotten it.
    pub labels: CompactLabels,
    /// Where its increments go.
    pub slot: Option<SlotId>,
    /// Number of the last page that had it.
    pub seen: u32,
    /// The last page had it, so it gets a stale marker when it vanishes.
    pub live: bool,
    /// Memory is short and no rule reads it: its samples are not stored.
    pub held_back: bool,
    /// The generation of safe mode in which that was found.
    pub judged: u32,
}

const NONE: u32 = u32::MAX;
/// How far the cache may grow past twice the last good page before it is shrunk.
const SLACK: usize = 1000;

/// The cache of one target.
#[derive(Debug, Default)]
pub(super) struct Cache {
    hasher: foldhash::quality::RandomState,
    keys: Vec<Key>,
    by_hash: HashTable<u32>,
    pub series: Vec<SeriesState>,
    by_ref: HashTable<u32>,
    pub members: Members,
    shared: SharedParts,
    first: u32,
    predicted: u32,
    last: u32,
    page: u32,
    /// How many keys the last good page had.
    good_keys: usize,
    page_keys: usize,
}

impl Cache {
    /// The number of the page being read.
    pub fn page(&self) -> u32 {
        self.page
    }

    /// Bytes of memory, about.
    pub fn size_bytes(&self) -> usize {
        // An index, and the byte that tables keep of each hash.
        const ENTRY_BYTES: usize = size_of::<u32>() + 1;
        let rows = self.keys.capacity() * size_of::<Key>() + self.series.capacity() * size_of::<SeriesState>();
        let tables = (self.by_hash.capacity() + self.by_ref.capacity()) * ENTRY_BYTES;
        rows + tables + self.members.size_bytes() + self.shared.size_bytes()
    }

    /// How many keys it knows.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Before the first entry of a page.
    pub fn begin_page(&mut self) {
        self.page = self.page.wrapping_add(1);
        (self.predicted, self.last, self.page_keys) = (if self.keys.is_empty() { NONE } else { self.first }, NONE, 0);
    }

    /// How long the key at the start of `rest` is, when it is the expected one.
    #[inline]
    pub fn predict(&self, rest: &[u8]) -> Option<usize> {
        let key = self.keys.get(self.predicted as usize)?;
        let length = key.length as usize;
        let ends = match rest.get(length.checked_sub(1)?..)? {
            [b'}', ..] => true,
            [_, b' ', after, ..] => !matches!(after, b' ' | b'\t' | b'{'), // a bare name may have braces after blanks
            _ => false,
        };
        (ends && self.hash(&rest[..length]) == key.hash).then_some(length)
    }

    /// What the key stands for, and its index for [`Cache::redefine`]; `None` when it was never seen.
    #[inline]
    pub fn find(&mut self, key: &[u8], recognised: bool) -> Option<(u32, Meaning)> {
        let at = if recognised {
            self.predicted
        } else {
            let (hash, keys) = (self.hash(key), &self.keys);
            let same = |at: &u32| keys[*at as usize].hash == hash && keys[*at as usize].length as usize == key.len();
            match keys.get(self.predicted as usize) {
                Some(next) if next.hash == hash && next.length as usize == key.len() => self.predicted,
                _ => *self.by_hash.find(hash, same)?,
            }
        };
        self.step_to(at);
        Some((at, self.keys[at as usize].meaning))
    }

    /// Remembers a key that [`Cache::find`] did not know.
    pub fn insert(&mut self, key: &[u8], meaning: Meaning) {
        let (hash, at) = (self.hash(key), self.keys.len() as u32);
        let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
        // What was expected here probably follows the newcomer.
        self.keys.push(Key { hash, length, next: self.predicted, seen: self.page.wrapping_sub(1), meaning });
        let keys = &self.keys;
        self.by_hash.insert_unique(hash, at, |at| keys[*at as usize].hash);
        self.step_to(at);
    }

    /// Changes what a key stands for.
    pub fn redefine(&mut self, at: u32, meaning: Meaning) {
        self.keys[at as usize].meaning = meaning;
    }

    /// The index of a series, and whether it was not known.
    pub fn series_index(
        &mut self,
        series: SeriesRef,
        labels: impl FnOnce(&mut SharedParts) -> (CompactLabels, Option<SlotId>),
    ) -> (u32, bool) {
        let hash = self.hash_ref(series);
        let known = &self.series;
        if let Some(at) = self.by_ref.find(hash, |at| known[*at as usize].series == series) {
            return (*at, false);
        }
        let (labels, slot) = labels(&mut self.shared);
        let at = self.series.len() as u32;
        self.series.push(SeriesState {
            series,
            labels,
            slot,
            seen: self.page.wrapping_sub(1),
            live: false,
            held_back: false,
            judged: 0,
        });
        self.index_ref(at);
        (at, true)
    }

    /// The memory tier has given the series a new reference.
    pub fn rename(&mut self, at: u32, series: SeriesRef) {
        let hash = self.hash_ref(self.series[at as usize].series);
        if let Ok(entry) = self.by_ref.find_entry(hash, |other| *other == at) {
            entry.remove();
        }
        self.series[at as usize].series = series;
        self.index_ref(at);
    }

    /// Forgets all keys, because what they stand for has changed; series stay, to become stale when they do not return.
    pub fn forget_keys(&mut self) {
        self.keys.clear();
        self.by_hash.clear();
        self.good_keys = 0;
    }

    /// After a page: forgets what no recent page had, once that is much. Gives the slots to release.
    pub fn end_page(&mut self, good: bool) -> Vec<SlotId> {
        if good {
            self.good_keys = self.page_keys;
        }
        if self.keys.len().max(self.series.len()).max(self.members.len()) > 2 * self.good_keys + SLACK {
            self.shrink(good)
        } else {
            Vec::new()
        }
    }

    /// Everything goes: gives the slots to release.
    pub fn clear(&mut self) -> Vec<SlotId> {
        self.forget_keys();
        self.by_ref.clear();
        self.shared.clear();
        let mut released = self.members.clear();
        released.extend(std::mem::take(&mut self.series).into_iter().filter_map(|series| series.slot));
        released
    }

    /// Keeps the keys of the page just read when it was good, and the series they and stale markers need.
    fn shrink(&mut self, good: bool) -> Vec<SlotId> {
        let (page, mut released) = (self.page, Vec::new());
        let mut moved = vec![NONE; self.series.len()];
        let mut kept = Vec::new();
        for (old, series) in std::mem::take(&mut self.series).into_iter().enumerate() {
            if series.live || (good && series.seen == page) {
                moved[old] = kept.len() as u32;
                kept.push(series);
            } else {
                released.extend(series.slot);
            }
        }
        self.series = kept;
        self.series.shrink_to_fit();
        let (moved_members, slots) = self.members.shrink(good.then_some(page), &moved);
        released.extend(slots);
        self.shared.clear();
        let keys = std::mem::take(&mut self.keys);
        for mut key in keys.into_iter().filter(|key| good && key.seen == page) {
            let (meaning, is_kept) = match key.meaning {
                Meaning::Series(at) => (Meaning::Series(moved[at as usize]), moved[at as usize] != NONE),
                Meaning::Member(at) => {
                    (Meaning::Member(moved_members[at as usize]), moved_members[at as usize] != NONE)
                }
                other => (other, true),
            };
            if !is_kept {
                continue;
            }
            key.meaning = meaning;
            key.next = self.keys.len() as u32 + 1; // kept keys are in their order of arrival: a fair first guess
            self.keys.push(key);
        }
        self.first = 0;
        self.by_hash.clear();
        self.by_ref.clear();
        for at in 0..self.keys.len() as u32 {
            let keys = &self.keys;
            self.by_hash.insert_unique(keys[at as usize].hash, at, |at| keys[*at as usize].hash);
        }
        (0..self.series.len() as u32).for_each(|at| self.index_ref(at));
        released
    }

    #[inline]
    fn step_to(&mut self, at: u32) {
        match self.keys.get_mut(self.last as usize) {
            Some(last) if last.next != at => last.next = at,
            Some(_) => {}
            None => self.first = at,
        }
        let key = &mut self.keys[at as usize];
        self.page_keys += usize::from(key.seen != self.page);
        key.seen = self.page;
        (self.last, self.predicted) = (at, key.next);
    }

    /// A hasher for parts of keys.
    pub fn hasher(&self) -> impl Hasher + use<> {
        self.hasher.build_hasher()
    }

    /// The hash of a key, or of a part of one.
    #[inline]
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(bytes);
        hasher.finish()
    }

    fn hash_ref(&self, series: SeriesRef) -> u64 {
        self.hasher.hash_one(series)
    }

    fn index_ref(&mut self, at: u32) {
        let (hasher, series) = (&self.hasher, &self.series);
        let hash = |at: &u32| hasher.hash_one(series[*at as usize].series);
        self.by_ref.insert_unique(hash(&at), at, hash);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;

    /// Reads `page` as the caller would; gives how many keys prediction recognised.
    fn read(cache: &mut Cache, page: &[&str]) -> usize {
        cache.begin_page();
        let mut predicted = 0;
        for key in page {
            let line = format!("{key} 1\n");
            let length = cache.predict(line.as_bytes());
            assert!(length.is_none_or(|length| length == key.len()), "{key}");
            predicted += usize::from(length.is_some());
            let known = cache.find(key.as_bytes(), length.is_some()).map(|(_, meaning)| meaning);
            let meaning = known.unwrap_or_else(|| {
                let series = SeriesRef(key.bytes().fold(7, |n, b| n * 31 + u64::from(b)));
                let (at, _) = cache.series_index(series, |shared| (shared.compact(&Labels::empty()), None));
                cache.insert(key.as_bytes(), Meaning::Series(at));
                Meaning::Series(at)
            });
            let Meaning::Series(at) = meaning else { panic!("{meaning:?}") };
            cache.series[at as usize].seen = cache.page;
        }
        cache.end_page(true);
        predicted
    }

    #[test]
    fn predicts_the_order_of_the_last_page_and_learns_changes() {
        let mut cache = Cache::default();
        assert_eq!(read(&mut cache, &["a{x=\"1\"}", "b", "c"]), 0);
        assert_eq!(read(&mut cache, &["a{x=\"1\"}", "b", "c"]), 3);
        assert_eq!(read(&mut cache, &["a{x=\"1\"}", "c"]), 1); // b is gone
        assert_eq!(read(&mut cache, &["a{x=\"1\"}", "c"]), 2);
        assert_eq!(read(&mut cache, &["a{x=\"1\"}", "new", "c"]), 2); // c is still expected after the newcomer
        assert_eq!(read(&mut cache, &["a{x=\"1\"}", "new", "c"]), 3);
        assert_eq!(read(&mut cache, &["z", "a{x=\"1\"}", "new", "c"]), 3);
        assert_eq!(cache.keys.len(), 5);
    }

    #[test]
    fn does_not_take_a_name_for_a_longer_one() {
        let mut cache = Cache::default();
        read(&mut cache, &["a"]);
        cache.begin_page();
        for (line, expect) in
            [("a 1", Some(1)), ("ab 1", None), ("a {x=\"1\"} 1", None), ("a{x=\"1\"} 1", None), ("a  1", None)]
        {
            assert_eq!(cache.predict(line.as_bytes()), expect, "{line}");
        }
    }

    #[test]
    fn forgets_what_no_page_has_any_more() {
        let mut cache = Cache::default();
        for round in 0..20 {
            let names: Vec<String> = (0..500).map(|i| format!("m{round}_{i}")).collect();
            read(&mut cache, &names.iter().map(String::as_str).collect::<Vec<_>>());
            assert!(cache.keys.len() <= 2 * 500 + SLACK && cache.series.len() <= 2 * 500 + SLACK);
            assert_eq!(read(&mut cache, &names.iter().map(String::as_str).collect::<Vec<_>>()), 500);
        }
        assert!(cache.by_hash.len() == cache.keys.len() && cache.by_ref.len() == cache.series.len());
    }
}
