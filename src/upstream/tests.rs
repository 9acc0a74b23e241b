//! A server that answers as engines, proxies and rubbish do.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse;
use parking_lot::Mutex;

use super::client::{seconds, selector};
use super::*;
use crate::clock::Clock;
use crate::http_client::Reach;
use crate::model::{Labels, MatchOp, Matcher, Timestamp, is_stale};
use crate::series::{Evaluated, Head, QueryError, Queryable, Select, WholeQuery};

/// What was asked, and what is answered: path and body.
type Asked = Arc<Mutex<Vec<(String, String)>>>;

async fn serve(answer: impl Fn(&str) -> (u16, String) + Clone + Send + Sync + 'static) -> (String, Asked) {
    let asked = Asked::default();
    let log = Arc::clone(&asked);
    let handler = move |uri: Uri, body: Bytes| {
        let (answer, log) = (answer.clone(), Arc::clone(&log));
        async move {
            let (status, text) = answer(uri.path());
            log.lock().push((uri.to_string(), String::from_utf8_lossy(&body).into_owned()));
            if text == "hang" {
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            (StatusCode::from_u16(status).unwrap(), text).into_response()
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(handler)).await });
    (format!("http://{address}"), asked)
}

fn config(yaml: &str) -> Config {
    let (config, problems) = crate::yaml::decode(yaml);
    assert_eq!(problems, [], "{yaml}");
    config.unwrap()
}

fn upstream(url: &str, more: &str) -> Upstream {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Upstream::new(config(&format!("url: '{url}'\n{more}")), Reach::default(), Clock::system())
}

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn whole(text: &str, step: Option<Duration>) -> WholeQuery {
    let reads =
        vec![Select { sample_limit: 3, ..Select::new(vec![Matcher::equal("__name__", "up")], at(0), at(9000)) }];
    WholeQuery {
        text: text.into(),
        start: at(1000),
        end: at(9000),
        step,
        lookback: None,
        timeout: Duration::from_secs(5),
        reads,
    }
}

fn success(data: &str) -> String {
    format!(r#"{{"status":"success","data":{data},"warnings":["PromQL warning: w"]}}"#)
}

#[tokio::test]
async fn results_of_every_type_are_read() {
    let vector = r#"{"resultType":"vector","result":[{"metric":{"__name__":"up","a":"é"},"value":[1.5,"+Inf"]},{"metric":{},"histogram":[1,{}]}]}"#;
    let matrix = r#"{"result":[{"metric":{"b":"2"},"values":[[1,"1"],[2.001,"NaN"]]},{"metric":{"a":"1"},"values":[[1,"-1e+06"]]}],"resultType":"matrix"}"#;
    let check = async |data: &str, step| {
        let body = success(data);
        let (url, _) = serve(move |_| (200, body.clone())).await;
        let found = upstream(&url, "").evaluate(&whole("up", step)).await.unwrap();
        (found.value, found.warnings.len())
    };
    let (value, warnings) = check(vector, None).await;
    let expect = (Labels::from_pairs([("__name__", "up"), ("a", "é")]), at(1500), f64::INFINITY);
    // The second warning is about the native histogram.
    assert_eq!((value, warnings), (Evaluated::Vector(vec![expect]), 2));
    let (Evaluated::Matrix(series), _) = check(matrix, Some(Duration::from_secs(1))).await else { panic!("no matrix") };
    let shown: Vec<String> =
        series.iter().map(|one| format!("{} {:?} {:?}", one.labels, one.times, one.values)).collect();
    assert_eq!(shown.len(), 2);
    assert!(shown[0].starts_with(r#"{a="1"}"#) && shown[0].ends_with("[-1000000.0]"), "{shown:?}");
    assert_eq!((series[1].times[1], series[1].values[1].is_nan()), (at(2001), true));
    assert!(!is_stale(series[1].values[1]));
    let (scalar, _) = check(r#"{"resultType":"scalar","result":[4,"2"]}"#, None).await;
    assert_eq!(scalar, Evaluated::Scalar(at(4000), 2.0));
    let (text, _) = check(r#"{"resultType":"string","result":[4,"x"]}"#, None).await;
    assert_eq!(text, Evaluated::Text(at(4000), "x".to_owned()));
}

#[tokio::test]
async fn what_is_asked_is_what_was_meant() {
    let (url, asked) = serve(|_| (200, success(r#"{"resultType":"matrix","result":[]}"#))).await;
    let upstream =
        upstream(&format!("{url}/prometheus/"), "timeout: 2s\nhttp_headers: {X-Scope-OrgID: {values: [mesh]}}");
    upstream.evaluate(&whole("sum(up)", Some(Duration::from_millis(1500)))).await.unwrap();
    let matchers =
        vec![Matcher::equal("__name__", "a\"\\\n"), Matcher::new(MatchOp::NotRegex, "my.label", "x.*").unwrap()];
    upstream.select(&Select::new(matchers.clone(), at(1000), at(4000))).await.unwrap();
    let asked = asked.lock().clone();
    let (path, form) = &asked[0];
    assert_eq!(path, "/prometheus/api/v1/query_range");
    assert_eq!(form, "query=sum%28up%29&start=1.000&end=9.000&step=1.5&timeout=2000ms");
    // From a second to four are 3,001 milliseconds: the first one counts.
    assert!(asked[1].1.ends_with("%5B3001ms%5D&time=4.000"), "{}", asked[1].1);
    assert_eq!(selector(&matchers), "{__name__=\"a\\\"\\\\\\n\",\"my.label\"!~\"x.*\"}");
    assert_eq!([seconds(at(-1)), seconds(at(1_700_000_000_123))], ["-0.001", "1700000000.123"]);
}

#[tokio::test]
async fn what_it_refuses_is_refused_with_its_words_and_what_is_no_answer_is_away() {
    let check = async |status: u16, body: &'static str, expect: &str| {
        let (url, _) = serve(move |_| (status, body.to_owned())).await;
        let asked = upstream(&url, "timeout: 300ms\nbody_size_limit: 1KB");
        let error = asked.evaluate(&whole("up", None)).await.expect_err(body);
        let (kind, text) = match &error {
            QueryError::Refused { kind, reason } => (*kind, reason.clone()),
            QueryError::Unavailable { reason, .. } => ("away", reason.clone()),
            other => ("other", other.to_string()),
        };
        assert!(format!("{kind}: {text}").contains(expect), "{status}: {kind}: {text}");
        assert_eq!(asked.away().is_some(), kind == "away", "{text}");
    };
    check(400, r#"{"status":"error","errorType":"bad_data","error":"1:2: parse error"}"#, "bad_data: 1:2: parse error")
        .await;
    check(422, r#"{"status":"error","errorType":"execution","error":"many-to-many"}"#, "execution: many-to-many").await;
    // VictoriaMetrics.
    check(422, r#"{"status":"error","errorType":"422","error":"cannot parse"}"#, "execution: cannot parse").await;
    check(503, r#"{"status":"error","errorType":"timeout","error":"query timed out"}"#, "timeout: query timed out")
        .await;
    check(
        503,
        r#"{"status":"error","errorType":"unavailable","error":"TSDB not ready"}"#,
        "away: answered 503 Service Unavailable: TSDB not ready",
    )
    .await;
    check(502, "<html>bad\n gateway</html>", "away: answered 502 Bad Gateway: <html>bad gateway</html>").await;
    check(401, "who are you", "look at basic_auth, authorization").await;
    check(404, "404 page not found", "the address of Prometheus' API").await;
    check(200, "<html>", "away: answered 200 OK with what is not to be read").await;
    check(200, r#"{"status":"success"}"#, "away").await;
    check(
        200,
        r#"{"status":"success","data":{"resultType":"scalar","result":[1,"many"]}}"#,
        "\"many\" where a number belongs",
    )
    .await;
    check(200, "hang", "away: timed out").await;
    let long: &'static str = Box::leak(
        success(&format!(r#"{{"resultType":"string","result":[1,"{}"]}}"#, "x".repeat(2000))).into_boxed_str(),
    );
    check(200, long, "execution: the answer is longer than the 1024 bytes").await;
    let many = r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"1"],[2,"1"],[3,"1"],[4,"1"]]}]}}"#;
    check(200, many, "other: query processing would load too many samples").await;
}

#[tokio::test]
async fn who_is_away_is_known_until_it_answers() {
    let down = Arc::new(Mutex::new(true));
    let is_down = Arc::clone(&down);
    let (url, _) = serve(move |_| match *is_down.lock() {
        true => (502, String::new()),
        false => (200, success(r#"{"resultType":"vector","result":[]}"#)),
    })
    .await;
    let upstream = upstream(&url, "");
    assert_eq!((upstream.away(), upstream.notice()), (None, None));
    upstream.evaluate(&whole("up", None)).await.expect_err("it is down");
    let away = upstream.away().unwrap();
    upstream.evaluate(&whole("up", None)).await.expect_err("it is down");
    assert_eq!(upstream.away().unwrap().since, away.since);
    assert!(upstream.notice().unwrap().contains(&url), "{:?}", upstream.notice());
    // Pages need not wait for what is known.
    let error = upstream.edge_sums(&[(at(0), at(60_000))]).await.expect_err("it is down");
    assert!(error.to_string().contains("no answer since"), "{error}");
    *down.lock() = false;
    upstream.evaluate(&whole("up", None)).await.unwrap();
    assert_eq!(upstream.away(), None);
}

#[tokio::test]
async fn a_query_of_nothing_of_ours_is_passed_on_and_one_of_both_is_joined() {
    let (url, asked) = serve(|path| match path {
        "/api/v1/query" => (
            200,
            success(r#"{"resultType":"matrix","result":[{"metric":{"__name__":"up","job":"theirs"},"values":[[0.5,"7"],[2,"1"]]}]}"#),
        ),
        "/api/v1/series" => (200, success(r#"[{"__name__":"up","job":"theirs"}]"#)),
        _ => (200, success(r#"["__name__","job","theirs"]"#)),
    })
    .await;
    let head = Head::new(crate::series::Config::default());
    let series = head.intern(&Labels::from_pairs([("__name__", "up"), ("job", "ours")])).unwrap();
    head.append_at(at(2000), &[(series, 5.0)]);
    let joined = Joined::new(Arc::new(head), upstream(&url, ""));
    let of = |name: &str| WholeQuery {
        reads: vec![Select::new(vec![Matcher::equal("__name__", name)], at(1000), at(9000))],
        ..whole(name, None)
    };

    assert_eq!(joined.evaluate(of("up")).await.unwrap(), None);
    assert!(asked.lock().is_empty(), "{:?}", asked.lock());
    assert!(joined.evaluate(of("other")).await.unwrap().is_some());
    assert_eq!(joined.evaluate(WholeQuery { reads: Vec::new(), ..of("vector(1)") }).await.unwrap(), None);
    let mut selected = joined.select(of("up").reads.remove(0)).await.unwrap().into_series();
    selected.sort_by(|a, b| a.labels.cmp(&b.labels));
    // What lies before the range is not taken, though Prometheus 2 may give it.
    let shown: Vec<(String, Vec<f64>)> =
        selected.iter().map(|one| (one.labels.to_string(), one.values.clone())).collect();
    assert_eq!(shown, [(r#"up{job="ours"}"#.to_owned(), vec![5.0]), (r#"up{job="theirs"}"#.to_owned(), vec![1.0])]);
    assert_eq!(joined.series(vec![of("up").reads.remove(0).matchers], at(0), at(9000)).await.unwrap().len(), 2);
    let values = joined.label_values("job".to_owned(), Vec::new(), Timestamp::MIN, Timestamp::MAX).await.unwrap();
    assert_eq!(values, ["__name__", "job", "ours", "theirs"]);
    let names = joined.label_names(Vec::new(), Timestamp::MIN, Timestamp::MAX).await.unwrap();
    assert_eq!(names, ["__name__", "job", "theirs"]);
    let (values_path, _) = asked.lock().iter().find(|(path, _)| path.contains("/label/job/")).cloned().unwrap();
    assert_eq!(values_path, "/api/v1/label/job/values");
}

#[test]
fn a_configuration_that_cannot_work_is_refused_with_its_mend() {
    let check = |yaml: &str, expect: &str| {
        let problems = config(yaml).problems();
        assert!(problems.iter().any(|problem| problem.contains(expect)), "{yaml}: {problems:?}");
    };
    check("url: prometheus:9090", "write http:// or https://");
    check("url: ''", "url is not an address");
    check("url: http://p/api/v1/", "which is added by itself");
    check("url: http://p/?dedup=true", "no query");
    check("{url: http://p, timeout: 0s}", "timeout must be longer");
    check("{url: http://p, bearer_token: a, basic_auth: {username: b}}", "at most one of");
    assert_eq!(
        config("{url: 'https://mimir/prometheus', basic_auth: {username: a, password: b}}").problems(),
        Vec::<String>::new()
    );
    let (missing, problems) = crate::yaml::decode::<Config>("timeout: 1s");
    assert!(missing.is_none() && problems[0].to_string().contains("\"url\" is missing"), "{problems:?}");
}
