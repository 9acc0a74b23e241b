//! One remote: unpacks the journal as fast as the receiver takes it, and sends it in rounds.
//!
//! In: a feed of the journal. Out: rounds of samples. Invariant: at most `capacity` samples for each lane are unpacked; the
//! rest waits packed in the feed, which is bounded in bytes.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::config::Protocol;
use super::exemplars::Waiting;
use super::message::MetadataTable;
use super::resume::Place;
use super::round::Line;
use super::series::{Member, Sample};
use super::{RemoteWriteConfig, Sources};
use crate::http_client::Client;
use crate::model::Labels;
use crate::scrape;
use crate::series::{Feed, Head, JournalReader, Told};

/// How often it is looked whether samples have come.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long after the end what waits is still sent.
const FLUSH_LIMIT: Duration = Duration::from_secs(8);

/// One entry of `remote_write` at work.
pub(super) struct Remote {
    pub(super) line: Line,
    pub(super) place: Place,
    resumes: bool,
    external_labels: Labels,
    feed: Feed,
    reader: JournalReader<Labels, Arc<Member>>,
    scrape: scrape::Status,
    pub(super) metadata: MetadataTable,
    metadata_due: Instant,
    unpacked: Vec<Sample>,
    head: Head,
    exemplars: Waiting,
    oldest_since: Option<Instant>,
    lanes: usize,
}

impl Remote {
    /// From now on every accepted sample is kept for it.
    pub(super) fn new(config: RemoteWriteConfig, external_labels: Labels, sources: &Sources) -> Self {
        let limit_bytes = usize::try_from(config.backlog_limit_bytes.0).unwrap_or(usize::MAX);
        let (name, lanes) = (config.name(), config.queue_config.min_shards);
        let client = Client::reaching(config.client_config(), sources.reach.clone());
        let counters = sources.status.counters(&name);
        let told = parking_lot::Mutex::default();
        Self {
            place: Place::new(sources.keeper.clone(), name.clone()),
            resumes: false,
            line: Line { name, config, client, clock: sources.clock, counters, told },
            external_labels,
            feed: sources.head.feed(limit_bytes),
            reader: JournalReader::default(),
            scrape: sources.scrape.clone(),
            metadata: MetadataTable::new(),
            metadata_due: Instant::now(),
            unpacked: Vec::new(),
            head: sources.head.clone(),
            exemplars: Waiting::from_now(sources.head.exemplars()),
            oldest_since: None,
            lanes,
        }
    }

    /// It first sends what the process before this one did not.
    pub(super) fn resuming(self) -> Self {
        Self { resumes: true, ..self }
    }

    pub(super) fn config(&self) -> &RemoteWriteConfig {
        &self.line.config
    }

    pub(super) fn external_labels(&self) -> &Labels {
        &self.external_labels
    }

    /// Sends until `stop` fires, then what waits, for some seconds.
    pub(super) async fn run(self, stop: CancellationToken) {
        let counters = Arc::clone(&self.line.counters);
        let name = self.line.name.clone();
        let out_of_time = async {
            stop.cancelled().await;
            tokio::time::sleep(FLUSH_LIMIT).await;
        };
        tokio::select! {
            () = self.work(stop.clone()) => {}
            () = out_of_time => {
                let lost = counters.unpacked_samples.swap(0, Relaxed) + counters.packed_samples.swap(0, Relaxed);
                counters.dropped_shutdown.fetch_add(lost, Relaxed);
                tracing::warn!(remote = %name, "remote write `{name}`: {lost} samples were not taken in time and are lost");
            }
        }
    }

    async fn work(mut self, stop: CancellationToken) {
        if self.resumes {
            self.catch_up(&stop).await;
        }
        let mut tick = tokio::time::interval(LOOK_INTERVAL.min(self.config().queue_config.batch_send_deadline.get()));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let ends = tokio::select! {
                biased;
                () = stop.cancelled() => true,
                _ = tick.tick() => false,
            };
            self.refresh_metadata(ends).await;
            loop {
                self.unpack();
                if self.unpacked.is_empty() {
                    self.place.note().await;
                    break;
                }
                if !(ends || self.is_due()) {
                    break;
                }
                self.send_round().await;
                self.place.note().await;
            }
            if ends {
                self.place.note_last().await;
                return;
            }
        }
    }

    /// Unpacks batches while there is room.
    fn unpack(&mut self) {
        let room = self.config().queue_config.capacity.saturating_mul(self.lanes);
        while self.unpacked.len() < room
            && let Some(batch) = self.feed.take()
        {
            let mut samples = self.read_batch(&batch.bytes, batch.sample_count as u64);
            self.unpacked.append(&mut samples);
            self.place.read(&batch.bytes);
        }
        if !self.unpacked.is_empty() {
            self.oldest_since.get_or_insert_with(Instant::now);
        }
        self.count();
    }

    /// The samples of a batch, as they are sent.
    pub(super) fn read_batch(&mut self, bytes: &[u8], sample_count: u64) -> Vec<Sample> {
        let mut samples = Vec::new();
        let (rules, external, unpacked) =
            (&self.line.config.write_relabel_configs, &self.external_labels, &mut samples);
        let told = Told {
            block: &mut |labels| external.merged(&labels),
            member: &mut |block: &mut Labels, metric, bucket| Member::new(block, metric, bucket, rules).map(Arc::new),
            row: &mut |at, row| {
                unpacked.extend(row.iter().map(|(series, value)| Sample {
                    series: series.clone(),
                    at,
                    value: *value,
                    exemplars: None,
                }));
            },
        };
        if let Err(error) = self.reader.read(bytes, told) {
            tracing::error!(remote = %self.line.name, "samples of the journal cannot be sent on: {error}");
            self.line.counters.dropped_unreadable.fetch_add(sample_count, Relaxed);
        }
        samples
    }

    fn is_due(&self) -> bool {
        let queue = &self.config().queue_config;
        let waited = self.oldest_since.is_some_and(|since| since.elapsed() >= queue.batch_send_deadline.get());
        waited || self.unpacked.len() >= queue.max_samples_per_send.saturating_mul(self.lanes)
    }

    async fn send_round(&mut self) {
        let began = Instant::now();
        let mut samples = std::mem::take(&mut self.unpacked);
        self.oldest_since = None;
        self.add_exemplars(&mut samples);
        let smooth = {
            let sending = self.line.send_all(samples, self.lanes, &self.metadata);
            tokio::pin!(sending);
            // While a receiver is away the numbers must still tell how much waits.
            loop {
                tokio::select! {
                    smooth = &mut sending => break smooth,
                    () = tokio::time::sleep(Duration::from_secs(1)) => count_feed(&self.feed, &self.line),
                }
            }
        };
        self.adapt(smooth, began.elapsed());
    }

    fn add_exemplars(&mut self, samples: &mut [Sample]) {
        let config = &self.line.config;
        if !config.send_exemplars {
            return;
        }
        let as_sent = |series: &Labels| Member::of_series(series, &self.external_labels, &config.write_relabel_configs);
        let lost = self.exemplars.take_new(self.head.exemplars(), as_sent);
        self.line.counters.dropped_exemplars.fetch_add(lost as u64, Relaxed);
        self.exemplars.attach(samples);
    }

    /// More lanes when a receiver that takes what it is sent is too slow for what comes; fewer when it is quick.
    fn adapt(&mut self, smooth: bool, took: Duration) {
        let queue = &self.line.config.queue_config;
        let (waiting, at_once) = (self.feed.waiting_samples(), queue.max_samples_per_send.saturating_mul(self.lanes));
        if smooth && waiting > at_once {
            self.lanes = (self.lanes * 2).min(queue.max_shards);
        } else if waiting == 0 && took < queue.batch_send_deadline.get() / 20 {
            self.lanes = (self.lanes - 1).max(queue.min_shards);
        }
    }

    pub(super) fn count(&self) {
        let counters = &self.line.counters;
        count_feed(&self.feed, &self.line);
        counters.shards.store(self.lanes as u64, Relaxed);
        counters.unpacked_samples.store(self.unpacked.len() as u64, Relaxed);
    }

    /// Reads the metadata of scraped metrics when it is due; sends it where it has requests of its own.
    async fn refresh_metadata(&mut self, ends: bool) {
        let config = &self.config().metadata_config;
        let interval = config.send_interval.get();
        if !config.send || ends || self.metadata_due > Instant::now() {
            return;
        }
        let of_targets = self.scrape.metadata();
        let all = of_targets.iter().flat_map(|target| target.metrics.iter());
        self.metadata = all.map(|metadata| (metadata.name.clone(), Arc::clone(metadata))).collect();
        // Until the first pages are in, it is looked for again soon.
        self.metadata_due = Instant::now() + if self.metadata.is_empty() { LOOK_INTERVAL } else { interval };
        if self.config().protobuf_message == Protocol::V1 {
            self.line.send_metadata(&self.metadata).await;
        }
    }
}

/// What the feed says of itself.
fn count_feed(feed: &Feed, line: &Line) {
    let counters = &line.counters;
    if let Some(newest) = feed.newest() {
        counters.newest_in_ms.fetch_max(newest.as_millis(), Relaxed);
    }
    counters.dropped_backlog.fetch_add(feed.take_dropped(), Relaxed);
    counters.packed_samples.store(feed.waiting_samples() as u64, Relaxed);
}
