//! The catalogue of series: their ids, and the rows that name them.

use std::collections::HashSet;

use chrono::NaiveDate;
use sqlx::postgres::PgConnection;

use super::super::bulk::{Column, Insert, OnConflict};
use super::super::ids::id_of;
use super::super::{StoreError, values};
use super::{BUCKET_LABEL, Chunk};
use crate::model::{Labels, METRIC_NAME};

/// What a series and the parts of its name are called in the database.
pub(super) struct SeriesIds {
    pub(super) series: i64,
    pub(super) label_set: i64,
    pub(super) metric: i64,
}

/// What a transaction inserted; known once it has committed.
pub(super) struct WrittenSeries {
    pub(super) series: Vec<(i64, NaiveDate)>,
    pub(super) label_sets: HashSet<i64>,
    pub(super) metrics: HashSet<i64>,
}

pub(super) fn series_ids(labels: &Labels) -> SeriesIds {
    let shared = labels.iter().filter(|(name, _)| *name != METRIC_NAME && *name != BUCKET_LABEL);
    let label_set =
        id_of(shared.flat_map(|(name, value)| [values::text(name), values::text(value)].map(|t| t.into_owned())));
    let metric = id_of([values::text(labels.metric_name()).as_bytes()]);
    let le = values::text(labels.value(BUCKET_LABEL));
    let series = id_of([&label_set.to_be_bytes()[..], &metric.to_be_bytes(), le.as_bytes()]);
    SeriesIds { series, label_set, metric }
}

pub(super) async fn insert_label_sets(
    connection: &mut PgConnection,
    new: &[(usize, NaiveDate)],
    ids: &[SeriesIds],
    chunks: &[Chunk],
    missing: &HashSet<i64>,
) -> Result<(), StoreError> {
    let mut wanted = missing.clone();
    let (mut id_column, mut labels_column) = (Vec::new(), Vec::new());
    for (at, _) in new {
        if wanted.remove(&ids[*at].label_set) {
            id_column.push(ids[*at].label_set);
            labels_column.push(values::labels_json(&chunks[*at].labels.without(&[METRIC_NAME, BUCKET_LABEL])));
        }
    }
    let columns = vec![("label_set_id", Column::Bigint(id_column)), ("labels", Column::Json(labels_column))];
    Insert { table: "label_set", columns, on_conflict: OnConflict::Often("(label_set_id) DO NOTHING") }
        .run(connection)
        .await
}

pub(super) async fn insert_metrics(
    connection: &mut PgConnection,
    new: &[(usize, NaiveDate)],
    ids: &[SeriesIds],
    chunks: &[Chunk],
    missing: &HashSet<i64>,
) -> Result<(), StoreError> {
    let mut wanted = missing.clone();
    let (mut id_column, mut names) = (Vec::new(), Vec::new());
    for (at, _) in new {
        if wanted.remove(&ids[*at].metric) {
            id_column.push(ids[*at].metric);
            names.push(chunks[*at].labels.metric_name().to_owned());
        }
    }
    let columns = vec![("metric_id", Column::Bigint(id_column)), ("name", Column::Text(names))];
    Insert { table: "metric", columns, on_conflict: OnConflict::Often("(metric_id) DO NOTHING") }.run(connection).await
}

pub(super) async fn insert_series(
    connection: &mut PgConnection,
    new: &[(usize, NaiveDate)],
    ids: &[SeriesIds],
    chunks: &[Chunk],
) -> Result<(), StoreError> {
    let of = |pick: fn(&SeriesIds) -> i64| Column::Bigint(new.iter().map(|(at, _)| pick(&ids[*at])).collect());
    let le = new.iter().map(|(at, _)| chunks[*at].labels.get(BUCKET_LABEL).map(str::to_owned)).collect();
    let columns = vec![
        ("series_id", of(|id| id.series)),
        ("metric_id", of(|id| id.metric)),
        ("label_set_id", of(|id| id.label_set)),
        ("le", Column::OptionalText(le)),
        ("last_day", Column::Date(new.iter().map(|(_, day)| *day).collect())),
    ];
    let on_conflict = OnConflict::Often(
        "(series_id) DO UPDATE SET last_day = excluded.last_day WHERE series.last_day < excluded.last_day",
    );
    Insert { table: "series", columns, on_conflict }.run(connection).await
}
