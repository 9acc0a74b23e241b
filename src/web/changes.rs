//! The page of changes: what was declared anew, by whom, which fields, and what it did to the traffic.
//!
//! In: the book of changes, how the sources fare. Out: HTML.

use std::time::Duration;

use askama::Template;
use axum::response::Response;
use serde::Deserialize;

use super::ask::{Asked, Shared, given, link};
use super::frame::{Frame, render};
use super::{State, error, format, range};
use crate::changes::{Action, Change, Effect, FieldChange, kind_key, kind_of_key};
use crate::declared::{ClusterStatus, FilesStatus, Status};
use crate::mesh::ResourceId;
use crate::model::Timestamp;
use crate::store::ChangeQuery;

/// What the page shows unless told.
pub(super) const RANGE_DEFAULT: &str = "24h";
/// Changes of one page.
const PAGE_SIZE: usize = 100;
/// Fields that a list shows of each.
const FIELDS_SHOWN: usize = 12;
/// Longest value in a list.
const VALUE_CHARS: usize = 200;
/// Most problems of sources that are shown.
const PROBLEMS_SHOWN: usize = 20;

/// What the URL says.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Address {
    range: Option<String>,
    at: Option<String>,
    namespace: Option<String>,
    kind: Option<String>,
    name: Option<String>,
}

#[derive(Template)]
#[template(path = "changes.html")]
struct Page {
    frame: Frame,
    /// Texts of the form.
    range: String,
    at: String,
    namespace: String,
    kind: String,
    name: String,
    segments: Vec<(&'static str, String, bool)>,
    changes: Vec<Row>,
    is_cut: bool,
    sources: Sources,
    is_filtered: bool,
}

/// One change as a page shows it.
pub(super) struct Row {
    pub(super) action: &'static str,
    pub(super) class: &'static str,
    pub(super) what: String,
    pub(super) href: String,
    pub(super) generation: u64,
    pub(super) revision: u64,
    pub(super) ago: String,
    pub(super) exact: String,
    pub(super) writer: String,
    pub(super) fields: Vec<Field>,
    pub(super) more: usize,
    pub(super) effects: Vec<(String, &'static str, String)>,
    /// What is said in place of effects.
    pub(super) effect_note: &'static str,
}

/// One field that is another.
pub(super) struct Field {
    pub(super) path: String,
    pub(super) before: Option<String>,
    pub(super) after: Option<String>,
}

/// How the sources fare.
struct Sources {
    is_configured: bool,
    objects: usize,
    files: Option<(usize, usize, String, String)>,
    kinds: Vec<(String, &'static str, &'static str, usize, String)>,
    not_served: usize,
    changed: Option<(String, String)>,
    problems: Vec<String>,
}

/// The address of an object's page.
pub(super) fn resource_href(id: &ResourceId) -> String {
    let namespace = if id.namespace.is_empty() { "-" } else { &id.namespace };
    let mut url = reqwest::Url::parse("http://x/").ok();
    if let Some(mut segments) = url.as_mut().and_then(|url| url.path_segments_mut().ok()) {
        segments.pop_if_empty().push("resource").push(&kind_key(id.kind)).push(namespace).push(&id.name);
    }
    url.map(|url| url.path().to_owned()).unwrap_or_default()
}

/// A change as a row.
pub(super) fn row(change: &Change, now: Timestamp) -> Row {
    let class = match change.action {
        Action::Created => "healthy",
        Action::Deleted => "failure",
        Action::Changed => "degraded",
        Action::First => "idle",
    };
    let shown_until = (change.at + Duration::from_secs(600)).min(now);
    let effects = change.effects.iter().flatten().map(|one| effect(one, shown_until)).collect();
    let effect_note = match &change.effects {
        Some(effects) if effects.is_empty() => "No step of failures or latency on the edges that it governs.",
        Some(_) => "",
        None if change.action == Action::First || change.governs.is_nobody() => "",
        None if now.since(change.at.min(now)) < Duration::from_secs(20 * 60) => {
            "What it did to the traffic is looked at some minutes after it."
        }
        None => "",
    };
    Row {
        action: change.action.as_str(),
        class,
        what: format::visible(&change.id.to_string(), 160),
        href: resource_href(&change.id),
        generation: change.generation,
        revision: change.revision,
        ago: format::ago(Some(change.at), now),
        exact: change.at.to_string(),
        writer: change.writer.as_deref().map(|writer| format::visible(writer, 80)).unwrap_or_default(),
        fields: change.fields.iter().take(FIELDS_SHOWN).map(field).collect(),
        more: change.fields.len().saturating_sub(FIELDS_SHOWN) + change.fields_left_out,
        effects,
        effect_note,
    }
}

pub(super) fn field(field: &FieldChange) -> Field {
    let shown = |text: &Option<String>| text.as_deref().map(|text| format::visible(text, VALUE_CHARS));
    Field { path: format::visible(&field.path, VALUE_CHARS), before: shown(&field.before), after: shown(&field.after) }
}

/// The sentence, its class, and the graph around that time.
fn effect(effect: &Effect, at: Timestamp) -> (String, &'static str, String) {
    let class = if effect.is_worse() { "failure" } else { "healthy" };
    // Names of services have no dot, hosts outside have no namespace.
    let namespace = effect.target.split_once('.').map_or("", |(_, place)| if place.contains('.') { "" } else { place });
    let at = at.as_secs_f64().to_string();
    (
        format::visible(&effect.to_string(), 300),
        class,
        link("graph", &[("namespace", namespace), ("at", &at), ("range", "15m")]),
    )
}

impl Address {
    fn link(&self, range: &str) -> String {
        let of = |value: &Option<String>| value.clone().unwrap_or_default();
        let pairs = [
            ("range", range),
            ("namespace", &of(&self.namespace)),
            ("kind", &of(&self.kind)),
            ("name", &of(&self.name)),
        ];
        link("changes", &pairs)
    }
}

pub(super) async fn page(Shared(state): Shared<State>, Asked(address): Asked<Address>) -> Response {
    let now = state.clock.now();
    let query = range::Query { range: address.range.clone(), at: address.at.clone() };
    let range = match query.read(RANGE_DEFAULT, now) {
        Ok(range) => range,
        Err(reason) => return error::bad_request(&state, "changes", reason),
    };
    let kind = match given(address.kind.as_deref()).map(|text| kind_of_key(text).ok_or(text)) {
        None => None,
        Some(Ok(kind)) => Some(kind_key(kind)),
        Some(Err(text)) => {
            let reason = format!("kind: {text:?} is no kind that is read; write it as in YAML: VirtualService");
            return error::bad_request(&state, "changes", reason);
        }
    };
    let text = |value: &Option<String>| given(value.as_deref()).map(str::trim).map(str::to_owned);
    let query = ChangeQuery {
        from: range.from,
        to: range.to,
        namespace: text(&address.namespace),
        kind: kind.clone(),
        name: text(&address.name),
        // One more, to know whether there are others.
        limit: PAGE_SIZE + 1,
    };
    let (mut found, warning) = state.changes.search(&query).await;
    let is_cut = found.len() > PAGE_SIZE;
    found.truncate(PAGE_SIZE);
    let segment = |range_text: &'static str| (range_text, address.link(range_text), range.text == range_text);
    let page = Page {
        frame: Frame::new(&state, "changes").warn(warning).warn(range.before_retention(
            "changes",
            state.retention.mesh,
            "mesh",
        )),
        range: range.text.clone(),
        at: address.at.clone().unwrap_or_default(),
        is_filtered: query.namespace.is_some() || query.kind.is_some() || query.name.is_some(),
        namespace: query.namespace.unwrap_or_default(),
        kind: kind.unwrap_or_default(),
        name: query.name.unwrap_or_default(),
        segments: ["1h", "6h", "24h", "7d", "30d"].map(segment).into(),
        changes: found.iter().map(|change| row(change, now)).collect(),
        is_cut,
        sources: sources(&state.declared.status(), state.declared.config().is_given(), now),
    };
    render(&page)
}

fn sources(status: &Status, is_configured: bool, now: Timestamp) -> Sources {
    let when = |at: Option<Timestamp>| (format::ago(at, now), at.map(|at| at.to_string()).unwrap_or_default());
    let files = status.files.as_ref().map(|files| {
        let FilesStatus { objects, files, read_at, .. } = files;
        let (ago, exact) = when(*read_at);
        (*objects, *files, ago, exact)
    });
    let kinds = status.cluster.as_ref().map(|ClusterStatus { kinds, .. }| kinds.as_slice()).unwrap_or_default();
    let of_files = status.files.iter().flat_map(|files| files.problems.iter().cloned());
    let of_kinds = kinds.iter().filter_map(|kind| Some(format!("{}: {}", kind.kind, kind.state.problem()?)));
    let shown = kinds.iter().filter(|kind| kind.objects > 0 || kind.state.problem().is_some());
    Sources {
        is_configured,
        objects: status.objects,
        files,
        not_served: kinds.iter().filter(|kind| kind.state.as_str() == "not served").count(),
        kinds: shown
            .map(|kind| {
                let class = if kind.state.problem().is_some() { "degraded" } else { "healthy" };
                (
                    kind.kind.to_owned(),
                    kind.version.unwrap_or_default(),
                    class,
                    kind.objects,
                    kind.state.as_str().to_owned(),
                )
            })
            .collect(),
        changed: status.changed_at.map(|at| when(Some(at))),
        problems: of_files.chain(of_kinds).take(PROBLEMS_SHOWN).map(|text| format::visible(&text, 400)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changes::{Governs, Measure};
    use crate::declared::Origin;
    use crate::mesh::Kind;
    use crate::web::hostile;

    #[test]
    fn a_page_survives_any_text() {
        let now = Timestamp::from_millis(1_800_000_000_000);
        for text in hostile::texts() {
            let effect = Effect {
                measure: Measure::Latency,
                source: text.clone(),
                target: text.clone(),
                before: f64::INFINITY,
                after: 0.5,
                delay: Duration::ZERO,
                probability: 2.0,
                requests: (1.0, 1.0),
            };
            let change = Change {
                at: now,
                id: ResourceId { kind: Kind::ConfigMap, namespace: text.clone(), name: text.clone() },
                origin: Origin::Files,
                action: Action::Changed,
                revision: u64::MAX,
                generation: 0,
                writer: Some(text.clone()),
                fields: vec![FieldChange { path: text.clone(), before: Some(text.clone()), after: None }; 40],
                fields_left_out: 3,
                effects: Some(vec![effect]),
                governs: Governs::default(),
            };
            let files = FilesStatus { problems: vec![text.clone()], ..FilesStatus::default() };
            let status = Status { files: Some(files), ..Status::default() };
            let page = Page {
                frame: Frame::around("changes", 0),
                range: text.clone(),
                at: text.clone(),
                namespace: text.clone(),
                kind: text.clone(),
                name: text.clone(),
                segments: vec![("1h", Address { name: Some(text.clone()), ..Address::default() }.link("1h"), true)],
                changes: vec![row(&change, now)],
                is_cut: true,
                sources: sources(&status, true, now),
                is_filtered: true,
            };
            let html = page.render().expect("a page");
            hostile::assert_harmless(&html);
            assert!(html.contains("and 31 more fields"), "{html}");
        }
    }

    #[test]
    fn an_objects_address_carries_any_name() {
        let href = |kind, namespace: &str, name: &str| {
            resource_href(&ResourceId { kind, namespace: namespace.into(), name: name.into() })
        };
        assert_eq!(href(Kind::DestinationRule, "shop", "cart"), "/resource/DestinationRule/shop/cart");
        assert_eq!(href(Kind::Namespace, "", "shop"), "/resource/Namespace/-/shop");
        assert_eq!(
            href(Kind::KubernetesGateway, "a b", "x/y?z"),
            "/resource/Gateway.gateway.networking.k8s.io/a%20b/x%2Fy%3Fz"
        );
    }
}
