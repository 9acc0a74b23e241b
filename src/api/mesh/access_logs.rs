//! `access-logs`: records of the proxies' access logs, with what became of each request in words.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::operation::{Answer, Outcome};
use super::query::{Limit, Time, named, names};
use crate::access_logs::{AccessRecord, Filter, Reason, ends_of};
use crate::api::State;
use crate::api::encode::go_time_ns;
use crate::api::error::ApiError;
use crate::graph::flags;
use crate::model::span::{hex, trace_id_from_hex};

/// How far back is looked unless told.
const RANGE_DEFAULT: Duration = Duration::from_secs(3600);
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;

/// Records found, newest first.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "AccessLogList")]
pub(super) struct Found {
    /// Records.
    records: Vec<Record>,
}

/// One request or connection, as one proxy tells it.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "AccessLogRecord")]
struct Record {
    /// When it began.
    #[schemars(extend("format" = "date-time"))]
    at: String,
    /// On which side of the call the proxy stands.
    #[schemars(extend("enum" = ["source", "destination", "waypoint"]))]
    reporter: &'static str,
    /// The caller, namespace/workload; absent when not known.
    #[serde(skip_serializing_if = "String::is_empty")]
    source: String,
    /// The called workload; absent when not known.
    #[serde(skip_serializing_if = "String::is_empty")]
    destination: String,
    /// The called service, or the host asked for.
    #[serde(skip_serializing_if = "String::is_empty")]
    service: String,
    /// HTTP status; 0 without a response, and of TCP.
    code: u16,
    /// gRPC status.
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc_status: Option<u16>,
    /// What became of a request.
    #[schemars(extend("enum" = names(Reason::ALL, Reason::as_str)))]
    reason: &'static str,
    /// The same for people.
    reason_in_words: &'static str,
    /// Envoy's response flags, comma-joined.
    #[serde(skip_serializing_if = "String::is_empty")]
    flags: String,
    /// The same for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    flags_in_words: Option<String>,
    /// The AuthorizationPolicy that denied it, namespace/name.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    /// The number of its rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<u16>,
    /// From first to last byte, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u64>,
    /// What the upstream needed of that, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream_ms: Option<u64>,
    /// Bytes of the request's body.
    request_bytes: u64,
    /// Bytes of the response's body.
    response_bytes: u64,
    /// 32 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    /// 16 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    span_id: Option<String>,
    /// The other texts of the record, by the keys of Istio's JSON encoding.
    details: BTreeMap<&'static str, String>,
}

/// Which records.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Search {
    /// The caller: namespace/workload, or the workload alone.
    source: Option<String>,
    /// The called workload or service, with or without its namespace, or a host.
    destination: Option<String>,
    /// What became of the request.
    #[schemars(extend("enum" = names(Reason::ALL, Reason::as_str)))]
    reason: Option<String>,
    /// true for requests that went wrong.
    #[serde(default)]
    failures: bool,
    /// HTTP status, or a class such as 5xx.
    code: Option<String>,
    /// 1 to 32 hexadecimal digits.
    trace: Option<String>,
    /// First time: seconds since the epoch or RFC 3339; an hour before the last unless told.
    from: Option<Time>,
    /// Last time; now unless told.
    to: Option<Time>,
    /// Most records; 100 unless told, 1000 at most.
    limit: Option<Limit<LIMIT_MAX>>,
}

/// The newest records that match; of the last hour unless told.
pub(super) async fn search(state: State, asked: Search) -> Outcome<Found> {
    let to = asked.to.map_or_else(|| state.clock.now(), |to| to.0);
    let from = asked.from.map_or(to - RANGE_DEFAULT, |from| from.0);
    if to <= from {
        return Err(ApiError::parameter("to", "the last time must be after the first"));
    }
    let wrong_id = || ApiError::parameter("trace", "a trace id has 1 to 32 hexadecimal digits");
    let filter = Filter {
        source: asked.source,
        destination: asked.destination,
        reason: named("reason", asked.reason.as_deref(), Reason::ALL, Reason::as_str)?,
        failures_only: asked.failures,
        codes: asked.code.as_deref().map(codes).transpose()?,
        trace: asked.trace.map(|id| trace_id_from_hex(&id).ok_or_else(wrong_id)).transpose()?,
        from_ns: from.as_nanos(),
        to_ns: to.as_nanos(),
        limit: asked.limit.map_or(LIMIT_DEFAULT, |limit| limit.0),
    };
    let (found, warning) = state.archive.access_logs(&filter).await;
    let answer = Found { records: found.iter().map(|record| written(record)).collect() };
    Ok(Answer::with(answer, &warning.into_iter().collect::<Vec<_>>()))
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
