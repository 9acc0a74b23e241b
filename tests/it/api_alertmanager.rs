//! Alertmanager's API: shapes, statuses and texts as Alertmanager 0.33.1 was seen to give them. The end-to-end scenario
//! `alertmanager` sends the same requests to both.

use reqwest::Method;
use serde_json::{Value, json};

use crate::api::{Answer, Parts, Server};

const CONFIGURATION: &str = "
route:
  receiver: root
  group_by: [alertname]
  routes:
  - {receiver: db, matchers: ['service=~\"pg|redis\"'], continue: true}
  - {receiver: team.x, matchers: [severity=page]}
receivers: [{name: root}, {name: db}, {name: team.x}]
inhibit_rules: [{source_matchers: ['severity=\"page\"'], target_matchers: ['severity=\"warn\"'], equal: [cluster]}]
";
const ALERTS: &str = "/alertmanager/api/v2/alerts";
const SILENCES: &str = "/alertmanager/api/v2/silences";

async fn server() -> Server {
    Server::start(Parts { alertmanager: Some(CONFIGURATION), ..Parts::default() }).await
}

async fn send(server: &Server, path: &str, body: &str) -> Answer {
    server.ask(Method::POST, path, &[("content-type", "application/json")], Some(body)).await
}

async fn check(server: &Server, path: &str, body: &str, status: u16, expect: &str) {
    let answer = send(server, path, body).await;
    assert_eq!((answer.status, answer.body.as_str()), (status, expect), "{path} {body}");
}

#[tokio::test]
async fn refuses_bad_alerts_in_alertmanagers_words() {
    let server = server().await;
    let check = |body: &'static str, status, expect: &'static str| check(&server, ALERTS, body, status, expect);
    check("[]", 200, "").await;
    check("null", 200, "").await;
    check("", 422, r#"{"code":602,"message":"alerts in body is required"}"#).await;
    check(
        "{}",
        400,
        r#"{"code":400,"message":"parsing alerts body from \"\" failed, because json: cannot unmarshal object into Go value of type models.PostableAlerts"}"#,
    )
    .await;
    check("[{", 400, r#"{"code":400,"message":"parsing alerts body from \"\" failed, because unexpected EOF"}"#).await;
    check("[{}]", 422, r#"{"code":602,"message":"0.labels in body is required"}"#).await;
    check(r#"[{"labels":{}}]"#, 400, "\"at least one label pair required\"\n").await;
    check(r#"[{"labels":{"":"x"}}]"#, 400, "\"invalid label set: invalid name \\\"\\\"\"\n").await;
    check(
        r#"[{"labels":{"a":1}}]"#,
        400,
        r#"{"code":400,"message":"parsing alerts body from \"\" failed, because json: cannot unmarshal number into Go struct field Alert.labels.a of type string"}"#,
    )
    .await;
    check(
        r#"[{"labels":{"a":"b"},"startsAt":"rubbish"}]"#,
        400,
        r#"{"code":400,"message":"parsing alerts body from \"\" failed, because parsing time \"rubbish\" as \"2006-01-02\": cannot parse \"rubbish\" as \"2006\""}"#,
    )
    .await;
    check(
        r#"[{"labels":{"a":"b"},"generatorURL":"foo"}]"#,
        422,
        r#"{"code":601,"message":"0.generatorURL in body must be of type uri: \"foo\""}"#,
    )
    .await;
    let text = server.ask(Method::POST, ALERTS, &[("content-type", "text/plain")], Some("[]")).await;
    let expect =
        r#"{"code":415,"message":"unsupported media type \"text/plain\", only [application/json] are allowed"}"#;
    assert_eq!((text.status, text.body.as_str()), (415, expect));
    let put = server.ask(Method::DELETE, ALERTS, &[], None).await;
    let expect = r#"{"code":405,"message":"method DELETE is not allowed, but [GET,POST] are"}"#;
    assert_eq!((put.status, put.body.as_str()), (405, expect));
    let unknown = server.get("/alertmanager/api/v2/nothing").await;
    let expect = r#"{"code":404,"message":"path /api/v2/nothing was not found"}"#;
    assert_eq!((unknown.status, unknown.body.as_str()), (404, expect));
}

#[tokio::test]
async fn keeps_the_valid_alerts_of_a_batch_and_shows_what_mutes_them() {
    let server = server().await;
    let batch = json!([
        {"labels": {"alertname": "P", "severity": "page", "cluster": "c"}},
        {"labels": {}},
        {"labels": {"alertname": "W", "severity": "warn", "cluster": "c", "empty": ""}, "generatorURL": "http://p/g"},
        {"labels": {"alertname": "R", "service": "pg", "severity": "page"}, "startsAt": "2026-11-22T10:00:00.5+02:00"},
    ]);
    check(&server, ALERTS, &batch.to_string(), 400, "\"at least one label pair required\"\n").await;
    let listed = server.get(ALERTS).await.json();
    let names = |list: &Value| -> Vec<String> {
        let alerts = list.as_array().expect("a list").iter();
        alerts.map(|alert| alert["labels"]["alertname"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(names(&listed), ["P", "W", "R"], "by fingerprint");
    assert_eq!(listed[0]["fingerprint"], "1dd06e58c67d1c8b");
    assert_eq!(listed[0]["status"], json!({"inhibitedBy": [], "mutedBy": [], "silencedBy": [], "state": "active"}));
    assert_eq!(listed[1]["status"]["inhibitedBy"], json!(["1dd06e58c67d1c8b"]));
    assert_eq!(listed[1]["labels"], json!({"alertname": "W", "severity": "warn", "cluster": "c"}));
    assert_eq!(listed[2]["receivers"], json!([{"name": "db"}, {"name": "team.x"}]));
    assert_eq!(listed[2]["startsAt"], "2026-11-22T08:00:00.500Z");
    for (query, expect) in [
        ("active=false", vec!["W"]),
        ("inhibited=false", vec!["P", "R"]),
        ("receiver=db", vec!["R"]),
        ("receiver=d", vec![]),
        ("filter=severity%3Dpage&filter=service%3D%22%22", vec!["P"]),
        ("filter=service!%3D%22%22", vec!["R"]),
    ] {
        assert_eq!(names(&server.get(&format!("{ALERTS}?{query}")).await.json()), expect, "{query}");
    }
    for (query, expect) in [
        ("filter=alertname", r#""bad matcher format: alertname""#),
        ("receiver=(", r#""failed to parse receiver param: error parsing regexp: missing closing ): `^(?:()$`""#),
    ] {
        let answer = server.get(&format!("{ALERTS}?{query}")).await;
        assert_eq!((answer.status, answer.body.trim()), (400, expect));
    }
    let groups = server.get("/alertmanager/api/v2/alerts/groups").await.json();
    let shown: Vec<(&Value, &Value)> = groups
        .as_array()
        .expect("a list")
        .iter()
        .map(|g| (&g["labels"]["alertname"], &g["receiver"]["name"]))
        .collect();
    let expect = json!(["P", "team.x", "R", "db", "R", "team.x", "W", "root"]);
    assert_eq!(json!(shown.into_iter().flat_map(|(a, b)| [a, b]).collect::<Vec<_>>()), expect);
}

fn silence(more: &Value) -> String {
    let mut silence = json!({
        "matchers": [{"name": "alertname", "value": "W", "isRegex": false}],
        "startsAt": "2020-01-01T00:00:00Z",
        "endsAt": "2099-01-01T00:00:00Z",
        "createdBy": "me",
        "comment": "c",
    });
    for (key, value) in more.as_object().expect("fields") {
        silence[key] = value.clone();
    }
    silence.to_string()
}

#[tokio::test]
async fn refuses_bad_silences_in_alertmanagers_words() {
    let server = server().await;
    let matcher = |more: Value| {
        let mut matcher = json!({"name": "a", "value": "b", "isRegex": false});
        more.as_object().expect("fields").iter().for_each(|(key, value)| matcher[key] = value.clone());
        json!({ "matchers": [matcher] })
    };
    for (more, status, expect) in [
        (json!({"matchers": null}), 422, r#"{"code":602,"message":"matchers in body is required"}"#),
        (json!({"matchers": []}), 422, r#"{"code":612,"message":"matchers in body should have at least 1 items"}"#),
        (json!({"comment": null}), 422, r#"{"code":602,"message":"comment in body is required"}"#),
        (json!({"startsAt": null}), 422, r#"{"code":602,"message":"startsAt in body is required"}"#),
        (json!({"matchers": [{}]}), 422, r#"{"code":602,"message":"matchers.0.isRegex in body is required"}"#),
        (
            matcher(json!({"value": "(", "isRegex": true})),
            400,
            r#""invalid silence: invalid label matcher 0 in set 0: invalid regular expression \"(\": error parsing regexp: missing closing ): `(`""#,
        ),
        (
            matcher(json!({"name": ""})),
            400,
            r#""invalid silence: invalid label matcher 0 in set 0: invalid label name \"\"""#,
        ),
        (
            matcher(json!({"value": ""})),
            400,
            r#""invalid silence: matcher set 0: at least one matcher must not match the empty string""#,
        ),
        (
            json!({"endsAt": "2019-01-01T00:00:00Z"}),
            400,
            r#""Failed to create silence: start time must be before end time""#,
        ),
        (
            json!({"endsAt": "2021-01-01T00:00:00Z"}),
            400,
            r#""Failed to create silence: end time can't be in the past""#,
        ),
        (json!({"id": "nope"}), 404, r#""silence not found""#),
    ] {
        let answer = send(&server, SILENCES, &silence(&more)).await;
        assert_eq!((answer.status, answer.body.trim()), (status, expect), "{more}");
    }
    let nobody = server.get("/alertmanager/api/v2/silence/11111111-1111-1111-1111-111111111111").await;
    assert_eq!((nobody.status, nobody.body.as_str()), (404, ""));
    let nope = server.get("/alertmanager/api/v2/silence/nope").await;
    let expect = r#"{"code":601,"message":"silenceID in path must be of type uuid: \"nope\""}"#;
    assert_eq!((nope.status, nope.body.as_str()), (422, expect));
}

#[tokio::test]
async fn a_silence_mutes_is_previewed_and_ends() {
    let server = server().await;
    send(&server, ALERTS, r#"[{"labels":{"alertname":"W","i":"1"}},{"labels":{"alertname":"X"}}]"#).await;
    let preview = server.get("/api/mesh/v1/silences/preview?matcher=alertname%3DW").await.json();
    assert_eq!((&preview["data"]["matched"], &preview["data"]["total"]), (&json!(1), &json!(2)));
    assert_eq!(preview["data"]["alerts"][0]["receivers"], json!(["root"]));
    assert_eq!(server.get("/api/mesh/v1/silences/preview?matcher=a%3D~.*").await.status, 400);

    let id = send(&server, SILENCES, &silence(&json!({}))).await.json()["silenceID"].clone();
    let shown = server.get(&format!("{ALERTS}?active=false")).await.json();
    assert_eq!(shown[0]["status"]["silencedBy"], json!([id]));
    let path = format!("/alertmanager/api/v2/silence/{}", id.as_str().expect("an id"));
    let one = server.get(&path).await.json();
    assert_eq!(one["status"]["state"], "active");
    assert_eq!(one["matchers"], json!([{"isEqual": true, "isRegex": false, "name": "alertname", "value": "W"}]));
    let foreign = [("origin", "http://evil.example")];
    assert_eq!(server.ask(Method::DELETE, &path, &foreign, None).await.status, 403);
    assert_eq!(server.ask(Method::POST, ALERTS, &foreign, Some("[]")).await.status, 403);
    assert_eq!(server.ask(Method::GET, ALERTS, &foreign, None).await.status, 200);
    assert_eq!(server.ask(Method::DELETE, &path, &[], None).await.status, 200);
    assert_eq!(server.get(&path).await.json()["status"]["state"], "expired");
    assert_eq!(server.get(&format!("{ALERTS}?active=false")).await.json(), json!([]));
}

#[tokio::test]
async fn says_who_it_is_and_refuses_a_retry_of_what_is_not_there() {
    let server = server().await;
    let status = server.get("/alertmanager/api/v2/status").await.json();
    assert_eq!(status["config"]["original"], CONFIGURATION);
    assert_eq!(status["cluster"], json!({"peers": [], "status": "disabled"}));
    let receivers = server.get("/alertmanager/api/v2/receivers").await;
    assert!(receivers.body.starts_with(r#"[{"labels":{"name":"root"},"name":"root"},"#), "{}", receivers.body);
    for path in ["/alertmanager/-/healthy", "/alertmanager/-/ready"] {
        assert_eq!(server.get(path).await.body, "OK");
    }
    assert_eq!(server.get("/alertmanager/api/v1/alerts").await.status, 410);
    let listed = server.get("/api/mesh/v1/notifications").await.json();
    assert_eq!(listed["data"]["notifications"], json!([]));
    let retry = |id: &'static str| server.ask(Method::POST, id, &[], None);
    assert_eq!(retry("/api/mesh/v1/notifications/7/retry").await.status, 404);
    assert_eq!(retry("/api/mesh/v1/notifications/x/retry").await.status, 400);
}
