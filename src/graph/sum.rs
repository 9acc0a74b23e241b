//! Adds up edge minutes: one [`Report`] for each edge as one side saw it.
//!
//! In: edge minutes in any order. Out: reports sorted by key, so that all that follows is deterministic.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::model::workload::{EdgeKey, LatencyHistogram, Outcome, Protocol, Service, Workload};
use crate::model::{EdgeMinute, Timestamp};

use super::flags;
use super::health::Tally;
use super::types::{Latency, OutcomeShare};

pub(super) type FastMap<K, V> = hashbrown::HashMap<K, V, foldhash::fast::FixedState>;

/// What one side saw of one edge in the range.
#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) key: &'a EdgeKey,
    pub(super) traffic: Traffic<'a>,
}

/// Sums of traffic. Zero everywhere for an edge that is idle in the range.
#[derive(Clone, Debug, Default)]
pub(super) struct Traffic<'a> {
    pub(super) outcomes: Vec<(&'a Outcome, f64)>,
    pub(super) latency: LatencyHistogram,
    pub(super) first_byte: bool,
    pub(super) request_bytes: f64,
    pub(super) response_bytes: f64,
    pub(super) request_messages: f64,
    pub(super) response_messages: f64,
    pub(super) closed: f64,
}

/// Sums the minutes in `from..to` by edge and side; earlier ones leave an edge with no traffic, later ones nothing.
pub(super) fn reports<'a>(
    minutes: impl IntoIterator<Item = &'a EdgeMinute>,
    from: Timestamp,
    to: Timestamp,
) -> Vec<Report<'a>> {
    reports_and_places(minutes, from, to).0
}

/// Where the key of a minute lies: minutes of one edge mostly share it.
pub(super) fn edge_of(minute: &EdgeMinute) -> *const EdgeKey {
    Arc::as_ptr(&minute.edge)
}

/// The same, and the place of the report to which minutes of a key belong, by where the key lies.
pub(super) fn reports_and_places<'a>(
    minutes: impl IntoIterator<Item = &'a EdgeMinute>,
    from: Timestamp,
    to: Timestamp,
) -> (Vec<Report<'a>>, FastMap<*const EdgeKey, usize>) {
    let mut reports: Vec<Report<'a>> = Vec::new();
    let mut by_key: FastMap<&EdgeKey, usize> = FastMap::default();
    // Where a key is known, its texts need not be read.
    let mut places: FastMap<*const EdgeKey, usize> = FastMap::default();
    for minute in minutes.into_iter().filter(|minute| minute.minute < to) {
        let key: &EdgeKey = &minute.edge;
        let at = *places.entry(edge_of(minute)).or_insert_with(|| {
            *by_key.entry(key).or_insert_with(|| {
                reports.push(Report { key, traffic: Traffic::default() });
                reports.len() - 1
            })
        });
        if minute.minute >= from {
            reports[at].traffic.add_minute(minute);
        }
    }
    // Reports are large, so their places are sorted and each is moved once.
    let mut order: Vec<usize> = (0..reports.len()).collect();
    order.sort_unstable_by(|a, b| compare(reports[*a].key, reports[*b].key));
    let mut sorted = vec![0; order.len()];
    order.iter().enumerate().for_each(|(at, report)| sorted[*report] = at);
    places.values_mut().for_each(|at| *at = sorted[*at]);
    let mut reports: Vec<Option<Report<'a>>> = reports.into_iter().map(Some).collect();
    (order.into_iter().filter_map(|at| reports[at].take()).collect(), places)
}

/// As [`EdgeKey`]s compare, but texts at the same place are known to be equal.
fn compare(a: &EdgeKey, b: &EdgeKey) -> Ordering {
    let text = |a: &Option<Arc<str>>, b: &Option<Arc<str>>| match (a, b) {
        (Some(a), Some(b)) if Arc::ptr_eq(a, b) => Ordering::Equal,
        _ => a.cmp(b),
    };
    // All fields are named, so that one that is added is not forgotten here.
    let workload = |a: &Workload, b: &Workload| {
        let Workload { cluster, namespace, name, app, version } = a;
        text(cluster, &b.cluster)
            .then_with(|| text(namespace, &b.namespace))
            .then_with(|| text(name, &b.name))
            .then_with(|| text(app, &b.app))
            .then_with(|| text(version, &b.version))
    };
    let by_service = |a: &Service, b: &Service| {
        let Service { name, namespace, host } = a;
        text(name, &b.name).then_with(|| text(namespace, &b.namespace)).then_with(|| text(host, &b.host))
    };
    let EdgeKey {
        mesh,
        reporter,
        protocol,
        source,
        destination,
        service,
        source_principal,
        destination_principal,
        security,
    } = a;
    (mesh, reporter, protocol)
        .cmp(&(&b.mesh, &b.reporter, &b.protocol))
        .then_with(|| workload(source, &b.source))
        .then_with(|| workload(destination, &b.destination))
        .then_with(|| by_service(service, &b.service))
        .then_with(|| text(source_principal, &b.source_principal))
        .then_with(|| text(destination_principal, &b.destination_principal))
        .then_with(|| security.cmp(&b.security))
}

/// Whether nothing went over the edge in that minute; of sums, [`Traffic::is_idle`].
pub(super) fn is_idle(minute: &EdgeMinute) -> bool {
    minute.requests.iter().all(|(_, count)| *count <= 0.0)
        && minute.request_bytes + minute.response_bytes <= 0.0
        && minute.connections_closed <= 0.0
}

impl<'a> Traffic<'a> {
    pub(super) fn add_minute(&mut self, minute: &'a EdgeMinute) {
        for (outcome, count) in &minute.requests {
            self.add_outcome(outcome, *count);
        }
        self.latency.merge(&minute.latency);
        self.first_byte = minute.edge.mesh.latency_is_first_byte();
        self.request_bytes += minute.request_bytes;
        self.response_bytes += minute.response_bytes;
        self.request_messages += minute.request_messages;
        self.response_messages += minute.response_messages;
        self.closed += minute.connections_closed;
    }

    fn add_outcome(&mut self, outcome: &'a Outcome, count: f64) {
        match self.outcomes.iter_mut().find(|(known, _)| *known == outcome) {
            Some((_, sum)) => *sum += count,
            None => self.outcomes.push((outcome, count)),
        }
    }

    /// Adds another report's traffic (of another pair of workloads of the same two nodes).
    pub(super) fn add(&mut self, other: &Self) {
        let before = self.requests();
        for (outcome, count) in &other.outcomes {
            self.add_outcome(outcome, *count);
        }
        if self.latency.counts.is_empty() || self.first_byte == other.first_byte {
            self.latency.merge(&other.latency);
            self.first_byte = other.first_byte;
        } else if other.requests() > before {
            // First byte and last byte do not mix: the busier one speaks.
            self.latency = other.latency.clone();
            self.first_byte = other.first_byte;
        }
        self.request_bytes += other.request_bytes;
        self.response_bytes += other.response_bytes;
        self.request_messages += other.request_messages;
        self.response_messages += other.response_messages;
        self.closed += other.closed;
    }

    /// Requests of all outcomes.
    pub(super) fn requests(&self) -> f64 {
        self.outcomes.iter().map(|(_, count)| count).sum()
    }

    /// Connections opened: of a TCP report, outcomes with flags are closes of those.
    pub(super) fn opened(&self) -> f64 {
        self.outcomes.iter().filter(|(o, _)| flags::split(&o.flags).next().is_none()).map(|(_, count)| count).sum()
    }

    pub(super) fn bytes(&self) -> f64 {
        self.request_bytes + self.response_bytes
    }

    pub(super) fn is_idle(&self) -> bool {
        self.outcomes.iter().all(|(_, count)| *count <= 0.0) && self.bytes() <= 0.0 && self.closed <= 0.0
    }

    /// Requests by class, injected faults left out.
    pub(super) fn tally(&self, hangups_are_errors: bool) -> Tally {
        let mut tally = Tally::default();
        for (outcome, count) in self.outcomes.iter().filter(|(outcome, _)| !flags::is_injected(outcome)) {
            tally.add(flags::class_of(outcome, hangups_are_errors), *count);
        }
        tally
    }

    /// Connections and failed ones.
    pub(super) fn connection_tally(&self) -> Tally {
        let opened = self.opened();
        let failed = self.requests() - opened;
        // A close may be seen without its opening (a scrape between them), never the other way round.
        Tally { connections: opened.max(failed), failed_connections: failed.max(0.0), ..Tally::default() }
    }

    /// Requests whose outcome satisfies `test`.
    pub(super) fn count_where(&self, test: impl Fn(&Outcome) -> bool) -> f64 {
        self.outcomes.iter().filter(|(outcome, _)| test(outcome)).map(|(_, count)| count).sum()
    }

    /// Outcomes, most first, as share of `whole`.
    pub(super) fn shares(&self, whole: f64, hangups_are_errors: bool, only_flagged: bool) -> Vec<OutcomeShare> {
        let mut shares: Vec<OutcomeShare> = self
            .outcomes
            .iter()
            .filter(|(outcome, count)| *count > 0.0 && (!only_flagged || flags::split(&outcome.flags).next().is_some()))
            .map(|(outcome, count)| OutcomeShare {
                outcome: (*outcome).clone(),
                class: flags::class_of(outcome, hangups_are_errors),
                count: *count,
                share: if whole > 0.0 { count / whole } else { 0.0 },
                words: flags::words(&outcome.flags),
            })
            .collect();
        shares.sort_by(|a, b| b.count.total_cmp(&a.count).then_with(|| a.outcome.cmp(&b.outcome)));
        shares
    }

    pub(super) fn latency(&self) -> Latency {
        let counted = if self.latency.counts.is_empty() { self.requests() } else { self.latency.total() };
        Latency {
            average_ms: (counted > 0.0 && self.latency.sum_ms > 0.0).then(|| self.latency.sum_ms / counted),
            p50_ms: self.latency.quantile(0.50),
            p90_ms: self.latency.quantile(0.90),
            p95_ms: self.latency.quantile(0.95),
            p99_ms: self.latency.quantile(0.99),
            first_byte: self.first_byte,
        }
    }

    /// gRPC when most outcomes carry a gRPC status: Linkerd's series do not say otherwise.
    pub(super) fn protocol(&self, reported: Protocol) -> Protocol {
        let grpc = self.count_where(|outcome| !outcome.grpc_status.is_empty());
        if reported == Protocol::Http && grpc * 2.0 > self.requests() { Protocol::Grpc } else { reported }
    }
}
