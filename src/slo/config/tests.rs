#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::yaml;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    slos: Slos,
}

fn read(text: &str) -> Result<Slos, String> {
    let (file, problems) = yaml::decode::<File>(text);
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    if problems.is_empty() { Ok(file.unwrap_or_default().slos) } else { Err(problems.join("\n")) }
}

fn one(fields: &str) -> Result<Slo, String> {
    read(&format!("slos:\n- {{name: a, {fields}}}")).map(|slos| slos.0[0].clone())
}

#[test]
fn a_short_objective_has_the_usual_defaults() {
    let slo = one("objective: 99.9, service: shop/*").unwrap();
    assert_eq!((slo.window.text().as_str(), slo.window.days(), slo.objective.budget()), ("30d", 30, 0.001));
    assert_eq!((slo.indicator.kind, slo.indicator.about.as_str()), ("availability", "shop/*"));
    assert_eq!(slo.alerting, AlertingConfig::default());
    assert_eq!(one("objective: 99.95, window: 28d, service: a/b").unwrap().window.text(), "4w");
    assert!(read("slos: []").unwrap().is_empty() && read("{}").unwrap().is_empty());
}

#[test]
fn a_mistake_is_named_with_its_place_and_mend() {
    let text = "slos:\n- name: a\n  objective: 99.9\n  service: shop/*\n- name: b\n  objective: 100\n  service: shop/[ab]\n  indikator: {}\n";
    let problems = read(text).unwrap_err();
    for part in [
        "6:14: slos[1].objective: an objective of 100 leaves no error budget",
        "7:12: slos[1].service: \"shop/[ab]\": of globs there are `*`",
        "slos[1]: unknown key \"indikator\", did you mean \"indicator\"?",
    ] {
        assert!(problems.contains(part), "{part:?} is not in\n{problems}");
    }
    let twice = "slos:\n- {name: a, objective: 99, service: s/a}\n- {name: a, objective: 98, service: s/b}\n";
    let problems = read(twice).unwrap_err();
    assert!(problems.contains("2:3: slos: the name \"a\" is given to two objectives"), "{problems}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let o = "objective: 99, ";
    for (fields, expect) in [
        ("objective: 0, service: a/b", "no percentage between 1 and 99.9999"),
        ("objective: 0.999, service: a/b", "did you mean 99.9?"),
        ("objective: -1, service: a/b", "no percentage"),
        ("objective: .nan, service: a/b", "invalid type: string \".nan\", expected f64"),
        ("objective: many, service: a/b", "objective: invalid type"),
        ("service: a/b", "has no `objective`"),
        ("objective: 99", "it is about nothing: give one of `service: payments/*`"),
        ("objective: 99, service: a/b, edge: a/b -> c/d", "more than one thing"),
        ("objective: 99, service: a/b, window: 3d", "whole days from 7d to 90d"),
        ("objective: 99, service: a/b, window: 7d1h", "whole days"),
        ("objective: 99, service: a/b, window: soon", "not a valid duration"),
        ("objective: 99, service: a/b, mesh: consul", "unknown value \"consul\""),
        ("objective: 99, service: a/b, labels: {severity: x}", "\"severity\" is set by the rules themselves"),
        ("objective: 99, service: a/b, labels: {destination_service_name: x}", "is set by the rules themselves"),
        ("objective: 99, service: a/b, labels: {a-b: x}", "not a valid label name"),
        ("objective: 99, service: a/b, description: '{{ x }}'", "is no template"),
        ("objective: 99, service: a/b, labels: {a: '{{ x }}'}", "is no template"),
        ("objective: 99, service: a/b, route_label: x", "is for a `route` of Istio only"),
        ("objective: 99, service: a/b, alerting: {page: {severity: ''}}", "write `enabled: false`"),
        (
            "objective: 99, service: a/b, indicator: {availability: {}, latency: {threshold: 1s}}",
            "availability and latency",
        ),
    ] {
        let problem = one(fields).unwrap_err();
        assert!(problem.contains(expect), "{fields}\n{problem}");
    }
    for (indicator, expect) in [
        ("{latency: {}}", "has no `threshold`"),
        ("{latency: {threshold: 300ms}}", "the nearest are 250ms and 500ms, or list the proxies' own"),
        ("{latency: {threshold: 2h}}", "the nearest are 1h"),
        ("{latency: {threshold: 0s}}", "lets no request be in time"),
        ("{latency: {threshold: 300ms, bounds: [200ms, 400ms]}}", "the nearest are 200ms and 400ms"),
        ("{availability: {error_codes: [teapot]}}", "\"teapot\" is no response code"),
        ("{availability: {error_codes: [5x]}}", "is no response code"),
        ("{availability: {error_grpc_statuses: [17]}}", "17 is no gRPC status"),
        ("{availability: {error_grpc_statuses: [0]}}", "0 is OK"),
        ("{availability: {error_codes: [], error_grpc_statuses: []}}", "nothing ever fails"),
        ("{availability: {exclude: [retries]}}", "unknown value \"retries\""),
        ("{connections: {}}", "use `mesh: ambient`"),
    ] {
        let problem = one(&format!("{o} service: a/b, indicator: {indicator}")).unwrap_err();
        assert!(problem.contains(expect), "{indicator}\n{problem}");
    }
    for (fields, expect) in [
        ("mesh: ambient, view: server, service: a/b", "reports once"),
        ("mesh: linkerd, view: server, edge: a/b -> c/d", "which workload calls"),
        (
            "mesh: linkerd, service: a/b, indicator: {availability: {exclude: [client_cancelled]}}",
            "leave `exclude` out",
        ),
        ("mesh: linkerd, route: a/b/c, indicator: {latency: {threshold: 100ms}}", "the nearest are 50ms and 500ms"),
        ("mesh: linkerd, route: a/b/c, indicator: {availability: {error_grpc_statuses: [2]}}", "has no gRPC status"),
        ("mesh: ambient, route: a/b/c, indicator: {connections: {}}", "connections have no route"),
    ] {
        let problem = one(&format!("{o} {fields}")).unwrap_err();
        assert!(problem.contains(expect), "{fields}\n{problem}");
    }
    for name in ["", "a b", "ä", "a/b"] {
        assert!(read(&format!("slos: [{{name: '{name}', objective: 99, service: a/b}}]")).is_err(), "{name:?}");
    }
}

#[test]
fn queries_of_the_users_own_are_checked() {
    for (indicator, expect) in [
        ("{events: {total: 'rate(a[5m])'}}", "needs `errors` or `good`"),
        ("{events: {total: 'rate(a[5m])', errors: b, good: c}}", "one of them says it all"),
        ("{events: {errors: b}}", "events.total is empty"),
        ("{events: {total: 'rate(a[', errors: b}}", "events.total: could not parse expression: 1:"),
        ("{events: {total: 'a[5m]', errors: b}}", "and not an instant vector"),
        ("{events: {total: 'rate(a[{{.range}}])', errors: b}}", "`{{.range}}` is not known; known is `{{.window}}`"),
        ("{events: {total: 'rate(a[{{.window])', errors: b}}", "is not closed"),
        ("{events: {total: a, errors: b, group_by: [x, x]}}", "given twice"),
        ("{events: {total: a, errors: b, group_by: [sloth_id]}}", "set by the rules themselves"),
        ("{error_ratio: {query: ''}}", "error_ratio.query is empty"),
    ] {
        let problem = one(&format!("objective: 99, indicator: {indicator}")).unwrap_err();
        assert!(problem.contains(expect), "{indicator}\n{problem}");
    }
    let ratio = "indicator: {error_ratio: {query: 'bad:ratio{window=\"{{.window}}\"}'}}";
    assert!(one(&format!("objective: 99, {ratio}")).is_ok());
    let problem = one(&format!("objective: 99, {ratio}, alerting: {{min_events: 3}}")).unwrap_err();
    assert!(problem.contains("use the indicator `events`"), "{problem}");
    let problem = one(&format!("objective: 99, service: a/b, {ratio}")).unwrap_err();
    assert!(problem.contains("`service` says nothing to the indicator error_ratio"), "{problem}");
}

#[test]
fn numbers_are_written_without_binary_noise() {
    for (percent, budget) in
        [(99.9, "0.001"), (99.99, "0.0001"), (99.95, "0.0005"), (90.0, "0.1"), (99.9999, "0.000001")]
    {
        assert_eq!(tidy(Objective::try_from(percent).unwrap().budget()), budget);
    }
    assert_eq!((tidy(14.4), tidy(1.0), tidy(0.0)), ("14.4".into(), "1".into(), "0".into()));
}
