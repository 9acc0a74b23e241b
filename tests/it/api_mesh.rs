//! Our own API, and its OpenAPI document held against real answers: every path answers, every field is described.

use std::sync::Arc;
use std::time::Duration;

use meshscope::access_logs::{self, AccessRecord};
use meshscope::clock::Clock;
use meshscope::model::span::{AttributeValue, Resource, SpanEvent, SpanKind, SpanLink, SpanStatus};
use meshscope::model::{Labels, Span, workload::Reporter};
use meshscope::rollup::Rollup;
use meshscope::series::{self, Head};
use meshscope::traces::Live;
use serde_json::{Value, json};

use crate::api::{Parts, Server};
use crate::store_tables::edge_minute;

const TRACE: [u8; 16] = [0xab; 16];

fn span(id: u8, parent: Option<u8>, service: &str, start_ns: u64, duration_ms: u64) -> Span {
    Span {
        trace_id: TRACE,
        span_id: [id; 8],
        parent_id: parent.map(|id| [id; 8]),
        kind: if parent.is_none() { SpanKind::Client } else { SpanKind::Server },
        service: service.into(),
        name: "GET /cart".into(),
        start_ns,
        duration_ns: duration_ms * 1_000_000,
        status: if parent.is_some() { SpanStatus::Error } else { SpanStatus::Unset },
        status_message: if parent.is_some() { "no <stock>" } else { "" }.into(),
        attributes: vec![
            ("http.status_code".into(), AttributeValue::Int(503)),
            ("ratio".into(), AttributeValue::Double(0.5)),
            ("list".into(), AttributeValue::Json("[1,2]".into())),
        ]
        .into(),
        resource: Arc::new(Resource {
            attributes: vec![("service.name".into(), AttributeValue::String(service.into()))].into(),
        }),
        scope: "test".into(),
        events: vec![SpanEvent {
            at_ns: start_ns + 1,
            name: "retry".into(),
            attributes: vec![("n".into(), AttributeValue::Bool(true))].into(),
        }],
        links: vec![SpanLink { trace_id: [1; 16], span_id: [2; 8], attributes: Default::default() }],
    }
}

/// What the cart's proxy told of a request that it denied.
fn denied(at_ns: u64) -> AccessRecord {
    let reader = access_logs::Reader::new(&[]);
    let mut session = reader.begin(4096);
    let mut fields = access_logs::Fields::default();
    for (name, value) in [
        ("node_id", "sidecar~10.0.0.1~cart-v1-6f89b6c557-sg2bc.shop~shop.svc.cluster.local"),
        ("downstream_peer", "spiffe://cluster.local/ns/shop/sa/web"),
        ("response_code", "403"),
        ("response_code_details", "rbac_access_denied_matched_policy[ns[shop]-policy[deny-get]-rule[1]]"),
        ("response_flags", "UAEX"),
        ("grpc_status", "7"),
        ("upstream_cluster", "inbound|8080||"),
        ("duration", "3"),
        ("upstream_service_time", "2"),
        ("canonical_name", "cart"),
    ] {
        fields.take(name, value);
    }
    let stamp = access_logs::Stamp { at_ns, trace_id: Some(TRACE), span_id: Some([2; 8]) };
    session.record(stamp, &fields, (&access_logs::Origin::default(), false)).expect("an access log")
}

async fn server() -> Server {
    let now = Clock::system().now();
    let start_ns = u64::try_from(now.as_millis()).expect("after 1970") * 1_000_000 - 2_000_000_000;
    let live = Live::new(1000, 1 << 20);
    live.push(&[span(1, None, "web", start_ns, 30), span(2, Some(1), "cart", start_ns + 5_000_000, 20)]);
    let rollup = Rollup::default();
    let minute = now.floor_to(Duration::from_secs(60));
    rollup.add(edge_minute(minute, Reporter::Source, "web", "cart"));
    rollup.advance(now + Duration::from_secs(180));
    let head = Head::new(series::Config::default());
    head.intern(&Labels::from_pairs([("__name__", "a"), ("job", "j")])).expect("room");
    let rules = meshscope::rules::Status::default();
    let text = include_str!("../../alerts/examples/guide.yaml");
    let parsed = meshscope::rules::file::parse("guide.yaml", text, meshscope::rules::ReadOptions::default());
    rules.define(&parsed.groups.into_iter().map(Arc::new).collect::<Vec<_>>());
    let logs = meshscope::access_logs::Config::default().live();
    logs.push(&[Arc::new(denied(start_ns))]);
    Server::start(Parts { live: Some(live), logs: Some(logs), head: Some(head), rollup, rules, ..Parts::default() })
        .await
}

#[tokio::test]
async fn a_trace_is_found_and_shown_as_a_tree() {
    let server = server().await;
    let id = "ab".repeat(16);
    let found = server.get("/api/mesh/v1/traces?service=cart").await.json();
    let one = &found["data"]["traces"][0];
    assert_eq!((&one["traceId"], &one["spanCount"], &one["errorCount"]), (&json!(id), &json!(2), &json!(1)), "{found}");
    assert_eq!((&one["rootService"], &one["durationMs"]), (&json!("web"), &json!(30)));
    for nothing in ["service=nosuch", "minDuration=31ms", "operation=nosuch", "start=10&end=20"] {
        let found = server.get(&format!("/api/mesh/v1/traces?{nothing}")).await.json();
        assert_eq!(found["data"]["traces"], json!([]), "{nothing}");
    }
    let trace = server.get(&format!("/api/mesh/v1/traces/{id}")).await.json();
    let spans = trace["data"]["spans"].as_array().expect("spans");
    assert_eq!(spans.len(), 2);
    let child = &spans[1];
    assert_eq!((&child["depth"], &child["offsetMs"], &child["kind"]), (&json!(1), &json!(5), &json!("server")));
    assert_eq!((&child["status"], &child["statusMessage"]), (&json!("error"), &json!("no <stock>")));
    assert_eq!(child["attributes"], json!({"http.status_code": 503, "list": [1, 2], "ratio": 0.5}));
    assert_eq!(spans[0].get("parentId"), None);
    for (path, status) in [
        ("traces/zz", 400),
        ("traces/1234", 404),
        ("traces?errors=maybe", 400),
        ("traces?start=2&end=1", 400),
        ("traces?limit=-1", 400),
        ("graph?view=x", 400),
        ("cardinality?limit=0", 400),
        ("cardinality?limit=1001", 400),
        ("rules/lint?limit=0", 400),
        ("notifications/x", 400),
        ("notifications/1", 404),
        ("alerts?search=a%3D~(", 400),
        ("alerts/history?start=2&end=1", 400),
        ("alerts/history?fingerprint=xyz", 400),
        ("alerts/history?before=xyz", 400),
        ("access-logs?reason=bad-luck", 400),
        ("access-logs?code=teapot", 400),
        ("access-logs?trace=xyz", 400),
        ("access-logs?failures=maybe", 400),
        ("access-logs?from=2&to=1", 400),
        ("access-logs?limit=1001", 400),
        ("nosuch", 404),
    ] {
        let answer = server.get(&format!("/api/mesh/v1/{path}")).await;
        assert_eq!((answer.status, &answer.json()["status"]), (status, &json!("error")), "{path}");
    }
}

#[tokio::test]
async fn an_access_log_record_is_found_by_edge_reason_code_and_trace() {
    let server = server().await;
    let id = "ab".repeat(16);
    let found = server.get("/api/mesh/v1/access-logs").await.json();
    let one = &found["data"]["records"][0];
    assert_eq!((&one["source"], &one["destination"]), (&json!("shop/web"), &json!("shop/cart-v1")), "{found}");
    assert_eq!(
        (&one["reason"], &one["policy"], &one["rule"]),
        (&json!("rbac_denied"), &json!("shop/deny-get"), &json!(1))
    );
    assert_eq!((&one["traceId"], &one["flagsInWords"]), (&json!(id), &json!("ext-authz denied")));
    for (query, expect) in [
        ("source=web&destination=shop/cart-v1", 1),
        ("source=cart-v1", 0),
        ("reason=rbac_denied", 1),
        ("reason=overflow", 0),
        ("failures=true&code=403", 1),
        ("code=4xx", 1),
        ("code=404", 0),
        (&*format!("trace={id}"), 1),
        ("trace=1234", 0),
        ("from=10&to=20", 0),
    ] {
        let found = server.get(&format!("/api/mesh/v1/access-logs?{query}")).await.json();
        assert_eq!(found["data"]["records"].as_array().map(Vec::len), Some(expect), "{query}: {found}");
    }
}

#[tokio::test]
async fn the_openapi_document_describes_every_answer() {
    let server = server().await;
    let document = server.get("/api/mesh/v1/openapi.json").await.json();
    let paths = document["paths"].as_object().expect("paths");
    assert_eq!(paths.len(), 29);
    let gets = paths.iter().filter(|(_, operation)| operation["get"].is_object());
    // A notification or an object must be there first: app_alert_pages.rs and changes.rs of tests/it ask for one.
    let needs_one = |path: &str| path.ends_with("notifications/{id}") || path.contains("{kind}");
    for (path, operation) in gets.filter(|(path, _)| !needs_one(path)) {
        let wanted = path.replace("{id}", &"ab".repeat(16)).replace("{uid}", "meshscope-edge");
        let needed = match path.rsplit('/').next() {
            Some("preview") => "?matcher=a%3Db",
            Some("blast-radius") => "?node=workload:/shop/cart",
            Some("graph") => {
                "?boxBy=cluster,namespace&find=rate%3E0&pathFrom=workload:/shop/web&pathTo=workload:/shop/cart"
            }
            Some("effective") => "?namespace=shop&workload=cart&host=cart",
            Some("complete") => "?expression=rate%20%3E",
            _ => "",
        };
        let answer = server.get(&format!("{wanted}{needed}")).await;
        assert_eq!(answer.status, 200, "{wanted}: {}", answer.body);
        let responses = &operation["get"]["responses"];
        assert_described(&document, &responses["200"]["content"]["application/json"]["schema"], &answer.json(), path);
        if path.ends_with("openapi.json") || path.ends_with("replicas") {
            continue; // they have no parameters
        }
        let refused = server
            .get(&format!("{}?start=x&end=y&state=x&limit=x&matcher=x", wanted.replace(&"ab".repeat(16), "zz")))
            .await;
        assert_eq!(refused.status, 400, "{wanted}");
        let schema = &responses["default"]["content"]["application/json"]["schema"];
        assert_described(&document, schema, &refused.json(), path);
    }
    // The answers checked above were not empty ones.
    let graph = server.get("/api/mesh/v1/graph").await.json();
    assert!(graph["data"]["edges"][0]["outcomes"][0]["count"].is_number(), "{graph}");
    let linted = server.get("/api/mesh/v1/rules/lint").await.json();
    let found = &linted["data"]["findings"];
    assert_eq!((&linted["data"]["rules"], &found[0]["code"]), (&json!(1), &json!("counter-compared")), "{linted}");
    assert!(found.as_array().expect("findings").iter().any(|one| one["code"] == "unseen"), "{linted}");
}

#[test]
fn the_openapi_document_is_the_one_that_is_checked_in() {
    let fresh = meshscope::api::openapi();
    let checked_in = include_str!("../../docs/openapi.json");
    assert!(fresh == checked_in, "stale: run `meshscope openapi --out docs/openapi.json`");
    let document: Value = serde_json::from_str(&fresh).expect("JSON");
    for (path, operation) in document["paths"].as_object().expect("paths") {
        for operation in operation.as_object().expect("operations").values() {
            assert!(!operation["summary"].as_str().unwrap_or_default().is_empty(), "{path} has no summary");
            for parameter in operation["parameters"].as_array().expect("parameters") {
                assert!(parameter["description"].is_string(), "{path}: {parameter} is not described");
            }
        }
    }
    // Two types of one name would be told apart by a number, which means nothing to readers.
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    let numbered: Vec<&String> =
        schemas.keys().filter(|name| name.ends_with(|last: char| last.is_ascii_digit())).collect();
    assert_eq!(numbered, Vec::<&String>::new());
}

/// Whether `value` has what `schema` demands and nothing it does not name.
pub fn assert_described(document: &Value, schema: &Value, value: &Value, place: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.trim_start_matches('#')).expect("a schema of that name");
        return assert_described(document, target, value, place);
    }
    if let Some(schemas) = schema["anyOf"].as_array() {
        let usual = schemas.first().expect("a schema");
        return assert_described(document, usual, value, place);
    }
    let fits = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("number") => value.is_number(),
        Some("integer") => value.is_u64(),
        Some("boolean") => value.is_boolean(),
        other => panic!("{place}: a schema of type {other:?}"),
    };
    assert!(fits, "{place}: {value} is not {}", schema["type"]);
    // Items of a list are described by the list, unless they have fields of their own.
    let is_item = place.ends_with(']') && !value.is_object();
    assert!(is_item || schema["description"].is_string(), "{place} is not described");
    if let Some(allowed) = schema["enum"].as_array() {
        assert!(allowed.contains(value), "{place}: {value} is none of {allowed:?}");
    }
    if let Some(items) = value.as_array() {
        items.iter().for_each(|item| assert_described(document, &schema["items"], item, &format!("{place}[]")));
    }
    let Some(fields) = value.as_object().filter(|_| schema["additionalProperties"] != true) else { return };
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        assert!(fields.contains_key(name), "{place}: {name} is required and absent");
    }
    for (name, field) in fields {
        if let Some(kind) = schema["additionalProperties"].as_object() {
            // A map: its values are of one kind.
            assert_described(document, &Value::Object(kind.clone()), field, &format!("{place}[]"));
            continue;
        }
        let described = &schema["properties"][name];
        assert!(!described.is_null(), "{place}: {name} is not in the document");
        assert_described(document, described, field, &format!("{place}.{name}"));
    }
}
