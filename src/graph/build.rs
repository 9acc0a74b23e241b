//! Builds the graph: reports → pairs of ends → the report that counts → nodes and edges of the view.
//!
//! In: edge minutes and options. Out: [`ServiceGraph`]. Invariant: of one pair and layer exactly one reporter counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::model::workload::{MeshKind, Protocol, Reporter, Security, Service};
use crate::model::{EdgeMinute, Timestamp};

use super::diagnose;
use super::flags;
use super::health::{self, Health, Status, Tally};
use super::nodes::{identity_node, new_node, service_node, workload_node};
use super::resolve::{End, World, special};
use super::sum::{FastMap, Report, Traffic, reports};
use super::types::{
    Connections, Edge, Evidence, GraphOptions, MutualTls, MutualTlsEvidence, Node, NodeKind, NodeTraffic, Requests,
    ServiceGraph, Totals, View,
};

/// The reporters in the order in which they count: the client's, then the server's, then spans.
pub(super) const RANKED: [Reporter; 4] = [Reporter::Source, Reporter::Waypoint, Reporter::Destination, Reporter::Trace];

/// Builds the service graph of `options.from..options.to`.
pub fn build<'a>(minutes: impl IntoIterator<Item = &'a EdgeMinute>, options: &GraphOptions) -> ServiceGraph {
    let reports = reports(minutes, first_minute(options), options.to);
    let world = World::new(&reports, options.view);
    let mut draft = Draft::new(&world, options);
    for ((source, destination, layer), members) in &pairs(&reports, &world) {
        draft.add_pair(source, destination, *layer, members);
    }
    draft.finish()
}

/// A minute counts whole or not at all, so the range is widened to where its first minute starts.
pub(super) fn first_minute(options: &GraphOptions) -> Timestamp {
    options.from.floor_to(Duration::from_secs(60))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Layer {
    Requests,
    Connections,
}

/// Reports with their places, by pair of ends.
type Pairs<'a, 'r> = BTreeMap<(End, End, Layer), Vec<(usize, &'r Report<'a>)>>;

pub(super) fn pairs<'a, 'r>(reports: &'r [Report<'a>], world: &World) -> Pairs<'a, 'r> {
    let mut pairs: Pairs<'a, 'r> = BTreeMap::new();
    for (at, report) in reports.iter().enumerate() {
        // A span of a database or queue is a call with an outcome and a latency, whatever carries it.
        let connections = report.key.protocol == Protocol::Tcp && report.key.reporter != Reporter::Trace;
        let layer = if connections { Layer::Connections } else { Layer::Requests };
        if let Some((source, destination)) = world.ends(at, report.key) {
            pairs.entry((source, destination, layer)).or_default().push((at, report));
        }
    }
    pairs
}

/// Whose report of a pair counts: the first in rank that saw traffic, else the first there is.
fn counting_reporter(members: &[(usize, &Report<'_>)]) -> Option<Reporter> {
    let has = |reporter: Reporter, busy: bool| {
        members.iter().any(|(_, report)| report.key.reporter == reporter && (!busy || !report.traffic.is_idle()))
    };
    RANKED.into_iter().find(|reporter| has(*reporter, true)).or_else(|| RANKED.into_iter().find(|r| has(*r, false)))
}

/// An edge while reports are added to it.
#[derive(Default)]
struct EdgeDraft<'a> {
    requests: Option<Traffic<'a>>,
    connections: Option<Traffic<'a>>,
    /// Requests by the reporter and protocol that counts.
    counted: BTreeMap<(Reporter, Protocol), f64>,
    reporters: BTreeSet<Reporter>,
    meshes: BTreeSet<MeshKind>,
    services: BTreeSet<(Arc<str>, Option<Arc<str>>)>,
    source_principals: BTreeSet<Arc<str>>,
    destination_principals: BTreeSet<Arc<str>>,
    /// Mutual, plaintext, of the request and of the connection layer.
    reported_tls: [(f64, f64); 2],
    /// With and without a SPIFFE identity of the called, by source reports.
    principal_tls: (f64, f64),
    /// L7 by what client and server said.
    client: Option<Traffic<'a>>,
    server: Option<Traffic<'a>>,
}

pub(super) struct Draft<'a, 'w> {
    world: &'w World,
    options: &'w GraphOptions,
    pub(super) nodes: Vec<Node>,
    node_ids: FastMap<Arc<str>, usize>,
    /// Nodes of workloads already asked for.
    workload_nodes: Vec<Option<usize>>,
    edges: BTreeMap<(usize, usize), EdgeDraft<'a>>,
}

impl<'a, 'w> Draft<'a, 'w> {
    /// Without nodes and edges.
    pub(super) fn new(world: &'w World, options: &'w GraphOptions) -> Self {
        Self {
            world,
            options,
            nodes: Vec::new(),
            node_ids: FastMap::default(),
            workload_nodes: vec![None; world.workloads.len()],
            edges: BTreeMap::new(),
        }
    }

    fn add_pair(&mut self, source: &End, destination: &End, layer: Layer, members: &[(usize, &Report<'a>)]) {
        let Some(counting) = counting_reporter(members) else { return };
        let from = self.node(source, None);
        for (_, report) in members {
            let to = self.node(destination, Some(&report.key.service));
            let edge = self.edges.entry((from, to)).or_default();
            edge.add_evidence(report, layer, counting);
            if report.key.reporter == counting {
                let traffic = &report.traffic;
                let protocol = traffic.protocol(report.key.protocol);
                *edge.counted.entry((counting, protocol)).or_default() += traffic.requests();
                let sum = if layer == Layer::Requests { &mut edge.requests } else { &mut edge.connections };
                match sum {
                    Some(sum) => sum.add(traffic),
                    None => *sum = Some(traffic.clone()),
                }
            }
        }
    }

    fn finish(self) -> ServiceGraph {
        let Self { options, nodes, edges, .. } = self;
        let seconds = options.to.since(first_minute(options)).as_secs_f64().max(0.001);
        let any_report = !edges.is_empty();
        // Whether a called node reports anything: then its silence on one edge says something.
        let mut reporting = vec![false; nodes.len()];
        edges.iter().for_each(|((_, to), edge)| reporting[*to] |= edge.server.as_ref().is_some_and(|s| !s.is_idle()));
        let hide_hops = !options.include_waypoints && edges.values().any(|e| e.reporters.contains(&Reporter::Waypoint));
        let mut drawn = Vec::new();
        let (mut idle_hidden, mut tallies) = (0, Vec::new());
        for ((from, to), draft) in edges {
            let hop = nodes[from].kind == NodeKind::Waypoint || nodes[to].kind == NodeKind::Waypoint;
            if draft.counted.is_empty() || (hop && hide_hops && draft.requests.is_none()) {
                continue;
            }
            let tally = draft.tally(options.hangups_are_errors);
            let edge = draft.into_edge((&nodes[from].id, &nodes[to]), &tally, reporting[to], (options, seconds));
            if edge.idle && !options.include_idle {
                idle_hidden += 1;
            } else {
                drawn.push((from, to, edge));
                tallies.push(tally);
            }
        }
        let mut graph = assemble(nodes, drawn, &tallies, options);
        graph.idle_hidden = idle_hidden;
        graph.empty_because = graph.edges.is_empty().then(|| empty_because(any_report, idle_hidden));
        graph
    }

    // === nodes ===

    /// The place of the node that an end is.
    pub(super) fn node(&mut self, end: &End, called: Option<&Service>) -> usize {
        // Only the service view names one workload differently by how it was called.
        let same_always = match end {
            End::Workload(id) if self.options.view != View::Service => Some(*id as usize),
            _ => None,
        };
        if let Some(at) = same_always.and_then(|id| self.workload_nodes[id]) {
            return at;
        }
        let at = self.new_or_known(end, called);
        if let Some(id) = same_always {
            self.workload_nodes[id] = Some(at);
        }
        at
    }

    fn new_or_known(&mut self, end: &End, called: Option<&Service>) -> usize {
        let node = match end {
            End::Workload(id) => workload_node(self.world, *id as usize, called, self.options.view),
            End::Identity(principal) => identity_node(principal),
            End::Unknown(cluster) => {
                new_node(NodeKind::Unknown, "unknown", [cluster.as_deref(), None, None, None], "unknown")
            }
            End::Service(service) => service_node(service),
        };
        if let Some(at) = self.node_ids.get(&node.id) {
            let known = &mut self.nodes[*at];
            if known.version != node.version {
                known.version = None; // several versions in one node
            }
            return *at;
        }
        self.node_ids.insert(Arc::clone(&node.id), self.nodes.len());
        self.nodes.push(node);
        self.nodes.len() - 1
    }
}

impl<'a> EdgeDraft<'a> {
    fn add_evidence(&mut self, report: &Report<'a>, layer: Layer, counting: Reporter) {
        let Report { key, traffic } = report;
        self.reporters.insert(key.reporter);
        self.meshes.insert(key.mesh);
        self.source_principals.extend(key.source_principal.clone());
        self.destination_principals.extend(key.destination_principal.clone());
        if let Some(name) = called_name(&key.service) {
            self.services.insert((name, key.service.namespace.clone()));
        }
        let weight = if layer == Layer::Requests { traffic.requests() } else { traffic.opened() };
        let tls = &mut self.reported_tls[usize::from(layer == Layer::Connections)];
        match (key.security, key.reporter) {
            (Security::MutualTls, _) => tls.0 += weight,
            (Security::Plaintext, _) => tls.1 += weight,
            (Security::Unknown, Reporter::Source) => match &key.destination_principal {
                Some(principal) if principal.starts_with("spiffe://") => self.principal_tls.0 += weight,
                _ => self.principal_tls.1 += weight,
            },
            (Security::Unknown, _) => {}
        }
        if layer == Layer::Requests {
            let side = match key.reporter {
                Reporter::Destination => &mut self.server,
                // A sidecar that calls through a waypoint: both are clients, one counts.
                Reporter::Source | Reporter::Waypoint if key.reporter == counting => &mut self.client,
                _ => return,
            };
            match side {
                Some(sum) => sum.add(traffic),
                None => *side = Some(traffic.clone()),
            }
        }
    }

    fn tally(&self, hangups_are_errors: bool) -> Tally {
        let mut tally = self.requests.as_ref().map(|t| t.tally(hangups_are_errors)).unwrap_or_default();
        if let Some(connections) = &self.connections {
            tally.merge(&connections.connection_tally());
        }
        tally
    }

    fn mtls(&self) -> MutualTls {
        let share = |(mutual, plain): (f64, f64)| (mutual + plain > 0.0).then(|| mutual / (mutual + plain));
        if let Some(share) = share(self.reported_tls[0]).or_else(|| share(self.reported_tls[1])) {
            return MutualTls { share: Some(share), evidence: MutualTlsEvidence::Reported };
        }
        match share(self.principal_tls) {
            Some(share) if share > 0.0 => MutualTls { share: Some(share), evidence: MutualTlsEvidence::Principal },
            _ => MutualTls { share: None, evidence: MutualTlsEvidence::Nobody },
        }
    }

    fn into_edge(
        self,
        (source, called): (&Arc<str>, &Node),
        tally: &Tally,
        server_reports: bool,
        (options, seconds): (&GraphOptions, f64),
    ) -> Edge {
        let (hangups, target) = (options.hangups_are_errors, &called.id);
        let names = self.services.iter().map(|(name, _)| &**name).chain([&*called.name]).chain(called.app.as_deref());
        let thresholds = options.health.of(called.namespace.as_deref(), names);
        let mtls = self.mtls();
        // The busiest of those that count; the first in order when all are idle.
        let busiest = self.counted.iter().rev().max_by(|a, b| a.1.total_cmp(b.1)).map(|(key, _)| *key);
        let (reporter, protocol) = busiest.unwrap_or((Reporter::Source, Protocol::Http));
        let (metrics, traces) =
            (self.reporters.iter().any(|r| *r != Reporter::Trace), self.reporters.contains(&Reporter::Trace));
        let idle = [&self.requests, &self.connections].into_iter().flatten().all(Traffic::is_idle);
        let requests = self.requests.as_ref().map(|traffic| requests(traffic, hangups, seconds));
        let p95 = requests.as_ref().and_then(|requests| requests.latency.p95_ms);
        let has_client = self.client.as_ref().filter(|client| !client.is_idle());
        Edge {
            id: format!("{source}>{target}").into(),
            source: Arc::clone(source),
            target: Arc::clone(target),
            protocol: if self.requests.is_some() || protocol == Protocol::Tcp { protocol } else { Protocol::Tcp },
            reporter,
            evidence: match (metrics, traces) {
                (true, true) => Evidence::Both,
                (false, true) => Evidence::Traces,
                _ => Evidence::Metrics,
            },
            idle,
            connections: self.connections.as_ref().map(|traffic| connections(traffic, seconds)),
            share_of_outbound: 0.0,
            retry_amplification: has_client
                .zip(self.server.as_ref())
                .and_then(|(client, server)| diagnose::retry_amplification(client, server)),
            disagreement: has_client
                .and_then(|client| diagnose::disagreement(client, self.server.as_ref(), server_reports, hangups)),
            health: or_unjudged(health::judge(tally, p95, thresholds), !idle),
            requests,
            mtls,
            reporters: self.reporters.into_iter().collect(),
            meshes: self.meshes.into_iter().collect(),
            services: self.services.into_iter().collect(),
            source_principals: self.source_principals.into_iter().collect(),
            destination_principals: self.destination_principals.into_iter().collect(),
        }
    }
}

/// By what name a service was called. Of a passthrough the host says more than its name does.
pub(super) fn called_name(service: &Service) -> Option<Arc<str>> {
    let Service { name, host, .. } = service;
    let own = name.as_ref().filter(|name| special(name).is_none());
    own.or(host.as_ref()).or(name.as_ref()).map(Arc::clone)
}

/// Traffic that gives nothing to judge is not idle.
pub(super) fn or_unjudged(health: Health, busy: bool) -> Health {
    if health.status > Status::Idle || !busy {
        return health;
    }
    let reason = "only long-lived connections or requests with an injected fault, which are not judged".to_owned();
    Health { status: Status::Healthy, reason }
}

fn requests(traffic: &Traffic<'_>, hangups_are_errors: bool, seconds: f64) -> Requests {
    let (count, tally) = (traffic.requests(), traffic.tally(hangups_are_errors));
    Requests {
        count,
        rate: count / seconds,
        errors: tally.errors(),
        error_ratio: tally.error_ratio().unwrap_or(0.0),
        client_error_ratio: if tally.requests > 0.0 { tally.client_errors / tally.requests } else { 0.0 },
        injected: traffic.count_where(flags::is_injected),
        latency: traffic.latency(),
        histogram: traffic.latency.clone(),
        outcomes: traffic.shares(count, hangups_are_errors, false),
        request_bytes_per_second: traffic.request_bytes / seconds,
        response_bytes_per_second: traffic.response_bytes / seconds,
        request_messages_per_second: traffic.request_messages / seconds,
        response_messages_per_second: traffic.response_messages / seconds,
    }
}

fn connections(traffic: &Traffic<'_>, seconds: f64) -> Connections {
    let opened = traffic.opened();
    Connections {
        opened,
        opened_rate: opened / seconds,
        closed: traffic.closed,
        failed: traffic.requests() - opened,
        failures: traffic.shares(opened, true, true),
        sent_bytes_per_second: traffic.request_bytes / seconds,
        received_bytes_per_second: traffic.response_bytes / seconds,
    }
}

impl Edge {
    /// Bytes per second both ways: of the request layer, else of the connection layer.
    pub fn bytes_per_second(&self) -> f64 {
        let of_requests = self.requests.as_ref().map(|r| r.request_bytes_per_second + r.response_bytes_per_second);
        let of_connections = self.connections.as_ref().map(|c| c.sent_bytes_per_second + c.received_bytes_per_second);
        of_requests.filter(|bytes| *bytes > 0.0).or(of_connections).unwrap_or(0.0)
    }

    /// Requests per second; zero without a request layer.
    pub fn rate(&self) -> f64 {
        self.requests.as_ref().map_or(0.0, |requests| requests.rate)
    }
}

// === from edges to the whole ===

fn assemble(
    nodes: Vec<Node>,
    drawn: Vec<(usize, usize, Edge)>,
    tallies: &[Tally],
    options: &GraphOptions,
) -> ServiceGraph {
    let mut kept: Vec<(usize, usize, Edge, &Tally)> =
        drawn.into_iter().zip(tallies).map(|((from, to, edge), tally)| (from, to, edge, tally)).collect();
    let edges_left_out = kept.len().saturating_sub(options.edge_limit);
    if edges_left_out > 0 {
        kept.sort_by(|a, b| busy(&b.2).total_cmp(&busy(&a.2)).then_with(|| a.2.id.cmp(&b.2.id)));
        kept.truncate(options.edge_limit);
    }
    let mut nodes: Vec<(Node, Tally, Tally)> =
        nodes.into_iter().map(|n| (n, Tally::default(), Tally::default())).collect();
    for (from, to, edge, tally) in &kept {
        nodes[*from].0.outbound.add(edge);
        nodes[*from].2.merge(tally);
        nodes[*to].0.inbound.add(edge);
        nodes[*to].1.merge(tally);
    }
    for (from, _, edge, _) in &mut kept {
        let out = &nodes[*from].0.outbound;
        edge.share_of_outbound = match edge.requests {
            Some(_) if out.rate > 0.0 => edge.rate() / out.rate,
            None if out.bytes_per_second > 0.0 => edge.bytes_per_second() / out.bytes_per_second,
            _ => 0.0,
        };
    }
    let mut all = Tally::default();
    kept.iter().for_each(|(.., tally)| all.merge(tally));
    let mut edges: Vec<Edge> = kept.into_iter().map(|(_, _, edge, _)| edge).collect();
    edges.sort_by(|a, b| (&a.source, &a.target).cmp(&(&b.source, &b.target)));
    let mut nodes: Vec<Node> = nodes
        .into_iter()
        .filter(|(node, ..)| node.inbound.edges + node.outbound.edges > 0)
        .map(|(node, inbound, outbound)| judged(node, &inbound, &outbound, options))
        .collect();
    nodes.sort_by(|a, b| a.id.cmp(&b.id));
    let totals = totals(&nodes, &edges, &all);
    ServiceGraph { nodes, edges, totals, edges_left_out, ..ServiceGraph::default() }
}

fn busy(edge: &Edge) -> f64 {
    edge.rate() + edge.connections.as_ref().map_or(0.0, |connections| connections.opened_rate)
}

fn judged(mut node: Node, inbound: &Tally, outbound: &Tally, options: &GraphOptions) -> Node {
    node.inbound.error_ratio = inbound.error_ratio();
    node.outbound.error_ratio = outbound.error_ratio();
    let names = [&*node.name].into_iter().chain(node.app.as_deref());
    let thresholds = options.health.of(node.namespace.as_deref(), names);
    let mut health = health::judge(inbound, None, thresholds);
    if health.status > Status::Idle {
        health.reason = format!("inbound: {}", health.reason);
    }
    let called = health::judge(outbound, None, thresholds);
    // Who calls something broken is not itself broken.
    let status = called.status.min(Status::Degraded);
    if status > health.status {
        health = Health { status, reason: format!("outbound: {}", called.reason) };
    }
    let busy = [&node.inbound, &node.outbound].iter().any(|side| side.rate + side.bytes_per_second > 0.0);
    node.health = or_unjudged(health, busy);
    node
}

impl NodeTraffic {
    fn add(&mut self, edge: &Edge) {
        self.edges += 1;
        self.rate += edge.rate();
        self.connection_rate += edge.connections.as_ref().map_or(0.0, |connections| connections.opened_rate);
        self.bytes_per_second += edge.bytes_per_second();
    }
}

fn totals(nodes: &[Node], edges: &[Edge], all: &Tally) -> Totals {
    let with = |status: Status| edges.iter().filter(|edge| edge.health.status == status).count();
    let (mut mutual, mut known) = (0.0, 0.0);
    for edge in edges {
        if let Some(share) = edge.mtls.share {
            let weight = if edge.requests.is_some() { edge.rate() } else { busy(edge) };
            mutual += share * weight;
            known += weight;
        }
    }
    Totals {
        nodes: nodes.len(),
        edges: edges.len(),
        idle_edges: edges.iter().filter(|edge| edge.idle).count(),
        degraded_edges: with(Status::Degraded),
        failed_edges: with(Status::Failure),
        rate: edges.iter().map(Edge::rate).sum(),
        error_ratio: all.error_ratio(),
        connection_rate: edges.iter().filter_map(|edge| edge.connections.as_ref()).map(|c| c.opened_rate).sum(),
        bytes_per_second: edges.iter().map(Edge::bytes_per_second).sum(),
        mtls_share: (known > 0.0).then(|| mutual / known),
    }
}

fn empty_because(any_report: bool, idle_hidden: usize) -> String {
    if idle_hidden > 0 {
        format!("{idle_hidden} edges had no traffic in this range: widen the range or show idle edges")
    } else if any_report {
        "only hops of waypoints were seen in this range: show waypoints to see them".to_owned()
    } else {
        "no traffic of a mesh was counted in this range: check on the Targets page that proxies are scraped (Istio port \
         15020 /stats/prometheus, Linkerd port 4191 /metrics) twice at least, or send spans"
            .to_owned()
    }
}
