//! What istiod's webhook takes and warns of: fields that do less, or more, than they seem to.
//!
//! The conditions are those of istio's validation (`pkg/config/validation`), whose warnings `kubectl apply` prints once and
//! `istioctl analyze` tells as IST0133. Deprecated fields that have their own check (MS0208) are not here.

use std::collections::BTreeSet;

use super::Check;
use crate::audit::{Found, Scene};
use crate::mesh::{Kind, Resource};
use crate::model::Severity;
use crate::yaml::Node;

pub(super) const CHECKS: &[Check] =
    &[Check::new("MS0616", Severity::Warning, "istiod takes it with a warning", &["IST0133"], warned)];

/// Suites of TLS 1.2 that istiod hands to Envoy; others it leaves out (`pkg/config/security`, `ValidCipherSuites`).
const CIPHER_SUITES: [&str; 15] = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
    "DES-CBC3-SHA",
];

/// Whether istiod hands it on: all is, and what begins with an operator of a cipher string is not looked into.
fn is_suite(name: &str) -> bool {
    let operator = name.starts_with(|first: char| !first.is_alphanumeric());
    matches!(name, "" | "ALL") || operator || CIPHER_SUITES.contains(&name)
}

fn warned(scene: &Scene<'_>, found: &mut Found<'_>) {
    for rule in scene.mesh.of_kind(Kind::DestinationRule) {
        old_settings(rule, found);
    }
    for gateway in scene.mesh.of_kind(Kind::Gateway) {
        suites(gateway, found);
    }
    for telemetry in scene.mesh.of_kind(Kind::Telemetry) {
        several(telemetry, found);
    }
    for policy in scene.mesh.of_kind(Kind::AuthorizationPolicy) {
        denies_tcp(scene, policy, found);
    }
    for entry in scene.mesh.of_kind(Kind::ServiceEntry) {
        service_entry(entry, found);
    }
    selectors(scene, found);
}

fn service_entry(entry: &Resource, found: &mut Found<'_>) {
    let resolution = entry.text("spec.resolution").unwrap_or("NONE");
    if resolution == "NONE" && entry.at("spec.workloadSelector").is_some() {
        let message = "resolution is NONE, so calls go to the address that the caller has: the workloads that are selected get none";
        found.at(entry, "spec.workloadSelector", message).fix("resolution: STATIC");
    }
    let hosts = entry.list("spec.hosts").len();
    let is_tcp = |port: &&Node| {
        let protocol = port.get("protocol").and_then(Node::as_str).unwrap_or_default();
        ["TCP", "MONGO", "REDIS", "MYSQL"].contains(&protocol.to_ascii_uppercase().as_str())
    };
    let tcp = entry.list("spec.ports").iter().find(is_tcp).and_then(|port| port.get("number")?.as_str());
    if let Some(port) = tcp
        && resolution.starts_with("DNS")
        && hosts > 1
        && !entry.list("spec.addresses").is_empty()
    {
        let message = format!(
            "{hosts} hosts share its addresses, and TCP at port {port} does not say which of them is meant: calls reach any of them"
        );
        found.at(entry, "spec.hosts", message);
    }
}

/// The paths of all traffic policies of a rule.
fn traffic_policies(rule: &Resource) -> Vec<String> {
    let subsets = (0..rule.list("spec.subsets").len()).map(|at| format!("spec.subsets[{at}].trafficPolicy"));
    let whole: Vec<String> = std::iter::once("spec.trafficPolicy".to_owned()).chain(subsets).collect();
    let ports = |path: &String| {
        let listed = format!("{path}.portLevelSettings");
        (0..rule.list(&listed).len()).map(move |at| format!("{listed}[{at}]")).collect::<Vec<_>>()
    };
    whole.iter().cloned().chain(whole.iter().flat_map(ports)).collect()
}

fn old_settings(rule: &Resource, found: &mut Found<'_>) {
    for policy in traffic_policies(rule) {
        let field = format!("{policy}.outlierDetection.consecutiveErrors");
        if let Some(errors) = rule.text(&field) {
            let message = "consecutiveErrors is deprecated, and newer versions of istiod do not read it: hosts are then \
                           ejected after 5 errors in a row, whatever it says";
            found.at(rule, &field, message).fix(format!("outlierDetection:\n  consecutive5xxErrors: {errors}"));
        }
        let field = format!("{policy}.loadBalancer.consistentHash.minimumRingSize");
        if let Some(size) = rule.text(&field) {
            let message = "minimumRingSize is deprecated: a version of istiod without it makes rings of 1024 points";
            found.at(rule, &field, message).fix(format!("consistentHash:\n  ringHash:\n    minimumRingSize: {size}"));
        }
    }
}

fn suites(gateway: &Resource, found: &mut Found<'_>) {
    for at in 0..gateway.list("spec.servers").len() {
        let path = format!("spec.servers[{at}].tls.cipherSuites");
        let oldest = format!("spec.servers[{at}].tls.minProtocolVersion");
        if let Some(version @ ("TLSV1_0" | "TLSV1_1")) = gateway.text(&oldest)
            && gateway.list(&path).is_empty()
        {
            let message = format!(
                "{version} is let in, but the suites that are offered by default are none of TLS below 1.2: its clients fail"
            );
            let fix = "tls:\n  cipherSuites: [ECDHE-RSA-AES128-SHA, ECDHE-RSA-AES256-SHA] # beside those of TLS 1.2";
            found.at(gateway, &oldest, message).fix(fix);
        }
        let listed: Vec<&str> = gateway.list(&path).iter().filter_map(Node::as_str).collect();
        let mut seen = BTreeSet::new();
        for (place, suite) in listed.iter().enumerate() {
            let field = format!("{path}[{place}]");
            if !is_suite(suite) {
                let rest = match listed.iter().any(|one| is_suite(one)) {
                    true => "it is left out of those that are offered",
                    false => "no suite of the list is left, so Envoy's own are offered",
                };
                found.at(gateway, &field, format!("{suite} is no cipher suite that istiod knows: {rest}"));
            } else if !seen.insert(*suite) {
                found.at(gateway, &field, format!("{suite} is listed twice: the second time it is left out"));
            }
        }
    }
}

fn several(telemetry: &Resource, found: &mut Found<'_>) {
    let tracing = telemetry.list("spec.tracing");
    if tracing.len() > 1 {
        let message = format!(
            "there are {} entries of tracing and istiod supports one: which of them sets sampling and provider is not defined",
            tracing.len()
        );
        found.at(telemetry, "spec.tracing", message);
    }
    for (at, one) in tracing.iter().enumerate() {
        let providers = one.get("providers").map(Node::items).unwrap_or_default();
        let names: Vec<&str> = providers.iter().filter_map(|one| one.get("name")?.as_str()).collect();
        if let [first, .., last] = names[..] {
            let message = format!(
                "{} providers of tracing are named and istiod supports one: spans go to {first} only, not to {last}",
                names.len()
            );
            let field = format!("spec.tracing[{at}].providers");
            found.at(telemetry, &field, message).fix(format!("tracing:\n- providers:\n  - name: {first}"));
        }
    }
}

/// A selector without labels is one that chooses everything, and hardly meant.
fn selectors(scene: &Scene<'_>, found: &mut Found<'_>) {
    const KINDS: [(Kind, &str, &str); 9] = [
        (Kind::EnvoyFilter, "spec.workloadSelector", "labels"),
        (Kind::Sidecar, "spec.workloadSelector", "labels"),
        (Kind::ServiceEntry, "spec.workloadSelector", "labels"),
        (Kind::ProxyConfig, "spec.selector", "matchLabels"),
        (Kind::AuthorizationPolicy, "spec.selector", "matchLabels"),
        (Kind::RequestAuthentication, "spec.selector", "matchLabels"),
        (Kind::PeerAuthentication, "spec.selector", "matchLabels"),
        (Kind::Telemetry, "spec.selector", "matchLabels"),
        (Kind::WasmPlugin, "spec.selector", "matchLabels"),
    ];
    for (kind, field, labels) in KINDS {
        for one in scene.mesh.of_kind(kind) {
            if one.at(field).is_some() && one.map(&format!("{field}.{labels}")).is_empty() {
                let whom = match one.id.namespace == scene.index.root_namespace {
                    true => "all workloads of the mesh".to_owned(),
                    false => format!("all workloads of namespace {}", one.id.namespace),
                };
                found.at(one, field, format!("its selector has no labels: it holds for {whom}"));
            }
        }
    }
}

/// What a rule of a DENY leaves of itself on a TCP port, where HTTP's attributes are left out (istiod's own condition).
enum OnTcp {
    /// Nothing but all connections.
    All,
    /// The callers that it names, whatever they ask for.
    Callers,
}

fn on_tcp(rule: &Node) -> Option<OnTcp> {
    let inside = |list: &'static str, key: &'static str| -> Vec<&Node> {
        let all = rule.get(list).map(Node::items).unwrap_or_default().iter();
        all.filter_map(|one| one.get(key)).collect()
    };
    let has =
        |nodes: &[&Node], names: &[&str]| nodes.iter().any(|node| names.iter().any(|name| node.get(name).is_some()));
    let (from, to) = (inside("from", "source"), inside("to", "operation"));
    let callers = [
        "principals",
        "notPrincipals",
        "namespaces",
        "notNamespaces",
        "serviceAccounts",
        "notServiceAccounts",
        "ipBlocks",
        "notIpBlocks",
        "remoteIpBlocks",
        "notRemoteIpBlocks",
    ];
    let (names_callers, names_ports) = (has(&from, &callers), has(&to, &["ports", "notPorts"]));
    match (from.is_empty(), to.is_empty()) {
        (false, true) if !names_callers => Some(OnTcp::All),
        (_, false) if !names_ports => Some(if names_callers { OnTcp::Callers } else { OnTcp::All }),
        _ => None,
    }
}

/// A port of a service that does not speak HTTP.
fn is_tcp(port: &Node) -> bool {
    let text = |key: &str| port.get(key).and_then(Node::as_str);
    let name = text("appProtocol").or(text("name")).unwrap_or_default();
    let protocol = name.split('-').next().unwrap_or_default();
    text("protocol").unwrap_or("TCP") == "TCP"
        && ["tcp", "tls", "mongo", "mysql", "redis"].contains(&protocol.to_ascii_lowercase().as_str())
}

fn denies_tcp(scene: &Scene<'_>, policy: &Resource, found: &mut Found<'_>) {
    if policy.text("spec.action") != Some("DENY") || crate::mesh::effective::targeted(policy) {
        return;
    }
    let rules = policy.list("spec.rules").iter().map(on_tcp).enumerate();
    let Some((at, left)) = rules.filter_map(|(at, left)| Some((at, left?))).next() else { return };
    let chosen = policy.map("spec.selector.matchLabels");
    let wide = policy.id.namespace == scene.index.root_namespace;
    let chosen = match wide {
        true => scene.index.selected_anywhere(&chosen),
        false => scene.index.selected(&chosen, &policy.id.namespace),
    };
    let services = chosen.iter().flat_map(|one| scene.index.services_of(&one.resource.id.namespace, &one.labels));
    let mut ports: BTreeSet<String> = BTreeSet::new();
    for service in services {
        for port in service.list("spec.ports").iter().filter(|port| is_tcp(port)) {
            let number = port.get("port").and_then(Node::as_str).unwrap_or("?");
            ports.insert(format!("{}/{}:{number}", service.id.namespace, service.id.name));
        }
    }
    let field = format!("spec.rules[{at}]");
    let fix =
        "rules:\n- to:\n  - operation:\n      ports: [\"8080\"] # those that speak HTTP, beside what the rule has";
    let (why, connections) = match left {
        OnTcp::All => {
            ("this rule of a DENY asks only for what requests have, which TCP connections have not", "every connection")
        }
        OnTcp::Callers => (
            "this rule of a DENY asks for what requests have, which is left out where a connection is TCP",
            "every connection of the callers that it names",
        ),
    };
    if ports.is_empty() {
        let message = format!("{why}: should a port of these workloads speak TCP, {connections} to it is refused");
        found.at(policy, &field, message).severity(Severity::Info).fix(fix);
    } else {
        let message = format!("{why}: {connections} to their TCP ports is refused");
        found.at(policy, &field, message).seen(format!("TCP ports: {}", crate::audit::traffic::names(ports))).fix(fix);
    }
}
