//! Label sets of the series that were selected lately, so that rules and dashboards that ask again need not have them
//! put together again.
//!
//! In: references. Out: label sets. Invariant: bounded; what nobody asked for between two garbage collections goes. It
//! never has to be told of changes, since a reference always means the same label set.

use hashbrown::HashMap;
use parking_lot::Mutex;

use super::index::Index;
use super::symbols::Hasher;
use crate::model::Labels;

/// Most bytes of label sets of one generation.
const LIMIT_BYTES: usize = 32 << 20;

/// The cache: asked for since the last garbage collection, and before it.
#[derive(Default)]
pub(super) struct LabelCache(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: HashMap<u64, Labels, Hasher>,
    young_bytes: usize,
    old: HashMap<u64, Labels, Hasher>,
    old_bytes: usize,
}

impl LabelCache {
    /// The label sets of living series, in their order; `None` for others.
    pub(super) fn labels(&self, series: &[u64], index: &Index) -> Vec<Option<Labels>> {
        let generations = &mut *self.0.lock();
        series.iter().map(|reference| generations.labels(*reference, index)).collect()
    }

    /// Forgets what was not asked for since the last call.
    pub(super) fn age(&self) {
        let generations = &mut *self.0.lock();
        generations.old = std::mem::take(&mut generations.young);
        generations.old_bytes = std::mem::take(&mut generations.young_bytes);
    }

    /// Bytes of memory, roughly.
    pub(super) fn size_bytes(&self) -> usize {
        let generations = self.0.lock();
        generations.young_bytes + generations.old_bytes + (generations.young.len() + generations.old.len()) * 48
    }
}

impl Generations {
    fn labels(&mut self, reference: u64, index: &Index) -> Option<Labels> {
        if let Some(labels) = self.young.get(&reference) {
            return Some(labels.clone());
        }
        let labels = match self.old.remove(&reference) {
            Some(labels) => {
                self.old_bytes -= labels.size_bytes();
                labels
            }
            None => index.labels(reference)?,
        };
        if self.young_bytes + labels.size_bytes() <= LIMIT_BYTES {
            self.young_bytes += labels.size_bytes();
            self.young.insert(reference, labels.clone());
        }
        Some(labels)
    }
}
