//! `/federate`, exemplars without a selector, and huge regexes.

use meshscope::model::stale_marker;

use crate::api::{Parts, Server, append, empty_head};

fn now_ms() -> i64 {
    meshscope::clock::Clock::system().now().as_millis()
}

#[tokio::test]
async fn the_newest_samples_are_federated() {
    let (head, now) = (empty_head(), now_ms());
    let recent = |value: f64| [(now - 20_000, 1.0), (now - 10_000, value)];
    append(&head, &[("__name__", "up"), ("job", "b")], recent(2.5));
    append(&head, &[("__name__", "up"), ("job", "a"), ("dc", "own")], recent(0.0));
    append(&head, &[("__name__", "ended"), ("job", "a")], recent(stale_marker()));
    append(&head, &[("__name__", "old"), ("job", "a")], [(now - 600_000, 1.0)]);
    append(&head, &[("__name__", "about"), ("job", "a")], recent(-1.0));
    let server = Server::start(Parts { head: Some(head), ..Parts::default() }).await;
    let page = server.get("/federate?match[]=up&match[]={job=%22a%22}").await;
    assert_eq!(
        (page.status, page.header("content-type")),
        (200, Some("text/plain; version=0.0.4; charset=utf-8; escaping=underscores"),)
    );
    let at = now - 10_000;
    let expect = format!(
        "# TYPE about untyped\nabout{{job=\"a\",dc=\"eu\",instance=\"\"}} -1 {at}\n# TYPE up untyped\n\
         up{{dc=\"own\",job=\"a\",instance=\"\"}} 0 {at}\nup{{job=\"b\",dc=\"eu\",instance=\"\"}} 2.5 {at}\n"
    );
    assert_eq!(page.body, expect);
    let nothing = server.get("/federate").await;
    assert_eq!((nothing.status, nothing.body.as_str()), (200, ""));
    let wrong = server.get("/federate?match[]=").await;
    assert_eq!(
        (wrong.status, wrong.body.as_str(), wrong.header("content-type")),
        (400, "unknown position: parse error: unexpected end of input\n", Some("text/plain; charset=utf-8"))
    );
}

#[tokio::test]
async fn an_expression_without_selectors_has_no_exemplars() {
    let server = Server::start(Parts::default()).await;
    let answer = server.get("/api/v1/query_exemplars?query=1&start=0&end=10").await;
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    let answer = server.get("/api/v1/query_exemplars?query=up").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"status":"success","data":[]}"#));
}

#[tokio::test]
async fn huge_regexes_are_refused_with_the_text_of_prometheus() {
    let head = empty_head();
    append(&head, &[("__name__", "up"), ("job", "a")], [(0, 1.0)]);
    let server = Server::start(Parts { head: Some(head), ..Parts::default() }).await;
    let cases = [
        (
            r#"up{job=~"(a{1000}){1000}"}"#.to_owned(),
            400,
            r#"{"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": 1:4: parse error: error parsing regexp: invalid repeat count: `{1000}`"}"#,
        ),
        (
            r#"label_replace(up,"x","$1","job","(a{500}){500}")"#.to_owned(),
            422,
            r#"{"status":"error","errorType":"execution","error":"invalid regular expression in label_replace(): (a{500}){500}"}"#,
        ),
    ];
    for (query, status, body) in cases {
        let form = format!("time=0&query={}", query.replace('+', "%2B").replace('"', "%22"));
        let answer = server.post("/api/v1/query", &form).await;
        assert_eq!((answer.status, answer.body.as_str()), (status, body), "{query}");
    }
    // Many alternatives are no repeats: taken while they compile, refused when they would not fit.
    for (alternatives, statuses) in [(1_000, [200, 200]), (100_000, [200, 400])] {
        let pattern: Vec<String> = (0..alternatives).map(|i| format!("pod-{i}.*")).collect();
        let form = format!("time=0&query=up{{job=~\"{}\"}}", pattern.join("|"));
        let answer = server.post("/api/v1/query", &form).await;
        assert!(statuses.contains(&answer.status), "{alternatives}: {} {:.300}", answer.status, answer.body);
    }
}
