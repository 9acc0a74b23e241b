//! Alertmanagers played over real sockets.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use parking_lot::Mutex;

use super::*;
use crate::discovery::Discovery;
use crate::model::{AlertState, Timestamp};

/// An Alertmanager that answers with `status`, or never.
struct Fake {
    address: String,
    bodies: Arc<Mutex<Vec<(String, serde_json::Value)>>>,
}

impl Fake {
    async fn start(status: Option<u16>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let bodies: Arc<Mutex<Vec<(String, serde_json::Value)>>> = Arc::default();
        let kept = Arc::clone(&bodies);
        let handler = move |uri: axum::http::Uri, body: axum::body::Bytes| {
            let kept = Arc::clone(&kept);
            async move {
                kept.lock().push((uri.path().to_owned(), serde_json::from_slice(&body).unwrap()));
                match status {
                    Some(status) => axum::http::StatusCode::from_u16(status).unwrap(),
                    None => std::future::pending().await,
                }
            }
        };
        tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(handler)).await });
        Self { address, bodies }
    }

    fn alerts(&self) -> Vec<serde_json::Value> {
        self.bodies.lock().iter().flat_map(|(_, body)| body.as_array().unwrap().clone()).collect()
    }
}

fn alert(name: &str, resolved: bool) -> Alert {
    let at = Timestamp::from_millis;
    Alert {
        labels: Labels::from_pairs([("alertname", name), ("severity", "page")]),
        annotations: Labels::from_pairs([("summary", "é <b>")]),
        state: if resolved { AlertState::Inactive } else { AlertState::Firing },
        value: 1.0,
        active_at: at(1_000_000_000_000),
        fired_at: Some(at(1_000_000_060_007)),
        resolved_at: resolved.then_some(at(1_000_000_120_000)),
        keep_firing_since: None,
        valid_until: at(1_000_000_300_500),
        generator_url: "http://mesh:7070/graph?g0.expr=up&g0.tab=1".to_owned(),
    }
}

struct Rig {
    alerts: mpsc::Sender<Vec<Alert>>,
    status: AlertmanagerStatus,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    _settings: watch::Sender<Arc<AlertSending>>,
}

impl Rig {
    fn start(yaml: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (config, problems) = crate::yaml::decode::<AlertingConfig>(yaml);
        assert_eq!(problems, [], "{yaml}");
        let config = config.unwrap();
        let (jobs, wrong) = config.jobs();
        assert_eq!(wrong, [""; 0]);
        let (discovery, targets) = Discovery::new(watch::channel(jobs).1);
        let external_labels = Labels::from_pairs([("cluster", "x"), ("severity", "none")]);
        let (settings, watched) =
            watch::channel(Arc::new(AlertSending { config, external_labels, ..AlertSending::default() }));
        let (alerts, queue) = mpsc::channel(16);
        let sender = AlertmanagerSender::new(queue, watched, targets);
        let (status, shutdown) = (sender.status(), CancellationToken::new());
        tokio::spawn(discovery.run(shutdown.clone()));
        let task = tokio::spawn(sender.run(shutdown.clone()));
        Self { alerts, status, shutdown, task, _settings: settings }
    }

    async fn until(&self, what: &str, done: impl Fn(&AlertmanagerStatus) -> bool) {
        let began = Instant::now();
        while !done(&self.status) {
            assert!(began.elapsed() < Duration::from_secs(10), "{what}: {:?}", self.status);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn of(&self, address: &str, read: fn(&AlertmanagerCounters) -> u64) -> u64 {
        let all = self.status.counters_of_active();
        all.iter().find(|(url, _)| url.contains(address)).map_or(0, |(_, counters)| read(counters))
    }
}

#[tokio::test]
async fn alerts_reach_each_alertmanager_as_prometheus_writes_them() {
    let (plain, prefixed) = (Fake::start(Some(200)).await, Fake::start(Some(200)).await);
    let yaml = format!(
        "
alert_relabel_configs: [{{action: drop, source_labels: [alertname], regex: Secret}}]
alertmanagers:
- static_configs: [{{targets: ['{}', 'gone:1']}}]
  relabel_configs: [{{action: drop, source_labels: [__address__], regex: 'gone:.*'}}]
- static_configs: [{{targets: ['{}']}}]
  path_prefix: /am/
  alert_relabel_configs: [{{target_label: team, replacement: core}}]
",
        plain.address, prefixed.address
    );
    let rig = Rig::start(&yaml);
    rig.until("both are found", |status| status.active().len() == 2).await;
    assert_eq!(rig.status.dropped(), ["http://gone:1/api/v2/alerts"]);
    rig.alerts.send(vec![alert("A", false), alert("Secret", false)]).await.unwrap();
    rig.alerts.send(vec![alert("A", true)]).await.unwrap();
    rig.until("both are told", |_| plain.alerts().len() == 2 && prefixed.alerts().len() == 2).await;
    let expect = |ends: &str| {
        serde_json::json!({
            "annotations": {"summary": "é <b>"},
            "endsAt": ends,
            "startsAt": "2001-09-09T01:47:40.007Z",
            "generatorURL": "http://mesh:7070/graph?g0.expr=up&g0.tab=1",
            "labels": {"alertname": "A", "cluster": "x", "severity": "page"},
        })
    };
    assert_eq!(plain.alerts(), [expect("2001-09-09T01:51:40.500Z"), expect("2001-09-09T01:48:40.000Z")]);
    assert_eq!(plain.bodies.lock()[0].0, "/api/v2/alerts");
    assert_eq!(prefixed.bodies.lock()[0].0, "/am/api/v2/alerts");
    assert_eq!(prefixed.alerts()[0]["labels"]["team"], "core");
    rig.shutdown.cancel();
    rig.task.await.unwrap();
}

#[tokio::test]
async fn one_that_hangs_or_refuses_delays_nobody_and_loses_only_its_own_oldest() {
    let (dead, bad, good) = (Fake::start(None).await, Fake::start(Some(500)).await, Fake::start(Some(200)).await);
    let targets = format!("['{}', '{}', '{}']", dead.address, bad.address, good.address);
    let rig = Rig::start(&format!("alertmanagers: [{{static_configs: [{{targets: {targets}}}], timeout: 30s}}]"));
    rig.until("all are found", |status| status.active().len() == 3).await;
    let names: Vec<String> = (0..11_000).map(|i| format!("A{i}")).collect();
    for part in names.chunks(1000) {
        rig.alerts.send(part.iter().map(|name| alert(name, false)).collect()).await.unwrap();
        rig.until("the good one keeps up", |_| {
            let told = good.alerts().len();
            told > 0 && rig.of(&good.address, |c| c.queue_length.load(Relaxed)) == 0
        })
        .await;
    }
    rig.until("the good one has all", |_| good.alerts().len() == 11_000).await;
    assert!(good.bodies.lock().iter().all(|(_, body)| body.as_array().unwrap().len() <= 256));
    rig.until("the bad one has refused all", |_| rig.of(&bad.address, |c| c.errors.load(Relaxed)) == 11_000).await;
    // One request is under way, 10,000 wait, the rest went.
    let in_request = dead.alerts().len() as u64;
    assert_eq!(rig.of(&dead.address, |c| c.dropped.load(Relaxed)), 1000 - in_request);
    rig.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(8), rig.task).await.expect("ends all the same").unwrap();
}

#[test]
fn mistakes_name_their_entry() {
    for (yaml, expect) in [
        (
            "{alertmanagers: [{api_version: v1}]}",
            "alerting.alertmanagers[0]: api_version: only v2 is supported, as in Prometheus 3",
        ),
        ("{alertmanagers: [{}, {scheme: ftp}]}", "alerting.alertmanagers[1]: scheme must be `http` or `https`"),
        (
            "{alertmanagers: [{static_configs: [{targets: ['http://a']}]}]}",
            "alerting.alertmanagers[0]: static_configs: `http://a` is not host:port (no scheme, no path)",
        ),
        (
            "{alertmanagers: [{dns_sd_configs: [{}]}]}",
            "alerting.alertmanagers[0]: dns_sd_configs is not supported: list the Alertmanagers by static_configs, file_sd_configs or http_sd_configs",
        ),
    ] {
        let (config, problems) = crate::yaml::decode::<AlertingConfig>(yaml);
        assert_eq!(problems, []);
        assert_eq!(config.unwrap().jobs().1, [expect]);
    }
}
