//! The blocks of `alertmanager.yml` that say who is told: route, receivers, inhibition, times.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::receivers::config::{Globals, ReceiverConfig};
use super::receivers::templates::TemplateFile;
use super::time_interval::TimeIntervalConfig;
use crate::http_client::Reach;
use crate::units::PromDuration;

/// Who is told of which alerts. Field for field as in `alertmanager.yml`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The root of the routing tree; without it nobody is told.
    pub route: Option<RouteConfig>,
    /// Who can be told.
    pub receivers: Vec<ReceiverConfig>,
    /// Which alerts make others superfluous.
    pub inhibit_rules: Vec<InhibitRuleConfig>,
    /// Times that routes name.
    pub time_intervals: Vec<TimeIntervalConfig>,
    /// The same under its old name.
    pub mute_time_intervals: Vec<TimeIntervalConfig>,
    /// After how long an alert that was posted without an end, and not again, counts as resolved. Default 5 min.
    pub resolve_timeout: Option<PromDuration>,
    /// What receivers take that do not say it themselves.
    pub globals: Globals,
    /// Template files that were read, in their order.
    #[serde(skip)]
    pub templates: Vec<TemplateFile>,
    /// Where receivers may be.
    #[serde(skip)]
    pub reach: Reach,
}

/// One node of the routing tree. What is absent is inherited from the parent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RouteConfig {
    /// Name of the receiver.
    pub receiver: Option<String>,
    /// Labels whose values make a group; `...` means all of them.
    pub group_by: Option<Vec<String>>,
    /// All must hold, in the form `severity="page"`.
    pub matchers: Vec<String>,
    /// Equality matchers in the old form.
    #[serde(rename = "match")]
    pub equal: BTreeMap<String, String>,
    /// Regex matchers in the old form.
    #[serde(rename = "match_re")]
    pub regex: BTreeMap<String, Option<String>>,
    /// Go on with the next sibling after this route took the alert.
    #[serde(rename = "continue")]
    pub goes_on: bool,
    /// How long a new group waits for more alerts. Default 30 s.
    pub group_wait: Option<PromDuration>,
    /// Least time between two notifications of a group. Default 5 min.
    pub group_interval: Option<PromDuration>,
    /// How long until an unchanged group is told again. Default 4 h.
    pub repeat_interval: Option<PromDuration>,
    /// Children, tried in order.
    pub routes: Vec<RouteConfig>,
    /// Names of times at which nobody is told.
    pub mute_time_intervals: Vec<String>,
    /// Names of the only times at which somebody is told; without any, always.
    pub active_time_intervals: Vec<String>,
}

/// A firing source alert mutes target alerts that agree with it on `equal`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InhibitRuleConfig {
    /// Name for people; not used.
    pub name: String,
    /// What the muting alert must satisfy.
    pub source_matchers: Vec<String>,
    /// What the muted alert must satisfy.
    pub target_matchers: Vec<String>,
    /// The same in the old form.
    pub source_match: BTreeMap<String, String>,
    /// The same in the old form.
    pub source_match_re: BTreeMap<String, Option<String>>,
    /// The same in the old form.
    pub target_match: BTreeMap<String, String>,
    /// The same in the old form.
    pub target_match_re: BTreeMap<String, Option<String>>,
    /// Labels that both must have with the same value.
    pub equal: Vec<String>,
}
