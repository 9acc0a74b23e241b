//! Texts as Go writes and reads them: `%q`, string literals, label names.

use super::{is_alpha, is_alphanumeric};

/// Whether `name` can be written without quotes as a label name.
pub(in crate::promql) fn is_plain_label(name: &str) -> bool {
    name.chars().next().is_some_and(is_alpha) && name.chars().all(is_alphanumeric)
}

/// Go's `%q` of a text.
pub(in crate::promql) fn quote(text: &str) -> String {
    quote_bytes(text.as_bytes())
}

/// Go's `%q` of bytes that may not be UTF-8.
pub(in crate::promql) fn quote_bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.push_str("\\\""),
                c => push_escaped(&mut out, c),
            }
        }
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out.push('"');
    out
}

fn push_escaped(out: &mut String, c: char) {
    match c {
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\x0b' => out.push_str("\\v"),
        c if c < ' ' || c == '\x7f' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
        c => out.push(c),
    }
}

pub(super) fn quote_char(c: char) -> String {
    let mut out = String::from("'");
    match c {
        '\'' => out.push_str("\\'"),
        c => push_escaped(&mut out, c),
    }
    out.push('\'');
    out
}

pub(super) fn code_point(c: char) -> String {
    format!("U+{:04X} '{c}'", u32::from(c))
}

/// The bytes that a string token means (its escapes were checked by the lexer).
pub(in crate::promql) fn unquote(token: &str) -> Vec<u8> {
    let inner = &token[1..token.len() - 1];
    if token.starts_with('`') || !inner.contains('\\') {
        return inner.as_bytes().to_vec();
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let Some(escape) = rest.next() else { break };
        let mut code = |first: u32, digits: usize, radix: u32| {
            (0..digits).fold(first, |value, _| value * radix + rest.next().and_then(|c| c.to_digit(radix)).unwrap_or(0))
        };
        match escape {
            'a' => out.push(7),
            'b' => out.push(8),
            'f' => out.push(12),
            'n' => out.push(b'\n'),
            'r' => out.push(b'\r'),
            't' => out.push(b'\t'),
            'v' => out.push(11),
            'x' => out.push(code(0, 2, 16) as u8),
            'u' | 'U' => {
                let c = char::from_u32(code(0, if escape == 'u' { 4 } else { 8 }, 16)).unwrap_or('\u{fffd}');
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
            '0'..='7' => out.push(code(escape.to_digit(8).unwrap_or(0), 2, 8) as u8),
            other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out
}
