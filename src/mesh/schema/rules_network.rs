//! What fields of Istio's networking kinds must be together: routes, weights, TLS, endpoints.
//!
//! Sources: `pkg/config/validation/virtualservice.go`, `validation.go`, `gateway.go` of istiod, and the CEL rules of the CRDs.

use std::collections::HashSet;

use super::text;
use crate::yaml::Node;

type Said = Vec<(String, String)>;

fn say(said: &mut Said, path: &str, message: &str) {
    said.push((path.to_owned(), message.to_owned()));
}

fn has(node: &Node, name: &str) -> bool {
    node.get(name).is_some_and(|value| match &value.value {
        crate::yaml::Value::Null => false,
        crate::yaml::Value::Sequence(items) => !items.is_empty(),
        crate::yaml::Value::String(text) => !text.is_empty(),
        _ => true,
    })
}

fn list<'n>(node: &'n Node, name: &str) -> &'n [Node] {
    node.get(name).map(Node::items).unwrap_or_default()
}

fn word<'n>(node: &'n Node, name: &str) -> &'n str {
    node.get(name).and_then(Node::as_str).unwrap_or_default()
}

fn repeated(items: &[Node], name: &str) -> Option<(usize, String)> {
    let mut seen = HashSet::new();
    let texts = items.iter().enumerate().filter_map(|(at, item)| Some((at, item.get(name)?.as_str()?.to_owned())));
    texts.into_iter().find(|(_, text)| !seen.insert(text.clone()))
}

pub(super) fn export_to(node: &Node, said: &mut Said) {
    let all: Vec<&str> = list(node, "exportTo").iter().filter_map(Node::as_str).collect();
    if all.len() > 1 && all.iter().any(|one| matches!(*one, "*" | "~")) {
        say(said, "exportTo", "\"*\" and \"~\" must stand alone: they already speak of all namespaces");
    }
    let distinct: HashSet<&&str> = all.iter().collect();
    if distinct.len() != all.len() {
        say(said, "exportTo", "names a namespace twice");
    }
}

pub(super) fn virtual_service(node: &Node, said: &mut Said) {
    let hosts = list(node, "hosts");
    let gateways: Vec<&str> = list(node, "gateways").iter().filter_map(Node::as_str).collect();
    if !["http", "tcp", "tls"].iter().any(|name| has(node, name)) {
        say(said, "", "http, tcp or tls must be provided: this object routes nothing");
    }
    if hosts.is_empty() && !gateways.is_empty() {
        say(said, "gateways", "a delegate (a VirtualService without hosts) must have no gateways");
    }
    if hosts.is_empty() && (has(node, "tcp") || has(node, "tls")) {
        say(said, "", "hosts are missing; without them this is a delegate, which has only http routes");
    }
    if (gateways.is_empty() || gateways.contains(&"mesh"))
        && let Some(at) = hosts.iter().position(|host| host.as_str() == Some("*"))
    {
        let message = "wildcard host * is not allowed for virtual services bound to the mesh gateway";
        say(said, &format!("hosts[{at}]"), message);
    }
    let mut seen = HashSet::new();
    if let Some(at) = hosts.iter().position(|host| host.as_str().is_some_and(|host| !seen.insert(host))) {
        say(said, &format!("hosts[{at}]"), "duplicate hosts in virtual service: istiod refuses it");
    }
}

pub(super) fn http_route(node: &Node, said: &mut Said) {
    let given: Vec<&str> =
        ["route", "redirect", "directResponse", "delegate"].into_iter().filter(|name| has(node, name)).collect();
    if given.is_empty() {
        say(said, "", "an HTTP route needs one of route, redirect, directResponse, delegate");
    }
    if given.contains(&"route") && given.len() > 1 {
        say(said, given[1], &format!("an HTTP route cannot contain both route and {}", given[1]));
    }
    for name in ["fault", "rewrite"] {
        if has(node, "redirect") && has(node, name) {
            say(said, name, &format!("an HTTP route cannot contain both {name} and redirect"));
        }
    }
    weights(node, said);
}

/// The weights of the destinations: all zero takes no traffic at all; one of several without any counts as zero.
pub(super) fn weights(node: &Node, said: &mut Said) {
    let routes = list(node, "route");
    let weight = |route: &Node| route.get("weight").and_then(Node::as_str).map(|text| text.parse::<i64>().unwrap_or(1));
    if routes.len() > 1 && routes.iter().all(|route| weight(route).unwrap_or(0) == 0) {
        say(said, "route", "total destination weight = 0: istiod refuses it");
    }
}

pub(super) fn rewrite(node: &Node, said: &mut Said) {
    if !["uri", "authority", "uriRegexRewrite"].iter().any(|name| has(node, name)) {
        say(said, "", "rewrite must specify uri, uriRegexRewrite or authority");
    }
}

pub(super) fn retries(node: &Node, said: &mut Said) {
    if word(node, "attempts") == "0" && ["perTryTimeout", "retryOn"].iter().any(|name| has(node, name)) {
        say(
            said,
            "attempts",
            "retry policies with attempts set to 0 must have no other fields: nothing is tried again",
        );
    }
}

pub(super) fn delay(node: &Node, said: &mut Said) {
    if !has(node, "fixedDelay") && !has(node, "exponentialDelay") {
        say(said, "", "a delay needs fixedDelay: how long to wait is not said");
    }
}

pub(super) fn abort(node: &Node, said: &mut Said) {
    if !["httpStatus", "grpcStatus", "http2Error"].iter().any(|name| has(node, name)) {
        say(said, "", "an abort needs httpStatus or grpcStatus: what to answer is not said");
    }
}

pub(super) fn fault(node: &Node, said: &mut Said) {
    if !has(node, "delay") && !has(node, "abort") {
        say(said, "", "HTTP fault injection must have an abort and/or a delay");
    }
}

pub(super) fn locality(node: &Node, said: &mut Said) {
    for (at, one) in list(node, "distribute").iter().enumerate() {
        let parts = one.get("to").map(Node::entries).unwrap_or_default();
        let sum: i64 = parts.iter().filter_map(|(_, value)| value.as_str()?.parse::<i64>().ok()).sum();
        if sum != 100 {
            say(said, &format!("distribute[{at}].to"), &format!("total locality weight {sum} != 100"));
        }
    }
    for (at, one) in list(node, "failover").iter().enumerate() {
        if word(one, "from") == word(one, "to") {
            say(said, &format!("failover[{at}].to"), "locality lb failover settings must specify different regions");
        }
    }
}

pub(super) fn client_tls(node: &Node, said: &mut Said) {
    let files = ["clientCertificate", "privateKey", "caCertificates"];
    match word(node, "mode") {
        "ISTIO_MUTUAL" => {
            for name in files.iter().chain(&["sni", "subjectAltNames", "credentialName"]) {
                if has(node, name) && !matches!(*name, "sni" | "subjectAltNames") {
                    say(
                        said,
                        name,
                        &format!("ISTIO_MUTUAL cannot have associated {name}: istiod issues the certificates"),
                    );
                }
            }
        }
        "MUTUAL" if has(node, "credentialName") => {
            for name in files.iter().filter(|name| has(node, name)) {
                say(said, name, &format!("cannot specify {name} when credentialName is set"));
            }
        }
        "MUTUAL" => {
            for name in files[..2].iter().filter(|name| !has(node, name)) {
                say(said, "mode", &format!("{name} required for mutual tls (or a credentialName)"));
            }
        }
        _ => {}
    }
}

pub(super) fn subsets(node: &Node, said: &mut Said) {
    if let Some((at, name)) = repeated(list(node, "subsets"), "name") {
        say(said, &format!("subsets[{at}].name"), &format!("duplicate subset names: {name:?} is there already"));
    }
}

pub(super) fn server_tls(node: &Node, said: &mut Said) {
    let mode = word(node, "mode");
    let secret = ["credentialName", "credentialNames", "tlsCertificates"].iter().any(|name| has(node, name));
    if matches!(mode, "SIMPLE" | "MUTUAL" | "OPTIONAL_MUTUAL") && !secret {
        for name in ["serverCertificate", "privateKey"].iter().filter(|name| !has(node, name)) {
            say(said, "mode", &format!("{mode} TLS requires a {name} (or a credentialName)"));
        }
        if mode != "SIMPLE" && !has(node, "caCertificates") && !has(node, "caCertCredentialName") {
            say(said, "mode", &format!("{mode} TLS requires a client CA bundle (caCertificates or a credentialName)"));
        }
    }
    let versions = ["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"];
    let rank = |name: &str| versions.iter().position(|version| *version == word(node, name)).unwrap_or(0);
    if rank("maxProtocolVersion") != 0 && rank("minProtocolVersion") > rank("maxProtocolVersion") {
        say(said, "minProtocolVersion", "is above maxProtocolVersion: no client can connect");
    }
}

pub(super) fn server(node: &Node, said: &mut Said) {
    let Some(port) = node.get("port") else { return };
    let protocol = word(port, "protocol").to_uppercase();
    let secure = matches!(protocol.as_str(), "HTTPS" | "TLS");
    match node.get("tls") {
        None if secure => {
            let message = "server must have TLS settings for HTTPS/TLS protocols";
            say(said, "tls", message);
        }
        Some(tls) if !secure && word(tls, "httpsRedirect") != "true" && has(tls, "mode") && protocol != "TCP" => {
            say(said, "tls", "server cannot have TLS settings for non HTTPS/TLS ports: they have no effect");
        }
        Some(tls) if protocol != "HTTP" && word(tls, "httpsRedirect") == "true" => {
            say(said, "tls.httpsRedirect", "server protocol must be HTTP: there is nothing to redirect from");
        }
        _ => {}
    }
    let mut seen = HashSet::new();
    for (at, host) in list(node, "hosts").iter().enumerate() {
        if host.as_str().is_some_and(|host| !seen.insert(host)) {
            say(said, &format!("hosts[{at}]"), "duplicate host in server");
        }
    }
}

pub(super) fn gateway(node: &Node, said: &mut Said) {
    let mut seen = HashSet::new();
    for (at, server) in list(node, "servers").iter().enumerate() {
        let name = server.get("port").map(|port| word(port, "name")).unwrap_or_default();
        if !name.is_empty() && !seen.insert(name) {
            say(
                said,
                &format!("servers[{at}].port.name"),
                &format!("port names in servers must be unique: duplicate name {name}"),
            );
        }
    }
}

pub(super) fn workload_address(node: &Node, said: &mut Said) {
    if word(node, "address").starts_with("unix://")
        && node.get("ports").is_some_and(|ports| !ports.entries().is_empty())
    {
        say(said, "ports", "UDS may not include ports");
    }
}

pub(super) fn service_entry(node: &Node, said: &mut Said) {
    let ports = list(node, "ports");
    for name in ["name", "number"] {
        if let Some((at, text)) = repeated(ports, name) {
            say(
                said,
                &format!("ports[{at}].{name}"),
                &format!("Duplicate value: port {name} {text:?} is there already"),
            );
        }
    }
    let endpoints = list(node, "endpoints");
    let resolution = word(node, "resolution");
    match resolution {
        "" | "NONE" if !endpoints.is_empty() => {
            say(said, "endpoints", "NONE mode cannot set endpoints: they are never called")
        }
        "STATIC" if endpoints.is_empty() && !has(node, "workloadSelector") => {
            say(said, "resolution", "STATIC needs endpoints or a workloadSelector: there is nowhere to send calls to");
        }
        "DNS_ROUND_ROBIN" if endpoints.len() > 1 => {
            say(said, "endpoints", "DNS_ROUND_ROBIN mode cannot have multiple endpoints");
        }
        "DNS" | "DNS_ROUND_ROBIN" if endpoints.is_empty() => {
            let star = list(node, "hosts").iter().position(|host| host.as_str().is_some_and(|host| host.contains('*')));
            if let Some(at) = star {
                say(
                    said,
                    &format!("hosts[{at}]"),
                    "hosts must be full names for DNS resolution without endpoints: a wildcard cannot be asked for",
                );
            }
        }
        _ => {}
    }
    for (at, endpoint) in endpoints.iter().enumerate() {
        let address = word(endpoint, "address");
        if resolution == "STATIC"
            && !address.starts_with("unix://")
            && !address.is_empty()
            && text::address_or_range(address).is_some()
        {
            say(said, &format!("endpoints[{at}].address"), "must be an IP address for STATIC resolution, not a name");
        }
    }
    let range = |address: &Node| {
        address.as_str().is_some_and(|text| text.contains('/') && !text.ends_with("/32") && !text.ends_with("/128"))
    };
    if matches!(resolution, "DNS" | "DNS_ROUND_ROBIN")
        && let Some(at) = list(node, "addresses").iter().position(range)
    {
        say(said, &format!("addresses[{at}]"), "CIDR addresses are allowed only for NONE/STATIC resolution types");
    }
}
