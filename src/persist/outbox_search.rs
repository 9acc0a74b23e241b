//! The outbox for people: what waits, what failed and why, how each receiver fares, and giving up what nobody wants sent.

use std::time::Duration;

use super::limited;
use super::outbox::{OutboxReader, WRITE_LIMIT};
use crate::model::Timestamp;
use crate::store::{NotificationQuery, NotificationSummary, ReceiverSummary, StoreError};

/// How long a search may take: rows of earlier versions have no subject, so their bodies are read.
const SEARCH_LIMIT: Duration = Duration::from_secs(10);

impl OutboxReader {
    /// The newest notifications that satisfy the query, without their bodies.
    ///
    /// # Errors
    /// When PostgreSQL is away or does not answer in time.
    pub async fn search(&self, query: &NotificationQuery) -> Result<Vec<NotificationSummary>, StoreError> {
        limited(SEARCH_LIMIT, "search the outbox", self.0.search_notifications(query)).await
    }

    /// How each integration fared since `from`.
    ///
    /// # Errors
    /// When PostgreSQL is away or does not answer in time.
    pub async fn receivers(&self, from: Timestamp) -> Result<Vec<ReceiverSummary>, StoreError> {
        limited(WRITE_LIMIT, "sum up the outbox", self.0.summarize_receivers(from)).await
    }

    /// Gives a notification up that waits; `false` when it was delivered or given up already.
    ///
    /// # Errors
    /// When PostgreSQL is away.
    pub async fn give_up(&self, id: i64, at: Timestamp) -> Result<bool, StoreError> {
        let done = self.0.give_up_notification(id, at, "dropped by hand");
        limited(WRITE_LIMIT, "give a notification up", done).await
    }
}
