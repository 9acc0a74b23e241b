//! PromQL against scripts: our own, and Prometheus' where they are at hand; and every query of the mesh dashboards.

use std::path::Path;

use meshscope::promql::{Config, Engine, QueryOptions, parse, testlang};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/fixtures/promql");

/// Runs every script of a folder; returns passed and skipped.
fn run_folder(folder: &Path) -> (usize, usize) {
    let (mut passed, mut skipped, mut wrong) = (0, 0, Vec::new());
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "test"))
        .collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let report = testlang::run_script(&name, &text);
        passed += report.passed;
        skipped += report.skipped;
        for failure in report.failed {
            wrong.push(format!("{name}:{}: expected {}, got {}", failure.line, failure.expected, failure.got));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    (passed, skipped)
}

#[test]
fn own_scripts_pass() {
    let (passed, skipped) = run_folder(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/promql")));
    assert!(passed >= 60 && skipped == 0, "{passed} passed, {skipped} skipped");
}

#[test]
fn engine_scripts_of_prometheus_pass() {
    let folder = Path::new(FIXTURES).join("promqltest");
    if !folder.is_dir() {
        println!("fixtures absent: {}", folder.display());
        return;
    }
    let (passed, skipped) = run_folder(&folder);
    assert!(passed >= 470, "{passed} passed, {skipped} skipped");
}

#[tokio::test]
async fn queries_of_mesh_tools_parse_print_and_run() {
    let engine = Engine::new(Config::default());
    let store = meshscope::series::Head::new(meshscope::series::Config::default());
    let mut run = 0;
    for file in ["dashboard-queries.json", "kiali-queries.json", "linkerd-viz-queries.json", "flagger-queries.json"] {
        let path = Path::new(FIXTURES).join(file);
        let Ok(text) = std::fs::read_to_string(&path) else {
            println!("fixtures absent: {}", path.display());
            continue;
        };
        let rows: Vec<serde_json::Value> =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
        for row in rows {
            let (Some(query), Some(parses)) = (row["promql"].as_str(), row["parses"].as_bool()) else { continue };
            let expr = match parse(query) {
                Ok(expr) if parses => expr,
                Err(_) if !parses => continue,
                other => panic!("{file}: {query}: {other:?}"),
            };
            let printed = expr.to_string();
            let again = parse(&printed).unwrap_or_else(|error| panic!("{file}: {printed}: {error}"));
            assert_eq!(again.to_string(), printed);
            let at = meshscope::model::Timestamp::from_millis(1_700_000_000_000);
            let answer = engine.instant(&store, &expr, at, &QueryOptions::default()).await;
            answer.unwrap_or_else(|error| panic!("{file}: {query}: {error}"));
            run += 1;
        }
    }
    assert!(run == 0 || run > 500, "{run} queries ran");
}
