//! What PostgreSQL says of itself, for a report to people: version, sizes, settings, sessions, locks, slow statements.
//!
//! In: the block `storage`. Out: rows as JSON objects, one list for each [`QUESTIONS`] entry. It asks over one connection
//! of its own, read-only, each statement for at most five seconds. Invariant: nothing is changed or started; no migration,
//! no private server; no text of a statement that is not ours, and no setting that can hold a secret.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection, Executor};

use super::{Config, PrivateServer, StoreError, migrate, place_of};

/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// What the session is made of before it is asked.
const SESSION: &str = "SET default_transaction_read_only = on; SET statement_timeout = '5s'; SET lock_timeout = '2s'";

/// Name and statement of what is asked. The names are those of the files of a bundle.
const QUESTIONS: [(&str, &str); 8] = [
    (
        "server",
        "SELECT version(), current_setting('server_version') AS server_version,
                current_setting('server_version_num')::int AS server_version_num, pg_postmaster_start_time() AS started_at,
                pg_is_in_recovery() AS is_replica, pg_database_size(current_database()) AS database_bytes,
                current_setting('max_connections')::int AS connections_max,
                (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
                (SELECT max(age(datfrozenxid)) FROM pg_database) AS transaction_age,
                (SELECT extract(epoch FROM max(clock_timestamp() - xact_start))::float8 FROM pg_stat_activity
                 WHERE datname = current_database() AND backend_type = 'client backend'
                   AND pid <> pg_backend_pid()) AS longest_transaction_seconds",
    ),
    ("schema", "SELECT version, description, installed_on, success FROM _sqlx_migrations ORDER BY version"),
    (
        "settings",
        "SELECT name, setting, unit, source FROM pg_settings WHERE name IN (
            'autovacuum', 'checkpoint_timeout', 'default_toast_compression', 'effective_cache_size', 'fsync',
            'full_page_writes', 'jit', 'listen_addresses', 'maintenance_work_mem', 'max_connections', 'max_wal_size',
            'max_worker_processes', 'random_page_cost', 'server_encoding', 'shared_buffers', 'shared_preload_libraries',
            'ssl', 'statement_timeout', 'synchronous_commit', 'temp_buffers', 'TimeZone', 'track_io_timing',
            'wal_compression', 'wal_level', 'work_mem') ORDER BY name",
    ),
    (
        "tables",
        "SELECT coalesce(pg_partition_root(c.oid)::regclass::text, c.oid::regclass::text) AS name, count(*) AS parts,
                sum(pg_total_relation_size(c.oid))::int8 AS bytes, sum(s.n_live_tup)::int8 AS live_rows,
                sum(s.n_dead_tup)::int8 AS dead_rows, max(coalesce(s.last_autovacuum, s.last_vacuum)) AS vacuumed_at
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid
         WHERE c.relkind IN ('r', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
         GROUP BY 1 ORDER BY 3 DESC LIMIT 100",
    ),
    (
        "sessions",
        "SELECT application_name, state, wait_event_type, wait_event, count(*) AS sessions,
                extract(epoch FROM max(clock_timestamp() - state_change))::float8 AS longest_seconds
         FROM pg_stat_activity WHERE backend_type = 'client backend' GROUP BY 1, 2, 3, 4 ORDER BY 5 DESC LIMIT 100",
    ),
    (
        "locks",
        "SELECT pid, pg_blocking_pids(pid) AS blocked_by, application_name, wait_event_type, wait_event,
                extract(epoch FROM clock_timestamp() - query_start)::float8 AS seconds,
                CASE WHEN application_name = 'meshscope' THEN left(query, 300) END AS statement
         FROM pg_stat_activity
         WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0 LIMIT 100",
    ),
    (
        "running",
        "SELECT pid, state, wait_event_type, wait_event,
                extract(epoch FROM clock_timestamp() - query_start)::float8 AS seconds, left(query, 300) AS statement
         FROM pg_stat_activity
         WHERE application_name = 'meshscope' AND state <> 'idle' AND clock_timestamp() - query_start > interval '1 s'
         ORDER BY 5 DESC LIMIT 50",
    ),
    (
        "slow_statements",
        "SELECT calls, round(total_exec_time)::int8 AS total_ms, round(mean_exec_time::numeric, 2)::float8 AS mean_ms,
                round(max_exec_time)::int8 AS max_ms, rows, left(query, 300) AS statement
         FROM pg_stat_statements
         WHERE userid = (SELECT oid FROM pg_roles WHERE rolname = current_user)
           AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND query ~* '^\\s*(select|insert|update|delete|with|copy)'
         ORDER BY total_exec_time DESC LIMIT 30",
    ),
];

/// What was found out.
#[derive(Clone, Debug)]
pub struct Diagnosis {
    /// Host or socket, and database; no password.
    pub place: String,
    /// By how many seconds the server's clock is ahead of ours.
    pub clock_ahead_seconds: f64,
    /// Highest schema version that this binary knows.
    pub schema_version_known: i64,
    /// For each question its name, and the rows as objects or why there are none.
    pub answers: Vec<(&'static str, Result<Vec<Value>, String>)>,
}

/// Asks the server that the configuration names, or the private one when it runs.
///
/// # Errors
/// When it cannot be reached within five seconds.
pub async fn diagnose(config: &Config) -> Result<Diagnosis, StoreError> {
    let options = match &config.database_url {
        Some(url) => url.reveal().parse::<PgConnectOptions>().map_err(StoreError::Address)?,
        None => PrivateServer::options_of_running(config.path.as_deref())?,
    };
    let place = place_of(&options);
    // Not `meshscope`: a private server's next owner ends the sessions of that name.
    let options = options.application_name("meshscope doctor");
    let late = || std::io::Error::new(std::io::ErrorKind::TimedOut, format!("no answer within {CONNECT_LIMIT:?}"));
    let connecting = tokio::time::timeout(CONNECT_LIMIT, PgConnection::connect_with(&options)).await;
    let connected = connecting.unwrap_or_else(|_| Err(late().into()));
    let mut connection = connected.map_err(|source| StoreError::Connect { place: place.clone(), source })?;
    connection.execute(SESSION).await.map_err(StoreError::doing("set up the session of the report"))?;
    let clock_ahead_seconds = clock_ahead(&mut connection).await?;
    let mut answers = Vec::with_capacity(QUESTIONS.len());
    for (name, statement) in QUESTIONS {
        answers.push((name, ask(&mut connection, statement).await));
    }
    let _ = connection.close().await;
    Ok(Diagnosis { place, clock_ahead_seconds, schema_version_known: migrate::version_known(), answers })
}

async fn ask(connection: &mut PgConnection, statement: &str) -> Result<Vec<Value>, String> {
    let statement = AssertSqlSafe(format!("SELECT to_jsonb(answer) FROM ({statement}) answer"));
    sqlx::query_scalar(statement).fetch_all(connection).await.map_err(|error| match error.as_database_error() {
        Some(told) => told.message().to_owned(),
        None => error.to_string(),
    })
}

/// Compared with the middle of the time that the question took.
async fn clock_ahead(connection: &mut PgConnection) -> Result<f64, StoreError> {
    let doing = "read the server's clock";
    let ours = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    let before = ours();
    let theirs: f64 = sqlx::query_scalar("SELECT extract(epoch FROM clock_timestamp())::float8")
        .fetch_one(connection)
        .await
        .map_err(StoreError::doing(doing))?;
    Ok(theirs - f64::midpoint(before, ours()))
}
