//! Rules, alerts and targets: real rules evaluated, a real page scraped, shown as Prometheus 3.5.3 shows them.

use std::sync::Arc;
use std::time::Duration;

use meshscope::clock::Clock;
use meshscope::discovery::{self, Defaults, Discovery};
use meshscope::model::Labels;
use meshscope::promql::Features;
use meshscope::promql::{self, Engine};
use meshscope::rollup::Rollup;
use meshscope::rules::{self, LoadOptions};
use meshscope::scrape::{self, Health, Scraper};
use meshscope::series::Head;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::api::{Parts, Server, append, empty_head, install_tls};
use crate::postgres;

const RULES: &str = r#"
groups:
- name: one
  interval: 1s
  rules:
  - record: job:fixed:sum
    expr: sum by(job) (fixed)
    labels: {team: core}
  - alert: AlwaysOn
    expr: fixed{shard="a"} == 1
    labels: {severity: page, shard_copy: '{{ $labels.shard }}'}
    annotations: {summary: 'value {{ $value }} of {{ $labels.job }} <b>'}
  - alert: Waiting
    expr: vector(1)
    for: 1h
    keep_firing_for: 5m
- name: two
  interval: 1s
  limit: 5
  rules:
  - alert: Broken
    expr: fixed * on (job) fixed > 0
- name: empty
  rules: []
"#;

/// Waits until `is_so`, at most ten seconds.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within ten seconds: {what}");
}

fn filled_head(clock: &Clock) -> Head {
    let head = empty_head();
    let now = clock.now().as_millis();
    for (shard, value) in [("a", 1.0), ("b", 2.5)] {
        append(&head, &[("__name__", "fixed"), ("job", "page"), ("shard", shard)], [(now - 1000, value)]);
    }
    head
}

/// The rules above, evaluated each second until the guard is dropped.
async fn evaluated_rules() -> (rules::Status, DropGuard) {
    let folder = postgres::folder("api-rules");
    std::fs::create_dir_all(&folder).expect("a folder for the rules");
    std::fs::write(folder.join("rules.yml"), RULES).expect("write the rules");
    let options = LoadOptions {
        evaluation_interval: Duration::from_secs(1),
        external_labels: Labels::empty(),
        external_url: "http://mesh".to_owned(),
        features: Features::default(),
    };
    let set = rules::load(&["rules.yml".to_owned()], &folder, &options);
    assert!(set.problems.is_empty(), "{:?}", set.problems);
    let clock = Clock::system();
    let head = filled_head(&clock);
    let (set_in, rule_sets) = watch::channel(Arc::new(set));
    let (ready_in, ready) = watch::channel(true);
    let (alerts, mut alerts_out) = mpsc::channel(64);
    let (transitions, mut transitions_out) = mpsc::channel(64);
    let (alertmanagers, also_out) = mpsc::channel(64);
    let manager = rules::Manager::new(
        rules::Config::default(),
        rules::Inputs {
            rule_sets,
            ready,
            store: Arc::new(head.clone()),
            own: Arc::new(head.clone()),
            head,
            engine: Arc::new(Engine::new(promql::Config::default())),
            options: promql::QueryOptions::default(),
            clock,
            told: std::collections::HashMap::new(),
            goes_on: false,
        },
        rules::Outputs { alerts, alertmanagers, transitions },
    );
    let status = manager.status();
    let stop = CancellationToken::new();
    tokio::spawn(manager.run(stop.clone()));
    tokio::spawn(async move {
        // They belong to the manager as long as it runs.
        let _ends = (set_in, ready_in, also_out);
        tokio::join!(async { while alerts_out.recv().await.is_some() {} }, async {
            while transitions_out.recv().await.is_some() {}
        },);
    });
    let is_evaluated = |group: &Arc<rules::GroupStatus>| {
        group.rules.iter().all(|rule| rule.last_evaluation.is_some()) && group.last_evaluation.is_some()
    };
    until("every group is evaluated", || {
        let groups = status.groups();
        groups.len() == 3 && groups.iter().filter(|group| group.name != "empty").all(is_evaluated)
    })
    .await;
    (status, stop.drop_guard())
}

/// Times and durations replaced, so that the rest can be compared to the byte.
fn masked(body: &str) -> String {
    let times = regex::Regex::new(r#""(lastEvaluation|activeAt|lastScrape)":"20[^"]*""#).expect("a valid expression");
    let spans = regex::Regex::new(r#""(evaluationTime|lastScrapeDuration)":[0-9.e+-]+"#).expect("a valid expression");
    let body = times.replace_all(body, r#""$1":"T""#);
    spans.replace_all(&body, r#""$1":0"#).into_owned()
}

#[tokio::test]
async fn rules_and_alerts_are_shown_as_prometheus_shows_them() {
    let (status, _running) = evaluated_rules().await;
    let server = Server::start(Parts { rules: status, ..Parts::default() }).await;
    let file = postgres::folder("api-rules").join("rules.yml").display().to_string();
    let all = masked(&server.get("/api/v1/rules").await.body);
    let alert = r#"{"labels":{"alertname":"AlwaysOn","job":"page","severity":"page","shard":"a","shard_copy":"a"},"annotations":{"summary":"value 1 of page <b>"},"state":"firing","activeAt":"T","value":"1e+00"}"#;
    let recording = r#"{"name":"job:fixed:sum","query":"sum by (job) (fixed)","labels":{"team":"core"},"health":"ok","evaluationTime":0,"lastEvaluation":"T","type":"recording"}"#;
    let always = |alerts: &str| {
        format!(
            r#"{{"state":"firing","name":"AlwaysOn","query":"fixed{{shard=\"a\"}} == 1","duration":0,"keepFiringFor":0,"labels":{{"severity":"page","shard_copy":"{{{{ $labels.shard }}}}"}},"annotations":{{"summary":"value {{{{ $value }}}} of {{{{ $labels.job }}}} <b>"}},"alerts":{alerts},"health":"ok","evaluationTime":0,"lastEvaluation":"T","type":"alerting"}}"#
        )
    };
    let waiting = r#"{"state":"pending","name":"Waiting","query":"vector(1)","duration":3600,"keepFiringFor":300,"labels":{},"annotations":{},"alerts":[{"labels":{"alertname":"Waiting"},"annotations":{},"state":"pending","activeAt":"T","value":"1e+00"}],"health":"ok","evaluationTime":0,"lastEvaluation":"T","type":"alerting"}"#;
    let group = |name: &str, rules: &str, limit: usize| {
        format!(
            r#"{{"name":"{name}","file":"{file}","rules":[{rules}],"interval":1,"limit":{limit},"evaluationTime":0,"lastEvaluation":"T"}}"#
        )
    };
    let groups = |groups: &str| format!(r#"{{"status":"success","data":{{"groups":[{groups}]}}}}"#);
    let one = group("one", &format!("{recording},{},{waiting}", always(&format!("[{alert}]"))), 0);
    let begin = format!(r#"{{"status":"success","data":{{"groups":[{one},{{"name":"two""#);
    assert!(all.starts_with(&begin), "\n{all}\n{begin}");
    let broken = &server.get("/api/v1/rules?rule_name[]=Broken").await.json()["data"]["groups"][0]["rules"][0];
    assert_eq!((&broken["health"], &broken["state"]), (&"err".into(), &"inactive".into()));
    assert!(broken["lastError"].as_str().is_some_and(|error| error.starts_with("found duplicate series")), "{broken}");

    let filters = [
        ("type=record", groups(&group("one", recording, 0))),
        ("type=RECORD&rule_group[]=one&rule_group[]=two", groups(&group("one", recording, 0))),
        ("rule_name[]=AlwaysOn&exclude_alerts=T", groups(&group("one", &always("null"), 0))),
        ("match[]={severity=%22page%22}&exclude_alerts=1", groups(&group("one", &always("null"), 0))),
        ("rule_group[]=one", groups(&one)),
        ("file[]=nosuch", groups("")),
        ("rule_name[]=nosuch", groups("")),
    ];
    for (filter, expect) in filters {
        assert_eq!(masked(&server.get(&format!("/api/v1/rules?{filter}")).await.body), expect, "{filter}");
    }
    let first = server.get("/api/v1/rules?group_limit=1").await.json();
    assert_eq!(first["data"]["groups"][0]["name"], "one");
    let token = first["data"]["groupNextToken"].as_str().expect("there is another group");
    let next = server.get(&format!("/api/v1/rules?group_limit=1&group_next_token={token}")).await.json();
    assert_eq!((&next["data"]["groups"][0]["name"], next["data"].get("groupNextToken")), (&"two".into(), None));

    let alerts = masked(&server.get("/api/v1/alerts").await.body);
    let pending =
        r#"{"labels":{"alertname":"Waiting"},"annotations":{},"state":"pending","activeAt":"T","value":"1e+00"}"#;
    assert_eq!(alerts, format!(r#"{{"status":"success","data":{{"alerts":[{alert},{pending}]}}}}"#));
}

#[tokio::test]
async fn wrong_filters_of_rules_are_refused() {
    let server = Server::start(Parts::default()).await;
    let cases = [
        ("type=x", r#"invalid parameter "type": not supported value "x""#),
        (
            "exclude_alerts=x",
            r#"invalid parameter "exclude_alerts": error converting exclude_alerts: strconv.ParseBool: parsing "x": invalid syntax"#,
        ),
        ("match[]=x{", "1:3: parse error: unexpected end of input inside braces"),
        ("match[]={}", "match[] must contain at least one non-empty matcher"),
        (
            "group_limit=x",
            r#"invalid parameter "group_limit": group_limit needs to be a valid number: strconv.ParseInt: parsing "x": invalid syntax"#,
        ),
        ("group_limit=0", r#"invalid parameter "group_limit": group_limit needs to be greater than 0"#),
        (
            "group_next_token=x",
            r#"invalid parameter "group_next_token": group_limit needs to be present in order to paginate over the groups"#,
        ),
        (
            "group_limit=1&group_next_token=x",
            r#"invalid parameter "group_next_token": invalid group_next_token 'x'. were rule groups changed?"#,
        ),
    ];
    for (filter, expect) in cases {
        let answer = server.get(&format!("/api/v1/rules?{filter}")).await;
        assert_eq!((answer.status, answer.json()["error"].as_str()), (400, Some(expect)), "{filter}");
    }
    assert_eq!(server.get("/api/v1/rules").await.body, r#"{"status":"success","data":{"groups":[]}}"#);
}

const PAGE: &str = "# HELP fixed A fixed value.\n# TYPE fixed gauge\nfixed 1\n# TYPE big gauge\nbig 2\n";

/// A page that is scraped, one that is away, and two that relabelling drops.
async fn scraped() -> (scrape::Status, String, DropGuard) {
    install_tls();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound address").to_string();
    let page = axum::Router::new().route("/metrics", axum::routing::get(|| async { PAGE }));
    tokio::spawn(async move { axum::serve(listener, page).await });
    let configs = serde_json::json!([
        {"job_name": "page", "static_configs": [{"targets": [address], "labels": {"env": "test"}}]},
        {"job_name": "dropping", "static_configs": [{"targets": ["127.0.0.1:1", "127.0.0.1:2"]}],
         "relabel_configs": [{"source_labels": ["__address__"], "regex": ".*", "action": "drop"}]},
    ]);
    let configs: Vec<discovery::ScrapeConfig> = serde_json::from_value(configs).expect("valid jobs");
    let defaults = Defaults { scrape_interval: Duration::from_secs(1).into(), ..Defaults::default() };
    let (jobs, errors) = discovery::jobs(&configs, &defaults);
    assert!(errors.is_empty(), "{errors:?}");
    let (jobs_in, jobs) = watch::channel(jobs);
    let (discovery, targets) = Discovery::new(jobs);
    let clock = Clock::system();
    let scraper = Scraper::new(scrape::Config::default(), clock, empty_head(), Rollup::default(), targets);
    let status = scraper.status();
    let stop = CancellationToken::new();
    tokio::spawn(discovery.run(stop.clone()));
    tokio::spawn(scraper.run(stop.clone()));
    tokio::spawn(async move {
        let _jobs = jobs_in;
        std::future::pending::<()>().await;
    });
    until("the page is scraped", || status.targets().iter().any(|target| target.health == Health::Up)).await;
    (status, address, stop.drop_guard())
}

#[tokio::test]
async fn targets_and_their_metadata_are_shown_as_prometheus_shows_them() {
    let (status, address, _running) = scraped().await;
    let server = Server::start(Parts { scrape: status, ..Parts::default() }).await;
    let success = |data: &str| format!(r#"{{"status":"success","data":{data}}}"#);
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    let global = address.replace("127.0.0.1", hostname.trim());
    let active = format!(
        r#"{{"discoveredLabels":{{"__address__":"{address}","__metrics_path__":"/metrics","__scheme__":"http","__scrape_interval__":"1s","__scrape_timeout__":"1s","env":"test","job":"page"}},"labels":{{"env":"test","instance":"{address}","job":"page"}},"scrapePool":"page","scrapeUrl":"http://{address}/metrics","globalUrl":"http://{global}/metrics","lastError":"","lastScrape":"T","lastScrapeDuration":0,"health":"up","scrapeInterval":"1s","scrapeTimeout":"1s"}}"#
    );
    let counts = r#"{"dropping":2,"page":0}"#;
    let targets = |active: &str, dropped: &str, counts: &str| {
        success(&format!(
            r#"{{"activeTargets":[{active}],"droppedTargets":[{dropped}],"droppedTargetCounts":{counts}}}"#
        ))
    };
    let about = format!(r#"{{"target":{{"env":"test","instance":"{address}","job":"page"}},"#);
    let fixed = r#""type":"gauge","help":"A fixed value.","unit":""}"#;
    let cases = [
        ("targets?state=active", targets(&active, "", "null")),
        ("targets?state=ACTIVE&scrapePool=page", targets(&active, "", "null")),
        ("targets?state=x", targets("", "", "null")),
        ("targets?scrapePool=nosuch", targets("", "", counts)),
        ("scrape_pools", success(r#"{"scrapePools":["dropping","page"]}"#)),
        ("targets/metadata?metric=fixed", success(&format!("[{about}{fixed}]"))),
        ("targets/metadata?metric=nosuch", success("[]")),
        ("targets/metadata?match_target={job=%22nosuch%22}", success("[]")),
        ("targets/metadata?match_target={}&metric=fixed", success(&format!("[{about}{fixed}]"))),
        (
            "targets/metadata?limit=1",
            success(&format!(r#"[{about}"metric":"big","type":"gauge","help":"","unit":""}}]"#)),
        ),
        ("targets/metadata?limit=0", success("[]")),
        ("metadata?metric=fixed", success(r#"{"fixed":[{"type":"gauge","unit":"","help":"A fixed value."}]}"#)),
        ("metadata?limit=0", success("{}")),
        ("metadata?limit=1", success(r#"{"big":[{"type":"gauge","unit":"","help":""}]}"#)),
        ("metadata?metric=nosuch", success("{}")),
        ("alertmanagers", success(r#"{"activeAlertmanagers":[],"droppedAlertmanagers":[]}"#)),
        ("status/config", success(r#"{"yaml":"global: {}\n"}"#)),
        ("status/walreplay", success(r#"{"min":0,"max":0,"current":0}"#)),
        (
            "notifications",
            success(r#"[{"text":"Configuration reload has failed.","date":"1970-01-01T00:00:05.5Z","active":true}]"#),
        ),
        ("notifications/live", String::new()),
        (
            "targets/metadata?match_target=sum(x)",
            r#"{"status":"error","errorType":"bad_data","error":"invalid parameter \"match_target\": 1:4: parse error: unexpected \"(\""}"#
                .to_owned(),
        ),
    ];
    for (path, expect) in cases {
        assert_eq!(masked(&server.get(&format!("/api/v1/{path}")).await.body), expect, "{path}");
    }
    let dropped = server.get("/api/v1/targets?state=dropped").await.json();
    assert_eq!(dropped["data"]["droppedTargets"].as_array().map(Vec::len), Some(2));
    for (path, error) in [
        ("metadata?limit=x", "limit must be a number"),
        ("metadata?limit_per_metric=x", "limit_per_metric must be a number"),
        ("targets/metadata?limit=x", "limit must be a number"),
        (
            "targets/metadata?match_target=x{",
            r#"invalid parameter "match_target": 1:3: parse error: unexpected end of input inside braces"#,
        ),
    ] {
        let answer = server.get(&format!("/api/v1/{path}")).await;
        assert_eq!((answer.status, answer.json()["error"].as_str()), (400, Some(error)), "{path}");
    }
}
