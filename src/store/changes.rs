//! Every generation of the declared mesh resources: the change timeline.
//!
//! In and out: rows, with fields and effects as JSON whose inside `changes` knows.

use chrono::{DateTime, Utc};
use serde_json::Value as Json;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::{Store, StoreError, values};
use crate::model::Timestamp;

/// Rows of one statement.
const ROWS_MAX: usize = 500;

/// One state that a resource had from some time on.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredGeneration {
    /// `cluster/kind/namespace/name`.
    pub resource: String,
    /// Kind, with its group where the name alone is not enough.
    pub kind: String,
    /// Namespace, when it has one.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// Since when.
    pub seen_at: Timestamp,
    /// Hash of what is declared.
    pub hash: u64,
    /// As declared, JSON; `None`: deleted, or not read.
    pub body: Option<String>,
    /// Our own count, from 1.
    pub revision: u64,
    /// `metadata.generation`, where a cluster counts.
    pub generation: Option<u64>,
    /// `cluster` or `files`.
    pub origin: String,
    /// `first`, `created`, `changed`, `deleted`.
    pub action: String,
    /// Who wrote it.
    pub writer: Option<String>,
    /// Which fields are others.
    pub fields: Option<Json>,
    /// What it did to the traffic; `None`: not judged. Not written with the generation.
    pub effects: Option<Json>,
}

/// The newest generation of a resource, without its body.
#[derive(Clone, Debug, PartialEq)]
pub struct ResourceHead {
    /// `cluster/kind/namespace/name`.
    pub resource: String,
    /// Kind.
    pub kind: String,
    /// Namespace, when it has one.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// Since when.
    pub seen_at: Timestamp,
    /// Hash of what is declared.
    pub hash: u64,
    /// Whether it is gone.
    pub is_deleted: bool,
    /// Our own count.
    pub revision: u64,
    /// `metadata.generation`, where a cluster counts.
    pub generation: Option<u64>,
    /// `cluster` or `files`.
    pub origin: String,
}

/// Which changes are asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct ChangeQuery {
    /// Earliest time.
    pub from: Timestamp,
    /// Latest time.
    pub to: Timestamp,
    /// Of a namespace.
    pub namespace: Option<String>,
    /// Of a kind.
    pub kind: Option<String>,
    /// Of a name.
    pub name: Option<String>,
    /// Most of them; the newest are taken.
    pub limit: usize,
}

impl Store {
    /// Writes generations. Writing one again changes nothing.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn write_generations(&self, generations: &[StoredGeneration]) -> Result<(), StoreError> {
        let doing = "write mesh resources";
        let mut transaction = self.begin_write(doing).await?;
        for some in generations.chunks(ROWS_MAX) {
            let texts = |of: fn(&StoredGeneration) -> &str| -> Vec<String> {
                some.iter().map(|one| values::text(of(one)).into_owned()).collect()
            };
            let maybe = |of: fn(&StoredGeneration) -> Option<&str>| -> Vec<Option<String>> {
                some.iter().map(|one| of(one).map(|text| values::text(text).into_owned())).collect()
            };
            let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
            let fields: Vec<Option<Json>> = some.iter().map(|one| one.fields.clone().map(values::json)).collect();
            sqlx::query(include_str!("sql/write_generations.sql"))
                .bind(texts(|one| &one.resource))
                .bind(some.iter().map(|one| values::time(one.seen_at)).collect::<Vec<DateTime<Utc>>>())
                .bind(texts(|one| &one.kind))
                .bind(maybe(|one| one.namespace.as_deref()))
                .bind(texts(|one| &one.name))
                .bind(some.iter().map(|one| one.hash.cast_signed()).collect::<Vec<i64>>())
                .bind(maybe(|one| one.body.as_deref()))
                .bind(some.iter().map(|one| number(one.revision)).collect::<Vec<i64>>())
                .bind(some.iter().map(|one| one.generation.map(number)).collect::<Vec<Option<i64>>>())
                .bind(texts(|one| &one.origin))
                .bind(texts(|one| &one.action))
                .bind(maybe(|one| one.writer.as_deref()))
                .bind(fields)
                .execute(&mut *transaction)
                .await
                .map_err(StoreError::doing(doing))?;
        }
        transaction.commit().await.map_err(StoreError::doing(doing))
    }

    /// The newest generation of every resource.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn resource_heads(&self) -> Result<Vec<ResourceHead>, StoreError> {
        let rows = sqlx::query(include_str!("sql/resource_heads.sql")).fetch_all(self.pool()).await;
        Ok(rows.map_err(StoreError::doing("read mesh resources"))?.iter().map(head_from).collect())
    }

    /// The newest body of each of these resources, by resource; those that are gone or unknown are left out.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn resource_bodies(&self, resources: &[String]) -> Result<Vec<(String, String)>, StoreError> {
        let query = "SELECT DISTINCT ON (resource) resource, body FROM mesh_resource WHERE resource = ANY($1)
                     ORDER BY resource, seen_at DESC";
        let rows = sqlx::query(query).bind(resources).fetch_all(self.pool()).await;
        let rows = rows.map_err(StoreError::doing("read mesh resources"))?;
        let body = |row: &PgRow| Some((row.get("resource"), row.get::<Option<String>, _>("body")?));
        Ok(rows.iter().filter_map(body).collect())
    }

    /// Changes, newest first, without bodies. First sights are none.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn search_changes(&self, query: &ChangeQuery) -> Result<Vec<StoredGeneration>, StoreError> {
        let filter = |text: &Option<String>| text.as_deref().map(|text| values::text(text).into_owned());
        let rows = sqlx::query(include_str!("sql/search_changes.sql"))
            .bind(values::time(query.from))
            .bind(values::time(query.to))
            .bind(filter(&query.namespace))
            .bind(filter(&query.kind))
            .bind(filter(&query.name))
            .bind(i64::try_from(query.limit).unwrap_or(i64::MAX))
            .fetch_all(self.pool())
            .await;
        Ok(rows.map_err(StoreError::doing("read changes"))?.iter().map(generation_from).collect())
    }

    /// The generations of a resource, newest first, with their bodies.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn resource_history(&self, resource: &str, limit: usize) -> Result<Vec<StoredGeneration>, StoreError> {
        let rows = sqlx::query(include_str!("sql/resource_history.sql"))
            .bind(values::text(resource).into_owned())
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(self.pool())
            .await;
        Ok(rows.map_err(StoreError::doing("read a resource's history"))?.iter().map(generation_from).collect())
    }

    /// Records what a change did to the traffic.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn set_effects(&self, resource: &str, seen_at: Timestamp, effects: Json) -> Result<(), StoreError> {
        let update = sqlx::query("UPDATE mesh_resource SET effects = $3 WHERE resource = $1 AND seen_at = $2")
            .bind(values::text(resource).into_owned())
            .bind(values::time(seen_at))
            .bind(values::json(effects));
        self.write_one("write the effects of a change", update).await.map(drop)
    }
}

fn count(row: &PgRow, column: &str) -> u64 {
    u64::try_from(row.get::<i64, _>(column)).unwrap_or(0)
}

fn generation_of(row: &PgRow) -> Option<u64> {
    row.get::<Option<i64>, _>("generation").and_then(|value| u64::try_from(value).ok())
}

fn head_from(row: &PgRow) -> ResourceHead {
    ResourceHead {
        resource: row.get("resource"),
        kind: row.get("kind"),
        namespace: row.get("namespace"),
        name: row.get("name"),
        seen_at: row.get::<DateTime<Utc>, _>("seen_at").into(),
        hash: row.get::<i64, _>("content_hash").cast_unsigned(),
        is_deleted: row.get("is_deleted"),
        revision: count(row, "revision"),
        generation: generation_of(row),
        origin: row.get("origin"),
    }
}

fn generation_from(row: &PgRow) -> StoredGeneration {
    StoredGeneration {
        resource: row.get("resource"),
        kind: row.get("kind"),
        namespace: row.get("namespace"),
        name: row.get("name"),
        seen_at: row.get::<DateTime<Utc>, _>("seen_at").into(),
        hash: row.get::<i64, _>("content_hash").cast_unsigned(),
        body: row.get("body"),
        revision: count(row, "revision"),
        generation: generation_of(row),
        origin: row.get("origin"),
        action: row.get("action"),
        writer: row.get("writer"),
        fields: row.get("fields"),
        effects: row.get("effects"),
    }
}
