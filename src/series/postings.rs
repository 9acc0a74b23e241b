//! Which ids have which value of one label, and what a matcher selects of them.
//!
//! In: (value, id) pairs and matchers. Out: sets of ids. An id without the label counts as having the empty value.
//! Expressions that are plain alternatives or prefixes are looked up; only others are tried on every value.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use roaring::{MultiOps, RoaringBitmap};

use crate::model::{MatchOp, Matcher};

/// The values of one label, in byte order, each with the ids that have it.
#[derive(Default)]
pub(super) struct Postings(BTreeMap<Arc<str>, RoaringBitmap>);

impl Postings {
    /// Notes that `id` has `value`.
    pub(super) fn insert(&mut self, value: &Arc<str>, id: u32) {
        match self.0.get_mut(&**value) {
            Some(ids) => {
                ids.insert(id);
            }
            None => {
                self.0.insert(value.clone(), RoaringBitmap::from_iter([id]));
            }
        }
    }

    /// Forgets that `id` has `value`.
    pub(super) fn remove(&mut self, value: &str, id: u32) {
        if let Some(ids) = self.0.get_mut(value) {
            ids.remove(id);
            if ids.is_empty() {
                self.0.remove(value);
            }
        }
    }

    /// Whether no id has the label.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All values with their ids, in byte order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &RoaringBitmap)> {
        self.0.iter()
    }

    /// Bytes of memory, roughly, without the texts.
    pub(super) fn size_bytes(&self) -> usize {
        self.0.values().map(|ids| 72 + ids.serialized_size()).sum()
    }

    /// The ids of `all` whose value satisfies the matcher.
    pub(super) fn select(&self, matcher: &Matcher, all: &RoaringBitmap) -> Cow<'_, RoaringBitmap> {
        let positive = matches!(matcher.op, MatchOp::Equal | MatchOp::Regex);
        let is_literal = matches!(matcher.op, MatchOp::Equal | MatchOp::NotEqual);
        let shape =
            if is_literal { Shape::OneOf(vec![(*matcher.value).to_owned()]) } else { Shape::of(&matcher.value) };
        // What the expression itself says, whatever the operator makes of it.
        let fits = |value: &str| matcher.matches(value) == positive;
        match (positive, matcher.matches_empty()) {
            (true, false) => self.fitting(&shape, fits),
            (false, true) => Cow::Owned(all - &*self.fitting(&shape, fits)),
            (true, true) if shape == Shape::Anything => Cow::Owned(all.clone()),
            (true, true) => Cow::Owned(all - self.unfitting(fits)),
            (false, false) => Cow::Owned(self.unfitting(fits)),
        }
    }

    fn fitting(&self, shape: &Shape, fits: impl Fn(&str) -> bool) -> Cow<'_, RoaringBitmap> {
        match shape {
            Shape::OneOf(values) if values.len() == 1 => {
                self.0.get(values[0].as_str()).map_or_else(Cow::default, Cow::Borrowed)
            }
            Shape::OneOf(values) => Cow::Owned(values.iter().filter_map(|value| self.0.get(value.as_str())).union()),
            Shape::Anything => Cow::Owned(self.0.values().union()),
            Shape::Prefix(prefix) => Cow::Owned(
                self.0
                    .range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded))
                    .take_while(|(value, _)| value.starts_with(prefix.as_str()))
                    .filter(|(value, _)| fits(value))
                    .map(|(_, ids)| ids)
                    .union(),
            ),
        }
    }

    fn unfitting(&self, fits: impl Fn(&str) -> bool) -> RoaringBitmap {
        self.0.iter().filter(|(value, _)| !fits(value)).map(|(_, ids)| ids).union()
    }
}

/// What can be said of the values that an anchored expression fits, without trying them.
#[derive(Debug, PartialEq, Eq)]
enum Shape {
    /// Exactly these.
    OneOf(Vec<String>),
    /// Every text.
    Anything,
    /// Only texts that start so; each must still be tried.
    Prefix(String),
}

impl Shape {
    fn of(expression: &str) -> Self {
        let inner = expression.strip_prefix('^').unwrap_or(expression);
        if inner == ".*" {
            return Self::Anything;
        }
        let grouped =
            inner.strip_prefix("(?:").or_else(|| inner.strip_prefix('(')).and_then(|rest| rest.strip_suffix(')'));
        if let Some(values) = literal_alternatives(grouped.unwrap_or(inner)) {
            return Self::OneOf(values);
        }
        if inner.contains('|') {
            return Self::Prefix(String::new()); // a prefix of one alternative says nothing of the others
        }
        let (mut prefix, rest) = literal_prefix(inner);
        if rest.starts_with(['*', '?', '{']) {
            prefix.pop(); // the last character may be missing
        }
        Self::Prefix(prefix)
    }
}

/// The alternatives of an expression that has nothing but literals and `|`.
fn literal_alternatives(expression: &str) -> Option<Vec<String>> {
    let (mut values, mut rest) = (Vec::new(), expression);
    loop {
        let (literal, tail) = literal_prefix(rest);
        values.push(literal);
        match tail.strip_prefix('|') {
            Some(tail) => rest = tail,
            None => return tail.is_empty().then_some(values),
        }
    }
}

/// The literal text that the expression starts with, and what follows it.
fn literal_prefix(expression: &str) -> (String, &str) {
    let (mut literal, mut chars) = (String::new(), expression.chars());
    loop {
        let rest = chars.as_str();
        match chars.next() {
            Some('\\') => match chars.next() {
                Some(escaped) if escaped.is_ascii_punctuation() => literal.push(escaped),
                _ => return (literal, rest),
            },
            Some('.' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '^' | '$' | '|') | None => {
                return (literal, rest);
            }
            Some(plain) => literal.push(plain),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn sees_literals_and_prefixes() {
        let one_of = |values: &[&str]| Shape::OneOf(values.iter().map(|v| (*v).to_owned()).collect());
        let prefix = |text: &str| Shape::Prefix(text.to_owned());
        for (expression, shape) in [
            ("a|b", one_of(&["a", "b"])),
            ("(a|b)", one_of(&["a", "b"])),
            ("(?:a|b|)", one_of(&["a", "b", ""])),
            (r"a\.b", one_of(&["a.b"])),
            ("", one_of(&[""])),
            (".*", Shape::Anything),
            ("web-.*", prefix("web-")),
            ("web?.*", prefix("we")),
            ("webx{0,2}", prefix("web")),
            ("web+", prefix("web")),
            ("(a)|(b)", prefix("")),
            ("a|b.*", prefix("")),
            ("(?i)a", prefix("")),
            (r"\Qa.b\E", prefix("")),
            (r"a\d", prefix("a")),
            ("5..", prefix("5")),
        ] {
            assert_eq!(Shape::of(expression), shape, "{expression}");
        }
    }

    #[test]
    fn selects_what_the_matcher_says_of_each_value() {
        let values = ["", "a", "b", "ab", "web-1", "web-2", "we", "a.b", "axb", "A", "503", "x\ny"];
        let mut postings = Postings::default();
        for (id, value) in values.iter().enumerate().filter(|(_, value)| !value.is_empty()) {
            postings.insert(&Arc::from(*value), id as u32);
        }
        let all = RoaringBitmap::from_iter(0..values.len() as u32);
        let patterns = [
            "",
            "a",
            "b|web-1",
            "a|",
            "web-.*",
            "web?.*",
            ".*",
            ".+",
            "5..",
            r"a\.b",
            "(a|b)",
            "(a)|(b)",
            "(?i)a",
            "(?s).*",
            "x.y",
            "zz",
            "[ab]",
            "a|b.*",
            "^a$",
            "^(a|ab)",
            "(a)(b)",
            "(?:a|b)|(?:we)",
        ];
        for pattern in patterns {
            for op in [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex] {
                let matcher = Matcher::new(op, "l", pattern).unwrap();
                let wanted: Vec<u32> =
                    (0..values.len()).filter(|i| matcher.matches(values[*i])).map(|i| i as u32).collect();
                let selected: Vec<u32> = postings.select(&matcher, &all).iter().collect();
                assert_eq!(selected, wanted, "{matcher}");
            }
        }
    }
}
