//! What the dispatcher is doing, for pages and APIs, and what they ask of it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::core::{Core, Inhibition, Notification, Path};
use super::dispatcher::{Counters, Delivery};
use super::plan::Plan;
use super::posted::{PostError, Posted};
use super::silence::Silences;
use crate::clock::Clock;
use crate::model::{Alert, Labels, Timestamp};

/// Attempts kept for the page.
const ATTEMPTS_KEPT: usize = 200;
/// Deliveries that people asked to make again and that are not yet under way.
const RETRIES_HELD: usize = 256;

/// One alert as it stands.
#[derive(Clone, Debug)]
pub struct AlertStatus {
    /// The alert.
    pub alert: Alert,
    /// When it was last heard of.
    pub updated_at: Timestamp,
    /// Receivers that it goes to, by their names in the order of the routes; empty within a group.
    pub receivers: Vec<String>,
    /// Ids of the silences that mute it.
    pub silenced_by: Vec<String>,
    /// Fingerprint of the alert that mutes it.
    pub inhibited_by: Vec<u64>,
}

/// One group as it stands.
#[derive(Clone, Debug)]
pub struct GroupStatus {
    /// Name of the receiver.
    pub receiver: String,
    /// Labels that make the group.
    pub labels: Labels,
    /// Its alerts that have not ended.
    pub alerts: Vec<AlertStatus>,
    /// Names of the times that muted it when it was last looked at.
    pub muted_by: Vec<String>,
    /// When it is looked at next.
    pub next_flush: Timestamp,
}

/// The outcome of one delivery.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// When it ended.
    pub at: Timestamp,
    /// Name of the receiver.
    pub receiver: String,
    /// Alertmanager's group key.
    pub group_key: String,
    /// Why it was told.
    pub reason: &'static str,
    /// Alerts told as firing.
    pub firing: usize,
    /// Alerts told as resolved.
    pub resolved: usize,
    /// Tries it took.
    pub tries: u32,
    /// `None` when it was delivered.
    pub error: Option<String>,
}

/// A delivery that is being sent or waits for its next try.
#[derive(Clone, Debug, PartialEq)]
pub struct UnderWay {
    /// Its id among all processes.
    pub id: String,
    /// Name of the receiver.
    pub receiver: String,
    /// What kind of integration that is.
    pub kind: String,
    /// Alertmanager's group key.
    pub group_key: String,
    /// When it became due.
    pub since: Timestamp,
    /// Tries that failed.
    pub tries: u32,
    /// Why the last one failed.
    pub last_error: Option<String>,
    /// When it is tried next; `None` while a try is under way.
    pub next_try: Option<Timestamp>,
}

/// How one delivery goes on: kept by its task, read by pages.
pub(super) struct Course {
    shown: UnderWay,
    /// Fires when people drop it.
    stop: CancellationToken,
}

impl UnderWay {
    /// A delivery that is recorded already.
    pub(super) fn of_delivery(delivery: &Delivery) -> Self {
        let Delivery { id, receiver, kind, group_key, created_at, .. } = delivery;
        Self::begun([id, receiver, kind, group_key], *created_at)
    }

    /// A delivery that is being made of a notification.
    pub(super) fn of_notification(id: &str, notification: &Notification) -> Self {
        let Notification { receiver, kind, group_key, at, .. } = notification;
        Self::begun([id, receiver, kind, group_key], *at)
    }

    fn begun(texts: [&str; 4], since: Timestamp) -> Self {
        let [id, receiver, kind, group_key] = texts.map(str::to_owned);
        Self { id, receiver, kind, group_key, since, tries: 0, last_error: None, next_try: None }
    }
}

/// Why a delivery is not made again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RetryError {
    /// No receiver of this name has such an integration any more.
    #[error("receiver `{0}` is gone")]
    ReceiverGone(String),
    /// It is being tried right now.
    #[error("the delivery is under way")]
    UnderWay,
    /// Too many were asked for at once.
    #[error("{RETRIES_HELD} deliveries wait already: ask again in a moment")]
    TooMany,
}

/// Handle of the dispatcher. Clones share it.
#[derive(Clone)]
pub struct Status(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) core: Mutex<Core>,
    pub(super) wake: Notify,
    pub(super) retries: Mutex<VecDeque<Delivery>>,
    /// The deliveries under way, by id.
    under_way: Mutex<HashMap<String, Course>>,
    attempts: Mutex<VecDeque<Attempt>>,
    counters: Arc<Counters>,
    silences: Silences,
    clock: Clock,
}

impl Status {
    pub(super) fn new(core: Core, silences: Silences, counters: Arc<Counters>, clock: Clock) -> Self {
        Self(Arc::new(Shared {
            core: Mutex::new(core),
            wake: Notify::new(),
            retries: Mutex::default(),
            under_way: Mutex::default(),
            attempts: Mutex::default(),
            counters,
            silences,
            clock,
        }))
    }

    /// Every alert that has not ended, by fingerprint.
    pub fn alerts(&self) -> Vec<AlertStatus> {
        self.0.core.lock().alert_statuses(self.0.clock.now())
    }

    /// Every group, by labels and receiver.
    pub fn groups(&self) -> Vec<GroupStatus> {
        self.0.core.lock().group_statuses(self.0.clock.now())
    }

    /// The last deliveries, newest first.
    pub fn attempts(&self) -> Vec<Attempt> {
        self.0.attempts.lock().iter().rev().cloned().collect()
    }

    /// Who is told now.
    pub fn plan(&self) -> Arc<Plan> {
        Arc::clone(self.0.core.lock().plan())
    }

    /// The silences.
    pub fn silences(&self) -> &Silences {
        &self.0.silences
    }

    /// Takes alerts of another Prometheus server.
    ///
    /// # Errors
    /// What is wrong with those that are not taken; the others are.
    pub fn post(&self, posted: Vec<Posted>) -> Result<(), Vec<PostError>> {
        let count = posted.len();
        let errors = self.0.core.lock().accept_posted(posted, self.0.clock.now());
        self.0.wake.notify_one();
        self.0.counters.posted.fetch_add((count - errors.len()) as u64, Ordering::Relaxed);
        self.0.counters.posted_refused.fetch_add(errors.len() as u64, Ordering::Relaxed);
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// Makes a delivery again, recorded like any other.
    ///
    /// # Errors
    /// When its receiver is gone, it is under way, or too many wait.
    pub fn retry(&self, delivery: Delivery) -> Result<(), RetryError> {
        if self.plan().integration(&delivery.receiver, delivery.integration, &delivery.kind).is_none() {
            return Err(RetryError::ReceiverGone(delivery.receiver));
        }
        if self.is_under_way(&delivery.id) {
            return Err(RetryError::UnderWay);
        }
        let mut retries = self.0.retries.lock();
        if retries.iter().any(|waiting| waiting.id == delivery.id) {
            return Err(RetryError::UnderWay);
        }
        if retries.len() >= RETRIES_HELD {
            return Err(RetryError::TooMany);
        }
        retries.push_back(delivery);
        drop(retries);
        self.0.wake.notify_one();
        Ok(())
    }

    /// Whether a delivery of this id is being sent or waits for its next try.
    pub fn is_under_way(&self, id: &str) -> bool {
        self.0.under_way.lock().contains_key(id)
    }

    /// The deliveries that are being sent or wait for their next try, the oldest first.
    pub fn under_way(&self) -> Vec<UnderWay> {
        let mut all: Vec<UnderWay> = self.0.under_way.lock().values().map(|course| course.shown.clone()).collect();
        all.sort_by(|a, b| (a.since, &a.id).cmp(&(b.since, &b.id)));
        all
    }

    /// Ends a delivery that is under way: it is not tried again, and its row is closed as failed. `false` when there is
    /// none of this id. Its group is told anew at its next flush, unless something keeps it quiet.
    pub fn drop_delivery(&self, id: &str) -> bool {
        let under_way = self.0.under_way.lock();
        let course = under_way.get(id);
        course.inspect(|course| course.stop.cancel()).is_some()
    }

    /// For each alert, given by its labels as they are told, the routes that take it and what their receivers know.
    pub fn explain<'a>(&self, alerts: impl IntoIterator<Item = &'a Labels>) -> Vec<Vec<Path>> {
        let now = self.0.clock.now();
        let core = self.0.core.lock();
        alerts.into_iter().map(|labels| core.explain(labels, now)).collect()
    }

    /// The inhibition rules that can keep an alert of these labels, as they are told, quiet; those that do so now first.
    pub fn inhibitions(&self, labels: &Labels) -> Vec<Inhibition> {
        self.0.core.lock().inhibitions(labels, self.0.clock.now())
    }

    /// Says that a delivery is under way; what comes back fires when people drop it.
    pub(super) fn begins(&self, shown: UnderWay) -> CancellationToken {
        let stop = CancellationToken::new();
        self.0.under_way.lock().insert(shown.id.clone(), Course { shown, stop: stop.clone() });
        stop
    }

    /// Says how the last try of a delivery went, and how long it pauses; no error: the next try begins.
    pub(super) fn goes_on(&self, id: &str, tries: u32, pause: Option<(&str, Duration)>) {
        let now = self.0.clock.now();
        if let Some(Course { shown, .. }) = self.0.under_way.lock().get_mut(id) {
            shown.tries = tries;
            shown.next_try = pause.map(|(_, pause)| now + pause);
            shown.last_error = pause.map(|(error, _)| error.to_owned()).or(shown.last_error.take());
        }
    }

    /// Says that a delivery has ended.
    pub(super) fn ended(&self, id: &str) {
        self.0.under_way.lock().remove(id);
    }

    pub(super) fn push(&self, attempt: Attempt) {
        let mut attempts = self.0.attempts.lock();
        if attempts.len() == ATTEMPTS_KEPT {
            attempts.pop_front();
        }
        attempts.push_back(attempt);
    }
}
