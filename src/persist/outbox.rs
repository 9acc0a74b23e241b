//! Writes down each delivery before it is sent, and what became of it.
//!
//! In: the dispatcher's [`Record`]s. Out: rows of `notification` and `notify_log`. Invariant: a delivery is acknowledged
//! only when its row is committed. While PostgreSQL is away nothing is acknowledged; the dispatcher then sends all the
//! same, so this part keeps nothing but the ids of deliveries under way.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{LAST_PASS_LIMIT, PartStatus, limited};
use crate::clock::Clock;
use crate::model::Timestamp;
use crate::notify::{Delivery, LogEntry, Record};
use crate::store::{NewNotification, NotifyLogEntry, Store, StoreError};

/// How long the dispatcher's patience lasts is its own matter; a row that takes longer than this will not help it.
const WRITE_LIMIT: Duration = Duration::from_secs(5);
/// How long what a receiver was told is remembered: longer than any sensible repeat interval.
const LOG_KEPT: Duration = Duration::from_secs(5 * 86_400);
/// Most unfinished deliveries taken up after a restart.
const UNFINISHED_MAX: usize = 10_000;

/// Writes the outbox.
pub struct OutboxPersist {
    input: mpsc::Receiver<Record>,
    store: Store,
    clock: Clock,
    status: Arc<PartStatus>,
    rows: HashMap<String, i64>,
}

/// What an earlier process left: deliveries to make again, and what receivers know.
#[derive(Debug, Default)]
pub struct OutboxRestored {
    /// Recorded, but neither delivered nor given up.
    pub unfinished: Vec<Delivery>,
    /// What receivers were told.
    pub log: Vec<LogEntry>,
    rows: HashMap<String, i64>,
}

/// Reads what an earlier process left in the outbox.
///
/// # Errors
/// When PostgreSQL is away.
pub async fn restore_outbox(store: &Store, now: Timestamp) -> Result<OutboxRestored, StoreError> {
    let mut restored = OutboxRestored::default();
    for stored in store.pending_notifications(now, UNFINISHED_MAX).await? {
        let NewNotification { dedup_key, receiver, integration, group_key, payload, created_at } = stored.notification;
        restored.rows.insert(dedup_key.clone(), stored.id);
        restored.unfinished.push(Delivery {
            id: dedup_key,
            receiver,
            integration: integration.parse().unwrap_or(0),
            group_key,
            payload: format!("{payload}\n"),
            created_at,
        });
    }
    let log = store.notify_log().await?;
    restored.log = log.into_iter().filter(|entry| entry.expires_at > now).filter_map(log_entry).collect();
    Ok(restored)
}

impl OutboxPersist {
    /// Writes what `input` brings; `restored` is what the deliveries of before the restart are known by.
    pub fn new(input: mpsc::Receiver<Record>, store: Store, clock: Clock, restored: &OutboxRestored) -> Self {
        Self { input, store, clock, status: Arc::new(PartStatus::new("outbox")), rows: restored.rows.clone() }
    }

    /// How it fares.
    pub fn status(&self) -> Arc<PartStatus> {
        Arc::clone(&self.status)
    }

    /// Writes until the channel is closed; after `shutdown`, what is still in it.
    pub async fn run(mut self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                record = self.input.recv() => match record {
                    Some(record) => self.write(record).await,
                    None => return,
                },
                () = shutdown.cancelled() => break,
            }
        }
        // The dispatcher finishes what is under way after the same signal; its sender closes when it has.
        let rest = async {
            while let Some(record) = self.input.recv().await {
                self.write(record).await;
            }
        };
        let _ = tokio::time::timeout(LAST_PASS_LIMIT, rest).await;
    }

    async fn write(&mut self, record: Record) {
        let now = self.clock.now();
        let written = match record {
            Record::Due(delivery, acknowledge) => {
                let id = delivery.id.clone();
                let row = new_notification(delivery);
                limited(WRITE_LIMIT, "record a notification", self.store.insert_notification(&row)).await.map(|row| {
                    self.rows.insert(id, row);
                    // A dispatcher that lost its patience has sent it meanwhile.
                    let _ = acknowledge.send(());
                })
            }
            Record::Delivered { id, at, log } => self.delivered(&id, at, log).await,
            Record::Failed { id, at, error, .. } => match self.rows.remove(&id) {
                // The group's next flush makes a new delivery of its own, with what is true by then.
                Some(row) => {
                    let write = self.store.mark_failed(row, at, &error, None);
                    limited(WRITE_LIMIT, "mark a notification as failed", write).await
                }
                None => Ok(()),
            },
        };
        match written {
            Ok(()) => self.status.succeeded(now, 1),
            Err(error) => drop(self.status.failed(now, &error)),
        }
    }

    async fn delivered(&mut self, id: &str, at: Timestamp, log: Option<LogEntry>) -> Result<(), StoreError> {
        if let Some(row) = self.rows.remove(id) {
            limited(WRITE_LIMIT, "mark a notification as sent", self.store.mark_sent(row, at)).await?;
        }
        let Some(log) = log else { return Ok(()) };
        let entry = NotifyLogEntry {
            group_key: log.group_key,
            receiver: format!("{}[{}]", log.receiver, log.integration),
            sent_at: log.at,
            firing_hashes: log.firing.into_iter().collect(),
            resolved_hashes: log.resolved.into_iter().collect(),
            expires_at: log.at + LOG_KEPT,
        };
        limited(WRITE_LIMIT, "write the notification log", self.store.write_notify_log(&entry)).await
    }
}

fn new_notification(delivery: Delivery) -> NewNotification {
    let Delivery { id, receiver, integration, group_key, payload, created_at } = delivery;
    let payload = serde_json::from_str(&payload).unwrap_or_else(|_| payload.into());
    NewNotification { dedup_key: id, receiver, integration: integration.to_string(), group_key, payload, created_at }
}

/// The receiver is kept as `name[integration]`.
fn log_entry(stored: NotifyLogEntry) -> Option<LogEntry> {
    let (receiver, integration) = stored.receiver.strip_suffix(']')?.rsplit_once('[')?;
    Some(LogEntry {
        group_key: stored.group_key,
        receiver: receiver.to_owned(),
        integration: integration.parse().ok()?,
        firing: stored.firing_hashes.into_iter().collect(),
        resolved: stored.resolved_hashes.into_iter().collect(),
        at: stored.sent_at,
    })
}
