//! Routes and gateways of the Gateway API: what they name and is not there, what two of them claim.

use std::collections::HashMap;

use super::Check;
use super::kiali_context::{items, namespaces, word};
use crate::audit::{Found, Scene};
use crate::mesh::select::selects;
use crate::mesh::{ISTIO_CLASSES, Kind, Resource};
use crate::model::Severity;
use crate::yaml::Node;

pub(super) const CHECKS: &[Check] = &[
    Check {
        code: "MS0801",
        severity: Severity::Error,
        title: "a route names a gateway that is not declared",
        also: &["KIA1401"],
        run: parents,
    },
    Check {
        code: "MS0802",
        severity: Severity::Error,
        title: "a route names a service that is not declared",
        also: &["KIA1402"],
        run: backends,
    },
    Check {
        code: "MS0803",
        severity: Severity::Warning,
        title: "two gateways listen for one host and port",
        also: &["KIA1501"],
        run: same_listener,
    },
    Check {
        code: "MS0804",
        severity: Severity::Warning,
        title: "two gateways ask for one address",
        also: &["KIA1502"],
        run: same_address,
    },
    Check {
        code: "MS0805",
        severity: Severity::Error,
        title: "two listeners of a gateway are the same",
        also: &["KIA1503"],
        run: unique_listeners,
    },
    Check {
        code: "MS0806",
        severity: Severity::Error,
        title: "a gateway names a class that is not there",
        also: &["KIA1504"],
        run: classes,
    },
    Check {
        code: "MS0807",
        severity: Severity::Error,
        title: "a grant names a namespace that is not there",
        also: &["KIA1601"],
        run: grants,
    },
    Check {
        code: "MS0808",
        severity: Severity::Error,
        title: "a route calls a service of another namespace without a grant",
        also: &[],
        run: ungranted,
    },
    Check {
        code: "MS0809",
        severity: Severity::Error,
        title: "a route names a listener that its gateway does not have, or that does not take it",
        also: &[],
        run: refused,
    },
];

const ROUTES: [Kind; 5] = [Kind::HttpRoute, Kind::GrpcRoute, Kind::TcpRoute, Kind::TlsRoute, Kind::LinkerdHttpRoute];

fn routes<'a>(scene: &Scene<'a>) -> impl Iterator<Item = &'a Resource> {
    let mesh = scene.mesh;
    ROUTES.into_iter().flat_map(move |kind| mesh.of_kind(kind))
}

/// The gateways among the parents of a route: index, namespace, name, the reference.
fn gateways_of(route: &Resource) -> impl Iterator<Item = (usize, &str, &str, &Node)> {
    route.list("spec.parentRefs").iter().enumerate().filter_map(|(at, parent)| {
        let gateway = word(parent, "kind").is_none_or(|kind| kind == "Gateway")
            && word(parent, "group").is_none_or(|group| group == "gateway.networking.k8s.io");
        let namespace = word(parent, "namespace").unwrap_or(&route.id.namespace);
        gateway.then_some((at, namespace, word(parent, "name")?, parent))
    })
}

/// The services a route calls: path, namespace, name.
fn services_of(route: &Resource) -> Vec<(String, &str, &str, bool)> {
    let mut all = Vec::new();
    for (at, rule) in route.list("spec.rules").iter().enumerate() {
        for (index, backend) in items(rule, "backendRefs").iter().enumerate() {
            let service = word(backend, "kind").is_none_or(|kind| kind == "Service")
                && word(backend, "group").is_none_or(|group| group == "core");
            let Some(name) = word(backend, "name").filter(|_| service) else { continue };
            let namespace = word(backend, "namespace").unwrap_or(&route.id.namespace);
            let elsewhere = namespace != route.id.namespace;
            all.push((format!("spec.rules[{at}].backendRefs[{index}]"), namespace, name, elsewhere));
        }
    }
    all
}

/// Whether it can be said that an object of a kind is not there: a cluster told all, files tell it when they hold one.
fn told(scene: &Scene<'_>, route: &Resource, kind: Kind) -> bool {
    route.place.file.is_none() || scene.mesh.of_kind(kind).next().is_some()
}

fn parents(scene: &Scene<'_>, found: &mut Found<'_>) {
    for route in routes(scene) {
        for (at, namespace, name, _) in gateways_of(route) {
            if told(scene, route, Kind::KubernetesGateway)
                && scene.mesh.get(Kind::KubernetesGateway, namespace, name).is_none()
            {
                let message = format!(
                    "there is no Gateway {namespace}/{name} (gateway.networking.k8s.io): the route takes no traffic from it"
                );
                found.at(route, &format!("spec.parentRefs[{at}]"), message);
            }
        }
    }
}

fn backends(scene: &Scene<'_>, found: &mut Found<'_>) {
    for route in routes(scene) {
        for (path, namespace, name, _) in services_of(route) {
            let Some(service) = scene.mesh.get(Kind::Service, namespace, name) else {
                if told(scene, route, Kind::Service) {
                    let message = format!(
                        "there is no Service {namespace}/{name}: its share of calls is answered with status 500"
                    );
                    found.at(route, &path, message);
                }
                continue;
            };
            let Some(port) = route.text(&format!("{path}.port")) else { continue };
            if !service.list("spec.ports").iter().any(|one| word(one, "port") == Some(port)) {
                let message = format!(
                    "Service {namespace}/{name} has no port {port}: its share of calls is answered with status 500"
                );
                found.at(route, &format!("{path}.port"), message);
            }
        }
    }
}

/// What a listener claims; a hostname left out is every name.
fn claim(listener: &Node) -> (String, String, String) {
    let text = |name: &str| word(listener, name).unwrap_or_default().to_owned();
    (text("hostname"), text("port"), text("protocol"))
}

fn same_listener(scene: &Scene<'_>, found: &mut Found<'_>) {
    let mut first: HashMap<_, &Resource> = HashMap::new();
    for gateway in scene.mesh.of_kind(Kind::KubernetesGateway) {
        for (at, listener) in gateway.list("spec.listeners").iter().enumerate() {
            let (host, port, _) = claim(listener);
            // Gateways of one class each get an address of their own, unless they ask for the same host by name.
            if host.is_empty() {
                continue;
            }
            let other = *first.entry((host.clone(), port.clone())).or_insert(gateway);
            if other.id != gateway.id {
                let message = format!(
                    "{} listens for {host} on port {port} too: which one clients reach is a matter of DNS",
                    other.id
                );
                found.at(gateway, &format!("spec.listeners[{at}]"), message);
            }
        }
    }
}

fn same_address(scene: &Scene<'_>, found: &mut Found<'_>) {
    let mut first: HashMap<(&str, &str), &Resource> = HashMap::new();
    for gateway in scene.mesh.of_kind(Kind::KubernetesGateway) {
        for (at, address) in gateway.list("spec.addresses").iter().enumerate() {
            let Some(value) = word(address, "value") else { continue };
            let kind = word(address, "type").unwrap_or("IPAddress");
            let other = *first.entry((kind, value)).or_insert(gateway);
            if other.id != gateway.id {
                found.at(
                    gateway,
                    &format!("spec.addresses[{at}]"),
                    format!("{} asks for {value} too: one of them does not get it", other.id),
                );
            }
        }
    }
}

fn unique_listeners(scene: &Scene<'_>, found: &mut Found<'_>) {
    for gateway in scene.mesh.of_kind(Kind::KubernetesGateway) {
        let listeners = gateway.list("spec.listeners");
        for (at, listener) in listeners.iter().enumerate() {
            let path = format!("spec.listeners[{at}]");
            if listeners[..at].iter().any(|other| claim(other) == claim(listener)) {
                found.at(gateway, &path, "has host, port and protocol of another listener: both are marked as conflicted and take no traffic");
            } else if listeners[..at].iter().any(|other| word(other, "name") == word(listener, "name")) {
                found.at(gateway, &format!("{path}.name"), "is the name of another listener: the object is refused");
            }
        }
    }
}

fn classes(scene: &Scene<'_>, found: &mut Found<'_>) {
    // Classes come with an installation; where none is declared nothing can be said.
    if scene.mesh.of_kind(Kind::GatewayClass).next().is_none() {
        return;
    }
    for gateway in scene.mesh.of_kind(Kind::KubernetesGateway) {
        let Some(class) = gateway.text("spec.gatewayClassName") else { continue };
        if !ISTIO_CLASSES.contains(&class) && scene.mesh.get(Kind::GatewayClass, "", class).is_none() {
            found.at(
                gateway,
                "spec.gatewayClassName",
                format!("there is no GatewayClass {class}: nobody runs this gateway"),
            );
        }
    }
}

fn grants(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(known) = namespaces(scene) else { return };
    for grant in scene.mesh.of_kind(Kind::ReferenceGrant) {
        for (at, from) in grant.list("spec.from").iter().enumerate() {
            if let Some(name) = word(from, "namespace").filter(|name| !known.contains(*name)) {
                found.at(
                    grant,
                    &format!("spec.from[{at}].namespace"),
                    format!("there is no namespace {name}: nothing is granted"),
                );
            }
        }
    }
}

fn ungranted(scene: &Scene<'_>, found: &mut Found<'_>) {
    for route in routes(scene).filter(|route| route.id.kind != Kind::LinkerdHttpRoute) {
        for (path, namespace, name, _) in services_of(route).into_iter().filter(|one| one.3) {
            // Files that hold nothing of that namespace say nothing of its grants either.
            let near = scene.mesh.get(Kind::Service, namespace, name).is_some();
            if !near && !told(scene, route, Kind::ReferenceGrant) {
                continue;
            }
            let info = route.id.kind.info();
            let from = |one: &Node| {
                word(one, "kind") == Some(info.name)
                    && word(one, "group") == Some(info.group)
                    && word(one, "namespace") == Some(&route.id.namespace)
            };
            let to =
                |one: &Node| word(one, "kind") == Some("Service") && word(one, "name").is_none_or(|only| only == name);
            let grants = scene.mesh.of_kind(Kind::ReferenceGrant).filter(|one| one.id.namespace == namespace);
            let mut grants =
                grants.filter(|one| one.list("spec.from").iter().any(from) && one.list("spec.to").iter().any(to));
            if grants.next().is_none() {
                let fix = format!(
                    "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata:\n  name: {}\n  namespace: {namespace}\nspec:\n  from:\n  - group: {}\n    kind: {}\n    namespace: {}\n  to:\n  - group: \"\"\n    kind: Service\n    name: {name}",
                    route.id.name, info.group, info.name, route.id.namespace
                );
                let message = format!(
                    "no ReferenceGrant of namespace {namespace} lets this route call Service {name}: its calls are answered with status 500"
                );
                found.at(route, &path, message).fix(fix);
            }
        }
    }
}

/// Why a gateway does not take a route; none: it does.
fn why_refused(scene: &Scene<'_>, gateway: &Resource, route: &Resource, parent: &Node) -> Option<String> {
    let section = word(parent, "sectionName");
    let port = word(parent, "port");
    let named = |one: &&Node| {
        section.is_none_or(|name| word(one, "name") == Some(name))
            && port.is_none_or(|port| word(one, "port") == Some(port))
    };
    let listeners: Vec<&Node> = gateway.list("spec.listeners").iter().filter(named).collect();
    if listeners.is_empty() {
        let asked =
            section.map_or_else(|| format!("on port {}", port.unwrap_or_default()), |name| format!("called {name}"));
        return Some(format!("{} has no listener {asked}: the route takes no traffic from it", gateway.id));
    }
    let takes = |listener: &&&Node| {
        let place = listener.get("allowedRoutes").and_then(|one| one.get("namespaces"));
        match place.and_then(|one| word(one, "from")).unwrap_or("Same") {
            "All" => true,
            "Same" => gateway.id.namespace == route.id.namespace,
            "Selector" => {
                let wanted = place
                    .and_then(|one| one.get("selector")?.get("matchLabels"))
                    .map(Node::entries)
                    .unwrap_or_default();
                let wanted = wanted
                    .iter()
                    .filter_map(|(key, value)| Some((key.as_str()?.to_owned(), value.as_str()?.to_owned())))
                    .collect();
                // Labels of a namespace that is not declared are not known.
                scene.mesh.get(Kind::Namespace, "", &route.id.namespace).is_none_or(|own| selects(&wanted, &own.labels))
            }
            _ => false,
        }
    };
    if listeners.iter().any(|one| takes(&one)) {
        return None;
    }
    Some(format!(
        "{} takes no routes of namespace {} (allowedRoutes): the route takes no traffic from it",
        gateway.id, route.id.namespace
    ))
}

fn refused(scene: &Scene<'_>, found: &mut Found<'_>) {
    for route in routes(scene) {
        for (at, namespace, name, parent) in gateways_of(route) {
            let Some(gateway) = scene.mesh.get(Kind::KubernetesGateway, namespace, name) else { continue };
            if let Some(why) = why_refused(scene, gateway, route, parent) {
                found.at(route, &format!("spec.parentRefs[{at}]"), why);
            }
        }
    }
}
