//! Turns an OTLP trace request into spans: checks ids and times, applies limits, shares repeated texts.
//!
//! In: bytes or a parsed request, limits, the time now. Out: [`Decoded`]. Pure. Invariant: each span of the request is
//! either in `spans` or counted in the tally once; nothing in `spans` exceeds the limits.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1 as proto_resource;
use opentelemetry_proto::tonic::trace::v1 as proto;
use prost::Message;
use serde::Deserialize;

use super::counters::{Rejection, Trim};
use super::{json, wire};
use crate::model::span::{AttributeValue, Attributes, Resource, SpanEvent, SpanId, SpanKind, SpanLink, SpanStatus};
use crate::model::{Span, Timestamp};

/// Texts up to this length are looked up, so that equal ones share memory; longer ones rarely repeat.
const SHARED_TEXT_BYTES: usize = 96;

/// What one request and one span may hold. What is beyond is cut or dropped, and counted.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Spans of one request; further ones are rejected. Default 50,000.
    pub spans_per_request: usize,
    /// Bytes of one span (or resource) as received; larger ones are rejected. Default 1 MiB.
    pub span_bytes: usize,
    /// Attributes of one span, event, link or resource; further ones are dropped. Default 128.
    pub attributes_per_span: usize,
    /// Bytes of names and values of the attributes of one span (its events and links included) or one resource; further
    /// ones are dropped. Default 64 KiB.
    pub attribute_bytes_per_span: usize,
    /// Bytes of one attribute value; longer text is cut. Default 4 KiB.
    pub attribute_value_bytes: usize,
    /// Bytes of an operation, service, scope or event name, an attribute name or a status message; longer text is cut.
    /// Default 1 KiB.
    pub name_bytes: usize,
    /// Events of one span. Default 128.
    pub events_per_span: usize,
    /// Links of one span. Default 128.
    pub links_per_span: usize,
    /// How far ahead of our clock a span may start. Default 1 day.
    pub max_future: crate::units::PromDuration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            spans_per_request: 50_000,
            span_bytes: 1 << 20,
            attributes_per_span: 128,
            attribute_bytes_per_span: 64 << 10,
            attribute_value_bytes: 4 << 10,
            name_bytes: 1 << 10,
            events_per_span: 128,
            links_per_span: 128,
            max_future: Duration::from_secs(24 * 3600).into(),
        }
    }
}

/// What was rejected and what was cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    rejected: [u64; Rejection::ALL.len()],
    trimmed: [u64; Trim::ALL.len()],
}

impl Tally {
    /// Spans rejected for that reason.
    pub fn rejected(&self, reason: Rejection) -> u64 {
        self.rejected[reason as usize]
    }

    /// Things cut of that kind.
    pub fn trimmed(&self, what: Trim) -> u64 {
        self.trimmed[what as usize]
    }

    /// Spans rejected for any reason.
    pub fn total_rejected(&self) -> u64 {
        self.rejected.iter().sum()
    }

    /// What the client should know, `None` when all is well.
    pub fn message(&self) -> Option<String> {
        let rejected = Rejection::ALL.into_iter().filter(|reason| self.rejected(*reason) > 0);
        let mut parts: Vec<String> =
            rejected.map(|reason| format!("rejected {} {}", self.rejected(reason), reason.explain())).collect();
        let trimmed = Trim::ALL.into_iter().filter(|what| self.trimmed(*what) > 0);
        parts.extend(trimmed.map(|what| format!("trimmed {} {}", self.trimmed(what), what.as_str())));
        (!parts.is_empty()).then(|| format!("spans: {}", parts.join(", ")))
    }

    fn reject(&mut self, reason: Rejection) {
        self.rejected[reason as usize] += 1;
    }

    fn trim(&mut self, what: Trim, count: usize) {
        self.trimmed[what as usize] += count as u64;
    }
}

/// A decoded request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    /// Spans that are right, in the order they came.
    pub spans: Vec<Span>,
    /// What was rejected or cut.
    pub tally: Tally,
    /// What is odd about the request as a whole.
    pub warning: Option<String>,
}

/// Why a whole request could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not an `ExportTraceServiceRequest`.
    #[error("not an ExportTraceServiceRequest in protobuf: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// Not OTLP/JSON. The message has line and column.
    #[error("not an ExportTraceServiceRequest in OTLP/JSON: {0}")]
    Json(#[from] json::JsonError),
}

/// Decodes a protobuf body.
///
/// # Errors
/// When the body is not an `ExportTraceServiceRequest`.
pub fn decode_protobuf(body: &[u8], limits: &Limits, now: Timestamp) -> Result<Decoded, DecodeError> {
    let mut decoder = Decoder::new(limits, now);
    for group in wire::messages(body, 1) {
        let group = group?;
        let mut resource = proto_resource::Resource::default();
        for part in wire::messages(group, 1) {
            let part = part?;
            if decoder.fits(part.len()) {
                resource.merge(part)?;
            }
        }
        let origin = decoder.origin(resource.attributes);
        for group in wire::messages(group, 2) {
            let group = group?;
            let mut scope = InstrumentationScope::default();
            for part in wire::messages(group, 1) {
                let part = part?;
                if decoder.fits(part.len()) {
                    scope.merge(part)?;
                }
            }
            let origin = decoder.scoped(&origin, scope.name);
            for span in wire::messages(group, 2) {
                let span = span?;
                decoder.push(&origin, span.len(), || proto::Span::decode(span))?;
            }
        }
    }
    Ok(decoder.finish(None))
}

/// Decodes an OTLP/JSON body.
///
/// # Errors
/// When the body is not OTLP/JSON.
pub fn decode_json(body: &[u8], limits: &Limits, now: Timestamp) -> Result<Decoded, DecodeError> {
    let mut decoder = Decoder::new(limits, now);
    let warning = json::read(body, &mut decoder)?;
    Ok(decoder.finish(warning))
}

/// What spans have in common: made once for each resource and scope of a request.
#[derive(Clone)]
pub(super) struct Origin {
    resource: Arc<Resource>,
    service: Arc<str>,
    scope: Arc<str>,
}

/// Checks and converts spans one by one.
pub(super) struct Decoder<'a> {
    limits: &'a Limits,
    latest_start_ns: u64,
    texts: HashSet<Arc<str>, foldhash::fast::RandomState>,
    spans: Vec<Span>,
    tally: Tally,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(limits: &'a Limits, now: Timestamp) -> Self {
        let latest_ms = u64::try_from((now + limits.max_future.get()).as_millis()).unwrap_or(0);
        Self {
            limits,
            latest_start_ns: latest_ms.saturating_mul(1_000_000),
            texts: HashSet::default(),
            spans: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// Whether a resource or scope of that size is read at all; when not, it counts as cut attributes.
    pub(super) fn fits(&mut self, size_bytes: usize) -> bool {
        let fits = size_bytes <= self.limits.span_bytes;
        self.tally.trim(Trim::Attributes, usize::from(!fits));
        fits
    }

    /// The origin of the spans of a resource.
    pub(super) fn origin(&mut self, attributes: Vec<KeyValue>) -> Origin {
        let mut budget = self.limits.attribute_bytes_per_span;
        let resource = Arc::new(Resource { attributes: self.attributes(attributes, &mut budget) });
        let service = self.service(&resource);
        Origin { resource, service, scope: self.share("") }
    }

    /// The same, for the spans of a scope.
    pub(super) fn scoped(&mut self, origin: &Origin, scope: String) -> Origin {
        Origin { scope: self.name(scope), ..origin.clone() }
    }

    /// Takes a span of that size; it is decoded only when it is within the limits.
    pub(super) fn push<E>(
        &mut self,
        origin: &Origin,
        size_bytes: usize,
        decode: impl FnOnce() -> Result<proto::Span, E>,
    ) -> Result<(), E> {
        let taken = match () {
            () if self.spans.len() >= self.limits.spans_per_request => Err(Rejection::SpanLimit),
            () if size_bytes > self.limits.span_bytes => Err(Rejection::TooLarge),
            () => self.span(decode()?, origin),
        };
        if let Err(reason) = taken {
            self.tally.reject(reason);
        }
        Ok(())
    }

    /// The decoded request.
    pub(super) fn finish(self, warning: Option<String>) -> Decoded {
        Decoded { spans: self.spans, tally: self.tally, warning }
    }

    fn span(&mut self, span: proto::Span, origin: &Origin) -> Result<(), Rejection> {
        let trace_id = non_zero(&span.trace_id).ok_or(Rejection::TraceId)?;
        let span_id: SpanId = non_zero(&span.span_id).ok_or(Rejection::SpanId)?;
        let parent_id = match span.parent_span_id.len() {
            0 => None,
            // Some tracers write an all-zero parent at the root.
            8 => non_zero(&span.parent_span_id),
            _ => return Err(Rejection::ParentId),
        };
        match span.start_time_unix_nano {
            0 => return Err(Rejection::StartTime),
            start_ns if start_ns > self.latest_start_ns => return Err(Rejection::FutureStart),
            _ => {}
        }
        let duration_ns = span.end_time_unix_nano.checked_sub(span.start_time_unix_nano).unwrap_or_else(|| {
            self.tally.trim(Trim::EndBeforeStart, 1);
            0
        });
        let mut budget = self.limits.attribute_bytes_per_span;
        let (status, status_message) = self.status(span.status);
        let decoded = Span {
            trace_id,
            span_id,
            parent_id,
            kind: kind(span.kind),
            service: Arc::clone(&origin.service),
            name: self.name(span.name),
            start_ns: span.start_time_unix_nano,
            duration_ns,
            status,
            status_message,
            attributes: self.attributes(span.attributes, &mut budget),
            resource: Arc::clone(&origin.resource),
            scope: Arc::clone(&origin.scope),
            events: self.events(span.events, &mut budget),
            links: self.links(span.links, &mut budget),
        };
        self.spans.push(decoded);
        Ok(())
    }

    fn status(&mut self, status: Option<proto::Status>) -> (SpanStatus, Arc<str>) {
        let status = status.unwrap_or_default();
        let code = match status.code {
            1 => SpanStatus::Ok,
            2 => SpanStatus::Error,
            _ => SpanStatus::Unset,
        };
        (code, self.name(status.message))
    }

    /// `service.name`, or the name the specification gives to a resource without one.
    fn service(&mut self, resource: &Resource) -> Arc<str> {
        let named = resource.attributes.iter().find(|(name, _)| &**name == "service.name");
        match named {
            Some((_, AttributeValue::String(name))) if !name.is_empty() => self.name(name.to_string()),
            _ => self.share("unknown_service"),
        }
    }

    fn events(&mut self, mut events: Vec<proto::span::Event>, budget: &mut usize) -> Vec<SpanEvent> {
        self.tally.trim(Trim::Events, events.len().saturating_sub(self.limits.events_per_span));
        events.truncate(self.limits.events_per_span);
        let decoded = events.into_iter().map(|event| SpanEvent {
            at_ns: event.time_unix_nano,
            name: self.name(event.name),
            attributes: self.attributes(event.attributes, budget),
        });
        decoded.collect()
    }

    fn links(&mut self, links: Vec<proto::span::Link>, budget: &mut usize) -> Vec<SpanLink> {
        let count = links.len();
        let mut decoded = Vec::with_capacity(count.min(self.limits.links_per_span));
        for link in links.into_iter().take(self.limits.links_per_span) {
            if let (Some(trace_id), Some(span_id)) = (non_zero(&link.trace_id), non_zero(&link.span_id)) {
                decoded.push(SpanLink { trace_id, span_id, attributes: self.attributes(link.attributes, budget) });
            }
        }
        self.tally.trim(Trim::Links, count - decoded.len());
        decoded
    }

    fn attributes(&mut self, pairs: Vec<KeyValue>, budget: &mut usize) -> Attributes {
        let count = pairs.len();
        let mut attributes = Attributes::with_capacity(count.min(self.limits.attributes_per_span));
        for pair in pairs.into_iter().take(self.limits.attributes_per_span) {
            let Some(value) = self.value(pair.value) else { continue };
            let bytes = pair.key.len() + value_bytes(&value);
            if pair.key.is_empty() || pair.key.len() > self.limits.name_bytes || bytes > *budget {
                continue;
            }
            *budget -= bytes;
            attributes.push((self.share(&pair.key), value));
        }
        self.tally.trim(Trim::Attributes, count - attributes.len());
        attributes
    }

    /// The value; an empty one is an empty text, as the collector prints it.
    fn value(&mut self, value: Option<AnyValue>) -> Option<AttributeValue> {
        Some(match value.and_then(|value| value.value) {
            None => AttributeValue::String(self.share("")),
            Some(Value::StringValue(text)) => AttributeValue::String(self.cut(text, self.limits.attribute_value_bytes)),
            Some(Value::BoolValue(value)) => AttributeValue::Bool(value),
            Some(Value::IntValue(value)) => AttributeValue::Int(value),
            Some(Value::DoubleValue(value)) => AttributeValue::Double(value),
            // A reference into a dictionary that only the profiles signal has.
            Some(Value::StringValueStrindex(_)) => return None,
            Some(value) => {
                let text = json::from_any(value).to_string();
                // Cut JSON is no JSON: drop it instead.
                if text.len() > self.limits.attribute_value_bytes {
                    return None;
                }
                AttributeValue::Json(text.into())
            }
        })
    }

    fn name(&mut self, text: String) -> Arc<str> {
        self.cut(text, self.limits.name_bytes)
    }

    fn cut(&mut self, text: String, limit: usize) -> Arc<str> {
        if text.len() <= limit {
            return self.share(&text);
        }
        self.tally.trim(Trim::Text, 1);
        Arc::from(&text[..text.floor_char_boundary(limit)])
    }

    fn share(&mut self, text: &str) -> Arc<str> {
        if text.len() > SHARED_TEXT_BYTES {
            return Arc::from(text);
        }
        match self.texts.get(text) {
            Some(known) => Arc::clone(known),
            None => {
                let new: Arc<str> = Arc::from(text);
                self.texts.insert(Arc::clone(&new));
                new
            }
        }
    }
}

fn value_bytes(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::String(text) | AttributeValue::Json(text) => text.len(),
        AttributeValue::Bool(_) | AttributeValue::Int(_) | AttributeValue::Double(_) => 8,
    }
}

/// The id, unless it has another length or is all zero (invalid by the W3C Trace Context and OTLP specs).
fn non_zero<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    <[u8; N]>::try_from(bytes).ok().filter(|id| id.iter().any(|byte| *byte != 0))
}

fn kind(number: i32) -> SpanKind {
    match number {
        1 => SpanKind::Internal,
        2 => SpanKind::Server,
        3 => SpanKind::Client,
        4 => SpanKind::Producer,
        5 => SpanKind::Consumer,
        _ => SpanKind::Unspecified,
    }
}
