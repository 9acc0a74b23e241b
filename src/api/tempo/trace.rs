//! `traces/{id}`: all spans of a trace, as OTLP in JSON or protobuf, as `Accept` asks.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Path, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value as Json, json};

use super::{Fault, key_values};
use crate::api::State;
use crate::model::Span;
use crate::model::span::{
    AttributeValue, Attributes, Resource, SpanEvent, SpanLink, SpanStatus, TraceId, trace_id_from_hex,
};
use crate::wire;

/// A trace; 404 when there is none.
pub(super) async fn version_1(
    Shared(state): Shared<State>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let (spans, _) = found(&state, &id).await?;
    if spans.is_empty() {
        return Err(Fault(StatusCode::NOT_FOUND, "trace not found".to_owned()));
    }
    let protobuf = asks_protobuf(&headers);
    let body = tokio::task::spawn_blocking(move || match protobuf {
        true => encoded(&spans),
        false => json!({"batches": resource_spans(&spans)}).to_string().into_bytes(),
    });
    Ok(answer(protobuf, body.await?))
}

/// A trace with what may be missing of it; an empty one when there is none.
pub(super) async fn version_2(
    Shared(state): Shared<State>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Fault> {
    let (spans, note) = found(&state, &id).await?;
    let protobuf = asks_protobuf(&headers);
    let body = tokio::task::spawn_blocking(move || {
        if protobuf {
            let mut out = Vec::new();
            wire::put_bytes(1, &encoded(&spans), &mut out);
            wire::put_bytes(2, &[], &mut out);
            if let Some(note) = note {
                wire::put_varint(3, 1, &mut out);
                wire::put_bytes(4, note.as_bytes(), &mut out);
            }
            return out;
        }
        let trace = if spans.is_empty() { json!({}) } else { json!({"resourceSpans": resource_spans(&spans)}) };
        let mut body = json!({"trace": trace, "metrics": {}});
        if let Some(note) = note {
            body["status"] = "PARTIAL".into();
            body["message"] = note.into();
        }
        body.to_string().into_bytes()
    });
    Ok(answer(protobuf, body.await?))
}

/// What there is of a trace, and what may be missing of it.
async fn found(state: &State, id: &str) -> Result<(Vec<Span>, Option<String>), Fault> {
    let found = state.archive.trace(parsed(id)?).await;
    found.map_err(|unknown| Fault(StatusCode::SERVICE_UNAVAILABLE, unknown.to_string()))
}

fn parsed(id: &str) -> Result<TraceId, Fault> {
    let wrong = || Fault::bad(format!("trace IDs can only contain hex characters, at most 32: {id:?}"));
    trace_id_from_hex(id).ok_or_else(wrong)
}

fn asks_protobuf(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.split([',', ';']).any(|kind| kind.trim() == "application/protobuf")
}

fn answer(protobuf: bool, body: Vec<u8>) -> Response {
    let kind = if protobuf { "application/protobuf" } else { "application/json" };
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}

/// The spans of one instrumentation scope, by its name.
type Scoped<'a> = (&'a str, Vec<&'a Span>);

/// Spans by resource and scope, in order of first appearance.
fn grouped(spans: &[Span]) -> Vec<(&Resource, Vec<Scoped<'_>>)> {
    let mut known: HashMap<*const Resource, usize> = HashMap::new();
    let mut found: Vec<(&Resource, Vec<Scoped<'_>>)> = Vec::new();
    for span in spans {
        // Each batch has its own copy of a resource.
        let place = *known.entry(Arc::as_ptr(&span.resource)).or_insert_with(|| {
            let same = found.iter().rposition(|(resource, _)| **resource == *span.resource);
            same.unwrap_or_else(|| {
                found.push((&span.resource, Vec::new()));
                found.len() - 1
            })
        });
        let scopes = &mut found[place].1;
        match scopes.iter_mut().find(|(scope, _)| *scope == &*span.scope) {
            Some((_, spans)) => spans.push(span),
            None => scopes.push((&span.scope, vec![span])),
        }
    }
    found
}

fn resource_spans(spans: &[Span]) -> Vec<Json> {
    let scope = |(name, spans): &Scoped<'_>| {
        let scope = if name.is_empty() { json!({}) } else { json!({"name": name}) };
        json!({"scope": scope, "spans": spans.iter().map(|span| span_json(span)).collect::<Vec<_>>()})
    };
    let resource = |(resource, scopes): &(&Resource, Vec<Scoped<'_>>)| {
        json!({
            "resource": {"attributes": key_values(&resource.attributes)},
            "scopeSpans": scopes.iter().map(scope).collect::<Vec<_>>(),
        })
    };
    grouped(spans).iter().map(resource).collect()
}

fn span_json(span: &Span) -> Json {
    let mut out = json!({
        "traceId": base64(&span.trace_id),
        "spanId": base64(&span.span_id),
        "name": &*span.name,
        "kind": span.kind.as_str(),
        "startTimeUnixNano": span.start_ns.to_string(),
        "endTimeUnixNano": span.end_ns().to_string(),
        "status": {},
    });
    put_json_attributes(&mut out, &span.attributes);
    if let Some(parent) = span.parent_id {
        out["parentSpanId"] = base64(&parent).into();
    }
    if span.status != SpanStatus::Unset {
        out["status"]["code"] = span.status.as_str().into();
    }
    if !span.status_message.is_empty() {
        out["status"]["message"] = (*span.status_message).into();
    }
    if !span.events.is_empty() {
        let event = |event: &SpanEvent| {
            let mut one = json!({"timeUnixNano": event.at_ns.to_string(), "name": &*event.name});
            put_json_attributes(&mut one, &event.attributes);
            one
        };
        out["events"] = span.events.iter().map(event).collect();
    }
    if !span.links.is_empty() {
        let link = |link: &SpanLink| {
            let mut one = json!({"traceId": base64(&link.trace_id), "spanId": base64(&link.span_id)});
            put_json_attributes(&mut one, &link.attributes);
            one
        };
        out["links"] = span.links.iter().map(link).collect();
    }
    out
}

/// Protobuf's JSON leaves out lists that are empty.
fn put_json_attributes(out: &mut Json, attributes: &Attributes) {
    if !attributes.is_empty() {
        out["attributes"] = key_values(attributes).into();
    }
}

/// Bytes as protobuf's JSON writes them.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place) & 63) as usize];
            out.push(if place <= three.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

// === protobuf: opentelemetry.proto.trace.v1.TracesData, which Tempo's Trace equals ===

fn encoded(spans: &[Span]) -> Vec<u8> {
    let mut out = Vec::new();
    for (resource, scopes) in grouped(spans) {
        let (mut one, mut attributes) = (Vec::new(), Vec::new());
        put_attributes(1, &resource.attributes, &mut attributes);
        wire::put_bytes(1, &attributes, &mut one);
        for (name, spans) in scopes {
            let (mut scoped, mut scope) = (Vec::new(), Vec::new());
            if !name.is_empty() {
                wire::put_bytes(1, name.as_bytes(), &mut scope);
            }
            wire::put_bytes(1, &scope, &mut scoped);
            spans.iter().for_each(|span| wire::put_bytes(2, &encoded_span(span), &mut scoped));
            wire::put_bytes(2, &scoped, &mut one);
        }
        wire::put_bytes(1, &one, &mut out);
    }
    out
}

fn encoded_span(span: &Span) -> Vec<u8> {
    let mut out = Vec::new();
    wire::put_bytes(1, &span.trace_id, &mut out);
    wire::put_bytes(2, &span.span_id, &mut out);
    if let Some(parent) = span.parent_id {
        wire::put_bytes(4, &parent, &mut out);
    }
    wire::put_bytes(5, span.name.as_bytes(), &mut out);
    wire::put_varint(6, span.kind as u64, &mut out);
    put_fixed64(7, span.start_ns, &mut out);
    put_fixed64(8, span.end_ns(), &mut out);
    put_attributes(9, &span.attributes, &mut out);
    for event in &span.events {
        let mut one = Vec::new();
        put_fixed64(1, event.at_ns, &mut one);
        wire::put_bytes(2, event.name.as_bytes(), &mut one);
        put_attributes(3, &event.attributes, &mut one);
        wire::put_bytes(11, &one, &mut out);
    }
    for link in &span.links {
        let mut one = Vec::new();
        wire::put_bytes(1, &link.trace_id, &mut one);
        wire::put_bytes(2, &link.span_id, &mut one);
        put_attributes(4, &link.attributes, &mut one);
        wire::put_bytes(13, &one, &mut out);
    }
    let mut status = Vec::new();
    if !span.status_message.is_empty() {
        wire::put_bytes(2, span.status_message.as_bytes(), &mut status);
    }
    if span.status != SpanStatus::Unset {
        wire::put_varint(3, span.status as u64, &mut status);
    }
    wire::put_bytes(15, &status, &mut out);
    out
}

/// A double has the same bits on the wire.
fn put_fixed64(number: u32, value: u64, out: &mut Vec<u8>) {
    wire::put_double(number, f64::from_bits(value), out);
}

fn put_attributes(number: u32, attributes: &Attributes, out: &mut Vec<u8>) {
    for (name, value) in attributes {
        let (mut one, mut any) = (Vec::new(), Vec::new());
        wire::put_bytes(1, name.as_bytes(), &mut one);
        match value {
            AttributeValue::String(text) => wire::put_bytes(1, text.as_bytes(), &mut any),
            AttributeValue::Bool(value) => wire::put_varint(2, u64::from(*value), &mut any),
            AttributeValue::Int(value) => wire::put_varint(3, *value as u64, &mut any),
            AttributeValue::Double(value) => wire::put_double(4, *value, &mut any),
            AttributeValue::Json(text) => match serde_json::from_str(text) {
                Ok(inner) => put_nested(&inner, &mut any),
                Err(_) => wire::put_bytes(1, text.as_bytes(), &mut any),
            },
        }
        wire::put_bytes(2, &any, &mut one);
        wire::put_bytes(number, &one, out);
    }
}

fn put_nested(value: &Json, out: &mut Vec<u8>) {
    match value {
        Json::Null => {}
        Json::String(text) => wire::put_bytes(1, text.as_bytes(), out),
        Json::Bool(value) => wire::put_varint(2, u64::from(*value), out),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => wire::put_varint(3, whole as u64, out),
            None => wire::put_double(4, number.as_f64().unwrap_or(f64::NAN), out),
        },
        Json::Array(members) => {
            let mut list = Vec::new();
            for member in members {
                let mut one = Vec::new();
                put_nested(member, &mut one);
                wire::put_bytes(1, &one, &mut list);
            }
            wire::put_bytes(5, &list, out);
        }
        Json::Object(members) => {
            let mut list = Vec::new();
            for (key, member) in members {
                let (mut one, mut inner) = (Vec::new(), Vec::new());
                wire::put_bytes(1, key.as_bytes(), &mut one);
                put_nested(member, &mut inner);
                wire::put_bytes(2, &inner, &mut one);
                wire::put_bytes(1, &one, &mut list);
            }
            wire::put_bytes(6, &list, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn bytes_are_written_in_base64() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }
}
