//! Logs: decoding, refusals by reason, both transports over real sockets, and the records of real senders.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::common::v1::KeyValueList;
use opentelemetry_proto::tonic::logs::v1 as proto;
use opentelemetry_proto::tonic::resource::v1::Resource;
use proptest::prelude::*;
use prost::Message;
use tokio::sync::mpsc;

use super::*;
use crate::access_logs::{Reason, ends_of};
use crate::batching::{Delivery, Verdict};
use crate::model::span::hex;
use crate::otlp::testing::{self, PROTO_TYPE, Running, gzip};
use crate::otlp::{Config, Receiver, status};
use crate::units::ByteSize;

const LINE: &str = "[2026-01-15T10:00:00.000Z] \"GET /pay HTTP/1.1\" 503 UH no_healthy_upstream - \"-\" 0 19 12 - \"-\" \
    \"curl/8\" \"r-1\" \"cart:8080\" \"-\" outbound|8080||cart.shop.svc.cluster.local - 10.96.0.1:8080 10.0.0.1:34402 - default\n";

fn now() -> Timestamp {
    Timestamp::from_millis(1_768_471_200_000)
}

fn text(text: &str) -> AnyValue {
    AnyValue { value: Some(Value::StringValue(text.to_owned())) }
}

fn pair(key: &str, value: AnyValue) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

fn line() -> proto::LogRecord {
    let time_unix_nano = 1_768_471_200_000_000_000;
    proto::LogRecord { time_unix_nano, body: Some(text(LINE)), ..proto::LogRecord::default() }
}

fn request(log_records: Vec<proto::LogRecord>) -> ExportLogsServiceRequest {
    let attributes = vec![pair("k8s.pod.name", text("frontend-v1-6f89b6c557-sg2bc")), pair("namespace", text("shop"))];
    let scope_logs = vec![proto::ScopeLogs { log_records, ..proto::ScopeLogs::default() }];
    let resource = Some(Resource { attributes, ..Resource::default() });
    let resource_logs = vec![proto::ResourceLogs { resource, scope_logs, ..proto::ResourceLogs::default() }];
    ExportLogsServiceRequest { resource_logs }
}

fn decoded(log_records: Vec<proto::LogRecord>, limits: &Limits) -> DecodedLogs {
    decode_logs_protobuf(&request(log_records).encode_to_vec(), &Reader::new(&[]), limits, now()).unwrap()
}

fn json(body: &str) -> Result<DecodedLogs, LogsError> {
    decode_logs_json(body.as_bytes(), &Reader::new(&[]), &Limits::default(), now())
}

#[test]
fn a_line_a_map_and_attributes_are_read_in_place() {
    let map = [
        ("response_code", text("503")),
        ("response_flags", text("UH")),
        ("duration", AnyValue { value: Some(Value::IntValue(12)) }),
    ];
    let values: Vec<KeyValue> = map.into_iter().map(|(key, value)| pair(key, value)).collect();
    let list = AnyValue { value: Some(Value::KvlistValue(KeyValueList { values: values.clone() })) };
    let records = vec![
        line(),
        proto::LogRecord { body: Some(list), ..line() },
        proto::LogRecord { body: None, attributes: values, ..line() },
    ];
    let decoded = decoded(records, &Limits::default());
    assert_eq!(decoded.tally, LogTally::default());
    let seen: Vec<(u16, Reason, Option<u64>)> =
        decoded.records.iter().map(|record| (record.code, record.reason, record.duration_ms)).collect();
    assert_eq!(seen, [(503, Reason::NoHealthyUpstream, Some(12)); 3]);
    assert_eq!(ends_of(&decoded.records[0]), ["shop/frontend-v1", "", "shop/cart"]);
}

#[test]
fn what_is_wrong_is_refused_or_mended_by_reason_and_the_rest_kept() {
    let with = |change: fn(&mut proto::LogRecord)| {
        let mut record = line();
        change(&mut record);
        record
    };
    let records = vec![
        with(|r| r.body = Some(text("user logged in"))),
        with(|r| r.time_unix_nano = u64::MAX),
        with(|r| r.attributes = vec![pair("path", text(&"x".repeat(2 << 20)))]),
        with(|r| r.trace_id = vec![1; 7]),
        with(|r| (r.trace_id, r.span_id) = (vec![0; 16], vec![0; 8])),
        with(|r| (r.trace_id, r.span_id) = (vec![2; 16], vec![3; 8])),
        with(|r| r.time_unix_nano = 1),
        with(|r| r.severity_number = 99),
        with(|r| (r.time_unix_nano, r.body) = (0, Some(text(&LINE.replace("[2026-01-15T10:00:00.000Z]", "[-]"))))),
        with(|r| r.attributes = (0..100_000).map(|at| pair(&at.to_string(), AnyValue::default())).collect()),
        with(|r| r.attributes = vec![pair("downstream_peer", text(&"é".repeat(10_000)))]),
    ];
    let decoded = decoded(records, &Limits::default());
    assert_eq!(LogRejection::ALL.map(|reason| decoded.tally.rejected(reason)), [1, 1, 0, 2], "{:?}", decoded.tally);
    assert_eq!(LogTrim::ALL.map(|what| decoded.tally.trimmed(what)), [1, 1, 0, 1, 0]);
    let ids: Vec<bool> = decoded.records.iter().map(|record| record.trace_id.is_some()).collect();
    assert_eq!(ids, [false, false, true, false, false, false, false]);
    assert_eq!(decoded.records[3].at_ns, 1, "1970 is a time");
    assert_eq!(decoded.records[5].at_ns, 1_768_471_200_000_000_000, "without any time, now");
    let message = decoded.tally.message().unwrap();
    assert!(message.starts_with("log records: rejected 1 that are no access logs"), "{message}");

    let few = Limits { spans_per_request: 2, attributes_per_span: 3, span_bytes: 8 << 20, ..Limits::default() };
    let attributes = (0..10).map(|at| pair(&at.to_string(), AnyValue::default())).collect();
    let many = self::decoded(vec![proto::LogRecord { attributes, ..line() }, line(), line()], &few);
    assert_eq!((many.records.len(), many.tally.rejected(LogRejection::RecordLimit)), (2, 1));
    assert_eq!(many.tally.trimmed(LogTrim::Attributes), 7);
}

#[test]
fn bodies_that_are_none_are_refused_whole() {
    let reader = Reader::new(&[]);
    let protobuf = |body: &[u8]| decode_logs_protobuf(body, &reader, &Limits::default(), now());
    assert!(matches!(protobuf(b"\xff\xff"), Err(LogsError::Protobuf(_))));
    let mut broken = request(vec![line()]).encode_to_vec();
    let at = broken.windows(4).position(|window| window == b"curl").unwrap();
    broken[at] = 0xff;
    let mended = protobuf(&broken).unwrap();
    assert_eq!(
        (mended.records.len(), mended.tally.trimmed(LogTrim::Utf8)),
        (1, 1),
        "a text that is not UTF-8 is mended"
    );
    assert_eq!(mended.records[0].detail(crate::access_logs::Detail::UserAgent), Some("\u{fffd}url/8"));
    for (body, wrong) in [
        ("{", "line 1 column 1"),
        (r#"{"resourceLogs":5}"#, "expected a sequence"),
        (r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"soon"}]}]}]}"#, "soon"),
        (r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":"text"}]}]}]}"#, "expected an object"),
    ] {
        let error = json(body).unwrap_err().to_string();
        assert!(error.contains("not an ExportLogsServiceRequest in OTLP/JSON") && error.contains(wrong), "{error}");
    }
    assert!(json(r#"{"resource_logs":[]}"#).unwrap().warning.unwrap().contains("lowerCamelCase"));
    assert_eq!(json("{}").unwrap(), DecodedLogs::default());
}

fn fixture(name: &str) -> Option<String> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/fixtures/otlp")).join(name);
    let text = std::fs::read_to_string(&path).ok();
    if text.is_none() {
        eprintln!("fixtures absent: {}", path.display());
    }
    text
}

#[test]
fn the_record_of_a_real_provider_tells_what_it_told_its_backend() {
    let Some(body) = fixture("access-logs/istio-otel-als-record.derived.otlp.json") else { return };
    let decoded = json(&body).unwrap();
    assert_eq!((decoded.records.len(), &decoded.tally), (1, &LogTally::default()));
    let record = &decoded.records[0];
    assert_eq!(ends_of(record), ["demo/otel-checkoutservice", "", "demo/otel-currencyservice"]);
    assert_eq!((record.code, record.reason, record.duration_ms), (200, Reason::Answered, Some(7)));
    assert_eq!((record.request_bytes, record.response_bytes, record.upstream_ms), (26, 19, Some(6)));
    assert_eq!(record.trace_id.map(|id| hex(&id)).as_deref(), Some("7ffa505b8e9a17e6e48a222bf9a2b527"));
    assert_eq!(record.source.version.as_deref(), Some("latest"));
    let golden: serde_json::Value = serde_json::from_str(include_str!("golden.json")).unwrap();
    let details: serde_json::Map<String, serde_json::Value> =
        record.details.iter().map(|(detail, text)| (detail.as_str().to_owned(), text.to_string().into())).collect();
    assert_eq!(serde_json::Value::Object(details), golden);
}

#[test]
fn logs_of_other_kinds_are_told_apart() {
    let Some(body) = fixture("logs/otel-example-logs.json") else { return };
    let application = json(&body).unwrap();
    assert_eq!((application.records.len(), application.tally.rejected(LogRejection::NotAccessLog)), (0, 1));
    // Envoy's own JSON, as a collector reads it from a file and sends it on.
    let Some(body) = fixture("access-logs/envoy-gateway-access.json") else { return };
    let decoded = decoded(vec![proto::LogRecord { body: Some(text(&body)), ..line() }], &Limits::default());
    let record = &decoded.records[0];
    assert_eq!(
        (record.code, record.reason, record.service.host.as_deref()),
        (500, Reason::DirectResponse, Some("www.example.com"))
    );
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..300), at in any::<usize>(), byte in any::<u8>()) {
        let reader = Reader::new(&[]);
        let _ = decode_logs_protobuf(&body, &reader, &Limits::default(), now());
        let _ = decode_logs_json(&body, &reader, &Limits::default(), now());
        let mut one_off = request(vec![line(), line()]).encode_to_vec();
        let at = at % one_off.len();
        one_off[at] = byte;
        if let Ok(decoded) = decode_logs_protobuf(&one_off, &reader, &Limits::default(), now()) {
            prop_assert!(decoded.records.len() as u64 + decoded.tally.total_rejected() <= 2);
        }
    }
}

// === over sockets ===

/// A receiver whose deliveries are stored as soon as they come.
async fn start(capacity: usize) -> Running<AccessRecord> {
    let (running, deliveries) = start_before_store(capacity).await;
    running.storing(deliveries)
}

/// A receiver, and the deliveries that wait for a store.
async fn start_before_store(capacity: usize) -> (Running<AccessRecord>, mpsc::Receiver<Delivery<AccessRecord>>) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = Config { max_request_bytes: ByteSize(100_000), ..testing::config() };
    let (sink, deliveries) = mpsc::channel(capacity);
    let receiver = Receiver::bind(config, mpsc::channel(1).0).await.unwrap();
    (Running::of(receiver.taking_access_logs(Reader::new(&[]), sink)), deliveries)
}

const JSON_TYPE: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn takes_http_in_every_encoding_and_tells_what_it_left_out() {
    let mut running = start(16).await;
    let protobuf = request(vec![line()]).encode_to_vec();
    let record = serde_json::json!({ "timeUnixNano": "1768471200000000000", "body": { "stringValue": LINE } });
    let body = serde_json::json!({ "resourceLogs": [{ "scopeLogs": [{ "logRecords": [record] }] }] }).to_string();
    let (zstd, gz) = (zstd::bulk::compress(&protobuf, 1).unwrap(), gzip(&protobuf));
    for (headers, body) in [
        (vec![PROTO_TYPE], protobuf),
        (vec![PROTO_TYPE, ("content-encoding", "gzip")], gz),
        (vec![PROTO_TYPE, ("content-encoding", "zstd")], zstd),
        (vec![JSON_TYPE], body.into_bytes()),
    ] {
        let response = running.post("/v1/logs", &headers, body).await;
        assert_eq!(response.status(), 200, "{headers:?}");
        assert!(matches!(&*response.bytes().await.unwrap(), b"" | b"{}"));
        assert_eq!(running.queue.recv().await.unwrap().len(), 1);
    }
    let other = proto::LogRecord { body: Some(text("hello")), ..line() };
    let response = running.post("/v1/logs", &[PROTO_TYPE], request(vec![other, line()]).encode_to_vec()).await;
    let partial = ExportLogsServiceResponse::decode(response.bytes().await.unwrap()).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_log_records, 1);
    assert!(partial.error_message.contains("no access logs"), "{}", partial.error_message);
    let all_other = br#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{}]}]}]}"#.to_vec();
    let text = running.post("/v1/logs", &[JSON_TYPE], all_other).await.text().await.unwrap();
    assert!(text.contains(r#""rejectedLogRecords":"1""#), "{text}");
    assert_eq!(running.counters.accepted_log_records.load(Relaxed), 5);
    assert_eq!(running.counters.rejected_log_records(LogRejection::NotAccessLog), 2);
    running.stop().await;
}

#[tokio::test]
async fn refuses_bad_http_with_the_right_status() {
    let running = start(16).await;
    let good = request(vec![line()]).encode_to_vec();
    let bomb = gzip(&vec![0; 10_000_000]);
    let gz = ("content-encoding", "gzip");
    for (headers, body, expect) in [
        (vec![PROTO_TYPE], b"\xff\xff".to_vec(), 400),
        (vec![JSON_TYPE], b"{".to_vec(), 400),
        (vec![PROTO_TYPE, gz], gzip(&good)[..20].to_vec(), 400),
        (vec![PROTO_TYPE], vec![0; 200_000], 413),
        (vec![PROTO_TYPE, gz], bomb, 413),
        (vec![("content-type", "text/plain")], good.clone(), 415),
        (vec![PROTO_TYPE, ("content-encoding", "br")], good, 415),
    ] {
        assert_eq!(running.post("/v1/logs", &headers, body).await.status(), expect, "{headers:?}");
    }
    running.stop().await;
}

#[tokio::test]
async fn takes_grpc_and_tells_clients_to_retry_when_the_queue_is_full() {
    use tonic::codec::CompressionEncoding::{Gzip, Zstd};
    let mut running = start(1).await;
    let client = LogsServiceClient::connect(running.grpc.clone()).await.unwrap();
    for mut client in [client.clone(), client.clone().send_compressed(Gzip), client.clone().send_compressed(Zstd)] {
        let response = client.export(request(vec![line(), line()])).await.unwrap().into_inner();
        assert_eq!(response.partial_success, None);
        assert_eq!(running.queue.recv().await.unwrap().len(), 2);
    }
    drop(client);
    running.stop().await;

    let (running, mut deliveries) = start_before_store(1).await;
    let mut client = LogsServiceClient::connect(running.grpc.clone()).await.unwrap();
    let mut waiting = client.clone();
    let first = tokio::spawn(async move { waiting.export(request(vec![line()])).await });
    while running.counters.accepted_log_records.load(Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let error = client.export(request(vec![line()])).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::Unavailable);
    let status = status::Status::decode(error.details()).unwrap();
    assert_eq!(status.details[0].type_url, "type.googleapis.com/google.rpc.RetryInfo");
    let refused = running.post("/v1/logs", &[PROTO_TYPE], request(vec![line()]).encode_to_vec()).await;
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (503, "1"));
    assert_eq!(running.counters.refused_log_records.load(Relaxed), 2);
    deliveries.recv().await.unwrap().receipt.settle(Verdict::Stored);
    first.await.unwrap().expect("taken when it is stored");
    let large = proto::LogRecord { body: Some(text(&"x".repeat(200_000))), ..line() };
    assert_eq!(client.export(request(vec![large])).await.unwrap_err().code(), tonic::Code::ResourceExhausted);
    drop(client);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_method_that_is_none_is_named() {
    let running = start(1).await;
    let mut channel = tonic::transport::Channel::from_shared(running.grpc.clone()).unwrap().connect().await.unwrap();
    let mut request = http::Request::new(tonic::body::Body::empty());
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = "/opentelemetry.proto.collector.logs.v1.LogsService/Import".parse().unwrap();
    request.headers_mut().insert("content-type", http::HeaderValue::from_static("application/grpc"));
    use tower::{Service as _, ServiceExt as _};
    let response = channel.ready().await.unwrap().call(request).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "12");
    drop(channel);
    running.stop().await;
}
