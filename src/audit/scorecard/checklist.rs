//! The ten items of the guide's checklist.

use std::collections::BTreeSet;

use super::Measured;
use super::ground::{Ground, NO_TRAFFIC, ratio, unknown};
use crate::audit::observed::{Calls, Side};
use crate::audit::traffic::{callers, count, percent, sum};
use crate::mesh::effective::of_workload;
use crate::mesh::select::Labels;
use crate::mesh::{Kind, Resource};

/// A call slower than this is slow.
const SLOW_MS: f64 = 1_000.0;
/// What two proxies may add to a call's median.
const ADDED_MS: f64 = 10.0;

/// Calls of which it is known whether they were encrypted, and the plain ones.
pub(super) fn security<'a>(ground: &Ground<'a>) -> (Vec<&'a Calls>, Vec<&'a Calls>) {
    let known: Vec<&Calls> = [Side::Server, Side::Client]
        .into_iter()
        .flat_map(|side| ground.calls(side))
        .filter(|one| !one.security.is_empty())
        .collect();
    let plain = known.iter().copied().filter(|one| one.security != "mutual_tls").collect();
    (known, plain)
}

pub(super) fn mtls(ground: &Ground<'_>) -> Measured {
    let (known, plain) = security(ground);
    let (all, open) = (sum(known.iter().copied()), sum(plain.iter().copied()));
    if all < 1.0 {
        return unknown(
            "no call told whether it was encrypted (reporter destination or waypoint)",
            "scrape the called proxies",
        );
    }
    let workloads = ground.workloads();
    let is_strict = |labels: &Labels, namespace: &str| {
        of_workload(ground.scene.index, namespace, labels).mtls.is_some_and(|mode| mode.value == "STRICT")
    };
    let strict = workloads.iter().filter(|one| is_strict(&one.labels, &one.resource.id.namespace)).count();
    let share = 1.0 - open / all;
    let mut evidence = vec![
        format!("{} of {} calls were encrypted", percent(share), count(all)),
        format!("{strict} of {} workloads demand it (STRICT)", workloads.len()),
    ];
    if !plain.is_empty() {
        evidence.push(format!("plain text from {}", callers(plain.iter().copied())));
    }
    let next = match (plain.is_empty(), strict < workloads.len()) {
        (false, _) => "give the callers in plain text a proxy, then demand STRICT (MS2012)",
        (true, true) => "demand STRICT: no plain text came (MS2011 has the YAML)",
        (true, false) => "",
    };
    Measured { score: Some(0.8 * share + 0.2 * ratio(strict, workloads.len())), evidence, next: next.to_owned() }
}

pub(super) fn traffic_management(ground: &Ground<'_>) -> Measured {
    let services = ground.services();
    if services.is_empty() {
        return unknown("no service was called here", "");
    }
    let scene = ground.scene;
    let routed = |service: &&&Resource| {
        let host = scene.host(service, &service.id.name);
        let edge = crate::mesh::effective::of_edge(scene.index, &service.id.namespace, &Labels::new(), &host);
        let names = |route: &Resource| {
            route.list("spec.rules").iter().any(|rule| {
                rule.get("backendRefs")
                    .map(crate::yaml::Node::items)
                    .unwrap_or_default()
                    .iter()
                    .any(|one| one.get("name").and_then(crate::yaml::Node::as_str) == Some(&service.id.name))
            })
        };
        edge.route.is_some() || !edge.destination.is_empty() || scene.mesh.of_kind(Kind::HttpRoute).any(names)
    };
    let covered = services.iter().filter(routed).count();
    let calls = ground.client_view();
    let lost = sum(calls.iter().copied().filter(|one| one.has_flag("NR") || one.has_flag("NC")));
    let all = sum(calls.iter().copied());
    const DRIFT: [&str; 3] = ["MS2001", "MS2002", "MS2003"];
    let drift = ground.found(&DRIFT);
    let routes = if all >= 1.0 { 1.0 - (lost / all * 20.0).min(1.0) } else { 1.0 };
    let score = 0.5 * ratio(covered, services.len()) + 0.25 * routes + 0.25 * (1.0 - 0.5 * drift as f64).max(0.0);
    let mut evidence = vec![format!("{covered} of {} services have a route or a rule", services.len())];
    if all >= 1.0 {
        evidence.push(format!("{} of {} calls found no route or subset (NR, NC)", count(lost), count(all)));
    }
    let next = match ground.first(&DRIFT) {
        Some(found) => found,
        None if covered < services.len() => {
            "declare timeouts and retries for the services that are called most".to_owned()
        }
        None => String::new(),
    };
    Measured { score: Some(score), evidence, next }
}

/// Workloads of the ground that were seen, of those declared; and those of them that sent spans.
fn told(ground: &Ground<'_>) -> Option<(usize, usize, usize, Vec<String>)> {
    let observed = ground.scene.observed?;
    let seen = observed.workloads();
    let declared = ground.workloads();
    let services: BTreeSet<(&str, &str)> = observed
        .whole
        .spans
        .keys()
        .filter_map(|service| service.split_once('.').map(|(app, place)| (place, app)))
        .collect();
    let (mut with_series, mut with_spans, mut silent) = (0, 0, Vec::new());
    for one in &declared {
        let id = &one.resource.id;
        let is_seen = seen.contains(&(id.namespace.as_str(), id.name.as_str()));
        with_series += usize::from(is_seen);
        let app = one.labels.get("app").map_or(id.name.as_str(), String::as_str);
        with_spans += usize::from(services.contains(&(id.namespace.as_str(), app)));
        if !is_seen {
            silent.push(format!("{}/{}", id.namespace, id.name));
        }
    }
    Some((declared.len(), with_series, with_spans, silent))
}

const NO_SPANS: &str = "the server takes no spans";

/// Whether nothing can be said of spans.
fn takes_no_spans(ground: &Ground<'_>) -> bool {
    ground.scene.observed.is_some_and(|one| one.takes_no_spans)
}

pub(super) fn observability(ground: &Ground<'_>) -> Measured {
    let Some((declared, series, spans, silent)) = told(ground) else { return unknown(NO_TRAFFIC, "") };
    if declared == 0 {
        return unknown("no workload of the mesh is declared here", "");
    }
    let is_blind = takes_no_spans(ground);
    let mut shares = vec![ratio(series, declared)];
    shares.extend((!is_blind).then(|| ratio(spans, declared)));
    let mut evidence = vec![
        format!("{series} of {declared} workloads were seen in metrics"),
        if is_blind { NO_SPANS.to_owned() } else { format!("{spans} of {declared} workloads sent spans") },
        "access logs are not counted: meshscope does not take them from metrics".to_owned(),
    ];
    if ground.namespace.is_none()
        && let Some((targets, down)) = ground.scene.observed.and_then(|one| one.whole.targets)
    {
        shares.push(1.0 - down / targets.max(1.0));
        evidence.push(format!("{} of {} targets answer scrapes", count(targets - down), count(targets)));
    }
    let next = match silent.is_empty() {
        false => format!("look why nothing is known of {}", crate::audit::traffic::names(silent)),
        true if spans < declared && !is_blind => "let all workloads send spans (Telemetry tracing)".to_owned(),
        true => String::new(),
    };
    Measured { score: Some(shares.iter().sum::<f64>() / shares.len() as f64), evidence, next }
}

/// Workloads that an authorization policy holds for, of those declared.
pub(super) fn covered(ground: &Ground<'_>) -> (usize, usize) {
    let workloads = ground.workloads();
    let has = |one: &&&crate::mesh::select::Workload<'_>| {
        let policies = of_workload(ground.scene.index, &one.resource.id.namespace, &one.labels).authorization;
        policies.iter().any(|(action, _)| *action != "AUDIT")
    };
    (workloads.iter().filter(has).count(), workloads.len())
}

pub(super) fn security_policies(ground: &Ground<'_>) -> Measured {
    let (with, all) = covered(ground);
    if all == 0 {
        return unknown("no workload of the mesh is declared here", "");
    }
    let open = ground.found(&["MS0508"]);
    let unused = ground.found(&["MS2020"]);
    let mut evidence = vec![format!("{with} of {all} workloads have an authorization policy")];
    if open > 0 {
        evidence.push(format!("{open} rules let everybody in (MS0508)"));
    }
    if unused > 0 {
        evidence.push(format!("{unused} grants are not used (MS2020)"));
    }
    if let Some(denied) = ground.first(&["MS2021"]) {
        evidence.push(denied);
    }
    let next = if with < all { "apply the least policies of MS2022, which has the YAML" } else { "" };
    Measured { score: Some(ratio(with, all) - 0.1 * open as f64), evidence, next: next.to_owned() }
}

pub(super) fn mesh_health(ground: &Ground<'_>) -> Measured {
    let calls: Vec<&Calls> =
        ground.client_view().into_iter().filter(|one| one.protocol != "tcp" && !one.injected()).collect();
    let all = sum(calls.iter().copied());
    if all < 1.0 {
        return unknown(NO_TRAFFIC, "");
    }
    let failed = sum(calls.iter().copied().filter(|one| one.failed()));
    let mut score = 1.0 - (failed / all * 10.0).min(1.0);
    let mut evidence = vec![format!("{} of {} calls failed ({})", count(failed), count(all), percent(failed / all))];
    let whole = ground.scene.observed.map(|one| &one.whole).filter(|_| ground.namespace.is_none());
    if let Some(rejects) = whole.and_then(|one| one.rejects) {
        evidence.push(format!("proxies refused {} configurations of istiod", count(rejects)));
        score -= if rejects >= 1.0 { 0.1 } else { 0.0 };
    }
    if let Some(seconds) = whole.and_then(|one| one.convergence_p99) {
        evidence.push(format!("changes reach proxies within {seconds:.1} s (99 %)"));
        score -= if seconds > 10.0 { 0.1 } else { 0.0 };
    }
    Measured { score: Some(score), evidence, next: ground.first(&["MS2060"]).unwrap_or_default() }
}

pub(super) fn circuit_breakers(ground: &Ground<'_>) -> Measured {
    let services = ground.services();
    if services.is_empty() {
        return unknown("no service was called here", "");
    }
    let scene = ground.scene;
    let has = |service: &&&Resource| {
        let host = scene.host(service, &service.id.name);
        let edge = crate::mesh::effective::of_edge(scene.index, &service.id.namespace, &Labels::new(), &host);
        edge.traffic_policy.is_some_and(|rule| {
            ["outlierDetection", "connectionPool"]
                .iter()
                .any(|key| rule.at(&format!("spec.trafficPolicy.{key}")).is_some())
        })
    };
    let with = services.iter().filter(has).count();
    let called = if scene.observed.is_some() { "called " } else { "" };
    let mut evidence = vec![format!("{with} of {} {called}services have a circuit breaker", services.len())];
    for (codes, said) in [
        (&["MS2030", "MS2031"][..], "tripped"),
        (&["MS2033"][..], "do not tell their statistics"),
        (&["MS2034"][..], "were never near a limit"),
    ] {
        let found = ground.found(codes);
        if found > 0 {
            evidence.push(format!("{found} {said} ({})", codes.join(", ")));
        }
    }
    let wrong = ground.found(&["MS2032", "MS2035"]);
    let score = ratio(with, services.len()) - 0.1 * wrong as f64;
    let next = match ground.first(&["MS2035", "MS2032", "MS2030", "MS2031"]) {
        Some(found) => found,
        None if with < services.len() => "add outlierDetection to the services that are called most".to_owned(),
        None => String::new(),
    };
    Measured { score: Some(score), evidence, next }
}

pub(super) fn tracing(ground: &Ground<'_>) -> Measured {
    let Some((declared, _, spans, _)) = told(ground) else { return unknown(NO_TRAFFIC, "") };
    if declared == 0 {
        return unknown("no workload of the mesh is declared here", "");
    }
    if takes_no_spans(ground) {
        return unknown(NO_SPANS, "ask meshscope, and let the workloads send it their spans");
    }
    const WRONG: [&str; 2] = ["MS2070", "MS2071"];
    let wrong = ground.found(&WRONG);
    let evidence = vec![format!("{spans} of {declared} workloads sent spans")];
    let next = match ground.first(&WRONG) {
        Some(found) => found,
        None if spans < declared => "let all workloads send spans (Telemetry tracing)".to_owned(),
        None => String::new(),
    };
    let sampled = if wrong > 0 { 0.0 } else { 1.0 };
    Measured { score: Some(ratio(spans, declared) * (0.6 + 0.4 * sampled)), evidence, next }
}

pub(super) fn metrics(ground: &Ground<'_>) -> Measured {
    if ground.namespace.is_some() {
        return unknown("labels are judged for the whole mesh", "");
    }
    let Some(observed) = ground.scene.observed else { return unknown(NO_TRAFFIC, "") };
    let Some(series) = observed.whole.request_series.filter(|series| *series >= 1.0) else {
        return unknown("there is no istio_requests_total", "scrape the proxies (mesh.discover)");
    };
    let worst = observed.whole.missing_labels.iter().max_by(|a, b| a.1.total_cmp(b.1));
    let lacking = worst.map_or(0.0, |(_, lacking)| lacking / series);
    let has_durations = !observed.latencies.is_empty();
    let mut evidence = vec![format!("{} series of istio_requests_total", count(series))];
    if let Some((label, lacking)) = worst {
        evidence.push(format!("{} of them lack {label}", count(*lacking)));
    }
    if !has_durations {
        evidence.push("there are no durations (istio_request_duration_milliseconds)".to_owned());
    }
    let score = (1.0 - lacking) * if has_durations { 1.0 } else { 0.7 };
    Measured { score: Some(score), evidence, next: ground.first(&["MS2075"]).unwrap_or_default() }
}

pub(super) fn updates(ground: &Ground<'_>) -> Measured {
    let Some(observed) = ground.scene.observed else { return unknown(NO_TRAFFIC, "") };
    let versions: Vec<&str> = observed
        .proxies
        .iter()
        .filter(|((namespace, _), _)| ground.holds(namespace))
        .filter_map(|(_, proxy)| proxy.version.as_deref())
        .collect();
    if versions.is_empty() {
        return unknown("no proxy tells its version (istio_build)", "scrape the agents of proxies (port 15020)");
    }
    let planes = &observed.whole.control_planes;
    let all = observed.proxies.values().filter_map(|proxy| proxy.version.as_deref());
    let newest = all.max_by_key(|version| numbers(version)).unwrap_or_default();
    let right = |version: &&&str| if planes.is_empty() { **version == newest } else { planes.contains(**version) };
    let current = versions.iter().filter(right).count();
    let against = match planes.is_empty() {
        true => format!("{newest}, the newest that any runs (the control plane does not tell its own)"),
        false => format!("{}, the control plane's", planes.iter().cloned().collect::<Vec<_>>().join(", ")),
    };
    let evidence = vec![format!("{current} of {} proxies run {against}", versions.len())];
    let next = if current < versions.len() { "restart the workloads whose proxies are behind (MS2090)" } else { "" };
    Measured { score: Some(ratio(current, versions.len())), evidence, next: next.to_owned() }
}

fn numbers(version: &str) -> Vec<u32> {
    version.split(['.', '-']).map_while(|part| part.parse().ok()).collect()
}

pub(super) fn performance(ground: &Ground<'_>) -> Measured {
    let Some(observed) = ground.scene.observed else { return unknown(NO_TRAFFIC, "") };
    let domain = &ground.scene.index.domain;
    let here = |host: &str| {
        let own = crate::mesh::hosts::service_of(host, domain).map(|(_, namespace)| namespace);
        ground.namespace.is_none_or(|namespace| own == Some(namespace))
    };
    let all: Vec<_> = observed.latencies.iter().filter(|one| here(&one.host)).collect();
    let client: Vec<_> = all.iter().filter(|one| one.side == Side::Client).collect();
    if client.is_empty() {
        return unknown("no caller tells durations", "");
    }
    let slow = client.iter().filter(|one| one.p99_ms > SLOW_MS).count();
    let pairs: Vec<f64> = client
        .iter()
        .filter_map(|one| {
            let server =
                all.iter().find(|own| own.side == Side::Server && own.from == one.from && own.host == one.host)?;
            Some((one.p50_ms - server.p50_ms).max(0.0))
        })
        .collect();
    let dear = pairs.iter().filter(|added| **added > ADDED_MS).count();
    let mut evidence =
        vec![format!("{} of {} edges answer within {SLOW_MS:.0} ms (99 %)", client.len() - slow, client.len())];
    if !pairs.is_empty() {
        let mean = pairs.iter().sum::<f64>() / pairs.len() as f64;
        evidence.push(format!("proxies and network add {mean:.1} ms to the median, as caller and callee tell it"));
    }
    let slowest = client.iter().max_by(|a, b| a.p99_ms.total_cmp(&b.p99_ms)).filter(|_| slow > 0);
    let next =
        slowest.map(|one| format!("look at {}/{} → {}: {:.0} ms (99 %)", one.from.0, one.from.1, one.host, one.p99_ms));
    let score = 0.7 * (1.0 - ratio(slow, client.len()).min(1.0))
        + 0.3 * (1.0 - if pairs.is_empty() { 0.0 } else { ratio(dear, pairs.len()) });
    Measured { score: Some(score), evidence, next: next.unwrap_or_default() }
}
