//! The routing tree as people read it: every node with what it inherits, and its times as open or closed now.
//!
//! In: the checked tree, a time. Out: nodes in the order of the file, children after their parent. Only reads.

use std::time::Duration;

use super::{GroupBy, Plan};
use crate::model::{Labels, Timestamp};

/// One node of the tree.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteView {
    /// 0 at the root.
    pub depth: usize,
    /// Name of the receiver, inherited when the node names none.
    pub receiver: String,
    /// Its own matchers; those of its parents must hold as well.
    pub matchers: Vec<String>,
    /// Labels that make a group; `None` when each alert is its own.
    pub group_by: Option<Vec<String>>,
    /// How long the first alert of a group waits for others.
    pub group_wait: Duration,
    /// Least time between two notifications of a group.
    pub group_interval: Duration,
    /// After how long it is told again that nothing changed.
    pub repeat_interval: Duration,
    /// Whether its siblings are asked too when it takes an alert.
    pub goes_on: bool,
    /// Its mute and active times.
    pub windows: Vec<Window>,
    /// Whether its times keep its receiver quiet now.
    pub is_muted: bool,
}

/// One named time of a route.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Its name.
    pub name: String,
    /// Whether its receiver is quiet within it (mute), or outside of it (active).
    pub mutes: bool,
    /// Whether it holds now.
    pub holds: bool,
    /// When that changes; `None`: not within the next two months.
    pub until: Option<Timestamp>,
}

impl Plan {
    /// All nodes in the order of the file. A node's place is what [`Plan::taken_by`] names.
    pub fn tree(&self, now: Timestamp) -> Vec<RouteView> {
        let times: Vec<(bool, Option<Timestamp>)> =
            self.time_intervals.iter().map(|times| (times.contains(now), times.next_change(now))).collect();
        let mut depths = vec![0; self.routes.len()];
        let mut views = Vec::with_capacity(self.routes.len());
        for (at, route) in self.routes.iter().enumerate() {
            for child in &route.children {
                depths[*child] = depths[at] + 1;
            }
            let window = |mutes: bool| {
                let times = &times;
                move |at: &usize| {
                    let (holds, until) = times[*at];
                    Window { name: self.time_intervals[*at].name.clone(), mutes, holds, until }
                }
            };
            views.push(RouteView {
                depth: depths[at],
                receiver: self.receivers[route.receiver].name.clone(),
                matchers: route.matchers.iter().map(ToString::to_string).collect(),
                group_by: match &route.group_by {
                    GroupBy::All => None,
                    GroupBy::Names(names) => Some(names.clone()),
                },
                group_wait: route.group_wait,
                group_interval: route.group_interval,
                repeat_interval: route.repeat_interval,
                goes_on: route.goes_on,
                windows: (route.mute.iter().map(window(true))).chain(route.active.iter().map(window(false))).collect(),
                is_muted: !self.muted_by(at, now).is_empty(),
            });
        }
        views
    }

    /// The nodes that take an alert of these labels, as places in [`Plan::tree`].
    pub fn taken_by(&self, labels: &Labels) -> Vec<usize> {
        self.routes_of(labels)
    }

    /// How many inhibition rules there are.
    pub fn inhibit_rule_count(&self) -> usize {
        self.inhibit_rules.len()
    }

    /// The labels of an alert of our own rules as receivers and silences see them: with the external ones.
    #[must_use]
    pub fn labels_told(&self, labels: &Labels) -> Labels {
        if self.external_labels.is_empty() { labels.clone() } else { self.external_labels.merged(labels) }
    }

    /// When the named times begin or stop to hold; `None` when there are none of that name, or not within two months.
    pub fn time_changes(&self, name: &str, now: Timestamp) -> Option<Timestamp> {
        self.time_intervals.iter().find(|times| times.name == name)?.next_change(now)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::notify::Config;

    #[test]
    fn shows_what_is_inherited_and_which_times_hold_until_when() {
        let text = "
route:
  receiver: root
  group_by: [alertname]
  routes:
  - {receiver: db, matchers: ['service=~\"pg|redis\"'], continue: true, active_time_intervals: [office]}
  - matchers: [severity=page]
    group_by: ['...']
    routes:
    - {receiver: night, matchers: [team=a], mute_time_intervals: [office]}
receivers: [{name: root}, {name: db}, {name: night}]
time_intervals: [{name: office, time_intervals: [{times: [{start_time: '09:00', end_time: '17:00'}]}]}]
";
        let (config, problems) = crate::yaml::decode::<Config>(text);
        assert_eq!(problems, []);
        let plan = Plan::new(&config.unwrap()).map_err(|errors| errors.len()).unwrap();
        let at = |text: &str| Timestamp::from(chrono::DateTime::parse_from_rfc3339(text).unwrap().to_utc());
        let tree = plan.tree(at("2026-03-02T12:00:00Z"));
        let shape: Vec<(usize, &str, bool)> =
            tree.iter().map(|node| (node.depth, node.receiver.as_str(), node.is_muted)).collect();
        assert_eq!(shape, [(0, "root", false), (1, "db", false), (1, "root", false), (2, "night", true)]);
        assert_eq!((tree[3].group_by.clone(), tree[1].group_by.clone()), (None, Some(vec!["alertname".to_owned()])));
        assert_eq!(tree[1].matchers, ["service=~\"pg|redis\""]);
        let office =
            Window { name: "office".into(), mutes: true, holds: true, until: Some(at("2026-03-02T17:00:00Z")) };
        assert_eq!(tree[3].windows, [office]);
        let night = plan.tree(at("2026-03-02T17:00:00Z"));
        assert_eq!((night[1].is_muted, night[3].is_muted), (true, false));
        assert_eq!(night[1].windows[0].until, Some(at("2026-03-03T09:00:00Z")));
        let labels = Labels::from_pairs([("service", "pg"), ("severity", "page"), ("team", "a")]);
        assert_eq!(plan.taken_by(&labels), [1, 3]);
    }
}
