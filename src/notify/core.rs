//! Who must be told what and when: pure state, driven by timestamps.
//!
//! In: alerts, the time, the outcome of deliveries. Out: [`Notification`]s that are due. Does no IO and reads no clock,
//! so that hours of alerts can be simulated in a test.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::group::{Group, When, reason_to_tell};
use super::plan::{InhibitRule, Plan, Receiver};
use super::silence::Silence;
use crate::model::{Alert, Labels, Matcher, Timestamp};

/// What a receiver was last told of a group; kept across restarts.
#[derive(Clone, Debug, PartialEq)]
pub struct LogEntry {
    /// Which group.
    pub group_key: String,
    /// Which receiver.
    pub receiver: String,
    /// Which of its webhooks.
    pub integration: usize,
    /// Fingerprints told as firing.
    pub firing: HashSet<u64>,
    /// Fingerprints told as resolved.
    pub resolved: HashSet<u64>,
    /// When.
    pub at: Timestamp,
}

/// One message that is due to one webhook of one receiver.
#[derive(Clone, Debug)]
pub struct Notification {
    /// Name of the receiver.
    pub receiver: String,
    /// Which of its webhooks.
    pub integration: usize,
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

/// The decisions of one dispatcher.
pub(super) struct Core {
    plan: Arc<Plan>,
    /// Every alert that has not ended, by fingerprint: what inhibition looks at.
    alerts: HashMap<u64, Alert>,
    groups: HashMap<u64, Group>,
    by_route_and_labels: HashMap<(usize, Labels), u64>,
    due: BTreeSet<(Timestamp, u64)>,
    log: HashMap<(String, String, usize), LogEntry>,
    /// Entries that changed without a delivery and are not yet written down.
    cleared: Vec<LogEntry>,
    silences: Vec<Silence>,
    next_group: u64,
}

impl Core {
    pub(super) fn new(plan: Arc<Plan>, log: Vec<LogEntry>) -> Self {
        let log = log.into_iter().map(|e| ((e.group_key.clone(), e.receiver.clone(), e.integration), e)).collect();
        Self {
            plan,
            alerts: HashMap::new(),
            groups: HashMap::new(),
            by_route_and_labels: HashMap::new(),
            due: BTreeSet::new(),
            log,
            cleared: Vec::new(),
            silences: Vec::new(),
            next_group: 0,
        }
    }

    pub(super) fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

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
                alerts.entry(fingerprint).or_insert(alert);
            }
        }
        self.by_route_and_labels.clear();
        self.due.clear();
        self.accept(alerts.into_values().collect(), now);
    }

    /// What the log holds anew without a delivery that would tell it, since the last call.
    pub(super) fn take_cleared(&mut self) -> Vec<LogEntry> {
        std::mem::take(&mut self.cleared)
    }

    #[cfg(test)]
    pub(super) fn told_count(&self) -> usize {
        self.log.len()
    }

    pub(super) fn set_silences(&mut self, silences: Vec<Silence>) {
        self.silences = silences;
    }

    /// Takes alerts from the rules into their groups.
    pub(super) fn accept(&mut self, alerts: Vec<Alert>, now: Timestamp) {
        for mut alert in alerts {
            alert.labels = self.plan.external_labels.merged(&alert.labels);
            let fingerprint = alert.labels.fingerprint();
            for route in self.plan.routes_of(&alert.labels) {
                self.put(route, fingerprint, &alert, now);
            }
            self.alerts.insert(fingerprint, alert);
        }
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
        (0..receiver.webhooks.len()).any(|integration| {
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
        for integration in 0..receiver.webhooks.len() {
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
            let sources = self.inhibition_sources(now);
            while let Some((at, id)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
                self.due.remove(&(at, id));
                match self.groups.get_mut(&id) {
                    Some(group) if group.is_busy(now) => {
                        group.due = now + BUSY_PAUSE;
                        self.due.insert((group.due, id));
                    }
                    _ => self.flush(id, (now, &sources), &mut notifications),
                }
            }
        }
        self.alerts.retain(|_, alert| alert.ends_at() > now);
        notifications
    }

    fn flush(&mut self, id: u64, (now, sources): (Timestamp, &Sources), notifications: &mut Vec<Notification>) {
        let Some(group) = self.groups.get(&id) else { return };
        if group.alerts.is_empty() {
            self.drop_group(id);
            return;
        }
        let plan = Arc::clone(&self.plan);
        let route = &plan.routes[group.route];
        let group_key = self.group_key(group.route, &group.labels);
        let audible: Vec<(u64, Alert, bool)> = (group.alerts.iter())
            .filter(|(_, alert)| !self.is_muted(&alert.labels, now, sources))
            .map(|(fingerprint, alert)| (*fingerprint, alert.clone(), alert.ends_at() > now))
            .collect();
        let telling_resolved = (group.alerts.iter())
            .filter(|(_, alert)| alert.ends_at() <= now)
            .map(|(fingerprint, alert)| (*fingerprint, alert.ends_at()))
            .collect();
        let receiver = &plan.receivers[route.receiver];
        let before = notifications.len();
        for (integration, webhook) in receiver.webhooks.iter().enumerate() {
            let of = |fires: bool| audible.iter().filter(|a| a.2 == fires).map(|a| a.0).collect::<HashSet<u64>>();
            let (firing, resolved) = (of(true), of(false));
            let last = self.log.get(&(group_key.clone(), receiver.name.clone(), integration));
            let when = When { now, repeat_interval: route.repeat_interval, send_resolved: webhook.send_resolved };
            let Some(reason) = reason_to_tell(last, &firing, &resolved, when) else { continue };
            let log = LogEntry {
                group_key: group_key.clone(),
                receiver: receiver.name.clone(),
                integration,
                firing,
                resolved,
                at: now,
            };
            if log.firing.is_empty() && !webhook.send_resolved {
                // Not sent, but remembered, so that the alert is told when it fires anew (Alertmanager's `RetryStage`).
                self.log.insert((group_key.clone(), receiver.name.clone(), integration), log.clone());
                self.cleared.push(log);
                continue;
            }
            let mut alerts: Vec<(Alert, bool)> = (audible.iter())
                .filter(|(_, _, fires)| *fires || webhook.send_resolved)
                .map(|(_, alert, fires)| (alert.clone(), *fires))
                .collect();
            let place = |alert: &Alert| ["job", "instance"].map(|name| alert.labels.value(name).to_owned());
            alerts.sort_by_cached_key(|(alert, _)| (place(alert), alert.labels.clone()));
            notifications.push(Notification {
                receiver: receiver.name.clone(),
                integration,
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
            group.busy_until = due + BUSY_LIMIT;
            if under_way == 0 {
                group.forget_told();
            }
        }
        self.due.insert((due, id));
    }

    /// Takes the outcome of a delivery. A success is remembered; resolved alerts leave their group when every webhook
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

    /// Whether a silence or another alert keeps this one quiet. `sources` are those of `now`.
    pub(super) fn is_muted(&self, labels: &Labels, now: Timestamp, sources: &Sources) -> bool {
        self.silences.iter().any(|silence| silence.mutes(labels, now)) || self.is_inhibited(labels, sources)
    }

    /// The alerts that mute others at `now`, found once for all that may be muted: a storm of alerts must not be compared
    /// each with each.
    pub(super) fn inhibition_sources(&self, now: Timestamp) -> Sources {
        let of_rule = |rule: &InhibitRule| {
            let mut found = HashMap::new();
            for alert in self.alerts.values().filter(|a| a.ends_at() > now && all_match(&rule.source, &a.labels)) {
                *found.entry(rule.equal_values(&alert.labels)).or_default() |= !all_match(&rule.target, &alert.labels);
            }
            found
        };
        Sources(self.plan.inhibit_rules.iter().map(of_rule).collect())
    }

    /// A rule mutes its targets while a source fires that agrees on `equal`; an alert that is both source and target
    /// is not muted by such (Alertmanager `inhibit.Mutes`).
    fn is_inhibited(&self, labels: &Labels, Sources(sources): &Sources) -> bool {
        let mutes = |(rule, found): (&InhibitRule, &HashMap<Box<[String]>, bool>)| {
            if found.is_empty() || !all_match(&rule.target, labels) {
                return false;
            }
            let is_source = || all_match(&rule.source, labels);
            found.get(&rule.equal_values(labels)).is_some_and(|plain| *plain || !is_source())
        };
        self.plan.inhibit_rules.iter().zip(sources).any(mutes)
    }
}

/// For each inhibition rule, by the values of its `equal` labels: whether one of the sources is not a target as well.
pub(super) struct Sources(Vec<HashMap<Box<[String]>, bool>>);

fn all_match(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers.iter().all(|matcher| matcher.matches_labels(labels))
}

/// A label set as Alertmanager's group key has it: `{a="b", c="d"}`.
pub(super) fn label_set_text(labels: &Labels) -> String {
    let pairs: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    format!("{{{}}}", pairs.join(", "))
}
