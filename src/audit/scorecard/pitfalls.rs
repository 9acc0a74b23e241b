//! The guide's five pitfalls: 100 when a pitfall is avoided.

use super::Measured;
use super::checklist::{covered, security};
use super::ground::{Ground, NO_TRAFFIC, ratio, unknown};
use crate::audit::traffic::{percent, sum};
use crate::mesh::Kind;

/// What objects of traffic management a service may have before it is much.
const OBJECTS_PER_SERVICE: f64 = 3.0;

pub(super) fn over_complexity(ground: &Ground<'_>) -> Measured {
    let scene = ground.scene;
    let services = scene.mesh.of_kind(Kind::Service).filter(|one| ground.holds(&one.id.namespace)).count();
    let kinds = [Kind::VirtualService, Kind::DestinationRule, Kind::EnvoyFilter, Kind::Sidecar, Kind::HttpRoute];
    let objects: usize =
        kinds.iter().map(|kind| scene.mesh.of_kind(*kind).filter(|one| ground.holds(&one.id.namespace)).count()).sum();
    if services == 0 && objects == 0 {
        return unknown("nothing is declared here", "");
    }
    const LOST: [&str; 8] = ["MS0901", "MS0902", "MS0903", "MS0904", "MS0905", "MS0906", "MS0907", "MS0908"];
    const DEAD: [&str; 3] = ["MS2095", "MS2096", "MS0204"];
    let (lost, dead) = (ground.found(&LOST), ground.found(&DEAD));
    let filters = scene.mesh.of_kind(Kind::EnvoyFilter).filter(|one| ground.holds(&one.id.namespace)).count();
    let each = objects as f64 / services.max(1) as f64;
    let score = 1.0
        - 0.1 * lost as f64
        - 0.03 * dead as f64
        - 0.05 * filters as f64
        - 0.1 * (each - OBJECTS_PER_SERVICE).max(0.0);
    let mut evidence = vec![format!("{each:.1} objects of traffic management for each of {services} services")];
    evidence.extend((lost > 0).then(|| format!("{lost} objects lose to others without a word (MS09)")));
    evidence.extend((dead > 0).then(|| format!("{dead} rules that nothing reaches (MS0204, MS2095, MS2096)")));
    evidence.extend((filters > 0).then(|| format!("{filters} EnvoyFilters")));
    let next = ground.first(&LOST).or_else(|| ground.first(&DEAD)).unwrap_or_default();
    Measured { score: Some(score), evidence, next }
}

pub(super) fn poor_monitoring(ground: &Ground<'_>) -> Measured {
    let Some(observed) = ground.scene.observed else { return unknown(NO_TRAFFIC, "") };
    let workloads = ground.workloads();
    if workloads.is_empty() {
        return unknown("no workload of the mesh is declared here", "");
    }
    let seen = observed.workloads();
    let with = workloads
        .iter()
        .filter(|one| seen.contains(&(one.resource.id.namespace.as_str(), one.resource.id.name.as_str())))
        .count();
    const RULES: [&str; 2] = ["MS3001", "MS3010"];
    let (rules, panels) = (ground.found(&RULES), ground.found(&["MS3011"]));
    let silent = ground.found(&["MS2033"]);
    let score = ratio(with, workloads.len()) - 0.1 * (rules + panels) as f64 - 0.05 * silent as f64;
    let mut evidence = vec![format!("{with} of {} workloads are seen in metrics", workloads.len())];
    evidence.extend((rules > 0).then(|| format!("{rules} rules do not do what was meant (MS3001, MS3010)")));
    evidence.extend((panels > 0).then(|| format!("{panels} panels have no query (MS3011)")));
    evidence.extend((silent > 0).then(|| format!("{silent} circuit breakers do not tell (MS2033)")));
    let next = ground.first(&RULES).or_else(|| ground.first(&["MS3011", "MS2033"])).unwrap_or_default();
    Measured { score: Some(score), evidence, next }
}

pub(super) fn missing_security(ground: &Ground<'_>) -> Measured {
    let (known, plain) = security(ground);
    let all = sum(known.iter().copied());
    let (with, workloads) = covered(ground);
    if all < 1.0 && workloads == 0 {
        return unknown(NO_TRAFFIC, "");
    }
    let mut shares = Vec::new();
    let mut evidence = Vec::new();
    if all >= 1.0 {
        let share = 1.0 - sum(plain.iter().copied()) / all;
        shares.push(share);
        evidence.push(format!("{} of the calls were encrypted", percent(share)));
    }
    if workloads > 0 {
        shares.push(ratio(with, workloads));
        evidence.push(format!("{with} of {workloads} workloads have an authorization policy"));
    }
    const OPEN: [&str; 2] = ["MS0508", "MS0753"];
    const BROKEN: [&str; 3] = ["MS2010", "MS2091", "MS2021"];
    let (open, broken) = (ground.found(&OPEN), ground.found(&BROKEN));
    evidence.extend((open > 0).then(|| format!("{open} rules or secrets are open to all (MS0508, MS0753)")));
    evidence.extend((broken > 0).then(|| format!("{broken} findings of MS2010, MS2021 or MS2091")));
    let score = shares.iter().sum::<f64>() / shares.len().max(1) as f64 - 0.1 * open as f64 - 0.2 * broken as f64;
    let next = ground.first(&BROKEN).or_else(|| ground.first(&OPEN)).or_else(|| ground.first(&["MS2012", "MS2022"]));
    Measured { score: Some(score), evidence, next: next.unwrap_or_default() }
}

pub(super) fn resource_overhead(ground: &Ground<'_>) -> Measured {
    let Some(observed) = ground.scene.observed else { return unknown(NO_TRAFFIC, "") };
    let proxies = observed.proxies.iter().filter(|((namespace, _), _)| ground.holds(namespace));
    let told: Vec<_> =
        proxies.map(|(_, proxy)| proxy).filter(|proxy| proxy.cpu.is_some() || proxy.memory.is_some()).collect();
    if told.is_empty() {
        return unknown(
            "no container metrics of istio-proxy (container_cpu_usage_seconds_total, container_memory_working_set_bytes)",
            "scrape the kubelets (cadvisor) and kube-state-metrics",
        );
    }
    const CODES: [&str; 5] = ["MS2080", "MS2081", "MS2082", "MS2083", "MS2084"];
    let found = ground.found(&CODES);
    let cpu: f64 = told.iter().filter_map(|proxy| proxy.cpu).sum();
    let memory: f64 = told.iter().filter_map(|proxy| proxy.memory).sum();
    let mut evidence = vec![format!("{} proxies use {cpu:.2} cores and {:.0} MiB", told.len(), memory / 1_048_576.0)];
    evidence.extend((found > 0).then(|| format!("{found} findings of MS2080 to MS2084")));
    Measured { score: Some(1.0 - 0.2 * found as f64), evidence, next: ground.first(&CODES).unwrap_or_default() }
}

pub(super) fn configuration_drift(ground: &Ground<'_>) -> Measured {
    if ground.scene.observed.is_none() {
        return unknown(NO_TRAFFIC, "");
    }
    const DRIFT: [&str; 11] =
        ["MS2001", "MS2002", "MS2003", "MS2010", "MS2041", "MS2042", "MS2070", "MS2071", "MS2084", "MS2090", "MS2040"];
    const LOST: [&str; 6] = ["MS0901", "MS0902", "MS0903", "MS0904", "MS0905", "MS0906"];
    let (drift, lost) = (ground.found(&DRIFT), ground.found(&LOST));
    let evidence = vec![
        format!("{drift} differences between what is declared and what is seen"),
        format!("{lost} objects that another one overrides"),
        "files are not compared with the cluster here".to_owned(),
    ];
    let next = ground.first(&DRIFT).or_else(|| ground.first(&LOST)).unwrap_or_default();
    Measured { score: Some(1.0 - 0.15 * drift as f64 - 0.1 * lost as f64), evidence, next }
}
