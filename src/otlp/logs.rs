//! Turns an OTLP logs request into access log records, read where they stand in the request.
//!
//! In: bytes, a reader of access logs, limits, the time now. Out: [`DecodedLogs`]. Pure. Invariant: each record of the
//! request is either in `records` or counted in the tally once. What an access log says is `access_logs`' business.

mod json;
mod tally;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};

pub use tally::{LogRejection, LogTally, LogTrim};

use super::Limits;
use super::json::JsonError;
use crate::access_logs::{AccessRecord, Fields, Origin, Reader, Session, Stamp};
use crate::model::Timestamp;
use crate::wire;

/// A decoded request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DecodedLogs {
    /// Records that are access logs, in the order they came.
    pub records: Vec<AccessRecord>,
    /// What was rejected or cut.
    pub tally: LogTally,
    /// What is odd about the request as a whole.
    pub warning: Option<String>,
}

/// Why a whole request could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// Not an `ExportLogsServiceRequest`.
    #[error("not an ExportLogsServiceRequest in protobuf: {0}")]
    Protobuf(#[from] prost::DecodeError),
    /// Not OTLP/JSON. The message has line and column.
    #[error("not an ExportLogsServiceRequest in OTLP/JSON: {0}")]
    Json(#[from] JsonError),
}

/// Decodes a protobuf body: `ExportLogsServiceRequest { 1: repeated ResourceLogs { 1: resource, 2: repeated ScopeLogs
/// { 1: scope, 2: repeated LogRecord } } }`.
///
/// # Errors
/// When the body is not an `ExportLogsServiceRequest`.
pub fn decode_logs_protobuf(
    body: &[u8],
    reader: &Reader,
    limits: &Limits,
    now: Timestamp,
) -> Result<DecodedLogs, LogsError> {
    let mut decoder = Decoder::new(reader, limits, now);
    for group in wire::messages(body, 1) {
        let group = group?;
        let mut resource = Fields::default();
        for part in wire::messages(group, 1) {
            decoder.wire_attributes(part?, 1, &mut resource)?;
        }
        let origin = decoder.session.origin(&resource);
        for group in wire::messages(group, 2) {
            for record in wire::messages(group?, 2) {
                decoder.wire_record(record?, &origin)?;
            }
        }
    }
    Ok(decoder.finish(None))
}

/// Decodes an OTLP/JSON body.
///
/// # Errors
/// When the body is not OTLP/JSON.
pub fn decode_logs_json(
    body: &[u8],
    reader: &Reader,
    limits: &Limits,
    now: Timestamp,
) -> Result<DecodedLogs, LogsError> {
    let mut decoder = Decoder::new(reader, limits, now);
    let warning = json::read(body, &mut decoder)?;
    Ok(decoder.finish(warning))
}

/// What a log record has besides attributes and body.
#[derive(Clone, Copy, Default)]
struct Envelope<'a> {
    at_ns: u64,
    observed_ns: u64,
    trace_id: &'a [u8],
    span_id: &'a [u8],
}

struct Decoder<'a> {
    session: Session<'a>,
    limits: &'a Limits,
    now_ns: u64,
    latest_ns: u64,
    decoded: DecodedLogs,
}

impl<'d> Decoder<'d> {
    fn new(reader: &'d Reader, limits: &'d Limits, now: Timestamp) -> Self {
        Self {
            session: reader.begin(limits.attribute_value_bytes),
            limits,
            now_ns: now.as_nanos(),
            latest_ns: (now + limits.max_future.get()).as_nanos(),
            decoded: DecodedLogs::default(),
        }
    }

    fn finish(mut self, warning: Option<String>) -> DecodedLogs {
        self.decoded.tally.trim(LogTrim::Text, self.session.cut);
        DecodedLogs { warning, ..self.decoded }
    }

    /// Why a record of that size is not read at all.
    fn refusal(&self, size_bytes: usize) -> Option<LogRejection> {
        match () {
            () if self.decoded.records.len() >= self.limits.spans_per_request => Some(LogRejection::RecordLimit),
            () if size_bytes > self.limits.span_bytes => Some(LogRejection::TooLarge),
            () => None,
        }
    }

    /// `LogRecord { 1: time, 5: body, 6: attributes, 9: trace id, 10: span id, 11: observed time }`.
    fn wire_record(&mut self, message: &[u8], origin: &Origin) -> Result<(), LogsError> {
        if let Some(reason) = self.refusal(message.len()) {
            self.decoded.tally.reject(reason);
            return Ok(());
        }
        let (mut envelope, mut body) = (Envelope::default(), None);
        for field in wire::fields(message) {
            match field? {
                (1, time) => envelope.at_ns = time.fixed64()?,
                (5, value) => body = Some(value.bytes()?),
                (9, id) => envelope.trace_id = id.bytes()?,
                (10, id) => envelope.span_id = id.bytes()?,
                (11, time) => envelope.observed_ns = time.fixed64()?,
                _ => {}
            }
        }
        let line = match wire::messages(body.unwrap_or_default(), 1).last() {
            Some(text) => Some(self.text(text?)),
            None => None,
        };
        let mut fields = Fields::default();
        let is_line = line.as_ref().is_some_and(|line| self.session.read_body(line, &mut fields));
        for field in wire::fields(body.unwrap_or_default()) {
            // A map: what collectors make of a JSON line.
            if let (6, map) = field? {
                self.wire_attributes(map.bytes()?, 1, &mut fields)?;
            }
        }
        self.wire_attributes(message, 6, &mut fields)?;
        self.push(envelope, &fields, (origin, is_line));
        Ok(())
    }

    /// `KeyValue { 1: key, 2: AnyValue { 1: text, 2: boolean, 3: whole number, 4: double, … } }` in field `number`.
    fn wire_attributes<'a>(&mut self, message: &'a [u8], number: u32, into: &mut Fields<'a>) -> Result<(), LogsError> {
        let mut seen = 0;
        for pair in wire::messages(message, number) {
            let pair = pair?;
            seen += 1;
            if seen > self.limits.attributes_per_span {
                self.decoded.tally.trim(LogTrim::Attributes, 1);
                continue;
            }
            let (mut key, mut value) = (&[][..], &[][..]);
            for field in wire::fields(pair) {
                match field? {
                    (1, text) => key = text.bytes()?,
                    (2, message) => value = message.bytes()?,
                    _ => {}
                }
            }
            let key = self.text(key);
            for field in wire::fields(value) {
                match field? {
                    (1, text) => into.take(&key, self.text(text.bytes()?)),
                    (3, whole) => into.take(&key, (whole.varint()? as i64).to_string()),
                    (4, bits) => into.take(&key, f64::from_bits(bits.fixed64()?).to_string()),
                    _ => {} // no access log says anything in other ways
                }
            }
        }
        Ok(())
    }

    /// The text; what is not UTF-8 in it is replaced.
    fn text<'a>(&mut self, bytes: &'a [u8]) -> Cow<'a, str> {
        std::str::from_utf8(bytes).map(Cow::Borrowed).unwrap_or_else(|_| {
            self.decoded.tally.trim(LogTrim::Utf8, 1);
            String::from_utf8_lossy(bytes)
        })
    }

    /// The same, decoded, as JSON gives them.
    fn attributes<'a>(&mut self, pairs: &'a [KeyValue], into: &mut Fields<'a>) {
        let taken = pairs.len().min(self.limits.attributes_per_span);
        self.decoded.tally.trim(LogTrim::Attributes, (pairs.len() - taken) as u64);
        for KeyValue { key, value, .. } in &pairs[..taken] {
            if let Some(text) = value.as_ref().and_then(plain) {
                into.take(key, text);
            }
        }
    }

    /// Takes a record that was read, when it is an access log.
    fn push(&mut self, envelope: Envelope<'_>, fields: &Fields<'_>, of: (&Origin, bool)) {
        let tally = &mut self.decoded.tally;
        let is_id = |id: &[u8], length: usize| id.len() == length && id.iter().any(|byte| *byte != 0);
        // Ids of other lengths are as none (opentelemetry-proto logs.proto, LogRecord.trace_id).
        let odd = |id: &[u8], length: usize| !id.is_empty() && id.len() != length;
        if odd(envelope.trace_id, 16) || odd(envelope.span_id, 8) {
            tally.trim(LogTrim::TraceContext, 1);
        }
        let trace_id = envelope.trace_id.try_into().ok().filter(|_| is_id(envelope.trace_id, 16));
        let span_id = envelope.span_id.try_into().ok().filter(|_| is_id(envelope.span_id, 8) && trace_id.is_some());
        let stamp = Stamp { at_ns: envelope.at_ns, trace_id, span_id };
        let Some(mut record) = self.session.record(stamp, fields, of) else {
            return tally.reject(LogRejection::NotAccessLog);
        };
        if record.at_ns == 0 {
            // The specification's order: the time, else when it was observed; without either, now.
            record.at_ns = if envelope.observed_ns > 0 { envelope.observed_ns } else { self.now_ns };
            tally.trim(LogTrim::Time, u64::from(envelope.observed_ns == 0));
        }
        if record.at_ns > self.latest_ns {
            return tally.reject(LogRejection::FutureTime);
        }
        self.decoded.records.push(record);
    }
}

/// The text of a value, or the number's; `None` for what is neither.
fn plain(value: &AnyValue) -> Option<Cow<'_, str>> {
    match value.value.as_ref()? {
        Value::StringValue(text) => Some(Cow::Borrowed(text)),
        Value::IntValue(number) => Some(Cow::Owned(number.to_string())),
        Value::DoubleValue(number) => Some(Cow::Owned(number.to_string())),
        _ => None,
    }
}
