//! Service-graph series with Tempo's names and labels, so that Grafana's Service Graph tab works on them.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::Equivalent;

use super::calls::{Between, Call, Connection};
use super::cumulative::{HistogramAt, Layout, Registry, Slot};
use crate::model::{Labels, Timestamp};
use crate::series::Head;

/// Tempo's default buckets, seconds.
const BOUNDS: &[f64] = &[0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8];

/// What tells the series of a call from others: names held, or those of a call that is looked at.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key<Text> {
    client: Text,
    server: Text,
    connection: Connection,
}

impl Equivalent<Key<Arc<str>>> for Key<&str> {
    fn equivalent(&self, known: &Key<Arc<str>>) -> bool {
        *self == Key { client: &*known.client, server: &*known.server, connection: known.connection }
    }
}

/// Counts calls.
pub(super) struct ServiceGraph {
    registry: Registry<Key<Arc<str>>>,
    total: usize,
    failed: usize,
    server_seconds: HistogramAt,
    client_seconds: HistogramAt,
    /// Calls that found no place.
    pub(super) dropped: u64,
}

impl ServiceGraph {
    pub(super) fn new(series_limit: usize) -> Self {
        let mut layout = Layout::default();
        let total = layout.counter("traces_service_graph_request_total");
        let failed = layout.counter("traces_service_graph_request_failed_total");
        let server = [
            "traces_service_graph_request_server_seconds_bucket",
            "traces_service_graph_request_server_seconds_sum",
            "traces_service_graph_request_server_seconds_count",
        ];
        let client = [
            "traces_service_graph_request_client_seconds_bucket",
            "traces_service_graph_request_client_seconds_sum",
            "traces_service_graph_request_client_seconds_count",
        ];
        let (server_seconds, client_seconds) = (layout.histogram(server, BOUNDS), layout.histogram(client, BOUNDS));
        let registry = Registry::new(layout, series_limit);
        Self { registry, total, failed, server_seconds, client_seconds, dropped: 0 }
    }

    pub(super) fn observe(&mut self, call: &Call, now: Timestamp) {
        let Between { client, server, connection, .. } = &*call.between;
        let key = Key { client: &**client, server: &**server, connection: *connection };
        let own = || {
            let names = [("client", key.client), ("server", key.server), ("connection_type", connection.as_str())];
            let key = Key { client: Arc::clone(client), server: Arc::clone(server), connection: *connection };
            (key, Labels::from_pairs(names))
        };
        let Some(group) = self.registry.group(&key, now, own) else {
            self.dropped += 1;
            return;
        };
        group.add(self.total, 1.0);
        group.add(self.failed, f64::from(u8::from(call.failed)));
        let client_seconds = call.client_side.as_ref().map(|side| side.seconds);
        // A server without a span took what its client waited, as Tempo counts databases: Grafana draws every edge from
        // the server's seconds. A client without a span waited an unknown time.
        if let Some(seconds) = call.server_side.as_ref().map(|side| side.seconds).or(client_seconds) {
            group.observe(self.server_seconds, seconds);
        }
        if let Some(seconds) = client_seconds {
            group.observe(self.client_seconds, seconds);
        }
    }

    pub(super) async fn write(&mut self, head: &Head, slot: Slot, stale_after: Duration) -> u64 {
        self.registry.write(head, slot, stale_after).await
    }

    pub(super) fn end(&mut self, head: &Head, at: Timestamp) {
        self.registry.end(head, at);
    }
}
