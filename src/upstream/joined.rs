//! Our own store and the upstream as one.
//!
//! In: queries. Out: what both hold, each sample once. Our own sample counts where both have one.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use futures_util::future::{BoxFuture, try_join};

use super::Upstream;
use super::answer::labels;
use crate::model::{Labels, Matcher, Timestamp};
use crate::series::{Evaluation, QueryError, Queryable, Select, SelectHint, Selection, WholeQuery, merge};

/// Our own store with the upstream beside it.
pub struct Joined {
    own: Arc<dyn Queryable>,
    upstream: Upstream,
}

impl Joined {
    /// Reads both.
    pub fn new(own: Arc<dyn Queryable>, upstream: Upstream) -> Self {
        Self { own, upstream }
    }

    /// Whether our own store has series that the query reads.
    async fn has_own(&self, reads: &[Select]) -> Result<bool, QueryError> {
        for read in reads {
            let own = self.own.series(vec![read.matchers.clone()], read.from, read.to).await?;
            if !own.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Queryable for Joined {
    fn evaluate(&self, query: WholeQuery) -> BoxFuture<'_, Result<Option<Evaluation>, QueryError>> {
        Box::pin(async move {
            // What reads no series needs nobody.
            if query.reads.is_empty() {
                return Ok(None);
            }
            if self.has_own(&query.reads).await? {
                self.upstream.counters().evaluated_here.fetch_add(1, Relaxed);
                return Ok(None);
            }
            self.upstream.evaluate(&query).await.map(Some)
        })
    }

    fn select(&self, select: Select) -> BoxFuture<'_, Result<Selection, QueryError>> {
        Box::pin(async move {
            let hint = SelectHint { families: false, ..select.hint };
            let own = self.own.select(Select { hint, ..select.clone() });
            let (own, theirs) = try_join(own, self.upstream.select(&select)).await?;
            let thinned_until = own.thinned_until;
            let merged = Selection { thinned_until, ..merge(own, theirs) };
            let samples: usize = merged.series.iter().map(|series| series.values.len()).sum();
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
            let theirs = self.upstream.series(&any_of, (from, to));
            let (own, theirs) = try_join(self.own.series(any_of.clone(), from, to), theirs).await?;
            let theirs = theirs.iter().map(labels);
            Ok(own.into_iter().chain(theirs).collect::<HashSet<Labels>>().into_iter().collect())
        })
    }

    fn label_names(
        &self,
        any_of: Vec<Vec<Matcher>>,
        from: Timestamp,
        to: Timestamp,
    ) -> BoxFuture<'_, Result<Vec<String>, QueryError>> {
        Box::pin(async move {
            let theirs = self.upstream.label_names(&any_of, (from, to));
            let (own, theirs) = try_join(self.own.label_names(any_of.clone(), from, to), theirs).await?;
            Ok(sorted(own, theirs))
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
            let theirs = self.upstream.label_values(&name, &any_of, (from, to));
            let own = self.own.label_values(name.clone(), any_of.clone(), from, to);
            let (own, theirs) = try_join(own, theirs).await?;
            Ok(sorted(own, theirs))
        })
    }
}

fn sorted(own: Vec<String>, theirs: Vec<String>) -> Vec<String> {
    own.into_iter().chain(theirs).collect::<BTreeSet<String>>().into_iter().collect()
}
