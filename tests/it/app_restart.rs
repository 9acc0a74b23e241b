//! A restart on the same database: samples, edges, alerts in waiting and what people know are as they were.

use std::time::Duration;

use meshscope::clock::Clock;
use meshscope::model::Timestamp;

use crate::app::{Inbox, Target, TestApp, alert_file, eventually, new_folder, one_target, with_ports};
use crate::postgres;

fn istio_page(requests: u32) -> String {
    let edge = "reporter=\"source\",source_workload=\"web\",source_workload_namespace=\"shop\",\
                destination_workload=\"cart\",destination_workload_namespace=\"shop\",\
                destination_service_name=\"cart\",destination_service_namespace=\"shop\",\
                request_protocol=\"http\",response_code=\"200\",response_flags=\"-\"";
    format!("istio_requests_total{{{edge}}} {requests}\nerrors 5\n")
}

fn seconds(at: Timestamp) -> f64 {
    at.as_millis() as f64 / 1000.0
}

impl TestApp {
    /// The requests on all edges between two times.
    async fn edge_requests(&self, (from, to): (Timestamp, Timestamp)) -> f64 {
        let path = format!("/api/mesh/v1/graph?start={}&end={}", seconds(from), seconds(to));
        let graph = self.data(&path).await;
        let outcomes = graph["edges"].as_array().expect("edges").iter().flat_map(|e| e["outcomes"].as_array());
        outcomes.flatten().map(|outcome| outcome["count"].as_f64().expect("a count")).sum()
    }

    async fn samples(&self, series: &str, at: Timestamp) -> serde_json::Value {
        self.data(&format!("/api/v1/query?query={series}[10m]&time={}", seconds(at))).await["result"].take()
    }

    /// When the alert of that name became active, in seconds.
    async fn active_since(&self, alert: &str) -> Option<i64> {
        let alerts = self.data("/api/v1/alerts").await;
        let found = alerts["alerts"].as_array()?.iter().find(|a| a["labels"]["alertname"] == alert)?;
        let at = chrono::DateTime::parse_from_rfc3339(found["activeAt"].as_str()?).ok()?;
        Some(at.timestamp())
    }
}

async fn restart(crash: bool) {
    let database = postgres::database().await;
    let (inbox, webhook) = Inbox::new().await;
    let target = Target::new(&istio_page(100)).await;
    let folder = new_folder();
    std::fs::write(folder.join("rules1.yaml"), alert_file("Firing", "errors > 0", "0s")).expect("write");
    std::fs::write(folder.join("rules2.yaml"), alert_file("Waiting", "errors > 1", "1h")).expect("write");
    let text = with_ports(&database, &one_target(target.address, webhook));

    let first = TestApp::start_in(&folder, &text).await;
    inbox.wait_for("firing Firing").await;
    target.show(&istio_page(140));
    first.query_becomes("istio_requests_total", 140.0).await;
    let day = Duration::from_secs(86_400);
    let now = Clock::system().now();
    let range = (now - day / 24, now + day / 24);
    eventually("the edge is counted", async || (first.edge_requests(range).await == 40.0).then_some(())).await;
    let waiting = eventually("the alert waits", async || first.active_since("Waiting").await).await;
    let unix = || Clock::system().now().as_millis() / 1000;
    // Longer than the next process takes to come to its first evaluations.
    eventually("it waited long enough to tell", async || (unix() - waiting >= 7).then_some(())).await;
    let at = Clock::system().now();
    let before = first.samples("errors", at).await;
    assert!(!before.as_array().expect("a matrix").is_empty());
    // What a crash may lose is what the last writers' rounds have not written: wait for them.
    let mut connection = postgres::connection(&database).await;
    let all_written = async || {
        let (_, page) = first.get("/metrics").await;
        let value = |name: &str| page.lines().find_map(|l| l.strip_prefix(name)?.trim().parse::<f64>().ok());
        let journal = value("meshscope_journal_waiting_bytes")?;
        let edges = value("meshscope_persist_written_items_total{part=\"rollups\"}")?;
        let told = value("meshscope_persist_written_items_total{part=\"outbox\"}")?;
        (journal == 0.0 && edges > 0.0 && told >= 2.0).then_some(())
    };
    if crash {
        eventually("all is written", all_written).await;
        eventually("edges are written", async || {
            let sql = "SELECT sum(c) FROM edge_rollup_1m, unnest(outcome_counts) c";
            let sum: Option<f64> = sqlx::query_scalar(sql).fetch_one(&mut connection).await.expect("sum");
            (sum == Some(40.0)).then_some(())
        })
        .await;
        first.crash().await;
    } else {
        first.stop().await;
    }

    let started = unix();
    let second = TestApp::start_in(&folder, &text).await;
    assert_eq!(second.samples("errors", at).await, before, "samples differ");
    eventually("edges are as they were", async || (second.edge_requests(range).await == 40.0).then_some(())).await;
    // As in Prometheus the time it waited counts, the time between the processes does not.
    let goes_on = async || {
        let since = second.active_since("Waiting").await?;
        (since >= waiting && since < started).then_some(())
    };
    eventually("the alert goes on waiting", goes_on).await;
    second.query_becomes("count(ALERTS{alertname=\"Firing\",alertstate=\"firing\"})", 1.0).await;
    target.show(&istio_page(150));
    eventually("counting goes on", async || (second.edge_requests(range).await == 50.0).then_some(())).await;
    target.show("errors 0\n");
    inbox.wait_for("resolved Firing").await;
    assert_eq!(inbox.told(), ["firing Firing", "resolved Firing"], "nobody is told twice");
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_stop_all_is_as_it_was() {
    restart(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_crash_all_that_was_written_is_as_it_was() {
    restart(true).await;
}
