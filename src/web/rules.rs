//! The page of rules: groups, how each evaluation went and how long it took, and what the linter says.
//!
//! In: read handles. Out: HTML. The linter is asked with the series in memory, at most once a minute.

use std::collections::BTreeMap;

use askama::Template;
use axum::response::Response;

use super::State;
use super::ask::{Asked, Shared, given, link};
use super::format;
use super::frame::{Frame, render};
use crate::model::{AlertState, Timestamp};
use crate::rules::lint::{Finding, Severity};
use crate::rules::{GroupStatus, Health, RuleStatus};

/// Warnings of one rule that are shown.
const WARNINGS_SHOWN: usize = 5;

/// What the URL says.
#[derive(Clone, Debug, Default, serde::Deserialize)]
pub(super) struct Address {
    state: Option<String>,
    q: Option<String>,
}

/// The states that can be asked for, besides all.
const STATES: [(&str, &str); 7] = [
    ("firing", "firing"),
    ("pending", "pending"),
    ("inactive", "inactive"),
    ("error", "error"),
    ("waiting", "not evaluated yet"),
    ("ok", "recording"),
    ("findings", "with findings"),
];

/// Most rules on the page; the others are counted.
const RULES_SHOWN: usize = 2_000;

#[derive(Template)]
#[template(path = "rules.html")]
struct Page {
    frame: Frame,
    problems: Vec<String>,
    groups: Vec<Group>,
    q: String,
    states: Vec<(&'static str, &'static str, bool)>,
    is_narrowed: bool,
    matched: usize,
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
    samples: usize,
    next: String,
    next_exact: String,
    last_exact: String,
    offset: Option<String>,
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
    last_exact: String,
    took: String,
    keep: Option<String>,
    warnings: Vec<String>,
    /// Alerts that fire and wait.
    alerts: (usize, usize),
    alerts_href: String,
    graph: String,
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

pub(super) async fn page(Shared(state): Shared<State>, Asked(address): Asked<Address>) -> Response {
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
    let (mut room, mut matched) = (RULES_SHOWN, 0);
    for status in all.iter() {
        let mut group = group(status, &by_rule, now);
        group.rules.retain(|row| address.takes(&group.name, row));
        matched += group.rules.len();
        group.rules.truncate(room);
        room -= group.rules.len();
        if !group.rules.is_empty() {
            groups.push(group);
        }
    }
    let state_asked = address.state.clone().unwrap_or_default();
    let count = |severity: Severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let page = Page {
        frame: Frame::new(&state, "rules"),
        problems: state.rules.problems().iter().map(ToString::to_string).collect(),
        rules: total,
        left_out: matched - groups.iter().map(|group| group.rules.len()).sum::<usize>(),
        matched,
        q: address.q.clone().unwrap_or_default(),
        states: STATES.map(|(value, text)| (value, text, value == state_asked)).into(),
        is_narrowed: [&address.q, &address.state].iter().any(|value| given(value.as_deref()).is_some()),
        failing: all.iter().flat_map(|group| &group.rules).filter(|rule| rule.health == Health::Err).count(),
        errors: count(Severity::Error),
        warnings: count(Severity::Warning),
        groups,
    };
    render(&page)
}

impl Address {
    /// Whether a rule is asked for.
    fn takes(&self, group: &str, row: &Row) -> bool {
        let wanted = self.q.as_deref().unwrap_or_default().trim().to_lowercase();
        let holds = |text: &str| text.to_lowercase().contains(&wanted);
        let is_said = wanted.is_empty() || holds(&row.name) || holds(&row.query) || holds(group);
        is_said
            && match given(self.state.as_deref()) {
                None => true,
                Some("findings") => !row.findings.is_empty(),
                Some(state) => row.state == state,
            }
    }
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
        samples: status.last_samples,
        next: status.last_evaluation.map_or_else(
            || "not evaluated yet".to_owned(),
            |last| format!("next {}", format::ahead(last + status.query_offset + status.interval, now)),
        ),
        next_exact: exact(status.last_evaluation.map(|last| last + status.query_offset + status.interval)),
        last_exact: exact(status.last_evaluation),
        offset: (!status.query_offset.is_zero()).then(|| format::span(status.query_offset)),
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
    let alerts_in = |state: AlertState| {
        let alerts = rule.alerting.as_ref().map(|alerting| alerting.alerts.as_slice()).unwrap_or_default();
        alerts.iter().filter(|alert| alert.state == state).count()
    };
    Row {
        name: rule.name.clone(),
        kind: if rule.alerting.is_some() { "alert" } else { "record" },
        query: rule.query.clone(),
        state,
        class,
        hold: rule.alerting.as_ref().filter(|one| !one.hold.is_zero()).map(|one| format::span(one.hold)),
        keep: (rule.alerting.as_ref())
            .filter(|one| !one.keep_firing_for.is_zero())
            .map(|one| format::span(one.keep_firing_for)),
        error: rule.last_error.clone(),
        warnings: rule.warnings.iter().take(WARNINGS_SHOWN).cloned().collect(),
        alerts: (alerts_in(AlertState::Firing), alerts_in(AlertState::Pending)),
        alerts_href: link("alerts", &[("q", &format!("alertname={:?}", rule.name))]),
        graph: link("explore", &[("query", &rule.query), ("range", "1h")]),
        last_exact: exact(rule.last_evaluation),
        last: format::ago(rule.last_evaluation, now),
        took: format::latency(rule.last_evaluation.map(|_| rule.evaluation_time.as_secs_f64() * 1000.0)),
        findings: findings.iter().map(|finding| said(finding)).collect(),
    }
}

fn exact(at: Option<Timestamp>) -> String {
    at.map(|at| at.to_string()).unwrap_or_default()
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
