//! Moves memory into the store and back: journal, chunks, rollups, spans, access logs, alert history, outbox, what is declared,
//! maintenance; restore at start; how a standby follows the leader and takes over; and the archive that pages read.
//!
//! In: the memory tier, the rollup, and channels of span and access log batches and alert transitions. Out: rows. Each part is one task
//! with `run(self, shutdown)`: it writes at its own pace, tries again with growing pauses while PostgreSQL is away, makes
//! one last pass when `shutdown` fires, and says how it fares in its [`PartStatus`].
//!
//! Invariant: what a part holds while PostgreSQL is away is bounded. The journal is bounded by `series`; a queue that is
//! full is no longer read, so that its sender learns it; chunks stay in the memory tier until written, edge minutes in the
//! rollup up to `rollup.unwritten_limit`.

mod access_logs;
mod alert_board;
mod alert_history;
mod alert_states;
mod archive;
mod backfill;
mod changes;
mod chunks;
mod follow;
mod history;
mod journal;
mod maintenance;
mod merge;
mod outbox;
mod outbox_search;
mod outbox_subject;
mod queue;
mod recover;
mod replicas;
mod restore;
mod rollups;
mod shadow;
mod status;
mod thin;
mod trace_scan;

pub use alert_board::{
    AlertBoard, AlertChoices, AlertFilter, AlertGrouping, AlertSection, BoardAlert, Place, RuleOf, choices,
    in_sections, read_search,
};
pub use alert_states::{AlertStatePersist, AlertsTold, restore_alerts};
pub use archive::{Archive, EdgeFilter, EdgeRange, EdgeSource, GraphEdges, Kept, NotKnown, TraceQuery};
pub use backfill::{Backfill, Backfilled};
pub use changes::{ChangeBook, ChangePersist, Generation};
pub use chunks::ChunkPersist;
pub use follow::{FollowError, Follower};
pub use history::History;
pub use journal::JournalPersist;
pub use maintenance::Maintenance;
pub use outbox::{OutboxEntry, OutboxPersist, OutboxReader, OutboxRestored, restore_outbox};
pub use queue::{AccessLogPersist, AlertPersist, SpanPersist};
pub use replicas::{Role, Standing, View};
pub use restore::{Before, RestoreProgress, Restored, restore};
pub use rollups::RollupPersist;
pub use shadow::Shadow;
pub use status::{PartState, PartStatus};
pub use trace_scan::{TraceScan, Wanted};

use std::time::Duration;

use crate::store::StoreError;

/// How long one write may take before it counts as failed: a server that neither answers nor refuses must not hold a part
/// for ever.
const WRITE_LIMIT: Duration = Duration::from_secs(60);
/// How long a part's last pass may take after shutdown.
const LAST_PASS_LIMIT: Duration = Duration::from_secs(10);

/// Waits for `work`, but not for ever.
async fn limited<T>(
    limit: Duration,
    doing: &'static str,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let late = || {
        let error = std::io::Error::new(std::io::ErrorKind::TimedOut, format!("no answer within {limit:?}"));
        StoreError::Query { doing, source: error.into() }
    };
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(late()))
}
