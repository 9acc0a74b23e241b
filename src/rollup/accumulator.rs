//! The memory of the rollup: slots with their last values, edges, and what each edge did in each minute held.
//!
//! In: what a series counts, its samples in time order. Out: [`EdgeMinute`]s.
//! Invariant: an edge is held exactly while a slot or a minute refers to it; every table is bounded by [`Config`].

mod restored;
mod sums;
mod tables;
mod unwritten;
mod window;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::model::workload::{EdgeKey, LatencyHistogram, Outcome, Texts};
use crate::model::{EdgeMinute, Labels, Timestamp, is_stale};
use restored::Restored;
pub(super) use restored::{LabelsKey, TakenUp, labels_key};
pub(super) use sums::Sums;
pub(super) use unwritten::CellState;

use super::{Config, Counted, Counters, Counting, MAX_GAP, Size, SlotId};

const MINUTE_MS: i64 = 60_000;
const VACANT: u32 = u32::MAX;
const NEVER: i64 = i64::MIN;

type FastMap<K, V> = hashbrown::HashMap<K, V, foldhash::fast::FixedState>;

/// See the module.
pub(super) struct Accumulator {
    config: Config,
    counters: Arc<Counters>,
    slots: Vec<Slot>,
    free_slots: Vec<u32>,
    edges: Vec<Option<Edge>>,
    free_edges: Vec<u32>,
    edge_ids: HashMap<Arc<EdgeKey>, u32>,
    /// Of those edges.
    texts: Texts,
    groups: Vec<Group>,
    free_groups: Vec<u32>,
    group_ids: FastMap<(u64, u64), u32>,
    layouts: Vec<Arc<[f64]>>,
    minutes: BTreeMap<i64, FastMap<u32, Cell>>,
    /// Counts changes of cells, so that each state of a cell has a number of its own.
    version: u64,
    /// Whether minutes stay until somebody has written them.
    holds_unwritten: bool,
    restored: Restored,
    /// The minute the window ends in, once a scrape has said.
    now: Option<i64>,
    /// Batches in a row whose time lies outside the window.
    strays: u32,
    /// Room to put label sets together in.
    text: String,
}

/// One series: 32 bytes, since there is one for each bucket of each histogram.
#[derive(Clone, Copy)]
struct Slot {
    last: f64,
    last_at: i64,
    edge: u32,
    what: What,
}

/// [`Counted`] with its texts interned. Numbers of outcomes and buckets are small by their limits.
#[derive(Clone, Copy)]
enum What {
    Requests(u16),
    Bucket { group: u32, position: u16 },
    LatencySum,
    RequestBytes,
    ResponseBytes,
    RequestMessages,
    ResponseMessages,
    Closed,
    ClosedWith(u16),
}

struct Edge {
    key: Arc<EdgeKey>,
    outcomes: Vec<Outcome>,
    slots: u32,
    minutes: u32,
}

/// The bucket series of one histogram (equal labels but for `le`), to know which bounds belong together.
#[derive(Default)]
struct Group {
    key: (u64, u64),
    /// Bound and slot, by rising bound.
    members: Vec<(f64, u32)>,
    /// The layout of the finite bounds; `None` until the next sample after a member came or went.
    layout: Option<u16>,
    refused: bool,
}

/// What one edge did in one minute, as far as seen.
#[derive(Default)]
struct Cell {
    /// By number of outcome of the edge.
    requests: Vec<f64>,
    /// Cumulative counts by layout: one entry unless pods differ in their bounds.
    latency: Vec<(u16, Vec<f64>)>,
    latency_sum_ms: f64,
    request_bytes: f64,
    response_bytes: f64,
    request_messages: f64,
    response_messages: f64,
    connections_closed: f64,
    /// The number of its last change, and of the state that was written.
    version: u64,
    written: u64,
}

impl Accumulator {
    /// Empty.
    pub(super) fn new(config: Config, counters: Arc<Counters>) -> Self {
        Self {
            config,
            counters,
            slots: Vec::new(),
            free_slots: Vec::new(),
            edges: Vec::new(),
            free_edges: Vec::new(),
            edge_ids: HashMap::new(),
            texts: Texts::default(),
            groups: Vec::new(),
            free_groups: Vec::new(),
            group_ids: FastMap::default(),
            layouts: Vec::new(),
            minutes: BTreeMap::new(),
            version: 0,
            holds_unwritten: false,
            restored: Restored::default(),
            now: None,
            strays: 0,
            text: String::new(),
        }
    }

    /// Takes a slot; `zero_at` is when the counter is known to have been zero.
    pub(super) fn open(&mut self, labels: &Labels, counting: Counting, zero_at: Option<Timestamp>) -> Option<SlotId> {
        if let Some(slot) = self.claim(labels) {
            return Some(slot);
        }
        let edge = self.edge(counting.edge)?;
        let id = self.vacant_slot();
        let what = match counting.counted {
            Counted::Requests(outcome) => What::Requests(self.outcome(edge, outcome)),
            Counted::LatencyBucket(bound) => What::Bucket { group: self.join_group(labels, bound, id), position: 0 },
            Counted::LatencySum => What::LatencySum,
            Counted::RequestBytes => What::RequestBytes,
            Counted::ResponseBytes => What::ResponseBytes,
            Counted::RequestMessages => What::RequestMessages,
            Counted::ResponseMessages => What::ResponseMessages,
            Counted::Closed(None) => What::Closed,
            Counted::Closed(Some(outcome)) => What::ClosedWith(self.outcome(edge, outcome)),
        };
        let last_at = zero_at.map_or(NEVER, Timestamp::as_millis);
        self.slots[id as usize] = Slot { last: 0.0, last_at, edge, what };
        if let Some(edge) = &mut self.edges[edge as usize] {
            edge.slots += 1;
        }
        if let What::Bucket { group, .. } = what {
            self.place_members(group);
        }
        Some(SlotId(id))
    }

    /// Takes a slot for another bucket of the histogram that `neighbour` counts one of. `None` when that cannot be told
    /// without the labels: `neighbour` counts something else, or the series may be one of before a restart.
    pub(super) fn open_beside(
        &mut self,
        SlotId(neighbour): SlotId,
        bound: f64,
        zero_at: Option<Timestamp>,
    ) -> Option<SlotId> {
        let Slot { edge, what, .. } = *self.slots.get(neighbour as usize).filter(|slot| slot.edge != VACANT)?;
        let What::Bucket { group, .. } = what else { return None };
        if self.restored.awaits_series() {
            return None;
        }
        let last_at = zero_at.map_or(NEVER, Timestamp::as_millis);
        let id = self.vacant_slot();
        self.slots[id as usize] = Slot { last: 0.0, last_at, edge, what };
        self.add_member(group, bound, id);
        if let Some(edge) = &mut self.edges[edge as usize] {
            edge.slots += 1;
        }
        self.place_members(group);
        Some(SlotId(id))
    }

    fn vacant_slot(&mut self) -> u32 {
        self.free_slots.pop().unwrap_or_else(|| {
            self.slots.push(Slot { last: 0.0, last_at: NEVER, edge: VACANT, what: What::Closed });
            self.slots.len() as u32 - 1
        })
    }

    /// Gives a slot back.
    pub(super) fn release(&mut self, SlotId(id): SlotId) {
        let Some(slot) = self.slots.get_mut(id as usize).filter(|slot| slot.edge != VACANT) else {
            return;
        };
        let (edge, what) = (slot.edge, slot.what);
        slot.edge = VACANT;
        self.free_slots.push(id);
        if let What::Bucket { group, .. } = what {
            self.leave_group(group, id);
        }
        if let Some(edge) = &mut self.edges[edge as usize] {
            edge.slots -= 1;
        }
        self.drop_unused_edge(edge);
    }

    /// Counts one scrape's samples.
    pub(super) fn observe(&mut self, at: Timestamp, batch: &[(SlotId, f64)]) {
        self.follow(at);
        self.count_batch(at.as_millis(), batch);
    }

    fn count_batch(&mut self, at: i64, batch: &[(SlotId, f64)]) {
        let keep_ms = self.keep_ms();
        let (mut resets, mut ignored) = (0, 0);
        for &(SlotId(id), value) in batch {
            let Some(slot) = self.slots.get_mut(id as usize).filter(|slot| slot.edge != VACANT) else {
                ignored += 1;
                continue;
            };
            let before = *slot;
            // What is not newer has been counted by the newer one already; unless the clock was set.
            let is_late = before.last_time().is_some_and(|last| at <= last && last.saturating_sub(at) <= keep_ms);
            if is_stale(value) && !is_late {
                slot.mark_ended();
                continue;
            }
            if is_late || !value.is_finite() || value < 0.0 {
                ignored += 1;
                continue;
            }
            (slot.last, slot.last_at) = (value, at);
            let Some(from) = before.counts_from(at) else { continue };
            let reset = value < before.last;
            resets += u64::from(reset);
            let increment = if reset { value } else { value - before.last };
            if increment > 0.0 {
                self.spread(before.edge, before.what, increment, (from, at));
            }
        }
        Counters::add(&self.counters.samples, batch.len() as u64);
        Counters::add(&self.counters.resets, resets);
        Counters::add(&self.counters.samples_ignored, ignored);
    }

    /// Puts an increment between two times on the minutes between them.
    fn spread(&mut self, edge: u32, what: What, increment: f64, (from, to): (i64, i64)) {
        // A sample on the boundary ends the minute before it.
        let last_minute = minute_of(if from < to { to - 1 } else { to });
        let first_minute = if from < to { minute_of(from) } else { last_minute };
        if first_minute == last_minute || self.is_outside(last_minute) {
            self.count(last_minute, edge, what, increment);
            return;
        }
        let oldest = self.oldest_held().unwrap_or(first_minute);
        let (span, mut rest) = ((to - from) as f64, increment);
        if first_minute < oldest {
            rest -= increment * ((oldest.min(to) - from) as f64 / span);
            Counters::add(&self.counters.minutes_missed, 1);
        }
        let mut minute = first_minute.max(oldest);
        while minute < last_minute {
            let part = increment * ((minute + MINUTE_MS - from.max(minute)) as f64 / span);
            self.count(minute, edge, what, part);
            rest -= part;
            minute += MINUTE_MS;
        }
        self.count(last_minute, edge, what, rest.max(0.0)); // what rounding leaves goes here, so the sum is exact
    }

    fn count(&mut self, minute: i64, edge: u32, what: What, increment: f64) {
        let bucket = match what {
            What::Bucket { group, position } => match self.layout_of(group) {
                Some(layout) => Some((layout, usize::from(position))),
                None => return,
            },
            _ => None,
        };
        let width = bucket.map_or(0, |(layout, _)| self.layouts[usize::from(layout)].len() + 1);
        let Some(cell) = self.cell(minute, edge) else { return };
        match what {
            What::Requests(outcome) => cell.add_requests(outcome, increment),
            What::Bucket { .. } => {
                if let Some((layout, position)) = bucket {
                    cell.cumulative(layout, width)[position] += increment;
                }
            }
            What::LatencySum => cell.latency_sum_ms += increment,
            What::RequestBytes => cell.request_bytes += increment,
            What::ResponseBytes => cell.response_bytes += increment,
            What::RequestMessages => cell.request_messages += increment,
            What::ResponseMessages => cell.response_messages += increment,
            What::Closed => cell.connections_closed += increment,
            What::ClosedWith(outcome) => {
                cell.connections_closed += increment;
                cell.add_requests(outcome, increment);
            }
        }
    }

    /// The cell of an edge in a minute that is held.
    fn cell(&mut self, minute: i64, edge: u32) -> Option<&mut Cell> {
        if self.is_outside(minute) {
            Counters::add(&self.counters.minutes_missed, 1);
            return None;
        }
        let cells = self.minutes.entry(minute).or_default();
        let cell = cells.entry(edge).or_insert_with(|| {
            if let Some(edge) = &mut self.edges[edge as usize] {
                edge.minutes += 1;
            }
            Cell::default()
        });
        self.version += 1;
        cell.version = self.version;
        Some(cell)
    }

    /// Adds a minute counted elsewhere.
    pub(super) fn add(&mut self, given: EdgeMinute) {
        let minute = minute_of(given.minute.as_millis());
        if self.now.is_none() {
            let newest = self.minutes.last_key_value().map_or(minute, |(newest, _)| minute.max(*newest));
            self.drop_outside(newest);
        }
        if self.is_outside(minute) {
            Counters::add(&self.counters.minutes_missed, 1);
            return;
        }
        let Some(edge) = self.edge_of(given.edge) else { return };
        let outcomes: Vec<(u16, f64)> =
            given.requests.into_iter().map(|(outcome, count)| (self.outcome(edge, outcome), count)).collect();
        let histogram = (!given.latency.counts.is_empty()).then_some(&given.latency).and_then(|latency| {
            (latency.counts.len() == latency.bounds_ms.len() + 1).then(|| self.layout(&latency.bounds_ms)).flatten()
        });
        if let Some(cell) = self.cell(minute, edge) {
            outcomes.iter().for_each(|(outcome, count)| cell.add_requests(*outcome, *count));
            if let Some(layout) = histogram {
                let mut total = 0.0;
                let cumulative = cell.cumulative(layout, given.latency.counts.len());
                for (mine, count) in cumulative.iter_mut().zip(&given.latency.counts) {
                    total += count;
                    *mine += total;
                }
            }
            cell.latency_sum_ms += given.latency.sum_ms;
            cell.request_bytes += given.request_bytes;
            cell.response_bytes += given.response_bytes;
            cell.request_messages += given.request_messages;
            cell.response_messages += given.response_messages;
            cell.connections_closed += given.connections_closed;
        }
        self.drop_unused_edge(edge);
    }

    /// The minutes held that start at or after `from`.
    pub(super) fn minutes_from(&self, from: Timestamp) -> Vec<i64> {
        self.minutes.range(from.as_millis()..).map(|(minute, _)| *minute).collect()
    }

    /// What was counted in one minute; nothing when it is gone.
    pub(super) fn edges_of(&self, minute: i64) -> Vec<EdgeMinute> {
        let Some(cells) = self.minutes.get(&minute) else { return Vec::new() };
        let mut ids: Vec<u32> = cells.keys().copied().collect();
        ids.sort_unstable();
        let held = |id: u32| self.edges[id as usize].as_ref().map(|edge| self.edge_minute(minute, edge, &cells[&id]));
        ids.into_iter().filter_map(held).collect()
    }

    fn edge_minute(&self, minute: i64, edge: &Edge, cell: &Cell) -> EdgeMinute {
        let mut latency = LatencyHistogram::default();
        for (layout, cumulative) in &cell.latency {
            let bounds_ms = Arc::clone(&self.layouts[usize::from(*layout)]);
            // A restart can be seen in one bucket and not in the next, so a difference may come out below zero.
            let mut before = 0.0_f64;
            let counts = cumulative
                .iter()
                .map(|count| {
                    let part = (count - before).max(0.0);
                    before = before.max(*count);
                    part
                })
                .collect();
            latency.merge(&LatencyHistogram { bounds_ms, counts, sum_ms: 0.0 });
        }
        latency.sum_ms = cell.latency_sum_ms;
        let requests = edge.outcomes.iter().zip(&cell.requests).filter(|(_, count)| **count > 0.0);
        EdgeMinute {
            requests: requests.map(|(outcome, count)| (outcome.clone(), *count)).collect(),
            latency,
            request_bytes: cell.request_bytes,
            response_bytes: cell.response_bytes,
            request_messages: cell.request_messages,
            response_messages: cell.response_messages,
            connections_closed: cell.connections_closed,
            ..EdgeMinute::empty(Timestamp::from_millis(minute), Arc::clone(&edge.key))
        }
    }

    /// Bytes of what is held, about: a cell is taken to have a few outcomes and one histogram of twenty bounds.
    pub(super) fn size_bytes(&self) -> usize {
        const CELL_BYTES: usize = size_of::<(u32, Cell)>() + 8 * 8 + 21 * 8;
        const EDGE_BYTES: usize = size_of::<Edge>() + size_of::<EdgeKey>() + 12 * 24 + 4 * size_of::<Outcome>();
        let cells: usize = self.minutes.values().map(|cells| cells.len()).sum();
        let members: usize = self.groups.iter().map(|group| group.members.capacity()).sum();
        self.slots.capacity() * size_of::<Slot>()
            + self.groups.capacity() * size_of::<Group>()
            + members * size_of::<(f64, u32)>()
            + self.edge_ids.len() * EDGE_BYTES
            + cells * CELL_BYTES
    }

    /// How much is held.
    pub(super) fn size(&self) -> Size {
        Size {
            edges: self.edge_ids.len(),
            slots: self.slots.len() - self.free_slots.len(),
            minutes: self.minutes.len(),
        }
    }
}

impl Slot {
    /// Remembers that the run has ended: the time is kept, below zero.
    fn mark_ended(&mut self) {
        if self.last_at > ENDED_BELOW {
            self.last_at = self.last_at.saturating_add(ENDED_OFFSET);
        }
    }

    /// The time of the last sample, or since when the counter is known to have counted.
    fn last_time(&self) -> Option<i64> {
        match self.last_at {
            NEVER => None,
            at if at > ENDED_BELOW => Some(at),
            ended => Some(ended - ENDED_OFFSET),
        }
    }

    /// Since when an increment seen at `at` counts; `None` when it begins a run.
    fn counts_from(&self, at: i64) -> Option<i64> {
        if self.last_at == NEVER {
            return None;
        }
        if self.last_at > ENDED_BELOW {
            return Some(self.last_at);
        }
        let ended = self.last_at - ENDED_OFFSET;
        (Timestamp::from_millis(at).since(Timestamp::from_millis(ended)) <= MAX_GAP).then_some(ended)
    }
}

/// Times below this are times of ended runs, moved by [`ENDED_OFFSET`]: a flag without a ninth word in [`Slot`].
const ENDED_BELOW: i64 = i64::MIN / 2;
const ENDED_OFFSET: i64 = i64::MIN / 4 * 3;

impl Cell {
    fn add_requests(&mut self, outcome: u16, count: f64) {
        let at = usize::from(outcome);
        if self.requests.len() <= at {
            self.requests.resize(at + 1, 0.0);
        }
        self.requests[at] += count;
    }

    fn cumulative(&mut self, layout: u16, width: usize) -> &mut [f64] {
        let at = self.latency.iter().position(|(known, _)| *known == layout).unwrap_or_else(|| {
            self.latency.push((layout, vec![0.0; width]));
            self.latency.len() - 1
        });
        &mut self.latency[at].1
    }
}

fn minute_of(at_ms: i64) -> i64 {
    Timestamp::from_millis(at_ms).floor_to(Duration::from_millis(MINUTE_MS as u64)).as_millis()
}
