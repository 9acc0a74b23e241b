//! Memory and history as one store.
//!
//! In: queries. Out: what both tiers hold, each sample once. Memory holds everything from [`Head::complete_from`] on;
//! history is asked only for what lies before. Where both have a sample, memory's counts. While history is away, memory
//! answers alone, with a warning.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::head::Head;
use super::read::merge_columns;
use super::{QueryError, Queryable, Select, SelectHint, Selection, SeriesSamples};
use crate::model::{Labels, Matcher, Timestamp};

/// The memory tier with PostgreSQL's history behind it.
#[derive(Clone)]
pub struct Tiered {
    head: Head,
    history: Arc<dyn Queryable>,
}

impl Tiered {
    /// Reads `head`, and `history` for what lies before it.
    pub fn new(head: Head, history: Arc<dyn Queryable>) -> Self {
        Self { head, history }
    }
}

/// The part of `[from, to]` that lies before the seam, which history must answer.
fn before(seam: Timestamp, from: Timestamp, to: Timestamp) -> Option<(Timestamp, Timestamp)> {
    let last = seam - Duration::from_millis(1);
    (from <= last && from <= to).then(|| (from, to.min(last)))
}

impl Queryable for Tiered {
    fn select(&self, select: Select) -> BoxFuture<'_, Result<Selection, QueryError>> {
        Box::pin(async move {
            // Memory is read first: what garbage collection drops meanwhile lies before the seam that is read after it.
            let recent = self.head.select(select.clone()).await?;
            let seam = self.head.complete_from();
            let Some((from, to)) = before(seam, select.from, select.to) else { return Ok(recent) };
            // Old and recent samples of a series are joined one by one.
            let hint = SelectHint { families: false, ..select.hint };
            let old = self.history.select(Select { from, to, hint, ..select.clone() }).await;
            let merged = match old {
                Ok(old) => merge(recent, old),
                Err(QueryError::Unavailable { store, reason }) => with_warning(recent, seam, store, &reason),
                Err(error) => return Err(error),
            };
            let samples: usize = merged.series.iter().map(|series| series.values.len()).sum();
            let samples = samples + merged.families.iter().map(|family| family.values.len()).sum::<usize>();
            if samples > select.sample_limit { Err(QueryError::TooManySamples) } else { Ok(merged) }
        })
    }

    fn series(
        &self,
        any_of: Vec<Vec<Matcher>>,
        from: Timestamp,
        to: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<Labels>, QueryError>> {
        Box::pin(async move {
            let recent = self.head.series(any_of.clone(), from, to).await?;
            let Some((old_from, old_to)) = before(self.head.complete_from(), from, to) else { return Ok(recent) };
            let old = known(self.history.series(any_of, old_from, old_to).await)?;
            Ok(recent.into_iter().chain(old).collect::<HashSet<Labels>>().into_iter().collect())
        })
    }

    fn label_names(
        &self,
        any_of: Vec<Vec<Matcher>>,
        from: Timestamp,
        to: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<String>, QueryError>> {
        Box::pin(async move {
            let recent = self.head.label_names(any_of.clone(), from, to).await?;
            if before(self.head.complete_from(), from, to).is_none() {
                return Ok(recent);
            }
            // All of the range: history need not look at the times of what memory has too.
            let old = known(self.history.label_names(any_of, from, to).await)?;
            Ok(sorted(old, recent))
        })
    }

    fn label_values(
        &self,
        name: String,
        any_of: Vec<Vec<Matcher>>,
        from: Timestamp,
        to: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<String>, QueryError>> {
        Box::pin(async move {
            let recent = self.head.label_values(name.clone(), any_of.clone(), from, to).await?;
            if before(self.head.complete_from(), from, to).is_none() {
                return Ok(recent);
            }
            let old = known(self.history.label_values(name, any_of, from, to).await)?;
            Ok(sorted(old, recent))
        })
    }
}

/// What history answered; nothing while it is away, since these answers have no place for a warning.
fn known<T>(answer: Result<Vec<T>, QueryError>) -> Result<Vec<T>, QueryError> {
    match answer {
        Err(QueryError::Unavailable { .. }) => Ok(Vec::new()),
        other => other,
    }
}

fn sorted(old: Vec<String>, recent: Vec<String>) -> Vec<String> {
    old.into_iter().chain(recent).collect::<BTreeSet<String>>().into_iter().collect()
}

fn with_warning(mut recent: Selection, seam: Timestamp, store: &str, reason: &str) -> Selection {
    let before = if seam == Timestamp::MAX { "now".to_owned() } else { seam.to_string() };
    recent.warnings.push(format!("history before {before} is not available: {store}: {reason}"));
    recent
}

/// Both answers, each sample once, memory's where both have one.
pub(crate) fn merge(recent: Selection, old: Selection) -> Selection {
    let Selection { series, mut families, mut warnings, .. } = recent;
    warnings.extend(old.warnings);
    if old.series.is_empty() {
        // A young store: nothing to compare a hundred thousand label sets with.
        return Selection { series, families, warnings, thinned_until: old.thinned_until };
    }
    let series = Selection { series, families: std::mem::take(&mut families), ..Selection::default() }.into_series();
    let mut by_labels: HashMap<Labels, SeriesSamples> =
        old.series.into_iter().map(|series| (series.labels.clone(), series)).collect();
    let mut merged: Vec<SeriesSamples> = series
        .into_iter()
        .map(|recent| match by_labels.remove(&recent.labels) {
            None => recent,
            Some(old) => join(recent, old),
        })
        .collect();
    merged.extend(by_labels.into_values());
    Selection { series: merged, families, warnings, thinned_until: old.thinned_until }
}

fn join(recent: SeriesSamples, old: SeriesSamples) -> SeriesSamples {
    let (times, values) = merge_columns(&(recent.times, recent.values), &(old.times, old.values));
    SeriesSamples { labels: recent.labels, times, values }
}
