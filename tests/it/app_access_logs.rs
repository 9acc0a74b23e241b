//! From OTLP logs to records that are found, in memory and in PostgreSQL, and to the series they are counted in.

use meshscope::clock::Clock;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;

use crate::app::{TestApp, eventually};
use crate::postgres;

const BLOCKS: &str = "access_logs:\n  metrics_interval: 1s\n  batch_delay: 200ms\n  \
    formats: ['mine %RESPONSE_CODE% %RESPONSE_CODE_DETAILS% %UPSTREAM_CLUSTER% %DURATION%']\n";

fn now_ns() -> u64 {
    u64::try_from(Clock::system().now().as_millis()).expect("after 1970") * 1_000_000
}

fn text(text: &str) -> Option<AnyValue> {
    Some(AnyValue { value: Some(Value::StringValue(text.to_owned())) })
}

/// A line in the format of the configuration, of a request of trace `trace`.
fn record(trace: u8, line: &str) -> LogRecord {
    let time_unix_nano = now_ns() - 1_000_000_000;
    LogRecord { time_unix_nano, body: text(line), trace_id: vec![trace; 16], ..LogRecord::default() }
}

/// Records of one pod.
fn request(pod: &str, log_records: Vec<LogRecord>) -> ExportLogsServiceRequest {
    let attribute =
        |key: &str, value: &str| KeyValue { key: key.to_owned(), value: text(value), ..KeyValue::default() };
    let attributes = vec![attribute("k8s.pod.name", pod), attribute("k8s.namespace.name", "shop")];
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(Resource { attributes, ..Resource::default() }),
            scope_logs: vec![ScopeLogs { log_records, ..ScopeLogs::default() }],
            ..ResourceLogs::default()
        }],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_both_transports_are_counted_shown_stored_and_found_after_a_restart() {
    let database = postgres::database().await;
    let app = TestApp::start(&database, BLOCKS).await;
    let mut client = LogsServiceClient::connect(format!("http://{}", app.grpc)).await.expect("connect");
    let outbound = "outbound|8080||cart.shop.svc.cluster.local";
    let records = vec![
        record(1, &format!("mine 200 via_upstream {outbound} 12")),
        record(2, &format!("mine 503 no_healthy_upstream {outbound} 0")),
        record(3, "an application says hello"),
    ];
    let sent = request("web-v1-6f89b6c557-sg2bc", records);
    // As exporters do: again, when PostgreSQL did not have it within `otlp.acknowledge_timeout`.
    let answer = eventually("they are taken over gRPC", async || match client.export(sent.clone()).await {
        Ok(answer) => Some(answer.into_inner()),
        Err(status) => {
            assert_eq!(status.code(), tonic::Code::Unavailable, "{status}");
            None
        }
    })
    .await;
    let partial = answer.partial_success.expect("the third is no access log");
    assert_eq!(partial.rejected_log_records, 1, "{}", partial.error_message);
    let denied = "rbac_access_denied_matched_policy[ns[shop]-policy[deny-get]-rule[0]]";
    let body = serde_json::json!({"resourceLogs": [{
        "resource": {"attributes": [{"key": "k8s.pod.name", "value": {"stringValue": "cart-v1-6f89b6c557-sg2bc"}}]},
        "scopeLogs": [{"logRecords": [{
            "timeUnixNano": now_ns().to_string(),
            "traceId": "04".repeat(16),
            "attributes": [
                {"key": "response_code", "value": {"intValue": "403"}},
                {"key": "response_code_details", "value": {"stringValue": denied}},
                {"key": "upstream_cluster", "value": {"stringValue": "inbound|8080||"}},
                {"key": "path", "value": {"stringValue": "/<script>alert(1)</script>"}},
            ],
        }]}],
    }]});
    eventually("they are taken over HTTP", async || {
        let post = reqwest::Client::new().post(format!("http://{}/v1/logs", app.http));
        let post = post.header("content-type", "application/json").body(body.to_string());
        let status = post.send().await.expect("an answer").status().as_u16();
        assert!(matches!(status, 200 | 503), "{status}");
        (status == 200).then_some(())
    })
    .await;

    app.query_becomes("sum(meshscope_access_log_requests_total)", 3.0).await;
    let denied = "meshscope_access_log_requests_total{destination_workload=\"cart-v1\",policy=\"shop/deny-get\"}";
    app.query_becomes(denied, 1.0).await;
    app.query_becomes("sum(meshscope_access_log_duration_milliseconds_count)", 2.0).await;
    let (status, page) = app.get("/logs?source=web-v1&destination=shop/cart").await;
    assert!(status == 200 && page.contains("no healthy upstream"), "{page}");
    assert!(!page.contains("deny-get"), "of another edge: {page}");
    let (status, page) = app.get("/logs?reason=rbac_denied").await;
    assert!(status == 200 && page.contains("shop/deny-get") && !page.contains("<script>alert"), "{page}");
    let (status, page) = app.get(&format!("/traces/{}", "02".repeat(16))).await;
    assert!(
        status == 200 && page.contains("No span of this trace is kept") && page.contains("no healthy upstream"),
        "{page}"
    );
    let (status, page) = app.get("/logs?code=teapot").await;
    assert!(status == 400 && page.contains("teapot"), "{page}");
    let (_, metrics) = app.get("/metrics").await;
    for line in [
        "meshscope_otlp_accepted_log_records_total 3",
        "meshscope_otlp_rejected_log_records_total{reason=\"not_an_access_log\"} 1",
        "meshscope_access_logs_records_total 3",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    eventually("the records are written", async || {
        let (_, metrics) = app.get("/metrics").await;
        metrics.contains("meshscope_persist_written_items_total{part=\"access_logs\"} 3").then_some(())
    })
    .await;
    app.stop().await;

    // With nothing in memory, PostgreSQL has them all.
    let app = TestApp::start(&database, BLOCKS).await;
    for (query, expect) in [
        ("", 3),
        ("source=shop/web-v1", 2),
        ("destination=cart.shop.svc.cluster.local", 2),
        ("destination=cart-v1&reason=rbac_denied", 1),
        ("failures=true", 2),
        ("code=5xx", 1),
        (&*format!("trace={}", "04".repeat(16)), 1),
        ("limit=2", 2),
        ("source=nobody", 0),
        ("from=10&to=20", 0),
    ] {
        let found = app.data(&format!("/api/mesh/v1/access-logs?{query}")).await;
        assert_eq!(found["records"].as_array().map(Vec::len), Some(expect), "{query}: {found}");
    }
    let newest = &app.data("/api/mesh/v1/access-logs?limit=1").await["records"][0];
    assert_eq!(
        (&newest["policy"], &newest["details"]["path"]),
        (&"shop/deny-get".into(), &"/<script>alert(1)</script>".into())
    );
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_is_found_while_it_is_on_its_way_to_the_store() {
    let app = TestApp::start(&postgres::database().await, &BLOCKS.replace("200ms", "1h")).await;
    let mut client = LogsServiceClient::connect(format!("http://{}", app.grpc)).await.expect("connect");
    let request = request("web-0", vec![record(9, "mine 404 route_not_found - 0")]);
    let waiting = tokio::spawn(async move { client.export(request).await });
    eventually("the record is found", async || {
        let found = app.data("/api/mesh/v1/access-logs?reason=route_not_found").await;
        (found["records"].as_array()?.len() == 1).then_some(())
    })
    .await;
    waiting.abort(); // its sender still waits to hear that it is stored
    app.stop().await;
}
