//! Reads the fields of one mapping strictly: a wrong type or an unknown key is a problem with its place.
//!
//! In: a node. Out: values, problems. Invariant: reading goes on after a problem, so that all are reported together.

use std::time::Duration;

use super::{FileProblem, is_null, problem};
use crate::units::PromDuration;
use crate::yaml::{Node, Value};

/// Names, texts, and where they stand.
pub type Scalars<'n> = Vec<(String, String, &'n Node)>;

/// The fields of one mapping.
pub struct Fields<'n, 'p> {
    node: &'n Node,
    /// The Go type, which Prometheus' messages name.
    of: &'static str,
    problems: &'p mut Vec<FileProblem>,
    file: &'p str,
}

impl<'n, 'p> Fields<'n, 'p> {
    /// The fields of `node`, which must be a mapping (a null counts as an empty one).
    pub fn of(node: &'n Node, of: &'static str, problems: &'p mut Vec<FileProblem>, file: &'p str) -> Self {
        let mut fields = Self { node, of, problems, file };
        if !is_null(node) && !matches!(node.value, Value::Mapping(_)) {
            fields.wrong(node, &format!("expected a mapping ({of})"));
        }
        fields
    }

    fn wrong(&mut self, node: &Node, message: &str) {
        self.problems.push(problem(self.file, node, message));
    }

    fn get(&self, key: &str) -> Option<&'n Node> {
        self.node.get(key).filter(|node| !is_null(node))
    }

    /// A text; a number or bool is taken as written.
    pub fn text(&mut self, key: &str) -> Option<String> {
        let node = self.get(key)?;
        match node.as_str() {
            Some(text) => Some(text.to_owned()),
            None => {
                self.wrong(node, &format!("{key}: expected a text"));
                None
            }
        }
    }

    /// A duration. `lenient`: an empty text is as good as none.
    pub fn duration(&mut self, key: &str, lenient: bool) -> Option<Duration> {
        let node = self.get(key)?;
        let text = self.text(key)?;
        if text.is_empty() {
            if !lenient {
                self.wrong(node, &format!("{key}: empty duration string"));
            }
            return None;
        }
        match text.parse::<PromDuration>() {
            Ok(duration) if duration.get().as_nanos() > i64::MAX as u128 => {
                self.wrong(node, &format!("{key}: duration out of range"));
                None
            }
            Ok(duration) => Some(duration.get()),
            Err(error) => {
                self.wrong(node, &format!("{key}: {error}"));
                None
            }
        }
    }

    /// A count; a negative one is none, as Prometheus takes it.
    pub fn count(&mut self, key: &str) -> usize {
        let Some(node) = self.get(key) else { return 0 };
        let count = if let Value::Number(text) = &node.value { whole(text) } else { None };
        match (count, node.as_str()) {
            (Some(count), _) => usize::try_from(count).unwrap_or(0),
            (None, got) => {
                self.wrong(
                    node,
                    &format!("{key}: expected a whole number, got {:?}", got.unwrap_or("a list or mapping")),
                );
                0
            }
        }
    }

    /// A list.
    pub fn list(&mut self, key: &str) -> &'n [Node] {
        match self.get(key) {
            None => &[],
            Some(node) => {
                if !matches!(node.value, Value::Sequence(_)) {
                    self.wrong(node, &format!("{key}: expected a list"));
                }
                node.items()
            }
        }
    }

    /// A mapping of texts.
    pub fn scalars(&mut self, key: &str) -> Scalars<'n> {
        let Some(node) = self.get(key) else { return Vec::new() };
        if !matches!(node.value, Value::Mapping(_)) {
            self.wrong(node, &format!("{key}: expected a mapping of texts"));
        }
        let mut scalars = Vec::new();
        for (name, value) in node.entries() {
            let text = if is_null(value) { Some("") } else { value.as_str() };
            match (name.as_str(), text) {
                (Some(name), Some(text)) => scalars.push((name.to_owned(), text.to_owned(), value)),
                _ => self.wrong(value, &format!("{key}: expected a text")),
            }
        }
        scalars
    }

    /// Reports every key that is not in `known`, unless `lenient`.
    pub fn finish(mut self, known: &[&str], lenient: bool) {
        if lenient {
            return;
        }
        for (key, _) in self.node.entries() {
            let name = key.as_str().unwrap_or("(not a text)");
            if !known.contains(&name) {
                let near = known.iter().map(|known| (strsim::osa_distance(known, name), known)).min();
                let mend = match near {
                    Some((distance, near)) if distance <= 1 + name.len() / 4 => format!("; did you mean {near:?}?"),
                    _ => String::new(),
                };
                let message = format!("field {name} not found in type {}{mend}", self.of);
                self.wrong(key, &message);
            }
        }
    }
}

/// A number as Go's YAML puts it into an `int`: of a fraction the whole part.
fn whole(text: &str) -> Option<i64> {
    let plain = text.replace('_', "");
    let (sign, digits) = plain.strip_prefix('-').map_or((1, plain.trim_start_matches('+')), |digits| (-1, digits));
    let of_base = |prefix: &str, base: u32| i64::from_str_radix(digits.strip_prefix(prefix)?, base).ok();
    let based = of_base("0x", 16).or_else(|| of_base("0o", 8)).or_else(|| of_base("0b", 2));
    let fraction = || digits.parse::<f64>().ok().filter(|value| *value < i64::MAX as f64).map(|value| value as i64);
    based.or_else(|| digits.parse().ok()).or_else(fraction).map(|value| sign * value)
}
