//! What keeps an alert quiet: silences and other alerts.
//!
//! In: the alerts that fire, the silences that act. Out: whether an alert is muted, and by what. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use super::plan::{InhibitRule, Plan};
use super::posted::Known;
use super::silence::Silence;
use super::status::AlertStatus;
use crate::model::{Alert, Labels, Matcher, Timestamp};

/// For each inhibition rule, by the values of its `equal` labels, the alerts that mute others.
pub(super) struct Sources(Vec<HashMap<Box<[String]>, Found>>);

/// Sources that agree on `equal`.
#[derive(Default)]
struct Found {
    /// One that is not a target of the rule as well; the smallest fingerprint, so that the answer does not waver.
    plain: Option<u64>,
    /// Any.
    any: Option<u64>,
}

/// What keeps alerts quiet at one time.
pub(super) struct Quiet {
    pub(super) now: Timestamp,
    pub(super) silences: Vec<Silence>,
    pub(super) sources: Arc<Sources>,
}

impl Sources {
    /// The alerts that mute others at `now`, and until when this holds unless alerts change.
    pub(super) fn of<'a>(
        plan: &Plan,
        alerts: impl Iterator<Item = &'a Alert> + Clone,
        now: Timestamp,
    ) -> (Self, Timestamp) {
        let mut until = Timestamp::MAX;
        let mut of_rule = |rule: &InhibitRule| {
            let mut by_equal: HashMap<Box<[String]>, Found> = HashMap::new();
            for alert in alerts.clone().filter(|a| a.ends_at() > now && all_match(&rule.source, &a.labels)) {
                until = until.min(alert.ends_at());
                let found = by_equal.entry(rule.equal_values(&alert.labels)).or_default();
                let fingerprint = alert.labels.fingerprint();
                let smaller = |known: Option<u64>| Some(known.map_or(fingerprint, |known| known.min(fingerprint)));
                found.any = smaller(found.any);
                if !all_match(&rule.target, &alert.labels) {
                    found.plain = smaller(found.plain);
                }
            }
            by_equal
        };
        let by_rule = plan.inhibit_rules.iter().map(&mut of_rule).collect();
        (Self(by_rule), until)
    }

    /// The alert that mutes one of these labels.
    fn muting(&self, plan: &Plan, labels: &Labels) -> Option<u64> {
        (0..plan.inhibit_rules.len()).find_map(|at| self.muting_by(plan, at, labels))
    }

    /// The alert that mutes one of these labels by the rule of that place. A rule mutes its targets while a source fires
    /// that agrees on `equal`; an alert that is both source and target is not muted by such (Alertmanager `inhibit.Mutes`).
    pub(super) fn muting_by(&self, plan: &Plan, at: usize, labels: &Labels) -> Option<u64> {
        let (rule, by_equal) = (plan.inhibit_rules.get(at)?, self.0.get(at)?);
        if by_equal.is_empty() || !all_match(&rule.target, labels) {
            return None;
        }
        let found = by_equal.get(&rule.equal_values(labels))?;
        found.plain.or_else(|| found.any.filter(|_| !all_match(&rule.source, labels)))
    }
}

impl Quiet {
    /// Whether a silence or another alert keeps an alert of these labels quiet.
    pub(super) fn mutes(&self, plan: &Plan, labels: &Labels) -> bool {
        self.silences.iter().any(|silence| silence.mutes(labels, self.now))
            || self.sources.muting(plan, labels).is_some()
    }

    /// An alert as pages and APIs show it.
    pub(super) fn status(&self, plan: &Plan, known: &Known, receivers: Vec<String>) -> AlertStatus {
        let labels = &known.alert.labels;
        let muting = self.silences.iter().filter(|silence| silence.mutes(labels, self.now));
        let mut silenced_by: Vec<String> = muting.map(|silence| silence.id.clone()).collect();
        silenced_by.sort();
        AlertStatus {
            alert: known.alert.clone(),
            updated_at: known.updated_at,
            receivers,
            silenced_by,
            inhibited_by: self.sources.muting(plan, labels).into_iter().collect(),
        }
    }
}

pub(super) fn all_match(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers.iter().all(|matcher| matcher.matches_labels(labels))
}
