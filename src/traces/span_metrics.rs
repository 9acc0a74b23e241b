//! Span metrics with Tempo's names and labels: calls, latency and size of spans, and what produced them.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::Equivalent;

use super::cumulative::{HistogramAt, Layout, Registry, Slot};
use crate::model::span::{AttributeValue, Resource, SpanKind, SpanStatus};
use crate::model::{Labels, Span, Timestamp};
use crate::series::Head;

/// Tempo's default buckets: 0.002 · 2ⁿ seconds, n = 0..13.
const BOUNDS: &[f64] =
    &[0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384];
/// Resource attributes on one `traces_target_info` at most.
const TARGET_LABELS: usize = 32;
/// Bytes of a label value made from a resource attribute; longer ones are left out.
const TARGET_VALUE_BYTES: usize = 128;

/// What tells the series of a span from others: names held, or those of a span that is looked at.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key<Text> {
    service: Text,
    name: Text,
    kind: SpanKind,
    status: SpanStatus,
}

impl Equivalent<Key<Arc<str>>> for Key<&str> {
    fn equivalent(&self, known: &Key<Arc<str>>) -> bool {
        *self == Key { service: &*known.service, name: &*known.name, kind: known.kind, status: known.status }
    }
}

/// Counts spans.
pub(super) struct SpanMetrics {
    registry: Registry<Key<Arc<str>>>,
    targets: Registry<Labels>,
    roots: Registry<(Arc<str>, SpanKind)>,
    calls: usize,
    size: usize,
    latency: HistogramAt,
    target_info: usize,
    root: usize,
    last_resource: Option<(Arc<Resource>, Labels)>,
    /// Spans that found no place.
    pub(super) dropped: u64,
}

impl SpanMetrics {
    pub(super) fn new(series_limit: usize) -> Self {
        let mut layout = Layout::default();
        let calls = layout.counter("traces_spanmetrics_calls_total");
        let size = layout.counter("traces_spanmetrics_size_total");
        let names =
            ["traces_spanmetrics_latency_bucket", "traces_spanmetrics_latency_sum", "traces_spanmetrics_latency_count"];
        let latency = layout.histogram(names, BOUNDS);
        let mut info = Layout::default();
        let target_info = info.gauge("traces_target_info");
        let mut of_roots = Layout::default();
        let root = of_roots.counter("meshscope_traces_root_spans_total");
        let (registry, targets) = (Registry::new(layout, series_limit), Registry::new(info, series_limit / 10));
        let roots = Registry::new(of_roots, series_limit / 10);
        Self { registry, targets, roots, calls, size, latency, target_info, root, last_resource: None, dropped: 0 }
    }

    pub(super) fn observe(&mut self, span: &Span, now: Timestamp) {
        self.target(span, now);
        if span.parent_id.is_none() {
            self.root(span, now);
        }
        let Span { service, name, kind, status, .. } = span;
        let key = Key { service: &**service, name: &**name, kind: *kind, status: *status };
        let own = || {
            let labels = Labels::from_pairs([
                ("service", key.service),
                ("span_name", key.name),
                ("span_kind", kind.as_str()),
                ("status_code", status.as_str()),
            ]);
            (Key { service: Arc::clone(service), name: Arc::clone(name), kind: *kind, status: *status }, labels)
        };
        let Some(group) = self.registry.group(&key, now, own) else {
            self.dropped += 1;
            return;
        };
        group.add(self.calls, 1.0);
        group.add(self.size, span.wire_bytes() as f64);
        group.observe(self.latency, span.duration_ns as f64 / 1e9);
    }

    /// Who begins traces: a workload that is called and begins one for what it calls in turn does not hand on its context.
    fn root(&mut self, span: &Span, now: Timestamp) {
        let key = (Arc::clone(&span.service), span.kind);
        let labels = || Labels::from_pairs([("service", &*span.service), ("span_kind", span.kind.as_str())]);
        // Past its limit it is only left out here: the span itself still counts.
        if let Some(group) = self.roots.group(&key, now, || (key.clone(), labels())) {
            group.add(self.root, 1.0);
        }
    }

    fn target(&mut self, span: &Span, now: Timestamp) {
        // Spans of one resource come together, so its labels are made once for each run of them.
        let known = self.last_resource.as_ref().filter(|(resource, _)| Arc::ptr_eq(resource, &span.resource));
        if known.is_some() {
            return;
        }
        let labels = target_labels(span);
        self.last_resource = Some((Arc::clone(&span.resource), labels.clone()));
        // Past its limit a target is only left out of an info metric: the span itself still counts.
        if let Some(group) = self.targets.group(&labels, now, || (labels.clone(), labels.clone())) {
            group.set(self.target_info, 1.0);
        }
    }

    pub(super) async fn write(&mut self, head: &Head, slot: Slot, stale_after: Duration) -> u64 {
        let refused = self.registry.write(head, slot, stale_after).await;
        let refused = refused + self.roots.write(head, slot, stale_after).await;
        self.last_resource = None; // so that a resource that still sends stays fresh
        refused + self.targets.write(head, slot, stale_after).await
    }

    pub(super) fn end(&mut self, head: &Head, at: Timestamp) {
        self.registry.end(head, at);
        self.targets.end(head, at);
        self.roots.end(head, at);
    }
}

/// `job` and `instance` as the OpenTelemetry specification maps resources to Prometheus, and the other attributes.
fn target_labels(span: &Span) -> Labels {
    let mut job = span.service.to_string();
    let mut labels: Vec<(String, String)> = Vec::new();
    for (name, value) in &span.resource.attributes {
        let text = match value {
            AttributeValue::String(text) => text.to_string(),
            AttributeValue::Bool(value) => value.to_string(),
            AttributeValue::Int(value) => value.to_string(),
            AttributeValue::Double(_) | AttributeValue::Json(_) => continue,
        };
        match &**name {
            "service.name" => {}
            "service.namespace" if !text.is_empty() => job = format!("{text}/{}", span.service),
            "service.instance.id" => labels.push(("instance".to_owned(), text)),
            // New for each start of a process, and of use to nobody as a label.
            "process.pid" | "process.command_args" | "process.command_line" | "process.parent_pid" => {}
            _ if text.len() <= TARGET_VALUE_BYTES && labels.len() < TARGET_LABELS => {
                labels.push((label_name(name), text));
            }
            _ => {}
        }
    }
    labels.push(("job".to_owned(), job));
    Labels::from_pairs(labels)
}

/// A valid label name: what is no letter, digit or underscore becomes one (`k8s.pod.name` → `k8s_pod_name`).
fn label_name(name: &str) -> String {
    let clean: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    // Names that begin with two underscores belong to Prometheus; names may not begin with a digit.
    if clean.starts_with("__") || clean.starts_with(|c: char| c.is_ascii_digit()) {
        format!("key_{clean}")
    } else {
        clean
    }
}
