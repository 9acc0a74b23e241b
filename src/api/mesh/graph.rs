//! `graph` and what is asked of it: the service graph as JSON (ours or Kiali's), frames of a replay, two ranges compared,
//! causes of failures, whom a failure hurts, ways on in an expression.
//!
//! In: a range of time and how to look. Out: JSON. A time that makes no sense and a node that is not in the graph are
//! refused with the parameter's name.

mod compare;
mod json;
mod kiali;
mod questions;
mod replay;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::http::header;
use axum::response::IntoResponse as _;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;

use super::operation::{Answer, Outcome};
use super::query::{Limit, Time, named, names};
use crate::api::error::ApiError;
use crate::api::{State, go_json};
use crate::graph::find::Expression;
use crate::graph::{self, GraphOptions, ServiceGraph, View, walk};
use crate::model::Timestamp;
use crate::persist::GraphEdges;

pub(super) use compare::compare;
pub(super) use questions::{blast_radius, causes, complete};
pub(super) use replay::replay;

/// The range unless told.
const RANGE_DEFAULT: Duration = Duration::from_secs(900);
/// Longest range: what retention keeps by default.
const RANGE_MAX: Duration = Duration::from_secs(400 * 86_400);
/// How far before the range an edge must have had traffic to be shown as idle.
const IDLE_BEFORE: Duration = Duration::from_secs(3600);
/// How far before the range is looked to tell a young mesh from a quiet one.
const YOUNG_BEFORE: Duration = Duration::from_secs(300);
/// Edges in one answer, and most that may be asked for.
const EDGES_DEFAULT: usize = 10_000;
const EDGES_MAX: usize = 50_000;
/// Farthest that `focus` looks.
const HOPS_MAX: usize = 20;

const VIEWS: [View; 4] = [View::Workload, View::App, View::VersionedApp, View::Service];

/// Of which range of time.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Range {
    /// First time: seconds since the epoch or RFC 3339; 15 minutes before the end unless told.
    start: Option<Time>,
    /// Last time; now unless told.
    end: Option<Time>,
}

/// How to look.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Look {
    /// What a node is; workload unless told.
    #[schemars(extend("enum" = names(&VIEWS, View::as_str)))]
    view: Option<String>,
    /// true adds edges without traffic.
    #[serde(default)]
    idle: bool,
    /// Most edges, the busiest; 10000 unless told, at most 50000.
    limit: Option<Limit<EDGES_MAX>>,
}

/// What of the graph, and in which form.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Narrowing {
    /// Only edges that begin or end there; may be given several times.
    #[serde(default)]
    namespace: Vec<String>,
    /// An expression like rate > 10 and errors > 1%, !healthy, name = cart*. What it is true of is in found.
    find: Option<String>,
    /// An expression like rate > 10 and errors > 1%, !healthy, name = cart*. What it is true of is left out.
    hide: Option<String>,
    /// Id of a node: only it and what is near.
    focus: Option<String>,
    /// How near, in calls; 1 unless told.
    hops: Option<Limit<HOPS_MAX>>,
    /// Id of a node: only what lies on a way from it to pathTo.
    path_from: Option<String>,
    /// Id of a node.
    path_to: Option<String>,
    /// cluster, namespace, or both with a comma: adds boxes.
    #[serde(default)]
    box_by: String,
    /// json, or kiali for the JSON that Kiali gives, without the wrapper.
    #[schemars(extend("enum" = ["json", "kiali"]))]
    format: Option<String>,
}

/// What was asked.
#[derive(Clone, Debug)]
struct Asked {
    from: Timestamp,
    to: Timestamp,
    view: View,
    idle: bool,
    limit: usize,
}

/// A graph, and why some of it may be missing.
struct Built {
    graph: ServiceGraph,
    from: Timestamp,
    to: Timestamp,
    warnings: Vec<String>,
}

/// A range of time from two parameters; the end is `now` unless told, and where it is yet to come; the start so much before it.
fn range(
    (start, from): (&str, Option<Time>),
    (end, to): (&str, Option<Time>),
    now: Timestamp,
    default: Duration,
) -> Result<(Timestamp, Timestamp), ApiError> {
    let to = to.map_or(now, |to| to.0);
    let from = from.map_or(to.min(now) - default, |from| from.0);
    if from >= now {
        return Err(ApiError::parameter(start, format!("{from} is in the future, it is now {now}")));
    }
    if to <= from {
        return Err(ApiError::parameter(end, "end timestamp must be after start time"));
    }
    if to.since(from) > RANGE_MAX {
        return Err(ApiError::parameter(start, "the range is longer than 400 days"));
    }
    // Rates are of the time that has been.
    Ok((from, to.min(now)))
}

impl Asked {
    fn read(asked: &Range, look: &Look, now: Timestamp) -> Result<Self, ApiError> {
        Self::of(range(("start", asked.start), ("end", asked.end), now, RANGE_DEFAULT)?, look)
    }

    fn of((from, to): (Timestamp, Timestamp), look: &Look) -> Result<Self, ApiError> {
        let view = named("view", look.view.as_deref(), &VIEWS, View::as_str)?.unwrap_or_default();
        Ok(Self { from, to, view, idle: look.idle, limit: look.limit.map_or(EDGES_DEFAULT, |limit| limit.0) })
    }

    fn options(&self, state: &State, from: Timestamp, to: Timestamp) -> GraphOptions {
        GraphOptions {
            view: self.view,
            include_idle: self.idle,
            health: state.health.clone(),
            edge_limit: self.limit,
            ..GraphOptions::new(from, to)
        }
    }

    /// The graph of the range.
    async fn build(&self, state: &State) -> Result<Built, ApiError> {
        let before = if self.idle { IDLE_BEFORE } else { YOUNG_BEFORE };
        let read = state.archive.graph_edges((self.from, self.to), before, state.clock.now()).await;
        let GraphEdges { edges, from, to, warning } = read;
        let options = self.options(state, from, to);
        // A day of a large mesh is many edges to judge.
        let built = tokio::task::spawn_blocking(move || graph::build(&edges, &options)).await;
        let graph = built.map_err(|error| ApiError::Internal(error.to_string()))?;
        let mut warnings: Vec<String> = warning.into_iter().collect();
        if graph.edges_left_out > 0 {
            warnings.push(format!(
                "{} quieter edges are left out; ask for a namespace, or for more with limit",
                graph.edges_left_out
            ));
        }
        Ok(Built { graph, from, to, warnings })
    }
}

/// The node of a parameter, which must be in the graph.
fn node_of<'g>(name: &str, id: Option<&str>, graph: &'g ServiceGraph) -> Result<Option<&'g str>, ApiError> {
    let Some(id) = id else { return Ok(None) };
    match graph.node(id) {
        Some(node) => Ok(Some(&node.id)),
        None => Err(ApiError::NotFound(format!("{name}: no node {id:?} has traffic in this range"))),
    }
}

fn expression(name: &str, text: Option<&str>) -> Result<Option<Expression>, ApiError> {
    let read = text.map(Expression::parse).transpose();
    read.map_err(|error| ApiError::parameter(name, error))
}

/// A graph with what Find found and the way from one node to another.
struct Narrowed {
    graph: ServiceGraph,
    found: Option<graph::find::Found>,
    path: Option<Vec<Arc<str>>>,
}

/// Cuts the graph down to what is asked for: namespaces, a node and what is near, the ways between two, not what is hidden.
fn narrow(asked: &Narrowing, mut graph: ServiceGraph) -> Result<Narrowed, ApiError> {
    let (find, hide) = (expression("find", asked.find.as_deref())?, expression("hide", asked.hide.as_deref())?);
    let namespaces: Vec<&str> = asked.namespace.iter().map(String::as_str).collect();
    if !namespaces.is_empty() {
        graph = walk::touching(&graph, &namespaces);
    }
    let mut path = None;
    let ends = (asked.path_from.as_deref(), asked.path_to.as_deref());
    match (node_of("pathFrom", ends.0, &graph)?, node_of("pathTo", ends.1, &graph)?) {
        (None, None) => {}
        (Some(source), Some(target)) => {
            path = Some(walk::path(&graph, source, target).unwrap_or_default());
            let kept: BTreeSet<Arc<str>> = walk::between(&graph, source, target);
            graph = walk::keep(&graph, &kept);
        }
        (None, _) => return Err(ApiError::parameter("pathFrom", "pathTo needs a pathFrom")),
        (_, None) => return Err(ApiError::parameter("pathTo", "pathFrom needs a pathTo")),
    }
    if let Some(focus) = node_of("focus", asked.focus.as_deref(), &graph)? {
        graph = walk::focus(&graph, focus, asked.hops.map_or(1, |hops| hops.0));
    }
    if let Some(hide) = hide {
        graph = hide.hide(&graph);
    }
    let found = find.map(|find| find.find(&graph));
    Ok(Narrowed { graph, found, path })
}

/// The service graph of `[start, end)`; the last 15 minutes unless told.
pub(super) async fn graph(state: State, (range, look, own): (Range, Look, Narrowing)) -> Outcome<json::Graph<'static>> {
    let asked = Asked::read(&range, &look, state.clock.now())?;
    let is_kiali = match own.format.as_deref() {
        None | Some("json") => false,
        Some("kiali") => true,
        Some(_) => return Err(ApiError::parameter("format", "use json or kiali")),
    };
    let boxes = json::BoxBy::read(&own.box_by)?;
    let Built { graph, from, to, warnings } = asked.build(&state).await?;
    let narrowed = narrow(&own, graph)?;
    let written = tokio::task::spawn_blocking(move || {
        if is_kiali {
            return kiali_answer(&kiali::config(&narrowed.graph, asked.view, (from, to), boxes));
        }
        let mut answer = json::graph(&narrowed.graph, (from, to), asked.view, boxes);
        answer.found = narrowed.found.map(json::found);
        answer.path = narrowed.path.map(|path| path.iter().map(|id| id.to_string()).collect());
        Answer::with(answer, &warnings)
    });
    written.await.map_err(|error| ApiError::Internal(error.to_string()))
}

/// As Kiali answers: the graph itself, nothing around it.
fn kiali_answer(answer: &kiali::Config) -> Answer<json::Graph<'static>> {
    let mut body = String::new();
    Answer::other(match go_json::push(&mut body, answer) {
        Ok(()) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => ApiError::Internal(format!("cannot encode the answer: {error}")).into_response(),
    })
}

/// What Kiali's form is.
pub(super) fn kiali_json(answers: &mut SchemaGenerator) -> Schema {
    answers.subschema_for::<kiali::Config>()
}
