//! Whom an object governs: services, hosts, workloads, namespaces, or the whole mesh.
//!
//! In: an object and the [`Index`] of what is declared beside it. Out: [`Governs`], which says whether an edge is meant.
//! Which fields name whom: Istio's API reference, Gateway API's `parentRefs` and `backendRefs`, Linkerd's policy reference.

use std::collections::BTreeSet;

use crate::mesh::effective::{selector, targeted};
use crate::mesh::hosts::{full_name, overlap, service_of};
use crate::mesh::select::{APP_LABELS, Labels};
use crate::mesh::{Index, Kind, Resource};
use crate::model::EdgeMinute;
use crate::traces::workload_of_pod;
use crate::yaml::Node;

/// Labels that name the version of a workload, as Istio picks the canonical revision.
const VERSION_LABELS: [&str; 3] = ["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"];

/// Whom an object governs. An edge is meant when one of the parts means it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Governs {
    /// The whole mesh.
    pub everything: bool,
    /// All edges from or to these namespaces.
    pub namespaces: BTreeSet<String>,
    /// Calls of these services, by name and namespace.
    pub services: BTreeSet<(String, String)>,
    /// Calls of these hosts, perhaps with a wildcard.
    pub hosts: BTreeSet<String>,
    /// Calls from and to these workloads, by name and namespace.
    pub workloads: BTreeSet<(String, String)>,
    /// Calls from and to workloads of these apps, by app, version where it matters, and namespace.
    pub apps: BTreeSet<(String, Option<String>, String)>,
}

/// One end of an edge. What is not known is no difference but for names.
#[derive(Clone, Copy, Debug, Default)]
pub struct Party<'a> {
    /// The workload.
    pub name: Option<&'a str>,
    /// Its app.
    pub app: Option<&'a str>,
    /// Its version.
    pub version: Option<&'a str>,
    /// Its namespace.
    pub namespace: Option<&'a str>,
}

/// The two ends of an edge and what was called.
#[derive(Clone, Debug, Default)]
pub struct Ends<'a> {
    /// The caller.
    pub source: Party<'a>,
    /// Who answered.
    pub destination: Party<'a>,
    /// What was called: name or host, and namespace.
    pub services: Vec<(&'a str, Option<&'a str>)>,
}

impl<'a> Ends<'a> {
    /// Those of an edge as one side reports it.
    pub fn of(minute: &'a EdgeMinute) -> Self {
        let party = |workload: &'a crate::model::workload::Workload| Party {
            name: workload.name.as_deref(),
            app: workload.app.as_deref(),
            version: workload.version.as_deref(),
            namespace: workload.namespace.as_deref(),
        };
        let service = &minute.edge.service;
        let namespace = service.namespace.as_deref();
        let names = [service.name.as_deref(), service.host.as_deref()];
        Self {
            source: party(&minute.edge.source),
            destination: party(&minute.edge.destination),
            services: names.into_iter().flatten().map(|name| (name, namespace)).collect(),
        }
    }
}

impl Governs {
    /// Whether nobody is governed.
    pub fn is_nobody(&self) -> bool {
        *self == Self::default()
    }

    /// Whether an edge is meant.
    pub fn covers(&self, ends: &Ends<'_>) -> bool {
        if self.everything {
            return true;
        }
        let parties = [&ends.source, &ends.destination];
        parties.into_iter().any(|party| self.has_party(party)) || ends.services.iter().any(|one| self.has_service(*one))
    }

    fn has_party(&self, party: &Party<'_>) -> bool {
        let namespace = party.namespace.unwrap_or_default();
        let is_named = party.name.is_some_and(|name| self.workloads.contains(&(name.to_owned(), namespace.to_owned())));
        is_named
            || self.namespaces.contains(namespace)
            || self.apps.iter().any(|(app, version, place)| {
                place == namespace
                    && party.app == Some(app)
                    && version.as_deref().is_none_or(|version| party.version.is_none_or(|known| known == version))
            })
    }

    fn has_service(&self, (name, namespace): (&str, Option<&str>)) -> bool {
        if namespace.is_some_and(|namespace| self.namespaces.contains(namespace)) {
            return true;
        }
        let is = |(own, place): &(String, String)| own == name && namespace.is_none_or(|namespace| namespace == place);
        self.services.iter().any(is)
            || self.hosts.iter().any(|host| {
                let full = namespace.map(|namespace| format!("{name}.{namespace}.svc.cluster.local"));
                overlap(host, name) || full.is_some_and(|full| overlap(host, &full))
            })
    }

    /// What two objects govern together: before and after a change.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        let Self { everything, namespaces, services, hosts, workloads, apps } = other;
        self.everything |= everything;
        self.namespaces.extend(namespaces);
        self.services.extend(services);
        self.hosts.extend(hosts);
        self.workloads.extend(workloads);
        self.apps.extend(apps);
        self
    }

    /// In words, one for each part: `calls of cart.shop`, `workload web.shop`.
    pub fn words(&self) -> Vec<String> {
        let mut all = Vec::new();
        if self.everything {
            all.push("the whole mesh".to_owned());
        }
        all.extend(self.namespaces.iter().map(|name| format!("namespace {name}")));
        all.extend(self.services.iter().map(|(name, namespace)| format!("calls of {name}.{namespace}")));
        all.extend(self.hosts.iter().map(|host| format!("calls of {host}")));
        all.extend(self.workloads.iter().map(|(name, namespace)| format!("workload {name}.{namespace}")));
        // An app whose workloads are known is named by them.
        let named = |namespace: &String| self.workloads.iter().any(|(_, place)| place == namespace);
        let apps = self.apps.iter().filter(|(_, _, namespace)| !named(namespace));
        all.extend(apps.map(|(app, version, namespace)| match version {
            Some(version) => format!("app {app}.{namespace} version {version}"),
            None => format!("app {app}.{namespace}"),
        }));
        all
    }

    /// Whom an object governs, as things are declared beside it.
    pub fn of(index: &Index<'_>, resource: &Resource) -> Self {
        let mut found = Found { index, resource, governs: Self::default() };
        found.all();
        found.governs
    }
}

struct Found<'i, 'a> {
    index: &'i Index<'a>,
    resource: &'i Resource,
    governs: Governs,
}

impl Found<'_, '_> {
    fn all(&mut self) {
        let (id, resource) = (&self.resource.id, self.resource);
        let namespace = id.namespace.as_str();
        match id.kind {
            Kind::VirtualService => {
                self.hosts("spec.hosts");
                for kind in ["http", "tcp", "tls"] {
                    for part in resource.list(&format!("spec.{kind}")) {
                        let routes = part.get("route").map(Node::items).unwrap_or_default();
                        let hosts = routes.iter().filter_map(|one| one.get("destination")?.get("host")?.as_str());
                        hosts.for_each(|host| self.host(host));
                    }
                }
            }
            Kind::DestinationRule => resource.text("spec.host").into_iter().for_each(|host| self.host(host)),
            Kind::ServiceEntry => self.hosts("spec.hosts"),
            Kind::ServiceProfile => self.host(&id.name),
            Kind::Service => drop(self.governs.services.insert((id.name.clone(), namespace.to_owned()))),
            Kind::Gateway => self.selected(&resource.map("spec.selector"), None),
            Kind::Sidecar
            | Kind::EnvoyFilter
            | Kind::PeerAuthentication
            | Kind::RequestAuthentication
            | Kind::AuthorizationPolicy
            | Kind::Telemetry
            | Kind::WasmPlugin
            | Kind::ProxyConfig => self.policy(),
            Kind::HttpRoute | Kind::GrpcRoute | Kind::TcpRoute | Kind::TlsRoute | Kind::LinkerdHttpRoute => {
                self.references("spec.parentRefs");
                for rule in resource.list("spec.rules") {
                    let backends = rule.get("backendRefs").map(Node::items).unwrap_or_default();
                    backends.iter().for_each(|one| self.reference(one));
                }
            }
            Kind::KubernetesGateway => self.gateway(namespace, &id.name),
            Kind::LinkerdServer => self.selected(&resource.map("spec.podSelector.matchLabels"), Some(namespace)),
            Kind::LinkerdServerAuthorization => {
                if let Some(server) = resource.text("spec.server.name") {
                    self.server(namespace, server);
                }
            }
            Kind::LinkerdAuthorizationPolicy => {
                resource.at("spec.targetRef").into_iter().for_each(|one| self.reference(one));
            }
            Kind::MeshTlsAuthentication | Kind::NetworkAuthentication | Kind::ServiceAccount => {
                self.namespace(namespace);
            }
            Kind::Namespace => self.namespace(&id.name),
            Kind::Deployment | Kind::StatefulSet | Kind::DaemonSet | Kind::Rollout | Kind::CronJob => {
                self.governs.workloads.insert((id.name.clone(), namespace.to_owned()));
            }
            Kind::ConfigMap => self.config_map(),
            _ => {}
        }
    }

    fn namespace(&mut self, name: &str) {
        self.governs.namespaces.insert(name.to_owned());
    }

    fn hosts(&mut self, path: &str) {
        let resource = self.resource;
        resource.list(path).iter().filter_map(Node::as_str).for_each(|host| self.host(host));
    }

    fn host(&mut self, host: &str) {
        // `shop/cart` of a Gateway's host names a namespace first.
        let host = host.rsplit_once('/').map_or(host, |(_, host)| host);
        let full = full_name(host, &self.resource.id.namespace, &self.index.domain);
        match service_of(&full, &self.index.domain) {
            Some((name, namespace)) if !name.contains('*') => {
                self.governs.services.insert((name.to_owned(), namespace.to_owned()));
            }
            _ if host == "*" => self.namespace(&self.resource.id.namespace.clone()),
            _ if host.is_empty() => {}
            _ => drop(self.governs.hosts.insert(host.to_owned())),
        }
    }

    /// Policies hold for the workloads they select; without a selector for their namespace, in the root for all.
    fn policy(&mut self) {
        let resource = self.resource;
        let namespace = resource.id.namespace.as_str();
        if targeted(resource) {
            self.references("spec.targetRefs");
            resource.at("spec.targetRef").into_iter().for_each(|one| self.reference(one));
            return;
        }
        let chosen = selector(resource);
        let is_root = namespace == self.index.root_namespace;
        match (chosen.is_empty(), is_root) {
            (true, true) => self.governs.everything = true,
            (true, false) => self.namespace(namespace),
            (false, true) => self.selected(&chosen, None),
            (false, false) => self.selected(&chosen, Some(namespace)),
        }
    }

    /// The workloads that a selector chooses, in one namespace or in all; and their app, where they are not declared.
    fn selected(&mut self, chosen: &Labels, namespace: Option<&str>) {
        if chosen.is_empty() {
            return namespace.into_iter().for_each(|namespace| self.namespace(namespace));
        }
        let found = match namespace {
            Some(namespace) => self.index.selected(chosen, namespace),
            None => self.index.selected_anywhere(chosen),
        };
        for workload in &found {
            let id = &workload.resource.id;
            let name = match id.kind {
                Kind::Pod | Kind::ReplicaSet => workload_of_pod(&id.name),
                _ => &id.name,
            };
            self.governs.workloads.insert((name.to_owned(), id.namespace.clone()));
        }
        let label = |names: [&str; 3]| names.into_iter().find_map(|name| chosen.get(name)).cloned();
        let place = namespace.unwrap_or(&self.resource.id.namespace).to_owned();
        if let Some(app) = label(APP_LABELS) {
            self.governs.apps.insert((app, label(VERSION_LABELS), place));
        }
    }

    fn references(&mut self, path: &str) {
        let resource = self.resource;
        resource.list(path).iter().for_each(|one| self.reference(one));
    }

    /// What a reference of Gateway API's form names; without a kind it is a Gateway in `parentRefs`, a Service elsewhere.
    fn reference(&mut self, node: &Node) {
        let text = |key: &str| node.get(key).and_then(Node::as_str);
        let namespace = text("namespace").unwrap_or(&self.resource.id.namespace).to_owned();
        let Some(name) = text("name").map(str::to_owned) else { return };
        let default = if text("port").is_some() || text("weight").is_some() { "Service" } else { "Gateway" };
        match text("kind").unwrap_or(default) {
            "Service" => drop(self.governs.services.insert((name, namespace))),
            "ServiceEntry" => {
                if let Some(entry) = self.index.mesh.get(Kind::ServiceEntry, &namespace, &name) {
                    let hosts = entry.list("spec.hosts").iter().filter_map(Node::as_str);
                    self.governs.hosts.extend(hosts.map(str::to_owned));
                }
            }
            "Gateway" => self.gateway(&namespace, &name),
            "Server" => self.server(&namespace, &name),
            "Namespace" => self.namespace(&name),
            "Deployment" | "Workload" => drop(self.governs.workloads.insert((name, namespace))),
            "HTTPRoute" => {
                let mesh = self.index.mesh;
                let found = mesh.get(Kind::LinkerdHttpRoute, &namespace, &name);
                if let Some(route) = found.or_else(|| mesh.get(Kind::HttpRoute, &namespace, &name))
                    && route.id != self.resource.id
                {
                    let governs = std::mem::take(&mut self.governs);
                    self.governs = governs.and(Governs::of(self.index, route));
                }
            }
            _ => {}
        }
    }

    /// A gateway of Gateway API runs as `NAME-CLASS`, a waypoint under its own name (istio: automated deployment).
    fn gateway(&mut self, namespace: &str, name: &str) {
        let class = self.index.mesh.get(Kind::KubernetesGateway, namespace, name);
        let class = class.and_then(|one| one.text("spec.gatewayClassName")).unwrap_or("istio");
        for workload in [name.to_owned(), format!("{name}-{class}")] {
            self.governs.workloads.insert((workload, namespace.to_owned()));
        }
    }

    fn server(&mut self, namespace: &str, name: &str) {
        let server = self.index.mesh.get(Kind::LinkerdServer, namespace, name);
        let chosen = server.map(|one| one.map("spec.podSelector.matchLabels")).unwrap_or_default();
        self.selected(&chosen, Some(namespace));
    }

    /// The mesh's own configuration holds for all; another map for the workloads that mount it or read variables from it.
    fn config_map(&mut self) {
        let id = &self.resource.id;
        let is_mesh = id.name == "istio" || id.name.starts_with("istio-") || id.name == "linkerd-config";
        if is_mesh && (id.namespace == self.index.root_namespace || id.name == "linkerd-config") {
            self.governs.everything = true;
            return;
        }
        let reads = |node: &Node, key: &str, name: &str| {
            node.get(key).and_then(|one| one.get(name)).and_then(Node::as_str) == Some(id.name.as_str())
        };
        for workload in self.index.in_namespace(&id.namespace) {
            let volumes = workload.resource.list(&workload.field("volumes")).iter();
            let mounts = volumes.into_iter().any(|volume| reads(volume, "configMap", "name"));
            let from = |container: &Node| {
                let list = |key: &str| container.get(key).map(Node::items).unwrap_or_default();
                list("envFrom").iter().any(|one| reads(one, "configMapRef", "name"))
                    || list("env")
                        .iter()
                        .filter_map(|one| one.get("valueFrom"))
                        .any(|one| reads(one, "configMapKeyRef", "name"))
            };
            let at = &workload.resource.id;
            if at.kind != Kind::Pod && (mounts || workload.containers().any(from)) {
                self.governs.workloads.insert((at.name.clone(), at.namespace.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::{Input, Snapshot};

    const WORLD: &str = "
{apiVersion: apps/v1, kind: Deployment, metadata: {name: cart-v1, namespace: shop}, spec: {template: {metadata: {labels: {app: cart, version: v1}}, spec: {volumes: [{configMap: {name: flags}}]}}}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: shop}, spec: {template: {metadata: {labels: {app: web}}, spec: {}}}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: ingress, namespace: istio-ingress}, spec: {template: {metadata: {labels: {istio: ingressgateway}}, spec: {}}}}
---
{apiVersion: policy.linkerd.io/v1beta3, kind: Server, metadata: {name: s, namespace: shop}, spec: {podSelector: {matchLabels: {app: web}}}}
";

    fn governs(object: &str) -> Governs {
        let text = format!("{object}\n---{WORLD}");
        let mesh = Snapshot::read(&[Input { name: "a.yaml".into(), text }], "shop");
        assert!(mesh.unread.is_empty(), "{:?}", mesh.unread);
        let index = Index::new(&mesh, "istio-system", "cluster.local");
        Governs::of(&index, mesh.iter().next().expect("an object"))
    }

    #[test]
    fn each_kind_names_whom_it_governs() {
        let istio = |kind: &str, namespace: &str, spec: &str| {
            let group = match kind {
                "PeerAuthentication" | "AuthorizationPolicy" => "security",
                _ => "networking",
            };
            format!(
                "{{apiVersion: {group}.istio.io/v1, kind: {kind}, metadata: {{name: x, namespace: {namespace}}}, spec: {spec}}}"
            )
        };
        let cases = [
            (istio("DestinationRule", "shop", "{host: cart}"), vec!["calls of cart.shop"]),
            (istio("DestinationRule", "shop", "{host: api.example.org}"), vec!["calls of api.example.org"]),
            (
                istio("VirtualService", "web", "{hosts: [cart.shop.svc.cluster.local], http: [{route: [{destination: {host: till}}]}]}"),
                vec!["calls of cart.shop", "calls of till.web"],
            ),
            (istio("ServiceEntry", "shop", "{hosts: ['*.example.org']}"), vec!["calls of *.example.org"]),
            (istio("PeerAuthentication", "shop", "{mtls: {mode: STRICT}}"), vec!["namespace shop"]),
            (istio("PeerAuthentication", "istio-system", "{mtls: {mode: STRICT}}"), vec!["the whole mesh"]),
            (istio("AuthorizationPolicy", "shop", "{selector: {matchLabels: {app: cart}}}"), vec!["workload cart-v1.shop"]),
            (
                istio("AuthorizationPolicy", "pay", "{selector: {matchLabels: {app: till, version: v2}}}"),
                vec!["app till.pay version v2"],
            ),
            (istio("AuthorizationPolicy", "shop", "{targetRefs: [{kind: Service, name: cart}]}"), vec!["calls of cart.shop"]),
            (istio("Gateway", "shop", "{selector: {istio: ingressgateway}}"), vec!["workload ingress.istio-ingress"]),
            (
                "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r, namespace: shop}, spec: {parentRefs: [{name: gw}], rules: [{backendRefs: [{name: cart, port: 80}]}]}}".to_owned(),
                vec!["calls of cart.shop", "workload gw.shop", "workload gw-istio.shop"],
            ),
            (
                "{apiVersion: policy.linkerd.io/v1alpha1, kind: AuthorizationPolicy, metadata: {name: r, namespace: shop}, spec: {targetRef: {kind: Server, name: s}}}".to_owned(),
                vec!["workload web.shop"],
            ),
            (
                "{apiVersion: linkerd.io/v1alpha2, kind: ServiceProfile, metadata: {name: cart.shop.svc.cluster.local, namespace: shop}, spec: {}}".to_owned(),
                vec!["calls of cart.shop"],
            ),
            ("{apiVersion: v1, kind: ConfigMap, metadata: {name: flags, namespace: shop}, data: {}}".to_owned(), vec!["workload cart-v1.shop"]),
            ("{apiVersion: v1, kind: ConfigMap, metadata: {name: other, namespace: shop}, data: {}}".to_owned(), vec![]),
            ("{apiVersion: v1, kind: ConfigMap, metadata: {name: istio, namespace: istio-system}, data: {}}".to_owned(), vec!["the whole mesh"]),
            ("{apiVersion: v1, kind: Namespace, metadata: {name: shop}}".to_owned(), vec!["namespace shop"]),
            ("{apiVersion: apps/v1, kind: Deployment, metadata: {name: late, namespace: shop}, spec: {}}".to_owned(), vec!["workload late.shop"]),
        ];
        for (object, expected) in cases {
            let mut words = governs(&object).words();
            words.sort();
            let mut expected = expected;
            expected.sort_unstable();
            assert_eq!(words, expected, "{object}");
        }
    }

    #[test]
    fn an_edge_is_meant_by_its_service_its_host_or_one_of_its_ends() {
        let party = |name: &'static str, app: Option<&'static str>, namespace: &'static str| Party {
            name: Some(name),
            app,
            version: None,
            namespace: Some(namespace),
        };
        let ends = |service: &'static str, namespace: Option<&'static str>| Ends {
            source: party("web", Some("web"), "front"),
            destination: party("cart-v1", Some("cart"), "shop"),
            services: vec![(service, namespace)],
        };
        let by = |object: &str, ends: &Ends<'_>| governs(object).covers(ends);
        let rule = |host: &str| {
            format!(
                "{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: x, namespace: shop}}, spec: {{host: {host}}}}}"
            )
        };
        let cart = ends("cart", Some("shop"));
        assert!(by(&rule("cart"), &cart) && !by(&rule("till"), &cart));
        assert!(by(&rule("'*.shop.svc.cluster.local'"), &cart) && !by(&rule("'*.pay.svc.cluster.local'"), &cart));
        assert!(by(&rule("'*.example.org'"), &ends("api.example.org", None)));
        let deployment = |name: &str, namespace: &str| {
            format!(
                "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{}}}}"
            )
        };
        assert!(by(&deployment("cart-v1", "shop"), &cart) && by(&deployment("web", "front"), &cart));
        assert!(!by(&deployment("cart-v1", "front"), &cart));
        let namespace = |name: &str| format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}");
        assert!(by(&namespace("front"), &cart) && by(&namespace("shop"), &cart) && !by(&namespace("pay"), &cart));
        assert!(Governs { everything: true, ..Governs::default() }.covers(&Ends::default()));
        assert!(!Governs::default().covers(&cart) && Governs::default().is_nobody());
    }
}
