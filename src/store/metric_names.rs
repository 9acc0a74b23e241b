//! The names of the metrics that have chunks, kept in memory, so that a question for a metric that is in no chunk (in a
//! young store: any question) need not go to PostgreSQL.
//!
//! In: the table `metric`, and the mark in `progress` that everyone moves on who adds to it. Out: the names. Invariant:
//! what this process writes is seen at once, what another meshscope on the same database writes within
//! [`PROVEN_FOR`]; without [`Store::watch_health`], which looks at the mark, nothing is kept.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sqlx::postgres::PgConnection;

use super::{Store, StoreError};

/// How long names count after the mark was last looked at, which happens each second.
const PROVEN_FOR: Duration = Duration::from_secs(3);
/// How long names are kept at most: somebody may have loaded rows by hand, which moves no mark.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// The row of `progress` whose `seq` is the mark.
const MARK: &str = "metric_names";

/// By id.
pub(super) type Names = Arc<HashMap<i64, String>>;

#[derive(Default)]
pub(super) struct MetricNames(Mutex<State>);

#[derive(Default)]
struct State {
    /// With the time at which reading them began.
    names: Option<(Names, Instant)>,
    /// Counts changes: names whose reading began before one are not kept.
    generation: u64,
    mark: Option<i64>,
    /// When the mark was looked at last.
    proven: Option<Instant>,
}

impl State {
    fn forget(&mut self) {
        self.names = None;
        self.generation += 1;
    }
}

impl MetricNames {
    /// What is known, when it is sure to be all; else the generation to hand to [`MetricNames::keep`].
    fn known(&self, now: Instant) -> Result<Names, u64> {
        let state = self.0.lock();
        let is_proven = state.proven.is_some_and(|at| now.duration_since(at) < PROVEN_FOR);
        match &state.names {
            Some((names, read)) if is_proven && now.duration_since(*read) < KEPT_FOR => Ok(Arc::clone(names)),
            _ => Err(state.generation),
        }
    }

    fn keep(&self, names: &Names, generation: u64, began: Instant) {
        let mut state = self.0.lock();
        if state.generation == generation {
            state.names = Some((Arc::clone(names), began));
        }
    }

    /// This process has added names, or tried to.
    pub(super) fn changed(&self) {
        self.0.lock().forget();
    }

    /// The mark is this now.
    pub(super) fn seen(&self, mark: Option<i64>, now: Instant) {
        let mut state = self.0.lock();
        // The first look proves nothing of names that were read before it.
        if state.mark != mark || state.proven.is_none() {
            state.forget();
        }
        (state.mark, state.proven) = (mark, Some(now));
    }
}

impl Store {
    /// Names of the metrics that have chunks, by id.
    pub(super) async fn metric_names(&self) -> Result<Names, StoreError> {
        let began = Instant::now();
        let generation = match self.0.metric_names.known(began) {
            Ok(names) => return Ok(names),
            Err(generation) => generation,
        };
        let rows: Vec<(i64, String)> = sqlx::query_as("SELECT metric_id, name FROM metric")
            .fetch_all(self.pool())
            .await
            .map_err(StoreError::doing("read metric names"))?;
        let names: Names = Arc::new(rows.into_iter().collect());
        self.0.metric_names.keep(&names, generation, began);
        Ok(names)
    }

    /// Asks whether the server is there, and where the mark is.
    pub(super) async fn probe(&self) -> Result<(), sqlx::Error> {
        let mark = sqlx::query_scalar("SELECT seq FROM progress WHERE name = $1").bind(MARK);
        let mark: Option<i64> = mark.fetch_optional(self.pool()).await?;
        self.0.metric_names.seen(mark, Instant::now());
        Ok(())
    }
}

/// Moves the mark on, in the transaction that adds names.
pub(super) async fn move_mark(connection: &mut PgConnection) -> Result<(), StoreError> {
    let upsert = "INSERT INTO progress (name, at, seq) VALUES ($1, now(), 1)
                  ON CONFLICT (name) DO UPDATE SET at = excluded.at, seq = progress.seq + 1";
    let done = sqlx::query(upsert).bind(MARK).execute(connection).await;
    done.map(drop).map_err(StoreError::doing("write progress"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn names(name: &str) -> Names {
        Arc::new(HashMap::from([(1, name.to_owned())]))
    }

    #[test]
    fn names_count_while_the_mark_is_watched_and_stands_still() {
        let (kept, start) = (MetricNames::default(), Instant::now());
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        let generation = kept.known(start).unwrap_err();
        kept.keep(&names("a"), generation, start);
        assert!(kept.known(start).is_err(), "nobody watches the mark");
        kept.seen(None, start);
        let generation = kept.known(start).unwrap_err();
        kept.keep(&names("a"), generation, start);
        assert_eq!(kept.known(after(2)), Ok(names("a")));
        assert!(kept.known(after(3)).is_err(), "the mark was not looked at for too long");
        kept.seen(None, after(4));
        assert_eq!(kept.known(after(5)), Ok(names("a")));
        kept.seen(Some(1), after(6));
        assert!(kept.known(after(6)).is_err(), "another process has added names");
        kept.keep(&names("b"), kept.known(after(6)).unwrap_err(), after(6));
        kept.seen(Some(1), after(65));
        assert_eq!(kept.known(after(65)), Ok(names("b")));
        assert!(kept.known(after(66)).is_err(), "too old, whatever the mark says");
    }

    #[test]
    fn names_read_before_a_change_are_not_kept_after_it() {
        let (kept, now) = (MetricNames::default(), Instant::now());
        kept.seen(Some(7), now);
        let generation = kept.known(now).unwrap_err();
        kept.changed();
        kept.keep(&names("old"), generation, now);
        assert!(kept.known(now).is_err());
        kept.keep(&names("new"), kept.known(now).unwrap_err(), now);
        assert_eq!(kept.known(now), Ok(names("new")));
    }
}
