//! Batches of access log records: written twice is written once, found by what their index rows say, dropped when old.

use std::time::Duration;

use meshscope::model::Timestamp;
use meshscope::model::access_log::{AccessLogBatch, AccessLogPart, Reason};
use meshscope::store::{AccessLogSearch, RetentionConfig};
use sqlx::Row;

use crate::postgres;
use crate::store_tables::noon;

const SECOND_NS: u64 = 1_000_000_000;

fn noon_ns() -> u64 {
    u64::try_from(noon().as_millis()).expect("after 1970") * 1_000_000
}

/// A batch of the second `number` after noon, with one row each for three edges.
fn batch(number: u64) -> AccessLogBatch {
    let at_ns = noon_ns() + number * SECOND_NS;
    let part = |source: &str, service: &str, code, reason, hash| AccessLogPart {
        source: source.to_owned(),
        destination: String::new(),
        service: service.to_owned(),
        code,
        reason,
        from_ns: at_ns,
        to_ns: at_ns + SECOND_NS / 2,
        record_count: 10,
        trace_hashes: vec![hash, hash + 1],
    };
    let number = i64::try_from(number).expect("small");
    AccessLogBatch {
        bytes: number.to_be_bytes().to_vec(),
        from_ns: at_ns,
        to_ns: at_ns + SECOND_NS / 2,
        record_count: 30,
        parts: vec![
            part("shop/web", "shop/cart", 200, Reason::Answered, number * 100),
            part("shop/web\0", "shop/stock", 503, Reason::Overflow, number * 100 + 10),
            part("web", "api.example.com", 404, Reason::RouteNotFound, number * 100 + 20),
        ],
    }
}

fn any() -> AccessLogSearch {
    AccessLogSearch {
        from: noon() - Duration::from_secs(3600),
        to: noon() + Duration::from_secs(3600),
        source: None,
        destination: None,
        reasons: Vec::new(),
        codes: None,
        trace_hash: None,
    }
}

#[tokio::test]
async fn batches_are_found_newest_first_by_what_is_in_them() {
    let store = postgres::store().await;
    let batches: Vec<AccessLogBatch> = (0..20).map(batch).collect();
    for _ in 0..2 {
        store.write_access_logs(batches.clone()).await.expect("write");
    }
    let find = async |search: AccessLogSearch| store.access_log_parts(&search, None, 100).await.expect("search");
    let all = find(any()).await;
    assert_eq!(all.len(), 60, "three rows each");
    assert_eq!(Timestamp::from(all[0].to_at), Timestamp::from_nanos(noon_ns() + 19 * SECOND_NS + SECOND_NS / 2));
    assert_eq!(store.access_log_batch(all[0].batch).await.expect("read"), Some(batches[19].bytes.clone()));
    let behind = store.access_log_parts(&any(), Some(all[44]), 100).await.expect("search");
    assert_eq!(behind, all[45..]);
    let text = |text: &str| Some(text.to_owned());
    for (search, expect) in [
        (AccessLogSearch { source: text("shop/web"), ..any() }, 20),
        (AccessLogSearch { source: text("web"), ..any() }, 40),
        (AccessLogSearch { source: text("nobody"), ..any() }, 0),
        (AccessLogSearch { destination: text("cart.shop.svc.cluster.local"), ..any() }, 20),
        (AccessLogSearch { destination: text("api.example.com"), source: text("shop/web"), ..any() }, 0),
        (AccessLogSearch { reasons: vec![Reason::Overflow, Reason::FaultAbort], ..any() }, 20),
        (AccessLogSearch { reasons: vec![Reason::FaultAbort], ..any() }, 0),
        (AccessLogSearch { codes: Some((500, 599)), reasons: vec![Reason::RouteNotFound], ..any() }, 0),
        (AccessLogSearch { trace_hash: Some(711), ..any() }, 1),
        (AccessLogSearch { from: noon() + Duration::from_secs(18), ..any() }, 6),
        (AccessLogSearch { to: noon(), ..any() }, 3),
    ] {
        assert_eq!(find(search.clone()).await.len(), expect, "{search:?}");
    }
    store.close().await;
}

#[tokio::test]
async fn a_trace_is_found_through_the_index_of_hashes_and_old_partitions_go() {
    let config = postgres::database().await;
    let store = postgres::connect(&config).await;
    store.write_access_logs((0..500).map(batch).collect()).await.expect("write");
    let mut connection = postgres::connection(&config).await;
    sqlx::raw_sql("ANALYZE access_log_part").execute(&mut connection).await.expect("analyze");
    let query = "EXPLAIN SELECT batch_id FROM access_log_part WHERE trace_hashes @> ARRAY[711::bigint]";
    let plan = sqlx::query(query).fetch_all(&mut connection).await.expect("explain");
    let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
    assert!(plan.iter().any(|line| line.contains("trace_hashes_idx") || line.contains("by_trace")), "{plan:#?}");

    let now = noon() + Duration::from_secs(10);
    store.maintain(&RetentionConfig::default(), now).await.expect("maintain");
    assert_eq!(store.access_log_parts(&any(), None, 2000).await.expect("search").len(), 1500);
    let later = now + Duration::from_secs(4 * 86_400);
    assert!(store.maintain(&RetentionConfig::default(), later).await.expect("maintain").dropped > 0);
    assert_eq!(store.access_log_parts(&any(), None, 2000).await.expect("search"), []);
    store.close().await;
}
