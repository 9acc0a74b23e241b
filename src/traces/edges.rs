//! Turns calls into edge minutes for the mesh graph.
//!
//! In: calls. Out: [`EdgeMinute`]s. Pure. Invariant: holds at most [`EDGES_BEFORE_FLUSH`] edges between two flushes.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use super::pairing::{Call, Connection};
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
    gathered: HashMap<(Timestamp, EdgeKey), EdgeMinute, foldhash::fast::RandomState>,
    /// Calls that began outside the window.
    pub(super) out_of_window: u64,
}

impl Edges {
    /// Counts a call in the minute in which it was completed, as a scraped counter would; unless it began long ago.
    pub(super) fn observe(&mut self, call: &Call, now: Timestamp, max_age: Duration) {
        // The client's report counts; the server's fills in where there is none.
        let Some(side) = call.client_side.as_ref().or(call.server_side.as_ref()) else { return };
        let began = Timestamp::from_nanos(side.start_ns);
        if now.since(began) > max_age || began.since(now) > CLOCK_SKEW {
            self.out_of_window += 1;
            return;
        }
        let protocol = match call.connection {
            Connection::Database | Connection::Messaging if side.protocol == Protocol::Http => Protocol::Tcp,
            _ => side.protocol,
        };
        let edge = EdgeKey {
            mesh: MeshKind::Traces,
            reporter: Reporter::Trace,
            protocol,
            source: call.source.clone(),
            destination: call.destination.clone(),
            service: call.called.clone(),
            source_principal: None,
            destination_principal: None,
            security: Security::Unknown,
        };
        let minute = now.floor_to(Duration::from_secs(60));
        let gathered = self.gathered.entry((minute, edge)).or_insert_with_key(|(minute, edge)| EdgeMinute {
            latency: LatencyHistogram {
                bounds_ms: Arc::clone(&BOUNDS_MS),
                counts: vec![0.0; BOUNDS_MS.len() + 1],
                sum_ms: 0.0,
            },
            ..EdgeMinute::empty(*minute, edge.clone())
        });
        match gathered.requests.iter_mut().find(|(outcome, _)| *outcome == side.outcome) {
            Some((_, count)) => *count += 1.0,
            None => gathered.requests.push((side.outcome.clone(), 1.0)),
        }
        let latency_ms = side.seconds * 1000.0;
        gathered.latency.counts[BOUNDS_MS.partition_point(|bound| *bound < latency_ms)] += 1.0;
        gathered.latency.sum_ms += latency_ms;
        gathered.request_bytes += side.request_bytes;
        gathered.response_bytes += side.response_bytes;
    }

    /// Edges gathered now.
    pub(super) fn len(&self) -> usize {
        self.gathered.len()
    }

    /// Hands over what was gathered.
    pub(super) fn flush(&mut self) -> impl Iterator<Item = EdgeMinute> {
        self.gathered.drain().map(|(_, edge)| edge)
    }
}
