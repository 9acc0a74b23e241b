//! Tells receivers: routing, grouping, inhibition, silences, deduplication, retry, exactly as Alertmanager does.
//!
//! In: alerts from the rules, over a bounded channel. Out: webhooks, and a [`Record`] of each delivery before it is
//! sent. The decisions are made in `core`, which is pure and driven by timestamps; `dispatcher` sends; [`Status`] is
//! what pages and APIs ask.
//! Knows nothing of rules, series or PostgreSQL.

mod alertmanagers;
mod config;
mod core;
mod dispatcher;
mod group;
mod matchers;
mod mute;
mod order;
mod plan;
mod posted;
mod receivers;
mod silence;
mod status;
mod time_interval;

pub use alertmanagers::{
    AlertSending, AlertingConfig, AlertmanagerConfig, AlertmanagerCounters, AlertmanagerSender, AlertmanagerStatus,
};
pub use config::{Config, InhibitRuleConfig, RouteConfig};
pub use core::{Inhibition, Knows, LogEntry, Notification, Path};
pub use dispatcher::{Annotator, Counters, Delivery, Dispatcher, Inputs, Record};
pub use matchers::{MatchersError, parse_matchers, parse_one_matcher};
pub use plan::{Plan, PlanError, RouteView, Window};
pub use posted::{PostError, Posted};
pub use receivers::config::{
    EmailConfig, Globals, PagerdutyConfig, PagerdutyImage, PagerdutyLink, ReceiverConfig, SignatureConfig, SlackAction,
    SlackConfig, SlackConfirm, SlackField, ThreadingConfig, WebhookConfig,
};
pub use receivers::templates::TemplateFile;
pub use receivers::webhook::go_time;
pub use silence::{SILENCE_RETENTION, Silence, SilenceError, SilenceState, Silences};
pub use status::{AlertStatus, Attempt, GroupStatus, RetryError, Status, UnderWay};
pub use time_interval::{ClockRangeConfig, TimeIntervalConfig, TimesConfig};
