//! Turns increments of mesh counters and histograms into per-edge minutes.
//!
//! In: the counter samples of each scrape, as slot and value. Out: [`EdgeMinute`]s. Knows Istio's and Linkerd's labels,
//! nothing of HTTP or PostgreSQL.
//!
//! Semantics, per series:
//! - An increment is `value - last`, or `value` when the counter fell (it restarted), as in PromQL's `increase`.
//! - The first sample of a series counts nothing, since nobody knows when it was zero; a series that appears on a target
//!   scraped well at most [`MAX_GAP`] before did start at zero since that scrape: take its slot with
//!   [`Rollup::slot_since`].
//! - A sample that is not newer than the last of its series counts nothing: the newer one has counted it.
//! - A stale marker ends a run: it is no value and no reset. When the series comes back within [`MAX_GAP`] the
//!   difference still counts, later it begins anew.
//! - An increment between two scrapes is spread over the minutes between them in proportion to time. Its parts always
//!   sum up to the whole; a single minute is exact when no scrape interval crosses its ends.
//! - A restart is no reset: the journal is counted again ([`Rollup::replay`]), and the first scrape of a series goes on from
//!   its last sample there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Deserialize;

use crate::model::workload::{EdgeKey, Outcome};
use crate::model::{EdgeMinute, Labels, Timestamp};
use crate::units::PromDuration;

mod accumulator;
mod computed;
mod istio;
mod linkerd;
mod replay;
#[cfg(test)]
mod tests;

use accumulator::{Accumulator, CellState};
pub use computed::Computed;
pub use replay::Replay;

/// How long a series may be marked stale and still count what happened meanwhile (PromQL's lookback).
pub const MAX_GAP: Duration = Duration::from_secs(300);

/// Names one mesh series while its scraper knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotId(pub(crate) u32);

/// Bounds of the accumulator's memory.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long a finished minute stays in memory, for the live graph and for flushing again. Default 15m.
    pub keep: PromDuration,
    /// Edges (as one side reports them) at a time; series of further ones are not counted. Default 100000.
    pub edge_limit: usize,
    /// Minutes of edges that are held beyond `keep` because PostgreSQL has not taken them; past it the oldest are dropped
    /// and counted. About half a kilobyte each. Default 200000.
    pub unwritten_limit: usize,
    /// Different outcomes (code, gRPC status, flags) of one edge; further ones fold into `2xx`, `5xx`… Default 128.
    pub outcome_limit: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            keep: Duration::from_secs(15 * 60).into(),
            edge_limit: 100_000,
            unwritten_limit: 200_000,
            outcome_limit: 128,
        }
    }
}

/// What the accumulator did and refused, since start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Samples of slots observed, stale markers included.
    pub samples: AtomicU64,
    /// Counter resets seen.
    pub resets: AtomicU64,
    /// Samples that do not count: NaN, infinite, negative, not newer than the last of their series, or of a released slot.
    pub samples_ignored: AtomicU64,
    /// Series or minutes refused because `edge_limit` edges are held.
    pub edges_refused: AtomicU64,
    /// Outcomes folded into their class because an edge has `outcome_limit` of them.
    pub outcomes_folded: AtomicU64,
    /// Latency increments dropped because too many different bucket layouts exist.
    pub histograms_refused: AtomicU64,
    /// Increments, or parts of them, dropped because their minute is no longer (or not yet) held.
    pub minutes_missed: AtomicU64,
    /// Minutes of edges dropped before PostgreSQL took them, because `unwritten_limit` were held.
    pub unwritten_dropped: AtomicU64,
}

impl Counters {
    fn add(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Ordering::Relaxed);
    }

    /// What was replayed at start was counted by the process before.
    fn reset(&self) {
        let Self { samples, resets, samples_ignored, edges_refused, outcomes_folded, .. } = self;
        let Self { histograms_refused, minutes_missed, unwritten_dropped, .. } = self;
        let first = [samples, resets, samples_ignored, edges_refused, outcomes_folded];
        let all = first.into_iter().chain([histograms_refused, minutes_missed, unwritten_dropped]);
        all.for_each(|counter| counter.store(0, Ordering::Relaxed));
    }
}

/// How much the accumulator holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Edges, as one side reports them.
    pub edges: usize,
    /// Series that count.
    pub slots: usize,
    /// Minutes.
    pub minutes: usize,
}

/// Minutes to be written.
#[derive(Clone, Debug, Default)]
pub struct Unwritten {
    /// The minutes, each whole as it is now, the oldest first.
    pub minutes: Vec<EdgeMinute>,
    /// Once these are written, minutes before this are written and do not change any more.
    pub complete_until: Option<Timestamp>,
    states: Vec<CellState>,
}

/// The accumulator of edge minutes. Clones share it.
#[derive(Clone)]
pub struct Rollup {
    state: Arc<Mutex<Accumulator>>,
    counters: Arc<Counters>,
}

impl Default for Rollup {
    fn default() -> Self {
        Self::new(Config::default())
    }
}

impl Rollup {
    /// An empty accumulator within `config`'s bounds.
    pub fn new(config: Config) -> Self {
        let counters = Arc::new(Counters::default());
        Self { state: Arc::new(Mutex::new(Accumulator::new(config, Arc::clone(&counters)))), counters }
    }

    /// The slot for a series that counts traffic of the mesh; `None` for any other series.
    ///
    /// Call once when a scrape first meets the series, and [`Rollup::release`] when it is gone.
    pub fn slot(&self, labels: &Labels) -> Option<SlotId> {
        let counting = counting(labels)?;
        self.state.lock().open(labels, counting, None)
    }

    /// As [`Rollup::slot`], for a series that was not there when its target was scraped at `zero_at`: it counted from
    /// zero since then, so its first sample counts in full.
    ///
    /// Not for the first scrape of a target, nor for a series that was only missed (a cut page): that would count its
    /// whole past at once.
    pub fn slot_since(&self, labels: &Labels, zero_at: Timestamp) -> Option<SlotId> {
        let counting = counting(labels)?;
        self.state.lock().open(labels, counting, Some(zero_at))
    }

    /// The slot for a series that differs only in `le` from the bucket that `neighbour` counts. `None` when it takes the
    /// labels to tell: ask [`Rollup::slot`] or [`Rollup::slot_since`].
    pub(crate) fn slot_beside(&self, neighbour: SlotId, bound: &str, zero_at: Option<Timestamp>) -> Option<SlotId> {
        self.state.lock().open_beside(neighbour, bound_of(bound)?, zero_at)
    }

    /// Whether series of that metric may count traffic of the mesh: no, for most.
    pub(crate) fn may_count(metric: &str) -> bool {
        match metric.strip_prefix("istio_") {
            Some(rest) => istio::COUNTED.contains(&rest),
            None => linkerd::COUNTED.contains(&metric),
        }
    }

    /// Counts the increments since each slot's last sample. A stale marker ends a slot's run without a reset.
    ///
    /// `at` is the time of the scrape. It moves the window of minutes held; a time outside the window does not (see
    /// [`Rollup::advance`]), and what would fall there is counted as missed.
    pub fn observe(&self, at: Timestamp, batch: &[(SlotId, f64)]) {
        self.state.lock().observe(at, batch);
    }

    /// Forgets a slot. What it counted stays.
    pub fn release(&self, slot: SlotId) {
        self.state.lock().release(slot);
    }

    /// Adds what was counted elsewhere (paired spans, or minutes read back from the store at start).
    ///
    /// A minute outside the window held is counted as missed. Until the first `observe` or `advance`, the minutes given
    /// here move the window.
    pub fn add(&self, minute: EdgeMinute) {
        self.state.lock().add(minute);
    }

    /// Moves the window of minutes to end `now`, backwards too. Samples move it on as well, but only within it: call this
    /// every few seconds with the clock's time, so that a clock that was set and a process that is only sent spans are
    /// followed.
    pub fn advance(&self, now: Timestamp) {
        self.state.lock().advance(now);
    }

    /// Everything counted in minutes that start at or after `from` and are still in memory, open minutes included.
    pub fn recent(&self, from: Timestamp) -> Vec<EdgeMinute> {
        let minutes = self.state.lock().minutes_from(from);
        // Minute by minute, so that scrapes need not wait for all of them.
        minutes.into_iter().flat_map(|minute| self.state.lock().edges_of(minute)).collect()
    }

    /// What each edge did in each of the windows, as far as memory holds it: one sum for each edge and window, under the
    /// window's start as its minute. The windows rise and do not overlap. Also the first minute in which any did something.
    pub fn sums(&self, windows: &[(Timestamp, Timestamp)]) -> (Vec<EdgeMinute>, Option<Timestamp>) {
        self.sums_of(&|_| true, windows)
    }

    /// The same of the wanted edges alone; the first minute is that of any edge.
    pub fn sums_of(
        &self,
        wanted: &dyn Fn(&EdgeKey) -> bool,
        windows: &[(Timestamp, Timestamp)],
    ) -> (Vec<EdgeMinute>, Option<Timestamp>) {
        let Some((from, _)) = windows.first() else { return (Vec::new(), None) };
        let minutes = self.state.lock().minutes_from(*from);
        let (mut all, mut first) = (Vec::new(), None);
        for (from, to) in windows {
            let mut sums = accumulator::Sums::of(wanted);
            for minute in minutes.iter().filter(|minute| (from.as_millis()..to.as_millis()).contains(*minute)) {
                // Minute by minute, so that scrapes need not wait for all of them.
                if self.state.lock().add_minute_to(*minute, &mut sums) && first.is_none() {
                    first = Some(Timestamp::from_millis(*minute));
                }
            }
            all.extend(sums.into_minutes(*from));
        }
        (all, first)
    }

    /// From now on a minute that leaves the window stays until [`Rollup::mark_written`], within `unwritten_limit`.
    pub fn hold_unwritten(&self) {
        self.state.lock().hold_unwritten();
    }

    /// What has changed since it was written: about `limit` minutes of edges, the oldest.
    pub fn unwritten(&self, limit: usize) -> Unwritten {
        let (minutes, oldest) = {
            let state = self.state.lock();
            (state.unwritten_minutes(), state.oldest_held())
        };
        let mut unwritten = Unwritten { complete_until: oldest.map(Timestamp::from_millis), ..Unwritten::default() };
        for minute in minutes {
            if unwritten.minutes.len() >= limit {
                let next = Timestamp::from_millis(minute);
                unwritten.complete_until = unwritten.complete_until.map(|until| until.min(next));
                break;
            }
            // Minute by minute, so that scrapes need not wait for all of them.
            let (states, minutes): (Vec<_>, Vec<_>) = self.state.lock().unwritten_of(minute).into_iter().unzip();
            unwritten.states.extend(states);
            unwritten.minutes.extend(minutes);
        }
        unwritten
    }

    /// Says that what [`Rollup::unwritten`] gave is written. What has changed meanwhile will be given again.
    pub fn mark_written(&self, written: &Unwritten) {
        self.state.lock().mark_written(&written.states);
    }

    /// Begins to count what a journal tells, from the minute `floor` on; it must hold all samples of the
    /// [`MAX_GAP`] before it as well. No scrape may run meanwhile.
    pub fn replay(&self, floor: Timestamp) -> Replay {
        Replay::new(self.clone(), floor)
    }

    /// When the target of these labels was last scraped well, as the replay told; told once. Ask at its first scrape.
    pub fn claim_target(&self, labels: &Labels) -> Option<Timestamp> {
        self.state.lock().claim_target(labels)
    }

    /// How much is held now.
    pub fn size(&self) -> Size {
        self.state.lock().size()
    }

    /// Bytes of what is held, about.
    pub fn size_bytes(&self) -> usize {
        self.state.lock().size_bytes()
    }

    /// What was done and refused.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }
}

/// What a series counts, and of which edge.
#[derive(Debug, PartialEq)]
pub(crate) struct Counting {
    edge: EdgeKey,
    counted: Counted,
}

/// What one increment of a series is one more of.
#[derive(Debug, PartialEq)]
pub(crate) enum Counted {
    /// Requests that ended so, or connections opened.
    Requests(Outcome),
    /// Requests at or under so many milliseconds.
    LatencyBucket(f64),
    /// Milliseconds of latency.
    LatencySum,
    /// Bytes from caller to called.
    RequestBytes,
    /// Bytes from called to caller.
    ResponseBytes,
    /// gRPC messages from caller to called.
    RequestMessages,
    /// gRPC messages from called to caller.
    ResponseMessages,
    /// Connections closed, and how when that was a failure.
    Closed(Option<Outcome>),
}

/// The one place that knows all meshes' series names.
fn counting(labels: &Labels) -> Option<Counting> {
    let name = labels.metric_name();
    if let Some(rest) = name.strip_prefix("istio_") {
        istio::counting(rest, labels)
    } else {
        linkerd::counting(name, labels)
    }
}

/// A label's value, when it says something: Istio writes `unknown` for what it does not know.
fn known(labels: &Labels, name: &str) -> Option<Arc<str>> {
    labels.get(name).filter(|value| !value.is_empty() && *value != "unknown").map(Arc::from)
}

/// Whether a host, with or without a port, is a bare address: one edge for each would be one for each client's whim.
fn is_address(host: &str) -> bool {
    let bare = host.rsplit_once(':').map_or(host, |(bare, _port)| bare);
    [host, bare.trim_matches(['[', ']'])].iter().any(|text| text.parse::<std::net::IpAddr>().is_ok())
}

/// The upper bound a bucket series' `le` label gives.
fn bucket_bound(labels: &Labels) -> Option<f64> {
    bound_of(labels.get("le")?)
}

fn bound_of(text: &str) -> Option<f64> {
    text.parse().ok().filter(|bound: &f64| !bound.is_nan())
}
