//! `slos`: how service level objectives fare, each for each service it covers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::operation::{Answer, Outcome};
use super::query::{Limit, named, names};
use crate::api::State;
use crate::api::encode::go_time;
use crate::slo::{Forecast, Instance, Report};

/// Objectives in one answer unless told, and at most.
const SHOWN_MAX: usize = 10_000;

/// Objectives, each for each service it covers.
#[derive(Serialize, JsonSchema)]
pub(super) struct Slos<'a> {
    /// How many match.
    total: usize,
    /// The gravest first.
    slos: Vec<SloJson<'a>>,
    /// Objectives that cover nothing.
    without: Vec<WithoutJson<'a>>,
}

/// One of them.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SloWithout")]
struct WithoutJson<'a> {
    /// Its name.
    name: &'a str,
    /// Why, in one sentence.
    reason: &'a str,
}

/// One objective of one service.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Slo")]
struct SloJson<'a> {
    /// Unique; the label sloth_id of its series.
    id: &'a str,
    /// The objective, as configured.
    name: &'a str,
    /// What it is about.
    service: &'a str,
    /// The labels that tell it apart.
    labels: std::collections::BTreeMap<&'a str, &'a str>,
    /// What it means to people; may be empty.
    description: &'a str,
    /// Who answers for it; may be empty.
    owner: &'a str,
    /// What is counted.
    #[schemars(extend("enum" = ["availability", "latency", "connections", "events", "error ratio"]))]
    indicator: &'static str,
    /// Which events are bad, in words.
    bad: &'a str,
    /// Percent of events that are to be good.
    objective: f64,
    /// Over which time.
    window_seconds: u64,
    /// How grave it is.
    #[schemars(extend("enum" = names(&crate::slo::State::ALL, crate::slo::State::as_str)))]
    state: &'static str,
    /// The share of the window's budget that is left, below 0 when overspent; absent when unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_remaining: Option<f64>,
    /// The share of the window of which there are measurements.
    covered: f64,
    /// By window (5m, 1h, 6h, 1d, 3d): 1 uses the budget up in one window of the objective.
    burn_rates: std::collections::BTreeMap<&'static str, f64>,
    /// Over five minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    events_per_second: Option<f64>,
    /// What becomes of the budget.
    #[schemars(extend("enum" = ["gone", "lasts", "gone_in", "unknown"]))]
    forecast: &'static str,
    /// With gone_in: how long it lasts.
    #[serde(skip_serializing_if = "Option::is_none")]
    gone_in_seconds: Option<u64>,
    /// The window whose burn rate the forecast goes on with.
    #[serde(skip_serializing_if = "Option::is_none")]
    forecast_window: Option<&'static str>,
    /// Its alerts that are pending or fire.
    alerts: Vec<AlertJson<'a>>,
    /// What was left of the budget, at most over the window.
    history: Vec<PointJson>,
}

/// One of them.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SloAlert")]
struct AlertJson<'a> {
    /// Name of the alert.
    name: &'a str,
    /// Page or ticket.
    #[schemars(extend("enum" = ["page", "ticket"]))]
    kind: &'a str,
    /// The label severity.
    severity: &'a str,
    /// Whether it fires yet.
    #[schemars(extend("enum" = ["pending", "firing"]))]
    state: &'static str,
    /// Since when its condition holds, RFC 3339.
    since: String,
}

/// One moment.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "SloPoint")]
struct PointJson {
    /// Seconds since the epoch.
    time: f64,
    /// The share that was left.
    budget_remaining: f64,
}

/// Which objectives.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Which {
    /// Name of an objective; all unless told.
    slo: Option<String>,
    /// Only those in this state.
    #[schemars(extend("enum" = names(&crate::slo::State::ALL, crate::slo::State::as_str)))]
    state: Option<String>,
    /// Most objectives, from 1 to 10000; 10000 unless told.
    limit: Option<Limit<SHOWN_MAX>>,
}

/// The objectives, the gravest first.
pub(super) async fn list(state: State, asked: Which) -> Outcome<Slos<'static>> {
    let limit = asked.limit.map_or(SHOWN_MAX, |limit| limit.0);
    let wanted = named("state", asked.state.as_deref(), &crate::slo::State::ALL, crate::slo::State::as_str)?;
    let report = state.slos.report(&state.engine, &*state.series, &state.rules, state.clock.now()).await;
    Ok(answer(&report, (asked.slo.as_deref(), wanted), limit))
}

fn answer(
    report: &Report,
    (name, state): (Option<&str>, Option<crate::slo::State>),
    limit: usize,
) -> Answer<Slos<'static>> {
    let is_wanted = |slo: &str| name.is_none_or(|name| name == slo);
    let fits = |one: &&Instance| is_wanted(&one.slo.name) && state.is_none_or(|state| state == one.state);
    let found: Vec<&Instance> = report.instances.iter().filter(fits).collect();
    let without = report.without.iter().filter(|(name, _)| is_wanted(name) && state.is_none());
    let data = Slos {
        total: found.len(),
        slos: found.into_iter().take(limit).map(json).collect(),
        without: without.map(|(name, reason)| WithoutJson { name, reason }).collect(),
    };
    Answer::with(data, &report.warnings)
}

fn json(one: &Instance) -> SloJson<'_> {
    let Instance { slo, id, service, labels, state, remaining, covered, burn, events_per_second, .. } = one;
    let (forecast, gone_in_seconds) = match one.forecast {
        Forecast::Gone => ("gone", None),
        Forecast::Lasts => ("lasts", None),
        Forecast::GoneIn(time) => ("gone_in", Some(time.as_secs())),
        Forecast::Unknown => ("unknown", None),
    };
    SloJson {
        id,
        name: &slo.name,
        service,
        labels: labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
        description: &slo.description,
        owner: &slo.owner,
        indicator: slo.indicator.kind,
        bad: &slo.indicator.bad,
        objective: slo.objective.percent(),
        window_seconds: slo.window.get().as_secs(),
        state: state.as_str(),
        budget_remaining: *remaining,
        covered: *covered,
        burn_rates: burn.iter().filter_map(|burn| Some((burn.window, burn.rate?))).collect(),
        events_per_second: *events_per_second,
        forecast,
        gone_in_seconds,
        forecast_window: one.forecast_by,
        alerts: one.firing.iter().map(alert).collect(),
        history: one
            .history
            .iter()
            .map(|(at, left)| PointJson { time: at.as_secs_f64(), budget_remaining: *left })
            .collect(),
    }
}

fn alert(firing: &crate::slo::Firing) -> AlertJson<'_> {
    AlertJson {
        name: &firing.alert,
        kind: &firing.kind,
        severity: &firing.severity,
        state: if firing.is_firing { "firing" } else { "pending" },
        since: go_time(Some(firing.since)),
    }
}
