//! From rules to people: firing and resolved reach the webhook, written down before; reload and its refusals.

use axum::routing::post;
use parking_lot::Mutex;
use serde_json::Value;
use std::sync::Arc;

use crate::app::{Inbox, Target, TestApp, alert_file, eventually, new_folder, one_target, serve, with_ports};
use crate::postgres;

type Seen = Arc<Mutex<Vec<(String, i64)>>>;

/// A webhook that looks, while the delivery waits for its answer, for the row of that delivery.
async fn webhook_that_looks_into(database: &meshscope::store::Config) -> (std::net::SocketAddr, Seen) {
    let seen = Seen::default();
    let (database, noted) = (database.clone(), Arc::clone(&seen));
    let receive = move |axum::Json(body): axum::Json<Value>| {
        let (database, noted) = (database.clone(), Arc::clone(&noted));
        async move {
            let mut connection = postgres::connection(&database).await;
            let sql =
                "SELECT count(*) FROM notification WHERE payload = $1 AND sent_at IS NULL AND given_up_at IS NULL";
            let rows = sqlx::query_scalar(sql).bind(&body).fetch_one(&mut connection).await.expect("count");
            noted.lock().push((body["status"].as_str().unwrap_or_default().to_owned(), rows));
        }
    };
    (serve(axum::Router::new().fallback(post(receive))).await, seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn firing_and_resolved_reach_the_webhook_and_are_written_down_before() {
    let database = postgres::database().await;
    let (webhook, seen) = webhook_that_looks_into(&database).await;
    let target = Target::new("errors 5\n").await;
    let folder = new_folder();
    std::fs::write(folder.join("rules.yaml"), alert_file("Errors", "errors > 0", "0s")).expect("write");
    let app = TestApp::start_in(&folder, &with_ports(&database, &one_target(target.address, webhook))).await;
    eventually("firing is told", async || (!seen.lock().is_empty()).then_some(())).await;
    app.query_becomes("count(ALERTS{alertstate=\"firing\"})", 1.0).await;
    target.show("errors 0\n");
    eventually("resolved is told", async || (seen.lock().len() > 1).then_some(())).await;
    assert_eq!(*seen.lock(), [("firing".to_owned(), 1), ("resolved".to_owned(), 1)]);

    let (_, page) = app.get("/alerts/history").await;
    assert!(page.contains("Errors"), "{page}");
    app.stop().await;
    let mut connection = postgres::connection(&database).await;
    let unfinished: i64 = sqlx::query_scalar("SELECT count(*) FROM notification WHERE sent_at IS NULL")
        .fetch_one(&mut connection)
        .await
        .expect("count");
    let changes: Vec<String> = sqlx::query_scalar("SELECT to_state FROM alert_event ORDER BY at, to_state")
        .fetch_all(&mut connection)
        .await
        .expect("history");
    assert_eq!((unfinished, changes.last().map(String::as_str)), (0, Some("inactive")), "{changes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stored_silence_mutes_and_one_written_later_is_heard_of() {
    let database = postgres::database().await;
    let store = postgres::connect(&database).await;
    let now = meshscope::clock::Clock::system().now();
    let hour = std::time::Duration::from_secs(3600);
    let silence = |id: &str, alert: &str| meshscope::store::Silence {
        id: id.to_owned(),
        matchers: vec![meshscope::model::Matcher::equal("alertname", alert)],
        starts_at: now - hour,
        ends_at: now + hour,
        created_by: "test".to_owned(),
        comment: String::new(),
        updated_at: now,
    };
    store.write_silence(&silence("a", "Quiet")).await.expect("write");
    let (inbox, webhook) = Inbox::new().await;
    let target = Target::new("errors 5\n").await;
    let folder = new_folder();
    std::fs::write(folder.join("rules1.yaml"), alert_file("Quiet", "errors > 0", "0s")).expect("write");
    std::fs::write(folder.join("rules2.yaml"), alert_file("Loud", "errors > 0", "0s")).expect("write");
    let app = TestApp::start_in(&folder, &with_ports(&database, &one_target(target.address, webhook))).await;
    inbox.wait_for("firing Loud").await;
    app.query_becomes("count(ALERTS{alertstate=\"firing\"})", 2.0).await;
    assert!(!inbox.told().contains(&"firing Quiet".to_owned()), "{:?}", inbox.told());
    app.stop().await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_adds_and_what_is_wrong_leaves_the_old() {
    let database = postgres::database().await;
    let (inbox, webhook) = Inbox::new().await;
    let (target, second) = (Target::new("errors 5\n").await, Target::new("other 1\n").await);
    let folder = new_folder();
    let text = with_ports(&database, &one_target(target.address, webhook));
    std::fs::write(folder.join("rules1.yaml"), alert_file("First", "errors > 0", "0s")).expect("write");
    let app = TestApp::start_in(&folder, &text).await;
    inbox.wait_for("firing First").await;

    let more = format!(
        "{}- {{job_name: second, static_configs: [{{targets: ['{}']}}]}}\n",
        text.split_once("rule_files").expect("a block").0,
        second.address
    );
    let more = more + "rule_files" + text.split_once("rule_files").expect("a block").1;
    std::fs::write(&app.file, &more).expect("write");
    std::fs::write(folder.join("rules2.yaml"), alert_file("Second", "other > 0", "0s")).expect("write");
    assert_eq!(app.reload().await, (200, String::new()));
    app.query_becomes("other", 1.0).await;
    inbox.wait_for("firing Second").await;

    // A configuration with a mistake: nothing of it takes effect.
    std::fs::write(&app.file, more.replace("scrape_configs", "scrape_confiks")).expect("write");
    let (status, answer) = app.reload().await;
    assert_eq!(status, 500);
    assert!(answer.contains("the old configuration stays in force"), "{answer}");
    assert!(answer.contains("unknown key \"scrape_confiks\", did you mean \"scrape_configs\"?"), "{answer}");
    assert_eq!(app.data("/api/v1/targets").await["activeTargets"].as_array().map(Vec::len), Some(2));

    // A rule file with a mistake: its alert goes on as it was, a new file takes effect, page and answer say so.
    std::fs::write(&app.file, &more).expect("write");
    std::fs::write(folder.join("rules1.yaml"), alert_file("First", "errors >", "0s")).expect("write");
    std::fs::write(folder.join("rules3.yaml"), alert_file("Third", "errors > 1", "0s")).expect("write");
    let (status, answer) = app.reload().await;
    assert_eq!(status, 500);
    assert!(answer.contains("rules1.yaml: 1:") && answer.contains("which stay as they were"), "{answer}");
    inbox.wait_for("firing Third").await;
    app.query_becomes("count(ALERTS{alertstate=\"firing\"})", 3.0).await;
    let (_, page) = app.get("/alerts").await;
    assert!(page.contains("rules1.yaml: 1:"), "{page}");
    assert!(!inbox.told().iter().any(|told| told.starts_with("resolved")), "{:?}", inbox.told());

    // Mended: all is well again.
    std::fs::write(folder.join("rules1.yaml"), alert_file("First", "errors > 2", "0s")).expect("write");
    assert_eq!(app.reload().await, (200, String::new()));
    eventually("the page forgets the problem", async || {
        (!app.get("/alerts").await.1.contains("rules1.yaml: 1:")).then_some(())
    })
    .await;
    app.stop().await;
}
