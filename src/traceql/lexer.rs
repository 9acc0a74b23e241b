//! Words of a query with their places.
//!
//! In: text. Out: tokens. Pure. An attribute is one token, its scope and quoted parts included, because its name may hold
//! letters that are operators elsewhere (`span.my-attribute`).

use super::ParseError;
use super::ast::Scope;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A word: keyword, intrinsic (also `span:id`), function.
    Word(String),
    Attribute {
        scope: Scope,
        name: String,
        of_parent: bool,
    },
    String(String),
    Int(i64),
    Float(f64),
    /// Nanoseconds.
    Duration(i64),
    Operator(&'static str),
    End,
}

/// Longest first, so that each is found whole.
const OPERATORS: &[&str] = &[
    "!>>", "!<<", "&>>", "&<<", "&&", "||", "!>", "!<", "&>", "&<", "&~", "!~", "!=", "=~", ">=", "<=", ">>", "<<",
    "{", "}", "(", ")", ",", "|", "=", ">", "<", "~", "!", "+", "-", "*", "/", "%", "^",
];

const SCOPES: &[(&str, Scope)] = &[
    ("span.", Scope::Span),
    ("resource.", Scope::Resource),
    ("event.", Scope::Event),
    ("link.", Scope::Link),
    ("instrumentation.", Scope::Instrumentation),
    (".", Scope::Any),
];

/// All tokens, the last one [`Token::End`], each with the byte at which it begins.
pub(super) fn tokens(text: &str) -> Result<Vec<(Token, usize)>, ParseError> {
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        at += text[at..].len() - text[at..].trim_start().len();
        let rest = &text[at..];
        let Some(first) = rest.chars().next() else {
            found.push((Token::End, at));
            return Ok(found);
        };
        let comment = rest.starts_with("//");
        let (token, length) = match first {
            _ if comment => {
                at += rest.find('\n').unwrap_or(rest.len());
                continue;
            }
            '"' | '`' => {
                let (string, length) = quoted(text, at)?;
                (Token::String(string), length)
            }
            '0'..='9' => number(text, at)?,
            '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => number(text, at)?,
            _ => match attribute(text, at)? {
                Some(attribute) => attribute,
                None => word_or_operator(text, at, first)?,
            },
        };
        found.push((token, at));
        at += length;
    }
}

fn word_or_operator(text: &str, at: usize, first: char) -> Result<(Token, usize), ParseError> {
    let rest = &text[at..];
    if first.is_ascii_alphabetic() || first == '_' {
        let end = |from: usize| {
            from + rest[from..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len() - from)
        };
        let mut length = end(0);
        if rest[length..].starts_with(':') {
            length = end(length + 1);
        }
        return Ok((Token::Word(rest[..length].to_owned()), length));
    }
    let operator = OPERATORS.iter().find(|operator| rest.starts_with(**operator));
    let unknown = || ParseError::at(text, at, format!("unexpected letter {first:?}"));
    operator.map(|operator| (Token::Operator(operator), operator.len())).ok_or_else(unknown)
}

/// An attribute with its scope, when one begins here.
fn attribute(text: &str, at: usize) -> Result<Option<(Token, usize)>, ParseError> {
    let whole = &text[at..];
    let (of_parent, rest) = match whole.strip_prefix("parent.") {
        Some(rest) => (true, rest),
        None => (false, whole),
    };
    let scoped = SCOPES.iter().find_map(|(prefix, scope)| Some((*scope, rest.strip_prefix(prefix)?)));
    let (scope, rest) = match scoped {
        Some(found) => found,
        None if of_parent => (Scope::Any, rest),
        None => return Ok(None),
    };
    let mut name = String::new();
    let mut length = whole.len() - rest.len();
    loop {
        let rest = &whole[length..];
        if rest.starts_with('"') {
            let (part, part_length) = quoted(text, at + length)?;
            name.push_str(&part);
            length += part_length;
            continue;
        }
        match rest.chars().next().filter(|c| !c.is_whitespace() && !"{}()=~!<>&|^,\"".contains(*c)) {
            Some(letter) => {
                name.push(letter);
                length += letter.len_utf8();
            }
            None => break,
        }
    }
    if name.is_empty() {
        return Err(ParseError::at(text, at, "an attribute without a name"));
    }
    Ok(Some((Token::Attribute { scope, name, of_parent }, length)))
}

/// A text in quotes and its length with them.
fn quoted(text: &str, at: usize) -> Result<(String, usize), ParseError> {
    let open = || ParseError::at(text, at, "a text in quotes does not end");
    let rest = &text[at + 1..];
    if text[at..].starts_with('`') {
        let end = rest.find('`').ok_or_else(open)?;
        return Ok((rest[..end].to_owned(), end + 2));
    }
    let mut out = String::new();
    let mut letters = rest.char_indices();
    while let Some((i, letter)) = letters.next() {
        match letter {
            '"' => return Ok((out, i + 2)),
            '\n' => return Err(open()),
            '\\' => {
                let (_, escaped) = letters.next().ok_or_else(open)?;
                out.push(match escaped {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    '"' | '\\' | '\'' => escaped,
                    'x' | 'u' | 'U' => {
                        let digits = match escaped {
                            'x' => 2,
                            'u' => 4,
                            _ => 8,
                        };
                        let hex: String = letters.by_ref().take(digits).map(|(_, digit)| digit).collect();
                        let code = (hex.len() == digits).then(|| u32::from_str_radix(&hex, 16).ok()).flatten();
                        code.and_then(char::from_u32)
                            .ok_or_else(|| ParseError::at(text, at + 1 + i, format!("\\{escaped}{hex} is no letter")))?
                    }
                    other => {
                        let message = format!("unknown escape \\{other}; write \\\\{other}, or the text in backticks");
                        return Err(ParseError::at(text, at + 1 + i, message));
                    }
                });
            }
            other => out.push(other),
        }
    }
    Err(open())
}

/// A number, or a duration of one or more numbers with units.
fn number(text: &str, at: usize) -> Result<(Token, usize), ParseError> {
    let rest = &text[at..];
    let digits = |from: usize| {
        let end = rest[from..].find(|c: char| !c.is_ascii_digit() && c != '.');
        end.map_or(rest.len(), |end| from + end)
    };
    let (mut length, mut nanoseconds, mut is_duration) = (0, 0.0_f64, false);
    let wrong = |length: usize, what: &str| ParseError::at(text, at, format!("{:?} is {what}", &rest[..length]));
    loop {
        let end = digits(length);
        let unit_end = rest[end..].find(|c: char| !c.is_alphabetic()).map_or(rest.len(), |found| end + found);
        let unit = match &rest[end..unit_end] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3_600e9,
            "d" => 86_400e9,
            _ if is_duration => return Err(wrong(unit_end, "no duration")),
            "" => {
                let number = &rest[..end];
                let token = match number.contains('.') {
                    true => number.parse().map(Token::Float).ok(),
                    false => number.parse().map(Token::Int).ok(),
                };
                return token.map(|token| (token, end)).ok_or_else(|| wrong(end, "no number of 64 bits"));
            }
            _ => return Err(wrong(unit_end, "neither a number nor a duration (ns, us, ms, s, m, h, d)")),
        };
        is_duration = true;
        nanoseconds += rest[length..end].parse::<f64>().map_err(|_| wrong(unit_end, "no duration"))? * unit;
        length = unit_end;
        if !rest[length..].starts_with(|c: char| c.is_ascii_digit()) {
            break;
        }
    }
    if nanoseconds >= i64::MAX as f64 {
        return Err(wrong(length, "a duration of more than 292 years"));
    }
    Ok((Token::Duration(nanoseconds as i64), length))
}
