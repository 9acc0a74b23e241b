//! Regular expressions as Go reads them: RE2's dialect, read once, refused in Go's words, written anew for the crate `regex`.
//!
//! In: an expression. Out: the same expression in the syntax of `regex`, or what Go says of it. Rules: regexp/syntax/parse.go
//! with the flags of `regexp.Compile`. Invariant: every character of the output was written here, so nothing of the
//! input is read by the other dialect's rules (`{` without a number, set operators in brackets, Unicode's `\d`, `(?x)`).

use super::RegexError;

/// Most that repeats within each other may come to.
const REPEATS_MAX: u32 = 1000;
const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

/// Rewrites `pattern`.
///
/// # Errors
/// What Go's `regexp.Compile` finds wrong: its words, and the part that it names.
pub(super) fn translate(pattern: &str) -> Result<String, RegexError> {
    let mut reader = Reader {
        pattern,
        at: 0,
        out: String::with_capacity(pattern.len() + 8),
        flags: String::new(),
        open: Vec::new(),
        within: 1,
        last: None,
        names: Vec::new(),
    };
    let mut repeated = None;
    while reader.at < pattern.len() {
        repeated = reader.step(repeated)?;
    }
    match reader.open.is_empty() {
        true => Ok(reader.out),
        false => Err(fault("missing closing )", pattern)),
    }
}

fn fault(reason: &str, fragment: &str) -> RegexError {
    RegexError { pattern: fragment.to_owned(), reason: reason.to_owned() }
}

struct Reader<'p> {
    pattern: &'p str,
    at: usize,
    out: String,
    /// `(?i)` that holds from the next part on: before a repeat it must not stand, as here it would be what is repeated.
    flags: String,
    /// Of each open group the greatest product of repeats before it.
    open: Vec<u32>,
    within: u32,
    /// Product of the repeats in what a repeat would repeat now, if there is anything.
    last: Option<u32>,
    names: Vec<&'p str>,
}

type Read<T> = Result<T, RegexError>;

impl<'p> Reader<'p> {
    fn rest(&self) -> &'p str {
        &self.pattern[self.at..]
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.rest().chars().next()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// Reads one part. `repeated` is where the last part began if it was a repeat; so is what is returned.
    fn step(&mut self, repeated: Option<usize>) -> Read<Option<usize>> {
        let (start, rest) = (self.at, self.rest());
        let Some(c) = self.bump() else { return Ok(None) };
        match c {
            '(' if rest.starts_with("(?") => self.special_group(start)?,
            '(' => self.group("("),
            ')' => self.close()?,
            '|' => {
                self.write("|");
                self.last = None;
            }
            '*' | '+' | '?' => return self.repeat(start, &rest[..1], 1, repeated).map(Some),
            '{' => match repeat_of(rest) {
                Some((length, least, most)) => {
                    self.at = start + length;
                    let whole = &rest[..length];
                    if least > REPEATS_MAX || most > REPEATS_MAX || most < least {
                        return Err(fault("invalid repeat count", whole));
                    }
                    return self.repeat(start, whole, most, repeated).map(Some);
                }
                None => self.atom("\\{"),
            },
            '[' => {
                let class = self.class(start)?;
                self.atom(&class);
            }
            '\\' => self.escape(start)?,
            '^' | '$' | '.' => self.atom(&rest[..1]),
            c => self.atom(&literal(u32::from(c))),
        }
        Ok(None)
    }

    fn write(&mut self, text: &str) {
        let flags = std::mem::take(&mut self.flags);
        self.out.push_str(&flags);
        self.out.push_str(text);
    }

    fn atom(&mut self, text: &str) {
        self.write(text);
        self.last = Some(1);
    }

    fn group(&mut self, text: &str) {
        self.write(text);
        self.open.push(std::mem::replace(&mut self.within, 1));
        self.last = None;
    }

    fn close(&mut self) -> Read<()> {
        let before = self.open.pop().ok_or_else(|| fault("unexpected )", self.pattern))?;
        // Flags end with their group.
        self.flags.clear();
        self.out.push(')');
        self.last = Some(self.within);
        self.within = self.within.max(before);
        Ok(())
    }

    /// A repeat that begins at `start` and was written `sign`; `times` is what it comes to at most, 0 and 1 being no matter.
    fn repeat(&mut self, start: usize, sign: &str, times: u32, repeated: Option<usize>) -> Read<usize> {
        let mut lazy = "";
        if self.rest().starts_with('?') {
            self.at += 1;
            lazy = "?";
        }
        let whole = &self.pattern[start..self.at];
        if let Some(first) = repeated {
            return Err(fault("invalid nested repetition operator", &self.pattern[first..self.at]));
        }
        let Some(inner) = self.last else { return Err(fault("missing argument to repetition operator", whole)) };
        if sign.starts_with('{') {
            let product = if times == 0 { 1 } else { inner.saturating_mul(times) };
            if product > REPEATS_MAX {
                return Err(fault("invalid repeat count", whole));
            }
            (self.last, self.within) = (Some(product), self.within.max(product));
        }
        self.out.push_str(sign);
        self.out.push_str(lazy);
        Ok(start)
    }

    /// `(?…`: a named group, or flags for a group or from here on.
    fn special_group(&mut self, start: usize) -> Read<()> {
        let rest = &self.pattern[start..];
        let name_at = match () {
            () if rest.len() > 4 && rest.starts_with("(?P<") => Some(4),
            () if rest.len() > 3 && rest.starts_with("(?<") => Some(3),
            () => None,
        };
        if let Some(name_at) = name_at {
            let invalid = |whole| Err(fault("invalid named capture", whole));
            let Some(end) = rest.find('>') else { return invalid(rest) };
            let name = rest.get(name_at..end).unwrap_or_default();
            if name.is_empty() || !name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric()) {
                return invalid(&rest[..=end]);
            }
            self.at = start + end + 1;
            // A name given twice, or one that begins with a digit, is a number only for `regex`.
            let plain = name.starts_with(|c: char| c.is_ascii_digit()) || self.names.contains(&name);
            self.names.push(name);
            self.group(&if plain { "(".to_owned() } else { format!("(?P<{name}>") });
            return Ok(());
        }
        self.at = start + 2;
        let (mut flags, mut negative, mut any) = (String::from("(?"), false, false);
        while let Some(c) = self.bump() {
            match c {
                'i' | 'm' | 's' | 'U' => {
                    // A flag twice is an error of `regex`; the last says what holds.
                    flags.push(c);
                    any = true;
                }
                '-' if !negative => {
                    (negative, any) = (true, false);
                    flags.push('-');
                }
                ':' | ')' if any || !negative => {
                    let flags = tidy_flags(&flags);
                    match c {
                        ':' => self.group(&format!("(?{flags}:")),
                        _ if flags.is_empty() => {}
                        _ => self.flags.push_str(&format!("(?{flags})")),
                    }
                    return Ok(());
                }
                _ => break,
            }
        }
        Err(fault("invalid or unsupported Perl syntax", &self.pattern[start..self.at]))
    }

    /// After a backslash at `start`, outside brackets.
    fn escape(&mut self, start: usize) -> Read<()> {
        match self.rest().chars().next() {
            Some('A' | 'z') => {
                let text = &self.pattern[start..start + 2];
                self.at += 1;
                self.atom(text);
            }
            Some('b') => {
                self.at += 1;
                self.atom(r"(?-u:\b)");
            }
            Some('B') => {
                self.at += 1;
                self.atom(r"(?-u:\B)");
            }
            Some('Q') => {
                self.at += 1;
                let rest = self.rest();
                let (quoted, length) = rest.find("\\E").map_or((rest, rest.len()), |end| (&rest[..end], end + 2));
                self.at += length;
                quoted.chars().for_each(|c| self.atom(&literal(u32::from(c))));
            }
            _ => {
                let text = match self.set(start)? {
                    Some(set) => format!("[{set}]"),
                    None => literal(self.character(start)?),
                };
                self.atom(&text);
            }
        }
        Ok(())
    }

    /// `\d`, `\pL` and their like after a backslash at `start`, as they stand in brackets.
    fn set(&mut self, start: usize) -> Read<Option<String>> {
        let rest = self.rest();
        let known = match rest.chars().next() {
            Some('d') => "0-9",
            Some('D') => "[^0-9]",
            Some('s') => r"\t\n\f\r\x20",
            Some('S') => r"[^\t\n\f\r\x20]",
            Some('w') => "0-9A-Za-z_",
            Some('W') => "[^0-9A-Za-z_]",
            Some('p' | 'P') => return self.unicode_set(start).map(Some),
            _ => return Ok(None),
        };
        self.at += 1;
        Ok(Some(known.to_owned()))
    }

    fn unicode_set(&mut self, start: usize) -> Read<String> {
        let invalid = |whole| Err(fault("invalid character class range", whole));
        let mut negative = self.bump() == Some('P');
        let name = match self.bump() {
            None => return invalid(&self.pattern[start..]),
            Some('{') => {
                let rest = self.rest();
                let Some(end) = rest.find('}') else { return invalid(&self.pattern[start..]) };
                self.at += end + 1;
                &rest[..end]
            }
            Some(c) => &self.pattern[self.at - c.len_utf8()..self.at],
        };
        let (name, again) = name.strip_prefix('^').map_or((name, false), |name| (name, true));
        negative ^= again;
        // Go knows the short names of categories and the full ones of scripts, spelled as Unicode does.
        let mut letters = name.chars();
        let spelled = letters.next().is_some_and(|c| c.is_ascii_uppercase())
            && letters.all(|c| c == '_' || c.is_ascii_alphabetic())
            && !LONG_CATEGORIES.contains(&name);
        let set = format!("\\{}{{{name}}}", if negative { 'P' } else { 'p' });
        if !spelled || regex::Regex::new(&set).is_err() {
            return invalid(&self.pattern[start..self.at]);
        }
        Ok(set)
    }

    /// One character after a backslash at `start`.
    fn character(&mut self, start: usize) -> Read<u32> {
        let Some(c) = self.bump() else { return Err(fault("trailing backslash at end of expression", "")) };
        let read = match c {
            '0'..='7' => self.octal(c),
            'x' => self.hexadecimal(),
            'a' => Some(7),
            'f' => Some(12),
            'n' => Some(10),
            'r' => Some(13),
            't' => Some(9),
            'v' => Some(11),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(u32::from(c)),
            _ => None,
        };
        read.ok_or_else(|| fault("invalid escape sequence", &self.pattern[start..self.at]))
    }

    /// Up to three digits; one alone but 0 would be a reference to a group, which there is not.
    fn octal(&mut self, first: char) -> Option<u32> {
        let digit = |reader: &Self| reader.rest().chars().next().and_then(|c| c.to_digit(8));
        if first != '0' {
            digit(self)?;
        }
        let mut value = first.to_digit(8)?;
        for _ in 0..2 {
            let Some(digit) = digit(self) else { break };
            value = value * 8 + digit;
            self.at += 1;
        }
        Some(value)
    }

    fn hexadecimal(&mut self) -> Option<u32> {
        let first = self.bump()?;
        if first != '{' {
            let second = self.bump()?.to_digit(16);
            return Some(first.to_digit(16)? * 16 + second?);
        }
        let (mut value, mut digits) = (0, 0);
        loop {
            match self.bump()? {
                '}' => return (digits > 0).then_some(value),
                c => value = value * 16 + c.to_digit(16)?,
            }
            digits += 1;
            if value > u32::from(char::MAX) {
                return None;
            }
        }
    }

    /// Brackets that opened at `start`.
    fn class(&mut self, start: usize) -> Read<String> {
        let mut out = String::from("[");
        if self.rest().starts_with('^') {
            self.at += 1;
            out.push('^');
        }
        let mut first = true;
        while first || !self.rest().starts_with(']') {
            first = false;
            if self.posix(&mut out)? {
                continue;
            }
            let begin = self.at;
            if self.rest().starts_with('\\') {
                self.at += 1;
                if let Some(set) = self.set(begin)? {
                    out.push_str(&set);
                    continue;
                }
                self.at = begin;
            }
            let low = self.class_character(start)?;
            let mut high = low;
            let rest = self.rest();
            if rest.len() > 1 && rest.starts_with('-') && !rest.starts_with("-]") {
                self.at += 1;
                high = self.class_character(start)?;
                if high < low {
                    return Err(fault("invalid character class range", &self.pattern[begin..self.at]));
                }
            }
            push_range(&mut out, low, high);
        }
        self.at += 1;
        // What held surrogates only is empty.
        match out.as_str() {
            "[" => out.push_str(r"^\x{0}-\x{10FFFF}"),
            "[^" => out = r"[\x{0}-\x{10FFFF}".to_owned(),
            _ => {}
        }
        out.push(']');
        Ok(out)
    }

    /// `[:alpha:]`, when it follows.
    fn posix(&mut self, out: &mut String) -> Read<bool> {
        let rest = self.rest();
        let end = rest.strip_prefix("[:").and_then(|inside| inside.find(":]"));
        let Some(end) = end else { return Ok(false) };
        let whole = &rest[..end + 4];
        let name = &whole[2..end + 2];
        if !POSIX.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return Err(fault("invalid character class range", whole));
        }
        self.at += whole.len();
        out.push_str(whole);
        Ok(true)
    }

    fn class_character(&mut self, class: usize) -> Read<u32> {
        let at = self.at;
        match self.bump() {
            None => Err(fault("missing closing ]", &self.pattern[class..])),
            Some('\\') => self.character(at),
            Some(c) => Ok(u32::from(c)),
        }
    }
}

/// Long names of categories, which `regex` reads and Go does not.
const LONG_CATEGORIES: [&str; 8] = ["Letter", "Mark", "Number", "Punctuation", "Symbol", "Separator", "Other", "ASCII"];

/// The flags between `(?` and its end, each once, those off last.
fn tidy_flags(written: &str) -> String {
    let (on, off) = written.trim_start_matches("(?").split_once('-').unwrap_or((written.trim_start_matches("(?"), ""));
    let mut out: String = "imsU".chars().filter(|c| on.contains(*c) && !off.contains(*c)).collect();
    let off: String = "imsU".chars().filter(|c| off.contains(*c)).collect();
    if !off.is_empty() {
        out.push('-');
        out.push_str(&off);
    }
    out
}

/// A character of its own. Go takes surrogates, which no text holds.
fn literal(code: u32) -> String {
    match char::from_u32(code) {
        Some(c) => regex::escape(c.encode_utf8(&mut [0; 4])),
        None => r"[^\x{0}-\x{10FFFF}]".to_owned(),
    }
}

fn push_range(out: &mut String, low: u32, high: u32) {
    const SURROGATES: std::ops::Range<u32> = 0xd800..0xe000;
    let low = if SURROGATES.contains(&low) { SURROGATES.end } else { low };
    let high = if SURROGATES.contains(&high) { SURROGATES.start - 1 } else { high };
    if low <= high {
        out.push_str(&format!("\\x{{{low:x}}}-\\x{{{high:x}}}"));
    }
}

/// The length of `{n}`, `{n,}` or `{n,m}` at the beginning, its least, and its most: the least where it has no end.
fn repeat_of(rest: &str) -> Option<(usize, u32, u32)> {
    let end = rest.find('}')?;
    let inside = &rest[1..end];
    let (least, most) = inside.split_once(',').unwrap_or((inside, ""));
    let least = count(least)?;
    Some((end + 1, least, if most.is_empty() { least } else { count(most)? }))
}

/// Digits without a leading zero, as a number.
fn count(digits: &str) -> Option<u32> {
    let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    let plain = is_number && (digits.len() == 1 || !digits.starts_with('0'));
    plain.then(|| digits.parse().unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::anchored_regex;

    #[test]
    fn means_what_it_means_in_go() {
        for (pattern, text, expect) in [
            (r"a{", "a{", true),
            (r"{}|a{,2}|{b", "a{,2}", true),
            (r"a{01}", "a{01}", true),
            (r"a(?i)+", "aaa", true),
            (r"a(?i)+", "aA", false),
            (r"a*(?i)*b", "aaB", true),
            (r"x(?i)|a", "A", true),
            (r"(x(?i)|a)b", "AB", false),
            (r"(?P<n>a)(?P<n>b)(?<1c>c)", "abc", true),
            (r"\12\x41\x{e9}\_\-", "\nAé_-", true),
            (r"\x{D800}|[\x{D800}]", "a", false),
            (r"[^\x{D800}]", "a", true),
            (r"[a&&b]", "&", true),
            (r"[+--]|[--/]", ".", true),
            (r"[[a]", "[", true),
            (r"[]a]+", "]a", true),
            (r"[[:^alpha:]]\pL\p{^Greek}\P{Lu}", "1aba", true),
            (r"\d", "٣", false),
            (r"[\D]", "٣", true),
            (r"é\bx", "éx", true),
            (r"a\Bb", "ab", true),
            (r"é\Bé", "éé", true),
            (r"\Qa.b\E+", "a.bb", true),
            (r"(?U)a+?(?-U:b)", "aab", true),
            (r"(?ii-ss)A", "a", true),
            (r"$?a^*", "a", true),
            (r"a#b c", "a#b c", true),
        ] {
            let regex = anchored_regex(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
            assert_eq!(regex.is_match(text), expect, "{pattern} on {text:?}: {regex}");
        }
    }

    #[test]
    fn refuses_in_the_words_of_go() {
        for (pattern, reason, fragment) in [
            (")))({", "unexpected )", ")))({"),
            ("(a", "missing closing )", "(a"),
            ("l[at", "missing closing ]", "[at"),
            ("[z-a]b", "invalid character class range", "z-a"),
            ("[[:foo:]]", "invalid character class range", "[:foo:]"),
            (r"x\p{greek}", "invalid character class range", r"\p{greek}"),
            (r"\p{Letter}", "invalid character class range", r"\p{Letter}"),
            (r"\p", "invalid character class range", r"\p"),
            (r"\p{", "invalid character class range", r"\p{"),
            ("*?^", "missing argument to repetition operator", "*?"),
            (r"\Q\E*", "missing argument to repetition operator", "*"),
            ("(?i)+", "missing argument to repetition operator", "+"),
            ("a|{2}", "missing argument to repetition operator", "{2}"),
            ("a**b", "invalid nested repetition operator", "**"),
            ("a{1,2}{3}", "invalid nested repetition operator", "{1,2}{3}"),
            ("{2,1}", "invalid repeat count", "{2,1}"),
            (r"a\", "trailing backslash at end of expression", ""),
            (r"[a-\", "trailing backslash at end of expression", ""),
            (r"\8", "invalid escape sequence", r"\8"),
            (r"a\1b", "invalid escape sequence", r"\1"),
            (r"\C", "invalid escape sequence", r"\C"),
            (r"\é", "invalid escape sequence", r"\é"),
            (r"\xZZ", "invalid escape sequence", r"\xZZ"),
            (r"\x{110000}", "invalid escape sequence", r"\x{110000"),
            (r"[a-\d]", "invalid escape sequence", r"\d"),
            ("(?n)", "invalid or unsupported Perl syntax", "(?n"),
            ("(?=a)", "invalid or unsupported Perl syntax", "(?="),
            ("(?i-)a", "invalid or unsupported Perl syntax", "(?i-)"),
            ("(?--i)", "invalid or unsupported Perl syntax", "(?--"),
            ("(?s-i", "invalid or unsupported Perl syntax", "(?s-i"),
            ("(?P=n)", "invalid or unsupported Perl syntax", "(?P"),
            ("(?P<n", "invalid named capture", "(?P<n"),
            ("(?P<é>r)", "invalid named capture", "(?P<é>"),
        ] {
            let error = translate(pattern).expect_err(pattern);
            assert_eq!((error.reason.as_str(), error.pattern.as_str()), (reason, fragment), "{pattern}");
        }
    }

    #[test]
    fn bounds_repeats() {
        // 3.5.3 was seen to refuse the first and the two of nested groups.
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
        ] {
            let refused = translate(pattern).err().map(|error| (error.reason, error.pattern));
            assert_eq!(refused, expect.map(|part| ("invalid repeat count".to_owned(), part.to_owned())), "{pattern}");
        }
    }
}
