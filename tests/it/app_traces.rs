//! From OTLP to traces that are found, and to the series and edges that spans give.

use std::time::Duration;

use meshscope::clock::Clock;
use meshscope::persist::{Archive, Kept, TraceQuery};
use meshscope::rollup::Rollup;
use meshscope::series::Head;
use meshscope::traces;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use tokio::sync::mpsc;

use crate::app::{TestApp, eventually};
use crate::postgres;

const CLIENT: i32 = 3;
const SERVER: i32 = 2;

fn now_ns() -> u64 {
    u64::try_from(Clock::system().now().as_millis()).expect("after 1970") * 1_000_000
}

/// One span of a service; `ids` are trace, span and parent, 0 for none.
fn span(service: &str, kind: i32, (trace, id, parent): (u8, u8, u8)) -> ResourceSpans {
    let value = Some(AnyValue { value: Some(Value::StringValue(service.to_owned())) });
    let attribute = KeyValue { key: "service.name".to_owned(), value, ..KeyValue::default() };
    let start = now_ns() - 50_000_000;
    let span = Span {
        trace_id: vec![trace; 16],
        span_id: vec![id; 8],
        parent_span_id: if parent == 0 { Vec::new() } else { vec![parent; 8] },
        name: "GET /cart".to_owned(),
        kind,
        start_time_unix_nano: start,
        end_time_unix_nano: start + 20_000_000,
        ..Span::default()
    };
    ResourceSpans {
        resource: Some(Resource { attributes: vec![attribute], ..Resource::default() }),
        scope_spans: vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }],
        ..ResourceSpans::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_of_both_transports_are_stored_found_and_counted() {
    let database = postgres::database().await;
    let app = TestApp::start(&database, "traces: {metrics_interval: 1s, batch_delay: 200ms}\n").await;
    let mut client = TraceServiceClient::connect(format!("http://{}", app.grpc)).await.expect("connect");
    let request = ExportTraceServiceRequest { resource_spans: vec![span("web", CLIENT, (7, 1, 0))] };
    client.export(request).await.expect("taken over gRPC");
    let start = now_ns() - 50_000_000;
    let request = serde_json::json!({"resourceSpans": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "cart"}}]},
        "scopeSpans": [{"spans": [{
            "traceId": "07".repeat(16), "spanId": "02".repeat(8), "parentSpanId": "01".repeat(8),
            "name": "GET /cart", "kind": SERVER,
            "startTimeUnixNano": start.to_string(), "endTimeUnixNano": (start + 20_000_000).to_string(),
        }]}],
    }]});
    let answer = reqwest::Client::new()
        .post(format!("http://{}/v1/traces", app.http))
        .header("content-type", "application/json")
        .body(request.to_string())
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 200);

    app.query_becomes("sum(traces_spanmetrics_calls_total)", 2.0).await;
    app.query_becomes("traces_service_graph_request_total{client=\"web\",server=\"cart\"}", 1.0).await;
    let id = "07".repeat(16);
    let (status, page) = app.get(&format!("/traces/{id}")).await;
    assert!(status == 200 && page.contains("web") && page.contains("cart"), "{page}");
    eventually("the call is an edge of the graph", async || {
        let graph = app.data("/api/mesh/v1/graph").await;
        (graph["edges"].as_array()?.len() == 1).then_some(())
    })
    .await;
    app.stop().await;

    // With nothing in memory, PostgreSQL has it all.
    let store = postgres::connect(&database).await;
    let rollup = Rollup::default();
    let (_, spans) = mpsc::channel(1);
    let outputs =
        traces::Outputs { head: Head::new(Default::default()), rollup: rollup.clone(), batches: mpsc::channel(1).0 };
    let live = traces::Pipeline::new(traces::Config::default(), spans, outputs, Clock::system()).live();
    let (now, hour) = (Clock::system().now(), Duration::from_secs(3600));
    let archive = Archive::new(store.clone(), rollup, live, now, Kept { in_memory: hour, stored: hour });
    let (spans, warning) = archive.trace([7; 16]).await.expect("known");
    assert_eq!((spans.len(), warning), (2, None));
    let search = |service: &str, operation: Option<&str>| TraceQuery {
        from: now - hour,
        to: now + hour,
        service: Some(service.to_owned()),
        operation: operation.map(str::to_owned),
        duration_min: None,
        errors_only: false,
        limit: 10,
    };
    for (service, operation, expect) in
        [("web", None, 1), ("cart", Some("GET /cart"), 1), ("cart", Some("POST"), 0), ("nobody", None, 0)]
    {
        let (found, warning) = archive.search_traces(&search(service, operation)).await;
        assert_eq!((found.len(), warning), (expect, None), "{service} {operation:?}");
    }
    assert_eq!(archive.services(now - hour, now + hour).await, ["cart", "web"]);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_is_found_while_it_is_on_its_way_to_the_store() {
    let app = TestApp::start(&postgres::database().await, "traces: {batch_delay: 1h}\n").await;
    let mut client = TraceServiceClient::connect(format!("http://{}", app.grpc)).await.expect("connect");
    let request = ExportTraceServiceRequest { resource_spans: vec![span("web", SERVER, (9, 1, 0))] };
    let waiting = tokio::spawn(async move { client.export(request).await });
    eventually("the search finds it", async || {
        app.get("/traces?service=web").await.1.contains(&"09".repeat(16)).then_some(())
    })
    .await;
    waiting.abort(); // its sender still waits to hear that it is stored
    app.stop().await;
}
