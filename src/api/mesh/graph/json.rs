//! Nodes and edges in our own JSON.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::api::error::ApiError;
use crate::graph::find::Found;
use crate::graph::{Edge, Node, ServiceGraph, View};
use crate::model::Timestamp;

/// The service graph of a range of time.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::api::mesh) struct Graph<'a> {
    /// First minute.
    #[schemars(extend("format" = "date-time"))]
    from: String,
    /// One past the last minute.
    #[schemars(extend("format" = "date-time"))]
    to: String,
    /// What a node is.
    #[schemars(extend("enum" = ["workload", "app", "versionedApp", "service"]))]
    view: &'static str,
    /// Every workload, app or service that took part.
    pub(super) nodes: Vec<NodeJson<'a>>,
    /// Who called whom.
    pub(super) edges: Vec<EdgeJson<'a>>,
    /// Sums over the whole graph of the range.
    totals: Totals,
    /// Nodes by cluster and namespace, when asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    boxes: Vec<BoxJson>,
    /// What the expression of find is true of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) found: Option<FoundJson>,
    /// Ids of the edges of a shortest way, when asked for; empty when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<Vec<String>>,
    /// Why there are no nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    empty_because: Option<&'a str>,
    /// Edges beyond the limit.
    edges_left_out: usize,
    /// Edges without traffic, not shown.
    idle_hidden: usize,
}

/// Sums over the whole graph of the range.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "GraphTotals")]
struct Totals {
    /// Nodes.
    nodes: usize,
    /// Edges.
    edges: usize,
    /// Of them idle.
    idle_edges: usize,
    /// Of them degraded.
    degraded_edges: usize,
    /// Of them failing.
    failed_edges: usize,
    /// Requests over all edges.
    requests_per_second: f64,
    /// Errors per request.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_ratio: Option<f64>,
    /// Share of mutual TLS where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    mutual_tls_ratio: Option<f64>,
}

/// What the expression of find is true of.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "GraphFound")]
pub(super) struct FoundJson {
    /// Ids of nodes.
    nodes: Vec<String>,
    /// Ids of edges.
    edges: Vec<String>,
}

/// Nodes of one cluster or namespace.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "GraphBox")]
struct BoxJson {
    /// What they share.
    #[schemars(extend("enum" = ["cluster", "namespace"]))]
    kind: &'static str,
    /// Its name.
    name: String,
    /// Cluster of the namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    /// The worst of its nodes.
    #[schemars(extend("enum" = ["idle", "healthy", "degraded", "failure"]))]
    health: &'static str,
    /// Ids.
    nodes: Vec<String>,
}

/// One workload, app or service.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Node")]
pub(super) struct NodeJson<'a> {
    /// Stable name of the node.
    id: &'a str,
    /// What it is.
    #[schemars(extend("enum" = ["workload", "app", "service", "identity", "unknown", "passthrough", "blackhole", "external", "gateway", "waypoint", "database"]))]
    kind: &'static str,
    /// Name.
    name: &'a str,
    /// Kubernetes cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<&'a str>,
    /// Namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    /// App label.
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<&'a str>,
    /// Version label.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
    /// Judgement by the thresholds of the configuration.
    #[schemars(extend("enum" = ["idle", "healthy", "degraded", "failure"]))]
    health: &'static str,
    /// Why.
    health_reason: &'a str,
    /// Requests it got.
    requests_per_second_in: f64,
    /// Requests it made.
    requests_per_second_out: f64,
    /// Failed requests among those it got, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_ratio_in: Option<f64>,
    /// Errors per request it makes, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_ratio_out: Option<f64>,
    /// No traffic in the range.
    idle: bool,
    /// Called, and no workload answers.
    dead: bool,
}

/// The calls from one node to another.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Edge")]
pub(super) struct EdgeJson<'a> {
    /// Stable name of the edge.
    id: &'a str,
    /// Id of the calling node.
    source: &'a str,
    /// Id of the called node.
    target: &'a str,
    /// http, grpc or tcp.
    protocol: &'static str,
    /// Which sides told of it.
    reporters: Vec<&'static str>,
    /// Where it was seen.
    #[schemars(extend("items" = serde_json::json!({"type": "string", "enum": ["istio", "linkerd", "traces"]})))]
    meshes: Vec<&'static str>,
    /// What it is known from.
    #[schemars(extend("enum" = ["metrics", "traces", "both"]))]
    evidence: &'static str,
    /// What is known of it: requests, connections, both of one ambient edge.
    #[schemars(extend("items" = serde_json::json!({"type": "string", "enum": ["requests", "connections"]})))]
    layers: Vec<&'static str>,
    /// No traffic in the range.
    idle: bool,
    /// Judgement by the thresholds of the configuration.
    #[schemars(extend("enum" = ["idle", "healthy", "degraded", "failure"]))]
    health: &'static str,
    /// Why.
    health_reason: &'a str,
    /// Share of the caller's requests (of its bytes without requests), 0 to 1.
    share_of_outbound: f64,
    /// Requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    requests_per_second: Option<f64>,
    /// Failed requests, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_ratio: Option<f64>,
    /// 4xx answers per request.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_error_ratio: Option<f64>,
    /// Requests with an injected fault; they are no errors.
    #[serde(skip_serializing_if = "Option::is_none")]
    injected_requests: Option<f64>,
    /// Median latency, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_p50_ms: Option<f64>,
    /// 90 % of requests take at most this long.
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_p90_ms: Option<f64>,
    /// 95th percentile, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_p95_ms: Option<f64>,
    /// 99th percentile, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_p99_ms: Option<f64>,
    /// TCP connections opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    connections_per_second: Option<f64>,
    /// TCP connections that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed_connections: Option<f64>,
    /// Bytes both ways.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_per_second: Option<f64>,
    /// Share of calls over mutual TLS, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    mutual_tls_ratio: Option<f64>,
    /// Identities of the callers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    source_principals: Vec<&'a str>,
    /// Identities of the called.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    destination_principals: Vec<&'a str>,
    /// Requests the server saw for each one the client sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_amplification: Option<f64>,
    /// How the requests ended.
    outcomes: Vec<OutcomeJson<'a>>,
    /// How the two sides tell different stories.
    #[serde(skip_serializing_if = "Option::is_none")]
    disagreement: Option<&'a str>,
}

/// Requests that ended alike.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Outcome")]
struct OutcomeJson<'a> {
    /// HTTP status, 0 when there was none.
    code: &'a str,
    /// gRPC status.
    #[serde(skip_serializing_if = "str::is_empty")]
    grpc_status: &'a str,
    /// Envoy's response flags.
    #[serde(skip_serializing_if = "str::is_empty")]
    flags: &'a str,
    /// How many in the range.
    count: f64,
}

/// What nodes are put into boxes by.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct BoxBy {
    pub(super) cluster: bool,
    pub(super) namespace: bool,
}

impl BoxBy {
    pub(super) fn read(text: &str) -> Result<Self, ApiError> {
        let mut by = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            match part.trim() {
                "cluster" => by.cluster = true,
                "namespace" => by.namespace = true,
                _ => return Err(ApiError::parameter("boxBy", "use cluster, namespace or both with a comma")),
            }
        }
        Ok(by)
    }
}

/// The whole graph.
pub(super) fn graph(graph: &ServiceGraph, (from, to): (Timestamp, Timestamp), view: View, boxes: BoxBy) -> Graph<'_> {
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
        empty_because: graph.empty_because.as_deref(),
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

fn node(node: &Node) -> NodeJson<'_> {
    NodeJson {
        id: &node.id,
        kind: node.kind.as_str(),
        name: &node.name,
        cluster: node.cluster.as_deref(),
        namespace: node.namespace.as_deref(),
        app: node.app.as_deref(),
        version: node.version.as_deref(),
        health: node.health.status.as_str(),
        health_reason: &node.health.reason,
        requests_per_second_in: node.inbound.rate,
        requests_per_second_out: node.outbound.rate,
        error_ratio_in: node.inbound.error_ratio,
        error_ratio_out: node.outbound.error_ratio,
        idle: node.is_idle(),
        dead: node.is_dead(),
    }
}

pub(super) fn edge(edge: &Edge) -> EdgeJson<'_> {
    let requests = edge.requests.as_ref();
    let connections = edge.connections.as_ref();
    let latency = requests.map(|requests| requests.latency).unwrap_or_default();
    let outcomes = requests.map(|r| &r.outcomes).or(connections.map(|c| &c.failures)).into_iter().flatten();
    let layers = [requests.map(|_| "requests"), connections.map(|_| "connections")];
    EdgeJson {
        id: &edge.id,
        source: &edge.source,
        target: &edge.target,
        protocol: edge.protocol.as_str(),
        reporters: edge.reporters.iter().map(|reporter| reporter.as_str()).collect(),
        meshes: edge.meshes.iter().map(|mesh| mesh.as_str()).collect(),
        evidence: edge.evidence.as_str(),
        layers: layers.into_iter().flatten().collect(),
        idle: edge.idle,
        health: edge.health.status.as_str(),
        health_reason: &edge.health.reason,
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
        source_principals: edge.source_principals.iter().map(|text| &**text).collect(),
        destination_principals: edge.destination_principals.iter().map(|text| &**text).collect(),
        retry_amplification: edge.retry_amplification,
        outcomes: outcomes
            .map(|share| OutcomeJson {
                code: &share.outcome.code,
                grpc_status: &share.outcome.grpc_status,
                flags: &share.outcome.flags,
                count: share.count,
            })
            .collect(),
        disagreement: edge.disagreement.as_deref(),
    }
}
