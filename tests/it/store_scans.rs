//! No question about traces or access logs reads a large partition from end to end: the server's own count of sequential
//! scans says so, for the statements as they are sent.

use std::collections::HashSet;
use std::time::Duration;

use meshscope::clock::Clock;
use meshscope::model::access_log::Reason;
use meshscope::model::{Timestamp, span_key};
use meshscope::store::{AccessLogSearch, Config, PartScan, PartSearch, RetentionConfig, Store, TraceSearch};
use sqlx::PgConnection;

use crate::app::eventually;
use crate::{postgres, store_traces};

/// Index rows of access logs.
const PARTS: i64 = 100_000;
/// Batches of access logs, and of spans with two traces each; what is wide in them lies in TOAST tables.
const BATCHES: i64 = 40_000;

const LOAD: [&str; 2] = [
    "INSERT INTO access_log_batch SELECT i, $2::timestamptz + i * interval '50 milliseconds', $2, 2048, '\\x00'
     FROM generate_series(0, $1 - 1) AS i",
    "INSERT INTO access_log_part
     SELECT i % 40000, $2::timestamptz + (i % 40000) * interval '50 milliseconds', i, at, at,
            CASE WHEN i % 20000 = 7 THEN 'shop/rare' ELSE 'shop/w' || i % 10 END, 'shop/cart-v' || i % 3,
            CASE WHEN i % 20000 = 9 THEN 'api.example.com' ELSE 'shop/cart' END,
            CASE WHEN i % 5000 = 11 THEN 503 ELSE 200 END,
            CASE WHEN i % 5000 = 11 THEN 'no_healthy_upstream' ELSE 'answered' END, 3, ARRAY[i]::bigint[]
     FROM generate_series(0, $1 - 1) AS i,
          LATERAL (SELECT $2::timestamptz + i * interval '10 milliseconds' AS at) made",
];

/// Sequential scans so far of each large table.
async fn scans(connection: &mut PgConnection) -> Vec<(String, i64)> {
    // What a session counted is there when it has ended.
    let mut sessions = async || -> i64 {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'meshscope'";
        sqlx::query_scalar(sql).fetch_one(&mut *connection).await.expect("a number")
    };
    eventually("the sessions end", async || (sessions().await == 0).then_some(())).await;
    let sql = "SELECT s.relname::text, s.seq_scan FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid
               WHERE c.relkind = 'r' AND c.reltuples > 10000 ORDER BY 1";
    sqlx::query_as(sql).fetch_all(connection).await.expect("statistics")
}

/// Every question, one after the other, each over sessions of its own; asserts after each.
struct Questions<'a> {
    database: &'a Config,
    connection: PgConnection,
    before: Vec<(String, i64)>,
}

impl Questions<'_> {
    async fn ask<T>(&mut self, what: &str, question: impl AsyncFnOnce(&Store) -> T) -> T {
        let store = postgres::connect(self.database).await;
        let answer = question(&store).await;
        store.close().await;
        let after = scans(&mut self.connection).await;
        assert_eq!(after, self.before, "{what} read a table from end to end");
        answer
    }
}

#[tokio::test]
async fn no_question_reads_a_large_partition_from_end_to_end() {
    let database = postgres::database().await;
    let store = postgres::connect(&database).await;
    let now = Clock::system().now();
    store.maintain(&RetentionConfig::default(), now).await.expect("partitions");
    // Within one day, so that there is one large partition of each table.
    let from = now.floor_to(Duration::from_secs(24 * 3600)) + Duration::from_secs(1);
    store_traces::load(&store, from, BATCHES as u64, 2).await;
    store.close().await;
    let start = chrono::DateTime::from_timestamp_millis(from.as_millis()).expect("a time");
    let mut connection = postgres::connection(&database).await;
    for (at, load) in LOAD.into_iter().enumerate() {
        let rows = if at == 0 { BATCHES } else { PARTS };
        sqlx::query(load).bind(rows).bind(start).execute(&mut connection).await.expect("load");
    }
    sqlx::raw_sql("ANALYZE").execute(&mut connection).await.expect("analyze");
    let before = scans(&mut connection).await;
    assert_eq!(before.len(), 3, "{before:?}");
    let mut questions = Questions { database: &database, connection, before };
    let to = from + Duration::from_secs(24 * 3600);
    ask_of_traces(&mut questions, (from, to)).await;
    ask_of_access_logs(&mut questions, (from, to)).await;
}

async fn ask_of_traces(questions: &mut Questions<'_>, (from, to): (Timestamp, Timestamp)) {
    let trace = store_traces::id(77);
    let batches = questions.ask("a trace by id", async |store| store.trace(trace).await.expect("a trace")).await;
    assert_eq!(batches, [38_u64.to_be_bytes()]);
    let ids: Vec<_> = (0..128).map(store_traces::id).collect();
    let places = questions.ask("places", async |store| store.places_of(&ids, 20_000).await.expect("places")).await;
    assert_eq!(places.len(), 128);
    let keys: HashSet<_> = places.iter().map(|place| place.batch).collect();
    let keys: Vec<_> = keys.into_iter().collect();
    let read = questions.ask("batches", async |store| store.span_batches(&keys).await.expect("batches")).await;
    assert_eq!(read.len(), 64);
    let text = |text: &str| Some(text.to_owned());
    let any = TraceSearch::any(from, to, 20);
    for (what, search, expect) in [
        ("newest", any.clone(), 20),
        ("common service", TraceSearch { service: text("front"), ..any.clone() }, 20),
        ("rare service", TraceSearch { service: text("rare"), ..any.clone() }, 2),
        ("operation", TraceSearch { operation: text("GET /7"), ..any.clone() }, 20),
        ("status", TraceSearch { error_only: true, ..any.clone() }, 20),
        ("duration", TraceSearch { duration_ns_min: Some(5_050_000), ..any.clone() }, 20),
        ("time", TraceSearch { to: from + Duration::from_secs(1), ..any.clone() }, 20),
    ] {
        let found = questions.ask(what, async |store| store.search_traces(&search).await.expect("a search")).await;
        assert_eq!(found.len(), expect, "{what}");
    }
    let attribute_keys = vec![span_key::of_attribute("one", "777")];
    for (what, search, expect) in [
        ("slow spans", PartSearch { longest_ns_min: Some(1_500_000_000), ..PartSearch::any(from, to) }, 20),
        ("attribute", PartSearch { attribute_keys, ..PartSearch::any(from, to) }, 2),
    ] {
        let found = async |store: &Store| PartScan::new(search).next(store, 20).await.expect("parts");
        assert_eq!(questions.ask(what, found).await.len(), expect, "{what}");
    }
    let services = questions.ask("services", async |store| store.span_services(from, to).await.expect("names")).await;
    assert!(services.contains(&"front".to_owned()), "{services:?}");
    let names = async |store: &Store| store.span_operations("rare", from, to).await.expect("names");
    assert_eq!(questions.ask("operations", names).await.len(), 1);
}

async fn ask_of_access_logs(questions: &mut Questions<'_>, (from, to): (Timestamp, Timestamp)) {
    let text = |text: &str| Some(text.to_owned());
    let any = AccessLogSearch {
        from,
        to,
        source: None,
        destination: None,
        reasons: Vec::new(),
        codes: None,
        trace_hash: None,
    };
    let reasons = vec![Reason::NoHealthyUpstream];
    for (what, search, expect) in [
        ("newest records", any.clone(), 20),
        ("common caller", AccessLogSearch { source: text("shop/w3"), ..any.clone() }, 20),
        ("rare caller", AccessLogSearch { source: text("shop/rare"), ..any.clone() }, 5),
        ("rare caller without namespace", AccessLogSearch { source: text("rare"), ..any.clone() }, 5),
        ("unknown caller", AccessLogSearch { source: text("nobody"), ..any.clone() }, 0),
        ("service by host", AccessLogSearch { destination: text("cart.shop.svc.cluster.local"), ..any.clone() }, 20),
        ("rare host", AccessLogSearch { destination: text("api.example.com"), ..any.clone() }, 5),
        ("workload", AccessLogSearch { destination: text("cart-v2"), ..any.clone() }, 20),
        ("reason", AccessLogSearch { reasons, ..any.clone() }, 20),
        ("status", AccessLogSearch { codes: Some((500, 599)), ..any.clone() }, 20),
        ("unknown status", AccessLogSearch { codes: Some((404, 404)), ..any.clone() }, 0),
        ("trace", AccessLogSearch { trace_hash: Some(777), ..any.clone() }, 1),
        ("time of records", AccessLogSearch { to: from + Duration::from_secs(1), ..any.clone() }, 20),
    ] {
        let parts = async |store: &Store| store.access_log_parts(&search, None, 20).await.expect("a search");
        let found = questions.ask(what, parts).await;
        assert_eq!(found.len(), expect, "{what}");
        assert!(found.windows(2).all(|pair| pair[0].to_at >= pair[1].to_at), "{what}: newest first");
        if let Some(last) = found.get(9) {
            let rest = async |store: &Store| store.access_log_parts(&search, Some(*last), 10).await.expect("a page");
            assert_eq!(
                questions.ask(what, rest).await[..found.len().min(20) - 10],
                found[10..],
                "{what}: pages follow"
            );
        }
        if let Some(first) = found.first() {
            let read = async |store: &Store| store.access_log_batch(first.batch).await.expect("a batch");
            assert!(questions.ask("a batch of records", read).await.is_some());
        }
    }
}
