//! What else tells of a service, a workload or an edge: alerts, traces, access logs, what is declared for it and found of
//! that, what changed.
//!
//! In: a story and a range. Out: rows, each list bounded. Invariant: all is asked at once, and what does not answer in time
//! is left out with a word, so that no page waits for it.

use std::sync::Arc;
use std::time::Duration;

use super::rows::{self, TraceRow};
use super::story::{Story, Subject};
use crate::access_logs::Filter;
use crate::changes::Change;
use crate::graph::{Node, ServiceGraph};
use crate::model::Timestamp;
use crate::model::access_log::party;
use crate::persist::TraceQuery;
use crate::store::ChangeQuery;
use crate::web::ask::link;
use crate::web::changes::resource_href;
use crate::web::logs::{self, LogRow};
use crate::web::range::Range;
use crate::web::{State, alerts, declared, format};

const ALERTS_SHOWN: usize = 10;
/// Changes that are marked on plots.
const MARKS_MAX: usize = 50;

/// How much of each is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Amount {
    pub(super) traces: usize,
    pub(super) logs: usize,
    /// How long to wait for what PostgreSQL holds.
    pub(super) patience: Duration,
}

/// What a page of its own shows.
pub(super) const PAGE: Amount = Amount { traces: 8, logs: 12, patience: Duration::from_secs(10) };
/// What fits beside the graph, which is drawn again every few seconds.
pub(super) const PANEL: Amount = Amount { traces: 4, logs: 4, patience: Duration::from_millis(1500) };

/// An alert: name, page, class, what it says.
pub(super) type AlertRow = (String, String, &'static str, String);

/// A change of what is declared, in a range.
pub(super) struct Mark {
    pub(super) at: Timestamp,
    pub(super) title: String,
    pub(super) href: String,
}

/// All of it.
#[derive(Default)]
pub(super) struct Around {
    pub(super) alerts: Vec<AlertRow>,
    pub(super) traces: Vec<TraceRow>,
    pub(super) logs: Vec<LogRow>,
    pub(super) logs_href: String,
    pub(super) declared: declared::Part,
    pub(super) marks: Vec<Mark>,
    /// What could not be had in time.
    pub(super) missing: Vec<&'static str>,
}

/// Asks all at once.
pub(super) async fn around(
    state: &State,
    (subject, story): (&Subject, &Story),
    range: &Range,
    amount: Amount,
) -> Around {
    let ends = log_ends(&story.graph, &story.id);
    let whose = declared::Whose {
        graph: &story.graph,
        id: &story.id,
        subject: rows::declared_for(subject, story),
        names: named(story),
    };
    let (traces, logs, declared, changes) = tokio::join!(
        tokio::time::timeout(amount.patience, traces_of(state, story, range, amount.traces)),
        tokio::time::timeout(amount.patience, logs_of(state, ends.as_ref(), range, amount.logs)),
        declared::part(state, whose),
        tokio::time::timeout(amount.patience, changes_in(state, range)),
    );
    let asked = [("traces", traces.is_err()), ("access logs", logs.is_err()), ("changes", changes.is_err())];
    let missing = asked.iter().filter(|(_, is_missing)| *is_missing).map(|(name, _)| *name).collect();
    Around {
        alerts: alerts_of(state, story),
        traces: traces.unwrap_or_default(),
        logs: logs.unwrap_or_default(),
        logs_href: ends.map(|(source, destination)| log_link(source.as_deref(), &destination)).unwrap_or_default(),
        declared,
        marks: changes.unwrap_or_default().iter().map(|change| mark(change)).collect(),
        missing,
    }
}

/// Firing and pending alerts that name the subject.
fn alerts_of(state: &State, story: &Story) -> Vec<AlertRow> {
    let names = rows::names(story);
    let concerns = |row: &&alerts::Row| {
        let mut labels = row.telling.iter().chain(&row.others);
        labels.any(|(_, value)| names.iter().any(|name| name == value))
    };
    let rows = alerts::rows(state);
    rows.iter()
        .filter(concerns)
        .take(ALERTS_SHOWN)
        .map(|row| (row.name.clone(), row.href.clone(), row.class, format!("{}, {}", row.state, row.since)))
        .collect()
}

/// The newest traces that it takes part in, failed ones when there are.
async fn traces_of(state: &State, story: &Story, range: &Range, limit: usize) -> Vec<TraceRow> {
    let Some(service) = rows::trace_service(story) else { return Vec::new() };
    let query = |errors_only| TraceQuery {
        from: range.from,
        to: range.to,
        service: Some(service.clone()),
        operation: None,
        duration_min: None,
        errors_only,
        limit,
    };
    let (mut found, _) = state.archive.search_traces(&query(true)).await;
    if found.is_empty() {
        (found, _) = state.archive.search_traces(&query(false)).await;
    }
    found.iter().map(|trace| rows::trace(trace, state.clock.now())).collect()
}

/// The names under which access logs have it: of an edge both ends, of a node the called.
fn log_ends(graph: &ServiceGraph, id: &str) -> Option<(Option<String>, String)> {
    let called = |node: &Node| party(node.namespace.as_deref(), Some(node.app.as_deref().unwrap_or(&node.name)));
    match graph.edge(id) {
        Some(edge) => {
            let (source, target) = (graph.node(&edge.source)?, graph.node(&edge.target)?);
            Some((Some(party(source.namespace.as_deref(), Some(&source.name))), called(target)))
        }
        None => Some((None, called(graph.node(id)?))),
    }
}

fn log_link(source: Option<&str>, destination: &str) -> String {
    link("logs", &[("source", source.unwrap_or_default()), ("destination", destination)])
}

/// The newest records of it, failed requests when there are.
async fn logs_of(state: &State, ends: Option<&(Option<String>, String)>, range: &Range, limit: usize) -> Vec<LogRow> {
    let Some((source, destination)) = ends else { return Vec::new() };
    let filter = |failures_only| Filter {
        source: source.clone(),
        destination: Some(destination.clone()),
        failures_only,
        from_ns: range.from.as_nanos(),
        to_ns: range.to.as_nanos(),
        limit,
        ..Filter::default()
    };
    let (mut found, _) = state.archive.access_logs(&filter(true)).await;
    if found.is_empty() {
        (found, _) = state.archive.access_logs(&filter(false)).await;
    }
    found.iter().map(|record| logs::row(record)).collect()
}

async fn changes_in(state: &State, range: &Range) -> Vec<Arc<Change>> {
    let query =
        ChangeQuery { from: range.from, to: range.to, namespace: None, kind: None, name: None, limit: MARKS_MAX };
    state.changes.search(&query).await.0
}

fn mark(change: &Change) -> Mark {
    Mark {
        at: change.at,
        title: format::visible(&format!("{}: {}", format::moment(change.at), change.summary()), 300),
        href: resource_href(&change.id),
    }
}

/// What findings end with that are about it, ` namespace/name`, by its own name, its app and its services.
fn named(story: &Story) -> Vec<String> {
    let place = |namespace: Option<&str>, name: &str| namespace.map(|namespace| format!(" {namespace}/{name}"));
    let node = story.graph.node(rows::called(story));
    let own = node.into_iter().flat_map(|node| {
        let namespace = node.namespace.as_deref();
        [place(namespace, &node.name), node.app.as_deref().and_then(|app| place(namespace, app))]
    });
    let services = story.inbound.iter().flat_map(|edge| &edge.services);
    let services = services.map(|(name, namespace)| place(namespace.as_deref(), name));
    let mut names: Vec<String> = own.chain(services).flatten().collect();
    names.sort_unstable();
    names.dedup();
    names
}
