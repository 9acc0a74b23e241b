//! All alerts as they stand: those of our rules, pending ones included, and those that others posted, as one list.
//!
//! In: the status of the rules and of the dispatcher. Out: [`BoardAlert`]s, chosen and grouped as people ask for. Invariant:
//! an alert is listed once, whoever knows of it. Only reads memory, so it answers while PostgreSQL is away.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Alert, AlertState, Labels, Matcher, Timestamp};
use crate::notify::{self, MatchersError, SilenceState, parse_matchers};
use crate::rules;

/// Labels that tell how grave an alert is, where it is, and whom it concerns; the first that is there counts.
const SEVERITY: [&str; 2] = ["severity", "priority"];
const NAMESPACE: [&str; 6] = [
    "destination_service_namespace",
    "destination_workload_namespace",
    "namespace",
    "source_workload_namespace",
    "kubernetes_namespace",
    "exported_namespace",
];
const SERVICE: [&str; 8] = [
    "destination_service_name",
    "destination_service",
    "service",
    "destination_workload",
    "workload",
    "deployment",
    "app",
    "source_workload",
];
/// Severities, the gravest first; all others come after.
const GRAVEST: [&str; 12] =
    ["critical", "page", "p1", "emergency", "fatal", "error", "high", "p2", "warning", "warn", "medium", "p3"];
/// Most names of one kind that a choice offers.
const CHOICES_MAX: usize = 200;

/// The rule that raised an alert.
#[derive(Clone, Debug)]
pub struct RuleOf {
    /// Its group, which knows its file.
    pub group: Arc<rules::GroupStatus>,
    /// Its place in the group.
    pub number: usize,
}

impl RuleOf {
    /// The rule.
    pub fn rule(&self) -> &rules::RuleStatus {
        &self.group.rules[self.number]
    }
}

/// One alert as it stands.
#[derive(Clone, Debug)]
pub struct BoardAlert {
    /// Fingerprint of its own labels: what the history and addresses of pages know it by.
    pub id: u64,
    /// Fingerprint of its labels as they are told, with the external ones: what receivers and Alertmanager's API know.
    pub told_id: u64,
    /// The alert with its own labels.
    pub alert: Alert,
    /// Its labels as silences and routes see them.
    pub told: Labels,
    /// The rule; `None` for one that another server posted, or whose rule is gone.
    pub rule: Option<RuleOf>,
    /// Ids of the silences that mute it, or would once it fires.
    pub silenced_by: Vec<String>,
    /// Fingerprints, as told, of the alerts that mute it.
    pub inhibited_by: Vec<u64>,
    /// Names of the times that keep every receiver of it quiet now; empty when one of them is told.
    pub muted_by: Vec<String>,
    /// Names of the receivers it goes to.
    pub receivers: Vec<String>,
}

impl BoardAlert {
    /// Whether nobody is told of it for now.
    pub fn is_quiet(&self) -> bool {
        !(self.silenced_by.is_empty() && self.inhibited_by.is_empty() && self.muted_by.is_empty())
    }

    /// Since when it is in its state.
    pub fn since(&self) -> Timestamp {
        match self.alert.state {
            AlertState::Firing => self.alert.fired_at.unwrap_or(self.alert.active_at),
            _ => self.alert.active_at,
        }
    }

    /// What it says of its severity, namespace and service.
    pub fn place(&self) -> Place<'_> {
        Place::of(&self.told)
    }

    /// Alerts that need somebody come first: firing, not quiet, grave, new.
    fn order(&self) -> (u8, bool, usize, std::cmp::Reverse<Timestamp>, u64) {
        let state = u8::from(self.alert.state != AlertState::Firing);
        (state, self.is_quiet(), gravity(self.place().severity), std::cmp::Reverse(self.since()), self.id)
    }
}

fn gravity(severity: &str) -> usize {
    let at = GRAVEST.iter().position(|known| known.eq_ignore_ascii_case(severity));
    at.unwrap_or(GRAVEST.len() + usize::from(severity.is_empty()))
}

/// Where an alert is and how grave; empty for what its labels do not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place<'a> {
    /// `critical`.
    pub severity: &'a str,
    /// Namespace of what is concerned.
    pub namespace: &'a str,
    /// Service or workload that is concerned.
    pub service: &'a str,
}

impl<'a> Place<'a> {
    /// Reads the labels that usually tell.
    pub fn of(labels: &'a Labels) -> Self {
        let first = |names: &[&str]| names.iter().find_map(|name| labels.get(name)).unwrap_or_default();
        Self { severity: first(&SEVERITY), namespace: first(&NAMESPACE), service: first(&SERVICE) }
    }
}

/// Which alerts are asked for. Empty conditions take all.
#[derive(Clone, Debug, Default)]
pub struct AlertFilter {
    /// Pending or firing.
    pub state: Option<AlertState>,
    /// Only those that are quiet, or only those that are not.
    pub quiet: Option<bool>,
    /// Exactly this severity.
    pub severity: String,
    /// Exactly this namespace.
    pub namespace: String,
    /// Exactly this service.
    pub service: String,
    /// A receiver that it goes to.
    pub receiver: String,
    /// Conditions on the labels as they are told.
    pub matchers: Vec<Matcher>,
    /// Text that a name, label or annotation must hold, in lower case.
    pub text: String,
}

/// What people type into one field: matchers when it has an operator, else words.
///
/// # Errors
/// When it looks like matchers and cannot be read as such.
pub fn read_search(text: &str) -> Result<(Vec<Matcher>, String), MatchersError> {
    let text = text.trim();
    let looks_like_matchers = text.starts_with('{') || text.contains('=') || text.contains("!~");
    match looks_like_matchers {
        true => Ok((parse_matchers(text)?, String::new())),
        false => Ok((Vec::new(), text.to_lowercase())),
    }
}

impl AlertFilter {
    /// Whether an alert is asked for.
    pub fn takes(&self, alert: &BoardAlert) -> bool {
        let place = alert.place();
        let is = |wanted: &str, there: &str| wanted.is_empty() || wanted == there;
        self.state.is_none_or(|state| state == alert.alert.state)
            && self.quiet.is_none_or(|quiet| quiet == alert.is_quiet())
            && is(&self.severity, place.severity)
            && is(&self.namespace, place.namespace)
            && is(&self.service, place.service)
            && (self.receiver.is_empty() || alert.receivers.contains(&self.receiver))
            && self.matchers.iter().all(|matcher| matcher.matches_labels(&alert.told))
            && (self.text.is_empty() || self.is_said_in(alert))
    }

    fn is_said_in(&self, alert: &BoardAlert) -> bool {
        let holds = |text: &str| text.to_lowercase().contains(&self.text);
        let said = alert.told.iter().chain(alert.alert.annotations.iter());
        said.into_iter().any(|(name, value)| holds(name) || holds(value))
    }
}

/// By what alerts stand together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AlertGrouping {
    /// Name of the alert.
    #[default]
    Name,
    /// Service that is concerned.
    Service,
    /// Namespace that is concerned.
    Namespace,
    /// Receivers that it goes to.
    Receiver,
    /// One list.
    None,
}

impl AlertGrouping {
    /// All, with the names that addresses use.
    pub const ALL: [(&'static str, Self); 5] = [
        ("name", Self::Name),
        ("service", Self::Service),
        ("namespace", Self::Namespace),
        ("receiver", Self::Receiver),
        ("none", Self::None),
    ];

    fn key(self, alert: &BoardAlert) -> String {
        match self {
            Self::Name => alert.told.value("alertname").to_owned(),
            Self::Service => alert.place().service.to_owned(),
            Self::Namespace => alert.place().namespace.to_owned(),
            Self::Receiver => alert.receivers.join(", "),
            Self::None => String::new(),
        }
    }
}

/// Alerts that stand together.
#[derive(Clone, Debug)]
pub struct AlertSection {
    /// What they have in common; empty when they lack it.
    pub key: String,
    /// Those that need somebody first.
    pub alerts: Vec<BoardAlert>,
}

/// The values by which alerts can be chosen, with how many have each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlertChoices {
    /// Severities.
    pub severities: Vec<(String, usize)>,
    /// Namespaces.
    pub namespaces: Vec<(String, usize)>,
    /// Services.
    pub services: Vec<(String, usize)>,
}

/// Reads all alerts. Clones share it.
#[derive(Clone)]
pub struct AlertBoard {
    rules: rules::Status,
    notify: notify::Status,
}

impl AlertBoard {
    /// Joins what the rules and the dispatcher know.
    pub fn new(rules: rules::Status, notify: notify::Status) -> Self {
        Self { rules, notify }
    }

    /// Every alert that waits or fires at `now`, those that need somebody first.
    pub fn alerts(&self, now: Timestamp) -> Vec<BoardAlert> {
        let plan = self.notify.plan();
        let silences = self.notify.silences().active(now);
        let mut told: HashMap<u64, notify::AlertStatus> =
            self.notify.alerts().into_iter().map(|status| (status.alert.labels.fingerprint(), status)).collect();
        let mut board = Vec::new();
        for group in self.rules.groups() {
            for (number, rule) in group.rules.iter().enumerate() {
                let Some(alerting) = &rule.alerting else { continue };
                for alert in alerting.alerts.iter().filter(|alert| alert.state != AlertState::Inactive) {
                    let labels = plan.labels_told(&alert.labels);
                    let told_id = labels.fingerprint();
                    let known = told.remove(&told_id).filter(|_| alert.state == AlertState::Firing);
                    let (silenced_by, inhibited_by) = match known {
                        Some(status) => (status.silenced_by, status.inhibited_by),
                        None => {
                            let muting = silences.iter().filter(|silence| silence.mutes(&labels, now));
                            (muting.map(|silence| silence.id.clone()).collect(), Vec::new())
                        }
                    };
                    let rule = Some(RuleOf { group: Arc::clone(&group), number });
                    board.push(BoardAlert {
                        id: alert.labels.fingerprint(),
                        told_id,
                        alert: alert.clone(),
                        told: labels,
                        rule,
                        silenced_by,
                        inhibited_by,
                        muted_by: Vec::new(),
                        receivers: Vec::new(),
                    });
                }
            }
        }
        board.extend(told.into_values().map(of_others));
        let tree = plan.tree(now);
        for alert in &mut board {
            let routes = plan.taken_by(&alert.told);
            alert.receivers = routes.iter().map(|route| tree[*route].receiver.clone()).collect();
            alert.receivers.dedup();
            let all_muted = !routes.is_empty() && routes.iter().all(|route| tree[*route].is_muted);
            if all_muted {
                let mut names: Vec<String> = (routes.iter().flat_map(|route| &tree[*route].windows))
                    .filter(|window| window.mutes == window.holds)
                    .map(|window| window.name.clone())
                    .collect();
                names.sort();
                names.dedup();
                alert.muted_by = names;
            }
        }
        board.sort_by_cached_key(BoardAlert::order);
        board
    }

    /// How many alerts of `alerts` a silence mutes, and the first of them.
    pub fn muted_by<'a>(silence: &notify::Silence, alerts: &'a [BoardAlert]) -> Vec<&'a BoardAlert> {
        alerts.iter().filter(|alert| silence.matches(&alert.told)).collect()
    }

    /// How long until the silences that mute an alert have all ended; `None` when one of them is unknown or none mutes it.
    pub fn silent_for(&self, alert: &BoardAlert, now: Timestamp) -> Option<Duration> {
        let ends = alert.silenced_by.iter().map(|id| self.notify.silences().get(id));
        let ends = ends.map(|found| found.filter(|one| one.state(now) == SilenceState::Active).map(|one| one.ends_at));
        ends.collect::<Option<Vec<Timestamp>>>()?.into_iter().max().map(|end| end.since(now))
    }
}

/// One that no rule of ours holds now.
fn of_others(status: notify::AlertStatus) -> BoardAlert {
    let notify::AlertStatus { alert, silenced_by, inhibited_by, .. } = status;
    let id = alert.labels.fingerprint();
    BoardAlert {
        id,
        told_id: id,
        told: alert.labels.clone(),
        alert,
        rule: None,
        silenced_by,
        inhibited_by,
        muted_by: Vec::new(),
        receivers: Vec::new(),
    }
}

/// Puts alerts that stand together into sections, in the order of their first.
pub fn in_sections(alerts: Vec<BoardAlert>, by: AlertGrouping) -> Vec<AlertSection> {
    let mut sections: Vec<AlertSection> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for alert in alerts {
        let key = by.key(&alert);
        let at = *places.entry(key.clone()).or_insert_with(|| {
            sections.push(AlertSection { key, alerts: Vec::new() });
            sections.len() - 1
        });
        sections[at].alerts.push(alert);
    }
    sections
}

/// By what alerts can be chosen; of each kind at most two hundred, the commonest.
pub fn choices(alerts: &[BoardAlert]) -> AlertChoices {
    let count = |pick: fn(&Place<'_>) -> String| {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for alert in alerts {
            *counts.entry(pick(&alert.place())).or_default() += 1;
        }
        counts.remove("");
        let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        counts.truncate(CHOICES_MAX);
        counts.sort();
        counts
    };
    let mut choices = AlertChoices {
        severities: count(|place| place.severity.to_owned()),
        namespaces: count(|place| place.namespace.to_owned()),
        services: count(|place| place.service.to_owned()),
    };
    choices.severities.sort_by_key(|(name, _)| gravity(name));
    choices
}
