//! The page of the service graph: who calls whom, how much, how well; a click shows one node or edge in detail.

mod changes;
mod detail;
mod drawings;
mod narrow;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::HashSet;

use askama::Template;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::ask::{Asked, Shared, given, link};
use super::drawing::{self, Drawing, draw};
use super::frame::{Frame, render};
use super::range::Range;
use super::{State, error, format, mesh, range, subject};
use crate::graph::layout::boxes::BoxKind;
use crate::graph::layout::keep::Kept;
use crate::graph::{Edge, ServiceGraph, View, cause};
use detail::{Detail, EdgeRow};

pub use drawings::Drawings;

/// What the page shows unless told.
pub(super) const RANGE_DEFAULT: &str = "5m";
const RANGES: [&str; 5] = ["5m", "15m", "1h", "6h", "24h"];
/// How far back the slider of the replay goes, in lengths of the range, and its steps in each of them.
const REPLAY_RANGES: u32 = 12;
const REPLAY_STEPS_A_RANGE: u32 = 5;
/// Most edges that are drawn: a browser settles them within seconds. Of more, the busiest are drawn.
const DRAWN_MAX: usize = 6_000;
/// Causes that are named.
const CAUSES_SHOWN: usize = 4;
/// Most rows of the table of edges, the worst first. Each costs a browser more than an edge of the drawing does.
const ROWS_MAX: usize = 200;
/// What frames stand around: value in the address, name, kinds.
const BOXES: [(&str, &str, &[BoxKind]); 3] = [
    ("namespace", "Namespaces", &[BoxKind::Namespace]),
    ("cluster", "Clusters", &[BoxKind::Cluster, BoxKind::Namespace]),
    ("none", "No boxes", &[]),
];
const VIEWS: [(View, &str); 4] =
    [(View::Workload, "Workloads"), (View::App, "Apps"), (View::VersionedApp, "Versions"), (View::Service, "Services")];

/// What the URL says.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Address {
    range: Option<String>,
    at: Option<String>,
    view: Option<String>,
    namespace: Option<String>,
    idle: Option<String>,
    select: Option<String>,
    find: Option<String>,
    hide: Option<String>,
    focus: Option<String>,
    hops: Option<String>,
    compare: Option<String>,
    boxes: Option<String>,
    /// The node where a way begins, and where it ends.
    way_from: Option<String>,
    way_to: Option<String>,
}

#[derive(Template)]
#[template(path = "graph.html")]
struct Page {
    frame: Frame,
    drawing: Drawing,
    /// Name of the drawing and of its edges, which the page says when it asks for the next one.
    drawn: String,
    /// A large drawing as data, where an open page asks that has one already.
    update: Option<String>,
    totals: Vec<(&'static str, String)>,
    views: Vec<Choice>,
    ranges: Vec<Choice>,
    idle: Choice,
    namespaces: Vec<Choice>,
    edges: Vec<EdgeRow>,
    edges_more: usize,
    boxes: Vec<Choice>,
    causes: Vec<(String, String)>,
    detail: Option<Detail>,
    /// More of what is selected: its story, and what else tells of it, as HTML that the template engine made.
    panel: String,
    empty: Option<String>,
    left_out: usize,
    close: String,
    address: Address,
    live: bool,
    span: String,
    until: String,
    until_exact: String,
    hidden: usize,
    narrowed: narrow::Shown,
    replay: Replay,
    changes: Option<changes::Changes>,
    exports: [(&'static str, String); 2],
}

/// The film of the past: where the slider begins and ends, and links for those without scripts.
struct Replay {
    from: i64,
    to: i64,
    step: u64,
    at: i64,
    earlier: String,
    later: Option<String>,
    now: Option<String>,
}

impl Page {
    /// The address of this page with a node or an edge selected.
    fn selecting(&self, id: &str) -> String {
        self.address.href("select", id)
    }
}

/// One of several ways to look, as a link.
struct Choice {
    name: String,
    href: String,
    current: bool,
}

pub(super) async fn page(Shared(state): Shared<State>, headers: HeaderMap, Asked(asked): Asked<Address>) -> Response {
    let now = state.clock.now();
    let range = range::Query { range: asked.range.clone(), at: asked.at.clone() };
    let range = match range.read(RANGE_DEFAULT, now) {
        Ok(range) => range,
        Err(message) => return error::bad_request(&state, "graph", message),
    };
    let view = match given(asked.view.as_deref()).map(View::from_name) {
        None => View::default(),
        Some(Some(view)) => view,
        Some(None) => {
            let message = "view: use one of workload, app, versionedApp, service".to_owned();
            return error::bad_request(&state, "graph", message);
        }
    };
    let Some(kinds) = asked.box_kinds() else {
        let message = "boxes: use one of namespace, cluster, none".to_owned();
        return error::bad_request(&state, "graph", message);
    };
    let other = match changes::other_range(asked.compare.as_deref(), &range) {
        Ok(other) => other,
        Err(message) => return error::bad_request(&state, "graph", message),
    };
    let look = mesh::Look { view, idle: asked.with_idle(), edges_max: DRAWN_MAX };
    let (graph, warning) = match mesh::build(&state, &range, look).await {
        Ok(mesh::Built { graph, warning }) => (graph, warning),
        Err(page) => return page,
    };
    let old = range.before_retention("edges", state.retention.edge_hours, "edge_hours");
    let frame = Frame::new(&state, "graph").warn(warning).warn(old);
    let panel = async {
        match given(asked.select.as_deref()) {
            Some(id) => subject::panel::panel(&state, (view, id), &range).await,
            None => String::new(),
        }
    };
    let compared = async {
        match &other {
            Some(other) => changes::between(&state, &asked, (other, &range), view).await,
            None => None,
        }
    };
    let (panel, changes) = tokio::join!(panel, compared);
    // A large graph is many boxes to place.
    let (former, drawings) = (state.drawings.shown(&headers), state.drawings.clone());
    let open = drawings::asked(&headers).map(str::to_owned);
    let made = tokio::task::spawn_blocking(move || {
        let (page, kept) = page_of(frame, asked, graph, (view, kinds, former.as_deref()), &range);
        let drawn = format!("{}.{}", drawings.remember(kept), page.drawn);
        let update = (open.filter(|_| page.drawing.large))
            .map(|open| drawing::update::json(&page.drawing, &page.close, open == drawn));
        let page = Page { drawn, update, panel, changes, ..page };
        match page.narrowed.is_wrong() {
            false => render(&page),
            true => (StatusCode::BAD_REQUEST, render(&page)).into_response(),
        }
    });
    let made = made.await;
    made.unwrap_or_else(|reason| error::internal(&format!("the graph could not be drawn: {reason}")))
}

fn page_of(
    frame: Frame,
    asked: Address,
    mut graph: ServiceGraph,
    (view, kinds, former): (View, &[BoxKind], Option<&Kept>),
    range: &Range,
) -> (Page, Kept) {
    let namespaces = asked.namespaces(&graph);
    asked.keep_namespace(&mut graph);
    let narrowed = asked.narrow(&mut graph);
    let rows = worst_first(&graph);
    let selected = given(asked.select.as_deref());
    let (drawing, kept) = draw(&graph, drawing::Look { selected, found: narrowed.found.as_ref(), kinds, former });
    let page = Page {
        frame,
        drawing,
        drawn: drawings::edges_name(&graph),
        update: None,
        totals: totals(&graph),
        views: VIEWS.map(|(one, name)| asked.choice(name, "view", one.as_str(), one == view)).into(),
        ranges: RANGES.map(|text| asked.choice(text, "range", text, text == range.text)).into(),
        idle: asked.choice("Idle edges", "idle", if asked.with_idle() { "" } else { "1" }, asked.with_idle()),
        namespaces,
        edges_more: rows.len().saturating_sub(ROWS_MAX),
        edges: rows.into_iter().take(ROWS_MAX).map(|edge| asked.edge_row(edge, &graph)).collect(),
        boxes: asked.boxes(),
        causes: asked.causes(&graph),
        panel: String::new(),
        detail: asked.detail(&graph),
        left_out: graph.edges_left_out,
        close: asked.href("select", ""),
        live: range.live,
        span: format::span(range.to.since(range.from)),
        until: format::moment(range.to),
        until_exact: range.to.to_string(),
        hidden: graph.idle_hidden,
        empty: graph.empty_because,
        replay: asked.replay(range),
        exports: asked.exports(range, view),
        changes: None,
        narrowed,
        address: asked,
    };
    (page, kept)
}

/// The edges as a table reads best: the worst first, then the busiest.
fn worst_first(graph: &ServiceGraph) -> Vec<&Edge> {
    let mut edges: Vec<&Edge> = graph.edges.iter().collect();
    let weight = |edge: &Edge| {
        let requests = edge.requests.as_ref();
        (edge.health.status, requests.map_or(0.0, |r| r.error_ratio), requests.map_or(0.0, |r| r.rate))
    };
    edges.sort_by(|a, b| weight(b).partial_cmp(&weight(a)).unwrap_or(Ordering::Equal));
    edges
}

fn totals(graph: &ServiceGraph) -> Vec<(&'static str, String)> {
    let totals = &graph.totals;
    let share = |share: Option<f64>| share.map_or_else(|| "–".to_owned(), format::percent);
    vec![
        ("Requests", format::rate(totals.rate)),
        ("Errors", share(totals.error_ratio)),
        ("Mutual TLS", share(totals.mtls_share)),
        ("Failing edges", totals.failed_edges.to_string()),
        ("Degraded edges", totals.degraded_edges.to_string()),
        ("Edges", totals.edges.to_string()),
    ]
}

impl Address {
    /// This page's address with one parameter changed; an empty value removes it.
    fn href(&self, name: &str, value: &str) -> String {
        let own = [
            ("range", &self.range),
            ("at", &self.at),
            ("view", &self.view),
            ("namespace", &self.namespace),
            ("idle", &self.idle),
            ("select", &self.select),
            ("find", &self.find),
            ("hide", &self.hide),
            ("focus", &self.focus),
            ("hops", &self.hops),
            ("compare", &self.compare),
            ("boxes", &self.boxes),
            ("way_from", &self.way_from),
            ("way_to", &self.way_to),
        ];
        let kept = own.into_iter().filter(|(own, _)| *own != name).filter_map(|(own, v)| Some((own, v.as_deref()?)));
        link("graph", &kept.chain([(name, value)]).collect::<Vec<_>>())
    }

    /// The parameters of this page beside some, for a form that sets those.
    fn beside(&self, names: &[&str]) -> Vec<(&'static str, String)> {
        let own = [
            ("range", &self.range),
            ("at", &self.at),
            ("view", &self.view),
            ("namespace", &self.namespace),
            ("idle", &self.idle),
            ("select", &self.select),
            ("find", &self.find),
            ("hide", &self.hide),
            ("focus", &self.focus),
            ("hops", &self.hops),
            ("compare", &self.compare),
            ("boxes", &self.boxes),
            ("way_from", &self.way_from),
            ("way_to", &self.way_to),
        ];
        let kept = own.into_iter().filter(|(name, _)| !names.contains(name));
        kept.filter_map(|(name, value)| Some((name, given(value.as_deref())?.to_owned()))).collect()
    }

    /// Whether another range is to be compared.
    fn compares(&self) -> bool {
        given(self.compare.as_deref()).is_some()
    }

    /// Twelve ranges back from the end of the range (of now, where that is near), as steps of a slider.
    fn replay(&self, range: &Range) -> Replay {
        let length = range.to.since(range.from);
        let step = (length / REPLAY_STEPS_A_RANGE).max(std::time::Duration::from_secs(60));
        let back = |by: std::time::Duration| (range.to - by).to_string();
        let seconds = |at: crate::model::Timestamp| at.as_millis().div_euclid(1000);
        Replay {
            from: seconds(range.to - length * REPLAY_RANGES),
            to: seconds(range.to),
            step: step.as_secs(),
            at: seconds(range.to),
            earlier: self.href("at", &back(step)),
            later: (!range.live).then(|| self.href("at", &(range.to + step).min(range.now).to_string())),
            now: (!range.live).then(|| self.href("at", "")),
        }
    }

    /// The same graph for programs: our JSON, and Kiali's.
    fn exports(&self, range: &Range, view: View) -> [(&'static str, String); 2] {
        let of = |format: &str| {
            let (start, end) = (range.from.to_string(), range.to.to_string());
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let (namespace, hide, focus, hops) =
                (text(&self.namespace), text(&self.hide), text(&self.focus), text(&self.hops));
            let hops = if focus.is_empty() { "" } else { &hops };
            let idle = if self.with_idle() { "true" } else { "" };
            let parameters = [
                ("start", start.as_str()),
                ("end", &end),
                ("view", view.as_str()),
                ("idle", idle),
                ("namespace", &namespace),
                ("hide", &hide),
                ("focus", &focus),
                ("hops", hops),
                ("format", format),
            ];
            link("api/mesh/v1/graph", &parameters)
        };
        [("JSON", of("json")), ("JSON as Kiali's", of("kiali"))]
    }

    /// The frames asked for; `None` when there are no such.
    fn box_kinds(&self) -> Option<&'static [BoxKind]> {
        let asked = given(self.boxes.as_deref()).unwrap_or(BOXES[0].0);
        BOXES.iter().find(|(value, ..)| *value == asked).map(|(.., kinds)| *kinds)
    }

    fn boxes(&self) -> Vec<Choice> {
        let asked = given(self.boxes.as_deref()).unwrap_or(BOXES[0].0);
        let value = |value: &'static str| if value == BOXES[0].0 { "" } else { value };
        BOXES.map(|(own, name, _)| self.choice(name, "boxes", value(own), own == asked)).into()
    }

    /// Which failing calls explain the others, in words, with what selects them.
    fn causes(&self, graph: &ServiceGraph) -> Vec<(String, String)> {
        let causes = cause::causes(graph);
        let own = causes.iter().filter(|one| one.own_share > 0.0).take(CAUSES_SHOWN);
        own.map(|one| (format::sentence(&one.sentence), self.href("select", &one.edge))).collect()
    }

    /// Whether edges without traffic are asked for.
    fn with_idle(&self) -> bool {
        self.idle.as_deref() == Some("1")
    }

    fn choice(&self, text: &str, name: &str, value: &str, current: bool) -> Choice {
        Choice { name: text.to_owned(), href: self.href(name, value), current }
    }

    fn namespaces(&self, graph: &ServiceGraph) -> Vec<Choice> {
        let mut names: Vec<&str> = graph.nodes.iter().filter_map(|node| node.namespace.as_deref()).collect();
        names.sort_unstable();
        names.dedup();
        let asked = self.namespace.as_deref().unwrap_or_default();
        let all = self.choice("All namespaces", "namespace", "", asked.is_empty());
        std::iter::once(all)
            .chain(names.iter().map(|name| self.choice(name, "namespace", name, *name == asked)))
            .collect()
    }

    /// Leaves the edges that begin or end in the namespace asked for.
    fn keep_namespace(&self, graph: &mut ServiceGraph) {
        let Some(asked) = given(self.namespace.as_deref()) else { return };
        let inside: HashSet<_> = graph
            .nodes
            .iter()
            .filter(|node| node.namespace.as_deref() == Some(asked))
            .map(|node| node.id.clone())
            .collect();
        graph.edges.retain(|edge| inside.contains(&edge.source) || inside.contains(&edge.target));
        let near: HashSet<_> = graph.edges.iter().flat_map(|edge| [edge.source.clone(), edge.target.clone()]).collect();
        graph.nodes.retain(|node| near.contains(&node.id));
        if graph.edges.is_empty() && graph.empty_because.is_none() {
            graph.empty_because = Some(format!("No edge begins or ends in the namespace {asked:?} in this range."));
        }
    }
}
