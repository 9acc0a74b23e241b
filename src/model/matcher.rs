//! Label matchers: `name op "value"` as PromQL, Alertmanager and silences use them.
//!
//! Regular expressions are anchored, RE2 dialect, and `.` matches a newline, as in Prometheus 3.

use std::fmt;
use std::sync::Arc;

use super::{Labels, re2};

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

/// A regular expression that does not compile, as Go words it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid regular expression `{pattern}`: {reason}")]
pub struct RegexError {
    /// The part of the expression that is wrong; for parentheses and sizes the whole of it.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

impl RegexError {
    /// As Go's `regexp` prints it.
    pub fn go_text(&self) -> String {
        format!("error parsing regexp: {}: `{}`", self.reason, self.pattern)
    }

    /// The same of the expression between `^(?:` and `)$`, as Alertmanager compiles it.
    pub fn go_text_anchored(&self) -> String {
        match self.reason.as_str() {
            "missing closing )" | "unexpected )" => {
                format!("error parsing regexp: {}: `^(?:{})$`", self.reason, self.pattern)
            }
            _ => self.go_text(),
        }
    }
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

/// Compiles `pattern` anchored at both ends, `.` matching newlines, in Go's dialect.
///
/// # Errors
/// When the expression is invalid or its compiled form too large, in Go's words.
pub fn anchored_regex(pattern: &str) -> Result<regex::Regex, RegexError> {
    let written = re2::translate(pattern)?;
    let refused = |reason: &str| RegexError { pattern: pattern.to_owned(), reason: reason.to_owned() };
    regex::RegexBuilder::new(&format!("^(?s:{written})$")).size_limit(REGEX_SIZE_LIMIT_BYTES).build().map_err(|error| {
        match error {
            regex::Error::CompiledTooBig(_) => refused("expression too large"),
            // What is left to refuse for one that was read is its depth.
            _ => refused("expression nests too deeply"),
        }
    })
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
    fn refuses_what_does_not_compile() {
        let error = Matcher::new(MatchOp::Regex, "l", "a(").expect_err("unclosed group");
        assert_eq!(error.pattern, "a(");
        assert!(Matcher::new(MatchOp::Regex, "l", "(((a{1000}){1000}){1000})").is_err(), "too large");
    }
}
