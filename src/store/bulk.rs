//! Many rows at once: `INSERT … UNNEST` for few, binary `COPY` for many.
//!
//! Below [`COPY_ROWS_MIN`] rows a COPY is not worth its round trips, and sqlx 0.9.0 stalls 44 ms in each one over TCP
//! (transact-rs/sqlx#4335); over a unix socket it is from [`COPY_ROWS_MIN_LOCAL`] on. Both paths store exactly the same.
//!
//! Invariant: a `COPY` is always finished, or its connection is dropped with the error.

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::Value;
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Connection, Postgres};

use super::{StoreError, values};

/// From this many rows on, COPY.
pub(super) const COPY_ROWS_MIN: usize = 5_000;
/// The same for the private server, which is reached over a unix socket.
pub(super) const COPY_ROWS_MIN_LOCAL: usize = 200;
/// Bytes sent at once.
const COPY_BUFFER_BYTES: usize = 256 << 10;

/// What to do with a row whose key is there already.
#[derive(Clone, Copy, Debug)]
pub(super) enum OnConflict {
    /// Expected seldom: rows are copied straight in, and only a clash takes the slow way. The text follows `ON CONFLICT`.
    Seldom(&'static str),
    /// Expected often: rows are copied to a staging table and merged. The text follows `ON CONFLICT`.
    Often(&'static str),
}

impl OnConflict {
    fn clause(self) -> &'static str {
        match self {
            Self::Seldom(clause) | Self::Often(clause) => clause,
        }
    }
}

/// The values of one column, in row order.
pub(super) enum Column {
    Bigint(Vec<i64>),
    OptionalBigint(Vec<Option<i64>>),
    Integer(Vec<i32>),
    Double(Vec<f64>),
    Text(Vec<String>),
    OptionalText(Vec<Option<String>>),
    Bytes(Vec<Vec<u8>>),
    Time(Vec<DateTime<Utc>>),
    Date(Vec<NaiveDate>),
    Json(Vec<Value>),
    TextArray(Vec<Vec<String>>),
    BigintArray(Vec<Vec<i64>>),
    IntegerArray(Vec<Vec<i32>>),
    DoubleArray(Vec<Vec<f64>>),
}

/// Rows for one table.
pub(super) struct Insert {
    pub(super) table: &'static str,
    pub(super) columns: Vec<(&'static str, Column)>,
    pub(super) on_conflict: OnConflict,
}

impl Insert {
    /// Writes the rows within the transaction of `connection`, by the path that their number asks for.
    pub(super) async fn run(self, connection: &mut PgConnection) -> Result<(), StoreError> {
        self.run_from(COPY_ROWS_MIN, connection).await
    }

    /// The same, with the number of rows from which they are copied.
    pub(super) async fn run_from(self, copy_rows_min: usize, connection: &mut PgConnection) -> Result<(), StoreError> {
        let rows = self.rows();
        if rows == 0 {
            return Ok(());
        }
        let copy = rows >= copy_rows_min;
        let result = if copy { self.copy(connection).await } else { self.unnest(connection).await };
        result.map_err(StoreError::doing("write rows"))
    }

    fn rows(&self) -> usize {
        self.columns.first().map_or(0, |(_, column)| column.len())
    }

    fn names(&self) -> String {
        self.columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }

    /// `INSERT … SELECT … FROM UNNEST(…)`: one statement, one parameter a column.
    async fn unnest(self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let (names, on_conflict, table) = (self.names(), self.on_conflict.clause(), self.table);
        let casts: Vec<String> =
            (self.columns.iter()).map(|(name, column)| format!("{name}{}", column.cast())).collect();
        let parameters: Vec<String> = (self.columns.iter().enumerate())
            .map(|(i, (_, column))| format!("${}::{}[]", i + 1, column.sent_as()))
            .collect();
        let sql = format!(
            "INSERT INTO {table} ({names}) SELECT {} FROM UNNEST({}) AS u ({names}) ON CONFLICT {on_conflict}",
            casts.join(", "),
            parameters.join(", "),
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for (_, column) in self.columns {
            query = column.bind(query);
        }
        query.execute(connection).await.map(drop)
    }

    async fn copy(self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let (table, names) = (self.table, self.names());
        if matches!(self.on_conflict, OnConflict::Seldom(_)) {
            let mut savepoint = connection.begin().await?;
            match self.copy_into(table, &names, &mut savepoint).await {
                Ok(()) => return savepoint.commit().await,
                Err(sqlx::Error::Database(error)) if error.is_unique_violation() => savepoint.rollback().await?,
                Err(error) => return Err(error),
            }
        }
        let on_conflict = self.on_conflict.clause();
        let staging = format!("staging_{table}");
        let make = format!("CREATE TEMP TABLE {staging} ON COMMIT DROP AS SELECT {names} FROM {table} WITH NO DATA");
        sqlx::raw_sql(AssertSqlSafe(make)).execute(&mut *connection).await?;
        self.copy_into(&staging, &names, connection).await?;
        let merge = format!(
            "INSERT INTO {table} ({names}) SELECT {names} FROM {staging} ON CONFLICT {on_conflict}; DROP TABLE {staging}"
        );
        sqlx::raw_sql(AssertSqlSafe(merge)).execute(&mut *connection).await.map(drop)
    }

    async fn copy_into(&self, table: &str, names: &str, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let mut copy = connection.copy_in_raw(&format!("COPY {table} ({names}) FROM STDIN (FORMAT binary)")).await?;
        let mut buffer = Vec::with_capacity(COPY_BUFFER_BYTES + 4096);
        buffer.extend_from_slice(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0");
        let columns = i16::try_from(self.columns.len()).expect("invariant: a table has few columns");
        for row in 0..self.rows() {
            buffer.extend_from_slice(&columns.to_be_bytes());
            for (_, column) in &self.columns {
                column.encode(row, &mut buffer);
            }
            if buffer.len() >= COPY_BUFFER_BYTES {
                copy.send(&buffer[..]).await?;
                buffer.clear();
            }
        }
        buffer.extend_from_slice(&(-1_i16).to_be_bytes());
        copy.send(&buffer[..]).await?;
        copy.finish().await.map(drop)
    }
}

impl Column {
    fn len(&self) -> usize {
        match self {
            Self::Bigint(v) => v.len(),
            Self::OptionalBigint(v) => v.len(),
            Self::Integer(v) => v.len(),
            Self::Double(v) => v.len(),
            Self::Text(v) => v.len(),
            Self::OptionalText(v) => v.len(),
            Self::Bytes(v) => v.len(),
            Self::Time(v) => v.len(),
            Self::Date(v) => v.len(),
            Self::Json(v) => v.len(),
            Self::TextArray(v) => v.len(),
            Self::BigintArray(v) => v.len(),
            Self::IntegerArray(v) => v.len(),
            Self::DoubleArray(v) => v.len(),
        }
    }

    /// The element type of the parameter array. UNNEST flattens arrays of arrays, so arrays travel as their text.
    fn sent_as(&self) -> &'static str {
        match self {
            Self::Bigint(_) | Self::OptionalBigint(_) => "bigint",
            Self::Integer(_) => "integer",
            Self::Double(_) => "double precision",
            Self::Bytes(_) => "bytea",
            Self::Time(_) => "timestamptz",
            Self::Date(_) => "date",
            _ => "text",
        }
    }

    fn cast(&self) -> &'static str {
        match self {
            Self::Json(_) => "::jsonb",
            Self::TextArray(_) => "::text[]",
            Self::BigintArray(_) => "::bigint[]",
            Self::IntegerArray(_) => "::integer[]",
            Self::DoubleArray(_) => "::double precision[]",
            _ => "",
        }
    }

    fn bind<'q>(self, query: Query<'q, Postgres, PgArguments>) -> Query<'q, Postgres, PgArguments> {
        match self {
            Self::Bigint(v) => query.bind(v),
            Self::OptionalBigint(v) => query.bind(v),
            Self::Integer(v) => query.bind(v),
            Self::Double(v) => query.bind(v),
            Self::Text(v) => query.bind(v.into_iter().map(clean).collect::<Vec<_>>()),
            Self::OptionalText(v) => query.bind(v.into_iter().map(|t| t.map(clean)).collect::<Vec<_>>()),
            Self::Bytes(v) => query.bind(v),
            Self::Time(v) => query.bind(v),
            Self::Date(v) => query.bind(v),
            Self::Json(v) => query.bind(v.into_iter().map(|j| values::json(j).to_string()).collect::<Vec<_>>()),
            Self::TextArray(v) => query.bind(v.iter().map(|t| literal(t, |t| quoted(t))).collect::<Vec<_>>()),
            Self::BigintArray(v) => query.bind(v.iter().map(|n| literal(n, i64::to_string)).collect::<Vec<_>>()),
            Self::IntegerArray(v) => query.bind(v.iter().map(|n| literal(n, i32::to_string)).collect::<Vec<_>>()),
            Self::DoubleArray(v) => query.bind(v.iter().map(|n| literal(n, f64::to_string)).collect::<Vec<_>>()),
        }
    }

    /// Appends the field of one row in COPY's binary format.
    fn encode(&self, row: usize, out: &mut Vec<u8>) {
        match self {
            Self::Bigint(v) => field(out, &v[row].to_be_bytes()),
            Self::OptionalBigint(v) => match v[row] {
                Some(number) => field(out, &number.to_be_bytes()),
                None => null(out),
            },
            Self::Integer(v) => field(out, &v[row].to_be_bytes()),
            Self::Double(v) => field(out, &v[row].to_be_bytes()),
            Self::Text(v) => field(out, values::text(&v[row]).as_bytes()),
            Self::OptionalText(v) => match &v[row] {
                Some(text) => field(out, values::text(text).as_bytes()),
                None => null(out),
            },
            Self::Bytes(v) => field(out, &v[row]),
            Self::Time(v) => field(out, &postgres_micros(v[row]).to_be_bytes()),
            Self::Date(v) => field(out, &postgres_days(v[row]).to_be_bytes()),
            Self::Json(v) => {
                let mut bytes = vec![1]; // the version of jsonb's binary form
                bytes.extend_from_slice(values::json(v[row].clone()).to_string().as_bytes());
                field(out, &bytes);
            }
            Self::TextArray(v) => array(out, 25, &v[row], |t, out| field(out, values::text(t).as_bytes())),
            Self::BigintArray(v) => array(out, 20, &v[row], |n, out| field(out, &n.to_be_bytes())),
            Self::IntegerArray(v) => array(out, 23, &v[row], |n, out| field(out, &n.to_be_bytes())),
            Self::DoubleArray(v) => array(out, 701, &v[row], |n, out| field(out, &n.to_be_bytes())),
        }
    }
}

fn clean(text: String) -> String {
    if text.contains('\0') { values::text(&text).into_owned() } else { text }
}

fn literal<T>(items: &[T], print: impl Fn(&T) -> String) -> String {
    format!("{{{}}}", items.iter().map(print).collect::<Vec<_>>().join(","))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", values::text(text).replace('\\', "\\\\").replace('"', "\\\""))
}

fn field(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = i32::try_from(bytes.len()).expect("invariant: no field is over 2 GiB");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

fn null(out: &mut Vec<u8>) {
    out.extend_from_slice(&(-1_i32).to_be_bytes());
}

/// A one-dimensional array: dimensions, has-null flag, element type, length, lower bound, elements.
fn array<T>(out: &mut Vec<u8>, element_oid: i32, items: &[T], encode: impl Fn(&T, &mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    let dimensions = i32::from(!items.is_empty());
    for number in [dimensions, 0, element_oid] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    if !items.is_empty() {
        let length = i32::try_from(items.len()).expect("invariant: arrays are short");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&1_i32.to_be_bytes());
        items.iter().for_each(|item| encode(item, out));
    }
    let length = i32::try_from(out.len() - start - 4).expect("invariant: no field is over 2 GiB");
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// COPY's binary times count from 2000-01-01.
const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

fn postgres_micros(at: DateTime<Utc>) -> i64 {
    at.timestamp_micros() - POSTGRES_EPOCH_MICROS
}

fn postgres_days(day: NaiveDate) -> i32 {
    const DAYS_TO_2000: i32 = 730_120; // chrono counts from 0001-01-01, day 1
    chrono::Datelike::num_days_from_ce(&day) - DAYS_TO_2000
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn times_count_from_2000() {
        assert_eq!(postgres_micros(DateTime::from_timestamp(946_684_801, 0).unwrap()), 1_000_000);
        assert_eq!(postgres_days(NaiveDate::from_ymd_opt(2000, 1, 1).unwrap()), 0);
        assert_eq!(postgres_days(NaiveDate::from_ymd_opt(2026, 3, 1).unwrap()), 9_556);
    }

    #[test]
    fn array_literals_quote_what_has_a_meaning() {
        assert_eq!(literal(&["a\"b\\".to_owned(), String::new()], |t| quoted(t)), r#"{"a\"b\\",""}"#);
        assert_eq!(literal(&[0.1, f64::INFINITY, 1e300], f64::to_string).get(..9), Some("{0.1,inf,"));
    }
}
