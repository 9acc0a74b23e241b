//! What is declared for the mesh, kept as it is now: folders of YAML that are read again, and a cluster that is watched.
//!
//! In: paths, a client of the Kubernetes API. Out: [`Declared`], which hands out the newest [`Snapshot`] without waiting.
//! Invariants: what cannot be read keeps what was last known of it, and is named; values of secrets are dropped while they
//! are read; an object that both sources have is the cluster's. Knows nothing of traffic, PostgreSQL or HTTP.

mod cluster;
mod files;
mod object;
mod status;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use status::{ClusterStatus, Counters, FilesStatus, KindState, KindStatus, Status};

use crate::clock::Clock;
use crate::http_client::Reach;
use crate::kubernetes::{self, Client, ClusterConfig};
use crate::mesh::{Kind, Resource, ResourceId, Snapshot, Unread};
use crate::model::Timestamp;
use crate::units::PromDuration;

/// The block `mesh.declared` of the configuration.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Files and folders of YAML or JSON: several documents, Lists, what Helm rendered. Default none.
    pub files: Vec<PathBuf>,
    /// Namespace of objects in files that name none. Default `default`.
    pub namespace: String,
    /// How often files are looked at; they are read again when one is another. Default 5s.
    pub file_interval: PromDuration,
    /// Whether the objects of the cluster are watched, which `mesh.api_server` or `mesh.kubeconfig_file` names, or else is
    /// the one we run in. Default false.
    pub cluster: bool,
    /// Namespace of the control plane: its objects hold for the whole mesh. Default `istio-system`.
    pub root_namespace: String,
    /// Domain of the cluster's services. Default `cluster.local`.
    pub cluster_domain: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            namespace: "default".to_owned(),
            file_interval: Duration::from_secs(5).into(),
            cluster: false,
            root_namespace: "istio-system".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
        }
    }
}

impl Config {
    /// What is wrong with it, one sentence each.
    pub fn problems(&self) -> Vec<String> {
        let interval = self.file_interval.get();
        let mut found = Vec::new();
        if interval < Duration::from_millis(100) || interval > Duration::from_secs(3600) {
            found.push("mesh.declared.file_interval must be between 100ms and 1h".to_owned());
        }
        for (key, text) in [
            ("namespace", &self.namespace),
            ("root_namespace", &self.root_namespace),
            ("cluster_domain", &self.cluster_domain),
        ] {
            if text.is_empty() {
                found.push(format!("mesh.declared.{key} must not be empty; leave it out for its default"));
            }
        }
        found
    }

    /// Whether anything is to be read at all.
    pub fn is_given(&self) -> bool {
        self.cluster || !self.files.is_empty()
    }
}

/// Where an object comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// A file.
    Files,
    /// The cluster.
    Cluster,
}

impl Origin {
    /// Where this object comes from.
    pub fn of(resource: &Resource) -> Self {
        if resource.place.file.is_some() { Self::Files } else { Self::Cluster }
    }

    /// As it is stored: `files`, `cluster`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Cluster => "cluster",
        }
    }
}

/// What is declared at one moment, and how far it is known.
#[derive(Debug)]
pub struct Seen {
    /// The objects.
    pub snapshot: Arc<Snapshot>,
    /// Those of files, an object that the cluster has too among them.
    pub files: Arc<Snapshot>,
    /// When it was put together.
    pub at: Timestamp,
    files_whole: bool,
    kinds_whole: BTreeSet<Kind>,
}

impl Seen {
    /// Whether all objects of a kind that this source has were read once: what is missing then is gone.
    pub fn is_whole(&self, origin: Origin, kind: Kind) -> bool {
        match origin {
            Origin::Files => self.files_whole,
            Origin::Cluster => self.kinds_whole.contains(&kind),
        }
    }
}

/// What is declared now. Clones share it.
#[derive(Clone)]
pub struct Declared(Arc<Shared>);

struct Shared {
    config: Config,
    clock: Clock,
    current: ArcSwap<Seen>,
    changed: watch::Sender<u64>,
    parts: Mutex<Parts>,
    counters: Arc<Counters>,
    cluster_counters: Arc<kubernetes::Counters>,
}

/// What each source last gave.
#[derive(Default)]
struct Parts {
    files: Arc<Snapshot>,
    files_whole: bool,
    cluster: Vec<Arc<Resource>>,
    cluster_unread: Vec<Unread>,
    kinds_whole: BTreeSet<Kind>,
    status: Status,
}

/// Reads and watches. See the module.
pub struct Reader {
    declared: Declared,
    client: Option<Arc<Client>>,
}

impl Declared {
    /// The newest snapshot; empty until something was read. Never waits.
    pub fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.0.current.load().snapshot)
    }

    /// The same, with what is known of it.
    pub fn seen(&self) -> Arc<Seen> {
        self.0.current.load_full()
    }

    /// A number that rises with each new snapshot.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// How the sources fare.
    pub fn status(&self) -> Status {
        self.0.parts.lock().status.clone()
    }

    /// What is configured.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Counts since start.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.0.counters)
    }

    /// What watching the cluster did.
    pub fn cluster_counters(&self) -> Arc<kubernetes::Counters> {
        Arc::clone(&self.0.cluster_counters)
    }

    /// Takes over what a source gave, and publishes the two as one.
    fn publish(&self, change: impl FnOnce(&mut Parts)) {
        let mut parts = self.0.parts.lock();
        change(&mut parts);
        let at = self.0.clock.now();
        let snapshot = Arc::new(merged(&parts));
        parts.status.objects = snapshot.len();
        parts.status.changed_at = Some(at);
        let seen = Seen {
            snapshot,
            files: Arc::clone(&parts.files),
            at,
            files_whole: parts.files_whole,
            kinds_whole: parts.kinds_whole.clone(),
        };
        self.0.current.store(Arc::new(seen));
        drop(parts);
        self.0.counters.published.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.0.changed.send_modify(|number| *number += 1);
    }

    fn note(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.0.parts.lock().status);
    }
}

/// Files first, then the cluster, whose objects take the place of those of files.
fn merged(parts: &Parts) -> Snapshot {
    let unread = parts.files.unread.iter().chain(&parts.cluster_unread).cloned().collect();
    let held: std::collections::HashSet<&ResourceId> = parts.cluster.iter().map(|one| &one.id).collect();
    let of_files = parts.files.shared().filter(|one| !held.contains(&one.id));
    let mut snapshot = Snapshot::new(of_files.chain(&parts.cluster).map(Arc::clone), unread);
    snapshot.repeated.clone_from(&parts.files.repeated);
    snapshot
}

impl Reader {
    /// What reads the sources of `config`, and where what it reads is found. `cluster` says how to reach the cluster, if
    /// `reach` leaves it open.
    pub fn new(config: Config, cluster: ClusterConfig, reach: Reach, clock: Clock) -> (Self, Declared) {
        let client = config.cluster.then(|| Arc::new(Client::new(cluster).reaching(reach)));
        let seen = Seen {
            snapshot: Arc::default(),
            files: Arc::default(),
            at: clock.now(),
            files_whole: false,
            kinds_whole: BTreeSet::new(),
        };
        let status = Status {
            files: (!config.files.is_empty()).then(FilesStatus::default),
            cluster: config.cluster.then(ClusterStatus::default),
            ..Status::default()
        };
        let declared = Declared(Arc::new(Shared {
            config,
            clock,
            current: ArcSwap::from_pointee(seen),
            changed: watch::channel(0).0,
            parts: Mutex::new(Parts { status, ..Parts::default() }),
            counters: Arc::default(),
            cluster_counters: Arc::default(),
        }));
        (Self { declared: declared.clone(), client }, declared)
    }

    /// Reads and watches until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { declared, client } = self;
        let files = files::follow(declared.clone());
        let cluster = async {
            match client {
                Some(client) => cluster::follow(declared, client).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = files => {}
            () = cluster => {}
        }
    }
}
