//! What items are measured on: the scene, cut to a namespace or whole.

use std::collections::{BTreeSet, HashMap};

use super::Measured;
use crate::audit::observed::{Calls, Observed, Side};
use crate::audit::traffic::sum;
use crate::audit::{Report, Scene};
use crate::mesh::select::Workload;
use crate::mesh::{Kind, Resource};
use crate::model::Finding;

/// A scene cut to a namespace.
pub(super) struct Ground<'a> {
    pub(super) scene: &'a Scene<'a>,
    pub(super) namespace: Option<&'a str>,
    findings: Vec<&'a Finding>,
    calls: &'a [&'a Calls],
}

/// Calls by the namespace of who is called, all of them under the empty one: so that no namespace walks those of others.
pub(super) fn by_namespace<'a>(scene: &Scene<'a>) -> HashMap<String, Vec<&'a Calls>> {
    let mut all: HashMap<String, Vec<&Calls>> = HashMap::new();
    let Some(observed) = scene.observed else { return all };
    for one in &observed.calls {
        // Calls that nobody answered are those of the host's namespace.
        let of_host = crate::mesh::hosts::service_of(&one.host, &scene.index.domain).map(|(_, namespace)| namespace);
        let namespace = if one.to.namespace.is_empty() { of_host.unwrap_or_default() } else { &one.to.namespace };
        all.entry(String::new()).or_default().push(one);
        if !namespace.is_empty() {
            all.entry(namespace.to_owned()).or_default().push(one);
        }
    }
    all
}

/// Namespaces where something runs, by what is declared and what was seen.
pub(super) fn namespaces(scene: &Scene<'_>) -> BTreeSet<String> {
    let declared = scene.index.workloads.iter().map(|one| one.resource.id.namespace.clone());
    let services = scene.mesh.of_kind(Kind::Service).map(|one| one.id.namespace.clone());
    let seen = scene.observed.into_iter().flat_map(Observed::servers).map(|(namespace, _)| namespace.to_owned());
    declared.chain(services).chain(seen).filter(|one| !one.is_empty()).collect()
}

impl<'a> Ground<'a> {
    pub(super) fn new(
        scene: &'a Scene<'a>,
        report: &'a Report,
        calls: &'a HashMap<String, Vec<&'a Calls>>,
        namespace: Option<&'a str>,
    ) -> Self {
        let counts = |one: &&Finding| one.suppressed.is_none();
        let here = |one: &&Finding| namespace.is_none_or(|namespace| one.namespace() == namespace);
        let calls = calls.get(namespace.unwrap_or_default()).map(Vec::as_slice).unwrap_or_default();
        Self { scene, namespace, findings: report.findings.iter().filter(counts).filter(here).collect(), calls }
    }

    pub(super) fn holds(&self, namespace: &str) -> bool {
        self.namespace.is_none_or(|own| own == namespace)
    }

    /// How many findings have one of these codes.
    pub(super) fn found(&self, codes: &[&str]) -> usize {
        self.findings.iter().filter(|one| codes.contains(&one.code)).count()
    }

    /// The gravest of what these codes found, the first of equals: `MS2001 VirtualService shop/reviews: …`.
    pub(super) fn first(&self, codes: &[&str]) -> Option<String> {
        let own = self.findings.iter().filter(|one| codes.contains(&one.code));
        let one = own.reduce(|first, next| if next.severity > first.severity { next } else { first })?;
        Some(format!("{} {}: {}", one.code, one.subject, one.message))
    }

    /// Calls that reach this namespace, told by their own side or the callee's.
    pub(super) fn calls(&self, side: Side) -> Vec<&'a Calls> {
        self.calls.iter().copied().filter(|one| one.side == side).collect()
    }

    /// Calls told by callers where they are told, else by the called side.
    pub(super) fn client_view(&self) -> Vec<&'a Calls> {
        let client = self.calls(Side::Client);
        if sum(client.iter().copied()) > 0.0 { client } else { self.calls(Side::Server) }
    }

    /// Declared workloads of this namespace that are in the mesh, without the pods of other workloads.
    pub(super) fn workloads(&self) -> Vec<&'a Workload<'a>> {
        let kinds = [Kind::Deployment, Kind::StatefulSet, Kind::DaemonSet];
        let all = self.scene.index.workloads.iter().filter(|one| self.holds(&one.resource.id.namespace));
        all.filter(|one| kinds.contains(&one.resource.id.kind) && self.scene.index.meshed(one)).collect()
    }

    /// Services of this namespace that were called; those that are declared when there was no traffic to see.
    pub(super) fn services(&self) -> Vec<&'a Resource> {
        let all = self.scene.mesh.of_kind(Kind::Service).filter(|one| self.holds(&one.id.namespace));
        let called = |one: &&Resource| match self.scene.observed {
            None => true,
            Some(observed) => observed.to_host(&self.scene.host(one, &one.id.name)).next().is_some(),
        };
        all.filter(called).collect()
    }
}

/// Nothing can be said, and why.
pub(super) fn unknown(why: &str, next: &str) -> Measured {
    Measured { score: None, evidence: vec![format!("not measurable: {why}")], next: next.to_owned() }
}

/// A share of things, 1 when there are none.
pub(super) fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

/// What is said where traffic is missing.
pub(super) const NO_TRAFFIC: &str = "no traffic was seen (mesh audit --live URL)";
