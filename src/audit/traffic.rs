//! Checks of what is declared against what a window of traffic saw.
//!
//! In: the scene, with an [`Observed`]. Out: findings with the numbers. Invariant: a check says nothing of fewer calls than
//! it needs ([`CALLS_MIN`], or what its test asks for), and nothing of statistics that are not collected: "not seen" is
//! never taken for "not there".

mod authorization;
pub(super) mod breakers;
mod calls;
mod cardinality;
mod dead;
mod denials;
pub(super) mod faults;
mod labels;
mod linkerd;
mod linkerd_routes;
pub(super) mod mtls;
mod propagation;
mod proxies;
pub(super) mod splits;
pub(super) mod statistics;
pub(super) mod tracing;

pub use cardinality::overridden;

use std::collections::{BTreeMap, BTreeSet};

use super::Scene;
use super::checks::Check;
use super::observed::{Calls, End, Observed};
use crate::mesh::effective::{EdgePolicy, of_edge};
use crate::mesh::select::{Labels, Workload};
use crate::mesh::{Kind, Resource};
use crate::yaml::Node;

pub(super) const CHECKS: &[&[Check]] = &[
    splits::CHECKS,
    mtls::CHECKS,
    linkerd::CHECKS,
    linkerd_routes::CHECKS,
    authorization::CHECKS,
    denials::CHECKS,
    breakers::CHECKS,
    faults::CHECKS,
    calls::CHECKS,
    tracing::CHECKS,
    propagation::CHECKS,
    labels::CHECKS,
    cardinality::CHECKS,
    proxies::CHECKS,
    dead::CHECKS,
];

/// Fewest calls that a share or quantile is made of.
pub(super) const CALLS_MIN: f64 = 30.0;
/// How many names a line of evidence lists.
const NAMED_MAX: usize = 10;

/// `12.3 %`.
pub(super) fn percent(share: f64) -> String {
    let share = share * 100.0;
    if share != 0.0 && share.abs() < 1.0 { format!("{share:.2} %") } else { format!("{share:.1} %") }
}

/// A count, without the fraction that extrapolation gives it.
pub(super) fn count(value: f64) -> String {
    // The sum of nothing is minus zero.
    format!("{:.0}", value.round() + 0.0)
}

/// The first names, and how many more.
pub(in crate::audit) fn names(all: impl IntoIterator<Item = String>) -> String {
    let all: Vec<String> = all.into_iter().collect();
    let shown = all.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    if all.len() > NAMED_MAX { format!("{shown} and {} more", all.len() - NAMED_MAX) } else { shown }
}

/// A sum of calls.
pub(super) fn sum<'o>(calls: impl IntoIterator<Item = &'o Calls>) -> f64 {
    calls.into_iter().map(|one| one.count).sum()
}

/// The calls of each caller, the most frequent first.
pub(super) fn by_caller<'o>(calls: impl IntoIterator<Item = &'o Calls>) -> Vec<(&'o End, f64)> {
    let mut all: BTreeMap<(&str, &str, &str), (&End, f64)> = BTreeMap::new();
    for one in calls {
        // Of a workload that is told its identities are one; where it is not, the identity tells callers apart.
        let identity = if one.from.workload.is_empty() { one.from.principal.as_str() } else { "" };
        all.entry((&one.from.namespace, &one.from.workload, identity)).or_insert((&one.from, 0.0)).1 += one.count;
    }
    let mut all: Vec<(&End, f64)> = all.into_values().collect();
    all.sort_by(|(a, more), (b, less)| less.total_cmp(more).then_with(|| a.cmp(b)));
    all
}

/// `shop/web-v1 (120), shop/cart-v1 (3)`.
pub(super) fn callers<'o>(calls: impl IntoIterator<Item = &'o Calls>) -> String {
    names(by_caller(calls).into_iter().map(|(end, calls)| format!("{} ({})", end.name(), count(calls))))
}

/// The text at a path of keys below a node.
pub(super) fn text<'n>(node: &'n Node, path: &[&str]) -> Option<&'n str> {
    path.iter().try_fold(node, |node, key| node.get(key)).and_then(Node::as_str)
}

/// The number at a path of keys below a node.
pub(super) fn number(node: &Node, path: &[&str]) -> Option<f64> {
    text(node, path)?.parse().ok().filter(|value: &f64| value.is_finite())
}

/// A duration as Istio, Gateway API and Linkerd write it (`4s`, `1.5s`, `500ms`, `3m`, `1m30s`), in milliseconds.
pub(super) fn millis(text: &str) -> Option<f64> {
    let mut rest = text;
    let mut total = None;
    while !rest.is_empty() {
        let cut = rest.find(|c: char| c.is_ascii_alphabetic())?;
        let end = rest[cut..].find(|c: char| !c.is_ascii_alphabetic()).map_or(rest.len(), |length| cut + length);
        let value: f64 = rest[..cut].parse().ok()?;
        let unit = match &rest[cut..end] {
            "ms" => 1.0,
            "s" => 1_000.0,
            "m" => 60_000.0,
            "h" => 3_600_000.0,
            _ => return None,
        };
        total = Some(total.unwrap_or(0.0) + value * unit);
        rest = &rest[end..];
    }
    total
}

impl<'a> Scene<'a> {
    /// The declared workload of a name, as metrics write it; a pod's own when it has no owner.
    pub(super) fn workload(&self, namespace: &str, name: &str) -> Option<&'a Workload<'a>> {
        self.index.workload(namespace, name)
    }

    /// The labels of a caller's pods; none known: none.
    pub(super) fn labels(&self, end: &End) -> Labels {
        self.workload(&end.namespace, &end.workload).map(|one| one.labels.clone()).unwrap_or_default()
    }

    /// What holds when a caller calls a host.
    pub(super) fn edge(&self, from: &End, host: &str) -> EdgePolicy<'a> {
        of_edge(self.index, &from.namespace, &self.labels(from), host)
    }

    /// Whether a workload is a gateway of a declared Gateway, or looks like one.
    pub(super) fn is_gateway(&self, end: &End) -> bool {
        if end.workload.contains("gateway") {
            return true;
        }
        let Some(workload) = self.workload(&end.namespace, &end.workload) else { return false };
        let selects = |gateway: &Resource| {
            let chosen = gateway.map("spec.selector");
            !chosen.is_empty() && crate::mesh::select::selects(&chosen, &workload.labels)
        };
        self.mesh.of_kind(Kind::Gateway).any(selects)
    }

    /// The full host that an object means.
    pub(super) fn host(&self, resource: &Resource, host: &str) -> String {
        crate::mesh::hosts::full_name(host, &resource.id.namespace, &self.index.domain)
    }

    /// The workload that a pod belongs to: of those that traffic or objects name, the one whose name its own begins with.
    pub(super) fn owner(&self, observed: &Observed, namespace: &str, pod: &str) -> Option<String> {
        let declared = self.index.in_namespace(namespace).map(|one| one.resource.id.name.as_str());
        let seen = observed.workloads();
        let seen = seen.iter().filter(|(place, _)| *place == namespace).map(|(_, name)| *name);
        let fits = |name: &&str| pod == *name || pod.strip_prefix(*name).is_some_and(|rest| rest.starts_with('-'));
        let all: BTreeSet<&str> = declared.filter(|name| *name != pod).chain(seen).filter(fits).collect();
        all.into_iter().max_by_key(|name| name.len()).map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_istio_are_read() {
        let cases = [
            ("4s", Some(4_000.0)),
            ("500ms", Some(500.0)),
            ("1.5s", Some(1_500.0)),
            ("3m", Some(180_000.0)),
            ("1m30s", Some(90_000.0)),
        ];
        for (text, wanted) in cases.into_iter().chain([("", None), ("s", None), ("4", None), ("4 days", None)]) {
            assert_eq!(millis(text), wanted, "{text}");
        }
    }

    #[test]
    fn names_are_bounded_and_counts_have_no_sign() {
        assert_eq!(count(sum([])), "0");
        assert_eq!(names(["a".to_owned(), "b".to_owned()]), "a, b");
        assert!(names((0..12).map(|i| i.to_string())).ends_with("9 and 2 more"));
    }
}
