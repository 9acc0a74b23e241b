//! Makes stored batches: the compressed spans and one narrow index row for each trace.
//!
//! Pure. Invariant: the parts of a batch cover all its spans; each list in a part is sorted, unique and bounded.

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use serde::Deserialize;

use super::codec;
use crate::model::span::{AttributeValue, Attributes, Resource, SpanBatch, SpanStatus, TraceId, TracePart};
use crate::model::{Span, fnv1a};

/// Operations named in one index row.
const OPERATIONS_PER_PART: usize = 64;
/// Services named in one index row.
const SERVICES_PER_PART: usize = 256;

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
    /// Different `name=value` of one trace in one batch at most. Default 512.
    pub hashes_per_part: usize,
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
            hashes_per_part: 512,
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

/// The hash by which a stored trace is found for `name=value`. It is written to the database: it never changes.
///
/// FNV-1a of name, a zero byte and value, with the finalizer of MurmurHash3 so that all bits vary. Numbers and booleans
/// are hashed as their text.
pub fn attribute_hash(name: &str, value: &str) -> i64 {
    let mut hash = fnv1a(name.bytes().chain([0]).chain(value.bytes()));
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    (hash ^ (hash >> 33)) as i64
}

/// Encodes and indexes spans. `None` when there are none.
pub fn encode_batch<S: Borrow<Span>>(spans: &[S], config: &IndexConfig) -> Option<SpanBatch> {
    let from_ns = spans.iter().map(|span| Borrow::<Span>::borrow(span).start_ns).min()?;
    let to_ns = spans.iter().map(|span| Borrow::<Span>::borrow(span).start_ns).max()?;
    Some(SpanBatch {
        bytes: codec::encode(spans),
        from_ns,
        to_ns,
        span_count: u32::try_from(spans.len()).unwrap_or(u32::MAX),
        parts: parts(spans, config),
    })
}

/// One index row for each trace, in order of first appearance.
pub(super) fn parts<S: Borrow<Span>>(spans: &[S], config: &IndexConfig) -> Vec<TracePart> {
    let mut indexer =
        Indexer { config, by_name: HashMap::default(), by_pair: HashMap::default(), by_resource: HashMap::default() };
    let mut order: HashMap<TraceId, usize, foldhash::fast::RandomState> = HashMap::default();
    let mut parts: Vec<PartBuilder> = Vec::new();
    for span in spans.iter().map(Borrow::<Span>::borrow) {
        let at = *order.entry(span.trace_id).or_insert_with(|| {
            parts.push(PartBuilder::new(span));
            parts.len() - 1
        });
        let hashes = &mut parts[at].part.attribute_hashes;
        indexer.span(span, hashes);
        if hashes.len() > 4 * config.hashes_per_part {
            hashes.sort_unstable();
            hashes.dedup();
            hashes.truncate(config.hashes_per_part);
        }
        parts[at].add(span);
    }
    parts.into_iter().map(|part| part.finish(config.hashes_per_part)).collect()
}

/// Remembers the decision for each attribute name, and the hashes of texts and of each resource. Spans of one request share
/// equal texts, so where a text lies tells which it is; the spans outlive the indexer.
struct Indexer<'a> {
    config: &'a IndexConfig,
    by_name: HashMap<*const u8, bool, foldhash::fast::RandomState>,
    /// Hashes of a name with a text, by where both lie.
    by_pair: HashMap<[*const u8; 2], i64, foldhash::fast::RandomState>,
    by_resource: HashMap<*const Resource, Vec<i64>>,
}

impl<'a> Indexer<'a> {
    fn span(&mut self, span: &'a Span, hashes: &mut Vec<i64>) {
        self.attributes(&span.attributes, hashes);
        let address = Arc::as_ptr(&span.resource);
        if !self.by_resource.contains_key(&address) {
            let mut of_resource = Vec::new();
            self.attributes(&span.resource.attributes, &mut of_resource);
            self.by_resource.insert(address, of_resource);
        }
        hashes.extend_from_slice(&self.by_resource[&address]);
    }

    fn attributes(&mut self, attributes: &'a Attributes, hashes: &mut Vec<i64>) {
        for (name, value) in attributes {
            let config = self.config;
            if !*self.by_name.entry(name.as_ptr()).or_insert_with(|| config.takes(name)) {
                continue;
            }
            match value {
                AttributeValue::String(text) if text.len() <= config.value_bytes => {
                    let pair = self.by_pair.entry([name.as_ptr(), text.as_ptr()]);
                    hashes.push(*pair.or_insert_with(|| attribute_hash(name, text)));
                }
                AttributeValue::Bool(value) => hashes.push(attribute_hash(name, if *value { "true" } else { "false" })),
                AttributeValue::Int(value) => hashes.push(attribute_hash(name, &value.to_string())),
                AttributeValue::Double(value) => hashes.push(attribute_hash(name, &value.to_string())),
                // A list matches by each of its members (TraceQL).
                AttributeValue::Json(text) if text.starts_with('[') && text.len() <= config.value_bytes => {
                    if let Ok(serde_json::Value::Array(members)) = serde_json::from_str(text) {
                        hashes.extend(members.iter().map(|member| match member {
                            serde_json::Value::String(text) => attribute_hash(name, text),
                            other => attribute_hash(name, &other.to_string()),
                        }));
                    }
                }
                AttributeValue::String(_) | AttributeValue::Json(_) => {}
            }
        }
    }
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
            attribute_hashes: Vec::new(),
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
        if self.services.len() < SERVICES_PER_PART && !self.services.contains(&span.service) {
            self.services.insert(Arc::clone(&span.service));
        }
        if self.operations.len() < OPERATIONS_PER_PART && !self.operations.contains(&span.name) {
            self.operations.insert(Arc::clone(&span.name));
        }
    }

    fn finish(self, hashes_per_part: usize) -> TracePart {
        let Self { mut part, services, operations, .. } = self;
        part.services = services.into_iter().collect();
        part.operations = operations.into_iter().collect();
        part.attribute_hashes.sort_unstable();
        part.attribute_hashes.dedup();
        part.attribute_hashes.truncate(hashes_per_part);
        part
    }
}
