//! Small duties that belong to no part: ageing of what memory holds, and when the rules may begin.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::rollup::Rollup;
use crate::scrape;
use crate::series::Head;

const ADVANCE_INTERVAL: Duration = Duration::from_secs(5);
/// Rounds of [`ADVANCE_INTERVAL`] between two collections of old samples.
const ROUNDS_PER_COLLECTION: u32 = 12;
/// How long the rules wait for targets that do not answer.
const FIRST_SCRAPES_PATIENCE: Duration = Duration::from_secs(15);
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Closes minutes and lets old samples go, until told to stop.
pub(super) async fn run(head: Head, rollup: Rollup, clock: Clock, stop: CancellationToken) {
    let mut tick = tokio::time::interval(ADVANCE_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut rounds = 0_u32;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        rollup.advance(clock.now());
        rounds = rounds.wrapping_add(1);
        if rounds.is_multiple_of(ROUNDS_PER_COLLECTION) {
            let (head, now) = (head.clone(), clock.now());
            // It walks every series; a panic in it must not pass unseen.
            if let Err(error) = tokio::task::spawn_blocking(move || head.collect_garbage(now)).await {
                tracing::error!("letting old samples go failed: {error}");
            }
        }
    }
}

/// Says that rules may be evaluated: every target has been scraped once, or has had its time. Without `scrape` there is
/// nothing to wait for.
pub(super) async fn announce_ready(
    ready: watch::Sender<bool>,
    scrape: Option<scrape::Status>,
    stop: CancellationToken,
) {
    let first_scrapes = async {
        let Some(scrape) = scrape else { return };
        let mut tick = tokio::time::interval(LOOK_INTERVAL);
        loop {
            tick.tick().await;
            let targets = scrape.targets();
            if !targets.is_empty() && targets.iter().all(|target| target.last_scrape.is_some()) {
                return;
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => return,
        _ = tokio::time::timeout(FIRST_SCRAPES_PATIENCE, first_scrapes) => {}
    }
    // The readers may be gone already when the process is stopping.
    let _ = ready.send(true);
    stop.cancelled().await;
}
