//! The outbox for people: rows without their bodies, found by what people know of them, and sums by receiver.
//!
//! Invariant: no body is read, neither for a list nor for a search by text (but of rows that earlier versions wrote); a body
//! may tell of ten thousand alerts.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::outbox::NotificationFate;
use super::{Store, StoreError, values};
use crate::model::Timestamp;

/// Which notifications to list.
#[derive(Clone, Debug, Default)]
pub struct NotificationQuery {
    /// What became of them; `None` for anything.
    pub fate: Option<NotificationFate>,
    /// Name of the receiver.
    pub receiver: Option<String>,
    /// Those that told of the alert of this fingerprint.
    pub told: Option<u64>,
    /// Text that the group key, the labels and summaries of the alerts ([`super::NewNotification::subject`]) or the error hold, in
    /// any case.
    pub text: Option<String>,
    /// Not older than this.
    pub from: Option<Timestamp>,
    /// Only numbers below this one, which the page before ended with.
    pub before: Option<i64>,
    /// Most rows.
    pub limit: usize,
}

/// A notification without its body.
#[derive(Clone, Debug, PartialEq)]
pub struct NotificationSummary {
    /// Its number.
    pub id: i64,
    /// What the dispatcher knows it by.
    pub dedup_key: String,
    /// Name of the receiver.
    pub receiver: String,
    /// Which of its integrations.
    pub integration: String,
    /// What kind that is.
    pub kind: String,
    /// The alert group.
    pub group_key: String,
    /// When it was decided.
    pub created_at: Timestamp,
    /// Flushes for which it was tried in vain.
    pub attempts: u32,
    /// When to try next, as the row has it.
    pub next_attempt_at: Option<Timestamp>,
    /// When it was delivered.
    pub sent_at: Option<Timestamp>,
    /// When it was given up.
    pub given_up_at: Option<Timestamp>,
    /// Why the last attempt failed, the first 2,000 characters.
    pub last_error: Option<String>,
    /// Alerts told as firing; `None` in rows of versions that did not record it.
    pub firing: Option<u32>,
    /// Alerts told as resolved.
    pub resolved: Option<u32>,
}

impl NotificationSummary {
    /// What became of it.
    pub fn fate(&self) -> NotificationFate {
        match (self.sent_at, self.given_up_at) {
            (Some(_), _) => NotificationFate::Sent,
            (None, Some(_)) => NotificationFate::Failed,
            (None, None) => NotificationFate::Waiting,
        }
    }
}

/// How one integration of one receiver fared in a range of time.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceiverSummary {
    /// Name of the receiver.
    pub receiver: String,
    /// Which of its integrations.
    pub integration: String,
    /// What kind that is.
    pub kind: String,
    /// Neither delivered nor given up, of any age.
    pub waiting: u64,
    /// Given up.
    pub failed: u64,
    /// Delivered.
    pub sent: u64,
    /// When something was delivered last.
    pub last_sent_at: Option<Timestamp>,
    /// When something was given up last.
    pub last_failed_at: Option<Timestamp>,
    /// Why.
    pub last_error: Option<String>,
    /// From decision to delivery, median.
    pub latency_p50: Option<Duration>,
    /// The same, 95th percentile.
    pub latency_p95: Option<Duration>,
}

impl Store {
    /// The newest notifications that satisfy the query, newest first.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn search_notifications(
        &self,
        query: &NotificationQuery,
    ) -> Result<Vec<NotificationSummary>, StoreError> {
        let fate = query.fate.map(|fate| match fate {
            NotificationFate::Waiting => "waiting",
            NotificationFate::Failed => "failed",
            NotificationFate::Sent => "sent",
        });
        let told = |state: &str| query.told.map(|alert| serde_json::json!({ state: [format!("{alert:016x}")] }));
        let rows = sqlx::query(include_str!("sql/search_notifications.sql"))
            .bind(fate)
            .bind(query.receiver.as_deref().map(|name| values::text(name).into_owned()))
            .bind(told("firing"))
            .bind(told("resolved"))
            .bind(query.text.as_deref().map(|text| values::text(&text.to_lowercase()).into_owned()))
            .bind(query.from.map(values::time))
            .bind(query.before)
            .bind(i64::try_from(query.limit).unwrap_or(i64::MAX))
            .fetch_all(self.pool())
            .await;
        Ok(rows.map_err(StoreError::doing("search the outbox"))?.iter().map(summary_from).collect())
    }

    /// How each integration fared with what was decided since `from`, and what waits whatever its age.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn summarize_receivers(&self, from: Timestamp) -> Result<Vec<ReceiverSummary>, StoreError> {
        let query = sqlx::query(include_str!("sql/summarize_receivers.sql")).bind(values::time(from));
        let rows = query.fetch_all(self.pool()).await.map_err(StoreError::doing("sum up the outbox"))?;
        Ok(rows.iter().map(receiver_from).collect())
    }

    /// Gives a notification up that waits; `false` when it was delivered or given up already.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn give_up_notification(&self, id: i64, at: Timestamp, reason: &str) -> Result<bool, StoreError> {
        let sql = "UPDATE notification SET given_up_at = $2, next_attempt_at = NULL, last_error = $3
                   WHERE notification_id = $1 AND sent_at IS NULL AND given_up_at IS NULL";
        let done = sqlx::query(sql).bind(id).bind(values::time(at)).bind(values::text(reason).into_owned());
        Ok(self.write_one("give a notification up", done).await? > 0)
    }
}

fn optional_time(row: &PgRow, name: &str) -> Option<Timestamp> {
    row.get::<Option<DateTime<Utc>>, _>(name).map(Timestamp::from)
}

fn summary_from(row: &PgRow) -> NotificationSummary {
    let count = |name: &str| row.get::<Option<i32>, _>(name).map(i32::unsigned_abs);
    NotificationSummary {
        id: row.get("notification_id"),
        dedup_key: row.get("dedup_key"),
        receiver: row.get("receiver"),
        integration: row.get("integration"),
        kind: row.get("kind"),
        group_key: row.get("group_key"),
        created_at: row.get::<DateTime<Utc>, _>("created_at").into(),
        attempts: row.get::<i32, _>("attempts").unsigned_abs(),
        next_attempt_at: optional_time(row, "next_attempt_at"),
        sent_at: optional_time(row, "sent_at"),
        given_up_at: optional_time(row, "given_up_at"),
        last_error: row.get("last_error"),
        firing: count("firing"),
        resolved: count("resolved"),
    }
}

fn receiver_from(row: &PgRow) -> ReceiverSummary {
    let count = |name: &str| row.get::<i64, _>(name).unsigned_abs();
    let seconds = |name: &str| {
        let seconds = row.get::<Option<f64>, _>(name)?;
        Duration::try_from_secs_f64(seconds.max(0.0)).ok()
    };
    ReceiverSummary {
        receiver: row.get("receiver"),
        integration: row.get("integration"),
        kind: row.get("kind"),
        waiting: count("waiting"),
        failed: count("failed"),
        sent: count("sent"),
        last_sent_at: optional_time(row, "last_sent_at"),
        last_failed_at: optional_time(row, "last_failed_at"),
        last_error: row.get("last_error"),
        latency_p50: seconds("latency_p50_seconds"),
        latency_p95: seconds("latency_p95_seconds"),
    }
}
