//! PostgreSQL goes away while spans and access logs come: nobody is told that they are stored, nothing is lost, and what
//! clients send again is counted and read once.

use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use serde_json::{Value, json};

use crate::api_tempo::{ask, shop_start_ms};
use crate::app::{TestApp, eventually, new_folder, with_ports};
use crate::app_outage::{Cable, available};
use crate::postgres;

const SPANS: u64 = 20;

fn trace_id(number: u8) -> String {
    format!("{number:032x}")
}

fn spans(number: u8, start_ns: u64) -> Value {
    let span = |at: u64| {
        json!({"traceId": trace_id(number), "spanId": format!("{:016x}", at + 1), "name": "away", "kind": 2,
               "startTimeUnixNano": (start_ns + at).to_string(), "endTimeUnixNano": (start_ns + at + 1000).to_string()})
    };
    let spans: Vec<Value> = (0..SPANS).map(span).collect();
    json!({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]})
}

fn record(number: u8, start_ns: u64) -> Value {
    let attributes = json!([{"key": "response_code", "value": {"intValue": "503"}},
        {"key": "response_flags", "value": {"stringValue": "UH"}},
        {"key": "upstream_cluster", "value": {"stringValue": "outbound|80||cart.shop.svc.cluster.local"}}]);
    let record = json!({"timeUnixNano": start_ns.to_string(), "traceId": trace_id(number), "attributes": attributes});
    json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]})
}

/// Status, and whether the answer says when to come again.
async fn post(app: &TestApp, path: &str, body: &Value) -> (u16, bool) {
    let post = reqwest::Client::new().post(format!("http://{}/v1/{path}", app.http));
    let answer =
        post.header("content-type", "application/json").body(body.to_string()).send().await.expect("an answer");
    (answer.status().as_u16(), answer.headers().contains_key("retry-after"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_postgresql_is_away_nothing_is_acknowledged_and_nothing_is_lost() {
    let direct = postgres::database().await;
    let (cable, cabled) = Cable::before(&direct).await;
    let text = with_ports(&cabled, "traces: {metrics_interval: 1s}\naccess_logs: {metrics_interval: 1s}\n");
    let text = text.replace("otlp: {", "otlp: {acknowledge_timeout: 700ms, ");
    let app = TestApp::start_in(&new_folder(), &text).await;
    // A new database makes its partitions first; rows wait for that longer than clients do here.
    let mut watcher = postgres::connection(&direct).await;
    eventually("the last table has partitions", async || {
        let query = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'alert_event'::regclass";
        (sqlx::query_scalar::<_, i64>(query).fetch_one(&mut watcher).await.expect("a number") > 1).then_some(())
    })
    .await;
    let start_ns = u64::try_from(shop_start_ms()).expect("after 1970") * 1_000_000;
    assert_eq!(post(&app, "traces", &spans(1, start_ns)).await, (200, false));
    assert_eq!(post(&app, "logs", &record(1, start_ns)).await, (200, false));

    cable.cut.send_replace(true);
    available(&app, false).await;
    for (path, body) in [("traces", spans(2, start_ns)), ("logs", record(2, start_ns)), ("traces", spans(3, start_ns))]
    {
        let began = Instant::now();
        assert_eq!(post(&app, path, &body).await, (503, true), "{path}");
        assert!(began.elapsed() >= Duration::from_millis(700), "it waited: {:?}", began.elapsed());
    }
    // Nobody knows whether there is a trace that memory does not have.
    let unknown = "e".repeat(32);
    let of_trace =
        ["/tempo/api/traces", "/tempo/api/v2/traces", "/jaeger/api/traces", "/api/mesh/v1/traces", "/traces"]
            .map(|path| format!("{path}/{unknown}"));
    for path in &of_trace {
        let (status, body) = app.get(path).await;
        assert_eq!(status, 503, "{path}: {body}");
        assert!(body.contains("PostgreSQL"), "{path}: {body}");
    }
    let (status, page) = app.get(&format!("/traces/compare?a={unknown}&b={unknown}")).await;
    assert_eq!(status, 200);
    assert!(page.contains("is not known") && !page.contains("never received"), "{page}");
    // Clients come again, with the same spans and records; some in a request of other bytes.
    assert_eq!(post(&app, "traces", &spans(2, start_ns)).await, (503, true));
    assert_eq!(post(&app, "logs", &record(2, start_ns)).await, (503, true));
    let mut other = spans(3, start_ns);
    other["resourceSpans"][0]["schemaUrl"] = "another".into();
    assert_eq!(post(&app, "traces", &other).await, (503, true));
    let span = Span {
        trace_id: vec![9; 16],
        span_id: vec![9; 8],
        start_time_unix_nano: start_ns,
        end_time_unix_nano: start_ns + 1000,
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
    let request =
        ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }] };
    let mut client = TraceServiceClient::connect(format!("http://{}", app.grpc)).await.expect("connect");
    let error = client.export(request).await.expect_err("it is not stored");
    assert_eq!((error.code(), error.details().is_empty()), (tonic::Code::Unavailable, false), "{error}");
    // What is counted from spans goes on, and counts what came twice once: 3 × 20 and the last one.
    app.query_becomes("sum(traces_spanmetrics_calls_total)", 61.0).await;
    app.query_becomes("sum(meshscope_access_log_requests_total)", 2.0).await;
    let (_, metrics) = app.get("/metrics").await;
    for line in [
        "meshscope_otlp_refused_requests_total{reason=\"not_stored\"} 7",
        "meshscope_otlp_repeated_requests_total 2",
        "meshscope_traces_repeated_spans_total 20",
        "meshscope_traces_lost_batches_total 0",
    ] {
        assert!(metrics.lines().any(|one| one == line), "{line} is not in {metrics}");
    }

    cable.cut.send_replace(false);
    available(&app, true).await;
    eventually("a request is taken again", async || {
        (post(&app, "traces", &spans(2, start_ns)).await.0 == 200).then_some(())
    })
    .await;
    eventually("all is written", async || {
        let (_, metrics) = app.get("/metrics").await;
        let is_empty = |part: &str| metrics.contains(&format!("meshscope_persist_pending_items{{part=\"{part}\"}} 0"));
        (is_empty("spans") && is_empty("access_logs")).then_some(())
    })
    .await;
    for (path, status) in of_trace.iter().zip([404, 200, 404, 404, 404]) {
        assert_eq!(app.get(path).await.0, status, "{path}");
    }
    app.stop().await;
    // What came again in the same bytes is stored once, so that lists which do not open batches count it once.
    let mut connection = postgres::connection(&direct).await;
    let query = "SELECT sum(span_count)::bigint FROM span_search WHERE trace_id = $1";
    let counted = sqlx::query_scalar::<_, i64>(query).bind(trace_id(2)).fetch_one(&mut connection).await;
    assert_eq!(counted.expect("a number"), SPANS as i64);
    let counted = sqlx::query_scalar::<_, i64>("SELECT sum(record_count)::bigint FROM access_log_part");
    assert_eq!(counted.fetch_one(&mut connection).await.expect("a number"), 2);

    // With an empty memory all comes from PostgreSQL.
    let app = TestApp::start(&direct, "").await;
    for number in 1..=3 {
        let (status, trace) = ask(&app, &format!("/tempo/api/traces/{}", trace_id(number)), &[]).await;
        let found = trace["batches"][0]["scopeSpans"][0]["spans"].as_array().map(Vec::len);
        assert_eq!((status, found), (200, Some(SPANS as usize)), "trace {number}");
    }
    assert_eq!(ask(&app, &format!("/tempo/api/traces/{}", "09".repeat(16)), &[]).await.0, 200);
    let records = app.data("/api/mesh/v1/access-logs?reason=no_healthy_upstream").await;
    assert_eq!(records["records"].as_array().map(Vec::len), Some(2), "{records}");
    app.stop().await;
}
