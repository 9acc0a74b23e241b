//! The cluster: each kind found in the newest version that is served, followed, and put together when something moves.
//!
//! Invariants: a kind that is not served or may not be read stops no other; while it cannot be read, what was known of it
//! stays; an object is made into a tree once for each time it changes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::object::{self, Held};
use super::{ClusterStatus, Declared, KindState, KindStatus};
use crate::kubernetes::{Client, Error, ObjectName, Query, Resource as ApiResource};
use crate::mesh::{KINDS, Kind, Place, Resource, Unread, resource_of};
use crate::model::Timestamp;

/// How long events are gathered before a snapshot is made of them.
const GATHERED: Duration = Duration::from_millis(500);
/// How much longer than making a snapshot took the next one waits: a large cluster must not keep a core busy.
const REST: u32 = 10;
/// How soon a kind that seems not to be served is asked for once more: an API server that starts knows its own kinds first.
const NOT_SURE_PAUSE: Duration = Duration::from_secs(30);
/// How soon a kind that is not served is asked for again: its definition may be installed.
const NOT_SERVED_PAUSE: Duration = Duration::from_secs(120);
/// The pauses after a kind could not be asked for.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How soon a follower's own troubles are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// How one kind fares, and what is known of it.
#[derive(Clone)]
struct Watched {
    version: Option<&'static str>,
    held: Option<Held>,
    /// While nothing is followed.
    trouble: KindState,
    /// The cluster has said twice that it does not serve the kind: then there are no objects of it.
    is_gone: bool,
}

type Table = Arc<Mutex<Vec<Watched>>>;

/// Kinds that are watched: all but endpoints, which change with every pod and say nothing that is declared.
fn is_watched(kind: Kind) -> bool {
    kind != Kind::EndpointSlice
}

/// Follows the cluster for ever.
pub(super) async fn follow(declared: Declared, client: Arc<Client>) {
    let none = Watched { version: None, held: None, trouble: KindState::Waiting, is_gone: false };
    let table: Table = Arc::new(Mutex::new(vec![none; KINDS.len()]));
    let changed = Arc::new(Notify::new());
    let mut tasks = JoinSet::new();
    for info in KINDS.iter().filter(|info| is_watched(info.kind)) {
        let (client, table, changed) = (Arc::clone(&client), Arc::clone(&table), Arc::clone(&changed));
        let counters = declared.cluster_counters();
        tasks.spawn(async move {
            let one = OfKind { kind: info.kind, client, table, changed };
            one.follow(&counters).await;
        });
    }
    let mut known = Known::default();
    loop {
        changed.notified().await;
        tokio::time::sleep(GATHERED).await;
        let began = Instant::now();
        let (now, watched) = (declared.0.clock.now(), table.lock().clone());
        let gathering = tokio::task::spawn_blocking(move || {
            let gathered = known.gather(&watched, now);
            (known, gathered)
        });
        let gathered;
        (known, gathered) = match gathering.await {
            Ok(done) => done,
            Err(crashed) => {
                tracing::error!("putting the cluster's objects together crashed: {crashed}");
                (Known::default(), Gathered::default())
            }
        };
        let Gathered { objects, unread, whole, status, is_new } = gathered;
        declared.counters().unread.fetch_add(unread.len() as u64, Relaxed);
        if is_new {
            declared.publish(|parts| {
                parts.cluster = objects;
                parts.cluster_unread = unread;
                parts.kinds_whole = whole;
                parts.status.cluster = Some(status);
            });
        } else {
            declared.note(|all| all.cluster = Some(status));
        }
        tokio::time::sleep(began.elapsed() * REST).await;
    }
}

/// What follows one kind.
struct OfKind {
    kind: Kind,
    client: Arc<Client>,
    table: Table,
    changed: Arc<Notify>,
}

impl OfKind {
    async fn follow(&self, counters: &Arc<crate::kubernetes::Counters>) {
        let (mut pause, mut missed) = (PAUSE_FIRST, 0);
        loop {
            match self.served().await {
                Ok(Some(version)) => {
                    (pause, missed) = (PAUSE_FIRST, 0);
                    let (following, held) =
                        object::follow(&self.client, (self.kind, self.query(version)), counters, &self.changed);
                    self.until_not_served(version, following, held).await;
                }
                Ok(None) => {
                    missed += 1;
                    let is_gone = missed > 1;
                    self.says(|one| {
                        let held = one.held.take().filter(|_| !is_gone);
                        *one = Watched { version: one.version, held, trouble: KindState::NotServed, is_gone };
                    });
                    tokio::time::sleep(if is_gone { NOT_SERVED_PAUSE } else { NOT_SURE_PAUSE }).await;
                }
                Err(error) => {
                    let told = error.to_string();
                    let trouble = match error {
                        Error::Forbidden { .. } => KindState::Forbidden(told),
                        _ => KindState::Behind(told),
                    };
                    let is_news = self.table.lock()[self.kind as usize].trouble != trouble;
                    if is_news {
                        tracing::warn!("{} is not watched: {}", self.kind.info().name, trouble.problem().unwrap_or(""));
                        self.says(|one| one.trouble = trouble);
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    fn query(&self, version: &'static str) -> Query {
        let info = self.kind.info();
        Query::all(ApiResource { group: info.group, version, plural: info.plural })
    }

    fn says(&self, change: impl FnOnce(&mut Watched)) {
        change(&mut self.table.lock()[self.kind as usize]);
        self.changed.notify_one();
    }

    /// The first of its versions that the cluster serves.
    async fn served(&self) -> Result<Option<&'static str>, Error> {
        for &version in self.kind.info().versions {
            if self.client.serves(&self.query(version)).await? {
                return Ok(Some(version));
            }
        }
        Ok(None)
    }

    /// Follows until the cluster serves the kind no more. What was known before stays until the first list is whole.
    async fn until_not_served(&self, version: &'static str, following: object::Following, held: Held) {
        let mut taken = false;
        let watch = async {
            loop {
                if !taken && held.is_synced() {
                    taken = true;
                    let held = Some(held.clone());
                    let (version, trouble) = (Some(version), KindState::Following);
                    self.says(|one| *one = Watched { version, held, trouble, is_gone: false });
                }
                match held.problem() {
                    Some(problem) if matches!(*problem, Error::NotServed { .. }) => return,
                    Some(problem) if !taken => {
                        let told = problem.to_string();
                        let forbidden = matches!(*problem, Error::Forbidden { .. });
                        let trouble = if forbidden { KindState::Forbidden(told) } else { KindState::Behind(told) };
                        if self.table.lock()[self.kind as usize].trouble != trouble {
                            self.says(|one| one.trouble = trouble);
                        }
                    }
                    _ => {}
                }
                // The first list is waited for closely: nothing tells us alone that it is there.
                tokio::time::sleep(if taken { LOOK } else { GATHERED / 10 }).await;
            }
        };
        tokio::select! {
            () = watch => {}
            () = following => {}
        }
    }
}

/// The text that an object was made of, and the object, or why there is none.
type Made = (Arc<str>, Result<Arc<Resource>, String>);

/// Objects made into trees, each kept as long as it is the same.
#[derive(Default)]
struct Known {
    made: HashMap<(Kind, ObjectName), Made>,
    whole: BTreeSet<Kind>,
    changed_at: Option<Timestamp>,
}

#[derive(Default)]
struct Gathered {
    objects: Vec<Arc<Resource>>,
    unread: Vec<Unread>,
    whole: BTreeSet<Kind>,
    status: ClusterStatus,
    /// Whether an object, or what is known to be whole, is another.
    is_new: bool,
}

impl Known {
    fn gather(&mut self, watched: &[Watched], now: Timestamp) -> Gathered {
        let mut all = Gathered::default();
        let mut made = HashMap::with_capacity(self.made.len());
        for (info, one) in KINDS.iter().zip(watched).filter(|(info, _)| is_watched(info.kind)) {
            let copied = one.held.as_ref().map(Held::copied).unwrap_or_default();
            let mut objects = 0;
            for (name, text) in copied.objects {
                let key = (info.kind, name);
                let (text, resource) = match self.made.remove(&key) {
                    Some(known) if Arc::ptr_eq(&known.0, &text) => known,
                    _ => {
                        all.is_new = true;
                        let resource = read(&text, info.kind, one.version.unwrap_or_default());
                        (text, resource)
                    }
                };
                match resource.clone() {
                    Ok(resource) => all.objects.push(resource),
                    Err(message) => {
                        all.unread.push(Unread { place: Place::default(), message, other_kind: false });
                    }
                }
                objects += usize::from(resource.is_ok());
                made.insert(key, (text, resource));
            }
            // A kind that is not served has no objects, which is known as well.
            if copied.is_synced || one.is_gone {
                all.whole.insert(info.kind);
            }
            let problem = one.held.as_ref().and_then(Held::problem);
            let state = match (problem, &one.trouble) {
                (Some(problem), _) if matches!(*problem, Error::Forbidden { .. }) => {
                    KindState::Forbidden(problem.to_string())
                }
                (Some(problem), _) => KindState::Behind(problem.to_string()),
                (None, trouble) => trouble.clone(),
            };
            let (kind, group, version) = (info.name, info.group, one.version);
            all.status.kinds.push(KindStatus { kind, group, version, objects, state });
        }
        // What is left over is gone.
        all.is_new |= !self.made.is_empty() || all.whole != self.whole;
        self.made = made;
        self.whole.clone_from(&all.whole);
        if all.is_new {
            self.changed_at = Some(now);
        }
        all.status.changed_at = self.changed_at;
        all
    }
}

fn read(text: &str, kind: Kind, version: &str) -> Result<Arc<Resource>, String> {
    let object = serde_json::from_str(text).map_err(|error| format!("this {}: {error}", kind.info().name))?;
    resource_of(object, kind, version).map(Arc::new)
}
