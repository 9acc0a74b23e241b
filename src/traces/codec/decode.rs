//! Reads stored batches: of all spans or of some traces only.
//!
//! In: bytes as `codec` wrote them, or damaged ones. Out: spans, or why not. Pure. Invariant: no bytes make it panic, and
//! none make it reserve more memory than they can fill.

use std::io::Read;
use std::sync::Arc;

use super::{Ascent, HAS_PARENT, KINDS, MAGIC, MAGIC_WHOLE, STATUSES};
use crate::model::Span;
use crate::model::attributes::{Attribute, AttributeTable, ListRange, wire_bytes};
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
    let are_whole = bytes.starts_with(MAGIC_WHOLE);
    let plain = unpack(bytes, if are_whole { MAGIC_WHOLE } else { MAGIC })?;
    let mut reader = Reader::begin(&plain)?;
    let attributes = StoredAttributes::begin(&mut reader, are_whole)?;
    let mut stored = Stored::begin(&mut reader, attributes)?;
    let count = reader.count(Reader::SPAN_BYTES)?;
    let (mut spans, mut lists) = (Vec::new(), Vec::new());
    let mut previous_ns = 0;
    for _ in 0..count {
        let (start_ns, span) = reader.span(&mut stored, previous_ns, &wanted)?;
        previous_ns = start_ns;
        if let Some((span, list)) = span {
            spans.push(span);
            lists.push(list);
        }
    }
    for (span, attributes) in spans.iter_mut().zip(stored.attributes.table.into_lists(lists)) {
        span.attributes = attributes;
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

/// What spans of a batch have in common.
struct Stored {
    attributes: StoredAttributes,
    /// Where each resource stands, and the resource once it was read.
    resources: Vec<(usize, Option<Arc<Resource>>)>,
}

impl Stored {
    /// Finds the resources; the reader stands behind them then.
    fn begin(reader: &mut Reader<'_>, mut attributes: StoredAttributes) -> Result<Self, BatchError> {
        let count = reader.count(1)?;
        let mut resources = Vec::with_capacity(count);
        for _ in 0..count {
            resources.push((reader.at, None));
            attributes.skip_of_resource(reader)?;
        }
        Ok(Self { attributes, resources })
    }

    fn resource(&mut self, index: u64, reader: &mut Reader<'_>) -> Result<Arc<Resource>, BatchError> {
        let place = usize::try_from(index).ok().and_then(|index| self.resources.get_mut(index));
        let (at, read) = place.ok_or(reader.damaged("a resource of this batch"))?;
        if let Some(resource) = read {
            return Ok(Arc::clone(resource));
        }
        let behind = std::mem::replace(&mut reader.at, *at);
        let resource = Arc::new(Resource { attributes: self.attributes.of_resource(reader)? });
        reader.at = behind;
        Ok(Arc::clone(read.insert(resource)))
    }
}

/// The attributes of a batch.
struct StoredAttributes {
    /// Lists have their attributes whole, not their places among `stored`.
    are_whole: bool,
    stored: Vec<StoredAttribute>,
    /// Of the lists of spans, their events and links.
    ascent: Ascent,
    table: AttributeTable,
}

struct StoredAttribute {
    /// Place of the name among the texts.
    name: u64,
    value: StoredValue,
    /// Its place in the table, once it was made.
    made: Option<u32>,
}

enum StoredValue {
    /// Place of the text.
    String(u64),
    Bool(bool),
    Int(i64),
    Double(f64),
    /// Place of the text.
    Json(u64),
}

impl StoredAttributes {
    /// Reads what they are; the reader stands behind them then.
    fn begin(reader: &mut Reader<'_>, are_whole: bool) -> Result<Self, BatchError> {
        let count = if are_whole { 0 } else { reader.count(2)? };
        let (mut stored, mut texts) = (Vec::new(), Ascent::default());
        for _ in 0..count {
            stored.push(reader.attribute(|written| texts.place(written))?);
        }
        Ok(Self { are_whole, stored, ascent: Ascent::default(), table: AttributeTable::default() })
    }

    /// The places in the table of the next list of a span.
    fn list(&mut self, reader: &mut Reader<'_>) -> Result<ListRange, BatchError> {
        let mut list = self.table.begin_list();
        for _ in 0..self.count(reader)? {
            let place = self.next(reader)?;
            let bytes = u32::try_from(wire_bytes(self.table.get(place))).unwrap_or(u32::MAX);
            self.table.put(&mut list, place, bytes);
        }
        Ok(list)
    }

    /// The next list of an event or a link.
    fn own(&mut self, reader: &mut Reader<'_>) -> Result<Attributes, BatchError> {
        (0..self.count(reader)?).map(|_| self.next(reader).map(|place| self.table.get(place).clone())).collect()
    }

    /// The next list of a resource.
    fn of_resource(&mut self, reader: &mut Reader<'_>) -> Result<Attributes, BatchError> {
        let ascent = std::mem::take(&mut self.ascent);
        let attributes = self.own(reader);
        self.ascent = ascent;
        attributes
    }

    /// Passes a list of a span, an event or a link.
    fn skip(&mut self, reader: &mut Reader<'_>) -> Result<(), BatchError> {
        for _ in 0..self.count(reader)? {
            if self.are_whole {
                reader.attribute(|place| place)?;
            } else {
                self.ascent.place(reader.number()?);
            }
        }
        Ok(())
    }

    fn skip_of_resource(&mut self, reader: &mut Reader<'_>) -> Result<(), BatchError> {
        self.skip(reader)?;
        self.ascent = Ascent::default();
        Ok(())
    }

    fn count(&self, reader: &mut Reader<'_>) -> Result<usize, BatchError> {
        reader.count(if self.are_whole { 2 } else { 1 })
    }

    /// The place in the table of the next attribute of a list.
    fn next(&mut self, reader: &mut Reader<'_>) -> Result<u32, BatchError> {
        if self.are_whole {
            let stored = reader.attribute(|place| place)?;
            return Ok(self.table.add(reader.made(&stored)?));
        }
        let index = usize::try_from(self.ascent.place(reader.number()?)).unwrap_or(usize::MAX);
        let Some(stored) = self.stored.get_mut(index) else { return Err(reader.damaged("an attribute of this batch")) };
        if let Some(place) = stored.made {
            return Ok(place);
        }
        let place = self.table.add(reader.made(stored)?);
        Ok(*stored.made.insert(place))
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

    /// The start of the next span; the span without its attributes and the list of these, when its trace is wanted.
    fn span(
        &mut self,
        stored: &mut Stored,
        previous_ns: u64,
        wanted: impl Fn(&TraceId) -> bool,
    ) -> Result<(u64, Option<(Span, ListRange)>), BatchError> {
        let resource = self.number()?;
        let flags = self.take::<1>()?[0];
        let (trace_id, span_id) = (self.take()?, self.take()?);
        let parent_id = if flags & HAS_PARENT == 0 { None } else { Some(self.take()?) };
        if !wanted(&trace_id) {
            return Ok((self.skip_rest(&mut stored.attributes, previous_ns)?, None));
        }
        let resource = stored.resource(resource, self)?;
        let kind = *KINDS.get(usize::from(flags & 7)).ok_or(self.damaged("a span kind"))?;
        let status = *STATUSES.get(usize::from(flags >> 3 & 3)).ok_or(self.damaged("a status"))?;
        let (service, name, scope, status_message) = (self.text()?, self.text()?, self.text()?, self.text()?);
        let start_ns = previous_ns.wrapping_add(self.signed()? as u64);
        let duration_ns = self.number()?;
        let list = stored.attributes.list(self)?;
        let events = (0..self.count(3)?).map(|_| {
            let at_ns = start_ns.wrapping_add(self.signed()? as u64);
            Ok(SpanEvent { at_ns, name: self.text()?, attributes: stored.attributes.own(self)? })
        });
        let events = events.collect::<Result<_, BatchError>>()?;
        let links = (0..self.count(25)?).map(|_| {
            let (trace_id, span_id) = (self.take()?, self.take()?);
            Ok(SpanLink { trace_id, span_id, attributes: stored.attributes.own(self)? })
        });
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
            attributes: Attributes::new(),
            resource,
            scope,
            events,
            links,
        };
        Ok((start_ns, Some((span, list))))
    }

    /// What follows the ids of a span; gives its start.
    fn skip_rest(&mut self, attributes: &mut StoredAttributes, previous_ns: u64) -> Result<u64, BatchError> {
        for _ in 0..4 {
            self.number()?;
        }
        let start_ns = previous_ns.wrapping_add(self.signed()? as u64);
        self.number()?;
        attributes.skip(self)?;
        for _ in 0..self.count(3)? {
            self.number()?;
            self.number()?;
            attributes.skip(self)?;
        }
        for _ in 0..self.count(25)? {
            self.take::<24>()?;
            attributes.skip(self)?;
        }
        Ok(start_ns)
    }

    /// An attribute that stands here; `place_of` tells the place of a text from the number that is written.
    fn attribute(&mut self, mut place_of: impl FnMut(u64) -> u64) -> Result<StoredAttribute, BatchError> {
        let name = place_of(self.number()?);
        let value = match self.take::<1>()?[0] {
            0 => StoredValue::String(place_of(self.number()?)),
            1 => StoredValue::Bool(false),
            2 => StoredValue::Bool(true),
            3 => StoredValue::Int(self.signed()?),
            4 => StoredValue::Double(f64::from_bits(u64::from_le_bytes(self.take()?))),
            5 => StoredValue::Json(place_of(self.number()?)),
            _ => return Err(self.damaged("an attribute type")),
        };
        Ok(StoredAttribute { name, value, made: None })
    }

    /// The attribute with its texts.
    fn made(&mut self, stored: &StoredAttribute) -> Result<Attribute, BatchError> {
        let value = match stored.value {
            StoredValue::String(place) => AttributeValue::String(self.text_at(place)?),
            StoredValue::Bool(value) => AttributeValue::Bool(value),
            StoredValue::Int(value) => AttributeValue::Int(value),
            StoredValue::Double(value) => AttributeValue::Double(value),
            StoredValue::Json(place) => AttributeValue::Json(self.text_at(place)?),
        };
        Ok((self.text_at(stored.name)?, value))
    }

    /// A count of things of at least `item_bytes` each: more than the rest can hold is damage, not a reason to reserve.
    pub(crate) fn count(&mut self, item_bytes: usize) -> Result<usize, BatchError> {
        let count = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        let most = (self.plain.len() - self.at) / item_bytes;
        if count > most { Err(self.damaged("a count that fits the rest")) } else { Ok(count) }
    }

    /// A text of the table.
    pub(crate) fn text(&mut self) -> Result<Arc<str>, BatchError> {
        let place = self.number()?;
        self.text_at(place)
    }

    fn text_at(&mut self, place: u64) -> Result<Arc<str>, BatchError> {
        let index = usize::try_from(place).unwrap_or(usize::MAX);
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
