//! `graph/compare`: what is new, gone, worse and better than in a range before.

use axum::extract::State as Shared;
use axum::response::Response;
use serde::Serialize;

use super::{Asked, Built, json, range};
use crate::api::State;
use crate::api::encode::success_with;
use crate::api::error::ApiError;
use crate::api::params::Params;
use crate::graph::compare as graphs;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Compared {
    before: Range,
    after: Range,
    changes: Vec<Change>,
    same: usize,
    nodes_new: Vec<String>,
    nodes_gone: Vec<String>,
}

#[derive(Serialize)]
struct Range {
    from: String,
    to: String,
}

#[derive(Serialize)]
struct Change {
    edge: String,
    change: &'static str,
    sentence: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<json::EdgeJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<json::EdgeJson>,
}

/// Compares `[start, end)` with `[beforeStart, beforeEnd)`, which is the same length right before it unless told.
pub(crate) async fn compare(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    let now = state.clock.now();
    let asked = Asked::read(&params, now)?;
    let length = asked.to.since(asked.from);
    let end = params.time("beforeEnd")?.unwrap_or(asked.from);
    let (from, to) = match (params.get("beforeStart"), params.get("beforeEnd")) {
        (None, None) => (end - length, end),
        _ => {
            let start = params.time("beforeStart")?.unwrap_or(end - length);
            if end <= start {
                return Err(ApiError::parameter("beforeEnd", "it must be after beforeStart"));
            }
            // The same bounds as for any range.
            match params.get("beforeEnd") {
                Some(_) => range(&params, ("beforeStart", "beforeEnd"), now, length)?,
                None => (start, end),
            }
        }
    };
    let before = Asked { from, to, ..asked.clone() };
    let (before, after) = (before.build(&state).await?, asked.build(&state).await?);
    let written = tokio::task::spawn_blocking(move || answer(&before, &after)).await;
    written.map_err(|error| ApiError::Internal(error.to_string()))
}

fn answer(before: &Built, after: &Built) -> Response {
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
    success_with(compared, &warnings)
}
