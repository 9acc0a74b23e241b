//! Silences: alerts that people do not want to hear of for a while.
//!
//! In: requests to create, edit and expire, rows of an earlier process. Out: which silences mute which labels, and what
//! must be written down. The rules are those of Alertmanager's `silence` package: an active silence keeps its matchers and
//! its start, so an edit of these expires it and makes another. Invariant: no silence changes without an entry in the list
//! of those that are to be written. Knows no PostgreSQL.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::model::{Labels, Matcher, Timestamp};

/// How long a silence is shown after its end (Alertmanager's `data.retention`).
pub const SILENCE_RETENTION: Duration = Duration::from_secs(120 * 3600);
/// Most silences held, ended ones included; further ones are refused.
const SILENCES_MAX: usize = 50_000;
/// How long whoever changes a silence waits for it to be written down.
const WRITE_PATIENCE: Duration = Duration::from_secs(5);

/// Whether a silence acts now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SilenceState {
    /// Now.
    Active,
    /// Not yet.
    Pending,
    /// No longer.
    Expired,
}

impl SilenceState {
    /// The name that Alertmanager's API uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Pending => "pending",
            Self::Expired => "expired",
        }
    }
}

/// One silence. All matchers must hold for an alert to be muted.
#[derive(Clone, Debug, PartialEq)]
pub struct Silence {
    /// Unique id, a UUID; empty for one that is to be created.
    pub id: String,
    /// What it mutes.
    pub matchers: Vec<Matcher>,
    /// From when on.
    pub starts_at: Timestamp,
    /// Until when.
    pub ends_at: Timestamp,
    /// Who asked for it.
    pub created_by: String,
    /// Why.
    pub comment: String,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// Why a silence cannot be created or changed. The texts are those of Alertmanager.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SilenceError {
    /// No silence has this id.
    #[error("silence not found")]
    NotFound,
    /// The database did not take it in time.
    #[error("silence `{0}` acts, but is not yet written: a restart before the database is back would lose it")]
    NotWritten(String),
    /// It would mute everything that lacks a label.
    #[error("invalid silence: matcher set 0: at least one matcher must not match the empty string")]
    MatchesEmpty,
    /// A matcher of no label.
    #[error("invalid silence: invalid label matcher {0} in set 0: invalid label name \"\"")]
    NamelessMatcher(usize),
    /// It would end before it starts.
    #[error("Failed to create silence: start time must be before end time")]
    EndsBeforeStart,
    /// It would have ended already.
    #[error("Failed to create silence: end time can't be in the past")]
    EndsInThePast,
    /// There are too many.
    #[error("exceeded maximum number of silences: {SILENCES_MAX} (expire some; they are forgotten after 120h)")]
    TooMany,
}

impl Silence {
    /// Whether it acts at `now`.
    pub fn state(&self, now: Timestamp) -> SilenceState {
        match () {
            () if now < self.starts_at => SilenceState::Pending,
            () if now < self.ends_at => SilenceState::Active,
            () => SilenceState::Expired,
        }
    }

    /// Whether its matchers hold, whatever the time.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.matchers.iter().all(|matcher| matcher.matches_labels(labels))
    }

    /// Whether it mutes an alert of these labels at `now`.
    pub fn mutes(&self, labels: &Labels, now: Timestamp) -> bool {
        self.state(now) == SilenceState::Active && self.matches(labels)
    }

    /// What makes it one that can be created at `now`.
    ///
    /// # Errors
    /// The first thing wrong, in Alertmanager's order.
    pub fn check(&self, now: Timestamp) -> Result<(), SilenceError> {
        if self.starts_at >= self.ends_at {
            return Err(SilenceError::EndsBeforeStart);
        }
        if self.ends_at < now {
            return Err(SilenceError::EndsInThePast);
        }
        if let Some(at) = self.matchers.iter().position(|matcher| matcher.name.is_empty()) {
            return Err(SilenceError::NamelessMatcher(at));
        }
        if self.matchers.iter().all(Matcher::matches_empty) {
            return Err(SilenceError::MatchesEmpty);
        }
        Ok(())
    }

    /// Whether `edited` may take its place at `now` under the same id (Alertmanager `canUpdate`).
    fn may_become(&self, edited: &Self, now: Timestamp) -> bool {
        if self.matchers != edited.matchers {
            return false;
        }
        match self.state(now) {
            SilenceState::Active => {
                let second = |at: Timestamp| at.as_millis().div_euclid(1000);
                second(edited.starts_at) == second(self.starts_at) && edited.ends_at >= now
            }
            SilenceState::Pending => edited.starts_at >= now,
            SilenceState::Expired => false,
        }
    }
}

/// All silences, in memory. Clones share them.
#[derive(Clone, Default)]
pub struct Silences(Arc<Shared>);

#[derive(Default)]
struct Shared {
    held: Mutex<Held>,
    changed: Notify,
    /// Counts what was written down, so that whoever made a change can wait for it.
    written: tokio::sync::watch::Sender<u64>,
    /// Whether somebody writes them down.
    is_kept: std::sync::atomic::AtomicBool,
}

#[derive(Default)]
struct Held {
    silences: HashMap<String, Silence>,
    /// Ids of those that are to be written down.
    unwritten: BTreeSet<String>,
}

impl Silences {
    /// Creates a silence, or edits the one whose id it carries; returns the id it has now. One whose start has passed starts
    /// now. An edit that the rules do not allow ends the old silence and makes a new one.
    ///
    /// # Errors
    /// When it is not valid, its id is unknown, or there are too many.
    pub fn set(&self, mut silence: Silence, now: Timestamp) -> Result<String, SilenceError> {
        silence.check(now)?;
        silence.updated_at = now;
        let mut held = self.0.held.lock();
        let previous = held.silences.get(&silence.id).cloned();
        match &previous {
            None if !silence.id.is_empty() => return Err(SilenceError::NotFound),
            Some(previous) if previous.may_become(&silence, now) => {}
            _ => {
                if held.silences.len() >= SILENCES_MAX {
                    return Err(SilenceError::TooMany);
                }
                if let Some(previous) = previous {
                    held.expire(previous, now);
                }
                silence.id = uuid::Uuid::new_v4().to_string();
                silence.starts_at = silence.starts_at.max(now);
            }
        }
        let id = silence.id.clone();
        held.put(silence);
        drop(held);
        self.0.changed.notify_one();
        Ok(id)
    }

    /// Ends a silence now; one that has not begun never acts, one that has ended stays as it is.
    ///
    /// # Errors
    /// When its id is unknown.
    pub fn expire(&self, id: &str, now: Timestamp) -> Result<(), SilenceError> {
        let mut held = self.0.held.lock();
        let silence = held.silences.get(id).cloned().ok_or(SilenceError::NotFound)?;
        held.expire(silence, now);
        drop(held);
        self.0.changed.notify_one();
        Ok(())
    }

    /// One silence.
    pub fn get(&self, id: &str) -> Option<Silence> {
        self.0.held.lock().silences.get(id).cloned()
    }

    /// All silences as Alertmanager lists them: active ones by their end, pending ones by their start, then those that
    /// ended, the last first.
    pub fn list(&self, now: Timestamp) -> Vec<Silence> {
        let mut all: Vec<Silence> = self.0.held.lock().silences.values().cloned().collect();
        all.sort_by_cached_key(|silence| {
            let state = silence.state(now);
            let order = match state {
                SilenceState::Active => silence.ends_at.as_millis(),
                SilenceState::Pending => silence.starts_at.as_millis(),
                SilenceState::Expired => -silence.ends_at.as_millis(),
            };
            (state, order, silence.id.clone())
        });
        all
    }

    /// Those that act at `now`.
    pub fn active(&self, now: Timestamp) -> Vec<Silence> {
        let held = self.0.held.lock();
        held.silences.values().filter(|silence| silence.state(now) == SilenceState::Active).cloned().collect()
    }

    /// Takes up what is stored. Of two of one id the one that was changed last stays.
    pub fn merge(&self, stored: Vec<Silence>, now: Timestamp) {
        let mut held = self.0.held.lock();
        let mut changes = false;
        for silence in stored.into_iter().filter(|silence| silence.ends_at + SILENCE_RETENTION > now) {
            let newer = held.silences.get(&silence.id).is_none_or(|known| known.updated_at < silence.updated_at);
            if newer && held.silences.len() < SILENCES_MAX {
                changes = true;
                held.silences.insert(silence.id.clone(), silence);
            }
        }
        drop(held);
        if changes {
            tracing::info!("silences were read from the database");
        }
    }

    /// Forgets those whose retention is over; returns how many.
    pub fn forget_old(&self, now: Timestamp) -> usize {
        let mut held = self.0.held.lock();
        let before = held.silences.len();
        let Held { silences, unwritten } = &mut *held;
        silences.retain(|id, silence| unwritten.contains(id) || silence.ends_at + SILENCE_RETENTION > now);
        before - silences.len()
    }

    /// Says that somebody writes changes down from now on.
    pub fn keep(&self) {
        self.0.is_kept.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    /// Waits until a silence is written down as it is; at once when nobody writes them down.
    ///
    /// # Errors
    /// When that takes too long: it acts all the same, and is written when the database is back.
    pub async fn wait_written(&self, id: &str) -> Result<(), SilenceError> {
        if !self.0.is_kept.load(std::sync::atomic::Ordering::Relaxed) {
            return Ok(());
        }
        let mut written = self.0.written.subscribe();
        let wait = async {
            while self.0.held.lock().unwritten.contains(id) {
                if written.changed().await.is_err() {
                    break;
                }
            }
        };
        tokio::time::timeout(WRITE_PATIENCE, wait).await.map_err(|_| SilenceError::NotWritten(id.to_owned()))
    }

    /// Waits for a change that is to be written down.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// The silences that are not yet written down.
    pub fn unwritten(&self) -> Vec<Silence> {
        let held = self.0.held.lock();
        held.unwritten.iter().filter_map(|id| held.silences.get(id).cloned()).collect()
    }

    /// Says that a silence is written as it was at `updated_at`.
    pub fn written(&self, id: &str, updated_at: Timestamp) {
        let mut held = self.0.held.lock();
        if held.silences.get(id).is_none_or(|silence| silence.updated_at <= updated_at) {
            held.unwritten.remove(id);
        }
        drop(held);
        self.0.written.send_modify(|count| *count += 1);
    }
}

impl Held {
    fn put(&mut self, silence: Silence) {
        self.unwritten.insert(silence.id.clone());
        self.silences.insert(silence.id.clone(), silence);
    }

    fn expire(&mut self, mut silence: Silence, now: Timestamp) {
        match silence.state(now) {
            SilenceState::Expired => return,
            SilenceState::Pending => (silence.starts_at, silence.ends_at) = (now, now),
            SilenceState::Active => silence.ends_at = now,
        }
        silence.updated_at = now;
        self.put(silence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::parse_matchers;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_763_835_000_000) + Duration::from_secs(seconds)
    }

    fn silence(matchers: &str, from: u64, to: u64) -> Silence {
        Silence {
            id: String::new(),
            matchers: parse_matchers(matchers).expect("matchers"),
            starts_at: at(from),
            ends_at: at(to),
            created_by: "me".into(),
            comment: "why".into(),
            updated_at: at(0),
        }
    }

    #[test]
    fn edits_follow_alertmanagers_rules() {
        let silences = Silences::default();
        let id = silences.set(silence("a=b", 0, 1000), at(10)).expect("created");
        let active = silences.get(&id).expect("held");
        assert_eq!((active.starts_at, active.state(at(10))), (at(10), SilenceState::Active), "a past start is now");

        let longer = Silence { ends_at: at(2000), comment: "longer".into(), ..active.clone() };
        assert_eq!(silences.set(longer.clone(), at(20)).as_ref(), Ok(&id), "the end and the comment may change");
        let other = silences.set(Silence { matchers: parse_matchers("a=c").expect("m"), ..longer }, at(30));
        let other = other.expect("made anew");
        assert_ne!(other, id);
        let old = silences.get(&id).expect("kept");
        assert_eq!((old.state(at(30)), old.ends_at), (SilenceState::Expired, at(30)));

        let pending = silences.set(silence("q=r", 500, 1000), at(40)).expect("created");
        let moved = Silence { id: pending.clone(), ..silence("q=r", 600, 1000) };
        assert_eq!(silences.set(moved, at(40)), Ok(pending.clone()), "a pending one may move");
        let replaced = Silence { id: pending.clone(), ..silence("q=s", 600, 1000) };
        assert_ne!(silences.set(replaced, at(40)).expect("made anew"), pending);

        silences.expire(&other, at(50)).expect("known");
        silences.expire(&other, at(60)).expect("ended ones stay ended");
        assert_eq!(silences.get(&other).map(|s| s.ends_at), Some(at(50)));
        let revived = Silence { id: other.clone(), ..silence("a=c", 0, 1000) };
        assert_ne!(silences.set(revived, at(60)).expect("made anew"), other);
        assert_eq!(silences.expire("nobody", at(60)), Err(SilenceError::NotFound));
        let states: Vec<&str> = silences.list(at(60)).iter().map(|s| s.state(at(60)).as_str()).collect();
        assert_eq!(states, ["active", "pending", "expired", "expired", "expired"]);
    }

    #[test]
    fn refuses_in_alertmanagers_words_and_order() {
        let check = |silence: Silence, expect: &str| {
            let error = Silences::default().set(silence, at(100)).expect_err(expect);
            assert_eq!(error.to_string(), expect);
        };
        check(silence("a=b", 200, 200), "Failed to create silence: start time must be before end time");
        check(silence("a=b", 0, 50), "Failed to create silence: end time can't be in the past");
        check(
            silence("a=~.*", 0, 500),
            "invalid silence: matcher set 0: at least one matcher must not match the empty string",
        );
        check(Silence { id: "x".into(), ..silence("a=b", 0, 500) }, "silence not found");
    }

    #[test]
    fn ended_silences_are_forgotten_after_their_retention_and_changes_are_written_once() {
        let silences = Silences::default();
        let id = silences.set(silence("a=b", 0, 100), at(0)).expect("created");
        let unwritten = silences.unwritten();
        silences.expire(&id, at(50)).expect("known");
        silences.written(&id, unwritten[0].updated_at);
        assert_eq!(silences.unwritten().len(), 1, "it changed while it was written");
        assert_eq!(silences.forget_old(at(50) + SILENCE_RETENTION), 0, "what is not written is kept");
        silences.written(&id, at(50));
        assert_eq!(silences.forget_old(at(49) + SILENCE_RETENTION), 0);
        assert_eq!(silences.forget_old(at(50) + SILENCE_RETENTION), 1);
    }

    #[test]
    fn of_two_versions_the_newer_one_stays() {
        let silences = Silences::default();
        let id = silences.set(silence("a=b", 0, 1000), at(10)).expect("created");
        let stored =
            |seconds| Silence { id: id.clone(), ends_at: at(50), updated_at: at(seconds), ..silence("a=b", 10, 50) };
        silences.merge(vec![stored(5)], at(20));
        assert_eq!(silences.get(&id).map(|s| s.ends_at), Some(at(1000)));
        silences.merge(vec![stored(15)], at(20));
        assert_eq!(silences.get(&id).map(|s| s.ends_at), Some(at(50)));
    }
}
