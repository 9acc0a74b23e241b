//! `notifications`: what waits, what failed and why; and the wish to try one again.

use axum::extract::{Path, State as Shared};
use axum::response::Response;
use serde::Serialize;

use crate::api::State;
use crate::api::encode::success_with;
use crate::api::error::ApiError;
use crate::api::params::Params;
use crate::notify::{RetryError, go_time};
use crate::persist::OutboxEntry;
use crate::store::NotificationFate;

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;

#[derive(Serialize)]
struct Listed {
    notifications: Vec<Notification>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Notification {
    id: i64,
    state: &'static str,
    receiver: String,
    integration: usize,
    group_key: String,
    created_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<String>,
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    firing: usize,
    resolved: usize,
    /// Of a firing alert or else of the first.
    alertname: String,
}

impl Notification {
    fn new(entry: OutboxEntry, state: &State) -> Self {
        let OutboxEntry { id, delivery, fate, ended_at, attempts, last_error } = entry;
        let payload: serde_json::Value = serde_json::from_str(&delivery.payload).unwrap_or_default();
        let alerts = payload["alerts"].as_array().map(Vec::as_slice).unwrap_or_default();
        let firing = alerts.iter().filter(|alert| alert["status"] == "firing").count();
        let name = |alert: &serde_json::Value| alert["labels"]["alertname"].as_str().map(str::to_owned);
        Self {
            id,
            state: match fate {
                NotificationFate::Sent => "sent",
                _ if state.notify.is_under_way(&delivery.id) => "sending",
                NotificationFate::Waiting => "waiting",
                NotificationFate::Failed => "failed",
            },
            receiver: delivery.receiver,
            integration: delivery.integration,
            group_key: delivery.group_key,
            created_at: go_time(delivery.created_at),
            ended_at: ended_at.map(go_time),
            attempts,
            last_error,
            firing,
            resolved: alerts.len() - firing,
            alertname: alerts.iter().find_map(name).unwrap_or_default(),
        }
    }
}

/// The newest notifications; `state` is `waiting`, `failed` or `sent`.
pub(super) async fn list(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    let fate = match params.get("state") {
        None => None,
        Some("waiting") => Some(NotificationFate::Waiting),
        Some("failed") => Some(NotificationFate::Failed),
        Some("sent") => Some(NotificationFate::Sent),
        Some(_) => return Err(ApiError::parameter("state", "use waiting, failed or sent")),
    };
    let limit = match params.limit()? {
        0 => LIMIT_DEFAULT,
        limit => limit.min(LIMIT_MAX),
    };
    let found = state.outbox.list(fate, limit).await.map_err(|error| ApiError::Unavailable(error.to_string()))?;
    let notifications = found.into_iter().map(|entry| Notification::new(entry, &state)).collect();
    Ok(success_with(&Listed { notifications }, &[]))
}

#[derive(Serialize)]
struct Whole {
    #[serde(flatten)]
    notification: Notification,
    body: String,
}

/// One notification with what is sent, byte for byte; secrets are not in it.
pub(super) async fn one(Shared(state): Shared<State>, Path(id): Path<String>) -> Result<Response, ApiError> {
    let entry = find(&state, &id).await?;
    let body = entry.delivery.body.clone();
    Ok(success_with(&Whole { notification: Notification::new(entry, &state), body }, &[]))
}

/// Ends a delivery that is under way or waits: it is not tried again. Its group is told anew at its next flush.
pub(super) async fn drop(Shared(state): Shared<State>, Path(id): Path<String>) -> Result<Response, ApiError> {
    let entry = find(&state, &id).await?;
    let is_closed = state.notify.drop_delivery(&entry.delivery.id)
        || (state.outbox.give_up(entry.id, state.clock.now()).await)
            .map_err(|error| ApiError::Unavailable(error.to_string()))?;
    match is_closed {
        true => Ok(success_with(serde_json::json!({ "id": entry.id, "state": "failed" }), &[])),
        false => Err(ApiError::Execution("the notification was delivered or given up already".to_owned())),
    }
}

async fn find(state: &State, id: &str) -> Result<OutboxEntry, ApiError> {
    let number = id.parse::<i64>().map_err(|_| ApiError::parameter("id", "use the number of a notification"))?;
    let found = state.outbox.get(number).await.map_err(|error| ApiError::Unavailable(error.to_string()))?;
    found.ok_or_else(|| ApiError::NotFound(format!("there is no notification {number}")))
}

/// Sends a notification once more, whatever became of it; answers when it is on its way.
pub(super) async fn retry(Shared(state): Shared<State>, Path(id): Path<String>) -> Result<Response, ApiError> {
    let entry = find(&state, &id).await?;
    let number = entry.id;
    state.notify.retry(entry.delivery).map_err(|error| match error {
        RetryError::TooMany => ApiError::Unavailable(error.to_string()),
        RetryError::ReceiverGone(_) | RetryError::UnderWay => ApiError::Execution(error.to_string()),
    })?;
    Ok(success_with(serde_json::json!({ "id": number, "state": "sending" }), &[]))
}
