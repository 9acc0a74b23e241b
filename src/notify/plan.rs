//! The checked routing tree: which receivers an alert goes to, in which group, how often.

mod tree;

use std::sync::Arc;
use std::time::Duration;

use super::config::{Config, InhibitRuleConfig, RouteConfig};
use super::matchers::{MatchersError, all_matchers};
use super::receivers::config::ReceiverConfig;
use super::receivers::templates::Templates;
use super::receivers::{Integration, Parts, Problem};
use super::time_interval::TimeInterval;
use crate::model::{Labels, Matcher, Timestamp};

pub use tree::{RouteView, Window};

/// After how long an alert that was posted without an end counts as resolved (Alertmanager `resolve_timeout`).
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// One thing wrong with who is told: the place, and where Alertmanager refuses it too its sentence.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A route names nobody that exists.
    #[error("{place}: undefined receiver {name:?} used in route; known: {known}")]
    UndefinedReceiver {
        /// Where, `route.routes[2]`.
        place: String,
        /// The name.
        name: String,
        /// Those that exist.
        known: String,
    },
    /// The root names nobody.
    #[error("route: root route must specify a default receiver")]
    NoReceiver,
    /// The root must take everything.
    #[error("route: root route must not have any matchers")]
    RootMatches,
    /// The root has no siblings.
    #[error("route: cannot have continue in root route")]
    RootContinues,
    /// Two receivers of one name.
    #[error("receivers: notification config name {0:?} is not unique")]
    RepeatedReceiver(String),
    /// A receiver without a name.
    #[error("receivers[{0}]: missing name in receiver")]
    NamelessReceiver(usize),
    /// `...` beside other labels, or a label twice.
    #[error("{place}: {reason}")]
    GroupBy {
        /// Where.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// An interval that must be longer than zero.
    #[error("{place}: {key} cannot be zero")]
    ZeroInterval {
        /// Where.
        place: String,
        /// Which.
        key: &'static str,
    },
    /// A matcher that cannot be read.
    #[error("{place}: {source}{}", source.mend())]
    Matcher {
        /// Where.
        place: String,
        /// Why.
        source: MatchersError,
    },
    /// A block of a receiver that cannot be used.
    #[error("receiver {receiver:?}: {place}: {reason}")]
    Receiver {
        /// Which receiver.
        receiver: String,
        /// Which block, `webhook_configs[0]`.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// A default of receivers that cannot be used.
    #[error("global: {0}")]
    Global(String),
    /// A template file that cannot be read as one.
    #[error("templates: {0}")]
    Template(String),
    /// Times that cannot be read, or a name given twice.
    #[error("{place}: {reason}")]
    TimeInterval {
        /// Where.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// The root always tells.
    #[error("route: root route must not have any {0}")]
    RootIsMuted(&'static str),
    /// A route names times that do not exist.
    #[error("{place}: {key}: undefined time interval {name:?} used in route; known: {known}")]
    UndefinedTimeInterval {
        /// Where.
        place: String,
        /// Which key.
        key: &'static str,
        /// The name.
        name: String,
        /// Those that exist.
        known: String,
    },
}

/// Which labels make a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum GroupBy {
    /// `...`: each alert its own group.
    All,
    /// These, sorted.
    Names(Vec<String>),
}

impl GroupBy {
    pub(super) fn labels_of(&self, labels: &Labels) -> Labels {
        match self {
            Self::All => labels.clone(),
            Self::Names(names) => labels.only(names),
        }
    }
}

/// One node of the checked tree, with everything inherited filled in.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) receiver: usize,
    pub(super) group_by: GroupBy,
    pub(super) group_wait: Duration,
    pub(super) group_interval: Duration,
    pub(super) repeat_interval: Duration,
    /// Matchers of the path, as the group key has them: `{}/{severity="page"}`.
    pub(super) key: String,
    /// Times at which nobody is told, as indices.
    mute: Vec<usize>,
    /// The only times at which somebody is told; empty for always.
    active: Vec<usize>,
    matchers: Vec<Matcher>,
    goes_on: bool,
    children: Vec<usize>,
}

/// One receiver that can be told.
pub(super) struct Receiver {
    pub(super) name: String,
    pub(super) integrations: Vec<Arc<Integration>>,
}

/// A firing source mutes targets.
pub(super) struct InhibitRule {
    pub(super) source: Vec<Matcher>,
    pub(super) target: Vec<Matcher>,
    pub(super) equal: Vec<String>,
}

impl InhibitRule {
    /// What source and target must agree on.
    pub(super) fn equal_values(&self, labels: &Labels) -> Box<[String]> {
        self.equal.iter().map(|name| labels.value(name).to_owned()).collect()
    }
}

/// Who is told, checked and ready. Without a route nobody is.
pub struct Plan {
    pub(super) routes: Vec<Route>,
    pub(super) receivers: Vec<Receiver>,
    pub(super) inhibit_rules: Vec<InhibitRule>,
    /// What a pasted file holds that meshscope does not do.
    pub warnings: Vec<String>,
    pub(super) external_labels: Labels,
    pub(super) resolve_timeout: Duration,
    time_intervals: Vec<TimeInterval>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            routes: Vec::new(),
            receivers: Vec::new(),
            inhibit_rules: Vec::new(),
            warnings: Vec::new(),
            external_labels: Labels::empty(),
            resolve_timeout: RESOLVE_TIMEOUT,
            time_intervals: Vec::new(),
        }
    }
}

impl Plan {
    /// Checks the configuration.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn new(config: &Config) -> Result<Self, Vec<PlanError>> {
        let mut plan = Self::default();
        let mut errors = Vec::new();
        plan.resolve_timeout = config.resolve_timeout.map_or(RESOLVE_TIMEOUT, |timeout| timeout.get());
        errors.extend(config.globals.problems().into_iter().map(PlanError::Global));
        plan.add_time_intervals(config, &mut errors);
        plan.add_receivers(config, &mut errors);
        if let Some(root) = &config.route {
            if root.receiver.is_none() {
                errors.push(PlanError::NoReceiver);
            }
            if !(root.matchers.is_empty() && root.equal.is_empty() && root.regex.is_empty()) {
                errors.push(PlanError::RootMatches);
            }
            if root.goes_on {
                errors.push(PlanError::RootContinues);
            }
            let muted = [
                (!root.mute_time_intervals.is_empty(), "mute time intervals"),
                (!root.active_time_intervals.is_empty(), "active time intervals"),
            ];
            errors.extend(muted.into_iter().filter(|(given, _)| *given).map(|(_, key)| PlanError::RootIsMuted(key)));
            plan.add_route(root, None, "route".to_owned(), &mut errors);
        }
        for (i, rule) in config.inhibit_rules.iter().enumerate() {
            match inhibit_rule(rule) {
                Ok(rule) => plan.inhibit_rules.push(rule),
                Err(source) => errors.push(PlanError::Matcher { place: format!("inhibit_rules[{i}]"), source }),
            }
        }
        if errors.is_empty() { Ok(plan) } else { Err(errors) }
    }

    /// The same, with labels (`global.external_labels`) that each alert gets which does not have them, as Prometheus'
    /// notifier does.
    #[must_use]
    pub fn adding(self, external_labels: Labels) -> Self {
        Self { external_labels, ..self }
    }

    /// The labels under which receivers are told of an alert that has these: with the external ones.
    pub fn told_labels(&self, labels: &Labels) -> Labels {
        self.external_labels.merged(labels)
    }

    /// Names of the receivers, in the order of the file.
    pub fn receiver_names(&self) -> Vec<&str> {
        self.receivers.iter().map(|receiver| receiver.name.as_str()).collect()
    }

    /// Receivers in the order of the file, with the kinds of their integrations.
    pub fn receiver_kinds(&self) -> Vec<(&str, Vec<&'static str>)> {
        let kinds = |receiver: &Receiver| receiver.integrations.iter().map(|one| one.kind()).collect();
        self.receivers.iter().map(|receiver| (receiver.name.as_str(), kinds(receiver))).collect()
    }

    /// One integration of a receiver, unless a reload took it away or put one of another kind in its place.
    pub(super) fn integration(&self, receiver: &str, number: usize, kind: &str) -> Option<&Arc<Integration>> {
        let found = self.receivers.iter().find(|known| known.name == receiver)?.integrations.get(number)?;
        (found.kind() == kind).then_some(found)
    }

    /// The routes that take an alert: depth first, the first matching child unless it says `continue`; a node whose
    /// children do not match takes it itself (Alertmanager `dispatch.Route.Match`).
    pub(super) fn routes_of(&self, labels: &Labels) -> Vec<usize> {
        let mut taken = Vec::new();
        if !self.routes.is_empty() {
            self.descend(0, labels, &mut taken);
        }
        taken
    }

    fn descend(&self, at: usize, labels: &Labels, taken: &mut Vec<usize>) -> bool {
        let route = &self.routes[at];
        if !route.matchers.iter().all(|matcher| matcher.matches_labels(labels)) {
            return false;
        }
        let before = taken.len();
        for child in &route.children {
            if self.descend(*child, labels, taken) && !self.routes[*child].goes_on {
                break;
            }
        }
        if taken.len() == before {
            taken.push(at);
        }
        true
    }

    /// Why nobody is told of a route at `now`: the mute times that hold, or the active times of which none does.
    pub(super) fn muted_by(&self, route: usize, now: Timestamp) -> Vec<String> {
        let Route { mute, active, .. } = &self.routes[route];
        let holds = |at: &&usize| self.time_intervals[**at].contains(now);
        let name = |at: &usize| self.time_intervals[*at].name.clone();
        if !active.is_empty() && !active.iter().any(|at| holds(&at)) {
            return active.iter().map(name).collect();
        }
        mute.iter().filter(holds).map(name).collect()
    }

    fn add_time_intervals(&mut self, config: &Config, errors: &mut Vec<PlanError>) {
        let blocks = [("time_intervals", &config.time_intervals), ("mute_time_intervals", &config.mute_time_intervals)];
        for (key, intervals) in blocks {
            for (i, interval) in intervals.iter().enumerate() {
                let wrong = |reason| PlanError::TimeInterval { place: format!("{key}[{i}]"), reason };
                if self.time_intervals.iter().any(|known| known.name == interval.name) {
                    errors.push(wrong(format!("time interval {:?} is not unique", interval.name)));
                }
                match TimeInterval::new(interval) {
                    Ok(interval) => self.time_intervals.push(interval),
                    Err(reason) => errors.push(wrong(reason)),
                }
            }
        }
    }

    fn times_named(
        &self,
        (key, names): (&'static str, &[String]),
        place: &str,
        errors: &mut Vec<PlanError>,
    ) -> Vec<usize> {
        let mut found = Vec::new();
        for name in names {
            match self.time_intervals.iter().position(|known| known.name == *name) {
                Some(at) => found.push(at),
                None => {
                    let known: Vec<&str> = self.time_intervals.iter().map(|known| known.name.as_str()).collect();
                    let (place, known) = (place.to_owned(), known.join(", "));
                    errors.push(PlanError::UndefinedTimeInterval { place, key, name: name.clone(), known });
                }
            }
        }
        found
    }

    fn add_receivers(&mut self, config: &Config, errors: &mut Vec<PlanError>) {
        let (templates, problems) = Templates::new(&config.templates);
        errors.extend(problems.into_iter().map(PlanError::Template));
        let parts = Parts { globals: &config.globals, templates: &templates, reach: &config.reach };
        let globals_use_oauth2 = config.globals.http_config.as_ref().is_some_and(|client| client.oauth2.is_some());
        for (i, receiver) in config.receivers.iter().enumerate() {
            if receiver.name.is_empty() {
                errors.push(PlanError::NamelessReceiver(i));
            } else if self.receivers.iter().any(|known| known.name == receiver.name) {
                errors.push(PlanError::RepeatedReceiver(receiver.name.clone()));
            }
            for kind in receiver.kinds_not_offered() {
                self.warnings
                    .push(format!("receiver {:?}: {kind} is not supported: nobody is told that way", receiver.name));
            }
            if http_clients_of(receiver).any(|client| client.oauth2.is_some()) || globals_use_oauth2 {
                let name = &receiver.name;
                self.warnings.push(format!("receiver {name:?}: oauth2 is not supported: requests go out without it"));
            }
            let (integrations, problems) = Integration::of_receiver(receiver, &parts);
            for Problem { place, reason, is_warning } in problems {
                let receiver = receiver.name.clone();
                match is_warning {
                    true => self.warnings.push(format!("receiver {receiver:?}: {place}: {reason}")),
                    false => errors.push(PlanError::Receiver { receiver, place, reason }),
                }
            }
            let integrations = integrations.into_iter().map(Arc::new).collect();
            self.receivers.push(Receiver { name: receiver.name.clone(), integrations });
        }
    }

    fn add_route(
        &mut self,
        config: &RouteConfig,
        parent: Option<usize>,
        place: String,
        errors: &mut Vec<PlanError>,
    ) -> usize {
        let inherited = parent.map(|at| self.routes[at].clone());
        let receiver = match (&config.receiver, &inherited) {
            (Some(name), _) => self.receiver_named(name, &place, errors),
            (None, Some(parent)) => parent.receiver,
            (None, None) => 0,
        };
        let matchers = all_matchers(&config.matchers, &config.equal, &config.regex).unwrap_or_else(|source| {
            errors.push(PlanError::Matcher { place: place.clone(), source });
            Vec::new()
        });
        let group_by = match &config.group_by {
            Some(names) => group_by(names, &place, errors),
            None => inherited.as_ref().map_or(GroupBy::Names(Vec::new()), |parent| parent.group_by.clone()),
        };
        check_intervals(config, &place, errors);
        let seconds = Duration::from_secs;
        let of = |own: Option<crate::units::PromDuration>, inherited: Option<Duration>, default: Duration| {
            own.map(crate::units::PromDuration::get).or(inherited).unwrap_or(default)
        };
        let texts: Vec<String> = matchers.iter().map(ToString::to_string).collect();
        let own_key = format!("{{{}}}", texts.join(","));
        let key = inherited.as_ref().map_or_else(|| own_key.clone(), |parent| format!("{}/{own_key}", parent.key));
        let mute = self.times_named(("mute_time_intervals", &config.mute_time_intervals), &place, errors);
        let active = self.times_named(("active_time_intervals", &config.active_time_intervals), &place, errors);
        let at = self.routes.len();
        self.routes.push(Route {
            mute,
            active,
            receiver,
            group_by,
            group_wait: of(config.group_wait, inherited.as_ref().map(|p| p.group_wait), seconds(30)),
            group_interval: of(config.group_interval, inherited.as_ref().map(|p| p.group_interval), seconds(300)),
            repeat_interval: of(
                config.repeat_interval,
                inherited.as_ref().map(|p| p.repeat_interval),
                seconds(4 * 3600),
            ),
            key,
            matchers,
            goes_on: config.goes_on,
            children: Vec::new(),
        });
        for (i, child) in config.routes.iter().enumerate() {
            let child = self.add_route(child, Some(at), format!("{place}.routes[{i}]"), errors);
            self.routes[at].children.push(child);
        }
        at
    }

    fn receiver_named(&self, name: &str, place: &str, errors: &mut Vec<PlanError>) -> usize {
        self.receivers.iter().position(|receiver| receiver.name == name).unwrap_or_else(|| {
            let known = self.receiver_names().join(", ");
            errors.push(PlanError::UndefinedReceiver { place: place.to_owned(), name: name.to_owned(), known });
            0
        })
    }
}

fn http_clients_of(receiver: &ReceiverConfig) -> impl Iterator<Item = &crate::http_client::Config> {
    let webhooks = receiver.webhook_configs.iter().map(|block| &block.http_config);
    let slack = receiver.slack_configs.iter().map(|block| &block.http_config);
    let pagerduty = receiver.pagerduty_configs.iter().map(|block| &block.http_config);
    webhooks.chain(slack).chain(pagerduty).flatten()
}

fn group_by(names: &[String], place: &str, errors: &mut Vec<PlanError>) -> GroupBy {
    let mut wrong = |reason: String| errors.push(PlanError::GroupBy { place: place.to_owned(), reason });
    let mut sorted = names.to_vec();
    sorted.sort();
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        wrong(format!("duplicated label {:?} in group_by", pair[0]));
    }
    if names.iter().any(String::is_empty) {
        wrong("invalid label name \"\" in group_by list".to_owned());
    }
    if !names.iter().any(|name| name == "...") {
        return GroupBy::Names(sorted);
    }
    if names.len() > 1 {
        wrong("cannot have wildcard group_by (`...`) and other labels at the same time".to_owned());
    }
    GroupBy::All
}

fn check_intervals(config: &RouteConfig, place: &str, errors: &mut Vec<PlanError>) {
    for (key, value) in [("group_interval", config.group_interval), ("repeat_interval", config.repeat_interval)] {
        if value.is_some_and(|interval| interval.is_zero()) {
            errors.push(PlanError::ZeroInterval { place: place.to_owned(), key });
        }
    }
}

fn inhibit_rule(config: &InhibitRuleConfig) -> Result<InhibitRule, MatchersError> {
    Ok(InhibitRule {
        source: all_matchers(&config.source_matchers, &config.source_match, &config.source_match_re)?,
        target: all_matchers(&config.target_matchers, &config.target_match, &config.target_match_re)?,
        equal: config.equal.clone(),
    })
}
