//! Silences: which notifications people asked not to get.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::{Store, StoreError, values};
use crate::model::{MatchOp, Matcher, Timestamp};

/// One silence, as Alertmanager has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Silence {
    /// Its id.
    pub id: String,
    /// Which alerts; all must match.
    pub matchers: Vec<Matcher>,
    /// From when.
    pub starts_at: Timestamp,
    /// Until when.
    pub ends_at: Timestamp,
    /// Who.
    pub created_by: String,
    /// Why.
    pub comment: String,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Store {
    /// Writes a silence; of two of one id the one changed last stays.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn write_silence(&self, silence: &Silence) -> Result<(), StoreError> {
        let matchers: Value = silence.matchers.iter().map(matcher_json).collect();
        let done = sqlx::query(include_str!("sql/upsert_silence.sql"))
            .bind(values::text(&silence.id).into_owned())
            .bind(values::json(matchers))
            .bind(values::time(silence.starts_at))
            .bind(values::time(silence.ends_at))
            .bind(values::text(&silence.created_by).into_owned())
            .bind(values::text(&silence.comment).into_owned())
            .bind(values::time(silence.updated_at))
            .execute(self.pool())
            .await;
        done.map(drop).map_err(StoreError::doing("write a silence"))
    }

    /// All silences within their retention, expired ones too.
    ///
    /// # Errors
    /// When the server is away or a row is damaged.
    pub async fn silences(&self) -> Result<Vec<Silence>, StoreError> {
        let rows = sqlx::query("SELECT * FROM silence ORDER BY starts_at, silence_id").fetch_all(self.pool()).await;
        rows.map_err(StoreError::doing("read silences"))?.iter().map(silence_from).collect()
    }
}

fn matcher_json(matcher: &Matcher) -> Value {
    json!({ "name": &*matcher.name, "op": matcher.op.as_str(), "value": &*matcher.value })
}

fn matcher_from(value: &Value) -> Result<Matcher, StoreError> {
    let damaged = |reason: String| StoreError::Damaged { what: "silence", reason };
    let text = |key: &str| value[key].as_str().ok_or_else(|| damaged(format!("a matcher without {key}")));
    let op = text("op")?;
    let op = [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex]
        .into_iter()
        .find(|known| known.as_str() == op)
        .ok_or_else(|| damaged(format!("unknown operator {op:?}")))?;
    Matcher::new(op, text("name")?, text("value")?).map_err(|error| damaged(error.to_string()))
}

fn silence_from(row: &PgRow) -> Result<Silence, StoreError> {
    let time = |name: &str| Timestamp::from(row.get::<DateTime<Utc>, _>(name));
    let matchers: Vec<Value> = row.get::<sqlx::types::Json<Vec<Value>>, _>("matchers").0;
    Ok(Silence {
        id: row.get("silence_id"),
        matchers: matchers.iter().map(matcher_from).collect::<Result<_, _>>()?,
        starts_at: time("starts_at"),
        ends_at: time("ends_at"),
        created_by: row.get("created_by"),
        comment: row.get("comment"),
        updated_at: time("updated_at"),
    })
}
