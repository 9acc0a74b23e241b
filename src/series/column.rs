//! A short run of sample values of one series as bytes.
//!
//! In: bit patterns of `f64` and the value before the run. Out: bytes, and back, bit for bit.
//! Whole numbers (and decimals of up to three places) become differences packed in as many bits as the run needs, less
//! their smallest: a steady counter costs no bits at all. Everything else is the XOR of neighbours, packed likewise.

use super::bits::{Malformed, Reader, bit_width, pack, packed_len, put_signed, unpack};

/// Longest run.
pub(super) const LONGEST_RUN: usize = 64;

/// Header byte of an XOR run; of the others the upper two bits are the decimal places, the lower six the width.
const XOR: u8 = 63;
const WIDTH_BITS: u8 = 0x3f;

/// A whole number below this is exact as `f64`, and so are differences of two as `i64`.
const EXACT_LIMIT: f64 = 9_007_199_254_740_992.0; // 2^53

const POWERS: [f64; 4] = [1.0, 10.0, 100.0, 1000.0];

/// Header bytes from here on are free for whoever stores runs (an exact run is never wider than 55 bits).
pub(super) const FREE_HEADERS: std::ops::RangeInclusive<u8> = 56..=62;

/// Appends the run, at most [`LONGEST_RUN`] long and not empty.
pub(super) fn encode_run(previous: u64, values: &[u64], out: &mut Vec<u8>) {
    debug_assert!((1..=LONGEST_RUN).contains(&values.len()));
    let mut whole = [0_i64; LONGEST_RUN];
    for places in 0..POWERS.len() {
        let fits = values.iter().zip(&mut whole).all(|(&bits, slot)| match to_whole(bits, places) {
            Some(number) => {
                *slot = number;
                true
            }
            None => false,
        });
        if fits {
            return encode_whole(to_whole(previous, places).unwrap_or(0), &mut whole[..values.len()], places, out);
        }
    }
    encode_xor(previous, values, out);
}

/// Reads a run of `count` values into the front of `values`.
pub(super) fn decode_run(
    reader: &mut Reader<'_>,
    previous: u64,
    count: usize,
    values: &mut [u64],
) -> Result<(), Malformed> {
    let header = reader.byte()?;
    if header == XOR {
        return decode_xor(reader, previous, &mut values[..count]);
    }
    let (places, width) = (usize::from(header >> 6), u32::from(header & WIDTH_BITS));
    if width >= u32::from(*FREE_HEADERS.start()) {
        return Err(Malformed);
    }
    let smallest = reader.signed()?;
    let packed = reader.take(packed_len(count, width))?;
    let mut number = to_whole(previous, places).unwrap_or(0);
    for (i, value) in values[..count].iter_mut().enumerate() {
        number = number.wrapping_add(smallest).wrapping_add(unpack(packed, width, i) as i64);
        *value = if places == 0 { (number as f64).to_bits() } else { (number as f64 / POWERS[places]).to_bits() };
    }
    Ok(())
}

/// The last value of a run of `count`, without the others.
pub(super) fn end_of_run(reader: &mut Reader<'_>, previous: u64, count: usize) -> Result<u64, Malformed> {
    let header = reader.byte()?;
    if header == XOR {
        let mut values = [0; LONGEST_RUN];
        decode_xor(reader, previous, &mut values[..count])?;
        return Ok(values[..count].last().copied().unwrap_or(previous));
    }
    let (places, width) = (usize::from(header >> 6), u32::from(header & WIDTH_BITS));
    if width >= u32::from(*FREE_HEADERS.start()) {
        return Err(Malformed);
    }
    let smallest = reader.signed()?;
    let packed = reader.take(packed_len(count, width))?;
    let start = to_whole(previous, places).unwrap_or(0).wrapping_add(smallest.wrapping_mul(count as i64));
    let number = (0..count).fold(start, |number, i| number.wrapping_add(unpack(packed, width, i) as i64));
    Ok(if places == 0 { (number as f64).to_bits() } else { (number as f64 / POWERS[places]).to_bits() })
}

/// The value times ten to the `places`, when that is a whole number from which the very bits can be had again.
fn to_whole(bits: u64, places: usize) -> Option<i64> {
    let value = f64::from_bits(bits);
    if places == 0 {
        let number = value as i64;
        return ((number as f64).to_bits() == bits && value.abs() < EXACT_LIMIT).then_some(number);
    }
    let scaled = value * POWERS[places];
    let number = (scaled + 0.5_f64.copysign(scaled)) as i64;
    (scaled.abs() < EXACT_LIMIT && (number as f64 / POWERS[places]).to_bits() == bits).then_some(number)
}

/// Turns `numbers` into differences in place and packs what is above the smallest.
fn encode_whole(previous: i64, numbers: &mut [i64], places: usize, out: &mut Vec<u8>) {
    let (mut before, mut smallest, mut largest) = (previous, i64::MAX, i64::MIN);
    for number in numbers.iter_mut() {
        let difference = *number - before;
        before = *number;
        *number = difference;
        smallest = smallest.min(difference);
        largest = largest.max(difference);
    }
    let width = bit_width((largest - smallest) as u64);
    out.push((places as u8) << 6 | width as u8);
    put_signed(out, smallest);
    pack(numbers.iter().map(|difference| (difference - smallest) as u64), width, out);
}

fn encode_xor(previous: u64, values: &[u64], out: &mut Vec<u8>) {
    let changes = || {
        values.iter().scan(previous, |before, &value| {
            let change = *before ^ value;
            *before = value;
            Some(change)
        })
    };
    let any = changes().fold(0, |any, change| any | change);
    let trailing = if any == 0 { 0 } else { any.trailing_zeros() };
    let width = bit_width(any >> trailing);
    out.extend([XOR, trailing as u8, width as u8]);
    pack(changes().map(|change| change >> trailing), width, out);
}

fn decode_xor(reader: &mut Reader<'_>, previous: u64, values: &mut [u64]) -> Result<(), Malformed> {
    let (trailing, width) = (u32::from(reader.byte()?), u32::from(reader.byte()?));
    if trailing + width > u64::BITS || trailing == u64::BITS {
        return Err(Malformed);
    }
    let packed = reader.take(packed_len(values.len(), width))?;
    let mut before = previous;
    for (i, value) in values.iter_mut().enumerate() {
        before ^= unpack(packed, width, i) << trailing;
        *value = before;
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::model::STALE_NAN_BITS;
    use proptest::prelude::*;

    /// Values of all the kinds that meet an encoder: counters with resets, decimals, any bits at all, the odd ones.
    pub(crate) fn awkward_values(length: usize) -> impl Strategy<Value = Vec<f64>> {
        let one = prop_oneof![
            4 => (0_u32..1000).prop_map(f64::from),
            2 => any::<u64>().prop_map(f64::from_bits),
            2 => any::<i64>().prop_map(|v| v as f64),
            2 => (-100_000_i32..100_000).prop_map(|v| f64::from(v) / 100.0),
            1 => prop::sample::select(vec![
                0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, f64::MAX, f64::MIN_POSITIVE, 9_007_199_254_740_991.0,
                9_007_199_254_740_992.0, -9_007_199_254_740_993.0, 1e300, 0.1 + 0.2,
            ]),
            1 => Just(f64::from_bits(STALE_NAN_BITS)),
            1 => Just(f64::from_bits(0xfff8_0000_0000_1234)),
        ];
        let counter = (any::<u32>(), prop::collection::vec(0_u32..50, 1..length)).prop_map(|(start, steps)| {
            let mut total = f64::from(start);
            let mut counter = Vec::new();
            for step in steps {
                total = if step == 49 { 0.0 } else { total + f64::from(step) };
                counter.push(total);
            }
            counter
        });
        let idle = (one.clone(), 1..length).prop_map(|(value, times)| vec![value; times]);
        prop_oneof![prop::collection::vec(one, 1..length), counter, idle]
    }

    fn round_trip(previous: u64, values: &[f64]) -> (Vec<u8>, Vec<u64>) {
        let bits: Vec<u64> = values.iter().map(|v| v.to_bits()).collect();
        let mut bytes = Vec::new();
        encode_run(previous, &bits, &mut bytes);
        let mut back = vec![0; bits.len()];
        let mut reader = Reader::new(&bytes);
        decode_run(&mut reader, previous, bits.len(), &mut back).unwrap();
        assert!(reader.is_empty());
        assert_eq!(back, bits);
        assert_eq!(end_of_run(&mut Reader::new(&bytes), previous, bits.len()).unwrap(), bits[bits.len() - 1]);
        (bytes, back)
    }

    proptest! {
        #[test]
        fn every_run_comes_back_bit_for_bit(previous: u64, values in awkward_values(LONGEST_RUN)) {
            round_trip(previous, &values);
        }

        #[test]
        fn damaged_runs_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), count in 1..LONGEST_RUN) {
            let mut values = [0; LONGEST_RUN];
            let _ = decode_run(&mut Reader::new(&bytes), 7, count, &mut values);
        }
    }

    #[test]
    fn a_steady_counter_costs_its_header_only() {
        let steady: Vec<f64> = (1..=16).map(|i| f64::from(1000 + 7 * i)).collect();
        assert_eq!(round_trip(1000_f64.to_bits(), &steady).0.len(), 2);
        let tenths: Vec<f64> = (1..=16).map(|i| f64::from(10_000 + 7 * i) / 10.0).collect();
        assert_eq!(round_trip(1000_f64.to_bits(), &tenths).0.len(), 2, "decimals pack as well");
    }
}
