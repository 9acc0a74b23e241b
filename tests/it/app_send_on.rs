//! What goes to other servers: samples by remote write, alerts to Alertmanagers; and alerts that fired when it was killed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{StatusCode, Uri};
use parking_lot::Mutex;
use prost::Message;
use serde_json::{Value, json};

use crate::app::{Inbox, Target, TestApp, alert_file, eventually, new_folder, one_target, serve, with_ports};
use crate::postgres;

#[path = "../../src/forward/tests/messages.rs"]
mod messages;

/// A server that is both: it takes samples and alerts, and keeps their names.
#[derive(Clone, Default)]
struct Other {
    series: Arc<Mutex<BTreeSet<String>>>,
    alerts: Arc<Mutex<Vec<Value>>>,
}

impl Other {
    async fn start(&self) -> std::net::SocketAddr {
        let own = self.clone();
        let take = move |uri: Uri, body: Bytes| {
            let own = own.clone();
            async move {
                if uri.path() == "/am/api/v2/alerts" {
                    let alerts: Vec<Value> = serde_json::from_slice(&body).expect("a list of alerts");
                    own.alerts.lock().extend(alerts);
                } else {
                    let raw = snap::raw::Decoder::new().decompress_vec(&body).expect("snappy");
                    let request = messages::RequestV1::decode(&raw[..]).expect("a request");
                    own.series.lock().extend(request.series.iter().map(|series| {
                        let of = |name| series.labels.iter().find(|l| l.name == name).map_or("", |l| &l.value);
                        format!("{} {}", of("__name__"), of("cluster"))
                    }));
                }
                StatusCode::OK
            }
        };
        serve(axum::Router::new().fallback(take)).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn samples_and_alerts_reach_other_servers_and_the_numbers_say_so() {
    let database = postgres::database().await;
    let (_inbox, webhook) = Inbox::new().await;
    let target = Target::new("errors 5\n").await;
    let (other, folder) = (Other::default(), new_folder());
    let address = other.start().await;
    std::fs::write(folder.join("rules.yaml"), alert_file("Firing", "errors > 0", "0s")).expect("write");
    std::fs::write(folder.join("am.yml"), format!("[{{targets: ['{address}', 'gone:9093']}}]")).expect("write");
    let blocks = one_target(target.address, webhook).replace("global: {", "global: {external_labels: {cluster: x}, ");
    let sends = |drop: &str| {
        format!(
            "
remote_write:
- {{url: 'http://{address}/write', name: far, queue_config: {{batch_send_deadline: 100ms}}, write_relabel_configs: [{drop}]}}
alerting:
  alertmanagers:
  - file_sd_configs: [{{files: [am.yml]}}]
    path_prefix: am
    relabel_configs: [{{source_labels: [__address__], regex: 'gone:.*', action: drop}}]
"
        )
    };
    let text = with_ports(&database, &format!("{blocks}{}", sends("")));
    let app = TestApp::start_in(&folder, &text).await;

    eventually("the alert is told", async || (!other.alerts.lock().is_empty()).then_some(())).await;
    let labels = other.alerts.lock()[0]["labels"].clone();
    assert_eq!((&labels["alertname"], &labels["cluster"]), (&json!("Firing"), &json!("x")), "{labels}");
    let listed = app.data("/api/v1/alertmanagers").await;
    let of = |address: &str| json!([{"url": format!("http://{address}/am/api/v2/alerts")}]);
    let expect = json!({"activeAlertmanagers": of(&address.to_string()), "droppedAlertmanagers": of("gone:9093")});
    assert_eq!(listed, expect);

    let wanted = ["errors x", "up x", "ALERTS x"];
    eventually("scraped and derived series arrive", async || {
        wanted.iter().all(|series| other.series.lock().contains(*series)).then_some(())
    })
    .await;
    let (_, page) = app.get("/metrics").await;
    let value = |name: &str| {
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in\n{page}")).parse::<f64>().expect("a number")
    };
    for (name, at_least) in [
        ("meshscope_remote_write_sent_samples_total{remote=\"far\"}", 3.0),
        ("meshscope_remote_write_sent_bytes_total{remote=\"far\"}", 10.0),
        ("meshscope_remote_write_newest_sent_timestamp_seconds{remote=\"far\"}", 1.6e9),
        ("meshscope_remote_write_shards{remote=\"far\"}", 1.0),
        ("meshscope_alertmanagers_discovered", 1.0),
        (
            &format!("meshscope_alertmanager_sent_alerts_total{{alertmanager=\"http://{address}/am/api/v2/alerts\"}}"),
            1.0,
        ),
    ] {
        assert!(value(name) >= at_least, "{name} is {}", value(name));
    }
    for name in ["failed", "retried", "dropped", "abandoned"] {
        assert_eq!(value(&format!("meshscope_remote_write_{name}_samples_total{{remote=\"far\"}}")), 0.0, "{name}");
    }

    // A reload with another rule: from then on that series no longer comes.
    let drop = "{source_labels: [__name__], regex: errors, action: drop}";
    std::fs::write(&app.file, with_ports(&database, &format!("{blocks}{}", sends(drop)))).expect("write");
    assert_eq!(app.reload().await.0, 200);
    eventually("`errors` no longer comes", async || {
        other.series.lock().clear();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let series = other.series.lock().clone();
        (series.contains("up x") && !series.contains("errors x")).then_some(())
    })
    .await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_that_fired_when_it_was_killed_fires_on_or_is_told_resolved() {
    let database = postgres::database().await;
    let (inbox, webhook) = Inbox::new().await;
    let target = Target::new("stays 5\nends 5\n").await;
    let folder = new_folder();
    std::fs::write(folder.join("rules1.yaml"), alert_file("Stays", "stays > 0", "3s")).expect("write");
    std::fs::write(folder.join("rules2.yaml"), alert_file("Ends", "ends > 0", "0s")).expect("write");
    let text = with_ports(&database, &one_target(target.address, webhook));
    let first = TestApp::start_in(&folder, &text).await;
    inbox.wait_for("firing Stays").await;
    inbox.wait_for("firing Ends").await;
    let mut connection = postgres::connection(&database).await;
    eventually("what fires is written", async || {
        let sql = "SELECT count(*) FROM alert_state WHERE state = 'firing' AND valid_until > now()";
        let count: i64 = sqlx::query_scalar(sql).fetch_one(&mut connection).await.expect("count");
        let (_, page) = first.get("/metrics").await;
        let told =
            page.lines().find_map(|line| line.strip_prefix("meshscope_persist_written_items_total{part=\"outbox\"} "));
        (count == 2 && told.is_some_and(|told| told.parse::<f64>().is_ok_and(|told| told >= 4.0))).then_some(())
    })
    .await;
    let since = of_alert(&first, "Stays").await.expect("it fires");
    first.crash().await;

    // While nobody looks one of them ends, and the time passes until which its receivers were told to believe in it.
    target.show("stays 5\nends 0\n");
    let sql = "UPDATE alert_state SET valid_until = now() WHERE labels->>'alertname' = 'Ends'";
    sqlx::query(sql).execute(&mut connection).await.expect("update");
    let second = TestApp::start_in(&folder, &text).await;
    inbox.wait_for("resolved Ends").await;
    let goes_on = eventually("the other fires", async || of_alert(&second, "Stays").await).await;
    assert_eq!(goes_on, since, "it fires on since when it did");
    let mut told = inbox.told();
    told.sort();
    assert_eq!(told, ["firing Ends", "firing Stays", "resolved Ends"]);
    target.show("stays 0\nends 0\n");
    inbox.wait_for("resolved Stays").await;
    second.stop().await;
}

/// Since when the alert of that name is active, if it fires.
async fn of_alert(app: &TestApp, name: &str) -> Option<String> {
    let alerts = app.data("/api/v1/alerts").await;
    let found = alerts["alerts"].as_array()?.iter().find(|a| a["labels"]["alertname"] == name)?;
    (found["state"] == "firing").then(|| found["activeAt"].as_str().map(str::to_owned))?
}
