//! DestinationRules: hosts that are not known, subsets without pods, servers that are not verified.
//!
//! The conditions are those of istio's `destinationrule` analyzers; subsets are looked for among the pods of the host's own
//! service, not of the whole cluster.

use std::collections::HashMap;

use super::Check;
use crate::audit::{Found, Scene};
use crate::mesh::select::{Labels, written};
use crate::mesh::{Kind, Resource};
use crate::model::Severity;
use crate::yaml::Node;

pub(super) const CHECKS: &[Check] = &[
    Check {
        code: "MS0301",
        severity: Severity::Info,
        title: "TLS to a host without saying who may sign for it",
        also: &["IST0128"],
        run: unverified,
    },
    Check {
        code: "MS0302",
        severity: Severity::Info,
        title: "TLS to a port without saying who may sign for it",
        also: &["IST0129"],
        run: unverified_ports,
    },
    Check {
        code: "MS0303",
        severity: Severity::Error,
        title: "a subset has no pods",
        also: &["IST0173", "KIA0203"],
        run: empty_subsets,
    },
    Check {
        code: "MS0304",
        severity: Severity::Warning,
        title: "a DestinationRule for a host that is not known",
        also: &["IST0174", "KIA0202"],
        run: hosts,
    },
];

/// The mode of TLS settings that take any certificate for good, if they do.
fn takes_any<'a>(rule: &Resource, tls: Option<&'a Node>) -> Option<&'a str> {
    let text = |key: &str| tls.and_then(|node| node.get(key)).and_then(Node::as_str).filter(|text| !text.is_empty());
    let mode = text("mode").filter(|mode| ["SIMPLE", "MUTUAL"].contains(mode))?;
    // A secret brings its own certificate authority, for the proxies that a selector names.
    let secret = text("credentialName").is_some() && rule.at("spec.workloadSelector").is_some();
    let wanted = text("insecureSkipVerify") == Some("true");
    (text("caCertificates").is_none() && !secret && !wanted).then_some(mode)
}

/// Since Istio 1.21 `VERIFY_CERTIFICATE_AT_CLIENT` is on unless it is turned off.
const BELIEVED: &str = "any public authority may have signed for the server, and before Istio 1.21 (or with \
     VERIFY_CERTIFICATE_AT_CLIENT=false) whoever answers is believed";
const FIX: &str = "tls:\n  mode: SIMPLE\n  caCertificates: /etc/ssl/certs/ca-certificates.crt # or \"system\"";

fn unverified(scene: &Scene<'_>, found: &mut Found<'_>) {
    for rule in scene.mesh.of_kind(Kind::DestinationRule) {
        if let Some(mode) = takes_any(rule, rule.at("spec.trafficPolicy.tls")) {
            let host = rule.text("spec.host").unwrap_or_default();
            let message = format!("TLS {mode} to {host} has no caCertificates: {BELIEVED}");
            found.at(rule, "spec.trafficPolicy.tls", message).fix(FIX);
        }
    }
}

fn unverified_ports(scene: &Scene<'_>, found: &mut Found<'_>) {
    for rule in scene.mesh.of_kind(Kind::DestinationRule) {
        for (at, port) in rule.list("spec.trafficPolicy.portLevelSettings").iter().enumerate() {
            let Some(mode) = takes_any(rule, port.get("tls")) else { continue };
            let host = rule.text("spec.host").unwrap_or_default();
            let number = port.get("port").and_then(|port| port.get("number")).and_then(Node::as_str).unwrap_or("?");
            let message = format!("TLS {mode} to {host}:{number} has no caCertificates: {BELIEVED}");
            found.at(rule, &format!("spec.trafficPolicy.portLevelSettings[{at}].tls"), message).fix(FIX);
        }
    }
}

fn hosts(scene: &Scene<'_>, found: &mut Found<'_>) {
    for rule in scene.mesh.of_kind(Kind::DestinationRule) {
        let host = rule.text("spec.host").unwrap_or_default();
        let hosts = &scene.index.hosts;
        if hosts.find(host, &rule.id.namespace, rule.list("spec.exportTo")).is_none() && !hosts.any_under(host) {
            let message = format!("no Service or ServiceEntry answers to {host}: the rule changes nothing");
            found.at(rule, "spec.host", message);
        }
    }
}

fn empty_subsets(scene: &Scene<'_>, found: &mut Found<'_>) {
    let mut entries: HashMap<&str, Vec<&Resource>> = HashMap::new();
    for entry in scene.mesh.of_kind(Kind::WorkloadEntry) {
        entries.entry(&entry.id.namespace).or_default().push(entry);
    }
    for rule in scene.mesh.of_kind(Kind::DestinationRule) {
        let host = rule.text("spec.host").unwrap_or_default();
        let target = scene.index.hosts.find(host, &rule.id.namespace, rule.list("spec.exportTo"));
        let Some(target) = target.map(|one| one.resource) else { continue };
        let path = if target.id.kind == Kind::Service { "spec.selector" } else { "spec.workloadSelector.labels" };
        for at in 0..rule.list("spec.subsets").len() {
            let mut labels: Labels = target.map(path);
            labels.extend(rule.map(&format!("spec.subsets[{at}].labels")));
            if labels.is_empty() || runs(scene, target, &labels, &entries) {
                continue;
            }
            let name = rule.text(&format!("spec.subsets[{at}].name")).unwrap_or_default();
            let message = format!(
                "no workload of {} has the labels {}: what is sent to the subset {name} gets 503 (UH, no healthy upstream)",
                target.id,
                written(&labels)
            );
            found.at(rule, &format!("spec.subsets[{at}]"), message);
        }
    }
}

/// Whether something of a service or service entry has these labels.
fn runs(scene: &Scene<'_>, target: &Resource, labels: &Labels, entries: &HashMap<&str, Vec<&Resource>>) -> bool {
    let endpoint = |node: &Node| {
        let own = node.get("labels").map(Node::entries).unwrap_or_default();
        labels.iter().all(|(key, value)| {
            own.iter().any(|(name, held)| name.as_str() == Some(key) && held.as_str() == Some(value))
        })
    };
    !scene.index.selected(labels, &target.id.namespace).is_empty()
        || target.list("spec.endpoints").iter().any(endpoint)
        || entries
            .get(target.id.namespace.as_str())
            .into_iter()
            .flatten()
            .any(|one| one.at("spec").is_some_and(endpoint))
}
