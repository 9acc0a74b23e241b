//! Go's `text/template` language, with exactly Go's printing and error texts.
//!
//! In: a text, function tables, data. Out: text. Sync and pure: a function that needs the answer of a query stops the run
//! with [`Halt::QueryNeeded`], and the caller runs again with the answer. The parser is the crate `gotmpl`; its executor
//! is not used, because it prints missing labels and floats differently and knows no positions. Imports nothing of
//! `rules`, so it can serve notification templates too.

mod builtins;
mod exec;
mod functions;
mod layout;
mod numbers;
mod printf;
mod tree;
mod value;

use std::collections::BTreeMap;

pub use exec::Halt;
pub use functions::{PROMETHEUS, SAMPLE, graph_path};
pub use numbers::{humanize_duration, shortest};
pub use value::{Struct, Value, go_duration};

use self::tree::Source;
use crate::model::Timestamp;

/// What functions may know besides their arguments.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The time of the evaluation.
    pub at: Timestamp,
    /// Our own address as people reach it, without a slash at the end.
    pub external_url: &'a str,
    /// Answers of queries by query text: a list of samples, or the error text.
    pub answers: &'a BTreeMap<String, Result<Value, String>>,
}

/// One function of the language.
#[derive(Clone, Copy)]
pub struct Function {
    /// The name in templates.
    pub name: &'static str,
    /// Fewest and most arguments.
    pub arity: (usize, usize),
    /// What it does. The number of arguments has been checked.
    pub call: fn(&Context<'_>, &[Value]) -> Result<Value, FunctionError>,
}

impl Function {
    /// Go's complaint about a wrong number of arguments.
    fn wrong_count(&self, got: usize) -> Option<String> {
        let (min, max) = self.arity;
        let want = match () {
            () if got < min && max == usize::MAX => format!("at least {min}"),
            () if got < min => min.to_string(),
            () if got > max => max.to_string(),
            () => return None,
        };
        Some(format!("wrong number of args for {}: want {want} got {got}", self.name))
    }
}

/// Why a function did not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FunctionError {
    /// It failed: `error calling f: …`.
    Failed(String),
    /// It cannot take such an argument.
    WrongArgument {
        /// Which argument, from 0.
        index: usize,
        /// The Go type that it takes.
        expected: &'static str,
        /// The Go type that it got.
        got: &'static str,
    },
    /// It needs the answer of this query.
    QueryNeeded(String),
}

impl FunctionError {
    /// A value of another type than the function takes.
    pub fn wrong_type(index: usize, expected: &'static str, got: &Value) -> Self {
        Self::WrongArgument { index, expected, got: got.type_name() }
    }
}

impl From<String> for FunctionError {
    fn from(message: String) -> Self {
        Self::Failed(message)
    }
}

impl From<&str> for FunctionError {
    fn from(message: &str) -> Self {
        Self::Failed(message.to_owned())
    }
}

/// A parsed template.
#[derive(Debug)]
pub struct Template {
    source: Source,
    tables: [&'static [Function]; 2],
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Template {
    /// Parses `text`, which may use Go's own functions and those of `functions`.
    ///
    /// # Errors
    /// Go's parse error, `template: name:1: …`; an unknown function or variable is one too.
    pub fn parse(name: &str, text: String, functions: &'static [Function]) -> Result<Self, String> {
        let tables = [builtins::BUILTINS.as_slice(), functions];
        let known = |name: &str| {
            name == "and" || name == "or" || tables.iter().any(|table| table.iter().any(|f| f.name == name))
        };
        Ok(Self { source: Source::parse(name, text, &known)?, tables })
    }

    /// Runs on `data`.
    ///
    /// # Errors
    /// When it fails, passes a bound, or needs the answer of a query that `context` does not hold.
    pub fn run(&self, context: &Context<'_>, data: &Value) -> Result<String, Halt> {
        exec::Executor::run(&self.source, &self.tables, context, data)
    }
}

#[cfg(test)]
mod tests;
