//! Our own API at `/api/mesh/v1`: the service graph, traces, access logs, alerts and their history, what is declared and how it
//! changed, what of it holds for whom, cardinality, findings about rules, objectives, notifications, the audit with its
//! scorecard, what a silence would mute, the replicas, Grafana boards, and the OpenAPI document that describes them.
//!
//! Answers are wrapped as Prometheus' are. Routes and document are made of one list of operations; a test holds the document
//! against real answers.

mod access_logs;
mod alerts;
mod audit;
mod cardinality;
mod changes;
mod dashboards;
mod document;
mod effective;
mod graph;
mod notifications;
mod operation;
mod query;
mod replicas;
mod resources;
mod rules;
mod silences;
mod slos;
mod traces;

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse as _;
use axum::routing;
use schemars::json_schema;

use super::{State, error};
use operation::{Answer, Operation, Outcome, ROOT, get, post};

/// Everything that can be asked.
fn operations() -> Vec<Operation> {
    vec![
        get("/graph", "graph", graph::graph)
            .about("The service graph of a range of time")
            .or("application/json", graph::kiali_json),
        get("/graph/replay", "graphReplay", graph::replay).about("The graph of a range from step to step"),
        get("/graph/compare", "graphCompare", graph::compare).about("What is new, gone, worse and better than before"),
        get("/graph/causes", "graphCauses", graph::causes).about("Which failing edge explains the others"),
        get("/graph/blast-radius", "graphBlastRadius", graph::blast_radius).about("Whom a failure of a node hurts"),
        get("/graph/complete", "graphComplete", graph::complete).about("Ways on in an expression of find or hide"),
        get("/traces", "searchTraces", traces::search).about("The newest traces that match"),
        get("/traces/{id}", "trace", traces::trace).about("One trace with its spans"),
        get("/access-logs", "searchAccessLogs", access_logs::search).about("The newest access log records that match"),
        get("/alerts", "listAlerts", alerts::list)
            .about("Every alert that fires or waits, with what keeps it quiet; those that need somebody first"),
        get("/alerts/history", "listAlertChanges", alerts::history)
            .about("Every change of state of alerts, the newest first"),
        get("/changes", "changes", changes::list)
            .about("How what is declared changed, and what that did to the traffic, the newest first"),
        get("/resources/{kind}/{namespace}/{name}", "resource", resources::one)
            .about("A declared object, its generations, and how two of them differ"),
        get("/notifications", "listNotifications", notifications::list)
            .about("What was sent, what waits, what failed and why; the newest first"),
        get("/notifications/{id}", "getNotification", notifications::one)
            .about("One notification with what is sent, byte for byte, without secrets"),
        post("/notifications/{id}/drop", "dropNotification", notifications::drop)
            .about("Ends a delivery that waits or is being tried; refused for pages of other sites"),
        post("/notifications/{id}/retry", "retryNotification", notifications::retry)
            .about("Sends a notification once more; refused for pages of other sites"),
        get("/silences/preview", "previewSilence", silences::preview).about("The alerts that a silence would mute now"),
        get("/replicas", "replicas", replicas::list)
            .about("Which processes work on the database, and which of them leads"),
        get("/rules/lint", "lintRules", rules::lint).about("What the linter says of the rules that run"),
        get("/slos", "slos", slos::list).about("How service level objectives fare, the gravest first"),
        get("/audit", "audit", audit::latest).about("What the service's own audit found last, and the scorecard"),
        get("/audit/scorecard", "scorecard", audit::scorecard)
            .about("The scorecard of the latest audit, to be kept or sent on")
            .or("text/markdown", audit::markdown),
        get("/audit/comparisons", "comparisons", audit::comparisons)
            .about("What is declared beside what was seen: splits, faults, mutual TLS, sampling, limits"),
        get("/effective", "effective", effective::effective)
            .about("What holds for a workload, or when it calls a host, and from which object"),
        get("/cardinality", "cardinality", cardinality::cardinality)
            .about("What the series in memory are made of, and what dropping each part would save"),
        get("/dashboards", "dashboards", dashboards::list)
            .about("The Grafana boards that meshscope generates; with a format, the files of an export too"),
        get("/dashboards/{uid}", "dashboard", dashboards::one)
            .about("One board: Grafana's JSON as it is, or a Kubernetes object as YAML")
            .bare(dashboards::board_json)
            .or("application/yaml", dashboards::board_yaml),
        get("/openapi.json", "openapi", openapi).about("This document").bare(itself),
    ]
}

/// The routes.
pub(super) fn router() -> Router<State> {
    let unknown = Router::new().route(&format!("{ROOT}/{{*unknown}}"), routing::get(error::no_endpoint));
    operations().into_iter().fold(unknown, |router, operation| operation.mount(router))
}

/// The OpenAPI document: what the routes of this API answer, and nothing else.
pub fn openapi_document() -> String {
    document::write(&operations())
}

async fn openapi(_: State, (): ()) -> Outcome<()> {
    Ok(Answer::other(([(header::CONTENT_TYPE, "application/json")], openapi_document()).into_response()))
}

fn itself(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    json_schema!({ "type": "object", "description": "An OpenAPI document.", "additionalProperties": true })
}
