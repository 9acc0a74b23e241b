//! Asks the query engine what a rule or a template asks.
//!
//! In: expressions and times. Out: instant vectors. A scalar counts as a vector of one sample without labels.

use crate::model::{Labels, Timestamp};
use crate::promql;
use crate::series;

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
        vector(self.answer(expr, at).await?.value)
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
    /// The engine's error text.
    pub async fn answer(&self, expr: &promql::Expr, at: Timestamp) -> Result<promql::Answer, String> {
        self.engine.instant(self.store, expr, at, self.options).await.map_err(|error| error.to_string())
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
