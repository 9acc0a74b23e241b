//! The catalogue of series: their ids, and the rows that name them.

use std::collections::{HashMap, HashSet};

use chrono::NaiveDate;
use sqlx::postgres::PgConnection;

use super::super::bulk::{Column, Insert, OnConflict};
use super::super::ids::{KnownIds, id_of};
use super::super::{StoreError, values};
use super::shared_labels;
use crate::model::{Labels, Timestamp};

/// Series of one label set that have samples.
#[derive(Clone, Debug)]
pub struct SeriesNames {
    /// The labels that they share: all but the metric name and `le`.
    pub labels: Labels,
    /// The id of those ([`label_set_id`]).
    pub label_set: i64,
    /// Metric name and `le` of each, empty where it has none.
    pub series: Vec<(String, String)>,
    /// The newest sample of any.
    pub last: Timestamp,
}

/// What a transaction inserted; known once it has committed.
pub(super) struct WrittenSeries {
    pub(super) series: Vec<(i64, NaiveDate)>,
    pub(super) label_sets: HashSet<i64>,
    pub(super) metrics: HashSet<i64>,
}

/// What the labels but the metric name and `le` are called in the database.
pub fn label_set_id(labels: &Labels) -> i64 {
    let texts = |(name, value)| [values::text(name), values::text(value)].map(|t| t.into_owned());
    id_of(shared_labels(labels).flat_map(texts))
}

struct New<'a> {
    series: i64,
    metric: i64,
    metric_name: &'a str,
    bucket: &'a str,
    of: &'a SeriesNames,
    day: NaiveDate,
}

/// Inserts those that are not known to be stored.
pub(super) async fn insert_names(
    connection: &mut PgConnection,
    known: &KnownIds,
    names: &[SeriesNames],
) -> Result<WrittenSeries, StoreError> {
    let mut metric_ids: HashMap<&str, i64> = HashMap::new();
    // Of several of one series the last day counts.
    let mut all: HashMap<i64, New<'_>> = HashMap::new();
    for of in names {
        let day = values::time(of.last).date_naive();
        for (metric_name, bucket) in &of.series {
            let metric =
                *metric_ids.entry(metric_name).or_insert_with(|| id_of([values::text(metric_name).as_bytes()]));
            let le = values::text(bucket);
            let series = id_of([&of.label_set.to_be_bytes()[..], &metric.to_be_bytes(), le.as_bytes()]);
            let new = New { series, metric, metric_name, bucket, of, day };
            match all.get_mut(&series) {
                Some(there) if there.day >= day => {}
                _ => drop(all.insert(series, new)),
            }
        }
    }
    let missing = known.series.missing(all.values().map(|new| (new.series, new.day)));
    let new: Vec<New<'_>> = all.into_values().filter(|new| missing.contains(&new.series)).collect();
    let label_sets = known.label_sets.missing(new.iter().map(|new| (new.of.label_set, ())));
    let metrics = known.metrics.missing(new.iter().map(|new| (new.metric, ())));
    insert_label_sets(connection, &new, &label_sets).await?;
    insert_metrics(connection, &new, &metrics).await?;
    insert_series(connection, &new).await?;
    Ok(WrittenSeries { series: new.iter().map(|new| (new.series, new.day)).collect(), label_sets, metrics })
}

async fn insert_label_sets(
    connection: &mut PgConnection,
    new: &[New<'_>],
    missing: &HashSet<i64>,
) -> Result<(), StoreError> {
    let mut wanted = missing.clone();
    let (mut id_column, mut labels_column) = (Vec::new(), Vec::new());
    for New { of, .. } in new {
        if wanted.remove(&of.label_set) {
            id_column.push(of.label_set);
            labels_column.push(values::labels_json(&shared_labels(&of.labels).collect()));
        }
    }
    let columns = vec![("label_set_id", Column::Bigint(id_column)), ("labels", Column::Json(labels_column))];
    Insert { table: "label_set", columns, on_conflict: OnConflict::Often("(label_set_id) DO NOTHING") }
        .run(connection)
        .await
}

async fn insert_metrics(
    connection: &mut PgConnection,
    new: &[New<'_>],
    missing: &HashSet<i64>,
) -> Result<(), StoreError> {
    let mut wanted = missing.clone();
    let (mut id_column, mut names) = (Vec::new(), Vec::new());
    for new in new {
        if wanted.remove(&new.metric) {
            id_column.push(new.metric);
            names.push(new.metric_name.to_owned());
        }
    }
    let columns = vec![("metric_id", Column::Bigint(id_column)), ("name", Column::Text(names))];
    Insert { table: "metric", columns, on_conflict: OnConflict::Often("(metric_id) DO NOTHING") }.run(connection).await
}

async fn insert_series(connection: &mut PgConnection, new: &[New<'_>]) -> Result<(), StoreError> {
    let of = |pick: fn(&New<'_>) -> i64| Column::Bigint(new.iter().map(pick).collect());
    let le = new.iter().map(|new| (!new.bucket.is_empty()).then(|| new.bucket.to_owned())).collect();
    let columns = vec![
        ("series_id", of(|new| new.series)),
        ("metric_id", of(|new| new.metric)),
        ("label_set_id", of(|new| new.of.label_set)),
        ("le", Column::OptionalText(le)),
        ("last_day", Column::Date(new.iter().map(|new| new.day).collect())),
    ];
    let on_conflict = OnConflict::Often(
        "(series_id) DO UPDATE SET last_day = excluded.last_day WHERE series.last_day < excluded.last_day",
    );
    Insert { table: "series", columns, on_conflict }.run(connection).await
}
