//! `serve --shard`: three processes, each with a third of the targets, and one view of the mesh, through kills of each.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;

use crate::app::{eventually, new_folder, serve};
use crate::postgres;

const TARGETS: usize = 30;
const SHARES: u16 = 3;

/// A proxy that counts more requests with each scrape, and meets its first failures after a few.
#[derive(Clone, Default)]
struct Proxy {
    scrapes: Arc<AtomicU64>,
    frozen: Arc<AtomicBool>,
    /// Requests that were there at the first scrape, which nobody can count.
    before: Arc<AtomicU64>,
    shown: Arc<Mutex<(u64, u64)>>,
}

impl Proxy {
    async fn start(&self, number: usize) -> SocketAddr {
        let own = self.clone();
        serve(axum::Router::new().fallback(move || {
            let page = own.page(number);
            async move { ([("content-type", "text/plain; version=0.0.4")], page) }
        }))
        .await
    }

    fn page(&self, number: usize) -> String {
        let mut shown = self.shown.lock();
        if !self.frozen.load(Relaxed) {
            let n = self.scrapes.fetch_add(1, Relaxed);
            *shown = (1000 + n * 7, if n < 6 { 0 } else { 5 + (n - 6) * 2 });
            if n == 0 {
                self.before.store(shown.0, Relaxed);
            }
        }
        let series = |code: &str, value: u64| {
            format!(
                "istio_requests_total{{reporter=\"source\",source_workload=\"web-{number}\",source_workload_namespace=\"shop\",\
                 destination_workload=\"api\",destination_workload_namespace=\"shop\",request_protocol=\"http\",\
                 response_code=\"{code}\",response_flags=\"-\"}} {value}\n"
            )
        };
        let failures = if shown.1 > 0 { series("503", shown.1) } else { String::new() };
        format!("# TYPE istio_requests_total counter\n{}{failures}", series("200", shown.0))
    }

    /// What must be counted: all but what was there when it was first looked at.
    fn counted(&self) -> f64 {
        let (good, failed) = *self.shown.lock();
        (good - self.before.load(Relaxed) + failed) as f64
    }
}

/// One process, killed with the test.
struct Process {
    child: Child,
    index: u16,
    file: PathBuf,
}

impl Process {
    fn start(file: &Path, index: u16) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(file.with_extension("log")).expect("a log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_meshscope"));
        command.args(["serve", "--shard", &format!("{index}/{SHARES}"), "--config"]).arg(file);
        command.env_remove("DATABASE_URL").env("RUST_LOG", "meshscope=info");
        let child = command.stdout(Stdio::null()).stderr(log).spawn().expect("start");
        Self { child, index, file: file.to_owned() }
    }

    /// As `kill -9`, and started again.
    fn kill_and_start(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("it ended");
        *self = Self::start(&self.file, self.index);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn answer(port: u16, path: &str) -> Option<Value> {
    let asked = reqwest::Client::new().get(format!("http://127.0.0.1:{port}{path}")).timeout(Duration::from_secs(5));
    let answer = asked.send().await.ok()?;
    if answer.status() == 200 { answer.json().await.ok() } else { None }
}

async fn number(port: u16, query: &str) -> Option<f64> {
    let url = reqwest::Url::parse_with_params("http://x/api/v1/query", [("query", query)]).expect("an address");
    let found = answer(port, &format!("{}?{}", url.path(), url.query().unwrap_or_default())).await?;
    found["data"]["result"][0]["value"][1].as_str()?.parse().ok()
}

/// Requests of all edges of the last hour.
async fn edges(port: u16) -> Option<f64> {
    let graph = answer(port, "/api/mesh/v1/graph").await?;
    let edges = graph["data"]["edges"].as_array()?;
    let outcomes = edges.iter().filter_map(|edge| edge["outcomes"].as_array()).flatten();
    Some(outcomes.filter_map(|outcome| outcome["count"].as_f64()).sum::<f64>().round())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_shares_make_one_mesh_through_the_death_of_each() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (folder, database) = (new_folder(), postgres::database().await);
    let url = database.database_url.as_ref().expect("an address").reveal().to_owned();
    let (mut proxies, mut addresses) = (Vec::new(), Vec::new());
    for number in 0..TARGETS {
        let proxy = Proxy::default();
        addresses.push(format!("'{}'", proxy.start(number).await));
        proxies.push(proxy);
    }
    let mut ports = Vec::new();
    for _ in 0..SHARES {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        ports.push(listener.local_addr().expect("an address").port());
    }
    let mut processes = Vec::new();
    for index in 0..SHARES {
        let text = format!(
            "web: {{listen: '127.0.0.1:{}'}}\notlp: {{grpc_listen: '127.0.0.1:0', http_listen: '127.0.0.1:0'}}\n\
             storage: {{database_url: '{url}'}}\nshard: {{url: 'http://127.0.0.1:{}'}}\n\
             global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
             scrape_configs: [{{job_name: mesh, static_configs: [{{targets: [{}]}}]}}]\n",
            ports[usize::from(index)],
            ports[0],
            addresses.join(", ")
        );
        let file = folder.join(format!("shard-{index}.yaml"));
        std::fs::write(&file, text).expect("write");
        processes.push(Process::start(&file, index));
    }
    let leader = ports[0];
    eventually("all targets are seen by the first", async || {
        (number(leader, "count(up == 1)").await? == TARGETS as f64).then_some(())
    })
    .await;
    // Each target is scraped by one process.
    let mut seen = Vec::new();
    for port in &ports {
        let targets = answer(*port, "/api/v1/targets").await.expect("targets");
        let active = targets["data"]["activeTargets"].as_array().expect("a list").clone();
        assert!(!active.is_empty(), "{targets}");
        seen.extend(active.iter().map(|target| target["scrapeUrl"].as_str().unwrap_or_default().to_owned()));
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), TARGETS);
    assert_eq!(number(leader, "count(count_over_time(up[5s]) > 0)").await, Some(TARGETS as f64));

    // One share is killed while its targets meet their first failures, then the first one.
    eventually("some scrapes", async || (proxies.iter().all(|one| one.scrapes.load(Relaxed) >= 5)).then_some(())).await;
    processes[1].kill_and_start();
    tokio::time::sleep(Duration::from_secs(4)).await;
    processes[0].kill_and_start();
    eventually("the first is back", async || (number(leader, "count(up == 1)").await? == TARGETS as f64).then_some(()))
        .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    proxies.iter().for_each(|one| one.frozen.store(true, Relaxed));
    let expect: f64 = proxies.iter().map(Proxy::counted).sum();
    assert!(expect > 500.0, "{expect}");
    eventually(&format!("{expect} requests are counted"), async || {
        let found = edges(leader).await?;
        assert!(found <= expect, "{found} requests counted of {expect}");
        (found == expect).then_some(())
    })
    .await;
    let total = |one: &Proxy| {
        let (good, failed) = *one.shown.lock();
        good + failed
    };
    let sum: u64 = proxies.iter().map(total).sum();
    eventually("the sum of all counters is right", async || {
        (number(leader, "sum(istio_requests_total)").await? == sum as f64).then_some(())
    })
    .await;
    // It stays as it is.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(edges(leader).await, Some(expect));
}

#[test]
fn a_share_that_is_none_or_has_nowhere_to_send_is_refused() {
    let folder = new_folder();
    let file = folder.join("meshscope.yaml");
    std::fs::write(&file, "scrape_configs: []\n").expect("write");
    for (share, needle) in [("3/3", "write INDEX/COUNT"), ("1/3", "needs the block `shard`")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_meshscope"));
        let output = command.args(["serve", "--shard", share, "--config"]).arg(&file).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(needle), "{share}: {said}");
    }
}
