//! `access-logs`: records of the proxies' access logs, with what became of each request in words.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::State as Shared;
use axum::response::Response;
use serde::Serialize;

use crate::access_logs::{AccessRecord, Filter, Reason, ends_of};
use crate::api::State;
use crate::api::encode::{go_time_ns, success_with};
use crate::api::error::ApiError;
use crate::api::params::Params;
use crate::graph::flags;
use crate::model::span::{hex, trace_id_from_hex};

/// How far back is looked unless told.
const RANGE_DEFAULT: Duration = Duration::from_secs(3600);
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    records: Vec<Record>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    at: String,
    reporter: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    source: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    destination: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    service: String,
    code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc_status: Option<u16>,
    reason: &'static str,
    reason_in_words: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    flags: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    flags_in_words: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_ms: Option<u64>,
    request_bytes: u64,
    response_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    span_id: Option<String>,
    details: BTreeMap<&'static str, String>,
}

/// The newest records that match; of the last hour unless told.
pub(super) async fn search(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    let to = params.time("to")?.unwrap_or_else(|| state.clock.now());
    let from = params.time("from")?.unwrap_or(to - RANGE_DEFAULT);
    if to <= from {
        return Err(ApiError::parameter("to", "the last time must be after the first"));
    }
    let text = |name| params.get(name).map(str::to_owned);
    let reason = params.get("reason").map(|name| Reason::from_name(name).ok_or_else(unknown_reason)).transpose()?;
    let failures_only = params.flag("failures")?;
    let wrong_id = || ApiError::parameter("trace", "a trace id has 1 to 32 hexadecimal digits");
    let filter = Filter {
        source: text("source"),
        destination: text("destination"),
        reason,
        failures_only,
        codes: params.get("code").map(codes).transpose()?,
        trace: params.get("trace").map(|id| trace_id_from_hex(id).ok_or_else(wrong_id)).transpose()?,
        from_ns: from.as_nanos(),
        to_ns: to.as_nanos(),
        limit: params.limit_within(LIMIT_MAX)?.unwrap_or(LIMIT_DEFAULT),
    };
    let (found, warning) = state.archive.access_logs(&filter).await;
    let answer = Found { records: found.iter().map(|record| written(record)).collect() };
    Ok(success_with(answer, &warning.into_iter().collect::<Vec<_>>()))
}

fn unknown_reason() -> ApiError {
    let names: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    ApiError::parameter("reason", format!("use one of {}", names.join(", ")))
}

/// A status, or all of a class: `403`, `5xx`.
fn codes(text: &str) -> Result<(u16, u16), ApiError> {
    crate::access_logs::codes_of(text)
        .ok_or_else(|| ApiError::parameter("code", "use a status from 0 to 999, or a class such as 5xx"))
}

fn written(record: &AccessRecord) -> Record {
    let [source, destination, service] = ends_of(record);
    Record {
        at: go_time_ns(record.at_ns),
        reporter: record.reporter.as_str(),
        source,
        destination,
        service,
        code: record.code,
        grpc_status: record.grpc_status,
        reason: record.reason.as_str(),
        reason_in_words: record.reason.words(),
        flags: record.flags.to_string(),
        flags_in_words: flags::words(&record.flags),
        policy: record.policy.as_deref().map(str::to_owned),
        rule: record.rule,
        duration_ms: record.duration_ms,
        upstream_ms: record.upstream_ms,
        request_bytes: record.request_bytes,
        response_bytes: record.response_bytes,
        trace_id: record.trace_id.map(|id| hex(&id)),
        span_id: record.span_id.map(|id| hex(&id)),
        details: record.details.iter().map(|(detail, text)| (detail.as_str(), text.to_string())).collect(),
    }
}
