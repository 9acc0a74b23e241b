//! Things of several kinds that go wrong without a word: exports, weights, entries, sidecars, ports, open doors, secrets.

use std::collections::{BTreeMap, HashMap};

use super::Check;
use super::kiali_context::{items, namespaces, registered, texts, word, workloads};
use crate::audit::mask::looks_secret;
use crate::audit::{Found, Scene};
use crate::mesh::select::selects;
use crate::mesh::{Kind, Resource};
use crate::model::Severity;
use crate::yaml::Node;

pub(super) const CHECKS: &[Check] = &[
    Check {
        code: "MS0150",
        severity: Severity::Error,
        title: "an object is exported to a namespace that is not there",
        also: &["KIA0005"],
        run: exports,
    },
    Check {
        code: "MS0250",
        severity: Severity::Warning,
        title: "a weight that is not kept, for there is one destination",
        also: &["KIA1104"],
        run: single_weight,
    },
    Check {
        code: "MS0251",
        severity: Severity::Warning,
        title: "two destinations of a route are the same",
        also: &["KIA1105"],
        run: repeated_subset,
    },
    Check {
        code: "MS0252",
        severity: Severity::Info,
        title: "a gateway is named in the old way",
        also: &["KIA1108"],
        run: old_gateway_name,
    },
    Check {
        code: "MS0253",
        severity: Severity::Warning,
        title: "two service entries have one host and port",
        also: &["KIA1211"],
        run: entries,
    },
    Check {
        code: "MS0255",
        severity: Severity::Info,
        title: "a gateway takes every host of every namespace",
        also: &[],
        run: broad_hosts,
    },
    Check {
        code: "MS0256",
        severity: Severity::Warning,
        title: "a gateway takes versions of TLS that are broken",
        also: &[],
        run: old_tls,
    },
    Check {
        code: "MS0350",
        severity: Severity::Info,
        title: "a subset without labels is the whole service",
        also: &["KIA0209"],
        run: subset_labels,
    },
    Check {
        code: "MS0650",
        severity: Severity::Warning,
        title: "a Sidecar lets through a host that is not there",
        also: &["KIA1004"],
        run: sidecar_hosts,
    },
    Check {
        code: "MS0651",
        severity: Severity::Warning,
        title: "the Sidecar of the mesh selects workloads",
        also: &["KIA1006"],
        run: root_sidecar,
    },
    Check {
        code: "MS0652",
        severity: Severity::Info,
        title: "a Sidecar's policy for outbound traffic says no mode",
        also: &["KIA1007"],
        run: ambiguous_mode,
    },
    Check {
        code: "MS0750",
        severity: Severity::Error,
        title: "an application protocol that the mesh does not know",
        also: &["KIA0602"],
        run: app_protocols,
    },
    Check {
        code: "MS0751",
        severity: Severity::Warning,
        title: "a service calls a port that its workload does not declare",
        also: &["KIA0701"],
        run: target_ports,
    },
    Check {
        code: "MS0752",
        severity: Severity::Warning,
        title: "two workload groups of a namespace have the same labels",
        also: &["KIA1702"],
        run: groups,
    },
    Check {
        code: "MS0753",
        severity: Severity::Warning,
        title: "a secret stands in a ConfigMap or a variable, for all to read",
        also: &[],
        run: secrets,
    },
];

fn exports(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(known) = namespaces(scene) else { return };
    for kind in [Kind::VirtualService, Kind::DestinationRule, Kind::ServiceEntry] {
        for resource in scene.mesh.of_kind(kind) {
            let names = resource.list("spec.exportTo").iter().enumerate();
            for (at, name) in names.filter_map(|(at, one)| Some((at, one.as_str()?))) {
                if !matches!(name, "." | "*" | "~") && !known.contains(name) {
                    let message = format!("there is no namespace {name}: nobody there sees this object");
                    found.at(resource, &format!("spec.exportTo[{at}]"), message);
                }
            }
        }
    }
}

/// The routes of a VirtualService, each with its path.
fn routes(resource: &Resource) -> impl Iterator<Item = (String, &[Node])> {
    ["http", "tcp", "tls"].into_iter().flat_map(move |kind| {
        let list = resource.list(&format!("spec.{kind}")).iter().enumerate();
        list.map(move |(at, route)| (format!("spec.{kind}[{at}].route"), items(route, "route")))
    })
}

fn single_weight(scene: &Scene<'_>, found: &mut Found<'_>) {
    for resource in scene.mesh.of_kind(Kind::VirtualService) {
        for (path, route) in routes(resource) {
            let [only] = route else { continue };
            if let Some(weight) = word(only, "weight").filter(|weight| !matches!(*weight, "0" | "100")) {
                let message = format!("the only destination takes all calls, not {weight} of 100: is one missing?");
                found.at(resource, &format!("{path}[0].weight"), message);
            }
        }
    }
}

fn repeated_subset(scene: &Scene<'_>, found: &mut Found<'_>) {
    for resource in scene.mesh.of_kind(Kind::VirtualService) {
        for (path, route) in routes(resource) {
            let key = |one: &Node| {
                let to = one.get("destination");
                let text = |name: &str| to.and_then(|to| word(to, name)).map(str::to_owned);
                (text("host"), text("subset"), to.and_then(|to| word(to.get("port")?, "number")).map(str::to_owned))
            };
            for (at, one) in route.iter().enumerate() {
                if route[..at].iter().any(|other| key(other) == key(one)) {
                    let message = "the same host and subset stand in this route already: their weights add up";
                    found.at(resource, &format!("{path}[{at}].destination"), message);
                }
            }
        }
    }
}

fn old_gateway_name(scene: &Scene<'_>, found: &mut Found<'_>) {
    for resource in scene.mesh.of_kind(Kind::VirtualService) {
        let names = resource.list("spec.gateways").iter().enumerate();
        for (at, name) in names.filter_map(|(at, one)| Some((at, one.as_str()?))) {
            if let Some((short, rest)) = name.split_once('.').filter(|_| !name.contains('/')) {
                let namespace = rest.split('.').next().unwrap_or_default();
                found
                    .at(
                        resource,
                        &format!("spec.gateways[{at}]"),
                        "gateways are named namespace/name: host names are an old form",
                    )
                    .fix(format!("- {namespace}/{short}"));
            }
        }
    }
}

/// What a service entry is seen by: hosts of two that nobody sees both of do not meet.
fn everywhere(entry: &Resource) -> bool {
    let to = entry.list("spec.exportTo");
    to.is_empty() || to.iter().any(|one| one.as_str() == Some("*"))
}

/// Those of two protocols are told by MS0213.
fn entries(scene: &Scene<'_>, found: &mut Found<'_>) {
    let mut first: HashMap<(String, String), (&Resource, String)> = HashMap::new();
    for entry in scene.mesh.of_kind(Kind::ServiceEntry) {
        for (at, host) in entry.list("spec.hosts").iter().enumerate().filter_map(|(at, one)| Some((at, one.as_str()?)))
        {
            for port in entry.list("spec.ports") {
                let Some(number) = word(port, "number") else { continue };
                let protocol = word(port, "protocol").unwrap_or("TCP").to_uppercase();
                let place = if everywhere(entry) { "" } else { entry.id.namespace.as_str() };
                let known =
                    first.entry((format!("{place}/{host}"), number.to_owned())).or_insert((entry, protocol.clone()));
                if known.0.id == entry.id || known.1 != protocol {
                    continue;
                }
                let message = format!("{} has port {number} of {host} already: only one of them counts", known.0.id);
                found.at(entry, &format!("spec.hosts[{at}]"), message);
            }
        }
    }
}

fn servers(resource: &Resource) -> impl Iterator<Item = (String, &Node)> {
    resource.list("spec.servers").iter().enumerate().map(|(at, one)| (format!("spec.servers[{at}]"), one))
}

fn broad_hosts(scene: &Scene<'_>, found: &mut Found<'_>) {
    for gateway in scene.mesh.of_kind(Kind::Gateway) {
        for (path, server) in servers(gateway) {
            for (at, host) in texts(server, "hosts").filter(|(_, host)| matches!(*host, "*" | "*/*")) {
                let message = format!(
                    "{host:?} lets any namespace put any host on this gateway: a route there can take over the calls of others"
                );
                found.at(gateway, &format!("{path}.hosts[{at}]"), message);
            }
        }
    }
}

fn old_tls(scene: &Scene<'_>, found: &mut Found<'_>) {
    for gateway in scene.mesh.of_kind(Kind::Gateway) {
        for (path, server) in servers(gateway) {
            let Some(version) = server.get("tls").and_then(|tls| word(tls, "minProtocolVersion")) else { continue };
            if matches!(version, "TLSV1_0" | "TLSV1_1") {
                found
                    .at(
                        gateway,
                        &format!("{path}.tls.minProtocolVersion"),
                        format!("{version} has been withdrawn (RFC 8996): what it carries can be read"),
                    )
                    .fix("minProtocolVersion: TLSV1_2");
            }
        }
    }
}

fn subset_labels(scene: &Scene<'_>, found: &mut Found<'_>) {
    for rule in scene.mesh.of_kind(Kind::DestinationRule) {
        for (at, subset) in rule.list("spec.subsets").iter().enumerate() {
            if subset.get("labels").is_none_or(|labels| labels.entries().is_empty()) {
                found.at(rule, &format!("spec.subsets[{at}]"), "has no labels: it stands for every pod of the service");
            }
        }
    }
}

fn sidecar_hosts(scene: &Scene<'_>, found: &mut Found<'_>) {
    if scene.mesh.of_kind(Kind::Service).next().is_none() {
        return;
    }
    for sidecar in scene.mesh.of_kind(Kind::Sidecar) {
        for (at, egress) in sidecar.list("spec.egress").iter().enumerate() {
            for (index, written) in texts(egress, "hosts") {
                let Some((namespace, host)) = written.split_once('/') else { continue };
                let own = if namespace == "." { sidecar.id.namespace.as_str() } else { namespace };
                if !host.contains('*') && namespace != "~" && !registered(scene, host, own) {
                    let message = format!("no service or service entry has the host {host}: workloads cannot call it");
                    found.at(sidecar, &format!("spec.egress[{at}].hosts[{index}]"), message);
                }
            }
        }
    }
}

fn root_sidecar(scene: &Scene<'_>, found: &mut Found<'_>) {
    let root = &scene.options.root_namespace;
    for sidecar in scene.mesh.of_kind(Kind::Sidecar).filter(|one| one.id.namespace == *root) {
        if !sidecar.map("spec.workloadSelector.labels").is_empty() {
            let message = format!(
                "in {root} a Sidecar is the default of the mesh; with a selector it holds for workloads of {root} only"
            );
            found.at(sidecar, "spec.workloadSelector", message);
        }
    }
}

fn ambiguous_mode(scene: &Scene<'_>, found: &mut Found<'_>) {
    for sidecar in scene.mesh.of_kind(Kind::Sidecar) {
        if let Some(policy) = sidecar.at("spec.outboundTrafficPolicy").filter(|one| word(one, "mode").is_none()) {
            let _ = policy;
            found
                .at(
                    sidecar,
                    "spec.outboundTrafficPolicy",
                    "without a mode this is REGISTRY_ONLY, whatever the mesh says: calls to unknown hosts fail",
                )
                .fix("outboundTrafficPolicy:\n  mode: REGISTRY_ONLY");
        }
    }
}

fn app_protocols(scene: &Scene<'_>, found: &mut Found<'_>) {
    const KNOWN: [&str; 14] = [
        "grpc",
        "grpc-web",
        "http",
        "http2",
        "https",
        "http-proxy",
        "hbone",
        "mongo",
        "mysql",
        "redis",
        "tcp",
        "tls",
        "udp",
        "http_proxy",
    ];
    for service in scene.mesh.of_kind(Kind::Service) {
        for (at, port) in service.list("spec.ports").iter().enumerate() {
            let Some(protocol) = word(port, "appProtocol") else { continue };
            let known = protocol.contains('/') || KNOWN.iter().any(|one| protocol.eq_ignore_ascii_case(one));
            if !known {
                let message = format!(
                    "{protocol:?} is no protocol that Istio knows: the port carries plain TCP, without metrics of requests"
                );
                found.at(service, &format!("spec.ports[{at}].appProtocol"), message);
            }
        }
    }
}

/// A named port that no container has leads nowhere; a number need not be declared, but then it is often a slip.
fn target_ports(scene: &Scene<'_>, found: &mut Found<'_>) {
    let workloads = workloads(scene);
    for service in scene.mesh.of_kind(Kind::Service) {
        let wanted = service.map("spec.selector");
        let near = |one: &&super::kiali_context::Workload<'_>| {
            one.resource.id.namespace == service.id.namespace && !one.pod.is_empty() && selects(&wanted, &one.labels)
        };
        let selected: Vec<_> = workloads.iter().filter(near).collect();
        if wanted.is_empty() || selected.is_empty() {
            continue;
        }
        let declared: Vec<&Node> = selected
            .iter()
            .flat_map(|one| one.resource.list(&format!("{}.containers", one.pod)))
            .flat_map(|container| items(container, "ports"))
            .collect();
        for (at, port) in service.list("spec.ports").iter().enumerate().filter(|_| !declared.is_empty()) {
            let Some(target) = word(port, "targetPort").or(word(port, "port")) else { continue };
            let there = |one: &&Node| word(one, "containerPort") == Some(target) || word(one, "name") == Some(target);
            if !declared.iter().any(there) && !opened_by_gateway(scene, &selected[0].labels, target) {
                let message = format!(
                    "no container of {} declares port {target}: calls may find nobody listening",
                    selected[0].resource.id
                );
                found.at(service, &format!("spec.ports[{at}]"), message);
            }
        }
    }
}

/// Whether an Istio Gateway makes pods with these labels listen on a port: none of their containers need declare it.
fn opened_by_gateway(scene: &Scene<'_>, labels: &BTreeMap<String, String>, port: &str) -> bool {
    scene.mesh.of_kind(Kind::Gateway).any(|gateway| {
        let mut servers = gateway.list("spec.servers").iter().filter_map(|one| one.get("port"));
        selects(&gateway.map("spec.selector"), labels) && servers.any(|one| word(one, "number") == Some(port))
    })
}

fn groups(scene: &Scene<'_>, found: &mut Found<'_>) {
    let all: Vec<&Resource> = scene.mesh.of_kind(Kind::WorkloadGroup).collect();
    for (at, group) in all.iter().enumerate() {
        let labels = group.map("spec.template.labels");
        let same = |other: &&&Resource| {
            other.id.namespace == group.id.namespace && other.map("spec.template.labels") == labels
        };
        if let Some(other) = all[..at].iter().find(same).filter(|_| !labels.is_empty()) {
            found.at(
                group,
                "spec.template.labels",
                format!("{} has the same labels: its machines and these cannot be told apart", other.id),
            );
        }
    }
}

fn secrets(scene: &Scene<'_>, found: &mut Found<'_>) {
    for map in scene.mesh.of_kind(Kind::ConfigMap) {
        for (key, value) in map.at("data").map(Node::entries).unwrap_or_default() {
            let (Some(key), Some(text)) = (key.as_str(), value.as_str()) else { continue };
            if looks_secret(key, text) {
                let message =
                    format!("{key:?} looks like a secret (its value is not shown): whoever may read ConfigMaps has it");
                found.at(map, "data", message).fix("kind: Secret");
            }
        }
    }
    for workload in workloads(scene).iter().filter(|one| !one.pod.is_empty()) {
        let containers = format!("{}.containers", workload.pod);
        for (at, container) in workload.resource.list(&containers).iter().enumerate() {
            for (index, variable) in items(container, "env").iter().enumerate() {
                let (Some(name), Some(value)) = (word(variable, "name"), word(variable, "value")) else { continue };
                if looks_secret(name, value) {
                    let message = format!(
                        "the variable {name} looks like a secret (its value is not shown): it stands in every copy of this object"
                    );
                    found
                        .at(workload.resource, &format!("{containers}[{at}].env[{index}]"), message)
                        .fix(format!("- name: {name}\n  valueFrom:\n    secretKeyRef: {{name: NAME, key: KEY}}"));
                }
            }
        }
    }
}
