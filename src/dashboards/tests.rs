#![allow(clippy::unwrap_used, reason = "tests")]
use std::collections::BTreeSet;

use super::{
    grafana::{PanelKind, VariableKind},
    *,
};

/// Fills in Grafana's variables as a browser would, all chosen.
fn filled_in(expr: &str) -> String {
    expr.replace("$__rate_interval", "5m")
        .replace("$reporter", "source|waypoint")
        .replace("$namespace", ".*")
        .replace("$workload", ".*")
}

#[test]
fn checked_in_files_are_what_is_generated() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/dashboards");
    let of = |format| export(&Export { format, ..Export::default() }).unwrap();
    let generated = [of(Format::Json), of(Format::ConfigMap)].concat();
    for File { path, contents } in &generated {
        let checked_in = std::fs::read_to_string(format!("{folder}/{path}")).unwrap_or_default();
        assert!(
            checked_in == *contents,
            "dashboards/{path} is stale; refresh it with: cargo run -- dashboards export --out dashboards"
        );
    }
    let expected: BTreeSet<String> = generated.into_iter().map(|file| file.path).collect();
    let present: BTreeSet<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(present, expected, "nothing else lies in dashboards/");
}

#[test]
fn every_panel_has_queries_that_parse_a_unit_and_a_description() {
    for Named { dashboard, .. } in all() {
        let mut ids = BTreeSet::new();
        for panel in &dashboard.panels {
            assert!(ids.insert(panel.id));
            assert!(!panel.targets.is_empty() && !panel.description.is_empty(), "{}", panel.title);
            assert!(!panel.field_config.defaults.unit.is_empty(), "{}", panel.title);
            for target in &panel.targets {
                let expr = filled_in(&target.expr);
                assert!(!expr.contains('$'), "{expr} has a variable left");
                if let Err(error) = promql_parser::parser::parse(&expr) {
                    panic!("{}: {error}: {expr}", panel.title);
                }
            }
        }
    }
}

#[test]
fn the_guides_two_panels_are_there_and_count_rates_of_one_reporter() {
    let dashboard = mesh();
    for title in ["Request Rate", "Error Rate"] {
        let panel = dashboard.panels.iter().find(|panel| panel.title == title).unwrap();
        assert_eq!(panel.kind, PanelKind::Timeseries);
        let expr = &panel.targets[0].expr;
        let selectors = expr.matches("istio_requests_total{").count();
        assert_eq!(expr.matches("rate(istio_requests_total{reporter=~\"$reporter\"").count(), selectors, "{expr}");
    }
}

#[test]
fn mtls_is_read_from_the_called_side_only() {
    for panel in mesh().panels {
        for target in panel.targets.iter().filter(|target| target.expr.contains("connection_security_policy")) {
            assert!(!target.expr.contains("$reporter"), "{}", target.expr);
            assert!(target.expr.contains(r#"reporter=~"destination|waypoint""#));
        }
    }
}

#[test]
fn panels_lie_side_by_side_within_24_columns() {
    let panels = mesh().panels;
    for (index, panel) in panels.iter().enumerate() {
        let a = panel.grid_pos;
        assert!(a.x + a.w <= 24);
        for other in &panels[index + 1..] {
            let b = other.grid_pos;
            let apart = a.x + a.w <= b.x || b.x + b.w <= a.x || a.y + a.h <= b.y || b.y + b.h <= a.y;
            assert!(apart, "{} and {} overlap", panel.title, other.title);
        }
    }
}

#[test]
fn variables_are_data_source_namespace_workload_and_one_reporter_at_a_time() {
    let variables = mesh().templating.list;
    let names: Vec<_> = variables.iter().map(|variable| variable.name).collect();
    assert_eq!(names, ["datasource", "namespace", "workload", "reporter"]);
    assert_eq!(variables[0].kind, VariableKind::Datasource);
    assert!(!variables[3].multi && !variables[3].include_all);
}

#[test]
fn a_config_map_is_the_guides_object_with_a_dashboard_in_it() {
    let asked = Export {
        format: Format::ConfigMap,
        datasource: Some("meshscope \"eu\"".to_owned()),
        namespace: Some("monitoring".to_owned()),
        ..Export::default()
    };
    let files = export(&asked).unwrap();
    assert_eq!(files[0].path, "istio-grafana-dashboard.yaml");
    let object: serde_json::Value = serde_saphyr::from_str(&files[0].contents).unwrap();
    assert_eq!(object["kind"], "ConfigMap");
    assert_eq!(object["metadata"]["name"], "istio-grafana-dashboard");
    assert_eq!(object["metadata"]["namespace"], "monitoring");
    assert_eq!(object["metadata"]["labels"]["grafana_dashboard"], "1");
    let dashboard: serde_json::Value =
        serde_json::from_str(object["data"]["dashboard.json"].as_str().unwrap()).unwrap();
    assert_eq!(dashboard["title"], "Service Mesh Metrics");
    assert_eq!(dashboard["templating"]["list"][0]["current"]["value"], "meshscope \"eu\"");
}

#[test]
fn recorded_panels_read_what_the_pack_records_and_nothing_raw() {
    let rules = include_str!("../../alerts/recording.yaml");
    let names: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- record: ")).collect();
    let (raw, recorded) = (mesh(), recorded(mesh()));
    let mut changed = Vec::new();
    for (before, after) in raw.panels.iter().zip(&recorded.panels) {
        assert_eq!((before.title, before.targets.len()), (after.title, after.targets.len()));
        if before.targets[0].expr == after.targets[0].expr {
            continue;
        }
        changed.push(after.title);
        for target in &after.targets {
            let expr = filled_in(&target.expr);
            assert!(promql_parser::parser::parse(&expr).is_ok(), "{expr}");
            let read =
                expr.split(|c: char| !c.is_alphanumeric() && c != ':' && c != '_').filter(|word| word.contains(':'));
            let read: Vec<&str> = read.collect();
            assert!(!read.is_empty() && read.iter().all(|name| names.contains(name)), "{expr}: {names:?}");
            assert!(!expr.contains("rate("), "{expr}");
        }
    }
    assert_eq!(changed, ["Requests", "Errors", "Latency p95", "Request Rate", "Error Rate", "Latency"]);
}

#[test]
fn names_that_cannot_be_are_refused() {
    for datasource in ["", "a\nb", &"x".repeat(191)] {
        let asked = Export { datasource: Some(datasource.to_owned()), ..Export::default() };
        assert!(matches!(export(&asked), Err(Error::BadDatasource { .. })), "{datasource:?}");
    }
    for namespace in ["", "Upper", "a: b", "-a", &"x".repeat(64)] {
        let asked = Export { namespace: Some(namespace.to_owned()), ..Export::default() };
        assert!(matches!(export(&asked), Err(Error::BadName { .. })), "{namespace:?}");
    }
}

#[test]
fn the_pack_becomes_a_prometheus_rule() {
    let pack = include_str!("../../alerts/istio.yaml");
    let object: serde_json::Value =
        serde_saphyr::from_str(&prometheus_rule("istio", Some("monitoring"), pack).unwrap()).unwrap();
    let plain: serde_json::Value = serde_saphyr::from_str(pack).unwrap();
    assert_eq!(object["kind"], "PrometheusRule");
    assert_eq!(object["spec"], plain);
    assert!(matches!(prometheus_rule("istio", None, "rules: []\n"), Err(Error::NotARuleFile)));
    assert!(matches!(prometheus_rule("istio", None, "groups:\n---\ngroups:\n"), Err(Error::NotARuleFile)));
}
