//! Where VirtualServices send: hosts, ports and subsets that are not there, hosts that two of them define, gateways that
//! do not listen for them.
//!
//! The conditions are those of istio's `virtualservice` analyzers.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Check;
use crate::audit::{Found, Scene};
use crate::mesh::effective::for_mesh;
use crate::mesh::hosts::{export_scopes, full_name, overlap};
use crate::mesh::{Kind, Resource};
use crate::model::Severity;
use crate::yaml::Node;

pub(super) const CHECKS: &[Check] = &[
    Check::new("MS0102", Severity::Error, "a route sends to a host that is not known", &["IST0101", "KIA1101"], hosts),
    Check::new("MS0103", Severity::Error, "a route sends to a port that its host does not have", &["IST0101"], ports),
    Check::new(
        "MS0110",
        Severity::Error,
        "a route sends to a subset that is not declared",
        &["IST0101", "KIA1107"],
        subsets,
    ),
    Check::new(
        "MS0201",
        Severity::Error,
        "two VirtualServices of the mesh define one host",
        &["IST0109", "KIA1106"],
        conflicting_hosts,
    ),
    Check::new(
        "MS0202",
        Severity::Warning,
        "a gateway does not listen for a route's hosts",
        &["IST0132"],
        gateway_hosts,
    ),
    Check::new(
        "MS0203",
        Severity::Error,
        "a route names no port of a host that has several",
        &["IST0112"],
        port_needed,
    ),
    Check::new(
        "MS0206",
        Severity::Warning,
        "a split by subset is not seen by what comes in",
        &["IST0140"],
        ingress_subsets,
    ),
    Check::new("MS0207", Severity::Error, "a route by JWT claim where nobody checks tokens", &["IST0149"], claims),
    Check::new("MS0208", Severity::Warning, "a field or type is deprecated", &["IST0002"], deprecated),
    Check::new(
        "MS0214",
        Severity::Warning,
        "a route names a gateway that Istio made for itself",
        &["IST0165"],
        internal_gateways,
    ),
];

/// One place that a route sends to.
struct Sent<'a> {
    field: String,
    destination: Option<&'a Node>,
    mirror: bool,
}

impl<'a> Sent<'a> {
    fn text(&self, key: &str) -> &'a str {
        self.destination.and_then(|node| node.get(key)).and_then(Node::as_str).unwrap_or_default()
    }

    fn port(&self) -> Option<u32> {
        self.destination?.get("port")?.get("number")?.as_str()?.parse().ok()
    }
}

/// All places that a VirtualService sends to: routes of all protocols, and mirrors.
fn sent(route: &Resource) -> Vec<Sent<'_>> {
    let mut all = Vec::new();
    for protocol in ["http", "tls", "tcp"] {
        for (rule, node) in route.list(&format!("spec.{protocol}")).iter().enumerate() {
            let at = format!("spec.{protocol}[{rule}]");
            let list = |key: &str| node.get(key).map(Node::items).unwrap_or_default();
            for (key, mirror) in [("route", false), ("mirrors", true)] {
                for (index, one) in list(key).iter().enumerate() {
                    let field = format!("{at}.{key}[{index}].destination");
                    all.push(Sent { field, destination: one.get("destination"), mirror });
                }
            }
            if let Some(mirror) = node.get("mirror") {
                all.push(Sent { field: format!("{at}.mirror"), destination: Some(mirror), mirror: true });
            }
        }
    }
    all
}

fn hosts(scene: &Scene<'_>, found: &mut Found<'_>) {
    for route in scene.mesh.of_kind(Kind::VirtualService) {
        for one in sent(route) {
            let host = one.text("host");
            if scene.index.hosts.find(host, &route.id.namespace, route.list("spec.exportTo")).is_some() {
                continue;
            }
            let field = format!("{}.host", one.field);
            let what = if one.mirror { "copies of requests are lost" } else { "callers get 503 (NC, no cluster)" };
            let message = match host {
                "" => format!("the destination names no host: {what}"),
                host => {
                    let full = full_name(host, &route.id.namespace, &scene.index.domain);
                    format!(
                        "no Service or ServiceEntry {full} is visible from namespace {}: {what}",
                        route.id.namespace
                    )
                }
            };
            found.at(route, &field, message);
        }
    }
}

fn ports(scene: &Scene<'_>, found: &mut Found<'_>) {
    for route in scene.mesh.of_kind(Kind::VirtualService) {
        for one in sent(route) {
            let target = scene.index.hosts.find(one.text("host"), &route.id.namespace, route.list("spec.exportTo"));
            let (Some(target), Some(port)) = (target, one.port()) else { continue };
            let ports = target.ports();
            if !ports.contains(&port) {
                let id = &target.resource.id;
                let message = format!("{id} has no port {port}, but {ports:?}: callers get 503 (NC, no cluster)");
                found.at(route, &format!("{}.port.number", one.field), message);
            }
        }
    }
}

fn port_needed(scene: &Scene<'_>, found: &mut Found<'_>) {
    for route in scene.mesh.of_kind(Kind::VirtualService) {
        for one in sent(route) {
            let target = scene.index.hosts.find(one.text("host"), &route.id.namespace, route.list("spec.exportTo"));
            let Some(target) = target.filter(|_| one.destination.is_some_and(|node| node.get("port").is_none())) else {
                continue;
            };
            let ports = target.ports();
            if ports.len() > 1 {
                let id = &target.resource.id;
                let message = format!("{id} has the ports {ports:?}: which of them is meant must be said");
                found.at(route, &one.field, message).fix(format!("port:\n  number: {}", ports[0]));
            }
        }
    }
}

/// A subset must be declared by some DestinationRule of the host that the route's namespace can see.
fn subsets(scene: &Scene<'_>, found: &mut Found<'_>) {
    let mut declared: HashMap<(String, &str), Vec<String>> = HashMap::new();
    let mut rules: HashMap<String, &Resource> = HashMap::new();
    for rule in scene.mesh.of_kind(Kind::DestinationRule) {
        let host = full_name(rule.text("spec.host").unwrap_or_default(), &rule.id.namespace, &scene.index.domain);
        let scopes = export_scopes(rule.list("spec.exportTo"), &rule.id.namespace);
        for subset in rule.list("spec.subsets").iter().filter_map(|one| one.get("name")).filter_map(Node::as_str) {
            declared.entry((host.clone(), subset)).or_default().extend(scopes.iter().cloned());
        }
        rules.entry(host).or_insert(rule);
    }
    let mut missing: Vec<(&Resource, String, String, &str)> = Vec::new();
    for route in scene.mesh.of_kind(Kind::VirtualService) {
        for one in sent(route) {
            let Some(subset) =
                one.destination.and_then(|node| node.get("subset")?.as_str()).filter(|name| !name.is_empty())
            else {
                continue;
            };
            let full = full_name(one.text("host"), &route.id.namespace, &scene.index.domain);
            let seen = declared
                .get(&(full.clone(), subset))
                .is_some_and(|scopes| scopes.iter().any(|scope| scope == "*" || *scope == route.id.namespace));
            if !seen {
                missing.push((route, one.field, full, subset));
            }
        }
    }
    let mut of_host: HashMap<&str, BTreeSet<&str>> = HashMap::new();
    for (_, _, host, subset) in &missing {
        of_host.entry(host).or_default().insert(subset);
    }
    for (route, field, host, subset) in &missing {
        let message = format!(
            "no DestinationRule declares the subset {subset} of {host}: what is sent there gets 503 (NC, no cluster)"
        );
        let fix = missing_subsets(scene, (route, host), &of_host[host.as_str()], rules.get(host).copied());
        found.at(route, &format!("{field}.subset"), message).fix(fix);
    }
}

/// The rule with all subsets that routes ask for, so that one mend does not undo another; where there is a rule for the host
/// already, what is to be added to it.
fn missing_subsets(
    scene: &Scene<'_>,
    (route, host): (&Resource, &str),
    names: &BTreeSet<&str>,
    rule: Option<&Resource>,
) -> String {
    let subset = |name: &&str| format!("- name: {name}\n  labels:\n    version: {name} # labels that its pods have");
    let subsets = names.iter().map(subset).collect::<Vec<_>>().join("\n");
    if let Some(rule) = rule {
        return format!(
            "# of {}, beside its others; exported to namespace {}\nsubsets:\n{subsets}",
            rule.id, route.id.namespace
        );
    }
    let home = crate::mesh::hosts::service_of(host, &scene.index.domain);
    let (name, namespace) = home.unwrap_or((host.trim_start_matches("*."), &route.id.namespace));
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata:\n  name: {name}\n  namespace: {namespace}\nspec:\n  \
         host: {host:?}\n  subsets:\n  {}",
        subsets.replace('\n', "\n  ")
    )
}

/// VirtualServices of the mesh by the scope that they are exported to and the full host.
fn conflicting_hosts(scene: &Scene<'_>, found: &mut Found<'_>) {
    let mut defined: BTreeMap<(String, String), Vec<&Resource>> = BTreeMap::new();
    for route in scene.mesh.of_kind(Kind::VirtualService).filter(|route| for_mesh(route)) {
        let scopes: BTreeSet<String> =
            export_scopes(route.list("spec.exportTo"), &route.id.namespace).into_iter().collect();
        let hosts: BTreeSet<String> = host_names(route, scene).collect();
        for scope in scopes {
            for host in &hosts {
                defined.entry((scope.clone(), host.clone())).or_default().push(route);
            }
        }
    }
    for ((scope, host), own) in &defined {
        let everywhere = if scope == "*" { None } else { defined.get(&("*".to_owned(), host.clone())) };
        let all: Vec<&&Resource> = own.iter().chain(everywhere.into_iter().flatten()).collect();
        if all.len() < 2 {
            continue;
        }
        for route in own {
            let field = route.list("spec.hosts").iter().position(|one| {
                one.as_str().is_some_and(|name| full_name(name, &route.id.namespace, &scene.index.domain) == *host)
            });
            let named = all.iter().filter(|other| other.id != route.id).take(5).map(|other| other.id.to_string());
            let others: Vec<String> = named.collect();
            let message = format!(
                "{} also define{} {host} for the sidecars: they are not merged, one of them holds (see MS0901)",
                others.join(", "),
                if others.len() == 1 { "s" } else { "" }
            );
            found.at(route, &format!("spec.hosts[{}]", field.unwrap_or(0)), message);
        }
    }
}

/// The full hosts of a VirtualService.
pub(super) fn host_names<'a>(route: &'a Resource, scene: &'a Scene<'_>) -> impl Iterator<Item = String> + use<'a> {
    let names = route.list("spec.hosts").iter().filter_map(Node::as_str);
    names.map(|host| full_name(host, &route.id.namespace, &scene.index.domain))
}

/// The Gateway that a VirtualService names, by namespace and name.
pub(super) fn gateway_name<'a>(route: &'a Resource, written: &'a str) -> (&'a str, &'a str) {
    written.split_once('/').unwrap_or((&route.id.namespace, written))
}

/// A server's host without its namespace, when routes of `namespace` may use it. Servers write `namespace/host`, where `.`
/// is the gateway's own namespace and `*` any.
pub(super) fn server_host<'a>(written: &'a str, gateway: &Resource, namespace: &str) -> Option<&'a str> {
    match written.split_once('/') {
        None => Some(written),
        Some(("*", host)) => Some(host),
        Some((".", host)) => (gateway.id.namespace == namespace).then_some(host),
        Some((scope, host)) => (scope == namespace).then_some(host),
    }
}

fn gateway_hosts(scene: &Scene<'_>, found: &mut Found<'_>) {
    for route in scene.mesh.of_kind(Kind::VirtualService) {
        let wanted: Vec<&str> = route.list("spec.hosts").iter().filter_map(Node::as_str).collect();
        for (at, written) in route.list("spec.gateways").iter().enumerate() {
            let Some(written) = written.as_str().filter(|name| *name != "mesh") else { continue };
            let (namespace, name) = gateway_name(route, written);
            let gateway = scene.mesh.get(Kind::Gateway, namespace, name);
            let servers = gateway.map(|gateway| gateway.list("spec.servers")).unwrap_or_default();
            let given = servers.iter().flat_map(|server| server.get("hosts").map(Node::items).unwrap_or_default());
            let mut usable = given
                .filter_map(Node::as_str)
                .filter_map(|host| gateway.and_then(|gateway| server_host(host, gateway, &route.id.namespace)));
            if !usable.any(|given| wanted.iter().any(|host| overlap(given, host))) {
                let message = format!(
                    "no server of Gateway {namespace}/{name} listens for {}: what comes in there never meets this route",
                    wanted.join(", ")
                );
                found.at(route, &format!("spec.gateways[{at}]"), message);
            }
        }
    }
}

/// A route of a gateway to a host without a subset, while sidecars split that host by subset: the split of the sidecars
/// does not hold for the gateway.
fn ingress_subsets(scene: &Scene<'_>, found: &mut Found<'_>) {
    let mut split: HashMap<String, BTreeSet<String>> = HashMap::new();
    for route in scene.mesh.of_kind(Kind::VirtualService) {
        let own: BTreeSet<String> = host_names(route, scene).collect();
        for one in sent(route).iter().filter(|one| !one.mirror && !one.text("subset").is_empty()) {
            let host = full_name(one.text("host"), &route.id.namespace, &scene.index.domain);
            if own.contains(&host) && one.field.starts_with("spec.http") {
                split.entry(host).or_default().insert(route.id.to_string());
            }
        }
    }
    for route in scene.mesh.of_kind(Kind::VirtualService).filter(|one| !one.list("spec.gateways").is_empty()) {
        for one in sent(route).iter().filter(|one| !one.mirror && one.field.starts_with("spec.http")) {
            let host = full_name(one.text("host"), &route.id.namespace, &scene.index.domain);
            let Some(others) = split.get(&host).filter(|_| one.text("subset").is_empty()) else { continue };
            for other in others.iter().filter(|other| **other != route.id.to_string()).take(5) {
                let message = format!(
                    "{other} splits {host} by subset for the sidecars only: what comes in here goes to all its pods"
                );
                found.at(route, &one.field, message);
            }
        }
    }
}

/// Claims are only there when a RequestAuthentication holds for the gateway's pods.
fn claims(scene: &Scene<'_>, found: &mut Found<'_>) {
    for route in scene.mesh.of_kind(Kind::VirtualService) {
        let Some((field, key)) = claim(route) else { continue };
        for written in route.list("spec.gateways").iter().filter_map(Node::as_str).filter(|name| *name != "mesh") {
            let (namespace, name) = gateway_name(route, written);
            let Some(gateway) = scene.mesh.get(Kind::Gateway, namespace, name) else { continue };
            for pods in super::gateways::pods(scene, gateway) {
                let checked = |policy: &Resource| {
                    let here =
                        policy.id.namespace == scene.index.root_namespace || policy.id.namespace == pods.namespace;
                    here && crate::mesh::select::selects(&policy.map("spec.selector.matchLabels"), &pods.labels)
                };
                if !scene.mesh.of_kind(Kind::RequestAuthentication).any(checked) {
                    let message = format!(
                        "{key} needs a RequestAuthentication for the pods of {} ({}): without one no claim is known and the match never holds",
                        gateway.id, pods.name
                    );
                    found.at(route, &field, message);
                }
            }
        }
    }
}

fn claim(route: &Resource) -> Option<(String, String)> {
    for (rule, node) in route.list("spec.http").iter().enumerate() {
        for (at, one) in node.get("match").map(Node::items).unwrap_or_default().iter().enumerate() {
            for part in ["headers", "withoutHeaders"] {
                let keys =
                    one.get(part).map(Node::entries).unwrap_or_default().iter().filter_map(|(key, _)| key.as_str());
                if let Some(key) = keys.into_iter().find(|key| key.starts_with("@request.auth.claims")) {
                    return Some((format!("spec.http[{rule}].match[{at}].{part}"), key.to_owned()));
                }
            }
        }
    }
    None
}

fn deprecated(scene: &Scene<'_>, found: &mut Found<'_>) {
    for route in scene.mesh.of_kind(Kind::VirtualService) {
        for rule in 0..route.list("spec.http").len() {
            let field = format!("spec.http[{rule}].fault.delay.percent");
            if let Some(percent) = route.text(&field).filter(|percent| *percent != "0") {
                found
                    .at(
                        route,
                        &field,
                        "fault.delay.percent is deprecated: percentage, which takes fractions, replaces it",
                    )
                    .fix(format!("percentage:\n  value: {percent}"));
            }
        }
    }
    for sidecar in scene.mesh.of_kind(Kind::Sidecar) {
        let field = "spec.outboundTrafficPolicy.egressProxy";
        if sidecar.at(field).is_some() {
            found.at(sidecar, field, "outboundTrafficPolicy.egressProxy is deprecated and has no effect");
        }
    }
    for crd in scene.mesh.of_kind(Kind::CustomResourceDefinition) {
        let kind = crd.text("spec.names.kind").unwrap_or_default();
        let removed = ["ClusterRbacConfig", "RbacConfig", "ServiceRole", "ServiceRoleBinding"].contains(&kind);
        if removed && crd.text("spec.group") == Some("rbac.istio.io") {
            found.at(
                crd,
                "spec.names.kind",
                format!("rbac.istio.io {kind} is gone from Istio: nothing reads such objects"),
            );
        }
    }
}

fn internal_gateways(scene: &Scene<'_>, found: &mut Found<'_>) {
    for route in scene.mesh.of_kind(Kind::VirtualService) {
        for (at, written) in route.list("spec.gateways").iter().enumerate() {
            let Some(written) = written.as_str().filter(|name| name.contains("istio-autogenerated-k8s-gateway")) else {
                continue;
            };
            let message = format!(
                "{written} is made by Istio from a Gateway of the Gateway API: its name may change; use an HTTPRoute"
            );
            found.at(route, &format!("spec.gateways[{at}]"), message);
        }
    }
}
