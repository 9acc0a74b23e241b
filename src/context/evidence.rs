//! What memory holds of the last minutes, gathered once for many alerts: the graph, failing and slow spans, exemplars,
//! changes of configuration.
//!
//! In: rollup, spans, exemplars. Out: [`Evidence`]. Invariant: bounded, whatever memory holds.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::Inputs;
use super::subject::Subject;
use crate::changes::Change;
use crate::graph::{self, Edge, GraphOptions, Node, ServiceGraph};
use crate::model::span::{SpanStatus, TraceId, trace_id_from_hex};
use crate::model::{Span, Timestamp};
use crate::traces;

/// Failing spans that are looked at, the newest.
const FAILING_MAX: usize = 2_000;
/// Exemplars that are looked at, the newest.
const EXEMPLARS_MAX: u64 = 2_000;
/// How far back changes are told: an alert with a long `for` comes late.
const CHANGES_AGE: Duration = Duration::from_secs(3600);
/// Labels under which exemplars carry the id of a trace.
const TRACE_LABELS: [&str; 3] = ["trace_id", "traceID", "traceId"];

/// See the module.
#[derive(Default)]
pub(super) struct Evidence {
    graph: ServiceGraph,
    /// Places of the two ends of each edge in the graph's nodes.
    ends: Vec<(usize, usize)>,
    /// Traces worth reading: failed ones first, the newest; then the longest.
    pub(super) examples: Vec<Example>,
    /// Changes of what is declared in the last hour, the newest first.
    pub(super) changes: Vec<Arc<Change>>,
    pub(super) to: Timestamp,
}

/// One trace worth reading, and whom it concerns.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Example {
    pub(super) trace: TraceId,
    pub(super) failed: bool,
    pub(super) start_ns: u64,
    pub(super) duration_ns: u64,
    /// `service.name`, as the page of traces asks for it; `None` of an exemplar.
    pub(super) span_service: Option<Arc<str>>,
    pub(super) about: About,
}

/// Whom a trace concerns.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum About {
    /// The workload of a span, by name, app and namespace; and the service it called, when it is a call.
    Span { workload: crate::model::Workload, called: Option<Arc<str>> },
    /// What the labels of an exemplar's series say.
    Series(Subject),
}

/// An edge and its two ends.
#[derive(Clone, Copy)]
pub(super) struct Hop<'a> {
    pub(super) edge: &'a Edge,
    pub(super) source: &'a Node,
    pub(super) target: &'a Node,
}

impl Evidence {
    /// Everything in `from..to`.
    pub(super) fn gather(inputs: &Inputs, (from, to): (Timestamp, Timestamp)) -> Self {
        let first = from.floor_to(std::time::Duration::from_secs(60));
        let options = GraphOptions { health: inputs.health.clone(), ..GraphOptions::new(from, to) };
        let graph = graph::build(&inputs.rollup.recent(first), &options);
        let mut examples = of_spans(&inputs.live.since(from.as_nanos()));
        examples.extend(of_exemplars(inputs, from));
        Self::new(graph, examples, (inputs.changes)(to - CHANGES_AGE), to)
    }

    /// From its parts.
    pub(super) fn new(
        graph: ServiceGraph,
        mut examples: Vec<Example>,
        changes: Vec<Arc<Change>>,
        to: Timestamp,
    ) -> Self {
        let place = |id: &str| graph.nodes.binary_search_by(|node| (*node.id).cmp(id)).unwrap_or(usize::MAX);
        let ends = graph.edges.iter().map(|edge| (place(&edge.source), place(&edge.target))).collect();
        let rank = |example: &Example| {
            // Of the failed the newest say what is wrong now; of the others the longest.
            let weight = if example.failed { example.start_ns } else { example.duration_ns };
            (!example.failed, std::cmp::Reverse(weight), example.trace)
        };
        examples.sort_by_key(rank);
        Self { graph, ends, examples, changes, to }
    }

    /// All edges with their ends, in the graph's order.
    pub(super) fn hops(&self) -> impl Iterator<Item = Hop<'_>> {
        self.graph.edges.iter().zip(&self.ends).filter_map(|(edge, (source, target))| {
            Some(Hop { edge, source: self.graph.nodes.get(*source)?, target: self.graph.nodes.get(*target)? })
        })
    }
}

/// The newest failing spans, and the longest span of each service.
fn of_spans(newest_first: &[Arc<Span>]) -> Vec<Example> {
    let mut longest: HashMap<&str, &Arc<Span>> = HashMap::new();
    let mut chosen: Vec<&Arc<Span>> = Vec::new();
    for span in newest_first {
        if span.status == SpanStatus::Error {
            if chosen.len() < FAILING_MAX {
                chosen.push(span);
            }
            continue;
        }
        let known = longest.entry(&span.service).or_insert(span);
        if (span.duration_ns, span.trace_id) > (known.duration_ns, known.trace_id) {
            *known = span;
        }
    }
    chosen.extend(longest.into_values());
    chosen.into_iter().map(|span| example(span)).collect()
}

fn example(span: &Span) -> Example {
    let (workload, called) = traces::speaks_for(span);
    Example {
        trace: span.trace_id,
        failed: span.status == SpanStatus::Error,
        start_ns: span.start_ns,
        duration_ns: span.duration_ns,
        span_service: Some(Arc::clone(&span.service)),
        about: About::Span { workload, called },
    }
}

/// Exemplars are single observations that somebody chose to keep; whether one failed its series says.
fn of_exemplars(inputs: &Inputs, from: Timestamp) -> Vec<Example> {
    let exemplars = inputs.head.exemplars();
    let (newest, _) = exemplars.since(exemplars.total().saturating_sub(EXEMPLARS_MAX));
    let of = |(series, exemplar): &(crate::model::Labels, crate::series::Exemplar)| {
        let trace = TRACE_LABELS.into_iter().find_map(|name| trace_id_from_hex(exemplar.labels.get(name)?))?;
        Some(Example {
            trace,
            failed: matches!(series.value("response_code").bytes().next(), Some(b'5' | b'0'))
                || series.value("status_code") == "STATUS_CODE_ERROR",
            start_ns: exemplar.at.as_nanos(),
            duration_ns: 0,
            span_service: None,
            about: About::Series(Subject::of(series)?),
        })
    };
    newest.iter().filter(|(_, exemplar)| exemplar.at >= from).filter_map(of).collect()
}
