//! OTLP/JSON: the JSON mapping of protobuf with hexadecimal ids (OTLP spec, "JSON Protobuf Encoding").
//!
//! The derived mapping of `opentelemetry-proto` refuses what proto3 JSON allows (`null` fields, `arrayValue: {}`,
//! `"NaN"`), so the shapes are read here. Unknown fields are ignored, as the spec demands; enum names are taken as well
//! as numbers. Depth is bounded by serde_json's recursion limit.

use std::fmt;

use opentelemetry_proto::tonic::common::v1 as common;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValueKind;
use opentelemetry_proto::tonic::trace::v1 as proto;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::decode::Decoder;
use super::json_scalars::{Double, Hex, Kind, StatusCode, Whole, base64_encode};

/// Where and why a body is not OTLP/JSON.
#[derive(Debug, thiserror::Error)]
#[error("{reason} at line {line} column {column}")]
pub struct JsonError {
    /// What was expected and what stands there.
    pub reason: String,
    /// Line of the body, from 1.
    pub line: usize,
    /// Column in bytes, from 1.
    pub column: usize,
}

/// Gives the spans of a body to the decoder; returns what is odd about the body.
///
/// Lists are split before their items are read, so that no more than one span is held in its decoded form.
pub(super) fn read(body: &[u8], decoder: &mut Decoder<'_>) -> Result<Option<String>, JsonError> {
    let whole = std::str::from_utf8(body).map_err(|error| utf8_error(body, error))?;
    let Request { resource_spans } = part(whole, whole)?;
    let Some(resource_spans) = resource_spans else {
        let odd = whole.trim().len() > 2; // anything but {}
        let warning = "the request has no `resourceSpans` (field names are in lowerCamelCase), so it holds no spans";
        return Ok(odd.then(|| warning.to_owned()));
    };
    for group in list(whole, resource_spans)? {
        let ResourceSpans { resource, scope_spans } = part(whole, group.get())?;
        let resource = match resource {
            Some(resource) if decoder.fits(resource.get().len()) => part::<Resource>(whole, resource.get())?,
            _ => Resource::default(),
        };
        let origin = decoder.origin(all(resource.attributes));
        for group in scope_spans.map_or(Ok(Vec::new()), |groups| list(whole, groups))? {
            let ScopeSpans { scope, spans } = part(whole, group.get())?;
            let origin = decoder.scoped(&origin, scope.and_then(|Object(scope)| scope.name).unwrap_or_default());
            for span in spans.map_or(Ok(Vec::new()), |spans| list(whole, spans))? {
                let text = span.get();
                decoder.push(text.len(), |decoder| Ok(decoder.span(part::<Span>(whole, text)?.into(), &origin)))?;
            }
        }
    }
    Ok(None)
}

/// Where a body is not UTF-8.
pub(super) fn utf8_error(body: &[u8], error: std::str::Utf8Error) -> JsonError {
    let before = &body[..error.valid_up_to()];
    JsonError {
        reason: "the body is not UTF-8".to_owned(),
        line: 1 + before.iter().filter(|byte| **byte == b'\n').count(),
        column: before.len() - before.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1),
    }
}

/// An object that is a part of `whole`, with errors placed in the whole.
pub(super) fn part<'a, T: Deserialize<'a>>(whole: &str, text: &'a str) -> Result<T, JsonError> {
    serde_json::from_str(text).map(|Object(value)| value).map_err(|error| placed(whole, text, &error))
}

/// The items of a list that is a part of `whole`.
pub(super) fn list<'a>(whole: &str, raw: &'a RawValue) -> Result<Vec<&'a RawValue>, JsonError> {
    serde_json::from_str(raw.get()).map_err(|error| placed(whole, raw.get(), &error))
}

fn placed(whole: &str, text: &str, error: &serde_json::Error) -> JsonError {
    let before = &whole[..(text.as_ptr().addr() - whole.as_ptr().addr()).min(whole.len())];
    let in_line = if error.line() > 1 { 0 } else { before.len() - before.rfind('\n').map_or(0, |at| at + 1) };
    let (message, lines_before) = (error.to_string(), before.matches('\n').count());
    JsonError {
        reason: message.rsplit_once(" at line ").map_or(message.as_str(), |(reason, _)| reason).to_owned(),
        line: lines_before + error.line(),
        column: in_line + error.column(),
    }
}

/// A list or map as plain JSON, the way backends show it. Non-finite numbers become text.
pub(super) fn from_any(value: AnyValueKind) -> serde_json::Value {
    use serde_json::Value;
    let plain = |value: Option<common::AnyValue>| value.and_then(|value| value.value).map_or(Value::Null, from_any);
    match value {
        AnyValueKind::StringValue(text) => Value::String(text),
        AnyValueKind::BoolValue(value) => Value::Bool(value),
        AnyValueKind::IntValue(value) => value.into(),
        AnyValueKind::DoubleValue(value) => {
            serde_json::Number::from_f64(value).map_or_else(|| Value::String(value.to_string()), Value::Number)
        }
        AnyValueKind::ArrayValue(list) => list.values.into_iter().map(|value| plain(Some(value))).collect(),
        AnyValueKind::KvlistValue(map) => {
            Value::Object(map.values.into_iter().map(|pair| (pair.key, plain(pair.value))).collect())
        }
        AnyValueKind::BytesValue(bytes) => Value::String(base64_encode(&bytes)),
        AnyValueKind::StringValueStrindex(_) => Value::Null,
    }
}

/// Made of an object only: derived structs would take a list by position as well.
pub(super) struct Object<T>(pub(super) T);
pub(super) type Many<T> = Option<Vec<Object<T>>>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    #[serde(borrow, default)]
    resource_spans: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    #[serde(borrow, default)]
    resource: Option<&'a RawValue>,
    #[serde(borrow, default)]
    scope_spans: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Resource {
    attributes: Many<KeyValue>,
}

#[derive(Deserialize)]
struct ScopeSpans<'a> {
    #[serde(default)]
    scope: Option<Object<Scope>>,
    #[serde(borrow, default)]
    spans: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Scope {
    name: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Span {
    trace_id: Option<Hex>,
    span_id: Option<Hex>,
    parent_span_id: Option<Hex>,
    name: Option<String>,
    kind: Option<Kind>,
    start_time_unix_nano: Option<Whole<u64>>,
    end_time_unix_nano: Option<Whole<u64>>,
    attributes: Many<KeyValue>,
    events: Many<Event>,
    links: Many<Link>,
    status: Option<Object<Status>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Event {
    time_unix_nano: Option<Whole<u64>>,
    name: Option<String>,
    attributes: Many<KeyValue>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Link {
    trace_id: Option<Hex>,
    span_id: Option<Hex>,
    attributes: Many<KeyValue>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    message: Option<String>,
    code: Option<StatusCode>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct KeyValue {
    key: Option<String>,
    value: Option<Object<AnyValue>>,
}

/// Exactly one field is set in a right value; when more are, the first here counts.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct AnyValue {
    string_value: Option<String>,
    bool_value: Option<bool>,
    int_value: Option<Whole<i64>>,
    double_value: Option<Double>,
    array_value: Option<Object<Array>>,
    kvlist_value: Option<Object<KeyValueList>>,
    bytes_value: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Array {
    values: Many<AnyValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct KeyValueList {
    values: Many<KeyValue>,
}

impl From<Span> for proto::Span {
    fn from(span: Span) -> Self {
        Self {
            trace_id: bytes(span.trace_id),
            span_id: bytes(span.span_id),
            parent_span_id: bytes(span.parent_span_id),
            name: span.name.unwrap_or_default(),
            kind: span.kind.map_or(0, |kind| kind.0),
            start_time_unix_nano: span.start_time_unix_nano.map_or(0, |time| time.0),
            end_time_unix_nano: span.end_time_unix_nano.map_or(0, |time| time.0),
            attributes: all(span.attributes),
            events: all(span.events),
            links: all(span.links),
            status: span.status.map(|Object(status)| proto::Status {
                message: status.message.unwrap_or_default(),
                code: status.code.map_or(0, |code| code.0),
            }),
            ..Self::default()
        }
    }
}

impl From<Event> for proto::span::Event {
    fn from(event: Event) -> Self {
        Self {
            time_unix_nano: event.time_unix_nano.map_or(0, |time| time.0),
            name: event.name.unwrap_or_default(),
            attributes: all(event.attributes),
            dropped_attributes_count: 0,
        }
    }
}

impl From<Link> for proto::span::Link {
    fn from(link: Link) -> Self {
        let (trace_id, span_id) = (bytes(link.trace_id), bytes(link.span_id));
        Self { trace_id, span_id, attributes: all(link.attributes), ..Self::default() }
    }
}

impl From<KeyValue> for common::KeyValue {
    fn from(pair: KeyValue) -> Self {
        Self {
            key: pair.key.unwrap_or_default(),
            value: pair.value.map(|Object(value)| value.into()),
            ..Self::default()
        }
    }
}

impl From<AnyValue> for common::AnyValue {
    fn from(value: AnyValue) -> Self {
        let AnyValue { string_value, bool_value, int_value, double_value, array_value, kvlist_value, bytes_value } =
            value;
        let value = string_value
            .map(AnyValueKind::StringValue)
            .or_else(|| bool_value.map(AnyValueKind::BoolValue))
            .or_else(|| int_value.map(|value| AnyValueKind::IntValue(value.0)))
            .or_else(|| double_value.map(|value| AnyValueKind::DoubleValue(value.0)))
            .or_else(|| {
                array_value
                    .map(|Object(array)| AnyValueKind::ArrayValue(common::ArrayValue { values: all(array.values) }))
            })
            .or_else(|| {
                kvlist_value
                    .map(|Object(map)| AnyValueKind::KvlistValue(common::KeyValueList { values: all(map.values) }))
            })
            // Bytes are shown as base64 in the end, so the text goes through as it is.
            .or_else(|| bytes_value.map(AnyValueKind::StringValue));
        Self { value }
    }
}

pub(super) fn all<T: Into<P>, P>(items: Many<T>) -> Vec<P> {
    items.unwrap_or_default().into_iter().map(|Object(item)| item.into()).collect()
}

fn bytes(hex: Option<Hex>) -> Vec<u8> {
    hex.map(|Hex(bytes)| bytes).unwrap_or_default()
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(de::value::MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor(std::marker::PhantomData))
    }
}
