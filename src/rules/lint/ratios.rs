//! Shares and quantiles of requests: judged on too few, lost when there is nothing above the line, or not taken at all.

use super::codes;
use super::counters::others;
use super::names;
use super::walk::{Subject, any, called, conjuncts, each, is_rate, metric, number, selectors};
use crate::promql::ast::{Binary, BinaryOp, Kind, Node};

pub(super) fn check(subject: &mut Subject<'_>) {
    let root = subject.root();
    if subject.alert().is_some() {
        for condition in conditions(root) {
            if let Kind::Binary(binary) = &condition.kind
                && binary.op.is_comparison()
                && number(&binary.right).is_some()
            {
                few_requests(subject, condition, binary);
                quantile_of_few(subject, condition, binary);
                absolute(subject, condition, binary);
            }
        }
    }
    let mut divisions = Vec::new();
    each(root, &mut |node, above| {
        if let Kind::Binary(binary) = &node.kind
            && binary.op == BinaryOp::Div
        {
            divisions.push((node, &**binary, above.to_vec()));
        }
    });
    for (node, binary, above) in divisions {
        empty_above(subject, node, binary, &above);
    }
}

/// What can make the alert fire: the conjuncts of each alternative.
fn conditions(root: &Node) -> Vec<&Node> {
    conjuncts(root)
        .into_iter()
        .flat_map(|node| match &node.kind {
            Kind::Binary(binary) if binary.op == BinaryOp::Or => {
                let mut both = conditions(&binary.left);
                both.extend(conditions(&binary.right));
                both
            }
            _ => vec![node],
        })
        .collect()
}

/// The division in `… / … > x`, `1 - … / … > x` or `100 * … / … > x`.
fn division(node: &Node) -> Option<&Binary> {
    match &node.unwrapped().kind {
        Kind::Binary(binary) => match binary.op {
            BinaryOp::Div if number(&binary.right).is_none() => Some(binary),
            BinaryOp::Mul | BinaryOp::Sub | BinaryOp::Div => division(&binary.left).or_else(|| division(&binary.right)),
            _ => None,
        },
        _ => None,
    }
}

fn is_rate_of_requests(node: &Node) -> bool {
    any(node, is_rate) && selectors(node).iter().any(|selector| metric(selector).is_some_and(names::counts_requests))
}

fn few_requests(subject: &mut Subject<'_>, condition: &Node, binary: &Binary) {
    let Some(share) = division(&binary.left) else { return };
    if !is_rate_of_requests(&share.right) {
        return;
    }
    if is_guarded(subject.root(), condition) {
        return;
    }
    let message = "one failure in a handful of requests passes this share: a night without traffic wakes somebody; ask for a minimum of traffic as well";
    let fix = subject.replaced(condition.span, &format!("({condition} and {} > 0.1)", share.right));
    subject.report(codes::NO_MINIMUM_TRAFFIC, message, fix);
}

/// Whether a minimum is asked for beside the condition: a comparison of what is neither a share nor a quantile.
fn is_guarded(root: &Node, condition: &Node) -> bool {
    let is_guard = |node: &&Node| match &node.kind {
        Kind::Binary(binary) if binary.op.is_comparison() => {
            division(&binary.left).is_none() && quantile(&binary.left).is_none()
        }
        _ => false,
    };
    // Within an `or` the guard stands beside the condition, in the alternative itself.
    let guarded = |root: &Node| others(root, condition).iter().any(is_guard);
    guarded(root) || any(root, |node| matches!(&node.kind, Kind::Binary(b) if b.op == BinaryOp::And && guarded(node)))
}

/// The buckets of the quantile in `histogram_quantile(0.95, …) > x`.
fn quantile(node: &Node) -> Option<&Node> {
    match &node.unwrapped().kind {
        Kind::Call { args, .. } if called(node.unwrapped()) == Some("histogram_quantile") => args.get(1),
        Kind::Binary(binary) => quantile(&binary.left).or_else(|| quantile(&binary.right)),
        _ => None,
    }
}

fn quantile_of_few(subject: &mut Subject<'_>, condition: &Node, binary: &Binary) {
    let is_upper = matches!(binary.op, BinaryOp::Greater | BinaryOp::GreaterEqual);
    let Some(buckets) = quantile(&binary.left).filter(|buckets| is_upper && any(buckets, is_rate)) else { return };
    let selectors = selectors(buckets);
    let name = selectors.first().and_then(|selector| metric(selector));
    let Some(base) = name.and_then(|name| name.strip_suffix("_bucket")).filter(|base| !base.contains(':')) else {
        return;
    };
    let count = format!("{base}_count");
    if !names::counts_requests(&count) || is_guarded(subject.root(), condition) {
        return;
    }
    let message = "of a handful of requests one slow one is the whole quantile: a night without traffic wakes somebody; ask for a minimum of traffic as well";
    let fix = observations(buckets, &format!("{base}_bucket"), &count)
        .and_then(|rate| subject.replaced(condition.span, &format!("({condition} and {rate} > 0.1)")));
    subject.report(codes::NO_MINIMUM_TRAFFIC, message, fix);
}

/// The rate of what the buckets count, by the same labels but for `le`.
fn observations(buckets: &Node, bucket: &str, count: &str) -> Option<String> {
    let Kind::Aggregate(aggregate) = &buckets.unwrapped().kind else { return None };
    let grouping: Vec<&str> = aggregate.grouping.iter().map(String::as_str).filter(|label| *label != "le").collect();
    let inner = aggregate.inner.to_string().replace(bucket, count);
    let op = aggregate.op.as_str();
    Some(match (aggregate.without, grouping.is_empty()) {
        // The counts have no `le`, so it may stay among the labels left out.
        (true, _) => format!("{op} without ({}) ({inner})", aggregate.grouping.join(", ")),
        (false, true) => format!("{op}({inner})"),
        (false, false) => format!("{op} by ({}) ({inner})", grouping.join(", ")),
    })
}

fn absolute(subject: &mut Subject<'_>, condition: &Node, binary: &Binary) {
    let is_upper = matches!(binary.op, BinaryOp::Greater | BinaryOp::GreaterEqual);
    let Some(limit) = number(&binary.right).filter(|limit| *limit > 0.0 && is_upper) else { return };
    let has_share = |node: &Node| any(node, |node| matches!(&node.kind, Kind::Binary(b) if b.op == BinaryOp::Div));
    if !is_rate_of_requests(&binary.left) || has_share(&binary.left) {
        return;
    }
    // Beside a share or a latency it is the minimum of traffic that those need.
    if !others(subject.root(), condition).is_empty() || subject.root().unwrapped().span != condition.span {
        return;
    }
    let message = format!(
        "a fixed number of requests ({limit}) means something else at night and after growth; compare with all requests, or with the same hour of another day"
    );
    subject.report(codes::ABSOLUTE_THRESHOLD, message, None);
}

fn empty_above(subject: &mut Subject<'_>, node: &Node, binary: &Binary, above: &[&Node]) {
    let (over, under) = (selectors(&binary.left), selectors(&binary.right));
    let ([over, ..], [under, ..]) = (over.as_slice(), under.as_slice()) else { return };
    let (Some(name), true) = (metric(over), metric(over) == metric(under)) else { return };
    let of_few = any(&binary.left, is_rate) && over.matchers.len() > under.matchers.len();
    let has_or = any(&binary.left, |node| matches!(&node.kind, Kind::Binary(b) if b.op == BinaryOp::Or));
    if !of_few || has_or || !names::counts_requests(name) {
        return;
    }
    let below = above.iter().any(|node| match &node.kind {
        Kind::Binary(b) => matches!(b.op, BinaryOp::Less | BinaryOp::LessEqual),
        _ => false,
    });
    // `1 - errors / all < 0.99` has nothing to say when there are no errors, and is right to.
    let turned = above.iter().any(|node| matches!(&node.kind, Kind::Binary(b) if b.op == BinaryOp::Sub));
    let matters = match subject.alert() {
        Some(_) => below && !turned,
        None => true,
    };
    if !matters {
        return;
    }
    let message = "when nothing above the line was ever counted there is no result at all, rather than 0: the series has gaps, and what compares it stays silent";
    let fix = subject.replaced(node.span, &format!("({} or {} * 0) / {}", binary.left, binary.right, binary.right));
    subject.report(codes::NUMERATOR_ABSENT, message, fix);
}
