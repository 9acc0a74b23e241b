//! Edge rows: the ids of what they name, and between rows and [`EdgeMinute`]s.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

use super::super::bulk::{Column, Insert, OnConflict};
use super::super::ids::id_of;
use super::super::{StoreError, values};
use super::RollupTier;
use crate::model::workload::{LatencyHistogram, MeshKind, Outcome, Protocol, Reporter, Security, Service};
use crate::model::{EdgeKey, EdgeMinute, Workload};

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

pub(super) fn edge_id(edge: &EdgeKey) -> i64 {
    let kinds = [edge.mesh.as_str(), edge.reporter.as_str(), edge.protocol.as_str(), edge.security.as_str()];
    // "0" and "1…" keep None apart from the empty text.
    let texts = edge_texts(edge).map(|text| text.as_ref().map_or("0".to_owned(), |t| format!("1{}", values::text(t))));
    id_of(kinds.map(str::to_owned).into_iter().chain(texts))
}

pub(super) fn outcome_id(outcome: &Outcome) -> i64 {
    id_of([&outcome.code, &outcome.grpc_status, &outcome.flags].map(|text| values::text(text).into_owned()))
}

/// `None` for an edge without a histogram.
pub(super) fn layout_id(latency: &LatencyHistogram) -> Option<i64> {
    (!latency.bounds_ms.is_empty()).then(|| id_of(latency.bounds_ms.iter().map(|bound| bound.to_bits().to_be_bytes())))
}

pub(super) async fn insert_edges(connection: &mut PgConnection, new: &[(i64, &EdgeKey)]) -> Result<(), StoreError> {
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

pub(super) async fn insert_outcomes(connection: &mut PgConnection, new: &[(i64, &Outcome)]) -> Result<(), StoreError> {
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

pub(super) async fn insert_layouts(connection: &mut PgConnection, new: Vec<(i64, Vec<f64>)>) -> Result<(), StoreError> {
    let (ids, bounds) = new.into_iter().unzip();
    let columns = vec![("layout_id", Column::Bigint(ids)), ("bounds_ms", Column::DoubleArray(bounds))];
    Insert { table: "latency_layout", columns, on_conflict: OnConflict::Often("(layout_id) DO NOTHING") }
        .run(connection)
        .await
}

pub(super) async fn insert_rollup(
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
        ("request_messages", number(|m| m.request_messages)),
        ("response_messages", number(|m| m.response_messages)),
        ("latency_counts", Column::DoubleArray(rows.into_iter().map(|(_, m)| m.latency.counts).collect())),
    ];
    let on_conflict = OnConflict::Often(match tier {
        RollupTier::Minutes => include_str!("../sql/edge_rollup_1m_conflict.sql"),
        RollupTier::Hours => include_str!("../sql/edge_rollup_1h_conflict.sql"),
    });
    Insert { table: tier.table(), columns, on_conflict }.run(connection).await
}

pub(super) fn edge_from(row: &PgRow) -> Result<EdgeKey, StoreError> {
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

pub(super) fn minute_from(
    row: &PgRow,
    edge: Arc<EdgeKey>,
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
        request_messages: row.get("request_messages"),
        response_messages: row.get("response_messages"),
    })
}
