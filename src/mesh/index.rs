//! What many checks ask of a snapshot, found without walking it: workloads by label, services of a workload, hosts, the
//! mesh's own configuration.
//!
//! In: a [`Snapshot`]. Out: an [`Index`]. Invariant: a selector is tried only on workloads that have one of its labels.

use std::collections::{BTreeMap, HashMap};

use super::generated::{Generated, generated};
use super::hosts::Registry;
use super::kind::Kind;
use super::resource::Resource;
use super::select::{Labels, WORKLOAD_KINDS, Workload, label_selector, selects};
use super::snapshot::Snapshot;
use crate::yaml::{self, Node, Value};

/// Labels that a pod has from the node it runs on.
const TOPOLOGY: [&str; 3] =
    ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];

/// Names the waypoint of a namespace or service.
const USE_WAYPOINT: &str = "istio.io/use-waypoint";

/// A snapshot with what is asked of it often.
#[derive(Debug)]
pub struct Index<'a> {
    /// The objects.
    pub mesh: &'a Snapshot,
    /// Namespace of the control plane.
    pub root_namespace: String,
    /// Domain of the cluster's services.
    pub domain: String,
    /// Who answers to a host.
    pub hosts: Registry<'a>,
    /// All that runs, by kind and place.
    pub workloads: Vec<Workload<'a>>,
    /// Pods that no object declares.
    pub generated: Vec<Generated<'a>>,
    /// `mesh` of the ConfigMap `istio`, and the ConfigMap; none: not among the objects.
    pub mesh_config: Option<(&'a Resource, Node)>,
    /// `meshNetworks` of the ConfigMap `istio`, and the ConfigMap.
    pub mesh_networks: Option<(&'a Resource, Node)>,
    by_label: HashMap<(&'a str, String, String), Vec<usize>>,
    by_namespace: BTreeMap<&'a str, Vec<usize>>,
    services: HashMap<(&'a str, String, String), Vec<&'a Resource>>,
}

impl<'a> Index<'a> {
    /// Indexes a snapshot. The root namespace and domain that the mesh's configuration names hold over those given.
    pub fn new(mesh: &'a Snapshot, root_namespace: &str, domain: &str) -> Self {
        let mesh_config = config(mesh, root_namespace, "mesh");
        let set = |key: &str, given: &str| {
            let written = mesh_config.as_ref().and_then(|(_, node)| node.get(key)).and_then(Node::as_str);
            written.filter(|text| !text.is_empty()).unwrap_or(given).to_owned()
        };
        let domain = set("clusterDomain", domain);
        let mut all = Self {
            mesh,
            root_namespace: set("rootNamespace", root_namespace),
            hosts: Registry::new(mesh, &domain),
            domain,
            workloads: workloads(mesh),
            generated: generated(mesh).collect(),
            mesh_networks: config(mesh, root_namespace, "meshNetworks"),
            mesh_config,
            by_label: HashMap::new(),
            by_namespace: BTreeMap::new(),
            services: HashMap::new(),
        };
        for (at, workload) in all.workloads.iter().enumerate() {
            let namespace = workload.resource.id.namespace.as_str();
            all.by_namespace.entry(namespace).or_default().push(at);
            for (key, value) in &workload.labels {
                all.by_label.entry((namespace, key.clone(), value.clone())).or_default().push(at);
            }
        }
        for service in mesh.of_kind(Kind::Service) {
            if let Some((key, value)) = service.map("spec.selector").pop_first() {
                all.services.entry((&service.id.namespace, key, value)).or_default().push(service);
            }
        }
        all
    }

    /// The value at a path of keys of the mesh's configuration; none when it is not known or not set.
    pub fn mesh_setting(&self, path: &[&str]) -> Option<&Node> {
        let (_, node) = self.mesh_config.as_ref()?;
        path.iter().try_fold(node, |node, key| node.get(key))
    }

    /// The trust domain of the mesh.
    pub fn trust_domain(&self) -> &str {
        self.mesh_setting(&["trustDomain"]).and_then(Node::as_str).unwrap_or("cluster.local")
    }

    /// Workloads of a namespace.
    pub fn in_namespace<'s>(&'s self, namespace: &str) -> impl Iterator<Item = &'s Workload<'a>> + use<'a, 's> {
        self.by_namespace.get(namespace).into_iter().flatten().map(|&at| &self.workloads[at])
    }

    /// The workload of a name, as metrics write it: what makes pods before a pod of that name.
    pub fn workload<'s>(&'s self, namespace: &str, name: &str) -> Option<&'s Workload<'a>> {
        let mut named = self.in_namespace(namespace).filter(|one| one.resource.id.name == name);
        let first = named.next()?;
        match first.resource.id.kind {
            Kind::Pod => named.find(|one| one.resource.id.kind != Kind::Pod).or(Some(first)),
            _ => Some(first),
        }
    }

    /// Workloads of a namespace that a selector chooses; an empty one chooses all.
    pub fn selected<'s>(&'s self, selector: &Labels, namespace: &str) -> Vec<&'s Workload<'a>> {
        let lists = selector.iter().map(|(key, value)| self.by_label.get(&(namespace, key.clone(), value.clone())));
        let shortest = match lists.min_by_key(|list| list.map_or(0, Vec::len)) {
            None => self.by_namespace.get(namespace),
            Some(list) => list,
        };
        let some = shortest.into_iter().flatten().map(|&at| &self.workloads[at]);
        some.filter(|workload| selects(selector, &workload.labels)).collect()
    }

    /// Workloads of any namespace that a selector chooses.
    pub fn selected_anywhere<'s>(&'s self, selector: &Labels) -> Vec<&'s Workload<'a>> {
        self.by_namespace.keys().flat_map(|namespace| self.selected(selector, namespace)).collect()
    }

    /// Services that send to pods with these labels.
    pub fn services_of(&self, namespace: &str, labels: &Labels) -> Vec<&'a Resource> {
        let mut found: Vec<&'a Resource> = Vec::new();
        for (key, value) in labels {
            // The key borrows only for the time of the look-up; services are filed under their first label.
            let Some((own, _)) = self.mesh_namespace(namespace) else { continue };
            let filed = self.services.get(&(own, key.clone(), value.clone())).into_iter().flatten();
            found.extend(filed.filter(|one| selects(&one.map("spec.selector"), labels)));
        }
        found
    }

    fn mesh_namespace(&self, namespace: &str) -> Option<(&'a str, &Vec<usize>)> {
        self.by_namespace.get_key_value(namespace).map(|(name, list)| (*name, list))
    }

    /// Whether a selector chooses what is not among the workloads: a machine beside the cluster, pods that istiod makes for a
    /// Gateway of the Gateway API, or Istio's own ingress gateway where that is not declared. Without a namespace: in any.
    pub fn beyond(&self, selector: &Labels, namespace: Option<&str>) -> bool {
        let here = |resource: &Resource| namespace.is_none_or(|name| resource.id.namespace == name);
        let machine = |kind: Kind, labels: &str| {
            self.mesh.of_kind(kind).any(|one| here(one) && selects(selector, &one.map(labels)))
        };
        let own = [("app", "istio-ingressgateway"), ("istio", "ingressgateway")];
        let own: Labels = own.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let installed = !selector.is_empty()
            && namespace.is_none_or(|name| name == self.root_namespace)
            && selects(selector, &own)
            && self.selected(&own, &self.root_namespace).is_empty();
        installed
            || machine(Kind::WorkloadEntry, "spec.labels")
            || machine(Kind::WorkloadGroup, "spec.metadata.labels")
            || self.generated.iter().any(|one| here(one.gateway) && selects(selector, &one.labels))
    }

    /// Whether a workload has a sidecar, or will: its own container, label and annotation decide before its namespace.
    pub fn in_mesh(&self, workload: &Workload<'_>) -> bool {
        let own = |labels: &Labels| labels.get("sidecar.istio.io/inject").map(|value| value == "true");
        if workload.proxy_image().is_some() {
            return true;
        }
        let namespace = &workload.resource.id.namespace;
        let revision = |label: Option<&str>| label.is_some_and(|name| !name.is_empty());
        own(&workload.labels).or_else(|| own(&workload.annotations)).unwrap_or_else(|| {
            match self.namespace_label(namespace, "istio-injection") {
                Some(injection) => injection == "enabled",
                None => {
                    revision(self.namespace_label(namespace, "istio.io/rev"))
                        || revision(workload.labels.get("istio.io/rev").map(String::as_str))
                }
            }
        })
    }

    /// Whether ztunnel carries, or will carry, the traffic of pods with these labels: their own mode decides before that of
    /// their namespace.
    pub fn in_ambient(&self, namespace: &str, labels: &Labels) -> bool {
        match labels.get("istio.io/dataplane-mode").map(String::as_str) {
            Some(mode) => mode == "ambient",
            None => {
                self.ambient_namespace(namespace) && labels.get("sidecar.istio.io/inject").is_none_or(|on| on != "true")
            }
        }
    }

    /// Whether a proxy, a sidecar or ztunnel, carries the traffic of a workload.
    pub fn meshed(&self, workload: &Workload<'_>) -> bool {
        let namespace = &workload.resource.id.namespace;
        self.in_mesh(workload) || workload.ambient() || self.in_ambient(namespace, &workload.labels)
    }

    /// Whether a namespace is in ambient mode: it has the label, and none for sidecars.
    pub fn ambient_namespace(&self, namespace: &str) -> bool {
        let label = |name: &str| self.namespace_label(namespace, name).unwrap_or_default();
        label("istio-injection") != "enabled"
            && label("istio.io/rev").is_empty()
            && label("istio.io/dataplane-mode") == "ambient"
    }

    /// Namespace and name of the waypoint that calls from ambient workloads to a Service or ServiceEntry go through.
    pub fn waypoint(&self, target: &'a Resource) -> Option<(&'a str, &'a str)> {
        let around = || Some(&self.mesh.get(Kind::Namespace, "", &target.id.namespace)?.labels);
        let labels = if target.labels.contains_key(USE_WAYPOINT) { &target.labels } else { around()? };
        let name = labels.get(USE_WAYPOINT).filter(|name| !name.is_empty() && *name != "none")?;
        let namespace = labels.get("istio.io/use-waypoint-namespace").unwrap_or(&target.id.namespace);
        Some((namespace, name))
    }

    /// A label of a namespace; none when either is not there.
    pub fn namespace_label(&self, namespace: &str, label: &str) -> Option<&'a str> {
        self.mesh.get(Kind::Namespace, "", namespace)?.labels.get(label).map(String::as_str)
    }

    /// Whether one of Istio's injectors takes pods with these labels in that namespace.
    pub fn injected(&self, namespace: &str, labels: &Labels) -> bool {
        let none = Labels::new();
        let namespace_labels = self.mesh.get(Kind::Namespace, "", namespace).map_or(&none, |one| &one.labels);
        let mut hooks = self.mesh.of_kind(Kind::MutatingWebhook).flat_map(|one| one.list("webhooks"));
        hooks.any(|hook| {
            hook.get("name").and_then(Node::as_str).is_some_and(|name| name.ends_with("istio.io"))
                && label_selector(hook.get("namespaceSelector"), namespace_labels)
                && label_selector(hook.get("objectSelector"), labels)
        })
    }
}

fn workloads(mesh: &Snapshot) -> Vec<Workload<'_>> {
    let kinds = WORKLOAD_KINDS.iter().flat_map(|kind| mesh.of_kind(*kind));
    let mut all: Vec<Workload<'_>> = kinds.filter_map(Workload::of).collect();
    for workload in &mut all {
        let Some(node) = workload.resource.text("spec.nodeName") else { continue };
        let Some(node) = mesh.get(Kind::Node, "", node) else { continue };
        for (label, value) in TOPOLOGY.iter().filter_map(|label| node.labels.get_key_value(*label)) {
            if !value.is_empty() {
                workload.labels.insert(label.clone(), value.clone());
            }
        }
        workload.labels.insert("kubernetes.io/hostname".to_owned(), node.id.name.clone());
    }
    all
}

/// A YAML text inside the ConfigMap `istio` (or `istio-<revision>`) of the root namespace.
fn config<'a>(mesh: &'a Snapshot, root_namespace: &str, key: &str) -> Option<(&'a Resource, Node)> {
    let mut maps: Vec<&Resource> = mesh
        .of_kind(Kind::ConfigMap)
        .filter(|map| map.id.namespace == root_namespace)
        .filter(|map| map.id.name == "istio" || map.id.name.starts_with("istio-"))
        .collect();
    maps.sort_by_key(|map| &map.id.name);
    maps.into_iter().find_map(|map| {
        let node = map.at("data")?.get(key)?;
        let mut read = yaml::documents(node.as_str()?).ok()?;
        let mut inner = if read.is_empty() { return None } else { read.swap_remove(0) };
        // A text begins at the line of its node, be it a block or not.
        inner.shift_lines(node.line.saturating_sub(1));
        matches!(inner.value, Value::Mapping(_)).then_some((map, inner))
    })
}

#[cfg(test)]
mod tests {
    use super::super::files::Input;
    use super::*;

    #[test]
    fn workloads_services_and_settings_are_found() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: shop, labels: {app: cart, v: '1'}}\nspec: {nodeName: n}\n\
            ---\napiVersion: v1\nkind: Node\nmetadata: {name: n, labels: {topology.kubernetes.io/zone: z1}}\n\
            ---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, namespace: shop}\nspec: {template: {metadata: {labels: {app: cart, v: '2'}}}}\n\
            ---\napiVersion: v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\nspec: {selector: {app: cart}}\n\
            ---\napiVersion: v1\nkind: Service\nmetadata: {name: none, namespace: shop}\nspec: {}\n\
            ---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    rootNamespace: roots\n    defaultConfig: {concurrency: 4}\n";
        let mesh = Snapshot::read(&[Input { name: "a".into(), text: text.to_owned() }], "default");
        let index = Index::new(&mesh, "istio-system", "cluster.local");
        let labels = |pairs: &[(&str, &str)]| -> Labels {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let names = |selector: &[(&str, &str)], namespace: &str| -> Vec<&str> {
            index.selected(&labels(selector), namespace).iter().map(|one| one.resource.id.name.as_str()).collect()
        };
        assert_eq!(names(&[("app", "cart")], "shop"), ["a", "d"]);
        assert_eq!(names(&[("app", "cart"), ("v", "2")], "shop"), ["d"]);
        assert_eq!(names(&[("topology.kubernetes.io/zone", "z1")], "shop"), ["a"]);
        assert_eq!(names(&[], "shop"), ["a", "d"]);
        assert!(names(&[("app", "cart")], "web").is_empty());
        let services = index.services_of("shop", &labels(&[("app", "cart"), ("v", "1")]));
        assert_eq!(services.iter().map(|one| one.id.name.as_str()).collect::<Vec<_>>(), ["cart"]);
        assert_eq!(index.root_namespace, "roots");
        let concurrency = index.mesh_setting(&["defaultConfig", "concurrency"]).and_then(Node::as_str);
        assert_eq!(concurrency, Some("4"));
    }
}
