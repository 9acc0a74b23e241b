//! Outgoing HTTP as configuration describes it: TLS, authentication, proxies, headers.
//!
//! In: the HTTP client block of Prometheus ([`Config`]). Out: a [`Client`] that scrapes, webhooks and discovery share.
//! A leaf: imports only `units`. Invariants: no client decompresses by itself (a reader bounds what it unpacks), no
//! proxy is taken from the environment unless asked for, a secret never reaches a message.

mod config;
mod direct;
mod reach;
mod resolve;
mod tls;

pub use config::{Authorization, BasicAuth, Config, HeaderValues, NotOffered, TlsConfig, TlsVersion};
pub(crate) use config::{with_http_client_keys, yes};
pub(crate) use direct::{Answer, DirectError, Kept};
pub use reach::{OutgoingConfig, Reach, ReachConfig, Reaches, SecurityConfig};
pub use tls::SystemRoots;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use tokio::time::Instant;

use resolve::CachingResolver;

use crate::units::Secret;

/// How often a client looks whether its certificate files changed (mesh certificates rotate each day or hour).
const FILE_CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// How long a connection may take to be made; the caller's own deadline is usually shorter.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an idle connection is kept: longer than most scrape intervals, so that connections, TLS sessions and looked-up
/// names are used again. As in Prometheus.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// Why a client could not be made or a request not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that configuration names cannot be read.
    #[error("{key}: read `{}`", path.display())]
    File {
        /// The configuration key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{key}: `{}` is not {expected}", path.display())]
    NotPem {
        /// The configuration key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// Keys that do not go together, or a value that is not valid.
    #[error("{0}")]
    Invalid(String),
    /// The URL, or the proxy, is an address that may not be connected to.
    #[error("{0}")]
    Refused(String),
    /// The HTTP library refused the settings.
    #[error("make the HTTP client")]
    Build(#[source] reqwest::Error),
}

/// A client that follows its configuration: credentials are read from their files at each request, certificates when
/// their files change. Nothing is opened or read before the first request.
#[derive(Debug)]
pub struct Client {
    config: Config,
    resolver: CachingResolver,
    roots: SystemRoots,
    built: Mutex<Option<Built>>,
    /// Makes requests for kept connections; it knows no certificates, and sends nothing itself.
    plain: OnceLock<reqwest::Client>,
}

#[derive(Debug)]
struct Built {
    client: reqwest::Client,
    modified: Vec<Option<SystemTime>>,
    checked: Instant,
}

impl Client {
    /// A client for that configuration, which may connect to everything: for commands that people run.
    pub fn new(config: Config) -> Self {
        Self::reaching(config, Reach::default())
    }

    /// The same for what runs by itself: it connects only to what `reach` leaves open.
    pub fn reaching(config: Config, reach: Reach) -> Self {
        Self::sharing(config, reach, SystemRoots::default())
    }

    /// The same, with the system's certificates read once for all clients that share `roots`.
    pub fn sharing(config: Config, reach: Reach, roots: SystemRoots) -> Self {
        let resolver = CachingResolver::system(reach);
        Self { config, resolver, roots, built: Mutex::new(None), plain: OnceLock::new() }
    }

    /// The configuration it follows.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A request with authentication and the configured headers. The caller sets the timeout.
    ///
    /// # Errors
    /// When a file of the configuration is missing or not what it should be, or the URL is an address that may not be
    /// connected to. A name is judged when the connection is made.
    pub fn request(&self, method: reqwest::Method, url: &str) -> Result<reqwest::RequestBuilder, Error> {
        if let Ok(url) = reqwest::Url::parse(url) {
            self.resolver.reach().check_url(&url).map_err(Error::Refused)?;
        }
        let request = self.current()?.request(method, url);
        authorize(&self.config, request)
    }

    /// Whether `url` may be asked over a connection of the caller's own ([`Client::get`]): no TLS, no proxy.
    pub(crate) fn is_direct(&self, url: &str) -> bool {
        let has_proxy = self.config.proxy_url.is_some() || self.config.proxy_from_environment;
        !has_proxy && url.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://"))
    }

    /// A request for [`Client::get`], with authentication and the configured headers.
    ///
    /// # Errors
    /// When a file of the configuration is missing or not what it should be.
    pub(crate) fn direct_request(&self, url: &str) -> Result<reqwest::RequestBuilder, Error> {
        let plain = match self.plain.get() {
            Some(plain) => plain,
            None => {
                self.config.validate()?;
                let made = reqwest::Client::builder().no_gzip().no_proxy().tls_certs_only([]).build();
                let made = made.map_err(Error::Build)?;
                self.plain.get_or_init(|| made)
            }
        };
        authorize(&self.config, plain.request(reqwest::Method::GET, url))
    }

    /// Sends a request over the connection kept, or a new one. `buffer` is where the body arrives.
    ///
    /// # Errors
    /// When there is no connection or no answer.
    pub(crate) async fn get(
        &self,
        kept: &mut Kept,
        request: &reqwest::Request,
        buffer: Vec<u8>,
    ) -> Result<Answer, DirectError> {
        kept.get(&self.resolver, request, buffer).await
    }

    fn current(&self) -> Result<reqwest::Client, Error> {
        let mut built = self.built.lock();
        if let Some(built) = built.as_mut() {
            if built.checked.elapsed() < FILE_CHECK_INTERVAL {
                return Ok(built.client.clone());
            }
            built.checked = Instant::now();
            if built.modified == self.config.tls_config.modified() {
                return Ok(built.client.clone());
            }
        }
        let modified = self.config.tls_config.modified();
        let client = build_with(&self.config, &self.resolver, &self.roots)?;
        *built = Some(Built { client: client.clone(), modified, checked: Instant::now() });
        Ok(client)
    }
}

/// Makes a client of the library. [`Client`] does this when needed; use it directly where certificates never change.
///
/// A rustls crypto provider must have been installed (`main` does).
///
/// # Errors
/// When the configuration contradicts itself or a certificate file is not readable.
pub fn build(config: &Config) -> Result<reqwest::Client, Error> {
    build_with(config, &CachingResolver::system(Reach::default()), &SystemRoots::default())
}

/// The same, with the credentials of the configuration, as they are now, in each request: for commands that run once.
///
/// # Errors
/// As [`build`], and when a file of credentials cannot be read.
pub fn build_logged_in(config: &Config) -> Result<reqwest::Client, Error> {
    // The headers are those of a request that is never sent.
    let sample = authorize(config, build(config)?.get("http://localhost/"))?.build().map_err(Error::Build)?;
    let builder = builder(config, &CachingResolver::system(Reach::default()), &SystemRoots::default())?;
    builder.default_headers(sample.headers().clone()).build().map_err(Error::Build)
}

fn build_with(config: &Config, resolver: &CachingResolver, roots: &SystemRoots) -> Result<reqwest::Client, Error> {
    builder(config, resolver, roots)?.build().map_err(Error::Build)
}

fn builder(config: &Config, resolver: &CachingResolver, roots: &SystemRoots) -> Result<reqwest::ClientBuilder, Error> {
    config.validate()?;
    let base = || -> Result<reqwest::ClientBuilder, Error> {
        let mut builder =
            reqwest::Client::builder().no_gzip().connect_timeout(CONNECT_TIMEOUT).pool_idle_timeout(IDLE_TIMEOUT);
        builder = builder.dns_resolver(resolver.clone());
        builder = match &config.proxy_url {
            Some(url) => {
                if let Ok(url) = reqwest::Url::parse(url) {
                    resolver.reach().check_url(&url).map_err(Error::Refused)?;
                }
                builder.proxy(proxy(url, config.no_proxy.as_deref())?)
            }
            None if config.proxy_from_environment => builder,
            None => builder.no_proxy(),
        };
        builder = builder.redirect(match config.follow_redirects {
            true => within(resolver.reach().clone()),
            false => reqwest::redirect::Policy::none(),
        });
        Ok(if config.enable_http2 { builder } else { builder.http1_only() })
    };
    tls::apply(config, roots, base()?)
}

/// Follows redirects as the library does, but to no address that may not be connected to.
fn within(reach: Reach) -> reqwest::redirect::Policy {
    reqwest::redirect::Policy::custom(move |attempt| match reach.check_url(attempt.url()) {
        Ok(()) => reqwest::redirect::Policy::default().redirect(attempt),
        Err(refused) => attempt.error(refused),
    })
}

/// A URL as messages show it: without the password and the query, which may hold secrets.
pub fn shown_url(url: &str) -> String {
    let Ok(mut parsed) = reqwest::Url::parse(url) else {
        return if url.contains(['@', '?']) { "<secret>".to_owned() } else { url.to_owned() };
    };
    if parsed.password().is_none() && parsed.query().is_none() {
        return url.to_owned();
    }
    if parsed.query().is_some() {
        parsed.set_query(Some("xxxxx"));
    }
    match parsed.password().is_some() && parsed.set_password(Some("xxxxx")).is_err() {
        true => "<secret>".to_owned(),
        false => parsed.into(),
    }
}

fn proxy(url: &str, no_proxy: Option<&str>) -> Result<reqwest::Proxy, Error> {
    let proxy =
        reqwest::Proxy::all(url).map_err(|error| Error::Invalid(format!("proxy_url `{}`: {error}", shown_url(url))))?;
    Ok(proxy.no_proxy(no_proxy.and_then(reqwest::NoProxy::from_string)))
}

/// Adds authentication and the configured headers to a request, reading files now.
///
/// The files are a few bytes, so they are read in place.
///
/// # Errors
/// When a file cannot be read or its text cannot be a header.
pub fn authorize(config: &Config, mut request: reqwest::RequestBuilder) -> Result<reqwest::RequestBuilder, Error> {
    if let Some(basic) = &config.basic_auth {
        let username = match &basic.username_file {
            Some(path) => read_text("basic_auth.username_file", path)?,
            None => basic.username.clone(),
        };
        let password = secret("basic_auth.password_file", basic.password.as_ref(), basic.password_file.as_deref())?;
        request = request.basic_auth(username, password);
    }
    if let Some(Authorization { scheme, credentials, credentials_file }) = &config.authorization {
        let text = secret("authorization.credentials_file", credentials.as_ref(), credentials_file.as_deref())?;
        request = request.header(AUTHORIZATION, credentials_header(scheme, &text.unwrap_or_default())?);
    }
    let (token, file) = (config.bearer_token.as_ref(), config.bearer_token_file.as_deref());
    if let Some(token) = secret("bearer_token_file", token, file)? {
        request = request.header(AUTHORIZATION, credentials_header("Bearer", &token)?);
    }
    for (name, HeaderValues { values, secrets, files }) in &config.http_headers {
        for value in values.iter().map(String::as_str).chain(secrets.iter().map(Secret::reveal)) {
            request = request.header(header_name(name)?, header_value(name, value)?);
        }
        for path in files {
            request = request.header(header_name(name)?, header_value(name, &read_text("http_headers.files", path)?)?);
        }
    }
    Ok(request)
}

fn secret(key: &'static str, direct: Option<&Secret>, file: Option<&Path>) -> Result<Option<String>, Error> {
    match (file, direct) {
        (Some(path), _) => read_text(key, path).map(Some),
        (None, direct) => Ok(direct.map(|secret| secret.reveal().to_owned())),
    }
}

fn read_text(key: &'static str, path: &Path) -> Result<String, Error> {
    let text = std::fs::read_to_string(path);
    text.map(|text| text.trim().to_owned()).map_err(|source| Error::File { key, path: path.to_owned(), source })
}

fn credentials_header(scheme: &str, credentials: &str) -> Result<HeaderValue, Error> {
    let mut value = header_value("Authorization", format!("{scheme} {credentials}").trim_end())?;
    value.set_sensitive(true);
    Ok(value)
}

fn header_name(name: &str) -> Result<HeaderName, Error> {
    name.parse().map_err(|_| Error::Invalid(format!("`{name}` is not a header name")))
}

fn header_value(name: &str, value: &str) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(value)
        .map_err(|_| Error::Invalid(format!("the value of header `{name}` has bytes no header may have")))
}

/// What went wrong with a request, in one line: the library's words and the cause at the bottom (`Connection refused`),
/// without the URL, which may hold secrets and which the caller names itself.
pub fn describe(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    let what = match error {
        error if error.is_timeout() => "timed out",
        error if error.is_connect() => "connect",
        error if error.is_redirect() => "follow redirects",
        error if error.is_body() || error.is_decode() => "read the body",
        _ => "send the request",
    };
    format!("{what}: {cause}")
}

#[cfg(test)]
mod tests;
