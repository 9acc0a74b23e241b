//! The audit in the running service: again and again, with the latest result for readers and scores as series.
//!
//! In: what declares the mesh ([`CurrentSources`]), the service's own store, and its edges of a longer time. Out: a [`Board`], and the series
//! `meshscope_audit_score`, `meshscope_audit_findings` and `meshscope_declared_mtls_strict` in the memory tier. Invariant: one
//! audit at a time; the work that
//! takes long runs on blocking threads; what cannot be gathered leaves the checks of what is declared.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::gather::{Source, WINDOW_MIN, gather_with};
use super::observed::words;
use super::{
    Beside, Comparison, Files, Observed, Options, Past, PastSource, Report, Scorecard, audit_beside, comparisons,
    demanded, overridden, score,
};
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

/// How often the longer time is read, of which `dead_after` speaks; oftener only when that is short.
const PAST_INTERVAL: Duration = Duration::from_secs(3_600);
/// How long reading it may take.
const PAST_PATIENCE: Duration = Duration::from_secs(60);

/// What the service audits by itself (`audit` in the configuration).
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WatchConfig {
    /// Time between two audits. Default 5m.
    pub interval: PromDuration,
    /// How much traffic is looked at. Default 1h.
    pub window: PromDuration,
    /// How long nobody must have used a rule, a subset or a grant before it is called unused; a shorter one than the window
    /// counts as that. Default 7d.
    pub dead_after: PromDuration,
}

impl Default for WatchConfig {
    fn default() -> Self {
        let minutes = |m: u64| PromDuration::from(Duration::from_secs(m * 60));
        Self { interval: minutes(5), window: minutes(60), dead_after: minutes(7 * 24 * 60) }
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

/// What declares the mesh at one moment.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The objects.
    pub snapshot: Arc<Snapshot>,
    /// What files declare, when they are read beside a cluster; none: there is nothing to compare.
    pub files: Option<Files>,
}

/// Gives what declares the mesh now.
pub type CurrentSources = Arc<dyn Fn() -> Sources + Send + Sync>;

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
    /// What is declared beside what was seen.
    pub comparisons: Vec<Comparison>,
    /// Why there is no traffic in it; none: there is.
    pub no_traffic: Option<String>,
    /// Namespace and name of each workload that takes mutual TLS only, by what is declared.
    pub strict: BTreeSet<(String, String)>,
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
    pub declared: Option<CurrentSources>,
    /// Evaluates queries.
    pub engine: Arc<Engine>,
    /// Memory and history.
    pub series: Arc<dyn Queryable>,
    /// Tells who called whom in a longer time than the window; none: the window is all there is.
    pub past: Option<PastSource>,
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
    /// The longer time, and when it was read.
    past: Option<(Timestamp, Past)>,
}

impl Watch {
    /// What audits with these settings.
    pub fn new(config: WatchConfig, options: Options, inputs: Inputs) -> Self {
        let board = Board { is_on: inputs.declared.is_some(), ..Board::default() };
        Self { config, options, inputs, board, written: BTreeSet::new(), past: None }
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

    async fn audit(&mut self, declared: &CurrentSources) {
        let began = tokio::time::Instant::now();
        let Inputs { engine, series, clock, .. } = &self.inputs;
        let (source, clock) =
            (Source::Own { engine: Arc::clone(engine), series: Arc::clone(series), at: clock.now() }, *clock);
        let Sources { snapshot, files } = declared();
        let labels = overridden(&snapshot);
        let (observed, no_traffic) = match gather_with(&source, self.config.window.get(), &labels).await {
            Ok(observed) => {
                let mut observed = self.with_past(observed).await;
                observed.in_domain(&self.options.cluster_domain);
                (Some(observed), None)
            }
            Err(error) => (None, Some(error.to_string())),
        };
        let options = self.options.clone();
        let work = move || {
            let beside = Beside { observed: observed.as_ref(), files: files.as_ref() };
            let report = audit_beside(&snapshot, beside, &options);
            let scorecard = score(&snapshot, observed.as_ref(), &report, &options);
            let strict = demanded::strict(&snapshot, &options);
            (report, scorecard, comparisons(&snapshot, observed.as_ref(), &options), strict)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok((report, scorecard, comparisons, strict)) => {
                let (at, took) = (clock.now(), began.elapsed());
                let latest = Latest { at, took, report, scorecard, comparisons, no_traffic, strict };
                *self.board.latest.write() = Some(Arc::new(latest));
            }
            Err(error) => tracing::error!("the audit ended early: {error}"),
        }
    }

    /// Adds what is known of the longer time.
    async fn with_past(&mut self, mut observed: Observed) -> Observed {
        let (span, now) = (self.config.dead_after.get(), self.inputs.clock.now());
        let Some(source) = self.inputs.past.clone().filter(|_| span > self.config.window.get()) else {
            return observed;
        };
        let is_fresh = |at: Timestamp| at <= now && now.since(at) < PAST_INTERVAL.min(span / 24);
        if !self.past.as_ref().is_some_and(|(at, _)| is_fresh(*at)) {
            let range = (now - span, now);
            let domain = self.options.cluster_domain.clone();
            let read = match tokio::time::timeout(PAST_PATIENCE, source(range.0, range.1)).await {
                Ok(Ok(told)) => tokio::task::spawn_blocking(move || Past::of(&told, range, &domain))
                    .await
                    .map_err(|error| error.to_string()),
                Ok(Err(reason)) => Err(reason),
                Err(_) => Err(format!("no answer in {} s", PAST_PATIENCE.as_secs())),
            };
            self.past = match read {
                Ok(past) => Some((now, past)),
                Err(reason) => {
                    observed.gaps.push(format!("who was called in the last {}: {reason}", words(span)));
                    None
                }
            };
        }
        // What could not be read is unknown, not silent.
        observed.past = Some(self.past.as_ref().map_or_else(|| Past::unknown(span), |(_, past)| past.clone()));
        observed
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
    // Named as proxies name the called workload, so that a rule can join what they report.
    let strict = latest.strict.iter().map(|(namespace, name)| {
        let labels = [
            (METRIC_NAME, "meshscope_declared_mtls_strict"),
            ("destination_workload_namespace", namespace.as_str()),
            ("destination_workload", name.as_str()),
        ];
        (Labels::from_pairs(labels), 1.0)
    });
    scores.chain(findings).chain(strict).collect()
}
