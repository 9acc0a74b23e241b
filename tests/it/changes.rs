//! The change timeline through the whole: generations in a real PostgreSQL, restarts, the API, the pages, alerts, effects.

use std::path::Path;
use std::time::Duration;

use meshscope::changes::normal;
use meshscope::clock::Clock;
use meshscope::mesh::{Input, Snapshot};
use meshscope::model::workload::{LatencyHistogram, Outcome, Reporter};
use meshscope::model::{EdgeMinute, Timestamp};
use meshscope::store::StoredGeneration;
use serde_json::{Value, json};

use crate::api_mesh::assert_described;
use crate::app::{Inbox, Target, TestApp, alert_file, eventually, new_folder, one_target, with_ports};
use crate::postgres;
use crate::store_tables::edge_minute;

const MINUTE: Duration = Duration::from_secs(60);

fn rule(pending: u32) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata:\n  name: cart\n  namespace: shop\n\
         spec:\n  host: cart\n  trafficPolicy:\n    connectionPool: {{http: {{http1MaxPendingRequests: {pending}}}}}\n"
    )
}

const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app, namespace: shop}\ndata: {DB_PASSWORD: hunter2, mode: fast}\n";

/// A configuration that reads a folder.
fn reading(folder: &Path) -> String {
    format!("mesh: {{declared: {{files: ['{}'], file_interval: 100ms}}}}\n", folder.display())
}

fn declare(folder: &Path, name: &str, text: &str) {
    // As kubectl and editors do: whole, under another name first.
    let new = folder.join(format!(".{name}.new"));
    std::fs::write(&new, text).expect("write");
    std::fs::rename(new, folder.join(name)).expect("rename");
}

async fn changes(app: &TestApp) -> Vec<Value> {
    let data = app.data("/api/mesh/v1/changes").await;
    data["changes"].as_array().expect("a list").clone()
}

/// The newest of so many changes.
async fn newest(app: &TestApp, count: usize) -> Value {
    eventually(&format!("there are {count} changes"), async || {
        let mut all = changes(app).await;
        (all.len() == count).then(|| all.swap_remove(0))
    })
    .await
}

/// Waits until what was declared at the start is stored: then a change is a change.
async fn stored(app: &TestApp, path: &str) -> Value {
    eventually("the first sight is stored", async || {
        let (status, body) = app.get(path).await;
        let mut answer: Value = serde_json::from_str(&body).unwrap_or_default();
        let is_there = status == 200 && answer["data"]["history"].as_array().is_some_and(|all| !all.is_empty());
        is_there.then(|| answer["data"].take())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_kept_shown_and_survives_restarts() {
    let (database, folder, declared) = (postgres::database().await, new_folder(), new_folder());
    declare(&declared, "cart.yaml", &rule(100));
    declare(&declared, "map.yaml", MAP);
    let text = with_ports(&database, &reading(&declared));
    let app = TestApp::start_in(&folder, &text).await;
    let first = stored(&app, "/api/mesh/v1/resources/DestinationRule/shop/cart").await;
    assert_eq!((&first["declared"], &first["history"][0]["action"]), (&json!(true), &json!("first")));
    assert_eq!(first["governs"], json!(["calls of cart.shop"]));
    assert!(changes(&app).await.is_empty(), "what was there is no change");
    assert!(app.get("/changes").await.1.contains("Nothing changed in this range"));

    declare(&declared, "cart.yaml", &rule(1));
    let change = newest(&app, 1).await;
    let path = "spec.trafficPolicy.connectionPool.http.http1MaxPendingRequests";
    assert_eq!(change["fields"], json!([{"path": path, "before": "100", "after": "1"}]));
    assert_eq!(
        (&change["kind"], &change["action"], &change["generation"], &change["origin"]),
        (&json!("DestinationRule"), &json!("changed"), &json!(2), &json!("files"))
    );
    declare(&declared, "map.yaml", &MAP.replace("fast", "slow").replace("hunter2", "hunter3"));
    let change = newest(&app, 2).await;
    assert_eq!(change["fields"], json!([{"path": "data.mode", "before": "fast", "after": "slow"}]));
    app.stop().await;

    // While nobody looks one is changed and one is taken away; what is known is not told again.
    declare(&declared, "cart.yaml", &rule(7));
    let app = TestApp::start_in(&folder, &text).await;
    let change = newest(&app, 3).await;
    assert_eq!(change["fields"], json!([{"path": path, "before": "1", "after": "7"}]));
    app.stop().await;
    std::fs::remove_file(declared.join("map.yaml")).expect("remove");
    let app = TestApp::start_in(&folder, &text).await;
    let change = newest(&app, 4).await;
    assert_eq!((&change["kind"], &change["action"]), (&json!("ConfigMap"), &json!("deleted")));
    declare(&declared, "map.yaml", MAP);
    let change = newest(&app, 5).await;
    assert_eq!((&change["action"], &change["generation"]), (&json!("created"), &json!(4)));
    asked(&app).await;
    shown(&app).await;
    app.stop().await;
}

/// The API: filters, one object, two of its revisions, what is refused; all as the OpenAPI document says.
async fn asked(app: &TestApp) {
    let (_, document) = app.get("/api/mesh/v1/openapi.json").await;
    let document: Value = serde_json::from_str(&document).expect("JSON");
    let described = async |path: &str, template: &str| -> Value {
        let (status, body) = app.get(path).await;
        let answer: Value = serde_json::from_str(&body).expect("JSON");
        let responses = &document["paths"][template]["get"]["responses"];
        let which = if status == 200 { &responses["200"] } else { &responses["default"] };
        assert_described(&document, &which["content"]["application/json"]["schema"], &answer, path);
        json!({"status": status, "data": answer["data"], "error": answer["error"], "warnings": answer["warnings"]})
    };
    let (list, one) = ("/api/mesh/v1/changes", "/api/mesh/v1/resources/{kind}/{namespace}/{name}");
    for (query, count) in [
        ("", 5),
        ("?kind=destinationrules", 2),
        ("?kind=ConfigMap&namespace=shop&name=app", 3),
        ("?namespace=pay", 0),
        ("?limit=2", 2),
        ("?from=0&to=1", 0),
        ("?namespace=%00", 0),
    ] {
        let answer = described(&format!("{list}{query}"), list).await;
        assert_eq!(answer["data"]["changes"].as_array().map(Vec::len), Some(count), "{query}: {answer}");
        assert!(answer["warnings"].is_null(), "{query}: {answer}");
    }
    for query in ["?kind=Nonsense", "?limit=0", "?from=x", "?from=2&to=1"] {
        assert_eq!(described(&format!("{list}{query}"), list).await["status"], 400, "{query}");
    }
    let path = "/api/mesh/v1/resources/DestinationRule/shop/cart";
    let answer = described(&format!("{path}?from=1&to=3"), one).await;
    let data = &answer["data"];
    assert_eq!(data["history"].as_array().map(Vec::len), Some(3), "{data}");
    assert_eq!(
        (&data["diff"]["fields"][0]["before"], &data["diff"]["fields"][0]["after"]),
        (&json!("100"), &json!("7"))
    );
    let yaml = data["yaml"].as_str().expect("YAML");
    assert!(yaml.starts_with("apiVersion: networking.istio.io/v1\nkind: DestinationRule\n"), "{yaml}");
    assert!(
        yaml.contains("          http1MaxPendingRequests: 7\n") || yaml.contains("http1MaxPendingRequests: 7\n"),
        "{yaml}"
    );
    let (_, map) = app.get("/api/mesh/v1/resources/configmaps/shop/app?from=1&to=2").await;
    assert!(map.contains("***") && !map.contains("hunter"), "{map}");
    for (path, status) in [
        ("Nonsense/shop/cart", 404),
        ("DestinationRule/shop/other", 404),
        ("DestinationRule/shop/cart?from=1", 400),
        ("DestinationRule/shop/cart?from=x&to=1", 400),
        ("DestinationRule/shop/cart?from=1&to=99", 404),
        ("DestinationRule/shop/%00", 404),
    ] {
        let answer = described(&format!("/api/mesh/v1/resources/{path}"), one).await;
        assert_eq!(answer["status"], status, "{path}: {answer}");
    }
}

/// The pages.
async fn shown(app: &TestApp) {
    let (status, page) = app.get("/changes?range=1h").await;
    assert_eq!(status, 200, "{page}");
    for part in [
        "DestinationRule shop/cart",
        "/resource/DestinationRule/shop/cart",
        "spec.trafficPolicy.connectionPool.http.http1MaxPendingRequests",
        "<del>1</del>",
        "<ins>7</ins>",
        "ConfigMap shop/app",
        "deleted",
        "2 objects of 2 files",
    ] {
        assert!(page.contains(part), "{part} is not in\n{page}");
    }
    assert!(!page.contains("hunter"), "{page}");
    let (_, page) = app.get("/changes?kind=ConfigMap&namespace=shop&range=30d").await;
    assert!(page.contains("ConfigMap shop/app") && !page.contains("DestinationRule shop/cart"), "{page}");
    let (status, page) = app.get("/resource/DestinationRule/shop/cart?from=1&to=3").await;
    assert_eq!(status, 200, "{page}");
    for part in
        ["calls of cart.shop", "Revision 1 against 3", "<del>100</del>", "id=\"L1\"", "cart.yaml:1", "generation 3"]
    {
        assert!(page.contains(part), "{part} is not in\n{page}");
    }
    let (_, page) = app.get("/resource/ConfigMap/shop/app").await;
    assert!(page.contains("***") && !page.contains("hunter"), "{page}");
    for (path, status) in [
        ("/changes?kind=Nonsense", 400),
        ("/changes?range=x", 400),
        ("/changes?kind=a&kind=b", 400),
        ("/resource/Nonsense/shop/cart", 404),
        ("/resource/DestinationRule/shop/%3Cscript%3E", 404),
        ("/resource/DestinationRule/shop/cart?from=1", 400),
        ("/resource/DestinationRule/shop/cart?from=1&to=99", 400),
    ] {
        let (found, page) = app.get(path).await;
        assert_eq!(found, status, "{path}");
        assert!(!page.contains("<script>"), "{path}: {page}");
    }
    let (_, metrics) = app.get("/metrics").await;
    assert!(metrics.contains("meshscope_declared_objects 2"), "{metrics}");
}

fn page(requests: u32) -> String {
    format!(
        "# TYPE istio_requests_total counter\nistio_requests_total{{reporter=\"source\",source_workload=\"web\",\
         source_workload_namespace=\"shop\",destination_workload=\"cart-v1\",destination_workload_namespace=\"shop\",\
         destination_service_namespace=\"shop\",destination_service_name=\"cart\",response_code=\"503\",\
         response_flags=\"UO\"}} {requests}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_names_the_change_that_came_before_it() {
    let (database, folder, declared) = (postgres::database().await, new_folder(), new_folder());
    declare(&declared, "cart.yaml", &rule(100));
    let (inbox, webhook) = Inbox::new().await;
    let target = Target::new(&page(10)).await;
    let alert = alert_file(
        "CartFails",
        "sum by (destination_service_name, destination_service_namespace) (istio_requests_total) > 100",
        "0s",
    );
    std::fs::write(
        folder.join("rules.yaml"),
        alert.replace("annotations: {", "annotations: {meshscope_context: \"on\", "),
    )
    .expect("write");
    let blocks =
        format!("{}{}alert_context: {{time_limit: 5s}}\n", one_target(target.address, webhook), reading(&declared));
    let app = TestApp::start_in(&folder, &with_ports(&database, &blocks)).await;
    stored(&app, "/api/mesh/v1/resources/DestinationRule/shop/cart").await;
    declare(&declared, "cart.yaml", &rule(1));
    newest(&app, 1).await;
    let mut requests = 20;
    eventually("the alert is told", async || {
        requests += 30;
        target.show(&page(requests));
        tokio::time::sleep(Duration::from_millis(300)).await;
        inbox.told().iter().any(|told| told == "firing CartFails").then_some(())
    })
    .await;
    let told = inbox.annotation("meshscope_change").expect("the change is named");
    assert!(told.starts_with("DestinationRule shop/cart, generation 2 changed "), "{told}");
    assert!(told.ends_with("): spec.trafficPolicy.connectionPool.http.http1MaxPendingRequests 100 → 1"), "{told}");
    app.stop().await;
}

/// A minute of a hundred requests of web to cart, so many of them failed.
fn minute(at: Timestamp, failed: f64) -> EdgeMinute {
    let outcome = |code: &str| Outcome { code: code.into(), grpc_status: "".into(), flags: "-".into() };
    let mut one = edge_minute(at, Reporter::Source, "web", "cart");
    std::sync::Arc::make_mut(&mut one.edge).service.name = Some("cart".into());
    std::sync::Arc::make_mut(&mut one.edge).service.namespace = Some("shop".into());
    one.requests = vec![(outcome("200"), 100.0 - failed), (outcome("503"), failed)];
    one.latency = LatencyHistogram::default();
    one
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_change_did_to_the_traffic_is_found_by_itself() {
    effect_is_found(MINUTE * 18).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_change_did_while_nobody_looked_is_found_later() {
    effect_is_found(MINUTE * 60 * 5).await;
}

/// A change so long ago, that nobody judged, is judged from what is stored.
async fn effect_is_found(ago: Duration) {
    let (database, folder, declared) = (postgres::database().await, new_folder(), new_folder());
    let now = Clock::system().now();
    let at = (now - ago).floor_to(MINUTE) + Duration::from_secs(20);
    {
        let store = postgres::connect(&database).await;
        let from = at.floor_to(MINUTE) - MINUTE * 40;
        let failed = |at_minute: Timestamp| if at_minute >= at.floor_to(MINUTE) + MINUTE * 2 { 34.0 } else { 0.0 };
        let minutes = (0..57).map(|i| from + MINUTE * i).map(|minute_at| minute(minute_at, failed(minute_at)));
        store.write_edges(minutes.collect()).await.expect("write");
        let mesh = Snapshot::read(&[Input { name: "a".into(), text: rule(1) }], "default");
        let normal = normal(mesh.iter().next().expect("the rule"));
        let generation = StoredGeneration {
            resource: "/DestinationRule/shop/cart".into(),
            kind: "DestinationRule".into(),
            namespace: Some("shop".into()),
            name: "cart".into(),
            seen_at: at,
            hash: normal.hash,
            body: Some(normal.body.to_string()),
            revision: 7,
            generation: None,
            origin: "files".into(),
            action: "changed".into(),
            writer: None,
            fields: Some(json!({"fields": [{"path": "spec.x", "before": "100", "after": "1"}], "left_out": 0})),
            effects: None,
        };
        store.write_generations(&[generation]).await.expect("write");
        store.close().await;
    }
    declare(&declared, "cart.yaml", &rule(1));
    let app = TestApp::start_in(&folder, &with_ports(&database, &reading(&declared))).await;
    let effect = eventually("the effect is found", async || {
        let effect = changes(&app).await.first()?["effects"][0].clone();
        effect.is_object().then_some(effect)
    })
    .await;
    let text = effect["text"].as_str().expect("a sentence");
    assert!(text.contains("cart.shop rose from 0 % to 34 %, 2 minutes later (probability 0.9"), "{text}");
    assert_eq!((&effect["measure"], &effect["delaySeconds"]), (&json!("5xx"), &json!(120)));
    assert!(effect["probability"].as_f64().is_some_and(|probability| probability > 0.94), "{effect}");
    let (_, page) = app.get("/changes?range=24h").await;
    assert!(page.contains("rose from 0 % to 34 %"), "{page}");
    // It is stored: the next process need not find it again.
    app.stop().await;
    let store = postgres::connect(&database).await;
    let history = store.resource_history("/DestinationRule/shop/cart", 5).await.expect("read");
    assert_eq!(history.len(), 1, "a restart repeats nothing");
    assert_eq!(history[0].effects.as_ref().map(|all| all[0]["measure"].clone()), Some(json!("5xx")));
}
