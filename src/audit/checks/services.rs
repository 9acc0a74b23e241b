//! Services: port names that say no protocol, Deployments that several services see differently, negative conditions.
//!
//! The conditions are those of istio's `service`, `deployment` and `conditions` analyzers.

use std::collections::{BTreeMap, BTreeSet};

use super::Check;
use crate::audit::{Found, Scene};
use crate::mesh::select::Workload;
use crate::mesh::{Kind, Resource};
use crate::model::Severity;
use crate::yaml::Node;

pub(super) const CHECKS: &[Check] = &[
    Check {
        code: "MS0713",
        severity: Severity::Info,
        title: "a port's name does not say its protocol",
        also: &["IST0118", "KIA0601"],
        run: port_names,
    },
    Check {
        code: "MS0714",
        severity: Severity::Warning,
        title: "a port of an ExternalName service is plain TCP",
        also: &["IST0150"],
        run: external_names,
    },
    Check {
        code: "MS0715",
        severity: Severity::Warning,
        title: "services see one port of a Deployment with different protocols",
        also: &["IST0116"],
        run: protocols,
    },
    Check {
        code: "MS0716",
        severity: Severity::Warning,
        title: "services lead different ports to one port of a Deployment",
        also: &["IST0137"],
        run: target_ports,
    },
    Check {
        code: "MS0721",
        severity: Severity::Warning,
        title: "a controller reports a condition that does not hold",
        also: &["IST0171"],
        run: conditions,
    },
];

/// Namespaces of Kubernetes itself.
const SYSTEM: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"];
/// What a port's name may begin with, up to a dash.
const PROTOCOLS: [&str; 12] =
    ["tcp", "udp", "grpc", "http", "http_proxy", "http2", "https", "tls", "mongo", "redis", "mysql", "hbone"];
/// Ports whose servers speak first, taken as TCP without a name: SMTP, DNS, MySQL, MongoDB.
const SERVER_FIRST: [&str; 4] = ["25", "53", "3306", "27017"];
/// `appProtocol`s of Kubernetes that Istio knows.
const KUBERNETES_PROTOCOLS: [&str; 3] = ["kubernetes.io/h2c", "kubernetes.io/ws", "kubernetes.io/wss"];

/// Whether an object belongs to Istio itself.
pub(super) fn of_istio(resource: &Resource) -> bool {
    resource.labels.contains_key("istio") || resource.labels.get("release").is_some_and(|release| release == "istio")
}

/// Whether a namespace is of Kubernetes itself.
pub(super) fn of_system(namespace: &str) -> bool {
    SYSTEM.contains(&namespace)
}

fn text<'a>(node: &'a Node, key: &str) -> &'a str {
    node.get(key).and_then(Node::as_str).unwrap_or_default()
}

/// Whether Istio knows what a port speaks without looking at the bytes.
fn protocol_known(port: &Node) -> bool {
    let written = port.get("appProtocol").and_then(Node::as_str);
    let name = written.unwrap_or_else(|| text(port, "name")).to_lowercase();
    let first = name.split('-').next().unwrap_or_default();
    text(port, "protocol") == "UDP"
        || KUBERNETES_PROTOCOLS.contains(&name.as_str())
        || PROTOCOLS.contains(&first)
        || SERVER_FIRST.contains(&text(port, "port"))
}

/// Services that people own, with the ports that Istio must guess about.
fn ports<'a>(scene: &Scene<'a>) -> impl Iterator<Item = (&'a Resource, usize, &'a Node)> {
    let own = scene.mesh.of_kind(Kind::Service).filter(|one| !of_system(&one.id.namespace) && !of_istio(one));
    own.flat_map(|service| service.list("spec.ports").iter().enumerate().map(move |(at, port)| (service, at, port)))
}

fn external(service: &Resource) -> bool {
    service.text("spec.type") == Some("ExternalName")
}

fn port_names(scene: &Scene<'_>, found: &mut Found<'_>) {
    for (service, at, port) in ports(scene).filter(|(service, ..)| !external(service)) {
        if !protocol_known(port) {
            let number = text(port, "port");
            let what = match text(port, "name") {
                "" => format!("port {number} has no name that begins with a protocol"),
                name => format!("the name {name:?} of port {number} begins with no protocol"),
            };
            let message =
                format!("{what}: Istio guesses it from the first bytes, and TCP has neither routes nor HTTP metrics");
            found.at(service, &format!("spec.ports[{at}]"), message).fix("appProtocol: http");
        }
    }
}

fn external_names(scene: &Scene<'_>, found: &mut Found<'_>) {
    for (service, at, port) in ports(scene).filter(|(service, ..)| external(service)) {
        if !protocol_known(port) || text(port, "name") == "tcp" {
            let message = format!(
                "port {} is TCP towards an outside name: the proxy may not forward it; name the protocol, or tcp-something",
                text(port, "port")
            );
            found.at(service, &format!("spec.ports[{at}]"), message);
        }
    }
}

/// Deployments of the mesh with the services that lead to them.
fn served<'a>(scene: &Scene<'a>) -> Vec<(Workload<'a>, Vec<&'a Resource>)> {
    let deployments = scene
        .mesh
        .of_kind(Kind::Deployment)
        .filter(|one| one.labels.get("gateway.istio.io/managed").is_none_or(|by| by != "istio.io-mesh-controller"));
    let workloads = deployments.filter_map(Workload::of).filter(|one| scene.index.in_mesh(one));
    workloads
        .map(|one| {
            let services = scene.index.services_of(&one.resource.id.namespace, &one.labels);
            (one, services)
        })
        .filter(|(_, services)| services.len() > 1)
        .collect()
}

fn protocols(scene: &Scene<'_>, found: &mut Found<'_>) {
    for (workload, services) in served(scene) {
        let mut seen: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
        for service in services {
            for port in service.list("spec.ports") {
                let protocol = if text(port, "protocol").is_empty() { "TCP" } else { text(port, "protocol") };
                seen.entry(text(port, "port")).or_default().insert(protocol, &service.id.name);
            }
        }
        for (port, by) in seen.iter().filter(|(_, by)| by.len() > 1) {
            let said: Vec<String> = by.iter().map(|(protocol, service)| format!("{protocol} in {service}")).collect();
            let message = format!("port {port} is {}: the proxy takes one of them for all", said.join(" and "));
            found.at(workload.resource, "metadata.name", message);
        }
    }
}

fn target_ports(scene: &Scene<'_>, found: &mut Found<'_>) {
    for (workload, services) in served(scene) {
        let mut seen: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
        for service in services {
            for port in service.list("spec.ports") {
                let target = match text(port, "targetPort") {
                    "" | "0" => text(port, "port"),
                    target => target,
                };
                seen.entry(target).or_default().insert(text(port, "port"), &service.id.name);
            }
        }
        for (target, by) in seen.iter().filter(|(_, by)| by.len() > 1) {
            let said: Vec<String> = by.iter().map(|(port, service)| format!("{port} of {service}")).collect();
            let message = format!(
                "{} lead to its port {target}: policies and metrics there know only one of them",
                said.join(" and ")
            );
            found.at(workload.resource, "metadata.name", message);
        }
    }
}

fn conditions(scene: &Scene<'_>, found: &mut Found<'_>) {
    let kinds = [
        Kind::Service,
        Kind::ServiceEntry,
        Kind::AuthorizationPolicy,
        Kind::KubernetesGateway,
        Kind::HttpRoute,
        Kind::GrpcRoute,
        Kind::TcpRoute,
        Kind::TlsRoute,
    ];
    for resource in kinds.into_iter().flat_map(|kind| scene.mesh.of_kind(kind)) {
        let own = resource
            .list("status.conditions")
            .iter()
            .enumerate()
            .map(|(at, one)| (format!("status.conditions[{at}]"), one));
        let parents = resource.list("status.parents").iter().enumerate().flat_map(|(parent, node)| {
            let conditions = node.get("conditions").map(Node::items).unwrap_or_default().iter().enumerate();
            conditions.map(move |(at, one)| (format!("status.parents[{parent}].conditions[{at}]"), one))
        });
        let mut told = BTreeSet::new();
        for (field, one) in own.chain(parents) {
            let (kind, reason) = (text(one, "type"), text(one, "reason"));
            let foreign = kind.split_once('/').is_some_and(|(domain, _)| !domain.ends_with("istio.io"));
            let negative = text(one, "status") == "False" || reason == "PartiallyInvalid";
            if negative && !foreign && told.insert((kind, reason, text(one, "message"))) {
                let message = format!("{kind} is {} ({reason}): {}", text(one, "status"), text(one, "message"));
                found.at(resource, &field, message);
            }
        }
    }
}
