//! The state of one alerting rule: which alerts it has raised and where each is in its life.
//!
//! In: what the expression returned at a time. Out: alert states, `ALERTS` and `ALERTS_FOR_STATE` samples, alerts to send,
//! transitions. Pure. The rules are those of Prometheus' `rules/alerting.go`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::definition::AlertingRule;
use crate::model::{Alert, AlertState, Labels, METRIC_NAME, Sample, Timestamp, is_stale};

/// How long a resolved alert is kept, so that receivers hear of it again.
const RESOLVED_RETENTION: Duration = Duration::from_secs(15 * 60);

/// The series that says which alerts are pending or firing.
pub const ALERTS: &str = "ALERTS";
/// The series that says since when: what a restart restores from.
pub const ALERTS_FOR_STATE: &str = "ALERTS_FOR_STATE";
/// The label that holds the rule's name.
pub const ALERT_NAME: &str = "alertname";
const ALERT_STATE: &str = "alertstate";

/// One sample of the expression, with its labels and texts expanded.
#[derive(Clone, Debug)]
pub struct Found {
    /// Identity of the alert.
    pub labels: Labels,
    /// Texts.
    pub annotations: Labels,
    /// The sample's value.
    pub value: f64,
}

/// A change of state, for the history.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Whose.
    pub alert: Alert,
    /// State before; the one after is the alert's own.
    pub from: AlertState,
}

/// The alerts of one rule.
#[derive(Clone, Debug, Default)]
pub struct AlertingState {
    alerts: BTreeMap<Labels, Known>,
    /// Alerts that fired before a restart and were not seen since.
    told: BTreeMap<Labels, Alert>,
    /// Whether the time from before a restart has been restored, or need not be. Until then nothing is written, so that
    /// the series that is to be restored from is not overwritten.
    pub restored: bool,
}

#[derive(Clone, Debug)]
struct Known {
    alert: Alert,
    last_sent: Option<Timestamp>,
}

/// When and how often alerts are sent.
#[derive(Clone, Copy, Debug)]
pub struct Sending {
    /// Least time between two sendings of one alert.
    pub resend_delay: Duration,
    /// The group's interval.
    pub interval: Duration,
}

/// How far a restart may have interrupted an alert.
#[derive(Clone, Copy, Debug)]
pub struct Restoring {
    /// Least time a restored alert stays pending, for receivers and data to come back.
    pub grace: Duration,
    /// Now.
    pub now: Timestamp,
}

impl AlertingState {
    /// No alerts yet. `restored`: there is no time from before a restart to take up.
    pub fn new(restored: bool) -> Self {
        Self { alerts: BTreeMap::new(), told: BTreeMap::new(), restored }
    }

    /// Goes on with alerts that fired before a restart. One that the expression returns again while receivers still
    /// believe in it fires on; Prometheus lets a short `for` start anew, which receivers see as an end and a new alert.
    pub fn resume(&mut self, told: impl Iterator<Item = Alert>) {
        self.told = told.map(|alert| (alert.labels.clone(), alert)).collect();
    }

    /// The rule's alerts that are pending or firing, in label order.
    pub fn active(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.values().map(|known| &known.alert).filter(|alert| alert.state != AlertState::Inactive)
    }

    /// The gravest state of any alert.
    pub fn state(&self) -> AlertState {
        let any = |state| self.active().any(|alert| alert.state == state);
        match () {
            () if any(AlertState::Firing) => AlertState::Firing,
            () if any(AlertState::Pending) => AlertState::Pending,
            () => AlertState::Inactive,
        }
    }

    /// Takes what the expression returned at `at`.
    ///
    /// # Errors
    /// When there are more alerts than `limit` (0 is no limit); then all alerts are forgotten.
    pub fn update(
        &mut self,
        rule: &AlertingRule,
        found: Vec<Found>,
        at: Timestamp,
        limit: usize,
    ) -> Result<Vec<Change>, String> {
        let mut changes = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        for Found { labels, annotations, value } in found {
            seen.insert(labels.clone());
            match self.alerts.get_mut(&labels) {
                Some(known) if known.alert.state != AlertState::Inactive => {
                    known.alert.value = value;
                    known.alert.annotations = annotations;
                }
                _ => {
                    let told = self.told.remove(&labels).filter(|told| told.valid_until >= at);
                    let alert = match told {
                        Some(told) => Alert { annotations, value, ..told },
                        None => new_alert(labels.clone(), annotations, value, at),
                    };
                    self.alerts.insert(labels, Known { alert, last_sent: None });
                }
            }
        }
        let mut active = 0;
        self.alerts.retain(|labels, known| {
            let kept = known.step(rule, seen.contains(labels), at, &mut changes);
            active += usize::from(kept && known.alert.state != AlertState::Inactive);
            kept
        });
        if limit > 0 && active > limit {
            self.alerts.clear();
            return Err(format!("exceeded limit of {limit} with {active} alerts"));
        }
        Ok(changes)
    }

    /// `ALERTS` and `ALERTS_FOR_STATE` of what is pending or firing.
    pub fn samples(&self, rule: &AlertingRule) -> Vec<(Labels, f64)> {
        if !self.restored {
            return Vec::new();
        }
        let written = Labels::from_pairs(rule.written_labels());
        let mut samples = Vec::new();
        for alert in self.active() {
            let labels = written.merged(&alert.labels).with(ALERT_NAME, &rule.name);
            let state = labels.with(METRIC_NAME, ALERTS).with(ALERT_STATE, alert.state.as_str());
            samples.push((state, 1.0));
            let since = alert.active_at.as_millis().div_euclid(1000) as f64;
            samples.push((labels.with(METRIC_NAME, ALERTS_FOR_STATE), since));
        }
        samples
    }

    /// The alerts that receivers should hear of at `at`. They are not marked as sent; see [`Self::mark_sent`].
    pub fn to_send(&self, at: Timestamp, sending: Sending, generator_url: &str) -> Vec<Alert> {
        let valid_until = at + sending.resend_delay.max(sending.interval) * 4;
        let due = self.alerts.values().filter(|known| known.is_due(at, sending.resend_delay));
        due.map(|known| Alert { valid_until, generator_url: generator_url.to_owned(), ..known.alert.clone() }).collect()
    }

    /// Lets alerts that fired before a restart be believed in further on, while nobody can say whether they still fire.
    pub fn hold(&mut self, at: Timestamp, sending: Sending) {
        let valid_until = at + sending.resend_delay.max(sending.interval) * 4;
        let told = std::mem::take(&mut self.told);
        for (labels, told) in told.into_iter().filter(|(_, told)| told.valid_until >= at) {
            if told.state == AlertState::Firing {
                let alert = Alert { valid_until, ..told };
                self.alerts.entry(labels).or_insert(Known { alert, last_sent: None });
            } else {
                self.told.insert(labels, Alert { valid_until, ..told });
            }
        }
    }

    /// Notes that `sent` were handed over at `at`.
    pub fn mark_sent(&mut self, sent: &[Alert], at: Timestamp) {
        for alert in sent {
            if let Some(known) = self.alerts.get_mut(&alert.labels) {
                known.last_sent = Some(at);
                known.alert.valid_until = alert.valid_until;
                known.alert.generator_url.clone_from(&alert.generator_url);
            }
        }
    }

    /// Restores since when alerts are active from the last `ALERTS_FOR_STATE` samples before the restart.
    ///
    /// `last` is by labels without the metric name.
    pub fn restore(&mut self, rule: &AlertingRule, last: &BTreeMap<Labels, Sample>, restoring: Restoring) {
        let Restoring { grace, now } = restoring;
        for known in self.alerts.values_mut() {
            if known.alert.state == AlertState::Firing {
                continue; // nothing is left to wait for
            }
            let Some(sample) = last.get(&known.alert.labels).filter(|sample| !is_stale(sample.value)) else { continue };
            let down_at = Timestamp::from_millis(sample.at.as_millis().div_euclid(1000) * 1000);
            let since = Timestamp::from_millis((sample.value as i64).saturating_mul(1000));
            let pending_ms = down_at.as_millis() - since.as_millis();
            let hold_ms = i64::try_from(rule.hold.as_millis()).unwrap_or(i64::MAX);
            let remaining_ms = hold_ms.saturating_sub(pending_ms);
            known.alert.active_at = match () {
                // It was firing: the next evaluation fires it again, if it still holds.
                () if remaining_ms <= 0 => since,
                () if remaining_ms < i64::try_from(grace.as_millis()).unwrap_or(i64::MAX) => now + grace - rule.hold,
                // The time we were away does not count.
                () => since + now.since(down_at),
            };
        }
        self.restored = true;
    }
}

fn new_alert(labels: Labels, annotations: Labels, value: f64, at: Timestamp) -> Alert {
    Alert {
        labels,
        annotations,
        state: AlertState::Inactive,
        value,
        active_at: at,
        fired_at: None,
        resolved_at: None,
        keep_firing_since: None,
        valid_until: at,
        generator_url: String::new(),
    }
}

impl Known {
    /// One evaluation. Whether the alert is to be kept.
    fn step(&mut self, rule: &AlertingRule, holds: bool, at: Timestamp, changes: &mut Vec<Change>) -> bool {
        let from = self.alert.state;
        let kept = if holds { self.holds(rule, at) } else { self.ceased(rule, at) };
        if self.alert.state != from {
            changes.push(Change { alert: self.alert.clone(), from });
        }
        kept
    }

    fn holds(&mut self, rule: &AlertingRule, at: Timestamp) -> bool {
        self.alert.keep_firing_since = None;
        if self.alert.state == AlertState::Inactive {
            self.alert.state = AlertState::Pending;
        }
        let held = at.as_millis() - self.alert.active_at.as_millis();
        if self.alert.state == AlertState::Pending && i128::from(held) >= rule.hold.as_millis() as i128 {
            self.alert.state = AlertState::Firing;
            self.alert.fired_at = Some(at);
        }
        true
    }

    fn ceased(&mut self, rule: &AlertingRule, at: Timestamp) -> bool {
        match self.alert.state {
            AlertState::Inactive => self.alert.resolved_at.is_some_and(|done| at.since(done) <= RESOLVED_RETENTION),
            AlertState::Pending => {
                self.alert.state = AlertState::Inactive;
                false
            }
            AlertState::Firing => {
                if !rule.keep_firing_for.is_zero() {
                    let since = *self.alert.keep_firing_since.get_or_insert(at);
                    if at.since(since) < rule.keep_firing_for {
                        return true;
                    }
                }
                self.alert.state = AlertState::Inactive;
                self.alert.resolved_at = Some(at);
                true
            }
        }
    }

    fn is_due(&self, at: Timestamp, resend_delay: Duration) -> bool {
        if self.alert.state == AlertState::Pending {
            return false;
        }
        match self.last_sent {
            None => true,
            Some(sent) => self.alert.resolved_at.is_some_and(|done| done > sent) || sent + resend_delay < at,
        }
    }
}

#[cfg(test)]
mod tests;
