//! `notifications`: what waits, what failed and why; and the wish to try one again.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::operation::{Answer, Outcome};
use super::query::{AtMost, named, names};
use crate::api::State;
use crate::api::error::ApiError;
use crate::notify::{RetryError, go_time};
use crate::persist::OutboxEntry;
use crate::store::NotificationFate;

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;

/// The list.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "NotificationList")]
pub(super) struct Listed {
    /// The newest first.
    notifications: Vec<Notification>,
}

/// One message to one webhook.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Notification {
    /// Its number.
    id: i64,
    /// What became of it.
    #[schemars(extend("enum" = ["waiting", "sending", "failed", "sent"]))]
    state: &'static str,
    /// Name of the receiver.
    receiver: String,
    /// Which of its webhooks, from 0.
    integration: usize,
    /// Alertmanager's group key.
    group_key: String,
    /// When it became due.
    created_at: String,
    /// When it was delivered or given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<String>,
    /// Flushes for which it was tried in vain.
    attempts: u32,
    /// Why the last one failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    /// Alerts told as firing.
    firing: usize,
    /// Alerts told as resolved.
    resolved: usize,
    /// Name of its first alert; may be empty.
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

const FATES: [NotificationFate; 3] = [NotificationFate::Waiting, NotificationFate::Failed, NotificationFate::Sent];

fn fate_name(fate: NotificationFate) -> &'static str {
    match fate {
        NotificationFate::Waiting => "waiting",
        NotificationFate::Failed => "failed",
        NotificationFate::Sent => "sent",
    }
}

/// Which notifications.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Which {
    /// waiting, failed or sent; all unless told.
    #[schemars(extend("enum" = names(&FATES, fate_name)))]
    state: Option<String>,
    /// Most notifications; 100 unless told, more than 1000 count as 1000, 0 as unset.
    #[serde(default)]
    limit: AtMost<LIMIT_DEFAULT, LIMIT_MAX>,
}

/// One notification.
#[derive(Deserialize, JsonSchema)]
pub(super) struct One {
    /// Number of the notification.
    id: i64,
}

/// What became of a wish.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "NotificationState")]
pub(super) struct Now {
    /// Number of the notification.
    id: i64,
    /// What it is now.
    #[schemars(extend("enum" = ["sending", "failed"]))]
    state: &'static str,
}

/// The newest notifications.
pub(super) async fn list(state: State, asked: Which) -> Outcome<Listed> {
    let fate = named("state", asked.state.as_deref(), &FATES, fate_name)?;
    let found =
        state.outbox.list(fate, asked.limit.0).await.map_err(|error| ApiError::Unavailable(error.to_string()))?;
    let notifications = found.into_iter().map(|entry| Notification::new(entry, &state)).collect();
    Ok(Answer::new(Listed { notifications }))
}

/// One message with what is sent.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "NotificationWithBody")]
pub(super) struct Whole {
    #[serde(flatten)]
    notification: Notification,
    /// What is sent, byte for byte; secrets are added when it goes out.
    body: String,
}

/// One notification with what is sent, byte for byte; secrets are not in it.
pub(super) async fn one(state: State, One { id }: One) -> Outcome<Whole> {
    let entry = find(&state, id).await?;
    let body = entry.delivery.body.clone();
    Ok(Answer::new(Whole { notification: Notification::new(entry, &state), body }))
}

/// Ends a delivery that is under way or waits: it is not tried again. Its group is told anew at its next flush.
pub(super) async fn drop(state: State, One { id }: One) -> Outcome<Now> {
    let entry = find(&state, id).await?;
    let is_closed = state.notify.drop_delivery(&entry.delivery.id)
        || (state.outbox.give_up(entry.id, state.clock.now()).await)
            .map_err(|error| ApiError::Unavailable(error.to_string()))?;
    match is_closed {
        true => Ok(Answer::new(Now { id, state: "failed" })),
        false => Err(ApiError::Execution("the notification was delivered or given up already".to_owned())),
    }
}

async fn find(state: &State, number: i64) -> Result<OutboxEntry, ApiError> {
    let found = state.outbox.get(number).await.map_err(|error| ApiError::Unavailable(error.to_string()))?;
    found.ok_or_else(|| ApiError::NotFound(format!("there is no notification {number}")))
}

/// Sends a notification once more, whatever became of it; answers when it is on its way.
pub(super) async fn retry(state: State, One { id }: One) -> Outcome<Now> {
    let entry = find(&state, id).await?;
    state.notify.retry(entry.delivery).map_err(|error| match error {
        RetryError::TooMany => ApiError::Unavailable(error.to_string()),
        RetryError::ReceiverGone(_) | RetryError::UnderWay => ApiError::Execution(error.to_string()),
    })?;
    Ok(Answer::new(Now { id, state: "sending" }))
}
