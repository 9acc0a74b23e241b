//! Sends alerts to Alertmanagers, as Prometheus does: the block `alerting`.
//!
//! In: alerts from the rules, the Alertmanagers that discovery found. Out: `POST …/api/v2/alerts`. Invariant: each
//! Alertmanager has a queue of its own, so that one that is away delays nobody; a full queue loses its oldest alerts, which
//! rules send again, and counts them.

mod config;
mod line;
mod status;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::line::{Line, Queue};
use crate::discovery::relabel::{self, Rule};
use crate::discovery::{Target, Targets};
use crate::http_client::Reach;
use crate::model::{Alert, Labels};

pub use config::{AlertingConfig, AlertmanagerConfig};
pub use status::{AlertmanagerCounters, AlertmanagerStatus};

/// How long after the end what waits is still sent.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// How alerts are sent: the checked block `alerting`, and the labels that alerts get on the way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AlertSending {
    /// The block.
    pub config: AlertingConfig,
    /// `global.external_labels`: added to alerts that do not have them.
    pub external_labels: Labels,
    /// Where they may be.
    pub reach: Reach,
}

/// Sends alerts to all Alertmanagers.
pub struct AlertmanagerSender {
    alerts: mpsc::Receiver<Vec<Alert>>,
    settings: watch::Receiver<Arc<AlertSending>>,
    targets: watch::Receiver<Arc<Targets>>,
    status: AlertmanagerStatus,
    lines: HashMap<String, Running>,
    tasks: JoinSet<()>,
}

struct Running {
    line: Arc<Line>,
    queue: Arc<Queue>,
    stop: CancellationToken,
}

impl AlertmanagerSender {
    /// A sender of `alerts` to what `targets` names. Nothing is sent before [`Self::run`].
    pub fn new(
        alerts: mpsc::Receiver<Vec<Alert>>,
        settings: watch::Receiver<Arc<AlertSending>>,
        targets: watch::Receiver<Arc<Targets>>,
    ) -> Self {
        let (status, lines, tasks) = (AlertmanagerStatus::default(), HashMap::new(), JoinSet::new());
        Self { alerts, settings, targets, status, lines, tasks }
    }

    /// Which Alertmanagers there are and how they fare.
    pub fn status(&self) -> AlertmanagerStatus {
        self.status.clone()
    }

    /// Sends until `shutdown` fires, then what waits, for some seconds.
    pub async fn run(mut self, shutdown: CancellationToken) {
        self.follow();
        let (mut reloads, mut finds, mut comes) = (true, true, true);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                changed = self.settings.changed(), if reloads => {
                    reloads = changed.is_ok();
                    self.follow();
                }
                changed = self.targets.changed(), if finds => {
                    finds = changed.is_ok();
                    self.follow();
                }
                alerts = self.alerts.recv(), if comes => match alerts {
                    Some(alerts) => self.offer(alerts),
                    None => comes = false,
                },
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    if let Err(failure) = ended {
                        tracing::error!(error = %failure, "a sender to an Alertmanager died; it starts anew");
                        self.restart_dead();
                    }
                }
            }
        }
        while let Ok(alerts) = self.alerts.try_recv() {
            self.offer(alerts);
        }
        self.lines.values().for_each(|running| running.stop.cancel());
        let drained = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_LIMIT, drained).await.is_err() {
            for Running { line, queue, .. } in self.lines.values() {
                line.lose(queue.len());
            }
        }
    }

    /// Makes the lines those of the Alertmanagers that discovery has found.
    fn follow(&mut self) {
        let settings = self.settings.borrow_and_update().clone();
        let targets = self.targets.borrow_and_update().clone();
        let mut wanted: HashMap<String, Arc<Line>> = HashMap::new();
        for target in &targets.active {
            // Discovery may still be at the configuration before; it publishes anew when it has caught up.
            if let Some(config) = settings.config.alertmanagers.get(config::index_of(&target.job.name)) {
                let counters = || self.status.counters(&target.url);
                let (url, reach) = (&target.url, &settings.reach);
                let line = || Arc::new(Line::new(url.clone(), config.clone(), reach.clone(), counters()));
                wanted.entry(url.clone()).or_insert_with(line);
            }
        }
        self.lines.retain(|url, running| {
            let stays = wanted.get(url).is_some_and(|line| line.config == running.line.config);
            if !stays {
                running.stop.cancel();
            }
            stays
        });
        for (url, line) in wanted.iter().filter(|(url, _)| !self.lines.contains_key(*url)).collect::<Vec<_>>() {
            let running = Running { line: Arc::clone(line), queue: Arc::default(), stop: CancellationToken::new() };
            start(&mut self.tasks, &running);
            self.lines.insert(url.clone(), running);
        }
        let dropped = targets.dropped.iter().map(|dropped| url_of_dropped(&dropped.discovered_labels)).collect();
        self.status.set(wanted.into_keys().collect(), dropped);
    }

    /// Puts alerts into every queue, relabelled.
    fn offer(&self, alerts: Vec<Alert>) {
        let settings = self.settings.borrow().clone();
        let alerts: Vec<Arc<Alert>> = alerts
            .into_iter()
            .filter_map(|alert| relabelled(alert, &settings.external_labels, &settings.config.alert_relabel_configs))
            .map(Arc::new)
            .collect();
        if self.lines.is_empty() && !settings.config.alertmanagers.is_empty() {
            self.status.lose_unsent(alerts.len());
        }
        for Running { line, queue, .. } in self.lines.values() {
            line.lose(queue.push(&alerts));
            line.show_length(queue.len());
        }
    }

    fn restart_dead(&mut self) {
        for running in self.lines.values_mut().filter(|running| running.queue.is_abandoned()) {
            start(&mut self.tasks, running);
        }
    }
}

fn start(tasks: &mut JoinSet<()>, running: &Running) {
    let Running { line, queue, stop } = running;
    queue.begin_serving();
    tasks.spawn(Arc::clone(line).run(Arc::clone(queue), stop.clone()));
}

/// The alert with external labels and as the rules make it; `None` when they drop it.
fn relabelled(alert: Alert, external_labels: &Labels, rules: &[Rule]) -> Option<Alert> {
    let labels = relabel::apply(rules, external_labels.merged(&alert.labels))?;
    Some(Alert { labels, ..alert })
}

/// Where a dropped Alertmanager would be, as the API shows it.
fn url_of_dropped(labels: &Labels) -> String {
    let of = |name| labels.value(name);
    format!("{}://{}{}", of("__scheme__"), of("__address__"), of(Target::ALERTS_PATH))
}

#[cfg(test)]
mod tests;
