//! What happens to one alert: which routes take it, when its groups are looked at, what each integration knows of it, and
//! which other alerts keep it quiet.
//!
//! In: labels as they are told. Out: one [`Path`] for each route, one [`Inhibition`] for each rule. Only reads.

use std::sync::Arc;

use super::Core;
use crate::model::{Labels, Matcher, Timestamp};
use crate::notify::mute::all_match;
use crate::notify::receivers::Integration;

/// One route that takes an alert.
#[derive(Clone, Debug, PartialEq)]
pub struct Path {
    /// Its place in [`crate::notify::Plan::tree`].
    pub route: usize,
    /// Name of the receiver.
    pub receiver: String,
    /// Alertmanager's group key.
    pub group_key: String,
    /// Labels that make the group.
    pub group_labels: Labels,
    /// When the group is looked at next; `None` while there is no group.
    pub next_flush: Option<Timestamp>,
    /// Names of the times that keep the receiver quiet now.
    pub muted_by: Vec<String>,
    /// What each integration knows, in the order of the receiver's.
    pub integrations: Vec<Knows>,
}

/// What one integration was last told of an alert.
#[derive(Clone, Debug, PartialEq)]
pub struct Knows {
    /// `webhook`, `slack`, `pagerduty` or `email`.
    pub kind: &'static str,
    /// When it was last told that the alert fires, with its group.
    pub firing_at: Option<Timestamp>,
    /// When it was last told that the alert is resolved.
    pub resolved_at: Option<Timestamp>,
}

/// An inhibition rule that can keep an alert quiet.
#[derive(Clone, Debug, PartialEq)]
pub struct Inhibition {
    /// Its place in `inhibit_rules`.
    pub rule: usize,
    /// What the muting alert must match.
    pub source: Vec<String>,
    /// The labels on which both must agree, with the values that the alert has.
    pub equal: Vec<(String, String)>,
    /// The labels of the alert that mutes it now; none: none does.
    pub by: Option<Labels>,
}

impl Core {
    /// The inhibition rules that have an alert of these labels among their targets, those that mute it now first. A rule
    /// of which the alert is a source as well is left out unless it mutes: it is mostly the source.
    pub(in crate::notify) fn inhibitions(&mut self, labels: &Labels, now: Timestamp) -> Vec<Inhibition> {
        let (plan, quiet) = (Arc::clone(&self.plan), self.quiet(now));
        let of_rule = |(at, rule): (usize, &crate::notify::plan::InhibitRule)| {
            let by = quiet.sources.muting_by(&plan, at, labels);
            if !all_match(&rule.target, labels) || by.is_none() && all_match(&rule.source, labels) {
                return None;
            }
            Some(Inhibition {
                rule: at,
                source: rule.source.iter().map(Matcher::to_string).collect(),
                equal: rule.equal.iter().map(|name| (name.clone(), labels.value(name).to_owned())).collect(),
                by: by.and_then(|id| self.alerts.get(&id)).map(|known| known.alert.labels.clone()),
            })
        };
        let mut found: Vec<Inhibition> = plan.inhibit_rules.iter().enumerate().filter_map(of_rule).collect();
        found.sort_by_key(|one| one.by.is_none());
        found
    }

    /// The routes that take an alert of these labels, and what their receivers know of it.
    pub(in crate::notify) fn explain(&self, labels: &Labels, now: Timestamp) -> Vec<Path> {
        let fingerprint = labels.fingerprint();
        let path = |route: usize| {
            let group_labels = self.plan.routes[route].group_by.labels_of(labels);
            let (group_key, receiver) = (self.group_key(route, &group_labels), self.receiver_of(route));
            let knows = |(integration, told_by): (usize, &Arc<Integration>)| {
                let entry = self.log.get(&(group_key.clone(), receiver.name.clone(), integration));
                Knows {
                    kind: told_by.kind(),
                    firing_at: entry.filter(|entry| entry.firing.contains(&fingerprint)).map(|entry| entry.at),
                    resolved_at: entry.filter(|entry| entry.resolved.contains(&fingerprint)).map(|entry| entry.at),
                }
            };
            let group = self.by_route_and_labels.get(&(route, group_labels.clone()));
            Path {
                route,
                receiver: receiver.name.clone(),
                next_flush: group.and_then(|id| self.groups.get(id)).map(|group| group.due),
                muted_by: self.plan.muted_by(route, now),
                integrations: receiver.integrations.iter().enumerate().map(knows).collect(),
                group_key,
                group_labels,
            }
        };
        self.plan.routes_of(labels).into_iter().map(path).collect()
    }
}
