//! Two graphs side by side: what is new, gone, worse, better.
//!
//! In: the graph before and the graph after. Out: [`Changes`]. Invariant: a difference that chance explains is none: error
//! ratios are compared with the two-proportion z-test, latencies only with enough requests on both sides.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::health::percent;
use super::types::{Edge, Node, ServiceGraph};

/// Requests that each side must have before its ratios are compared.
const REQUESTS_MIN: f64 = 30.0;
/// Requests that each side must have before its latencies are compared.
const LATENCIES_MIN: f64 = 100.0;
/// Standard deviations from which on error ratios differ (99.9 %).
const SURE_Z: f64 = 3.29;
/// Error ratios that differ by less than this are as good as equal.
const RATIO_MIN: f64 = 0.001;
/// A 95 % latency differs from this factor on …
const LATENCY_FACTOR: f64 = 1.25;
/// … and this many milliseconds.
const LATENCY_MS_MIN: f64 = 5.0;

/// How an edge changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// More errors, or slower.
    Worse,
    /// No traffic before.
    New,
    /// No traffic after.
    Gone,
    /// Fewer errors, or faster.
    Better,
    /// Nothing that chance would not explain.
    Same,
}

impl Change {
    /// Lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Worse => "worse",
            Self::New => "new",
            Self::Gone => "gone",
            Self::Better => "better",
            Self::Same => "same",
        }
    }
}

/// One edge before and after.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgeChange<'a> {
    /// Id of the edge.
    pub id: Arc<str>,
    /// How it changed.
    pub change: Change,
    /// In words.
    pub sentence: String,
    /// The edge before; `None` for a new one.
    pub before: Option<&'a Edge>,
    /// The edge after; `None` for one that is gone.
    pub after: Option<&'a Edge>,
}

/// What changed between two graphs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes<'a> {
    /// All edges of both: worse, new, gone, better, same; within each by how much traffic they have.
    pub edges: Vec<EdgeChange<'a>>,
    /// Nodes that were not there before.
    pub nodes_new: Vec<&'a Node>,
    /// Nodes that are there no more.
    pub nodes_gone: Vec<&'a Node>,
}

/// Compares two graphs.
pub fn compare<'a>(before: &'a ServiceGraph, after: &'a ServiceGraph) -> Changes<'a> {
    let busy = |graph: &'a ServiceGraph| graph.edges.iter().filter(|edge| !edge.idle);
    let mut pairs: BTreeMap<&Arc<str>, [Option<&'a Edge>; 2]> = BTreeMap::new();
    busy(before).for_each(|edge| pairs.entry(&edge.id).or_default()[0] = Some(edge));
    busy(after).for_each(|edge| pairs.entry(&edge.id).or_default()[1] = Some(edge));
    let mut edges: Vec<EdgeChange<'a>> =
        pairs.into_iter().map(|(id, [before, after])| changed(id, before, after)).collect();
    let weight =
        |change: &EdgeChange<'_>| change.after.map_or(0.0, Edge::rate).max(change.before.map_or(0.0, Edge::rate));
    edges.sort_by(|a, b| a.change.cmp(&b.change).then_with(|| weight(b).total_cmp(&weight(a))));
    let missing = |of: &'a ServiceGraph, other: &ServiceGraph| -> Vec<&'a Node> {
        of.nodes.iter().filter(|node| other.node(&node.id).is_none()).collect()
    };
    Changes { edges, nodes_new: missing(after, before), nodes_gone: missing(before, after) }
}

fn changed<'a>(id: &Arc<str>, before: Option<&'a Edge>, after: Option<&'a Edge>) -> EdgeChange<'a> {
    let (change, sentence) = match (before, after) {
        (None, Some(after)) => (Change::New, format!("no traffic before; now {}", after.health.reason)),
        (Some(before), None) => (Change::Gone, format!("no traffic any more; before {}", before.health.reason)),
        (Some(before), Some(after)) => judged(before, after),
        (None, None) => (Change::Same, String::new()),
    };
    EdgeChange { id: Arc::clone(id), change, sentence, before, after }
}

fn judged(before: &Edge, after: &Edge) -> (Change, String) {
    let errors = error_ratios(before, after);
    let latency = latencies(before, after);
    let words = |(a, b): (f64, f64)| format!("errors {} → {}", percent(a), percent(b));
    let times = |(a, b): (f64, f64)| format!("p95 {a:.0} → {b:.0} ms");
    let texts: Vec<String> = errors.map(words).into_iter().chain(latency.map(times)).collect();
    let change = match (errors, latency) {
        // Errors say more than latency: what fails is often fast.
        (Some((a, b)), _) | (None, Some((a, b))) => {
            if b > a {
                Change::Worse
            } else {
                Change::Better
            }
        }
        (None, None) => return (Change::Same, "no difference that chance would not explain".to_owned()),
    };
    (change, texts.join(", "))
}

/// The error ratios before and after, when they surely differ: of requests, else of connections.
fn error_ratios(before: &Edge, after: &Edge) -> Option<(f64, f64)> {
    let counts = |edge: &Edge| match (&edge.requests, &edge.connections) {
        (Some(requests), _) => Some((requests.errors, requests.count - requests.injected)),
        (None, Some(connections)) => Some((connections.failed, connections.opened)),
        (None, None) => None,
    };
    let ((failed_a, all_a), (failed_b, all_b)) = (counts(before)?, counts(after)?);
    if all_a < REQUESTS_MIN || all_b < REQUESTS_MIN {
        return None;
    }
    let (a, b) = (failed_a / all_a, failed_b / all_b);
    let pooled = (failed_a + failed_b) / (all_a + all_b);
    let deviation = (pooled * (1.0 - pooled) * (1.0 / all_a + 1.0 / all_b)).sqrt();
    ((b - a).abs() >= RATIO_MIN && (b - a).abs() > SURE_Z * deviation).then_some((a, b))
}

/// The 95 % latencies before and after, when they differ by enough.
fn latencies(before: &Edge, after: &Edge) -> Option<(f64, f64)> {
    let (a, b) = (before.requests.as_ref()?, after.requests.as_ref()?);
    if a.count < LATENCIES_MIN || b.count < LATENCIES_MIN || a.latency.first_byte != b.latency.first_byte {
        return None;
    }
    let (a, b) = (a.latency.p95_ms?, b.latency.p95_ms?);
    let (low, high) = (a.min(b), a.max(b));
    (high - low >= LATENCY_MS_MIN && high >= low * LATENCY_FACTOR).then_some((a, b))
}
