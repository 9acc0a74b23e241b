//! The graph in Kiali's JSON (`graph/config/common/common.go`), for programs that read Kiali's.
//!
//! In: a graph. Out: elements with rates and shares as texts of digits. What Kiali takes from declared objects (circuit
//! breakers, routes, labels) is absent; its ids are hashes, ours are names: both are opaque to readers.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::json::BoxBy;
use crate::graph::health::Status;
use crate::graph::{Edge, Node, NodeKind, OutcomeShare, ServiceGraph, View};
use crate::model::Timestamp;
use crate::model::workload::Protocol;

/// A graph as Kiali gives it.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "KialiGraph")]
pub(in crate::api::mesh) struct Config {
    timestamp: i64,
    duration: u64,
    graph_type: &'static str,
    elements: Elements,
}

/// Nodes and edges, as Cytoscape reads them.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "KialiElements")]
struct Elements {
    nodes: Vec<Wrapped<NodeData>>,
    edges: Vec<Wrapped<EdgeData>>,
}

/// What Cytoscape wants around an element.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "{T}Element")]
struct Wrapped<T> {
    data: T,
}

/// A node.
#[derive(Serialize, JsonSchema, Default)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "KialiNode")]
struct NodeData {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    node_type: &'static str,
    cluster: String,
    namespace: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dest_services: Vec<ServiceName>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    traffic: Vec<Traffic>,
    health_data: Option<()>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    has_fault_injection: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    is_box: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_dead: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_idle: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_out_of_mesh: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_root: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    is_waypoint: bool,
}

/// A service.
#[derive(Serialize, JsonSchema, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[schemars(rename = "KialiService")]
struct ServiceName {
    cluster: String,
    namespace: String,
    name: String,
}

/// An edge.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "KialiEdge")]
struct EdgeData {
    id: String,
    source: String,
    target: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    dest_principal: String,
    health_status: &'static str,
    #[serde(rename = "isMTLS", skip_serializing_if = "Option::is_none")]
    is_mtls: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_time: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    source_principal: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    throughput: Option<String>,
    traffic: Traffic,
}

/// What goes through it: rates as texts of digits.
#[derive(Serialize, JsonSchema, Default)]
#[schemars(rename = "KialiTraffic")]
struct Traffic {
    protocol: &'static str,
    rates: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    responses: BTreeMap<String, Response>,
}

/// Shares in percent, by flags and by hosts.
#[derive(Serialize, JsonSchema, Default)]
#[schemars(rename = "KialiResponse")]
struct Response {
    flags: BTreeMap<String, String>,
    hosts: BTreeMap<String, String>,
}

/// The graph of a range.
pub(super) fn config(graph: &ServiceGraph, view: View, (from, to): (Timestamp, Timestamp), boxes: BoxBy) -> Config {
    let edges: Vec<Wrapped<EdgeData>> = graph.edges.iter().map(|edge| Wrapped { data: self::edge(edge) }).collect();
    let mut nodes = box_nodes(graph, boxes);
    nodes.extend(graph.nodes.iter().map(|node| Wrapped { data: self::node(node, graph, boxes) }));
    Config {
        timestamp: to.as_millis().div_euclid(1000),
        duration: to.since(from).as_secs(),
        graph_type: view.as_str(),
        elements: Elements { nodes, edges },
    }
}

fn or_unknown(text: &Option<std::sync::Arc<str>>) -> String {
    text.as_deref().unwrap_or("unknown").to_owned()
}

fn cluster_box(node: &Node) -> String {
    format!("box:cluster/{}", or_unknown(&node.cluster))
}

fn namespace_box(node: &Node) -> String {
    format!("box:namespace/{}/{}", or_unknown(&node.cluster), or_unknown(&node.namespace))
}

/// Boxes come before what is in them, the outer ones first.
fn box_nodes(graph: &ServiceGraph, boxes: BoxBy) -> Vec<Wrapped<NodeData>> {
    let mut found: BTreeMap<(u8, String), NodeData> = BTreeMap::new();
    for node in &graph.nodes {
        let (cluster, namespace) = (or_unknown(&node.cluster), or_unknown(&node.namespace));
        let boxed = |id: &str, kind| NodeData {
            id: id.to_owned(),
            node_type: "box",
            cluster: cluster.clone(),
            is_box: Some(kind),
            ..NodeData::default()
        };
        if boxes.cluster {
            let id = cluster_box(node);
            found.entry((0, id.clone())).or_insert_with(|| boxed(&id, "cluster"));
        }
        if boxes.namespace {
            let id = namespace_box(node);
            let parent = boxes.cluster.then(|| cluster_box(node));
            let new = || NodeData { namespace, parent, ..boxed(&id, "namespace") };
            found.entry((1, id.clone())).or_insert_with(new);
        }
    }
    found.into_values().map(|data| Wrapped { data }).collect()
}

fn node(node: &Node, graph: &ServiceGraph, boxes: BoxBy) -> NodeData {
    let (into, out): (Vec<&Edge>, Vec<&Edge>) = (
        graph.edges.iter().filter(|edge| edge.target == node.id).collect(),
        graph.edges.iter().filter(|edge| edge.source == node.id).collect(),
    );
    let name = || Some(node.name.to_string());
    let text = |text: &Option<std::sync::Arc<str>>| text.as_deref().map(str::to_owned);
    let is_app = matches!(node.kind, NodeKind::App) || node.id.starts_with("app:");
    let (node_type, workload, service) = match node.kind {
        NodeKind::Unknown => ("unknown", Some("unknown".to_owned()), None),
        NodeKind::Service | NodeKind::External | NodeKind::Passthrough | NodeKind::BlackHole => {
            ("service", None, name())
        }
        _ if is_app => ("app", None, None),
        _ if node.id.starts_with("service:") || node.id.starts_with("host:") => ("service", None, name()),
        _ => ("workload", name(), None),
    };
    let mut services: Vec<ServiceName> = into
        .iter()
        .flat_map(|edge| &edge.services)
        .map(|(name, namespace)| ServiceName {
            cluster: or_unknown(&node.cluster),
            namespace: or_unknown(namespace),
            name: name.to_string(),
        })
        .collect();
    services.sort();
    services.dedup();
    let injected = |edge: &&Edge| edge.requests.as_ref().is_some_and(|requests| requests.injected > 0.0);
    NodeData {
        id: node.id.to_string(),
        parent: if boxes.namespace { Some(namespace_box(node)) } else { boxes.cluster.then(|| cluster_box(node)) },
        node_type,
        cluster: or_unknown(&node.cluster),
        namespace: or_unknown(&node.namespace),
        workload,
        app: if is_app { text(&node.app).or_else(name) } else { text(&node.app) },
        version: text(&node.version),
        service,
        dest_services: services,
        traffic: node_traffic(&into, &out),
        has_fault_injection: into.iter().any(injected),
        is_dead: node.is_dead(),
        is_idle: node.is_idle(),
        is_out_of_mesh: node.kind == NodeKind::Unknown,
        is_root: into.is_empty(),
        is_waypoint: node.kind == NodeKind::Waypoint,
        ..NodeData::default()
    }
}

/// Rates of a node by protocol: `httpIn`, `httpOut`, and those of errors coming in.
fn node_traffic(into: &[&Edge], out: &[&Edge]) -> Vec<Traffic> {
    let mut sums: BTreeMap<&'static str, BTreeMap<String, f64>> = BTreeMap::new();
    for (edges, side) in [(into, "In"), (out, "Out")] {
        for edge in edges {
            let protocol = edge.protocol.as_str();
            let sums = sums.entry(protocol).or_default();
            for (name, rate) in rates(edge) {
                match name.strip_prefix(protocol) {
                    Some("") => *sums.entry(format!("{protocol}{side}")).or_default() += rate,
                    Some("PercentErr" | "PercentReq") | None => {}
                    Some(_) if side == "In" => {
                        *sums.entry(format!("{protocol}In{}", &name[protocol.len()..])).or_default() += rate;
                    }
                    Some(_) => {}
                }
            }
        }
    }
    let text = |(name, rate): (String, f64)| (name, format!("{rate:.2}"));
    sums.into_iter()
        .map(|(protocol, rates)| Traffic {
            protocol,
            rates: rates.into_iter().map(text).collect(),
            ..Traffic::default()
        })
        .collect()
}

/// Rates of an edge under Kiali's names (`graph/protocol.go`).
fn rates(edge: &Edge) -> BTreeMap<&'static str, f64> {
    let mut rates = BTreeMap::new();
    let Some(requests) = &edge.requests else {
        rates.insert("tcp", edge.bytes_per_second());
        return rates;
    };
    let per_second = |share: &OutcomeShare| share.share * requests.rate;
    let mut add = |name: &'static str, rate: f64| {
        if rate > 0.0 {
            *rates.entry(name).or_default() += rate;
        }
    };
    let grpc = edge.protocol == Protocol::Grpc;
    add(if grpc { "grpc" } else { "http" }, requests.rate);
    for share in &requests.outcomes {
        let name = match (grpc, share.outcome.code.as_bytes().first()) {
            (true, _) if &*share.outcome.code == "0" => "grpcNoResponse",
            (true, _) if share.class.is_error() => "grpcErr",
            (true, _) => continue,
            (false, Some(b'3')) => "http3xx",
            (false, Some(b'4')) => "http4xx",
            (false, Some(b'5')) => "http5xx",
            (false, Some(b'0')) => "httpNoResponse",
            _ => continue,
        };
        add(name, per_second(share));
    }
    add(if grpc { "grpcPercentReq" } else { "httpPercentReq" }, edge.share_of_outbound * 100.0);
    add(if grpc { "grpcPercentErr" } else { "httpPercentErr" }, requests.error_ratio * 100.0);
    rates
}

fn edge(edge: &Edge) -> EdgeData {
    let digits = |name: &str| if name.contains("Percent") { 1 } else { 2 };
    let requests = edge.requests.as_ref();
    let outcomes = requests.map(|r| &r.outcomes).or(edge.connections.as_ref().map(|c| &c.failures));
    let mut responses: BTreeMap<String, Response> = BTreeMap::new();
    for share in outcomes.into_iter().flatten() {
        let outcome = &share.outcome;
        let is_grpc = edge.protocol == Protocol::Grpc && !outcome.grpc_status.is_empty();
        let code = if is_grpc { &outcome.grpc_status } else { &outcome.code };
        let code = match &**code {
            "" | "0" if !is_grpc => "-",
            code => code,
        };
        let flags = if outcome.flags.is_empty() { "-" } else { &outcome.flags };
        let response = responses.entry(code.to_owned()).or_default();
        let percent = |share: f64| format!("{:.1}", share * 100.0);
        response.flags.insert(flags.to_owned(), percent(share.share));
        if let [(host, _)] = &edge.services[..] {
            // Of several services nobody knows which answered with what.
            let all: f64 = response.flags.values().filter_map(|text| text.parse::<f64>().ok()).sum();
            response.hosts.insert(host.to_string(), format!("{all:.1}"));
        }
    }
    let principal = |list: &[std::sync::Arc<str>]| list.first().map(|text| text.to_string()).unwrap_or_default();
    EdgeData {
        id: edge.id.to_string(),
        source: edge.source.to_string(),
        target: edge.target.to_string(),
        dest_principal: principal(&edge.destination_principals),
        health_status: match edge.health.status {
            Status::Idle => "NA",
            Status::Healthy => "Healthy",
            Status::Degraded => "Degraded",
            Status::Failure => "Failure",
        },
        is_mtls: edge.mtls.share.filter(|share| *share > 0.0).map(|share| format!("{:.0}", share * 100.0)),
        response_time: requests.and_then(|r| r.latency.p95_ms).map(|ms| format!("{ms:.0}")),
        source_principal: principal(&edge.source_principals),
        throughput: requests.map(|r| format!("{:.0}", r.response_bytes_per_second)),
        traffic: Traffic {
            protocol: edge.protocol.as_str(),
            rates: rates(edge)
                .into_iter()
                .map(|(name, rate)| (name.to_owned(), format!("{rate:.*}", digits(name))))
                .collect(),
            responses,
        },
    }
}
