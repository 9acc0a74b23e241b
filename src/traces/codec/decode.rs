//! Reads stored batches: of all spans or of some traces only.
//!
//! In: bytes as `codec` wrote them, or damaged ones. Out: spans, or why not. Pure. Invariant: no bytes make it panic, and
//! none make it reserve more memory than they can fill.

use std::io::Read;
use std::sync::Arc;

use super::{HAS_PARENT, KINDS, MAGIC, STATUSES};
use crate::model::Span;
use crate::model::span::{AttributeValue, Attributes, Resource, SpanEvent, SpanLink, TraceId};

/// Largest batch after decompression.
const DECODED_LIMIT_BYTES: u64 = 256 << 20;

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

/// Reads the spans of a stored batch, in the order they were received.
///
/// # Errors
/// When the bytes are not a batch, or are damaged.
pub fn decode_batch(bytes: &[u8]) -> Result<Vec<Span>, BatchError> {
    decode_traces(bytes, |_| true)
}

/// The same of the wanted traces only; the spans of others cost little more than their decompression.
///
/// # Errors
/// When the bytes are not a batch, or are damaged.
pub fn decode_traces(bytes: &[u8], wanted: impl Fn(&TraceId) -> bool) -> Result<Vec<Span>, BatchError> {
    let plain = unpack(bytes, MAGIC)?;
    let mut reader = Reader::begin(&plain)?;
    let mut resources = StoredResources::begin(&mut reader)?;
    let count = reader.count(Reader::SPAN_BYTES)?;
    let mut spans = Vec::new();
    let mut previous_ns = 0;
    for _ in 0..count {
        let (start_ns, span) = reader.span(&mut resources, previous_ns, &wanted)?;
        previous_ns = start_ns;
        spans.extend(span);
    }
    Ok(spans)
}

/// The decompressed bytes of what [`super::Encoder::pack`] made.
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

/// Reads what [`super::Encoder`] wrote.
pub(crate) struct Reader<'a> {
    plain: &'a [u8],
    at: usize,
    texts: Vec<StoredText>,
}

/// A text of the table: where it stands, and the text once it was read.
struct StoredText {
    at: usize,
    length: usize,
    read: Option<Arc<str>>,
}

/// The resources of a batch: where each stands, and the resource once it was read.
struct StoredResources(Vec<(usize, Option<Arc<Resource>>)>);

impl StoredResources {
    /// Finds them; the reader stands behind them then.
    fn begin(reader: &mut Reader<'_>) -> Result<Self, BatchError> {
        let count = reader.count(1)?;
        let mut places = Vec::with_capacity(count);
        for _ in 0..count {
            places.push((reader.at, None));
            reader.skip_attributes()?;
        }
        Ok(Self(places))
    }

    fn get(&mut self, index: u64, reader: &mut Reader<'_>) -> Result<Arc<Resource>, BatchError> {
        let place = usize::try_from(index).ok().and_then(|index| self.0.get_mut(index));
        let (at, read) = place.ok_or(reader.damaged("a resource of this batch"))?;
        if let Some(resource) = read {
            return Ok(Arc::clone(resource));
        }
        let behind = std::mem::replace(&mut reader.at, *at);
        let resource = Arc::new(Resource { attributes: reader.attributes()? });
        reader.at = behind;
        Ok(Arc::clone(read.insert(resource)))
    }
}

impl<'a> Reader<'a> {
    /// Finds the texts; what follows them is what the writer put there.
    pub(crate) fn begin(plain: &'a [u8]) -> Result<Self, BatchError> {
        let mut reader = Self { plain, at: 0, texts: Vec::new() };
        let texts = reader.count(1)?;
        for _ in 0..texts {
            let length = reader.count(1)?;
            reader.texts.push(StoredText { at: reader.at, length, read: None });
            reader.at += length;
        }
        Ok(reader)
    }
}

impl Reader<'_> {
    /// The shortest span: resource, flags, ids, four texts, two times, three counts.
    const SPAN_BYTES: usize = 1 + 1 + 24 + 4 + 2 + 3;

    /// The start of the next span, and the span when its trace is wanted.
    fn span(
        &mut self,
        resources: &mut StoredResources,
        previous_ns: u64,
        wanted: impl Fn(&TraceId) -> bool,
    ) -> Result<(u64, Option<Span>), BatchError> {
        let resource = self.number()?;
        let flags = self.take::<1>()?[0];
        let (trace_id, span_id) = (self.take()?, self.take()?);
        let parent_id = if flags & HAS_PARENT == 0 { None } else { Some(self.take()?) };
        if !wanted(&trace_id) {
            return Ok((self.skip_rest(previous_ns)?, None));
        }
        let resource = resources.get(resource, self)?;
        let kind = *KINDS.get(usize::from(flags & 7)).ok_or(self.damaged("a span kind"))?;
        let status = *STATUSES.get(usize::from(flags >> 3 & 3)).ok_or(self.damaged("a status"))?;
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
        let span = Span {
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
        };
        Ok((start_ns, Some(span)))
    }

    /// What follows the ids of a span; gives its start.
    fn skip_rest(&mut self, previous_ns: u64) -> Result<u64, BatchError> {
        for _ in 0..4 {
            self.number()?;
        }
        let start_ns = previous_ns.wrapping_add(self.signed()? as u64);
        self.number()?;
        self.skip_attributes()?;
        for _ in 0..self.count(3)? {
            self.number()?;
            self.number()?;
            self.skip_attributes()?;
        }
        for _ in 0..self.count(25)? {
            self.take::<24>()?;
            self.skip_attributes()?;
        }
        Ok(start_ns)
    }

    fn skip_attributes(&mut self) -> Result<(), BatchError> {
        for _ in 0..self.count(2)? {
            self.number()?;
            match self.take::<1>()?[0] {
                0 | 3 | 5 => _ = self.number()?,
                1 | 2 => {}
                4 => _ = self.take::<8>()?,
                _ => return Err(self.damaged("an attribute type")),
            }
        }
        Ok(())
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
        let count = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        let most = (self.plain.len() - self.at) / item_bytes;
        if count > most { Err(self.damaged("a count that fits the rest")) } else { Ok(count) }
    }

    /// A text of the table.
    pub(crate) fn text(&mut self) -> Result<Arc<str>, BatchError> {
        let index = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        let Some(text) = self.texts.get_mut(index) else { return Err(self.damaged("a text of this batch")) };
        if let Some(read) = &text.read {
            return Ok(Arc::clone(read));
        }
        let (at, bytes) = (text.at, &self.plain[text.at..text.at + text.length]);
        let utf8 = std::str::from_utf8(bytes).map_err(|_| BatchError::Damaged { at, what: "text in UTF-8" })?;
        Ok(Arc::clone(text.read.insert(Arc::from(utf8))))
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
