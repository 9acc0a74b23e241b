//! Which fields of an object are others: paths, with what stood there and what stands there now.
//!
//! Invariant: bounded in fields and in the length of values; equal objects differ in nothing.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value as Json};

/// Most fields that are named.
const FIELDS_MAX: usize = 100;
/// Longest value that is kept, in characters.
const VALUE_CHARS_MAX: usize = 400;
/// Keys by which the items of a list are told apart, whatever their order.
const IDENTITIES: [&str; 4] = ["name", "host", "key", "group"];

/// One field that is another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldChange {
    /// `spec.http[0].route[1].weight`, `spec.subsets[name=v2].labels.version`.
    pub path: String,
    /// What stood there; none: nothing.
    pub before: Option<String>,
    /// What stands there; none: nothing.
    pub after: Option<String>,
}

impl fmt::Display for FieldChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, before, after } = self;
        match (before, after) {
            (Some(before), Some(after)) => write!(f, "{path} {before} → {after}"),
            (None, Some(after)) => write!(f, "{path} added: {after}"),
            (Some(before), None) => write!(f, "{path} removed: {before}"),
            (None, None) => f.write_str(path),
        }
    }
}

/// The fields in which two objects differ, and how many beyond those.
pub fn diff(before: &Json, after: &Json) -> (Vec<FieldChange>, usize) {
    let mut found = Found::default();
    found.values(&mut String::new(), before, after);
    (found.fields, found.left_out)
}

#[derive(Default)]
struct Found {
    fields: Vec<FieldChange>,
    left_out: usize,
}

impl Found {
    fn say(&mut self, path: &str, before: Option<&Json>, after: Option<&Json>) {
        if self.fields.len() == FIELDS_MAX {
            self.left_out += 1;
            return;
        }
        self.fields.push(FieldChange { path: path.to_owned(), before: before.map(text), after: after.map(text) });
    }

    fn values(&mut self, path: &mut String, before: &Json, after: &Json) {
        match (before, after) {
            _ if before == after => {}
            (Json::Object(one), Json::Object(other)) => self.maps(path, one, other),
            (Json::Array(one), Json::Array(other)) => self.lists(path, one, other),
            (Json::String(one), Json::String(other)) if one.contains('\n') || other.contains('\n') => {
                self.lines(path, one, other);
            }
            _ => self.say(path, Some(before), Some(after)),
        }
    }

    fn maps(&mut self, path: &mut String, before: &Map<String, Json>, after: &Map<String, Json>) {
        let keys: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for key in keys {
            within(path, &key_part(path, key), |path| match (before.get(key), after.get(key)) {
                (Some(one), Some(other)) => self.values(path, one, other),
                (one, other) => self.say(path, one, other),
            });
        }
    }

    fn lists(&mut self, path: &mut String, before: &[Json], after: &[Json]) {
        let both = IDENTITIES.iter().find_map(|key| Some((key, named(before, key)?, named(after, key)?)));
        if let Some((key, before, after)) = both {
            let names: std::collections::BTreeSet<&str> = before.keys().chain(after.keys()).copied().collect();
            for name in names {
                within(path, &format!("[{key}={name}]"), |path| match (before.get(name), after.get(name)) {
                    (Some(one), Some(other)) => self.values(path, one, other),
                    (one, other) => self.say(path, one.copied(), other.copied()),
                });
            }
            return;
        }
        // What is the same at both ends was not touched; the middle is compared place by place.
        let first = before.iter().zip(after).take_while(|(one, other)| one == other).count();
        let rest = before.len().min(after.len()) - first;
        let pairs = before.iter().rev().zip(after.iter().rev()).take(rest);
        let last = pairs.take_while(|(one, other)| one == other).count();
        let (old, new) = (&before[first..before.len() - last], &after[first..after.len() - last]);
        for at in 0..old.len().max(new.len()) {
            within(path, &format!("[{}]", first + at), |path| match (old.get(at), new.get(at)) {
                (Some(one), Some(other)) => self.values(path, one, other),
                (one, other) => self.say(path, one, other),
            });
        }
    }

    /// Texts of many lines: from the first line that differs to the last.
    fn lines(&mut self, path: &mut String, before: &str, after: &str) {
        let (one, other): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
        let first = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
        let rest = one.len().min(other.len()) - first;
        let last = one.iter().rev().zip(other.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
        let part = |lines: &[&str]| {
            let middle = &lines[first..lines.len() - last];
            (!middle.is_empty()).then(|| Json::String(middle.join("\n")))
        };
        let (old, new) = (part(&one), part(&other));
        within(path, &format!(" line {}", first + 1), |path| self.say(path, old.as_ref(), new.as_ref()));
    }
}

/// Works below a path, which is then as it was.
fn within(path: &mut String, part: &str, work: impl FnOnce(&mut String)) {
    let length = path.len();
    path.push_str(part);
    work(path);
    path.truncate(length);
}

fn key_part(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
    match (plain, path.is_empty()) {
        (true, true) => key.to_owned(),
        (true, false) => format!(".{key}"),
        (false, _) => format!("[{key:?}]"),
    }
}

/// The items of a list by the text under a key; none unless each has one of its own.
fn named<'a>(items: &'a [Json], key: &str) -> Option<BTreeMap<&'a str, &'a Json>> {
    let names: Option<BTreeMap<&str, &Json>> =
        items.iter().map(|item| Some((item.get(key)?.as_str()?, item))).collect();
    names.filter(|names| names.len() == items.len() && !items.is_empty())
}

/// A value in one line: a text as it is, all else as JSON.
fn text(value: &Json) -> String {
    let whole = match value {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut cut: String = whole.chars().take(VALUE_CHARS_MAX).collect();
    if cut.len() < whole.len() {
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_are_named_with_what_stood_and_stands_there() {
        let cases = [
            (json!({"spec": {"a": 1}}), json!({"spec": {"a": 1}}), vec![]),
            (json!({"spec": {"a": 1}}), json!({"spec": {"a": 2}}), vec!["spec.a 1 → 2"]),
            (json!({"spec": {}}), json!({"spec": {"a": {"b": true}}}), vec!["spec.a added: {\"b\":true}"]),
            (json!({"spec": {"a": "x"}}), json!({"spec": {}}), vec!["spec.a removed: x"]),
            (
                json!({"metadata": {"labels": {"istio.io/rev": "a"}}}),
                json!({"metadata": {"labels": {"istio.io/rev": "b"}}}),
                vec!["metadata.labels[\"istio.io/rev\"] a → b"],
            ),
            (
                json!({"subsets": [{"name": "v1", "l": 1}, {"name": "v2", "l": 2}]}),
                json!({"subsets": [{"name": "v2", "l": 3}, {"name": "v3"}, {"name": "v1", "l": 1}]}),
                vec!["subsets[name=v2].l 2 → 3", "subsets[name=v3] added: {\"name\":\"v3\"}"],
            ),
            (json!({"p": [1, 2, 3, 4]}), json!({"p": [1, 9, 3, 4]}), vec!["p[1] 2 → 9"]),
            (json!({"p": [1, 3, 4]}), json!({"p": [1, 2, 3, 4]}), vec!["p[1] added: 2"]),
            (json!({"p": [1, 2, 2]}), json!({"p": [1, 2]}), vec!["p[2] removed: 2"]),
            (json!({"p": [{"name": "a"}, {"x": 1}]}), json!({"p": [{"name": "b"}, {"x": 1}]}), vec!["p[0].name a → b"]),
            (
                json!({"http": [{"route": [{"weight": 90}, {"weight": 10}]}]}),
                json!({"http": [{"route": [{"weight": 50}, {"weight": 50}]}]}),
                vec!["http[0].route[0].weight 90 → 50", "http[0].route[1].weight 10 → 50"],
            ),
            (json!({"a": 1}), json!({"a": "1"}), vec!["a 1 → 1"]),
            (json!({"a": [1]}), json!({"a": null}), vec!["a [1] → null"]),
            (json!({"data": {"f": "a\nb\nc\n"}}), json!({"data": {"f": "a\nB\nc\n"}}), vec!["data.f line 2 b → B"]),
            (json!({"f": "a\nb"}), json!({"f": "a\nb\nc"}), vec!["f line 3 added: c"]),
        ];
        for (before, after, expected) in cases {
            let (found, left_out) = diff(&before, &after);
            let told: Vec<String> = found.iter().map(ToString::to_string).collect();
            assert_eq!((told, left_out), (expected.iter().map(|one| (*one).to_owned()).collect(), 0), "{before}");
        }
    }

    #[test]
    fn large_differences_are_cut_and_counted() {
        let many = |value: u32| Json::Object((0..250).map(|i| (format!("k{i}"), json!(value))).collect());
        let (found, left_out) = diff(&many(1), &many(2));
        assert_eq!((found.len(), left_out), (FIELDS_MAX, 150));
        let (found, _) = diff(&json!({"a": ""}), &json!({"a": "é".repeat(5000)}));
        assert_eq!(found[0].after.as_ref().map(|text| text.chars().count()), Some(VALUE_CHARS_MAX + 1));
    }
}
