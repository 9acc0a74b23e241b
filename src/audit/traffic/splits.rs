//! Weighted routes against the split that was seen: canaries, blue-green, and callers that go past the route.
//!
//! Told by the callers' proxies (reporter source or waypoint), since only they follow a route. A rule with conditions is
//! not judged: metrics do not say which of its requests met them.

use std::collections::{BTreeMap, BTreeSet};

use super::statistics::{Tested, share};
use super::{CALLS_MIN, by_caller, callers, count, names, percent, sum, text};
use crate::audit::checks::Check;
use crate::audit::observed::{Calls, End, Observed, Side, words};
use crate::audit::{Found, Scene};
use crate::mesh::effective::for_mesh;
use crate::mesh::select::{Labels, selects};
use crate::mesh::{Kind, Resource};
use crate::model::Severity;
use crate::yaml::Node;

pub(super) const CHECKS: &[Check] = &[
    Check::new("MS2001", Severity::Warning, "traffic is not split as a route declares", &[], drift),
    Check::new("MS2002", Severity::Warning, "a destination without weight gets traffic", &[], stragglers),
    Check::new("MS2003", Severity::Warning, "callers go past a route that splits traffic", &[], bypasses),
];

/// Smallest difference that is told: a point of a hundred.
const DIFFERENCE_MIN: f64 = 0.01;

/// A destination of a split.
struct Part {
    host: String,
    subset: Option<String>,
    labels: Labels,
    /// Share of the sum of weights.
    weight: f64,
    field: String,
}

impl Part {
    fn name(&self) -> String {
        match &self.subset {
            Some(subset) => format!("{}/{subset}", self.host),
            None => self.host.clone(),
        }
    }
}

/// A rule that splits.
struct Split<'a> {
    route: &'a Resource,
    /// Hosts that callers name.
    hosts: Vec<String>,
    parts: Vec<Part>,
}

/// All rules that split without conditions, alone with their destinations in their VirtualService.
fn splits<'a>(scene: &Scene<'a>) -> Vec<Split<'a>> {
    let mut all = Vec::new();
    for route in scene.mesh.of_kind(Kind::VirtualService) {
        let rules = route.list("spec.http");
        for (at, rule) in rules.iter().enumerate() {
            let destinations = rule.get("route").map(Node::items).unwrap_or_default();
            let is_conditional = rule.get("match").is_some_and(|one| !one.items().is_empty());
            if destinations.len() < 2 || is_conditional {
                continue;
            }
            let parts = parts(scene, route, at, destinations);
            let hosts: BTreeSet<&str> = parts.iter().map(|part| part.host.as_str()).collect();
            let others = rules
                .iter()
                .enumerate()
                .filter(|(i, _)| *i != at)
                .flat_map(|(_, rule)| rule.get("route").map(Node::items).unwrap_or_default());
            let mut others = others.filter_map(|one| text(one, &["destination", "host"]));
            if parts.is_empty() || others.any(|host| hosts.contains(scene.host(route, host).as_str())) {
                continue;
            }
            let named = route.list("spec.hosts").iter().filter_map(Node::as_str);
            all.push(Split { route, hosts: named.map(|host| scene.host(route, host)).collect(), parts });
        }
    }
    all
}

fn parts(scene: &Scene<'_>, route: &Resource, at: usize, destinations: &[Node]) -> Vec<Part> {
    let weight = |node: &Node| super::number(node, &["weight"]).unwrap_or(0.0);
    let whole: f64 = destinations.iter().map(weight).sum();
    if whole <= 0.0 {
        return Vec::new();
    }
    let part = |(i, node): (usize, &Node)| {
        let host = scene.host(route, text(node, &["destination", "host"])?);
        let subset = text(node, &["destination", "subset"]).map(str::to_owned);
        let labels = subset.as_deref().map(|name| subset_labels(scene, route, &host, name)).unwrap_or_default();
        let field = format!("spec.http[{at}].route[{i}].weight");
        Some(Part { host, subset, labels, weight: weight(node) / whole, field })
    };
    destinations.iter().enumerate().filter_map(part).collect()
}

/// The labels of a subset; those of its name when nothing declares it.
fn subset_labels(scene: &Scene<'_>, route: &Resource, host: &str, name: &str) -> Labels {
    let policy = crate::mesh::effective::of_edge(scene.index, &route.id.namespace, &Labels::new(), host);
    let of_rule = |rule: &&Resource| {
        let at = rule.list("spec.subsets").iter().position(|one| text(one, &["name"]) == Some(name))?;
        Some(rule.map(&format!("spec.subsets[{at}].labels")))
    };
    let declared = policy.destination.iter().find_map(of_rule);
    declared.unwrap_or_else(|| [("version".to_owned(), name.to_owned())].into())
}

/// Whether calls went to a part.
fn went(scene: &Scene<'_>, part: &Part, calls: &Calls) -> bool {
    if calls.host != part.host {
        return false;
    }
    if part.labels.is_empty() {
        return true;
    }
    let version = part.labels.get("version").or_else(|| part.labels.get("service.istio.io/canonical-revision"));
    if let Some(version) = version.filter(|_| part.labels.len() == 1) {
        return *version == calls.to.version;
    }
    let workload = scene.workload(&calls.to.namespace, &calls.to.workload);
    workload.is_some_and(|one| selects(&part.labels, &one.labels))
}

/// Whether the route holds for a caller: for gateways one that names a gateway, for others one that is for the mesh and
/// wins the host.
fn steers(scene: &Scene<'_>, split: &Split<'_>, from: &End) -> bool {
    if scene.is_gateway(from) {
        return split.route.list("spec.gateways").iter().filter_map(Node::as_str).any(|one| one != "mesh");
    }
    for_mesh(split.route)
        && split.hosts.iter().any(|host| scene.edge(from, host).route.is_some_and(|one| one.id == split.route.id))
}

/// Calls to the destinations of a split, as callers told them and somebody answered.
fn told<'o>(observed: &'o Observed, split: &Split<'_>) -> Vec<&'o Calls> {
    let hosts: BTreeSet<&str> = split.parts.iter().map(|part| part.host.as_str()).collect();
    let all = hosts.into_iter().flat_map(|host| observed.to_host(host));
    all.filter(|one| one.side == Side::Client && one.protocol != "tcp" && !one.to.workload.is_empty()).collect()
}

/// Parts that a split's own callers reach: (those it steers, those it does not).
fn parted<'o>(scene: &Scene<'_>, split: &Split<'_>, calls: Vec<&'o Calls>) -> (Vec<&'o Calls>, Vec<&'o Calls>) {
    let mut known: BTreeMap<(&str, &str), bool> = BTreeMap::new();
    calls.into_iter().partition(|one| {
        let key = (one.from.namespace.as_str(), one.from.workload.as_str());
        *known.entry(key).or_insert_with(|| steers(scene, split, &one.from))
    })
}

/// The latest calls when there are enough of them, since weights may have been changed within the window.
fn weighed(observed: &Observed, calls: &[&Calls], smallest: f64) -> (fn(&Calls) -> f64, String) {
    let recent: f64 = calls.iter().map(|one| one.recent).sum();
    match recent * smallest >= 10.0 {
        true => (|one| one.recent, format!("the last {}", words(observed.recent))),
        false => (|one| one.count, observed.span()),
    }
}

fn drift(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed else { return };
    for split in splits(scene) {
        let (calls, _) = parted(scene, &split, told(observed, &split));
        let weighted: Vec<&Part> = split.parts.iter().filter(|part| part.weight > 0.0 && part.weight < 1.0).collect();
        let smallest = weighted.iter().map(|part| part.weight).fold(1.0, f64::min);
        let (of, span) = weighed(observed, &calls, smallest);
        let all: f64 = calls.iter().map(|one| of(one)).sum();
        if all < CALLS_MIN || weighted.is_empty() {
            continue;
        }
        let test = |calls: &[&Calls], part: &Part| -> (f64, f64, Tested) {
            let (mut own, mut all) = (0.0, 0.0);
            for one in calls {
                all += of(one);
                own += if went(scene, part, one) { of(one) } else { 0.0 };
            }
            (own, all, share(own, all, part.weight))
        };
        let off = |part: &&&Part| {
            let (_, _, tested) = test(&calls, part);
            tested.is_significant() && (tested.share - part.weight).abs() >= DIFFERENCE_MIN.max(part.weight * 0.05)
        };
        let Some(worst) = weighted.iter().filter(off).max_by(|a, b| {
            let far = |part: &Part| (test(&calls, part).2.share - part.weight).abs();
            far(a).total_cmp(&far(b))
        }) else {
            continue;
        };
        let (own, all, tested) = test(&calls, worst);
        let message = format!(
            "{} is declared {} of the traffic and gets {}: the split that is judged is not the one that runs",
            worst.name(),
            percent(worst.weight),
            percent(tested.share)
        );
        let mut note = found.at(split.route, &worst.field, message).seen(format!(
            "{} of {} requests in {span} ({})",
            count(own),
            count(all),
            tested.said()
        ));
        for (end, _) in by_caller(calls.iter().copied()).into_iter().take(super::NAMED_MAX) {
            let of_end: Vec<&Calls> = calls.iter().copied().filter(|one| one.from.name() == end.name()).collect();
            let (own, of_caller, tested) = test(&of_end, worst);
            note = note.seen(format!(
                "by {}: {} of {} requests, {}",
                end.name(),
                count(own),
                count(of_caller),
                percent(tested.share)
            ));
        }
        note.fix(
            "# the pods of a subset that are not ready, retries, sticky sessions (consistentHash) and another\n\
             # VirtualService for the host move a split; see MS0901 for what wins",
        );
    }
}

fn stragglers(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed else { return };
    for split in splits(scene) {
        let calls = told(observed, &split);
        for part in split.parts.iter().filter(|part| part.weight <= 0.0) {
            let own: Vec<&Calls> = calls.iter().copied().filter(|one| went(scene, part, one)).collect();
            let recent: f64 = own.iter().map(|one| one.recent).sum();
            // What came before the weights were turned is no straggler.
            if recent < 1.0 {
                continue;
            }
            let late: Vec<&Calls> = own.iter().copied().filter(|one| one.recent > 0.0).collect();
            let message = format!(
                "{} has no weight and is still called: {} requests in {}, {} of them in the last {}",
                part.name(),
                count(sum(own.iter().copied())),
                observed.span(),
                count(recent),
                words(observed.recent)
            );
            let mut note = found.at(split.route, &part.field, message).seen(format!("by {}", callers(late)));
            if let Some(flip) = flip(observed, &split, part) {
                note = note.seen(flip);
            }
            note.fix("# these callers name the destination themselves, or keep old connections: let them call the host of the route");
        }
    }
}

/// When the weights were turned, as traffic tells it.
fn flip(observed: &Observed, split: &Split<'_>, left: &Part) -> Option<String> {
    let of = |part: &Part| {
        let version = part.labels.get("version");
        let fits = |one: &&crate::audit::observed::Spell| {
            one.host == part.host && version.is_none_or(|version| *version == one.version)
        };
        observed.spells.iter().filter(fits).map(|one| one.first_ago).reduce(f64::max)
    };
    let main = split.parts.iter().max_by(|a, b| a.weight.total_cmp(&b.weight))?;
    let (new, old) = (of(main)?, of(left)?);
    (new + 60.0 < old).then(|| format!("{} was first called {} minutes ago: the flip", main.name(), count(new / 60.0)))
}

fn bypasses(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed else { return };
    for split in splits(scene) {
        let (_, mut past) = parted(scene, &split, told(observed, &split));
        let hosts: BTreeSet<&str> = split.parts.iter().map(|part| part.host.as_str()).collect();
        let silent = hosts
            .iter()
            .flat_map(|host| observed.to_host(host))
            .filter(|one| one.side == Side::Server && one.from.workload.is_empty() && one.protocol != "tcp");
        past.extend(silent);
        let calls = sum(past.iter().copied());
        if calls < CALLS_MIN {
            continue;
        }
        let why = |end: &End| match () {
            () if end.workload.is_empty() => "it has no proxy".to_owned(),
            () if scene.is_gateway(end) => "the VirtualService names no gateway of its".to_owned(),
            () => match scene.edge(end, &split.hosts.first().cloned().unwrap_or_default()).route {
                Some(other) => format!("{} holds for it", other.id),
                None => "the route is not exported to it".to_owned(),
            },
        };
        let all = by_caller(past.iter().copied()).into_iter();
        let all = names(all.map(|(end, calls)| format!("{} ({}: {})", end.name(), count(calls), why(end))));
        let message = format!("{} requests in {} did not follow the split", count(calls), observed.span());
        found
            .at(split.route, "spec.hosts", message)
            .seen(format!("by {all}"))
            .fix("spec:\n  gateways:\n  - mesh\n  - istio-system/the-gateway # each gateway that sends to these hosts\n  exportTo: [\"*\"]");
    }
}
