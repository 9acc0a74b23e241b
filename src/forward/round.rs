//! One round of sending: the samples at hand, spread over requests that go out side by side.
//!
//! Invariant: a series is always in the same lane, and a lane sends one request after the other, so that the samples of a
//! series arrive in their order. The next round begins when all lanes are done, so the count of lanes may change between.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::config::Protocol;
use super::message::{self, MetadataTable};
use super::send::{Outcome, post};
use super::series::Sample;
use super::{Counters, RemoteWriteConfig};
use crate::clock::Clock;
use crate::http_client::Client;

/// How often the log tells of a receiver that does not take samples.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// How often requests of one entry of the journal are parted.
const PARTINGS_MAX: usize = 400;

/// What became of one request.
struct Decided {
    /// How many samples were refused for good, and why.
    refused: Option<(u64, String)>,
    /// Whether the first try decided.
    smooth: bool,
}

/// What the requests of one remote share.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) config: RemoteWriteConfig,
    pub(super) client: Client,
    pub(super) clock: Clock,
    pub(super) counters: std::sync::Arc<Counters>,
    pub(super) told: parking_lot::Mutex<Option<tokio::time::Instant>>,
}

impl Line {
    /// Sends all samples in `lanes` lanes; whether nothing had to be sent twice.
    pub(super) async fn send_all(&self, samples: Vec<Sample>, lanes: usize, metadata: &MetadataTable) -> bool {
        let mut spread: Vec<Vec<Sample>> = vec![Vec::new(); lanes];
        for sample in samples {
            let lane = (sample.series.hash % lanes as u64) as usize;
            spread[lane].push(sample);
        }
        let lanes = spread.into_iter().filter(|lane| !lane.is_empty());
        let smooth = futures_util::future::join_all(lanes.map(|lane| self.send_lane(lane, metadata))).await;
        smooth.into_iter().all(|smooth| smooth)
    }

    async fn send_lane(&self, lane: Vec<Sample>, metadata: &MetadataTable) -> bool {
        let mut smooth = true;
        for samples in lane.chunks(self.config.queue_config.max_samples_per_send) {
            smooth &= self.send_samples(samples, metadata).await;
            self.counters.unpacked_samples.fetch_sub(samples.len() as u64, Relaxed);
        }
        smooth
    }

    /// Sends one request until it is taken or refused for good; whether the first try decided.
    async fn send_samples(&self, samples: &[Sample], metadata: &MetadataTable) -> bool {
        let Decided { refused, smooth } = self.decide(samples, metadata).await;
        if let Some((count, error)) = refused {
            self.counters.failed_samples.fetch_add(count, Relaxed);
            self.tell(&format!("{count} samples were refused for good: {error}"));
        }
        smooth
    }

    /// Sends samples of which the receiver may have some already. Prometheus refuses a 1.0 request as a whole for one
    /// sample that it has, so one that is refused is parted, until those that it lacks are through.
    pub(super) async fn send_again(&self, samples: &[Sample], metadata: &MetadataTable) {
        let mut partings = match self.config.protobuf_message {
            Protocol::V1 => PARTINGS_MAX,
            Protocol::V2 => 0, // there each sample is judged by itself
        };
        let mut parts: Vec<&[Sample]> = samples.chunks(self.config.queue_config.max_samples_per_send).rev().collect();
        while let Some(part) = parts.pop() {
            let Some((count, _)) = self.decide(part, metadata).await.refused else { continue };
            if part.len() > 1 && partings > 0 {
                partings -= 1;
                let (first, second) = part.split_at(part.len() / 2);
                parts.extend([second, first]);
            } else {
                self.counters.repeated_samples.fetch_add(count, Relaxed);
            }
        }
    }

    /// Sends one request until the receiver has decided.
    async fn decide(&self, samples: &[Sample], metadata: &MetadataTable) -> Decided {
        let queue = &self.config.queue_config;
        let (mut pause, mut smooth, mut young) = (queue.min_backoff.get(), true, samples.to_vec());
        loop {
            self.drop_old(&mut young);
            let Some(newest) = young.iter().map(|sample| sample.at.as_millis()).max() else {
                return Decided { refused: None, smooth };
            };
            let message = match self.config.protobuf_message {
                Protocol::V1 => message::samples_v1(&young),
                Protocol::V2 => message::samples_v2(&young, metadata),
            };
            let count = young.len() as u64;
            let exemplars: usize =
                young.iter().filter_map(|sample| sample.exemplars.as_ref()).map(|all| all.len()).sum();
            match post(&self.client, &self.config, &message).await {
                Outcome::Taken(bytes) => {
                    self.counters.sent_samples.fetch_add(count, Relaxed);
                    self.counters.sent_exemplars.fetch_add(exemplars as u64, Relaxed);
                    self.counters.sent_bytes.fetch_add(bytes as u64, Relaxed);
                    self.counters.newest_sent_ms.fetch_max(newest, Relaxed);
                    return Decided { refused: None, smooth };
                }
                Outcome::Refused(error) => return Decided { refused: Some((count, error)), smooth },
                Outcome::Again(error, asked) => {
                    smooth = false;
                    self.counters.retried_samples.fetch_add(count, Relaxed);
                    self.tell(&format!("samples wait and are sent again: {error}"));
                    tokio::time::sleep(asked.unwrap_or(pause)).await;
                    pause = (pause * 2).min(queue.max_backoff.get());
                }
            }
        }
    }

    fn drop_old(&self, samples: &mut Vec<Sample>) {
        let limit = self.config.queue_config.sample_age_limit;
        if limit.is_zero() {
            return;
        }
        let (before, oldest) = (samples.len(), self.clock.now() - limit.get());
        samples.retain(|sample| sample.at >= oldest);
        self.counters.dropped_too_old.fetch_add((before - samples.len()) as u64, Relaxed);
    }

    /// Sends metadata of its own request; it is not sent again when that fails, since it is sent anew each interval.
    pub(super) async fn send_metadata(&self, metadata: &MetadataTable) {
        let mut all: Vec<_> = metadata.values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        for part in all.chunks(self.config.metadata_config.max_samples_per_send) {
            let count = part.len() as u64;
            match post(&self.client, &self.config, &message::metadata_v1(part)).await {
                Outcome::Taken(_) => self.counters.sent_metadata.fetch_add(count, Relaxed),
                Outcome::Again(error, _) | Outcome::Refused(error) => {
                    self.tell(&format!("metadata was not taken: {error}"));
                    self.counters.failed_metadata.fetch_add(count, Relaxed)
                }
            };
        }
    }

    /// Logs at most once a minute: a receiver that is away is away for thousands of requests.
    pub(super) fn tell(&self, message: &str) {
        let mut told = self.told.lock();
        if told.is_none_or(|at| at.elapsed() >= TOLD_EVERY) {
            *told = Some(tokio::time::Instant::now());
            tracing::warn!(remote = %self.name, "remote write `{}`: {message}", self.name);
        }
    }
}
