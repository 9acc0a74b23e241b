//! `cardinality`: what the series in memory are made of, what dropping each part would save, and the limits.

use std::sync::atomic::Ordering::Relaxed;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::operation::{Answer, Outcome};
use super::query::Limit;
use crate::api::State;
use crate::api::error::ApiError;
use crate::series::{LabelShare, REPORT_LIMIT, Share};

/// Entries of each list unless told.
const SHOWN_DEFAULT: usize = 20;

/// The series in memory; at most 15 seconds old.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Cardinality {
    /// Series in memory.
    series: u64,
    /// Most series (storage.series_limit).
    series_limit: u64,
    /// New series refused because of it, since the start.
    series_refused: u64,
    /// New series, of the last five minutes.
    new_series_per_minute: f64,
    /// Bytes of samples, series and index.
    bytes: u64,
    /// Whether memory is short.
    safe_mode: SafeModeJson,
    /// By metric name, most series first: what dropping the metric saves.
    metrics: Vec<ShareJson>,
    /// By label, the one that saves most first.
    labels: Vec<LabelJson>,
    /// By the workload that reports them.
    workloads: Vec<ShareJson>,
    /// By job and instance.
    targets: Vec<ShareJson>,
}

/// Whether memory is short.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "SafeMode")]
struct SafeModeJson {
    /// Whether samples that no rule reads are not stored.
    active: bool,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    since: Option<String>,
    /// Memory of the process when last measured.
    used_bytes: u64,
    /// Above it safe mode begins; 0: never.
    limit_bytes: u64,
    /// Samples not stored because of it, since the start.
    dropped_samples: u64,
}

/// A part of all series.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Share")]
struct ShareJson {
    /// Its name.
    name: String,
    /// Its series.
    series: u64,
    /// Their share of memory.
    bytes: u64,
}

/// A label.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "LabelShare")]
struct LabelJson {
    /// Its name.
    name: String,
    /// Distinct values.
    values: u64,
    /// Bytes of those.
    value_bytes: u64,
    /// Series that have it.
    series: u64,
    /// Series fewer without it, because they become equal.
    series_saved: u64,
    /// Their share of memory.
    bytes_saved: u64,
}

/// How much of the report.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Shown {
    /// Entries of each list, at most 1000; 20 unless told.
    limit: Option<Limit<REPORT_LIMIT>>,
}

/// The report; `limit` entries of each list.
pub(super) async fn cardinality(state: State, asked: Shown) -> Outcome<Cardinality> {
    let limit = asked.limit.map_or(SHOWN_DEFAULT, |limit| limit.0);
    let head = state.head.clone();
    let report = tokio::task::spawn_blocking(move || head.cardinality_report()).await;
    let report = report.map_err(|error| ApiError::Internal(error.to_string()))?;
    let (mode, memory) = (state.head.safe_mode(), state.head.safe_mode().state());
    let shares = |list: &[Share]| list.iter().take(limit).map(share).collect();
    Ok(Answer::new(Cardinality {
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
