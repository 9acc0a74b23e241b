//! Samples of one series over a stretch of time as bytes: a part of a row of `chunk_raw` and `chunk_5m` in PostgreSQL.
//!
//! In: two columns. Out: bytes, and back, bit for bit. Layout: version, number of samples, the times (first, then
//! differences), the values; each column is a list of pieces, where a piece is "the same again, n times" or a packed run.

use super::bits::{Malformed, Reader, bit_width, pack, packed_len, put_signed, put_varint, unpack};
use super::column::{LONGEST_RUN, decode_run, encode_run};
use crate::model::{STALE_NAN_BITS, Timestamp};

const VERSION: u8 = 1;
/// First byte of values whose times are those of another chunk.
const VALUES_ONLY: u8 = 2;
/// Most samples in one chunk: two hours of a sample each millisecond.
const SAMPLE_LIMIT: usize = 7_200_000;
/// First byte of a piece that repeats what was before; 1 to 64 is the length of a packed run.
const REPEAT: u8 = 0;
/// First byte of a piece that is one stale marker, after which a run goes on as if it had not been there.
const STALE: u8 = 65;
/// Repeats shorter than this are cheaper inside a run.
const SHORTEST_REPEAT: usize = 12;

/// Why stored chunk bytes cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// Written by another version.
    #[error("the chunk has format version {0}, this meshscope reads version 1")]
    Version(u8),
    /// Cut short or overwritten.
    #[error("the chunk ends early or holds an impossible number")]
    Malformed,
    /// Times that do not rise.
    #[error("the times of the chunk do not rise at sample {0}")]
    TimesNotRising(usize),
}

impl From<Malformed> for ChunkError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// Encodes samples, oldest first, as chunk bytes. Both columns must have the same length, at most 7.2 million.
pub fn encode_chunk(times: &[Timestamp], values: &[f64]) -> Vec<u8> {
    debug_assert_eq!(times.len(), values.len());
    let count = times.len().min(values.len()).min(SAMPLE_LIMIT);
    let mut out = Vec::with_capacity(32 + count / 2);
    out.push(VERSION);
    put_varint(&mut out, count as u64);
    if count > 0 {
        encode_times(&times[..count], &mut out);
        encode_values(&values[..count], &mut out);
    }
    out
}

/// Reads what [`encode_chunk`] wrote.
///
/// # Errors
/// When the bytes are of another version or damaged.
pub fn decode_chunk(bytes: &[u8]) -> Result<(Vec<Timestamp>, Vec<f64>), ChunkError> {
    let mut reader = Reader::new(bytes);
    match reader.byte()? {
        VERSION => {}
        other => return Err(ChunkError::Version(other)),
    }
    let count = reader.count(SAMPLE_LIMIT)?;
    if count == 0 {
        return Ok((Vec::new(), Vec::new()));
    }
    let times = decode_times(&mut reader, count)?;
    let values = decode_values(&mut reader, count)?;
    if let Some(at) = times.windows(2).position(|pair| pair[0] >= pair[1]) {
        return Err(ChunkError::TimesNotRising(at + 1));
    }
    if reader.is_empty() { Ok((times, values)) } else { Err(ChunkError::Malformed) }
}

/// Encodes values whose times are kept elsewhere, at most 7.2 million.
pub(super) fn encode_chunk_values(values: &[f64]) -> Vec<u8> {
    let values = &values[..values.len().min(SAMPLE_LIMIT)];
    let mut out = vec![VALUES_ONLY];
    put_varint(&mut out, values.len() as u64);
    encode_values(values, &mut out);
    out
}

/// Reads what [`encode_chunk_values`] wrote; `None` when the bytes are not of that kind.
pub(super) fn decode_chunk_values(bytes: &[u8]) -> Option<Result<Vec<f64>, ChunkError>> {
    let mut reader = Reader::new(bytes.strip_prefix(&[VALUES_ONLY])?);
    let mut read = || {
        let count = reader.count(SAMPLE_LIMIT)?;
        let values = decode_values(&mut reader, count)?;
        if reader.is_empty() { Ok(values) } else { Err(ChunkError::Malformed) }
    };
    Some(read())
}

/// How many of `items` from the front equal `wanted`.
fn repeats<T: PartialEq>(items: &[T], wanted: &T) -> usize {
    items.iter().take_while(|item| *item == wanted).count()
}

/// How long the next packed run is: up to where a repeat of what is then the last item begins, or a stop.
fn run_length<T: PartialEq>(items: &[T], is_stop: impl Fn(&T) -> bool) -> usize {
    let longest = items.len().min(LONGEST_RUN);
    (1..longest)
        .find(|&i| {
            is_stop(&items[i])
                || repeats(&items[i..(i + SHORTEST_REPEAT).min(items.len())], &items[i - 1]) == SHORTEST_REPEAT
        })
        .unwrap_or(longest)
}

fn encode_times(times: &[Timestamp], out: &mut Vec<u8>) {
    put_signed(out, times[0].as_millis());
    let steps: Vec<i64> = times.windows(2).map(|pair| pair[1].as_millis().wrapping_sub(pair[0].as_millis())).collect();
    let (mut rest, mut before) = (steps.as_slice(), 0_i64);
    while let Some(&first) = rest.first() {
        let same = repeats(rest, &before);
        if same >= SHORTEST_REPEAT || same == rest.len() {
            out.push(REPEAT);
            put_varint(out, same as u64);
            rest = &rest[same..];
            continue;
        }
        let (run, tail) = rest.split_at(run_length(rest, |_| false));
        let smallest = run.iter().copied().min().unwrap_or(first);
        let width = run.iter().map(|step| bit_width(step.wrapping_sub(smallest) as u64)).max().unwrap_or(0);
        out.extend([run.len() as u8, width as u8]);
        put_signed(out, smallest);
        pack(run.iter().map(|step| step.wrapping_sub(smallest) as u64), width, out);
        (rest, before) = (tail, run[run.len() - 1]);
    }
}

fn decode_times(reader: &mut Reader<'_>, count: usize) -> Result<Vec<Timestamp>, Malformed> {
    let (mut at, mut step) = (reader.signed()?, 0_i64);
    let mut times = vec![Timestamp::from_millis(at)];
    while times.len() < count {
        let left = count - times.len();
        match reader.byte()? {
            REPEAT => {
                for _ in 0..reader.count(left)? {
                    at = at.wrapping_add(step);
                    times.push(Timestamp::from_millis(at));
                }
            }
            length if usize::from(length) <= left.min(LONGEST_RUN) => {
                let width = u32::from(reader.byte()?);
                if width > u64::BITS {
                    return Err(Malformed);
                }
                let smallest = reader.signed()?;
                let packed = reader.take(packed_len(length.into(), width))?;
                for i in 0..usize::from(length) {
                    step = smallest.wrapping_add(unpack(packed, width, i) as i64);
                    at = at.wrapping_add(step);
                    times.push(Timestamp::from_millis(at));
                }
            }
            _ => return Err(Malformed),
        }
    }
    Ok(times)
}

fn encode_values(values: &[f64], out: &mut Vec<u8>) {
    let bits: Vec<u64> = values.iter().map(|value| value.to_bits()).collect();
    // The step to the first value is unlike those after it: in one run with them it would make all of them wide.
    let (mut rest, mut before, mut is_first) = (bits.as_slice(), 0_u64, true);
    while let Some(&first) = rest.first() {
        let same = repeats(rest, &before);
        if same >= SHORTEST_REPEAT || same == rest.len() {
            out.push(REPEAT);
            put_varint(out, same as u64);
            rest = &rest[same..];
        } else if first == STALE_NAN_BITS {
            out.push(STALE);
            (rest, is_first) = (&rest[1..], true);
        } else {
            let length = if is_first { 1 } else { run_length(rest, |bits| *bits == STALE_NAN_BITS) };
            let (run, tail) = rest.split_at(length);
            out.push(run.len() as u8);
            encode_run(before, run, out);
            (rest, before, is_first) = (tail, run[run.len() - 1], false);
        }
    }
}

fn decode_values(reader: &mut Reader<'_>, count: usize) -> Result<Vec<f64>, Malformed> {
    let mut values = Vec::with_capacity(count);
    let (mut before, mut run) = (0_u64, [0_u64; LONGEST_RUN]);
    while values.len() < count {
        let left = count - values.len();
        match reader.byte()? {
            REPEAT => {
                let again = reader.count(left)?;
                values.resize(values.len() + again, f64::from_bits(before));
            }
            STALE => values.push(f64::from_bits(STALE_NAN_BITS)),
            length if usize::from(length) <= left.min(LONGEST_RUN) => {
                let length = usize::from(length);
                decode_run(reader, before, length, &mut run)?;
                before = run[length - 1];
                values.extend(run[..length].iter().map(|bits| f64::from_bits(*bits)));
            }
            _ => return Err(Malformed),
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::series::column::tests::awkward_values;
    use proptest::prelude::*;

    fn times_with(steps: &[i64]) -> Vec<Timestamp> {
        let mut at = 1_700_000_000_000;
        steps
            .iter()
            .map(|step| {
                at += step;
                Timestamp::from_millis(at)
            })
            .collect()
    }

    fn check(times: &[Timestamp], values: &[f64]) -> usize {
        let bytes = encode_chunk(times, values);
        let (times_back, values_back) = decode_chunk(&bytes).unwrap();
        assert_eq!(times_back, times);
        let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&values_back), bits(values));
        bytes.len()
    }

    proptest! {
        #[test]
        fn every_chunk_comes_back_bit_for_bit(values in awkward_values(300), steps in prop::collection::vec(prop_oneof![Just(15_000_i64), 1..30_000_i64], 300)) {
            check(&times_with(&steps[..values.len()]), &values);
        }

        #[test]
        fn damaged_chunks_are_refused_or_read_but_never_panic(values in awkward_values(100), at in 0_usize..200, flip in 1_u8..) {
            let steps = vec![15_000; values.len()];
            let mut bytes = encode_chunk(&times_with(&steps), &values);
            let at = at % bytes.len();
            bytes[at] ^= flip;
            let _ = decode_chunk(&bytes);
            bytes.truncate(at);
            prop_assert!(decode_chunk(&bytes).is_err());
        }
    }

    #[test]
    fn idle_and_steady_series_cost_next_to_nothing() {
        let times = times_with(&[15_000; 480]);
        assert!(check(&times, &[0.0; 480]) <= 20, "an idle counter over two hours");
        let steady: Vec<f64> = (0..480).map(|i| f64::from(i) * 30.0).collect();
        assert!(check(&times, &steady) <= 56, "a steady counter over two hours");
        let mut ended = steady.clone();
        ended[300] = f64::from_bits(STALE_NAN_BITS);
        assert!(check(&times, &ended) <= 64, "a stale marker in the middle");
    }

    #[test]
    fn empty_and_single_sample_chunks_come_back() {
        check(&[], &[]);
        check(&times_with(&[1]), &[-0.0]);
    }

    #[test]
    fn refuses_other_versions_and_falling_times() {
        assert_eq!(decode_chunk(&[9]), Err(ChunkError::Version(9)));
        let falling = [Timestamp::from_millis(5), Timestamp::from_millis(3)];
        assert_eq!(decode_chunk(&encode_chunk(&falling, &[1.0, 2.0])), Err(ChunkError::TimesNotRising(1)));
    }
}
