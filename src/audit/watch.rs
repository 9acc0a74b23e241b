//! The audit in the running service: again and again, with the latest result for readers and scores as series.
//!
//! In: what declares the mesh ([`CurrentSnapshot`]), and the service's own store. Out: a [`Board`], and the series
//! `meshscope_audit_score` and `meshscope_audit_findings` in the memory tier. Invariant: one audit at a time; the work that
//! takes long runs on blocking threads; what cannot be gathered leaves the checks of what is declared.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::gather::{Source, WINDOW_MIN, gather};
use super::{Options, Report, Scorecard, audit, score};
use crate::clock::Clock;
use crate::mesh::Snapshot;
use crate::model::{Labels, METRIC_NAME, Severity, Timestamp, stale_marker};
use crate::promql::Engine;
use crate::series::{Head, Queryable, Row};
use crate::units::PromDuration;

/// How often scores are written: well within the time that a query looks back.
const WRITE_INTERVAL: Duration = Duration::from_secs(60);
/// When the first audit begins, unless the interval is shorter: rates need some scrapes.
const FIRST_AFTER: Duration = Duration::from_secs(60);

/// What the service audits by itself (`audit` in the configuration).
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WatchConfig {
    /// Time between two audits. Default 5m.
    pub interval: PromDuration,
    /// How much traffic is looked at. Default 1h.
    pub window: PromDuration,
}

impl Default for WatchConfig {
    fn default() -> Self {
        let minutes = |m: u64| PromDuration::from(Duration::from_secs(m * 60));
        Self { interval: minutes(5), window: minutes(60) }
    }
}

impl WatchConfig {
    /// What is wrong besides the form.
    pub fn problems(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.interval.get() < Duration::from_secs(1) {
            wrong.push("audit.interval must be at least 1s".to_owned());
        }
        if self.window.get() < WINDOW_MIN {
            wrong.push(format!("audit.window must be at least {}s: rates need some scrapes", WINDOW_MIN.as_secs()));
        }
        wrong
    }
}

/// Gives what declares the mesh now.
pub type CurrentSnapshot = Arc<dyn Fn() -> Arc<Snapshot> + Send + Sync>;

/// What an audit found.
#[derive(Debug)]
pub struct Latest {
    /// When it ended.
    pub at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// Findings.
    pub report: Report,
    /// Scores.
    pub scorecard: Scorecard,
    /// Why there is no traffic in it; none: there is.
    pub no_traffic: Option<String>,
}

/// Where the latest audit is read. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Board {
    latest: Arc<RwLock<Option<Arc<Latest>>>>,
    is_on: bool,
}

impl Board {
    /// The latest audit; none: there was none yet.
    pub fn latest(&self) -> Option<Arc<Latest>> {
        self.latest.read().clone()
    }

    /// Whether there is something to audit.
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// A board that shows an audit.
    pub fn showing(latest: Latest) -> Self {
        Self { latest: Arc::new(RwLock::new(Some(Arc::new(latest)))), is_on: true }
    }
}

/// What a [`Watch`] asks and where it writes.
pub struct Inputs {
    /// What declares the mesh; none: there is nothing to audit.
    pub declared: Option<CurrentSnapshot>,
    /// Evaluates queries.
    pub engine: Arc<Engine>,
    /// Memory and history.
    pub series: Arc<dyn Queryable>,
    /// Where scores are written.
    pub head: Head,
    /// The clock.
    pub clock: Clock,
}

/// Audits again and again.
pub struct Watch {
    config: WatchConfig,
    options: Options,
    inputs: Inputs,
    board: Board,
    written: BTreeSet<Labels>,
}

impl Watch {
    /// What audits with these settings.
    pub fn new(config: WatchConfig, options: Options, inputs: Inputs) -> Self {
        let board = Board { is_on: inputs.declared.is_some(), ..Board::default() };
        Self { config, options, inputs, board, written: BTreeSet::new() }
    }

    /// Where its results are read.
    pub fn board(&self) -> Board {
        self.board.clone()
    }

    /// Audits until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let Some(declared) = self.inputs.declared.clone() else { return shutdown.cancelled().await };
        let interval = self.config.interval.get();
        let mut audits = tokio::time::interval_at(tokio::time::Instant::now() + interval.min(FIRST_AFTER), interval);
        audits.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut writes = tokio::time::interval(WRITE_INTERVAL.min(interval));
        writes.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = audits.tick() => {
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        () = self.audit(&declared) => {}
                    }
                    self.write();
                }
                _ = writes.tick() => self.write(),
            }
        }
    }

    async fn audit(&mut self, declared: &CurrentSnapshot) {
        let began = tokio::time::Instant::now();
        let Inputs { engine, series, clock, .. } = &self.inputs;
        let source = Source::Own { engine: Arc::clone(engine), series: Arc::clone(series), at: clock.now() };
        let (observed, no_traffic) = match gather(&source, self.config.window.get()).await {
            Ok(observed) => (Some(observed), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let (declared, options) = (Arc::clone(declared), self.options.clone());
        let work = move || {
            let snapshot = declared();
            let report = audit(&snapshot, observed.as_ref(), &options);
            let scorecard = score(&snapshot, observed.as_ref(), &report, &options);
            (report, scorecard)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok((report, scorecard)) => {
                let latest = Latest { at: clock.now(), took: began.elapsed(), report, scorecard, no_traffic };
                *self.board.latest.write() = Some(Arc::new(latest));
            }
            Err(error) => tracing::error!("the audit ended early: {error}"),
        }
    }

    /// Writes the latest scores and ends the series of those that are gone.
    fn write(&mut self) {
        let Some(latest) = self.board.latest() else { return };
        let (head, at) = (&self.inputs.head, self.inputs.clock.now());
        let values = values(&latest);
        let now: BTreeSet<Labels> = values.iter().map(|(labels, _)| labels.clone()).collect();
        let gone = self.written.difference(&now).map(|labels| (labels.clone(), stale_marker()));
        let gone: Vec<(Labels, f64)> = gone.collect();
        // A series that memory has no room for is counted there as refused.
        let rows = values
            .into_iter()
            .chain(gone)
            .filter_map(|(labels, value)| Some(Row { series: head.intern(&labels).ok()?, at, value }));
        head.append(&rows.collect::<Vec<_>>());
        self.written = now;
    }
}

/// The series of an audit.
fn values(latest: &Latest) -> Vec<(Labels, f64)> {
    let scores = latest.scorecard.scores.iter().filter_map(|one| {
        let namespace = one.namespace.as_deref().unwrap_or_default();
        let labels = [(METRIC_NAME, "meshscope_audit_score"), ("item", one.item.name), ("namespace", namespace)];
        // An empty label is none: the score of the mesh.
        let labels = Labels::from_pairs(labels.into_iter().filter(|(_, value)| !value.is_empty()));
        Some((labels, f64::from(one.score?)))
    });
    let findings = [Severity::Error, Severity::Warning, Severity::Info].into_iter().map(|severity| {
        let labels = [(METRIC_NAME, "meshscope_audit_findings"), ("severity", severity.as_str())];
        (Labels::from_pairs(labels), latest.report.count(severity) as f64)
    });
    scores.chain(findings).collect()
}
