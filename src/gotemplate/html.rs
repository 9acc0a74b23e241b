//! What a value prints inside of an HTML document, escaped for the place where it stands (Go's `html/template`).
//!
//! In: the document's own text as it passes, values. Out: escaped texts. Pure. Invariant: a value cannot open or close a
//! tag, an attribute, a script or a comment. Values inside of scripts, styles, comments and tags are not offered: they
//! print as `ZgotmplZ`, Go's word for a text that was refused.

use super::value::Value;

const REFUSED: &str = "ZgotmplZ";

/// Where in the document the next character stands.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
enum Place {
    #[default]
    Text,
    /// Inside of `<name …`, between attributes.
    Tag,
    /// Inside of an attribute's value.
    Value { quote: Option<char>, is_url: bool, begun: bool, in_query: bool },
    /// Inside of `<!-- -->`.
    Comment,
    /// Inside of an element whose text is code.
    Code(&'static str),
}

/// Follows a document.
#[derive(Clone, Debug, Default)]
pub struct Escaper {
    place: Place,
    /// Name of the tag that is open.
    tag: String,
    /// Name of the attribute that was read last.
    attribute: String,
}

impl Escaper {
    /// Takes note of a piece of the document's own text.
    pub fn pass(&mut self, text: &str) {
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            rest = self.step(c, rest);
        }
    }

    fn step<'t>(&mut self, c: char, rest: &'t str) -> &'t str {
        let next = &rest[c.len_utf8()..];
        match &mut self.place {
            Place::Text if rest.starts_with("<!--") => self.place = Place::Comment,
            Place::Text if c == '<' && next.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/') => {
                let end = next.find(|c: char| !c.is_ascii_alphanumeric() && c != '/').unwrap_or(next.len());
                self.tag = next[..end].to_ascii_lowercase();
                (self.place, self.attribute) = (Place::Tag, String::new());
                return &next[end..];
            }
            Place::Comment if rest.starts_with("-->") => {
                self.place = Place::Text;
                return &rest[3..];
            }
            Place::Code(name) => {
                let closes = c == '<'
                    && next
                        .strip_prefix('/')
                        .and_then(|tag| tag.get(..name.len()))
                        .is_some_and(|tag| tag.eq_ignore_ascii_case(name));
                if closes {
                    self.place = Place::Text;
                    return rest;
                }
            }
            Place::Tag => return self.in_tag(c, next),
            Place::Value { quote, begun, in_query, .. } => {
                let ends = quote.map_or(c.is_whitespace() || c == '>', |quote| quote == c);
                (*begun, *in_query) = (true, *in_query || c == '?' || c == '#');
                if ends {
                    self.place = Place::Tag;
                    return if c == '>' { rest } else { next };
                }
            }
            Place::Text | Place::Comment => {}
        }
        next
    }

    fn in_tag<'t>(&mut self, c: char, next: &'t str) -> &'t str {
        match c {
            '>' => {
                self.place = match self.tag.as_str() {
                    "script" => Place::Code("script"),
                    "style" => Place::Code("style"),
                    _ => Place::Text,
                };
            }
            '=' => {
                let value = next.trim_start();
                let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
                let is_url = ["href", "src", "action", "formaction", "cite", "poster", "background", "srcset"]
                    .contains(&self.attribute.as_str());
                self.place = Place::Value { quote, is_url, begun: false, in_query: false };
                return if quote.is_some() { &value[1..] } else { value };
            }
            c if c.is_whitespace() || c == '/' => self.attribute.clear(),
            c => self.attribute.push(c.to_ascii_lowercase()),
        }
        next
    }

    /// What the value prints here.
    pub fn escaped(&self, value: &Value) -> String {
        let text = value.to_string();
        let is_a = |name: &str| matches!(value, Value::Safe(kind, _) if *kind == name);
        match &self.place {
            Place::Text if is_a("template.HTML") => text,
            Place::Text => escape(&text, false),
            Place::Comment => String::new(),
            Place::Value { .. } if self.attribute == "style" || self.attribute.starts_with("on") => REFUSED.to_owned(),
            Place::Value { quote, is_url: true, begun, in_query } => {
                let url = match () {
                    () if *in_query => query_escape(&text),
                    () if *begun || is_a("template.URL") || has_safe_scheme(&text) => normalized(&text),
                    () => format!("#{REFUSED}"),
                };
                escape(&url, quote.is_none())
            }
            Place::Value { quote, .. } => escape(&text, quote.is_none()),
            Place::Tag | Place::Code(_) => REFUSED.to_owned(),
        }
    }
}

/// As Go's `html/template` replaces characters; an attribute without quotes needs more of them.
fn escape(text: &str, is_bare: bool) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\0' => out.push('\u{fffd}'),
            '"' => out.push_str("&#34;"),
            '&' => out.push_str("&amp;"),
            '\'' => out.push_str("&#39;"),
            '+' => out.push_str("&#43;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\t' | '\n' | '\r' | ' ' | '=' | '`' | '\x0b' | '\x0c' if is_bare => {
                out.push_str(&format!("&#{};", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out
}

/// Whether following the address cannot run code: a relative one, or http, https, mailto.
fn has_safe_scheme(url: &str) -> bool {
    match url.split_once(':') {
        Some((scheme, _)) if !scheme.contains('/') => {
            ["http", "https", "mailto"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
        }
        _ => true,
    }
}

/// Percent-encodes what may not stand in an address; what is encoded stays so.
fn normalized(url: &str) -> String {
    percent_encoded(url, |byte| byte.is_ascii_alphanumeric() || b"-._~!#$&*+,/:;=?@[]%".contains(&byte))
}

fn query_escape(text: &str) -> String {
    percent_encoded(text, |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
}

fn percent_encoded(text: &str, keeps: impl Fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        match keeps(byte) {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02x}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_by_place() {
        let check = |before: &str, value: Value, expect: &str| {
            let mut escaper = Escaper::default();
            escaper.pass(before);
            assert_eq!(escaper.escaped(&value), expect, "{before}");
        };
        let hostile = || Value::text("<b a='1'>&\"+");
        check("<p>", hostile(), "&lt;b a=&#39;1&#39;&gt;&amp;&#34;&#43;");
        check("<p>", Value::Safe("template.HTML", "<b>".into()), "<b>");
        check("<p title=\"", hostile(), "&lt;b a=&#39;1&#39;&gt;&amp;&#34;&#43;");
        check("<p title=", Value::text("a b"), "a&#32;b");
        check("<a href=\"", Value::text("javascript:alert(1)"), "#ZgotmplZ");
        check("<a href=\"", Value::text("http://x/?a=b&c=<d>"), "http://x/?a=b&amp;c=%3cd%3e");
        check("<a href='http://x/?q=", Value::text("a b&c"), "a%20b%26c");
        check("<a href=\"x\" title='y'>", Value::text("<"), "&lt;");
        check("<script>var x = ", Value::text("1"), "ZgotmplZ");
        check("<style>p { color: red }</style><p>", Value::text("1"), "1");
        check("<!-- ", Value::text("1"), "");
        check("<!-- --><p ", Value::text("onclick=x"), "ZgotmplZ");
        check("<p onclick=\"", Value::text("x"), "ZgotmplZ");
    }
}
