//! Lets a proxy's server span say whose the proxy's calls upstream are.
//!
//! Envoy puts `node_id` on the span of the request it took, and not on those of the calls it makes for it
//! (`spawn_upstream_span`): these are known by `service.name` alone, which several workloads share. In: server spans of
//! proxies, and client sides without a name, in any order. Out: those sides with the name of their parent. Invariant: at
//! most `limit` names and as many sides are held, each for a bounded time; a side that nobody introduces comes back as it is.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::identity::Who;
use super::sides::{REMEMBERED, Side};
use crate::model::Timestamp;
use crate::model::span::{SpanId, TraceId};

pub(super) type Key = (TraceId, SpanId);
/// A client side, and its own span.
pub(super) type Stranger = (Key, Side);

type Table<T> = HashMap<Key, T, foldhash::fast::RandomState>;

/// See the module.
pub(super) struct Introductions {
    limit: usize,
    known: Table<Arc<Who>>,
    known_by_age: VecDeque<(Timestamp, Key)>,
    strangers: Table<Vec<Stranger>>,
    strangers_by_age: VecDeque<(Timestamp, Key)>,
    named: Named,
}

/// Strangers named after a parent, by where both lie; these are held, so that no other comes to lie there.
#[derive(Default)]
struct Named(HashMap<[usize; 2], [Arc<Who>; 3], foldhash::fast::RandomState>);

impl Introductions {
    pub(super) fn new(limit: usize) -> Self {
        let (known, strangers) = (Table::default(), Table::default());
        Self {
            limit,
            known,
            known_by_age: VecDeque::new(),
            strangers,
            strangers_by_age: VecDeque::new(),
            named: Named::default(),
        }
    }

    /// Learns who made a span; returns the sides that waited for it.
    pub(super) fn learn(&mut self, key: Key, side: &Side, now: Timestamp) -> Vec<Stranger> {
        let mut waited = self.strangers.remove(&key).unwrap_or_default();
        waited.iter_mut().for_each(|(_, stranger)| self.named.introduce(stranger, &side.who));
        if self.known.insert(key, Arc::clone(&side.who)).is_none() {
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
        if let Some(parent) = self.known.get(&parent) {
            self.named.introduce(&mut stranger.1, parent);
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

impl Named {
    fn introduce(&mut self, stranger: &mut Side, parent: &Arc<Who>) {
        if self.0.len() >= REMEMBERED {
            self.0.clear();
        }
        let places = [&stranger.who, parent].map(|who| Arc::as_ptr(who) as usize);
        let [.., named] = self.0.entry(places).or_insert_with(|| {
            let named = Who {
                workload: parent.workload.clone(),
                gateway: parent.gateway,
                nameless: false,
                ..Who::clone(&stranger.who)
            };
            [Arc::clone(&stranger.who), Arc::clone(parent), Arc::new(named)]
        });
        stranger.who = Arc::clone(named);
    }
}
