//! Reads the configuration again on SIGHUP and `POST /-/reload`.
//!
//! A configuration file with a mistake is refused as a whole and the old one stays in force. A rule file with a mistake is
//! refused alone: its groups stay as they were last read, all else takes effect, and both the page of alerts and the
//! answer to the reload say what is wrong. What only a start can change is named in a warning.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::send_on::Inlets;
use crate::api::{LastReload, ReloadRequest};
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::discovery::{Jobs, Shard};
use crate::http_client::Reaches;
use crate::model::Labels;
use crate::notify::Plan;
use crate::rules::RuleSet;
use crate::slo;

/// Waits for requests to reload.
pub(super) struct Reloader {
    file: Option<PathBuf>,
    external_url: String,
    shown: Arc<ArcSwap<String>>,
    alertmanager: Arc<ArcSwap<String>>,
    external_labels: Arc<ArcSwap<Labels>>,
    last: Arc<ArcSwap<LastReload>>,
    requests: mpsc::Receiver<ReloadRequest>,
    restart_only: Vec<(&'static str, String)>,
    slos: slo::Board,
    outgoing: Reaches,
    shard: Option<Shard>,
    sinks: Option<Sinks>,
}

struct Sinks {
    jobs: watch::Sender<Jobs>,
    rule_sets: watch::Sender<Arc<RuleSet>>,
    plan: watch::Sender<Arc<Plan>>,
    send_on: Inlets,
}

/// Reads the rule files that `config` names, and logs what is wrong with them.
///
/// # Errors
/// When reading crashed.
pub(super) async fn load_rules(config: &Config, external_url: &str) -> anyhow::Result<RuleSet> {
    let load = config.rule_loader(external_url);
    let rules = tokio::task::spawn_blocking(load).await.context("reading the rule files crashed")?;
    log_problems(&rules);
    Ok(rules)
}

fn log_problems(rules: &RuleSet) {
    rules.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    rules.problems.iter().for_each(|problem| tracing::error!("a rule file is refused: {problem}"));
}

impl Reloader {
    /// A reloader of `file`, and where to ask it.
    pub(super) fn new(file: Option<PathBuf>, config: &Config, url: &str) -> (Self, mpsc::Sender<ReloadRequest>) {
        let (ask, requests) = mpsc::channel(1);
        let shown = Arc::new(ArcSwap::from_pointee(config.redacted.clone()));
        let alertmanager = Arc::new(ArcSwap::from_pointee(config.alertmanager.clone()));
        let external_labels = Arc::new(ArcSwap::from_pointee(config.external_labels.clone()));
        let restart_only = config.restart_only();
        let last =
            Arc::new(ArcSwap::from_pointee(LastReload { success: true, at: Clock::system().now(), refused_at: None }));
        let external_url = url.to_owned();
        let slos = slo::Board::default();
        slos.define(config.slos.clone());
        let (sinks, outgoing, shard) = (None, config.outgoing.clone(), config.shard);
        (
            Self {
                file,
                external_url,
                shown,
                alertmanager,
                external_labels,
                last,
                requests,
                restart_only,
                slos,
                outgoing,
                shard,
                sinks,
            },
            ask,
        )
    }

    /// Says what follows a reload.
    pub(super) fn feeding(
        mut self,
        jobs: watch::Sender<Jobs>,
        rule_sets: watch::Sender<Arc<RuleSet>>,
        plan: watch::Sender<Arc<Plan>>,
        send_on: Inlets,
    ) -> Self {
        self.sinks = Some(Sinks { jobs, rule_sets, plan, send_on });
        self
    }

    /// The configuration in force, secrets replaced.
    pub(super) fn configuration(&self) -> Arc<dyn Fn() -> String + Send + Sync> {
        let shown = Arc::clone(&self.shown);
        Arc::new(move || shown.load().as_str().to_owned())
    }

    /// The part of it that Alertmanager would read.
    pub(super) fn alertmanager_configuration(&self) -> Arc<dyn Fn() -> String + Send + Sync> {
        let shown = Arc::clone(&self.alertmanager);
        Arc::new(move || shown.load().as_str().to_owned())
    }

    /// `global.external_labels` in force.
    pub(super) fn external_labels(&self) -> Arc<dyn Fn() -> Labels + Send + Sync> {
        let labels = Arc::clone(&self.external_labels);
        Arc::new(move || Labels::clone(&labels.load()))
    }

    /// How the objectives in force fare.
    pub(super) fn slos(&self) -> slo::Board {
        self.slos.clone()
    }

    /// How the last reload went.
    pub(super) fn last(&self) -> Arc<dyn Fn() -> LastReload + Send + Sync> {
        let last = Arc::clone(&self.last);
        Arc::new(move || **last.load())
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
                () = received(&mut hangup) => None,
            };
            let outcome = self.reload().await;
            // As in Prometheus, a reload that is refused leaves the time of the last good one.
            let (success, now) = (outcome.is_ok(), Clock::system().now());
            let at = if success { now } else { self.last.load().at };
            self.last.store(Arc::new(LastReload { success, at, refused_at: (!success).then_some(now) }));
            match &outcome {
                Ok(()) => tracing::info!("the configuration was read again and is in force"),
                Err(mistakes) => tracing::error!("the configuration was read again:\n{mistakes}"),
            }
            if request.is_none() {
                // Who asks over HTTP is recorded there.
                let result = if outcome.is_ok() { "done" } else { "refused" };
                tracing::info!(target: "audit", proof = "signal", action = "reload the configuration", outcome = result,
                    "audit: SIGHUP asked to reload the configuration: {result}");
            }
            if let Some(request) = request {
                // Whoever asked may be gone.
                let _ = request.send(outcome);
            }
        }
    }

    async fn reload(&self) -> Result<(), String> {
        let file = self.file.clone().ok_or("meshscope was started without a configuration file")?;
        let (external_url, shard) = (self.external_url.clone(), self.shard);
        let read = move || -> Result<(Config, RuleSet), ConfigError> {
            let config = Config::read(&file)?.sharing(shard)?;
            let rules = config.rule_loader(&external_url)();
            Ok((config, rules))
        };
        let (config, rules) = match tokio::task::spawn_blocking(read).await {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => return Err(format!("the old configuration stays in force:\n{error}")),
            Err(crashed) => return Err(format!("the old configuration stays in force: reading crashed: {crashed}")),
        };
        config.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        config.outgoing.follow_on(&self.outgoing);
        log_problems(&rules);
        for (block, _) in config.restart_only().iter().zip(&self.restart_only).filter(|(new, old)| new != old) {
            tracing::warn!("the new `{}` takes effect at the next start", block.0);
        }
        let problems: Vec<String> = rules.problems.iter().map(ToString::to_string).collect();
        if let Some(Sinks { jobs, rule_sets, plan, send_on }) = &self.sinks {
            let rules = keeping_refused_files(rules, &rule_sets.borrow());
            // The receivers live as long as the process.
            let _ = jobs.send(config.jobs.clone());
            let _ = rule_sets.send(Arc::new(rules));
            self.slos.define(config.slos.clone());
            let _ = plan.send(Arc::clone(&config.plan));
            send_on.tell(&config);
        }
        self.shown.store(Arc::new(config.redacted));
        self.alertmanager.store(Arc::new(config.alertmanager));
        self.external_labels.store(Arc::new(config.external_labels));
        if problems.is_empty() {
            return Ok(());
        }
        Err(format!("in force, but for these rule files, which stay as they were:\n{}", problems.join("\n")))
    }
}

/// The groups of a file that is refused stay as they were: its alerts must not end because of a slip of the pen.
fn keeping_refused_files(mut rules: RuleSet, before: &RuleSet) -> RuleSet {
    let is_refused = |file: &str| rules.problems.iter().any(|problem| problem.file == file);
    let is_read = |file: &str| rules.groups.iter().any(|group| group.file == file);
    let kept = before.groups.iter().filter(|group| is_refused(&group.file) && !is_read(&group.file));
    let kept: Vec<_> = kept.cloned().collect();
    rules.groups.extend(kept);
    rules.groups.sort_by(|a, b| (&a.file, &a.name).cmp(&(&b.file, &b.name)));
    rules
}

async fn received(hangup: &mut Option<Signal>) {
    if let Some(hangup) = hangup
        && hangup.recv().await.is_some()
    {
        return;
    }
    std::future::pending().await
}
