//! The labels of one series key, read in full: the cold path, once for each series a target shows.

use std::borrow::Cow;

use super::MetricKind;
use super::number::canonical_float;

/// One label as written, its escapes decoded; borrowed from the page where it has none.
pub type LabelPair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Reads a key (`name{a="b"}`, `name`, `{"utf8.name", a="b"}`, or the braces of an exemplar) into label pairs, in the
/// order written, `__name__` first where there is one. `le` and `quantile` get their one spelling when `kind` has them.
///
/// An empty value is kept: it says that the label is absent, which matters to `honor_labels`.
///
/// # Errors
/// Says what is wrong with the key: no name is not an error here, a label given twice is.
pub fn parse_labels(key: &[u8], kind: MetricKind) -> Result<Vec<LabelPair<'_>>, String> {
    let text = std::str::from_utf8(key).map_err(|_| "invalid UTF-8 in a label or name".to_owned())?;
    let mut cursor = Cursor { rest: text };
    let mut pairs = Vec::with_capacity(32); // as many as Istio writes
    let name_length = text.bytes().take_while(|byte| is_name_byte(*byte)).count();
    if name_length > 0 {
        pairs.push((Cow::Borrowed(crate::model::METRIC_NAME), Cow::Borrowed(&text[..name_length])));
        cursor.rest = text[name_length..].trim_start_matches([' ', '\t']);
    }
    if cursor.eat('{') {
        braces(&mut cursor, &mut pairs)?;
    }
    if !cursor.rest.is_empty() {
        return Err(format!("unexpected `{}` after the series", shortened(cursor.rest)));
    }
    for i in 1..pairs.len() {
        if pairs[..i].iter().any(|(name, _)| *name == pairs[i].0) {
            return Err(format!("label name `{}` is not unique", pairs[i].0));
        }
    }
    let bound = match kind {
        MetricKind::Histogram => "le",
        MetricKind::Summary => "quantile",
        _ => return Ok(pairs),
    };
    for (_, value) in pairs.iter_mut().filter(|(name, _)| name == bound) {
        *value = Cow::Owned(canonical_float(value));
    }
    Ok(pairs)
}

fn braces<'a>(cursor: &mut Cursor<'a>, pairs: &mut Vec<LabelPair<'a>>) -> Result<(), String> {
    loop {
        cursor.skip_blanks();
        if cursor.eat('}') {
            return Ok(());
        }
        let quoted = cursor.rest.starts_with('"');
        let name = if quoted { cursor.quoted()? } else { cursor.label_name()? };
        cursor.skip_blanks();
        if quoted && (cursor.rest.starts_with([',', '}'])) {
            if pairs.iter().any(|(label, _)| label == crate::model::METRIC_NAME) {
                return Err(format!("metric name already set, then `{name}` again"));
            }
            pairs.insert(0, (Cow::Borrowed(crate::model::METRIC_NAME), name));
        } else {
            if !cursor.eat('=') {
                return Err(format!("expected `=` after label `{name}`"));
            }
            cursor.skip_blanks();
            let value = cursor.quoted()?;
            pairs.push((name, value));
            cursor.skip_blanks();
        }
        // A comma may be missing or stand before the brace, as in Prometheus' text format.
        cursor.eat(',');
    }
}

struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn eat(&mut self, wanted: char) -> bool {
        let rest = self.rest.strip_prefix(wanted);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    fn label_name(&mut self) -> Result<Cow<'a, str>, String> {
        let length = self.rest.bytes().take_while(|byte| is_name_byte(*byte) && *byte != b':').count();
        if length == 0 || self.rest.as_bytes()[0].is_ascii_digit() {
            return Err(format!("expected a label name at `{}`", shortened(self.rest)));
        }
        let (name, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(Cow::Borrowed(name))
    }

    /// A string in quotes with `\\`, `\"` and `\n` decoded; other escapes stay as written.
    fn quoted(&mut self) -> Result<Cow<'a, str>, String> {
        let Some(mut rest) = self.rest.strip_prefix('"') else {
            return Err(format!("expected a quoted text at `{}`", shortened(self.rest)));
        };
        let mut decoded = String::new();
        loop {
            let at = memchr::memchr2(b'"', b'\\', rest.as_bytes()).ok_or("text without closing quote")?;
            let (plain, after) = (&rest[..at], &rest[at + 1..]);
            if rest.as_bytes()[at] == b'"' {
                self.rest = after;
                return Ok(if decoded.is_empty() { Cow::Borrowed(plain) } else { Cow::Owned(decoded + plain) });
            }
            decoded.push_str(plain);
            let escaped = after.chars().next().ok_or("text without closing quote")?;
            match escaped {
                'n' => decoded.push('\n'),
                '"' | '\\' => decoded.push(escaped),
                _ => decoded.extend(['\\', escaped]),
            }
            rest = &after[escaped.len_utf8()..];
        }
    }
}

/// A byte of a metric name outside quotes.
#[inline]
pub(super) fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':'
}

fn shortened(text: &str) -> String {
    text.chars().take(20).collect()
}
