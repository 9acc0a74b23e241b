//! `kill -9` at random moments, against targets that know every page they served.
//!
//! The real program on a PostgreSQL that survives. After each restart: every sample that is there was served, with those
//! values; nothing is missing but what was served in the last second before a kill; edges are what a recomputation from
//! these samples gives. `MESHSCOPE_CRASH_ROUNDS` says how often (default 3), `MESHSCOPE_CRASH_SEED` repeats a run as far as
//! time allows.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use meshscope::clock::Clock;
use parking_lot::Mutex;
use serde_json::Value;

use crate::app::{eventually, new_folder, serve};
use crate::postgres;

/// What may be lost before a kill: the journal is written each second, and this machine may be busy.
const LOST_MS_MAX: i64 = 2000;
const JOURNAL_MS: i64 = 1000;
const INTERVAL: &str = "250ms";

/// SplitMix64: all that the test needs of randomness.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// One page as it was served: when, and each series' value.
#[derive(Clone)]
pub struct Page {
    at_ms: i64,
    values: BTreeMap<String, f64>,
}

/// A proxy's metrics.
pub struct Proxy {
    workload: &'static str,
    bounds: &'static [u32],
    random: Random,
    requests: BTreeMap<&'static str, u64>,
    buckets: Vec<u64>,
    pub pages: Vec<Page>,
    pub is_paused: bool,
}

const CODES: [&str; 6] = ["200", "404", "429", "500", "502", "503"];

impl Proxy {
    fn new(workload: &'static str, bounds: &'static [u32], seed: u64) -> Self {
        let requests = BTreeMap::from([("200", 1000)]);
        let (random, buckets) = (Random(seed), vec![500; bounds.len() + 1]);
        Self { workload, bounds, random, requests, buckets, pages: Vec::new(), is_paused: false }
    }

    /// Time goes by: requests, now and then a code that was never seen, seldom a restart.
    fn live(&mut self) {
        if self.random.below(40) == 0 && self.buckets.iter().all(|count| *count > 100) {
            self.requests = BTreeMap::from([("200", 0)]);
            self.buckets.fill(0);
        }
        if self.random.below(8) == 0 {
            let code = CODES[self.random.below(CODES.len() as u64) as usize];
            self.requests.entry(code).or_default();
        }
        let random = &mut self.random;
        self.requests.values_mut().for_each(|count| *count += random.below(20));
        let mut more = 0;
        for count in &mut self.buckets {
            more += random.below(9);
            *count += more;
        }
    }

    fn serve(&mut self) -> (StatusCode, String) {
        if self.is_paused {
            return (StatusCode::SERVICE_UNAVAILABLE, String::new());
        }
        self.live();
        let sequence = self.pages.len();
        let mut values = BTreeMap::new();
        for (code, count) in &self.requests {
            values.insert(format!("istio_requests_total {code}"), *count as f64);
        }
        for (i, count) in self.buckets.iter().enumerate() {
            let bound = self.bounds.get(i).map_or("+Inf".to_owned(), u32::to_string);
            values.insert(format!("istio_request_duration_milliseconds_bucket {bound}"), *count as f64);
        }
        let mut page = format!("sequence {sequence}\n");
        for (series, value) in &values {
            let (name, own) = series.split_once(' ').expect("a name and a value");
            let own = if name == "istio_requests_total" {
                format!("response_code=\"{own}\",response_flags=\"-\"")
            } else {
                format!("response_code=\"200\",le=\"{own}\"")
            };
            let workload = self.workload;
            writeln!(
                page,
                "{name}{{reporter=\"source\",source_workload=\"{workload}\",source_workload_namespace=\"shop\",\
                 destination_workload=\"cart\",destination_workload_namespace=\"shop\",\
                 destination_service_name=\"cart\",destination_service_namespace=\"shop\",\
                 request_protocol=\"http\",{own}}} {value}"
            )
            .expect("write to a string");
        }
        self.pages.push(Page { at_ms: now_ms(), values });
        (StatusCode::OK, page)
    }
}

pub fn now_ms() -> i64 {
    Clock::system().now().as_millis()
}

pub type Proxies = BTreeMap<SocketAddr, Arc<Mutex<Proxy>>>;

/// Four pods of two workloads; the pods of `web` differ in their buckets.
pub async fn proxies(seed: u64) -> Proxies {
    let mut proxies = BTreeMap::new();
    let pods: [(&str, &[u32]); 4] =
        [("web", &[10, 100, 1000]), ("web", &[10, 50, 100]), ("api", &[5, 25]), ("api", &[5, 25])];
    for (i, (workload, bounds)) in pods.into_iter().enumerate() {
        let proxy = Arc::new(Mutex::new(Proxy::new(workload, bounds, seed.wrapping_mul(31) + i as u64)));
        let served = Arc::clone(&proxy);
        let handler = move || {
            let (status, page) = served.lock().serve();
            async move { (status, [("content-type", "text/plain; version=0.0.4")], page) }
        };
        proxies.insert(serve(axum::Router::new().fallback(handler)).await, proxy);
    }
    proxies
}

/// The program; killed when the test fails.
pub struct Program {
    pub child: std::process::Child,
    pub web: SocketAddr,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    pub async fn start(folder: &Path, web: SocketAddr) -> Self {
        let log = std::fs::File::options().append(true).create(true).open(folder.join("log")).expect("open the log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_meshscope"));
        command.args(["serve", "--config"]).arg(folder.join("meshscope.yaml"));
        command.env_remove("DATABASE_URL").env_remove("RUST_LOG").stdout(Stdio::null()).stderr(log);
        let program = Self { child: command.spawn().expect("start"), web };
        let url = format!("http://{web}/-/ready");
        let is_ready = async || reqwest::get(&url).await.ok()?.status().is_success().then_some(());
        eventually("it is ready", is_ready).await;
        program
    }

    pub async fn data(&self, path: &str) -> Value {
        let answer = reqwest::get(format!("http://{}{path}", self.web)).await.expect("an answer");
        let text = answer.text().await.expect("a body");
        let mut answer: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}"));
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer["data"].take()
    }

    /// All samples of that name: instance, the label that tells its series apart, time and value.
    pub async fn samples(&self, name: &str, label: &str) -> Vec<(SocketAddr, String, i64, f64)> {
        let data = self.data(&format!("/api/v1/query?query={name}[1h]")).await;
        let mut samples = Vec::new();
        for series in data["result"].as_array().expect("a matrix") {
            let instance = series["metric"]["instance"].as_str().expect("an instance").parse().expect("an address");
            let own = series["metric"][label].as_str().unwrap_or_default();
            for pair in series["values"].as_array().expect("values") {
                let at_ms = (pair[0].as_f64().expect("a time") * 1000.0).round() as i64;
                let value = pair[1].as_str().expect("a value").parse().expect("a number");
                samples.push((instance, own.to_owned(), at_ms, value));
            }
        }
        samples
    }

    /// The requests on all edges.
    pub async fn edge_requests(&self) -> f64 {
        let now = now_ms() / 1000;
        let graph = self.data(&format!("/api/mesh/v1/graph?start={}&end={}", now - 7200, now + 60)).await;
        let outcomes = graph["edges"].as_array().expect("edges").iter().flat_map(|e| e["outcomes"].as_array());
        outcomes.flatten().map(|outcome| outcome["count"].as_f64().expect("a count")).sum()
    }
}

/// Times of the pages that are stored, by proxy and page.
pub type Stored = BTreeMap<SocketAddr, BTreeMap<usize, i64>>;

/// Every sample that is there was served, once, with that value, and a page is there as a whole. Gives what is there.
pub async fn check_present(program: &Program, proxies: &Proxies) -> Stored {
    let mut stored = Stored::new();
    let mut page_at: HashMap<(SocketAddr, i64), usize> = HashMap::new();
    for (instance, _, at, sequence) in program.samples("sequence", "instance").await {
        let sequence = sequence as usize;
        assert_eq!(page_at.insert((instance, at), sequence), None, "two samples of {instance} at {at}");
        let before = stored.entry(instance).or_default().insert(sequence, at);
        assert_eq!(before, None, "page {sequence} of {instance} is stored twice");
    }
    let mut values = 0;
    for (name, label) in
        [("istio_requests_total", "response_code"), ("istio_request_duration_milliseconds_bucket", "le")]
    {
        for (instance, own, at, value) in program.samples(name, label).await {
            let sequence =
                page_at.get(&(instance, at)).unwrap_or_else(|| panic!("{name} of {instance} at {at}: no page"));
            let served = proxies[&instance].lock().pages[*sequence].values.get(&format!("{name} {own}")).copied();
            assert_eq!(served, Some(value), "{name} {own} of {instance}, page {sequence}");
            values += 1;
        }
    }
    let pages_of = |(instance, there): (&SocketAddr, &BTreeMap<usize, i64>)| -> usize {
        let proxy = proxies[instance].lock();
        there.keys().map(|sequence| proxy.pages[*sequence].values.len()).sum()
    };
    assert_eq!(values, stored.iter().map(pages_of).sum::<usize>(), "a page is stored in part");
    stored
}

/// As [`check_present`], and every page but the last ones before a kill is there. Gives what is there, and the milliseconds
/// before the kill that were lost at most.
pub async fn check_samples(program: &Program, proxies: &Proxies, kills: &[i64]) -> (Stored, i64) {
    let mut stored = check_present(program, proxies).await;
    let mut lost_ms = 0;
    for (instance, proxy) in proxies {
        let there = stored.entry(*instance).or_default();
        for (sequence, page) in proxy.lock().pages.iter().enumerate() {
            if there.contains_key(&sequence) {
                continue;
            }
            let kill = kills.iter().find(|kill| **kill >= page.at_ms);
            let before_ms = kill.map_or(i64::MAX, |kill| kill - page.at_ms);
            assert!(
                before_ms <= LOST_MS_MAX,
                "page {sequence} of {instance}, served {before_ms} ms before a kill, is lost"
            );
            lost_ms = lost_ms.max(before_ms);
        }
    }
    (stored, lost_ms)
}

/// What an edge's minute must be: requests by code, and buckets by bound, cumulative.
#[derive(Debug, Default)]
pub struct Minute {
    pub requests: BTreeMap<String, f64>,
    buckets: BTreeMap<String, f64>,
    layouts: Vec<&'static [u32]>,
}

/// From the pages that are stored, by the rules of `rollup`: differences, whole values after a reset; a series that was not
/// on the page before counts from zero since then; spread over the minutes between.
pub fn recompute(proxies: &Proxies, stored: &Stored) -> BTreeMap<(&'static str, i64), Minute> {
    let mut minutes = BTreeMap::<(&'static str, i64), Minute>::new();
    for (instance, proxy) in proxies {
        let proxy = proxy.lock();
        let (mut last, mut page_before) = (HashMap::<&str, (i64, f64)>::new(), None);
        for (sequence, at) in stored.get(instance).into_iter().flatten() {
            for (series, value) in &proxy.pages[*sequence].values {
                let before = last.insert(series, (*at, *value)).or(page_before.map(|at| (at, 0.0)));
                let Some((since, before)) = before else { continue };
                let gained = if *value < before { *value } else { *value - before };
                let (name, own) = series.split_once(' ').expect("a name and a value");
                let mut minute = since - since.rem_euclid(60_000);
                while minute < *at && gained > 0.0 {
                    let part = (at.min(&(minute + 60_000)) - since.max(minute)) as f64 / (at - since) as f64;
                    let into = minutes.entry((proxy.workload, minute)).or_default();
                    if name == "istio_requests_total" {
                        *into.requests.entry(own.to_owned()).or_default() += gained * part;
                    } else {
                        *into.buckets.entry(own.to_owned()).or_default() += gained * part;
                        into.layouts.push(proxy.bounds);
                    }
                    minute += 60_000;
                }
            }
            page_before = Some(*at);
        }
    }
    minutes
}

pub fn is_close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * b.abs().max(1.0)
}

type Row = (String, i64, Vec<String>, Vec<f64>, Option<Vec<f64>>, Vec<f64>);

/// Every stored minute is as recomputed, and there is no other.
pub async fn check_stored_minutes(
    database: &meshscope::store::Config,
    mut expect: BTreeMap<(&'static str, i64), Minute>,
) {
    let mut connection = postgres::connection(database).await;
    let sql = "SELECT e.source_workload, (extract(epoch FROM r.minute) * 1000)::bigint,
                      (SELECT coalesce(array_agg(o.code ORDER BY u.i), '{}')
                       FROM unnest(r.outcome_ids) WITH ORDINALITY u (outcome_id, i) JOIN outcome o USING (outcome_id)),
                      r.outcome_counts, l.bounds_ms, r.latency_counts
               FROM edge_rollup_1m r JOIN edge e USING (edge_id) LEFT JOIN latency_layout l USING (layout_id)";
    let rows: Vec<Row> = sqlx::query_as(sql).fetch_all(&mut connection).await.expect("read the minutes");
    assert_eq!(rows.len(), expect.len(), "edge minutes");
    for (workload, minute, codes, counts, bounds, latency) in rows {
        let workload = if workload == "web" { "web" } else { "api" };
        let expect = expect.remove(&(workload, minute)).unwrap_or_else(|| panic!("{workload} at {minute}"));
        let stored: BTreeMap<String, f64> = codes.into_iter().zip(counts).collect();
        for (code, count) in &expect.requests {
            let stored = stored.get(code).copied().unwrap_or(0.0);
            assert!(is_close(stored, *count), "{workload} {code} at {minute}: {stored} stored, {count} served");
        }
        assert_eq!(
            stored.values().filter(|count| **count > 1e-9).count(),
            expect.requests.len(),
            "{workload} {minute}"
        );
        let (bounds, mut sum) = (bounds.unwrap_or_default(), 0.0);
        for (i, count) in latency.iter().enumerate() {
            sum += count;
            let bound = bounds.get(i).map_or("+Inf".to_owned(), f64::to_string);
            let served = expect.buckets.get(&bound).copied().unwrap_or(0.0);
            assert!(is_close(sum, served), "{workload} le={bound} at {minute}: {sum} stored, {served} served");
            let is_common =
                i == bounds.len() || expect.layouts.iter().all(|l| l.iter().any(|b| b.to_string() == bound));
            assert!(is_common, "{workload} at {minute}: bound {bound} is not of all pods");
        }
    }
}

/// How many rounds, and the seed of what is random, said aloud so that a run can be repeated.
pub fn rounds_and_seed() -> (u64, u64) {
    let rounds = from_environment("MESHSCOPE_CRASH_ROUNDS", 3);
    let seed = from_environment("MESHSCOPE_CRASH_SEED", now_ms() as u64);
    println!("MESHSCOPE_CRASH_ROUNDS={rounds} MESHSCOPE_CRASH_SEED={seed}");
    (rounds, seed)
}

pub fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_moment_loses_a_second_at_most_and_doubles_nothing() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (rounds, seed) = rounds_and_seed();
    let mut random = Random(seed);
    let database = postgres::database().await;
    let proxies = proxies(seed).await;
    let web = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let folder = new_folder();
    let targets: Vec<String> = proxies.keys().map(|address| format!("'{address}'")).collect();
    let text = format!(
        "web: {{listen: '{web}'}}\notlp: {{grpc_listen: '127.0.0.1:0', http_listen: '127.0.0.1:0'}}\n\
         storage: {{database_url: '{}'}}\nglobal: {{scrape_interval: {INTERVAL}, scrape_timeout: {INTERVAL}}}\n\
         scrape_configs: [{{job_name: mesh, static_configs: [{{targets: [{}]}}]}}]\n",
        database.database_url.as_ref().expect("an address").reveal(),
        targets.join(", ")
    );
    std::fs::write(folder.join("meshscope.yaml"), text).expect("write");

    let (mut kills, mut worst_ms, mut over_a_second) = (Vec::new(), 0, 0);
    let mut program = Program::start(&folder, web).await;
    for round in 0..rounds {
        tokio::time::sleep(Duration::from_millis(300 + random.below(4000))).await;
        program.child.kill().expect("kill -9");
        program.child.wait().expect("wait");
        kills.push(now_ms());
        tokio::time::sleep(Duration::from_millis(random.below(1500))).await;
        let start = Instant::now();
        program = Program::start(&folder, web).await;
        let took = start.elapsed();
        tokio::time::sleep(Duration::from_millis(random.below(1000))).await;
        // Nothing is served while the checker looks: the pages before are all in, or never will be.
        proxies.values().for_each(|proxy| proxy.lock().is_paused = true);
        let all_down =
            async || (program.data("/api/v1/query?query=sum(up)").await["result"][0]["value"][1] == "0").then_some(());
        eventually("all scrapes fail", all_down).await;
        let (stored, lost_ms) = check_samples(&program, &proxies, &kills).await;
        let expect: f64 = recompute(&proxies, &stored).values().flat_map(|minute| minute.requests.values()).sum();
        let counted = program.edge_requests().await;
        let pages: usize = stored.values().map(BTreeMap::len).sum();
        println!("round {round}: ready after {took:.1?}, {pages} pages, {lost_ms} ms lost, {counted:.3} requests");
        assert!(is_close(counted, expect), "round {round}: {counted} requests counted, {expect} served");
        (worst_ms, over_a_second) = (worst_ms.max(lost_ms), over_a_second + u64::from(lost_ms > JOURNAL_MS));
        proxies.values().for_each(|proxy| proxy.lock().is_paused = false);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    proxies.values().for_each(|proxy| proxy.lock().is_paused = true);
    tokio::time::sleep(Duration::from_millis(800)).await;
    let (stored, _) = check_samples(&program, &proxies, &kills).await;
    let told = Command::new("kill").args(["-TERM", &program.child.id().to_string()]).status().expect("run kill");
    assert!(told.success());
    let status = eventually("it ends", async || program.child.try_wait().expect("wait")).await;
    assert!(status.success(), "{status}");
    check_stored_minutes(&database, recompute(&proxies, &stored)).await;
    let log = std::fs::read_to_string(folder.join("log")).expect("read the log");
    assert!(!log.contains("panicked"), "{log}");
    println!("{rounds} kills: at most {worst_ms} ms lost before one, {over_a_second} rounds with more than a second");
}
