//! What istiod's precedence loses without a word: of two objects for one thing the older one holds (`mesh::effective`).
//!
//! Nothing is reported by a cluster for these: the object is accepted, its status is fine, and it does nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::Check;
use super::matches::canonical;
use super::routes::{gateway_name, host_names};
use crate::audit::{Found, Scene};
use crate::mesh::effective::{for_mesh, in_order, reason, routes_in_order, selector, targeted};
use crate::mesh::hosts::{export_scopes, full_name};
use crate::mesh::select::written;
use crate::mesh::{Kind, Resource};
use crate::model::Severity;
use crate::yaml::Node;

pub(super) const CHECKS: &[Check] = &[
    Check::new("MS0901", Severity::Error, "a VirtualService loses a host to another", &["KIA1106"], routes),
    Check::new(
        "MS0902",
        Severity::Error,
        "a DestinationRule's trafficPolicy is ignored",
        &["KIA0201"],
        traffic_policies,
    ),
    Check::new("MS0903", Severity::Error, "a Telemetry is ignored", &["IST0160"], telemetries),
    Check::new(
        "MS0904",
        Severity::Error,
        "a PeerAuthentication is ignored",
        &["KIA0002", "KIA0003"],
        peer_authentications,
    ),
    Check::new("MS0905", Severity::Error, "a Sidecar is ignored", &["IST0111"], sidecars),
    Check::new("MS0906", Severity::Error, "a ProxyConfig is ignored", &[], proxy_configs),
    Check::new("MS0907", Severity::Error, "a subset is declared twice, and differs", &["KIA0201"], repeated_subsets),
    Check::new(
        "MS0908",
        Severity::Warning,
        "a route of a gateway is behind one that takes everything",
        &[],
        gateway_routes,
    ),
];

fn routes(scene: &Scene<'_>, found: &mut Found<'_>) {
    let mut defined: BTreeMap<(String, String), Vec<&Resource>> = BTreeMap::new();
    for route in scene.mesh.of_kind(Kind::VirtualService).filter(|one| for_mesh(one)) {
        let scopes = export_scopes(route.list("spec.exportTo"), &route.id.namespace);
        for host in host_names(route, scene).collect::<BTreeSet<_>>() {
            for scope in scopes.iter().collect::<BTreeSet<_>>() {
                defined.entry((host.clone(), scope.clone())).or_default().push(route);
            }
        }
    }
    for ((host, scope), own) in &defined {
        let public = if scope == "*" { None } else { defined.get(&(host.clone(), "*".to_owned())) };
        let order = routes_in_order(own.iter().chain(public.into_iter().flatten()).copied(), scope);
        let [winner, losers @ ..] = order.as_slice() else { continue };
        // What routes for all lose to each other is told once, under "*"; here the winner names the namespace.
        let near = scope == "*" || own.iter().any(|one| one.id == winner.id);
        for loser in losers.iter().filter(|_| near) {
            let place = if scope == "*" { String::new() } else { format!(" for callers in namespace {scope}") };
            let why = if scope == "*" { reason(winner, loser) } else { "routes that name a namespace come first" };
            let message =
                format!("{} defines {host} too and wins ({why}): ignored here{place}: {}", winner.id, steers(loser));
            let at = loser.list("spec.hosts").iter().position(|one| {
                one.as_str().is_some_and(|name| full_name(name, &loser.id.namespace, &scene.index.domain) == *host)
            });
            found
                .at(loser, &format!("spec.hosts[{}]", at.unwrap_or(0)), message)
                .seen(format!("{} holds instead: {}", winner.id, steers(winner)))
                .fix("# one VirtualService for the host, with the rules of both in the order wanted");
        }
    }
}

fn text<'a>(node: &'a Node, path: &[&str]) -> Option<&'a str> {
    path.iter().try_fold(node, |node, key| node.get(key)).and_then(Node::as_str)
}

/// What a VirtualService does, in words.
fn steers(route: &Resource) -> String {
    let mut all = Vec::new();
    for rule in ["http", "tls", "tcp"].into_iter().flat_map(|protocol| route.list(&format!("spec.{protocol}"))) {
        let mut words = Vec::new();
        let conditions = rule.get("match").map(Node::items).unwrap_or_default();
        let keys: BTreeSet<&str> =
            conditions.iter().flat_map(Node::entries).filter_map(|(key, _)| key.as_str()).collect();
        let keys: Vec<&str> = keys.into_iter().filter(|key| *key != "name").collect();
        if !keys.is_empty() {
            words.push(format!("by {}", keys.join(" and ")));
        }
        if let Some(delay) = text(rule, &["fault", "delay", "fixedDelay"]) {
            let share = text(rule, &["fault", "delay", "percentage", "value"]).unwrap_or("100");
            words.push(format!("a delay of {delay} for {share} % of calls"));
        }
        if rule.get("fault").and_then(|fault| fault.get("abort")).is_some() {
            words.push("aborted calls".to_owned());
        }
        for (key, said) in
            [("timeout", "a timeout"), ("retries", "retries"), ("mirror", "a mirror"), ("rewrite", "a rewrite")]
        {
            if rule.get(key).is_some() {
                words.push(said.to_owned());
            }
        }
        words.push(format!("to {}", split(rule)));
        all.push(words.join(", "));
    }
    if all.len() > 3 {
        all.truncate(3);
        all.push("…".to_owned());
    }
    all.join("; ")
}

/// Where a rule sends: `90 % cart/v1, 10 % cart/v2`.
fn split(rule: &Node) -> String {
    let routes = rule.get("route").map(Node::items).unwrap_or_default();
    let one = |node: &Node| {
        let host = text(node, &["destination", "host"]).unwrap_or("?");
        let subset = text(node, &["destination", "subset"]).map(|subset| format!("/{subset}")).unwrap_or_default();
        let weight = text(node, &["weight"]).filter(|_| routes.len() > 1).map(|weight| format!("{weight} % "));
        format!("{}{host}{subset}", weight.unwrap_or_default())
    };
    match routes {
        [] if rule.get("redirect").is_some() => "a redirect".to_owned(),
        [] => "nowhere".to_owned(),
        routes => routes.iter().map(one).collect::<Vec<_>>().join(", "),
    }
}

/// DestinationRules that istiod joins: one namespace, host, selector and export; the winner first.
fn joined<'a>(scene: &Scene<'a>) -> Vec<(String, Vec<&'a Resource>)> {
    let mut groups: BTreeMap<(&str, String, String, BTreeSet<String>), Vec<&Resource>> = BTreeMap::new();
    for rule in scene.mesh.of_kind(Kind::DestinationRule) {
        let host = full_name(rule.text("spec.host").unwrap_or_default(), &rule.id.namespace, &scene.index.domain);
        let scopes = export_scopes(rule.list("spec.exportTo"), &rule.id.namespace).into_iter().collect();
        groups.entry((&rule.id.namespace, host, written(&selector(rule)), scopes)).or_default().push(rule);
    }
    let several = groups.into_iter().filter(|(_, all)| all.len() > 1);
    several.map(|((_, host, ..), all)| (host, in_order(all))).collect()
}

fn traffic_policies(scene: &Scene<'_>, found: &mut Found<'_>) {
    for (host, rules) in joined(scene) {
        let mut with = rules.iter().filter(|rule| rule.at("spec.trafficPolicy").is_some());
        let Some(winner) = with.next() else { continue };
        for loser in with {
            let parts = |rule: &Resource| {
                let keys = rule.at("spec.trafficPolicy").map(Node::entries).unwrap_or_default().iter();
                keys.filter_map(|(key, _)| key.as_str()).collect::<Vec<_>>().join(", ")
            };
            let message = format!(
                "{} is for {host} too and wins ({}): ignored here: {}; only the subsets of both are joined",
                winner.id,
                reason(winner, loser),
                parts(loser)
            );
            found
                .at(loser, "spec.trafficPolicy", message)
                .seen(format!("{} holds instead: {}", winner.id, parts(winner)))
                .fix("# one DestinationRule for the host, with the trafficPolicy and subsets of both");
        }
    }
}

fn repeated_subsets(scene: &Scene<'_>, found: &mut Found<'_>) {
    for (host, rules) in joined(scene) {
        let mut known: BTreeMap<&str, (&Resource, &Node)> = BTreeMap::new();
        for rule in rules {
            for (at, subset) in rule.list("spec.subsets").iter().enumerate() {
                let Some(name) = text(subset, &["name"]) else { continue };
                match known.get(name) {
                    Some((winner, first)) if winner.id != rule.id && canonical(first) != canonical(subset) => {
                        let why = reason(winner, rule);
                        let message = format!(
                            "{} declares the subset {name} of {host} too and wins ({why}): this one is ignored",
                            winner.id
                        );
                        found.at(rule, &format!("spec.subsets[{at}]"), message);
                    }
                    Some(_) => {}
                    None => {
                        known.insert(name, (rule, subset));
                    }
                }
            }
        }
    }
}

fn telemetries(scene: &Scene<'_>, found: &mut Found<'_>) {
    one_of(scene, found, Kind::Telemetry);
}

fn peer_authentications(scene: &Scene<'_>, found: &mut Found<'_>) {
    one_of(scene, found, Kind::PeerAuthentication);
}

fn sidecars(scene: &Scene<'_>, found: &mut Found<'_>) {
    one_of(scene, found, Kind::Sidecar);
}

fn proxy_configs(scene: &Scene<'_>, found: &mut Found<'_>) {
    one_of(scene, found, Kind::ProxyConfig);
}

/// What an object sets, in words.
fn sets(resource: &Resource) -> String {
    let mut words = Vec::new();
    for (key, node) in resource.at("spec").map(Node::entries).unwrap_or_default() {
        let Some(key) = key.as_str().filter(|key| !["selector", "workloadSelector"].contains(key)) else { continue };
        let first = node.items().first();
        let sampling = first.and_then(|one| text(one, &["randomSamplingPercentage"]));
        let mode = text(node, &["mode"]).or_else(|| node.as_str());
        words.push(match (sampling, mode) {
            (Some(sampling), _) => format!("{key} at {} %", sampling.strip_suffix(".0").unwrap_or(sampling)),
            (None, Some(mode)) => format!("{key} {mode}"),
            (None, None) => key.to_owned(),
        });
    }
    if words.is_empty() { "nothing".to_owned() } else { words.join(", ") }
}

/// Of the objects of a kind that hold for a whole namespace, and of those that select one workload, one holds.
fn one_of(scene: &Scene<'_>, found: &mut Found<'_>, kind: Kind) {
    let mut wide: BTreeMap<&str, Vec<&Resource>> = BTreeMap::new();
    let mut own: BTreeMap<String, Vec<&Resource>> = BTreeMap::new();
    for resource in scene.mesh.of_kind(kind).filter(|one| !targeted(one)) {
        let labels = selector(resource);
        if labels.is_empty() {
            wide.entry(&resource.id.namespace).or_default().push(resource);
            continue;
        }
        for workload in scene.index.selected(&labels, &resource.id.namespace) {
            own.entry(workload.resource.id.to_string()).or_default().push(resource);
        }
    }
    let places = wide.into_iter().map(|(namespace, all)| (format!("namespace {namespace}"), all));
    let mut told = BTreeSet::new();
    for (place, all) in places.chain(own) {
        let order = in_order(all);
        let [winner, losers @ ..] = order.as_slice() else { continue };
        for loser in losers.iter().filter(|one| told.insert(&one.id)) {
            let (why, lost) = (reason(winner, loser), sets(loser));
            let message = format!("{} holds for {place} and wins ({why}): ignored here: {lost}", winner.id);
            found
                .at(loser, "spec", message)
                .seen(format!("{} holds instead: {}", winner.id, sets(winner)))
                .fix(format!("# one {} for {place}, with the settings of both", kind.info().name));
        }
    }
}

/// At a gateway the rules of all VirtualServices of a host are joined, the oldest first: behind one without a match nothing
/// is reached.
fn gateway_routes(scene: &Scene<'_>, found: &mut Found<'_>) {
    let open = |route: &Resource| {
        let rules = route.list("spec.http");
        rules.iter().position(|rule| rule.get("match").map(Node::items).unwrap_or_default().is_empty())
    };
    let mut bound: BTreeMap<(String, String), Vec<&Resource>> = BTreeMap::new();
    for route in scene.mesh.of_kind(Kind::VirtualService).filter(|route| open(route).is_some()) {
        for written in route.list("spec.gateways").iter().filter_map(Node::as_str).filter(|one| *one != "mesh") {
            let (namespace, name) = gateway_name(route, written);
            for host in host_names(route, scene) {
                bound.entry((format!("{namespace}/{name}"), host)).or_default().push(route);
            }
        }
    }
    let mut told = BTreeSet::new();
    for ((gateway, host), all) in bound {
        let order = in_order(all);
        let [winner, losers @ ..] = order.as_slice() else { continue };
        for loser in losers.iter().filter(|one| one.id != winner.id && told.insert((&one.id, host.clone()))) {
            let why = reason(winner, loser);
            let message = format!(
                "{} has a rule without a match for {host} at Gateway {gateway} too and comes first ({why}): this rule is not reached there",
                winner.id
            );
            found.at(loser, &format!("spec.http[{}]", open(loser).unwrap_or(0)), message);
        }
    }
}
