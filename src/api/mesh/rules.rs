//! `rules/lint`: what the linter says of the rules that run, knowing the series in memory.

use axum::extract::State as Shared;
use axum::response::Response;
use serde::Serialize;

use crate::api::State;
use crate::api::encode::success;
use crate::api::error::ApiError;
use crate::api::params::Params;
use crate::rules::lint::{Finding, Severity};

/// Findings in one answer unless told, and at most.
const SHOWN_MAX: usize = 10_000;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Linted<'a> {
    rules: usize,
    errors: usize,
    warnings: usize,
    notes: usize,
    findings: Vec<FindingJson<'a>>,
}

#[derive(Serialize)]
struct FindingJson<'a> {
    code: &'static str,
    severity: &'static str,
    file: &'a str,
    line: usize,
    group: &'a str,
    rule: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<&'a str>,
}

/// The findings, by file and line; `limit` of them.
pub(super) async fn lint(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    let limit = params.limit_within(SHOWN_MAX)?.unwrap_or(SHOWN_MAX);
    let interval = state.scrape.targets().iter().map(|target| target.target.interval).max();
    let findings = state.rules.findings(&state.head, (interval, None), state.clock.now()).await;
    let count = |severity: Severity| findings.iter().filter(|finding| finding.severity == severity).count();
    Ok(success(Linted {
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
