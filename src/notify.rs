//! Tells receivers: routing, grouping, inhibition, silences, deduplication, retry, exactly as Alertmanager does.
//!
//! In: alerts from the rules, over a bounded channel. Out: webhooks, and a [`Record`] of each delivery before it is
//! sent. The decisions are made in `core`, which is pure and driven by timestamps; `dispatcher` sends.
//! Knows nothing of rules, series or PostgreSQL.

mod alertmanagers;
mod config;
mod core;
mod dispatcher;
mod group;
mod matchers;
mod plan;
mod silence;
mod status;
mod webhook;

pub use alertmanagers::{
    AlertSending, AlertingConfig, AlertmanagerConfig, AlertmanagerCounters, AlertmanagerSender, AlertmanagerStatus,
};
pub use config::{Config, InhibitRuleConfig, ReceiverConfig, RouteConfig, WebhookConfig};
pub use core::{LogEntry, Notification};
pub use dispatcher::{Counters, Delivery, Dispatcher, Inputs, Record};
pub use matchers::{MatchersError, parse_matchers};
pub use plan::{Plan, PlanError};
pub use silence::{Silence, SilenceState};
pub use status::{Attempt, GroupStatus, Status};
pub use webhook::go_time;
