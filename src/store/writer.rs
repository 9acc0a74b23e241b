//! Which of several meshscopes on one database writes: the one that holds an advisory lock.

use sqlx::Connection;
use sqlx::postgres::PgConnection;

use super::{Store, StoreError};

/// "meshwrit" in ASCII.
const WRITER_LOCK: i64 = 0x6d65_7368_7772_6974;

/// The right to write. It is lost with its connection: ask [`WriterLease::still_held`] every few seconds.
pub struct WriterLease(PgConnection);

impl Store {
    /// Becomes the writer, unless another meshscope is.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn try_become_writer(&self) -> Result<Option<WriterLease>, StoreError> {
        let doing = "ask to be the writer";
        let options = self.pool().connect_options();
        let mut connection = PgConnection::connect_with(&options).await.map_err(StoreError::doing(doing))?;
        let taken: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
            .bind(WRITER_LOCK)
            .fetch_one(&mut connection)
            .await
            .map_err(StoreError::doing(doing))?;
        if taken {
            return Ok(Some(WriterLease(connection)));
        }
        connection.close().await.map_err(StoreError::doing(doing))?;
        Ok(None)
    }
}

impl WriterLease {
    /// Whether the connection that holds the lock still answers.
    ///
    /// # Errors
    /// When it does not: another meshscope may be the writer by now.
    pub async fn still_held(&mut self) -> Result<(), StoreError> {
        self.0.ping().await.map_err(StoreError::doing("check that we are the writer"))
    }

    /// Lets another meshscope write.
    ///
    /// # Errors
    /// When the connection is lost already, which lets go of the lock as well.
    pub async fn release(self) -> Result<(), StoreError> {
        self.0.close().await.map_err(StoreError::doing("stop being the writer"))
    }
}
