//! The blocks of `alertmanager.yml` that say who is told: route, receivers, inhibition, times.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::time_interval::TimeIntervalConfig;
use crate::http_client;
use crate::units::{PromDuration, Secret};

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
    pub regex: BTreeMap<String, String>,
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

macro_rules! receiver_config {
    ($($kind:ident),* $(,)?) => {
        /// One receiver. Kinds other than webhooks are read so that a pasted file loads, and named in a warning.
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct ReceiverConfig {
            /// Unique name.
            pub name: String,
            /// HTTP endpoints that get payload version 4.
            pub webhook_configs: Vec<WebhookConfig>,
            $($kind: Option<IgnoredAny>,)*
        }

        impl ReceiverConfig {
            /// Keys of the kinds that this receiver configures and that are not offered.
            pub fn kinds_not_offered(&self) -> Vec<&'static str> {
                [$((self.$kind.is_some(), stringify!($kind)),)*]
                    .into_iter().filter(|(given, _)| *given).map(|(_, kind)| kind).collect()
            }
        }
    };
}

receiver_config!(
    discord_configs,
    email_configs,
    incidentio_configs,
    jira_configs,
    mattermost_configs,
    msteams_configs,
    msteamsv2_configs,
    opsgenie_configs,
    pagerduty_configs,
    pushover_configs,
    rocketchat_configs,
    slack_configs,
    sns_configs,
    telegram_configs,
    victorops_configs,
    webex_configs,
    wechat_configs,
);

/// One HTTP endpoint.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookConfig {
    /// Where to POST. May hold a token, so it is not printed.
    pub url: Option<Secret>,
    /// A file that holds the address.
    pub url_file: Option<std::path::PathBuf>,
    /// Whether to tell when alerts are resolved. Default true.
    pub send_resolved: bool,
    /// Most alerts in one payload, 0 for all; the rest is counted in `truncatedAlerts`.
    pub max_alerts: usize,
    /// Longest time of one attempt, 0 for the default of 10 s.
    pub timeout: PromDuration,
    /// TLS, authentication, proxy.
    pub http_config: http_client::Config,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self {
            url: None,
            url_file: None,
            send_resolved: true,
            max_alerts: 0,
            timeout: PromDuration::default(),
            http_config: http_client::Config::default(),
        }
    }
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
    pub source_match_re: BTreeMap<String, String>,
    /// The same in the old form.
    pub target_match: BTreeMap<String, String>,
    /// The same in the old form.
    pub target_match_re: BTreeMap<String, String>,
    /// Labels that both must have with the same value.
    pub equal: Vec<String>,
}
