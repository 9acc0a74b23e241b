//! Circuit breakers: limits against observed peaks, trips, ejections, and statistics that nobody collects.
//!
//! Limits of a pool hold for each proxy, not for the service: a peak is that of the busiest proxy. The flags UO and UH are
//! always told; Envoy's own statistics only where they are switched on, so their absence is a finding, never "no trips".

use std::collections::BTreeSet;

use super::{CALLS_MIN, callers, count, names, number, percent, sum, text};
use crate::audit::checks::Check;
use crate::audit::observed::{Calls, Observed, Side, Upstream};
use crate::audit::{Found, Scene};
use crate::mesh::{Kind, Resource};
use crate::model::Severity;
use crate::yaml::Node;

pub(super) const CHECKS: &[Check] = &[
    Check::new("MS2030", Severity::Warning, "a circuit breaker refuses requests", &[], trips),
    Check::new("MS2031", Severity::Warning, "outlier detection ejects hosts", &[], ejections),
    Check::new("MS2032", Severity::Warning, "a limit of a pool is near what is used", &[], tight),
    Check::new("MS2033", Severity::Info, "the statistics of a circuit breaker are not collected", &[], uncollected),
    Check::new("MS2034", Severity::Info, "a circuit breaker that nothing comes near", &[], idle),
    Check::new("MS2035", Severity::Warning, "outlier detection that single failures trip", &[], hasty),
];

/// From this share of a limit on it is near.
const NEAR: f64 = 0.8;
/// Below this share of every limit a breaker does nothing.
const FAR: f64 = 0.1;
/// Calls in the window below which nothing is said of a breaker without trips.
const EXERCISED_MIN: f64 = 1_000.0;

/// A traffic policy with limits: the rule, where it stands, the host, the subset.
struct Breaker<'a> {
    rule: &'a Resource,
    field: String,
    node: &'a Node,
    host: String,
    subset: Option<&'a str>,
}

fn breakers<'a>(scene: &Scene<'a>) -> Vec<Breaker<'a>> {
    let mut all = Vec::new();
    let has = |node: &Node| node.get("connectionPool").is_some() || node.get("outlierDetection").is_some();
    for rule in scene.mesh.of_kind(Kind::DestinationRule) {
        let host = scene.host(rule, rule.text("spec.host").unwrap_or_default());
        if let Some(node) = rule.at("spec.trafficPolicy").filter(|node| has(node)) {
            all.push(Breaker { rule, field: "spec.trafficPolicy".to_owned(), node, host: host.clone(), subset: None });
        }
        for (at, subset) in rule.list("spec.subsets").iter().enumerate() {
            let Some(node) = subset.get("trafficPolicy").filter(|node| has(node)) else { continue };
            let field = format!("spec.subsets[{at}].trafficPolicy");
            all.push(Breaker { rule, field, node, host: host.clone(), subset: text(subset, &["name"]) });
        }
    }
    all
}

impl Breaker<'_> {
    fn upstreams<'o>(&self, observed: &'o Observed) -> Vec<&'o Upstream> {
        let fits = |one: &&Upstream| one.host == self.host && self.subset.is_none_or(|subset| subset == one.subset);
        observed.upstreams.iter().filter(fits).collect()
    }

    /// Limits that are set, in words, with the largest value any proxy reached.
    fn limits(&self, upstreams: &[&Upstream]) -> Vec<(&'static str, f64, Option<f64>)> {
        let peak = |of: fn(&Upstream) -> Option<f64>| upstreams.iter().filter_map(|one| of(one)).reduce(f64::max);
        let pool = |path: &[&str]| {
            let whole: Vec<&str> = ["connectionPool"].into_iter().chain(path.iter().copied()).collect();
            number(self.node, &whole)
        };
        [
            ("tcp.maxConnections", pool(&["tcp", "maxConnections"]), peak(|one| one.connections_peak)),
            ("http.http1MaxPendingRequests", pool(&["http", "http1MaxPendingRequests"]), peak(|one| one.pending_peak)),
            ("http.http2MaxRequests", pool(&["http", "http2MaxRequests"]), peak(|one| one.requests_peak)),
        ]
        .into_iter()
        .filter_map(|(name, limit, peak)| Some((name, limit.filter(|limit| *limit > 0.0)?, peak)))
        .collect()
    }
}

/// Calls of a host that carry a flag, as callers tell them.
fn flagged<'o>(observed: &'o Observed, host: &str, flag: &'static str) -> Vec<&'o Calls> {
    observed.to_host(host).filter(|one| one.side == Side::Client && one.has_flag(flag)).collect()
}

fn client_total(observed: &Observed, host: &str) -> f64 {
    sum(observed.to_host(host).filter(|one| one.side == Side::Client))
}

fn trips(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed else { return };
    let mut told = BTreeSet::new();
    for breaker in breakers(scene) {
        let refused = flagged(observed, &breaker.host, "UO");
        let upstreams = breaker.upstreams(observed);
        let overflow: f64 = upstreams.iter().filter_map(|one| one.overflow()).sum();
        let calls = sum(refused.iter().copied());
        if calls.max(overflow) < 1.0
            || breaker.node.get("connectionPool").is_none()
            || !told.insert(breaker.host.clone())
        {
            continue;
        }
        let total = client_total(observed, &breaker.host);
        let message = format!(
            "the pool for {} was full: {} of {} requests in {} were refused (UO)",
            breaker.host,
            count(calls.max(overflow)),
            count(total),
            observed.span()
        );
        let mut note = found.at(breaker.rule, &format!("{}.connectionPool", breaker.field), message);
        if !refused.is_empty() {
            note = note.seen(format!("by {}", callers(refused)));
        }
        for (name, limit, peak) in breaker.limits(&upstreams) {
            let peak = peak.map_or("its peak is not collected".to_owned(), |peak| format!("peak {}", count(peak)));
            note = note.seen(format!("{name}: {}, for each proxy; {peak}", count(limit)));
        }
        note.fix(
            "# a limit protects the callee: raise it only when the callee has room, else add pods.\n\
             # Each proxy has the limit for itself: limit × callers' pods is what arrives.",
        );
    }
}

fn ejections(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed else { return };
    let mut told = BTreeSet::new();
    for breaker in breakers(scene) {
        let Some(outlier) = breaker.node.get("outlierDetection") else { continue };
        let nobody = flagged(observed, &breaker.host, "UH");
        let ejected: f64 = breaker.upstreams(observed).iter().filter_map(|one| one.ejections).sum();
        let calls = sum(nobody.iter().copied());
        if calls.max(ejected) < 1.0 || !told.insert(breaker.host.clone()) {
            continue;
        }
        let share = number(outlier, &["maxEjectionPercent"]).unwrap_or(10.0);
        let mut message = format!("hosts of {} were ejected", breaker.host);
        if calls >= 1.0 {
            message.push_str(&format!(
                " until none was left: {} requests in {} failed (UH)",
                count(calls),
                observed.span()
            ));
        }
        let mut note = found.at(breaker.rule, &format!("{}.outlierDetection", breaker.field), message);
        if ejected >= 1.0 {
            note = note.seen(format!("{} ejections counted by the proxies that tell", count(ejected)));
        }
        if !nobody.is_empty() {
            note = note.seen(format!("by {}", callers(nobody)));
        }
        let own = sum(observed.to_host(&breaker.host).filter(|one| one.side == Side::Server && one.failed()));
        note.seen(format!("maxEjectionPercent: {share:.0}; {} failures reported by the callee itself", count(own)))
            .fix("outlierDetection:\n  maxEjectionPercent: 50 # some hosts stay, whatever happens");
    }
}

fn tight(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed else { return };
    for breaker in breakers(scene) {
        let upstreams = breaker.upstreams(observed);
        if upstreams.iter().filter_map(|one| one.overflow()).sum::<f64>() >= 1.0 {
            continue;
        }
        for (name, limit, peak) in breaker.limits(&upstreams) {
            let Some(peak) = peak.filter(|peak| *peak >= limit * NEAR) else { continue };
            let message = format!(
                "{name} is {} and the busiest proxy reached {}: {} of the limit",
                count(limit),
                count(peak),
                percent(peak / limit)
            );
            found
                .at(breaker.rule, &format!("{}.connectionPool.{name}", breaker.field), message)
                .seen(format!("seen at scrapes of {}; between two of them it may have been more", observed.span()))
                .fix(format!("connectionPool:\n  {}: {}", name.replace('.', ":\n    "), count((peak * 2.0).ceil())));
        }
    }
}

fn uncollected(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed else { return };
    let mut told = BTreeSet::new();
    for breaker in breakers(scene) {
        let client: Vec<&Calls> = observed.to_host(&breaker.host).filter(|one| one.side == Side::Client).collect();
        if sum(client.iter().copied()) < CALLS_MIN || !told.insert(breaker.host.clone()) {
            continue;
        }
        let tells: BTreeSet<String> = breaker
            .upstreams(observed)
            .iter()
            .filter_map(|one| Some(format!("{}/{}", one.namespace, scene.owner(observed, &one.namespace, &one.pod)?)))
            .collect();
        // A scrape without the labels namespace and pod tells of nobody in particular.
        let nameless = breaker.upstreams(observed).iter().any(|one| one.pod.is_empty());
        let silent: Vec<String> = super::by_caller(client)
            .into_iter()
            .map(|(end, _)| end.name())
            .filter(|name| !nameless && !tells.contains(name))
            .collect();
        if silent.is_empty() {
            continue;
        }
        let message = format!(
            "callers of {} do not tell of the breaker: queue, connections and ejections are not known, only the flags",
            breaker.host
        );
        found.at(breaker.rule, &breaker.field, message).seen(format!("no envoy_cluster_* of {}", names(silent))).fix(
            "# in the pods of the callers (then a restart), or the same under meshConfig.defaultConfig for all\n\
             annotations:\n  proxy.istio.io/config: |\n    proxyStatsMatcher:\n      inclusionRegexps:\n      \
             - \".*outlier_detection.*\"\n      - \".*circuit_breakers.*\"\n      - \".*upstream_rq_retry.*\"\n      \
             - \".*upstream_rq_pending.*\"\n      - \".*upstream_cx_.*\"",
        );
    }
}

fn idle(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed.filter(|one| one.covered) else { return };
    for breaker in breakers(scene) {
        let upstreams = breaker.upstreams(observed);
        let limits = breaker.limits(&upstreams);
        let known: Vec<(&str, f64, f64)> =
            limits.iter().filter_map(|(name, limit, peak)| Some((*name, *limit, (*peak)?))).collect();
        let total = client_total(observed, &breaker.host);
        let tripped =
            upstreams.iter().any(|one| one.overflow().unwrap_or(0.0) >= 1.0 || one.ejections.unwrap_or(0.0) >= 1.0)
                || !flagged(observed, &breaker.host, "UO").is_empty();
        let far = known.iter().all(|(_, limit, peak)| *peak < limit * FAR);
        if known.is_empty() || known.len() < limits.len() || !far || tripped || total < EXERCISED_MIN {
            continue;
        }
        let message =
            format!("nothing came near the limits for {} in {}: they protect nobody", breaker.host, observed.span());
        let mut note = found.at(breaker.rule, &format!("{}.connectionPool", breaker.field), message);
        for (name, limit, peak) in &known {
            note = note.seen(format!("{name}: {}, peak {}", count(*limit), count(*peak)));
        }
        let (name, _, peak) = known[0];
        note.fix(format!("connectionPool:\n  {}: {}", name.replace('.', ":\n    "), count((peak * 4.0).max(4.0))));
    }
}

fn hasty(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed else { return };
    for breaker in breakers(scene) {
        let Some(outlier) = breaker.node.get("outlierDetection") else { continue };
        let few =
            ["consecutive5xxErrors", "consecutiveGatewayErrors", "consecutiveErrors"].into_iter().find_map(|key| {
                number(outlier, &[key]).filter(|value| (1.0..=2.0).contains(value)).map(|value| (key, value))
            });
        let share = number(outlier, &["maxEjectionPercent"]).unwrap_or(10.0);
        let served: Vec<&Calls> = observed.to_host(&breaker.host).filter(|one| one.side == Side::Server).collect();
        let total = sum(served.iter().copied());
        let failed = sum(served.iter().copied().filter(|one| one.code.is_some_and(|code| code >= 500)));
        let Some((key, value)) = few.filter(|_| share > 50.0 && total >= CALLS_MIN && failed >= 1.0) else { continue };
        let time = text(outlier, &["baseEjectionTime"]).unwrap_or("30s");
        let message = format!(
            "{value:.0} failure takes a host of {} away for {time}, up to {share:.0} % of them, and {} failed in {}",
            breaker.host,
            count(failed),
            observed.span()
        );
        found
            .at(breaker.rule, &format!("{}.outlierDetection.{key}", breaker.field), message)
            .seen(format!("{} of {} requests failed with 5xx ({})", count(failed), count(total), percent(failed / total)))
            .fix("outlierDetection:\n  consecutive5xxErrors: 5\n  interval: 10s\n  baseEjectionTime: 30s\n  maxEjectionPercent: 50");
    }
}
