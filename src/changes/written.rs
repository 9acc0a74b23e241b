//! JSON written as YAML, in the block style that people read.
//!
//! Invariant: what is written reads back as the same value.

use std::fmt::Write as _;

use serde_json::Value as Json;

/// The value as a YAML document.
pub fn yaml(value: &Json) -> String {
    let mut out = String::new();
    match value {
        Json::Object(map) if !map.is_empty() => block(&mut out, value, 0),
        Json::Array(items) if !items.is_empty() => block(&mut out, value, 0),
        other => {
            inline(&mut out, other, 0);
            out.push('\n');
        }
    }
    out
}

fn indent(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n("  ", depth));
}

/// The order in which people write the keys of an object; all else follows by name.
fn rank(key: &str) -> usize {
    ["apiVersion", "kind", "metadata", "name", "namespace"].iter().position(|known| *known == key).unwrap_or(9)
}

fn block(out: &mut String, value: &Json, depth: usize) {
    match value {
        Json::Object(map) => {
            let mut entries: Vec<(&String, &Json)> = map.iter().collect();
            entries.sort_by_key(|(key, _)| (rank(key), (*key).clone()));
            for (key, value) in entries {
                indent(out, depth);
                scalar(out, key);
                out.push(':');
                below(out, value, depth + 1);
            }
        }
        Json::Array(items) => {
            for item in items {
                indent(out, depth);
                out.push('-');
                match item {
                    // The first key stands beside the dash.
                    Json::Object(map) if !map.is_empty() => {
                        let mut inner = String::new();
                        block(&mut inner, item, depth + 1);
                        out.push(' ');
                        out.push_str(inner.trim_start_matches(' '));
                    }
                    Json::Array(inner) if !inner.is_empty() => {
                        out.push('\n');
                        block(out, item, depth + 1);
                    }
                    other => below(out, other, depth + 1),
                }
            }
        }
        other => inline(out, other, depth),
    }
}

/// What follows a key or dash: on the same line, or a block below it.
fn below(out: &mut String, value: &Json, depth: usize) {
    match value {
        Json::Object(map) if !map.is_empty() => {
            out.push('\n');
            block(out, value, depth);
        }
        Json::Array(items) if !items.is_empty() => {
            out.push('\n');
            // As kubectl does: a list stands as deep as its key.
            block(out, value, depth - 1);
        }
        other => {
            out.push(' ');
            inline(out, other, depth);
            out.push('\n');
        }
    }
}

fn inline(out: &mut String, value: &Json, depth: usize) {
    match value {
        Json::Object(_) => out.push_str("{}"),
        Json::Array(_) => out.push_str("[]"),
        Json::String(text) if is_literal(text) => literal(out, text, depth),
        Json::String(text) => scalar(out, text),
        other => {
            // Writing to a String cannot fail.
            let _ = write!(out, "{other}");
        }
    }
}

/// Texts of many lines that a literal block holds exactly.
fn is_literal(text: &str) -> bool {
    let fine =
        |c: char| c == '\n' || (!c.is_control() && !matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}'));
    let lines_fine = text.lines().all(|line| line.trim_end() == line);
    let starts_plainly = !text.starts_with([' ', '\n']);
    text.contains('\n') && starts_plainly && lines_fine && !text.ends_with("\n\n") && text.chars().all(fine)
}

fn literal(out: &mut String, text: &str, depth: usize) {
    out.push_str(if text.ends_with('\n') { "|" } else { "|-" });
    for line in text.lines() {
        out.push('\n');
        if !line.is_empty() {
            indent(out, depth);
            out.push_str(line);
        }
    }
}

/// A text plain where nothing could read it as something else, else in double quotes with JSON's escapes, which are YAML's.
fn scalar(out: &mut String, text: &str) {
    let first_fine = text.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '_'));
    let all_fine =
        text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '.' | ' ' | '(' | ')' | '+'));
    let lower = text.to_ascii_lowercase();
    let word = matches!(lower.as_str(), "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n");
    let number = lower.parse::<f64>().is_ok();
    if first_fine && all_fine && !word && !number && !text.ends_with(' ') {
        out.push_str(text);
    } else {
        out.push_str(&Json::String(text.to_owned()).to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml::{self as read, Node, Value};
    use serde_json::json;

    fn back(node: &Node) -> Json {
        match &node.value {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Number(text) => serde_json::from_str(text).expect("a number"),
            Value::String(text) => Json::String(text.clone()),
            Value::Sequence(items) => items.iter().map(back).collect(),
            Value::Mapping(entries) => {
                let pair = |(k, v): &(Node, Node)| (k.as_str().expect("a key").to_owned(), back(v));
                Json::Object(entries.iter().map(pair).collect())
            }
        }
    }

    #[test]
    fn what_is_written_reads_back_as_the_same() {
        let texts = [
            "plain",
            "with space",
            " lead",
            "trail ",
            "true",
            "No",
            "1.5",
            "0x10",
            "",
            "a: b",
            "# c",
            "- x",
            "a\nb\n",
            "a\nb",
            "a\n\nb\n",
            "a\n\n",
            "\na",
            "a \nb",
            "\ttab",
            "tab\tinside\nx",
            "é → ü",
            "\u{2028}",
            "it's",
            "\"q\"",
            "{x}",
            "[x]",
            "*a",
            "&a",
            "!t",
            "%d",
            "@x",
            "`x",
            "a#b",
            "a # b",
            ".inf",
            ".5",
            "inf",
            "NaN",
            "~",
            "---",
            "a\r\nb",
            "\u{feff}x",
            "1e3",
            "1_000",
            "=",
            "<<",
            "2026-01-02",
            "|",
            ">",
            "?",
            "x:y",
            "null",
        ];
        for text in texts {
            for value in
                [json!({"k": text}), json!({"k": {"n": [text, {"a": text, "b": [text]}]}}), json!([text, [text]])]
            {
                let written = yaml(&value);
                let nodes = read::documents(&written).unwrap_or_else(|error| panic!("{error}\n{written}"));
                assert_eq!(back(&nodes[0]), value, "{text:?}\n{written}");
            }
            let keyed = json!({text: 1, "metadata": {text: {"deep": [1, 2.5, null, true, [], {}]}}});
            let written = yaml(&keyed);
            let nodes = read::documents(&written).unwrap_or_else(|error| panic!("{error}\n{written}"));
            assert_eq!(back(&nodes[0]), keyed, "{text:?}\n{written}");
        }
    }

    #[test]
    fn objects_read_as_people_write_them() {
        let object = json!({"spec": {"host": "cart", "subsets": [{"name": "v1", "labels": {"version": "1"}}]},
            "kind": "DestinationRule", "apiVersion": "networking.istio.io/v1", "metadata": {"namespace": "shop", "name": "a"}});
        let expected = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata:\n  name: a\n  namespace: shop\n\
            spec:\n  host: cart\n  subsets:\n  - name: v1\n    labels:\n      version: \"1\"\n";
        assert_eq!(yaml(&object), expected);
    }
}
