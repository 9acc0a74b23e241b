//! Injected faults: those declared, those seen (flags DI and FI, told by callers only), and those nobody declares.

use std::collections::BTreeSet;

use super::statistics::share;
use super::{CALLS_MIN, by_caller, callers, count, number, percent, sum, text};
use crate::audit::checks::Check;
use crate::audit::observed::{Calls, End, Side};
use crate::audit::{Found, Scene};
use crate::mesh::{Kind, Place, Resource};
use crate::model::Severity;
use crate::yaml::Node;

pub(super) const CHECKS: &[Check] = &[
    Check::new("MS2040", Severity::Warning, "faults are injected into traffic", &[], injected),
    Check::new("MS2041", Severity::Warning, "faults are not injected as declared", &[], differs),
    Check::new("MS2042", Severity::Error, "faults are injected that nothing declares", &[], undeclared),
];

/// A fault of a rule: the object, the field, the hosts, and the shares of delays and aborts.
struct Fault<'a> {
    route: &'a Resource,
    field: String,
    hosts: Vec<String>,
    delay: Option<(f64, String)>,
    abort: Option<(f64, String)>,
    /// Whether it holds for some requests only.
    conditional: bool,
}

fn faults<'a>(scene: &Scene<'a>) -> Vec<Fault<'a>> {
    let mut all = Vec::new();
    for route in scene.mesh.of_kind(Kind::VirtualService) {
        let rules = route.list("spec.http");
        for (at, rule) in rules.iter().enumerate() {
            let Some(fault) = rule.get("fault") else { continue };
            let part = |key: &str, what: &str| {
                let node = fault.get(key)?;
                // Without a percentage Istio injects into all.
                let given = number(node, &["percentage", "value"]).or_else(|| number(node, &["percent"]));
                Some((given.unwrap_or(100.0) / 100.0, text(node, &[what]).unwrap_or("?").to_owned()))
            };
            let named = route.list("spec.hosts").iter().filter_map(Node::as_str).map(|host| scene.host(route, host));
            let sent = rule.get("route").map(Node::items).unwrap_or_default().iter();
            let sent = sent.filter_map(|one| Some(scene.host(route, text(one, &["destination", "host"])?)));
            let hosts: BTreeSet<String> = named.chain(sent).collect();
            all.push(Fault {
                route,
                field: format!("spec.http[{at}].fault"),
                hosts: hosts.into_iter().collect(),
                delay: part("delay", "fixedDelay"),
                abort: part("abort", "httpStatus"),
                conditional: rules.len() > 1 || rule.get("match").is_some_and(|one| !one.items().is_empty()),
            });
        }
    }
    all
}

/// Calls that a fault governs: those of callers whose host it wins.
fn governed<'o>(scene: &Scene<'o>, fault: &Fault<'_>) -> Vec<&'o Calls> {
    let Some(observed) = scene.observed else { return Vec::new() };
    let all: Vec<&Calls> =
        fault.hosts.iter().flat_map(|host| observed.to_host(host)).filter(|one| one.side == Side::Client).collect();
    let wins = |end: &End| {
        let edge = |host: &String| scene.edge(end, host).route.is_some_and(|route| route.id == fault.route.id);
        scene.is_gateway(end) || fault.hosts.iter().any(edge)
    };
    let own: BTreeSet<String> =
        by_caller(all.iter().copied()).into_iter().filter(|(end, _)| wins(end)).map(|(end, _)| end.name()).collect();
    all.into_iter().filter(|one| own.contains(&one.from.name())).collect()
}

fn injected(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed else { return };
    for fault in faults(scene) {
        let calls = governed(scene, &fault);
        let hit: Vec<&Calls> = calls.iter().copied().filter(|one| one.injected()).collect();
        let (all, own) = (sum(calls.iter().copied()), sum(hit.iter().copied()));
        if own < 1.0 {
            continue;
        }
        let message = format!(
            "{} of {} requests in {} were delayed or aborted on purpose: a test that was left on?",
            count(own),
            count(all),
            observed.span()
        );
        let mut note =
            found.at(fault.route, &fault.field, message).seen(format!("by {}", callers(hit.iter().copied())));
        for (flag, what, declared) in [("DI", "delayed", &fault.delay), ("FI", "aborted", &fault.abort)] {
            let Some((share, how)) = declared else { continue };
            let seen = sum(hit.iter().copied().filter(|one| one.has_flag(flag)));
            let (declared, seen) = (percent(*share), percent(seen / all.max(1.0)));
            note = note.seen(format!("{what} ({how}): declared {declared}, seen {seen}"));
        }
        if let Some(created) = fault.route.created {
            note = note.seen(format!("the VirtualService was made at {}", created));
        }
        note.fix("# take the block fault out of the rule; objectives and health leave these calls out, people do not");
    }
}

fn differs(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed.filter(|one| one.covered) else { return };
    for fault in faults(scene).iter().filter(|one| !one.conditional) {
        let calls = governed(scene, fault);
        let recent: f64 = calls.iter().map(|one| one.recent).sum();
        // A fault that was made or taken away within the window shows in its last part alone.
        let of: fn(&Calls) -> f64 = if recent >= CALLS_MIN { |one| one.recent } else { |one| one.count };
        let all: f64 = calls.iter().map(|one| of(one)).sum();
        if all < CALLS_MIN {
            continue;
        }
        for (flag, key, declared) in [("DI", "delay", &fault.delay), ("FI", "abort", &fault.abort)] {
            let Some((declared, _)) = declared else { continue };
            let seen: f64 = calls.iter().filter(|one| one.has_flag(flag)).map(|one| of(one)).sum();
            // Calls that other limits fail carry no flag of the fault, hence the wide margin.
            let tested = share(seen, all, declared.clamp(0.0, 1.0));
            if !tested.is_significant() || (tested.share - declared).abs() < 0.02_f64.max(declared * 0.25) {
                continue;
            }
            let message = format!(
                "a {key} is declared for {} of the calls, and {} carry it ({flag})",
                percent(*declared),
                percent(tested.share)
            );
            let evidence =
                format!("{} of {} requests in {} ({})", count(seen), count(all), observed.span(), tested.said());
            found.at(fault.route, &format!("{}.{key}", fault.field), message).seen(evidence);
        }
    }
}

fn undeclared(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed else { return };
    let declared = faults(scene);
    for host in observed.hosts() {
        let hit: Vec<&Calls> =
            observed.to_host(host).filter(|one| one.side == Side::Client && one.injected()).collect();
        let own = sum(hit.iter().copied());
        if own < 1.0 || declared.iter().any(|fault| fault.hosts.iter().any(|one| one == host)) {
            continue;
        }
        let message = format!(
            "{} calls to {host} in {} carry an injected fault (DI, FI), and no VirtualService declares one",
            count(own),
            observed.span()
        );
        let target = crate::mesh::hosts::service_of(host, &scene.index.domain)
            .and_then(|(name, namespace)| scene.mesh.get(Kind::Service, namespace, name));
        let note = match target {
            Some(service) => found.at(service, "", message),
            None => found.place(&Place::default(), format!("host {host}"), message),
        };
        note.seen(format!("by {}", callers(hit)))
            .fix("# look for a VirtualService or EnvoyFilter in the cluster that is not among these files");
    }
}
