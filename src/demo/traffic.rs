//! The discrete simulation: each second some requests enter, walk their tree of calls, and both proxies of each call
//! count them when they end.
//!
//! In: elapsed time, a seed. Out: counters in each [`Proxy`], and [`Hop`]s of sampled requests. The same seed and the
//! same steps give the same mesh. Nothing is counted before it has ended, so no span ends in the future.

mod walk;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    time::Duration,
};

use super::{
    incidents::{Kind, Script},
    page,
    proxy::{ClusterSeries, ConnectionTotals, Edge, Measured, Proxy, RequestKey},
    random::Random,
    topology::{self, Behind, Call, ENTRIES, GATEWAY, PLAINTEXT_CALL, Pod, Service, WORKLOADS},
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
            let context = self.random.happens(SAMPLED_SHARE).then(|| walk::Context {
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

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// How many pods there are in all.
pub fn pod_count() -> usize {
    WORKLOADS.iter().map(|workload| workload.pods).sum()
}

#[cfg(test)]
mod tests;
