//! Proxies: what they cost, whether they have room, their versions, threads and certificates.

use std::collections::{BTreeMap, BTreeSet};

use super::{names, percent, sum};
use crate::audit::checks::Check;
use crate::audit::observed::{Observed, Proxy};
use crate::audit::{Found, Scene};
use crate::mesh::Place;
use crate::mesh::effective::of_workload;
use crate::model::Severity;

pub(super) const CHECKS: &[Check] = &[
    Check::new("MS2080", Severity::Info, "proxies use far more CPU for a request than usual", &[], cpu),
    Check::new("MS2081", Severity::Warning, "a proxy is near its limit of memory", &[], memory),
    Check::new("MS2082", Severity::Warning, "a proxy is held back by its limit of CPU", &[], throttled),
    Check::new("MS2083", Severity::Info, "proxies ask for far more than they use", &[], oversized),
    Check::new("MS2084", Severity::Warning, "a proxy does not run the threads that are declared", &[], threads),
    Check::new("MS2090", Severity::Warning, "proxies and control plane differ in version", &[], versions),
    Check::new("MS2091", Severity::Error, "a certificate ends soon", &[], certificates),
];

/// Cores for 1,000 requests a second, by Istio's own measurement of a sidecar.
const USUAL_CPU: f64 = 0.2;
/// How many times that is told.
const MORE: f64 = 2.5;
/// Requests a second below which CPU is that of an idle proxy.
const RATE_MIN: f64 = 10.0;
/// Share of a limit of memory.
const FULL: f64 = 0.8;
/// Share of periods held back.
const HELD_BACK: f64 = 0.05;
/// Proxies whose requests are compared with their use, at least.
const OVERSIZED: f64 = 4.0;
/// A day's certificate is renewed at half of its life; two hours before its end something is wrong.
const CERTIFICATE_SECONDS: f64 = 7_200.0;
/// A root takes weeks to replace.
const ROOT_SECONDS: f64 = 60.0 * 86_400.0;

const MIB: f64 = 1_048_576.0;

/// Proxies by workload.
fn by_workload<'o>(scene: &Scene<'o>) -> BTreeMap<(String, String), Vec<(&'o str, &'o Proxy)>> {
    let mut all: BTreeMap<(String, String), Vec<(&str, &Proxy)>> = BTreeMap::new();
    let Some(observed) = scene.observed else { return all };
    for ((namespace, pod), proxy) in &observed.proxies {
        let owner = scene.owner(observed, namespace, pod).unwrap_or_else(|| pod.clone());
        all.entry((namespace.clone(), owner)).or_default().push((pod, proxy));
    }
    all
}

/// Requests a second at both ends of a workload's proxies.
fn rate(observed: &Observed, namespace: &str, workload: &str) -> f64 {
    let own = observed.calls.iter().filter(|one| {
        let end = if one.side == crate::audit::observed::Side::Client { &one.from } else { &one.to };
        end.namespace == namespace && end.workload == workload && one.protocol != "tcp"
    });
    sum(own) / observed.window.as_secs_f64()
}

fn cpu(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed else { return };
    for (key, proxies) in by_workload(scene) {
        let used: Vec<f64> = proxies.iter().filter_map(|(_, proxy)| proxy.cpu).collect();
        let rate = rate(observed, &key.0, &key.1);
        let cores: f64 = used.iter().sum();
        let per_thousand = cores / rate * 1_000.0;
        if used.is_empty() || rate < RATE_MIN || per_thousand < USUAL_CPU * MORE {
            continue;
        }
        let message = format!(
            "its proxies use {per_thousand:.2} cores for 1,000 requests a second; {USUAL_CPU} is usual for a sidecar"
        );
        found.workload(scene, (&key.0, &key.1), message)
            .seen(format!("{cores:.3} cores in {} proxies at {rate:.1} requests a second", used.len()))
            .fix("# access logs to files, tracing at 100 %, Lua or WASM filters and TLS without keep-alive are what costs");
    }
}

fn memory(scene: &Scene<'_>, found: &mut Found<'_>) {
    for (key, proxies) in by_workload(scene) {
        let near = proxies.iter().filter_map(|(pod, proxy)| {
            let (used, limit) = (proxy.memory?, proxy.memory_limit.filter(|limit| *limit > 0.0)?);
            (used / limit >= FULL).then_some((*pod, used, limit))
        });
        let Some((pod, used, limit)) = near.max_by(|a, b| (a.1 / a.2).total_cmp(&(b.1 / b.2))) else { continue };
        let message =
            format!("its proxies use up to {} of the memory they may: past it they are killed", percent(used / limit));
        found
            .workload(scene, (&key.0, &key.1), message)
            .seen(format!("{pod}: {:.0} of {:.0} MiB", used / MIB, limit / MIB))
            .fix(format!(
                "annotations:\n  sidecar.istio.io/proxyMemoryLimit: {:.0}Mi # or a Sidecar with fewer egress hosts",
                (used * 1.5 / MIB).ceil()
            ));
    }
}

fn throttled(scene: &Scene<'_>, found: &mut Found<'_>) {
    for (key, proxies) in by_workload(scene) {
        let held = proxies.iter().filter_map(|(pod, proxy)| Some((*pod, proxy.throttled?, proxy.cpu_limit)));
        let Some((pod, share, limit)) = held.max_by(|a, b| a.1.total_cmp(&b.1)).filter(|one| one.1 > HELD_BACK) else {
            continue;
        };
        let message =
            format!("its proxies wait in {} of the scheduler's periods: every call waits with them", percent(share));
        let limit = limit.map_or("no limit is known".to_owned(), |limit| format!("limit {limit} cores"));
        found
            .workload(scene, (&key.0, &key.1), message)
            .seen(format!("{pod}: {limit}"))
            .fix("annotations:\n  sidecar.istio.io/proxyCPULimit: \"2\" # or fewer threads: concurrency");
    }
}

fn oversized(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed.filter(|one| one.covered) else { return };
    let pair = |of: fn(&Proxy) -> (Option<f64>, Option<f64>)| {
        let all: Vec<(f64, f64)> =
            observed.proxies.values().filter_map(|proxy| Some((of(proxy).0?, of(proxy).1?))).collect();
        (all.len(), all.iter().map(|one| one.0).sum::<f64>(), all.iter().map(|one| one.1).sum::<f64>())
    };
    let cpu = pair(|proxy| (proxy.cpu, proxy.cpu_request));
    let memory = pair(|proxy| (proxy.memory, proxy.memory_request));
    for ((proxies, used, asked), what, unit, scale) in [(cpu, "CPU", "cores", 1.0), (memory, "memory", "MiB", MIB)] {
        if proxies < 3 || used <= 0.0 || asked / used < OVERSIZED {
            continue;
        }
        let (used, asked) = (used / scale, asked / scale);
        let message = format!(
            "{proxies} proxies ask for {asked:.1} {unit} of {what} and use {used:.1}: the rest is paid for and idle"
        );
        found.place(&Place::default(), "proxies of the mesh".to_owned(), message).seen(format!("window {}", observed.span())).fix(
            "# values of the istio chart\nglobal:\n  proxy:\n    resources:\n      requests:\n        cpu: 20m\n        memory: 64Mi",
        );
    }
}

fn threads(scene: &Scene<'_>, found: &mut Found<'_>) {
    for (key, proxies) in by_workload(scene) {
        let labels = scene.workload(&key.0, &key.1).map(|one| one.labels.clone()).unwrap_or_default();
        let configs = of_workload(scene.index, &key.0, &labels).proxy;
        let narrowest = configs.iter().rev().find_map(|one| Some((*one, one.text("spec.concurrency")?)));
        let Some((config, declared)) = narrowest else { continue };
        let Some(declared) = declared.parse::<f64>().ok().filter(|declared| *declared > 0.0) else { continue };
        let other: Vec<String> = proxies
            .iter()
            .filter_map(|(pod, proxy)| {
                proxy.concurrency.filter(|own| (own - declared).abs() >= 1.0).map(|own| format!("{pod} ({own:.0})"))
            })
            .collect();
        if other.is_empty() {
            continue;
        }
        let message = format!("{declared:.0} threads are declared for {}/{}, and its proxies run others", key.0, key.1);
        found
            .at(config, "spec.concurrency", message)
            .seen(names(other))
            .fix("# a ProxyConfig is read when a pod starts:\n# kubectl rollout restart deployment");
    }
}

/// Major and minor of a version: proxies may be one minor behind.
fn minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn versions(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed else { return };
    let mut own: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for ((namespace, pod), proxy) in &observed.proxies {
        if let Some(version) = proxy.version.as_deref().filter(|version| !version.is_empty()) {
            let owner = scene.owner(observed, namespace, pod).unwrap_or_else(|| pod.clone());
            own.entry(version).or_default().insert(format!("{namespace}/{owner}"));
        }
    }
    let planes = &observed.whole.control_planes;
    let newest = planes.iter().filter_map(|plane| minor(plane)).max();
    let strange = |version: &str| !planes.is_empty() && !planes.contains(version);
    let behind: Vec<(&str, &BTreeSet<String>)> =
        own.iter().filter(|(version, _)| strange(version)).map(|(version, all)| (*version, all)).collect();
    if behind.is_empty() && own.len() < 2 {
        return;
    }
    if behind.is_empty() && !planes.is_empty() && planes.len() == own.len() {
        return;
    }
    let told: Vec<String> =
        own.iter().map(|(version, all)| format!("{version}: {}", names(all.iter().cloned()))).collect();
    let message = match planes.is_empty() {
        true => format!("proxies run {} versions", own.len()),
        false => format!(
            "the control plane is {}, and {} workloads run proxies of another version",
            names(planes.iter().cloned()),
            behind.iter().map(|(_, all)| all.len()).sum::<usize>()
        ),
    };
    let far = behind
        .iter()
        .filter_map(|(version, _)| minor(version))
        .any(|(major, low)| newest.is_some_and(|(top, high)| major != top || high > low + 1 || low > high));
    let mut note = found.place(&Place::default(), "proxies of the mesh".to_owned(), message);
    for line in told {
        note = note.seen(line);
    }
    let note = if far { note.severity(Severity::Error) } else { note };
    note.fix("# proxies are replaced when pods start; Istio supports one minor version of difference\nkubectl rollout restart deployment -n NAMESPACE");
}

fn certificates(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed else { return };
    let ending = observed.proxies.iter().filter_map(|((namespace, pod), proxy)| {
        let left = proxy.certificate_seconds.filter(|left| *left < CERTIFICATE_SECONDS)?;
        Some((format!("{namespace}/{pod}"), left))
    });
    let mut ending: Vec<(String, f64)> = ending.collect();
    ending.sort_by(|a, b| a.1.total_cmp(&b.1));
    if let Some((_, least)) = ending.first() {
        let message = format!(
            "{} proxies have a certificate that ends within two hours, the first in {:.0} minutes: it should have been \
             renewed long before",
            ending.len(),
            (least / 60.0).max(0.0)
        );
        let all = names(ending.iter().map(|(pod, left)| format!("{pod} ({:.0} min)", left / 60.0)));
        let severity = if *least < 900.0 { Severity::Error } else { Severity::Warning };
        found.place(&Place::default(), "certificates of proxies".to_owned(), message).seen(all).severity(severity).fix(
            "# istiod does not sign: look at citadel_server_* and the proxy's log; a restart of the pod asks again",
        );
    }
    let roots = observed.proxies.values().filter_map(|proxy| proxy.root_seconds);
    let Some(least) = roots.chain(observed.whole.root_seconds).reduce(f64::min).filter(|left| *left < ROOT_SECONDS)
    else {
        return;
    };
    let message = format!(
        "the mesh's root certificate ends in {:.0} days: then nobody trusts anybody",
        (least / 86_400.0).max(0.0)
    );
    let severity = if least < ROOT_SECONDS / 6.0 { Severity::Error } else { Severity::Warning };
    found
        .place(&Place::default(), "root certificate".to_owned(), message)
        .severity(severity)
        .fix("# add the new root beside the old one in the secret cacerts, restart, then sign with it, then drop the old one");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_minor() {
        assert_eq!(minor("1.27.1"), Some((1, 27)));
        assert_eq!(minor("1.28-alpha.abc"), Some((1, 28)));
        assert_eq!(minor("latest"), None);
    }
}
