//! Walks protobuf in place, so that samples and spans are made from the bytes of a request without a decoded form between;
//! and appends fields of messages that are sent.
//!
//! In: a message. Out: its fields, texts pointing into it. A message of two bytes takes hundreds when it is decoded: a
//! request decoded whole could hold a hundred times its size, and most of the time of decoding is spent on allocating it.
//! Pure. Invariant: reading allocates nothing.

use prost::DecodeError;
use prost::encoding::{
    DecodeContext, WireType, check_wire_type, decode_key, decode_varint, encode_key, encode_varint, skip_field,
};

/// The value of a field, as far as OTLP needs them.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    /// Texts, bytes and messages.
    Bytes(&'a [u8]),
    /// Whole numbers, enums and booleans.
    Varint(u64),
    /// `fixed64` and doubles.
    Fixed64(u64),
    /// Kinds that no field of a trace request has.
    Other,
}

impl<'a> Value<'a> {
    /// The bytes.
    ///
    /// # Errors
    /// When the field is of another kind.
    pub fn bytes(self) -> Result<&'a [u8], DecodeError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            other => Err(wrong_kind(WireType::LengthDelimited, other)),
        }
    }

    /// The number.
    ///
    /// # Errors
    /// When the field is of another kind.
    pub fn varint(self) -> Result<u64, DecodeError> {
        match self {
            Self::Varint(number) => Ok(number),
            other => Err(wrong_kind(WireType::Varint, other)),
        }
    }

    /// The 64 bits.
    ///
    /// # Errors
    /// When the field is of another kind.
    pub fn fixed64(self) -> Result<u64, DecodeError> {
        match self {
            Self::Fixed64(bits) => Ok(bits),
            other => Err(wrong_kind(WireType::SixtyFourBit, other)),
        }
    }

    fn wire_type(self) -> WireType {
        match self {
            Self::Bytes(_) => WireType::LengthDelimited,
            Self::Varint(_) => WireType::Varint,
            Self::Fixed64(_) => WireType::SixtyFourBit,
            Self::Other => WireType::ThirtyTwoBit,
        }
    }
}

/// prost's own error for it. The kinds differ whenever this is called.
fn wrong_kind(expected: WireType, found: Value<'_>) -> DecodeError {
    check_wire_type(expected, found.wire_type()).expect_err("invariant: the kinds differ")
}

/// Number and value of each field of the message `rest`; ends at the first error.
pub fn fields(mut rest: &[u8]) -> impl Iterator<Item = Result<(u32, Value<'_>), DecodeError>> {
    std::iter::from_fn(move || {
        let field = take_field(&mut rest).transpose()?;
        if field.is_err() {
            rest = &[];
        }
        Some(field)
    })
}

/// Takes the first field off the message `rest`; `None` at its end.
///
/// # Errors
/// When there is no field at its beginning.
#[inline]
pub fn take_field<'a>(rest: &mut &'a [u8]) -> Result<Option<(u32, Value<'a>)>, DecodeError> {
    if rest.is_empty() { Ok(None) } else { next_field(rest).map(Some) }
}

/// The bytes of each submessage in field `wanted` of the message; ends at the first error.
pub fn messages(message: &[u8], wanted: u32) -> impl Iterator<Item = Result<&[u8], DecodeError>> {
    fields(message).filter_map(move |field| match field {
        Ok((number, value)) if number == wanted => Some(value.bytes()),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    })
}

/// Bits of a key of one byte: its kind, and that there is a second byte.
const KIND_OF_SHORT_KEY: u8 = 0x87;

#[inline]
fn next_field<'a>(rest: &mut &'a [u8]) -> Result<(u32, Value<'a>), DecodeError> {
    // Nearly every field of a span: key and length of one byte each.
    if let [key, length, after @ ..] = *rest
        && key & KIND_OF_SHORT_KEY == WireType::LengthDelimited as u8
        && *key > 7
        && *length < 0x80
        && let Some((bytes, after)) = after.split_at_checked(usize::from(*length))
    {
        *rest = after;
        return Ok((u32::from(key >> 3), Value::Bytes(bytes)));
    }
    if let [key, after @ ..] = *rest
        && key & KIND_OF_SHORT_KEY == WireType::SixtyFourBit as u8
        && *key > 7
        && let Some((bits, after)) = after.split_first_chunk()
    {
        *rest = after;
        return Ok((u32::from(key >> 3), Value::Fixed64(u64::from_le_bytes(*bits))));
    }
    any_field(rest)
}

fn any_field<'a>(rest: &mut &'a [u8]) -> Result<(u32, Value<'a>), DecodeError> {
    let (number, wire_type) = decode_key(rest)?;
    let mut payload = *rest;
    let value = match wire_type {
        WireType::Varint => Value::Varint(decode_varint(rest)?),
        _ => {
            skip_field(wire_type, number, rest, DecodeContext::default())?;
            match wire_type {
                WireType::LengthDelimited => {
                    decode_varint(&mut payload)?;
                    // What was skipped is the length and then the bytes.
                    Value::Bytes(&payload[..payload.len() - rest.len()])
                }
                WireType::SixtyFourBit => Value::Fixed64(payload.first_chunk().copied().map_or(0, u64::from_le_bytes)),
                _ => Value::Other,
            }
        }
    };
    Ok((number, value))
}

/// Appends the field `number`: a text, bytes or a message.
pub fn put_bytes(number: u32, body: &[u8], out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(body.len() as u64, out);
    out.extend_from_slice(body);
}

/// Appends the field `number`: a whole number, an enum or a boolean; zero too.
pub fn put_varint(number: u32, value: u64, out: &mut Vec<u8>) {
    encode_key(number, WireType::Varint, out);
    encode_varint(value, out);
}

/// Appends the field `number`: a double, its bits as they are.
pub fn put_double(number: u32, value: f64, out: &mut Vec<u8>) {
    encode_key(number, WireType::SixtyFourBit, out);
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}
