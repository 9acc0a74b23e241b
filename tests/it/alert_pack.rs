//! What every alert that ships must have: somebody who is woken must know what it is, how grave, and what to do.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use meshscope::context::OPT_IN;
use meshscope::yaml::Node;

/// Ranges this long smooth by themselves: such an alert needs no `for`.
const SMOOTH: [&str; 6] = ["[10m]", "[15m]", "[30m]", "[1h]", "[3h]", "[6h]"];
/// Files whose alerts are about edges, so that the mesh has something to say of them.
const ABOUT_EDGES: [&str; 4] = ["istio.yaml", "istio-traffic.yaml", "linkerd.yaml", "ambient.yaml"];

/// Every alert of the pack with the name of its file.
fn pack() -> Vec<(String, Node)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("alerts");
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder alerts").flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        if !file.ends_with(".yaml") || file.ends_with("_test.yaml") {
            continue;
        }
        let text = fs::read_to_string(entry.path()).expect("readable");
        let documents = meshscope::yaml::documents(&text).expect("YAML");
        let groups = documents.iter().flat_map(|document| document.get("groups").map(Node::items).unwrap_or_default());
        let rules = groups.flat_map(|group| group.get("rules").map(Node::items).unwrap_or_default());
        found.extend(rules.filter(|rule| rule.get("alert").is_some()).map(|rule| (file.clone(), rule.clone())));
    }
    found
}

#[test]
fn every_alert_of_the_pack_says_what_it_is_how_grave_and_what_to_do() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    let pack = pack();
    for (file, rule) in &pack {
        let text = |path: &[&str]| {
            let found = path.iter().try_fold(rule, |node, key| node.get(key));
            found.and_then(Node::as_str).unwrap_or_default().to_owned()
        };
        let name = text(&["alert"]);
        let mut demand = |holds: bool, what: &str| {
            if !holds {
                wrong.push(format!("{file}: {name}: {what}"));
            }
        };
        let severity = text(&["labels", "severity"]);
        demand(["critical", "warning", "info"].contains(&severity.as_str()), "severity");
        demand(text(&["annotations", "summary"]).len() > 20, "summary");
        demand(text(&["annotations", "description"]).len() > 20, "description");
        let runbook = text(&["annotations", "runbook_url"]);
        demand(runbook == format!("docs/runbooks/{name}.md") && root.join(&runbook).is_file(), "runbook_url");
        let expr = text(&["expr"]);
        let is_smooth = SMOOTH.iter().any(|range| expr.contains(range));
        demand(!text(&["for"]).is_empty() || is_smooth, "for, or a range that smooths");
        // A share or a quantile of requests of a service needs a minimum of them.
        let judged = expr.contains("histogram_quantile") && expr.contains("requests") || expr.contains(") > 0.1\n");
        demand(!judged || expr.contains("\nand\n"), "a minimum of traffic");
        let wants_context = text(&["annotations", OPT_IN]) == "on";
        demand(wants_context == ABOUT_EDGES.contains(&file.as_str()), "meshscope_context");
    }
    assert!(pack.len() > 40, "{} alerts", pack.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_alert_of_the_pack_is_tested_firing_and_silent() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("alerts");
    let (mut fires, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for entry in fs::read_dir(folder).expect("the folder alerts").flatten() {
        if !entry.file_name().to_string_lossy().ends_with("_test.yaml") {
            continue;
        }
        let text = fs::read_to_string(entry.path()).expect("readable");
        for document in meshscope::yaml::documents(&text).expect("YAML") {
            let cases = document.get("tests").map(Node::items).unwrap_or_default().iter();
            for case in cases.flat_map(|test| test.get("alert_rule_test").map(Node::items).unwrap_or_default()) {
                let name = case.get("alertname").and_then(Node::as_str).unwrap_or_default().to_owned();
                let expected = case.get("exp_alerts").map(Node::items).unwrap_or_default();
                if expected.is_empty() {
                    silent.insert(name)
                } else {
                    fires.insert(name)
                };
            }
        }
    }
    let names: BTreeSet<String> =
        pack().iter().filter_map(|(_, rule)| Some(rule.get("alert")?.as_str()?.to_owned())).collect();
    assert_eq!(names.difference(&fires).collect::<Vec<_>>(), [] as [&String; 0], "no test in which they fire");
    assert_eq!(names.difference(&silent).collect::<Vec<_>>(), [] as [&String; 0], "no test in which they are silent");
}
