//! The evaluator's working value: series × steps, dense, one allocation for all values.
//!
//! Invariant: `values.len() == keys.len() * steps`; where a series has no sample at a step, the value is the stale
//! marker, which no selector and no arithmetic ever yields.

use hashbrown::HashMap;

use super::error::EvalError;
use crate::model::{Labels, METADATA_LABELS, METRIC_NAME, STALE_NAN_BITS, is_stale};

/// Hash tables of the evaluator: keys are label texts of our own making.
pub(super) type Table64<K, V> = HashMap<K, V, foldhash::fast::FixedState>;

/// "No sample here".
pub(super) const ABSENT: f64 = f64::from_bits(STALE_NAN_BITS);

/// Whether there is no sample.
#[inline]
pub(super) fn is_absent(value: f64) -> bool {
    is_stale(value)
}

/// Times at which a node is evaluated: `start + i · step`, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grid {
    pub start: i64,
    pub step: i64,
    pub steps: usize,
}

impl Grid {
    /// From `start` to `end`, both inclusive.
    pub fn new(start: i64, end: i64, step: i64) -> Self {
        let step = step.max(1);
        let steps = if end < start {
            0
        } else {
            usize::try_from(end.saturating_sub(start) / step).map_or(0, |last| last.saturating_add(1))
        };
        Self { start, step, steps }
    }

    /// The one time `at`.
    pub fn instant(at: i64) -> Self {
        Self { start: at, step: 1, steps: 1 }
    }

    pub fn time(&self, i: usize) -> i64 {
        self.start.saturating_add(self.step.saturating_mul(i as i64))
    }

    pub fn end(&self) -> i64 {
        self.time(self.steps.saturating_sub(1))
    }
}

/// Which series a row is. A dropped metric name (with type and unit, where these are labels) stays in `labels` and is only
/// marked, so that no label set is built anew just to lose a name that the next aggregation loses anyway.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Key {
    pub labels: Labels,
    pub drop_name: bool,
}

/// Whether a dropped name is still seen until the query ends (`--enable-feature=promql-delayed-name-removal`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    DropAtOnce,
    DropAtEnd,
}

impl Key {
    pub fn new(labels: Labels) -> Self {
        Self { labels, drop_name: false }
    }

    /// The labels that functions and operators see.
    pub fn visible(&self, names: Names) -> Labels {
        if self.hides_name(names) { self.labels.without_metadata() } else { self.labels.clone() }
    }

    pub fn hides_name(&self, names: Names) -> bool {
        self.drop_name && names == Names::DropAtOnce
    }
}

/// Series × steps.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    pub keys: Vec<Key>,
    pub values: Vec<f64>,
    pub steps: usize,
}

impl Table {
    pub fn new(steps: usize) -> Self {
        Self { keys: Vec::new(), values: Vec::new(), steps }
    }

    pub fn with_capacity(steps: usize, rows: usize) -> Self {
        Self { keys: Vec::with_capacity(rows), values: Vec::with_capacity(rows * steps), steps }
    }

    pub fn row(&self, i: usize) -> &[f64] {
        &self.values[i * self.steps..(i + 1) * self.steps]
    }

    pub fn row_mut(&mut self, i: usize) -> &mut [f64] {
        &mut self.values[i * self.steps..(i + 1) * self.steps]
    }

    /// Adds a row of absent values and returns its index.
    pub fn push_absent(&mut self, key: Key) -> usize {
        self.keys.push(key);
        self.values.resize(self.values.len() + self.steps, ABSENT);
        self.keys.len() - 1
    }

    /// Adds the row that `fill` writes, unless it writes nothing.
    pub fn push_filled(
        &mut self,
        key: Key,
        fill: impl FnOnce(&mut [f64]) -> Result<bool, EvalError>,
    ) -> Result<(), EvalError> {
        let from = self.values.len();
        self.values.resize(from + self.steps, ABSENT);
        if fill(&mut self.values[from..])? {
            self.keys.push(key);
        } else {
            self.values.truncate(from);
        }
        Ok(())
    }

    /// Marks every row's metric name as dropped.
    ///
    /// # Errors
    /// When two rows become the same series (at the same step, unless `strict`: at any).
    pub fn drop_names(&mut self, names: Names, strict: bool) -> Result<(), EvalError> {
        let dropped = |key: &Key| METADATA_LABELS.map(|name| key.labels.value(name).to_owned());
        let is_equal = |key: &Key, all: &[String; 3]| {
            METADATA_LABELS.iter().zip(all).all(|(name, value)| key.labels.value(name) == value)
        };
        let first = self.keys.first().map(dropped);
        let same = first.is_none_or(|first| self.keys.iter().all(|key| is_equal(key, &first)));
        self.keys.iter_mut().for_each(|key| key.drop_name = true);
        if same || names == Names::DropAtEnd { Ok(()) } else { self.merge_same(names, strict) }
    }

    /// Joins rows whose visible labels are the same.
    ///
    /// # Errors
    /// When both have a sample at the same step, or `strict`.
    pub fn merge_same(&mut self, names: Names, strict: bool) -> Result<(), EvalError> {
        let mut seen: Table64<Labels, usize> = Table64::with_capacity_and_hasher(self.keys.len(), Default::default());
        let mut gone = Vec::new();
        for i in 0..self.keys.len() {
            let first = *seen.entry(self.keys[i].visible(names)).or_insert(i);
            if first == i {
                continue;
            }
            for step in 0..self.steps {
                let value = self.values[i * self.steps + step];
                let target = &mut self.values[first * self.steps + step];
                if strict || (!is_absent(value) && !is_absent(*target)) {
                    return Err(same_labelset());
                }
                if !is_absent(value) {
                    *target = value;
                }
            }
            gone.push(i);
        }
        self.remove_rows(&gone);
        Ok(())
    }

    /// Removes rows by rising index.
    fn remove_rows(&mut self, gone: &[usize]) {
        if gone.is_empty() {
            return;
        }
        let order: Vec<usize> = (0..self.keys.len()).filter(|i| gone.binary_search(i).is_err()).collect();
        self.reorder(&order);
    }

    /// Keeps the rows of `order`, in that order.
    pub fn reorder(&mut self, order: &[usize]) {
        let mut values = Vec::with_capacity(order.len() * self.steps);
        for &i in order {
            values.extend_from_slice(self.row(i));
        }
        self.keys = order.iter().map(|&i| self.keys[i].clone()).collect();
        self.values = values;
    }

    /// Removes rows without any sample.
    pub fn remove_empty(&mut self) {
        let gone: Vec<usize> =
            (0..self.keys.len()).filter(|&i| self.row(i).iter().all(|value| is_absent(*value))).collect();
        self.remove_rows(&gone);
    }

    /// Replaces every sample by `f` of it.
    pub fn map(&mut self, f: impl Fn(f64) -> f64) {
        for value in &mut self.values {
            if !is_absent(*value) {
                *value = f(*value);
            }
        }
    }

    /// Repeats the only step `steps` times.
    pub fn repeated(self, steps: usize) -> Self {
        debug_assert_eq!(self.steps, 1);
        let values = self.values.iter().flat_map(|value| std::iter::repeat_n(*value, steps)).collect();
        Self { keys: self.keys, values, steps }
    }
}

pub(super) fn same_labelset() -> EvalError {
    EvalError::Execution("vector cannot contain metrics with the same labelset".to_owned())
}

/// Which part of a label set makes a group or a match.
pub(super) struct Projection<'a> {
    /// Sorted.
    labels: Vec<&'a str>,
    keep: bool,
    names: Names,
    buffer: Vec<u8>,
}

impl<'a> Projection<'a> {
    /// Only `labels`.
    pub fn only(labels: &'a [String], names: Names) -> Self {
        Self::new(labels.iter().map(String::as_str).collect(), true, names)
    }

    /// All but `labels`; the metric name too unless `with_name`.
    pub fn without(labels: &'a [String], with_name: bool, names: Names) -> Self {
        let mut labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        if !with_name {
            labels.push(METRIC_NAME);
        }
        Self::new(labels, false, names)
    }

    /// Only `labels` when they are to be kept, else all others.
    pub fn new(mut labels: Vec<&'a str>, keep: bool, names: Names) -> Self {
        labels.sort_unstable();
        labels.dedup();
        Self { labels, keep, names, buffer: Vec::new() }
    }

    fn selects(&self, key: &Key, name: &str) -> bool {
        self.labels.binary_search(&name).is_ok() == self.keep
            && !(key.hides_name(self.names) && METADATA_LABELS.contains(&name))
    }

    /// A text that is the same for keys that agree in the selected labels.
    pub fn signature(&mut self, key: &Key) -> &[u8] {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        // Both are sorted by name, so one walk over them does.
        let mut wanted = self.labels.iter().peekable();
        let hides_name = key.hides_name(self.names);
        for (name, value) in key.labels.iter() {
            while wanted.next_if(|label| **label < name).is_some() {}
            match wanted.peek() {
                None if self.keep => break,
                next if next.is_some_and(|label| **label == name) != self.keep => continue,
                _ if hides_name && METADATA_LABELS.contains(&name) => continue,
                _ => {}
            }
            for piece in [name, value] {
                buffer.extend_from_slice(piece.as_bytes());
                buffer.push(0xff);
            }
        }
        self.buffer = buffer;
        &self.buffer
    }

    /// The selected labels themselves.
    pub fn labels(&self, key: &Key) -> Labels {
        key.labels.filter(|name| self.selects(key, name))
    }
}

/// Numbers signatures in the order in which they come.
#[derive(Default)]
pub(super) struct Ordinals(Table64<Box<[u8]>, usize>);

impl Ordinals {
    pub fn of(&mut self, signature: &[u8]) -> usize {
        if let Some(ordinal) = self.0.get(signature) {
            return *ordinal;
        }
        let ordinal = self.0.len();
        self.0.insert(signature.into(), ordinal);
        ordinal
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}
