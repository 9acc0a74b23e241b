//! What several checks ask of the declared objects: workloads, services, namespaces, hosts, the mesh configuration.

use std::collections::{BTreeMap, BTreeSet};

use crate::audit::Scene;
use crate::mesh::select::selects;
use crate::mesh::{Kind, Resource};
use crate::yaml::Node;

/// Kinds that run workloads, and where the labels of their pods stand.
const RUNNERS: [(Kind, &str); 5] = [
    (Kind::Deployment, "spec.template"),
    (Kind::StatefulSet, "spec.template"),
    (Kind::DaemonSet, "spec.template"),
    (Kind::Rollout, "spec.template"),
    (Kind::Pod, ""),
];

/// Something that policies select.
pub(super) struct Workload<'a> {
    pub resource: &'a Resource,
    pub labels: BTreeMap<String, String>,
    pub account: String,
    /// Where its pod's spec begins: `spec.template.spec`, `spec`.
    pub pod: &'static str,
}

fn path(prefix: &str, rest: &str) -> String {
    if prefix.is_empty() { rest.to_owned() } else { format!("{prefix}.{rest}") }
}

/// All workloads; pods that a controller made are those of the controller.
pub(super) fn workloads<'a>(scene: &Scene<'a>) -> Vec<Workload<'a>> {
    let mut all = Vec::new();
    for (kind, template) in RUNNERS {
        let own = |one: &&Resource| kind != Kind::Pod || one.list("metadata.ownerReferences").is_empty();
        all.extend(scene.mesh.of_kind(kind).filter(own).map(|resource| Workload {
            resource,
            labels: resource.map(&path(template, "metadata.labels")),
            account: resource.text(&path(template, "spec.serviceAccountName")).unwrap_or("default").to_owned(),
            pod: if template.is_empty() { "spec" } else { "spec.template.spec" },
        }));
    }
    all.extend(scene.mesh.of_kind(Kind::WorkloadEntry).map(|resource| Workload {
        resource,
        labels: resource.map("spec.labels"),
        account: resource.text("spec.serviceAccount").unwrap_or("default").to_owned(),
        pod: "",
    }));
    all
}

/// The selector of a policy; none: it holds for its whole namespace.
pub(super) fn selector(resource: &Resource) -> Option<BTreeMap<String, String>> {
    Some(resource.map("spec.selector.matchLabels")).filter(|labels| !labels.is_empty())
}

/// Whether a policy holds for a workload: that of the root namespace holds everywhere.
pub(super) fn holds_for(scene: &Scene<'_>, policy: &Resource, workload: &Workload<'_>) -> bool {
    let place = &policy.id.namespace;
    let near = *place == workload.resource.id.namespace || *place == scene.options.root_namespace;
    near && policy.list("spec.targetRefs").is_empty()
        && selector(policy).is_none_or(|own| selects(&own, &workload.labels))
}

/// The namespaces there are; none when no Namespace is declared, so that nothing can be said of a missing one.
pub(super) fn namespaces(scene: &Scene<'_>) -> Option<BTreeSet<String>> {
    scene.mesh.of_kind(Kind::Namespace).next()?;
    let declared = scene.mesh.of_kind(Kind::Namespace).map(|one| one.id.name.clone());
    let used = scene.mesh.iter().map(|one| one.id.namespace.clone());
    Some(declared.chain(used).chain([scene.options.root_namespace.clone()]).filter(|name| !name.is_empty()).collect())
}

/// Whether sidecars use mutual TLS by themselves where they can (`enableAutoMtls`, on unless said otherwise).
pub(super) fn auto_mtls(scene: &Scene<'_>) -> bool {
    scene.index.mesh_setting(&["enableAutoMtls"]).and_then(Node::as_str).is_none_or(|written| written != "false")
}

/// The trust domain and its aliases.
pub(super) fn trust_domains(scene: &Scene<'_>) -> Vec<String> {
    let own = scene.index.trust_domain().to_owned();
    let aliases = scene.index.mesh_setting(&["trustDomainAliases"]).map(Node::items).unwrap_or_default();
    [own].into_iter().chain(aliases.iter().filter_map(|one| one.as_str().map(str::to_owned))).collect()
}

/// The namespace and name of the service that a host names from a namespace.
pub(super) fn service_of<'h>(scene: &Scene<'_>, host: &'h str, namespace: &'h str) -> Option<(&'h str, &'h str)> {
    let bare = host.strip_suffix(scene.options.cluster_domain.as_str()).map_or(host, |rest| rest.trim_end_matches('.'));
    let bare = bare.strip_suffix(".svc").unwrap_or(bare);
    match bare.split_once('.') {
        None => Some((namespace, bare)),
        Some((name, other)) if !other.contains('.') => Some((other, name)),
        Some(_) => None,
    }
}

/// The declared service that a host names.
pub(super) fn service<'a>(scene: &Scene<'a>, host: &str, namespace: &str) -> Option<&'a Resource> {
    let (namespace, name) = service_of(scene, host, namespace)?;
    scene.mesh.get(Kind::Service, namespace, name)
}

/// Whether a name is that of a pattern, which may begin with `*.`.
pub(super) fn covers(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(end) => host.ends_with(end),
        None => pattern == host,
    }
}

/// Whether a host is that of a service or a service entry.
pub(super) fn registered(scene: &Scene<'_>, host: &str, namespace: &str) -> bool {
    let entries = || scene.mesh.of_kind(Kind::ServiceEntry).flat_map(|entry| entry.list("spec.hosts"));
    service(scene, host, namespace).is_some()
        || entries().filter_map(Node::as_str).any(|pattern| covers(pattern, host) || covers(host, pattern))
}

/// The texts of a list of a node.
pub(super) fn texts<'n>(node: &'n Node, name: &str) -> impl Iterator<Item = (usize, &'n str)> {
    let items = node.get(name).map(Node::items).unwrap_or_default();
    items.iter().enumerate().filter_map(|(at, item)| Some((at, item.as_str()?)))
}

/// The items of a list of a node.
pub(super) fn items<'n>(node: &'n Node, name: &str) -> &'n [Node] {
    node.get(name).map(Node::items).unwrap_or_default()
}

/// The text of a field of a node; none when it is missing or empty.
pub(super) fn word<'n>(node: &'n Node, name: &str) -> Option<&'n str> {
    node.get(name).and_then(Node::as_str).filter(|text| !text.is_empty())
}
