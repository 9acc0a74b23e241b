//! The service graph of a page's range. In: the range and how to look. Out: the graph, built off the async threads.

use std::time::Duration;

use axum::response::Response;

use super::State;
use super::error;
use super::range::Range;
use crate::graph::{self, GraphOptions, ServiceGraph, View};
use crate::persist::GraphEdges;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// What the graph was built from and why some of it may be missing.
pub(super) struct Built {
    pub(super) graph: ServiceGraph,
    pub(super) warning: Option<String>,
}

/// Builds the graph of a range. With `idle`, edges that had traffic in the hour before it are in it too.
///
/// # Errors
/// The page that says what went wrong.
pub(super) async fn build(state: &State, range: &Range, view: View, idle: bool) -> Result<Built, Response> {
    let before = if idle { HOUR } else { 5 * MINUTE };
    let read = state.archive.graph_edges((range.from, range.to), before, state.clock.now()).await;
    let GraphEdges { edges, from, to, warning } = read;
    let options =
        GraphOptions { view, include_idle: idle, health: state.health.clone(), ..GraphOptions::new(from, to) };
    // A day of a large mesh is many edges to judge.
    let built = tokio::task::spawn_blocking(move || graph::build(&edges, &options)).await;
    match built {
        Ok(graph) => Ok(Built { graph, warning }),
        Err(reason) => Err(error::internal(&format!("the graph could not be built: {reason}"))),
    }
}
