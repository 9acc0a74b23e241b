//! Edge minutes and hours: what each edge of the mesh did.
//!
//! Invariant: the row of one edge and minute is replaced as a whole, so a minute written again with more in it is right.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Row};

use super::bulk::{Column, Insert, OnConflict};
use super::chunks::set_progress;
use super::ids::id_of;
use super::{Store, StoreError, values};
use crate::model::workload::{LatencyHistogram, MeshKind, Outcome, Protocol, Reporter, Security, Service};
use crate::model::{EdgeKey, EdgeMinute, Timestamp, Workload};

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
        let mut transaction = self.begin_relaxed("write edges").await?;
        let written = self.write_rollup(&mut transaction, RollupTier::Minutes, minutes).await?;
        transaction.commit().await.map_err(StoreError::doing("write edges"))?;
        self.remember_edges(written);
        Ok(())
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

    /// Sums the minutes of each full hour that ended before `now - settle` into hours; returns how many hours.
    ///
    /// # Errors
    /// When the server is away; the next call goes on from there.
    pub async fn roll_hours(&self, now: Timestamp, settle: Duration) -> Result<usize, StoreError> {
        let end = (now - settle).floor_to(HOUR);
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
            let mut transaction = self.begin("roll edges up").await?;
            let written = self.write_rollup(&mut transaction, RollupTier::Hours, sums).await?;
            set_progress(&mut transaction, "rolled_hours_until", hour + HOUR).await?;
            transaction.commit().await.map_err(StoreError::doing("roll edges up"))?;
            self.remember_edges(written);
            hour = hour + HOUR;
            rolled_hours += 1;
        }
        Ok(rolled_hours)
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
                    request_bytes, response_bytes, connections_closed
             FROM {table} WHERE {at} >= $1 AND {at} < $2 ORDER BY {at}"
        );
        let mut rows =
            sqlx::query(AssertSqlSafe(sql)).bind(values::time(from)).bind(values::time(to)).fetch(self.pool());
        while let Some(row) = rows.try_next().await.map_err(StoreError::doing("read edges"))? {
            let id: i64 = row.get("edge_id");
            // A row committed after the keys were read: the next reader sees it.
            let Some(edge) = keys.get(&id) else { continue };
            take(id, minute_from(&row, edge.clone(), &outcomes, &layouts)?);
        }
        Ok(())
    }

    async fn read_edge_keys(
        &self,
        tier: RollupTier,
        (from, to): (Timestamp, Timestamp),
    ) -> Result<HashMap<i64, EdgeKey>, StoreError> {
        let (table, at) = (tier.table(), tier.time_column());
        let sql = format!(
            "SELECT e.* FROM edge e
             WHERE edge_id IN (SELECT edge_id FROM {table} WHERE {at} >= $1 AND {at} < $2)"
        );
        let rows =
            sqlx::query(AssertSqlSafe(sql)).bind(values::time(from)).bind(values::time(to)).fetch_all(self.pool());
        let rows = rows.await.map_err(StoreError::doing("read edges"))?;
        rows.iter().map(|row| Ok((row.get("edge_id"), edge_from(row)?))).collect()
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
        let edges: HashMap<i64, &EdgeKey> = rows.iter().map(|(id, m)| (*id, &m.edge)).collect();
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

/// The columns of an edge that may be null, in the order of [`edge_texts`].
const EDGE_COLUMNS: [&str; 15] = [
    "source_cluster",
    "source_namespace",
    "source_workload",
    "source_app",
    "source_version",
    "destination_cluster",
    "destination_namespace",
    "destination_workload",
    "destination_app",
    "destination_version",
    "service",
    "service_namespace",
    "service_host",
    "source_principal",
    "destination_principal",
];

fn edge_texts(edge: &EdgeKey) -> [&Option<Arc<str>>; 15] {
    let EdgeKey { source: s, destination: d, service, source_principal, destination_principal, .. } = edge;
    [
        &s.cluster,
        &s.namespace,
        &s.name,
        &s.app,
        &s.version,
        &d.cluster,
        &d.namespace,
        &d.name,
        &d.app,
        &d.version,
        &service.name,
        &service.namespace,
        &service.host,
        source_principal,
        destination_principal,
    ]
}

fn edge_id(edge: &EdgeKey) -> i64 {
    let kinds = [edge.mesh.as_str(), edge.reporter.as_str(), edge.protocol.as_str(), edge.security.as_str()];
    // "0" and "1…" keep None apart from the empty text.
    let texts = edge_texts(edge).map(|text| text.as_ref().map_or("0".to_owned(), |t| format!("1{}", values::text(t))));
    id_of(kinds.map(str::to_owned).into_iter().chain(texts))
}

fn outcome_id(outcome: &Outcome) -> i64 {
    id_of([&outcome.code, &outcome.grpc_status, &outcome.flags].map(|text| values::text(text).into_owned()))
}

/// `None` for an edge without a histogram.
fn layout_id(latency: &LatencyHistogram) -> Option<i64> {
    (!latency.bounds_ms.is_empty()).then(|| id_of(latency.bounds_ms.iter().map(|bound| bound.to_bits().to_be_bytes())))
}

async fn insert_edges(connection: &mut PgConnection, new: &[(i64, &EdgeKey)]) -> Result<(), StoreError> {
    let kind = |pick: fn(&EdgeKey) -> &'static str| Column::Text(new.iter().map(|(_, e)| pick(e).to_owned()).collect());
    let mut columns = vec![
        ("edge_id", Column::Bigint(new.iter().map(|(id, _)| *id).collect())),
        ("mesh", kind(|e| e.mesh.as_str())),
        ("reporter", kind(|e| e.reporter.as_str())),
        ("protocol", kind(|e| e.protocol.as_str())),
        ("security", kind(|e| e.security.as_str())),
    ];
    for (i, name) in EDGE_COLUMNS.into_iter().enumerate() {
        let texts = new.iter().map(|(_, edge)| edge_texts(edge)[i].as_deref().map(str::to_owned)).collect();
        columns.push((name, Column::OptionalText(texts)));
    }
    Insert { table: "edge", columns, on_conflict: OnConflict::Often("(edge_id) DO NOTHING") }.run(connection).await
}

async fn insert_outcomes(connection: &mut PgConnection, new: &[(i64, &Outcome)]) -> Result<(), StoreError> {
    let text = |pick: fn(&Outcome) -> &Arc<str>| Column::Text(new.iter().map(|(_, o)| pick(o).to_string()).collect());
    let columns = vec![
        ("outcome_id", Column::Bigint(new.iter().map(|(id, _)| *id).collect())),
        ("code", text(|o| &o.code)),
        ("grpc_status", text(|o| &o.grpc_status)),
        ("flags", text(|o| &o.flags)),
    ];
    Insert { table: "outcome", columns, on_conflict: OnConflict::Often("(outcome_id) DO NOTHING") }
        .run(connection)
        .await
}

async fn insert_layouts(connection: &mut PgConnection, new: Vec<(i64, Vec<f64>)>) -> Result<(), StoreError> {
    let (ids, bounds) = new.into_iter().unzip();
    let columns = vec![("layout_id", Column::Bigint(ids)), ("bounds_ms", Column::DoubleArray(bounds))];
    Insert { table: "latency_layout", columns, on_conflict: OnConflict::Often("(layout_id) DO NOTHING") }
        .run(connection)
        .await
}

async fn insert_rollup(
    connection: &mut PgConnection,
    tier: RollupTier,
    rows: Vec<(i64, EdgeMinute)>,
) -> Result<(), StoreError> {
    let number = |pick: fn(&EdgeMinute) -> f64| Column::Double(rows.iter().map(|(_, m)| pick(m)).collect());
    let outcome_ids = |m: &EdgeMinute| m.requests.iter().map(|(outcome, _)| outcome_id(outcome)).collect();
    let columns = vec![
        (tier.time_column(), Column::Time(rows.iter().map(|(_, m)| values::time(m.minute)).collect())),
        ("edge_id", Column::Bigint(rows.iter().map(|(id, _)| *id).collect())),
        ("outcome_ids", Column::BigintArray(rows.iter().map(|(_, m)| outcome_ids(m)).collect())),
        (
            "outcome_counts",
            Column::DoubleArray(rows.iter().map(|(_, m)| m.requests.iter().map(|r| r.1).collect()).collect()),
        ),
        ("layout_id", Column::OptionalBigint(rows.iter().map(|(_, m)| layout_id(&m.latency)).collect())),
        ("latency_sum_ms", number(|m| m.latency.sum_ms)),
        ("request_bytes", number(|m| m.request_bytes)),
        ("response_bytes", number(|m| m.response_bytes)),
        ("connections_closed", number(|m| m.connections_closed)),
        ("latency_counts", Column::DoubleArray(rows.into_iter().map(|(_, m)| m.latency.counts).collect())),
    ];
    let on_conflict = OnConflict::Often(match tier {
        RollupTier::Minutes => include_str!("sql/edge_rollup_1m_conflict.sql"),
        RollupTier::Hours => include_str!("sql/edge_rollup_1h_conflict.sql"),
    });
    Insert { table: tier.table(), columns, on_conflict }.run(connection).await
}

fn edge_from(row: &PgRow) -> Result<EdgeKey, StoreError> {
    let text = |name: &str| row.get::<Option<String>, _>(name).map(Arc::<str>::from);
    let kind = |name: &'static str| row.get::<String, _>(name);
    let unknown = |name: &str| StoreError::Damaged { what: "edge", reason: format!("unknown {name}") };
    let workload = |side: &str| Workload {
        cluster: text(&format!("{side}_cluster")),
        namespace: text(&format!("{side}_namespace")),
        name: text(&format!("{side}_workload")),
        app: text(&format!("{side}_app")),
        version: text(&format!("{side}_version")),
    };
    Ok(EdgeKey {
        mesh: MeshKind::from_name(&kind("mesh")).ok_or_else(|| unknown("mesh"))?,
        reporter: Reporter::from_name(&kind("reporter")).ok_or_else(|| unknown("reporter"))?,
        protocol: Protocol::from_name(&kind("protocol")).ok_or_else(|| unknown("protocol"))?,
        source: workload("source"),
        destination: workload("destination"),
        service: Service { name: text("service"), namespace: text("service_namespace"), host: text("service_host") },
        source_principal: text("source_principal"),
        destination_principal: text("destination_principal"),
        security: Security::from_name(&kind("security")),
    })
}

fn minute_from(
    row: &PgRow,
    edge: EdgeKey,
    outcomes: &HashMap<i64, Outcome>,
    layouts: &HashMap<i64, Arc<[f64]>>,
) -> Result<EdgeMinute, StoreError> {
    let damaged = |reason: &str| StoreError::Damaged { what: "edge minute", reason: reason.to_owned() };
    let ids: Vec<i64> = row.get("outcome_ids");
    let counts: Vec<f64> = row.get("outcome_counts");
    let requests = ids.iter().zip(counts).map(|(id, count)| Some((outcomes.get(id)?.clone(), count)));
    let bounds_ms = match row.get::<Option<i64>, _>("layout_id") {
        Some(id) => layouts.get(&id).cloned().ok_or_else(|| damaged("its histogram layout is missing"))?,
        None => Arc::default(),
    };
    Ok(EdgeMinute {
        minute: row.get::<DateTime<Utc>, _>("at").into(),
        edge,
        requests: requests.collect::<Option<_>>().ok_or_else(|| damaged("an outcome of it is missing"))?,
        latency: LatencyHistogram { bounds_ms, counts: row.get("latency_counts"), sum_ms: row.get("latency_sum_ms") },
        request_bytes: row.get("request_bytes"),
        response_bytes: row.get("response_bytes"),
        connections_closed: row.get("connections_closed"),
    })
}

fn add_to(totals: &mut HashMap<i64, EdgeMinute>, edge: i64, minute: EdgeMinute) {
    match totals.get_mut(&edge) {
        Some(total) => add(total, minute),
        None => drop(totals.insert(edge, minute)),
    }
}

/// Adds what the same edge did at another time.
fn add(total: &mut EdgeMinute, more: EdgeMinute) {
    for (outcome, count) in more.requests {
        match total.requests.iter_mut().find(|(known, _)| *known == outcome) {
            Some((_, sum)) => *sum += count,
            None => total.requests.push((outcome, count)),
        }
    }
    add_latency(&mut total.latency, more.latency);
    total.request_bytes += more.request_bytes;
    total.response_bytes += more.response_bytes;
    total.connections_closed += more.connections_closed;
}

/// Adds histograms. Of different layouts the sum has all bounds of both: each bucket's count stays under its own bound.
fn add_latency(total: &mut LatencyHistogram, more: LatencyHistogram) {
    if more.counts.is_empty() {
        total.sum_ms += more.sum_ms;
        return;
    }
    if total.counts.is_empty() {
        *total = LatencyHistogram { sum_ms: total.sum_ms + more.sum_ms, ..more };
        return;
    }
    if total.bounds_ms != more.bounds_ms {
        let mut bounds: Vec<f64> = total.bounds_ms.iter().chain(&*more.bounds_ms).copied().collect();
        bounds.sort_by(f64::total_cmp);
        bounds.dedup();
        total.counts = spread(total, &bounds);
        let counts = spread(&more, &bounds);
        total.counts.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        total.bounds_ms = bounds.into();
    } else {
        total.counts.iter_mut().zip(more.counts).for_each(|(sum, count)| *sum += count);
    }
    total.sum_ms += more.sum_ms;
}

fn spread(histogram: &LatencyHistogram, bounds: &[f64]) -> Vec<f64> {
    let mut counts = vec![0.0; bounds.len() + 1];
    for (i, count) in histogram.counts.iter().enumerate() {
        let place = histogram.bounds_ms.get(i).map_or(bounds.len(), |bound| bounds.partition_point(|b| b < bound));
        counts[place] += count;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_of_two_layouts_add_up_under_their_own_bounds() {
        let histogram = |bounds: &[f64], counts: &[f64]| LatencyHistogram {
            bounds_ms: bounds.into(),
            counts: counts.to_vec(),
            sum_ms: 1.0,
        };
        let mut total = histogram(&[1.0, 5.0], &[1.0, 2.0, 3.0]);
        add_latency(&mut total, histogram(&[5.0, 10.0], &[10.0, 20.0, 30.0]));
        assert_eq!(total.bounds_ms, [1.0, 5.0, 10.0].into());
        assert_eq!(total.counts, [1.0, 12.0, 20.0, 33.0]);
        assert_eq!(total.sum_ms, 2.0);
    }
}
