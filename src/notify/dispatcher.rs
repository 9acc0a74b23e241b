//! Runs the decisions of `core`: waits, records each delivery, sends it, retries it, remembers it.
//!
//! In: alerts, a plan that may change, silences. Out: requests and mails, [`Record`]s. Invariant: a delivery is offered to the
//! outbox before it is sent, so a crash leads to a second delivery, never to none; while the outbox is away the delivery
//! goes out all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::core::{Core, LogEntry, Notification};
use super::plan::Plan;
use super::receivers::Integration;
use super::receivers::post::SendError;
use super::receivers::webhook;
use super::silence::Silences;
use super::status::{Attempt, Status, UnderWay};
use crate::clock::Clock;
use crate::model::{Alert, Timestamp};

/// How long a delivery waits to be recorded before it goes out unrecorded.
const RECORD_PATIENCE: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long deliveries under way may take after shutdown began.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// What the row of a delivery says that people dropped.
const DROPPED: &str = "dropped by hand";
/// Least time a delivery is retried, however short the group interval.
const LEAST_RETRY_TIME: Duration = Duration::from_secs(10);

/// One delivery as the outbox keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Unique among all processes.
    pub id: String,
    /// Name of the receiver.
    pub receiver: String,
    /// Which of its integrations.
    pub integration: usize,
    /// What kind that is: `webhook`, `slack`, `pagerduty` or `email`.
    pub kind: String,
    /// Alertmanager's group key.
    pub group_key: String,
    /// What it tells, as payload version 4.
    pub payload: String,
    /// What is sent, without secrets; empty when a template failed.
    pub body: String,
    /// What the receiver knows when it is delivered; `None` for one that an earlier version recorded.
    pub told: Option<LogEntry>,
    /// When it became due.
    pub created_at: Timestamp,
}

/// What the outbox must write down.
#[derive(Debug)]
pub enum Record {
    /// About to be sent: answer when it is written.
    Due(Delivery, oneshot::Sender<()>),
    /// Delivered; the receiver now knows this.
    Delivered {
        /// Id of the delivery; one that was never due when resolved alerts are not told and only the log changes.
        id: String,
        /// When.
        at: Timestamp,
        /// What the receiver knows; `None` for a delivery of an earlier process.
        log: Option<LogEntry>,
    },
    /// Given up for this flush.
    Failed {
        /// Id of the delivery.
        id: String,
        /// When.
        at: Timestamp,
        /// Tries made.
        tries: u32,
        /// Why the last one failed.
        error: String,
    },
}

/// Counts since start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Deliveries that a receiver took.
    pub delivered: AtomicU64,
    /// Deliveries given up for their flush.
    pub failed: AtomicU64,
    /// Tries that failed and were repeated.
    pub retried: AtomicU64,
    /// Deliveries that could not be made because a template failed.
    pub templates_failed: AtomicU64,
    /// Deliveries sent without being recorded, because the outbox was away.
    pub unrecorded: AtomicU64,
    /// Alerts that others posted and that were taken.
    pub posted: AtomicU64,
    /// Alerts that others posted and that were not valid.
    pub posted_refused: AtomicU64,
}

/// Adds annotations to the alerts of one delivery; `true` says that the alert fires. It must answer within a fraction of a
/// second: the delivery waits for it. What it adds is no part of an alert's identity and never makes anybody be told.
pub type Annotator = Arc<dyn Fn(Vec<(Alert, bool)>, Timestamp) -> BoxFuture<'static, Vec<(Alert, bool)>> + Send + Sync>;

/// What a dispatcher is made of.
pub struct Inputs {
    /// Alerts from the rules.
    pub alerts: mpsc::Receiver<Vec<Alert>>,
    /// Who is told; a new value takes effect at once.
    pub plan: watch::Receiver<Arc<Plan>>,
    /// Silences; a change takes effect at the next flush.
    pub silences: Silences,
    /// Where deliveries are recorded.
    pub outbox: mpsc::Sender<Record>,
    /// What receivers were told before the restart.
    pub log: Vec<LogEntry>,
    /// Deliveries that an earlier process recorded and did not finish.
    pub unfinished: Vec<Delivery>,
    /// Our own address, for `externalURL`.
    pub external_url: String,
    /// What is known of alerts when they are told.
    pub annotator: Option<Annotator>,
}

/// The long-lived task.
pub struct Dispatcher {
    inputs: Inputs,
    clock: Clock,
    status: Status,
    counters: Arc<Counters>,
    sequence: u64,
    started_at: Timestamp,
    sending: JoinSet<Outcome>,
}

/// What the task of one delivery tells of itself, and what ends it early.
struct Course {
    status: Status,
    counters: Arc<Counters>,
    stop: CancellationToken,
}

struct Outcome {
    notification: Option<Notification>,
    delivery: Delivery,
    tries: u32,
    error: Option<String>,
}

impl Dispatcher {
    /// A dispatcher that has not started.
    pub fn new(mut inputs: Inputs, clock: Clock) -> Self {
        let plan = inputs.plan.borrow_and_update().clone();
        let core = Core::new(plan, std::mem::take(&mut inputs.log), inputs.silences.clone());
        let counters: Arc<Counters> = Arc::default();
        Self {
            status: Status::new(core, inputs.silences.clone(), Arc::clone(&counters), clock),
            inputs,
            clock,
            counters,
            sequence: 0,
            started_at: clock.now(),
            sending: JoinSet::new(),
        }
    }

    /// What it is doing, for pages.
    pub fn status(&self) -> Status {
        self.status.clone()
    }

    /// Counts since start.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Runs until `shutdown`, then gives deliveries under way a few seconds.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let unfinished = std::mem::take(&mut self.inputs.unfinished);
        self.take_up(unfinished);
        let status = self.status.clone();
        loop {
            let due = status.0.core.lock().take_due(self.clock.now());
            for notification in due {
                self.send(notification);
            }
            self.remember_cleared();
            self.make_again();
            let wake = status.0.core.lock().next_due().map(|at| self.clock.instant_of(at));
            tokio::select! {
                () = shutdown.cancelled() => break,
                alerts = self.inputs.alerts.recv() => match alerts {
                    Some(alerts) => status.0.core.lock().accept(alerts, self.clock.now()),
                    None => break,
                },
                Some(outcome) = self.sending.join_next() => self.finish(outcome.ok()),
                Ok(()) = self.inputs.plan.changed() => {
                    let plan = self.inputs.plan.borrow_and_update().clone();
                    status.0.core.lock().set_plan(plan, self.clock.now());
                }
                () = status.0.wake.notified() => {}
                () = wait_until(wake) => {}
            }
        }
        let drained = tokio::time::timeout(DRAIN_TIMEOUT, async {
            while let Some(outcome) = self.sending.join_next().await {
                self.finish(outcome.ok());
            }
        });
        if drained.await.is_err() {
            tracing::warn!(
                deliveries = self.sending.len(),
                "gave up deliveries under way: they are sent again at the next start"
            );
        }
    }

    fn send(&mut self, mut notification: Notification) {
        let plan = self.status.plan();
        let Notification { receiver, integration, kind, .. } = &notification;
        let Some(told_by) = plan.integration(receiver, *integration, kind).cloned() else { return };
        let (id, url) = (self.next_id(), self.inputs.external_url.clone());
        let course = self.course(UnderWay::of_notification(&id, &notification));
        let (outbox, counters, clock) = (self.inputs.outbox.clone(), Arc::clone(&self.counters), self.clock);
        let annotator = self.inputs.annotator.clone();
        self.sending.spawn(async move {
            if let Some(annotator) = annotator {
                notification.alerts = annotator(notification.alerts, notification.at).await;
            }
            let rendered = told_by.render(&notification, &url);
            let delivery = recorded(id, &notification, rendered.as_ref().ok(), &url);
            let patience = notification.deadline.since(clock.now()).max(LEAST_RETRY_TIME);
            record(&outbox, &delivery, &counters).await;
            let (tries, error) = match rendered {
                Ok(_) => deliver(&told_by, &delivery, patience, &course).await,
                Err(reason) => {
                    counters.templates_failed.fetch_add(1, Ordering::Relaxed);
                    (0, Some(reason))
                }
            };
            Outcome { notification: Some(notification), delivery, tries, error }
        });
    }

    /// Says that a delivery is under way.
    fn course(&self, shown: UnderWay) -> Course {
        let stop = self.status.begins(shown);
        Course { status: self.status.clone(), counters: Arc::clone(&self.counters), stop }
    }

    /// Writes down what changed in the log without a delivery.
    fn remember_cleared(&mut self) {
        let cleared = self.status.0.core.lock().take_cleared();
        for entry in cleared {
            let (id, at) = (self.next_id(), entry.at);
            if self.inputs.outbox.try_send(Record::Delivered { id, at, log: Some(entry) }).is_err() {
                self.counters.unrecorded.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn next_id(&mut self) -> String {
        self.sequence += 1;
        format!("{:x}-{:x}", self.started_at.as_millis(), self.sequence)
    }

    /// Makes the deliveries that people asked for again: recorded anew, because their rows are closed.
    fn make_again(&mut self) {
        let retries = std::mem::take(&mut *self.status.0.retries.lock());
        for delivery in retries {
            let plan = self.status.plan();
            let Some(told_by) = plan.integration(&delivery.receiver, delivery.integration, &delivery.kind) else {
                continue; // a reload took it away since it was asked for
            };
            let told_by = Arc::clone(told_by);
            let course = self.course(UnderWay::of_delivery(&delivery));
            let (outbox, counters) = (self.inputs.outbox.clone(), Arc::clone(&self.counters));
            self.sending.spawn(async move {
                record(&outbox, &delivery, &counters).await;
                let (tries, error) = deliver(&told_by, &delivery, LEAST_RETRY_TIME, &course).await;
                Outcome { notification: None, delivery, tries, error }
            });
        }
    }

    /// Takes up what an earlier process left: of several for one group and integration only the newest, which says what
    /// was true last.
    fn take_up(&mut self, mut unfinished: Vec<Delivery>) {
        unfinished.sort_by_key(|delivery| std::cmp::Reverse(delivery.created_at));
        let mut seen = std::collections::HashSet::new();
        for delivery in unfinished {
            match seen.insert((delivery.group_key.clone(), delivery.receiver.clone(), delivery.integration)) {
                true => self.send_again(delivery),
                false => self.close(delivery.id, "a newer delivery of this group takes its place".to_owned()),
            }
        }
    }

    /// Closes a row that nobody will send; otherwise every start would find it again.
    fn close(&mut self, id: String, error: String) {
        let record = Record::Failed { id, at: self.clock.now(), tries: 0, error };
        if self.inputs.outbox.try_send(record).is_err() {
            self.counters.unrecorded.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn send_again(&mut self, delivery: Delivery) {
        let plan = self.status.plan();
        let told_by = plan.integration(&delivery.receiver, delivery.integration, &delivery.kind);
        let Some(told_by) = told_by.cloned() else {
            tracing::warn!(receiver = %delivery.receiver, "a delivery of before the restart has lost its receiver");
            self.close(delivery.id, format!("receiver `{}` is gone", delivery.receiver));
            return;
        };
        if delivery.body.is_empty() {
            self.close(delivery.id, "its template failed before the restart".to_owned());
            return;
        }
        if let Some(told) = &delivery.told {
            self.status.0.core.lock().resend_begins(told, self.clock.now() + LONGEST_PAUSE * 2);
        }
        let course = self.course(UnderWay::of_delivery(&delivery));
        self.sending.spawn(async move {
            let (tries, error) = deliver(&told_by, &delivery, LONGEST_PAUSE, &course).await;
            Outcome { notification: None, delivery, tries, error }
        });
    }

    fn finish(&mut self, outcome: Option<Outcome>) {
        let Some(Outcome { notification, delivery, tries, error }) = outcome else { return };
        let at = self.clock.now();
        self.status.ended(&delivery.id);
        let record = match &error {
            None => {
                self.counters.delivered.fetch_add(1, Ordering::Relaxed);
                Record::Delivered { id: delivery.id, at, log: delivery.told.clone() }
            }
            Some(error) => {
                self.counters.failed.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(receiver = %delivery.receiver, tries, "a notification was not delivered: {error}");
                Record::Failed { id: delivery.id, at, tries, error: error.clone() }
            }
        };
        // The outbox is bounded; when it is full the row stays unfinished, and a restart sends it again.
        if self.inputs.outbox.try_send(record).is_err() {
            self.counters.unrecorded.fetch_add(1, Ordering::Relaxed);
        }
        let Some(notification) = notification else {
            if let Some(told) = delivery.told {
                self.status.0.core.lock().resend_ended(told, error.is_none());
            }
            return;
        };
        self.status.0.core.lock().finished(&notification, error.is_none());
        let firing = notification.alerts.iter().filter(|(_, fires)| *fires).count();
        self.status.push(Attempt {
            at,
            receiver: delivery.receiver,
            group_key: delivery.group_key,
            reason: notification.reason,
            firing,
            resolved: notification.alerts.len() - firing,
            tries,
            error,
        });
    }
}

/// The row of a delivery that is about to be sent; without a body when a template failed.
fn recorded(id: String, notification: &Notification, body: Option<&String>, external_url: &str) -> Delivery {
    let Notification { receiver, integration, kind, group_key, log, at, .. } = notification;
    Delivery {
        id,
        receiver: receiver.clone(),
        integration: *integration,
        kind: (*kind).to_owned(),
        group_key: group_key.clone(),
        payload: webhook::payload(notification, 0, external_url).unwrap_or_default(),
        body: body.cloned().unwrap_or_default(),
        told: Some(log.clone()),
        created_at: *at,
    }
}

async fn wait_until(wake: Option<tokio::time::Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Writes a delivery down before it is sent. An outbox that does not answer in time must not keep people asleep.
async fn record(outbox: &mpsc::Sender<Record>, delivery: &Delivery, counters: &Counters) {
    let (written, answer) = oneshot::channel();
    let attempt = async {
        outbox.send(Record::Due(delivery.clone(), written)).await.ok()?;
        answer.await.ok()
    };
    if !matches!(tokio::time::timeout(RECORD_PATIENCE, attempt).await, Ok(Some(()))) {
        counters.unrecorded.fetch_add(1, Ordering::Relaxed);
    }
}

/// Tries until the receiver takes it, refuses it for good, people drop it, or patience ends. Returns the tries and the last
/// error.
async fn deliver(
    told_by: &Integration,
    delivery: &Delivery,
    patience: Duration,
    course: &Course,
) -> (u32, Option<String>) {
    let give_up_at = tokio::time::Instant::now() + patience;
    let (mut tries, mut pause) = (0, FIRST_PAUSE);
    loop {
        course.status.goes_on(&delivery.id, tries, None);
        tries += 1;
        let sent = tokio::select! {
            biased;
            () = course.stop.cancelled() => return (tries, Some(format!("{DROPPED} while it was sent"))),
            sent = told_by.send(&delivery.body) => sent,
        };
        let error = match sent {
            Ok(()) => return (tries, None),
            Err(SendError::Final(error)) => return (tries, Some(error)),
            Err(SendError::Recoverable(error)) => error,
        };
        let pause_now = jittered(pause, tries, &delivery.id);
        let resume_at = tokio::time::Instant::now() + pause_now;
        if resume_at >= give_up_at {
            return (tries, Some(error));
        }
        course.counters.retried.fetch_add(1, Ordering::Relaxed);
        course.status.goes_on(&delivery.id, tries, Some((&error, pause_now)));
        tokio::select! {
            () = course.stop.cancelled() => return (tries, Some(format!("{DROPPED}; the last try: {error}"))),
            () = tokio::time::sleep_until(resume_at) => {}
        }
        pause = pause.mul_f64(1.5).min(LONGEST_PAUSE);
    }
}

/// Half to one and a half times the pause, different for each delivery, so that a receiver is not hit by all at once.
fn jittered(pause: Duration, tries: u32, id: &str) -> Duration {
    use std::hash::BuildHasher;
    let hash = foldhash::fast::FixedState::default().hash_one((id, tries));
    pause.mul_f64(0.5 + (hash % 1024) as f64 / 1024.0)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
