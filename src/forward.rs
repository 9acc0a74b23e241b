//! Sends every accepted sample on to other stores by remote write 1.0 or 2.0.
//!
//! In: a [`Feed`](crate::series::Feed) of the journal for each entry of `remote_write`, metadata of scraped metrics. Out:
//! snappy-compressed protobuf over HTTP. Invariants: the samples of one series are sent in their order; a receiver that is
//! away or slow holds up nobody else; what waits for it is bounded, and what is dropped is counted by why.

mod config;
mod exemplars;
mod message;
mod remote;
mod resume;
mod round;
mod send;
mod series;
mod status;

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::remote::Remote;
use crate::clock::Clock;
use crate::http_client::Reach;
use crate::model::Labels;
use crate::scrape;
use crate::series::Head;

pub use config::{MetadataConfig, Protocol, QueueConfig, RemoteWriteConfig, check, warnings};
pub use resume::{Answer, Entry, Keeper, Standing, Stopped};
pub use status::{Counters, Status};

/// Where samples go, and the labels they get on the way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// The entries of `remote_write`, checked by [`check`].
    pub remotes: Vec<RemoteWriteConfig>,
    /// `global.external_labels`: added to series that do not have them.
    pub external_labels: Labels,
    /// Where the receivers may be.
    pub reach: Reach,
}

/// What all remotes read.
#[derive(Clone)]
struct Sources {
    head: Head,
    scrape: scrape::Status,
    clock: Clock,
    status: Status,
    keeper: Option<Keeper>,
    reach: Reach,
}

/// Runs one sender for each remote.
pub struct Forwarder {
    settings: watch::Receiver<Arc<Settings>>,
    sources: Sources,
    /// Made, but not yet running: from then on no sample is missed.
    waiting: Vec<Remote>,
    running: HashMap<String, Running>,
    tasks: JoinSet<()>,
}

struct Running {
    config: RemoteWriteConfig,
    external_labels: Labels,
    stop: CancellationToken,
    task: tokio::task::Id,
}

impl Forwarder {
    /// Sends what is accepted from now on as `settings` says, and before it what a `keeper` says was not sent before this
    /// process began. Nothing is sent before [`Self::run`].
    pub fn new(
        mut settings: watch::Receiver<Arc<Settings>>,
        (head, scrape): (Head, scrape::Status),
        clock: Clock,
        keeper: Option<Keeper>,
    ) -> Self {
        let reach = settings.borrow().reach.clone();
        let sources = Sources { head, scrape, clock, status: Status::default(), keeper, reach };
        // Seen here: a reload between now and the first poll of `run` must still be applied.
        let now = settings.borrow_and_update().clone();
        let waiting =
            now.remotes.iter().map(|config| Remote::new(config.clone(), now.external_labels.clone(), &sources));
        let waiting = waiting.collect();
        Self { settings, sources, waiting, running: HashMap::new(), tasks: JoinSet::new() }
    }

    /// How the remotes fare.
    pub fn status(&self) -> Status {
        self.sources.status.clone()
    }

    /// Runs until `shutdown` fires; then each remote has some seconds to send what waits.
    pub async fn run(mut self, shutdown: CancellationToken) {
        for remote in std::mem::take(&mut self.waiting) {
            self.start(remote.resuming());
        }
        let mut reloads = true;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                changed = self.settings.changed(), if reloads => match changed {
                    Ok(()) => self.apply(),
                    Err(_) => reloads = false, // nobody can reload any more; the remotes go on
                },
                Some(ended) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => {
                    if let Err(failure) = ended {
                        self.restart(&failure);
                    }
                }
            }
        }
        self.running.values().for_each(|running| running.stop.cancel());
        while self.tasks.join_next().await.is_some() {}
    }

    /// Makes the running remotes those of the settings. One that did not change goes on undisturbed.
    fn apply(&mut self) {
        let settings = self.settings.borrow_and_update().clone();
        let same = |running: &Running| {
            running.external_labels == settings.external_labels && settings.remotes.contains(&running.config)
        };
        let status = &self.sources.status;
        self.running.retain(|name, running| {
            let stays = same(running);
            if !stays {
                running.stop.cancel();
                status.remove(name);
            }
            stays
        });
        for config in &settings.remotes {
            if !self.running.contains_key(&config.name()) {
                self.start(Remote::new(config.clone(), settings.external_labels.clone(), &self.sources));
            }
        }
    }

    fn start(&mut self, remote: Remote) {
        let (config, external_labels) = (remote.config().clone(), remote.external_labels().clone());
        let stop = CancellationToken::new();
        let task = self.tasks.spawn(remote.run(stop.clone())).id();
        self.running.insert(config.name(), Running { config, external_labels, stop, task });
    }

    /// A remote's task died of a panic: it starts anew, without what waited.
    fn restart(&mut self, failure: &tokio::task::JoinError) {
        let found = self.running.iter().find(|(_, running)| running.task == failure.id()).map(|(name, _)| name.clone());
        let Some(Running { config, external_labels, .. }) = found.and_then(|name| self.running.remove(&name)) else {
            return;
        };
        tracing::error!(remote = %config.name(), error = %failure, "remote write `{}` died; it starts anew", config.name());
        self.start(Remote::new(config, external_labels, &self.sources));
    }
}

#[cfg(test)]
mod tests;
