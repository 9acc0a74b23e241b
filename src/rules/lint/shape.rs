//! What surrounds the expression: `for`, severity, texts, names; and expressions that are no condition.

use super::codes;
use super::walk::{Subject, any, called, metric, selectors};
use crate::promql::ast::{BinaryOp, Kind, Node, ValueKind};
use crate::rules::definition::{AlertingRule, Rule};
use crate::units::PromDuration;

/// A window this long smooths by itself, so such an alert needs no `for`.
const SMOOTH_MS: i64 = 10 * 60 * 1000;

pub(super) fn check(subject: &mut Subject<'_>) {
    match subject.rule {
        Rule::Alerting(rule) => alerting(subject, rule),
        Rule::Recording(rule) => {
            let parts: Vec<&str> = rule.name.split(':').collect();
            if parts.len() < 3 || parts.iter().any(|part| part.is_empty()) {
                let message = format!(
                    "{} is not of the form level:metric:operation, so nobody can tell that it is recorded, nor what of",
                    rule.name
                );
                subject.report(codes::RECORD_NAME, message, None);
            }
        }
    }
    past_retention(subject);
}

fn past_retention(subject: &mut Subject<'_>) {
    let reach = subject.rule.expr().reach(std::time::Duration::from_secs(300));
    let retention = subject.options.retention;
    if reach > retention + std::time::Duration::from_secs(600) {
        let (reach, kept) = (PromDuration::from(whole_seconds(reach)), PromDuration::from(retention));
        let message =
            format!("it reads {reach} back, and samples are kept for {kept}: the oldest part is always missing");
        subject.report(codes::PAST_RETENTION, message, None);
    }
}

fn whole_seconds(duration: std::time::Duration) -> std::time::Duration {
    std::time::Duration::from_secs(duration.as_secs())
}

fn alerting(subject: &mut Subject<'_>, rule: &AlertingRule) {
    let root = subject.root();
    let severity = rule.labels.iter().find(|(name, _)| name == "severity").map(|(_, text)| text.written());
    let found = selectors(root);
    if severity.is_none() {
        let message = "without a severity label routes cannot tell a page from a note";
        subject.report(codes::NO_SEVERITY, message, None);
    }
    if !rule.annotations.iter().any(|(name, _)| ["summary", "description", "message", "title"].contains(&name.as_str()))
    {
        let message = "without a summary whoever is woken reads an expression";
        subject.report(codes::NO_SUMMARY, message, None);
    }
    let is_calm = matches!(severity, Some("none" | "info" | "page_never"));
    let over_long =
        !found.is_empty() && found.iter().all(|selector| selector.range_ms.is_some_and(|ms| ms >= SMOOTH_MS));
    if rule.hold.is_zero() && !is_calm && !found.is_empty() && !over_long {
        let message = "without `for` one bad evaluation, one late scrape, is enough to wake somebody";
        subject.report(codes::NO_FOR, message, None);
    }
    if !rule.hold.is_zero() && rule.hold < subject.group.interval {
        let (hold, interval) = (PromDuration::from(rule.hold), PromDuration::from(subject.group.interval));
        let message = format!(
            "`for: {hold}` is shorter than the group's interval {interval}: it is always two evaluations, so {interval} is what it means"
        );
        subject.report(codes::FOR_TOO_SHORT, message, None);
    }
    if let Some(node) = always_some(root) {
        let fix = without_bool(subject, node);
        let message = "with bool the comparison yields 0 instead of nothing, and an alert fires for each sample whatever its value";
        subject.report(codes::BOOL_COMPARISON, message, fix);
    } else if !found.is_empty() && root.value == ValueKind::Vector && !any(root, is_condition) {
        let message = "nothing is compared, so it fires as long as there are series at all";
        subject.report(codes::NO_CONDITION, message, None);
    }
}

/// A comparison with `bool` whose result the alert takes as it is.
fn always_some(node: &Node) -> Option<&Node> {
    let node = node.unwrapped();
    match &node.kind {
        Kind::Binary(binary) if binary.op.is_comparison() && binary.return_bool => Some(node),
        Kind::Binary(binary) if matches!(binary.op, BinaryOp::Or) => {
            always_some(&binary.left).or_else(|| always_some(&binary.right))
        }
        Kind::Binary(binary) if matches!(binary.op, BinaryOp::And | BinaryOp::Unless) => {
            // Another operand may still be a condition.
            always_some(&binary.left).filter(|_| !any(&binary.right, is_condition))
        }
        _ => None,
    }
}

fn without_bool(subject: &Subject<'_>, node: &Node) -> Option<String> {
    let Kind::Binary(binary) = &node.kind else { return None };
    if binary.matching != crate::promql::ast::Matching::default() {
        return None;
    }
    subject.replaced(node.span, &format!("{} {} {}", binary.left, binary.op.as_str(), binary.right))
}

/// Whether the node takes series away by what they say.
fn is_condition(node: &Node) -> bool {
    match &node.kind {
        Kind::Binary(binary) => {
            (binary.op.is_comparison() && !binary.return_bool) || matches!(binary.op, BinaryOp::Unless | BinaryOp::And)
        }
        // Another rule has judged.
        Kind::Selector(selector) => {
            metric(selector).is_some_and(|name| name.starts_with("ALERTS") || name.contains(':'))
        }
        Kind::Aggregate(aggregate) => aggregate.param.is_some(),
        _ => matches!(called(node), Some("absent" | "absent_over_time")),
    }
}
