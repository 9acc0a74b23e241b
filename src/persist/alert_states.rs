//! Keeps which alerts fire, so that after a restart each of them either fires on or is told resolved.
//!
//! In: the status of the rules, looked at each second. Out: rows of `alert_state`. A row's `valid_until` is until when
//! receivers believe the alert without hearing again: the rules refresh it while it fires, an end is written as
//! `resolved_at`, and what a dead process left behind ends by itself. Invariant: what is held is bounded and follows the rules.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{LAST_PASS_LIMIT, PartStatus, WRITE_LIMIT, limited};
use crate::clock::Clock;
use crate::model::{Alert, AlertState, Labels, Timestamp};
use crate::rules;
use crate::store::{Store, StoreError, StoredAlert};

/// How often the rules are looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long an ended alert is kept: its receivers may be away, and are told of the end when they are back.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Alerts of one write.
const BATCH: usize = 1000;
/// How often what is no longer needed is deleted.
const FORGET_INTERVAL: Duration = Duration::from_secs(600);

/// The alerts that may still matter after a restart.
#[derive(Clone, Debug, Default)]
pub struct AlertsTold {
    /// All of them, the ended ones too: what receivers must be told the end of.
    pub all: Vec<Alert>,
    /// Those that had not ended, by key of the rule group: what rules go on from.
    pub firing: HashMap<String, Vec<Alert>>,
}

/// Reads what the last process wrote.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn restore_alerts(store: &Store, now: Timestamp) -> Result<AlertsTold, StoreError> {
    let mut told = AlertsTold::default();
    for StoredAlert { group, alert } in store.saved_alerts().await? {
        if alert.ends_at() + KEPT < now {
            continue;
        }
        if alert.state == AlertState::Firing && alert.ends_at() >= now {
            told.firing.entry(group).or_default().push(alert.clone());
        }
        told.all.push(alert);
    }
    Ok(told)
}

type Key = (String, Labels);

/// Writes which alerts fire.
pub struct AlertStatePersist {
    rules: rules::Status,
    store: Store,
    clock: Clock,
    status: Arc<PartStatus>,
    /// What fires, as it was written.
    written: BTreeMap<Key, Alert>,
}

impl AlertStatePersist {
    /// Follows the rules.
    pub fn new(rules: rules::Status, store: Store, clock: Clock) -> Self {
        let status = Arc::new(PartStatus::new("alert_states"));
        Self { rules, store, clock, status, written: BTreeMap::new() }
    }

    /// How it fares.
    pub fn status(&self) -> Arc<PartStatus> {
        Arc::clone(&self.status)
    }

    /// Writes changes each second until `shutdown`, then once more.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut forget_at = Instant::now();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = tick.tick() => {}
            }
            let mut done = self.write(WRITE_LIMIT).await;
            if done.is_ok() && Instant::now() >= forget_at {
                forget_at = Instant::now() + FORGET_INTERVAL;
                let before = self.clock.now() - KEPT;
                done = limited(WRITE_LIMIT, "forget alert state", self.store.forget_alerts(before)).await;
            }
            if let Err(error) = done {
                let pause = self.status.failed(self.clock.now(), &error);
                tick.reset_at(Instant::now() + pause);
            }
        }
        if let Err(error) = self.write(LAST_PASS_LIMIT).await {
            self.status.failed(self.clock.now(), &error);
        }
    }

    /// Writes what changed since it was last written.
    async fn write(&mut self, limit: Duration) -> Result<(), StoreError> {
        let (firing, groups) = firing_now(&self.rules);
        let changes = changes(&self.written, &firing, &groups, self.clock.now());
        self.status.pending.store(changes.len() as u64, Relaxed);
        for batch in changes.chunks(BATCH) {
            let saved = limited(limit, "save alert state", self.store.save_alerts(batch)).await;
            match saved {
                Ok(()) => self.status.succeeded(self.clock.now(), batch.len()),
                Err(error) if error.is_temporary() => return Err(error),
                Err(error) => self.status.gave_up(self.clock.now(), batch.len(), &error),
            }
        }
        self.status.pending.store(0, Relaxed);
        self.written = firing;
        Ok(())
    }
}

/// The alerts that fire and were told, and the groups that have been evaluated.
fn firing_now(rules: &rules::Status) -> (BTreeMap<Key, Alert>, HashSet<String>) {
    let (mut firing, mut groups) = (BTreeMap::new(), HashSet::new());
    for group in rules.groups() {
        let key = format!("{};{}", group.file, group.name);
        if group.last_evaluation.is_some() {
            groups.insert(key.clone());
        }
        let alerts = group.rules.iter().filter_map(|rule| rule.alerting.as_ref()).flat_map(|alerting| &alerting.alerts);
        for alert in alerts.filter(|alert| alert.state == AlertState::Firing) {
            firing.insert((key.clone(), alert.labels.clone()), alert.clone());
        }
    }
    (firing, groups)
}

/// What is to be written: alerts that began or were told anew, and the end of those that a group no longer holds. An alert
/// whose group is gone ends when receivers stop believing in it, as in Prometheus.
fn changes(
    written: &BTreeMap<Key, Alert>,
    firing: &BTreeMap<Key, Alert>,
    groups: &HashSet<String>,
    now: Timestamp,
) -> Vec<StoredAlert> {
    let begun = firing.iter().filter(|(key, alert)| written.get(*key).is_none_or(|before| matters(before, alert)));
    let begun = begun.map(|((group, _), alert)| StoredAlert { group: group.clone(), alert: alert.clone() });
    let ended = written.iter().filter(|(key, _)| !firing.contains_key(*key) && groups.contains(&key.0));
    let ended = ended.map(|((group, _), alert)| {
        let alert = Alert { state: AlertState::Inactive, resolved_at: Some(now), ..alert.clone() };
        StoredAlert { group: group.clone(), alert }
    });
    begun.chain(ended).collect()
}

/// Whether the row must be written anew. The value changes at each evaluation and does not matter.
fn matters(before: &Alert, after: &Alert) -> bool {
    (before.valid_until, before.fired_at, before.active_at) != (after.valid_until, after.fired_at, after.active_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(valid_until_ms: i64) -> Alert {
        let at = Timestamp::from_millis;
        Alert {
            labels: Labels::from_pairs([("alertname", "A")]),
            annotations: Labels::empty(),
            state: AlertState::Firing,
            value: 1.0,
            active_at: at(0),
            fired_at: Some(at(0)),
            resolved_at: None,
            keep_firing_since: None,
            valid_until: at(valid_until_ms),
            generator_url: String::new(),
        }
    }

    #[test]
    fn writes_beginnings_renewals_and_ends_but_not_what_stays_or_whose_group_is_gone() {
        let now = Timestamp::from_millis(1000);
        let of = |group: &str, valid: i64| BTreeMap::from([((group.to_owned(), alert(0).labels), alert(valid))]);
        let groups = HashSet::from(["g".to_owned()]);
        let (none, some) = (BTreeMap::new(), of("g", 240));
        let states = |before: &BTreeMap<Key, Alert>, after: &BTreeMap<Key, Alert>| -> Vec<(AlertState, Timestamp)> {
            let changes = changes(before, after, &groups, now);
            changes.iter().map(|stored| (stored.alert.state, stored.alert.ends_at())).collect()
        };
        let at = Timestamp::from_millis;
        assert_eq!(states(&none, &some), [(AlertState::Firing, at(240))]);
        assert_eq!(states(&some, &some), []);
        assert_eq!(states(&some, &of("g", 300)), [(AlertState::Firing, at(300))]);
        assert_eq!(states(&some, &none), [(AlertState::Inactive, now)]);
        assert_eq!(states(&of("gone", 240), &none), [], "receivers believe in it until 240");
    }
}
