//! The outbox of notifications, and the log of what each group's receivers were last told.

use chrono::{DateTime, Utc};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::{Store, StoreError, values};
use crate::model::Timestamp;

/// A notification to be sent. It is in the outbox before the first attempt: at least once.
#[derive(Clone, Debug, PartialEq)]
pub struct NewNotification {
    /// What makes it one notification: inserting it again changes nothing.
    pub dedup_key: String,
    /// Name of the receiver.
    pub receiver: String,
    /// Which of its integrations, `webhook[0]`.
    pub integration: String,
    /// The alert group.
    pub group_key: String,
    /// What kind of integration that is.
    pub kind: String,
    /// What it tells.
    pub payload: serde_json::Value,
    /// What is sent, byte for byte; `None` in rows of versions that sent the payload.
    pub body: Option<String>,
    /// What the receiver knows once it is delivered; `None` in rows of versions that did not record it.
    pub told: Option<serde_json::Value>,
    /// When it was decided.
    pub created_at: Timestamp,
    /// What a search by text looks at, in lower case; empty in rows of versions that did not record it.
    pub subject: String,
}

/// A notification of the outbox.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredNotification {
    /// Its id.
    pub id: i64,
    /// What was inserted.
    pub notification: NewNotification,
    /// Attempts that failed.
    pub attempts: u32,
    /// When to try next.
    pub next_attempt_at: Option<Timestamp>,
    /// When it was delivered.
    pub sent_at: Option<Timestamp>,
    /// When no further attempt was worth it.
    pub given_up_at: Option<Timestamp>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}

/// What became of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotificationFate {
    /// Not yet anything.
    Waiting,
    /// Given up.
    Failed,
    /// Delivered.
    Sent,
}

impl StoredNotification {
    /// What became of it.
    pub fn fate(&self) -> NotificationFate {
        match (self.sent_at, self.given_up_at) {
            (Some(_), _) => NotificationFate::Sent,
            (None, Some(_)) => NotificationFate::Failed,
            (None, None) => NotificationFate::Waiting,
        }
    }
}

/// What a receiver was last told of a group (Alertmanager's notification log).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotifyLogEntry {
    /// The alert group.
    pub group_key: String,
    /// Receiver and integration.
    pub receiver: String,
    /// When it was told.
    pub sent_at: Timestamp,
    /// Hashes of the alerts told as firing.
    pub firing_hashes: Vec<u64>,
    /// Hashes of the alerts told as resolved.
    pub resolved_hashes: Vec<u64>,
    /// When the entry may be forgotten.
    pub expires_at: Timestamp,
}

impl Store {
    /// Puts a notification into the outbox, due at once; returns its id, or the id it has already. One that was closed is
    /// open again.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn insert_notification(&self, new: &NewNotification) -> Result<i64, StoreError> {
        let doing = "insert a notification";
        let mut transaction = self.begin_write(doing).await?;
        let id = sqlx::query_scalar(include_str!("sql/insert_notification.sql"))
            .bind(values::text(&new.dedup_key).into_owned())
            .bind(values::text(&new.receiver).into_owned())
            .bind(values::text(&new.integration).into_owned())
            .bind(values::text(&new.group_key).into_owned())
            .bind(&new.kind)
            .bind(values::json(new.payload.clone()))
            .bind(new.body.as_deref().map(|body| values::text(body).into_owned()))
            .bind(new.told.clone())
            .bind(values::time(new.created_at))
            .bind(values::text(&new.subject).into_owned())
            .fetch_one(&mut *transaction)
            .await;
        let id = id.map_err(StoreError::doing(doing))?;
        transaction.commit().await.map_err(StoreError::doing(doing))?;
        Ok(id)
    }

    /// Notifications that are neither sent nor given up and due at `now`, oldest first.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn pending_notifications(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<StoredNotification>, StoreError> {
        let query = "SELECT * FROM notification
                     WHERE sent_at IS NULL AND given_up_at IS NULL AND next_attempt_at <= $1
                     ORDER BY notification_id LIMIT $2";
        self.notifications_by(sqlx::query(query).bind(values::time(now)).bind(i64::try_from(limit).unwrap_or(i64::MAX)))
            .await
    }

    /// The newest notifications, whatever became of them, newest first.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn recent_notifications(&self, limit: usize) -> Result<Vec<StoredNotification>, StoreError> {
        self.listed_notifications(None, limit).await
    }

    /// The newest notifications of which this became, or all of them; newest first.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn listed_notifications(
        &self,
        fate: Option<NotificationFate>,
        limit: usize,
    ) -> Result<Vec<StoredNotification>, StoreError> {
        let query = match fate {
            None => "SELECT * FROM notification ORDER BY notification_id DESC LIMIT $1",
            Some(NotificationFate::Waiting) => {
                "SELECT * FROM notification WHERE sent_at IS NULL AND given_up_at IS NULL
                 ORDER BY notification_id DESC LIMIT $1"
            }
            Some(NotificationFate::Failed) => {
                "SELECT * FROM notification WHERE given_up_at IS NOT NULL ORDER BY notification_id DESC LIMIT $1"
            }
            Some(NotificationFate::Sent) => {
                "SELECT * FROM notification WHERE sent_at IS NOT NULL ORDER BY notification_id DESC LIMIT $1"
            }
        };
        self.notifications_by(sqlx::query(query).bind(i64::try_from(limit).unwrap_or(i64::MAX))).await
    }

    /// One notification.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn notification(&self, id: i64) -> Result<Option<StoredNotification>, StoreError> {
        let query = sqlx::query("SELECT * FROM notification WHERE notification_id = $1").bind(id);
        Ok(self.notifications_by(query).await?.pop())
    }

    /// Marks a notification as delivered.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn mark_sent(&self, id: i64, at: Timestamp) -> Result<(), StoreError> {
        let query =
            "UPDATE notification SET sent_at = $2, next_attempt_at = NULL, given_up_at = NULL, last_error = NULL
                     WHERE notification_id = $1";
        let statement = sqlx::query(query).bind(id).bind(values::time(at));
        self.write_one("mark a notification as sent", statement).await.map(drop)
    }

    /// Counts a failed attempt. Without a next attempt the notification is given up.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn mark_failed(
        &self,
        id: i64,
        at: Timestamp,
        error: &str,
        next_attempt_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let query = "UPDATE notification
                     SET attempts = attempts + 1, last_error = $2, next_attempt_at = $3,
                         given_up_at = CASE WHEN $3::timestamptz IS NULL THEN $4 END
                     WHERE notification_id = $1";
        let statement = sqlx::query(query)
            .bind(id)
            .bind(values::text(error).into_owned())
            .bind(next_attempt_at.map(values::time))
            .bind(values::time(at));
        self.write_one("mark a notification as failed", statement).await.map(drop)
    }

    /// Writes what a receiver was told; the newer of two entries stays.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn write_notify_log(&self, entry: &NotifyLogEntry) -> Result<(), StoreError> {
        let signed = |hashes: &[u64]| hashes.iter().map(|hash| hash.cast_signed()).collect::<Vec<_>>();
        let statement = sqlx::query(include_str!("sql/upsert_notify_log.sql"))
            .bind(values::text(&entry.group_key).into_owned())
            .bind(values::text(&entry.receiver).into_owned())
            .bind(values::time(entry.sent_at))
            .bind(signed(&entry.firing_hashes))
            .bind(signed(&entry.resolved_hashes))
            .bind(values::time(entry.expires_at));
        self.write_one("write the notification log", statement).await.map(drop)
    }

    /// The whole notification log.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn notify_log(&self) -> Result<Vec<NotifyLogEntry>, StoreError> {
        let rows = sqlx::query("SELECT * FROM notify_log ORDER BY group_key, receiver").fetch_all(self.pool()).await;
        let rows = rows.map_err(StoreError::doing("read the notification log"))?;
        let hashes =
            |row: &PgRow, name: &str| row.get::<Vec<i64>, _>(name).into_iter().map(i64::cast_unsigned).collect();
        let entry = |row: &PgRow| NotifyLogEntry {
            group_key: row.get("group_key"),
            receiver: row.get("receiver"),
            sent_at: row.get::<DateTime<Utc>, _>("sent_at").into(),
            firing_hashes: hashes(row, "firing_hashes"),
            resolved_hashes: hashes(row, "resolved_hashes"),
            expires_at: row.get::<DateTime<Utc>, _>("expires_at").into(),
        };
        Ok(rows.iter().map(entry).collect())
    }

    async fn notifications_by(
        &self,
        query: sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments>,
    ) -> Result<Vec<StoredNotification>, StoreError> {
        let rows = query.fetch_all(self.pool()).await.map_err(StoreError::doing("read the outbox"))?;
        Ok(rows.iter().map(notification_from).collect())
    }
}

fn notification_from(row: &PgRow) -> StoredNotification {
    let time = |name: &str| row.get::<Option<DateTime<Utc>>, _>(name).map(Timestamp::from);
    StoredNotification {
        id: row.get("notification_id"),
        notification: NewNotification {
            dedup_key: row.get("dedup_key"),
            receiver: row.get("receiver"),
            integration: row.get("integration"),
            group_key: row.get("group_key"),
            kind: row.get("kind"),
            payload: row.get("payload"),
            body: row.get("body"),
            told: row.get("told"),
            created_at: row.get::<DateTime<Utc>, _>("created_at").into(),
            subject: row.get::<Option<String>, _>("subject").unwrap_or_default(),
        },
        attempts: row.get::<i32, _>("attempts").unsigned_abs(),
        next_attempt_at: time("next_attempt_at"),
        sent_at: time("sent_at"),
        given_up_at: time("given_up_at"),
        last_error: row.get("last_error"),
    }
}
