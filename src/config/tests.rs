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
alerting: {alertmanagers: []}
route: {receiver: ops}
receivers: [{name: ops, webhook_configs: [{url: 'http://127.0.0.1:1/secret-token'}]}]
storage: {database_url: 'postgres://m:hunter2@db/m', memory_window: 2h}
";
    let config = Config::parse(text, Some(Path::new("/etc/m/meshscope.yaml"))).expect("valid");
    assert_eq!(config.rule_files, ["alerts/*.yaml", "/etc/rules.yaml"]);
    assert_eq!(config.external_labels.get("cluster"), Some("east"));
    assert_eq!(
        config.warnings,
        ["the block `alerting` is not supported: alerts are routed by `route` and `receivers` in this file"]
    );
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
