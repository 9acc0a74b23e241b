//! From targets to queries: the good one is read, each bad one says why, and none holds up another.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::app::{Target, TestApp, eventually};
use crate::postgres;

/// A server that writes `head` and then `chunk`, once or for ever, or says nothing at all.
async fn raw(head: &'static str, chunk: &'static [u8], endless: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                if head.is_empty() {
                    std::future::pending::<()>().await;
                }
                let _ = stream.write_all(head.as_bytes()).await;
                while stream.write_all(chunk).await.is_ok() && endless {}
            });
        }
    });
    address
}

async fn closed_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    listener.local_addr().expect("an address")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_bad_target_says_why_and_the_good_one_is_read() {
    let text = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1000\r\n\r\n";
    let endless = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n";
    let html = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 27\r\nconnection: close\r\n\r\n";
    let good = Target::new("requests_total{code=\"200\"} 7\n").await;
    let targets = [
        ("good", good.address, ""),
        ("refused", closed_port().await, "refused"),
        ("slow", raw("", b"", false).await, "no complete answer within the scrape timeout"),
        ("truncated", raw(text, b"a 1\n", false).await, "Get \"http"),
        ("endless", raw(endless, &[b'#'; 4096], true).await, "body exceeds 102400 bytes (body_size_limit)"),
        ("html", raw(html, b"<html><b>not here</b></html>", false).await, "line 1"),
    ];
    let jobs: String = (targets.iter())
        .map(|(name, address, _)| {
            format!("- {{job_name: {name}, body_size_limit: 100KB, static_configs: [{{targets: ['{address}']}}]}}\n")
        })
        .collect();
    let blocks = format!("global: {{scrape_interval: 1s, scrape_timeout: 500ms}}\nscrape_configs:\n{jobs}");
    let app = TestApp::start(&postgres::database().await, &blocks).await;

    app.query_becomes("count(up)", 6.0).await;
    app.query_becomes("sum(up)", 1.0).await;
    app.query_becomes("up{job=\"good\"}", 1.0).await;
    app.query_becomes("requests_total{code=\"200\"}", 7.0).await;
    let found = app.data("/api/v1/targets").await;
    for (name, _, reason) in targets {
        let active = found["activeTargets"].as_array().expect("targets");
        let target = active.iter().find(|t| t["scrapePool"] == name).unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(target["health"], if reason.is_empty() { "up" } else { "down" }, "{target}");
        let error = target["lastError"].as_str().expect("a text");
        assert!(error.contains(reason) && error.is_empty() == reason.is_empty(), "{name}: {error}");
    }
    let (status, page) = app.get("/targets").await;
    assert!(status == 200 && page.contains("no complete answer within the scrape timeout"), "{status}");

    // What a page no longer has ends, and what a failed target had too.
    good.show("requests_total{code=\"500\"} 1\n");
    app.query_becomes("requests_total", 1.0).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_metrics_are_well_formed_and_count_each_part() {
    let target = Target::new("a 1\n").await;
    let blocks = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: a, static_configs: [{{targets: ['{}']}}]}}]",
        target.address
    );
    let app = TestApp::start(&postgres::database().await, &blocks).await;
    let page = eventually("samples are in the journal", async || {
        let (_, page) = app.get("/metrics").await;
        let written =
            page.lines().find(|l| l.starts_with("meshscope_persist_written_items_total{part=\"journal\"}"))?;
        (!written.ends_with(" 0")).then_some(page)
    })
    .await;
    let mut typed = std::collections::BTreeSet::new();
    let mut helped = std::collections::BTreeSet::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help text");
            assert!(helped.insert(name.to_owned()) && help.ends_with('.'), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a kind");
            assert!(typed.insert(name.to_owned()), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        } else {
            let (series, value) = line.rsplit_once(' ').expect("a sample");
            let name = series.split('{').next().expect("a name");
            assert!(typed.contains(name) && helped.contains(name), "{line}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
    for line in ["meshscope_scrape_targets{health=\"up\"} 1", "meshscope_database_available 1"] {
        assert!(page.lines().any(|l| l == line), "{line} not in\n{page}");
    }
    assert!(page.contains("meshscope_otlp_rejected_spans_total{reason=\"invalid_trace_id\"} 0"), "{page}");
    app.stop().await;
}
