//! Edges of memory and PostgreSQL read as one: each minute once, long ranges by the hour.

use std::time::Duration;

use meshscope::clock::Clock;
use meshscope::model::workload::Reporter;
use meshscope::model::{EdgeMinute, Timestamp};
use meshscope::persist::{Archive, EdgeRange, Kept};
use meshscope::rollup::Rollup;
use meshscope::series::Head;
use meshscope::traces;
use tokio::sync::mpsc;

use crate::postgres;
use crate::store_tables::edge_minute;

const MINUTE: Duration = Duration::from_secs(60);
/// Requests of one minute of [`edge_minute`].
const EACH: f64 = 100.0;

fn live(rollup: &Rollup) -> traces::Live {
    let (_, spans) = mpsc::channel(1);
    let outputs =
        traces::Outputs { head: Head::new(Default::default()), rollup: rollup.clone(), batches: mpsc::channel(1).0 };
    traces::Pipeline::new(traces::Config::default(), spans, outputs, Clock::system()).live()
}

fn requests(minutes: &[EdgeMinute]) -> f64 {
    minutes.iter().flat_map(|minute| &minute.requests).map(|(_, count)| count).sum()
}

/// 2026-01-15T10:00:00Z.
fn start() -> Timestamp {
    Timestamp::from_millis(1_768_471_200_000)
}

#[tokio::test]
async fn each_minute_is_read_once_wherever_it_lies() {
    let store = postgres::store().await;
    let rollup = Rollup::default();
    // A process that began at minute 60 and now is at minute 100: memory keeps 15 minutes.
    let (began, now) = (start() + MINUTE * 60, start() + MINUTE * 100 + Duration::from_secs(20));
    let minute = |n: u32| edge_minute(start() + MINUTE * n, Reporter::Source, "web", "cart");
    store.write_edges((0..=99).map(minute).collect()).await.expect("write");
    rollup.advance(now);
    (85..=100).for_each(|n| rollup.add(minute(n)));
    let kept = Kept { in_memory: MINUTE * 15, stored: MINUTE * 2880 };
    let archive = Archive::new(store.clone(), rollup.clone(), live(&rollup), began, kept);
    for (from, to, expect) in
        [(0, 101, 101.0), (80, 90, 10.0), (85, 86, 1.0), (86, 87, 1.0), (99, 101, 2.0), (0, 60, 60.0)]
    {
        let bounds = [start() + MINUTE * from, start() + MINUTE * to];
        let EdgeRange { edges: found, warning, .. } = archive.edge_sums(&bounds, now).await;
        assert_eq!((requests(&found) / EACH, warning), (expect, None), "{from}..{to}");
    }
    // Just started: memory has only what was restored and counted since.
    let fresh = Archive::new(store.clone(), rollup.clone(), live(&rollup), now, kept);
    let found = fresh.edge_sums(&[start(), now + MINUTE], now).await.edges;
    assert_eq!(requests(&found) / EACH, 101.0);
    store.close().await;
}

#[tokio::test]
async fn a_long_range_is_summed_by_the_hour_without_gap_or_overlap() {
    let store = postgres::store().await;
    let rollup = Rollup::default();
    let minute = |n: u32| edge_minute(start() + MINUTE * n, Reporter::Source, "web", "cart");
    store.write_edges((0..=30 * 60).map(minute).collect()).await.expect("write");
    let kept = Kept { in_memory: MINUTE * 15, stored: MINUTE * 2880 };
    let archive = |now| Archive::new(store.clone(), rollup.clone(), live(&rollup), now, kept);
    let between = async |from: u32, to: u32, now: Timestamp| {
        let bounds = [start() + MINUTE * from, start() + MINUTE * to];
        let EdgeRange { edges: found, warning, .. } = archive(now).edge_sums(&bounds, now).await;
        assert_eq!(warning, None);
        (requests(&found) / EACH, found.len())
    };
    let now = start() + MINUTE * (30 * 60 + 1);
    // No hour is summed yet, then the first 24 are, then all.
    assert_eq!(between(10, 30 * 60 + 1, now).await.0, 1791.0);
    for until in [24, 30] {
        store.roll_hours(start() + MINUTE * (60 * until), Duration::ZERO).await.expect("roll");
        assert_eq!(between(10, 30 * 60 + 1, now).await.0, 1791.0, "{until}");
        assert_eq!(between(90, 17 * 60 + 20, now).await.0, 950.0, "{until}");
        assert_eq!(between(0, 24 * 60, now).await.0, 1440.0, "{until}");
        assert!(between(10, 30 * 60 + 1, now).await.1 <= 3, "one sum for each part");
        assert_eq!(between(10, 12 * 60 + 10, now).await, (720.0, 1));
    }
    store.close().await;
}
