//! Reads matchers as Alertmanager writes them: `a="b"`, `{a="b", c=~"d|e"}`, `a!=b`.

use std::collections::BTreeMap;

use crate::model::{MatchOp, Matcher, RegexError};

/// Why a matcher could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MatchersError {
    /// Not of the form `name op value`.
    #[error("bad matcher format: {0} (write it like `severity=\"page\"` or `service=~\"cart|shop\"`)")]
    Format(String),
    /// The expression does not compile.
    #[error(transparent)]
    Regex(#[from] RegexError),
}

/// Reads one or several matchers, with or without braces.
///
/// # Errors
/// When one is not of the form `name op value`, or its expression does not compile.
pub fn parse_matchers(text: &str) -> Result<Vec<Matcher>, MatchersError> {
    let inner = text.trim();
    let inner = match inner.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}').ok_or_else(|| MatchersError::Format(text.to_owned()))?,
        None => inner,
    };
    split_outside_quotes(inner).into_iter().filter(|part| !part.trim().is_empty()).map(parse_matcher).collect()
}

/// Matchers of the new form and of the two old ones, as one list.
///
/// # Errors
/// As [`parse_matchers`].
pub(super) fn all_matchers(
    matchers: &[String],
    equal: &BTreeMap<String, String>,
    regex: &BTreeMap<String, String>,
) -> Result<Vec<Matcher>, MatchersError> {
    let mut all: Vec<Matcher> = equal.iter().map(|(name, value)| Matcher::equal(name, value)).collect();
    for (name, pattern) in regex {
        all.push(Matcher::new(MatchOp::Regex, name, pattern)?);
    }
    for text in matchers {
        all.extend(parse_matchers(text)?);
    }
    all.sort_by(|a, b| (&a.name, a.op.as_str(), &a.value).cmp(&(&b.name, b.op.as_str(), &b.value)));
    Ok(all)
}

fn split_outside_quotes(text: &str) -> Vec<&str> {
    let (mut parts, mut from, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => {
                parts.push(&text[from..i]);
                from = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

fn parse_matcher(text: &str) -> Result<Matcher, MatchersError> {
    let error = || MatchersError::Format(text.trim().to_owned());
    let at = text.find(['=', '!']).ok_or_else(error)?;
    let (name, rest) = (text[..at].trim().trim_matches('"'), &text[at..]);
    let (op, value) =
        [("=~", MatchOp::Regex), ("!~", MatchOp::NotRegex), ("!=", MatchOp::NotEqual), ("=", MatchOp::Equal)]
            .into_iter()
            .find_map(|(sign, op)| rest.strip_prefix(sign).map(|value| (op, value.trim())))
            .ok_or_else(error)?;
    if name.is_empty() || name.contains(|c: char| c.is_whitespace()) {
        return Err(error());
    }
    let value = match value.strip_prefix('"') {
        Some(quoted) => unescape(quoted.strip_suffix('"').ok_or_else(error)?).ok_or_else(error)?,
        None if value.contains('"') => return Err(error()),
        None => value.to_owned(),
    };
    Ok(Matcher::new(op, name, value)?)
}

/// Undoes `\"`, `\\` and `\n`; any other escape stays as written, and a bare quote is an error.
fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return None,
            '\\' => match chars.next()? {
                'n' => out.push('\n'),
                escaped @ ('"' | '\\') => out.push(escaped),
                other => out.extend(['\\', other]),
            },
            _ => out.push(c),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_alertmanager_reads() {
        let check = |text: &str, expect: &[&str]| {
            let read = parse_matchers(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(read.iter().map(ToString::to_string).collect::<Vec<_>>(), expect, "{text}");
        };
        check(r#"severity="page""#, &[r#"severity="page""#]);
        check("severity=page", &[r#"severity="page""#]);
        check(r#"{a="x,y", b!~"c|d" , e != f,}"#, &[r#"a="x,y""#, r#"b!~"c|d""#, r#"e!="f""#]);
        check(r#"a="say \"hi\"\n""#, &[r#"a="say \"hi\"\n""#]);
        check("{}", &[]);
        for bad in ["severity", "=x", r#"a="b"#, "{a=b", r#"a=b"c"#, r#"a="b"c""#, "a b=c", "a=~("] {
            assert!(parse_matchers(bad).is_err(), "{bad}");
        }
    }
}
