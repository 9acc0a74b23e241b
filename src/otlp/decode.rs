//! Turns an OTLP trace request into spans: checks ids and times, applies limits, shares repeated texts.
//!
//! In: bytes or a parsed request, limits, the time now. Out: [`Decoded`]. Pure. Invariant: each span of the request is
//! either in `spans` or counted in the tally once; nothing in `spans` exceeds the limits.

mod attributes;

use std::borrow::Cow;
use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1 as proto;

use super::counters::{Rejection, Trim};
use super::json;
use super::known::Fingerprint;
use super::limits::{Limits, Tally};
use super::pairs::{Contents, Kept, KeptByAll, Pairs};
use crate::model::attributes::{AttributeTable, ListRange};
use crate::model::span::{AttributeValue, Attributes, Resource, SpanEvent, SpanId, SpanKind, SpanLink, SpanStatus};
use crate::model::{Span, Timestamp};
use crate::wire;

/// Texts up to this length are looked up, so that equal ones share memory; longer ones rarely repeat.
const SHARED_TEXT_BYTES: usize = 96;

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
    decode_protobuf_after(&KeptByAll::default(), body, limits, now).map(|(decoded, _)| decoded)
}

/// The same, after other requests, whose texts are shared; and what tells the request from others.
pub(super) fn decode_protobuf_after(
    kept: &KeptByAll,
    body: &[u8],
    limits: &Limits,
    now: Timestamp,
) -> Result<(Decoded, Fingerprint), DecodeError> {
    let mut decoder = Decoder::after(kept.take(), body.len(), limits, now);
    for group in wire::messages(body, 1) {
        decoder.wire_group(group?)?;
    }
    kept.give(decoder.keep(body.len()));
    let fingerprint = decoder.fingerprint;
    Ok((decoder.finish(None), fingerprint))
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
    kept: Kept,
    empty: Arc<str>,
    spans: Vec<Span>,
    tally: Tally,
    /// Attributes of spans that were read from bytes.
    table: AttributeTable,
    /// Where those of each span stand in it.
    lists: Vec<ListRange>,
    pairs: Pairs<'a>,
    /// Of what was read from bytes.
    fingerprint: Fingerprint,
    /// Attributes of the span that is read.
    found: Vec<&'a [u8]>,
    /// The operation of a span before, and its bytes.
    operation: Option<(&'a [u8], Arc<str>)>,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(limits: &'a Limits, now: Timestamp) -> Self {
        Self::after(Kept::default(), 0, limits, now)
    }

    /// A decoder of a body of so many bytes, with what others have kept.
    fn after(mut kept: Kept, bytes: usize, limits: &'a Limits, now: Timestamp) -> Self {
        let (pairs, expected) = kept.begin(bytes);
        Self {
            limits,
            latest_start_ns: (now + limits.max_future.get()).as_nanos(),
            kept,
            empty: Arc::from(""),
            spans: Vec::with_capacity(expected.spans),
            tally: Tally::default(),
            table: AttributeTable::with_capacity(expected.attributes, expected.places),
            lists: Vec::with_capacity(expected.spans),
            pairs,
            fingerprint: Fingerprint::default(),
            found: Vec::new(),
            operation: None,
        }
    }

    /// What the next request is decoded with, after a body of so many bytes.
    fn keep(&mut self, bytes: usize) -> Kept {
        let mut kept = std::mem::take(&mut self.kept);
        let (spans, attributes, places) = (self.spans.len(), self.table.len(), self.table.places());
        kept.end(std::mem::take(&mut self.pairs), Contents { bytes, spans, attributes, places });
        kept
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

    /// `ResourceSpans { 1: Resource, 2: repeated ScopeSpans }`.
    fn wire_group(&mut self, group: &'a [u8]) -> Result<(), DecodeError> {
        let origin = self.wire_origin(group)?;
        self.fingerprint.bound();
        for field in wire::fields(group) {
            match field? {
                (2, scope) => self.wire_scope(&origin, scope.bytes()?)?,
                other => self.fingerprint.add(other),
            }
        }
        Ok(())
    }

    /// The origin of the spans of `ResourceSpans { 1: Resource { 1: repeated attributes } }`.
    fn wire_origin(&mut self, group: &[u8]) -> Result<Origin, DecodeError> {
        let (mut budget, mut attributes) = (self.limits.attribute_bytes_per_span, Attributes::new());
        for part in wire::messages(group, 1) {
            let part = part?;
            if self.fits(part.len()) {
                let more = self.wire_attributes(part, 1, 0, &mut budget)?;
                attributes.extend(more.iter().cloned());
            }
        }
        let resource = Arc::new(Resource { attributes });
        let service = self.service(&resource);
        Ok(Origin { resource, service, scope: self.share("") })
    }

    /// The spans of `ScopeSpans { 1: InstrumentationScope { 1: name }, 2: repeated spans }`.
    fn wire_scope(&mut self, origin: &Origin, group: &'a [u8]) -> Result<(), DecodeError> {
        let (first, mut origin) = (self.spans.len(), origin.clone());
        self.fingerprint.bound();
        for field in wire::fields(group) {
            let field = field?;
            match field {
                (1, scope) => {
                    self.fingerprint.add(field);
                    let scope = scope.bytes()?;
                    if self.fits(scope.len())
                        && let Some(name) = wire::messages(scope, 1).last()
                    {
                        let name = self.text(name?);
                        origin.scope = self.name(&name);
                        // It comes first, unless somebody writes fields in another order.
                        self.spans[first..].iter_mut().for_each(|span| span.scope = Arc::clone(&origin.scope));
                    }
                }
                (2, span) => {
                    let span = span.bytes()?;
                    if !self.push(span.len(), |decoder| decoder.wire_span(span, &origin))? {
                        self.fingerprint.add_bytes(span);
                    }
                }
                _ => self.fingerprint.add(field),
            }
        }
        self.fingerprint.bound();
        Ok(())
    }

    /// The same, for the spans of a scope.
    pub(super) fn scoped(&mut self, origin: &Origin, scope: String) -> Origin {
        Origin { scope: self.name(&scope), ..origin.clone() }
    }

    /// Takes a span of that size; it is read only when it is within the limits. Says whether it was.
    pub(super) fn push<E>(
        &mut self,
        size_bytes: usize,
        read: impl FnOnce(&mut Self) -> Result<Result<Span, Rejection>, E>,
    ) -> Result<bool, E> {
        let beyond = match () {
            () if self.spans.len() >= self.limits.spans_per_request => Some(Rejection::SpanLimit),
            () if size_bytes > self.limits.span_bytes => Some(Rejection::TooLarge),
            () => None,
        };
        match beyond.map_or_else(|| read(self), |reason| Ok(Err(reason)))? {
            Ok(span) => self.spans.push(span),
            Err(reason) => self.tally.reject(reason),
        }
        Ok(beyond.is_none())
    }

    /// The decoded request.
    pub(super) fn finish(self, warning: Option<String>) -> Decoded {
        let Self { mut spans, lists, table, tally, .. } = self;
        // Spans of JSON have theirs already, and no lists.
        for (span, attributes) in spans.iter_mut().zip(table.into_lists(lists)) {
            span.attributes = attributes;
        }
        Decoded { spans, tally, warning }
    }

    /// A span in its decoded form, as the JSON encodings give it.
    pub(super) fn span(&mut self, span: proto::Span, origin: &Origin) -> Result<Span, Rejection> {
        let ids = [&*span.trace_id, &*span.span_id, &*span.parent_span_id];
        let decoded = self.bare(ids, [span.start_time_unix_nano, span.end_time_unix_nano], origin)?;
        let mut budget = self.limits.attribute_bytes_per_span;
        let status = span.status.unwrap_or_default();
        Ok(Span {
            kind: self.kind(span.kind),
            name: self.name(&span.name),
            status: self.status_code(status.code),
            status_message: self.name(&status.message),
            attributes: self.attributes(span.attributes, &mut budget),
            events: self.events(span.events, &mut budget),
            links: self.links(span.links, &mut budget),
            ..decoded
        })
    }

    /// A span from its bytes.
    fn wire_span(&mut self, bytes: &'a [u8], origin: &Origin) -> Result<Result<Span, Rejection>, DecodeError> {
        let (mut ids, mut times, mut kind_number) = ([&[][..]; 3], [0; 2], 0);
        let (mut name, mut status_bytes, mut counts) = (&[][..], &[][..], [0_usize; 2]);
        self.found.clear();
        // What stands before the attributes, and what after them, tells the request from others as it is; attributes do by what
        // they are known as.
        let (mut rest, mut after, mut head) = (bytes, bytes, None);
        while let Some(field) = wire::take_field(&mut rest)? {
            if head.is_some() && field.0 != 9 {
                self.fingerprint.add(field);
            }
            match field {
                (1, id) => ids[0] = id.bytes()?,
                (2, id) => ids[1] = id.bytes()?,
                (4, id) => ids[2] = id.bytes()?,
                (5, text) => name = text.bytes()?,
                (6, number) => kind_number = number.varint()? as i32,
                (7, time) => times[0] = time.fixed64()?,
                (8, time) => times[1] = time.fixed64()?,
                (9, pair) => {
                    head = head.or(Some(bytes.len() - after.len()));
                    self.found.push(pair.bytes()?);
                }
                (11, _) => counts[0] += 1,
                (13, _) => counts[1] += 1,
                (15, message) => status_bytes = message.bytes()?,
                _ => {}
            }
            after = rest;
        }
        self.fingerprint.add_bytes(&bytes[..head.unwrap_or(bytes.len())]);
        let decoded = match self.bare(ids, times, origin) {
            Ok(decoded) => decoded,
            Err(reason) => {
                self.found.iter().for_each(|pair| self.fingerprint.add_bytes(pair));
                return Ok(Err(reason));
            }
        };
        let mut budget = self.limits.attribute_bytes_per_span;
        let (status, status_message) = self.wire_status(status_bytes)?;
        let list = self.wire_list(&mut budget)?;
        let events = self.wire_events(bytes, counts[0], &mut budget)?;
        let links = if counts[1] == 0 { Vec::new() } else { self.wire_links(bytes, counts[1], &mut budget)? };
        self.lists.push(list);
        Ok(Ok(Span {
            kind: self.kind(kind_number),
            name: self.operation(name),
            status,
            status_message,
            events,
            links,
            ..decoded
        }))
    }

    /// A span of checked ids and times, without anything else.
    fn bare(&mut self, ids: [&[u8]; 3], [start_ns, end_ns]: [u64; 2], origin: &Origin) -> Result<Span, Rejection> {
        let trace_id = non_zero(ids[0]).ok_or(Rejection::TraceId)?;
        let span_id: SpanId = non_zero(ids[1]).ok_or(Rejection::SpanId)?;
        let parent_id = match ids[2].len() {
            0 => None,
            // Some tracers write an all-zero parent at the root.
            8 => non_zero(ids[2]),
            _ => return Err(Rejection::ParentId),
        };
        match start_ns {
            0 => return Err(Rejection::StartTime),
            _ if start_ns > self.latest_start_ns => return Err(Rejection::FutureStart),
            _ => {}
        }
        let odd_end = match end_ns {
            _ if end_ns < start_ns => Some(Trim::EndBeforeStart),
            // What is told of has ended.
            _ if end_ns > self.latest_start_ns => Some(Trim::EndInFuture),
            _ => None,
        };
        odd_end.into_iter().for_each(|what| self.tally.trim(what, 1));
        let duration_ns = if odd_end.is_some() { 0 } else { end_ns - start_ns };
        Ok(Span {
            trace_id,
            span_id,
            parent_id,
            kind: SpanKind::Unspecified,
            service: Arc::clone(&origin.service),
            name: Arc::clone(&origin.scope), // set by the caller
            start_ns,
            duration_ns,
            status: SpanStatus::Unset,
            status_message: Arc::clone(&origin.scope), // set by the caller
            attributes: Attributes::new(),             // of bytes, set when the table is whole
            resource: Arc::clone(&origin.resource),
            scope: Arc::clone(&origin.scope),
            events: Vec::new(),
            links: Vec::new(),
        })
    }

    /// `Status { 2: message, 3: code }`.
    fn wire_status(&mut self, message: &[u8]) -> Result<(SpanStatus, Arc<str>), DecodeError> {
        let (mut code, mut text) = (0, &[][..]);
        for field in wire::fields(message) {
            match field? {
                (2, message) => text = message.bytes()?,
                (3, number) => code = number.varint()? as i32,
                _ => {}
            }
        }
        let text = self.text(text);
        Ok((self.status_code(code), self.name(&text)))
    }

    /// A number that the protocol does not have is read as the unset one (protobuf's rule for enums).
    fn status_code(&mut self, number: i32) -> SpanStatus {
        self.tally.trim(Trim::Enum, usize::from(!(0..=2).contains(&number)));
        match number {
            1 => SpanStatus::Ok,
            2 => SpanStatus::Error,
            _ => SpanStatus::Unset,
        }
    }

    fn kind(&mut self, number: i32) -> SpanKind {
        self.tally.trim(Trim::Enum, usize::from(!(0..=5).contains(&number)));
        match number {
            1 => SpanKind::Internal,
            2 => SpanKind::Server,
            3 => SpanKind::Client,
            4 => SpanKind::Producer,
            5 => SpanKind::Consumer,
            _ => SpanKind::Unspecified,
        }
    }

    fn wire_events(&mut self, span: &[u8], count: usize, budget: &mut usize) -> Result<Vec<SpanEvent>, DecodeError> {
        self.tally.trim(Trim::Events, count.saturating_sub(self.limits.events_per_span));
        let mut events = Vec::with_capacity(count.min(self.limits.events_per_span));
        if count == 0 {
            return Ok(events);
        }
        for message in wire::messages(span, 11).take(self.limits.events_per_span) {
            let message = message?;
            let (mut at_ns, mut name, mut attributes) = (0, &[][..], 0);
            for field in wire::fields(message) {
                match field? {
                    (1, time) => at_ns = time.fixed64()?,
                    (2, text) => name = text.bytes()?,
                    (3, _) => attributes += 1,
                    _ => {}
                }
            }
            let name = self.text(name);
            let name = self.name(&name);
            events.push(SpanEvent { at_ns, name, attributes: self.wire_attributes(message, 3, attributes, budget)? });
        }
        Ok(events)
    }

    /// `Link { 1: trace id, 2: span id, 4: repeated attributes }`.
    fn wire_links(&mut self, span: &[u8], count: usize, budget: &mut usize) -> Result<Vec<SpanLink>, DecodeError> {
        let mut links = Vec::with_capacity(count.min(self.limits.links_per_span));
        for message in wire::messages(span, 13).take(self.limits.links_per_span) {
            let message = message?;
            let mut ids = [&[][..]; 2];
            for field in wire::fields(message) {
                match field? {
                    (1, id) => ids[0] = id.bytes()?,
                    (2, id) => ids[1] = id.bytes()?,
                    _ => {}
                }
            }
            if let (Some(trace_id), Some(span_id)) = (non_zero(ids[0]), non_zero(ids[1])) {
                links.push(SpanLink { trace_id, span_id, attributes: self.wire_attributes(message, 4, 0, budget)? });
            }
        }
        self.tally.trim(Trim::Links, count - links.len());
        Ok(links)
    }

    /// `service.name`, or the name the specification gives to a resource without one.
    fn service(&mut self, resource: &Resource) -> Arc<str> {
        let named = resource.attributes.iter().find(|(name, _)| &**name == "service.name");
        match named {
            Some((_, AttributeValue::String(name))) if !name.is_empty() => self.name(name),
            _ => self.share("unknown_service"),
        }
    }

    fn events(&mut self, mut events: Vec<proto::span::Event>, budget: &mut usize) -> Vec<SpanEvent> {
        self.tally.trim(Trim::Events, events.len().saturating_sub(self.limits.events_per_span));
        events.truncate(self.limits.events_per_span);
        let decoded = events.into_iter().map(|event| SpanEvent {
            at_ns: event.time_unix_nano,
            name: self.name(&event.name),
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

    /// The text; what is not UTF-8 in it is replaced.
    fn text<'b>(&mut self, bytes: &'b [u8]) -> Cow<'b, str> {
        std::str::from_utf8(bytes).map(Cow::Borrowed).unwrap_or_else(|_| {
            self.tally.trim(Trim::Utf8, 1);
            String::from_utf8_lossy(bytes)
        })
    }

    fn name(&mut self, text: &str) -> Arc<str> {
        self.cut(text, self.limits.name_bytes)
    }

    /// The name of a span, which is mostly that of the one before.
    fn operation(&mut self, bytes: &'a [u8]) -> Arc<str> {
        if let Some((before, name)) = &self.operation
            && *before == bytes
        {
            return Arc::clone(name);
        }
        let text = self.text(bytes);
        let name = self.name(&text);
        // What was mended or cut is counted each time.
        if name.len() == bytes.len() && matches!(text, Cow::Borrowed(_)) {
            self.operation = Some((bytes, Arc::clone(&name)));
        }
        name
    }

    fn cut(&mut self, text: &str, limit: usize) -> Arc<str> {
        if text.len() <= limit { self.share(text) } else { self.cut_long(text, limit) }
    }

    /// The text of a value, of which many are their request's own.
    fn value_text(&mut self, text: &str, may_repeat: bool) -> Arc<str> {
        match text.len() {
            0 => Arc::clone(&self.empty),
            length if length > self.limits.attribute_value_bytes => {
                self.cut_long(text, self.limits.attribute_value_bytes)
            }
            length if length > SHARED_TEXT_BYTES || !may_repeat => Arc::from(text),
            _ => self.kept.texts.share_repeated(text),
        }
    }

    fn cut_long(&mut self, text: &str, limit: usize) -> Arc<str> {
        self.tally.trim(Trim::Text, 1);
        Arc::from(&text[..text.floor_char_boundary(limit)])
    }

    fn share(&mut self, text: &str) -> Arc<str> {
        match text.len() {
            0 => Arc::clone(&self.empty),
            length if length > SHARED_TEXT_BYTES => Arc::from(text),
            _ => self.kept.texts.share(text),
        }
    }
}

/// The id, unless it has another length or is all zero (invalid by the W3C Trace Context and OTLP specs).
fn non_zero<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    <[u8; N]>::try_from(bytes).ok().filter(|id| id.iter().any(|byte| *byte != 0))
}
