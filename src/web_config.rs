//! Who may connect to a listener and ask: TLS, client certificates, passwords and tokens, in Prometheus' web
//! configuration format.
//!
//! In: a web configuration file (exporter-toolkit, `docs/web-configuration.md`) and files of bearer tokens. Out: a
//! [`Guard`] that wraps connections and admits requests. Invariants: what was read last and is right stays in force until
//! what replaces it is right too; a file that would open what was closed is refused; no secret is in a message.

mod client_names;
mod file;
mod passwords;
mod stream;
#[cfg(test)]
mod tests;
mod tls;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use tokio_util::sync::CancellationToken;

use passwords::{Checked, Passwords};
pub use stream::{CertificateNames, ServerStream};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// What the main configuration says of a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// A file in Prometheus' web configuration format.
    pub config_file: Option<PathBuf>,
    /// Files with a bearer token each.
    pub bearer_token_files: Vec<PathBuf>,
}

/// Why a web configuration is refused. Names file, place and mend; never a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Error(Vec<String>);

impl Error {
    fn one(message: String) -> Self {
        Self(vec![message])
    }
}

/// What a guard counts.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests without a valid password or token.
    pub unauthorized: AtomicU64,
    /// Requests past `rate_limit`, or while too many passwords wait to be checked.
    pub limited: AtomicU64,
    /// TLS handshakes that failed.
    pub failed_handshakes: AtomicU64,
    /// Whether the last reading of the files was taken.
    pub last_read_failed: AtomicBool,
    /// When files that are in force were read, in seconds since 1970.
    pub read_at_seconds: AtomicU64,
}

/// How a guard fares, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The key of the configuration that names the file.
    pub key: &'static str,
    /// The file, when there is one.
    pub file: Option<PathBuf>,
    /// Whether connections are encrypted.
    pub encrypts: bool,
    /// Whether requests need a password or token.
    pub authenticates: bool,
    /// Why the files as they are now are refused.
    pub refused: Option<String>,
    /// What the file asks for that is not done as Prometheus does it.
    pub warnings: Vec<String>,
}

/// Why a request is not let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No valid password or token: 401.
    Unauthorized,
    /// Too many requests, or too many passwords to check: 429.
    TooMany,
}

/// As whom a request is let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Nobody is asked for a password or token.
    Anyone,
    /// A user of `basic_auth_users`, by name.
    User(String),
    /// Who has the token of this file.
    Token(PathBuf),
}

/// Guards one listener. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Guard(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    key: &'static str,
    settings: Settings,
    needs_http2: bool,
    rules: ArcSwap<Rules>,
    passwords: Passwords,
    refused: ArcSwap<Option<String>>,
    counters: Counters,
}

/// What is in force: read as a whole, replaced as a whole.
#[derive(Debug, Default)]
struct Rules {
    tls: Option<Arc<rustls::ServerConfig>>,
    headers: Vec<(HeaderName, HeaderValue)>,
    users: BTreeMap<String, String>,
    /// Each with its file.
    tokens: Vec<(PathBuf, String)>,
    /// Whether certificates of clients are verified, so that the names in them are theirs.
    verifies_clients: bool,
    limiter: Option<file::Limiter>,
    warnings: Vec<String>,
    /// What was read, to see when it changes.
    files: Files,
}

impl Rules {
    fn authenticates(&self) -> bool {
        !self.users.is_empty() || !self.tokens.is_empty()
    }
}

/// Contents, or why there are none, by path.
#[derive(Debug, Default, PartialEq, Eq)]
struct Files(BTreeMap<PathBuf, Result<Vec<u8>, String>>);

impl Files {
    fn read(&mut self, path: &Path) -> Result<Vec<u8>, String> {
        self.0.entry(path.to_owned()).or_insert_with(|| read_bounded(path)).clone()
    }

    fn again(&self) -> Self {
        Self(self.0.keys().map(|path| (path.clone(), read_bounded(path))).collect())
    }
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, String> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() as u64 > FILE_BYTES_MAX => Err(format!("is larger than {FILE_BYTES_MAX} bytes")),
        Ok(_) => Ok(bytes),
        Err(error) => Err(error.to_string()),
    }
}

impl Guard {
    /// Reads the files now. `key` names the listener's file in messages, `web.config_file`; a listener of gRPC
    /// `needs_http2`.
    ///
    /// # Errors
    /// When a file cannot be read or says something wrong.
    pub fn open(key: &'static str, settings: Settings, needs_http2: bool) -> Result<Self, Error> {
        let rules = file::read(key, &settings, needs_http2).0?;
        rules.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let counters = Counters::default();
        counters.read_at_seconds.store(now_seconds(), Relaxed);
        Ok(Self(Arc::new(Inner {
            key,
            settings,
            needs_http2,
            rules: ArcSwap::from_pointee(rules),
            passwords: Passwords::new().map_err(|()| Error::one("the system gives no random numbers".to_owned()))?,
            refused: ArcSwap::default(),
            counters,
        })))
    }

    /// Whether connections are encrypted; fixed at the start.
    pub fn encrypts(&self) -> bool {
        self.0.rules.load().tls.is_some()
    }

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// How it fares.
    pub fn status(&self) -> Status {
        let rules = self.0.rules.load();
        Status {
            key: self.0.key,
            file: self.0.settings.config_file.clone(),
            encrypts: rules.tls.is_some(),
            authenticates: rules.authenticates(),
            refused: Option::clone(&self.0.refused.load()),
            warnings: rules.warnings.clone(),
        }
    }

    /// The connection as its reader sees it: behind TLS when that is on. The handshake is made when it is first read, with
    /// the certificates in force now.
    pub fn accept<S>(&self, stream: S) -> ServerStream<S>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let rules = self.0.rules.load();
        ServerStream::new(stream, rules.tls.clone().map(|tls| (tls, rules.verifies_clients)), self.clone())
    }

    /// The response headers that `http_server_config.headers` asks for.
    pub fn headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        self.0.rules.load().headers.clone()
    }

    /// The value of `WWW-Authenticate` for who has no password.
    pub fn challenge(&self) -> HeaderValue {
        match self.0.rules.load().users.is_empty() {
            true => HeaderValue::from_static("Bearer"),
            false => HeaderValue::from_static("Basic"),
        }
    }

    /// Whether a request with these headers is let through.
    ///
    /// # Errors
    /// When it is not: without a valid password or token where one is needed, or past the limit.
    pub async fn admit(&self, headers: &HeaderMap) -> Result<Identity, Refusal> {
        let rules = self.0.rules.load_full();
        let outcome = match &rules.limiter {
            Some(limiter) if !limiter.takes_one() => Err(Refusal::TooMany),
            _ if !rules.authenticates() => Ok(Identity::Anyone),
            _ => self.authenticate(&rules, headers.get(AUTHORIZATION)).await,
        };
        let counters = &self.0.counters;
        match &outcome {
            Ok(_) => {}
            Err(Refusal::Unauthorized) => _ = counters.unauthorized.fetch_add(1, Relaxed),
            Err(Refusal::TooMany) => _ = counters.limited.fetch_add(1, Relaxed),
        }
        outcome
    }

    /// Whether a request whose sender is known by other means is let through: only `rate_limit` is asked.
    ///
    /// # Errors
    /// Past the limit.
    pub fn admit_known(&self) -> Result<(), Refusal> {
        match &self.0.rules.load().limiter {
            Some(limiter) if !limiter.takes_one() => {
                self.0.counters.limited.fetch_add(1, Relaxed);
                Err(Refusal::TooMany)
            }
            _ => Ok(()),
        }
    }

    async fn authenticate(&self, rules: &Rules, given: Option<&HeaderValue>) -> Result<Identity, Refusal> {
        let given = given.and_then(|value| value.to_str().ok()).and_then(|text| text.split_once(' '));
        let Some((scheme, credentials)) = given else { return Err(Refusal::Unauthorized) };
        let credentials = credentials.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            let passwords = &self.0.passwords;
            // No early end: the time taken must not tell which token was near.
            let found =
                rules.tokens.iter().fold(
                    None,
                    |found, (file, token)| {
                        if passwords.is_same(token, credentials) { Some(file) } else { found }
                    },
                );
            return found.map(|file| Identity::Token(file.clone())).ok_or(Refusal::Unauthorized);
        }
        let pair = scheme.eq_ignore_ascii_case("basic").then(|| passwords::decode_basic(credentials)).flatten();
        let Some((user, password)) = pair.filter(|_| !rules.users.is_empty()) else {
            return Err(Refusal::Unauthorized);
        };
        match self.0.passwords.check(&rules.users, &user, password).await {
            Checked::Right => Ok(Identity::User(user)),
            Checked::Wrong => Err(Refusal::Unauthorized),
            Checked::Busy => Err(Refusal::TooMany),
        }
    }

    /// Looks at the files every second and takes what they say when they have changed and are right, until told to stop.
    /// Connections and requests under way are not touched.
    pub async fn run(self, stop: CancellationToken) {
        if self.0.settings == Settings::default() {
            return stop.cancelled().await;
        }
        let mut seen: Option<Files> = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            let guard = self.clone();
            let looked = tokio::task::spawn_blocking(move || guard.look(seen)).await;
            seen = looked.ok().flatten();
        }
    }

    /// Takes what the files say when they are not as `refused_before`, or as what is in force. Returns them when refused.
    fn look(&self, refused_before: Option<Files>) -> Option<Files> {
        let in_force = self.0.rules.load();
        let before = refused_before.as_ref().unwrap_or(&in_force.files);
        if before.again() == *before {
            return refused_before;
        }
        let (key, settings) = (self.0.key, &self.0.settings);
        let (outcome, files) = file::read(key, settings, self.0.needs_http2);
        match outcome.and_then(|rules| self.not_opening(&in_force, rules)) {
            Ok(rules) => {
                tracing::info!("{key}: the files have changed; what they say is in force");
                rules.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
                self.0.rules.store(Arc::new(rules));
                self.0.refused.store(Arc::new(None));
                self.0.counters.last_read_failed.store(false, Relaxed);
                self.0.counters.read_at_seconds.store(now_seconds(), Relaxed);
                None
            }
            Err(error) => {
                tracing::error!("{key}: the files have changed and are refused, what was in force stays: {error}");
                self.0.refused.store(Arc::new(Some(error.to_string())));
                self.0.counters.last_read_failed.store(true, Relaxed);
                Some(files)
            }
        }
    }

    /// A file that is cut off while it is written is valid YAML and asks for no password; and peers that speak TLS cannot
    /// be told that it is off.
    fn not_opening(&self, in_force: &Rules, rules: Rules) -> Result<Rules, Error> {
        let refused = |what: &str| Err(Error::one(format!("{}: {what} takes effect at the next start", self.0.key)));
        match (in_force.tls.is_some(), rules.tls.is_some()) {
            (true, false) => return refused("taking tls_server_config away"),
            (false, true) => return refused("adding tls_server_config"),
            _ => {}
        }
        match in_force.authenticates() && !rules.authenticates() {
            true => refused("taking all users and tokens away"),
            false => Ok(rules),
        }
    }
}

fn now_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
