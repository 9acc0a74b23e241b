//! Why the store could not do something, and whether trying again may help.

use super::embedded::PrivateError;

/// What went wrong with PostgreSQL.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The private server does not start.
    #[error("start the private PostgreSQL: {0}")]
    Private(#[from] PrivateError),
    /// The address is not one.
    #[error("storage.database_url is not a PostgreSQL address (postgres://user:password@host:5432/name): {0}")]
    Address(#[source] sqlx::Error),
    /// Nobody answers, or the login is refused.
    #[error("connect to PostgreSQL at {place}: {source}")]
    Connect {
        /// Host or socket, and database; no password.
        place: String,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// The server is too old.
    #[error("PostgreSQL {found} is too old: meshscope needs version 15 or newer")]
    ServerTooOld {
        /// `server_version` as it says.
        found: String,
    },
    /// A newer meshscope has been here.
    #[error("the database has schema version {found}, this meshscope knows up to {known}: run the newer meshscope")]
    SchemaTooNew {
        /// Highest version applied in the database.
        found: i64,
        /// Highest version in this binary.
        known: i64,
    },
    /// A migration could not be applied.
    #[error("migrate the database: {0}")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// A statement failed.
    #[error("{doing}: {source}")]
    Query {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: sqlx::Error,
    },
    /// Another process leads: what this one holds stays with it.
    #[error("{doing}: another replica leads")]
    NotLeader {
        /// What was being done.
        doing: &'static str,
    },
    /// A role that the views cannot be granted to.
    #[error("the role {name:?} cannot be given the views: {reason}")]
    Role {
        /// As given.
        name: String,
        /// Why.
        reason: String,
    },
    /// A stored row does not make sense.
    #[error("stored {what} is damaged: {reason}")]
    Damaged {
        /// Which kind of row.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A chunk that a range query would not find.
    #[error("a chunk of {labels} covers {hours} h; the most is {limit_hours} h")]
    ChunkTooLong {
        /// Which series.
        labels: String,
        /// How long it is.
        hours: u64,
        /// How long it may be.
        limit_hours: u64,
    },
}

impl StoreError {
    /// For `map_err`: what was being done when a statement failed.
    pub(crate) fn doing(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Query { doing, source }
    }

    /// Whether the same work may succeed later: the server is away, full, shutting down or busy. Otherwise the work itself
    /// is at fault and will fail again.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Connect { source, .. } | Self::Query { source, .. } => is_temporary(source),
            Self::Private(_) | Self::NotLeader { .. } => true,
            _ => false,
        }
    }
}

/// Only what the rows themselves can be at fault for is permanent: SQLSTATE classes 21 and 22 (data), 23 (integrity) and 54
/// (limits of the program). A refused login, a lost privilege or a table that is locked away is mended by people, and what
/// waits must not be thrown away meanwhile.
fn is_temporary(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            !is_fault_of_rows(&code) || is_partition_made_meanwhile(&code, error.constraint())
        }
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
}

fn is_fault_of_rows(code: &str) -> bool {
    ["21", "22", "23", "54"].iter().any(|class| code.starts_with(class))
}

/// A row was on its way to the default partition while the partition of its time was attached: a violation (SQLSTATE 23514)
/// of the bounds of a partition, which have no name as constraints of tables have.
fn is_partition_made_meanwhile(code: &str, constraint: Option<&str>) -> bool {
    code == "23514" && constraint.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_rows_are_at_fault_for_is_given_up() {
        let check = |code: &str, expect: bool| assert_eq!(is_fault_of_rows(code), expect, "{code}");
        check("22P02", true); // invalid text
        check("23505", true); // not unique
        check("54000", true); // too large
        check("28P01", false); // wrong password
        check("42501", false); // no privilege
        check("53100", false); // disk full
        check("57P03", false); // starting up
        check("XX000", false);
        check("", false);
    }

    #[test]
    fn a_lost_connection_is_temporary_and_a_missing_row_is_not() {
        let check = |source: sqlx::Error, expect: bool| {
            assert_eq!(StoreError::Query { doing: "test", source }.is_temporary(), expect);
        };
        check(sqlx::Error::PoolTimedOut, true);
        check(sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into()), true);
        check(sqlx::Error::RowNotFound, false);
    }
}
