//! One rule group at work: its rules one after the other, each committed before the next.
//!
//! In: series (through the query engine), the scheduled time. Out: samples to the memory tier, alerts, transitions, a status
//! snapshot. Invariant: whatever fails in one rule, the next is evaluated; a failed rule writes nothing.

mod commit;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{debug, warn};

use self::commit::Produced;
use super::alerting::{ALERT_NAME, ALERTS_FOR_STATE, AlertingState, Change, Found, Restoring, Sending};
use super::definition::{AlertingRule, Rule, RuleGroup};
use super::expand::About;
use super::query::{Failure, Querier, vector};
use super::slot;
use super::status::{AlertingStatus, Counters, GroupStatus, Health, RuleStatus, Status};
use super::{Config, recording};
use crate::clock::Clock;
use crate::gotemplate::graph_path;
use crate::model::{Alert, AlertTransition, Labels, METRIC_NAME, MatchOp, Matcher, Sample, Timestamp};
use crate::promql;
use crate::series::{Head, Queryable, Select};

/// Past this many loaded samples a group's evaluation lets go of those it keeps for its next rules.
const SHARED_SAMPLES_MAX: usize = 5_000_000;

/// What all groups work with.
pub(super) struct Surroundings {
    pub config: Config,
    pub store: Arc<dyn Queryable>,
    pub own: Arc<dyn Queryable>,
    pub head: Head,
    pub engine: Arc<promql::Engine>,
    pub options: promql::QueryOptions,
    pub clock: Clock,
    pub alerts: mpsc::Sender<Vec<Alert>>,
    pub alertmanagers: mpsc::Sender<Vec<Alert>>,
    pub transitions: mpsc::Sender<AlertTransition>,
    pub status: Status,
    pub counters: Arc<Counters>,
}

/// What templates may show besides the sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct External {
    pub labels: Labels,
    pub url: String,
}

/// A group and what it has seen.
pub(super) struct Group {
    pub definition: Arc<RuleGroup>,
    pub external: External,
    /// Whether the time from before a restart is still to be restored.
    pub restore_pending: bool,
    rules: Vec<RuleState>,
    /// For each rule, whether it shares loaded samples with others.
    sharing: Vec<bool>,
    /// Series of rules that are gone; the next evaluation ends them.
    stale: Vec<Labels>,
    tally: Tally,
}

#[derive(Clone, Copy, Default)]
struct Tally {
    evaluation_time: Duration,
    last_evaluation: Option<Timestamp>,
    iterations: u64,
    missed: u64,
    evaluations: u64,
    failures: u64,
    last_samples: usize,
}

#[derive(Default)]
struct RuleState {
    produced: Produced,
    health: Health,
    last_error: Option<String>,
    /// Whether the last evaluation failed because a store could not be asked.
    store_away: bool,
    evaluation_time: Duration,
    last_evaluation: Option<Timestamp>,
    warnings: Vec<String>,
    alerting: AlertingState,
}

/// Samples that the rules of one evaluation share.
#[derive(Default)]
struct Shared {
    cache: Option<Arc<promql::SelectionCache>>,
    loaded: usize,
}

impl Shared {
    fn options(&mut self, share: bool, options: &promql::QueryOptions) -> promql::QueryOptions {
        if self.loaded > SHARED_SAMPLES_MAX {
            *self = Self::default();
        }
        let cache = share.then(|| self.cache.get_or_insert_with(promql::SelectionCache::new).clone());
        promql::QueryOptions { cache, ..options.clone() }
    }
}

impl Group {
    /// A group that has seen nothing. `restore`: alerts take up their time from before a restart.
    pub fn new(definition: Arc<RuleGroup>, external: External, restore: bool) -> Self {
        let rules = (0..definition.rules.len())
            .map(|_| RuleState { alerting: AlertingState::new(!restore), ..RuleState::default() });
        let (rules, sharing) = (rules.collect(), definition.sharing());
        let (stale, tally) = (Vec::new(), Tally::default());
        Self { definition, external, restore_pending: restore, rules, sharing, stale, tally }
    }

    /// Takes over what the same rules of `old` have seen: same name and labels, first to first, second to second.
    pub fn take_over(&mut self, old: Group) {
        self.tally = Tally { iterations: old.tally.iterations, missed: old.tally.missed, ..old.tally };
        self.restore_pending = old.restore_pending;
        self.stale = old.stale;
        let mut by_identity: HashMap<_, Vec<RuleState>> = HashMap::new();
        for (rule, state) in old.definition.rules.iter().zip(old.rules).rev() {
            by_identity.entry((rule.identity(), matches!(rule, Rule::Alerting(_)))).or_default().push(state);
        }
        for (rule, state) in self.definition.rules.iter().zip(&mut self.rules) {
            let key = (rule.identity(), matches!(rule, Rule::Alerting(_)));
            if let Some(old) = by_identity.get_mut(&key).and_then(Vec::pop) {
                *state = old;
            }
        }
        self.stale.extend(by_identity.into_values().flatten().flat_map(|state| state.produced.into_labels()));
    }

    /// Goes on with alerts that fired before a restart, where the expression still returns them in time.
    pub fn resume(&mut self, told: Vec<Alert>) {
        for (rule, state) in self.definition.rules.iter().zip(&mut self.rules) {
            let of_rule = |alert: &&Alert| alert.labels.value(ALERT_NAME) == rule.name();
            if matches!(rule, Rule::Alerting(_)) {
                state.alerting.resume(told.iter().filter(of_rule).cloned());
            }
        }
    }

    /// Every series that the group keeps alive.
    pub fn into_series(self) -> Vec<Labels> {
        let produced = self.rules.into_iter().flat_map(|rule| rule.produced.into_labels());
        self.stale.into_iter().chain(produced).collect()
    }

    /// How far its evaluations are shifted from multiples of the interval, so that groups spread.
    pub fn slot_offset(&self) -> Duration {
        let RuleGroup { name, file, interval, .. } = &*self.definition;
        slot::offset(file, name, *interval)
    }

    /// Counts evaluations that were due but not done.
    pub fn count_missed(&mut self, missed: u64, surroundings: &Surroundings) {
        self.tally.iterations += missed;
        self.tally.missed += missed;
        surroundings.counters.iterations.fetch_add(missed, Relaxed);
        surroundings.counters.iterations_missed.fetch_add(missed, Relaxed);
    }

    /// The alerts of all rules called `name` that fire, each with the names of its rule's annotations.
    pub fn firing(&self, name: &str) -> Vec<(&Alert, Vec<&str>)> {
        let named = self.definition.rules.iter().zip(&self.rules).filter(|(rule, _)| rule.name() == name);
        let active = named.flat_map(|(rule, state)| state.alerting.active().map(move |alert| (rule, alert)));
        let firing = active.filter(|(_, alert)| alert.state == crate::model::AlertState::Firing);
        firing.map(|(rule, alert)| (alert, annotation_names(rule))).collect()
    }

    /// Rules whose last evaluation failed, with the error.
    pub fn errors(&self) -> Vec<(&str, &str)> {
        let rules = self.definition.rules.iter().zip(&self.rules);
        rules.filter_map(|(rule, state)| state.last_error.as_deref().map(|error| (rule.name(), error))).collect()
    }

    /// Evaluates all rules as of `at`, the scheduled time.
    #[tracing::instrument(
        name = "evaluate rule group",
        skip_all,
        fields(rule.group = %self.definition.name, rule.file = %self.definition.file)
    )]
    pub async fn evaluate(&mut self, surroundings: &Surroundings, at: Timestamp) {
        let started = tokio::time::Instant::now();
        self.tally.iterations += 1;
        surroundings.counters.iterations.fetch_add(1, Relaxed);
        let mut samples = 0;
        let mut shared = Shared::default();
        for i in 0..self.rules.len() {
            let rule_started = tokio::time::Instant::now();
            let evaluated_at = surroundings.clock.now();
            let result = self.evaluate_rule(i, &mut shared, surroundings, at).await;
            self.tally.evaluations += 1;
            surroundings.counters.evaluations.fetch_add(1, Relaxed);
            let (rule, group) = (self.definition.rules[i].name(), self.definition.key());
            let state = &mut self.rules[i];
            state.evaluation_time = rule_started.elapsed();
            state.last_evaluation = Some(evaluated_at);
            match result {
                Ok(count) => {
                    samples += count;
                    (state.health, state.last_error, state.store_away) = (Health::Ok, None, false);
                }
                Err(Failure { text: error, store_away }) => {
                    self.tally.failures += 1;
                    surroundings.counters.evaluation_failures.fetch_add(1, Relaxed);
                    state.store_away = store_away;
                    if let (true, Rule::Alerting(rule)) = (store_away, &self.definition.rules[i]) {
                        hold(&mut state.alerting, rule, &self.definition, (surroundings, &self.external), at);
                    }
                    // Once for each new cause: a rule that fails fails at every evaluation.
                    if state.last_error.as_deref() != Some(&error) {
                        warn!(rule.group = %group, rule.name = %rule, %error, "rule `{rule}` could not be evaluated");
                    }
                    (state.health, state.last_error) = (Health::Err, Some(error));
                }
            }
        }
        self.tally.last_samples = samples;
        let gone = std::mem::take(&mut self.stale);
        commit::end_series(&surroundings.head, &gone, at - self.query_offset(surroundings));
        self.tally.evaluation_time = started.elapsed();
        self.tally.last_evaluation = Some(surroundings.clock.now());
        self.publish(surroundings);
    }

    fn query_offset(&self, surroundings: &Surroundings) -> Duration {
        self.definition.query_offset.unwrap_or(surroundings.config.rule_query_offset.get())
    }

    async fn evaluate_rule(
        &mut self,
        i: usize,
        shared: &mut Shared,
        surroundings: &Surroundings,
        at: Timestamp,
    ) -> Result<usize, Failure> {
        let definition = self.definition.clone();
        let sample_at = at - self.query_offset(surroundings);
        let querier = querier(surroundings);
        let options = shared.options(self.sharing[i], &surroundings.options);
        let answer = Querier { options: &options, ..querier }.answer(definition.rules[i].expr(), sample_at).await?;
        shared.loaded += answer.stats.samples_loaded;
        self.rules[i].warnings = answer.warnings;
        let result = vector(answer.value)?;
        let samples = match &definition.rules[i] {
            Rule::Recording(rule) => recording::samples(rule, result, definition.limit)?,
            Rule::Alerting(rule) => {
                let found = self.expand(rule, result, &querier, surroundings, at).await?;
                let state = &mut self.rules[i].alerting;
                let changes = state.update(rule, found, at, definition.limit)?;
                record(&definition, changes, surroundings, at);
                send(state, rule, &definition, (surroundings, &self.external), at);
                state.samples(rule)
            }
        };
        let count = samples.len();
        self.rules[i].produced.commit(&surroundings.head, samples, sample_at)?;
        Ok(count)
    }

    /// Labels and texts of each sample of an alerting rule's expression.
    async fn expand(
        &self,
        rule: &AlertingRule,
        result: Vec<promql::InstantSample>,
        querier: &Querier<'_>,
        surroundings: &Surroundings,
        at: Timestamp,
    ) -> Result<Vec<Found>, String> {
        let mut found = Vec::with_capacity(result.len());
        let mut seen = std::collections::HashSet::with_capacity(result.len());
        for sample in &result {
            tokio::task::consume_budget().await; // thousands of alerts must not hold up the other tasks
            let External { labels: external_labels, url: external_url } = &self.external;
            let about = About { labels: &sample.labels, value: sample.value, at, external_labels, external_url };
            let mut pairs: [Vec<(String, String)>; 2] = Default::default();
            for (texts, pairs) in [&rule.labels, &rule.annotations].into_iter().zip(&mut pairs) {
                for (name, text) in texts {
                    let (text, failed) = text.expand(&about, querier).await;
                    surroundings.counters.template_failures.fetch_add(u64::from(failed), Relaxed);
                    if failed {
                        debug!(rule.name = %rule.name, "text `{name}` could not be expanded: {text}");
                    }
                    pairs.push((name.clone(), text));
                }
            }
            let [labels, annotations] = pairs;
            let of_sample = sample.labels.iter().filter(|(name, _)| *name != METRIC_NAME);
            let of_rule = labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            let labels: Labels = of_sample.chain(of_rule).chain([(ALERT_NAME, rule.name.as_str())]).collect();
            if !seen.insert(labels.clone()) {
                return Err("vector contains metrics with the same labelset after applying alert labels".to_owned());
            }
            found.push(Found { labels, annotations: Labels::from_pairs(annotations), value: sample.value });
        }
        Ok(found)
    }

    /// Takes up the time that alerts were pending before a restart, from `ALERTS_FOR_STATE`.
    pub async fn restore(&mut self, surroundings: &Surroundings) {
        let definition = self.definition.clone();
        let now = surroundings.clock.now();
        let grace = surroundings.config.for_grace_period.get();
        for (rule, state) in definition.rules.iter().zip(&mut self.rules) {
            let Rule::Alerting(rule) = rule else { continue };
            if state.store_away {
                continue; // its alerts are not known yet
            }
            // A shorter `for` passes sooner than the grace period would.
            if rule.hold >= grace && !state.alerting.restored {
                match last_for_state(rule, surroundings, now).await {
                    Ok(last) => state.alerting.restore(rule, &last, Restoring { grace, now }),
                    Err(error) => warn!(
                        rule.group = %definition.key(), rule.name = %rule.name, %error,
                        "alerts of rule `{}` start their `for` anew: the time before the restart cannot be read", rule.name
                    ),
                }
            }
            state.alerting.restored = true;
        }
        self.restore_pending = self.rules.iter().any(|state| state.store_away);
    }

    /// Shows the group as it is now.
    pub fn publish(&self, surroundings: &Surroundings) {
        let Tally { evaluation_time, last_evaluation, iterations, missed, evaluations, failures, last_samples } =
            self.tally;
        let rules = self.definition.rules.iter().zip(&self.rules).map(|(rule, state)| rule_status(rule, state));
        surroundings.status.publish(GroupStatus {
            name: self.definition.name.clone(),
            file: self.definition.file.clone(),
            interval: self.definition.interval,
            query_offset: self.query_offset(surroundings),
            limit: self.definition.limit,
            evaluation_time,
            last_evaluation,
            iterations,
            iterations_missed: missed,
            evaluations,
            evaluation_failures: failures,
            last_samples,
            rules: rules.collect(),
        });
    }
}

/// Writes a stale marker to series that nothing produces any more.
pub(super) fn end_series(surroundings: &Surroundings, series: &[Labels], at: Timestamp) {
    commit::end_series(&surroundings.head, series, at);
}

fn querier(surroundings: &Surroundings) -> Querier<'_> {
    let Surroundings { engine, store, options, .. } = surroundings;
    Querier { engine, store: &**store, options }
}

fn rule_status(rule: &Rule, state: &RuleState) -> RuleStatus {
    let alerting = match rule {
        Rule::Recording(_) => None,
        Rule::Alerting(rule) => Some(AlertingStatus {
            state: state.alerting.state(),
            hold: rule.hold,
            keep_firing_for: rule.keep_firing_for,
            annotations: rule.written_annotations(),
            alerts: state.alerting.active().cloned().collect(),
        }),
    };
    RuleStatus {
        name: rule.name().to_owned(),
        query: rule.query().to_owned(),
        labels: rule.labels(),
        health: state.health,
        last_error: state.last_error.clone(),
        warnings: state.warnings.clone(),
        evaluation_time: state.evaluation_time,
        last_evaluation: state.last_evaluation,
        alerting,
    }
}

/// Hands transitions to the history; what it has no room for is counted.
fn record(definition: &RuleGroup, changes: Vec<Change>, surroundings: &Surroundings, at: Timestamp) {
    for Change { alert, from } in changes {
        let Alert { labels, annotations, state: to, value, .. } = alert;
        let transition = AlertTransition { at, group: definition.key(), labels, annotations, from, to, value };
        if surroundings.transitions.try_send(transition).is_err() {
            surroundings.counters.transitions_dropped.fetch_add(1, Relaxed);
        }
    }
}

/// Hands alerts to notify. What it has no room for stays unsent, and is tried again at the next evaluation.
fn send(
    state: &mut AlertingState,
    rule: &AlertingRule,
    definition: &RuleGroup,
    (surroundings, external): (&Surroundings, &External),
    at: Timestamp,
) {
    let sending = Sending { resend_delay: surroundings.config.resend_delay.get(), interval: definition.interval };
    let generator_url = format!("{}{}", external.url, graph_path(&rule.query, 1));
    let alerts = state.to_send(at, sending, &generator_url);
    if alerts.is_empty() {
        return;
    }
    let count = alerts.len() as u64;
    match (surroundings.alerts.try_reserve(), surroundings.alertmanagers.try_reserve()) {
        (Ok(room), Ok(also)) => {
            state.mark_sent(&alerts, at);
            surroundings.counters.alerts_sent.fetch_add(count, Relaxed);
            also.send(alerts.clone());
            room.send(alerts);
        }
        _ => {
            surroundings.counters.alerts_not_taken.fetch_add(count, Relaxed);
        }
    }
}

/// Goes on telling what fires while a store cannot be asked whether it still does: else receivers would believe, a few
/// minutes later, that it has ended.
fn hold(
    state: &mut AlertingState,
    rule: &AlertingRule,
    definition: &RuleGroup,
    around: (&Surroundings, &External),
    at: Timestamp,
) {
    let resend_delay = around.0.config.resend_delay.get();
    state.hold(at, Sending { resend_delay, interval: definition.interval });
    send(state, rule, definition, around, at);
}

/// The last `ALERTS_FOR_STATE` sample of each alert of the rule within the outage tolerance.
async fn last_for_state(
    rule: &AlertingRule,
    surroundings: &Surroundings,
    now: Timestamp,
) -> Result<BTreeMap<Labels, Sample>, String> {
    let mut wanted = vec![(METRIC_NAME, ALERTS_FOR_STATE), (ALERT_NAME, &rule.name)];
    let written = rule.written_labels();
    let fixed = written.iter().filter(|(name, value)| !value.contains("{{") && name != ALERT_NAME);
    wanted.extend(fixed.map(|(name, value)| (name.as_str(), value.as_str())));
    let matchers: Result<Vec<Matcher>, _> =
        wanted.into_iter().map(|(name, value)| Matcher::new(MatchOp::Equal, name, value)).collect();
    let from = now - surroundings.config.for_outage_tolerance.get();
    let select = Select::new(matchers.map_err(|error| error.to_string())?, from, now);
    let selection = surroundings.own.select(select).await.map_err(|error| error.to_string())?;
    let last = selection.series.into_iter().filter_map(|series| {
        let sample = Sample { at: *series.times.last()?, value: *series.values.last()? };
        Some((series.labels.without_name(), sample))
    });
    Ok(last.collect())
}

fn annotation_names(rule: &Rule) -> Vec<&str> {
    match rule {
        Rule::Alerting(rule) => rule.annotations.iter().map(|(name, _)| name.as_str()).collect(),
        Rule::Recording(_) => Vec::new(),
    }
}
