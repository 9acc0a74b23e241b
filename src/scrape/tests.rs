//! Scrapes of real sockets on loopback: formats, faults, staleness, labels, limits, reload.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::ingest::Sinks;
use super::status::Cell;
use super::target_loop::{Shared, TargetLoop};
use super::*;
use crate::clock::Clock;
use crate::discovery::{Defaults, Discovery, Jobs, Target, Targets, jobs};
use crate::http_client::Client;
use crate::model::{Labels, Timestamp, is_stale};
use crate::series::{self, Head, Queryable, Select};

mod arriving;
mod protobuf;
mod schedule;
mod storage;
mod templates;

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const START: i64 = 1_700_000_000_000;

/// What the fake target answers next.
#[derive(Clone, Debug)]
struct Reply {
    status: u16,
    content_type: &'static str,
    gzip: bool,
    body: Vec<u8>,
    delay: Duration,
}

impl Reply {
    fn text(body: &str) -> Self {
        let body = body.as_bytes().to_vec();
        Self { status: 200, content_type: TEXT, gzip: false, body, delay: Duration::ZERO }
    }
}

fn gzipped(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

/// A target that answers what it is told; gives its address and the headers of the last request.
async fn serve(reply: Arc<Mutex<Reply>>) -> (String, Arc<Mutex<HeaderMap>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap().to_string(), Arc::new(Mutex::new(HeaderMap::new())));
    let headers_seen = Arc::clone(&seen);
    let handler = move |headers: HeaderMap| {
        *headers_seen.lock() = headers;
        let reply = reply.lock().clone();
        async move {
            tokio::time::sleep(reply.delay).await;
            let mut headers = HeaderMap::new();
            if !reply.content_type.is_empty() {
                headers.insert("content-type", reply.content_type.parse().unwrap());
            }
            if reply.gzip {
                headers.insert("content-encoding", "gzip".parse().unwrap());
            }
            (StatusCode::from_u16(reply.status).unwrap(), headers, axum::body::Body::from(reply.body))
        }
    };
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(handler)).await });
    (address, seen)
}

/// A server that writes these bytes to each connection; with `endless`, the last ones again and again.
async fn serve_raw(head: &'static str, chunk: &'static [u8], endless: bool) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(head.as_bytes()).await;
                while stream.write_all(chunk).await.is_ok() && endless {}
            });
        }
    });
    address
}

fn parse_jobs(yaml: &str) -> Jobs {
    let (configs, problems) = crate::yaml::decode::<Vec<crate::discovery::ScrapeConfig>>(yaml);
    assert_eq!(problems, [], "{yaml}");
    let (jobs, errors) = jobs(&configs.unwrap(), &Defaults::default());
    assert!(errors.is_empty(), "{errors:?}");
    jobs
}

async fn discover(jobs: Jobs) -> Arc<Targets> {
    let (_jobs, receiver) = watch::channel(jobs);
    let (discovery, mut targets) = Discovery::new(receiver);
    let shutdown = CancellationToken::new();
    tokio::spawn(discovery.run(shutdown.clone()));
    let found = targets.wait_for(|targets| !targets.active.is_empty()).await.unwrap().clone();
    shutdown.cancel();
    found
}

/// One target's loop, driven scrape by scrape.
struct Harness {
    one: TargetLoop,
    target: Arc<Target>,
    client: Client,
    reply: Arc<Mutex<Reply>>,
    headers: Arc<Mutex<HeaderMap>>,
}

impl Harness {
    /// `keys` are more keys of the scrape config, each line indented by two.
    async fn new(keys: &str) -> Self {
        let reply = Arc::new(Mutex::new(Reply::text("")));
        let (address, headers) = serve(Arc::clone(&reply)).await;
        let mut harness = Self::at(&address, keys).await;
        (harness.reply, harness.headers) = (reply, headers);
        harness
    }

    async fn at(address: &str, keys: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let yaml =
            format!("- job_name: j\n  static_configs: [{{targets: ['{address}'], labels: {{zone: z}}}}]\n{keys}");
        let target = Arc::clone(&discover(parse_jobs(&yaml)).await.active[0]);
        let sinks = Sinks {
            head: Head::new(series::Config::default()),
            rollup: Default::default(),
            counters: Arc::default(),
            metadata: metadata::Shared::default(),
        };
        let shared = Arc::new(Shared {
            config: Config::default(),
            clock: Clock::starting_at(Timestamp::from_millis(START)),
            sinks,
            status: Status::default(),
            permits: tokio::sync::Semaphore::new(4),
            page_memory: page_memory::PageMemory::new(512 << 20),
            workspaces: Mutex::default(),
        });
        let (_, assigned) = watch::channel(None);
        let cell = Arc::new(Cell::new(Arc::clone(&target)));
        let client = Client::new(target.job.http.clone());
        let one = TargetLoop::new(shared, assigned, cell, target.key());
        Self { one, target, client, reply: Arc::new(Mutex::new(Reply::text(""))), headers: Arc::default() }
    }

    /// Scrapes at `START` plus an hour and `seconds` (in the future, so the samples bear exactly that time).
    async fn scrape(&mut self, seconds: i64) -> TargetStatus {
        let at = Timestamp::from_millis(START + 3_600_000 + seconds * 1000);
        self.one.scrape(Arc::clone(&self.target), &self.client, at).await;
        self.one.cell.status.lock().clone()
    }

    async fn scrape_page(&mut self, seconds: i64, page: &str) -> TargetStatus {
        *self.reply.lock() = Reply::text(page);
        self.scrape(seconds).await
    }

    fn counters(&self) -> &Counters {
        &self.one.shared.sinks.counters
    }

    /// All that is stored: series without instance, job and zone, and `value@seconds` of each sample, `stale@…` for markers.
    async fn stored(&self) -> Vec<(String, String)> {
        stored(&self.one.shared.sinks.head, START + 3_600_000).await
    }

    /// The same without the report series.
    async fn pages(&self) -> Vec<(String, String)> {
        let report = |name: &str| name == "up" || name.starts_with("scrape_");
        self.stored().await.into_iter().filter(|(name, _)| !report(name)).collect()
    }

    async fn of(&self, series: &str) -> String {
        let found = self.stored().await.into_iter().find(|(name, _)| name == series);
        found.unwrap_or_else(|| panic!("no series {series}")).1
    }
}

async fn stored(head: &Head, zero_ms: i64) -> Vec<(String, String)> {
    let selection = head.select(Select::new(Vec::new(), Timestamp::MIN, Timestamp::MAX)).await.unwrap();
    let mut found: Vec<(String, String)> = (selection.series.iter())
        .map(|series| {
            let samples: Vec<String> = (series.times.iter().zip(&series.values))
                .map(|(at, value)| {
                    let value = if is_stale(*value) { "stale".to_owned() } else { value.to_string() };
                    format!("{value}@{}", (at.as_millis() - zero_ms) as f64 / 1000.0)
                })
                .collect();
            (series.labels.without(&["instance", "job", "zone"]).to_string(), samples.join(" "))
        })
        .collect();
    found.sort();
    found
}

fn pairs(stored: &[(String, String)]) -> Vec<(&str, &str)> {
    stored.iter().map(|(name, samples)| (name.as_str(), samples.as_str())).collect()
}

#[tokio::test]
async fn stores_pages_of_every_format() {
    let text = "# HELP a What\n# TYPE a counter\na_total{x=\"y\"} 5\nb 2"; // no newline at the end
    let openmetrics = "# HELP a What\n# TYPE a counter\na_total{x=\"y\"} 5 # {trace_id=\"t\"} 1\nb 2\n# EOF\n";
    let utf8 = "# HELP a What\n# TYPE a counter\n{\"a_total\",x=\"y\"} 5\n{\"b\"} 2\n";
    let text1 = "text/plain; version=1.0.0; escaping=allow-utf-8";
    for (content_type, page) in [(TEXT, text), (OPENMETRICS, openmetrics), (text1, utf8)] {
        for gzip in [false, true] {
            let mut harness = Harness::new("").await;
            let body = if gzip { gzipped(page.as_bytes()) } else { page.as_bytes().to_vec() };
            *harness.reply.lock() = Reply { content_type, gzip, body, ..Reply::text("") };
            let status = harness.scrape(0).await;
            assert_eq!((status.health, status.last_error.as_deref()), (Health::Up, None), "{content_type}");
            assert_eq!((status.samples_scraped, status.samples_kept, status.series_added), (2, 2, 2));
            let stored = harness.stored().await;
            let mut stored = pairs(&stored);
            stored.retain(|(name, _)| *name != "scrape_duration_seconds");
            let expect = [
                ("a_total{x=\"y\"}", "5@0"),
                ("b", "2@0"),
                ("scrape_samples_post_metric_relabeling", "2@0"),
                ("scrape_samples_scraped", "2@0"),
                ("scrape_series_added", "2@0"),
                ("up", "1@0"),
            ];
            assert_eq!(stored, expect, "{content_type} gzip {gzip}");
            let table = Arc::clone(&harness.one.cell.metadata.lock());
            assert_eq!((table[0].name.as_str(), table[0].help.as_str()), ("a", "What"));
            assert_eq!(harness.counters().exemplars.load(Ordering::Relaxed), u64::from(content_type == OPENMETRICS));
        }
    }
}

#[tokio::test]
async fn reads_protobuf_when_it_is_asked_for() {
    let mut harness = Harness::new("  scrape_protocols: [PrometheusProto, PrometheusText0.0.4]\n").await;
    // One family: name "b", gauge, one metric of value 2.
    let body = b"\x12\x0a\x01b\x18\x01\x22\x0b\x12\x09\x09\0\0\0\0\0\0\0\x40".to_vec();
    let content_type = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
    *harness.reply.lock() = Reply { content_type, body, ..Reply::text("") };
    let status = harness.scrape(0).await;
    assert_eq!((status.last_error, pairs(&harness.pages().await)), (None, vec![("b", "2@0")]));
    assert!(harness.headers.lock()["accept"].to_str().unwrap().starts_with("application/vnd.google.protobuf;"));
    harness.reply.lock().body.pop();
    let error = harness.scrape(15).await.last_error.unwrap_or_default();
    assert!(error.contains("protobuf metric family"), "{error}");
}

#[tokio::test]
async fn asks_as_prometheus_asks() {
    let mut harness = Harness::new("  basic_auth: {username: ann, password: s3}\n  scrape_timeout: 5s\n").await;
    harness.scrape_page(0, "a 1\n").await;
    let headers = harness.headers.lock().clone();
    assert!(headers["accept"].to_str().unwrap().starts_with("application/openmetrics-text;version=1.0.0"));
    assert_eq!(
        (&headers["accept-encoding"], &headers["x-prometheus-scrape-timeout-seconds"]),
        (&"gzip".parse().unwrap(), &"5".parse().unwrap())
    );
    assert_eq!(headers["authorization"], "Basic YW5uOnMz");
    assert!(headers["user-agent"].to_str().unwrap().starts_with("meshscope/"));
}

#[tokio::test]
async fn fails_the_whole_scrape_with_the_reason() {
    let bomb = gzipped(&vec![b'\n'; 70 << 20]);
    assert!(bomb.len() < 1 << 20);
    let with = |change: fn(&mut Reply)| {
        let mut reply = Reply::text("ok 1\n");
        change(&mut reply);
        reply
    };
    let cases: Vec<(&str, Reply, &str)> = vec![
        ("", with(|r| r.status = 500), "server returned HTTP status 500 Internal Server Error"),
        ("  scrape_timeout: 50ms\n", with(|r| r.delay = Duration::from_secs(5)), "within the scrape timeout of 50ms"),
        ("", with(|r| r.content_type = ""), "blank Content-Type and no fallback_scrape_protocol"),
        ("", with(|r| r.content_type = "text/html"), "unsupported Content-Type \"text/html\" and no fallback"),
        ("", with(|r| r.gzip = true), "decompress the body"),
        ("", Reply { gzip: true, body: bomb, ..Reply::text("") }, "body exceeds 67108864 bytes"),
        ("  body_size_limit: 10B\n", Reply::text("ok 1\nok2 1\nok3 1\n"), "body exceeds 10 bytes"),
        ("", Reply::text("ok 1\nbad\n"), "line 2: expected a blank and a value after the series: `bad`"),
        ("", Reply { body: b"ok 1\na{b=\"\xff\"} 1\n".to_vec(), ..Reply::text("") }, "line 2: invalid UTF-8"),
        ("", Reply::text("ok 1\n{b=\"c\"} 1\n"), "line 2: the series has no metric name"),
        ("", with(|r| r.content_type = OPENMETRICS), "data does not end with # EOF"),
        (
            "  sample_limit: 2\n",
            Reply::text("a 1\nb 1\nc 1\nd 1\n"),
            "sample_limit exceeded (number of samples: 4, limit: 2)",
        ),
        (
            "  label_limit: 4\n",
            Reply::text("a 1\nb{x=\"y\"} 1\n"),
            "label_limit exceeded (metric: b, number of labels: 5, limit: 4)",
        ),
        ("  label_name_length_limit: 8\n", Reply::text("a{long_name=\"y\"} 1\n"), "label_name_length_limit exceeded"),
        (
            "  label_value_length_limit: 30\n",
            Reply::text(&format!("a{{x=\"{}\"}} 1\n", "v".repeat(31))),
            "label name: x, length: 31",
        ),
        ("  target_limit: 1\n  file_sd_configs: []\n", Reply::text("ok 1\n"), ""),
        ("", Reply { content_type: OPENMETRICS, ..Reply::text("") }, ""), // a page of nothing
    ];
    for (keys, reply, needle) in cases {
        let mut harness = Harness::new(keys).await;
        *harness.reply.lock() = reply;
        let status = harness.scrape(0).await;
        let error = status.last_error.clone().unwrap_or_default();
        if needle.is_empty() {
            assert_eq!(status.health, Health::Up, "{error}"); // one target is within a target_limit of one
            continue;
        }
        assert!(status.health == Health::Down && error.contains(needle), "wanted {needle:?}, got {error:?}");
        assert_eq!(harness.of("up").await, "0@0");
        assert_eq!(harness.pages().await, [], "{needle}");
        assert_eq!(harness.counters().failures.load(Ordering::Relaxed), 1);
    }
}

#[tokio::test]
async fn survives_targets_that_break_off_never_end_or_are_not_there() {
    let truncated =
        serve_raw("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\n", b"a 1\n", false).await;
    let endless = serve_raw("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n", &[b'\n'; 65536], true).await;
    let huge = serve_raw(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 99999999999\r\n\r\n",
        b"a 1\n",
        false,
    )
    .await;
    let nonsense = serve_raw("220 smtp\r\n", b"", false).await;
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    for (address, needle) in [
        (truncated, "read the body"),
        (endless, "body exceeds 1048576 bytes"),
        (huge, "body exceeds 1048576 bytes"),
        (nonsense, "send the request"),
        (closed, "connect: "),
    ] {
        let mut harness = Harness::at(&address, "  body_size_limit: 1MB\n").await;
        let error = harness.scrape(0).await.last_error.unwrap_or_default();
        assert!(error.contains(needle), "wanted {needle:?}, got {error:?}");
        assert_eq!((harness.of("up").await.as_str(), harness.pages().await.len()), ("0@0", 0));
    }
}

#[tokio::test]
async fn reads_an_unlabelled_page_by_the_fallback_protocol() {
    let mut harness = Harness::new("  fallback_scrape_protocol: PrometheusText0.0.4\n").await;
    *harness.reply.lock() = Reply { content_type: "", ..Reply::text("a 1\n") };
    assert_eq!(harness.scrape(0).await.health, Health::Up);
}

#[tokio::test]
async fn ends_series_that_vanish_and_all_when_a_scrape_fails() {
    let mut harness = Harness::new("").await;
    harness.scrape_page(0, "a 1\nb 1\n").await;
    assert_eq!(harness.scrape_page(15, "a 2\n").await.series_added, 0);
    assert_eq!(pairs(&harness.pages().await), [("a", "1@0 2@15"), ("b", "1@0 stale@15")]);
    let status = harness.scrape_page(30, "a 3\nb 3\n").await;
    assert_eq!(status.series_added, 1);
    harness.scrape_page(45, "a 4\nbroken\n").await;
    harness.scrape_page(60, "a 5\nb 5\n").await;
    let pages = harness.pages().await;
    let expect = [("a", "1@0 2@15 3@30 stale@45 5@60"), ("b", "1@0 stale@15 3@30 stale@45 5@60")];
    assert_eq!(pairs(&pages), expect);
    assert_eq!(harness.of("up").await, "1@0 1@15 1@30 0@45 1@60");
    assert_eq!(harness.of("scrape_series_added").await, "2@0 0@15 1@30 0@45 2@60");
    *harness.reply.lock() = Reply { status: 503, ..Reply::text("") };
    harness.scrape(75).await;
    harness.scrape(90).await; // no second marker
    assert!(harness.of("a").await.ends_with("5@60 stale@75"));
    assert_eq!(harness.counters().stale_markers.load(Ordering::Relaxed), 5);
}

#[tokio::test]
async fn takes_the_first_of_duplicates_in_any_spelling() {
    let mut harness = Harness::new("").await;
    for at in [0, 15] {
        let status =
            harness.scrape_page(at, "a{x=\"1\",y=\"2\"} 1\na{y=\"2\",x=\"1\"} 2\na{x=\"1\",y=\"2\"} 3\n").await;
        assert_eq!((status.samples_scraped, status.health), (3, Health::Up));
    }
    assert_eq!(pairs(&harness.pages().await), [("a{x=\"1\", y=\"2\"}", "1@0 1@15")]);
    assert_eq!(harness.counters().duplicates.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn joins_scraped_and_target_labels_as_honor_labels_says() {
    let page = "a{job=\"x\",zone=\"y\",exported_zone=\"e\"} 1\nb{zone=\"\"} 2\n";
    let check = |keys: &'static str, expect: &'static [&'static str]| async move {
        let mut harness = Harness::new(keys).await;
        harness.scrape_page(0, page).await;
        let instance = harness.target.labels.value("instance").to_owned();
        let selection =
            harness.one.shared.sinks.head.select(Select::new(vec![], Timestamp::MIN, Timestamp::MAX)).await.unwrap();
        let mut found: Vec<String> = (selection.series.iter().map(|s| &s.labels))
            .filter(|labels| labels.metric_name().len() == 1)
            .map(|labels| {
                assert_eq!(labels.value("instance"), instance);
                labels.without(&["instance"]).to_string()
            })
            .collect();
        found.sort();
        assert_eq!(found, expect, "{keys}");
    };
    let renamed = [
        r#"a{exported_exported_zone="y", exported_job="x", exported_zone="e", job="j", zone="z"}"#,
        r#"b{job="j", zone="z"}"#,
    ];
    let renamed: &'static [&'static str] = Box::leak(Box::new(renamed));
    check("", renamed).await;
    check("  honor_labels: true\n", &[r#"a{exported_zone="e", job="x", zone="y"}"#, r#"b{job="j"}"#]).await;
}

#[tokio::test]
async fn relabels_and_drops_series() {
    let keys = "  metric_relabel_configs:
    - {source_labels: [__name__], regex: 'go_.*', action: drop}
    - {source_labels: [path], regex: '/(\\w+)/.*', target_label: path}
    - {regex: pod, action: labeldrop}\n";
    let mut harness = Harness::new(keys).await;
    for at in [0, 15] {
        let status = harness.scrape_page(at, "go_x 1\na{path=\"/cart/7\",pod=\"p\"} 1\n").await;
        assert_eq!((status.samples_scraped, status.samples_kept), (2, 1));
    }
    assert_eq!(pairs(&harness.pages().await), [("a{path=\"cart\"}", "1@0 1@15")]);
}

#[tokio::test]
async fn believes_timestamps_of_the_page_or_not() {
    let zero = START + 3_600_000;
    let page = format!("a 1 {}\na 2 {}\nahead 1 {}\n", zero - 2000, zero - 1000, zero + 601_000);
    let mut harness = Harness::new("").await;
    harness.scrape_page(0, &page).await;
    harness.scrape_page(15, "b 1\n").await; // no marker for a
    assert_eq!(pairs(&harness.pages().await), [("a", "1@-2 2@-1"), ("b", "1@15")]);
    assert_eq!(harness.counters().too_far_ahead.load(Ordering::Relaxed), 1);

    let mut tracking = Harness::new("  track_timestamps_staleness: true\n").await;
    tracking.scrape_page(0, &page).await;
    tracking.scrape_page(15, "b 1\n").await;
    assert!(tracking.of("a").await.ends_with("stale@15"));

    let mut ignoring = Harness::new("  honor_timestamps: false\n").await;
    ignoring.scrape_page(0, &page).await;
    assert_eq!(pairs(&ignoring.pages().await), [("a", "1@0"), ("ahead", "1@0")]);
}

#[tokio::test]
async fn reads_a_large_page_beside_the_runtime() {
    let page: String = (0..20_000).map(|i| format!("a{{path=\"/some/path/{i}\"}} {i}\n")).collect();
    assert!(page.len() > 512 * 1024);
    let mut harness = Harness::new("").await;
    for at in [0, 15] {
        let status = harness.scrape_page(at, &page).await;
        assert_eq!((status.samples_kept, status.last_error), (20_000, None));
    }
    assert_eq!(harness.of("a{path=\"/some/path/19999\"}").await, "19999@0 19999@15");
    assert_eq!(harness.one.cell.metadata.lock().len(), 0);
}

#[tokio::test]
async fn reads_pages_anew_when_the_rules_of_the_job_change() {
    let mut harness = Harness::new("").await;
    harness.scrape_page(0, "a 1\nb 1\n").await;
    let mut job = (*harness.target.job).clone();
    let (rules, _) = crate::yaml::decode("[{source_labels: [__name__], regex: b, action: drop}]");
    job.config.metric_relabel_configs = rules.unwrap();
    harness.target = Arc::new(Target { job: Arc::new(job), ..(*harness.target).clone() });
    harness.scrape_page(15, "a 2\nb 2\n").await;
    assert_eq!(pairs(&harness.pages().await), [("a", "1@0 2@15"), ("b", "1@0 stale@15")]);
}

#[tokio::test]
async fn interns_series_again_that_the_memory_tier_has_forgotten() {
    let mut harness = Harness::new("  track_timestamps_staleness: true\n").await;
    let page = format!("a 1\nb 1\nc 1 {START}\n");
    harness.scrape_page(0, &page).await;
    // Another memory tier knows none of the references.
    Arc::get_mut(&mut harness.one.shared).unwrap().sinks.head = Head::new(series::Config::default());
    harness.scrape_page(15, "a 2\nb 2\n").await;
    harness.scrape_page(30, "a 3\nb 3\n").await;
    assert_eq!(pairs(&harness.pages().await), [("a", "2@15 3@30"), ("b", "2@15 3@30"), ("c", "stale@15")]);
    assert_eq!(harness.of("up").await, "1@15 1@30");
}

#[tokio::test]
async fn keeps_scraping_when_the_memory_tier_is_full() {
    let mut harness = Harness::new("").await;
    let full = series::Config { series_limit: 8, ..series::Config::default() };
    Arc::get_mut(&mut harness.one.shared).unwrap().sinks.head = Head::new(full);
    for at in [0, 15] {
        let status = harness.scrape_page(at, "a 1\nb 1\nc 1\nd 1\n").await;
        assert_eq!((status.health, status.samples_kept), (Health::Up, 4));
    }
    assert_eq!(pairs(&harness.pages().await), [("a", "1@0 1@15"), ("b", "1@0 1@15"), ("c", "1@0 1@15")]);
    assert_eq!(harness.of("up").await, "1@0 1@15");
    assert_eq!(harness.counters().series_limit.load(Ordering::Relaxed), 2);
}

async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    for _ in 0..400 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not within eight seconds: {what}");
}

/// Two targets under a whole scraper: a reload leaves one alone, takes one away and brings it back; then shutdown.
#[tokio::test]
async fn follows_targets_and_stops_without_ending_series() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let reply = Arc::new(Mutex::new(Reply::text("# TYPE a counter\na 1\n")));
    let ((one, _), (two, _)) = (serve(Arc::clone(&reply)).await, serve(Arc::clone(&reply)).await);
    let yaml = |targets: &str| {
        format!("- job_name: j\n  scrape_interval: 100ms\n  static_configs: [{{targets: [{targets}]}}]\n")
    };
    let both = discover(parse_jobs(&yaml(&format!("'{one}', '{two}'")))).await;
    let only_one = discover(parse_jobs(&yaml(&format!("'{one}'")))).await;
    let (sender, targets) = watch::channel(Arc::clone(&both));
    let head = Head::new(series::Config::default());
    let scraper = Scraper::new(Config::default(), Clock::system(), head.clone(), Default::default(), targets);
    let (status, counters) = (scraper.status(), scraper.counters());
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(scraper.run(shutdown.clone()));
    let all_up = || async { status.targets().len() == 2 && status.targets().iter().all(|t| t.health == Health::Up) };
    eventually("both are up", all_up).await;
    assert_eq!(status.metadata()[0].metrics[0].kind.as_str(), "counter");
    let of = |address: String| {
        let head = head.clone();
        async move {
            let selection = head.select(Select::new(vec![], Timestamp::MIN, Timestamp::MAX)).await.unwrap();
            let wanted = Labels::from_pairs([("__name__", "a"), ("instance", &address), ("job", "j")]);
            selection.series.into_iter().find(|s| s.labels == wanted).map(|s| s.values).unwrap_or_default()
        }
    };
    let markers = |values: &[f64]| values.iter().filter(|value| is_stale(**value)).count();
    sender.send(Arc::clone(&only_one)).unwrap();
    eventually("the lost target is not shown", async || status.targets().len() == 1).await;
    eventually("its series end", async || of(two.clone()).await.last().is_some_and(|value| is_stale(*value))).await;
    sender.send(both).unwrap();
    eventually("it comes back", async || of(two.clone()).await.last().is_some_and(|value| !is_stale(*value))).await;
    sender.send(only_one).unwrap(); // gone again, and meshscope stops before the wait is over
    eventually("it is not shown", async || status.targets().len() == 1).await;
    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(5), running).await.expect("stops").unwrap();
    let (one, two) = (of(one).await, of(two).await);
    assert_eq!((markers(&one), markers(&two)), (0, 1), "{one:?} {two:?}");
    assert!(counters.scrapes.load(Ordering::Relaxed) >= 4);
    assert_eq!((counters.failures.load(Ordering::Relaxed), counters.restarts.load(Ordering::Relaxed)), (0, 0));
}

// === increments of edges ===

/// An Istio series of the edge web → cart, or its bucket.
fn istio(name: &str, code: &str, value: u32) -> String {
    format!(
        "{name}{{reporter=\"source\",source_workload=\"web\",destination_workload=\"cart\",\
         destination_service_name=\"cart\",request_protocol=\"http\",response_code=\"{code}\"}} {value}\n"
    )
}

fn requests(code: &str, value: u32) -> String {
    istio("istio_requests_total", code, value)
}

impl Harness {
    /// Requests of each code, of all minutes.
    fn counted(&self) -> Vec<(String, f64)> {
        let mut counts = std::collections::BTreeMap::new();
        for minute in self.one.shared.sinks.rollup.recent(Timestamp::MIN) {
            assert_eq!(minute.edge.source.name.as_deref(), Some("web"));
            for (outcome, count) in minute.requests {
                *counts.entry(outcome.code.to_string()).or_insert(0.0) += count;
            }
        }
        counts.into_iter().filter(|(_, count)| *count > 0.0).collect()
    }

    fn slots(&self) -> usize {
        self.one.shared.sinks.rollup.size().slots
    }
}

#[track_caller]
fn assert_counted(harness: &Harness, expect: &[(&str, f64)]) {
    let found = harness.counted();
    let expect: Vec<(String, f64)> = expect.iter().map(|(code, count)| ((*code).to_owned(), *count)).collect();
    assert_eq!(found.len(), expect.len(), "{found:?}");
    for ((code, count), (expect_code, expect_count)) in found.iter().zip(&expect) {
        assert!(code == expect_code && (count - expect_count).abs() < 1e-9, "{found:?}, expected {expect:?}");
    }
}

#[tokio::test]
async fn edges_count_what_happened_between_scrapes_and_new_series_from_zero() {
    let mut harness = Harness::new("").await;
    // Nobody knows since when the first page's series count.
    harness.scrape_page(0, &requests("200", 1000)).await;
    assert_counted(&harness, &[]);
    // A series that the page before did not have counted from zero since then.
    harness.scrape_page(15, &(requests("200", 1010) + &requests("503", 4))).await;
    assert_counted(&harness, &[("200", 10.0), ("503", 4.0)]);
    // A failed scrape ends all; back within five minutes the difference counts, and what is new counts since the last
    // good page.
    *harness.reply.lock() = Reply { status: 500, ..Reply::text("") };
    harness.scrape(30).await;
    harness.scrape_page(45, &(requests("200", 1013) + &requests("503", 5) + &requests("404", 2))).await;
    assert_counted(&harness, &[("200", 13.0), ("404", 2.0), ("503", 5.0)]);
    // One vanishes and comes back; the proxy restarts and counts anew.
    harness.scrape_page(60, &requests("200", 1014)).await;
    harness.scrape_page(75, &(requests("200", 3) + &requests("503", 6))).await;
    assert_counted(&harness, &[("200", 17.0), ("404", 2.0), ("503", 6.0)]);
    assert_eq!(harness.slots(), 3);
}

#[tokio::test]
async fn after_a_gap_or_new_rules_series_begin_anew() {
    let mut harness = Harness::new("").await;
    harness.scrape_page(0, &requests("200", 1000)).await;
    // Failures for longer than MAX_GAP: old and new series begin anew.
    *harness.reply.lock() = Reply { status: 500, ..Reply::text("") };
    harness.scrape(15).await;
    harness.scrape_page(301, &(requests("200", 2000) + &requests("503", 50))).await;
    assert_counted(&harness, &[]);
    harness.scrape_page(316, &(requests("200", 2001) + &requests("503", 52))).await;
    assert_counted(&harness, &[("200", 1.0), ("503", 2.0)]);
    // Other rules for the job: what they bring in was counting before.
    harness.one.state_for_tests().settings_changed();
    harness.scrape_page(331, &(requests("200", 2002) + &requests("503", 52) + &requests("404", 70))).await;
    assert_counted(&harness, &[("200", 2.0), ("503", 2.0)]);
    harness.scrape_page(346, &(requests("404", 71) + &requests("500", 9))).await;
    assert_counted(&harness, &[("200", 2.0), ("404", 1.0), ("500", 9.0), ("503", 2.0)]);
}

#[tokio::test]
async fn a_target_that_is_gone_gives_back_what_counted_for_it() {
    let mut harness = Harness::new("").await;
    let buckets = ["1", "5", "+Inf"].map(|le| {
        let bucket = istio("istio_request_duration_milliseconds_bucket", "200", 10);
        bucket.replace("{reporter", &format!("{{le=\"{le}\",reporter"))
    });
    harness.scrape_page(0, &(requests("200", 10) + &buckets.concat())).await;
    assert_eq!(harness.slots(), 4);
    let shared = Arc::clone(&harness.one.shared);
    let at = Timestamp::from_millis(START + 3_615_000);
    harness.one.state_for_tests().remove(&shared.sinks, at, &mut super::workspace::Workspace::default());
    assert_eq!((harness.slots(), harness.counted()), (0, Vec::new()));
    // Should it come back, its first page is a first page.
    harness.scrape_page(30, &requests("200", 500)).await;
    assert_counted(&harness, &[]);
}

#[tokio::test]
async fn what_is_remembered_of_a_page_is_counted_and_given_back() {
    let mut harness = Harness::new("").await;
    let page = |series: usize| (0..series).map(|n| format!("a{{n=\"{n}\"}} 1\n")).collect::<String>();
    let few = harness.scrape_page(0, &page(10)).await.remembered_bytes;
    let many = harness.scrape_page(15, &page(5_000)).await.remembered_bytes;
    assert!(few > 0 && many > few + 5_000 * 100, "{few} bytes, then {many}");
    // More than twice of what a page has is forgotten after it.
    let few_again = harness.scrape_page(30, &page(10)).await.remembered_bytes;
    let fewer = harness.scrape_page(45, &page(10)).await.remembered_bytes;
    assert!(fewer.min(few_again) < many / 4, "{many} bytes, then {few_again} and {fewer}");
}
