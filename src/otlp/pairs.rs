//! Attributes of a request that were read already, by their bytes: proxies say the same of most of their spans.
//!
//! In: the bytes of a pair of key and value. Out: what was made of them the first time. Invariant: it is found by all of its
//! bytes, not by their hash alone; holds one entry for each different pair of one request. Between requests a bounded number of
//! texts is kept, and room.

use std::collections::HashSet;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use hashbrown::HashTable;
use parking_lot::Mutex;

/// What was made of a pair.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pair {
    /// Where it stands in the table of attributes; `None`: it has no usable name or value.
    pub(super) place: Option<u32>,
    /// What it takes of the bytes that the attributes of a span may have.
    pub(super) budget_bytes: u32,
    /// Its size as OTLP protobuf.
    pub(super) wire_bytes: u32,
    /// Texts in it that were not UTF-8.
    pub(super) mended: u16,
    /// Texts in it that were too long.
    pub(super) cut: u16,
}

/// The pairs of a request.
#[derive(Debug, Default)]
pub(super) struct Pairs<'a> {
    hasher: foldhash::fast::RandomState,
    places: Places,
    known: Vec<(&'a [u8], Pair)>,
}

/// Hash and place of each pair.
type Places = HashTable<(u64, u32)>;

impl<'a> Pairs<'a> {
    fn new(places: Places) -> Self {
        Self { places, ..Self::default() }
    }

    /// What these bytes are known as, or else the hash to [insert](Self::insert) them by.
    pub(super) fn get(&self, bytes: &[u8]) -> Result<Pair, u64> {
        let hash = self.hasher.hash_one(bytes);
        let known = self.places.find(hash, |(other, place)| *other == hash && self.known[*place as usize].0 == bytes);
        known.map(|(_, place)| self.known[*place as usize].1).ok_or(hash)
    }

    /// Remembers what these bytes are.
    pub(super) fn insert(&mut self, hash: u64, bytes: &'a [u8], pair: Pair) {
        let place = u32::try_from(self.known.len()).expect("invariant: a request has fewer than 2³² bytes");
        self.known.push((bytes, pair));
        self.places.insert_unique(hash, (hash, place), |(hash, _)| *hash);
    }
}

// === from one request to the next ===

/// Most texts that are kept from one request to the next: past it all are forgotten.
const TEXTS_KEPT: usize = 1 << 13;
/// Most pairs whose room is kept.
const PAIRS_KEPT: usize = 1 << 14;

/// Texts that are shared.
pub(super) type Texts = HashSet<Arc<str>, foldhash::fast::RandomState>;

/// What a decoder keeps from one request to the next: most texts come again, and the room for pairs need not grow again.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) texts: Texts,
    places: Places,
}

impl Kept {
    /// An empty table of pairs, in the room that is kept.
    pub(super) fn pairs<'a>(&mut self) -> Pairs<'a> {
        Pairs::new(std::mem::take(&mut self.places))
    }
}

/// What is kept by decoders that do not work now: at most as many as worked at once.
#[derive(Debug, Default)]
pub(super) struct KeptByAll(Mutex<Vec<Kept>>);

impl KeptByAll {
    pub(super) fn take(&self) -> Kept {
        self.0.lock().pop().unwrap_or_default()
    }

    pub(super) fn give(&self, mut texts: Texts, pairs: Pairs<'_>) {
        let mut places = pairs.places;
        places.clear();
        if texts.len() > TEXTS_KEPT {
            texts = Texts::default();
        }
        if places.capacity() > 2 * PAIRS_KEPT {
            places = Places::default();
        }
        self.0.lock().push(Kept { texts, places });
    }
}
