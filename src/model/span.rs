//! Spans and traces, as OTLP gives them, with the mesh identity that a proxy attaches.

use std::sync::Arc;

/// 16-byte trace id.
pub type TraceId = [u8; 16];
/// 8-byte span id.
pub type SpanId = [u8; 8];

/// The part a span plays in a call (OTLP `SpanKind`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SpanKind {
    /// Not said.
    Unspecified,
    /// Work inside one process.
    Internal,
    /// The called side of a call.
    Server,
    /// The calling side of a call.
    Client,
    /// Sends a message.
    Producer,
    /// Receives a message.
    Consumer,
}

impl SpanKind {
    /// Name as in Tempo's span metrics: `SPAN_KIND_SERVER`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "SPAN_KIND_UNSPECIFIED",
            Self::Internal => "SPAN_KIND_INTERNAL",
            Self::Server => "SPAN_KIND_SERVER",
            Self::Client => "SPAN_KIND_CLIENT",
            Self::Producer => "SPAN_KIND_PRODUCER",
            Self::Consumer => "SPAN_KIND_CONSUMER",
        }
    }

    /// The word for it, as TraceQL and Jaeger write it: `server`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Internal => "internal",
            Self::Server => "server",
            Self::Client => "client",
            Self::Producer => "producer",
            Self::Consumer => "consumer",
        }
    }
}

/// How a span ended (OTLP `StatusCode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SpanStatus {
    /// Not said, which means no error.
    Unset,
    /// Said to be right.
    Ok,
    /// Failed.
    Error,
}

impl SpanStatus {
    /// Name as in Tempo's span metrics: `STATUS_CODE_ERROR`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unset => "STATUS_CODE_UNSET",
            Self::Ok => "STATUS_CODE_OK",
            Self::Error => "STATUS_CODE_ERROR",
        }
    }

    /// The word for it, as TraceQL writes it: `error`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unset => "unset",
            Self::Ok => "ok",
            Self::Error => "error",
        }
    }
}

/// What tells a span from the others of its trace. Its id alone does not: the two sides of a call may share one (B3), and
/// broken tracers give one to several spans. A span that is sent again has the same key.
pub type SpanKey = (SpanId, SpanKind, u64);

/// A value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum AttributeValue {
    /// Text.
    String(Arc<str>),
    /// True or false.
    Bool(bool),
    /// Whole number.
    Int(i64),
    /// Number.
    Double(f64),
    /// Bytes, list or map, as JSON text.
    Json(Arc<str>),
}

pub use super::attributes::Attributes;

/// What produced a group of spans: OTLP resource.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Resource {
    /// Its attributes, `service.name` among them.
    pub attributes: Attributes,
}

/// Something that happened during a span.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanEvent {
    /// When, nanoseconds since the epoch.
    pub at_ns: u64,
    /// What.
    pub name: Arc<str>,
    /// Details.
    pub attributes: Attributes,
}

/// A reference to another span.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanLink {
    /// The other trace.
    pub trace_id: TraceId,
    /// The other span.
    pub span_id: SpanId,
    /// Details.
    pub attributes: Attributes,
}

/// One unit of work.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Which trace.
    pub trace_id: TraceId,
    /// Which span.
    pub span_id: SpanId,
    /// Its parent; `None` at the root.
    pub parent_id: Option<SpanId>,
    /// Its part in the call.
    pub kind: SpanKind,
    /// `service.name` of the resource, or `unknown_service`.
    pub service: Arc<str>,
    /// Operation.
    pub name: Arc<str>,
    /// Start, nanoseconds since the epoch.
    pub start_ns: u64,
    /// Duration in nanoseconds.
    pub duration_ns: u64,
    /// How it ended.
    pub status: SpanStatus,
    /// Why it failed, when said.
    pub status_message: Arc<str>,
    /// Attributes of the span.
    pub attributes: Attributes,
    /// What produced it.
    pub resource: Arc<Resource>,
    /// Instrumentation scope name.
    pub scope: Arc<str>,
    /// What happened during it.
    pub events: Vec<SpanEvent>,
    /// What it refers to.
    pub links: Vec<SpanLink>,
}

impl Span {
    /// What tells it from the others of its trace: id, kind and start.
    pub fn key(&self) -> SpanKey {
        (self.span_id, self.kind, self.start_ns)
    }

    /// The attribute of that name, on the span itself.
    pub fn attribute(&self, name: &str) -> Option<&AttributeValue> {
        self.attributes.iter().find(|(n, _)| &**n == name).map(|(_, v)| v)
    }

    /// The text of an attribute of the span, or else of its resource.
    pub fn text(&self, name: &str) -> Option<&str> {
        let of = |attributes: &'_ Attributes| attributes.iter().position(|(n, _)| &**n == name);
        let value = match of(&self.attributes) {
            Some(at) => &self.attributes[at].1,
            None => &self.resource.attributes[of(&self.resource.attributes)?].1,
        };
        match value {
            AttributeValue::String(text) | AttributeValue::Json(text) => Some(text),
            _ => None,
        }
    }

    /// About how many bytes this span is as OTLP protobuf, its resource not counted.
    pub fn wire_bytes(&self) -> usize {
        let events = self.events.iter().map(|event| 13 + event.name.len() + event.attributes.wire_bytes());
        let links = self.links.iter().map(|link| 30 + link.attributes.wire_bytes());
        let parent = if self.parent_id.is_some() { 10 } else { 0 };
        let status = if self.status == SpanStatus::Unset { 0 } else { 4 + self.status_message.len() };
        // Ids 28, times 18, kind 2, name 2.
        50 + parent
            + status
            + self.name.len()
            + self.attributes.wire_bytes()
            + events.sum::<usize>()
            + links.sum::<usize>()
    }

    /// About how much memory this span holds: of what it shares with the spans of its request, its part. Other texts shared
    /// with other spans are counted in full.
    pub fn memory_bytes(&self) -> usize {
        let events = self
            .events
            .iter()
            .map(|event| size_of::<SpanEvent>() + 13 + event.name.len() + event.attributes.memory_bytes());
        let links = self.links.iter().map(|link| size_of::<SpanLink>() + link.attributes.memory_bytes());
        size_of::<Self>()
            + self.service.len()
            + self.name.len()
            + self.status_message.len()
            + self.attributes.memory_bytes()
            + events.sum::<usize>()
            + links.sum::<usize>()
    }

    /// End, nanoseconds since the epoch.
    pub fn end_ns(&self) -> u64 {
        self.start_ns.saturating_add(self.duration_ns)
    }
}

/// Lower-case hex of a trace or span id.
pub fn hex(id: &[u8]) -> String {
    id.iter().fold(String::with_capacity(id.len() * 2), |mut text, byte| {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
        text
    })
}

/// A trace id from hex; shorter text is padded on the left with zeros, as Jaeger writes 64-bit ids.
pub fn trace_id_from_hex(text: &str) -> Option<TraceId> {
    if text.is_empty() || text.len() > 32 {
        return None;
    }
    let mut id = [0; 16];
    for (i, digit) in text.bytes().rev().enumerate() {
        let value = char::from(digit).to_digit(16)? as u8;
        id[15 - i / 2] |= value << (4 * (i % 2));
    }
    Some(id)
}

/// What the index of a stored batch tells of one of its traces.
#[derive(Clone, Debug, PartialEq)]
pub struct TracePart {
    /// Which trace.
    pub trace_id: TraceId,
    /// Earliest start in this part, nanoseconds since the epoch.
    pub start_ns: u64,
    /// Latest end in this part.
    pub end_ns: u64,
    /// Spans in this part.
    pub span_count: u32,
    /// Spans with an error in this part.
    pub error_count: u32,
    /// Longest single span in this part, nanoseconds.
    pub longest_ns: u64,
    /// Service of the root span, when it is in this part.
    pub root_service: Option<Arc<str>>,
    /// Operation of the root span, when it is in this part.
    pub root_name: Option<Arc<str>>,
    /// Services in this part, sorted; at most [`TracePart::SERVICES_MAX`].
    pub services: Vec<Arc<str>>,
    /// Operations in this part, sorted; at most [`TracePart::OPERATIONS_MAX`].
    pub operations: Vec<Arc<str>>,
}

impl TracePart {
    /// A part with so many services may have more.
    pub const SERVICES_MAX: usize = 256;
    /// A part with so many operations may have more.
    pub const OPERATIONS_MAX: usize = 64;
}

/// Spans on their way to the store: one compressed blob and what it is found by.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanBatch {
    /// The spans, as `traces` encodes them.
    pub bytes: Vec<u8>,
    /// Earliest start, nanoseconds since the epoch.
    pub from_ns: u64,
    /// Latest start.
    pub to_ns: u64,
    /// How many spans.
    pub span_count: u32,
    /// What is in it of each trace.
    pub parts: Vec<TracePart>,
    /// All that it is found by, sorted, each once ([`super::span_key`]).
    pub keys: Vec<i64>,
}
