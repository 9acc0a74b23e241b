//! The memory tier: series by label set, appended to by scrapes and rules, read by queries.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::RwLock;
use serde::Deserialize;

use super::{QueryError, Queryable, Select, Selection, SeriesSamples};
use crate::model::{Labels, Matcher, Timestamp};

/// Limits of the memory tier.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long samples stay in memory. Default 3 h.
    pub memory_window: crate::units::PromDuration,
    /// How far behind the newest sample of its series a sample may be. Default 0: only newer ones.
    pub out_of_order_window: crate::units::PromDuration,
    /// Most series in memory; past it new series are refused and counted. Default 2 million.
    pub series_limit: usize,
}

impl Default for Config {
    fn default() -> Self {
        let hours = |h: u64| crate::units::PromDuration::from(Duration::from_secs(h * 3600));
        Self { memory_window: hours(3), out_of_order_window: hours(0), series_limit: 2_000_000 }
    }
}

/// Names one series of the memory tier while it lives; never reused for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesRef(pub(crate) u64);

/// One sample of one series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Which series.
    pub series: SeriesRef,
    /// When.
    pub at: Timestamp,
    /// What; a stale marker ends the series.
    pub value: f64,
}

/// Why a series was refused.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The memory tier is full.
    #[error("the limit of {limit} series in memory (storage.series_limit) is reached")]
    SeriesLimit {
        /// The limit.
        limit: usize,
    },
}

/// What became of the rows of one append.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// Stored.
    pub accepted: usize,
    /// Same time and same bits as what is stored: nothing to do.
    pub duplicates: usize,
    /// Same time as what is stored, another value: refused.
    pub conflicting: usize,
    /// Older than the newest sample of its series by more than the window: refused.
    pub out_of_order: usize,
    /// Indices into the batch whose series no longer lives: intern it again.
    pub vanished: Vec<usize>,
}

/// The memory tier. Clones share it.
#[derive(Clone)]
pub struct Head(Arc<RwLock<Inner>>);

#[derive(Default)]
struct Inner {
    config: Config,
    by_labels: HashMap<Labels, usize>,
    series: Vec<(Labels, Vec<Timestamp>, Vec<f64>)>,
}

impl Head {
    /// An empty memory tier.
    pub fn new(config: Config) -> Self {
        Self(Arc::new(RwLock::new(Inner { config, ..Inner::default() })))
    }

    /// Finds or makes the series of that label set.
    ///
    /// # Errors
    /// When a new series would pass the limit.
    pub fn intern(&self, labels: &Labels) -> Result<SeriesRef, AppendError> {
        let mut inner = self.0.write();
        if let Some(&at) = inner.by_labels.get(labels) {
            return Ok(SeriesRef(at as u64));
        }
        let at = inner.series.len();
        if at >= inner.config.series_limit {
            return Err(AppendError::SeriesLimit { limit: inner.config.series_limit });
        }
        inner.series.push((labels.clone(), Vec::new(), Vec::new()));
        inner.by_labels.insert(labels.clone(), at);
        Ok(SeriesRef(at as u64))
    }

    /// The label set of a living series.
    pub fn labels(&self, series: SeriesRef) -> Option<Labels> {
        self.0.read().series.get(series.0 as usize).map(|(labels, ..)| labels.clone())
    }

    /// Appends samples that share one time: a scrape, an evaluation.
    pub fn append_at(&self, at: Timestamp, batch: &[(SeriesRef, f64)]) -> Appended {
        let rows: Vec<Row> = batch.iter().map(|&(series, value)| Row { series, at, value }).collect();
        self.append(&rows)
    }

    /// Appends samples at their own times.
    pub fn append(&self, rows: &[Row]) -> Appended {
        let mut inner = self.0.write();
        let mut appended = Appended::default();
        for (i, row) in rows.iter().enumerate() {
            let Some((_, times, values)) = inner.series.get_mut(row.series.0 as usize) else {
                appended.vanished.push(i);
                continue;
            };
            match times.last() {
                Some(&last) if last == row.at => {
                    let same = values.last().is_some_and(|v| v.to_bits() == row.value.to_bits());
                    *(if same { &mut appended.duplicates } else { &mut appended.conflicting }) += 1;
                }
                Some(&last) if last > row.at => appended.out_of_order += 1,
                _ => {
                    times.push(row.at);
                    values.push(row.value);
                    appended.accepted += 1;
                }
            }
        }
        appended
    }
}

impl Queryable for Head {
    fn select(&self, select: Select) -> BoxFuture<'_, Result<Selection, QueryError>> {
        let mut selection = Selection::default();
        for (labels, times, values) in &self.0.read().series {
            if select.matchers.iter().all(|m| m.matches_labels(labels)) {
                let range = times.partition_point(|t| *t < select.from)..times.partition_point(|t| *t <= select.to);
                if !range.is_empty() {
                    let (times, values) = (times[range.clone()].into(), values[range].to_vec());
                    selection.series.push(SeriesSamples { labels: labels.clone(), times, values });
                }
            }
        }
        Box::pin(async move { Ok(selection) })
    }

    fn series(
        &self,
        any_of: Vec<Vec<Matcher>>,
        from: Timestamp,
        to: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<Labels>, QueryError>> {
        let found: Vec<Labels> = (self.0.read().series.iter())
            .filter(|(_, times, _)| times.iter().any(|t| *t >= from && *t <= to))
            .filter(|(labels, ..)| {
                any_of.is_empty() || any_of.iter().any(|all| all.iter().all(|m| m.matches_labels(labels)))
            })
            .map(|(labels, ..)| labels.clone())
            .collect();
        Box::pin(async move { Ok(found) })
    }
}
