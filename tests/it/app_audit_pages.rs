//! The audit as its users see it, over a real socket: the page with scorecard and findings, findings in place on the page of
//! an object, what holds and how it compares on the pages of services and edges, and the API behind them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::api_mesh::assert_described;
use crate::app::{Target, TestApp, eventually, new_folder, with_ports};
use crate::postgres;

const DECLARED: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {istio-injection: enabled}}\n---\n\
    apiVersion: v1\nkind: Service\nmetadata: {name: reviews, namespace: shop}\nspec: {selector: {app: reviews}, ports: [{name: http, port: 80}]}\n---\n\
    apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: reviews-v1, namespace: shop}\nspec: {selector: {matchLabels: {app: reviews, version: v1}}, \
    template: {metadata: {labels: {app: reviews, version: v1}}, spec: {containers: [{name: a, image: a}]}}}\n---\n\
    apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: reviews-v2, namespace: shop}\nspec: {selector: {matchLabels: {app: reviews, version: v2}}, \
    template: {metadata: {labels: {app: reviews, version: v2}}, spec: {containers: [{name: a, image: a}]}}}\n---\n\
    apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\nspec: {selector: {matchLabels: {app: web}}, \
    template: {metadata: {labels: {app: web}}, spec: {containers: [{name: a, image: a}]}}}\n---\n\
    apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: reviews, namespace: shop}\nspec:\n  hosts: [reviews]\n  http:\n  - route:\n    \
    - {destination: {host: reviews, subset: v1}, weight: 90}\n    - {destination: {host: reviews, subset: v2}, weight: 10}\n---\n\
    apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: reviews, namespace: shop}\nspec:\n  host: reviews\n  subsets:\n  \
    - {name: v1, labels: {version: v1}}\n  - {name: v2, labels: {version: v2}}\n---\n\
    apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default, namespace: shop}\nspec: {mtls: {mode: STRICT}}\n---\n\
    apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: closed, namespace: desk}\nspec: {}\n";

/// What the caller's proxy has counted: half of the calls reach each version, and nine to one is declared.
fn page(requests: u32) -> String {
    let line = |version: &str| {
        format!(
            "istio_requests_total{{reporter=\"source\",source_workload=\"web\",source_workload_namespace=\"shop\",source_app=\"web\",\
             destination_workload=\"reviews-{version}\",destination_workload_namespace=\"shop\",destination_app=\"reviews\",\
             destination_version=\"{version}\",destination_service=\"reviews.shop.svc.cluster.local\",\
             destination_service_name=\"reviews\",destination_service_namespace=\"shop\",request_protocol=\"http\",\
             response_code=\"200\",response_flags=\"-\",connection_security_policy=\"unknown\"}} {requests}\n"
        )
    };
    format!("# TYPE istio_requests_total counter\n{}{}", line("v1"), line("v2"))
}

async fn start() -> (TestApp, Target) {
    let (database, folder, declared) = (postgres::database().await, new_folder(), new_folder());
    std::fs::write(declared.join("mesh.yaml"), DECLARED).expect("write");
    let target = Target::new(&page(10)).await;
    let blocks = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n- job_name: mesh\n  static_configs: \
         [{{targets: ['{}']}}]\nmesh:\n  declared: {{files: ['{}'], file_interval: 100ms}}\n  suppress: [{{code: MS0507, reason: \
         'everybody may call <b>here</b>'}}]\naudit: {{interval: 1s, window: 2m}}\n",
        target.address,
        declared.display()
    );
    let app = TestApp::start_in(&folder, &with_ports(&database, &blocks)).await;
    (app, target)
}

async fn says(app: &TestApp, path: &str, texts: &[&str]) -> String {
    eventually(&format!("{path} says {texts:?}"), async || {
        let (status, page) = app.get(path).await;
        (status == 200 && texts.iter().all(|text| page.contains(text))).then_some(page)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drifting_split_is_seen_wherever_it_matters() {
    let (app, target) = start().await;
    let mut requests = 10;
    eventually("the drift is found", async || {
        requests += 200;
        target.show(&page(requests));
        tokio::time::sleep(Duration::from_millis(300)).await;
        let data = app.data("/api/mesh/v1/audit?code=MS2001").await;
        (data["total"] == 1).then_some(())
    })
    .await;
    on_the_audit_page(&app).await;
    on_the_objects_page(&app).await;
    on_the_pages_of_traffic(&app).await;
    in_the_api(&app).await;
    app.stop().await;
}

async fn on_the_audit_page(app: &TestApp) {
    let drift = "is declared 10.0 % of the traffic and gets 50.0 %";
    let page = says(app, "/audit", &["MS2001", "Configure traffic management", "Over-complexity", "Namespaces"]).await;
    assert!(page.contains("suppressed") && page.contains("aria-current=\"page\">Audit"), "{page}");
    says(
        app,
        "/audit?code=MS2001&namespace=shop",
        &["gets 50.0 %", "/resource/VirtualService/shop/reviews", "1 match"],
    )
    .await;
    let quiet = says(app, "/audit?show=suppressed", &["everybody may call &#60;b&#62;here"]).await;
    // The scorecard above them still names it as the next step.
    let listed = quiet.split("aria-label=\"Findings\"").nth(1).expect("the findings");
    assert!(!listed.contains(drift), "{quiet}");
    for (path, status) in [
        ("/audit?severity=loud", 400),
        ("/audit?page=x", 400),
        ("/audit?show=all&show=open", 400),
        ("/audit?namespace=nowhere", 200),
        ("/audit?code=%3Cscript%3E&q=%3Cscript%3E", 200),
    ] {
        let (found, page) = app.get(path).await;
        assert_eq!(found, status, "{path}");
        assert!(!page.contains("<script>"), "{path}");
    }
}

async fn on_the_objects_page(app: &TestApp) {
    let page = says(
        app,
        "/resource/VirtualService/shop/reviews",
        &["Traffic it steers", "Declared and seen", "in-place small degraded", "90.0 %", "web"],
    )
    .await;
    // The finding stands at the line of the weight that does not hold.
    let line =
        page.split("<li id=").find(|line| line.contains("in-place") && line.contains("MS2001")).expect("in place");
    assert!(line.contains("weight: "), "{line}");
    let policy = says(app, "/resource/PeerAuthentication/shop/default", &["namespace shop", "Traffic it steers"]).await;
    assert!(policy.contains("reviews-v1"), "{policy}");
}

async fn on_the_pages_of_traffic(app: &TestApp) {
    let graph = app.data("/api/mesh/v1/graph").await;
    let edge = graph["edges"].as_array().expect("edges").iter().find_map(|one| one["id"].as_str()).expect("an edge");
    let edge: String = edge
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect();
    says(
        app,
        "/service/shop/reviews",
        &["Declared and seen", "callers in shop", "VirtualService shop/reviews", "subsets"],
    )
    .await;
    says(app, &format!("/edge/{edge}"), &["What holds when shop/web call reviews", "mutual TLS", "STRICT", "50.0%"])
        .await;
    says(app, "/workload/shop/reviews-v1", &["What holds for shop/reviews-v1", "PeerAuthentication shop/default"])
        .await;
}

async fn in_the_api(app: &TestApp) {
    let (_, document) = app.get("/api/mesh/v1/openapi.json").await;
    let document: Value = serde_json::from_str(&document).expect("JSON");
    let described = async |path: &str, template: &str| -> Value {
        let (status, body) = app.get(path).await;
        assert_eq!(status, 200, "{path}: {body}");
        let mut answer: Value = serde_json::from_str(&body).expect("JSON");
        let schema = &document["paths"][template]["get"]["responses"]["200"]["content"]["application/json"]["schema"];
        assert_described(&document, schema, &answer, path);
        answer["data"].take()
    };
    let (audit, effective) = ("/api/mesh/v1/audit", "/api/mesh/v1/effective");
    described(audit, audit).await;
    let comparisons = format!("{audit}/comparisons");
    let data = described(&format!("{comparisons}?object=VirtualService%20shop/reviews"), &comparisons).await;
    assert_eq!(data["total"], json!(2));
    assert_eq!(
        (&data["comparisons"][0]["declared"], &data["comparisons"][0]["verdict"]),
        (&json!(0.9), &json!("differs"))
    );
    assert_eq!(data["comparisons"][0]["callers"][0]["name"], json!("shop/web"));
    let scorecard = format!("{audit}/scorecard");
    let data = described(&format!("{scorecard}?namespace=shop"), &scorecard).await;
    assert!(data["scores"].as_array().is_some_and(|all| all.len() == 15), "{data}");
    let (status, text) = app.get(&format!("{scorecard}?format=markdown")).await;
    assert!(
        status == 200 && text.contains("## Namespace shop") && text.contains("| Configure traffic management |"),
        "{text}"
    );
    assert_eq!(app.get(&format!("{scorecard}?format=pdf")).await.0, 400);
    let data = described(&format!("{effective}?namespace=shop&workload=web&host=reviews"), effective).await;
    let from = |rows: &Value, setting: &str| {
        let row = rows.as_array().expect("rows").iter().find(|one| one["setting"] == setting).expect("a row").clone();
        (row["value"].clone(), row["from"].clone())
    };
    assert_eq!(from(&data["workload"], "mutual TLS"), (json!("STRICT"), json!("PeerAuthentication shop/default")));
    assert_eq!(from(&data["calls"], "subsets"), (json!("v1, v2"), json!("DestinationRule shop/reviews")));
    assert_eq!(app.get(&format!("{effective}?namespace=shop")).await.0, 400);
}
