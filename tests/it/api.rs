//! The HTTP APIs on a real socket: the real router over real parts, which each test fills as it likes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use meshscope::api;
use meshscope::clock::Clock;
use meshscope::declared::{self, Reader};
use meshscope::graph::health::Rules;
use meshscope::http_client::Reach;
use meshscope::kubernetes::ClusterConfig;
use meshscope::model::{Labels, Timestamp};
use meshscope::notify;
use meshscope::persist::{Archive, ChangePersist, Kept, OutboxReader};
use meshscope::promql::{self, Engine};
use meshscope::rollup::Rollup;
use meshscope::series::{self, Head};
use meshscope::store::Store;
use meshscope::traces::Live;
use meshscope::{rules, scrape};
use reqwest::Method;
use reqwest::header::HeaderMap;
use tokio::sync::{mpsc, watch};
use tower_http::compression::CompressionLayer;

use crate::postgres;

/// The parts that a server reads.
#[derive(Default)]
pub struct Parts {
    pub engine: promql::Config,
    pub head: Option<Head>,
    pub rollup: Rollup,
    /// PostgreSQL, and since when memory holds edge minutes whole; a new database and now unless given.
    pub store: Option<(Store, Timestamp)>,
    pub live: Option<Live>,
    /// The last access log records.
    pub logs: Option<meshscope::access_logs::Live>,
    pub rules: rules::Status,
    pub slos: meshscope::slo::Board,
    pub audit: meshscope::audit::Board,
    pub scrape: scrape::Status,
    /// The blocks of `alertmanager.yml`.
    pub alertmanager: Option<&'static str>,
}

/// A server of the APIs; it ends with the test.
pub struct Server {
    pub address: SocketAddr,
    /// What asks for a reload; nobody answers but the test.
    pub reloads: mpsc::Receiver<api::ReloadRequest>,
    /// How its queries ended.
    pub queries: Arc<meshscope::promql::Counters>,
    client: reqwest::Client,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// One replica that leads.
fn leading(clock: Clock) -> meshscope::persist::Standing {
    let replica = meshscope::store::Replica {
        id: "00000000000000aa".into(),
        name: "shop-0:7070".into(),
        host: "10.0.0.7".into(),
        web_port: 7070,
        grpc_port: 4317,
        http_port: 4318,
        is_https: false,
    };
    let standing = meshscope::persist::Standing::new(&replica.id);
    standing.leader_is(3, Some(&replica.id));
    standing.replicas_are(vec![replica]);
    standing.becomes(meshscope::persist::Role::Leader, clock.now());
    standing
}

impl Server {
    pub async fn start(parts: Parts) -> Self {
        let clock = Clock::system();
        let head = parts.head.unwrap_or_else(empty_head);
        let live = parts.live.unwrap_or_else(|| Live::new(1000, 1 << 20));
        let log_config = meshscope::access_logs::Config::default();
        let logs = parts.logs.unwrap_or_else(|| log_config.live());
        let (reload, reloads) = mpsc::channel(1);
        let kept = Kept { in_memory: Duration::from_secs(900), stored: Duration::from_secs(172_800) };
        let (store, whole_from) = match parts.store {
            Some(given) => given,
            // The database is empty, so memory is whole: also the minute before, when a new one begins meanwhile.
            None => (postgres::store().await, clock.now() - Duration::from_secs(3600)),
        };
        let alertmanager = parts.alertmanager.unwrap_or("route: {receiver: ops}\nreceivers: [{name: ops}]\n");
        let engine = Arc::new(Engine::new(parts.engine));
        let queries = engine.counters();
        let archive = Archive::new(store.clone(), parts.rollup.clone(), live, whole_from, kept)
            .with_access_logs(&log_config, logs);
        let (_, declared) = Reader::new(declared::Config::default(), ClusterConfig::default(), Reach::default(), clock);
        let changes = ChangePersist::new(declared.clone(), store.clone(), archive.clone(), clock).book();
        let state = api::State {
            declared,
            changes,
            notify: notify_status(alertmanager, clock),
            outbox: OutboxReader::new(store.clone()),
            alertmanager_configuration: Arc::new(|| alertmanager.to_owned()),
            engine,
            series: Arc::new(head.clone()),
            upstream: None,
            head: head.clone(),
            archive,
            scrape: parts.scrape,
            push: meshscope::push::Intake::new(Default::default(), head.clone(), parts.rollup.clone(), clock, None),
            otlp: Default::default(),
            push_permits: Arc::new(tokio::sync::Semaphore::new(4)),
            rules: parts.rules,
            slos: parts.slos,
            audit: parts.audit,
            alertmanagers: meshscope::notify::AlertmanagerStatus::default(),
            health: Rules::default(),
            clock,
            configuration: Arc::new(|| "global: {}\n".to_owned()),
            last_reload: Arc::new(|| api::LastReload {
                success: false,
                at: Timestamp::from_millis(4000),
                refused_at: Some(Timestamp::from_millis(5500)),
            }),
            external_labels: Arc::new(|| meshscope::model::Labels::from_pairs([("dc", "eu")])),
            metrics: Arc::new(|| "# EOF\n".to_owned()),
            reload,
            ready: watch::channel(true).1,
            retention: "1w".into(),
            started_at: clock.now(),
            standing: leading(clock),
        };
        let router = api::router(state).layer(CompressionLayer::new().gzip(true));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        tokio::spawn(async move { axum::serve(listener, router).await });
        install_tls();
        let client = reqwest::Client::builder().no_proxy().no_gzip().build().expect("a client");
        Self { address, reloads, queries, client }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[], None).await
    }

    /// Posts a form.
    pub async fn post(&self, path: &str, form: &str) -> Answer {
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        self.ask(Method::POST, path, &headers, Some(form)).await
    }

    pub async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> Answer {
        let mut request = self.client.request(method, format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.body(body.to_owned());
        }
        let response = request.send().await.unwrap_or_else(|error| panic!("{path}: {error}"));
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await.unwrap_or_else(|error| panic!("{path}: {error}"));
        Answer { status, headers, body: String::from_utf8_lossy(&bytes).into_owned() }
    }
}

/// Names the provider of TLS, which every HTTP client wants to know.
pub fn install_tls() {
    // Another test may have done so.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// What a dispatcher of this configuration shows; nobody runs it, so nothing is ever sent.
fn notify_status(text: &str, clock: Clock) -> notify::Status {
    install_tls();
    let (config, problems) = meshscope::yaml::decode::<notify::Config>(text);
    assert_eq!(problems, []);
    let plan = notify::Plan::new(&config.expect("decodes")).map_err(|errors| errors.len()).expect("a valid plan");
    let inputs = notify::Inputs {
        alerts: mpsc::channel(1).1,
        plan: watch::channel(Arc::new(plan)).1,
        silences: notify::Silences::default(),
        outbox: mpsc::channel(1).0,
        log: vec![],
        unfinished: vec![],
        external_url: "http://m".into(),
        annotator: None,
    };
    notify::Dispatcher::new(inputs, clock).status()
}

pub fn empty_head() -> Head {
    Head::new(series::Config::default())
}

/// Adds one sample a time to a series.
pub fn append(head: &Head, labels: &[(&str, &str)], samples: impl IntoIterator<Item = (i64, f64)>) {
    let series = head.intern(&Labels::from_pairs(labels.iter().copied())).expect("room for a series");
    for (ms, value) in samples {
        head.append_at(Timestamp::from_millis(ms), &[(series, value)]);
    }
}
