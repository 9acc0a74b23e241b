//! Objectives of the configuration become rules, series, alerts, JSON and a page; a reload changes them.

use std::process::Command;

use serde_json::{Value, json};

use crate::app::{Inbox, Target, TestApp, eventually, new_folder, one_target, with_ports};
use crate::postgres;

const SLOS: &str = "
slos:
- name: availability
  description: Customers can <b>shop</b>.
  owner: shop
  objective: 99.9
  service: shop/*
  alerting: {page: {for: 0s}, min_events: 0}
- name: nobody-calls
  objective: 99
  service: other/*
";

/// A page of counters: good and failed calls of one service, and of a second one that never fails.
fn counted(good: u32, failed: u32) -> String {
    let line = |service: &str, code: u32, n: u32| {
        format!(
            "istio_requests_total{{reporter=\"source\",destination_service_namespace=\"shop\",\
             destination_service_name=\"{service}\",response_code=\"{code}\",response_flags=\"-\"}} {n}\n"
        )
    };
    format!(
        "# TYPE istio_requests_total counter\n{}{}{}",
        line("cart", 200, good),
        line("cart", 503, failed),
        line("web", 200, good)
    )
}

fn find<'a>(data: &'a Value, id: &str) -> Option<&'a Value> {
    data["slos"].as_array()?.iter().find(|slo| slo["id"] == id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burning_budget_is_told_shown_and_listed() {
    let database = postgres::database().await;
    let (inbox, webhook) = Inbox::new().await;
    let target = Target::new(&counted(100, 0)).await;
    let folder = new_folder();
    let text = with_ports(&database, &one_target(target.address, webhook));
    let app = TestApp::start_in(&folder, &text).await;

    // Without objectives the page says how to write one.
    let (status, page) = app.get("/slos").await;
    assert!(status == 200 && page.contains("No objective is configured") && page.contains("objective: 99.9"), "{page}");
    assert_eq!(app.data("/api/mesh/v1/slos").await, json!({"total": 0, "slos": [], "without": []}));

    std::fs::write(&app.file, format!("{text}{SLOS}")).expect("write");
    assert_eq!(app.reload().await, (200, String::new()));
    let mut calls = 100;
    let data = eventually("the budget burns", async || {
        calls += 10;
        target.show(&counted(calls, calls - 100));
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let data = app.data("/api/mesh/v1/slos").await;
        find(&data, "availability:shop/cart").is_some_and(|slo| slo["state"] == "page").then_some(data)
    })
    .await;
    let cart = find(&data, "availability:shop/cart").expect("burning");
    assert_eq!(
        (&cart["service"], &cart["owner"], &cart["objective"]),
        (&json!("shop/cart"), &json!("shop"), &json!(99.9))
    );
    assert!(cart["burnRates"]["5m"].as_f64().is_some_and(|rate| rate > 14.4), "{cart}");
    assert_eq!(
        (&cart["alerts"][0]["name"], &cart["alerts"][0]["state"]),
        (&json!("ErrorBudgetBurnFast"), &json!("firing"))
    );
    // The glob found the second service by itself, and it is well.
    let web = eventually("the other service is judged", async || {
        let data = app.data("/api/mesh/v1/slos?slo=availability").await;
        find(&data, "availability:shop/web").filter(|slo| slo["budgetRemaining"].is_number()).cloned()
    })
    .await;
    assert_eq!(
        (&web["state"], &web["budgetRemaining"], &web["forecast"]),
        (&json!("healthy"), &json!(1), &json!("lasts"))
    );
    let without = &data["without"][0];
    assert_eq!(without["name"], "nobody-calls");
    inbox.wait_for("firing ErrorBudgetBurnFast").await;

    let (status, page) = app.get("/slos").await;
    assert_eq!(status, 200, "{page}");
    for part in
        ["shop/cart", "shop/web", "burning fast", "&lt;b&gt;shop", "ErrorBudgetBurnFast (critical)", "99.9% over 30 d"]
    {
        assert!(
            page.contains(part) || page.contains(&part.replace("&lt;", "&#60;").replace("&gt;", "&#62;")),
            "{part} is not in\n{page}"
        );
    }
    assert!(!page.contains("NaN") && !page.contains("<b>shop"), "{page}");
    let (_, page) = app.get("/slos?slo=availability&q=WEB&sort=name&state=").await;
    assert!(page.contains("<h3>shop/web</h3>") && !page.contains("<h3>shop/cart</h3>"), "{page}");
    let (_, page) = app.get("/slos?state=exhausted&q=nothing").await;
    assert!(page.contains("No objective matches"), "{page}");
    for refused in ["/slos?state=x", "/slos?sort=x"] {
        assert_eq!(app.get(refused).await.0, 400, "{refused}");
    }
    assert_eq!(app.get("/api/mesh/v1/slos?state=x").await.0, 400);
    let page = app.data("/api/mesh/v1/slos?state=page&limit=1").await;
    assert_eq!((page["total"].as_u64(), page["slos"].as_array().map(Vec::len)), (Some(1), Some(1)));

    // They are ordinary rules.
    let rules = app.data("/api/v1/rules").await;
    let names: Vec<&str> =
        rules["groups"].as_array().expect("groups").iter().filter_map(|g| g["name"].as_str()).collect();
    assert!(names.contains(&"slo:availability") && names.contains(&"slo:nobody-calls:budget"), "{names:?}");

    // A reload with a mistake changes nothing; one without the objective takes it away.
    std::fs::write(&app.file, format!("{text}{}", SLOS.replace("99.9", "100"))).expect("write");
    let (status, answer) = app.reload().await;
    assert!(
        status == 500 && answer.contains("slos[0].objective: an objective of 100 leaves no error budget"),
        "{answer}"
    );
    assert_eq!(app.data("/api/mesh/v1/slos?state=page").await["total"], 1);
    std::fs::write(&app.file, &text).expect("write");
    assert_eq!(app.reload().await, (200, String::new()));
    assert_eq!(app.data("/api/mesh/v1/slos").await["total"], 0);
    app.stop().await;
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_meshscope")).args(arguments).output().expect("the binary runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_shipped_rule_file_is_made_of_the_shipped_objectives() {
    let root = env!("CARGO_MANIFEST_DIR");
    let config = format!("{root}/alerts/examples/slos.yaml");
    let (code, exported, err) = run(&["rules", "export", "--slo-only", "-o", "rules", "-c", &config]);
    assert_eq!(code, 0, "{err}");
    let shipped = std::fs::read_to_string(format!("{root}/alerts/slo.yaml")).expect("alerts/slo.yaml");
    let body: String = shipped.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    assert!(
        body == exported,
        "alerts/slo.yaml differs from what `meshscope rules export --slo-only -o rules -c alerts/examples/slos.yaml` prints"
    );
    let (code, checked, err) = run(&["rules", "check", &format!("{root}/alerts/slo.yaml")]);
    assert_eq!(code, 0, "{checked}{err}");
}

#[test]
fn rules_of_a_configuration_are_exported_as_object_and_as_file() {
    let folder = new_folder();
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    write(
        "own.yaml",
        "groups: [{name: own, rules: [{alert: A, expr: 'up == 0', for: 1m, annotations: {a: 'x: {{ $value }}'}}]}]",
    );
    let config = write("mesh.yaml", &format!("rule_files: [own.yaml]\n{SLOS}"));
    let (code, object, err) = run(&["rules", "export", "-c", &config, "--namespace", "ops"]);
    assert_eq!(code, 0, "{err}");
    assert!(object.starts_with(
        "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: mesh\n  namespace: ops\n"
    ));
    assert!(object.contains("name: own") && object.contains("name: slo:availability\n"), "{object}");
    let written = write("object.yaml", &object);
    let (code, checked, err) = run(&["rules", "check", &written]);
    assert_eq!(code, 0, "{checked}{err}");
    let (_, only, _) = run(&["rules", "export", "-c", &config, "--slo-only"]);
    assert!(only.contains("name: mesh-slos\n") && !only.contains("name: own"), "{only}");
    let none = write("none.yaml", "web: {}\n");
    let (code, out, err) = run(&["rules", "export", "-c", &none, "--slo-only"]);
    assert!(code == 1 && out.is_empty() && err.contains("holds no `slos`"), "{err}");
    let bad = write("bad.yaml", "slos:\n- {name: a, objective: 99, service: cart}\n");
    let (code, _, err) = run(&["rules", "export", "-c", &bad]);
    assert!(code == 1 && err.contains("bad.yaml:2:37: slos[0].service: \"cart\" is no service"), "{err}");
    let (code, out, _) = run(&["check-config", &config]);
    assert_eq!((code, out.contains("valid; 0 scrape jobs, 45 rules")), (0, true), "{out}");
}
