//! Searches for traces go through indexes, whatever is asked, on partitions with as many rows as the server plans by.

use std::time::Duration;

use meshscope::clock::Clock;
use meshscope::store::{PartSearch, RetentionConfig};

use crate::postgres;

const ROWS: i64 = 200_000;

/// Rows as a mesh makes them: ten services, each second trace through the first, rare errors, rare slow ones, and one
/// attribute that half of all, few, or one trace has.
const LOAD: &str = "
    INSERT INTO trace_part
    SELECT ('00000000-0000-4000-8000-' || lpad(to_hex(i), 12, '0'))::uuid, at, i / 250, at, ns, ns + took, 8,
           CASE WHEN i % 500 = 0 THEN 1 ELSE 0 END, took, 'front', 'GET /',
           CASE WHEN i % 2 = 0 THEN ARRAY['front', 's' || i % 10] ELSE ARRAY['s' || i % 10] END
               || CASE WHEN i % 40000 = 7 THEN ARRAY['rare'] ELSE ARRAY[]::text[] END,
           ARRAY['GET /' || i % 50],
           ARRAY[i % 2, 1000 + i % 1000, 1000000 + i]::bigint[]
    FROM generate_series(0, $1 - 1) AS i,
         LATERAL (SELECT $2::timestamptz + i * interval '10 milliseconds' AS at,
                         (extract(epoch FROM $2::timestamptz) * 1000000000)::bigint + i * 10000000 AS ns,
                         CASE WHEN i % 1000 = 0 THEN 2000000000 ELSE 5000000 + i % 4000000 END AS took) made";

#[tokio::test]
async fn no_search_reads_a_table_from_end_to_end() {
    let database = postgres::database().await;
    let store = postgres::connect(&database).await;
    let now = Clock::system().now();
    store.maintain(&RetentionConfig::default(), now).await.expect("partitions");
    let from = now - Duration::from_secs(3600);
    let mut connection = postgres::connection(&database).await;
    let start = chrono::DateTime::from_timestamp_millis(from.as_millis()).expect("a time");
    sqlx::query(LOAD).bind(ROWS).bind(start).execute(&mut connection).await.expect("load");
    sqlx::raw_sql("ANALYZE trace_part").execute(&mut connection).await.expect("analyze");

    let any = PartSearch::any(from, now);
    let text = |text: &str| vec![text.to_owned()];
    for (what, search, expect) in [
        ("all", any.clone(), 20),
        ("common service", PartSearch { services: text("front"), ..any.clone() }, 20),
        ("rare service", PartSearch { services: text("rare"), ..any.clone() }, 5),
        ("unknown service", PartSearch { services: text("nobody"), ..any.clone() }, 0),
        ("operation", PartSearch { operations: text("GET /7"), ..any.clone() }, 20),
        ("common attribute", PartSearch { attribute_hashes: vec![1], ..any.clone() }, 20),
        ("rare attribute", PartSearch { attribute_hashes: vec![1_000_777], ..any.clone() }, 1),
        (
            "service, operation and attribute",
            PartSearch {
                services: text("s7"),
                operations: text("GET /7"),
                attribute_hashes: vec![1007],
                ..any.clone()
            },
            20,
        ),
        ("errors", PartSearch { error: true, ..any.clone() }, 20),
        ("slow", PartSearch { longest_ns_min: Some(1_500_000_000), ..any.clone() }, 20),
        ("slower than any", PartSearch { longest_ns_min: Some(40_000_000_000), ..any.clone() }, 0),
        ("slow errors", PartSearch { error: true, longest_ns_min: Some(1_500_000_000), ..any.clone() }, 20),
        ("slow of a service", PartSearch { services: text("rare"), longest_ns_min: Some(5_000_000), ..any.clone() }, 5),
        (
            "a short time",
            PartSearch { from: from + Duration::from_secs(60), to: from + Duration::from_secs(61), ..any.clone() },
            20,
        ),
    ] {
        let plan = store.explain_search(&search, 20).await.expect("a plan");
        let sequential = plan
            .iter()
            .any(|line| line.contains("Seq Scan on trace_part_2") || line.contains("Seq Scan on trace_part_p"));
        assert!(!sequential, "{what}:\n{}", plan.join("\n"));
        let began = std::time::Instant::now();
        let found = store.search_parts(&search, None, 20).await.expect("a search");
        println!("{what}: {} rows in {:?}", found.len(), began.elapsed());
        assert_eq!(found.len(), expect, "{what}");
        assert!(found.windows(2).all(|pair| pair[0].start_at >= pair[1].start_at), "{what}: newest first");
        if let Some(last) = found.get(9) {
            let rest = store.search_parts(&search, Some(*last), 10).await.expect("the next page");
            assert_eq!(rest[..found.len() - 10], found[10..], "{what}: pages follow each other");
        }
    }
    store.close().await;
}
