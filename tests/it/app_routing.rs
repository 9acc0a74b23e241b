//! Routing as people get it wrong: configurations that Alertmanager refuses, templates that fail, and what keeps whom quiet.

use serde_json::json;

use crate::app::{Inbox, Target, TestApp, alert_file, eventually, new_folder, one_target, with_ports};
use crate::postgres;

const ROOT: &str = "route: {receiver: a}\nreceivers: [{name: a}]\n";

/// What `amtool check-config` of Alertmanager 0.33 says of each; the scenario `alertmanager` asks it again.
const REFUSED: &[(&str, &str)] = &[
    ("route: {receiver: nobody}\nreceivers: [{name: a}]\n", "undefined receiver \"nobody\" used in route"),
    (
        "route: {receiver: a, routes: [{receiver: nobody}]}\nreceivers: [{name: a}]\n",
        "undefined receiver \"nobody\" used in route",
    ),
    ("route: {group_by: [x]}\nreceivers: [{name: a}]\n", "root route must specify a default receiver"),
    ("route: {receiver: a, matchers: [x=y]}\nreceivers: [{name: a}]\n", "root route must not have any matchers"),
    ("route: {receiver: a, continue: true}\nreceivers: [{name: a}]\n", "cannot have continue in root route"),
    ("route: {receiver: a}\nreceivers: [{name: a}, {name: a}]\n", "notification config name \"a\" is not unique"),
    ("route: {receiver: a}\nreceivers: [{name: a}, {}]\n", "missing name in receiver"),
    ("route: {receiver: a, group_by: [x, x]}\nreceivers: [{name: a}]\n", "duplicated label \"x\" in group_by"),
    (
        "route: {receiver: a, group_by: [..., x]}\nreceivers: [{name: a}]\n",
        "cannot have wildcard group_by (`...`) and other labels at the same time",
    ),
    ("route: {receiver: a, group_by: ['']}\nreceivers: [{name: a}]\n", "invalid label name \"\" in group_by list"),
    ("route: {receiver: a, group_interval: 0s}\nreceivers: [{name: a}]\n", "group_interval cannot be zero"),
    ("route: {receiver: a, group_wait: soon}\nreceivers: [{name: a}]\n", "not a valid duration string: \"soon\""),
    (
        "route: {receiver: a, routes: [{matchers: ['a=~\"(\"']}]}\nreceivers: [{name: a}]\n",
        "error parsing regexp: missing closing ): `^(?:()$`",
    ),
    (
        "route: {receiver: a, routes: [{match_re: {a: '('}}]}\nreceivers: [{name: a}]\n",
        "error parsing regexp: missing closing ): `^(?:()$`",
    ),
    (
        "route: {receiver: a, routes: [{mute_time_intervals: [x]}]}\nreceivers: [{name: a}]\n",
        "undefined time interval \"x\" used in route",
    ),
    (
        "route: {receiver: a, active_time_intervals: [x]}\nreceivers: [{name: a}]\n",
        "root route must not have any active time intervals",
    ),
    (
        "route: {receiver: a}\nreceivers: [{name: a, webhook_configs: [{}]}]\n",
        "one of url or url_file must be configured",
    ),
    (
        "route: {receiver: a}\nreceivers: [{name: a, webhook_configs: [{url: 'http://x/', url_file: y}]}]\n",
        "at most one of url & url_file must be configured",
    ),
];

/// Times that Alertmanager refuses, as the fields of one interval.
const REFUSED_TIMES: &[(&str, &str)] = &[
    ("times: [{start_time: '17:00', end_time: '09:00'}]", "start time cannot be equal or greater than end time"),
    ("times: [{start_time: '17:00', end_time: '17:00'}]", "start time cannot be equal or greater than end time"),
    ("weekdays: ['friday:monday']", "start day cannot be before end day"),
    ("months: ['december:january']", "end month january is before start month december"),
    ("days_of_month: ['20:10']", "end day 10 is always before start day 20"),
    ("days_of_month: ['-1:1']", "end day must be negative if start day is negative"),
    ("days_of_month: ['0']", "0 is not a valid day of the month: out of range"),
    ("years: ['2021:2020']", "end year 2020 is before start year 2021"),
    ("location: 'Nowhere/X'", "unknown time zone Nowhere/X"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configurations_that_alertmanager_refuses_are_refused_in_its_words_and_the_old_one_stays() {
    let database = postgres::database().await;
    let folder = new_folder();
    let app = TestApp::start_in(&folder, &with_ports(&database, ROOT)).await;
    let reload = async |blocks: &str| {
        std::fs::write(&app.file, with_ports(&database, blocks)).expect("write");
        app.reload().await
    };
    let of_times = |fields: &str| format!("{ROOT}time_intervals: [{{name: t, time_intervals: [{{{fields}}}]}}]\n");
    let times = REFUSED_TIMES.iter().map(|(fields, text)| (of_times(fields), *text));
    for (blocks, text) in REFUSED.iter().map(|(blocks, text)| ((*blocks).to_owned(), *text)).chain(times) {
        let (status, answer) = reload(&blocks).await;
        assert_eq!(status, 500, "{blocks}{answer}");
        assert!(answer.starts_with("failed to reload config:") && answer.contains(text), "{text}\nnot in\n{answer}");
    }
    let receivers = app.get("/alertmanager/api/v2/receivers").await.1;
    assert!(receivers.contains("\"name\":\"a\"") && !receivers.contains("nobody"), "{receivers}");
    // Times that overlap are allowed there, too; a block that it has and we do not loads with a warning.
    let overlap = "times: [{start_time: '09:00', end_time: '17:00'}, {start_time: '12:00', end_time: '20:00'}]";
    assert_eq!(reload(&of_times(overlap)).await, (200, String::new()));
    assert_eq!(reload(&format!("{ROOT}event_recorder: {{}}\ntracing: {{}}\n")).await, (200, String::new()));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_template_that_fails_at_run_time_costs_its_own_delivery_and_inhibition_is_explained() {
    let database = postgres::database().await;
    let (inbox, webhook) = Inbox::new().await;
    let blocks = format!(
        "
route:
  receiver: good
  group_by: [...]
  group_wait: 0s
  routes: [{{receiver: broken, matchers: [team=b], continue: true}}, {{receiver: good}}]
receivers:
- {{name: good, webhook_configs: [{{url: 'http://{webhook}/'}}]}}
- {{name: broken, webhook_configs: [{{url: 'http://{webhook}/', payload: {{x: '{{{{ (index .Alerts 99).Status }}}}'}}}}]}}
inhibit_rules:
- {{source_matchers: [severity=page], target_matchers: [severity=warn], equal: [cluster]}}
"
    );
    let app = TestApp::start_in(&new_folder(), &with_ports(&database, &blocks)).await;
    let post = async |alerts: serde_json::Value| {
        let post = reqwest::Client::new().post(format!("http://{}/alertmanager/api/v2/alerts", app.web));
        let post = post.header("content-type", "application/json").body(alerts.to_string());
        post.send().await.expect("an answer").status().as_u16()
    };
    let page = json!({"labels": {"alertname": "Down <b>", "severity": "page", "cluster": "c", "team": "b"}});
    assert_eq!(post(json!([page])).await, 200);
    inbox.wait_for("firing Down <b>").await;
    let failed = eventually("the broken template is listed", async || {
        let listed = app.data("/api/mesh/v1/notifications?state=failed").await;
        listed["notifications"].as_array()?.first().cloned()
    })
    .await;
    assert_eq!(failed["receiver"], "broken");
    let reason = failed["lastError"].as_str().expect("a reason");
    assert!(reason.contains("index") && reason.contains("99"), "{reason}");

    let tested = app.get("/routes?labels=severity%3Dwarn%0Acluster%3Dc").await.1;
    for part in ["muted now", "Down &#60;b&#62;", "inhibit_rules[0]", "severity=&#34;page&#34;", "cluster=&#34;c&#34;"]
    {
        assert!(tested.contains(part), "{part} is not in {tested}");
    }
    let other = app.get("/routes?labels=severity%3Dwarn%0Acluster%3Dd").await.1;
    assert!(other.contains("would mute it; no alert fires now with"), "{other}");
    let none = app.get("/routes?labels=severity%3Dinfo").await.1;
    assert!(!none.contains("would mute it") && !none.contains("muted now"), "{none}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_of_rules_shows_state_timing_and_what_the_linter_says() {
    let database = postgres::database().await;
    let target = Target::new("errors 5\nistio_requests_total{reporter=\"source\",response_code=\"503\"} 7\n").await;
    let folder = new_folder();
    std::fs::write(folder.join("rules.yaml"), alert_file("Errors", "errors > 0", "0s")).expect("write");
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/alerts/examples/guide.yaml");
    std::fs::copy(guide, folder.join("rules-guide.yaml")).expect("the guide's rule");
    let (_, webhook) = Inbox::new().await;
    let app = TestApp::start_in(&folder, &with_ports(&database, &one_target(target.address, webhook))).await;
    app.query_becomes("count(ALERTS{alertname=\"Errors\", alertstate=\"firing\"})", 1.0).await;
    let page = eventually("the linter has spoken", async || {
        let page = app.get("/rules").await.1;
        page.contains("counter-compared").then_some(page)
    })
    .await;
    for part in [
        "HighErrorRate",
        "fires forever after the first 5xx",
        "Instead",
        "1 firing, 0 pending",
        "errors &#62; 0",
        "every 1 s",
        "took",
    ] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    let narrowed = app.get("/rules?state=findings&q=high").await.1;
    assert!(
        narrowed.contains("HighErrorRate") && !narrowed.contains("<strong class=\"break\">Errors</strong>"),
        "{narrowed}"
    );
    app.stop().await;
}
