//! Discovery over real files and sockets: labels, URLs, limits, last good lists, reload.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::super::{Defaults, ScrapeConfig, Target, jobs};
use super::*;

fn parse(yaml: &str) -> Vec<ScrapeConfig> {
    let (configs, problems) = crate::yaml::decode(yaml);
    assert_eq!(problems, [], "{yaml}");
    configs.unwrap()
}

fn good(yaml: &str) -> Jobs {
    let (jobs, errors) = jobs(&parse(yaml), &Defaults::default());
    assert!(errors.is_empty(), "{errors:?}");
    jobs
}

fn found(yaml: &str) -> Targets {
    let (sender, receiver) = watch::channel(good(yaml));
    let (discovery, targets) = Discovery::new(receiver);
    discovery.publish(&sender.borrow());
    Targets::clone(&targets.borrow())
}

#[test]
fn gives_static_targets_the_labels_and_url_of_prometheus() {
    let found = found(
        "- job_name: mesh
  metrics_path: /stats/prometheus
  params: {format: [text, x], 'a b': [c&d]}
  static_configs: [{targets: ['10.0.0.1:15020'], labels: {namespace: shop, __meta_x: y}}]
  relabel_configs:
    - {source_labels: [__meta_x], target_label: zone}
    - {source_labels: [__address__], regex: '(.*):.*', replacement: '$1:15090', target_label: __address__}
    - {target_label: __param_format, replacement: prom}
    - {target_label: __scrape_interval__, replacement: 30s}",
    );
    let [target] = found.active.as_slice() else { panic!("{found:?}") };
    let labels = [("instance", "10.0.0.1:15090"), ("job", "mesh"), ("namespace", "shop"), ("zone", "y")];
    assert_eq!(target.labels, Labels::from_pairs(labels));
    assert_eq!(target.url, "http://10.0.0.1:15090/stats/prometheus?a+b=c%26d&format=prom&format=x");
    assert_eq!((target.interval, target.timeout), (Duration::from_secs(30), Duration::from_secs(10)));
    assert_eq!(target.discovered_labels.value("__address__"), "10.0.0.1:15020");
    assert_eq!(target.discovered_labels.value("__param_format"), "text");
    assert!(target.offset() < target.interval);
}

#[test]
fn reports_targets_that_are_dropped_wrong_double_or_too_many() {
    let found = found(
        "- job_name: a
  static_configs: [{targets: ['keep:1', 'keep:1', 'drop:1', 'slow:1']}]
  relabel_configs:
    - {source_labels: [__address__], regex: 'drop.*', action: drop}
    - {source_labels: [__address__], regex: 'slow.*', target_label: __scrape_timeout__, replacement: 5m}
- job_name: b
  target_limit: 1
  static_configs: [{targets: ['x:1', 'y:1']}]",
    );
    let seen: Vec<(&str, bool)> =
        found.active.iter().map(|t: &Arc<Target>| (t.labels.value("instance"), t.refused.is_some())).collect();
    assert_eq!(seen, [("keep:1", false), ("x:1", true), ("y:1", true)]);
    assert_eq!((found.dropped.len(), found.dropped_count), (1, 1));
    let messages: Vec<&str> = found.problems.iter().map(|p| p.message.as_str()).collect();
    assert!(messages[0].contains("`slow:1`: scrape timeout cannot be greater"), "{messages:?}");
    assert!(messages[1].contains("target_limit exceeded (number of targets: 2, limit: 1)"), "{messages:?}");
}

#[test]
fn reports_every_mistake_of_the_configuration_and_keeps_good_jobs() {
    let configs = parse(
        "- {job_name: good}
- {job_name: good}
- {job_name: slow, scrape_interval: 5s, scrape_timeout: 10s, scheme: ftp}
- {job_name: k8s, kubernetes_sd_configs: [{role: pod, api_server: ftp, selectors: [{role: node}]}]}
- {job_name: files, file_sd_configs: [{files: ['/a/*/b.json', 'x.txt']}]}
- {job_name: auth, bearer_token: a, basic_auth: {username: b}}
- {job_name: url, static_configs: [{targets: ['http://x/']}], http_sd_configs: [{url: 'nonsense'}]}
- {job_name: short, scrape_interval: 5s}",
    );
    let (jobs, errors) = jobs(&configs, &Defaults::default());
    assert_eq!(jobs.iter().map(|job| job.name.as_str()).collect::<Vec<_>>(), ["good", "short"]);
    assert_eq!(jobs[1].timeout, Duration::from_secs(5)); // the default is cut to the interval
    let messages: Vec<String> = errors.iter().map(ToString::to_string).collect();
    for needle in [
        "same job_name",
        "greater than scrape_interval",
        "scheme must be",
        "pod role supports only pod",
        "`/a/*/b.json`",
    ] {
        assert!(messages.iter().any(|message| message.contains(needle)), "{needle}: {messages:?}");
    }
    for needle in ["`x.txt`", "at most one of basic_auth", "`http://x/` is not host:port", "`nonsense`"] {
        assert!(messages.iter().any(|message| message.contains(needle)), "{needle}: {messages:?}");
    }
    let (configs, problems) = crate::yaml::decode::<Vec<ScrapeConfig>>("[{job_name: a, scrape_intervall: 5s}]");
    assert!(configs.is_none_or(|configs| configs.len() < 2) && problems[0].message.contains("scrape_intervall"));
}

async fn wait_for(targets: &mut watch::Receiver<Arc<Targets>>, what: impl Fn(&Targets) -> bool) -> Arc<Targets> {
    let found = tokio::time::timeout(Duration::from_secs(10), targets.wait_for(|targets| what(targets))).await;
    found.expect("targets within ten seconds").unwrap().clone()
}

fn instances(targets: &Targets) -> Vec<&str> {
    targets.active.iter().map(|target| target.labels.value("instance")).collect()
}

#[tokio::test]
async fn follows_target_files_and_keeps_the_last_good_list() {
    let folder = std::env::temp_dir().join(format!("meshscope-sd-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("a.yml"), "- targets: ['one:1']\n  labels: {zone: x}\n").unwrap();
    let yaml = format!("- job_name: f\n  file_sd_configs: [{{files: ['{}/*.yml', '{0}/b.json']}}]", folder.display());
    let (_jobs, receiver) = watch::channel(good(&yaml));
    let (discovery, mut targets) = Discovery::new(receiver);
    let counters = discovery.counters();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(discovery.run(shutdown.clone()));
    let first = wait_for(&mut targets, |t| instances(t) == ["one:1"]).await;
    assert_eq!(first.active[0].labels.value("zone"), "x");
    assert_eq!(first.active[0].discovered_labels.value("__meta_filepath"), folder.join("a.yml").to_string_lossy());
    assert!(first.problems[0].message.contains("b.json"), "{:?}", first.problems); // named but missing

    std::fs::write(folder.join("b.json"), r#"[{"targets": ["two:1"]}]"#).unwrap();
    wait_for(&mut targets, |t| instances(t) == ["one:1", "two:1"] && t.problems.is_empty()).await;
    std::fs::write(folder.join("a.yml"), "- targets: [1\n  oops").unwrap();
    let bad = wait_for(&mut targets, |t| !t.problems.is_empty()).await;
    assert_eq!(instances(&bad), ["one:1", "two:1"]);
    assert!(bad.problems[0].message.contains("a.yml"), "{:?}", bad.problems);
    std::fs::remove_file(folder.join("a.yml")).unwrap();
    wait_for(&mut targets, |t| instances(t) == ["two:1"] && t.problems.is_empty()).await;
    assert!(counters.file_failures.load(Ordering::Relaxed) >= 2);
    shutdown.cancel();
    running.await.unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn follows_an_http_list_and_a_reload() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let answer = Arc::new(parking_lot::Mutex::new((200_u16, r#"[{"targets":["a:1"]}]"#.to_owned())));
    let shared = Arc::clone(&answer);
    let handler = move || {
        let (status, body) = shared.lock().clone();
        async move { (axum::http::StatusCode::from_u16(status).unwrap(), [("content-type", "application/json")], body) }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/sd", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(handler)).await });

    let yaml = format!("- job_name: h\n  http_sd_configs: [{{url: '{url}', refresh_interval: 100ms}}]");
    let (jobs, receiver) = watch::channel(good(&yaml));
    let (discovery, mut targets) = Discovery::new(receiver);
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(discovery.run(shutdown.clone()));
    let first = wait_for(&mut targets, |t| instances(t) == ["a:1"]).await;
    assert_eq!(first.active[0].discovered_labels.value("__meta_url"), url);
    *answer.lock() = (500, String::new());
    let failed = wait_for(&mut targets, |t| !t.problems.is_empty()).await;
    assert!(instances(&failed) == ["a:1"] && failed.problems[0].message.contains("500"), "{failed:?}");
    *answer.lock() = (200, r#"[{"targets":["b:1"]}]"#.to_owned());
    wait_for(&mut targets, |t| instances(t) == ["b:1"] && t.problems.is_empty()).await;
    jobs.send(good("- {job_name: s, static_configs: [{targets: ['c:1']}]}")).unwrap();
    wait_for(&mut targets, |t| instances(t) == ["c:1"]).await;
    shutdown.cancel();
    running.await.unwrap();
}
