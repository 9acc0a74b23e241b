//! Rule groups evaluated exactly as Prometheus 3 does: alerts, recorded series, rule files, unit tests of rules.
//!
//! In: [`RuleSet`]s read from rule files, the query engine over any `Queryable`. Out: samples in the memory tier, alerts for
//! notify, transitions for the history, a [`Status`] for the API and pages. Invariant: groups are independent; in a group
//! rules run in order, each seeing what the ones before it wrote. Knows nothing of routing, silences or PostgreSQL.

pub mod alerting;
pub mod check;
pub mod definition;
mod expand;
pub mod file;
mod group;
pub mod lint;
pub mod load;
mod manager;
mod query;
mod recording;
mod slot;
pub mod status;
pub mod unittest;

use std::time::Duration;

use serde::Deserialize;

pub use check::{CheckOptions, CheckReport, check};
pub use definition::{AlertingRule, RecordingRule, Rule, RuleGroup, RuleSet};
pub use expand::Text;
pub use file::{FileProblem, ReadOptions};
pub use load::{LoadOptions, glob, load};
pub use manager::{Inputs, Manager, Outputs};
pub use status::{AlertingStatus, Counters, GroupStatus, Health, RuleStatus, Status};

use crate::units::PromDuration;

/// How rules are evaluated, beside what their files say.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How far in the past groups without a `query_offset` are evaluated (`global.rule_query_offset`). Default 0.
    pub rule_query_offset: PromDuration,
    /// Least time between two sendings of one alert. Default 1 m.
    pub resend_delay: PromDuration,
    /// How long after the last sample before a restart an alert's `for` is still taken up. Default 1 h.
    pub for_outage_tolerance: PromDuration,
    /// Least time an alert stays pending after a restart; rules with a shorter `for` start anew. Default 10 m.
    pub for_grace_period: PromDuration,
}

impl Default for Config {
    fn default() -> Self {
        let minutes = |m: u64| PromDuration::from(Duration::from_secs(m * 60));
        Self {
            rule_query_offset: minutes(0),
            resend_delay: minutes(1),
            for_outage_tolerance: minutes(60),
            for_grace_period: minutes(10),
        }
    }
}
