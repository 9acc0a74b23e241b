//! Series that come block by block, as a page or a journal tells them: what they share is looked at once.
//!
//! In: a block, then metric names and values of `le`. Out: references, the very ones that [`Index::intern`] gives for the
//! whole label sets. A journal names every series again in each of its epochs, so this is most of a restart.

use super::{BUCKET, Index, series_hash};
use crate::model::{Labels, METRIC_NAME};

/// Names the block of a series while it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockRef {
    id: u32,
    serial: u64,
}

/// No series of the block lives any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::series) struct BlockGone;

/// The labels that series share, and where they were last found.
#[derive(Clone, Debug)]
pub(in crate::series) struct SharedLabels {
    /// All but the metric name and `le`.
    pub(in crate::series) labels: Labels,
    /// `None` until it has a series.
    block: Option<BlockRef>,
}

impl SharedLabels {
    /// Not looked for yet.
    pub(in crate::series) fn new(labels: Labels) -> Self {
        Self { labels, block: None }
    }
}

impl Index {
    /// The block of a living series.
    pub(in crate::series) fn block_of(&self, reference: u64) -> Option<BlockRef> {
        Some(self.block_ref(self.record(reference)?.block))
    }

    /// The series of that block with that name and `le`; an error when the block is gone.
    pub(in crate::series) fn find_in(
        &self,
        block: BlockRef,
        metric: &str,
        bucket: &str,
    ) -> Result<Option<u64>, BlockGone> {
        let known = self.blocks.get(block.id as usize).and_then(Option::as_ref);
        let known = known.filter(|known| known.serial == block.serial).ok_or(BlockGone)?;
        let hash = series_hash(known.hash, metric, bucket);
        let is_it = |id: &u32| {
            let record = &self.records[*id as usize];
            record.block == block.id
                && **self.symbols.text(record.metric) == *metric
                && **self.symbols.text(record.bucket) == *bucket
        };
        Ok(self.table.find(hash, is_it).map(|id| self.reference(*id)))
    }

    /// Makes the series of that block with that name and `le`, which [`Index::find_in`] did not find.
    pub(in crate::series) fn make_in(&mut self, block: BlockRef, metric: &str, bucket: &str) -> u64 {
        let hash = series_hash(self.block(block.id).hash, metric, bucket);
        self.insert(block.id, hash, (metric, bucket))
    }

    /// Finds the series of these shared labels, metric name and `le`; makes it while there are fewer than `limit`. The
    /// second says whether it is new.
    pub(in crate::series) fn intern_member(
        &mut self,
        shared: &mut SharedLabels,
        (metric, bucket): (&str, &str),
        limit: usize,
    ) -> Option<(u64, bool)> {
        let known = shared.block.map(|block| (block, self.find_in(block, metric, bucket)));
        let (block, found) = match known {
            Some((block, Ok(found))) => (block, found),
            Some((_, Err(BlockGone))) | None => {
                let hash = shared.labels.table_hash_without([METRIC_NAME, BUCKET]);
                let id = match self.find_block(&shared.labels, hash) {
                    Some(id) => id,
                    None if self.len() >= limit => return None,
                    None => self.intern_block(&shared.labels, hash),
                };
                let block = self.block_ref(id);
                (block, self.find_in(block, metric, bucket).unwrap_or_default())
            }
        };
        shared.block = Some(block);
        match found {
            Some(reference) => Some((reference, false)),
            None if self.len() >= limit => None,
            None => Some((self.make_in(block, metric, bucket), true)),
        }
    }

    fn block_ref(&self, id: u32) -> BlockRef {
        BlockRef { id, serial: self.block(id).serial }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_references_that_whole_label_sets_have_whatever_came_first() {
        let mut index = Index::new();
        let whole = |labels: &Labels, member: (&str, &str)| {
            labels.iter().chain([(METRIC_NAME, member.0), (super::super::BUCKET, member.1)]).collect::<Labels>()
        };
        let sets =
            [Labels::empty(), Labels::from_pairs([("pod", "a")]), Labels::from_pairs([("pod", "b"), ("A", "1")])];
        let members = [("up", ""), ("b", "1"), ("b", "+Inf"), ("", "")];
        for (i, labels) in sets.iter().enumerate() {
            let mut shared = SharedLabels::new(labels.clone());
            for (j, member) in members.into_iter().enumerate() {
                let before = ((i + j) % 2 == 0).then(|| index.intern(&whole(labels, member)));
                let found = index.intern_member(&mut shared, member, 1000);
                assert_eq!(
                    found.map(|(reference, is_new)| (Some(reference), is_new)),
                    Some(match before {
                        Some((reference, _)) => (Some(reference), false),
                        None => (found.map(|(reference, _)| reference), true),
                    })
                );
                assert_eq!(index.intern(&whole(labels, member)), (found.map_or(0, |(reference, _)| reference), false));
                let again = index.intern_member(&mut SharedLabels::new(labels.clone()), member, 0);
                assert_eq!(again, found.map(|(reference, _)| (reference, false)), "the limit is for new ones");
            }
            assert_eq!(index.intern_member(&mut shared, ("new", ""), index.len()), None);
        }
        assert_eq!(index.len(), sets.len() * members.len());
    }

    #[test]
    fn a_block_that_went_and_whose_place_another_has_is_made_again() {
        let mut index = Index::new();
        let mut shared = SharedLabels::new(Labels::from_pairs([("pod", "a")]));
        index.intern_member(&mut shared, ("up", ""), 10);
        index.remove_unused();
        assert_eq!(index.remove_unused(), 1);
        index.intern(&Labels::from_pairs([(METRIC_NAME, "up"), ("pod", "b")]));
        let (reference, is_new) = index.intern_member(&mut shared, ("up", ""), 10).unwrap_or_default();
        assert!(is_new);
        assert_eq!(index.labels(reference), Some(Labels::from_pairs([(METRIC_NAME, "up"), ("pod", "a")])));
    }
}
