//! The page of service level objectives: what is left of each error budget, how fast it burns, and how long it lasts.
//!
//! In: read handles, what to show and in which order. Out: HTML with small drawings in it, complete without scripts.

mod chart;

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::response::Response;
use serde::Deserialize;

use super::ask::{Asked, Shared, given, link};
use super::frame::{Frame, render};
use super::{State, error, format};
use crate::changes::{Change, Ends};
use crate::model::Timestamp;
use crate::slo::{Firing, Forecast, Instance, State as Grave};
use chart::Chart;

/// Most objectives on the page; the others are counted.
const SHOWN_MAX: usize = 200;
/// Of how long changes are marked on the drawings, and how many.
const MARKED: Duration = Duration::from_secs(86_400);
const MARKS_MAX: usize = 30;
/// Longest text of a name or description.
const TEXT_CHARS: usize = 300;
const ORDERS: [(&str, &str); 4] =
    [("state", "gravest first"), ("budget", "least budget first"), ("burn", "fastest burn first"), ("name", "by name")];

#[derive(Default, Deserialize)]
pub(super) struct Query {
    q: Option<String>,
    slo: Option<String>,
    state: Option<String>,
    sort: Option<String>,
}

#[derive(Template)]
#[template(path = "slos.html")]
struct Page {
    frame: Frame,
    configured: usize,
    tiles: Vec<(&'static str, usize, String)>,
    text: String,
    names: Vec<(String, bool)>,
    states: Vec<(&'static str, bool)>,
    orders: Vec<(&'static str, &'static str, bool)>,
    rows: Vec<Row>,
    left_out: usize,
    without: Vec<(String, String)>,
}

struct Row {
    service: String,
    name: String,
    about: String,
    description: String,
    objective: String,
    state: &'static str,
    class: &'static str,
    left: String,
    left_class: &'static str,
    width: f64,
    covered: Option<String>,
    burn: Vec<(&'static str, String, &'static str)>,
    forecast: String,
    forecast_class: &'static str,
    firing: Vec<(String, String, &'static str)>,
    chart: Option<Chart>,
    rate: String,
    graph: String,
    explore: String,
}

pub(super) async fn page(Shared(state): Shared<State>, Asked(query): Asked<Query>) -> Response {
    let now = state.clock.now();
    let wanted = match given(query.state.as_deref()) {
        None => None,
        Some(text) => match Grave::ALL.into_iter().find(|one| one.as_str() == text) {
            Some(found) => Some(found),
            None => return error::bad_request(&state, "slos", format!("state: {text:?} is no state of an objective")),
        },
    };
    let sort = given(query.sort.as_deref()).unwrap_or("state");
    if !ORDERS.iter().any(|(order, _)| *order == sort) {
        return error::bad_request(
            &state,
            "slos",
            format!("sort: {sort:?} is no order; use state, budget, burn or name"),
        );
    }
    let report = state.slos.report(&state.engine, &*state.series, &state.rules, now).await;
    let slos = state.slos.slos();
    let changes = state.changes.recent(now - MARKED);
    let text = given(query.q.as_deref()).unwrap_or_default().to_lowercase();
    let name = given(query.slo.as_deref());
    let fits = |one: &&Instance| {
        wanted.is_none_or(|wanted| one.state == wanted)
            && name.is_none_or(|name| one.slo.name == name)
            && (text.is_empty() || [&one.id, &one.slo.owner].iter().any(|field| field.to_lowercase().contains(&text)))
    };
    let mut found: Vec<&Instance> = report.instances.iter().filter(fits).collect();
    order(&mut found, sort);
    let count = |state: Grave| report.instances.iter().filter(|one| one.state == state).count();
    let tile = |label: &'static str, state: Grave| (label, count(state), link("slos", &[("state", state.as_str())]));
    let frame =
        report.warnings.iter().fold(Frame::new(&state, "slos"), |frame, warning| frame.warn(Some(warning.clone())));
    let without = report.without.iter().filter(|(slo, _)| wanted.is_none() && name.is_none_or(|name| name == slo));
    let page = Page {
        frame,
        configured: slos.len(),
        tiles: vec![
            tile("Burning fast", Grave::Page),
            tile("Budget gone", Grave::Exhausted),
            tile("Burning slowly", Grave::Ticket),
            tile("Healthy", Grave::Healthy),
            tile("Without traffic", Grave::Idle),
        ],
        text: query.q.clone().unwrap_or_default(),
        names: slos.iter().map(|slo| (slo.name.clone(), name == Some(slo.name.as_str()))).collect(),
        states: Grave::ALL.map(|one| (one.as_str(), wanted == Some(one))).into(),
        orders: ORDERS.map(|(order, words)| (order, words, order == sort)).into(),
        left_out: found.len().saturating_sub(SHOWN_MAX),
        rows: found.into_iter().take(SHOWN_MAX).map(|one| row(one, now, &changes)).collect(),
        without: without.cloned().collect(),
    };
    render(&page)
}

/// The report comes with the gravest first.
fn order(found: &mut [&Instance], sort: &str) {
    let short_burn = |one: &Instance| one.burn.iter().find(|b| b.window == "1h").and_then(|b| b.rate).unwrap_or(-1.0);
    match sort {
        "budget" => {
            let left = |one: &Instance| one.remaining.unwrap_or(f64::MAX);
            found.sort_by(|a, b| left(a).total_cmp(&left(b)));
        }
        "burn" => found.sort_by(|a, b| short_burn(b).total_cmp(&short_burn(a))),
        "name" => found.sort_by(|a, b| a.id.cmp(&b.id)),
        _ => {}
    }
}

fn row(one: &Instance, now: Timestamp, changes: &[Arc<Change>]) -> Row {
    let slo = &one.slo;
    let label = |name: &str| one.labels.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value.as_str());
    let left = one.remaining;
    let (left_text, left_class) = match left {
        None => ("–".to_owned(), "idle"),
        Some(left) if left <= 0.0 => (format!("{} overspent", format::percent_any(-left)), "failure"),
        Some(left) if left < 0.25 => (format::percent_any(left), "degraded"),
        Some(left) => (format::percent_any(left), "healthy"),
    };
    let (forecast, forecast_class) = forecast(one);
    let objective = format::number_text(slo.objective.percent());
    let selector = format!("{{sloth_id={}}}", serde_json::Value::from(one.id.as_str()));
    Row {
        service: shown(one),
        name: slo.name.clone(),
        about: format!("{} · bad: {}", slo.indicator.kind, format::shortened(&slo.indicator.bad, TEXT_CHARS)),
        description: format::shortened(&slo.description, TEXT_CHARS),
        objective: format!("{objective}% over {}", format::span(slo.window.get())),
        state: words(one.state),
        class: class(one.state),
        left: left_text,
        left_class,
        width: left.map_or(0.0, |left| (left * 1000.0).round().clamp(0.0, 1000.0) / 10.0),
        covered: (one.covered > 0.0 && one.covered < 0.995)
            .then(|| format::span(whole(slo.window.get().mul_f64(one.covered.clamp(0.0, 1.0))))),
        burn: one.burn.iter().map(|burn| (burn.window, burn_text(burn.rate), burn_class(burn.rate))).collect(),
        forecast,
        forecast_class,
        firing: one.firing.iter().map(|firing| said(firing, now)).collect(),
        chart: Chart::of(&one.history, slo.window.get(), now).map(|chart| chart.marking(marks(one, changes))),
        rate: one.events_per_second.map_or_else(|| "–".to_owned(), format::rate),
        graph: graph(label("destination_service_namespace"), label("destination_service_name")),
        explore: link("explore", &[("query", &format!("slo:sli_error:ratio_rate5m{selector}"))]),
    }
}

/// The changes of what is declared that govern the calls of an objective's service.
fn marks(one: &Instance, changes: &[Arc<Change>]) -> impl Iterator<Item = (Timestamp, String)> {
    let label = |name: &str| one.labels.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    let service = label("destination_service_name").map(|name| (name, label("destination_service_namespace")));
    let ends = Ends { services: service.into_iter().collect(), ..Ends::default() };
    changes.iter().filter(move |change| change.governs.covers(&ends)).take(MARKS_MAX).map(|change| {
        (change.at, format!("{} {} at {}: {}", change.what(), change.action, change.at, change.summary()))
    })
}

/// The service on the graph; nothing for objectives that are not about one.
fn graph(namespace: &str, service: &str) -> String {
    match service {
        "" => String::new(),
        // A mesh of several clusters has other ids: then nothing is selected.
        _ => link("graph", &[("view", "service"), ("select", &format!("service:/{namespace}/{service}"))]),
    }
}

/// An edge as an arrow, all else as it is recorded.
fn shown(one: &Instance) -> String {
    let values: Vec<&str> = one.labels.iter().map(|(_, value)| value.as_str()).collect();
    match (one.slo.indicator.about.contains(" -> "), one.service.split('/').collect::<Vec<_>>().as_slice()) {
        (true, [from, source, to, destination]) if values.len() == 4 => format!("{from}/{source} → {to}/{destination}"),
        _ => one.service.clone(),
    }
}

fn whole(duration: std::time::Duration) -> std::time::Duration {
    std::time::Duration::from_secs(duration.as_secs().max(1))
}

fn burn_text(rate: Option<f64>) -> String {
    rate.map_or_else(|| "–".to_owned(), |rate| format!("{}×", format::number(rate)))
}

/// From 1 on the budget does not last; from 6 on, the lower factor of a page, it is gone in days.
fn burn_class(rate: Option<f64>) -> &'static str {
    match rate {
        None => "muted",
        Some(rate) if rate >= 6.0 => "failure-text",
        Some(rate) if rate > 1.0 => "degraded-text",
        Some(_) => "",
    }
}

fn forecast(one: &Instance) -> (String, &'static str) {
    let by = match one.forecast_by {
        Some(window) => format!("at the rate of the last {}", window.replace('h', " h").replace("5m", "5 min")),
        None => String::new(),
    };
    match one.forecast {
        Forecast::Gone => ("budget gone".to_owned(), "failure-text"),
        Forecast::Lasts => (format!("lasts {by}"), ""),
        Forecast::GoneIn(time) => (format!("budget gone in {} {by}", format::span(whole(time))), "degraded-text"),
        Forecast::Unknown if one.state == Grave::Unknown && one.slo.indicator.kind == "latency" => {
            ("no bucket with this bound: do the proxies have other bounds?".to_owned(), "degraded-text")
        }
        Forecast::Unknown => ("–".to_owned(), "muted"),
    }
}

fn said(firing: &Firing, now: Timestamp) -> (String, String, &'static str) {
    let (state, class) = if firing.is_firing { ("firing", "failure") } else { ("pending", "degraded") };
    (
        format!("{} ({})", firing.alert, firing.severity),
        format!("{state}, since {}", format::ago(Some(firing.since), now)),
        class,
    )
}

fn words(state: Grave) -> &'static str {
    match state {
        Grave::Page => "burning fast",
        Grave::Exhausted => "budget gone",
        Grave::Ticket => "burning slowly",
        Grave::Unknown => "unknown",
        Grave::Healthy => "healthy",
        Grave::New => "measuring",
        Grave::Idle => "no traffic",
    }
}

fn class(state: Grave) -> &'static str {
    match state {
        Grave::Page | Grave::Exhausted => "failure",
        Grave::Ticket | Grave::Unknown => "degraded",
        Grave::Healthy => "healthy",
        Grave::New | Grave::Idle => "idle",
    }
}

#[cfg(test)]
mod tests;
