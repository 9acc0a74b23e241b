//! Functions that look at labels only: `label_replace`, `label_join`, `sort_by_label`.

use std::cmp::Ordering;

use super::ast::{Node, Text};
use super::error::EvalError;
use super::eval::Evaluator;
use super::lex::quote_bytes;
use super::table::{Grid, Key, Table};
use crate::model::{Labels, METRIC_NAME, anchored_regex};

fn execution<T>(message: String) -> Result<T, EvalError> {
    Err(EvalError::Execution(message))
}

/// A text that names a label. Bytes that are not UTF-8 are shown the way a query writes them.
fn label_name<'a>(text: &'a Text, role: &str) -> Result<&'a str, EvalError> {
    match &text.not_utf8 {
        None if !text.value.is_empty() => Ok(&text.value),
        bytes => {
            let shown = quote_bytes(bytes.as_deref().unwrap_or_default());
            execution(format!("invalid {role}: {}", shown.trim_matches('"')))
        }
    }
}

/// `label_replace(v, dst, replacement, src, regex)`.
pub(super) fn label_replace<'a>(evaluator: &Evaluator<'a>, args: &'a [Node], grid: Grid) -> Result<Table, EvalError> {
    let target = evaluator.text(&args[1])?;
    let replacement = &evaluator.text(&args[2])?.value;
    let source = &evaluator.text(&args[3])?.value;
    let pattern = &evaluator.text(&args[4])?.value;
    let Ok(regex) = anchored_regex(pattern) else {
        return execution(format!("invalid regular expression in label_replace(): {pattern}"));
    };
    let target = label_name(target, "destination label name in label_replace()")?;
    rename(evaluator, &args[0], grid, target, |labels| {
        let captures = regex.captures(labels.value(source))?;
        let mut value = String::new();
        captures.expand(replacement, &mut value);
        Some(value)
    })
}

/// `label_join(v, dst, separator, src…)`.
pub(super) fn label_join<'a>(evaluator: &Evaluator<'a>, args: &'a [Node], grid: Grid) -> Result<Table, EvalError> {
    let target = evaluator.text(&args[1])?;
    let separator = &evaluator.text(&args[2])?.value;
    let mut sources = Vec::with_capacity(args.len().saturating_sub(3));
    for arg in &args[3..] {
        sources.push(label_name(evaluator.text(arg)?, "source label name in label_join()")?);
    }
    let target = label_name(target, "destination label name in label_join()")?;
    rename(evaluator, &args[0], grid, target, |labels| {
        let values: Vec<&str> = sources.iter().map(|source| labels.value(source)).collect();
        Some(values.join(separator))
    })
}

/// Sets `target` of every series to what `value` says; `None` leaves the series as it is.
fn rename<'a>(
    evaluator: &Evaluator<'a>,
    vector: &'a Node,
    grid: Grid,
    target: &str,
    value: impl Fn(&Labels) -> Option<String>,
) -> Result<Table, EvalError> {
    let names = evaluator.context.names;
    let mut table = evaluator.table(vector, grid)?;
    for key in &mut table.keys {
        evaluator.spend(1)?;
        let labels = key.visible(names);
        let mut drop_name = key.drop_name && !key.hides_name(names);
        let labels = match value(&labels) {
            Some(value) => {
                drop_name &= target != METRIC_NAME;
                labels.with(target, &value)
            }
            None => labels,
        };
        *key = Key { labels, drop_name };
    }
    table.merge_same(names, true)?;
    Ok(table)
}

/// Sorts an instant result by labels, numbers inside them by value; a range result is sorted in the end anyway.
pub(super) fn sort_by_label<'a>(
    evaluator: &Evaluator<'a>,
    args: &'a [Node],
    grid: Grid,
    descending: bool,
) -> Result<Table, EvalError> {
    let mut table = evaluator.table(&args[0], grid)?;
    if grid.steps != 1 {
        return Ok(table);
    }
    let mut names = Vec::with_capacity(args.len());
    for arg in &args[1..] {
        names.push(evaluator.text(arg)?.value.as_str());
    }
    let visible: Vec<Labels> = table.keys.iter().map(|key| key.visible(evaluator.context.names)).collect();
    let mut order: Vec<usize> = (0..visible.len()).collect();
    order.sort_by(|a, b| {
        let (a, b) = (&visible[*a], &visible[*b]);
        let by_names = names.iter().map(|name| natural(a.value(name), b.value(name))).find(|order| order.is_ne());
        let order = by_names.unwrap_or_else(|| a.cmp(b));
        if descending { order.reverse() } else { order }
    });
    table.reorder(&order);
    Ok(table)
}

/// Compares texts piece by piece, runs of digits as numbers.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a_rest, mut b_rest) = (a, b);
    while !a_rest.is_empty() && !b_rest.is_empty() {
        let (a_piece, b_piece) = (take_piece(&mut a_rest), take_piece(&mut b_rest));
        let order = match (a_piece.parse::<i64>(), b_piece.parse::<i64>()) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            _ => a_piece.cmp(b_piece),
        };
        if order.is_ne() {
            return order;
        }
    }
    a_rest.len().cmp(&b_rest.len()).then_with(|| a.cmp(b))
}

/// The run of digits, or of other characters, at the start.
fn take_piece<'a>(rest: &mut &'a str) -> &'a str {
    let digits = rest.starts_with(|c: char| c.is_ascii_digit());
    let end = rest.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(rest.len());
    let (piece, tail) = rest.split_at(end);
    *rest = tail;
    piece
}
