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

/// How to look at a range.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) view: View,
    /// Whether edges that had traffic in the hour before the range are in it too.
    pub(super) idle: bool,
    /// The busiest edges are kept when there are more.
    pub(super) edges_max: usize,
}

/// Builds the graph of a range.
///
/// # Errors
/// The page that says what went wrong.
pub(super) async fn build(state: &State, range: &Range, look: Look) -> Result<Built, Response> {
    let Look { view, idle, edges_max } = look;
    let before = if idle { HOUR } else { 5 * MINUTE };
    let read = state.archive.graph_edges((range.from, range.to), before, state.clock.now()).await;
    let GraphEdges { edges, from, to, warning } = read;
    let options = GraphOptions {
        view,
        include_idle: idle,
        health: state.health.clone(),
        edge_limit: edges_max,
        ..GraphOptions::new(from, to)
    };
    // A day of a large mesh is many edges to judge.
    let built = tokio::task::spawn_blocking(move || graph::build(&edges, &options)).await;
    match built {
        Ok(graph) => Ok(Built { graph, warning }),
        Err(reason) => Err(error::internal(&format!("the graph could not be built: {reason}"))),
    }
}
