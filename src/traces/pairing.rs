//! Finds both sides of each call: the client's span and the server's span.
//!
//! In: spans in any order, and the time. Out: [`Call`]s. Rules of Tempo's service-graph processor (mesh.md §3.11), and
//! two for meshes: a proxy's client span that is the child of another client span is that one's server when no real
//! server span comes (gateways emit only client spans, tempo#1418), and a proxy's client span without any other side
//! calls the host of its upstream cluster. Invariant: at most `limit` sides wait, each at most `wait`.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::calls::{Call, Calls};
use super::introductions::{Introductions, Key};
use super::sides::{Side, Sides};
use crate::model::span::SpanKind;
use crate::model::{Span, Timestamp};

enum Half {
    Client(Side),
    Server(Side),
}

struct Waiting {
    half: Half,
    serial: u64,
}

/// Sides of calls that wait for their other side.
pub(super) struct Pairing {
    wait: Duration,
    limit: usize,
    serial: u64,
    waiting: HashMap<Key, Waiting, foldhash::fast::RandomState>,
    by_age: VecDeque<(Timestamp, u64, Key)>,
    stand_ins: StandIns,
    introductions: Introductions,
    sides: Sides,
    made: Calls,
    /// Sides that got no answer in time.
    pub(super) expired: u64,
    /// Sides that found no place.
    pub(super) dropped: u64,
}

/// Client spans that may be the server of their parent, by the parent.
///
/// They live twice as long as a waiting side: their parent may come late, and is paired when it expires.
#[derive(Default)]
struct StandIns {
    by_parent: HashMap<Key, Side, foldhash::fast::RandomState>,
    by_age: VecDeque<(Timestamp, Key)>,
}

impl Pairing {
    pub(super) fn new(wait: Duration, limit: usize) -> Self {
        Self {
            wait,
            limit: limit.max(1),
            serial: 0,
            waiting: HashMap::default(),
            by_age: VecDeque::new(),
            stand_ins: StandIns::default(),
            introductions: Introductions::new(limit.max(1)),
            sides: Sides::default(),
            made: Calls::default(),
            expired: 0,
            dropped: 0,
        }
    }

    /// Takes a span; a completed call goes to `calls`.
    pub(super) fn observe(&mut self, span: &Span, now: Timestamp, calls: &mut Vec<Call>) {
        match span.kind {
            SpanKind::Client | SpanKind::Producer => self.client(span, now, calls),
            SpanKind::Server | SpanKind::Consumer => self.server(span, now, calls),
            SpanKind::Internal | SpanKind::Unspecified => {}
        }
    }

    /// Gives up on sides that wait for too long; calls that can be completed by name go to `calls`.
    pub(super) fn expire(&mut self, now: Timestamp, calls: &mut Vec<Call>) {
        // Half the time, so that the other side of a call that nobody introduced still waits.
        for (key, side) in self.introductions.expire(now, self.wait / 2) {
            self.pair_client(key, side, now, calls);
        }
        while let Some((_, serial, key)) = self.by_age.pop_front_if(|(since, ..)| now.since(*since) >= self.wait) {
            if self.waiting.get(&key).is_none_or(|waiting| waiting.serial != serial) {
                continue; // paired in the meantime
            }
            let Some(Waiting { half: Half::Client(client), .. }) = self.waiting.remove(&key) else {
                self.expired += 1;
                continue;
            };
            match self.stand_ins.take(&key, &client) {
                Some(server) => calls.push(self.made.paired(client, server)),
                None if client.peer.is_some() => calls.push(self.made.of_client(client)),
                None => self.expired += 1,
            }
        }
        self.stand_ins.expire(now, 2 * self.wait);
    }

    /// Sides waiting now.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    fn client(&mut self, span: &Span, now: Timestamp, calls: &mut Vec<Call>) {
        let side = self.sides.side(span);
        // A sidecar's client span is the caller's own; only a gateway's, or one behind a gateway, can be the called side.
        let may_stand_in = span.kind == SpanKind::Client && (side.gateway || !side.proxy);
        if let Some(parent) = span.parent_id.filter(|_| may_stand_in) {
            self.stand_ins.add((span.trace_id, parent), &side, now, self.limit);
        }
        if side.database.is_some() {
            return calls.push(self.made.of_client(side));
        }
        let key = (span.trace_id, span.span_id);
        let stranger = match span.parent_id.filter(|_| side.nameless) {
            Some(parent) => self.introductions.ask((span.trace_id, parent), (key, side), now),
            None => Some((key, side)),
        };
        if let Some((key, side)) = stranger {
            self.pair_client(key, side, now, calls);
        }
    }

    fn pair_client(&mut self, key: Key, side: Side, now: Timestamp, calls: &mut Vec<Call>) {
        match self.waiting.remove(&key) {
            Some(Waiting { half: Half::Server(server), .. }) => calls.push(self.made.paired(side, server)),
            // The same span sent again: the first counts.
            Some(first) => _ = self.waiting.insert(key, first),
            None => self.wait(key, Half::Client(side), now),
        }
    }

    fn server(&mut self, span: &Span, now: Timestamp, calls: &mut Vec<Call>) {
        let side = self.sides.side(span);
        if side.proxy && !side.nameless {
            for (key, client) in self.introductions.learn((span.trace_id, span.span_id), &side, now) {
                self.pair_client(key, client, now, calls);
            }
        }
        let Some(parent) = span.parent_id else {
            // Nothing above: no client span will come.
            return calls.push(self.made.of_server(side));
        };
        let key = (span.trace_id, parent);
        match self.waiting.remove(&key) {
            Some(Waiting { half: Half::Client(client), .. }) => calls.push(self.made.paired(client, side)),
            Some(first) => _ = self.waiting.insert(key, first),
            None => self.wait(key, Half::Server(side), now),
        }
    }

    fn wait(&mut self, key: Key, half: Half, now: Timestamp) {
        if self.waiting.len() >= self.limit {
            self.dropped += 1;
            return;
        }
        self.serial += 1;
        self.waiting.insert(key, Waiting { half, serial: self.serial });
        self.by_age.push_back((now, self.serial, key));
        if self.by_age.len() > 2 * self.limit {
            // Most of these were paired long before they would expire.
            let waiting = &self.waiting;
            self.by_age.retain(|(_, serial, key)| waiting.get(key).is_some_and(|w| w.serial == *serial));
        }
    }
}

impl StandIns {
    fn add(&mut self, key: Key, side: &Side, now: Timestamp, limit: usize) {
        if self.by_parent.len() >= limit || self.by_parent.contains_key(&key) {
            return;
        }
        self.by_parent.insert(key, side.clone());
        self.by_age.push_back((now, key));
    }

    /// The stand-in for the server of that client, when one of both is a proxy that explains the missing span.
    fn take(&mut self, key: &Key, client: &Side) -> Option<Side> {
        let fits = self.by_parent.get(key).is_some_and(|server| {
            (server.gateway || client.proxy) && server.service != client.service && server.workload != client.workload
        });
        if fits { self.by_parent.remove(key) } else { None }
    }

    fn expire(&mut self, now: Timestamp, after: Duration) {
        while let Some((_, key)) = self.by_age.pop_front_if(|(since, _)| now.since(*since) >= after) {
            self.by_parent.remove(&key);
        }
    }
}
