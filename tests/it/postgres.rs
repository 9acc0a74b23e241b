//! One private PostgreSQL for all tests of this process, and a fresh database for each test.
//!
//! Never skips: without server programs every test that needs one fails with a line that says what to install. The server
//! ends a second after the process; folders that killed runs left are removed at the next start.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use meshscope::store::{Config, PrivateConfig, PrivateServer, Store};
use meshscope::units::Secret;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection};
use tokio::sync::OnceCell;

static SERVER: OnceCell<PrivateServer> = OnceCell::const_new();
static NEXT: AtomicU32 = AtomicU32::new(0);
const TEMPLATE: &str = "migrated";

/// A folder of that name for this process alone.
pub fn folder(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("meshscope-it-{}-{name}", std::process::id()))
}

fn remove_folders_of_former_runs() {
    for entry in std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix("meshscope-it-").and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

async fn server() -> &'static PrivateServer {
    let start = || async {
        remove_folders_of_former_runs();
        let config = PrivateConfig {
            path: Some(folder("server")),
            connections_max: 200,
            shared_buffers_mib: 32,
            orphan_grace: Duration::from_secs(1),
            ..PrivateConfig::from_environment()
        };
        let server = PrivateServer::start(&config).await.unwrap_or_else(|error| panic!("{error}"));
        execute(&server.connect_options(), &format!("CREATE DATABASE {TEMPLATE}")).await;
        let store = Store::connect(&config_of(&server, TEMPLATE)).await.unwrap_or_else(|error| panic!("{error}"));
        store.close().await;
        server
    };
    SERVER.get_or_init(start).await
}

fn config_of(server: &PrivateServer, database: &str) -> Config {
    let options = server.connect_options();
    let socket = options.get_socket().expect("a private server has a socket").display().to_string();
    let url = format!("postgres://postgres@localhost/{database}?host={socket}");
    Config { database_url: Some(Secret::from(url)), connections_max: 4, ..Config::default() }
}

async fn execute(options: &PgConnectOptions, sql: &str) {
    let mut connection = PgConnection::connect_with(options).await.expect("connect to the private server");
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(&mut connection)
        .await
        .unwrap_or_else(|e| panic!("{sql}: {e}"));
    connection.close().await.expect("close");
}

/// How to reach a new, empty database.
pub async fn empty_database() -> Config {
    database_like("template0").await
}

/// How to reach a new database with the schema and no rows.
pub async fn database() -> Config {
    database_like(TEMPLATE).await
}

async fn database_like(template: &str) -> Config {
    let server = server().await;
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    execute(&server.connect_options(), &format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
    config_of(server, &name)
}

/// A store on a new database.
pub async fn store() -> Store {
    connect(&database().await).await
}

/// A store on that database.
pub async fn connect(config: &Config) -> Store {
    Store::connect(config).await.unwrap_or_else(|error| panic!("{error}"))
}

/// A bare connection to that database, for looking at rows from outside.
pub async fn connection(config: &Config) -> PgConnection {
    let url = config.database_url.as_ref().expect("a test database has an address").reveal();
    PgConnection::connect(url).await.expect("connect to the test database")
}
