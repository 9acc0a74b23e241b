//! Edge minutes in PostgreSQL: outages longer than memory keeps minutes, pods with different buckets, and every example of
//! docs/sql.md.

use std::time::Duration;

use meshscope::clock::Clock;
use meshscope::model::workload::{LatencyHistogram, Protocol, Reporter};
use meshscope::model::{EdgeMinute, Timestamp};
use meshscope::persist::{self, RollupPersist};
use meshscope::rollup::{self, Rollup};
use meshscope::series::Head;
use meshscope::store::RollupTier;
use tokio_util::sync::CancellationToken;

use crate::postgres;
use crate::store_tables::edge_minute;

const MINUTE: Duration = Duration::from_secs(60);

/// 2026-01-15T10:00:00Z.
fn ten() -> Timestamp {
    Timestamp::from_millis(1_768_471_200_000)
}

fn with_latency(minute: Timestamp, bounds: &[f64], counts: &[f64]) -> EdgeMinute {
    let latency = LatencyHistogram { bounds_ms: bounds.into(), counts: counts.to_vec(), sum_ms: 1.0 };
    EdgeMinute { latency, ..edge_minute(minute, Reporter::Source, "web", "cart") }
}

#[tokio::test]
async fn histograms_of_different_bounds_add_up_by_the_bounds_they_share() {
    let config = postgres::database().await;
    let store = postgres::connect(&config).await;
    // Two pods in one minute, then a minute of each layout, then one that shares no bound.
    let first = [
        with_latency(ten(), &[5.0, 10.0, 25.0], &[1.0, 2.0, 4.0, 8.0]),
        with_latency(ten(), &[5.0, 25.0, 50.0], &[10.0, 20.0, 40.0, 80.0]),
    ];
    let rows = [
        with_latency(ten() + MINUTE, &[5.0, 10.0, 25.0], &[1.0, 1.0, 1.0, 1.0]),
        with_latency(ten() + MINUTE * 2, &[10.0, 25.0], &[2.0, 2.0, 2.0]),
        with_latency(ten() + MINUTE * 60, &[7.0], &[3.0, 4.0]),
    ];
    store.write_edges(first.into_iter().chain(rows).collect()).await.expect("write");
    let minutes = store.edges(RollupTier::Minutes, ten(), ten() + MINUTE).await.expect("read");
    assert_eq!(
        (&*minutes[0].latency.bounds_ms, &*minutes[0].latency.counts),
        (&[5.0, 25.0][..], &[11.0, 26.0, 128.0][..])
    );
    store.roll_hours(ten() + MINUTE * 200, Duration::ZERO).await.expect("roll");
    let hours = store.edges(RollupTier::Hours, ten(), ten() + MINUTE * 120).await.expect("read");
    // 25 is the one bound of all three minutes: 37 + 3 + 4 within it.
    assert_eq!((&*hours[0].latency.bounds_ms, &*hours[0].latency.counts), (&[25.0][..], &[44.0, 131.0][..]));

    let mut connection = postgres::connection(&config).await;
    let sql = "SELECT (h).bounds_ms, (h).counts, histogram_quantile($1, h), histogram_quantile(0.5, (h).bounds_ms, (h).counts)
               FROM (SELECT latency_sum(latency_bounds_ms, latency_counts) AS h FROM red_1m WHERE minute < $2) s";
    for (until, q, bounds, counts, quantile) in [
        (MINUTE, 0.1, vec![5.0, 25.0], vec![11.0, 26.0, 128.0], Some(5.0 + 20.0 * 5.5 / 26.0)),
        (MINUTE * 2, 0.1, vec![5.0, 25.0], vec![12.0, 28.0, 129.0], Some(5.0 + 20.0 * 4.9 / 28.0)),
        (MINUTE * 3, 0.1, vec![25.0], vec![44.0, 131.0], Some(25.0 * 17.5 / 44.0)),
        (MINUTE * 61, 0.1, vec![], vec![182.0], None),
    ] {
        let until = chrono::DateTime::from_timestamp_millis((ten() + until).as_millis()).expect("a time");
        type Row = (Vec<f64>, Vec<f64>, Option<f64>, Option<f64>);
        let row: Row = sqlx::query_as(sql).bind(q).bind(until).fetch_one(&mut connection).await.expect("the sum");
        assert_eq!((row.0, row.1), (bounds, counts), "until {until}");
        let is_close = |a: f64| quantile.is_some_and(|b: f64| (a - b).abs() < 1e-9);
        assert!(row.2 == quantile || row.2.is_some_and(is_close), "until {until}: {:?} {quantile:?}", row.2);
    }
    let nothing: Option<f64> = sqlx::query_scalar(
        "SELECT histogram_quantile(0.5, latency_sum(latency_bounds_ms, latency_counts)) FROM red_1m WHERE false",
    )
    .fetch_one(&mut connection)
    .await
    .expect("no rows");
    assert_eq!(nothing, None);
    store.close().await;
}

/// The parts of a Markdown page between ```` ```sql ````, with or without a remark, and the end of the block.
fn examples(page: &str) -> Vec<&str> {
    page.split("```sql")
        .skip(1)
        .filter_map(|rest| rest.split("```").next()?.split_once('\n'))
        .map(|(_, code)| code)
        .collect()
}

#[tokio::test]
async fn every_example_of_the_sql_page_runs_and_finds_something() {
    let config = postgres::database().await;
    let store = postgres::connect(&config).await;
    let now = Clock::system().now().floor_to(MINUTE);
    let mut minutes = Vec::new();
    for ago in [4, 70] {
        for (source, destination) in [("web", "payment"), ("web", "catalog")] {
            let called = edge_minute(now - MINUTE * ago, Reporter::Destination, source, destination);
            let mut plain = edge_minute(now - MINUTE * ago, Reporter::Source, source, destination);
            plain.requests[0].1 = 900.0;
            minutes.extend([called, plain]);
        }
    }
    std::sync::Arc::make_mut(&mut minutes[0].edge).security = meshscope::model::workload::Security::Plaintext;
    std::sync::Arc::make_mut(&mut minutes[0].edge).protocol = Protocol::Grpc;
    store.write_edges(minutes).await.expect("write");
    store.roll_hours(now + MINUTE * 120, Duration::ZERO).await.expect("roll");
    let page = include_str!("../../docs/sql.md");
    let examples = examples(page);
    assert!(examples.len() >= 9, "{}", examples.len());
    let mut connection = postgres::connection(&config).await;
    for example in examples {
        for statement in example.split_inclusive(";\n") {
            let done = sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned())).fetch_all(&mut connection).await;
            let rows = done.unwrap_or_else(|error| panic!("{error}\n{statement}"));
            let is_of_edges = statement.contains("red_1") || statement.contains("edge_report");
            assert!(!is_of_edges || !rows.is_empty(), "found nothing:\n{statement}");
        }
    }
    store.close().await;
}

#[tokio::test]
async fn minutes_of_an_outage_longer_than_memory_keeps_them_are_written_after_it() {
    let config = postgres::database().await;
    let store = postgres::connect(&config).await;
    let keep = Duration::from_secs(120);
    let rollup = Rollup::new(rollup::Config { keep: keep.into(), ..rollup::Config::default() });
    let clock = Clock::system();
    // As when PostgreSQL was away for 40 minutes: nobody wrote, time went on.
    let now = clock.now().floor_to(MINUTE);
    let writer = RollupPersist::new(rollup.clone(), store.clone(), clock);
    for ago in (0..40).rev() {
        rollup.advance(now - MINUTE * ago);
        rollup.add(edge_minute(now - MINUTE * ago, Reporter::Source, "web", "cart"));
    }
    assert_eq!(rollup.size().minutes, 40);
    let stop = CancellationToken::new();
    stop.cancel();
    writer.run(stop).await;
    let count = store.edges(RollupTier::Minutes, now - MINUTE * 60, now + MINUTE).await.expect("read").len();
    assert_eq!((count, rollup.size().minutes), (40, 3), "what is written leaves memory");
    assert_eq!(store.edges_complete_until().await.expect("read"), Some(now - keep));
    // Hours wait for their minutes.
    store.roll_hours(now + MINUTE * 180, Duration::ZERO).await.expect("roll");
    assert!(store.rolled_hours_until().await.expect("read").is_none_or(|until| until <= now - keep));

    // Another process with no sample to count again takes up what is open.
    let (head, again) =
        (Head::new(Default::default()), Rollup::new(rollup::Config { keep: keep.into(), ..Default::default() }));
    let before = persist::Before { keep, has_same_settings: true };
    let restored = persist::restore(&store, &head, (&again, before), now, |_| {}).await.expect("restore");
    assert_eq!((restored.edge_minutes_deleted, restored.edges_whole_from), (0, Some(now - keep)));
    assert_eq!(again.recent(Timestamp::MIN).len(), 3);
    assert_eq!(again.unwritten(100).minutes, []);
    store.close().await;
}
