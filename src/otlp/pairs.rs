//! Attributes of a request that were read already, by their bytes: proxies say the same of most of their spans.
//!
//! In: the bytes of a pair of key and value. Out: what was made of them the first time. Invariant: it is found by all of its
//! bytes, not by their hash alone; holds one entry for each different pair of one request. Between requests a bounded number of
//! texts is kept, and room.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use hashbrown::HashTable;
use parking_lot::Mutex;

/// What was made of a pair.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pair {
    /// How many came before it in this request.
    pub(super) number: u32,
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
    /// How many different ones came, those that are not looked up among them.
    numbers: u32,
    /// By the place in the list of a span.
    columns: Vec<Column<'a>>,
}

/// What the last span had at a place of its list: the next one mostly has the same key there, and often the same value.
#[derive(Debug, Default)]
struct Column<'a> {
    bytes: &'a [u8],
    pair: Pair,
    /// A key that was read here, and its bytes.
    key: Option<(&'a [u8], Arc<str>)>,
    /// How many pairs came here since one was known that was not the last.
    new_ones: u32,
}

/// What is to be done with a pair that is not known.
#[derive(Clone, Copy, Debug)]
pub(super) struct New {
    /// Of its bytes.
    pub(super) hash: u64,
    /// Whether it may come again in another place than right behind: else neither it nor its text is worth looking up.
    pub(super) may_repeat: bool,
}

/// So many new pairs in a row at one place of the lists say that each span has its own there, as of ids and URLs.
const OWN_AFTER: u32 = 24;
/// One of so many is looked up there all the same, lest that was by chance.
const LOOKED_UP: u32 = 8;

/// Hash and place of each pair.
type Places = HashTable<(u64, u32)>;

impl<'a> Pairs<'a> {
    fn new(hasher: foldhash::fast::RandomState, places: Places, expected: usize) -> Self {
        Self { hasher, places, known: Vec::with_capacity(expected), numbers: 0, columns: Vec::new() }
    }

    /// What these bytes, which stand at that place of their list, are known as; or else how to [insert](Self::insert) them.
    #[inline]
    pub(super) fn get(&mut self, at: usize, bytes: &'a [u8]) -> Result<Pair, New> {
        match self.columns.get(at) {
            Some(column) if column.bytes == bytes => Ok(column.pair),
            _ => self.look_up(at, bytes),
        }
    }

    fn look_up(&mut self, at: usize, bytes: &'a [u8]) -> Result<Pair, New> {
        let hash = self.hasher.hash_one(bytes);
        let new_ones = self.columns.get(at).map_or(0, |column| column.new_ones);
        if new_ones >= OWN_AFTER && !new_ones.is_multiple_of(LOOKED_UP) {
            return Err(New { hash, may_repeat: false });
        }
        let known = self.places.find(hash, |(other, place)| *other == hash && self.known[*place as usize].0 == bytes);
        let pair = known.map(|(_, place)| self.known[*place as usize].1).ok_or(New { hash, may_repeat: true })?;
        let column = self.column(at);
        (column.bytes, column.pair, column.new_ones) = (bytes, pair, 0);
        Ok(pair)
    }

    /// Remembers what these bytes are.
    pub(super) fn insert(&mut self, new: New, (at, bytes): (usize, &'a [u8]), mut pair: Pair) {
        pair.number = self.numbers;
        self.numbers = self.numbers.checked_add(1).expect("invariant: a request has fewer than 2³² bytes");
        if new.may_repeat {
            let place = u32::try_from(self.known.len()).expect("invariant: they are fewer than numbers");
            self.known.push((bytes, pair));
            self.places.insert_unique(new.hash, (new.hash, place), |(hash, _)| *hash);
        }
        let column = self.column(at);
        (column.bytes, column.pair) = (bytes, pair);
        column.new_ones = column.new_ones.saturating_add(1);
    }

    /// The key of these bytes, if it was read at that place.
    pub(super) fn key(&self, at: usize, bytes: &[u8]) -> Option<&Arc<str>> {
        let (known, key) = self.columns.get(at)?.key.as_ref()?;
        (*known == bytes).then_some(key)
    }

    /// Remembers the key of these bytes.
    pub(super) fn keep_key(&mut self, at: usize, bytes: &'a [u8], key: &Arc<str>) {
        self.column(at).key = Some((bytes, Arc::clone(key)));
    }

    /// Lists are read from their beginning, so there is at most one column to add.
    fn column(&mut self, at: usize) -> &mut Column<'a> {
        if at >= self.columns.len() {
            self.columns.resize_with(at + 1, Column::default);
        }
        &mut self.columns[at]
    }
}

// === from one request to the next ===

/// Most texts that are kept from one request to the next: past it all are forgotten.
const TEXTS_KEPT: usize = 1 << 13;
/// Most pairs whose room is kept.
const PAIRS_KEPT: usize = 1 << 14;

/// Texts remembered by a part of their hash alone, to know which come again.
const SEEN_TEXTS: usize = 1 << 13;

/// Texts that are shared.
#[derive(Debug, Default)]
pub(super) struct Texts {
    hasher: foldhash::fast::RandomState,
    known: HashTable<(u64, Arc<str>)>,
    /// The upper half of the hash that came last to each place.
    seen: Vec<u32>,
}

impl Texts {
    /// The text, shared with all that are equal.
    pub(super) fn share(&mut self, text: &str) -> Arc<str> {
        let hash = self.hasher.hash_one(text);
        self.get(hash, text).unwrap_or_else(|| self.keep(hash, text))
    }

    /// The same of a text that may be one request's alone: only when it comes a second time it is kept, so that those which
    /// never come again push out none.
    pub(super) fn share_repeated(&mut self, text: &str) -> Arc<str> {
        let hash = self.hasher.hash_one(text);
        self.get(hash, text).unwrap_or_else(|| {
            self.seen.resize(SEEN_TEXTS, 0);
            let upper = (hash >> 32) as u32;
            match std::mem::replace(&mut self.seen[hash as usize % SEEN_TEXTS], upper) == upper {
                true => self.keep(hash, text),
                false => Arc::from(text),
            }
        })
    }

    fn get(&self, hash: u64, text: &str) -> Option<Arc<str>> {
        self.known.find(hash, |(other, known)| *other == hash && **known == *text).map(|(_, known)| Arc::clone(known))
    }

    fn keep(&mut self, hash: u64, text: &str) -> Arc<str> {
        let new: Arc<str> = Arc::from(text);
        self.known.insert_unique(hash, (hash, Arc::clone(&new)), |(hash, _)| *hash);
        new
    }
}

/// How much a request has in it, so that room for the next one is made at once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Contents {
    pub(super) bytes: usize,
    pub(super) spans: usize,
    pub(super) attributes: usize,
    pub(super) places: usize,
}

impl Contents {
    /// What a body of that size has in it, if it is like this one; never more than is worth making room for at once.
    fn scaled_to(self, bytes: usize) -> Self {
        let scaled = |own: usize, most: usize| {
            let share = own as u128 * bytes as u128 / self.bytes.max(1) as u128;
            usize::try_from(share).unwrap_or(most).min(most)
        };
        Self {
            bytes,
            spans: scaled(self.spans, 1 << 12),
            attributes: scaled(self.attributes, PAIRS_KEPT),
            places: scaled(self.places, 1 << 17),
        }
    }
}

/// What a decoder keeps from one request to the next: most texts come again, and room need not grow again.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) texts: Texts,
    last: Contents,
    hasher: foldhash::fast::RandomState,
    places: Places,
}

impl Kept {
    /// An empty table of pairs for a body of that size, in the room that is kept; and what to expect in the body.
    pub(super) fn begin<'a>(&mut self, bytes: usize) -> (Pairs<'a>, Contents) {
        let expected = self.last.scaled_to(bytes);
        (Pairs::new(self.hasher.clone(), std::mem::take(&mut self.places), expected.attributes), expected)
    }

    /// Takes back what a request was decoded with; `contents` is what it had.
    pub(super) fn end(&mut self, pairs: Pairs<'_>, contents: Contents) {
        let mut places = pairs.places;
        places.clear();
        if places.capacity() <= 2 * PAIRS_KEPT {
            self.places = places;
        }
        if self.texts.known.len() > TEXTS_KEPT {
            self.texts.known.clear();
        }
        self.last = contents;
    }
}

/// What is kept by decoders that do not work now: at most as many as worked at once. They hash alike, so that each of them knows a
/// request again that another has read.
#[derive(Debug, Default)]
pub(super) struct KeptByAll {
    hasher: foldhash::fast::RandomState,
    free: Mutex<Vec<Kept>>,
}

impl KeptByAll {
    pub(super) fn take(&self) -> Kept {
        let free = self.free.lock().pop();
        free.unwrap_or_else(|| Kept { hasher: self.hasher.clone(), ..Kept::default() })
    }

    pub(super) fn give(&self, kept: Kept) {
        self.free.lock().push(kept);
    }
}
