//! What is declared beside what was seen, as numbers for pages and programs: shares of splits and faults, mutual TLS,
//! sampling, limits.
//!
//! In: the scene. Out: [`Comparison`]s. Unlike the checks it tells also what holds, and of what too little is known.
//! Invariant: a share is between 0 and 1; what was not seen is `None`, never 0.

use std::collections::BTreeMap;

use super::observed::{Calls, End, Observed};
use super::traffic::statistics::share;
use super::traffic::{CALLS_MIN, breakers, count, faults, mtls, percent, splits, tracing};
use super::{Options, Scene};
use crate::mesh::{Index, ResourceId, Snapshot};

/// Callers that one comparison names.
const CALLERS_MAX: usize = 20;
/// Comparisons that are held.
const HELD_MAX: usize = 20_000;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// The share of a destination of a route.
    Split,
    /// The share of calls that are delayed or aborted on purpose.
    Fault,
    /// The share of calls that are encrypted.
    MutualTls,
    /// The share of requests that are traced.
    Sampling,
    /// How much of a limit is used.
    Limit,
}

impl About {
    /// As JSON has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Split => "split",
            Self::Fault => "fault",
            Self::MutualTls => "mutualTls",
            Self::Sampling => "sampling",
            Self::Limit => "limit",
        }
    }
}

/// How the two compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// What is seen is what is declared, as far as chance allows.
    Holds,
    /// It is not.
    Differs,
    /// Too few calls to say, or no statistics.
    Unknown,
}

impl Verdict {
    /// As JSON has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Differs => "differs",
            Self::Unknown => "unknown",
        }
    }
}

/// One caller's part of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct CallerShare {
    /// Its namespace.
    pub namespace: String,
    /// Its workload; empty: unknown.
    pub workload: String,
    /// As people read it.
    pub name: String,
    /// The share among its calls.
    pub share: f64,
    /// Its calls.
    pub calls: f64,
}

/// What is declared beside what was seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// What is compared.
    pub about: About,
    /// The object that declares it.
    pub object: ResourceId,
    /// Its field.
    pub field: String,
    /// Hosts whose calls are meant, in full; empty: not those of a host.
    pub hosts: Vec<String>,
    /// Namespace and name of the workload that is meant; none: not one.
    pub workload: Option<(String, String)>,
    /// In words: `reviews.shop.svc.cluster.local/v1`.
    pub what: String,
    /// The declared share; none: nothing is asked for.
    pub declared: Option<f64>,
    /// What is declared, in words.
    pub declared_words: String,
    /// The share that was seen.
    pub seen: Option<f64>,
    /// What was seen, in words.
    pub seen_words: String,
    /// How they compare.
    pub verdict: Verdict,
    /// Who calls, the most frequent first.
    pub callers: Vec<CallerShare>,
}

/// All that can be compared.
pub fn comparisons(mesh: &Snapshot, observed: Option<&Observed>, options: &Options) -> Vec<Comparison> {
    let Some(observed) = observed else { return Vec::new() };
    let index = Index::new(mesh, &options.root_namespace, &options.cluster_domain);
    let scene = Scene { mesh, index: &index, faults: &[], boards: &[], observed: Some(observed), files: None, options };
    let mut all = Vec::new();
    of_splits(&scene, observed, &mut all);
    of_faults(&scene, observed, &mut all);
    of_workloads(&scene, observed, &mut all);
    of_limits(&scene, observed, &mut all);
    of_sampling(&scene, observed, &mut all);
    all.truncate(HELD_MAX);
    all
}

/// The share of calls that `of` takes, by caller.
fn by_caller<'o>(calls: &[&'o Calls], weight: fn(&Calls) -> f64, of: &dyn Fn(&Calls) -> bool) -> Vec<CallerShare> {
    let mut all: BTreeMap<String, (&'o End, f64, f64)> = BTreeMap::new();
    for one in calls {
        let entry = all.entry(one.from.name()).or_insert((&one.from, 0.0, 0.0));
        entry.1 += weight(one);
        entry.2 += if of(one) { weight(one) } else { 0.0 };
    }
    let mut all: Vec<CallerShare> = all
        .into_iter()
        .filter(|(_, (_, whole, _))| *whole > 0.0)
        .map(|(name, (end, whole, part))| CallerShare {
            namespace: end.namespace.clone(),
            workload: end.workload.clone(),
            name,
            share: part / whole,
            calls: whole,
        })
        .collect();
    all.sort_by(|a, b| b.calls.total_cmp(&a.calls).then_with(|| a.name.cmp(&b.name)));
    all.truncate(CALLERS_MAX);
    all
}

fn of_splits(scene: &Scene<'_>, observed: &Observed, all: &mut Vec<Comparison>) {
    for split in splits::splits(scene) {
        let calls = splits::steered(scene, observed, &split);
        let smallest = split.parts.iter().map(|part| part.weight).filter(|one| *one > 0.0).fold(1.0, f64::min);
        let (of, span) = splits::weighed(observed, &calls, smallest);
        let whole: f64 = calls.iter().map(|one| of(one)).sum();
        let mut hosts: Vec<String> =
            split.hosts.iter().cloned().chain(split.parts.iter().map(|part| part.host.clone())).collect();
        hosts.sort();
        hosts.dedup();
        for part in &split.parts {
            let own: f64 = calls.iter().filter(|one| splits::went(scene, part, one)).map(|one| of(one)).sum();
            let tested = share(own, whole, part.weight.clamp(0.0, 1.0));
            let verdict = match whole < CALLS_MIN {
                true => Verdict::Unknown,
                false if splits::is_off(&tested, part) => Verdict::Differs,
                false => Verdict::Holds,
            };
            all.push(Comparison {
                about: About::Split,
                object: split.route.id.clone(),
                field: part.field.clone(),
                hosts: hosts.clone(),
                workload: None,
                what: part.name(),
                declared: Some(part.weight),
                declared_words: percent(part.weight),
                seen: (whole >= 1.0).then_some(own / whole.max(1.0)),
                seen_words: match whole >= 1.0 {
                    true => format!("{} of {} requests in {span}", count(own), count(whole)),
                    false => format!("no request in {span}"),
                },
                verdict,
                callers: by_caller(&calls, of, &|one| splits::went(scene, part, one)),
            });
        }
    }
}

fn of_faults(scene: &Scene<'_>, observed: &Observed, all: &mut Vec<Comparison>) {
    for fault in faults::faults(scene) {
        let calls = faults::governed(scene, &fault);
        let recent: f64 = calls.iter().map(|one| one.recent).sum();
        let of: fn(&Calls) -> f64 = if recent >= CALLS_MIN { |one| one.recent } else { |one| one.count };
        let whole: f64 = calls.iter().map(|one| of(one)).sum();
        for (flag, key, declared) in [("DI", "delay", &fault.delay), ("FI", "abort", &fault.abort)] {
            let Some((declared, how)) = declared else { continue };
            let own: f64 = calls.iter().filter(|one| one.has_flag(flag)).map(|one| of(one)).sum();
            let tested = share(own, whole, declared.clamp(0.0, 1.0));
            let verdict = match () {
                () if whole < CALLS_MIN || fault.conditional => Verdict::Unknown,
                () if faults::is_off(&tested, *declared) => Verdict::Differs,
                () => Verdict::Holds,
            };
            all.push(Comparison {
                about: About::Fault,
                object: fault.route.id.clone(),
                field: format!("{}.{key}", fault.field),
                hosts: fault.hosts.clone(),
                workload: None,
                what: format!("{key} {how}"),
                declared: Some(declared.clamp(0.0, 1.0)),
                declared_words: percent(*declared),
                seen: (whole >= 1.0).then_some(own / whole.max(1.0)),
                seen_words: format!("{} of {} requests carry {flag}, in {}", count(own), count(whole), observed.span()),
                verdict,
                callers: by_caller(&calls, of, &|one| one.has_flag(flag)),
            });
        }
    }
}

/// Mutual TLS of the workloads that a policy asks for it, or that are declared.
fn of_workloads(scene: &Scene<'_>, observed: &Observed, all: &mut Vec<Comparison>) {
    for (namespace, workload) in observed.servers() {
        let calls = mtls::known(observed, namespace, workload);
        let whole: f64 = calls.iter().map(|one| one.count).sum();
        if whole < 1.0 {
            continue;
        }
        let mode = mtls::demanded(scene, namespace, workload);
        let policy = mode.from.as_ref().and_then(|from| scene.mesh.get(from.kind, &from.namespace, &from.name));
        let Some(object) = policy.or_else(|| scene.workload(namespace, workload).map(|one| one.resource)) else {
            continue;
        };
        let own: f64 = calls.iter().filter(|one| !mtls::is_plain(one)).map(|one| one.count).sum();
        let is_strict = mode.value == "STRICT";
        let verdict = match () {
            () if whole < CALLS_MIN => Verdict::Unknown,
            () if is_strict && own + 1.0 <= whole => Verdict::Differs,
            () => Verdict::Holds,
        };
        all.push(Comparison {
            about: About::MutualTls,
            object: object.id.clone(),
            field: if policy.is_some() { "spec.mtls.mode".to_owned() } else { String::new() },
            hosts: Vec::new(),
            workload: Some((namespace.to_owned(), workload.to_owned())),
            what: format!("mutual TLS of {namespace}/{workload}"),
            declared: is_strict.then_some(1.0),
            declared_words: if policy.is_some() { mode.value } else { format!("{} (Istio's default)", mode.value) },
            seen: Some((own / whole).clamp(0.0, 1.0)),
            seen_words: format!("{} of {} calls in {} were encrypted", count(own), count(whole), observed.span()),
            verdict,
            callers: by_caller(&calls, |one| one.count, &|one| !mtls::is_plain(one)),
        });
    }
}

fn of_limits(scene: &Scene<'_>, observed: &Observed, all: &mut Vec<Comparison>) {
    for breaker in breakers::breakers(scene) {
        let upstreams = breaker.upstreams(observed);
        for (name, limit, peak) in breaker.limits(&upstreams) {
            let used = peak.map(|peak| (peak / limit).clamp(0.0, 1.0));
            let verdict = match used {
                None => Verdict::Unknown,
                Some(used) if used >= breakers::NEAR => Verdict::Differs,
                Some(_) => Verdict::Holds,
            };
            all.push(Comparison {
                about: About::Limit,
                object: breaker.rule.id.clone(),
                field: format!("{}.connectionPool.{name}", breaker.field),
                hosts: vec![breaker.host.clone()],
                workload: None,
                what: match breaker.subset {
                    Some(subset) => format!("{name} of {}/{subset}", breaker.host),
                    None => format!("{name} of {}", breaker.host),
                },
                declared: Some(1.0),
                declared_words: format!("{} for each proxy", count(limit)),
                seen: used,
                seen_words: match peak {
                    Some(peak) => format!("peak {} of the busiest proxy in {}", count(peak), observed.span()),
                    None => "its peak is not collected (MS2033 has the lines)".to_owned(),
                },
                verdict,
                callers: Vec::new(),
            });
        }
    }
}

fn of_sampling(scene: &Scene<'_>, observed: &Observed, all: &mut Vec<Comparison>) {
    let Some((declared, object, field)) = tracing::declared(scene) else { return };
    let (spans, requests) = tracing::seen(observed);
    let verdict = match () {
        () if requests < tracing::REQUESTS_MIN => Verdict::Unknown,
        () if tracing::is_off(spans / requests, declared) => Verdict::Differs,
        () => Verdict::Holds,
    };
    all.push(Comparison {
        about: About::Sampling,
        object: object.id.clone(),
        field,
        hosts: Vec::new(),
        workload: None,
        what: "requests that are traced".to_owned(),
        declared: Some(declared.clamp(0.0, 1.0)),
        declared_words: percent(declared),
        seen: (requests >= 1.0).then_some((spans / requests.max(1.0)).clamp(0.0, 1.0)),
        seen_words: format!(
            "{} spans of servers for {} requests in {}",
            count(spans),
            count(requests),
            observed.span()
        ),
        verdict,
        callers: Vec::new(),
    });
}
