//! The long-lived part of discovery: watches files, asks URLs, publishes targets when they change.
//!
//! In: [`Jobs`] through a watch channel. Out: [`Targets`] through a watch channel.
//! Invariant: a list lives as long as a job names it; a failed read or fetch never empties it.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use notify::Watcher as _;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::http::HttpSdError;
use super::kubernetes::{Found, SETTLE_TIME as CLUSTER_SETTLE_TIME, Watches};
use super::{Group, HttpSdConfig, Job, Jobs, Problem, Targets, file, http};
use crate::http_client::{self, Client, Reach};
use crate::model::Labels;

/// Editors write a file in several steps; the last of them counts.
const SETTLE_TIME: Duration = Duration::from_millis(50);
/// The shortest refresh that is obeyed.
const REFRESH_MIN: Duration = Duration::from_millis(100);

/// What discovery did, for its own metrics.
#[derive(Debug, Default)]
pub struct Counters {
    /// Reads of target files that failed.
    pub file_failures: AtomicU64,
    /// Fetches of target lists that failed.
    pub http_failures: AtomicU64,
    /// Times a new set of targets was published.
    pub updates: AtomicU64,
    /// What the watches of Kubernetes clusters did.
    pub kubernetes: Arc<crate::kubernetes::Counters>,
}

/// Finds targets until told to stop.
#[derive(Debug)]
pub struct Discovery {
    jobs: watch::Receiver<Jobs>,
    targets: watch::Sender<Arc<Targets>>,
    counters: Arc<Counters>,
    files: HashMap<PathBuf, List>,
    lists: HashMap<(String, usize), HttpList>,
    watches: Watches,
    next_file_read: Option<Instant>,
    reach: Reach,
}

/// One list and why it may be old.
#[derive(Debug, Default)]
struct List {
    groups: Vec<Group>,
    problem: Option<String>,
}

#[derive(Debug)]
struct HttpList {
    config: HttpSdConfig,
    client: Arc<Client>,
    list: List,
    due: Instant,
    asked: bool,
}

type Fetched = ((String, usize), HttpSdConfig, Result<Vec<Group>, HttpSdError>);

impl Discovery {
    /// Discovery of the jobs in `jobs`, and where its targets come out.
    pub fn new(jobs: watch::Receiver<Jobs>) -> (Self, watch::Receiver<Arc<Targets>>) {
        let (targets, receiver) = watch::channel(Arc::default());
        let (files, lists, watches) = (HashMap::new(), HashMap::new(), Watches::default());
        let counters = Arc::new(Counters { kubernetes: watches.counters(), ..Counters::default() });
        let reach = Reach::default();
        (Self { jobs, targets, counters, files, lists, watches, next_file_read: None, reach }, receiver)
    }

    /// Asks only servers that `reach` leaves open.
    #[must_use]
    pub fn reaching(mut self, reach: Reach) -> Self {
        self.watches.reach(&reach);
        Self { reach, ..self }
    }

    /// What it did so far.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Publishes targets until `shutdown` fires.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let (changes, mut changed) = mpsc::channel(1);
        let mut watcher = None;
        let mut fetches: JoinSet<Fetched> = JoinSet::new();
        let cluster_changed = self.watches.changed();
        let mut updates = self.jobs.clone();
        let mut jobs: Jobs = updates.borrow_and_update().clone();
        watcher = self.watch_folders(&jobs, &changes).or(watcher);
        self.follow(&jobs);
        self.read_files(&jobs);
        loop {
            self.publish(&jobs);
            self.start_fetches(&mut fetches);
            tokio::select! {
                () = shutdown.cancelled() => return,
                reloaded = updates.changed() => {
                    if reloaded.is_err() {
                        return shutdown.cancelled().await; // the configuration's owner is gone: keep what we have
                    }
                    jobs = updates.borrow_and_update().clone();
                    watcher = self.watch_folders(&jobs, &changes).or(watcher);
                    self.follow(&jobs);
                    self.read_files(&jobs);
                }
                Some(()) = changed.recv() => {
                    tokio::time::sleep(SETTLE_TIME).await;
                    let _ = changed.try_recv();
                    self.read_files(&jobs);
                }
                () = cluster_changed.notified() => {
                    // What changes together is taken together.
                    tokio::time::sleep(CLUSTER_SETTLE_TIME).await;
                }
                () = sleep_until(self.next_file_read) => self.read_files(&jobs),
                () = sleep_until(self.next_fetch()) => {}
                Some(Ok(fetched)) = fetches.join_next() => self.take_fetched(fetched),
            }
        }
    }

    /// A watcher of all folders that hold target files; without one, the refresh interval still applies.
    fn watch_folders(&self, jobs: &Jobs, changes: &mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
        let folders: BTreeSet<&Path> = patterns(jobs).map(|(pattern, _)| file::folder(pattern)).collect();
        let changes = changes.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if !event.is_ok_and(|event| event.kind.is_access()) {
                let _ = changes.try_send(()); // full: a change is already announced
            }
        });
        let mut watcher = watcher.inspect_err(|error| warn!("cannot watch target files: {error}")).ok()?;
        for folder in folders {
            if let Err(error) = watcher.watch(folder, notify::RecursiveMode::NonRecursive) {
                warn!(folder = %folder.display(), "cannot watch folder `{}`: {error}", folder.display());
            }
        }
        Some(watcher)
    }

    /// Keeps the HTTP lists and the watches that are still configured, adds new ones.
    fn follow(&mut self, jobs: &Jobs) {
        self.watches.follow(jobs.iter().flat_map(|job| &job.config.kubernetes_sd_configs));
        let mut old = std::mem::take(&mut self.lists);
        for (job, i, config) in http_configs(jobs) {
            let key = (job.name.clone(), i);
            let kept = old.remove(&key).filter(|list| list.config == *config);
            let fresh = || HttpList {
                config: config.clone(),
                client: Arc::new(Client::reaching(config.http_client(), self.reach.clone())),
                list: List::default(),
                due: Instant::now(),
                asked: false,
            };
            self.lists.insert(key, kept.unwrap_or_else(fresh));
        }
    }

    fn read_files(&mut self, jobs: &Jobs) {
        let mut old = std::mem::take(&mut self.files);
        let shortest = patterns(jobs).map(|(_, refresh)| refresh).min();
        self.next_file_read = shortest.map(|refresh| Instant::now() + refresh.max(REFRESH_MIN));
        for path in patterns(jobs).flat_map(|(pattern, _)| file::expand(pattern)).collect::<BTreeSet<_>>() {
            let mut list = old.remove(&path).unwrap_or_default();
            match file::read(&path) {
                Ok(groups) => list = List { groups, problem: None },
                Err(problem) => {
                    self.counters.file_failures.fetch_add(1, Ordering::Relaxed);
                    if list.problem.as_ref() != Some(&problem) {
                        warn!("{problem}; keeping {} groups read before", list.groups.len());
                    }
                    list.problem = Some(problem);
                }
            }
            self.files.insert(path, list);
        }
    }

    fn next_fetch(&self) -> Option<Instant> {
        self.lists.values().filter(|list| !list.asked).map(|list| list.due).min()
    }

    fn start_fetches(&mut self, fetches: &mut JoinSet<Fetched>) {
        let now = Instant::now();
        for (key, list) in self.lists.iter_mut().filter(|(_, list)| !list.asked && list.due <= now) {
            list.asked = true;
            let (key, config, client) = (key.clone(), list.config.clone(), Arc::clone(&list.client));
            fetches.spawn(async move {
                let fetched = http::fetch(&client, &config).await;
                (key, config, fetched)
            });
        }
    }

    fn take_fetched(&mut self, (key, config, fetched): Fetched) {
        // A reload may have changed the list since it was asked for.
        let Some(list) = self.lists.get_mut(&key).filter(|list| list.config == config) else { return };
        list.asked = false;
        list.due = Instant::now() + config.refresh_interval.get().max(REFRESH_MIN);
        match fetched {
            Ok(groups) => list.list = List { groups, problem: None },
            Err(error) => {
                self.counters.http_failures.fetch_add(1, Ordering::Relaxed);
                let problem = format!("`{}`: {error}", http_client::shown_url(&config.url));
                if list.list.problem.as_ref() != Some(&problem) {
                    warn!("{problem}; keeping {} groups fetched before", list.list.groups.len());
                }
                list.list.problem = Some(problem);
            }
        }
    }

    fn publish(&self, jobs: &Jobs) {
        let mut targets = Targets { jobs: jobs.iter().map(|job| job.name.clone()).collect(), ..Targets::default() };
        for job in jobs.iter() {
            let no_labels = Labels::empty();
            let mut lists: Vec<(&[Group], Labels)> = vec![(&job.config.static_configs, no_labels)];
            let mut problems = Vec::new();
            for pattern in job.config.file_sd_configs.iter().flat_map(|sd| &sd.files) {
                for path in self.files.keys().filter(|path| names(pattern, path)) {
                    let list = &self.files[path];
                    problems.extend(list.problem.clone());
                    lists.push((&list.groups, [("__meta_filepath", path.to_string_lossy())].into_iter().collect()));
                }
            }
            for i in 0..job.config.http_sd_configs.len() {
                let Some(HttpList { list, config, .. }) = self.lists.get(&(job.name.clone(), i)) else { continue };
                problems.extend(list.problem.clone());
                lists.push((&list.groups, [("__meta_url", &config.url)].into_iter().collect()));
            }
            lists.sort_by(|a, b| a.1.cmp(&b.1)); // so that the same lists give the same targets
            let mut found = Found::new();
            for config in &job.config.kubernetes_sd_configs {
                self.watches.found(config, &mut found, &mut problems);
            }
            let lists = lists.iter().flat_map(|(groups, source)| groups.iter().map(move |group| (group, source)));
            targets.add(job, lists.chain(found.iter().map(|(group, labels)| (group, labels))));
            problems.sort();
            problems.dedup();
            targets.problems.extend(problems.into_iter().map(|message| Problem { job: job.name.clone(), message }));
        }
        self.targets.send_if_modified(|published| {
            let changed = **published != targets;
            if changed {
                *published = Arc::new(targets);
                self.counters.updates.fetch_add(1, Ordering::Relaxed);
            }
            changed
        });
    }
}

/// Whether the pattern names that path (which some pattern did when files were read).
fn names(pattern: &Path, path: &Path) -> bool {
    let file_name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let (wanted, name) = (file_name(pattern), file_name(path));
    match wanted.split_once('*') {
        None => pattern == path,
        Some((start, end)) => {
            Some(file::folder(pattern)) == path.parent()
                && name.len() >= start.len() + end.len()
                && name.starts_with(start)
                && name.ends_with(end)
        }
    }
}

fn patterns(jobs: &Jobs) -> impl Iterator<Item = (&Path, Duration)> {
    let configs = jobs.iter().flat_map(|job| &job.config.file_sd_configs);
    configs.flat_map(|sd| sd.files.iter().map(|file| (file.as_path(), sd.refresh_interval.get())))
}

fn http_configs(jobs: &Jobs) -> impl Iterator<Item = (&Job, usize, &HttpSdConfig)> {
    jobs.iter().flat_map(|job| job.config.http_sd_configs.iter().enumerate().map(|(i, sd)| (&**job, i, sd)))
}

/// Never, when there is nothing to wait for.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
