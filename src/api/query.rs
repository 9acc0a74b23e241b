//! `query`, `query_range`, `query_exemplars`, `format_query`, `parse_query`.
//!
//! A client that goes away ends its query: the handler is dropped, and the engine stops what it evaluates.

use std::time::{Duration, Instant};

use axum::extract::State as Shared;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::State;
use super::encode::{Samples, Stats, Timings, query_answer, success};
use super::error::ApiError;
use super::params::Params;
use crate::model::Matcher;
use crate::promql::{Answer, Expr, QueryOptions, Value};

/// Most points of a series in one answer.
const POINTS_MAX: i128 = 11_000;
const NOT_POSITIVE: &str = "zero or negative query resolution step widths are not accepted. Try a positive integer";
const TOO_MANY_POINTS: &str =
    "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)";

/// Evaluates an expression at one time.
pub(super) async fn instant(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    let limit = params.limit()?;
    let at = params.time("time")?.unwrap_or_else(|| state.clock.now());
    let options = options(&params)?;
    let expr = parse(&state, &params)?;
    if options.timeout == Some(Duration::ZERO) {
        return Err(ApiError::parameter("query", "context deadline exceeded"));
    }
    let began = Instant::now();
    let answer = state.engine.instant(&*state.series, &expr, at, &options).await?;
    Ok(respond(answer, limit, &params, began).await)
}

/// Evaluates an expression over a range of time.
pub(super) async fn range(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    let limit = params.limit()?;
    let (start, end) = (params.required_time("start")?, params.required_time("end")?);
    if end < start {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
    }
    let step_ns = params.nanoseconds("step").map_err(|error| ApiError::parameter("step", error))?;
    let step_ns = step_ns.ok_or_else(|| ApiError::parameter("step", "cannot parse \"\" to a valid duration"))?;
    if step_ns <= 0 {
        return Err(ApiError::parameter("step", NOT_POSITIVE));
    }
    let range_ns = (i128::from(end.as_millis()) - i128::from(start.as_millis())) * 1_000_000;
    if range_ns / i128::from(step_ns) > POINTS_MAX {
        return Err(ApiError::BadData(TOO_MANY_POINTS.to_owned()));
    }
    let step = Duration::from_nanos(step_ns.unsigned_abs()).max(Duration::from_millis(1));
    let options = options(&params)?;
    let expr = parse(&state, &params)?;
    if options.timeout == Some(Duration::ZERO) {
        return Err(ApiError::Timeout("query timed out in query execution".to_owned()));
    }
    let began = Instant::now();
    let answer = state.engine.range(&*state.series, &expr, start, end, step, &options).await?;
    Ok(respond(answer, limit, &params, began).await)
}

fn options(params: &Params) -> Result<QueryOptions, ApiError> {
    let timeout = params.duration("timeout")?;
    let lookback = params.nanoseconds("lookback_delta");
    let lookback =
        lookback.map_err(|error| ApiError::BadData(format!("error parsing lookback delta duration: {error}")))?;
    // One that is not positive means the usual one.
    let lookback_delta = lookback.and_then(|ns| u64::try_from(ns).ok()).filter(|ns| *ns > 0).map(Duration::from_nanos);
    Ok(QueryOptions { timeout, lookback_delta, ..QueryOptions::default() })
}

fn parse(state: &State, params: &Params) -> Result<Expr, ApiError> {
    Ok(state.engine.parse(params.get("query").unwrap_or_default())?)
}

async fn respond(mut answer: Answer, limit: usize, params: &Params, began: Instant) -> Response {
    truncate(&mut answer, limit);
    let stats = params.get("stats").map(|_| Stats {
        timings: Timings {
            eval_total_time: (answer.stats.selecting + answer.stats.evaluating).as_secs_f64(),
            result_sort_time: 0.0,
            query_preparation_time: answer.stats.selecting.as_secs_f64(),
            inner_eval_time: answer.stats.evaluating.as_secs_f64(),
            exec_queue_time: answer.stats.queued.as_secs_f64(),
            exec_total_time: began.elapsed().as_secs_f64(),
        },
        samples: Samples {
            total_queryable_samples: answer.stats.samples_loaded,
            peak_samples: answer.stats.samples_peak,
        },
    });
    query_answer(answer, stats).await
}

/// Keeps the first `limit` results and says so.
fn truncate(answer: &mut Answer, limit: usize) {
    let before = match &answer.value {
        Value::Vector(samples) => samples.len(),
        Value::Matrix(series) => series.len(),
        Value::Scalar { .. } | Value::String { .. } => 0,
    };
    if limit == 0 || before <= limit {
        return;
    }
    match &mut answer.value {
        Value::Vector(samples) => samples.truncate(limit),
        Value::Matrix(series) => series.truncate(limit),
        Value::Scalar { .. } | Value::String { .. } => {}
    }
    answer.warnings.push("results truncated due to limit".to_owned());
}

/// Exemplars of the series an expression selects. Grafana asks with milliseconds where seconds belong, which is a time
/// like any other.
pub(super) async fn exemplars(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    let (start, end) = params.range_or_all()?;
    if end < start {
        return Err(ApiError::BadData("end timestamp must not be before start timestamp".to_owned()));
    }
    let parsed = state.engine.parse(params.get("query").unwrap_or_default());
    let parsed = parsed.map_err(|error| ApiError::BadData(error.to_string()))?;
    let selectors: Vec<Vec<Matcher>> = parsed.selectors().into_iter().map(|selector| selector.matchers).collect();
    if selectors.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let mut found = state.head.exemplars().select(&selectors, start, end);
    if let Some(upstream) = &state.upstream {
        found.extend(upstream.exemplars(&parsed.query(), (start, end)).await?);
    }
    Ok(super::exemplars::answer(&found))
}

/// An expression in its usual form.
pub(super) async fn format(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    let expr = state.engine.parse(params.get("query").unwrap_or_default())?;
    Ok(success(expr.pretty()))
}

/// An expression as a tree, for editors that explain it.
pub(super) async fn tree(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    let expr = state.engine.parse(params.get("query").unwrap_or_default())?;
    Ok(success(expr.tree()?))
}
