//! What the edges that a change governs did, minute by minute.
//!
//! In: edge minutes, in pieces. Out: [`EdgeSeries`]. Invariants: of one edge one reporter counts, the client's before the
//! server's (DESIGN.md §5); what no workload answered is found under the service that was called; bounded in edges.

use std::collections::BTreeMap;
use std::time::Duration;

use super::governs::{Ends, Governs};
use crate::graph::flags::{self, Class};
use crate::model::workload::{LatencyHistogram, Protocol, Reporter};
use crate::model::{EdgeMinute, Timestamp};

const MINUTE: Duration = Duration::from_secs(60);
/// Most edges of one change that are looked at.
const EDGES_MAX: usize = 2_000;

/// The traffic of one caller to one service.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgeSeries {
    /// `web.shop`.
    pub source: String,
    /// `cart.shop`.
    pub target: String,
    /// Each minute of the window.
    pub minutes: Vec<Minute>,
}

/// What one edge did in one minute.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Minute {
    /// Requests.
    pub requests: f64,
    /// Of these answered with 5xx.
    pub server_errors: f64,
    /// Of these failed: 5xx, no answer, gRPC errors.
    pub failures: f64,
    /// Of these answered with 4xx.
    pub client_errors: f64,
    /// Their latency.
    pub latency: LatencyHistogram,
}

/// Gathers the traffic of the edges that one change governs.
pub struct Gathering {
    governs: Governs,
    from: Timestamp,
    minutes: usize,
    edges: BTreeMap<(String, String), BTreeMap<Rank, Vec<Minute>>>,
}

/// Whose report counts first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank(u8);

impl Rank {
    fn of(reporter: Reporter) -> Self {
        Self(match reporter {
            Reporter::Source => 0,
            Reporter::Waypoint => 1,
            Reporter::Destination => 2,
            Reporter::Trace => 3,
        })
    }
}

impl Gathering {
    /// For the `minutes` minutes from `from`, which begins one.
    pub fn new(governs: Governs, from: Timestamp, minutes: usize) -> Self {
        Self { governs, from, minutes, edges: BTreeMap::new() }
    }

    /// Adds minutes of edges, in any order; others are left out.
    pub fn add(&mut self, all: &[EdgeMinute]) {
        let from = self.from;
        for one in all.iter().filter(|one| one.minute >= from && one.edge.protocol != Protocol::Tcp) {
            let place = usize::try_from(one.minute.since(self.from).as_secs() / MINUTE.as_secs()).unwrap_or(usize::MAX);
            if place < self.minutes && self.governs.covers(&Ends::of(one)) {
                self.add_one(one, place);
            }
        }
    }

    fn add_one(&mut self, one: &EdgeMinute, place: usize) {
        let key = (source_of(one), target_of(one));
        if self.edges.len() == EDGES_MAX && !self.edges.contains_key(&key) {
            return;
        }
        let reports = self.edges.entry(key).or_default();
        let minutes =
            reports.entry(Rank::of(one.edge.reporter)).or_insert_with(|| vec![Minute::default(); self.minutes]);
        let minute = &mut minutes[place];
        for (outcome, count) in &one.requests {
            minute.requests += count;
            match flags::class_of(outcome, false) {
                Class::Success => {}
                Class::ClientError => minute.client_errors += count,
                Class::ServerError => {
                    minute.server_errors += count;
                    minute.failures += count;
                }
                Class::GrpcError | Class::NoResponse => minute.failures += count,
            }
        }
        minute.latency.merge(&one.latency);
    }

    /// The edges with traffic, each by the report that counts.
    pub fn finish(self) -> Vec<EdgeSeries> {
        let counted = self.edges.into_iter().filter_map(|((source, target), reports)| {
            let busy = |minutes: &Vec<Minute>| minutes.iter().any(|minute| minute.requests > 0.0);
            let minutes = reports.into_values().find(busy)?;
            Some(EdgeSeries { source, target, minutes })
        });
        counted.collect()
    }
}

fn named(name: Option<&str>, namespace: Option<&str>) -> String {
    match (name, namespace) {
        (Some(name), Some(namespace)) => format!("{name}.{namespace}"),
        (Some(name), None) => name.to_owned(),
        (None, _) => "unknown".to_owned(),
    }
}

fn source_of(one: &EdgeMinute) -> String {
    let source = &one.edge.source;
    named(source.name.as_deref().or(source.app.as_deref()), source.namespace.as_deref())
}

/// The service that was called: the workload is not known when nobody answered.
fn target_of(one: &EdgeMinute) -> String {
    let (service, called) = (&one.edge.service, &one.edge.destination);
    match (&service.name, &service.host) {
        (Some(name), _) => named(Some(name), service.namespace.as_deref().or(called.namespace.as_deref())),
        (None, Some(host)) => host.to_string(),
        (None, None) => named(called.name.as_deref().or(called.app.as_deref()), called.namespace.as_deref()),
    }
}
