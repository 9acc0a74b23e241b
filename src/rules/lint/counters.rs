//! Counters read as they should not be: compared raw, summed before the rate, over too short a range; and histograms.

use std::time::Duration;

use super::codes;
use super::names::{self, MetricKind};
use super::walk::{Subject, any, called, conjuncts, each, is_rate, metric, number, selectors, with_matchers, written};
use crate::model::{MatchOp, Matcher};
use crate::promql::ast::{Aggregate, AggregateOp, BinaryOp, Kind, Node, VectorSelector};
use crate::units::PromDuration;

/// Functions that need two samples in their range.
const NEED_TWO: [&str; 7] = ["rate", "increase", "irate", "delta", "idelta", "deriv", "predict_linear"];
/// Least range of an offered rate.
const OFFERED_RANGE: Duration = Duration::from_secs(300);

pub(super) fn check(subject: &mut Subject<'_>) {
    let root = subject.root();
    let mut nodes: Vec<(&Node, Vec<&Node>)> = Vec::new();
    each(root, &mut |node, above| nodes.push((node, above.to_vec())));
    for (node, above) in nodes {
        match &node.kind {
            Kind::Selector(selector) => raw_counter(subject, node, selector, &above),
            Kind::Call { args, .. } if called(node) == Some("histogram_quantile") => {
                if let Some(buckets) = args.get(1) {
                    quantile(subject, buckets);
                }
            }
            Kind::Call { args, .. } => {
                let Some(name) = called(node).filter(|name| NEED_TWO.contains(name)) else { continue };
                if let Some(arg) = args.first() {
                    over_range(subject, node, name, arg.unwrapped());
                }
            }
            _ => {}
        }
    }
}

/// A range that surely holds several samples.
fn wide(scrape_interval: Duration) -> PromDuration {
    OFFERED_RANGE.max(scrape_interval * 4).into()
}

/// How a counter comes to be compared, going up from it; none when it is read in a way that is right.
fn comparison<'a>(node: &'a Node, above: &[&'a Node]) -> Option<(BinaryOp, Option<f64>)> {
    let (mut below, mut compared) = (node, None);
    for parent in above.iter().rev() {
        match &parent.kind {
            Kind::Subquery(_) => return None,
            Kind::Call { .. } if matches!(called(parent), Some("absent" | "timestamp" | "scalar" | "info")) => {
                return None;
            }
            Kind::Aggregate(aggregate)
                if matches!(aggregate.op, AggregateOp::Count | AggregateOp::Group | AggregateOp::CountValues) =>
            {
                return None;
            }
            Kind::Binary(binary) => {
                let is_right = std::ptr::eq(below, &binary.right);
                match binary.op {
                    BinaryOp::And | BinaryOp::Unless if is_right => return None,
                    // What is divided by a total of something else: a capacity, not a counter.
                    BinaryOp::Div if is_right && !same_metric(&binary.left, below) => return None,
                    // The difference of two counters, or of one counter at two times.
                    BinaryOp::Sub => return None,
                    op if op.is_comparison() && !is_right => compared = Some((op, number(&binary.right))),
                    _ => {}
                }
            }
            _ => {}
        }
        below = parent;
    }
    compared
}

fn same_metric(a: &Node, b: &Node) -> bool {
    let names = |node| selectors(node).into_iter().filter_map(metric).collect::<Vec<_>>();
    names(a).iter().any(|name| names(b).contains(name))
}

fn raw_counter(subject: &mut Subject<'_>, node: &Node, selector: &VectorSelector, above: &[&Node]) {
    let Some(name) = metric(selector) else { return };
    if subject.alert().is_none() || selector.range_ms.is_some() || names::kind(name) != MetricKind::Counter {
        return;
    }
    // Both buckets and their quantile are told as one thing, by `quantile`.
    if above.iter().any(|node| called(node) == Some("histogram_quantile")) {
        return;
    }
    let Some((op, _)) = comparison(node, above) else { return };
    let counted = match selector.matchers.iter().any(|m| &*m.name == "response_code" && only_server_errors(m)) {
        true => "the first 5xx",
        false => "it has once been passed",
    };
    let message = match op {
        BinaryOp::Greater | BinaryOp::GreaterEqual | BinaryOp::NotEqual => format!(
            "fires forever after {counted}: {name} is a counter, which never falls, and says nothing of how often it happens now"
        ),
        _ => format!(
            "{name} is a counter: compared as it stands it tells since when the process runs, not what happens now"
        ),
    };
    let fix = error_ratio(subject, selector).or_else(|| {
        let range = wide(subject.options.scrape_interval);
        subject.replaced(node.span, &format!("rate({})", ranged(selector, range)))
    });
    subject.report(codes::COUNTER_COMPARED, message, fix);
}

fn only_server_errors(matcher: &Matcher) -> bool {
    (matcher.matches("500") || matcher.matches("503")) && !matcher.matches("200") && !matcher.matches("404")
}

fn ranged(selector: &VectorSelector, range: PromDuration) -> VectorSelector {
    let range_ms = i64::try_from(range.get().as_millis()).unwrap_or(i64::MAX);
    VectorSelector { range_ms: Some(range_ms), ..selector.clone() }
}

/// What `istio_requests_total{response_code=~"5.*"} > 0.1` means to say: the share of a service's calls that fail, as its
/// callers see it, while there is traffic.
fn error_ratio(subject: &Subject<'_>, selector: &VectorSelector) -> Option<String> {
    let Kind::Binary(binary) = &subject.root().unwrapped().kind else { return None };
    let limit = number(&binary.right).filter(|limit| (0.0..1.0).contains(limit))?;
    let is_whole = matches!(&binary.left.unwrapped().kind, Kind::Selector(_));
    let codes_of = |m: &&Matcher| &*m.name == "response_code";
    let failed = selector.matchers.iter().find(codes_of)?;
    if !is_whole || metric(selector)? != "istio_requests_total" || !only_server_errors(failed) {
        return None;
    }
    let mut all: Vec<Matcher> = selector.matchers.iter().filter(|m| !codes_of(m)).cloned().collect();
    if !all.iter().any(|m| &*m.name == "reporter") {
        all.push(Matcher::new(MatchOp::Regex, "reporter", "source|waypoint").ok()?);
    }
    let mut errors = all.clone();
    errors.push(Matcher::new(MatchOp::Regex, "response_code", "5..|0").ok()?);
    let range = wide(subject.options.scrape_interval);
    let sum = |matchers: Vec<Matcher>| {
        let selector = ranged(&with_matchers(selector, matchers), range);
        format!("sum by (destination_service_namespace, destination_service_name) (rate({selector}))")
    };
    let total = sum(all);
    let limit = if limit == 0.0 { 0.1 } else { limit };
    written(&format!("{} / {total} > {limit} and {total} > 0.1", sum(errors)))
}

fn over_range(subject: &mut Subject<'_>, call: &Node, name: &'static str, arg: &Node) {
    match &arg.kind {
        Kind::Selector(selector) => {
            too_short(subject, name, arg, selector);
            wrong_kind(subject, call, name, selector);
            if name == "irate" && subject.alert().is_some() {
                let message = "irate looks at the last two samples only, so one quiet moment resets `for` and one spike decides; use rate";
                let range = selector.range_ms.map_or(0, i64::unsigned_abs);
                let range = PromDuration::from(Duration::from_millis(range))
                    .get()
                    .max(wide(subject.options.scrape_interval).get());
                let fix = subject.replaced(call.span, &format!("rate({})", ranged(selector, range.into())));
                subject.report(codes::IRATE_IN_ALERT, message, fix);
            }
        }
        Kind::Subquery(subquery) if matches!(name, "rate" | "increase" | "irate") => {
            let Kind::Aggregate(aggregate) = &subquery.inner.unwrapped().kind else { return };
            rate_of_sum(subject, call, name, (aggregate, Duration::from_millis(subquery.range_ms.unsigned_abs())));
        }
        _ => {}
    }
}

fn too_short(subject: &mut Subject<'_>, name: &str, node: &Node, selector: &VectorSelector) {
    let range = Duration::from_millis(selector.range_ms.unwrap_or(0).unsigned_abs());
    let scrape_interval = subject.options.scrape_interval;
    if range >= scrape_interval * 2 {
        return;
    }
    let (range, interval) = (PromDuration::from(range), PromDuration::from(scrape_interval));
    let message = format!(
        "{name} needs two samples, and a range of {range} may hold one only when series are scraped every {interval}: there are gaps, or nothing at all"
    );
    subject.edit(codes::RATE_TOO_SHORT, message, node, ranged(selector, (scrape_interval * 4).into()).to_string());
}

fn wrong_kind(subject: &mut Subject<'_>, call: &Node, name: &'static str, selector: &VectorSelector) {
    let Some(metric) = metric(selector) else { return };
    match (names::kind(metric), name) {
        (MetricKind::Gauge, "rate" | "increase" | "irate") => {
            let instead = if name == "increase" { "delta" } else { "deriv" };
            let message = format!(
                "{metric} is a gauge: {name} takes each fall for a restart and adds what was there before; use {instead}"
            );
            let fix = subject.replaced(call.span, &format!("{instead}({selector})"));
            subject.report(codes::RATE_OF_GAUGE, message, fix);
        }
        (MetricKind::Counter, "delta" | "idelta" | "deriv" | "predict_linear") => {
            let instead = match name {
                "delta" => Some("increase"),
                "idelta" => Some("irate"),
                "deriv" => Some("rate"),
                _ => None,
            };
            let message =
                format!("{metric} is a counter: {name} does not know restarts, and falls far below zero at each");
            let fix = instead.and_then(|instead| subject.replaced(call.span, &format!("{instead}({selector})")));
            subject.report(codes::DELTA_OF_COUNTER, message, fix);
        }
        _ => {}
    }
}

fn rate_of_sum(subject: &mut Subject<'_>, call: &Node, name: &str, (aggregate, range): (&Aggregate, Duration)) {
    let is_counter = |selector: &&VectorSelector| {
        selector.range_ms.is_none() && metric(selector).is_some_and(|name| names::kind(name) == MetricKind::Counter)
    };
    if aggregate.op == AggregateOp::Count || aggregate.op == AggregateOp::Group {
        return;
    }
    if !selectors(&aggregate.inner).iter().any(is_counter) || any(&aggregate.inner, is_rate) {
        return;
    }
    let message = format!(
        "{name} of a sum: the restart of one process makes the sum fall, which counts as everything starting anew; take the rate first"
    );
    let fix = match &aggregate.inner.unwrapped().kind {
        Kind::Selector(selector) => {
            let words = if aggregate.without { "without" } else { "by" };
            let inner = format!("{name}({})", ranged(selector, range.into()));
            let text = format!("{} {words} ({}) ({inner})", aggregate.op.as_str(), aggregate.grouping.join(", "));
            subject.replaced(call.span, &text)
        }
        _ => None,
    };
    subject.report(codes::RATE_OF_SUM, message, fix);
}

fn quantile(subject: &mut Subject<'_>, buckets: &Node) {
    let mut node = buckets.unwrapped();
    while let Kind::Aggregate(aggregate) = &node.kind {
        let has = aggregate.grouping.iter().any(|label| label == "le");
        let loses = match aggregate.without {
            true => has,
            false => !has,
        };
        if loses && matches!(aggregate.op, AggregateOp::Sum | AggregateOp::Avg | AggregateOp::Max | AggregateOp::Min) {
            let mut grouping = aggregate.grouping.clone();
            match aggregate.without {
                true => grouping.retain(|label| label != "le"),
                false => grouping.insert(0, "le".to_owned()),
            }
            let words = if aggregate.without { "without" } else { "by" };
            let text = format!("{} {words} ({}) ({})", aggregate.op.as_str(), grouping.join(", "), aggregate.inner);
            let message =
                "histogram_quantile finds no buckets, because the aggregation drops `le`: there is never a result";
            let fix = subject.replaced(node.span, &text);
            subject.report(codes::QUANTILE_WITHOUT_LE, message, fix);
        }
        node = aggregate.inner.unwrapped();
    }
    raw_buckets(subject, node);
}

fn raw_buckets(subject: &mut Subject<'_>, node: &Node) {
    let Kind::Selector(selector) = &node.kind else { return };
    let Some(name) = metric(selector).filter(|name| name.ends_with("_bucket") && !name.contains(':')) else { return };
    let message = format!(
        "a quantile of {name} since the processes started hides what happens now; take the rate of the buckets"
    );
    let range = wide(subject.options.scrape_interval);
    let fix = subject.replaced(node.span, &format!("rate({})", ranged(selector, range)));
    subject.report(codes::QUANTILE_OF_COUNTERS, message, fix);
}

/// Whether the expression is guarded by another condition.
pub(super) fn others<'a>(root: &'a Node, one: &Node) -> Vec<&'a Node> {
    conjuncts(root).into_iter().filter(|other| !std::ptr::eq(*other, one)).collect()
}
