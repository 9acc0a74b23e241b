//! Writes down each delivery before it is sent, and what became of it.
//!
//! In: the dispatcher's [`Record`]s. Out: rows of `notification` and `notify_log`. Invariant: a delivery is acknowledged
//! only when its row is committed. While PostgreSQL is away nothing is acknowledged; the dispatcher then sends all the
//! same. What became of a delivery is kept until it can be written, so that a restart after an outage does not tell people
//! again what they know; of that, a bounded number is held and the oldest goes first.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::outbox_subject::subject;
use super::{LAST_PASS_LIMIT, PartStatus, limited};
use crate::clock::Clock;
use crate::model::Timestamp;
use crate::notify::{Delivery, LogEntry, Record};
use crate::store::{NewNotification, NotificationFate, NotifyLogEntry, Store, StoreError, StoredNotification};

/// How long the dispatcher's patience lasts is its own matter; a row that takes longer than this will not help it.
pub(super) const WRITE_LIMIT: Duration = Duration::from_secs(5);
/// How long what a receiver was told is remembered: longer than any sensible repeat interval.
const LOG_KEPT: Duration = Duration::from_secs(5 * 86_400);
/// Most unfinished deliveries taken up after a restart.
const UNFINISHED_MAX: usize = 10_000;

/// Outcomes held while PostgreSQL is away.
const OUTCOMES_HELD: usize = 10_000;
/// How long until the held outcomes are tried again.
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// What became of a delivery, as the tables keep it.
#[derive(Clone)]
enum Outcome {
    Sent { row: i64, at: Timestamp },
    Failed { row: i64, at: Timestamp, error: String },
    Known(NotifyLogEntry),
}

/// Writes the outbox.
pub struct OutboxPersist {
    input: mpsc::Receiver<Record>,
    store: Store,
    clock: Clock,
    status: Arc<PartStatus>,
    rows: HashMap<String, i64>,
    outcomes: VecDeque<Outcome>,
}

/// One notification of the outbox, for people.
#[derive(Clone, Debug)]
pub struct OutboxEntry {
    /// Its number.
    pub id: i64,
    /// The delivery.
    pub delivery: Delivery,
    /// What became of it.
    pub fate: NotificationFate,
    /// When it was delivered or given up.
    pub ended_at: Option<Timestamp>,
    /// Flushes for which it was tried in vain.
    pub attempts: u32,
    /// Why the last one failed.
    pub last_error: Option<String>,
}

/// The outbox to be read. Clones share the connections.
#[derive(Clone)]
pub struct OutboxReader(pub(super) Store);

impl OutboxReader {
    /// Reads the outbox of `store`.
    pub fn new(store: Store) -> Self {
        Self(store)
    }

    /// The newest notifications of which this became, or all of them; newest first.
    ///
    /// # Errors
    /// When PostgreSQL is away.
    pub async fn list(&self, fate: Option<NotificationFate>, limit: usize) -> Result<Vec<OutboxEntry>, StoreError> {
        let stored = limited(WRITE_LIMIT, "read the outbox", self.0.listed_notifications(fate, limit)).await?;
        Ok(stored.into_iter().map(entry).collect())
    }

    /// One notification.
    ///
    /// # Errors
    /// When PostgreSQL is away.
    pub async fn get(&self, id: i64) -> Result<Option<OutboxEntry>, StoreError> {
        Ok(limited(WRITE_LIMIT, "read a notification", self.0.notification(id)).await?.map(entry))
    }
}

fn entry(stored: StoredNotification) -> OutboxEntry {
    let fate = stored.fate();
    let StoredNotification { id, notification, attempts, sent_at, given_up_at, last_error, next_attempt_at: _ } =
        stored;
    OutboxEntry { id, delivery: delivery(notification), fate, ended_at: sent_at.or(given_up_at), attempts, last_error }
}

fn delivery(stored: NewNotification) -> Delivery {
    let NewNotification {
        dedup_key,
        receiver,
        integration,
        group_key,
        kind,
        payload,
        body,
        told,
        created_at,
        subject: _,
    } = stored;
    let integration = integration.parse().unwrap_or(0);
    let payload = format!("{payload}\n");
    let told = told.and_then(|told| told_entry(&told, (&group_key, &receiver, integration)));
    Delivery {
        id: dedup_key,
        body: body.unwrap_or_else(|| payload.clone()),
        receiver,
        integration,
        kind,
        group_key,
        payload,
        told,
        created_at,
    }
}

/// Fingerprints are kept in hexadecimal: a JSON number has too few digits for them.
fn told_json(told: &LogEntry) -> serde_json::Value {
    let hex = |set: &HashSet<u64>| set.iter().map(|hash| format!("{hash:016x}")).collect::<Vec<_>>();
    serde_json::json!({
        "firing": hex(&told.firing), "resolved": hex(&told.resolved), "at_ms": told.at.as_millis()
    })
}

fn told_entry(told: &serde_json::Value, whose: (&str, &str, usize)) -> Option<LogEntry> {
    let set = |name: &str| -> Option<HashSet<u64>> {
        told[name].as_array()?.iter().map(|hash| u64::from_str_radix(hash.as_str()?, 16).ok()).collect()
    };
    Some(LogEntry {
        group_key: whose.0.to_owned(),
        receiver: whose.1.to_owned(),
        integration: whose.2,
        firing: set("firing")?,
        resolved: set("resolved")?,
        at: Timestamp::from_millis(told["at_ms"].as_i64()?),
    })
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
        restored.rows.insert(stored.notification.dedup_key.clone(), stored.id);
        restored.unfinished.push(delivery(stored.notification));
    }
    let log = store.notify_log().await?;
    restored.log = log.into_iter().filter(|entry| entry.expires_at > now).filter_map(log_entry).collect();
    Ok(restored)
}

impl OutboxPersist {
    /// Writes what `input` brings; `restored` is what the deliveries of before the restart are known by.
    pub fn new(input: mpsc::Receiver<Record>, store: Store, clock: Clock, restored: &OutboxRestored) -> Self {
        let status = Arc::new(PartStatus::new("outbox"));
        Self { input, store, clock, status, rows: restored.rows.clone(), outcomes: VecDeque::new() }
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
                    None => break,
                },
                () = tokio::time::sleep(TRY_AGAIN), if !self.outcomes.is_empty() => self.write_outcomes().await,
                () = shutdown.cancelled() => break,
            }
        }
        // The dispatcher finishes what is under way after the same signal; its sender closes when it has.
        let rest = async {
            while let Some(record) = self.input.recv().await {
                self.write(record).await;
            }
            self.write_outcomes().await;
        };
        let _ = tokio::time::timeout(LAST_PASS_LIMIT, rest).await;
        if !self.outcomes.is_empty() {
            let count = self.outcomes.len();
            tracing::error!(
                "{count} outcomes of notifications are not written: they may be told again after the start"
            );
        }
    }

    async fn write(&mut self, record: Record) {
        match record {
            Record::Due(delivery, acknowledge) => {
                let id = delivery.id.clone();
                let row = new_notification(delivery);
                let insert = self.store.insert_notification(&row);
                match limited(WRITE_LIMIT, "record a notification", insert).await {
                    Ok(row) => {
                        self.rows.insert(id, row);
                        // A dispatcher that lost its patience has sent it meanwhile.
                        let _ = acknowledge.send(());
                        self.status.succeeded(self.clock.now(), 1);
                    }
                    Err(error) => drop(self.status.failed(self.clock.now(), &error)),
                }
                return;
            }
            Record::Delivered { id, at, log } => {
                let sent = self.rows.remove(&id).map(|row| Outcome::Sent { row, at });
                self.outcomes.extend(sent);
                self.outcomes.extend(log.map(|log| Outcome::Known(stored_log(log))));
            }
            // The group's next flush makes a new delivery of its own, with what is true by then.
            Record::Failed { id, at, error, .. } => {
                let failed = self.rows.remove(&id).map(|row| Outcome::Failed { row, at, error });
                self.outcomes.extend(failed);
            }
        }
        self.write_outcomes().await;
    }

    /// Writes the outcomes in their order, until one cannot be written for now.
    async fn write_outcomes(&mut self) {
        while let Some(outcome) = self.outcomes.front().cloned() {
            let write = self.write_outcome(outcome);
            match limited(WRITE_LIMIT, "write what became of a notification", write).await {
                Ok(()) => self.status.succeeded(self.clock.now(), 1),
                Err(error) if error.is_temporary() => {
                    self.status.failed(self.clock.now(), &error);
                    break;
                }
                Err(error) => self.status.gave_up(self.clock.now(), 1, &error),
            }
            self.outcomes.pop_front();
        }
        let beyond = self.outcomes.len().saturating_sub(OUTCOMES_HELD);
        self.outcomes.drain(..beyond);
        self.status.dropped.fetch_add(beyond as u64, Relaxed);
        self.status.pending.store(self.outcomes.len() as u64, Relaxed);
    }

    async fn write_outcome(&self, outcome: Outcome) -> Result<(), StoreError> {
        match outcome {
            Outcome::Sent { row, at } => self.store.mark_sent(row, at).await,
            Outcome::Failed { row, at, error } => self.store.mark_failed(row, at, &error, None).await,
            Outcome::Known(entry) => self.store.write_notify_log(&entry).await,
        }
    }
}

fn stored_log(log: LogEntry) -> NotifyLogEntry {
    let LogEntry { group_key, receiver, integration, firing, resolved, at } = log;
    NotifyLogEntry {
        group_key,
        receiver: format!("{receiver}[{integration}]"),
        sent_at: at,
        firing_hashes: firing.into_iter().collect(),
        resolved_hashes: resolved.into_iter().collect(),
        expires_at: at + LOG_KEPT,
    }
}

fn new_notification(delivery: Delivery) -> NewNotification {
    let Delivery { id, receiver, integration, kind, group_key, payload, body, told, created_at } = delivery;
    let payload = serde_json::from_str(&payload).unwrap_or_else(|_| payload.into());
    NewNotification {
        subject: subject(&group_key, &payload),
        dedup_key: id,
        receiver,
        integration: integration.to_string(),
        group_key,
        kind,
        payload,
        body: Some(body),
        told: told.as_ref().map(told_json),
        created_at,
    }
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
