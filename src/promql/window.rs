//! Functions over a window of samples: `rate`, `*_over_time`, `deriv` and their like.
//!
//! Invariant: a window is never empty and holds no stale marker; its left border is open, its right border closed.

use super::annotate::short_number;
use super::ast::{Node, Span};
use super::error::EvalError;
use super::eval::Evaluator;
use super::functions::RangeRule;
use super::kahan::{self, Mean, Sum};
use super::lex::quote;
use super::table::{Grid, Table};
use super::widen;
use crate::model::Timestamp;

/// The samples of one step and what the step gives the function.
struct Window<'a> {
    times: &'a [Timestamp],
    values: &'a [f64],
    /// Borders, in milliseconds.
    start: i64,
    end: i64,
    /// The time of the step, in milliseconds.
    at: i64,
    /// The scalar arguments.
    first: f64,
    second: f64,
}

/// Evaluates the function over every window.
pub(super) fn eval<'a>(
    evaluator: &Evaluator<'a>,
    rule: RangeRule,
    args: &'a [Node],
    grid: Grid,
) -> Result<Table, EvalError> {
    let matrix_at = usize::from(rule == RangeRule::Quantile);
    let mut scalars = Vec::with_capacity(2);
    for (i, arg) in args.iter().enumerate() {
        if i != matrix_at {
            scalars.push(evaluator.scalar(arg, grid)?);
        }
    }
    let mut vector = evaluator.range_vector(&args[matrix_at], grid)?;
    widen::widen(evaluator, rule, &mut vector, grid);
    evaluator.reserve(vector.series.len(), grid.steps)?;
    let scalar = |i: usize, step: usize| scalars.get(i).map_or(0.0, |values| values[step]);
    let mut table = Table::with_capacity(grid.steps, vector.series.len());
    let mut scratch = Vec::new();
    let mut doubted = String::new();
    for series in &vector.series {
        evaluator.spend(series.values.len() + grid.steps)?;
        let mut key = series.key.clone();
        key.drop_name |= rule != RangeRule::Last;
        let mut failed = None;
        let rows = table.keys.len();
        table.push_filled(key, |row| {
            let any = series.slide(&vector, grid, row, |step, times, values| {
                let (start, end) = vector.window(grid, step);
                let (first, second) = (scalar(0, step), scalar(1, step));
                if rule == RangeRule::Quantile && !(0.0..=1.0).contains(&first) {
                    let message = format!("quantile value should be between 0 and 1, got {}", short_number(first));
                    evaluator.warn(message, args[0].unwrapped().span);
                }
                let window = Window { times, values, start, end, at: grid.time(step), first, second };
                // One series may have millions of samples in each of thousands of windows.
                if failed.is_some() {
                    return None;
                }
                let value = evaluator
                    .spend(values.len())
                    .and_then(|()| apply(rule, &window, &mut scratch).map_err(EvalError::Execution))
                    .unwrap_or_else(|error| {
                        failed = Some(error);
                        None
                    });
                let share = widen::share(rule, vector.range_ms, end - start);
                if share == 1.0 { value } else { value.map(|value| value * share) }
            });
            failed.map_or(Ok(any), Err)
        })?;
        let named = table.keys.len() > rows && !series.key.hides_name(evaluator.context.names);
        if named && matches!(rule, RangeRule::Rate | RangeRule::Increase) {
            doubt_counter(evaluator, series.key.labels.metric_name(), &mut doubted, vector.span);
        }
    }
    if rule != RangeRule::Last {
        table.drop_names(evaluator.context.names, true)?;
    }
    Ok(table)
}

/// Tells, as `rate` and `increase` do, when a name does not say that it is a counter.
pub(super) fn doubt(evaluator: &Evaluator<'_>, rule: RangeRule, name: &str, span: Span) {
    if matches!(rule, RangeRule::Rate | RangeRule::Increase) {
        doubt_counter(evaluator, name, &mut String::new(), span);
    }
}

/// Tells of a series whose name does not say that it is a counter; `doubted` is the name told of last.
fn doubt_counter(evaluator: &Evaluator<'_>, name: &str, doubted: &mut String, span: Span) {
    const COUNTERS: [&str; 4] = ["_total", "_sum", "_count", "_bucket"];
    if name.is_empty() || name == doubted || COUNTERS.iter().any(|suffix| name.ends_with(suffix)) {
        return;
    }
    name.clone_into(doubted);
    let message =
        format!("metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {}", quote(name));
    evaluator.inform(message, span);
}

fn apply(rule: RangeRule, window: &Window<'_>, scratch: &mut Vec<f64>) -> Result<Option<f64>, String> {
    let values = window.values;
    let last = values.len() - 1;
    Ok(match rule {
        RangeRule::Rate => extrapolated(window, true, true),
        RangeRule::Increase => extrapolated(window, true, false),
        RangeRule::Delta => extrapolated(window, false, false),
        RangeRule::Irate => instant_change(window, true),
        RangeRule::Idelta => instant_change(window, false),
        RangeRule::Sum => Some(sum(values)),
        RangeRule::Avg => {
            let mut mean = Mean::of(values[0]);
            values[1..].iter().for_each(|value| mean.add(*value));
            Some(mean.get())
        }
        RangeRule::Count => Some(values.len() as f64),
        RangeRule::Min => Some(values[extreme(values, |new, old| new < old)]),
        RangeRule::Max => Some(values[extreme(values, |new, old| new > old)]),
        RangeRule::TimeOfMin => Some(window.times[extreme(values, |new, old| new <= old)].as_secs_f64()),
        RangeRule::TimeOfMax => Some(window.times[extreme(values, |new, old| new >= old)].as_secs_f64()),
        RangeRule::TimeOfLast => Some(window.times[last].as_secs_f64()),
        RangeRule::Last => Some(values[last]),
        RangeRule::Present => Some(1.0),
        RangeRule::Stdvar => Some(variance(values)),
        RangeRule::Stddev => Some(variance(values).sqrt()),
        RangeRule::Mad => Some(median_deviation(values, scratch)),
        RangeRule::Quantile => {
            scratch.clear();
            scratch.extend_from_slice(values);
            Some(kahan::quantile(window.first, scratch))
        }
        RangeRule::Changes => {
            let differs = |pair: &&[f64]| pair[0] != pair[1] && !(pair[0].is_nan() && pair[1].is_nan());
            Some(values.windows(2).filter(differs).count() as f64)
        }
        RangeRule::Resets => Some(values.windows(2).filter(|pair| pair[1] < pair[0]).count() as f64),
        // A time near those in use keeps the sums small.
        RangeRule::Deriv => (last > 0).then(|| regression(window, window.times[0].as_millis()).0),
        RangeRule::PredictLinear => (last > 0).then(|| {
            let (slope, intercept) = regression(window, window.at);
            slope * window.first + intercept
        }),
        RangeRule::DoubleExponentialSmoothing => smoothed(window)?,
    })
}

/// The change over the window, extrapolated to its borders: all the way when a sample is near (1.1 mean distances),
/// else by half a mean distance; a counter never to below zero.
fn extrapolated(window: &Window<'_>, is_counter: bool, per_second: bool) -> Option<f64> {
    let reach = Reach::of(window.times, (window.start, window.end))?;
    let change = change(window.values, is_counter);
    Some(reach.extrapolated(window.values[0], change, (is_counter, per_second)))
}

/// From the first value to the last; a counter's resets count as rises from zero.
pub(super) fn change(values: &[f64], is_counter: bool) -> f64 {
    let mut change = values[values.len() - 1] - values[0];
    if is_counter {
        for pair in values.windows(2) {
            if pair[1] < pair[0] {
                change += pair[0];
            }
        }
    }
    change
}

/// What an extrapolation takes from the times of a window alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    /// From the first sample to the last, in seconds.
    sampled: f64,
    /// How far to go beyond the first and the last sample.
    to_start: f64,
    to_end: f64,
    /// Of the whole window.
    seconds: f64,
    /// What a change is multiplied with, unless it would have begun below zero.
    factor: f64,
}

impl Reach {
    /// Of a window `(start, end]`; `None` when it has fewer than two samples.
    pub fn of(times: &[Timestamp], (start, end): (i64, i64)) -> Option<Self> {
        let last = times.len().checked_sub(1).filter(|last| *last > 0)?;
        let seconds = |from: i64, to: i64| (to - from) as f64 / 1000.0;
        let (first_at, last_at) = (times[0].as_millis(), times[last].as_millis());
        let sampled = seconds(first_at, last_at);
        let mean_distance = sampled / last as f64;
        let near = mean_distance * 1.1;
        let within = |distance: f64| if distance >= near { mean_distance / 2.0 } else { distance };
        let (to_start, to_end) = (within(seconds(start, first_at)), within(seconds(last_at, end)));
        let factor = (sampled + to_start + to_end) / sampled;
        Some(Self { sampled, to_start, to_end, seconds: seconds(start, end), factor })
    }

    /// The change as it would be from border to border, for each second where that is asked for.
    pub fn extrapolated(&self, first: f64, change: f64, (is_counter, per_second): (bool, bool)) -> f64 {
        let mut factor = self.factor;
        if is_counter && change > 0.0 && first >= 0.0 {
            let from_zero = self.sampled * (first / change);
            if from_zero < self.to_start {
                factor = (self.sampled + from_zero + self.to_end) / self.sampled;
            }
        }
        change * if per_second { factor / self.seconds } else { factor }
    }
}

/// Whether and how the function is an extrapolated change: of a counter, and for each second.
pub(super) fn extrapolation(rule: RangeRule) -> Option<(bool, bool)> {
    match rule {
        RangeRule::Rate => Some((true, true)),
        RangeRule::Increase => Some((true, false)),
        RangeRule::Delta => Some((false, false)),
        _ => None,
    }
}

/// The function over the samples of one window `(start, end]`, for functions without further arguments.
pub(super) fn of_samples(
    rule: RangeRule,
    (times, values): (&[Timestamp], &[f64]),
    ((start, end), at): ((i64, i64), i64),
    scratch: &mut Vec<f64>,
) -> Option<f64> {
    let window = Window { times, values, start, end, at, first: 0.0, second: 0.0 };
    // Only functions with arguments can refuse them.
    apply(rule, &window, scratch).ok().flatten()
}

/// From the last two samples: the difference, or for a counter the increase per second.
fn instant_change(window: &Window<'_>, is_counter: bool) -> Option<f64> {
    let last = window.values.len() - 1;
    let before = last.checked_sub(1)?;
    let elapsed_ms = window.times[last].as_millis() - window.times[before].as_millis();
    if elapsed_ms == 0 {
        return None;
    }
    let (old, new) = (window.values[before], window.values[last]);
    if !is_counter {
        return Some(new - old);
    }
    let increase = if new < old { new } else { new - old };
    Some(increase / (elapsed_ms as f64 / 1000.0))
}

fn sum(values: &[f64]) -> f64 {
    let sum = values.iter().fold(Sum::default(), |sum, value| sum.plus(*value));
    if sum.sum.is_infinite() { sum.sum } else { sum.total() }
}

/// Where the value stands that is `better` than all others; any number is better than NaN.
fn extreme(values: &[f64], better: impl Fn(f64, f64) -> bool) -> usize {
    let mut best = 0;
    for (i, value) in values.iter().enumerate() {
        if better(*value, values[best]) || values[best].is_nan() {
            best = i;
        }
    }
    best
}

fn variance(values: &[f64]) -> f64 {
    let (mut count, mut mean, mut squares) = (0.0, Sum::default(), Sum::default());
    for value in values {
        count += 1.0;
        let delta = value - mean.total();
        mean = mean.plus(delta / count);
        squares = squares.plus(delta * (value - mean.total()));
    }
    squares.total() / count
}

fn median_deviation(values: &[f64], scratch: &mut Vec<f64>) -> f64 {
    scratch.clear();
    scratch.extend_from_slice(values);
    let median = kahan::quantile(0.5, scratch);
    scratch.clear();
    scratch.extend(values.iter().map(|value| (value - median).abs()));
    kahan::quantile(0.5, scratch)
}

/// Least squares: slope per second, and the value at `at_ms`.
fn regression(window: &Window<'_>, at_ms: i64) -> (f64, f64) {
    let first = window.values[0];
    let (mut x_sum, mut y_sum, mut xy_sum, mut xx_sum) =
        (Sum::default(), Sum::default(), Sum::default(), Sum::default());
    let mut constant = true;
    for (time, y) in window.times.iter().zip(window.values) {
        constant &= *y == first || std::ptr::eq(y, &window.values[0]);
        let x = (time.as_millis() - at_ms) as f64 / 1000.0;
        x_sum = x_sum.plus(x);
        y_sum = y_sum.plus(*y);
        xy_sum = xy_sum.plus(x * y);
        xx_sum = xx_sum.plus(x * x);
    }
    if constant {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let n = window.values.len() as f64;
    let (x, y) = (x_sum.total(), y_sum.total());
    let covariance = xy_sum.total() - x * y / n;
    let variance = xx_sum.total() - x * x / n;
    let slope = covariance / variance;
    (slope, y / n - slope * x / n)
}

fn smoothed(window: &Window<'_>) -> Result<Option<f64>, String> {
    let (smoothing, trend) = (window.first, window.second);
    if smoothing <= 0.0 || smoothing >= 1.0 {
        return Err(format!("invalid smoothing factor. Expected: 0 < sf < 1, got: {smoothing:.6}"));
    }
    if trend <= 0.0 || trend >= 1.0 {
        return Err(format!("invalid trend factor. Expected: 0 < tf < 1, got: {trend:.6}"));
    }
    let values = window.values;
    if values.len() < 2 {
        return Ok(None);
    }
    let (mut before, mut level, mut slope) = (0.0, values[0], values[1] - values[0]);
    for (i, value) in values.iter().enumerate().skip(1) {
        if i > 1 {
            slope = trend * (level - before) + (1.0 - trend) * slope;
        }
        let next = smoothing * value + (1.0 - smoothing) * (level + slope);
        (before, level) = (level, next);
    }
    Ok(Some(level))
}
