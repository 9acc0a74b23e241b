//! Writes what a rule produced to the memory tier, and ends what it no longer produces.
//!
//! In: samples. Out: appended samples and stale markers. Invariant: a series of the evaluation before that is missing now
//! gets a stale marker, unless the evaluation failed.

use std::collections::HashMap;

use crate::model::{Labels, Timestamp, stale_marker};
use crate::series::{Appended, Head, SeriesRef};

/// The series that a rule wrote at its last successful evaluation.
#[derive(Default)]
pub struct Produced(HashMap<Labels, SeriesRef>);

impl Produced {
    /// The series.
    pub fn into_labels(self) -> impl Iterator<Item = Labels> {
        self.0.into_keys()
    }

    /// Appends `samples` at `at`, and stale markers for what is no longer among them.
    ///
    /// # Errors
    /// When samples are refused; the others are stored all the same.
    pub fn commit(&mut self, head: &Head, samples: Vec<(Labels, f64)>, at: Timestamp) -> Result<(), String> {
        let mut produced = HashMap::with_capacity(samples.len());
        let mut batch = Vec::with_capacity(samples.len());
        let mut refused = None;
        for (labels, value) in samples {
            let known = self.0.get(&labels).copied();
            match known.map_or_else(|| head.intern(&labels), Ok) {
                Ok(series) => {
                    batch.push((series, value));
                    produced.insert(labels, series);
                }
                Err(error) => refused = Some(error.to_string()),
            }
        }
        let mut appended = head.append_at(at, &batch);
        if !appended.vanished.is_empty() {
            appended = self.again(head, &mut produced, &batch, (at, appended));
        }
        let gone: Vec<(SeriesRef, f64)> = (self.0.iter())
            .filter(|(labels, _)| !produced.contains_key(*labels))
            .map(|(_, series)| (*series, stale_marker()))
            .collect();
        // A marker is refused when another rule writes the series now, and a vanished series needs none.
        head.append_at(at, &gone);
        self.0 = produced;
        let Appended { conflicting, out_of_order, .. } = appended;
        match (refused, conflicting, out_of_order) {
            (Some(error), ..) => Err(error),
            (None, 0, 0) => Ok(()),
            (None, 0, count) => Err(format!("out of order sample: {count} refused")),
            (None, count, _) => Err(format!("duplicate sample for timestamp: {count} refused")),
        }
    }

    /// Series that the memory tier has dropped since are interned anew.
    fn again(
        &self,
        head: &Head,
        produced: &mut HashMap<Labels, SeriesRef>,
        batch: &[(SeriesRef, f64)],
        (at, mut appended): (Timestamp, Appended),
    ) -> Appended {
        let by_series: HashMap<SeriesRef, Labels> =
            produced.iter().map(|(labels, series)| (*series, labels.clone())).collect();
        let mut second = Vec::new();
        for &i in &appended.vanished {
            let (series, value) = batch[i];
            if let Some(labels) = by_series.get(&series)
                && let Ok(series) = head.intern(labels)
            {
                produced.insert(labels.clone(), series);
                second.push((series, value));
            }
        }
        let more = head.append_at(at, &second);
        appended.conflicting += more.conflicting;
        appended.out_of_order += more.out_of_order;
        appended
    }
}

/// Ends series that nothing produces any more.
pub fn end_series(head: &Head, series: &[Labels], at: Timestamp) {
    let batch: Vec<(SeriesRef, f64)> =
        series.iter().filter_map(|labels| head.intern(labels).ok()).map(|series| (series, stale_marker())).collect();
    head.append_at(at, &batch);
}
