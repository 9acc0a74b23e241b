//! The page of one alert: everything that is known of it, also when it has ended.

use askama::Template;
use axum::extract::Path;
use axum::response::Response;

use super::super::ask::Shared;
use super::history::{Change, EVENTS_SHOWN, change};
use super::lanes::{Lane, lanes};
use super::row::{Pairs, Row, Runbook, Stories, class_of, runbook, told_apart};
use crate::model::{AlertState, AlertTransition, Timestamp};
use crate::persist::BoardAlert;
use crate::store::{AlertHistoryQuery, NotificationQuery};
use crate::web::ask::link;
use crate::web::frame::{Frame, render};
use crate::web::notifications::{Entry, entry};
use crate::web::{State, error, format};

/// How far back the history of one alert is looked for.
const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);
/// Notifications that told of it.
const NOTIFICATIONS_SHOWN: usize = 20;

#[derive(Template)]
#[template(path = "alert.html")]
struct Page {
    frame: Frame,
    title: String,
    /// As it stands; `None` when it has ended.
    now: Option<Row>,
    ended: Option<Ended>,
    labels: Pairs,
    annotations: Pairs,
    lanes: Vec<Lane>,
    lane_from: String,
    history: Vec<Change>,
    history_href: String,
    notifications: Vec<Entry>,
    notifications_href: String,
    outbox_away: Option<String>,
    chart_until: i64,
    fingerprint: String,
}

/// What is left of an alert that has ended.
struct Ended {
    state: &'static str,
    class: &'static str,
    ago: String,
    exact: String,
    runbook: Option<Runbook>,
    silence: String,
}

pub(in crate::web) async fn page(Shared(state): Shared<State>, Path(text): Path<String>) -> Response {
    let now = state.clock.now();
    let Some(id) = (text.len() <= 16).then(|| u64::from_str_radix(&text, 16).ok()).flatten() else {
        let message = format!("An alert's address ends with its fingerprint, 16 digits of 0-9a-f; {text:?} is none.");
        return error::bad_request(&state, "alerts", message);
    };
    let all = state.board.alerts(now);
    // Links of Alertmanager's API carry the fingerprint with the external labels.
    let found = all.iter().find(|alert| alert.id == id).or_else(|| all.iter().find(|alert| alert.told_id == id));
    let id = found.map_or(id, |alert| alert.id);
    let query = AlertHistoryQuery {
        from: now - DAY * 400,
        to: now + DAY,
        fingerprint: Some(id),
        to_state: None,
        matchers: Vec::new(),
        text: String::new(),
        before: None,
        limit: EVENTS_SHOWN,
    };
    let (history, warning) = state.archive.alert_changes(&query, || found.cloned().into_iter().collect()).await;
    let last = history.events.first();
    if found.is_none() && last.is_none() {
        let reason = warning.map(|warning| format!(" {warning}")).unwrap_or_default();
        let message = format!("No alert of fingerprint {id:016x} fires, waits or is in the history.{reason}");
        return error::missing(&state, "alerts", message);
    }
    let page = story(&state, (id, found, &all), &history.events, now).await;
    render(&Page { frame: Frame::new(&state, "alerts").warn(warning), ..page })
}

async fn story(
    state: &State,
    (id, found, all): (u64, Option<&BoardAlert>, &[BoardAlert]),
    events: &[AlertTransition],
    now: Timestamp,
) -> Page {
    let shown: Vec<&BoardAlert> = found.into_iter().collect();
    let stories = Stories::read(state, &shown, all, now).await;
    let last = events.first();
    let empty = crate::model::Labels::empty();
    let labels = match (found, last) {
        (Some(alert), _) => alert.told.clone(),
        (None, Some(event)) => state.notify.plan().labels_told(&event.labels),
        (None, None) => empty.clone(),
    };
    let annotations = found.map(|alert| &alert.alert.annotations).or(last.map(|event| &event.annotations));
    let annotations = annotations.unwrap_or(&empty);
    let pairs = |labels: &crate::model::Labels| -> Pairs {
        let pair = |(name, value): (&str, &str)| (format::visible(name, 200), format::visible(value, 4000));
        labels.iter().take(200).map(pair).collect()
    };
    let told = NotificationQuery {
        told: Some(labels.fingerprint()),
        limit: NOTIFICATIONS_SHOWN,
        ..NotificationQuery::default()
    };
    let searched = match state.archive.away() {
        Some(reason) => Err(reason),
        None => state.outbox.search(&told).await.map_err(|error| error.to_string()),
    };
    let (notifications, outbox_away) = match searched {
        Ok(found) => (
            found.into_iter().map(|one| entry(one, &state.notify.under_way(), now).seen_by(&state.caller)).collect(),
            None,
        ),
        Err(reason) => (Vec::new(), Some(reason)),
    };
    // The drawing reaches back to the first change that is listed, a day at least.
    let from = events.last().map_or(now, |oldest| oldest.at).min(now - DAY);
    let hex = format!("{id:016x}");
    let (telling, _) = told_apart(&labels);
    let place: Vec<String> = telling.into_iter().take(2).map(|(_, value)| format::shortened(&value, 60)).collect();
    let name = format::visible(labels.value("alertname"), 200);
    Page {
        frame: Frame::around("alerts", 0),
        title: if place.is_empty() { name } else { format!("{name}: {}", place.join(", ")) },
        now: found.map(|alert| stories.row(alert)),
        ended: last.filter(|_| found.is_none()).map(|event| Ended {
            state: if event.to == AlertState::Inactive { "resolved" } else { "gone" },
            class: class_of(AlertState::Inactive),
            ago: format::ago(Some(event.at), now),
            exact: event.at.to_string(),
            runbook: runbook(annotations),
            silence: link("silences/new", &[("alert", &hex)]),
        }),
        labels: pairs(&labels),
        annotations: pairs(annotations),
        lanes: lanes(events, (from, now)),
        lane_from: format::moment(from),
        history: events.iter().map(|event| change(event, now)).collect(),
        history_href: link("alerts/history", &[("alert", &hex), ("range", "400d")]),
        notifications,
        notifications_href: link("notifications", &[("alert", &format!("{:016x}", labels.fingerprint()))]),
        outbox_away,
        chart_until: now.as_millis() / 1000,
        fingerprint: format!("{:016x}", labels.fingerprint()),
    }
}
