//! The dashboard's pages over a real socket: they hear when to look again, carry times in their addresses, and are readable
//! pages whatever is asked of them.

use std::time::Duration;

use crate::app::{Target, TestApp, alert_file, eventually, new_folder, one_target, with_ports};
use crate::postgres;

/// What a proxy tells of two calls, one of them of names that no page may take for markup.
fn calls(requests: u64) -> String {
    let hostile = r#"<script>alert(1)</script>\"\n"#;
    let edge = |source: &str, target: &str| {
        format!(
            "istio_requests_total{{reporter=\"source\",source_workload=\"{source}\",source_workload_namespace=\"shop\",\
             destination_workload=\"{target}\",destination_workload_namespace=\"shop\",destination_service_name=\"{target}\",\
             destination_service_namespace=\"shop\",request_protocol=\"http\",response_code=\"200\",response_flags=\"-\"}} {requests}\n"
        )
    };
    format!("# TYPE istio_requests_total counter\n{}{}", edge("web", "cart"), edge("cart", hostile))
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client")
}

/// Reads a stream until it has an event of that name.
async fn heard(stream: &mut reqwest::Response, event: &str) -> String {
    let mut text = String::new();
    while !text.contains(&format!("event: {event}\n")) {
        let chunk = tokio::time::timeout(Duration::from_secs(20), stream.chunk()).await.expect("in time");
        let chunk = chunk.expect("a stream").expect("it goes on");
        text.push_str(&String::from_utf8_lossy(&chunk));
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_are_open_hear_of_an_alert_at_once_and_hold_up_no_shutdown() {
    let database = postgres::database().await;
    let target = Target::new("broken 0\n").await;
    let folder = new_folder();
    std::fs::write(folder.join("rules.yaml"), alert_file("Broken", "broken > 0", "0s")).expect("a rule file");
    let blocks = one_target(target.address, target.address);
    let app = TestApp::start_in(&folder, &with_ports(&database, &blocks)).await;
    let mut stream = client().get(format!("http://{}/live", app.web)).send().await.expect("a stream");
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    assert!(stream.headers().get("content-encoding").is_none(), "a compressed stream is held back");
    assert!(heard(&mut stream, "hello").await.contains("retry: 2000"));
    heard(&mut stream, "beat").await;
    target.show("broken 1\n");
    while !heard(&mut stream, "beat").await.contains("{\"firing\":1}") {}
    let began = std::time::Instant::now();
    app.stop().await;
    // Clients that do not finish are cut off after two seconds; this one has nothing left to finish.
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    while let Ok(Some(_)) = stream.chunk().await {}
}

#[tokio::test(flavor = "multi_thread")]
async fn every_address_is_a_readable_page_with_the_right_status() {
    let database = postgres::database().await;
    let target = Target::new(&calls(100)).await;
    let app = TestApp::start(&database, &one_target(target.address, target.address)).await;
    let mut requests = 100;
    eventually("two edges", async || {
        requests += 100;
        target.show(&calls(requests));
        let (_, page) = app.get("/graph").await;
        (page.matches("class=\"edge ").count() >= 2).then_some(())
    })
    .await;
    for (path, status, says) in [
        ("/graph?range=1h&boxes=cluster&view=service", 200, "Service graph"),
        ("/graph?boxes=round", 400, "boxes: use one of"),
        ("/graph?compare=soon", 400, "compare: "),
        ("/graph?compare=1", 200, "Compared with"),
        ("/graph?way_from=a&way_to=b", 200, "One end of the way has no traffic"),
        ("/graph?at=2001-01-01T00:00:00Z", 200, "before what is kept: edges are kept for 400d"),
        ("/service/shop/cart", 200, "Access logs"),
        ("/service/shop/cart?at=2001-01-01T00:00:00Z", 404, "had no traffic"),
        ("/explore?query=up&query2=vector(1)&query3=rate(", 200, "id=\"query3-wrong\""),
        ("/explore?query=up&at=2001-01-01T00:00:00Z", 200, "before what is kept: samples"),
        ("/traces?at=2001-01-01T00:00:00Z", 200, "before what is kept: spans"),
        ("/logs?at=2001-01-01T00:00:00Z", 200, "before what is kept: access logs"),
        ("/alerts/history?at=2001-01-01T00:00:00Z", 200, "before what is kept: changes of alerts"),
        ("/changes?at=2001-01-01T00:00:00Z", 200, "before what is kept: changes"),
        ("/targets?q=nothing", 200, "No target is what you ask for"),
        ("/targets?state=up", 200, "1 of 1 up"),
        ("/?range=7d", 200, "Scorecard"),
        ("/?range=soon", 400, "range: "),
        ("/graph?start=2026-01-31+12:00&end=2026-01-31+11:00", 400, "start: "),
        ("/graph?start=2026-01-31+12:00&tz=Mars", 400, "no time zone"),
        ("/status", 200, "OTLP requests that PostgreSQL does not have yet"),
    ] {
        let (found, page) = app.get(path).await;
        assert_eq!(found, status, "{path}: {page}");
        assert!(page.contains(says) && page.contains("<h1"), "{path} says {says:?}: {page}");
        assert!(!page.contains("<script>alert"), "{path}");
    }
    let answer = client().get(format!("http://{}/graph?view=app&start=2026-01-31T12:00&end=2026-01-31T13:00", app.web));
    let answer = answer.send().await.expect("an answer");
    assert_eq!(answer.status(), 303);
    assert_eq!(answer.headers()["location"], "/graph?view=app&range=1h&at=2026-01-31T13%3A00%3A00.000Z");
    app.stop().await;
}
