//! `audit`: what the service's own audit found last, the scorecard as a document, and what is declared beside what was seen.

use axum::extract::State as Shared;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use crate::api::State;
use crate::api::encode::{go_time, success, success_with};
use crate::api::error::ApiError;
use crate::api::params::Params;
use crate::audit::{Comparison, Latest, Score, Scorecard};
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

/// The scorecard of the mesh and its namespaces, or of one; `format` is `json` (unless told) or `markdown`.
pub(super) async fn scorecard(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    params.only(&["format", "namespace"])?;
    let is_markdown = match params.get("format") {
        None | Some("json") => false,
        Some("markdown") => true,
        Some(other) => {
            return Err(ApiError::parameter("format", format!("{other:?} is no format; they are json, markdown")));
        }
    };
    let Some(latest) = state.audit.latest() else {
        let why =
            if state.audit.is_on() { "the first audit is not done yet" } else { "nothing is declared to be audited" };
        return Ok(match is_markdown {
            true => document(format!("# Scorecard\n\nThere is none: {why}.\n")),
            false => success_with(json!({ "scores": [], "gaps": [] }), &[format!("there is no scorecard: {why}")]),
        });
    };
    let card = chosen(&latest.scorecard, params.get("namespace"));
    Ok(match is_markdown {
        true => document(card.markdown()),
        false => {
            let scores: Vec<Value> = card.scores.iter().map(score).collect();
            let window = card.window.map(|window| window.as_secs());
            success(without_nulls(json!({
                "at": go_time(Some(latest.at)), "windowSeconds": window, "scores": scores, "gaps": card.gaps,
            })))
        }
    })
}

fn document(text: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/markdown; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "inline; filename=\"scorecard.md\""),
    ];
    (headers, text).into_response()
}

/// The scores of one namespace, or all.
fn chosen(card: &Scorecard, namespace: Option<&str>) -> Scorecard {
    let mut card = card.clone();
    card.scores.retain(|one| namespace.is_none_or(|namespace| one.namespace.as_deref() == Some(namespace)));
    card
}

/// What is declared beside what was seen; `object` (`VirtualService shop/cart`) and `host` choose.
pub(super) async fn comparisons(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    let limit = params.limit_within(SHOWN_MAX)?.unwrap_or(SHOWN_MAX);
    let (object, host) = (params.get("object"), params.get("host"));
    let latest = state.audit.latest();
    let fits = |one: &&Comparison| {
        object.is_none_or(|object| one.object.to_string() == object)
            && host.is_none_or(|host| one.hosts.iter().any(|own| own == host))
    };
    let all: Vec<&Comparison> = latest.iter().flat_map(|latest| &latest.comparisons).filter(fits).collect();
    let total = all.len();
    let shown: Vec<Value> = all.into_iter().take(limit).map(comparison).collect();
    Ok(success(json!({ "total": total, "comparisons": shown })))
}

fn comparison(one: &Comparison) -> Value {
    let callers = one.callers.iter().map(|caller| {
        json!({
            "namespace": caller.namespace, "workload": caller.workload, "name": caller.name, "share": caller.share,
            "calls": caller.calls,
        })
    });
    without_nulls(json!({
        "about": one.about.as_str(),
        "object": one.object.to_string(),
        "field": one.field,
        "hosts": one.hosts,
        "workload": one.workload.as_ref().map(|(namespace, name)| format!("{namespace}/{name}")),
        "what": one.what,
        "declared": one.declared,
        "declaredWords": one.declared_words,
        "seen": one.seen,
        "seenWords": one.seen_words,
        "verdict": one.verdict.as_str(),
        "callers": callers.collect::<Vec<_>>(),
    }))
}

fn answer(latest: &Latest, (code, namespace, least): (Option<&str>, Option<&str>, Severity), limit: usize) -> Response {
    let here = |one: &Finding| namespace.is_none_or(|namespace| one.namespace() == namespace);
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
