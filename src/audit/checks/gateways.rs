//! Istio Gateways: pods that are not there, ports that no service opens, servers and certificates that collide.
//!
//! The conditions are those of istio's `gateway` analyzers.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Check;
use crate::audit::traffic::names;
use crate::audit::{Found, Scene};
use crate::mesh::hosts::HostMap;
use crate::mesh::select::{Labels, Workload, selects, written};
use crate::mesh::{Kind, Resource, ResourceId};
use crate::model::Severity;
use crate::yaml::Node;

pub(super) const CHECKS: &[Check] = &[
    Check {
        code: "MS0105",
        severity: Severity::Error,
        title: "a gateway selects no workload",
        also: &["IST0101", "KIA0302"],
        run: no_pods,
    },
    Check {
        code: "MS0106",
        severity: Severity::Error,
        title: "a gateway names a certificate that is not there",
        also: &["IST0101"],
        run: credentials,
    },
    Check {
        code: "MS0209",
        severity: Severity::Error,
        title: "two gateways listen for one host on one port",
        also: &["IST0145", "KIA0301"],
        run: conflicts,
    },
    Check {
        code: "MS0210",
        severity: Severity::Warning,
        title: "a gateway listens on a port that no service opens",
        also: &["IST0162"],
        run: ports,
    },
    Check {
        code: "MS0211",
        severity: Severity::Warning,
        title: "two gateways share a certificate",
        also: &["IST0138"],
        run: certificates,
    },
    Check {
        code: "MS0215",
        severity: Severity::Error,
        title: "a gateway's secret lacks what its TLS needs",
        also: &["IST0161"],
        run: secrets,
    },
];

/// Ports of the ingress gateway that comes with Istio.
const DEFAULT_PORTS: [u32; 5] = [15021, 80, 443, 15012, 15443];

/// Pods of a gateway.
pub(super) struct Pods {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) labels: Labels,
    ports: Vec<u32>,
}

/// The pods that a gateway selects, in any namespace. When the selector means Istio's own ingress gateway and that is not
/// among the objects (it comes with the platform), it is taken as installed.
pub(super) fn pods(scene: &Scene<'_>, gateway: &Resource) -> Vec<Pods> {
    let selector = gateway.map("spec.selector");
    let mut all: Vec<Pods> = scene
        .index
        .selected_anywhere(&selector)
        .into_iter()
        .map(|workload| {
            let id = &workload.resource.id;
            let services = scene.index.services_of(&id.namespace, &workload.labels);
            let tcp = |port: &&Node| port.get("protocol").and_then(Node::as_str).unwrap_or("TCP") == "TCP";
            let open = |port: &Node| opened(port, workload);
            let ports = services.iter().flat_map(|one| one.list("spec.ports")).filter(tcp).flat_map(open).collect();
            Pods { namespace: id.namespace.clone(), name: id.to_string(), labels: workload.labels.clone(), ports }
        })
        .collect();
    let own: Labels = [("app", "istio-ingressgateway"), ("istio", "ingressgateway")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
    if all.is_empty() && selects(&selector, &own) {
        all.push(Pods {
            namespace: scene.index.root_namespace.clone(),
            name: "istio-ingressgateway".to_owned(),
            labels: own,
            ports: DEFAULT_PORTS.to_vec(),
        });
    }
    all
}

/// The numbers under which a gateway may name a port of a Service of its pods: istiod turns the Service's own into that of
/// the pods, and takes any other for one that the pods listen on.
fn opened(port: &Node, pods: &Workload<'_>) -> Vec<u32> {
    let text = |key: &str| port.get(key).and_then(Node::as_str);
    let of_name = |name: &str| pods.port_named(name).map(u32::from);
    let target = text("targetPort").and_then(|target| target.parse().ok().or_else(|| of_name(target)));
    text("port").and_then(|port| port.parse().ok()).into_iter().chain(target).collect()
}

fn no_pods(scene: &Scene<'_>, found: &mut Found<'_>) {
    for gateway in scene.mesh.of_kind(Kind::Gateway) {
        let selector = gateway.map("spec.selector");
        if pods(scene, gateway).is_empty() && !scene.index.beyond(&selector, None) {
            let selector = written(&selector);
            found.at(
                gateway,
                "spec.selector",
                format!("no workload has the labels {selector}: nobody listens for this gateway"),
            );
        }
    }
}

fn ports(scene: &Scene<'_>, found: &mut Found<'_>) {
    for gateway in scene.mesh.of_kind(Kind::Gateway) {
        let pods = pods(scene, gateway);
        let open: BTreeSet<u32> = pods.iter().flat_map(|one| one.ports.iter().copied()).collect();
        for at in 0..gateway.list("spec.servers").len() {
            let field = format!("spec.servers[{at}].port.number");
            let Some(port) = gateway.text(&field).and_then(|text| text.parse::<u32>().ok()) else { continue };
            if !pods.is_empty() && !open.contains(&port) {
                let message = match open.is_empty() {
                    true => format!("no Service leads to the gateway's pods: nobody outside reaches port {port}"),
                    false => format!("no Service of the gateway's pods opens port {port}: nobody outside reaches it"),
                };
                let protocol = gateway.text(&format!("spec.servers[{at}].port.protocol")).unwrap_or("http");
                let opened = format!("ports:\n- name: {}-{port}\n  port: {port}", protocol.to_ascii_lowercase());
                let named = names(pods.iter().map(|one| one.name.clone()));
                let note = found.at(gateway, &field, message).seen(format!("pods: {named}"));
                if open.is_empty() {
                    note.fix(whole_service(
                        &gateway.id.name,
                        &pods[0].namespace,
                        &gateway.map("spec.selector"),
                        &opened,
                    ));
                } else {
                    let open = names(open.iter().map(u32::to_string));
                    note.seen(format!("ports that are open: {open}"))
                        .fix(format!("# of the Service, beside the others\n{opened}"));
                }
            }
        }
    }
}

/// A Service with these ports for the pods of a gateway.
fn whole_service(name: &str, namespace: &str, selector: &Labels, ports: &str) -> String {
    let labels: String = selector.iter().map(|(key, value)| format!("    {key}: {value:?}\n")).collect();
    let selector = if labels.is_empty() { "  selector: {}\n".to_owned() } else { format!("  selector:\n{labels}") };
    let ports = ports.replace('\n', "\n  ");
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  namespace: {namespace}\nspec:\n{selector}  {ports}"
    )
}

fn credentials(scene: &Scene<'_>, found: &mut Found<'_>) {
    // Files without a single secret come from people who keep them elsewhere.
    if scene.mesh.of_kind(Kind::Secret).next().is_none() {
        return;
    }
    for gateway in scene.mesh.of_kind(Kind::Gateway) {
        let namespaces: BTreeSet<String> = pods(scene, gateway).into_iter().map(|one| one.namespace).collect();
        for at in 0..gateway.list("spec.servers").len() {
            let field = format!("spec.servers[{at}].tls.credentialName");
            let Some(name) = gateway.text(&field).filter(|name| !name.is_empty()) else { continue };
            let name = name.strip_prefix("kubernetes://").unwrap_or(name);
            let there = |namespace: &String| match name.split_once('/') {
                Some((namespace, name)) => scene.mesh.get(Kind::Secret, namespace, name).is_some(),
                None => scene.mesh.get(Kind::Secret, namespace, name).is_some(),
            };
            if !namespaces.is_empty() && !namespaces.iter().any(there) {
                let places: Vec<&str> = namespaces.iter().map(String::as_str).collect();
                let message = format!(
                    "there is no Secret {name} in the namespace of the gateway's pods ({}): TLS fails",
                    places.join(", ")
                );
                found.at(gateway, &field, message);
            }
        }
    }
}

/// The name of the first key that a server of that TLS mode needs and a secret does not have; its values are not known.
fn missing(scene: &Scene<'_>, secret: &Resource, mode: &str) -> Option<&'static str> {
    let has = |secret: &Resource, key: &str| {
        let held = ["data", "stringData"].into_iter().filter_map(|part| secret.root.get(part));
        held.flat_map(Node::entries).any(|(name, _)| name.as_str() == Some(key))
    };
    let pair = |certificate: &str, key: &str| has(secret, certificate) && has(secret, key);
    if !pair("tls.crt", "tls.key") && !pair("cert", "key") {
        return Some(if has(secret, "tls.crt") { "tls.key" } else { "tls.crt" });
    }
    let authority = |one: &Resource| has(one, "ca.crt") || has(one, "cacert");
    let beside = scene.mesh.get(Kind::Secret, &secret.id.namespace, &format!("{}-cacert", secret.id.name));
    let asks_clients = ["MUTUAL", "OPTIONAL_MUTUAL"].contains(&mode);
    (asks_clients && !authority(secret) && !beside.is_some_and(authority)).then_some("ca.crt")
}

/// Of secrets the names of their keys are known and no values: whether a certificate is valid is not judged.
fn secrets(scene: &Scene<'_>, found: &mut Found<'_>) {
    for gateway in scene.mesh.of_kind(Kind::Gateway) {
        let namespaces: BTreeSet<String> = pods(scene, gateway).into_iter().map(|one| one.namespace).collect();
        for at in 0..gateway.list("spec.servers").len() {
            let field = format!("spec.servers[{at}].tls.credentialName");
            let Some(name) = gateway.text(&field).filter(|name| !name.is_empty()) else { continue };
            let name = name.strip_prefix("kubernetes://").unwrap_or(name);
            let mode = gateway.text(&format!("spec.servers[{at}].tls.mode")).unwrap_or("SIMPLE");
            let there = |namespace: &String| match name.split_once('/') {
                Some((namespace, name)) => scene.mesh.get(Kind::Secret, namespace, name),
                None => scene.mesh.get(Kind::Secret, namespace, name),
            };
            let Some(secret) = namespaces.iter().find_map(there) else { continue };
            let Some(key) = missing(scene, secret, mode) else { continue };
            let then = match key {
                "ca.crt" => "no certificate of a client can be verified, so every handshake fails",
                _ => "the server has no certificate to show, so every handshake fails",
            };
            let message = format!("{} has no key {key}, which {mode} needs: {then}", secret.id);
            found.at(gateway, &field, message).fix(format!(
                "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {}\n  namespace: {}\nstringData:\n  {key}: # in PEM",
                secret.id.name, secret.id.namespace
            ));
        }
    }
}

/// The namespace part of a server's host (`*` when none is written) and the host.
fn scoped<'a>(written: &'a str, gateway: &'a Resource) -> (&'a str, &'a str) {
    match written.split_once('/') {
        None => ("*", written),
        Some((".", host)) => (&gateway.id.namespace, host),
        Some(pair) => pair,
    }
}

fn conflicts(scene: &Scene<'_>, found: &mut Found<'_>) {
    let mut servers: HashMap<&str, HostMap<(&str, &Resource)>> = HashMap::new();
    for gateway in scene.mesh.of_kind(Kind::Gateway) {
        for server in gateway.list("spec.servers") {
            let Some(port) = port(server) else { continue };
            for host in server.get("hosts").map(Node::items).unwrap_or_default().iter().filter_map(Node::as_str) {
                let (namespace, host) = scoped(host, gateway);
                servers.entry(port).or_default().insert(host, (namespace, gateway));
            }
        }
    }
    let selectors: HashMap<&ResourceId, Labels> =
        scene.mesh.of_kind(Kind::Gateway).map(|one| (&one.id, one.map("spec.selector"))).collect();
    // What has all labels of one has those of the other.
    let same_pods = |one: &Resource, other: &Resource| {
        let (one, other) = (&selectors[&one.id], &selectors[&other.id]);
        selects(one, other) || selects(other, one)
    };
    for gateway in scene.mesh.of_kind(Kind::Gateway) {
        for (at, server) in gateway.list("spec.servers").iter().enumerate() {
            let Some(port) = port(server) else { continue };
            let Some(all) = servers.get(port) else { continue };
            let mut others: BTreeMap<String, &str> = BTreeMap::new();
            for written in server.get("hosts").map(Node::items).unwrap_or_default().iter().filter_map(Node::as_str) {
                let (own, host) = scoped(written, gateway);
                for (namespace, other) in all.meeting(host) {
                    let together = own == "*" || *namespace == "*" || own == *namespace;
                    if other.id != gateway.id && together && same_pods(gateway, other) {
                        others.insert(other.id.to_string(), host);
                    }
                }
            }
            if !others.is_empty() {
                let named: Vec<&str> = others.keys().take(5).map(String::as_str).collect();
                let hosts: BTreeSet<&str> = others.values().copied().collect();
                let hosts: Vec<&str> = hosts.into_iter().take(5).collect();
                let message = format!(
                    "{} listen{} for {} on port {port} of the same pods: of two that differ (TLS, protocol) one is ignored",
                    named.join(", "),
                    if others.len() == 1 { "s" } else { "" },
                    hosts.join(", ")
                );
                found.at(gateway, &format!("spec.servers[{at}]"), message);
            }
        }
    }
}

fn port(server: &Node) -> Option<&str> {
    server.get("port")?.get("number")?.as_str()
}

/// What names a server's certificate: a secret, or its files.
fn certificate(server: &Node) -> Option<String> {
    let text = |key: &str| server.get("tls")?.get(key)?.as_str().filter(|text| !text.is_empty());
    match (text("credentialName"), text("serverCertificate"), text("privateKey")) {
        (Some(name), ..) => Some(name.to_owned()),
        (None, Some(certificate), Some(key)) => Some(format!("{certificate} with {key}")),
        _ => None,
    }
}

fn certificates(scene: &Scene<'_>, found: &mut Found<'_>) {
    let mut users: HashMap<String, Vec<&Resource>> = HashMap::new();
    for gateway in scene.mesh.of_kind(Kind::Gateway) {
        for certificate in gateway.list("spec.servers").iter().filter_map(certificate).collect::<BTreeSet<_>>() {
            users.entry(certificate).or_default().push(gateway);
        }
    }
    for gateway in scene.mesh.of_kind(Kind::Gateway) {
        let selector = gateway.map("spec.selector");
        for (at, server) in gateway.list("spec.servers").iter().enumerate() {
            let Some(certificate) = certificate(server) else { continue };
            let Some(all) = users.get(&certificate) else { continue };
            let mut others = all.iter().filter(|other| other.id != gateway.id);
            if let Some(other) = others.find(|other| selects(&selector, &other.map("spec.selector"))) {
                let message = format!(
                    "{} shows the certificate {certificate} too: browsers that reuse an HTTP/2 connection for both get 404",
                    other.id
                );
                found.at(gateway, &format!("spec.servers[{at}].tls"), message);
            }
        }
    }
}
