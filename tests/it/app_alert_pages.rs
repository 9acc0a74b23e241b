//! The pages of alerts, silences, notifications and routes as an on-call engineer uses them, over a real socket.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use axum::http::StatusCode;
use reqwest::header::HeaderMap;
use serde_json::json;

use crate::app::{Target, TestApp, alert_file, eventually, new_folder, serve, with_ports};
use crate::postgres;

/// A browser that follows no redirect.
struct Browser {
    client: reqwest::Client,
    base: String,
}

impl Browser {
    fn of(app: &TestApp) -> Self {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
        Self { client, base: format!("http://{}", app.web) }
    }

    async fn post(&self, path: &str, fields: &[(&str, &str)], site: &str) -> (u16, HeaderMap, String) {
        let form = reqwest::Url::parse_with_params("http://x/", fields).expect("fields");
        let request = self.client.post(format!("{}{path}", self.base)).header("sec-fetch-site", site);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let answer = request.body(form.query().unwrap_or_default().to_owned()).send().await.expect("an answer");
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        (status, headers, answer.text().await.expect("a page"))
    }
}

/// A webhook that answers with the status it is told to.
async fn webhook() -> (std::net::SocketAddr, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(200));
    let said = Arc::clone(&status);
    let answer = move || {
        let said = said.load(Ordering::Relaxed);
        async move { (StatusCode::from_u16(said).expect("a status"), "<b>not now</b>") }
    };
    (serve(axum::Router::new().fallback(answer)).await, status)
}

fn blocks(target: std::net::SocketAddr, webhook: std::net::SocketAddr) -> String {
    format!(
        "
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s, external_labels: {{mesh: test}}}}
scrape_configs:
- job_name: mesh
  static_configs: [{{targets: ['{target}']}}]
rule_files: [rules*.yaml]
route:
  receiver: ops
  group_by: [alertname]
  group_wait: 0s
  group_interval: 30s
  repeat_interval: 1h
  routes:
  - {{receiver: night, matchers: [team=night], mute_time_intervals: [always]}}
receivers:
- {{name: ops, webhook_configs: [{{url: 'http://{webhook}/secret-token'}}]}}
- {{name: night}}
time_intervals: [{{name: always, time_intervals: [{{}}]}}]
"
    )
}

async fn start(page: &str) -> (TestApp, Target, Arc<AtomicU16>) {
    let database = postgres::database().await;
    let (webhook, status) = webhook().await;
    let target = Target::new(page).await;
    let folder = new_folder();
    std::fs::write(folder.join("rules.yaml"), alert_file("Errors", "errors > 0", "0s")).expect("write");
    let app = TestApp::start_in(&folder, &with_ports(&database, &blocks(target.address, webhook))).await;
    (app, target, status)
}

async fn page_says(app: &TestApp, path: &str, texts: &[&str]) {
    eventually(&format!("{path} says {texts:?}"), async || {
        let (status, page) = app.get(path).await;
        (status == 200 && texts.iter().all(|text| page.contains(text))).then_some(())
    })
    .await;
}

async fn id_of_first_alert(app: &TestApp) -> String {
    let listed = app.data("/api/mesh/v1/alerts").await;
    listed["alerts"][0]["fingerprint"].as_str().expect("an alert").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_is_followed_from_its_page_to_a_silence_and_back() {
    let (app, target, _) = start("errors 5\n").await;
    page_says(&app, "/alerts", &["Errors", "value 5", "told "]).await;
    let id = id_of_first_alert(&app).await;
    page_says(&app, &format!("/alerts/{id}"), &["mesh", "instance", "firing", "/notifications/1"]).await;

    let browser = Browser::of(&app);
    let form = app.get(&format!("/silences/new?alert={id}")).await.1;
    assert!(form.contains("alertname=&#34;Errors&#34;") && form.contains("mesh=&#34;test&#34;"), "{form}");
    assert!(form.contains("Would mute 1 of 1 alerts"), "{form}");
    let fields =
        [("matchers", "alertname=\"Errors\""), ("duration", "2h"), ("author", "Zoë"), ("comment", "<b>known</b>")];
    let refused = browser.post("/silences/new", &fields, "cross-site").await;
    assert_eq!(refused.0, 403, "a page of another site makes no silence");
    let wrong = [("matchers", "nonsense"), ("duration", "soon"), ("comment", "kept as it is")];
    let (status, _, page) = browser.post("/silences/new", &wrong, "same-origin").await;
    assert_eq!(status, 422);
    for text in ["bad matcher format: nonsense", "Should not be empty", "kept as it is", "aria-invalid"] {
        assert!(page.contains(text), "{text}: {page}");
    }
    assert_eq!(app.get("/alertmanager/api/v2/silences").await.1.trim_end(), "[]", "nothing was made");
    let (status, headers, _) = browser.post("/silences/new", &fields, "same-origin").await;
    assert_eq!(status, 303);
    let made = headers["location"].to_str().expect("a path").to_owned();
    assert!(headers["set-cookie"].to_str().expect("text").contains("HttpOnly; SameSite=Strict"));
    page_says(&app, &made, &["&#60;b&#62;known", "Mutes 1 alert now"]).await;
    page_says(&app, "/silences", &["mutes <strong>1</strong> alert", "Zoë"]).await;
    page_says(&app, "/alerts?state=quiet", &["Silenced", "by Zoë until", "is-quiet"]).await;
    let (_, _, page) = browser.post(&format!("{made}/expire"), &[], "same-site").await;
    assert!(page.contains("another site"), "{page}");
    assert_eq!(browser.post(&format!("{made}/expire"), &[], "same-origin").await.0, 303);
    page_says(&app, "/silences?state=expired", &["Make again"]).await;
    page_says(&app, &format!("/silences/new?from={}", &made[10..]), &["alertname=&#34;Errors&#34;", "value=\"2h\""])
        .await;

    target.show("errors 0\n");
    page_says(&app, "/alerts/history", &["resolved", "inactive → ", "began to fire 1 times"]).await;
    page_says(&app, &format!("/alerts/{id}"), &["It neither fires nor waits now.", "resolved"]).await;
    let history = app.data(&format!("/api/mesh/v1/alerts/history?fingerprint={id}&limit=1")).await;
    assert_eq!(history["changes"][0]["to"], "inactive");
    let before = history["next"].as_str().expect("there is more").replace(';', "%3B");
    let older = app.data(&format!("/api/mesh/v1/alerts/history?before={before}")).await;
    assert_eq!(older["changes"].as_array().map(Vec::len), Some(1), "{older}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_receiver_refuses_is_seen_dropped_and_sent_again() {
    let (app, _target, status) = start("errors 0\n").await;
    status.store(500, Ordering::Relaxed);
    let posted = json!([{"labels": {"alertname": "Posted"}}]).to_string();
    let client = reqwest::Client::new();
    let post = client.post(format!("http://{}/alertmanager/api/v2/alerts", app.web));
    post.header("content-type", "application/json").body(posted).send().await.expect("taken");
    page_says(&app, "/notifications", &["tries failed", "failing", "500", "&#60;b&#62;not now"]).await;
    page_says(&app, "/alerts", &["tries failed, tried on"]).await;
    page_says(&app, "/notifications/1/drop", &["is not tried any more"]).await;
    let browser = Browser::of(&app);
    assert_eq!(browser.post("/notifications/1/drop", &[], "cross-site").await.0, 403);
    assert_eq!(browser.post("/notifications/1/drop", &[], "same-origin").await.0, 303);
    page_says(&app, "/notifications/1", &["dropped by hand", "failed"]).await;
    page_says(&app, "/notifications?state=failed", &["dropped by hand"]).await;
    assert_eq!(browser.post("/notifications/1/drop", &[], "same-origin").await.0, 409, "there is nothing to drop");

    status.store(200, Ordering::Relaxed);
    assert_eq!(browser.post("/notifications/1/retry", &[], "same-origin").await.0, 303);
    page_says(&app, "/notifications?state=sent&q=posted", &["/notifications/1\"", "Send again"]).await;
    let page = app.get("/notifications/1").await.1;
    assert!(page.contains("&#34;alertname&#34;:&#34;Posted&#34;"), "the body as it was sent: {page}");
    assert!(!page.contains("secret-token"), "an address may hold a token");
    let whole = app.data("/api/mesh/v1/notifications/1").await;
    assert!(whole["body"].as_str().expect("a body").contains("\"version\":\"4\""), "{whole}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_hostile_alerts_make_a_bounded_page() {
    let (app, _target, _) = start("errors 0\n").await;
    let hostile = "<script>alert(1)</script>\u{202e}\"'";
    let batch: Vec<serde_json::Value> = (0..10_000)
        .map(|i| json!({"labels": {"alertname": format!("A{}", i % 3), "i": i.to_string(), "service": hostile, "team": "night", "long": "x".repeat(500)}}))
        .collect();
    let client = reqwest::Client::new();
    for part in batch.chunks(1000) {
        let post = client.post(format!("http://{}/alertmanager/api/v2/alerts", app.web));
        let answer = post.header("content-type", "application/json").body(json!(part).to_string()).send().await;
        assert_eq!(answer.expect("an answer").status().as_u16(), 200);
    }
    for group in ["name", "service", "receiver", "none"] {
        let (status, page) = app.get(&format!("/alerts?group={group}&page=200")).await;
        assert_eq!(status, 200);
        assert!(page.len() < 400_000, "{group}: {} bytes", page.len());
        assert!(page.contains("9951–10000 of 10000"), "{group}");
        assert!(!page.contains("<script>alert") && page.contains("⟨U+202E⟩"), "{group}");
        assert!(page.contains("by the times of its route: always"), "{group}");
    }
    assert!(app.get("/alerts?q=i%3D%2242%22").await.1.contains("1–1 of 1"));
    assert_eq!(app.get("/alerts?q=i%3D~%22(%22").await.0, 400);
    let (_, page) = app.get("/silences/new?matchers=team%3D%22night%22").await;
    assert!(page.contains("Would mute 10000 of 10000 alerts") && page.len() < 400_000, "{} bytes", page.len());
    let (_, page) = app.get("/routes?labels=team%3Dnight%0Aalertname%3DA").await;
    assert!(page.contains("Goes to 1 receiver") && page.contains("quiet now: always"), "{page}");
    app.stop().await;
}
