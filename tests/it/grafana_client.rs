//! Grafana's Prometheus data source, request by request as it sends them: its backend (`pkg/promlib` of Grafana) asks
//! queries, its browser part (npm `@grafana/prometheus`) resources; of both the methods, encodings, limits and rules of
//! trying again are replayed against the real router.

use reqwest::Method;
use serde_json::{Value, json};

use crate::api::{Answer, Parts, Server, append, empty_head};

/// Two services of a histogram, `up`, and a metric that only UTF-8 can name; each ten seconds for two minutes.
async fn server() -> Server {
    let head = empty_head();
    let times = || (0..=12).map(|i| 1_700_000_000_000 + i * 10_000);
    for service in ["cart", "payment"] {
        for (le, rise) in [("0.1", 1.0), ("1", 2.0), ("+Inf", 3.0)] {
            let labels = [("__name__", "http_request_duration_seconds_bucket"), ("service", service), ("le", le)];
            append(&head, &labels, times().map(|at| (at, rise * (at - 1_700_000_000_000) as f64)));
        }
        append(&head, &[("__name__", "up"), ("job", "mesh"), ("service", service)], times().map(|at| (at, 1.0)));
    }
    append(&head, &[("__name__", "my.requests"), ("http.method", "GET")], times().map(|at| (at, 7.0)));
    Server::start(Parts { head: Some(head), ..Parts::default() }).await
}

/// One request of a resource, as the browser part makes it: a form for what may be posted, and the same with GET when the
/// answer is 400 or 405.
async fn resource(server: &Server, path: &str, form: &str) -> (Vec<(Method, u16)>, Answer) {
    // The browser part looks for these as parts of the path, so the exemplars go with the queries.
    let posted = ["api/v1/query", "api/v1/query_range", "api/v1/series", "api/v1/labels"];
    let mut tried = Vec::new();
    if posted.iter().any(|one| path.contains(one)) {
        let answer = server.post(path, form).await;
        tried.push((Method::POST, answer.status));
        if answer.status != 400 && answer.status != 405 {
            return (tried, answer);
        }
    }
    let answer = server.get(&format!("{path}?{form}")).await;
    tried.push((Method::GET, answer.status));
    (tried, answer)
}

fn data(answer: &Answer) -> Value {
    let json = answer.json();
    assert_eq!((answer.status, &json["status"]), (200, &json!("success")), "{}", answer.body);
    json["data"].clone()
}

#[tokio::test]
async fn save_and_test_is_a_posted_query_and_then_the_build() {
    let server = server().await;
    let answer = server.post("/api/v1/query", "query=1%2B1&time=4").await;
    assert_eq!(answer.body, r#"{"status":"success","data":{"resultType":"scalar","result":[4,"2"]}}"#);
    let build = server.get("/api/v1/status/buildinfo").await;
    let build = data(&build);
    // With `features` Grafana takes us for Mimir; without a version it does not know that labels can be matched.
    assert!(build.get("features").is_none(), "{build}");
    let version: Vec<u32> =
        build["version"].as_str().expect("a version").split('.').map(|part| part.parse().expect("a number")).collect();
    assert!(version >= vec![2, 24, 0], "{version:?}");
}

#[tokio::test]
async fn queries_come_as_forms_or_in_the_url_and_are_answered_alike() {
    let server = server().await;
    for (path, form, kind, count) in [
        // Times are seconds with as many decimals as they need, the step too; Go writes a plus for a blank.
        ("/api/v1/query_range", "end=1700000120&query=up&start=1700000000&step=15", "matrix", 2),
        (
            "/api/v1/query_range",
            "end=1700000120.5&query=sum+by%28service%29+%28up%29&start=1700000000.25&step=0.5",
            "matrix",
            2,
        ),
        ("/api/v1/query_range", "end=1700000120&query=up&start=1700000000&step=15&timeout=60s", "matrix", 2),
        (
            "/api/v1/query_range",
            "end=1700000120&query=histogram_quantile%280.95%2C+sum+by%28le%2C+service%29+%28rate%28http_request_duration_seconds_bucket%5B1m0s%5D%29%29%29&start=1700000060&step=15",
            "matrix",
            2,
        ),
        (
            "/api/v1/query_range",
            "end=1700000120&query=sum+by%28le%29%28http_request_duration_seconds_bucket%29&start=1700000000&step=15",
            "matrix",
            3,
        ),
        ("/api/v1/query", "query=up&time=1700000120", "vector", 2),
        ("/api/v1/query", "query=up%7Bservice%3D%22none%22%7D&time=1700000120", "vector", 0),
        ("/api/v1/query", "query=up%5B1m%5D&time=1700000120", "matrix", 2),
    ] {
        let posted = server.post(path, form).await;
        let got = server.get(&format!("{path}?{form}")).await;
        assert_eq!((posted.status, &posted.body), (200, &got.body), "{path} {form}");
        let result = data(&posted);
        assert_eq!(result["resultType"], kind, "{form}");
        // An empty result is a list: the converter does not bear null.
        let list = result["result"].as_array().unwrap_or_else(|| panic!("{form}: {result}"));
        assert_eq!(list.len(), count, "{form}");
    }
}

#[tokio::test]
async fn the_probe_for_exemplars_asks_in_milliseconds_and_succeeds() {
    let server = server().await;
    // Both parts of the form: seconds belong there, and Grafana sends milliseconds.
    let (tried, answer) =
        resource(&server, "/api/v1/query_exemplars", "query=test&start=1700000000000&end=1700001800000").await;
    assert_eq!(tried, [(Method::POST, 200)]);
    assert_eq!(answer.body, r#"{"status":"success","data":[]}"#);
    let real = "end=1700000120&query=http_request_duration_seconds_bucket&start=1700000000";
    assert_eq!(data(&server.post("/api/v1/query_exemplars", real).await), json!([]));
    assert_eq!(data(&server.get(&format!("/api/v1/query_exemplars?{real}")).await), json!([]));
}

#[tokio::test]
async fn the_label_browser_finds_names_values_and_series_within_its_limit() {
    let server = server().await;
    let range = "start=1700000000&end=1700000120";
    for (path, form, expect) in [
        (
            "/api/v1/label/__name__/values",
            format!("limit=40000&{range}"),
            json!(["http_request_duration_seconds_bucket", "my.requests", "up"]),
        ),
        ("/api/v1/label/__name__/values", format!("limit=1&{range}"), json!(["http_request_duration_seconds_bucket"])),
        // 0 is no limit.
        ("/api/v1/label/service/values", format!("limit=0&{range}"), json!(["cart", "payment"])),
        (
            "/api/v1/label/service/values",
            format!("limit=40000&{range}&match%5B%5D=up%7Bjob%3D%22mesh%22%7D"),
            json!(["cart", "payment"]),
        ),
        (
            "/api/v1/label/service/values",
            format!("limit=40000&{range}&match%5B%5D=%7B__name__%3D%22nosuch%22%7D"),
            json!([]),
        ),
        // Names that are not of the old kind come escaped, and in selectors quoted.
        ("/api/v1/label/U__http_2e_method/values", format!("limit=40000&{range}"), json!(["GET"])),
        (
            "/api/v1/label/service/values",
            format!("limit=40000&{range}&match%5B%5D=%7B%22http.method%22%3D%22GET%22%7D"),
            json!([]),
        ),
        ("/api/v1/labels", format!("limit=40000&{range}"), json!(["__name__", "http.method", "job", "le", "service"])),
        ("/api/v1/labels", format!("limit=40000&{range}&match%5B%5D=up"), json!(["__name__", "job", "service"])),
        ("/api/v1/labels", format!("limit=2&{range}"), json!(["__name__", "http.method"])),
    ] {
        let (tried, answer) = resource(&server, path, &form).await;
        assert_eq!(tried.len(), 1, "{path}?{form}: {tried:?}");
        assert_eq!(data(&answer), expect, "{path}?{form}");
        if let (true, Some(warning)) = (form.contains("limit=1&"), answer.json()["warnings"][0].as_str()) {
            assert_eq!(warning, "results truncated due to limit");
        }
    }
    // What the browser asks when it knows no matcher, and when a label must be there.
    for (selector, count) in [
        ("%7B__name__!%3D%22%22%7D", 9),
        ("%7Bservice!%3D%22%22%7D", 8),
        ("%7B__name__%3D%22up%22%2Cservice!%3D%22%22%7D", 2),
    ] {
        let (tried, answer) =
            resource(&server, "/api/v1/series", &format!("{range}&match%5B%5D={selector}&limit=40000")).await;
        assert_eq!(tried, [(Method::POST, 200)]);
        assert_eq!(data(&answer).as_array().map(Vec::len), Some(count), "{selector}");
        let cut = resource(&server, "/api/v1/series", &format!("{range}&match%5B%5D={selector}&limit=1")).await.1;
        assert_eq!(data(&cut).as_array().map(Vec::len), Some(1), "{selector}");
    }
}

#[tokio::test]
async fn what_is_asked_at_start_is_there_and_has_the_expected_shape() {
    let server = server().await;
    let metadata = data(&server.get("/api/v1/metadata?limit=40000").await);
    assert!(metadata.is_object(), "{metadata}");
    let rules = data(&server.get("/api/v1/rules").await);
    assert!(rules["groups"].is_array(), "{rules}");
    // The alerting pages of Grafana ask in pages.
    let paged = data(&server.get("/api/v1/rules?exclude_alerts=true&group_limit=40").await);
    assert!(paged["groups"].is_array(), "{paged}");
    assert!(data(&server.get("/api/v1/alerts").await)["alerts"].is_array());
    // A variable's `query_result()` is a query at the end of the range.
    let (tried, answer) = resource(&server, "/api/v1/query", "query=sum%20by%20(service)%20(up)&time=1700000120").await;
    assert_eq!((tried, data(&answer)["result"].as_array().map(Vec::len)), (vec![(Method::POST, 200)], Some(2)));
}

#[tokio::test]
async fn a_request_that_is_wrong_is_asked_twice_and_refused_twice_in_the_same_words() {
    let server = server().await;
    for (path, form, part) in [
        ("/api/v1/labels", "match%5B%5D=%7B&limit=40000", "parse error"),
        ("/api/v1/series", "match%5B%5D=%7B%7D", "match[] must contain at least one non-empty matcher"),
        ("/api/v1/series", "limit=40000", "no match[] parameter provided"),
        ("/api/v1/query", "query=sum(&time=4", "unclosed left parenthesis"),
        ("/api/v1/query_range", "query=up&start=2&end=1&step=1", "end timestamp must not be before start time"),
        ("/api/v1/query_range", "query=up&start=0&end=11001&step=1", "exceeded maximum resolution of 11,000 points"),
        ("/api/v1/query_exemplars", "query=sum(", "unclosed left parenthesis"),
    ] {
        let posted = server.post(path, form).await;
        let (tried, answer) = resource(&server, path, form).await;
        assert_eq!(tried, [(Method::POST, 400), (Method::GET, 400)], "{path}");
        assert_eq!(posted.body, answer.body, "{path}");
        let json = answer.json();
        assert_eq!((&json["status"], &json["errorType"]), (&json!("error"), &json!("bad_data")), "{path}");
        assert!(json["error"].as_str().is_some_and(|error| error.contains(part)), "{path}: {json}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    // What fails while it runs is 422, which nobody asks again.
    let (tried, answer) = resource(&server, "/api/v1/query", "query=up%20*%20on(job)%20up&time=1700000120").await;
    assert_eq!((tried, &answer.json()["errorType"]), (vec![(Method::POST, 422)], &json!("execution")));
    // Endpoints that have no POST say so with 405, on which the same is asked with GET.
    let refused = server.post("/api/v1/label/service/values", "limit=1").await;
    assert_eq!((refused.status, refused.header("allow").is_some()), (405, true));
    assert_eq!(data(&server.get("/api/v1/label/service/values?limit=1").await), json!(["cart"]));
}

#[tokio::test]
async fn suggestions_and_the_search_of_other_servers_are_refused_in_a_way_that_grafana_bears() {
    let server = server().await;
    // Both are off unless the data source says so; a body that is no JSON would be shown as a broken answer.
    for path in ["/api/v1/search/metric_names?search=up", "/api/v1/format_queries", "/api/v1/infolabels"] {
        let answer = server.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
    }
    let answer = server.ask(Method::POST, "/suggestions", &[("content-type", "application/json")], Some("{}")).await;
    assert!([404, 405].contains(&answer.status), "{}", answer.status);
}
