//! Ids that follow from what they name, and what is known to be stored already.
//!
//! An id is the first 64 bits of an MD5 over the parts: two writers give one thing one id without asking, and a write
//! sent twice changes nothing. Ten million series have two of one id with a chance of 3 in a million.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use chrono::NaiveDate;
use md5::{Digest, Md5};
use parking_lot::Mutex;
use tokio::time::Instant;

/// Most ids remembered of one kind. To forget one that is wanted still costs an insert that changes nothing.
const KNOWN_MAX: usize = 4_000_000;
/// A series has a chunk every few hours while its proxy lives.
const REMEMBERED: Duration = Duration::from_secs(6 * 3600);

/// The id of the thing that these parts name.
pub(super) fn id_of<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>) -> i64 {
    let mut digest = Md5::new();
    for part in parts {
        let part = part.as_ref();
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    let bytes: [u8; 16] = digest.finalize().into();
    i64::from_be_bytes(std::array::from_fn(|i| bytes[i]))
}

/// What this process has seen committed, so that it is not written with every batch.
#[derive(Default)]
pub(super) struct KnownIds {
    /// Last day stored of each series.
    pub(super) series: Known<i64, NaiveDate>,
    pub(super) label_sets: Known<i64, ()>,
    pub(super) metrics: Known<i64, ()>,
    pub(super) edges: Known<i64, ()>,
    pub(super) outcomes: Known<i64, ()>,
    pub(super) layouts: Known<i64, ()>,
    /// Held while series are written and while those without chunks are deleted: neither may see the other half done.
    pub(super) catalogue: Arc<tokio::sync::Mutex<()>>,
}

/// A bounded memory of ids: what nobody wrote for [`REMEMBERED`] to twice as long is forgotten.
pub(super) struct Known<K, V>(Mutex<Generations<K, V>>);

/// What was written since the last turn, and what was not since then but before it.
struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    turned: Instant,
}

impl<K, V> Default for Known<K, V> {
    fn default() -> Self {
        Self(Mutex::new(Generations { young: HashMap::new(), old: HashMap::new(), turned: Instant::now() }))
    }
}

impl<K: Copy + Eq + Hash, V: Copy + PartialEq> Known<K, V> {
    /// Of `wanted`, the first of each key that is not stored with that value.
    pub(super) fn missing(&self, wanted: impl IntoIterator<Item = (K, V)>) -> HashSet<K> {
        let known = &mut *self.0.lock();
        wanted.into_iter().filter(|(key, value)| !known.has(*key, *value)).map(|(key, _)| key).collect()
    }

    /// Remembers what was committed.
    pub(super) fn add(&self, stored: impl IntoIterator<Item = (K, V)>) {
        let known = &mut *self.0.lock();
        if known.turned.elapsed() >= REMEMBERED || known.young.len() > KNOWN_MAX / 2 {
            known.old = std::mem::take(&mut known.young);
            known.turned = Instant::now();
        }
        known.young.extend(stored);
    }

    pub(super) fn clear(&self) {
        let known = &mut *self.0.lock();
        (known.young, known.old) = Default::default();
    }
}

impl<K: Copy + Eq + Hash, V: Copy + PartialEq> Generations<K, V> {
    /// Whether it is stored with that value; then it is wanted still.
    fn has(&mut self, key: K, value: V) -> bool {
        if let Some(stored) = self.young.get(&key) {
            return *stored == value;
        }
        let is_stored = self.old.get(&key) == Some(&value);
        if is_stored {
            self.old.remove(&key);
            self.young.insert(key, value);
        }
        is_stored
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_depends_on_every_part_and_where_it_ends() {
        assert_eq!(id_of(["a", "b"]), id_of(["a", "b"]));
        assert_ne!(id_of(["a", "b"]), id_of(["ab", ""]));
        assert_ne!(id_of(["a", "b"]), id_of(["b", "a"]));
    }

    #[test]
    fn only_what_was_added_is_known() {
        let known = Known::<i64, u8>::default();
        known.add([(1, 7)]);
        assert_eq!(known.missing([(1, 7), (1, 8), (2, 7)]), HashSet::from([1, 2]));
        known.add([(1, 8)]);
        assert_eq!(known.missing([(1, 7), (1, 8)]), HashSet::from([1]));
        known.clear();
        assert_eq!(known.missing([(1, 8)]), HashSet::from([1]));
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_wrote_for_long_is_forgotten() {
        let known = Known::<i64, u8>::default();
        known.add([(1, 0), (2, 0), (3, 0)]);
        tokio::time::advance(REMEMBERED).await;
        known.add([(4, 0)]);
        assert_eq!(known.missing([(1, 0), (2, 9), (4, 0)]), HashSet::from([2]), "wanted still, or of another day");
        tokio::time::advance(REMEMBERED).await;
        known.add([]);
        assert_eq!(known.missing([(1, 0), (2, 0), (3, 0), (4, 0)]), HashSet::from([2, 3]));
    }
}
