//! The hot path: the samples of one time, each put at the place of its series.
//!
//! In: a time and (series, value) pairs. Out: what became of them. A batch like the one before it finds its whole group
//! by its first series and fills one row by comparing references in order; only what differs is looked up.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::frame::ABSENT;
use super::group::{Group, Put, State};
use super::head::{Appended, SeriesRef, Shared};
use super::index::{Located, Place};
use crate::model::Timestamp;

/// A series that has moved so often stays alone: it never came with the same others twice.
const MOST_MOVES: usize = 8;
/// No slot.
const NOWHERE: u32 = u32::MAX;

/// One call of append.
struct Append<'a> {
    shared: &'a Shared,
    at: i64,
    batch: &'a [(SeriesRef, f64)],
    window_ms: i64,
    is_journaled: bool,
    result: Appended,
    /// Samples of other groups than the first: group, slot, place in the batch.
    elsewhere: Vec<(Arc<Group>, u32, usize)>,
    /// Samples of series without a place: place in the batch.
    homeless: Vec<usize>,
    /// Samples that are not the newest, of series that have samples in former groups too: group, slot, place in the batch.
    with_past: Vec<(Arc<Group>, u32, usize)>,
}

impl Shared {
    /// Appends what was just measured.
    pub(super) fn append_live(&self, at: i64, batch: &[(SeriesRef, f64)]) -> Appended {
        let window_ms = self.config.out_of_order_window.as_millis();
        if at < Timestamp::MIN.as_millis() || at > Timestamp::MAX.as_millis() {
            self.counters.samples_out_of_order.fetch_add(batch.len() as u64, Relaxed);
            return Appended { out_of_order: batch.len(), ..Appended::default() };
        }
        let result = self.append_marking(at, batch, || self.append(Append::new(self, at, batch, window_ms, true)));
        let counters = &self.counters;
        counters.samples_duplicate.fetch_add(result.duplicates as u64, Relaxed);
        counters.samples_conflicting.fetch_add(result.conflicting as u64, Relaxed);
        counters.samples_out_of_order.fetch_add(result.out_of_order as u64, Relaxed);
        result
    }

    /// Appends what a journal tells: in any order, and not journaled again.
    pub(super) fn append_restored(&self, at: i64, batch: &[(SeriesRef, f64)]) -> Appended {
        self.append(Append::new(self, at, batch, i64::MAX, false))
    }

    fn append(&self, mut append: Append<'_>) -> Appended {
        append.run();
        let result = append.result;
        if result.accepted > 0 {
            self.counters.samples_accepted.fetch_add(result.accepted as u64, Relaxed);
            self.max_time.fetch_max(append.at, Relaxed);
            let empty = Timestamp::MAX.as_millis();
            if self.complete_from.load(Relaxed) == empty {
                // What is older than the last cut is in chunks, unless this is one that came late.
                let from = append.at.max(self.chunked_until.load(Relaxed));
                let _ = self.complete_from.compare_exchange(empty, from, SeqCst, Relaxed);
                // After the exchange: a raise that saw no sample yet is seen here.
                self.raise_complete_from(self.incomplete_until.load(SeqCst));
            }
        }
        result
    }
}

impl<'a> Append<'a> {
    fn new(shared: &'a Shared, at: i64, batch: &'a [(SeriesRef, f64)], window_ms: i64, is_journaled: bool) -> Self {
        let (elsewhere, homeless, with_past) = (Vec::new(), Vec::new(), Vec::new());
        Self { shared, at, batch, window_ms, is_journaled, result: Appended::default(), elsewhere, homeless, with_past }
    }

    fn run(&mut self) {
        match self.leader() {
            Some(place) => self.append_to_leader(&place),
            None => {
                let strays: Vec<(usize, u32)> = (0..self.batch.len()).map(|i| (i, NOWHERE)).collect();
                self.look_up(&strays, u64::MAX);
            }
        }
        let mut elsewhere = std::mem::take(&mut self.elsewhere);
        elsewhere.sort_by_key(|(group, _, i)| (group.id(), *i));
        for members in elsewhere.chunk_by(|a, b| a.0.id() == b.0.id()) {
            self.append_to_members(members);
        }
        let mut with_past = std::mem::take(&mut self.with_past);
        with_past.sort_by_key(|(group, slot, i)| (group.id(), *slot, *i));
        for twins in with_past.chunk_by(|a, b| (a.0.id(), a.1) == (b.0.id(), b.1)) {
            self.append_to_past(twins);
        }
        if !self.homeless.is_empty() {
            self.found_groups();
        }
        self.result.vanished.sort_unstable();
    }

    /// The place of the first series that has one.
    fn leader(&self) -> Option<Place> {
        let index = self.shared.index.read();
        self.batch.iter().find_map(|(series, _)| match index.locate(series.0) {
            Located::At(place) => Some(place.clone()),
            _ => None,
        })
    }

    fn append_to_leader(&mut self, leader: &Place) {
        let group = &leader.group;
        let mut state = group.lock();
        let in_order = self.at > state.last_time();
        let mut row = vec![ABSENT; state.width()];
        let (mut strays, mut expected, mut before) = (Vec::new(), leader.slot, NOWHERE);
        let (mut members, mut fill) = (Vec::new(), 0);
        for (i, (series, value)) in self.batch.iter().enumerate() {
            if !state.is_owned(expected, series.0) {
                strays.push((i, before));
                before = NOWHERE;
            } else if in_order && row[expected as usize] == ABSENT {
                row[expected as usize] = stored_bits(*value);
                fill += 1;
                (before, expected) = (expected, state.successor(expected));
            } else {
                members.push((expected, i)); // twice in the batch, or not newer than what is here
                (before, expected) = (expected, state.successor(expected));
            }
        }
        let mut twins = HashMap::new();
        for (before, slot, i) in self.look_up(&strays, group.id()) {
            if before != NOWHERE {
                state.learn_successor(before, slot);
            }
            if !in_order {
                members.push((slot, i));
            } else if row[slot as usize] == ABSENT {
                row[slot as usize] = stored_bits(self.batch[i].1);
                fill += 1;
            } else {
                twins.insert(self.batch[i].0, (slot, false)); // the row may hold a sample that comes after this
            }
        }
        self.keep_first(twins, &mut row, &mut members);
        members.sort_unstable_by_key(|(_, i)| *i);
        if !in_order {
            let members = self.set_past_apart(group, members);
            return self.put_each(group, &mut state, &members);
        }
        if fill == 0 {
            return;
        }
        if state.is_sparse(fill) {
            return self.move_out(&mut state, &row);
        }
        if group.has_room(&state) {
            fill += self.join(group, &mut state, &mut row);
        }
        self.repeat_each(&row, &members);
        self.push(&mut state, row, fill);
    }

    /// Looks up samples that are not where they were expected. Those of the group come back as the slot before them in
    /// the batch, their slot and place in the batch; the others are noted.
    fn look_up(&mut self, strays: &[(usize, u32)], group: u64) -> Vec<(u32, u32, usize)> {
        if strays.is_empty() {
            return Vec::new();
        }
        let index = self.shared.index.read();
        let mut here: Vec<(u32, u32, usize)> = Vec::new();
        for &(i, before) in strays {
            match index.locate(self.batch[i].0.0) {
                Located::Gone => self.result.vanished.push(i),
                Located::Homeless(_) => self.homeless.push(i),
                Located::At(place) if place.group.id() == group => {
                    let before = match here.last() {
                        Some((_, slot, last)) if last + 1 == i => *slot,
                        _ => before,
                    };
                    here.push((before, place.slot, i));
                }
                Located::At(place) => self.elsewhere.push((place.group.clone(), place.slot, i)),
            }
        }
        here
    }

    /// Appends samples whose group and slot are known.
    fn append_to_members(&mut self, members: &[(Arc<Group>, u32, usize)]) {
        let group = &members[0].0;
        let mut state = group.lock();
        let mut owned = Vec::with_capacity(members.len());
        for (_, slot, i) in members {
            if state.is_owned(*slot, self.batch[*i].0.0) {
                owned.push((*slot, *i));
            } else {
                self.result.vanished.push(*i); // moved or forgotten meanwhile
            }
        }
        if self.at <= state.last_time() {
            let owned = self.set_past_apart(group, owned);
            return self.put_each(group, &mut state, &owned);
        }
        let mut row = vec![ABSENT; state.width()];
        let (mut again, mut fill) = (Vec::new(), 0);
        for (slot, i) in owned {
            if row[slot as usize] == ABSENT {
                row[slot as usize] = stored_bits(self.batch[i].1);
                fill += 1;
            } else {
                again.push((slot, i));
            }
        }
        if fill == 0 {
            return;
        }
        if state.is_sparse(fill) {
            return self.move_out(&mut state, &row);
        }
        self.repeat_each(&row, &again);
        self.push(&mut state, row, fill);
    }

    /// Takes out samples of series that may have one of this time in a former group: looking there needs another lock.
    fn set_past_apart(&mut self, group: &Arc<Group>, members: Vec<(u32, usize)>) -> Vec<(u32, usize)> {
        let index = self.shared.index.read();
        let (past, plain): (Vec<_>, Vec<_>) =
            members.into_iter().partition(|(_, i)| index.places(self.batch[*i].0.0).nth(1).is_some());
        self.with_past.extend(past.into_iter().map(|(slot, i)| (group.clone(), slot, i)));
        plain
    }

    /// Puts the samples of one series unless a former group of it has one of this time.
    ///
    /// All of them at once: the first may make the series leave its slot, and the others must go with it.
    fn append_to_past(&mut self, twins: &[(Arc<Group>, u32, usize)]) {
        let (group, slot, first) = &twins[0];
        let (slot, series) = (*slot, self.batch[*first].0);
        if group.lock().is_too_old(slot, self.at, self.window_ms) {
            self.result.out_of_order += twins.len();
            return;
        }
        let places: Vec<Place> = self.shared.index.read().places(series.0).cloned().collect();
        let former = places.iter().filter(|place| place.group.id() != group.id() || place.slot != slot);
        for place in former {
            let stored = place.group.lock().value_at(place.slot, self.at);
            if let Some(stored) = stored {
                return twins.iter().for_each(|(_, _, i)| self.repeat(stored, stored_bits(self.batch[*i].1)));
            }
        }
        let mut state = group.lock();
        if state.is_owned(slot, series.0) {
            let members: Vec<(u32, usize)> = twins.iter().map(|(_, slot, i)| (*slot, *i)).collect();
            self.put_each(group, &mut state, &members);
        } else {
            // Another append or garbage collection was quicker: this one takes all samples of a slot here at once.
            self.result.vanished.extend(twins.iter().map(|(_, _, i)| *i));
        }
    }

    /// Puts samples one by one at a time that is not after the newest row of their group.
    fn put_each(&mut self, group: &Arc<Group>, state: &mut State, members: &[(u32, usize)]) {
        state.ensure_row(self.at, members.len());
        let mut written = vec![ABSENT; state.width()];
        let mut stored = 0;
        for &(slot, i) in members {
            let bits = stored_bits(self.batch[i].1);
            match state.put(slot, self.at, bits, self.window_ms) {
                Put::Stored => {
                    written[slot as usize] = bits;
                    stored += 1;
                }
                Put::Duplicate => self.result.duplicates += 1,
                Put::Conflicting => self.result.conflicting += 1,
                Put::OutOfOrder => self.result.out_of_order += 1,
                Put::Misfit => {
                    state.leave(slot);
                    self.shared.index.write().unsettle(self.batch[i].0.0);
                    self.homeless.push(i);
                }
            }
        }
        if state.has_staged_row(self.at) && group.has_room(state) && !self.homeless.is_empty() {
            let mut row = Vec::new();
            stored += self.join(group, state, &mut row);
            written.resize(state.width(), ABSENT);
            for (slot, bits) in row.into_iter().enumerate().filter(|(_, bits)| *bits != ABSENT) {
                state.put(slot as u32, self.at, bits, self.window_ms); // into the row that is there
                written[slot] = bits;
            }
        }
        if stored > 0 {
            self.result.accepted += stored;
            self.journal(state, &written);
        }
    }

    /// Gives the series without a place slots of this group and puts their samples into the row; how many.
    fn join(&mut self, group: &Arc<Group>, state: &mut State, row: &mut Vec<u64>) -> usize {
        let homeless = std::mem::take(&mut self.homeless);
        let mut joined = 0;
        if homeless.is_empty() {
            return joined;
        }
        let mut index = self.shared.index.write();
        for i in homeless {
            let (series, value) = self.batch[i];
            match index.locate(series.0) {
                Located::Gone => self.result.vanished.push(i),
                Located::At(place)
                    if place.group.id() == group.id() && row.get(place.slot as usize).is_some_and(|v| *v != ABSENT) =>
                {
                    self.repeat(row[place.slot as usize], stored_bits(value));
                }
                Located::At(_) => self.result.vanished.push(i), // another append was quicker: the next finds it
                Located::Homeless(moves) if moves >= MOST_MOVES && state.width() > 0 => self.homeless.push(i),
                Located::Homeless(_) if !group.has_room(state) => self.homeless.push(i),
                Located::Homeless(_) => {
                    let slot = state.join(series.0);
                    index.settle(series.0, Place { group: group.clone(), slot });
                    row.resize(state.width(), ABSENT);
                    row[slot as usize] = stored_bits(value);
                    joined += 1;
                }
            }
        }
        joined
    }

    /// New groups for the series that have no place.
    fn found_groups(&mut self) {
        while !self.homeless.is_empty() {
            let is_solo = {
                let index = self.shared.index.read();
                let moves = |i: usize| match index.locate(self.batch[i].0.0) {
                    Located::Homeless(moves) => moves,
                    _ => 0,
                };
                // The restless go last, one by one.
                self.homeless.sort_by_key(|i| (moves(*i) >= MOST_MOVES, *i));
                self.homeless.first().is_some_and(|i| moves(*i) >= MOST_MOVES)
            };
            let group = Arc::new(Group::new(self.shared.next_group.fetch_add(1, Relaxed), is_solo));
            let mut state = group.lock();
            let mut row = Vec::new();
            let fill = self.join(&group, &mut state, &mut row);
            if fill > 0 {
                self.push(&mut state, row, fill);
                drop(state);
                self.shared.groups.lock().push(group);
            }
        }
    }

    /// The samples of the row are too few for their group: their series move out together.
    fn move_out(&mut self, state: &mut State, row: &[u64]) {
        let mut index = self.shared.index.write();
        let movers: HashSet<u64> =
            (row.iter().zip(state.owners())).filter(|(bits, _)| **bits != ABSENT).map(|(_, owner)| *owner).collect();
        for (slot, _) in row.iter().enumerate().filter(|(_, bits)| **bits != ABSENT) {
            index.unsettle(state.owners()[slot]);
            state.leave(slot as u32);
        }
        self.homeless.extend((0..self.batch.len()).filter(|i| movers.contains(&self.batch[*i].0.0)));
        self.homeless.sort_unstable();
    }

    fn push(&mut self, state: &mut State, row: Vec<u64>, fill: usize) {
        self.result.accepted += fill;
        self.journal(state, &row);
        state.push_row(self.at, row, fill);
    }

    fn journal(&self, state: &mut State, row: &[u64]) {
        if self.is_journaled {
            let mut chain = std::mem::take(&mut state.chain);
            let shared = self.shared;
            shared.journal.record((&mut chain, state.owners()), (self.at, row), &shared.index, &shared.counters);
            state.chain = chain;
        }
    }

    fn repeat_each(&mut self, row: &[u64], members: &[(u32, usize)]) {
        for (slot, i) in members {
            self.repeat(row[*slot as usize], stored_bits(self.batch[*i].1));
        }
    }

    /// Makes sure that of several samples in the batch of a series the row holds the first and `members` the others. Given
    /// are such series, with their slots and whether their first was met.
    fn keep_first(&self, mut twins: HashMap<SeriesRef, (u32, bool)>, row: &mut [u64], members: &mut Vec<(u32, usize)>) {
        if twins.is_empty() {
            return;
        }
        members.retain(|(_, i)| !twins.contains_key(&self.batch[*i].0));
        for (i, (series, value)) in self.batch.iter().enumerate() {
            match twins.get_mut(series) {
                Some((slot, is_met @ false)) => {
                    row[*slot as usize] = stored_bits(*value);
                    *is_met = true;
                }
                Some((slot, _)) => members.push((*slot, i)),
                None => {}
            }
        }
    }

    /// There is a sample of that series and time already.
    fn repeat(&mut self, stored: u64, offered: u64) {
        *(if stored == offered { &mut self.result.duplicates } else { &mut self.result.conflicting }) += 1;
    }
}

/// The bits to store of a value: its own, but for the one NaN that stands for no sample.
fn stored_bits(value: f64) -> u64 {
    let bits = value.to_bits();
    if bits == ABSENT { f64::NAN.to_bits() } else { bits }
}
