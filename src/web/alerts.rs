//! The page of alerts: what fires and waits, its story, and what receivers were told.

use askama::Template;
use axum::extract::State as Shared;
use axum::response::Response;

use super::State;
use super::ask::link;
use super::format;
use super::frame::{Frame, render};
use crate::context::{ANNOTATIONS, OPT_IN};
use crate::model::{Alert, AlertState, Labels, Timestamp};

/// Labels that say where an alert is, the most telling first.
const TELLING: [&str; 12] = [
    "source_workload",
    "destination_workload",
    "destination_service_name",
    "response_code",
    "response_flags",
    "severity",
    "workload",
    "service",
    "namespace",
    "destination_workload_namespace",
    "pod",
    "instance",
];
/// Labels that a row shows at once; the others unfold.
const TELLING_MAX: usize = 5;
/// Longest value of a label that is shown.
const VALUE_CHARS: usize = 300;
/// Alerts of which is shown what the mesh says of them.
const CONTEXTS_SHOWN: usize = 50;
/// Changes of state and deliveries that are shown.
const CHANGES_SHOWN: usize = 40;

#[derive(Template)]
#[template(path = "alerts.html")]
struct Page {
    frame: Frame,
    alerts: Vec<Row>,
    rules: usize,
    broken: Vec<Broken>,
    file_problems: Vec<String>,
    attempts: Vec<Told>,
    history: Vec<Change>,
}

/// One alert as a row.
pub(super) struct Row {
    pub(super) name: String,
    pub(super) state: &'static str,
    pub(super) class: &'static str,
    pub(super) summary: String,
    pub(super) description: String,
    /// The labels that say where it is, a few.
    pub(super) telling: Vec<(String, String)>,
    /// The other labels.
    pub(super) others: Vec<(String, String)>,
    pub(super) value: String,
    pub(super) since: String,
    pub(super) since_exact: String,
    pub(super) rule: String,
    pub(super) query: String,
    pub(super) explore: String,
    /// Fragment by which notifications link to this row.
    pub(super) anchor: String,
    /// What the mesh says of it: what, text, and whether the text is an address.
    pub(super) context: Vec<(String, String, bool)>,
    order: (u8, Timestamp),
    alert: Alert,
}

struct Broken {
    name: String,
    error: String,
}

struct Told {
    ago: String,
    receiver: String,
    what: String,
    reason: &'static str,
    tries: u32,
    error: Option<String>,
}

struct Change {
    ago: String,
    exact: String,
    name: String,
    telling: Vec<(String, String)>,
    others: Vec<(String, String)>,
    from: &'static str,
    to: &'static str,
    class: &'static str,
}

pub(super) async fn page(Shared(state): Shared<State>) -> Response {
    let now = state.clock.now();
    let groups = state.rules.groups();
    let rules = groups.iter().map(|group| group.rules.len()).sum();
    let broken = (groups.iter())
        .flat_map(|group| group.rules.iter())
        .filter_map(|rule| Some(Broken { name: rule.name.clone(), error: rule.last_error.clone()? }))
        .collect();
    let attempts = state.notify.attempts().into_iter().take(CHANGES_SHOWN).map(|attempt| Told {
        ago: format::ago(Some(attempt.at), now),
        receiver: attempt.receiver,
        what: told(attempt.firing, attempt.resolved),
        reason: attempt.reason,
        tries: attempt.tries,
        error: attempt.error,
    });
    let (history, warning) = state.archive.alert_history(now, CHANGES_SHOWN).await;
    let history = history.into_iter().map(|change| {
        let (telling, others) = told_apart(&change.labels);
        Change {
            ago: format::ago(Some(change.at), now),
            exact: change.at.to_string(),
            name: change.labels.value("alertname").to_owned(),
            telling,
            others,
            from: change.from.as_str(),
            to: change.to.as_str(),
            class: class_of(change.to),
        }
    });
    let page = Page {
        frame: Frame::new(&state, "alerts").warn(warning),
        alerts: with_context(&state, rows(&state)).await,
        rules,
        broken,
        file_problems: state.rules.problems().iter().map(ToString::to_string).collect(),
        attempts: attempts.collect(),
        history: history.collect(),
    };
    render(&page)
}

/// Names and values of labels.
type Pairs = Vec<(String, String)>;

/// The labels that say where an alert is, at most [`TELLING_MAX`], and the others. The name is in neither.
fn told_apart(labels: &Labels) -> (Pairs, Pairs) {
    let named = labels.iter().filter(|(name, value)| *name != "alertname" && !value.is_empty());
    let mut pairs: Vec<(usize, (String, String))> = named
        .map(|(name, value)| {
            let rank = TELLING.iter().position(|one| *one == name).unwrap_or(TELLING.len());
            (rank, (name.to_owned(), format::shortened(value, VALUE_CHARS)))
        })
        .collect();
    pairs.sort_by_key(|(rank, _)| *rank);
    let others = pairs.split_off(pairs.len().min(TELLING_MAX));
    let bare = |pairs: Vec<(usize, (String, String))>| pairs.into_iter().map(|(_, pair)| pair).collect();
    (bare(pairs), bare(others))
}

fn told(firing: usize, resolved: usize) -> String {
    match (firing, resolved) {
        (firing, 0) => format!("{firing} firing"),
        (0, resolved) => format!("{resolved} resolved"),
        (firing, resolved) => format!("{firing} firing, {resolved} resolved"),
    }
}

/// Alerts that fire or wait, the firing ones first, the longest first.
pub(super) fn rows(state: &State) -> Vec<Row> {
    let now = state.clock.now();
    let mut rows = Vec::new();
    for group in state.rules.groups() {
        for rule in &group.rules {
            let Some(alerting) = &rule.alerting else { continue };
            for alert in alerting.alerts.iter().filter(|alert| alert.state != AlertState::Inactive) {
                rows.push(row(alert, &rule.query, &format!("{} › {}", group.name, rule.name), now));
            }
        }
    }
    rows.sort_by_key(|a| a.order);
    rows
}

/// The rows with what the mesh says of the first alerts, as their receivers are told it.
async fn with_context(state: &State, mut rows: Vec<Row>) -> Vec<Row> {
    let (now, plan) = (state.clock.now(), state.notify.plan());
    for (at, row) in rows.iter_mut().enumerate() {
        let told = Alert { labels: plan.told_labels(&row.alert.labels), ..row.alert.clone() };
        row.anchor = format!("alert-{:016x}", told.labels.fingerprint());
        if at >= CONTEXTS_SHOWN || told.state != AlertState::Firing {
            continue;
        }
        let added = state.context.of(&told, true, now).await.unwrap_or_else(Labels::empty);
        let shown = ANNOTATIONS.into_iter().filter(|name| *name != OPT_IN);
        let shown = shown.filter_map(|name| Some((name, added.get(name).filter(|text| !text.is_empty())?)));
        row.context = shown
            .map(|(name, text)| {
                let what = name.trim_start_matches("meshscope_");
                let is_url = what.ends_with("_url");
                let what = what.trim_end_matches("_url").replace('_', " ");
                (what, text.to_owned(), is_url)
            })
            .filter(|(what, ..)| what != "alert")
            .collect();
    }
    rows
}

fn row(alert: &Alert, query: &str, rule: &str, now: Timestamp) -> Row {
    let since = alert.fired_at.unwrap_or(alert.active_at);
    let (telling, others) = told_apart(&alert.labels);
    let said = |name: &str| alert.annotations.value(name).to_owned();
    Row {
        name: alert.labels.value("alertname").to_owned(),
        state: alert.state.as_str(),
        class: class_of(alert.state),
        summary: said("summary"),
        description: said("description"),
        telling,
        others,
        value: format::count(alert.value),
        since: format::ago(Some(since), now),
        since_exact: since.to_string(),
        rule: rule.to_owned(),
        query: query.to_owned(),
        explore: link("explore", &[("query", query)]),
        anchor: String::new(),
        context: Vec::new(),
        order: (u8::from(alert.state != AlertState::Firing), since),
        alert: alert.clone(),
    }
}

fn class_of(state: AlertState) -> &'static str {
    match state {
        AlertState::Firing => "failure",
        AlertState::Pending => "degraded",
        AlertState::Inactive => "healthy",
    }
}

#[cfg(test)]
mod tests;
