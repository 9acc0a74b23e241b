//! Reads the configuration again on SIGHUP and `POST /-/reload`; a refused one leaves the old one in force.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::api::ReloadRequest;
use crate::config::Config;
use crate::discovery::Jobs;
use crate::notify::Plan;
use crate::rules::RuleSet;

/// Waits for requests to reload.
pub(super) struct Reloader {
    file: Option<PathBuf>,
    external_url: String,
    shown: Arc<ArcSwap<String>>,
    requests: mpsc::Receiver<ReloadRequest>,
    sinks: Option<Sinks>,
}

struct Sinks {
    jobs: watch::Sender<Jobs>,
    rule_sets: watch::Sender<Arc<RuleSet>>,
    plan: watch::Sender<Arc<Plan>>,
}

impl Reloader {
    /// A reloader of `file`, and where to ask it.
    pub(super) fn new(
        file: Option<PathBuf>,
        config: &Config,
        external_url: String,
    ) -> (Self, mpsc::Sender<ReloadRequest>) {
        let (ask, requests) = mpsc::channel(1);
        let shown = Arc::new(ArcSwap::from_pointee(config.redacted.clone()));
        (Self { file, external_url, shown, requests, sinks: None }, ask)
    }

    /// Says what follows a reload.
    pub(super) fn feeding(
        mut self,
        jobs: watch::Sender<Jobs>,
        rule_sets: watch::Sender<Arc<RuleSet>>,
        plan: watch::Sender<Arc<Plan>>,
    ) -> Self {
        self.sinks = Some(Sinks { jobs, rule_sets, plan });
        self
    }

    /// The configuration in force, secrets replaced.
    pub(super) fn configuration(&self) -> Arc<dyn Fn() -> String + Send + Sync> {
        let shown = Arc::clone(&self.shown);
        Arc::new(move || shown.load().as_str().to_owned())
    }

    /// Serves requests until told to stop.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut hangup = match signal(SignalKind::hangup()) {
            Ok(hangup) => Some(hangup),
            Err(error) => {
                tracing::warn!("SIGHUP does not reload: {error}");
                None
            }
        };
        loop {
            let request: Option<oneshot::Sender<_>> = tokio::select! {
                () = stop.cancelled() => return,
                request = self.requests.recv() => match request {
                    Some(request) => Some(request),
                    None => return,
                },
                Some(()) = async { match &mut hangup { Some(hangup) => hangup.recv().await, None => std::future::pending().await } } => None,
            };
            let outcome = self.reload();
            match &outcome {
                Ok(()) => tracing::info!("the configuration was read again and is in force"),
                Err(mistakes) => tracing::error!("the configuration was refused, the old one stays:\n{mistakes}"),
            }
            if let Some(request) = request {
                // Whoever asked may be gone.
                let _ = request.send(outcome);
            }
        }
    }

    fn reload(&self) -> Result<(), String> {
        let file = self.file.as_ref().ok_or("meshscope was started without a configuration file")?;
        let config = Config::read(file).map_err(|error| error.to_string())?;
        let rules = config.load_rules(&self.external_url);
        if !rules.problems.is_empty() {
            return Err(rules.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
        }
        config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        if let Some(Sinks { jobs, rule_sets, plan }) = &self.sinks {
            // The receivers live as long as the process.
            let _ = jobs.send(config.jobs.clone());
            let _ = rule_sets.send(Arc::new(rules));
            let _ = plan.send(Arc::clone(&config.plan));
        }
        self.shown.store(Arc::new(config.redacted));
        Ok(())
    }
}
