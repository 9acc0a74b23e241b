//! `cardinality`: what the series in memory are made of, what dropping each part would save, and the limits.

use std::sync::atomic::Ordering::Relaxed;

use axum::extract::State as Shared;
use axum::response::Response;
use serde::Serialize;

use crate::api::State;
use crate::api::encode::success;
use crate::api::error::ApiError;
use crate::api::params::Params;
use crate::series::{LabelShare, REPORT_LIMIT, Share};

/// Entries of each list unless told.
const SHOWN_DEFAULT: usize = 20;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Cardinality {
    series: u64,
    series_limit: u64,
    series_refused: u64,
    new_series_per_minute: f64,
    bytes: u64,
    safe_mode: SafeModeJson,
    metrics: Vec<ShareJson>,
    labels: Vec<LabelJson>,
    workloads: Vec<ShareJson>,
    targets: Vec<ShareJson>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SafeModeJson {
    active: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    used_bytes: u64,
    limit_bytes: u64,
    dropped_samples: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShareJson {
    name: String,
    series: u64,
    bytes: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LabelJson {
    name: String,
    values: u64,
    value_bytes: u64,
    series: u64,
    series_saved: u64,
    bytes_saved: u64,
}

/// The report; `limit` entries of each list.
pub(super) async fn cardinality(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    let limit = params.limit_within(REPORT_LIMIT)?.unwrap_or(SHOWN_DEFAULT);
    let head = state.head.clone();
    let report = tokio::task::spawn_blocking(move || head.cardinality_report()).await;
    let report = report.map_err(|error| ApiError::Internal(error.to_string()))?;
    let (mode, memory) = (state.head.safe_mode(), state.head.safe_mode().state());
    let shares = |list: &[Share]| list.iter().take(limit).map(share).collect();
    Ok(success(Cardinality {
        series: report.series,
        series_limit: state.head.config().series_limit as u64,
        series_refused: state.head.counters().series_refused.load(Relaxed),
        new_series_per_minute: state.head.new_series_per_minute(),
        bytes: report.bytes,
        safe_mode: SafeModeJson {
            active: memory.since.is_some(),
            since: memory.since.map(|since| since.to_string()),
            used_bytes: memory.used_bytes,
            limit_bytes: memory.limit_bytes,
            dropped_samples: mode.dropped_samples.load(Relaxed),
        },
        metrics: shares(&report.metrics),
        labels: report.labels.iter().take(limit).map(label).collect(),
        workloads: shares(&report.workloads),
        targets: shares(&report.targets),
    }))
}

fn share(share: &Share) -> ShareJson {
    let Share { name, series, bytes } = share;
    ShareJson { name: name.clone(), series: *series, bytes: *bytes }
}

fn label(label: &LabelShare) -> LabelJson {
    let LabelShare { name, values, value_bytes, series, series_saved, bytes_saved } = label;
    LabelJson {
        name: name.clone(),
        values: *values,
        value_bytes: *value_bytes,
        series: *series,
        series_saved: *series_saved,
        bytes_saved: *bytes_saved,
    }
}
