//! History: thinned and raw chunks and memory as one, late and past samples, and what samples cost on disk.

use std::sync::Arc;
use std::time::Duration;

use meshscope::model::{Labels, Matcher, Timestamp, stale_marker};
use meshscope::persist::{Backfill, History};
use meshscope::promql::{Answer, Engine, QueryOptions};
use meshscope::series::{CHUNK_WINDOW, Head, Queryable, Row, Select, SeriesRef, SeriesSamples, Tiered};
use meshscope::store::RetentionConfig;
use sqlx::{AssertSqlSafe, Connection};

use crate::postgres;
use crate::samples::{DAY, HOUR, chunks, everything, head, restarted, start, tiered, write_journal};

const SLOT: Duration = Duration::from_secs(300);

fn labels(name: &str, pod: &str) -> Labels {
    Labels::from_pairs([("__name__", name), ("pod", pod)])
}

/// Two counters with resets, a gauge, and a series that ends, every 30 s from `from` on.
fn scraped(from: Timestamp, count: u32) -> Vec<SeriesSamples> {
    let times: Arc<[Timestamp]> = (0..count).map(|i| from + Duration::from_secs(30) * i).collect();
    let number = |at: &Timestamp| at.as_millis() / 30_000;
    let column = |value: &dyn Fn(i64) -> f64| times.iter().map(|at| value(number(at))).collect::<Vec<f64>>();
    let of = |name, pod, values| SeriesSamples { labels: labels(name, pod), times: Arc::clone(&times), values };
    let end = count as usize / 2;
    let mut ended = of("ended_total", "b", column(&|n| n as f64));
    ended.times = times[..=end].into();
    ended.values.truncate(end);
    ended.values.push(stale_marker());
    vec![
        of("steady_total", "a", column(&|n| (n % 1117 * 3) as f64)),
        of("busy_total", "b", column(&|n| (n % 379 * 7 + n % 379 % 5) as f64)),
        of("level", "a", column(&|n| ((n * 7919) % 1009) as f64 - 500.0)),
        ended,
    ]
}

fn append(head: &Head, series: &[SeriesSamples]) {
    for series in series {
        let reference = head.intern(&series.labels).expect("under the limit");
        let rows: Vec<Row> = (series.times.iter().zip(&series.values))
            .map(|(at, value)| Row { series: reference, at: *at, value: *value })
            .collect();
        assert_eq!(head.append(&rows).accepted, rows.len());
    }
}

async fn query(store: &dyn Queryable, query: &str, (from, to): (Timestamp, Timestamp), step: Duration) -> Answer {
    let engine = Engine::new(meshscope::promql::Config::default());
    let expr = engine.parse(query).expect("a valid query");
    engine.range(store, &expr, from, to, step, &QueryOptions::default()).await.expect("an answer")
}

/// The increase between samples at or before the two times, as a counter's.
fn increase(series: &SeriesSamples, from: Timestamp, to: Timestamp) -> f64 {
    let at = |at: Timestamp| series.times.partition_point(|t| *t <= at);
    let values = &series.values[at(from).saturating_sub(1)..at(to)];
    let values: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
    values.windows(2).map(|pair| if pair[1] < pair[0] { pair[1] } else { pair[1] - pair[0] }).sum()
}

#[tokio::test]
async fn every_seam_between_memory_raw_and_thinned_samples_is_exact() {
    let config = postgres::database().await;
    let store = postgres::connect(&config).await;
    let mut outside = postgres::connection(&config).await;
    let (whole, writer) = (head(DAY * 10), head(DAY * 10));
    let series = scraped(start(), 52 * 120); // two days and four hours
    append(&whole, &series);
    append(&writer, &series);
    let closed = start() + DAY * 2 + HOUR * 2;
    let persist = chunks(&writer, &store);
    assert_eq!(persist.close_windows(closed).await.expect("close"), 2 * 25);
    assert_eq!(persist.thin(closed).await.expect("thin"), 2 * 2);
    assert_eq!(persist.thin(closed).await.expect("nothing to do"), 0);
    assert_eq!(store.thinned_until().await.expect("boundary"), Some(start() + DAY * 2));

    // Memory keeps the last three hours; the border between raw and thinned moves over all windows.
    let recent = head(HOUR * 3);
    append(&recent, &series);
    let end = start() + HOUR * 52;
    recent.collect_garbage(end);
    let tiered = Tiered::new(recent, Arc::new(History::new(store.clone())));
    let all = (start() + SLOT, end);
    for window in 0..=24_u32 {
        let border = start() + CHUNK_WINDOW * window;
        let drop_old = format!("DELETE FROM chunk_raw WHERE from_at < to_timestamp({})", border.as_millis() / 1000);
        sqlx::raw_sql(AssertSqlSafe(drop_old)).execute(&mut outside).await.expect("delete");
        let raw_part = (border, end);
        assert!(everything(&tiered, raw_part).await == everything(&whole, raw_part).await, "after {border}");
        for text in ["{__name__=~\".+_total\"}", "level", "max_over_time(level[5m])", "min_over_time(level[10m])"] {
            let expect = query(&whole, text, all, SLOT).await;
            let found = query(&tiered, text, all, SLOT).await;
            assert_eq!(found.value, expect.value, "{text} with raw samples from {border} on");
            assert_eq!(found.warnings, [""; 0]);
        }
        let samples = tiered.select(Select::new(Vec::new(), start(), end)).await.expect("select").series;
        for raw in series.iter().filter(|series| series.labels.metric_name().ends_with("_total")) {
            let found = samples.iter().find(|found| found.labels == raw.labels).expect("the series");
            for from in (0..52_u32).step_by(5).map(|hour| start() + HOUR * hour) {
                for slots in [1, 2, 7, 144] {
                    let to = from + SLOT * slots;
                    assert_eq!(increase(found, from, to), increase(raw, from, to), "{} {from} {to}", raw.labels);
                }
            }
        }
    }
    // Between the steps: no hole, and the ended series stays ended.
    let odd = (start() + SLOT + Duration::from_secs(17), end);
    for text in ["count(level)", "count(ended_total) or vector(0)"] {
        let step = Duration::from_secs(37);
        assert_eq!(query(&tiered, text, odd, step).await.value, query(&whole, text, odd, step).await.value, "{text}");
    }
}

#[tokio::test]
async fn narrow_rates_are_widened_where_samples_are_thinned_and_say_so() {
    let config = postgres::database().await;
    let store = postgres::connect(&config).await;
    let writer = head(DAY * 10);
    append(&writer, &scraped(start(), 50 * 120));
    let persist = chunks(&writer, &store);
    persist.close_windows(start() + DAY * 2).await.expect("close");
    persist.thin(start() + DAY * 2).await.expect("thin");
    let mut outside = postgres::connection(&config).await;
    let border = start() + DAY;
    let drop_old = format!("DELETE FROM chunk_raw WHERE from_at < to_timestamp({})", border.as_millis() / 1000);
    sqlx::raw_sql(AssertSqlSafe(drop_old)).execute(&mut outside).await.expect("delete");
    let history = History::new(store);
    let hour = |h: u32| (start() + HOUR * h, start() + HOUR * (h + 1));
    let warning = "PromQL warning: range of 1m widened to 10m where samples are thinned to one each 5m";
    for (text, expect) in [("rate(steady_total[1m])", 0.1), ("increase(steady_total[1m])", 6.0)] {
        let thinned = query(&history, text, hour(3), Duration::from_secs(60)).await;
        assert_eq!(thinned.warnings.len(), 1, "{text}");
        assert!(thinned.warnings[0].starts_with(warning), "{}", thinned.warnings[0]);
        let meshscope::promql::Value::Matrix(series) = thinned.value else { panic!("a matrix") };
        assert_eq!((series.len(), series[0].values.len()), (1, 61), "{text}: a value at each step");
        assert!(series[0].values.iter().all(|value| (value - expect).abs() < expect / 2.0), "{text} {:?}", series[0]);
        let raw = query(&history, text, hour(30), Duration::from_secs(60)).await;
        assert_eq!(raw.warnings, [""; 0], "{text}");
    }
    for (text, thinned, raw) in [
        ("rate(steady_total[10m])", 0, 0),
        ("max_over_time(level[5m])", 0, 0),
        ("max_over_time(level[2m])", 1, 0),
        ("count_over_time(level[1h])", 1, 0),
        ("avg_over_time(level[10m])", 1, 0),
    ] {
        let warnings = async |at| query(&history, text, at, SLOT).await.warnings;
        let (of_thinned, of_raw) = (warnings(hour(3)).await, warnings(hour(30)).await);
        assert_eq!((of_thinned.len(), of_raw.len()), (thinned, raw), "{text}: {of_thinned:?} {of_raw:?}");
        assert!(of_thinned.iter().all(|warning| warning.contains("samples are thinned")), "{text}: {of_thinned:?}");
    }
}

#[tokio::test]
async fn late_samples_reach_the_chunks_of_their_windows_whatever_happens_between() {
    let config = postgres::database().await;
    let store = postgres::connect(&config).await;
    let (memory, whole) = (head(HOUR * 3), head(DAY * 1000));
    let now = start() + HOUR * 12;
    let recent = scraped(start(), 12 * 120);
    append(&memory, &recent);
    append(&whole, &recent);
    let persist = chunks(&memory, &store);
    persist.close_windows(now - HOUR * 2).await.expect("close");
    write_journal(&memory, &store).await;
    assert_eq!(persist.merge_past().await.expect("nothing came late"), 0);

    // For a window in memory, for one that left it, and for a year ago.
    let offset = Duration::from_secs(7);
    let late = |hours: u32| scraped(now - HOUR * hours + offset, 20);
    for hours in [3, 9, 365 * 24] {
        append(&memory, &late(hours));
        append(&whole, &late(hours));
    }
    memory.collect_garbage(now);
    memory.collect_garbage(now);
    write_journal(&memory, &store).await;
    let kept = everything(&memory, (Timestamp::MIN, start() - Duration::from_millis(1))).await;
    assert_eq!(kept.len(), 4, "late samples stay in memory until they are in chunks");

    // A crash before they are merged: the journal knows them.
    let again = restarted(&store, HOUR * 3, now).await;
    assert!(again.has_past());
    let all = (Timestamp::MIN, now);
    let expect = everything(&whole, all).await;
    assert!(everything(&tiered(&again, &store), all).await == expect, "after the crash");
    let persist = chunks(&again, &store);
    assert!(persist.merge_past().await.expect("merge") > 0);
    assert!(!again.has_past());
    again.collect_garbage(now);
    again.collect_garbage(now);
    assert!(everything(&tiered(&again, &store), all).await == expect, "after the merge");
    // Another crash: what is merged is not merged again, and nothing is doubled.
    let third = restarted(&store, HOUR * 3, now).await;
    assert!(!third.has_past());
    assert!(everything(&tiered(&third, &store), all).await == expect, "after the second crash");
}

#[tokio::test]
async fn a_crash_between_cutting_and_trimming_doubles_nothing() {
    let config = postgres::database().await;
    let store = postgres::connect(&config).await;
    let memory = head(DAY);
    append(&memory, &scraped(start(), 6 * 120));
    write_journal(&memory, &store).await;
    let until = start() + HOUR * 4;
    // Cut, written, and the acknowledgement lost: the next process cuts the same again.
    let copy = restarted(&store, DAY, until).await;
    let first = chunks(&memory, &store).close_windows(until).await.expect("close");
    assert_eq!(chunks(&copy, &store).close_windows(until).await.expect("close again"), first);
    let range = (Timestamp::MIN, until - Duration::from_millis(1));
    let history = History::new(store.clone());
    assert!(everything(&history, range).await == everything(&memory, range).await);
}

#[tokio::test]
async fn history_is_loaded_in_bulk_into_the_tier_of_its_age() {
    let config = postgres::database().await;
    let store = postgres::connect(&config).await;
    let memory = head(HOUR * 3);
    let now = start() + DAY * 300;
    let backfill = Backfill { store: store.clone(), retention: RetentionConfig::default(), head: Some(memory.clone()) };
    let (old, recent) = (scraped(start(), 2 * 120), scraped(now - DAY * 2, 2 * 120));
    append(&memory, &scraped(now - HOUR, 60));
    for _ in 0..2 {
        let mut both = old.clone();
        both.extend(recent.iter().cloned());
        let done = backfill.write(now, both).await.expect("load");
        assert_eq!((done.samples, done.too_old, done.in_future), (2 * (3 * 240 + 121), 0, 0));
    }
    let tiered = Tiered::new(memory, Arc::new(History::new(store.clone())));
    let whole = head(DAY);
    append(&whole, &recent);
    let range = (now - DAY * 3, now - DAY);
    assert!(everything(&tiered, range).await == everything(&whole, range).await, "raw where raw is kept");
    let of_old = (start(), start() + HOUR * 3);
    let thinned = everything(&tiered, of_old).await;
    assert_eq!(thinned.len(), 4);
    let counter = thinned.iter().find(|(labels, _)| labels.metric_name() == "steady_total").expect("the counter");
    assert!((24..40).contains(&counter.1.len()), "{} samples of two hours", counter.1.len());
    let done = backfill.write(now, scraped(now - DAY * 500, 10)).await.expect("too old");
    assert_eq!((done.samples, done.too_old), (0, 3 * 10 + 6));
    let done = backfill.write(now, scraped(now + HOUR, 10)).await.expect("in the future");
    assert_eq!((done.samples, done.in_future), (0, 3 * 10 + 6));
}

#[tokio::test]
async fn after_a_restart_history_loaded_in_bulk_is_seen_behind_a_late_sample() {
    let config = postgres::database().await;
    let store = postgres::connect(&config).await;
    let memory = head(HOUR * 3);
    let now = start() + DAY * 300;
    let backfill = Backfill { store: store.clone(), retention: RetentionConfig::default(), head: Some(memory.clone()) };
    let loaded = scraped(now - HOUR * 9, 9 * 120);
    backfill.write(now, loaded.clone()).await.expect("load");
    backfill.write(now, scraped(now - DAY * 3, 60)).await.expect("load what is older");
    // The first sample that memory ever gets is a late one.
    let late = memory.intern(&labels("late", "a")).expect("under the limit");
    memory.append_at(now - HOUR * 6, &[(late, 1.0)]);
    write_journal(&memory, &store).await;

    let whole = head(DAY);
    append(&whole, &loaded);
    let range = (now - HOUR * 8, now);
    for (when, memory) in [("before", memory), ("after", restarted(&store, HOUR * 3, now).await)] {
        let mut found = everything(&tiered(&memory, &store), range).await;
        found.retain(|(labels, _)| labels.metric_name() != "late");
        assert!(found == everything(&whole, range).await, "{when} the restart");
    }
}

#[tokio::test]
async fn the_migration_keeps_the_chunks_of_single_series() {
    let config = postgres::empty_database().await;
    let mut outside = postgres::connection(&config).await;
    let migrations = sqlx::migrate!();
    for migration in migrations.iter().filter(|migration| migration.version < 7) {
        sqlx::raw_sql(migration.sql.clone()).execute(&mut outside).await.expect("an old migration");
    }
    let times: Vec<Timestamp> = (0..20).map(|i| start() + Duration::from_secs(60) * i).collect();
    let values: Vec<f64> = (0..20).map(f64::from).collect();
    sqlx::raw_sql(
        "INSERT INTO label_set VALUES (1, '{\"pod\": \"é\"}');
         INSERT INTO metric VALUES (2, 'lat_bucket'), (3, 'up');
         INSERT INTO series VALUES (10, 2, 1, '5', '2026-01-15'), (11, 3, 1, NULL, '2026-01-15')",
    )
    .execute(&mut outside)
    .await
    .expect("series");
    for (series, part) in [(10_i64, 0..10), (10, 10..20), (11, 0..20)] {
        let bytes = meshscope::series::encode_chunk(&times[part.clone()], &values[part.clone()]);
        sqlx::query("INSERT INTO chunk_raw VALUES ($1, $2, $3, $4, $5)")
            .bind(series)
            .bind(times[part.start].to_chrono())
            .bind(times[part.end - 1].to_chrono())
            .bind(part.len() as i32)
            .bind(bytes)
            .execute(&mut outside)
            .await
            .expect("an old chunk");
    }
    for migration in migrations.iter().filter(|migration| migration.version == 7) {
        sqlx::raw_sql(migration.sql.clone()).execute(&mut outside).await.expect("the migration");
    }
    let rows: Vec<(i64, i32, Vec<u8>)> = sqlx::query_as("SELECT label_set_id, sample_count, bytes FROM chunk_raw")
        .fetch_all(&mut outside)
        .await
        .expect("read");
    assert_eq!(rows.iter().map(|row| (row.0, row.1)).collect::<Vec<_>>(), [(1, 40)]);
    let block = meshscope::series::decode_block(&rows[0].2, |_, _| true).expect("readable");
    let expect = meshscope::series::Member { times: times.into(), values };
    assert_eq!(block[&("lat_bucket".to_owned(), "5".to_owned())], expect);
    assert_eq!(block[&("up".to_owned(), String::new())], expect);
    outside.close().await.expect("close");
}

const BUCKETS: [&str; 20] = [
    "0.5", "1", "5", "10", "25", "50", "100", "250", "500", "1000", "2500", "5000", "10000", "30000", "60000",
    "300000", "600000", "1.8e+06", "3.6e+06", "+Inf",
];

/// One scrape each 15 s for two hours of `proxies` with 15 edges each: a counter and three histograms, a third busy.
fn fleet(head: &Head, proxies: usize) -> u64 {
    let mut random = 7_u64;
    let mut next = move |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below.max(1)
    };
    let mut samples = 0;
    for proxy in 0..proxies {
        let refs: Vec<SeriesRef> = (0..15).flat_map(|edge| edge_series(head, proxy, edge)).collect();
        let mut edges: Vec<(u64, Vec<f64>)> =
            (0..15).map(|_| ([0, 0, 1 + next(200)][next(3) as usize], vec![0.0; 67])).collect();
        for row in 0..480_u32 {
            for (rate, values) in edges.iter_mut().filter(|(rate, _)| *rate > 0) {
                let requests = *rate + next(*rate / 4 + 2);
                for _ in 0..requests {
                    values[0] += 1.0;
                    for histogram in 0..3 {
                        let at = 1 + histogram * 22;
                        let bucket = (next(8) + next(8)) as usize + histogram;
                        values[at + bucket..at + 20].iter_mut().for_each(|count| *count += 1.0);
                        values[at + 20] += next(10_000) as f64 / 20.0;
                        values[at + 21] += 1.0;
                    }
                }
            }
            let values = edges.iter().flat_map(|(_, values)| values.iter().copied());
            let batch: Vec<(SeriesRef, f64)> = refs.iter().copied().zip(values).collect();
            let offset = Duration::from_millis(37 * proxy as u64);
            samples += head.append_at(start() + offset + Duration::from_secs(15) * row, &batch).accepted as u64;
        }
    }
    samples
}

fn edge_series(head: &Head, proxy: usize, edge: usize) -> Vec<SeriesRef> {
    let workload = format!("workload-{edge}");
    let (own, pod) = (format!("client-{}", proxy % 60), format!("client-{}-5d4f8c7b9-{proxy:05}", proxy % 60));
    let principal = |name: &str| format!("spiffe://cluster.local/ns/shop/sa/{name}");
    let (source_principal, destination_principal) = (principal(&own), principal(&workload));
    let (host, address) =
        (format!("{workload}.shop.svc.cluster.local"), format!("10.0.{}.{}:15020", proxy / 250, proxy % 250));
    // Istio's 25 labels beside `le`, and those of the target.
    let shared: [(&str, &str); 31] = [
        ("reporter", "source"),
        ("source_workload", &own),
        ("source_canonical_service", &own),
        ("source_canonical_revision", "v1"),
        ("source_workload_namespace", "shop"),
        ("source_principal", &source_principal),
        ("source_app", &own),
        ("source_version", "v1"),
        ("source_cluster", "Kubernetes"),
        ("destination_workload", &workload),
        ("destination_workload_namespace", "shop"),
        ("destination_principal", &destination_principal),
        ("destination_app", &workload),
        ("destination_version", "v1"),
        ("destination_service", &host),
        ("destination_canonical_service", &workload),
        ("destination_canonical_revision", "v1"),
        ("destination_service_name", &workload),
        ("destination_service_namespace", "shop"),
        ("destination_cluster", "Kubernetes"),
        ("request_protocol", "http"),
        ("response_code", "200"),
        ("response_flags", "-"),
        ("grpc_response_status", ""),
        ("connection_security_policy", "unknown"),
        ("job", "istio-proxies"),
        ("instance", &address),
        ("namespace", "shop"),
        ("pod", &pod),
        ("node", "node-7"),
        ("cluster", "eu-1"),
    ];
    let intern = |metric: &str, le: &str| {
        let own = [("__name__", metric), ("le", le)];
        head.intern(&shared.into_iter().chain(own).collect::<Labels>()).expect("under the limit")
    };
    let histogram = |name: &str| {
        let of = |suffix: &str| format!("istio_{name}_{suffix}");
        let buckets: Vec<SeriesRef> = BUCKETS.iter().map(|le| intern(&of("bucket"), le)).collect();
        buckets.into_iter().chain([intern(&of("sum"), ""), intern(&of("count"), "")]).collect::<Vec<_>>()
    };
    let names = ["request_duration_milliseconds", "request_bytes", "response_bytes"];
    std::iter::once(intern("istio_requests_total", "")).chain(names.into_iter().flat_map(histogram)).collect()
}

#[tokio::test]
async fn a_sample_on_disk_costs_at_most_half_a_byte_with_its_indexes() {
    let config = postgres::database().await;
    let store = postgres::connect(&config).await;
    let memory = head(DAY);
    // 4 show what a sample costs; more, on request, that it does not depend on their number.
    let proxies = std::env::var("MESHSCOPE_DISK_PROXIES").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let samples = fleet(&memory, proxies);
    chunks(&memory, &store).close_windows(start() + CHUNK_WINDOW).await.expect("close");
    let mut outside = postgres::connection(&config).await;
    let size = "SELECT sum(pg_total_relation_size(relid))::bigint, sum(pg_relation_size(relid))::bigint
                FROM pg_partition_tree('chunk_raw') WHERE isleaf";
    let (all, _rows): (i64, i64) = sqlx::query_as(size).fetch_one(&mut outside).await.expect("sizes");
    let names = "SELECT (pg_total_relation_size('series') + pg_total_relation_size('label_set'))::bigint";
    let names: i64 = sqlx::query_scalar(names).fetch_one(&mut outside).await.expect("sizes");
    let of_a_day = (all * 12 + names) as f64 / (samples * 12) as f64;
    println!(
        "{samples} samples: {:.3} B each in chunks, {of_a_day:.3} with their names over a day",
        all as f64 / samples as f64
    );
    assert!(of_a_day <= 0.5, "{of_a_day:.3} bytes a sample");
    let count: i64 = sqlx::query_scalar("SELECT sum(sample_count)::bigint FROM chunk_raw")
        .fetch_one(&mut outside)
        .await
        .expect("count");
    assert_eq!(count as u64, samples);
    let of_a_pod = [Matcher::equal("pod", "client-1-5d4f8c7b9-00001")];
    let range = (start(), start() + CHUNK_WINDOW);
    let found = History::new(store).select(Select::new(of_a_pod.to_vec(), range.0, range.1)).await.expect("select");
    assert_eq!(found.series.len(), 15 * 67);
}
