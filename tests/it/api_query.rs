//! Queries, series and labels: what Prometheus 3.5.3 answers to the same requests.

use meshscope::series::Head;
use reqwest::Method;

use crate::api::{Parts, Server, append, empty_head};

const NAN_LABELS: &str = "quote\"back\\slash\nline<&>é";

/// `fixed` of five shards and `up` of one job, each ten seconds from 1700000000 to 1700000060.
fn head() -> Head {
    let head = empty_head();
    let times = || (0..=6).map(|i| 1_700_000_000_000 + i * 10_000);
    let fixed = [("a", 1.0), ("b", 2.5), ("c", 1e-7), ("d", 1e21), ("nan", f64::NAN), (NAN_LABELS, f64::NEG_INFINITY)];
    for (shard, value) in fixed {
        append(&head, &[("__name__", "fixed"), ("job", "page"), ("shard", shard)], times().map(|at| (at, value)));
    }
    append(&head, &[("__name__", "up"), ("job", "page")], times().map(|at| (at, 1.0)));
    append(&head, &[("__name__", "my.dotted"), ("my.label", "v")], times().map(|at| (at, 5.0)));
    head
}

async fn server() -> Server {
    Server::start(Parts { head: Some(head()), ..Parts::default() }).await
}

fn data(data: &str) -> (u16, String) {
    (200, format!(r#"{{"status":"success","data":{data}}}"#))
}

fn bad(error: &str) -> (u16, String) {
    failed(400, "bad_data", error)
}

fn failed(status: u16, kind: &str, error: &str) -> (u16, String) {
    (status, format!(r#"{{"status":"error","errorType":"{kind}","error":"{error}"}}"#))
}

async fn check_all(server: &Server, cases: &[(&str, (u16, String))]) {
    for (path, expect) in cases {
        let answer = server.get(path).await;
        assert_eq!((answer.status, answer.body.as_str()), (expect.0, expect.1.as_str()), "{path}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{path}");
    }
}

#[tokio::test]
async fn instant_queries_are_answered_to_the_byte() {
    let server = server().await;
    let scalar = |result: &str| data(&format!(r#"{{"resultType":"scalar","result":{result}}}"#));
    let vector = |result: &str| data(&format!(r#"{{"resultType":"vector","result":[{result}]}}"#));
    let at = "time=1700000060";
    let of = |query: &str| format!("/api/v1/query?{at}&query={query}");
    let cases = [
        ("/api/v1/query?query=1%2B1&time=4".to_owned(), scalar(r#"[4,"2"]"#)),
        ("/api/v1/query?query=1&time=1435781451.781".to_owned(), scalar(r#"[1435781451.781,"1"]"#)),
        ("/api/v1/query?query=1&time=2015-07-01T20:10:51.5Z".to_owned(), scalar(r#"[1435781451.500,"1"]"#)),
        ("/api/v1/query?query=1&time=1.0005".to_owned(), scalar(r#"[1,"1"]"#)),
        ("/api/v1/query?query=1e-7&time=4".to_owned(), scalar(r#"[4,"0.0000001"]"#)),
        ("/api/v1/query?query=1e21&time=4".to_owned(), scalar(r#"[4,"1000000000000000000000"]"#)),
        ("/api/v1/query?query=-1/0&time=4".to_owned(), scalar(r#"[4,"-Inf"]"#)),
        ("/api/v1/query?query=0/0&time=4".to_owned(), scalar(r#"[4,"NaN"]"#)),
        (
            "/api/v1/query?query=%22a%3C%26%3E%22&time=4".to_owned(),
            data(r#"{"resultType":"string","result":[4,"a\u003c\u0026\u003e"]}"#),
        ),
        (of("nosuch"), vector("")),
        (of("up"), vector(r#"{"metric":{"__name__":"up","job":"page"},"value":[1700000060,"1"]}"#)),
        (of("sum(fixed{shard=~%22a|b%22})"), vector(r#"{"metric":{},"value":[1700000060,"3.5"]}"#)),
        (
            of("{%22my.dotted%22}"),
            vector(r#"{"metric":{"__name__":"my.dotted","my.label":"v"},"value":[1700000060,"5"]}"#),
        ),
        (of("fixed{shard=%22c%22}*1"), vector(r#"{"metric":{"job":"page","shard":"c"},"value":[1700000060,"1e-07"]}"#)),
        (of("fixed{shard=%22d%22}*1"), vector(r#"{"metric":{"job":"page","shard":"d"},"value":[1700000060,"1e+21"]}"#)),
        (
            of("max%20by(shard)(fixed{shard=~%22quote.*%22})"),
            // Labels are the one place where Prometheus does not escape HTML.
            vector(r#"{"metric":{"shard":"quote\"back\\slash\nline<&>é"},"value":[1700000060,"-Inf"]}"#),
        ),
        (
            of("up[15s]"),
            data(
                r#"{"resultType":"matrix","result":[{"metric":{"__name__":"up","job":"page"},"values":[[1700000050,"1"],[1700000060,"1"]]}]}"#,
            ),
        ),
    ];
    let cases: Vec<(&str, (u16, String))> =
        cases.iter().map(|(path, expect)| (path.as_str(), expect.clone())).collect();
    check_all(&server, &cases).await;
}

#[tokio::test]
async fn wrong_queries_are_refused_with_the_texts_of_prometheus() {
    let parse = |text: &str| bad(&format!(r#"invalid parameter \"query\": {text}"#));
    let of = |name: &str, text: &str| bad(&format!(r#"invalid parameter \"{name}\": {text}"#));
    let time =
        |name: &str| of(name, &format!(r#"invalid time value for '{name}': cannot parse \"x\" to a valid timestamp"#));
    let range = |rest: &str| format!("/api/v1/query_range?query=1&{rest}");
    let zero = "zero or negative query resolution step widths are not accepted. Try a positive integer";
    let points =
        "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)";
    let cases = [
        ("/api/v1/query".to_owned(), parse("unknown position: parse error: no expression found in input")),
        ("/api/v1/query?query=sum(".to_owned(), parse("1:5: parse error: unclosed left parenthesis")),
        ("/api/v1/query?query=foo(1)".to_owned(), parse(r#"1:1: parse error: unknown function with name \"foo\""#)),
        (
            "/api/v1/query?query=limitk(2,up)".to_owned(),
            parse(
                "1:1: parse error: limitk() is experimental and must be enabled with --enable-feature=promql-experimental-functions",
            ),
        ),
        ("/api/v1/query?query=1%2B1&time=x".to_owned(), time("time")),
        ("/api/v1/query?query=1&timeout=x".to_owned(), of("timeout", r#"cannot parse \"x\" to a valid duration"#)),
        (
            "/api/v1/query?query=1&timeout=1e300".to_owned(),
            of("timeout", r#"cannot parse \"1e300\" to a valid duration. It overflows int64"#),
        ),
        ("/api/v1/query?query=1&timeout=0".to_owned(), of("query", "context deadline exceeded")),
        ("/api/v1/query?query=1&timeout=-1".to_owned(), of("query", "context deadline exceeded")),
        (
            "/api/v1/query?query=1&lookback_delta=x".to_owned(),
            bad(r#"error parsing lookback delta duration: cannot parse \"x\" to a valid duration"#),
        ),
        ("/api/v1/query?query=1&limit=-1".to_owned(), of("limit", "limit must be non-negative")),
        ("/api/v1/query?query=1&limit=x".to_owned(), of("limit", r#"strconv.Atoi: parsing \"x\": invalid syntax"#)),
        (range("end=1&step=1"), of("start", r#"cannot parse \"\" to a valid timestamp"#)),
        (range("start=1&end=y&step=1"), of("end", r#"cannot parse \"y\" to a valid timestamp"#)),
        (range("start=2&end=1&step=1"), of("end", "end timestamp must not be before start time")),
        (range("start=1&end=2"), of("step", r#"cannot parse \"\" to a valid duration"#)),
        (range("start=1&end=2&step=0"), of("step", zero)),
        (range("start=1&end=2&step=-1"), of("step", zero)),
        (range("start=1&end=2&step=NaN"), of("step", zero)),
        (range("start=0&end=11001&step=1"), bad(points)),
        (range("start=0&end=10&step=0.0001"), bad(points)),
        (
            "/api/v1/query_range?query=up[1m]&start=1&end=2&step=1".to_owned(),
            parse(r#"invalid expression type \"range vector\" for range query, must be Scalar or instant Vector"#),
        ),
        (
            "/api/v1/query?time=1700000060&query=fixed*on(job)fixed{shard=~%22a|b%22}".to_owned(),
            failed(
                422,
                "execution",
                r#"found duplicate series for the match group {job=\"page\"} on the right hand-side of the operation: [{__name__=\"fixed\", job=\"page\", shard=\"b\"}, {__name__=\"fixed\", job=\"page\", shard=\"a\"}];many-to-many matching not allowed: matching labels must be unique on one side"#,
            ),
        ),
        ("/api/v1/query_exemplars?query=sum(".to_owned(), bad("1:5: parse error: unclosed left parenthesis")),
        (
            "/api/v1/query_exemplars?query=up&start=5&end=1".to_owned(),
            bad("end timestamp must not be before start timestamp"),
        ),
        ("/api/v1/format_query?query=sum(".to_owned(), parse("1:5: parse error: unclosed left parenthesis")),
        ("/api/v1/parse_query?query=sum(".to_owned(), parse("1:5: parse error: unclosed left parenthesis")),
    ];
    let cases: Vec<(&str, (u16, String))> =
        cases.iter().map(|(path, expect)| (path.as_str(), expect.clone())).collect();
    check_all(&server().await, &cases).await;
}

#[tokio::test]
async fn range_queries_and_limits() {
    let server = server().await;
    let points = r#"[[1.500,"1"],[1.900,"1"],[2.300,"1"],[2.700,"1"]]"#;
    let one =
        |values: &str| data(&format!(r#"{{"resultType":"matrix","result":[{{"metric":{{}},"values":{values}}}]}}"#));
    let limited = r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"shard":"a"},"values":[[1700000060,"1"]]}]},"warnings":["results truncated due to limit"]}"#;
    check_all(
        &server,
        &[
            ("/api/v1/query_range?start=1.5&end=2.7&step=0.4&query=1", one(points)),
            ("/api/v1/query_range?start=5&end=5&step=9223372036&query=1", one(r#"[[5,"1"]]"#)),
            (
                "/api/v1/query_range?start=1700000060&end=1700000060&step=1m&limit=1&query=sum%20by(shard)(fixed{shard=~%22a|b%22})",
                (200, limited.to_owned()),
            ),
            ("/api/v1/query_range?start=1&end=2&step=1&query=nosuch", data(r#"{"resultType":"matrix","result":[]}"#)),
        ],
    )
    .await;
    let points = server.get("/api/v1/query_range?start=0&end=11000&step=1&query=1").await;
    assert_eq!(points.json()["data"]["result"][0]["values"].as_array().map(Vec::len), Some(11_001));
}

#[tokio::test]
async fn grafana_gets_what_it_asks_for() {
    let server = server().await;
    let health = server.post("/api/v1/query", "query=1%2B1&time=4").await;
    assert_eq!(health.body, r#"{"status":"success","data":{"resultType":"scalar","result":[4,"2"]}}"#);
    let build = server.get("/api/v1/status/buildinfo").await.json();
    assert_eq!((&build["data"]["version"], build["data"].get("features")), (&"3.5.3".into(), None));
    let exemplars = "query=test&start=1700000000000&end=1700003600000";
    assert_eq!(server.post("/api/v1/query_exemplars", exemplars).await.body, r#"{"status":"success","data":[]}"#);
    // Parameters may be split between URL and form; those of the form come first.
    let split = server.post("/api/v1/query_range?step=5&end=1700000060&query=2", "query=1&start=1700000060").await;
    assert!(split.body.ends_with(r#""values":[[1700000060,"1"]]}]}}"#), "{}", split.body);
    let packed = server.ask(Method::GET, "/api/v1/labels", &[("accept-encoding", "gzip")], None).await;
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    let vary: Vec<&str> = packed.headers.get_all("vary").iter().filter_map(|value| value.to_str().ok()).collect();
    assert_eq!(vary.join(",").to_ascii_lowercase(), "origin,accept-encoding");
    // What is not a form is not read, and no charset is in the way of what is.
    for (kind, status) in
        [("text/plain", 400), ("application/json", 400), ("application/x-www-form-urlencoded; charset=utf-8", 200)]
    {
        let answer = server.ask(Method::POST, "/api/v1/query", &[("content-type", kind)], Some("query=1&time=4")).await;
        assert_eq!(answer.status, status, "{kind}");
    }
}

#[tokio::test]
async fn series_and_labels() {
    let server = server().await;
    let up = r#"{"__name__":"up","job":"page"}"#;
    let empty_matcher = "match[] must contain at least one non-empty matcher";
    let time =
        r#"invalid parameter \"start\": invalid time value for 'start': cannot parse \"x\" to a valid timestamp"#;
    check_all(
        &server,
        &[
            ("/api/v1/series", bad("no match[] parameter provided")),
            ("/api/v1/series?match[]=up", data(&format!("[{up}]"))),
            (
                "/api/v1/series?match[]=up&match[]={%22my.dotted%22}",
                data(&format!(r#"[{{"__name__":"my.dotted","my.label":"v"}},{up}]"#)),
            ),
            ("/api/v1/series?match[]=nosuch", data("[]")),
            ("/api/v1/series?match[]=up&start=10&end=20", data("[]")),
            ("/api/v1/series?match[]={}", bad(&format!(r#"invalid parameter \"match[]\": {empty_matcher}"#))),
            (
                "/api/v1/series?match[]=x{",
                bad(r#"invalid parameter \"match[]\": 1:3: parse error: unexpected end of input inside braces"#),
            ),
            ("/api/v1/series?match[]=up&start=x", bad(time)),
            ("/api/v1/labels?match[]={a=%22%22}", bad(empty_matcher)),
            ("/api/v1/labels?match[]=", bad("unknown position: parse error: unexpected end of input")),
            ("/api/v1/labels", data(r#"["__name__","job","my.label","shard"]"#)),
            ("/api/v1/labels?match[]=up", data(r#"["__name__","job"]"#)),
            ("/api/v1/labels?start=10&end=5", data("[]")),
            (
                "/api/v1/labels?limit=1",
                (
                    200,
                    r#"{"status":"success","data":["__name__"],"warnings":["results truncated due to limit"]}"#.into(),
                ),
            ),
            ("/api/v1/label/__name__/values", data(r#"["fixed","my.dotted","up"]"#)),
            ("/api/v1/label/U__my_2e_label/values", data(r#"["v"]"#)),
            ("/api/v1/label/my.label/values", data(r#"["v"]"#)),
            ("/api/v1/label/nosuch/values", data("[]")),
            ("/api/v1/label/%FF/values", bad(r#"invalid label name: \"\\xff\""#)),
            (
                "/api/v1/label/shard/values?match[]=fixed{shard=~%22quote.*%22}",
                data(r#"["quote\"back\\slash\nline\u003c\u0026\u003eé"]"#),
            ),
            ("/api/v1/format_query?query=sum(rate(a[5m]))by(b)", data(r#""sum by (b) (rate(a[5m]))""#)),
            ("/api/v1/parse_query?query=1h", data(r#"{"type":"numberLiteral","val":"3600"}"#)),
            ("/api/v1/status/tsdb?limit=0", bad("limit must be a positive number")),
        ],
    )
    .await;
    for selector in ["sum(up)", "-up", "(up)", "up[5m]", "up%20offset%205m"] {
        assert_eq!(server.get(&format!("/api/v1/series?match[]={selector}")).await.status, 400, "{selector}");
    }
    assert_eq!(
        server.post("/api/v1/series", "match[]=up").await.body,
        format!(r#"{{"status":"success","data":[{up}]}}"#)
    );
}
