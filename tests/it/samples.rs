//! What the tests of stored samples share: heads, journals, chunks, restarts, and all samples of a store as one list.

use std::sync::Arc;
use std::time::Duration;

use meshscope::clock::Clock;
use meshscope::model::{Labels, Timestamp};
use meshscope::persist::{self, ChunkPersist, History, JournalPersist};
use meshscope::rollup::Rollup;
use meshscope::series::{Config, Head, Queryable, Select, Tiered};
use meshscope::store::Store;
use meshscope::units::PromDuration;
use tokio_util::sync::CancellationToken;

pub const HOUR: Duration = Duration::from_secs(3600);
pub const DAY: Duration = Duration::from_secs(24 * 3600);

/// Series and their samples: the bits of values, so that stale markers compare too.
pub type Samples = Vec<(Labels, Vec<(Timestamp, u64)>)>;

/// 2026-01-15T00:00:00Z.
pub fn start() -> Timestamp {
    Timestamp::from_millis(1_768_435_200_000)
}

/// A memory tier that takes samples however late.
pub fn head(memory: Duration) -> Head {
    Head::new(Config {
        memory_window: PromDuration::from(memory),
        out_of_order_window: PromDuration::from(DAY * 400),
        ..Config::default()
    })
}

pub fn as_before() -> persist::Before {
    persist::Before { keep: Duration::from_secs(900), has_same_settings: true }
}

pub async fn everything(from: &dyn Queryable, range: (Timestamp, Timestamp)) -> Samples {
    let selection = from.select(Select::new(Vec::new(), range.0, range.1)).await.expect("select");
    let mut found: Samples = (selection.series.into_iter())
        .map(|s| (s.labels, s.times.iter().copied().zip(s.values.iter().map(|v| v.to_bits())).collect()))
        .collect();
    found.sort();
    found
}

/// One pass of the journal: it writes at once, and once more at shutdown.
pub async fn write_journal(head: &Head, store: &Store) {
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    JournalPersist::new(head.clone(), store.clone(), Clock::system()).run(shutdown).await;
}

pub fn chunks(head: &Head, store: &Store) -> ChunkPersist {
    ChunkPersist::new(head.clone(), store.clone(), Clock::system(), Duration::ZERO)
}

/// What the next process has in memory.
pub async fn restarted(store: &Store, memory: Duration, now: Timestamp) -> Head {
    let again = head(memory);
    persist::restore(store, &again, (&Rollup::default(), as_before()), now, |_| {}).await.expect("restore");
    again
}

pub fn tiered(head: &Head, store: &Store) -> Tiered {
    Tiered::new(head.clone(), Arc::new(History::new(store.clone())))
}
