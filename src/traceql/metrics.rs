//! Series of the spans that match: the metrics functions.
//!
//! In: traces, one after the other. Out: series with a point for each step. Pure. Invariant: at most [`SERIES_MAX`] series
//! and [`CELLS_MAX`] points are held; spans that would need more are counted in [`Series::dropped`]. Quantiles and
//! histograms are of buckets that double, as Tempo's are, so a quantile is exact only to its bucket.

use std::collections::HashMap;

use super::ast::{Attribute, Function, Intrinsic, Metrics, Query};
use super::fields::Trace;
use super::value::Value;

/// Series of one query.
pub const SERIES_MAX: usize = 1000;
/// Points of all series of one query.
pub const CELLS_MAX: usize = 200_000;
const BUCKETS: usize = 64;

/// The steps of a query: those that begin in `[start_ms, end_ms)`, milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Steps {
    /// Begin of the first.
    pub start_ms: i64,
    /// End of the last.
    pub end_ms: i64,
    /// Length of each, at least 1.
    pub step_ms: i64,
}

impl Steps {
    /// How many.
    pub fn count(&self) -> usize {
        let span = self.end_ms.saturating_sub(self.start_ms).max(0) as u64;
        span.div_ceil(self.step_ms.max(1) as u64) as usize
    }

    fn of(&self, start_ns: u64) -> Option<usize> {
        let ms = i64::try_from(start_ns / 1_000_000).ok()?;
        (ms >= self.start_ms && ms < self.end_ms).then(|| ((ms - self.start_ms) / self.step_ms.max(1)) as usize)
    }
}

/// One series of the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricSeries {
    /// Names and values of its labels.
    pub labels: Vec<(String, Value)>,
    /// Milliseconds since the epoch, and the value.
    pub points: Vec<(i64, f64)>,
}

#[derive(Clone)]
struct Cell {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    buckets: Option<Box<[u32; BUCKETS]>>,
}

/// Gathers series from traces.
pub struct Series {
    query: Query,
    metrics: Metrics,
    steps: Steps,
    known: HashMap<String, usize>,
    found: Vec<(Vec<Value>, Vec<Cell>)>,
    /// Whether the measured field is a duration, which is told in seconds.
    seconds: bool,
    /// Spans that found no place.
    pub dropped: u64,
}

impl Series {
    /// Nothing yet. `None` when the query makes no series.
    pub fn new(query: &Query, steps: Steps) -> Option<Self> {
        let metrics = query.metrics.clone()?;
        let intrinsic = match &metrics.field {
            Some(Attribute::Intrinsic(intrinsic)) => Some(*intrinsic),
            _ => None,
        };
        let seconds =
            matches!(intrinsic, Some(Intrinsic::Duration | Intrinsic::TraceDuration | Intrinsic::EventTimeSinceStart));
        let (known, found) = (HashMap::new(), Vec::new());
        Some(Self { query: query.clone(), metrics, steps, known, found, seconds, dropped: 0 })
    }

    /// Adds the spans of one trace that match.
    pub fn add(&mut self, trace: &Trace<'_>) {
        for set in self.query.run(trace) {
            for at in set.spans {
                self.add_span(trace, at as usize);
            }
        }
    }

    fn add_span(&mut self, trace: &Trace<'_>, at: usize) {
        let Some(step) = self.steps.of(trace.spans[at].start_ns) else { return };
        let value = match &self.metrics.field {
            None => 0.0,
            Some(field) => match trace.values(at, field).first().and_then(Value::number) {
                Some(number) => number,
                None => return,
            },
        };
        let first = |attribute: &Attribute| trace.values(at, attribute).into_iter().next().unwrap_or(Value::Nil);
        let labels: Vec<Value> = self.metrics.by.iter().map(first).collect();
        let steps = self.steps.count();
        let next = self.found.len();
        let key = format!("{labels:?}");
        let place = match self.known.get(&key) {
            Some(place) => *place,
            None if next < SERIES_MAX && (next + 1) * steps <= CELLS_MAX => {
                self.known.insert(key, next);
                let empty = Cell { count: 0, sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY, buckets: None };
                self.found.push((labels, vec![empty; steps]));
                next
            }
            None => return self.dropped += 1,
        };
        if let Some(cell) = self.found[place].1.get_mut(step) {
            cell.add(value, matches!(self.metrics.function, Function::Quantile | Function::Histogram));
        }
    }

    /// The series, in order of first appearance.
    pub fn finish(self) -> Vec<MetricSeries> {
        let unit = if self.seconds { 1e9 } else { 1.0 };
        let mut out = Vec::new();
        for (values, cells) in &self.found {
            let names = self.metrics.by.iter().map(Attribute::written);
            let labels: Vec<(String, Value)> = names.zip(values.iter().cloned()).collect();
            match self.metrics.function {
                Function::Quantile => {
                    for quantile in &self.metrics.quantiles {
                        let of = |cell: &Cell| cell.quantile(*quantile).map(|value| value / unit);
                        out.push(self.series(&labels, Some(("p", *quantile)), cells, of));
                    }
                }
                Function::Histogram => {
                    for bucket in 0..BUCKETS {
                        let of = |cell: &Cell| cell.buckets.as_ref().map(|buckets| f64::from(buckets[bucket]));
                        if cells.iter().any(|cell| of(cell).is_some_and(|count| count > 0.0)) {
                            let bound = 2_f64.powi(bucket as i32) / unit;
                            let or_zero = |cell: &Cell| Some(of(cell).unwrap_or(0.0));
                            out.push(self.series(&labels, Some(("__bucket", bound)), cells, or_zero));
                        }
                    }
                }
                function => {
                    let seconds = self.steps.step_ms as f64 / 1000.0;
                    let of = |cell: &Cell| match function {
                        Function::Rate => Some(cell.count as f64 / seconds),
                        Function::Count => Some(cell.count as f64),
                        _ if cell.count == 0 => None,
                        Function::Min => Some(cell.min / unit),
                        Function::Max => Some(cell.max / unit),
                        Function::Sum => Some(cell.sum / unit),
                        _ => Some(cell.sum / cell.count as f64 / unit),
                    };
                    out.push(self.series(&labels, None, cells, of));
                }
            }
        }
        out
    }

    fn series(
        &self,
        labels: &[(String, Value)],
        extra: Option<(&str, f64)>,
        cells: &[Cell],
        of: impl Fn(&Cell) -> Option<f64>,
    ) -> MetricSeries {
        let mut labels = labels.to_vec();
        labels.extend(extra.map(|(name, value)| (name.to_owned(), Value::Float(value))));
        if labels.is_empty() {
            labels.push(("__name__".to_owned(), Value::String(self.metrics.function.name().into())));
        }
        let at = |step: usize| self.steps.start_ms + step as i64 * self.steps.step_ms;
        let points = cells.iter().enumerate().filter_map(|(step, cell)| Some((at(step), of(cell)?))).collect();
        MetricSeries { labels, points }
    }
}

impl Cell {
    fn add(&mut self, value: f64, bucketed: bool) {
        self.count += 1;
        self.sum += value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        if bucketed {
            // The bucket of a value is the next power of two; below two there is one for all.
            let bucket = if value > 1.0 { (value.log2().ceil() as usize).min(BUCKETS - 1) } else { 0 };
            let buckets = self.buckets.get_or_insert_with(|| Box::new([0; BUCKETS]));
            buckets[bucket] = buckets[bucket].saturating_add(1);
        }
    }

    /// Within a bucket values are taken to rise evenly on a logarithmic scale, as Tempo does.
    fn quantile(&self, quantile: f64) -> Option<f64> {
        let buckets = self.buckets.as_ref()?;
        let wanted = (quantile * self.count as f64).ceil().max(1.0);
        let mut below = 0.0;
        for (bucket, count) in buckets.iter().enumerate().filter(|(_, count)| **count > 0) {
            let count = f64::from(*count);
            if below + count >= wanted {
                return Some(2_f64.powf(bucket as f64 - 1.0 + (wanted - below) / count));
            }
            below += count;
        }
        None
    }
}

impl Function {
    fn name(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Count => "count_over_time",
            Self::Min => "min_over_time",
            Self::Max => "max_over_time",
            Self::Avg => "avg_over_time",
            Self::Sum => "sum_over_time",
            Self::Quantile => "quantile_over_time",
            Self::Histogram => "histogram_over_time",
        }
    }
}
