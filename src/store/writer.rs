//! Which of several meshscopes on one database writes: its lease, and the fence that keeps all others from writing.
//!
//! In: the tables `leader` and `replica`, an advisory lock. Out: a [`Lease`], and transactions that only its holder can
//! commit. Invariant: of two processes that both believe to lead, at most one commits: each transaction of a leader holds
//! the row of its epoch, the next leader changes that row before it writes anything, and from then on nothing of the former
//! one is taken, however long it was paused. The lock and the beats only tell when it is time to take over.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Executor, Postgres, Row, Transaction};

use super::{Store, StoreError};

/// "meshwrit" in ASCII.
const WRITER_LOCK: i64 = 0x6d65_7368_7772_6974;
/// What sessions of a replica are named, before its id.
const SESSION_PREFIX: &str = "meshscope ";
/// How often the lock is tried while the sessions of a former leader end, and the pause between.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Nobody has said who leads: a process that loads or migrates, alone or beside the others.
const UNFENCED: i64 = 0;
/// Another process leads.
const FOLLOWS: i64 = -1;

/// How a process stands to others on the same database: the block `replica` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReplicaConfig {
    /// What people see it called. Default: the name of the machine and the port of its pages.
    pub name: Option<String>,
    /// Host name or address under which the other replicas reach its ports. Default: the address from which it is
    /// connected to PostgreSQL, `127.0.0.1` over a socket.
    pub host: Option<String>,
    /// Whether it becomes a standby when another process leads; otherwise it does not start. Default true.
    pub standby: bool,
}

impl Default for ReplicaConfig {
    fn default() -> Self {
        Self { name: None, host: None, standby: true }
    }
}

/// A process on this database, as the others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Tells processes apart; a new one with each start.
    pub id: String,
    /// For people.
    pub name: String,
    /// Where the others reach it: host name or address.
    pub host: String,
    /// Port of pages and APIs.
    pub web_port: u16,
    /// Port of OTLP over gRPC.
    pub grpc_port: u16,
    /// Port of OTLP over HTTP.
    pub http_port: u16,
    /// Whether pages and APIs speak TLS.
    pub is_https: bool,
}

impl Replica {
    /// `host:port`, with brackets around an IPv6 address.
    pub fn place(&self, port: u16) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{port}", self.host),
            false => format!("{}:{port}", self.host),
        }
    }

    /// The address of pages and APIs.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.is_https { "https" } else { "http" }, self.place(self.web_port))
    }
}

/// Who leads, as the database tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    /// Which change of the leader this is.
    pub epoch: i64,
    /// Whose.
    pub replica_id: String,
    /// Its last beat.
    pub beat_at: DateTime<Utc>,
    /// How long ago that was by the server's clock.
    pub silent_for: Duration,
    /// Whether it ended in order.
    pub is_released: bool,
    /// Whether somebody holds the lock.
    pub is_locked: bool,
}

/// The right to write, which the holder renews by beats.
pub struct Lease {
    connection: Option<PgConnection>,
    epoch: i64,
    has_lock: bool,
}

impl Lease {
    /// Which change of the leader this is.
    pub fn epoch(&self) -> i64 {
        self.epoch
    }
}

impl Store {
    /// What tells this process from others in [`Replica`].
    pub fn replica_id(&self) -> &str {
        &self.0.replica_id
    }

    /// From now on this process writes nothing that only a leader may.
    pub fn follow(&self) {
        self.0.leads.store(FOLLOWS, SeqCst);
    }

    /// The address from which this process is connected to the server; `None` over a socket of this machine.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn own_host(&self) -> Result<Option<String>, StoreError> {
        let host = sqlx::query_scalar("SELECT host(inet_client_addr())").fetch_one(self.pool()).await;
        host.map_err(StoreError::doing("ask for our own address"))
    }

    /// Who leads; `None` when nobody ever did.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn leadership(&self) -> Result<Option<Leadership>, StoreError> {
        let row = sqlx::query(include_str!("sql/leadership.sql")).bind(WRITER_LOCK).fetch_optional(self.pool()).await;
        let row = row.map_err(StoreError::doing("ask who leads"))?;
        Ok(row.map(|row| Leadership {
            epoch: row.get("epoch"),
            replica_id: row.get("replica_id"),
            beat_at: row.get("beat_at"),
            silent_for: Duration::try_from_secs_f64(row.get("silent_for")).unwrap_or_default(),
            is_released: row.get("is_released"),
            is_locked: row.get("is_locked"),
        }))
    }

    /// Becomes the leader, unless another process holds the lock. `breaking` names the epoch of a leader that is silent:
    /// its sessions are ended, and its lock with them.
    ///
    /// # Errors
    /// When the server is away, or a transaction of the former leader does not end.
    pub async fn lead(&self, breaking: Option<i64>) -> Result<Option<Lease>, StoreError> {
        let doing = "become the leader";
        let mut connection = self.lease_connection().await?;
        if let Some(epoch) = breaking {
            end_sessions(&mut connection, epoch, self.replica_id()).await?;
        }
        let mut has_lock = try_lock(&mut connection).await?;
        for _ in 0..LOCK_TRIES {
            if has_lock || breaking.is_none() {
                break;
            }
            tokio::time::sleep(LOCK_PAUSE).await;
            has_lock = try_lock(&mut connection).await?;
        }
        if !has_lock {
            connection.close().await.map_err(StoreError::doing(doing))?;
            return Ok(None);
        }
        // What the former leader has under way would hold its row.
        let former: Option<i64> = sqlx::query_scalar("SELECT epoch FROM leader")
            .fetch_optional(&mut connection)
            .await
            .map_err(StoreError::doing(doing))?;
        if let Some(former) = former {
            end_sessions(&mut connection, former, self.replica_id()).await?;
        }
        let epoch = sqlx::query_scalar(include_str!("sql/lead.sql"))
            .bind(self.replica_id())
            .fetch_one(&mut connection)
            .await
            .map_err(StoreError::doing(doing))?;
        self.0.leads.store(epoch, SeqCst);
        Ok(Some(Lease { connection: Some(connection), epoch, has_lock }))
    }

    /// Says that this process is there and, with a lease, that it still leads. `false`: another one leads.
    ///
    /// # Errors
    /// When the server is away; the next call connects anew.
    pub async fn beat(&self, lease: &mut Lease, me: &Replica) -> Result<bool, StoreError> {
        let mut connection = match lease.connection.take() {
            Some(connection) => connection,
            None => {
                lease.has_lock = false;
                self.lease_connection().await?
            }
        };
        if !lease.has_lock {
            // The server may not know yet that the session that had it is gone; the beats go on without.
            lease.has_lock = try_lock(&mut connection).await?;
        }
        let beat = sqlx::query("UPDATE leader SET beat_at = clock_timestamp() WHERE epoch = $1").bind(lease.epoch);
        let beat = beat.execute(&mut connection).await.map_err(StoreError::doing("say that we lead"))?;
        announce(me).execute(&mut connection).await.map_err(StoreError::doing("say that we are there"))?;
        lease.connection = Some(connection);
        Ok(beat.rows_affected() > 0)
    }

    /// Says that this process is there.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn announce(&self, me: &Replica) -> Result<(), StoreError> {
        let done = announce(me).execute(self.pool()).await;
        done.map(drop).map_err(StoreError::doing("say that we are there"))
    }

    /// The processes that said so within the last half minute, by name.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn replicas(&self) -> Result<Vec<Replica>, StoreError> {
        let query =
            "SELECT * FROM replica WHERE seen_at > clock_timestamp() - interval '30 s' ORDER BY name, replica_id";
        let rows = sqlx::query(query).fetch_all(self.pool()).await.map_err(StoreError::doing("ask who is there"))?;
        let port = |row: &sqlx::postgres::PgRow, name: &str| u16::try_from(row.get::<i32, _>(name)).unwrap_or(0);
        let replica = |row: &sqlx::postgres::PgRow| Replica {
            id: row.get("replica_id"),
            name: row.get("name"),
            host: row.get("host"),
            web_port: port(row, "web_port"),
            grpc_port: port(row, "grpc_port"),
            http_port: port(row, "http_port"),
            is_https: row.get("is_https"),
        };
        Ok(rows.iter().map(replica).collect())
    }

    /// Lets another process lead at once. Call it when nothing of this one writes any more.
    ///
    /// # Errors
    /// When the server is away: then the others learn it when the beats stop.
    pub async fn release(&self, lease: Lease) -> Result<(), StoreError> {
        let doing = "stop being the leader";
        self.follow();
        let Lease { connection, epoch, .. } = lease;
        let mut connection = match connection {
            Some(connection) => connection,
            None => self.lease_connection().await?,
        };
        let release = sqlx::query("UPDATE leader SET beat_at = 'epoch' WHERE epoch = $1").bind(epoch);
        release.execute(&mut connection).await.map_err(StoreError::doing(doing))?;
        let leave = sqlx::query("DELETE FROM replica WHERE replica_id = $1").bind(self.replica_id());
        leave.execute(&mut connection).await.map_err(StoreError::doing(doing))?;
        connection.close().await.map_err(StoreError::doing(doing))
    }

    /// A transaction that commits only while this process leads (or nobody has said who does).
    pub(super) async fn begin_write(&self, doing: &'static str) -> Result<Transaction<'static, Postgres>, StoreError> {
        let mut transaction = self.begin(doing).await?;
        match self.0.leads.load(SeqCst) {
            UNFENCED => Ok(transaction),
            FOLLOWS => Err(StoreError::NotLeader { doing }),
            epoch => {
                let held: Option<i64> = sqlx::query_scalar("SELECT epoch FROM leader WHERE epoch = $1 FOR KEY SHARE")
                    .bind(epoch)
                    .fetch_optional(&mut *transaction)
                    .await
                    .map_err(StoreError::doing(doing))?;
                held.map(|_| transaction).ok_or(StoreError::NotLeader { doing })
            }
        }
    }

    /// Runs one statement in a transaction of [`Store::begin_write`]; how many rows it touched.
    pub(super) async fn write_one(
        &self,
        doing: &'static str,
        statement: sqlx::query::Query<'_, Postgres, sqlx::postgres::PgArguments>,
    ) -> Result<u64, StoreError> {
        let mut transaction = self.begin_write(doing).await?;
        let done = statement.execute(&mut *transaction).await.map_err(StoreError::doing(doing))?;
        transaction.commit().await.map_err(StoreError::doing(doing))?;
        Ok(done.rows_affected())
    }

    async fn lease_connection(&self) -> Result<PgConnection, StoreError> {
        let doing = "connect for the lease";
        let options = self.pool().connect_options();
        let mut connection = PgConnection::connect_with(&options).await.map_err(StoreError::doing(doing))?;
        // A beat need not wait for the disk, and must not wait long for anything else.
        let set = "SET synchronous_commit = off; SET lock_timeout = '5s'; SET statement_timeout = '10s'";
        connection.execute(set).await.map_err(StoreError::doing(doing))?;
        Ok(connection)
    }
}

/// The sessions of a replica bear its id, so that another one can end them.
pub(super) fn named_sessions(options: PgConnectOptions, replica_id: &str) -> PgConnectOptions {
    options.application_name(&format!("{SESSION_PREFIX}{replica_id}"))
}

/// A number that no other process has.
pub(super) fn new_replica_id() -> String {
    use std::hash::BuildHasher;
    format!("{:016x}", std::hash::RandomState::new().hash_one(std::process::id()))
}

async fn try_lock(connection: &mut PgConnection) -> Result<bool, StoreError> {
    let taken = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(WRITER_LOCK).fetch_one(connection).await;
    taken.map_err(StoreError::doing("ask for the lock of the leader"))
}

/// Ends all sessions of the leader of that epoch, unless that is this process: what they had under way is rolled back.
async fn end_sessions(connection: &mut PgConnection, epoch: i64, own: &str) -> Result<(), StoreError> {
    let sql = "SELECT pg_terminate_backend(a.pid) FROM leader l
               JOIN pg_stat_activity a ON a.application_name = $2 || l.replica_id
               WHERE l.epoch = $1 AND l.replica_id <> $3 AND a.datname = current_database() AND a.pid <> pg_backend_pid()";
    let ended = sqlx::query(sql).bind(epoch).bind(SESSION_PREFIX).bind(own).fetch_all(connection).await;
    ended.map(drop).map_err(StoreError::doing("end the sessions of the former leader"))
}

fn announce(me: &Replica) -> sqlx::query::Query<'_, Postgres, sqlx::postgres::PgArguments> {
    let Replica { id, name, host, web_port, grpc_port, http_port, is_https } = me;
    sqlx::query(include_str!("sql/announce_replica.sql"))
        .bind(id)
        .bind(super::values::text(name).into_owned())
        .bind(super::values::text(host).into_owned())
        .bind(i32::from(*web_port))
        .bind(i32::from(*grpc_port))
        .bind(i32::from(*http_port))
        .bind(is_https)
}
