//! What the rules are doing, for the API and the pages.
//!
//! In: a snapshot of each group after each of its evaluations. Out: [`Status`], a cheap handle to read them. A reader
//! never waits for an evaluation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::RwLock;

use super::definition::{Pairs, RuleGroup};
use super::file::FileProblem;
use super::lint::{self, Finding};
use crate::model::{Alert, AlertState, Timestamp};
use crate::series::Queryable;

/// Whether the last evaluation of a rule went well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// Not evaluated yet.
    #[default]
    Unknown,
    /// It went well.
    Ok,
    /// It failed.
    Err,
}

impl Health {
    /// The name that the API uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Ok => "ok",
            Self::Err => "err",
        }
    }
}

/// One rule.
#[derive(Clone, Debug)]
pub struct RuleStatus {
    /// The alert's or the recorded metric's name.
    pub name: String,
    /// The expression as Prometheus prints it.
    pub query: String,
    /// Labels as written.
    pub labels: Pairs,
    /// Whether its last evaluation went well.
    pub health: Health,
    /// The error of the last evaluation.
    pub last_error: Option<String>,
    /// What the engine or a store had to say about the last evaluation.
    pub warnings: Vec<String>,
    /// How long the last evaluation took.
    pub evaluation_time: Duration,
    /// When it was last evaluated.
    pub last_evaluation: Option<Timestamp>,
    /// What only alerting rules have.
    pub alerting: Option<AlertingStatus>,
}

/// What only alerting rules have.
#[derive(Clone, Debug)]
pub struct AlertingStatus {
    /// The gravest state of its alerts.
    pub state: AlertState,
    /// `for`.
    pub hold: Duration,
    /// `keep_firing_for`.
    pub keep_firing_for: Duration,
    /// Annotations as written.
    pub annotations: Pairs,
    /// Its pending and firing alerts, in label order.
    pub alerts: Vec<Alert>,
}

/// One group.
#[derive(Clone, Debug)]
pub struct GroupStatus {
    /// Its name.
    pub name: String,
    /// Its file.
    pub file: String,
    /// Time between evaluations.
    pub interval: Duration,
    /// How far in the past it is evaluated.
    pub query_offset: Duration,
    /// Most alerts or series of one rule; 0 is no limit.
    pub limit: usize,
    /// How long the last evaluation took.
    pub evaluation_time: Duration,
    /// When it was last evaluated.
    pub last_evaluation: Option<Timestamp>,
    /// Evaluations of the group that were due, done or missed.
    pub iterations: u64,
    /// Of these the missed ones, because the one before took too long.
    pub iterations_missed: u64,
    /// Evaluations of its rules.
    pub evaluations: u64,
    /// Of these the failed ones.
    pub evaluation_failures: u64,
    /// Samples of the last evaluation.
    pub last_samples: usize,
    /// In the order of evaluation.
    pub rules: Vec<RuleStatus>,
}

/// Reads what the rules are doing. Copies read the same.
#[derive(Clone, Debug, Default)]
pub struct Status(Arc<RwLock<Board>>);

#[derive(Debug, Default)]
struct Board {
    groups: BTreeMap<(String, String), Arc<GroupStatus>>,
    problems: Arc<Vec<FileProblem>>,
    definitions: Arc<Vec<Arc<RuleGroup>>>,
    linted: Option<(Timestamp, Arc<Vec<Finding>>)>,
}

/// How long findings are kept before series are asked again.
const LINTED_FOR: Duration = Duration::from_secs(60);
/// How far back the linter looks for series.
const SEEN_WITHIN: Duration = Duration::from_secs(3600);

impl Status {
    /// All groups by file and name.
    pub fn groups(&self) -> Vec<Arc<GroupStatus>> {
        self.0.read().groups.values().cloned().collect()
    }

    /// What was refused of the rule files.
    pub fn problems(&self) -> Arc<Vec<FileProblem>> {
        self.0.read().problems.clone()
    }

    /// The groups as their files define them.
    pub fn definitions(&self) -> Arc<Vec<Arc<RuleGroup>>> {
        Arc::clone(&self.0.read().definitions)
    }

    /// Tells which groups there are, for the linter.
    pub fn define(&self, groups: &[Arc<RuleGroup>]) {
        let mut board = self.0.write();
        board.definitions = Arc::new(groups.to_vec());
        board.linted = None;
    }

    /// What the linter says of all groups, knowing the series that `store` has; at most a minute old. When the store
    /// does not answer, what can be said without it.
    pub async fn findings(
        &self,
        store: &dyn Queryable,
        (scrape_interval, retention): (Option<Duration>, Option<Duration>),
        now: Timestamp,
    ) -> Arc<Vec<Finding>> {
        if let Some((at, findings)) = &self.0.read().linted
            && now < *at + LINTED_FOR
        {
            return Arc::clone(findings);
        }
        let definitions = self.definitions();
        let mut options = lint::Options::default();
        options.scrape_interval = scrape_interval.unwrap_or(options.scrape_interval);
        options.retention = retention.unwrap_or(options.retention);
        let groups: Vec<&RuleGroup> = definitions.iter().map(Arc::as_ref).collect();
        options.seen = lint::observe(store, &groups, (now - SEEN_WITHIN, now)).await.ok();
        let again = Arc::clone(&definitions);
        let linted = tokio::task::spawn_blocking(move || {
            let groups: Vec<&RuleGroup> = again.iter().map(Arc::as_ref).collect();
            lint::lint(&groups, &options)
        });
        let findings = Arc::new(linted.await.unwrap_or_default());
        let mut board = self.0.write();
        if Arc::ptr_eq(&board.definitions, &definitions) {
            board.linted = Some((now, Arc::clone(&findings)));
        }
        findings
    }

    pub(super) fn publish(&self, group: GroupStatus) {
        let key = (group.file.clone(), group.name.clone());
        self.0.write().groups.insert(key, Arc::new(group));
    }

    pub(super) fn remove(&self, file: &str, name: &str) {
        self.0.write().groups.remove(&(file.to_owned(), name.to_owned()));
    }

    pub(super) fn set_problems(&self, problems: &[FileProblem]) {
        self.0.write().problems = Arc::new(problems.to_vec());
    }
}

/// What the rules have done since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Rules evaluated.
    pub evaluations: AtomicU64,
    /// Of these the failed ones.
    pub evaluation_failures: AtomicU64,
    /// Evaluations of groups that were due, done or missed.
    pub iterations: AtomicU64,
    /// Of these the missed ones.
    pub iterations_missed: AtomicU64,
    /// Alerts handed to notify.
    pub alerts_sent: AtomicU64,
    /// Alerts that notify had no room for; they are tried again at the next evaluation.
    pub alerts_not_taken: AtomicU64,
    /// Transitions that the history had no room for; they are lost.
    pub transitions_dropped: AtomicU64,
    /// Texts that could not be expanded.
    pub template_failures: AtomicU64,
    /// Groups whose task died and was started again.
    pub group_restarts: AtomicU64,
}
