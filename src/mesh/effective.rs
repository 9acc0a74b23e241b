//! What holds for a workload and for an edge, and from which object: istiod's precedence.
//!
//! In: an [`Index`]. Out: [`WorkloadPolicy`], [`EdgePolicy`]. Of two objects that contend, the older one wins, in whole
//! seconds; then the one whose name sorts first, then its namespace (istio `configCompareByCreationTime`). Objects that no
//! cluster has made yet are younger than all others. Pure.

mod applied;

use std::collections::BTreeSet;

pub use applied::{Applied, applied_to_edge, applied_to_workload};

use super::hosts::{export_scopes, full_name, overlap, service_of};
use super::index::Index;
use super::kind::Kind;
use super::resource::{Resource, ResourceId};
use super::select::{Labels, selects};
use crate::yaml::Node;

/// What decides between two objects; the smaller one wins.
pub fn rank(resource: &Resource) -> (i64, &str, &str) {
    let second = resource.created.map_or(i64::MAX, |at| at.as_millis().div_euclid(1000));
    (second, &resource.id.name, &resource.id.namespace)
}

/// Why the first of two objects wins over the second.
pub fn reason(winner: &Resource, loser: &Resource) -> &'static str {
    if rank(winner).0 != rank(loser).0 { "it is older" } else { "made in the same second, its name sorts first" }
}

/// Objects with the one that wins first.
pub fn in_order<'a>(resources: impl IntoIterator<Item = &'a Resource>) -> Vec<&'a Resource> {
    let mut all: Vec<&Resource> = resources.into_iter().collect();
    all.sort_by(|a, b| rank(a).cmp(&rank(b)));
    all
}

/// The labels that an object selects workloads by; empty: it holds for all.
pub fn selector(resource: &Resource) -> Labels {
    match resource.id.kind {
        Kind::Sidecar | Kind::EnvoyFilter => resource.map("spec.workloadSelector.labels"),
        Kind::DestinationRule => resource.map("spec.workloadSelector.matchLabels"),
        _ => resource.map("spec.selector.matchLabels"),
    }
}

/// Whether an object is bound to Gateways or Services instead of workloads.
pub fn targeted(resource: &Resource) -> bool {
    resource.at("spec.targetRef").is_some() || !resource.list("spec.targetRefs").is_empty()
}

/// A setting and the object it comes from; none: Istio's default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// The value.
    pub value: String,
    /// `PeerAuthentication shop/default`.
    pub from: Option<ResourceId>,
}

/// What holds for a workload.
#[derive(Clone, Debug, Default)]
pub struct WorkloadPolicy<'a> {
    /// How strictly it asks for mTLS.
    pub mtls: Option<Set>,
    /// Ports that ask for it differently.
    pub mtls_ports: Vec<(u32, Set)>,
    /// Authorization policies in the order in which they are asked: CUSTOM, DENY, ALLOW, and AUDIT, which decides nothing.
    pub authorization: Vec<(&'static str, &'a Resource)>,
    /// Request authentications; all of them hold.
    pub tokens: Vec<&'a Resource>,
    /// Telemetries from the widest to the narrowest; each field is that of the last that sets it.
    pub telemetry: Vec<&'a Resource>,
    /// Proxy configurations, as Telemetries.
    pub proxy: Vec<&'a Resource>,
    /// What it may send to.
    pub sidecar: Option<&'a Resource>,
}

/// The one of a kind that holds at each level: the root namespace, the namespace, the workload itself.
fn levels<'a>(index: &Index<'a>, kind: Kind, namespace: &str, labels: &Labels) -> [Option<&'a Resource>; 3] {
    let all = in_order(index.mesh.of_kind(kind).filter(|one| !targeted(one)));
    let first = |fits: &dyn Fn(&Resource) -> bool| all.iter().copied().find(|one| fits(one));
    let wide = |one: &Resource, place: &str| one.id.namespace == place && selector(one).is_empty();
    let root = index.root_namespace.as_str();
    [
        first(&|one| wide(one, root)),
        first(&|one| root != namespace && wide(one, namespace)),
        first(&|one| {
            let chosen = selector(one);
            one.id.namespace == namespace && !chosen.is_empty() && selects(&chosen, labels)
        }),
    ]
}

/// What holds for a workload with these labels in a namespace.
pub fn of_workload<'a>(index: &Index<'a>, namespace: &str, labels: &Labels) -> WorkloadPolicy<'a> {
    let peers = levels(index, Kind::PeerAuthentication, namespace, labels);
    let [wide, own, sidecar] = levels(index, Kind::Sidecar, namespace, labels);
    let chain = |kind| levels(index, kind, namespace, labels).into_iter().flatten().collect();
    let holds = |one: &&Resource| {
        let here = one.id.namespace == namespace || one.id.namespace == index.root_namespace;
        here && !targeted(one) && selects(&selector(one), labels)
    };
    let policies = in_order(index.mesh.of_kind(Kind::AuthorizationPolicy).filter(holds));
    let authorization = ["CUSTOM", "DENY", "ALLOW", "AUDIT"].into_iter().flat_map(|action| {
        let of_action = policies.iter().filter(move |one| one.text("spec.action").unwrap_or("ALLOW") == action);
        of_action.map(move |one| (action, *one))
    });
    WorkloadPolicy {
        mtls: Some(mtls(&peers)),
        mtls_ports: mtls_ports(peers[2]),
        authorization: authorization.collect(),
        tokens: in_order(index.mesh.of_kind(Kind::RequestAuthentication).filter(holds)),
        telemetry: chain(Kind::Telemetry),
        proxy: chain(Kind::ProxyConfig),
        sidecar: sidecar.or(own).or(wide),
    }
}

/// The mode is that of the narrowest level that sets one; `UNSET` asks the level above.
fn mtls(levels: &[Option<&Resource>; 3]) -> Set {
    let set = levels.iter().rev().flatten().find_map(|one| {
        let mode = one.text("spec.mtls.mode").filter(|mode| *mode != "UNSET")?;
        Some(Set { value: mode.to_owned(), from: Some(one.id.clone()) })
    });
    set.unwrap_or(Set { value: "PERMISSIVE".to_owned(), from: None })
}

fn mtls_ports(own: Option<&Resource>) -> Vec<(u32, Set)> {
    let Some(own) = own else { return Vec::new() };
    let ports = own.at("spec.portLevelMtls").map(Node::entries).unwrap_or_default().iter();
    let port = |(port, node): &(Node, Node)| {
        let mode = node.get("mode")?.as_str().filter(|mode| *mode != "UNSET")?;
        Some((port.as_str()?.parse().ok()?, Set { value: mode.to_owned(), from: Some(own.id.clone()) }))
    };
    let mut all: Vec<(u32, Set)> = ports.filter_map(port).collect();
    all.sort_by_key(|(port, _)| *port);
    all
}

/// What holds when workloads of a namespace call a host.
#[derive(Clone, Debug, Default)]
pub struct EdgePolicy<'a> {
    /// The full host.
    pub host: String,
    /// The VirtualService that steers the calls.
    pub route: Option<&'a Resource>,
    /// VirtualServices for the same host that do nothing here.
    pub routes_lost: Vec<&'a Resource>,
    /// The DestinationRules that are joined, the oldest first.
    pub destination: Vec<&'a Resource>,
    /// The one whose trafficPolicy holds.
    pub traffic_policy: Option<&'a Resource>,
    /// Subsets, and the rule each comes from.
    pub subsets: Vec<(String, &'a Resource)>,
}

/// How near a VirtualService is to a namespace: istiod asks those that are exported to their own namespace only, then
/// those that name it, then those for all; none: it is not exported there.
fn nearness(route: &Resource, namespace: &str) -> Option<u8> {
    let scopes = export_scopes(route.list("spec.exportTo"), &route.id.namespace);
    let own = scopes.len() == 1 && scopes[0] == route.id.namespace;
    let named = scopes.iter().any(|scope| scope == namespace);
    let all = scopes.iter().any(|scope| scope == "*");
    if own && route.id.namespace == namespace {
        return Some(0);
    }
    if named {
        return Some(1);
    }
    all.then_some(2)
}

/// VirtualServices in the order in which the sidecars of a namespace ask them; those that are not exported are left out.
pub fn routes_in_order<'a>(routes: impl IntoIterator<Item = &'a Resource>, namespace: &str) -> Vec<&'a Resource> {
    let mut near: Vec<(u8, &Resource)> =
        routes.into_iter().filter_map(|one| Some((nearness(one, namespace)?, one))).collect();
    near.sort_by(|(a, one), (b, other)| (a, rank(one)).cmp(&(b, rank(other))));
    near.into_iter().map(|(_, one)| one).collect()
}

/// Whether a VirtualService steers sidecars, and not gateways alone.
pub fn for_mesh(route: &Resource) -> bool {
    let gateways = route.list("spec.gateways");
    gateways.is_empty() || gateways.iter().any(|one| one.as_str() == Some("mesh"))
}

/// The full host that a field names.
fn named(resource: &Resource, host: &str, domain: &str) -> String {
    full_name(host, &resource.id.namespace, domain)
}

/// What holds when workloads with `labels` of a namespace call `host`.
///
/// The calls of an ambient workload to a service behind a waypoint are made by the waypoint: what its namespace declares
/// holds, and nothing that selects callers.
pub fn of_edge<'a>(index: &Index<'a>, namespace: &str, labels: &Labels, host: &str) -> EdgePolicy<'a> {
    let host = full_name(host, namespace, &index.domain);
    let target = index.hosts.find(&host, namespace, &[]).map(|one| one.resource);
    let waypoint = target.filter(|_| index.in_ambient(namespace, labels)).and_then(|one| index.waypoint(one));
    let nobody = Labels::new();
    let (namespace, labels) = waypoint.map_or((namespace, labels), |(own, _)| (own, &nobody));
    let exact = |route: &&Resource| {
        for_mesh(route)
            && route
                .list("spec.hosts")
                .iter()
                .filter_map(Node::as_str)
                .any(|one| named(route, one, &index.domain) == host)
    };
    let covering = |route: &&Resource| {
        let hosts = route.list("spec.hosts").iter().filter_map(Node::as_str);
        for_mesh(route) && hosts.filter(|one| one.starts_with('*')).any(|one| overlap(one, &host))
    };
    let mut routes = routes_in_order(index.mesh.of_kind(Kind::VirtualService).filter(exact), namespace);
    if routes.is_empty() {
        routes = routes_in_order(index.mesh.of_kind(Kind::VirtualService).filter(covering), namespace);
    }
    let destination = destination(index, namespace, labels, &host);
    let mut subsets: Vec<(String, &Resource)> = Vec::new();
    let mut known = BTreeSet::new();
    for rule in &destination {
        for name in rule.list("spec.subsets").iter().filter_map(|one| one.get("name")).filter_map(Node::as_str) {
            if known.insert(name) {
                subsets.push((name.to_owned(), rule));
            }
        }
    }
    EdgePolicy {
        route: routes.first().copied(),
        routes_lost: routes.into_iter().skip(1).collect(),
        traffic_policy: destination.iter().copied().find(|one| one.at("spec.trafficPolicy").is_some()),
        destination,
        subsets,
        host,
    }
}

/// The rules for a host: those of the caller's namespace; if there are none those of the service's; then the root's. Rules
/// of one namespace are joined; a rule for the very host leaves those for wildcards out, and one that selects the caller
/// those that select nobody.
fn destination<'a>(index: &Index<'a>, namespace: &str, labels: &Labels, host: &str) -> Vec<&'a Resource> {
    let root = index.root_namespace.as_str();
    let home = service_of(host, &index.domain).map(|(_, namespace)| namespace);
    let home = home.or_else(|| index.hosts.find(host, namespace, &[]).map(|one| one.resource.id.namespace.as_str()));
    let exported = |rule: &Resource| {
        let scopes = export_scopes(rule.list("spec.exportTo"), &rule.id.namespace);
        scopes.iter().any(|scope| scope == "*" || scope == namespace)
    };
    let own = (namespace != root).then_some(namespace);
    for place in [own, home, Some(root)].into_iter().flatten() {
        let here =
            index.mesh.of_kind(Kind::DestinationRule).filter(|rule| rule.id.namespace == place && exported(rule));
        let fitting = here.filter(|rule| {
            let chosen = selector(rule);
            chosen.is_empty() || (place == namespace && selects(&chosen, labels))
        });
        let hosts: Vec<(String, &Resource)> = fitting
            .map(|rule| (named(rule, rule.text("spec.host").unwrap_or_default(), &index.domain), rule))
            .collect();
        let nearest = hosts.iter().map(|(name, _)| name.as_str()).filter(|name| overlap(name, host));
        let Some(nearest) = nearest.max_by_key(|name| (*name == host, name.len())) else { continue };
        let same = in_order(hosts.iter().filter(|(name, _)| name == nearest).map(|(_, rule)| *rule));
        let selecting: Vec<&Resource> = same.iter().copied().filter(|rule| !selector(rule).is_empty()).collect();
        return if selecting.is_empty() { same } else { selecting };
    }
    Vec::new()
}

#[cfg(test)]
mod tests;
