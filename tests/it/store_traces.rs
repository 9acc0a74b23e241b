//! Searches for traces go through indexes, whatever is asked, on partitions with as many rows as the server plans by.

use std::time::Duration;

use meshscope::clock::Clock;
use meshscope::model::span::{SpanBatch, TraceId, TracePart};
use meshscope::model::{Timestamp, span_key};
use meshscope::store::{PartScan, PartSearch, RetentionConfig, Store};

use crate::postgres;

const BATCHES: u64 = 4_000;
const TRACES_PER_BATCH: u64 = 50;

/// The id of that trace.
pub(crate) fn id(number: u64) -> TraceId {
    (u128::from(number) << 64 | u128::from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15))).to_be_bytes()
}

/// Traces as a mesh makes them, one each 10 ms: ten services, each second trace through the first, rare errors, rare slow ones,
/// and one attribute that half of all, few, or one trace has.
fn part(i: u64, from_ns: u64) -> (TracePart, [i64; 3]) {
    let start_ns = from_ns + i * 10_000_000;
    let longest_ns = if i.is_multiple_of(1000) { 2_000_000_000 } else { 5_000_000 + i % 4_000_000 };
    let mut services = vec![format!("s{}", i % 10)];
    services.extend(i.is_multiple_of(2).then(|| "front".to_owned()));
    services.extend((i % 40_000 == 7).then(|| "rare".to_owned()));
    services.sort();
    let part = TracePart {
        trace_id: id(i),
        start_ns,
        end_ns: start_ns + longest_ns,
        span_count: 8,
        error_count: u32::from(i.is_multiple_of(500)),
        longest_ns,
        root_service: Some("front".into()),
        root_name: Some("GET /".into()),
        services: services.into_iter().map(Into::into).collect(),
        operations: vec![format!("GET /{}", i % 50).into()],
    };
    let attributes = [("half", i % 2), ("few", i % 1000), ("one", i)];
    (part, attributes.map(|(name, value)| span_key::of_attribute(name, &value.to_string())))
}

/// Writes them, `per_batch` to a batch.
pub(crate) async fn load(store: &Store, from: Timestamp, batches: u64, per_batch: u64) {
    let from_ns = from.as_millis() as u64 * 1_000_000;
    let batch = |number: u64| {
        let (parts, keys): (Vec<TracePart>, Vec<[i64; 3]>) =
            (number * per_batch..(number + 1) * per_batch).map(|i| part(i, from_ns)).unzip();
        SpanBatch {
            bytes: number.to_be_bytes().to_vec(),
            from_ns: parts[0].start_ns,
            to_ns: parts[parts.len() - 1].start_ns,
            span_count: 8 * per_batch as u32,
            keys: span_key::of_batch(&parts, keys.concat()),
            parts,
        }
    };
    for first in (0..batches).step_by(500) {
        store.write_spans((first..batches.min(first + 500)).map(batch).collect()).await.expect("load");
    }
}

#[tokio::test]
async fn no_search_reads_a_table_from_end_to_end() {
    let database = postgres::database().await;
    let store = postgres::connect(&database).await;
    let now = Clock::system().now();
    store.maintain(&RetentionConfig::default(), now).await.expect("partitions");
    let from = now - Duration::from_secs(3600);
    load(&store, from, BATCHES, TRACES_PER_BATCH).await;
    let mut connection = postgres::connection(&database).await;
    sqlx::raw_sql("ANALYZE span_batch").execute(&mut connection).await.expect("analyze");

    let attribute = |name: &str, value: &str| vec![span_key::of_attribute(name, value)];
    let any = PartSearch::any(from, now);
    let text = |text: &str| vec![text.to_owned()];
    for (what, search, expect) in [
        ("all", any.clone(), 20),
        ("common service", PartSearch { services: text("front"), ..any.clone() }, 20),
        ("rare service", PartSearch { services: text("rare"), ..any.clone() }, 5),
        ("unknown service", PartSearch { services: text("nobody"), ..any.clone() }, 0),
        ("operation", PartSearch { operations: text("GET /7"), ..any.clone() }, 20),
        // Attributes choose batches: which of the traces has them, their spans tell.
        ("common attribute", PartSearch { attribute_keys: attribute("half", "1"), ..any.clone() }, 20),
        ("rare attribute", PartSearch { attribute_keys: attribute("one", "777"), ..any.clone() }, 20),
        ("unknown attribute", PartSearch { attribute_keys: attribute("one", "x"), ..any.clone() }, 0),
        (
            "rare attribute of a service",
            PartSearch { services: text("s7"), attribute_keys: attribute("one", "777"), ..any.clone() },
            5,
        ),
        (
            "service, operation and attribute",
            PartSearch {
                services: text("s7"),
                operations: text("GET /7"),
                attribute_keys: attribute("few", "7"),
                ..any.clone()
            },
            20,
        ),
        ("errors", PartSearch { error: true, ..any.clone() }, 20),
        ("slow", PartSearch { longest_ns_min: Some(1_500_000_000), ..any.clone() }, 20),
        ("slower than any", PartSearch { longest_ns_min: Some(40_000_000_000), ..any.clone() }, 0),
        ("errors of a service", PartSearch { services: text("rare"), error: true, ..any.clone() }, 0),
        ("slow errors", PartSearch { error: true, longest_ns_min: Some(1_500_000_000), ..any.clone() }, 20),
        ("slow of a service", PartSearch { services: text("rare"), longest_ns_min: Some(5_000_000), ..any.clone() }, 5),
        (
            "a short time",
            PartSearch { from: from + Duration::from_secs(60), to: from + Duration::from_secs(61), ..any.clone() },
            20,
        ),
    ] {
        let plan = store.explain_search(&search).await.expect("a plan");
        let sequential = plan
            .iter()
            .any(|line| line.contains("Seq Scan on span_batch_2") || line.contains("Seq Scan on span_batch_p"));
        assert!(!sequential, "{what}:\n{}", plan.join("\n"));
        let began = std::time::Instant::now();
        let mut scan = PartScan::new(search.clone());
        let found = scan.next(&store, 20).await.expect("a search");
        println!("{what}: {} rows in {:?}", found.len(), began.elapsed());
        assert_eq!(found.len(), expect, "{what}");
        assert!(found.windows(2).all(|pair| pair[0].started_ns >= pair[1].started_ns), "{what}: newest first");
        let mut pages = PartScan::new(search);
        let mut paged = pages.next(&store, 7).await.expect("a page");
        paged.extend(pages.next(&store, 13).await.expect("the next page"));
        assert_eq!(paged, found, "{what}: pages follow each other");
    }
    store.close().await;
}
