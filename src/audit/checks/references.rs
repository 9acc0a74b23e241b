//! Names of other objects that lead nowhere.

use super::Check;
use crate::audit::{Found, Scene};
use crate::mesh::Kind;
use crate::model::Severity;

pub(super) const CHECKS: &[Check] = &[Check {
    code: "MS0101",
    severity: Severity::Error,
    title: "a route names a gateway that is not declared",
    also: &["IST0101", "KIA1102"],
    run: gateways,
}];

/// A gateway of a VirtualService is `name` (of its own namespace) or `namespace/name`; `mesh` stands for the sidecars.
fn gateways(scene: &Scene<'_>, found: &mut Found<'_>) {
    for resource in scene.mesh.of_kind(Kind::VirtualService) {
        for (index, gateway) in resource.list("spec.gateways").iter().enumerate() {
            let Some(written) = gateway.as_str().filter(|name| *name != "mesh") else { continue };
            let (namespace, name) = written.split_once('/').unwrap_or((&resource.id.namespace, written));
            if scene.mesh.get(Kind::Gateway, namespace, name).is_none() {
                let message = format!("there is no Gateway {namespace}/{name}: the route takes no traffic from it");
                found.at(resource, &format!("spec.gateways[{index}]"), message);
            }
        }
    }
}
