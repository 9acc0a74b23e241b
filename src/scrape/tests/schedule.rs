//! When scrapes begin: 5,000 targets on paused time. Their scrapes fail without a request (their job has too many
//! targets), so only the schedule is looked at.

use super::*;

const TARGETS: usize = 5000;
const INTERVAL_SECONDS: u64 = 15;

async fn many() -> Arc<Targets> {
    let list: Vec<String> = (0..TARGETS).map(|i| format!("'10.0.{}.{}:15020'", i / 250, i % 250)).collect();
    let yaml = format!(
        "- job_name: j\n  scrape_interval: {INTERVAL_SECONDS}s\n  target_limit: 1\n  static_configs: [{{targets: [{}]}}]\n",
        list.join(", ")
    );
    discover(parse_jobs(&yaml)).await
}

/// Lets `seconds` pass one by one; gives how many scrapes began in each.
async fn watch_seconds(counters: &Counters, seconds: u64) -> Vec<u64> {
    let mut begun = Vec::new();
    for _ in 0..seconds {
        let before = counters.scrapes.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(1)).await;
        begun.push(counters.scrapes.load(Ordering::Relaxed) - before);
    }
    begun
}

#[tokio::test(start_paused = true)]
async fn thousands_of_targets_are_spread_and_do_not_make_up_for_a_pause_at_once() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let targets = many().await;
    let (sender, receiver) = watch::channel(Arc::clone(&targets));
    let head = Head::new(series::Config::default());
    let clock = Clock::starting_at(Timestamp::from_millis(START));
    let scraper = Scraper::new(Config::default(), clock, head, Default::default(), receiver);
    let counters = scraper.counters();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(scraper.run(shutdown.clone()));

    // 333 a second on average, at the start as later.
    let begun = watch_seconds(&counters, 2 * INTERVAL_SECONDS).await;
    assert!(begun.iter().all(|count| (230..450).contains(count)), "{begun:?}");
    let all: u64 = begun.iter().sum();
    assert!((9_900..=10_000).contains(&all), "{all} in two intervals");
    assert_eq!(counters.missed_slots.load(Ordering::Relaxed), 0);

    // A reload that leaves them as they are, or changes the job, moves nobody to another slot.
    let anew = many().await;
    sender.send(Arc::new(Targets { dropped_count: 1, ..(*anew).clone() })).unwrap();
    let begun = watch_seconds(&counters, INTERVAL_SECONDS).await;
    assert!(begun.iter().all(|count| (230..450).contains(count)), "{begun:?}");

    // The process stands still for five minutes: the clock jumps, and every timer is due at once.
    let before = counters.scrapes.load(Ordering::Relaxed);
    tokio::time::advance(Duration::from_secs(300)).await;
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    let at_once = counters.scrapes.load(Ordering::Relaxed) - before;
    assert!(at_once < 50, "{at_once} scrapes at once after a pause");
    let begun = watch_seconds(&counters, INTERVAL_SECONDS).await;
    assert!(begun.iter().all(|count| (230..450).contains(count)), "{begun:?}");
    let missed = counters.missed_slots.load(Ordering::Relaxed);
    let expect = 300 / INTERVAL_SECONDS * TARGETS as u64;
    assert!((expect - TARGETS as u64..=expect + TARGETS as u64).contains(&missed), "{missed} slots were missed");
    shutdown.cancel();
    running.await.unwrap();
}
