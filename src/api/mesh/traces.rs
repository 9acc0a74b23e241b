//! `traces` and `traces/<id>`: traces as plain JSON, for scripts; Jaeger's and Tempo's own shapes are elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::operation::{Answer, Outcome};
use super::query::{AtMost, Period, Time};
use crate::api::State;
use crate::api::encode::go_time_ns;
use crate::api::error::ApiError;
use crate::model::Span;
use crate::model::span::{AttributeValue, Attributes, hex, trace_id_from_hex};
use crate::persist::TraceQuery;
use crate::store::TraceSummary;
use crate::traces::{Row, waterfall};

/// How far back is looked unless told.
const RANGE_DEFAULT: Duration = Duration::from_secs(3600);
const LIMIT_DEFAULT: usize = 20;
const LIMIT_MAX: usize = 1000;

/// Traces found, newest first.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "TraceList")]
pub(super) struct Found {
    /// Traces.
    traces: Vec<Summary>,
}

/// One trace.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "TraceSummary")]
struct Summary {
    /// 32 hexadecimal digits.
    trace_id: String,
    /// Its first start.
    #[schemars(extend("format" = "date-time"))]
    start: String,
    /// From the first start to the last end, milliseconds.
    duration_ms: f64,
    /// Spans.
    span_count: u64,
    /// Failed spans.
    error_count: u64,
    /// Service of the root span, once it has come.
    #[serde(skip_serializing_if = "Option::is_none")]
    root_service: Option<String>,
    /// Operation of the root span.
    #[serde(skip_serializing_if = "Option::is_none")]
    root_name: Option<String>,
    /// Services that take part, sorted.
    services: Vec<String>,
}

/// Which traces.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Search {
    /// First time: seconds since the epoch or RFC 3339; an hour before the end unless told.
    start: Option<Time>,
    /// Last time; now unless told.
    end: Option<Time>,
    /// A service that takes part.
    service: Option<String>,
    /// An operation that occurs.
    operation: Option<String>,
    /// Shortest duration: seconds or 1m30s.
    min_duration: Option<Period>,
    /// true for traces with a failed span.
    #[serde(default)]
    errors: bool,
    /// Most traces; 20 unless told, more than 1000 count as 1000, 0 as unset.
    #[serde(default)]
    limit: AtMost<LIMIT_DEFAULT, LIMIT_MAX>,
}

/// The newest traces that match; of the last hour unless told.
pub(super) async fn search(state: State, asked: Search) -> Outcome<Found> {
    let to = asked.end.map_or_else(|| state.clock.now(), |end| end.0);
    let from = asked.start.map_or(to - RANGE_DEFAULT, |start| start.0);
    if to <= from {
        return Err(ApiError::parameter("end", "end timestamp must be after start time"));
    }
    let query = TraceQuery {
        from,
        to,
        service: asked.service,
        operation: asked.operation,
        duration_min: asked.min_duration.map(|least| least.0),
        errors_only: asked.errors,
        limit: asked.limit.0,
    };
    let (found, warning) = state.archive.search_traces(&query).await;
    let answer = Found { traces: found.iter().map(summary).collect() };
    Ok(Answer::with(answer, &warning.into_iter().collect::<Vec<_>>()))
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

/// One trace with its spans.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Trace {
    /// 32 hexadecimal digits.
    trace_id: String,
    /// Its first start, clocks mended.
    #[schemars(extend("format" = "date-time"))]
    start: String,
    /// From the first start to the last end, milliseconds.
    duration_ms: f64,
    /// Services that take part, sorted.
    services: BTreeSet<String>,
    /// Parents before children, in order of start.
    spans: Vec<SpanJson>,
    /// Spans received more than once; shown once.
    spans_repeated: usize,
    /// Spans whose parent has not come.
    spans_without_parent: usize,
    /// Spans beyond the limit.
    spans_left_out: usize,
}

/// One unit of work.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Span")]
struct SpanJson {
    /// 16 hexadecimal digits.
    span_id: String,
    /// Its parent; absent at a root.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_id: Option<String>,
    /// How deep in the tree; 0 is a root.
    depth: usize,
    /// Service.
    service: String,
    /// Operation.
    name: String,
    /// Its part in the call.
    #[schemars(extend("enum" = ["unspecified", "internal", "server", "client", "producer", "consumer"]))]
    kind: &'static str,
    /// How it ended.
    #[schemars(extend("enum" = ["unset", "ok", "error"]))]
    status: &'static str,
    /// Why it failed, when said.
    #[serde(skip_serializing_if = "String::is_empty")]
    status_message: String,
    /// As reported.
    #[schemars(extend("format" = "date-time"))]
    start: String,
    /// From the start of the trace, clocks mended, milliseconds.
    offset_ms: f64,
    /// Milliseconds.
    duration_ms: f64,
    /// Whether the trace would have ended earlier, had this span been shorter.
    on_critical_path: bool,
    /// Attributes of the span.
    attributes: BTreeMap<String, serde_json::Value>,
    /// Attributes of what produced it.
    resource: BTreeMap<String, serde_json::Value>,
    /// What happened during it.
    events: Vec<EventJson>,
    /// Other spans it refers to.
    links: Vec<LinkJson>,
}

/// Something that happened during a span.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "SpanEvent")]
struct EventJson {
    /// When.
    #[schemars(extend("format" = "date-time"))]
    at: String,
    /// What.
    name: String,
    /// Details.
    attributes: BTreeMap<String, serde_json::Value>,
}

/// A reference to another span.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "SpanLink")]
struct LinkJson {
    /// The other trace.
    trace_id: String,
    /// The other span.
    span_id: String,
    /// Details.
    attributes: BTreeMap<String, serde_json::Value>,
}

/// One trace.
#[derive(Deserialize, JsonSchema)]
pub(super) struct One {
    /// 1 to 32 hexadecimal digits.
    #[schemars(regex(pattern = "^[0-9a-fA-F]{1,32}$"))]
    id: String,
}

/// One trace, its spans as the rows of a waterfall: parents before children.
pub(super) async fn trace(state: State, One { id }: One) -> Outcome<Trace> {
    let known = trace_id_from_hex(&id)
        .ok_or_else(|| ApiError::BadData(format!("{id:?} is not a trace id: it needs 1 to 32 hexadecimal digits")))?;
    let found = state.archive.trace(known).await;
    let (spans, warning) = found
        .map_err(|unknown| ApiError::Unavailable(format!("whether there is a trace {id} is not known. {unknown}")))?;
    if spans.is_empty() {
        return Err(ApiError::NotFound(format!("there is no trace {id} (it may be older than what is kept)")));
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
    Ok(Answer::with(answer, &warning.into_iter().collect::<Vec<_>>()))
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
