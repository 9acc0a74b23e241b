//! Who talks to whom in the mesh: workloads, services, and the edges between them.
//!
//! Unknown is `None` until it is rendered; the text `unknown` that Istio writes never gets in here.

use std::sync::Arc;

use super::Timestamp;

/// A deployment, stateful set, gateway… that runs pods.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Workload {
    /// Kubernetes cluster, when the mesh says.
    pub cluster: Option<Arc<str>>,
    /// Kubernetes namespace.
    pub namespace: Option<Arc<str>>,
    /// Name of the workload; `None` is a caller or callee that has no proxy.
    pub name: Option<Arc<str>>,
    /// Canonical service or `app` label.
    pub app: Option<Arc<str>>,
    /// Canonical revision or `version` label.
    pub version: Option<Arc<str>>,
}

/// A called service: what the client asked for, whichever workload answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Service {
    /// Short name (`destination_service_name`), also `PassthroughCluster`, `BlackHoleCluster`.
    pub name: Option<Arc<str>>,
    /// Kubernetes namespace of the service.
    pub namespace: Option<Arc<str>>,
    /// Host as the client wrote it (`destination_service`).
    pub host: Option<Arc<str>>,
}

/// What an edge carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// HTTP/1 and HTTP/2 requests.
    Http,
    /// gRPC calls.
    Grpc,
    /// Bytes and connections.
    Tcp,
}

impl Protocol {
    /// Lower-case name, as labels and JSON have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
        }
    }

    /// The protocol of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "http" => Some(Self::Http),
            "grpc" => Some(Self::Grpc),
            "tcp" => Some(Self::Tcp),
            _ => None,
        }
    }
}

/// Whose proxy counted. Reports of one edge are never added (DESIGN.md §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reporter {
    /// The caller's sidecar or gateway; Linkerd outbound.
    Source,
    /// The called workload's sidecar; Linkerd inbound.
    Destination,
    /// An ambient waypoint.
    Waypoint,
    /// Paired spans.
    Trace,
}

impl Reporter {
    /// Name as in Istio's `reporter` label, `trace` for spans.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
            Self::Waypoint => "waypoint",
            Self::Trace => "trace",
        }
    }

    /// The reporter of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "source" => Some(Self::Source),
            "destination" => Some(Self::Destination),
            "waypoint" => Some(Self::Waypoint),
            "trace" => Some(Self::Trace),
            _ => None,
        }
    }
}

/// Which mesh, or spans, an edge was seen in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MeshKind {
    /// Istio, sidecar or ambient.
    Istio,
    /// Linkerd.
    Linkerd,
    /// Spans of any tracer.
    Traces,
}

impl MeshKind {
    /// Lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Istio => "istio",
            Self::Linkerd => "linkerd",
            Self::Traces => "traces",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "istio" => Some(Self::Istio),
            "linkerd" => Some(Self::Linkerd),
            "traces" => Some(Self::Traces),
            _ => None,
        }
    }
}

/// Whether the connection of an edge was mutual TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Security {
    /// Mutual TLS, as the side that knows reported it.
    MutualTls,
    /// Plaintext, as the side that knows reported it.
    Plaintext,
    /// The reporter cannot know (Istio's source side).
    Unknown,
}

impl Security {
    /// Name as stored: `mutual_tls`, `none`, `unknown`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MutualTls => "mutual_tls",
            Self::Plaintext => "none",
            Self::Unknown => "unknown",
        }
    }

    /// The value of that name; anything else is `Unknown`.
    pub fn from_name(name: &str) -> Self {
        match name {
            "mutual_tls" => Self::MutualTls,
            "none" => Self::Plaintext,
            _ => Self::Unknown,
        }
    }
}

/// Identity of one edge as one side reports it. Pod and instance are summed away.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EdgeKey {
    /// Which mesh reports it.
    pub mesh: MeshKind,
    /// Whose proxy counted.
    pub reporter: Reporter,
    /// What it carries.
    pub protocol: Protocol,
    /// The caller.
    pub source: Workload,
    /// Who answered.
    pub destination: Workload,
    /// What was asked for.
    pub service: Service,
    /// SPIFFE or Linkerd identity of the caller, where reported.
    pub source_principal: Option<Arc<str>>,
    /// Identity of the called workload, where reported.
    pub destination_principal: Option<Arc<str>>,
    /// Transport security.
    pub security: Security,
}

/// How the requests of an edge ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Outcome {
    /// HTTP status as text; "0" when there was no response; "" for TCP.
    pub code: Arc<str>,
    /// gRPC status as text, "" when not gRPC.
    pub grpc_status: Arc<str>,
    /// Envoy response flags as written (`UF,URX`), "-" or "" for none.
    pub flags: Arc<str>,
}

/// Counts of requests by latency bucket, as a proxy's histogram had them in one minute.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct LatencyHistogram {
    /// Upper bounds in milliseconds, rising, without +Inf.
    pub bounds_ms: Arc<[f64]>,
    /// Requests in each bucket (not cumulative), one more than `bounds_ms`: the last is beyond the last bound.
    pub counts: Vec<f64>,
    /// Sum of all latencies in milliseconds.
    pub sum_ms: f64,
}

/// What one edge did in one minute. All counts are increments, resets accounted for.
#[derive(Clone, Debug, PartialEq)]
pub struct EdgeMinute {
    /// Start of the minute.
    pub minute: Timestamp,
    /// Which edge, as which side saw it.
    pub edge: EdgeKey,
    /// Requests by how they ended (connections opened, for TCP, under one empty outcome).
    pub requests: Vec<(Outcome, f64)>,
    /// Latency of the requests; empty for TCP.
    pub latency: LatencyHistogram,
    /// Bytes from caller to called.
    pub request_bytes: f64,
    /// Bytes from called to caller.
    pub response_bytes: f64,
    /// Connections closed, for TCP.
    pub connections_closed: f64,
}
