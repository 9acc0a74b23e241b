//! Jaeger's API, asked as Grafana and Kiali ask it, about spans sent over OTLP.

use serde_json::{Value, json};

use crate::api_tempo::{BLOCKS, TRACE, ask, send, shop, shop_start_ms};
use crate::app::{TestApp, eventually};
use crate::postgres;

async fn data(app: &TestApp, path: &str, parameters: &[(&str, &str)]) -> Value {
    let (status, answer) = ask(app, &format!("/jaeger/api/{path}"), parameters).await;
    assert_eq!((status, &answer["errors"]), (200, &Value::Null), "{path} {parameters:?}: {answer}");
    answer["data"].clone()
}

fn ids(traces: &Value) -> Vec<&str> {
    traces.as_array().expect("traces").iter().filter_map(|trace| trace["traceID"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_operations_traces_and_dependencies_have_jaegers_shapes() {
    let database = postgres::database().await;
    let app = TestApp::start(&database, BLOCKS).await;
    let start_ms = shop_start_ms();
    send(&app, &shop(start_ms)).await;
    eventually("spans are there", async || {
        (data(&app, "services", &[]).await == json!(["cart", "db", "front"])).then_some(())
    })
    .await;
    assert_eq!(data(&app, "services/cart/operations", &[]).await, json!(["list"]));
    let all = data(&app, "operations", &[("service", "db")]).await;
    assert_eq!(all, json!([{"name": "SELECT", "spanKind": "client"}]));
    assert_eq!(data(&app, "operations", &[("service", "db"), ("spanKind", "server")]).await, json!([]));

    // Jaeger writes an id whose first half is zero with 16 digits.
    let (first, second) = ("aa01010101010101", "bb02020202020202bb02020202020202");
    let (start, end) = (((start_ms - 5000) * 1000).to_string(), ((start_ms + 50_000) * 1000).to_string());
    for (parameters, expect) in [
        (&[("service", "cart")] as &[(&str, &str)], &[second, first] as &[&str]),
        (&[("service", "cart"), ("limit", "1")], &[second]),
        (&[("service", "cart"), ("operation", "list"), ("minDuration", "50ms")], &[first]),
        (&[("service", "cart"), ("maxDuration", "10ms")], &[second]),
        (&[("service", "cart"), ("tags", r#"{"http.status_code":"500"}"#)], &[first]),
        (&[("service", "cart"), ("tags", r#"{"error":"true"}"#)], &[first]),
        (&[("service", "db"), ("tag", "http.status_code:500")], &[]),
        (&[("service", "cart"), ("start", &start), ("end", &end), ("lookback", "custom")], &[second, first]),
        (&[("service", "cart"), ("start", "1"), ("end", "2")], &[]),
        (&[("traceID", TRACE), ("traceID", second)], &[first, second]),
    ] {
        assert_eq!(ids(&data(&app, "traces", parameters).await), expect, "{parameters:?}");
    }

    let trace = data(&app, &format!("traces/{first}"), &[]).await[0].clone();
    assert_eq!(trace["traceID"], first);
    let spans = trace["spans"].as_array().expect("spans");
    let cart = spans.iter().find(|span| span["spanID"] == "0000000000000002").expect("cart");
    assert_eq!((&cart["operationName"], &cart["duration"]), (&json!("list"), &json!(60_000)));
    assert_eq!(cart["startTime"], (start_ms + 10) * 1000);
    assert_eq!(cart["references"], json!([{"refType": "CHILD_OF", "traceID": first, "spanID": "0000000000000001"}]));
    let tag = |key: &str| cart["tags"].as_array().and_then(|tags| tags.iter().find(|tag| tag["key"] == key)).cloned();
    assert_eq!(tag("http.status_code"), Some(json!({"key": "http.status_code", "type": "int64", "value": 500})));
    assert_eq!(tag("error"), Some(json!({"key": "error", "type": "bool", "value": true})));
    assert_eq!(tag("span.kind"), Some(json!({"key": "span.kind", "type": "string", "value": "server"})));
    assert_eq!(tag("otel.status_description").map(|tag| tag["value"].clone()), Some(json!("boom")));
    assert_eq!(cart["logs"][0]["fields"][0], json!({"key": "event", "type": "string", "value": "exception"}));
    let process = &trace["processes"][cart["processID"].as_str().expect("a process")];
    assert_eq!(process["serviceName"], "cart");
    assert_eq!(process["tags"], json!([{"key": "k8s.cluster.name", "type": "string", "value": "east"}]));

    let (status, answer) = ask(&app, "/jaeger/api/traces/abcd", &[]).await;
    let expect =
        json!({"data": null, "total": 0, "limit": 0, "offset": 0, "errors": [{"code": 404, "msg": "trace not found"}]});
    assert_eq!((status, answer), (404, expect));
    for (path, parameters, part) in [
        ("traces", ("limit", "5"), "'service' is required"),
        ("operations", ("x", "y"), "'service' is required"),
        ("traces/nothex", ("x", "y"), "malformed trace ID"),
        ("dependencies", ("endTs", "soon"), "endTs"),
    ] {
        let (status, answer) = ask(&app, &format!("/jaeger/api/{path}"), &[parameters]).await;
        assert!(status == 400 && answer["errors"][0]["msg"].as_str().is_some_and(|msg| msg.contains(part)), "{answer}");
    }
    let bad = [("service", "cart"), ("tags", "{")];
    assert_eq!(ask(&app, "/jaeger/api/traces", &bad).await.0, 400);
    assert!(data(&app, "dependencies", &[("lookback", "3600000")]).await.is_array());
    app.stop().await;

    let app = TestApp::start(&database, BLOCKS).await;
    assert_eq!(ids(&data(&app, "traces", &[("service", "db")]).await), [first]);
    assert_eq!(data(&app, "services/cart/operations", &[]).await, json!(["list"]));
    app.stop().await;
}
