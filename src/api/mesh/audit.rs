//! `audit`: what the service's own audit found last, the scorecard as a document, and what is declared beside what was seen.

use axum::http::header;
use axum::response::IntoResponse as _;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::operation::{Answer, Outcome};
use super::query::{Limit, named, names};
use crate::api::State;
use crate::api::encode::go_time;
use crate::api::error::ApiError;
use crate::audit::{Comparison, Latest, Score, Scorecard};
use crate::model::{Finding, Severity};

/// Findings in one answer unless told, and at most.
const SHOWN_MAX: usize = 10_000;
const SEVERITIES: [Severity; 3] = [Severity::Info, Severity::Warning, Severity::Error];

/// Which findings.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Which {
    /// Only findings of this code.
    code: Option<String>,
    /// Only findings and scores of this namespace.
    namespace: Option<String>,
    /// Only findings at least so grave.
    #[schemars(extend("enum" = names(&SEVERITIES, Severity::as_str)))]
    severity: Option<String>,
    /// Most findings, from 1 to 10000; 10000 unless told.
    limit: Option<Limit<SHOWN_MAX>>,
}

/// What an audit found.
#[derive(Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Audit<'a> {
    /// Whether there was an audit; off: nothing is configured to be audited.
    #[schemars(extend("enum" = ["done", "waiting", "off"]))]
    state: &'static str,
    /// When it ended, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    at: Option<String>,
    /// How long it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    took_seconds: Option<f64>,
    /// Declared objects it looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    objects: Option<usize>,
    /// How much traffic it looked at; missing: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    window_seconds: Option<u64>,
    /// Findings that match.
    total: usize,
    /// By file, line and code.
    findings: Vec<FindingJson<'a>>,
    /// The mesh first, then namespaces.
    scores: Vec<ScoreJson<'a>>,
}

/// One finding.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Finding")]
struct FindingJson<'a> {
    /// The check, MSnnnn; docs/audit.md lists them.
    code: &'static str,
    /// The item of the scorecard that it belongs to: mtls, tracing.
    guide: &'static str,
    /// How grave.
    #[schemars(extend("enum" = names(&SEVERITIES, Severity::as_str)))]
    severity: &'static str,
    /// The object, as VirtualService shop/cart.
    subject: &'a str,
    /// The file that declares it.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    /// Its line; 0 when unknown.
    line: usize,
    /// The field; may be empty.
    field: &'a str,
    /// What happens because of it.
    message: &'a str,
    /// What was seen.
    evidence: &'a [String],
    /// How to mend it, YAML where it can be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<&'a str>,
    /// Why it does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    suppressed: Option<&'a str>,
}

/// The score of an item.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Score")]
struct ScoreJson<'a> {
    /// Its name in series.
    item: &'static str,
    /// Its name for people.
    title: &'static str,
    /// A pitfall avoided, instead of an item of the checklist.
    is_pitfall: bool,
    /// Of which namespace; missing: the mesh.
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    /// 0 to 100; missing: not measurable, and the evidence says why.
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<u8>,
    /// What it is made of.
    evidence: &'a [String],
    /// What to do next; empty: nothing.
    next: &'a str,
}

/// The latest audit.
pub(super) async fn latest(state: State, asked: Which) -> Outcome<Audit<'static>> {
    let limit = asked.limit.map_or(SHOWN_MAX, |limit| limit.0);
    let least = named("severity", asked.severity.as_deref(), &SEVERITIES, Severity::as_str)?.unwrap_or(Severity::Info);
    let Some(latest) = state.audit.latest() else {
        let state = if state.audit.is_on() { "waiting" } else { "off" };
        return Ok(Answer::new(Audit { state, ..Audit::default() }));
    };
    Ok(answer(&latest, (asked.code.as_deref(), asked.namespace.as_deref(), least), limit))
}

/// Of what, and in which form.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WhichCard {
    /// json, unless told, or markdown: then the answer is the document itself.
    #[schemars(extend("enum" = ["json", "markdown"]))]
    format: Option<String>,
    /// Only the scores of this namespace.
    namespace: Option<String>,
}

/// Scores of the checklist and the pitfalls.
#[derive(Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Scorecard")]
pub(super) struct Card<'a> {
    /// When the audit ended, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    at: Option<String>,
    /// How much traffic it looked at; missing: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    window_seconds: Option<u64>,
    /// The mesh first, then namespaces.
    scores: Vec<ScoreJson<'a>>,
    /// What could not be asked, and namespaces that were left out.
    gaps: &'a [String],
}

/// The scorecard of the mesh and its namespaces, or of one.
pub(super) async fn scorecard(state: State, asked: WhichCard) -> Outcome<Card<'static>> {
    let is_markdown = match asked.format.as_deref() {
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
            false => Answer::with(Card::default(), &[format!("there is no scorecard: {why}")]),
        });
    };
    let card = chosen(&latest.scorecard, asked.namespace.as_deref());
    if is_markdown {
        return Ok(document(card.markdown()));
    }
    Ok(Answer::new(Card {
        at: Some(go_time(Some(latest.at))),
        window_seconds: card.window.map(|window| window.as_secs()),
        scores: card.scores.iter().map(score).collect(),
        gaps: &card.gaps,
    }))
}

fn document(text: String) -> Answer<Card<'static>> {
    let headers = [
        (header::CONTENT_TYPE, "text/markdown; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "inline; filename=\"scorecard.md\""),
    ];
    Answer::other((headers, text).into_response())
}

/// What the scorecard is as a document.
pub(super) fn markdown(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "description": "The scorecard as a document." })
}

/// The scores of one namespace, or all.
fn chosen(card: &Scorecard, namespace: Option<&str>) -> Scorecard {
    let mut card = card.clone();
    card.scores.retain(|one| namespace.is_none_or(|namespace| one.namespace.as_deref() == Some(namespace)));
    card
}

/// Which comparisons.
#[derive(Deserialize, JsonSchema)]
pub(super) struct WhichComparisons {
    /// Only what this object declares, as VirtualService shop/cart.
    object: Option<String>,
    /// Only what is declared for calls of this host, in full.
    host: Option<String>,
    /// Most comparisons, from 1 to 10000; 10000 unless told.
    limit: Option<Limit<SHOWN_MAX>>,
}

/// What is declared beside what was seen.
#[derive(Serialize, JsonSchema)]
pub(super) struct Comparisons<'a> {
    /// How many match.
    total: usize,
    /// By kind.
    comparisons: Vec<ComparisonJson<'a>>,
}

/// One declared number beside the one that was seen.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Comparison")]
struct ComparisonJson<'a> {
    /// What is compared.
    #[schemars(extend("enum" = ["split", "fault", "mutualTls", "sampling", "limit"]))]
    about: &'static str,
    /// The object that declares it, as VirtualService shop/cart.
    object: String,
    /// Its field; may be empty.
    field: &'a str,
    /// Hosts whose calls are meant, in full.
    hosts: &'a [String],
    /// The workload that is meant, namespace/name; missing: not one.
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<String>,
    /// What it is, in words.
    what: &'a str,
    /// The declared share; missing: nothing is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    declared: Option<f64>,
    /// What is declared, in words.
    declared_words: &'a str,
    /// The share that was seen; missing: not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    seen: Option<f64>,
    /// What was seen, in words.
    seen_words: &'a str,
    /// Whether they agree, as far as chance allows.
    #[schemars(extend("enum" = ["holds", "differs", "unknown"]))]
    verdict: &'static str,
    /// Who calls, the most frequent first.
    callers: Vec<CallerJson<'a>>,
}

/// One caller.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Caller")]
struct CallerJson<'a> {
    /// Its namespace; may be empty.
    namespace: &'a str,
    /// Its workload; empty: unknown.
    workload: &'a str,
    /// As people read it.
    name: &'a str,
    /// The share among its calls.
    share: f64,
    /// Its calls.
    calls: f64,
}

/// What is declared beside what was seen; `object` (`VirtualService shop/cart`) and `host` choose.
pub(super) async fn comparisons(state: State, asked: WhichComparisons) -> Outcome<Comparisons<'static>> {
    let limit = asked.limit.map_or(SHOWN_MAX, |limit| limit.0);
    let (object, host) = (asked.object, asked.host);
    let latest = state.audit.latest();
    let fits = |one: &&Comparison| {
        object.as_ref().is_none_or(|object| one.object.to_string() == *object)
            && host.as_ref().is_none_or(|host| one.hosts.contains(host))
    };
    let all: Vec<&Comparison> = latest.iter().flat_map(|latest| &latest.comparisons).filter(fits).collect();
    let total = all.len();
    Ok(Answer::new(Comparisons { total, comparisons: all.into_iter().take(limit).map(comparison).collect() }))
}

fn comparison(one: &Comparison) -> ComparisonJson<'_> {
    let callers = one.callers.iter().map(|caller| CallerJson {
        namespace: &caller.namespace,
        workload: &caller.workload,
        name: &caller.name,
        share: caller.share,
        calls: caller.calls,
    });
    ComparisonJson {
        about: one.about.as_str(),
        object: one.object.to_string(),
        field: &one.field,
        hosts: &one.hosts,
        workload: one.workload.as_ref().map(|(namespace, name)| format!("{namespace}/{name}")),
        what: &one.what,
        declared: one.declared,
        declared_words: &one.declared_words,
        seen: one.seen,
        seen_words: &one.seen_words,
        verdict: one.verdict.as_str(),
        callers: callers.collect(),
    }
}

fn answer(
    latest: &Latest,
    (code, namespace, least): (Option<&str>, Option<&str>, Severity),
    limit: usize,
) -> Answer<Audit<'static>> {
    let here = |one: &Finding| namespace.is_none_or(|namespace| one.namespace() == namespace);
    let fits = |one: &&Finding| one.severity >= least && code.is_none_or(|code| code == one.code) && here(one);
    let findings: Vec<&Finding> = latest.report.findings.iter().filter(fits).collect();
    let scores = latest
        .scorecard
        .scores
        .iter()
        .filter(|one| namespace.is_none_or(|namespace| one.namespace.as_deref() == Some(namespace)));
    let data = Audit {
        state: "done",
        at: Some(go_time(Some(latest.at))),
        took_seconds: Some(latest.took.as_secs_f64()),
        objects: Some(latest.report.objects),
        window_seconds: latest.scorecard.window.map(|window| window.as_secs()),
        total: findings.len(),
        findings: findings.into_iter().take(limit).map(finding).collect(),
        scores: scores.map(score).collect(),
    };
    let warnings: Vec<String> = latest
        .no_traffic
        .iter()
        .map(|reason| format!("no traffic is in this audit: {reason}"))
        .chain(latest.scorecard.gaps.iter().cloned())
        .collect();
    Answer::with(data, &warnings)
}

fn score(one: &Score) -> ScoreJson<'_> {
    let Score { item, namespace, score, evidence, next } = one;
    ScoreJson {
        item: item.name,
        title: item.title,
        is_pitfall: item.is_pitfall,
        namespace: namespace.as_deref(),
        score: *score,
        evidence,
        next,
    }
}

fn finding(one: &Finding) -> FindingJson<'_> {
    let Finding { code, severity, subject, file, line, field, message, evidence, fix, suppressed } = one;
    FindingJson {
        code,
        guide: crate::audit::guide::item(code),
        severity: severity.as_str(),
        subject,
        file: file.as_deref(),
        line: *line,
        field,
        message,
        evidence,
        fix: fix.as_deref(),
        suppressed: suppressed.as_deref(),
    }
}
