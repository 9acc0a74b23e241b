//! Two processes on one database: the leader is killed, paused, cut from PostgreSQL, slowed down. The standby leads within
//! fifteen seconds; every sample that was answered before is answered after; edge minutes are what the stored pages give;
//! people are told of each alert once; and a former leader that comes back writes nothing.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use meshscope::store::Config;
use serde_json::{Value, json};

use crate::app::{Inbox, Target, TestApp, alert_file, eventually, new_folder, with_ports};
use crate::chaos::{Chaos, Wire};
use crate::crash::{
    Program, Proxies, check_present, check_stored_minutes, from_environment, is_close, now_ms, proxies, recompute,
};
use crate::postgres;

/// The promise of docs/replicas.md.
const TAKEOVER_MAX: Duration = Duration::from_secs(15);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill,
    Pause,
    Cut,
    Stop,
}

/// A replica and where it listens.
struct Replica {
    program: Program,
    folder: PathBuf,
    otlp: SocketAddr,
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

/// What both replicas are told to do.
struct World {
    proxies: Proxies,
    target: Target,
    inbox: Inbox,
    webhook: SocketAddr,
}

impl World {
    async fn new() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let seed = from_environment("MESHSCOPE_CRASH_SEED", now_ms() as u64);
        println!("MESHSCOPE_CRASH_SEED={seed}");
        let (inbox, webhook) = Inbox::new().await;
        Self { proxies: proxies(seed).await, target: Target::new("errors 5\n").await, inbox, webhook }
    }

    async fn start(&self, name: &str, database: &Config) -> Replica {
        let (web, otlp, folder) = (free_address(), free_address(), new_folder());
        let targets: Vec<String> = self.proxies.keys().map(|address| format!("'{address}'")).collect();
        let text = format!(
            "web: {{listen: '{web}'}}\notlp: {{grpc_listen: '127.0.0.1:0', http_listen: '{otlp}'}}\n\
             storage: {{database_url: '{}'}}\nreplica: {{name: {name}}}\n\
             global: {{scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 1s}}\n\
             scrape_configs:\n- {{job_name: mesh, static_configs: [{{targets: [{}]}}]}}\n\
             - {{job_name: errors, scrape_interval: 1s, scrape_timeout: 1s, static_configs: [{{targets: ['{}']}}]}}\n\
             rule_files: [rules*.yaml]\n\
             route: {{receiver: ops, group_by: [alertname], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}\n\
             receivers: [{{name: ops, webhook_configs: [{{url: 'http://{}/'}}]}}]\n",
            database.database_url.as_ref().expect("an address").reveal(),
            targets.join(", "),
            self.target.address,
            self.webhook,
        );
        std::fs::write(folder.join("meshscope.yaml"), text).expect("write");
        for (name, expr, hold) in
            [("Firing", "errors > 0", "0s"), ("Later", "errors > 10", "0s"), ("Waiting", "errors > 1", "30s")]
        {
            std::fs::write(folder.join(format!("rules{name}.yaml")), alert_file(name, expr, hold)).expect("write");
        }
        let program = Program::start(&folder, web).await;
        Replica { program, folder, otlp }
    }
}

impl Replica {
    fn signal(&self, name: &str) {
        let told = Command::new("kill").args([name, &self.program.child.id().to_string()]).status().expect("run kill");
        assert!(told.success());
    }

    /// What it says of the replicas; nothing while it does not answer.
    async fn standing(&self) -> Option<Value> {
        let url = format!("http://{}/api/mesh/v1/replicas", self.program.web);
        let asked = reqwest::Client::new().get(url).timeout(Duration::from_secs(1)).send().await.ok()?;
        let mut answer: Value = serde_json::from_slice(&asked.bytes().await.ok()?).ok()?;
        Some(answer["data"].take())
    }

    async fn becomes(&self, role: &str) -> Value {
        eventually(&format!("it is {role}"), async || self.standing().await.filter(|said| said["role"] == role)).await
    }

    async fn follows(&self, leader: &str) {
        let follows = |said: &Value| said["role"] == "standby" && said["leader"] == leader;
        eventually(&format!("it follows {leader}"), async || self.standing().await.filter(follows)).await;
    }

    /// All samples of the pages' numbers.
    async fn pages(&self) -> BTreeSet<(SocketAddr, i64, i64)> {
        let samples = self.program.samples("sequence", "instance").await;
        samples.into_iter().map(|(instance, _, at, value)| (instance, at, value as i64)).collect()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Since when the alert of that name is active, in seconds.
    async fn active_at(&self, alert: &str) -> Option<i64> {
        let alerts = self.program.data("/api/v1/alerts").await;
        let found = alerts["alerts"].as_array()?.iter().find(|a| a["labels"]["alertname"] == alert)?;
        Some(chrono::DateTime::parse_from_rfc3339(found["activeAt"].as_str()?).ok()?.timestamp())
    }
}

async fn post(address: SocketAddr, path: &str, body: &Value) -> (u16, String) {
    let sent = reqwest::Client::new().post(format!("http://{address}{path}")).json(body).send().await;
    let answer = sent.expect("an answer");
    (answer.status().as_u16(), answer.text().await.expect("a body"))
}

/// What is sent to a standby gets to the leader.
async fn check_relay(world: &World, leader: &Replica, standby: &Replica) {
    let posted = json!([{"labels": {"alertname": "Posted"}}]);
    let (status, body) = post(standby.program.web, "/alertmanager/api/v2/alerts", &posted).await;
    assert_eq!(status, 200, "{body}");
    world.inbox.wait_for("firing Posted").await;
    let (status, body) = post(standby.otlp, "/v1/traces", &json!({"resourceSpans": []})).await;
    assert_eq!(status, 200, "{body}");
    let silence = json!({
        "matchers": [{"name": "alertname", "value": "Nobody", "isRegex": false}],
        "startsAt": "2020-01-01T00:00:00Z", "endsAt": "2099-01-01T00:00:00Z", "createdBy": "test", "comment": "test"
    });
    let (status, body) = post(standby.program.web, "/alertmanager/api/v2/silences", &silence).await;
    assert_eq!(status, 200, "{body}");
    eventually("the leader knows the silence", async || {
        let url = format!("http://{}/alertmanager/api/v2/silences", leader.program.web);
        let text = reqwest::get(url).await.expect("an answer").text().await.expect("a body");
        text.contains("Nobody").then_some(())
    })
    .await;
}

/// The pages that are stored, and that edges are what they give.
async fn check_edges(world: &World, leader: &Replica, database: &Config) {
    world.proxies.values().for_each(|proxy| proxy.lock().is_paused = true);
    let all_down = async || {
        let found = leader.program.data("/api/v1/query?query=sum(up{job=\"mesh\"})").await;
        (found["result"][0]["value"][1] == "0").then_some(())
    };
    eventually("all scrapes fail", all_down).await;
    let stored = check_present(&leader.program, &world.proxies).await;
    let expect: f64 = recompute(&world.proxies, &stored).values().flat_map(|m| m.requests.values()).sum();
    let counted = leader.program.edge_requests().await;
    assert!(is_close(counted, expect), "{counted} requests counted, {expect} in the stored pages");
    let mut connection = postgres::connection(database).await;
    eventually("edges are written", async || {
        let sql = "SELECT coalesce(sum(c), 0) FROM edge_rollup_1m, unnest(outcome_counts) c";
        let sum: f64 = sqlx::query_scalar(sql).fetch_one(&mut connection).await.expect("sum");
        is_close(sum, expect).then_some(())
    })
    .await;
    check_stored_minutes(database, recompute(&world.proxies, &stored)).await;
}

async fn take_over_after(fault: Fault) {
    let world = World::new().await;
    let database = postgres::database().await;
    let (wire, through) = Chaos::before(&database).await;
    let mut one = world.start("one", if fault == Fault::Cut { &through } else { &database }).await;
    one.becomes("leader").await;
    world.inbox.wait_for("firing Firing").await;
    let two = world.start("two", &database).await;
    two.follows("one").await;
    let mut told = vec!["firing Firing".to_owned()];
    if fault == Fault::Kill {
        check_relay(&world, &one, &two).await;
        told.push("firing Posted".to_owned());
    }
    let waiting = one.active_at("Waiting").await.expect("it waits");
    eventually("the standby holds it pending", async || two.active_at("Waiting").await).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = one.pages().await;
    assert!(before.len() > 20, "{before:?}");

    let start = Instant::now();
    match fault {
        Fault::Kill => one.program.child.kill().expect("kill -9"),
        Fault::Pause => one.signal("-STOP"),
        Fault::Cut => wire.set(Wire::Stalled),
        Fault::Stop => one.signal("-TERM"),
    }
    let said = two.becomes("leader").await;
    let took = start.elapsed();
    println!("{fault:?}: took over after {took:.1?}; {said}");
    assert!(took < TAKEOVER_MAX, "{took:?}\n{}", two.log());
    assert_eq!(said["epoch"], 2);

    // What was answered is answered; of the last second before a kill the standby has its own.
    let after = two.pages().await;
    let last = before.iter().map(|(_, at, _)| *at).max().expect("samples");
    let lost: Vec<_> = before.iter().filter(|page| page.1 < last - 2000 && !after.contains(page)).collect();
    assert!(lost.is_empty(), "{lost:?}");
    let mut times: Vec<i64> = after.iter().map(|(_, at, _)| *at).collect();
    times.sort_unstable();
    let gap = times.windows(2).map(|pair| pair[1] - pair[0]).max().expect("samples");
    println!("the longest time without a sample: {gap} ms");
    assert!(gap < 5000, "no sample for {gap} ms");

    let goes_on = async || two.active_at("Waiting").await.map(|since| assert_eq!(since, waiting, "it goes on waiting"));
    eventually("the pending alert is evaluated", goes_on).await;
    world.target.show("errors 20\n");
    world.inbox.wait_for("firing Later").await;
    told.push("firing Later".to_owned());
    match fault {
        Fault::Pause => one.signal("-CONT"),
        Fault::Cut => wire.set(Wire::Whole),
        Fault::Kill | Fault::Stop => {}
    }
    if matches!(fault, Fault::Pause | Fault::Cut) {
        one.follows("two").await;
    }
    world.inbox.wait_for("firing Waiting").await;
    told.push("firing Waiting".to_owned());
    check_edges(&world, &two, &database).await;
    let said: Vec<String> = world.inbox.told();
    let expect: BTreeSet<&String> = told.iter().collect();
    assert_eq!((said.len(), said.iter().collect::<BTreeSet<_>>()), (told.len(), expect), "{said:?}: each is told once");
    for replica in [&one, &two] {
        assert!(!replica.log().contains("panicked"), "{}", replica.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_replaces_a_leader_that_is_killed() {
    take_over_after(Fault::Kill).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_replaces_a_leader_that_is_paused_and_what_that_one_does_later_counts_nothing() {
    take_over_after(Fault::Pause).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_replaces_a_leader_that_is_cut_from_the_database() {
    take_over_after(Fault::Cut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_replaces_a_leader_that_is_stopped() {
    take_over_after(Fault::Stop).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_on_a_slow_database_goes_on_leading() {
    let world = World::new().await;
    let database = postgres::database().await;
    let (wire, through) = Chaos::before(&database).await;
    let one = world.start("one", &through).await;
    let two = world.start("two", &database).await;
    two.follows("one").await;
    wire.set(Wire::Slow(Duration::from_millis(300)));
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(12) {
        if let Some(said) = two.standing().await {
            assert_eq!((&said["role"], &said["epoch"]), (&json!("standby"), &json!(1)), "{}", two.log());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    wire.set(Wire::Whole);
    assert_eq!(one.becomes("leader").await["epoch"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_must_be_alone_does_not_start_beside_a_leader() {
    let database = postgres::database().await;
    let blocks = "replica: {standby: false}\n";
    let one = TestApp::start(&database, blocks).await;
    let config = meshscope::config::Config::parse(&with_ports(&database, blocks), None).expect("a configuration");
    let refused = meshscope::app::build(config, None).await.err().expect("another one leads");
    assert!(format!("{refused:#}").contains("`replica.standby` is false"), "{refused:#}");
    one.stop().await;
}
