//! `alerts` and `alerts/history`: what fires and waits with what keeps it quiet, and every change of state.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::operation::{Answer, Outcome};
use super::query::{AtMost, Time, named, names};
use crate::api::State;
use crate::api::error::ApiError;
use crate::model::{AlertState, AlertTransition, Labels};
use crate::notify::go_time;
use crate::persist::{AlertBoard, AlertFilter, BoardAlert, read_search};
use crate::store::{AlertEventKey, AlertHistoryQuery};

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;
/// The range of the history unless told.
const RANGE_DEFAULT: std::time::Duration = std::time::Duration::from_secs(86_400);

/// The list.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AlertList")]
pub(super) struct Listed {
    /// Alerts that are asked for.
    matched: usize,
    /// All alerts.
    total: usize,
    /// The first of them.
    alerts: Vec<Shown>,
}

/// One alert.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "BoardAlert")]
struct Shown {
    /// Of its own labels; names it in the history and in addresses of pages.
    fingerprint: String,
    /// Of its labels with the external ones, as Alertmanager's API has it.
    told_fingerprint: String,
    /// As they are told.
    #[serde(serialize_with = "map")]
    #[schemars(with = "BTreeMap<String, String>")]
    labels: Labels,
    /// What it says.
    #[serde(serialize_with = "map")]
    #[schemars(with = "BTreeMap<String, String>")]
    annotations: Labels,
    /// Where it is.
    #[schemars(extend("enum" = ["pending", "firing", "inactive"]))]
    state: &'static str,
    /// The expression's value.
    value: String,
    /// Since when the expression returns it.
    #[schemars(extend("format" = "date-time"))]
    active_at: String,
    /// Since when it fires.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    fired_at: Option<String>,
    /// Rule file and group; absent when no rule that runs here raised it.
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    /// Who it goes to.
    receivers: Vec<String>,
    /// Silences that mute it.
    silenced_by: Vec<String>,
    /// Alerts that mute it.
    inhibited_by: Vec<String>,
    /// Times that keep all its receivers quiet.
    muted_by: Vec<String>,
}

/// One page.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AlertHistory")]
pub(super) struct History {
    /// The newest first.
    changes: Vec<Change>,
    /// The parameter before of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// One change of state.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AlertChange")]
struct Change {
    /// When.
    #[schemars(extend("format" = "date-time"))]
    at: String,
    /// Of the alert's labels.
    fingerprint: String,
    /// Rule file and group.
    group: String,
    /// The alert's labels.
    #[serde(serialize_with = "map")]
    #[schemars(with = "BTreeMap<String, String>")]
    labels: Labels,
    /// What it said.
    #[serde(serialize_with = "map")]
    #[schemars(with = "BTreeMap<String, String>")]
    annotations: Labels,
    /// State before.
    #[schemars(extend("enum" = ["pending", "firing", "inactive"]))]
    from: &'static str,
    /// State after.
    #[schemars(extend("enum" = ["pending", "firing", "inactive"]))]
    to: &'static str,
    /// The expression's value.
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

const STATES: [AlertState; 3] = [AlertState::Pending, AlertState::Firing, AlertState::Inactive];

/// Which alerts.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Which {
    /// Text that a name, label or annotation holds, or matchers such as {severity="page"}.
    #[serde(default)]
    search: String,
    /// Its state.
    #[schemars(extend("enum" = names(&STATES, AlertState::as_str)))]
    state: Option<String>,
    /// Exactly this severity.
    #[serde(default)]
    severity: String,
    /// Exactly this namespace.
    #[serde(default)]
    namespace: String,
    /// Exactly this service.
    #[serde(default)]
    service: String,
    /// A receiver that it goes to.
    #[serde(default)]
    receiver: String,
    /// Most to return; 100 unless told, more than 1000 count as 1000, 0 as unset.
    #[serde(default)]
    limit: AtMost<LIMIT_DEFAULT, LIMIT_MAX>,
}

/// Which changes of state.
#[derive(Deserialize, JsonSchema)]
pub(super) struct WhichChanges {
    /// Begin: seconds since 1970 or RFC 3339; a day before the end unless told.
    start: Option<Time>,
    /// End; now unless told.
    end: Option<Time>,
    /// Text that a name, label or annotation holds, or matchers such as {severity="page"}.
    #[serde(default)]
    search: String,
    /// One alert only, 16 hexadecimal digits.
    fingerprint: Option<String>,
    /// The state that it changed to.
    #[schemars(extend("enum" = names(&STATES, AlertState::as_str)))]
    state: Option<String>,
    /// The field next of the page before.
    before: Option<String>,
    /// Most to return; 100 unless told, more than 1000 count as 1000, 0 as unset.
    #[serde(default)]
    limit: AtMost<LIMIT_DEFAULT, LIMIT_MAX>,
}

fn state_of(text: Option<&str>) -> Result<Option<AlertState>, ApiError> {
    named("state", text, &STATES, AlertState::as_str)
}

/// Every alert that fires or waits, those that need somebody first.
pub(super) async fn list(state: State, asked: Which) -> Outcome<Listed> {
    let search = read_search(&asked.search);
    let (matchers, text) = search.map_err(|error| ApiError::parameter("search", error))?;
    let filter = AlertFilter {
        state: state_of(asked.state.as_deref())?,
        severity: asked.severity,
        namespace: asked.namespace,
        service: asked.service,
        receiver: asked.receiver,
        matchers,
        text,
        quiet: None,
    };
    let all = AlertBoard::new(state.rules.clone(), state.notify.clone()).alerts(state.clock.now());
    let total = all.len();
    let found: Vec<BoardAlert> = all.into_iter().filter(|alert| filter.takes(alert)).collect();
    let matched = found.len();
    let alerts = found.into_iter().take(asked.limit.0).map(Shown::new).collect();
    Ok(Answer::new(Listed { matched, total, alerts }))
}

/// Changes of state, the newest first; `next` is the parameter `before` of the page after this one.
pub(super) async fn history(state: State, asked: WhichChanges) -> Outcome<History> {
    let now = state.clock.now();
    let search = read_search(&asked.search);
    let (matchers, text) = search.map_err(|error| ApiError::parameter("search", error))?;
    let wrong = || ApiError::parameter("fingerprint", "use 16 digits of 0-9a-f");
    let fingerprint = asked.fingerprint.map(|text| u64::from_str_radix(&text, 16).map_err(|_| wrong()));
    let wrong = || ApiError::parameter("before", "use the field next of the page before");
    let before = asked.before.map(|text| AlertEventKey::read(&text).ok_or_else(wrong));
    let to = asked.end.map_or(now, |end| end.0);
    let query = AlertHistoryQuery {
        from: asked.start.map_or(to - RANGE_DEFAULT, |start| start.0),
        to,
        fingerprint: fingerprint.transpose()?,
        to_state: state_of(asked.state.as_deref())?,
        matchers,
        text,
        before: before.transpose()?,
        limit: asked.limit.0,
    };
    if query.from > query.to {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
    }
    let board = AlertBoard::new(state.rules.clone(), state.notify.clone());
    let (page, warning) = state.archive.alert_changes(&query, || board.alerts(now)).await;
    let next = page.next.map(|key| key.to_string());
    let changes = page.events.into_iter().map(change).collect();
    let warnings: Vec<String> = warning.into_iter().collect();
    Ok(Answer::with(History { changes, next }, &warnings))
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
