//! `graph/compare`: what is new, gone, worse and better than in a range before.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Asked, Built, Look, json, range};
use crate::api::State;
use crate::api::error::ApiError;
use crate::api::mesh::operation::{Answer, Outcome};
use crate::api::mesh::query::Time;
use crate::graph::compare as graphs;

/// What changed between two ranges.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::api::mesh) struct Compared<'a> {
    /// A range.
    before: Range,
    /// A range.
    after: Range,
    /// Edges that changed: worse, new, gone, better.
    changes: Vec<Change<'a>>,
    /// Edges that did not.
    same: usize,
    /// Ids of nodes without traffic before.
    nodes_new: Vec<String>,
    /// Ids of nodes without traffic now.
    nodes_gone: Vec<String>,
}

/// A range.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ComparedRange")]
struct Range {
    /// Start.
    #[schemars(extend("format" = "date-time"))]
    from: String,
    /// End.
    #[schemars(extend("format" = "date-time"))]
    to: String,
}

/// How one edge changed.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "EdgeChange")]
struct Change<'a> {
    /// Its id.
    edge: String,
    /// How.
    #[schemars(extend("enum" = ["worse", "new", "gone", "better"]))]
    change: &'static str,
    /// In words.
    sentence: String,
    /// The calls from one node to another.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<json::EdgeJson<'a>>,
    /// The calls from one node to another.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<json::EdgeJson<'a>>,
}

/// The range that is compared with.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::api::mesh) struct Before {
    /// Start of the range before; as long as the other unless told.
    before_start: Option<Time>,
    /// End of the range before; the start of the other unless told.
    before_end: Option<Time>,
}

/// Compares `[start, end)` with `[beforeStart, beforeEnd)`, which is the same length right before it unless told.
pub(in crate::api::mesh) async fn compare(
    state: State,
    (wanted, look, former): (super::Range, Look, Before),
) -> Outcome<Compared<'static>> {
    let now = state.clock.now();
    let asked = Asked::read(&wanted, &look, now)?;
    let length = asked.to.since(asked.from);
    let Before { before_start, before_end } = former;
    let end = before_end.map_or(asked.from, |end| end.0);
    let (from, to) = match (before_start, before_end) {
        (None, None) => (end - length, end),
        _ => {
            let start = before_start.map_or(end - length, |start| start.0);
            if end <= start {
                return Err(ApiError::parameter("beforeEnd", "it must be after beforeStart"));
            }
            // The same bounds as for any range.
            match before_end {
                Some(_) => range(("beforeStart", before_start), ("beforeEnd", before_end), now, length)?,
                None => (start, end),
            }
        }
    };
    let before = Asked { from, to, ..asked.clone() };
    let (before, after) = (before.build(&state).await?, asked.build(&state).await?);
    let written = tokio::task::spawn_blocking(move || answer(&before, &after)).await;
    written.map_err(|error| ApiError::Internal(error.to_string()))
}

fn answer(before: &Built, after: &Built) -> Answer<Compared<'static>> {
    let found = graphs::compare(&before.graph, &after.graph);
    let same = found.edges.iter().filter(|edge| edge.change == graphs::Change::Same).count();
    let changed = found.edges.iter().filter(|edge| edge.change != graphs::Change::Same);
    let range = |built: &Built| Range { from: built.from.to_string(), to: built.to.to_string() };
    let ids = |nodes: &[&crate::graph::Node]| nodes.iter().map(|node| node.id.to_string()).collect();
    let compared = Compared {
        before: range(before),
        after: range(after),
        same,
        nodes_new: ids(&found.nodes_new),
        nodes_gone: ids(&found.nodes_gone),
        changes: changed
            .map(|one| Change {
                edge: one.id.to_string(),
                change: one.change.as_str(),
                sentence: one.sentence.clone(),
                before: one.before.map(json::edge),
                after: one.after.map(json::edge),
            })
            .collect(),
    };
    let mut warnings = before.warnings.clone();
    warnings.extend(after.warnings.iter().filter(|warning| !before.warnings.contains(warning)).cloned());
    Answer::with(compared, &warnings)
}
