//! Rule files: what is taken, what is refused and how that is worded.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use super::*;

fn parsed(text: &str) -> ParsedFile {
    parse("r.yml", text, ReadOptions::default())
}

fn problems(text: &str) -> Vec<String> {
    parsed(text).problems.iter().map(ToString::to_string).collect()
}

fn in_group(rule: &str) -> String {
    format!("groups:\n  - name: g\n    rules:\n{rule}")
}

#[test]
fn reads_groups_and_lets_rule_labels_win() {
    let text = "
groups:
  - name: mesh
    interval: 30s
    query_offset: 10s
    limit: 5
    labels: {team: net, severity: none}
    rules:
      - alert: HighErrorRate
        expr: istio_requests_total > 0.1
        for: 5m
        keep_firing_for: 1m
        labels: {severity: page, code: 500}
        annotations: {summary: 'rate {{ $value }} of {{ $labels.job }}'}
      - record: a:b
        expr: 1
        labels: {drop: ''}
";
    let parsed = parsed(text);
    assert_eq!(parsed.problems, []);
    let group = &parsed.groups[0];
    assert_eq!((group.name.as_str(), group.file.as_str(), group.limit), ("mesh", "r.yml", 5));
    assert_eq!((group.interval.as_secs(), group.query_offset), (30, Some(Duration::from_secs(10))));
    let Rule::Alerting(alert) = &group.rules[0] else { panic!("an alert") };
    assert_eq!((alert.hold.as_secs(), alert.keep_firing_for.as_secs()), (300, 60));
    let labels = alert.written_labels();
    let labels: Vec<(&str, &str)> = labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(labels, [("code", "500"), ("severity", "page"), ("team", "net")]);
    assert_eq!(alert.written_annotations()[0].1, "rate {{ $value }} of {{ $labels.job }}");
    assert_eq!(group.rules[1].labels()[0], ("drop".to_owned(), String::new()));
}

#[test]
fn words_faults_as_prometheus_does() {
    for (text, expect) in [
        (
            in_group("      - record: ylo\n"),
            "r.yml: 4:9: group \"g\", rule 1, \"ylo\": field 'expr' must be set in rule",
        ),
        (
            in_group("      - record: Hello\n        expr: 1\n        for: 1m\n"),
            "r.yml: 4:17: group \"g\", rule 1, \"Hello\": invalid field 'for' in recording rule",
        ),
        (
            in_group("      - record: a{b=\"c\"}\n        expr: 1\n"),
            "r.yml: 4:17: group \"g\", rule 1, \"a{b=\\\"c\\\"}\": braces present in the recording rule name; should it be in expr?: a{b=\"c\"}",
        ),
        (
            in_group("      - expr: 1\n"),
            "r.yml: 4:9: group \"g\", rule 1, \"\": one of 'record' or 'alert' must be set",
        ),
        (
            in_group("      - record: a\n        alert: b\n        expr: 1\n"),
            "r.yml: 5:16: group \"g\", rule 1, \"b\": only one of 'record' and 'alert' must be set",
        ),
        (
            in_group("      - alert: a\n        expr: 1\n        labels: {__name__: x}\n"),
            "r.yml: 6:28: group \"g\", rule 1, \"a\": invalid label name: __name__",
        ),
        (
            in_group("      - alert: a\n        expr: 1\n        annotations:\n          s: '{{ nope }}'\n"),
            "r.yml: 7:14: group \"g\", rule 1, \"a\": annotation \"s\": template: __alert_a:1: function \"nope\" not defined",
        ),
        (
            in_group("      - alert: a\n        expr: 1\n        fro: 5m\n"),
            "r.yml: 6:9: field fro not found in type rulefmt.Rule; did you mean \"for\"?",
        ),
        (
            in_group("      - alert: a\n        expr: 1\n        for: five\n"),
            "r.yml: 6:14: for: not a valid duration string: \"five\" (write it like `1h30m`, `15s` or `500ms`)",
        ),
        ("groups:\n  - name: a\n  - name: a\n".to_owned(), "r.yml: 3:5: groupname: \"a\" is repeated in the same file"),
        ("groups:\n  - name: ''\n".to_owned(), "r.yml: 2:5: Groupname must not be empty"),
        ("groups: 3\n".to_owned(), "r.yml: 1:9: groups: expected a list"),
    ] {
        assert_eq!(problems(&text), [expect], "{text}");
    }
    let broken = problems(&in_group("      - alert: a\n        expr: 'sum('\n"));
    assert!(
        broken[0].starts_with("r.yml: 5:15: group \"g\", rule 1, \"a\": could not parse expression: 1:"),
        "{broken:?}"
    );
    assert!(problems("groups: [")[0].starts_with("r.yml: "), "not YAML");
}

#[test]
fn reports_every_fault_and_takes_nothing_of_a_faulty_file() {
    let text = in_group(
        "      - record: a\n      - alert: b\n        expr: 1\n        x: 1\n      - record: c\n        expr: 1\n",
    );
    assert_eq!(problems(&text).len(), 2);
    assert_eq!(parsed(&text).groups.len(), 0);
}

#[test]
fn takes_prometheus_rule_objects() {
    let text = "
apiVersion: v1
kind: ConfigMap
---
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata: {name: rules, namespace: mesh, uid: u-1}
spec:
  groups:
    - name: g
      interval: ''
      partial_response_strategy: warn
      rules:
        - alert: A
          expr: 1
          for: ''
---
apiVersion: v1
kind: List
items:
  - apiVersion: monitoring.coreos.com/v1
    kind: PrometheusRule
    metadata: {name: bad}
    spec: {groups: [{name: g, rules: [{record: x}]}]}
  - apiVersion: monitoring.coreos.com/v1
    kind: PrometheusRule
    metadata: {name: good}
    spec: {groups: [{name: g, rules: [{record: x, expr: 2}]}]}
";
    let parsed = parsed(text);
    let groups: Vec<(&str, usize)> = parsed.groups.iter().map(|g| (g.file.as_str(), g.rules.len())).collect();
    assert_eq!(groups, [("mesh-rules-u-1", 1), ("good", 1)]);
    assert_eq!((parsed.problems.len(), parsed.warnings.len()), (1, 1));
    assert!(parsed.problems[0].message.contains("field 'expr' must be set"), "{:?}", parsed.problems);
    let listed = "apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRuleList\nitems:\n- metadata: {name: a}\n  spec: {groups: [{name: g, rules: [{record: x, expr: 2}]}]}\n";
    assert_eq!(super::tests::parsed(listed).groups.len(), 1, "items that do not say what they are");
    let strict = "groups:\n  - name: g\n    partial_response_strategy: warn\n    rules: []\n";
    assert_eq!(problems(strict).len(), 1);
}

fn shared() -> Option<std::path::PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    if !root.is_dir() {
        println!("fixtures absent: {}", root.display());
        return None;
    }
    Some(root)
}

#[test]
fn the_rule_of_the_service_mesh_guide_loads_as_it_stands() {
    let Some(root) = shared() else { return };
    let guide = std::fs::read_to_string(root.join("reference/service-mesh-guide.txt")).unwrap();
    let start = guide.find("apiVersion: monitoring.coreos.com/v1").unwrap();
    let text = &guide[start..start + guide[start..].find("\n\n").unwrap()];
    let parsed = parsed(text);
    assert_eq!(parsed.problems, []);
    assert_eq!(parsed.groups[0].rules[0].name(), "HighErrorRate");
    assert_eq!(parsed.groups[0].rules[0].query(), r#"istio_requests_total{response_code=~"5.*"} > 0.1"#);
}

#[test]
fn agrees_with_promtool_about_every_fixture() {
    let Some(root) = shared() else { return };
    let folder = root.join("fixtures/rules");
    let checked = std::fs::read_to_string(folder.join("CHECKED.json")).unwrap();
    let checked: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&checked).unwrap();
    let mut differences = Vec::new();
    for (name, expect) in &checked {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        let parsed = parse(name, &text, ReadOptions::default());
        let verdict = expect["promtool_3.5.3"].as_str().unwrap();
        if (verdict == "ok") != parsed.problems.is_empty() {
            differences.push(format!("{name}: promtool {verdict}, ours {:?}", parsed.problems));
            continue;
        }
        if verdict == "ok" {
            let rules = || parsed.groups.iter().flat_map(|group| &group.rules);
            let alerts = rules().filter(|rule| matches!(rule, Rule::Alerting(_))).count();
            let counts = (parsed.groups.len(), alerts, rules().count() - alerts);
            let count = |key: &str| expect[key].as_u64().unwrap() as usize;
            if counts != (count("groups"), count("alerts"), count("records")) {
                differences.push(format!("{name}: {counts:?} of {expect}"));
            }
        } else if !verdict.contains("yaml: unmarshal errors") {
            // The same words after the place; promtool 3.5.3 knows no place for some.
            let words = |text: &str| text.split_once("group").map(|(_, rest)| rest.to_owned());
            if words(verdict) != words(&parsed.problems[0].to_string()) {
                differences.push(format!("{name}: {verdict}\n   ours {}", parsed.problems[0]));
            }
        }
    }
    assert_eq!(differences, [] as [String; 0]);
    println!("{} files", checked.len());
}

/// What promtool 3.5.3 says of files that are nearly right: `Some` is how many rules it finds.
#[test]
fn gives_the_verdicts_of_promtool_on_odd_files() {
    let rule = |fields: &str| format!("groups: [{{name: g, rules: [{{{fields}}}]}}]");
    let group = |fields: &str| format!("groups: [{{name: g, {fields}, rules: [{{alert: A, expr: up}}]}}]");
    let text = |template: &str| rule(&format!("alert: A, expr: up, annotations: {{a: '{template}'}}"));
    let check = |text: &str, expect: Option<usize>| {
        let parsed = parsed(text);
        let rules = parsed.groups.iter().map(|group| group.rules.len()).sum();
        assert_eq!(parsed.problems.is_empty().then_some(rules), expect, "{text}\n{:?}", parsed.problems);
    };
    check("", Some(0));
    check("groups: [null]", Some(0));
    check("groups: [{name: g, rules: [null]}]", Some(0));
    check("groups: {}", None);
    for (limit, expect) in [
        ("5", Some(1)),
        ("-5", Some(1)),
        ("1.5", Some(1)),
        ("1e3", Some(1)),
        ("0x10", Some(1)),
        ("\"5\"", None),
        ("x", None),
        ("99999999999999999999", None),
    ] {
        check(&group(&format!("limit: {limit}")), expect);
    }
    for (hold, expect) in [("5m", true), ("0", true), ("5", false), ("5m1h", false), ("99999y", false), ("-5m", false)]
    {
        check(&rule(&format!("alert: A, expr: up, for: {hold}")), expect.then_some(1));
    }
    for (expr, expect) in [
        ("1", true),
        ("'rate(x[5m*2])'", false),
        ("'sort_by_label(up, \"a\")'", false),
        ("'limitk(1, up)'", false),
        ("'x[5m]'", true),
    ] {
        check(&rule(&format!("record: a, expr: {expr}")), expect.then_some(1));
    }
    check(&rule("record: a, expr: up, labels: {a: '{{ foo }}'}"), Some(1));
    check(&rule("alert: a, expr: up, labels: {a: '{{ foo }}'}"), None);
    for (template, expect) in [
        ("{{ $x = 5 }}", true),
        ("{{ index $labels \"a\" }}", true),
        ("{{ humanize \"abc\" }}", true),
        ("{{ end }}", false),
        ("{{ else }}", false),
        ("{{ if true }}{{ else }}{{ end }}", true),
        ("{{ if true }}x", false),
        ("{{ now }}", false),
        ("{{ toDuration 5 }}", false),
        ("{{ urlQueryEscape \"a\" }}", false),
        ("{{ toTime 5 }}", true),
        ("{{ $nope }}", false),
        ("{{ break }}", false),
    ] {
        check(&text(template), expect.then_some(1));
    }
}

#[test]
fn enabled_features_and_remarks_are_taken_when_asked_for() {
    let features = Features { experimental_functions: true, duration_expressions: true };
    let text = "groups: [{name: g, owner: me, rules: [{record: a, expr: 'limitk(1, rate(x[5m*2]))', note: x}]}]";
    let options = ReadOptions { features, ignore_unknown_fields: true, ..ReadOptions::default() };
    assert_eq!(parse("r.yml", text, options).problems, []);
    assert_eq!(parse("r.yml", text, ReadOptions { features, ..ReadOptions::default() }).problems.len(), 2);
}
