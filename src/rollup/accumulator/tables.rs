//! Tables of the accumulator that intern what slots refer to: edges, their outcomes, histograms and bucket layouts.
//!
//! Invariant: each is bounded, what is past a bound is counted in [`Counters`], and nothing unused is held.

use std::sync::Arc;

use crate::model::Labels;
use crate::model::workload::{EdgeKey, Outcome};

use super::{Accumulator, Counters, Edge, Group, What};

/// Different sets of bucket bounds in the whole mesh; Istio has one, and one for each `statsHistogramBuckets`.
const LAYOUT_LIMIT: usize = 256;

impl Accumulator {
    pub(super) fn edge(&mut self, key: EdgeKey) -> Option<u32> {
        match self.edge_ids.get(&key) {
            Some(id) => Some(*id),
            None => self.new_edge(key),
        }
    }

    /// The same of a key that others hold too.
    pub(super) fn edge_of(&mut self, key: Arc<EdgeKey>) -> Option<u32> {
        match self.edge_ids.get(&*key) {
            Some(id) => Some(*id),
            None => self.new_edge(Arc::unwrap_or_clone(key)),
        }
    }

    fn new_edge(&mut self, key: EdgeKey) -> Option<u32> {
        if self.edge_ids.len() >= self.config.edge_limit {
            Counters::add(&self.counters.edges_refused, 1);
            return None;
        }
        let key = Arc::new(self.texts.share_all(key));
        let edge = Edge { key: Arc::clone(&key), outcomes: Vec::new(), slots: 0, minutes: 0 };
        let id = self.free_edges.pop().unwrap_or_else(|| {
            self.edges.push(None);
            self.edges.len() as u32 - 1
        });
        self.edges[id as usize] = Some(edge);
        self.edge_ids.insert(key, id);
        Some(id)
    }

    pub(super) fn drop_unused_edge(&mut self, id: u32) {
        let place = &mut self.edges[id as usize];
        if place.as_ref().is_some_and(|edge| edge.slots == 0 && edge.minutes == 0)
            && let Some(edge) = place.take()
        {
            self.edge_ids.remove(&edge.key);
            self.free_edges.push(id);
        }
    }

    pub(super) fn outcome(&mut self, edge: u32, outcome: Outcome) -> u16 {
        let Some(edge) = &mut self.edges[edge as usize] else { return 0 };
        if let Some(at) = edge.outcomes.iter().position(|known| *known == outcome) {
            return at as u16;
        }
        let limit = self.config.outcome_limit.clamp(1, usize::from(u16::MAX) - 16);
        let outcome = if edge.outcomes.len() < limit {
            outcome
        } else {
            Counters::add(&self.counters.outcomes_folded, 1);
            class_of(&outcome)
        };
        edge.outcomes.iter().position(|known| *known == outcome).unwrap_or_else(|| {
            edge.outcomes.push(outcome);
            edge.outcomes.len() - 1
        }) as u16
    }

    pub(super) fn join_group(&mut self, labels: &Labels, bound: f64, slot: u32) -> u32 {
        let key = labels.table_key_without(&["le"], &mut self.text);
        let id = *self.group_ids.entry(key).or_insert_with(|| {
            self.free_groups.pop().unwrap_or_else(|| {
                self.groups.push(Group::default());
                self.groups.len() as u32 - 1
            })
        });
        self.groups[id as usize].key = key;
        self.add_member(id, bound, slot);
        id
    }

    pub(super) fn add_member(&mut self, group: u32, bound: f64, slot: u32) {
        let members = &mut self.groups[group as usize].members;
        let at = members.partition_point(|(member, _)| *member < bound);
        members.insert(at, (bound, slot));
    }

    pub(super) fn leave_group(&mut self, id: u32, slot: u32) {
        let group = &mut self.groups[id as usize];
        group.members.retain(|(_, member)| *member != slot);
        if group.members.is_empty() {
            self.group_ids.remove(&group.key);
            self.groups[id as usize] = Group::default();
            self.free_groups.push(id);
        } else {
            self.place_members(id);
        }
    }

    /// Tells each slot of a histogram which bucket it is, after one came or went.
    pub(super) fn place_members(&mut self, id: u32) {
        let group = &mut self.groups[id as usize];
        (group.layout, group.refused) = (None, false);
        let (mut position, mut previous) = (0_u16, None);
        for (bound, slot) in &group.members {
            position += u16::from(previous.is_some_and(|previous| previous != *bound));
            previous = Some(*bound);
            self.slots[*slot as usize].what = What::Bucket { group: id, position };
        }
    }

    pub(super) fn layout_of(&mut self, id: u32) -> Option<u16> {
        let group = &self.groups[id as usize];
        if group.layout.is_some() || group.refused {
            return group.layout;
        }
        let mut bounds: Vec<f64> = group.members.iter().map(|(bound, _)| *bound).filter(|b| b.is_finite()).collect();
        bounds.dedup();
        let layout = self.layout(&bounds);
        let group = &mut self.groups[id as usize];
        (group.layout, group.refused) = (layout, layout.is_none());
        layout
    }

    pub(super) fn layout(&mut self, bounds: &[f64]) -> Option<u16> {
        if let Some(at) = self.layouts.iter().position(|layout| **layout == *bounds) {
            return Some(at as u16);
        }
        if self.layouts.len() >= LAYOUT_LIMIT || bounds.len() >= 1024 {
            Counters::add(&self.counters.histograms_refused, 1);
            return None;
        }
        self.layouts.push(bounds.into());
        Some(self.layouts.len() as u16 - 1)
    }
}

/// `404` → `4xx`: keeps what matters for errors when an edge has too many outcomes.
fn class_of(outcome: &Outcome) -> Outcome {
    let class = |digit: char| Arc::from(format!("{digit}xx"));
    let code = match outcome.code.chars().next() {
        Some(digit @ '1'..='5') if outcome.code.len() == 3 => class(digit),
        Some('0') => "0".into(),
        _ => "".into(),
    };
    let grpc_status = match &*outcome.grpc_status {
        "" | "0" => Arc::clone(&outcome.grpc_status),
        _ => "2".into(), // UNKNOWN: some error
    };
    Outcome { code, grpc_status, flags: "-".into() }
}
