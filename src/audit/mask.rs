//! Keeps secrets out of what is said: keys, passwords and tokens that stand where they should not.

/// What stands in place of a secret.
const MASK: &str = "***";
/// Words in names of fields whose values nobody should see.
const WORDS: [&str; 10] = [
    "password",
    "passwd",
    "secret",
    "token",
    "apikey",
    "api_key",
    "api-key",
    "private_key",
    "privatekey",
    "credential",
];
/// Beginnings of keys and tokens that services hand out.
const BEGINNINGS: [&str; 12] = [
    "AKIA",
    "ASIA",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "sk_live_",
    "AIza",
    "eyJhbGciOi",
];
/// Shortest text after such a beginning that is taken for a key.
const KEY_CHARS_MIN: usize = 16;

/// Whether a value that stands under a name is one that nobody should see. Names of secrets and templates are not.
pub(crate) fn looks_secret(name: &str, value: &str) -> bool {
    // A file in a ConfigMap holds many lines: any of them may hold one.
    let block = value.contains("-----BEGIN") && value.contains("PRIVATE KEY-----");
    block || mask(value) != value || (named_secret(name) && plain_value(value))
}

fn named_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    let reference = [
        "_file",
        "-file",
        "_path",
        "-path",
        "_name",
        "-name",
        "secretname",
        "_url",
        "ref",
        "_ttl",
        "_type",
        "tokenurl",
        "lifetime",
    ];
    WORDS.iter().any(|word| name.contains(word)) && !reference.iter().any(|end| name.ends_with(end))
}

/// A value that is itself the secret: one word that is no flag, no number of seconds, no template, no path.
fn plain_value(value: &str) -> bool {
    let value = value.trim().trim_matches(['"', '\'']);
    !(value.is_empty()
        || value.contains(char::is_whitespace)
        || value.starts_with(['$', '{', '/', '*', '<'])
        || matches!(value, "true" | "false" | "null" | "none" | "~"))
}

/// The text with what looks like a secret covered.
pub(crate) fn mask(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_block = false;
    for line in text.split_inclusive('\n') {
        if line.contains("-----BEGIN") && line.contains("PRIVATE KEY") {
            in_block = !line.contains("-----END");
            out.push_str(MASK);
            out.push_str(if line.ends_with('\n') { "\n" } else { "" });
            continue;
        }
        if in_block {
            in_block = !line.contains("-----END");
            continue;
        }
        out.push_str(&mask_line(line));
    }
    out
}

/// `password: x`, `password=x`, `"password": "x"`, URLs with a password, and keys that are known by how they begin.
fn mask_line(line: &str) -> String {
    let body = line.trim_end_matches(['\n', '\r']);
    let end = &line[body.len()..];
    if let Some(at) = body.find([':', '=']) {
        let name = body[..at].trim().trim_start_matches("- ").trim_matches(['"', '\'']);
        let value = body[at + 1..].trim().trim_end_matches(',');
        let word = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
        if word && named_secret(name) && plain_value(value) {
            return format!("{} {MASK}{end}", &body[..=at]);
        }
    }
    let mut out = String::with_capacity(body.len());
    for word in body.split_inclusive(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | ',')) {
        let bare = word.trim_end_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | ','));
        let rest = &word[bare.len()..];
        let key =
            BEGINNINGS.iter().any(|begin| bare.strip_prefix(begin).is_some_and(|more| more.len() >= KEY_CHARS_MIN));
        match (key, login(bare)) {
            (true, _) => out.push_str(MASK),
            (false, Some((before, after))) => out.push_str(&format!("{before}{MASK}@{after}")),
            (false, None) => out.push_str(bare),
        }
        out.push_str(rest);
    }
    out + end
}

/// `postgres://name:password@host`: what stands around the password.
fn login(word: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = word.split_once("://")?;
    let (login, after) = rest.split_once('@')?;
    let (name, password) = login.split_once(':')?;
    let known = !password.is_empty() && !password.starts_with(['$', '{']) && password != MASK && !login.contains('/');
    known.then(|| (&word[..scheme.len() + 3 + name.len() + 1], after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_covered_and_the_rest_is_left() {
        for (text, expected) in [
            ("password: hunter2", "password: ***"),
            ("DB_PASSWORD=hunter2\nHOST=db", "DB_PASSWORD= ***\nHOST=db"),
            ("use postgres://shop:hunter2@db:5432/shop now", "use postgres://shop:***@db:5432/shop now"),
            ("key ghp_0123456789abcdefABCDEF0123456789abcd here", "key *** here"),
            ("a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nb", "a\n***\nb"),
            ("unknown field `weigth`, did you mean `weight`?", "unknown field `weigth`, did you mean `weight`?"),
            ("tokenLifetime: 5", "tokenLifetime: 5"),
            ("password: ${DB_PASSWORD}", "password: ${DB_PASSWORD}"),
        ] {
            assert_eq!(mask(text), expected);
        }
    }

    #[test]
    fn names_tell_secrets_but_not_where_they_are_kept() {
        for (name, value, expected) in [
            ("DB_PASSWORD", "hunter2", true),
            ("DB_PASSWORD_FILE", "/run/secret", false),
            ("tls.key", "-----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----", true),
            ("secretName", "tls", false),
            ("app.properties", "a=b\ndb.password=hunter2\n", true),
            ("LOG_LEVEL", "debug", false),
            ("token_ttl", "300", false),
            ("mesh", "accessLogFile: /dev/stdout\n", false),
        ] {
            assert_eq!(looks_secret(name, value), expected, "{name}");
        }
    }
}
