//! Takes known secrets out of texts, and what looks like one.
//!
//! The server masks what it shows already. This is the second line: whatever stands in the configuration where its redacted
//! form does not, is looked for in every text, and so are passwords in addresses and bearer tokens.
//! Invariant: a text comes out without any secret of at least [`SECRET_CHARS_MIN`] characters that was named before.

use regex::{Captures, Regex};

use crate::config::redacted;
use crate::yaml::{self, Node, Value};

/// Shorter ones would tear apart words; nobody is kept out by three letters.
const SECRET_CHARS_MIN: usize = 4;
const MASK: &str = "<secret>";

/// The user and password of an address, a header's credentials, and parameters that are named like secrets.
const LOOKS_SECRET: &str = r#"(?xi)
    (?P<url> [a-z][a-z0-9+.-]* :// [^\s/:@"'<>]* : ) [^\s/@"'<>]+ @
  | (?P<bearer> \b (?:bearer|basic) \s+ ) [a-z0-9._~+/=-]{8,}
  | (?P<parameter> [?&] (?:access_token|api_?key|auth|key|password|secret|sig|signature|token) = ) [^&\s"'<>]+
"#;

/// What must not be shown.
#[derive(Debug)]
pub(super) struct Redactor {
    secrets: Vec<String>,
    looks_secret: Regex,
}

impl Redactor {
    pub(super) fn new() -> Self {
        Self { secrets: Vec::new(), looks_secret: Regex::new(LOOKS_SECRET).expect("invariant: the pattern is valid") }
    }

    /// Remembers a secret, as it is and as a URL or JSON would write it.
    pub(super) fn hide(&mut self, secret: &str) {
        let escaped: String = reqwest::Url::parse_with_params("x:?", [("", secret)])
            .map(|url| url.query().unwrap_or_default().trim_start_matches('=').to_owned())
            .unwrap_or_default();
        let json = serde_json::Value::from(secret).to_string();
        for form in [secret, &escaped, json.trim_matches('"')] {
            if form.chars().count() >= SECRET_CHARS_MIN && !self.secrets.iter().any(|known| known == form) {
                self.secrets.push(form.to_owned());
            }
        }
        // The longest first, so that no rest of one is left by another that it contains.
        self.secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    }

    /// Remembers the password and the parameters of an address.
    pub(super) fn hide_url(&mut self, url: &str) {
        let Ok(parsed) = reqwest::Url::parse(url) else { return };
        if let Some(password) = parsed.password() {
            self.hide(password);
            let plain: String = (percent_decoded(password)).unwrap_or_default();
            self.hide(&plain);
        }
        for (name, value) in parsed.query_pairs() {
            if self.looks_secret.is_match(&format!("?{name}=x")) {
                self.hide(&value);
            }
        }
    }

    /// Remembers whatever a configuration says that its redacted form does not.
    pub(super) fn hide_all_of(&mut self, configuration: &str) {
        let (Ok(said), Ok(shown)) = (yaml::documents(configuration), yaml::documents(&redacted(configuration))) else {
            return;
        };
        said.iter().zip(&shown).for_each(|(said, shown)| self.compare(said, Some(shown)));
    }

    fn compare(&mut self, said: &Node, shown: Option<&Node>) {
        if shown.is_some_and(|shown| shown.as_str() == Some(MASK)) {
            return self.hide_below(said);
        }
        match &said.value {
            Value::Sequence(items) => {
                let shown = shown.map(Node::items).unwrap_or_default();
                items.iter().enumerate().for_each(|(i, item)| self.compare(item, shown.get(i)));
            }
            Value::Mapping(entries) => {
                for (key, value) in entries {
                    let under = key.as_str().and_then(|key| shown?.get(key));
                    self.compare(value, under);
                }
            }
            Value::String(text) if shown.and_then(Node::as_str) != Some(text) => {
                self.hide(text);
                self.hide_url(text);
            }
            _ => {}
        }
    }

    fn hide_below(&mut self, node: &Node) {
        if let Some(text) = node.as_str() {
            self.hide(text);
            self.hide_parts(text);
        }
        node.items().iter().for_each(|item| self.hide_below(item));
        node.entries().iter().for_each(|(_, value)| self.hide_below(value));
    }

    /// Of an address that is a secret as a whole: the parts that look drawn at random. Its host, and paths that every
    /// server has, are told in many places.
    fn hide_parts(&mut self, text: &str) {
        let Ok(url) = reqwest::Url::parse(text) else { return };
        self.hide_url(text);
        let is_drawn = |part: &str| part.len() >= 20 || part.len() >= 6 && part.contains(|c: char| c.is_ascii_digit());
        let parts = url.path_segments().into_iter().flatten().map(str::to_owned);
        let parts: Vec<String> = parts.chain(url.query_pairs().map(|(_, value)| value.into_owned())).collect();
        parts.iter().filter(|part| is_drawn(part)).for_each(|part| self.hide(part));
    }

    /// The text without secrets.
    pub(super) fn of(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), MASK);
            }
        }
        let masked = self.looks_secret.replace_all(&text, |found: &Captures<'_>| {
            let before = |name: &str| found.name(name).map(|part| part.as_str().to_owned());
            match (before("url"), before("bearer").or_else(|| before("parameter"))) {
                (Some(url), _) => format!("{url}{MASK}@"),
                (None, rest) => format!("{}{MASK}", rest.unwrap_or_default()),
            }
        });
        masked.into_owned()
    }
}

/// `%41` as `A`; `None` when that is not a text.
fn percent_decoded(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let code = (*first == b'%').then(|| std::str::from_utf8(after.get(..2)?).ok()).flatten();
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_configuration_hides_is_hidden_everywhere() {
        let mut redactor = Redactor::new();
        redactor.hide_all_of(
            "scrape_configs: [{job_name: a, basic_auth: {username: ann, password: hunter22}}]\n\
             receivers: [{name: r, webhook_configs: [{url: 'http://chat.example/hooks/T00012345?k=abc4def'}]}]\n\
             storage: {database_url: 'postgres://me:p%40ssw0rd@db/mesh'}",
        );
        let check = |text: &str, expect: &str| assert_eq!(redactor.of(text), expect, "{text}");
        check("login ann hunter22 refused", "login ann <secret> refused");
        check("POST /hooks/T00012345 failed", "POST /hooks/<secret> failed");
        check("k is abc4def", "k is <secret>");
        check("p@ssw0rd or p%40ssw0rd", "<secret> or <secret>");
        check("chat.example is down", "chat.example is down");
    }

    #[test]
    fn what_looks_like_a_secret_is_hidden_without_being_known() {
        let redactor = Redactor::new();
        let check = |text: &str, expect: &str| assert_eq!(redactor.of(text), expect, "{text}");
        check("postgres://me:pw@db/x", "postgres://me:<secret>@db/x");
        check("GET http://a/?token=abc&b=1", "GET http://a/?token=<secret>&b=1");
        check("Authorization: Bearer abcdefgh.1", "Authorization: Bearer <secret>");
        check("http://10.0.0.1:15020/stats", "http://10.0.0.1:15020/stats");
        check("basic auth is on", "basic auth is on");
        check("[fd00::1]:80 user@host", "[fd00::1]:80 user@host");
    }

    #[test]
    fn secrets_too_short_leave_texts_whole_and_longer_ones_come_first() {
        let mut redactor = Redactor::new();
        ["up", "hunter", "hunter22"].iter().for_each(|secret| redactor.hide(secret));
        assert_eq!(redactor.of("up hunter22 hunter"), "up <secret> <secret>");
    }
}
