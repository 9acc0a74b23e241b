//! The least policy for the callers of a workload of Linkerd.
//!
//! Linkerd's policies stand at a Server, a port of some pods: once it has one, only callers that an AuthorizationPolicy names
//! come in (probes of the kubelet still do). So the least policy is a Server for each called port that has none, one
//! MeshTLSAuthentication of the identities that were seen, and an AuthorizationPolicy that joins the two. Linkerd's policy
//! reference: <https://linkerd.io/2/reference/authorization-policy/>.

use std::collections::BTreeSet;

use super::{Callers, chosen};
use crate::audit::{Found, Scene};
use crate::mesh::select::{Labels, Workload, label_selector};
use crate::mesh::{Kind, Resource};
use crate::model::workload::MeshKind;
use crate::yaml::Node;

pub(super) fn least(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed.filter(|one| one.covered) else { return };
    for ((namespace, workload), ports) in &observed.ports {
        let Some(declared) = scene.workload(namespace, workload) else { continue };
        let servers = servers(scene, namespace, &declared.labels);
        let Some(selected) = chosen(&declared.labels).filter(|_| !is_governed(scene, namespace, &servers)) else {
            continue;
        };
        let Some(callers) = Callers::of(observed, (namespace, workload), MeshKind::Linkerd) else { continue };
        let fix = written(&servers, (namespace, declared), (ports, selected), &callers.known);
        callers.tell(found, declared.resource, (namespace, workload)).fix(fix);
    }
}

/// The Servers that choose a workload.
fn servers<'a>(scene: &Scene<'a>, namespace: &str, labels: &Labels) -> Vec<&'a Resource> {
    let near = scene.mesh.of_kind(Kind::LinkerdServer).filter(|one| one.id.namespace == namespace);
    near.filter(|one| one.at("spec.podSelector").is_some_and(|node| label_selector(Some(node), labels))).collect()
}

/// Whether somebody's policy already says who may call what these Servers stand for, or all of the namespace.
fn is_governed(scene: &Scene<'_>, namespace: &str, servers: &[&Resource]) -> bool {
    let is_server = |name: &str| servers.iter().any(|one| one.id.name == name);
    let of_route = |name: &str| {
        let kinds = [Kind::LinkerdHttpRoute, Kind::HttpRoute, Kind::GrpcRoute];
        let mut routes = kinds.iter().filter_map(|kind| scene.mesh.get(*kind, namespace, name));
        routes.any(|route| {
            let parents = route.list("spec.parentRefs").iter().filter_map(|one| one.get("name"));
            parents.filter_map(Node::as_str).any(is_server)
        })
    };
    let policies = scene.mesh.of_kind(Kind::LinkerdAuthorizationPolicy).filter(|one| one.id.namespace == namespace);
    let mut targets = policies.filter_map(|one| one.text("spec.targetRef.kind").zip(one.text("spec.targetRef.name")));
    let older = scene.mesh.of_kind(Kind::LinkerdServerAuthorization).filter(|one| one.id.namespace == namespace);
    let mut older = older.map(|one| match one.text("spec.server.name") {
        Some(name) => is_server(name),
        None => {
            let selector = one.at("spec.server.selector");
            servers.iter().any(|server| label_selector(selector, &server.labels))
        }
    });
    older.any(|holds| holds)
        || targets.any(|(kind, name)| match kind {
            "Namespace" => true,
            "Server" => is_server(name),
            _ => of_route(name),
        })
}

/// The policy as YAML.
fn written(
    servers: &[&Resource],
    (namespace, declared): (&str, &Workload<'_>),
    (ports, (key, value)): (&BTreeSet<u16>, (&String, &String)),
    known: &BTreeSet<&str>,
) -> String {
    let workload = &declared.resource.id.name;
    let head = |version: &str, kind: &str, name: &str| {
        format!(
            "apiVersion: policy.linkerd.io/{version}\nkind: {kind}\nmetadata:\n  name: {name}\n  namespace: {namespace}\n\
             spec:\n"
        )
    };
    let identities: Vec<String> = known.iter().map(|one| format!("  - {one}")).collect();
    let callers = head("v1alpha1", "MeshTLSAuthentication", &format!("{workload}-callers"));
    let mut documents = vec![format!("{callers}  identities:\n{}", identities.join("\n"))];
    for port in ports {
        let text = port.to_string();
        // Servers may name a port as the containers do; proxies tell its number.
        let is_own = |at: &str| at == text || declared.port_named(at) == Some(*port);
        let own = servers.iter().find(|one| one.text("spec.port").is_some_and(is_own));
        let name = own.map_or_else(|| format!("{workload}-{port}"), |one| one.id.name.clone());
        if own.is_none() {
            let server = head("v1beta3", "Server", &name);
            documents.push(format!("{server}  podSelector:\n    matchLabels:\n      {key}: {value}\n  port: {port}"));
        }
        let policy = head("v1alpha1", "AuthorizationPolicy", &name);
        documents.push(format!(
            "{policy}  targetRef:\n    group: policy.linkerd.io\n    kind: Server\n    name: {name}\n  \
             requiredAuthenticationRefs:\n  - group: policy.linkerd.io\n    kind: MeshTLSAuthentication\n    name: \
             {workload}-callers"
        ));
    }
    documents.join("\n---\n")
}
