//! The last records in memory, and which records a question asks for.
//!
//! Invariant: never more records or bytes than the configuration allows, plus one record; the oldest received leaves first.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use super::batch::ends_of;
use crate::model::access_log::{AccessRecord, Reason};
use crate::model::span::TraceId;

/// Which records are wanted: all that is said must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// The caller: `namespace/workload`, or the workload alone.
    pub source: Option<String>,
    /// The called workload, service or host, each with or without its namespace.
    pub destination: Option<String>,
    /// What became of it.
    pub reason: Option<Reason>,
    /// Only what went wrong.
    pub failures_only: bool,
    /// HTTP statuses from the first to the last.
    pub codes: Option<(u16, u16)>,
    /// Its trace.
    pub trace: Option<TraceId>,
    /// Earliest start, nanoseconds since the epoch.
    pub from_ns: u64,
    /// Latest start.
    pub to_ns: u64,
    /// Most records; the newest are taken.
    pub limit: usize,
}

impl Filter {
    /// Whether this record is wanted.
    pub fn matches(&self, record: &AccessRecord) -> bool {
        (self.from_ns..=self.to_ns).contains(&record.at_ns)
            && self.trace.is_none_or(|trace| record.trace_id == Some(trace))
            && self.reason.is_none_or(|reason| record.reason == reason)
            && !(self.failures_only && record.reason.is_good())
            && self.codes.is_none_or(|(first, last)| (first..=last).contains(&record.code))
            && self.is_between(record)
    }

    fn is_between(&self, record: &AccessRecord) -> bool {
        if self.source.is_none() && self.destination.is_none() {
            return true;
        }
        let [source, destination, service] = ends_of(record);
        let host = record.service.host.as_deref().unwrap_or_default();
        self.source.as_deref().is_none_or(|wanted| names(&source, wanted))
            && self
                .destination
                .as_deref()
                .is_none_or(|wanted| names(&destination, wanted) || names(&service, wanted) || host == wanted)
    }
}

/// Whether `party` is called that: whole, or without its namespace.
fn names(party: &str, wanted: &str) -> bool {
    party == wanted || party.split_once('/').is_some_and(|(_, name)| name == wanted)
}

/// The last records. Clones share them.
#[derive(Clone)]
pub struct Live(Arc<Mutex<Ring>>);

struct Ring {
    record_limit: usize,
    byte_limit: usize,
    bytes: usize,
    records: VecDeque<Arc<AccessRecord>>,
}

impl Live {
    /// An empty ring of at most so many records and bytes.
    pub fn new(record_limit: usize, byte_limit: usize) -> Self {
        Self(Arc::new(Mutex::new(Ring { record_limit, byte_limit, bytes: 0, records: VecDeque::new() })))
    }

    /// Adds records; the oldest make room.
    pub fn push(&self, records: &[Arc<AccessRecord>]) {
        let mut ring = self.0.lock();
        for record in records {
            ring.bytes += record.memory_bytes();
            ring.records.push_back(Arc::clone(record));
            while ring.records.len() > ring.record_limit || ring.bytes > ring.byte_limit {
                let Some(oldest) = ring.records.pop_front() else { break };
                ring.bytes -= oldest.memory_bytes();
            }
        }
    }

    /// The records that are wanted, latest received first, at most the filter's limit.
    pub fn matching(&self, filter: &Filter) -> Vec<Arc<AccessRecord>> {
        // Only the references are copied under the lock: reading the records may take a while.
        let records: Vec<Arc<AccessRecord>> = self.0.lock().records.iter().cloned().collect();
        records.into_iter().rev().filter(|record| filter.matches(record)).take(filter.limit).collect()
    }

    /// Bytes of the records held.
    pub fn size_bytes(&self) -> usize {
        self.0.lock().bytes
    }

    /// How many records are held.
    pub fn len(&self) -> usize {
        self.0.lock().records.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The statuses that a text asks for: one, or a class such as `5xx`.
pub fn codes_of(text: &str) -> Option<(u16, u16)> {
    if let Some(class) = text.strip_suffix("xx") {
        let first = class.parse::<u16>().ok().filter(|class| class.to_string().len() == 1)? * 100;
        return Some((first, first + 99));
    }
    let code = text.parse::<u16>().ok().filter(|code| *code <= 999)?;
    Some((code, code))
}
