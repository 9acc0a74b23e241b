//! Series that come block by block, as a journal tells them: what they share is looked at once.
//!
//! In: a block's labels, then metric names and values of `le`. Out: references, the very ones that [`Index::intern`] gives
//! for the whole label sets. A journal names every series again in each of its epochs, so this is most of a restart.

use super::{Index, NONE};
use crate::model::{Labels, METRIC_NAME};

/// The labels that series share, and where they were last found.
#[derive(Clone, Debug)]
pub(in crate::series) struct SharedLabels {
    /// All but the metric name and `le`.
    pub(in crate::series) labels: Labels,
    /// Place and serial of the block; `None` until it has a series.
    block: Option<(u32, u64)>,
}

impl SharedLabels {
    /// Not looked for yet.
    pub(in crate::series) fn new(labels: Labels) -> Self {
        Self { labels, block: None }
    }
}

impl Index {
    /// Finds the series of that block, metric name and `le`; makes it while there are fewer than `limit`. The second says
    /// whether it is new. `text` is room to work in.
    pub(in crate::series) fn intern_member(
        &mut self,
        shared: &mut SharedLabels,
        (metric, bucket): (&str, &str),
        limit: usize,
        text: &mut String,
    ) -> Option<(u64, bool)> {
        let hash = shared.labels.table_hash_with(&[(METRIC_NAME, metric), (super::BUCKET, bucket)], text);
        let block = shared.block.filter(|(id, serial)| self.has_serial(*id, *serial));
        let found = self.table.find(hash, |id| self.is_member(*id, (block, &shared.labels), (metric, bucket)));
        if let Some(&id) = found {
            shared.block = self.block_of(id);
            return Some((self.reference(id), false));
        }
        if self.len() >= limit {
            return None;
        }
        let block = block.map_or_else(|| self.intern_block(&shared.labels), |(id, _)| id);
        let reference = self.insert(hash, block, (metric, bucket));
        shared.block = self.block_of(reference as u32);
        Some((reference, true))
    }

    fn has_serial(&self, id: u32, serial: u64) -> bool {
        self.blocks.get(id as usize).and_then(Option::as_ref).is_some_and(|block| block.serial == serial)
    }

    fn block_of(&self, series: u32) -> Option<(u32, u64)> {
        let id = self.records.get(series as usize)?.block;
        Some((id, self.block(id).serial))
    }

    fn is_member(
        &self,
        series: u32,
        (block, labels): (Option<(u32, u64)>, &Labels),
        (metric, bucket): (&str, &str),
    ) -> bool {
        let record = &self.records[series as usize];
        let is_text = |symbol: u32, text: &str| {
            if symbol == NONE { text.is_empty() } else { **self.symbols.text(symbol) == *text }
        };
        if !is_text(record.metric, metric) || !is_text(record.bucket, bucket) {
            return false;
        }
        match block {
            Some((id, _)) => record.block == id,
            None => {
                let pairs = self.block(record.block).pairs.iter();
                pairs.map(|(name, value)| (&**self.symbols.text(*name), &**self.symbols.text(*value))).eq(labels.iter())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_the_references_that_whole_label_sets_have_whatever_came_first() {
        let (mut index, mut text) = (Index::new(), String::new());
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
                let found = index.intern_member(&mut shared, member, 1000, &mut text);
                assert_eq!(
                    found.map(|(reference, is_new)| (Some(reference), is_new)),
                    Some(match before {
                        Some((reference, _)) => (Some(reference), false),
                        None => (found.map(|(reference, _)| reference), true),
                    })
                );
                assert_eq!(index.intern(&whole(labels, member)), (found.map_or(0, |(reference, _)| reference), false));
                let again = index.intern_member(&mut SharedLabels::new(labels.clone()), member, 0, &mut text);
                assert_eq!(again, found.map(|(reference, _)| (reference, false)), "the limit is for new ones");
            }
            assert_eq!(index.intern_member(&mut shared, ("new", ""), index.len(), &mut text), None);
        }
        assert_eq!(index.len(), sets.len() * members.len());
    }

    #[test]
    fn a_block_that_went_and_whose_place_another_has_is_made_again() {
        let (mut index, mut text) = (Index::new(), String::new());
        let mut shared = SharedLabels::new(Labels::from_pairs([("pod", "a")]));
        index.intern_member(&mut shared, ("up", ""), 10, &mut text);
        index.remove_unused();
        assert_eq!(index.remove_unused(), 1);
        index.intern(&Labels::from_pairs([(METRIC_NAME, "up"), ("pod", "b")]));
        let (reference, is_new) = index.intern_member(&mut shared, ("up", ""), 10, &mut text).unwrap_or_default();
        assert!(is_new);
        assert_eq!(index.labels(reference), Some(Labels::from_pairs([(METRIC_NAME, "up"), ("pod", "a")])));
    }
}
