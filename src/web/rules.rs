//! The page of rules: groups, how each evaluation went and how long it took, and what the linter says.
//!
//! In: read handles. Out: HTML. The linter is asked with the series in memory, at most once a minute.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::State as Shared;
use axum::response::Response;

use super::State;
use super::format;
use super::frame::{Frame, render};
use crate::model::{AlertState, Timestamp};
use crate::rules::lint::{Finding, Severity};
use crate::rules::{GroupStatus, Health, RuleStatus};

/// Most rules on the page; the others are counted.
const RULES_SHOWN: usize = 2_000;

#[derive(Template)]
#[template(path = "rules.html")]
struct Page {
    frame: Frame,
    problems: Vec<String>,
    groups: Vec<Group>,
    rules: usize,
    left_out: usize,
    failing: usize,
    errors: usize,
    warnings: usize,
}

struct Group {
    name: String,
    file: String,
    interval: String,
    last: String,
    took: String,
    missed: u64,
    rules: Vec<Row>,
}

struct Row {
    name: String,
    kind: &'static str,
    query: String,
    state: &'static str,
    class: &'static str,
    hold: Option<String>,
    error: Option<String>,
    last: String,
    took: String,
    findings: Vec<Said>,
}

struct Said {
    code: &'static str,
    severity: &'static str,
    class: &'static str,
    message: String,
    line: usize,
    fix: Option<String>,
}

pub(super) async fn page(Shared(state): Shared<State>) -> Response {
    let now = state.clock.now();
    let interval = state.scrape.targets().iter().map(|target| target.target.interval).max();
    let retention = state.retention.five_minutes.get();
    let findings = state.rules.findings(&state.head, (interval, Some(retention)), now).await;
    let mut by_rule: BTreeMap<(&str, &str, &str), Vec<&Finding>> = BTreeMap::new();
    for finding in findings.iter() {
        by_rule.entry((&finding.file, &finding.group, &finding.rule)).or_default().push(finding);
    }
    let all = state.rules.groups();
    let total: usize = all.iter().map(|group| group.rules.len()).sum();
    let mut groups: Vec<Group> = Vec::new();
    let mut room = RULES_SHOWN;
    for status in all.iter().filter(|status| !status.rules.is_empty()) {
        if status.rules.len() > room {
            break;
        }
        room -= status.rules.len();
        groups.push(group(status, &by_rule, now));
    }
    let count = |severity: Severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let page = Page {
        frame: Frame::new(&state, "rules"),
        problems: state.rules.problems().iter().map(ToString::to_string).collect(),
        rules: total,
        left_out: total - groups.iter().map(|group| group.rules.len()).sum::<usize>(),
        failing: all.iter().flat_map(|group| &group.rules).filter(|rule| rule.health == Health::Err).count(),
        errors: count(Severity::Error),
        warnings: count(Severity::Warning),
        groups,
    };
    render(&page)
}

fn group(status: &GroupStatus, by_rule: &BTreeMap<(&str, &str, &str), Vec<&Finding>>, now: Timestamp) -> Group {
    let rules = status.rules.iter().map(|rule| {
        let found = by_rule.get(&(status.file.as_str(), status.name.as_str(), rule.name.as_str()));
        row(rule, found.map_or(&[][..], Vec::as_slice), now)
    });
    Group {
        name: status.name.clone(),
        file: status.file.clone(),
        interval: format::span(status.interval),
        last: format::ago(status.last_evaluation, now),
        took: format::latency(status.last_evaluation.map(|_| status.evaluation_time.as_secs_f64() * 1000.0)),
        missed: status.iterations_missed,
        rules: rules.collect(),
    }
}

fn row(rule: &RuleStatus, findings: &[&Finding], now: Timestamp) -> Row {
    let (state, class) = match (rule.health, rule.alerting.as_ref().map(|alerting| alerting.state)) {
        (Health::Err, _) => ("error", "failure"),
        (Health::Unknown, _) => ("waiting", "idle"),
        (Health::Ok, Some(AlertState::Firing)) => ("firing", "failure"),
        (Health::Ok, Some(AlertState::Pending)) => ("pending", "degraded"),
        (Health::Ok, Some(AlertState::Inactive)) => ("inactive", "healthy"),
        (Health::Ok, None) => ("ok", "healthy"),
    };
    Row {
        name: rule.name.clone(),
        kind: if rule.alerting.is_some() { "alert" } else { "record" },
        query: rule.query.clone(),
        state,
        class,
        hold: rule.alerting.as_ref().filter(|one| !one.hold.is_zero()).map(|one| format::span(one.hold)),
        error: rule.last_error.clone(),
        last: format::ago(rule.last_evaluation, now),
        took: format::latency(rule.last_evaluation.map(|_| rule.evaluation_time.as_secs_f64() * 1000.0)),
        findings: findings.iter().map(|finding| said(finding)).collect(),
    }
}

fn said(finding: &Finding) -> Said {
    Said {
        code: finding.code,
        severity: finding.severity.as_str(),
        class: match finding.severity {
            Severity::Error => "failure",
            Severity::Warning => "degraded",
            Severity::Info => "idle",
        },
        message: finding.message.clone(),
        line: finding.line,
        fix: finding.fix.clone(),
    }
}
