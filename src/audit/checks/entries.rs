//! ServiceEntries: TCP without addresses, and entries of one host that disagree.
//!
//! The conditions are those of istio's `serviceentry` analyzers.

use std::collections::{BTreeMap, BTreeSet};

use super::Check;
use crate::audit::{Found, Scene};
use crate::mesh::hosts::export_scopes;
use crate::mesh::{Kind, Resource};
use crate::model::Severity;
use crate::yaml::Node;

pub(super) const CHECKS: &[Check] = &[
    Check {
        code: "MS0212",
        severity: Severity::Warning,
        title: "a ServiceEntry of TCP without addresses",
        also: &["IST0134"],
        run: addresses,
    },
    Check {
        code: "MS0213",
        severity: Severity::Warning,
        title: "ServiceEntries of one host and port name different protocols",
        also: &["IST0177", "KIA1212"],
        run: protocols,
    },
];

fn addresses(scene: &Scene<'_>, found: &mut Found<'_>) {
    let set = |name: &str| {
        let value = scene.index.mesh_setting(&["defaultConfig", "proxyMetadata", name]);
        value.and_then(Node::as_str) == Some("true")
    };
    let captured = set("ISTIO_META_DNS_CAPTURE");
    let allocated = captured && set("ISTIO_META_DNS_AUTO_ALLOCATE");
    for entry in scene.mesh.of_kind(Kind::ServiceEntry) {
        let given = captured && !entry.list("status.addresses").is_empty();
        if allocated || given || !entry.list("spec.addresses").is_empty() {
            continue;
        }
        for (at, port) in entry.list("spec.ports").iter().enumerate() {
            let protocol = port.get("protocol").and_then(Node::as_str).unwrap_or_default();
            if protocol.is_empty() || protocol.eq_ignore_ascii_case("TCP") {
                let number = port.get("number").and_then(Node::as_str).unwrap_or("?");
                let message = format!(
                    "port {number} is TCP and the entry has no addresses: the proxy listens on 0.0.0.0:{number} and takes \
                     what goes to any other host on that port"
                );
                found
                    .at(entry, &format!("spec.ports[{at}]"), message)
                    .fix("addresses:\n- 240.0.0.1 # or protocol: TLS, HTTP, …");
            }
        }
    }
}

/// A protocol as an entry declares it, and the entry.
type Declared<'a> = (String, &'a Resource);

fn protocols(scene: &Scene<'_>, found: &mut Found<'_>) {
    let mut index: BTreeMap<(String, &str, &str), Vec<Declared<'_>>> = BTreeMap::new();
    for entry in scene.mesh.of_kind(Kind::ServiceEntry) {
        for scope in
            export_scopes(entry.list("spec.exportTo"), &entry.id.namespace).into_iter().collect::<BTreeSet<_>>()
        {
            for host in entry.list("spec.hosts").iter().filter_map(Node::as_str) {
                for port in entry.list("spec.ports") {
                    let number = port.get("number").and_then(Node::as_str).unwrap_or_default();
                    let protocol = port.get("protocol").and_then(Node::as_str).unwrap_or_default().to_uppercase();
                    index.entry((scope.clone(), host, number)).or_default().push((protocol, entry));
                }
            }
        }
    }
    let mut told = BTreeSet::new();
    for ((scope, host, port), own) in &index {
        let everywhere = if scope == "*" { None } else { index.get(&("*".to_owned(), *host, *port)) };
        let all: Vec<&Declared<'_>> = own.iter().chain(everywhere.into_iter().flatten()).collect();
        let named: BTreeSet<&str> = all.iter().map(|(protocol, _)| protocol.as_str()).collect();
        if named.len() < 2 {
            continue;
        }
        let named: Vec<&str> = named.into_iter().collect();
        let entries: BTreeSet<String> = all.iter().map(|(_, entry)| entry.id.to_string()).collect();
        let entries: Vec<String> = entries.into_iter().take(5).collect();
        for (_, entry) in all.iter().filter(|(_, entry)| told.insert(&entry.id)) {
            let message = format!(
                "{host}:{port} is {} in {}: which holds is left to chance",
                named.join(" and "),
                entries.join(", ")
            );
            found.at(entry, "spec.ports", message);
        }
    }
}
