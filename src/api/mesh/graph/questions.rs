//! `graph/causes`, `graph/blast-radius`, `graph/complete`: what is asked of a graph as a whole.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Asked, Built, Look, Range, node_of};
use crate::api::State;
use crate::api::error::ApiError;
use crate::api::mesh::operation::{Answer, Outcome};
use crate::graph::{cause, find, walk};

/// Most causes in one answer.
const CAUSES_MAX: usize = 100;

/// Failing edges, those first that explain the most.
#[derive(Serialize, JsonSchema)]
pub(in crate::api::mesh) struct Causes {
    /// At most 100.
    causes: Vec<Cause>,
    /// Failing edges there are.
    failing: usize,
}

/// A failing edge and what it explains.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Cause {
    /// Its id.
    edge: String,
    /// Errors per second here and above that come from here.
    score: f64,
    /// Its own errors.
    errors_per_second: f64,
    /// Share of its own errors that no call below explains, 0 to 1.
    own_share: f64,
    /// Failing edges above.
    explains: Vec<Explained>,
    /// Failing edges below.
    explained_by: Vec<Explained>,
    /// All this in words.
    sentence: String,
}

/// An edge and a share of errors.
#[derive(Serialize, JsonSchema)]
struct Explained {
    /// Its id.
    edge: String,
    /// Share of the errors, 0 to 1.
    share: f64,
}

/// Failing edges, those first that explain the most.
pub(in crate::api::mesh) async fn causes(state: State, (range, look): (Range, Look)) -> Outcome<Causes> {
    let asked = Asked::read(&range, &look, state.clock.now())?;
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
    Ok(Answer::with(Causes { causes: found.into_iter().take(CAUSES_MAX).map(shown).collect(), failing }, &warnings))
}

/// Whom a failure hurts.
#[derive(Serialize, JsonSchema)]
pub(in crate::api::mesh) struct BlastRadius {
    /// The node that fails.
    node: String,
    /// Its callers and theirs, the most hurt first.
    hurt: Vec<Hurt>,
}

/// A caller that a failure hurts.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Hurt {
    /// Its id.
    node: String,
    /// Calls between the two, at least.
    hops: usize,
    /// Share of its outgoing calls that lead there, 0 to 1.
    share: f64,
    /// Its requests that lead there.
    requests_per_second: f64,
}

/// Of which node.
#[derive(Deserialize, JsonSchema)]
pub(in crate::api::mesh) struct Centre {
    /// Id of the node, as the graph has it.
    node: String,
}

/// Whom a failure of a node can hurt.
pub(in crate::api::mesh) async fn blast_radius(
    state: State,
    (range, look, Centre { node }): (Range, Look, Centre),
) -> Outcome<BlastRadius> {
    let asked = Asked::read(&range, &look, state.clock.now())?;
    let Built { graph, warnings, .. } = asked.build(&state).await?;
    node_of("node", Some(&node), &graph)?;
    let id = node.clone();
    let hurt = tokio::task::spawn_blocking(move || walk::weighted_blast_radius(&graph, &id)).await;
    let hurt = hurt.map_err(|error| ApiError::Internal(error.to_string()))?;
    let shown = |one: walk::Hurt| Hurt {
        node: one.node.to_string(),
        hops: one.hops,
        share: one.share,
        requests_per_second: one.rate,
    };
    Ok(Answer::with(BlastRadius { node, hurt: hurt.into_iter().map(shown).collect() }, &warnings))
}

/// Ways on in an expression.
#[derive(Serialize, JsonSchema)]
pub(in crate::api::mesh) struct Completions {
    /// The likeliest first.
    completions: Vec<Completion>,
    /// What is wrong with the expression as it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Wrong>,
}

/// A way on.
#[derive(Serialize, JsonSchema)]
struct Completion {
    /// What to write.
    text: String,
    /// What it means.
    detail: String,
    /// Characters before the place; it replaces what follows up to the cursor.
    from: usize,
}

/// What is wrong with the expression as it stands.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ExpressionError")]
struct Wrong {
    /// Characters before the place.
    position: usize,
    /// What would be right there.
    message: String,
}

/// An expression that is being written.
#[derive(Deserialize, JsonSchema)]
pub(in crate::api::mesh) struct Written {
    /// The expression as it stands.
    #[serde(default)]
    expression: String,
    /// Characters before the cursor; all of them unless told.
    cursor: Option<u64>,
}

/// Ways on in an expression of Find or Hide, and what is wrong with it as it stands.
pub(in crate::api::mesh) async fn complete(
    state: State,
    (range, look, own): (Range, Look, Written),
) -> Outcome<Completions> {
    let asked = Asked::read(&range, &look, state.clock.now())?;
    let text = own.expression;
    let cursor = own.cursor.map_or(usize::MAX, |cursor| usize::try_from(cursor).unwrap_or(usize::MAX));
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
    Ok(Answer::with(Completions { completions, error }, &warnings))
}
