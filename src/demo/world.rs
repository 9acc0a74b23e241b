//! Starts the simulated mesh and keeps it going: listeners, files, the clock that steps the simulation.
//!
//! In: [`Config`]. Out: a [`World`] whose addresses are known before it runs. [`World::start`] binds and writes files but
//! spawns nothing; [`World::run`] serves until told to stop.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_sdk::trace::SpanData;
use parking_lot::Mutex;
use tokio::{net::TcpListener, sync::mpsc, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{
    access_logs, configuration,
    incidents::{Incident, Script},
    page,
    spans::{self, Sender},
    traffic::Simulation,
    webhook,
};

/// How often the simulation steps.
const STEP: Duration = Duration::from_secs(1);
/// Batches of spans that may wait for a slow receiver.
const BATCHES_WAITING: usize = 8;

/// What the simulated mesh needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where scrape pages and the webhook are served; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Where spans go: `http://127.0.0.1:4317`.
    pub otlp_grpc_endpoint: String,
    /// A directory for the files the configuration names; created when missing.
    pub directory: PathBuf,
    /// Seed of all chance.
    pub seed: u64,
}

/// Why the simulated mesh did not start or went down.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken or not ours.
    #[error("the simulated mesh cannot listen on {address}")]
    Listen {
        /// Asked for.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("the simulated mesh cannot write `{}`", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The receiver's address is not usable.
    #[error("`{endpoint}` is no address for spans and access logs; write it as http://host:port")]
    Endpoint {
        /// As given.
        endpoint: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Serving stopped.
    #[error("the simulated mesh stopped serving")]
    Serve(#[source] std::io::Error),
}

/// The simulated mesh, ready to run.
#[derive(Debug)]
pub struct World {
    listener: TcpListener,
    address: SocketAddr,
    directory: PathBuf,
    simulation: Arc<Mutex<Simulation>>,
    sender: Sender,
    span_counters: Arc<spans::Counters>,
    log_sender: access_logs::Sender,
    log_counters: Arc<spans::Counters>,
    webhook_counters: Arc<webhook::Counters>,
}

impl World {
    /// Binds the listener and writes targets, rules and mesh resources into the directory. Spawns nothing.
    ///
    /// # Errors
    /// When the address cannot be bound, a file not written, or the span endpoint is no URL.
    pub async fn start(config: Config) -> Result<Self, Error> {
        let Config { listen, otlp_grpc_endpoint, directory, seed } = config;
        let failed = |source| Error::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (span_counters, log_counters) = (Arc::<spans::Counters>::default(), Arc::<spans::Counters>::default());
        let endpoint = || otlp_grpc_endpoint.clone();
        let sender = Sender::new(&otlp_grpc_endpoint, span_counters.clone())
            .map_err(|source| Error::Endpoint { endpoint: endpoint(), source: Box::new(source) })?;
        let log_sender = access_logs::Sender::new(&otlp_grpc_endpoint, log_counters.clone())
            .map_err(|source| Error::Endpoint { endpoint: endpoint(), source: Box::new(source) })?;
        let world = Self {
            listener,
            address,
            directory,
            simulation: Arc::new(Mutex::new(Simulation::new(seed))),
            sender,
            span_counters,
            log_sender,
            log_counters,
            webhook_counters: Arc::default(),
        };
        // A run that was killed may have left its fault injection behind.
        remove(&configuration::fault_file(&world))?;
        for (path, contents) in configuration::files(&world) {
            write(&path, &contents)?;
        }
        Ok(world)
    }

    /// Where pages and the webhook are served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where notifications go.
    pub fn webhook_url(&self) -> String {
        format!("http://{}/webhook", self.address)
    }

    /// Where its files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The `file_sd` file that lists every pod's page.
    pub fn targets_file(&self) -> PathBuf {
        self.directory.join("targets.json")
    }

    /// Istio resources of the simulated mesh, for the audit; one file more while a fault injection is left on.
    pub fn resources_directory(&self) -> PathBuf {
        self.directory.join("mesh")
    }

    /// What became of spans.
    pub fn span_counters(&self) -> Arc<spans::Counters> {
        self.span_counters.clone()
    }

    /// What became of access logs.
    pub fn log_counters(&self) -> Arc<spans::Counters> {
        self.log_counters.clone()
    }

    /// What arrived at the webhook.
    pub fn webhook_counters(&self) -> Arc<webhook::Counters> {
        self.webhook_counters.clone()
    }

    /// The simulation, shared with the pages.
    pub fn simulation(&self) -> Arc<Mutex<Simulation>> {
        self.simulation.clone()
    }

    /// Serves and steps until `shutdown`. Time begins here: the first incident starts 45 s later.
    ///
    /// # Errors
    /// When serving fails.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let fault_file = configuration::fault_file(&self);
        let Self { listener, simulation, sender, span_counters, log_sender, log_counters, webhook_counters, .. } = self;
        let routes = page::router(simulation.clone()).merge(webhook::router(webhook_counters));
        let serving = axum::serve(listener, routes).with_graceful_shutdown(shutdown.clone().cancelled_owned());
        let (batches, waiting) = mpsc::channel(BATCHES_WAITING);
        let (logs, waiting_logs) = mpsc::channel(BATCHES_WAITING);
        let stepping = async {
            let mut ticks = tokio::time::interval(STEP);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            let (began, epoch) = (tokio::time::Instant::now(), SystemTime::now());
            let mut teller = Teller { current: None, fault_file };
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => break,
                    _ = ticks.tick() => {}
                }
                let elapsed = began.elapsed();
                teller.tell(elapsed);
                let (batch, records) = step(&simulation, elapsed, epoch);
                let count: usize = batch.values().map(Vec::len).sum();
                if count > 0 && batches.try_send(batch).is_err() {
                    span_counters.dropped.fetch_add(count as u64, Ordering::Relaxed);
                }
                let count = access_logs::records(&records);
                if count > 0 && logs.try_send(records).is_err() {
                    log_counters.dropped.fetch_add(count, Ordering::Relaxed);
                }
            }
            drop((batches, logs));
        };
        // Graceful shutdown waits for open connections; a scraper keeps its own open, so a second after the word we go.
        let serving = async {
            tokio::select! {
                served = serving.into_future() => served.map_err(Error::Serve),
                () = async { shutdown.cancelled().await; tokio::time::sleep(STEP).await } => Ok(()),
            }
        };
        let sending = async {
            tokio::select! {
                _ = async { tokio::join!(sender.run(waiting), log_sender.run(waiting_logs)) } => {}
                () = shutdown.cancelled() => {}
            }
        };
        let (served, (), ()) = tokio::join!(serving, stepping, sending);
        served
    }
}

fn step(
    simulation: &Mutex<Simulation>,
    elapsed: Duration,
    epoch: SystemTime,
) -> (BTreeMap<String, Vec<SpanData>>, ExportLogsServiceRequest) {
    let mut simulation = simulation.lock();
    simulation.step(elapsed);
    let hops = simulation.take_hops();
    let pods = simulation.pods();
    (spans::by_service(&hops, pods, epoch), access_logs::of_hops(&hops, pods, epoch))
}

/// Says on the terminal when an incident starts and ends, and leaves or removes the fault injection's resource.
struct Teller {
    current: Option<&'static Incident>,
    fault_file: PathBuf,
}

impl Teller {
    fn tell(&mut self, elapsed: Duration) {
        let now = Script::at(elapsed).map(|active| active.incident);
        if now.map(|incident| incident.name) == self.current.map(|incident| incident.name) {
            return;
        }
        if let Some(ended) = self.current {
            let (next, wait) = Script::next(elapsed);
            super::say(&format!("[mesh] recovered: {} (next: {} in {} s)", ended.name, next.name, wait.as_secs()));
        }
        if let Some(incident) = now {
            super::say(&format!("[mesh] incident {}: {}", incident.name, incident.sentence));
        }
        let left_on = now.is_some_and(|incident| incident.kind == super::incidents::Kind::FaultInjection);
        let changed = if left_on { write(&self.fault_file, configuration::FAULT) } else { remove(&self.fault_file) };
        if let Err(error) = changed {
            tracing::warn!(%error, "the declared fault injection is not shown");
        }
        self.current = now;
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Write { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

fn write(path: &Path, contents: &str) -> Result<(), Error> {
    let failed = |source| Error::Write { path: path.to_owned(), source };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    // Whoever watches the file must not read half of it.
    let partial = path.with_extension("partial");
    std::fs::write(&partial, contents).map_err(failed)?;
    std::fs::rename(&partial, path).map_err(failed)
}

#[cfg(test)]
mod tests;
