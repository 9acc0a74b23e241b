//! Turns the configuration into scrape targets: static lists, watched files, HTTP lists, Kubernetes,
//! relabelling.
//!
//! In: validated [`Job`]s through a watch channel. Out: [`Targets`] through a watch channel. Knows nothing of scraping.
//! Invariant: a list that cannot be read keeps its last good content, and says so in [`Targets::problems`].

mod config;
mod file;
mod http;
mod job;
pub mod kubernetes;
mod presets;
pub mod relabel;
mod run;
mod shard;
mod target;

pub use config::{Defaults, FileSdConfig, Group, HttpSdConfig, ScrapeConfig};
pub use job::{Job, JobError, Jobs, Limits, Protocol, jobs};
pub use presets::{Config as MeshConfig, Preset, Presets};
pub use run::{Counters, Discovery};
pub use shard::{SHARD_HEADER, Shard, ShardConfig, ShardError};
pub use target::{Dropped, Problem, Target, TargetKey, Targets};
