//! What runs: user ids that belong to the proxy, containers without an image.

use super::Check;
use super::services::of_istio;
use crate::audit::{Found, Scene};
use crate::mesh::Kind;
use crate::mesh::select::Workload;
use crate::model::Severity;
use crate::yaml::Node;

pub(super) const CHECKS: &[Check] = &[
    Check {
        code: "MS0717",
        severity: Severity::Warning,
        title: "an application runs as the proxy's user",
        also: &["IST0144"],
        run: proxy_user,
    },
    Check { code: "MS0722", severity: Severity::Error, title: "a container has no image", also: &[], run: no_image },
];

/// The user that the proxy runs as; what this user sends is not redirected to the proxy.
const PROXY_USER: &str = "1337";

fn user(node: Option<&Node>) -> Option<&str> {
    node?.get("securityContext")?.get("runAsUser")?.as_str()
}

fn name(container: &Node) -> &str {
    container.get("name").and_then(Node::as_str).unwrap_or_default()
}

fn proxy_user(scene: &Scene<'_>, found: &mut Found<'_>) {
    let kinds = [Kind::Pod, Kind::Deployment, Kind::StatefulSet, Kind::DaemonSet];
    let own = kinds.into_iter().flat_map(|kind| scene.mesh.of_kind(kind)).filter(|one| !of_istio(one));
    for workload in own.filter_map(Workload::of) {
        let (pod, containers) = (workload.field("securityContext.runAsUser"), workload.field("containers"));
        let application = |one: &Node| !["istio-proxy", "istio-operator"].contains(&name(one));
        let own = workload.resource.list(&containers).iter().enumerate();
        let first = own.filter(|(_, one)| application(one)).find(|(_, one)| user(Some(one)) == Some(PROXY_USER));
        let field = match first {
            _ if workload.resource.text(&pod) == Some(PROXY_USER) => pod,
            Some((at, _)) => format!("{containers}[{at}].securityContext.runAsUser"),
            None => continue,
        };
        let message = "user 1337 is the proxy's: what it sends bypasses the proxy, without mTLS, routes and metrics";
        found.at(workload.resource, &field, message);
    }
}

fn no_image(scene: &Scene<'_>, found: &mut Found<'_>) {
    for workload in &scene.index.workloads {
        for list in ["initContainers", "containers"] {
            let field = workload.field(list);
            for (at, container) in workload.resource.list(&field).iter().enumerate() {
                let image = container.get("image").and_then(Node::as_str).unwrap_or_default();
                if !image.is_empty() {
                    continue;
                }
                let named = name(container);
                let message = format!("the container {named} has no image: the API server refuses the object");
                let note = found.at(workload.resource, &format!("{field}[{at}]"), message);
                if named == "istio-proxy" {
                    note.fix(
                        "image: auto # with the label sidecar.istio.io/inject: \"true\", the injector fills it in",
                    );
                }
            }
        }
    }
}
