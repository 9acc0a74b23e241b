//! Findings about what is declared, over time.

use chrono::{DateTime, Utc};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::{Store, StoreError, values};
use crate::model::{Finding, Severity, Timestamp};

/// A finding and when it held. Codes are text here: an older binary's codes may be unknown to this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFinding {
    /// `MSnnnn`.
    pub code: String,
    /// How bad.
    pub severity: Severity,
    /// What it is about.
    pub subject: String,
    /// Line in the file, when there is one.
    pub line: Option<usize>,
    /// What happens because of it.
    pub message: String,
    /// How to mend it.
    pub fix: Option<String>,
    /// When it was first seen.
    pub first_seen_at: Timestamp,
    /// When it was gone; `None`: it still holds.
    pub gone_at: Option<Timestamp>,
}

impl Store {
    /// Records what holds at `at`: new findings are opened, those that are stored as open and not given are closed.
    ///
    /// # Errors
    /// When the server is away.
    pub async fn record_findings(&self, at: Timestamp, findings: &[Finding]) -> Result<(), StoreError> {
        let doing = "record findings";
        let column = |pick: fn(&Finding) -> &str| {
            findings.iter().map(|finding| values::text(pick(finding)).into_owned()).collect::<Vec<_>>()
        };
        let (codes, subjects, messages) = (column(|f| f.code), column(|f| &f.subject), column(|f| &f.message));
        let mut transaction = self.begin_write(doing).await?;
        sqlx::query(include_str!("sql/close_findings.sql"))
            .bind(values::time(at))
            .bind(&codes)
            .bind(&subjects)
            .bind(&messages)
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::doing(doing))?;
        let lines: Vec<Option<i32>> =
            findings.iter().map(|f| i32::try_from(f.line).ok().filter(|line| *line > 0)).collect();
        let fixes: Vec<Option<String>> =
            findings.iter().map(|f| f.fix.as_deref().map(|fix| values::text(fix).into_owned())).collect();
        sqlx::query(include_str!("sql/open_findings.sql"))
            .bind(values::time(at))
            .bind(&codes)
            .bind(&subjects)
            .bind(&messages)
            .bind(column(|f| f.severity.as_str()))
            .bind(lines)
            .bind(fixes)
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::doing(doing))?;
        transaction.commit().await.map_err(StoreError::doing(doing))
    }

    /// Findings that held at some time in `[from, to]`, newest first.
    ///
    /// # Errors
    /// When the server is away or a row is damaged.
    pub async fn findings(&self, from: Timestamp, to: Timestamp) -> Result<Vec<StoredFinding>, StoreError> {
        let query = "SELECT * FROM finding WHERE first_seen_at <= $2 AND (gone_at IS NULL OR gone_at >= $1)
                     ORDER BY first_seen_at DESC, finding_id";
        let rows = sqlx::query(query).bind(values::time(from)).bind(values::time(to)).fetch_all(self.pool()).await;
        rows.map_err(StoreError::doing("read findings"))?.iter().map(finding_from).collect()
    }
}

fn finding_from(row: &PgRow) -> Result<StoredFinding, StoreError> {
    let severity: String = row.get("severity");
    let severity = [Severity::Info, Severity::Warning, Severity::Error]
        .into_iter()
        .find(|known| known.as_str() == severity)
        .ok_or_else(|| StoreError::Damaged { what: "finding", reason: format!("unknown severity {severity:?}") })?;
    Ok(StoredFinding {
        code: row.get("code"),
        severity,
        subject: row.get("subject"),
        line: row.get::<Option<i32>, _>("line").and_then(|line| usize::try_from(line).ok()),
        message: row.get("message"),
        fix: row.get("fix"),
        first_seen_at: row.get::<DateTime<Utc>, _>("first_seen_at").into(),
        gone_at: row.get::<Option<DateTime<Utc>>, _>("gone_at").map(Timestamp::from),
    })
}
