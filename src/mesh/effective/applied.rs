//! What holds, as rows for people and programs: each setting, its value, and the object it comes from.
//!
//! In: an [`Index`], a workload or an edge. Out: [`Applied`] rows in a fixed order. Beside Istio's objects those of Gateway
//! API and Linkerd are named that hold for the same. Pure.

use super::{EdgePolicy, WorkloadPolicy, of_edge, of_workload};
use crate::mesh::hosts::service_of;
use crate::mesh::select::{Labels, selects};
use crate::mesh::{Index, Kind, Resource, ResourceId};
use crate::yaml::Node;

/// One setting that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// What is set: `mutual TLS`, `route`.
    pub setting: String,
    /// To what.
    pub value: String,
    /// By which object; none: it is the mesh's default.
    pub from: Option<ResourceId>,
    /// Whether the object does nothing here, because another one holds.
    pub is_lost: bool,
}

fn row(setting: impl Into<String>, value: impl Into<String>, from: &Resource) -> Applied {
    Applied { setting: setting.into(), value: value.into(), from: Some(from.id.clone()), is_lost: false }
}

/// The keys of a mapping, `connectionPool, outlierDetection`.
fn keys(node: Option<&Node>) -> String {
    let keys = node.map(Node::entries).unwrap_or_default().iter().filter_map(|(key, _)| key.as_str());
    keys.collect::<Vec<_>>().join(", ")
}

/// The keys below `spec`, but what says whom it is for.
fn fields(resource: &Resource) -> String {
    const WHOM: [&str; 5] = ["selector", "workloadSelector", "targetRef", "targetRefs", "podSelector"];
    let spec = resource.at("spec").map(Node::entries).unwrap_or_default().iter();
    let keys = spec.filter_map(|(key, _)| key.as_str()).filter(|key| !WHOM.contains(key));
    keys.collect::<Vec<_>>().join(", ")
}

fn rules(policy: &Resource) -> String {
    match policy.list("spec.rules").len() {
        0 => "no rule".to_owned(),
        1 => "1 rule".to_owned(),
        more => format!("{more} rules"),
    }
}

/// What holds for a workload with these labels in a namespace.
pub fn applied_to_workload(index: &Index<'_>, namespace: &str, labels: &Labels) -> Vec<Applied> {
    let WorkloadPolicy { mtls, mtls_ports, authorization, tokens, telemetry, proxy, sidecar } =
        of_workload(index, namespace, labels);
    let mut all = Vec::new();
    let modes = mtls.into_iter().map(|set| ("mutual TLS".to_owned(), set));
    let ports = mtls_ports.into_iter().map(|(port, set)| (format!("mutual TLS on port {port}"), set));
    all.extend(modes.chain(ports).map(|(setting, set)| Applied {
        setting,
        from: set.from,
        value: set.value,
        is_lost: false,
    }));
    all.extend(
        authorization.iter().map(|(action, policy)| row(format!("authorization {action}"), rules(policy), policy)),
    );
    all.extend(tokens.iter().map(|one| row("tokens", issuers(one), one)));
    all.extend(telemetry.iter().map(|one| row("telemetry", fields(one), one)));
    all.extend(proxy.iter().map(|one| row("proxy", fields(one), one)));
    all.extend(sidecar.iter().map(|one| row("sidecar", fields(one), one)));
    for kind in [Kind::EnvoyFilter, Kind::WasmPlugin] {
        let own = index.mesh.of_kind(kind).filter(|one| {
            let here = one.id.namespace == namespace || one.id.namespace == index.root_namespace;
            here && !super::targeted(one) && selects(&super::selector(one), labels)
        });
        all.extend(own.map(|one| row("proxy extension", fields(one), one)));
    }
    linkerd(index, namespace, labels, &mut all);
    all
}

fn issuers(tokens: &Resource) -> String {
    let issuers = tokens.list("spec.jwtRules").iter().filter_map(|one| one.get("issuer")).filter_map(Node::as_str);
    issuers.collect::<Vec<_>>().join(", ")
}

/// Servers of Linkerd that select the workload, and who may call them.
fn linkerd(index: &Index<'_>, namespace: &str, labels: &Labels, all: &mut Vec<Applied>) {
    let servers = index.mesh.of_kind(Kind::LinkerdServer).filter(|one| one.id.namespace == namespace);
    for server in servers.filter(|one| selects(&one.map("spec.podSelector.matchLabels"), labels)) {
        let port = server.text("spec.port").unwrap_or("?");
        all.push(row("server", format!("port {port}"), server));
        let policies = index.mesh.of_kind(Kind::LinkerdAuthorizationPolicy);
        let own = policies
            .filter(|one| one.id.namespace == namespace && one.text("spec.targetRef.name") == Some(&server.id.name));
        all.extend(own.map(|one| {
            let asks = one.list("spec.requiredAuthenticationRefs").iter();
            let asks: Vec<&str> = asks.filter_map(|node| node.get("name")).filter_map(Node::as_str).collect();
            let value = if asks.is_empty() { "everybody".to_owned() } else { asks.join(", ") };
            row(format!("authorization of port {port}"), value, one)
        }));
        let older = index.mesh.of_kind(Kind::LinkerdServerAuthorization);
        let own =
            older.filter(|one| one.id.namespace == namespace && one.text("spec.server.name") == Some(&server.id.name));
        all.extend(own.map(|one| row(format!("authorization of port {port}"), keys(one.at("spec.client")), one)));
    }
}

/// What holds when workloads with these labels of a namespace call a host.
pub fn applied_to_edge(index: &Index<'_>, namespace: &str, labels: &Labels, host: &str) -> Vec<Applied> {
    let EdgePolicy { host, route, routes_lost, destination, traffic_policy, subsets } =
        of_edge(index, namespace, labels, host);
    let mut all = Vec::new();
    let routed = |route: &Resource| match route.list("spec.http").len() {
        0 => fields(route),
        1 => "1 rule for HTTP".to_owned(),
        more => format!("{more} rules for HTTP"),
    };
    all.extend(route.into_iter().map(|one| row("route", routed(one), one)));
    all.extend(routes_lost.iter().map(|one| Applied { is_lost: true, ..row("route", routed(one), one) }));
    all.extend(api_routes(index, &host));
    all.extend(traffic_policy.iter().map(|one| row("traffic policy", keys(one.at("spec.trafficPolicy")), one)));
    let lost = destination
        .iter()
        .filter(|one| one.at("spec.trafficPolicy").is_some() && traffic_policy.is_none_or(|holds| holds.id != one.id));
    all.extend(
        lost.map(|one| Applied { is_lost: true, ..row("traffic policy", keys(one.at("spec.trafficPolicy")), one) }),
    );
    for rule in &destination {
        let own = subsets.iter().filter(|(_, from)| from.id == rule.id).map(|(name, _)| name.as_str());
        let names: Vec<&str> = own.collect();
        if !names.is_empty() {
            all.push(row("subsets", names.join(", "), rule));
        }
    }
    if let Some((service, place)) = service_of(&host, &index.domain) {
        let profile = index.mesh.of_kind(Kind::ServiceProfile).find(|one| one.id.name == host);
        all.extend(profile.map(|one| row("profile", rules_of_profile(one), one)));
        let entry = index.mesh.get(Kind::Service, place, service);
        all.extend(entry.map(|one| row("service", ports(one), one)));
    }
    all
}

/// Routes of Gateway API whose parent is the service.
fn api_routes(index: &Index<'_>, host: &str) -> Vec<Applied> {
    let Some((service, place)) = service_of(host, &index.domain) else { return Vec::new() };
    let is_parent = |route: &Resource, node: &Node| {
        let text = |key: &str| node.get(key).and_then(Node::as_str);
        text("kind") == Some("Service")
            && text("name") == Some(service)
            && text("namespace").unwrap_or(&route.id.namespace) == place
    };
    let kinds = [Kind::HttpRoute, Kind::GrpcRoute, Kind::TcpRoute, Kind::LinkerdHttpRoute];
    let routes = kinds.into_iter().flat_map(|kind| index.mesh.of_kind(kind));
    let own = routes.filter(|route| route.list("spec.parentRefs").iter().any(|node| is_parent(route, node)));
    own.map(|route| row("route", rules(route), route)).collect()
}

fn rules_of_profile(profile: &Resource) -> String {
    format!("{} routes", profile.list("spec.routes").len())
}

fn ports(service: &Resource) -> String {
    let ports = service.list("spec.ports").iter().filter_map(|one| one.get("port")).filter_map(Node::as_str);
    let ports: Vec<&str> = ports.collect();
    if ports.is_empty() { "no port".to_owned() } else { format!("ports {}", ports.join(", ")) }
}
