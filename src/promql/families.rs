//! Aggregates a function of ranges over series that came family by family, as the buckets of histograms do.
//!
//! `sum by (le, workload) (rate(x_bucket[5m]))` over 20,000 series are a thousand families of twenty rows: labels are
//! looked at once a family, the borders of windows are found once for all rows with the same times, and of a counter
//! without resets only the first and last value of a window are read.
//!
//! In: families, and series that came alone. Out: rows of values with the number of their group, in the order in which the
//! general way ([`super::window`], then [`super::aggregate`]) has them. Invariant: to the bit what the general way gives.

use std::sync::Arc;

use super::ast::{Aggregate, AggregateOp, Kind, Span, VectorSelector};
use super::error::EvalError;
use super::eval::{Evaluator, RangeSeries, RangeVector};
use super::functions::{RangeRule, Rule};
use super::grouping::{BOUND, Grouping};
use super::plan::Selected;
use super::table::{ABSENT, Grid, Key, Names, Ordinals, Projection, Table64};
use super::window::{self, Reach};
use crate::model::{Labels, Timestamp, is_stale};
use crate::series::Family;

/// An aggregation that can be evaluated so, as far as the expression tells.
pub(super) struct Candidate<'a> {
    pub selector: &'a VectorSelector,
    /// Name of the function around the selector.
    pub function: &'static str,
    rule: RangeRule,
    span: Span,
}

/// Whether `node` folds the values of a function that needs nothing but the samples of a range.
pub(super) fn candidate(node: &Aggregate) -> Option<Candidate<'_>> {
    use AggregateOp::{Avg, Count, Group, Max, Min, Stddev, Stdvar, Sum};
    let folds = matches!(node.op, Sum | Avg | Count | Group | Min | Max | Stddev | Stdvar);
    let Kind::Call { function, args } = &node.inner.unwrapped().kind else { return None };
    let (Rule::Range(rule), [arg]) = (function.rule, &args[..]) else { return None };
    let inner = arg.unwrapped();
    let Kind::Selector(selector) = &inner.kind else { return None };
    // `last_over_time` keeps names; a window fixed by `@` is evaluated once for all steps.
    let is_plain = rule != RangeRule::Last && selector.at.is_none() && selector.range_ms.is_some();
    let candidate = Candidate { selector, function: function.name, rule, span: inner.span };
    (folds && is_plain).then_some(candidate)
}

/// Takes the number of a group and the values of one of its rows.
pub(super) type Fold<'f> = &'f mut dyn FnMut(usize, &[f64]);

/// Hands the rows of `node` to `fold` and returns the groups; `None` when the general way must be taken.
pub(super) fn fold_rows<'a>(
    evaluator: &Evaluator<'a>,
    node: &'a Aggregate,
    grid: Grid,
    fold: Fold<'_>,
) -> Result<Option<Vec<Key>>, EvalError> {
    let Some(Candidate { selector, rule, span, .. }) = candidate(node) else { return Ok(None) };
    let (context, input) = (evaluator.context, &*evaluator.context.inputs[selector.id]);
    let Some(name) = common_name(input).filter(|_| context.names == Names::DropAtOnce) else { return Ok(None) };
    let vector = RangeVector {
        series: Vec::new(),
        range_ms: selector.range_ms.unwrap_or(0),
        offset_ms: selector.offset_ms,
        at_ms: None,
        span,
        thinned_until_ms: context.thinned_until_ms[selector.id],
        widened_until_ms: i64::MIN,
    };
    if grid.steps == 0 || vector.window(grid, 0).0 < vector.thinned_until_ms {
        return Ok(None);
    }
    evaluator.reserve(input.sizes().0, grid.steps)?;
    let mut rows =
        Rows { rule, grid, vector, windows: Windows::default(), row: vec![ABSENT; grid.steps], scratch: Vec::new() };
    let mut groups = Groups::new(node, context.names);
    for family in &input.families {
        evaluator.spend(family.values.len() + grid.steps)?;
        rows.windows.find_in(&family.times, &rows.vector, grid);
        let of_family = groups.family(family);
        for (i, (bound, values)) in family.rows().enumerate() {
            if rows.of_values(evaluator, &family.times, values)? {
                fold(groups.of_row(of_family, i, bound), &rows.row);
            }
        }
    }
    for series in input.alone() {
        evaluator.spend(series.values.len() + grid.steps)?;
        rows.windows.find_in(&series.times, &rows.vector, grid);
        if rows.of_values(evaluator, &series.times, &series.values)? {
            fold(groups.of_series(&series.labels), &rows.row);
        }
    }
    if !groups.keys.is_empty() {
        window::doubt(evaluator, rule, name, span);
    }
    Ok(Some(groups.keys))
}

/// The metric name of all families and series; `None` without families, or with several names: then rows might become the
/// same series without it.
fn common_name(input: &Selected) -> Option<&str> {
    let name = input.families.first()?.names.labels.metric_name();
    let mut labels = input.families.iter().map(|family| &family.names.labels);
    let mut alone = input.alone().iter().map(|series| &series.labels);
    let same = |labels: &Labels| labels.metric_name() == name;
    (!name.is_empty() && labels.all(same) && alone.all(same)).then_some(name)
}

/// The window of each step in one column of times.
#[derive(Default)]
struct Windows {
    /// The column they were found in.
    times: Option<Arc<[Timestamp]>>,
    found: Vec<Window>,
}

struct Window {
    low: usize,
    high: usize,
    reach: Option<Reach>,
}

impl Windows {
    /// Finds the windows of a column, unless they are those found last.
    fn find_in(&mut self, times: &Arc<[Timestamp]>, vector: &RangeVector<'_>, grid: Grid) {
        if !self.times.as_ref().is_some_and(|last| Arc::ptr_eq(last, times)) {
            self.times = Some(Arc::clone(times));
            self.find(times, vector, grid);
        }
    }

    fn find(&mut self, times: &[Timestamp], vector: &RangeVector<'_>, grid: Grid) {
        self.found.clear();
        let (mut low, mut high) = (0, 0);
        for step in 0..grid.steps {
            let (start, end) = vector.window(grid, step);
            high += times[high..].partition_point(|at| at.as_millis() <= end);
            low += times[low..high].partition_point(|at| at.as_millis() <= start);
            let reach = Reach::of(&times[low..high], (start, end));
            self.found.push(Window { low, high, reach });
        }
    }
}

/// Evaluates the function row by row.
struct Rows<'a> {
    rule: RangeRule,
    grid: Grid,
    vector: RangeVector<'a>,
    windows: Windows,
    /// The values of the row that was evaluated last.
    row: Vec<f64>,
    scratch: Vec<f64>,
}

impl<'a> Rows<'a> {
    /// Fills `row` from samples at the times of `windows`; false when no step has a value.
    fn of_values(
        &mut self,
        evaluator: &Evaluator<'_>,
        times: &Arc<[Timestamp]>,
        values: &[f64],
    ) -> Result<bool, EvalError> {
        self.row.fill(ABSENT);
        if values.iter().any(|value| is_stale(*value)) {
            let fresh = RangeSeries::without_stale(Key::new(Labels::empty()), times, values);
            let mut of_column = Windows::default();
            of_column.find(&fresh.times, &self.vector, self.grid);
            return self.of_windows(evaluator, &of_column.found, (&fresh.times, &fresh.values));
        }
        let windows = std::mem::take(&mut self.windows.found);
        let any = match window::extrapolation(self.rule) {
            Some(kind) => Ok(self.extrapolated(&windows, values, kind)),
            None => self.of_windows(evaluator, &windows, (times, values)),
        };
        self.windows.found = windows;
        any
    }

    /// Any function, window by window.
    fn of_windows(
        &mut self,
        evaluator: &Evaluator<'_>,
        windows: &[Window],
        (times, values): (&[Timestamp], &[f64]),
    ) -> Result<bool, EvalError> {
        let mut any = false;
        for (step, Window { low, high, .. }) in
            windows.iter().enumerate().filter(|(_, window)| window.low < window.high)
        {
            evaluator.spend(high - low)?;
            let samples = (&times[*low..*high], &values[*low..*high]);
            let borders = (self.vector.window(self.grid, step), self.grid.time(step));
            if let Some(value) = window::of_samples(self.rule, samples, borders, &mut self.scratch) {
                self.row[step] = value;
                any = true;
            }
        }
        Ok(any)
    }

    /// `rate`, `increase` and `delta` without stale markers.
    fn extrapolated(&mut self, windows: &[Window], values: &[f64], kind: (bool, bool)) -> bool {
        let mut any = false;
        let rises = !values.windows(2).any(|pair| pair[1] < pair[0]);
        for (Window { low, high, reach }, out) in windows.iter().zip(&mut self.row) {
            let Some(reach) = reach else { continue };
            let first = values[*low];
            let change = if rises { values[*high - 1] - first } else { window::change(&values[*low..*high], kind.0) };
            *out = reach.extrapolated(first, change, kind);
            any = true;
        }
        any
    }
}

/// Not numbered yet.
const NONE: usize = usize::MAX;

/// Numbers groups in the order in which rows with values come.
struct Groups<'a> {
    rest: Projection<'a>,
    by_bound: bool,
    rests: Ordinals,
    bounds: Ordinals,
    numbers: Table64<(usize, usize), usize>,
    keys: Vec<Key>,
    /// Labels of a group without its bound, by the number of these.
    labels: Vec<Labels>,
    /// By the number of the other labels and the list of bounds, where in `of_row` its rows begin.
    families: Table64<(usize, usize), usize>,
    /// The group of each row of a list of bounds.
    of_row: Vec<usize>,
}

/// A family among others with the same bounds and the same labels that count.
#[derive(Clone, Copy)]
struct Kin {
    rest: usize,
    start: usize,
}

impl<'a> Groups<'a> {
    fn new(node: &'a Aggregate, names: Names) -> Self {
        let (rest, by_bound) = Grouping::parts(&node.grouping, node.without, names);
        Self {
            rest,
            by_bound,
            rests: Ordinals::default(),
            bounds: Ordinals::default(),
            numbers: Table64::default(),
            keys: Vec::new(),
            labels: Vec::new(),
            families: Table64::default(),
            of_row: Vec::new(),
        }
    }

    fn rest_of(&mut self, labels: &Labels) -> usize {
        let key = Key { labels: labels.clone(), drop_name: true };
        let rest = self.rests.of(self.rest.signature(&key));
        if rest == self.labels.len() {
            self.labels.push(self.rest.labels(&key));
        }
        rest
    }

    fn family(&mut self, family: &Family) -> Kin {
        let rest = self.rest_of(&family.names.labels);
        // The input holds the list for as long as this, so its address stands for it.
        let list = Arc::as_ptr(&family.names.bounds).cast::<u8>().addr();
        let of_row = &mut self.of_row;
        let start = *self.families.entry((rest, list)).or_insert_with(|| {
            let start = of_row.len();
            of_row.resize(start + family.names.bounds.len(), NONE);
            start
        });
        Kin { rest, start }
    }

    fn of_row(&mut self, Kin { rest, start }: Kin, i: usize, bound: &str) -> usize {
        match self.of_row[start + i] {
            NONE => {
                let group = self.number(rest, bound);
                self.of_row[start + i] = group;
                group
            }
            group => group,
        }
    }

    fn of_series(&mut self, labels: &Labels) -> usize {
        let rest = self.rest_of(labels);
        self.number(rest, labels.value(BOUND))
    }

    fn number(&mut self, rest: usize, bound: &str) -> usize {
        let bound_number = if self.by_bound { self.bounds.of(bound.as_bytes()) } else { 0 };
        let next = self.keys.len();
        let group = *self.numbers.entry((rest, bound_number)).or_insert(next);
        if group == next {
            let labels = &self.labels[rest];
            let labels = if self.by_bound { labels.with(BOUND, bound) } else { labels.clone() };
            self.keys.push(Key { labels, drop_name: false });
        }
        group
    }
}

#[cfg(test)]
mod tests;
