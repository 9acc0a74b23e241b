//! Names and values of the labels of stored series, without their label sets in memory: a year of pods has millions of them.
//!
//! Invariant: the answers are those that the label sets of [`Store::stored_series`] would give.

use std::collections::BTreeSet;

use super::super::{Store, StoreError, values};
use super::BUCKET_LABEL;
use super::scope::{Scope, Split};
use crate::model::{Labels, METRIC_NAME, Matcher, Timestamp};

impl Store {
    /// Values of a label among the series that satisfy the matchers and have a chunk in the range, as far as windows tell.
    ///
    /// # Errors
    /// When the server is away or a row is damaged.
    pub async fn stored_label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: (Timestamp, Timestamp),
    ) -> Result<BTreeSet<String>, StoreError> {
        let split = Split::of(matchers);
        if [METRIC_NAME, BUCKET_LABEL].contains(&name) || !split.bucket.is_empty() {
            let series = self.stored_series(matchers, range).await?;
            return Ok(series.iter().filter_map(|labels| labels.get(name).map(str::to_owned)).collect());
        }
        let Some(scope) = self.scope(split, range).await? else { return Ok(BTreeSet::new()) };
        if scope.is_plain() {
            let sql = |in_scope: &str| {
                format!("SELECT DISTINCT l.labels ->> $8 FROM label_set l WHERE l.labels ? $8 AND {in_scope}")
            };
            let found = scope.ask::<(String,)>(sql).bind(values::text(name)).fetch_all(self.pool()).await;
            return Ok(found
                .map_err(StoreError::doing("read the values of a label"))?
                .into_iter()
                .map(|(value,)| value)
                .collect());
        }
        let mut found = BTreeSet::new();
        let take = |_, labels: Labels| {
            if let Some(value) = labels.get(name).filter(|value| !found.contains(*value)) {
                found.insert(value.to_owned());
            }
        };
        scope.each(self, take).await?;
        Ok(found)
    }

    /// Names of the labels of those series.
    ///
    /// # Errors
    /// When the server is away or a row is damaged.
    pub async fn stored_label_names(
        &self,
        matchers: &[Matcher],
        range: (Timestamp, Timestamp),
    ) -> Result<BTreeSet<String>, StoreError> {
        let split = Split::of(matchers);
        let has_bucket_matchers = !split.bucket.is_empty();
        let Some(scope) = self.scope(split, range).await? else { return Ok(BTreeSet::new()) };
        if has_bucket_matchers || !scope.is_plain() {
            let series = self.stored_series(matchers, range).await?;
            return Ok(series.iter().flatten().map(|(name, _)| name.to_owned()).collect());
        }
        let sql = |in_scope: &str| {
            format!(
                "SELECT DISTINCT name FROM label_set l, jsonb_object_keys(l.labels) name WHERE {in_scope}
                 UNION ALL SELECT $8 WHERE EXISTS (SELECT FROM label_set l WHERE {in_scope})
                 UNION ALL SELECT $9 WHERE EXISTS (
                     SELECT FROM series b JOIN label_set l USING (label_set_id)
                     WHERE b.le <> '' AND ($6::bigint[] IS NULL OR b.metric_id = ANY($6) AND b.last_day >= $7) AND {in_scope}
                 )"
            )
        };
        let found = scope.ask::<(String,)>(sql).bind(METRIC_NAME).bind(BUCKET_LABEL).fetch_all(self.pool()).await;
        let found = found.map_err(StoreError::doing("read the names of labels"))?;
        Ok(found.into_iter().map(|(name,)| name).collect())
    }

    /// The label sets of those series; `None`: no metric has such a name.
    async fn scope<'m>(
        &self,
        split: Split<'m>,
        range: (Timestamp, Timestamp),
    ) -> Result<Option<Scope<'m>>, StoreError> {
        if split.name.is_empty() {
            return Ok(Some(Scope::of(split.labels).within(range)));
        }
        let names = self.metric_names().await?;
        let metrics = split.metrics(&names);
        let scope = Scope::of(split.labels).within(range);
        let ids: Vec<i64> = metrics.into_keys().collect();
        Ok((!ids.is_empty()).then(|| scope.with_metrics(ids, range.0)))
    }
}
