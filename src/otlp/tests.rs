//! Tests of the receiver over real sockets, and of decoding.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1 as proto;
use proptest::prelude::*;
use prost::Message;
use tokio::sync::mpsc;

use super::intake::now;
use super::pairs::KeptByAll;
use super::testing::{PROTO_TYPE, Running, gzip};
use super::*;
use crate::batching::Verdict;
use crate::model::span::{AttributeValue, SpanKind, SpanStatus, hex};
use crate::wire;

// === decoding ===

fn json(body: &str) -> Decoded {
    decode_json(body.as_bytes(), &Limits::default(), now()).unwrap()
}

fn with_span(fields: &str) -> String {
    format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{fields}}}]}}]}}]}}"#)
}

fn good_fields(id: u64) -> String {
    format!(
        r#""traceId":"{id:032x}","spanId":"{id:016x}","name":"op","startTimeUnixNano":"1000","endTimeUnixNano":"2000""#
    )
}

/// A small span.
pub(super) fn span(id: u64) -> Span {
    json(&with_span(&good_fields(id))).spans.remove(0)
}

fn proto_span(id: u8) -> proto::Span {
    proto::Span {
        trace_id: vec![id; 16],
        span_id: vec![id; 8],
        name: "op".into(),
        start_time_unix_nano: 1_000,
        end_time_unix_nano: 3_000,
        ..proto::Span::default()
    }
}

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn request(spans: Vec<proto::Span>) -> ExportTraceServiceRequest {
    let scope_spans = vec![proto::ScopeSpans { spans, ..proto::ScopeSpans::default() }];
    ExportTraceServiceRequest {
        resource_spans: vec![proto::ResourceSpans { scope_spans, ..proto::ResourceSpans::default() }],
    }
}

fn proto_decoded(spans: Vec<proto::Span>, limits: &Limits) -> Decoded {
    decode_protobuf(&request(spans).encode_to_vec(), limits, now()).unwrap()
}

#[test]
fn rejects_bad_spans_by_reason_and_keeps_the_others() {
    let good = proto_span(9);
    let bad = |change: fn(&mut proto::Span)| {
        let mut span = proto_span(1);
        change(&mut span);
        span
    };
    let spans = vec![
        bad(|s| s.trace_id = vec![0; 16]),
        bad(|s| s.trace_id = vec![1; 8]),
        bad(|s| s.trace_id.clear()),
        bad(|s| s.span_id = vec![0; 8]),
        bad(|s| s.span_id = vec![1; 16]),
        bad(|s| s.parent_span_id = vec![1; 7]),
        bad(|s| s.start_time_unix_nano = 0),
        bad(|s| s.start_time_unix_nano = u64::MAX),
        good,
    ];
    let decoded = proto_decoded(spans, &Limits::default());
    let rejected = Rejection::ALL.map(|reason| decoded.tally.rejected(reason));
    assert_eq!(rejected, [3, 2, 1, 1, 1, 0, 0]);
    assert_eq!(decoded.spans.len(), 1);
    assert!(decoded.tally.message().unwrap().contains("rejected 3 with a trace id that is not 16 non-zero bytes"));
}

#[test]
fn mends_what_can_be_mended() {
    let mut span = proto_span(1);
    (span.end_time_unix_nano, span.parent_span_id) = (500, vec![0; 8]);
    span.kind = 99;
    let decoded = proto_decoded(vec![span], &Limits::default());
    let span = &decoded.spans[0];
    assert_eq!((span.duration_ns, span.parent_id, span.kind), (0, None, SpanKind::Unspecified));
    assert_eq!(&*span.service, "unknown_service");
    assert_eq!((decoded.tally.trimmed(Trim::EndBeforeStart), decoded.tally.trimmed(Trim::Enum)), (1, 1));
    let mut span = proto_span(1);
    span.end_time_unix_nano = u64::MAX;
    span.status = Some(proto::Status { code: -3, ..proto::Status::default() });
    let decoded = proto_decoded(vec![span], &Limits::default());
    assert_eq!((decoded.spans[0].duration_ns, decoded.spans[0].status), (0, SpanStatus::Unset));
    assert_eq!((decoded.tally.trimmed(Trim::EndInFuture), decoded.tally.trimmed(Trim::Enum)), (1, 1));
}

#[test]
fn cuts_what_is_beyond_the_limits() {
    let limits = Limits {
        spans_per_request: 2,
        attributes_per_span: 3,
        attribute_bytes_per_span: 40,
        attribute_value_bytes: 10,
        name_bytes: 4,
        events_per_span: 1,
        links_per_span: 1,
        ..Limits::default()
    };
    let attribute = |key: &str, text: &str| format!(r#"{{"key":"{key}","value":{{"stringValue":"{text}"}}}}"#);
    let many = [attribute("a", "ééééééé"), attribute("b", "x"), attribute("c", "y"), attribute("d", "z")].join(",");
    let link = r#"{"traceId":"00000000000000000000000000000001","spanId":"0000000000000001"}"#;
    let body = with_span(&format!(
        r#"{},"kind":3,"name":"operation","attributes":[{many}],"events":[{{"name":"e"}},{{"name":"f"}}],"links":[{link},{link}]"#,
        good_fields(1).replace(r#""name":"op","#, "")
    ));
    let decoded = decode_json(body.as_bytes(), &limits, now()).unwrap();
    let span = &decoded.spans[0];
    assert_eq!(span.attribute("a"), Some(&AttributeValue::String("ééééé".into())), "cut at a character");
    assert_eq!((span.attributes.len(), span.events.len(), span.links.len(), &*span.name), (3, 1, 1, "oper"));
    let trimmed = Trim::ALL.map(|what| decoded.tally.trimmed(what));
    assert_eq!(trimmed, [0, 0, 0, 1, 2, 1, 1, 0]); // unknown_service is ours and not cut
    let three = proto_decoded((1..4).map(proto_span).collect(), &limits);
    assert_eq!((three.spans.len(), three.tally.rejected(Rejection::SpanLimit)), (2, 1));
    let huge = attribute("k", &"v".repeat(10));
    let body = with_span(&format!(r#"{},"attributes":[{}]"#, good_fields(1), vec![huge; 3].join(",")));
    let small = Limits { attribute_bytes_per_span: 25, ..limits };
    assert_eq!(decode_json(body.as_bytes(), &small, now()).unwrap().spans[0].attributes.len(), 2);
}

#[test]
fn reads_every_form_of_json_value() {
    let check = |value: &str, expect: AttributeValue| {
        let body = with_span(&format!(r#"{},"attributes":[{{"key":"k","value":{value}}}]"#, good_fields(1)));
        assert_eq!(json(&body).spans[0].attribute("k"), Some(&expect), "{value}");
    };
    let text = |text: &str| AttributeValue::String(text.into());
    let plain = |text: &str| AttributeValue::Json(text.into());
    check(r#"{"stringValue":"x"}"#, text("x"));
    check(r#"{"boolValue":true}"#, AttributeValue::Bool(true));
    check(r#"{"intValue":"-5"}"#, AttributeValue::Int(-5));
    check(r#"{"intValue":7}"#, AttributeValue::Int(7));
    check(r#"{"doubleValue":1.5}"#, AttributeValue::Double(1.5));
    check(r#"{"doubleValue":"Infinity"}"#, AttributeValue::Double(f64::INFINITY));
    check(r#"{"arrayValue":{}}"#, plain("[]"));
    check(r#"{"arrayValue":{"values":[{"intValue":"1"},{"stringValue":"a"},{}]}}"#, plain(r#"[1,"a",null]"#));
    check(r#"{"kvlistValue":{"values":[{"key":"a","value":{"doubleValue":"NaN"}}]}}"#, plain(r#"{"a":"NaN"}"#));
    check(r#"{"bytesValue":"Zm9v"}"#, text("Zm9v"));
    check("{}", text(""));
    check("null", text(""));
    check(r#"{"stringValue":null,"unknownValue":{"a":[1]}}"#, text(""));
}

#[test]
fn reads_the_spec_in_its_variants() {
    let body = with_span(
        r#""traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"eee19b7ec3c1b174","parentSpanId":null,"name":null,
        "kind":"SPAN_KIND_SERVER","startTimeUnixNano":1544712660000000000,"endTimeUnixNano":"1544712661000000000",
        "status":{"code":2,"message":"boom"},"droppedAttributesCount":0,"flags":257,"somethingNew":{"x":[1,2]}"#,
    );
    let span = &json(&body).spans[0];
    assert_eq!(hex(&span.trace_id), "5b8efff798038103d269b633813fc60c");
    assert_eq!((span.kind, span.status, &*span.status_message), (SpanKind::Server, SpanStatus::Error, "boom"));
    assert_eq!((span.start_ns, span.duration_ns), (1_544_712_660_000_000_000, 1_000_000_000));
    assert_eq!(json("{}"), Decoded::default());
    assert!(json(r#"{"batches":[{}]}"#).warning.unwrap().contains("resourceSpans"));
}

#[test]
fn malformed_json_is_refused_with_its_place() {
    let value = |fields: &str| with_span(&format!("{},{fields}", good_fields(1)));
    let (open, close) = (r#"{"arrayValue":{"values":["#.repeat(200), "]}}".repeat(200));
    let deep = value(&format!(r#""attributes":[{{"key":"k","value":{open}{close}}}]"#));
    for body in [
        "",
        "[]",
        "null",
        "{",
        "\u{feff}{}",
        r#"{"resourceSpans":{}}"#,
        r#"{"resourceSpans":[1]}"#,
        &deep,
        &with_span(r#""traceId":"xyz""#),
        &with_span(r#""traceId":"abc""#),
        &with_span(r#""traceId":5"#),
        &with_span(r#""startTimeUnixNano":"soon""#),
        &with_span(r#""startTimeUnixNano":-1"#),
        &with_span(r#""startTimeUnixNano":1.5"#),
        &with_span(r#""kind":"SPAN_KIND_ODD""#),
        &value(r#""attributes":{"a":"b"}"#),
        &value(r#""attributes":[["k",["by position"]]]"#),
        &value(r#""attributes":[{"key":"k","value":"bare"}]"#),
        &value(r#""attributes":[{"key":"k","value":{"intValue":"99999999999999999999"}}]"#),
    ] {
        let error = decode_json(body.as_bytes(), &Limits::default(), now()).expect_err(body).to_string();
        assert!(error.contains("line "), "{error}");
    }
}

#[test]
fn errors_are_placed_in_the_whole_body() {
    let check = |body: &str, line: usize, column: usize| match decode_json(body.as_bytes(), &Limits::default(), now()) {
        Err(DecodeError::Json(error)) => assert_eq!((error.line, error.column), (line, column), "{error}: {body}"),
        other => panic!("{body}: {other:?}"),
    };
    check("{\n \"resourceSpans\": 5}", 2, 19);
    check("{\n \"resourceSpans\": [\n {},\n {\"scopeSpans\": [{\"spans\": [{\n\"kind\": []}]}]}]}", 5, 10);
    check("{\"resourceSpans\":[{\"scopeSpans\":[{\"spans\":[{\"kind\":{}}]}]}]}", 1, 53);
}

#[test]
fn tiny_messages_do_not_become_large() {
    // Two bytes each on the wire; decoded whole, the spans alone would take 300 bytes each.
    let empty_spans = [0x12, 0].repeat(100_000);
    let mut scope = vec![0x12];
    prost::encoding::encode_varint(empty_spans.len() as u64, &mut scope);
    scope.extend(empty_spans);
    let mut body = vec![0x0a];
    prost::encoding::encode_varint(scope.len() as u64, &mut body);
    body.extend(scope);
    body.extend([0x0a, 0].repeat(100_000));
    let decoded = decode_protobuf(&body, &Limits::default(), now()).unwrap();
    assert_eq!((decoded.spans.capacity(), decoded.tally.rejected(Rejection::TraceId)), (0, 100_000));
    // Length-delimited where a number belongs, a length beyond the end.
    for span in [&[0x3a, 1, 0][..], &[0x2a, 9, 0]] {
        let mut body = vec![0x0a, span.len() as u8 + 4, 0x12, span.len() as u8 + 2, 0x12, span.len() as u8];
        body.extend(span);
        assert!(decode_protobuf(&body, &Limits::default(), now()).is_err(), "{span:?}");
    }
    let mut large = proto_span(1);
    large.name = "x".repeat(2 << 20);
    let decoded = proto_decoded(vec![large, proto_span(2)], &Limits::default());
    assert_eq!((decoded.spans.len(), decoded.tally.rejected(Rejection::TooLarge)), (1, 1));
    let json = with_span(&format!(r#"{},"name":"{}""#, good_fields(1), "x".repeat(2 << 20)));
    let decoded = decode_json(json.as_bytes(), &Limits::default(), now()).unwrap();
    assert_eq!((decoded.spans.len(), decoded.tally.rejected(Rejection::TooLarge)), (0, 1));
}

/// The bytes `bad!` in them become two that are not UTF-8 and `d!`.
fn break_utf8(mut body: Vec<u8>) -> Vec<u8> {
    for at in 0..body.len() {
        if body[at..].starts_with(b"bad!") {
            body[at..at + 2].fill(0xff);
        }
    }
    body
}

#[test]
fn texts_that_are_not_utf8_are_mended_wherever_they_stand_and_lose_no_span() {
    let text = |text: &str| Some(AnyValue { value: Some(Value::StringValue(text.to_owned())) });
    let pair = |key: &str, value| vec![KeyValue { key: key.to_owned(), value, ..KeyValue::default() }];
    let mut span = proto_span(1);
    span.name = "bad! name".into();
    span.status = Some(proto::Status { message: "bad! status".into(), code: 2 });
    span.attributes = [pair("bad! key", text("x")), pair("value", text("bad! value"))].concat();
    let list = ArrayValue { values: vec![text("bad! member").unwrap()] };
    span.attributes.extend(pair("list", Some(AnyValue { value: Some(Value::ArrayValue(list)) })));
    span.events = vec![proto::span::Event { name: "bad! event".into(), ..Default::default() }];
    let attributes = pair("in", text("bad! link"));
    span.links =
        vec![proto::span::Link { trace_id: vec![1; 16], span_id: vec![1; 8], attributes, ..Default::default() }];
    let mut request = request(vec![span, proto_span(2)]);
    let group = &mut request.resource_spans[0];
    let attributes = pair("service.name", text("bad! service"));
    group.resource = Some(opentelemetry_proto::tonic::resource::v1::Resource { attributes, ..Default::default() });
    group.scope_spans[0].scope = Some(opentelemetry_proto::tonic::common::v1::InstrumentationScope {
        name: "bad! scope".into(),
        ..Default::default()
    });
    let decoded = decode_protobuf(&break_utf8(request.encode_to_vec()), &Limits::default(), now()).unwrap();
    let span = &decoded.spans[0];
    let mended = |rest: &str| format!("\u{fffd}\u{fffd}d! {rest}");
    for (found, rest) in [
        (&span.name, "name"),
        (&span.status_message, "status"),
        (&span.service, "service"),
        (&span.scope, "scope"),
        (&span.events[0].name, "event"),
        (&span.attributes[0].0, "key"),
    ] {
        assert_eq!(**found, *mended(rest));
    }
    assert_eq!(span.attribute("value"), Some(&AttributeValue::String(mended("value").into())));
    assert_eq!(span.links[0].attributes[0].1, AttributeValue::String(mended("link").into()));
    assert_eq!(span.attribute("list"), None, "what cannot be mended in its place is left out");
    assert_eq!(
        (decoded.spans.len(), decoded.tally.trimmed(Trim::Utf8), decoded.tally.trimmed(Trim::Attributes)),
        (2, 8, 1)
    );
    assert!(decoded.tally.message().unwrap().contains("trimmed 8 utf8"));
}

#[test]
fn attributes_that_each_span_has_for_itself_are_read_as_they_are_and_those_that_come_again_are_shared() {
    let value = |at: usize| match at {
        0..400 => format!("own-{at}"),
        _ => format!("one of four: {}", at % 4),
    };
    let span = |at: usize| {
        let attributes = vec![attribute("id", &value(at)), attribute("zone", &format!("z{}", at % 3))];
        proto::Span { attributes, span_id: (at as u64 + 1).to_be_bytes().to_vec(), ..proto_span(1) }
    };
    let body = request((0..1000).map(span).collect()).encode_to_vec();
    let spans = decode_protobuf(&body, &Limits::default(), now()).unwrap().spans;
    for (at, span) in spans.iter().enumerate() {
        assert_eq!(span.text("id"), Some(&*value(at)));
        assert_eq!(span.text("zone"), Some(&*format!("z{}", at % 3)));
    }
    let (table, _) = spans[0].attributes.shared().expect("a table");
    let different = 400 + 4 + 3;
    assert!((different..different + 40).contains(&table.len()), "{} attributes", table.len());
}

#[test]
fn requests_are_told_apart_by_all_that_is_in_them() {
    let (kept, limits) = (KeptByAll::default(), Limits { attributes_per_span: 3, ..Limits::default() });
    let of = |request: &ExportTraceServiceRequest| {
        decode::decode_protobuf_after(&kept, &request.encode_to_vec(), &limits, now()).unwrap().1
    };
    let with = |id: u8, values: [&str; 4]| {
        let attributes = values.into_iter().map(|value| attribute("key", value)).collect();
        proto::Span { attributes, ..proto_span(id) }
    };
    // Of the third span no attribute is read, of the others those past the limit are not.
    let first =
        request(vec![with(1, ["a", "b", "a", "x"]), with(2, ["b", "a", "b", "x"]), with(0, ["a", "b", "c", "x"])]);
    let at_once = kept.take();
    assert_eq!(of(&first), of(&first.clone()));
    kept.give(at_once);
    assert_eq!(of(&first), of(&first.clone()), "by another decoder");
    let changes: [fn(&mut proto::ResourceSpans); 14] = [
        |group| group.scope_spans[0].spans[1].attributes[0] = attribute("key", "a"),
        |group| group.scope_spans[0].spans[1].attributes[0] = attribute("key", "c"),
        |group| group.scope_spans[0].spans[0].attributes.swap(0, 1),
        |group| group.scope_spans[0].spans[0].attributes[3] = attribute("key", "y"),
        |group| group.scope_spans[0].spans[2].attributes[0] = attribute("key", "b"),
        |group| drop(group.scope_spans[0].spans[0].attributes.pop()),
        |group| group.scope_spans[0].spans[1].status = Some(proto::Status { code: 2, ..Default::default() }),
        |group| {
            let moved = group.scope_spans[0].spans[0].attributes.remove(2);
            group.scope_spans[0].spans[1].attributes.insert(0, moved);
        },
        |group| group.schema_url = "s".into(),
        |group| group.scope_spans[0].schema_url = "s".into(),
        |group| group.resource = Some(Default::default()),
        |group| group.scope_spans[0].scope = Some(Default::default()),
        |group| group.scope_spans[0].spans.swap(0, 1),
        |group| group.scope_spans[0].spans[1].dropped_links_count = 1,
    ];
    let mut all = vec![of(&first)];
    for change in changes {
        let mut other = first.clone();
        change(&mut other.resource_spans[0]);
        all.push(of(&other));
    }
    let mut apart = first;
    let last = apart.resource_spans[0].scope_spans[0].spans.pop();
    let scope = proto::ScopeSpans { spans: last.into_iter().collect(), ..Default::default() };
    let group = proto::ResourceSpans { scope_spans: vec![scope.clone()], ..Default::default() };
    all.push(of(&ExportTraceServiceRequest { resource_spans: vec![apart.resource_spans[0].clone(), group] }));
    apart.resource_spans[0].scope_spans.push(scope);
    all.push(of(&apart));
    for (at, one) in all.iter().enumerate() {
        assert!(!all[..at].contains(one), "{at}");
    }
}

#[test]
fn a_resource_after_its_spans_is_theirs_too() {
    let body = format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{}}}],"scope":{{"name":"lib"}}}}],
        "resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"late"}}}}]}}}}]}}"#,
        good_fields(1)
    );
    let span = &json(&body).spans[0];
    assert_eq!((&*span.service, &*span.scope), ("late", "lib"));

    let message = |fields: &[(u32, &[u8])]| {
        let mut message = Vec::new();
        fields.iter().for_each(|(number, body)| wire::put_bytes(*number, body, &mut message));
        message
    };
    let pair = message(&[(1, b"service.name"), (2, &message(&[(1, b"late")]))]);
    let span = proto_span(1).encode_to_vec();
    let scope = message(&[(2, &span), (1, &message(&[(1, b"lib")])), (2, &span)]);
    let body = message(&[(1, &message(&[(2, &scope), (1, &message(&[(1, &pair)]))]))]);
    let decoded = decode_protobuf(&body, &Limits::default(), now()).unwrap();
    assert_eq!(decoded.spans.len(), 2);
    for span in &decoded.spans {
        assert_eq!((&*span.service, &*span.scope), ("late", "lib"));
    }
}

fn fixtures(folder: &str) -> Vec<PathBuf> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/fixtures/otlp")).join(folder);
    let Ok(files) = std::fs::read_dir(&root) else {
        eprintln!("fixtures absent: {}", root.display());
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn decodes_all_trace_fixtures() {
    let mut decoded_files = 0;
    for path in fixtures("traces").into_iter().chain(fixtures("traces-istio")) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut body = std::fs::read(&path).unwrap();
        if name.ends_with(".yaml") {
            let value: serde_json::Value = serde_saphyr::from_str(std::str::from_utf8(&body).unwrap()).unwrap();
            body = serde_json::to_vec(&value).unwrap();
        }
        let decoded = decode_json(&body, &Limits::default(), now()).unwrap_or_else(|error| panic!("{name}: {error}"));
        if name.starts_with("tempo-") {
            assert!(decoded.spans.is_empty() && decoded.warning.is_some(), "{name} is an answer of Tempo, not OTLP");
            continue;
        }
        let in_file = String::from_utf8_lossy(&body).matches("\"spanId\"").count();
        let links: usize = decoded.spans.iter().map(|span| span.links.len()).sum();
        // Two fixtures have placeholder ids, which the specification calls invalid.
        assert_eq!(
            decoded.spans.len() as u64 + links as u64 + decoded.tally.total_rejected(),
            in_file as u64,
            "{name}"
        );
        assert!(!decoded.spans.is_empty(), "{name}: {:?}", decoded.tally);
        decoded_files += 1;
    }
    eprintln!("{decoded_files} fixtures decoded");
}

fn any_proto_attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let value = prop_oneof![
        ".{0,6}".prop_map(Value::StringValue),
        any::<bool>().prop_map(Value::BoolValue),
        any::<i64>().prop_map(Value::IntValue),
        (-1e9..1e9).prop_map(Value::DoubleValue),
        any::<Vec<u8>>().prop_map(Value::BytesValue),
        any::<i64>().prop_map(|number| {
            let item = AnyValue { value: Some(Value::IntValue(number)) };
            Value::ArrayValue(ArrayValue { values: vec![item, AnyValue::default()] })
        }),
    ];
    let pair = ("[ab]{0,2}", proptest::option::of(value)).prop_map(|(key, value)| KeyValue {
        key,
        value: Some(AnyValue { value }),
        ..KeyValue::default()
    });
    proptest::collection::vec(pair, 0..5)
}

prop_compose! {
    fn any_proto_span()(
        (id, parent_bytes, times) in (0_u8..3, 0_usize..10, any::<[u32; 2]>()),
        (name, message) in (".{0,9}", ".{0,9}"),
        (kind, code) in (-1..7, proptest::option::of(-1..4)),
        (attributes, of_event, of_link) in (any_proto_attributes(), any_proto_attributes(), any_proto_attributes()),
        (events, links) in (0_usize..3, 0_usize..3),
    ) -> proto::Span {
        let event = proto::span::Event { time_unix_nano: 5, name: name.clone(), attributes: of_event, ..Default::default() };
        let link = proto::span::Link {
            trace_id: vec![id; 16], span_id: vec![7; 8], attributes: of_link, ..Default::default()
        };
        proto::Span {
            parent_span_id: vec![id; parent_bytes],
            start_time_unix_nano: times[0].into(),
            end_time_unix_nano: times[1].into(),
            name,
            kind,
            status: code.map(|code| proto::Status { code, message }),
            attributes,
            events: vec![event; events],
            links: vec![link; links],
            ..proto_span(id)
        }
    }
}

proptest::proptest! {
    /// The bytes are read in place; prost's decoded form of the same span must say the same.
    #[test]
    fn reading_bytes_in_place_agrees_with_decoding(spans in proptest::collection::vec(any_proto_span(), 0..4)) {
        let limits = Limits {
            attributes_per_span: 3, attribute_bytes_per_span: 30, events_per_span: 1, links_per_span: 1,
            attribute_value_bytes: 8, name_bytes: 6, ..Limits::default()
        };
        let mut decoder = decode::Decoder::new(&limits, now());
        let origin = decoder.origin(Vec::new());
        for span in spans.clone() {
            decoder.push(0, |decoder| Ok::<_, ()>(decoder.span(span, &origin))).unwrap();
        }
        let expected = decoder.finish(None);
        // What is kept from earlier requests changes nothing.
        let (kept, body) = (KeptByAll::default(), request(spans).encode_to_vec());
        let mut fingerprints = Vec::new();
        for _ in 0..4 {
            let (decoded, fingerprint) = decode::decode_protobuf_after(&kept, &body, &limits, now()).unwrap();
            prop_assert_eq!(&decoded, &expected);
            fingerprints.push(fingerprint);
        }
        fingerprints.dedup();
        prop_assert_eq!(fingerprints.len(), 1);
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let _ = decode_protobuf(&bytes, &Limits::default(), now());
        let _ = decode_json(&bytes, &Limits::default(), now());
        let _ = zipkin::decode(&bytes, &Limits::default(), now());
    }

    #[test]
    fn damaged_requests_never_panic_and_never_lose_count(at in 0_usize..400, byte in proptest::num::u8::ANY) {
        let mut bytes = request((1..6).map(proto_span).collect()).encode_to_vec();
        let at = at % bytes.len();
        bytes[at] = byte;
        let decoded = decode_protobuf(&bytes, &Limits::default(), now());
        if let Ok(decoded) = &decoded {
            prop_assert_eq!(decoded.spans.len() as u64 + decoded.tally.total_rejected(), spans_on_the_wire(&bytes));
        }
        // We are laxer than prost only where nothing is read: fields without use, and the rest of a rejected span.
        prop_assert!(decoded.is_ok() || ExportTraceServiceRequest::decode(&*bytes).is_err());
    }
}

/// Spans of a request as prost counts them when it does not look inside.
fn spans_on_the_wire(bytes: &[u8]) -> u64 {
    #[derive(Clone, PartialEq, Message)]
    struct Shape {
        #[prost(message, repeated, tag = "1")]
        groups: Vec<Group>,
    }
    #[derive(Clone, PartialEq, Message)]
    struct Group {
        #[prost(message, repeated, tag = "2")]
        scopes: Vec<Scope>,
    }
    #[derive(Clone, PartialEq, Message)]
    struct Scope {
        #[prost(bytes = "vec", repeated, tag = "2")]
        spans: Vec<Vec<u8>>,
    }
    let Shape { groups } = Shape::decode(bytes).unwrap();
    groups.iter().flat_map(|group| &group.scopes).map(|scope| scope.spans.len() as u64).sum()
}

#[test]
fn a_span_without_ids_is_rejected_before_its_other_fields_are_read() {
    // The trace id's tag turned into that of an attribute: prost refuses the whole request for the attribute's bytes.
    let mut bytes = request((1..6).map(proto_span).collect()).encode_to_vec();
    assert_eq!(bytes[216], 0x0a, "tag of the last trace id");
    bytes[216] = 0x4a;
    let decoded = decode_protobuf(&bytes, &Limits::default(), now()).unwrap();
    assert_eq!((decoded.spans.len(), decoded.tally.rejected(Rejection::TraceId)), (4, 1));
}

// === over sockets ===

/// A receiver whose deliveries are stored as soon as they come.
async fn start(capacity: usize, change: fn(&mut Config)) -> Running<Span> {
    let (running, deliveries) = start_before_store(capacity, change).await;
    running.storing(deliveries)
}

/// A receiver, and the deliveries that wait for a store.
async fn start_before_store(
    capacity: usize,
    change: fn(&mut Config),
) -> (Running<Span>, mpsc::Receiver<Delivery<Span>>) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut config = testing::config();
    change(&mut config);
    let (sink, deliveries) = mpsc::channel(capacity);
    (Running::of(Receiver::bind(config, sink).await.unwrap()), deliveries)
}

type Headers<'a> = &'a [(&'a str, &'a str)];
const JSON_TYPE: (&str, &str) = ("content-type", "application/json; charset=utf-8");

#[tokio::test]
async fn takes_http_in_every_encoding() {
    let mut running = start(16, |_| {}).await;
    // No two are the same, or the second would be known again.
    let protobuf = |id| request(vec![proto_span(id)]).encode_to_vec();
    let text = |id| with_span(&good_fields(id)).into_bytes();
    let zstd = zstd::bulk::compress(&protobuf(3), 1).unwrap();
    let cases: [(Headers<'_>, Vec<u8>, &[u8]); 6] = [
        (&[PROTO_TYPE], protobuf(1), b""),
        (&[PROTO_TYPE, ("content-encoding", "gzip")], gzip(&protobuf(2)), b""),
        (&[PROTO_TYPE, ("content-encoding", "zstd")], zstd, b""),
        (&[PROTO_TYPE, ("content-encoding", "identity")], protobuf(4), b""),
        (&[JSON_TYPE], text(5), b"{}"),
        (&[JSON_TYPE, ("content-encoding", "gzip")], gzip(&text(6)), b"{}"),
    ];
    for (headers, body, expect) in cases {
        let response = running.post("/v1/traces", headers, body).await;
        assert_eq!(response.status(), 200, "{headers:?}");
        let media = headers[0].1.split(';').next().unwrap();
        assert_eq!(response.headers()["content-type"], media);
        assert_eq!(response.bytes().await.unwrap(), expect);
        assert_eq!(running.queue.recv().await.unwrap().len(), 1);
    }
    assert_eq!(running.counters.accepted_spans.load(Relaxed), 6);
    running.stop().await;
}

#[tokio::test]
async fn refuses_bad_http_with_the_right_status() {
    let running = start(16, |config| config.max_request_bytes = ByteSize(10_000)).await;
    let good = request(vec![proto_span(1)]).encode_to_vec();
    let half_gzip = gzip(&good)[..20].to_vec();
    let bomb = gzip(&vec![0; 1_000_000]);
    assert!(bomb.len() < 10_000, "the bomb is small on the wire");
    let gz = ("content-encoding", "gzip");
    let cases: [(&str, Headers<'_>, Vec<u8>, u16); 14] = [
        ("/v1/traces", &[PROTO_TYPE], b"\xff\xff".to_vec(), 400),
        ("/v1/traces", &[JSON_TYPE], b"{".to_vec(), 400),
        ("/v1/traces", &[JSON_TYPE], br#"{"resourceSpans":5}"#.to_vec(), 400),
        ("/v1/traces", &[PROTO_TYPE, gz], half_gzip, 400),
        ("/v1/traces", &[PROTO_TYPE, gz], good.clone(), 400),
        ("/v1/traces", &[PROTO_TYPE, ("content-encoding", "zstd")], good.clone(), 400),
        ("/v1/traces", &[PROTO_TYPE], vec![0; 20_000], 413),
        ("/v1/traces", &[PROTO_TYPE, gz], bomb, 413),
        ("/v1/traces", &[("content-type", "text/plain")], good.clone(), 415),
        ("/v1/traces", &[], good.clone(), 415),
        ("/v1/traces", &[PROTO_TYPE, ("content-encoding", "br")], good, 415),
        ("/v1/metrics", &[PROTO_TYPE], vec![], 501),
        ("/v1/nothing", &[PROTO_TYPE], vec![], 404),
        ("/api/v2/spans", &[JSON_TYPE], b"{}".to_vec(), 400),
    ];
    for (path, headers, body, expect) in cases {
        let response = running.post(path, headers, body).await;
        assert_eq!(response.status(), expect, "{path} {headers:?}");
        let body = response.bytes().await.unwrap();
        match headers.first() {
            Some(&PROTO_TYPE) if path == "/v1/traces" => {
                let status = status::Status::decode(body).unwrap();
                assert!(status.code != 0 && !status.message.is_empty(), "{path} {headers:?}");
            }
            Some(&JSON_TYPE) => assert!(String::from_utf8_lossy(&body).contains("\"message\":"), "{path}"),
            _ => {}
        }
    }
    let get = reqwest::get(format!("{}/v1/traces", running.http)).await.unwrap();
    assert_eq!(get.status(), 405);
    let counted = [&running.counters.malformed_requests, &running.counters.oversized_requests];
    assert_eq!(counted.map(|counter| counter.load(Relaxed)), [7, 2]);
    running.stop().await;
}

#[tokio::test]
async fn reports_rejected_spans_as_partial_success() {
    let mut running = start(16, |_| {}).await;
    let mut zero = proto_span(1);
    zero.trace_id = vec![0; 16];
    let body = request(vec![zero, proto_span(2)]).encode_to_vec();
    let response = running.post("/v1/traces", &[PROTO_TYPE], body).await;
    assert_eq!(response.status(), 200);
    let partial = ExportTraceServiceResponse::decode(response.bytes().await.unwrap()).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_spans, 1);
    assert!(partial.error_message.contains("trace id"), "{}", partial.error_message);
    assert_eq!(running.queue.recv().await.unwrap().len(), 1);
    let all_bad = with_span(r#""traceId":"00","spanId":"00""#).into_bytes();
    let text = running.post("/v1/traces", &[JSON_TYPE], all_bad).await.text().await.unwrap();
    assert!(text.starts_with(r#"{"partialSuccess":{"errorMessage":"#), "{text}");
    assert_eq!(running.counters.rejected_spans(Rejection::TraceId), 2);
    running.stop().await;
}

#[tokio::test]
async fn a_full_queue_tells_clients_to_retry() {
    let (running, mut deliveries) = start_before_store(1, |_| {}).await;
    let running = Arc::new(running);
    let post = |running: &Arc<Running<Span>>, id| {
        let (running, body) = (Arc::clone(running), request(vec![proto_span(id)]).encode_to_vec());
        tokio::spawn(async move { running.post("/v1/traces", &[PROTO_TYPE], body).await })
    };
    let first = post(&running, 1);
    eventually(|| running.counters.accepted_spans.load(Relaxed) == 1).await;
    let refused = post(&running, 2).await.unwrap();
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (503, "1"));
    let mut client = TraceServiceClient::connect(running.grpc.clone()).await.unwrap();
    let error = client.export(request(vec![proto_span(3)])).await.unwrap_err();
    assert_retry(&error);
    assert_eq!(running.counters.refused_spans.load(Relaxed), 2);
    deliveries.recv().await.unwrap().receipt.settle(Verdict::Stored);
    assert_eq!(first.await.unwrap().status(), 200);
    let second = post(&running, 2);
    deliveries.recv().await.unwrap().receipt.settle(Verdict::Stored);
    assert_eq!(second.await.unwrap().status(), 200, "room again");
    drop(client);
    Arc::into_inner(running).unwrap().stop().await;
}

/// Looks again and again until it holds.
async fn eventually(holds: impl Fn() -> bool) {
    let looking = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), looking).await.expect("it holds in time");
}

fn assert_retry(error: &tonic::Status) {
    assert_eq!(error.code(), tonic::Code::Unavailable);
    let status = status::Status::decode(error.details()).unwrap();
    assert_eq!(status.details[0].type_url, "type.googleapis.com/google.rpc.RetryInfo");
    let info = status::RetryInfo::decode(&*status.details[0].value).unwrap();
    assert_eq!(info.retry_delay.map(|delay| delay.seconds), Some(1));
}

#[tokio::test]
async fn a_request_is_answered_when_the_store_has_it_and_refused_when_it_has_not() {
    let (running, mut deliveries) = start_before_store(16, |config| {
        config.acknowledge_timeout = Duration::from_millis(300).into();
        config.max_concurrent_requests = 1;
    })
    .await;
    let client = TraceServiceClient::connect(running.grpc.clone()).await.unwrap();
    for (id, verdict, http, grpc) in [
        (1, Some(Verdict::Stored), 200, tonic::Code::Ok),
        (3, Some(Verdict::Refused), 500, tonic::Code::Internal),
        (5, Some(Verdict::Lost), 503, tonic::Code::Unavailable),
        (7, None, 503, tonic::Code::Unavailable),
    ] {
        let by_http = running.post("/v1/traces", &[PROTO_TYPE], request(vec![proto_span(id)]).encode_to_vec());
        let mut client = client.clone();
        let by_grpc = client.export(request(vec![proto_span(id + 1)]));
        // Both are in the queue at once, though only one request is decoded at a time: waiting takes no turn.
        let store = async {
            let both = [deliveries.recv().await.unwrap(), deliveries.recv().await.unwrap()];
            match verdict {
                Some(verdict) => both.into_iter().for_each(|delivery| delivery.receipt.settle(verdict)),
                None => tokio::time::sleep(Duration::from_millis(500)).await,
            }
        };
        let (by_http, by_grpc, _) = tokio::join!(by_http, by_grpc, store);
        assert_eq!(by_http.status(), http, "{verdict:?}");
        assert_eq!(by_http.headers().contains_key("retry-after"), http == 503, "{verdict:?}");
        assert_eq!(by_grpc.as_ref().map_or_else(tonic::Status::code, |_| tonic::Code::Ok), grpc, "{verdict:?}");
        if http == 503 {
            assert_retry(&by_grpc.unwrap_err());
        }
    }
    assert_eq!(
        (running.counters.accepted_spans.load(Relaxed), running.counters.unstored_requests.load(Relaxed)),
        (8, 6)
    );
    drop(client);
    running.stop().await;
}

#[tokio::test]
async fn a_request_that_is_sent_again_is_queued_and_counted_once() {
    let quick = |config: &mut Config| config.acknowledge_timeout = Duration::from_millis(200).into();
    let (running, mut deliveries) = start_before_store(16, quick).await;
    let mut zero = proto_span(1);
    zero.trace_id = vec![0; 16];
    let sent = request(vec![zero, proto_span(2)]);
    let body = sent.encode_to_vec();
    assert_eq!(running.post("/v1/traces", &[PROTO_TYPE], body.clone()).await.status(), 503, "it is on its way");
    let gz: Headers<'_> = &[PROTO_TYPE, ("content-encoding", "gzip")];
    assert_eq!(running.post("/v1/traces", gz, gzip(&body)).await.status(), 503, "it still is");
    let Delivery { items, receipt } = deliveries.recv().await.unwrap();
    assert_eq!(items.len(), 1);
    receipt.settle(Verdict::Stored);
    // Whoever comes again hears what became of it the first time, also what was wrong with it.
    let mut client = TraceServiceClient::connect(running.grpc.clone()).await.unwrap();
    let partial = client.export(sent).await.unwrap().into_inner().partial_success;
    assert_eq!(partial.map(|partial| partial.rejected_spans), Some(1));
    let accepted = running.counters.accepted_spans.load(Relaxed);
    let rejected = running.counters.rejected_spans(Rejection::TraceId);
    assert_eq!((accepted, rejected, running.counters.repeated_requests.load(Relaxed)), (1, 1, 2));

    // What was lost is taken as new; so is what says the same of other spans.
    let lost = request(vec![proto_span(3)]).encode_to_vec();
    for _ in 0..2 {
        let post = running.post("/v1/traces", &[PROTO_TYPE], lost.clone());
        let (answer, _) = tokio::join!(post, async { drop(deliveries.recv().await.unwrap()) });
        assert_eq!(answer.status(), 503);
    }
    let other = request(vec![proto_span(4)]).encode_to_vec();
    let post = running.post("/v1/traces", &[PROTO_TYPE], other);
    let store = async { deliveries.recv().await.unwrap().receipt.settle(Verdict::Stored) };
    assert_eq!(tokio::join!(post, store).0.status(), 200);
    assert!(deliveries.try_recv().is_err(), "nothing else was queued");
    assert_eq!(running.counters.repeated_requests.load(Relaxed), 2);
    drop(client);
    running.stop().await;
}

#[tokio::test]
async fn requests_that_wait_for_the_store_are_bounded() {
    let (running, mut deliveries) = start_before_store(16, |config| config.max_waiting_requests = 1).await;
    let body = request(vec![proto_span(1)]);
    let first = running.post("/v1/traces", &[PROTO_TYPE], body.encode_to_vec());
    let others = async {
        let waits = deliveries.recv().await.unwrap();
        let refused = running.post("/v1/traces", &[PROTO_TYPE], body.encode_to_vec()).await;
        waits.receipt.settle(Verdict::Stored);
        refused
    };
    let (first, refused) = tokio::join!(first, others);
    assert_eq!((first.status().as_u16(), refused.status().as_u16()), (200, 503));
    running.stop().await;
}

#[tokio::test]
async fn takes_grpc_compressed_or_not_and_refuses_what_is_too_large() {
    use tonic::codec::CompressionEncoding::{Gzip, Zstd};
    let mut running = start(16, |config| config.max_request_bytes = ByteSize(100_000)).await;
    let client = TraceServiceClient::connect(running.grpc.clone()).await.unwrap();
    let clients = [client.clone(), client.clone().send_compressed(Gzip), client.clone().send_compressed(Zstd)];
    for (id, mut client) in (10..).zip(clients) {
        let response = client.export(request(vec![proto_span(1), proto_span(id)])).await.unwrap().into_inner();
        assert_eq!(response.partial_success, None);
        assert_eq!(running.queue.recv().await.unwrap().len(), 2);
        let mut large = proto_span(3);
        large.name = "x".repeat(200_000);
        let error = client.export(request(vec![large])).await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::ResourceExhausted, "{error}");
    }
    let mut logs = LogsServiceClient::connect(running.grpc.clone()).await.unwrap();
    let error = logs.export(ExportLogsServiceRequest::default()).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::Unimplemented);
    assert!(error.message().contains("logs are not taken here"));
    drop((client, logs));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn takes_spans_of_the_opentelemetry_sdk() {
    use opentelemetry::trace::{Span as _, SpanKind as SdkKind, Tracer, TracerProvider};
    use opentelemetry_otlp::WithExportConfig;
    let mut running = start(16, |_| {}).await;
    let exporter =
        opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(&running.grpc).build().unwrap();
    let resource = opentelemetry_sdk::Resource::builder().with_service_name("checkout").build();
    let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource)
        .build();
    let mut sent = provider.tracer("lib").span_builder("pay").with_kind(SdkKind::Client).start(&provider.tracer("lib"));
    sent.set_attribute(opentelemetry::KeyValue::new("amount", 12));
    sent.add_event("retry", vec![]);
    sent.end();
    tokio::task::spawn_blocking(move || provider.shutdown()).await.unwrap().unwrap();
    let span = running.queue.recv().await.unwrap().remove(0);
    assert_eq!((&*span.service, &*span.name, &*span.scope, span.kind), ("checkout", "pay", "lib", SpanKind::Client));
    assert_eq!(span.attribute("amount"), Some(&AttributeValue::Int(12)));
    assert_eq!((span.events.len(), span.parent_id), (1, None));
    running.stop().await;
}

#[tokio::test]
async fn takes_zipkin_spans() {
    let mut running = start(16, |_| {}).await;
    let body = r#"[
      {"traceId":"a1","id":"1","name":"get","kind":"CLIENT","timestamp":1700000000000000,"duration":250,
       "localEndpoint":{"serviceName":"front"},"remoteEndpoint":{"ipv4":"10.0.0.9","port":80},"tags":{"http.status_code":"503","error":"true"}},
      {"traceId":"a1","id":"1","kind":"SERVER","shared":true,"timestamp":1700000000000050,"duration":100,"localEndpoint":{"serviceName":"back"}},
      {"traceId":"zz","id":"2","timestamp":1700000000000000},
      {"traceId":"a1","id":"123456789012345678","timestamp":1700000000000000}
    ]"#;
    let response = running.post("/api/v2/spans", &[JSON_TYPE], body.into()).await;
    assert_eq!(response.status(), 202);
    let spans = running.queue.recv().await.unwrap();
    let find = |service: &str| spans.iter().find(|span| &*span.service == service).unwrap();
    let (client, server) = (find("front"), find("back"));
    assert_eq!((client.kind, client.status, client.duration_ns), (SpanKind::Client, SpanStatus::Error, 250_000));
    assert_eq!((server.kind, server.parent_id), (SpanKind::Server, Some(client.span_id)));
    assert_ne!(server.span_id, client.span_id);
    assert_eq!(hex(&client.trace_id), format!("{:032x}", 0xa1));
    assert_eq!(spans.len(), 2);
    assert_eq!(running.counters.rejected_spans(Rejection::TraceId), 1);
    assert_eq!(running.counters.rejected_spans(Rejection::SpanId), 1);
    running.stop().await;
}

#[tokio::test]
async fn takes_zipkin_spans_as_lenient_clients_write_them() {
    let mut running = start(16, |_| {}).await;
    let body = r#"[
      {"traceId":"a1","id":"1","timestamp":"1700000000000000","duration":250.0,"annotations":null,
       "localEndpoint":{"serviceName":"front","port":"80"},"tags":{"http.status_code":503,"retried":true,"none":null}},
      {"traceId":"a1","id":"2","timestamp":1.7e15,"duration":null,"localEndpoint":{"serviceName":"back"},"tags":null}
    ]"#;
    let response = running.post("/api/v2/spans", &[JSON_TYPE], body.into()).await;
    assert_eq!(response.status(), 202);
    let spans = running.queue.recv().await.unwrap();
    let find = |service: &str| spans.iter().find(|span| &*span.service == service).unwrap();
    let (front, back) = (find("front"), find("back"));
    assert_eq!((front.start_ns, front.duration_ns), (back.start_ns, 250_000));
    assert_eq!(front.attribute("http.status_code"), Some(&AttributeValue::String("503".into())));
    assert_eq!(front.attribute("retried"), Some(&AttributeValue::String("true".into())));
    assert_eq!(front.attribute("none"), None);
    running.stop().await;
}

#[tokio::test]
async fn a_taken_address_is_named_with_its_key() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = Config { http_listen: taken.local_addr().unwrap(), ..Config::default() };
    let config = Config { grpc_listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..config };
    let error = Receiver::bind(config, mpsc::channel(1).0).await.err().unwrap();
    assert!(matches!(&error, ReceiverError::Bind { key: "otlp.http_listen", .. }), "{error}");
}

#[test]
fn reads_its_configuration_and_refuses_unknown_keys() {
    let config: Config =
        serde_saphyr::from_str("grpc_listen: 0.0.0.0:14317\nlimits: {attributes_per_span: 5}").unwrap();
    assert_eq!((config.grpc_listen.port(), config.limits.attributes_per_span), (14317, 5));
    assert_eq!(config.http_listen, Config::default().http_listen);
    assert!(serde_saphyr::from_str::<Config>("grpc_lisen: 1").is_err());
}
