//! Operators between vectors whose series can never find each other.

use std::collections::BTreeSet;

use super::codes;
use super::labels::{self, LabelSet};
use super::walk::{Subject, each, metric, selectors};
use crate::promql::ast::{Binary, BinaryOp, Kind, Node, ValueKind};

pub(super) fn check(subject: &mut Subject<'_>) {
    let mut operators: Vec<(&Node, &Binary)> = Vec::new();
    each(subject.root(), &mut |node, _| {
        if let Kind::Binary(binary) = &node.kind {
            let of_vectors = binary.left.value == ValueKind::Vector && binary.right.value == ValueKind::Vector;
            if of_vectors && binary.op != BinaryOp::Or {
                operators.push((node, binary));
            }
        }
    });
    for (node, binary) in operators {
        if let Some((label, side)) = mismatch(binary) {
            let op = binary.op.as_str();
            let other = if side == "left" { "right" } else { "left" };
            let consequence = match binary.op {
                BinaryOp::Unless => "nothing is ever taken away",
                _ => "there is never a result",
            };
            let message = format!(
                "the series on both sides of `{op}` cannot match: those on the {side} have the label {label}, those on the {other} do not, so {consequence}"
            );
            subject.report(codes::CANNOT_MATCH, message, mended(subject, node, binary));
        }
    }
}

/// A label that must be equal on both sides and that one side does not have, with the side that has it.
fn mismatch(binary: &Binary) -> Option<(String, &'static str)> {
    let matching = &binary.matching;
    let narrowed = |set: LabelSet| match matching.on {
        true => set.of(&matching.labels),
        false => matching.labels.iter().fold(set, |set, label| set.without(label)),
    };
    let (left, right) = (labels::of(&binary.left), labels::of(&binary.right));
    if matching.on {
        // `on (x)` where one side has dropped x and the other was aggregated by it.
        let lost = |has: &LabelSet, lacks: &LabelSet| {
            let named = match has {
                LabelSet::Only(labels) => labels.clone(),
                LabelSet::AllBut(_) => matching.labels.iter().cloned().collect(),
            };
            matching
                .labels
                .iter()
                .find(|label| named.contains(*label) && has.can_have(label) && !lacks.can_have(label))
                .cloned()
        };
        return (lost(&left, &right).map(|label| (label, "left")))
            .or_else(|| lost(&right, &left).map(|label| (label, "right")));
    }
    match (narrowed(left), narrowed(right)) {
        (LabelSet::Only(left), LabelSet::Only(right)) => {
            let first = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).next().cloned();
            (first(&left, &right).map(|label| (label, "left")))
                .or_else(|| first(&right, &left).map(|label| (label, "right")))
        }
        // What is scraped has at least the label of the target; what is recorded or sent may have none.
        (LabelSet::AllBut(lost), LabelSet::Only(has)) if is_scraped(&binary.left, &lost, &has) => {
            Some(("instance".to_owned(), "left"))
        }
        (LabelSet::Only(has), LabelSet::AllBut(lost)) if is_scraped(&binary.right, &lost, &has) => {
            Some(("instance".to_owned(), "right"))
        }
        _ => None,
    }
}

fn is_scraped(node: &Node, lost: &BTreeSet<String>, other: &BTreeSet<String>) -> bool {
    let scraped = |name: &str| !name.contains(':') && !name.starts_with("ALERTS");
    !lost.contains("instance")
        && !other.contains("instance")
        && !other.contains("pod")
        && selectors(node).first().is_some_and(|first| metric(first).is_some_and(scraped))
        && matches!(&node.unwrapped().kind, Kind::Selector(_) | Kind::Call { .. })
}

/// With `on` the labels that both sides have, where both are aggregated and one has more.
fn mended(subject: &Subject<'_>, node: &Node, binary: &Binary) -> Option<String> {
    let (LabelSet::Only(left), LabelSet::Only(right)) = (labels::of(&binary.left), labels::of(&binary.right)) else {
        return None;
    };
    let both: Vec<String> = left.intersection(&right).cloned().collect();
    if binary.matching.on || !binary.matching.labels.is_empty() || both.is_empty() {
        return None;
    }
    let group = match (binary.op.is_set(), left.is_superset(&right), right.is_superset(&left)) {
        (true, ..) => "",
        (_, true, _) => "group_left ()",
        (_, _, true) => "group_right ()",
        _ => return None,
    };
    let bool_word = if binary.return_bool { " bool" } else { "" };
    let op = binary.op.as_str();
    let text = format!("{} {op}{bool_word} on ({}) {group} {}", binary.left, both.join(", "), binary.right);
    subject.replaced(node.span, &text)
}
