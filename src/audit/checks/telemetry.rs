//! Telemetry, the mesh's own configuration, and what istiod is told by its environment.
//!
//! The conditions are those of istio's `telemetry`, `multicluster` and `authn` analyzers.

use std::collections::BTreeSet;

use super::Check;
use crate::audit::{Found, Scene};
use crate::mesh::Kind;
use crate::model::Severity;
use crate::yaml::Node;

pub(super) const CHECKS: &[Check] = &[
    Check {
        code: "MS0480",
        severity: Severity::Warning,
        title: "istiod fetches keys from any address",
        also: &["IST0175"],
        run: blocked_addresses,
    },
    Check {
        code: "MS0601",
        severity: Severity::Warning,
        title: "a Telemetry sets access logging without a provider",
        also: &["IST0157"],
        run: logging_providers,
    },
    Check {
        code: "MS0602",
        severity: Severity::Warning,
        title: "a Telemetry uses the Lightstep provider",
        also: &["IST0002"],
        run: lightstep,
    },
    Check {
        code: "MS0614",
        severity: Severity::Error,
        title: "a network takes endpoints from an unknown registry",
        also: &["IST0126"],
        run: registries,
    },
];

fn logging_providers(scene: &Scene<'_>, found: &mut Found<'_>) {
    let default = scene.index.mesh_setting(&["defaultProviders", "accessLogging"]).map(Node::items).unwrap_or_default();
    if !default.is_empty() {
        return;
    }
    for telemetry in scene.mesh.of_kind(Kind::Telemetry) {
        for (at, one) in telemetry.list("spec.accessLogging").iter().enumerate() {
            if one.get("providers").map(Node::items).unwrap_or_default().is_empty() {
                let message =
                    "neither this nor the mesh's defaultProviders name a provider: these settings are ignored";
                found.at(telemetry, &format!("spec.accessLogging[{at}]"), message).fix("providers:\n- name: envoy");
            }
        }
    }
}

fn lightstep(scene: &Scene<'_>, found: &mut Found<'_>) {
    let providers = scene.index.mesh_setting(&["extensionProviders"]).map(Node::items).unwrap_or_default();
    let own = providers.iter().filter(|one| one.get("lightstep").is_some());
    let names: BTreeSet<&str> = own.filter_map(|one| one.get("name")).filter_map(Node::as_str).collect();
    if names.is_empty() {
        return;
    }
    for telemetry in scene.mesh.of_kind(Kind::Telemetry) {
        for (at, tracing) in telemetry.list("spec.tracing").iter().enumerate() {
            for (number, one) in tracing.get("providers").map(Node::items).unwrap_or_default().iter().enumerate() {
                let Some(name) = one.get("name").and_then(Node::as_str).filter(|name| names.contains(name)) else {
                    continue;
                };
                let field = format!("spec.tracing[{at}].providers[{number}].name");
                let message =
                    format!("{name} is a Lightstep provider, which Envoy no longer has: use one of opentelemetry");
                found.at(telemetry, &field, message);
            }
        }
    }
}

fn registries(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some((map, networks)) = &scene.index.mesh_networks else { return };
    let mut known: BTreeSet<&str> = ["Mock", "Kubernetes", "External"].into();
    for secret in scene.mesh.of_kind(Kind::Secret) {
        if secret.labels.get("istio/multiCluster").is_some_and(|value| value == "true") {
            let keys = ["data", "stringData"].into_iter().filter_map(|part| secret.at(part)).flat_map(Node::entries);
            known.extend(keys.filter_map(|(key, _)| key.as_str()));
        }
    }
    for (network, node) in networks.get("networks").map(Node::entries).unwrap_or_default() {
        for endpoint in node.get("endpoints").map(Node::items).unwrap_or_default() {
            let registry = endpoint.get("fromRegistry").and_then(Node::as_str);
            let Some(registry) = registry.filter(|registry| !known.contains(registry)) else { continue };
            let network = network.as_str().unwrap_or_default();
            let message = format!(
                "no remote secret brings the registry {registry} of network {network}: its endpoints are of no network"
            );
            found.at(map, "data.meshNetworks", message).seen(format!("known are {known:?}"));
        }
    }
}

fn blocked_addresses(scene: &Scene<'_>, found: &mut Found<'_>) {
    let policies: Vec<String> = scene.mesh.of_kind(Kind::RequestAuthentication).map(|one| one.id.to_string()).collect();
    if policies.is_empty() {
        return;
    }
    let set = |container: &Node| {
        container.get("env").map(Node::items).unwrap_or_default().iter().any(|one| {
            one.get("name").and_then(Node::as_str) == Some("BLOCKED_CIDRS_IN_JWKS_URIS")
                && one.get("value").and_then(Node::as_str).is_some_and(|value| !value.is_empty())
        })
    };
    for istiod in
        scene.mesh.of_kind(Kind::Deployment).filter(|one| one.labels.get("app").is_some_and(|app| app == "istiod"))
    {
        if istiod.list("spec.template.spec.containers").iter().any(set) {
            continue;
        }
        let message =
            "whoever may write a RequestAuthentication can make istiod fetch any address (jwksUri), inner ones too";
        let shown: Vec<String> = policies.iter().take(5).cloned().collect();
        found
            .at(istiod, "spec.template.spec.containers", message)
            .seen(format!("{} of them: {}", policies.len(), shown.join(", ")))
            .fix("env:\n- name: BLOCKED_CIDRS_IN_JWKS_URIS\n  value: 10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,169.254.0.0/16");
    }
}
