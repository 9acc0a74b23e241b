//! `graph`: the service graph as JSON.

use axum::extract::State as Shared;
use axum::response::Response;
use serde::Serialize;

use crate::api::State;
use crate::api::encode::success_with;
use crate::api::error::ApiError;
use crate::api::params::Params;
use crate::graph::{self, Edge, GraphOptions, Node, View};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Graph {
    from: String,
    to: String,
    view: &'static str,
    nodes: Vec<NodeJson>,
    edges: Vec<EdgeJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    empty_because: Option<String>,
    edges_left_out: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NodeJson {
    id: String,
    kind: &'static str,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    health: &'static str,
    health_reason: String,
    requests_per_second_in: f64,
    requests_per_second_out: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_ratio_in: Option<f64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EdgeJson {
    id: String,
    source: String,
    target: String,
    protocol: &'static str,
    reporters: Vec<&'static str>,
    evidence: &'static str,
    health: &'static str,
    health_reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_p50_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_p95_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_p99_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mutual_tls_ratio: Option<f64>,
    outcomes: Vec<OutcomeJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disagreement: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OutcomeJson {
    code: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    grpc_status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    flags: String,
    count: f64,
}

/// The service graph of `[start, end)`; the last 15 minutes unless told.
pub(super) async fn graph(Shared(state): Shared<State>, params: Params) -> Result<Response, ApiError> {
    let now = state.clock.now();
    let to = params.time("end")?.unwrap_or(now);
    let from = params.time("start")?.unwrap_or(to - std::time::Duration::from_secs(900));
    if to <= from {
        return Err(ApiError::parameter("end", "end timestamp must be after start time"));
    }
    let view = match params.get("view") {
        None => View::default(),
        Some(name) => View::from_name(name)
            .ok_or_else(|| ApiError::parameter("view", "use one of workload, app, versionedApp, service"))?,
    };
    let (minutes, warning) = state.archive.edges(from, to, now).await;
    let options = GraphOptions {
        view,
        include_idle: params.get("idle") == Some("true"),
        thresholds: state.thresholds,
        ..GraphOptions::new(from, to)
    };
    let built = tokio::task::spawn_blocking(move || graph::build(&minutes, &options)).await;
    let built = built.map_err(|error| ApiError::Internal(error.to_string()))?;
    let answer = Graph {
        from: from.to_string(),
        to: to.to_string(),
        view: view.as_str(),
        nodes: built.nodes.iter().map(node).collect(),
        edges: built.edges.iter().map(edge).collect(),
        empty_because: built.empty_because.clone(),
        edges_left_out: built.edges_left_out,
    };
    Ok(success_with(answer, &warning.into_iter().collect::<Vec<_>>()))
}

fn node(node: &Node) -> NodeJson {
    let text = |text: &Option<std::sync::Arc<str>>| text.as_deref().map(str::to_owned);
    NodeJson {
        id: node.id.to_string(),
        kind: node.kind.as_str(),
        name: node.name.to_string(),
        namespace: text(&node.namespace),
        app: text(&node.app),
        version: text(&node.version),
        health: node.health.status.as_str(),
        health_reason: node.health.reason.clone(),
        requests_per_second_in: node.inbound.rate,
        requests_per_second_out: node.outbound.rate,
        error_ratio_in: node.inbound.error_ratio,
    }
}

fn edge(edge: &Edge) -> EdgeJson {
    let requests = edge.requests.as_ref();
    let connections = edge.connections.as_ref();
    let bytes = match (requests, connections) {
        (Some(r), _) => Some(r.request_bytes_per_second + r.response_bytes_per_second),
        (None, Some(c)) => Some(c.sent_bytes_per_second + c.received_bytes_per_second),
        (None, None) => None,
    };
    let latency = requests.map(|requests| requests.latency).unwrap_or_default();
    let outcomes = requests.map(|r| &r.outcomes).into_iter().flatten();
    EdgeJson {
        id: edge.id.to_string(),
        source: edge.source.to_string(),
        target: edge.target.to_string(),
        protocol: edge.protocol.as_str(),
        reporters: edge.reporters.iter().map(|reporter| reporter.as_str()).collect(),
        evidence: edge.evidence.as_str(),
        health: edge.health.status.as_str(),
        health_reason: edge.health.reason.clone(),
        requests_per_second: requests.map(|requests| requests.rate),
        error_ratio: requests.map(|requests| requests.error_ratio),
        latency_p50_ms: latency.p50_ms,
        latency_p95_ms: latency.p95_ms,
        latency_p99_ms: latency.p99_ms,
        bytes_per_second: bytes,
        mutual_tls_ratio: edge.mtls.share,
        outcomes: outcomes
            .map(|share| OutcomeJson {
                code: share.outcome.code.to_string(),
                grpc_status: share.outcome.grpc_status.to_string(),
                flags: share.outcome.flags.to_string(),
                count: share.count,
            })
            .collect(),
        disagreement: edge.disagreement.clone(),
    }
}
