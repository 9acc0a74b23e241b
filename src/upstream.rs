//! An engine elsewhere that speaks Prometheus' HTTP API, asked where our own store has nothing.
//!
//! In: the block `storage.query_upstream`. Out: [`Joined`], which answers for our own store and the upstream as one;
//! edges of the upstream's mesh metrics, its metadata and exemplars. Knows no pages, rules or PostgreSQL.
//!
//! A query that reads nothing of ours is passed on whole, so the upstream does the work and only the result travels. One that
//! reads series of ours as well (what rules recorded, spans, what is scraped here) is evaluated here, on the raw samples of
//! both. Invariant: what the upstream refuses is refused with its words; an upstream that is away is an error, never an
//! empty answer; every answer is bounded in bytes and samples.

mod answer;
mod client;
mod config;
mod edges;
mod joined;
#[cfg(test)]
mod tests;

pub use answer::Metadata;
pub use client::{Away, Counters, Upstream};
pub use config::Config;
pub use joined::Joined;
