//! `storage.query_upstream`: everything but history of our own comes from a real Prometheus.
//!
//! The one on `PATH`, or that `MESHSCOPE_TEST_PROMETHEUS` names; without either the test says so and looks at nothing.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::app::{Inbox, TestApp, eventually, new_folder, serve, with_ports};
use crate::postgres;

/// A running Prometheus, killed when dropped.
struct Prometheus {
    child: Child,
    address: String,
    folder: PathBuf,
    program: String,
}

/// The program, when there is one.
fn program() -> Option<String> {
    let program = std::env::var("MESHSCOPE_TEST_PROMETHEUS").unwrap_or_else(|_| "prometheus".to_owned());
    let found = Command::new(&program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    match found {
        Ok(status) if status.success() => Some(program),
        _ => {
            eprintln!(
                "Prometheus absent: install `prometheus`, or name it by MESHSCOPE_TEST_PROMETHEUS; nothing was looked at"
            );
            None
        }
    }
}

impl Prometheus {
    async fn start(program: &str, folder: &Path, target: SocketAddr) -> Self {
        let port =
            tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("one").port();
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n- job_name: mesh\n  static_configs: [{{targets: ['{target}', 'localhost:{}']}}]\n",
            target.port()
        );
        std::fs::write(folder.join("prometheus.yml"), config).expect("write");
        let address = format!("127.0.0.1:{port}");
        let child = Self::spawn(program, folder, &address);
        let this = Self { child, address, folder: folder.to_owned(), program: program.to_owned() };
        this.is_there().await;
        this
    }

    fn spawn(program: &str, folder: &Path, address: &str) -> Child {
        let log = std::fs::File::create(folder.join("prometheus.log")).expect("a log");
        Command::new(program)
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--enable-feature=exemplar-storage")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("start Prometheus")
    }

    async fn is_there(&self) {
        eventually("Prometheus is ready", async || {
            let answer = reqwest::get(format!("http://{}/-/ready", self.address)).await.ok()?;
            (answer.status() == 200).then_some(())
        })
        .await;
    }

    async fn ask(&self, path: &str) -> (u16, Value) {
        let answer = reqwest::get(format!("http://{}{path}", self.address)).await.expect("Prometheus answers");
        (answer.status().as_u16(), answer.json().await.expect("JSON"))
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    async fn start_again(&mut self) {
        self.child = Self::spawn(&self.program, &self.folder, &self.address);
        self.is_there().await;
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.kill();
    }
}

/// web calls api, ten requests a scrape of which one fails; with exemplars.
async fn proxy() -> SocketAddr {
    let scrapes = Arc::new(AtomicU64::new(1));
    let page = move || {
        let n = scrapes.fetch_add(1, Ordering::Relaxed);
        let edge = "reporter=\"source\",source_workload=\"web\",source_workload_namespace=\"shop\",destination_workload=\"api\",\
            destination_workload_namespace=\"shop\",destination_service=\"api.shop.svc.cluster.local\",destination_service_name=\"api\",\
            destination_service_namespace=\"shop\",request_protocol=\"http\",connection_security_policy=\"unknown\"";
        let mut text = "# HELP istio_requests requests of the mesh\n# TYPE istio_requests counter\n".to_owned();
        for (code, flags, each) in [("200", "-", 9), ("503", "UH", 1)] {
            text.push_str(&format!(
                "istio_requests_total{{{edge},response_code=\"{code}\",response_flags=\"{flags}\"}} {}\n",
                n * each
            ));
        }
        text.push_str("# TYPE istio_request_duration_milliseconds histogram\n");
        for (bound, each) in [("1", 0), ("5", 5), ("10", 10), ("+Inf", 10)] {
            let exemplar = if bound == "5" { " # {trace_id=\"4bf92f3577b34da6a3ce929d0e0e4736\"} 3.5" } else { "" };
            let count = n * each;
            text.push_str(&format!(
                "istio_request_duration_milliseconds_bucket{{{edge},le=\"{bound}\"}} {count}{exemplar}\n"
            ));
        }
        text.push_str(&format!(
            "istio_request_duration_milliseconds_sum{{{edge}}} {}\nistio_request_duration_milliseconds_count{{{edge}}} {}\n# EOF\n",
            n * 50,
            n * 10
        ));
        async move { ([("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8")], text) }
    };
    serve(axum::Router::new().fallback(page)).await
}

const RULES: &str = "
groups:
- name: upstream
  rules:
  - record: shop:rate
    expr: sum by (destination_service_name) (rate(istio_requests_total[10s]))
  - alert: Failing
    expr: sum by (destination_service_name) (rate(istio_requests_total{response_code='503'}[10s])) > 0
  - alert: RecordedAndTheirs
    expr: shop:rate > on() group_left() count(up) * 0
";

fn blocks(database: &meshscope::store::Config, prometheus: &str, webhook: SocketAddr) -> String {
    let own = "
global: {evaluation_interval: 1s}
rule_files: [rules.yaml]
route: {receiver: ops, group_by: [alertname], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}
";
    let receivers = format!("receivers: [{{name: ops, webhook_configs: [{{url: 'http://{webhook}/'}}]}}]\n");
    let upstream =
        format!("storage: {{query_upstream: {{url: 'http://{prometheus}', scrape_interval: 1s, timeout: 5s}}, ");
    with_ports(database, &format!("{own}{receivers}")).replace("storage: {", &upstream)
}

/// The results of an answer, in an order that does not matter.
fn sorted(answer: &Value) -> Vec<String> {
    let result = &answer["data"]["result"];
    let mut lines: Vec<String> = match result.as_array() {
        Some(list) if answer["data"]["resultType"] != "scalar" => list.iter().map(Value::to_string).collect(),
        _ => vec![result.to_string()],
    };
    lines.sort();
    lines
}

async fn json(app: &TestApp, path: &str) -> (u16, Value) {
    let (status, body) = app.get(path).await;
    (status, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}")))
}

fn form(pairs: &[(&str, &str)]) -> String {
    let url = reqwest::Url::parse_with_params("http://x/", pairs).expect("an address");
    url.query().unwrap_or_default().to_owned()
}

/// Prometheus and meshscope on it, after some scrapes; `None` without Prometheus.
async fn both(folder: &Path) -> Option<(Prometheus, TestApp, Inbox)> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let program = program()?;
    let database = postgres::database().await;
    let (inbox, webhook) = Inbox::new().await;
    let prometheus = Prometheus::start(&program, folder, proxy().await).await;
    eventually("some scrapes are in", async || {
        let (_, answer) =
            prometheus.ask("/api/v1/query?query=min(count_over_time(istio_requests_total%5B1m%5D))").await;
        let count: f64 = answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()?;
        (count >= 6.0).then_some(())
    })
    .await;
    std::fs::write(folder.join("rules.yaml"), RULES).expect("write the rules");
    let app = TestApp::start_in(folder, &blocks(&database, &prometheus.address, webhook)).await;
    Some((prometheus, app, inbox))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apis_answer_as_the_prometheus_that_they_ask() {
    let folder = new_folder();
    let Some((prometheus, app, _)) = both(&folder).await else { return };
    let now = meshscope::clock::Clock::system().now().as_secs_f64().floor();
    let (time, start) = (now.to_string(), (now - 30.0).to_string());
    for query in [
        "up",
        "sum by (response_code) (rate(istio_requests_total[10s]))",
        "histogram_quantile(0.9, sum by (le) (rate(istio_request_duration_milliseconds_bucket[10s])))",
        "topk(1, istio_requests_total) / 3",
        "istio_requests_total[5s]",
        "absent(nothing)",
        "count_values('v', up)",
        "max_over_time(up[20s:1s])",
    ] {
        let path = format!("/api/v1/query?{}", form(&[("query", query), ("time", &time)]));
        let (theirs, ours) = (prometheus.ask(&path).await, json(&app, &path).await);
        assert_eq!((ours.0, sorted(&ours.1)), (theirs.0, sorted(&theirs.1)), "{query}");
        assert_eq!(ours.1["data"]["resultType"], theirs.1["data"]["resultType"], "{query}");
        if query.ends_with("[5s]") {
            continue;
        }
        let pairs = [("query", query), ("start", &start), ("end", &time), ("step", "7")];
        let path = format!("/api/v1/query_range?{}", form(&pairs));
        let (theirs, ours) = (prometheus.ask(&path).await, json(&app, &path).await);
        assert_eq!((ours.0, sorted(&ours.1)), (theirs.0, sorted(&theirs.1)), "{query}");
    }
    // What it refuses.
    for query in ["label_replace(up, 'x', '$1', 'job', '(')", "up * on (job) group_left() up"] {
        let path = format!("/api/v1/query?{}", form(&[("query", query), ("time", &time)]));
        let (theirs, ours) = (prometheus.ask(&path).await, json(&app, &path).await);
        assert_eq!(theirs.0 / 100, 4, "{query}");
        assert_eq!(ours, theirs, "{query}");
    }
    // What is listed; our own alerts and recorded series are there beside.
    let own = |value: &Value| {
        let own = ["ALERTS", "ALERTS_FOR_STATE", "shop:rate", "alertname", "alertstate"];
        value.as_str().is_some_and(|name| own.contains(&name))
            || value["__name__"].as_str().is_some_and(|name| own.contains(&name))
    };
    for path in [
        "/api/v1/labels",
        "/api/v1/label/__name__/values",
        "/api/v1/label/response_flags/values",
        "/api/v1/label/instance/values?match[]=up",
        "/api/v1/series?match[]=istio_requests_total&match[]=up",
    ] {
        let ((_, theirs), (status, ours)) = (prometheus.ask(path).await, json(&app, path).await);
        let list = |answer: &Value| {
            let list = answer["data"].as_array().unwrap_or_else(|| panic!("{path}: {answer}")).iter();
            let mut list: Vec<String> = list.filter(|one| !own(one)).map(Value::to_string).collect();
            list.sort();
            list
        };
        assert_eq!((status, list(&ours)), (200, list(&theirs)), "{path}");
        assert!(!list(&ours).is_empty(), "{path}");
    }
    let path = "/api/v1/metadata?metric=istio_requests_total";
    let path = if prometheus.ask(path).await.1["data"] == serde_json::json!({}) {
        "/api/v1/metadata?metric=istio_requests"
    } else {
        path
    };
    assert_eq!(json(&app, path).await.1, prometheus.ask(path).await.1);
    assert!(app.get(path).await.1.contains("requests of the mesh"));
    let pairs = [("query", "istio_request_duration_milliseconds_bucket"), ("start", &start), ("end", &time)];
    let path = format!("/api/v1/query_exemplars?{}", form(&pairs));
    let ((_, theirs), (status, ours)) = (prometheus.ask(&path).await, json(&app, &path).await);
    let count = |answer: &Value| answer["data"].as_array().map_or(0, Vec::len);
    assert_eq!((status, count(&ours)), (200, count(&theirs)));
    assert!(ours.to_string().contains("4bf92f3577b34da6a3ce929d0e0e4736"), "{ours}");
    let (status, page) = app.get("/federate?match[]=up").await;
    assert_eq!((status, page.matches("\nup{").count()), (200, 2), "{page}");

    // There is no second copy.
    let (_, page) = app.get("/metrics").await;
    assert!(
        page.contains("\nmeshscope_scrapes_total 0\n") && page.contains("\nmeshscope_upstream_available 1\n"),
        "{page}"
    );
    let (_, ours) = json(&app, "/api/v1/status/tsdb").await;
    let held: Vec<&str> = ours["data"]["seriesCountByMetricName"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    assert!(held.iter().all(|name| ["ALERTS", "ALERTS_FOR_STATE", "shop:rate"].contains(name)), "{held:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_and_pages_work_on_it_and_bear_its_absence() {
    let folder = new_folder();
    let Some((mut prometheus, app, inbox)) = both(&folder).await else { return };
    inbox.wait_for("firing Failing").await;
    inbox.wait_for("firing RecordedAndTheirs").await;
    // What was recorded here, with what is there: ten requests a scrape of each of two names of the target.
    let rate = eventually("the recorded series is there", async || {
        app.query("shop:rate * on() group_left() (count(up) - 1)").await.into_values().next()
    })
    .await;
    assert!((5.0..100.0).contains(&rate), "{rate}");

    let graph = eventually("the graph has the edge", async || {
        let graph = app.data("/api/mesh/v1/graph").await;
        (graph["edges"].as_array().is_some_and(|edges| edges.len() == 1)).then_some(graph)
    })
    .await;
    let edge = &graph["edges"][0];
    assert_eq!(edge["id"], "workload:/shop/web>workload:/shop/api", "{edge}");
    let of = |name: &str| edge[name].as_f64().unwrap_or_else(|| panic!("{name}: {edge}"));
    assert!((0.08..0.12).contains(&of("errorRatio")), "{edge}");
    for (path, needle) in [
        ("/", "api"),
        ("/graph", "api"),
        ("/service/shop/api", "UH"),
        ("/workload/shop/web", "api"),
        ("/edge/workload:%2Fshop%2Fweb%3Eworkload:%2Fshop%2Fapi", "UH"),
        ("/explore?query=up", "mesh"),
        ("/targets", "storage.query_upstream"),
        ("/status", "storage.query_upstream"),
        ("/api/mesh/v1/graph/replay", "api"),
    ] {
        let (status, page) = app.get(path).await;
        assert!(status == 200 && page.contains(needle), "{path}: {status}: {page}");
    }

    prometheus.kill();
    eventually("it is seen to be away", async || {
        let (_, page) = app.get("/metrics").await;
        page.contains("\nmeshscope_upstream_available 0\n").then_some(())
    })
    .await;
    let (status, answer) = json(&app, "/api/v1/query?query=up").await;
    assert_eq!((status, &answer["errorType"]), (503, &Value::from("unavailable")), "{answer}");
    assert!(answer["error"].as_str().is_some_and(|text| text.contains("storage.query_upstream")), "{answer}");
    for path in
        ["/", "/graph", "/service/shop/api", "/alerts", "/rules", "/slos", "/explore?query=up", "/targets", "/status"]
    {
        let (status, page) = app.get(path).await;
        assert!(status < 500 && page.contains("does not answer since"), "{path}: {status}: {page}");
    }
    // What fired fires, and the rules say why they cannot be evaluated.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let rules = app.data("/api/v1/rules").await;
    let failing = &rules["groups"][0]["rules"][1];
    assert_eq!(
        (&failing["name"], &failing["state"], &failing["health"]),
        (&"Failing".into(), &"firing".into(), &"err".into()),
        "{failing}"
    );
    assert!(failing["lastError"].as_str().is_some_and(|text| text.contains("not available")), "{failing}");
    assert!(!inbox.told().iter().any(|told| told.starts_with("resolved")), "{:?}", inbox.told());

    prometheus.start_again().await;
    eventually("rules are evaluated again", async || {
        let rules = app.data("/api/v1/rules").await;
        (rules["groups"][0]["rules"].as_array()?.iter().all(|rule| rule["health"] == "ok")).then_some(())
    })
    .await;
    let (_, page) = app.get("/").await;
    assert!(!page.contains("does not answer since"), "{page}");
    app.stop().await;
}
