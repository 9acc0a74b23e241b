//! Objects that no traffic met: in the longer time that is known, else in the whole window.

use std::collections::{BTreeMap, BTreeSet};

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

/// What was seen, and of how long: enough to call something unused.
struct Telling<'o> {
    observed: &'o Observed,
    span: String,
}

impl<'o> Telling<'o> {
    /// None: the time is not whole, or there was no traffic of others.
    fn of(scene: &Scene<'o>) -> Option<Self> {
        let observed = scene.observed?;
        let span = observed.silent_span()?;
        let past = observed.past.as_ref().map_or(0.0, |past| past.calls());
        (past.max(sum(&observed.calls)) >= CALLS_MIN).then_some(Self { observed, span })
    }

    /// Whether an object is younger than the time that is looked at: it may not have been needed yet.
    fn is_young(&self, one: &Resource) -> bool {
        let time = self.observed.past.as_ref().map_or(self.observed.window, |past| past.span);
        one.created.zip(self.observed.at).is_some_and(|(created, at)| created > at - time)
    }

    fn called(&self, host: &str) -> bool {
        let past = self.observed.past.as_ref();
        match host.starts_with('*') {
            true => {
                let longer = past.into_iter().flat_map(|past| past.hosts());
                self.observed.hosts().into_iter().chain(longer).any(|one| overlap(host, one))
            }
            false => {
                self.observed.to_host(host).next().is_some()
                    || past.is_some_and(|past| past.versions(host).next().is_some())
            }
        }
    }

    /// About how many calls each version of a host got, those of the window twice where both know them.
    fn versions(&self, host: &str) -> BTreeMap<&str, f64> {
        let past = self.observed.past.iter().flat_map(|past| past.versions(host));
        let mut all: BTreeMap<&str, f64> = past.collect();
        for one in self.observed.to_host(host) {
            *all.entry(&one.to.version).or_default() += one.count;
        }
        all
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
    let Some(telling) = Telling::of(scene) else { return };
    for kind in [Kind::VirtualService, Kind::DestinationRule] {
        for one in scene.mesh.of_kind(kind).filter(|one| !telling.is_young(one)) {
            let hosts = hosts(scene, one);
            if hosts.is_empty() || hosts.iter().any(|host| telling.called(host)) {
                continue;
            }
            let field = if kind == Kind::VirtualService { "spec.hosts" } else { "spec.host" };
            let message = format!("nobody called its hosts in {}", telling.span);
            let hosts = super::names(hosts);
            found.at(one, field, message).seen(hosts).fix("# take it out when nobody needs it");
        }
    }
}

fn subsets(scene: &Scene<'_>, found: &mut Found<'_>) {
    let Some(telling) = Telling::of(scene) else { return };
    for rule in scene.mesh.of_kind(Kind::DestinationRule).filter(|one| !telling.is_young(one)) {
        let host = scene.host(rule, rule.text("spec.host").unwrap_or_default());
        let versions = telling.versions(&host);
        if versions.values().sum::<f64>() < CALLS_MIN * 10.0 {
            continue;
        }
        for (at, subset) in rule.list("spec.subsets").iter().enumerate() {
            let labels = rule.map(&format!("spec.subsets[{at}].labels"));
            let Some(version) = labels.get("version").filter(|_| labels.len() == 1) else { continue };
            if versions.contains_key(version.as_str()) {
                continue;
            }
            let name = text(subset, &["name"]).unwrap_or_default();
            let message = format!("no call to {host} reached the subset {name} in {}", telling.span);
            let called = versions.keys().filter(|version| !version.is_empty());
            found.at(rule, &format!("spec.subsets[{at}]"), message).seen(format!(
                "versions that were called: {}",
                super::names(called.map(|version| (*version).to_owned()))
            ));
        }
    }
}
