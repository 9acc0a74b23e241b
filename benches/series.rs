//! The memory tier on an Istio-like fleet: `cargo bench --bench series` (or `-- PROXIES SERIES ROWS`). Prints, asserts nothing.
#![allow(clippy::unwrap_used, reason = "a benchmark")]

use std::time::{Duration, Instant};

use meshscope::model::{Labels, Matcher, Timestamp};
use meshscope::series::{Config, Head, Queryable, Select, SeriesRef, encode_block};

const BUCKETS: [&str; 20] = [
    "0.5", "1", "5", "10", "25", "50", "100", "250", "500", "1000", "2500", "5000", "10000", "30000", "60000",
    "300000", "600000", "1.8e+06", "3.6e+06", "+Inf",
];
const STEP_MS: i64 = 5000;
const START_MS: i64 = 1_700_000_000_000;

struct Edge {
    /// Requests a scrape, on average; two thirds of the edges idle.
    rate: u64,
    count: u64,
    sums: [f64; 3],
    buckets: [[u64; 20]; 3],
}

/// 1 counter and 3 histograms of 22 series for each edge of each proxy.
struct Fleet {
    proxies: Vec<(Vec<SeriesRef>, Vec<Edge>)>,
    random: u64,
}

impl Fleet {
    fn new(head: &Head, proxies: usize, series: usize) -> Self {
        let mut random = 7;
        let proxies = (0..proxies)
            .map(|proxy| {
                let edges = (series / 67).max(1);
                let refs = (0..edges).flat_map(|edge| intern_edge(head, proxy, edge)).collect();
                let new_edge = |_| Edge {
                    rate: [0, 0, next(&mut random) % 200][(next(&mut random) % 3) as usize],
                    count: 0,
                    sums: [0.0; 3],
                    buckets: [[0; 20]; 3],
                };
                (refs, (0..edges).map(new_edge).collect())
            })
            .collect();
        Self { proxies, random }
    }

    /// The values of the next scrape of that proxy.
    fn scrape(&mut self, proxy: usize, batch: &mut Vec<(SeriesRef, f64)>) {
        batch.clear();
        let (refs, edges) = &mut self.proxies[proxy];
        let mut refs = refs.iter();
        for edge in edges {
            let requests = if edge.rate == 0 { 0 } else { edge.rate + next(&mut self.random) % (edge.rate / 4 + 2) };
            for _ in 0..requests {
                for histogram in 0..3 {
                    let bucket = (next(&mut self.random) % 8 + next(&mut self.random) % 8) as usize + histogram;
                    (bucket..20).for_each(|b| edge.buckets[histogram][b] += 1);
                    edge.sums[histogram] += (next(&mut self.random) % 10_000) as f64 / 20.0;
                }
            }
            edge.count += requests;
            let mut push = |value: f64| batch.extend(refs.next().map(|r| (*r, value)));
            push(edge.count as f64);
            for histogram in 0..3 {
                edge.buckets[histogram].iter().for_each(|b| push(*b as f64));
                push(edge.sums[histogram]);
                push(edge.count as f64);
            }
        }
    }
}

fn next(random: &mut u64) -> u64 {
    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *random >> 33
}

fn intern_edge(head: &Head, proxy: usize, edge: usize) -> Vec<SeriesRef> {
    let workload = |i: usize| format!("workload-{i}");
    let common: Vec<(String, String)> = [
        ("reporter", "source".to_owned()),
        ("source_workload", workload(proxy % 60)),
        ("source_workload_namespace", "shop".to_owned()),
        ("source_principal", format!("spiffe://cluster.local/ns/shop/sa/{}", workload(proxy % 60))),
        ("source_app", workload(proxy % 60)),
        ("source_version", "v1".to_owned()),
        ("source_cluster", "Kubernetes".to_owned()),
        ("source_canonical_service", workload(proxy % 60)),
        ("source_canonical_revision", "v1".to_owned()),
        ("destination_workload", workload(edge)),
        ("destination_workload_namespace", "shop".to_owned()),
        ("destination_principal", format!("spiffe://cluster.local/ns/shop/sa/{}", workload(edge))),
        ("destination_app", workload(edge)),
        ("destination_version", "v1".to_owned()),
        ("destination_cluster", "Kubernetes".to_owned()),
        ("destination_service", format!("{}.shop.svc.cluster.local", workload(edge))),
        ("destination_service_name", workload(edge)),
        ("destination_service_namespace", "shop".to_owned()),
        ("destination_canonical_service", workload(edge)),
        ("destination_canonical_revision", "v1".to_owned()),
        ("request_protocol", "http".to_owned()),
        ("response_code", "200".to_owned()),
        ("grpc_response_status", "0".to_owned()),
        ("response_flags", "-".to_owned()),
        ("connection_security_policy", "unknown".to_owned()),
        ("job", "kubernetes-pods".to_owned()),
        ("instance", format!("10.0.{}.{}:15090", proxy / 250, proxy % 250)),
        ("namespace", "shop".to_owned()),
        ("pod", format!("{}-5d4f8c7b9-{proxy:05}", workload(proxy % 60))),
        ("node", format!("node-{}", proxy % 12)),
        ("cluster", "eu-1".to_owned()),
        ("app", workload(proxy % 60)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec();
    let intern = |metric: &str, le: &str| {
        let extra = [("__name__".to_owned(), metric.to_owned()), ("le".to_owned(), le.to_owned())];
        head.intern(&Labels::from_pairs(common.iter().cloned().chain(extra))).unwrap()
    };
    let mut refs = vec![intern("istio_requests_total", "")];
    for histogram in ["istio_request_duration_milliseconds", "istio_request_bytes", "istio_response_bytes"] {
        refs.extend(BUCKETS.iter().map(|le| intern(&format!("{histogram}_bucket"), le)));
        refs.push(intern(&format!("{histogram}_sum"), ""));
        refs.push(intern(&format!("{histogram}_count"), ""));
    }
    refs
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.trim().trim_end_matches(" kB").trim().parse().unwrap_or(0)
}

fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let argument = |i: usize, default: usize| numbers.get(i).copied().unwrap_or(default);
    let (proxies, series, rows) = (argument(0, 100), argument(1, 1005), argument(2, 720));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let before_kib = resident_kib();
    let head = Head::new(Config::default());
    let start = Instant::now();
    let mut fleet = Fleet::new(&head, proxies, series);
    let total = head.stats().series;
    println!("{total} series interned in {:.0?} ({:.0?} each)", start.elapsed(), start.elapsed() / total as u32);

    let (mut appending, mut samples, mut batch) = (Duration::ZERO, 0, Vec::new());
    let (mut journal_bytes, mut draining, mut batches) = (0, Duration::ZERO, Vec::new());
    for row in 0..rows as i64 {
        for proxy in 0..proxies {
            fleet.scrape(proxy, &mut batch);
            let at = Timestamp::from_millis(START_MS + row * STEP_MS + (proxy * 37 % 5000) as i64);
            let start = Instant::now();
            samples += head.append_at(at, &batch).accepted;
            appending += start.elapsed();
        }
        let start = Instant::now();
        while let Some(batch) = head.drain_journal() {
            journal_bytes += batch.bytes.len();
            batches.push(batch);
        }
        draining += start.elapsed();
    }
    let stats = head.stats();
    println!("append {:.1} ns a sample, with the journal's rows", appending.as_nanos() as f64 / samples as f64);
    println!(
        "journal {:.3} bytes a sample, {:.1} ns a sample to compress",
        journal_bytes as f64 / samples as f64,
        draining.as_nanos() as f64 / samples as f64
    );
    println!(
        "memory {:.3} bytes a sample packed; {} bytes a series counted (index {}), {} resident",
        stats.packed_bytes as f64 / stats.samples as f64,
        stats.bytes / total,
        stats.index_bytes / total,
        (resident_kib() - before_kib) * 1024 / total as u64,
    );
    let end = Timestamp::from_millis(START_MS + rows as i64 * STEP_MS);
    for (name, matchers) in [
        ("20k buckets", vec![Matcher::equal("__name__", "istio_request_bytes_bucket")]),
        ("requests_total", vec![Matcher::equal("__name__", "istio_requests_total")]),
        (
            "one service",
            vec![
                Matcher::equal("destination_workload", "workload-3"),
                Matcher::equal("__name__", "istio_requests_total"),
            ],
        ),
    ] {
        for minutes in [1, 15] {
            let mut took: Vec<Duration> = Vec::new();
            let mut found = (0, 0);
            for _ in 0..9 {
                let start = Instant::now();
                let select = Select::new(matchers.clone(), end - Duration::from_secs(minutes * 60), end);
                let selection = runtime.block_on(head.select(select)).unwrap();
                took.push(start.elapsed());
                found = (selection.series.len(), selection.series.iter().map(|s| s.values.len()).sum::<usize>());
            }
            took.sort();
            println!("select {name} {minutes} min: {} series, {} samples: median {:.1?}", found.0, found.1, took[4]);
        }
    }
    let start = Instant::now();
    let (mut chunks, mut bytes, mut count) = (0_usize, 0, 0_u64);
    head.visit_closed_blocks(end, |closed| {
        chunks += 1;
        bytes += encode_block(&closed.block).len();
        count += closed.block.values().map(|member| member.values.len() as u64).sum::<u64>();
    });
    println!("{chunks} chunks, {:.3} bytes a sample, in {:.0?}", bytes as f64 / count as f64, start.elapsed());
    let start = Instant::now();
    let restored = Head::new(Config::default());
    let back: usize = batches.iter().map(|batch| restored.replay(&batch.bytes).unwrap()).sum();
    println!(
        "replayed {back} samples in {:.0?} ({:.1} ns each)",
        start.elapsed(),
        start.elapsed().as_nanos() as f64 / back as f64
    );
}
