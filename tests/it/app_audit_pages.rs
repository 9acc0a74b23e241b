//! The page of the audit as its users see it, over a real socket.

use std::time::Duration;

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
    apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default, namespace: shop}\nspec: {mtls: {mode: STRICT}}\n";

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
    app.stop().await;
}

async fn on_the_audit_page(app: &TestApp) {
    let page = says(app, "/audit", &["MS2001", "Configure traffic management", "Over-complexity", "Namespaces"]).await;
    assert!(page.contains("suppressed") && page.contains("aria-current=\"page\">Audit"), "{page}");
    says(
        app,
        "/audit?code=MS2001&namespace=shop",
        &["gets 50.0 %", "/resource/VirtualService/shop/reviews", "1 match"],
    )
    .await;
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
