//! What else tells of a service, a workload or an edge: alerts, traces, access logs, what is declared for it, what the audit
//! found, what changed.
//!
//! In: a story and a range. Out: rows, each list bounded. Invariant: all is asked at once, and what does not answer in time
//! is left out with a word, so that no page waits for it.

use std::sync::Arc;
use std::time::Duration;

use super::rows::{self, TraceRow};
use super::story::Story;
use crate::access_logs::Filter;
use crate::changes::Change;
use crate::graph::{Node, ServiceGraph};
use crate::model::access_log::party;
use crate::model::{Severity, Timestamp};
use crate::persist::TraceQuery;
use crate::store::ChangeQuery;
use crate::web::ask::link;
use crate::web::changes::resource_href;
use crate::web::logs::{self, LogRow};
use crate::web::range::Range;
use crate::web::{State, alerts, format};

const ALERTS_SHOWN: usize = 10;
const FINDINGS_SHOWN: usize = 8;
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

/// A declared object that governs the subject.
pub(super) struct ConfigRow {
    pub(super) name: String,
    pub(super) href: String,
    pub(super) reach: &'static str,
}

/// What the audit found of it.
pub(super) struct FindingRow {
    pub(super) code: &'static str,
    pub(super) class: &'static str,
    pub(super) severity: &'static str,
    pub(super) subject: String,
    pub(super) message: String,
    pub(super) href: Option<String>,
}

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
    pub(super) config: Vec<ConfigRow>,
    pub(super) config_more: usize,
    pub(super) is_declared: bool,
    pub(super) findings: Vec<FindingRow>,
    pub(super) marks: Vec<Mark>,
    /// What could not be had in time.
    pub(super) missing: Vec<&'static str>,
}

/// Asks all at once.
pub(super) async fn around(state: &State, story: &Story, range: &Range, amount: Amount) -> Around {
    let ends = log_ends(&story.graph, &story.id);
    let (traces, logs, (objects, config_more), changes) = tokio::join!(
        tokio::time::timeout(amount.patience, traces_of(state, story, range, amount.traces)),
        tokio::time::timeout(amount.patience, logs_of(state, ends.as_ref(), range, amount.logs)),
        state.governing(&story.graph, &story.id),
        tokio::time::timeout(amount.patience, changes_in(state, range)),
    );
    let asked = [("traces", traces.is_err()), ("access logs", logs.is_err()), ("changes", changes.is_err())];
    let missing = asked.iter().filter(|(_, is_missing)| *is_missing).map(|(name, _)| *name).collect();
    let mut subjects: Vec<String> = objects.iter().map(|one| one.id.to_string()).collect();
    subjects.extend(named(story));
    Around {
        alerts: alerts_of(state, story),
        traces: traces.unwrap_or_default(),
        logs: logs.unwrap_or_default(),
        logs_href: ends.map(|(source, destination)| log_link(source.as_deref(), &destination)).unwrap_or_default(),
        findings: findings_of(state, &subjects),
        is_declared: state.declared.config().is_given(),
        config: objects
            .iter()
            .map(|one| ConfigRow {
                name: format::visible(&one.id.to_string(), 160),
                href: resource_href(&one.id),
                reach: one.reach,
            })
            .collect(),
        config_more,
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
    let nanos = |at: Timestamp| u64::try_from(at.as_millis()).unwrap_or(0).saturating_mul(1_000_000);
    let filter = |failures_only| Filter {
        source: source.clone(),
        destination: Some(destination.clone()),
        failures_only,
        from_ns: nanos(range.from),
        to_ns: nanos(range.to),
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

/// What findings call it, `namespace/name`, by its own name, its app and its services.
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

/// The findings about these objects, the worst first.
fn findings_of(state: &State, subjects: &[String]) -> Vec<FindingRow> {
    let Some(latest) = state.audit.latest() else { return Vec::new() };
    let concerns = |subject: &str| {
        // An object whole, or anything of that namespace and name.
        subjects.iter().any(|one| one == subject || one.starts_with(' ') && subject.ends_with(one.as_str()))
    };
    let mut found: Vec<_> =
        latest.report.findings.iter().filter(|one| one.suppressed.is_none() && concerns(&one.subject)).collect();
    found.sort_by_key(|one| std::cmp::Reverse(one.severity));
    let row = |one: &&crate::model::Finding| FindingRow {
        code: one.code,
        class: match one.severity {
            Severity::Error => "failure",
            Severity::Warning => "degraded",
            Severity::Info => "idle",
        },
        severity: one.severity.as_str(),
        subject: format::visible(&one.subject, 160),
        message: format::visible(&one.message, 400),
        href: page_of(&one.subject),
    };
    found.iter().take(FINDINGS_SHOWN).map(row).collect()
}

/// The page of the object that a finding is about: `Kind namespace/name`.
fn page_of(subject: &str) -> Option<String> {
    let (kind, place) = subject.split_once(' ')?;
    let (namespace, name) = place.split_once('/').unwrap_or(("", place));
    let kind = crate::changes::kind_of_key(kind)?;
    Some(resource_href(&crate::mesh::ResourceId { kind, namespace: namespace.to_owned(), name: name.to_owned() }))
}
