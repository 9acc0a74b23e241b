//! Numbers the groups of rows. Rows of a histogram lie one after another and differ only in their bucket's bound, so the
//! other labels are looked at once for all of them.
//!
//! In: keys, row by row. Out: the number of the group of each, in the order in which groups come. Invariant: two rows have
//! one number exactly when they agree in the labels that count.

use super::table::{Key, Names, Ordinals, Projection, Table64};
use crate::model::{METRIC_NAME, Neighbours};

/// The label of a bucket's upper bound.
pub(super) const BOUND: &str = "le";

/// Finds the group of one row after another.
pub(super) struct Grouping<'a> {
    /// Of the labels that count, all but the bound.
    rest: Projection<'a>,
    /// Whether the bound counts.
    by_bound: bool,
    neighbours: Neighbours<'a>,
    rests: Ordinals,
    bounds: Ordinals,
    groups: Table64<(usize, usize), usize>,
    /// What the last row had: the number of its other labels, and whether its name was dropped.
    last: Option<(usize, bool)>,
}

impl<'a> Grouping<'a> {
    /// Groups by the labels `grouping`, or by all but these and the metric name.
    pub fn new(grouping: &'a [String], without: bool, names: Names) -> Self {
        let (rest, by_bound) = Self::parts(grouping, without, names);
        Self::of_rest(rest, by_bound)
    }

    /// Of the labels that count, all but the bound; and whether the bound counts.
    pub fn parts(grouping: &'a [String], without: bool, names: Names) -> (Projection<'a>, bool) {
        let is_listed = grouping.iter().any(|label| label == BOUND);
        let labels = grouping.iter().map(String::as_str).filter(|label| *label != BOUND);
        let rest = if without {
            Projection::new(labels.chain([BOUND, METRIC_NAME]).collect(), false, names)
        } else {
            Projection::new(labels.collect(), true, names)
        };
        (rest, is_listed != without)
    }

    /// Groups by all labels but the bound.
    pub fn of_histograms(names: Names) -> Self {
        Self::of_rest(Projection::new(vec![BOUND], false, names), false)
    }

    fn of_rest(rest: Projection<'a>, by_bound: bool) -> Self {
        let (rests, bounds) = (Ordinals::default(), Ordinals::default());
        Self {
            rest,
            by_bound,
            neighbours: Neighbours::new(BOUND),
            rests,
            bounds,
            groups: Table64::default(),
            last: None,
        }
    }

    /// The group of a row, and its bound.
    pub fn of(&mut self, key: &'a Key) -> (usize, &'a str) {
        let (bound, is_neighbour) = self.neighbours.follow(&key.labels);
        let rest = match self.last {
            Some((rest, drop_name)) if is_neighbour && drop_name == key.drop_name => rest,
            _ => self.rests.of(self.rest.signature(key)),
        };
        self.last = Some((rest, key.drop_name));
        if !self.by_bound {
            return (rest, bound);
        }
        let next = self.groups.len();
        (*self.groups.entry((rest, self.bounds.of(bound.as_bytes()))).or_insert(next), bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Labels;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = Key> {
        let value = || prop::sample::select(vec!["", "1", "2", "10", "+Inf"]);
        let names = ["__name__", "a", "le", "lf", "z"];
        (prop::array::uniform5(value()), any::<bool>()).prop_map(move |(values, drop_name)| Key {
            labels: Labels::from_pairs(names.into_iter().zip(values)),
            drop_name,
        })
    }

    proptest! {
        #[test]
        fn groups_are_those_of_the_labels_that_count(
            keys in prop::collection::vec(key(), 0..40),
            grouping in prop::sample::subsequence(vec!["a", "le", "lf", "none", "z"], 0..5),
            without: bool,
            at_once: bool,
        ) {
            let grouping: Vec<String> = grouping.into_iter().map(str::to_owned).collect();
            let names = if at_once { Names::DropAtOnce } else { Names::DropAtEnd };
            let mut whole = match without {
                true => Projection::without(&grouping, false, names),
                false => Projection::only(&grouping, names),
            };
            let (mut ordinals, mut found) = (Ordinals::default(), Grouping::new(&grouping, without, names));
            for key in &keys {
                let (group, bound) = found.of(key);
                prop_assert_eq!(group, ordinals.of(whole.signature(key)));
                prop_assert_eq!(bound, key.labels.value(BOUND));
            }
            let dropped = [BOUND.to_owned()];
            let mut whole = Projection::without(&dropped, true, names);
            let (mut ordinals, mut found) = (Ordinals::default(), Grouping::of_histograms(names));
            for key in &keys {
                prop_assert_eq!(found.of(key).0, ordinals.of(whole.signature(key)));
            }
        }
    }
}
