//! Go's `fmt.Sprintf` for the values that templates have.
//!
//! In: a format and values. Out: text. Pure. Invariant: widths and precisions are capped, so no format makes a large text
//! of a small one.

use super::Value;
use super::numbers::{scientific, shortest, significant, special};

/// Widths and precisions past this are cut.
const WIDTH_MAX: usize = 1000;

#[derive(Default)]
struct Directive {
    minus: bool,
    plus: bool,
    space: bool,
    sharp: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// Formats `args` by `format`, with Go's marks (`%!d(float64=0.5)`) where they do not fit.
pub fn sprintf(format: &str, args: &[Value]) -> String {
    let mut out = String::new();
    let mut rest = format.chars().peekable();
    let (mut next, mut reordered) = (0, false);
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut directive = Directive::default();
        while let Some(flag) = rest.next_if(|c| "-+ #0".contains(*c)) {
            match flag {
                '-' => directive.minus = true,
                '+' => directive.plus = true,
                ' ' => directive.space = true,
                '#' => directive.sharp = true,
                _ => directive.zero = true,
            }
        }
        reordered |= take_index(&mut rest, &mut next);
        directive.width = take_number(&mut rest, args, &mut next);
        if rest.next_if_eq(&'.').is_some() {
            reordered |= take_index(&mut rest, &mut next);
            directive.precision = Some(take_number(&mut rest, args, &mut next).unwrap_or(0));
        }
        reordered |= take_index(&mut rest, &mut next);
        match rest.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match args.get(next) {
                None => out.push_str(&format!("%!{verb}({})", missing(reordered))),
                Some(arg) => {
                    out.push_str(&directive.padded(verb, arg));
                    next += 1;
                }
            },
        }
    }
    if !reordered && next < args.len() {
        let extra: Vec<String> = args[next..].iter().map(typed).collect();
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

fn missing(reordered: bool) -> &'static str {
    if reordered { "BADINDEX" } else { "MISSING" }
}

type Rest<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// `[n]`: the next argument is the n-th.
fn take_index(rest: &mut Rest<'_>, next: &mut usize) -> bool {
    if rest.next_if_eq(&'[').is_none() {
        return false;
    }
    let mut number = 0_usize;
    while let Some(c) = rest.next_if(|c| *c != ']') {
        number = number.saturating_mul(10).saturating_add(c.to_digit(10).unwrap_or(0) as usize);
    }
    rest.next();
    *next = number.wrapping_sub(1);
    true
}

fn take_number(rest: &mut Rest<'_>, args: &[Value], next: &mut usize) -> Option<usize> {
    if rest.next_if_eq(&'*').is_some() {
        let width = match args.get(*next) {
            Some(Value::Int(n)) => usize::try_from(*n).ok(),
            _ => None,
        };
        *next += 1;
        return width.map(|w| w.min(WIDTH_MAX));
    }
    let mut number = None;
    while let Some(digit) = rest.peek().and_then(|c| c.to_digit(10)) {
        rest.next();
        number = Some((number.unwrap_or(0) * 10 + digit as usize).min(WIDTH_MAX));
    }
    number
}

/// `type=value`, as Go marks a wrong argument.
fn typed(arg: &Value) -> String {
    match arg {
        Value::Nil => "<nil>".to_owned(),
        _ => format!("{}={arg}", arg.type_name()),
    }
}

impl Directive {
    fn padded(&self, verb: char, arg: &Value) -> String {
        let Some(text) = self.formatted(verb, arg) else {
            return format!("%!{verb}({})", typed(arg));
        };
        let width = self.width.unwrap_or(0);
        let missing = width.saturating_sub(text.chars().count());
        let numeric = matches!(arg, Value::Int(_)) || matches!(arg, Value::Float(v) if v.is_finite());
        if self.minus {
            return text + &" ".repeat(missing);
        }
        if self.zero && numeric && missing > 0 {
            let sign = usize::from(text.starts_with(['-', '+', ' ']));
            return format!("{}{}{}", &text[..sign], "0".repeat(missing), &text[sign..]);
        }
        " ".repeat(missing) + &text
    }

    /// `None` when the verb does not take such a value.
    fn formatted(&self, verb: char, arg: &Value) -> Option<String> {
        match (verb, arg) {
            ('T', _) => Some(arg.type_name().to_owned()),
            ('v', Value::Nil) => Some("<nil>".to_owned()),
            ('v', Value::String(text)) if self.sharp => Some(quoted(text)),
            ('v', Value::String(_)) => self.formatted('s', arg),
            ('v', Value::Int(_)) => self.formatted('d', arg),
            ('v', Value::Float(_)) => self.formatted('g', arg),
            ('v', _) => Some(arg.to_string()),
            ('t', Value::Bool(b)) => Some(b.to_string()),
            ('s' | 'q' | 'x' | 'X', Value::String(text)) => Some(self.string(verb, text)),
            ('s', Value::List(_) | Value::Map(_) | Value::Labels(_) | Value::Time(_) | Value::Duration(_)) => {
                Some(arg.to_string())
            }
            ('d', Value::Duration(ns)) => Some(self.signed(*ns < 0, ns.unsigned_abs().to_string())),
            (_, Value::Int(n)) => self.integer(verb, *n),
            (_, Value::Float(v)) => self.float(verb, *v),
            _ => None,
        }
    }

    fn string(&self, verb: char, text: &str) -> String {
        let cut: String = self.precision.map_or_else(|| text.to_owned(), |p| text.chars().take(p).collect());
        match verb {
            'q' => quoted(&cut),
            'x' => cut.bytes().map(|b| format!("{b:02x}")).collect(),
            'X' => cut.bytes().map(|b| format!("{b:02X}")).collect(),
            _ => cut,
        }
    }

    fn integer(&self, verb: char, n: i64) -> Option<String> {
        let magnitude = n.unsigned_abs();
        let prefix = |text: &'static str| if self.sharp { text } else { "" };
        let digits = match verb {
            'd' => magnitude.to_string(),
            'b' => format!("{}{magnitude:b}", prefix("0b")),
            'o' => format!("{}{magnitude:o}", prefix("0")),
            'O' => format!("0o{magnitude:o}"),
            'x' => format!("{}{magnitude:x}", prefix("0x")),
            'X' => format!("{}{magnitude:X}", prefix("0X")),
            'c' => return u32::try_from(n).ok().and_then(char::from_u32).map(String::from),
            'q' => return u32::try_from(n).ok().and_then(char::from_u32).map(|c| format!("'{c}'")),
            'U' => return Some(format!("U+{n:04X}")),
            _ => return None,
        };
        Some(self.signed(n < 0, digits))
    }

    fn float(&self, verb: char, v: f64) -> Option<String> {
        let text = match verb {
            'f' | 'F' => special(v).unwrap_or_else(|| format!("{:.*}", self.precision.unwrap_or(6), v)),
            'e' | 'E' => scientific(v, Some(self.precision.unwrap_or(6))),
            'g' | 'G' => self.precision.map_or_else(|| shortest(v), |digits| significant(v, digits)),
            _ => return None,
        };
        let text = if verb.is_uppercase() && v.is_finite() { text.to_uppercase() } else { text };
        Some(match text.strip_prefix('-') {
            Some(magnitude) => self.signed(true, magnitude.to_owned()),
            None if text == "+Inf" && !self.plus => text,
            None => self.signed(false, text.trim_start_matches('+').to_owned()),
        })
    }

    fn signed(&self, negative: bool, magnitude: String) -> String {
        match (negative, self.plus, self.space) {
            (true, ..) => format!("-{magnitude}"),
            (_, true, _) => format!("+{magnitude}"),
            (_, _, true) => format!(" {magnitude}"),
            _ => magnitude,
        }
    }
}

/// As Go's `strconv.Quote`.
pub fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_as_go_does() {
        let half = || Value::Float(0.5);
        let check = |format: &str, args: &[Value], expect: &str| assert_eq!(sprintf(format, args), expect, "{format}");
        check("%d", &[half()], "%!d(float64=0.5)");
        check("%.2f%%", &[half()], "0.50%");
        check("%s", &[half()], "%!s(float64=0.5)");
        check("%v and %g", &[Value::Float(1e6), Value::Float(123_456.0)], "1e+06 and 123456");
        check("%5.1f|%-6.1f|%06.2f", &[half(), half(), half()], "  0.5|0.5   |000.50");
        check("%+d % d %x %#x %b", &[1, 2, 255, 255, 5].map(Value::Int), "+1  2 ff 0xff 101");
        check("%q %s %10s", &[Value::text("a\"b"), Value::text("x"), Value::text("é")], "\"a\\\"b\" x          é");
        check("%t %v", &[Value::Bool(true), Value::Nil], "true <nil>");
        check("%[2]d %[1]d", &[1, 2].map(Value::Int), "2 1");
        check("%d", &[], "%!d(MISSING)");
        check("a", &[Value::Int(1)], "a%!(EXTRA int=1)");
        check("100%", &[], "100%!(NOVERB)");
        check("%e %.3g", &[Value::Float(12_345.0), Value::Float(0.000_012_345)], "1.234500e+04 1.23e-05");
        check("%f", &[Value::Float(f64::INFINITY)], "+Inf");
    }
}
