//! What a restart leaves behind: slots of series that no scrape has met yet, and the minutes that are known whole.
//!
//! In: what the last process stored. Out: slots with their last values. Invariant: a slot that nobody claims goes after
//! `rollup.keep`.

use std::collections::HashMap;

use super::{Accumulator, FastMap, minute_of};
use crate::model::workload::{Outcome, Reporter};
use crate::model::{EdgeMinute, Labels, Timestamp};
use crate::rollup::SlotId;

/// Two hashes of a series' labels, which stand for them.
pub(in crate::rollup) type LabelsKey = (u64, u64);

/// The key of a series.
pub(in crate::rollup) fn labels_key(labels: &Labels) -> LabelsKey {
    labels.table_key()
}

/// See the module.
#[derive(Default)]
pub(super) struct Restored {
    slots: FastMap<LabelsKey, u32>,
    /// When each target was last scraped well, by its labels.
    targets: HashMap<Labels, Timestamp>,
    /// Until when the above are kept.
    until: i64,
    /// No minute before this may grow: what is stored of it is not in memory.
    pub(super) floor: Option<i64>,
    /// Minutes from here on are held although they are older than `rollup.keep`: nobody has counted in them yet.
    pub(super) reach: Option<i64>,
}

/// What became of a stored minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::rollup) enum TakenUp {
    /// It is in memory, or does not matter.
    Held,
    /// The samples do not tell of it: it must go, for what it counted will be counted again.
    Unfounded,
}

impl Restored {
    /// Whether a series that is met may be one of before the restart.
    pub(super) fn awaits_series(&self) -> bool {
        !self.slots.is_empty()
    }
}

impl Accumulator {
    /// Before samples are replayed: minutes from `floor` on are counted anew.
    pub(in crate::rollup) fn begin_replay(&mut self, floor: Timestamp) {
        self.holds_unwritten = true;
        let floor = minute_of(floor.as_millis());
        (self.restored.floor, self.restored.reach) = (Some(floor), Some(floor));
    }

    /// Counts replayed samples, which move the window on only.
    pub(in crate::rollup) fn observe_replayed(&mut self, at: Timestamp, batch: &[(SlotId, f64)]) {
        let minute = minute_of(at.as_millis());
        self.now = Some(self.now.map_or(minute, |now| now.max(minute)));
        self.count_batch(at.as_millis(), batch);
    }

    /// After the replay: what scrapes may claim. It, and the minutes since, are kept for a while.
    pub(in crate::rollup) fn finish_replay(
        &mut self,
        now: Timestamp,
        slots: Vec<(LabelsKey, SlotId)>,
        targets: HashMap<Labels, Timestamp>,
    ) {
        self.restored.slots = slots.into_iter().map(|(key, slot)| (key, slot.0)).collect();
        self.restored.targets = targets;
        self.restored.until = now.as_millis() + self.keep_ms();
        let reach = minute_of(now.as_millis() - 2 * self.keep_ms());
        self.restored.reach = self.restored.floor.map(|floor| floor.max(reach));
        self.advance(now);
    }

    /// The restored slot of that series, once.
    pub(super) fn claim(&mut self, labels: &Labels) -> Option<SlotId> {
        if self.restored.slots.is_empty() {
            return None;
        }
        self.restored.slots.remove(&labels_key(labels)).map(SlotId)
    }

    /// When the target of these labels was last scraped well before the restart; told once.
    pub(in crate::rollup) fn claim_target(&mut self, labels: &Labels) -> Option<Timestamp> {
        self.restored.targets.remove(labels)
    }

    /// Gives back what nobody has claimed in time.
    pub(super) fn end_claims(&mut self, now: i64) {
        if self.restored.reach.is_none() || now < self.restored.until {
            return;
        }
        self.restored.reach = None;
        self.restored.targets = HashMap::new();
        let unclaimed = std::mem::take(&mut self.restored.slots);
        unclaimed.into_values().for_each(|slot| self.release(SlotId(slot)));
    }

    /// Takes up a stored minute. Spans are not replayed, so what they said is added; what was counted anew from
    /// samples replaces what is stored.
    pub(in crate::rollup) fn take_up(&mut self, stored: EdgeMinute, is_counted_anew: bool) -> TakenUp {
        let minute = minute_of(stored.minute.as_millis());
        if is_counted_anew && stored.edge.reporter != Reporter::Trace {
            let Some(&id) = self.edge_ids.get(&stored.edge) else { return TakenUp::Unfounded };
            let Some(cell) = self.minutes.get(&minute).and_then(|cells| cells.get(&id)) else {
                return TakenUp::Unfounded;
            };
            let edge = self.edges[id as usize].as_ref();
            if edge.is_some_and(|edge| is_same(&self.edge_minute(minute, edge, cell), &stored)) {
                self.leave_as_written(minute, id);
            }
            return TakenUp::Held;
        }
        let key = stored.edge.clone();
        self.add(stored);
        if let Some(&id) = self.edge_ids.get(&key) {
            self.leave_as_written(minute, id);
        }
        TakenUp::Held
    }

    fn leave_as_written(&mut self, minute: i64, edge: u32) {
        if let Some(cell) = self.minutes.get_mut(&minute).and_then(|cells| cells.get_mut(&edge)) {
            cell.written = cell.version;
        }
    }
}

/// Whether two minutes say the same but for rounding: samples come back in another order than they came.
fn is_same(a: &EdgeMinute, b: &EdgeMinute) -> bool {
    let is_close = |a: f64, b: f64| (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0);
    let all_close = |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_close(*a, *b));
    let sums = |m: &EdgeMinute| {
        let bytes = [m.request_bytes, m.response_bytes];
        let messages = [m.request_messages, m.response_messages];
        [bytes, messages, [m.connections_closed, m.latency.sum_ms]].concat()
    };
    let find =
        |of: &EdgeMinute, outcome: &Outcome| of.requests.iter().find(|(o, _)| o == outcome).map(|(_, count)| *count);
    a.latency.bounds_ms == b.latency.bounds_ms
        && all_close(&a.latency.counts, &b.latency.counts)
        && all_close(&sums(a), &sums(b))
        && a.requests.len() == b.requests.len()
        && a.requests.iter().all(|(outcome, count)| find(b, outcome).is_some_and(|other| is_close(*count, other)))
}
