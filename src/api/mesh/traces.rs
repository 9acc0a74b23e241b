//! `traces` and `traces/<id>`: traces as plain JSON, for scripts; Jaeger's and Tempo's own shapes are elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::extract::{Path, State as Shared};
use axum::response::Response;
use serde::Serialize;

use crate::api::State;
use crate::api::encode::{go_time_ns, success_with};
use crate::api::error::ApiError;
use crate::api::params::Params;
use crate::model::Span;
use crate::model::span::{AttributeValue, Attributes, hex, trace_id_from_hex};
use crate::persist::TraceQuery;
use crate::store::TraceSummary;
use crate::traces::{Row, waterfall};

/// How far back is looked unless told.
const RANGE_DEFAULT: Duration = Duration::from_secs(3600);
const LIMIT_DEFAULT: usize = 20;
const LIMIT_MAX: usize = 1000;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    traces: Vec<Summary>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    trace_id: String,
    start: String,
    duration_ms: f64,
    span_count: u64,
    error_count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    root_service: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    root_name: Option<String>,
    services: Vec<String>,
}

/// The newest traces that match; of the last hour unless told.
pub(super) async fn search(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    let to = params.time("end")?.unwrap_or_else(|| state.clock.now());
    let from = params.time("start")?.unwrap_or(to - RANGE_DEFAULT);
    if to <= from {
        return Err(ApiError::parameter("end", "end timestamp must be after start time"));
    }
    let errors_only = params.flag("errors")?;
    let text = |name| params.get(name).map(str::to_owned);
    let query = TraceQuery {
        from,
        to,
        service: text("service"),
        operation: text("operation"),
        duration_min: params.duration("minDuration")?,
        errors_only,
        limit: match params.limit()? {
            0 => LIMIT_DEFAULT,
            limit => limit.min(LIMIT_MAX),
        },
    };
    let (found, warning) = state.archive.search_traces(&query).await;
    let answer = Found { traces: found.iter().map(summary).collect() };
    Ok(success_with(answer, &warning.into_iter().collect::<Vec<_>>()))
}

fn summary(trace: &TraceSummary) -> Summary {
    let text = |text: &Option<std::sync::Arc<str>>| text.as_deref().map(str::to_owned);
    Summary {
        trace_id: hex(&trace.trace_id),
        start: go_time_ns(trace.start_ns),
        duration_ms: ms(trace.end_ns.saturating_sub(trace.start_ns)),
        span_count: trace.span_count,
        error_count: trace.error_count,
        root_service: text(&trace.root_service),
        root_name: text(&trace.root_name),
        services: trace.services.iter().map(|service| service.to_string()).collect(),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Trace {
    trace_id: String,
    start: String,
    duration_ms: f64,
    services: BTreeSet<String>,
    spans: Vec<SpanJson>,
    spans_repeated: usize,
    spans_without_parent: usize,
    spans_left_out: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SpanJson {
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_id: Option<String>,
    depth: usize,
    service: String,
    name: String,
    kind: &'static str,
    status: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    status_message: String,
    start: String,
    offset_ms: f64,
    duration_ms: f64,
    on_critical_path: bool,
    attributes: BTreeMap<String, serde_json::Value>,
    resource: BTreeMap<String, serde_json::Value>,
    events: Vec<EventJson>,
    links: Vec<LinkJson>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventJson {
    at: String,
    name: String,
    attributes: BTreeMap<String, serde_json::Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LinkJson {
    trace_id: String,
    span_id: String,
    attributes: BTreeMap<String, serde_json::Value>,
}

/// One trace, its spans as the rows of a waterfall: parents before children.
pub(super) async fn trace(Shared(state): Shared<State>, Path(id): Path<String>) -> Result<Response, ApiError> {
    let known = trace_id_from_hex(&id)
        .ok_or_else(|| ApiError::BadData(format!("{id:?} is not a trace id: it needs 1 to 32 hexadecimal digits")))?;
    let (spans, warning) = state.archive.trace(known).await;
    if spans.is_empty() {
        let reason = warning.map(|warning| format!(". {warning}")).unwrap_or_default();
        return Err(ApiError::NotFound(format!("there is no trace {id} (it may be older than what is kept){reason}")));
    }
    let laid_out = tokio::task::spawn_blocking(move || {
        let tree = waterfall(&spans);
        Trace {
            trace_id: hex(&known),
            start: go_time_ns(tree.start_ns),
            duration_ms: ms(tree.duration_ns),
            services: spans.iter().map(|span| span.service.to_string()).collect(),
            spans: tree.rows.iter().map(|row| span_of(&spans[row.span], row)).collect(),
            spans_repeated: tree.repeated,
            spans_without_parent: tree.orphans,
            spans_left_out: tree.omitted,
        }
    });
    let answer = laid_out.await.map_err(|error| ApiError::Internal(error.to_string()))?;
    Ok(success_with(answer, &warning.into_iter().collect::<Vec<_>>()))
}

fn span_of(span: &Span, row: &Row) -> SpanJson {
    SpanJson {
        span_id: hex(&span.span_id),
        parent_id: span.parent_id.map(|id| hex(&id)),
        depth: row.depth,
        service: span.service.to_string(),
        name: span.name.to_string(),
        kind: span.kind.word(),
        status: span.status.word(),
        status_message: span.status_message.to_string(),
        start: go_time_ns(span.start_ns),
        offset_ms: ms(row.offset_ns),
        duration_ms: ms(row.duration_ns),
        on_critical_path: row.critical,
        attributes: attributes(&span.attributes),
        resource: attributes(&span.resource.attributes),
        events: (span.events.iter())
            .map(|event| EventJson {
                at: go_time_ns(event.at_ns),
                name: event.name.to_string(),
                attributes: attributes(&event.attributes),
            })
            .collect(),
        links: (span.links.iter())
            .map(|link| LinkJson {
                trace_id: hex(&link.trace_id),
                span_id: hex(&link.span_id),
                attributes: attributes(&link.attributes),
            })
            .collect(),
    }
}

fn attributes(attributes: &Attributes) -> BTreeMap<String, serde_json::Value> {
    attributes.iter().map(|(name, value)| (name.to_string(), plain(value))).collect()
}

fn plain(value: &AttributeValue) -> serde_json::Value {
    match value {
        AttributeValue::String(text) => (**text).into(),
        AttributeValue::Bool(value) => (*value).into(),
        AttributeValue::Int(value) => (*value).into(),
        // One that is not a number has no place in JSON, so its name stands there.
        AttributeValue::Double(value) if !value.is_finite() => value.to_string().into(),
        AttributeValue::Double(value) => (*value).into(),
        AttributeValue::Json(text) => serde_json::from_str(text).unwrap_or_else(|_| (**text).into()),
    }
}

fn ms(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}
