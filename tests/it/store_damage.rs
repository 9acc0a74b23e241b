//! Chunk rows that cannot be read, and label sets with very many series.

use std::collections::BTreeSet;
use std::time::Duration;

use meshscope::model::{Labels, Timestamp};
use meshscope::persist::History;
use meshscope::series::{CHUNK_WINDOW, Head, Queryable, Row, Select, Selection};
use meshscope::store::Store;
use sqlx::{AssertSqlSafe, Connection};

use crate::postgres;
use crate::samples::{DAY, HOUR, chunks, everything, head, start, tiered};

/// A counter of three pods, each minute for `hours`.
fn fill(head: &Head, hours: u32) {
    for pod in ["a", "b", "c"] {
        let labels = Labels::from_pairs([("__name__", "requests_total"), ("pod", pod)]);
        let series = head.intern(&labels).expect("under the limit");
        let rows: Vec<Row> = (0..60 * hours)
            .map(|i| Row { series, at: start() + Duration::from_secs(60) * i, value: f64::from(i) })
            .collect();
        assert_eq!(head.append(&rows).accepted, rows.len());
    }
}

async fn select(store: &Store, range: (Timestamp, Timestamp)) -> Selection {
    let select = Select::new(Vec::new(), range.0, range.1);
    History::new(store.clone()).select(select).await.expect("an answer in spite of the damage")
}

#[tokio::test]
async fn a_query_answers_without_the_chunk_that_cannot_be_read_and_says_which() {
    let database = postgres::database().await;
    let store = postgres::connect(&database).await;
    let mut outside = postgres::connection(&database).await;
    let memory = head(DAY * 2);
    fill(&memory, 26);
    let persist = chunks(&memory, &store);
    persist.close_windows(start() + HOUR * 26).await.expect("close");
    let damaged = start() + CHUNK_WINDOW;
    let damage = format!(
        "UPDATE chunk_raw SET bytes = '\\x02ffff' WHERE from_at = to_timestamp({}) AND label_set_id =
         (SELECT label_set_id FROM label_set WHERE labels @> '{{\"pod\": \"b\"}}')",
        damaged.as_millis() / 1000
    );
    sqlx::raw_sql(AssertSqlSafe(damage.clone())).execute(&mut outside).await.expect("damage");

    let range = (start(), start() + HOUR * 6);
    let answer = select(&store, range).await;
    let counts: BTreeSet<(String, usize)> =
        answer.series.iter().map(|series| (series.labels.value("pod").to_owned(), series.values.len())).collect();
    let expect = [("a", 361), ("b", 361 - 120), ("c", 361)].map(|(pod, count)| (pod.to_owned(), count));
    assert_eq!(counts, expect.into_iter().collect());
    assert_eq!(answer.warnings.len(), 1, "{:?}", answer.warnings);
    let warning = &answer.warnings[0];
    for part in [
        "120 samples from 2026-01-15T02:00:00",
        "pod=\"b\"",
        "Restore the row",
        "DELETE FROM chunk_raw WHERE label_set_id = ",
    ] {
        assert!(warning.contains(part), "{part} in {warning}");
    }
    assert_eq!((store.unreadable_chunks(), store.damaged_chunks()), (1, 0));
    // What it says to do is a statement that does it.
    let delete = &warning[warning.find("DELETE").expect("a statement")..];
    assert_eq!(
        select(&store, (start() + HOUR * 5, start() + HOUR * 6)).await.warnings,
        [""; 0],
        "other windows are well"
    );

    // Thinned samples stand in for raw ones that cannot be read.
    persist.thin(start() + DAY).await.expect("thin");
    sqlx::raw_sql("TRUNCATE chunk_damaged").execute(&mut outside).await.expect("forget");
    let whole = "DELETE FROM chunk_5m";
    sqlx::raw_sql(whole).execute(&mut outside).await.expect("delete");
    sqlx::raw_sql(AssertSqlSafe(delete.to_owned())).execute(&mut outside).await.expect("the statement of the warning");
    assert_eq!(select(&store, range).await.warnings, [""; 0], "given up");
    outside.close().await.expect("close");
}

#[tokio::test]
async fn thinned_samples_stand_in_for_raw_ones_that_cannot_be_read() {
    let database = postgres::database().await;
    let store = postgres::connect(&database).await;
    let mut outside = postgres::connection(&database).await;
    let memory = head(DAY * 2);
    fill(&memory, 26);
    let persist = chunks(&memory, &store);
    persist.close_windows(start() + HOUR * 26).await.expect("close");
    persist.thin(start() + DAY).await.expect("thin");
    let damage = format!(
        "UPDATE chunk_raw SET bytes = '\\x02ffff' WHERE from_at = to_timestamp({})",
        (start() + CHUNK_WINDOW).as_millis() / 1000
    );
    sqlx::raw_sql(AssertSqlSafe(damage)).execute(&mut outside).await.expect("damage");
    let answer = select(&store, (start(), start() + HOUR * 6)).await;
    assert_eq!(answer.warnings.len(), 3, "{:?}", answer.warnings);
    for series in &answer.series {
        let in_window = series.times.iter().filter(|at| at.floor_to(CHUNK_WINDOW) == start() + CHUNK_WINDOW).count();
        assert!((24..=26).contains(&in_window), "{}: {in_window} of 120 samples", series.labels);
        assert_eq!(series.values.len() - in_window, 361 - 120);
    }
    outside.close().await.expect("close");
}

#[tokio::test]
async fn a_label_set_with_thousands_of_series_takes_several_rows_through_merging_and_thinning() {
    let database = postgres::database().await;
    let store = postgres::connect(&database).await;
    let mut outside = postgres::connection(&database).await;
    let (memory, whole) = (head(DAY * 2), head(DAY * 2));
    let put = |count: usize, at: Timestamp| {
        for head in [&memory, &whole] {
            let batch: Vec<_> = (0..count)
                .map(|i| {
                    let labels =
                        Labels::from_pairs([("__name__", format!("metric_{i:05}").as_str()), ("job", "one page")]);
                    (head.intern(&labels).expect("under the limit"), i as f64)
                })
                .collect();
            assert_eq!(head.append_at(at, &batch).accepted, count);
        }
    };
    for hour in [0, 1, 3, 25] {
        put(5000, start() + HOUR * hour);
    }
    let persist = chunks(&memory, &store);
    persist.close_windows(start() + HOUR * 26).await.expect("close");
    let rows = "SELECT count(*), max(sample_count) FROM chunk_raw WHERE from_at < '2026-01-15T02:00Z'";
    let (count, largest): (i64, i32) = sqlx::query_as(rows).fetch_one(&mut outside).await.expect("count");
    assert_eq!((count, largest), (3, 2 * 2048));
    let all = (start(), start() + DAY * 2);
    let history = History::new(store.clone());
    assert!(everything(&history, all).await == everything(&whole, all).await);

    // Late samples, also of series that sort before the others: the borders of the rows move.
    put(6500, start() + Duration::from_secs(1000));
    assert_eq!(persist.merge_past().await.expect("merge"), 1);
    let (count, _): (i64, i32) = sqlx::query_as(rows).fetch_one(&mut outside).await.expect("count");
    assert_eq!(count, 4);
    assert!(everything(&history, all).await == everything(&whole, all).await, "after the merge");
    assert!(everything(&history, (start(), start())).await == everything(&whole, (start(), start())).await);

    assert_eq!(persist.thin(start() + DAY).await.expect("thin"), 4);
    sqlx::raw_sql("DELETE FROM chunk_raw WHERE from_at < '2026-01-16'").execute(&mut outside).await.expect("delete");
    // So few samples are all kept.
    assert!(everything(&tiered(&head(HOUR), &store), all).await == everything(&whole, all).await, "thinned");
    let names = history.series(Vec::new(), start(), start()).await.expect("series");
    assert_eq!(names.len(), 6500);
    outside.close().await.expect("close");
}
