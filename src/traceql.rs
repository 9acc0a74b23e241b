//! TraceQL: Tempo's language to find traces and to make series of their spans.
//!
//! In: the text of a query, then the spans of one trace after the other. Out: the sets of spans that match, with what the
//! query reads of them, or series; and what every match needs of one span ([`Needs`]), by which an index finds candidates.
//! The language is that of <https://grafana.com/docs/tempo/latest/traceql/>; what is not understood is an error that names
//! the construct and its place. Pure. Invariant: length, depth and count of operators are bounded, so no query recurses
//! without end. Knows no store and no HTTP.

mod ast;
mod evaluate;
mod fields;
mod lexer;
mod metrics;
mod needs;
mod parser;
mod structure;
mod value;

#[cfg(test)]
mod tests;

pub use ast::{Attribute, Intrinsic, Query, Scope};
pub use evaluate::Spanset;
pub use fields::Trace;
pub use metrics::{MetricSeries, Series, Steps};
pub use needs::Needs;
pub use parser::parse;
pub use value::Value;

/// Longest query, in bytes.
pub const QUERY_LIMIT_BYTES: usize = 64 * 1024;

/// Why a query is not understood.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("parse error at line {line}, col {column}: {message}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// Column in letters, from 1.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
}

impl ParseError {
    fn at(text: &str, at: usize, message: impl Into<String>) -> Self {
        let before = text.get(..at).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: message.into(),
        }
    }
}
