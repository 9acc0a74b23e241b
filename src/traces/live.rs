//! The last spans in memory, so that a trace can be read before it reaches PostgreSQL, or while that is away.
//!
//! In: spans from the pipeline. Out: traces by id, recent traces by filter. Invariant: never more spans or bytes than
//! the configuration allows, plus one span; the oldest received leaves first; a span that was sent again is held once.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::BuildHasher as _;
use std::sync::Arc;

use parking_lot::Mutex;

use super::batch::parts;
use crate::model::Span;
use crate::model::span::{AttributeValue, SpanStatus, TraceId, TracePart};

/// The last spans. Clones share them.
#[derive(Clone)]
pub struct Live(Arc<Mutex<Ring>>);

struct Ring {
    span_limit: usize,
    byte_limit: usize,
    bytes: usize,
    spans: VecDeque<Held>,
    /// Number of the first of `spans`; each that comes has the next one.
    first: u64,
    /// Number of the last span of each trace.
    last_of: HashMap<TraceId, u64, foldhash::fast::RandomState>,
    /// Hashes of the trace id and [`Span::key`] of what is held.
    held: HashSet<u64, foldhash::fast::RandomState>,
}

struct Held {
    span: Arc<Span>,
    hash: u64,
    bytes: usize,
    /// Number of the span of its trace that came before it, which may have left.
    before: Option<u64>,
}

/// Which traces are wanted. A trace is, when one of its spans satisfies all conditions on spans.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Service of the span.
    pub service: Option<String>,
    /// Operation of the span.
    pub operation: Option<String>,
    /// Attributes of the span or its resource, as text.
    pub attributes: Vec<(String, String)>,
    /// Only spans with an error.
    pub errors_only: bool,
    /// Shortest duration of the span, nanoseconds.
    pub min_duration_ns: Option<u64>,
    /// Longest duration of the span, nanoseconds.
    pub max_duration_ns: Option<u64>,
    /// Earliest start of the span, nanoseconds since the epoch.
    pub from_ns: Option<u64>,
    /// Latest start of the span.
    pub to_ns: Option<u64>,
    /// Most traces returned; 0 means 20.
    pub limit: usize,
}

impl Filter {
    /// Whether this span satisfies all conditions.
    pub fn matches(&self, span: &Span) -> bool {
        let has = |wanted: &Option<String>, text: &str| wanted.as_deref().is_none_or(|wanted| wanted == text);
        has(&self.service, &span.service)
            && has(&self.operation, &span.name)
            && (!self.errors_only || span.status == SpanStatus::Error)
            && self.min_duration_ns.is_none_or(|least| span.duration_ns >= least)
            && self.max_duration_ns.is_none_or(|most| span.duration_ns <= most)
            && self.from_ns.is_none_or(|from| span.start_ns >= from)
            && self.to_ns.is_none_or(|to| span.start_ns <= to)
            && self.attributes.iter().all(|(name, text)| has_attribute(span, name, text))
    }
}

impl Live {
    /// An empty ring of at most so many spans and bytes.
    pub fn new(span_limit: usize, byte_limit: usize) -> Self {
        let (spans, last_of, held) = (VecDeque::new(), HashMap::default(), HashSet::default());
        Self(Arc::new(Mutex::new(Ring { span_limit, byte_limit, bytes: 0, spans, first: 0, last_of, held })))
    }

    /// Adds spans; the oldest make room. Gives the places of those that are held already: their sender did not hear that
    /// they were taken, and sent them again.
    pub fn push(&self, spans: &[Span]) -> Vec<usize> {
        self.push_shared(&spans.iter().cloned().map(Arc::new).collect::<Vec<_>>())
    }

    /// The same, of spans that others hold too.
    pub fn push_shared(&self, spans: &[Arc<Span>]) -> Vec<usize> {
        let mut repeated = Vec::new();
        let mut ring = self.0.lock();
        for (at, span) in spans.iter().enumerate() {
            let hash = ring.hash(span);
            if !ring.held.insert(hash) {
                repeated.push(at);
                continue;
            }
            let (bytes, number) = (span.memory_bytes(), ring.first + ring.spans.len() as u64);
            ring.bytes += bytes;
            let before = ring.last_of.insert(span.trace_id, number);
            ring.spans.push_back(Held { span: Arc::clone(span), hash, bytes, before });
            while ring.spans.len() > ring.span_limit || ring.bytes > ring.byte_limit {
                if !ring.drop_oldest() {
                    break;
                }
            }
        }
        repeated
    }

    /// Bytes of the spans held.
    pub fn size_bytes(&self) -> usize {
        self.0.lock().bytes
    }

    /// The spans of a trace that are in memory, by start.
    pub fn trace(&self, id: TraceId) -> Vec<Span> {
        let found = self.0.lock().of_trace(id);
        // In the order they came, which those that start together keep.
        let mut spans: Vec<Span> = found.iter().rev().map(|span| Span::clone(span)).collect();
        spans.sort_by_key(|span| span.start_ns);
        spans
    }

    /// The traces with a span that satisfies the filter, latest such span first; the filter's limit is not used.
    pub fn matching(&self, filter: &Filter) -> Vec<TraceId> {
        let spans: Vec<Arc<Span>> = self.0.lock().all().cloned().collect();
        let mut latest: HashMap<TraceId, u64, foldhash::fast::RandomState> = HashMap::default();
        for span in spans.iter().filter(|span| filter.matches(span)) {
            let start_ns = latest.entry(span.trace_id).or_insert(span.start_ns);
            *start_ns = span.start_ns.max(*start_ns);
        }
        let mut newest: Vec<(u64, TraceId)> = latest.into_iter().map(|(id, start_ns)| (start_ns, id)).collect();
        newest.sort_unstable_by(|a, b| b.cmp(a));
        newest.into_iter().map(|(_, id)| id).collect()
    }

    /// The last spans received, latest first.
    pub fn latest(&self, limit: usize) -> Vec<Arc<Span>> {
        self.0.lock().all().rev().take(limit).cloned().collect()
    }

    /// The traces that satisfy the filter, latest start first, in the form the store indexes them.
    pub fn recent(&self, filter: &Filter) -> Vec<TracePart> {
        // Only the references are copied under the lock: reading the spans may take a while.
        let spans: Vec<Arc<Span>> = self.0.lock().all().cloned().collect();
        let mut matching: HashMap<TraceId, u64, foldhash::fast::RandomState> = HashMap::default();
        for span in spans.iter().filter(|span| filter.matches(span)) {
            let start_ns = matching.entry(span.trace_id).or_insert(span.start_ns);
            *start_ns = span.start_ns.min(*start_ns);
        }
        let mut newest: Vec<(u64, TraceId)> = matching.into_iter().map(|(id, start_ns)| (start_ns, id)).collect();
        newest.sort_unstable_by(|a, b| b.cmp(a));
        newest.truncate(if filter.limit == 0 { 20 } else { filter.limit });
        let mut found: Vec<TracePart> = newest.iter().flat_map(|(_, id)| parts(&self.trace(*id))).collect();
        found.sort_by(|a, b| b.start_ns.cmp(&a.start_ns).then(a.trace_id.cmp(&b.trace_id)));
        found
    }

    /// The spans that started at or after `from_ns`, the last to come first.
    pub fn since(&self, from_ns: u64) -> Vec<Arc<Span>> {
        self.0.lock().all().rev().filter(|span| span.start_ns >= from_ns).cloned().collect()
    }

    /// Names of the services with spans in memory, sorted.
    pub fn services(&self) -> Vec<Arc<str>> {
        let ring = self.0.lock();
        let mut services: BTreeSet<&Arc<str>> = BTreeSet::new();
        for span in ring.all() {
            services.insert(&span.service);
        }
        services.into_iter().cloned().collect()
    }

    /// Names of the operations of a service with spans in memory, sorted.
    pub fn operations(&self, service: &str) -> Vec<Arc<str>> {
        let ring = self.0.lock();
        let of_service = ring.all().filter(|span| &*span.service == service);
        let operations: BTreeSet<&Arc<str>> = of_service.map(|span| &span.name).collect();
        operations.into_iter().cloned().collect()
    }

    /// How many spans, and how many bytes of memory, are held.
    pub fn size(&self) -> (usize, usize) {
        let ring = self.0.lock();
        (ring.spans.len(), ring.bytes)
    }
}

impl Ring {
    fn hash(&self, span: &Span) -> u64 {
        self.held.hasher().hash_one((span.trace_id, span.key()))
    }

    /// All, in the order they came.
    fn all(&self) -> impl DoubleEndedIterator<Item = &Arc<Span>> {
        self.spans.iter().map(|held| &held.span)
    }

    /// The spans of a trace, the last to come first.
    fn of_trace(&self, id: TraceId) -> Vec<Arc<Span>> {
        let mut found = Vec::new();
        let mut next = self.last_of.get(&id).copied();
        while let Some(held) =
            next.and_then(|number| self.spans.get(usize::try_from(number.checked_sub(self.first)?).ok()?))
        {
            found.push(Arc::clone(&held.span));
            next = held.before;
        }
        found
    }

    fn drop_oldest(&mut self) -> bool {
        let Some(oldest) = self.spans.pop_front() else { return false };
        self.held.remove(&oldest.hash);
        self.bytes = self.bytes.saturating_sub(oldest.bytes);
        if self.last_of.get(&oldest.span.trace_id) == Some(&self.first) {
            self.last_of.remove(&oldest.span.trace_id);
        }
        self.first += 1;
        true
    }
}

fn has_attribute(span: &Span, name: &str, text: &str) -> bool {
    let is = |value: &AttributeValue| match value {
        AttributeValue::String(value) | AttributeValue::Json(value) => &**value == text,
        AttributeValue::Bool(value) => text == if *value { "true" } else { "false" },
        AttributeValue::Int(value) => text.parse() == Ok(*value),
        AttributeValue::Double(value) => text.parse() == Ok(*value),
    };
    let both = [&span.attributes, &span.resource.attributes];
    both.into_iter().flatten().any(|(n, value)| &**n == name && is(value))
}
