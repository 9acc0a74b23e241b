//! Tasks by the order in which they stop: inputs, then what they feed, then who is told, then what is written, then the
//! pages. The first that ends early stops them all.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// How long the tasks of one stage may take to stop.
const STAGE_DEADLINE: Duration = Duration::from_secs(12);

/// When a task stops, earliest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Takes things in.
    Input,
    /// Makes something of them.
    Derive,
    /// Tells people.
    Notify,
    /// Writes to PostgreSQL.
    Keep,
    /// Answers users.
    Face,
}

/// All long-lived tasks, not yet running.
#[derive(Default)]
pub(super) struct Stages(Vec<(Stage, &'static str, Start)>);

type Outcome = Result<(), String>;
type Start = Box<dyn FnOnce(CancellationToken) -> futures_util::future::BoxFuture<'static, Outcome> + Send>;

#[derive(Default)]
struct Running {
    stop: CancellationToken,
    tasks: JoinSet<Outcome>,
    names: BTreeMap<Id, &'static str>,
}

impl Stages {
    /// Adds a task that cannot fail.
    pub(super) fn spawn<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        stage: Stage,
        name: &'static str,
        start: impl FnOnce(CancellationToken) -> F + Send + 'static,
    ) {
        let start = |stop| -> futures_util::future::BoxFuture<'static, Outcome> {
            let task = start(stop);
            Box::pin(async move {
                task.await;
                Ok(())
            })
        };
        self.0.push((stage, name, Box::new(start)));
    }

    /// Adds a task that ends with an error when it fails.
    pub(super) fn spawn_fallible<E: std::fmt::Display, F: Future<Output = Result<(), E>> + Send + 'static>(
        &mut self,
        stage: Stage,
        name: &'static str,
        start: impl FnOnce(CancellationToken) -> F + Send + 'static,
    ) {
        let start = |stop| -> futures_util::future::BoxFuture<'static, Outcome> {
            let task = start(stop);
            Box::pin(async move { task.await.map_err(|error| error.to_string()) })
        };
        self.0.push((stage, name, Box::new(start)));
    }

    /// Runs all tasks until `shutdown`, or until one ends; then stops them stage by stage.
    ///
    /// # Errors
    /// Names the task that ended early, or those that did not stop in time.
    pub(super) async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut running: BTreeMap<Stage, Running> = BTreeMap::new();
        for (stage, name, start) in self.0 {
            let stage = running.entry(stage).or_default();
            let handle = stage.tasks.spawn(start(stage.stop.clone()));
            stage.names.insert(handle.id(), name);
        }
        let early = tokio::select! {
            () = shutdown.cancelled() => None,
            ended = first_end(&mut running) => Some(ended),
        };
        let mut hung = Vec::new();
        for stage in running.values_mut() {
            stage.stop.cancel();
            hung.extend(stage.join().await);
        }
        match (early, hung.is_empty()) {
            (Some(ended), _) => Err(anyhow::anyhow!("{ended}")),
            (None, false) => Err(anyhow::anyhow!("did not stop in time: {}", hung.join(", "))),
            (None, true) => Ok(()),
        }
    }
}

impl Running {
    /// Waits for the tasks to end; returns the names of those that do not.
    async fn join(&mut self) -> Vec<&'static str> {
        let ended = tokio::time::timeout(STAGE_DEADLINE, async {
            while let Some(ended) = self.tasks.join_next_with_id().await {
                let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
                self.names.remove(&id);
            }
        });
        match ended.await {
            Ok(()) => Vec::new(),
            Err(_) => std::mem::take(&mut self.names).into_values().collect(),
        }
    }
}

/// Waits until any task ends; says which and how.
async fn first_end(running: &mut BTreeMap<Stage, Running>) -> String {
    let ends = running.values_mut().map(|stage| {
        Box::pin(async move {
            match stage.tasks.join_next_with_id().await {
                Some(ended) => told(&ended, &mut stage.names),
                None => std::future::pending().await,
            }
        })
    });
    futures_util::future::select_all(ends).await.0
}

fn told(ended: &Result<(Id, Outcome), JoinError>, names: &mut BTreeMap<Id, &'static str>) -> String {
    let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
    let name = names.remove(&id).unwrap_or("a task");
    match ended {
        Ok((_, Ok(()))) => format!("{name} ended without being told to"),
        Ok((_, Err(error))) => format!("{name} failed: {error}"),
        Err(error) => format!("{name} crashed: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use parking_lot::Mutex;

    #[tokio::test(start_paused = true)]
    async fn stops_stage_by_stage_and_names_who_hangs() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut stages = Stages::default();
        for (stage, name) in [(Stage::Keep, "writer"), (Stage::Input, "reader"), (Stage::Notify, "teller")] {
            let order = Arc::clone(&order);
            stages.spawn(stage, name, move |stop| async move {
                stop.cancelled().await;
                order.lock().push(name);
            });
        }
        stages.spawn(Stage::Derive, "thinker", |_| std::future::pending());
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        let outcome = stages.run(shutdown).await.map_err(|error| error.to_string());
        assert_eq!(outcome, Err("did not stop in time: thinker".to_owned()));
        assert_eq!(*order.lock(), ["reader", "teller", "writer"]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_that_ends_early_stops_all() {
        let mut stages = Stages::default();
        stages.spawn(Stage::Input, "reader", |stop| async move { stop.cancelled().await });
        stages.spawn_fallible(Stage::Face, "server", |_| async { Err("address lost") });
        let outcome = stages.run(CancellationToken::new()).await.map_err(|error| error.to_string());
        assert_eq!(outcome, Err("server failed: address lost".to_owned()));
    }
}
