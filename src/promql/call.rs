//! Function calls: from arguments to results. Window functions are in `window`, histograms in `histogram`, functions
//! that look at labels only in `relabel`.

use super::ast::{Kind, Node};
use super::error::EvalError;
use super::eval::{Evaluator, Operand, absent_row};
use super::functions::{Date, Function, Math, Rule};
use super::kahan::nan_first;
use super::table::{ABSENT, Grid, Key, Table, is_absent};
use super::{histogram, info, relabel, window};
use crate::model::{Labels, METRIC_NAME, MatchOp};

type Evaluated<'a> = Result<Operand<'a>, EvalError>;

/// Evaluates a call of `function`.
pub(super) fn eval<'a>(
    evaluator: &Evaluator<'a>,
    function: &'static Function,
    args: &'a [Node],
    grid: Grid,
) -> Evaluated<'a> {
    match function.rule {
        Rule::Math(rule) => math(evaluator, rule, &args[0], grid),
        Rule::Range(rule) => window::eval(evaluator, rule, args, grid).map(Operand::Table),
        Rule::Date(part) => date(evaluator, part, args, grid),
        Rule::Absent => absent(evaluator, &args[0], grid),
        Rule::AbsentOverTime => absent_over_time(evaluator, &args[0], grid),
        Rule::Clamp => clamp(evaluator, args, grid, (Some(1), Some(2))),
        Rule::ClampMax => clamp(evaluator, args, grid, (None, Some(1))),
        Rule::ClampMin => clamp(evaluator, args, grid, (Some(1), None)),
        Rule::Round => round(evaluator, args, grid),
        Rule::Scalar => scalar(evaluator, &args[0], grid),
        Rule::Vector => Ok(Operand::Table(single(Labels::empty(), evaluator.scalar(&args[0], grid)?))),
        Rule::Time => Ok(Operand::Scalar(step_seconds(grid))),
        Rule::Pi => Ok(Operand::Scalar(vec![std::f64::consts::PI; grid.steps])),
        Rule::Timestamp => timestamp(evaluator, &args[0], grid),
        Rule::Sort => sort(evaluator, &args[0], grid, false),
        Rule::SortDesc => sort(evaluator, &args[0], grid, true),
        Rule::SortByLabel => relabel::sort_by_label(evaluator, args, grid, false).map(Operand::Table),
        Rule::SortByLabelDesc => relabel::sort_by_label(evaluator, args, grid, true).map(Operand::Table),
        Rule::LabelReplace => relabel::label_replace(evaluator, args, grid).map(Operand::Table),
        Rule::LabelJoin => relabel::label_join(evaluator, args, grid).map(Operand::Table),
        Rule::HistogramQuantile => histogram::quantile(evaluator, args, grid).map(Operand::Table),
        Rule::HistogramFraction => histogram::fraction(evaluator, args, grid).map(Operand::Table),
        Rule::NativeOnly => evaluator.table(&args[0], grid).map(|_| Operand::Table(Table::new(grid.steps))),
        Rule::Info => info::eval(evaluator, args, grid).map(Operand::Table),
    }
}

fn step_seconds(grid: Grid) -> Vec<f64> {
    (0..grid.steps).map(|step| grid.time(step) as f64 / 1000.0).collect()
}

/// A table of one series, without it when it has no sample.
fn single(labels: Labels, values: Vec<f64>) -> Table {
    let steps = values.len();
    let mut table = Table { keys: vec![Key::new(labels)], values, steps };
    table.remove_empty();
    table
}

fn math<'a>(evaluator: &Evaluator<'a>, rule: Math, arg: &'a Node, grid: Grid) -> Evaluated<'a> {
    let mut table = evaluator.table(arg, grid)?;
    evaluator.spend(table.values.len())?;
    table.map(|value| apply(rule, value));
    table.drop_names(evaluator.context.names, false)?;
    Ok(Operand::Table(table))
}

fn apply(rule: Math, value: f64) -> f64 {
    match rule {
        Math::Abs => value.abs(),
        Math::Ceil => value.ceil(),
        Math::Floor => value.floor(),
        Math::Exp => value.exp(),
        Math::Sqrt => value.sqrt(),
        Math::Ln => value.ln(),
        Math::Log2 => value.log2(),
        Math::Log10 => value.log10(),
        Math::Sin => value.sin(),
        Math::Cos => value.cos(),
        Math::Tan => value.tan(),
        Math::Asin => value.asin(),
        Math::Acos => value.acos(),
        Math::Atan => value.atan(),
        Math::Sinh => value.sinh(),
        Math::Cosh => value.cosh(),
        Math::Tanh => value.tanh(),
        Math::Asinh => value.asinh(),
        Math::Acosh => value.acosh(),
        Math::Atanh => value.atanh(),
        Math::Rad => value * std::f64::consts::PI / 180.0,
        Math::Deg => value * 180.0 / std::f64::consts::PI,
        Math::Sgn if value < 0.0 => -1.0,
        Math::Sgn if value > 0.0 => 1.0,
        Math::Sgn => value,
    }
}

fn date<'a>(evaluator: &Evaluator<'a>, part: Date, args: &'a [Node], grid: Grid) -> Evaluated<'a> {
    let of = |seconds: f64| date_part(part, whole_seconds(seconds));
    let Some(arg) = args.first() else {
        let values = (0..grid.steps).map(|step| date_part(part, i128::from(grid.time(step) / 1000))).collect();
        return Ok(Operand::Table(single(Labels::empty(), values)));
    };
    let mut table = evaluator.table(arg, grid)?;
    table.map(of);
    table.drop_names(evaluator.context.names, false)?;
    Ok(Operand::Table(table))
}

/// What Go makes of a number as seconds since the epoch: what does not fit becomes the smallest integer, which its
/// calendar takes for 2^63.
fn whole_seconds(seconds: f64) -> i128 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if seconds > -LIMIT && seconds < LIMIT { seconds as i128 } else { 1 << 63 }
}

/// The Gregorian calendar, UTC, for any time.
fn date_part(part: Date, seconds: i128) -> f64 {
    const DAY: i128 = 86_400;
    let (days, second_of_day) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    // Years are counted from March, in eras of 400 years, so that the leap day is the last of its year.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i128::from(month <= 2);
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let lengths = [31, 28 + i128::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let value = match part {
        Date::DayOfMonth => day,
        Date::DayOfWeek => (seconds.div_euclid(DAY) + 4).rem_euclid(7),
        Date::DayOfYear => lengths.iter().take(month as usize - 1).sum::<i128>() + day,
        Date::DaysInMonth => lengths[month as usize - 1],
        Date::Hour => second_of_day / 3600,
        Date::Minute => second_of_day % 3600 / 60,
        Date::Month => month,
        Date::Year => year,
    };
    value as f64
}

/// Labels that an absent series would have: those of `=` matchers whose label no other matcher names.
fn absent_labels(node: &Node) -> Labels {
    let Kind::Selector(selector) = &node.unwrapped().kind else { return Labels::empty() };
    let names = selector.matchers.iter().map(|matcher| &matcher.name);
    selector
        .matchers
        .iter()
        .filter(|matcher| matcher.op == MatchOp::Equal && &*matcher.name != METRIC_NAME)
        .filter(|matcher| names.clone().filter(|name| **name == matcher.name).count() == 1)
        .map(|matcher| (&*matcher.name, &*matcher.value))
        .collect()
}

fn absent<'a>(evaluator: &Evaluator<'a>, arg: &'a Node, grid: Grid) -> Evaluated<'a> {
    let table = evaluator.table(arg, grid)?;
    let mut values = vec![1.0; grid.steps];
    for i in 0..table.keys.len() {
        for (value, out) in table.row(i).iter().zip(&mut values) {
            if !is_absent(*value) {
                *out = ABSENT;
            }
        }
    }
    Ok(Operand::Table(single(absent_labels(arg), values)))
}

fn absent_over_time<'a>(evaluator: &Evaluator<'a>, arg: &'a Node, grid: Grid) -> Evaluated<'a> {
    let vector = evaluator.range_vector(arg, grid)?;
    let mut values = vec![1.0; grid.steps];
    let mut row = absent_row(grid.steps);
    for series in &vector.series {
        evaluator.spend(series.values.len() + grid.steps)?;
        series.slide(&vector, grid, &mut row, |step, _, _| {
            values[step] = ABSENT;
            None
        });
    }
    Ok(Operand::Table(single(absent_labels(arg), values)))
}

/// Clamps to the bounds that stand at those argument positions.
fn clamp<'a>(
    evaluator: &Evaluator<'a>,
    args: &'a [Node],
    grid: Grid,
    (least, most): (Option<usize>, Option<usize>),
) -> Evaluated<'a> {
    let mut table = evaluator.table(&args[0], grid)?;
    let bound = |at: Option<usize>, open: f64| match at {
        Some(at) => evaluator.scalar(&args[at], grid),
        None => Ok(vec![open; grid.steps]),
    };
    let (least, most) = (bound(least, f64::NEG_INFINITY)?, bound(most, f64::INFINITY)?);
    for i in 0..table.keys.len() {
        for ((value, least), most) in table.row_mut(i).iter_mut().zip(&least).zip(&most) {
            if most < least {
                *value = ABSENT;
            } else if !is_absent(*value) {
                *value = go_max(*least, go_min(*most, *value));
            }
        }
    }
    table.remove_empty();
    table.drop_names(evaluator.context.names, false)?;
    Ok(Operand::Table(table))
}

/// Go's `math.Max`: NaN wins over all but +Inf.
fn go_max(a: f64, b: f64) -> f64 {
    match (a, b) {
        (f64::INFINITY, _) | (_, f64::INFINITY) => f64::INFINITY,
        _ if a.is_nan() || b.is_nan() => f64::NAN,
        _ => a.max(b),
    }
}

/// Go's `math.Min`: NaN wins over all but -Inf.
fn go_min(a: f64, b: f64) -> f64 {
    -go_max(-a, -b)
}

fn round<'a>(evaluator: &Evaluator<'a>, args: &'a [Node], grid: Grid) -> Evaluated<'a> {
    let mut table = evaluator.table(&args[0], grid)?;
    let nearest = match args.get(1) {
        Some(arg) => evaluator.scalar(arg, grid)?,
        None => vec![1.0; grid.steps],
    };
    for i in 0..table.keys.len() {
        for (value, nearest) in table.row_mut(i).iter_mut().zip(&nearest) {
            if !is_absent(*value) {
                // The inverse seems to cost less accuracy than a division.
                let inverse = 1.0 / nearest;
                *value = (*value * inverse + 0.5).floor() / inverse;
            }
        }
    }
    table.drop_names(evaluator.context.names, false)?;
    Ok(Operand::Table(table))
}

fn scalar<'a>(evaluator: &Evaluator<'a>, arg: &'a Node, grid: Grid) -> Evaluated<'a> {
    let table = evaluator.table(arg, grid)?;
    let mut values = absent_row(grid.steps);
    for i in 0..table.keys.len() {
        for (value, out) in table.row(i).iter().zip(&mut values) {
            if !is_absent(*value) {
                *out = if is_absent(*out) { *value } else { f64::NAN };
            }
        }
    }
    let values = values.into_iter().map(|value| if is_absent(value) { f64::NAN } else { value }).collect();
    Ok(Operand::Scalar(values))
}

/// The time of the sample when the argument is a plain selector, else the time of the step.
fn timestamp<'a>(evaluator: &Evaluator<'a>, arg: &'a Node, grid: Grid) -> Evaluated<'a> {
    let mut table = match &arg.unwrapped().kind {
        Kind::Selector(selector) => evaluator.instant_selector(selector, grid, |at, _| at.as_secs_f64())?,
        _ => {
            let mut table = evaluator.table(arg, grid)?;
            let seconds = step_seconds(grid);
            for i in 0..table.keys.len() {
                for (value, seconds) in table.row_mut(i).iter_mut().zip(&seconds) {
                    if !is_absent(*value) {
                        *value = *seconds;
                    }
                }
            }
            table
        }
    };
    table.drop_names(evaluator.context.names, false)?;
    Ok(Operand::Table(table))
}

/// Sorts an instant result by value, NaN last; a range result is sorted by labels in the end, so it is left alone.
fn sort<'a>(evaluator: &Evaluator<'a>, arg: &'a Node, grid: Grid, descending: bool) -> Evaluated<'a> {
    let mut table = evaluator.table(arg, grid)?;
    if grid.steps == 1 {
        let mut order: Vec<usize> = (0..table.keys.len()).collect();
        order.sort_by(|a, b| {
            let (a, b) = (table.values[*a], table.values[*b]);
            match (a.is_nan(), b.is_nan()) {
                (true, _) | (_, true) => a.is_nan().cmp(&b.is_nan()),
                _ if descending => nan_first(&b, &a),
                _ => nan_first(&a, &b),
            }
        });
        table.reorder(&order);
    }
    Ok(Operand::Table(table))
}
