//! Writes what edges did, a few seconds after they did it.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{LAST_PASS_LIMIT, PartStatus, WRITE_LIMIT, limited};
use crate::clock::Clock;
use crate::model::{EdgeKey, EdgeMinute, Timestamp};
use crate::rollup::Rollup;
use crate::store::{Store, StoreError};

const INTERVAL: Duration = Duration::from_secs(10);
/// How long a minute may still grow: late scrapes and late spans.
const OPEN: Duration = Duration::from_secs(180);
/// Rows of one transaction.
const TRANSACTION_ROWS: usize = 20_000;

/// Writes the minutes of the rollup.
pub struct RollupPersist {
    rollup: Rollup,
    store: Store,
    clock: Clock,
    status: Arc<PartStatus>,
    written: Written,
}

impl RollupPersist {
    /// Start it after [`super::restore()`].
    pub fn new(rollup: Rollup, store: Store, clock: Clock) -> Self {
        let written = Written { complete_until: clock.now() - OPEN, content: HashMap::new() };
        Self { rollup, store, clock, status: Arc::new(PartStatus::new("rollups")), written }
    }

    /// How it fares.
    pub fn status(&self) -> Arc<PartStatus> {
        Arc::clone(&self.status)
    }

    /// Writes every ten seconds until `shutdown`, then once more.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = tick.tick() => {}
            }
            if let Err(error) = self.write_changed(WRITE_LIMIT).await {
                let pause = self.status.failed(self.clock.now(), &error);
                tick.reset_at(Instant::now() + pause.max(INTERVAL));
            }
        }
        if let Err(error) = self.write_changed(LAST_PASS_LIMIT).await {
            self.status.failed(self.clock.now(), &error);
            tracing::error!("the last edge minutes before shutdown are not written: {error}");
        }
    }

    /// Writes each minute that changed since it was written, from the last time when all was written on.
    async fn write_changed(&mut self, limit: Duration) -> Result<(), StoreError> {
        let now = self.clock.now();
        let mut changed = self.written.changed(self.rollup.recent(self.written.complete_until));
        while !changed.is_empty() {
            self.status.pending.store(changed.len() as u64, Relaxed);
            let part = changed.split_off(changed.len().saturating_sub(TRANSACTION_ROWS));
            let count = part.len();
            match limited(limit, "write edges", self.store.write_edges(part.clone())).await {
                Ok(()) => self.status.succeeded(now, count),
                Err(error) if error.is_temporary() => return Err(error),
                Err(error) => self.status.gave_up(now, count, &error),
            }
            self.written.remember(part);
        }
        self.status.pending.store(0, Relaxed);
        self.status.succeeded(now, 0);
        self.written.forget_before((now - OPEN).floor_to(Duration::from_secs(60)));
        Ok(())
    }
}

/// What was written of the minutes that may still grow.
struct Written {
    /// Minutes before this are written and closed.
    complete_until: Timestamp,
    content: HashMap<(EdgeKey, Timestamp), u64>,
}

impl Written {
    fn changed(&self, minutes: Vec<EdgeMinute>) -> Vec<EdgeMinute> {
        let is_new = |minute: &EdgeMinute| {
            let key = (minute.edge.clone(), minute.minute);
            self.content.get(&key) != Some(&content_hash(minute))
        };
        minutes.into_iter().filter(is_new).collect()
    }

    fn remember(&mut self, minutes: Vec<EdgeMinute>) {
        for minute in minutes {
            let hash = content_hash(&minute);
            self.content.insert((minute.edge, minute.minute), hash);
        }
    }

    fn forget_before(&mut self, at: Timestamp) {
        self.complete_until = self.complete_until.max(at);
        self.content.retain(|(_, minute), _| *minute >= at);
    }
}

fn content_hash(content: &EdgeMinute) -> u64 {
    // Taken apart whole, so that a new count cannot be forgotten and then never be written again.
    let EdgeMinute {
        minute: _,
        edge: _,
        requests,
        latency,
        request_bytes,
        response_bytes,
        connections_closed,
        request_messages,
        response_messages,
    } = content;
    let mut hasher = foldhash::fast::FixedState::default().build_hasher();
    for (outcome, count) in requests {
        outcome.hash(&mut hasher);
        count.to_bits().hash(&mut hasher);
    }
    let bytes = [*request_bytes, *response_bytes];
    let sums = [latency.sum_ms, *connections_closed, *request_messages, *response_messages];
    let sums = bytes.iter().chain(&sums);
    for number in latency.bounds_ms.iter().chain(&latency.counts).chain(sums) {
        number.to_bits().hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Workload;
    use crate::model::workload::{LatencyHistogram, MeshKind, Protocol, Reporter, Security, Service};

    fn minute(at: i64, bytes: f64) -> EdgeMinute {
        EdgeMinute {
            minute: Timestamp::from_millis(at * 60_000),
            edge: EdgeKey {
                mesh: MeshKind::Istio,
                reporter: Reporter::Source,
                protocol: Protocol::Tcp,
                source: Workload::default(),
                destination: Workload::default(),
                service: Service::default(),
                source_principal: None,
                destination_principal: None,
                security: Security::Unknown,
            },
            requests: Vec::new(),
            latency: LatencyHistogram::default(),
            request_bytes: bytes,
            response_bytes: 0.0,
            connections_closed: 0.0,
            request_messages: 0.0,
            response_messages: 0.0,
        }
    }

    #[test]
    fn only_minutes_that_changed_are_written_again() {
        let mut written = Written { complete_until: Timestamp::MIN, content: HashMap::new() };
        let all = vec![minute(1, 5.0), minute(2, 7.0)];
        assert_eq!(written.changed(all.clone()), all);
        written.remember(all.clone());
        assert_eq!(written.changed(all.clone()), []);
        assert_eq!(written.changed(vec![minute(1, 5.0), minute(2, 8.0)]), [minute(2, 8.0)]);
        written.forget_before(Timestamp::from_millis(120_000));
        assert_eq!((written.content.len(), written.complete_until), (1, Timestamp::from_millis(120_000)));
    }
}
