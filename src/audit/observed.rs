//! What a window of time saw of a mesh: calls by edge, latencies, circuit breakers, proxies, certificates, spans.
//!
//! In: rows that [`super::gather()`] made of answers to queries. Out: [`Observed`], pure data that checks and the scorecard
//! read. Invariant: what is not known is empty or `None`; what could not be asked stands in `gaps` and is never taken for
//! "nothing happened".

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::past::Past;
use crate::model::Timestamp;
use crate::model::workload::MeshKind;

/// Which proxy told of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The caller's, or the waypoint's, which stands for both.
    Client,
    /// The called one's.
    Server,
}

/// One end of calls. Empty: unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct End {
    /// Namespace of the workload.
    pub namespace: String,
    /// The workload.
    pub workload: String,
    /// `cluster.local/ns/shop/sa/cart`, without `spiffe://`, as policies write it.
    pub principal: String,
    /// Label `version` of the pods, else the canonical revision.
    pub version: String,
}

impl End {
    /// `shop/cart-v1`; of one whose workload nobody tells (Linkerd's called side) its identity; for one without a proxy
    /// `a caller without a proxy`.
    pub fn name(&self) -> String {
        match (self.workload.is_empty(), self.principal.is_empty()) {
            (true, true) => "a caller without a proxy".to_owned(),
            (true, false) => self.principal.clone(),
            (false, _) => format!("{}/{}", self.namespace, self.workload),
        }
    }

    /// Whether nothing is known of it: it has no proxy.
    pub fn is_unknown(&self) -> bool {
        self.workload.is_empty() && self.principal.is_empty()
    }
}

/// Calls that differ in nothing but their time.
#[derive(Clone, Debug, PartialEq)]
pub struct Calls {
    /// Whose proxies told.
    pub mesh: MeshKind,
    /// Who tells.
    pub side: Side,
    /// Who calls.
    pub from: End,
    /// Who answers; without a workload when nobody did, or somebody outside the mesh.
    pub to: End,
    /// The called host, `cart.shop.svc.cluster.local`; `unknown` for what leaves the mesh undeclared.
    pub host: String,
    /// `http`, `grpc` or `tcp`.
    pub protocol: String,
    /// Status; 0 when there was no response; none for TCP.
    pub code: Option<u16>,
    /// Status of gRPC.
    pub grpc: Option<u8>,
    /// Envoy's response flags, comma-joined; empty: none.
    pub flags: String,
    /// `mutual_tls`, `none`, or empty: who calls never knows.
    pub security: String,
    /// Requests, or connections of TCP, in the window (extrapolated to its ends, so not whole).
    pub count: f64,
    /// The same in the last part of the window ([`Observed::recent`]).
    pub recent: f64,
}

impl Calls {
    /// Whether the flag is among those of these calls.
    pub fn has_flag(&self, flag: &str) -> bool {
        self.flags.split(',').any(|one| one == flag)
    }

    /// Whether a proxy failed or delayed them on purpose.
    pub fn injected(&self) -> bool {
        self.has_flag("DI") || self.has_flag("FI")
    }

    /// Whether they failed, and not by the caller's fault: 5xx, no response (unless the caller hung up), or a status of
    /// gRPC that is a server's (2, 4, 12 to 15).
    pub fn failed(&self) -> bool {
        let by_code = self.code.is_some_and(|code| code >= 500 || (code == 0 && !self.has_flag("DC")));
        by_code || self.grpc.is_some_and(|status| matches!(status, 2 | 4 | 12..=15))
    }
}

/// How long the calls of an edge took, in milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Latency {
    /// Who tells.
    pub side: Side,
    /// Who calls: namespace and workload.
    pub from: (String, String),
    /// The called host.
    pub host: String,
    /// Median.
    pub p50_ms: f64,
    /// All but the slowest hundredth.
    pub p99_ms: f64,
}

/// When a version of a host was called first and last within the window, in seconds before its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Spell {
    /// The called host.
    pub host: String,
    /// Label `version`.
    pub version: String,
    /// Seconds since the first calls seen.
    pub first_ago: f64,
    /// Seconds since the last calls seen.
    pub last_ago: f64,
}

/// What one proxy counted for one upstream cluster. None: it does not collect that statistic.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Upstream {
    /// Namespace of the proxy's pod.
    pub namespace: String,
    /// The proxy's pod.
    pub pod: String,
    /// The called host.
    pub host: String,
    /// The subset; empty: none.
    pub subset: String,
    /// Most connections at a scrape.
    pub connections_peak: Option<f64>,
    /// Most requests under way at a scrape.
    pub requests_peak: Option<f64>,
    /// Most requests that waited for a connection at a scrape.
    pub pending_peak: Option<f64>,
    /// Requests refused because the queue was full.
    pub pending_overflow: Option<f64>,
    /// Connections refused because there were too many.
    pub connection_overflow: Option<f64>,
    /// Hosts ejected.
    pub ejections: Option<f64>,
    /// Retries.
    pub retries: Option<f64>,
}

impl Upstream {
    /// Requests and connections that a limit refused.
    pub fn overflow(&self) -> Option<f64> {
        match (self.pending_overflow, self.connection_overflow) {
            (None, None) => None,
            (pending, connections) => Some(pending.unwrap_or(0.0) + connections.unwrap_or(0.0)),
        }
    }
}

/// One proxy. None: not known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Proxy {
    /// Version of its image.
    pub version: Option<String>,
    /// Worker threads.
    pub concurrency: Option<f64>,
    /// Seconds that its certificate still holds.
    pub certificate_seconds: Option<f64>,
    /// Seconds that the root it trusts still holds.
    pub root_seconds: Option<f64>,
    /// Cores used, averaged over the window.
    pub cpu: Option<f64>,
    /// Most bytes of memory in the window.
    pub memory: Option<f64>,
    /// Share of the scheduler's periods in which it was held back.
    pub throttled: Option<f64>,
    /// Cores asked for.
    pub cpu_request: Option<f64>,
    /// Cores allowed.
    pub cpu_limit: Option<f64>,
    /// Bytes asked for.
    pub memory_request: Option<f64>,
    /// Bytes allowed.
    pub memory_limit: Option<f64>,
    /// Requests that its policies denied.
    pub denied: Option<f64>,
}

/// Requests of a Gateway API route to one of its backends, as Linkerd's callers tell. They are among the other calls too.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// Namespace and name of the route.
    pub route: (String, String),
    /// The requests; the workload that answered is not told, the service of the backend stands for it.
    pub calls: Calls,
}

/// Requests of one caller that one route of Linkerd steered, as its proxy tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteCalls {
    /// Who called.
    pub from: End,
    /// Namespace and name of the called service.
    pub service: (String, String),
    /// Whether a ServiceProfile steered them; else a route of Gateway API, or the service's own annotations.
    pub profile: bool,
    /// Namespace and name of the route; of a profile its route's name alone; both empty: no route of its own.
    pub route: (String, String),
    /// Requests as the application made them.
    pub requests: f64,
    /// Of these given up because they took too long.
    pub timeouts: f64,
    /// Requests that the proxy made again.
    pub retries: f64,
    /// Requests that it would have made again, had the budget or the circuit breaker let it.
    pub held_back: f64,
    /// Requests that it would have made again, had it not done so as often as it may.
    pub limited: f64,
}

/// Who told of a denial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Teller {
    /// Access logs of Istio's proxies.
    AccessLogs,
    /// The metrics of Linkerd's proxies.
    Linkerd,
}

/// Requests that a policy denied.
#[derive(Clone, Debug, PartialEq)]
pub struct Denied {
    /// Who told.
    pub teller: Teller,
    /// Who called.
    pub from: End,
    /// Who did not answer.
    pub to: End,
    /// `namespace/name` of the policy that denied (of Linkerd: the name of the Server's default or authorization); empty:
    /// none let it in.
    pub policy: String,
    /// The number of its rule, where it is told.
    pub rule: Option<usize>,
    /// What became of the request, as access logs call it.
    pub reason: String,
    /// Requests in the window.
    pub count: f64,
}

/// What one label is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LabelCost {
    /// Series of `istio_requests_total` that have the label.
    pub series: f64,
    /// How many values it has.
    pub values: f64,
    /// How many series there were without it.
    pub without: f64,
}

/// What is known of the whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Whole {
    /// Versions of control planes.
    pub control_planes: BTreeSet<String>,
    /// Seconds that the mesh's root certificate still holds.
    pub root_seconds: Option<f64>,
    /// Configurations that proxies refused.
    pub rejects: Option<f64>,
    /// Seconds until nearly all (99 %) changes had reached their proxies.
    pub convergence_p99: Option<f64>,
    /// Targets of scrapes, and those that did not answer.
    pub targets: Option<(f64, f64)>,
    /// Series of `istio_requests_total`.
    pub request_series: Option<f64>,
    /// Standard labels, and how many series of `istio_requests_total` lack each (only those that some lack).
    pub missing_labels: BTreeMap<String, f64>,
    /// Spans of servers by service, and spans of clients by service.
    pub spans: BTreeMap<String, (f64, f64)>,
    /// Of the spans of clients those that began a trace, by service.
    pub roots: BTreeMap<String, f64>,
    /// Records of access logs; none: none came.
    pub records: Option<f64>,
    /// What the labels cost that Telemetries name.
    pub labels: BTreeMap<String, LabelCost>,
}

/// What a window of time saw of a mesh.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// When the window ends; none: the server that was asked did not say what time it is there.
    pub at: Option<Timestamp>,
    /// How long the window is.
    pub window: Duration,
    /// How long its last part is, that [`Calls::recent`] counts.
    pub recent: Duration,
    /// Whether there was traffic to see from (nearly) its beginning on: else nothing can be called unused.
    pub covered: bool,
    /// Calls.
    pub calls: Vec<Calls>,
    /// Latencies.
    pub latencies: Vec<Latency>,
    /// When versions were called.
    pub spells: Vec<Spell>,
    /// Statistics of upstream clusters.
    pub upstreams: Vec<Upstream>,
    /// Requests of routes to their backends.
    pub backends: Vec<Backend>,
    /// Requests that policies denied.
    pub denied: Vec<Denied>,
    /// Requests that routes of Linkerd steered.
    pub routes: Vec<RouteCalls>,
    /// Ports at which workloads of Linkerd were called, by namespace and workload.
    pub ports: BTreeMap<(String, String), BTreeSet<u16>>,
    /// What is known of a longer time; none: the window is all there is.
    pub past: Option<Past>,
    /// Proxies by namespace and pod.
    pub proxies: BTreeMap<(String, String), Proxy>,
    /// The rest.
    pub whole: Whole,
    /// Whether who was asked takes no spans: then that none is known says nothing.
    pub takes_no_spans: bool,
    /// What could not be asked, and why.
    pub gaps: Vec<String>,
    by_host: HashMap<String, Vec<usize>>,
    by_server: HashMap<(String, String), Vec<usize>>,
}

/// The domain that hosts of Linkerd are given first.
const DEFAULT_DOMAIN: &str = "cluster.local";

fn in_domain(host: &str, domain: &str) -> String {
    match host.strip_suffix(DEFAULT_DOMAIN).filter(|rest| rest.ends_with(".svc.")) {
        Some(rest) => format!("{rest}{domain}"),
        None => host.to_owned(),
    }
}

impl Observed {
    /// Nothing yet, of a window and its last part.
    pub(super) fn of(window: Duration, recent: Duration) -> Self {
        Self { window, recent, ..Self::default() }
    }

    /// Files the calls under what they are looked up by. Whoever fills `calls` says so last.
    pub(super) fn index(&mut self) {
        self.by_host.clear();
        self.by_server.clear();
        for (at, one) in self.calls.iter().enumerate() {
            self.by_host.entry(one.host.clone()).or_default().push(at);
            self.by_server.entry((one.to.namespace.clone(), one.to.workload.clone())).or_default().push(at);
        }
    }

    /// Calls the hosts of Linkerd by the domain of the cluster: its proxies tell a service and a namespace, and no domain.
    pub fn in_domain(&mut self, domain: &str) {
        if domain == DEFAULT_DOMAIN {
            return;
        }
        let calls = self.calls.iter_mut().chain(self.backends.iter_mut().map(|one| &mut one.calls));
        calls.for_each(|one| one.host = in_domain(&one.host, domain));
        if let Some(past) = &mut self.past {
            past.rename_hosts(|host| in_domain(host, domain));
        }
        self.index();
    }

    /// Calls to a host.
    pub fn to_host<'o>(&'o self, host: &str) -> impl Iterator<Item = &'o Calls> + Clone {
        self.by_host.get(host).map(Vec::as_slice).unwrap_or_default().iter().map(|&at| &self.calls[at])
    }

    /// Calls that a workload answered.
    pub fn to_workload<'o>(&'o self, namespace: &str, workload: &str) -> impl Iterator<Item = &'o Calls> + Clone {
        let key = (namespace.to_owned(), workload.to_owned());
        self.by_server.get(&key).map(Vec::as_slice).unwrap_or_default().iter().map(|&at| &self.calls[at])
    }

    /// All hosts that were called, but what leaves the mesh undeclared.
    pub fn hosts(&self) -> BTreeSet<&str> {
        self.by_host.keys().map(String::as_str).filter(|host| !host.is_empty() && *host != "unknown").collect()
    }

    /// All workloads that answered, by namespace and name.
    pub fn servers(&self) -> BTreeSet<(&str, &str)> {
        let all = self.by_server.keys().map(|(namespace, workload)| (namespace.as_str(), workload.as_str()));
        all.filter(|(_, workload)| !workload.is_empty()).collect()
    }

    /// All workloads that were seen at either end.
    pub fn workloads(&self) -> BTreeSet<(&str, &str)> {
        let ends = self.calls.iter().flat_map(|one| [&one.from, &one.to]).filter(|end| !end.workload.is_empty());
        ends.map(|end| (end.namespace.as_str(), end.workload.as_str())).collect()
    }

    /// The window in words: `1h`, `15m`.
    pub fn span(&self) -> String {
        words(self.window)
    }

    /// The time of which it can be said that nobody did something, in words; none: too little of it was seen. It is the
    /// longer one where there is such.
    pub fn silent_span(&self) -> Option<String> {
        match &self.past {
            Some(past) => past.covered.then(|| words(past.span)),
            None => self.covered.then(|| self.span()),
        }
    }

    /// Identities that called a workload in the longer time, if there is one; an empty one stands for callers without.
    pub fn past_callers<'o>(&'o self, namespace: &str, workload: &str) -> impl Iterator<Item = &'o str> {
        let (namespace, workload) = (namespace.to_owned(), workload.to_owned());
        self.past.iter().flat_map(move |past| past.callers(&namespace, &workload).collect::<Vec<_>>())
    }
}

/// A duration in its largest whole unit.
pub fn words(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        s if s >= 86_400 && s.is_multiple_of(86_400) => format!("{}d", s / 86_400),
        s if s >= 3_600 && s.is_multiple_of(3_600) => format!("{}h", s / 3_600),
        s if s >= 60 && s.is_multiple_of(60) => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}
