//! Keeps every generation of what is declared, and finds out what each change did to the traffic.
//!
//! In: the newest snapshot of [`Declared`], edge minutes. Out: rows, and the [`ChangeBook`] that pages, APIs and alerts ask.
//! Invariants: what the newest stored generation says is not written again, so a restart repeats nothing; an object is gone
//! only when its source was read whole; what waits for PostgreSQL is bounded and what is dropped is counted.

mod book;
mod judge;
mod look;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

pub use book::{ChangeBook, Generation};
use judge::Judge;
use look::Heads;

use super::{Archive, LAST_PASS_LIMIT, PartStatus, WRITE_LIMIT, limited};
use crate::clock::Clock;
use crate::declared::Declared;
use crate::store::StoreError;
use crate::store::{ChangeQuery, Store, StoredGeneration};

/// How often there is something to do even when nothing is declared anew.
const INTERVAL: Duration = Duration::from_secs(5);
/// Generations that wait to be written; past it the oldest are dropped and counted.
const PENDING_MAX: usize = 20_000;
/// Generations of one transaction.
const TRANSACTION_ROWS: usize = 2_000;

/// Writes generations and judges changes.
pub struct ChangePersist {
    declared: Declared,
    store: Store,
    clock: Clock,
    status: Arc<PartStatus>,
    book: ChangeBook,
    /// None: not read yet.
    heads: Option<Heads>,
    /// The number of the snapshot that was looked at.
    looked: Option<u64>,
    pending: VecDeque<StoredGeneration>,
    judge: Judge,
}

impl ChangePersist {
    /// Nothing is read before it runs.
    pub fn new(declared: Declared, store: Store, archive: Archive, clock: Clock) -> Self {
        let book = ChangeBook::new(store.clone(), archive.clone());
        Self {
            declared,
            store,
            clock,
            status: Arc::new(PartStatus::new("changes")),
            judge: Judge::new(archive, book.clone()),
            book,
            heads: None,
            looked: None,
            pending: VecDeque::new(),
        }
    }

    /// How it fares.
    pub fn status(&self) -> Arc<PartStatus> {
        Arc::clone(&self.status)
    }

    /// Where changes are asked for.
    pub fn book(&self) -> ChangeBook {
        self.book.clone()
    }

    /// Follows what is declared until `shutdown`, then writes what waits.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut changes = self.declared.changes();
        let mut pause = None;
        loop {
            let next = async {
                match pause.take() {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => tokio::select! {
                        _ = tick.tick() => {}
                        // The sender lives as long as what we hold of it.
                        _ = changes.changed() => {}
                    },
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = next => {}
            }
            let number = *changes.borrow_and_update();
            if let Err(error) = self.pass(number).await {
                pause = Some(self.status.failed(self.clock.now(), &error));
            }
        }
        if let Err(error) = self.write(LAST_PASS_LIMIT).await {
            self.status.failed(self.clock.now(), &error);
            tracing::error!("the last changes before shutdown are not written: {error}");
        }
    }

    async fn pass(&mut self, number: u64) -> Result<(), StoreError> {
        if self.heads.is_none() {
            let heads = limited(WRITE_LIMIT, "read mesh resources", self.store.resource_heads()).await?;
            self.remember().await?;
            self.heads = Some(Heads::new(heads));
        }
        if self.looked != Some(number) {
            let judged_before = self.look().await?;
            if judged_before {
                self.looked = Some(number);
            }
        }
        self.write(WRITE_LIMIT).await?;
        if self.judge.round(self.clock.now()).await {
            self.write_effects().await?;
        }
        Ok(())
    }

    /// Takes up the changes of the process before, for alerts and marks, and to judge those that it did not.
    async fn remember(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let query = ChangeQuery {
            from: now - book::RECENT_AGE,
            to: now,
            namespace: None,
            kind: None,
            name: None,
            limit: book::RECENT_MAX,
        };
        let stored = limited(WRITE_LIMIT, "read changes", self.store.search_changes(&query)).await?;
        self.book.take_up(stored);
        Ok(())
    }

    /// Compares the newest snapshot with what is known; whether that is done.
    async fn look(&mut self) -> Result<bool, StoreError> {
        let Some(heads) = self.heads.take() else { return Ok(false) };
        let (seen, config) = (self.declared.seen(), self.declared.config().clone());
        let scanning = tokio::task::spawn_blocking(move || {
            let moved = heads.moved(&seen);
            (heads, seen, moved)
        });
        let Ok((mut heads, seen, moved)) = scanning.await else {
            tracing::error!("comparing what is declared crashed; it is read anew");
            return Ok(false);
        };
        let asked = moved.asked();
        let bodies = match asked.is_empty() {
            true => Ok(Vec::new()),
            false => limited(WRITE_LIMIT, "read mesh resources", self.store.resource_bodies(&asked)).await,
        };
        let bodies = match bodies {
            Ok(bodies) => bodies,
            Err(error) => {
                self.heads = Some(heads);
                return Err(error);
            }
        };
        let now = self.clock.now();
        let book = self.book.clone();
        let writing = tokio::task::spawn_blocking(move || {
            let rows = heads.take(moved, (&seen, &config), (bodies, now), &book);
            (heads, rows)
        });
        let Ok((heads, rows)) = writing.await else {
            tracing::error!("taking over what is declared crashed; it is read anew");
            return Ok(false);
        };
        self.heads = Some(heads);
        self.pending.extend(rows);
        let dropped = self.pending.len().saturating_sub(PENDING_MAX);
        if dropped > 0 {
            self.pending.drain(..dropped);
            self.status.dropped.fetch_add(dropped as u64, Relaxed);
            tracing::error!("dropped {dropped} generations of what is declared: PostgreSQL was away for too long");
        }
        Ok(true)
    }

    async fn write(&mut self, limit: Duration) -> Result<(), StoreError> {
        loop {
            self.status.pending.store(self.pending.len() as u64, Relaxed);
            let some: Vec<StoredGeneration> = self.pending.iter().take(TRANSACTION_ROWS).cloned().collect();
            if some.is_empty() {
                self.status.succeeded(self.clock.now(), 0);
                return Ok(());
            }
            match limited(limit, "write mesh resources", self.store.write_generations(&some)).await {
                Ok(()) => self.status.succeeded(self.clock.now(), some.len()),
                Err(error) if error.is_temporary() => return Err(error),
                Err(error) => self.status.gave_up(self.clock.now(), some.len(), &error),
            }
            self.pending.drain(..some.len());
        }
    }

    async fn write_effects(&mut self) -> Result<(), StoreError> {
        while let Some((resource, at, effects)) = self.judge.unwritten.front().cloned() {
            let write = self.store.set_effects(&resource, at, effects);
            limited(WRITE_LIMIT, "write the effects of a change", write).await?;
            self.judge.unwritten.pop_front();
        }
        Ok(())
    }
}
