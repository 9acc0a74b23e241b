//! The life of an alert, evaluation by evaluation.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::model::stale_marker;
use crate::rules::definition::Rule;
use crate::rules::file;

const MINUTE: u64 = 60;

fn rule(extra: &str) -> AlertingRule {
    let text = format!("groups:\n- name: g\n  rules:\n  - alert: Down\n    expr: up == 0\n{extra}");
    let mut parsed = file::parse("r.yml", &text, file::ReadOptions::default());
    assert_eq!(parsed.problems, []);
    match parsed.groups.remove(0).rules.remove(0) {
        Rule::Alerting(rule) => rule,
        Rule::Recording(_) => unreachable!("an alert was written"),
    }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_000_000_000) + Duration::from_secs(seconds)
}

fn found(instance: &str, value: f64) -> Found {
    let labels = Labels::from_pairs([("alertname", "Down"), ("instance", instance)]);
    Found { annotations: Labels::from_pairs([("value", value.to_string())]), labels, value }
}

const SENDING: Sending = Sending { resend_delay: Duration::from_secs(60), interval: Duration::from_secs(30) };

/// One evaluation: states after it, transitions, and what is sent (as `from>to` and `state`).
fn step(state: &mut AlertingState, rule: &AlertingRule, seconds: u64, present: &[&str]) -> (String, String, String) {
    let present = present.iter().map(|instance| found(instance, 1.0)).collect();
    let changes = state.update(rule, present, at(seconds), 0).unwrap();
    let join = |texts: Vec<String>| texts.join(" ");
    let states = join(state.active().map(|a| format!("{}={}", a.labels.value("instance"), a.state.as_str())).collect());
    let changes = join(changes.iter().map(|c| format!("{}>{}", c.from.as_str(), c.alert.state.as_str())).collect());
    let sent = state.to_send(at(seconds), SENDING, "url");
    state.mark_sent(&sent, at(seconds));
    (states, changes, join(sent.iter().map(|a| a.state.as_str().to_owned()).collect()))
}

fn check(rule: &AlertingRule, steps: &[(u64, &[&str], &str, &str, &str)]) -> AlertingState {
    let mut state = AlertingState::new(true);
    for (seconds, present, states, changes, sent) in steps {
        let got = step(&mut state, rule, *seconds, present);
        assert_eq!(got, ((*states).to_owned(), (*changes).to_owned(), (*sent).to_owned()), "at {seconds}");
    }
    state
}

#[test]
fn is_pending_for_its_for_then_fires_then_resolves_and_is_resent() {
    let state = check(
        &rule("    for: 1m\n"),
        &[
            (0, &["a"], "a=pending", "inactive>pending", ""),
            (30, &["a"], "a=pending", "", ""),
            (60, &["a"], "a=firing", "pending>firing", "firing"),
            (90, &["a"], "a=firing", "", ""),
            (120, &["a"], "a=firing", "", ""),
            (150, &["a"], "a=firing", "", "firing"),
            (180, &[], "", "firing>inactive", "inactive"),
            (210, &[], "", "", ""),
            (270, &[], "", "", "inactive"),
            (180 + 15 * MINUTE, &[], "", "", "inactive"),
            (181 + 15 * MINUTE, &[], "", "", ""),
            (300 + 15 * MINUTE, &[], "", "", ""),
        ],
    );
    assert!(state.alerts.is_empty());
}

#[test]
fn says_when_it_began_ended_and_until_when_it_holds() {
    let (rule, mut state) = (rule("    for: 1m\n"), AlertingState::new(true));
    for seconds in [0, 60] {
        step(&mut state, &rule, seconds, &["a"]);
    }
    let alert = state.active().next().unwrap().clone();
    assert_eq!((alert.active_at, alert.fired_at, alert.resolved_at), (at(0), Some(at(60)), None));
    assert_eq!((alert.valid_until, alert.ends_at()), (at(60 + 240), at(300)));
    state.update(&rule, vec![], at(90), 0).unwrap();
    let resolved = state.to_send(at(90), SENDING, "url").remove(0);
    assert_eq!((resolved.fired_at, resolved.resolved_at, resolved.ends_at()), (Some(at(60)), Some(at(90)), at(90)));
}

#[test]
fn fires_at_once_without_for_and_vanishes_while_pending() {
    check(&rule(""), &[(0, &["a", "b"], "a=firing b=firing", "inactive>firing inactive>firing", "firing firing")]);
    let pending = check(
        &rule("    for: 1m\n"),
        &[
            (0, &["a"], "a=pending", "inactive>pending", ""),
            (30, &[], "", "pending>inactive", ""),
            (60, &["a"], "a=pending", "inactive>pending", ""),
        ],
    );
    assert_eq!(pending.active().next().unwrap().active_at, at(60));
}

#[test]
fn keeps_firing_for_a_while_and_forgets_the_while_when_it_holds_again() {
    check(
        &rule("    keep_firing_for: 1m\n"),
        &[
            (0, &["a"], "a=firing", "inactive>firing", "firing"),
            (30, &[], "a=firing", "", ""),
            (60, &["a"], "a=firing", "", ""),
            (90, &[], "a=firing", "", "firing"),
            (120, &[], "a=firing", "", ""),
            (149, &[], "a=firing", "", ""),
            (150, &[], "", "firing>inactive", "inactive"),
        ],
    );
}

#[test]
fn returns_as_a_new_alert_after_it_was_resolved() {
    let state = check(
        &rule(""),
        &[
            (0, &["a"], "a=firing", "inactive>firing", "firing"),
            (30, &[], "", "firing>inactive", "inactive"),
            (60, &["a"], "a=firing", "inactive>firing", "firing"),
        ],
    );
    let alert = state.active().next().unwrap();
    assert_eq!((alert.active_at, alert.resolved_at), (at(60), None));
}

#[test]
fn takes_new_values_and_texts_but_keeps_since_when() {
    let (rule, mut state) = (rule(""), AlertingState::new(true));
    state.update(&rule, vec![found("a", 1.0)], at(0), 0).unwrap();
    state.update(&rule, vec![found("a", 2.0)], at(30), 0).unwrap();
    let alert = state.active().next().unwrap();
    assert_eq!((alert.value, alert.annotations.value("value"), alert.active_at), (2.0, "2", at(0)));
}

#[test]
fn drops_all_alerts_past_the_limit() {
    let (rule, mut state) = (rule(""), AlertingState::new(true));
    let error = state.update(&rule, vec![found("a", 1.0), found("b", 1.0)], at(0), 1).unwrap_err();
    assert_eq!(error, "exceeded limit of 1 with 2 alerts");
    assert_eq!(state.active().count(), 0);
    assert!(state.update(&rule, vec![found("a", 1.0)], at(30), 1).is_ok());
}

#[test]
fn writes_its_series_only_once_restored() {
    let rule = rule("    for: 1m\n    labels: {severity: page}\n");
    let mut state = AlertingState::new(false);
    state.update(&rule, vec![found("a", 1.0)], at(1), 0).unwrap();
    assert_eq!(state.samples(&rule), []);
    state.restored = true;
    let samples: Vec<String> = state.samples(&rule).iter().map(|(l, v)| format!("{l} {v}")).collect();
    assert_eq!(
        samples,
        [
            r#"ALERTS{alertname="Down", alertstate="pending", instance="a", severity="page"} 1"#,
            r#"ALERTS_FOR_STATE{alertname="Down", instance="a", severity="page"} 1000001"#,
        ]
    );
}

#[test]
fn restores_since_when_from_before_the_restart() {
    let hold = 30 * MINUTE;
    let rule = rule("    for: 30m\n");
    let restoring = Restoring { grace: Duration::from_secs(10 * MINUTE), now: at(hold + 600) };
    // Last sample at `down`, alert active since `since`; expected start.
    for (down, since, expect) in [
        (hold + 60, 0, at(0)),                  // was firing: fires at the next evaluation
        (hold - 300, 0, at(600 + 10 * MINUTE)), // five minutes were left: the grace period is
        (600, 0, at(hold)),                     // twenty minutes were left: away does not count
    ] {
        let mut state = AlertingState::new(false);
        state.update(&rule, vec![found("a", 1.0)], at(hold + 590), 0).unwrap();
        let value = at(since).as_millis() as f64 / 1000.0;
        let last = BTreeMap::from([(found("a", 1.0).labels, Sample { at: at(down), value })]);
        state.restore(&rule, &last, restoring);
        assert_eq!(state.active().next().unwrap().active_at, expect, "down at {down}");
        assert!(state.restored);
    }
    let mut state = AlertingState::new(false);
    state.update(&rule, vec![found("a", 1.0)], at(hold), 0).unwrap();
    let last = BTreeMap::from([(found("a", 1.0).labels, Sample { at: at(60), value: stale_marker() })]);
    state.restore(&rule, &last, restoring);
    assert_eq!(state.active().next().unwrap().active_at, at(hold), "a series that ended restores nothing");
}
