//! The long-lived part of scraping: one loop per target, started and stopped as discovery says.
//!
//! Invariant: a target that a reload leaves alone keeps its loop, its slot and its cache.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::ingest::Sinks;
use super::page_memory::PageMemory;
use super::status::Cell;
use super::target_loop::{Assigned, Shared, TargetLoop};
use super::{Config, Counters, Status, metadata};
use crate::clock::Clock;
use crate::discovery::{Target, TargetKey, Targets};
use crate::http_client::{Client, Reach, SystemRoots};
use crate::rollup::Rollup;
use crate::series::Head;

/// Scrapes all targets until told to stop.
pub struct Scraper {
    shared: Arc<Shared>,
    targets: watch::Receiver<Arc<Targets>>,
    loops: HashMap<TargetKey, (watch::Sender<Assigned>, Arc<Cell>)>,
    by_task: HashMap<Id, TargetKey>,
    clients: HashMap<String, Arc<Client>>,
    roots: SystemRoots,
    reach: Reach,
}

impl Scraper {
    /// Scraping of `targets` into `head` and `rollup`.
    pub fn new(
        config: Config,
        clock: Clock,
        head: Head,
        rollup: Rollup,
        targets: watch::Receiver<Arc<Targets>>,
    ) -> Self {
        let permits = Semaphore::new(config.concurrency.clamp(1, Semaphore::MAX_PERMITS));
        let sinks = Sinks { head, rollup, counters: Arc::default(), metadata: metadata::Shared::default() };
        let (status, workspaces) = (Status::default(), Mutex::default());
        let page_memory = PageMemory::new(config.page_memory_limit.0);
        let shared = Arc::new(Shared { config, clock, sinks, status, permits, page_memory, workspaces });
        Self {
            shared,
            targets,
            loops: HashMap::new(),
            by_task: HashMap::new(),
            clients: HashMap::new(),
            roots: SystemRoots::default(),
            reach: Reach::default(),
        }
    }

    /// Connects only to targets that `reach` leaves open.
    #[must_use]
    pub fn reaching(self, reach: Reach) -> Self {
        Self { reach, ..self }
    }

    /// What pages and APIs may read.
    pub fn status(&self) -> Status {
        self.shared.status.clone()
    }

    /// What it did so far.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.shared.sinks.counters)
    }

    /// Runs until `shutdown` fires and all scrapes under way have been given up.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut tasks = JoinSet::new();
        let mut updates = self.targets.clone();
        updates.mark_changed();
        let mut discovery_lives = true;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                changed = updates.changed(), if discovery_lives => discovery_lives = changed.is_ok(),
                Some(ended) = tasks.join_next_with_id() => self.forget(ended),
            }
            let targets = updates.borrow_and_update().clone();
            self.reconcile(&targets, &mut tasks, &shutdown);
        }
        while tasks.join_next().await.is_some() {}
    }

    fn reconcile(&mut self, targets: &Arc<Targets>, tasks: &mut JoinSet<TargetKey>, shutdown: &CancellationToken) {
        self.shared.status.set_discovered(Arc::clone(targets));
        self.clients.retain(|job, _| targets.active.iter().any(|target| target.job.name == *job));
        let mut wanted = HashSet::new();
        for target in &targets.active {
            let key = target.key();
            let client = self.client(target);
            if wanted.insert(key.clone()) {
                self.assign(key, (Arc::clone(target), client), tasks, shutdown);
            }
        }
        for (key, (assigned, _)) in self.loops.iter().filter(|(key, _)| !wanted.contains(*key)) {
            let gone = |assigned: &mut Assigned| assigned.take().is_some();
            if assigned.send_if_modified(gone) {
                self.shared.status.remove(key);
            }
        }
    }

    /// Gives the target to its loop, which is started when there is none.
    fn assign(
        &mut self,
        key: TargetKey,
        (target, client): (Arc<Target>, Arc<Client>),
        tasks: &mut JoinSet<TargetKey>,
        shutdown: &CancellationToken,
    ) {
        let same = |assigned: &Assigned| {
            assigned.as_ref().is_some_and(|(t, c)| Arc::ptr_eq(c, &client) && (Arc::ptr_eq(t, &target) || *t == target))
        };
        if let Some((sender, cell)) = self.loops.get(&key).filter(|(sender, _)| !sender.is_closed()) {
            if same(&sender.borrow()) {
                return;
            }
            cell.status.lock().target = Arc::clone(&target);
            self.shared.status.add(key, Arc::clone(cell)); // it may have been gone
            sender.send_replace(Some((target, client)));
            return;
        }
        let cell = Arc::new(Cell::new(Arc::clone(&target)));
        self.shared.status.add(key.clone(), Arc::clone(&cell));
        let (sender, assigned) = watch::channel(Some((target, client)));
        self.loops.insert(key.clone(), (sender, Arc::clone(&cell)));
        let one = TargetLoop::new(Arc::clone(&self.shared), assigned, cell, key.clone());
        let task = tasks.spawn(one.run(shutdown.clone()));
        self.by_task.insert(task.id(), key);
    }

    /// A loop has ended: its target is gone, or it panicked; the next reconciliation starts it again when it is wanted.
    fn forget(&mut self, ended: Result<(Id, TargetKey), JoinError>) {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(panicked) => panicked.id(),
        };
        let Some(key) = self.by_task.remove(&id) else { return };
        if let Err(panicked) = ended {
            error!(target.url = %key.url, "the scrape loop of `{}` panicked and is started again: {panicked}", key.url);
            self.shared.sinks.counters.restarts.fetch_add(1, Ordering::Relaxed);
        }
        if self.loops.get(&key).is_some_and(|(sender, _)| sender.is_closed()) {
            self.loops.remove(&key);
        }
    }

    /// The client of the target's job, made anew when the job's HTTP settings changed.
    fn client(&mut self, target: &Target) -> Arc<Client> {
        let known = self.clients.get(&target.job.name).filter(|client| *client.config() == target.job.http);
        if let Some(known) = known {
            return Arc::clone(known);
        }
        let client = Arc::new(Client::sharing(target.job.http.clone(), self.reach.clone(), self.roots.clone()));
        self.clients.insert(target.job.name.clone(), Arc::clone(&client));
        client
    }
}
