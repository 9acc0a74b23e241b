//! Asks the query engine what a rule or a template asks.
//!
//! In: expressions and times. Out: instant vectors. A scalar counts as a vector of one sample without labels.

use crate::model::{Labels, Timestamp};
use crate::promql;
use crate::series;

/// Why a rule has no result.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The engine's error text, or what is wrong with the result.
    pub text: String,
    /// Whether a store could not be asked at all, so that nothing is known: neither that it holds nor that it does not.
    pub store_away: bool,
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self { text, store_away: false }
    }
}

impl From<promql::EvalError> for Failure {
    fn from(error: promql::EvalError) -> Self {
        Self { text: error.to_string(), store_away: error.is_store_away() }
    }
}

/// The engine and the series it works on.
#[derive(Clone, Copy)]
pub struct Querier<'a> {
    /// The engine.
    pub engine: &'a promql::Engine,
    /// Where samples come from.
    pub store: &'a dyn series::Queryable,
    /// Limits of one query.
    pub options: &'a promql::QueryOptions,
}

impl Querier<'_> {
    /// Evaluates an expression to an instant vector.
    ///
    /// # Errors
    /// The engine's error text, or that the result is neither vector nor scalar.
    pub async fn rule(&self, expr: &promql::Expr, at: Timestamp) -> Result<Vec<promql::InstantSample>, String> {
        vector(self.answer(expr, at).await.map_err(|failure| failure.text)?.value)
    }

    /// Evaluates a query that a template writes as text.
    ///
    /// # Errors
    /// Its parse error as well.
    pub async fn text(&self, query: &str, at: Timestamp) -> Result<Vec<promql::InstantSample>, String> {
        let expr = promql::parse(query).map_err(|error| error.to_string())?;
        self.rule(&expr, at).await
    }

    /// Evaluates an expression, with what it cost and what the asker should know.
    ///
    /// # Errors
    /// The engine's error.
    pub async fn answer(&self, expr: &promql::Expr, at: Timestamp) -> Result<promql::Answer, Failure> {
        Ok(self.engine.instant(self.store, expr, at, self.options).await?)
    }
}

/// The result of a rule's expression.
///
/// # Errors
/// When it is neither vector nor scalar.
pub fn vector(value: promql::Value) -> Result<Vec<promql::InstantSample>, String> {
    match value {
        promql::Value::Vector(samples) => Ok(samples),
        promql::Value::Scalar { at, value } => Ok(vec![promql::InstantSample { labels: Labels::empty(), at, value }]),
        promql::Value::Matrix(_) | promql::Value::String { .. } => {
            Err("rule result is not a vector or scalar".to_owned())
        }
    }
}
