//! `metrics/query_range` and `metrics/query`: series of the spans that match.

use std::time::Instant;

use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use serde_json::{Value as Json, json};

use super::search::PATIENCE;
use super::{Fault, number, query_value, range as time_range};
use crate::api::State;
use crate::api::params::Params;
use crate::model::Timestamp;
use crate::persist::Wanted;
use crate::traceql::{self, MetricSeries, Query, Series, Steps, Trace, Value};

/// Most points of a series.
const POINTS_MAX: usize = 11_000;
/// Points of a series when no step is told.
const POINTS_DEFAULT: i64 = 60;

/// Series over a range, a point for each step.
pub(super) async fn range(Shared(state): Shared<State>, params: Params) -> Result<Response, Fault> {
    let (from, to) = time_range(&params, state.clock.now())?;
    let query = parsed(&params)?;
    let step_ns = params.nanoseconds("step").map_err(|error| Fault::parameter("step", error))?;
    let whole_ms = to.as_millis() - from.as_millis();
    let step_ms = match step_ns {
        Some(ns) if ns < 1_000_000 => return Err(Fault::parameter("step", "must be at least 1ms")),
        Some(ns) => ns / 1_000_000,
        None => (whole_ms / POINTS_DEFAULT / 1000).max(1) * 1000,
    };
    // Steps stand at multiples of their length, so that the same span is counted alike in every request.
    let start_ms = from.as_millis().div_euclid(step_ms) * step_ms;
    let steps = Steps { start_ms, end_ms: to.as_millis(), step_ms };
    if steps.count() > POINTS_MAX {
        let message = format!("step of {step_ms}ms is too small: {} points, at most {POINTS_MAX}", steps.count());
        return Err(Fault::bad(message));
    }
    let from = Timestamp::from_millis(start_ms);
    let (series, mut answer) = evaluated(&state, query, (from, to), steps).await?;
    let sample = |(at, value): &(i64, f64)| json!({"timestampMs": at.to_string(), "value": number(*value)});
    answer["series"] = (series.iter())
        .map(|one| {
            let samples: Vec<Json> = one.points.iter().map(sample).collect();
            json!({"labels": labels(one), "samples": samples, "promLabels": written(one)})
        })
        .collect();
    Ok(axum::Json(answer).into_response())
}

/// One value for the whole range.
pub(super) async fn instant(Shared(state): Shared<State>, params: Params) -> Result<Response, Fault> {
    let (from, to) = time_range(&params, state.clock.now())?;
    let query = parsed(&params)?;
    let (start_ms, end_ms) = (from.as_millis(), to.as_millis());
    let steps = Steps { start_ms, end_ms, step_ms: end_ms - start_ms };
    let (series, mut answer) = evaluated(&state, query, (from, to), steps).await?;
    answer["series"] = (series.iter())
        .filter_map(|one| {
            let (_, value) = one.points.first()?;
            Some(json!({"labels": labels(one), "value": number(*value), "promLabels": written(one)}))
        })
        .collect();
    Ok(axum::Json(answer).into_response())
}

fn parsed(params: &Params) -> Result<Query, Fault> {
    let text = params.get("q").or_else(|| params.get("query"));
    let query = traceql::parse(text.ok_or_else(|| Fault::parameter("q", "a TraceQL metrics query is required"))?)?;
    if query.is_metrics() {
        return Ok(query);
    }
    Err(Fault::bad("not a metrics query: end it with a metrics function, as in { } | rate()"))
}

/// The series, and an answer that still lacks them.
async fn evaluated(
    state: &State,
    query: Query,
    (from, to): (Timestamp, Timestamp),
    steps: Steps,
) -> Result<(Vec<MetricSeries>, Json), Fault> {
    let needs = query.needs();
    let mut series = Series::new(&query, steps).ok_or_else(|| Fault::bad("not a metrics query"))?;
    let began = Instant::now();
    let mut scan = state.archive.scan(&Wanted { from, to, needs }).await;
    while let Some(page) = scan.next().await {
        let added = move || {
            page.iter().for_each(|spans| series.add(&Trace::new(spans)));
            series
        };
        series = tokio::task::spawn_blocking(added).await?;
        if began.elapsed() > PATIENCE {
            scan.note = Some(format!("The query ended after {PATIENCE:?}; narrow it or shorten its range."));
            break;
        }
    }
    if series.dropped > 0 {
        let dropped = series.dropped;
        scan.note = Some(format!("{dropped} spans need more series or points than one answer has; group by less."));
    }
    let mut answer = json!({
        "series": [],
        "metrics": {
            "inspectedTraces": scan.traces, "inspectedBytes": scan.bytes.to_string(), "completedJobs": 1, "totalJobs": 1,
        },
    });
    if let Some(note) = scan.note {
        answer["status"] = "PARTIAL".into();
        answer["message"] = note.into();
    }
    Ok((series.finish(), answer))
}

fn labels(series: &MetricSeries) -> Vec<Json> {
    series.labels.iter().map(|(key, value)| json!({"key": key, "value": query_value(value)})).collect()
}

/// Labels as Prometheus writes them: `{resource.service.name="cart"}`, names with dots in quotes.
fn written(series: &MetricSeries) -> String {
    let label = |(name, value): &(String, Value)| {
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let name = if plain { name.clone() } else { format!("{name:?}") };
        format!("{name}={:?}", value.text())
    };
    format!("{{{}}}", series.labels.iter().map(label).collect::<Vec<_>>().join(", "))
}
