//! Attributes of spans, events, links and resources, from bytes or from their decoded form.
//!
//! Invariant: none has an empty or too long name; those of a span fit its budget, and what is left out or cut is tallied each
//! time it comes, also when what it was read as is only looked up.

use std::borrow::Cow;
use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use prost::Message;

use super::super::counters::Trim;
use super::super::known::ListHash;
use super::super::pairs::Pair;
use super::super::{json, json_scalars};
use super::{DecodeError, Decoder};
use crate::model::attributes::{self, ListRange};
use crate::model::span::{AttributeValue, Attributes};
use crate::wire;

impl<'a> Decoder<'a> {
    /// The attributes of the span that is read. One that came before in this request is only looked up.
    pub(super) fn wire_list(&mut self, budget: &mut usize) -> Result<ListRange, DecodeError> {
        let found = std::mem::take(&mut self.found);
        let (mut list, mut hash_of_list, mut length) = (self.table.begin_list(), ListHash::default(), 0);
        for (at, bytes) in found.iter().copied().enumerate() {
            length += bytes.len();
            if at >= self.limits.attributes_per_span {
                self.fingerprint.add_bytes(bytes);
                continue;
            }
            let pair = match self.pairs.get(at, bytes) {
                Ok(pair) => {
                    hash_of_list.add(u64::from(pair.number));
                    if pair.mended | pair.cut != 0 {
                        self.tally.trim(Trim::Utf8, usize::from(pair.mended));
                        self.tally.trim(Trim::Text, usize::from(pair.cut));
                    }
                    pair
                }
                Err(new) => {
                    hash_of_list.add(new.hash);
                    let pair = self.pair(at, bytes, new.may_repeat)?;
                    self.pairs.insert(new, (at, bytes), pair);
                    pair
                }
            };
            if let Some(place) = pair.place.filter(|_| pair.budget_bytes as usize <= *budget) {
                *budget -= pair.budget_bytes as usize;
                self.table.put(&mut list, place, pair.wire_bytes);
            }
        }
        self.fingerprint.add_list(hash_of_list, length);
        self.tally.trim(Trim::Attributes, found.len() - list.len());
        self.found = found; // keeps its memory for the next span
        Ok(list)
    }

    /// A pair that comes for the first time in this request, at that place of its list.
    fn pair(&mut self, at: usize, bytes: &'a [u8], may_repeat: bool) -> Result<Pair, DecodeError> {
        let before = [Trim::Utf8, Trim::Text].map(|what| self.tally.trimmed(what));
        let (key_bytes, value) = key_and_value(bytes)?;
        let value = self.wire_value(value, may_repeat)?;
        let key = match self.pairs.key(at, key_bytes) {
            Some(key) => Some(Arc::clone(key)),
            None => self.key(at, key_bytes),
        };
        let [mended, cut] = [Trim::Utf8, Trim::Text].map(|what| self.tally.trimmed(what));
        let count = |after: u64, before: u64| u16::try_from(after - before).unwrap_or(u16::MAX);
        let mut pair = Pair { mended: count(mended, before[0]), cut: count(cut, before[1]), ..Pair::default() };
        if let (Some(key), Some(value)) = (key, value) {
            let attribute = (key, value);
            pair.budget_bytes = u32::try_from(attribute.0.len() + value_bytes(&attribute.1)).unwrap_or(u32::MAX);
            pair.wire_bytes = u32::try_from(attributes::wire_bytes(&attribute)).unwrap_or(u32::MAX);
            pair.place = Some(self.table.add(attribute));
        }
        Ok(pair)
    }

    /// The key of these bytes, when it is a usable one.
    fn key(&mut self, at: usize, bytes: &'a [u8]) -> Option<Arc<str>> {
        let text = self.text(bytes);
        let key = Some(&text).filter(|text| !text.is_empty() && text.len() <= self.limits.name_bytes)?;
        let key = self.share(key);
        // What was mended is counted each time.
        if matches!(text, Cow::Borrowed(_)) {
            self.pairs.keep_key(at, bytes, &key);
        }
        Some(key)
    }

    fn wire_pair<'b>(&mut self, bytes: &'b [u8]) -> Result<(Cow<'b, str>, Option<AttributeValue>), DecodeError> {
        let (key, value) = key_and_value(bytes)?;
        let value = self.wire_value(value, true)?;
        Ok((self.text(key), value))
    }

    pub(super) fn wire_attributes(
        &mut self,
        message: &[u8],
        field: u32,
        count: usize,
        budget: &mut usize,
    ) -> Result<Attributes, DecodeError> {
        let mut attributes = Attributes::with_capacity(count.min(self.limits.attributes_per_span));
        let mut seen = 0;
        for pair in wire::messages(message, field) {
            let pair = pair?;
            seen += 1;
            if seen > self.limits.attributes_per_span {
                continue;
            }
            let (key, value) = self.wire_pair(pair)?;
            self.attribute(&mut attributes, &key, value, budget);
        }
        self.tally.trim(Trim::Attributes, seen - attributes.len());
        Ok(attributes)
    }

    /// The value; only a text that may repeat is looked up.
    fn wire_value(&mut self, message: &[u8], may_repeat: bool) -> Result<Option<AttributeValue>, DecodeError> {
        let mut value = Some(AttributeValue::String(Arc::clone(&self.empty)));
        for field in wire::fields(message) {
            value = match field? {
                (1, text) => {
                    let text = self.text(text.bytes()?);
                    Some(AttributeValue::String(self.value_text(&text, may_repeat)))
                }
                (2, number) => Some(AttributeValue::Bool(number.varint()? != 0)),
                (3, number) => Some(AttributeValue::Int(number.varint()? as i64)),
                (4, bits) => Some(AttributeValue::Double(f64::from_bits(bits.fixed64()?))),
                // Lists, maps, bytes and references: rare, so by way of their decoded form. One that cannot be decoded (a
                // text in it is not UTF-8) is left out.
                (5..=8, _) => return Ok(AnyValue::decode(message).ok().and_then(|value| self.value(Some(value)))),
                _ => value,
            };
        }
        Ok(value)
    }

    pub(super) fn attributes(&mut self, pairs: Vec<KeyValue>, budget: &mut usize) -> Attributes {
        let count = pairs.len();
        let mut attributes = Attributes::with_capacity(count.min(self.limits.attributes_per_span));
        for pair in pairs.into_iter().take(self.limits.attributes_per_span) {
            let value = self.value(pair.value);
            self.attribute(&mut attributes, &pair.key, value, budget);
        }
        self.tally.trim(Trim::Attributes, count - attributes.len());
        attributes
    }

    /// Adds an attribute, unless it has no usable name or value or its bytes are beyond the budget.
    fn attribute(&mut self, attributes: &mut Attributes, key: &str, value: Option<AttributeValue>, budget: &mut usize) {
        let Some(value) = value else { return };
        let bytes = key.len() + value_bytes(&value);
        if !key.is_empty() && key.len() <= self.limits.name_bytes && bytes <= *budget {
            *budget -= bytes;
            attributes.push((self.share(key), value));
        }
    }

    /// The value; an empty one is an empty text, as the collector prints it.
    fn value(&mut self, value: Option<AnyValue>) -> Option<AttributeValue> {
        Some(match value.and_then(|value| value.value) {
            None => AttributeValue::String(Arc::clone(&self.empty)),
            Some(Value::StringValue(text)) => {
                AttributeValue::String(self.cut(&text, self.limits.attribute_value_bytes))
            }
            Some(Value::BytesValue(bytes)) => AttributeValue::String(
                self.cut(&json_scalars::base64_encode(&bytes), self.limits.attribute_value_bytes),
            ),
            Some(Value::BoolValue(value)) => AttributeValue::Bool(value),
            Some(Value::IntValue(value)) => AttributeValue::Int(value),
            Some(Value::DoubleValue(value)) => AttributeValue::Double(value),
            // A reference into a dictionary that only the profiles signal has.
            Some(Value::StringValueStrindex(_)) => return None,
            Some(value) => {
                let text = json::from_any(value).to_string();
                // Cut JSON is no JSON: drop it instead.
                if text.len() > self.limits.attribute_value_bytes {
                    return None;
                }
                AttributeValue::Json(text.into())
            }
        })
    }
}

/// The bytes of both: `KeyValue { 1: key, 2: value }`.
fn key_and_value(bytes: &[u8]) -> Result<(&[u8], &[u8]), DecodeError> {
    let (mut key, mut value) = (&[][..], &[][..]);
    for field in wire::fields(bytes) {
        match field? {
            (1, text) => key = text.bytes()?,
            (2, message) => value = message.bytes()?,
            _ => {}
        }
    }
    Ok((key, value))
}

fn value_bytes(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::String(text) | AttributeValue::Json(text) => text.len(),
        AttributeValue::Bool(_) | AttributeValue::Int(_) | AttributeValue::Double(_) => 8,
    }
}
