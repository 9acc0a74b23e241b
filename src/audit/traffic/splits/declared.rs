//! What splits traffic: weighted rules of VirtualServices, and of Gateway API's routes (Istio's and Linkerd's).
//!
//! In: the scene. Out: [`Split`]s, whose shares add up to one. A rule with conditions is none: metrics do not say which of
//! its requests met them. Facts: Istio's `HTTPRoute`, Gateway API's `BackendRef.weight` (default 1).

use std::collections::BTreeSet;

use crate::audit::Scene;
use crate::audit::traffic::{number, text};
use crate::mesh::effective::for_mesh;
use crate::mesh::select::Labels;
use crate::mesh::{Kind, Resource};
use crate::yaml::Node;

/// A destination of a split.
pub(in crate::audit) struct Part {
    pub(in crate::audit) host: String,
    pub(in crate::audit) subset: Option<String>,
    pub(super) labels: Labels,
    /// Share of the sum of weights.
    pub(in crate::audit) weight: f64,
    pub(in crate::audit) field: String,
}

impl Part {
    pub(in crate::audit) fn name(&self) -> String {
        match &self.subset {
            Some(subset) => format!("{}/{subset}", self.host),
            None => self.host.clone(),
        }
    }
}

/// A rule that splits.
pub(in crate::audit) struct Split<'a> {
    pub(in crate::audit) route: &'a Resource,
    /// Hosts that callers name.
    pub(in crate::audit) hosts: Vec<String>,
    pub(in crate::audit) parts: Vec<Part>,
    /// Whether it steers workloads of the mesh, or gateways alone.
    pub(super) for_mesh: bool,
    /// Whether it steers gateways.
    pub(super) for_gateways: bool,
}

/// All rules that split without conditions, alone with their destinations in their object.
pub(in crate::audit) fn splits<'a>(scene: &Scene<'a>) -> Vec<Split<'a>> {
    let mut all = Vec::new();
    for route in scene.mesh.of_kind(Kind::VirtualService) {
        let named = route.list("spec.hosts").iter().filter_map(Node::as_str);
        let hosts: Vec<String> = named.map(|host| scene.host(route, host)).collect();
        let rules = route.list("spec.http");
        for (at, rule) in rules.iter().enumerate() {
            let destinations = rule.get("route").map(Node::items).unwrap_or_default();
            let is_conditional = rule.get("match").is_some_and(|one| !one.items().is_empty());
            if destinations.len() < 2 || is_conditional {
                continue;
            }
            let parts = of_virtual_service(scene, route, at, destinations);
            let host_of = |node: &Node| Some(scene.host(route, text(node, &["destination", "host"])?));
            if alone(rules, at, "route", &parts, host_of) {
                let mut gateways = route.list("spec.gateways").iter().filter_map(Node::as_str);
                let for_gateways = gateways.any(|one| one != "mesh");
                all.push(Split { route, hosts: hosts.clone(), parts, for_mesh: for_mesh(route), for_gateways });
            }
        }
    }
    for kind in [Kind::HttpRoute, Kind::GrpcRoute, Kind::LinkerdHttpRoute] {
        scene.mesh.of_kind(kind).for_each(|route| gateway_api(scene, route, &mut all));
    }
    all
}

/// Whether no other rule of the object sends to these parts, and there are any.
fn alone(rules: &[Node], at: usize, key: &str, parts: &[Part], host_of: impl Fn(&Node) -> Option<String>) -> bool {
    let hosts: BTreeSet<&str> = parts.iter().map(|part| part.host.as_str()).collect();
    let others = rules.iter().enumerate().filter(|(i, _)| *i != at);
    let mut others = others.flat_map(|(_, rule)| rule.get(key).map(Node::items).unwrap_or_default());
    !parts.is_empty() && !others.any(|node| host_of(node).is_some_and(|host| hosts.contains(host.as_str())))
}

fn of_virtual_service(scene: &Scene<'_>, route: &Resource, at: usize, destinations: &[Node]) -> Vec<Part> {
    let weight = |node: &Node| number(node, &["weight"]).unwrap_or(0.0);
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

fn gateway_api<'a>(scene: &Scene<'a>, route: &'a Resource, all: &mut Vec<Split<'a>>) {
    let host_of = |node: &Node| {
        let is_service = matches!(text(node, &["kind"]), None | Some("Service"));
        let namespace = text(node, &["namespace"]).unwrap_or(&route.id.namespace);
        let name = text(node, &["name"]).filter(|_| is_service)?;
        Some(format!("{name}.{namespace}.svc.{}", scene.index.domain))
    };
    let parents = route.list("spec.parentRefs").iter().filter(|one| text(one, &["kind"]) == Some("Service"));
    let hosts: Vec<String> = parents.filter_map(host_of).collect();
    let mut parents = route.list("spec.parentRefs").iter();
    let gateways = parents.any(|one| matches!(text(one, &["kind"]), None | Some("Gateway")));
    let rules = route.list("spec.rules");
    for (at, rule) in rules.iter().enumerate() {
        let backends = rule.get("backendRefs").map(Node::items).unwrap_or_default();
        if backends.len() < 2 || !takes_all(rule) {
            continue;
        }
        let weight = |node: &Node| number(node, &["weight"]).unwrap_or(1.0);
        let whole: f64 = backends.iter().map(weight).sum();
        let part = |(i, node): (usize, &Node)| {
            let field = format!("spec.rules[{at}].backendRefs[{i}].weight");
            let weight = weight(node) / whole;
            Some(Part { host: host_of(node)?, subset: None, labels: Labels::new(), weight, field })
        };
        let parts: Vec<Part> = backends.iter().enumerate().filter_map(part).collect();
        let different: BTreeSet<&str> = parts.iter().map(|part| part.host.as_str()).collect();
        // One service on two ports cannot be told apart by its calls.
        let is_clear = whole > 0.0 && parts.len() == backends.len() && different.len() == parts.len();
        if is_clear && alone(rules, at, "backendRefs", &parts, host_of) {
            let (for_mesh, for_gateways) = (!hosts.is_empty(), gateways);
            all.push(Split { route, hosts: hosts.clone(), parts, for_mesh, for_gateways });
        }
    }
}

/// Whether a rule of Gateway API takes every request: no match, or the path prefix `/` alone.
fn takes_all(rule: &Node) -> bool {
    let matches = rule.get("matches").map(Node::items).unwrap_or_default();
    matches.iter().all(|one| {
        let is_root = text(one, &["path", "value"]).is_none_or(|path| path == "/")
            && text(one, &["path", "type"]).is_none_or(|kind| kind == "PathPrefix");
        is_root && one.entries().iter().all(|(key, _)| key.as_str() == Some("path"))
    })
}
