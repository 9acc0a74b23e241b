//! The previous release's database is brought up to date, and what was stored in it is still answered.
//!
//! `upgrade/schema_0023.sql` says which release that is and how the dump was made. Its rows are known: each number below is
//! one that the earlier program was given.

use std::collections::BTreeSet;
use std::time::Duration;

use meshscope::model::{AlertState, Labels, MatchOp, Matcher, Timestamp, stale_marker};
use meshscope::persist::{self, History};
use meshscope::rollup::Rollup;
use meshscope::series::Tiered;
use meshscope::store::{
    AlertHistoryQuery, Config, NotificationFate, NotificationQuery, PartScan, PartSearch, RetentionConfig, RollupTier,
    TraceSearch,
};
use meshscope::traces::{IndexConfig, decode_batch, encode_batch};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

use crate::postgres;
use crate::samples::{self, DAY, HOUR, as_before, everything, start};

const RELEASED: &str = include_str!("upgrade/schema_0023.sql");

/// A database as the earlier release left it.
async fn released() -> Config {
    let config = postgres::empty_database().await;
    let mut connection = postgres::connection(&config).await;
    connection.execute(AssertSqlSafe(RELEASED.to_owned())).await.expect("the dump is restored");
    config
}

/// All tables but the partitions, with their columns, and all indexes, views and functions.
async fn schema(connection: &mut PgConnection) -> BTreeSet<String> {
    let own = "!~ '(_[0-9]{8}|_other|_pkey|_idx[0-9]*)$'";
    let everything = format!(
        "SELECT 'column ' || concat_ws(' ', table_name, column_name, data_type, is_nullable, column_default)
         FROM information_schema.columns WHERE table_schema = 'public' AND table_name {own}
         UNION SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename {own}
         UNION SELECT 'view ' || viewname || definition FROM pg_views WHERE schemaname = 'public'
         UNION SELECT 'function ' || oid::regprocedure FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
    );
    let rows: Vec<String> =
        sqlx::query_scalar(AssertSqlSafe(everything)).fetch_all(connection).await.expect("read the catalog");
    rows.into_iter().collect()
}

#[tokio::test]
async fn an_upgraded_database_has_the_schema_of_a_new_one() {
    let (upgraded, new) = (released().await, postgres::database().await);
    postgres::connect(&upgraded).await.close().await;
    let upgraded = schema(&mut postgres::connection(&upgraded).await).await;
    let new = schema(&mut postgres::connection(&new).await).await;
    assert!(new.len() > 100, "{} parts of a schema", new.len());
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect::<Vec<_>>();
    assert_eq!((only(&upgraded, &new), only(&new, &upgraded)), (vec![], vec![]), "upgraded only, new only");
}

#[tokio::test]
async fn every_table_of_the_earlier_release_has_rows_in_the_dump() {
    let mut connection = postgres::connection(&released().await).await;
    let tables =
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
                  AND NOT relispartition ORDER BY 1";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut connection).await.expect("read the catalog");
    assert!(tables.len() > 20, "{tables:?}");
    for table in tables {
        let count = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        let rows: i64 = sqlx::query_scalar(count).fetch_one(&mut connection).await.expect("count");
        assert!(rows > 0, "{table} is empty in the dump");
    }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

/// What each ten minutes of 26 hours were given.
fn samples_given() -> samples::Samples {
    let series = [
        labels(&[("__name__", "requests_total"), ("pod", "a"), ("note", "é\"\\")]),
        labels(&[("__name__", "requests_total"), ("pod", "b"), ("note", "é\"\\")]),
        labels(&[("__name__", "latency_bucket"), ("pod", "a"), ("le", "5")]),
        labels(&[("__name__", "latency_bucket"), ("pod", "a"), ("le", "+Inf")]),
    ];
    let value = |i: u32, n: usize| match (i, n) {
        (100, 1) => stale_marker(),
        _ => f64::from(i) * (n as f64 + 0.25),
    };
    let of = |n: usize| (0..156).map(move |i| (start() + Duration::from_secs(600) * i, value(i, n).to_bits()));
    let mut given: samples::Samples =
        series.into_iter().enumerate().map(|(n, labels)| (labels, of(n).collect())).collect();
    given.sort();
    given
}

#[tokio::test]
async fn stored_samples_are_answered_after_the_upgrade() {
    let store = postgres::connect(&released().await).await;
    let now = start() + HOUR * 26;
    // Chunks hold a day; the last two hours are in the journal.
    let head = samples::head(DAY * 3);
    let restored =
        persist::restore(&store, &head, (&Rollup::default(), as_before()), now, |_| {}).await.expect("restore");
    assert_eq!((restored.progress.entries, restored.unreadable), (1, (0, None)));
    let all: Tiered = samples::tiered(&head, &store);
    assert_eq!(everything(&all, (start(), now)).await, samples_given());
    let history =
        everything(&History::new(store.clone()), (start(), start() + HOUR * 24 - Duration::from_millis(1))).await;
    assert_eq!(history.iter().map(|(_, samples)| samples.len()).collect::<Vec<_>>(), [144; 4]);
    assert_eq!(store.thinned_until().await.expect("read"), Some(start() + HOUR * 24));
    let place = store.journal_place("mimir", store.journal_end().await.expect("the end")).await.expect("read");
    assert_eq!(place.map(|place| (place.waiting_samples, place.missed_entries)), Some((0, 0)));
    assert!(store.exchange_scrape_settings("settings").await.expect("read"), "the same settings as before");
}

#[tokio::test]
async fn stored_edges_and_traces_are_answered_after_the_upgrade() {
    let store = postgres::connect(&released().await).await;
    let minutes = store.edges(RollupTier::Minutes, start(), start() + HOUR * 2).await.expect("minutes");
    assert_eq!(minutes.len(), 76);
    let cart = |edge: &&meshscope::model::EdgeMinute| edge.edge.destination.name.as_deref() == Some("cart");
    let one = minutes.iter().find(cart).expect("an edge");
    let requests: Vec<(&str, f64)> = one.requests.iter().map(|(outcome, count)| (&*outcome.code, *count)).collect();
    assert_eq!((requests, one.latency.sum_ms), (vec![("200", 90.0), ("503", 10.0)], 812.5));
    let hours = store.edges(RollupTier::Hours, start(), start() + HOUR * 2).await.expect("hours");
    assert_eq!(hours.iter().filter(cart).map(|hour| hour.requests[0].1).collect::<Vec<_>>(), [5400.0]);
    let totals = store.edge_totals(RollupTier::Minutes, start(), start() + HOUR * 2).await.expect("sums");
    assert_eq!(totals.iter().map(|edge| edge.request_bytes).sum::<f64>(), 76_000.0);
    // Of a minute that is written again the new numbers count, as before the upgrade.
    store.write_edges(vec![one.clone()]).await.expect("write");
    assert_eq!(store.edges(RollupTier::Minutes, start(), start() + HOUR * 2).await.expect("minutes").len(), 76);

    let any = TraceSearch {
        service: Some("cart".into()),
        operation: Some("GET /cart".into()),
        error_only: true,
        ..TraceSearch::any(start() - HOUR, start() + HOUR, 20)
    };
    let found = store.search_traces(&any).await.expect("search");
    assert_eq!(found.iter().map(|one| (one.trace_id, one.span_count)).collect::<Vec<_>>(), [([0xab; 16], 2)]);
    let batches = store.trace([0xab; 16]).await.expect("read");
    let spans = decode_batch(&batches[0]).expect("spans that an earlier release wrote");
    let names: Vec<(&str, &str)> = spans.iter().map(|span| (&*span.service, &*span.name)).collect();
    assert_eq!(names, [("web", "GET /cart"), ("cart", "GET /cart")]);
    // It is found by all that it would be found by if it came now.
    let part =
        PartSearch { services: vec!["web".into(), "cart".into()], ..PartSearch::any(start() - HOUR, start() + HOUR) };
    let found = PartScan::new(part).next(&store, 10).await.expect("parts");
    let again = encode_batch(&spans, &IndexConfig::default()).expect("a batch");
    assert_eq!(found.iter().map(|found| &found.part).collect::<Vec<_>>(), again.parts.iter().collect::<Vec<_>>());
    for key in again.keys {
        let with_key = PartSearch { attribute_keys: vec![key], ..PartSearch::any(start() - HOUR, start() + HOUR) };
        assert_eq!(PartScan::new(with_key).next(&store, 10).await.expect("parts"), found, "{key}");
    }
}

#[tokio::test]
async fn stored_alerts_notifications_and_silences_are_answered_after_the_upgrade() {
    let store = postgres::connect(&released().await).await;
    let at = |seconds: u64| start() + Duration::from_secs(seconds);
    let query = AlertHistoryQuery {
        from: start(),
        to: start() + HOUR,
        fingerprint: None,
        to_state: None,
        matchers: vec![Matcher::equal("service", "cart")],
        text: "burns".into(),
        before: None,
        limit: 10,
    };
    let page = store.alert_history(&query).await.expect("history");
    let events: Vec<_> =
        page.events.iter().map(|event| (event.at, event.labels.value("alertname"), event.to)).collect();
    let expect =
        [(at(120), "A", AlertState::Inactive), (at(60), "B", AlertState::Firing), (at(0), "A", AlertState::Firing)];
    assert_eq!(events, expect);
    let saved = store.saved_alerts().await.expect("saved alerts");
    assert_eq!(
        saved.iter().map(|one| (one.alert.state, one.alert.fired_at)).collect::<Vec<_>>(),
        [(AlertState::Firing, Some(at(60)))]
    );

    let all = NotificationQuery {
        fate: None,
        receiver: Some("team".into()),
        told: None,
        text: Some("alertname=\"b\"".into()),
        from: None,
        before: None,
        limit: 10,
    };
    let found = store.search_notifications(&all).await.expect("search the outbox");
    let fates: Vec<_> = found.iter().map(|one| (one.fate(), one.last_error.as_deref())).collect();
    let expect = [
        (NotificationFate::Waiting, Some("500 from the webhook")),
        (NotificationFate::Failed, Some("400 from the webhook")),
        (NotificationFate::Sent, None),
    ];
    assert_eq!(fates, expect);
    let waiting = store.pending_notifications(start() + HOUR, 10).await.expect("what waits");
    let bodies: Vec<_> = waiting.iter().map(|one| (one.attempts, one.notification.body.as_deref())).collect();
    assert_eq!(bodies, [(1, Some("{\"b\":1,\"a\":2}\n"))], "what waited before the upgrade is sent after it");
    let log = store.notify_log().await.expect("the notification log");
    assert_eq!(log.iter().map(|entry| entry.firing_hashes.clone()).collect::<Vec<_>>(), [vec![1, u64::MAX]]);

    let stored = store.silences().await.expect("silences");
    assert_eq!(stored.damaged, Vec::<String>::new());
    let expect = [(MatchOp::Equal, "service", "cart"), (MatchOp::NotRegex, "severity", "page|critical")]
        .map(|(op, name, value)| Matcher::new(op, name, value).expect("a matcher"));
    assert_eq!(stored.silences[0].matchers, expect);
    assert_eq!((&*stored.silences[0].comment, stored.silences[0].ends_at), ("a deploy", start() + HOUR));
}

#[tokio::test]
async fn what_was_declared_and_found_is_answered_after_the_upgrade_and_maintenance_goes_on() {
    let store = postgres::connect(&released().await).await;
    let history = store.resource_history("/VirtualService/shop/cart", 10).await.expect("generations");
    let bodies: Vec<(Timestamp, Option<&str>)> = history.iter().map(|one| (one.seen_at, one.body.as_deref())).collect();
    assert_eq!(bodies, [(start() + HOUR * 2, None), (start(), Some("spec: {hosts: [cart]}"))]);
    let found = store.findings(start(), start() + DAY).await.expect("findings");
    let held: Vec<(&str, Option<Timestamp>)> = found.iter().map(|one| (&*one.subject, one.gone_at)).collect();
    assert_eq!(held, [("VirtualService shop/cart", Some(start() + HOUR)), ("VirtualService shop/web", None)]);
    let maintained = store.maintain(&RetentionConfig::default(), start() + DAY).await.expect("maintain");
    assert_eq!(maintained.dropped, 0);
    let maintained = store.maintain(&RetentionConfig::default(), start() + DAY * 2).await.expect("maintain");
    assert!(maintained.made > 0, "the next day has partitions, of the tables that came with the upgrade too");
}
