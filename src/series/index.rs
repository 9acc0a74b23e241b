//! Which series there are: their labels, compactly, and which of them matchers select.
//!
//! In: label sets. Out: numbered series, label sets, selections. The series of one proxy and edge differ only in metric
//! name and `le`: the other labels are one *block*, kept and indexed once, so a series itself is a few numbers.
//! Invariant: a reference is never given to a second series (its upper half counts the reuses of its place).

mod member;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::HashTable;
use roaring::RoaringBitmap;

use super::cardinality::{BlockCopy, IndexCopy};
use super::group::Group;
use super::postings::Postings;
use super::symbols::{Hasher, Symbols};
use crate::model::{Labels, METRIC_NAME, Matcher};
pub(crate) use member::BlockRef;
pub(super) use member::SharedLabels;

/// The label that tells the buckets of a histogram apart.
pub(super) const BUCKET: &str = "le";

/// Where the samples of a series are: a place in a group.
#[derive(Clone)]
pub(super) struct Place {
    /// The group.
    pub(super) group: Arc<Group>,
    /// Which of its slots.
    pub(super) slot: u32,
}

/// The labels that a family of series shares: all but the metric name and `le`.
struct Block {
    /// Symbols of name and value, in name order.
    pairs: Box<[(u32, u32)]>,
    /// Where among them the metric name and `le` belong.
    metric_at: u16,
    bucket_at: u16,
    /// Never used for another block.
    serial: u64,
    /// Of the labels, without the metric name and `le`.
    hash: u64,
    series: Vec<u32>,
}

struct Record {
    hash: u64,
    generation: u32,
    block: u32,
    metric: u32,
    bucket: u32,
    is_alive: bool,
    /// Where the next sample goes.
    current: Option<Place>,
    /// Where older samples are.
    former: Vec<Place>,
}

/// What is known of a reference.
pub(super) enum Located<'a> {
    /// No such series any more.
    Gone,
    /// A series without a place for its next sample; it has had so many places.
    Homeless(usize),
    /// A series and the place for its next sample.
    At(&'a Place),
}

/// All series.
pub(super) struct Index {
    symbols: Symbols,
    blocks: Vec<Option<Block>>,
    free_blocks: Vec<u32>,
    block_table: HashTable<u32>,
    next_serial: u64,
    /// By label name (of blocks), the values and the blocks that have them.
    names: BTreeMap<Arc<str>, Postings>,
    all_blocks: RoaringBitmap,
    records: Vec<Record>,
    free_records: Vec<u32>,
    /// Generation of a record that is made anew: above that of every record given back.
    first_generation: u32,
    table: HashTable<u32>,
    metrics: Postings,
    buckets: Postings,
    all_series: RoaringBitmap,
    /// Series made since the last garbage collection, and since the one before it.
    newcomers: [Vec<u64>; 2],
}

/// The symbol of the empty text: an absent metric name or `le`.
const NONE: u32 = 0;

/// The hash of a series, by that of its block: so that one whose block is known costs no look at its other labels.
fn series_hash(block: u64, metric: &str, bucket: &str) -> u64 {
    Hasher::default().hash_one((block, metric, bucket))
}

/// The labels that the series of a block share.
fn shared(labels: &Labels) -> impl Iterator<Item = (&str, &str)> {
    labels.iter().filter(|(name, _)| *name != METRIC_NAME && *name != BUCKET)
}

impl Index {
    /// An index without series.
    pub(super) fn new() -> Self {
        let mut symbols = Symbols::default();
        symbols.acquire(""); // becomes NONE and is never released
        Self {
            symbols,
            blocks: Vec::new(),
            free_blocks: Vec::new(),
            block_table: HashTable::new(),
            next_serial: 0,
            names: BTreeMap::new(),
            all_blocks: RoaringBitmap::new(),
            records: Vec::new(),
            free_records: Vec::new(),
            first_generation: 0,
            table: HashTable::new(),
            metrics: Postings::default(),
            buckets: Postings::default(),
            all_series: RoaringBitmap::new(),
            newcomers: Default::default(),
        }
    }

    /// How many series.
    pub(super) fn len(&self) -> usize {
        self.all_series.len() as usize
    }

    /// The series of that label set.
    pub(super) fn find(&self, labels: &Labels) -> Option<u64> {
        let block = labels.table_hash_without([METRIC_NAME, BUCKET]);
        self.find_hashed(series_hash(block, labels.metric_name(), labels.value(BUCKET)), labels)
    }

    fn find_hashed(&self, hash: u64, labels: &Labels) -> Option<u64> {
        let is_it = |id: &u32| self.records[*id as usize].hash == hash && self.has_labels(*id, labels);
        Some(self.reference(*self.table.find(hash, is_it)?))
    }

    /// Finds or makes the series of that label set; whether it is new.
    pub(super) fn intern(&mut self, labels: &Labels) -> (u64, bool) {
        let block_hash = labels.table_hash_without([METRIC_NAME, BUCKET]);
        let (metric, bucket) = (labels.metric_name(), labels.value(BUCKET));
        let hash = series_hash(block_hash, metric, bucket);
        if let Some(found) = self.find_hashed(hash, labels) {
            return (found, false);
        }
        let block = self.intern_block(labels, block_hash);
        (self.insert(block, hash, (metric, bucket)), true)
    }

    fn insert(&mut self, block: u32, hash: u64, (metric, bucket): (&str, &str)) -> u64 {
        let (metric, bucket) = (self.optional_symbol(metric), self.optional_symbol(bucket));
        let id = self.free_records.pop().unwrap_or(self.records.len() as u32);
        let reused = self.records.get(id as usize);
        let generation = reused.map_or(self.first_generation, |record| record.generation.wrapping_add(1));
        let record =
            Record { hash, generation, block, metric, bucket, is_alive: true, current: None, former: Vec::new() };
        match self.records.get_mut(id as usize) {
            Some(place) => *place = record,
            None => self.records.push(record),
        }
        let records = &self.records;
        self.table.insert_unique(hash, id, |id| records[*id as usize].hash);
        if let Some(block) = &mut self.blocks[block as usize] {
            block.series.push(id);
        }
        if metric != NONE {
            self.metrics.insert(self.symbols.text(metric), id);
        }
        if bucket != NONE {
            self.buckets.insert(self.symbols.text(bucket), id);
        }
        self.all_series.insert(id);
        let reference = self.reference(id);
        self.newcomers[0].push(reference);
        reference
    }

    /// Forgets a series that has no samples.
    fn remove(&mut self, id: u32) {
        let record = &mut self.records[id as usize];
        record.is_alive = false;
        let (hash, block, metric, bucket) = (record.hash, record.block, record.metric, record.bucket);
        if let Ok(entry) = self.table.find_entry(hash, |other| *other == id) {
            entry.remove();
        }
        self.all_series.remove(id);
        for (symbol, postings) in [(metric, &mut self.metrics), (bucket, &mut self.buckets)] {
            if symbol != NONE {
                postings.remove(self.symbols.text(symbol), id);
                self.symbols.release(symbol);
            }
        }
        self.free_records.push(id);
        if let Some(kept) = &mut self.blocks[block as usize] {
            kept.series.retain(|other| *other != id);
            if kept.series.is_empty() {
                self.remove_block(block);
            }
        }
    }

    /// The block of these labels, the metric name and `le` left out; `hash` is theirs.
    fn find_block(&self, labels: &Labels, hash: u64) -> Option<u32> {
        let is_same = |id: &u32| {
            self.blocks[*id as usize].as_ref().is_some_and(|block| {
                let text = |symbol: u32| &**self.symbols.text(symbol);
                block.hash == hash
                    && block.pairs.iter().map(|(name, value)| (text(*name), text(*value))).eq(shared(labels))
            })
        };
        self.block_table.find(hash, is_same).copied()
    }

    /// As [`Index::find_block`]; makes it when there is none.
    fn intern_block(&mut self, labels: &Labels, hash: u64) -> u32 {
        if let Some(id) = self.find_block(labels, hash) {
            return id;
        }
        let pairs: Box<[(u32, u32)]> =
            shared(labels).map(|(name, value)| (self.symbols.acquire(name), self.symbols.acquire(value))).collect();
        let id = self.free_blocks.pop().unwrap_or_else(|| {
            self.blocks.push(None);
            (self.blocks.len() - 1) as u32
        });
        for (name, value) in &pairs {
            let name = self.symbols.text(*name);
            if !self.names.contains_key(&**name) {
                self.names.insert(name.clone(), Postings::default());
            }
            if let Some(postings) = self.names.get_mut(&**name) {
                postings.insert(self.symbols.text(*value), id);
            }
        }
        let before = |wanted: &str| shared(labels).filter(|(name, _)| *name < wanted).count() as u16;
        let (metric_at, bucket_at) = (before(METRIC_NAME), before(BUCKET));
        let serial = self.next_serial;
        self.next_serial += 1;
        self.blocks[id as usize] = Some(Block { pairs, metric_at, bucket_at, serial, hash, series: Vec::new() });
        self.all_blocks.insert(id);
        let blocks = &self.blocks;
        self.block_table.insert_unique(hash, id, |id| blocks[*id as usize].as_ref().map_or(0, |block| block.hash));
        id
    }

    fn remove_block(&mut self, id: u32) {
        let Some(block) = self.blocks[id as usize].take() else { return };
        if let Ok(entry) = self.block_table.find_entry(block.hash, |other| *other == id) {
            entry.remove();
        }
        for (name, value) in &block.pairs {
            let text = self.symbols.text(*name);
            if let Some(postings) = self.names.get_mut(&**text) {
                postings.remove(self.symbols.text(*value), id);
                if postings.is_empty() {
                    self.names.remove(&**text);
                }
            }
            self.symbols.release(*name);
            self.symbols.release(*value);
        }
        self.all_blocks.remove(id);
        self.free_blocks.push(id);
    }

    fn optional_symbol(&mut self, text: &str) -> u32 {
        if text.is_empty() { NONE } else { self.symbols.acquire(text) }
    }

    fn reference(&self, id: u32) -> u64 {
        u64::from(self.records[id as usize].generation) << 32 | u64::from(id)
    }

    fn record(&self, reference: u64) -> Option<&Record> {
        let record = self.records.get(reference as u32 as usize)?;
        (record.is_alive && record.generation == (reference >> 32) as u32).then_some(record)
    }

    fn record_mut(&mut self, reference: u64) -> Option<&mut Record> {
        let record = self.records.get_mut(reference as u32 as usize)?;
        (record.is_alive && record.generation == (reference >> 32) as u32).then_some(record)
    }

    fn block(&self, id: u32) -> &Block {
        self.blocks[id as usize].as_ref().expect("invariant: a living series keeps its block")
    }

    /// Names and values of a series, in name order.
    fn pairs<'a>(&'a self, record: &'a Record) -> impl Iterator<Item = (&'a str, &'a str)> {
        let block = self.block(record.block);
        let (first, second) = (usize::from(block.metric_at), usize::from(block.bucket_at)); // `__name__` < `le`
        let optional = |name: &'static str, symbol: u32| (symbol != NONE).then(|| (name, &**self.symbols.text(symbol)));
        let texts = |pairs: &'a [(u32, u32)]| {
            pairs.iter().map(|(name, value)| (&**self.symbols.text(*name), &**self.symbols.text(*value)))
        };
        texts(&block.pairs[..first])
            .chain(optional(METRIC_NAME, record.metric))
            .chain(texts(&block.pairs[first..second]))
            .chain(optional(BUCKET, record.bucket))
            .chain(texts(&block.pairs[second..]))
    }

    fn has_labels(&self, id: u32, labels: &Labels) -> bool {
        self.pairs(&self.records[id as usize]).eq(labels.iter())
    }

    /// The label set of a living series.
    pub(super) fn labels(&self, reference: u64) -> Option<Labels> {
        self.record(reference).map(|record| Labels::from_sorted(self.pairs(record)))
    }

    /// What the journal writes of a series: serial of its block, metric name, `le`.
    pub(super) fn naming(&self, reference: u64) -> Option<(u64, &str, &str)> {
        let record = self.record(reference)?;
        Some((self.block(record.block).serial, self.symbols.text(record.metric), self.symbols.text(record.bucket)))
    }

    /// Names and values of the block of a series.
    pub(super) fn block_pairs(&self, reference: u64) -> impl ExactSizeIterator<Item = (&str, &str)> {
        let pairs = self.record(reference).map_or(&[][..], |record| &self.block(record.block).pairs[..]);
        pairs.iter().map(|(name, value)| (&**self.symbols.text(*name), &**self.symbols.text(*value)))
    }

    // === Places ===

    /// Where the next sample of a series goes.
    pub(super) fn locate(&self, reference: u64) -> Located<'_> {
        match self.record(reference) {
            None => Located::Gone,
            Some(Record { current: Some(place), .. }) => Located::At(place),
            Some(record) => Located::Homeless(record.former.len()),
        }
    }

    /// Every place with samples of a series.
    pub(super) fn places(&self, reference: u64) -> impl Iterator<Item = &Place> {
        self.record(reference).into_iter().flat_map(|record| record.former.iter().chain(&record.current))
    }

    /// The only place that a series has had, with the numbers of its block and metric name; `None` for others.
    pub(super) fn only_place(&self, reference: u64) -> Option<(&Place, (u32, u32))> {
        let record = self.record(reference)?;
        let place = record.current.as_ref().filter(|_| record.former.is_empty())?;
        Some((place, (record.block, record.metric)))
    }

    /// The labels but `le` of the first of those series, which must share them, and the `le` of each; `None` when one of
    /// them is gone.
    pub(super) fn family_names(&self, series: &[u64]) -> Option<(Labels, Vec<Arc<str>>)> {
        let first = self.record(*series.first()?)?;
        let bound = |reference: &u64| Some(Arc::clone(self.symbols.text(self.record(*reference)?.bucket)));
        let labels = Labels::from_pairs(self.pairs(first).filter(|(name, _)| *name != BUCKET));
        Some((labels, series.iter().map(bound).collect::<Option<_>>()?))
    }

    /// Gives a series that has none a place for its next samples; false when it has one or is gone.
    pub(super) fn settle(&mut self, reference: u64, place: Place) -> bool {
        match self.record_mut(reference) {
            Some(record) if record.current.is_none() => {
                record.current = Some(place);
                true
            }
            _ => false,
        }
    }

    /// The series keeps the samples at its place and will get another place for the next.
    pub(super) fn unsettle(&mut self, reference: u64) {
        if let Some(record) = self.record_mut(reference) {
            record.former.extend(record.current.take());
        }
    }

    /// There are no samples of the series at that place any more; whether that ends the series.
    pub(super) fn vacate(&mut self, reference: u64, group: u64, slot: u32) -> bool {
        let Some(record) = self.record_mut(reference) else { return false };
        let is_it = |place: &Place| place.group.id() == group && place.slot == slot;
        record.former.retain(|place| !is_it(place));
        if record.current.as_ref().is_some_and(is_it) {
            record.current = None;
        }
        let ends = record.current.is_none() && record.former.is_empty();
        if ends {
            self.remove(reference as u32);
        }
        ends
    }

    /// Forgets series that were made before the last call and never got a sample; how many.
    pub(super) fn remove_unused(&mut self) -> usize {
        let [recent, older] = std::mem::take(&mut self.newcomers);
        self.newcomers[1] = recent;
        let is_unused = |record: &Record| record.current.is_none() && record.former.is_empty();
        let unused: Vec<u64> =
            older.into_iter().filter(|reference| self.record(*reference).is_some_and(is_unused)).collect();
        unused.iter().for_each(|reference| self.remove(*reference as u32));
        self.shrink();
        unused.len()
    }

    /// Gives back the memory of series that are gone, once those are the most.
    fn shrink(&mut self) {
        self.symbols.shrink();
        if self.free_records.len() <= self.records.len() / 2 {
            return;
        }
        while let Some(last) = self.records.pop_if(|record| !record.is_alive) {
            self.first_generation = self.first_generation.max(last.generation.wrapping_add(1));
        }
        while self.blocks.pop_if(|block| block.is_none()).is_some() {}
        let (records, blocks) = (self.records.len(), self.blocks.len());
        self.free_records.retain(|id| (*id as usize) < records);
        self.free_blocks.retain(|id| (*id as usize) < blocks);
        self.records.shrink_to(records + records / 4);
        self.blocks.shrink_to(blocks + blocks / 4);
        self.free_records.shrink_to_fit();
        self.free_blocks.shrink_to_fit();
        let (records, blocks) = (&self.records, &self.blocks);
        self.table.shrink_to(self.table.len() * 2, |id| records[*id as usize].hash);
        let hash_of = |id: &u32| blocks[*id as usize].as_ref().map_or(0, |block| block.hash);
        self.block_table.shrink_to(self.block_table.len() * 2, hash_of);
    }

    // === Selections ===

    /// References of all series.
    pub(super) fn all(&self) -> Vec<u64> {
        self.all_series.iter().map(|id| self.reference(id)).collect()
    }

    /// References of the series that satisfy all matchers.
    pub(super) fn select(&self, matchers: &[Matcher]) -> Vec<u64> {
        let (mut series, mut blocks): (Option<RoaringBitmap>, Option<RoaringBitmap>) = (None, None);
        let nothing = Postings::default();
        for matcher in matchers {
            let (selected, postings, all) = match &*matcher.name {
                METRIC_NAME => (&mut series, &self.metrics, &self.all_series),
                BUCKET => (&mut series, &self.buckets, &self.all_series),
                name => (&mut blocks, self.names.get(name).unwrap_or(&nothing), &self.all_blocks),
            };
            let found = postings.select(matcher, all);
            match selected {
                Some(selected) => *selected &= &*found,
                None => *selected = Some(found.into_owned()),
            }
        }
        let in_blocks = |blocks: &RoaringBitmap| -> Vec<u32> {
            blocks.iter().flat_map(|id| self.block(id).series.iter().copied()).collect()
        };
        let ids: Vec<u32> = match (series, blocks) {
            (None, None) => self.all_series.iter().collect(),
            (Some(series), None) => series.iter().collect(),
            (None, Some(blocks)) => in_blocks(&blocks),
            (Some(series), Some(blocks)) => {
                let reachable: u64 = blocks.iter().take(4096).map(|id| self.block(id).series.len() as u64).sum();
                if blocks.len() <= 4096 && reachable < series.len() {
                    in_blocks(&blocks).into_iter().filter(|id| series.contains(*id)).collect()
                } else {
                    series.iter().filter(|id| blocks.contains(self.records[*id as usize].block)).collect()
                }
            }
        };
        ids.into_iter().map(|id| self.reference(id)).collect()
    }

    /// Names of the labels of those series (of all without a list), sorted.
    pub(super) fn label_names(&self, series: Option<&[u64]>) -> BTreeSet<String> {
        let optional = [(METRIC_NAME, &self.metrics), (BUCKET, &self.buckets)];
        let Some(series) = series else {
            let extra =
                optional.iter().filter(|(_, postings)| !postings.is_empty()).map(|(name, _)| (*name).to_owned());
            return self.names.keys().map(|name| name.to_string()).chain(extra).collect();
        };
        let mut names = BTreeSet::new();
        for block in self.blocks_of(series) {
            names.extend(self.block(block).pairs.iter().map(|(name, _)| self.symbols.text(*name).to_string()));
        }
        for record in series.iter().filter_map(|reference| self.record(*reference)) {
            for (name, symbol) in [(METRIC_NAME, record.metric), (BUCKET, record.bucket)] {
                if symbol != NONE && !names.contains(name) {
                    names.insert(name.to_owned());
                }
            }
        }
        names
    }

    /// Values of the label `name` of those series (of all without a list), sorted.
    pub(super) fn label_values(&self, name: &str, series: Option<&[u64]>) -> BTreeSet<String> {
        let Some(series) = series else {
            let postings = match name {
                METRIC_NAME => Some(&self.metrics),
                BUCKET => Some(&self.buckets),
                _ => self.names.get(name),
            };
            return postings.into_iter().flat_map(Postings::iter).map(|(value, _)| value.to_string()).collect();
        };
        let symbols: BTreeSet<u32> = match name {
            METRIC_NAME => series.iter().filter_map(|reference| Some(self.record(*reference)?.metric)).collect(),
            BUCKET => series.iter().filter_map(|reference| Some(self.record(*reference)?.bucket)).collect(),
            _ => (self.blocks_of(series).into_iter())
                .flat_map(|block| self.block(block).pairs.iter())
                .filter(|(label, _)| **self.symbols.text(*label) == *name)
                .map(|(_, value)| *value)
                .collect(),
        };
        symbols
            .into_iter()
            .filter(|symbol| *symbol != NONE)
            .map(|symbol| self.symbols.text(symbol).to_string())
            .collect()
    }

    fn blocks_of(&self, series: &[u64]) -> BTreeSet<u32> {
        series.iter().filter_map(|reference| Some(self.record(*reference)?.block)).collect()
    }

    // === Sizes ===

    /// Bytes of memory, roughly.
    pub(super) fn size_bytes(&self) -> usize {
        let blocks: usize =
            self.blocks.iter().flatten().map(|block| block.pairs.len() * 8 + block.series.capacity() * 4).sum();
        let postings: usize = self.names.values().chain([&self.metrics, &self.buckets]).map(Postings::size_bytes).sum();
        let tables = (self.table.capacity() + self.block_table.capacity()) * 5;
        self.symbols.size_bytes()
            + blocks
            + postings
            + tables
            + self.blocks.capacity() * size_of::<Option<Block>>()
            + self.records.capacity() * size_of::<Record>()
    }

    /// Blocks and series in numbers, with the texts of those numbers.
    pub(super) fn copy(&self) -> IndexCopy {
        let mut texts = HashMap::new();
        let mut note = |symbol: u32| {
            texts.entry(symbol).or_insert_with(|| Arc::clone(self.symbols.text(symbol)));
        };
        let mut blocks = Vec::with_capacity(self.all_blocks.len() as usize);
        for block in self.blocks.iter().flatten() {
            block.pairs.iter().for_each(|(name, value)| {
                note(*name);
                note(*value);
            });
            let naming = |id: &u32| (self.records[*id as usize].metric, self.records[*id as usize].bucket);
            let series: Vec<(u32, u32)> = block.series.iter().map(naming).collect();
            series.iter().for_each(|(metric, _)| note(*metric));
            blocks.push(BlockCopy { pairs: block.pairs.clone(), series });
        }
        IndexCopy { blocks, texts }
    }

    /// How many distinct texts label names and values have.
    pub(super) fn symbol_count(&self) -> usize {
        self.symbols.len()
    }

    /// Calls `visit` with each label name, value and number of series that have the pair.
    pub(super) fn visit_pairs(&self, mut visit: impl FnMut(&str, &str, u64)) {
        let mut series_in: HashMap<u32, u64> = HashMap::new();
        for id in &self.all_blocks {
            series_in.insert(id, self.block(id).series.len() as u64);
        }
        for (name, postings) in &self.names {
            for (value, blocks) in postings.iter() {
                visit(name, value, blocks.iter().filter_map(|id| series_in.get(&id)).sum());
            }
        }
        for (name, postings) in [(METRIC_NAME, &self.metrics), (BUCKET, &self.buckets)] {
            for (value, series) in postings.iter() {
                visit(name, value, series.len());
            }
        }
    }
}
