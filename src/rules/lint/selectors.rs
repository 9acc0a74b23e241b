//! Selectors: both proxies of a call counted, labels and values that do not exist, regular expressions.

use super::codes;
use super::names;
use super::walk::{Subject, called, each, metric, with_matchers};
use crate::model::{METRIC_NAME, MatchOp, Matcher};
use crate::promql::ast::{Kind, Node, VectorSelector};

pub(super) fn check(subject: &mut Subject<'_>) {
    let mut found: Vec<(&Node, &VectorSelector, Vec<&Node>)> = Vec::new();
    each(subject.root(), &mut |node, above| {
        if let Kind::Selector(selector) = &node.kind {
            found.push((node, selector, above.to_vec()));
        }
    });
    for (node, selector, above) in found {
        both_sides(subject, node, selector, &above);
        for matcher in selector.matchers.iter() {
            regex(subject, node, selector, matcher);
            value(subject, selector, matcher);
        }
        names_of_labels(subject, selector, &above);
        unseen(subject, selector);
        if above.last().is_some_and(|node| called(node) == Some("absent")) {
            absent(subject, selector);
        }
    }
}

/// Whether the matchers let only series with the label at one of `values` through that satisfy `wanted`.
fn lets_through(selector: &VectorSelector, label: &str, value: &str) -> bool {
    selector.matchers.iter().filter(|m| &*m.name == label).all(|m| m.matches(value))
}

fn both_sides(subject: &mut Subject<'_>, node: &Node, selector: &VectorSelector, above: &[&Node]) {
    let (label, sides, side) = match metric(selector) {
        Some(name) if names::is_istio_traffic(name) => ("reporter", ["source", "destination"], "source|waypoint"),
        Some(_) if names::is_linkerd_traffic(selector) => ("direction", ["outbound", "inbound"], "inbound"),
        _ => return,
    };
    let kept_apart = above.iter().any(|node| match &node.kind {
        Kind::Aggregate(aggregate) => !aggregate.without && aggregate.grouping.iter().any(|name| name == label),
        Kind::Binary(binary) => binary.matching.on && binary.matching.labels.iter().any(|name| name == label),
        Kind::Call { .. } => called(node) == Some("absent"),
        _ => false,
    });
    // Only the called side knows how a connection was secured, and only Linkerd's outbound series know a destination.
    let told_otherwise = match label {
        "reporter" => !lets_through(selector, "connection_security_policy", "unknown"),
        _ => selector.matchers.iter().any(|m| m.name.starts_with("dst_") || &*m.name == "client_id"),
    };
    if kept_apart || told_otherwise || !sides.iter().all(|side| lets_through(selector, label, side)) {
        return;
    }
    let message = format!(
        "both proxies of a call report it, under {label} {} and {}: without a matcher on {label} each call counts twice, and failures that only one of them sees count half",
        sides[0], sides[1]
    );
    let mut matchers: Vec<Matcher> = selector.matchers.iter().filter(|m| &*m.name != label).cloned().collect();
    let op = if side.contains('|') { MatchOp::Regex } else { MatchOp::Equal };
    matchers.extend(Matcher::new(op, label, side).ok());
    subject.edit(codes::BOTH_SIDES, message, node, with_matchers(selector, matchers).to_string());
}

fn is_positive(matcher: &Matcher) -> bool {
    matches!(matcher.op, MatchOp::Equal | MatchOp::Regex) && !matcher.matches_empty()
}

fn value(subject: &mut Subject<'_>, selector: &VectorSelector, matcher: &Matcher) {
    if !is_positive(matcher) {
        return;
    }
    let metric = metric(selector).unwrap_or_default();
    if let Some(possible) = names::possible_values(selector, &matcher.name)
        && !possible.iter().any(|value| matcher.matches(value))
    {
        let some = if possible.len() > 20 { "a number such as 200 or 503".to_owned() } else { possible.join(", ") };
        let message = format!(
            "no value of {} of {metric} can match {:?}, so nothing is ever selected; possible: {some}",
            matcher.name, &*matcher.value
        );
        let class = matcher.value.strip_suffix("xx").filter(|digit| digit.len() == 1);
        let fix = class.map(|digit| format!("{}=~\"{digit}..\"", matcher.name));
        return subject.report(codes::IMPOSSIBLE_VALUE, message, fix);
    }
    let secured = &*matcher.name == "connection_security_policy" && !matcher.matches("unknown");
    let by_caller = !["destination", "waypoint"].iter().any(|side| lets_through(selector, "reporter", side));
    if secured && by_caller && names::is_istio_traffic(metric) {
        let message = format!(
            "the caller's proxy always reports connection_security_policy \"unknown\", so {:?} with reporter \"source\" selects nothing; ask the called side",
            &*matcher.value
        );
        subject.report(codes::IMPOSSIBLE_VALUE, message, None);
    }
}

fn names_of_labels(subject: &mut Subject<'_>, selector: &VectorSelector, above: &[&Node]) {
    if !metric(selector).is_some_and(names::is_istio_traffic) {
        return;
    }
    let matched = selector.matchers.iter().map(|m| m.name.to_string());
    let grouped = above.iter().rev().find_map(|node| match &node.kind {
        Kind::Aggregate(aggregate) => Some(aggregate.grouping.clone()),
        _ => None,
    });
    for label in matched.chain(grouped.into_iter().flatten()) {
        if let Some(meant) = names::meant_istio_label(&label) {
            let metric = metric(selector).unwrap_or_default();
            let message = format!("Istio puts no label {label} on {metric}; {meant} is meant");
            subject.report(codes::UNKNOWN_LABEL, message, None);
        }
    }
}

/// What nobody has ever seen, when it is known what there is.
fn unseen(subject: &mut Subject<'_>, selector: &VectorSelector) {
    let (Some(seen), Some(name)) = (&subject.options.seen, metric(selector)) else { return };
    let Some(labels) = seen.labels(name) else { return };
    if labels.is_empty() {
        let message = format!("no series of {name} is there, so this selects nothing");
        return subject.report(codes::UNSEEN, message, None);
    }
    let mut messages = Vec::new();
    for matcher in selector.matchers.iter().filter(|m| is_positive(m) && &*m.name != METRIC_NAME) {
        match labels.get(&*matcher.name) {
            None => {
                messages.push(format!("no series of {name} has the label {}, so this selects nothing", matcher.name))
            }
            Some(values) if !values.is_empty() && !values.iter().any(|value| matcher.matches(value)) => {
                messages.push(format!(
                    "{}{}{:?} matches none of the {} values that {name} has now",
                    matcher.name,
                    matcher.op.as_str(),
                    &*matcher.value,
                    values.len()
                ));
            }
            Some(_) => {}
        }
    }
    messages.into_iter().for_each(|message| subject.report(codes::UNSEEN, message, None));
}

fn absent(subject: &mut Subject<'_>, selector: &VectorSelector) {
    let Some(matcher) = selector.matchers.iter().find(|m| m.op == MatchOp::Regex && m.value.contains('|')) else {
        return;
    };
    let message = format!(
        "absent() with {}=~{:?} fires only when all of them are missing, and cannot say which: write one absent() for each, joined by `or`",
        matcher.name, &*matcher.value
    );
    subject.report(codes::ABSENT_REGEX, message, None);
}

fn regex(subject: &mut Subject<'_>, node: &Node, selector: &VectorSelector, matcher: &Matcher) {
    let plain_op = match matcher.op {
        MatchOp::Regex => MatchOp::Equal,
        MatchOp::NotRegex => MatchOp::NotEqual,
        MatchOp::Equal | MatchOp::NotEqual => return,
    };
    let (name, value) = (&matcher.name, &*matcher.value);
    if &**name == METRIC_NAME {
        let message = format!(
            "{value:?} selects metrics by the look of their names: it is slow, and takes up tomorrow's metrics unasked"
        );
        return subject.report(codes::NAME_REGEX, message, None);
    }
    let bare = value.strip_prefix('^').unwrap_or(value);
    let bare = bare.strip_suffix('$').filter(|rest| !rest.ends_with('\\')).unwrap_or(bare);
    let is_plain = |text: &str| {
        !text.is_empty() && !text.contains(['.', '*', '+', '?', '(', ')', '[', ']', '{', '}', '|', '\\', '^', '$'])
    };
    let (code, message, op) = if is_plain(bare) {
        let message = format!(
            "{value:?} is no pattern, so {name}{} does the same and is quicker to read and to find",
            plain_op.as_str()
        );
        (codes::PLAIN_REGEX, message, plain_op)
    } else if bare.len() < value.len() && !bare.contains(['^', '$']) {
        let message = format!("patterns in PromQL match whole values, so ^ and $ around {bare:?} say nothing");
        (codes::ANCHORED_REGEX, message, matcher.op)
    } else {
        return;
    };
    let mended = |m: &Matcher| match m == matcher {
        true => Matcher::new(op, name, bare).unwrap_or_else(|_| m.clone()),
        false => m.clone(),
    };
    let text = with_matchers(selector, selector.matchers.iter().map(mended).collect()).to_string();
    subject.edit(code, message, node, text);
}
