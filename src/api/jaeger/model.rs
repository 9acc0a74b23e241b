//! Traces in Jaeger's JSON (`model/json`), attributes translated as OpenTelemetry specifies it for Jaeger.

use std::collections::HashMap;

use serde_json::{Map, Value as Json, json};

use super::kind_name;
use crate::model::Span;
use crate::model::span::{AttributeValue, Attributes, SpanStatus, TraceId, hex};

/// One trace.
pub(super) fn trace(spans: &[Span]) -> Json {
    let mut processes: Vec<Json> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    let mut out = Vec::with_capacity(spans.len());
    for span in spans {
        let tags = (span.resource.attributes.iter()).filter(|(name, _)| &**name != "service.name");
        let process = json!({"serviceName": &*span.service, "tags": tags.map(|(n, v)| tag(n, v)).collect::<Vec<_>>()});
        let next = processes.len();
        let place = *known.entry(process.to_string()).or_insert(next);
        if place == next {
            processes.push(process);
        }
        out.push(span_json(span, &format!("p{}", place + 1)));
    }
    let named: Map<String, Json> =
        processes.into_iter().enumerate().map(|(at, process)| (format!("p{}", at + 1), process)).collect();
    let id = spans.first().map(|span| trace_id(&span.trace_id)).unwrap_or_default();
    json!({"traceID": id, "spans": out, "processes": named, "warnings": null})
}

/// Jaeger writes ids of 64 bits with 16 digits.
fn trace_id(id: &TraceId) -> String {
    if id[..8] == [0; 8] { hex(&id[8..]) } else { hex(id) }
}

fn span_json(span: &Span, process: &str) -> Json {
    let reference = |kind: &str, trace: &TraceId, span: &[u8]| json!({"refType": kind, "traceID": trace_id(trace), "spanID": hex(span)});
    let mut references = Vec::new();
    references.extend(span.parent_id.map(|parent| reference("CHILD_OF", &span.trace_id, &parent)));
    references.extend(span.links.iter().map(|link| reference("FOLLOWS_FROM", &link.trace_id, &link.span_id)));
    json!({
        "traceID": trace_id(&span.trace_id),
        "spanID": hex(&span.span_id),
        "flags": 1,
        "operationName": &*span.name,
        "references": references,
        "startTime": span.start_ns / 1000,
        "duration": span.duration_ns / 1000,
        "tags": tags(span),
        "logs": span.events.iter().map(|event| {
            let mut fields = vec![json!({"key": "event", "type": "string", "value": &*event.name})];
            fields.extend(all(&event.attributes));
            json!({"timestamp": event.at_ns / 1000, "fields": fields})
        }).collect::<Vec<_>>(),
        "processID": process,
        "warnings": null,
    })
}

fn tags(span: &Span) -> Vec<Json> {
    let text = |key: &str, value: &str| json!({"key": key, "type": "string", "value": value});
    let has = |name: &str| span.attribute(name).is_some();
    let mut tags = all(&span.attributes);
    if !span.scope.is_empty() {
        tags.push(text("otel.scope.name", &span.scope));
    }
    let kind = kind_name(span.kind);
    if !kind.is_empty() && !has("span.kind") {
        tags.push(text("span.kind", kind));
    }
    match span.status {
        SpanStatus::Unset => {}
        SpanStatus::Ok => tags.push(text("otel.status_code", "OK")),
        SpanStatus::Error => {
            tags.push(text("otel.status_code", "ERROR"));
            if !has("error") {
                tags.push(json!({"key": "error", "type": "bool", "value": true}));
            }
        }
    }
    if !span.status_message.is_empty() {
        tags.push(text("otel.status_description", &span.status_message));
    }
    tags
}

fn all(attributes: &Attributes) -> Vec<Json> {
    attributes.iter().map(|(name, value)| tag(name, value)).collect()
}

fn tag(name: &str, value: &AttributeValue) -> Json {
    let (kind, value): (&str, Json) = match value {
        AttributeValue::String(text) | AttributeValue::Json(text) => ("string", (**text).into()),
        AttributeValue::Bool(value) => ("bool", (*value).into()),
        AttributeValue::Int(value) => ("int64", (*value).into()),
        AttributeValue::Double(value) if value.is_finite() => ("float64", (*value).into()),
        AttributeValue::Double(value) => ("string", value.to_string().into()),
    };
    json!({"key": name, "type": kind, "value": value})
}
