//! Retries and timeouts of Linkerd: what its routes declare (ServiceProfiles, routes of Gateway API, annotations), against
//! what the callers' proxies did.
//!
//! Facts: linkerd.io/2/reference/retries and …/timeouts. A ServiceProfile of a service silences its annotations and routes; an
//! annotation of a route those of its service. How long calls take is not asked of the callee: what is given up never arrives
//! in its latencies, but one call in a hundred given up says that one in a hundred takes longer.

use std::collections::BTreeMap;

use super::calls::AMPLIFIED;
use super::{CALLS_MIN, count, millis, names, percent, text};
use crate::audit::checks::Check;
use crate::audit::observed::RouteCalls;
use crate::audit::{Found, Note, Scene};
use crate::mesh::hosts::service_of;
use crate::mesh::{Kind, Place, Resource};
use crate::model::Severity;
use crate::yaml::Node;

pub(super) const CHECKS: &[Check] = &[Check::new(
    "MS2052",
    Severity::Warning,
    "retries of Linkerd are held back by their budget or a circuit breaker",
    &[],
    held_back,
)];

/// Share of calls given up from which on a timeout is too short.
const GIVEN_UP: f64 = 0.01;
/// Share of calls whose retries are held back that is told.
const HELD_BACK: f64 = 0.01;
const ROUTES: [Kind; 3] = [Kind::LinkerdHttpRoute, Kind::HttpRoute, Kind::GrpcRoute];
const RETRY: &str = "retry.linkerd.io/";
const TIMEOUT: &str = "timeout.linkerd.io/";

/// What steers the calls of a route: the object and the field where it says so.
type Steering<'a> = (&'a Resource, String);

/// Calls by service, whether a profile steers them, and route.
type Groups<'o> = BTreeMap<(&'o (String, String), bool, &'o (String, String)), Vec<&'o RouteCalls>>;

/// Calls with the same declaration, of all callers together.
fn grouped<'o>(scene: &Scene<'o>) -> Groups<'o> {
    let mut all = Groups::new();
    for one in scene.observed.iter().flat_map(|observed| &observed.routes) {
        all.entry((&one.service, one.profile, &one.route)).or_default().push(one);
    }
    all
}

fn total(calls: &[&RouteCalls], of: fn(&RouteCalls) -> f64) -> f64 {
    calls.iter().map(|one| of(one)).sum()
}

/// `shop/web (12), shop/cart (3)`, the most first.
fn by(calls: &[&RouteCalls], of: fn(&RouteCalls) -> f64) -> String {
    let mut all: Vec<(String, f64)> = calls.iter().map(|one| (one.from.name(), of(one))).collect();
    all.retain(|(_, calls)| *calls >= 0.5);
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    names(all.into_iter().map(|(name, calls)| format!("{name} ({})", count(calls))))
}

/// `route books-create of shop/books`, `shop/books`.
fn called(one: &RouteCalls) -> String {
    let (namespace, service) = &one.service;
    match one.route.1.as_str() {
        "" => format!("{namespace}/{service}"),
        route => format!("{namespace}/{service} (route {route})"),
    }
}

/// The profile of a service: it stands in the caller's, the service's, or any namespace, under the service's full name.
fn profile<'a>(scene: &Scene<'a>, one: &RouteCalls) -> Option<&'a Resource> {
    let (namespace, service) = &one.service;
    let is_own = |profile: &&Resource| {
        service_of(&profile.id.name, &scene.index.domain) == Some((service.as_str(), namespace.as_str()))
    };
    scene.mesh.of_kind(Kind::ServiceProfile).find(is_own)
}

/// The place of a route in its profile.
fn place_in(profile: &Resource, route: &str) -> Option<usize> {
    profile.list("spec.routes").iter().position(|one| text(one, &["name"]) == Some(route))
}

/// What steers the calls with annotations of that beginning: the route's, else the service's.
fn annotated<'a>(scene: &Scene<'a>, one: &RouteCalls, prefix: &str) -> Option<Steering<'a>> {
    let has = |resource: &&Resource| resource.annotations.keys().any(|key| key.starts_with(prefix));
    let (namespace, name) = &one.route;
    let mut routes = ROUTES.iter().filter_map(|kind| scene.mesh.get(*kind, namespace, name));
    let (namespace, name) = &one.service;
    let service = || scene.mesh.get(Kind::Service, namespace, name).filter(has);
    routes.find(has).or_else(service).map(|found| (found, "metadata.annotations".to_owned()))
}

/// A finding at what steers the calls; where that is not declared, at the service or without a place.
fn about<'f>(
    scene: &Scene<'_>,
    found: &'f mut Found<'_>,
    steering: Option<&Steering<'_>>,
    one: &RouteCalls,
    message: String,
) -> Note<'f> {
    let (namespace, name) = &one.service;
    match (steering, scene.mesh.get(Kind::Service, namespace, name)) {
        (Some((resource, field)), _) => found.at(resource, field, message),
        (None, Some(service)) => found.at(service, "", message),
        (None, None) => found.place(&Place::default(), format!("Service {namespace}/{name}"), message),
    }
}

/// What makes the calls be retried.
fn retrying<'a>(scene: &Scene<'a>, one: &RouteCalls) -> Option<Steering<'a>> {
    if !one.profile {
        return annotated(scene, one, RETRY);
    }
    let profile = profile(scene, one)?;
    let field = place_in(profile, &one.route.1).map(|at| format!("spec.routes[{at}].isRetryable"));
    Some((profile, field.unwrap_or_else(|| "spec.routes".to_owned())))
}

/// Calls that are made again and again (MS2050).
pub(super) fn amplification(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed else { return };
    for one in &observed.routes {
        if one.requests < CALLS_MIN || one.requests + one.retries < one.requests * AMPLIFIED {
            continue;
        }
        let message = format!(
            "{} makes {:.2} calls to {} of each it is asked for: {} retries for {} requests",
            one.from.name(),
            (one.requests + one.retries) / one.requests,
            called(one),
            count(one.retries),
            count(one.requests)
        );
        let steering = retrying(scene, one);
        let mut note = about(scene, found, steering.as_ref(), one, message).seen(format!("in {}", observed.span()));
        for (left_out, why) in [
            (one.limited, "had been tried as often as they may (retry.linkerd.io/limit)"),
            (one.held_back, "were held back by the retry budget or a circuit breaker"),
        ] {
            if left_out >= 0.5 {
                note = note.seen(format!("{} more {why}", count(left_out)));
            }
        }
        note.fix(match one.profile {
            true => {
                "spec:\n  retryBudget:\n    retryRatio: 0.1\n    minRetriesPerSecond: 10\n    ttl: 10s\n# a callee in \
                 trouble then gets a tenth more calls at most; without a budget of its own a fifth"
            }
            false => {
                "metadata:\n  annotations:\n    retry.linkerd.io/limit: \"1\"\n    retry.linkerd.io/http: \
                 gateway-error\n# the callee is asked once more at most, and not for errors of its own"
            }
        });
    }
}

/// The shortest timeout that is declared for calls: where, and in milliseconds.
fn limit<'a>(scene: &Scene<'a>, one: &RouteCalls) -> Option<(Steering<'a>, f64)> {
    if one.profile {
        let profile = profile(scene, one)?;
        let at = place_in(profile, &one.route.1)?;
        let field = format!("spec.routes[{at}].timeout");
        let limit = profile.text(&field).and_then(millis)?;
        return Some(((profile, field), limit));
    }
    let (namespace, name) = &one.route;
    let routes = ROUTES.iter().filter_map(|kind| scene.mesh.get(*kind, namespace, name));
    let rules = routes.flat_map(|route| {
        let rules = route.list("spec.rules").iter().enumerate();
        rules.flat_map(move |(at, rule)| {
            let of = |key: &'static str| {
                let limit = text(rule, &["timeouts", key]).and_then(millis)?;
                Some(((route, format!("spec.rules[{at}].timeouts.{key}")), limit))
            };
            [of("request"), of("backendRequest")].into_iter().flatten()
        })
    });
    let annotations = annotated(scene, one, TIMEOUT).into_iter().flat_map(|(resource, field)| {
        let limits = ["request", "response"].map(|key| resource.annotations.get(&format!("{TIMEOUT}{key}")));
        let limits = limits.into_iter().flatten().filter_map(|written| millis(written));
        limits.map(|limit| ((resource, field.clone()), limit)).collect::<Vec<_>>()
    });
    rules.chain(annotations).filter(|(_, limit)| *limit > 0.0).min_by(|a, b| a.1.total_cmp(&b.1))
}

/// Calls that are given up too early (MS2051).
pub(super) fn timeouts(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed else { return };
    for calls in grouped(scene).into_values() {
        let one = calls[0];
        let (all, gone) = (total(&calls, |one| one.requests), total(&calls, |one| one.timeouts));
        let Some((steering, limit)) = limit(scene, one) else { continue };
        if all < CALLS_MIN * 3.0 || gone < 1.0 || gone / all < GIVEN_UP {
            continue;
        }
        let message = format!(
            "calls to {} are given up after {limit:.0} ms, and {} of them take longer",
            called(one),
            percent(gone / all)
        );
        let key = steering.1.rsplit('.').next().unwrap_or("timeout");
        let mend = match key {
            "annotations" => format!("metadata:\n  annotations:\n    {TIMEOUT}request: {:.0}ms", limit * 2.0),
            key => format!("{key}: {:.0}ms", limit * 2.0),
        };
        about(scene, found, Some(&steering), one, message)
            .seen(format!("{} of {} calls in {} timed out", count(gone), count(all), observed.span()))
            .seen(format!("by {}", by(&calls, |one| one.timeouts)))
            .fix(format!("# either the callee is mended, or\n{mend}"));
    }
}

/// Retries that are not made because too many were (MS2052).
fn held_back(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed else { return };
    for calls in grouped(scene).into_values() {
        let one = calls[0];
        let (all, held) = (total(&calls, |one| one.requests), total(&calls, |one| one.held_back));
        if all < CALLS_MIN || held < 1.0 || held / all < HELD_BACK {
            continue;
        }
        let (steering, why) = match profile(scene, one).filter(|_| one.profile) {
            Some(profile) => {
                let budget = profile.at("spec.retryBudget");
                let field = if budget.is_some() { "spec.retryBudget" } else { "spec.routes" };
                (Some((profile, field.to_owned())), budget_in_words(budget))
            }
            None if one.profile => (None, budget_in_words(None)),
            None => (annotated(scene, one, RETRY), "the circuit breaker of the callee is open".to_owned()),
        };
        let message =
            format!("{} retries of calls to {} were not made in {}: {why}", count(held), called(one), observed.span());
        about(scene, found, steering.as_ref(), one, message)
            .seen(format!("{} of {} requests", percent(held / all), count(all)))
            .seen(format!("by {}", by(&calls, |one| one.held_back)))
            .seen(format!("{} retries were made", count(total(&calls, |one| one.retries))))
            .fix(
                "# the callee fails more calls than retries can hide: mend it. A larger budget only adds to its load:\n\
                 # spec:\n#   retryBudget: {retryRatio: 0.3, minRetriesPerSecond: 10, ttl: 10s}",
            );
    }
}

/// What a budget of a profile allows; the default of Linkerd where there is none.
fn budget_in_words(budget: Option<&Node>) -> String {
    let of = |key: &str, default: &str| budget.and_then(|node| text(node, &[key])).unwrap_or(default).to_owned();
    let whose = if budget.is_some() { "the budget" } else { "Linkerd's default budget" };
    format!(
        "{whose} allows {} of the requests of {} and {} a second",
        of("retryRatio", "0.2").parse().map_or_else(|_| "?".to_owned(), percent),
        of("ttl", "10s"),
        of("minRetriesPerSecond", "10")
    )
}
