//! What labels that a Telemetry adds or takes away do to the number of series; those that change nothing are told without
//! traffic.
//!
//! In: tag overrides, and what the labels they name cost now ([`LabelCost`]). Out: findings with the number of series before
//! and after. Facts: Istio's Telemetry API (`tagOverrides`, `UPSERT` with a CEL expression, `REMOVE`), Envoy's attributes.

use std::collections::BTreeSet;

use super::{count, text};
use crate::audit::checks::Check;
use crate::audit::observed::LabelCost;
use crate::audit::{Found, Scene};
use crate::mesh::{Kind, Resource, Snapshot};
use crate::model::Severity;
use crate::rules::lint::ISTIO_LABELS;
use crate::yaml::Node;

pub(super) const CHECKS: &[Check] =
    &[Check::new("MS2076", Severity::Info, "an override changes how many series there are", &[], overrides)];

/// From so many times the series on an override is a warning …
const TIMES_MIN: f64 = 2.0;
/// … when there are at least so many of them.
const SERIES_MIN: f64 = 200.0;

/// Attributes whose values nobody bounds: each new one is a new series.
const UNBOUNDED: [(&str, &str); 10] = [
    ("request.path", "each path"),
    ("request.url_path", "each path"),
    ("request.query", "each query string"),
    ("request.id", "each request"),
    ("request.headers", "each value of the header"),
    ("request.referer", "each referring page"),
    ("request.useragent", "each kind of client"),
    ("source.address", "each connection"),
    ("source.port", "each connection"),
    ("connection.id", "each connection"),
];

/// What Istio writes into a label without being told.
const DEFAULTS: [(&str, &str); 3] = [
    ("response_code", "response.code"),
    ("grpc_response_status", "response.grpc_status"),
    ("response_flags", "response.flags"),
];

/// One override of one label.
struct Override<'a> {
    telemetry: &'a Resource,
    field: String,
    label: &'a str,
    removes: bool,
    value: &'a str,
}

fn all<'a>(mesh: &'a Snapshot) -> Vec<Override<'a>> {
    let mut found = Vec::new();
    for telemetry in mesh.of_kind(Kind::Telemetry) {
        for (i, metrics) in telemetry.list("spec.metrics").iter().enumerate() {
            for (j, node) in metrics.get("overrides").map(Node::items).unwrap_or_default().iter().enumerate() {
                // Which requests are counted is asked of their counter alone.
                let metric = text(node, &["match", "metric"]);
                if !matches!(metric, None | Some("ALL_METRICS" | "REQUEST_COUNT")) {
                    continue;
                }
                for (label, tag) in node.get("tagOverrides").map(Node::entries).unwrap_or_default() {
                    let Some(label) = label.as_str() else { continue };
                    let field = format!("spec.metrics[{i}].overrides[{j}].tagOverrides.{label}");
                    let removes = text(tag, &["operation"]) == Some("REMOVE");
                    let value = text(tag, &["value"]).unwrap_or_default();
                    found.push(Override { telemetry, field, label, removes, value });
                }
            }
        }
    }
    found
}

/// The labels that Telemetries add or take away, as far as a label of Prometheus can have such a name: what
/// [`super::super::gather_with`] asks the cost of.
pub fn overridden(mesh: &Snapshot) -> BTreeSet<String> {
    let is_label = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    all(mesh).into_iter().map(|one| one.label).filter(|label| is_label(label)).map(str::to_owned).collect()
}

fn overrides(scene: &Scene<'_>, found: &mut Found<'_>) {
    let whole = scene.observed.map(|one| &one.whole);
    let series = whole.and_then(|one| one.request_series).unwrap_or_default();
    for one in all(scene.mesh) {
        if !one.removes && DEFAULTS.contains(&(one.label, one.value)) {
            // That needs no traffic to be known.
            let message = format!("{} is {} without this override: it changes nothing", one.label, one.value);
            found.at(one.telemetry, &one.field, message).fix("# take it out");
            continue;
        }
        if series < 1.0 {
            continue;
        }
        let cost = whole.and_then(|one_whole| one_whole.labels.get(one.label)).copied().unwrap_or_default();
        match one.removes {
            true => removed(&one, &cost, series, found),
            false => added(&one, &cost, series, found),
        }
    }
}

/// What is saved by taking a label away; nothing is said where it is gone already.
fn removed(one: &Override<'_>, cost: &LabelCost, whole: f64, found: &mut Found<'_>) {
    if cost.series < 1.0 || cost.without >= cost.series {
        return;
    }
    let saved = cost.series - cost.without;
    let message = format!(
        "without {} there are {} series of istio_requests_total where {} are now: it is on {} of them still",
        one.label,
        count(whole - saved),
        count(whole),
        count(cost.series)
    );
    let evidence = format!(
        "{} has {} values, which make {} series of {}",
        one.label,
        count(cost.values),
        count(cost.series),
        count(cost.without)
    );
    let fix = "# proxies take the override when they next get their configuration; where it stays, another Telemetry holds\n\
               # (MS0903), or the override names another metric or mode";
    found.at(one.telemetry, &one.field, message).seen(evidence).fix(fix);
}

/// What a label that is added, or made anew, costs.
fn added(one: &Override<'_>, cost: &LabelCost, whole: f64, found: &mut Found<'_>) {
    let unbounded = UNBOUNDED.iter().find(|(attribute, _)| one.value.contains(attribute)).map(|(_, each)| *each);
    let is_new = !ISTIO_LABELS.contains(&one.label);
    if cost.series >= 1.0 && cost.without >= 1.0 && (is_new || unbounded.is_some()) {
        let times = cost.series / cost.without;
        let grave = times >= TIMES_MIN && cost.series >= SERIES_MIN;
        let message = format!(
            "{} multiplies the series of requests by {times:.1}: {} instead of {}",
            one.label,
            count(cost.series),
            count(cost.without)
        );
        let note = found.at(one.telemetry, &one.field, message);
        let note = note.seen(format!("{} values were seen, of {}", count(cost.values), one.value));
        let note = match unbounded {
            Some(each) => note.seen(format!("it grows on: {each} is a series for every edge and status")),
            None => note,
        };
        note.severity(if grave { Severity::Warning } else { Severity::Info }).fix(
            "# what tells requests apart one by one belongs into spans and access logs (customTags), not into metrics",
        );
        return;
    }
    let Some(each) = unbounded else { return };
    let message = format!(
        "each of the {} series of istio_requests_total will be one for {each}: nothing bounds how many there will be",
        count(whole)
    );
    found
        .at(one.telemetry, &one.field, message)
        .seen(format!("with ten values there are up to {}, with a hundred {}", count(whole * 10.0), count(whole * 100.0)))
        .severity(Severity::Warning)
        .fix("# put it on spans instead:\nspec:\n  tracing:\n  - customTags:\n      name:\n        header:\n          name: x-name");
}
