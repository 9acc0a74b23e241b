//! Aggregations: groups are found once for each series, then values are folded step by step.

use super::annotate::short_number;
use super::ast::{Aggregate, AggregateOp};
use super::error::EvalError;
use super::eval::Evaluator;
use super::families;
use super::grouping::Grouping;
use super::kahan::{self, Mean, Sum, nan_first};
use super::table::{ABSENT, Grid, Key, Names, Projection, Table, Table64, is_absent};
use crate::model::Labels;

/// Which group each row belongs to.
struct Groups {
    of_row: Vec<usize>,
    keys: Vec<Key>,
}

impl Groups {
    fn new(node: &Aggregate, table: &Table, names: Names) -> Self {
        let projection = projection(node, names);
        let mut grouping = Grouping::new(&node.grouping, node.without, names);
        let mut groups = Self { of_row: Vec::with_capacity(table.keys.len()), keys: Vec::new() };
        for key in &table.keys {
            let (group, _) = grouping.of(key);
            if group == groups.keys.len() {
                groups.keys.push(Key { labels: projection.labels(key), drop_name: false });
            }
            // Only matters while dropped names are still seen: a group that has one loses its own in the end.
            groups.keys[group].drop_name |= key.drop_name && names == Names::DropAtEnd;
            groups.of_row.push(group);
        }
        groups
    }

    /// Rows of each group, in order.
    fn rows(&self) -> Vec<Vec<usize>> {
        let mut rows = vec![Vec::new(); self.keys.len()];
        for (row, group) in self.of_row.iter().enumerate() {
            rows[*group].push(row);
        }
        rows
    }
}

fn projection(node: &Aggregate, names: Names) -> Projection<'_> {
    if node.without {
        Projection::without(&node.grouping, false, names)
    } else {
        Projection::only(&node.grouping, names)
    }
}

/// Evaluates an aggregation.
pub(super) fn eval<'a>(evaluator: &Evaluator<'a>, node: &'a Aggregate, grid: Grid) -> Result<Table, EvalError> {
    use AggregateOp::{Bottomk, CountValues, LimitRatio, Limitk, Quantile, Topk};
    if node.op == CountValues {
        return count_values(evaluator, node, grid);
    }
    let parameter = match &node.param {
        Some(param) => evaluator.scalar(param, grid)?,
        None => Vec::new(),
    };
    let rows = |fold: families::Fold<'_>| families::fold_rows(evaluator, node, grid, fold);
    if let Some(table) = fold_op(node.op, grid.steps, rows)? {
        return Ok(table);
    }
    let table = evaluator.table(&node.inner, grid)?;
    evaluator.spend(table.values.len())?;
    let groups = Groups::new(node, &table, evaluator.context.names);
    match node.op {
        Quantile => quantile(evaluator, node, (&table, groups), &parameter),
        Topk | Bottomk | Limitk => select_k(evaluator, node.op, (table, groups), &parameter),
        LimitRatio => limit_ratio(evaluator, node, table, &parameter),
        op => {
            let folded = fold_op(op, grid.steps, |fold| {
                groups.of_row.iter().enumerate().for_each(|(row, group)| fold(*group, table.row(row)));
                Ok(Some(groups.keys))
            });
            Ok(folded?.unwrap_or_else(|| Table::new(grid.steps)))
        }
    }
}

fn better(old: f64, new: f64, wins: bool) -> f64 {
    if wins || old.is_nan() { new } else { old }
}

/// Welford's running variance.
#[derive(Clone, Copy)]
struct Spread {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Spread {
    fn of(first: f64) -> Self {
        Self { count: 1.0, mean: first, squares: if first.is_finite() { 0.0 } else { f64::NAN } }
    }

    fn add(&mut self, value: f64) {
        self.count += 1.0;
        let delta = value - self.mean;
        self.mean += delta / self.count;
        self.squares += delta * (value - self.mean);
    }

    fn variance(self) -> f64 {
        self.squares / self.count
    }
}

/// Folds rows with the operator; `None` when it does not fold, or `rows` gives none.
fn fold_op(
    op: AggregateOp,
    steps: usize,
    rows: impl FnOnce(families::Fold<'_>) -> Result<Option<Vec<Key>>, EvalError>,
) -> Result<Option<Table>, EvalError> {
    use AggregateOp::{Avg, Count, Group, Max, Min, Stddev, Stdvar, Sum as Total};
    match op {
        Total => fold(steps, rows, Sum::of, |sum, value| *sum = sum.plus(value), Sum::total),
        Avg => fold(steps, rows, Mean::of, Mean::add, Mean::get),
        Count => fold(steps, rows, |_| 1.0, |count, _| *count += 1.0, |count| count),
        Group => fold(steps, rows, |_| 1.0, |_, _| {}, |one| one),
        Min => fold(steps, rows, |v| v, |least, v| *least = better(*least, v, *least > v), |v| v),
        Max => fold(steps, rows, |v| v, |most, v| *most = better(*most, v, *most < v), |v| v),
        Stdvar => fold(steps, rows, Spread::of, Spread::add, Spread::variance),
        Stddev => fold(steps, rows, Spread::of, Spread::add, |spread| spread.variance().sqrt()),
        _ => Ok(None),
    }
}

/// Folds the samples of each group at each step, in the order in which `rows` gives them with the number of their group;
/// it returns the groups.
fn fold<S: Copy>(
    steps: usize,
    rows: impl FnOnce(families::Fold<'_>) -> Result<Option<Vec<Key>>, EvalError>,
    begin: impl Fn(f64) -> S,
    add: impl Fn(&mut S, f64),
    finish: impl Fn(S) -> f64,
) -> Result<Option<Table>, EvalError> {
    let mut states: Vec<Option<S>> = Vec::new();
    let keys = rows(&mut |group, row| {
        if states.len() < (group + 1) * steps {
            states.resize((group + 1) * steps, None);
        }
        for (state, value) in states[group * steps..(group + 1) * steps].iter_mut().zip(row) {
            if is_absent(*value) {
                continue;
            }
            match state {
                Some(state) => add(state, *value),
                None => *state = Some(begin(*value)),
            }
        }
    })?;
    let Some(keys) = keys else { return Ok(None) };
    let values = states.into_iter().map(|state| state.map_or(ABSENT, &finish)).collect();
    let mut result = Table { keys, values, steps };
    result.remove_empty();
    Ok(Some(result))
}

fn quantile(
    evaluator: &Evaluator<'_>,
    node: &Aggregate,
    (table, groups): (&Table, Groups),
    parameter: &[f64],
) -> Result<Table, EvalError> {
    let span = node.param.as_ref().map_or(node.inner.span, |param| param.unwrapped().span);
    for q in odd_values(parameter, 0.0, 1.0) {
        evaluator.warn(format!("quantile value should be between 0 and 1, got {}", short_number(q)), span);
    }
    let rows = groups.rows();
    let mut result = Table::with_capacity(table.steps, rows.len());
    let mut values = Vec::new();
    for (key, rows) in groups.keys.into_iter().zip(rows) {
        evaluator.spend(rows.len() * table.steps)?;
        result.push_filled(key, |out| {
            let mut any = false;
            for (step, out) in out.iter_mut().enumerate() {
                values.clear();
                values.extend(rows.iter().map(|row| table.row(*row)[step]).filter(|value| !is_absent(*value)));
                if !values.is_empty() {
                    *out = kahan::quantile(parameter[step], &mut values);
                    any = true;
                }
            }
            Ok(any)
        })?;
    }
    Ok(result)
}

/// What is worth a warning: a NaN, the largest value above `most`, the smallest below `least`.
fn odd_values(values: &[f64], least: f64, most: f64) -> Vec<f64> {
    let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let min = values.iter().copied().fold(f64::INFINITY, f64::min);
    let nan = values.iter().any(|value| value.is_nan()).then_some(f64::NAN);
    nan.into_iter().chain((max > most).then_some(max)).chain((min < least).then_some(min)).collect()
}

/// `topk`, `bottomk`, `limitk`: the chosen rows of each group at each step, with their own labels.
fn select_k(
    evaluator: &Evaluator<'_>,
    op: AggregateOp,
    (mut table, groups): (Table, Groups),
    parameter: &[f64],
) -> Result<Table, EvalError> {
    // Nothing to choose from: Prometheus does not look at the parameter then.
    if table.keys.is_empty() {
        return Ok(table);
    }
    let execution = |message: String| Err(EvalError::Execution(message));
    // As Prometheus finds the largest and the smallest: a NaN counts only when it is the first.
    let first = parameter.first().copied().unwrap_or(0.0);
    let max = parameter.iter().fold(first, |max, k| if *k > max { *k } else { max });
    let min = parameter.iter().fold(first, |min, k| if *k < min { *k } else { min });
    if max < 1.0 {
        return Ok(Table::new(table.steps));
    }
    if max.is_nan() || max >= i64::MAX as f64 {
        return execution(format!("Scalar value {} overflows int64", short_number(max)));
    }
    if min <= i64::MIN as f64 {
        return execution(format!("Scalar value {} underflows int64", short_number(min)));
    }
    let rows = groups.rows();
    let mut order = Vec::new();
    for (step, k) in parameter.iter().enumerate() {
        let k = k.clamp(0.0, table.keys.len() as f64) as usize;
        for rows in &rows {
            evaluator.spend(rows.len())?;
            let mut present: Vec<usize> =
                rows.iter().copied().filter(|row| !is_absent(table.row(*row)[step])).collect();
            if op != AggregateOp::Limitk {
                let value = |row: &usize| table.row(*row)[step];
                present.sort_by(|a, b| rank(op, value(a), value(b)));
            }
            let cut = k.min(present.len());
            for row in &present[cut..] {
                table.row_mut(*row)[step] = ABSENT;
            }
            if table.steps == 1 {
                order.extend_from_slice(&present[..cut]);
            }
        }
    }
    if table.steps == 1 {
        table.reorder(&order);
    } else {
        table.remove_empty();
    }
    Ok(table)
}

/// The better value first, NaN last.
fn rank(op: AggregateOp, a: f64, b: f64) -> std::cmp::Ordering {
    match (a.is_nan(), b.is_nan()) {
        (false, false) if op == AggregateOp::Topk => nan_first(&b, &a),
        (false, false) => nan_first(&a, &b),
        (a, b) => a.cmp(&b),
    }
}

/// As Prometheus hashes labels: names and values, each after its length in one byte, or in 255 and three bytes.
fn prometheus_hash(labels: &Labels) -> u64 {
    let mut bytes = Vec::new();
    for piece in labels.iter().flat_map(|(name, value)| [name, value]) {
        let length = piece.len();
        match u8::try_from(length) {
            Ok(length) if length < u8::MAX => bytes.push(length),
            _ => bytes.extend([u8::MAX, length as u8, (length >> 8) as u8, (length >> 16) as u8]),
        }
        bytes.extend_from_slice(piece.as_bytes());
    }
    xxhash_rust::xxh64::xxh64(&bytes, 0)
}

/// A share of the series, chosen by a hash of their labels, so that `r` and `r − 1` complement each other.
fn limit_ratio(
    evaluator: &Evaluator<'_>,
    node: &Aggregate,
    mut table: Table,
    parameter: &[f64],
) -> Result<Table, EvalError> {
    if parameter.iter().any(|ratio| ratio.is_nan()) {
        return Err(EvalError::Execution("Ratio value NaN is NaN".to_owned()));
    }
    let span = node.param.as_ref().map_or(node.inner.span, |param| param.unwrapped().span);
    for ratio in odd_values(parameter, -1.0, 1.0) {
        let (got, cap) = (short_number(ratio), short_number(ratio.clamp(-1.0, 1.0)));
        evaluator.warn(format!("ratio value should be between -1 and 1, got {got}, capping to {cap}"), span);
    }
    for row in 0..table.keys.len() {
        let hash = prometheus_hash(&table.keys[row].visible(evaluator.context.names));
        let place = hash as f64 / u64::MAX as f64;
        for (value, ratio) in table.row_mut(row).iter_mut().zip(parameter) {
            let ratio = ratio.clamp(-1.0, 1.0);
            let kept = if ratio >= 0.0 { place < ratio } else { place >= 1.0 + ratio };
            if !kept {
                *value = ABSENT;
            }
        }
    }
    table.remove_empty();
    Ok(table)
}

fn count_values<'a>(evaluator: &Evaluator<'a>, node: &'a Aggregate, grid: Grid) -> Result<Table, EvalError> {
    let Some(param) = &node.param else { return Ok(Table::new(grid.steps)) };
    let label = evaluator.text(param)?;
    if label.not_utf8.is_some() || label.value.is_empty() {
        return Err(EvalError::Execution(format!("invalid label name {}", label.quoted())));
    }
    let names = evaluator.context.names;
    let mut grouping = node.grouping.clone();
    if !node.without {
        grouping.push(label.value.clone());
    }
    let projection =
        if node.without { Projection::without(&grouping, false, names) } else { Projection::only(&grouping, names) };
    let table = evaluator.table(&node.inner, grid)?;
    let mut result = Table::new(grid.steps);
    let mut places: Table64<Labels, usize> = Table64::default();
    for row in 0..table.keys.len() {
        evaluator.reserve(places.len(), grid.steps)?;
        for (step, value) in table.row(row).iter().enumerate().filter(|(_, value)| !is_absent(**value)) {
            let key = &table.keys[row];
            let labels = key.visible(names).with(&label.value, &super::print::plain_number(*value));
            let labels = projection.labels(&Key { labels, drop_name: key.drop_name });
            let place = *places.entry(labels.clone()).or_insert_with(|| result.push_absent(Key::new(labels)));
            let count = &mut result.row_mut(place)[step];
            *count = if is_absent(*count) { 1.0 } else { *count + 1.0 };
        }
    }
    Ok(result)
}
