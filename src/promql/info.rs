//! The experimental `info` function: adds labels of `target_info` (or another info metric) to series of the same
//! `instance` and `job`.

use super::ast::{Kind, Node};
use super::error::EvalError;
use super::eval::{Evaluator, unreachable_kind};
use super::table::{ABSENT, Grid, Key, Table, Table64, is_absent};
use crate::model::{Labels, METRIC_NAME, Matcher};

/// The info metric that is joined when the selector names none.
pub(super) const DEFAULT_METRIC: &str = "target_info";
/// What makes an info series and a series belong together.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// Evaluates `info(v, {data labels})`; the selector is always there, the builder adds it where the query has none.
pub(super) fn eval<'a>(evaluator: &Evaluator<'a>, args: &'a [Node], grid: Grid) -> Result<Table, EvalError> {
    let names = evaluator.context.names;
    let base = evaluator.table(&args[0], grid)?;
    let Some(Kind::Selector(selector)) = args.get(1).map(|arg| &arg.kind) else {
        return Err(unreachable_kind("info without a selector"));
    };
    let implicit = args[1].span.start == args[1].span.end;
    let (name_matchers, data): (Vec<&Matcher>, Vec<&Matcher>) =
        selector.matchers.iter().partition(|matcher| &*matcher.name == METRIC_NAME);
    let data = if implicit { Vec::new() } else { data };
    let infos = evaluator.instant_selector(selector, grid, |at, _| at.as_millis() as f64)?;
    let mut by_identity: Table64<Labels, Vec<usize>> = Table64::default();
    for (row, key) in infos.keys.iter().enumerate() {
        by_identity.entry(key.labels.only(&IDENTIFYING)).or_default().push(row);
    }
    let mut result = Table::new(grid.steps);
    let mut places: Table64<Labels, usize> = Table64::default();
    for row in 0..base.keys.len() {
        let labels = base.keys[row].visible(names);
        let is_info = !name_matchers.is_empty() && name_matchers.iter().all(|m| m.matches(labels.metric_name()));
        let candidates = by_identity.get(&labels.only(&IDENTIFYING)).filter(|_| !is_info);
        for step in 0..grid.steps {
            evaluator.spend(1)?;
            let value = base.row(row)[step];
            if is_absent(value) {
                continue;
            }
            let newest = newest_by_name(&infos, candidates.map_or(&[][..], Vec::as_slice), step)?;
            if newest.is_empty() && !is_info && data.iter().any(|matcher| !matcher.matches_empty()) {
                continue;
            }
            let joined = join(&labels, newest.iter().map(|row| &infos.keys[*row].labels), &data)?;
            let drop_name = base.keys[row].drop_name && !base.keys[row].hides_name(names);
            let place =
                *places.entry(joined.clone()).or_insert_with(|| result.push_absent(Key { labels: joined, drop_name }));
            let out = &mut result.row_mut(place)[step];
            if !is_absent(*out) {
                return Err(super::table::same_labelset());
            }
            *out = value;
        }
    }
    Ok(result)
}

/// Of each info metric the row whose sample is newest.
fn newest_by_name(infos: &Table, candidates: &[usize], step: usize) -> Result<Vec<usize>, EvalError> {
    let mut newest: Vec<usize> = Vec::new();
    for &row in candidates.iter().filter(|row| !is_absent(infos.row(**row)[step])) {
        let name = infos.keys[row].labels.metric_name();
        let at = |row: usize| infos.row(row).get(step).copied().unwrap_or(ABSENT);
        match newest.iter_mut().find(|other| infos.keys[**other].labels.metric_name() == name) {
            None => newest.push(row),
            Some(other) if at(row) > at(*other) => *other = row,
            Some(other) if at(row) == at(*other) => {
                let (existing, new) = (&infos.keys[*other].labels, &infos.keys[row].labels);
                return Err(EvalError::Execution(format!(
                    "found duplicate series for info metric: existing {existing} @ {}, new {new} @ {}",
                    at(*other),
                    at(row)
                )));
            }
            Some(_) => {}
        }
    }
    Ok(newest)
}

fn join<'l>(base: &Labels, infos: impl Iterator<Item = &'l Labels>, data: &[&Matcher]) -> Result<Labels, EvalError> {
    let mut added: Vec<(&str, &str)> = Vec::new();
    for info in infos {
        for (name, value) in info.iter().filter(|(name, _)| *name != METRIC_NAME) {
            if !data.is_empty() && !data.iter().any(|matcher| &*matcher.name == name) {
                continue;
            }
            if added.iter().any(|(other, old)| *other == name && *old != value) {
                return Err(EvalError::Execution(format!("conflicting label: {name}")));
            }
            if base.get(name).is_none() {
                added.push((name, value));
            }
        }
    }
    Ok(base.iter().chain(added).collect())
}
