//! The SQL that other programs rely on: views and `histogram_quantile()`.

use std::time::Duration;

use meshscope::model::Timestamp;
use meshscope::model::workload::{Outcome, Protocol, Reporter};
use sqlx::postgres::PgConnection;

use crate::postgres;
use crate::store_tables::edge_minute;

async fn quantile(connection: &mut PgConnection, q: f64, bounds: &[f64], counts: &[f64]) -> Option<f64> {
    sqlx::query_scalar("SELECT histogram_quantile($1, $2, $3)")
        .bind(q)
        .bind(bounds)
        .bind(counts)
        .fetch_one(connection)
        .await
        .expect("histogram_quantile")
}

#[tokio::test]
async fn histogram_quantile_interpolates_as_promql_does() {
    let config = postgres::database().await;
    let mut connection = postgres::connection(&config).await;
    let bounds = [5.0, 10.0, 25.0];
    let counts = [50.0, 30.0, 15.0, 5.0];
    for (q, expect) in [
        (0.25, Some(2.5)),
        (0.5, Some(5.0)),
        (0.65, Some(7.5)),
        (0.8, Some(10.0)),
        (0.9, Some(20.0)),
        (0.99, Some(25.0)),
        (1.0, Some(25.0)),
        (-0.1, Some(f64::NEG_INFINITY)),
        (1.1, Some(f64::INFINITY)),
    ] {
        assert_eq!(quantile(&mut connection, q, &bounds, &counts).await, expect, "q = {q}");
    }
    assert_eq!(quantile(&mut connection, 0.5, &bounds, &[0.0; 4]).await, None);
    assert_eq!(quantile(&mut connection, 0.5, &[], &[]).await, None);
    assert_eq!(quantile(&mut connection, 0.5, &[-1.0, 1.0], &[10.0, 0.0, 0.0]).await, Some(-1.0));
    assert_eq!(quantile(&mut connection, 0.5, &[1.0, 2.0, 4.0], &[0.0, 0.0, 8.0, 0.0]).await, Some(3.0));
}

#[tokio::test]
async fn red_views_count_each_call_once_and_know_an_error() {
    let config = postgres::database().await;
    let store = postgres::connect(&config).await;
    let minute = Timestamp::from_millis(1_768_471_200_000);
    // web → cart is reported by both sides; batch → cart only by the called side.
    let mut minutes = vec![
        edge_minute(minute, Reporter::Source, "web", "cart"),
        edge_minute(minute, Reporter::Destination, "web", "cart"),
        edge_minute(minute, Reporter::Destination, "batch", "cart"),
    ];
    let outcome = |code: &str, grpc: &str, flags: &str| Outcome {
        code: code.into(),
        grpc_status: grpc.into(),
        flags: flags.into(),
    };
    minutes[2].requests = vec![
        (outcome("0", "", "DC"), 1.0),
        (outcome("0", "", "UF,URX"), 2.0),
        (outcome("200", "14", "-"), 4.0),
        (outcome("200", "0", "-"), 8.0),
        (outcome("503", "", "FI"), 16.0),
        (outcome("404", "", "-"), 32.0),
    ];
    store.write_edges(minutes).await.expect("write");
    let mut connection = postgres::connection(&config).await;
    type Row = (String, String, f64, f64, f64);
    let edges: Vec<Row> = sqlx::query_as(
        "SELECT source_workload, reporter, requests, errors, injected FROM edge_red_1m ORDER BY source_workload",
    )
    .fetch_all(&mut connection)
    .await
    .expect("edge_red_1m");
    assert_eq!(
        edges,
        [
            ("batch".to_owned(), "destination".to_owned(), 63.0, 6.0, 16.0),
            ("web".to_owned(), "source".to_owned(), 100.0, 10.0, 0.0)
        ]
    );
    let service: (String, String, f64, f64, f64, f64) = sqlx::query_as(
        "SELECT service, workload, requests, errors, latency_sum_ms,
                histogram_quantile(0.9, latency_bounds_ms, latency_counts) FROM red_1m WHERE namespace = 'shop'",
    )
    .fetch_one(&mut connection)
    .await
    .expect("red_1m");
    assert_eq!(service, ("cart".to_owned(), "cart".to_owned(), 163.0, 16.0, 1625.0, 20.0));

    store.roll_hours(minute + Duration::from_secs(7200), Duration::ZERO).await.expect("roll");
    for sql in ["SELECT sum(requests) FROM red_1h", "SELECT sum(requests) FROM edge_red_1h"] {
        let requests: f64 = sqlx::query_scalar(sql).fetch_one(&mut connection).await.expect("sum");
        assert_eq!(requests, 163.0, "{sql}");
    }
    let traces: i64 =
        sqlx::query_scalar("SELECT count(*) FROM span_search").fetch_one(&mut connection).await.expect("view");
    assert_eq!(traces, 0);
}

#[tokio::test]
async fn tcp_closes_with_a_flag_are_errors_of_opened_connections_not_more_of_them() {
    let config = postgres::database().await;
    let store = postgres::connect(&config).await;
    let minute = Timestamp::from_millis(1_768_471_200_000);
    let flags = |flags: &str| Outcome { code: "".into(), grpc_status: "".into(), flags: flags.into() };
    let mut tcp = edge_minute(minute, Reporter::Source, "web", "db");
    std::sync::Arc::make_mut(&mut tcp.edge).protocol = Protocol::Tcp;
    tcp.requests = vec![(flags(""), 40.0), (flags("UF"), 3.0), (flags("UO"), 1.0)];
    let mut spans = edge_minute(minute, Reporter::Trace, "job", "db");
    std::sync::Arc::make_mut(&mut spans.edge).protocol = Protocol::Tcp;
    spans.requests = vec![(flags(""), 5.0), (Outcome { code: "500".into(), ..flags("error") }, 2.0)];
    store.write_edges(vec![tcp, spans]).await.expect("write");
    store.roll_hours(minute + Duration::from_secs(7200), Duration::ZERO).await.expect("roll");
    let mut connection = postgres::connection(&config).await;
    for view in ["edge_report_1m", "edge_red_1m", "edge_report_1h", "edge_red_1h"] {
        let sql = format!("SELECT source_workload, requests, errors FROM {view} ORDER BY source_workload");
        let rows: Vec<(String, f64, f64)> =
            sqlx::query_as(sqlx::AssertSqlSafe(sql)).fetch_all(&mut connection).await.expect("view");
        assert_eq!(rows, [("job".to_owned(), 7.0, 2.0), ("web".to_owned(), 40.0, 4.0)], "{view}");
    }
}
