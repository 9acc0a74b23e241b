//! The series that a script loads: sorted vectors, no limits but memory.

use std::cell::Cell;
use std::collections::BTreeMap;

use super::series::Point;
use crate::model::{Labels, Timestamp};
use crate::promql::plan::Want;
use crate::series::SeriesSamples;

#[derive(Default)]
pub(super) struct Store {
    series: BTreeMap<Labels, BTreeMap<i64, Point>>,
    /// Whether a native histogram was among what was selected last.
    met_histogram: Cell<bool>,
}

impl Store {
    /// Adds values at multiples of `step_ms` from the epoch on.
    pub fn load(&mut self, labels: Labels, points: &[Point], step_ms: i64) {
        let series = self.series.entry(labels).or_default();
        for (i, point) in points.iter().enumerate().filter(|(_, point)| **point != Point::Missing) {
            series.insert(step_ms * i as i64, *point);
        }
    }

    pub fn clear(&mut self) {
        self.series.clear();
    }

    /// Whether a native histogram was selected since the last call.
    pub fn take_met_histogram(&self) -> bool {
        self.met_histogram.take()
    }

    pub fn select(&self, want: &Want) -> Vec<SeriesSamples> {
        let mut found = Vec::new();
        let matching =
            self.series.iter().filter(|(labels, _)| want.matchers.iter().all(|matcher| matcher.matches_labels(labels)));
        for (labels, points) in matching {
            let (mut times, mut values) = (Vec::new(), Vec::new());
            if want.from > want.to {
                continue;
            }
            for (at, point) in points.range(want.from..=want.to) {
                match point {
                    Point::Value(value) => {
                        times.push(Timestamp::from_millis(*at));
                        values.push(*value);
                    }
                    Point::Histogram => self.met_histogram.set(true),
                    Point::Missing => {}
                }
            }
            if !times.is_empty() {
                found.push(SeriesSamples { labels: labels.clone(), times: times.into(), values });
            }
        }
        found
    }
}
