//! The traffic that an object governs: its edges of the last hour, the busiest first.
//!
//! In: whom it governs, sums of edges. Out: rows with links to the pages of the edges.

use std::time::Duration;

use crate::changes::{Ends, Governs};
use crate::graph::{self, Edge, GraphOptions, ServiceGraph};
use crate::model::Timestamp;
use crate::web::drawing::label;
use crate::web::subject::rows::edge_page;
use crate::web::{State, format};

/// How much traffic is shown.
const SPAN: Duration = Duration::from_secs(3_600);
const RANGE: &str = "1h";
/// Edges that are listed.
const EDGES_MAX: usize = 30;

/// What an object steers.
#[derive(Default)]
pub(super) struct Steered {
    /// Whether anything was asked.
    pub(super) asked: bool,
    pub(super) rows: Vec<Row>,
    pub(super) left: usize,
    pub(super) rate: String,
    pub(super) warning: Option<String>,
}

/// One edge.
pub(super) struct Row {
    pub(super) href: String,
    pub(super) source: String,
    pub(super) target: String,
    pub(super) health: &'static str,
    pub(super) reason: String,
    pub(super) protocol: &'static str,
    pub(super) rate: String,
    pub(super) errors: String,
    pub(super) p95: String,
    pub(super) mtls: String,
}

/// The edges of the last hour that are governed.
pub(super) async fn read(state: &State, governs: &Governs, now: Timestamp) -> Steered {
    if governs.is_nobody() {
        return Steered::default();
    }
    let read = state.archive.edge_sums(&[now - SPAN, now], now).await;
    let (governs, health) = (governs.clone(), state.health.clone());
    let (first, mut edges) = (read.observed_from(now - SPAN, now), read.edges);
    let built = tokio::task::spawn_blocking(move || {
        edges.retain(|one| governs.covers(&Ends::of(one)));
        // A sum stands under the start of its window, which may lie before the first traffic in it.
        edges.iter_mut().for_each(|edge| edge.minute = edge.minute.max(first));
        graph::build(&edges, &GraphOptions { health, ..GraphOptions::new(first, now) })
    });
    match built.await {
        Ok(graph) => Steered { warning: read.warning, ..drawn(&graph) },
        Err(reason) => Steered { asked: true, warning: Some(reason.to_string()), ..Steered::default() },
    }
}

fn drawn(graph: &ServiceGraph) -> Steered {
    let mut edges: Vec<&Edge> = graph.edges.iter().collect();
    edges.sort_by(|a, b| b.rate().total_cmp(&a.rate()).then_with(|| a.id.cmp(&b.id)));
    let name = |id: &str| graph.node(id).map(label).unwrap_or_default();
    let row = |edge: &&Edge| {
        let requests = edge.requests.as_ref();
        Row {
            href: edge_page(&edge.id, Some(RANGE), None),
            source: name(&edge.source),
            target: name(&edge.target),
            health: edge.health.status.as_str(),
            reason: edge.health.reason.clone(),
            protocol: edge.protocol.as_str(),
            rate: format::rate(edge.rate()),
            errors: requests.map_or_else(|| "–".to_owned(), |one| format::percent(one.error_ratio)),
            p95: requests.map_or_else(|| "–".to_owned(), |one| format::latency(one.latency.p95_ms)),
            mtls: edge.mtls.share.map_or_else(|| "?".to_owned(), format::percent),
        }
    };
    Steered {
        asked: true,
        rate: format::rate(edges.iter().map(|edge| edge.rate()).sum()),
        left: edges.len().saturating_sub(EDGES_MAX),
        rows: edges.iter().take(EDGES_MAX).map(row).collect(),
        warning: None,
    }
}
