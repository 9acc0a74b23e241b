//! Partitions: made ahead of time, dropped when all in them is past its retention.
//!
//! Each partitioned table has a default partition (`…_other`), so a row of any time has a place: a late, imported or
//! wrongly clocked one needs no partition first. Such rows move out of it when their partition is made.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

use super::{Store, StoreError, values};
use crate::model::Timestamp;
use crate::units::PromDuration;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How far ahead partitions are made: an outage of maintenance this long costs nothing.
const AHEAD: Duration = Duration::from_secs(2 * 24 * 3600);
/// Makers of partitions wait for each other on this advisory lock ("mesh" in ASCII).
const MAINTENANCE_LOCK: i64 = 0x6d65_7368;

/// How long each kind of data is kept: `storage.retention`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionConfig {
    /// Samples as scraped. Default 7d.
    pub raw: PromDuration,
    /// Samples thinned to 5 minutes. Default 400d.
    pub five_minutes: PromDuration,
    /// Edges by minute. Default 2d.
    pub edge_minutes: PromDuration,
    /// Edges by hour. Default 400d.
    pub edge_hours: PromDuration,
    /// Spans. Default 2d; `traces.retention` where that is set.
    pub spans: PromDuration,
    /// Access log records. Default 2d.
    pub access_logs: PromDuration,
    /// Alert history, notifications and expired silences. Default 400d.
    pub alerts: PromDuration,
    /// Former generations of mesh resources, and findings that are gone. Default 400d.
    pub mesh: PromDuration,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        let days = |days: u64| PromDuration::from(Duration::from_secs(days * 24 * 3600));
        Self {
            raw: days(7),
            five_minutes: days(400),
            edge_minutes: days(2),
            edge_hours: days(400),
            spans: days(2),
            access_logs: days(2),
            alerts: days(400),
            mesh: days(400),
        }
    }
}

/// What one round of maintenance did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Partitions made.
    pub made: usize,
    /// Partitions dropped.
    pub dropped: usize,
    /// Rows deleted from what is not partitioned, and from default partitions.
    pub rows_deleted: u64,
}

struct Partitioned {
    table: &'static str,
    time_column: &'static str,
    width: Duration,
    retention: fn(&RetentionConfig) -> PromDuration,
}

const PARTITIONED: [Partitioned; 8] = [
    Partitioned { table: "chunk_raw", time_column: "from_at", width: DAY, retention: |r| r.raw },
    Partitioned {
        table: "chunk_5m",
        time_column: "from_at",
        width: Duration::from_secs(30 * 24 * 3600),
        retention: |r| r.five_minutes,
    },
    Partitioned { table: "edge_rollup_1m", time_column: "minute", width: DAY, retention: |r| r.edge_minutes },
    Partitioned {
        table: "edge_rollup_1h",
        time_column: "hour",
        width: Duration::from_secs(30 * 24 * 3600),
        retention: |r| r.edge_hours,
    },
    Partitioned { table: "span_batch", time_column: "last_at", width: DAY, retention: |r| r.spans },
    Partitioned { table: "access_log_batch", time_column: "from_at", width: DAY, retention: |r| r.access_logs },
    Partitioned { table: "access_log_part", time_column: "batch_at", width: DAY, retention: |r| r.access_logs },
    Partitioned {
        table: "alert_event",
        time_column: "at",
        width: Duration::from_secs(30 * 24 * 3600),
        retention: |r| r.alerts,
    },
];

impl Store {
    /// Makes partitions ahead, drops old ones, and deletes what else is past its retention. Idempotent.
    ///
    /// # Errors
    /// When the server is away, or a partition stays locked by a long query; the next round goes on from there.
    pub async fn maintain(&self, retention: &RetentionConfig, now: Timestamp) -> Result<Maintained, StoreError> {
        let mut done = Maintained::default();
        for partitioned in &PARTITIONED {
            let mut cutoff = now - (partitioned.retention)(retention).get();
            if partitioned.table == "chunk_raw" {
                // What is not thinned yet is all there is of its time.
                cutoff = cutoff.min(self.thinned_until().await?.unwrap_or(Timestamp::MIN));
            }
            done.made += self.make_partitions(partitioned, cutoff, now).await?;
            done.dropped += self.drop_partitions(partitioned, cutoff).await?;
            let Partitioned { table, time_column, .. } = partitioned;
            let delete = format!("DELETE FROM {table}_other WHERE {time_column} < $1");
            let delete = sqlx::query(AssertSqlSafe(delete)).bind(values::time(cutoff));
            done.rows_deleted += self.write_one("delete old rows", delete).await?;
        }
        done.rows_deleted += self.delete_old_rows(retention, now).await?;
        done.rows_deleted += self.delete_series_without_chunks(retention, now).await?;
        Ok(done)
    }

    /// Makes the partitions of the coming days, and of past days that have rows in the default partition.
    async fn make_partitions(&self, of: &Partitioned, cutoff: Timestamp, now: Timestamp) -> Result<usize, StoreError> {
        let width_ms = i64::try_from(of.width.as_millis()).unwrap_or(i64::MAX);
        let sql = format!(
            "SELECT DISTINCT floor(extract(epoch FROM {}) * 1000 / $1)::bigint FROM {}_other WHERE {0} BETWEEN $2 AND $3",
            of.time_column, of.table
        );
        let stray: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(width_ms)
            .bind(values::time(cutoff))
            .bind(values::time(now + AHEAD))
            .fetch_all(self.pool())
            .await
            .map_err(StoreError::doing("look for rows without a partition"))?;
        let number = |at: Timestamp| at.as_millis().div_euclid(width_ms);
        let mut wanted: Vec<i64> = (number(now)..=number(now + AHEAD)).chain(stray).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let there = self.partitions(of).await?;
        let mut made = 0;
        for number in wanted {
            let start = Timestamp::from_millis(number * width_ms);
            if !there.iter().any(|(_, from)| *from == start) {
                made += usize::from(self.make_partition(of, start).await?);
            }
        }
        Ok(made)
    }

    /// Makes one partition and moves the rows of its time there. `false`: another maker was first.
    async fn make_partition(&self, of: &Partitioned, start: Timestamp) -> Result<bool, StoreError> {
        let doing = "make a partition";
        let Partitioned { table, time_column, width, .. } = of;
        let (from, to) = (values::time(start), values::time(start + *width));
        let name = partition_name(table, from);
        let mut transaction = self.begin_write(doing).await?;
        lock(&mut transaction).await?;
        let there: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
            .bind(&name)
            .fetch_one(&mut *transaction)
            .await
            .map_err(StoreError::doing(doing))?;
        if there {
            return Ok(false);
        }
        let (from, to) = (from.to_rfc3339(), to.to_rfc3339());
        // Who writes goes through the table itself: held first, it lets nobody choose the default partition for a row that this
        // takes out of it. Readers go on.
        let sql = format!(
            "LOCK TABLE ONLY {table} IN SHARE ROW EXCLUSIVE MODE;
             CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING STORAGE INCLUDING CONSTRAINTS);
             LOCK TABLE {table}_other IN ACCESS EXCLUSIVE MODE;
             WITH moved AS (
                 DELETE FROM {table}_other WHERE {time_column} >= '{from}' AND {time_column} < '{to}' RETURNING *
             ) INSERT INTO {name} SELECT * FROM moved;
             ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ('{from}') TO ('{to}')"
        );
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *transaction).await.map_err(StoreError::doing(doing))?;
        transaction.commit().await.map_err(StoreError::doing(doing))?;
        Ok(true)
    }

    /// Drops each partition that ends at or before `cutoff`.
    async fn drop_partitions(&self, of: &Partitioned, cutoff: Timestamp) -> Result<usize, StoreError> {
        let mut dropped = 0;
        for (name, start) in self.partitions(of).await? {
            if start + of.width <= cutoff {
                let drop_it = format!("DROP TABLE IF EXISTS {name}");
                self.write_one("drop a partition", sqlx::query(AssertSqlSafe(drop_it))).await?;
                dropped += 1;
            }
        }
        Ok(dropped)
    }

    /// Name and start of each partition but the default one.
    async fn partitions(&self, of: &Partitioned) -> Result<Vec<(String, Timestamp)>, StoreError> {
        let query = "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                     WHERE i.inhparent = $1::regclass";
        let rows = sqlx::query(query).bind(of.table).fetch_all(self.pool()).await;
        let rows = rows.map_err(StoreError::doing("list partitions"))?;
        let names = rows.iter().map(|row| row.get::<String, _>(0));
        Ok(names.filter_map(|name| Some((name.clone(), partition_start(of.table, &name)?))).collect())
    }

    async fn delete_old_rows(&self, retention: &RetentionConfig, now: Timestamp) -> Result<u64, StoreError> {
        let mut deleted = 0;
        for (sql, kept) in [
            ("DELETE FROM notification WHERE coalesce(sent_at, given_up_at) < $1", retention.alerts),
            ("DELETE FROM notify_log WHERE expires_at < $1", PromDuration::default()),
            ("DELETE FROM finding WHERE gone_at < $1", retention.mesh),
            (include_str!("sql/delete_old_resources.sql"), retention.mesh),
            ("DELETE FROM edge_pack WHERE seconds < 3600 AND start < $1", retention.edge_minutes),
            ("DELETE FROM edge_pack WHERE seconds >= 3600 AND start < $1", retention.edge_hours),
        ] {
            let delete = sqlx::query(sql).bind(values::time(now - kept.get()));
            deleted += self.write_one("delete old rows", delete).await?;
        }
        Ok(deleted)
    }

    /// Forgets series whose last chunk is past every retention, and label sets and metrics that no series has.
    async fn delete_series_without_chunks(
        &self,
        retention: &RetentionConfig,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let doing = "delete series without samples";
        let kept = retention.raw.max(retention.five_minutes).get() + DAY;
        let _catalogue = self.0.ids.catalogue.lock().await;
        let mut transaction = self.begin_write(doing).await?;
        let series = sqlx::query("DELETE FROM series WHERE last_day < $1").bind(values::time(now - kept).date_naive());
        let mut deleted = series.execute(&mut *transaction).await.map_err(StoreError::doing(doing))?.rows_affected();
        if deleted > 0 {
            self.0.ids.label_sets.clear();
            self.0.ids.metrics.clear();
            self.0.ids.series.clear();
            for sql in [
                "DELETE FROM label_set l WHERE NOT EXISTS (SELECT FROM series s WHERE s.label_set_id = l.label_set_id)",
                "DELETE FROM metric m WHERE NOT EXISTS (SELECT FROM series s WHERE s.metric_id = m.metric_id)",
            ] {
                let done = sqlx::query(sql).execute(&mut *transaction).await.map_err(StoreError::doing(doing))?;
                deleted += done.rows_affected();
            }
        }
        transaction.commit().await.map_err(StoreError::doing(doing))?;
        Ok(deleted)
    }
}

/// Makes this transaction the only one that makes partitions.
async fn lock(connection: &mut PgConnection) -> Result<(), StoreError> {
    let lock = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(MAINTENANCE_LOCK).execute(connection).await;
    lock.map(drop).map_err(StoreError::doing("wait for other maintenance"))
}

fn partition_name(table: &str, start: DateTime<Utc>) -> String {
    format!("{table}_{}", start.format("%Y%m%d"))
}

/// The start that a partition's name tells; `None` for the default partition and for tables that are not ours.
fn partition_start(table: &str, name: &str) -> Option<Timestamp> {
    let day = name.strip_prefix(table)?.strip_prefix('_')?;
    let day = chrono::NaiveDate::parse_from_str(day, "%Y%m%d").ok()?;
    Some(Timestamp::from(day.and_hms_opt(0, 0, 0)?.and_utc()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_partition_name_tells_its_start() {
        let start = Timestamp::from_millis(1_767_225_600_000);
        let name = partition_name("chunk_raw", start.to_chrono());
        assert_eq!(name, "chunk_raw_20260101");
        assert_eq!(partition_start("chunk_raw", &name), Some(start));
        assert_eq!(partition_start("chunk_raw", "chunk_raw_other"), None);
    }
}
