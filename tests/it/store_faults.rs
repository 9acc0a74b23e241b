//! PostgreSQL fails in the middle of things: nothing that the journal acknowledged is missing, nothing is doubled.
//!
//! Here the parts of `persist` are driven one by one; `app_faults` has the whole program under load.

use std::time::Duration;

use meshscope::clock::Clock;
use meshscope::model::span::SpanBatch;
use meshscope::model::{Labels, Timestamp};
use meshscope::persist::{ChunkPersist, History};
use meshscope::series::{Head, Row};
use meshscope::store::RetentionConfig;
use sqlx::PgConnection;

use crate::chaos::Chaos;
use crate::crash::Random;
use crate::postgres;
use crate::samples::{DAY, HOUR, chunks, everything, head, restarted, start, tiered, write_journal};

const STEP: Duration = Duration::from_secs(60);

/// Counters of `label_sets` pods, two names each, once a minute in `[from, to)`.
fn fill(heads: &[&Head], label_sets: u64, (from, to): (Timestamp, Timestamp)) {
    for head in heads {
        for set in 0..label_sets {
            for name in ["requests_total", "level"] {
                let labels = Labels::from_pairs([("__name__", name), ("pod", &format!("pod-{set}"))]);
                let series = head.intern(&labels).expect("under the limit");
                let mut rows = Vec::new();
                let mut at = from;
                while at < to {
                    let value = (at.as_millis() / 60_000 % 1000) as f64 * (set + 1) as f64;
                    rows.push(Row { series, at, value });
                    at = at + STEP;
                }
                assert_eq!(head.append(&rows).accepted, rows.len());
            }
        }
    }
}

/// So many series of one batch of label sets that their names go by COPY.
fn fill_buckets(heads: &[&Head], at: Timestamp) {
    for head in heads {
        for i in 0..256 * 22 {
            let (pod, bound) = (format!("wide-{}", i / 22), (i % 22).to_string());
            let labels = Labels::from_pairs([("__name__", "latency_bucket"), ("le", &bound), ("pod", &pod)]);
            let series = head.intern(&labels).expect("under the limit");
            assert_eq!(head.append(&[Row { series, at, value: f64::from(i) }]).accepted, 1);
        }
    }
}

#[tokio::test]
async fn samples_that_left_memory_before_they_were_cut_come_from_the_journal() {
    let store = postgres::connect(&postgres::database().await).await;
    let (memory, whole) = (head(HOUR * 3), head(DAY));
    let (middle, now) = (start() + HOUR * 5, start() + HOUR * 9);
    fill(&[&memory, &whole], 30, (start(), middle));
    write_journal(&memory, &store).await;
    // Chunks could not be written for hours, while scraping and the journal went on.
    fill(&[&memory, &whole], 30, (middle, now));
    write_journal(&memory, &store).await;
    for _ in 0..2 {
        memory.collect_garbage(now + HOUR * 2);
    }
    let in_memory = everything(&memory, (Timestamp::MIN, now)).await;
    assert!(in_memory[0].1[0].0 > start() + HOUR * 3, "the test needs samples that are gone from memory");
    let until = start() + HOUR * 8;
    chunks(&memory, &store).close_windows(until).await.expect("close");
    let all = (Timestamp::MIN, now);
    assert!(everything(&tiered(&memory, &store), all).await == everything(&whole, all).await, "in this process");
    let again = restarted(&store, HOUR * 3, now).await;
    assert!(everything(&tiered(&again, &store), all).await == everything(&whole, all).await, "in the next one");
}

#[tokio::test]
async fn late_samples_hold_memory_for_hours_not_for_ever_and_then_come_from_the_journal() {
    let store = postgres::connect(&postgres::database().await).await;
    let (memory, whole) = (head(HOUR * 3), head(DAY * 9));
    let now = start() + HOUR * 6;
    fill(&[&memory, &whole], 5, (start() + HOUR * 4, now));
    let persist = chunks(&memory, &store);
    persist.close_windows(start() + HOUR * 4).await.expect("close");
    fill(&[&memory, &whole], 5, (start(), start() + HOUR)); // late
    write_journal(&memory, &store).await;
    memory.collect_garbage(now);
    let late = (Timestamp::MIN, start() + HOUR);
    assert_eq!(everything(&memory, late).await.len(), 10, "they wait in memory");
    memory.collect_garbage(now + HOUR * 2);
    assert_eq!(everything(&memory, late).await.len(), 10, "and go on waiting");
    for hours in [4, 7] {
        memory.collect_garbage(now + HOUR * hours);
    }
    assert_eq!(memory.stats().samples, 0, "but memory is bounded");
    assert!(persist.merge_past().await.expect("merge") > 0);
    assert!(!memory.has_past());
    assert!(everything(&History::new(store), late).await == everything(&whole, late).await);
}

/// What a process would do: cut, merge, thin, with each step tried once.
async fn work(persist: &ChunkPersist, until: Timestamp) -> bool {
    persist.close_windows(until).await.is_ok()
        && persist.merge_past().await.is_ok()
        && persist.thin(until).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_at_any_byte_of_cutting_merging_and_thinning_loses_and_doubles_nothing() {
    let seed = std::env::var("MESHSCOPE_CRASH_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| Clock::system().now().as_millis() as u64);
    let rounds = std::env::var("MESHSCOPE_CRASH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(8);
    println!("MESHSCOPE_CRASH_ROUNDS={rounds} MESHSCOPE_CRASH_SEED={seed}");
    let mut random = Random(seed);
    let direct = postgres::database().await;
    let (chaos, cabled) = Chaos::before(&direct).await;
    let store = postgres::connect(&cabled).await;
    let outside = postgres::connect(&direct).await;
    let (label_sets, until) = (40, start() + DAY + HOUR * 4);
    let whole = head(DAY * 9);
    let source = head(DAY * 9);
    fill(&[&source, &whole], label_sets, (start() + HOUR * 20, until + HOUR));
    fill_buckets(&[&source, &whole], start() + HOUR * 21);
    write_journal(&source, &outside).await;
    let all = (Timestamp::MIN, until + HOUR);
    let expect = everything(&whole, all).await;

    let mut size = 4 << 20; // bytes of the whole work, known better after it was done once
    let (mut done, mut failures) = (false, 0);
    for round in 0..rounds {
        let after = random.below(size);
        // A new process after each cut, as after a crash; now and then the same one tries again.
        let memory = restarted(&outside, DAY * 9, until + HOUR).await;
        let persist = chunks(&memory, &store);
        let sent = chaos.sent();
        chaos.cut_after(after);
        for attempt in 0..=random.below(2) {
            done = work(&persist, until).await;
            failures += u32::from(!done);
            chaos.cut_no_more();
            if done {
                size = (chaos.sent() - sent).max(1 << 16);
            }
            let found = everything(&tiered(&memory, &outside), all).await;
            assert!(found == expect, "seed {seed}, round {round}, attempt {attempt}, cut after {after} bytes");
        }
        let again = restarted(&outside, DAY * 9, until + HOUR).await;
        let found = everything(&tiered(&again, &outside), all).await;
        assert!(found == expect, "seed {seed}, round {round}: after a restart, cut after {after} bytes of {size}");
        if done {
            // From the beginning again, with the journal and the chunks as they are: all of it must be idempotent.
            let mut connection = postgres::connection(&direct).await;
            let back = "DELETE FROM progress WHERE name IN ('chunked_until', 'thinned_until')";
            sqlx::raw_sql(back).execute(&mut connection).await.expect("begin again");
        }
    }
    let memory = restarted(&outside, DAY * 9, until + HOUR).await;
    assert!(work(&chunks(&memory, &store), until).await, "with a whole wire it goes through");
    assert_eq!(outside.thinned_until().await.expect("read"), Some(start() + DAY));
    // What a query sees of chunks alone.
    let closed = (Timestamp::MIN, until - Duration::from_millis(1));
    assert!(everything(&History::new(outside), closed).await == everything(&whole, closed).await);
    println!("{failures} of the attempts failed, the work has {size} bytes");
}

#[tokio::test]
async fn a_damaged_chunk_is_kept_aside_when_late_samples_replace_it_and_when_its_day_is_thinned() {
    let database = postgres::database().await;
    let store = postgres::connect(&database).await;
    let mut outside = postgres::connection(&database).await;
    let memory = head(DAY * 2);
    fill(&[&memory], 2, (start(), start() + HOUR * 3));
    let persist = chunks(&memory, &store);
    let until = start() + HOUR * 2;
    persist.close_windows(until).await.expect("close");
    let one = "UPDATE chunk_raw SET bytes = '\\x02ffff' WHERE label_set_id = (SELECT min(label_set_id) FROM chunk_raw)";
    sqlx::raw_sql(one).execute(&mut outside).await.expect("damage");
    // Late: 30 s beside the others, of both label sets.
    let late = start() + Duration::from_secs(30);
    fill(&[&memory], 2, (late, late + STEP));
    assert_eq!(persist.merge_past().await.expect("merge"), 2);
    let aside =
        "SELECT count(*) FROM chunk_damaged WHERE bytes = '\\x02ffff' AND sample_count = 240 AND tier = 'chunk_raw'";
    let kept: i64 = sqlx::query_scalar(aside).fetch_one(&mut outside).await.expect("count");
    assert_eq!((kept, store.damaged_chunks()), (1, 1));
    sqlx::raw_sql(
        "UPDATE chunk_raw SET bytes = '\\x03' WHERE label_set_id = (SELECT min(label_set_id) FROM chunk_raw)",
    )
    .execute(&mut outside)
    .await
    .expect("damage");
    persist.thin(start() + DAY).await.expect("thin");
    let kept: i64 =
        sqlx::query_scalar("SELECT count(*) FROM chunk_damaged").fetch_one(&mut outside).await.expect("count");
    assert_eq!((kept, store.damaged_chunks()), (2, 2));
}

/// A row may be on its way to the default partition while the partition of its time is made: PostgreSQL refuses it then,
/// though the row is sound and has a place at the second attempt.
#[tokio::test]
async fn a_row_whose_partition_is_made_meanwhile_is_written_at_the_second_attempt() {
    let database = postgres::database().await;
    let (store, mut maker) = (postgres::connect(&database).await, postgres::connection(&database).await);
    let run = "BEGIN; LOCK TABLE span_batch_other IN ACCESS EXCLUSIVE MODE";
    sqlx::raw_sql(run).execute(&mut maker).await.expect("lock the default partition");
    let writing = store.clone();
    let writer = tokio::spawn(async move { writing.write_spans(vec![small_batch()]).await });
    let mut watcher = postgres::connection(&database).await;
    wait_for_locks(&mut watcher, "relation = 'span_batch_other'::regclass").await;
    let day = start().to_chrono().date_naive();
    let make = format!(
        "CREATE TABLE span_batch_now (LIKE span_batch INCLUDING ALL);
         ALTER TABLE span_batch ATTACH PARTITION span_batch_now FOR VALUES FROM ('{day}') TO ('{}'); COMMIT",
        day + chrono::Days::new(1)
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(make)).execute(&mut maker).await.expect("make the partition");
    let refused = writer.await.expect("no panic").expect_err("the row was routed to the default partition");
    assert!(refused.is_temporary(), "{refused:?}");
    store.write_spans(vec![small_batch()]).await.expect("the second attempt");
    let stored = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM span_batch_now").fetch_one(&mut watcher).await;
    assert_eq!(stored.expect("a number"), 1);
}

/// Maintenance that has begun to make a partition keeps writers out until it is there: they are not refused.
#[tokio::test]
async fn a_row_that_comes_while_maintenance_makes_its_partition_is_written_at_the_first_attempt() {
    let database = postgres::database().await;
    let store = postgres::connect(&database).await;
    let mut reader = postgres::connection(&database).await;
    let read = "BEGIN; LOCK TABLE span_batch_other IN ACCESS SHARE MODE";
    sqlx::raw_sql(read).execute(&mut reader).await.expect("read the default partition");
    let making = store.clone();
    let maker = tokio::spawn(async move { making.maintain(&RetentionConfig::default(), start()).await });
    let mut watcher = postgres::connection(&database).await;
    wait_for_locks(&mut watcher, "relation = 'span_batch_other'::regclass").await;
    let writing = store.clone();
    let writer = tokio::spawn(async move { writing.write_spans(vec![small_batch()]).await });
    wait_for_locks(&mut watcher, "mode = 'RowExclusiveLock'").await;
    sqlx::raw_sql("COMMIT").execute(&mut reader).await.expect("end the reader");
    writer.await.expect("no panic").expect("written at once");
    maker.await.expect("no panic").expect("made");
    let astray = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM span_batch_other").fetch_one(&mut watcher).await;
    assert_eq!(astray.expect("a number"), 0);
}

/// A batch of one span at the start.
fn small_batch() -> SpanBatch {
    let from_ns = start().as_millis() as u64 * 1_000_000;
    SpanBatch { bytes: vec![1], from_ns, to_ns: from_ns + 1, span_count: 1, parts: Vec::new(), keys: Vec::new() }
}

/// Waits until somebody waits for such a lock of this database.
async fn wait_for_locks(watcher: &mut PgConnection, which: &str) {
    let waits = format!(
        "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND {which}
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    );
    let mut waiting = false;
    while !waiting {
        let asked = sqlx::query_scalar(sqlx::AssertSqlSafe(waits.clone())).fetch_one(&mut *watcher).await;
        waiting = asked.expect("yes or no");
    }
}
