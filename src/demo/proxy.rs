//! What one simulated proxy counts: requests, bytes, durations, connections and cluster statistics.
//!
//! In: finished calls. Out: series that only rise, keyed by edge, each with its label text written once. A series is
//! never forgotten, as in Envoy.

use std::collections::BTreeMap;

use super::topology::{self, Behind, CLUSTER, Service, Workload};
use crate::model::workload::ENVOY_BOUNDS;

/// A histogram with [`ENVOY_BOUNDS`].
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    buckets: [u64; ENVOY_BOUNDS.len()],
    /// How many observations.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
}

impl Histogram {
    /// Adds one observation.
    pub fn observe(&mut self, value: f64) {
        if let Some(bucket) = ENVOY_BOUNDS.iter().position(|bound| value <= *bound) {
            self.buckets[bucket] += 1;
        }
        self.count += 1;
        self.sum += value;
    }

    /// Bounds with the number of observations at or below each.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut total = 0;
        ENVOY_BOUNDS.iter().zip(self.buckets).map(move |(bound, count)| {
            total += count;
            (*bound, total)
        })
    }
}

/// Which side of a call reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reporter {
    /// The caller's proxy.
    Source,
    /// The called proxy.
    Destination,
}

/// Who called whom, as one proxy saw it. `None` is rendered `unknown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// Who reports.
    pub reporter: Reporter,
    /// Calling workload; `None` has no proxy.
    pub source: Option<&'static str>,
    /// Called service, by name.
    pub service: &'static str,
    /// Workload that answered; `None` when none did or it is outside the mesh.
    pub destination: Option<&'static str>,
}

/// The labels of one request series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestKey {
    /// Who called whom.
    pub edge: Edge,
    /// HTTP status; 0 when there was no response.
    pub code: u16,
    /// gRPC status; `None` when the call is not gRPC or had no response.
    pub grpc: Option<u8>,
    /// Envoy's response flags, `-` for none.
    pub flags: &'static str,
}

/// Requests with equal labels.
#[derive(Clone, Debug, Default)]
pub struct RequestSeries {
    /// The 25 labels, rendered.
    pub labels: String,
    /// Durations in milliseconds; its count is the request counter.
    pub duration_ms: Histogram,
    /// Request sizes.
    pub request_bytes: Histogram,
    /// Response sizes.
    pub response_bytes: Histogram,
}

/// Connections with equal labels.
#[derive(Clone, Debug, Default)]
pub struct ConnectionSeries {
    /// The 23 labels, rendered.
    pub labels: String,
    /// What happened on them.
    pub totals: ConnectionTotals,
}

/// Counters of TCP connections. Byte names follow Istio: *received* is what the client sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionTotals {
    /// Connections opened.
    pub opened: u64,
    /// Connections closed.
    pub closed: u64,
    /// Bytes to the client.
    pub sent_bytes: u64,
    /// Bytes from the client.
    pub received_bytes: u64,
}

/// gRPC messages of one edge.
#[derive(Clone, Debug, Default)]
pub struct MessageSeries {
    /// The labels, rendered.
    pub labels: String,
    /// Request messages.
    pub requests: u64,
    /// Response messages.
    pub responses: u64,
}

/// Opt-in statistics of one upstream cluster.
#[derive(Clone, Debug, Default)]
pub struct ClusterSeries {
    /// Retried requests.
    pub retries: u64,
    /// Requests refused because the pool was full.
    pub pending_overflow: u64,
    /// Ejections so far.
    pub ejections: u64,
    /// Whether the circuit breaker's gauge reads 1 now.
    pub open: bool,
    /// Hosts ejected now.
    pub ejected: u64,
    /// Hosts in all.
    pub hosts: u64,
}

/// The statistics of one pod's proxy.
#[derive(Debug, Default)]
pub struct Proxy {
    /// HTTP and gRPC.
    pub requests: BTreeMap<RequestKey, RequestSeries>,
    /// gRPC messages.
    pub messages: BTreeMap<Edge, MessageSeries>,
    /// TCP.
    pub connections: BTreeMap<Edge, ConnectionSeries>,
    /// Upstream clusters by Envoy's name; only of workloads that opted in.
    pub clusters: BTreeMap<String, ClusterSeries>,
}

/// One finished request, without its labels.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// How long, milliseconds.
    pub duration_ms: f64,
    /// Bytes of the request.
    pub request_bytes: u32,
    /// Bytes of the response.
    pub response_bytes: u32,
}

impl Proxy {
    /// Counts a finished request.
    pub fn count_request(&mut self, key: RequestKey, measured: Measured) {
        let series = self
            .requests
            .entry(key)
            .or_insert_with(|| RequestSeries { labels: request_labels(&key), ..RequestSeries::default() });
        series.duration_ms.observe(measured.duration_ms.round());
        series.request_bytes.observe(f64::from(measured.request_bytes));
        series.response_bytes.observe(f64::from(measured.response_bytes));
        if let Some(status) = key.grpc {
            let messages = self
                .messages
                .entry(key.edge)
                .or_insert_with(|| MessageSeries { labels: peer_labels(&key.edge), ..MessageSeries::default() });
            messages.requests += 1;
            messages.responses += u64::from(status == 0);
        }
    }

    /// Counts what happened on connections since the last report.
    pub fn count_connections(&mut self, edge: Edge, report: ConnectionTotals) {
        let totals = &mut self
            .connections
            .entry(edge)
            .or_insert_with(|| ConnectionSeries { labels: connection_labels(&edge), ..ConnectionSeries::default() })
            .totals;
        totals.opened += report.opened;
        totals.closed += report.closed;
        totals.sent_bytes += report.sent_bytes;
        totals.received_bytes += report.received_bytes;
    }
}

/// A peer as labels: the known workload, or Istio's words for an unknown one.
struct Peer {
    workload: &'static str,
    namespace: &'static str,
    principal: String,
    app: &'static str,
    version: &'static str,
    revision: &'static str,
    cluster: &'static str,
}

impl Peer {
    fn new(workload: Option<&'static Workload>, secured: bool) -> Self {
        match workload {
            Some(known) => Self {
                workload: known.name,
                namespace: known.namespace,
                principal: if secured { known.principal() } else { "unknown".to_owned() },
                app: known.app,
                version: known.version.unwrap_or("unknown"),
                revision: known.version.unwrap_or("latest"),
                cluster: CLUSTER,
            },
            None => Self {
                workload: "unknown",
                namespace: "unknown",
                principal: "unknown".to_owned(),
                app: "unknown",
                version: "unknown",
                revision: "latest",
                cluster: "unknown",
            },
        }
    }
}

/// The 20 labels from `reporter` to `destination_cluster`, in the order of Istio's `istio_stats.cc`.
fn peer_labels(edge: &Edge) -> String {
    let Edge { reporter, source, service, destination } = *edge;
    let (source, destination) =
        (source.and_then(topology::workload_named), destination.and_then(topology::workload_named));
    // Both ends have a proxy: the connection is mutual TLS and both know each other's certificate.
    let secured = source.is_some() && destination.is_some();
    let service: Option<&Service> = topology::service_named(service);
    let (from, to) = (Peer::new(source, secured), Peer::new(destination, secured));
    let (host, name, namespace) =
        service.map_or(("unknown", "unknown", "unknown"), |service| (service.host, service.name, service.namespace));
    let reporter = if reporter == Reporter::Source { "source" } else { "destination" };
    let pairs = [
        ("reporter", reporter),
        ("source_workload", from.workload),
        ("source_canonical_service", from.app),
        ("source_canonical_revision", from.revision),
        ("source_workload_namespace", from.namespace),
        ("source_principal", &from.principal),
        ("source_app", from.app),
        ("source_version", from.version),
        ("source_cluster", from.cluster),
        ("destination_workload", to.workload),
        ("destination_workload_namespace", to.namespace),
        ("destination_principal", &to.principal),
        ("destination_app", to.app),
        ("destination_version", to.version),
        ("destination_service", host),
        ("destination_canonical_service", to.app),
        ("destination_canonical_revision", to.revision),
        ("destination_service_name", name),
        ("destination_service_namespace", namespace),
        ("destination_cluster", to.cluster),
    ];
    let mut text = String::with_capacity(800);
    for (name, value) in pairs {
        push_label(&mut text, name, value);
    }
    text
}

/// All 25 labels of a request.
fn request_labels(key: &RequestKey) -> String {
    let mut text = peer_labels(&key.edge);
    let protocol = topology::service_named(key.edge.service).map_or("http", |service| service.protocol.label());
    push_label(&mut text, "request_protocol", protocol);
    push_label(&mut text, "response_code", &key.code.to_string());
    push_label(&mut text, "grpc_response_status", &key.grpc.map(|status| status.to_string()).unwrap_or_default());
    push_label(&mut text, "response_flags", key.flags);
    push_label(&mut text, "connection_security_policy", security_policy(&key.edge));
    text
}

/// The 23 labels of a connection: no code, no gRPC status.
fn connection_labels(edge: &Edge) -> String {
    let mut text = peer_labels(edge);
    push_label(&mut text, "request_protocol", "tcp");
    push_label(&mut text, "response_flags", "-");
    push_label(&mut text, "connection_security_policy", security_policy(edge));
    text
}

/// The caller's proxy never knows (istio#12452); the called one does.
fn security_policy(edge: &Edge) -> &'static str {
    match (edge.reporter, edge.source) {
        (Reporter::Source, _) => "unknown",
        (Reporter::Destination, Some(_)) => "mutual_tls",
        (Reporter::Destination, None) => "none",
    }
}

/// Appends `,name="value"`. The tables hold no quote, backslash or line break.
fn push_label(text: &mut String, name: &str, value: &str) {
    if !text.is_empty() {
        text.push(',');
    }
    text.push_str(name);
    text.push_str("=\"");
    text.push_str(value);
    text.push('"');
}

/// Whether a called service has a proxy on its side.
pub fn reported_by_destination(service: &Service) -> bool {
    matches!(service.behind, Behind::Mesh(_))
}
