//! Asks a store of metrics what a window saw: PromQL texts to our own engine, or over HTTP to a running meshscope or any
//! server that speaks Prometheus' API.
//!
//! In: a [`Source`] and a window. Out: an [`Observed`]. Invariant: a question that fails leaves a gap with its reason and
//! loses no other; only a source that answers nothing at all is an error. Answers are bounded in rows and bytes.

mod fold;
mod long;
mod questions;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;

use super::observed::Observed;
use crate::model::Timestamp;
use crate::promql::{Engine, QueryOptions, Value};
use crate::series::Queryable;
use fold::Row;
pub use long::gather_past;
use questions::Question;

/// Rows that one answer may have: some ten times what a mesh of 5,000 edges has.
const ROWS_MAX: usize = 500_000;
/// Bytes that one answer over HTTP may have.
const BODY_MAX: usize = 256 << 20;
/// Questions that are asked at the same time.
const AT_ONCE: usize = 3;
/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Shortest window: a rate needs some scrapes.
pub const WINDOW_MIN: Duration = Duration::from_secs(120);

/// Who is asked.
#[derive(Clone)]
pub enum Source {
    /// Our own engine and store, about the window that ends at a moment.
    Own {
        /// Evaluates.
        engine: Arc<Engine>,
        /// Memory and history.
        series: Arc<dyn Queryable>,
        /// The window's end.
        at: Timestamp,
    },
    /// A server at an address (`http://host:port`, perhaps with a path), about the window that ends now.
    Server {
        /// Makes requests.
        client: reqwest::Client,
        /// The address, without `/api/v1`.
        url: String,
    },
}

/// Why nothing could be gathered.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// No question was answered.
    #[error("{url} answers no query: {reason}")]
    Nothing {
        /// Who was asked.
        url: String,
        /// What was said to the first question.
        reason: String,
    },
}

impl Source {
    /// A server at an address, asked by that client.
    pub fn server(client: reqwest::Client, url: &str) -> Self {
        Self::Server { client, url: url.trim_end_matches('/').to_owned() }
    }

    async fn ask(&self, query: &str) -> Result<Vec<Row>, String> {
        let rows = match self {
            Self::Own { engine, series, at } => own(engine, &**series, *at, query).await?,
            Self::Server { client, url } => over_http(client, url, query).await?,
        };
        match rows.len() {
            0..=ROWS_MAX => Ok(rows),
            many => Err(format!("{many} series answered, more than {ROWS_MAX}")),
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Own { .. } => "the store",
            Self::Server { url, .. } => url,
        }
    }
}

/// What a window saw.
///
/// # Errors
/// When no question is answered at all.
pub async fn gather(source: &Source, window: Duration) -> Result<Observed, GatherError> {
    gather_with(source, window, &BTreeSet::new()).await
}

/// The same, and what these labels of `istio_requests_total` cost ([`super::overridden`] says which Telemetries name).
///
/// # Errors
/// When no question is answered at all.
pub async fn gather_with(
    source: &Source,
    window: Duration,
    labels: &BTreeSet<String>,
) -> Result<Observed, GatherError> {
    let window = window.max(WINDOW_MIN);
    let recent = (window / 12).clamp(WINDOW_MIN, Duration::from_secs(3_600)).min(window);
    let questions = questions::all(window, recent, labels);
    let asked = futures_util::stream::iter(questions).map(|(question, query): (Question, String)| async move {
        let answer = source.ask(&query).await;
        (question, query, answer)
    });
    let mut asked = std::pin::pin!(asked.buffered(AT_ONCE));
    let mut all = fold::Fold::new(window, recent);
    let (mut answered, mut first_reason) = (0_usize, None);
    while let Some((question, query, answer)) = asked.next().await {
        match answer {
            Ok(rows) => {
                answered += 1;
                all.take(&question, rows);
            }
            Err(reason) => {
                first_reason.get_or_insert_with(|| reason.clone());
                all.gap(format!("{question:?}: {reason} (asked: {query})"));
                // A server that is not there would let every question wait.
                if answered == 0 && matches!(source, Source::Server { .. }) {
                    break;
                }
            }
        }
    }
    match (answered, first_reason) {
        (0, Some(reason)) => Err(GatherError::Nothing { url: source.name().to_owned(), reason }),
        _ => {
            let mut observed = all.done();
            match source {
                Source::Own { at, .. } => observed.at = Some(*at),
                // meshscope takes spans; another server knows of them only what it scrapes of meshscope or Tempo.
                Source::Server { .. } if observed.whole.spans.is_empty() => {
                    let answer = source.ask(questions::TAKES_SPANS).await;
                    observed.takes_no_spans = answer.is_ok_and(|rows| rows.is_empty());
                }
                Source::Server { .. } => {}
            }
            Ok(observed)
        }
    }
}

async fn own(engine: &Engine, series: &dyn Queryable, at: Timestamp, query: &str) -> Result<Vec<Row>, String> {
    let expr = crate::promql::parse(query).map_err(|error| error.to_string())?;
    let options = QueryOptions { timeout: Some(PATIENCE), ..QueryOptions::default() };
    let answer = engine.instant(series, &expr, at, &options).await.map_err(|error| error.to_string())?;
    match answer.value {
        Value::Vector(samples) => Ok(samples
            .into_iter()
            .map(|sample| Row {
                labels: sample.labels.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
                value: sample.value,
            })
            .collect()),
        other => Err(format!("a {:?} answered where a vector was asked for", other.kind())),
    }
}

async fn over_http(client: &reqwest::Client, url: &str, query: &str) -> Result<Vec<Row>, String> {
    let said = |error: reqwest::Error| chain(&error.without_url());
    let request = client.post(format!("{url}/api/v1/query")).form(&[("query", query)]).timeout(PATIENCE);
    let mut answer = request.send().await.map_err(said)?;
    let status = answer.status();
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(said)? {
        body.extend_from_slice(&piece);
        if body.len() > BODY_MAX {
            return Err(format!("the answer is longer than {BODY_MAX} bytes"));
        }
    }
    let read: Result<serde_json::Value, _> = serde_json::from_slice(&body);
    let Ok(json) = read else {
        return Err(format!("status {status}, and no JSON: is it a server with Prometheus' API?"));
    };
    if json["status"] != "success" {
        return Err(format!("status {status}: {}", json["error"].as_str().unwrap_or("no reason given")));
    }
    let Some(result) = json["data"]["result"].as_array().filter(|_| json["data"]["resultType"] == "vector") else {
        return Err(format!("{} answered where a vector was asked for", json["data"]["resultType"]));
    };
    Ok(result.iter().filter_map(row).collect())
}

/// `{"metric": {…}, "value": [time, "1"]}`.
fn row(json: &serde_json::Value) -> Option<Row> {
    let labels = json["metric"].as_object()?.iter();
    let labels = labels.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect();
    Some(Row { labels, value: json["value"][1].as_str()?.parse().ok()? })
}

/// An error with all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}
