//! The discrete simulation: each second some requests enter, walk their tree of calls, and both proxies of each call
//! count them when they end.
//!
//! In: elapsed time, a seed. Out: counters in each [`Proxy`], and [`Hop`]s of sampled requests. The same seed and the
//! same steps give the same mesh. Nothing is counted before it has ended, so no span ends in the future.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    time::Duration,
};

use super::{
    incidents::{Effects, Kind, Script},
    page,
    proxy::{ClusterSeries, ConnectionTotals, Edge, Measured, Proxy, Reporter, RequestKey},
    random::Random,
    topology::{self, Behind, Call, ENTRIES, GATEWAY, PLAINTEXT_CALL, Pod, Protocol, Service, WORKLOADS},
};

/// Requests a second at the gateway, on average.
const ENTRY_RATE: f64 = 24.0;
/// How far the wave goes above and below the average.
const WAVE_SHARE: f64 = 0.3;
/// A day of the simulated shop.
const WAVE: Duration = Duration::from_secs(900);
/// Requests a second of the caller without a proxy.
const PLAINTEXT_RATE: f64 = 0.8;
/// Share of requests that are traced: about six a second.
const SAMPLED_SHARE: f64 = 0.25;
/// Finished spans kept for the sender; past it the oldest is dropped and counted.
const HOPS_MAX: usize = 8_192;
/// After a pause (a laptop asleep) the simulation skips all but this much.
const CATCH_UP: Duration = Duration::from_secs(15);
/// Envoy reports the progress of TCP connections this often.
const TCP_REPORT_US: u64 = 5_000_000;
/// Istio's default number of retries.
const RETRIES_MAX: u32 = 2;

/// One finished span of a sampled request.
#[derive(Clone, Debug)]
pub struct Hop {
    /// Trace.
    pub trace: u128,
    /// Span.
    pub span: u64,
    /// Parent span; `None` at the root.
    pub parent: Option<u64>,
    /// Whether the caller's proxy recorded it (else the called one).
    pub client: bool,
    /// Index of the pod that recorded it.
    pub pod: usize,
    /// Index of the other pod, when there is one.
    pub peer: Option<usize>,
    /// What was called.
    pub call: &'static Call,
    /// Subset the route chose.
    pub subset: &'static str,
    /// The number in place of `{id}`.
    pub id: u32,
    /// Start, microseconds after the start of the simulation.
    pub start_us: u64,
    /// End.
    pub end_us: u64,
    /// HTTP status, 0 without response.
    pub code: u16,
    /// gRPC status.
    pub grpc: Option<u8>,
    /// Response flags.
    pub flags: &'static str,
    /// Bytes of the request and of the response.
    pub bytes: (u32, u32),
}

/// The simulated mesh.
#[derive(Debug)]
pub struct Simulation {
    pods: Vec<Pod>,
    first_pod: BTreeMap<&'static str, usize>,
    proxies: Vec<Proxy>,
    random: Random,
    until_us: u64,
    pending: BinaryHeap<Reverse<(u64, u64, Event)>>,
    sequence: u64,
    hops: VecDeque<Hop>,
    hops_dropped: u64,
    retries: u64,
    ejected_before: bool,
}

/// Something that is counted when it ends.
#[derive(Debug)]
enum Event {
    Request { pod: usize, key: RequestKey, measured: Measured, cluster: Option<String>, retries: u64 },
    Connections { pod: usize, edge: Edge, report: ConnectionTotals },
    Hop(Box<Hop>),
}

// The heap orders by time and sequence, which is unique, so events themselves never decide.
impl PartialEq for Event {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl Eq for Event {}
impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Event {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

/// Where a span hangs in its trace.
#[derive(Clone, Copy)]
struct Context {
    trace: u128,
    parent: Option<u64>,
}

/// How a call ended, as its caller learns it.
#[derive(Clone, Copy)]
struct Outcome {
    end_us: u64,
    code: u16,
    grpc: Option<u8>,
    flags: &'static str,
    response_bytes: u32,
}

impl Outcome {
    fn failed(&self) -> bool {
        self.code == 0 || self.code >= 500 || self.grpc.is_some_and(|status| status != 0)
    }
}

/// What the called side needs to know of one attempt.
#[derive(Clone, Copy)]
struct Attempt {
    source: Option<usize>,
    call: &'static Call,
    pod: usize,
    subset: &'static str,
    id: u32,
    start_us: u64,
    request_bytes: u32,
    context: Option<Context>,
    effects: Effects,
}

impl Simulation {
    /// A mesh that has not run yet.
    pub fn new(seed: u64) -> Self {
        let pods = topology::pods();
        let mut first_pod = BTreeMap::new();
        for (index, pod) in pods.iter().enumerate() {
            first_pod.entry(pod.workload.name).or_insert(index);
        }
        let proxies = pods.iter().map(|_| Proxy::default()).collect();
        Self {
            pods,
            first_pod,
            proxies,
            random: Random::seeded(seed),
            until_us: 0,
            pending: BinaryHeap::new(),
            sequence: 0,
            hops: VecDeque::new(),
            hops_dropped: 0,
            retries: 0,
            ejected_before: false,
        }
    }

    /// All pods; indices in [`Hop`] point here.
    pub fn pods(&self) -> &[Pod] {
        &self.pods
    }

    /// The statistics of each pod, in the order of [`Simulation::pods`].
    pub fn proxies(&self) -> &[Proxy] {
        &self.proxies
    }

    /// Retried requests so far, of all callers.
    pub fn retries(&self) -> u64 {
        self.retries
    }

    /// Spans dropped because nobody took them in time.
    pub fn hops_dropped(&self) -> u64 {
        self.hops_dropped
    }

    /// The spans finished since the last call.
    pub fn take_hops(&mut self) -> Vec<Hop> {
        self.hops.drain(..).collect()
    }

    /// The scrape page of the pod of that name.
    pub fn page(&self, pod: &str) -> Option<String> {
        let index = self.pods.iter().position(|candidate| candidate.name == pod)?;
        Some(page::render(&self.proxies[index], self.until_us as f64 / 1e6))
    }

    /// Runs until `elapsed` after the start: requests of that time enter, and all that has ended is counted.
    pub fn step(&mut self, elapsed: Duration) {
        let end_us = micros(elapsed);
        let mut from_us = self.until_us.max(end_us.saturating_sub(micros(CATCH_UP)));
        while from_us < end_us {
            let to_us = end_us.min(from_us + 1_000_000);
            self.enter(from_us, to_us);
            from_us = to_us;
        }
        self.until_us = self.until_us.max(end_us);
        self.mark_circuit_breakers(elapsed);
        self.settle(end_us);
    }

    /// Counts all that is still under way, as if time went on without new requests.
    pub fn drain(&mut self) {
        self.settle(u64::MAX);
    }

    fn enter(&mut self, from_us: u64, to_us: u64) {
        let seconds = (to_us - from_us) as f64 / 1e6;
        let phase = from_us as f64 / micros(WAVE) as f64;
        let rate = ENTRY_RATE * (1.0 + WAVE_SHARE * (phase * std::f64::consts::TAU).sin());
        for _ in 0..self.random.poisson(rate * seconds) {
            let at_us = from_us + self.random.below((to_us - from_us) as usize) as u64;
            let entry = &ENTRIES[self.random.weighted(ENTRIES.iter().map(|entry| entry.weight))];
            let gateway = self.pod_of(&GATEWAY);
            let context = self.random.happens(SAMPLED_SHARE).then(|| Context {
                trace: (u128::from(self.random.id()) << 64) | u128::from(self.random.id()),
                parent: None,
            });
            self.call(Some(gateway), &entry.call, at_us, context);
        }
        for _ in 0..self.random.poisson(PLAINTEXT_RATE * seconds) {
            let at_us = from_us + self.random.below((to_us - from_us) as usize) as u64;
            self.call(None, &PLAINTEXT_CALL, at_us, None);
        }
    }

    /// One of the workload's pods, as a round robin over many clients picks.
    fn pod_of(&mut self, workload: &'static topology::Workload) -> usize {
        let first = self.first_pod.get(workload.name).copied().unwrap_or(0);
        first + self.random.below(workload.pods)
    }

    /// Makes one call and everything below it; counted when it ends.
    fn call(&mut self, source: Option<usize>, call: &'static Call, at_us: u64, context: Option<Context>) -> Outcome {
        if call.to.protocol == Protocol::Tcp {
            return self.exchange(source, call.to, at_us);
        }
        let caller = source.map(|pod| self.pods[pod].workload.name);
        let effects = Script::effects(Duration::from_micros(at_us), caller.unwrap_or("unknown"), call.to.name);
        let span = self.random.id();
        let inner = context.map(|context| Context { trace: context.trace, parent: source.map(|_| span) });
        let (request_bytes, id) = (self.size(call), self.random.below(900) as u32 + 100);
        let refused = if source.is_some() { self.refuse(&effects) } else { None };
        let (subset, pod) = self.route(call.to);
        let (outcome, reached, retries) = match refused {
            Some(flags) => (self.local_reply(call.to, at_us, flags), (flags == "UO").then_some(pod), 0),
            None => {
                let delayed = source.is_some() && self.random.happens(effects.delay_share);
                let delay_us = if delayed { micros(Effects::DELAY) } else { 0 };
                let start_us = at_us + delay_us + self.network_us();
                let attempt =
                    Attempt { source, call, pod, subset, id, start_us, request_bytes, context: inner, effects };
                let (outcome, pod, retries) = self.try_until(attempt);
                let flags = if delayed && outcome.flags == "-" { "DI" } else { outcome.flags };
                (Outcome { flags, ..outcome }, Some(pod), retries)
            }
        };
        let Some(source) = source else { return outcome };
        self.report_source(source, call, (subset, reached), (at_us, request_bytes, retries), outcome);
        if let Some(Context { trace, parent }) = context {
            let bytes = (request_bytes, outcome.response_bytes);
            let Outcome { end_us, code, grpc, flags, .. } = outcome;
            let (client, pod, peer, start_us) = (true, source, reached, at_us);
            let hop = Hop {
                trace,
                span,
                parent,
                client,
                pod,
                peer,
                call,
                subset,
                id,
                start_us,
                end_us,
                code,
                grpc,
                flags,
                bytes,
            };
            self.schedule(end_us, Event::Hop(Box::new(hop)));
        }
        outcome
    }

    /// Whether the caller's own proxy answers instead of asking: the flag it raises.
    fn refuse(&mut self, effects: &Effects) -> Option<&'static str> {
        [(effects.abort_share, "FI"), (effects.overflow_share, "UO"), (effects.unhealthy_share, "UH")]
            .into_iter()
            .find_map(|(share, flag)| self.random.happens(share).then_some(flag))
    }

    fn local_reply(&mut self, service: &Service, at_us: u64, flags: &'static str) -> Outcome {
        let (code, grpc) = failure(service, 503);
        Outcome { end_us: at_us + 150 + self.random.below(400) as u64, code, grpc, flags, response_bytes: 81 }
    }

    /// Chooses a subset by weight and one of its pods.
    fn route(&mut self, service: &'static Service) -> (&'static str, usize) {
        let Behind::Mesh(subsets) = &service.behind else { return ("", 0) };
        let subset = &subsets[self.random.weighted(subsets.iter().map(|subset| subset.weight))];
        (subset.name, self.pod_of(subset.workload))
    }

    /// Asks, and asks again as Istio's default retry policy does after a 503. Applies the route's timeout.
    fn try_until(&mut self, first: Attempt) -> (Outcome, usize, u64) {
        let mut attempt = first;
        let mut retries = 0;
        loop {
            let served = self.serve(attempt);
            let end_us = served.end_us + self.network_us();
            let unavailable = served.code == 503 || served.grpc == Some(14);
            if unavailable && attempt.source.is_some() && retries < u64::from(RETRIES_MAX) {
                retries += 1;
                (attempt.subset, attempt.pod) = (first.subset, self.same_workload(attempt.pod));
                attempt.start_us = end_us + 25_000;
                continue;
            }
            let outcome = match served.flags {
                "DC" => {
                    let (code, grpc) = failure(attempt.call.to, 504);
                    Outcome { end_us, code, grpc, flags: "UT", response_bytes: 24 }
                }
                _ => Outcome { end_us, flags: if unavailable && retries > 0 { "URX" } else { "-" }, ..served },
            };
            self.retries += retries;
            return (outcome, attempt.pod, retries);
        }
    }

    fn same_workload(&mut self, pod: usize) -> usize {
        let workload = self.pods[pod].workload;
        self.pod_of(workload)
    }

    /// The called side: its own work, its calls, its report.
    fn serve(&mut self, attempt: Attempt) -> Outcome {
        let Attempt { source, call, pod, subset, id, start_us, request_bytes, context, effects } = attempt;
        let span = self.random.id();
        let inner = context.map(|context| Context { trace: context.trace, parent: Some(span) });
        let own_us = self.random.lognormal(self.pods[pod].workload.own_ms * effects.slow_factor, 0.45) * 1_000.0;
        let mut now_us = start_us + (own_us / 2.0) as u64;
        let mut broken = false;
        for child in call.then {
            if self.random.happens(child.share) {
                let below = self.call(Some(pod), child, now_us, inner);
                now_us = below.end_us;
                broken |= child.required && below.failed();
            }
        }
        let mut outcome = self.answer(call, broken, effects.error_share);
        outcome.end_us = now_us + (own_us / 2.0) as u64;
        let deadline_us = start_us + call.to.timeout_ms * 1_000;
        if call.to.timeout_ms > 0 && outcome.end_us > deadline_us {
            // The caller's proxy gave up: this side sees the caller hang up and has no response to count.
            outcome = Outcome { end_us: deadline_us, code: 0, grpc: None, flags: "DC", response_bytes: 0 };
        }
        let Outcome { end_us, code, grpc, flags, response_bytes } = outcome;
        let edge = self.edge(Reporter::Destination, source, call.to, Some(pod));
        let measured = Measured { duration_ms: (end_us - start_us) as f64 / 1e3, request_bytes, response_bytes };
        let key = RequestKey { edge, code, grpc, flags };
        self.schedule(end_us, Event::Request { pod, key, measured, cluster: None, retries: 0 });
        if let Some(Context { trace, parent }) = context {
            let (client, peer, bytes) = (false, source, (request_bytes, response_bytes));
            let hop = Hop {
                trace,
                span,
                parent,
                client,
                pod,
                peer,
                call,
                subset,
                id,
                start_us,
                end_us,
                code,
                grpc,
                flags,
                bytes,
            };
            self.schedule(end_us, Event::Hop(Box::new(hop)));
        }
        outcome
    }

    /// What the application (or its sidecar, when the application is gone) answers. `end_us` is the caller's to set.
    fn answer(&mut self, call: &'static Call, broken: bool, error_share: f64) -> Outcome {
        let response_bytes = self.random.lognormal(2_400.0, 0.8) as u32 + 60;
        let reply = |(code, grpc), flags, response_bytes| Outcome { end_us: 0, code, grpc, flags, response_bytes };
        if broken || self.random.happens(error_share) || self.random.happens(0.000_8) {
            return reply(failure(call.to, 500), "-", 120);
        }
        if self.random.happens(0.001_2) {
            // The application closed the connection, say during a restart: its sidecar answers 503 with UC.
            return reply(failure(call.to, 503), "UC", 95);
        }
        if call.path.contains("{id}") && call.method == "GET" && self.random.happens(0.006) {
            return reply((404, None), "-", 64);
        }
        reply((200, (call.to.protocol == Protocol::Grpc).then_some(0)), "-", response_bytes)
    }

    /// One exchange over a pooled TCP connection; bytes are reported by both proxies every five seconds.
    fn exchange(&mut self, source: Option<usize>, service: &'static Service, at_us: u64) -> Outcome {
        let (received_bytes, sent_bytes) =
            (self.random.lognormal(180.0, 0.4) as u64, self.random.lognormal(1_900.0, 0.9) as u64);
        let end_us = at_us + (self.random.lognormal(1_100.0, 0.5) as u64);
        let outcome = Outcome { end_us, code: 200, grpc: None, flags: "-", response_bytes: sent_bytes as u32 };
        let (opened, closed) = (u64::from(self.random.happens(0.02)), u64::from(self.random.happens(0.02)));
        let report = ConnectionTotals { opened, closed, sent_bytes, received_bytes };
        let Some(source) = source else { return outcome };
        let report_us = end_us.next_multiple_of(TCP_REPORT_US);
        let reached = matches!(service.behind, Behind::Mesh(_)).then(|| self.route(service).1);
        let edge = self.edge(Reporter::Source, Some(source), service, reached);
        self.schedule(report_us, Event::Connections { pod: source, edge, report });
        if let Some(pod) = reached {
            let edge = self.edge(Reporter::Destination, Some(source), service, reached);
            self.schedule(report_us, Event::Connections { pod, edge, report });
        }
        outcome
    }

    fn report_source(
        &mut self,
        pod: usize,
        call: &'static Call,
        (subset, reached): (&'static str, Option<usize>),
        (at_us, request_bytes, retries): (u64, u32, u64),
        outcome: Outcome,
    ) {
        let Outcome { end_us, code, grpc, flags, response_bytes } = outcome;
        let edge = self.edge(Reporter::Source, Some(pod), call.to, reached);
        let measured = Measured { duration_ms: (end_us - at_us) as f64 / 1e3, request_bytes, response_bytes };
        let cluster = self.pods[pod].workload.statistics.then(|| call.to.cluster(subset));
        let key = RequestKey { edge, code, grpc, flags };
        self.schedule(end_us, Event::Request { pod, key, measured, cluster, retries });
    }

    fn edge(&self, reporter: Reporter, source: Option<usize>, service: &Service, reached: Option<usize>) -> Edge {
        let name = |pod: Option<usize>| pod.map(|pod| self.pods[pod].workload.name);
        Edge { reporter, source: name(source), service: service.name, destination: name(reached) }
    }

    fn network_us(&mut self) -> u64 {
        self.random.lognormal(450.0, 0.5) as u64
    }

    fn size(&mut self, call: &Call) -> u32 {
        let median = if call.method == "GET" { 320.0 } else { 1_300.0 };
        self.random.lognormal(median, 0.4) as u32 + 40
    }

    fn schedule(&mut self, at_us: u64, event: Event) {
        self.sequence += 1;
        self.pending.push(Reverse((at_us, self.sequence, event)));
    }

    fn settle(&mut self, until_us: u64) {
        while self.pending.peek().is_some_and(|Reverse((at_us, ..))| *at_us <= until_us) {
            let Some(Reverse((_, _, event))) = self.pending.pop() else { break };
            match event {
                Event::Request { pod, key, measured, cluster, retries } => {
                    self.proxies[pod].count_request(key, measured);
                    if let Some(cluster) = cluster {
                        let statistics = self.proxies[pod].clusters.entry(cluster).or_default();
                        statistics.retries += retries;
                        statistics.pending_overflow += u64::from(key.flags == "UO");
                    }
                }
                Event::Connections { pod, edge, report } => self.proxies[pod].count_connections(edge, report),
                Event::Hop(hop) => {
                    if self.hops.len() == HOPS_MAX {
                        self.hops.pop_front();
                        self.hops_dropped += 1;
                    }
                    self.hops.push_back(*hop);
                }
            }
        }
    }

    /// Sets the gauges of circuit breakers and outlier detection of the proxies that opted in.
    fn mark_circuit_breakers(&mut self, elapsed: Duration) {
        let active = Script::at(elapsed).filter(|active| active.incident.kind == Kind::CircuitBreaker);
        let (source, destination) =
            active.map_or(("", ""), |active| (active.incident.source, active.incident.destination));
        let effects = Script::effects(elapsed, source, destination);
        let (full, ejected) = (effects.overflow_share > 0.0, effects.unhealthy_share > 0.0);
        let newly = ejected && !self.ejected_before;
        self.ejected_before = ejected;
        let hosts: BTreeMap<String, (&str, u64)> = subsets_in_mesh()
            .map(|(service, subset)| (service.cluster(subset.name), (service.name, subset.workload.pods as u64)))
            .collect();
        for (pod, proxy) in self.pods.iter().zip(&mut self.proxies) {
            for (name, ClusterSeries { open, ejected: out, ejections, hosts: total, .. }) in &mut proxy.clusters {
                let Some((service, count)) = hosts.get(name) else { continue };
                let hit = *service == destination && pod.workload.name == source;
                *total = *count;
                *open = hit && full;
                *out = if hit && ejected { *count } else { 0 };
                *ejections += if hit && newly { *count } else { 0 };
            }
        }
    }
}

/// Every subset of every service in the mesh.
fn subsets_in_mesh() -> impl Iterator<Item = (&'static Service, &'static topology::Subset)> {
    topology::SERVICES.into_iter().flat_map(|service| {
        let subsets: &'static [topology::Subset] = match &service.behind {
            Behind::Mesh(subsets) => subsets,
            Behind::ServiceEntry | Behind::Passthrough => &[],
        };
        subsets.iter().map(move |subset| (service, subset))
    })
}

/// The status a failure shows: gRPC carries it in `grpc-status` under a 200 (500 → 13, 503 and 504 → 14).
fn failure(service: &Service, code: u16) -> (u16, Option<u8>) {
    match service.protocol {
        Protocol::Grpc => (200, Some(if code == 500 { 13 } else { 14 })),
        Protocol::Http | Protocol::Tcp => (code, None),
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// How many pods there are in all.
pub fn pod_count() -> usize {
    WORKLOADS.iter().map(|workload| workload.pods).sum()
}

#[cfg(test)]
mod tests;
