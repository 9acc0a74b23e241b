//! A copy of a cluster's objects that follows the cluster: lists once, then watches, and mends itself.
//!
//! Invariants: while the cluster is away the copy stays as it was; a list that breaks off changes nothing; between two
//! tries there is always a pause, which grows.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use parking_lot::{RwLock, RwLockReadGuard};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Error;
use super::client::{Client, OBJECTS_MAX, Query};
use super::watch::{Counters, Event, Events};

/// The first pause after something failed.
const PAUSE_FIRST: Duration = Duration::from_millis(400);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long a watch is asked to last; the server ends it then, and the next one shows that it is still there.
const WATCH_LASTS: Duration = Duration::from_secs(240);
/// A watch that lasted as long was a good one.
const WATCH_GOOD: Duration = Duration::from_secs(5);
/// Watches that fail in a row before the list is read again.
const WATCH_FAILURES_MAX: u32 = 3;

/// What tells an object of one kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// Its namespace; empty for kinds that have none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What is known now.
#[derive(Debug)]
pub struct Held<T> {
    /// The objects.
    pub objects: BTreeMap<ObjectName, Arc<T>>,
    /// Whether a list was read whole; before that nothing is known.
    pub is_synced: bool,
    /// Why it may be old; none: it follows the cluster.
    pub problem: Option<Arc<Error>>,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), is_synced: false, problem: None }
    }
}

/// Reads what a [`Follower`] holds.
#[derive(Debug)]
pub struct Reflection<T>(Arc<RwLock<Held<T>>>);

impl<T> Clone for Reflection<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Reflection<T> {
    /// What is known now. Give the lock back soon.
    pub fn read(&self) -> RwLockReadGuard<'_, Held<T>> {
        self.0.read()
    }
}

/// Follows one query of one cluster.
#[derive(Debug)]
pub struct Follower<T> {
    client: Arc<Client>,
    query: Query,
    held: Reflection<T>,
    counters: Arc<Counters>,
    changed: Arc<Notify>,
}

/// The pauses between tries.
struct Pace(Duration);

impl Pace {
    /// Waits, each time about twice as long, by an eighth more or less so that not all come at once.
    async fn wait(&mut self) {
        let spread = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let eighths = 7 + spread.map_or(0, |at| at.subsec_micros() % 3);
        tokio::time::sleep(self.0 * eighths / 8).await;
        self.0 = (self.0 * 2).min(PAUSE_MAX);
    }

    fn reset(&mut self) {
        self.0 = PAUSE_FIRST;
    }
}

impl<T: DeserializeOwned + Send + Sync + 'static> Follower<T> {
    /// A follower that tells `changed` when what it holds, or its problem, is another; and where it can be read.
    pub fn new(
        client: Arc<Client>,
        query: Query,
        counters: Arc<Counters>,
        changed: Arc<Notify>,
    ) -> (Self, Reflection<T>) {
        let held = Reflection(Arc::default());
        (Self { client, query, held: held.clone(), counters, changed }, held)
    }

    /// Follows until `shutdown` fires.
    pub async fn run(self, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.follow() => {}
        }
    }

    async fn follow(&self) {
        let mut pace = Pace(PAUSE_FIRST);
        loop {
            match self.list().await {
                Ok(version) => self.watch(version, &mut pace).await,
                Err(error) => self.fail(error),
            }
            pace.wait().await;
        }
    }

    async fn list(&self) -> Result<String, Error> {
        let listed = self.client.list(&self.query).await?;
        self.counters.lists.fetch_add(1, Relaxed);
        self.counters.unread.fetch_add(listed.unread, Relaxed);
        if listed.unread > 0 {
            tracing::warn!("{} objects of {} could not be read", listed.unread, self.query.resource.name());
        }
        let objects = listed.objects.into_iter().map(|(name, object)| (name, Arc::new(object))).collect();
        *self.held.0.write() = Held { objects, is_synced: true, problem: None };
        self.changed.notify_one();
        Ok(listed.version)
    }

    /// Watches on from `version` until the list must be read again.
    async fn watch(&self, mut version: String, pace: &mut Pace) {
        let mut failed = 0;
        loop {
            let began = Instant::now();
            let outcome = self.watch_once(&mut version, pace).await;
            if began.elapsed() >= WATCH_GOOD {
                pace.reset();
                failed = 0;
            }
            match outcome {
                Ok(()) if began.elapsed() >= WATCH_GOOD => continue,
                Ok(()) => {}
                Err(Error::Gone) => {
                    self.counters.gone.fetch_add(1, Relaxed);
                    return;
                }
                Err(error) => {
                    failed += 1;
                    self.fail(error);
                }
            }
            if failed >= WATCH_FAILURES_MAX {
                return;
            }
            pace.wait().await;
        }
    }

    async fn watch_once(&self, version: &mut String, pace: &mut Pace) -> Result<(), Error> {
        let begun = self.client.watch(&self.query, version, WATCH_LASTS).await?;
        self.counters.watches.fetch_add(1, Relaxed);
        if self.held.0.write().problem.take().is_some() {
            self.changed.notify_one();
        }
        let mut events = Events::new(self.query.clone(), begun);
        while let Some((event, at)) = events.next().await? {
            pace.reset();
            if !at.is_empty() {
                *version = at;
            }
            self.take(event);
        }
        Ok(())
    }

    fn take(&self, event: Event<T>) {
        let counted = match &event {
            Event::Put(..) | Event::Deleted(_) => &self.counters.events,
            Event::Unread => &self.counters.unread,
            Event::Bookmark => return,
        };
        counted.fetch_add(1, Relaxed);
        let mut held = self.held.0.write();
        match event {
            Event::Put(name, object) => {
                let is_known = held.objects.contains_key(&name);
                if is_known || held.objects.len() < OBJECTS_MAX {
                    held.objects.insert(name, Arc::new(object));
                } else {
                    let resource = self.query.resource.name();
                    let (what, limit) = ("the number of objects", OBJECTS_MAX);
                    held.problem = Some(Arc::new(Error::TooLarge { what, resource, limit }));
                }
            }
            Event::Deleted(name) => {
                held.objects.remove(&name);
            }
            Event::Unread | Event::Bookmark => {}
        }
        drop(held);
        self.changed.notify_one();
    }

    /// Keeps what is held, and says once why it may be old.
    fn fail(&self, error: Error) {
        self.counters.failures.fetch_add(1, Relaxed);
        let mut held = self.held.0.write();
        let text = error.to_string();
        if held.problem.as_ref().is_some_and(|before| before.to_string() == text) {
            return;
        }
        tracing::warn!("{text}; keeping {} objects of {}", held.objects.len(), self.query.resource.name());
        held.problem = Some(Arc::new(error));
        drop(held);
        self.changed.notify_one();
    }
}
