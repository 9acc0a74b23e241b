//! `graph/causes`, `graph/blast-radius`, `graph/complete`: what is asked of a graph as a whole.

use axum::extract::State as Shared;
use axum::response::Response;
use serde::Serialize;

use super::{Asked, Built, node_of};
use crate::api::State;
use crate::api::encode::success_with;
use crate::api::error::ApiError;
use crate::api::params::Params;
use crate::graph::{cause, find, walk};

/// Most causes in one answer.
const CAUSES_MAX: usize = 100;

#[derive(Serialize)]
struct Causes {
    causes: Vec<Cause>,
    failing: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Cause {
    edge: String,
    score: f64,
    errors_per_second: f64,
    own_share: f64,
    explains: Vec<Explained>,
    explained_by: Vec<Explained>,
    sentence: String,
}

#[derive(Serialize)]
struct Explained {
    edge: String,
    share: f64,
}

/// Failing edges, those first that explain the most.
pub(crate) async fn causes(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    let asked = Asked::read(&params, state.clock.now())?;
    let Built { graph, warnings, .. } = asked.build(&state).await?;
    let found = tokio::task::spawn_blocking(move || cause::causes(&graph)).await;
    let found = found.map_err(|error| ApiError::Internal(error.to_string()))?;
    let shares = |list: Vec<(std::sync::Arc<str>, f64)>| {
        list.into_iter().map(|(edge, share)| Explained { edge: edge.to_string(), share }).collect()
    };
    let failing = found.len();
    let shown = |one: cause::Cause| Cause {
        edge: one.edge.to_string(),
        score: one.score,
        errors_per_second: one.errors_per_second,
        own_share: one.own_share,
        explains: shares(one.explains),
        explained_by: shares(one.explained_by),
        sentence: one.sentence,
    };
    Ok(success_with(Causes { causes: found.into_iter().take(CAUSES_MAX).map(shown).collect(), failing }, &warnings))
}

#[derive(Serialize)]
struct BlastRadius {
    node: String,
    hurt: Vec<Hurt>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Hurt {
    node: String,
    hops: usize,
    share: f64,
    requests_per_second: f64,
}

/// Whom a failure of a node can hurt.
pub(crate) async fn blast_radius(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    let asked = Asked::read(&params, state.clock.now())?;
    if params.get("node").is_none() {
        return Err(ApiError::parameter("node", "give the id of a node, as the graph has it"));
    }
    let Built { graph, warnings, .. } = asked.build(&state).await?;
    let Some(node) = node_of(&params, "node", &graph)?.map(str::to_owned) else {
        return Err(ApiError::parameter("node", "give the id of a node, as the graph has it"));
    };
    let id = node.clone();
    let hurt = tokio::task::spawn_blocking(move || walk::weighted_blast_radius(&graph, &id)).await;
    let hurt = hurt.map_err(|error| ApiError::Internal(error.to_string()))?;
    let shown = |one: walk::Hurt| Hurt {
        node: one.node.to_string(),
        hops: one.hops,
        share: one.share,
        requests_per_second: one.rate,
    };
    Ok(success_with(BlastRadius { node, hurt: hurt.into_iter().map(shown).collect() }, &warnings))
}

#[derive(Serialize)]
struct Completions {
    completions: Vec<Completion>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Wrong>,
}

#[derive(Serialize)]
struct Completion {
    text: String,
    detail: String,
    from: usize,
}

/// What is wrong with a text as it stands.
#[derive(Serialize)]
struct Wrong {
    position: usize,
    message: String,
}

/// Ways on in an expression of Find or Hide, and what is wrong with it as it stands.
pub(crate) async fn complete(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    let asked = Asked::read(&params, state.clock.now())?;
    let text = params.get("expression").unwrap_or_default().to_owned();
    let cursor = match params.get("cursor") {
        None => text.chars().count(),
        Some(cursor) => cursor
            .parse::<usize>()
            .map_err(|_| ApiError::parameter("cursor", "use the number of characters before the cursor"))?,
    };
    let Built { graph, warnings, .. } = asked.build(&state).await?;
    let before: String = text.chars().take(cursor).collect();
    let found = find::complete(&before, &graph);
    let completions =
        found.into_iter().map(|one| Completion { text: one.text, detail: one.detail, from: one.from }).collect();
    let wrong = match text.trim().is_empty() {
        true => None,
        false => find::Expression::parse(&text).err(),
    };
    let error = wrong.map(|wrong| Wrong { position: wrong.position, message: wrong.message });
    Ok(success_with(Completions { completions, error }, &warnings))
}
