//! Every accepted sample as bytes for PostgreSQL, so that a restart finds what memory held.
//!
//! In: rows as they are appended. Out: [`JournalBatch`]es. Within an *epoch* (a quarter of an hour) each batch names only
//! series that were not named before and holds only differences to the values before, so a batch can be read after all
//! batches before it back to the one that starts its epoch. **Trim only whole epochs**: delete batches older than some
//! batch with `starts_epoch`, never the start of an epoch whose later batches are kept. Invariant: the buffer is bounded;
//! past the limit the oldest batch goes, with those of its epoch that cannot be read without it, and is counted.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};

use super::bits::{put_signed, put_text, put_varint};
use super::feed::Line;
use super::frame::ABSENT;
use super::head::Counters;
use super::index::Index;
use crate::model::Timestamp;

/// First bytes of a batch.
pub(super) const MAGIC: [u8; 4] = *b"MSJ1";
/// Most bytes of a batch before compression: one row of a full group that is named for the first time.
pub(super) const RAW_LIMIT_BYTES: usize = 512 << 20;
/// A batch is closed at this many bytes before compression even when nobody drains.
const SEAL_BYTES: usize = 1 << 20;
/// A batch is closed at this many samples: a steady row takes a few bytes, and whoever reads a batch holds all of it.
const SEAL_SAMPLES: usize = 200_000;
/// How much time one epoch spans.
const EPOCH_MS: i64 = 15 * 60_000;

/// Kinds of records in a batch.
pub(super) const BLOCK: u8 = 1;
pub(super) const MEMBER: u8 = 2;
pub(super) const ROW: u8 = 3;

/// Kinds of stretches in a row: the lower two bits of their head, above them the length less one.
pub(super) const SAME: u64 = 0;
pub(super) const MISSING: u64 = 1;
pub(super) const WHOLE: u64 = 2;
pub(super) const BITS: u64 = 3;

/// Some seconds of accepted samples, compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalBatch {
    /// What [`super::Head::replay`] reads.
    pub bytes: Vec<u8>,
    /// How many samples.
    pub sample_count: usize,
    /// Oldest time of a sample.
    pub from: Timestamp,
    /// Newest time of a sample.
    pub to: Timestamp,
    /// Whether it can be read without the batches before it. Only what is older than such a batch may be trimmed.
    pub starts_epoch: bool,
}

/// What the journal knows of a group: the values it wrote last, and which slots it has named.
#[derive(Default)]
pub(super) struct Chain {
    epoch: u64,
    number: u32,
    previous: Vec<u64>,
    unnamed: Vec<u32>,
}

impl Chain {
    /// The slot has another owner: it must be named again.
    pub(super) fn forget(&mut self, slot: u32) {
        self.unnamed.push(slot);
    }

    /// Bytes of memory.
    pub(super) fn size_bytes(&self) -> usize {
        self.previous.capacity() * 8 + self.unnamed.capacity() * 4
    }
}

/// The journal.
pub(super) struct Journal {
    /// Whether anything is to be written down at all.
    is_read: AtomicBool,
    state: Mutex<State>,
}

struct State {
    id: u64,
    limit_bytes: usize,
    lines: Vec<Weak<Line>>,
    epoch: u64,
    sequence: u64,
    epoch_from: i64,
    epoch_bytes: usize,
    groups: u32,
    named_blocks: HashSet<u64>,
    pending: Pending,
    sealed: VecDeque<JournalBatch>,
    sealed_bytes: usize,
}

#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    samples: usize,
    from: i64,
    to: i64,
    last_at: i64,
}

impl Journal {
    /// An empty journal of at most `limit_bytes`; none at all when that is zero.
    pub(super) fn new(limit_bytes: usize) -> Self {
        use std::hash::BuildHasher;
        // Tells the batches of this process from those of others, with which their epochs must not be mixed.
        let id = std::hash::RandomState::new().hash_one(0_u64);
        let state = State {
            id,
            limit_bytes,
            lines: Vec::new(),
            epoch: 1,
            sequence: 0,
            epoch_from: i64::MAX,
            epoch_bytes: 0,
            groups: 0,
            named_blocks: HashSet::new(),
            pending: Pending::default(),
            sealed: VecDeque::new(),
            sealed_bytes: 0,
        };
        Self { is_read: AtomicBool::new(limit_bytes > 0), state: Mutex::new(state) }
    }

    /// From the next batch on, which starts an epoch, `line` gets a copy of each.
    pub(super) fn add_line(&self, line: &Arc<Line>, counters: &Counters) {
        let mut state = self.state.lock();
        state.seal();
        if state.sequence > 0 {
            state.start_epoch();
        }
        state.lines.push(Arc::downgrade(line));
        state.enforce_limit(counters);
        self.is_read.store(true, Relaxed);
    }

    /// Closes the batch that is being written.
    pub(super) fn close_batch(&self, counters: &Counters) {
        let mut state = self.state.lock();
        state.seal();
        state.enforce_limit(counters);
    }

    /// Writes down the samples of one row of a group.
    pub(super) fn record(
        &self,
        (chain, owners): (&mut Chain, &[u64]),
        (at, row): (i64, &[u64]),
        index: &RwLock<Index>,
        counters: &Counters,
    ) {
        if !self.is_read.load(Relaxed) {
            return;
        }
        let state = &mut *self.state.lock();
        if chain.epoch != state.epoch {
            chain.epoch = state.epoch;
            chain.number = state.groups;
            state.groups += 1;
            chain.previous.clear();
            chain.unnamed = (0..owners.len() as u32).collect();
        }
        chain.previous.resize(owners.len(), 0);
        if !chain.unnamed.is_empty() {
            state.name_members(chain, owners, &index.read());
        }
        state.write_row(chain, at, row);
        if state.pending.bytes.len() >= SEAL_BYTES || state.pending.samples >= SEAL_SAMPLES {
            state.seal();
            state.enforce_limit(counters);
        }
    }

    /// Takes the oldest batch.
    pub(super) fn drain(&self) -> Option<JournalBatch> {
        let mut state = self.state.lock();
        if state.sealed.is_empty() {
            state.seal();
        }
        let batch = state.sealed.pop_front()?;
        state.sealed_bytes -= batch.bytes.len();
        Some(batch)
    }

    /// Puts a drained batch back in front.
    pub(super) fn give_back(&self, batch: JournalBatch, counters: &Counters) {
        let mut state = self.state.lock();
        state.sealed_bytes += batch.bytes.len();
        state.sealed.push_front(batch);
        state.enforce_limit(counters);
    }

    /// Bytes that wait.
    pub(super) fn size_bytes(&self) -> usize {
        let state = self.state.lock();
        state.sealed_bytes + state.pending.bytes.len()
    }
}

impl State {
    fn name_members(&mut self, chain: &mut Chain, owners: &[u64], index: &Index) {
        let out = &mut self.pending.bytes;
        for slot in chain.unnamed.drain(..) {
            let reference = owners[slot as usize];
            let Some((serial, metric, bucket)) = index.naming(reference) else { continue };
            if self.named_blocks.insert(serial) {
                out.push(BLOCK);
                put_varint(out, serial);
                let pairs = index.block_pairs(reference);
                put_varint(out, pairs.len() as u64);
                for (name, value) in pairs {
                    put_text(out, name);
                    put_text(out, value);
                }
            }
            out.push(MEMBER);
            put_varint(out, chain.number.into());
            put_varint(out, slot.into());
            put_varint(out, serial);
            put_text(out, metric);
            put_text(out, bucket);
            chain.previous[slot as usize] = 0;
        }
        chain.unnamed = Vec::new();
    }

    fn write_row(&mut self, chain: &mut Chain, at: i64, row: &[u64]) {
        let pending = &mut self.pending;
        if pending.samples == 0 {
            (pending.from, pending.to, pending.last_at) = (at, at, 0);
        }
        pending.from = pending.from.min(at);
        pending.to = pending.to.max(at);
        self.epoch_from = self.epoch_from.min(at);
        let out = &mut pending.bytes;
        out.push(ROW);
        put_varint(out, chain.number.into());
        put_signed(out, at.wrapping_sub(pending.last_at));
        pending.last_at = at;
        put_varint(out, row.len() as u64);
        let mut slot = 0;
        while slot < row.len() {
            let kind = kind_of(chain.previous[slot], row[slot]);
            let end = (slot + 1..row.len()).find(|i| kind_of(chain.previous[*i], row[*i]) != kind).unwrap_or(row.len());
            put_varint(out, ((end - slot - 1) as u64) << 2 | kind);
            for (previous, &value) in chain.previous[slot..end].iter_mut().zip(&row[slot..end]) {
                match kind {
                    WHOLE => put_signed(out, f64::from_bits(value) as i64 - f64::from_bits(*previous) as i64),
                    BITS => out.extend((value ^ *previous).to_le_bytes()),
                    _ => {}
                }
                if kind != MISSING {
                    *previous = value;
                    pending.samples += 1;
                }
            }
            slot = end;
        }
    }

    /// Closes the batch that is being written; starts another epoch when this one is long enough.
    fn seal(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        if pending.bytes.is_empty() {
            return;
        }
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.id.to_le_bytes());
        put_varint(&mut bytes, self.epoch);
        put_varint(&mut bytes, self.sequence);
        put_varint(&mut bytes, pending.bytes.len() as u64);
        compress(&pending.bytes, &mut bytes);
        self.epoch_bytes += bytes.len();
        let batch = JournalBatch {
            bytes,
            sample_count: pending.samples,
            from: Timestamp::from_millis(pending.from),
            to: Timestamp::from_millis(pending.to),
            starts_epoch: self.sequence == 0,
        };
        self.lines.retain(|line| line.upgrade().inspect(|line| line.offer(&batch)).is_some());
        let lines = || self.lines.iter().filter_map(Weak::upgrade);
        let is_unreadable = lines().any(|line| line.misses_start());
        // While batches wait, epochs are short, so that dropping one loses little.
        let limits = lines().map(|line| line.limit_bytes()).chain((self.limit_bytes > 0).then_some(self.limit_bytes));
        let most_bytes = limits.min().map_or(usize::MAX, |limit| limit / 8);
        if self.limit_bytes > 0 {
            self.sealed_bytes += batch.bytes.len();
            self.sealed.push_back(batch);
        }
        self.sequence += 1;
        let spans_ms = pending.to.saturating_sub(self.epoch_from);
        if spans_ms >= EPOCH_MS || self.epoch_bytes > most_bytes || is_unreadable {
            self.start_epoch();
        }
    }

    fn start_epoch(&mut self) {
        self.epoch += 1;
        self.sequence = 0;
        self.epoch_from = i64::MAX;
        self.epoch_bytes = 0;
        self.groups = 0;
        self.named_blocks = HashSet::new();
    }

    /// Drops the oldest batches while there are too many bytes, and what cannot be read without them.
    fn enforce_limit(&mut self, counters: &Counters) {
        while self.limit_bytes > 0 && self.sealed_bytes + self.pending.bytes.len() > self.limit_bytes {
            if !self.drop_oldest(counters) {
                return;
            }
            while self.sealed.front().is_some_and(|batch| !batch.starts_epoch) {
                self.drop_oldest(counters);
            }
            if self.sealed.is_empty() && self.sequence > 0 {
                // What is being written continues a dropped epoch: it cannot be read either, but by the feeds.
                if !self.lines.is_empty() && !self.pending.bytes.is_empty() {
                    self.seal();
                    self.drop_oldest(counters);
                }
                let pending = std::mem::take(&mut self.pending);
                counters.journal_dropped_samples.fetch_add(pending.samples as u64, Relaxed);
                counters.journal_dropped_batches.fetch_add(u64::from(pending.samples > 0), Relaxed);
                if self.sequence > 0 {
                    self.start_epoch();
                }
            }
        }
    }

    fn drop_oldest(&mut self, counters: &Counters) -> bool {
        let Some(batch) = self.sealed.pop_front() else { return false };
        self.sealed_bytes -= batch.bytes.len();
        counters.journal_dropped_batches.fetch_add(1, Relaxed);
        counters.journal_dropped_samples.fetch_add(batch.sample_count as u64, Relaxed);
        true
    }
}

/// How a value is written down after `previous`.
fn kind_of(previous: u64, value: u64) -> u64 {
    if value == ABSENT {
        MISSING
    } else if value == previous {
        SAME
    } else if is_whole(value) && is_whole(previous) {
        WHOLE
    } else {
        BITS
    }
}

/// Whether the bits are those of a whole number that is exact as `f64` with all its neighbours.
fn is_whole(bits: u64) -> bool {
    const EXACT_LIMIT: f64 = 9_007_199_254_740_992.0; // 2^53
    let value = f64::from_bits(bits);
    value.abs() < EXACT_LIMIT && (value as i64 as f64).to_bits() == bits
}

/// Appends `raw` as a zstd frame with a checksum.
fn compress(raw: &[u8], out: &mut Vec<u8>) {
    let mut compressor = zstd::bulk::Compressor::new(1).expect("invariant: level 1 exists");
    compressor.include_checksum(true).expect("invariant: zstd has checksums");
    out.extend(compressor.compress(raw).expect("invariant: compressing into a growing buffer does not fail"));
}
