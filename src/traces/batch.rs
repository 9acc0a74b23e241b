//! Makes stored batches: the compressed spans, what the index tells of each trace, and the keys they are found by.
//!
//! Pure. Invariant: the parts of a batch cover all its spans; each list in a part is sorted, unique and bounded.

use std::borrow::{Borrow, Cow};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde::Deserialize;

use super::codec;
use crate::model::attributes::Attribute;
use crate::model::span::{AttributeValue, SpanBatch, SpanStatus, TraceId, TracePart};
use crate::model::{Span, span_key};

/// Which attributes can be searched in stored traces.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IndexConfig {
    /// Only these attributes; empty (the default) means all but `exclude`.
    pub attributes: Vec<String>,
    /// Never these: by default those with a value of their own in each request, which would make the index as large as
    /// the spans, and those that are the same on nearly all spans of a mesh, which lead to none. They are still found where
    /// spans are opened.
    pub exclude: Vec<String>,
    /// Longest value that is indexed, in bytes. Default 256.
    pub value_bytes: usize,
    /// Different `name=value` in one batch at most: a batch with more is opened by every search for an attribute. Default
    /// 32,768.
    pub keys_per_batch: usize,
}

impl Default for IndexConfig {
    fn default() -> Self {
        let unselective = [
            // The same on all spans of a mesh, or told by another attribute: their equality leaves nothing out.
            "component",
            "downstream_cluster",
            "http.protocol",
            "istio.mesh_id",
            "telemetry.sdk.language",
            "telemetry.sdk.name",
            "telemetry.sdk.version",
            "upstream_cluster.name",
            // Each request has a value of its own.
            "guid:x-request-id",
            "http.url",
            "url.full",
            "url.query",
            "http.target",
            "peer.address",
            "upstream_address",
            "request_size",
            "response_size",
            "http.request.body.size",
            "http.response.body.size",
            "http.request_content_length",
            "http.response_content_length",
            "net.peer.port",
            "net.sock.peer.port",
            "network.peer.port",
            "client.port",
            "db.statement",
            "db.query.text",
            "exception.stacktrace",
            "thread.id",
            "thread.name",
            "process.pid",
            "process.command_args",
            "process.command_line",
        ];
        Self {
            attributes: Vec::new(),
            exclude: unselective.map(str::to_owned).to_vec(),
            value_bytes: 256,
            keys_per_batch: 32_768,
        }
    }
}

impl IndexConfig {
    /// Whether that attribute is indexed.
    pub fn takes(&self, name: &str) -> bool {
        let named = |names: &[String]| names.iter().any(|n| n == name);
        if self.attributes.is_empty() { !named(&self.exclude) } else { named(&self.attributes) }
    }
}

/// Encodes and indexes spans. `None` when there are none.
pub fn encode_batch<S: Borrow<Span>>(spans: &[S], config: &IndexConfig) -> Option<SpanBatch> {
    let from_ns = spans.iter().map(|span| Borrow::<Span>::borrow(span).start_ns).min()?;
    let to_ns = spans.iter().map(|span| Borrow::<Span>::borrow(span).start_ns).max()?;
    let parts = parts(spans);
    let codec::Encoded { bytes, attributes } = codec::encode(spans);
    let keys = span_key::of_batch(&parts, attribute_keys(&attributes, config));
    let span_count = u32::try_from(spans.len()).unwrap_or(u32::MAX);
    Some(SpanBatch { bytes, from_ns, to_ns, span_count, parts, keys })
}

/// What each trace has in these spans, in order of first appearance.
pub(super) fn parts<S: Borrow<Span>>(spans: &[S]) -> Vec<TracePart> {
    let mut order: HashMap<TraceId, usize, foldhash::fast::RandomState> = HashMap::default();
    let mut parts: Vec<PartBuilder> = Vec::new();
    for span in spans.iter().map(Borrow::<Span>::borrow) {
        let at = *order.entry(span.trace_id).or_insert_with(|| {
            parts.push(PartBuilder::new(span));
            parts.len() - 1
        });
        parts[at].add(span);
    }
    parts.into_iter().map(PartBuilder::finish).collect()
}

/// Whether the span or its resource has that attribute with that text, as keys tell it.
pub fn has_attribute(span: &Span, name: &str, text: &str) -> bool {
    let mut found = false;
    for (_, value) in span.attributes.iter().chain(&span.resource.attributes).filter(|(n, _)| &**n == name) {
        each_text(value, usize::MAX, |own| found |= own == text);
    }
    found
}

/// Gives the texts by which a value is sought, those of at most `longest` bytes: a list matches by each of its members
/// (TraceQL).
fn each_text(value: &AttributeValue, longest: usize, mut give: impl FnMut(&str)) {
    match value {
        AttributeValue::String(text) if text.len() <= longest => give(text),
        AttributeValue::Bool(value) => give(if *value { "true" } else { "false" }),
        AttributeValue::Int(value) => give(&value.to_string()),
        AttributeValue::Double(value) => give(&value.to_string()),
        AttributeValue::Json(text) if text.starts_with('[') && text.len() <= longest => {
            if let Ok(serde_json::Value::Array(members)) = serde_json::from_str(text) {
                for member in members {
                    give(&match member {
                        serde_json::Value::String(text) => Cow::Owned(text),
                        other => Cow::<str>::Owned(other.to_string()),
                    });
                }
            }
        }
        AttributeValue::String(_) | AttributeValue::Json(_) => {}
    }
}

/// The keys of these attributes, each once.
fn attribute_keys(attributes: &[&Attribute], config: &IndexConfig) -> Vec<i64> {
    let mut keys: HashSet<i64, foldhash::fast::RandomState> = HashSet::default();
    let mut taken: HashMap<&str, bool, foldhash::fast::RandomState> = HashMap::default();
    for (name, value) in attributes {
        if *taken.entry(name).or_insert_with(|| config.takes(name)) {
            each_text(value, config.value_bytes, |text| _ = keys.insert(span_key::of_attribute(name, text)));
        }
    }
    let mut keys: Vec<i64> = keys.into_iter().collect();
    if keys.len() > config.keys_per_batch {
        keys.truncate(config.keys_per_batch);
        keys.push(span_key::of_more_attributes());
    }
    keys
}

struct PartBuilder {
    part: TracePart,
    root_start_ns: u64,
    services: BTreeSet<Arc<str>>,
    operations: BTreeSet<Arc<str>>,
}

impl PartBuilder {
    fn new(span: &Span) -> Self {
        let part = TracePart {
            trace_id: span.trace_id,
            start_ns: span.start_ns,
            end_ns: span.end_ns(),
            span_count: 0,
            error_count: 0,
            longest_ns: 0,
            root_service: None,
            root_name: None,
            services: Vec::new(),
            operations: Vec::new(),
        };
        Self { part, root_start_ns: u64::MAX, services: BTreeSet::new(), operations: BTreeSet::new() }
    }

    fn add(&mut self, span: &Span) {
        let part = &mut self.part;
        part.start_ns = part.start_ns.min(span.start_ns);
        part.end_ns = part.end_ns.max(span.end_ns());
        part.span_count = part.span_count.saturating_add(1);
        part.error_count = part.error_count.saturating_add(u32::from(span.status == SpanStatus::Error));
        part.longest_ns = part.longest_ns.max(span.duration_ns);
        if span.parent_id.is_none() && span.start_ns < self.root_start_ns {
            self.root_start_ns = span.start_ns;
            part.root_service = Some(Arc::clone(&span.service));
            part.root_name = Some(Arc::clone(&span.name));
        }
        if self.services.len() < TracePart::SERVICES_MAX && !self.services.contains(&span.service) {
            self.services.insert(Arc::clone(&span.service));
        }
        if self.operations.len() < TracePart::OPERATIONS_MAX && !self.operations.contains(&span.name) {
            self.operations.insert(Arc::clone(&span.name));
        }
    }

    fn finish(self) -> TracePart {
        let Self { mut part, services, operations, .. } = self;
        part.services = services.into_iter().collect();
        part.operations = operations.into_iter().collect();
        part
    }
}
