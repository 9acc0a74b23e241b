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

/// What the table holds.
#[derive(Debug, Default, PartialEq)]
pub struct StoredSilences {
    /// Those that could be read.
    pub silences: Vec<Silence>,
    /// Why the others could not, with their ids.
    pub damaged: Vec<String>,
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
    /// When the server is away. A row that cannot be read is named and left out: the others must go on acting.
    pub async fn silences(&self) -> Result<StoredSilences, StoreError> {
        let rows = sqlx::query("SELECT * FROM silence ORDER BY starts_at, silence_id").fetch_all(self.pool()).await;
        let mut stored = StoredSilences::default();
        for row in rows.map_err(StoreError::doing("read silences"))? {
            match silence_from(&row) {
                Ok(silence) => stored.silences.push(silence),
                Err(error) => {
                    let id: String = row.try_get("silence_id").unwrap_or_default();
                    stored.damaged.push(format!("silence `{id}`: {error}"));
                }
            }
        }
        Ok(stored)
    }

    /// Deletes the silences that ended before `before`.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn delete_silences(&self, before: Timestamp) -> Result<u64, StoreError> {
        let query = sqlx::query("DELETE FROM silence WHERE ends_at < $1").bind(values::time(before));
        let done = query.execute(self.pool()).await.map_err(StoreError::doing("delete ended silences"))?;
        Ok(done.rows_affected())
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
    let time = |name: &str| {
        // `infinity` is a time to PostgreSQL alone.
        let read = row.try_get::<DateTime<Utc>, _>(name).map(Timestamp::from);
        read.map_err(|error| StoreError::Damaged { what: "silence", reason: format!("{name}: {error}") })
    };
    let matchers = row.get::<sqlx::types::Json<Value>, _>("matchers").0;
    let Value::Array(matchers) = matchers else {
        return Err(StoreError::Damaged { what: "silence", reason: "matchers is not a list".to_owned() });
    };
    Ok(Silence {
        id: row.get("silence_id"),
        matchers: matchers.iter().map(matcher_from).collect::<Result<_, _>>()?,
        starts_at: time("starts_at")?,
        ends_at: time("ends_at")?,
        created_by: row.get("created_by"),
        comment: row.get("comment"),
        updated_at: time("updated_at")?,
    })
}
