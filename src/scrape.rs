//! Scrapes proxies: HTTP, exposition formats, staleness, and the samples they give.
//!
//! In: [`crate::discovery::Targets`] through a watch channel. Out: samples in [`crate::series::Head`], increments in
//! [`crate::rollup::Rollup`], what pages and APIs show in [`Status`]. Knows nothing of rules or of PostgreSQL.
//! Invariants: one scrape of a target at a time, fetched within its timeout, which is at most its interval; a page is
//! taken whole or not at all; a known series costs no label parsing and no allocation.

mod admission;
mod arrival;
mod cache;
mod compact;
pub mod exposition;
mod fetch;
mod ingest;
mod labels;
mod members;
mod metadata;
mod page_memory;
mod reading;
mod run;
mod status;
mod target_loop;
mod templates;
mod workspace;

use std::sync::atomic::AtomicU64;

use serde::Deserialize;

use crate::units::ByteSize;

pub use fetch::ScrapeError;
pub use metadata::MetricMetadata;
pub use run::Scraper;
pub use status::{Health, Status, TargetMetadata, TargetStatus};

/// How scraping is bounded.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Most scrapes under way at one time; others wait within their timeout. Default 128.
    pub concurrency: usize,
    /// Most bytes of pages under way that cannot be read yet: a line or protobuf family that is not whole, very many new
    /// series, a mistake that waits for the end of its page. A page's first mebibyte is always granted, past that a scrape
    /// fails. Default 512MiB.
    pub page_memory_limit: ByteSize,
}

impl Default for Config {
    fn default() -> Self {
        Self { concurrency: 128, page_memory_limit: ByteSize(512 << 20) }
    }
}

/// What scraping did, for its own metrics.
#[derive(Debug, Default)]
pub struct Counters {
    /// Scrapes done.
    pub scrapes: AtomicU64,
    /// Scrapes that failed, for whatever reason.
    pub failures: AtomicU64,
    /// Scrapes that did not begin because the one before, or the machine, took too long.
    pub missed_slots: AtomicU64,
    /// Bytes of pages after decompression.
    pub page_bytes: AtomicU64,
    /// Samples stored, stale markers and report series included.
    pub samples: AtomicU64,
    /// Stale markers written.
    pub stale_markers: AtomicU64,
    /// Samples refused because their page held the series before.
    pub duplicates: AtomicU64,
    /// Samples refused because a newer one, or another one of the same time, is stored.
    pub out_of_order: AtomicU64,
    /// Samples refused because their own time is more than ten minutes ahead.
    pub too_far_ahead: AtomicU64,
    /// Samples refused because the memory tier is full (`storage.series_limit`).
    pub series_limit: AtomicU64,
    /// Series of metrics that `storage.keep_labels` or `drop_labels` names and that were stored whole all the same: what
    /// is no counter cannot be added, and labels of the target are needed to tell targets apart.
    pub label_rules_not_applied: AtomicU64,
    /// Exemplars read, stored or not.
    pub exemplars: AtomicU64,
    /// Target loops that panicked and were started again.
    pub restarts: AtomicU64,
}

#[cfg(test)]
mod tests;
