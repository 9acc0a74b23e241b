//! The short notation of series in test scripts and rule unit tests: `name{a="b"} 1 2+3x2 _ stale`.
//!
//! `a+bxN` is a and N more, each b higher; `axN` is a and N more of it; `_` is no sample, `_xN` N of them.

use crate::model::{Labels, METRIC_NAME, stale_marker};
use crate::promql::ast::Text;
use crate::promql::lex::{self, Kind};

/// Most values that one series may have.
const VALUE_LIMIT: usize = 1_000_000;

/// One value of the notation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Point {
    /// `_`
    Missing,
    /// A number, or the stale marker.
    Value(f64),
    /// `{{…}}`: a native histogram, which meshscope does not have.
    Histogram,
}

/// Reads labels and values.
///
/// # Errors
/// A text that says what cannot be read.
pub fn parse_series(line: &str) -> Result<(Labels, Vec<Point>), String> {
    let (labels, rest) = parse_metric(line)?;
    Ok((labels, parse_values(rest)?))
}

/// Reads the labels; returns what follows them.
pub(super) fn parse_metric(line: &str) -> Result<(Labels, &str), String> {
    let bad = |what: &str| format!("cannot read the series {line:?}: {what}");
    let mut pairs: Vec<(String, String)> = Vec::new();
    if line.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(bad("no name begins with a digit"));
    }
    let name_end = line.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | ':'))).unwrap_or(line.len());
    if name_end > 0 {
        pairs.push((METRIC_NAME.to_owned(), line[..name_end].to_owned()));
    }
    let rest = &line[name_end..];
    if !rest.starts_with('{') || rest.starts_with("{{") {
        return if name_end > 0 { Ok((pairs.into_iter().collect(), rest)) } else { Err(bad("no metric name")) };
    }
    let mut tokens = lex::tokens(rest).into_iter().skip(1).peekable();
    let unquote = |start: usize, end: usize| Text::from_bytes(lex::unquote(&rest[start..end])).value;
    loop {
        let Some(token) = tokens.next() else { return Err(bad("no closing brace")) };
        let name = match token.kind {
            Kind::RightBrace => return Ok((pairs.into_iter().collect(), &rest[token.end..])),
            Kind::Comma => continue,
            Kind::Identifier => rest[token.start..token.end].to_owned(),
            Kind::Text => unquote(token.start, token.end),
            Kind::Error(message) => return Err(bad(&message)),
            _ => return Err(bad("a label name is needed")),
        };
        if tokens.next_if(|token| token.kind == Kind::Equal).is_none() {
            if token.kind != Kind::Text {
                return Err(bad("`=` is needed after a label name"));
            }
            pairs.push((METRIC_NAME.to_owned(), name));
            continue;
        }
        match tokens.next() {
            Some(value) if value.kind == Kind::Text => pairs.push((name, unquote(value.start, value.end))),
            _ => return Err(bad("a quoted label value is needed")),
        }
    }
}

/// Reads values, separated by blanks.
pub(super) fn parse_values(text: &str) -> Result<Vec<Point>, String> {
    let mut points = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = item_end(rest);
        push_item(&rest[..end], &mut points)?;
        if points.len() > VALUE_LIMIT {
            return Err(format!("more than {VALUE_LIMIT} values"));
        }
        rest = rest[end..].trim_start();
    }
    Ok(points)
}

/// Where the first item ends; blanks inside `{{…}}` belong to it.
fn item_end(text: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            c if c.is_whitespace() && depth == 0 => return at,
            _ => {}
        }
    }
    text.len()
}

fn push_item(item: &str, points: &mut Vec<Point>) -> Result<(), String> {
    let bad = || format!("cannot read the value {item:?} (write it like `1`, `1+2x3`, `_x4`, `stale`)");
    if item.starts_with("{{") {
        let repeats = item.rsplit_once("}}x").map_or(Ok(0_usize), |(_, times)| times.parse()).map_err(|_| bad())?;
        return extend(points, (0..repeats.min(VALUE_LIMIT) + 1).map(|_| Point::Histogram));
    }
    let (value, times) = split_times(item);
    let times: Option<usize> = times.map(str::parse).transpose().map_err(|_| bad())?;
    if value == "_" {
        return extend(points, (0..times.unwrap_or(1)).map(|_| Point::Missing));
    }
    let times = times.unwrap_or(0);
    if value == "stale" {
        return extend(points, (0..times.saturating_add(1)).map(|_| Point::Value(stale_marker())));
    }
    // The sign between start and step is the first that neither begins the number nor belongs to an exponent.
    let sign =
        value.char_indices().skip(1).find(|(at, c)| matches!(c, '+' | '-') && !value[..*at].ends_with(['e', 'E']));
    let (start, step) = match sign {
        Some((at, _)) => (&value[..at], &value[at..]),
        None => (value, "0"),
    };
    let (start, step) = (parse_number(start).ok_or_else(bad)?, parse_number(step).ok_or_else(bad)?);
    let mut next = start;
    extend(
        points,
        (0..times.saturating_add(1)).map(|_| {
            let value = next;
            next += step;
            Point::Value(value)
        }),
    )
}

fn extend(points: &mut Vec<Point>, more: impl ExactSizeIterator<Item = Point>) -> Result<(), String> {
    if points.len().saturating_add(more.len()) > VALUE_LIMIT {
        return Err(format!("more than {VALUE_LIMIT} values"));
    }
    points.extend(more);
    Ok(())
}

/// `1+2x3` → (`1+2`, `3`). Hexadecimal numbers are not part of the notation: `0x5` is six zeros.
fn split_times(item: &str) -> (&str, Option<&str>) {
    match item.rsplit_once('x') {
        Some((value, times)) if !value.is_empty() => (value, Some(times)),
        _ => (item, None),
    }
}

/// A number of the notation: decimal with `_` between digits, octal `017`, `1e3`, `Inf`, `NaN`, with or without a sign.
pub fn parse_number(text: &str) -> Option<f64> {
    let (sign, digits) = match text.strip_prefix(['+', '-']) {
        Some(digits) => (if text.starts_with('-') { -1.0 } else { 1.0 }, digits),
        None => (1.0, text),
    };
    let plain = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let named = matches!(digits.to_ascii_lowercase().as_str(), "inf" | "nan");
    let value = if plain || named { lex::number_value(digits) } else { None };
    value.map(|value| sign * value)
}

/// The text after the operator words of a script line, unquoted.
pub(super) fn unquoted(text: &str) -> Option<String> {
    match lex::tokens(text).as_slice() {
        [token, _] if token.kind == Kind::Text => Some(Text::from_bytes(lex::unquote(text)).value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn reads_the_short_notation() {
        let check = |text: &str, expect: &[f64]| {
            let points: Vec<f64> = parse_values(text)
                .unwrap()
                .into_iter()
                .map(|point| if let Point::Value(value) = point { value } else { f64::MAX })
                .collect();
            assert_eq!(points, expect, "{text}");
        };
        let gap = f64::MAX;
        check("1 2 -3", &[1.0, 2.0, -3.0]);
        check("2+3x2", &[2.0, 5.0, 8.0]);
        check("1-1x3", &[1.0, 0.0, -1.0, -2.0]);
        check("4x3 _ _x3", &[4.0, 4.0, 4.0, 4.0, gap, gap, gap, gap]);
        check("0x5", &[0.0; 6]);
        check("1e3+1e-2x1", &[1000.0, 1000.01]);
        check("-Inf Infx1", &[f64::NEG_INFINITY, f64::INFINITY, f64::INFINITY]);
        assert!(parse_values("1y").is_err() && parse_values("1x999999999").is_err());
    }

    #[test]
    fn reads_labels_in_every_form() {
        let check = |line: &str, expect: &str| assert_eq!(parse_series(line).unwrap().0.to_string(), expect);
        check("up 1", "up");
        check(r#"up{job="a b", x="{"} 1"#, r#"up{job="a b", x="{"}"#);
        check("{} 3", "{}");
        check(r#"{"m.x", "l.y"='v'} 3"#, r#"m.x{l.y="v"}"#);
        check("up {{schema:0}} 1", "up");
        assert!(parse_series("up{job=} 1").is_err() && parse_series("{a=\"b\" 1").is_err());
    }
}
