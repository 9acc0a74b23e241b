//! Names of the series that were selected lately, so that rules and dashboards that ask again need not have them put
//! together again.
//!
//! In: references. Out: label sets, and names of families. Invariant: bounded; what nobody asked for between two garbage
//! collections goes. It never has to be told of changes, since a reference always means the same label set.

use std::sync::Arc;

use hashbrown::HashMap;
use parking_lot::Mutex;

use super::FamilyNames;
use super::index::Index;
use super::symbols::Hasher;
use crate::model::Labels;

/// Most bytes of label sets of one generation, and of names of families.
const LIMIT_BYTES: usize = 32 << 20;

/// The cache: asked for since the last garbage collection, and before it.
#[derive(Default)]
pub(super) struct LabelCache {
    labels: Mutex<Generations<Labels>>,
    families: Mutex<Families>,
}

/// By their first series.
#[derive(Default)]
struct Families {
    kept: Generations<Named>,
    /// Those found last: the next family mostly has the same.
    bounds: Option<Arc<[Arc<str>]>>,
}

#[derive(Clone)]
struct Named {
    series: Arc<[u64]>,
    names: Arc<FamilyNames>,
}

struct Generations<V> {
    young: HashMap<u64, V, Hasher>,
    young_bytes: usize,
    old: HashMap<u64, V, Hasher>,
    old_bytes: usize,
}

impl<V> Default for Generations<V> {
    fn default() -> Self {
        Self { young: HashMap::default(), young_bytes: 0, old: HashMap::default(), old_bytes: 0 }
    }
}

impl LabelCache {
    /// The label sets of living series, in their order; `None` for others.
    pub(super) fn labels(&self, series: &[u64], index: &Index) -> Vec<Option<Labels>> {
        let kept = &mut *self.labels.lock();
        let label_set =
            |reference: &u64| kept.get_or(*reference, |_| true, Labels::size_bytes, || index.labels(*reference));
        series.iter().map(label_set).collect()
    }

    /// The names of the family of those series, which differ only in `le`; `None` when one of them is gone.
    pub(super) fn family(&self, series: &[u64], index: &Index) -> Option<Arc<FamilyNames>> {
        let Families { kept, bounds } = &mut *self.families.lock();
        let size = |named: &Named| {
            let Named { series, names } = named;
            names.labels.size_bytes() + series.len() * (size_of::<u64>() + size_of::<Arc<str>>())
        };
        let make = || {
            let (labels, found) = index.family_names(series)?;
            let shared = match bounds {
                Some(last) if **last == *found => Arc::clone(last),
                _ => Arc::clone(bounds.insert(found.into())),
            };
            Some(Named { series: series.into(), names: Arc::new(FamilyNames { labels, bounds: shared }) })
        };
        kept.get_or(*series.first()?, |named| *named.series == *series, size, make).map(|named| named.names)
    }

    /// Forgets what was not asked for since the last call.
    pub(super) fn age(&self) {
        self.labels.lock().age();
        self.families.lock().kept.age();
    }

    /// Bytes of memory, roughly.
    pub(super) fn size_bytes(&self) -> usize {
        self.labels.lock().size_bytes() + self.families.lock().kept.size_bytes()
    }
}

impl<V: Clone> Generations<V> {
    /// What is kept for `reference` and still right, else what `make` makes.
    fn get_or(
        &mut self,
        reference: u64,
        is_right: impl Fn(&V) -> bool,
        size: impl Fn(&V) -> usize,
        make: impl FnOnce() -> Option<V>,
    ) -> Option<V> {
        if let Some(found) = self.young.get(&reference).filter(|found| is_right(found)) {
            return Some(found.clone());
        }
        let found = match self.old.remove(&reference) {
            Some(found) => {
                self.old_bytes -= size(&found);
                Some(found).filter(is_right)
            }
            None => None,
        };
        let found = match found {
            Some(found) => found,
            None => make()?,
        };
        if self.young_bytes + size(&found) <= LIMIT_BYTES {
            self.young_bytes += size(&found);
            if let Some(replaced) = self.young.insert(reference, found.clone()) {
                self.young_bytes -= size(&replaced);
            }
        }
        Some(found)
    }
}

impl<V> Generations<V> {
    fn age(&mut self) {
        self.old = std::mem::take(&mut self.young);
        self.old_bytes = std::mem::take(&mut self.young_bytes);
    }

    fn size_bytes(&self) -> usize {
        self.young_bytes + self.old_bytes + (self.young.len() + self.old.len()) * 48
    }
}
