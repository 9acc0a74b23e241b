//! Packs of edges in PostgreSQL: the same sums as the rows, through writes after packing, damage, upgrades and retention.

use std::time::Duration;

use meshscope::model::workload::{LatencyHistogram, Reporter};
use meshscope::model::{EdgeMinute, Timestamp};
use meshscope::store::{RetentionConfig, RollupTier, Store};

use crate::postgres;
use crate::store_tables::edge_minute;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// 2026-01-15T00:00:00Z.
fn midnight() -> Timestamp {
    Timestamp::from_millis(1_768_435_200_000)
}

fn at(minute: u32) -> Timestamp {
    midnight() + MINUTE * minute
}

/// An edge that does more from minute to minute; each third minute another edge too, whose pods have other buckets.
fn minutes(from: u32, to: u32) -> Vec<EdgeMinute> {
    let one = |n: u32| {
        let mut one = edge_minute(at(n), Reporter::Source, "web", "cart");
        one.requests[0].1 = f64::from(n) + 0.1;
        one
    };
    let other = |n: u32| EdgeMinute {
        latency: LatencyHistogram { bounds_ms: [5.0, 25.0].into(), counts: vec![1.0, 2.0, f64::from(n)], sum_ms: 9.5 },
        ..edge_minute(at(n), Reporter::Destination, "web", "pay")
    };
    let other_layout = |n: u32| edge_minute(at(n), Reporter::Destination, "web", "pay");
    let second = |n: u32| if n.is_multiple_of(2) { other(n) } else { other_layout(n) };
    (from..to).map(one).chain((from..to).filter(|n| n.is_multiple_of(3)).map(second)).collect()
}

/// Requests by edge and window, and the buckets, sorted.
async fn sums(store: &Store, windows: &[(u32, u32)]) -> Vec<String> {
    let windows: Vec<(Timestamp, Timestamp)> = windows.iter().map(|(from, to)| (at(*from), at(*to))).collect();
    let found = store.edge_sums(&windows, Timestamp::MIN, &|_| true).await.expect("sums");
    let line = |edge: &EdgeMinute| {
        let mut requests = edge.requests.clone();
        requests.sort_by(|a, b| a.0.cmp(&b.0));
        let counts: Vec<String> = requests.iter().map(|(_, count)| format!("{count:.6}")).collect();
        let buckets: Vec<String> = edge.latency.counts.iter().map(|count| format!("{count:.6}")).collect();
        format!(
            "{} {:?} {counts:?} {:?} {buckets:?} {:.4} {:.4}",
            edge.minute, edge.edge.destination.name, edge.latency.bounds_ms, edge.latency.sum_ms, edge.response_bytes
        )
    };
    let mut lines: Vec<String> = found.edges.iter().map(line).collect();
    lines.sort();
    lines.push(format!("{:?}", found.first));
    lines
}

async fn packs(store: &Store, now: Timestamp) -> usize {
    let mut made = 0;
    loop {
        match store.pack_edges(now, 50).await.expect("pack") {
            0 => return made,
            more => made += more,
        }
    }
}

#[tokio::test]
async fn packs_say_what_the_rows_say_for_any_range() {
    let config = postgres::database().await;
    let store = postgres::connect(&config).await;
    store.write_edges_until(minutes(30, 200), Some(at(190))).await.expect("write");
    store.roll_hours(at(200), Duration::ZERO).await.expect("roll");
    let ranges: [&[(u32, u32)]; 6] = [
        &[(0, 200)],
        &[(31, 33)],
        &[(58, 122)],
        &[(29, 61), (61, 62), (70, 187), (187, 300)],
        &[(195, 196)],
        &[(500, 600)],
    ];
    let mut from_rows = Vec::new();
    for range in ranges {
        from_rows.push(sums(&store, range).await);
    }
    assert!(from_rows[0].len() == 3 && from_rows[3].len() >= 7, "{from_rows:?}");
    // Minutes 30 to 189, five minutes of them, hours 0 to 2; the first hour is packed from its row.
    assert_eq!(packs(&store, at(200)).await, 160 + 32 + 3);
    assert_eq!(packs(&store, at(200)).await, 0, "what is packed is packed once");
    for (range, expect) in ranges.iter().zip(&from_rows) {
        assert_eq!(&sums(&store, range).await, expect, "{range:?}");
    }
    store.close().await;
    // A process that has just started knows no names yet.
    let again = postgres::connect(&config).await;
    assert_eq!(sums(&again, ranges[3]).await, from_rows[3]);
    again.close().await;
}

#[tokio::test]
async fn a_minute_written_or_deleted_after_it_was_packed_is_read_anew() {
    let config = postgres::database().await;
    let store = postgres::connect(&config).await;
    store.write_edges_until(minutes(0, 60), Some(at(60))).await.expect("write");
    packs(&store, at(100)).await;
    let requests = async || {
        let found = store.edge_sums(&[(at(0), at(60))], Timestamp::MIN, &|_| true).await.expect("sums");
        let cart = found.edges.iter().filter(|edge| edge.edge.destination.name.as_deref() == Some("cart"));
        cart.map(|edge| edge.requests.iter().map(|(_, count)| count).sum::<f64>()).sum::<f64>()
    };
    let before = requests().await;
    let mut changed = edge_minute(at(7), Reporter::Source, "web", "cart");
    changed.requests[0].1 = 1_000_007.1;
    store.write_edges(vec![changed.clone()]).await.expect("write again");
    assert!((requests().await - before - 1_000_000.0).abs() < 1e-6);
    store.delete_edge_minutes(&[(changed.edge, at(7)), (changed_key(), at(8))]).await.expect("delete");
    assert!((requests().await - (before - 17.1 - 18.1)).abs() < 1e-6, "each has 10 errors beside");
    store.close().await;
}

fn changed_key() -> std::sync::Arc<meshscope::model::EdgeKey> {
    edge_minute(at(8), Reporter::Source, "web", "cart").edge
}

#[tokio::test]
async fn a_damaged_pack_costs_time_and_no_answer() {
    let config = postgres::database().await;
    let store = postgres::connect(&config).await;
    store.write_edges_until(minutes(0, 30), Some(at(30))).await.expect("write");
    let expect = sums(&store, &[(0, 30)]).await;
    packs(&store, at(100)).await;
    let mut connection = postgres::connection(&config).await;
    for damage in ["'\\x00'", "substr(edges, 1, 40)", "''"] {
        let sql = format!("UPDATE edge_pack SET edges = {damage} WHERE start = '2026-01-15T00:10:00Z'");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.expect("damage");
        assert_eq!(sums(&store, &[(0, 30)]).await, expect, "{damage}");
    }
    store.close().await;
}

#[tokio::test]
async fn hours_and_days_stay_when_minutes_are_past_their_retention() {
    let config = postgres::database().await;
    let store = postgres::connect(&config).await;
    store.write_edges_until(minutes(0, 26 * 60), Some(at(26 * 60))).await.expect("write");
    store.roll_hours(at(26 * 60), Duration::ZERO).await.expect("roll");
    packs(&store, at(26 * 60)).await;
    let day = sums(&store, &[(0, 24 * 60)]).await;
    let now = at(4 * 24 * 60);
    store.maintain(&RetentionConfig::default(), now).await.expect("maintain");
    assert_eq!(store.edges(RollupTier::Minutes, at(0), now).await.expect("read"), []);
    let mut connection = postgres::connection(&config).await;
    let kept: Vec<(i32, i64)> =
        sqlx::query_as("SELECT seconds, count(*) FROM edge_pack GROUP BY seconds ORDER BY seconds")
            .fetch_all(&mut connection)
            .await
            .expect("count");
    assert_eq!(kept, [(3600, 26), (86_400, 1)]);
    let minutes_from = now - HOUR * 48;
    let after = store.edge_sums(&[(at(0), at(24 * 60))], minutes_from, &|_| true).await.expect("sums");
    let all: f64 = after.edges.iter().flat_map(|edge| &edge.requests).map(|(_, count)| count).sum();
    let before: f64 = (0..1440).map(|n| f64::from(n) + 10.1).sum::<f64>() + 480.0 * 100.0;
    assert!((all - before).abs() < 1e-3, "{all} {before} {day:?}");
    // One hour of it, which only hours know any more.
    let hour = store.edge_sums(&[(at(120), at(180))], minutes_from, &|_| true).await.expect("sums");
    let of_hour: f64 = hour.edges.iter().flat_map(|edge| &edge.requests).map(|(_, count)| count).sum();
    assert!((of_hour - (120..180).map(|n| f64::from(n) + 10.1).sum::<f64>() - 20.0 * 100.0).abs() < 1e-6, "{of_hour}");
    store.close().await;
}
