//! What has changed since it was written, and stays until it is.
//!
//! In: word that states of cells are written. Out: those that are not. Invariant: a cell that changed after it was read to
//! be written is still unwritten; what waits outside the window is bounded by `rollup.unwritten_limit`.

use super::{Accumulator, Counters};
use crate::model::EdgeMinute;

/// One state of one cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::rollup) struct CellState {
    minute: i64,
    edge: u32,
    version: u64,
}

impl Accumulator {
    /// From now on a minute that leaves the window stays until it is written.
    pub(in crate::rollup) fn hold_unwritten(&mut self) {
        self.holds_unwritten = true;
    }

    /// The minutes with something unwritten, oldest first.
    pub(in crate::rollup) fn unwritten_minutes(&self) -> Vec<i64> {
        let has_unwritten = |cells: &super::FastMap<u32, super::Cell>| cells.values().any(super::Cell::is_unwritten);
        self.minutes.iter().filter(|(_, cells)| has_unwritten(cells)).map(|(minute, _)| *minute).collect()
    }

    /// What is unwritten of one minute.
    pub(in crate::rollup) fn unwritten_of(&self, minute: i64) -> Vec<(CellState, EdgeMinute)> {
        let Some(cells) = self.minutes.get(&minute) else { return Vec::new() };
        let unwritten = cells.iter().filter(|(_, cell)| cell.is_unwritten());
        let held = |(id, cell): (&u32, &super::Cell)| {
            let edge = self.edges[*id as usize].as_ref()?;
            let state = CellState { minute, edge: *id, version: cell.version };
            Some((state, self.edge_minute(minute, edge, cell)))
        };
        unwritten.filter_map(held).collect()
    }

    /// These states are written: what has not changed since, and has left the window, goes.
    pub(in crate::rollup) fn mark_written(&mut self, states: &[CellState]) {
        for state in states {
            let cell = self.minutes.get_mut(&state.minute).and_then(|cells| cells.get_mut(&state.edge));
            // The version is of this cell alone, so another edge under the same number is not meant.
            if let Some(cell) = cell.filter(|cell| cell.version == state.version) {
                cell.written = cell.version;
            }
        }
        if let Some(now) = self.now {
            self.drop_outside(now);
        }
    }

    /// Drops the cells of a minute, `but_unwritten` ones.
    pub(super) fn drop_cells(&mut self, minute: i64, but_unwritten: bool) {
        let Some(mut cells) = self.minutes.remove(&minute) else { return };
        let gone: Vec<u32> =
            cells.extract_if(|_, cell| !but_unwritten || !cell.is_unwritten()).map(|(id, _)| id).collect();
        if !cells.is_empty() {
            self.minutes.insert(minute, cells);
        }
        for id in gone {
            if let Some(edge) = &mut self.edges[id as usize] {
                edge.minutes -= 1;
            }
            self.drop_unused_edge(id);
        }
    }

    /// Of the minutes that have left the window, oldest first, drops the oldest until the others are few enough.
    pub(super) fn enforce_unwritten_limit(&mut self, left: &[i64]) {
        let count = |minute: &i64| self.minutes.get(minute).map_or(0, |cells| cells.len());
        let counts: Vec<usize> = left.iter().map(count).collect();
        let mut held: usize = counts.iter().sum();
        for (minute, count) in left.iter().zip(counts) {
            if held <= self.config.unwritten_limit {
                return;
            }
            self.drop_cells(*minute, false);
            held -= count;
            Counters::add(&self.counters.unwritten_dropped, count as u64);
        }
    }
}

impl super::Cell {
    fn is_unwritten(&self) -> bool {
        self.version != self.written
    }
}
