//! Which label sets a question is about: matchers, metrics and a range, as a condition for PostgreSQL and what is checked here.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::QueryAs;
use sqlx::{AssertSqlSafe, FromRow, Postgres};

use super::super::{Store, StoreError, values};
use super::select::PARTS_SPAN;
use super::{BUCKET_LABEL, CHUNK_SPAN_MAX};
use crate::model::{Labels, METRIC_NAME, MatchOp, Matcher, Timestamp};

/// A condition on `label_set l`; [`Scope::ask`] binds its parameters, `$1` to `$7`.
const IN_SCOPE: &str = include_str!("../sql/label_sets_in_scope.sql");

/// Matchers by what they are about.
pub(super) struct Split<'m> {
    pub(super) name: Vec<&'m Matcher>,
    pub(super) bucket: Vec<&'m Matcher>,
    pub(super) labels: Vec<&'m Matcher>,
}

impl<'m> Split<'m> {
    pub(super) fn of(matchers: &'m [Matcher]) -> Self {
        let (name, rest): (Vec<&Matcher>, Vec<&Matcher>) = matchers.iter().partition(|m| &*m.name == METRIC_NAME);
        let (bucket, labels) = rest.into_iter().partition(|m| &*m.name == BUCKET_LABEL);
        Self { name, bucket, labels }
    }

    /// Which of these metrics are meant, by id.
    pub(super) fn metrics<'n>(&self, names: &'n HashMap<i64, String>) -> HashMap<i64, &'n str> {
        let wanted = names.iter().filter(|(_, name)| self.name.iter().all(|m| m.matches(name)));
        wanted.map(|(id, name)| (*id, name.as_str())).collect()
    }
}

/// Label sets that satisfy matchers.
pub(super) struct Scope<'m> {
    matchers: Vec<&'m Matcher>,
    /// What of the matchers PostgreSQL looks up.
    equal: serde_json::Value,
    /// Only those with a chunk in this range, as far as windows tell; none: all.
    range: Option<(Timestamp, Timestamp)>,
    /// Only those with a series of one of these metrics, on or after that day; none: all.
    metrics: Option<(Vec<i64>, DateTime<Utc>)>,
}

impl<'m> Scope<'m> {
    /// Those of these labels, of all times and metrics.
    pub(super) fn of(matchers: Vec<&'m Matcher>) -> Self {
        let equal: serde_json::Map<String, serde_json::Value> = (matchers.iter().filter(|m| is_equality(m)))
            .map(|m| (values::text(&m.name).into_owned(), values::text(&m.value).into_owned().into()))
            .collect();
        Self { matchers, equal: equal.into(), range: None, metrics: None }
    }

    /// Only those with a chunk in the range. Each label set has one at some time, so all of time is not asked for.
    pub(super) fn within(self, range: (Timestamp, Timestamp)) -> Self {
        Self { range: Some(range).filter(|range| *range != (Timestamp::MIN, Timestamp::MAX)), ..self }
    }

    /// Only those with a series of one of these metrics on or after the day of `from`.
    pub(super) fn with_metrics(self, metrics: Vec<i64>, from: Timestamp) -> Self {
        Self { metrics: Some((metrics, values::time(from))), ..self }
    }

    /// Whether PostgreSQL can tell alone which label sets these are.
    pub(super) fn is_plain(&self) -> bool {
        self.matchers.iter().all(|m| is_equality(m))
    }

    /// A question of which the condition is made by `sql` from [`IN_SCOPE`]; it may have parameters from `$8` on.
    pub(super) fn ask<O>(&self, sql: impl FnOnce(&str) -> String) -> QueryAs<'_, Postgres, O, PgArguments>
    where
        O: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let (from, to) = self.range.unwrap_or((Timestamp::MIN, Timestamp::MAX));
        let (metrics, first) = self.metrics.as_ref().map(|(ids, first)| (ids, first.date_naive())).unzip();
        sqlx::query_as(AssertSqlSafe(sql(IN_SCOPE)))
            .bind(&self.equal)
            .bind(self.range.is_none())
            .bind(values::time(from - CHUNK_SPAN_MAX))
            .bind(values::time(from))
            .bind(values::time(to + PARTS_SPAN))
            .bind(metrics)
            .bind(first)
    }

    /// Hands over the id and the labels of each label set, without the metric name and `le`.
    ///
    /// # Errors
    /// When the server is away or a row is damaged.
    pub(super) async fn each(&self, store: &Store, mut take: impl FnMut(i64, Labels)) -> Result<(), StoreError> {
        let sql = |in_scope: &str| format!("SELECT l.label_set_id, l.labels FROM label_set l WHERE {in_scope}");
        let mut rows = self.ask::<(i64, serde_json::Value)>(sql).fetch(store.pool());
        while let Some((id, labels)) = rows.try_next().await.map_err(StoreError::doing("read label sets"))? {
            let labels = values::labels_from(labels)?;
            if self.matchers.iter().all(|m| m.matches_labels(&labels)) {
                take(id, labels);
            }
        }
        Ok(())
    }
}

fn is_equality(matcher: &Matcher) -> bool {
    matcher.op == MatchOp::Equal && !matcher.value.is_empty()
}
