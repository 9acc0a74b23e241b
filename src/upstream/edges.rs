//! What the edges of the mesh did, from the upstream's metrics of Istio and Linkerd.
//!
//! In: windows of time. Out: the sums of each, named as [`crate::rollup`] names edges. The upstream adds up
//! ([`Computed::query`]), so an edge travels and not its pods. Counts are those of PromQL's `increase`: a counter's first
//! sample counts nothing, and what lies between a window's end and the nearest sample is extrapolated.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, TryStreamExt as _};
use reqwest::Method;

use super::Upstream;
use super::answer;
use super::client::{Form, seconds};
use crate::model::{EdgeMinute, Labels, METRIC_NAME, MatchOp, Matcher, Timestamp};
use crate::rollup::Computed;
use crate::series::{Evaluated, Evaluation, QueryError};

/// Metrics that are asked for at the same time.
const AT_ONCE: usize = 4;
/// A rate is taken over so many scrapes at least.
const SCRAPES_MIN: u32 = 4;
/// Series that one answer may have: some ten times what a mesh of 5,000 edges has.
const SAMPLES_MAX: usize = 5_000_000;
/// How long a page waits for one of the answers.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a series rose by, with the end of the window.
type Increment = (Labels, Timestamp, f64);

/// Windows that follow one another and are equally long: one range query.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Run {
    /// The end of the first.
    first_end: Timestamp,
    last_end: Timestamp,
    length: Duration,
}

impl Upstream {
    /// What each edge did in each of the windows, which rise: one sum for each edge and window, under the window's start.
    ///
    /// # Errors
    /// When one of the questions was not answered; while the upstream is known to be away, at once.
    pub async fn edge_sums(&self, windows: &[(Timestamp, Timestamp)]) -> Result<Vec<EdgeMinute>, QueryError> {
        if let Some(away) = self.away() {
            return Err(answer::away(format!("no answer since {}: {}", away.since, away.reason)));
        }
        let windows: Vec<_> = windows.iter().copied().filter(|(from, to)| from < to).collect();
        let (Some((from, _)), Some((_, to))) = (windows.first(), windows.last()) else { return Ok(Vec::new()) };
        let names = self.counted_names((*from, *to)).await?;
        let mut computed = Computed::default();
        for run in runs(&windows) {
            let asked: Vec<BoxFuture<'_, Result<Vec<Increment>, QueryError>>> =
                names.iter().map(|name| Box::pin(self.increments(name, run)) as _).collect();
            let answers: Vec<Vec<Increment>> =
                futures_util::stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
            for (name, rows) in names.iter().zip(answers) {
                for (labels, end, increment) in rows {
                    computed.add(end - run.length, &labels.with(METRIC_NAME, name), increment);
                }
            }
        }
        Ok(computed.into_sums())
    }

    /// Which metrics of edges it has in that time.
    async fn counted_names(&self, range: (Timestamp, Timestamp)) -> Result<BTreeSet<String>, QueryError> {
        let all = Computed::METRICS.join("|");
        let matcher =
            Matcher::new(MatchOp::Regex, METRIC_NAME, &all).map_err(|error| answer::away(error.to_string()))?;
        let found = self.label_values(METRIC_NAME, &[vec![matcher]], range).await?;
        Ok(found.into_iter().filter(|name| Computed::METRICS.contains(&name.as_str())).collect())
    }

    /// What the series of a metric rose by in each window, with each window's end.
    async fn increments(&self, metric: &str, run: Run) -> Result<Vec<Increment>, QueryError> {
        let range = run.length.max(self.config().scrape_interval.get() * SCRAPES_MIN);
        let scale = run.length.as_secs_f64() / range.as_secs_f64();
        let query = Computed::query(metric, range);
        let mut form: Form = vec![("query", query)];
        let path = if run.first_end == run.last_end {
            form.push(("time", seconds(run.last_end)));
            "/query"
        } else {
            form.push(("start", seconds(run.first_end)));
            form.push(("end", seconds(run.last_end)));
            form.push(("step", run.length.as_secs_f64().to_string()));
            "/query_range"
        };
        let patience = self.config().timeout.get().min(PATIENCE);
        let told = self.get(Method::POST, path, &form, patience).await?;
        let Evaluation { value, .. } = answer::evaluation(told, SAMPLES_MAX)?;
        Ok(match value {
            Evaluated::Vector(rows) => {
                rows.into_iter().map(|(labels, at, value)| (labels, at, value * scale)).collect()
            }
            Evaluated::Matrix(series) => (series.iter())
                .flat_map(|one| {
                    one.times.iter().zip(&one.values).map(|(at, value)| (one.labels.clone(), *at, value * scale))
                })
                .collect(),
            Evaluated::Scalar(..) | Evaluated::Text(..) => Vec::new(),
        })
    }
}

/// The fewest range queries that ask for all windows.
fn runs(windows: &[(Timestamp, Timestamp)]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (from, to) in windows {
        let length = to.since(*from);
        match runs.last_mut() {
            Some(run) if run.length == length && run.last_end == *from => run.last_end = *to,
            _ => runs.push(Run { first_end: *to, last_end: *to, length }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_windows_in_a_row_are_one_question() {
        let at = |minute: i64| Timestamp::from_millis(minute * 60_000);
        let run = |first: i64, last: i64, minutes: u64| Run {
            first_end: at(first),
            last_end: at(last),
            length: Duration::from_secs(minutes * 60),
        };
        let windows = [(at(0), at(60)), (at(60), at(61)), (at(61), at(62)), (at(62), at(63)), (at(70), at(71))];
        assert_eq!(runs(&windows), [run(60, 60, 60), run(61, 63, 1), run(71, 71, 1)]);
        assert_eq!(runs(&[]), []);
    }
}
