//! The dispatcher against a real HTTP receiver, and hours of alerts in paused time.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::clock::Clock;
use crate::model::{AlertState, Labels};
use crate::notify::{Config, Inhibition, Plan, PostError, Posted, Silence, parse_matchers};

#[path = "tests/annotated.rs"]
mod annotated;
#[path = "tests/hostile.rs"]
mod hostile;
#[path = "tests/inhibited.rs"]
mod inhibited;

const START: Timestamp = Timestamp::from_millis(1_763_835_000_000);

fn plan(yaml: &str) -> Arc<Plan> {
    let (config, problems) = crate::yaml::decode::<Config>(yaml);
    assert_eq!(problems, []);
    match Plan::new(&config.expect("decodes")) {
        Ok(plan) => Arc::new(plan),
        Err(errors) => panic!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")),
    }
}

fn core_of(plan: Arc<Plan>, log: Vec<LogEntry>) -> Core {
    Core::new(plan, log, Silences::default())
}

fn plan_errors(yaml: &str) -> Vec<String> {
    let (config, _) = crate::yaml::decode::<Config>(yaml);
    Plan::new(&config.expect("decodes")).err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

fn alert(labels: &[(&str, &str)], at: Timestamp) -> Alert {
    Alert {
        labels: labels.iter().copied().collect(),
        annotations: Labels::from_pairs([("summary", "it broke")]),
        state: AlertState::Firing,
        value: 1.0,
        active_at: at,
        fired_at: Some(at),
        resolved_at: None,
        keep_firing_since: None,
        valid_until: at + Duration::from_secs(3600),
        generator_url: "http://m/graph".into(),
    }
}

fn resolved(mut alert: Alert, at: Timestamp) -> Alert {
    alert.resolved_at = Some(at);
    alert
}

fn at(seconds: u64) -> Timestamp {
    START + Duration::from_secs(seconds)
}

/// Runs the pure core over time; every delivery succeeds unless `fails` says otherwise.
fn flushes(core: &mut Core, until: Timestamp, fails: impl Fn(&Notification) -> bool) -> Vec<(u64, String)> {
    let mut told = Vec::new();
    while let Some(due) = core.next_due().filter(|due| *due <= until) {
        for n in core.take_due(due) {
            let names = |fires: bool| -> Vec<&str> {
                n.alerts.iter().filter(|(_, f)| *f == fires).map(|(a, _)| a.labels.value("i")).collect()
            };
            let line =
                format!("{} {} +[{}] -[{}]", n.receiver, n.reason, names(true).join(","), names(false).join(","));
            told.push((due.since(START).as_secs(), line));
            core.finished(&n, !fails(&n));
        }
    }
    told
}

const ONE_RECEIVER: &str = "
route: {receiver: ops, group_by: [alertname], group_wait: 10s, group_interval: 1m, repeat_interval: 1h}
receivers: [{name: ops, webhook_configs: [{url: 'http://127.0.0.1:1/'}]}]
";

#[test]
fn waits_groups_repeats_and_tells_of_resolved() {
    let mut core = core_of(plan(ONE_RECEIVER), vec![]);
    let a = alert(&[("alertname", "X"), ("i", "a")], at(0));
    let b = alert(&[("alertname", "X"), ("i", "b")], at(5));
    let keep = |mut alert: Alert| {
        alert.valid_until = at(100_000);
        alert
    };
    core.accept(vec![keep(a.clone())], at(0));
    core.accept(vec![keep(b.clone())], at(5));
    let told = flushes(&mut core, at(4000), |_| false);
    assert_eq!(
        told,
        [(10, "ops first notification +[a,b] -[]".into()), (3670, "ops repeat interval elapsed +[a,b] -[]".into())]
    );
    core.accept(vec![resolved(a, at(4001))], at(4001));
    assert_eq!(flushes(&mut core, at(4100), |_| false), [(4030, "ops some alerts resolved +[b] -[a]".into())]);
    core.accept(vec![resolved(b, at(4101))], at(4101));
    assert_eq!(flushes(&mut core, at(20_000), |_| false), [(4150, "ops all alerts resolved +[] -[b]".into())]);
    assert_eq!(core.groups().count(), 0, "an empty group goes away");
}

#[test]
fn a_failed_delivery_is_tried_at_the_next_interval_and_keeps_its_resolved_alerts() {
    let mut core = core_of(plan(ONE_RECEIVER), vec![]);
    let a = alert(&[("alertname", "X"), ("i", "a")], at(0));
    core.accept(vec![a.clone()], at(0));
    assert_eq!(flushes(&mut core, at(75), |_| true).len(), 2, "the failure is not remembered as told");
    assert_eq!(flushes(&mut core, at(130), |_| false), [(130, "ops first notification +[a] -[]".into())]);
    core.accept(vec![resolved(a, at(150))], at(150));
    assert_eq!(flushes(&mut core, at(195), |_| true), [(190, "ops all alerts resolved +[] -[a]".into())]);
    assert_eq!(flushes(&mut core, at(255), |_| false), [(250, "ops all alerts resolved +[] -[a]".into())]);
    assert_eq!(flushes(&mut core, at(9000), |_| false), []);
}

#[test]
fn a_resolved_alert_that_is_sent_again_is_told_of_once() {
    let mut core = core_of(plan(ONE_RECEIVER), vec![]);
    let one = |i: &str| alert(&[("alertname", "X"), ("i", i)], at(0));
    core.accept(vec![one("a"), one("b"), one("c")], at(0));
    assert_eq!(flushes(&mut core, at(20), |_| false).len(), 1);
    let (b, c) = (resolved(one("b"), at(30)), resolved(one("c"), at(100)));
    core.accept(vec![b.clone()], at(30));
    assert_eq!(flushes(&mut core, at(80), |_| false), [(70, "ops some alerts resolved +[a,c] -[b]".into())]);
    core.accept(vec![c.clone()], at(100));
    assert_eq!(flushes(&mut core, at(140), |_| false), [(130, "ops some alerts resolved +[a] -[c]".into())]);
    for (again, until) in [(b.clone(), 200), (c, 260), (b, 320)] {
        core.accept(vec![again], at(until - 50));
        assert_eq!(flushes(&mut core, at(until), |_| false), []);
    }
    core.accept(vec![one("b")], at(330));
    assert_eq!(flushes(&mut core, at(400), |_| false), [(370, "ops new alerts added +[a,b] -[]".into())]);
}

#[test]
fn a_group_is_not_told_again_while_its_delivery_is_under_way() {
    let mut core = core_of(plan(ONE_RECEIVER), vec![]);
    core.accept(vec![alert(&[("alertname", "X"), ("i", "a")], at(0))], at(0));
    let slow = core.take_due(at(10));
    assert_eq!(slow.len(), 1);
    for seconds in 11..100 {
        assert_eq!(core.take_due(at(seconds)).len(), 0, "after {seconds} s");
    }
    core.finished(&slow[0], true);
    assert_eq!(flushes(&mut core, at(1000), |_| false), [], "it was told");

    // A delivery that never ends does not silence its group.
    core.accept(vec![alert(&[("alertname", "Y"), ("i", "a")], at(1000))], at(1000));
    let lost = core.take_due(at(1010));
    assert_eq!(lost.len(), 1);
    assert_eq!(flushes(&mut core, at(1300), |_| false), [(1190, "ops first notification +[a] -[]".into())]);
}

#[test]
fn alerts_are_told_in_alertmanagers_order() {
    let mut core = core_of(plan(ONE_RECEIVER), vec![]);
    let labels = [("1", "x", "z"), ("2", "x", "c"), ("3", "w", "b"), ("4", "x", "a")];
    for (second, (i, job, service)) in labels.into_iter().enumerate() {
        let one = alert(&[("alertname", "X"), ("i", i), ("job", job), ("a_service", service)], at(second as u64));
        core.accept(vec![one], at(second as u64));
    }
    assert_eq!(flushes(&mut core, at(20), |_| false), [(10, "ops first notification +[3,4,2,1] -[]".into())]);
}

#[test]
fn an_alert_that_is_not_heard_of_again_ends_by_itself() {
    let mut core = core_of(plan(ONE_RECEIVER), vec![]);
    let mut a = alert(&[("alertname", "X"), ("i", "a")], at(0));
    a.valid_until = at(100);
    core.accept(vec![a], at(0));
    let told = flushes(&mut core, at(600), |_| false);
    assert_eq!(told[1], (130, "ops all alerts resolved +[] -[a]".into()));
}

#[test]
fn an_alert_that_fires_anew_is_told_although_nobody_wants_to_hear_of_resolved() {
    let quiet = ONE_RECEIVER.replace("{url:", "{send_resolved: false, url:");
    let mut core = core_of(plan(&quiet), vec![]);
    let a = alert(&[("alertname", "X"), ("i", "a")], at(0));
    core.accept(vec![a.clone()], at(0));
    assert_eq!(flushes(&mut core, at(20), |_| false).len(), 1);
    core.accept(vec![resolved(a.clone(), at(30))], at(30));
    assert_eq!(flushes(&mut core, at(200), |_| false), []);
    let cleared = core.take_cleared();
    assert_eq!((cleared.len(), cleared[0].firing.len()), (1, 0), "a restart must know it too");
    let again = Alert { active_at: at(300), fired_at: Some(at(300)), ..a };
    core.accept(vec![again], at(300));
    assert_eq!(flushes(&mut core, at(320), |_| false), [(310, "ops first notification +[a] -[]".into())]);
}

#[test]
fn a_reload_does_not_lose_what_has_resolved_and_was_not_told() {
    let mut core = core_of(plan(ONE_RECEIVER), vec![]);
    let (a, b) = (alert(&[("alertname", "X"), ("i", "a")], at(0)), alert(&[("alertname", "Y"), ("i", "b")], at(0)));
    core.accept(vec![a.clone(), b], at(0));
    assert_eq!(flushes(&mut core, at(20), |_| false).len(), 2);
    core.accept(vec![resolved(a, at(30))], at(30));
    assert!(core.take_due(at(31)).is_empty());
    core.set_plan(plan(ONE_RECEIVER), at(32));
    assert_eq!(flushes(&mut core, at(200), |_| false), [(32, "ops all alerts resolved +[] -[a]".into())]);
}

#[test]
fn an_alert_that_resolved_across_a_restart_is_told() {
    let mut core = core_of(plan(ONE_RECEIVER), vec![]);
    let a = alert(&[("alertname", "X"), ("i", "a")], at(0));
    core.accept(vec![a.clone()], at(0));
    let log = core.take_due(at(10)).into_iter().map(|told| told.log).collect();
    let mut core = core_of(plan(ONE_RECEIVER), log);
    core.accept(vec![resolved(a.clone(), at(30))], at(30));
    assert_eq!(flushes(&mut core, at(200), |_| false), [(30, "ops all alerts resolved +[] -[a]".into())]);
    core.accept(vec![resolved(a, at(300))], at(300));
    assert_eq!(core.groups().count(), 0, "nobody was told that it fires");
}

#[test]
fn what_was_told_is_forgotten_with_its_group() {
    let mut core = core_of(plan(ONE_RECEIVER), vec![]);
    for round in 0..10 {
        let (name, from) = (format!("X{round}"), round * 1000);
        let a = alert(&[("alertname", &name), ("i", "a")], at(from));
        core.accept(vec![a.clone()], at(from));
        core.accept(vec![resolved(a, at(from + 20))], at(from + 20));
        flushes(&mut core, at(from + 900), |_| false);
        let a = alert(&[("alertname", &name), ("i", "b")], at(from + 900));
        core.accept(vec![a.clone()], at(from + 900));
        flushes(&mut core, at(from + 915), |_| false);
        core.accept(vec![resolved(a, at(from + 920))], at(from + 920));
    }
    flushes(&mut core, at(20_000), |_| false);
    assert_eq!((core.groups().count(), core.told_count()), (0, 0));
}

#[test]
fn a_late_success_of_an_earlier_flush_does_not_end_the_next_one() {
    let mut core = core_of(plan(ONE_RECEIVER), vec![]);
    let a = alert(&[("alertname", "X"), ("i", "a")], at(0));
    core.accept(vec![a.clone()], at(0));
    let early = core.take_due(at(10)).remove(0);
    let b = alert(&[("alertname", "X"), ("i", "b")], at(20));
    core.accept(vec![b, resolved(a, at(30))], at(30));
    // The first delivery is no longer waited for, and then ends all the same.
    let late = core.take_due(at(200)).remove(0);
    core.finished(&early, true);
    core.finished(&late, false);
    let next = flushes(&mut core, at(260), |_| false);
    assert_eq!(next, [(260, "ops new alerts added +[b] -[a]".into())]);
}

#[test]
fn routes_as_alertmanager_does() {
    let plan = plan(
        "
route:
  receiver: root
  routes:
  - {receiver: db, matchers: ['service=~\"pg|redis\"'], continue: true}
  - receiver: page
    match: {severity: page}
    routes: [{receiver: night, matchers: ['team!=\"day\"', 'team!=\"\"']}]
  - {receiver: rest, match_re: {severity: 'w.*'}}
receivers: [{name: root}, {name: db}, {name: page}, {name: night}, {name: rest}]
",
    );
    let check = |labels: &[(&str, &str)], expect: &[&str]| {
        let labels: Labels = labels.iter().copied().collect();
        let names: Vec<&str> =
            plan.routes_of(&labels).iter().map(|r| plan.receivers[plan.routes[*r].receiver].name.as_str()).collect();
        assert_eq!(names, expect, "{labels}");
    };
    check(&[("severity", "page")], &["page"]);
    check(&[("severity", "page"), ("team", "x")], &["night"]);
    check(&[("severity", "page"), ("service", "pg")], &["db", "page"]);
    check(&[("service", "pg")], &["db"]);
    check(&[("severity", "warning")], &["rest"]);
    check(&[("severity", "info")], &["root"]);
    assert_eq!(plan.routes[2].key, r#"{}/{severity="page"}"#);
}

#[test]
fn a_source_mutes_its_targets_but_not_itself() {
    let mut core = core_of(
        plan(
            "
route: {receiver: ops, group_by: [...], group_wait: 0s}
receivers: [{name: ops, webhook_configs: [{url: 'http://127.0.0.1:1/'}]}]
inhibit_rules: [{source_matchers: ['severity=\"page\"'], target_matchers: ['severity=~\"page|warn\"'], equal: [cluster]}]
",
        ),
        vec![],
    );
    core.accept(
        vec![
            alert(&[("severity", "page"), ("cluster", "a"), ("i", "source")], at(0)),
            alert(&[("severity", "warn"), ("cluster", "a"), ("i", "muted")], at(0)),
            alert(&[("severity", "warn"), ("cluster", "b"), ("i", "other")], at(0)),
        ],
        at(0),
    );
    let mut told: Vec<String> = flushes(&mut core, at(1), |_| false).into_iter().map(|(_, line)| line).collect();
    told.sort();
    assert_eq!(told, ["ops first notification +[other] -[]", "ops first notification +[source] -[]"]);
}

fn silence(matchers: &str, from: u64, to: u64) -> Silence {
    Silence {
        id: String::new(),
        matchers: parse_matchers(matchers).expect("valid"),
        starts_at: at(from),
        ends_at: at(to),
        created_by: "me".into(),
        comment: String::new(),
        updated_at: at(0),
    }
}

#[test]
fn a_silence_mutes_while_it_acts() {
    let silences = Silences::default();
    silences.set(silence("i=a", 0, 100), at(0)).expect("valid");
    let mut core = Core::new(plan(ONE_RECEIVER), vec![], silences);
    core.accept(vec![alert(&[("alertname", "X"), ("i", "a")], at(0))], at(0));
    assert_eq!(flushes(&mut core, at(200), |_| false), [(130, "ops first notification +[a] -[]".into())]);
}

#[test]
fn a_group_that_is_silenced_whole_is_not_told_as_resolved() {
    let silences = Silences::default();
    let mut core = Core::new(plan(ONE_RECEIVER), vec![], silences.clone());
    core.accept(vec![alert(&[("alertname", "X"), ("i", "a")], at(0))], at(0));
    assert_eq!(flushes(&mut core, at(20), |_| false).len(), 1);
    silences.set(silence("i=a", 30, 300), at(30)).expect("valid");
    assert_eq!(flushes(&mut core, at(280), |_| false), []);
}

#[test]
fn times_mute_a_route_and_say_so() {
    // The alerts start on a Saturday at 18:10 UTC.
    let text = "
route:
  receiver: ops
  group_wait: 0s
  group_interval: 1m
  routes: [{matchers: [i=a], mute_time_intervals: [evening]}, {matchers: [i=b], active_time_intervals: [evening]}, {matchers: [i=c], active_time_intervals: [never]}]
receivers: [{name: ops, webhook_configs: [{url: 'http://127.0.0.1:1/'}]}]
time_intervals:
- {name: evening, time_intervals: [{times: [{start_time: '18:00', end_time: '18:13'}]}]}
- {name: never, time_intervals: [{years: ['1999']}]}
";
    let mut core = core_of(plan(text), vec![]);
    core.accept(["a", "b", "c"].map(|i| alert(&[("i", i)], at(0))).to_vec(), at(0));
    assert_eq!(flushes(&mut core, at(100), |_| false), [(0, "ops first notification +[b] -[]".into())]);
    let muted: Vec<(String, Vec<String>)> = (core.group_statuses(at(100)).into_iter())
        .map(|group| (group.alerts[0].alert.labels.value("i").to_owned(), group.muted_by))
        .collect();
    let of = |i: &str, by: &[&str]| (i.to_owned(), by.iter().map(|name| (*name).to_owned()).collect());
    assert!(
        [of("a", &["evening"]), of("b", &[]), of("c", &["never"])].iter().all(|one| muted.contains(one)),
        "{muted:?}"
    );
    assert_eq!(flushes(&mut core, at(300), |_| false), [(180, "ops first notification +[a] -[]".into())]);
}

#[test]
fn mistakes_in_times_are_named_with_their_place() {
    assert_eq!(
        plan_errors(
            "
route: {receiver: ops, mute_time_intervals: [t], routes: [{active_time_intervals: [nobody]}]}
receivers: [{name: ops}]
time_intervals: [{name: t}, {name: t}, {}, {name: u, time_intervals: [{weekdays: [funday]}]}]
mute_time_intervals: [{name: v, time_intervals: [{times: [{start_time: '10:00', end_time: '09:00'}]}]}]
"
        ),
        [
            r#"time_intervals[1]: time interval "t" is not unique"#,
            "time_intervals[2]: missing name in time interval",
            "time_intervals[3]: funday is not a valid weekday",
            "mute_time_intervals[0]: start time cannot be equal or greater than end time",
            "route: root route must not have any mute time intervals",
            r#"route.routes[0]: active_time_intervals: undefined time interval "nobody" used in route; known: t, t"#,
        ]
    );
}

#[test]
fn posted_alerts_are_routed_beside_those_of_rules_and_the_invalid_ones_are_named() {
    let external = plan(ONE_RECEIVER);
    let external = Arc::into_inner(external).expect("one owner").adding([("cluster", "ours")].into_iter().collect());
    let mut core = core_of(Arc::new(external), vec![]);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let posted = |labels: Vec<(String, String)>| Posted { labels, ..Posted::default() };
    let errors = core.accept_posted(
        vec![posted(vec![pair("alertname", "X"), pair("i", "a")]), posted(vec![]), posted(vec![pair("i", "b")])],
        at(0),
    );
    assert_eq!(errors, [PostError::NoLabels]);
    let statuses = core.alert_statuses(at(1));
    let labels: Vec<String> = statuses.iter().map(|status| status.alert.labels.to_string()).collect();
    assert_eq!(labels.len(), 2, "without our external labels: {labels:?}");
    assert!(labels.contains(&r#"{alertname="X", i="a"}"#.to_owned()), "{labels:?}");
    let told = flushes(&mut core, at(400), |_| false);
    assert!(told.contains(&(310, "ops all alerts resolved +[] -[a]".into())), "after the resolve timeout: {told:?}");
}

#[test]
fn mistakes_in_the_tree_are_named_with_their_place() {
    assert_eq!(
        plan_errors(
            "
route: {matchers: [a=b], routes: [{receiver: nobody, group_by: [x, ...]}, {matchers: [oops]}, {repeat_interval: 0s}]}
receivers: [{name: ops}, {name: ops}, {}, {name: w, webhook_configs: [{}, {url: 'ftp://x'}, {url: 'http://x', url_file: y}]}]
"
        ),
        [
            r#"receivers: notification config name "ops" is not unique"#,
            "receivers[2]: missing name in receiver",
            r#"receiver "w": webhook_configs[0]: one of url or url_file must be configured"#,
            r#"receiver "w": webhook_configs[1]: url: unsupported scheme "ftp" for URL: write http or https"#,
            r#"receiver "w": webhook_configs[2]: at most one of url & url_file must be configured"#,
            "route: root route must specify a default receiver",
            "route: root route must not have any matchers",
            r#"route.routes[0]: undefined receiver "nobody" used in route; known: ops, ops, , w"#,
            "route.routes[0]: cannot have wildcard group_by (`...`) and other labels at the same time",
            r#"route.routes[1]: bad matcher format: oops (write it like `severity="page"` or `service=~"cart|shop"`)"#,
            "route.routes[2]: repeat_interval cannot be zero",
        ]
    );
    assert_eq!(
        plan_errors(
            "
route: {receiver: a, routes: [{match: {'a-b': c}}, {match_re: {a: }}, {match_re: {a: ''}, match: {b: }}]}
receivers: [{name: a}]
inhibit_rules: [{source_match_re: {a: }}, {target_match: {é: x}}]
globals: {slack_api_url: 'x', pagerduty_url: 'ftp://x', http_config: {bearer_token: a, bearer_token_file: b}}
"
        ),
        [
            "global: slack_api_url: relative URL without a base",
            "global: pagerduty_url: unsupported scheme \"ftp\" for URL: write http or https",
            "global: http_config: at most one of bearer_token & bearer_token_file must be configured",
            r#"route.routes[0]: invalid label name "a-b" (write it under matchers, like `"label.name"=x`)"#,
            r#"route.routes[1]: invalid regexp value for "a" (write an expression, or `''` for the empty one)"#,
            r#"inhibit_rules[0]: invalid regexp value for "a" (write an expression, or `''` for the empty one)"#,
            r#"inhibit_rules[1]: invalid label name "é" (write it under matchers, like `"label.name"=x`)"#,
        ]
    );
    let warned = plan(
        "route: {receiver: a}\nreceivers: [{name: a, sns_configs: [{channel: x}], webhook_configs: [{url: 'http://x', http_config: {oauth2: {client_id: c}}}]}]\n",
    );
    assert_eq!(
        warned.warnings,
        [
            r#"receiver "a": sns_configs is not supported: nobody is told that way"#,
            r#"receiver "a": oauth2 is not supported: requests go out without it"#,
        ]
    );
}

/// A receiver that answers with the given statuses in turn, then 200, and keeps what it got.
async fn receiver(statuses: Vec<u16>) -> (String, Arc<Mutex<Vec<String>>>) {
    let got = Arc::new(Mutex::new(Vec::new()));
    let answers = Arc::new(Mutex::new(statuses));
    type Kept = (Arc<Mutex<Vec<String>>>, Arc<Mutex<Vec<u16>>>);
    let handler = |State((got, answers)): State<Kept>, body: String| async move {
        got.lock().push(body);
        let mut answers = answers.lock();
        let status = if answers.is_empty() { 200 } else { answers.remove(0) };
        StatusCode::from_u16(status).expect("valid status")
    };
    let app = Router::new().route("/hook", post(handler)).with_state((Arc::clone(&got), answers));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, app).await });
    (format!("http://{address}/hook"), got)
}

struct Running {
    alerts: mpsc::Sender<Vec<Alert>>,
    outbox: mpsc::Receiver<Record>,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    clock: Clock,
}

fn start(url: &str, unfinished: Vec<Delivery>) -> Running {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let plan = plan(&format!(
        "
route: {{receiver: team.x, group_by: [alertname], group_wait: 0s, group_interval: 10s}}
receivers: [{{name: team.x, webhook_configs: [{{url: '{url}', max_alerts: 1}}]}}]
"
    ));
    start_with(plan, unfinished)
}

fn start_with(plan: Arc<Plan>, unfinished: Vec<Delivery>) -> Running {
    start_annotated(plan, unfinished, None)
}

fn start_annotated(plan: Arc<Plan>, unfinished: Vec<Delivery>, annotator: Option<Annotator>) -> Running {
    let (alerts, alerts_in) = mpsc::channel(4);
    let (outbox_out, outbox) = mpsc::channel(16);
    let (_, plan) = watch::channel(plan);
    let inputs = Inputs {
        alerts: alerts_in,
        plan,
        silences: Silences::default(),
        outbox: outbox_out,
        log: vec![],
        unfinished,
        external_url: "http://m".into(),
        annotator,
    };
    let (clock, shutdown) = (Clock::starting_at(at(60)), CancellationToken::new());
    let task = tokio::spawn(Dispatcher::new(inputs, clock).run(shutdown.clone()));
    Running { alerts, outbox, shutdown, task, clock }
}

#[tokio::test]
async fn a_delivery_is_recorded_before_it_is_sent_and_survives_5xx() {
    let (url, got) = receiver(vec![503]).await;
    let mut running = start(&url, vec![]);
    let pair = [("alertname", "X"), ("i", "a")];
    running
        .alerts
        .send(vec![alert(&pair, at(0)), alert(&[("alertname", "X"), ("i", "b")], at(1))])
        .await
        .expect("runs");
    let Some(Record::Due(delivery, written)) = running.outbox.recv().await else { panic!("not recorded first") };
    assert!(got.lock().is_empty(), "sent before it was recorded");
    assert!(running.clock.now() >= delivery.created_at);
    written.send(()).expect("waits for the answer");
    let Some(Record::Delivered { id, log, .. }) = running.outbox.recv().await else { panic!("not delivered") };
    assert_eq!((id, log.map(|l| l.firing.len())), (delivery.id, Some(2)));
    let bodies = got.lock().clone();
    assert_eq!(bodies.len(), 2, "once refused with 503, once taken");
    assert_eq!(
        bodies[0],
        concat!(
            r#"{"receiver":"team\\.x","status":"firing","alerts":[{"status":"firing","labels":{"alertname":"X","i":"a"},"#,
            r#""annotations":{"summary":"it broke"},"startsAt":"2025-11-22T18:10:00Z","endsAt":"0001-01-01T00:00:00Z","#,
            r#""generatorURL":"http://m/graph","fingerprint":"2e5b6a1f7e5a0f0e"}],"notification_reason":"first notification","#,
            r#""groupLabels":{"alertname":"X"},"commonLabels":{"alertname":"X","i":"a"},"commonAnnotations":{"summary":"it broke"},"#,
            r#""externalURL":"http://m","version":"4","groupKey":"{}:{alertname=\"X\"}","truncatedAlerts":1}"#,
            "\n"
        )
        .replace("2e5b6a1f7e5a0f0e", &format!("{:016x}", pair.iter().copied().collect::<Labels>().fingerprint()))
    );
    running.shutdown.cancel();
    running.task.await.expect("ends");
}

#[tokio::test]
async fn a_final_answer_is_not_repeated_and_the_outbox_learns_why() {
    let (url, got) = receiver(vec![400]).await;
    let mut running = start(&url, vec![]);
    running.alerts.send(vec![alert(&[("alertname", "X")], at(0))]).await.expect("runs");
    while let Some(record) = running.outbox.recv().await {
        match record {
            Record::Due(_, written) => written.send(()).expect("waits"),
            Record::Failed { tries, error, .. } => {
                assert_eq!((tries, error.contains("400")), (1, true), "{error}");
                break;
            }
            Record::Delivered { .. } => panic!("delivered"),
        }
    }
    assert_eq!(got.lock().len(), 1);
}

#[tokio::test]
async fn what_an_earlier_process_recorded_is_sent_again() {
    let (url, got) = receiver(vec![]).await;
    let delivery = Delivery {
        id: "old-1".into(),
        receiver: "team.x".into(),
        integration: 0,
        kind: "webhook".into(),
        group_key: "{}:{}".into(),
        payload: "{}\n".into(),
        body: "{\"from\":\"before\"}\n".into(),
        told: None,
        created_at: at(0),
    };
    let mut running = start(&url, vec![delivery]);
    let Some(Record::Delivered { id, log: None, .. }) = running.outbox.recv().await else { panic!("not delivered") };
    assert_eq!((id.as_str(), got.lock().as_slice()), ("old-1", &["{\"from\":\"before\"}\n".to_owned()][..]));
}

#[tokio::test]
async fn a_group_whose_delivery_is_made_again_after_a_crash_does_not_tell_the_same_once_more() {
    let (url, got) = receiver(vec![503]).await;
    let x = alert(&[("alertname", "X")], at(0));
    let group_key = "{}:{alertname=\"X\"}".to_owned();
    let told = LogEntry {
        group_key: group_key.clone(),
        receiver: "team.x".into(),
        integration: 0,
        firing: [x.labels.fingerprint()].into(),
        resolved: Default::default(),
        at: at(50),
    };
    let delivery = |id: &str, seconds: u64| Delivery {
        id: id.into(),
        receiver: "team.x".into(),
        integration: 0,
        kind: "webhook".into(),
        group_key: group_key.clone(),
        payload: "{}\n".into(),
        body: format!("{id}\n"),
        told: Some(told.clone()),
        created_at: at(seconds),
    };
    let mut running = start(&url, vec![delivery("older", 40), delivery("old", 50)]);
    running.alerts.send(vec![x]).await.expect("runs");
    let Some(Record::Failed { id, .. }) = running.outbox.recv().await else { panic!("two for one group") };
    assert_eq!(id, "older", "the newest says what was true last");
    let Some(Record::Delivered { id, log, .. }) = running.outbox.recv().await else { panic!("not delivered") };
    assert_eq!((id.as_str(), log.as_ref()), ("old", Some(&told)));
    tokio::time::sleep(Duration::from_millis(1200)).await; // longer than a busy group's pause
    running.shutdown.cancel();
    running.task.await.expect("ends");
    assert!(running.outbox.recv().await.is_none(), "its own flush told it again");
    assert_eq!(got.lock().as_slice(), ["old\n", "old\n"], "once refused with 503, once taken");
}

#[tokio::test]
async fn a_template_that_fails_is_recorded_counted_and_harms_nobody_else() {
    let (url, got) = receiver(vec![]).await;
    let plan = plan(&format!(
        "
route: {{receiver: a, group_by: [alertname], group_wait: 0s, group_interval: 10s}}
receivers: [{{name: a, webhook_configs: [{{url: '{url}', payload: '{{{{ .Nothing }}}}'}}, {{url: '{url}', payload: {{a: [fine, '{{{{ .Status }}}}', '1']}}}}]}}]
"
    ));
    let mut running = start_with(plan, vec![]);
    running.alerts.send(vec![alert(&[("alertname", "X")], at(0))]).await.expect("runs");
    let mut outcomes = Vec::new();
    while outcomes.len() < 2 {
        match running.outbox.recv().await.expect("runs") {
            Record::Due(_, written) => written.send(()).expect("waits"),
            Record::Failed { tries, error, .. } => outcomes.push(format!("{tries} {error}")),
            Record::Delivered { .. } => outcomes.push("delivered".to_owned()),
        }
    }
    outcomes.sort();
    assert!(outcomes[0].starts_with("0 template: payload:1:3: executing"), "{outcomes:?}");
    assert_eq!(
        (outcomes[1].as_str(), got.lock().as_slice()),
        ("delivered", &["{\"a\":[\"fine\",\"firing\",1]}\n".to_owned()][..])
    );
}

#[tokio::test]
async fn what_has_lost_its_receiver_is_given_up() {
    let (url, _) = receiver(vec![]).await;
    let delivery = Delivery {
        id: "old-2".into(),
        receiver: "gone".into(),
        integration: 0,
        kind: "webhook".into(),
        group_key: "{}:{}".into(),
        payload: "{}\n".into(),
        body: "{}\n".into(),
        told: None,
        created_at: at(0),
    };
    let mut running = start(&url, vec![delivery]);
    let Some(Record::Failed { id, tries: 0, error, .. }) = running.outbox.recv().await else { panic!("kept for ever") };
    assert_eq!((id.as_str(), error.as_str()), ("old-2", "receiver `gone` is gone"));
}

#[tokio::test]
async fn an_outbox_that_is_away_does_not_keep_people_asleep() {
    let (url, got) = receiver(vec![]).await;
    let running = start(&url, vec![]);
    drop(running.outbox);
    running.alerts.send(vec![alert(&[("alertname", "X")], at(0))]).await.expect("runs");
    tokio::time::timeout(Duration::from_secs(10), async {
        while got.lock().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("delivered without the outbox");
}

#[path = "simulation.rs"]
mod simulation;
