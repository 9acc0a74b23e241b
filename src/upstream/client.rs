//! Asks the upstream, and knows whether it answers.
//!
//! In: what is wanted. Out: answers, bounded in bytes and time. One request each: who asks again is the asker (a rule at its
//! next evaluation), so that an upstream in trouble is not asked more than it would be in health.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::Method;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use super::Config;
use super::answer::{self, ExemplarsOf, Metadata, QueryData, Told, away};
use crate::clock::Clock;
use crate::http_client::{self, Client, Reach};
use crate::model::{MatchOp, Matcher, Timestamp};
use crate::series::{Evaluated, Evaluation, QueryError, Select, Selection, SeriesExemplars, WholeQuery};

/// How often it is asked whether it is there.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
/// How long the answer to that may take.
const PROBE_PATIENCE: Duration = Duration::from_secs(5);

/// The engine elsewhere. Clones share it.
#[derive(Clone)]
pub struct Upstream(Arc<Inner>);

struct Inner {
    client: Client,
    config: Config,
    /// Without the slash at its end.
    url: String,
    clock: Clock,
    away: Mutex<Option<Away>>,
    counters: Arc<Counters>,
}

/// Since when it does not answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Away {
    /// Since the first request that failed.
    pub since: Timestamp,
    /// How the last one failed.
    pub reason: String,
}

/// What was asked of it.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests, those that ask whether it is there not counted.
    pub requests: AtomicU64,
    /// Requests that it did not answer, or with what is no answer.
    pub failures: AtomicU64,
    /// Requests that it refused.
    pub refused: AtomicU64,
    /// Bytes of its answers.
    pub answer_bytes: AtomicU64,
    /// Queries passed on whole.
    pub passed_on: AtomicU64,
    /// Queries evaluated here on samples of both.
    pub evaluated_here: AtomicU64,
}

/// Names and values of a request.
pub(super) type Form = Vec<(&'static str, String)>;

impl Upstream {
    /// Asks as `config` says, and connects only to what `reach` leaves open. Nothing is sent yet.
    pub fn new(config: Config, reach: Reach, clock: Clock) -> Self {
        let client = Client::reaching(config.http_client(), reach);
        let url = config.url.trim_end_matches('/').to_owned();
        Self(Arc::new(Inner { client, config, url, clock, away: Mutex::new(None), counters: Arc::default() }))
    }

    /// Its address as it may be shown.
    pub fn shown(&self) -> String {
        http_client::shown_url(&self.0.url)
    }

    /// Since when it does not answer; `None` while it does, and before it was asked.
    pub fn away(&self) -> Option<Away> {
        self.0.away.lock().clone()
    }

    /// What pages say while it does not answer.
    pub fn notice(&self) -> Option<String> {
        let Away { since, reason } = self.away()?;
        Some(format!(
            "The engine of storage.query_upstream ({}) does not answer since {since}: {reason}. Queries fail until it does; \
             rules keep their state, and what fires goes on firing.",
            self.shown()
        ))
    }

    /// What was asked of it.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.0.counters
    }

    pub(super) fn config(&self) -> &Config {
        &self.0.config
    }

    /// Asks every ten seconds whether it is there, so that pages know without a query.
    pub async fn run(self, shutdown: CancellationToken) {
        let form: Form = vec![("query", "vector(1)".to_owned())];
        loop {
            let probe = self.ask::<QueryData>(Method::GET, "/query", &form, PROBE_PATIENCE);
            let answered = tokio::select! {
                answered = probe => answered.map(|_| ()),
                () = shutdown.cancelled() => return,
            };
            self.note(answered.as_ref().err());
            tokio::select! {
                () = tokio::time::sleep(PROBE_INTERVAL) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }

    /// The answer to a whole query.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn evaluate(&self, query: &WholeQuery) -> Result<Evaluation, QueryError> {
        let limit = query.reads.iter().map(|read| read.sample_limit).max().unwrap_or(usize::MAX);
        let mut form: Form = vec![("query", query.text.to_string())];
        let path = match query.step {
            None => {
                form.push(("time", seconds(query.start)));
                "/query"
            }
            Some(step) => {
                form.push(("start", seconds(query.start)));
                form.push(("end", seconds(query.end)));
                form.push(("step", format!("{}", step.as_secs_f64())));
                "/query_range"
            }
        };
        let patience = query.timeout.min(self.0.config.timeout.get());
        form.push(("timeout", format!("{}ms", patience.as_millis().max(1))));
        if let Some(lookback) = query.lookback {
            form.push(("lookback_delta", format!("{}ms", lookback.as_millis().max(1))));
        }
        self.0.counters.passed_on.fetch_add(1, Relaxed);
        let told = self.get(Method::POST, path, &form, patience).await?;
        answer::evaluation(told, limit)
    }

    /// The raw samples of series.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn select(&self, select: &Select) -> Result<Selection, QueryError> {
        let range_ms = select.to.as_millis().saturating_sub(select.from.as_millis()).saturating_add(1).max(1);
        let query = format!("{}[{range_ms}ms]", selector(&select.matchers));
        let form: Form = vec![("query", query), ("time", seconds(select.to))];
        let told = self.get(Method::POST, "/query", &form, self.0.config.timeout.get()).await?;
        let Evaluation { value, warnings, .. } = answer::evaluation(told, select.sample_limit)?;
        let Evaluated::Matrix(mut series) = value else {
            return Err(away("answered no samples to a range".to_owned()));
        };
        // Up to Prometheus 2 a range holds the sample at its very beginning too.
        for one in series.iter_mut().filter(|one| one.times.first().is_some_and(|first| *first < select.from)) {
            let first = one.times.partition_point(|at| *at < select.from);
            one.times = one.times[first..].into();
            one.values.drain(..first);
        }
        series.retain(|one| !one.values.is_empty());
        Ok(Selection { series, warnings, ..Selection::default() })
    }

    /// Label sets of series.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn series(
        &self,
        any_of: &[Vec<Matcher>],
        range: (Timestamp, Timestamp),
    ) -> Result<Vec<BTreeMap<String, String>>, QueryError> {
        let mut form = matching(any_of, range);
        if any_of.is_empty() {
            form.push(("match[]", "{__name__!=\"\"}".to_owned()));
        }
        Ok(self.get(Method::POST, "/series", &form, self.0.config.timeout.get()).await?.data)
    }

    /// Names of labels.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn label_names(
        &self,
        any_of: &[Vec<Matcher>],
        range: (Timestamp, Timestamp),
    ) -> Result<Vec<String>, QueryError> {
        let form = matching(any_of, range);
        Ok(self.get(Method::POST, "/labels", &form, self.0.config.timeout.get()).await?.data)
    }

    /// Values of a label.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn label_values(
        &self,
        name: &str,
        any_of: &[Vec<Matcher>],
        range: (Timestamp, Timestamp),
    ) -> Result<Vec<String>, QueryError> {
        let path = format!("/label/{}/values", escaped_name(name));
        let form = matching(any_of, range);
        Ok(self.get(Method::GET, &path, &form, self.0.config.timeout.get()).await?.data)
    }

    /// What its metrics are, all or one.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn metadata(&self, metric: Option<&str>) -> Result<BTreeMap<String, Vec<Metadata>>, QueryError> {
        let form: Form = metric.map(|metric| ("metric", metric.to_owned())).into_iter().collect();
        Ok(self.get(Method::GET, "/metadata", &form, self.0.config.timeout.get()).await?.data)
    }

    /// Exemplars of the series that an expression selects.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn exemplars(
        &self,
        query: &str,
        (from, to): (Timestamp, Timestamp),
    ) -> Result<Vec<SeriesExemplars>, QueryError> {
        let mut form: Form = vec![("query", query.to_owned())];
        // It takes no call without both.
        let now = self.0.clock.now();
        form.push(("start", seconds(if from == Timestamp::MIN { Timestamp::from_millis(0) } else { from })));
        form.push(("end", seconds(if to == Timestamp::MAX { now } else { to })));
        let told: Told<Vec<ExemplarsOf>> =
            self.get(Method::POST, "/query_exemplars", &form, self.0.config.timeout.get()).await?;
        answer::exemplars(told.data)
    }

    /// One request, counted, after which it is known whether the upstream is there.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        form: &Form,
        patience: Duration,
    ) -> Result<Told<T>, QueryError> {
        let counters = &self.0.counters;
        counters.requests.fetch_add(1, Relaxed);
        let answered = self.ask(method, path, form, patience).await;
        match &answered {
            Ok(_) => {}
            Err(QueryError::Unavailable { .. }) => drop(counters.failures.fetch_add(1, Relaxed)),
            Err(_) => drop(counters.refused.fetch_add(1, Relaxed)),
        }
        self.note(answered.as_ref().err());
        answered
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        form: &Form,
        patience: Duration,
    ) -> Result<Told<T>, QueryError> {
        let Inner { client, url, config, counters, .. } = &*self.0;
        let is_get = method == Method::GET;
        let address = format!("{url}/api/v1{path}");
        let address = match is_get && !form.is_empty() {
            true => reqwest::Url::parse_with_params(&address, form),
            false => reqwest::Url::parse(&address),
        };
        let address = address.map_err(|error| away(error.to_string()))?;
        let request = client.request(method, address.as_str()).map_err(|error| away(with_causes(&error)))?;
        let request = if is_get { request } else { request.form(form) };
        let failed = |error: reqwest::Error| away(http_client::describe(&error));
        let mut answer = request.timeout(patience).send().await.map_err(failed)?;
        let (status, mut body) = (answer.status(), Vec::new());
        while let Some(piece) = answer.chunk().await.map_err(failed)? {
            body.extend_from_slice(&piece);
            counters.answer_bytes.fetch_add(piece.len() as u64, Relaxed);
            if body.len() as u64 > config.body_size_limit.0 {
                let limit = config.body_size_limit.0;
                let reason =
                    format!("the answer is longer than the {limit} bytes of storage.query_upstream.body_size_limit");
                return Err(QueryError::Refused { kind: "execution", reason });
            }
        }
        answer::read(status, &body)
    }

    /// Remembers whether the last request was answered.
    fn note(&self, error: Option<&QueryError>) {
        let mut away = self.0.away.lock();
        match (error, &mut *away) {
            (Some(QueryError::Unavailable { reason, .. }), Some(known)) => known.reason.clone_from(reason),
            (Some(QueryError::Unavailable { reason, .. }), none) => {
                tracing::warn!(url = %self.shown(), %reason, "the engine of storage.query_upstream does not answer");
                *none = Some(Away { since: self.0.clock.now(), reason: reason.clone() });
            }
            (_, Some(_)) => {
                tracing::info!(url = %self.shown(), "the engine of storage.query_upstream answers again");
                *away = None;
            }
            (_, None) => {}
        }
    }
}

fn with_causes(error: &http_client::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text.push_str(&format!(": {next}"));
        cause = next.source();
    }
    text
}

/// `match[]`, and the ends of the range where it has any.
fn matching(any_of: &[Vec<Matcher>], (from, to): (Timestamp, Timestamp)) -> Form {
    let mut form: Form = any_of.iter().map(|matchers| ("match[]", selector(matchers))).collect();
    if from > Timestamp::MIN {
        form.push(("start", seconds(from)));
    }
    if to < Timestamp::MAX {
        form.push(("end", seconds(to)));
    }
    form
}

/// Unix seconds to the millisecond.
pub(super) fn seconds(at: Timestamp) -> String {
    let ms = at.as_millis();
    let sign = if ms < 0 { "-" } else { "" };
    format!("{sign}{}.{:03}", ms.unsigned_abs() / 1000, ms.unsigned_abs() % 1000)
}

/// Matchers as PromQL. Names that are not legal of old stand in quotes, which Prometheus 3 reads.
pub(super) fn selector(matchers: &[Matcher]) -> String {
    let one = |matcher: &Matcher| {
        let is_plain = |(at, c): (usize, char)| c.is_ascii_alphabetic() || c == '_' || (at > 0 && c.is_ascii_digit());
        let name = match !matcher.name.is_empty() && matcher.name.char_indices().all(is_plain) {
            true => matcher.name.to_string(),
            false => quoted(&matcher.name),
        };
        let op = match matcher.op {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        };
        format!("{name}{op}{}", quoted(&matcher.value))
    };
    format!("{{{}}}", matchers.iter().map(one).collect::<Vec<_>>().join(","))
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// A label's name as a piece of a path: plain, or in Prometheus' value encoding.
fn escaped_name(name: &str) -> String {
    let is_plain = |(at, c): (usize, char)| c.is_ascii_alphabetic() || c == '_' || (at > 0 && c.is_ascii_digit());
    if !name.is_empty() && name.char_indices().all(is_plain) && !name.starts_with("U__") {
        return name.to_owned();
    }
    let mut out = "U__".to_owned();
    for c in name.chars() {
        match c {
            '_' => out.push_str("__"),
            c if c.is_ascii_alphanumeric() => out.push(c),
            c => out.push_str(&format!("_{:x}_", u32::from(c))),
        }
    }
    out
}
