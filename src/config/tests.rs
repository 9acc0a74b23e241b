//! What a file may say, and what is said of its mistakes.

use super::*;

#[track_caller]
fn problems(text: &str) -> Vec<String> {
    match Config::parse(text, Some(Path::new("m.yaml"))) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => error.to_string().lines().map(str::to_owned).collect(),
    }
}

#[test]
fn an_empty_file_is_a_configuration() {
    let config = Config::parse("", None).expect("defaults");
    assert_eq!((config.jobs.len(), config.rule_files.len(), config.warnings.len()), (0, 0, 0));
    assert_eq!(config.web.listen.to_string(), "127.0.0.1:7070");
}

#[test]
fn a_prometheus_file_with_an_alertmanager_file_below_it_loads() {
    let text = "
global: {scrape_interval: 15s, external_labels: {cluster: east}}
rule_files: [alerts/*.yaml, /etc/rules.yaml]
scrape_configs:
- job_name: mesh
  static_configs: [{targets: ['127.0.0.1:15020']}]
remote_read: []
alerting: {alertmanagers: []}
route: {receiver: ops}
receivers: [{name: ops, webhook_configs: [{url: 'http://127.0.0.1:1/secret-token'}]}]
storage: {database_url: 'postgres://m:hunter2@db/m', memory_window: 2h}
";
    let config = Config::parse(text, Some(Path::new("/etc/m/meshscope.yaml"))).expect("valid");
    assert_eq!(config.rule_files, ["alerts/*.yaml", "/etc/rules.yaml"]);
    assert_eq!(config.external_labels.get("cluster"), Some("east"));
    assert_eq!(config.warnings, ["the block `remote_read` is not supported: history is kept in PostgreSQL"]);
    assert!(!config.redacted.contains("hunter2") && !config.redacted.contains("secret-token"), "{}", config.redacted);
    assert!(config.redacted.contains("scrape_interval"), "{}", config.redacted);
}

#[test]
fn every_mistake_is_named_with_line_and_mend() {
    let found = problems(
        "
global: {scrape_intervall: 15s}
scrape_configs:
- job_name: a
  scrape_timeout: 5m
- job_name: a
storage:
  memory_window: long
route: {receiver: nobody}
webb: {}
",
    );
    let has = |part: &str| assert!(found.iter().any(|line| line.contains(part)), "{part} not in {found:#?}");
    has("m.yaml:2:10: global: unknown key \"scrape_intervall\", did you mean \"scrape_interval\"?");
    has("m.yaml:8:18: storage.memory_window: not a valid duration string");
    has("m.yaml:10:1: unknown key \"webb\", did you mean \"web\"?");
    has("undefined receiver \"nobody\"");
    has("scrape config `a`: another entry has the same job_name");
}

#[test]
fn every_block_is_read_into_its_module() {
    let text = "
global: {evaluation_interval: 30s, rule_query_offset: 5s, scrape_timeout: 3s, external_labels: {cluster: east}}
web: {listen: '127.0.0.1:1', external_url: 'https://mesh.example/'}
otlp: {grpc_listen: '127.0.0.1:2', http_listen: '127.0.0.1:3', max_request_bytes: 1MB, limits: {span_bytes: 32768}}
traces: {retention: 12h, pair_wait: 5s, index: {}}
storage:
  database_url: postgres://m@db/m
  path: /var/lib/x
  connections_max: 5
  shared_buffers: 64MB
  retention: {raw: 3d, five_minutes: 30d, edge_minutes: 1d, edge_hours: 90d, spans: 1d, alerts: 60d, mesh: 60d}
  memory_window: 4h
  out_of_order_window: 1m
  series_limit: 1000
  journal_limit_bytes: 10MB
scrape: {concurrency: 7}
graph: {health: {}}
rollup: {keep: 20m, edge_limit: 10, outcome_limit: 5}
promql: {}
telemetry: {otlp_endpoint: 'http://127.0.0.1:4317', sampling_ratio: 0.5}
route: {receiver: ops}
receivers: [{name: ops}]
inhibit_rules: [{source_matchers: [a=b], target_matchers: [c=d], equal: [e]}]
";
    let config = Config::parse(text, None).unwrap_or_else(|error| panic!("{error}"));
    let seconds = |duration: PromDuration| duration.get().as_secs();
    assert_eq!((seconds(config.evaluation_interval), seconds(config.rules.rule_query_offset)), (30, 5));
    assert_eq!(config.promql.default_subquery_step.map(seconds), Some(30));
    let own = Config::parse("global: {evaluation_interval: 30s}\npromql: {default_subquery_step: 10s}\n", None);
    assert_eq!(own.ok().and_then(|config| config.promql.default_subquery_step).map(seconds), Some(10));
    assert_eq!(config.web.external_url.as_deref(), Some("https://mesh.example/"));
    assert_eq!((config.web.listen.port(), config.otlp.grpc_listen.port(), config.otlp.http_listen.port()), (1, 2, 3));
    assert_eq!((config.otlp.max_request_bytes.0, config.traces.retention.map(seconds)), (1 << 20, Some(12 * 3600)));
    assert_eq!((config.store.connections_max, config.store.shared_buffers.0), (5, 64 << 20));
    assert_eq!(config.store.path.as_deref(), Some(Path::new("/var/lib/x")));
    let kept = &config.store.retention;
    let days = [kept.raw, kept.five_minutes, kept.edge_minutes, kept.edge_hours, kept.spans, kept.alerts, kept.mesh];
    assert_eq!(days.map(|kept| seconds(kept) / 86_400), [3, 30, 1, 90, 1, 60, 60]);
    assert_eq!((seconds(config.series.memory_window), seconds(config.series.out_of_order_window)), (4 * 3600, 60));
    assert_eq!((config.series.series_limit, config.series.journal_limit_bytes.0), (1000, 10 << 20));
    assert_eq!((config.scrape.concurrency, seconds(config.rollup.keep)), (7, 1200));
    assert_eq!((config.rollup.edge_limit, config.rollup.outcome_limit), (10, 5));
    assert_eq!(config.telemetry.sampling_ratio, 0.5);
}

#[test]
fn a_mistake_in_any_block_is_named_with_its_path() {
    for (text, part) in [
        ("global: {evaluation_interval: 0s}", "global.evaluation_interval must be longer than 0s"),
        ("global: {external_labels: {__name__: x}}", "global.external_labels: \"__name__\" is not a valid label name"),
        ("web: {listen: nowhere}", "m.yaml:1:15: web.listen"),
        ("otlp: {grpc_listn: 'x'}", "did you mean \"grpc_listen\"?"),
        ("traces: {retention: soon}", "traces.retention"),
        ("storage: {retention: {raww: 3d}}", "did you mean \"raw\"?"),
        ("storage: {shared_buffers: much}", "storage.shared_buffers"),
        ("scrape: {concurrency: -1}", "scrape.concurrency"),
        ("rollup: {keep: 1x}", "rollup.keep"),
        ("graph: {helth: {}}", "did you mean \"health\"?"),
        ("telemetry: {sampling_ratio: 2}", "telemetry.sampling_ratio must be between 0 and 1"),
        ("receivers: [{name: a}, {name: a}]\nroute: {receiver: a}", "a"),
        ("scrape_configs: [{job_name: a, scrape_interval: 1m, scrape_timeout: 2m}]", "a"),
        ("rule_files: 3", "rule_files"),
        ("push: {translation_strategy: None}", "push.translation_strategy"),
        ("push: {ignore_resource_attributes: [a]}", "push.promote_all_resource_attributes: true"),
        (
            "push: {promote_all_resource_attributes: true, promote_resource_attributes: [a]}",
            "push.promote_resource_attributes: all are promoted already",
        ),
        ("push: {promote_resource_attributes: [a, ' a']}", "a stands there twice"),
        ("push: {promote_resource_attributes: ['']}", "push.promote_resource_attributes: an attribute is empty"),
        (
            "route: {receiver: ops, mute_time_intervals: [night]}\nreceivers: [{name: ops}]",
            "must not have any mute time intervals",
        ),
    ] {
        let found = problems(text);
        assert!(found.iter().any(|line| line.contains(part)), "{text}: {part} not in {found:#?}");
    }
}

#[test]
fn no_secret_is_shown() {
    let text = "
scrape_configs:
- job_name: a
  basic_auth: {username: user, password: hidden1}
- job_name: b
  authorization: {type: Bearer, credentials: hidden2}
- job_name: c
  oauth2: {client_id: id, client_secret: hidden3, token_url: 'https://t/x', scopes: [s]}
  proxy_url: http://u:hidden4@proxy:3128
- job_name: d
  bearer_token: hidden5
  http_sd_configs: [{url: 'https://u:hidden9@sd/list?token=hidden10'}]
route: {receiver: ops}
receivers:
- name: ops
  webhook_configs: [{url: 'https://chat/hooks/hidden6', http_config: {basic_auth: {password: hidden7}}}]
  pagerduty_configs: [{routing_key: hidden8}]
  slack_configs: [{api_url: 'https://hooks/hidden11'}]
storage: {database_url: 'postgres://m:hidden12@db/m?sslpassword=hidden13'}
telemetry: {otlp_endpoint: 'http://u:hidden14@collector:4317'}
web: {external_url: 'http://u:hidden15@mesh/'}
";
    let shown = redacted(text);
    assert!(!shown.contains("hidden"), "{shown}");
    for kept in ["username: user", "job_name: b", "client_id: id", "db/m", "https://t/x"] {
        assert!(shown.contains(kept), "{kept} not in {shown}");
    }
    assert_eq!(redacted(": : :\n- ["), "");
}

#[test]
fn a_pasted_alertmanager_file_loads_and_what_is_not_offered_is_named() {
    let text = "
global: {resolve_timeout: 10m, smtp_smarthost: 'localhost:25', smtp_from: a@b.c, slack_api_url: 'https://hooks/hidden', opsgenie_api_key: hidden, http_config: {}}
templates: ['*.tmpl']
route: {receiver: a, routes: [{receiver: a, mute_time_intervals: [night], group_by: [...]}]}
receivers: [{name: a, slack_configs: [{channel: x}], email_configs: [{to: x}], sns_configs: [{topic_arn: t}], pagerduty_configs: [{service_key: hidden}]}]
time_intervals: [{name: night, time_intervals: [{times: [{start_time: '22:00', end_time: '24:00'}], location: Europe/Berlin, years: [2026]}]}]
scrape_configs: []
";
    let config = Config::parse(text, None).unwrap_or_else(|error| panic!("{error}"));
    for part in [
        "global.opsgenie_api_key",
        r#"receiver "a": sns_configs is not supported"#,
        r#"receiver "a": pagerduty_configs[0]: service_key (Events API v1) is not supported"#,
    ] {
        assert!(config.warnings.iter().any(|warning| warning.contains(part)), "{part} not in {:#?}", config.warnings);
    }
    let shown = &config.alertmanager;
    assert!(!shown.contains("hidden") && !shown.contains("scrape_configs"), "{shown}");
    assert!(shown.contains("resolve_timeout: 10m") && shown.contains("Europe/Berlin"), "{shown}");
}

#[test]
fn alertmanagers_own_examples_load() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/fixtures/alertmanager/config");
    if !Path::new(folder).exists() {
        println!("fixtures absent: {folder}");
        return;
    }
    for name in [
        "simple.yml",
        "cli-conf.routing-reverted.yml",
        "config-conf.rocketchat-default-token.yml",
        "config-conf.sns-topic-arn.yml",
    ] {
        let text =
            std::fs::read_to_string(format!("{folder}/{name}")).unwrap_or_else(|error| panic!("{name}: {error}"));
        if let Err(error) = Config::parse(&text, None) {
            panic!("{name}: {error}");
        }
    }
    let text = std::fs::read_to_string(format!("{folder}/cli-conf.bad.yml")).expect("readable");
    assert!(Config::parse(&text, None).is_err(), "amtool refuses it as well");
}
