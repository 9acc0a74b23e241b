//! Names of other objects that lead nowhere.

use std::collections::BTreeSet;

use super::Check;
use crate::audit::{Found, Scene};
use crate::mesh::{Kind, Resource};
use crate::model::Severity;
use crate::yaml::Node;

pub(super) const CHECKS: &[Check] = &[Check {
    code: "MS0101",
    severity: Severity::Error,
    title: "a route names a gateway that is not declared",
    also: &["IST0101", "KIA1102"],
    run: gateways,
}];

/// A gateway of a VirtualService is `name` (of its own namespace) or `namespace/name`; `mesh` stands for the sidecars. A match
/// may narrow a rule to some of them.
fn gateways(scene: &Scene<'_>, found: &mut Found<'_>) {
    for resource in scene.mesh.of_kind(Kind::VirtualService) {
        let mut told: BTreeSet<&str> = BTreeSet::new();
        let own = resource.list("spec.gateways").iter().enumerate();
        let own =
            own.map(|(at, gateway)| (format!("spec.gateways[{at}]"), gateway, "the route takes no traffic from it"));
        let narrowed = ["http", "tls", "tcp"].into_iter().flat_map(|kind| of_matches(resource, kind));
        let narrowed = narrowed.map(|(field, gateway)| (field, gateway, "nothing that comes through it matches"));
        for (field, gateway, then) in own.chain(narrowed) {
            let Some(written) = gateway.as_str().filter(|name| *name != "mesh") else { continue };
            let (namespace, name) = written.split_once('/').unwrap_or((&resource.id.namespace, written));
            if scene.mesh.get(Kind::Gateway, namespace, name).is_none() && told.insert(written) {
                found.at(resource, &field, format!("there is no Gateway {namespace}/{name}: {then}"));
            }
        }
    }
}

/// The gateways that the matches of rules name, each with its path.
fn of_matches<'a>(resource: &'a Resource, kind: &'static str) -> impl Iterator<Item = (String, &'a Node)> {
    let listed = |node: &'a Node, key: &str| node.get(key).map(Node::items).unwrap_or_default().iter().enumerate();
    resource.list(&format!("spec.{kind}")).iter().enumerate().flat_map(move |(rule, node)| {
        listed(node, "match").flat_map(move |(at, one)| {
            listed(one, "gateways")
                .map(move |(place, gateway)| (format!("spec.{kind}[{rule}].match[{at}].gateways[{place}]"), gateway))
        })
    })
}
