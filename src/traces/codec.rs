//! The stored form of a batch of spans: texts and resources once each, numbers as varints, then zstd.
//!
//! In: spans, or bytes. Out: bytes, or spans equal to those encoded. Pure. Invariant: decoding never panics and never
//! takes more memory than a small multiple of [`DECODED_LIMIT_BYTES`], whatever the bytes.
//!
//! Layout after the magic and zstd: text count, texts (length, bytes); resource count, resources (attributes); span
//! count, spans. A change of layout gets a new magic; old batches stay readable until their retention ends.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

use crate::model::Span;
use crate::model::span::{AttributeValue, Attributes, Resource, SpanEvent, SpanKind, SpanLink, SpanStatus};

const MAGIC: &[u8; 4] = b"MSB1";
/// Largest batch after decompression.
const DECODED_LIMIT_BYTES: u64 = 256 << 20;
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

/// Why a stored batch could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// Written by something else, or by a newer meshscope.
    #[error("not a batch of a known version (the first bytes are {found:02x?})")]
    Magic {
        /// What stands there.
        found: Vec<u8>,
    },
    /// The compressed bytes are damaged.
    #[error("batch cannot be decompressed")]
    Compression(#[source] std::io::Error),
    /// Larger than any batch written.
    #[error("batch is larger than {DECODED_LIMIT_BYTES} bytes decompressed")]
    TooLarge,
    /// The decompressed bytes are damaged.
    #[error("batch is damaged at byte {at}: {what}")]
    Damaged {
        /// Offset in the decompressed bytes.
        at: usize,
        /// What was expected.
        what: &'static str,
    },
}

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

/// Reads the spans of a stored batch, in the order they were received.
///
/// # Errors
/// When the bytes are not a batch, or are damaged.
pub fn decode_batch(bytes: &[u8]) -> Result<Vec<Span>, BatchError> {
    let plain = unpack(bytes, MAGIC)?;
    let mut reader = Reader::begin(&plain)?;
    let resources = (0..reader.count(1)?).map(|_| Ok(Arc::new(Resource { attributes: reader.attributes()? })));
    let resources: Vec<Arc<Resource>> = resources.collect::<Result<_, BatchError>>()?;
    let count = reader.count(Reader::SPAN_BYTES)?;
    let mut spans = Vec::with_capacity(count);
    let mut previous_ns = 0;
    for _ in 0..count {
        let span = reader.span(&resources, previous_ns)?;
        previous_ns = span.start_ns;
        spans.push(span);
    }
    Ok(spans)
}

/// The decompressed bytes of what [`Encoder::pack`] made.
pub(crate) fn unpack(bytes: &[u8], magic: &[u8; 4]) -> Result<Vec<u8>, BatchError> {
    let compressed = bytes.strip_prefix(magic);
    let unknown = || BatchError::Magic { found: bytes[..bytes.len().min(4)].to_vec() };
    let decoder =
        zstd::stream::read::Decoder::with_buffer(compressed.ok_or_else(unknown)?).map_err(BatchError::Compression)?;
    let mut plain = Vec::new();
    decoder.take(DECODED_LIMIT_BYTES + 1).read_to_end(&mut plain).map_err(BatchError::Compression)?;
    if plain.len() as u64 > DECODED_LIMIT_BYTES {
        return Err(BatchError::TooLarge);
    }
    Ok(plain)
}

// === impl encoding ===

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

// === impl decoding ===

/// Reads what [`Encoder`] wrote.
pub(crate) struct Reader<'a> {
    plain: &'a [u8],
    at: usize,
    texts: Vec<Arc<str>>,
}

impl<'a> Reader<'a> {
    /// Reads the table of texts; what follows is what the writer put there.
    pub(crate) fn begin(plain: &'a [u8]) -> Result<Self, BatchError> {
        let mut reader = Self { plain, at: 0, texts: Vec::new() };
        let texts = reader.count(1)?;
        for _ in 0..texts {
            let text = reader.new_text()?;
            reader.texts.push(text);
        }
        Ok(reader)
    }
}

impl Reader<'_> {
    /// The shortest span: resource, flags, ids, four texts, two times, three counts.
    const SPAN_BYTES: usize = 1 + 1 + 24 + 4 + 2 + 3;

    fn span(&mut self, resources: &[Arc<Resource>], previous_ns: u64) -> Result<Span, BatchError> {
        let resource = self.number()?;
        let resource = resources.get(usize::try_from(resource).unwrap_or(usize::MAX));
        let resource = Arc::clone(resource.ok_or(self.damaged("a resource of this batch"))?);
        let flags = self.take::<1>()?[0];
        let kind = *KINDS.get(usize::from(flags & 7)).ok_or(self.damaged("a span kind"))?;
        let status = *STATUSES.get(usize::from(flags >> 3 & 3)).ok_or(self.damaged("a status"))?;
        let (trace_id, span_id) = (self.take()?, self.take()?);
        let parent_id = if flags & HAS_PARENT == 0 { None } else { Some(self.take()?) };
        let (service, name, scope, status_message) = (self.text()?, self.text()?, self.text()?, self.text()?);
        let start_ns = previous_ns.wrapping_add(self.signed()? as u64);
        let duration_ns = self.number()?;
        let attributes = self.attributes()?;
        let events = (0..self.count(3)?).map(|_| {
            let at_ns = start_ns.wrapping_add(self.signed()? as u64);
            Ok(SpanEvent { at_ns, name: self.text()?, attributes: self.attributes()? })
        });
        let events = events.collect::<Result<_, BatchError>>()?;
        let links = (0..self.count(25)?)
            .map(|_| Ok(SpanLink { trace_id: self.take()?, span_id: self.take()?, attributes: self.attributes()? }));
        let links = links.collect::<Result<_, BatchError>>()?;
        Ok(Span {
            trace_id,
            span_id,
            parent_id,
            kind,
            service,
            name,
            start_ns,
            duration_ns,
            status,
            status_message,
            attributes,
            resource,
            scope,
            events,
            links,
        })
    }

    fn attributes(&mut self) -> Result<Attributes, BatchError> {
        let count = self.count(2)?;
        let mut attributes = Attributes::with_capacity(count);
        for _ in 0..count {
            let name = self.text()?;
            let value = match self.take::<1>()?[0] {
                0 => AttributeValue::String(self.text()?),
                1 => AttributeValue::Bool(false),
                2 => AttributeValue::Bool(true),
                3 => AttributeValue::Int(self.signed()?),
                4 => AttributeValue::Double(f64::from_bits(u64::from_le_bytes(self.take()?))),
                5 => AttributeValue::Json(self.text()?),
                _ => return Err(self.damaged("an attribute type")),
            };
            attributes.push((name, value));
        }
        Ok(attributes)
    }

    /// A count of things of at least `item_bytes` each: more than the rest can hold is damage, not a reason to reserve.
    pub(crate) fn count(&mut self, item_bytes: usize) -> Result<usize, BatchError> {
        let most = (self.plain.len() - self.at) / item_bytes;
        let count = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        if count > most { Err(self.damaged("a count that fits the rest")) } else { Ok(count) }
    }

    /// A text of the table.
    pub(crate) fn text(&mut self) -> Result<Arc<str>, BatchError> {
        let index = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        self.texts.get(index).map(Arc::clone).ok_or(self.damaged("a text of this batch"))
    }

    fn new_text(&mut self) -> Result<Arc<str>, BatchError> {
        let length = self.count(1)?;
        let bytes = self.plain.get(self.at..self.at + length).ok_or(self.damaged("a text"))?;
        let text = std::str::from_utf8(bytes).map_err(|_| self.damaged("text in UTF-8"))?;
        self.at += length;
        Ok(Arc::from(text))
    }

    /// A number.
    pub(crate) fn number(&mut self) -> Result<u64, BatchError> {
        let (mut number, mut shift) = (0_u64, 0);
        loop {
            let byte = self.take::<1>()?[0];
            if shift > 63 {
                return Err(self.damaged("a number of 64 bits"));
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
            shift += 7;
        }
    }

    /// A number that may be negative.
    pub(crate) fn signed(&mut self) -> Result<i64, BatchError> {
        let number = self.number()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    /// So many bytes.
    pub(crate) fn take<const N: usize>(&mut self) -> Result<[u8; N], BatchError> {
        let bytes = self.plain.get(self.at..).and_then(|rest| rest.first_chunk::<N>()).copied();
        let bytes = bytes.ok_or(self.damaged("more bytes"))?;
        self.at += N;
        Ok(bytes)
    }

    /// The error that something else was expected here.
    pub(crate) fn damaged(&self, what: &'static str) -> BatchError {
        BatchError::Damaged { at: self.at, what }
    }
}
