//! The checked routing tree: which receivers an alert goes to, in which group, how often.

use std::sync::Arc;
use std::time::Duration;

use super::config::{Config, InhibitRuleConfig, RouteConfig};
use super::matchers::{MatchersError, all_matchers};
use super::webhook::Webhook;
use crate::http_client;
use crate::model::{Labels, Matcher};

/// One thing wrong with who is told.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A route names nobody that exists.
    #[error("{place}: undefined receiver {name:?}; known: {known}")]
    UndefinedReceiver {
        /// Where, `route.routes[2]`.
        place: String,
        /// The name.
        name: String,
        /// Those that exist.
        known: String,
    },
    /// The root names nobody.
    #[error("route: the root route must name a receiver")]
    NoReceiver,
    /// The root must take everything.
    #[error("route: the root route must not have any matchers")]
    RootMatches,
    /// Two receivers of one name.
    #[error("receivers: the name {0:?} is given twice")]
    RepeatedReceiver(String),
    /// A receiver without a name.
    #[error("receivers[{0}]: the name is missing")]
    NamelessReceiver(usize),
    /// `...` beside other labels, or a label twice.
    #[error("{place}: group_by: {reason}")]
    GroupBy {
        /// Where.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// An interval that must be longer than zero.
    #[error("{place}: {key} must be longer than 0s")]
    ZeroInterval {
        /// Where.
        place: String,
        /// Which.
        key: &'static str,
    },
    /// A matcher that cannot be read.
    #[error("{place}: {source}")]
    Matcher {
        /// Where.
        place: String,
        /// Why.
        source: MatchersError,
    },
    /// A webhook without an address, or with two.
    #[error("receiver {receiver:?}: webhook_configs[{index}]: {reason}")]
    Webhook {
        /// Which receiver.
        receiver: String,
        /// Which of its webhooks.
        index: usize,
        /// What is wrong.
        reason: String,
    },
    /// The HTTP client block cannot be used.
    #[error("receiver {receiver:?}: webhook_configs[{index}]: http_config: {source}")]
    Http {
        /// Which receiver.
        receiver: String,
        /// Which of its webhooks.
        index: usize,
        /// Why.
        source: http_client::Error,
    },
    /// A key whose absence would change who is woken.
    #[error("{place}: {key} is not supported yet: remove it, or silence by hand")]
    NotOffered {
        /// Where.
        place: String,
        /// Which key.
        key: &'static str,
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
    matchers: Vec<Matcher>,
    goes_on: bool,
    children: Vec<usize>,
}

/// One receiver that can be told.
pub(super) struct Receiver {
    pub(super) name: String,
    pub(super) webhooks: Vec<Arc<Webhook>>,
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
#[derive(Default)]
pub struct Plan {
    pub(super) routes: Vec<Route>,
    pub(super) receivers: Vec<Receiver>,
    pub(super) inhibit_rules: Vec<InhibitRule>,
    /// What a pasted file holds that meshscope does not do.
    pub warnings: Vec<String>,
    pub(super) external_labels: Labels,
}

impl Plan {
    /// Checks the configuration.
    ///
    /// # Errors
    /// All mistakes at once.
    pub fn new(config: &Config) -> Result<Self, Vec<PlanError>> {
        let mut plan = Self::default();
        let mut errors = Vec::new();
        plan.add_receivers(config, &mut errors);
        if let Some(root) = &config.route {
            if root.receiver.is_none() {
                errors.push(PlanError::NoReceiver);
            }
            if !(root.matchers.is_empty() && root.equal.is_empty() && root.regex.is_empty()) {
                errors.push(PlanError::RootMatches);
            }
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

    /// Names of the receivers, in the order of the file.
    pub fn receiver_names(&self) -> Vec<&str> {
        self.receivers.iter().map(|receiver| receiver.name.as_str()).collect()
    }

    /// One webhook of a receiver, unless a reload took it away.
    pub(super) fn webhook(&self, receiver: &str, integration: usize) -> Option<&Arc<Webhook>> {
        self.receivers.iter().find(|known| known.name == receiver)?.webhooks.get(integration)
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

    fn add_receivers(&mut self, config: &Config, errors: &mut Vec<PlanError>) {
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
            let mut webhooks = Vec::new();
            for (index, webhook) in receiver.webhook_configs.iter().enumerate() {
                match Webhook::new(&receiver.name, index, webhook) {
                    Ok(webhook) => webhooks.push(Arc::new(webhook)),
                    Err(error) => errors.push(error),
                }
            }
            self.receivers.push(Receiver { name: receiver.name.clone(), webhooks });
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
        let at = self.routes.len();
        self.routes.push(Route {
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

fn group_by(names: &[String], place: &str, errors: &mut Vec<PlanError>) -> GroupBy {
    let mut wrong = |reason: String| errors.push(PlanError::GroupBy { place: place.to_owned(), reason });
    let mut sorted = names.to_vec();
    sorted.sort();
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        wrong(format!("the label {:?} is given twice", pair[0]));
    }
    if !names.iter().any(|name| name == "...") {
        return GroupBy::Names(sorted);
    }
    if names.len() > 1 {
        wrong("`...` means all labels and stands alone".to_owned());
    }
    GroupBy::All
}

fn check_intervals(config: &RouteConfig, place: &str, errors: &mut Vec<PlanError>) {
    for (key, value) in [("group_interval", config.group_interval), ("repeat_interval", config.repeat_interval)] {
        if value.is_some_and(|interval| interval.is_zero()) {
            errors.push(PlanError::ZeroInterval { place: place.to_owned(), key });
        }
    }
    let intervals = [
        ("mute_time_intervals", &config.mute_time_intervals),
        ("active_time_intervals", &config.active_time_intervals),
    ];
    for (key, _) in intervals.into_iter().filter(|(_, names)| !names.is_empty()) {
        errors.push(PlanError::NotOffered { place: place.to_owned(), key });
    }
}

fn inhibit_rule(config: &InhibitRuleConfig) -> Result<InhibitRule, MatchersError> {
    Ok(InhibitRule {
        source: all_matchers(&config.source_matchers, &config.source_match, &config.source_match_re)?,
        target: all_matchers(&config.target_matchers, &config.target_match, &config.target_match_re)?,
        equal: config.equal.clone(),
    })
}
