//! The web configuration file as written, and the checks that make rules of it.
//!
//! In: the settings of a listener. Out: [`Rules`], or every mistake at once, and what was read. Relative paths are taken
//! from the folder of the file. Invariant: no message holds a value of the file that may be a secret.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use http::header::{HeaderName, HeaderValue};
use parking_lot::Mutex;
use serde::Deserialize;

use super::{Error, Files, Rules, Settings, passwords, tls};
use crate::units::{PromDuration, Secret};
use crate::yaml;

/// Headers that may be set, as in exporter-toolkit's `web/handler.go`, and what they may say (anything when empty).
const HEADERS: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-XSS-Protection", &[]),
    ("Strict-Transport-Security", &[]),
];
/// Least characters of a token: 16 random bytes, base64.
const TOKEN_CHARACTERS_MIN: usize = 16;

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    tls_server_config: Option<TlsServer>,
    http_server_config: HttpServer,
    basic_auth_users: BTreeMap<String, Secret>,
    rate_limit: RateLimit,
}

/// `tls_server_config`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TlsServer {
    pub(super) cert: String,
    pub(super) key: Secret,
    pub(super) client_ca: String,
    pub(super) cert_file: PathBuf,
    pub(super) key_file: PathBuf,
    pub(super) client_ca_file: PathBuf,
    pub(super) client_auth_type: String,
    pub(super) client_allowed_sans: Vec<String>,
    pub(super) min_version: String,
    pub(super) max_version: String,
    pub(super) cipher_suites: Vec<String>,
    pub(super) curve_preferences: Vec<String>,
    pub(super) prefer_server_cipher_suites: bool,
}

impl TlsServer {
    /// Whether a client's certificate that is shown is one that the authorities signed.
    fn verifies_clients(&self) -> bool {
        matches!(self.client_auth_type.as_str(), "VerifyClientCertIfGiven" | "RequireAndVerifyClientCert")
    }
}

impl Default for TlsServer {
    fn default() -> Self {
        Self {
            cert: String::new(),
            key: Secret::default(),
            client_ca: String::new(),
            cert_file: PathBuf::new(),
            key_file: PathBuf::new(),
            client_ca_file: PathBuf::new(),
            client_auth_type: String::new(),
            client_allowed_sans: Vec::new(),
            min_version: "TLS12".to_owned(),
            max_version: "TLS13".to_owned(),
            cipher_suites: Vec::new(),
            curve_preferences: Vec::new(),
            prefer_server_cipher_suites: true,
        }
    }
}

/// `http_server_config`.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct HttpServer {
    http2: bool,
    headers: BTreeMap<String, String>,
}

impl Default for HttpServer {
    fn default() -> Self {
        Self { http2: true, headers: BTreeMap::new() }
    }
}

/// `rate_limit`: one bucket for the whole listener.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RateLimit {
    interval: PromDuration,
    burst: u32,
}

/// A token bucket: one request each interval, and as many at once as the burst.
#[derive(Debug)]
pub(super) struct Limiter {
    interval: Duration,
    burst: f64,
    held: Mutex<(f64, Instant)>,
}

impl Limiter {
    /// Whether there is a token for one request, which is then gone.
    pub(super) fn takes_one(&self) -> bool {
        self.takes_one_at(Instant::now())
    }

    fn takes_one_at(&self, now: Instant) -> bool {
        let mut held = self.held.lock();
        let grown = now.saturating_duration_since(held.1).as_secs_f64() / self.interval.as_secs_f64();
        let tokens = (held.0 + grown).min(self.burst);
        let takes = tokens >= 1.0;
        *held = (if takes { tokens - 1.0 } else { tokens }, now);
        takes
    }
}

/// What reading gave: rules or mistakes, and the files that were read.
pub(super) type Read = (Result<Rules, Error>, Files);

/// Reads all files of a listener.
pub(super) fn read(key: &'static str, settings: &Settings, needs_http2: bool) -> Read {
    let mut files = Files::default();
    let mut wrong = Vec::new();
    let mut rules = Rules::default();
    if let Some(path) = &settings.config_file {
        read_file(key, path, needs_http2, (&mut files, &mut rules, &mut wrong));
    }
    for path in &settings.bearer_token_files {
        match read_token(path, &mut files) {
            Ok(token) => rules.tokens.push((path.clone(), token)),
            Err(message) => wrong.push(message),
        }
    }
    // The outcome needs the files too, to see when they change; a refused one leaves them to the caller.
    let kept = Files(files.0.clone());
    rules.files = files;
    (if wrong.is_empty() { Ok(rules) } else { Err(Error(wrong)) }, kept)
}

/// Where what is found goes: files, rules, mistakes.
type Found<'a> = (&'a mut Files, &'a mut Rules, &'a mut Vec<String>);

fn read_file(key: &str, path: &Path, needs_http2: bool, (files, rules, wrong): Found<'_>) {
    let shown = path.display();
    let text = match files.read(path).map(String::from_utf8) {
        Ok(Ok(text)) => text,
        Ok(Err(_)) => return wrong.push(format!("{key} `{shown}` is not a text in UTF-8")),
        Err(reason) => return wrong.push(format!("{key} `{shown}`: {reason}")),
    };
    let (file, problems) = yaml::decode::<File>(&text);
    wrong.extend(problems.iter().map(|problem| format!("{shown}:{problem}")));
    let Some(file) = file else { return };
    let mut say = |message: String| wrong.push(format!("{shown}: {message}"));
    rules.headers = headers(&file.http_server_config.headers, &mut say);
    if needs_http2 && !file.http_server_config.http2 {
        say("http_server_config.http2: false cannot be here: gRPC is HTTP/2".to_owned());
    }
    for (user, hash) in &file.basic_auth_users {
        match passwords::problem(user, hash.reveal()) {
            Some(problem) => say(format!("basic_auth_users.{user}: {problem}")),
            None => _ = rules.users.insert(user.clone(), hash.reveal().to_owned()),
        }
    }
    rules.limiter = limiter(&file.rate_limit, &mut say);
    let Some(mut server) = file.tls_server_config else { return };
    let folder = path.parent().unwrap_or(Path::new(""));
    for path in [&mut server.cert_file, &mut server.key_file, &mut server.client_ca_file] {
        if !path.as_os_str().is_empty() {
            *path = folder.join(&*path);
        }
    }
    match tls::server(&server, file.http_server_config.http2, files) {
        Ok((config, warnings)) => {
            rules.tls = Some(config);
            rules.verifies_clients = server.verifies_clients();
            rules.warnings = warnings.into_iter().map(|warning| format!("{shown}: {warning}")).collect();
        }
        Err(mistakes) => mistakes.into_iter().for_each(|mistake| say(format!("tls_server_config.{mistake}"))),
    }
}

fn headers(given: &BTreeMap<String, String>, say: &mut dyn FnMut(String)) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    for (name, value) in given.iter().filter(|(_, value)| !value.is_empty()) {
        let Some((known, values)) = HEADERS.iter().find(|(known, _)| known == name) else {
            let names: Vec<_> = HEADERS.iter().map(|(known, _)| *known).collect();
            say(format!("http_server_config.headers: {name:?} cannot be set here; {} can", names.join(", ")));
            continue;
        };
        if !values.is_empty() && !values.contains(&value.to_lowercase().as_str()) {
            say(format!("http_server_config.headers: {name} must be one of {}", values.join(", ")));
            continue;
        }
        match (known.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            (Ok(name), Ok(value)) => headers.push((name, value)),
            _ => say(format!("http_server_config.headers: the value of {name} is not one of a header")),
        }
    }
    headers
}

fn limiter(limit: &RateLimit, say: &mut dyn FnMut(String)) -> Option<Limiter> {
    if limit.interval.is_zero() {
        return None;
    }
    if limit.burst == 0 {
        say("rate_limit.burst: 0 lets no request through; write at least 1".to_owned());
        return None;
    }
    let burst = f64::from(limit.burst);
    Some(Limiter { interval: limit.interval.get(), burst, held: Mutex::new((burst, Instant::now())) })
}

fn read_token(path: &Path, files: &mut Files) -> Result<String, String> {
    let shown = path.display();
    let bytes = files.read(path).map_err(|reason| format!("bearer_token_files `{shown}`: {reason}"))?;
    let text = String::from_utf8(bytes).unwrap_or_default();
    let token = text.trim();
    let is_token = token.bytes().all(|byte| byte.is_ascii_graphic());
    match token.len() >= TOKEN_CHARACTERS_MIN && is_token {
        true => Ok(token.to_owned()),
        false => Err(format!(
            "bearer_token_files `{shown}`: expected one token of at least {TOKEN_CHARACTERS_MIN} printable characters"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_at_once_and_then_one_each_interval() {
        let start = Instant::now();
        let limiter = Limiter { interval: Duration::from_millis(100), burst: 2.0, held: Mutex::new((2.0, start)) };
        let takes: Vec<bool> = [0, 0, 0, 50, 100, 100, 10_000, 10_000, 10_000]
            .map(|millis| limiter.takes_one_at(start + Duration::from_millis(millis)))
            .into();
        assert_eq!(takes, [true, true, false, false, true, false, true, true, false]);
    }
}
