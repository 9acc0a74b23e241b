#![allow(clippy::unwrap_used, reason = "tests")]
use std::collections::BTreeSet;

use super::{
    grafana::{Dashboard, Panel, PanelKind, Variable, VariableKind},
    *,
};

/// Fills in Grafana's variables as a browser would, all chosen.
fn filled_in(dashboard: &Dashboard, expr: &str) -> String {
    let mut expr = expr.replace("$__rate_interval", "5m");
    let mut variables: Vec<&Variable> = dashboard.templating.list.iter().collect();
    // The longest name first: `$service` begins `$service_namespace`.
    variables.sort_by_key(|variable| std::cmp::Reverse(variable.name.len()));
    for variable in variables {
        let value = variable.all_value.or(variable.current.as_ref().map(|choice| choice.value.as_str()));
        expr = expr.replace(&format!("${}", variable.name), value.unwrap_or("x"));
    }
    expr.replace("\"$1\"", "\"\"")
}

fn mesh() -> Dashboard {
    boards::mesh()
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
        assert!(!dashboard.description.is_empty() && dashboard.panels.len() >= 8, "{}", dashboard.title);
        for panel in &dashboard.panels {
            assert!(ids.insert(panel.id));
            assert!(!panel.targets.is_empty() && !panel.description.is_empty(), "{}", panel.title);
            assert!(!panel.field_config.defaults.unit.is_empty(), "{}", panel.title);
            for target in &panel.targets {
                if !target.raw_sql.is_empty() {
                    // What SQL says is known to PostgreSQL alone: tests/it/sql_readonly.rs asks it.
                    assert_eq!((target.datasource.kind, target.expr.as_str()), ("postgres", ""), "{}", panel.title);
                    continue;
                }
                let expr = filled_in(&dashboard, &target.expr);
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
    let panels = all().into_iter().flat_map(|named| named.dashboard.panels);
    let asking: Vec<_> = panels
        .flat_map(|panel| panel.targets)
        .filter(|target| target.expr.contains("connection_security_policy"))
        .collect();
    assert!(asking.len() > 8);
    for target in asking {
        assert!(!target.expr.contains("$reporter") && !target.expr.contains("source|waypoint"), "{}", target.expr);
        assert!(
            target.expr.contains(r#"reporter=~"destination|waypoint""#)
                || target.expr.contains(r#"reporter="destination""#)
        );
    }
}

#[test]
fn one_reporter_counts_in_each_query_of_calls_and_rates_follow_the_interval() {
    for Named { dashboard, name, .. } in all() {
        for target in dashboard.panels.iter().flat_map(|panel| &panel.targets) {
            for family in ["istio_requests_total{", "istio_request_duration_milliseconds_bucket{", "istio_tcp_"] {
                let (selectors, reported) =
                    (target.expr.matches(family).count(), target.expr.matches("reporter=").count());
                assert!(selectors <= reported, "{name}: {}", target.expr);
            }
            let fixed = target.expr.contains("rate(") && !target.expr.contains("[$__rate_interval]");
            assert!(!fixed || target.expr.contains("ratio_rate"), "{name}: {}", target.expr);
        }
    }
}

#[test]
fn boards_have_names_of_their_own_and_lead_to_each_other_and_to_our_pages() {
    let (mut uids, mut names, mut keys) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let boards = all();
    let known: BTreeSet<&str> = boards.iter().map(|named| named.dashboard.uid).collect();
    for named in &boards {
        let Dashboard { uid, tags, links, annotations, panels, .. } = &named.dashboard;
        assert!(uids.insert(*uid) && uid.len() <= 40 && uid.starts_with("meshscope-"), "{uid}");
        assert!(names.insert(named.name) && names.insert(named.config_map) && keys.insert(named.key), "{uid}");
        assert!(tags.contains(&"meshscope") && links[0].tags == ["meshscope"], "{uid}");
        assert!(links[1].url.starts_with("${meshscope}/"), "{uid}");
        assert!(annotations.list.first().is_some_and(|first| first.name == "Alerts") || *uid == "meshscope-sql");
        for annotation in &annotations.list {
            assert!(promql_parser::parser::parse(annotation.expr).is_ok(), "{}", annotation.expr);
        }
        let json = serde_json::to_string(panels).unwrap();
        for linked in json.split("/d/").skip(1) {
            let linked = linked.split('?').next().unwrap();
            assert!(known.contains(linked), "{uid} leads to {linked}");
        }
    }
}

#[test]
fn panels_lie_side_by_side_within_24_columns() {
    for named in all() {
        lie_side_by_side(&named.dashboard.panels);
    }
}

fn lie_side_by_side(panels: &[Panel]) {
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
    assert_eq!(names, ["datasource", "cluster", "namespace", "workload", "reporter", "meshscope"]);
    assert_eq!(variables[0].kind, VariableKind::Datasource);
    assert!(!variables[4].multi && !variables[4].include_all);
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
            let expr = filled_in(&raw, &target.expr);
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
        assert!(matches!(export(&asked), Err(Error::BadLabel { .. })), "{datasource:?}");
    }
    for folder in ["", "a/b", "..", " a", "a\nb", &"x".repeat(190)] {
        let asked = Export { folder: Some(folder.to_owned()), ..Export::default() };
        assert!(matches!(export(&asked), Err(Error::BadLabel { .. })), "{folder:?}");
    }
    let usual = Addresses::default;
    for addresses in [
        Addresses { meshscope: "meshscope:7070".to_owned(), ..usual() },
        Addresses { meshscope: "http://a b".to_owned(), ..usual() },
        Addresses { sql: "postgres".to_owned(), ..usual() },
        Addresses { sql: "postgres:0".to_owned(), ..usual() },
        Addresses { sql: "a\nb:1".to_owned(), ..usual() },
        Addresses { role: String::new(), ..usual() },
    ] {
        let asked = Export { addresses: Some(addresses.clone()), ..Export::default() };
        assert!(export(&asked).is_err(), "{addresses:?}");
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

fn names_of(asked: &Export) -> Vec<&'static str> {
    chosen(asked).unwrap().iter().map(|named| named.name).collect()
}

#[test]
fn a_mesh_gets_the_boards_that_concern_it_with_the_reporters_it_has() {
    let of = |mesh| Export { mesh: Some(mesh), ..Export::default() };
    let any = ["resources", "slo", "alerts", "traces", "meshscope", "sql"];
    assert_eq!(names_of(&of(Mesh::Linkerd)), ["resources", "linkerd", "slo", "alerts", "traces", "meshscope", "sql"]);
    assert!(names_of(&of(Mesh::Ambient)).contains(&"ambient") && !names_of(&of(Mesh::Ambient)).contains(&"linkerd"));
    assert!(names_of(&of(Mesh::Istio)).contains(&"service") && !names_of(&of(Mesh::Istio)).contains(&"ambient"));
    assert!(any.iter().all(|name| Mesh::ALL.iter().all(|mesh| names_of(&of(*mesh)).contains(name))));
    assert_eq!(names_of(&Export::default()).len(), all().len());
    for (mesh, expect) in [(Mesh::Istio, "source"), (Mesh::Ambient, "waypoint")] {
        let boards = chosen(&of(mesh)).unwrap();
        let variables = boards.iter().flat_map(|named| &named.dashboard.templating.list);
        let reporters: Vec<&Variable> = variables.filter(|variable| variable.name == "reporter").collect();
        assert!(reporters.len() > 3);
        for reporter in reporters {
            assert_eq!(reporter.current.as_ref().unwrap().value, expect);
            assert!(reporter.query.starts_with(&format!("{} : {expect}", reporter.options[0].text)));
        }
    }
}

#[test]
fn a_prometheus_alone_gets_no_board_and_no_link_that_needs_meshscope() {
    let asked = Export { source: Some(Source::Prometheus), ..Export::default() };
    let boards = chosen(&asked).unwrap();
    assert!(boards.iter().all(|named| !["meshscope", "sql"].contains(&named.name)) && boards.len() == all().len() - 2);
    for named in &boards {
        let json = serde_json::to_string(&named.dashboard).unwrap();
        assert!(!json.contains("${meshscope}"), "{}", named.name);
    }
    let own = export(&Export { source: Some(Source::Meshscope), ..Export::default() }).unwrap();
    let board: serde_json::Value = serde_json::from_str(&own[0].contents).unwrap();
    assert_eq!(board["templating"]["list"][0]["current"]["value"], "meshscope");
}

#[test]
fn a_provisioning_folder_has_boards_their_reader_and_data_sources_that_lead_to_each_other() {
    let addresses = Addresses {
        meshscope: "https://mesh.example/".to_owned(),
        role: "re'ad\"er".to_owned(),
        ..Addresses::default()
    };
    let asked = Export {
        format: Format::Provisioning,
        folder: Some("Mesh: \"eu\"".to_owned()),
        addresses: Some(addresses),
        ..Export::default()
    };
    let files = export(&asked).unwrap();
    let read = |path: &str| -> serde_json::Value {
        let file = files.iter().find(|file| file.path == path).unwrap();
        serde_saphyr::from_str(&file.contents).unwrap_or_else(|error| panic!("{error}: {}", file.contents))
    };
    let provider = &read("dashboards/meshscope.yaml")["providers"][0];
    assert_eq!((&provider["folder"], &provider["type"]), (&"Mesh: \"eu\"".into(), &"file".into()));
    let board: serde_json::Value = serde_json::from_str(
        &files.iter().find(|file| file.path == "dashboards/meshscope/edge.json").unwrap().contents,
    )
    .unwrap();
    assert_eq!(board["uid"], "meshscope-edge");
    let sources = read("datasources/meshscope.yaml");
    assert_eq!(sources["apiVersion"], 1);
    let sources = sources["datasources"].as_array().unwrap();
    let of = |kind: &str| sources.iter().find(|source| source["type"] == kind).unwrap();
    let kinds: Vec<&str> = sources.iter().map(|source| source["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["prometheus", "alertmanager", "jaeger", "tempo", "postgres"]);
    for (kind, url) in [
        ("prometheus", "https://mesh.example"),
        ("alertmanager", "https://mesh.example/alertmanager"),
        ("jaeger", "https://mesh.example/jaeger"),
        ("tempo", "https://mesh.example/tempo"),
        ("postgres", "postgres:5432"),
    ] {
        assert_eq!((&of(kind)["url"], &of(kind)["access"]), (&url.into(), &"proxy".into()));
    }
    let metrics = &of("prometheus")["uid"];
    let (tempo, jaeger) = (&of("tempo")["jsonData"], &of("jaeger")["jsonData"]);
    assert_eq!((&tempo["serviceMap"]["datasourceUid"], &tempo["tracesToMetrics"]["datasourceUid"]), (metrics, metrics));
    assert_eq!(&jaeger["tracesToMetrics"]["datasourceUid"], metrics);
    assert_eq!(tempo["streamingEnabled"], serde_json::json!({ "search": false, "metrics": false }));
    let exemplars = &of("prometheus")["jsonData"]["exemplarTraceIdDestinations"][0];
    assert_eq!(exemplars["datasourceUid"], of("tempo")["uid"]);
    assert_eq!(of("prometheus")["jsonData"]["alertmanagerUid"], of("alertmanager")["uid"]);
    assert_eq!(of("alertmanager")["jsonData"]["implementation"], "prometheus");
    let sql = of("postgres");
    assert_eq!(
        (&sql["user"], &sql["secureJsonData"]["password"]),
        (&"re'ad\"er".into(), &"${MESHSCOPE_SQL_PASSWORD}".into())
    );
    // Grafana takes `$` for its environment, so the one of `$__tags` is doubled; what it then asks must parse.
    for query in tempo["tracesToMetrics"]["queries"].as_array().unwrap() {
        let text = query["query"].as_str().unwrap();
        assert!(text.contains("{$$__tags"), "{text}");
        let asked = text.replace("$$__tags", "service=\"cart\"");
        assert!(promql_parser::parser::parse(&asked).is_ok(), "{asked}");
    }
}

#[test]
fn the_operators_objects_hold_the_boards_and_data_sources() {
    let asked = Export {
        format: Format::Operator,
        namespace: Some("monitoring".to_owned()),
        mesh: Some(Mesh::Linkerd),
        ..Export::default()
    };
    let files = export(&asked).unwrap();
    let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    assert!(
        paths.contains(&"grafanadashboard-linkerd.yaml") && paths.contains(&"grafanadatasources.yaml"),
        "{paths:?}"
    );
    for file in &files {
        let objects: Vec<serde_json::Value> = serde_saphyr::from_multiple(&file.contents).unwrap();
        for object in objects {
            assert_eq!(object["apiVersion"], "grafana.integreatly.org/v1beta1");
            assert_eq!(object["metadata"]["namespace"], "monitoring");
            assert_eq!(object["spec"]["instanceSelector"]["matchLabels"]["dashboards"], "grafana");
            match object["kind"].as_str().unwrap() {
                "GrafanaDashboard" => {
                    let board: serde_json::Value =
                        serde_json::from_str(object["spec"]["json"].as_str().unwrap()).unwrap();
                    assert!(board["uid"].as_str().unwrap().starts_with("meshscope-"));
                    assert_eq!(object["spec"]["folder"], "Service mesh");
                }
                "GrafanaDatasource" => {
                    let source = &object["spec"]["datasource"];
                    assert!(source["url"].is_string() && source["uid"].is_string() && source["isDefault"] == false);
                    let text = source.to_string();
                    assert!(!text.contains("$$"), "the operator replaces no variables: {text}");
                    let secret = &object["spec"]["valuesFrom"][0];
                    assert_eq!(secret.is_object(), source["type"] == "postgres");
                }
                other => panic!("{other}"),
            }
        }
    }
}

#[test]
fn sql_is_written_as_the_data_source_of_postgresql_wants_it() {
    let named = all().into_iter().find(|named| named.name == "sql").unwrap();
    let json = serde_json::to_value(&named.dashboard).unwrap();
    let target = &json["panels"][4]["targets"][0];
    assert_eq!(
        (&target["rawQuery"], &target["editorMode"], &target["format"]),
        (&true.into(), &"code".into(), &"time_series".into())
    );
    assert!(target["rawSql"].as_str().unwrap().contains("$__timeFilter(minute)") && target.get("expr").is_none());
    assert_eq!(json["templating"]["list"][0]["query"], "postgres");
    assert_eq!(json["annotations"]["list"], serde_json::json!([]));
}
