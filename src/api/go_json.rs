//! JSON as Prometheus' encoder writes it: whole floats without a point, exponents of two digits, `<`, `>` and `&` escaped.
//!
//! In: serde values, texts and numbers. Out: text appended to a buffer; no number or text makes an allocation of its own.

use std::fmt::Write as _;
use std::io;

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};

/// Appends `value`.
///
/// # Errors
/// When the value refuses to be serialised.
pub(super) fn push(out: &mut String, value: &impl Serialize) -> serde_json::Result<()> {
    let mut bytes = std::mem::take(out).into_bytes();
    let done = value.serialize(&mut Serializer::with_formatter(&mut bytes, GoFormat));
    // The serializer writes UTF-8 alone, so nothing is lost.
    *out = String::from_utf8(bytes).unwrap_or_default();
    done
}

/// A text in quotes, HTML escaped, as Go's encoder does by default.
pub(super) fn push_text(out: &mut String, text: &str) {
    // A text always serialises.
    let _ = push(out, &text);
}

/// A text in quotes with what JSON demands escaped and nothing more.
pub(super) fn push_raw_text(out: &mut String, text: &str) {
    out.push('"');
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.push_str(&text[from..at]);
        from = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            // Writing to a String cannot fail.
            control => _ = write!(out, "\\u{control:04x}"),
        }
    }
    out.push_str(&text[from..]);
    out.push('"');
}

/// A sample's value: shortest form, an exponent of two digits at least below 1e-6 and from 1e21.
pub(super) fn push_number(out: &mut String, value: f64) {
    let magnitude = value.abs();
    if magnitude == 0.0 || !magnitude.is_finite() || (1e-6..1e21).contains(&magnitude) {
        return push_plain_number(out, value);
    }
    let from = out.len();
    // Writing to a String cannot fail.
    let _ = write!(out, "{value:e}");
    if let Some(at) = out[from..].find('e') {
        let exponent = out.split_off(from + at + 1);
        let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent.as_str()), |digits| ('-', digits));
        let _ = write!(out, "{sign}{digits:0>2}");
    }
}

/// A number without an exponent, as Go's `FormatFloat(v, 'f', -1, 64)`.
pub(super) fn push_plain_number(out: &mut String, value: f64) {
    /// Whole numbers below this are exact, and their digits are those of the integer.
    const WHOLE: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < WHOLE {
        if value.is_sign_negative() {
            out.push('-');
        }
        return push_integer(out, value.abs() as u64);
    }
    match value {
        f64::INFINITY => out.push_str("+Inf"),
        f64::NEG_INFINITY => out.push_str("-Inf"),
        // Writing to a String cannot fail.
        value => _ = write!(out, "{value}"),
    }
}

/// The digits of a whole number.
pub(super) fn push_integer(out: &mut String, mut value: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.push_str(std::str::from_utf8(&digits[at..]).unwrap_or_default());
}

struct GoFormat;

impl Formatter for GoFormat {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        // Most numbers are as the standard library writes them: then no text is needed in between.
        let magnitude = value.abs();
        if (1e-6..1e21).contains(&magnitude) && value.fract() != 0.0 {
            return write!(writer, "{value}");
        }
        let mut text = String::with_capacity(24);
        push_number(&mut text, value);
        writer.write_all(text.as_bytes())
    }

    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        // Few texts have any of them, and no other character begins with these bytes but those after U+2000.
        if !fragment.bytes().any(|byte| matches!(byte, b'<' | b'>' | b'&' | 0xe2)) {
            return writer.write_all(fragment.as_bytes());
        }
        let mut from = 0;
        for (at, c) in fragment.char_indices().filter(|(_, c)| matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}')) {
            writer.write_all(&fragment.as_bytes()[from..at])?;
            write!(writer, "\\u{:04x}", u32::from(c))?;
            from = at + c.len_utf8();
        }
        writer.write_all(&fragment.as_bytes()[from..])
    }

    fn write_char_escape<W: ?Sized + io::Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        match escape {
            CharEscape::Quote => writer.write_all(b"\\\""),
            CharEscape::ReverseSolidus => writer.write_all(b"\\\\"),
            CharEscape::Solidus => writer.write_all(b"/"),
            CharEscape::LineFeed => writer.write_all(b"\\n"),
            CharEscape::CarriageReturn => writer.write_all(b"\\r"),
            CharEscape::Tab => writer.write_all(b"\\t"),
            CharEscape::Backspace => writer.write_all(b"\\u0008"),
            CharEscape::FormFeed => writer.write_all(b"\\u000c"),
            CharEscape::AsciiControl(byte) => write!(writer, "\\u{byte:04x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::format_value;

    #[test]
    fn writes_numbers_as_the_engine_prints_them() {
        let mut values = vec![0.0, -0.0, 1.0, -1.0, 0.1 + 0.2, 1e-6, 1e-7, -1.5e-10, 1e20, 1e21, 1.25e300, 5e-324];
        values.extend([f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 9_007_199_254_740_993.0, 123_456_789.125, 1e15]);
        values.extend((0..2000).map(|i| f64::from_bits(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(i))));
        for value in values {
            let mut out = String::new();
            push_number(&mut out, value);
            assert_eq!(out, format_value(value), "{value:e}");
        }
    }

    #[test]
    fn escapes_what_go_escapes() {
        let check = |text: &str, html: &str, raw: &str| {
            let (mut a, mut b) = (String::new(), String::new());
            push_text(&mut a, text);
            push_raw_text(&mut b, text);
            assert_eq!((a.as_str(), b.as_str()), (html, raw));
        };
        check("a", r#""a""#, r#""a""#);
        check("<&>é\u{2028}", r#""\u003c\u0026\u003eé\u2028""#, "\"<&>é\u{2028}\"");
        check("\"\\\n\r\t", r#""\"\\\n\r\t""#, r#""\"\\\n\r\t""#);
        check("\u{8}\u{c}\u{1}\u{7f}", "\"\\u0008\\u000c\\u0001\u{7f}\"", "\"\\u0008\\u000c\\u0001\u{7f}\"");
    }

    #[test]
    fn whole_floats_have_no_point() {
        let mut out = String::from("x");
        push(&mut out, &(2.0, 0.5, 3e-7)).expect("numbers serialise");
        assert_eq!(out, "x[2,0.5,3e-07]");
    }
}
