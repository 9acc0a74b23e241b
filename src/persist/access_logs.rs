//! Writes batches of access log records, and finds records: those in memory, then the stored ones.
//!
//! Invariant: a search opens at most `access_logs.search_bytes` of stored batches, and says when it stopped early. An answer
//! is never less than what memory holds.

use std::collections::HashSet;
use std::sync::Arc;

use super::archive::Archive;
use crate::access_logs::{self, AccessRecord, Filter, Reason, decode_batch};
use crate::model::Timestamp;
use crate::model::access_log::trace_hash;
use crate::model::span::TraceId;
use crate::store::AccessLogSearch;

/// Index rows read at once.
const PAGE_PARTS: usize = 512;
/// Index rows looked at by one search.
const PARTS_MAX: usize = 200_000;
/// Records of one trace that are shown beside its spans.
const TRACE_RECORDS: usize = 2_000;

/// Where the last records are, and the bounds of reading stored ones.
#[derive(Clone)]
pub(super) struct LogReading {
    pub(super) live: access_logs::Live,
    pub(super) search_bytes: u64,
}

impl LogReading {
    pub(super) fn of(config: &access_logs::Config, live: access_logs::Live) -> Self {
        Self { live, search_bytes: config.search_bytes.0 }
    }
}

impl Archive {
    /// The newest records that are wanted, newest first; and why some may be missing.
    pub async fn access_logs(&self, filter: &Filter) -> (Vec<Arc<AccessRecord>>, Option<String>) {
        let mut found = Found::new(filter, self.logs.live.matching(filter));
        let _permit = self.reading.permits.acquire().await.ok();
        let note = self.stored_access_logs(&mut found).await.err();
        (found.newest(), note)
    }

    /// The records of a trace, oldest first; and why some may be missing.
    pub async fn access_logs_of(&self, trace: TraceId) -> (Vec<Arc<AccessRecord>>, Option<String>) {
        let filter = Filter { trace: Some(trace), to_ns: u64::MAX, limit: TRACE_RECORDS, ..Filter::default() };
        let (mut found, note) = self.access_logs(&filter).await;
        found.reverse();
        (found, note)
    }

    async fn stored_access_logs(&self, found: &mut Found<'_>) -> Result<(), String> {
        let search = search_of(found.filter);
        let (mut after, mut looked, mut bytes_left) = (None, 0, self.logs.search_bytes);
        let mut opened = HashSet::new();
        loop {
            let page = self.read(self.store.access_log_parts(&search, after, PAGE_PARTS)).await;
            let page = page.map_err(|reason| format!("Stored access logs are not searched: {reason}."))?;
            for key in &page {
                // All that follow are older than what is found already.
                if found.is_full_before(Timestamp::from(key.to_at)) {
                    return Ok(());
                }
                if !opened.insert(key.batch) {
                    continue;
                }
                let read = self.read(self.store.access_log_batch(key.batch)).await;
                let read = read.map_err(|reason| format!("Some stored access logs are not searched: {reason}."))?;
                let Some(bytes) = read else { continue };
                bytes_left = bytes_left.saturating_sub(bytes.len() as u64);
                let decoded = tokio::task::spawn_blocking(move || decode_batch(&bytes)).await;
                let decoded = decoded.map_err(|error| format!("Some access logs could not be read: {error}."))?;
                found.add(decoded.map_err(|error| format!("Some stored access logs are damaged: {error}."))?);
                if bytes_left == 0 {
                    return Err(format!(
                        "The search ended after opening {} bytes of access logs (access_logs.search_bytes); narrow it or \
                         shorten its range.",
                        self.logs.search_bytes
                    ));
                }
            }
            (after, looked) = (page.last().copied(), looked + page.len());
            if page.len() < PAGE_PARTS {
                return Ok(());
            }
            if looked >= PARTS_MAX {
                return Err(format!("The search ended after {looked} index rows; narrow it or shorten its range."));
            }
        }
    }
}

fn search_of(filter: &Filter) -> AccessLogSearch {
    let reasons: Vec<Reason> = match filter.reason {
        Some(reason) => vec![reason],
        None if filter.failures_only => Reason::ALL.iter().copied().filter(|reason| !reason.is_good()).collect(),
        None => Vec::new(),
    };
    AccessLogSearch {
        from: Timestamp::from_nanos(filter.from_ns),
        // Index rows have microseconds: what is in the last one counts.
        to: Timestamp::from_nanos(filter.to_ns),
        source: filter.source.clone(),
        destination: filter.destination.clone(),
        reasons,
        codes: filter.codes,
        trace_hash: filter.trace.as_ref().map(trace_hash),
    }
}

/// What a search found so far. A record in memory may be stored as well: a record is known by its time, the ids and the
/// ends of its connection.
struct Found<'f> {
    filter: &'f Filter,
    records: Vec<Arc<AccessRecord>>,
    seen: HashSet<u64>,
}

impl<'f> Found<'f> {
    fn new(filter: &'f Filter, live: Vec<Arc<AccessRecord>>) -> Self {
        let mut found = Self { filter, records: Vec::new(), seen: HashSet::new() };
        // Two records of one batch may be equal to the last byte; of what is in memory each is one of its own.
        found.seen.extend(live.iter().map(|record| identity(record)));
        found.records = live;
        found
    }

    fn add(&mut self, stored: Vec<AccessRecord>) {
        let wanted = stored.into_iter().filter(|record| self.filter.matches(record));
        let new: Vec<AccessRecord> = wanted.filter(|record| !self.seen.contains(&identity(record))).collect();
        self.seen.extend(new.iter().map(identity));
        self.records.extend(new.into_iter().map(Arc::new));
    }

    /// Whether there are as many as wanted that began after `latest`.
    fn is_full_before(&self, latest: Timestamp) -> bool {
        let newer = self.records.iter().filter(|record| Timestamp::from_nanos(record.at_ns) > latest);
        newer.count() >= self.filter.limit
    }

    fn newest(mut self) -> Vec<Arc<AccessRecord>> {
        self.records.sort_by_key(|record| std::cmp::Reverse(record.at_ns));
        self.records.truncate(self.filter.limit);
        self.records
    }
}

fn identity(record: &AccessRecord) -> u64 {
    use std::hash::{Hash, Hasher};
    let mut hasher = std::hash::DefaultHasher::new();
    let AccessRecord { at_ns, trace_id, span_id, reporter, code, flags, duration_ms, details, .. } = record;
    (at_ns, trace_id, span_id, reporter, code, flags, duration_ms, details).hash(&mut hasher);
    hasher.finish()
}
