//! Turns edge minutes into a service graph with health.
//!
//! In: [`EdgeMinute`](crate::model::EdgeMinute)s of a range, from the rollup in memory or the store. Out:
//! [`ServiceGraph`], its [`layout`], answers to [`find`] expressions and walks over it. Pure functions, no IO: equal
//! input gives equal output, in the same order. Knows nothing of HTTP, JSON or SVG.
//!
//! Counting (DESIGN.md §5): the reports of both sides of an edge are never added. The client's (`source`, else
//! `waypoint`) counts, the server's fills in where no client reports, spans where no proxy does. L4 and L7 of one edge
//! are layers of it, never summed.

mod build;
pub mod cause;
pub mod compare;
mod diagnose;
pub mod film;
pub mod find;
pub mod flags;
pub mod health;
pub mod layout;
mod nodes;
mod resolve;
mod sum;
mod types;
pub mod walk;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use build::build;
pub use types::{
    Config, Connections, Edge, Evidence, GraphOptions, Latency, MutualTls, MutualTlsEvidence, Node, NodeKind,
    NodeTraffic, OutcomeShare, Requests, ServiceGraph, Totals, View,
};
