//! Walks protobuf without decoding it, so that a request is decoded span by span.
//!
//! A message of two bytes takes hundreds when it is decoded: a request decoded whole could hold a hundred times its size.
//! Pure. Invariant: allocates nothing.

use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType, check_wire_type, decode_key, decode_varint, skip_field};

/// The bytes of each submessage in field `wanted` of the message `rest`; ends at the first error.
pub(super) fn messages(mut rest: &[u8], wanted: u32) -> impl Iterator<Item = Result<&[u8], DecodeError>> {
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            match next_field(&mut rest, wanted) {
                Ok(None) => {}
                Ok(Some(message)) => return Some(Ok(message)),
                Err(error) => {
                    rest = &[];
                    return Some(Err(error));
                }
            }
        }
        None
    })
}

fn next_field<'a>(rest: &mut &'a [u8], wanted: u32) -> Result<Option<&'a [u8]>, DecodeError> {
    let (field, wire_type) = decode_key(rest)?;
    let mut payload = *rest;
    skip_field(wire_type, field, rest, DecodeContext::default())?;
    if field != wanted {
        return Ok(None);
    }
    check_wire_type(WireType::LengthDelimited, wire_type)?;
    decode_varint(&mut payload)?;
    // What was skipped is the length and then the message.
    Ok(Some(&payload[..payload.len() - rest.len()]))
}
