//! Edge minutes and hours: what each edge of the mesh did.
//!
//! Invariant: the row of one edge and minute is replaced as a whole, so a minute written again with more in it is right.

mod pack;
mod packing;
mod rows;
mod sums;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

use super::chunks::set_progress;
use super::{Store, StoreError, values};
use crate::model::workload::Outcome;
use crate::model::{EdgeKey, EdgeMinute, Timestamp};
use packing::delete_packs;
use rows::{
    edge_from, edge_id, insert_edges, insert_layouts, insert_outcomes, insert_rollup, layout_id, minute_from,
    outcome_id,
};
use sums::{add, add_to};

pub(super) use packing::EdgeKeys;
pub use packing::EdgeSums;

/// Its place in `progress`.
const COMPLETE_UNTIL: &str = "edges_complete_until";
const HOUR: Duration = Duration::from_secs(3600);

/// Which table of edges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RollupTier {
    /// One row a minute.
    Minutes,
    /// One row an hour.
    Hours,
}

impl RollupTier {
    fn table(self) -> &'static str {
        match self {
            Self::Minutes => "edge_rollup_1m",
            Self::Hours => "edge_rollup_1h",
        }
    }

    fn time_column(self) -> &'static str {
        match self {
            Self::Minutes => "minute",
            Self::Hours => "hour",
        }
    }
}

impl Store {
    /// Writes minutes; one that is there already is replaced. Of one edge and minute given twice, the sum is written.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn write_edges(&self, minutes: Vec<EdgeMinute>) -> Result<(), StoreError> {
        self.write_edges_until(minutes, None).await
    }

    /// As [`Store::write_edges`]; with them it is remembered that all minutes before `complete_until` are written.
    ///
    /// # Errors
    /// When the server is away; then nothing has happened.
    pub async fn write_edges_until(
        &self,
        minutes: Vec<EdgeMinute>,
        complete_until: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let mut transaction = self.begin_relaxed("write edges").await?;
        let written = self.write_rollup(&mut transaction, RollupTier::Minutes, minutes).await?;
        if let Some(until) = complete_until {
            set_progress(&mut transaction, COMPLETE_UNTIL, until).await?;
        }
        transaction.commit().await.map_err(StoreError::doing("write edges"))?;
        self.remember_edges(written);
        Ok(())
    }

    /// Minutes before this are written and do not change any more; `None` when nobody has said.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn edges_complete_until(&self) -> Result<Option<Timestamp>, StoreError> {
        self.progress(COMPLETE_UNTIL).await
    }

    /// Deletes minutes of edges.
    ///
    /// # Errors
    /// When the server is away; then none is deleted.
    pub async fn delete_edge_minutes(&self, minutes: &[(Arc<EdgeKey>, Timestamp)]) -> Result<(), StoreError> {
        if minutes.is_empty() {
            return Ok(());
        }
        let ids: Vec<i64> = minutes.iter().map(|(edge, _)| edge_id(edge)).collect();
        let times: Vec<DateTime<Utc>> = minutes.iter().map(|(_, minute)| values::time(*minute)).collect();
        let delete = "DELETE FROM edge_rollup_1m r USING unnest($1::bigint[], $2::timestamptz[]) AS d (edge_id, minute)
                      WHERE r.edge_id = d.edge_id AND r.minute = d.minute";
        let mut transaction = self.begin_write("delete edge minutes").await?;
        let done = sqlx::query(delete).bind(ids).bind(times).execute(&mut *transaction).await;
        done.map_err(StoreError::doing("delete edge minutes"))?;
        delete_packs(&mut transaction, RollupTier::Minutes, minutes.iter().map(|(_, minute)| *minute)).await?;
        transaction.commit().await.map_err(StoreError::doing("delete edge minutes"))
    }

    /// What each edge did in each minute (or hour) that starts in `[from, to)`, oldest first.
    ///
    /// # Errors
    /// When the server is away or a row is damaged.
    pub async fn edges(&self, tier: RollupTier, from: Timestamp, to: Timestamp) -> Result<Vec<EdgeMinute>, StoreError> {
        let mut found = Vec::new();
        self.read_edges(tier, (from, to), |_, minute| found.push(minute)).await?;
        Ok(found)
    }

    /// The sum of each edge over `[from, to)`, under `from` as its minute: the graph of a range.
    ///
    /// # Errors
    /// When the server is away or a row is damaged.
    pub async fn edge_totals(
        &self,
        tier: RollupTier,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<EdgeMinute>, StoreError> {
        let mut totals = HashMap::<i64, EdgeMinute>::new();
        self.read_edges(tier, (from, to), |edge, minute| add_to(&mut totals, edge, minute)).await?;
        Ok(totals.into_values().map(|total| EdgeMinute { minute: from, ..total }).collect())
    }

    /// Sums the minutes of each full hour that ended before `now - settle` into hours; returns how many hours. An hour
    /// whose minutes may still grow, or wait to be written after an outage, is summed later.
    ///
    /// # Errors
    /// When the server is away; the next call goes on from there.
    pub async fn roll_hours(&self, now: Timestamp, settle: Duration) -> Result<usize, StoreError> {
        let complete = self.edges_complete_until().await?.unwrap_or(Timestamp::MAX);
        let end = (now - settle).min(complete).floor_to(HOUR);
        let first: Option<DateTime<Utc>> = sqlx::query_scalar("SELECT min(minute) FROM edge_rollup_1m")
            .fetch_one(self.pool())
            .await
            .map_err(StoreError::doing("find the first edge minute"))?;
        let Some(first) = first else { return Ok(0) };
        // A boundary in the future is of a clock that was wrong: everything is rolled again.
        let rolled = self.progress("rolled_hours_until").await?.filter(|until| *until <= now).unwrap_or(Timestamp::MIN);
        let mut hour = Timestamp::from(first).floor_to(HOUR).max(rolled);
        let mut rolled_hours = 0;
        while hour < end {
            let sums = self.edge_totals(RollupTier::Minutes, hour, hour + HOUR).await?;
            let mut transaction = self.begin_write("roll edges up").await?;
            let written = self.write_rollup(&mut transaction, RollupTier::Hours, sums).await?;
            set_progress(&mut transaction, "rolled_hours_until", hour + HOUR).await?;
            transaction.commit().await.map_err(StoreError::doing("roll edges up"))?;
            self.remember_edges(written);
            hour = hour + HOUR;
            rolled_hours += 1;
        }
        Ok(rolled_hours)
    }

    /// Up to which time hours are summed; `None` before the first.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn rolled_hours_until(&self) -> Result<Option<Timestamp>, StoreError> {
        self.progress("rolled_hours_until").await
    }

    async fn read_edges(
        &self,
        tier: RollupTier,
        (from, to): (Timestamp, Timestamp),
        mut take: impl FnMut(i64, EdgeMinute),
    ) -> Result<(), StoreError> {
        let keys = self.read_edge_keys(tier, (from, to)).await?;
        let outcomes = self.read_outcomes().await?;
        let layouts = self.read_layouts().await?;
        let (table, at) = (tier.table(), tier.time_column());
        let sql = format!(
            "SELECT {at} AS at, edge_id, outcome_ids, outcome_counts, layout_id, latency_counts, latency_sum_ms,
                    request_bytes, response_bytes, connections_closed, request_messages, response_messages
             FROM {table} WHERE {at} >= $1 AND {at} < $2 ORDER BY {at}"
        );
        let mut rows =
            sqlx::query(AssertSqlSafe(sql)).bind(values::time(from)).bind(values::time(to)).fetch(self.pool());
        while let Some(row) = rows.try_next().await.map_err(StoreError::doing("read edges"))? {
            let id: i64 = row.get("edge_id");
            // A row committed after the keys were read: the next reader sees it.
            let Some(edge) = keys.get(&id) else { continue };
            take(id, minute_from(&row, Arc::clone(edge), &outcomes, &layouts)?);
        }
        Ok(())
    }

    async fn read_edge_keys(
        &self,
        tier: RollupTier,
        (from, to): (Timestamp, Timestamp),
    ) -> Result<HashMap<i64, Arc<EdgeKey>>, StoreError> {
        let (table, at) = (tier.table(), tier.time_column());
        let sql = format!(
            "SELECT e.* FROM edge e
             WHERE edge_id IN (SELECT edge_id FROM {table} WHERE {at} >= $1 AND {at} < $2)"
        );
        let rows =
            sqlx::query(AssertSqlSafe(sql)).bind(values::time(from)).bind(values::time(to)).fetch_all(self.pool());
        let rows = rows.await.map_err(StoreError::doing("read edges"))?;
        rows.iter().map(|row| Ok((row.get("edge_id"), Arc::new(edge_from(row)?)))).collect()
    }

    async fn read_outcomes(&self) -> Result<HashMap<i64, Outcome>, StoreError> {
        let rows: Vec<(i64, String, String, String)> =
            sqlx::query_as("SELECT outcome_id, code, grpc_status, flags FROM outcome")
                .fetch_all(self.pool())
                .await
                .map_err(StoreError::doing("read outcomes"))?;
        let outcome = |code: String, grpc: String, flags: String| Outcome {
            code: code.into(),
            grpc_status: grpc.into(),
            flags: flags.into(),
        };
        Ok(rows.into_iter().map(|(id, code, grpc, flags)| (id, outcome(code, grpc, flags))).collect())
    }

    async fn read_layouts(&self) -> Result<HashMap<i64, Arc<[f64]>>, StoreError> {
        let rows: Vec<(i64, Vec<f64>)> = sqlx::query_as("SELECT layout_id, bounds_ms FROM latency_layout")
            .fetch_all(self.pool())
            .await
            .map_err(StoreError::doing("read histogram layouts"))?;
        Ok(rows.into_iter().map(|(id, bounds)| (id, bounds.into())).collect())
    }

    async fn write_rollup(
        &self,
        connection: &mut PgConnection,
        tier: RollupTier,
        minutes: Vec<EdgeMinute>,
    ) -> Result<WrittenEdges, StoreError> {
        let mut rows = HashMap::<(i64, Timestamp), EdgeMinute>::new();
        for minute in minutes {
            let key = (edge_id(&minute.edge), minute.minute);
            match rows.get_mut(&key) {
                Some(row) => add(row, minute),
                None => drop(rows.insert(key, minute)),
            }
        }
        let rows: Vec<(i64, EdgeMinute)> = rows.into_iter().map(|((id, _), minute)| (id, minute)).collect();
        let written = self.write_edge_parts(connection, &rows).await?;
        delete_packs(connection, tier, rows.iter().map(|(_, row)| row.minute)).await?;
        insert_rollup(connection, tier, rows).await?;
        Ok(written)
    }

    /// Inserts the edges, outcomes and histogram layouts that are not known to be stored.
    async fn write_edge_parts(
        &self,
        connection: &mut PgConnection,
        rows: &[(i64, EdgeMinute)],
    ) -> Result<WrittenEdges, StoreError> {
        let known = &self.0.ids;
        let outcomes: HashMap<i64, &Outcome> =
            rows.iter().flat_map(|(_, m)| &m.requests).map(|(outcome, _)| (outcome_id(outcome), outcome)).collect();
        let layouts: HashMap<i64, &Arc<[f64]>> =
            (rows.iter()).filter_map(|(_, m)| Some((layout_id(&m.latency)?, &m.latency.bounds_ms))).collect();
        let edges: HashMap<i64, &EdgeKey> = rows.iter().map(|(id, m)| (*id, &*m.edge)).collect();
        let written = WrittenEdges {
            edges: known.edges.missing(edges.keys().map(|id| (*id, ()))).into_iter().collect(),
            outcomes: known.outcomes.missing(outcomes.keys().map(|id| (*id, ()))).into_iter().collect(),
            layouts: known.layouts.missing(layouts.keys().map(|id| (*id, ()))).into_iter().collect(),
        };
        let new: Vec<(i64, &EdgeKey)> = written.edges.iter().map(|id| (*id, edges[id])).collect();
        insert_edges(connection, &new).await?;
        let new: Vec<(i64, &Outcome)> = written.outcomes.iter().map(|id| (*id, outcomes[id])).collect();
        insert_outcomes(connection, &new).await?;
        let new: Vec<(i64, Vec<f64>)> = written.layouts.iter().map(|id| (*id, layouts[id].to_vec())).collect();
        insert_layouts(connection, new).await?;
        Ok(written)
    }

    fn remember_edges(&self, written: WrittenEdges) {
        let WrittenEdges { edges, outcomes, layouts } = written;
        self.0.ids.edges.add(edges.into_iter().map(|id| (id, ())));
        self.0.ids.outcomes.add(outcomes.into_iter().map(|id| (id, ())));
        self.0.ids.layouts.add(layouts.into_iter().map(|id| (id, ())));
    }
}

struct WrittenEdges {
    edges: Vec<i64>,
    outcomes: Vec<i64>,
    layouts: Vec<i64>,
}
