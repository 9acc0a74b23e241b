//! One notification: what was sent, byte for byte, to whom and with what result; sending it again, and dropping it.
//!
//! Bodies hold no secrets: those are added when a body is sent.

use askama::Template;
use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};

use super::super::ask::Shared;
use super::super::frame::{Frame, render};
use super::super::{State, error, format};
use super::{Entry, entry};
use crate::persist::OutboxEntry;
use crate::store::{NotificationFate, NotificationSummary};

/// Most bytes of a body on the page; the API has it whole.
const BODY_BYTES_MAX: usize = 256 << 10;
/// Alerts of a message that are listed.
const ALERTS_SHOWN: usize = 100;

#[derive(Template)]
#[template(path = "notification.html")]
struct Page {
    frame: Frame,
    entry: Entry,
    group_key: String,
    dedup_key: String,
    error: Option<String>,
    body: String,
    body_bytes: usize,
    cut: bool,
    alerts: Vec<(String, String, &'static str)>,
    more_alerts: usize,
    attempts: u32,
    said: Option<String>,
}

#[derive(Template)]
#[template(path = "notification_drop.html")]
struct Confirm {
    frame: Frame,
    entry: Entry,
}

/// What became of a wish: shown once, after it was made.
#[derive(Debug, Default, serde::Deserialize)]
pub(in crate::web) struct Asked {
    done: Option<String>,
}

pub(in crate::web) async fn page(
    Shared(state): Shared<State>,
    Path(id): Path<String>,
    super::Asked(asked): super::Asked<Asked>,
) -> Response {
    let found = match find(&state, &id).await {
        Ok(found) => found,
        Err(page) => return page,
    };
    let payload: serde_json::Value = serde_json::from_str(&found.delivery.payload).unwrap_or_default();
    let alerts = payload["alerts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |alert: &serde_json::Value| {
        let labels = alert["labels"].as_object();
        let pairs = labels.into_iter().flatten().filter(|(name, _)| *name != "alertname").take(12);
        let pairs = pairs.map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()));
        let name = alert["labels"]["alertname"].as_str().unwrap_or_default();
        let state = if alert["status"] == "resolved" { "healthy" } else { "failure" };
        (format::visible(name, 200), format::visible(&pairs.collect::<Vec<_>>().join(", "), 600), state)
    };
    let body = &found.delivery.body;
    let end = (0..=BODY_BYTES_MAX.min(body.len())).rev().find(|at| body.is_char_boundary(*at)).unwrap_or(0);
    let page = Page {
        frame: Frame::new(&state, "alerts"),
        group_key: format::visible(&found.delivery.group_key, 4000),
        dedup_key: found.delivery.id.clone(),
        error: found.last_error.as_deref().map(|error| format::visible(error, 4000)),
        body: body[..end].to_owned(),
        body_bytes: body.len(),
        cut: end < body.len(),
        alerts: alerts.iter().take(ALERTS_SHOWN).map(text).collect(),
        more_alerts: alerts.len().saturating_sub(ALERTS_SHOWN),
        attempts: found.attempts,
        said: match asked.done.as_deref() {
            Some("again") => Some("It is being sent again.".to_owned()),
            Some("dropped") => Some("It is dropped: nobody tries it any more.".to_owned()),
            _ => None,
        },
        entry: row(&state, found),
    };
    render(&page)
}

/// Asks whether it is to be dropped.
pub(in crate::web) async fn confirm(Shared(state): Shared<State>, Path(id): Path<String>) -> Response {
    match find(&state, &id).await {
        Ok(found) => render(&Confirm { frame: Frame::new(&state, "alerts"), entry: row(&state, found) }),
        Err(page) => page,
    }
}

/// Sends it once more, whatever became of it.
pub(in crate::web) async fn retry(Shared(state): Shared<State>, Path(id): Path<String>) -> Response {
    let found = match find(&state, &id).await {
        Ok(found) => found,
        Err(page) => return page,
    };
    match state.notify.retry(found.delivery) {
        Ok(()) => Redirect::to(&format!("/notifications/{}?done=again", found.id)).into_response(),
        Err(reason) => error::conflict(&state, "alerts", format!("It is not sent again: {reason}.")),
    }
}

/// Ends what is under way, and closes a row that waits.
pub(in crate::web) async fn drop(Shared(state): Shared<State>, Path(id): Path<String>) -> Response {
    let found = match find(&state, &id).await {
        Ok(found) => found,
        Err(page) => return page,
    };
    let was_under_way = state.notify.drop_delivery(&found.delivery.id);
    let closed = match was_under_way {
        true => Ok(true),
        false => state.outbox.give_up(found.id, state.clock.now()).await,
    };
    match closed {
        Ok(true) => Redirect::to(&format!("/notifications/{}?done=dropped", found.id)).into_response(),
        Ok(false) => {
            let message = "It was delivered or given up already: there is nothing to drop.".to_owned();
            error::conflict(&state, "alerts", message)
        }
        Err(reason) => error::unavailable(&state, "alerts", reason.to_string()),
    }
}

async fn find(state: &State, id: &str) -> Result<OutboxEntry, Response> {
    let Ok(number) = id.parse::<i64>() else {
        let message = format!("A notification's address ends with its number; {id:?} is none.");
        return Err(error::bad_request(state, "alerts", message));
    };
    match state.outbox.get(number).await {
        Ok(Some(found)) => Ok(found),
        Ok(None) => {
            let message = format!("There is no notification {number}: it is past its retention, or never was.");
            Err(error::missing(state, "alerts", message))
        }
        Err(reason) => Err(error::unavailable(state, "alerts", reason.to_string())),
    }
}

fn row(state: &State, found: OutboxEntry) -> Entry {
    let OutboxEntry { id, delivery, fate, ended_at, attempts, last_error } = found;
    let count = |pick: fn(&crate::notify::LogEntry) -> usize| {
        delivery.told.as_ref().map(|told| u32::try_from(pick(told)).unwrap_or(u32::MAX))
    };
    let summary = NotificationSummary {
        id,
        firing: count(|told| told.firing.len()),
        resolved: count(|told| told.resolved.len()),
        dedup_key: delivery.id,
        receiver: delivery.receiver,
        integration: delivery.integration.to_string(),
        kind: delivery.kind,
        group_key: delivery.group_key,
        created_at: delivery.created_at,
        attempts,
        next_attempt_at: None,
        sent_at: ended_at.filter(|_| fate == NotificationFate::Sent),
        given_up_at: ended_at.filter(|_| fate == NotificationFate::Failed),
        last_error,
    };
    entry(summary, &state.notify.under_way(), state.clock.now()).seen_by(&state.caller)
}
