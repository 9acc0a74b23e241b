//! The stored form of a batch of spans: texts, attributes and resources once each, numbers as varints, then zstd.
//!
//! In: spans. Out: bytes that [`decode_batch`] makes equal spans of, and the attributes in them. Pure.
//!
//! Layout after the magic and zstd: text count, texts (length, bytes); attribute count, attributes (name, type, value);
//! resource count, resources (attributes by their places); span count, spans. Most attributes and their texts come for the first
//! time in the order of their places: such a place is written as 0, which compresses well, any other as itself and 1. A change of
//! layout gets a new magic; old batches stay readable until their retention ends: in those of `MSB1` each span has its attributes
//! whole, and places are written as they are.

mod attributes;
mod decode;

use std::borrow::Borrow;
use std::collections::HashMap;
use std::sync::Arc;

use self::attributes::AttributePlaces;
pub use self::decode::{BatchError, decode_batch, decode_traces};
pub(crate) use self::decode::{Reader, unpack};
use crate::model::Span;
use crate::model::attributes::Attribute;
use crate::model::span::{AttributeValue, Resource, SpanKind, SpanStatus};

const MAGIC: &[u8; 4] = b"MSB2";
/// Each span has its attributes whole.
const MAGIC_WHOLE: &[u8; 4] = b"MSB1";
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

/// Spans in their stored form.
pub(super) struct Encoded<'a> {
    /// What [`decode_batch`] reads.
    pub(super) bytes: Vec<u8>,
    /// The attributes of the spans and of what produced them, each once; not those of events and links.
    pub(super) attributes: Vec<&'a Attribute>,
}

/// Encodes spans; the inverse of [`decode_batch`].
pub(super) fn encode<S: Borrow<Span>>(spans: &[S]) -> Encoded<'_> {
    let (mut encoder, mut places, mut resources) =
        (Encoder::default(), AttributePlaces::default(), Resources::default());
    let mut previous_ns = 0;
    for span in spans.iter().map(Borrow::<Span>::borrow) {
        let resource = resources.index(&mut encoder, &mut places, &span.resource);
        encoder.number(resource);
        encoder.span(&mut places, span, previous_ns);
        previous_ns = span.start_ns;
    }
    let (mut head, attributes) = places.finish(&mut encoder);
    push_number(&mut head, resources.encoded.len() as u64);
    head.extend(resources.encoded.iter().flatten());
    push_number(&mut head, spans.len() as u64);
    Encoded { bytes: encoder.pack(MAGIC, &head), attributes }
}

/// Places that mostly come in their order for the first time.
#[derive(Default)]
struct Ascent {
    /// The place that is next in order.
    next: u64,
}

impl Ascent {
    /// How a place is written.
    fn written(&mut self, place: u64) -> u64 {
        let written = if place == self.next { 0 } else { place + 1 };
        self.next = self.next.max(place + 1);
        written
    }

    /// The place that was written so.
    fn place(&mut self, written: u64) -> u64 {
        let place = written.checked_sub(1).unwrap_or(self.next);
        self.next = self.next.max(place.saturating_add(1));
        place
    }
}

#[derive(Default)]
struct Resources {
    by_address: HashMap<*const Resource, u64, foldhash::fast::RandomState>,
    by_content: HashMap<Vec<u8>, u64>,
    encoded: Vec<Vec<u8>>,
}

impl Resources {
    fn index<'a>(
        &mut self,
        encoder: &mut Encoder<'a>,
        places: &mut AttributePlaces<'a>,
        resource: &'a Arc<Resource>,
    ) -> u64 {
        // The spans outlive this map, so an address is one resource. The same resource comes with every request of its
        // proxy: equal content is stored once.
        if let Some(index) = self.by_address.get(&Arc::as_ptr(resource)) {
            return *index;
        }
        let spans = std::mem::take(&mut encoder.out);
        places.put_of_resource(encoder, &resource.attributes);
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
    fn span(&mut self, places: &mut AttributePlaces<'a>, span: &'a Span, previous_ns: u64) {
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
        places.put(self, &span.attributes);
        self.number(span.events.len() as u64);
        for event in &span.events {
            self.signed(event.at_ns.wrapping_sub(span.start_ns) as i64);
            self.text(&event.name);
            places.put_beside(self, &event.attributes);
        }
        self.number(span.links.len() as u64);
        for link in &span.links {
            self.out.extend_from_slice(&link.trace_id);
            self.out.extend_from_slice(&link.span_id);
            places.put_beside(self, &link.attributes);
        }
    }

    /// Name, type and value.
    fn attribute(&mut self, (name, value): &'a Attribute, texts: &mut Ascent) {
        let name = texts.written(self.place_of(name));
        self.number(name);
        match value {
            AttributeValue::String(text) => {
                self.out.push(0);
                let text = texts.written(self.place_of(text));
                self.number(text);
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
                let text = texts.written(self.place_of(text));
                self.number(text);
            }
        }
    }

    /// A text, by its place in the table.
    pub(crate) fn text(&mut self, text: &'a str) {
        let place = self.place_of(text);
        self.number(place);
    }

    /// The place of a text in the table.
    fn place_of(&mut self, text: &'a str) -> u64 {
        // Most texts are shared, and known by where they lie without being read.
        let address = (text.as_ptr(), text.len());
        if let Some(place) = self.places.get(&address) {
            return *place;
        }
        let next = self.texts.len() as u64;
        let place = *self.known.entry(text).or_insert(next);
        if place == next {
            self.texts.push(text);
        }
        self.places.insert(address, place);
        place
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
