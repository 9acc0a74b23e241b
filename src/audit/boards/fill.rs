//! Fills Grafana's variables into a query, as at the first look at the board.
//!
//! `$name`, `${name}`, `${name:format}` and `[[name]]` are variables; `$1` is not, for `label_replace` has it.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

use crate::units::PromDuration;

/// What "All" and unknown choices stand for inside of a regular expression.
const ANYTHING: &str = ".*";
/// A word where no choice is known.
const UNKNOWN: &str = "x";
/// A duration where no choice is known.
const SOME_TIME: &str = "5m";

/// What each variable of a board holds at first.
#[derive(Debug, Default)]
pub(super) struct Variables(HashMap<String, Vec<String>>);

impl Variables {
    /// As the board declares them.
    pub fn of(board: &Value) -> Self {
        let list = board["templating"]["list"].as_array().into_iter().flatten();
        let choice = |one: &Value| Some((one["name"].as_str()?.to_owned(), chosen(one)));
        Self(list.filter_map(choice).collect())
    }

    fn get(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }
}

/// The values chosen at first; none when only the viewer's data source knows them.
fn chosen(variable: &Value) -> Vec<String> {
    let texts = |value: &Value| -> Vec<String> {
        let one = |value: &Value| value.as_str().map(str::to_owned);
        match value.as_array() {
            Some(items) => items.iter().filter_map(one).collect(),
            None => one(value).into_iter().collect(),
        }
    };
    let options = || -> Vec<String> {
        let all = variable["options"].as_array().into_iter().flatten();
        all.filter_map(|option| option["value"].as_str())
            .filter(|value| *value != "$__all")
            .map(str::to_owned)
            .collect()
    };
    let mut values = texts(&variable["current"]["value"]);
    if values.iter().any(|value| value == "$__all") {
        let all_value = variable["allValue"].as_str().filter(|value| !value.is_empty()).map(str::to_owned);
        values = all_value.map_or_else(options, |value| vec![value]);
        if values.is_empty() {
            values.push(ANYTHING.to_owned());
        }
    }
    values.retain(|value| !value.is_empty() && !value.contains('$'));
    if values.is_empty() && variable["type"].as_str() != Some("query") {
        values = options();
        values.truncate(1);
    }
    values
}

/// The names of the variables in a text, those of Grafana itself among them (`__interval`).
pub(super) fn names(text: &str) -> impl Iterator<Item = &str> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < text.len() {
            if let Some((name, length)) = variable(&text[at..]) {
                at += length;
                return Some(name);
            }
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
        None
    })
}

/// The text with every variable replaced; `step` is what `$__interval` comes to at the closest look.
pub(super) fn filled(text: &str, variables: &Variables, step: Duration) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut at, mut quote, mut escaped) = (0, None, false);
    while let Some(c) = text[at..].chars().next() {
        if let Some((name, length)) = variable(&text[at..]) {
            out.push_str(&value(name, variables, step, &out, quote.is_some()));
            at += length;
            continue;
        }
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some('"' | '\''), '\\') => escaped = true,
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'' | '`') => quote = Some(c),
            _ => {}
        }
        out.push(c);
        at += c.len_utf8();
    }
    out
}

/// The variable that a text begins with, and how many bytes it takes.
fn variable(text: &str) -> Option<(&str, usize)> {
    let word = |text: &str| text.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
    let is_name = |name: &&str| name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let (open, close) = if text.starts_with("${") {
        (2, "}")
    } else if text.starts_with("[[") {
        (2, "]]")
    } else if text.starts_with('$') {
        (1, "")
    } else {
        return None;
    };
    let name = text.get(open..open + word(&text[open..])).filter(is_name)?;
    let after = open + name.len();
    match close {
        "" => Some((name, after)),
        // Behind the name may stand a format or a field.
        _ => text[after..].find(close).map(|end| (name, after + end + close.len())),
    }
}

fn value(name: &str, variables: &Variables, step: Duration, before: &str, in_quotes: bool) -> String {
    let seconds = step.as_secs();
    match name {
        "__rate_interval" => return PromDuration::from(step * 4).to_string(),
        "__interval" => return PromDuration::from(step).to_string(),
        "__interval_ms" => return format!("{}", step.as_millis()),
        "__interval_s" => return seconds.to_string(),
        "__range" => return "1h".to_owned(),
        "__range_s" => return "3600".to_owned(),
        "__range_ms" => return "3600000".to_owned(),
        "__from" => return "1700000000000".to_owned(),
        "__to" => return "1700003600000".to_owned(),
        _ => {}
    }
    let values = variables.get(name);
    if in_quotes {
        return match opened_by_regex(before) {
            true if values.is_empty() => ANYTHING.to_owned(),
            true => values.join("|"),
            false => values.first().filter(|value| *value != ANYTHING).cloned().unwrap_or_else(|| UNKNOWN.to_owned()),
        };
    }
    let plain = |value: &&String| value.bytes().all(|b| b.is_ascii_alphanumeric() || b"_:.".contains(&b));
    let behind = before.trim_end();
    let wants_time = behind.ends_with('[') || behind.ends_with("offset") || behind.ends_with(':');
    let wants_number = ["topk(", "bottomk(", "limitk(", "quantile("].iter().any(|open| behind.ends_with(open));
    let is_time = |value: &&String| value.parse::<PromDuration>().is_ok();
    let is_number = |value: &&String| value.parse::<f64>().is_ok();
    if wants_time {
        return values.first().filter(is_time).cloned().unwrap_or_else(|| SOME_TIME.to_owned());
    }
    if wants_number {
        return values.first().filter(is_number).cloned().unwrap_or_else(|| "5".to_owned());
    }
    values.first().filter(plain).cloned().unwrap_or_else(|| UNKNOWN.to_owned())
}

/// Whether the quotes that are open belong to a matcher that takes a pattern.
fn opened_by_regex(before: &str) -> bool {
    let open = before.rfind(['"', '\'', '`']).unwrap_or(0);
    let matcher = before[..open].trim_end();
    matcher.ends_with("=~") || matcher.ends_with("!~")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_take_the_values_of_the_first_look() {
        let board = serde_json::json!({ "templating": { "list": [
            { "name": "ns", "type": "query", "allValue": ".+", "current": { "value": "$__all" } },
            { "name": "rep", "type": "custom", "current": { "value": ["source", "destination"] } },
            { "name": "first", "type": "custom", "options": [{ "value": "a" }, { "value": "b" }] },
            { "name": "unknown", "type": "query" },
            { "name": "window", "type": "interval", "current": { "value": "$__auto_interval_window" } },
            { "name": "n", "type": "textbox", "current": { "value": "7" } },
        ] } });
        let variables = Variables::of(&board);
        for (text, expect) in [
            (r#"a{ns=~"$ns"}"#, r#"a{ns=~".+"}"#),
            (r#"a{r=~"${rep:regex}"}"#, r#"a{r=~"source|destination"}"#),
            (r#"a{r="[[rep]]"}"#, r#"a{r="source"}"#),
            (r#"a{b="$first"} + $first"#, r#"a{b="a"} + a"#),
            (r#"a{b="$unknown", c=~"x$unknown"}"#, r#"a{b="x", c=~"x.*"}"#),
            ("rate(a[$window]) + rate(a[$__rate_interval])", "rate(a[5m]) + rate(a[2m])"),
            ("rate(a[$__interval]) / rate(a[${__range}])", "rate(a[30s]) / rate(a[1h])"),
            ("topk($n, a) + topk($unknown, a)", "topk(7, a) + topk(5, a)"),
            (r#"label_replace(a, "b", "$1", "c", "(.*)")"#, r#"label_replace(a, "b", "$1", "c", "(.*)")"#),
            (r#"a{b="\"$first"} $ [[ ${"#, r#"a{b="\"a"} $ [[ ${"#),
            ("é$first", "éa"),
        ] {
            assert_eq!(filled(text, &variables, Duration::from_secs(30)), expect, "{text}");
        }
        assert_eq!(names("$a ${b:x} [[c]] $__interval $1 é").collect::<Vec<_>>(), ["a", "b", "c", "__interval"]);
    }
}
