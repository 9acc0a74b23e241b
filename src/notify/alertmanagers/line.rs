//! The line to one Alertmanager: its queue, and the requests that empty it.
//!
//! Invariant: a request that fails is not sent again: the rules send each alert anew within the resend delay.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use parking_lot::Mutex;
use reqwest::header::{CONTENT_TYPE, USER_AGENT};
use serde::{Serialize, Serializer};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::config::AlertmanagerConfig;
use super::status::AlertmanagerCounters;
use crate::discovery::relabel;
use crate::http_client::{self, Client, Reach};
use crate::model::{Alert, Labels, Timestamp};

/// Most alerts that wait, as in Prometheus.
pub(super) const QUEUE_CAPACITY: usize = 10_000;
/// Most alerts of one request, as in Prometheus 3.5.
const BATCH_MAX: usize = 256;

/// Alerts that wait for one Alertmanager.
#[derive(Default)]
pub(super) struct Queue {
    alerts: Mutex<VecDeque<Arc<Alert>>>,
    more: Notify,
    /// Whether a task empties it.
    is_served: AtomicBool,
}

impl Queue {
    /// Adds alerts; how many of the oldest had to go.
    pub(super) fn push(&self, more: &[Arc<Alert>]) -> usize {
        let mut alerts = self.alerts.lock();
        alerts.extend(more.iter().cloned());
        let too_many = alerts.len().saturating_sub(QUEUE_CAPACITY);
        alerts.drain(..too_many);
        drop(alerts);
        self.more.notify_one();
        too_many
    }

    pub(super) fn len(&self) -> usize {
        self.alerts.lock().len()
    }

    /// A task begins to empty it.
    pub(super) fn begin_serving(&self) {
        self.is_served.store(true, Relaxed);
    }

    /// Whether the task that emptied it is gone.
    pub(super) fn is_abandoned(&self) -> bool {
        !self.is_served.load(Relaxed)
    }

    fn take(&self) -> Vec<Arc<Alert>> {
        let mut alerts = self.alerts.lock();
        let count = alerts.len().min(BATCH_MAX);
        alerts.drain(..count).collect()
    }
}

/// Says that the queue is no longer served, also after a panic.
struct Serving<'a>(&'a Queue);

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        self.0.is_served.store(false, Relaxed);
    }
}

/// One Alertmanager.
pub(super) struct Line {
    url: String,
    pub(super) config: AlertmanagerConfig,
    client: Client,
    counters: Arc<AlertmanagerCounters>,
}

impl Line {
    pub(super) fn new(
        url: String,
        config: AlertmanagerConfig,
        reach: Reach,
        counters: Arc<AlertmanagerCounters>,
    ) -> Self {
        let client = Client::reaching(config.http_client(), reach);
        Self { url, config, client, counters }
    }

    /// Counts alerts that it will never hear of.
    pub(super) fn lose(&self, count: usize) {
        self.counters.dropped.fetch_add(count as u64, Relaxed);
    }

    pub(super) fn show_length(&self, length: usize) {
        self.counters.queue_length.store(length as u64, Relaxed);
    }

    /// Empties the queue until `stop` fires and nothing waits.
    pub(super) async fn run(self: Arc<Self>, queue: Arc<Queue>, stop: CancellationToken) {
        let _serving = Serving(&queue);
        loop {
            let batch = queue.take();
            self.show_length(queue.len());
            if !batch.is_empty() {
                self.send(&batch).await;
            } else if stop.is_cancelled() {
                return;
            } else {
                tokio::select! {
                    () = queue.more.notified() => {}
                    () = stop.cancelled() => {}
                }
            }
        }
    }

    async fn send(&self, batch: &[Arc<Alert>]) {
        let rules = &self.config.alert_relabel_configs;
        let alerts: Vec<Postable<'_>> = batch
            .iter()
            .filter_map(|alert| Some(Postable::new(alert, relabel::apply(rules, alert.labels.clone())?)))
            .collect();
        if alerts.is_empty() {
            return;
        }
        let (count, began) = (alerts.len() as u64, Instant::now());
        let outcome = self.post(&alerts).await;
        self.counters.requests.fetch_add(1, Relaxed);
        let took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.counters.request_time_us.fetch_add(took_us, Relaxed);
        self.counters.sent.fetch_add(count, Relaxed);
        match outcome {
            Ok(()) => {
                if self.counters.is_failing.swap(false, Relaxed) {
                    tracing::info!("Alertmanager {} takes alerts again", self.shown());
                }
            }
            Err(error) => {
                self.counters.errors.fetch_add(count, Relaxed);
                // Once for each time it goes away: the alerts are sent anew each minute.
                if !self.counters.is_failing.swap(true, Relaxed) {
                    tracing::error!("Alertmanager {} did not take {count} alerts: {error}", self.shown());
                }
            }
        }
    }

    async fn post(&self, alerts: &[Postable<'_>]) -> Result<(), String> {
        let body = serde_json::to_vec(alerts).map_err(|error| error.to_string())?;
        let request = self.client.request(reqwest::Method::POST, &self.url).map_err(|error| error.to_string())?;
        let request = request
            .header(CONTENT_TYPE, "application/json")
            .header(USER_AGENT, concat!("meshscope/", env!("CARGO_PKG_VERSION")))
            .timeout(self.config.timeout.get())
            .body(body);
        let answer = request.send().await.map_err(|error| http_client::describe(&error))?;
        let status = answer.status();
        if status.is_success() { Ok(()) } else { Err(format!("bad response status {status}")) }
    }

    /// Its address without what may be secret.
    fn shown(&self) -> String {
        super::status::without_password(&self.url)
    }
}

/// An alert as the API v2 takes it; fields in Prometheus' order.
#[derive(Serialize)]
struct Postable<'a> {
    #[serde(serialize_with = "as_map")]
    annotations: &'a Labels,
    #[serde(rename = "endsAt", serialize_with = "as_text")]
    ends_at: Timestamp,
    #[serde(rename = "startsAt", serialize_with = "as_text")]
    starts_at: Timestamp,
    #[serde(rename = "generatorURL")]
    generator_url: &'a str,
    #[serde(serialize_with = "owned_as_map")]
    labels: Labels,
}

impl<'a> Postable<'a> {
    fn new(alert: &'a Alert, labels: Labels) -> Self {
        Self {
            annotations: &alert.annotations,
            ends_at: alert.ends_at(),
            starts_at: alert.fired_at.unwrap_or(alert.active_at),
            generator_url: &alert.generator_url,
            labels,
        }
    }
}

fn as_map<S: Serializer>(labels: &&Labels, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(labels.iter())
}

fn owned_as_map<S: Serializer>(labels: &Labels, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(labels.iter())
}

/// RFC 3339 with milliseconds, as Prometheus writes it.
fn as_text<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(at)
}
