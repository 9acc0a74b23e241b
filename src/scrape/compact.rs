//! The label sets of a target's series, most of it held once: Istio writes the same thirty labels for the 67 series of an
//! edge.
//!
//! In: label sets. Out: compact ones that give them back. Invariant: what was shared lives as long as someone holds it.

use std::collections::HashSet;
use std::sync::Arc;

use crate::model::{Labels, METRIC_NAME};

/// The label of a histogram's bound.
const BUCKET: &str = "le";

/// A label set whose parts are shared with those like it.
#[derive(Clone, Debug)]
pub(super) struct CompactLabels {
    /// All but the name and the bound.
    block: Labels,
    metric: Arc<str>,
    bucket: Arc<str>,
}

impl CompactLabels {
    /// The whole label set.
    pub fn to_labels(&self) -> Labels {
        self.labels_like(&self.metric, &self.bucket)
    }

    /// The label set with another name and bound.
    pub fn labels_like(&self, metric: &str, bucket: &str) -> Labels {
        let own = [(METRIC_NAME, metric), (BUCKET, bucket)];
        self.block.iter().chain(own).filter(|(_, value)| !value.is_empty()).collect()
    }

    /// The metric name.
    pub fn metric(&self) -> &Arc<str> {
        &self.metric
    }
}

/// What the label sets of one target have in common.
#[derive(Debug, Default)]
pub(super) struct SharedParts {
    blocks: HashSet<Labels>,
    texts: HashSet<Arc<str>>,
}

impl SharedParts {
    /// The compact form of a label set.
    pub fn compact(&mut self, labels: &Labels) -> CompactLabels {
        let block = labels.without(&[METRIC_NAME, BUCKET]);
        let block = match self.blocks.get(&block) {
            Some(known) => known.clone(),
            None => {
                self.blocks.insert(block.clone());
                block
            }
        };
        let (metric, bucket) = (self.text(labels.metric_name()), self.text(labels.value(BUCKET)));
        CompactLabels { block, metric, bucket }
    }

    /// The compact form of a label set that differs from `like` only in name and bound.
    pub fn compact_like(&mut self, like: &CompactLabels, metric: &str, bucket: &str) -> CompactLabels {
        CompactLabels { block: like.block.clone(), metric: self.text(metric), bucket: self.text(bucket) }
    }

    fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = text.into();
        self.texts.insert(Arc::clone(&new));
        new
    }

    /// Bytes of memory, about.
    pub fn size_bytes(&self) -> usize {
        let blocks: usize = self.blocks.iter().map(Labels::size_bytes).sum();
        let texts: usize = self.texts.iter().map(|text| text.len()).sum();
        // A set of pointers, and the counts and length before each text.
        blocks + texts + (self.blocks.len() + self.texts.len()) * 48
    }

    /// Forgets what is shared so far; who holds a part keeps it.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_sets_come_back_and_share_what_is_equal() {
        let mut shared = SharedParts::default();
        let bucket = |bound: &str| {
            let own = [(METRIC_NAME, "latency_bucket"), ("le", bound), ("zone", "a"), ("app", "web")];
            Labels::from_pairs(own)
        };
        let compact: Vec<CompactLabels> = ["1", "5"].iter().map(|bound| shared.compact(&bucket(bound))).collect();
        assert_eq!(compact[0].to_labels(), bucket("1"));
        assert_eq!(compact[1].to_labels(), bucket("5"));
        assert!(Arc::ptr_eq(&compact[0].metric, &compact[1].metric));
        assert_eq!(shared.blocks.len(), 1);
        for labels in [Labels::empty(), Labels::from_pairs([(METRIC_NAME, "up")]), Labels::from_pairs([("le", "3")])] {
            assert_eq!(shared.compact(&labels).to_labels(), labels);
        }
        shared.clear();
        assert_eq!(compact[1].to_labels(), bucket("5"), "held parts outlive the table");
    }
}
