//! Nodes and edges in our own JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::api::error::ApiError;
use crate::api::params::Params;
use crate::graph::find::Found;
use crate::graph::{Edge, Node, ServiceGraph, View};
use crate::model::Timestamp;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Graph {
    from: String,
    to: String,
    view: &'static str,
    pub(super) nodes: Vec<NodeJson>,
    pub(super) edges: Vec<EdgeJson>,
    totals: Totals,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    boxes: Vec<BoxJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) found: Option<FoundJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    empty_because: Option<String>,
    edges_left_out: usize,
    idle_hidden: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Totals {
    nodes: usize,
    edges: usize,
    idle_edges: usize,
    degraded_edges: usize,
    failed_edges: usize,
    requests_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mutual_tls_ratio: Option<f64>,
}

#[derive(Serialize)]
pub(super) struct FoundJson {
    nodes: Vec<String>,
    edges: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BoxJson {
    kind: &'static str,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    health: &'static str,
    nodes: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NodeJson {
    id: String,
    kind: &'static str,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    error_ratio_out: Option<f64>,
    idle: bool,
    dead: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EdgeJson {
    id: String,
    source: String,
    target: String,
    protocol: &'static str,
    reporters: Vec<&'static str>,
    meshes: Vec<&'static str>,
    evidence: &'static str,
    layers: Vec<&'static str>,
    idle: bool,
    health: &'static str,
    health_reason: String,
    share_of_outbound: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_error_ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    injected_requests: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_p50_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_p90_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_p95_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_p99_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connections_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed_connections: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mutual_tls_ratio: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    source_principals: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    destination_principals: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_amplification: Option<f64>,
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

/// What nodes are put into boxes by.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct BoxBy {
    pub(super) cluster: bool,
    pub(super) namespace: bool,
}

impl BoxBy {
    pub(super) fn read(params: &Params) -> Result<Self, ApiError> {
        let mut by = Self::default();
        for part in params.get("boxBy").unwrap_or_default().split(',').filter(|part| !part.is_empty()) {
            match part.trim() {
                "cluster" => by.cluster = true,
                "namespace" => by.namespace = true,
                _ => return Err(ApiError::parameter("boxBy", "use cluster, namespace or both with a comma")),
            }
        }
        Ok(by)
    }
}

fn text(text: &Option<std::sync::Arc<str>>) -> Option<String> {
    text.as_deref().map(str::to_owned)
}

/// The whole graph.
pub(super) fn graph(graph: &ServiceGraph, (from, to): (Timestamp, Timestamp), view: View, boxes: BoxBy) -> Graph {
    let totals = &graph.totals;
    Graph {
        from: from.to_string(),
        to: to.to_string(),
        view: view.as_str(),
        nodes: graph.nodes.iter().map(node).collect(),
        edges: graph.edges.iter().map(edge).collect(),
        totals: Totals {
            nodes: totals.nodes,
            edges: totals.edges,
            idle_edges: totals.idle_edges,
            degraded_edges: totals.degraded_edges,
            failed_edges: totals.failed_edges,
            requests_per_second: totals.rate,
            error_ratio: totals.error_ratio,
            mutual_tls_ratio: totals.mtls_share,
        },
        boxes: boxed(graph, boxes),
        found: None,
        path: None,
        empty_because: graph.empty_because.clone(),
        edges_left_out: graph.edges_left_out,
        idle_hidden: graph.idle_hidden,
    }
}

pub(super) fn found(found: Found) -> FoundJson {
    let texts = |ids: Vec<std::sync::Arc<str>>| ids.iter().map(|id| id.to_string()).collect();
    FoundJson { nodes: texts(found.nodes), edges: texts(found.edges) }
}

fn boxed(graph: &ServiceGraph, by: BoxBy) -> Vec<BoxJson> {
    let mut boxes: BTreeMap<(&'static str, String, Option<String>), Vec<&Node>> = BTreeMap::new();
    for node in &graph.nodes {
        if let Some(cluster) = node.cluster.as_deref().filter(|_| by.cluster) {
            boxes.entry(("cluster", cluster.to_owned(), None)).or_default().push(node);
        }
        if let Some(namespace) = node.namespace.as_deref().filter(|_| by.namespace) {
            let cluster = node.cluster.as_deref().filter(|_| by.cluster).map(str::to_owned);
            boxes.entry(("namespace", namespace.to_owned(), cluster)).or_default().push(node);
        }
    }
    let shown = |((kind, name, cluster), nodes): (_, Vec<&Node>)| BoxJson {
        kind,
        name,
        cluster,
        health: nodes.iter().map(|node| node.health.status).max().unwrap_or_default().as_str(),
        nodes: nodes.iter().map(|node| node.id.to_string()).collect(),
    };
    boxes.into_iter().map(shown).collect()
}

fn node(node: &Node) -> NodeJson {
    NodeJson {
        id: node.id.to_string(),
        kind: node.kind.as_str(),
        name: node.name.to_string(),
        cluster: text(&node.cluster),
        namespace: text(&node.namespace),
        app: text(&node.app),
        version: text(&node.version),
        health: node.health.status.as_str(),
        health_reason: node.health.reason.clone(),
        requests_per_second_in: node.inbound.rate,
        requests_per_second_out: node.outbound.rate,
        error_ratio_in: node.inbound.error_ratio,
        error_ratio_out: node.outbound.error_ratio,
        idle: node.is_idle(),
        dead: node.is_dead(),
    }
}

pub(super) fn edge(edge: &Edge) -> EdgeJson {
    let requests = edge.requests.as_ref();
    let connections = edge.connections.as_ref();
    let latency = requests.map(|requests| requests.latency).unwrap_or_default();
    let outcomes = requests.map(|r| &r.outcomes).or(connections.map(|c| &c.failures)).into_iter().flatten();
    let texts = |list: &[std::sync::Arc<str>]| list.iter().map(|text| text.to_string()).collect();
    let layers = [requests.map(|_| "requests"), connections.map(|_| "connections")];
    EdgeJson {
        id: edge.id.to_string(),
        source: edge.source.to_string(),
        target: edge.target.to_string(),
        protocol: edge.protocol.as_str(),
        reporters: edge.reporters.iter().map(|reporter| reporter.as_str()).collect(),
        meshes: edge.meshes.iter().map(|mesh| mesh.as_str()).collect(),
        evidence: edge.evidence.as_str(),
        layers: layers.into_iter().flatten().collect(),
        idle: edge.idle,
        health: edge.health.status.as_str(),
        health_reason: edge.health.reason.clone(),
        share_of_outbound: edge.share_of_outbound,
        requests_per_second: requests.map(|requests| requests.rate),
        error_ratio: requests.map(|requests| requests.error_ratio),
        client_error_ratio: requests.map(|requests| requests.client_error_ratio),
        injected_requests: requests.map(|requests| requests.injected).filter(|injected| *injected > 0.0),
        latency_p50_ms: latency.p50_ms,
        latency_p90_ms: latency.p90_ms,
        latency_p95_ms: latency.p95_ms,
        latency_p99_ms: latency.p99_ms,
        connections_per_second: connections.map(|connections| connections.opened_rate),
        failed_connections: connections.map(|connections| connections.failed),
        bytes_per_second: (requests.is_some() || connections.is_some()).then(|| edge.bytes_per_second()),
        mutual_tls_ratio: edge.mtls.share,
        source_principals: texts(&edge.source_principals),
        destination_principals: texts(&edge.destination_principals),
        retry_amplification: edge.retry_amplification,
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
