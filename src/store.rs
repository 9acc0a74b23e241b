//! PostgreSQL: private server, pool, migrations, partitions, bulk writes and queries. The only durable state.
//!
//! In and out: the nouns of `model`, and blobs whose inside `series`, `traces` and `access_logs` know. One file for each concern; who
//! writes when, and what happens while the server is away, is the business of `persist`.
//!
//! Invariant: every write is idempotent, so that a write whose acknowledgement was lost can be sent again.

mod access_logs;
mod alert_history;
mod alerts;
mod bulk;
mod changes;
mod chunks;
mod diagnosis;
mod edges;
mod embedded;
mod error;
mod health;
mod ids;
mod journal;
mod mesh;
mod metric_names;
mod migrate;
mod outbox;
mod outbox_search;
mod partitions;
mod places;
mod readonly;
mod silences;
mod spans;
mod values;
mod writer;

pub use access_logs::{AccessLogKey, AccessLogSearch};
pub use alert_history::{AlertEventKey, AlertHistoryPage, AlertHistoryQuery};
pub use alerts::{AlertQuery, StoredAlert};
pub use changes::{ChangeQuery, ResourceHead, StoredGeneration};
pub use chunks::{CHUNK_SPAN_MAX, Chunk, ChunkTier, ChunkWriter, FoundSeries, SeriesNames, label_set_id};
pub use diagnosis::{Diagnosis, diagnose};
pub use edges::{EdgeSums, RollupTier};
pub use embedded::{PrivateConfig, PrivateError, PrivateServer};
pub use error::StoreError;
pub use health::{Health, went_away};
pub use journal::{JournalEntry, NewJournalEntry};
pub use mesh::StoredFinding;
pub use outbox::{NewNotification, NotificationFate, NotifyLogEntry, StoredNotification};
pub use outbox_search::{NotificationQuery, NotificationSummary, ReceiverSummary};
pub use partitions::{Maintained, RetentionConfig};
pub use places::{JournalPlace, journal_id};
pub use readonly::{Granted, READABLE_VIEWS, why_no_role};
pub use silences::{Silence, StoredSilences};
pub use spans::{BatchKey, PartScan, PartSearch, StoredPart, TracePlace, TraceSearch, TraceSummary};
pub use writer::{Leadership, Lease, Replica, ReplicaConfig};

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use serde::Deserialize;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{Executor, Postgres, Transaction};
use tokio::sync::watch;

use crate::units::{ByteSize, Secret};

/// How long a caller waits for a connection before it is told that the server is away.
const ACQUIRE_LIMIT: Duration = Duration::from_secs(5);

/// How long a session lives. Its process keeps what it has learned of each table it met, some megabytes, and a busy moment
/// leaves more sessions than are needed; making one costs a few milliseconds.
const SESSION_LIFETIME: Duration = Duration::from_secs(5 * 60);

/// Where the state is kept and for how long: the block `storage` of the configuration.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address of a PostgreSQL server, `postgres://user:password@host:5432/name`. Without it meshscope runs its own.
    pub database_url: Option<Secret>,
    /// Folder of the private server. Default: `/var/lib/meshscope` for root, else `$XDG_DATA_HOME/meshscope`.
    pub path: Option<PathBuf>,
    /// Most connections at once. Default 12.
    pub connections_max: u32,
    /// `shared_buffers` of the private server. Default 32MB.
    pub shared_buffers: ByteSize,
    /// How long each kind of data is kept.
    pub retention: RetentionConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            database_url: None,
            path: None,
            connections_max: 12,
            shared_buffers: ByteSize(32 << 20),
            retention: RetentionConfig::default(),
        }
    }
}

impl Config {
    /// Takes the address from `DATABASE_URL` when the configuration has none.
    pub fn with_environment(mut self) -> Self {
        let url = || std::env::var("DATABASE_URL").ok().filter(|url| !url.is_empty());
        self.database_url = self.database_url.or_else(|| url().map(Secret::from));
        self
    }
}

/// The database. Clones share one pool.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    pool: PgPool,
    place: String,
    private: Option<PrivateServer>,
    health: watch::Sender<Health>,
    ids: ids::KnownIds,
    edge_keys: edges::EdgeKeys,
    damaged_chunks: AtomicU64,
    metric_names: metric_names::MetricNames,
    unreadable_chunks: AtomicU64,
    /// Tells this process from others on the same database.
    replica_id: String,
    /// The epoch in which this process leads, or what `writer` says instead.
    leads: AtomicI64,
}

impl Store {
    /// Starts the private server when there is no address, connects, and brings the schema up to date.
    ///
    /// # Errors
    /// When the server cannot be started or reached, is older than version 15, or has a newer schema.
    pub async fn connect(config: &Config) -> Result<Self, StoreError> {
        let (options, private) = match &config.database_url {
            Some(url) => (url.reveal().parse::<PgConnectOptions>().map_err(StoreError::Address)?, None),
            None => {
                let private = PrivateConfig {
                    path: config.path.clone(),
                    shared_buffers_mib: u32::try_from(config.shared_buffers.0 >> 20).unwrap_or(u32::MAX).max(1),
                    connections_max: config.connections_max.saturating_add(20),
                    ..PrivateConfig::from_environment()
                };
                let server = PrivateServer::start(&private).await?;
                (server.connect_options(), Some(server))
            }
        };
        match Self::open(options, config.connections_max).await {
            Ok(inner) => Ok(Self(Arc::new(Inner { private, ..inner }))),
            Err(error) => {
                if let Some(server) = private {
                    server.stop().await;
                }
                Err(error)
            }
        }
    }

    async fn open(options: PgConnectOptions, connections_max: u32) -> Result<Inner, StoreError> {
        let replica_id = writer::new_replica_id();
        let options = writer::named_sessions(options, &replica_id);
        let place = place_of(&options);
        migrate::migrate(&options, &place).await?;
        let pool = PgPoolOptions::new()
            .max_connections(connections_max.max(2))
            .acquire_timeout(ACQUIRE_LIMIT)
            .max_lifetime(SESSION_LIFETIME)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    connection.execute(include_str!("store/sql/session.sql")).await?;
                    Ok(())
                })
            })
            .connect_with(options)
            .await
            .map_err(|source| StoreError::Connect { place: place.clone(), source })?;
        let (health, _) = watch::channel(Health::Available);
        Ok(Inner {
            pool,
            place,
            private: None,
            health,
            ids: ids::KnownIds::default(),
            edge_keys: edges::EdgeKeys::default(),
            damaged_chunks: AtomicU64::new(0),
            metric_names: metric_names::MetricNames::default(),
            unreadable_chunks: AtomicU64::new(0),
            replica_id,
            leads: AtomicI64::new(0),
        })
    }

    /// Host or socket and database, for messages; no password.
    pub fn place(&self) -> &str {
        &self.0.place
    }

    /// The private server, when there is one.
    pub fn private_server(&self) -> Option<&PrivateServer> {
        self.0.private.as_ref()
    }

    /// Bytes of the whole database on disk.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn size_bytes(&self) -> Result<u64, StoreError> {
        let bytes: i64 = sqlx::query_scalar("SELECT pg_database_size(current_database())")
            .fetch_one(self.pool())
            .await
            .map_err(StoreError::doing("read the database size"))?;
        Ok(u64::try_from(bytes).unwrap_or(0))
    }

    /// Lets the private server write what new tables left to its next checkpoint: hundreds of files, each of which a stop
    /// or a crash would have to wait for. Another server has its own pace.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn sync_files(&self) -> Result<(), StoreError> {
        if self.0.private.is_some() {
            let done = self.pool().execute("CHECKPOINT").await;
            done.map_err(StoreError::doing("write a checkpoint"))?;
        }
        Ok(())
    }

    /// Closes the pool and stops the private server. Call once, at the end of shutdown.
    pub async fn close(&self) {
        self.0.pool.close().await;
        if let Some(server) = &self.0.private {
            server.stop().await;
        }
    }

    fn pool(&self) -> &PgPool {
        &self.0.pool
    }

    async fn begin(&self, doing: &'static str) -> Result<Transaction<'static, Postgres>, StoreError> {
        self.0.pool.begin().await.map_err(StoreError::doing(doing))
    }

    /// A transaction whose loss on a crash of the server costs less than waiting for its disk: the last moment of what
    /// memory holds anyway and writes again.
    async fn begin_relaxed(&self, doing: &'static str) -> Result<Transaction<'static, Postgres>, StoreError> {
        let mut transaction = self.begin_write(doing).await?;
        let relax = transaction.execute("SET LOCAL synchronous_commit = off").await;
        relax.map_err(StoreError::doing(doing))?;
        Ok(transaction)
    }
}

fn place_of(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or("?");
    match options.get_socket() {
        Some(socket) => format!("{}/{database}", socket.display()),
        None => format!("{}:{}/{database}", options.get_host(), options.get_port()),
    }
}
