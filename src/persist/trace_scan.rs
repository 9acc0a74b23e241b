//! Opens the traces that may match a search, newest first: those in memory, then the stored ones.
//!
//! In: what every match needs of one span. Out: whole traces, some at a time. Invariant: a search opens at most
//! `traces.search_bytes` of stored batches, holds the spans of one page, and says in [`TraceScan::note`] when it stopped early.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use tokio::sync::SemaphorePermit;

use super::archive::Archive;
use crate::model::span::{Span, SpanKey, SpanStatus, TraceId};
use crate::model::{Timestamp, span_key};
use crate::store::{BatchKey, PartScan, PartSearch, StoredPart, TracePlace};
use crate::traceql::Needs;
use crate::traces::{Filter, decode_batch, decode_traces, has_attribute};

/// Traces of one page.
const PAGE_TRACES: usize = 128;
/// Index rows read for one page.
const PAGE_PARTS: usize = 256;
/// Batches decoded one after the other for one page; traces that would need more wait for the next.
const PAGE_BATCHES: usize = 32;
/// Places of batches of the traces of one page.
const PAGE_PLACES: usize = 20_000;
/// Traces looked at by one search.
const TRACES_MAX: usize = 200_000;

/// What is looked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Earliest start.
    pub from: Timestamp,
    /// Latest start.
    pub to: Timestamp,
    /// What every match needs of one span.
    pub needs: Needs,
}

/// A search under way.
pub struct TraceScan<'a> {
    archive: &'a Archive,
    needs: Arc<Needs>,
    parts: PartScan,
    /// Of the batches that were opened for the attributes sought: the traces with a span that has them.
    opened: HashMap<BatchKey, HashSet<TraceId>>,
    /// Some of these batches, until the traces in them are opened.
    kept: HashMap<BatchKey, Vec<u8>>,
    live: VecDeque<TraceId>,
    waiting: VecDeque<TraceId>,
    seen: HashSet<TraceId>,
    all_read: bool,
    bytes_left: u64,
    /// Compressed bytes opened.
    pub bytes: u64,
    /// Traces opened.
    pub traces: usize,
    /// Why what was found may not be all.
    pub note: Option<String>,
    _permit: Option<SemaphorePermit<'a>>,
}

impl Archive {
    /// Begins a search; waits while others are under way.
    pub async fn scan(&self, wanted: &Wanted) -> TraceScan<'_> {
        let Wanted { from, to, needs } = wanted;
        let index = &self.reading.index;
        // An attribute that is not in the index narrows nothing.
        let indexed =
            needs.attributes.iter().filter(|(name, value)| index.takes(name) && value.len() <= index.value_bytes);
        let search = PartSearch {
            from: *from,
            to: *to,
            services: needs.service.iter().cloned().collect(),
            operations: needs.operation.iter().cloned().collect(),
            error: needs.error,
            longest_ns_min: needs.duration_ns_min,
            attribute_keys: indexed.map(|(name, value)| span_key::of_attribute(name, value)).collect(),
        };
        let filter = Filter {
            service: needs.service.clone(),
            operation: needs.operation.clone(),
            errors_only: needs.error,
            min_duration_ns: needs.duration_ns_min,
            from_ns: Some(from.as_nanos()),
            to_ns: Some(to.as_nanos()),
            ..Filter::default()
        };
        TraceScan {
            archive: self,
            needs: Arc::new(needs.clone()),
            parts: PartScan::new(search),
            opened: HashMap::new(),
            kept: HashMap::new(),
            live: self.live.matching(&filter).into(),
            waiting: VecDeque::new(),
            seen: HashSet::new(),
            all_read: false,
            bytes_left: self.reading.search_bytes,
            bytes: 0,
            traces: 0,
            note: None,
            _permit: self.reading.permits.acquire().await.ok(),
        }
    }

    /// Spans of the last batches, up to about `spans`: what lists of names are made from; and why some may be missing.
    pub async fn recent_spans(&self, wanted: &Wanted, spans: usize) -> (Vec<Arc<Span>>, Option<String>) {
        let mut found = self.live.latest(spans);
        let range = wanted.from.as_nanos()..=wanted.to.as_nanos();
        found.retain(|span| range.contains(&span.start_ns));
        let mut scan = self.scan(wanted).await;
        scan.live.clear();
        while found.len() < spans {
            let Some(page) = scan.next().await else { break };
            found.extend(page.into_iter().flatten().map(Arc::new));
        }
        (found, scan.note)
    }
}

impl TraceScan<'_> {
    /// The next traces, each with its spans in order of start; `None` at the end.
    pub async fn next(&mut self) -> Option<Vec<Vec<Span>>> {
        loop {
            if self.waiting.is_empty() {
                self.find_more().await;
            }
            if self.waiting.is_empty() {
                return None;
            }
            let page = self.open().await;
            if !page.is_empty() {
                self.traces += page.len();
                return Some(page);
            }
        }
    }

    /// More candidates: of memory first, which are the newest.
    async fn find_more(&mut self) {
        while self.waiting.is_empty() && !self.all_read {
            if self.seen.len() >= TRACES_MAX {
                self.stop(format!("The search ended after {TRACES_MAX} traces; narrow it or shorten its range."));
            } else if self.live.is_empty() {
                match self.archive.read(self.parts.next(&self.archive.store, PAGE_PARTS)).await {
                    Ok(parts) => {
                        self.all_read = parts.len() < PAGE_PARTS;
                        let cut = self
                            .parts
                            .cut
                            .then(|| "The search ended early; narrow it or shorten its range.".to_owned());
                        self.note = self.note.take().or(cut);
                        for part in parts {
                            let id = part.part.trace_id;
                            if !self.seen.contains(&id) && self.may_match(&part).await {
                                self.seen.insert(id);
                                self.waiting.push_back(id);
                            }
                        }
                    }
                    Err(reason) => self.stop(format!("Stored traces are not searched: {reason}.")),
                }
            } else {
                let page = self.live.len().min(PAGE_TRACES);
                let page: Vec<TraceId> = self.live.drain(..page).collect();
                self.seen.extend(&page);
                self.waiting.extend(page);
            }
        }
    }

    /// Whether a span of the part is all that is needed. The index tells no attributes of it: its batch is opened.
    async fn may_match(&mut self, part: &StoredPart) -> bool {
        if self.needs.attributes.is_empty() {
            return true;
        }
        if !self.opened.contains_key(&part.batch) {
            if self.is_spent() {
                // What was found before is still read: its batches are kept.
                self.end();
                return false;
            }
            let Some(bytes) = self.read_batch(part.batch).await else { return false };
            let needs = Arc::clone(&self.needs);
            let ids = move || {
                let spans = decode_batch(&bytes).unwrap_or_default();
                let ids = spans.iter().filter(|span| meets(span, &needs)).map(|span| span.trace_id);
                (ids.collect::<HashSet<_>>(), bytes)
            };
            let (ids, bytes) = tokio::task::spawn_blocking(ids).await.unwrap_or_default();
            if !ids.is_empty() && self.kept.len() < PAGE_BATCHES {
                self.kept.insert(part.batch, bytes);
            }
            self.opened.insert(part.batch, ids);
        }
        self.opened[&part.batch].contains(&part.part.trace_id)
    }

    fn stop(&mut self, note: String) {
        self.note = Some(note);
        self.end();
        self.waiting.clear();
    }

    /// Nothing more is sought.
    fn end(&mut self) {
        self.all_read = true;
        self.live.clear();
    }

    /// Opens the first of those that wait.
    async fn open(&mut self) -> Vec<Vec<Span>> {
        let page = self.waiting.len().min(PAGE_TRACES);
        let mut ids: Vec<TraceId> = self.waiting.drain(..page).collect();
        let mut traces: HashMap<TraceId, Vec<Span>> =
            ids.iter().map(|id| (*id, self.archive.live.trace(*id))).collect();
        let places = match self.archive.read(self.archive.store.places_of(&ids, PAGE_PLACES)).await {
            Ok(places) => places,
            Err(reason) => {
                self.note = Some(format!("Stored spans are not searched: {reason}."));
                Vec::new()
            }
        };
        let (batches, later) = chosen(&ids, &places, &traces);
        for id in later.into_iter().rev() {
            ids.retain(|kept| *kept != id);
            traces.remove(&id);
            self.waiting.push_front(id);
        }
        for batch in batches {
            if !self.kept.contains_key(&batch) && self.is_spent() {
                self.end();
                self.waiting.clear();
                break;
            }
            traces = self.open_batch(batch, traces).await;
        }
        let most = self.archive.reading.trace_spans;
        if self.waiting.is_empty() {
            self.kept.clear();
        }
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            let mut spans = traces.remove(&id).unwrap_or_default();
            spans.sort_by_key(|span| span.start_ns);
            if spans.len() > most {
                spans.truncate(most);
                self.note = Some(format!("Of a trace the first {most} spans are searched (traces.trace_spans)."));
            }
            if !spans.is_empty() {
                found.push(spans);
            }
        }
        found
    }

    /// Whether as much was opened as may be, which is noted: the search must end then.
    fn is_spent(&mut self) -> bool {
        if self.bytes_left == 0 {
            let bytes = self.archive.reading.search_bytes;
            self.note = Some(format!(
                "The search ended after opening {bytes} bytes of spans (traces.search_bytes); narrow it or shorten its range."
            ));
        }
        self.bytes_left == 0
    }

    /// The batch, if it is still there: its retention may have ended meanwhile.
    async fn read_batch(&mut self, batch: BatchKey) -> Option<Vec<u8>> {
        if let Some(bytes) = self.kept.remove(&batch) {
            return Some(bytes);
        }
        let bytes = match self.archive.read(self.archive.store.span_batches(&[batch])).await {
            Ok(found) => found.into_iter().next()?,
            Err(reason) => {
                self.note = Some(format!("Some stored spans are not searched: {reason}."));
                return None;
            }
        };
        self.bytes += bytes.len() as u64;
        self.bytes_left = self.bytes_left.saturating_sub(bytes.len() as u64);
        Some(bytes)
    }

    /// Adds the spans of a batch to their traces.
    async fn open_batch(
        &mut self,
        batch: BatchKey,
        mut traces: HashMap<TraceId, Vec<Span>>,
    ) -> HashMap<TraceId, Vec<Span>> {
        let Some(bytes) = self.read_batch(batch).await else { return traces };
        let most = self.archive.reading.trace_spans;
        let decoded = tokio::task::spawn_blocking(move || {
            let spans = decode_traces(&bytes, |id| traces.contains_key(id)).map_err(|error| error.to_string());
            let mut known: HashMap<TraceId, HashSet<SpanKey>> = HashMap::new();
            let damage = spans.map(|spans| {
                for span in spans {
                    let Some(trace) = traces.get_mut(&span.trace_id) else { continue };
                    let of_trace = known.entry(span.trace_id).or_insert_with(|| trace.iter().map(Span::key).collect());
                    if trace.len() <= most && of_trace.insert(span.key()) {
                        trace.push(span);
                    }
                }
            });
            (traces, damage.err())
        });
        match decoded.await {
            Ok((traces, damage)) => {
                if let Some(damage) = damage {
                    self.note = Some(format!("Some stored spans are damaged: {damage}."));
                }
                traces
            }
            Err(error) => {
                self.note = Some(format!("Some spans could not be read: {error}."));
                HashMap::new()
            }
        }
    }
}

/// The batches to open for the first of these traces, and the traces that must wait for the next page. A trace that is in
/// memory whole needs none; the first one is never put off, however many batches it is in.
fn chosen(
    ids: &[TraceId],
    places: &[TracePlace],
    traces: &HashMap<TraceId, Vec<Span>>,
) -> (BTreeSet<BatchKey>, Vec<TraceId>) {
    let mut of_trace: HashMap<TraceId, (u64, Vec<BatchKey>)> = HashMap::new();
    for place in places {
        let (spans, batches) = of_trace.entry(place.trace_id).or_default();
        *spans += u64::from(place.span_count);
        batches.push(place.batch);
    }
    let (mut batches, mut later) = (BTreeSet::new(), Vec::new());
    for id in ids {
        let Some((stored, needed)) = of_trace.get(id) else { continue };
        if traces.get(id).is_some_and(|live| live.len() as u64 >= *stored) {
            continue;
        }
        let more = needed.iter().filter(|batch| !batches.contains(*batch)).count();
        if batches.is_empty() || batches.len() + more <= PAGE_BATCHES {
            batches.extend(needed.iter().copied());
        } else {
            later.push(*id);
        }
    }
    (batches, later)
}

/// Whether the span is all that a query needs of one.
fn meets(span: &Span, needs: &Needs) -> bool {
    let named = |wanted: &Option<String>, name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
    named(&needs.service, &span.service)
        && named(&needs.operation, &span.name)
        && (!needs.error || span.status == SpanStatus::Error)
        && span.duration_ns >= needs.duration_ns_min.unwrap_or(0)
        && needs.attributes.iter().all(|(name, text)| has_attribute(span, name, text))
}
