//! What the mesh says about an alert at the moment people are told of it: who calls whom, how the failing requests end,
//! whether a fault was injected on purpose, retries, example traces, and where to look.
//!
//! In: an alert; edge minutes, spans and exemplars that are in memory. Out: annotations under names that begin with
//! `meshscope_`. Invariants: annotations only, so neither the alert's identity nor when it is told depends on them; nothing
//! waits longer than [`Config::time_limit`]: what is not there by then is left out and counted; the same evidence gives the
//! same words. Knows nothing of routing, HTTP or PostgreSQL.

mod evidence;
mod explain;
mod links;
mod subject;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::Semaphore;

use evidence::Evidence;
use links::Links;
use subject::Subject;

use crate::changes::Change;
use crate::graph::health::Rules;
use crate::model::{Alert, Labels, Timestamp};
use crate::rollup::Rollup;
use crate::series::Head;
use crate::traces::Live;
use crate::units::PromDuration;

/// The annotation with the address of the alert's own page.
pub const ALERT_URL: &str = "meshscope_alert_url";

/// The annotation by which an alert asks for context (`on`) or declines it (`off`).
pub const OPT_IN: &str = "meshscope_context";
/// Names of the annotations added, in the order in which people read them. Those that end with `_url` are addresses.
pub const ANNOTATIONS: [&str; 14] = [
    "meshscope_edges",
    "meshscope_flags",
    "meshscope_fault",
    "meshscope_retries",
    "meshscope_diagnosis",
    "meshscope_downstream",
    "meshscope_change",
    "meshscope_traces",
    "meshscope_edge_url",
    "meshscope_trace_url",
    "meshscope_traces_url",
    "meshscope_graph_url",
    ALERT_URL,
    OPT_IN,
];

/// Most alerts of one notification that get context; a receiver that is told of hundreds reads the first ones.
const ALERTS_MAX: usize = 100;
/// For how long gathered evidence serves further alerts: a storm of notifications must not gather it for each.
const EVIDENCE_AGE: Duration = Duration::from_secs(10);
/// Threads that explain at a time; who finds none free in time does without.
const THREADS_MAX: usize = 2;

/// Which alerts get context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Which {
    /// Those with the annotation `meshscope_context: "on"`, as the alerts of our pack have it.
    #[default]
    Annotated,
    /// All but those with `meshscope_context: "off"`.
    All,
    /// None.
    None,
}

/// The block `alert_context` of the configuration.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `annotated`: alerts with the annotation `meshscope_context: "on"`; `all`: all but those with `"off"`; `none`.
    /// Default `annotated`.
    pub alerts: Which,
    /// Longest time a notification waits for its context; past it, it goes out without. Default 200ms.
    pub time_limit: PromDuration,
    /// How far back traffic and traces are looked at. Default 5m, as the alerts of our pack.
    pub window: PromDuration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            alerts: Which::Annotated,
            time_limit: Duration::from_millis(200).into(),
            window: Duration::from_secs(300).into(),
        }
    }
}

impl Config {
    /// What is wrong with it, one sentence each.
    pub fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        if self.time_limit.is_zero() || self.time_limit.get() > Duration::from_secs(5) {
            found.push("alert_context.time_limit must be longer than 0s and at most 5s: alerts wait for it".to_owned());
        }
        if self.window.get() < Duration::from_secs(60) || self.window.get() > Duration::from_secs(3600) {
            found.push("alert_context.window must be between 1m and 1h".to_owned());
        }
        found
    }
}

/// Counts since start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Alerts told with context.
    pub added: AtomicU64,
    /// Alerts told without the context they ask for, because it was not there in time.
    pub too_late: AtomicU64,
    /// Alerts told without the context they ask for, because others of their notification had it already.
    pub too_many: AtomicU64,
}

/// Where changes of what is declared are found, from a time on, the newest first.
pub type Changes = Arc<dyn Fn(Timestamp) -> Vec<Arc<Change>> + Send + Sync>;

/// What the parts in memory are asked.
pub struct Inputs {
    /// Edge minutes.
    pub rollup: Rollup,
    /// Recent spans.
    pub live: Live,
    /// Exemplars.
    pub head: Head,
    /// Changes of what is declared from a time on, the newest first.
    pub changes: Changes,
    /// From which share of failures on an edge counts as degraded.
    pub health: Rules,
    /// Our own address, for links; without a slash at its end.
    pub external_url: String,
}

/// Explains alerts. Clones share it.
#[derive(Clone)]
pub struct Context(Arc<Shared>);

struct Shared {
    config: Config,
    inputs: Inputs,
    counters: Arc<Counters>,
    /// The last evidence, and when it was gathered.
    last: Mutex<Option<(Timestamp, Arc<Evidence>)>>,
    turn: Arc<Semaphore>,
    /// One at a time gathers: the others find what it has found.
    gathering: Mutex<()>,
}

impl Context {
    /// Explains from what `inputs` hold.
    pub fn new(config: Config, inputs: Inputs) -> Self {
        Self(Arc::new(Shared {
            config,
            inputs,
            counters: Arc::default(),
            last: Mutex::default(),
            turn: Arc::new(Semaphore::new(THREADS_MAX)),
            gathering: Mutex::default(),
        }))
    }

    /// Counts since start.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.0.counters)
    }

    /// Whether an alert with these annotations gets context.
    pub fn is_wanted(&self, annotations: &Labels) -> bool {
        match (self.0.config.alerts, annotations.value(OPT_IN)) {
            (Which::None, _) | (_, "off") => false,
            (Which::All, _) | (Which::Annotated, "on") => true,
            (Which::Annotated, _) => false,
        }
    }

    /// The alerts of one notification with their context; without, where it is not there in time. `true` beside an alert
    /// says that it fires.
    pub async fn annotate(&self, alerts: Vec<(Alert, bool)>, now: Timestamp) -> Vec<(Alert, bool)> {
        let wanting = alerts.iter().filter(|(alert, _)| self.is_wanted(&alert.annotations)).count();
        if wanting == 0 {
            return alerts;
        }
        let added = Self::within(self.0.config.time_limit.get(), self.clone().all(alerts.clone(), now)).await;
        match added {
            Some(annotated) => {
                let explained = wanting.min(ALERTS_MAX);
                self.0.counters.added.fetch_add(explained as u64, Ordering::Relaxed);
                self.0.counters.too_many.fetch_add((wanting - explained) as u64, Ordering::Relaxed);
                annotated
            }
            None => {
                self.0.counters.too_late.fetch_add(wanting as u64, Ordering::Relaxed);
                alerts
            }
        }
    }

    /// The annotations of one alert, for pages: `None` when it wants none or they are not there in time.
    pub async fn of(&self, alert: &Alert, fires: bool, now: Timestamp) -> Option<Labels> {
        if !self.is_wanted(&alert.annotations) {
            return None;
        }
        let all = self.clone().all(vec![(alert.clone(), fires)], now);
        let (alert, _) = Self::within(self.0.config.time_limit.get(), all).await?.pop()?;
        Some(alert.annotations.only(&ANNOTATIONS))
    }

    async fn within<T>(limit: Duration, work: impl Future<Output = Option<T>>) -> Option<T> {
        tokio::time::timeout(limit, work).await.ok().flatten()
    }

    /// Explains on a blocking thread. One that is given up stops at the next alert; what it has gathered serves the next.
    async fn all(self, alerts: Vec<(Alert, bool)>, now: Timestamp) -> Option<Vec<(Alert, bool)>> {
        let given_up = GivenUp(Arc::new(AtomicBool::new(false)));
        let is_given_up = Arc::clone(&given_up.0);
        let shared = Arc::clone(&self.0);
        let turn = Arc::clone(&self.0.turn).acquire_owned().await.ok()?;
        let explained = tokio::task::spawn_blocking(move || {
            // Held until the thread ends, so that threads that are given up do not pile up.
            let _turn = turn;
            let evidence = shared.evidence(now);
            let mut left = ALERTS_MAX;
            let mut told = Vec::with_capacity(alerts.len());
            for (mut alert, fires) in alerts {
                if is_given_up.load(Ordering::Relaxed) {
                    return None;
                }
                if left > 0 && Context(Arc::clone(&shared)).is_wanted(&alert.annotations) {
                    left -= 1;
                    alert.annotations = shared.annotated(&alert, fires, &evidence, now);
                }
                told.push((alert, fires));
            }
            Some(told)
        });
        let explained = explained.await.ok().flatten();
        drop(given_up);
        explained
    }
}

/// Tells the thread that nobody waits for it any more.
struct GivenUp(Arc<AtomicBool>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    /// What is known now; gathered anew when it is older than [`EVIDENCE_AGE`].
    fn evidence(&self, now: Timestamp) -> Arc<Evidence> {
        let _turn = self.gathering.lock();
        let last = self.last.lock().clone();
        if let Some((at, evidence)) = last
            && at <= now
            && now.since(at) < EVIDENCE_AGE
        {
            return evidence;
        }
        let gathered = Arc::new(Evidence::gather(&self.inputs, (now - self.config.window.get(), now)));
        *self.last.lock() = Some((now, Arc::clone(&gathered)));
        gathered
    }

    fn annotated(&self, alert: &Alert, fires: bool, evidence: &Evidence, now: Timestamp) -> Labels {
        let subject = Subject::of(&alert.labels);
        let at = if fires { now } else { alert.ends_at().min(now) };
        let links = Links { external_url: &self.inputs.external_url, at, window: self.config.window.get() };
        // Of an alert that has ended the traffic of now says nothing.
        let found = match fires {
            true => subject.as_ref().map(|subject| explain::explain(subject, evidence)).unwrap_or_default(),
            false => explain::Explanation::default(),
        };
        let mut added = found.texts;
        added.extend(links.of(&alert.labels, subject.as_ref(), &found.places));
        let known: HashSet<&str> = alert.annotations.iter().map(|(name, _)| name).collect();
        // What the rule's author wrote under such a name stays.
        let mine = added.iter().filter(|(name, text)| !known.contains(name) && !text.is_empty());
        alert.annotations.merged(&mine.map(|(name, text)| (*name, text.as_str())).collect())
    }
}
