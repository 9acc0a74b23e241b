//! Our own API at `/api/mesh/v1`: the service graph, traces, access logs, alerts and their history, what is declared and how it
//! changed, what of it holds for whom, cardinality, findings about rules, objectives, notifications, the audit with its
//! scorecard, what a silence would mute, the replicas, Grafana boards, and the OpenAPI document that describes them.
//!
//! Answers are wrapped as Prometheus' are. The document is kept by hand; a test holds it against real answers.

mod access_logs;
mod alerts;
mod audit;
mod cardinality;
mod changes;
mod dashboards;
mod effective;
mod graph;
mod notifications;
mod replicas;
mod resources;
mod rules;
mod silences;
mod slos;
mod traces;

use axum::Router;
use axum::http::header;
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::{State, browser, error};

const OPENAPI: &str = include_str!("mesh/openapi.json");

/// The routes.
pub(super) fn router() -> Router<State> {
    Router::new()
        .route("/api/mesh/v1/graph", get(graph::graph))
        .route("/api/mesh/v1/graph/replay", get(graph::replay))
        .route("/api/mesh/v1/graph/compare", get(graph::compare))
        .route("/api/mesh/v1/graph/causes", get(graph::causes))
        .route("/api/mesh/v1/graph/blast-radius", get(graph::blast_radius))
        .route("/api/mesh/v1/graph/complete", get(graph::complete))
        .route("/api/mesh/v1/traces", get(traces::search))
        .route("/api/mesh/v1/traces/{id}", get(traces::trace))
        .route("/api/mesh/v1/access-logs", get(access_logs::search))
        .route("/api/mesh/v1/alerts", get(alerts::list))
        .route("/api/mesh/v1/alerts/history", get(alerts::history))
        .route("/api/mesh/v1/changes", get(changes::list))
        .route("/api/mesh/v1/resources/{kind}/{namespace}/{name}", get(resources::one))
        .route("/api/mesh/v1/notifications", get(notifications::list))
        .route("/api/mesh/v1/notifications/{id}", get(notifications::one))
        .route("/api/mesh/v1/notifications/{id}/drop", post(notifications::drop).layer(from_fn(browser::same_origin)))
        .route("/api/mesh/v1/notifications/{id}/retry", post(notifications::retry).layer(from_fn(browser::same_origin)))
        .route("/api/mesh/v1/silences/preview", get(silences::preview))
        .route("/api/mesh/v1/replicas", get(replicas::list))
        .route("/api/mesh/v1/rules/lint", get(rules::lint))
        .route("/api/mesh/v1/slos", get(slos::list))
        .route("/api/mesh/v1/audit", get(audit::latest))
        .route("/api/mesh/v1/audit/scorecard", get(audit::scorecard))
        .route("/api/mesh/v1/audit/comparisons", get(audit::comparisons))
        .route("/api/mesh/v1/effective", get(effective::effective))
        .route("/api/mesh/v1/cardinality", get(cardinality::cardinality))
        .route("/api/mesh/v1/dashboards", get(dashboards::list))
        .route("/api/mesh/v1/dashboards/{uid}", get(dashboards::one))
        .route("/api/mesh/v1/openapi.json", get(openapi))
        .route("/api/mesh/v1/{*unknown}", get(error::no_endpoint))
}

async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}
