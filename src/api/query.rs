//! `query`, `query_range`, `query_exemplars`, `format_query`.

use std::time::Duration;

use axum::extract::State as Shared;
use axum::response::Response;

use super::State;
use super::encode::{query_answer, success};
use super::error::ApiError;
use super::params::Params;
use crate::promql::{self, Answer, QueryOptions, Value};

/// Most points of a series in one answer.
const POINTS_MAX: u128 = 11_000;

/// Evaluates an expression at one time.
pub(super) async fn instant(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    let limit = params.limit()?;
    let at = params.time("time")?.unwrap_or_else(|| state.clock.now());
    let options = options(&params)?;
    let expr = promql::parse(params.get("query").unwrap_or_default())?;
    let mut answer = state.engine.instant(&*state.series, &expr, at, &options).await?;
    truncate(&mut answer, limit);
    Ok(query_answer(&answer))
}

/// Evaluates an expression over a range of time.
pub(super) async fn range(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    let limit = params.limit()?;
    let (start, end) = (params.required_time("start")?, params.required_time("end")?);
    if end < start {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time"));
    }
    let step = match params.duration("step") {
        Ok(Some(step)) if step >= Duration::from_millis(1) => step,
        Ok(Some(_)) | Err(ApiError::BadData(_)) if params.get("step").is_some_and(is_zero_or_negative) => {
            let reason = "zero or negative query resolution step widths are not accepted. Try a positive integer";
            return Err(ApiError::parameter("step", reason));
        }
        Ok(Some(_)) => return Err(ApiError::parameter("step", "it must be at least a millisecond")),
        Ok(None) => return Err(ApiError::parameter("step", "cannot parse \"\" to a valid duration")),
        Err(error) => return Err(error),
    };
    if end.since(start).as_millis() / step.as_millis() > POINTS_MAX {
        let reason = "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)";
        return Err(ApiError::BadData(reason.to_owned()));
    }
    let options = options(&params)?;
    let expr = promql::parse(params.get("query").unwrap_or_default())?;
    let mut answer = state.engine.range(&*state.series, &expr, start, end, step, &options).await?;
    truncate(&mut answer, limit);
    Ok(query_answer(&answer))
}

fn is_zero_or_negative(text: &str) -> bool {
    text.parse::<f64>().is_ok_and(|seconds| seconds <= 0.0) || text == "0s"
}

fn options(params: &Params) -> Result<QueryOptions, ApiError> {
    let timeout = params.duration("timeout")?;
    let lookback_delta = params.duration("lookback_delta")?;
    Ok(QueryOptions { timeout, lookback_delta, ..QueryOptions::default() })
}

/// Keeps the first `limit` results and says so.
fn truncate(answer: &mut Answer, limit: usize) {
    let (length, truncated) = match &mut answer.value {
        Value::Vector(samples) => (samples.len(), limit > 0 && limit < samples.len()),
        Value::Matrix(series) => (series.len(), limit > 0 && limit < series.len()),
        Value::Scalar { .. } | Value::String { .. } => (0, false),
    };
    if !truncated || length == 0 {
        return;
    }
    match &mut answer.value {
        Value::Vector(samples) => samples.truncate(limit),
        Value::Matrix(series) => series.truncate(limit),
        Value::Scalar { .. } | Value::String { .. } => {}
    }
    answer.warnings.push("results truncated due to limit".to_owned());
}

/// Exemplars of the series an expression selects. None are kept yet; the call succeeds, so that Grafana offers them.
pub(super) async fn exemplars(params: Params) -> Result<Response, ApiError> {
    params.range_or_all()?;
    promql::parse(params.get("query").unwrap_or_default())?;
    Ok(success(Vec::<()>::new()))
}

/// An expression in its usual form.
pub(super) async fn format(params: Params) -> Result<Response, ApiError> {
    let expr = promql::parse(params.get("query").unwrap_or_default())?;
    Ok(success(expr.pretty()))
}
