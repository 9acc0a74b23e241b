//! Label matchers: `name op "value"` as PromQL, Alertmanager and silences use them.
//!
//! Regular expressions are anchored, RE2 dialect, and `.` matches a newline, as in Prometheus 3.

use std::fmt;
use std::sync::Arc;

use super::Labels;

/// The longest compiled form of one matcher's expression.
const REGEX_SIZE_LIMIT_BYTES: usize = 10 * 1024 * 1024;

/// How a matcher compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`
    Regex,
    /// `!~`
    NotRegex,
}

impl MatchOp {
    /// The operator as written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        }
    }
}

/// A regular expression that does not compile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid regular expression `{pattern}`: {reason}")]
pub struct RegexError {
    /// The expression as given.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

/// One condition on one label. An absent label has the value "".
#[derive(Clone)]
pub struct Matcher {
    /// Label name.
    pub name: Arc<str>,
    /// Comparison.
    pub op: MatchOp,
    /// Value or expression as written.
    pub value: Arc<str>,
    regex: Option<regex::Regex>,
}

impl Matcher {
    /// Compiles the expression of a regex matcher.
    ///
    /// # Errors
    /// When `value` is not a valid regular expression, or is too large.
    pub fn new(op: MatchOp, name: impl AsRef<str>, value: impl AsRef<str>) -> Result<Self, RegexError> {
        let (name, value) = (name.as_ref(), value.as_ref());
        let regex = match op {
            MatchOp::Regex | MatchOp::NotRegex => Some(anchored_regex(value)?),
            MatchOp::Equal | MatchOp::NotEqual => None,
        };
        Ok(Self { name: name.into(), op, value: value.into(), regex })
    }

    /// `name="value"`.
    pub fn equal(name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        Self { name: name.as_ref().into(), op: MatchOp::Equal, value: value.as_ref().into(), regex: None }
    }

    /// Whether a label of this `value` ("" when absent) satisfies the matcher.
    pub fn matches(&self, value: &str) -> bool {
        match (self.op, &self.regex) {
            (MatchOp::Equal, _) => *self.value == *value,
            (MatchOp::NotEqual, _) => *self.value != *value,
            (MatchOp::Regex, Some(regex)) => regex.is_match(value),
            (MatchOp::NotRegex, Some(regex)) => !regex.is_match(value),
            (MatchOp::Regex | MatchOp::NotRegex, None) => false,
        }
    }

    /// Whether the label set satisfies the matcher.
    pub fn matches_labels(&self, labels: &Labels) -> bool {
        self.matches(labels.value(&self.name))
    }

    /// Whether a series without the label satisfies the matcher.
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.op == other.op && self.value == other.value
    }
}
impl Eq for Matcher {}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:?}", self.name, self.op.as_str(), self.value)
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Compiles `pattern` anchored at both ends, `.` matching newlines, with RE2's ASCII `\d \w \s`.
///
/// # Errors
/// When the expression is invalid or its compiled form too large.
pub fn anchored_regex(pattern: &str) -> Result<regex::Regex, RegexError> {
    if let Some(repeat) = excessive_repeat(pattern) {
        return Err(RegexError { pattern: repeat.to_owned(), reason: "invalid repeat count".to_owned() });
    }
    regex::RegexBuilder::new(&format!("^(?s:{})$", from_re2(pattern)))
        .size_limit(REGEX_SIZE_LIMIT_BYTES)
        .build()
        .map_err(|error| RegexError { pattern: pattern.to_owned(), reason: last_line(&error.to_string()) })
}

/// The first `{n,m}` that repeats more often than RE2 allows: a thousand times, those of groups within each other
/// multiplied.
fn excessive_repeat(pattern: &str) -> Option<&str> {
    const REPEATS_MAX: u64 = 1000;
    // Of each open group the greatest product within it; of what stands last, its own.
    let (mut open, mut within, mut last) = (Vec::new(), 1_u64, 1_u64);
    let (mut at, mut in_class) = (0, false);
    while let Some(c) = pattern[at..].chars().next() {
        let rest = &pattern[at..];
        let mut length = c.len_utf8();
        match c {
            '\\' if rest.starts_with("\\Q") => (length, last) = (rest.find("\\E").map_or(rest.len(), |end| end + 2), 1),
            '\\' => (length, last) = (1 + rest[1..].chars().next().map_or(0, char::len_utf8), 1),
            '[' if !in_class => {
                in_class = true;
                // A first `]` is a plain character.
                let negated = usize::from(rest[1..].starts_with('^'));
                length += negated + usize::from(rest[1 + negated..].starts_with(']'));
            }
            ']' if in_class => (in_class, last) = (false, 1),
            _ if in_class => {}
            '(' => open.push(std::mem::replace(&mut within, 1)),
            ')' => {
                last = within;
                within = open.pop().unwrap_or(1).max(last);
            }
            '{' => match repeat_of(rest) {
                Some((whole, times)) => {
                    last = if times == 0 { 1 } else { last.saturating_mul(times) };
                    if last > REPEATS_MAX {
                        return Some(whole);
                    }
                    (length, within) = (whole.len(), within.max(last));
                }
                None => last = 1,
            },
            '*' | '+' | '?' => {}
            _ => last = 1,
        }
        at += length;
    }
    None
}

/// `{n}`, `{n,}` or `{n,m}` at the beginning, and how often that repeats at most (without an end: at least).
fn repeat_of(rest: &str) -> Option<(&str, u64)> {
    let whole = &rest[..=rest.find('}')?];
    let inside = &whole[1..whole.len() - 1];
    let (least, most) = inside.split_once(',').unwrap_or((inside, inside));
    let number = |digits: &str| {
        let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
        is_number.then(|| digits.parse::<u64>().unwrap_or(u64::MAX))
    };
    let least = number(least)?;
    Some((whole, if most.is_empty() { least } else { number(most)?.max(least) }))
}

/// Rewrites what RE2 writes differently: `\Q…\E` literals, ASCII `\d \w \s` classes, and set operators inside brackets
/// (`&&`, `--`, `~~` and a nested `[`), which RE2 reads as plain characters.
fn from_re2(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars().peekable();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('Q') => quote_literal(&mut chars, &mut out),
                Some('d') => out.push_str(if in_class { "0-9" } else { "[0-9]" }),
                Some('w') => out.push_str(if in_class { "0-9A-Za-z_" } else { "[0-9A-Za-z_]" }),
                Some('s') => out.push_str(if in_class { r"\t\n\f\r " } else { r"[\t\n\f\r ]" }),
                Some('D') if !in_class => out.push_str("[^0-9]"),
                Some('W') if !in_class => out.push_str("[^0-9A-Za-z_]"),
                Some('S') if !in_class => out.push_str(r"[^\t\n\f\r ]"),
                Some(escaped) => out.extend(['\\', escaped]),
                None => out.push('\\'),
            },
            '[' if !in_class => {
                in_class = true;
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                if chars.next_if_eq(&']').is_some() {
                    out.push_str(r"\]"); // a first `]` is a plain character
                }
            }
            '[' if chars.peek() != Some(&':') => out.push_str(r"\["),
            '[' => copy_posix_class(&mut chars, &mut out),
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '&' | '~' if in_class => out.extend(['\\', c]),
            '-' if in_class && chars.peek() == Some(&'-') => out.push_str(r"\-"),
            _ => out.push(c),
        }
    }
    out
}

fn quote_literal(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    let mut literal = String::new();
    while let Some(c) = chars.next() {
        if c == '\\' && chars.next_if_eq(&'E').is_some() {
            break;
        }
        literal.push(c);
    }
    out.push_str(&regex::escape(&literal));
}

fn copy_posix_class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) {
    out.push('[');
    for c in chars.by_ref() {
        out.push(c);
        if c == ']' {
            break;
        }
    }
}

fn last_line(text: &str) -> String {
    let line = text.lines().last().unwrap_or(text).trim();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_prometheus_does() {
        use MatchOp::{Equal, NotEqual, NotRegex, Regex};
        let check = |op, pattern: &str, value: &str, expect: bool| {
            let matcher = Matcher::new(op, "l", pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
            assert_eq!(matcher.matches(value), expect, "{matcher} on {value:?}");
        };
        check(Equal, "a", "a", true);
        check(NotEqual, "a", "", true);
        check(Regex, "5..", "503", true);
        check(Regex, "5..", "1503", false); // anchored
        check(Regex, "a|b", "ab", false); // the alternation is inside the anchors
        check(Regex, "a.b", "a\nb", true); // dot matches newline
        check(NotRegex, "5..", "200", true);
        check(Regex, r"\d+", "٣", false); // ASCII digits only
        check(Regex, r"\Qa.b\E.*", "a.bc", true);
        check(Regex, r"\Qa.b\E", "axb", false);
        check(Regex, "[a&&b]", "&", true); // no set operation in RE2
        check(Regex, "[[:alpha:]]+", "abc", true);
        check(Regex, "[]a]+", "]a", true);
        check(Regex, "", "", true);
    }

    #[test]
    fn repeats_are_bounded_as_in_re2() {
        // By the rules of Go's regexp/syntax; 3.5.3 was seen to refuse the first and the two of nested groups.
        for (pattern, expect) in [
            ("a{1001}", Some("{1001}")),
            ("a{1000}", None),
            ("a{2,1001}", Some("{2,1001}")),
            ("a{1001,}", Some("{1001,}")),
            ("a{99999999999999999999999}", Some("{99999999999999999999999}")),
            ("(a{1000}){1000}", Some("{1000}")),
            ("(((a{100}){100}){100}){100}", Some("{100}")),
            ("(a{500}|b){3}", Some("{3}")),
            ("(a{500}|b{2}){2}", None),
            ("a{500}b{500}", None),
            ("(a{500})*(b{3})", None),
            ("((a{40}){5}){5}", None),
            (r"\(a{500}\){500}", None),
            (r"[(]a{500}[){]{500}", None),
            (r"[]({9]a{500}", None),
            (r"\Q(a{5000}\E", None),
            (r"x{,5000}|x{a}|{", None),
            (")))({", None),
        ] {
            assert_eq!(excessive_repeat(pattern), expect, "{pattern}");
        }
        let error = anchored_regex("(a{1000}){1000}").expect_err("too often");
        assert_eq!((error.pattern.as_str(), error.reason.as_str()), ("{1000}", "invalid repeat count"));
    }

    #[test]
    fn refuses_what_does_not_compile() {
        let error = Matcher::new(MatchOp::Regex, "l", "a(").expect_err("unclosed group");
        assert_eq!(error.pattern, "a(");
        assert!(Matcher::new(MatchOp::Regex, "l", "(((a{1000}){1000}){1000})").is_err(), "too large");
    }
}
