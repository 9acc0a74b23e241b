//! The pages of a service, a workload and an edge: what it did over time, who calls it and whom it calls, by version, by
//! code and flag, how long requests took, its traces, access logs, alerts and findings, what is declared for it and when that
//! changed, whom its failure hurts.
//!
//! In: a name in the URL, a range. Out: pages that are whole without scripts. A name without traffic in the range is a
//! page with status 404 that says how to look further.

mod around;
mod canary;
pub(super) mod panel;
mod plot;
pub(super) mod rows;
mod story;
#[cfg(test)]
mod tests;

use std::time::Duration;

use askama::Template;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::response::Response;
use serde::Deserialize;

use super::ask::{Asked, Shared, given, link};
use super::drawing::label;
use super::frame::{Frame, render};
use super::range::Range;
use super::{State, error, format, range};
use crate::graph::{cause, walk};
use crate::model::Timestamp;
use around::{Around, PAGE};
use plot::{Heat, Plot, Values};
use rows::{Call, Code, Fact, Hurt, VersionRow};
use story::{Story, Subject};

const RANGES: [&str; 6] = ["15m", "1h", "6h", "24h", "7d", "30d"];
pub(super) const RANGE_DEFAULT: &str = "1h";
/// Windows of a plot.
const WINDOWS: u32 = 60;
const MINUTE: Duration = Duration::from_secs(60);
/// Rows of each table.
const ROWS_MAX: usize = 50;

/// What the URL says beside the name.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Address {
    range: Option<String>,
    at: Option<String>,
}

struct Choice {
    name: &'static str,
    href: String,
    current: bool,
}

#[derive(Template)]
#[template(path = "subject.html")]
struct Page {
    frame: Frame,
    kind: &'static str,
    title: String,
    place: String,
    health: &'static str,
    reason: String,
    notes: Vec<String>,
    ranges: Vec<Choice>,
    span: String,
    until: String,
    until_exact: String,
    live: bool,
    earlier: String,
    later: Option<String>,
    facts: Vec<Fact>,
    /// Facts that read better as a list.
    words: Vec<Fact>,
    plots: Vec<Plot>,
    heat: Option<Heat>,
    from: String,
    numbers: Vec<[String; 6]>,
    /// What comes in and what goes out: what it is called, who is at the other end, the edges.
    sides: [(&'static str, &'static str, Vec<Call>); 2],
    versions: Vec<VersionRow>,
    codes: Vec<Code>,
    around: Around,
    from_exact: String,
    hurt: Vec<Hurt>,
    causes: Vec<(String, String)>,
    links: Vec<(&'static str, String)>,
}

pub(super) async fn service(
    state: Shared<State>,
    path: Result<Path<(String, String)>, PathRejection>,
    asked: Asked<Address>,
) -> Response {
    named(state, path, asked, Subject::Service).await
}

pub(super) async fn workload(
    state: Shared<State>,
    path: Result<Path<(String, String)>, PathRejection>,
    asked: Asked<Address>,
) -> Response {
    named(state, path, asked, Subject::Workload).await
}

async fn named(
    Shared(state): Shared<State>,
    path: Result<Path<(String, String)>, PathRejection>,
    Asked(asked): Asked<Address>,
    subject: fn(Option<String>, String) -> Subject,
) -> Response {
    match path {
        // A single minus stands for none: what has no namespace has an address too.
        Ok(Path((namespace, name))) => {
            page(&state, subject(Some(namespace).filter(|namespace| namespace != "-"), name), asked).await
        }
        Err(reason) => error::bad_request(&state, "graph", reason.body_text()),
    }
}

pub(super) async fn edge(
    Shared(state): Shared<State>,
    path: Result<Path<String>, PathRejection>,
    Asked(asked): Asked<Address>,
) -> Response {
    match path {
        Ok(Path(id)) => page(&state, Subject::Edge(id), asked).await,
        Err(reason) => error::bad_request(&state, "graph", reason.body_text()),
    }
}

async fn page(state: &State, subject: Subject, asked: Address) -> Response {
    let now = state.clock.now();
    let range = range::Query { range: asked.range.clone(), at: asked.at.clone() };
    let range = match range.read(RANGE_DEFAULT, now) {
        Ok(range) => range,
        Err(message) => return error::bad_request(state, "graph", message),
    };
    match story::read(state, &subject, &bounds(&range), now).await {
        Ok((Some(story), warning)) => {
            let old = range.before_retention("edges", state.retention.edge_hours, "edge_hours");
            let frame = Frame::new(state, "graph").warn(warning).warn(old);
            let around = around::around(state, (&subject, &story), &range, PAGE).await;
            render(&page_of(frame, &subject, (&story, around), (&asked, &range), now))
        }
        Ok((None, warning)) => missing(state, &subject, &range, warning),
        Err(reason) => error::internal(&format!("the story could not be told: {reason}")),
    }
}

/// The bounds of the windows: whole minutes, about sixty of them.
fn bounds(range: &Range) -> Vec<Timestamp> {
    let from = range.from.floor_to(MINUTE);
    let length = range.to.since(from);
    let step = Duration::from_secs((length / WINDOWS).as_secs().div_ceil(60).max(1) * 60);
    let mut bounds: Vec<Timestamp> = (0..=WINDOWS).map(|n| from + step * n).take_while(|at| *at < range.to).collect();
    bounds.push(range.to);
    bounds
}

/// A page that says that nothing of that name is there, and how to look further.
fn missing(state: &State, subject: &Subject, range: &Range, warning: Option<String>) -> Response {
    let (kind, name) = match subject {
        Subject::Service(namespace, name) => ("service", rows::place(namespace.as_deref(), name)),
        Subject::Workload(namespace, name) => ("workload", rows::place(namespace.as_deref(), name)),
        Subject::Edge(id) | Subject::Shown(_, id) => ("edge", format::visible(id, 300)),
    };
    let span = format::span(range.to.since(range.from));
    let message = format!(
        "The {kind} {name} had no traffic in the {span} until {}. Choose a longer range (add ?range=24h to the address), or \
         look for it in the graph. {}",
        format::moment(range.to),
        warning.unwrap_or_default()
    );
    error::missing(state, "graph", message)
}

fn page_of(
    frame: Frame,
    subject: &Subject,
    (story, around): (&Story, Around),
    (asked, range): (&Address, &Range),
    now: Timestamp,
) -> Page {
    let href = |range: &str, at: &str| rows::address(subject, &[("range", range), ("at", at)]);
    let length = range.to.since(range.from);
    let at = asked.at.as_deref().unwrap_or_default();
    let (kind, title, place, health) = rows::heading(story);
    let later = range.to + length;
    let seconds = length.as_secs_f64();
    let hurt = walk::weighted_blast_radius(&story.graph, rows::called(story));
    let (words, facts) = rows::facts(story).into_iter().partition(Fact::is_words);
    Page {
        frame,
        kind,
        title,
        place,
        health: health.status.as_str(),
        reason: health.reason.clone(),
        notes: story.inbound.iter().take(3).filter_map(|edge| edge.disagreement.clone()).collect(),
        ranges: RANGES.map(|text| Choice { name: text, href: href(text, at), current: text == range.text }).into(),
        span: format::span(length),
        until: format::moment(range.to),
        until_exact: range.to.to_string(),
        live: range.live,
        earlier: href(&range.text, &range.from.to_string()),
        later: (!range.live).then(|| href(&range.text, &if later < now { later.to_string() } else { String::new() })),
        facts,
        words,
        plots: plots(story).into_iter().map(|plot| plot.marking(&around.marks, (range.from, range.to))).collect(),
        heat: heat(story),
        from: format::moment(range.from),
        numbers: story.windows.iter().rev().filter(|window| window.known).map(rows::numbers).collect(),
        sides: [
            ("Inbound", "Caller", calls(story, &story.inbound, asked)),
            ("Outbound", "Called", calls(story, &story.outbound, asked)),
        ],
        versions: {
            let all = &story.versions;
            all.iter().map(|version| rows::version(version, (all, seconds), asked)).collect()
        },
        codes: story.outcomes.iter().take(20).map(rows::code).collect(),
        around,
        from_exact: range.from.to_string(),
        hurt: hurt.iter().take(12).filter_map(|hurt| rows::hurt(hurt, story, asked)).collect(),
        causes: causes(story, asked),
        links: rows::links(story, asked),
    }
}

fn calls(story: &Story, edges: &[crate::graph::Edge], asked: &Address) -> Vec<Call> {
    match story.graph.edge(&story.id) {
        // The page of an edge is about itself.
        Some(_) => Vec::new(),
        None => edges.iter().take(ROWS_MAX).map(|edge| rows::call(edge, story, asked)).collect(),
    }
}

fn plots(story: &Story) -> Vec<Plot> {
    let of = |pick: &dyn Fn(&story::Window) -> Option<f64>| story.windows.iter().map(pick).collect::<Vec<_>>();
    let quantile = |q: f64| of(&|window| window.histogram.quantile(q));
    let is_edge = story.graph.edge(&story.id).is_some();
    let mut rates = vec![Values {
        name: if is_edge { "rate" } else { "in" }.to_owned(),
        values: of(&|w| w.known.then_some(w.rate_in)),
    }];
    if !is_edge {
        rates.push(Values { name: "out".to_owned(), values: of(&|w| w.known.then_some(w.rate_out)) });
    }
    let errors = vec![Values { name: "errors".to_owned(), values: of(&|w| w.error_ratio) }];
    let latencies = vec![
        Values { name: "p50".to_owned(), values: quantile(0.5) },
        Values { name: "p95".to_owned(), values: quantile(0.95) },
        Values { name: "p99".to_owned(), values: quantile(0.99) },
    ];
    let bytes = vec![Values { name: "both ways".to_owned(), values: of(&|w| w.known.then_some(w.bytes)) }];
    let split = |(name, values): &(String, Vec<Option<f64>>)| Values {
        name: format::visible(name, 60),
        values: values.clone(),
    };
    let splits = story.splits.iter().map(split).collect();
    let plots = [
        Plot::of("Requests per second", rates, format::rate),
        Plot::of("Share of errors", errors, format::percent),
        Plot::of("Latency", latencies, |ms| format::latency(Some(ms))),
        Plot::of("Share of requests by version", splits, format::percent),
        Plot::of("Bytes per second", bytes, format::bytes_rate),
    ];
    plots.into_iter().flatten().collect()
}

fn heat(story: &Story) -> Option<Heat> {
    let windows: Vec<_> = story.windows.iter().map(|window| (window.from, window.histogram.clone())).collect();
    Heat::of(&windows)
}

/// What explains the failures of the subject, in words, with the page of each edge.
fn causes(story: &Story, asked: &Address) -> Vec<(String, String)> {
    let own = |id: &str| story.inbound.iter().chain(&story.outbound).any(|edge| *edge.id == *id);
    let found = cause::causes(&story.graph);
    let concerns = |one: &&cause::Cause| own(&one.edge) || one.explains.iter().any(|(id, _)| own(id));
    let shown = found.iter().filter(|one| one.own_share > 0.0).filter(concerns).take(5);
    shown.map(|one| (format::sentence(&one.sentence), rows::edge_address(&one.edge, asked))).collect()
}
