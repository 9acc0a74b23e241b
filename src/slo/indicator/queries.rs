//! Indicators in PromQL of the user's own, as sloth and pyrra take them.

use super::super::config::{ErrorRatioConfig, EventsConfig};
use super::{Indicator, Ratio};
use crate::promql;

/// Longest query.
const QUERY_BYTES_MAX: usize = 10_000;

pub(super) fn events(config: &EventsConfig) -> Result<Indicator, String> {
    let EventsConfig { total, errors, good, group_by } = config;
    check_labels(group_by)?;
    let total = query("events.total", total, group_by, "sum")?;
    let (errors, absent_is_zero) = match (errors.is_empty(), good.is_empty()) {
        (false, true) => (query("events.errors", errors, group_by, "sum")?, true),
        // Where no event was good there may be no series of good ones: then all were bad.
        (true, false) => {
            let good = query("events.good", good, group_by, "sum")?;
            (
                format!("clamp_min({total} - on ({g}) ({good} or on ({g}) ({total}) * 0), 0)", g = group_by.join(", ")),
                true,
            )
        }
        (true, true) => return Err("events needs `errors` or `good` beside `total`".to_owned()),
        (false, false) => return Err("events has both `errors` and `good`; one of them says it all".to_owned()),
    };
    Ok(indicator("events", group_by, Ratio::Counted { total, errors, absent_is_zero }))
}

pub(super) fn error_ratio(config: &ErrorRatioConfig) -> Result<Indicator, String> {
    let ErrorRatioConfig { query: written, group_by } = config;
    check_labels(group_by)?;
    let share = query("error_ratio.query", written, group_by, "avg")?;
    Ok(indicator("error ratio", group_by, Ratio::Share { share }))
}

fn indicator(kind: &'static str, group_by: &[String], ratio: Ratio) -> Indicator {
    let bad = "as its PromQL says".to_owned();
    Indicator { kind, about: String::new(), bad, ratio, group: group_by.to_vec() }
}

fn check_labels(labels: &[String]) -> Result<(), String> {
    for (i, label) in labels.iter().enumerate() {
        let letters = label.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if label.is_empty() || !letters || label.starts_with(|c: char| c.is_ascii_digit()) || label.starts_with("__") {
            return Err(format!("group_by: {label:?} is not a valid label name"));
        }
        if label.starts_with("sloth_") {
            return Err(format!("group_by: the label {label:?} is set by the rules themselves"));
        }
        if labels[..i].contains(label) {
            return Err(format!("group_by: {label:?} is given twice"));
        }
    }
    Ok(())
}

/// The query over five minutes, one sample for each combination of the labels.
fn query(key: &str, written: &str, group_by: &[String], operator: &str) -> Result<String, String> {
    if written.trim().is_empty() {
        return Err(format!("{key} is empty; write PromQL such as `rate(errors_total[{{{{.window}}}}])`"));
    }
    if written.len() > QUERY_BYTES_MAX {
        return Err(format!("{key} has {} bytes, of at most {QUERY_BYTES_MAX}", written.len()));
    }
    let filled = fill(written).map_err(|problem| format!("{key}: {problem}"))?;
    let parsed = promql::parse(&filled).map_err(|error| format!("{key}: could not parse expression: {error}"))?;
    match parsed.kind() {
        promql::ValueKind::Vector => {}
        promql::ValueKind::Scalar if group_by.is_empty() => return Ok(format!("vector({parsed})")),
        other => return Err(format!("{key} gives a {other:?} and not an instant vector")),
    }
    // What is no number, as 0 / 0, would spoil every window that it is in: a comparison leaves it out.
    Ok(match group_by.is_empty() {
        true => format!("({operator} ({parsed}) >= 0)"),
        false => format!("({operator} by ({}) ({parsed}) >= 0)", group_by.join(", ")),
    })
}

/// Puts five minutes for `{{.window}}`, whatever blanks stand in it.
fn fill(written: &str) -> Result<String, String> {
    let mut filled = String::with_capacity(written.len());
    let mut rest = written;
    while let Some((before, after)) = rest.split_once("{{") {
        // `{{` occurs in PromQL nowhere else but in texts, where it would be a template as well.
        let Some((name, after)) = after.split_once("}}") else {
            return Err("a template `{{` is not closed".to_owned());
        };
        if name.trim() != ".window" {
            return Err(format!("the template `{{{{{name}}}}}` is not known; known is `{{{{.window}}}}`"));
        }
        filled.push_str(before);
        filled.push_str("5m");
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}
