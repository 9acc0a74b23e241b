//! Turns calls into edge minutes for the mesh graph.
//!
//! In: calls. Out: [`EdgeMinute`]s. Pure. Invariant: holds at most [`EDGES_BEFORE_FLUSH`] edges between two flushes, each outcome of
//! an edge counted as one.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::calls::{Between, Call, Connection};
use crate::model::workload::{ENVOY_BOUNDS, LatencyHistogram, MeshKind, Protocol, Reporter, Security};
use crate::model::{EdgeKey, EdgeMinute, Timestamp};

/// Edges gathered before they are handed on, whatever the time.
pub(super) const EDGES_BEFORE_FLUSH: usize = 1000;
/// How far ahead of our clock a call may begin.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// So that edges of spans and of metrics can be read side by side.
static BOUNDS_MS: LazyLock<Arc<[f64]>> = LazyLock::new(|| Arc::from(ENVOY_BOUNDS));

/// Edges since the last flush.
#[derive(Default)]
pub(super) struct Edges {
    /// By minute, and by where what is between the two sides lies: it is held in the value.
    gathered: HashMap<(Timestamp, usize), Gathered, foldhash::fast::RandomState>,
    /// Calls that began outside the window.
    pub(super) out_of_window: u64,
}

/// Calls of one minute between the same two sides.
struct Gathered {
    between: Arc<Between>,
    calls: f64,
    counts: [f64; ENVOY_BOUNDS.len() + 1],
    sum_ms: f64,
    request_bytes: f64,
    response_bytes: f64,
}

impl Edges {
    /// Counts a call in the minute in which it was completed, as a scraped counter would; unless it began long ago.
    pub(super) fn observe(&mut self, call: &Call, now: Timestamp, max_age: Duration) {
        let Some(side) = call.report() else { return };
        let began = Timestamp::from_nanos(side.start_ns);
        if now.since(began) > max_age || began.since(now) > CLOCK_SKEW {
            self.out_of_window += 1;
            return;
        }
        let minute = now.floor_to(Duration::from_secs(60));
        let place = Arc::as_ptr(&call.between) as usize;
        let gathered = self.gathered.entry((minute, place)).or_insert_with(|| Gathered::of(&call.between));
        let latency_ms = side.seconds * 1000.0;
        gathered.calls += 1.0;
        gathered.counts[BOUNDS_MS.partition_point(|bound| *bound < latency_ms)] += 1.0;
        gathered.sum_ms += latency_ms;
        gathered.request_bytes += side.request_bytes;
        gathered.response_bytes += side.response_bytes;
    }

    /// Edges gathered now.
    pub(super) fn len(&self) -> usize {
        self.gathered.len()
    }

    /// Hands over what was gathered.
    pub(super) fn flush(&mut self) -> impl Iterator<Item = EdgeMinute> {
        let mut edges: HashMap<(Timestamp, EdgeKey), EdgeMinute, foldhash::fast::RandomState> = HashMap::default();
        for ((minute, _), gathered) in self.gathered.drain() {
            let edge = edges.entry((minute, gathered.edge())).or_insert_with_key(|(minute, edge)| EdgeMinute {
                latency: LatencyHistogram {
                    bounds_ms: Arc::clone(&BOUNDS_MS),
                    counts: vec![0.0; BOUNDS_MS.len() + 1],
                    sum_ms: 0.0,
                },
                ..EdgeMinute::empty(*minute, edge.clone())
            });
            gathered.add_to(edge);
        }
        edges.into_values()
    }
}

impl Gathered {
    fn of(between: &Arc<Between>) -> Self {
        Self {
            between: Arc::clone(between),
            calls: 0.0,
            counts: [0.0; ENVOY_BOUNDS.len() + 1],
            sum_ms: 0.0,
            request_bytes: 0.0,
            response_bytes: 0.0,
        }
    }

    fn edge(&self) -> EdgeKey {
        let protocol = match self.between.connection {
            Connection::Database | Connection::Messaging if self.between.protocol == Protocol::Http => Protocol::Tcp,
            _ => self.between.protocol,
        };
        EdgeKey {
            mesh: MeshKind::Traces,
            reporter: Reporter::Trace,
            protocol,
            source: self.between.source.clone(),
            destination: self.between.destination.clone(),
            service: self.between.called.clone(),
            source_principal: None,
            destination_principal: None,
            security: Security::Unknown,
        }
    }

    fn add_to(self, edge: &mut EdgeMinute) {
        match edge.requests.iter_mut().find(|(outcome, _)| *outcome == self.between.outcome) {
            Some((_, count)) => *count += self.calls,
            None => edge.requests.push((self.between.outcome.clone(), self.calls)),
        }
        edge.latency.counts.iter_mut().zip(self.counts).for_each(|(count, more)| *count += more);
        edge.latency.sum_ms += self.sum_ms;
        edge.request_bytes += self.request_bytes;
        edge.response_bytes += self.response_bytes;
    }
}
