//! YAML as a tree that knows its lines, decoded with every mistake reported at once.
//!
//! In: text. Out: [`Node`]s, or a decoded value with [`Problem`]s. Anchors, aliases and merge keys are resolved within
//! the budgets of the YAML crate, so that no document can grow without bound. A leaf: imports nothing of the crate.

mod decode;

use std::cell::RefCell;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

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
    /// `true` or `false`.
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
        self.entries().iter().find(|(k, _)| k.as_str() == Some(key)).map(|(_, v)| v)
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

    /// The keys and values of a mapping; none for anything else.
    pub fn entries(&self) -> &[(Node, Node)] {
        match &self.value {
            Value::Mapping(entries) => entries,
            _ => &[],
        }
    }

    /// Adds `by` to the lines of this node and all below it: for documents that were parted from a text.
    pub fn shift_lines(&mut self, by: usize) {
        self.line += by;
        match &mut self.value {
            Value::Sequence(items) => items.iter_mut().for_each(|item| item.shift_lines(by)),
            Value::Mapping(entries) => entries.iter_mut().for_each(|(key, value)| {
                key.shift_lines(by);
                value.shift_lines(by);
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// Decodes into `T`. Every mistake is reported; `T` is made of what remains when the mistakes are left out, if it
    /// can be. A null where a list, mapping or text belongs counts as an empty one, as in Go's YAML.
    pub fn decode<T: DeserializeOwned>(&self) -> (Option<T>, Vec<Problem>) {
        decode::decode(self)
    }
}

/// All documents of a text, `---` between them; empty ones are left out.
///
/// # Errors
/// When the text is not YAML, a key is given twice, or a budget (aliases, depth) is exceeded.
pub fn documents(text: &str) -> Result<Vec<Node>, Problem> {
    SOURCE.with(|source| *source.borrow_mut() = text.to_owned());
    let read: Result<Vec<Node>, _> = serde_saphyr::from_multiple_with_options(text, options());
    SOURCE.with(|source| source.borrow_mut().clear());
    match read {
        Ok(mut nodes) => {
            nodes.retain(|node| node.value != Value::Null);
            Ok(nodes)
        }
        Err(error) => Err(problem_of(&error)),
    }
}

/// Decodes the only document of a text, reporting every mistake. An empty text is an empty mapping.
pub fn decode<T: DeserializeOwned>(text: &str) -> (Option<T>, Vec<Problem>) {
    decode_after(text, |_| {})
}

/// As [`decode()`], after `change` has changed the tree.
pub fn decode_after<T: DeserializeOwned>(text: &str, change: impl FnOnce(&mut Node)) -> (Option<T>, Vec<Problem>) {
    let mut nodes = match documents(text) {
        Ok(nodes) => nodes,
        Err(problem) => return (None, vec![problem]),
    };
    match nodes.as_mut_slice() {
        [] => Node { line: 1, column: 1, value: Value::Null }.decode(),
        [only] => {
            change(only);
            only.decode()
        }
        [_, second, ..] => {
            let message = "a second document starts here, but this file holds only one".to_owned();
            (None, vec![Problem { line: second.line, column: second.column, path: String::new(), message }])
        }
    }
}

fn options() -> serde_saphyr::Options {
    let mut options = serde_saphyr::Options::default();
    options.with_snippet = false;
    // Infinities and NaN are texts: a setting that is a number takes none of them, a label takes all.
    options.non_finite_float_policy = serde_saphyr::NonFiniteFloatPolicy::AsString;
    options.strict_booleans = true; // `y`, `on` and the like are texts, unless a bool is asked for
    options
}

fn problem_of(error: &serde_saphyr::Error) -> Problem {
    let (line, column) = error.location().map_or((1, 1), |at| (at.line() as usize, at.column() as usize));
    let message = plain(error.to_string().lines().next().unwrap_or_default());
    Problem { line: line.max(1), column: column.max(1), path: String::new(), message }
}

/// A message of the parser without what is said beside it: the place, and advice to programmers.
fn plain(message: &str) -> String {
    let message = message.split(", set DuplicateKeyPolicy").next().unwrap_or(message);
    let is_place = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    match message.split_once(" at line ") {
        Some((reason, rest)) if is_place(rest) => reason.to_owned(),
        _ => message.to_owned(),
    }
}

thread_local! {
    /// The text being read, so that a number keeps the form it is written in (`1e3`, `0.10`, `007`).
    static SOURCE: RefCell<String> = const { RefCell::new(String::new()) };
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Spanned { mut value, referenced, defined } = Spanned::<Value>::deserialize(deserializer)?;
        if let Value::Number(text) = &mut value {
            let span = defined.span();
            if let (Some(from), Some(length)) = (span.byte_offset(), span.byte_len()) {
                let range = from as usize..(from + length) as usize;
                SOURCE.with(|source| {
                    if let Some(written) = source.borrow().get(range) {
                        *text = written.trim().to_owned();
                    }
                });
            }
        }
        Ok(Self { line: referenced.line() as usize, column: referenced.column() as usize, value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut sequence = Vec::new();
        while let Some(item) = items.next_element()? {
            sequence.push(item);
        }
        Ok(Value::Sequence(sequence))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut mapping = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            mapping.push(entry);
        }
        Ok(Value::Mapping(mapping))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Group {
        name: String,
        #[serde(default)]
        interval: Option<crate::units::PromDuration>,
        #[serde(default)]
        rules: Vec<Rule>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Rule {
        expr: String,
        #[serde(default)]
        limit: u32,
    }

    #[track_caller]
    fn problems_of(text: &str) -> Vec<String> {
        decode::<Group>(text).1.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn keeps_scalars_as_written_and_knows_their_lines() {
        let nodes = documents("a: 1e3\nb: \"5\"\nc: [x, 0.10]\n---\n---\nd: ~\n").expect("valid");
        assert_eq!(nodes.len(), 2);
        assert_eq!(nodes[0].get("a").map(|n| &n.value), Some(&Value::Number("1e3".into())));
        assert_eq!(nodes[0].get("b").map(|n| &n.value), Some(&Value::String("5".into())));
        let item = &nodes[0].get("c").expect("c").items()[1];
        assert_eq!((item.as_str(), item.line, item.column), (Some("0.10"), 3, 8));
        assert_eq!(nodes[1].get("d").map(|n| &n.value), Some(&Value::Null));
    }

    #[test]
    fn resolves_anchors_and_merge_keys() {
        let nodes = documents("base: &b {x: 1, y: 2}\nuse:\n  <<: *b\n  y: 3\n").expect("valid");
        let used = nodes[0].get("use").expect("use");
        assert_eq!(
            (used.get("x").and_then(Node::as_str), used.get("y").and_then(Node::as_str)),
            (Some("1"), Some("3"))
        );
    }

    #[test]
    fn numbers_serve_as_text_and_null_as_empty() {
        let (group, problems) = decode::<Group>("name: 7\nrules:\n");
        assert_eq!(problems, []);
        assert_eq!(group, Some(Group { name: "7".into(), interval: None, rules: vec![] }));
    }

    #[test]
    fn reports_every_mistake_with_place_and_mend() {
        let text =
            "name: g\nintervall: 5s\ninterval: soon\nrules:\n- expr: up\n  limit: many\n- exp: down\n- expr: [1]\n";
        assert_eq!(
            problems_of(text),
            [
                r#"2:1: unknown key "intervall", did you mean "interval"?"#,
                r#"3:11: interval: not a valid duration string: "soon" (write it like `1h30m`, `15s` or `500ms`)"#,
                r#"6:10: rules[0].limit: invalid type: string "many", expected u32"#,
                r#"7:3: rules[1]: unknown key "exp", did you mean "expr"?"#,
                r#"7:3: rules[1]: the key "expr" is missing"#,
                r#"8:9: rules[2].expr: invalid type: sequence, expected a string"#,
            ]
        );
    }

    #[test]
    fn what_remains_is_decoded() {
        let (group, problems) = decode::<Group>("name: g\nrules: [{expr: up}, {expr: up, bad: 1}]\n");
        assert_eq!(problems.len(), 1);
        assert_eq!(group.map(|g| g.rules.len()), Some(2));
    }

    #[test]
    fn refuses_what_is_not_yaml_with_its_line() {
        let check = |text: &str, line: usize| {
            let problem = documents(text).expect_err(text);
            assert_eq!(problem.line, line, "{problem}");
        };
        check("a: 1\nb: [1, 2\n", 2);
        let said = documents("a: 1\na: 2\n").expect_err("twice").to_string();
        assert_eq!(said, "2:1: duplicate mapping key: a");
        let said = documents("b: [1, 2\n").expect_err("open").to_string();
        assert!(said.contains("bracket") && !said.contains("line"), "{said}");
        check("a: 1\na: 2\n", 2);
        assert!(documents(&"[".repeat(100_000)).is_err(), "too deep");
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                    d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n\
                    g: [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e,*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\n";
        assert!(documents(bomb).is_err(), "alias bomb");
        assert_eq!(decode::<Group>("name: a\n---\nname: b\n").1.len(), 1);
    }
}
