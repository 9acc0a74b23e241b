//! The statements of docs/citus.md against a migrated database: Citus distributes a table only by a column that each of its
//! primary and unique keys holds.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

use crate::postgres;

/// Tables that the document distributes with their columns, and those that it copies to each worker.
fn statements() -> (BTreeMap<String, String>, BTreeSet<String>) {
    let document = include_str!("../../docs/citus.md");
    let (_, block) = document.split_once("```sql citus\n").expect("the block of statements");
    let (block, _) = block.split_once("```").expect("its end");
    let (mut distributed, mut copied) = (BTreeMap::new(), BTreeSet::new());
    for line in block.lines() {
        let names: Vec<&str> = line.split('\'').skip(1).step_by(2).collect();
        match names.as_slice() {
            [table, column, ..] if line.contains("create_distributed_table(") => {
                distributed.insert((*table).to_owned(), (*column).to_owned());
            }
            [table] if line.contains("create_reference_table(") => drop(copied.insert((*table).to_owned())),
            _ => assert!(!line.starts_with("SELECT"), "not understood: {line}"),
        }
    }
    (distributed, copied)
}

async fn strings(connection: &mut PgConnection, statement: &str) -> Vec<String> {
    let rows = sqlx::query(AssertSqlSafe(statement.to_owned())).fetch_all(connection).await.expect("the catalogue");
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn each_key_of_a_distributed_table_holds_its_distribution_column() {
    let (distributed, copied) = statements();
    assert!(distributed.len() >= 8 && !copied.is_empty(), "{distributed:?} {copied:?}");
    let database = postgres::database().await;
    let mut connection = postgres::connection(&database).await;
    for (table, column) in &distributed {
        let columns = format!(
            "SELECT attname::text FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0 AND NOT attisdropped"
        );
        assert!(strings(&mut connection, &columns).await.contains(column), "{table} has no column {column}");
        // Of the parent and of each partition; those of partitions follow the parent's, or are their own mistake.
        let keys = format!(
            "SELECT i.indexrelid::regclass::text FROM pg_index i
             WHERE i.indisunique AND i.indrelid IN (SELECT '{table}'::regclass UNION SELECT relid FROM pg_partition_tree('{table}'))
               AND NOT EXISTS (SELECT FROM pg_attribute a
                               WHERE a.attrelid = i.indrelid AND a.attname = '{column}' AND a.attnum = ANY (i.indkey))"
        );
        let without = strings(&mut connection, &keys).await;
        assert!(without.is_empty(), "{table} cannot be distributed by {column}: {without:?} do not hold it");
        let primary = format!(
            "SELECT indexrelid::regclass::text FROM pg_index WHERE indisprimary AND indrelid = '{table}'::regclass"
        );
        assert_eq!(strings(&mut connection, &primary).await.len(), 1, "{table} has no primary key");
        // Citus lets a foreign key of a distributed table lead only to a table of the same distribution, or a copied one.
        let foreign = format!(
            "SELECT confrelid::regclass::text FROM pg_constraint WHERE contype = 'f' AND conrelid = '{table}'::regclass"
        );
        for target in strings(&mut connection, &foreign).await {
            assert!(copied.contains(&target), "{table} refers to {target}, which is not on every worker");
        }
    }
    for table in &copied {
        let there = format!("SELECT relname::text FROM pg_class WHERE oid = to_regclass('{table}')");
        assert_eq!(
            strings(&mut connection, &there).await,
            [table.as_str()],
            "docs/citus.md copies a table that is not there"
        );
    }
}

#[tokio::test]
async fn each_partitioned_table_is_distributed() {
    let (distributed, _) = statements();
    let database = postgres::database().await;
    let mut connection = postgres::connection(&database).await;
    let partitioned =
        "SELECT relname::text FROM pg_class WHERE relkind = 'p' AND relnamespace = 'public'::regnamespace";
    let missing: Vec<String> = strings(&mut connection, partitioned)
        .await
        .into_iter()
        .filter(|table| !distributed.contains_key(table))
        .collect();
    assert!(missing.is_empty(), "docs/citus.md distributes every partitioned table, but for {missing:?}");
}
