//! Who called whom in a time longer than the window of the audit: what "nobody uses it" is said of.
//!
//! In: sums of edges of a long time, which are kept for the graph anyway. Out: [`Past`], names without numbers that tests
//! need. Invariant: a call that any proxy or span told counts; what nobody told is "not seen" only where the time is covered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::observed::{Calls, Side};
use crate::model::workload::{EdgeKey, MeshKind};
use crate::model::{EdgeMinute, Timestamp};

/// Share of the time after whose beginning the first traffic must have been seen.
const COVERED: u32 = 10;

/// Sums of edges of a long time.
#[derive(Clone, Debug, Default)]
pub struct PastEdges {
    /// What each edge did.
    pub edges: Vec<EdgeMinute>,
    /// The first minute in which any edge did something.
    pub first: Option<Timestamp>,
}

/// Gives the sums of edges between two times, or says why they are not known.
pub type PastSource = Arc<dyn Fn(Timestamp, Timestamp) -> BoxFuture<'static, Result<PastEdges, String>> + Send + Sync>;

/// Who called whom in a time longer than the window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Past {
    /// How long the time is.
    pub span: Duration,
    /// Whether there was traffic to see from (nearly) its beginning on: else nothing can be called unused.
    pub covered: bool,
    /// Calls of each version of each host; an unknown version is empty.
    hosts: BTreeMap<String, BTreeMap<String, f64>>,
    /// Identities that called each workload, as policies write them; empty for callers without one.
    callers: BTreeMap<(String, String), BTreeSet<String>>,
}

impl Past {
    /// What edges between two times tell; `domain` is that of the cluster's services.
    pub fn of(told: &PastEdges, (from, to): (Timestamp, Timestamp), domain: &str) -> Self {
        let span = to.since(from.min(to));
        let covered = told.first.is_some_and(|first| first <= from + span / COVERED);
        let mut past = Self { span, covered, ..Self::default() };
        for one in &told.edges {
            let calls: f64 = one.requests.iter().map(|(_, count)| count).sum();
            if calls > 0.0 {
                past.add(&one.edge, calls, domain);
            }
        }
        past
    }

    /// A long time of which nothing is known.
    pub fn unknown(span: Duration) -> Self {
        Self { span, ..Self::default() }
    }

    /// A long time whose calls are added one by one.
    pub(super) fn told(span: Duration, covered: bool) -> Self {
        Self { span, covered, ..Self::default() }
    }

    /// Adds calls that a store of metrics told of.
    pub(super) fn add_calls(&mut self, one: &Calls) {
        if !one.host.is_empty() {
            *self.hosts.entry(one.host.clone()).or_default().entry(one.to.version.clone()).or_default() += one.count;
        }
        // A caller's own proxy does not say that it has no identity.
        let tells_identity = one.side == Side::Server || !one.from.principal.is_empty();
        if tells_identity && !one.to.workload.is_empty() {
            let called = (one.to.namespace.clone(), one.to.workload.clone());
            self.callers.entry(called).or_default().insert(one.from.principal.clone());
        }
    }

    fn add(&mut self, edge: &EdgeKey, calls: f64, domain: &str) {
        let text = |value: &Option<Arc<str>>| value.as_deref().unwrap_or_default().to_owned();
        let service = &edge.service;
        let host = match (&service.host, &service.name, &service.namespace) {
            (Some(host), ..) => Some(host.to_string()),
            (None, Some(name), Some(namespace)) => Some(format!("{name}.{namespace}.svc.{domain}")),
            _ => None,
        };
        if let Some(host) = host {
            *self.hosts.entry(host).or_default().entry(text(&edge.destination.version)).or_default() += calls;
        }
        let called = (text(&edge.destination.namespace), text(&edge.destination.name));
        // A caller's own proxy does not say as whom it was taken.
        let tells_identity = edge.mesh != MeshKind::Traces && edge.reporter.tells_callers_identity();
        if tells_identity && !called.1.is_empty() {
            let principal = text(&edge.source_principal).trim_start_matches("spiffe://").to_owned();
            self.callers.entry(called).or_default().insert(principal);
        }
    }

    /// Hosts that were called.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.hosts.keys().map(String::as_str)
    }

    /// Gives hosts other names.
    pub(super) fn rename_hosts(&mut self, named: impl Fn(&str) -> String) {
        self.hosts = std::mem::take(&mut self.hosts).into_iter().map(|(host, calls)| (named(&host), calls)).collect();
    }

    /// Calls to a host by the version that answered.
    pub fn versions(&self, host: &str) -> impl Iterator<Item = (&str, f64)> {
        self.hosts.get(host).into_iter().flatten().map(|(version, calls)| (version.as_str(), *calls))
    }

    /// All calls.
    pub fn calls(&self) -> f64 {
        self.hosts.values().flat_map(BTreeMap::values).sum()
    }

    /// Identities that called a workload; an empty one stands for callers without.
    pub fn callers(&self, namespace: &str, workload: &str) -> impl Iterator<Item = &str> {
        let key = (namespace.to_owned(), workload.to_owned());
        self.callers.get(&key).into_iter().flatten().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::workload::{Outcome, Protocol, Reporter, Security, Service, Workload};

    const WEEK: Duration = Duration::from_secs(7 * 86_400);

    fn edge(reporter: Reporter, service: Service, version: &str, principal: &str) -> EdgeMinute {
        let text = |value: &str| (!value.is_empty()).then(|| Arc::from(value));
        let destination =
            Workload { namespace: text("shop"), name: text("cart-v1"), version: text(version), ..Workload::default() };
        let key = EdgeKey {
            mesh: MeshKind::Istio,
            reporter,
            protocol: Protocol::Http,
            source: Workload::default(),
            destination,
            service,
            source_principal: text(principal),
            destination_principal: None,
            security: Security::Unknown,
        };
        let outcome = Outcome { code: "200".into(), grpc_status: "".into(), flags: "-".into() };
        EdgeMinute { requests: vec![(outcome, 5.0)], ..EdgeMinute::empty(Timestamp::from_millis(0), key) }
    }

    #[test]
    fn hosts_versions_and_identities_are_remembered_and_gaps_are_told() {
        let host = Service { host: Some("cart.shop.svc.example".into()), ..Service::default() };
        let named = Service { name: Some("cart".into()), namespace: Some("shop".into()), host: None };
        let from = Timestamp::from_millis(1_800_000_000_000);
        let mut told = PastEdges {
            edges: vec![
                edge(Reporter::Source, host, "v1", "spiffe://a/ns/b/sa/never"),
                edge(Reporter::Source, named.clone(), "", ""),
                edge(Reporter::Destination, named, "v1", "spiffe://a/ns/b/sa/c"),
            ],
            first: Some(from + Duration::from_secs(3_600)),
        };
        let past = Past::of(&told, (from, from + WEEK), "example");
        assert_eq!((past.span, past.covered, past.calls()), (WEEK, true, 15.0));
        assert_eq!(past.hosts().collect::<Vec<_>>(), ["cart.shop.svc.example"]);
        assert_eq!(past.versions("cart.shop.svc.example").collect::<Vec<_>>(), [("", 5.0), ("v1", 10.0)]);
        assert_eq!(past.callers("shop", "cart-v1").collect::<Vec<_>>(), ["a/ns/b/sa/c"]);
        assert_eq!(past.callers("shop", "pay").count(), 0);
        for first in [None, Some(from + WEEK / 2)] {
            told.first = first;
            assert!(!Past::of(&told, (from, from + WEEK), "example").covered, "{first:?}");
        }
        told.edges[0].requests.clear();
        assert_eq!(Past::of(&told, (from, from + WEEK), "example").calls(), 10.0);
    }
}
