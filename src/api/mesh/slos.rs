//! `slos`: how service level objectives fare, each for each service it covers.

use axum::extract::State as Shared;
use axum::response::Response;
use serde::Serialize;

use crate::api::State;
use crate::api::encode::{go_time, success_with};
use crate::api::error::ApiError;
use crate::api::params::Params;
use crate::slo::{Forecast, Instance, Report};

/// Objectives in one answer unless told, and at most.
const SHOWN_MAX: usize = 10_000;

#[derive(Serialize)]
struct Slos<'a> {
    total: usize,
    slos: Vec<SloJson<'a>>,
    without: Vec<WithoutJson<'a>>,
}

#[derive(Serialize)]
struct WithoutJson<'a> {
    name: &'a str,
    reason: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SloJson<'a> {
    id: &'a str,
    name: &'a str,
    service: &'a str,
    labels: std::collections::BTreeMap<&'a str, &'a str>,
    description: &'a str,
    owner: &'a str,
    indicator: &'static str,
    bad: &'a str,
    objective: f64,
    window_seconds: u64,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_remaining: Option<f64>,
    covered: f64,
    burn_rates: std::collections::BTreeMap<&'static str, f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    events_per_second: Option<f64>,
    forecast: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    gone_in_seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    forecast_window: Option<&'static str>,
    alerts: Vec<AlertJson<'a>>,
    history: Vec<PointJson>,
}

#[derive(Serialize)]
struct AlertJson<'a> {
    name: &'a str,
    kind: &'a str,
    severity: &'a str,
    state: &'static str,
    since: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PointJson {
    time: f64,
    budget_remaining: f64,
}

/// The objectives, the gravest first; `slo` names one, `state` a state, `limit` how many.
pub(super) async fn list(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    let limit = params.limit_within(SHOWN_MAX)?.unwrap_or(SHOWN_MAX);
    let states = crate::slo::State::ALL;
    let wanted = match params.get("state") {
        None => None,
        Some(text) => Some(states.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
            let known = states.map(crate::slo::State::as_str).join(", ");
            ApiError::parameter("state", format!("{text:?} is no state; they are {known}"))
        })?),
    };
    let report = state.slos.report(&state.engine, &*state.series, &state.rules, state.clock.now()).await;
    Ok(answer(&report, (params.get("slo"), wanted), limit))
}

fn answer(report: &Report, (name, state): (Option<&str>, Option<crate::slo::State>), limit: usize) -> Response {
    let is_wanted = |slo: &str| name.is_none_or(|name| name == slo);
    let fits = |one: &&Instance| is_wanted(&one.slo.name) && state.is_none_or(|state| state == one.state);
    let found: Vec<&Instance> = report.instances.iter().filter(fits).collect();
    let without = report.without.iter().filter(|(name, _)| is_wanted(name) && state.is_none());
    let data = Slos {
        total: found.len(),
        slos: found.into_iter().take(limit).map(json).collect(),
        without: without.map(|(name, reason)| WithoutJson { name, reason }).collect(),
    };
    success_with(data, &report.warnings)
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
