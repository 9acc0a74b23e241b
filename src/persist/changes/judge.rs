//! Finds out what changes did to the traffic, some minutes after them and again when more is known.
//!
//! Invariant: edge minutes are read in pieces, so that what is held is bounded by what is governed.

use std::collections::{BTreeSet, HashMap, VecDeque};
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
    /// Effects to be written.
    pub(super) unwritten: VecDeque<(String, Timestamp, Json)>,
}

impl Judge {
    pub(super) fn new(archive: Archive, book: ChangeBook) -> Self {
        Self { archive, book, done: HashMap::new(), last: Timestamp::MIN, unwritten: VecDeque::new() }
    }

    /// Judges the changes that are due; whether something is to be written.
    pub(super) async fn round(&mut self, now: Timestamp) -> bool {
        if now >= self.last && now.since(self.last) < ROUND && self.last != Timestamp::MIN {
            return !self.unwritten.is_empty();
        }
        self.last = now;
        let oldest = now - (STAGES[STAGES.len() - 1] + PIECE);
        self.done.retain(|(_, at), _| *at >= oldest - TOGETHER);
        let recent = self.book.recent(oldest - TOGETHER);
        let due: Vec<&Arc<Change>> =
            recent.iter().filter(|one| one.at >= oldest && self.is_due(one, now)).take(CHANGES_MAX).collect();
        if due.is_empty() {
            return !self.unwritten.is_empty();
        }
        // Others of the same minutes share the blame, so their edges are looked at too.
        let near = |one: &&Arc<Change>| due.iter().any(|two| one.at.max(two.at).since(one.at.min(two.at)) <= TOGETHER);
        let together: Vec<Arc<Change>> = recent.iter().filter(near).take(2 * CHANGES_MAX).cloned().collect();
        let edges = self.edges(&together, now).await;
        for change in due {
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
