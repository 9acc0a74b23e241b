//! `rules/lint`: what the linter says of the rules that run, knowing the series in memory.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::operation::{Answer, Outcome};
use super::query::Limit;
use crate::api::State;
use crate::rules::lint::{Finding, Severity};

/// Findings in one answer unless told, and at most.
const SHOWN_MAX: usize = 10_000;

/// Findings about the rules that run.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Linted<'a> {
    /// Rules looked at.
    rules: usize,
    /// Findings: it does not do what was meant.
    errors: usize,
    /// Findings: it probably does not.
    warnings: usize,
    /// Findings: it could be written better.
    notes: usize,
    /// By file and line.
    findings: Vec<FindingJson<'a>>,
}

/// One thing about one rule.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "RuleFinding")]
struct FindingJson<'a> {
    /// Which kind; docs/lint.md explains each.
    code: &'static str,
    /// How grave.
    #[schemars(extend("enum" = ["error", "warning", "info"]))]
    severity: &'static str,
    /// The rule file, or the name of the object.
    file: &'a str,
    /// Line of the rule, from 1.
    line: usize,
    /// Name of the group.
    group: &'a str,
    /// Name of the alert or of the recorded metric.
    rule: &'a str,
    /// Why, in one sentence.
    message: &'a str,
    /// The expression as it should be, when it can be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<&'a str>,
}

/// How many findings.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Shown {
    /// Most findings, from 1 to 10000; 10000 unless told.
    limit: Option<Limit<SHOWN_MAX>>,
}

/// The findings, by file and line; `limit` of them.
pub(super) async fn lint(state: State, asked: Shown) -> Outcome<Linted<'static>> {
    let limit = asked.limit.map_or(SHOWN_MAX, |limit| limit.0);
    let interval = state.scrape.targets().iter().map(|target| target.target.interval).max();
    let findings = state.rules.findings(&state.head, (interval, None), state.clock.now()).await;
    let count = |severity: Severity| findings.iter().filter(|finding| finding.severity == severity).count();
    Ok(Answer::new(Linted {
        rules: state.rules.definitions().iter().map(|group| group.rules.len()).sum(),
        errors: count(Severity::Error),
        warnings: count(Severity::Warning),
        notes: count(Severity::Info),
        findings: findings.iter().take(limit).map(json).collect(),
    }))
}

fn json(finding: &Finding) -> FindingJson<'_> {
    let Finding { code, severity, file, line, group, rule, message, fix } = finding;
    FindingJson { code, severity: severity.as_str(), file, line: *line, group, rule, message, fix: fix.as_deref() }
}
