//! Classic histograms: quantiles and fractions from cumulative `le` buckets.
//!
//! Buckets of one histogram are found, parsed and sorted once; every step then only gathers counts.

use super::annotate::short_number;
use super::ast::{Node, Span};
use super::error::EvalError;
use super::eval::Evaluator;
use super::grouping::{BOUND, Grouping};
use super::lex::quote;
use super::table::{Grid, Key, Names, Projection, Table, is_absent};
use crate::model::Labels;

/// Counts that differ by less than this share are the same count with a rounding error.
const TOLERANCE: f64 = 1e-12;

/// One cumulative bucket.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    bound: f64,
    count: f64,
}

/// One histogram: its result labels and its bucket rows, by rising bound.
struct Histogram {
    key: Key,
    /// The metric name of its buckets, when they still have one.
    name: String,
    rows: Vec<(f64, usize)>,
}

fn histograms(evaluator: &Evaluator<'_>, table: &Table, span: Span) -> Result<Vec<Histogram>, EvalError> {
    let names = evaluator.context.names;
    let dropped = [BOUND.to_owned()];
    let projection = Projection::without(&dropped, true, names);
    let mut grouping = Grouping::of_histograms(names);
    // By group, its place among those found: one without any good bound has none.
    let mut places: Vec<Option<usize>> = Vec::new();
    let mut found: Vec<Histogram> = Vec::new();
    for (row, key) in table.keys.iter().enumerate() {
        evaluator.spend(1)?;
        let (group, text) = grouping.of(key);
        let Some(bound) = parse_bound(text) else {
            evaluator.warn(bad_bound(&key.visible(names), text), span);
            continue;
        };
        places.resize(places.len().max(group + 1), None);
        let place = *places[group].get_or_insert(found.len());
        if place == found.len() {
            let labels = projection.labels(key);
            let name = labels.metric_name().to_owned();
            let labels = if names == Names::DropAtOnce { labels.without_metadata() } else { labels };
            found.push(Histogram { key: Key { labels, drop_name: true }, name, rows: Vec::new() });
        }
        found[place].rows.push((bound, row));
    }
    for histogram in &mut found {
        histogram.rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    Ok(found)
}

fn bad_bound(labels: &Labels, text: &str) -> String {
    let name = labels.metric_name();
    let (text, name) = (quote(text), quote(name));
    format!("bucket label \"{BOUND}\" is missing or has a malformed value of {text} for metric name {name}")
}

/// A number as Go's `ParseFloat` takes it.
fn parse_bound(text: &str) -> Option<f64> {
    let plain = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !plain.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '.' | 'i' | 'I' | 'n' | 'N')) {
        return None;
    }
    text.parse().ok()
}

/// Applies `of` to every histogram at every step.
fn each_step<'a>(
    evaluator: &Evaluator<'a>,
    vector: &'a Node,
    grid: Grid,
    mut of: impl FnMut(usize, &mut Vec<Bucket>, &mut String) -> f64,
) -> Result<Table, EvalError> {
    let table = evaluator.table(vector, grid)?;
    let histograms = histograms(evaluator, &table, vector.unwrapped().span)?;
    let mut result = Table::with_capacity(grid.steps, histograms.len());
    let mut buckets = Vec::new();
    for histogram in histograms {
        evaluator.spend(histogram.rows.len() * grid.steps)?;
        let Histogram { key, mut name, rows } = histogram;
        result.push_filled(key, |out| {
            let mut any = false;
            for (step, out) in out.iter_mut().enumerate() {
                buckets.clear();
                let present = rows.iter().map(|(bound, row)| Bucket { bound: *bound, count: table.row(*row)[step] });
                buckets.extend(present.filter(|bucket| !is_absent(bucket.count)));
                if !buckets.is_empty() {
                    *out = of(step, &mut buckets, &mut name);
                    any = true;
                }
            }
            Ok(any)
        })?;
    }
    result.drop_names(evaluator.context.names, false)?;
    if evaluator.context.names == Names::DropAtOnce {
        result.merge_same(Names::DropAtOnce, false)?;
    }
    Ok(result)
}

/// `histogram_quantile(q, v)`.
pub(super) fn quantile<'a>(evaluator: &Evaluator<'a>, args: &'a [Node], grid: Grid) -> Result<Table, EvalError> {
    let q = evaluator.scalar(&args[0], grid)?;
    for odd in q.iter().filter(|q| !(0.0..=1.0).contains(*q)) {
        let message = format!("quantile value should be between 0 and 1, got {}", short_number(*odd));
        // What is the same in every step Prometheus wraps, so that it does not see the parentheses.
        let parameter = if args[0].fixed { &args[0] } else { args[0].unwrapped() };
        evaluator.warn(message, parameter.span);
    }
    let span = args[1].unwrapped().span;
    let seen = evaluator.context.names == Names::DropAtEnd;
    each_step(evaluator, &args[1], grid, |step, buckets, name| {
        let (value, forced) = bucket_quantile(q[step], buckets);
        if forced {
            evaluator.inform(format!("{FORCED} for metric name {}", quote(name)), span);
        }
        // Prometheus forgets the name after the first step.
        if !seen {
            name.clear();
        }
        value
    })
}

const FORCED: &str = "input to histogram_quantile needed to be fixed for monotonicity (see \
                      https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)";

/// `histogram_fraction(lower, upper, v)`.
pub(super) fn fraction<'a>(evaluator: &Evaluator<'a>, args: &'a [Node], grid: Grid) -> Result<Table, EvalError> {
    let lower = evaluator.scalar(&args[0], grid)?;
    let upper = evaluator.scalar(&args[1], grid)?;
    each_step(evaluator, &args[2], grid, |step, buckets, _| bucket_fraction(lower[step], upper[step], buckets))
}

/// The quantile, and whether counts had to be made monotonic for it.
fn bucket_quantile(q: f64, buckets: &mut Vec<Bucket>) -> (f64, bool) {
    if q.is_nan() {
        return (f64::NAN, false);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, false);
    }
    if q > 1.0 {
        return (f64::INFINITY, false);
    }
    if buckets.last().is_none_or(|last| last.bound != f64::INFINITY) {
        return (f64::NAN, false);
    }
    coalesce(buckets);
    let forced = make_monotonic(buckets);
    let last = buckets.len() - 1;
    let observations = buckets[last].count;
    if last == 0 || observations == 0.0 || observations.is_nan() {
        return (f64::NAN, forced);
    }
    let mut rank = q * observations;
    let at = buckets[..last].partition_point(|bucket| bucket.count < rank || bucket.count.is_nan());
    if at == last {
        return (buckets[last - 1].bound, forced);
    }
    let Bucket { bound, mut count } = buckets[at];
    if at == 0 && bound <= 0.0 {
        return (bound, forced);
    }
    let mut start = 0.0;
    if let Some(below) = at.checked_sub(1).map(|below| buckets[below]) {
        start = below.bound;
        count -= below.count;
        rank -= below.count;
    }
    (start + (bound - start) * (rank / count), forced)
}

/// Adds up buckets of the same bound.
fn coalesce(buckets: &mut Vec<Bucket>) {
    buckets.dedup_by(|next, kept| {
        let same = next.bound == kept.bound;
        if same {
            kept.count += next.count;
        }
        same
    });
}

fn make_monotonic(buckets: &mut [Bucket]) -> bool {
    let mut forced = false;
    let mut before = buckets[0].count;
    for bucket in &mut buckets[1..] {
        if bucket.count == before {
            continue;
        }
        if almost_equal(before, bucket.count) {
            bucket.count = before;
        } else if bucket.count < before {
            bucket.count = before;
            forced = true;
        } else {
            before = bucket.count;
        }
    }
    forced
}

fn almost_equal(a: f64, b: f64) -> bool {
    if a.is_nan() && b.is_nan() || a == b {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < TOLERANCE * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < TOLERANCE
}

/// The share of observations in `(lower, upper]`.
fn bucket_fraction(lower: f64, upper: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if buckets.last().is_none_or(|last| last.bound != f64::INFINITY) {
        return f64::NAN;
    }
    coalesce(buckets);
    let count = buckets[buckets.len() - 1].count;
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    (rank_of(upper, buckets) - rank_of(lower, buckets)) / count
}

/// How many observations are at most `value`, linear inside a bucket.
fn rank_of(value: f64, buckets: &[Bucket]) -> f64 {
    let total = buckets[buckets.len() - 1].count;
    let (mut rank, mut floor) = (0.0_f64, f64::NEG_INFINITY);
    for bucket in buckets {
        if floor >= value {
            break;
        }
        if bucket.bound > value {
            // The first bucket has no lower end, so what lies inside it is NaN, as in Prometheus 3.5.
            rank += (bucket.count - rank) * (value - floor) / (bucket.bound - floor);
            break;
        }
        (rank, floor) = (bucket.count, bucket.bound);
    }
    if rank > total { total } else { rank }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(pairs: &[(f64, f64)]) -> Vec<Bucket> {
        pairs.iter().map(|(bound, count)| Bucket { bound: *bound, count: *count }).collect()
    }

    #[test]
    fn finds_quantiles_inside_and_at_the_ends() {
        let check = |q: f64, pairs: &[(f64, f64)], expect: f64| {
            let (value, _) = bucket_quantile(q, &mut buckets(pairs));
            assert!(value == expect || (value.is_nan() && expect.is_nan()), "{q} of {pairs:?}: {value}");
        };
        let three = [(1.0, 2.0), (2.0, 4.0), (f64::INFINITY, 4.0)];
        check(0.5, &three, 1.0);
        check(0.75, &three, 1.5);
        check(0.25, &three, 0.5);
        check(1.0, &[(1.0, 2.0), (f64::INFINITY, 4.0)], 1.0); // in the last bucket: its lower bound
        check(0.5, &[(-1.0, 4.0), (f64::INFINITY, 4.0)], -1.0); // first bound not above zero: the bound
        check(0.5, &[(1.0, 4.0)], f64::NAN); // no +Inf bucket
        check(0.5, &[(1.0, 0.0), (f64::INFINITY, 0.0)], f64::NAN);
        check(-1.0, &three, f64::NEG_INFINITY);
    }

    #[test]
    fn forces_monotonic_counts_but_overlooks_rounding() {
        assert!(bucket_quantile(0.5, &mut buckets(&[(1.0, 5.0), (2.0, 4.0), (f64::INFINITY, 6.0)])).1);
        let rounded = [(1.0, 5.0), (2.0, 5.0 - 1e-13), (f64::INFINITY, 6.0)];
        assert!(!bucket_quantile(0.5, &mut buckets(&rounded)).1);
    }
}
