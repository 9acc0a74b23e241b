//! Alert state across restarts, and the history of transitions.

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::bulk::{Column, Insert, OnConflict};
use super::{Store, StoreError, values};
use crate::model::{Alert, AlertState, AlertTransition, Labels, MatchOp, Matcher, Timestamp};

/// Which transitions to read.
#[derive(Clone, Debug)]
pub struct AlertQuery {
    /// Earliest.
    pub from: Timestamp,
    /// Latest.
    pub to: Timestamp,
    /// Conditions on the alert's labels.
    pub matchers: Vec<Matcher>,
    /// Most transitions to return; the newest are taken.
    pub limit: usize,
}

/// An alert and the rule group that holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredAlert {
    /// Rule file and group, `file;group`.
    pub group: String,
    /// The alert.
    pub alert: Alert,
}

impl Store {
    /// Appends transitions; one that is there already stays as it is.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn append_alert_events(&self, events: &[AlertTransition]) -> Result<(), StoreError> {
        let mut events: Vec<(i64, &AlertTransition)> =
            events.iter().map(|event| (event.labels.fingerprint().cast_signed(), event)).collect();
        let key = |(fingerprint, event): &(i64, &AlertTransition)| {
            (event.at, *fingerprint, event.group.clone(), event.to.as_str())
        };
        events.sort_by_key(key);
        events.dedup_by_key(|event| key(event));
        let text = |pick: fn(&AlertTransition) -> &str| {
            Column::Text(events.iter().map(|(_, event)| pick(event).to_owned()).collect())
        };
        let labels = |pick: fn(&AlertTransition) -> &Labels| {
            Column::Json(events.iter().map(|(_, event)| values::labels_json(pick(event))).collect())
        };
        let columns = vec![
            ("at", Column::Time(events.iter().map(|(_, event)| values::time(event.at)).collect())),
            ("fingerprint", Column::Bigint(events.iter().map(|(fingerprint, _)| *fingerprint).collect())),
            ("group_name", text(|event| &event.group)),
            ("from_state", text(|event| event.from.as_str())),
            ("to_state", text(|event| event.to.as_str())),
            ("alertname", text(|event| event.labels.value("alertname"))),
            ("labels", labels(|event| &event.labels)),
            ("annotations", labels(|event| &event.annotations)),
            ("value", Column::Double(events.iter().map(|(_, event)| event.value).collect())),
        ];
        let on_conflict = OnConflict::Seldom("(at, fingerprint, group_name, to_state) DO NOTHING");
        let mut transaction = self.begin_write("append alert history").await?;
        Insert { table: "alert_event", columns, on_conflict }.run(&mut transaction).await?;
        transaction.commit().await.map_err(StoreError::doing("append alert history"))
    }

    /// The newest transitions that satisfy the query, newest first.
    ///
    /// # Errors
    /// When the server is away or a row is damaged.
    pub async fn alert_events(&self, query: &AlertQuery) -> Result<Vec<AlertTransition>, StoreError> {
        let name = query.matchers.iter().find(|m| m.op == MatchOp::Equal && &*m.name == "alertname");
        let sql = "SELECT at, group_name, labels, annotations, from_state, to_state, value FROM alert_event
                   WHERE at BETWEEN $1 AND $2 AND ($3::text IS NULL OR alertname = $3)
                   ORDER BY at DESC, fingerprint, to_state";
        let mut rows = sqlx::query(sql)
            .bind(values::time(query.from))
            .bind(values::time(query.to))
            .bind(name.map(|m| values::text(&m.value).into_owned()))
            .fetch(self.pool());
        let mut found = Vec::new();
        while let Some(row) = rows.try_next().await.map_err(StoreError::doing("read alert history"))? {
            if found.len() >= query.limit {
                break;
            }
            let event = transition_from(&row)?;
            if query.matchers.iter().all(|m| m.matches_labels(&event.labels)) {
                found.push(event);
            }
        }
        Ok(found)
    }

    /// Stores alerts as they are now; one that is there already is replaced.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn save_alerts(&self, alerts: &[StoredAlert]) -> Result<(), StoreError> {
        let doing = "save alert state";
        let mut rows: Vec<(i64, &StoredAlert)> =
            alerts.iter().map(|stored| (stored.alert.labels.fingerprint().cast_signed(), stored)).collect();
        rows.sort_by(|a, b| (&a.1.group, a.0).cmp(&(&b.1.group, b.0)));
        rows.dedup_by(|a, b| (&a.1.group, a.0) == (&b.1.group, b.0));
        let rows: Vec<serde_json::Value> =
            rows.into_iter().map(|(fingerprint, stored)| row(fingerprint, stored)).collect();
        let rows = sqlx::types::Json(rows);
        self.write_one(doing, sqlx::query(include_str!("sql/save_alert_state.sql")).bind(rows)).await.map(drop)
    }

    /// Forgets alerts that ended, or were last confirmed, before `before`.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn forget_alerts(&self, before: Timestamp) -> Result<(), StoreError> {
        let sql = "DELETE FROM alert_state WHERE coalesce(resolved_at, valid_until) < $1";
        self.write_one("forget alert state", sqlx::query(sql).bind(values::time(before))).await.map(drop)
    }

    /// The alerts that are stored.
    ///
    /// # Errors
    /// When the server is away or a row is damaged.
    pub async fn saved_alerts(&self) -> Result<Vec<StoredAlert>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM alert_state ORDER BY group_name, fingerprint").fetch_all(self.pool()).await;
        rows.map_err(StoreError::doing("read alert state"))?.iter().map(alert_from).collect()
    }
}

/// What `sql/save_alert_state.sql` reads.
fn row(fingerprint: i64, StoredAlert { group, alert }: &StoredAlert) -> serde_json::Value {
    serde_json::json!({
        "group_name": values::text(group),
        "fingerprint": fingerprint,
        "labels": values::labels_json(&alert.labels),
        "annotations": values::labels_json(&alert.annotations),
        "state": alert.state.as_str(),
        // JSON has no NaN and no infinities.
        "value": alert.value.to_string(),
        "active_at": values::time(alert.active_at).to_rfc3339(),
        "fired_at": alert.fired_at.map(|at| values::time(at).to_rfc3339()),
        "resolved_at": alert.resolved_at.map(|at| values::time(at).to_rfc3339()),
        "keep_firing_since": alert.keep_firing_since.map(|at| values::time(at).to_rfc3339()),
        "valid_until": values::time(alert.valid_until).to_rfc3339(),
        "generator_url": values::text(&alert.generator_url),
    })
}

fn state_from(name: &str) -> Result<AlertState, StoreError> {
    [AlertState::Inactive, AlertState::Pending, AlertState::Firing]
        .into_iter()
        .find(|state| state.as_str() == name)
        .ok_or_else(|| StoreError::Damaged { what: "alert", reason: format!("unknown state {name:?}") })
}

pub(super) fn transition_from(row: &PgRow) -> Result<AlertTransition, StoreError> {
    Ok(AlertTransition {
        at: row.get::<DateTime<Utc>, _>("at").into(),
        group: row.get("group_name"),
        labels: values::labels_from(row.get("labels"))?,
        annotations: values::labels_from(row.get("annotations"))?,
        from: state_from(row.get("from_state"))?,
        to: state_from(row.get("to_state"))?,
        value: row.get("value"),
    })
}

fn alert_from(row: &PgRow) -> Result<StoredAlert, StoreError> {
    let time = |name: &str| row.get::<Option<DateTime<Utc>>, _>(name).map(Timestamp::from);
    let alert = Alert {
        labels: values::labels_from(row.get("labels"))?,
        annotations: values::labels_from(row.get("annotations"))?,
        state: state_from(row.get("state"))?,
        value: row.get("value"),
        active_at: row.get::<DateTime<Utc>, _>("active_at").into(),
        fired_at: time("fired_at"),
        resolved_at: time("resolved_at"),
        keep_firing_since: time("keep_firing_since"),
        valid_until: row.get::<DateTime<Utc>, _>("valid_until").into(),
        generator_url: row.get("generator_url"),
    };
    Ok(StoredAlert { group: row.get("group_name"), alert })
}
