//! The linter of dashboards on files as people have them: our own boards, the fixtures, broken ones.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use meshscope::audit::{self, Options, Report};
use meshscope::dashboards::{Export, Format, Mesh, Source, export};
use meshscope::mesh::{self, Input, Snapshot};

use crate::app::new_folder;

fn audited(name: &str, text: &str) -> Report {
    let input = Input { name: name.into(), text: text.to_owned() };
    audit::audit(&Snapshot::read(&[input], "default"), None, &Options::default())
}

fn of_dashboards(report: &Report) -> Vec<String> {
    let all = report.findings.iter().filter(|finding| finding.code.starts_with("MS30"));
    all.map(|finding| {
        format!(
            "{}:{} {} {}: {}",
            finding.file.as_deref().unwrap_or(""),
            finding.line,
            finding.code,
            finding.field,
            finding.message
        )
    })
    .collect()
}

#[test]
fn our_own_boards_give_no_findings_in_any_form() {
    for format in Format::ALL {
        for (source, mesh) in [(None, None), (Some(Source::Prometheus), Some(Mesh::Istio)), (None, Some(Mesh::Ambient))]
        {
            let asked = Export { format, source, mesh, ..Export::default() };
            for file in export(&asked).expect("boards") {
                if file.path.ends_with("meshscope.yaml") && format == Format::Provisioning {
                    continue; // configuration of Grafana, no object
                }
                let report = audited(&file.path, &file.contents);
                assert_eq!(of_dashboards(&report), [] as [String; 0], "{}", file.path);
                assert!(
                    report.objects == 1 || file.path.contains("datasources"),
                    "{}: {} objects",
                    file.path,
                    report.objects
                );
            }
        }
    }
}

#[test]
fn findings_in_a_dashboard_file_stand_at_their_panel() {
    let text = r#"{
  "title": "Mesh", "uid": "mesh", "schemaVersion": 36,
  "templating": {"list": [{"name": "qrep", "type": "custom", "multi": true, "current": {"value": ["source", "destination"]}}]},
  "panels": [
    {"title": "Fine", "type": "text"},
    {
      "title": "Requests", "type": "graph", "datasource": "Prometheus",
      "targets": [
        {"expr": "sum(rate(istio_requests_total{reporter=~\"$qrep\"}[$__interval]))"},
        {"expr": "sum(rate(istio_tcp_sent_bytes_total{reporter=\"source\", response_code=\"200\"}[1m]))"}
      ]
    },
    {"title": "Row", "type": "row", "panels": [
      {"title": "Inside", "type": "stat", "targets": [{"expr": " "}]}
    ]}
  ]
}
"#;
    let found = of_dashboards(&audited("board.json", text));
    for part in [
        "board.json:3 MS3021 templating: no variable chooses the data source: panels ask Prometheus, the default one",
        "board.json:6 MS3020 panels[1]: the panel \"Requests\" has no unit",
        "board.json:7 MS3012 panels[1].type: the panel \"Requests\" is of the type graph",
        "board.json:9 MS3016 panels[1].targets[0].expr: the panel \"Requests\": both proxies of a call report it",
        "board.json:9 MS3017 panels[1].targets[0].expr: the panel \"Requests\" takes a rate over less than four",
        "board.json:10 MS3015 panels[1].targets[1].expr: the panel \"Requests\": istio_tcp_sent_bytes_total counts connections",
        "board.json:14 MS3011 panels[2].panels[0]: the panel \"Inside\" has only empty queries",
    ] {
        assert!(found.iter().any(|line| line.starts_with(part)), "{part}\nnot in\n{}", found.join("\n"));
    }
    // The answer of Grafana's API wraps the board.
    let wrapped = format!("{{\"meta\": {{}}, \"dashboard\": {text}}}");
    let again = of_dashboards(&audited("board.json", &wrapped));
    assert_eq!(again.len(), found.len(), "{again:?}");
    assert!(again.iter().any(|line| line.contains("dashboard.panels[1].targets[0].expr")), "{again:?}");
}

#[test]
fn rubbish_that_looks_like_a_dashboard_is_borne() {
    let deep = format!("{{\"panels\": {}{}}}", "[{\"panels\":".repeat(60), "[]".to_owned() + &"}]".repeat(60));
    let long = format!("{{\"panels\": [{{\"targets\": [{{\"expr\": \"{}\"}}]}}]}}", "(".repeat(70_000));
    for text in [
        r#"{"panels": []}"#,
        r#"{"panels": [null, 1, "x", [], {}]}"#,
        r#"{"panels": [{"targets": {"expr": 1}, "datasource": [], "fieldConfig": 3, "yaxes": {}}]}"#,
        r#"{"panels": [{"type": "graph", "targets": [{"expr": "$"}, {"expr": "${"}, {"expr": "[["}, {"expr": "é$é[[x]]"}]}]}"#,
        r#"{"panels": [{"targets": [{"expr": "rate(x[$a])", "interval": "$b"}]}], "templating": {"list": [{"name": "a", "current": {"value": [1, null]}}, 3]}}"#,
        r#"{"panels": {}, "rows": [{"panels": [{"title": "old", "type": "graph"}]}], "templating": {}}"#,
        &deep,
        &long,
    ] {
        let _ = audited("board.json", text).table(audit::Colour::Off);
        let map = serde_json::json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "b" }, "data": { "b.json": text } });
        let _ = audited("map.yaml", &map.to_string());
    }
}

fn json_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => json_files(&path, files),
            false if path.extension().is_some_and(|end| end == "json") => files.push(path),
            false => {}
        }
    }
    files.sort();
}

#[test]
fn the_boards_of_the_field_are_read_and_judged() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/fixtures/dashboards"));
    let mut files = Vec::new();
    json_files(folder, &mut files);
    if files.is_empty() {
        println!("fixtures absent: {}", folder.display());
        return;
    }
    let mut by_board: BTreeMap<String, BTreeMap<&str, usize>> = BTreeMap::new();
    for file in &files {
        let report = audit::audit(&mesh::read_paths(std::slice::from_ref(file), "default"), None, &Options::default());
        let name = file.strip_prefix(folder).unwrap_or(file).display().to_string();
        // One is a list of libraries, and no dashboard.
        if name.ends_with("jsonnetfile.json") {
            continue;
        }
        assert_eq!(report.objects, 1, "{name} is read as a dashboard: {:?}", report.findings);
        let others: Vec<_> = report.findings.iter().filter(|finding| !finding.code.starts_with("MS30")).collect();
        assert!(others.is_empty(), "{name}: {others:?}");
        for finding in &report.findings {
            *by_board.entry(name.clone()).or_default().entry(finding.code).or_default() += 1;
        }
        if std::env::var_os("SHOW").is_some() {
            println!("{}", of_dashboards(&report).join("\n"));
        }
    }
    println!("{by_board:#?}");
    let codes: BTreeSet<&str> = by_board.values().flat_map(|codes| codes.keys().copied()).collect();
    assert!(!codes.contains("MS3013"), "all their queries can be read: {by_board:#?}");
    for code in ["MS3012", "MS3014", "MS3016", "MS3020"] {
        assert!(codes.contains(code), "{code} is in no board of the field: {by_board:#?}");
    }
}

#[test]
fn a_file_that_yaml_cannot_read_is_still_a_dashboard() {
    // Tabs are no indentation in YAML, and JSON escapes the slash.
    let folder = new_folder();
    let file = folder.join("tabs.json");
    std::fs::write(&file, "{\n\t\"title\": \"a\\/b\",\n\t\"panels\": [\n\t\t{\"type\": \"graph\", \"targets\": [{\"expr\": \"up\"}]}\n\t]\n}\n").expect("write");
    let report = audit::audit(&mesh::read_paths(&[file], "default"), None, &Options::default());
    assert!(report.findings.iter().any(|finding| finding.code == "MS3012"), "{:?}", report.findings);
}
