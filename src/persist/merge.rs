//! Merges samples into the chunks of their windows, raw and thinned.
//!
//! In: blocks of samples within one window of two hours each. Out: rows that hold what they held and the new samples.
//!
//! Invariant: what is there stays, so merging again changes nothing; bytes that cannot be read are kept beside. A window
//! that was thinned already is thinned again from all its raw samples; one whose raw samples are past their retention gets
//! its new samples thinned. No row has more than [`ROW_SERIES`] series; of what is stored one label set is decoded at a time.

use std::collections::{BTreeMap, HashMap};

use crate::model::{Labels, Timestamp};
use crate::series::{Block, CHUNK_WINDOW, ClosedBlock, decode_block, encode_block, merge_blocks, thin_block};
use crate::store::{Chunk, ChunkTier, ChunkWriter, SeriesNames, StoreError, label_set_id};

/// What decides into which tiers samples go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Horizons {
    /// Windows that end at or before it have no raw chunks any more.
    pub(super) raw_from: Timestamp,
    /// Windows that end at or before it are thinned.
    pub(super) thinned_until: Timestamp,
}

impl Horizons {
    /// The samples of that window are past the retention of raw ones.
    fn is_past_raw(self, window: Timestamp) -> bool {
        window + CHUNK_WINDOW <= self.raw_from
    }

    fn is_thinned(self, window: Timestamp) -> bool {
        window + CHUNK_WINDOW <= self.thinned_until
    }
}

/// Most series of one row, and about how many samples: a label set may have very many (one page without labels), and
/// whoever reads a row holds all of it.
const ROW_SERIES: usize = 2048;
const ROW_SAMPLES: usize = 2_000_000;

type Key = (i64, Timestamp);
/// A chunk that cannot be read, and why.
type Damaged = (Chunk, String);

/// Merges blocks of any windows into the stored ones; how many raw chunks, and thinned ones of windows without raw ones,
/// were written.
pub(super) async fn merge(
    writer: &mut ChunkWriter,
    horizons: Horizons,
    blocks: Vec<ClosedBlock>,
) -> Result<usize, StoreError> {
    let (mut raw, mut thinned) = (BTreeMap::<Key, Block>::new(), BTreeMap::<Key, Block>::new());
    let mut ids: HashMap<Labels, i64> = HashMap::new();
    let mut names = Vec::with_capacity(blocks.len());
    for ClosedBlock { labels, window, block } in blocks {
        let id = *ids.entry(labels.clone()).or_insert_with(|| label_set_id(&labels));
        let last = block.values().filter_map(|member| member.times.last()).max();
        let series = block.keys().cloned().collect();
        names.push(SeriesNames { labels, label_set: id, series, last: last.copied().unwrap_or(window) });
        if horizons.is_past_raw(window) {
            let day = window.floor_to(ChunkTier::FiveMinutes.window());
            merge_blocks(thinned.entry((id, day)).or_default(), block);
        } else {
            merge_blocks(raw.entry((id, window)).or_default(), block);
        }
    }
    writer.name(&names).await?;
    let written = raw.len() + thinned.len();
    for ((id, window), thin) in merge_rows(writer, (ChunkTier::Raw, horizons), raw).await? {
        let day = window.floor_to(ChunkTier::FiveMinutes.window());
        merge_blocks(thinned.entry((id, day)).or_default(), thin);
    }
    merge_rows(writer, (ChunkTier::FiveMinutes, horizons), thinned).await?;
    Ok(written)
}

/// Adds blocks to the rows of their keys and writes them; returns what raw rows of windows that are thinned already have, thinned
/// again.
async fn merge_rows(
    writer: &mut ChunkWriter,
    (tier, horizons): (ChunkTier, Horizons),
    blocks: BTreeMap<Key, Block>,
) -> Result<BTreeMap<Key, Block>, StoreError> {
    if blocks.is_empty() {
        return Ok(blocks);
    }
    let keys: Vec<Key> = blocks.keys().copied().collect();
    let stored = writer.read(tier, &keys).await?;
    let in_parts: Vec<Key> = (stored.iter())
        .map(|chunk| ((chunk.label_set, chunk.window(tier)), chunk.from))
        .filter(|((_, window), from)| window != from)
        .map(|(key, _)| key)
        .collect();
    let merging = tokio::task::spawn_blocking(move || merge_decoded(blocks, stored, (tier, horizons)));
    let Merged { rows, thinned, damaged } =
        merging.await.map_err(|error| StoreError::Damaged { what: "chunk", reason: error.to_string() })?;
    writer.set_aside(tier, &damaged).await?;
    if !in_parts.is_empty() {
        writer.drop_parts(tier, &in_parts).await?;
    }
    writer.write(tier, rows).await?;
    Ok(thinned)
}

/// What became of blocks and the rows that were there.
#[derive(Default)]
struct Merged {
    rows: Vec<Chunk>,
    /// Of raw rows of windows that are thinned already.
    thinned: BTreeMap<Key, Block>,
    damaged: Vec<Damaged>,
}

fn merge_decoded(blocks: BTreeMap<Key, Block>, stored: Vec<Chunk>, (tier, horizons): (ChunkTier, Horizons)) -> Merged {
    let mut by_key: HashMap<Key, Vec<Chunk>> = HashMap::new();
    for chunk in stored {
        by_key.entry((chunk.label_set, chunk.window(tier))).or_default().push(chunk);
    }
    let mut merged = Merged::default();
    for (key, mut block) in blocks {
        for chunk in by_key.remove(&key).unwrap_or_default() {
            match decoded(&chunk, |_, _| true) {
                Ok(mut there) => {
                    merge_blocks(&mut there, block);
                    block = there;
                }
                Err(reason) => merged.damaged.push((chunk, reason)),
            }
        }
        let (id, window) = key;
        if tier == ChunkTier::FiveMinutes && horizons.is_past_raw(window) {
            // New samples among kept ones of a day without raw samples: all are thinned together.
            block = thin_block(block);
        }
        merged.rows.extend(rows(id, window, &block));
        if tier == ChunkTier::Raw && horizons.is_thinned(window) {
            merged.thinned.insert(key, thin_block(block));
        }
    }
    merged
}

/// What a chunk holds of the series that are `wanted`. One that cannot be read must not keep all others from being written: the caller sets it aside.
pub(super) fn decoded(chunk: &Chunk, wanted: impl Fn(&str, &str) -> bool) -> Result<Block, String> {
    decode_block(&chunk.bytes, wanted).map_err(|error| {
        let Chunk { label_set, from, sample_count, .. } = chunk;
        tracing::error!(
            "the chunk of label set {label_set} from {from} ({sample_count} samples) cannot be read, it is kept in the \
             table chunk_damaged: {error}"
        );
        error.to_string()
    })
}

/// A block as rows, none of them large; no row when it has no samples.
pub(super) fn rows(label_set: i64, window: Timestamp, block: &Block) -> Vec<Chunk> {
    let mut found = Vec::new();
    if let Some(row) = small_row((label_set, window), block) {
        return row.into_iter().collect();
    }
    let (mut part, mut samples) = (Block::new(), 0);
    for (name, member) in block {
        // The last row takes what is left, should there be that many.
        let is_full = part.len() >= ROW_SERIES || (samples > 0 && samples + member.values.len() > ROW_SAMPLES);
        if is_full && found.len() + 1 < Chunk::PARTS_MAX as usize {
            found.extend(row((label_set, window + Chunk::PART_STEP * found.len() as u32), &part));
            (part, samples) = (Block::new(), 0);
        }
        samples += member.values.len();
        part.insert(name.clone(), member.clone());
    }
    found.extend(row((label_set, window + Chunk::PART_STEP * found.len() as u32), &part));
    found
}

/// The single row of a block; `None` when it needs several.
fn small_row(key: Key, block: &Block) -> Option<Option<Chunk>> {
    let samples: usize = block.values().map(|member| member.values.len()).sum();
    (block.len() <= ROW_SERIES && (samples <= ROW_SAMPLES || block.len() <= 1)).then(|| row(key, block))
}

fn row((label_set, from): Key, block: &Block) -> Option<Chunk> {
    let to = *block.values().filter_map(|member| member.times.last()).max()?;
    let samples: usize = block.values().map(|member| member.values.len()).sum();
    let sample_count = u32::try_from(samples).unwrap_or(u32::MAX);
    Some(Chunk { label_set, from, to, sample_count, bytes: encode_block(block) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::Member;
    use std::time::Duration;

    fn wide(series: usize) -> Block {
        let member = |at: i64| Member { times: [Timestamp::from_millis(at)].into(), values: vec![at as f64] };
        (0..series).map(|i| ((format!("metric_{i:06}"), String::new()), member(i as i64))).collect()
    }

    #[test]
    fn no_row_has_more_series_than_the_limit_and_the_rows_have_all_of_them() {
        let window = Timestamp::from_millis(0);
        for (series, expect) in [(0, 0), (1, 1), (ROW_SERIES, 1), (ROW_SERIES + 1, 2), (5 * ROW_SERIES - 1, 5)] {
            let rows = rows(7, window, &wide(series));
            assert_eq!(rows.len(), expect, "{series} series");
            let mut whole = Block::new();
            for (part, chunk) in rows.iter().enumerate() {
                assert_eq!(chunk.from, window + Duration::from_millis(part as u64));
                assert_eq!(chunk.window(ChunkTier::Raw), window);
                merge_blocks(&mut whole, decoded(chunk, |_, _| true).unwrap_or_default());
            }
            assert_eq!(whole, wide(series));
        }
    }

    #[test]
    fn many_samples_take_several_rows_but_a_series_stays_whole() {
        let times: std::sync::Arc<[Timestamp]> = (0..ROW_SAMPLES as i64 / 2).map(Timestamp::from_millis).collect();
        let member = Member { values: vec![1.0; times.len()], times };
        let block: Block = (0..5).map(|i| ((format!("m{i}"), String::new()), member.clone())).collect();
        let counts: Vec<u32> = rows(7, Timestamp::from_millis(0), &block).iter().map(|row| row.sample_count).collect();
        assert_eq!(counts, [ROW_SAMPLES as u32, ROW_SAMPLES as u32, ROW_SAMPLES as u32 / 2]);
    }
}
