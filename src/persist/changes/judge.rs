//! Finds out what changes did to the traffic, some minutes after them and again when more is known; changes that nobody
//! looked at in time (the process or the database was away, the cluster told of them late) once, from what is stored.
//!
//! Invariant: edge minutes are read in pieces, so that what is held is bounded by what is governed.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;

use super::book::{ChangeBook, RECENT_AGE, resource_key};
use crate::changes::{AFTER, BEFORE, Change, EdgeSeries, Gathering, effects, effects_json};
use crate::mesh::ResourceId;
use crate::model::Timestamp;
use crate::persist::Archive;

const MINUTE: Duration = Duration::from_secs(60);
/// How long after a change it is judged: once there is something to see, and at last when its window is full.
const STAGES: [Duration; 4] =
    [Duration::from_secs(150), Duration::from_secs(330), Duration::from_secs(600), Duration::from_secs(16 * 60 + 30)];
/// Late changes of one round lie within this time, so that a round reads little.
const LATE_SPAN: Duration = Duration::from_secs(3600);
/// When late changes are tried again after not all of their traffic could be read.
const LATE_AGAIN: Duration = Duration::from_secs(10 * 60);
/// How old a minute must be to be taken for whole: scrapes spread what they count over it.
const SETTLED: Duration = Duration::from_secs(30);
/// Changes that count as of the same minutes.
const TOGETHER: Duration = Duration::from_secs(5 * 60);
/// Most changes of one round; more wait for the next.
const CHANGES_MAX: usize = 100;
/// How much of the edges is read at a time.
const PIECE: Duration = Duration::from_secs(5 * 60);
const ROUND: Duration = Duration::from_secs(10);

/// See the module.
pub(super) struct Judge {
    archive: Archive,
    book: ChangeBook,
    /// How many stages of each change are done.
    done: HashMap<(ResourceId, Timestamp), usize>,
    /// Changes whose last stage saw only a part of their traffic.
    unsure: HashSet<(ResourceId, Timestamp)>,
    last: Timestamp,
    /// No change is judged late before.
    late_from: Timestamp,
    /// Effects to be written.
    pub(super) unwritten: VecDeque<(String, Timestamp, Json)>,
}

impl Judge {
    pub(super) fn new(archive: Archive, book: ChangeBook) -> Self {
        let (done, unsure) = (HashMap::new(), HashSet::new());
        let (last, late_from) = (Timestamp::MIN, Timestamp::MIN);
        Self { archive, book, done, unsure, last, late_from, unwritten: VecDeque::new() }
    }

    /// Judges the changes that are due; whether something is to be written.
    pub(super) async fn round(&mut self, now: Timestamp) -> bool {
        if now >= self.last && now.since(self.last) < ROUND && self.last != Timestamp::MIN {
            return !self.unwritten.is_empty();
        }
        self.last = now;
        let oldest = now - (STAGES[STAGES.len() - 1] + PIECE);
        // The newest come first.
        let known = self.book.recent(now - RECENT_AGE);
        self.forget(&known);
        let in_time = |one: &&Arc<Change>| one.at >= oldest && self.is_due(one, now);
        let mut due: Vec<Arc<Change>> = known.iter().filter(in_time).take(CHANGES_MAX).cloned().collect();
        let is_late = due.is_empty();
        if is_late {
            due = self.missed(&known, oldest, now);
        }
        if due.is_empty() {
            return !self.unwritten.is_empty();
        }
        // Others of the same minutes share the blame, so their edges are looked at too.
        let near = |one: &&Arc<Change>| due.iter().any(|two| one.at.max(two.at).since(one.at.min(two.at)) <= TOGETHER);
        let together: Vec<Arc<Change>> = known.iter().filter(near).take(2 * CHANGES_MAX).cloned().collect();
        let (edges, is_whole) = self.edges(&together, now).await;
        if is_late && !is_whole {
            self.late_from = now + LATE_AGAIN;
            return !self.unwritten.is_empty();
        }
        for change in &due {
            let key = (change.id.clone(), change.at);
            let stage = stage(change, now);
            if is_whole {
                self.unsure.remove(&key);
            } else if stage == STAGES.len() {
                self.unsure.insert(key.clone());
            }
            self.done.insert(key, stage);
            let Some(place) = together.iter().position(|one| Arc::ptr_eq(one, change)) else { continue };
            self.judge(change, &edges[place].0, (&together, &edges));
        }
        true
    }

    /// Says what one change did, by its own edges and those of the changes around it.
    fn judge(&mut self, change: &Change, own: &[EdgeSeries], (together, edges): (&[Arc<Change>], &[Governed])) {
        let rivals = |edge: &EdgeSeries| {
            let is_near = |one: &Arc<Change>| one.at.max(change.at).since(one.at.min(change.at)) <= TOGETHER;
            let with = together
                .iter()
                .zip(edges)
                .filter(|(one, (_, keys))| is_near(one) && keys.contains(&(edge.source.clone(), edge.target.clone())));
            with.count()
        };
        let minute = usize::try_from(BEFORE.as_secs() / MINUTE.as_secs()).unwrap_or(usize::MAX);
        let found = effects(own, minute, rivals);
        if self.book.judged(&change.id, change.at, &found) {
            for effect in found.iter().filter(|effect| effect.is_worse()).take(3) {
                tracing::info!("{}: {effect}", change.what());
            }
            self.unwritten.push_back((resource_key(&change.id), change.at, effects_json(&found)));
        }
    }

    /// Drops what is remembered of changes that memory does not know any more.
    fn forget(&mut self, known: &[Arc<Change>]) {
        let known: HashSet<(&ResourceId, Timestamp)> = known.iter().map(|one| (&one.id, one.at)).collect();
        self.done.retain(|(id, at), _| known.contains(&(id, *at)));
        self.unsure.retain(|(id, at)| known.contains(&(id, *at)));
    }

    /// The oldest changes that this process did not judge to their end while they were new. None while the database is
    /// away, which has their traffic, nor where it has no minutes of it any more.
    fn missed(&self, known: &[Arc<Change>], oldest: Timestamp, now: Timestamp) -> Vec<Arc<Change>> {
        if self.archive.away().is_some() || now < self.late_from {
            return Vec::new();
        }
        let minutes_from = self.archive.minutes_from(now) + BEFORE + MINUTE;
        let is_missed = |one: &&Arc<Change>| {
            // What the process before found stays: whom the change governed then it knew better.
            let is_new = self.is_due(one, now) && one.effects.as_ref().is_none_or(|found| found.is_empty());
            let is_unsure = || self.unsure.contains(&(one.id.clone(), one.at));
            one.at < oldest && one.at >= minutes_from && !one.governs.is_nobody() && (is_new || is_unsure())
        };
        let mut missed: Vec<Arc<Change>> = known.iter().filter(is_missed).cloned().collect();
        missed.reverse();
        let until = missed.first().map_or(oldest, |first| first.at + LATE_SPAN);
        missed.into_iter().take_while(|one| one.at <= until).take(CHANGES_MAX).collect()
    }

    fn is_due(&self, change: &Change, now: Timestamp) -> bool {
        let done = self.done.get(&(change.id.clone(), change.at)).copied().unwrap_or(0);
        !change.governs.is_nobody() && stage(change, now) > done
    }

    /// The edges that each change governs, and whether all of their traffic could be read.
    async fn edges(&self, changes: &[Arc<Change>], now: Timestamp) -> (Vec<Governed>, bool) {
        let end = (now - SETTLED).floor_to(MINUTE);
        let mut gatherings: Vec<Gathering> = Vec::new();
        let (mut from, mut to) = (end, Timestamp::MIN);
        for change in changes {
            let minute = change.at.floor_to(MINUTE);
            let first = minute - BEFORE;
            let last = (minute + AFTER + MINUTE).min(end);
            let count = usize::try_from(last.since(first).as_secs() / MINUTE.as_secs()).unwrap_or(0);
            gatherings.push(Gathering::new(change.governs.clone(), first, count));
            (from, to) = (from.min(first), to.max(last));
        }
        let (mut at, mut is_whole) = (from, true);
        while at < to {
            let next = (at + PIECE).min(to);
            let bounds: Vec<Timestamp> = std::iter::successors(Some(at), |minute| Some(*minute + MINUTE))
                .take_while(|minute| *minute <= next)
                .collect();
            // One window a minute.
            let range = self.archive.edge_sums(&bounds, now).await;
            is_whole &= range.warning.is_none();
            let minutes = range.edges;
            let gathering = tokio::task::spawn_blocking(move || {
                gatherings.iter_mut().for_each(|one| one.add(&minutes));
                gatherings
            });
            gatherings = match gathering.await {
                Ok(gatherings) => gatherings,
                Err(crashed) => {
                    tracing::error!("judging changes crashed: {crashed}");
                    return (changes.iter().map(|_| Default::default()).collect(), true);
                }
            };
            at = next;
        }
        let finished = gatherings.into_iter().map(|one| {
            let edges = one.finish();
            let keys = edges.iter().map(|edge| (edge.source.clone(), edge.target.clone())).collect();
            (edges, keys)
        });
        (finished.collect(), is_whole)
    }
}

/// The edges that a change governs, and the names of their ends.
type Governed = (Vec<EdgeSeries>, BTreeSet<(String, String)>);

/// How many stages of a change have come.
fn stage(change: &Change, now: Timestamp) -> usize {
    let age = now.since(change.at.min(now));
    STAGES.iter().filter(|stage| age >= **stage).count()
}
