//! `alerts` and `alerts/history`: what fires and waits with what keeps it quiet, and every change of state.

use axum::extract::State as Shared;
use axum::response::Response;
use serde::Serialize;

use crate::api::State;
use crate::api::encode::success_with;
use crate::api::error::ApiError;
use crate::api::params::Params;
use crate::model::{AlertState, AlertTransition, Labels};
use crate::notify::go_time;
use crate::persist::{AlertBoard, AlertFilter, BoardAlert, read_search};
use crate::store::{AlertEventKey, AlertHistoryQuery};

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;
/// The range of the history unless told.
const RANGE_DEFAULT: std::time::Duration = std::time::Duration::from_secs(86_400);

#[derive(Serialize)]
struct Listed {
    matched: usize,
    total: usize,
    alerts: Vec<Shown>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    fingerprint: String,
    told_fingerprint: String,
    #[serde(serialize_with = "map")]
    labels: Labels,
    #[serde(serialize_with = "map")]
    annotations: Labels,
    state: &'static str,
    /// As text, for JSON has no infinities.
    value: String,
    active_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fired_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    receivers: Vec<String>,
    silenced_by: Vec<String>,
    inhibited_by: Vec<String>,
    muted_by: Vec<String>,
}

#[derive(Serialize)]
struct History {
    changes: Vec<Change>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[derive(Serialize)]
struct Change {
    at: String,
    fingerprint: String,
    group: String,
    #[serde(serialize_with = "map")]
    labels: Labels,
    #[serde(serialize_with = "map")]
    annotations: Labels,
    from: &'static str,
    to: &'static str,
    value: String,
}

fn map<S: serde::Serializer>(labels: &Labels, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(labels.iter())
}

impl Shown {
    fn new(alert: BoardAlert) -> Self {
        let group = alert.rule.as_ref().map(|rule| format!("{};{}", rule.group.file, rule.group.name));
        Self {
            fingerprint: format!("{:016x}", alert.id),
            told_fingerprint: format!("{:016x}", alert.told_id),
            labels: alert.told,
            state: alert.alert.state.as_str(),
            value: alert.alert.value.to_string(),
            active_at: go_time(alert.alert.active_at),
            fired_at: alert.alert.fired_at.map(go_time),
            annotations: alert.alert.annotations,
            group,
            receivers: alert.receivers,
            silenced_by: alert.silenced_by,
            inhibited_by: alert.inhibited_by.into_iter().map(|id| format!("{id:016x}")).collect(),
            muted_by: alert.muted_by,
        }
    }
}

fn limit(params: &Params) -> Result<usize, ApiError> {
    Ok(match params.limit()? {
        0 => LIMIT_DEFAULT,
        limit => limit.min(LIMIT_MAX),
    })
}

fn state_of(params: &Params) -> Result<Option<AlertState>, ApiError> {
    let states = [AlertState::Inactive, AlertState::Pending, AlertState::Firing];
    let wanted = params.get("state");
    let found = wanted.map(|name| states.into_iter().find(|state| state.as_str() == name));
    found.map(|state| state.ok_or_else(|| ApiError::parameter("state", "use pending, firing or inactive"))).transpose()
}

/// Every alert that fires or waits, those that need somebody first.
pub(super) async fn list(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    let search = read_search(params.get("search").unwrap_or_default());
    let (matchers, text) = search.map_err(|error| ApiError::parameter("search", error))?;
    let own = |name: &str| params.get(name).unwrap_or_default().to_owned();
    let filter = AlertFilter {
        state: state_of(&params)?,
        severity: own("severity"),
        namespace: own("namespace"),
        service: own("service"),
        receiver: own("receiver"),
        matchers,
        text,
        quiet: None,
    };
    let limit = limit(&params)?;
    let all = AlertBoard::new(state.rules.clone(), state.notify.clone()).alerts(state.clock.now());
    let total = all.len();
    let found: Vec<BoardAlert> = all.into_iter().filter(|alert| filter.takes(alert)).collect();
    let matched = found.len();
    let alerts = found.into_iter().take(limit).map(Shown::new).collect();
    Ok(success_with(&Listed { matched, total, alerts }, &[]))
}

/// Changes of state, the newest first; `next` is the parameter `before` of the page after this one.
pub(super) async fn history(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    let now = state.clock.now();
    let search = read_search(params.get("search").unwrap_or_default());
    let (matchers, text) = search.map_err(|error| ApiError::parameter("search", error))?;
    let wrong = || ApiError::parameter("fingerprint", "use 16 digits of 0-9a-f");
    let fingerprint = params.get("fingerprint").map(|text| u64::from_str_radix(text, 16).map_err(|_| wrong()));
    let wrong = || ApiError::parameter("before", "use the field next of the page before");
    let before = params.get("before").map(|text| AlertEventKey::read(text).ok_or_else(wrong));
    let to = params.time("end")?.unwrap_or(now);
    let query = AlertHistoryQuery {
        from: params.time("start")?.unwrap_or(to - RANGE_DEFAULT),
        to,
        fingerprint: fingerprint.transpose()?,
        to_state: state_of(&params)?,
        matchers,
        text,
        before: before.transpose()?,
        limit: limit(&params)?,
    };
    if query.from > query.to {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
    }
    let board = AlertBoard::new(state.rules.clone(), state.notify.clone());
    let (page, warning) = state.archive.alert_changes(&query, || board.alerts(now)).await;
    let next = page.next.map(|key| key.to_string());
    let changes = page.events.into_iter().map(change).collect();
    let warnings: Vec<String> = warning.into_iter().collect();
    Ok(success_with(&History { changes, next }, &warnings))
}

fn change(event: AlertTransition) -> Change {
    let AlertTransition { at, group, labels, annotations, from, to, value } = event;
    Change {
        at: go_time(at),
        fingerprint: format!("{:016x}", labels.fingerprint()),
        group,
        labels,
        annotations,
        from: from.as_str(),
        to: to.as_str(),
        value: value.to_string(),
    }
}
