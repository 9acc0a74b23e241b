//! The service graph of a large mesh at the API: 500 services, 5,000 edges that both sides report, over an hour and a day.
//!
//! Over a real PostgreSQL with rows of minutes and hours, the last 15 minutes in memory, and the real router on a socket.
//! Each range is asked for with packs of edges and without them.
#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/api.rs"]
mod api;
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../tests/it/postgres.rs"]
mod postgres;

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use meshscope::clock::Clock;
use meshscope::model::workload::{
    ENVOY_BOUNDS, EdgeKey, LatencyHistogram, MeshKind, Outcome, Protocol, Reporter, Security, Service, Workload,
};
use meshscope::model::{EdgeMinute, Timestamp};
use meshscope::rollup::{self, Rollup};
use meshscope::store::Store;

/// As the program has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const SERVICES: usize = 500;
const CALLS_EACH: usize = 10;
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const IN_MEMORY: u32 = 15;

fn workload(number: usize) -> Workload {
    let name = format!("service-{number:03}");
    Workload {
        cluster: Some("Kubernetes".into()),
        namespace: Some(format!("team-{:02}", number % 20).into()),
        name: Some(format!("{name}-v1").into()),
        app: Some(name.into()),
        version: Some("v1".into()),
    }
}

fn keys() -> Vec<EdgeKey> {
    let mut keys = Vec::new();
    for (caller, call) in (0..SERVICES).flat_map(|caller| (0..CALLS_EACH).map(move |call| (caller, call))) {
        let called = (caller + 1 + call * call * 7) % SERVICES;
        let (source, destination) = (workload(caller), workload(called));
        let principal = |w: &Workload| {
            format!("spiffe://cluster.local/ns/{}/sa/{}", w.namespace.as_deref().unwrap(), w.app.as_deref().unwrap())
        };
        let service = Service {
            name: destination.app.clone(),
            namespace: destination.namespace.clone(),
            host: Some(format!("{}.svc.cluster.local", destination.app.as_deref().unwrap()).into()),
        };
        for (reporter, security) in
            [(Reporter::Source, Security::Unknown), (Reporter::Destination, Security::MutualTls)]
        {
            keys.push(EdgeKey {
                mesh: MeshKind::Istio,
                reporter,
                protocol: if call % 3 == 0 { Protocol::Grpc } else { Protocol::Http },
                source: source.clone(),
                destination: destination.clone(),
                service: service.clone(),
                source_principal: Some(principal(&source).into()),
                destination_principal: Some(principal(&destination).into()),
                security,
            });
        }
    }
    keys
}

/// A minute of an edge. Increments are spread over the minutes they span, so few numbers are whole.
fn minute(at: Timestamp, number: usize, edge: EdgeKey) -> EdgeMinute {
    let rate = 60.0 * (1.0 + (number % 37) as f64) * 1.0373;
    let outcome = |code: &str, flags: &str| Outcome { code: code.into(), grpc_status: "".into(), flags: flags.into() };
    let mut requests = vec![(outcome("200", "-"), rate)];
    if number.is_multiple_of(7) {
        requests.push((outcome("503", "UF,URX"), rate * 0.013));
    }
    if number.is_multiple_of(3) {
        requests.push((outcome("404", "-"), rate * 0.021));
    }
    let counts =
        (0..=ENVOY_BOUNDS.len()).map(|i| if (2..11).contains(&i) { rate / (i as f64 * 1.7) } else { 0.0 }).collect();
    EdgeMinute {
        requests,
        latency: LatencyHistogram { bounds_ms: ENVOY_BOUNDS.into(), counts, sum_ms: rate * 21.7 },
        request_bytes: rate * 512.3,
        response_bytes: rate * 2048.9,
        ..EdgeMinute::empty(at, edge)
    }
}

async fn execute(config: &meshscope::store::Config, sql: &str) {
    let mut connection = postgres::connection(config).await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
}

/// Minutes of the last hour and a half and of the first hour of the day before, and hours between them.
async fn fill(config: &meshscope::store::Config, store: &Store, now: Timestamp) {
    let last = now.floor_to(MINUTE) - MINUTE * IN_MEMORY;
    let first: Vec<EdgeMinute> = keys().into_iter().enumerate().map(|(n, key)| minute(last - MINUTE, n, key)).collect();
    store.write_edges(first).await.unwrap();
    let columns =
        "outcome_ids, outcome_counts, layout_id, latency_counts, latency_sum_ms, request_bytes, response_bytes,
                   connections_closed, request_messages, response_messages";
    let at = |at: Timestamp| at.to_string();
    let day_ago = (now - DAY).floor_to(HOUR);
    for (from, to) in [(last - MINUTE * 100, last - MINUTE), (day_ago, day_ago + HOUR * 2)] {
        let sql = format!(
            "INSERT INTO edge_rollup_1m (minute, edge_id, {columns})
             SELECT m, edge_id, {columns} FROM edge_rollup_1m,
                    generate_series('{}'::timestamptz, '{}'::timestamptz - interval '1 minute', interval '1 minute') m
             WHERE minute = '{}'",
            at(from),
            at(to),
            at(last - MINUTE)
        );
        execute(config, &sql).await;
    }
    let sql = format!(
        "INSERT INTO edge_rollup_1h (hour, edge_id, {columns})
         SELECT h, edge_id, {columns} FROM edge_rollup_1m,
                generate_series('{}'::timestamptz, '{}'::timestamptz - interval '1 hour', interval '1 hour') h
         WHERE minute = '{}'",
        at(day_ago - DAY),
        at(last.floor_to(HOUR)),
        at(last - MINUTE)
    );
    execute(config, &sql).await;
    let sql = format!(
        "INSERT INTO progress (name, at) VALUES ('edges_complete_until', '{}'), ('rolled_hours_until', '{}');
         ANALYZE;",
        at(last),
        at(last.floor_to(HOUR))
    );
    execute(config, &sql).await;
}

async fn pack(store: &Store, now: Timestamp) {
    let (from, mut made) = (Instant::now(), 0);
    loop {
        match store.pack_edges(now, 100).await.unwrap() {
            0 => break,
            more => made += more,
        }
    }
    println!("packed {made} slots in {:?}", from.elapsed());
}

fn graph(criterion: &mut Criterion) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (server, config, now) = runtime.block_on(async {
        let config = postgres::database().await;
        let store = postgres::connect(&config).await;
        let now = Clock::system().now();
        fill(&config, &store, now).await;
        pack(&store, now).await;
        let rollup = Rollup::new(rollup::Config { edge_limit: 50_000, ..rollup::Config::default() });
        rollup.advance(now);
        for ago in 0..IN_MEMORY {
            let at = now.floor_to(MINUTE) - MINUTE * ago;
            keys().into_iter().enumerate().for_each(|(n, key)| rollup.add(minute(at, n, key)));
        }
        let whole_from = now.floor_to(MINUTE) - MINUTE * (IN_MEMORY - 1);
        let parts = api::Parts { rollup, store: Some((store, whole_from)), ..api::Parts::default() };
        (api::Server::start(parts).await, config, now)
    });
    let ask = |path: String, least: usize| {
        let answer = runtime.block_on(server.get(&path));
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(answer.body.len() > least, "{}", answer.body.len());
    };
    let since = |length: Duration| format!("start={}&end={}", now - length, now);
    for packed in [true, false] {
        if !packed {
            runtime.block_on(execute(&config, "DELETE FROM edge_pack"));
        }
        let how = if packed { "packs" } else { "rows" };
        if packed {
            let graph = |length: Duration| format!("/api/mesh/v1/graph?{}", since(length));
            cost("an hour", 20, || ask(graph(HOUR), 1_000_000));
            cost("a day", 20, || ask(graph(DAY), 1_000_000));
            cost("a replay of an hour in 30 frames", 4, || {
                ask(format!("/api/mesh/v1/graph/replay?{}", since(HOUR)), 1_000_000);
            });
        }
        let mut group = criterion.benchmark_group(format!("5,000 edges at the API, from {how}"));
        group.sample_size(10);
        for (name, length) in [("an hour", HOUR), ("a day", DAY)] {
            group.bench_function(name, |bencher| {
                bencher.iter(|| ask(format!("/api/mesh/v1/graph?{}", since(length)), 1_000_000));
            });
        }
        group.bench_function("a replay of an hour in 30 frames", |bencher| {
            bencher.iter(|| ask(format!("/api/mesh/v1/graph/replay?{}", since(HOUR)), 1_000_000));
        });
        group.bench_function("two hours compared", |bencher| {
            bencher.iter(|| ask(format!("/api/mesh/v1/graph/compare?{}", since(HOUR)), 50));
        });
        group.finish();
    }
}

/// Seconds of CPU that this process has used, to ten milliseconds. On a busy machine they tell more than the wall does.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0
}

/// Asks some times and prints what one answer costs: CPU of this process, the client that reads it included, and wall.
fn cost(what: &str, times: u32, ask: impl Fn()) {
    ask();
    let (cpu, mut walls) = (cpu_seconds(), Vec::new());
    for _ in 0..times {
        let from = Instant::now();
        ask();
        walls.push(from.elapsed());
    }
    let each_ms = (cpu_seconds() - cpu) * 1000.0 / f64::from(times);
    walls.sort_unstable();
    println!(
        "{what}: {each_ms:.0} ms of CPU, {:.0?} of wall at best, {:.0?} in the middle",
        walls[0],
        walls[walls.len() / 2]
    );
}

criterion_group!(benches, graph);
criterion_main!(benches);
