//! The audit against traffic: gathered in process and over HTTP alike, the scorecard, and the audit of the service.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use meshscope::audit::{self, GatherError, Inputs, Observed, Options, PastEdges, Side, Source, Watch, WatchConfig};
use meshscope::clock::Clock;
use meshscope::mesh::{Input, Snapshot};
use meshscope::model::workload::Reporter;
use meshscope::model::{Labels, Timestamp};
use meshscope::promql::{self, Engine, QueryOptions};
use meshscope::series::{self, Head, Queryable, Row};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::api::{Parts, Server};
use crate::audit_rubbish::Folder;
use crate::store_tables::edge_minute;

const HOUR: Duration = Duration::from_secs(3_600);

const DECLARED: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {istio-injection: enabled}}\n\
    ---\napiVersion: v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\nspec: {selector: {app: cart}, ports: [{name: http, port: 80}]}\n\
    ---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: cart-v1, namespace: shop}\nspec: {selector: {matchLabels: {app: cart}}, \
    template: {metadata: {labels: {app: cart, version: v1}}, spec: {containers: [{name: cart, image: cart}]}}}\n";

fn declared() -> Snapshot {
    Snapshot::read(&[Input { name: "mesh.yaml".into(), text: DECLARED.to_owned() }], "default")
}

/// Half an hour of calls that ends now: of ten one in plain text, of twenty one that fails.
fn traffic(now: Timestamp) -> Head {
    let head = Head::new(series::Config::default());
    let call = |reporter: &str, source: &str, code: &str, security: &str| {
        let namespace = if source == "unknown" { "unknown" } else { "shop" };
        Labels::from_pairs([
            ("__name__", "istio_requests_total"),
            ("reporter", reporter),
            ("source_workload", source),
            ("source_workload_namespace", namespace),
            ("destination_workload", "cart-v1"),
            ("destination_workload_namespace", "shop"),
            ("destination_service", "cart.shop.svc.cluster.local"),
            ("destination_version", "v1"),
            ("request_protocol", "http"),
            ("response_code", code),
            ("response_flags", "-"),
            ("connection_security_policy", security),
        ])
    };
    let rows = [
        (call("source", "web-v1", "200", "unknown"), 17.0),
        (call("source", "web-v1", "500", "unknown"), 1.0),
        (call("destination", "web-v1", "200", "mutual_tls"), 17.0),
        (call("destination", "web-v1", "500", "mutual_tls"), 1.0),
        (call("destination", "unknown", "200", "none"), 2.0),
    ];
    for (labels, rate) in rows {
        let series = head.intern(&labels).expect("room");
        let row = |i: u32| Row { series, at: now - Duration::from_secs(15) * (120 - i), value: rate * f64::from(i) };
        head.append(&(0..=120).map(row).collect::<Vec<_>>());
    }
    head
}

fn own(head: Head, at: Timestamp) -> Source {
    let engine = Arc::new(Engine::new(promql::Config::default()));
    Source::Own { engine, series: Arc::new(head) as Arc<dyn Queryable>, at }
}

/// What there is to compare, rounded: the two are asked at slightly different moments.
fn told(observed: &Observed) -> Vec<String> {
    let line = |one: &audit::Calls| {
        let (from, count) = (one.from.name(), (one.count / 20.0).round());
        format!("{:?} {from} {:?} {} {:?} {count}", one.side, one.to.workload, one.host, one.code)
    };
    let mut lines: Vec<String> = observed.calls.iter().map(line).collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn a_server_is_asked_over_http_as_the_own_store_is() {
    let now = Clock::system().now();
    let server = Server::start(Parts { head: Some(traffic(now)), ..Parts::default() }).await;
    let inside = audit::gather(&own(traffic(now), now), HOUR).await.expect("the own store answers");
    let url = format!("http://{}", server.address);
    let outside = audit::gather(&Source::server(reqwest::Client::new(), &url), HOUR).await.expect("the server answers");
    assert_eq!(told(&inside), told(&outside));
    assert_eq!((inside.calls.len(), inside.gaps.len(), outside.gaps.len()), (5, 0, 0), "{:?}", outside.gaps);
    assert!(!inside.covered, "half an hour is no hour");
    let plain: Vec<&audit::Calls> = inside.calls.iter().filter(|one| one.security == "none").collect();
    assert_eq!(
        (plain.len(), plain[0].side, plain[0].from.name().as_str()),
        (1, Side::Server, "a caller without a proxy")
    );
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_named() {
    // What the binary does at its start: it must hold alone as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let gone = Source::server(reqwest::Client::new(), "http://127.0.0.1:1/");
    let error = audit::gather(&gone, HOUR).await.expect_err("nobody listens there");
    assert!(matches!(&error, GatherError::Nothing { url, .. } if url == "http://127.0.0.1:1"), "{error}");
    let server = Server::start(Parts::default()).await;
    let other = Source::server(reqwest::Client::new(), &format!("http://{}/graph", server.address));
    let error = audit::gather(&other, HOUR).await.expect_err("no API is there");
    assert!(error.to_string().contains("no JSON") || error.to_string().contains("404"), "{error}");
}

#[tokio::test]
async fn scores_have_evidence_and_what_cannot_be_measured_has_none() {
    let now = Clock::system().now();
    let observed = audit::gather(&own(traffic(now), now), HOUR).await.expect("the own store answers");
    let (mesh, options) = (declared(), Options::default());
    let report = audit::audit(&mesh, Some(&observed), &options);
    assert!(report.findings.iter().any(|one| one.code == "MS2012"), "{:?}", report.findings);
    let card = audit::score(&mesh, Some(&observed), &report, &options);
    assert_eq!(card.scores.len(), 2 * audit::ITEMS.len(), "the mesh and the namespace shop");
    let score = |item: &str, namespace: Option<&str>| {
        let fits = |one: &&audit::Score| one.item.name == item && one.namespace.as_deref() == namespace;
        card.scores.iter().find(fits).unwrap_or_else(|| panic!("{item}")).score
    };
    // Nine of ten calls are encrypted, nothing is STRICT: four fifths of 90.
    assert_eq!((score("mtls", None), score("mtls", Some("shop"))), (Some(72), Some(72)));
    // 17 of 18 calls of the caller succeed: a tenth would be 0.
    assert_eq!(score("mesh_health", None), Some(44));
    assert_eq!(score("security_policies", None), Some(0));
    assert_eq!(score("resource_overhead", None), None);
    assert!(card.scores.iter().all(|one| !one.evidence.is_empty()), "every score says what it is made of");
    for text in [card.table(), card.markdown()] {
        assert!(text.contains("Implement mTLS") && text.contains("not measurable"), "{text}");
    }
    let blind = audit::score(&mesh, None, &audit::audit(&mesh, None, &options), &options);
    let without: Vec<&str> = blind
        .scores
        .iter()
        .filter(|one| one.score.is_none() && one.namespace.is_none())
        .map(|one| one.item.name)
        .collect();
    let wanted = [
        "mtls",
        "observability",
        "mesh_health",
        "tracing",
        "metrics",
        "updates",
        "performance",
        "poor_monitoring",
        "resource_overhead",
        "configuration_drift",
    ];
    assert_eq!(without, wanted);
}

#[tokio::test]
async fn the_service_audits_itself_and_writes_scores() {
    let clock = Clock::system();
    let head = traffic(clock.now());
    let second = Duration::from_secs(1);
    let config = WatchConfig { interval: second.into(), window: HOUR.into(), ..WatchConfig::default() };
    let inputs = Inputs {
        declared: Some(Arc::new(|| audit::Sources { snapshot: Arc::new(declared()), files: None })),
        engine: Arc::new(Engine::new(promql::Config::default())),
        series: Arc::new(head.clone()),
        past: None,
        head: head.clone(),
        clock,
    };
    let watch = Watch::new(config, Options::default(), inputs);
    let board = watch.board();
    assert!(board.is_on() && board.latest().is_none());
    let stop = CancellationToken::new();
    let running = tokio::spawn(watch.run(stop.clone()));
    let engine = Engine::new(promql::Config::default());
    let asked = promql::parse("meshscope_audit_score{item=\"mtls\", namespace=\"shop\"}").expect("promql");
    let written = async {
        loop {
            let answer = engine.instant(&head, &asked, clock.now(), &QueryOptions::default()).await.expect("an answer");
            let promql::Value::Vector(samples) = answer.value else { panic!("a vector") };
            if let Some(sample) = samples.first() {
                return sample.value;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let score = tokio::time::timeout(Duration::from_secs(60), written).await.expect("a score is written");
    assert_eq!(score, 72.0);
    stop.cancel();
    running.await.expect("the audit ends when told");

    let latest = board.latest().expect("an audit");
    assert_eq!((latest.report.objects, latest.no_traffic.as_deref()), (3, None));
    let server = Server::start(Parts { audit: board, ..Parts::default() }).await;
    let answer = server.get("/api/mesh/v1/audit?severity=warning&namespace=shop").await.json();
    let data = &answer["data"];
    assert_eq!((&data["state"], &data["windowSeconds"]), (&json!("done"), &json!(3_600)), "{answer}");
    let codes: Vec<&str> =
        data["findings"].as_array().expect("findings").iter().filter_map(|one| one["code"].as_str()).collect();
    assert!(codes.contains(&"MS2012"), "{codes:?}");
    let scores = data["scores"].as_array().expect("scores");
    assert_eq!((scores.len(), &scores[0]["score"]), (audit::ITEMS.len(), &json!(72)));
    let refused = server.get("/api/mesh/v1/audit?severity=loud").await;
    assert_eq!(
        (refused.status, refused.body.contains("none of info, warning, error")),
        (400, true),
        "{}",
        refused.body
    );
}

/// The window is an hour of which half was seen; a week is known by its edges.
#[tokio::test]
async fn what_nobody_uses_is_said_of_a_longer_time_than_the_window() {
    let route = |name: &str, created: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: shop{created}}}\n\
             spec: {{hosts: [{name}], http: [{{route: [{{destination: {{host: {name}}}}}]}}]}}\n"
        )
    };
    let now = Clock::system().now();
    let young = format!(", creationTimestamp: \"{}\"", (now - HOUR).to_chrono().to_rfc3339());
    let text = format!(
        "{DECLARED}{}{}{}---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: cart, namespace: shop}}\n\
         spec: {{selector: {{matchLabels: {{app: cart}}}}, rules: [{{from: [{{source: {{principals: [{}, {}]}}}}]}}]}}\n",
        route("nightly", ""),
        route("gone", ""),
        route("new", &young),
        "cluster.local/ns/shop/sa/night",
        "cluster.local/ns/shop/sa/nobody"
    );
    let snapshot = Arc::new(Snapshot::read(&[Input { name: "mesh.yaml".into(), text }], "default"));
    let mut by_night = edge_minute(now, Reporter::Destination, "night", "cart-v1");
    std::sync::Arc::make_mut(&mut by_night.edge).source_principal =
        Some("spiffe://cluster.local/ns/shop/sa/night".into());
    let edges = vec![edge_minute(now, Reporter::Source, "web-v1", "nightly"), by_night];
    let week = Duration::from_secs(7 * 86_400);
    let told = |first| Ok(PastEdges { edges: edges.clone(), first: Some(first) });
    let unused: &[&str] = &[
        "MS2020 AuthorizationPolicy shop/cart: cluster.local/ns/shop/sa/nobody may call and did not in 7d",
        "MS2095 VirtualService shop/gone: nobody called its hosts in 7d",
    ];
    for (name, past, wanted, gaps) in [
        ("a week is known", told(now - week + HOUR), unused, 0),
        ("a day is known", told(now - HOUR * 24), &[][..], 0),
        ("the database is away", Err("it is away".to_owned()), &[][..], 1),
    ] {
        let (head, snapshot) = (traffic(now), Arc::clone(&snapshot));
        let inputs = Inputs {
            declared: Some(Arc::new(move || audit::Sources { snapshot: Arc::clone(&snapshot), files: None })),
            engine: Arc::new(Engine::new(promql::Config::default())),
            series: Arc::new(head.clone()),
            past: Some(Arc::new(move |from, to| {
                assert_eq!(to.since(from), week);
                let past = past.clone();
                Box::pin(async move { past })
            })),
            head,
            clock: Clock::system(),
        };
        let config = WatchConfig { interval: Duration::from_secs(1).into(), ..WatchConfig::default() };
        let watch = Watch::new(config, Options::default(), inputs);
        let (board, stop) = (watch.board(), CancellationToken::new());
        let running = tokio::spawn(watch.run(stop.clone()));
        let audited = async {
            while board.latest().is_none() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), audited).await.expect("an audit");
        stop.cancel();
        running.await.expect("the audit ends when told");
        let latest = board.latest().expect("an audit");
        let own = latest.report.findings.iter().filter(|one| ["MS2020", "MS2095", "MS2096"].contains(&one.code));
        let mut found: Vec<String> = own.map(|one| format!("{} {}: {}", one.code, one.subject, one.message)).collect();
        found.sort();
        assert_eq!(found, wanted, "{name}");
        assert_eq!(latest.scorecard.gaps.len(), gaps, "{name}: {:?}", latest.scorecard.gaps);
    }
}

#[tokio::test]
async fn a_service_without_paths_says_that_it_does_not_audit() {
    let server = Server::start(Parts::default()).await;
    let answer = server.get("/api/mesh/v1/audit").await.json();
    assert_eq!(answer["data"], json!({"state": "off", "total": 0, "findings": [], "scores": []}));
}

/// What the command prints and its exit code; it runs beside the server that it asks.
async fn command(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_meshscope"));
    let command = command.current_dir(folder).args(["mesh", "audit"]).args(arguments);
    let output = command.output().await.expect("meshscope runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn the_command_compares_files_with_a_running_server() {
    let server = Server::start(Parts { head: Some(traffic(Clock::system().now())), ..Parts::default() }).await;
    let folder = Folder::new();
    std::fs::write(folder.path().join("mesh.yaml"), DECLARED).expect("written");
    let url = format!("http://{}", server.address);
    let live = ["mesh.yaml", "--live", &url];
    let with = |more: &[&'static str]| live.iter().copied().chain(more.iter().copied()).collect::<Vec<_>>();

    let (code, said, _) = command(folder.path(), &with(&["--only", "MS2012"])).await;
    assert!(code == 3 && said.contains("warning [MS2012] Deployment shop/cart-v1"), "{code}: {said}");
    let (code, said, _) = command(folder.path(), &with(&["--scorecard", "-o", "json"])).await;
    let card: serde_json::Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!((code, &card["windowSeconds"], &card["scores"][0]["score"]), (0, &json!(3_600), &json!(72)));
    let (code, said, _) = command(folder.path(), &with(&["--scorecard", "-o", "markdown"])).await;
    assert!(code == 0 && said.contains("## Namespace shop") && said.contains("| 72 | Implement mTLS |"), "{said}");

    let wrong: [(&[&str], &str); 4] = [
        (&["mesh.yaml", "--live", "http://127.0.0.1:1"], "http://127.0.0.1:1 answers no query"),
        (&["mesh.yaml", "--live", "nonsense"], "nonsense"),
        (&["mesh.yaml", "-o", "markdown"], "--scorecard"),
        (&["mesh.yaml", "--scorecard", "-o", "sarif"], "table, json or markdown"),
    ];
    for (arguments, reason) in wrong {
        let (code, _, complaint) = command(folder.path(), arguments).await;
        assert!(code == 2 && complaint.contains(reason), "{arguments:?}: {code}: {complaint}");
    }
}

/// A day of calls is known of the server, of which the window sees an hour: by night somebody else calls something else.
#[tokio::test]
async fn the_command_looks_back_as_far_as_the_service() {
    let now = Clock::system().now();
    let head = Head::new(series::Config { memory_window: (HOUR * 48).into(), ..series::Config::default() });
    let call = |host: &str, version: &str, caller: &str| {
        let host = format!("{host}.shop.svc.example");
        Labels::from_pairs([
            ("__name__", "istio_requests_total"),
            ("reporter", "destination"),
            ("source_workload", caller),
            ("source_workload_namespace", "shop"),
            ("source_principal", &format!("spiffe://cluster.local/ns/shop/sa/{caller}")),
            ("destination_workload", "cart-v1"),
            ("destination_workload_namespace", "shop"),
            ("destination_service", &host),
            ("destination_version", version),
            ("response_code", "200"),
        ])
    };
    let write = |labels: Labels, hours: std::ops::Range<u32>| {
        let series = head.intern(&labels).expect("room");
        let row = |i: u32| Row { series, at: now - HOUR * 25 + Duration::from_secs(60) * i, value: f64::from(i) };
        head.append(&(hours.start * 60..hours.end * 60).map(row).collect::<Vec<_>>());
    };
    write(call("nightly", "v9", "night"), 8..10);
    write(call("cart", "v1", "web"), 0..25);
    let server = Server::start(Parts { head: Some(head), ..Parts::default() }).await;
    let route = |name: &str, rest: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec: {{host: {name}{rest}}}\n"
        )
    };
    let folder = Folder::new();
    let text = format!(
        "{DECLARED}{}{}{}---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: cart, namespace: shop}}\n\
         spec: {{selector: {{matchLabels: {{app: cart}}}}, rules: [{{from: [{{source: {{principals: [{}, {}]}}}}]}}]}}\n",
        route("nightly", ", subsets: [{name: v9, labels: {version: v9}}]"),
        route("gone", ""),
        route("cart", ", subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]"),
        "cluster.local/ns/shop/sa/night",
        "cluster.local/ns/shop/sa/nobody"
    );
    std::fs::write(folder.path().join("mesh.yaml"), text).expect("written");
    let url = format!("http://{}", server.address);
    let live = ["mesh.yaml", "--cluster-domain", "example", "--live", &url, "--only", "MS2020,MS2095,MS2096"];
    let day = [
        "Policy shop/cart: spec.rules[0].from[0].source.principals[1]: cluster.local/ns/shop/sa/nobody may call and did not in 1d",
        "Rule shop/gone: spec.host: nobody called its hosts in 1d",
        "Rule shop/cart: spec.subsets[1]: no call to cart.shop.svc.example reached the subset v2 in 1d",
    ];
    let hour = [
        "cluster.local/ns/shop/sa/night may call and did not in 1h",
        "Rule shop/nightly: spec.host: nobody called its hosts in 1h",
    ];
    for (more, wanted, unwanted) in [
        (&["--dead-after", "1d"][..], &day[..], &["night may call", "shop/nightly"][..]),
        (&["--dead-after", "1h"], &hour, &[]),
        // Of most of a week nothing is known.
        (&[], &[], &["MS20"]),
    ] {
        let arguments: Vec<&str> = live.iter().chain(more).copied().collect();
        let (code, said, complaint) = command(folder.path(), &arguments).await;
        assert_eq!((code, complaint.as_str()), (0, ""), "{more:?}: {said}");
        wanted.iter().for_each(|part| assert!(said.contains(part), "{more:?}: {part} is not in {said}"));
        unwanted.iter().for_each(|part| assert!(!said.contains(part), "{more:?}: {part} is in {said}"));
    }
}

#[tokio::test]
async fn the_alert_on_plain_text_where_strict_is_declared_finds_what_the_service_writes() {
    let clock = Clock::system();
    let head = traffic(clock.now());
    let policy = "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: default, namespace: shop}\n\
        spec: {mtls: {mode: STRICT}}\n";
    let text = format!("{DECLARED}{policy}");
    let snapshot = Arc::new(Snapshot::read(&[Input { name: "mesh.yaml".into(), text }], "default"));
    let config = WatchConfig { interval: Duration::from_secs(1).into(), window: HOUR.into(), ..WatchConfig::default() };
    let inputs = Inputs {
        declared: Some(Arc::new(move || audit::Sources { snapshot: Arc::clone(&snapshot), files: None })),
        engine: Arc::new(Engine::new(promql::Config::default())),
        series: Arc::new(head.clone()),
        past: None,
        head: head.clone(),
        clock,
    };
    let stop = CancellationToken::new();
    let running = tokio::spawn(Watch::new(config, Options::default(), inputs).run(stop.clone()));
    let pack = include_str!("../../alerts/istio-traffic.yaml");
    let rule = pack.split("- alert: ").find(|rule| rule.starts_with("IstioPlaintextWhereStrict")).expect("the rule");
    let expr = rule.split("expr: |").nth(1).and_then(|rest| rest.split("\n    for:").next()).expect("an expression");
    let (engine, asked) = (Engine::new(promql::Config::default()), promql::parse(expr).expect("promql"));
    let fires = async {
        loop {
            let answer = engine.instant(&head, &asked, clock.now(), &QueryOptions::default()).await.expect("an answer");
            let promql::Value::Vector(samples) = answer.value else { panic!("a vector") };
            if let Some(sample) = samples.first() {
                return sample.labels.to_string();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let labels = tokio::time::timeout(Duration::from_secs(60), fires).await.expect("the alert finds the workload");
    assert_eq!(labels, r#"{destination_workload="cart-v1", destination_workload_namespace="shop"}"#);
    stop.cancel();
    running.await.expect("the audit ends when told");
}
