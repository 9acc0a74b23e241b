//! Who must be told what and when: pure state, driven by timestamps.
//!
//! In: alerts, the time, the outcome of deliveries. Out: [`Notification`]s that are due. Does no IO and reads no clock,
//! so that hours of alerts can be simulated in a test.

mod explain;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::group::{Group, When, reason_to_tell};
use super::mute::{Quiet, Sources};
use super::order;
use super::plan::{Plan, Receiver};
use super::posted::{Known, PostError, Posted};
use super::silence::Silences;
use super::status::{AlertStatus, GroupStatus};
use crate::model::{Alert, Labels, Timestamp};

pub use explain::{Inhibition, Knows, Path};

/// What a receiver was last told of a group; kept across restarts.
#[derive(Clone, Debug, PartialEq)]
pub struct LogEntry {
    /// Which group.
    pub group_key: String,
    /// Which receiver.
    pub receiver: String,
    /// Which of its integrations.
    pub integration: usize,
    /// Fingerprints told as firing.
    pub firing: HashSet<u64>,
    /// Fingerprints told as resolved.
    pub resolved: HashSet<u64>,
    /// When.
    pub at: Timestamp,
}

/// One message that is due to one integration of one receiver.
#[derive(Clone, Debug)]
pub struct Notification {
    /// Name of the receiver.
    pub receiver: String,
    /// Which of its integrations.
    pub integration: usize,
    /// What kind that is, `webhook`.
    pub kind: &'static str,
    /// Alertmanager's group key.
    pub group_key: String,
    /// Labels that make the group.
    pub group_labels: Labels,
    /// The alerts to tell of, with whether each fires; by job, instance and labels, as Alertmanager sorts them.
    pub alerts: Vec<(Alert, bool)>,
    /// Why it is told now.
    pub reason: &'static str,
    /// When it became due.
    pub at: Timestamp,
    /// Until when it is retried.
    pub deadline: Timestamp,
    pub(super) group: u64,
    pub(super) log: LogEntry,
}

/// How soon a group is looked at again that was due while its last deliveries were under way.
const BUSY_PAUSE: Duration = Duration::from_millis(500);
/// How long past their deadline deliveries may be under way before their group is told again all the same.
const BUSY_LIMIT: Duration = Duration::from_secs(120);

/// How often alerts that have ended are forgotten.
const FORGET_PAUSE: Duration = Duration::from_secs(1);
/// Most alerts held before further posted ones are refused. Those of our own rules are bounded by the rules.
const POSTED_MAX: usize = 100_000;

/// The decisions of one dispatcher.
pub(super) struct Core {
    plan: Arc<Plan>,
    /// Every alert that has not ended, by fingerprint: what inhibition looks at.
    alerts: HashMap<u64, Known>,
    groups: HashMap<u64, Group>,
    by_route_and_labels: HashMap<(usize, Labels), u64>,
    due: BTreeSet<(Timestamp, u64)>,
    log: HashMap<(String, String, usize), LogEntry>,
    /// Entries that changed without a delivery and are not yet written down.
    cleared: Vec<LogEntry>,
    /// Deliveries of an earlier process that are made again, and until when their groups wait for them.
    resending: HashMap<(String, String, usize), Timestamp>,
    silences: Silences,
    /// The alerts that mute others, and until when this is known to hold.
    sources: Option<(Arc<Sources>, Timestamp)>,
    /// When alerts that have ended were last forgotten.
    forgot_at: Timestamp,
    next_group: u64,
}

impl Core {
    pub(super) fn new(plan: Arc<Plan>, log: Vec<LogEntry>, silences: Silences) -> Self {
        let log = log.into_iter().map(|e| ((e.group_key.clone(), e.receiver.clone(), e.integration), e)).collect();
        Self {
            plan,
            alerts: HashMap::new(),
            groups: HashMap::new(),
            by_route_and_labels: HashMap::new(),
            due: BTreeSet::new(),
            log,
            cleared: Vec::new(),
            resending: HashMap::new(),
            silences,
            sources: None,
            forgot_at: Timestamp::MIN,
            next_group: 0,
        }
    }

    pub(super) fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    #[cfg(test)]
    pub(super) fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.values()
    }

    /// Follows a new plan: every alert is routed anew, also one that has ended and was not yet told; what was told is
    /// remembered.
    pub(super) fn set_plan(&mut self, plan: Arc<Plan>, now: Timestamp) {
        self.plan = plan;
        let mut alerts = std::mem::take(&mut self.alerts);
        for group in std::mem::take(&mut self.groups).into_values() {
            for (fingerprint, alert) in group.alerts {
                let known = Known { alert, updated_at: now, assumes_end: false };
                alerts.entry(fingerprint).or_insert(known);
            }
        }
        self.by_route_and_labels.clear();
        self.due.clear();
        for known in alerts.into_values() {
            self.take(known, now);
        }
    }

    /// What the log holds anew without a delivery that would tell it, since the last call.
    pub(super) fn take_cleared(&mut self) -> Vec<LogEntry> {
        std::mem::take(&mut self.cleared)
    }

    #[cfg(test)]
    pub(super) fn told_count(&self) -> usize {
        self.log.len()
    }

    /// Takes alerts from the rules into their groups.
    pub(super) fn accept(&mut self, alerts: Vec<Alert>, now: Timestamp) {
        for mut alert in alerts {
            alert.labels = self.plan.told_labels(&alert.labels);
            self.take(Known { alert, updated_at: now, assumes_end: false }, now);
        }
    }

    /// Takes alerts that somebody posted: those that are valid; the reasons of the others, in their order. An alert that
    /// is known already is merged with what is known of it.
    pub(super) fn accept_posted(&mut self, posted: Vec<Posted>, now: Timestamp) -> Vec<PostError> {
        let mut errors = Vec::new();
        for posted in posted {
            let (alert, assumes_end) = match posted.into_alert(now, self.plan.resolve_timeout) {
                Ok(read) => read,
                Err(error) => {
                    errors.push(error);
                    continue;
                }
            };
            let known = Known { alert, updated_at: now, assumes_end };
            match self.alerts.get(&known.alert.labels.fingerprint()) {
                Some(earlier) => {
                    let merged = known.after(earlier, now);
                    self.take(merged, now);
                }
                None if self.alerts.len() >= POSTED_MAX => errors.push(PostError::TooMany(POSTED_MAX)),
                None => self.take(known, now),
            }
        }
        errors
    }

    fn take(&mut self, known: Known, now: Timestamp) {
        let fingerprint = known.alert.labels.fingerprint();
        for route in self.plan.routes_of(&known.alert.labels) {
            self.put(route, fingerprint, &known.alert, now);
        }
        self.alerts.insert(fingerprint, known);
        self.sources = None;
    }

    fn put(&mut self, route: usize, fingerprint: u64, alert: &Alert, now: Timestamp) {
        let settings = &self.plan.routes[route];
        let key = (route, settings.group_by.labels_of(&alert.labels));
        let Some(id) = self.by_route_and_labels.get(&key) else {
            if alert.ends_at() <= now && !self.was_told_firing(route, &key.1, fingerprint) {
                return; // resolved before its group was: nobody needs to hear
            }
            // An alert older than the wait is told at once, as after a restart.
            let started = alert.fired_at.unwrap_or(alert.active_at);
            let due = if started + settings.group_wait < now { now } else { now + settings.group_wait };
            let mut group = Group::new(route, key.1.clone(), due);
            group.take(fingerprint, alert);
            let id = self.next_group;
            self.next_group += 1;
            self.due.insert((due, id));
            self.groups.insert(id, group);
            self.by_route_and_labels.insert(key, id);
            return;
        };
        let Some(group) = self.groups.get_mut(id) else { return };
        let started = alert.fired_at.unwrap_or(alert.active_at);
        group.take(fingerprint, alert);
        if group.flushed_at.is_none() && started + settings.group_wait < now && group.due > now {
            self.due.remove(&(group.due, *id));
            group.due = now;
            self.due.insert((now, *id));
        }
    }

    /// Whether a receiver believes that this alert fires, as after a restart or a reload.
    fn was_told_firing(&self, route: usize, group: &Labels, fingerprint: u64) -> bool {
        let (key, receiver) = (self.group_key(route, group), self.receiver_of(route));
        (0..receiver.integrations.len()).any(|integration| {
            let entry = self.log.get(&(key.clone(), receiver.name.clone(), integration));
            entry.is_some_and(|entry| entry.firing.contains(&fingerprint))
        })
    }

    fn group_key(&self, route: usize, group: &Labels) -> String {
        format!("{}:{}", self.plan.routes[route].key, label_set_text(group))
    }

    fn receiver_of(&self, route: usize) -> &Receiver {
        &self.plan.receivers[self.plan.routes[route].receiver]
    }

    /// Takes a group that holds nothing any more away, and what was told of it: without an entry a new alert is told as
    /// with one that names none as firing.
    fn drop_group(&mut self, id: u64) {
        let Some(group) = self.groups.remove(&id) else { return };
        let (key, plan) = (self.group_key(group.route, &group.labels), Arc::clone(&self.plan));
        let receiver = &plan.receivers[plan.routes[group.route].receiver];
        for integration in 0..receiver.integrations.len() {
            let entry = (key.clone(), receiver.name.clone(), integration);
            if self.log.get(&entry).is_some_and(|entry| entry.firing.is_empty()) {
                self.log.remove(&entry);
            }
        }
        self.by_route_and_labels.remove(&(group.route, group.labels));
    }

    /// When something is due next.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Everything due at `now`. Each notification must be answered with [`Core::finished`].
    pub(super) fn take_due(&mut self, now: Timestamp) -> Vec<Notification> {
        let mut notifications = Vec::new();
        if self.next_due().is_some_and(|due| due <= now) {
            let quiet = self.quiet(now);
            while let Some((at, id)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
                self.due.remove(&(at, id));
                let is_resent = self.is_resent(id, now);
                match self.groups.get_mut(&id) {
                    Some(group) if is_resent || group.is_busy(now) => {
                        group.due = now + BUSY_PAUSE;
                        self.due.insert((group.due, id));
                    }
                    _ => self.flush(id, &quiet, &mut notifications),
                }
            }
        }
        if self.forgot_at + FORGET_PAUSE <= now {
            self.forgot_at = now;
            self.alerts.retain(|_, known| known.alert.ends_at() > now);
        }
        notifications
    }

    /// Says that a delivery which an earlier process left is made again: its group waits, or its receiver would hear twice.
    pub(super) fn resend_begins(&mut self, log: &LogEntry, until: Timestamp) {
        self.resending.insert((log.group_key.clone(), log.receiver.clone(), log.integration), until);
    }

    /// Takes the outcome of a delivery that was made again: a success is what the receiver knows now.
    pub(super) fn resend_ended(&mut self, log: LogEntry, delivered: bool) {
        let key = (log.group_key.clone(), log.receiver.clone(), log.integration);
        self.resending.remove(&key);
        if delivered && self.log.get(&key).is_none_or(|newer| newer.at <= log.at) {
            self.log.insert(key, log);
        }
    }

    fn is_resent(&self, id: u64, now: Timestamp) -> bool {
        let Some(group) = self.groups.get(&id).filter(|_| !self.resending.is_empty()) else { return false };
        let (key, receiver) = (self.group_key(group.route, &group.labels), self.receiver_of(group.route));
        (0..receiver.integrations.len()).any(|integration| {
            let until = self.resending.get(&(key.clone(), receiver.name.clone(), integration));
            until.is_some_and(|until| now < *until)
        })
    }

    fn flush(&mut self, id: u64, quiet: &Quiet, notifications: &mut Vec<Notification>) {
        let now = quiet.now;
        let Some(group) = self.groups.get(&id) else { return };
        if group.alerts.is_empty() {
            self.drop_group(id);
            return;
        }
        let plan = Arc::clone(&self.plan);
        let route = &plan.routes[group.route];
        let group_key = self.group_key(group.route, &group.labels);
        let audible: Vec<(u64, Alert, bool)> = (group.alerts.iter())
            .filter(|(_, alert)| !quiet.mutes(&plan, &alert.labels))
            .map(|(fingerprint, alert)| (*fingerprint, alert.clone(), alert.ends_at() > now))
            .collect();
        let telling_resolved = (group.alerts.iter())
            .filter(|(_, alert)| alert.ends_at() <= now)
            .map(|(fingerprint, alert)| (*fingerprint, alert.ends_at()))
            .collect();
        let receiver = &plan.receivers[route.receiver];
        let before = notifications.len();
        let muted_by = plan.muted_by(group.route, now);
        // Nobody hears of a group that is muted or of which everything is: not even that it is resolved.
        let is_heard = muted_by.is_empty() && !audible.is_empty();
        for (integration, told_by) in receiver.integrations.iter().enumerate().filter(|_| is_heard) {
            let of = |fires: bool| audible.iter().filter(|a| a.2 == fires).map(|a| a.0).collect::<HashSet<u64>>();
            let (firing, resolved) = (of(true), of(false));
            let last = self.log.get(&(group_key.clone(), receiver.name.clone(), integration));
            let when = When { now, repeat_interval: route.repeat_interval, send_resolved: told_by.send_resolved() };
            let Some(reason) = reason_to_tell(last, &firing, &resolved, when) else { continue };
            let log = LogEntry {
                group_key: group_key.clone(),
                receiver: receiver.name.clone(),
                integration,
                firing,
                resolved,
                at: now,
            };
            if log.firing.is_empty() && !told_by.send_resolved() {
                // Not sent, but remembered, so that the alert is told when it fires anew (Alertmanager's `RetryStage`).
                self.log.insert((group_key.clone(), receiver.name.clone(), integration), log.clone());
                self.cleared.push(log);
                continue;
            }
            let mut alerts: Vec<(Alert, bool)> = (audible.iter())
                .filter(|(_, _, fires)| *fires || told_by.send_resolved())
                .map(|(_, alert, fires)| (alert.clone(), *fires))
                .collect();
            alerts.sort_by(|(a, _), (b, _)| order::alerts(&a.labels, &b.labels));
            notifications.push(Notification {
                receiver: receiver.name.clone(),
                integration,
                kind: told_by.kind(),
                group_key: group_key.clone(),
                group_labels: group.labels.clone(),
                alerts,
                reason,
                at: now,
                deadline: now + route.group_interval,
                group: id,
                log,
            });
        }
        let (due, under_way) = (now + route.group_interval, notifications.len() - before);
        if let Some(group) = self.groups.get_mut(&id) {
            (group.due, group.under_way, group.failed, group.flushed_at) = (due, under_way, false, Some(now));
            group.telling_resolved = telling_resolved;
            group.muted_by = muted_by;
            group.busy_until = due + BUSY_LIMIT;
            if under_way == 0 {
                group.forget_told();
            }
        }
        self.due.insert((due, id));
    }

    /// Takes the outcome of a delivery. A success is remembered; resolved alerts leave their group when every integration
    /// has heard of them.
    pub(super) fn finished(&mut self, notification: &Notification, delivered: bool) {
        if delivered {
            let entry = notification.log.clone();
            let key = (entry.group_key.clone(), entry.receiver.clone(), entry.integration);
            if self.log.get(&key).is_none_or(|newer| newer.at <= entry.at) {
                self.log.insert(key, entry);
            }
        }
        let group = self.groups.get_mut(&notification.group);
        let Some(group) = group.filter(|group| group.flushed_at == Some(notification.at)) else {
            return; // of an earlier flush: the next one has taken its alerts over
        };
        group.under_way = group.under_way.saturating_sub(1);
        group.failed |= !delivered;
        if group.under_way == 0 && !group.failed {
            group.forget_told();
        }
    }

    /// What keeps alerts quiet at `now`, found once for all of them: a storm of alerts must not be compared each with each.
    fn quiet(&mut self, now: Timestamp) -> Quiet {
        let sources = match &self.sources {
            Some((sources, until)) if now < *until => Arc::clone(sources),
            _ => {
                let (sources, until) = Sources::of(&self.plan, self.alerts.values().map(|known| &known.alert), now);
                let sources = Arc::new(sources);
                self.sources = Some((Arc::clone(&sources), until));
                sources
            }
        };
        Quiet { now, silences: self.silences.active(now), sources }
    }

    /// Every alert that has not ended, by fingerprint.
    pub(super) fn alert_statuses(&mut self, now: Timestamp) -> Vec<AlertStatus> {
        let quiet = self.quiet(now);
        let mut found: Vec<(u64, AlertStatus)> = (self.alerts.iter())
            .filter(|(_, known)| known.alert.ends_at() >= now)
            .map(|(fingerprint, known)| {
                let routes = self.plan.routes_of(&known.alert.labels);
                let receivers = routes.into_iter().map(|route| self.receiver_of(route).name.clone()).collect();
                (*fingerprint, quiet.status(&self.plan, known, receivers))
            })
            .collect();
        found.sort_by_key(|(fingerprint, _)| *fingerprint);
        found.into_iter().map(|(_, status)| status).collect()
    }

    /// Every group with its alerts that have not ended, in Alertmanager's order.
    pub(super) fn group_statuses(&mut self, now: Timestamp) -> Vec<GroupStatus> {
        let quiet = self.quiet(now);
        let status_of = |group: &Group| {
            let mut alerts: Vec<AlertStatus> = (group.alerts.iter())
                .filter(|(_, alert)| alert.ends_at() >= now)
                .map(|(fingerprint, alert)| {
                    let known = self.alerts.get(fingerprint);
                    let updated_at = known.map_or(now, |known| known.updated_at);
                    let held = Known { alert: alert.clone(), updated_at, assumes_end: false };
                    quiet.status(&self.plan, &held, Vec::new())
                })
                .collect();
            alerts.sort_by(|a, b| order::alerts(&a.alert.labels, &b.alert.labels));
            GroupStatus {
                receiver: self.receiver_of(group.route).name.clone(),
                labels: group.labels.clone(),
                alerts,
                muted_by: group.muted_by.clone(),
                next_flush: group.due,
            }
        };
        let mut groups: Vec<GroupStatus> = self.groups.values().map(status_of).collect();
        groups.sort_by(|a, b| order::labels(&a.labels, &b.labels).then_with(|| a.receiver.cmp(&b.receiver)));
        groups
    }
}

/// A label set as Alertmanager's group key has it: `{a="b", c="d"}`.
pub(super) fn label_set_text(labels: &Labels) -> String {
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{{{}}}", pairs.join(", "))
}
