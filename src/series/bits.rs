//! Integers as bytes and as bit fields: what every encoding of this module is made of.
//!
//! In: numbers. Out: bytes, and back. Invariant: reading never panics and never reads past the end.

/// The bytes end early, or hold a number that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes end early or hold an impossible number")]
pub(super) struct Malformed;

/// Appends `value` as a little-endian base-128 varint.
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends `value` zigzagged, so that small negative numbers are short too.
pub(super) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, zigzag(value));
}

/// Appends the length and the bytes of `text`.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// How many bits `value` needs.
pub(super) const fn bit_width(value: u64) -> u32 {
    u64::BITS - value.leading_zeros()
}

/// How many bytes `count` fields of `width` bits take.
pub(super) const fn packed_len(count: usize, width: u32) -> usize {
    (count * width as usize).div_ceil(8)
}

/// Appends each value in `width` bits, lowest bit first. Higher bits of the values must be zero.
pub(super) fn pack(values: impl Iterator<Item = u64>, width: u32, out: &mut Vec<u8>) {
    if width == 0 {
        return;
    }
    let (mut pending, mut filled) = (0_u128, 0_u32);
    for value in values {
        pending |= u128::from(value) << filled;
        filled += width;
        while filled >= 8 {
            out.push(pending as u8);
            pending >>= 8;
            filled -= 8;
        }
    }
    if filled > 0 {
        out.push(pending as u8);
    }
}

/// Reads field `i` of `width` bits (at most 64) of what [`pack`] wrote.
pub(super) fn unpack(bytes: &[u8], width: u32, i: usize) -> u64 {
    if width == 0 {
        return 0;
    }
    let first_bit = i * width as usize;
    let (at, shift) = (first_bit / 8, (first_bit % 8) as u32);
    let mask = u64::MAX >> (64 - width);
    if shift + width <= 64
        && let Some(word) = bytes.get(at..).and_then(|tail| tail.first_chunk::<8>())
    {
        return (u64::from_le_bytes(*word) >> shift) & mask;
    }
    let mut word = [0_u8; 16];
    let tail = &bytes[at.min(bytes.len())..];
    let length = tail.len().min(16);
    word[..length].copy_from_slice(&tail[..length]);
    (u128::from_le_bytes(word) >> shift) as u64 & mask
}

/// Reads from the front of a byte slice.
#[derive(Clone)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from the start.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether all is read.
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What is not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next byte.
    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        let (&first, rest) = self.rest.split_first().ok_or(Malformed)?;
        self.rest = rest;
        Ok(first)
    }

    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next eight bytes as a little-endian number.
    pub(super) fn word(&mut self) -> Result<u64, Malformed> {
        let (word, rest) = self.rest.split_first_chunk::<8>().ok_or(Malformed)?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*word))
    }

    /// A number that [`put_varint`] wrote.
    pub(super) fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    /// A number that [`put_signed`] wrote.
    pub(super) fn signed(&mut self) -> Result<i64, Malformed> {
        self.varint().map(unzigzag)
    }

    /// A varint that must fit a count of things, at most `limit`.
    pub(super) fn count(&mut self, limit: usize) -> Result<usize, Malformed> {
        let count = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
        if count > limit { Err(Malformed) } else { Ok(count) }
    }

    /// A text that [`put_text`] wrote.
    pub(super) fn text(&mut self) -> Result<&'a str, Malformed> {
        let length = self.count(self.rest.len())?;
        std::str::from_utf8(self.take(length)?).map_err(|_| Malformed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(unsigned: u64, signed: i64, text in ".{0,40}") {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, unsigned);
            put_signed(&mut bytes, signed);
            put_text(&mut bytes, &text);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.varint(), Ok(unsigned));
            prop_assert_eq!(reader.signed(), Ok(signed));
            prop_assert_eq!(reader.text(), Ok(text.as_str()));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn bit_fields_come_back(width in 0_u32..=64, values in prop::collection::vec(any::<u64>(), 0..40)) {
            let mask = if width == 0 { 0 } else { u64::MAX >> (64 - width) };
            let values: Vec<u64> = values.iter().map(|v| v & mask).collect();
            let mut bytes = Vec::new();
            pack(values.iter().copied(), width, &mut bytes);
            prop_assert_eq!(bytes.len(), packed_len(values.len(), width));
            let back: Vec<u64> = (0..values.len()).map(|i| unpack(&bytes, width, i)).collect();
            prop_assert_eq!(back, values);
        }
    }

    #[test]
    fn short_and_endless_numbers_are_refused() {
        assert_eq!(Reader::new(&[0x80]).varint(), Err(Malformed));
        assert_eq!(Reader::new(&[0xff; 20]).varint(), Err(Malformed));
        assert_eq!(Reader::new(&[5, b'a']).text(), Err(Malformed));
        assert_eq!(Reader::new(&[1, 0xff]).text(), Err(Malformed));
    }
}
