//! One group of alerts of one route, and the decision whether its receivers must hear of it now.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use super::core::LogEntry;
use crate::model::{Alert, Labels, Timestamp};

/// Longer than rules send a resolved alert again (15 min): older ones need not be remembered.
const RESENDS_END: Duration = Duration::from_secs(30 * 60);

/// Alerts that are told together.
pub(super) struct Group {
    pub(super) route: usize,
    pub(super) labels: Labels,
    /// By fingerprint.
    pub(super) alerts: BTreeMap<u64, Alert>,
    /// When it is looked at next.
    pub(super) due: Timestamp,
    /// Deliveries of the last flush that have not ended.
    pub(super) under_way: usize,
    /// Whether one of them failed, so that resolved alerts must be kept for the next try.
    pub(super) failed: bool,
    /// Resolved alerts that the last flush tells of, by fingerprint, with the time at which they ended.
    pub(super) telling_resolved: Vec<(u64, Timestamp)>,
    /// When it was last flushed; tells the outcome of that flush from one of an earlier flush.
    pub(super) flushed_at: Option<Timestamp>,
    /// Resolved alerts that everybody has heard of, with the time at which they ended.
    told_resolved: BTreeMap<u64, Timestamp>,
    /// The times that muted it at its last flush.
    pub(super) muted_by: Vec<String>,
    /// When deliveries that never ended are no longer waited for.
    pub(super) busy_until: Timestamp,
}

impl Group {
    pub(super) fn new(route: usize, labels: Labels, due: Timestamp) -> Self {
        Self {
            route,
            labels,
            alerts: BTreeMap::new(),
            due,
            under_way: 0,
            failed: false,
            telling_resolved: Vec::new(),
            flushed_at: None,
            told_resolved: BTreeMap::new(),
            muted_by: Vec::new(),
            busy_until: due,
        }
    }

    /// Takes an alert in, unless it is resolved and everybody has heard of that.
    ///
    /// Rules send a resolved alert again for a quarter of an hour. Alertmanager then tells of it again whenever two of a
    /// group take turns (seen on 0.33 with a group interval below the resend delay); people should hear of it once.
    pub(super) fn take(&mut self, fingerprint: u64, alert: &Alert) {
        if alert.resolved_at.is_some() && self.told_resolved.get(&fingerprint) == Some(&alert.ends_at()) {
            return;
        }
        self.told_resolved.remove(&fingerprint);
        self.alerts.insert(fingerprint, alert.clone());
    }

    /// Whether its last deliveries are still under way: as in Alertmanager, a group has one flush at a time, or a slow
    /// receiver would be told twice of the same.
    pub(super) fn is_busy(&self, now: Timestamp) -> bool {
        self.under_way > 0 && now < self.busy_until
    }

    /// Drops the resolved alerts that everybody has heard of, unless they fire again meanwhile.
    pub(super) fn forget_told(&mut self) {
        for (fingerprint, ended) in std::mem::take(&mut self.telling_resolved) {
            if self.alerts.get(&fingerprint).is_some_and(|alert| alert.ends_at() == ended) {
                self.alerts.remove(&fingerprint);
                self.told_resolved.insert(fingerprint, ended);
            }
        }
        if let Some(newest) = self.told_resolved.values().max().copied() {
            self.told_resolved.retain(|_, ended| *ended + RESENDS_END > newest);
        }
    }
}

/// Why a receiver is told, in Alertmanager's words (`notification_reason`); `None` when there is nothing new.
///
/// The rules are those of Alertmanager's `DedupStage.needsUpdate`.
pub(super) fn reason_to_tell(
    last: Option<&LogEntry>,
    firing: &HashSet<u64>,
    resolved: &HashSet<u64>,
    when: When,
) -> Option<&'static str> {
    let Some(last) = last else {
        return (!firing.is_empty()).then_some("first notification");
    };
    if !firing.is_subset(&last.firing) {
        return Some("new alerts added");
    }
    if firing.is_empty() {
        // Only when somebody was told that they fire. Whether it is sent or just remembered is not asked here.
        return (!last.firing.is_empty()).then_some("all alerts resolved");
    }
    if when.send_resolved && !resolved.is_subset(&last.resolved) {
        return Some("some alerts resolved");
    }
    (last.at < when.now - when.repeat_interval).then_some("repeat interval elapsed")
}

/// What [`reason_to_tell`] must know besides the alerts.
#[derive(Clone, Copy)]
pub(super) struct When {
    pub(super) now: Timestamp,
    pub(super) repeat_interval: std::time::Duration,
    pub(super) send_resolved: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_for_the_reasons_of_alertmanager() {
        let entry = |firing: &[u64], resolved: &[u64], at_s: i64| LogEntry {
            group_key: String::new(),
            receiver: String::new(),
            integration: 0,
            firing: firing.iter().copied().collect(),
            resolved: resolved.iter().copied().collect(),
            at: Timestamp::from_millis(at_s * 1000),
        };
        let check = |last: Option<LogEntry>, firing: &[u64], resolved: &[u64], expect: Option<&str>| {
            let set = |ids: &[u64]| ids.iter().copied().collect();
            let when = When {
                now: Timestamp::from_millis(1_000_000),
                repeat_interval: Duration::from_secs(100),
                send_resolved: true,
            };
            assert_eq!(reason_to_tell(last.as_ref(), &set(firing), &set(resolved), when), expect);
        };
        check(None, &[1], &[], Some("first notification"));
        check(None, &[], &[1], None); // resolved before anybody heard of it
        check(Some(entry(&[1], &[], 950)), &[1], &[], None);
        check(Some(entry(&[1], &[], 950)), &[1, 2], &[], Some("new alerts added"));
        check(Some(entry(&[1, 2], &[], 950)), &[1], &[2], Some("some alerts resolved"));
        check(Some(entry(&[1], &[2], 950)), &[1], &[2], None);
        check(Some(entry(&[1], &[], 950)), &[], &[1], Some("all alerts resolved"));
        check(Some(entry(&[], &[1], 950)), &[], &[1], None);
        check(Some(entry(&[1], &[], 899)), &[1], &[], Some("repeat interval elapsed"));
    }
}
