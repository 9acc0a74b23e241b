//! Ambient mode: what needs a waypoint and has none, and workloads that are in two modes at once.

use super::Check;
use super::kiali_context::{Workload, items, selector, service, workloads};
use crate::audit::{Found, Scene};
use crate::mesh::hosts::overlap;
use crate::mesh::select::written;
use crate::mesh::{Kind, Resource};
use crate::model::Severity;
use crate::yaml::Node;

/// Puts a namespace or pod into ambient mode (`ambient`), or out of it (`none`).
const MODE: &str = "istio.io/dataplane-mode";
/// Names the waypoint of a namespace, service or pod; `none`: it has none.
const WAYPOINT: &str = "istio.io/use-waypoint";
const WAYPOINT_NAMESPACE: &str = "istio.io/use-waypoint-namespace";
const INJECT: &str = "sidecar.istio.io/inject";

pub(super) const CHECKS: &[Check] = &[
    Check {
        code: "MS0850",
        severity: Severity::Warning,
        title: "what works on requests is declared in an ambient namespace without a waypoint",
        also: &["KIA0109", "KIA0210", "KIA0211", "KIA1109", "KIA1110", "KIA1111", "KIA1112", "KIA1113", "KIA1317"],
        run: without_waypoint,
    },
    Check {
        code: "MS0851",
        severity: Severity::Warning,
        title: "a policy of an ambient namespace that waypoints do not read",
        also: &["KIA0110", "KIA1115", "KIA1116", "KIA1117"],
        run: without_target,
    },
    Check {
        code: "MS0852",
        severity: Severity::Error,
        title: "a workload with a sidecar in ambient mode",
        also: &["KIA1311", "KIA1314", "KIA1315", "KIA1316"],
        run: two_modes,
    },
    Check {
        code: "MS0853",
        severity: Severity::Warning,
        title: "a waypoint is named by what is not in ambient mode",
        also: &["KIA1312"],
        run: waypoint_for_nothing,
    },
    Check {
        code: "MS0854",
        severity: Severity::Error,
        title: "a waypoint is named that is not declared",
        also: &["KIA1313"],
        run: missing_waypoint,
    },
    Check {
        code: "MS0855",
        severity: Severity::Warning,
        title: "rules for an ambient service stand in another namespace",
        also: &["KIA0212", "KIA1114"],
        run: elsewhere,
    },
    Check {
        code: "MS0856",
        severity: Severity::Warning,
        title: "a DestinationRule selects callers of a service behind a waypoint",
        also: &[],
        run: selects_callers,
    },
];

fn ambient(scene: &Scene<'_>, namespace: &str) -> bool {
    scene.index.namespace_label(namespace, MODE) == Some("ambient")
}

fn has_waypoint(scene: &Scene<'_>, namespace: &str) -> bool {
    let own = scene.index.namespace_label(namespace, WAYPOINT).is_some_and(|name| name != "none");
    let by_service =
        |one: &Resource| one.id.namespace == namespace && one.labels.get(WAYPOINT).is_some_and(|name| name != "none");
    own || scene.mesh.of_kind(Kind::Service).any(by_service)
}

/// Whether a policy works on requests, which ztunnel does not see.
fn on_requests(resource: &Resource) -> bool {
    match resource.id.kind {
        Kind::VirtualService => {
            let mesh = resource.list("spec.gateways").is_empty()
                || resource.list("spec.gateways").iter().any(|one| one.as_str() == Some("mesh"));
            mesh && !resource.list("spec.http").is_empty()
        }
        Kind::DestinationRule => ["connectionPool.http", "loadBalancer", "outlierDetection"]
            .iter()
            .any(|field| resource.at(&format!("spec.trafficPolicy.{field}")).is_some()),
        Kind::AuthorizationPolicy => resource.list("spec.rules").iter().any(rule_on_requests),
        Kind::Telemetry => !resource.list("spec.tracing").is_empty() || !resource.list("spec.metrics").is_empty(),
        Kind::RequestAuthentication | Kind::WasmPlugin => true,
        _ => false,
    }
}

fn rule_on_requests(rule: &Node) -> bool {
    let operation = |one: &Node| {
        one.get("operation")
            .is_some_and(|to| to.entries().iter().any(|(key, _)| !matches!(key.as_str(), Some("ports" | "notPorts"))))
    };
    let source = |one: &Node| {
        one.get("source")
            .is_some_and(|from| from.get("requestPrincipals").or(from.get("notRequestPrincipals")).is_some())
    };
    let condition = |one: &Node| one.get("key").and_then(Node::as_str).is_some_and(|key| key.starts_with("request."));
    items(rule, "to").iter().any(operation)
        || items(rule, "from").iter().any(source)
        || items(rule, "when").iter().any(condition)
}

const KINDS: [Kind; 6] = [
    Kind::AuthorizationPolicy,
    Kind::DestinationRule,
    Kind::RequestAuthentication,
    Kind::Telemetry,
    Kind::VirtualService,
    Kind::WasmPlugin,
];

fn of_requests<'a>(scene: &Scene<'a>, kinds: &'a [Kind]) -> impl Iterator<Item = &'a Resource> {
    let scene = *scene;
    kinds
        .iter()
        .flat_map(move |kind| scene.mesh.of_kind(*kind))
        .filter(move |one| ambient(&scene, &one.id.namespace) && on_requests(one))
}

fn without_waypoint(scene: &Scene<'_>, found: &mut Found<'_>) {
    for resource in of_requests(scene, &KINDS).filter(|one| !has_waypoint(scene, &one.id.namespace)) {
        let namespace = &resource.id.namespace;
        let refused = resource.id.kind == Kind::AuthorizationPolicy;
        let effect = if refused {
            "ztunnel cannot read requests, so its ALLOW rules never fit and its DENY rules fit every call"
        } else {
            "it has no effect"
        };
        found
            .at(resource, "", format!("namespace {namespace} is ambient and has no waypoint: {effect}"))
            .fix(format!("kind: Namespace\nmetadata:\n  name: {namespace}\n  labels:\n    {WAYPOINT}: waypoint"));
    }
}

fn without_target(scene: &Scene<'_>, found: &mut Found<'_>) {
    const POLICIES: [Kind; 4] =
        [Kind::AuthorizationPolicy, Kind::RequestAuthentication, Kind::Telemetry, Kind::WasmPlugin];
    for resource in
        of_requests(scene, &POLICIES).filter(|one| selector(one).is_some() && one.list("spec.targetRefs").is_empty())
    {
        found
            .at(
                resource,
                "spec.selector",
                "waypoints read only policies with targetRefs: this one, which selects pods, has no effect on requests",
            )
            .fix("targetRefs:\n- kind: Service\n  group: \"\"\n  name: NAME");
    }
}

fn pod_text<'a>(workload: &Workload<'a>, label: &str) -> Option<&'a str> {
    let template = workload.pod.strip_suffix("spec").unwrap_or_default().trim_end_matches('.');
    let node = if template.is_empty() { Some(&workload.resource.root) } else { workload.resource.at(template) };
    let metadata = node?.get("metadata")?;
    ["labels", "annotations"].iter().find_map(|part| metadata.get(part)?.get(label)?.as_str())
}

fn two_modes(scene: &Scene<'_>, found: &mut Found<'_>) {
    for workload in workloads(scene).iter().filter(|one| !one.pod.is_empty()) {
        let resource = workload.resource;
        let containers =
            ["containers", "initContainers"].iter().flat_map(|part| resource.list(&format!("{}.{part}", workload.pod)));
        let runs = containers.filter_map(|one| one.get("name")?.as_str()).any(|name| name == "istio-proxy");
        let sidecar = runs || pod_text(workload, INJECT) == Some("true");
        let mode = pod_text(workload, MODE);
        let (own, around) = (mode == Some("ambient"), mode.is_none() && ambient(scene, &resource.id.namespace));
        if sidecar && (own || around) {
            let message =
                "has a sidecar and is marked for ambient mode: the sidecar wins, and ztunnel leaves the pod out";
            let severity = if own { Severity::Error } else { Severity::Warning };
            found.at(resource, "", message).severity(severity).fix(format!("labels:\n  {MODE}: none"));
        }
    }
}

fn waypoint_for_nothing(scene: &Scene<'_>, found: &mut Found<'_>) {
    let declared = |namespace: &str| scene.mesh.get(Kind::Namespace, "", namespace).is_some();
    let off = |namespace: &str| declared(namespace) && !ambient(scene, namespace);
    for workload in workloads(scene).iter().filter(|one| one.labels.contains_key(WAYPOINT)) {
        if off(&workload.resource.id.namespace) && workload.labels.get(MODE).map(String::as_str) != Some("ambient") {
            found.at(
                workload.resource,
                "",
                format!("has the label {WAYPOINT} and is not in ambient mode: the waypoint is not used"),
            );
        }
    }
    for namespace in
        scene.mesh.of_kind(Kind::Namespace).filter(|one| one.labels.get(WAYPOINT).is_some_and(|name| name != "none"))
    {
        if !ambient(scene, &namespace.id.name) {
            found.at(
                namespace,
                "metadata.labels",
                format!(
                    "has the label {WAYPOINT} and is not in ambient mode: its own workloads do not use the waypoint"
                ),
            );
        }
    }
}

fn missing_waypoint(scene: &Scene<'_>, found: &mut Found<'_>) {
    for kind in [Kind::Namespace, Kind::Service, Kind::Pod] {
        for resource in scene.mesh.of_kind(kind) {
            let Some(name) = resource.labels.get(WAYPOINT).filter(|name| *name != "none") else { continue };
            let own = if kind == Kind::Namespace { &resource.id.name } else { &resource.id.namespace };
            let namespace = resource.labels.get(WAYPOINT_NAMESPACE).unwrap_or(own);
            let gateway = scene.mesh.get(Kind::KubernetesGateway, namespace, name);
            let class = gateway.and_then(|one| one.text("spec.gatewayClassName"));
            if !class.is_some_and(|class| class.ends_with("waypoint")) {
                let why = if gateway.is_none() { "is not declared" } else { "is not of the class istio-waypoint" };
                found.at(
                    resource,
                    "metadata.labels",
                    format!("the waypoint {namespace}/{name} {why}: rules on requests have no effect"),
                );
            }
        }
    }
}

fn elsewhere(scene: &Scene<'_>, found: &mut Found<'_>) {
    for (kind, field) in [(Kind::DestinationRule, "spec.host"), (Kind::VirtualService, "spec.hosts[0]")] {
        for resource in scene.mesh.of_kind(kind).filter(|one| on_requests(one)) {
            let Some(service) = resource.text(field).and_then(|host| service(scene, host, &resource.id.namespace))
            else {
                continue;
            };
            let place = &service.id.namespace;
            if *place != resource.id.namespace && ambient(scene, place) {
                found.at(
                    resource,
                    field,
                    format!(
                        "the waypoint of {place} reads only rules of namespace {place}: this one has no effect there"
                    ),
                );
            }
        }
    }
}

/// The waypoint asks for its own labels, not for those of who calls through it (istio's
/// `destinationrule.WaypointWorkloadSelectorAnalyzer`). Callers with sidecars read the rule themselves.
fn selects_callers(scene: &Scene<'_>, found: &mut Found<'_>) {
    for rule in scene.mesh.of_kind(Kind::DestinationRule) {
        let chosen = crate::mesh::effective::selector(rule);
        if chosen.is_empty() {
            continue;
        }
        let callers = scene.index.selected(&chosen, &rule.id.namespace);
        if !callers.is_empty() && callers.iter().all(|one| scene.index.in_mesh(one)) {
            continue;
        }
        let host = scene.host(rule, rule.text("spec.host").unwrap_or_default());
        let named = || scene.index.hosts.find(&host, &rule.id.namespace, rule.list("spec.exportTo"));
        let covered = || {
            let services = scene.mesh.of_kind(Kind::Service);
            services
                .filter(|one| overlap(&host, &scene.host(one, &one.id.name)))
                .find(|one| scene.index.waypoint(one).is_some())
        };
        let target = if host.starts_with('*') { covered() } else { named().map(|one| one.resource) };
        let Some((namespace, waypoint)) = target.and_then(|one| scene.index.waypoint(one)) else { continue };
        let message = format!(
            "calls to {host} from ambient workloads are made by the waypoint {namespace}/{waypoint}, which has not the \
             labels {}: for them the rule has no effect",
            written(&chosen)
        );
        let fix = "# one rule for all callers, in the namespace of the service: take workloadSelector out";
        found.at(rule, "spec.workloadSelector", message).fix(fix);
    }
}
