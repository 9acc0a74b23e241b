//! The private server: first start, restart, kill -9, two starters, two migrators, a newer schema.

use std::process::Command;
use std::time::{Duration, Instant};

use meshscope::model::Timestamp;
use meshscope::store::{Config, NewJournalEntry, PrivateConfig, PrivateError, PrivateServer, Store, StoreError};
use sqlx::Connection;
use sqlx::postgres::PgConnection;

use crate::postgres;

fn config(name: &str) -> PrivateConfig {
    PrivateConfig { path: Some(postgres::folder(name)), shared_buffers_mib: 16, ..PrivateConfig::from_environment() }
}

fn kill_9(pid: u32) {
    let done = Command::new("kill").args(["-9", &pid.to_string()]).status().expect("run kill");
    assert!(done.success(), "kill -9 {pid}");
}

fn alive(pid: u32) -> bool {
    // A zombie counts as gone.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

async fn connect_within(server: &PrivateServer, limit: Duration) -> PgConnection {
    let start = Instant::now();
    loop {
        match PgConnection::connect_with(&server.connect_options()).await {
            Ok(connection) => return connection,
            Err(error) => assert!(start.elapsed() < limit, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn starts_keeps_its_data_over_a_restart_and_has_no_tcp_port() {
    let config = config("restart");
    let server = PrivateServer::start(&config).await.unwrap_or_else(|e| panic!("{e}"));
    let mut connection = PgConnection::connect_with(&server.connect_options()).await.expect("connect");
    sqlx::raw_sql("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)")
        .execute(&mut connection)
        .await
        .expect("write");
    let setting = |name: &'static str| sqlx::query_scalar::<_, String>("SELECT current_setting($1)").bind(name);
    for (name, value) in
        [("listen_addresses", ""), ("fsync", "on"), ("synchronous_commit", "on"), ("data_checksums", "on")]
    {
        assert_eq!(setting(name).fetch_one(&mut connection).await.expect(name), value, "{name}");
    }
    connection.close().await.expect("close");
    let pid = server.pid().expect("it runs");
    server.stop().await;
    assert!(server.pid().is_none() && !alive(pid));
    drop(server);

    let server = PrivateServer::start(&config).await.unwrap_or_else(|e| panic!("{e}"));
    let mut connection = PgConnection::connect_with(&server.connect_options()).await.expect("connect");
    let kept: i32 = sqlx::query_scalar("SELECT n FROM kept").fetch_one(&mut connection).await.expect("read");
    assert_eq!(kept, 7);
    server.stop().await;
}

#[tokio::test]
async fn a_killed_server_is_started_again_with_its_data() {
    let server = PrivateServer::start(&config("kill")).await.unwrap_or_else(|e| panic!("{e}"));
    let mut connection = PgConnection::connect_with(&server.connect_options()).await.expect("connect");
    sqlx::raw_sql("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)")
        .execute(&mut connection)
        .await
        .expect("write");
    let first = server.pid().expect("it runs");
    kill_9(first);
    let start = Instant::now();
    while server.pid().is_none_or(|pid| pid == first) {
        assert!(start.elapsed() < Duration::from_secs(20), "not started again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut connection = connect_within(&server, Duration::from_secs(30)).await;
    let kept: i32 = sqlx::query_scalar("SELECT n FROM kept").fetch_one(&mut connection).await.expect("read");
    assert_eq!(kept, 7);
    server.stop().await;
}

#[tokio::test]
async fn a_second_starter_on_one_folder_is_refused() {
    let config = config("race");
    let (one, two) = tokio::join!(PrivateServer::start(&config), PrivateServer::start(&config));
    let (server, refused) = match (one, two) {
        (Ok(server), Err(error)) | (Err(error), Ok(server)) => (server, error),
        (one, two) => panic!("one must win: {:?} {:?}", one.err(), two.err()),
    };
    assert!(matches!(refused, PrivateError::InUse { .. }), "{refused}");
    server.stop().await;
    drop(server);
    let server = PrivateServer::start(&config).await.unwrap_or_else(|e| panic!("{e}"));
    server.stop().await;
}

#[tokio::test]
async fn says_what_to_install_and_shows_the_log_of_a_server_that_does_not_start() {
    let missing = PrivateConfig { bin_dir: Some("/nonexistent".into()), ..config("missing") };
    let error = PrivateServer::start(&missing).await.err().expect("no programs there");
    assert!(matches!(error, PrivateError::NotServerPrograms { .. }), "{error}");

    let too_many = PrivateConfig { connections_max: 1_000_000, ..config("refused") };
    let error = PrivateServer::start(&too_many).await.err().expect("a setting out of range");
    let PrivateError::NotReady { tail, .. } = error else { panic!("{error}") };
    assert!(tail.contains("max_connections"), "{tail}");
}

#[tokio::test]
async fn a_long_folder_name_gets_its_socket_elsewhere() {
    let config = config(&"long".repeat(25));
    let server = PrivateServer::start(&config).await.unwrap_or_else(|e| panic!("{e}"));
    let connection = PgConnection::connect_with(&server.connect_options()).await.expect("connect");
    connection.close().await.expect("close");
    server.stop().await;
}

#[tokio::test]
async fn a_store_without_an_address_runs_its_own_server() {
    let config = Config { path: Some(postgres::folder("own")), ..Config::default() };
    let store = postgres::connect(&config).await;
    let at = Timestamp::from_millis(1_000);
    let entry = NewJournalEntry { from: at, to: at, sample_count: 1, starts_epoch: true, bytes: vec![1] };
    store.append_journal(&[entry]).await.expect("append");
    store.close().await;
    drop(store);
    let store = postgres::connect(&config).await;
    assert_eq!(store.journal_size().await.expect("measure"), (1, 1));
    store.close().await;
}

#[tokio::test]
async fn two_migrators_at_once_and_a_third_later_agree() {
    let config = postgres::empty_database().await;
    let (one, two) = tokio::join!(Store::connect(&config), Store::connect(&config));
    let (one, two) = (one.unwrap_or_else(|e| panic!("{e}")), two.unwrap_or_else(|e| panic!("{e}")));
    postgres::connect(&config).await.close().await;
    let mut connection = postgres::connection(&config).await;
    let (count, distinct): (i64, i64) =
        sqlx::query_as("SELECT count(*), count(DISTINCT version) FROM _sqlx_migrations")
            .fetch_one(&mut connection)
            .await
            .expect("read");
    assert!(count == distinct && count >= 6, "{count} {distinct}");
    one.close().await;
    two.close().await;
}

#[tokio::test]
async fn refuses_a_newer_schema_and_names_its_version() {
    let config = postgres::database().await;
    let mut connection = postgres::connection(&config).await;
    sqlx::raw_sql(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9001, 'of the future', true, '', 0)",
    )
    .execute(&mut connection)
    .await
    .expect("write");
    let error = Store::connect(&config).await.err().expect("a newer schema");
    assert!(matches!(error, StoreError::SchemaTooNew { found: 9001, known } if known >= 6), "{error}");
    // The refusal must not leave the migration lock behind.
    sqlx::raw_sql("DELETE FROM _sqlx_migrations WHERE version = 9001").execute(&mut connection).await.expect("write");
    postgres::connect(&config).await.close().await;
}

#[tokio::test]
async fn an_address_that_nobody_answers_is_named_without_its_password() {
    let url = "postgres://u:secret-word@127.0.0.1:1/db".to_owned();
    let config = Config { database_url: Some(url.into()), ..Config::default() };
    let error = Store::connect(&config).await.err().expect("nobody there");
    assert!(error.is_temporary() && matches!(error, StoreError::Connect { .. }), "{error}");
    assert!(error.to_string().contains("127.0.0.1:1/db") && !error.to_string().contains("secret-word"), "{error}");
}

/// Set in the process that [`killed_owner`] starts and kills.
const OWNER_FOLDER: &str = "MESHSCOPE_IT_OWNER_FOLDER";

/// The other process of the next tests: owns a server until it is killed. Without the variable there is nothing to do.
#[tokio::test]
async fn owner_of_a_server_until_it_is_killed() {
    let Some(folder) = std::env::var_os(OWNER_FOLDER) else { return };
    let config = owned(folder.clone().into());
    let server = PrivateServer::start(&config).await.unwrap_or_else(|e| panic!("{e}"));
    let options = server.connect_options().application_name("meshscope");
    let mut connection = PgConnection::connect_with(&options).await.expect("connect");
    sqlx::raw_sql("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)")
        .execute(&mut connection)
        .await
        .expect("write");
    // What was never committed, by a session that is busy when its owner is killed.
    sqlx::raw_sql("BEGIN; INSERT INTO kept VALUES (8)").execute(&mut connection).await.expect("write");
    let ready = std::path::Path::new(&folder).join("ready");
    std::fs::write(&ready, server.pid().expect("it runs").to_string()).expect("write");
    sqlx::raw_sql("SELECT pg_sleep(600)").execute(&mut connection).await.expect("it is killed before");
}

fn owned(folder: std::path::PathBuf) -> PrivateConfig {
    PrivateConfig { path: Some(folder), orphan_grace: Duration::from_secs(2), ..config("owned") }
}

/// A folder whose owner was killed, and the process id of its server.
async fn killed_owner(config: &PrivateConfig) -> u32 {
    let folder = config.path.clone().expect("it has a folder");
    let mut owner = Command::new(std::env::current_exe().expect("our own path"))
        .args(["store_private_server::owner_of_a_server_until_it_is_killed", "--exact"])
        .env(OWNER_FOLDER, &folder)
        .spawn()
        .expect("start this program again");
    let start = Instant::now();
    let first: u32 = loop {
        match std::fs::read_to_string(folder.join("ready")).ok().and_then(|pid| pid.parse().ok()) {
            Some(pid) => break pid,
            None => assert!(start.elapsed() < Duration::from_secs(60), "the other process is not ready"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let refused = PrivateServer::start(config).await.err().expect("the owner lives");
    assert!(matches!(refused, PrivateError::InUse { .. }), "{refused}");
    owner.kill().expect("kill -9");
    owner.wait().expect("reap");
    first
}

async fn kept(server: &PrivateServer) -> Vec<i32> {
    let mut connection = PgConnection::connect_with(&server.connect_options()).await.expect("connect");
    sqlx::query_scalar("SELECT n FROM kept").fetch_all(&mut connection).await.expect("read")
}

async fn ends(pid: u32) {
    let start = Instant::now();
    while alive(pid) {
        assert!(start.elapsed() < Duration::from_secs(30), "the server {pid} is left over");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn the_next_owner_takes_over_the_server_of_a_killed_one_and_keeps_it() {
    let config = owned(postgres::folder("owner"));
    let first = killed_owner(&config).await;
    let server = PrivateServer::start(&config).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(server.pid(), Some(first), "the server runs on");
    assert_eq!(kept(&server).await, [7], "and what was not committed is gone");
    let mut connection = PgConnection::connect_with(&server.connect_options()).await.expect("connect");
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'meshscope'";
    let sleeping: i64 = sqlx::query_scalar(sleeping).fetch_one(&mut connection).await.expect("count");
    assert_eq!(sleeping, 0, "the former owner's session is gone");
    // The former owner's guardian has waited long enough by now, and must have seen that there is another owner.
    tokio::time::sleep(config.orphan_grace + Duration::from_secs(1)).await;
    assert_eq!((server.pid(), kept(&server).await), (Some(first), vec![7]));

    // It is kept like one of our own: started again when it is killed, stopped in the end.
    kill_9(first);
    let start = Instant::now();
    while server.pid().is_none_or(|pid| pid == first) {
        assert!(start.elapsed() < Duration::from_secs(20), "not started again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    connect_within(&server, Duration::from_secs(30)).await.close().await.expect("close");
    assert_eq!(kept(&server).await, [7]);
    let second = server.pid().expect("it runs");
    server.stop().await;
    assert!(server.pid().is_none() && !alive(second));
}

#[tokio::test]
async fn a_taken_over_server_is_stopped_by_its_new_owner() {
    let config = owned(postgres::folder("heir"));
    let first = killed_owner(&config).await;
    let server = PrivateServer::start(&config).await.unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(server.pid(), Some(first));
    server.stop().await;
    assert!(server.pid().is_none());
    ends(first).await;
}

#[tokio::test]
async fn the_server_of_a_killed_owner_is_replaced_when_it_has_other_settings() {
    let config = owned(postgres::folder("changed"));
    let first = killed_owner(&config).await;
    let changed = PrivateConfig { shared_buffers_mib: 17, ..config };
    let server = PrivateServer::start(&changed).await.unwrap_or_else(|e| panic!("{e}"));
    assert!(!alive(first), "the first server is left over");
    assert_eq!(kept(&server).await, [7]);
    server.stop().await;
}

#[tokio::test]
async fn a_server_ends_after_its_killed_owner_when_no_other_comes() {
    let first = killed_owner(&owned(postgres::folder("nobody"))).await;
    ends(first).await;
}
