//! What can be asked of a store of series, and what it answers. The one trait of meshscope.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::index::BUCKET;
use crate::model::{Labels, Matcher, Timestamp};

/// Which samples a query needs.
#[derive(Clone, Debug)]
pub struct Select {
    /// All must hold. At least one must not match the empty string, unless the caller wants everything.
    pub matchers: Vec<Matcher>,
    /// First time wanted, inclusive.
    pub from: Timestamp,
    /// Last time wanted, inclusive.
    pub to: Timestamp,
    /// What the engine will do with the samples; a store may use it to pick a coarser tier, never to change an answer.
    pub hint: SelectHint,
    /// Most samples to return; past it [`QueryError::TooManySamples`].
    pub sample_limit: usize,
}

/// What the engine will do with selected samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SelectHint {
    /// Step of a range query, zero for an instant query.
    pub step: Duration,
    /// Range of the range selector, zero for an instant selector.
    pub range: Duration,
    /// Function around the selector (`rate`, `sum` …), empty when none.
    pub function: &'static str,
    /// Whether series may come as [`Selection::families`]: they will be added up family by family.
    pub families: bool,
}

impl Select {
    /// Everything that satisfies `matchers` in `[from, to]`, without a hint or a limit.
    pub fn new(matchers: Vec<Matcher>, from: Timestamp, to: Timestamp) -> Self {
        Self { matchers, from, to, hint: SelectHint::default(), sample_limit: usize::MAX }
    }
}

/// The samples of one series, oldest first, as two columns of equal length.
///
/// Stale markers are among the values ([`crate::model::is_stale`]). Series scraped together may share one time column.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesSamples {
    /// Which series.
    pub labels: Labels,
    /// Strictly rising.
    pub times: Arc<[Timestamp]>,
    /// One for each time.
    pub values: Vec<f64>,
}

/// What the rows of a [`Family`] are called.
#[derive(Clone, Debug, PartialEq)]
pub struct FamilyNames {
    /// The labels that all rows share: all but `le`.
    pub labels: Labels,
    /// By row, its `le`, empty where it has none. Families of one kind mostly share one list.
    pub bounds: Arc<[Arc<str>]>,
}

/// Series that differ only in `le` and have samples at the same times: the buckets of one histogram, or a single series.
#[derive(Clone, Debug)]
pub struct Family {
    /// What its rows are called.
    pub names: Arc<FamilyNames>,
    /// Strictly rising, not empty.
    pub times: Arc<[Timestamp]>,
    /// One row after another, each with one value for each time. Stale markers are among them.
    pub values: Vec<f64>,
}

impl Family {
    /// Its rows with their bounds.
    pub fn rows(&self) -> impl Iterator<Item = (&Arc<str>, &[f64])> {
        self.names.bounds.iter().zip(self.values.chunks_exact(self.times.len().max(1)))
    }

    /// Its rows as series of their own.
    pub fn series(&self) -> impl Iterator<Item = SeriesSamples> {
        self.rows().map(|(bound, values)| SeriesSamples {
            labels: if bound.is_empty() { self.names.labels.clone() } else { self.names.labels.with(BUCKET, bound) },
            times: Arc::clone(&self.times),
            values: values.to_vec(),
        })
    }
}

/// The answer to a [`Select`]. Each label set occurs once; the order is not specified.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Series with at least one sample in the range.
    pub series: Vec<SeriesSamples>,
    /// Further series, where [`SelectHint::families`] allows it.
    pub families: Vec<Family>,
    /// What the asker should know (a range was widened, a tier was away), without the `PromQL warning:` prefix.
    pub warnings: Vec<String>,
    /// Up to this time there are thinned samples among them, about one each five minutes; `None`: all is as scraped.
    pub thinned_until: Option<Timestamp>,
}

impl Selection {
    /// All series one by one: those of families, in their order, before the others.
    pub fn into_series(self) -> Vec<SeriesSamples> {
        if self.families.is_empty() {
            return self.series;
        }
        self.families.iter().flat_map(Family::series).chain(self.series).collect()
    }
}

/// A whole query, for a store that evaluates by itself.
#[derive(Clone, Debug)]
pub struct WholeQuery {
    /// The expression as it was written, PromQL.
    pub text: Arc<str>,
    /// The time of an instant query, else the first step.
    pub start: Timestamp,
    /// The last time of a range query, which need not be a step.
    pub end: Timestamp,
    /// The step of a range query; `None` for an instant query.
    pub step: Option<Duration>,
    /// How far back an instant selector looks, where the asker says so.
    pub lookback: Option<Duration>,
    /// How long the asker waits.
    pub timeout: Duration,
    /// What the expression reads.
    pub reads: Vec<Select>,
}

/// The answer of a store that evaluates by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// The result.
    pub value: Evaluated,
    /// What the asker should know.
    pub warnings: Vec<String>,
    /// What the asker may like to know.
    pub infos: Vec<String>,
}

/// A result that a store has evaluated.
#[derive(Clone, Debug, PartialEq)]
pub enum Evaluated {
    /// One number.
    Scalar(Timestamp, f64),
    /// One sample of each series, in the order of the answer.
    Vector(Vec<(Labels, Timestamp, f64)>),
    /// Samples of each series.
    Matrix(Vec<SeriesSamples>),
    /// A text.
    Text(Timestamp, String),
}

/// Why a store could not answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// More samples than the limit.
    #[error("query processing would load too many samples into memory in query execution")]
    TooManySamples,
    /// The store behind is away.
    #[error("{store} is not available: {reason}")]
    Unavailable {
        /// Which store.
        store: &'static str,
        /// Why.
        reason: String,
    },
    /// A store that evaluates by itself refuses the query.
    #[error("{reason}")]
    Refused {
        /// Prometheus' `errorType`: `bad_data`, `execution`, `timeout`, `canceled`, `not_found` or `internal`.
        kind: &'static str,
        /// What it says.
        reason: String,
    },
    /// What is stored cannot be read.
    #[error("stored samples of {labels} are damaged: {reason}")]
    Damaged {
        /// Which series.
        labels: String,
        /// How.
        reason: String,
    },
}

/// A store of series that can be queried: the memory tier, PostgreSQL history, both as one, or these with an engine elsewhere.
pub trait Queryable: Send + Sync {
    /// The answer to a whole query, of a store that evaluates by itself; `None`: select what it reads, and evaluate that.
    ///
    /// # Errors
    /// When the store is away, refuses the query or answers more than the limit of what it reads.
    fn evaluate(&self, _query: WholeQuery) -> BoxFuture<'_, Result<Option<Evaluation>, QueryError>> {
        Box::pin(async { Ok(None) })
    }

    /// The samples of the series that satisfy all matchers.
    ///
    /// # Errors
    /// When a limit is hit or the store is away.
    fn select(&self, select: Select) -> BoxFuture<'_, Result<Selection, QueryError>>;

    /// Label sets with samples in `[from, to]` that satisfy any of the matcher lists (every series when there is none).
    ///
    /// # Errors
    /// When the store is away.
    fn series(
        &self,
        any_of: Vec<Vec<Matcher>>,
        from: Timestamp,
        to: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<Labels>, QueryError>>;

    /// Names of all labels of those series, sorted. May be answered quicker than through [`Queryable::series`].
    ///
    /// # Errors
    /// When the store is away.
    fn label_names(
        &self,
        any_of: Vec<Vec<Matcher>>,
        from: Timestamp,
        to: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<String>, QueryError>> {
        Box::pin(async move {
            let series = self.series(any_of, from, to).await?;
            let names: std::collections::BTreeSet<&str> = series.iter().flatten().map(|(name, _)| name).collect();
            Ok(names.into_iter().map(str::to_owned).collect())
        })
    }

    /// Values that the label `name` has among those series, sorted bytewise.
    ///
    /// # Errors
    /// When the store is away.
    fn label_values(
        &self,
        name: String,
        any_of: Vec<Vec<Matcher>>,
        from: Timestamp,
        to: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<String>, QueryError>> {
        Box::pin(async move {
            let series = self.series(any_of, from, to).await?;
            let values: std::collections::BTreeSet<&str> =
                series.iter().filter_map(|labels| labels.get(&name)).collect();
            Ok(values.into_iter().map(str::to_owned).collect())
        })
    }
}
