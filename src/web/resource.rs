//! The page of one declared object: its YAML with what the audit found in place, whom it governs and the traffic it steers,
//! how that compares with what it declares, its generations and how they differ.
//!
//! In: what is declared, the latest audit, edges, the book of changes. Out: HTML.

mod steered;
#[cfg(test)]
mod tests;

use askama::Template;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::Value as Json;

use super::ask::{Asked, Shared, given, link};
use super::changes::{Field, Row, field, row};
use super::declared::{self, Bar};
use super::findings;
use super::frame::{Frame, render};
use super::{State, error, format};
use crate::changes::{Governs, diff, kind_key, kind_of_key, normal, yaml};
use crate::mesh::{Input, ResourceId, Snapshot};
use crate::model::Finding;
use crate::persist::Generation;
use steered::Steered;

/// Generations of one page.
const HISTORY_MAX: usize = 50;
/// Lines of YAML that are shown.
const LINES_MAX: usize = 3_000;
/// Longest line.
const LINE_CHARS_MAX: usize = 500;
/// Most of whom it governs that is named.
const GOVERNED_MAX: usize = 40;
/// Findings and comparisons that are shown.
const FINDINGS_MAX: usize = 100;
const BARS_MAX: usize = 40;

/// What the URL says: two revisions to be compared.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Address {
    from: Option<String>,
    to: Option<String>,
}

#[derive(Template)]
#[template(path = "resource.html")]
struct Page {
    frame: Frame,
    title: String,
    path: String,
    group: String,
    /// Whether it is declared now.
    is_declared: bool,
    place: Option<String>,
    generation: Option<u64>,
    lines: Vec<Line>,
    lines_left_out: usize,
    findings: Vec<findings::Row>,
    findings_left: usize,
    audited: bool,
    bars: Vec<Bar>,
    steered: Steered,
    governs: Vec<String>,
    governs_more: usize,
    graph_href: Option<String>,
    history: Vec<Row>,
    revisions: Vec<u64>,
    compared: Option<Compared>,
    changes_href: String,
}

/// A line of YAML, with what was found about it: class, code, message.
struct Line {
    text: String,
    found: Vec<(&'static str, &'static str, String)>,
}

/// Two revisions.
struct Compared {
    from: u64,
    to: u64,
    fields: Vec<Field>,
    more: usize,
}

pub(super) async fn page(
    Shared(state): Shared<State>,
    Path((kind, namespace, name)): Path<(String, String, String)>,
    Asked(address): Asked<Address>,
) -> Response {
    let Some(kind) = kind_of_key(&kind) else {
        let message = format!("{kind:?} is no kind that is read; write it as in YAML: VirtualService.");
        return error::missing(&state, "changes", message);
    };
    let namespace = if namespace == "-" { String::new() } else { namespace };
    let id = ResourceId { kind, namespace, name };
    let (history, warning) = match state.changes.history(&id, HISTORY_MAX).await {
        Ok(history) => (history, None),
        Err(reason) => (Vec::new(), Some(format!("The history is not shown: {reason}."))),
    };
    let compared = match compared(&history, &address) {
        Ok(compared) => compared,
        Err(reason) => return error::bad_request(&state, "changes", reason),
    };
    let snapshot = state.declared.current();
    let found = snapshot.get(id.kind, &id.namespace, &id.name);
    // Of what is gone the last that was declared is shown.
    let last = history.iter().find_map(|one| one.body.as_ref());
    let body: Option<Json> = found.map(|resource| normal(resource).body).or_else(|| last.cloned());
    let Some(body) = body else {
        return match warning {
            Some(reason) => {
                (StatusCode::SERVICE_UNAVAILABLE, error::bad_request(&state, "changes", reason)).into_response()
            }
            None => error::missing(&state, "changes", format!("There is no {id}, and there was none.")),
        };
    };
    let governs = state.governed(&snapshot, &id).await;
    let words = governs.as_ref().map(Governs::words).unwrap_or_default();
    let text = yaml(&body);
    let now = state.clock.now();
    let latest = state.audit.latest();
    let subject = id.to_string();
    let own = latest.iter().flat_map(|latest| &latest.report.findings);
    // Two groups may have a kind of one name: what is shown is about the first that is declared.
    let is_meant = found.is_some() && findings::object(&snapshot, &subject).as_ref() == Some(&id);
    let mut shown_in_place: Vec<&Finding> =
        own.filter(|one| is_meant && one.suppressed.is_none() && one.subject == subject).collect();
    shown_in_place.sort_by_key(|one| std::cmp::Reverse(one.severity));
    let compared_with = latest.iter().flat_map(|latest| &latest.comparisons).filter(|one| one.object == id);
    let bars: Vec<Bar> = compared_with.filter_map(|one| declared::bar(one, None)).take(BARS_MAX).collect();
    let steered = match &governs {
        Some(governs) => steered::read(&state, governs, now).await,
        None => Steered::default(),
    };
    let called = governs.iter().flat_map(|governs| &governs.services).next();
    let page = Page {
        frame: Frame::new(&state, "changes").warn(warning),
        title: format::visible(&id.to_string(), 200),
        path: super::changes::resource_href(&id),
        group: match id.kind.info().group {
            "" => "core".to_owned(),
            group => group.to_owned(),
        },
        is_declared: found.is_some(),
        place: found.and_then(|one| Some(format!("{}:{}", one.place.file.as_ref()?, one.place.line))),
        generation: history.first().map(|one| one.change.generation),
        lines: lines(&text, &id, &shown_in_place),
        findings_left: shown_in_place.len().saturating_sub(FINDINGS_MAX),
        findings: shown_in_place.iter().take(FINDINGS_MAX).map(|one| findings::row(one, &snapshot)).collect(),
        audited: latest.is_some(),
        bars,
        steered,
        lines_left_out: text.lines().count().saturating_sub(LINES_MAX),
        governs_more: words.len().saturating_sub(GOVERNED_MAX),
        governs: words.into_iter().take(GOVERNED_MAX).map(|word| format::visible(&word, 160)).collect(),
        graph_href: called.map(|(_, namespace)| link("graph", &[("namespace", namespace)])),
        revisions: history.iter().map(|one| one.change.revision).collect(),
        history: history.iter().map(|one| row(&one.change, now)).collect(),
        compared,
        changes_href: link(
            "changes",
            &[("kind", &kind_key(id.kind)), ("namespace", &id.namespace), ("name", &id.name), ("range", "30d")],
        ),
    };
    render(&page)
}

/// The YAML line by line, with findings below the line of their field; those of the whole object at the first.
fn lines(text: &str, id: &ResourceId, found: &[&Finding]) -> Vec<Line> {
    let mut lines: Vec<Line> = text
        .lines()
        .take(LINES_MAX)
        .map(|line| Line { text: format::visible(line, LINE_CHARS_MAX), found: Vec::new() })
        .collect();
    // Read again, what is shown knows its own lines.
    let read = Snapshot::read(&[Input { name: "shown".into(), text: text.to_owned() }], &id.namespace);
    let object = read.get(id.kind, &id.namespace, &id.name);
    for one in found.iter().take(FINDINGS_MAX) {
        let line = object.filter(|_| !one.field.is_empty()).map_or(1, |object| object.line(&one.field));
        if let Some(line) = lines.get_mut(line.saturating_sub(1)) {
            let message = format::visible(&one.message, 400);
            line.found.push((findings::class(one.severity), one.code, message));
        }
    }
    lines
}

fn compared(history: &[Generation], address: &Address) -> Result<Option<Compared>, String> {
    let number = |name: &str, text: Option<&str>| {
        let wrong = |text: &str| format!("{name}: {text:?} is no revision: a whole number of the history");
        given(text).map(|text| text.parse::<u64>().map_err(|_| wrong(text))).transpose()
    };
    let (from, to) = match (number("from", address.from.as_deref())?, number("to", address.to.as_deref())?) {
        (Some(from), Some(to)) => (from, to),
        (None, None) => return Ok(None),
        _ => return Err("from, to: give both, two revisions of the history".to_owned()),
    };
    let body = |revision: u64| {
        let one = history.iter().find(|one| one.change.revision == revision);
        one.map(|one| one.body.clone().unwrap_or_default())
            .ok_or(format!("there is no revision {revision} in this history"))
    };
    let (fields, more) = diff(&body(from)?, &body(to)?);
    Ok(Some(Compared { from, to, fields: fields.iter().map(field).collect(), more }))
}
