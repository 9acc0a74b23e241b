//! The page of one declared object: its YAML, whom it governs, its generations and how they differ.
//!
//! In: what is declared, the book of changes. Out: HTML.

use askama::Template;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use serde_json::Value as Json;

use super::ask::{Asked, Shared, given, link};
use super::changes::{Field, Row, field, row};
use super::frame::{Frame, render};
use super::{State, error, format};
use crate::changes::{Governs, diff, kind_key, kind_of_key, normal, yaml};
use crate::mesh::{Index, ResourceId};
use crate::persist::Generation;

/// Generations of one page.
const HISTORY_MAX: usize = 50;
/// Lines of YAML that are shown.
const LINES_MAX: usize = 3_000;
/// Longest line.
const LINE_CHARS_MAX: usize = 500;
/// Most of whom it governs that is named.
const GOVERNED_MAX: usize = 40;

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
    lines: Vec<String>,
    lines_left_out: usize,
    governs: Vec<String>,
    governs_more: usize,
    graph_href: Option<String>,
    history: Vec<Row>,
    revisions: Vec<u64>,
    compared: Option<Compared>,
    changes_href: String,
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
    let (snapshot, config) = (state.declared.current(), state.declared.config());
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
    let governs = found.map(|resource| {
        let index = Index::new(&snapshot, &config.root_namespace, &config.cluster_domain);
        Governs::of(&index, resource)
    });
    let words = governs.as_ref().map(Governs::words).unwrap_or_default();
    let text = yaml(&body);
    let now = state.clock.now();
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
        lines: text.lines().take(LINES_MAX).map(|line| format::visible(line, LINE_CHARS_MAX)).collect(),
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
