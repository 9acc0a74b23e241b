//! Go's `text/template` language, with exactly Go's printing and error texts.
//!
//! In: a text, function tables, data. Out: text. Sync and pure: a function that needs the answer of a query stops the run
//! with [`Halt::QueryNeeded`], and the caller runs again with the answer. The parser is the crate `gotmpl`; its executor
//! is not used, because it prints missing labels and floats differently and knows no positions. A leaf: texts of alerting
//! rules and of notifications run on it. With [`Template::escaping_html`] what values print is escaped by its place in the
//! document, as Go's `html/template` does.

mod alertmanager;
mod builtins;
mod exec;
mod functions;
mod html;
mod json;
mod methods;
mod numbers;
mod printf;
mod time;
mod tree;
mod value;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use alertmanager::ALERTMANAGER;
pub use exec::Halt;
pub use functions::{PROMETHEUS, SAMPLE, graph_path};
pub use json::go_escaped;
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
    library: Arc<Library>,
    is_html: bool,
}

/// Files of `{{ define }}`s that templates may call. Of two bodies of one name the later one counts.
#[derive(Debug, Default)]
pub struct Library(Vec<Arc<Source>>);

impl Library {
    /// Adds a file; `name` is what errors and `{{ template "name" }}` call it.
    ///
    /// # Errors
    /// Go's parse error.
    pub fn add(&mut self, name: &str, text: String, functions: &'static [Function]) -> Result<(), String> {
        self.0.push(Arc::new(Template::parse(name, text, functions)?.source));
        Ok(())
    }
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
        let source = Source::parse(name, text, &known)?;
        Ok(Self { source, tables, library: Arc::default(), is_html: false })
    }

    /// The same, calling what `library` defines.
    #[must_use]
    pub fn within(self, library: &Arc<Library>) -> Self {
        Self { library: Arc::clone(library), ..self }
    }

    /// The same, with what values print escaped for their place in an HTML document.
    #[must_use]
    pub fn escaping_html(self) -> Self {
        Self { is_html: true, ..self }
    }

    /// Runs on `data`.
    ///
    /// # Errors
    /// When it fails, passes a bound, or needs the answer of a query that `context` does not hold.
    pub fn run(&self, context: &Context<'_>, data: &Value) -> Result<String, Halt> {
        let Self { source, tables, library, is_html } = self;
        let program = exec::Program { source, library: &library.0, functions: tables, is_html: *is_html };
        exec::Executor::run(program, context, data)
    }
}

#[cfg(test)]
mod tests;
