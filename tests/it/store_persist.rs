//! Memory to PostgreSQL and back: the journal, a restart, chunks, history, and what happens while PostgreSQL is away.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use meshscope::clock::Clock;
use meshscope::model::{AlertState, AlertTransition, Labels, Matcher, Timestamp, stale_marker};
use meshscope::notify::{LogEntry, Record};
use meshscope::persist::{self, AlertPersist, ChunkPersist, History, JournalPersist, Maintenance};
use meshscope::persist::{OutboxPersist, OutboxRestored};
use meshscope::rollup::Rollup;
use meshscope::series::{CHUNK_WINDOW, Config, Head, QueryError, Queryable, Select, SeriesRef};
use meshscope::store::{AlertQuery, PrivateConfig, PrivateServer, RetentionConfig};
use meshscope::units::{PromDuration, Secret};
use tokio_util::sync::CancellationToken;

use crate::postgres;
use crate::samples::{as_before, everything, write_journal};

/// 2026-01-15T10:00:00Z, the start of a window.
const START_MS: i64 = 1_768_471_200_000;
const STEP: Duration = Duration::from_secs(15);

fn start() -> Timestamp {
    Timestamp::from_millis(START_MS)
}

fn head() -> Head {
    Head::new(Config { memory_window: PromDuration::from(Duration::from_secs(24 * 3600)), ..Config::default() })
}

fn rollup() -> Rollup {
    Default::default()
}

/// 40 series of two targets.
fn intern(head: &Head) -> Vec<SeriesRef> {
    (0..40)
        .map(|i| {
            let labels = Labels::from_pairs([
                ("__name__", if i % 2 == 0 { "requests_total" } else { "latency_bucket" }),
                ("instance", if i < 20 { "a" } else { "b" }),
                ("le", if i % 2 == 0 { "" } else { ["1", "5", "+Inf"][i % 3] }),
                ("code", &i.to_string()),
            ]);
            head.intern(&labels).expect("under the limit")
        })
        .collect()
}

/// One scrape each 15 s in `steps`; one value is a stale marker.
fn scrape(head: &Head, series: &[SeriesRef], steps: std::ops::Range<u32>) {
    for step in steps {
        let value = |i: usize| match (step, i) {
            (100, 3) => stale_marker(),
            _ => f64::from(step) * (i as f64 + 0.25),
        };
        let batch: Vec<(SeriesRef, f64)> = series.iter().enumerate().map(|(i, s)| (*s, value(i))).collect();
        assert_eq!(head.append_at(start() + STEP * step, &batch).accepted, batch.len());
    }
}

#[tokio::test]
async fn a_restart_finds_every_sample_that_was_in_the_journal() {
    let config = postgres::database().await;
    let (before, store) = (head(), postgres::connect(&config).await);
    let series = intern(&before);
    for part in 0..5 {
        scrape(&before, &series, part * 60..(part + 1) * 60);
        write_journal(&before, &store).await;
    }
    store.close().await; // as after kill -9: nothing else is written

    let (after, store) = (head(), postgres::connect(&config).await);
    let mut reports = Vec::new();
    let restored =
        persist::restore(&store, &after, (&rollup(), as_before()), start() + CHUNK_WINDOW, |p| reports.push(p))
            .await
            .expect("restore");
    assert_eq!((restored.progress.samples, restored.unreadable.0), (300 * 40, 0));
    assert_eq!(reports.last().map(|p| (p.entries, p.entries_total)), Some((5, 5)));
    let range = (start(), start() + Duration::from_secs(24 * 3600));
    let (expect, found) = (everything(&before, range).await, everything(&after, range).await);
    assert_eq!(expect.len(), 40);
    assert!(expect == found, "memory after the restart differs");
}

#[tokio::test]
async fn closed_windows_go_to_chunks_once_and_history_answers_as_memory_did() {
    let config = postgres::database().await;
    let (memory, store) = (head(), postgres::connect(&config).await);
    let series = intern(&memory);
    let per_window = u32::try_from(CHUNK_WINDOW.as_secs() / STEP.as_secs()).expect("small");
    for part in 0..10 {
        scrape(&memory, &series, part * per_window / 4..(part + 1) * per_window / 4);
        write_journal(&memory, &store).await;
    }
    let boundary = start() + CHUNK_WINDOW * 2;
    let chunks = ChunkPersist::new(memory.clone(), store.clone(), Clock::system(), Duration::ZERO);
    assert_eq!(chunks.close_windows(boundary).await.expect("write"), 2 * 40);
    assert_eq!(chunks.close_windows(boundary).await.expect("nothing to do"), 0);
    let history = History::new(store.clone());
    let last = boundary - Duration::from_millis(1);
    let middle = (start() + STEP * 90, start() + CHUNK_WINDOW + STEP * 17);
    for range in [(Timestamp::MIN, last), middle, (start() + STEP, start() + STEP)] {
        let (expect, found) = (everything(&memory, range).await, everything(&history, range).await);
        assert_eq!(expect.len(), 40);
        assert!(expect == found, "history differs in {range:?}");
    }
    assert_eq!(everything(&history, (boundary, Timestamp::MAX)).await, []);
    let mut few = Select::new(vec![Matcher::equal("__name__", "requests_total")], start(), last);
    few.sample_limit = 20 * 960 - 1;
    assert!(matches!(history.select(few.clone()).await, Err(QueryError::TooManySamples)));
    few.sample_limit += 1;
    assert_eq!(history.select(few).await.expect("select").series.len(), 20);
    let names = history.label_values("__name__".into(), Vec::new(), start(), last).await.expect("values");
    assert_eq!(names, ["latency_bucket", "requests_total"]);
    // The journal kept what is not in chunks, and what its epoch needs.
    let rows = store.journal_size().await.expect("measure").0;
    assert!((2..10).contains(&rows), "{rows} entries");

    // After a restart the journal brings back the open window, and what is in chunks is not cut again.
    let again = head();
    let now = boundary + CHUNK_WINDOW;
    let restored = persist::restore(&store, &again, (&rollup(), as_before()), now, |_| {}).await.expect("restore");
    assert_eq!(restored.unreadable, (0, None));
    let open = (boundary, Timestamp::MAX);
    assert!(everything(&again, open).await == everything(&memory, open).await, "the open window differs");
    let chunks = ChunkPersist::new(again, store.clone(), Clock::system(), Duration::ZERO);
    assert_eq!(chunks.close_windows(boundary).await.expect("nothing to do"), 0);
    assert_eq!(chunks.close_windows(boundary + CHUNK_WINDOW).await.expect("write"), 40);
    let all = (Timestamp::MIN, Timestamp::MAX);
    assert!(everything(&history, all).await == everything(&memory, all).await, "history after all is closed differs");
}

fn transition(second: u64) -> AlertTransition {
    AlertTransition {
        at: start() + Duration::from_secs(second),
        group: "g".into(),
        labels: Labels::from_pairs([("alertname", "A")]),
        annotations: Labels::empty(),
        from: AlertState::Pending,
        to: AlertState::Firing,
        value: 1.0,
    }
}

#[tokio::test]
async fn an_outage_delays_writes_and_loses_nothing() {
    let config = PrivateConfig {
        path: Some(postgres::folder("outage")),
        shared_buffers_mib: 16,
        ..PrivateConfig::from_environment()
    };
    let server = PrivateServer::start(&config).await.unwrap_or_else(|e| panic!("{e}"));
    let socket = server.connect_options().get_socket().expect("a socket").display().to_string();
    let url = format!("postgres://postgres@localhost/meshscope?host={socket}");
    let store =
        postgres::connect(&meshscope::store::Config { database_url: Some(Secret::from(url)), ..Default::default() })
            .await;
    let (memory, shutdown) = (head(), CancellationToken::new());
    let series = intern(&memory);
    let journal = JournalPersist::new(memory.clone(), store.clone(), Clock::system());
    let (sender, input) = tokio::sync::mpsc::channel(100);
    let alerts = AlertPersist::new(input, store.clone(), Clock::system());
    let (journal_status, alert_status) = (journal.status(), alerts.status());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(journal.run(shutdown.clone()));
    tasks.spawn(alerts.run(shutdown.clone()));
    tasks.spawn(store.clone().watch_health(Clock::system(), shutdown.clone()));
    tasks.spawn(Maintenance::new(store.clone(), RetentionConfig::default(), Clock::system()).run(shutdown.clone()));

    scrape(&memory, &series, 0..10);
    wait_until("the first samples are written", || journal_status.written.load(Relaxed) == 400).await;
    for round in 0..3 {
        let pid = server.pid();
        if let Some(pid) = pid {
            std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().expect("run kill");
        }
        let steps = 10 + round * 10..20 + round * 10;
        scrape(&memory, &series, steps.clone());
        for step in steps {
            sender.send(transition(u64::from(step))).await.expect("the part runs");
        }
        wait_until("another server process", || server.pid().is_some() && server.pid() != pid).await;
    }
    wait_until("all is written", || {
        journal_status.written.load(Relaxed) == 1600 && alert_status.written.load(Relaxed) == 30
    })
    .await;
    shutdown.cancel();
    while let Some(done) = tasks.join_next().await {
        done.expect("no part panics");
    }
    let query = AlertQuery { from: start(), to: Timestamp::MAX, matchers: Vec::new(), limit: 100 };
    assert_eq!(store.alert_events(&query).await.expect("read").len(), 30);
    let again = head();
    persist::restore(&store, &again, (&rollup(), as_before()), start(), |_| {}).await.expect("restore");
    let all = (Timestamp::MIN, Timestamp::MAX);
    assert!(everything(&again, all).await == everything(&memory, all).await, "a sample is missing");
    assert_eq!((journal_status.dropped.load(Relaxed), alert_status.dropped.load(Relaxed)), (0, 0));
    store.close().await;
    server.stop().await;
}

async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "not within a minute: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_people_were_told_during_an_outage_is_known_after_it() {
    let config = PrivateConfig {
        path: Some(postgres::folder("told")),
        shared_buffers_mib: 16,
        ..PrivateConfig::from_environment()
    };
    let server = PrivateServer::start(&config).await.unwrap_or_else(|e| panic!("{e}"));
    let socket = server.connect_options().get_socket().expect("a socket").display().to_string();
    let url = format!("postgres://postgres@localhost/meshscope?host={socket}");
    let store =
        postgres::connect(&meshscope::store::Config { database_url: Some(Secret::from(url)), ..Default::default() })
            .await;
    let (records, input) = tokio::sync::mpsc::channel(10);
    let outbox = OutboxPersist::new(input, store.clone(), Clock::system(), &OutboxRestored::default());
    let (status, shutdown) = (outbox.status(), CancellationToken::new());
    let task = tokio::spawn(outbox.run(shutdown.clone()));
    server.stop().await;
    let at = Clock::system().now();
    let log = LogEntry {
        group_key: "{}:{}".to_owned(),
        receiver: "team".to_owned(),
        integration: 0,
        firing: [7].into(),
        resolved: Default::default(),
        at,
    };
    let told = Record::Delivered { id: "unrecorded".to_owned(), at, log: Some(log.clone()) };
    records.send(told).await.expect("the part runs");
    wait_until("an attempt fails", || status.failures.load(Relaxed) > 0).await;
    drop(server);
    let server = PrivateServer::start(&config).await.unwrap_or_else(|e| panic!("{e}"));
    wait_until("it is written", || status.written.load(Relaxed) == 1).await;
    assert_eq!(persist::restore_outbox(&store, at).await.expect("read").log, [log]);
    shutdown.cancel();
    drop(records);
    task.await.expect("no panic");
    store.close().await;
    server.stop().await;
}

#[tokio::test]
async fn health_says_since_when_postgres_is_away() {
    let config = PrivateConfig {
        path: Some(postgres::folder("health")),
        shared_buffers_mib: 16,
        ..PrivateConfig::from_environment()
    };
    let server = PrivateServer::start(&config).await.unwrap_or_else(|e| panic!("{e}"));
    let socket = server.connect_options().get_socket().expect("a socket").display().to_string();
    let url = format!("postgres://postgres@localhost/meshscope?host={socket}");
    let store =
        postgres::connect(&meshscope::store::Config { database_url: Some(Secret::from(url)), ..Default::default() })
            .await;
    let shutdown = CancellationToken::new();
    let mut health = store.health();
    let probe = tokio::spawn(store.clone().watch_health(Clock::system(), shutdown.clone()));
    let history = History::new(store.clone());
    history.select(Select::new(Vec::new(), start(), start())).await.expect("available");
    server.stop().await;
    let limit = Duration::from_secs(20);
    let away =
        tokio::time::timeout(limit, health.wait_for(|h| matches!(h, meshscope::store::Health::Away { .. }))).await;
    drop(away.expect("noticed").expect("the probe runs"));
    let refused = history.select(Select::new(Vec::new(), start(), start()));
    let refused = tokio::time::timeout(Duration::from_millis(500), refused).await.expect("at once");
    assert!(matches!(refused, Err(QueryError::Unavailable { .. })));
    drop(server);
    let server = PrivateServer::start(&config).await.unwrap_or_else(|e| panic!("{e}"));
    let back = tokio::time::timeout(limit, health.wait_for(|h| *h == meshscope::store::Health::Available)).await;
    back.expect("noticed").expect("the probe runs");
    shutdown.cancel();
    probe.await.expect("no panic");
    store.close().await;
    server.stop().await;
}
