//! The role that may read the views: what it reads, what it does not, and that the documented examples and the SQL board
//! run as it.

use std::time::Duration;

use meshscope::dashboards::{self, Named};
use meshscope::model::Timestamp;
use meshscope::model::workload::Reporter;
use meshscope::store::{Config, Granted, READABLE_VIEWS, StoreError};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection, Executor, Row};

use crate::postgres;
use crate::store_tables::edge_minute;

/// A connection as another role.
async fn connection_as(config: &Config, role: &str) -> PgConnection {
    let url = config.database_url.as_ref().expect("a test database has an address").reveal();
    let options: PgConnectOptions = url.parse().expect("an address");
    PgConnection::connect_with(&options.username(role)).await.unwrap_or_else(|error| panic!("{role}: {error}"))
}

/// A name that no other test of this server has: roles are the server's, not the database's.
fn role(base: &str) -> String {
    format!("{base} {}", std::process::id())
}

async fn drop_role(config: &Config, name: &str) {
    let quoted = name.replace('"', "\"\"");
    let mut connection = postgres::connection(config).await;
    for sql in [format!("DROP OWNED BY \"{quoted}\""), format!("DROP ROLE \"{quoted}\"")] {
        connection.execute(AssertSqlSafe(sql)).await.expect("drop the role");
    }
}

#[tokio::test]
async fn the_role_reads_the_views_and_no_table_and_is_made_once() {
    let config = postgres::database().await;
    let store = postgres::connect(&config).await;
    // A name with everything that quoting must bear.
    let name = role("re\"ader'; DROP TABLE edge; --");
    let first = store.grant_readonly(&name).await.expect("grant");
    assert_eq!(first, Granted { created: true, also_reads: vec![] });
    let again = store.grant_readonly(&name).await.expect("grant again");
    assert_eq!(again, Granted { created: false, also_reads: vec![] });

    let mut own = connection_as(&config, &name).await;
    for view in READABLE_VIEWS {
        own.execute(AssertSqlSafe(format!("SELECT * FROM {view}")))
            .await
            .unwrap_or_else(|error| panic!("{view}: {error}"));
    }
    let mut owner = postgres::connection(&config).await;
    let rows =
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')";
    let tables: Vec<String> = sqlx::query_scalar(rows).fetch_all(&mut owner).await.expect("tables");
    assert!(tables.len() > 20 && tables.contains(&"notification".to_owned()), "{tables:?}");
    for table in tables {
        let refused = own.execute(AssertSqlSafe(format!("SELECT 1 FROM \"{table}\" LIMIT 1"))).await;
        let code = refused.expect_err(&table).as_database_error().and_then(|error| error.code().map(String::from));
        assert_eq!(code.as_deref(), Some("42501"), "{table}");
    }
    for sql in
        ["CREATE TABLE x (y int)", "DELETE FROM silence", "SELECT pg_read_file('/etc/passwd')", "DROP VIEW red_1m"]
    {
        assert!(own.execute(sql).await.is_err(), "{sql}");
    }
    let timeout: String = sqlx::query_scalar("SHOW statement_timeout").fetch_one(&mut own).await.expect("a setting");
    assert_eq!(timeout, "30s");
    own.close().await.expect("close");
    drop_role(&config, &name).await;
}

#[tokio::test]
async fn a_role_that_is_there_keeps_what_it_has_and_we_say_so() {
    let config = postgres::database().await;
    let store = postgres::connect(&config).await;
    let name = role("analyst");
    let mut owner = postgres::connection(&config).await;
    for sql in [format!("CREATE ROLE \"{name}\" LOGIN"), format!("GRANT SELECT ON silence, alert_event TO \"{name}\"")]
    {
        owner.execute(AssertSqlSafe(sql)).await.expect("prepare");
    }
    let granted = store.grant_readonly(&name).await.expect("grant");
    let expect = Granted { created: false, also_reads: vec!["alert_event".to_owned(), "silence".to_owned()] };
    assert_eq!(granted, expect);
    drop_role(&config, &name).await;
}

#[tokio::test]
async fn roles_that_cannot_be_limited_are_refused_and_nothing_is_granted() {
    let config = postgres::database().await;
    let store = postgres::connect(&config).await;
    for (name, part) in [
        ("", "empty"),
        ("public", "keeps this name"),
        ("pg_monitor", "pg_"),
        ("postgres", "meshscope itself uses"),
        ("x\u{0}y", "control character"),
    ] {
        let error = store.grant_readonly(name).await.expect_err(name);
        assert!(matches!(error, StoreError::Role { .. }) && error.to_string().contains(part), "{name:?}: {error}");
    }
    let name = role("boss");
    let mut owner = postgres::connection(&config).await;
    owner.execute(AssertSqlSafe(format!("CREATE ROLE \"{name}\" SUPERUSER"))).await.expect("prepare");
    let error = store.grant_readonly(&name).await.expect_err("a superuser");
    assert!(error.to_string().contains("superuser"), "{error}");
    drop_role(&config, &name).await;
}

/// A database with an hour of traffic until now, and a role that may read its views.
async fn with_traffic(base: &str) -> (Config, String) {
    let config = postgres::database().await;
    let store = postgres::connect(&config).await;
    let now = Timestamp::from(chrono::Utc::now()).as_millis();
    let minute = |ago: i64| Timestamp::from_millis((now / 60_000 - ago) * 60_000);
    let mut minutes = Vec::new();
    for ago in 3..10 {
        minutes.push(edge_minute(minute(ago), Reporter::Source, "web", "payment"));
        let mut called = edge_minute(minute(ago), Reporter::Destination, "web", "payment");
        // A fifth never arrived.
        called.requests.truncate(1);
        called.requests[0].1 = 80.0;
        minutes.push(called);
    }
    store.write_edges(minutes).await.expect("write");
    store.roll_hours(minute(0) + Duration::from_secs(7200), Duration::ZERO).await.expect("roll");
    let name = role(base);
    store.grant_readonly(&name).await.expect("grant");
    (config, name)
}

/// The blocks of a document that begin with a line like that.
fn blocks(document: &str, info: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = document;
    while let Some(at) = rest.find(&format!("```{info}\n")) {
        let body = &rest[at + info.len() + 4..];
        let end = body.find("```").expect("a closed block");
        found.push(body[..end].to_owned());
        rest = &body[end..];
    }
    found
}

#[tokio::test]
async fn every_example_of_the_documentation_runs_as_the_role_and_those_of_edges_give_rows() {
    let (config, name) = with_traffic("docs").await;
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/sql.md")).expect("docs/sql.md");
    let examples = blocks(&text, "sql");
    assert!(examples.len() >= 8, "{} examples", examples.len());
    let mut own = connection_as(&config, &name).await;
    for example in &examples {
        let rows =
            sqlx::query(AssertSqlSafe(example.trim().trim_end_matches(';').to_owned())).fetch_all(&mut own).await;
        let rows = rows.unwrap_or_else(|error| panic!("{error}:\n{example}"));
        // There are no traces, no such service, nothing in plain text.
        let empty = ["span_search", "'catalog'", "security = 'none'"].iter().any(|part| example.contains(part));
        assert_eq!(rows.is_empty(), empty, "{example}");
    }
    // What needs the owner's rights is marked, and is refused to the role.
    let of_owner = blocks(&text, "sql owner");
    assert!(of_owner.len() >= 2);
    let mut owner = postgres::connection(&config).await;
    for example in of_owner {
        assert!(sqlx::raw_sql(AssertSqlSafe(example.clone())).execute(&mut own).await.is_err(), "{example}");
        sqlx::raw_sql(AssertSqlSafe(example.clone()))
            .execute(&mut owner)
            .await
            .unwrap_or_else(|error| panic!("{error}:\n{example}"));
    }
    own.close().await.expect("close");
    drop_role(&config, &name).await;
}

/// SQL as Grafana's data source sends it: macros and variables replaced.
fn filled_in(sql: &str) -> String {
    let mut out = String::new();
    let mut rest = sql;
    while let Some(at) = rest.find("$__timeFilter(") {
        let (before, behind) = rest.split_at(at);
        let behind = &behind["$__timeFilter(".len()..];
        let end = behind.find(')').expect("a closed macro");
        let column = &behind[..end];
        out.push_str(&format!("{before}{column} BETWEEN now() - interval '1 hour' AND now()"));
        rest = &behind[end + 1..];
    }
    out.push_str(rest);
    out.replace("$__timeFrom()", "(now() - interval '1 hour')").replace("$namespace", "'shop','it''s'")
}

#[tokio::test]
async fn every_query_of_the_sql_board_runs_as_the_role_and_gives_what_grafana_draws() {
    let (config, name) = with_traffic("board").await;
    let mut own = connection_as(&config, &name).await;
    let Named { dashboard, .. } = dashboards::all().into_iter().find(|named| named.name == "sql").expect("the board");
    let variables = dashboard.templating.list.iter().filter(|variable| variable.datasource.is_some());
    for variable in variables {
        let values: Vec<String> =
            sqlx::query_scalar(AssertSqlSafe(variable.query.clone())).fetch_all(&mut own).await.expect(variable.name);
        assert_eq!(values, ["shop"], "{}", variable.name);
    }
    let mut run = 0;
    for panel in &dashboard.panels {
        for target in &panel.targets {
            let sql = filled_in(&target.raw_sql);
            assert!(!sql.contains('$'), "{sql} has a variable left");
            let rows = sqlx::query(AssertSqlSafe(sql.clone())).fetch_all(&mut own).await;
            let rows = rows.unwrap_or_else(|error| panic!("{}: {error}:\n{sql}", panel.title));
            run += 1;
            // An hour that is going on is summed at its end; there are no traces.
            let may_be_empty = ["Slow traces with errors", "Requests by hour"].contains(&panel.title);
            assert!(!rows.is_empty() || may_be_empty, "{}: no rows", panel.title);
            if let (Some(row), "time_series") = (rows.first(), target.format) {
                let _: chrono::DateTime<chrono::Utc> = row.try_get("time").expect("a time");
                let _: &str = row.try_get("metric").expect("a name");
                let _: f64 = row.try_get("value").expect("a number");
            }
        }
    }
    assert!(run >= 12, "{run} queries");
    own.close().await.expect("close");
    drop_role(&config, &name).await;
}
