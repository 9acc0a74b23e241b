//! Targets that do harm, over real sockets: each fails with its reason, memory stays bounded, the good one is read on.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::app::{Target, TestApp, eventually};
use crate::postgres;

/// A server whose connections are each handed to `answer`, with the number of the connection, after the request is read.
async fn server<F: Future<Output = ()> + Send>(
    answer: impl Fn(TcpStream, usize) -> F + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        let next = AtomicUsize::new(0);
        while let Ok((mut stream, _)) = listener.accept().await {
            let (answer, number) = (Arc::clone(&answer), next.fetch_add(1, Ordering::Relaxed));
            tokio::spawn(async move {
                let mut request = [0; 4096];
                if stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                    answer(stream, number).await;
                }
            });
        }
    });
    address
}

/// Serves one whole answer and closes.
async fn page(kind: &'static str, more_headers: &'static str, body: Vec<u8>) -> SocketAddr {
    let body = Arc::new(body);
    server(move |mut stream, _| {
        let body = Arc::clone(&body);
        async move {
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{more_headers}content-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&body).await;
        }
    })
    .await
}

/// One page now, another kind of page from the second scrape on.
async fn changing() -> SocketAddr {
    server(|mut stream, number| async move {
        let kind = if number == 0 { "text/plain" } else { "application/openmetrics-text; version=1.0.0" };
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: 4\r\nconnection: close\r\n\r\n");
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(b"a 1\n").await;
    })
    .await
}

/// Says `head`, then `chunk` again and again, with a pause between.
async fn drip(head: &'static str, chunk: &'static [u8], pause: Duration) -> SocketAddr {
    server(move |mut stream, _| async move {
        let _ = stream.write_all(head.as_bytes()).await;
        while stream.write_all(chunk).await.is_ok() {
            tokio::time::sleep(pause).await;
        }
    })
    .await
}

fn gzip(chunk: &[u8], times: usize) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    (0..times).for_each(|_| encoder.write_all(chunk).expect("write to memory"));
    encoder.finish().expect("write to memory")
}

/// Anonymous memory of this process, its highest mark while `watched` runs.
async fn highest_memory(watched: impl Future<Output = ()>) -> u64 {
    let read = || {
        let text = std::fs::read_to_string("/proc/self/status").expect("this is Linux");
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a line RssAnon");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
    };
    let mut highest = read();
    tokio::pin!(watched);
    loop {
        tokio::select! {
            () = &mut watched => return highest,
            () = tokio::time::sleep(Duration::from_millis(20)) => highest = highest.max(read()),
        }
    }
}

const PLAIN: &str = "text/plain; version=0.0.4";
const ENDLESS: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_targets_say_why_and_harm_nobody() {
    let good = Target::new("requests_total{code=\"200\"} 7\n").await;
    let truncated_gzip = {
        let mut body = gzip(b"a 1\n", 100_000);
        body.truncate(body.len() / 2);
        body
    };
    let long_label = format!("a{{b=\"{}\"}} 1\n", "x".repeat(1 << 20)).into_bytes();
    let tenfold: String = (0..10_000).map(|i| format!("a{{i=\"{i}\"}} 1\n")).collect();
    let cut = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1000\r\nconnection: close\r\n\r\na 1\n";
    // Name, address, more keys of the job, what the error says; none: the scrape is good.
    let targets: Vec<(&str, SocketAddr, &str, &str)> = vec![
        ("good", good.address, "", ""),
        (
            "truncated",
            server(move |mut stream, _| async move { drop(stream.write_all(cut.as_bytes()).await) }).await,
            "",
            "read the body",
        ),
        (
            "endless",
            drip(ENDLESS, &[b'#'; 65536], Duration::ZERO).await,
            "",
            "body exceeds 2097152 bytes (body_size_limit)",
        ),
        ("endless_line", drip(ENDLESS, &[b'a'; 65536], Duration::ZERO).await, "", "body exceeds 2097152 bytes"),
        ("slow", drip(ENDLESS, b"#", Duration::from_secs(1)).await, "", "no complete answer within the scrape timeout"),
        ("slow_head", drip("", b"H", Duration::from_secs(1)).await, "", "no complete answer within the scrape timeout"),
        ("empty_answer", server(|stream, _| async move { drop(stream) }).await, "", "send the request"),
        ("empty_page", page(PLAIN, "", Vec::new()).await, "", ""),
        ("empty_openmetrics", page("application/openmetrics-text", "", Vec::new()).await, "", ""),
        (
            "bomb",
            page(PLAIN, "content-encoding: gzip\r\n", gzip(&[b'\n'; 1 << 20], 256)).await,
            "",
            "body exceeds 2097152 bytes (body_size_limit)",
        ),
        ("cut_gzip", page(PLAIN, "content-encoding: gzip\r\n", truncated_gzip).await, "", "decompress the body"),
        (
            "no_gzip",
            page(PLAIN, "content-encoding: br\r\n", b"a 1\n".to_vec()).await,
            "",
            "unsupported Content-Encoding",
        ),
        ("changing", changing().await, "", "data does not end with # EOF"),
        ("duplicates", page(PLAIN, "", b"a{x=\"1\",y=\"2\"} 1\na{y=\"2\",x=\"1\"} 2\n".to_vec()).await, "", ""),
        ("twin_label", page(PLAIN, "", b"a{x=\"1\",x=\"2\"} 1\n".to_vec()).await, "", "label name `x` is not unique"),
        (
            "long_label",
            page(PLAIN, "", long_label).await,
            "label_value_length_limit: 2048",
            "label_value_length_limit exceeded (metric: a, label name: b, length: 1048576, limit: 2048)",
        ),
        ("not_utf8", page(PLAIN, "", b"ok 1\na{b=\"\xff\xfe\"} 1\n".to_vec()).await, "", "line 2: invalid UTF-8"),
        ("nul", page(PLAIN, "", vec![0; 4096]).await, "", "line 1: expected a metric name"),
        ("html", page("text/html", "", b"<html>".to_vec()).await, "", "unsupported Content-Type"),
        (
            "tenfold",
            page(PLAIN, "", tenfold.into_bytes()).await,
            "sample_limit: 1000",
            "sample_limit exceeded (number of samples: 10000, limit: 1000)",
        ),
    ];
    let jobs: String = (targets.iter())
        .map(|(name, address, keys, _)| {
            let keys = if keys.is_empty() { String::new() } else { format!("{keys}, ") };
            format!(
                "- {{job_name: {name}, {keys}body_size_limit: 2MB, static_configs: [{{targets: ['{address}']}}]}}\n"
            )
        })
        .collect();
    let blocks = format!("global: {{scrape_interval: 1s, scrape_timeout: 900ms}}\nscrape_configs:\n{jobs}");
    let app = TestApp::start(&postgres::database().await, &blocks).await;
    let highest = highest_memory(async {
        app.query_becomes("count(up)", targets.len() as f64).await;
        app.query_becomes("sum(up)", targets.iter().filter(|(.., reason)| reason.is_empty()).count() as f64).await;
        for (name, _, _, reason) in &targets {
            // The first pages of some are good, so this waits for the error.
            let error = eventually(&format!("{name} says {reason}"), async || {
                let found = app.data("/api/v1/targets").await;
                let active = found["activeTargets"].as_array()?;
                let target = active.iter().find(|target| target["scrapePool"] == **name)?;
                let error = target["lastError"].as_str()?.to_owned();
                let is_right = error.contains(reason) && error.is_empty() == reason.is_empty();
                let health = if reason.is_empty() { "up" } else { "down" };
                (is_right && target["health"] == *health).then_some(error)
            })
            .await;
            assert!(error.len() < 600, "{name}: an error of {} bytes", error.len());
        }
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(1000)).await;
        }
    })
    .await;
    assert!(highest < 400 << 20, "{} MiB at the highest", highest >> 20);

    // The good one has been read each second all the while.
    app.query_becomes("requests_total{code=\"200\"}", 7.0).await;
    app.query_becomes("min_over_time(up{job=\"good\"}[30s])", 1.0).await;
    app.query_becomes("count_over_time(up{job=\"good\"}[4s]) >= bool 3", 1.0).await;
    app.query_becomes("a{job=\"duplicates\"}", 1.0).await;
    let (_, metrics) = app.get("/metrics").await;
    let restarts = metrics.lines().find(|line| line.starts_with("meshscope_scrape_loop_restarts_total"));
    assert_eq!(restarts, Some("meshscope_scrape_loop_restarts_total 0"));
    let (status, page) = app.get("/targets").await;
    assert!(status == 200 && page.contains("label_value_length_limit exceeded"), "{status}");
    let (status, page) = app.get("/status").await;
    assert!(status == 200 && page.contains("targets fail at a limit") && page.contains("journal"), "{status}: {page}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_of_series_holds_when_a_page_grows_tenfold_and_says_so() {
    let series = |count: usize| (0..count).map(|i| format!("a{{i=\"{i}\"}} 1\n")).collect::<String>();
    let growing = Target::new(&series(500)).await;
    let other = Target::new("other 1\n").await;
    let blocks = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n\
         - {{job_name: growing, static_configs: [{{targets: ['{}']}}]}}\n\
         - {{job_name: other, static_configs: [{{targets: ['{}']}}]}}\n",
        growing.address, other.address
    );
    let database = postgres::database().await;
    let folder = crate::app::new_folder();
    let text = crate::app::with_ports(&database, &blocks).replace("storage: {", "storage: {series_limit: 1000, ");
    let app = TestApp::start_in(&folder, &text).await;
    app.query_becomes("count(a)", 500.0).await;
    app.query_becomes("other", 1.0).await;
    growing.show(&series(5000));
    let report = eventually("new series are refused", async || {
        let report = app.data("/api/mesh/v1/cardinality?limit=5").await;
        (report["seriesRefused"].as_u64()? > 0).then_some(report)
    })
    .await;
    assert_eq!(report["seriesLimit"], 1000);
    let (status, page) = app.get("/status").await;
    assert!(status == 200 && page.contains("storage.series_limit) is reached"), "{status}: {page}");
    app.query_becomes("count({__name__!=\"\"})", 1000.0).await;
    app.query_becomes("other", 1.0).await;
    app.query_becomes("up{job=\"growing\"}", 1.0).await;
    let (_, metrics) = app.get("/metrics").await;
    let refused = metrics
        .lines()
        .find_map(|l| l.strip_prefix("meshscope_scrape_refused_samples_total{reason=\"series_limit\"} "));
    assert!(refused.is_some_and(|count| count != "0"), "{refused:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn short_memory_is_shown_and_rules_go_on() {
    let target = Target::new("needed 3\nother 4\n").await;
    let blocks = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [rules.yaml]\n\
         scrape_configs: [{{job_name: a, static_configs: [{{targets: ['{}']}}]}}]",
        target.address
    );
    let folder = crate::app::new_folder();
    let rules = "groups: [{name: g, rules: [{record: twice, expr: needed * 2}]}]";
    std::fs::write(folder.join("rules.yaml"), rules).expect("write the rules");
    let text = crate::app::with_ports(&postgres::database().await, &blocks);
    let app = TestApp::start_in(&folder, &text.replace("storage: {", "storage: {memory_limit: 1MB, ")).await;
    app.query_becomes("twice", 6.0).await;
    assert!(app.query("other").await.is_empty());
    let report = app.data("/api/mesh/v1/cardinality").await;
    assert!(report["safeMode"]["active"] == true && report["safeMode"]["limitBytes"] == 1 << 20, "{report}");
    let (_, page) = app.get("/status").await;
    assert!(page.contains("Safe mode."), "{page}");
    let (_, metrics) = app.get("/metrics").await;
    assert!(metrics.lines().any(|line| line == "meshscope_safe_mode 1"), "{metrics}");
    app.stop().await;
}
