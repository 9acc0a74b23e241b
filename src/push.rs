//! Takes samples that others send: remote write 1.0 and 2.0, and whatever else is decoded into a [`Batch`].
//!
//! In: bodies of requests. Out: samples and exemplars in [`crate::series::Head`], increments in
//! [`crate::rollup::Rollup`], and what is too old for memory to whoever writes history ([`PastWriter`]). Invariants: a
//! body that cannot be decoded changes nothing; of one that can, every good sample is stored whatever the others are; what
//! was answered as stored is seen by the next query. Knows no HTTP.

mod batch;
mod cache;
mod labels;
mod metadata;
pub mod remote;
mod scraped;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde::Deserialize;

/// What a metric is, as its sender says.
pub use crate::scrape::exposition::MetricKind;
/// One observation behind a sample.
pub use crate::series::Exemplar;
pub use batch::{Batch, Committed, SampleError, SeriesId};
pub use labels::SeriesError;
pub use metadata::PushedMetadata;

use crate::clock::Clock;
use crate::rollup::Rollup;
use crate::series::{Head, SeriesSamples};
use crate::units::ByteSize;
use cache::Cache;
use metadata::MetadataTable;

/// How much may be sent at once, and what a series may look like.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Largest body as received. Default 16 MiB.
    pub body_bytes: ByteSize,
    /// Largest body after decompression; read from its head before anything is decompressed. Default 32 MiB.
    pub decompressed_bytes: ByteSize,
    /// Bodies decoded at the same time; more wait their turn. Default 4.
    pub concurrency: usize,
    /// Labels of one series, its name included. Default 256.
    pub labels_per_series: usize,
    /// Bytes of a label's name. Default 1 KiB.
    pub label_name_bytes: usize,
    /// Bytes of a label's value. Default 16 KiB.
    pub label_value_bytes: usize,
    /// Series whose way into memory is remembered, so that their next sample costs one look-up. Default 500,000.
    pub cached_series: usize,
    /// Attributes of an OTLP resource that become labels of its metrics, as in Prometheus' `otlp` block. Default none.
    pub promote_resource_attributes: Vec<String>,
    /// All of them do, but for those ignored. Default false.
    pub promote_all_resource_attributes: bool,
    /// Attributes that are not promoted when all others are. Default none.
    pub ignore_resource_attributes: Vec<String>,
    /// Whether `target_info` also bears the attributes that name the resource. Default false.
    pub keep_identifying_resource_attributes: bool,
    /// How OTLP's names become Prometheus'.
    pub translation_strategy: TranslationStrategy,
}

/// What becomes of the names of metrics and attributes, as Prometheus' `otlp.translation_strategy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum TranslationStrategy {
    /// What may not stand in a classic name becomes an underscore; units and types become endings.
    #[default]
    UnderscoreEscapingWithSuffixes,
    /// Names stay as they are; units and types become endings.
    NoUTF8EscapingWithSuffixes,
    /// Names stay as they are.
    NoTranslation,
}

impl Config {
    /// What is wrong with the attributes that are promoted, as Prometheus says it.
    pub fn problem(&self) -> Option<String> {
        if !self.promote_all_resource_attributes && !self.ignore_resource_attributes.is_empty() {
            return Some(
                "push.ignore_resource_attributes: means something only with push.promote_all_resource_attributes: true"
                    .to_owned(),
            );
        }
        if self.promote_all_resource_attributes && !self.promote_resource_attributes.is_empty() {
            return Some(
                "push.promote_resource_attributes: all are promoted already (push.promote_all_resource_attributes)"
                    .to_owned(),
            );
        }
        let lists = [("promote", &self.promote_resource_attributes), ("ignore", &self.ignore_resource_attributes)];
        lists.iter().find_map(|(name, list)| {
            let key = format!("push.{name}_resource_attributes");
            let mut seen = std::collections::HashSet::new();
            list.iter().map(|attribute| attribute.trim()).find_map(|attribute| match attribute {
                "" => Some(format!("{key}: an attribute is empty")),
                attribute if !seen.insert(attribute) => Some(format!("{key}: {attribute} stands there twice")),
                _ => None,
            })
        })
    }

    /// Whether an attribute of a resource becomes a label of its metrics.
    pub fn promotes(&self, attribute: &str) -> bool {
        let is_in = |list: &[String]| list.iter().any(|one| one.trim() == attribute);
        if self.promote_all_resource_attributes {
            return !is_in(&self.ignore_resource_attributes);
        }
        is_in(&self.promote_resource_attributes)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            body_bytes: ByteSize(16 << 20),
            decompressed_bytes: ByteSize(32 << 20),
            concurrency: 4,
            labels_per_series: 256,
            label_name_bytes: 1 << 10,
            label_value_bytes: 16 << 10,
            cached_series: 500_000,
            promote_resource_attributes: Vec::new(),
            promote_all_resource_attributes: false,
            ignore_resource_attributes: Vec::new(),
            keep_identifying_resource_attributes: false,
            translation_strategy: TranslationStrategy::default(),
        }
    }
}

/// What was sent so far.
#[derive(Debug, Default)]
pub struct Counters {
    /// Remote write requests, good and bad.
    pub remote_write_requests: AtomicU64,
    /// Requests that could not be read: wrong type, broken compression or protobuf, too large.
    pub refused_requests: AtomicU64,
    /// OTLP metrics requests that could be read.
    pub otlp_requests: AtomicU64,
    /// Samples stored, stale markers included.
    pub samples: AtomicU64,
    /// Of these the ones older than memory, written to history.
    pub past_samples: AtomicU64,
    /// Samples refused for their time: out of order, out of bounds, too old, another value at the same time.
    pub refused_samples: AtomicU64,
    /// Series refused for their labels or because memory is full; their samples are not counted.
    pub refused_series: AtomicU64,
    /// Native histograms refused: meshscope keeps classic ones.
    pub native_histograms: AtomicU64,
    /// OTLP data points refused.
    pub refused_points: AtomicU64,
}

/// Samples older than memory, by series.
pub type Past = Vec<SeriesSamples>;

/// Writes samples that are older than memory into history: the one seam between what is sent and what is stored. It
/// returns when they are there for queries, or says why they are not.
pub type PastWriter = Arc<dyn Fn(Past) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// The intake takes nothing any more: the journal is being written for the last time, and what came after it would be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("meshscope is stopping: send again later")]
pub struct Closed;

/// Takes batches. Clones share it.
#[derive(Clone)]
pub struct Intake(Arc<Shared>);

/// What clones of an [`Intake`] share.
struct Shared {
    config: Config,
    head: Head,
    rollup: Rollup,
    clock: Clock,
    past: Option<PastWriter>,
    counters: Arc<Counters>,
    metadata: MetadataTable,
    closed: AtomicBool,
    /// Held while a batch is made and stored: the increments of a series must be counted in order, and a slot of the rollup
    /// must not be given back while a batch holds it.
    cache: Mutex<Cache>,
}

impl Intake {
    /// Feeds `head` and `rollup`. Without a `past` writer, samples older than memory are refused.
    pub fn new(config: Config, head: Head, rollup: Rollup, clock: Clock, past: Option<PastWriter>) -> Self {
        let cache = Mutex::new(Cache::new(config.cached_series));
        let (counters, metadata) = (Arc::default(), MetadataTable::default());
        Self(Arc::new(Shared {
            config,
            head,
            rollup,
            clock,
            past,
            counters,
            metadata,
            closed: AtomicBool::new(false),
            cache,
        }))
    }

    /// Makes a batch with `fill` and stores it, unless `fill` fails: then nothing is stored. Blocks; call it where that is
    /// allowed. What is older than memory is in [`Committed::past`] and must be given to [`Intake::store_past`].
    ///
    /// # Errors
    /// Those of `fill`, and [`Closed`].
    pub fn store<T, E: From<Closed>>(
        &self,
        fill: impl FnOnce(&mut Batch<'_>) -> Result<T, E>,
    ) -> Result<(T, Committed), E> {
        let mut cache = self.0.cache.lock();
        if self.0.closed.load(Ordering::Relaxed) {
            return Err(E::from(Closed));
        }
        let mut batch = Batch::new(&self.0, &mut cache);
        let filled = fill(&mut batch)?;
        Ok((filled, batch.commit()))
    }

    /// Takes nothing from now on. When it returns no batch is being stored.
    pub fn close(&self) {
        self.0.closed.store(true, Ordering::Relaxed);
        drop(self.0.cache.lock());
    }

    /// Writes what was too old for memory.
    ///
    /// # Errors
    /// When PostgreSQL is away: the client should send all of it again.
    pub async fn store_past(&self, past: Past) -> Result<(), String> {
        match &self.0.past {
            Some(write) if !past.is_empty() => write(past).await,
            _ => Ok(()),
        }
    }

    /// What was counted so far.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.0.counters
    }

    /// The limits.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// What senders said of their metrics, by name.
    pub fn metadata(&self) -> Vec<PushedMetadata> {
        self.0.metadata.all()
    }
}
