//! The samples of all series of one label set over one window, as the bytes of one row of `chunk_raw` or `chunk_5m`.
//!
//! In: members, one for each metric name and `le`. Out: bytes, and back, bit for bit. A row of its own for each series
//! would cost more in headers and index entries than its samples do. Layout: version; then, compressed from version 2 on,
//! the members: name, `le` and samples, each after its length (four bytes, big-endian, so that SQL can write version 1).
//! Members that were scraped together have the same times: those are written once.
//!
//! Invariant: members are sorted by name and `le`, each once, with times that rise.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::bits::Malformed;
use super::chunk::{ChunkError, decode_chunk, decode_chunk_values, encode_chunk, encode_chunk_values};
use crate::model::Timestamp;

const PLAIN: u8 = 1;
const COMPRESSED: u8 = 2;
/// Level of zstd: about a third of the bytes of the fastest, at a few microseconds a row.
const LEVEL: i32 = 3;
/// Most bytes of a row before compression.
const RAW_LIMIT_BYTES: usize = 512 << 20;

/// Which series of a label set: metric name and `le`, empty where it has none.
pub type MemberName = (String, String);

/// The samples of one series, oldest first, as two columns of equal length.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Strictly rising.
    pub times: Arc<[Timestamp]>,
    /// One for each time.
    pub values: Vec<f64>,
}

/// The series of one label set.
pub type Block = BTreeMap<MemberName, Member>;

impl Member {
    /// Adds the samples of `other`; of two at one time its own stays.
    pub fn merge(&mut self, other: &Member) {
        let own = (Arc::clone(&self.times), std::mem::take(&mut self.values));
        let (times, values) = match (own.0.last(), other.times.first()) {
            (None, _) => (Arc::clone(&other.times), other.values.clone()),
            (_, None) => own,
            _ if own.0 == other.times => own,
            _ => super::read::merge_columns(&own, &(Arc::clone(&other.times), other.values.clone())),
        };
        (self.times, self.values) = (times, values);
    }
}

/// Adds the samples of `other` to `block`; of two of one series and time that of `block` stays.
pub fn merge_blocks(block: &mut Block, other: Block) {
    for (name, member) in other {
        match block.get_mut(&name) {
            Some(known) => known.merge(&member),
            None => drop(block.insert(name, member)),
        }
    }
}

/// Encodes the series of one label set.
pub fn encode_block(block: &Block) -> Vec<u8> {
    let mut raw = Vec::new();
    let mut last_times: Option<&Arc<[Timestamp]>> = None;
    for ((metric, bucket), member) in block {
        put(&mut raw, metric.as_bytes());
        put(&mut raw, bucket.as_bytes());
        if last_times.is_some_and(|times| Arc::ptr_eq(times, &member.times) || **times == *member.times) {
            put(&mut raw, &encode_chunk_values(&member.values));
        } else {
            put(&mut raw, &encode_chunk(&member.times, &member.values));
            last_times = Some(&member.times);
        }
    }
    let mut out = vec![COMPRESSED];
    out.extend(u32::try_from(raw.len()).unwrap_or(u32::MAX).to_be_bytes());
    let packed = zstd::bulk::compress(&raw, LEVEL).expect("invariant: compressing into a growing buffer does not fail");
    if raw.len() > RAW_LIMIT_BYTES || packed.len() + out.len() > raw.len() {
        return [&[PLAIN], raw.as_slice()].concat();
    }
    out.extend(packed);
    out
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(bytes);
}

/// Reads those members that are `wanted` of what [`encode_block`] wrote.
///
/// # Errors
/// When the bytes are of another version or damaged.
pub fn decode_block(bytes: &[u8], wanted: impl Fn(&str, &str) -> bool) -> Result<Block, ChunkError> {
    let raw = uncompressed(bytes)?;
    let mut rest: &[u8] = &raw;
    let mut block = Block::new();
    // The bytes that hold the times in force, and those times once somebody needed them.
    let (mut timed, mut times): (&[u8], Option<Arc<[Timestamp]>>) = (&[], None);
    while !rest.is_empty() {
        let (metric, bucket, samples) = (text(&mut rest)?, text(&mut rest)?, take(&mut rest)?);
        let values = match decode_chunk_values(samples) {
            Some(_) if timed.is_empty() => return Err(ChunkError::Malformed),
            Some(values) if wanted(metric, bucket) => {
                if times.is_none() {
                    times = Some(decode_chunk(timed)?.0.into());
                }
                values?
            }
            Some(_) => continue,
            None => {
                (timed, times) = (samples, None);
                if !wanted(metric, bucket) {
                    continue;
                }
                let (own_times, values) = decode_chunk(samples)?;
                times = Some(own_times.into());
                values
            }
        };
        let times = times.clone().unwrap_or_default();
        if times.len() != values.len() {
            return Err(ChunkError::Malformed);
        }
        let member = Member { times, values };
        match block.get_mut(&(metric.to_owned(), bucket.to_owned())) {
            Some(known) => known.merge(&member),
            None => drop(block.insert((metric.to_owned(), bucket.to_owned()), member)),
        }
    }
    Ok(block)
}

fn uncompressed(bytes: &[u8]) -> Result<Cow<'_, [u8]>, ChunkError> {
    match bytes.split_first() {
        Some((&PLAIN, raw)) => Ok(raw.into()),
        Some((&COMPRESSED, packed)) => {
            let (length, packed) = packed.split_first_chunk::<4>().ok_or(ChunkError::Malformed)?;
            let length = u32::from_be_bytes(*length) as usize;
            if length > RAW_LIMIT_BYTES {
                return Err(ChunkError::Malformed);
            }
            let raw = zstd::bulk::decompress(packed, length).map_err(|_| ChunkError::Malformed)?;
            if raw.len() == length { Ok(raw.into()) } else { Err(ChunkError::Malformed) }
        }
        Some((other, _)) => Err(ChunkError::Version(*other)),
        None => Err(ChunkError::Malformed),
    }
}

fn take<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let (length, after) = rest.split_first_chunk::<4>().ok_or(Malformed)?;
    let length = u32::from_be_bytes(*length) as usize;
    let (taken, after) = after.split_at_checked(length).ok_or(Malformed)?;
    *rest = after;
    Ok(taken)
}

fn text<'a>(rest: &mut &'a [u8]) -> Result<&'a str, Malformed> {
    std::str::from_utf8(take(rest)?).map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::series::column::tests::awkward_values;
    use proptest::prelude::*;

    fn member(start: i64, values: Vec<f64>) -> Member {
        let times = (0..values.len()).map(|i| Timestamp::from_millis(start + i as i64 * 15_000)).collect();
        Member { times, values }
    }

    fn name(i: usize) -> MemberName {
        (format!("metric_{}", i / 3), ["", "1", "+Inf"][i % 3].to_owned())
    }

    fn bits(block: &Block) -> Vec<(&MemberName, Vec<(i64, u64)>)> {
        let samples =
            |m: &Member| m.times.iter().zip(&m.values).map(|(at, value)| (at.as_millis(), value.to_bits())).collect();
        block.iter().map(|(name, member)| (name, samples(member))).collect()
    }

    proptest! {
        #[test]
        fn every_block_comes_back_bit_for_bit_and_so_does_each_member(
            columns in prop::collection::vec((awkward_values(40), 0_i64..2), 0..12),
        ) {
            let block: Block = (columns.into_iter().enumerate())
                .map(|(i, (values, start))| (name(i), member(start * 1000, values)))
                .collect();
            let bytes = encode_block(&block);
            let whole = decode_block(&bytes, |_, _| true).unwrap();
            prop_assert_eq!(bits(&whole), bits(&block));
            for (wanted, samples) in bits(&block) {
                let one = decode_block(&bytes, |metric, bucket| (metric, bucket) == (wanted.0.as_str(), wanted.1.as_str()));
                let one = one.unwrap();
                prop_assert_eq!(bits(&one), [(wanted, samples)]);
            }
        }

        #[test]
        fn damaged_blocks_are_refused_or_read_but_never_panic(values in awkward_values(60), at in 0_usize..400, flip in 1_u8..) {
            let block: Block = (0..4).map(|i| (name(i), member(0, values.clone()))).collect();
            let mut bytes = encode_block(&block);
            let at = at % bytes.len();
            bytes[at] ^= flip;
            let _ = decode_block(&bytes, |_, _| true);
            bytes.truncate(at);
            let _ = decode_block(&bytes, |_, _| true);
        }
    }

    #[test]
    fn merging_keeps_what_was_there_first_and_changes_nothing_the_second_time() {
        let mut block = Block::from([(name(0), member(0, vec![1.0, 2.0]))]);
        let late = Block::from([(name(0), member(15_000, vec![9.0, 3.0])), (name(1), member(0, vec![7.0]))]);
        for _ in 0..2 {
            merge_blocks(&mut block, late.clone());
            assert_eq!(block[&name(0)], member(0, vec![1.0, 2.0, 3.0]));
            assert_eq!(block[&name(1)], member(0, vec![7.0]));
        }
    }

    #[test]
    fn plain_bytes_as_the_migration_writes_them_are_read_and_a_series_may_come_twice() {
        let mut bytes = vec![PLAIN];
        for part in [member(0, vec![1.0, 2.0]), member(60_000, vec![3.0])] {
            put(&mut bytes, b"up");
            put(&mut bytes, b"");
            put(&mut bytes, &encode_chunk(&part.times, &part.values));
        }
        let block = decode_block(&bytes, |_, _| true).unwrap();
        assert_eq!(block[&("up".to_owned(), String::new())].values, [1.0, 2.0, 3.0]);
        assert_eq!(decode_block(&[9], |_, _| true), Err(ChunkError::Version(9)));
        assert_eq!(decode_block(&[], |_, _| true), Err(ChunkError::Malformed));
    }
}
