//! The loop of one target: waits for its slot, fetches, has the page read, notes the outcome.
//!
//! Invariants: slots are fixed to absolute time, so a restart keeps the spread; a slot missed is counted, not made up
//! for, and one for which the loop wakes far too late is missed, so that a pause ends without a rush; on shutdown series are left as they are, only a target that is gone for good ends them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use super::arrival::Arrival;
use super::fetch::{self, ScrapeError};
use super::ingest::{Counts, Scrape, Sinks, TargetState};
use super::page_memory::{PageMemory, Reservation};
use super::status::{Cell, Health};
use super::workspace::Workspace;
use super::{Config, Status};
use crate::clock::Clock;
use crate::discovery::{Target, TargetKey};
use crate::http_client::{Client, Kept};
use crate::model::Timestamp;

/// So much of a body is read before other tasks have their turn: about 50 µs when its series are known.
const PIECE_BYTES: usize = 64 * 1024;
/// The same of compressed ones, which unpack to about twenty times as much.
const GZIP_PIECE_BYTES: usize = 4 * 1024;
/// What waited for the end of its page is read on the async runtime up to this size.
const INLINE_REST_BYTES: usize = 128 * 1024;
/// So many samples are stored on the async runtime.
const INLINE_SAMPLES: usize = 10_000;
/// A larger workspace is given back to the system after use.
const WORKSPACE_LIMIT_BYTES: usize = 8 << 20;
/// So many are kept for the next scrapes: as many as pages are read at once on few cores, not as many as a start needs.
const POOLED_WORKSPACES: usize = 4;
/// How late a scrape may begin and still bear the time of its slot, if that is at most 1 % of its interval.
const ALIGN_TOLERANCE: Duration = Duration::from_millis(2);

/// What all loops share.
pub(super) struct Shared {
    pub config: Config,
    pub clock: Clock,
    pub sinks: Sinks,
    pub status: Status,
    pub permits: Semaphore,
    pub page_memory: PageMemory,
    pub workspaces: Mutex<Vec<Workspace>>,
}

/// A target with the client its job's requests go through; `None` once discovery no longer has it.
pub(super) type Assigned = Option<(Arc<Target>, Arc<Client>)>;

/// A scrape that would begin later than this, and than half its interval, waits for its next slot.
const LATE_LIMIT_MIN: Duration = Duration::from_secs(1);

pub(super) struct TargetLoop {
    pub shared: Arc<Shared>,
    pub assigned: watch::Receiver<Assigned>,
    pub cell: Arc<Cell>,
    pub key: TargetKey,
    state: Box<TargetState>,
    kept: Kept,
    last: Option<(Arc<Target>, Timestamp)>,
}

impl TargetLoop {
    pub fn new(shared: Arc<Shared>, assigned: watch::Receiver<Assigned>, cell: Arc<Cell>, key: TargetKey) -> Self {
        Self { shared, assigned, cell, key, state: Box::default(), kept: Kept::default(), last: None }
    }

    #[cfg(test)]
    pub fn state_for_tests(&mut self) -> &mut TargetState {
        &mut self.state
    }

    /// Scrapes until `shutdown` fires or the target has been gone for long enough.
    pub async fn run(mut self, shutdown: CancellationToken) -> TargetKey {
        loop {
            let assigned = self.assigned.borrow_and_update().clone();
            let Some((target, client)) = assigned else {
                if self.wait_for_return(&shutdown).await {
                    continue;
                }
                break;
            };
            let slot = self.next_slot(&target);
            tokio::select! {
                () = shutdown.cancelled() => break,
                changed = self.assigned.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => break,
                },
                () = tokio::time::sleep_until(self.shared.clock.instant_of(slot)) => {}
            }
            // The process stood still (stopped, asleep, starved): all targets would be due at once.
            if self.shared.clock.now().since(slot) > (target.interval / 2).max(LATE_LIMIT_MIN) {
                continue;
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.scrape(target, &client, slot) => {}
            }
        }
        self.state.release(&self.shared.sinks);
        self.key
    }

    /// The next slot that this target was not scraped in.
    fn next_slot(&self, target: &Target) -> Timestamp {
        let slot = self.shared.clock.next_slot(target.interval, target.offset());
        match &self.last {
            Some((_, last)) if slot <= *last => slot + target.interval, // woken early in the slot just served
            _ => slot,
        }
    }

    fn count_missed(&self, target: &Target, slot: Timestamp) {
        let Some((last_target, last)) = &self.last else { return };
        let skipped = slot.since(*last).as_millis() / target.interval.as_millis().max(1);
        if skipped > 1 && last_target.interval == target.interval {
            self.shared.sinks.counters.missed_slots.fetch_add(skipped as u64 - 1, Ordering::Relaxed);
        }
    }

    /// One scrape, in the slot that has begun.
    #[tracing::instrument(name = "scrape", skip_all, fields(job = %target.job.name, target.url = %target.url))]
    pub async fn scrape(&mut self, target: Arc<Target>, client: &Client, slot: Timestamp) {
        if self.last.as_ref().is_some_and(|(last, _)| last.job != target.job) {
            self.state.settings_changed();
        }
        self.count_missed(&target, slot);
        let shared = Arc::clone(&self.shared);
        let (started, now) = (Instant::now(), shared.clock.now());
        let tolerance = ALIGN_TOLERANCE.min(target.interval / 100);
        let at = if now.since(slot) <= tolerance { slot } else { now };
        self.last = Some((Arc::clone(&target), slot.max(at)));
        let mut work = shared.workspaces.lock().pop().unwrap_or_default();
        self.state.begin(&target, &shared.sinks, &mut work);
        let mut memory = shared.page_memory.reserve();
        let fetched = match tokio::time::timeout(target.timeout, shared.permits.acquire()).await {
            Err(_) | Ok(Err(_)) => Err(ScrapeError::Busy { concurrency: shared.config.concurrency }),
            Ok(Ok(_permit)) => self.fetch(&target, client, (at, started), (&mut work, &mut memory)).await,
        };
        let (counts, result, work) = self.finish(&target, Scrape { at, fetched, started, memory }, work).await;
        if work.capacity_bytes() <= WORKSPACE_LIMIT_BYTES {
            let mut pool = shared.workspaces.lock();
            if pool.len() < shared.config.concurrency.min(POOLED_WORKSPACES) {
                pool.push(work);
            }
        }
        if let Some(metadata) = self.state.changed_metadata() {
            *self.cell.metadata.lock() = metadata;
        }
        self.note(&target, (at, started.elapsed()), counts, result);
    }

    /// Gets the page and reads it while it comes.
    async fn fetch(
        &mut self,
        target: &Target,
        client: &Client,
        (at, started): (Timestamp, Instant),
        (work, memory): (&mut Workspace, &mut Reservation),
    ) -> Result<(), ScrapeError> {
        if let Some(reason) = &target.refused {
            return Err(ScrapeError::Refused(reason.clone()));
        }
        let left = target.timeout.saturating_sub(started.elapsed());
        let timeout = || ScrapeError::Timeout { url: target.url.clone(), timeout: target.timeout };
        let reading = async {
            let buffer = std::mem::take(&mut work.received);
            let mut opened = fetch::open(client, target, (&mut self.kept, buffer)).await?;
            self.state.open_page(opened.encoding, at);
            let sinks = &self.shared.sinks;
            let mut arrival = Arrival::new((target, sinks), (opened.encoding, opened.gzip), memory, work);
            let piece_bytes = if opened.gzip { GZIP_PIECE_BYTES } else { PIECE_BYTES };
            let mut since_yield = 0;
            while let Some(arrived) = opened.piece(target).await? {
                for piece in arrived.chunks(piece_bytes) {
                    if since_yield >= piece_bytes {
                        since_yield = 0;
                        tokio::task::yield_now().await;
                    }
                    since_yield += piece.len();
                    arrival.take(piece, &mut self.state, work)?;
                }
            }
            arrival.end(&mut self.state, work)?;
            work.received = opened.end(&mut self.kept).unwrap_or_default();
            Ok(())
        };
        tokio::time::timeout(left, reading).await.unwrap_or_else(|_| Err(timeout()))
    }

    /// Reads what is left of the page and stores it: here when that is little, else on a thread for blocking work.
    async fn finish(
        &mut self,
        target: &Arc<Target>,
        scrape: Scrape,
        mut work: Workspace,
    ) -> (Counts, Result<(), ScrapeError>, Workspace) {
        if work.page.len() <= INLINE_REST_BYTES && work.batch.len() <= INLINE_SAMPLES {
            let (counts, result) = self.state.finish(target, &self.shared.sinks, scrape, &mut work);
            return (counts, result, work);
        }
        let (mut state, shared) = (std::mem::take(&mut self.state), Arc::clone(&self.shared));
        let target = Arc::clone(target);
        let reading = tokio::task::spawn_blocking(move || {
            let (counts, result) = state.finish(&target, &shared.sinks, scrape, &mut work);
            (state, counts, result, work)
        });
        match reading.await {
            Ok((state, counts, result, work)) => {
                self.state = state;
                (counts, result, work)
            }
            Err(panicked) => {
                error!("reading a page panicked: {panicked}");
                (Counts::default(), Err(ScrapeError::Internal), Workspace::default())
            }
        }
    }

    fn note(
        &self,
        target: &Arc<Target>,
        (at, took): (Timestamp, Duration),
        counts: Counts,
        result: Result<(), ScrapeError>,
    ) {
        let counters = &self.shared.sinks.counters;
        counters.scrapes.fetch_add(1, Ordering::Relaxed);
        let mut status = self.cell.status.lock();
        status.target = Arc::clone(target);
        status.health = if result.is_ok() { Health::Up } else { Health::Down };
        status.last_error = result.err().map(|error| error.to_string());
        (status.last_scrape, status.last_duration) = (Some(at), took);
        (status.samples_scraped, status.samples_kept) = (counts.scraped, counts.kept);
        (status.series_added, status.remembered_bytes) = (counts.added, self.state.cache.size_bytes());
        if let Some(reason) = &status.last_error {
            counters.failures.fetch_add(1, Ordering::Relaxed);
            debug!(target.url = %target.url, "scrape of `{}` failed: {reason}", target.url);
        }
    }

    /// The target is gone. It may come back (a pod restarts, a file is rewritten) within two intervals and a bit; past
    /// that its series end at the time of the first scrape it missed. True when it came back.
    async fn wait_for_return(&mut self, shutdown: &CancellationToken) -> bool {
        let Some((target, _)) = self.last.clone() else { return false };
        let first_missed = self.next_slot(&target);
        let until = first_missed + target.interval + target.interval / 10;
        tokio::select! {
            () = shutdown.cancelled() => return false,
            changed = self.assigned.wait_for(Option::is_some) => return changed.is_ok(),
            () = tokio::time::sleep_until(self.shared.clock.instant_of(until)) => {}
        }
        self.state.remove(&self.shared.sinks, first_missed, &mut Workspace::default());
        false
    }
}
