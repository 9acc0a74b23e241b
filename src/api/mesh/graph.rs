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

use axum::extract::State as Shared;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use crate::api::encode::success_with;
use crate::api::error::ApiError;
use crate::api::params::Params;
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

/// How to look.
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
    params: &Params,
    (start, end): (&str, &str),
    now: Timestamp,
    default: Duration,
) -> Result<(Timestamp, Timestamp), ApiError> {
    let to = params.time(end)?.unwrap_or(now);
    let from = params.time(start)?.unwrap_or(to.min(now) - default);
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
    fn read(params: &Params, now: Timestamp) -> Result<Self, ApiError> {
        let (from, to) = range(params, ("start", "end"), now, RANGE_DEFAULT)?;
        let view = match params.get("view") {
            None => View::default(),
            Some(name) => View::from_name(name)
                .ok_or_else(|| ApiError::parameter("view", "use one of workload, app, versionedApp, service"))?,
        };
        let limit = params.limit_within(EDGES_MAX)?.unwrap_or(EDGES_DEFAULT);
        Ok(Self { from, to, view, idle: params.flag("idle")?, limit })
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
fn node_of<'g>(params: &Params, name: &str, graph: &'g ServiceGraph) -> Result<Option<&'g str>, ApiError> {
    let Some(id) = params.get(name) else { return Ok(None) };
    match graph.node(id) {
        Some(node) => Ok(Some(&node.id)),
        None => Err(ApiError::NotFound(format!("{name}: no node {id:?} has traffic in this range"))),
    }
}

fn expression(params: &Params, name: &str) -> Result<Option<Expression>, ApiError> {
    let read = params.get(name).map(Expression::parse).transpose();
    read.map_err(|error| ApiError::parameter(name, error))
}

/// A graph with what Find found and the way from one node to another.
struct Narrowed {
    graph: ServiceGraph,
    found: Option<graph::find::Found>,
    path: Option<Vec<Arc<str>>>,
}

/// Cuts the graph down to what is asked for: namespaces, a node and what is near, the ways between two, not what is hidden.
fn narrow(params: &Params, mut graph: ServiceGraph) -> Result<Narrowed, ApiError> {
    let (find, hide) = (expression(params, "find")?, expression(params, "hide")?);
    let hops = match params.get("hops") {
        None => 1,
        Some(text) => text
            .parse::<usize>()
            .ok()
            .filter(|hops| (1..=20).contains(hops))
            .ok_or_else(|| ApiError::parameter("hops", "use a whole number from 1 to 20"))?,
    };
    let namespaces: Vec<&str> = params.all("namespace").into_iter().filter(|name| !name.is_empty()).collect();
    if !namespaces.is_empty() {
        graph = walk::touching(&graph, &namespaces);
    }
    let mut path = None;
    match (node_of(params, "pathFrom", &graph)?, node_of(params, "pathTo", &graph)?) {
        (None, None) => {}
        (Some(source), Some(target)) => {
            path = Some(walk::path(&graph, source, target).unwrap_or_default());
            let kept: BTreeSet<Arc<str>> = walk::between(&graph, source, target);
            graph = walk::keep(&graph, &kept);
        }
        (None, _) => return Err(ApiError::parameter("pathFrom", "pathTo needs a pathFrom")),
        (_, None) => return Err(ApiError::parameter("pathTo", "pathFrom needs a pathTo")),
    }
    if let Some(focus) = node_of(params, "focus", &graph)? {
        graph = walk::focus(&graph, focus, hops);
    }
    if let Some(hide) = hide {
        graph = hide.hide(&graph);
    }
    let found = find.map(|find| find.find(&graph));
    Ok(Narrowed { graph, found, path })
}

/// The service graph of `[start, end)`; the last 15 minutes unless told.
pub(super) async fn graph(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    let asked = Asked::read(&params, state.clock.now())?;
    let is_kiali = match params.get("format") {
        None | Some("json") => false,
        Some("kiali") => true,
        Some(_) => return Err(ApiError::parameter("format", "use json or kiali")),
    };
    let boxes = json::BoxBy::read(&params)?;
    let Built { graph, from, to, warnings } = asked.build(&state).await?;
    let narrowed = narrow(&params, graph)?;
    let written = tokio::task::spawn_blocking(move || {
        if is_kiali {
            return kiali_answer(&kiali::config(&narrowed.graph, asked.view, (from, to), boxes));
        }
        let mut answer = json::graph(&narrowed.graph, (from, to), asked.view, boxes);
        answer.found = narrowed.found.map(json::found);
        answer.path = narrowed.path.map(|path| path.iter().map(|id| id.to_string()).collect());
        success_with(answer, &warnings)
    });
    written.await.map_err(|error| ApiError::Internal(error.to_string()))
}

/// As Kiali answers: the graph itself, nothing around it.
fn kiali_answer(answer: &kiali::Config) -> Response {
    let mut body = String::new();
    match go_json::push(&mut body, answer) {
        Ok(()) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => ApiError::Internal(format!("cannot encode the answer: {error}")).into_response(),
    }
}
