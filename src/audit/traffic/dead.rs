//! Objects that no traffic met in the whole window.

use std::collections::BTreeSet;

use super::{CALLS_MIN, sum, text};
use crate::audit::checks::Check;
use crate::audit::observed::Observed;
use crate::audit::{Found, Scene};
use crate::mesh::hosts::overlap;
use crate::mesh::{Kind, Resource};
use crate::model::Severity;
use crate::yaml::Node;

pub(super) const CHECKS: &[Check] = &[
    Check::new("MS2095", Severity::Info, "a rule for a host that nobody calls", &[], rules),
    Check::new("MS2096", Severity::Info, "a subset that nobody is sent to", &[], subsets),
];

/// Whether the window tells enough to call something unused: whole, and with traffic of others.
fn is_telling(observed: &Observed) -> bool {
    observed.covered && sum(&observed.calls) >= CALLS_MIN
}

fn called(observed: &Observed, host: &str) -> bool {
    match host.starts_with('*') {
        true => observed.hosts().iter().any(|one| overlap(host, one)),
        false => observed.to_host(host).next().is_some(),
    }
}

/// The hosts of an object, full.
fn hosts(scene: &Scene<'_>, one: &Resource) -> BTreeSet<String> {
    match one.id.kind {
        Kind::DestinationRule => one.text("spec.host").map(|host| scene.host(one, host)).into_iter().collect(),
        _ => {
            // Behind a gateway the outer host is not in metrics, the destination is.
            let rules = ["http", "tcp", "tls"].into_iter().flat_map(|key| one.list(&format!("spec.{key}")));
            let sent = rules.flat_map(|rule| rule.get("route").map(Node::items).unwrap_or_default());
            let sent = sent.filter_map(|node| text(node, &["destination", "host"]));
            let named = one.list("spec.hosts").iter().filter_map(Node::as_str);
            named.chain(sent).map(|host| scene.host(one, host)).collect()
        }
    }
}

fn rules(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed.filter(|one| is_telling(one)) else { return };
    for kind in [Kind::VirtualService, Kind::DestinationRule] {
        for one in scene.mesh.of_kind(kind) {
            let hosts = hosts(scene, one);
            if hosts.is_empty() || hosts.iter().any(|host| called(observed, host)) {
                continue;
            }
            let field = if kind == Kind::VirtualService { "spec.hosts" } else { "spec.host" };
            let message = format!("nobody called its hosts in {}", observed.span());
            let hosts = super::names(hosts);
            found.at(one, field, message).seen(hosts).fix("# take it out when nobody needs it");
        }
    }
}

fn subsets(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(observed) = scene.observed.filter(|one| is_telling(one)) else { return };
    for rule in scene.mesh.of_kind(Kind::DestinationRule) {
        let host = scene.host(rule, rule.text("spec.host").unwrap_or_default());
        if sum(observed.to_host(&host)) < CALLS_MIN * 10.0 {
            continue;
        }
        for (at, subset) in rule.list("spec.subsets").iter().enumerate() {
            let labels = rule.map(&format!("spec.subsets[{at}].labels"));
            let Some(version) = labels.get("version").filter(|_| labels.len() == 1) else { continue };
            if observed.to_host(&host).any(|one| one.to.version == *version) {
                continue;
            }
            let name = text(subset, &["name"]).unwrap_or_default();
            let message = format!("no call to {host} reached the subset {name} in {}", observed.span());
            found.at(rule, &format!("spec.subsets[{at}]"), message).seen(format!(
                "versions that were called: {}",
                super::names(
                    observed
                        .to_host(&host)
                        .map(|one| one.to.version.clone())
                        .filter(|version| !version.is_empty())
                        .collect::<BTreeSet<_>>()
                )
            ));
        }
    }
}
