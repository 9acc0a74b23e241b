//! The service graph's API: what is asked of it, and what it says to those who ask nonsense.

use std::time::Duration;

use meshscope::clock::Clock;
use meshscope::model::Timestamp;
use meshscope::model::workload::{Outcome, Reporter};
use meshscope::rollup::Rollup;
use serde_json::{Value, json};

use crate::api::{Parts, Server};
use crate::store_tables::edge_minute;

const MINUTE: Duration = Duration::from_secs(60);

/// gateway → web → cart → pay, where pay answers 503; web → ads is well. Two minutes of it, ending now.
async fn server() -> (Server, Timestamp) {
    let now = Clock::system().now();
    let rollup = Rollup::default();
    rollup.advance(now + MINUTE);
    for ago in [0, 1] {
        for (source, target, good, bad) in [
            ("gateway", "web", 900.0, 50.0),
            ("web", "cart", 450.0, 50.0),
            ("web", "ads", 500.0, 0.0),
            ("cart", "pay", 150.0, 50.0),
        ] {
            let mut minute = edge_minute(now.floor_to(MINUTE) - MINUTE * ago, Reporter::Source, source, target);
            minute.requests[0].1 = good;
            minute.requests[1] = (Outcome { code: "503".into(), grpc_status: "".into(), flags: "-".into() }, bad);
            rollup.add(minute);
        }
    }
    let whole_from = now - MINUTE * 10;
    let store = crate::postgres::store().await;
    (Server::start(Parts { rollup, store: Some((store, whole_from)), ..Parts::default() }).await, now)
}

#[tokio::test]
async fn finds_hides_focuses_and_shows_the_way() {
    let (server, _) = server().await;
    let ids = async |query: &str, of: &str| -> Vec<String> {
        let answer = server.get(&format!("/api/mesh/v1/graph?{query}")).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.body);
        let data = &answer.json()["data"];
        let list = of.split('.').fold(data, |value, part| &value[part]);
        let id = |one: &serde_json::Value| one["id"].as_str().or(one.as_str()).unwrap_or_default().to_owned();
        list.as_array().expect("a list").iter().map(|one| id(one).replace("workload:/shop/", "")).collect()
    };
    assert_eq!(ids("", "edges").await, ["cart>pay", "gateway>web", "web>ads", "web>cart"]);
    assert_eq!(ids("find=errors%20%3E%209%25", "found.edges").await, ["cart>pay", "web>cart"]);
    assert_eq!(ids("hide=name=cart", "edges").await, ["gateway>web", "web>ads"]);
    assert_eq!(ids("focus=workload:/shop/pay&hops=2", "edges").await, ["cart>pay", "web>cart"]);
    let way = "pathFrom=workload:/shop/gateway&pathTo=workload:/shop/pay";
    assert_eq!(ids(way, "path").await, ["gateway>web", "web>cart", "cart>pay"]);
    assert_eq!(ids(way, "edges").await, ["cart>pay", "gateway>web", "web>cart"]);
    assert_eq!(ids("pathFrom=workload:/shop/pay&pathTo=workload:/shop/ads", "path").await, Vec::<String>::new());
    assert_eq!(ids("namespace=nowhere", "edges").await, Vec::<String>::new());
    assert_eq!(ids("boxBy=namespace", "boxes").await.len(), 1);
    assert_eq!(ids("limit=2", "edges").await.len(), 2);
}

#[tokio::test]
async fn says_what_fails_first_whom_it_hurts_and_what_changed() {
    let (server, now) = server().await;
    let get = async |path: String| {
        let answer = server.get(&format!("/api/mesh/v1/graph/{path}")).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()["data"].clone()
    };
    let causes = get("causes".to_owned()).await;
    let first = &causes["causes"][0];
    assert_eq!((&causes["failing"], &first["edge"]), (&json!(3), &json!("workload:/shop/cart>workload:/shop/pay")));
    let is_all = |share: &Value| (share.as_f64().expect("a share") - 1.0).abs() < 1e-9;
    assert!(is_all(&first["ownShare"]) && is_all(&first["explains"][1]["share"]), "{first}");
    // Where a minute begins between the samples, a rounding error is left.
    let score = causes["causes"][1]["score"].as_f64().expect("a score");
    assert!(score.abs() < 1e-9, "all of its errors come from below: {score}");

    let hurt = get("blast-radius?node=workload:/shop/pay".to_owned()).await;
    let list: Vec<(&str, f64)> = hurt["hurt"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| (one["node"].as_str().unwrap_or_default(), one["share"].as_f64().unwrap_or_default()))
        .collect();
    let expect = [("workload:/shop/web", 0.5), ("workload:/shop/gateway", 0.5), ("workload:/shop/cart", 1.0)];
    assert_eq!(list, expect, "{hurt}");

    let film = get(format!("replay?from={}&to={now}&step=1m", now.floor_to(MINUTE) - MINUTE * 2)).await;
    let rates: Vec<usize> = film["frames"]
        .as_array()
        .expect("frames")
        .iter()
        .map(|frame| frame["edges"].as_array().map_or(0, Vec::len))
        .collect();
    assert!(rates == [0, 4, 4] || rates == [0, 4], "{film}");
    assert_eq!((&film["stepSeconds"], film["edges"].as_array().map(Vec::len)), (&json!(60), Some(4)));

    let start = now.floor_to(MINUTE) - MINUTE;
    let compared = get(format!("compare?start={start}&end={now}")).await;
    let changes = compared["changes"].as_array().expect("changes");
    assert!(changes.len() == 4 && changes.iter().all(|one| one["change"] == "new"), "{compared}");

    let offered = get("complete?expression=name%20%3D%20c".to_owned()).await;
    assert_eq!(offered["completions"][0], json!({"text": "cart", "detail": "in this graph", "from": 7}));
    let wrong = get("complete?expression=eror%20%3E".to_owned()).await;
    assert_eq!(wrong["error"]["position"], json!(0), "{wrong}");
}

#[tokio::test]
async fn gives_kialis_json() {
    let (server, now) = server().await;
    let answer = server.get("/api/mesh/v1/graph?format=kiali&boxBy=namespace").await.json();
    assert_eq!(
        (&answer["graphType"], answer["timestamp"].as_i64()),
        (&json!("workload"), Some(now_seconds(&answer, now)))
    );
    let nodes = answer["elements"]["nodes"].as_array().expect("nodes");
    assert_eq!((nodes.len(), &nodes[0]["data"]["isBox"]), (6, &json!("namespace")), "{answer}");
    let edge = &answer["elements"]["edges"][0]["data"];
    assert_eq!((&edge["healthStatus"], &edge["traffic"]["protocol"]), (&json!("Failure"), &json!("http")), "{edge}");
    assert_eq!(edge["traffic"]["rates"]["httpPercentErr"], json!("25.0"), "{edge}");
    assert_eq!(
        edge["traffic"]["responses"]["503"],
        json!({"flags": {"-": "25.0"}, "hosts": {"pay": "25.0"}}),
        "{edge}"
    );
}

/// The answer's own time, when it is that of now.
fn now_seconds(answer: &serde_json::Value, now: Timestamp) -> i64 {
    let at = answer["timestamp"].as_i64().unwrap_or_default();
    if (at - now.as_millis() / 1000).abs() < 60 { at } else { now.as_millis() / 1000 }
}

#[tokio::test]
async fn nonsense_is_refused_with_its_name() {
    let (server, now) = server().await;
    let future = now + Duration::from_secs(7200);
    for (path, status, part) in [
        ("graph?start=20&end=10".to_owned(), 400, "end"),
        ("graph?idle=null".to_owned(), 400, "idle"),
        (format!("graph?end={future}"), 200, ""),
        (format!("graph?start={future}&end={}", future + Duration::from_secs(60)), 400, "in the future"),
        ("graph?start=1970-01-01T00:00:00Z".to_owned(), 400, "400 days"),
        ("graph?find=eror%3E1".to_owned(), 400, "the nearest is `errors`"),
        ("graph?hide=(".to_owned(), 400, "hide"),
        ("graph?focus=workload:/shop/nobody".to_owned(), 404, "workload:/shop/nobody"),
        ("graph?focus=%3Cscript%3E%E2%80%AE%0A".to_owned(), 404, "no node"),
        (format!("graph?focus={}", "x".repeat(4096)), 404, "no node"),
        ("graph?focus=workload:/shop/pay&hops=0".to_owned(), 400, "hops"),
        ("graph?pathFrom=workload:/shop/pay".to_owned(), 400, "pathTo"),
        ("graph?boxBy=color".to_owned(), 400, "boxBy"),
        ("graph?format=xml".to_owned(), 400, "format"),
        ("graph?limit=0".to_owned(), 400, "limit"),
        ("graph/replay?step=0s".to_owned(), 400, "step"),
        ("graph/replay?from=1&to=0".to_owned(), 400, "to"),
        (format!("graph/replay?from={}&to={now}&step=1m", now - Duration::from_secs(86_400)), 400, "use 6m or more"),
        ("graph/compare?beforeStart=20&beforeEnd=10".to_owned(), 400, "beforeEnd"),
        ("graph/blast-radius".to_owned(), 400, "node"),
        ("graph/blast-radius?node=x".to_owned(), 404, "node"),
        ("graph/complete?cursor=x".to_owned(), 400, "cursor"),
    ] {
        let answer = server.get(&format!("/api/mesh/v1/{path}")).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        let error = answer.json()["error"].as_str().unwrap_or_default().to_owned();
        assert!(error.contains(part), "{path}: {error}");
    }
    // A time nobody has data of is an empty graph that says so.
    let old = server.get("/api/mesh/v1/graph?start=1000000000&end=1000003600").await;
    assert_eq!((old.status, old.json()["data"]["edges"].clone()), (200, json!([])));
    assert!(old.json()["data"]["emptyBecause"].is_string());
}
