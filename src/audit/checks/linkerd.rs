//! Linkerd's policies: what they name and is not there.

use super::Check;
use super::kiali_context::{service, word, workloads};
use crate::audit::{Found, Scene};
use crate::mesh::Kind;
use crate::mesh::select::selects;
use crate::model::Severity;

pub(super) const CHECKS: &[Check] = &[
    Check {
        code: "MS0830",
        severity: Severity::Warning,
        title: "a Server of Linkerd selects no workload",
        also: &[],
        run: servers,
    },
    Check {
        code: "MS0831",
        severity: Severity::Error,
        title: "a policy of Linkerd names a target that is not there",
        also: &[],
        run: targets,
    },
    Check {
        code: "MS0832",
        severity: Severity::Error,
        title: "a policy of Linkerd names an authentication that is not there",
        also: &[],
        run: authentications,
    },
    Check {
        code: "MS0833",
        severity: Severity::Warning,
        title: "a ServiceProfile is that of no service",
        also: &[],
        run: profiles,
    },
    Check {
        code: "MS0834",
        severity: Severity::Warning,
        title: "two Servers of Linkerd select one port of a workload",
        also: &[],
        run: two_servers,
    },
];

fn servers(scene: &Scene<'_>, found: &mut Found<'_>) {
    let workloads = workloads(scene);
    for server in scene.mesh.of_kind(Kind::LinkerdServer) {
        let wanted = server.map("spec.podSelector.matchLabels");
        let near: Vec<_> = workloads.iter().filter(|one| one.resource.id.namespace == server.id.namespace).collect();
        if !wanted.is_empty() && !near.is_empty() && !near.iter().any(|one| selects(&wanted, &one.labels)) {
            let message = format!(
                "no workload of namespace {} has these labels: its authorizations protect nothing",
                server.id.namespace
            );
            found.at(server, "spec.podSelector", message);
        }
    }
}

fn targets(scene: &Scene<'_>, found: &mut Found<'_>) {
    for policy in scene.mesh.of_kind(Kind::LinkerdAuthorizationPolicy) {
        let Some(target) = policy.at("spec.targetRef") else { continue };
        let (Some(kind), Some(name)) = (word(target, "kind"), word(target, "name")) else { continue };
        let there = match kind {
            "Server" => scene.mesh.get(Kind::LinkerdServer, &policy.id.namespace, name).is_some(),
            "HTTPRoute" => [Kind::LinkerdHttpRoute, Kind::HttpRoute]
                .iter()
                .any(|kind| scene.mesh.get(*kind, &policy.id.namespace, name).is_some()),
            "GRPCRoute" => scene.mesh.get(Kind::GrpcRoute, &policy.id.namespace, name).is_some(),
            "Namespace" => name == policy.id.namespace,
            _ => false,
        };
        if !there {
            let message = format!("there is no {kind} {}/{name}: the policy lets nobody in", policy.id.namespace);
            found.at(policy, "spec.targetRef", message);
        }
    }
    for policy in scene.mesh.of_kind(Kind::LinkerdServerAuthorization) {
        let Some(name) = policy.text("spec.server.name") else { continue };
        if scene.mesh.get(Kind::LinkerdServer, &policy.id.namespace, name).is_none() {
            let message = format!("there is no Server {}/{name}: the policy lets nobody in", policy.id.namespace);
            found.at(policy, "spec.server.name", message);
        }
    }
}

fn authentications(scene: &Scene<'_>, found: &mut Found<'_>) {
    for policy in scene.mesh.of_kind(Kind::LinkerdAuthorizationPolicy) {
        for (at, reference) in policy.list("spec.requiredAuthenticationRefs").iter().enumerate() {
            let (Some(name), kind) = (word(reference, "name"), word(reference, "kind").unwrap_or_default()) else {
                continue;
            };
            let namespace = word(reference, "namespace").unwrap_or(&policy.id.namespace);
            let (looked_for, known) = match kind {
                "MeshTLSAuthentication" => (Kind::MeshTlsAuthentication, true),
                "NetworkAuthentication" => (Kind::NetworkAuthentication, true),
                // Accounts come with deployments of other files; where none is declared nothing can be said.
                "ServiceAccount" => (
                    Kind::ServiceAccount,
                    name != "default" && scene.mesh.of_kind(Kind::ServiceAccount).next().is_some(),
                ),
                _ => continue,
            };
            if known && scene.mesh.get(looked_for, namespace, name).is_none() {
                let message = format!(
                    "there is no {kind} {namespace}/{name}: nobody meets what is required, and all calls are refused"
                );
                found.at(policy, &format!("spec.requiredAuthenticationRefs[{at}]"), message);
            }
        }
    }
}

fn profiles(scene: &Scene<'_>, found: &mut Found<'_>) {
    for profile in scene.mesh.of_kind(Kind::ServiceProfile) {
        let name = profile.id.name.as_str();
        let end = format!(".svc.{}", scene.options.cluster_domain);
        let full = name.ends_with(&end);
        let services = scene.mesh.of_kind(Kind::Service).next().is_some();
        if !full && !name.contains('.') {
            let message = format!(
                "the name of a ServiceProfile is the full name of its service ({name}.{}{end}): this one is never read",
                profile.id.namespace
            );
            found.at(profile, "metadata.name", message);
        } else if full && services && service(scene, name, &profile.id.namespace).is_none() {
            found.at(profile, "metadata.name", format!("there is no service {name}: the profile is never read"));
        }
    }
}

fn two_servers(scene: &Scene<'_>, found: &mut Found<'_>) {
    let all: Vec<_> = scene.mesh.of_kind(Kind::LinkerdServer).collect();
    for (at, server) in all.iter().enumerate() {
        let own = server.map("spec.podSelector.matchLabels");
        let rival = all[..at].iter().find(|other| {
            other.id.namespace == server.id.namespace
                && other.text("spec.port") == server.text("spec.port")
                && other.map("spec.podSelector.matchLabels") == own
        });
        if let Some(rival) = rival {
            found.at(
                server,
                "spec.port",
                format!("{} selects the same port of the same workloads: only one of them counts", rival.id),
            );
        }
    }
}
