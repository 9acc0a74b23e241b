//! One request's walk through its tree of calls: who is asked, who refuses, what is retried, how it ends.
//!
//! In: a call and its start. Out: events on the simulation's heap, each due when what it counts has ended.

use std::time::Duration;

use super::{Event, Hop, Simulation, micros};
use crate::demo::{
    incidents::{Effects, Script},
    proxy::{ConnectionTotals, Edge, Measured, Reporter, RequestKey},
    topology::{Behind, Call, Protocol, Service},
};

/// Envoy reports the progress of TCP connections this often.
const TCP_REPORT_US: u64 = 5_000_000;
/// Istio's default number of retries.
const RETRIES_MAX: u32 = 2;

/// Where a span hangs in its trace.
#[derive(Clone, Copy)]
pub(super) struct Context {
    pub(super) trace: u128,
    pub(super) parent: Option<u64>,
}

/// How a call ended, as its caller learns it.
#[derive(Clone, Copy)]
pub(super) struct Outcome {
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
    /// Makes one call and everything below it; counted when it ends.
    pub(super) fn call(
        &mut self,
        source: Option<usize>,
        call: &'static Call,
        at_us: u64,
        context: Option<Context>,
    ) -> Outcome {
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
                let flags = if delayed { with_delay(outcome.flags) } else { outcome.flags };
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
}

/// The status a failure shows: gRPC carries it in `grpc-status` under a 200 (500 → 13, 503 and 504 → 14).
fn failure(service: &Service, code: u16) -> (u16, Option<u8>) {
    match service.protocol {
        Protocol::Grpc => (200, Some(if code == 500 { 13 } else { 14 })),
        Protocol::Http | Protocol::Tcp => (code, None),
    }
}

/// The flags of a call that was delayed on purpose as well: Envoy joins them with commas.
fn with_delay(flags: &'static str) -> &'static str {
    match flags {
        "UT" => "DI,UT",
        "URX" => "DI,URX",
        _ => "DI",
    }
}
