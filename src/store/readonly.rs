//! A role that may read the views of `docs/sql.md` and nothing else: for Grafana, and for people with questions.
//!
//! Invariant: tables are never granted, for some hold secrets (bodies of notifications, label values of everything); who
//! runs it twice has what he has after the first time.

use sqlx::{AssertSqlSafe, Executor, PgConnection};

use super::{Store, StoreError};

/// What the role may read: the views that SQL users rely on.
pub const READABLE_VIEWS: [&str; 8] = [
    "red_1m",
    "red_1h",
    "edge_red_1m",
    "edge_red_1h",
    "edge_report_1m",
    "edge_report_1h",
    "span_search",
    "series_labels",
];

/// PostgreSQL cuts longer names.
const NAME_LIMIT_BYTES: usize = 63;
/// How long a question of a role that we made may run, so that a board cannot hold up the database.
const STATEMENT_TIMEOUT: &str = "30s";

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Whether the role is new: then it may log in, and has no password yet.
    pub created: bool,
    /// Tables and other views that the role may read all the same, by other grants.
    pub also_reads: Vec<String>,
}

/// Why a name cannot be that of a role; none when it can.
pub fn why_no_role(name: &str) -> Option<&'static str> {
    match name {
        "" => Some("it is empty"),
        "public" | "none" => Some("PostgreSQL keeps this name for itself"),
        _ if name.starts_with("pg_") => Some("PostgreSQL keeps names that begin with pg_ for itself"),
        _ if name.len() > NAME_LIMIT_BYTES => Some("it is longer than 63 bytes"),
        _ if name.chars().any(char::is_control) => Some("it has a control character"),
        _ => None,
    }
}

impl Store {
    /// Lets the role `name` read [`READABLE_VIEWS`]; makes it when it is not there.
    ///
    /// # Errors
    /// When no role can have the name, the role can read everything anyway, we may not make roles, or the server is away.
    pub async fn grant_readonly(&self, name: &str) -> Result<Granted, StoreError> {
        let refused = |reason: &str| StoreError::Role { name: name.to_owned(), reason: reason.to_owned() };
        if let Some(reason) = why_no_role(name) {
            return Err(refused(reason));
        }
        let doing = || StoreError::doing("grant the views to a role");
        let mut transaction = self.begin("grant the views to a role").await?;
        // Two that make the same role at once would meet in a unique index.
        transaction.execute("SELECT pg_advisory_xact_lock(hashtext('meshscope grant'))").await.map_err(doing())?;
        let found: Option<(bool, bool)> =
            sqlx::query_as("SELECT rolsuper OR rolbypassrls, rolname = current_user FROM pg_roles WHERE rolname = $1")
                .bind(name)
                .fetch_optional(&mut *transaction)
                .await
                .map_err(doing())?;
        match found {
            Some((_, true)) => return Err(refused("it is the role that meshscope itself uses, which owns all tables")),
            Some((true, _)) => return Err(refused("it is a superuser, which reads everything: name another role")),
            _ => {}
        }
        let created = found.is_none();
        let role = quoted(name);
        let (schema, database): (String, String) =
            sqlx::query_as("SELECT quote_ident(current_schema()), quote_ident(current_database())")
                .fetch_one(&mut *transaction)
                .await
                .map_err(doing())?;
        for statement in statements(created, &role, &schema, &database) {
            transaction.execute(AssertSqlSafe(statement)).await.map_err(doing())?;
        }
        let also_reads = also_reads(&mut transaction, name).await?;
        transaction.commit().await.map_err(doing())?;
        Ok(Granted { created, also_reads })
    }
}

fn statements(created: bool, role: &str, schema: &str, database: &str) -> Vec<String> {
    let mut all = Vec::new();
    if created {
        all.push(format!("CREATE ROLE {role} LOGIN"));
        all.push(format!("ALTER ROLE {role} SET default_transaction_read_only = on"));
        all.push(format!("ALTER ROLE {role} SET statement_timeout = '{STATEMENT_TIMEOUT}'"));
    }
    let views: Vec<String> = READABLE_VIEWS.iter().map(|view| format!("{schema}.{view}")).collect();
    all.push(format!("GRANT CONNECT ON DATABASE {database} TO {role}"));
    all.push(format!("GRANT USAGE ON SCHEMA {schema} TO {role}"));
    all.push(format!("GRANT SELECT ON {} TO {role}", views.join(", ")));
    all
}

/// What else of our schema the role may read.
async fn also_reads(connection: &mut PgConnection, name: &str) -> Result<Vec<String>, StoreError> {
    sqlx::query_scalar(
        "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
           AND c.relname <> ALL ($2) AND has_table_privilege($1, c.oid, 'SELECT')
         ORDER BY 1",
    )
    .bind(name)
    .bind(READABLE_VIEWS.map(str::to_owned).to_vec())
    .fetch_all(connection)
    .await
    .map_err(StoreError::doing("see what a role may read"))
}

/// An identifier as SQL takes any of them.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_role_can_have_are_told() {
        for name in ["", "public", "none", "pg_read_all_data", &"x".repeat(64), "a\nb"] {
            assert!(why_no_role(name).is_some(), "{name:?}");
        }
        for name in ["grafana", "Grafana Reader", "o'neil", "a\"b", "пользователь", &"x".repeat(63)] {
            assert_eq!(why_no_role(name), None, "{name:?}");
        }
        assert_eq!(quoted(r#"a"; DROP TABLE x; --"#), r#""a""; DROP TABLE x; --""#);
    }
}
