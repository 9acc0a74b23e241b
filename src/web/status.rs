//! The page of meshscope itself: memory and its limits, PostgreSQL and its writers, all queues, what is kept, what was
//! dropped, and what the series are made of.
//!
//! In: read handles. Out: HTML. Invariant: it answers while PostgreSQL is away; the walk over all series runs on a
//! blocking thread.

mod queues;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use askama::Template;
use axum::response::Response;

use super::State;
use super::ask::Shared;
use super::error;
use super::format;
use super::frame::{Frame, render};
use crate::access::Gate;
use crate::model::Timestamp;
use crate::persist::{PartStatus, Role, View};
use crate::series::{CardinalityReport, HeadStats, Share};
use crate::store::Replica;
use crate::web_config::Guard;

/// Entries of each list of the report.
const SHOWN: usize = 10;
/// How long the page waits for the size of the database.
const SIZE_PATIENCE: Duration = Duration::from_millis(800);

#[derive(Template)]
#[template(path = "status.html")]
struct Page {
    frame: Frame,
    tiles: Vec<(&'static str, String, String)>,
    safe_mode: Option<String>,
    notes: Vec<String>,
    replicas: Vec<ReplicaRow>,
    database: String,
    parts: Vec<Part>,
    queues: Vec<queues::Row>,
    kept: Vec<(&'static str, String, &'static str)>,
    drops: Vec<(&'static str, String)>,
    access: Vec<(&'static str, String)>,
    metrics: Vec<Cost>,
    labels: Vec<LabelCost>,
    workloads: Vec<Cost>,
    targets: Vec<Cost>,
}

struct ReplicaRow {
    name: String,
    url: String,
    role: &'static str,
    class: &'static str,
    is_own: bool,
}

struct Part {
    name: &'static str,
    class: &'static str,
    state: &'static str,
    written: String,
    waiting: String,
    dropped: String,
    last: String,
    failure: Option<String>,
}

struct Cost {
    name: String,
    series: String,
    share: String,
    bytes: String,
}

struct LabelCost {
    name: String,
    values: String,
    value_bytes: String,
    saved: String,
    share: String,
    bytes: String,
}

pub(super) async fn page(Shared(state): Shared<State>) -> Response {
    let now = state.clock.now();
    let head = state.head.clone();
    let metrics = Arc::clone(&state.own_metrics);
    let walk = tokio::task::spawn_blocking(move || (head.stats(), head.cardinality_report(), metrics()));
    let size = tokio::time::timeout(SIZE_PATIENCE, state.store.size_bytes());
    let (walked, size) = tokio::join!(walk, size);
    let (stats, report, metrics) = match walked {
        Ok(walked) => walked,
        Err(reason) => return error::internal(&format!("the series could not be counted: {reason}")),
    };
    let size = size.ok().and_then(Result::ok);
    let page = Page {
        frame: Frame::new(&state, "status"),
        tiles: tiles(&state, &stats, size),
        safe_mode: safe_mode(&state, now),
        notes: notes(&state, &stats),
        replicas: replica_rows(&state.standing.view()),
        database: state.store.place().to_owned(),
        parts: state.persist.iter().map(|part| part_row(part, now)).collect(),
        queues: queues::rows(&metrics),
        kept: kept(&state),
        drops: drops(&state),
        access: state.guards.iter().map(|guard| access_rows(guard, &state.gate)).collect(),
        metrics: costs(&report.metrics, &report),
        labels: label_costs(&report),
        workloads: costs(&report.workloads, &report),
        targets: costs(&report.targets, &report),
    };
    render(&page)
}

fn tiles(state: &State, stats: &HeadStats, size: Option<u64>) -> Vec<(&'static str, String, String)> {
    let memory = state.head.safe_mode().state();
    let limit = state.head.config().series_limit;
    let of = |limit: u64| if limit == 0 { "no limit".to_owned() } else { format!("of {}", bytes(limit)) };
    vec![
        ("Series", format::count(stats.series as f64), format!("of {}", format::count(limit as f64))),
        ("New series", format::count(state.head.new_series_per_minute().round()), "per minute".to_owned()),
        ("Memory", bytes(memory.used_bytes), of(memory.limit_bytes)),
        ("Samples in memory", format::number(stats.samples as f64), bytes(stats.bytes as u64)),
        ("Waiting for the journal", bytes(stats.journal_bytes as u64), of(state.head.config().journal_limit_bytes.0)),
        ("Database", size.map_or_else(|| "–".to_owned(), bytes), "on disk".to_owned()),
    ]
}

fn safe_mode(state: &State, now: Timestamp) -> Option<String> {
    let mode = state.head.safe_mode();
    let memory = mode.state();
    let since = memory.since?;
    Some(format!(
        "Memory is short: {} of {} (storage.memory_limit), since {} ({}). Rules and edges go on; samples that no rule reads \
         are not stored ({} so far), and samples stay in memory only as long as rules look back. It ends by itself one \
         minute after memory has fallen below 85% of the limit: drop what the report below names, or allow more memory.",
        bytes(memory.used_bytes),
        bytes(memory.limit_bytes),
        format::moment(since),
        format::ago(Some(since), now),
        format::count(mode.dropped_samples.load(Relaxed) as f64),
    ))
}

/// Files of access that have changed and are refused.
fn refused_access(guard: &Guard) -> Option<String> {
    let status = guard.status();
    let reason = status.refused?;
    Some(format!(
        "{}: its files have changed and are refused; what was read before stays in force. {reason}",
        status.key
    ))
}

fn access_rows(guard: &Guard, gate: &Gate) -> (&'static str, String) {
    let status = guard.status();
    let tls = if status.encrypts { "TLS" } else { "no TLS" };
    let who = if status.authenticates { "users or tokens" } else { "no password" };
    match gate.guard().status().key == status.key {
        true => (status.key, format!("{tls}, {who}, {}", gate.says())),
        false => (status.key, format!("{tls}, {who}")),
    }
}

fn replica_rows(view: &View) -> Vec<ReplicaRow> {
    let row = |replica: &Replica| {
        let leads = view.leader_id.as_ref() == Some(&replica.id);
        let (role, class) = if leads { ("leader", "healthy") } else { ("standby", "idle") };
        let is_own = replica.id == view.own_id;
        ReplicaRow { name: replica.name.clone(), url: replica.url(), role, class, is_own }
    };
    view.replicas.iter().map(row).collect()
}

/// What people must know who look at a standby.
fn standby_note(view: &View, now: Timestamp) -> Option<String> {
    if view.role != Role::Standby {
        return None;
    }
    let since = format::ago(view.since, now);
    Some(match view.leader() {
        Some(leader) => format!(
            "This replica is a standby ({since}): {} at {} writes and tells people. What is shown here comes from its journal, \
             a second or two later.",
            leader.name,
            leader.url()
        ),
        None => format!("This replica is a standby ({since}), and no leader is there: it takes over within seconds."),
    })
}

fn notes(state: &State, stats: &HeadStats) -> Vec<String> {
    let mut notes: Vec<String> = state.guards.iter().filter_map(refused_access).collect();
    notes.extend(standby_note(&state.standing.view(), state.clock.now()));
    notes.extend(state.upstream.as_ref().map(|upstream| {
        format!(
            "Queries and rules ask the engine at {} (storage.query_upstream) for all that is not stored here. The numbers below \
             are of what is stored here.",
            upstream.shown()
        )
    }));
    let limit = state.head.config().series_limit;
    if stats.series >= limit {
        let refused = state.head.counters().series_refused.load(Relaxed);
        notes.push(format!(
            "The limit of {limit} series in memory (storage.series_limit) is reached: new series are refused, {refused} times \
             so far. Drop what the report below names, or raise the limit."
        ));
    }
    let limited = |target: &&crate::scrape::TargetStatus| {
        target.last_error.as_deref().is_some_and(|error| error.contains("_limit"))
    };
    let at_limit = state.scrape.targets();
    let at_limit: Vec<_> = at_limit.iter().filter(limited).collect();
    if let Some(first) = at_limit.first() {
        let reason = first.last_error.as_deref().unwrap_or_default();
        notes.push(format!("{} targets fail at a limit, {} for instance: {reason}", at_limit.len(), first.target.url));
    }
    let whole = state.scrape_counters.label_rules_not_applied.load(Relaxed);
    if whole > 0 {
        notes.push(format!(
            "{whole} series that storage.keep_labels or drop_labels names were stored whole: only counters, histograms and \
             the sums and counts of summaries can be added up, and only while they have their target's labels. Use \
             metric_relabel_configs for others."
        ));
    }
    notes
}

fn part_row(part: &Arc<PartStatus>, now: Timestamp) -> Part {
    let state = part.state();
    let (class, word) = match (state.failures_in_a_row, state.succeeded_at) {
        (0, None) => ("idle", "idle"),
        (0, Some(_)) => ("healthy", "written"),
        _ => ("failure", "failing"),
    };
    let count = |value: u64| format::count(value as f64);
    Part {
        name: part.name,
        class,
        state: word,
        written: count(part.written.load(Relaxed)),
        waiting: count(part.pending.load(Relaxed)),
        dropped: count(part.dropped.load(Relaxed)),
        last: format::ago(state.succeeded_at, now),
        failure: state.failed.map(|(at, reason)| format!("{}: {reason}", format::ago(Some(at), now))),
    }
}

fn kept(state: &State) -> Vec<(&'static str, String, &'static str)> {
    let (memory, stored) = (state.head.config(), &state.retention);
    vec![
        ("Samples in memory", memory.memory_window.to_string(), "storage.memory_window"),
        ("Samples in PostgreSQL", stored.raw.to_string(), "storage.retention.raw"),
        ("Edges by minute", stored.edge_minutes.to_string(), "storage.retention.edge_minutes"),
        ("Edges by hour", stored.edge_hours.to_string(), "storage.retention.edge_hours"),
        ("Spans", stored.spans.to_string(), "storage.retention.spans"),
        ("Access logs", stored.access_logs.to_string(), "storage.retention.access_logs"),
        ("Samples thinned to five minutes", stored.five_minutes.to_string(), "storage.retention.five_minutes"),
        ("Alert history", stored.alerts.to_string(), "storage.retention.alerts"),
        ("Generations of what is declared", stored.mesh.to_string(), "storage.retention.mesh"),
    ]
}

/// What was not taken or not kept for what it is, not for want of room: [`queues`] has that.
fn drops(state: &State) -> Vec<(&'static str, String)> {
    let (head, scrape) = (state.head.counters(), &state.scrape_counters);
    let rows = [
        ("Samples lost before PostgreSQL had them", &head.journal_dropped_samples),
        ("Samples not stored while memory was short", &state.head.safe_mode().dropped_samples),
        ("New series refused by storage.series_limit", &head.series_refused),
        ("Samples of series refused by storage.series_limit", &scrape.series_limit),
        ("Samples refused: another value was there", &head.samples_conflicting),
        ("Samples refused: too old", &head.samples_out_of_order),
        ("Samples refused: too far ahead", &scrape.too_far_ahead),
        ("Samples refused: twice on a page", &scrape.duplicates),
        ("Scrapes that did not begin in time", &scrape.missed_slots),
        ("Scrapes that failed", &scrape.failures),
        ("Spans refused", &state.otlp.refused_spans),
        ("Log records refused", &state.otlp.refused_log_records),
        ("OTLP requests that could not be read", &state.otlp.malformed_requests),
    ];
    rows.map(|(name, counter)| (name, format::count(counter.load(Relaxed) as f64))).into()
}

fn costs(shares: &[Share], report: &CardinalityReport) -> Vec<Cost> {
    let cost = |share: &Share| Cost {
        name: if share.name.is_empty() { "names none".to_owned() } else { share.name.clone() },
        series: format::count(share.series as f64),
        share: format::percent(share.series as f64 / report.series.max(1) as f64),
        bytes: bytes(share.bytes),
    };
    shares.iter().take(SHOWN).map(cost).collect()
}

fn label_costs(report: &CardinalityReport) -> Vec<LabelCost> {
    let cost = |label: &crate::series::LabelShare| LabelCost {
        name: label.name.clone(),
        values: format::count(label.values as f64),
        value_bytes: bytes(label.value_bytes),
        saved: format::count(label.series_saved as f64),
        share: format::percent(label.series_saved as f64 / report.series.max(1) as f64),
        bytes: bytes(label.bytes_saved),
    };
    report.labels.iter().take(SHOWN).map(cost).collect()
}

/// `1.5 GiB`.
fn bytes(count: u64) -> String {
    let count = count as f64;
    match count {
        b if b >= 1024.0 * 1024.0 * 1024.0 => format!("{:.1} GiB", b / 1024.0 / 1024.0 / 1024.0),
        b if b >= 1024.0 * 1024.0 => format!("{:.1} MiB", b / 1024.0 / 1024.0),
        b if b >= 1024.0 => format!("{:.1} KiB", b / 1024.0),
        b => format!("{b:.0} B"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::web::hostile;

    #[test]
    fn whatever_names_series_have_the_page_stays_a_page() {
        for text in hostile::texts() {
            let cost = || Cost { name: text.clone(), series: "1".into(), share: "1%".into(), bytes: bytes(1536) };
            let page = Page {
                frame: Frame::around("status", 0),
                tiles: vec![("Series", "1".into(), text.clone())],
                safe_mode: Some(text.clone()),
                notes: vec![text.clone()],
                replicas: vec![ReplicaRow {
                    name: text.clone(),
                    url: text.clone(),
                    role: "leader",
                    class: "healthy",
                    is_own: true,
                }],
                database: text.clone(),
                parts: vec![Part {
                    name: "journal",
                    class: "failure",
                    state: "failing",
                    written: "1".into(),
                    waiting: "2".into(),
                    dropped: "0".into(),
                    last: "never".into(),
                    failure: Some(text.clone()),
                }],
                queues: queues::rows(""),
                kept: vec![("Spans", "2d".into(), "storage.retention.spans")],
                access: Vec::new(),
                drops: vec![("Samples", "1".into())],
                metrics: vec![cost()],
                labels: vec![LabelCost {
                    name: text.clone(),
                    values: "1".into(),
                    value_bytes: bytes(3),
                    saved: "0".into(),
                    share: "0%".into(),
                    bytes: bytes(5 << 30),
                }],
                workloads: vec![cost()],
                targets: vec![cost()],
            };
            let page = page.render().unwrap();
            hostile::assert_harmless(&page);
            assert!(page.contains("1.5 KiB") && page.contains("5.0 GiB"));
        }
    }
}
