//! Service-graph series with Tempo's names and labels, so that Grafana's Service Graph tab works on them.

use std::sync::Arc;
use std::time::Duration;

use super::calls::{Call, Connection};
use super::cumulative::{HistogramAt, Layout, Registry, Slot};
use crate::model::{Labels, Timestamp};
use crate::series::Head;

/// Tempo's default buckets, seconds.
const BOUNDS: &[f64] = &[0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8];

type Key = (Arc<str>, Arc<str>, Connection);

/// Counts calls.
pub(super) struct ServiceGraph {
    registry: Registry<Key>,
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
        let key = (Arc::clone(&call.client), Arc::clone(&call.server), call.connection);
        let labels = |(client, server, connection): &Key| {
            let connection = connection.as_str();
            Labels::from_pairs([("client", &**client), ("server", server), ("connection_type", connection)])
        };
        let Some(group) = self.registry.group(key, now, labels) else {
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
