//! The names of metrics that the store keeps are never those of before a write.

use std::sync::Arc;
use std::time::Duration;

use meshscope::clock::Clock;
use meshscope::model::{Labels, Timestamp};
use meshscope::persist::{Backfill, History};
use meshscope::series::{Queryable, SeriesSamples};
use meshscope::store::{RetentionConfig, Store};
use tokio_util::sync::CancellationToken;

use crate::app::eventually;
use crate::postgres;

async fn load(store: &Store, name: &str, now: Timestamp) {
    let times: Arc<[Timestamp]> = (1..10).map(|i| now - Duration::from_secs(3600 * i)).rev().collect();
    let values = vec![1.0; times.len()];
    let series = SeriesSamples { labels: Labels::from_pairs([("__name__", name)]), times, values };
    let backfill = Backfill { store: store.clone(), retention: RetentionConfig::default(), head: None };
    backfill.write(now, vec![series]).await.expect("PostgreSQL is there");
}

#[tokio::test]
async fn names_written_here_are_seen_at_once_and_those_of_another_process_soon() {
    let config = postgres::database().await;
    let (here, there) = (postgres::connect(&config).await, postgres::connect(&config).await);
    let (clock, shutdown) = (Clock::system(), CancellationToken::new());
    let watching = tokio::spawn(here.clone().watch_health(clock, shutdown.clone()));
    let (history, now) = (History::new(here.clone()), clock.now());
    let names = async || {
        let range = (now - Duration::from_secs(24 * 3600), now);
        history.label_values("__name__".to_owned(), Vec::new(), range.0, range.1).await.expect("an answer")
    };
    // Long enough for the first look at the mark: from then on names are kept.
    for _ in 0..50 {
        assert_eq!(names().await, [""; 0]);
    }
    for (i, name) in ["a_total", "b_total"].into_iter().enumerate() {
        load(&here, name, now).await;
        assert_eq!(names().await.len(), i + 1, "{name}");
    }
    load(&there, "c_total", now).await;
    eventually("the other process's metric is seen", async || (names().await.len() == 3).then_some(())).await;
    shutdown.cancel();
    watching.await.expect("it ends");
}
