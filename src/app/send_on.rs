//! Makes the parts that send to other servers of the same kind: remote write, and alerts to Alertmanagers.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::Ground;
use crate::config::Config;
use crate::discovery::{Discovery, Jobs};
use crate::model::Alert;
use crate::notify::{AlertSending, AlertmanagerSender};
use crate::{forward, scrape};

/// The parts, not yet running, and where a reload tells them.
pub(super) struct SendOn {
    pub(super) discovery: Discovery,
    pub(super) sender: AlertmanagerSender,
    pub(super) forwarder: forward::Forwarder,
    pub(super) inlets: Inlets,
}

/// Where a reload tells them.
pub(super) struct Inlets {
    jobs: watch::Sender<Jobs>,
    sending: watch::Sender<Arc<AlertSending>>,
    remotes: watch::Sender<Arc<forward::Settings>>,
}

impl SendOn {
    pub(super) fn new(
        config: &Config,
        ground: &Ground,
        scrape: scrape::Status,
        alerts: mpsc::Receiver<Vec<Alert>>,
        keeper: forward::Keeper,
    ) -> Self {
        let (jobs, jobs_out) = watch::channel(config.alertmanager_jobs.clone());
        let (sending, sending_out) = watch::channel(Arc::clone(&config.alert_sending));
        let (remotes, remotes_out) = watch::channel(Arc::clone(&config.forward));
        let (discovery, targets) = Discovery::new(jobs_out);
        Self {
            discovery: discovery.reaching(config.outgoing.discovery.clone()),
            sender: AlertmanagerSender::new(alerts, sending_out, targets),
            forwarder: forward::Forwarder::new(remotes_out, (ground.head.clone(), scrape), ground.clock, Some(keeper)),
            inlets: Inlets { jobs, sending, remotes },
        }
    }
}

impl Inlets {
    /// Makes them follow a new configuration.
    pub(super) fn tell(&self, config: &Config) {
        // The receivers live as long as the process.
        let _ = self.sending.send(Arc::clone(&config.alert_sending));
        let _ = self.jobs.send(config.alertmanager_jobs.clone());
        let _ = self.remotes.send(Arc::clone(&config.forward));
    }
}
