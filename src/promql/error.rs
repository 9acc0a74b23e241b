//! What can go wrong: a query that does not parse, an evaluation that does not end well.

use crate::series::QueryError;

/// Why a query does not parse. Printed as Prometheus prints it: `1:5: parse error: unclosed left parenthesis`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: parse error: {message}", self.place())]
pub struct ParseError {
    /// Line, from 1; 0 when the query is empty.
    pub line: usize,
    /// Byte in the line, from 1.
    pub column: usize,
    /// Byte in the query, from 0.
    pub offset: usize,
    /// What is wrong.
    pub message: String,
}

impl ParseError {
    pub(super) fn new(query: &str, offset: usize, message: impl Into<String>) -> Self {
        let (line, column) = if query.is_empty() { (0, 0) } else { line_and_column(query, offset) };
        Self { line, column, offset, message: message.into() }
    }

    fn place(&self) -> String {
        match self.line {
            0 => "unknown position".to_owned(),
            line => format!("{line}:{}", self.column),
        }
    }
}

/// Line and byte column, both from 1.
pub(super) fn line_and_column(query: &str, offset: usize) -> (usize, usize) {
    let before = &query.as_bytes()[..offset.min(query.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
    (line, column)
}

/// Why an evaluation has no answer.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// The expression uses what this server has not enabled.
    #[error("{0}")]
    Parse(#[from] ParseError),
    /// The request makes no sense (a range query of a range vector, a step of zero).
    #[error("{0}")]
    BadData(String),
    /// More samples than [`super::Config::max_samples`].
    #[error("query processing would load too many samples into memory in {0}")]
    TooManySamples(&'static str),
    /// Longer than the timeout.
    #[error("query timed out in {0}")]
    Timeout(&'static str),
    /// The asker went away.
    #[error("query was canceled in {0}")]
    Canceled(&'static str),
    /// The data and the expression do not fit (duplicate series on one side of a match …).
    #[error("{0}")]
    Execution(String),
    /// A store that evaluates by itself refuses the query.
    #[error("{reason}")]
    Refused {
        /// Prometheus' `errorType`.
        kind: &'static str,
        /// What it says.
        reason: String,
    },
    /// The store could not answer.
    #[error("expanding series: {0}")]
    Store(#[source] QueryError),
}

impl EvalError {
    /// Prometheus' `errorType` of the HTTP API.
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::Parse(_) | Self::BadData(_) => "bad_data",
            Self::Timeout(_) => "timeout",
            Self::Canceled(_) => "canceled",
            Self::TooManySamples(_) | Self::Execution(_) | Self::Store(QueryError::TooManySamples) => "execution",
            Self::Store(QueryError::Unavailable { .. }) => "unavailable",
            Self::Store(QueryError::Damaged { .. }) => "internal",
            Self::Refused { kind, .. } | Self::Store(QueryError::Refused { kind, .. }) => kind,
        }
    }
}

impl EvalError {
    /// Whether the store could not be asked, or an engine elsewhere ran out of time: nothing is known of the data.
    pub fn is_store_away(&self) -> bool {
        matches!(self, Self::Store(QueryError::Unavailable { .. }) | Self::Refused { kind: "timeout" | "canceled", .. })
    }
}

impl From<QueryError> for EvalError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::TooManySamples => Self::TooManySamples("query execution"),
            QueryError::Refused { kind, reason } => Self::Refused { kind, reason },
            other => Self::Store(other),
        }
    }
}
