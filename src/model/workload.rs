//! Who talks to whom in the mesh: workloads, services, and the edges between them.
//!
//! Unknown is `None` until it is rendered; the text `unknown` that Istio writes never gets in here.

use std::collections::HashSet;
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

    /// Whether its `source_principal` is that as which the called side took the caller: the caller's own proxy cannot know.
    pub fn tells_callers_identity(self) -> bool {
        matches!(self, Self::Destination | Self::Waypoint)
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

/// Labels of a Linkerd proxy's metrics that name the owner of its pod, in the order a pod's owner is looked for; viz names
/// jobs `k8s_job` (reference/mesh.md §3.3).
pub const LINKERD_OWNERS: [&str; 9] = [
    "deployment",
    "statefulset",
    "daemonset",
    "rollout",
    "cronjob",
    "k8s_job",
    "job_name",
    "replicationcontroller",
    "replicaset",
];

/// The same of the pod that is called.
pub const LINKERD_DESTINATION_OWNERS: [&str; 8] = [
    "dst_deployment",
    "dst_statefulset",
    "dst_daemonset",
    "dst_rollout",
    "dst_cronjob",
    "dst_job",
    "dst_replicationcontroller",
    "dst_replicaset",
];

impl MeshKind {
    /// Lower-case name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Istio => "istio",
            Self::Linkerd => "linkerd",
            Self::Traces => "traces",
        }
    }

    /// Whether its latency ends at the first byte of the response (Linkerd's `response_latency_ms`), not at the last.
    ///
    /// The two are never merged or compared without saying so.
    pub fn latency_is_first_byte(self) -> bool {
        self == Self::Linkerd
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

/// Texts of edges, each held once: a mesh has few names and many edges. What is equal is then mostly at the same place, which
/// makes comparing quick.
#[derive(Debug, Default)]
pub struct Texts {
    known: HashSet<Arc<str>>,
    /// From so many on, those that nobody uses any more are forgotten.
    tidy_at: usize,
}

impl Texts {
    /// The same key, of shared texts.
    pub fn share_all(&mut self, mut key: EdgeKey) -> EdgeKey {
        let EdgeKey { source, destination, service, source_principal, destination_principal, .. } = &mut key;
        let of_ends = [source, destination].into_iter().flat_map(|end| {
            let Workload { cluster, namespace, name, app, version } = end;
            [cluster, namespace, name, app, version]
        });
        let Service { name, namespace, host } = service;
        let others = [name, namespace, host, source_principal, destination_principal];
        of_ends.chain(others).flatten().for_each(|text| self.share(text));
        key
    }

    fn share(&mut self, text: &mut Arc<str>) {
        if let Some(known) = self.known.get(&**text) {
            *text = Arc::clone(known);
            return;
        }
        if self.known.len() >= self.tidy_at {
            self.known.retain(|text| Arc::strong_count(text) > 1);
            self.tidy_at = (self.known.len() * 2).max(1024);
        }
        self.known.insert(Arc::clone(text));
    }
}

/// How the requests of an edge ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Outcome {
    /// HTTP status as text; "0" when there was no response; "" for TCP.
    pub code: Arc<str>,
    /// gRPC status as text, "" when not gRPC.
    pub grpc_status: Arc<str>,
    /// Envoy response flags as written (`UF,URX`), "-" or "" for none.
    ///
    /// Linkerd has no flags: its `error` label stands here, and `failure` or `success` when its own classification
    /// (a ServiceProfile can change it) says other than the codes do.
    pub flags: Arc<str>,
}

/// The bounds of the histograms that Envoy makes, and so of Istio's, of milliseconds and bytes alike (mesh.md §3.1).
pub const ENVOY_BOUNDS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1_000.0,
    2_500.0,
    5_000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

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
    /// Which edge, as which side saw it. Sums of one edge share it: copying seventeen texts costs more than adding them up.
    pub edge: Arc<EdgeKey>,
    /// Requests by how they ended.
    ///
    /// For TCP: connections opened, under one empty outcome; an outcome with flags is not added to them, it says how
    /// many of the opened connections were closed with that flag.
    pub requests: Vec<(Outcome, f64)>,
    /// Latency of the requests; empty for TCP.
    pub latency: LatencyHistogram,
    /// Bytes from caller to called.
    pub request_bytes: f64,
    /// Bytes from called to caller.
    pub response_bytes: f64,
    /// Messages from caller to called, for gRPC (streams carry many in one request).
    pub request_messages: f64,
    /// Messages from called to caller, for gRPC.
    pub response_messages: f64,
    /// Connections closed, for TCP.
    pub connections_closed: f64,
}

impl EdgeMinute {
    /// A minute of `edge` in which nothing happened.
    pub fn empty(minute: Timestamp, edge: impl Into<Arc<EdgeKey>>) -> Self {
        Self {
            minute,
            edge: edge.into(),
            requests: Vec::new(),
            latency: LatencyHistogram::default(),
            request_bytes: 0.0,
            response_bytes: 0.0,
            request_messages: 0.0,
            response_messages: 0.0,
            connections_closed: 0.0,
        }
    }
}

impl LatencyHistogram {
    /// How many requests it holds.
    pub fn total(&self) -> f64 {
        self.counts.iter().sum()
    }

    /// Adds `other`. Where the bounds differ (Istio's may differ per pod), only the bounds both have are kept, so no
    /// count is ever put in a bucket it may not belong to.
    pub fn merge(&mut self, other: &Self) {
        self.sum_ms += other.sum_ms;
        if other.counts.is_empty() {
            return;
        }
        if self.counts.is_empty() {
            self.bounds_ms = Arc::clone(&other.bounds_ms);
            self.counts.clone_from(&other.counts);
        } else if self.bounds_ms == other.bounds_ms {
            self.counts.iter_mut().zip(&other.counts).for_each(|(mine, theirs)| *mine += theirs);
        } else {
            let common: Vec<f64> = self.bounds_ms.iter().copied().filter(|b| other.bounds_ms.contains(b)).collect();
            let theirs = other.coarsened(&common);
            self.counts = self.coarsened(&common);
            self.counts.iter_mut().zip(&theirs).for_each(|(mine, theirs)| *mine += theirs);
            self.bounds_ms = common.into();
        }
    }

    /// The counts by `bounds`, each of which is one of `bounds_ms`.
    fn coarsened(&self, bounds: &[f64]) -> Vec<f64> {
        let mut counts = vec![0.0; bounds.len() + 1];
        for (i, count) in self.counts.iter().enumerate() {
            let bound = self.bounds_ms.get(i).copied().unwrap_or(f64::INFINITY);
            counts[bounds.partition_point(|b| *b < bound)] += count;
        }
        counts
    }

    /// The `q`-quantile in milliseconds, 0 ≤ q ≤ 1, as Prometheus' `histogram_quantile` of classic buckets has it:
    /// linear within a bucket, the last finite bound when it lies beyond that, `None` when there is nothing to tell.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let total = self.total();
        let last = *self.bounds_ms.last()?;
        if total <= 0.0 || !(0.0..=1.0).contains(&q) {
            return None;
        }
        let (rank, mut before) = (q * total, 0.0);
        for (i, (upper, count)) in self.bounds_ms.iter().zip(&self.counts).enumerate() {
            if before + count >= rank {
                let lower = if i == 0 { 0.0 } else { self.bounds_ms[i - 1] };
                if (i == 0 && *upper <= 0.0) || *count <= 0.0 {
                    return Some(*upper);
                }
                return Some(lower + (upper - lower) * (rank - before) / count);
            }
            before += count;
        }
        Some(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(bounds_ms: &[f64], counts: &[f64]) -> LatencyHistogram {
        LatencyHistogram { bounds_ms: bounds_ms.into(), counts: counts.to_vec(), sum_ms: 1.0 }
    }

    #[test]
    fn quantiles_interpolate_as_prometheus_does() {
        let check = |bounds: &[f64], counts: &[f64], q: f64, expect: Option<f64>| {
            assert_eq!(histogram(bounds, counts).quantile(q), expect, "{bounds:?} {counts:?} {q}");
        };
        check(&[10.0, 20.0], &[50.0, 50.0, 0.0], 0.5, Some(10.0));
        check(&[10.0, 20.0], &[50.0, 50.0, 0.0], 0.75, Some(15.0));
        check(&[10.0, 20.0], &[4.0, 0.0, 0.0], 0.5, Some(5.0));
        check(&[10.0, 20.0], &[0.0, 0.0, 3.0], 0.5, Some(20.0));
        check(&[10.0, 20.0], &[0.0, 0.0, 0.0], 0.5, None);
        check(&[], &[7.0], 0.5, None);
        check(&[], &[], 0.5, None);
        check(&[1.0], &[1.0, 0.0], 1.5, None);
    }

    #[test]
    fn merging_different_bounds_keeps_the_common_ones_and_every_request() {
        let mut merged = histogram(&[1.0, 5.0, 10.0], &[1.0, 2.0, 3.0, 4.0]);
        merged.merge(&histogram(&[2.0, 5.0], &[10.0, 20.0, 30.0]));
        assert_eq!((&*merged.bounds_ms, merged.counts.as_slice()), ([5.0].as_slice(), [33.0, 37.0].as_slice()));
        assert_eq!((merged.total(), merged.sum_ms), (70.0, 2.0));
        merged.merge(&LatencyHistogram::default());
        let mut empty = LatencyHistogram::default();
        empty.merge(&merged);
        assert_eq!(empty.counts, merged.counts);
        empty.merge(&histogram(&[7.0], &[1.0, 1.0]));
        assert_eq!((empty.bounds_ms.len(), empty.counts.as_slice()), (0, [72.0].as_slice()));
    }
}
