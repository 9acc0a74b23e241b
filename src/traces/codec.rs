//! The stored form of a batch of spans: texts and resources once each, numbers as varints, then zstd.
//!
//! In: spans. Out: bytes that [`decode_batch`] makes equal spans of. Pure.
//!
//! Layout after the magic and zstd: text count, texts (length, bytes); resource count, resources (attributes); span
//! count, spans. A change of layout gets a new magic; old batches stay readable until their retention ends.

mod decode;

use std::borrow::Borrow;
use std::collections::HashMap;
use std::sync::Arc;

pub use self::decode::{BatchError, decode_batch, decode_traces};
pub(crate) use self::decode::{Reader, unpack};
use crate::model::Span;
use crate::model::span::{AttributeValue, Attributes, Resource, SpanKind, SpanStatus};

const MAGIC: &[u8; 4] = b"MSB1";
/// Level 1 to 3 is the range where zstd keeps up with the receiver (performance.md: zstd-1 does 1.1M spans/s).
const ZSTD_LEVEL: i32 = 1;

const KINDS: [SpanKind; 6] = [
    SpanKind::Unspecified,
    SpanKind::Internal,
    SpanKind::Server,
    SpanKind::Client,
    SpanKind::Producer,
    SpanKind::Consumer,
];
const STATUSES: [SpanStatus; 3] = [SpanStatus::Unset, SpanStatus::Ok, SpanStatus::Error];
const HAS_PARENT: u8 = 1 << 5;

/// Encodes spans; the inverse of [`decode_batch`].
pub(super) fn encode<S: Borrow<Span>>(spans: &[S]) -> Vec<u8> {
    let mut encoder = Encoder::default();
    let mut resources = Resources::default();
    let mut previous_ns = 0;
    for span in spans.iter().map(Borrow::<Span>::borrow) {
        let resource = resources.index(&mut encoder, &span.resource);
        encoder.number(resource);
        encoder.span(span, previous_ns);
        previous_ns = span.start_ns;
    }
    let mut rest = Vec::new();
    push_number(&mut rest, resources.encoded.len() as u64);
    rest.extend(resources.encoded.iter().flatten());
    push_number(&mut rest, spans.len() as u64);
    encoder.pack(MAGIC, &rest)
}

#[derive(Default)]
struct Resources {
    by_address: HashMap<*const Resource, u64>,
    by_content: HashMap<Vec<u8>, u64>,
    encoded: Vec<Vec<u8>>,
}

impl Resources {
    fn index<'a>(&mut self, encoder: &mut Encoder<'a>, resource: &'a Arc<Resource>) -> u64 {
        // The spans outlive this map, so an address is one resource. The same resource comes with every request of its
        // proxy: equal content is stored once.
        if let Some(index) = self.by_address.get(&Arc::as_ptr(resource)) {
            return *index;
        }
        let spans = std::mem::take(&mut encoder.out);
        encoder.attributes(&resource.attributes);
        let content = std::mem::replace(&mut encoder.out, spans);
        let next = self.encoded.len() as u64;
        let index = *self.by_content.entry(content.clone()).or_insert(next);
        if index == next {
            self.encoded.push(content);
        }
        self.by_address.insert(Arc::as_ptr(resource), index);
        index
    }
}

/// Writes items whose texts stand once, in a table before them.
#[derive(Default)]
pub(crate) struct Encoder<'a> {
    texts: Vec<&'a str>,
    known: HashMap<&'a str, u64, foldhash::fast::RandomState>,
    places: HashMap<(*const u8, usize), u64, foldhash::fast::RandomState>,
    /// The items so far.
    pub(crate) out: Vec<u8>,
}

impl<'a> Encoder<'a> {
    fn span(&mut self, span: &'a Span, previous_ns: u64) {
        let kind = KINDS.iter().position(|kind| *kind == span.kind).unwrap_or(0) as u8;
        let status = STATUSES.iter().position(|status| *status == span.status).unwrap_or(0) as u8;
        self.out.push(kind | status << 3 | if span.parent_id.is_some() { HAS_PARENT } else { 0 });
        self.out.extend_from_slice(&span.trace_id);
        self.out.extend_from_slice(&span.span_id);
        self.out.extend(span.parent_id.iter().flatten());
        for text in [&span.service, &span.name, &span.scope, &span.status_message] {
            self.text(text);
        }
        self.signed(span.start_ns.wrapping_sub(previous_ns) as i64);
        self.number(span.duration_ns);
        self.attributes(&span.attributes);
        self.number(span.events.len() as u64);
        for event in &span.events {
            self.signed(event.at_ns.wrapping_sub(span.start_ns) as i64);
            self.text(&event.name);
            self.attributes(&event.attributes);
        }
        self.number(span.links.len() as u64);
        for link in &span.links {
            self.out.extend_from_slice(&link.trace_id);
            self.out.extend_from_slice(&link.span_id);
            self.attributes(&link.attributes);
        }
    }

    fn attributes(&mut self, attributes: &'a Attributes) {
        self.number(attributes.len() as u64);
        for (name, value) in attributes {
            self.text(name);
            match value {
                AttributeValue::String(text) => {
                    self.out.push(0);
                    self.text(text);
                }
                AttributeValue::Bool(value) => self.out.push(1 + u8::from(*value)),
                AttributeValue::Int(value) => {
                    self.out.push(3);
                    self.signed(*value);
                }
                AttributeValue::Double(value) => {
                    self.out.push(4);
                    self.out.extend_from_slice(&value.to_bits().to_le_bytes());
                }
                AttributeValue::Json(text) => {
                    self.out.push(5);
                    self.text(text);
                }
            }
        }
    }

    /// A text, by its place in the table.
    pub(crate) fn text(&mut self, text: &'a str) {
        // Most texts are shared, and known by where they lie without being read.
        let place = (text.as_ptr(), text.len());
        let index = match self.places.get(&place) {
            Some(index) => *index,
            None => {
                let next = self.texts.len() as u64;
                let index = *self.known.entry(text).or_insert(next);
                if index == next {
                    self.texts.push(text);
                }
                self.places.insert(place, index);
                index
            }
        };
        self.number(index);
    }

    /// A number, short when it is small.
    pub(crate) fn number(&mut self, number: u64) {
        push_number(&mut self.out, number);
    }

    /// Zigzag, so that small negative numbers are short too.
    pub(crate) fn signed(&mut self, number: i64) {
        self.number(((number << 1) ^ (number >> 63)) as u64);
    }

    /// Magic, then compressed: the texts, `head`, the items.
    pub(crate) fn pack(self, magic: &[u8; 4], head: &[u8]) -> Vec<u8> {
        let mut plain = Vec::with_capacity(self.out.len() * 2);
        push_number(&mut plain, self.texts.len() as u64);
        for text in &self.texts {
            push_number(&mut plain, text.len() as u64);
            plain.extend_from_slice(text.as_bytes());
        }
        plain.extend_from_slice(head);
        plain.extend_from_slice(&self.out);
        let mut bytes = magic.to_vec();
        let compressed = zstd::bulk::compress(&plain, ZSTD_LEVEL);
        bytes.extend(compressed.expect("invariant: zstd compresses any bytes into memory"));
        bytes
    }
}

/// Appends a number, seven bits a byte.
pub(crate) fn push_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
