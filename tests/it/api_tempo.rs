//! Tempo's API, asked as Grafana and Kiali ask it, about spans sent over OTLP.

use meshscope::clock::Clock;
use opentelemetry_proto::tonic::trace::v1::TracesData;
use prost::Message;
use serde_json::{Value, json};

use crate::app::{TestApp, eventually};
use crate::postgres;

pub const BLOCKS: &str = "traces: {metrics_interval: 1s, batch_delay: 200ms}\n";
pub const TRACE: &str = "0000000000000000aa01010101010101";

fn attribute(key: &str, value: Value) -> Value {
    json!({"key": key, "value": value})
}

/// Milliseconds since the epoch of the first span.
pub fn shop_start_ms() -> i64 {
    Clock::system().now().as_millis() - 60_000
}

/// front (100 ms) calls cart (60 ms, fails with 500), cart calls db (40 ms); and another trace of cart alone.
pub fn shop(start_ms: i64) -> Value {
    let span = |trace: &str, id: u8, parent: u8, name: &str, kind: u8, (from, ms): (i64, i64), extra: Value| {
        let ns = |ms: i64| ((start_ms + ms) * 1_000_000).to_string();
        let mut span = json!({
            "traceId": trace, "spanId": format!("{id:016x}"), "name": name, "kind": kind,
            "startTimeUnixNano": ns(from), "endTimeUnixNano": ns(from + ms),
        });
        if parent > 0 {
            span["parentSpanId"] = format!("{parent:016x}").into();
        }
        for (key, value) in extra.as_object().expect("an object") {
            span[key] = value.clone();
        }
        span
    };
    let resource = |service: &str, spans: Vec<Value>| {
        let attributes = [
            attribute("service.name", json!({"stringValue": service})),
            attribute("k8s.cluster.name", json!({"stringValue": "east"})),
        ];
        let scope = json!({"scope": {"name": "shop"}, "spans": spans});
        json!({"resource": {"attributes": attributes}, "scopeSpans": [scope]})
    };
    let failed = json!({
        "status": {"code": 2, "message": "boom"},
        "attributes": [
            attribute("http.status_code", json!({"intValue": "500"})),
            attribute("tables", json!({"arrayValue": {"values": [{"stringValue": "a"}, {"stringValue": "b"}]}})),
        ],
        "events": [{
            "timeUnixNano": ((start_ms + 20) * 1_000_000).to_string(), "name": "exception",
            "attributes": [attribute("exception.type", json!({"stringValue": "Boom"}))],
        }],
    });
    let alone = json!({"attributes": [attribute("http.status_code", json!({"intValue": "200"}))]});
    json!({"resourceSpans": [
        resource("front", vec![span(TRACE, 1, 0, "GET /", 2, (0, 100), json!({}))]),
        resource("cart", vec![
            span(TRACE, 2, 1, "list", 2, (10, 60), failed),
            span("bb02020202020202bb02020202020202", 9, 0, "list", 2, (5000, 7), alone),
        ]),
        resource("db", vec![span(TRACE, 3, 2, "SELECT", 3, (15, 40), json!({}))]),
    ]})
}

/// Sends spans as an SDK does: again, when PostgreSQL did not have them within `otlp.acknowledge_timeout`.
pub async fn send(app: &TestApp, spans: &Value) {
    eventually("the spans are taken", async || {
        let post = reqwest::Client::new().post(format!("http://{}/v1/traces", app.http));
        let post = post.header("content-type", "application/json").body(spans.to_string());
        let status = post.send().await.expect("an answer").status().as_u16();
        assert!(matches!(status, 200 | 503), "{status}");
        (status == 200).then_some(())
    })
    .await;
}

/// Status and body of a call with parameters.
pub async fn ask(app: &TestApp, path: &str, parameters: &[(&str, &str)]) -> (u16, Value) {
    let url = reqwest::Url::parse_with_params("http://x/", parameters).expect("an address");
    let (status, body) = app.answer(&format!("{path}?{}", url.query().unwrap_or_default())).await;
    (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

async fn search(app: &TestApp, query: &str) -> Vec<String> {
    let (status, answer) = ask(app, "/tempo/api/search", &[("q", query)]).await;
    assert_eq!(status, 200, "{query}: {answer}");
    assert_eq!(answer.get("message"), None, "{query}: {answer}");
    let traces = answer["traces"].as_array().expect("a list");
    traces.iter().map(|trace| trace["rootServiceName"].as_str().expect("a text").to_owned()).collect()
}

async fn answers_searches(app: &TestApp) {
    for (query, expect) in [
        ("{}", &["cart", "front"] as &[&str]),
        (r#"{ resource.service.name = "db" }"#, &["front"]),
        (r#"{ .service.name = "cart" && .http.status_code = 500 }"#, &["front"]),
        ("{ .http.status_code >= 200 }", &["cart", "front"]),
        ("{ status = error }", &["front"]),
        ("{ duration > 50ms }", &["front"]),
        ("{ duration < 10ms }", &["cart"]),
        ("{ traceDuration > 90ms && name = \"SELECT\" }", &["front"]),
        (r#"{ .tables = "b" }"#, &["front"]),
        (r#"{ .service.name = "front" } >> { name =~ "SEL.*" }"#, &["front"]),
        (r#"{ .service.name = "front" } > { name =~ "SEL.*" }"#, &[]),
        (r#"{ name = "list" } | count() > 1"#, &[]),
        (r#"{ event.exception.type = "Boom" } && { span:id = "0000000000000003" }"#, &["front"]),
        (r#"{ .nothing = "there" }"#, &[]),
    ] {
        assert_eq!(search(app, query).await, expect, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grafana_and_kiali_find_and_read_traces() {
    let database = postgres::database().await;
    let app = TestApp::start(&database, BLOCKS).await;
    let start_ms = shop_start_ms();
    send(&app, &shop(start_ms)).await;
    eventually("both traces are there", async || (search(&app, "{}").await.len() == 2).then_some(())).await;
    answers_searches(&app).await;

    // As Kiali asks.
    let kiali = r#"{ .service.name = "cart" && .k8s.cluster.name = "east" } && {  }| select(status, .service_name, .http.method, .http.status_code)"#;
    let (from, to) = ((start_ms / 1000 - 5).to_string(), (start_ms / 1000 + 100).to_string());
    let parameters =
        [("q", kiali), ("spss", "10"), ("limit", "5"), ("start", &from), ("end", &to), ("minDuration", "50ms")];
    let (status, answer) = ask(&app, "/tempo/api/search", &parameters).await;
    assert_eq!((status, answer["traces"].as_array().map(Vec::len)), (200, Some(1)), "{answer}");
    let trace = &answer["traces"][0];
    assert_eq!(trace["traceID"], "aa01010101010101", "leading zeros are left out, as Tempo does");
    assert_eq!((&trace["rootTraceName"], &trace["durationMs"]), (&json!("GET /"), &json!(100)));
    assert_eq!(trace["startTimeUnixNano"], (start_ms * 1_000_000).to_string());
    assert_eq!(trace["serviceStats"]["cart"], json!({"spanCount": 1, "errorCount": 1}));
    assert_eq!(trace["spanSet"], trace["spanSets"][0]);
    assert_eq!(trace["spanSet"]["matched"], 3);
    let cart =
        trace["spanSet"]["spans"].as_array().and_then(|spans| spans.iter().find(|s| s["spanID"] == "0000000000000002"));
    let cart = cart.expect("the span of cart");
    assert_eq!((&cart["name"], &cart["durationNanos"]), (&json!("list"), &json!("60000000")));
    let expect = json!([
        attribute("service.name", json!({"stringValue": "cart"})),
        attribute("k8s.cluster.name", json!({"stringValue": "east"})),
        attribute("status", json!({"stringValue": "error"})),
        attribute("http.status_code", json!({"intValue": "500"})),
    ]);
    assert_eq!(cart["attributes"], expect);

    reads_a_trace(&app, start_ms).await;
    lists_names_and_values(&app).await;
    counts_spans(&app, start_ms).await;
    refuses_what_is_wrong(&app).await;
    app.stop().await;

    // With an empty memory all comes from PostgreSQL, through the index.
    let app = TestApp::start(&database, BLOCKS).await;
    answers_searches(&app).await;
    reads_a_trace(&app, start_ms).await;
    lists_names_and_values(&app).await;
    app.stop().await;
}

async fn reads_a_trace(app: &TestApp, start_ms: i64) {
    let (status, trace) = ask(app, &format!("/tempo/api/traces/{TRACE}"), &[]).await;
    assert_eq!((status, trace["batches"].as_array().map(Vec::len)), (200, Some(3)), "{trace}");
    let cart = trace["batches"]
        .as_array()
        .and_then(|all| all.iter().find(|batch| batch["resource"]["attributes"][0]["value"]["stringValue"] == "cart"));
    let scope = &cart.expect("cart")["scopeSpans"][0];
    assert_eq!(scope["scope"], json!({"name": "shop"}));
    let span = &scope["spans"][0];
    assert_eq!((&span["traceId"], &span["spanId"]), (&json!("AAAAAAAAAACqAQEBAQEBAQ=="), &json!("AAAAAAAAAAI=")));
    assert_eq!((&span["kind"], &span["parentSpanId"]), (&json!("SPAN_KIND_SERVER"), &json!("AAAAAAAAAAE=")));
    assert_eq!(span["startTimeUnixNano"], ((start_ms + 10) * 1_000_000).to_string());
    assert_eq!(span["status"], json!({"code": "STATUS_CODE_ERROR", "message": "boom"}));
    assert_eq!(span["attributes"][1]["value"]["arrayValue"]["values"][1], json!({"stringValue": "b"}));
    assert_eq!(span["events"][0]["name"], "exception");

    let protobuf = async |path: String| {
        eventually("the whole trace, in protobuf", async || {
            let get = reqwest::Client::new().get(format!("http://{}{path}", app.web));
            let answer = get.header("accept", "application/protobuf").send().await.expect("an answer");
            let kind = answer.headers()["content-type"].clone();
            let body = answer.bytes().await.expect("a body");
            let late = String::from_utf8_lossy(&body).contains("PostgreSQL did not answer within");
            assert!(late || kind == "application/protobuf", "{kind:?}");
            (!late).then_some(body)
        })
        .await
    };
    let data = TracesData::decode(protobuf(format!("/tempo/api/traces/{TRACE}")).await).expect("OTLP");
    let spans: Vec<_> = data.resource_spans.iter().flat_map(|r| &r.scope_spans).flat_map(|s| &s.spans).collect();
    let cart = spans.iter().find(|span| span.span_id[7] == 2).expect("cart");
    assert_eq!((spans.len(), cart.name.as_str(), cart.kind), (3, "list", 2));
    assert_eq!(cart.status.as_ref().map(|status| (status.code, status.message.as_str())), Some((2, "boom")));
    assert_eq!(cart.end_time_unix_nano - cart.start_time_unix_nano, 60_000_000);
    assert_eq!((cart.events.len(), cart.attributes.len(), cart.parent_span_id[7]), (1, 2, 1));
    // Version 2 wraps the same in a message of its own, in field 1.
    let wrapped = protobuf(format!("/tempo/api/v2/traces/{TRACE}")).await;
    let inner = meshscope::wire::messages(&wrapped, 1).next().expect("a trace").expect("readable");
    assert_eq!(TracesData::decode(inner).expect("OTLP").resource_spans.len(), 3);

    let (status, trace) = ask(app, &format!("/tempo/api/v2/traces/{TRACE}"), &[]).await;
    assert_eq!((status, trace["trace"]["resourceSpans"].as_array().map(Vec::len)), (200, Some(3)), "{trace}");
    assert_eq!(ask(app, "/tempo/api/v2/traces/abcd", &[]).await, (200, json!({"trace": {}, "metrics": {}})));
    assert_eq!(ask(app, "/tempo/api/traces/abcd", &[]).await, (404, json!("trace not found")));
    assert_eq!(ask(app, "/tempo/api/traces/xyz", &[]).await.0, 400);
}

async fn lists_names_and_values(app: &TestApp) {
    let has = |list: &Value, name: &str| list.as_array().is_some_and(|names| names.iter().any(|one| one == name));
    let (_, tags) = ask(app, "/tempo/api/search/tags", &[]).await;
    assert!(has(&tags["tagNames"], "service.name") && has(&tags["tagNames"], "http.status_code"), "{tags}");
    let (_, tags) = ask(app, "/tempo/api/v2/search/tags", &[]).await;
    let scopes: Vec<&str> =
        tags["scopes"].as_array().expect("scopes").iter().filter_map(|s| s["name"].as_str()).collect();
    assert_eq!(scopes, ["event", "resource", "span", "intrinsic"]);
    assert!(has(&tags["scopes"][2]["tags"], "http.status_code") && has(&tags["scopes"][3]["tags"], "rootServiceName"));
    let (_, tags) = ask(app, "/tempo/api/v2/search/tags", &[("scope", "resource")]).await;
    assert_eq!(tags["scopes"], json!([{"name": "resource", "tags": ["k8s.cluster.name", "service.name"]}]));
    for (tag, expect) in [("service.name", ["cart", "db", "front"]), ("name", ["GET /", "SELECT", "list"])] {
        // On a busy machine PostgreSQL may not answer in time, and the values are those of memory.
        eventually(&format!("all values of {tag}"), async || {
            let (_, values) = ask(app, &format!("/tempo/api/search/tag/{tag}/values"), &[]).await;
            (values["tagValues"] == json!(expect)).then_some(())
        })
        .await;
    }
    let query = [("q", r#"{ resource.service.name = "cart" }"#)];
    let (_, values) = ask(app, "/tempo/api/v2/search/tag/.http.status_code/values", &query).await;
    let expect = json!([{"type": "int", "value": "200"}, {"type": "int", "value": "500"}]);
    assert_eq!(values["tagValues"], expect);
    let (_, values) = ask(app, "/tempo/api/v2/search/tag/status/values", &[]).await;
    assert_eq!(values["tagValues"][0], json!({"type": "keyword", "value": "error"}));
    assert_eq!(ask(app, "/tempo/api/v2/search/tag/nonsense/values", &[]).await.0, 400);
}

async fn counts_spans(app: &TestApp, start_ms: i64) {
    let (from, to) = ((start_ms / 1000 - 20).to_string(), (start_ms / 1000 + 40).to_string());
    let range = [("start", from.as_str()), ("end", to.as_str())];
    let query = "{ } | count_over_time() by (resource.service.name)";
    let (status, answer) =
        ask(app, "/tempo/api/metrics/query_range", &[range[0], range[1], ("q", query), ("step", "10s")]).await;
    assert_eq!(status, 200, "{answer}");
    let series = answer["series"].as_array().expect("series");
    let mut totals: Vec<(String, f64)> = (series.iter())
        .map(|one| {
            let samples = one["samples"].as_array().expect("samples");
            assert!(samples.iter().all(|sample| sample["timestampMs"].as_str().is_some_and(|ms| ms.ends_with("0000"))));
            (
                one["promLabels"].as_str().expect("labels").to_owned(),
                samples.iter().filter_map(|s| s["value"].as_f64()).sum(),
            )
        })
        .collect();
    totals.sort_by(|a, b| a.0.cmp(&b.0));
    let label = |service: &str| format!("{{\"resource.service.name\"=\"{service}\"}}");
    assert_eq!(totals, [(label("cart"), 2.0), (label("db"), 1.0), (label("front"), 1.0)]);
    let query = "{ status = error } | max_over_time(duration)";
    let (_, answer) = ask(app, "/tempo/api/metrics/query", &[range[0], range[1], ("q", query)]).await;
    assert_eq!(answer["series"][0]["value"], 0.06, "{answer}");
    assert_eq!(answer["series"][0]["labels"], json!([attribute("__name__", json!({"stringValue": "max_over_time"}))]));
}

async fn refuses_what_is_wrong(app: &TestApp) {
    for (path, parameters, part) in [
        ("search", [("q", "{ foo = 1 }"), ("limit", "5")], "line 1, col 3"),
        ("search", [("q", "{}"), ("limit", "many")], "invalid limit"),
        ("search", [("q", "{}"), ("minDuration", "soon")], "invalid minDuration"),
        ("search", [("start", "200"), ("end", "100")], "start must be before end. received start=200 end=100"),
        ("search", [("q", "{} | rate()"), ("limit", "1")], "metrics query"),
        ("metrics/query_range", [("q", "{}"), ("step", "5s")], "not a metrics query"),
        ("metrics/query_range", [("q", "{} | rate()"), ("step", "1ms")], "too small"),
        ("metrics/query_range", [("q", "{} | compare({})"), ("step", "5s")], "compare() is not supported"),
    ] {
        let (status, body) = ask(app, &format!("/tempo/api/{path}"), &parameters).await;
        assert!(
            status == 400 && body.as_str().is_some_and(|body| body.contains(part)),
            "{parameters:?}: {status} {body}"
        );
    }
    assert_eq!(app.get("/tempo/api/echo").await, (200, "echo".to_owned()));
    assert_eq!(app.get("/tempo/api/nowhere").await.0, 404);
    assert_eq!(ask(app, "/tempo/api/status/buildinfo", &[]).await.1["version"], "2.7.1");
    let (_, answer) = ask(app, "/tempo/api/search", &[("tags", "service.name=db error=\"x\"")]).await;
    assert_eq!(answer["traces"], json!([]));
    let (_, answer) = ask(app, "/tempo/api/search", &[("tags", "http.status_code=500 service.name=cart")]).await;
    assert_eq!(answer["traces"].as_array().map(Vec::len), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_much_is_cut_and_said() {
    let database = postgres::database().await;
    let app = TestApp::start(&database, "traces: {batch_delay: 50ms, trace_spans: 100, search_bytes: 1}\n").await;
    let start_ns = (shop_start_ms() as u64) * 1_000_000;
    let span = |at: u64| {
        let start = start_ns + at * 1_000_000;
        json!({"traceId": TRACE, "spanId": format!("{:016x}", at + 1), "name": "loop", "kind": 1,
               "startTimeUnixNano": start.to_string(), "endTimeUnixNano": (start + 1).to_string()})
    };
    let attributes = [attribute("service.name", json!({"stringValue": "loop"}))];
    let spans: Vec<Value> = (0..500).map(span).collect();
    send(&app, &json!({"resourceSpans": [{"resource": {"attributes": attributes}, "scopeSpans": [{"spans": spans}]}]}))
        .await;
    let (_, trace) = eventually("the trace is there", async || {
        let found = ask(&app, &format!("/tempo/api/v2/traces/{TRACE}"), &[]).await;
        // On a busy machine PostgreSQL may not answer in time, which is another reason to be partial.
        found.1["message"].as_str()?.contains("first 100").then_some(found)
    })
    .await;
    assert_eq!(trace["status"], "PARTIAL");
    let message = trace["message"].as_str().unwrap_or_default();
    assert!(message.contains("first 100"), "{message}");
    assert_eq!(trace["trace"]["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().map(Vec::len), Some(100));
    app.stop().await;
    // One byte may be opened: the first batch is, and nothing after it.
    let app = TestApp::start(&database, "traces: {batch_delay: 50ms, search_bytes: 1}\n").await;
    let mut connection = postgres::connection(&database).await;
    let mut stored = async || -> i64 {
        let count = sqlx::query_scalar("SELECT count(*) FROM span_batch").fetch_one(&mut connection);
        count.await.expect("a number")
    };
    for at in 0..2 {
        let before = stored().await;
        let mut other = shop(shop_start_ms() - at * 1000);
        for resource in other["resourceSpans"].as_array_mut().expect("a list") {
            resource["scopeSpans"][0]["spans"][0]["traceId"] = format!("cc{at:030}").into();
        }
        send(&app, &other).await;
        eventually("a batch of its own", async || (stored().await > before).then_some(())).await;
    }
    app.stop().await;
    let app = TestApp::start(&database, "traces: {search_bytes: 1}\n").await;
    let (_, answer) = ask(&app, "/tempo/api/search", &[("q", "{ kind = producer }")]).await;
    assert_eq!((&answer["status"], &answer["traces"]), (&json!("PARTIAL"), &json!([])), "{answer}");
    assert!(answer["message"].as_str().is_some_and(|text| text.contains("traces.search_bytes")), "{answer}");
    // What was opened to see which of its traces have the attribute is not opened again to read these.
    let (_, answer) = ask(&app, "/tempo/api/search", &[("q", "{ span.http.status_code = 500 }")]).await;
    assert_eq!(answer["traces"].as_array().map(Vec::len), Some(1), "{answer}");
    let newest = sqlx::query_scalar("SELECT length(bytes)::text FROM span_batch ORDER BY last_at DESC LIMIT 1");
    let newest: String = newest.fetch_one(&mut connection).await.expect("a batch");
    assert_eq!(answer["metrics"]["inspectedBytes"], newest.as_str(), "{answer}");
    app.stop().await;
}

/// A file of real answers of Tempo, when the fixtures are there.
fn fixture(name: &str) -> Option<Value> {
    let path = format!("{}/../shared/fixtures/otlp/traces-istio/{name}", env!("CARGO_MANIFEST_DIR"));
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(serde_json::from_str(&text).expect("JSON")),
        Err(_) => {
            println!("fixtures absent: {path}");
            None
        }
    }
}

/// Adds so many nanoseconds to every time.
fn moved(value: &mut Value, by_ns: i64) {
    match value {
        Value::Array(members) => members.iter_mut().for_each(|member| moved(member, by_ns)),
        Value::Object(members) => {
            for (key, member) in members {
                match member.as_str().and_then(|text| text.parse::<i64>().ok()).filter(|_| key.ends_with("UnixNano")) {
                    Some(ns) => *member = (ns + by_ns).to_string().into(),
                    None => moved(member, by_ns),
                }
            }
        }
        _ => {}
    }
}

/// The spans of an answer by their id.
fn spans_by_id(answer: &Value) -> std::collections::BTreeMap<String, Value> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut found = std::collections::BTreeMap::new();
    for batch in list(&answer["batches"]) {
        for mut span in list(&batch["scopeSpans"]).iter().flat_map(|scope| list(&scope["spans"])) {
            span["service"] = batch["resource"]["attributes"][0]["value"].clone();
            found.insert(span["spanId"].as_str().expect("an id").to_owned(), span);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_of_istio_comes_back_as_tempo_answered_it() {
    let (Some(mut sent), Some(mut expect)) =
        (fixture("bookinfo-trace.derived.otlp.json"), fixture("tempo-trace-bookinfo.json"))
    else {
        return;
    };
    // Both tell of the same trace.
    let first = sent["resourceSpans"][0]["scopeSpans"][0]["spans"][0].clone();
    let was_ns: i64 = first["startTimeUnixNano"].as_str().and_then(|text| text.parse().ok()).expect("a time");
    let by_ns = shop_start_ms() * 1_000_000 - was_ns;
    moved(&mut sent, by_ns);
    moved(&mut expect, by_ns);
    let app = TestApp::start(&postgres::database().await, BLOCKS).await;
    send(&app, &sent).await;
    let path = format!("/tempo/api/traces/{}", first["traceId"].as_str().expect("an id"));
    let (_, answer) = eventually("the trace is there", async || {
        let found = ask(&app, &path, &[]).await;
        (found.0 == 200).then_some(found)
    })
    .await;
    let (ours, theirs) = (spans_by_id(&answer), spans_by_id(&expect));
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    for (id, span) in &theirs {
        assert_eq!(ours[id], *span);
    }
    app.stop().await;
}
