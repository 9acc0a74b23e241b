#![allow(clippy::unwrap_used, reason = "tests")]
use super::super::export;
use super::*;
use crate::rules::file;
use crate::rules::lint::{self, Severity};
use crate::yaml;

const EVERY_KIND: &str = r#"
- {name: a, objective: 99.9, service: shop/*, description: "Customers can \"shop\".", owner: shop, labels: {tier: "1"}}
- {name: b, objective: 99, window: 28d, service: shop/cart, indicator: {latency: {threshold: 250ms}}}
- name: c
  objective: 99.5
  window: 7d
  edge: shop/web -> payments/*
  alerting: {ticket: {enabled: false}, page: {severity: page, labels: {team: x}, for: 5m}, min_events: 0}
- {name: d, objective: 99, mesh: linkerd, route: shop/cart/*}
- {name: e, objective: 95, indicator: {events: {total: 'rate(a[{{.window}}])', good: 'rate(g[{{.window}}])', group_by: [job]}}}
- {name: f, objective: 95, indicator: {error_ratio: {query: 'rate(bad[{{.window}}]) / rate(a[5m])'}}}
- {name: g, objective: 99, mesh: ambient, service: "*/*", indicator: {connections: {}}}
- {name: h, objective: 80, mesh: linkerd, service: shop/*}
- {name: i, objective: 95, indicator: {events: {total: 'rate(a[{{.window}}])', errors: 'rate(e[{{.window}}])'}}}
"#;

fn every(seconds: u64) -> file::ReadOptions {
    file::ReadOptions { interval: Duration::from_secs(seconds), ..file::ReadOptions::default() }
}

fn slos(text: &str) -> Slos {
    let (slos, problems) = yaml::decode::<Slos>(text);
    assert!(problems.is_empty(), "{problems:?}");
    slos.unwrap()
}

fn made(text: &str, seconds: u64) -> Vec<Arc<RuleGroup>> {
    groups(&slos(text), Duration::from_secs(seconds))
}

#[test]
fn factors_spend_the_same_share_of_the_budget_whatever_the_window_is() {
    let window =
        |days: u64| Window::try_from(crate::units::PromDuration::from(Duration::from_secs(days * 86_400))).unwrap();
    let factors = |days: u64| {
        PAGE.iter()
            .chain(&TICKET)
            .map(|pair| factor(window(days), pair.percent, Duration::from_secs(pair.long.1)))
            .collect::<Vec<_>>()
    };
    assert_eq!(factors(30), [14.4, 6.0, 3.0, 1.0]);
    assert_eq!(factors(28), [13.44, 5.6, 2.8, 1.0], "never below 1");
    assert_eq!(factors(7), [3.36, 1.4, 1.0, 1.0]);
    assert_eq!(factors(90), [43.2, 18.0, 9.0, 3.0]);
}

#[test]
fn what_is_exported_is_what_runs() {
    let groups = made(EVERY_KIND, 30);
    assert_eq!(groups.len(), 9 * 4);
    let text = export(groups.iter().map(Arc::as_ref));
    let read = file::parse(FILE, &text, every(1));
    assert!(read.problems.is_empty() && read.warnings.is_empty(), "{:?}\n{text}", read.problems);
    for (made, read) in groups.iter().zip(&read.groups) {
        assert!(made.is_same(read), "{}", made.name);
    }
}

#[test]
fn the_linter_has_nothing_against_them() {
    let groups = made(EVERY_KIND, 60);
    let groups: Vec<&RuleGroup> = groups.iter().map(Arc::as_ref).collect();
    let findings = lint::lint(&groups, &lint::Options::default());
    // What the user's own queries and short retentions would cause is theirs.
    let grave: Vec<String> =
        findings.iter().filter(|f| f.severity >= Severity::Warning).map(ToString::to_string).collect();
    assert!(grave.is_empty(), "{}", grave.join("\n"));
}

#[test]
fn groups_are_evaluated_as_often_as_their_readers_need() {
    let intervals = |seconds: u64| {
        made("[{name: a, objective: 99, service: a/b}]", seconds)
            .iter()
            .map(|g| g.interval.as_secs())
            .collect::<Vec<_>>()
    };
    assert_eq!(intervals(60), [60, 300, 120, 240]);
    assert_eq!(intervals(15), [15, 300, 30, 120]);
    assert_eq!(intervals(600), [60, 300, 120, 240], "what another group reads must be younger than five minutes");
}

#[test]
fn severities_can_be_set_and_switched_off() {
    let groups = made(EVERY_KIND, 60);
    let alerts = |slo: &str| {
        groups
            .iter()
            .filter(|g| g.name == slo || g.name.starts_with(&format!("{slo}:")))
            .flat_map(|g| &g.rules)
            .filter_map(|rule| match rule {
                Rule::Alerting(alert) => Some(alert),
                Rule::Recording(_) => None,
            })
            .map(|alert| (alert.name.clone(), alert.written_labels(), alert.hold.as_secs(), alert.query.clone()))
            .collect::<Vec<_>>()
    };
    let [(fast, labels, hold, query)] = &alerts("slo:c")[..] else { panic!("one alert") };
    let value = |name: &str| labels.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    assert_eq!((fast.as_str(), value("severity"), value("team"), *hold), (ALERT_FAST, Some("page"), Some("x"), 300));
    assert!(query.contains("(3.36 * 0.005)") && !query.contains(">= 30"), "{query}");
    let both = alerts("slo:a");
    assert_eq!(both.iter().map(|alert| alert.0.as_str()).collect::<Vec<_>>(), [ALERT_FAST, ALERT_SLOW]);
    assert!(
        both[1].1.contains(&("tier".to_owned(), "1".to_owned()))
            && both[1].1.contains(&("owner".to_owned(), "shop".to_owned()))
    );
    assert!(
        both[0].3.contains("* 300 >= 30") && both[1].3.contains("piece5m{sloth_slo=\"a\"}[2h]) * 7200 >= 30"),
        "{}",
        both[1].3
    );
    // 14.4 times a fifth would be more than all.
    assert!(alerts("slo:h")[0].3.contains("> 0.9"), "{}", alerts("slo:h")[0].3);
    assert!(!alerts("slo:f")[0].3.contains(">= 30"), "a share does not say how many");
}
