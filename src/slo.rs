//! Service level objectives: from a few lines of configuration to recorded series, alerts on the burn of error budgets,
//! and what a page says of them.
//!
//! In: the block `slos`. Out: rule groups for the ordinary rule engine ([`groups`]), the same as a rule file ([`export()`]),
//! and what the recorded series say ([`Board`]). Invariant: what is exported is what the engine runs. An objective with a
//! glob covers every service that has series, found by grouping at each evaluation. Knows no HTTP and no PostgreSQL.

mod config;
mod export;
mod forecast;
mod generate;
mod indicator;
mod names;
mod selector;
mod status;

pub use config::{
    AlertingConfig, AvailabilityConfig, ConnectionsConfig, ErrorRatioConfig, EventsConfig, Excluded, IndicatorConfig,
    LatencyConfig, Mesh, Objective, SeverityConfig, Slo, SloConfig, Slos, View, Window,
};
pub use export::export;
pub use forecast::Forecast;
pub use generate::{ALERT_FAST, ALERT_SLOW, FILE, factor, groups};
pub use indicator::Indicator;
pub use selector::{EdgeSelector, RouteSelector, ServiceSelector};
pub use status::{Board, BurnRate, Firing, Instance, Report, State};
