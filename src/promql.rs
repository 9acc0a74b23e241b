//! Parses, selects for and evaluates PromQL exactly as Prometheus 3.5 does.
//!
//! In: query texts, and stores through [`crate::series::Queryable`]. Out: [`Answer`]s; expressions for rules and lint.
//! `parse` → `survey` (places, types, error texts) + `promql-parser` (shape) → tree; `Engine` → `plan` (what to
//! select) → store → `eval` (pure, over series × steps) → answer. Knows nothing of HTTP, rules or where samples come from.
//! Native histograms do not exist here: no store of meshscope holds them.

mod aggregate;
mod annotate;
pub(crate) mod ast;
mod binary;
mod build;
mod call;
mod engine;
mod error;
mod eval;
mod expr;
mod families;
mod functions;
mod grouping;
mod histogram;
mod info;
mod kahan;
mod lex;
mod plan;
mod print;
mod relabel;
mod survey;
mod table;
pub mod testlang;
mod tree;
mod value;
mod widen;
mod window;

#[cfg(test)]
mod tests;

pub use ast::ValueKind;
pub use engine::{Config, Counters, Engine, QueryOptions, SelectionCache};
pub use error::{EvalError, ParseError};
pub use expr::{At, Expr, Features, QUERY_LIMIT_BYTES, Selector, around_selector, parse, parse_enabled};
pub use functions::function_names;
pub use value::{Answer, InstantSample, Stats, Value, format_value};
