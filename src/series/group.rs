//! Series that are appended together (one scrape, one rule) and so share one time column.
//!
//! In: rows of values. Out: snapshots to read from. The newest rows lie as they came; each sixteen become a [`Frame`].
//! Samples that come late lie apart. Invariants: times of rows rise; a slot belongs to one series until all its samples
//! are gone; locks are taken in the order group, journal, index.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::frame::{ABSENT, Frame, KEY_EVERY, ROWS, Row};
use super::journal::Chain;

/// Owner of a slot that nobody has.
const VACANT: u64 = u64::MAX;
/// Set in the owner of a slot whose series puts its next samples elsewhere.
const LEFT: u64 = 1 << 63;
/// Most slots of a group, so that packing a frame holds its lock for a few milliseconds at most.
const SLOT_LIMIT: usize = 32_768;
/// A row with fewer than one in so many of the last row's samples is not made: its series move to another group.
const SPARSE: usize = 4;

/// A group.
pub(super) struct Group {
    id: u64,
    is_solo: bool,
    state: Mutex<State>,
}

impl Group {
    /// A group without series. A solo group takes a single one.
    pub(super) fn new(id: u64, is_solo: bool) -> Self {
        Self { id, is_solo, state: Mutex::new(State::default()) }
    }

    /// Never used for another group.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Locks it.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Whether another series may join.
    pub(super) fn has_room(&self, state: &State) -> bool {
        let limit = if self.is_solo { 1 } else { SLOT_LIMIT };
        state.owners.len() - state.vacant.len() < limit
    }
}

/// What is behind the lock of a group.
#[derive(Default)]
pub(super) struct State {
    /// By slot, the reference of its series.
    owners: Vec<u64>,
    /// By slot, the slot that came next in the last append.
    successors: Vec<u32>,
    /// By slot, the value at the end of the last frame.
    previous: Vec<u64>,
    vacant: Vec<u32>,
    frames: VecDeque<Arc<Frame>>,
    frames_since_key: usize,
    staged: Vec<Row>,
    /// By slot, samples that came after a newer row, by time.
    late: BTreeMap<u32, Vec<(i64, u64)>>,
    late_samples: u64,
    last_fill: usize,
    /// What the journal knows of this group.
    pub(super) chain: Chain,
}

/// What became of one sample that was put at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    Stored,
    Duplicate,
    Conflicting,
    OutOfOrder,
    /// In order for its series, but this group has no row of that time and is past it.
    Misfit,
}

impl State {
    /// How many slots a row has.
    pub(super) fn width(&self) -> usize {
        self.owners.len()
    }

    /// By slot, the reference of its series; of no use for slots that [`State::is_owned`] denies.
    pub(super) fn owners(&self) -> &[u64] {
        &self.owners
    }

    /// Whether the next samples of that series belong in that slot.
    pub(super) fn is_owned(&self, slot: u32, reference: u64) -> bool {
        self.owners.get(slot as usize) == Some(&reference)
    }

    /// The slot that came after `slot` in the last append.
    pub(super) fn successor(&self, slot: u32) -> u32 {
        self.successors[slot as usize]
    }

    /// Remembers that `next` came after `slot`.
    pub(super) fn learn_successor(&mut self, slot: u32, next: u32) {
        self.successors[slot as usize] = next;
    }

    /// Gives a series a slot.
    pub(super) fn join(&mut self, reference: u64) -> u32 {
        let slot = match self.vacant.pop() {
            Some(slot) => {
                self.owners[slot as usize] = reference;
                slot
            }
            None => {
                self.owners.push(reference);
                self.successors.push(self.owners.len() as u32);
                self.previous.push(0);
                self.owners.len() as u32 - 1
            }
        };
        self.chain.forget(slot);
        slot
    }

    /// The series in that slot puts its next samples elsewhere.
    pub(super) fn leave(&mut self, slot: u32) {
        self.owners[slot as usize] |= LEFT;
    }

    /// Time of the newest row.
    pub(super) fn last_time(&self) -> i64 {
        self.staged.last().map_or_else(|| self.sealed_to(), |row| row.at)
    }

    /// Time of the oldest sample from `from` on; of those in a frame that begins earlier, `from`.
    pub(super) fn oldest_since(&self, from: i64) -> Option<i64> {
        let frame = self.frames.iter().find(|frame| frame.last() >= from).map(|frame| frame.first().max(from));
        let row = self.staged.iter().map(|row| row.at).find(|at| *at >= from);
        let late = self.late.values().filter_map(|late| late.get(late.partition_point(|(at, _)| *at < from)));
        frame.into_iter().chain(row).chain(late.map(|(at, _)| *at)).min()
    }

    fn sealed_to(&self) -> i64 {
        self.frames.back().map_or(i64::MIN, |frame| frame.last())
    }

    /// Whether a row of so few samples would waste the space of those missing.
    pub(super) fn is_sparse(&self, fill: usize) -> bool {
        fill * SPARSE < self.last_fill
    }

    /// Adds a row newer than all others, with so many samples.
    pub(super) fn push_row(&mut self, at: i64, values: Vec<u64>, fill: usize) {
        debug_assert!(at > self.last_time());
        self.staged.push(Row { at, values });
        self.last_fill = fill;
        if self.staged.len() >= ROWS {
            self.seal();
        }
    }

    /// Makes sure there is a row of that time among the newest, unless it would be sparse or lie in a frame.
    pub(super) fn ensure_row(&mut self, at: i64, fill: usize) {
        if self.staged_row(at).is_none()
            && at > self.sealed_to()
            && !self.is_sparse(fill)
            && self.staged.len() < ROWS - 1
        {
            let place = self.staged.partition_point(|row| row.at < at);
            self.staged.insert(place, Row { at, values: Vec::new() });
        }
    }

    /// Whether the row of that time still lies unpacked.
    pub(super) fn has_staged_row(&self, at: i64) -> bool {
        self.staged_row(at).is_some()
    }

    fn staged_row(&self, at: i64) -> Option<usize> {
        self.staged.iter().rposition(|row| row.at == at)
    }

    /// Puts one sample at a time that is not after the newest row.
    pub(super) fn put(&mut self, slot: u32, at: i64, bits: u64, window_ms: i64) -> Put {
        if self.is_too_old(slot, at, window_ms) {
            return Put::OutOfOrder;
        }
        let newest = self.newest(slot);
        if at <= newest
            && let Some(stored) = self.value_at(slot, at)
        {
            return if stored == bits { Put::Duplicate } else { Put::Conflicting };
        }
        if let Some(row) = self.staged_row(at) {
            let width = self.owners.len();
            let values = &mut self.staged[row].values;
            if values.len() < width {
                values.resize(width, ABSENT);
            }
            values[slot as usize] = bits;
            return Put::Stored;
        }
        if at > newest {
            return Put::Misfit;
        }
        let late = self.late.entry(slot).or_default();
        let place = late.partition_point(|(time, _)| *time < at);
        late.insert(place, (at, bits));
        self.late_samples += 1;
        Put::Stored
    }

    /// Time of the newest sample in that slot.
    fn newest(&self, slot: u32) -> i64 {
        let staged = self.staged.iter().rev().find(|row| row.values.get(slot as usize).is_some_and(|v| *v != ABSENT));
        if let Some(row) = staged {
            return row.at;
        }
        let frame = self.frames.iter().rev().find(|frame| frame.is_present(slot as usize));
        frame.map_or(i64::MIN, |frame| {
            let last_row = frame.presence(slot as usize).ilog2() as usize;
            frame.times().nth(last_row).unwrap_or(i64::MIN)
        })
    }

    /// Whether that time is further behind the newest sample in that slot than the window allows.
    pub(super) fn is_too_old(&self, slot: u32, at: i64, window_ms: i64) -> bool {
        let newest = self.newest(slot);
        at < newest && newest.saturating_sub(at) > window_ms
    }

    /// The sample of that slot and time.
    pub(super) fn value_at(&self, slot: u32, at: i64) -> Option<u64> {
        let found = self.snapshot(&[slot], at, at).column(0);
        found.first().map(|(_, bits)| *bits)
    }

    /// Packs the newest rows.
    pub(super) fn seal(&mut self) {
        if self.staged.is_empty() {
            return;
        }
        let is_key = self.frames.is_empty() || self.frames_since_key + 1 >= KEY_EVERY;
        self.frames_since_key = if is_key { 0 } else { self.frames_since_key + 1 };
        self.frames.push_back(Arc::new(Frame::pack(&self.staged, &mut self.previous, is_key)));
        self.staged.clear();
    }

    /// What is needed to read the samples of those slots in `[from, to]` without the lock.
    pub(super) fn snapshot(&self, slots: &[u32], from: i64, to: i64) -> Snapshot {
        let first = self.frames.partition_point(|frame| frame.last() < from);
        let end = self.frames.partition_point(|frame| frame.first() <= to).max(first);
        let start = (0..=first).rev().find(|i| self.frames.get(*i).is_some_and(|frame| frame.is_key()));
        let start = if first == end { end } else { start.unwrap_or(0) };
        let frames = (self.frames.range(start..end)).map(|frame| (frame.clone(), frame.rows_in(from, to))).collect();
        let staged = (self.staged.iter().filter(|row| row.at >= from && row.at <= to))
            .map(|row| Row {
                at: row.at,
                values: slots.iter().map(|slot| row.values.get(*slot as usize).copied().unwrap_or(ABSENT)).collect(),
            })
            .collect();
        let late = |slot: &u32| {
            let late = self.late.get(slot).map_or(&[][..], Vec::as_slice);
            late.iter().filter(|(at, _)| *at >= from && *at <= to).copied().collect()
        };
        let late = if self.late.is_empty() { Vec::new() } else { slots.iter().map(late).collect() };
        Snapshot { frames, staged, late, slots: slots.to_vec() }
    }

    /// Drops what is older than `horizon` and packs rows that have waited since before `idle`.
    pub(super) fn collect(&mut self, horizon: i64, idle: i64) -> Collected {
        if self.staged.last().is_some_and(|row| row.at < idle) {
            self.seal();
        }
        let mut dropped = 0;
        // Reading starts at key frames, so frames go only up to one.
        let old = self.frames.iter().take_while(|frame| frame.last() < horizon).count();
        let cut = if old == self.frames.len() {
            old
        } else {
            (0..=old).rev().find(|i| self.frames[*i].is_key()).unwrap_or(0)
        };
        for frame in self.frames.drain(..cut) {
            dropped += frame.samples();
        }
        let mut late_left = 0;
        self.late.retain(|_, late| {
            late.retain(|(at, _)| *at >= horizon);
            late_left += late.len() as u64;
            !late.is_empty()
        });
        dropped += self.late_samples - late_left;
        self.late_samples = late_left;
        if self.staged.capacity() > 0 && self.staged.is_empty() {
            self.staged = Vec::new();
        }
        Collected { dropped, emptied: self.emptied() }
    }

    /// Slots with an owner and no sample, with the references of the owners.
    fn emptied(&self) -> Vec<(u32, u64)> {
        (self.owners.iter().enumerate())
            .filter(|(slot, owner)| **owner != VACANT && !self.has_samples(*slot))
            .map(|(slot, owner)| (slot as u32, owner & !LEFT))
            .collect()
    }

    fn has_samples(&self, slot: usize) -> bool {
        self.frames.iter().rev().any(|frame| frame.is_present(slot))
            || self.staged.iter().any(|row| row.values.get(slot).is_some_and(|value| *value != ABSENT))
            || self.late.contains_key(&(slot as u32))
    }

    /// Frees a slot that has no samples.
    pub(super) fn vacate(&mut self, slot: u32) {
        self.owners[slot as usize] = VACANT;
        self.vacant.push(slot);
    }

    /// Whether nobody has a slot here.
    pub(super) fn is_deserted(&self) -> bool {
        self.vacant.len() == self.owners.len()
    }

    /// How many samples, frames and bytes are here.
    pub(super) fn sizes(&self) -> Sizes {
        let staged = self.staged.iter().map(|row| row.values.iter().filter(|v| **v != ABSENT).count() as u64);
        let framed = self.frames.iter().map(|frame| frame.samples());
        let rows: usize = self.staged.iter().map(|row| row.values.capacity() * 8 + size_of::<Row>()).sum();
        let late: usize = self.late.values().map(|late| late.capacity() * 16 + 32).sum();
        let per_slot = self.owners.capacity() * 8 + self.successors.capacity() * 4 + self.previous.capacity() * 8;
        let frames: usize = self.frames.iter().map(|frame| frame.size_bytes() + 16).sum();
        Sizes {
            samples: framed.chain(staged).sum::<u64>() + self.late_samples,
            frames: self.frames.len(),
            frame_bytes: frames,
            other_bytes: size_of::<Group>()
                + rows
                + late
                + per_slot
                + self.chain.size_bytes()
                + self.frames.capacity() * 8,
        }
    }
}

/// What garbage collection found in a group.
pub(super) struct Collected {
    /// Samples dropped.
    pub(super) dropped: u64,
    /// Slots left without samples, and whose they are.
    pub(super) emptied: Vec<(u32, u64)>,
}

/// What a group holds.
pub(super) struct Sizes {
    pub(super) samples: u64,
    pub(super) frames: usize,
    pub(super) frame_bytes: usize,
    pub(super) other_bytes: usize,
}

/// The samples of some slots of a group in a time range, as they were when it was taken.
pub(super) struct Snapshot {
    /// Each with its rows in the range; those before the first such rows only lead up to it.
    frames: Vec<(Arc<Frame>, Range<usize>)>,
    /// Newest rows; values by place in `slots`.
    staged: Vec<Row>,
    /// By place in `slots`; empty when no slot of the group has late samples.
    late: Vec<Vec<(i64, u64)>>,
    slots: Vec<u32>,
}

impl Snapshot {
    /// The times of all rows in the range.
    pub(super) fn times(&self) -> Vec<i64> {
        let framed = self.frames.iter().flat_map(|(frame, rows)| frame.times().skip(rows.start).take(rows.len()));
        framed.chain(self.staged.iter().map(|row| row.at)).collect()
    }

    /// Appends the value of the `i`th slot for each of [`Snapshot::times`], [`ABSENT`] where there is none.
    pub(super) fn values(&self, i: usize, values: &mut Vec<u64>) {
        let slot = self.slots[i] as usize;
        let (mut previous, mut column) = (0, [0; ROWS]);
        for (frame, rows) in &self.frames {
            if frame.is_key() {
                previous = frame.base(slot);
            }
            frame.column(slot, &mut previous, &mut column);
            values.extend_from_slice(&column[rows.clone()]);
        }
        values.extend(self.staged.iter().map(|row| row.values[i]));
    }

    /// The values of all slots, which rise, one slot after another: for each its value at each of [`Snapshot::times`].
    pub(super) fn matrix(&self, times: usize) -> Vec<u64> {
        let mut values = vec![ABSENT; self.slots.len() * times];
        let mut previous = vec![0; self.slots.len()];
        let mut done = 0;
        for (frame, rows) in &self.frames {
            frame.columns((&self.slots, &mut previous), rows.clone(), &mut values[done.min(times)..], times);
            done += rows.len();
        }
        for row in &self.staged {
            for (i, value) in row.values.iter().enumerate() {
                values[i * times + done] = *value;
            }
            done += 1;
        }
        values
    }

    /// Samples of the `i`th slot that came late.
    pub(super) fn late(&self, i: usize) -> &[(i64, u64)] {
        self.late.get(i).map_or(&[], Vec::as_slice)
    }

    /// All samples of the `i`th slot, oldest first.
    pub(super) fn column(&self, i: usize) -> Vec<(i64, u64)> {
        let mut values = Vec::new();
        self.values(i, &mut values);
        let mut samples: Vec<(i64, u64)> = self
            .times()
            .into_iter()
            .zip(values)
            .filter(|(_, bits)| *bits != ABSENT)
            .chain(self.late(i).iter().copied())
            .collect();
        if !self.late(i).is_empty() {
            samples.sort_by_key(|(at, _)| *at);
        }
        samples
    }

    /// Whether the `i`th slot has any sample in the range; reads no values.
    pub(super) fn is_present(&self, i: usize) -> bool {
        let slot = self.slots[i] as usize;
        self.staged.iter().any(|row| row.values[i] != ABSENT)
            || !self.late(i).is_empty()
            || self.frames.iter().rev().any(|(frame, rows)| {
                let presence = u32::from(frame.presence(slot));
                presence >> rows.start & ((1_u32 << rows.len()) - 1) != 0
            })
    }
}
