//! What surrounds an answer: other origins, methods, reloads, clients that go away, turns.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use meshscope::promql;
use reqwest::Method;

use crate::api::{Answer, Parts, Server, append, empty_head};

#[tokio::test]
async fn pages_of_other_origins_may_read_and_not_change() {
    let mut server = Server::start(Parts::default()).await;
    let origin = [("origin", "http://grafana.example")];
    for method in [Method::GET, Method::OPTIONS] {
        let answer = server.ask(method.clone(), "/api/v1/labels", &origin, None).await;
        assert_eq!(answer.status, if method == Method::GET { 200 } else { 204 });
        assert_eq!(answer.header("access-control-allow-origin"), Some("http://grafana.example"));
        assert_eq!(answer.header("access-control-allow-methods"), Some("GET, POST, OPTIONS"));
        assert_eq!(answer.header("access-control-allow-headers"), Some("Accept, Authorization, Content-Type, Origin"));
        assert_eq!(answer.header("access-control-expose-headers"), Some("Date"));
        assert_eq!(answer.header("access-control-allow-credentials"), None);
        assert!(answer.headers.get_all("vary").iter().any(|value| value == "Origin"));
    }
    let own = format!("http://{}", server.address);
    let refused = [
        vec![("origin", "http://evil.example")],
        vec![("origin", "null")],
        vec![("origin", own.as_str()), ("sec-fetch-site", "cross-site")],
    ];
    for headers in refused {
        let answer = server.ask(Method::POST, "/-/reload", &headers, Some("")).await;
        assert_eq!(answer.status, 403, "{headers:?}");
        assert!(server.reloads.try_recv().is_err(), "nothing is asked for: {headers:?}");
    }
    let cases = [
        (Method::POST, vec![], Ok(()), 200),
        (Method::PUT, vec![("origin", own.as_str())], Ok(()), 200),
        (Method::POST, vec![("sec-fetch-site", "same-origin")], Err("line 3: no such key".to_owned()), 500),
    ];
    for (method, headers, outcome, status) in cases {
        let Server { reloads, .. } = &mut server;
        let mut asked = std::mem::replace(reloads, tokio::sync::mpsc::channel(1).1);
        let answering = async {
            asked.recv().await.expect("a reload is asked for").send(outcome).expect("the asker waits");
        };
        let (answer, ()) = tokio::join!(server.ask(method, "/-/reload", &headers, Some("")), answering);
        server.reloads = asked;
        assert_eq!(answer.status, status);
        assert_eq!(answer.body.contains("line 3"), status == 500, "{}", answer.body);
    }
}

#[tokio::test]
async fn unknown_methods_and_paths_are_refused() {
    let server = Server::start(Parts::default()).await;
    let cases = [
        (Method::DELETE, "/api/v1/query", 405, "Method Not Allowed\n"),
        (Method::POST, "/api/v1/rules", 405, "Method Not Allowed\n"),
        (Method::POST, "/api/v1/label/job/values", 405, "Method Not Allowed\n"),
        (Method::GET, "/-/reload", 405, "Method Not Allowed\n"),
        (Method::POST, "/-/healthy", 405, "Method Not Allowed\n"),
        (Method::HEAD, "/-/ready", 200, ""),
        (Method::GET, "/-/healthy", 200, "meshscope is healthy.\n"),
        (Method::GET, "/api/v1/admin/tsdb/snapshot", 405, "Method Not Allowed\n"),
        (
            Method::POST,
            "/api/v1/admin/tsdb/delete_series?match[]=up",
            500,
            r#"{"status":"error","errorType":"unavailable","error":"admin APIs disabled"}"#,
        ),
        (
            Method::DELETE,
            "/api/v1/series?match[]=up",
            500,
            r#"{"status":"error","errorType":"internal","error":"not implemented"}"#,
        ),
        (Method::DELETE, "/api/v1/nothing", 404, "404 page not found\n"),
        (Method::POST, "/-/quit", 403, "meshscope is not stopped over HTTP: send the process SIGTERM.\n"),
        (Method::GET, "/-/nothing", 404, "404 page not found\n"),
        (Method::GET, "/api/v2/query", 404, "404 page not found\n"),
        (Method::GET, "/api/v1/", 404, "404 page not found\n"),
        (Method::POST, "/api/v1/admin/tsdb/nothing", 404, "404 page not found\n"),
    ];
    for (method, path, status, body) in cases {
        let answer = server.ask(method.clone(), path, &[], None).await;
        assert_eq!((answer.status, answer.body.as_str()), (status, body), "{method} {path}");
        assert_eq!(answer.header("allow").is_some(), status == 405, "{method} {path}");
    }
}

/// One query that takes minutes holds the only turn; it gives it back as soon as its client is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_ends_its_query_which_is_counted() {
    let head = empty_head();
    for i in 0..200 {
        let series = format!("s{i}");
        append(
            &head,
            &[("__name__", "load"), ("series", &series)],
            (0..600).map(|t| (1_700_000_000_000 + t * 1000, t as f64)),
        );
    }
    let engine = promql::Config { concurrency: 1, ..promql::Config::default() };
    let server = Server::start(Parts { head: Some(head), engine, ..Parts::default() }).await;
    let range = "/api/v1/query_range?start=1700000000&end=1700000600&step=0.06&query=";
    // The second loads no sample: all it evaluates are the steps of its subquery.
    // The third is one series with a million samples in each window: it must be left within a row, not after it.
    let slow = [
        "sum(quantile_over_time(0.5,load[10m]))",
        "quantile_over_time(0.5,vector(time())[1h:1s])",
        "stddev_over_time(vector(1)[10m:1ms])",
    ];
    for (left, slow) in (1..).zip(slow) {
        let path = format!("{range}{slow}");
        let mut leaving = Box::pin(server.get(&path));
        wait_for_a_full_queue(&server, &mut leaving).await;
        drop(leaving);
        let next = server.get("/api/v1/query?query=1&timeout=20&time=4").await;
        assert_eq!(next.body, r#"{"status":"success","data":{"resultType":"scalar","result":[4,"1"]}}"#, "{slow}");
        assert_eq!(server.queries.canceled.load(Ordering::Relaxed), left, "{slow}");
    }
    // The evaluation has stopped too, else the end of the test would wait for it beyond all patience.
}

/// Returns when another query finds no turn while `running` has it.
async fn wait_for_a_full_queue(server: &Server, running: &mut (impl Future<Output = Answer> + Unpin)) {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(60) {
        tokio::select! {
            answer = &mut *running => panic!("the slow query ended: {}", &answer.body[..200.min(answer.body.len())]),
            other = server.get("/api/v1/query?query=1&timeout=0.2&time=4") => {
                if other.status == 503 {
                    assert!(other.body.contains("query timed out in query queue"), "{}", other.body);
                    return;
                }
            }
        }
    }
    panic!("the slow query never got its turn");
}
