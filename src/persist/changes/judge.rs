//! Finds out what changes did to the traffic, some minutes after them and again when more is known; changes that nobody
//! looked at in time (the process was away, or the cluster told of them later) once, from what is stored.
//!
//! Invariant: edge minutes are read in pieces, so that what is held is bounded by what is governed.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;

use super::book::{ChangeBook, resource_key};
use crate::changes::{AFTER, BEFORE, Change, EdgeSeries, Gathering, effects, effects_json};
use crate::mesh::ResourceId;
use crate::model::Timestamp;
use crate::persist::Archive;

const MINUTE: Duration = Duration::from_secs(60);
/// How long after a change it is judged: once there is something to see, and at last when its window is full.
const STAGES: [Duration; 4] =
    [Duration::from_secs(150), Duration::from_secs(330), Duration::from_secs(600), Duration::from_secs(16 * 60 + 30)];
/// How old a change may be that is judged late: as old as memory knows changes.
const LATE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Late changes of one round lie within this time, so that a round reads little.
const LATE_SPAN: Duration = Duration::from_secs(3600);
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
    last: Timestamp,
    /// Changes that were judged late.
    late: HashSet<(ResourceId, Timestamp)>,
    /// Effects to be written.
    pub(super) unwritten: VecDeque<(String, Timestamp, Json)>,
}

impl Judge {
    pub(super) fn new(archive: Archive, book: ChangeBook) -> Self {
        Self {
            archive,
            book,
            done: HashMap::new(),
            last: Timestamp::MIN,
            late: HashSet::new(),
            unwritten: VecDeque::new(),
        }
    }

    /// Judges the changes that are due; whether something is to be written.
    pub(super) async fn round(&mut self, now: Timestamp) -> bool {
        if now >= self.last && now.since(self.last) < ROUND && self.last != Timestamp::MIN {
            return !self.unwritten.is_empty();
        }
        self.last = now;
        let oldest = now - (STAGES[STAGES.len() - 1] + PIECE);
        self.done.retain(|(_, at), _| *at >= oldest - TOGETHER);
        let mut recent = self.book.recent(oldest - TOGETHER);
        let is_due = |one: &&Arc<Change>| one.at >= oldest && self.is_due(one, now);
        let mut due: Vec<Arc<Change>> = recent.iter().filter(is_due).take(CHANGES_MAX).cloned().collect();
        if due.is_empty() {
            due = self.missed(oldest, now);
            let Some(first) = due.first() else { return !self.unwritten.is_empty() };
            recent = self.book.recent(first.at - TOGETHER);
            self.late.extend(due.iter().map(|one| (one.id.clone(), one.at)));
        }
        // Others of the same minutes share the blame, so their edges are looked at too.
        let near = |one: &&Arc<Change>| due.iter().any(|two| one.at.max(two.at).since(one.at.min(two.at)) <= TOGETHER);
        let together: Vec<Arc<Change>> = recent.iter().filter(near).take(2 * CHANGES_MAX).cloned().collect();
        let edges = self.edges(&together, now).await;
        for change in &due {
            self.done.insert((change.id.clone(), change.at), stage(change, now));
            let Some(place) = together.iter().position(|one| Arc::ptr_eq(one, change)) else { continue };
            let rivals = |edge: &EdgeSeries| {
                let is_near = |one: &Arc<Change>| one.at.max(change.at).since(one.at.min(change.at)) <= TOGETHER;
                let with = together.iter().zip(&edges).filter(|(one, (_, keys))| {
                    is_near(one) && keys.contains(&(edge.source.clone(), edge.target.clone()))
                });
                with.count()
            };
            let minute = usize::try_from(BEFORE.as_secs() / MINUTE.as_secs()).unwrap_or(usize::MAX);
            let found = effects(&edges[place].0, minute, rivals);
            if self.book.judged(&change.id, change.at, &found) {
                for effect in found.iter().filter(|effect| effect.is_worse()).take(3) {
                    tracing::info!("{}: {effect}", change.what());
                }
                self.unwritten.push_back((resource_key(&change.id), change.at, effects_json(&found)));
            }
        }
        true
    }

    /// The oldest changes that nobody judged while they were new. Not while the database is away, which has their traffic.
    fn missed(&mut self, oldest: Timestamp, now: Timestamp) -> Vec<Arc<Change>> {
        if self.archive.away().is_some() {
            return Vec::new();
        }
        let known = self.book.recent(now - LATE_MAX);
        self.late.retain(|(id, at)| known.iter().any(|one| one.at == *at && one.id == *id));
        let is_missed = |one: &&Arc<Change>| {
            let is_late = self.late.contains(&(one.id.clone(), one.at));
            one.at < oldest && one.effects.is_none() && !one.governs.is_nobody() && !is_late
        };
        // The newest come first.
        let mut missed: Vec<Arc<Change>> = known.iter().filter(is_missed).cloned().collect();
        missed.reverse();
        let until = missed.first().map_or(oldest, |first| first.at + LATE_SPAN);
        missed.into_iter().take_while(|one| one.at <= until).take(CHANGES_MAX).collect()
    }

    fn is_due(&self, change: &Change, now: Timestamp) -> bool {
        let done = self.done.get(&(change.id.clone(), change.at)).copied().unwrap_or(0);
        !change.governs.is_nobody() && stage(change, now) > done
    }

    /// The edges that each change governs, and their names.
    async fn edges(
        &self,
        changes: &[Arc<Change>],
        now: Timestamp,
    ) -> Vec<(Vec<EdgeSeries>, BTreeSet<(String, String)>)> {
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
        let mut at = from;
        while at < to {
            let next = (at + PIECE).min(to);
            let bounds: Vec<Timestamp> = std::iter::successors(Some(at), |minute| Some(*minute + MINUTE))
                .take_while(|minute| *minute <= next)
                .collect();
            // One window a minute.
            let minutes = self.archive.edge_sums(&bounds, now).await.edges;
            let gathering = tokio::task::spawn_blocking(move || {
                gatherings.iter_mut().for_each(|one| one.add(&minutes));
                gatherings
            });
            gatherings = match gathering.await {
                Ok(gatherings) => gatherings,
                Err(crashed) => {
                    tracing::error!("judging changes crashed: {crashed}");
                    return changes.iter().map(|_| Default::default()).collect();
                }
            };
            at = next;
        }
        let finished = gatherings.into_iter().map(|one| {
            let edges = one.finish();
            let keys = edges.iter().map(|edge| (edge.source.clone(), edge.target.clone())).collect();
            (edges, keys)
        });
        finished.collect()
    }
}

/// How many stages of a change have come.
fn stage(change: &Change, now: Timestamp) -> usize {
    let age = now.since(change.at.min(now));
    STAGES.iter().filter(|stage| age >= **stage).count()
}
