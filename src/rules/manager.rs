//! Runs all rule groups, each in a task of its own, and swaps them when the rule files change.
//!
//! In: `watch` of [`RuleSet`]s, a `watch` that turns true when the history is restored. Out: see [`Outputs`]. Invariant: a
//! group that a reload does not change goes on undisturbed; a changed one keeps the state of the rules it still has.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::definition::{RuleGroup, RuleSet};
use super::group::{External, Group, Surroundings, end_series};
use super::{Config, Counters, Status};
use crate::clock::Clock;
use crate::model::{Alert, AlertTransition};
use crate::promql;
use crate::series::{Head, Queryable};

/// What rules are evaluated from.
pub struct Inputs {
    /// The rules; each change is a reload.
    pub rule_sets: watch::Receiver<Arc<RuleSet>>,
    /// Turns true when the series of before the restart are there and the first scrapes are in.
    pub ready: watch::Receiver<bool>,
    /// What expressions read.
    pub store: Arc<dyn Queryable>,
    /// What is stored here: alerts take up their time of before a restart from it.
    pub own: Arc<dyn Queryable>,
    /// Where samples are written.
    pub head: Head,
    /// Evaluates expressions.
    pub engine: Arc<promql::Engine>,
    /// Limits of one query.
    pub options: promql::QueryOptions,
    /// What time it is.
    pub clock: Clock,
    /// By key of the group (`file;name`), the alerts that receivers believed to fire when the process ended.
    pub told: HashMap<String, Vec<Alert>>,
    /// Whether rules were evaluated up to now, by this process or by a leader that it followed: `told` holds the pending
    /// alerts too, and no time of before a restart is to be restored.
    pub goes_on: bool,
}

/// Where alerts go. Both are bounded; a full one never holds up an evaluation.
pub struct Outputs {
    /// Alerts to tell, firing and resolved. What does not fit is counted and tried again at the next evaluation.
    pub alerts: mpsc::Sender<Vec<Alert>>,
    /// The same for Alertmanagers elsewhere; what one of the two has no room for is offered to both again.
    pub alertmanagers: mpsc::Sender<Vec<Alert>>,
    /// Changes of alert states. What does not fit is counted and lost.
    pub transitions: mpsc::Sender<AlertTransition>,
}

/// Runs all rule groups.
pub struct Manager {
    rule_sets: watch::Receiver<Arc<RuleSet>>,
    ready: watch::Receiver<bool>,
    surroundings: Arc<Surroundings>,
    running: HashMap<String, Running>,
    tasks: JoinSet<Ended>,
    /// Fires at the end: what waits to end the series of removed groups does so at once.
    ending: CancellationToken,
    /// By group, what fired before the restart; groups of the first rule set take it over.
    told: HashMap<String, Vec<Alert>>,
    /// Groups of the first rule set take up their time from before the restart; later ones have none.
    first: bool,
}

struct Running {
    definition: Arc<RuleGroup>,
    external: External,
    stop: CancellationToken,
    task: tokio::task::Id,
}

enum Ended {
    /// A group was told to stop.
    Group(Box<Group>),
    /// The series of a removed group have their stale markers.
    SeriesEnded,
}

impl Manager {
    /// Takes its inputs and outputs. Nothing runs until [`Self::run`].
    pub fn new(config: Config, inputs: Inputs, outputs: Outputs) -> Self {
        let Inputs { rule_sets, ready, store, own, head, engine, options, clock, told, goes_on } = inputs;
        let Outputs { alerts, alertmanagers, transitions } = outputs;
        let (status, counters) = (Status::default(), Arc::new(Counters::default()));
        let surroundings = Surroundings {
            config,
            store,
            own,
            head,
            engine,
            options,
            clock,
            alerts,
            alertmanagers,
            transitions,
            status,
            counters,
        };
        Self {
            rule_sets,
            ready,
            surroundings: Arc::new(surroundings),
            running: HashMap::new(),
            tasks: JoinSet::new(),
            ending: CancellationToken::new(),
            told,
            first: !goes_on,
        }
    }

    /// The handle that shows what the rules are doing.
    pub fn status(&self) -> Status {
        self.surroundings.status.clone()
    }

    /// What the rules have done since the start.
    pub fn counters(&self) -> Arc<Counters> {
        self.surroundings.counters.clone()
    }

    /// Runs until `shutdown` fires; evaluations under way are finished.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let is_ready = tokio::select! {
            () = shutdown.cancelled() => return,
            ready = self.ready.wait_for(|ready| *ready) => ready.is_ok(),
        };
        if !is_ready {
            warn!("rules are not evaluated: whoever restores the history is gone");
            shutdown.cancelled().await;
            return;
        }
        let set = self.rule_sets.borrow_and_update().clone();
        self.apply(&set).await;
        let mut reloads = true;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                changed = self.rule_sets.changed(), if reloads => match changed {
                    Ok(()) => {
                        let set = self.rule_sets.borrow_and_update().clone();
                        self.apply(&set).await;
                    }
                    Err(_) => reloads = false, // nobody can reload any more; the rules go on
                },
                Some(ended) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => {
                    if let Err(failure) = ended {
                        self.restart(&failure);
                    }
                }
            }
        }
        self.ending.cancel();
        for running in self.running.values() {
            running.stop.cancel();
        }
        while let Some(ended) = self.tasks.join_next().await {
            if let Ok(Ended::SeriesEnded) = ended {
                continue;
            }
        }
    }

    /// Makes the running groups those of `set`.
    async fn apply(&mut self, set: &RuleSet) {
        self.surroundings.status.set_problems(&set.problems);
        self.surroundings.status.define(&set.groups);
        let external = External { labels: set.external_labels.clone(), url: set.external_url.clone() };
        let mut wanted: HashMap<String, &Arc<RuleGroup>> =
            set.groups.iter().map(|group| (group.key(), group)).collect();
        let mut stopped: HashMap<String, Running> = HashMap::new();
        let keys: Vec<String> = self.running.keys().cloned().collect();
        for key in keys {
            let same = |running: &Running| {
                let definition = wanted.get(&key)?;
                (running.definition.is_same(definition) && running.external == external).then_some(())
            };
            match self.running.get(&key).and_then(same) {
                Some(()) => {
                    wanted.remove(&key);
                }
                None => {
                    if let Some(running) = self.running.remove(&key) {
                        running.stop.cancel();
                        stopped.insert(key, running);
                    }
                }
            }
        }
        let (kept, changed) = (self.running.len(), wanted.len());
        let mut old = self.await_stopped(&mut stopped).await;
        for (key, definition) in wanted {
            let mut group = Group::new(definition.clone(), external.clone(), self.first);
            if let Some(told) = self.told.remove(&key) {
                group.resume(told);
            }
            if let Some(old) = old.remove(&key) {
                group.take_over(*old);
            }
            self.start(group);
        }
        let removed = old.len();
        for group in old.into_values() {
            self.remove(*group);
        }
        self.first = false;
        self.told = HashMap::new();
        info!("{} rule groups: {kept} unchanged, {changed} new or changed, {removed} removed", kept + changed);
    }

    /// Waits until the stopped groups have finished their evaluations.
    async fn await_stopped(&mut self, stopped: &mut HashMap<String, Running>) -> HashMap<String, Box<Group>> {
        let mut old = HashMap::new();
        while !stopped.is_empty() {
            match self.tasks.join_next_with_id().await {
                None => break,
                Some(Ok((id, Ended::Group(group)))) => {
                    stopped.retain(|_, running| running.task != id);
                    old.insert(group.definition.key(), group);
                }
                Some(Ok((_, Ended::SeriesEnded))) => {}
                Some(Err(failure)) => {
                    let before = stopped.len();
                    stopped.retain(|_, running| running.task != failure.id());
                    if stopped.len() == before {
                        self.restart(&failure);
                    }
                }
            }
        }
        old
    }

    /// A group's task died of a panic: it starts anew, and the others never notice.
    fn restart(&mut self, failure: &tokio::task::JoinError) {
        let found = self.running.iter().find(|(_, running)| running.task == failure.id()).map(|(key, _)| key.clone());
        let Some(running) = found.and_then(|key| self.running.remove(&key)) else { return };
        let key = running.definition.key();
        error!(rule.group = %key, error = %failure, "rule group `{key}` died; it starts anew");
        self.surroundings.counters.group_restarts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.start(Group::new(running.definition, running.external, false));
    }

    fn start(&mut self, group: Group) {
        group.publish(&self.surroundings);
        let (definition, external) = (group.definition.clone(), group.external.clone());
        let stop = CancellationToken::new();
        let task = self.tasks.spawn(keep_evaluating(group, self.surroundings.clone(), stop.clone())).id();
        self.running.insert(definition.key(), Running { definition, external, stop, task });
    }

    /// Ends the series of a group that is gone, two intervals later: a renamed group writes them by then, and its samples
    /// make the markers come too late to count.
    fn remove(&mut self, group: Group) {
        let RuleGroup { file, name, interval, .. } = &*group.definition;
        self.surroundings.status.remove(file, name);
        let (wait, surroundings) = (*interval * 2, self.surroundings.clone());
        let (at, series) = (surroundings.clock.now(), group.into_series());
        let ending = self.ending.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = ending.cancelled() => {}
            }
            end_series(&surroundings, &series, at);
            Ended::SeriesEnded
        });
    }
}

/// Evaluates a group at its slots until told to stop.
async fn keep_evaluating(mut group: Group, surroundings: Arc<Surroundings>, stop: CancellationToken) -> Ended {
    let interval = group.definition.interval.max(Duration::from_millis(1));
    let clock = surroundings.clock;
    let mut at = clock.next_slot(interval, group.slot_offset());
    let mut evaluations = 0_u64;
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = tokio::time::sleep_until(clock.instant_of(at)) => {}
        }
        group.evaluate(&surroundings, at).await;
        evaluations += 1;
        // At the first evaluation there may be too little data, and recording rules that alerts depend on may lag.
        if group.restore_pending && evaluations >= 2 {
            group.restore(&surroundings).await;
        }
        // Slots that passed meanwhile are not caught up, but the latest of them is evaluated at once.
        let passed = clock.now().since(at).as_millis() / interval.as_millis();
        let missed = u32::try_from(passed.saturating_sub(1)).unwrap_or(u32::MAX);
        if missed > 0 {
            group.count_missed(u64::from(missed), &surroundings);
        }
        at = at + interval * (missed + 1);
    }
    Ended::Group(Box::new(group))
}

#[cfg(test)]
mod tests;
