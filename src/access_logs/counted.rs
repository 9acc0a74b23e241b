//! Records as cumulative series in the memory tier: how many, per edge, code and reason.

use std::sync::Arc;
use std::time::Duration;

use crate::model::access_log::{AccessRecord, Reason};
use crate::model::workload::{Reporter, Workload};
use crate::model::{Labels, Timestamp};
use crate::series::Head;
use crate::traces::cumulative::{HistogramAt, Layout, Registry, Slot};

/// The buckets of Istio's duration histogram up to a minute, so that both can be read side by side (mesh.md §3.1).
const BOUNDS_MS: &[f64] =
    &[0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10_000.0, 30_000.0, 60_000.0];

type Text = Option<Arc<str>>;
/// Whose proxy counted, and the three ends of an edge.
type Edge = (Reporter, [Text; 2], [Text; 2], [Text; 2]);
/// Everything that is a label: caller, called workload and service with their namespaces.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    reporter: Reporter,
    source: [Text; 2],
    destination: [Text; 2],
    service: [Text; 2],
    code: u16,
    reason: Reason,
    policy: Text,
    rule: Option<u16>,
}

/// Counts records.
pub(super) struct Counted {
    registry: Registry<Key>,
    requests: usize,
    durations: Registry<Edge>,
    duration: HistogramAt,
    /// Records that found no place.
    pub(super) dropped: u64,
}

impl Counted {
    pub(super) fn new(series_limit: usize) -> Self {
        let mut layout = Layout::default();
        let requests = layout.counter("meshscope_access_log_requests_total");
        let mut of_edges = Layout::default();
        let names = [
            "meshscope_access_log_duration_milliseconds_bucket",
            "meshscope_access_log_duration_milliseconds_sum",
            "meshscope_access_log_duration_milliseconds_count",
        ];
        let duration = of_edges.histogram(names, BOUNDS_MS);
        let registry = Registry::new(layout, series_limit / 2);
        Self { registry, requests, durations: Registry::new(of_edges, series_limit / 2), duration, dropped: 0 }
    }

    pub(super) fn observe(&mut self, record: &AccessRecord, now: Timestamp) {
        let ends = |Workload { name, namespace, .. }: &Workload| [name.clone(), namespace.clone()];
        let service = &record.service;
        let (source, destination) = (ends(&record.source), ends(&record.destination));
        let service = [service.host.clone().or_else(|| service.name.clone()), service.namespace.clone()];
        let key = Key {
            reporter: record.reporter,
            source: source.clone(),
            destination: destination.clone(),
            service: service.clone(),
            code: record.code,
            reason: record.reason,
            policy: record.policy.clone(),
            rule: record.rule,
        };
        match self.registry.group(&key, now, || (key.clone(), labels(&key))) {
            Some(group) => group.add(self.requests, 1.0),
            None => self.dropped += 1,
        }
        let Some(milliseconds) = record.duration_ms else { return };
        let edge = (record.reporter, source, destination, service);
        let of_edge = |(reporter, source, destination, service): &Edge| {
            Labels::from_pairs(edge_labels(*reporter, [source, destination, service]))
        };
        if let Some(group) = self.durations.group(&edge, now, || (edge.clone(), of_edge(&edge))) {
            group.observe(self.duration, milliseconds as f64);
        }
    }

    pub(super) async fn write(&mut self, head: &Head, slot: Slot, stale_after: Duration) -> u64 {
        self.registry.write(head, slot, stale_after).await + self.durations.write(head, slot, stale_after).await
    }

    pub(super) fn end(&mut self, head: &Head, at: Timestamp) {
        self.registry.end(head, at);
        self.durations.end(head, at);
    }
}

/// The names of Istio's labels, so that series of both join.
fn edge_labels(
    reporter: Reporter,
    [source, destination, service]: [&[Text; 2]; 3],
) -> impl Iterator<Item = (&'static str, &str)> {
    let names = [
        ("source_workload", &source[0]),
        ("source_workload_namespace", &source[1]),
        ("destination_workload", &destination[0]),
        ("destination_workload_namespace", &destination[1]),
        ("destination_service", &service[0]),
        ("destination_service_namespace", &service[1]),
    ];
    // A label without a value is none.
    let texts = names.into_iter().map(|(name, text)| (name, text.as_deref().unwrap_or_default()));
    [("reporter", reporter.as_str())].into_iter().chain(texts)
}

fn labels(key: &Key) -> Labels {
    let Key { reporter, source, destination, service, code, reason, policy, rule } = key;
    let code = code.to_string();
    let rule = rule.map(|rule| rule.to_string()).unwrap_or_default();
    let own = [
        ("response_code", &*code),
        ("reason", reason.as_str()),
        ("policy", policy.as_deref().unwrap_or_default()),
        ("rule", &*rule),
    ];
    Labels::from_pairs(edge_labels(*reporter, [source, destination, service]).chain(own))
}
