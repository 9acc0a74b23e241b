//! The examples of `docs/lint.md` are the grid: each code has a bad case that is found and a good one that is not.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::*;

const DOCUMENT: &str = include_str!("../../../docs/lint.md");

/// What there is in the examples that need to know it.
fn seen() -> Seen {
    let mut seen = Seen::default();
    seen.add("istio_requests_total", ["reporter", "response_code", "destination_service_name"].map(str::to_owned));
    seen.add_values("istio_requests_total", "destination_service_name", vec!["cart".to_owned(), "web".to_owned()]);
    seen.add("nothing_of_that_name_total", []);
    seen
}

fn codes_of(rules: &str) -> BTreeSet<&'static str> {
    let indented: String = rules.lines().map(|line| format!("  {line}\n")).collect();
    let text = format!("groups:\n- name: example\n  rules:\n{indented}");
    let options = Options { seen: Some(seen()), ..Options::default() };
    let linted = lint_text("example.yaml", &text, &options);
    assert!(linted.problems.is_empty() && linted.rules > 0, "{text}\n{:?}", linted.problems);
    for fix in linted.findings.iter().filter_map(|finding| finding.fix.as_deref()) {
        assert!(crate::promql::parse(fix).is_ok() || fix.contains("=~"), "{fix}");
    }
    linted.findings.iter().map(|finding| finding.code).collect()
}

/// Sections of the document: code → (severity told, bad examples, good examples).
fn sections() -> BTreeMap<String, (String, Vec<String>, Vec<String>)> {
    let mut sections: BTreeMap<String, (String, Vec<String>, Vec<String>)> = BTreeMap::new();
    let (mut code, mut block): (String, Option<(bool, String)>) = (String::new(), None);
    for line in DOCUMENT.lines() {
        if let Some(name) = line.strip_prefix("### ") {
            name.trim().clone_into(&mut code);
            sections.insert(code.clone(), Default::default());
        } else if line == "```yaml bad" || line == "```yaml good" {
            block = Some((line.ends_with("bad"), String::new()));
        } else if line == "```" {
            if let (Some((is_bad, text)), Some(section)) = (block.take(), sections.get_mut(&code)) {
                if is_bad { section.1.push(text) } else { section.2.push(text) }
            }
        } else if let Some((_, text)) = &mut block {
            text.push_str(line);
            text.push('\n');
        } else if let Some(section) = sections.get_mut(&code)
            && section.0.is_empty()
        {
            line.split(':').next().unwrap_or_default().to_lowercase().clone_into(&mut section.0);
        }
    }
    sections
}

#[test]
fn every_code_has_a_bad_example_that_is_found_and_a_good_one_that_is_not() {
    let sections = sections();
    let mut wrong = Vec::new();
    for code in CODES.iter().filter(|code| **code != codes::TOO_DEEP) {
        let Some((severity, bad, good)) = sections.get(code.name) else {
            wrong.push(format!("{}: docs/lint.md has no section", code.name));
            continue;
        };
        if severity != code.severity.as_str() {
            wrong.push(format!("{}: is {}, docs/lint.md says {severity}", code.name, code.severity));
        }
        if bad.is_empty() || good.is_empty() {
            wrong.push(format!("{}: needs a bad and a good example", code.name));
        }
        for (examples, found) in [(bad, true), (good, false)] {
            for example in examples.iter().filter(|example| codes_of(example).contains(code.name) != found) {
                wrong.push(format!("{}: found {}, expected {found}:\n{example}", code.name, !found));
            }
        }
    }
    let known: BTreeSet<&str> = CODES.iter().map(|code| code.name).collect();
    wrong.extend(sections.keys().filter(|name| !known.contains(name.as_str())).map(|name| format!("{name}: no code")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_expression_too_deep_to_read_is_said_to_be() {
    let deep = |levels: usize| format!("- {{alert: A, expr: '{} > 1'}}\n", vec!["a"; levels].join(" + "));
    assert!(codes_of(&deep(5_000)).contains("too-deep"));
    assert!(!codes_of(&deep(50)).contains("too-deep"));
}

#[test]
fn the_guides_rule_fires_forever_and_is_corrected() {
    let text = include_str!("../../../alerts/examples/guide.yaml");
    let linted = lint_text("alerts/examples/guide.yaml", text, &Options::default());
    let first = &linted.findings[0];
    assert_eq!((first.code, first.severity, first.line), ("counter-compared", Severity::Error, 9));
    assert!(first.message.starts_with("fires forever after the first 5xx"), "{}", first.message);
    let sum = |matchers: &str| {
        format!(
            "sum by (destination_service_namespace, destination_service_name) (rate(istio_requests_total{{{matchers}}}[5m]))"
        )
    };
    let (errors, all) =
        (sum(r#"reporter=~"source|waypoint",response_code=~"5..|0""#), sum(r#"reporter=~"source|waypoint""#));
    let corrected = format!("{errors} / {all} > 0.1 and {all} > 0.1");
    let fix = crate::promql::parse(first.fix.as_deref().unwrap()).unwrap();
    assert_eq!(fix.to_string(), crate::promql::parse(&corrected).unwrap().to_string());
    // The correction is one.
    let whole = format!(
        "groups: [{{name: g, rules: [{{alert: A, expr: '{corrected}', for: 5m, labels: {{severity: page}}, annotations: {{summary: a}}}}]}}]"
    );
    assert_eq!(lint_text("a", &whole, &Options::default()).findings, []);
    // Beside the guide's stands the corrected form, as the linter offers it.
    let beside = include_str!("../../../alerts/examples/guide-corrected.yaml");
    let linted = lint_text("alerts/examples/guide-corrected.yaml", beside, &Options::default());
    assert_eq!((linted.rules, linted.findings), (1, vec![]));
    let expr = beside.split("expr: |").nth(1).and_then(|rest| rest.split("\n      for:").next()).unwrap();
    assert_eq!(crate::promql::parse(expr).unwrap().to_string(), fix.to_string());
}

#[test]
fn the_pack_is_without_error_or_warning() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("alerts");
    let mut looked_at = 0;
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|e| e == "yaml") && !path.to_string_lossy().ends_with("_test.yaml") {
            let linted = lint_file(&path, &Options::default());
            looked_at += linted.rules;
            let grave: Vec<&Finding> = linted.findings.iter().filter(|one| one.severity > Severity::Info).collect();
            assert!(grave.is_empty() && linted.problems.is_empty(), "{grave:?} {:?}", linted.problems);
        }
    }
    assert!(looked_at > 40, "{looked_at} rules");
}

#[test]
fn rules_of_others_are_read_without_harm_and_rarely_blamed() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/fixtures/rules");
    if !Path::new(folder).exists() {
        println!("fixtures absent: {folder}");
        return;
    }
    let (mut folders, mut rules, mut errors) = (vec![Path::new(folder).to_owned()], 0, 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            match entry.path() {
                path if path.is_dir() => folders.push(path),
                path => {
                    let linted = lint_file(&path, &Options::default());
                    rules += linted.rules;
                    errors += linted.findings.iter().filter(|one| one.severity == Severity::Error).count();
                }
            }
        }
    }
    assert!(rules > 800 && errors * 20 < rules, "{errors} errors in {rules} rules");
}
