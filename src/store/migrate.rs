//! Brings the schema up to the version of this binary.
//!
//! Invariant: one migrator at a time (an advisory lock of the database), on a connection of its own: sqlx keeps the lock
//! when a migration fails, and a pooled connection would carry it away.

use std::time::Duration;

use sqlx::Connection;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection};

use super::StoreError;

static MIGRATIONS: Migrator = sqlx::migrate!();

/// How long the first connection may take: a host that drops packets never refuses.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// `server_version_num` of version 15.
const SERVER_VERSION_MIN: i32 = 150_000;

/// Highest schema version in this binary.
pub(super) fn version_known() -> i64 {
    MIGRATIONS.iter().map(|m| m.version).max().unwrap_or(0)
}

pub(super) async fn migrate(options: &PgConnectOptions, place: &str) -> Result<(), StoreError> {
    let unreachable = |source| StoreError::Connect { place: place.to_owned(), source };
    let connecting = tokio::time::timeout(CONNECT_LIMIT, PgConnection::connect_with(options));
    let late = || std::io::Error::new(std::io::ErrorKind::TimedOut, format!("no answer within {CONNECT_LIMIT:?}"));
    let mut connection = connecting.await.unwrap_or_else(|_| Err(late().into())).map_err(unreachable)?;
    let outcome = run(&mut connection).await;
    // The lock goes with the connection, whatever happened.
    let closed = connection.close().await;
    outcome?;
    closed.map_err(StoreError::doing("close the connection of the migration"))
}

async fn run(connection: &mut PgConnection) -> Result<(), StoreError> {
    let version =
        sqlx::query_as("SELECT current_setting('server_version_num')::int, current_setting('server_version')");
    let (number, found): (i32, String) =
        version.fetch_one(&mut *connection).await.map_err(StoreError::doing("read the server's version"))?;
    if number < SERVER_VERSION_MIN {
        return Err(StoreError::ServerTooOld { found });
    }
    match MIGRATIONS.run_direct(None, connection, false).await {
        Ok(()) => Ok(()),
        Err(MigrateError::VersionMissing(_)) => Err(StoreError::SchemaTooNew {
            found: sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations")
                .fetch_one(connection)
                .await
                .map_err(StoreError::doing("read the schema's version"))?,
            known: version_known(),
        }),
        Err(error) => Err(StoreError::Migrate(error)),
    }
}
