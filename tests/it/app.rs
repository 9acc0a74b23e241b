//! Runs the whole in this process: a real database, real sockets, fake targets and receivers that are real servers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use meshscope::app;
use meshscope::config::Config;
use meshscope::store;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::postgres;

/// How long anything that must happen may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Looks again and again until `look` finds something.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "did not happen within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A new folder of this process.
pub fn new_folder() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let folder = postgres::folder(&format!("app-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    std::fs::create_dir_all(&folder).expect("make a folder");
    folder
}

/// The blocks that every test's configuration needs: free ports, that database.
pub fn with_ports(database: &store::Config, blocks: &str) -> String {
    let url = database.database_url.as_ref().expect("a test database has an address").reveal();
    format!(
        "web: {{listen: '127.0.0.1:0'}}\notlp: {{grpc_listen: '127.0.0.1:0', http_listen: '127.0.0.1:0'}}\n\
         storage: {{database_url: '{url}'}}\n{blocks}"
    )
}

/// The running whole.
pub struct TestApp {
    pub web: SocketAddr,
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    /// The configuration file, to be rewritten before a reload.
    pub file: PathBuf,
    stop: CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
}

impl TestApp {
    /// Starts on that database, with these blocks of configuration, in a new folder.
    pub async fn start(database: &store::Config, blocks: &str) -> Self {
        Self::start_in(&new_folder(), &with_ports(database, blocks)).await
    }

    /// Starts with that configuration, written to `folder`.
    pub async fn start_in(folder: &Path, text: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let file = folder.join("meshscope.yaml");
        std::fs::write(&file, text).expect("write the configuration");
        let config = Config::read(&file).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let app = app::build(config, Some(file.clone())).await.unwrap_or_else(|error| panic!("{error:#}"));
        let (web, grpc, http) = (app.web_address, app.otlp_grpc_address, app.otlp_http_address);
        let stop = CancellationToken::new();
        let running = tokio::spawn(app.run(stop.clone()));
        let this = Self { web, grpc, http, file, stop, running };
        eventually("it is ready", async || (this.get("/-/ready").await.0 == 200).then_some(())).await;
        this
    }

    /// Status and body.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let answer = reqwest::get(format!("http://{}{path}", self.web)).await.expect("the server answers");
        (answer.status().as_u16(), answer.text().await.expect("a body"))
    }

    /// The same, asked again when PostgreSQL did not answer in time: on a busy machine that says nothing about what is asked.
    pub async fn answer(&self, path: &str) -> (u16, String) {
        eventually(&format!("PostgreSQL answers in time: {path}"), async || {
            let answer = self.get(path).await;
            (!answer.1.contains("PostgreSQL did not answer within")).then_some(answer)
        })
        .await
    }

    /// `data` of an API.
    pub async fn data(&self, path: &str) -> Value {
        let (status, body) = self.answer(path).await;
        assert_eq!(status, 200, "{path}: {body}");
        let mut answer: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"));
        answer["data"].take()
    }

    /// The samples of an instant query, by their labels without the name.
    pub async fn query(&self, expr: &str) -> BTreeMap<String, f64> {
        let url = reqwest::Url::parse_with_params("http://x/api/v1/query", [("query", expr)]).expect("an address");
        let data = self.data(&format!("{}?{}", url.path(), url.query().unwrap_or_default())).await;
        let mut found = BTreeMap::new();
        for sample in data["result"].as_array().expect("a vector") {
            let labels = sample["metric"].as_object().expect("labels");
            let labels: Vec<String> = (labels.iter())
                .filter(|(name, _)| *name != "__name__")
                .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
                .collect();
            let value = sample["value"][1].as_str().expect("a value").parse().expect("a number");
            found.insert(labels.join(","), value);
        }
        found
    }

    /// Waits until an instant query of one series has this value.
    pub async fn query_becomes(&self, expr: &str, expect: f64) {
        let is = async || {
            let found = self.query(expr).await;
            (found.len() == 1 && found.values().all(|value| *value == expect)).then_some(())
        };
        eventually(&format!("{expr} is {expect}"), is).await;
    }

    /// Asks for a reload.
    pub async fn reload(&self) -> (u16, String) {
        let answer = reqwest::Client::new().post(format!("http://{}/-/reload", self.web)).send().await;
        let answer = answer.expect("the server answers");
        (answer.status().as_u16(), answer.text().await.expect("a body"))
    }

    /// Stops it as SIGTERM does; it must end well, and soon.
    pub async fn stop(self) {
        let start = Instant::now();
        self.stop.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.running).await.expect("it ends");
        ended.expect("it does not crash").unwrap_or_else(|error| panic!("{error:#}"));
        assert!(start.elapsed() < Duration::from_secs(10), "stopping took {:?}", start.elapsed());
    }

    /// Ends it as a crash does: nothing more is written.
    pub async fn crash(self) {
        self.running.abort();
        let _ = self.running.await;
    }
}

/// A target whose page can be changed.
pub struct Target {
    pub address: SocketAddr,
    page: Arc<Mutex<String>>,
}

impl Target {
    pub async fn new(page: &str) -> Self {
        let page = Arc::new(Mutex::new(page.to_owned()));
        let shown = Arc::clone(&page);
        let handler = move || {
            let page = shown.lock().clone();
            async move { ([("content-type", "text/plain; version=0.0.4")], page) }
        };
        Self { address: serve(axum::Router::new().fallback(handler)).await, page }
    }

    pub fn show(&self, page: &str) {
        page.clone_into(&mut self.page.lock());
    }
}

/// Serves on a free port as long as the test runs.
pub async fn serve(router: axum::Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// What came to a webhook.
#[derive(Clone, Default)]
pub struct Inbox(Arc<Mutex<Vec<Value>>>);

impl Inbox {
    /// A receiver, and its address.
    pub async fn new() -> (Self, SocketAddr) {
        let inbox = Self::default();
        let own = inbox.clone();
        let receive = move |axum::Json(body): axum::Json<Value>| {
            own.0.lock().push(body);
            async { "" }
        };
        let address = serve(axum::Router::new().fallback(axum::routing::post(receive))).await;
        (inbox, address)
    }

    /// `status alertname` of each notification so far.
    pub fn told(&self) -> Vec<String> {
        let told = |body: &Value| format!("{} {}", body["status"], body["groupLabels"]["alertname"]).replace('"', "");
        self.0.lock().iter().map(told).collect()
    }

    /// An annotation of the first alert that was told with it.
    pub fn annotation(&self, name: &str) -> Option<String> {
        let of = |body: &Value| Some(body["alerts"][0]["annotations"][name].as_str()?.to_owned());
        self.0.lock().iter().find_map(of)
    }

    /// Waits for a notification.
    pub async fn wait_for(&self, told: &str) {
        eventually(&format!("{told} is told; {:?}", self.told()), async || {
            self.told().iter().any(|t| t == told).then_some(())
        })
        .await;
    }
}

/// The blocks of a mesh of one target, scraped and judged each second, with the rule file `rules.yaml` beside.
pub fn one_target(target: SocketAddr, webhook: SocketAddr) -> String {
    format!(
        "
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
scrape_configs:
- job_name: mesh
  static_configs: [{{targets: ['{target}']}}]
rule_files: [rules*.yaml]
route: {{receiver: ops, group_by: [alertname], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}
receivers: [{{name: ops, webhook_configs: [{{url: 'http://{webhook}/'}}]}}]
"
    )
}

/// A rule file of one alert.
pub fn alert_file(name: &str, expr: &str, hold: &str) -> String {
    format!(
        "groups: [{{name: {name}, rules: [{{alert: {name}, expr: '{expr}', for: {hold}, annotations: {{summary: 'value {{{{ $value }}}}'}}}}]}}]\n"
    )
}
