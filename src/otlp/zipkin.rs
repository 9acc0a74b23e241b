//! Zipkin v2 JSON spans (<https://zipkin.io/zipkin-api/>, `POST /api/v2/spans`), as Istio's Zipkin provider sends them.
//!
//! Spans become OTLP spans and go through the same checks. Kinds, the error tag and the shared span of the server
//! side are mapped as the OpenTelemetry specification's Zipkin translation has it.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1 as proto;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::decode::{Decoded, Decoder};
use super::json_scalars::Whole;
use super::limits::Limits;
use crate::model::Timestamp;
use crate::model::span::trace_id_from_hex;

/// Why a Zipkin body could not be read; the message has line and column.
#[derive(Debug, thiserror::Error)]
#[error("not a list of Zipkin v2 spans: {0}")]
pub(super) struct ZipkinError(#[from] serde_json::Error);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ZipkinSpan {
    trace_id: String,
    id: String,
    parent_id: Option<String>,
    name: Option<String>,
    kind: Option<String>,
    /// Microseconds since the epoch.
    timestamp: Option<Whole<u64>>,
    /// Microseconds.
    duration: Option<Whole<u64>>,
    shared: Option<bool>,
    local_endpoint: Option<Endpoint>,
    remote_endpoint: Option<Endpoint>,
    annotations: Option<Vec<Annotation>>,
    tags: Option<BTreeMap<String, Tag>>,
}

/// A text; Zipkin takes a number for one, too.
#[derive(Deserialize)]
#[serde(untagged)]
enum Tag {
    Text(String),
    Number(serde_json::Number),
    Bool(bool),
    Nothing,
}

impl Tag {
    fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            Self::Number(number) => Some(number.to_string()),
            Self::Bool(value) => Some(value.to_string()),
            Self::Nothing => None,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    service_name: Option<String>,
    ipv4: Option<String>,
    ipv6: Option<String>,
    port: Option<Whole<u16>>,
}

#[derive(Deserialize)]
struct Annotation {
    timestamp: Whole<u64>,
    value: String,
}

/// Decodes a body into spans.
pub(super) fn decode(body: &[u8], limits: &Limits, now: Timestamp) -> Result<Decoded, ZipkinError> {
    let received: Vec<&RawValue> = serde_json::from_slice(body)?;
    let (mut decoder, mut origins) = (Decoder::new(limits, now), BTreeMap::new());
    for raw in received {
        let size_bytes = raw.get().len();
        // The service is a part of the span itself, which is not read when it is too large.
        let span: Option<ZipkinSpan> =
            if size_bytes <= limits.span_bytes { serde_json::from_str(raw.get())? } else { None };
        let endpoint = span.as_ref().and_then(|span| span.local_endpoint.as_ref());
        let service = endpoint.and_then(|endpoint| endpoint.service_name.clone());
        let origin = origins.entry(service).or_insert_with_key(|service: &Option<String>| {
            decoder.origin(service.iter().map(|name| text("service.name", name.clone())).collect())
        });
        decoder.push(size_bytes, |decoder| {
            Ok::<_, ZipkinError>(decoder.span(span.map(Into::into).unwrap_or_default(), origin))
        })?;
    }
    Ok(decoder.finish(None))
}

impl From<ZipkinSpan> for proto::Span {
    fn from(span: ZipkinSpan) -> Self {
        let kind = match span.kind.as_deref().map(str::to_ascii_uppercase).as_deref() {
            Some("CLIENT") => 3,
            Some("SERVER") => 2,
            Some("PRODUCER") => 4,
            Some("CONSUMER") => 5,
            _ => 1,
        };
        let (mut span_id, mut parent_span_id) = (id(&span.id), span.parent_id.as_deref().map(id).unwrap_or_default());
        if span.shared == Some(true) && kind == 2 && span_id.len() == 8 {
            // B3 lets the server share the client's span id. Ids are unique here, so the server's side gets one of its
            // own, always the same, under the client's.
            parent_span_id.clone_from(&span_id);
            span_id[0] ^= 0x80;
        }
        let tags = span.tags.into_iter().flatten();
        let tags: BTreeMap<String, String> =
            tags.filter_map(|(key, value)| value.text().map(|value| (key, value))).collect();
        let error = tags.get("error").filter(|value| !value.eq_ignore_ascii_case("false")).cloned();
        let status = error.map(|message| proto::Status { message, code: 2 });
        let start = span.timestamp.map_or(0, |Whole(at)| at.saturating_mul(1000));
        let events = span.annotations.into_iter().flatten().map(|note| proto::span::Event {
            time_unix_nano: note.timestamp.0.saturating_mul(1000),
            name: note.value,
            ..proto::span::Event::default()
        });
        let mut attributes: Vec<KeyValue> = tags.into_iter().map(|(key, value)| text(&key, value)).collect();
        attributes.extend(span.remote_endpoint.into_iter().flat_map(peer));
        Self {
            trace_id: trace_id_from_hex(&span.trace_id).map(Vec::from).unwrap_or_default(),
            span_id,
            parent_span_id,
            name: span.name.unwrap_or_default(),
            kind,
            start_time_unix_nano: start,
            end_time_unix_nano: start
                .saturating_add(span.duration.map_or(0, |Whole(length)| length.saturating_mul(1000))),
            attributes,
            events: events.collect(),
            status,
            ..Self::default()
        }
    }
}

/// An 8-byte id from hex, padded on the left; empty (and so rejected later) when it is no hex.
fn id(hex: &str) -> Vec<u8> {
    match trace_id_from_hex(hex) {
        Some(id) if hex.len() <= 16 => id[8..].to_vec(),
        _ => vec![0],
    }
}

fn peer(endpoint: Endpoint) -> Vec<KeyValue> {
    let mut attributes = Vec::new();
    attributes.extend(endpoint.service_name.map(|name| text("peer.service", name)));
    attributes.extend(endpoint.ipv4.or(endpoint.ipv6).map(|address| text("network.peer.address", address)));
    attributes.extend(endpoint.port.filter(|Whole(port)| *port > 0).map(|Whole(port)| KeyValue {
        key: "network.peer.port".to_owned(),
        value: Some(AnyValue { value: Some(Value::IntValue(port.into())) }),
        ..KeyValue::default()
    }));
    attributes
}

fn text(key: &str, value: String) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value)) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}
