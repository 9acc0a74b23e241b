//! Spans as nobody should send them, through the real receivers of both transports: refused or trimmed, counted by reason,
//! and the rest of their request is kept, shown and outlives maintenance.

use std::io::Write;

use meshscope::clock::Clock;
use meshscope::store::RetentionConfig;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;

use crate::api_tempo::ask;
use crate::app::{TestApp, eventually};
use crate::postgres;

/// 1 January 2100.
const YEAR_2100_NS: u64 = 4_102_444_800_000_000_000;
/// What each case sends besides: a span that nothing is wrong with.
const GOOD: u64 = 0x600d;

fn span(trace: u8, id: u64, parent: u64) -> Span {
    let start = u64::try_from(Clock::system().now().as_millis()).expect("after 1970") * 1_000_000 - 1_000_000_000;
    Span {
        trace_id: vec![trace; 16],
        span_id: id.to_be_bytes().to_vec(),
        parent_span_id: if parent == 0 { Vec::new() } else { parent.to_be_bytes().to_vec() },
        name: "op".to_owned(),
        kind: 2,
        start_time_unix_nano: start,
        end_time_unix_nano: start + 1_000_000,
        ..Span::default()
    }
}

/// An attribute whose value is a text of that many bytes.
fn text(key: &str, bytes: usize) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue("x".repeat(bytes))) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn request(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }] }
}

/// Spans rejected and the message of the partial success. On a busy machine the store may take its time: then it is sent again,
/// as exporters do.
async fn by_grpc(app: &TestApp, sent: &ExportTraceServiceRequest) -> (i64, String) {
    let client = TraceServiceClient::connect(format!("http://{}", app.grpc)).await.expect("connect");
    let answer = eventually("the request is taken", async || match client.clone().export(sent.clone()).await {
        Ok(answer) => Some(answer.into_inner()),
        Err(status) => {
            assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
            None
        }
    });
    let partial = answer.await.partial_success.unwrap_or_default();
    (partial.rejected_spans, partial.error_message)
}

async fn by_http(app: &TestApp, sent: &ExportTraceServiceRequest) -> (i64, String) {
    let body = eventually("the request is taken", async || {
        let (status, body) = post(app, ("application/x-protobuf", ""), sent.encode_to_vec()).await;
        assert!(matches!(status, 200 | 503), "{status}");
        (status == 200).then_some(body)
    });
    let answer = ExportTraceServiceResponse::decode(&*body.await).expect("an answer of OTLP");
    let partial = answer.partial_success.unwrap_or_default();
    (partial.rejected_spans, partial.error_message)
}

async fn post(app: &TestApp, (kind, encoding): (&str, &str), body: Vec<u8>) -> (u16, Vec<u8>) {
    let post = reqwest::Client::new().post(format!("http://{}/v1/traces", app.http)).header("content-type", kind);
    let post = if encoding.is_empty() { post } else { post.header("content-encoding", encoding) };
    let answer = post.body(body).send().await.expect("an answer");
    (answer.status().as_u16(), answer.bytes().await.expect("a body").to_vec())
}

/// How many spans of a trace are read.
async fn spans_of(app: &TestApp, trace: u8) -> usize {
    let (status, found) = ask(app, &format!("/tempo/api/traces/{}", format!("{trace:02x}").repeat(16)), &[]).await;
    assert_eq!(status, 200, "trace {trace}: {found}");
    let scopes = found["batches"].as_array().into_iter().flatten().filter_map(|batch| batch["scopeSpans"].as_array());
    scopes.flatten().filter_map(|scope| scope["spans"].as_array()).map(Vec::len).sum()
}

struct Case {
    what: &'static str,
    /// Of trace `trace`, besides the good one.
    bad: fn(trace: u8) -> Vec<Span>,
    rejected: i64,
    /// What the answer says.
    message: &'static str,
    /// Spans of the trace that are kept, the good one included.
    kept: usize,
}

const CASES: [Case; 11] = [
    Case {
        what: "an attribute of 10 MB",
        bad: |trace| vec![Span { attributes: vec![text("big", 10 << 20)], ..span(trace, 1, 0) }],
        rejected: 1,
        message: "otlp.limits.span_bytes",
        kept: 1,
    },
    Case {
        what: "an attribute of 500 kB",
        bad: |trace| vec![Span { attributes: vec![text("big", 500_000)], ..span(trace, 1, 0) }],
        rejected: 0,
        message: "trimmed 1 text",
        kept: 2,
    },
    Case {
        what: "100,000 attributes",
        bad: |trace| {
            let name = |at: u32| -> String {
                [at / 3600, at / 60 % 60, at % 60].map(|digit| char::from(b'0' + digit as u8)).iter().collect()
            };
            let empty = |at| KeyValue { key: name(at), value: Some(AnyValue::default()), ..KeyValue::default() };
            let attributes = (0..100_000).map(empty).collect();
            vec![Span { attributes, ..span(trace, 1, 0) }]
        },
        rejected: 0,
        message: "trimmed 99872 attributes",
        kept: 2,
    },
    Case {
        what: "an end before the start",
        bad: |trace| vec![Span { end_time_unix_nano: 5, ..span(trace, 1, 0) }],
        rejected: 0,
        message: "trimmed 1 end_before_start",
        kept: 2,
    },
    Case {
        what: "a start in 1970",
        bad: |trace| vec![Span { start_time_unix_nano: 5, ..span(trace, 1, 0) }],
        rejected: 0,
        message: "",
        kept: 2,
    },
    Case {
        what: "a start in 2100",
        bad: |trace| vec![Span { start_time_unix_nano: YEAR_2100_NS, ..span(trace, 1, 0) }],
        rejected: 1,
        message: "rejected 1 with a start time in the future",
        kept: 1,
    },
    Case {
        what: "an end in 2100",
        bad: |trace| vec![Span { end_time_unix_nano: YEAR_2100_NS, ..span(trace, 1, 0) }],
        rejected: 0,
        message: "trimmed 1 end_in_future",
        kept: 2,
    },
    Case {
        what: "a kind and a status that there are not",
        bad: |trace| {
            vec![Span { kind: 99, status: Some(Status { code: 77, ..Status::default() }), ..span(trace, 1, 0) }]
        },
        rejected: 0,
        message: "trimmed 2 unknown_enum",
        kept: 2,
    },
    Case {
        what: "a cycle of parents, and a span that is its own",
        bad: |trace| vec![span(trace, 1, 2), span(trace, 2, 3), span(trace, 3, 1), span(trace, 4, 4)],
        rejected: 0,
        message: "",
        kept: 5,
    },
    Case {
        what: "the same span twice",
        bad: |trace| {
            let twice = span(trace, 1, 0);
            vec![twice.clone(), twice]
        },
        rejected: 0,
        message: "",
        kept: 2,
    },
    Case {
        what: "ids of zeros",
        bad: |trace| vec![span(0, 1, 0), span(trace, 0, 0)],
        rejected: 2,
        message: "rejected 1 with a trace id that is not 16 non-zero bytes, rejected 1 with a span id",
        kept: 1,
    },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_span_is_counted_and_the_rest_of_its_request_is_kept() {
    let database = postgres::database().await;
    let app = TestApp::start(&database, "traces: {batch_delay: 50ms}\n").await;
    for (at, case) in (1_u8..).zip(&CASES) {
        for (trace, over_http) in [(at, true), (at + 100, false)] {
            let mut spans = (case.bad)(trace);
            spans.push(span(trace, GOOD, 0));
            let sent = request(spans);
            let (rejected, message) = if over_http { by_http(&app, &sent).await } else { by_grpc(&app, &sent).await };
            assert!(rejected == case.rejected && message.contains(case.message), "{}: {rejected} {message}", case.what);
            assert_eq!(message.is_empty(), case.message.is_empty(), "{}: {message}", case.what);
        }
    }
    refuses_broken_bodies(&app).await;
    check_all(&app).await;
    let (_, metrics) = app.get("/metrics").await;
    for line in [
        "meshscope_otlp_rejected_spans_total{reason=\"span_too_large\"} 2",
        "meshscope_otlp_rejected_spans_total{reason=\"start_in_future\"} 2",
        "meshscope_otlp_rejected_spans_total{reason=\"invalid_trace_id\"} 2",
        "meshscope_otlp_rejected_spans_total{reason=\"invalid_span_id\"} 2",
        "meshscope_otlp_trimmed_total{what=\"end_before_start\"} 2",
        "meshscope_otlp_trimmed_total{what=\"end_in_future\"} 2",
        "meshscope_otlp_trimmed_total{what=\"unknown_enum\"} 4",
        "meshscope_otlp_trimmed_total{what=\"attributes\"} 199744",
        "meshscope_otlp_refused_requests_total{reason=\"malformed\"} 6",
    ] {
        assert!(metrics.lines().any(|one| one == line), "{line} is not in {metrics}");
    }
    app.stop().await;

    // Maintenance takes away what is past its retention, which no trace with a span of today is.
    let store = postgres::connect(&database).await;
    store.maintain(&RetentionConfig::default(), Clock::system().now()).await.expect("maintain");
    store.close().await;
    let app = TestApp::start(&database, "").await;
    check_all(&app).await;
    app.stop().await;
}

/// Every trace is read whole, by both APIs and by the page.
async fn check_all(app: &TestApp) {
    for (at, case) in (1_u8..).zip(&CASES) {
        for trace in [at, at + 100] {
            assert_eq!(spans_of(app, trace).await, case.kept, "{}", case.what);
            let id = format!("{trace:02x}").repeat(16);
            assert_eq!(app.get(&format!("/jaeger/api/traces/{id}")).await.0, 200, "{}", case.what);
            let (status, page) = app.get(&format!("/traces/{id}")).await;
            assert!(status == 200 && page.contains("op"), "{}: {page}", case.what);
        }
    }
}

/// Nothing of them can be kept; each is answered with what is wrong and where.
async fn refuses_broken_bodies(app: &TestApp) {
    let (json, protobuf) = ("application/json", "application/x-protobuf");
    let whole = request(vec![span(99, 1, 0), span(99, 2, 0)]).encode_to_vec();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&whole).expect("compress");
    let mut half = encoder.finish().expect("compress");
    half.truncate(half.len() / 2);
    let of_span = |field: &str| format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{field}}}]}}]}}]}}"#);
    for (kind, encoding, body, part) in [
        (protobuf, "gzip", half, "the compressed body is broken"),
        (json, "", of_span(r#""name":{"a":1}"#).into_bytes(), "expected a string at line 1 column"),
        (json, "", of_span(r#""startTimeUnixNano":[1]"#).into_bytes(), "expected a whole number of 64 bits"),
        (json, "", br#"{"resourceSpans":{"a":1}}"#.to_vec(), "expected a sequence at line 1 column"),
        (json, "", b"[1,2]".to_vec(), "expected an object"),
        (json, "", br#"{"resourceSpans":["#.to_vec(), "EOF while parsing"),
    ] {
        let (status, answer) = post(app, (kind, encoding), body).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(status == 400 && answer.contains(part), "{part}: {status} {answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_of_200_000_spans_is_taken_whole_and_read_up_to_the_limit() {
    const REQUEST: u64 = 40_000;
    let database = postgres::database().await;
    let app = TestApp::start(&database, "traces: {batch_delay: 50ms, trace_spans: 1000}\n").await;
    for part in 0..5 {
        let spans = (part * REQUEST..(part + 1) * REQUEST).map(|at| span(7, at + 1, u64::from(at > 0))).collect();
        assert_eq!(by_grpc(&app, &request(spans)).await, (0, String::new()));
    }
    let too_many = (0..50_001).map(|at| span(8, at + 1, u64::from(at > 0))).collect();
    let (rejected, message) = by_grpc(&app, &request(too_many)).await;
    assert!(rejected == 1 && message.contains("otlp.limits.spans_per_request"), "{rejected} {message}");
    let mut connection = postgres::connection(&database).await;
    let query = "SELECT sum(span_count)::bigint FROM span_search WHERE trace_id = $1";
    let stored = sqlx::query_scalar::<_, i64>(query).bind("07".repeat(16)).fetch_one(&mut connection).await;
    assert_eq!(stored.expect("a number"), 200_000);
    app.stop().await;

    let app = TestApp::start(&database, "traces: {trace_spans: 1000}\n").await;
    assert_eq!(spans_of(&app, 7).await, 1000);
    let (status, page) = app.get(&format!("/traces/{}", "07".repeat(16))).await;
    assert!(status == 200 && page.contains("the first 1000 are shown"), "{status} {}", page.len());
    app.stop().await;
}
