//! `audit`: what the service's own audit found last, and the scorecard.

use axum::extract::State as Shared;
use axum::response::Response;
use serde_json::{Value, json};

use crate::api::State;
use crate::api::encode::{go_time, success_with};
use crate::api::error::ApiError;
use crate::api::params::Params;
use crate::audit::{Latest, Score};
use crate::model::{Finding, Severity};

/// Findings in one answer unless told, and at most.
const SHOWN_MAX: usize = 10_000;

/// The latest audit; `code` and `namespace` choose findings and scores, `severity` is the least, `limit` how many.
pub(super) async fn latest(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    let limit = params.limit_within(SHOWN_MAX)?.unwrap_or(SHOWN_MAX);
    let severities = [Severity::Info, Severity::Warning, Severity::Error];
    let least = match params.get("severity") {
        None => Severity::Info,
        Some(text) => severities.into_iter().find(|one| one.as_str() == text).ok_or_else(|| {
            ApiError::parameter("severity", format!("{text:?} is no severity; they are info, warning, error"))
        })?,
    };
    let Some(latest) = state.audit.latest() else {
        let state = if state.audit.is_on() { "waiting" } else { "off" };
        let data = json!({ "state": state, "total": 0, "findings": [], "scores": [] });
        return Ok(success_with(data, &[]));
    };
    let (code, namespace) = (params.get("code"), params.get("namespace"));
    Ok(answer(&latest, (code, namespace, least), limit))
}

fn answer(latest: &Latest, (code, namespace, least): (Option<&str>, Option<&str>, Severity), limit: usize) -> Response {
    let here = |one: &Finding| {
        namespace.is_none_or(|namespace| {
            let rest = one.subject.split_once(' ').map_or("", |(_, rest)| rest);
            rest == namespace || rest.strip_prefix(namespace).is_some_and(|rest| rest.starts_with('/'))
        })
    };
    let fits = |one: &&Finding| one.severity >= least && code.is_none_or(|code| code == one.code) && here(one);
    let findings: Vec<&Finding> = latest.report.findings.iter().filter(fits).collect();
    let scores = latest
        .scorecard
        .scores
        .iter()
        .filter(|one| namespace.is_none_or(|namespace| one.namespace.as_deref() == Some(namespace)));
    let data = without_nulls(json!({
        "state": "done",
        "at": go_time(Some(latest.at)),
        "tookSeconds": latest.took.as_secs_f64(),
        "objects": latest.report.objects,
        "windowSeconds": latest.scorecard.window.map(|window| window.as_secs()),
        "total": findings.len(),
        "findings": findings.into_iter().take(limit).map(finding).collect::<Vec<_>>(),
        "scores": scores.map(score).collect::<Vec<_>>(),
    }));
    let warnings: Vec<String> = latest
        .no_traffic
        .iter()
        .map(|reason| format!("no traffic is in this audit: {reason}"))
        .chain(latest.scorecard.gaps.iter().cloned())
        .collect();
    success_with(data, &warnings)
}

/// What is not known is left out.
fn without_nulls(mut json: Value) -> Value {
    if let Some(fields) = json.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    json
}

fn score(one: &Score) -> Value {
    without_nulls(json!({
        "item": one.item.name, "title": one.item.title, "isPitfall": one.item.is_pitfall, "namespace": one.namespace,
        "score": one.score, "evidence": one.evidence, "next": one.next,
    }))
}

fn finding(one: &Finding) -> Value {
    without_nulls(json!({
        "code": one.code, "severity": one.severity.as_str(), "subject": one.subject, "file": one.file, "line": one.line,
        "field": one.field, "message": one.message, "evidence": one.evidence, "fix": one.fix,
        "suppressed": one.suppressed,
    }))
}
