//! Selectors of policies, Telemetries and Sidecars: those that choose nothing, and two that choose the same.
//!
//! The conditions are those of istio's `authz`, `telemetry`, `sidecar` and `k8sgateway` analyzers. Besides pods, what makes
//! pods counts as a workload, as files rarely hold pods.

use std::collections::{BTreeMap, BTreeSet};

use super::Check;
use crate::audit::{Found, Scene};
use crate::mesh::effective::{selector, targeted};
use crate::mesh::select::{Labels, selects, written};
use crate::mesh::{Kind, Resource};
use crate::model::Severity;
use crate::yaml::Node;

pub(super) const CHECKS: &[Check] = &[
    Check::new(
        "MS0104",
        Severity::Error,
        "a policy names a namespace that is not there",
        &["IST0101", "KIA0101"],
        namespaces,
    ),
    Check::new("MS0107", Severity::Error, "a Telemetry selects no workload", &["IST0101", "KIA0004"], idle_telemetries),
    Check::new(
        "MS0108",
        Severity::Warning,
        "an AuthorizationPolicy selects no workload",
        &["IST0127", "KIA0004"],
        idle_policies,
    ),
    Check::new("MS0109", Severity::Error, "a Sidecar selects no workload", &["IST0101", "KIA0004"], idle_sidecars),
    Check::new(
        "MS0603",
        Severity::Error,
        "two Telemetries of a namespace select all of it",
        &["IST0160", "KIA0002"],
        wide_telemetries,
    ),
    Check::new(
        "MS0604",
        Severity::Error,
        "two Telemetries select one workload",
        &["IST0159", "KIA0003"],
        rival_telemetries,
    ),
    Check::new(
        "MS0605",
        Severity::Error,
        "two Sidecars of a namespace select all of it",
        &["IST0111", "KIA0002"],
        wide_sidecars,
    ),
    Check::new("MS0606", Severity::Error, "two Sidecars select one workload", &["IST0110", "KIA0003"], rival_sidecars),
    Check::new("MS0607", Severity::Warning, "a Sidecar for workloads that have none", &["IST0167"], ambient_sidecars),
    Check::new(
        "MS0613",
        Severity::Warning,
        "a selector for pods of a Kubernetes Gateway",
        &["IST0166"],
        gateway_selectors,
    ),
];

/// Where the labels of a kind's selector stand.
fn selector_path(kind: Kind) -> &'static str {
    if kind == Kind::Sidecar { "spec.workloadSelector.labels" } else { "spec.selector.matchLabels" }
}

fn namespaces(scene: &Scene<'_>, found: &mut Found<'_>) {
    let known: BTreeSet<&str> = scene.mesh.of_kind(Kind::Namespace).map(|one| one.id.name.as_str()).collect();
    let there = |written: &str| match (written.strip_prefix('*'), written.strip_suffix('*')) {
        (Some(""), _) => true,
        (Some(end), _) => known.iter().any(|name| name.ends_with(end)),
        (None, Some(start)) => known.range(start..).next().is_some_and(|name| name.starts_with(start)),
        (None, None) => known.contains(written),
    };
    for policy in scene.mesh.of_kind(Kind::AuthorizationPolicy) {
        for (rule, node) in policy.list("spec.rules").iter().enumerate() {
            for (at, from) in node.get("from").map(Node::items).unwrap_or_default().iter().enumerate() {
                for key in ["namespaces", "notNamespaces"] {
                    let listed = from.get("source").and_then(|source| source.get(key)).map(Node::items);
                    for (number, name) in listed.unwrap_or_default().iter().enumerate() {
                        let Some(name) = name.as_str().filter(|name| !there(name)) else { continue };
                        let field = format!("spec.rules[{rule}].from[{at}].source.{key}[{number}]");
                        found.at(
                            policy,
                            &field,
                            format!("there is no Namespace {name}: this part of the rule holds for nobody"),
                        );
                    }
                }
            }
        }
    }
}

fn idle_policies(scene: &Scene<'_>, found: &mut Found<'_>) {
    for policy in scene.mesh.of_kind(Kind::AuthorizationPolicy).filter(|policy| !targeted(policy)) {
        let labels = selector(policy);
        let wide = policy.id.namespace == scene.index.root_namespace;
        if wide && policy.at("spec.selector").is_none() {
            continue;
        }
        let chosen = if wide {
            scene.index.selected_anywhere(&labels)
        } else {
            scene.index.selected(&labels, &policy.id.namespace)
        };
        let place = (!wide).then_some(policy.id.namespace.as_str());
        if chosen.iter().any(|one| scene.index.meshed(one)) || scene.index.beyond(&labels, place) {
            continue;
        }
        let place = if wide { String::new() } else { format!(" in namespace {}", policy.id.namespace) };
        let message = match written(&labels).as_str() {
            "" => format!("no workload of the mesh runs{place}: the policy protects nothing"),
            labels => format!("no workload of the mesh{place} has the labels {labels}: the policy protects nothing"),
        };
        found.at(policy, selector_path(Kind::AuthorizationPolicy), message);
    }
}

fn idle_telemetries(scene: &Scene<'_>, found: &mut Found<'_>) {
    idle(scene, found, Kind::Telemetry);
}

fn idle_sidecars(scene: &Scene<'_>, found: &mut Found<'_>) {
    idle(scene, found, Kind::Sidecar);
}

fn idle(scene: &Scene<'_>, found: &mut Found<'_>, kind: Kind) {
    for resource in scene.mesh.of_kind(kind).filter(|one| !targeted(one)) {
        let labels = selector(resource);
        let nobody = scene.index.selected(&labels, &resource.id.namespace).is_empty();
        if !labels.is_empty() && nobody && !scene.index.beyond(&labels, Some(&resource.id.namespace)) {
            let (namespace, labels) = (&resource.id.namespace, written(&labels));
            let message =
                format!("no workload of namespace {namespace} has the labels {labels}: this holds for nothing");
            found.at(resource, selector_path(kind), message);
        }
    }
}

fn wide_telemetries(scene: &Scene<'_>, found: &mut Found<'_>) {
    wide(scene, found, Kind::Telemetry);
}

fn wide_sidecars(scene: &Scene<'_>, found: &mut Found<'_>) {
    wide(scene, found, Kind::Sidecar);
}

/// The check that says which of several objects of a kind wins.
fn told_by(kind: Kind) -> &'static str {
    if kind == Kind::Sidecar { "MS0905" } else { "MS0903" }
}

/// Objects of a kind that hold for all of their namespace.
fn wide(scene: &Scene<'_>, found: &mut Found<'_>, kind: Kind) {
    let mut by_namespace: BTreeMap<&str, Vec<&Resource>> = BTreeMap::new();
    for resource in scene.mesh.of_kind(kind).filter(|one| selector(one).is_empty() && !targeted(one)) {
        by_namespace.entry(&resource.id.namespace).or_default().push(resource);
    }
    for (namespace, all) in by_namespace.iter().filter(|(_, all)| all.len() > 1) {
        for resource in all {
            let others = all.iter().filter(|one| one.id != resource.id).take(5).map(|one| one.id.name.as_str());
            let others: Vec<&str> = others.collect();
            let message = format!(
                "{} of namespace {namespace} has no selector either: only one of them holds (see {})",
                others.join(", "),
                told_by(kind)
            );
            found.at(resource, "metadata.name", message);
        }
    }
}

fn rival_telemetries(scene: &Scene<'_>, found: &mut Found<'_>) {
    rivals(scene, found, Kind::Telemetry);
}

fn rival_sidecars(scene: &Scene<'_>, found: &mut Found<'_>) {
    rivals(scene, found, Kind::Sidecar);
}

/// Objects of a kind whose selectors choose one workload; each is told of once.
fn rivals(scene: &Scene<'_>, found: &mut Found<'_>, kind: Kind) {
    let mut chosen: BTreeMap<String, Vec<&Resource>> = BTreeMap::new();
    for resource in scene.mesh.of_kind(kind).filter(|one| !targeted(one)) {
        let labels = selector(resource);
        if labels.is_empty() {
            continue;
        }
        for workload in scene.index.selected(&labels, &resource.id.namespace) {
            chosen.entry(workload.resource.id.to_string()).or_default().push(resource);
        }
    }
    let mut told = BTreeSet::new();
    for (workload, all) in chosen.iter().filter(|(_, all)| all.len() > 1) {
        for resource in all.iter().filter(|one| told.insert(&one.id)) {
            let others = all.iter().filter(|one| one.id != resource.id).take(5).map(|one| one.id.name.as_str());
            let others: Vec<&str> = others.collect();
            let message = format!(
                "{} selects {workload} too: only one of them holds for it (see {})",
                others.join(", "),
                told_by(kind)
            );
            found.at(resource, selector_path(kind), message);
        }
    }
}

/// In ambient mode workloads have no sidecar that a Sidecar could set up.
fn ambient_sidecars(scene: &Scene<'_>, found: &mut Found<'_>) {
    for sidecar in scene.mesh.of_kind(Kind::Sidecar) {
        let labels = selector(sidecar);
        let namespace = &sidecar.id.namespace;
        let ambient = scene.index.ambient_namespace(namespace);
        let chosen = scene.index.selected(&labels, namespace);
        let message = if labels.is_empty() && ambient {
            format!("namespace {namespace} is in ambient mode: its workloads have no sidecars to set up")
        } else if !labels.is_empty() && chosen.iter().any(|one| one.ambient()) {
            "it selects workloads in ambient mode, which have no sidecar to set up".to_owned()
        } else {
            continue;
        };
        found.at(sidecar, "", message);
    }
}

const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

/// Gateways of the Gateway API whose pods a policy's selector chooses: those that run, and those that istiod will make.
fn gateways_chosen(scene: &Scene<'_>, labels: &Labels, namespace: &str) -> BTreeSet<String> {
    let running = scene.index.selected(labels, namespace);
    let running = running.iter().filter_map(|one| one.labels.get(GATEWAY_NAME).cloned());
    let made = scene.index.generated.iter().filter(|one| one.gateway.id.namespace == namespace);
    let made = made.filter(|one| selects(labels, &one.labels)).map(|one| one.gateway.id.name.clone());
    running.chain(made).collect()
}

fn gateway_selectors(scene: &Scene<'_>, found: &mut Found<'_>) {
    for kind in [Kind::AuthorizationPolicy, Kind::RequestAuthentication, Kind::Telemetry, Kind::WasmPlugin] {
        for policy in scene.mesh.of_kind(kind).filter(|one| !targeted(one)) {
            let labels = selector(policy);
            if labels.is_empty() {
                continue;
            }
            for name in gateways_chosen(scene, &labels, &policy.id.namespace) {
                let gateway = scene.mesh.get(Kind::KubernetesGateway, &policy.id.namespace, &name);
                let waypoint = gateway.and_then(|one| one.text("spec.gatewayClassName")) == Some("istio-waypoint");
                let (message, severity) = match waypoint {
                    true => (
                        format!(
                            "the selector chooses pods of the waypoint {name}, which reads only policies that name it or a service: this one does nothing there"
                        ),
                        Severity::Warning,
                    ),
                    false => (
                        format!(
                            "the selector chooses pods of the Kubernetes Gateway {name}: they take it only as long as istiod runs with ENABLE_SELECTOR_BASED_K8S_GATEWAY_POLICY, which is on today"
                        ),
                        Severity::Info,
                    ),
                };
                let fix = format!("targetRefs:\n- group: gateway.networking.k8s.io\n  kind: Gateway\n  name: {name}");
                found.at(policy, "spec.selector", message).fix(fix).severity(severity);
            }
        }
    }
}
