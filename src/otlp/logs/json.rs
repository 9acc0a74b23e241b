//! Log records as OTLP/JSON. Lists are split before their items are read, so that one record at a time is decoded.

use opentelemetry_proto::tonic::common::v1 as common;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Decoder, Envelope};
use crate::access_logs::{Fields, Origin};
use crate::otlp::json::{AnyValue, JsonError, KeyValue, Many, Object, all, list, part, utf8_error};
use crate::otlp::json_scalars::{Hex, Whole};

/// Gives the records of a body to the decoder; returns what is odd about the body.
pub(super) fn read(body: &[u8], decoder: &mut Decoder<'_>) -> Result<Option<String>, JsonError> {
    let whole = std::str::from_utf8(body).map_err(|error| utf8_error(body, error))?;
    let Request { resource_logs } = part(whole, whole)?;
    let Some(resource_logs) = resource_logs else {
        let odd = whole.trim().len() > 2; // anything but {}
        let warning = "the request has no `resourceLogs` (field names are in lowerCamelCase), so it holds no records";
        return Ok(odd.then(|| warning.to_owned()));
    };
    for group in list(whole, resource_logs)? {
        let ResourceLogs { resource, scope_logs } = part(whole, group.get())?;
        let resource = resource.map_or(Ok(Resource::default()), |resource| part(whole, resource.get()))?;
        let attributes: Vec<common::KeyValue> = all(resource.attributes);
        let mut fields = Fields::default();
        decoder.attributes(&attributes, &mut fields);
        let origin = decoder.session.origin(&fields);
        for group in scope_logs.map_or(Ok(Vec::new()), |groups| list(whole, groups))? {
            let ScopeLogs { log_records } = part(whole, group.get())?;
            for record in log_records.map_or(Ok(Vec::new()), |records| list(whole, records))? {
                read_record(whole, record.get(), (decoder, &origin))?;
            }
        }
    }
    Ok(None)
}

fn read_record(whole: &str, text: &str, (decoder, origin): (&mut Decoder<'_>, &Origin)) -> Result<(), JsonError> {
    if let Some(reason) = decoder.refusal(text.len()) {
        decoder.decoded.tally.reject(reason);
        return Ok(());
    }
    let LogRecord { time_unix_nano, observed_time_unix_nano, body, attributes, trace_id, span_id } = part(whole, text)?;
    let [trace_id, span_id] = [trace_id, span_id].map(|id| id.map(|Hex(bytes)| bytes).unwrap_or_default());
    let envelope = Envelope {
        at_ns: time_unix_nano.map_or(0, |time| time.0),
        observed_ns: observed_time_unix_nano.map_or(0, |time| time.0),
        trace_id: &trace_id,
        span_id: &span_id,
    };
    let attributes: Vec<common::KeyValue> = all(attributes);
    let body = body.and_then(|Object(body)| common::AnyValue::from(body).value);
    let mut fields = Fields::default();
    let mut is_line = false;
    match &body {
        Some(Value::StringValue(text)) => is_line = decoder.session.read_body(text, &mut fields),
        Some(Value::KvlistValue(map)) => decoder.attributes(&map.values, &mut fields),
        _ => {}
    }
    decoder.attributes(&attributes, &mut fields);
    decoder.push(envelope, &fields, (origin, is_line));
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    #[serde(borrow, default)]
    resource_logs: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceLogs<'a> {
    #[serde(borrow, default)]
    resource: Option<&'a RawValue>,
    #[serde(borrow, default)]
    scope_logs: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Resource {
    attributes: Many<KeyValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScopeLogs<'a> {
    #[serde(borrow, default)]
    log_records: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct LogRecord {
    time_unix_nano: Option<Whole<u64>>,
    observed_time_unix_nano: Option<Whole<u64>>,
    body: Option<Object<AnyValue>>,
    attributes: Many<KeyValue>,
    trace_id: Option<Hex>,
    span_id: Option<Hex>,
}
