//! Cuts the graph of the page down to what is asked for: a node and what is near, not what is hidden; marks what is found.
//!
//! In: the graph and the address. Out: [`Shown`], ready for the template. An expression that cannot be read hides and
//! finds nothing and is shown with what is wrong in it.

use super::{Address, Choice};
use crate::graph::find::{Expression, Found};
use crate::graph::{ServiceGraph, walk};
use crate::web::ask::given;
use crate::web::drawing::label;
use crate::web::format;

/// How near what is shown around a node may be.
const HOPS: [(&str, &str); 4] =
    [("1", "1 call away"), ("2", "2 calls away"), ("3", "3 calls away"), ("5", "5 calls away")];
/// Longest expression that is shown again.
const TEXT_CHARS: usize = 4096;

/// How the graph was cut down.
pub(super) struct Shown {
    pub(super) find: String,
    pub(super) hide: String,
    pub(super) find_wrong: Option<String>,
    pub(super) hide_wrong: Option<String>,
    /// Parameters that the form keeps.
    pub(super) beside: Vec<(&'static str, String)>,
    pub(super) found: Option<Found>,
    /// What is found, hidden and near, in words.
    pub(super) said: Option<String>,
    /// How near, when a node is in focus.
    pub(super) hops: Vec<Choice>,
    /// The address without all this.
    pub(super) clear: Option<String>,
    pub(super) compare: Choice,
    /// What a form that chooses the other range keeps, and what it holds.
    pub(super) compare_beside: Vec<(&'static str, String)>,
    pub(super) compare_with: String,
}

impl Shown {
    /// Whether an expression cannot be read.
    pub(super) fn is_wrong(&self) -> bool {
        self.find_wrong.is_some() || self.hide_wrong.is_some()
    }
}

fn read(text: Option<&str>) -> (Option<Expression>, Option<String>) {
    match given(text.map(str::trim)).map(Expression::parse) {
        None => (None, None),
        Some(Ok(expression)) => (Some(expression), None),
        Some(Err(wrong)) => (None, Some(wrong.to_string())),
    }
}

/// Leaves what lies on ways from one node to another, and says which way is the shortest.
fn way(graph: &mut ServiceGraph, from: &str, to: &str) -> String {
    let name = |graph: &ServiceGraph, id: &str| graph.node(id).map(label);
    let (Some(source), Some(target)) = (name(graph, from), name(graph, to)) else {
        return "One end of the way has no traffic in this range, so all is shown.".to_owned();
    };
    let Some(path) = walk::path(graph, from, to).filter(|path| !path.is_empty()) else {
        return format!("No calls lead from {source} to {target} in this range, so all is shown.");
    };
    let steps = path.iter().filter_map(|id| graph.edge(id)).filter_map(|edge| name(graph, &edge.target));
    let steps = std::iter::once(source.clone()).chain(steps).collect::<Vec<_>>().join(" → ");
    *graph = walk::keep(graph, &walk::between(graph, from, to));
    format!("Only ways from {source} to {target} are shown; the shortest: {steps}.")
}

impl Address {
    /// Cuts the graph down, and says how.
    pub(super) fn narrow(&self, graph: &mut ServiceGraph) -> Shown {
        let ((find, find_wrong), (hide, hide_wrong)) = (read(self.find.as_deref()), read(self.hide.as_deref()));
        let mut said = Vec::new();
        let (focus, hops) = (given(self.focus.as_deref()), given(self.hops.as_deref()).unwrap_or("1"));
        if let Some(id) = focus {
            let near = hops.parse().unwrap_or(1_usize).clamp(1, 20);
            match graph.node(id).map(label) {
                Some(name) => {
                    *graph = walk::focus(graph, id, near);
                    said.push(format!("Only {name} and what is near it is shown."));
                }
                None => {
                    said.push(format!("{} has no traffic in this range, so all is shown.", format::visible(id, 200)))
                }
            }
        }
        if let (Some(from), Some(to)) = (given(self.way_from.as_deref()), given(self.way_to.as_deref())) {
            said.push(way(graph, from, to));
        }
        if let Some(hide) = &hide {
            let before = graph.edges.len();
            *graph = hide.hide(graph);
            said.push(format!("{} of {before} edges are hidden.", before - graph.edges.len()));
        }
        if graph.edges.is_empty() && graph.empty_because.is_none() && hide.is_some() {
            graph.empty_because = Some("Everything is hidden by the expression: change it or clear it.".to_owned());
        }
        let found = find.map(|find| find.find(graph));
        if let Some(found) = &found {
            let count = |n: usize, one: &str| format!("{n} {one}{}", if n == 1 { "" } else { "s" });
            said.push(format!("Found: {} and {}.", count(found.nodes.len(), "node"), count(found.edges.len(), "edge")));
        }
        let cleared = ["find", "hide", "select"];
        let is_narrowed = focus.is_some()
            || self.way_to.is_some()
            || hide.is_some()
            || found.is_some()
            || find_wrong.is_some()
            || hide_wrong.is_some();
        let without =
            Self { find: None, hide: None, focus: None, hops: None, way_from: None, way_to: None, ..self.clone() };
        let shown = |text: &Option<String>| format::shortened(text.as_deref().unwrap_or_default(), TEXT_CHARS);
        Shown {
            find: shown(&self.find),
            hide: shown(&self.hide),
            find_wrong,
            hide_wrong,
            beside: self.beside(&cleared),
            found,
            said: (!said.is_empty()).then(|| said.join(" ")),
            hops: match focus {
                Some(_) => HOPS.map(|(value, name)| self.choice(name, "hops", value, value == hops)).into(),
                None => Vec::new(),
            },
            clear: is_narrowed.then(|| without.href("", "")),
            compare_beside: self.beside(&["compare"]),
            compare_with: self.compare.clone().filter(|text| text != "1").unwrap_or_default(),
            compare: match self.compares() {
                true => self.choice("Without comparison", "compare", "", true),
                false => self.choice("Compare with before", "compare", "1", false),
            },
        }
    }
}
