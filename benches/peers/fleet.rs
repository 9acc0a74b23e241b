//! A fleet of Istio proxies on one port, for the whole-process yardstick: `fleet PORT PROXIES SERIES`. Standard library only.
//!
//! In: scrapes of `/metrics/N`. Out: pages of Istio's and Envoy's series, and what was really counted and served:
//! `/targets` (a file_sd list), `/served`, `/truth`, `/stats`. 60 services with 200 edges; counters move once a second,
//! with a wave and noise; a third of the edges is busy, a third slow, a third idle. A page is written from pieces, so a
//! sample costs far less to serve than to take. Invariant: equal arguments give an equal fleet, but for when it moves.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool of the benchmarks")]

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SERVICES: usize = 60;
const EDGES: usize = 200;
const BUCKETS: [&str; 20] = [
    "0.5", "1", "5", "10", "25", "50", "100", "250", "500", "1000", "2500", "5000", "10000", "30000", "60000",
    "300000", "600000", "1.8e+06", "3.6e+06", "+Inf",
];
const HISTOGRAMS: [&str; 3] = ["istio_request_duration_milliseconds", "istio_request_bytes", "istio_response_bytes"];
const TCP: [&str; 4] = [
    "istio_tcp_sent_bytes_total",
    "istio_tcp_received_bytes_total",
    "istio_tcp_connections_opened_total",
    "istio_tcp_connections_closed_total",
];
const ENVOY: [&str; 12] = [
    "envoy_cluster_upstream_cx_total",
    "envoy_cluster_upstream_rq_total",
    "envoy_cluster_upstream_cx_rx_bytes_total",
    "envoy_cluster_upstream_cx_tx_bytes_total",
    "envoy_cluster_upstream_rq_timeout",
    "envoy_cluster_upstream_rq_retry",
    "envoy_cluster_upstream_cx_connect_fail",
    "envoy_cluster_upstream_cx_active",
    "envoy_cluster_upstream_rq_pending_overflow",
    "envoy_cluster_circuit_breakers_default_cx_open",
    "envoy_cluster_membership_healthy",
    "envoy_cluster_lb_healthy_panic",
];
const CHUNK: usize = 60 << 10;
const PHASES: usize = 10;

fn next(random: &mut u64) -> u64 {
    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *random >> 33
}

/// A Poisson-like number around `mean`.
fn about(mean: f64, random: &mut u64) -> u64 {
    let unit = |random: &mut u64| next(random) as f64 / f64::from(1_u32 << 31);
    let noise = (0..4).map(|_| unit(random)).sum::<f64>() - 2.0; // variance 1/3
    let wanted = mean + noise * (3.0 * mean).sqrt();
    let floor = wanted.max(0.0).floor();
    floor as u64 + u64::from(unit(random) < wanted.max(0.0) - floor)
}

/// All series of one edge, reporter and response code at one proxy: a counter and three histograms.
struct Block {
    labels: String,
    edge: usize,
    /// Requests a second.
    rate: f64,
    is_source: bool,
    count: u64,
    /// Shares of the buckets, the middle one, by histogram.
    middle: [usize; 3],
    buckets: [[u64; 20]; 3],
    sums: [u64; 3],
}

impl Block {
    fn advance(&mut self, wave: f64, random: &mut u64) {
        if self.rate == 0.0 {
            return;
        }
        let requests = about(self.rate * wave, random);
        self.count += requests;
        for histogram in 0..3 {
            let (mut left, mut bucket) = (requests, self.middle[histogram].saturating_sub(3));
            let mut below = 0;
            // About half of what is left falls into each next bucket.
            while left > 0 && bucket < 19 {
                let here = if left == 1 { next(random) & 1 } else { about(left as f64 * 0.45, random).min(left) };
                below += here;
                left -= here;
                self.sums[histogram] += here * (1 + next(random) % (2 << bucket));
                self.buckets[histogram][bucket] += below;
                bucket += 1;
            }
            (bucket..20).for_each(|at| self.buckets[histogram][at] += requests);
        }
    }

    fn write_histogram(&self, histogram: usize, page: &mut Page<'_>) -> io::Result<()> {
        let name = HISTOGRAMS[histogram];
        for (bound, value) in BUCKETS.iter().zip(&self.buckets[histogram]) {
            page.bucket(name, &self.labels, bound, *value)?;
        }
        page.sample(name, &self.labels, "_sum", self.sums[histogram])?;
        page.sample(name, &self.labels, "_count", self.count)
    }
}

struct Proxy {
    blocks: Vec<Block>,
    /// Labels, bytes of one connection, connections.
    tcp: Vec<(String, u64, u64)>,
    /// Cluster labels and values of [`ENVOY`].
    clusters: Vec<(String, Vec<u64>)>,
    series: usize,
    random: u64,
}

/// Writes a page in chunks of HTTP/1.1.
struct Page<'a> {
    out: &'a mut TcpStream,
    buffer: Vec<u8>,
    left: usize,
}

impl Page<'_> {
    fn sample(&mut self, name: &str, labels: &str, suffix: &str, value: u64) -> io::Result<()> {
        if self.left == 0 {
            return Ok(());
        }
        for piece in [name, suffix, "{", labels, "} "] {
            self.buffer.extend_from_slice(piece.as_bytes());
        }
        self.end_line(value)
    }

    fn bucket(&mut self, name: &str, labels: &str, bound: &str, value: u64) -> io::Result<()> {
        if self.left == 0 {
            return Ok(());
        }
        for piece in [name, "_bucket{", labels, ",le=\"", bound, "\"} "] {
            self.buffer.extend_from_slice(piece.as_bytes());
        }
        self.end_line(value)
    }

    fn end_line(&mut self, mut value: u64) -> io::Result<()> {
        let (mut digits, mut at) = ([b'0'; 20], 20);
        loop {
            at -= 1;
            digits[at] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                break;
            }
        }
        self.buffer.extend_from_slice(&digits[at..]);
        self.buffer.push(b'\n');
        self.left -= 1;
        if self.buffer.len() > CHUNK { self.flush() } else { Ok(()) }
    }

    fn kind(&mut self, name: &str, kind: &str) {
        if self.left > 0 {
            let _ = writeln!(&mut self.buffer, "# TYPE {name} {kind}");
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let length = self.buffer.len() - HEAD;
        let head = format!("{length:08x}\r\n");
        self.buffer[..HEAD].copy_from_slice(head.as_bytes());
        self.buffer.extend_from_slice(b"\r\n");
        self.out.write_all(&self.buffer)?;
        self.buffer.truncate(HEAD);
        Ok(())
    }
}

/// Room for the length before a chunk.
const HEAD: usize = 10;

fn service(index: usize) -> String {
    format!("service-{index:02}")
}

fn ends(edge: usize) -> (usize, usize) {
    let source = edge * 7 % SERVICES;
    (source, (source + 1 + edge * 13 % 41) % SERVICES)
}

fn block_labels(edge: usize, reporter: &str, (code, flags): (&str, &str), protocol: &str) -> String {
    let (source, destination) = ends(edge);
    let (source, destination) = (service(source), service(destination));
    let mtls = if reporter == "source" { "unknown" } else { "mutual_tls" };
    let mut labels = format!(
        "reporter=\"{reporter}\",source_workload=\"{source}\",source_canonical_service=\"{source}\",\
         source_canonical_revision=\"v1\",source_workload_namespace=\"shop\",\
         source_principal=\"spiffe://cluster.local/ns/shop/sa/{source}\",source_app=\"{source}\",source_version=\"v1\",\
         source_cluster=\"Kubernetes\",destination_workload=\"{destination}\",\
         destination_workload_namespace=\"shop\",\
         destination_principal=\"spiffe://cluster.local/ns/shop/sa/{destination}\",destination_app=\"{destination}\",\
         destination_version=\"v1\",destination_service=\"{destination}.shop.svc.cluster.local\",\
         destination_canonical_service=\"{destination}\",destination_canonical_revision=\"v1\",\
         destination_service_name=\"{destination}\",destination_service_namespace=\"shop\",\
         destination_cluster=\"Kubernetes\",request_protocol=\"{protocol}\","
    );
    if protocol != "tcp" {
        let _ = write!(labels, "response_code=\"{code}\",grpc_response_status=\"\",");
    }
    let _ = write!(labels, "response_flags=\"{flags}\",connection_security_policy=\"{mtls}\"");
    labels
}

impl Proxy {
    fn new(index: usize, series: usize) -> Self {
        let mut random = index as u64 * 7919 + 1;
        let own = index % SERVICES;
        let mut proxy = Self { blocks: Vec::new(), tcp: Vec::new(), clusters: Vec::new(), series, random: 0 };
        for edge in 0..EDGES {
            let (source, destination) = ends(edge);
            for (end, reporter) in [(source, "source"), (destination, "destination")] {
                if end != own {
                    continue;
                }
                let rate = match edge % 3 {
                    0 => 2.0 + (edge * 37 % 60) as f64,
                    1 => 0.1,
                    _ => 0.0,
                };
                let errors: &[(&str, &str)] = match edge % 5 {
                    0 => &[("503", "UF")],
                    2 => &[("404", "-")],
                    _ => &[],
                };
                for (i, code) in [("200", "-")].iter().chain(errors).enumerate() {
                    proxy.blocks.push(Block {
                        labels: block_labels(edge, reporter, *code, "http"),
                        edge,
                        rate: if i == 0 { rate } else { rate * 0.01 },
                        is_source: reporter == "source",
                        count: 0,
                        middle: [3 + edge % 5, 8 + edge % 3, 9 + edge % 4],
                        buckets: [[0; 20]; 3],
                        sums: [0; 3],
                    });
                }
                if edge % 12 == 0 {
                    proxy.tcp.push((block_labels(edge, reporter, ("", "-"), "tcp"), 0, 0));
                }
            }
        }
        // As many clusters as fill the page.
        let istio = proxy.blocks.len() * 67 + proxy.tcp.len() * TCP.len() + 1;
        for cluster in 0..series.saturating_sub(istio).div_ceil(ENVOY.len()) {
            let port = [8080, 9090, 15090][cluster % 3];
            let subset = cluster / (3 * SERVICES);
            let target = service((own + cluster / 3) % SERVICES);
            let labels = format!("cluster_name=\"outbound|{port}|v{subset}|{target}.shop.svc.cluster.local\"");
            proxy.clusters.push((labels, vec![0; ENVOY.len()]));
        }
        next(&mut random);
        proxy.random = random;
        proxy
    }

    fn advance(&mut self, second: u64) {
        let random = &mut self.random;
        for block in &mut self.blocks {
            let wave = 1.0 + 0.5 * ((second as f64 / 97.0 + block.edge as f64).sin());
            block.advance(wave, random);
        }
        for (i, (_, bytes, connections)) in self.tcp.iter_mut().enumerate().filter(|(i, _)| i % 3 != 2) {
            let new = u64::from(next(random).is_multiple_of(4));
            *connections += new;
            *bytes += new * 1000 + next(random) % 4000 * (i as u64 & 1);
        }
        for (_, values) in self.clusters.iter_mut().take(4) {
            let requests = next(random) % 40;
            values[1] += requests;
            values[2] += requests * 900 + next(random) % 500;
            values[3] += requests * 400 + next(random) % 300;
            values[0] += u64::from(requests > 37);
            values[7] = 1 + requests / 10;
        }
    }

    fn write(&self, page: &mut Page<'_>) -> io::Result<()> {
        page.kind("envoy_server_live", "gauge");
        page.sample("envoy_server_live", "", "", 1)?;
        page.kind("istio_requests_total", "counter");
        for block in &self.blocks {
            page.sample("istio_requests_total", &block.labels, "", block.count)?;
        }
        for (histogram, name) in HISTOGRAMS.iter().enumerate() {
            page.kind(name, "histogram");
            for block in &self.blocks {
                block.write_histogram(histogram, page)?;
            }
        }
        for (i, name) in TCP.iter().enumerate() {
            page.kind(name, "counter");
            for (labels, bytes, connections) in &self.tcp {
                page.sample(name, labels, "", if i < 2 { bytes * (i as u64 + 1) } else { *connections })?;
            }
        }
        for (i, name) in ENVOY.iter().enumerate() {
            page.kind(name, if name.contains("_rq_") || name.ends_with("_total") { "counter" } else { "gauge" });
            for (labels, values) in &self.clusters {
                page.sample(name, labels, "", values[i])?;
            }
        }
        Ok(())
    }
}

struct Fleet {
    proxies: Vec<Mutex<Proxy>>,
    /// When each proxy was scraped, in ms: the last 4,000 scrapes.
    served: Vec<Mutex<Vec<u64>>>,
    samples: AtomicU64,
    /// Requests by edge as their clients saw them, each second.
    truth: Mutex<Vec<(u64, Vec<u64>)>>,
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

impl Fleet {
    /// Moves a tenth of the proxies each 100 ms, so that no two peers meet one burst.
    fn run(&self) {
        let mut slot = now_ms() / 100 + 1;
        loop {
            thread::sleep(Duration::from_millis((slot * 100).saturating_sub(now_ms())));
            let phase = (slot % PHASES as u64) as usize;
            if phase == 0 {
                self.note_truth(slot / PHASES as u64);
            }
            for proxy in self.proxies.iter().skip(phase).step_by(PHASES) {
                proxy.lock().unwrap().advance(slot / PHASES as u64);
            }
            slot += 1;
        }
    }

    fn note_truth(&self, second: u64) {
        let mut counts = vec![0; EDGES];
        for proxy in &self.proxies {
            for block in proxy.lock().unwrap().blocks.iter().filter(|block| block.is_source) {
                counts[block.edge] += block.count;
            }
        }
        let mut truth = self.truth.lock().unwrap();
        truth.push((second, counts));
        if truth.len() > 8000 {
            truth.drain(..4000);
        }
    }

    fn serve(self: &Arc<Self>, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::with_capacity(4096, stream.try_clone()?);
        let mut out = stream;
        loop {
            let mut request = String::new();
            if reader.by_ref().take(8192).read_line(&mut request)? == 0 {
                return Ok(());
            }
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                if reader.by_ref().take(8192).read_line(&mut line)? == 0 {
                    return Ok(());
                }
            }
            let path = request.split(' ').nth(1).unwrap_or("/");
            match path.strip_prefix("/metrics/").and_then(|index| index.parse().ok()) {
                Some(index) if index < self.proxies.len() => self.page(index, &mut out)?,
                _ => {
                    let body = self.report(path);
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                    out.write_all(head.as_bytes())?;
                    out.write_all(body.as_bytes())?;
                }
            }
        }
    }

    fn page(&self, index: usize, out: &mut TcpStream) -> io::Result<()> {
        let at = now_ms();
        out.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n",
        )?;
        let proxy = self.proxies[index].lock().unwrap();
        let mut page = Page { out, buffer: Vec::with_capacity(CHUNK + 4096), left: proxy.series };
        page.buffer.resize(HEAD, 0);
        proxy.write(&mut page)?;
        if page.buffer.len() > HEAD {
            page.flush()?;
        }
        let served = proxy.series - page.left;
        drop(proxy);
        out.write_all(b"0\r\n\r\n")?;
        self.samples.fetch_add(served as u64, Relaxed);
        let mut times = self.served[index].lock().unwrap();
        times.push(at);
        if times.len() > 4000 {
            times.drain(..2000);
        }
        Ok(())
    }

    /// `/served?SINCE_MS`, `/truth?SECOND`, `/targets?ADDRESS`, `/stats`: JSON.
    fn report(&self, path: &str) -> String {
        let (path, argument) = path.split_once('?').unwrap_or((path, ""));
        let number: u64 = argument.parse().unwrap_or(0);
        match path {
            "/targets" => self.targets(argument),
            "/served" => {
                let times = self.served.iter().map(|times| {
                    let times: Vec<u64> = times.lock().unwrap().iter().copied().filter(|at| *at >= number).collect();
                    format!("{times:?}")
                });
                format!("[{}]", times.collect::<Vec<_>>().join(","))
            }
            "/truth" => {
                let truth = self.truth.lock().unwrap();
                let counts = truth.iter().find(|(second, _)| *second == number).map(|(_, counts)| counts.clone());
                let named = counts.unwrap_or_default().into_iter().enumerate().map(|(edge, count)| {
                    let (source, destination) = ends(edge);
                    format!("[\"{}\",\"{}\",{count}]", service(source), service(destination))
                });
                format!("[{}]", named.collect::<Vec<_>>().join(","))
            }
            _ => format!("{{\"samples\":{}}}", self.samples.load(Relaxed)),
        }
    }

    fn targets(&self, address: &str) -> String {
        let groups = (0..self.proxies.len()).map(|i| {
            let own = service(i % SERVICES);
            format!(
                "{{\"targets\":[\"{address}\"],\"labels\":{{\"__metrics_path__\":\"/metrics/{i}\",\"instance\":\
                 \"10.0.{}.{}:15020\",\"namespace\":\"shop\",\"pod\":\"{own}-5d4f8c7b9-{i:05}\",\"node\":\"node-{}\",\
                 \"cluster\":\"eu-1\",\"app\":\"{own}\"}}}}",
                i / 250,
                i % 250,
                i % 12
            )
        });
        format!("[{}]", groups.collect::<Vec<_>>().join(",\n"))
    }
}

fn main() -> io::Result<()> {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let [port, proxies, series] = numbers[..] else {
        eprintln!("usage: fleet PORT PROXIES SERIES");
        std::process::exit(2);
    };
    let fleet = Arc::new(Fleet {
        proxies: (0..proxies).map(|i| Mutex::new(Proxy::new(i, series))).collect(),
        served: (0..proxies).map(|_| Mutex::default()).collect(),
        samples: AtomicU64::new(0),
        truth: Mutex::default(),
    });
    let listener = TcpListener::bind(("127.0.0.1", port as u16))?;
    let ticking = Arc::clone(&fleet);
    thread::spawn(move || ticking.run());
    println!("listening");
    for stream in listener.incoming() {
        let (fleet, stream) = (Arc::clone(&fleet), stream?);
        thread::Builder::new().stack_size(128 << 10).spawn(move || fleet.serve(stream))?;
    }
    Ok(())
}
