//! Which failing edge explains the others.
//!
//! In: a graph. Out: [`Cause`]s, the likeliest first. A call that fails because the called workload's own call fails is
//! explained by that call, as far as the errors below are as many as those above. What no call below explains is a cause.
//! Pure; cycles are walked once.

use std::collections::HashSet;
use std::sync::Arc;

use super::flags;
use super::health::{Status, percent};
use super::types::{Edge, ServiceGraph};

/// A share of explained errors below this is none.
const SHARE_MIN: f64 = 0.05;
/// Most failing edges that are weighed; the quieter ones are left out.
const FAILING_MAX: usize = 2_000;

/// A failing edge, and what it explains.
#[derive(Clone, Debug, PartialEq)]
pub struct Cause {
    /// Id of the edge.
    pub edge: Arc<str>,
    /// Its own errors (or failed connections) per second.
    pub errors_per_second: f64,
    /// Errors per second here and above that come from here, as far as can be told.
    pub score: f64,
    /// Share of its own errors that no call below explains, 0 to 1.
    pub own_share: f64,
    /// Ids of failing edges above that it explains in part, the most first, each with the share of its errors.
    pub explains: Vec<(Arc<str>, f64)>,
    /// Ids of failing edges right below that explain it in part, the most first, each with the share.
    pub explained_by: Vec<(Arc<str>, f64)>,
    /// All this in one sentence.
    pub sentence: String,
}

/// Errors per second of an edge; zero for one that does not fail.
fn errors_per_second(edge: &Edge) -> f64 {
    if edge.health.status < Status::Degraded {
        return 0.0;
    }
    let requests = edge.requests.as_ref().map_or(0.0, |requests| requests.error_ratio * requests.rate);
    let connections = edge.connections.as_ref().filter(|connections| connections.opened > 0.0);
    requests + connections.map_or(0.0, |c| c.failed / c.opened * c.opened_rate)
}

/// The failing edges of a graph, those first that explain the most.
pub fn causes(graph: &ServiceGraph) -> Vec<Cause> {
    let mut failing: Vec<(&Edge, f64)> =
        graph.edges.iter().map(|edge| (edge, errors_per_second(edge))).filter(|(_, errors)| *errors > 0.0).collect();
    failing.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.id.cmp(&b.0.id)));
    failing.truncate(FAILING_MAX);
    let mut causes: Vec<Cause> = (0..failing.len()).map(|at| cause(graph, &failing, at)).collect();
    causes.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.edge.cmp(&b.edge)));
    causes
}

/// How much of the errors of `above` those of `below` can explain.
fn share(below: f64, above: f64) -> f64 {
    if above > 0.0 { (below / above).min(1.0) } else { 0.0 }
}

fn cause(graph: &ServiceGraph, failing: &[(&Edge, f64)], at: usize) -> Cause {
    let (edge, errors) = failing[at];
    let most_first = |list: &mut Vec<(Arc<str>, f64)>| {
        list.retain(|(_, share)| *share >= SHARE_MIN);
        list.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    };
    // What the caller's proxy answered by itself never reached the called workload: no call below explains it.
    let reached = 1.0 - never_sent_share(edge);
    let mut explained_by: Vec<(Arc<str>, f64)> = failing
        .iter()
        .filter(|(below, _)| below.source == edge.target && below.id != edge.id && below.target != edge.source)
        .map(|(below, theirs)| (Arc::clone(&below.id), share(*theirs, errors) * reached))
        .collect();
    most_first(&mut explained_by);
    let own_share = (1.0 - explained_by.iter().map(|(_, share)| share).sum::<f64>()).max(0.0);

    // Up along failing edges, each once; the share shrinks where more fails above than below.
    let mut explains: Vec<(Arc<str>, f64)> = Vec::new();
    let (mut seen, mut queue) = (HashSet::from([&*edge.id]), vec![(edge, errors, 1.0)]);
    let mut score = errors;
    while let Some((below, theirs, so_far)) = queue.pop() {
        for (above, errors) in failing.iter().filter(|(above, _)| above.target == below.source) {
            let part = so_far * share(theirs, *errors) * (1.0 - never_sent_share(above));
            if part >= SHARE_MIN && seen.insert(&above.id) {
                explains.push((Arc::clone(&above.id), part));
                score += errors * part;
                queue.push((above, *errors, part));
            }
        }
    }
    most_first(&mut explains);
    let sentence = sentence(graph, edge, own_share, (&explains, &explained_by));
    Cause {
        edge: Arc::clone(&edge.id),
        errors_per_second: errors,
        score: score * own_share,
        own_share,
        explains,
        explained_by,
        sentence,
    }
}

/// Share of an edge's errors that its caller's proxy answered by itself.
fn never_sent_share(edge: &Edge) -> f64 {
    let Some(requests) = &edge.requests else { return 0.0 };
    let failed = || requests.outcomes.iter().filter(|o| o.class.is_error() && !flags::is_injected(&o.outcome));
    let all: f64 = failed().map(|outcome| outcome.count).sum();
    let never: f64 = failed().filter(|o| flags::is_never_sent(&o.outcome)).map(|outcome| outcome.count).sum();
    if all > 0.0 { never / all } else { 0.0 }
}

type Shares = [(Arc<str>, f64)];

fn sentence(graph: &ServiceGraph, edge: &Edge, own_share: f64, (explains, by): (&Shares, &Shares)) -> String {
    let name = |id: &str| graph.node(id).map_or_else(|| id.to_owned(), |node| node.name.to_string());
    let call = |edge: &Edge| format!("{} → {}", name(&edge.source), name(&edge.target));
    let reason = &edge.health.reason;
    let mut text = format!("{}: {reason}", call(edge));
    if let Some(first) = by.first().and_then(|(id, _)| graph.edge(id)) {
        text.push_str(&format!(
            "; {} of its errors come from below, most from {}",
            percent(1.0 - own_share),
            call(first)
        ));
    }
    match explains {
        [] => {}
        [(one, share)] => {
            let above = graph.edge(one).map(call).unwrap_or_default();
            text.push_str(&format!("; it explains {} of the errors of {above}", percent(*share)));
        }
        [(one, _), rest @ ..] => {
            let above = graph.edge(one).map(call).unwrap_or_default();
            let calls = if rest.len() == 1 { "call" } else { "calls" };
            text.push_str(&format!("; it explains errors of {above} and of {} more {calls}", rest.len()));
        }
    }
    text
}
