//! Reads matchers as Alertmanager writes them, in both of its syntaxes: the classic one and the one of UTF-8 names.
//!
//! In: `a="b"`, `{a="b", c=~"d|e"}`, `"héllo wörld"!=x`. Out: [`Matcher`]s. As in Alertmanager's default mode a text is read
//! in both; where they disagree the classic one holds, and what only one can read is read by that one.

use std::collections::BTreeMap;

use crate::model::{MatchOp, Matcher, RegexError};

/// Why a matcher could not be read. The texts are those of Alertmanager.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MatchersError {
    /// Not of the form `name op value`.
    #[error("bad matcher format: {0}")]
    Format(String),
    /// A quote in the value that is neither escaped nor its end.
    #[error("matcher value contains unescaped double quote: {0}")]
    Quote(String),
    /// A name of the old form that is no label name.
    #[error("invalid label name {0:?}")]
    Name(String),
    /// An expression of the old form that is not there.
    #[error("invalid regexp value for {0:?}")]
    NoRegex(String),
    /// Braces where one matcher is read.
    #[error("unexpected open or close brace: {0}")]
    Brace(String),
    /// The expression does not compile.
    #[error("{}", .0.go_text_anchored())]
    Regex(#[from] RegexError),
}

impl MatchersError {
    /// What to write instead, in brackets; empty when the text says enough.
    pub(super) fn mend(&self) -> &'static str {
        match self {
            Self::Regex(_) => "",
            Self::Name(_) => " (write it under matchers, like `\"label.name\"=x`)",
            Self::NoRegex(_) => " (write an expression, or `''` for the empty one)",
            _ => " (write it like `severity=\"page\"` or `service=~\"cart|shop\"`)",
        }
    }
}

/// Reads one or several matchers, with or without braces.
///
/// # Errors
/// When neither syntax can read it; the text is that of the classic one.
pub fn parse_matchers(text: &str) -> Result<Vec<Matcher>, MatchersError> {
    match (utf8(text), classic_list(text)) {
        (_, Ok(classic)) => Ok(classic),
        (Ok(read), Err(_)) => Ok(read),
        (Err(_), Err(error)) => Err(error),
    }
}

/// Reads exactly one matcher, as the parameter `filter` of Alertmanager's API has it.
///
/// # Errors
/// When it is in braces, or neither syntax can read it.
pub fn parse_one_matcher(text: &str) -> Result<Matcher, MatchersError> {
    if text.starts_with('{') || text.ends_with('}') {
        return Err(MatchersError::Brace(text.to_owned()));
    }
    match (utf8(text), classic(text)) {
        (_, Ok(matcher)) => Ok(matcher),
        (Ok(mut read), Err(error)) => read.pop().filter(|_| read.is_empty()).ok_or(error),
        (Err(_), Err(error)) => Err(error),
    }
}

/// Matchers of the new form and of the two old ones, as one list.
///
/// # Errors
/// As [`parse_matchers`].
pub(super) fn all_matchers(
    matchers: &[String],
    equal: &BTreeMap<String, String>,
    regex: &BTreeMap<String, Option<String>>,
) -> Result<Vec<Matcher>, MatchersError> {
    if let Some(name) = equal.keys().chain(regex.keys()).find(|name| !is_classic_name(name)) {
        return Err(MatchersError::Name(name.clone()));
    }
    let mut all: Vec<Matcher> = equal.iter().map(|(name, value)| Matcher::equal(name, value)).collect();
    for (name, pattern) in regex {
        let pattern = pattern.as_deref().ok_or_else(|| MatchersError::NoRegex(name.clone()))?;
        // What is wrong with it is said of the pattern as it was written.
        Matcher::new(MatchOp::Regex, name, pattern)?;
        // Alertmanager keeps the old form with its anchors, and group keys show them.
        all.push(Matcher::new(MatchOp::Regex, name, format!("^(?:{pattern})$"))?);
    }
    for text in matchers {
        all.extend(parse_matchers(text)?);
    }
    all.sort_by(|a, b| (&a.name, a.op.as_str(), &a.value).cmp(&(&b.name, b.op.as_str(), &b.value)));
    Ok(all)
}

/// The old forms know no other names (Alertmanager `LabelNameRE`).
fn is_classic_name(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
}

const SIGNS: [(&str, MatchOp); 4] =
    [("=~", MatchOp::Regex), ("!~", MatchOp::NotRegex), ("!=", MatchOp::NotEqual), ("=", MatchOp::Equal)];

// === classic (Alertmanager `pkg/labels`) ===

fn classic_list(text: &str) -> Result<Vec<Matcher>, MatchersError> {
    let inner = text.strip_prefix('{').unwrap_or(text);
    let inner = inner.strip_suffix('}').unwrap_or(inner);
    split_outside_quotes(inner).into_iter().filter(|part| !part.trim().is_empty()).map(classic).collect()
}

fn split_outside_quotes(text: &str) -> Vec<&str> {
    let (mut parts, mut from, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
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

fn classic(text: &str) -> Result<Matcher, MatchersError> {
    let error = || MatchersError::Format(text.to_owned());
    let trimmed = text.trim();
    let end = trimmed.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).ok_or_else(error)?;
    let (name, rest) = (&trimmed[..end], trimmed[end..].trim_start());
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(error());
    }
    let (op, value) = SIGNS
        .into_iter()
        .find_map(|(sign, op)| rest.strip_prefix(sign).map(|value| (op, value.trim())))
        .ok_or_else(error)?;
    Ok(Matcher::new(op, name, classic_value(value)?)?)
}

/// Undoes `\"`, `\\` and `\n`; any other escape stays as written. A bare quote is an error.
fn classic_value(raw: &str) -> Result<String, MatchersError> {
    let error = || MatchersError::Quote(raw.to_owned());
    let (inner, mut is_open) = match raw.strip_prefix('"') {
        Some(inner) => (inner, true),
        None => (raw, false),
    };
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if is_open && chars.peek().is_none() => is_open = false,
            '"' => return Err(error()),
            '\\' => match chars.next() {
                None => out.push('\\'),
                Some('n') => out.push('\n'),
                Some(escaped @ ('"' | '\\')) => out.push(escaped),
                Some(other) => out.extend(['\\', other]),
            },
            _ => out.push(c),
        }
    }
    if is_open { Err(error()) } else { Ok(out) }
}

// === UTF-8 (Alertmanager `matcher/parse`) ===

#[derive(Debug, PartialEq)]
enum Token {
    Open,
    Close,
    Comma,
    Op(MatchOp),
    Text(String),
}

/// `None` says only that it cannot be read: errors are told in the words of the classic syntax.
fn utf8(text: &str) -> Result<Vec<Matcher>, Option<RegexError>> {
    let mut tokens = tokens(text).ok_or(None)?;
    if tokens.first() == Some(&Token::Open) {
        tokens.remove(0);
        if tokens.pop() != Some(Token::Close) {
            return Err(None);
        }
    }
    let mut matchers = Vec::new();
    let mut rest = tokens.into_iter().peekable();
    while rest.peek().is_some() {
        let (Some(Token::Text(name)), Some(Token::Op(op)), Some(Token::Text(value))) =
            (rest.next(), rest.next(), rest.next())
        else {
            return Err(None);
        };
        matchers.push(Matcher::new(op, name, value).map_err(Some)?);
        if !matches!(rest.next(), None | Some(Token::Comma)) {
            return Err(None);
        }
    }
    Ok(matchers)
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '{' => (Token::Open, 1),
            '}' => (Token::Close, 1),
            ',' => (Token::Comma, 1),
            '=' | '!' => {
                let (sign, op) = SIGNS.into_iter().find(|(sign, _)| rest.starts_with(sign))?;
                (Token::Op(op), sign.len())
            }
            '"' => quoted(rest)?,
            _ => {
                let end = rest.find(|c: char| c.is_whitespace() || r#"{}!=~,\"'`"#.contains(c)).unwrap_or(rest.len());
                (Token::Text((end > 0).then(|| rest[..end].to_owned())?), end)
            }
        };
        found.push(length.0);
        rest = rest[length.1..].trim_start();
    }
    Some(found)
}

/// A text in Go's double quotes, and how many bytes it takes.
fn quoted(rest: &str) -> Option<(Token, usize)> {
    let mut out = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((Token::Text(out), at + 1)),
            '\n' => return None,
            '\\' => match chars.next()?.1 {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                'r' => out.push('\r'),
                'a' => out.push('\u{7}'),
                'b' => out.push('\u{8}'),
                'f' => out.push('\u{c}'),
                'v' => out.push('\u{b}'),
                escaped @ ('"' | '\\') => out.push(escaped),
                digits @ ('x' | 'u' | 'U') => {
                    let count = match digits {
                        'x' => 2,
                        'u' => 4,
                        _ => 8,
                    };
                    let hex: String = chars.by_ref().take(count).map(|(_, c)| c).collect();
                    let code = (hex.len() == count).then(|| u32::from_str_radix(&hex, 16).ok())??;
                    // A single byte past ASCII is half a letter: not valid text.
                    out.push(char::from_u32(code).filter(|_| digits != 'x' || code < 0x80)?);
                }
                _ => return None,
            },
            _ => out.push(c),
        }
    }
    None
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
        check(r#"{"héllo wörld"="ü", 🙂=~"a|b"}"#, &[r#"héllo wörld="ü""#, r#"🙂=~"a|b""#]);
        check(r#""a.b"="\u00fc""#, &[r#"a.b="ü""#]);
        check("{a=b", &[r#"a="b""#]); // the classic syntax takes one brace
        check("a=\\d", &[r#"a="\\d""#]); // a spurious escape stays
        check("a=", &[r#"a="""#]);
        check(r"a=~[0-9]\d", &[r#"a=~"[0-9]\\d""#]);
        for bad in
            ["severity", "=x", r#"a="b"#, r#"a=b"c"#, r#"a="b"c""#, "a b=c", "a=~(", "1a", r#"{"a"}"#, r#""a"="b" c=d"#]
        {
            assert!(parse_matchers(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn says_what_is_wrong_in_alertmanagers_words() {
        let check = |text: &str, expect: &str| {
            let error = parse_one_matcher(text).expect_err(text);
            assert_eq!(error.to_string(), expect);
        };
        check("alertname", "bad matcher format: alertname");
        check("a=~\"(\"", "error parsing regexp: missing closing ): `^(?:()$`");
        check("{a=b}", "unexpected open or close brace: {a=b}");
        check("a=\"b", "matcher value contains unescaped double quote: \"b");
        assert_eq!(parse_one_matcher("\"a b\"=c").map(|m| m.to_string()).expect("reads"), r#"a b="c""#);
    }
}
