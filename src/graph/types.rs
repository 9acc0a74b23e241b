//! What a service graph is made of.
//!
//! Names are as the mesh wrote them (any text, any length); ids hold only `A–Z a–z 0–9 . _ - % : / >` and are stable
//! from build to build, so they can stand in URLs and element ids.

use std::sync::Arc;

use serde::Deserialize;

use crate::model::Timestamp;
use crate::model::workload::{LatencyHistogram, MeshKind, Outcome, Protocol, Reporter};

use super::flags::Class;
use super::health::{Health, Override, Rules, Thresholds};

/// The `graph` block of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// When an edge or node counts as degraded or failed.
    pub health: Thresholds,
    /// Other tolerances for some services; the first that fits counts.
    pub overrides: Vec<Override>,
}

impl Config {
    /// The rules of health that it asks for.
    pub fn rules(&self) -> Rules {
        Rules::new(self.health, &self.overrides)
    }
}

/// What a node of the graph stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum View {
    /// One node for an app, all its versions together.
    App,
    /// One node for each version of an app.
    VersionedApp,
    /// One node for each workload.
    #[default]
    Workload,
    /// One node for each service, callers included (by the service they answer for).
    Service,
}

impl View {
    /// Name in URLs and JSON, as Kiali has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::VersionedApp => "versionedApp",
            Self::Workload => "workload",
            Self::Service => "service",
        }
    }

    /// The view of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::App, Self::VersionedApp, Self::Workload, Self::Service].into_iter().find(|view| view.as_str() == name)
    }
}

/// How to draw the graph.
#[derive(Clone, Debug, PartialEq)]
pub struct GraphOptions {
    /// What a node stands for.
    pub view: View,
    /// Start of the range, moved back to the start of its minute (for rows of hours: give the start of an hour).
    /// Minutes before it only say which edges are idle: pass some to see those.
    pub from: Timestamp,
    /// End of the range, exclusive. Rates are per second of `to - from`.
    pub to: Timestamp,
    /// Whether edges without traffic in the range are in the graph.
    pub include_idle: bool,
    /// Whether the L4 hops into and out of a waypoint are drawn beside the L7 edge they carry.
    pub include_waypoints: bool,
    /// Whether a caller that hangs up (code 0, flag DC) counts as an error.
    pub hangups_are_errors: bool,
    /// When an edge or node counts as degraded or failed.
    pub health: Rules,
    /// The busiest edges are kept when there are more; the rest is counted in [`ServiceGraph::edges_left_out`].
    pub edge_limit: usize,
}

impl GraphOptions {
    /// The workload view of `from..to`, without idle edges and waypoint hops, at most 10,000 edges.
    pub fn new(from: Timestamp, to: Timestamp) -> Self {
        Self {
            view: View::default(),
            from,
            to,
            include_idle: false,
            include_waypoints: false,
            hangups_are_errors: false,
            health: Rules::default(),
            edge_limit: 10_000,
        }
    }
}

/// The service graph of a range of time.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ServiceGraph {
    /// Sorted by id.
    pub nodes: Vec<Node>,
    /// Sorted by source, then target id.
    pub edges: Vec<Edge>,
    /// Sums over the edges shown.
    pub totals: Totals,
    /// Edges not shown because of `edge_limit`.
    pub edges_left_out: usize,
    /// Edges not shown because they had no traffic in the range.
    pub idle_hidden: usize,
    /// Why there is no edge, and what to do, in one sentence; `None` when there are edges.
    pub empty_because: Option<String>,
}

impl ServiceGraph {
    /// The node of that id.
    pub fn node(&self, id: &str) -> Option<&Node> {
        self.nodes.binary_search_by(|node| (*node.id).cmp(id)).ok().map(|at| &self.nodes[at])
    }

    /// The edge of that id.
    pub fn edge(&self, id: &str) -> Option<&Edge> {
        self.edges.iter().find(|edge| *edge.id == *id)
    }
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NodeKind {
    /// A workload.
    Workload,
    /// An app, or one version of it.
    App,
    /// A service; in the other views one that no known workload answered for.
    Service,
    /// A caller known by its identity only (its proxy reports nothing).
    Identity,
    /// A caller without a proxy.
    Unknown,
    /// Where Istio lets through what no service is known for.
    Passthrough,
    /// Where Istio drops what no service is known for.
    BlackHole,
    /// A host outside the mesh.
    External,
    /// An ingress or egress gateway.
    Gateway,
    /// An ambient waypoint.
    Waypoint,
    /// A database or cache.
    Database,
}

impl NodeKind {
    /// Lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Workload => "workload",
            Self::App => "app",
            Self::Service => "service",
            Self::Identity => "identity",
            Self::Unknown => "unknown",
            Self::Passthrough => "passthrough",
            Self::BlackHole => "blackhole",
            Self::External => "external",
            Self::Gateway => "gateway",
            Self::Waypoint => "waypoint",
            Self::Database => "database",
        }
    }
}

/// One end of edges.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Stable id.
    pub id: Arc<str>,
    /// What it is.
    pub kind: NodeKind,
    /// Kubernetes cluster.
    pub cluster: Option<Arc<str>>,
    /// Kubernetes namespace.
    pub namespace: Option<Arc<str>>,
    /// What to call it: workload, app, service or host.
    pub name: Arc<str>,
    /// App label, for workloads and apps.
    pub app: Option<Arc<str>>,
    /// Version label; in the app view only when there is one version.
    pub version: Option<Arc<str>>,
    /// What arrives.
    pub inbound: NodeTraffic,
    /// What it calls.
    pub outbound: NodeTraffic,
    /// Worst of its inbound traffic's health, and of its outbound traffic's up to degraded.
    pub health: Health,
}

impl Node {
    /// No traffic in the range, either way.
    pub fn is_idle(&self) -> bool {
        self.health.status == super::health::Status::Idle
    }

    /// Called, and nobody answers: a service without a workload behind it.
    pub fn is_dead(&self) -> bool {
        self.kind == NodeKind::Service && self.inbound.rate > 0.0 && self.inbound.error_ratio.is_some_and(|r| r >= 1.0)
    }
}

/// Traffic of all edges on one side of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NodeTraffic {
    /// Edges.
    pub edges: usize,
    /// Requests per second.
    pub rate: f64,
    /// Errors per request, injected faults left out; `None` without requests.
    pub error_ratio: Option<f64>,
    /// TCP connections opened per second.
    pub connection_rate: f64,
    /// Bytes per second both ways, of the layer that counts.
    pub bytes_per_second: f64,
}

/// Traffic from one node to another.
#[derive(Clone, Debug, PartialEq)]
pub struct Edge {
    /// Stable id: source id, `>`, target id.
    pub id: Arc<str>,
    /// Id of the calling node.
    pub source: Arc<str>,
    /// Id of the called node.
    pub target: Arc<str>,
    /// What most of it is.
    pub protocol: Protocol,
    /// Whose report counts (that of most requests, where workloads of one app differ).
    pub reporter: Reporter,
    /// All who report it.
    pub reporters: Vec<Reporter>,
    /// Meshes it was seen in, spans among them.
    pub meshes: Vec<MeshKind>,
    /// Whether proxies, spans or both know it.
    pub evidence: Evidence,
    /// No traffic in the range.
    pub idle: bool,
    /// The request layer.
    pub requests: Option<Requests>,
    /// The connection layer.
    pub connections: Option<Connections>,
    /// Share of the source's requests (of its bytes, on an edge without requests), 0 to 1.
    pub share_of_outbound: f64,
    /// Services called over it, by name and namespace, sorted.
    pub services: Vec<(Arc<str>, Option<Arc<str>>)>,
    /// Mutual TLS.
    pub mtls: MutualTls,
    /// Identities of the callers, sorted.
    pub source_principals: Vec<Arc<str>>,
    /// Identities of the called, sorted.
    pub destination_principals: Vec<Arc<str>>,
    /// Requests the server saw for each one the client sent to it; `None` unless both report enough.
    pub retry_amplification: Option<f64>,
    /// How the two sides' reports differ and what that means, in one sentence.
    pub disagreement: Option<String>,
    /// Verdict.
    pub health: Health,
}

/// Who knows of an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// Proxies' metrics only.
    Metrics,
    /// Spans only.
    Traces,
    /// Both.
    Both,
}

impl Evidence {
    /// Lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Traces => "traces",
            Self::Both => "both",
        }
    }
}

/// The L7 layer of an edge.
#[derive(Clone, Debug, PartialEq)]
pub struct Requests {
    /// Requests in the range.
    pub count: f64,
    /// Requests per second.
    pub rate: f64,
    /// Server errors, gRPC errors and missing answers, injected faults left out.
    pub errors: f64,
    /// `errors` per request that had no fault injected.
    pub error_ratio: f64,
    /// 4xx answers per request that had no fault injected.
    pub client_error_ratio: f64,
    /// Requests with an injected delay or abort (flags DI, FI).
    pub injected: f64,
    /// Latency.
    pub latency: Latency,
    /// How many requests took how long, in milliseconds; empty where nobody reports it.
    pub histogram: LatencyHistogram,
    /// How requests ended, most first.
    pub outcomes: Vec<OutcomeShare>,
    /// Bytes per second from caller to called.
    pub request_bytes_per_second: f64,
    /// Bytes per second from called to caller.
    pub response_bytes_per_second: f64,
    /// gRPC messages per second from caller to called.
    pub request_messages_per_second: f64,
    /// gRPC messages per second from called to caller.
    pub response_messages_per_second: f64,
}

/// Latency in milliseconds, from the report that counts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Latency {
    /// Mean.
    pub average_ms: Option<f64>,
    /// Median.
    pub p50_ms: Option<f64>,
    /// 90 %.
    pub p90_ms: Option<f64>,
    /// 95 %.
    pub p95_ms: Option<f64>,
    /// 99 %.
    pub p99_ms: Option<f64>,
    /// Until the first byte of the response (Linkerd), not its last.
    pub first_byte: bool,
}

/// One way requests ended.
#[derive(Clone, Debug, PartialEq)]
pub struct OutcomeShare {
    /// Codes and flags as reported.
    pub outcome: Outcome,
    /// What they amount to.
    pub class: Class,
    /// Requests.
    pub count: f64,
    /// Share of the edge's requests, 0 to 1.
    pub share: f64,
    /// The flags in words.
    pub words: Option<String>,
}

/// The L4 layer of an edge.
#[derive(Clone, Debug, PartialEq)]
pub struct Connections {
    /// Connections opened in the range.
    pub opened: f64,
    /// Connections opened per second.
    pub opened_rate: f64,
    /// Connections closed in the range.
    pub closed: f64,
    /// Connections closed because of a failure.
    pub failed: f64,
    /// Failures by flag, most first; `share` is of the connections opened.
    pub failures: Vec<OutcomeShare>,
    /// Bytes per second from caller to called.
    pub sent_bytes_per_second: f64,
    /// Bytes per second from called to caller.
    pub received_bytes_per_second: f64,
}

/// How much of an edge is mutual TLS, and how that is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MutualTls {
    /// Share of requests (of connections, where there are none), 0 to 1; `None` when nobody can tell.
    pub share: Option<f64>,
    /// Who said so.
    pub evidence: MutualTlsEvidence,
}

/// Who knows whether an edge is mutual TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MutualTlsEvidence {
    /// The side that ends TLS: destination, waypoint, ztunnel; Linkerd's either side.
    Reported,
    /// The caller saw a SPIFFE identity of the called, which mutual TLS alone gives.
    Principal,
    /// Nobody: the caller's proxy does not report it (istio#12452).
    Nobody,
}

/// Sums over the graph's edges.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// Nodes shown.
    pub nodes: usize,
    /// Edges shown.
    pub edges: usize,
    /// Of them idle.
    pub idle_edges: usize,
    /// Of them degraded.
    pub degraded_edges: usize,
    /// Of them failed.
    pub failed_edges: usize,
    /// Requests per second over all edges (a request that makes three hops counts three times).
    pub rate: f64,
    /// Errors per request over all edges.
    pub error_ratio: Option<f64>,
    /// TCP connections opened per second.
    pub connection_rate: f64,
    /// Bytes per second both ways.
    pub bytes_per_second: f64,
    /// Share of mutual TLS over the edges that can tell, by requests.
    pub mtls_share: Option<f64>,
}
