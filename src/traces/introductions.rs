//! Lets a proxy's server span say whose the proxy's calls upstream are.
//!
//! Envoy puts `node_id` on the span of the request it took, and not on those of the calls it makes for it
//! (`spawn_upstream_span`): these are known by `service.name` alone, which several workloads share. In: server spans of
//! proxies, and client sides without a name, in any order. Out: those sides with the name of their parent. Invariant: at
//! most `limit` names and as many sides are held, each for a bounded time; a side that nobody introduces comes back as it is.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::identity::Side;
use crate::model::span::{SpanId, TraceId};
use crate::model::{Timestamp, Workload};

pub(super) type Key = (TraceId, SpanId);
/// A client side, and its own span.
pub(super) type Stranger = (Key, Box<Side>);

type Table<T> = HashMap<Key, T, foldhash::fast::RandomState>;

/// See the module.
pub(super) struct Introductions {
    limit: usize,
    known: Table<(Workload, bool)>,
    known_by_age: VecDeque<(Timestamp, Key)>,
    strangers: Table<Vec<Stranger>>,
    strangers_by_age: VecDeque<(Timestamp, Key)>,
}

impl Introductions {
    pub(super) fn new(limit: usize) -> Self {
        let (known, strangers) = (Table::default(), Table::default());
        Self { limit, known, known_by_age: VecDeque::new(), strangers, strangers_by_age: VecDeque::new() }
    }

    /// Learns who made a span; returns the sides that waited for it.
    pub(super) fn learn(&mut self, key: Key, side: &Side, now: Timestamp) -> Vec<Stranger> {
        let mut waited = self.strangers.remove(&key).unwrap_or_default();
        waited.iter_mut().for_each(|(_, stranger)| introduce(stranger, &side.workload, side.gateway));
        if self.known.insert(key, (side.workload.clone(), side.gateway)).is_none() {
            self.known_by_age.push_back((now, key));
        }
        if self.known.len() > self.limit
            && let Some((_, oldest)) = self.known_by_age.pop_front()
        {
            self.known.remove(&oldest);
        }
        waited
    }

    /// Names a side after its parent. When the parent is yet to come the side is kept, and `None`.
    pub(super) fn ask(&mut self, parent: Key, mut stranger: Stranger, now: Timestamp) -> Option<Stranger> {
        if let Some((workload, gateway)) = self.known.get(&parent) {
            introduce(&mut stranger.1, workload, *gateway);
            return Some(stranger);
        }
        if self.strangers_by_age.len() >= self.limit {
            return Some(stranger);
        }
        self.strangers.entry(parent).or_default().push(stranger);
        self.strangers_by_age.push_back((now, parent));
        None
    }

    /// The sides whose parent did not come within `wait`; names are kept for as long.
    pub(super) fn expire(&mut self, now: Timestamp, wait: Duration) -> Vec<Stranger> {
        while let Some((_, key)) = self.known_by_age.pop_front_if(|(since, _)| now.since(*since) >= wait) {
            self.known.remove(&key);
        }
        let mut unknown = Vec::new();
        while let Some((_, parent)) = self.strangers_by_age.pop_front_if(|(since, _)| now.since(*since) >= wait) {
            unknown.extend(self.strangers.remove(&parent).unwrap_or_default());
        }
        unknown
    }
}

fn introduce(stranger: &mut Side, workload: &Workload, gateway: bool) {
    stranger.workload = workload.clone();
    stranger.gateway = gateway;
    stranger.nameless = false;
}
