//! Calls that fail, calls that are repeated, and calls that are given up too early.

use std::collections::{BTreeMap, BTreeSet};

use super::{CALLS_MIN, callers, count, linkerd_routes, millis, percent, sum, text};
use crate::audit::checks::Check;
use crate::audit::observed::{Calls, Observed, Side};
use crate::audit::{Found, Note, Scene};
use crate::mesh::{Kind, Place, Resource};
use crate::model::Severity;
use crate::yaml::Node;

pub(super) const CHECKS: &[Check] = &[
    Check::new("MS2050", Severity::Warning, "retries multiply the load", &[], amplification),
    Check::new("MS2051", Severity::Warning, "a timeout is shorter than calls take", &[], timeouts),
    Check::new("MS2060", Severity::Error, "a service fails calls", &[], failures),
];

/// From so many calls at the server for one at the client on they are multiplied.
pub(super) const AMPLIFIED: f64 = 1.1;
/// Share of failed calls that is told.
const FAILING: f64 = 0.05;

/// The object that stands for a host.
fn service<'a>(scene: &Scene<'a>, host: &str) -> Option<&'a Resource> {
    let (name, namespace) = crate::mesh::hosts::service_of(host, &scene.index.domain)?;
    scene.mesh.get(Kind::Service, namespace, name)
}

fn about<'f>(scene: &Scene<'_>, found: &'f mut Found<'_>, host: &str, message: String) -> Note<'f> {
    match service(scene, host) {
        Some(service) => found.at(service, "", message),
        None => found.place(&Place::default(), format!("host {host}"), message),
    }
}

fn amplification(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed else { return };
    for host in observed.hosts() {
        let all: Vec<&Calls> = observed.to_host(host).filter(|one| one.protocol != "tcp").collect();
        let mut edges: BTreeMap<(&str, &str), (f64, f64)> = BTreeMap::new();
        for one in all.iter().filter(|one| !one.from.workload.is_empty()) {
            let edge = edges.entry((&one.from.namespace, &one.from.workload)).or_default();
            if one.side == Side::Client { edge.0 += one.count } else { edge.1 += one.count }
        }
        let failed = sum(all.iter().copied().filter(|one| one.side == Side::Server && one.failed()));
        for ((namespace, workload), (client, server)) in edges {
            if client < CALLS_MIN || server < client * AMPLIFIED {
                continue;
            }
            // In a window that traffic fills only in part the two sides' counts are stretched differently.
            if !observed.covered && failed < 1.0 {
                continue;
            }
            let exhausted = sum(all
                .iter()
                .copied()
                .filter(|one| one.side == Side::Client && one.from.workload == workload && one.has_flag("URX")));
            let message = format!(
                "{namespace}/{workload} makes {:.2} calls of each it is asked for: {} arrive for {} that it counts",
                server / client,
                count(server),
                count(client)
            );
            let mut note = about(scene, found, host, message);
            if exhausted >= 1.0 {
                note = note.seen(format!("{} calls used up their retries (URX)", count(exhausted)));
            }
            let retries: Vec<f64> =
                observed.upstreams.iter().filter(|one| one.host == host).filter_map(|one| one.retries).collect();
            if !retries.is_empty() {
                note = note.seen(format!("{} retries counted by the proxies that tell", count(retries.iter().sum())));
            }
            note.seen(format!("{} of the calls that arrived failed, in {}", count(failed), observed.span())).fix(
                "http:\n- retries:\n    attempts: 1\n    perTryTimeout: 1s\n    retryOn: connect-failure,refused-stream\n\
                 # 2 attempts are Istio's default; a callee in trouble then gets up to three times its load",
            );
        }
    }
    linkerd_routes::amplification(scene, found);
}

fn timeouts(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed else { return };
    for route in scene.mesh.of_kind(Kind::VirtualService) {
        let named: Vec<String> =
            route.list("spec.hosts").iter().filter_map(Node::as_str).map(|host| scene.host(route, host)).collect();
        for (at, rule) in route.list("spec.http").iter().enumerate() {
            for (path, key) in
                [(&["timeout"][..], "timeout"), (&["retries", "perTryTimeout"][..], "retries.perTryTimeout")]
            {
                let Some(limit) = text(rule, path).and_then(millis).filter(|limit| *limit > 0.0) else { continue };
                let sent = rule.get("route").map(Node::items).unwrap_or_default().iter();
                for host in sent.filter_map(|one| Some(scene.host(route, text(one, &["destination", "host"])?))) {
                    let field = format!("spec.http[{at}].{key}");
                    timeout(scene, found, (route, &field, &named), (&host, limit, observed));
                }
            }
        }
    }
    linkerd_routes::timeouts(scene, found);
}

fn timeout(
    scene: &Scene<'_>,
    found: &mut Found<'_>,
    (route, field, named): (&Resource, &str, &[String]),
    (host, limit, observed): (&str, f64, &Observed),
) {
    let calls: Vec<&Calls> = observed.to_host(host).collect();
    let served = sum(calls.iter().copied().filter(|one| one.side == Side::Server));
    let given_up: Vec<&Calls> =
        calls.iter().copied().filter(|one| one.side == Side::Client && one.has_flag("UT")).collect();
    let slow = observed.latencies.iter().filter(|one| one.side == Side::Server && one.host == host);
    let Some(p99) = slow.map(|one| one.p99_ms).reduce(f64::max) else { return };
    let gone = sum(given_up.iter().copied());
    // A rule that another VirtualService overrides does nothing: a caller must be steered by it.
    let steered = calls.iter().filter(|one| one.side == Side::Client).any(|one| {
        scene.is_gateway(&one.from)
            || named.iter().any(|name| scene.edge(&one.from, name).route.is_some_and(|own| own.id == route.id))
    });
    if served < CALLS_MIN * 3.0 || p99 <= limit || gone < 1.0 || !steered {
        return;
    }
    let message = format!(
        "calls are given up after {limit:.0} ms, and of those that {host} answers one in a hundred takes {p99:.0} ms or more"
    );
    found
        .at(route, field, message)
        .seen(format!(
            "{} of {} calls in {} timed out (UT)",
            count(gone),
            count(sum(calls.iter().copied().filter(|one| one.side == Side::Client))),
            observed.span()
        ))
        .seen(format!("by {}", callers(given_up)))
        .fix(format!(
            "# either the callee is mended, or\n{}: {:.0}s",
            field.rsplit('.').next().unwrap_or("timeout"),
            (p99 * 1.5 / 1_000.0).ceil()
        ));
}

fn failures(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed else { return };
    for host in observed.hosts() {
        let of = |side: Side| -> Vec<&Calls> {
            observed.to_host(host).filter(|one| one.side == side && one.protocol != "tcp" && !one.injected()).collect()
        };
        let (client, server) = (of(Side::Client), of(Side::Server));
        let failed = |calls: &[&Calls]| sum(calls.iter().copied().filter(|one| one.failed()));
        let (seen, told) = if client.is_empty() { (&server, "called") } else { (&client, "calling") };
        // An outage is shorter than a window: its last part may be the worse.
        let recent: f64 = seen.iter().map(|one| one.recent).sum();
        let recent_failed: f64 = seen.iter().filter(|one| one.failed()).map(|one| one.recent).sum();
        let (all, bad) = (sum(seen.iter().copied()), failed(seen));
        let is_late = recent >= CALLS_MIN && recent_failed / recent >= FAILING;
        if all < CALLS_MIN || (bad / all < FAILING && !is_late) {
            continue;
        }
        let (all, bad, span) = match is_late && recent_failed / recent > bad / all {
            true => (recent, recent_failed, crate::audit::observed::words(observed.recent)),
            false => (all, bad, observed.span()),
        };
        let message =
            format!("{} of the calls to {host} in {span} failed: {} of {}", percent(bad / all), count(bad), count(all));
        let (own, answered) = (failed(&server), sum(server.iter().copied()));
        let diagnosis = match own >= failed(seen) * 0.5 {
            true => "the service itself answers with the errors",
            false if answered < 1.0 => "the service counts no call at all: network, mutual TLS or no healthy pod",
            false => "the service counts far fewer errors: proxies in between fail the calls (flags below)",
        };
        let mut flags: BTreeMap<&str, f64> = BTreeMap::new();
        for one in seen.iter().filter(|one| one.failed() && !one.flags.is_empty()) {
            *flags.entry(&one.flags).or_default() += one.count;
        }
        let mut note = about(scene, found, host, message)
            .seen(format!("told by the {told} side; {diagnosis}"))
            .seen(format!("in {}, by {}", observed.span(), callers(seen.iter().copied().filter(|one| one.failed()))));
        if !flags.is_empty() {
            let flags: Vec<String> =
                flags.into_iter().map(|(flag, calls)| format!("{flag} {}", count(calls))).collect();
            note = note.seen(format!("flags: {}", flags.join(", ")));
        }
        let passed_on = passed_on(observed, host, &server);
        note = match &passed_on {
            Some(callee) => note.seen(format!("it fails because of what it calls: {callee}")),
            None => note,
        };
        let severity = match bad / all >= FAILING * 2.0 {
            _ if passed_on.is_some() => Severity::Info,
            true => Severity::Error,
            false => Severity::Warning,
        };
        note.severity(severity);
    }
}

/// The host whose failures a service passes on: the workloads behind the service fail no more calls than this host fails
/// theirs. None: the failures are its own.
fn passed_on(observed: &Observed, host: &str, server: &[&Calls]) -> Option<String> {
    let own = sum(server.iter().copied().filter(|one| one.failed()));
    let behind: BTreeSet<(&str, &str)> =
        server.iter().map(|one| (one.to.namespace.as_str(), one.to.workload.as_str())).collect();
    let mut by_host: BTreeMap<&str, f64> = BTreeMap::new();
    for one in observed.calls.iter().filter(|one| one.side == Side::Client && one.failed() && one.host != host) {
        if behind.contains(&(one.from.namespace.as_str(), one.from.workload.as_str())) {
            *by_host.entry(&one.host).or_default() += one.count;
        }
    }
    let (callee, failed) = by_host.into_iter().max_by(|a, b| a.1.total_cmp(&b.1))?;
    (own >= 1.0 && failed >= own * 0.5).then(|| format!("{callee} failed {} of its calls", count(failed)))
}
