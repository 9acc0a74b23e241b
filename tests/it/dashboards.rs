//! Every query of every generated board, asked of the demo: it runs, and gives series where the demo has the traffic.

use std::collections::BTreeMap;
use std::net::TcpListener;

use meshscope::dashboards::grafana::{Dashboard, Target, Variable};
use meshscope::dashboards::{Named, all};
use meshscope::demo::{self, World};
use tokio_util::sync::CancellationToken;

use crate::app::{TestApp, eventually, new_folder};
use crate::postgres;

/// Panels that stay empty in the demo's first minute: board, title (`*`: every one), why. Their queries run all the same.
const EMPTY: &[(&str, &str, &str)] = &[
    ("istio-mesh", "TCP traffic", "TCP reports come each fifteen seconds, rates of them later"),
    ("istio-mesh", "TCP workloads", "as above"),
    ("service", "gRPC by status", "catalog speaks HTTP"),
    ("service", "TCP received by caller", "catalog speaks HTTP"),
    ("service", "TCP sent by caller", "catalog speaks HTTP"),
    ("workload", "TCP received", "checkout is called over HTTP"),
    ("workload", "TCP sent", "checkout is called over HTTP"),
    ("workload", "Flags of its calls", "nothing fails before the first incident"),
    ("istio-mesh", "Response flags", "nothing fails before the first incident"),
    ("edge", "TCP bytes", "the edge speaks HTTP"),
    ("control-plane", "*", "the demo has no istiod"),
    ("ambient", "*", "the demo has sidecars only"),
    ("linkerd", "*", "the demo is an Istio mesh"),
    ("resources", "CPU for 1,000 requests", "the demo has no kubelet"),
    ("resources", "CPU of proxies", "the demo has no kubelet"),
    ("resources", "Memory of proxies", "the demo has no kubelet"),
    ("resources", "Share of the pods' CPU", "the demo has no kubelet"),
    ("resources", "Throttled", "the demo has no kubelet"),
    ("security", "Denied by edge", "nothing is denied"),
    ("security", "Without a valid token", "nothing is denied"),
    ("security", "TCP in plain text", "all TCP callers have a proxy"),
    ("security", "TCP by policy", "as the TCP traffic of the mesh"),
    ("security", "Root certificate", "the demo has no istiod"),
    ("resilience", "Circuit breaker refusals", "comes with a later incident"),
    ("resilience", "Connection failures", "comes with a later incident"),
    ("resilience", "Timeouts", "comes with a later incident"),
    ("resilience", "Retries used up", "comes with a later incident"),
    ("resilience", "Injected faults by edge", "comes with a later incident"),
    ("resilience", "Callers that hung up", "nobody hangs up"),
    ("resilience", "Open circuit breakers", "comes with a later incident"),
    ("resilience", "Retry limits", "the demo's proxies do not collect them"),
    ("slo", "*", "budgets are recorded after minutes"),
    ("traces", "Service graph of spans", "pairs of spans are counted some seconds late"),
    ("traces", "Edges of the graph", "failures come with the first incident"),
    ("meshscope", "Remote write", "the demo sends nothing on"),
];

fn may_be_empty(board: &str, panel: &str) -> bool {
    EMPTY.iter().any(|(b, title, _)| *b == board && (*title == "*" || *title == panel))
}

/// What a viewer of the demo would choose where one must be chosen.
fn chosen(board: &str, variable: &Variable) -> String {
    if let Some(all) = variable.all_value {
        return all.to_owned();
    }
    if let Some(choice) = &variable.current {
        return choice.value.clone();
    }
    let value = match (board, variable.name) {
        ("split", "service") => "reviews",
        (_, "service") => "catalog",
        (_, "source") => "frontend-v1",
        (_, "workload") => "checkout-v1",
        (_, "source_namespace" | "service_namespace" | "workload_namespace") => "shop",
        (_, "datasource") => "meshscope",
        (board, name) => panic!("choose a {name} for the board {board}"),
    };
    value.to_owned()
}

/// A query as Grafana sends it.
fn filled_in(board: &str, dashboard: &Dashboard, expr: &str) -> String {
    let mut expr = expr.replace("$__rate_interval", "30s");
    let mut variables: Vec<&Variable> = dashboard.templating.list.iter().collect();
    // The longest name first: `$service` begins `$service_namespace`.
    variables.sort_by_key(|variable| std::cmp::Reverse(variable.name.len()));
    for variable in variables {
        expr = expr.replace(&format!("${}", variable.name), &chosen(board, variable));
    }
    expr
}

/// How many series a query gives, asked as its panel asks.
async fn series(app: &TestApp, target: &Target, expr: &str) -> usize {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let (from, to) = ((now - 60).to_string(), now.to_string());
    let url = if target.instant {
        reqwest::Url::parse_with_params("http://x/api/v1/query", [("query", expr)])
    } else {
        let params = [("query", expr), ("start", &from), ("end", &to), ("step", "15")];
        reqwest::Url::parse_with_params("http://x/api/v1/query_range", params)
    };
    let url = url.expect("an address");
    let data = app.data(&format!("{}?{}", url.path(), url.query().unwrap_or_default())).await;
    data["result"].as_array().expect("series").len()
}

/// Two ports that were free a moment ago: the demo and the service must know each other's.
fn free_ports() -> [u16; 2] {
    let listeners = [0; 2].map(|port| TcpListener::bind(("127.0.0.1", port)).expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("an address").port())
}

async fn demo_and_service(shutdown: &CancellationToken) -> TestApp {
    let (folder, [web, grpc]) = (new_folder(), free_ports());
    let world = World::start(demo::Config {
        listen: "127.0.0.1:0".parse().expect("an address"),
        otlp_grpc_endpoint: format!("http://127.0.0.1:{grpc}"),
        directory: folder.clone(),
        seed: 7,
    });
    let world = world.await.expect("the simulated mesh starts");
    let always = folder.join("always.yaml");
    let rule = "groups: [{name: always, rules: [{alert: Always, expr: vector(1), labels: {severity: info}}]}]\n";
    std::fs::write(&always, rule).expect("write the rule");
    let own = format!("scrape_configs:\n- job_name: meshscope\n  static_configs: [{{targets: ['127.0.0.1:{web}']}}]\n");
    let rules = format!("rule_files:\n- '{}'\n", always.display());
    let blocks = demo::configuration(&world).replace("scrape_configs:\n", &own).replace("rule_files:\n", &rules);
    let database = postgres::database().await;
    let url = database.database_url.as_ref().expect("a test database has an address").reveal();
    let ports = format!(
        "web: {{listen: '127.0.0.1:{web}'}}\notlp: {{grpc_listen: '127.0.0.1:{grpc}', http_listen: '127.0.0.1:0'}}\n\
         storage: {{database_url: '{url}'}}\n"
    );
    let app = TestApp::start_in(&folder, &format!("{blocks}\n{ports}")).await;
    tokio::spawn(world.run(shutdown.clone()));
    app
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_of_every_board_runs_and_gives_series_where_the_demo_has_the_traffic() {
    let shutdown = CancellationToken::new();
    let app = demo_and_service(&shutdown).await;
    let boards = all();
    let mut empty: BTreeMap<String, (&Target, String)> = BTreeMap::new();
    let mut run = 0;
    for Named { name, dashboard, .. } in &boards {
        for panel in &dashboard.panels {
            // What is asked in SQL is asked by tests/it/sql_readonly.rs.
            for target in panel.targets.iter().filter(|target| target.raw_sql.is_empty()) {
                let expr = filled_in(name, dashboard, &target.expr);
                // Whether it runs at all is known at once; `data` fails the test with the answer.
                run += 1;
                if series(&app, target, &expr).await == 0 && !may_be_empty(name, panel.title) {
                    empty.insert(format!("{name}: {} {}", panel.title, target.ref_id), (target, expr));
                }
            }
        }
        for annotation in &dashboard.annotations.list {
            app.query(annotation.expr).await;
        }
    }
    assert!(run > 250, "{run} queries");
    for (place, (target, expr)) in empty {
        let filled = async || (series(&app, target, &expr).await > 0).then_some(());
        eventually(&format!("{place} has series: {expr}"), filled).await;
    }
    shutdown.cancel();
    app.stop().await;
}

#[test]
fn what_may_be_empty_is_a_panel_of_a_board() {
    let boards = all();
    for (board, title, _) in EMPTY {
        let named = boards.iter().find(|named| named.name == *board).unwrap_or_else(|| panic!("no board {board}"));
        let known = named.dashboard.panels.iter().any(|panel| panel.title == *title);
        assert!(*title == "*" || known, "{board} has no panel {title}");
    }
}
