//! Outgoing HTTP as configuration describes it: TLS, authentication, proxies, headers.
//!
//! In: the HTTP client block of Prometheus ([`Config`]). Out: a [`Client`] that scrapes, webhooks and discovery share.
//! A leaf: imports only `units`. Invariants: no client decompresses by itself (a reader bounds what it unpacks), no
//! proxy is taken from the environment unless asked for, a secret never reaches a message.

mod tls;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use serde::Deserialize;
use tokio::time::Instant;

use crate::units::Secret;

/// How often a client looks whether its certificate files changed (mesh certificates rotate each day or hour).
const FILE_CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// How long a connection may take to be made; the caller's own deadline is usually shorter.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// How to make requests: the keys of Prometheus' `http_config`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `Authorization` header of a given type.
    pub authorization: Option<Authorization>,
    /// User and password.
    pub basic_auth: Option<BasicAuth>,
    /// Old form of `authorization.credentials`.
    pub bearer_token: Option<Secret>,
    /// Old form of `authorization.credentials_file`.
    pub bearer_token_file: Option<PathBuf>,
    /// Certificates of both sides.
    pub tls_config: TlsConfig,
    /// Proxy for all requests; unset means none.
    pub proxy_url: Option<String>,
    /// Take the proxy from `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`.
    pub proxy_from_environment: bool,
    /// Hosts that are reached without `proxy_url`, separated by commas.
    pub no_proxy: Option<String>,
    /// Follow redirects, at most ten.
    pub follow_redirects: bool,
    /// Offer HTTP/2 in the TLS handshake.
    pub enable_http2: bool,
    /// More headers; those that authentication sets are refused here.
    pub http_headers: BTreeMap<String, HeaderValues>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            authorization: None,
            basic_auth: None,
            bearer_token: None,
            bearer_token_file: None,
            tls_config: TlsConfig::default(),
            proxy_url: None,
            proxy_from_environment: false,
            no_proxy: None,
            follow_redirects: true,
            enable_http2: true,
            http_headers: BTreeMap::new(),
        }
    }
}

/// The `authorization` block.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Authorization {
    /// The scheme, `Bearer` unless given; `Basic` belongs into `basic_auth`.
    #[serde(rename = "type")]
    pub scheme: String,
    /// The credentials themselves.
    pub credentials: Option<Secret>,
    /// A file that holds them, read at each request.
    pub credentials_file: Option<PathBuf>,
}

impl Default for Authorization {
    fn default() -> Self {
        Self { scheme: "Bearer".to_owned(), credentials: None, credentials_file: None }
    }
}

/// The `basic_auth` block.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BasicAuth {
    /// The user.
    pub username: String,
    /// A file that holds the user, read at each request.
    pub username_file: Option<PathBuf>,
    /// The password.
    pub password: Option<Secret>,
    /// A file that holds the password, read at each request.
    pub password_file: Option<PathBuf>,
}

/// The `tls_config` block.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM bundle that alone is trusted; unset means the system's roots.
    pub ca_file: Option<PathBuf>,
    /// PEM chain of our own certificate; needs `key_file`.
    pub cert_file: Option<PathBuf>,
    /// PEM key of our own certificate.
    pub key_file: Option<PathBuf>,
    /// The name the server's certificate must bear, instead of the host of the URL; needs `ca_file`.
    pub server_name: Option<String>,
    /// Trust any certificate.
    pub insecure_skip_verify: bool,
}

/// The values of one header.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderValues {
    /// Values that may be shown.
    pub values: Vec<String>,
    /// Values that may not.
    pub secrets: Vec<Secret>,
    /// Files that hold values, read at each request.
    pub files: Vec<PathBuf>,
}

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
    /// The HTTP library refused the settings.
    #[error("make the HTTP client")]
    Build(#[source] reqwest::Error),
}

/// A client that follows its configuration: credentials are read from their files at each request, certificates when
/// their files change. Nothing is opened or read before the first request.
#[derive(Debug)]
pub struct Client {
    config: Config,
    built: Mutex<Option<Built>>,
}

#[derive(Debug)]
struct Built {
    client: reqwest::Client,
    modified: Vec<Option<SystemTime>>,
    checked: Instant,
}

impl Client {
    /// A client for that configuration.
    pub fn new(config: Config) -> Self {
        Self { config, built: Mutex::new(None) }
    }

    /// The configuration it follows.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A request with authentication and the configured headers. The caller sets the timeout.
    ///
    /// # Errors
    /// When a file of the configuration is missing or not what it should be.
    pub fn request(&self, method: reqwest::Method, url: &str) -> Result<reqwest::RequestBuilder, Error> {
        let request = self.current()?.request(method, url);
        authorize(&self.config, request)
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
        let client = build(&self.config)?;
        *built = Some(Built { client: client.clone(), modified, checked: Instant::now() });
        Ok(client)
    }
}

impl TlsConfig {
    fn modified(&self) -> Vec<Option<SystemTime>> {
        let files = [&self.ca_file, &self.cert_file, &self.key_file].into_iter().flatten();
        files.map(|path| std::fs::metadata(path).and_then(|meta| meta.modified()).ok()).collect()
    }
}

impl Config {
    /// Checks what can be checked without opening a file.
    ///
    /// # Errors
    /// Names the keys that contradict each other or the value that is not valid.
    pub fn validate(&self) -> Result<(), Error> {
        let invalid = |message: &str| Err(Error::Invalid(message.to_owned()));
        let ways = [
            self.authorization.is_some(),
            self.basic_auth.is_some(),
            self.bearer_token.is_some() || self.bearer_token_file.is_some(),
        ];
        if ways.into_iter().filter(|used| *used).count() > 1 {
            return invalid("at most one of basic_auth, authorization, bearer_token and bearer_token_file must be set");
        }
        if let Some(authorization) = &self.authorization {
            if authorization.credentials.is_some() && authorization.credentials_file.is_some() {
                return invalid("authorization: set credentials or credentials_file, not both");
            }
            if authorization.scheme.eq_ignore_ascii_case("basic") {
                return invalid("authorization: type cannot be `Basic`, use basic_auth");
            }
        }
        if let Some(basic) = &self.basic_auth
            && (basic.password.is_some() && basic.password_file.is_some()
                || !basic.username.is_empty() && basic.username_file.is_some())
        {
            return invalid("basic_auth: set each of user and password directly or by file, not both");
        }
        let tls = &self.tls_config;
        if tls.cert_file.is_some() != tls.key_file.is_some() {
            return invalid("tls_config: cert_file and key_file belong together");
        }
        if tls.server_name.is_some() && tls.ca_file.is_none() && !tls.insecure_skip_verify {
            return invalid("tls_config: server_name needs ca_file, the roots the certificate is checked against");
        }
        if self.proxy_url.is_some() && self.proxy_from_environment {
            return invalid("set proxy_url or proxy_from_environment, not both");
        }
        self.validate_headers()
    }

    fn validate_headers(&self) -> Result<(), Error> {
        const OURS: [&str; 9] = [
            "authorization",
            "host",
            "content-encoding",
            "content-length",
            "content-type",
            "user-agent",
            "connection",
            "accept-encoding",
            "x-prometheus-scrape-timeout-seconds",
        ];
        for (name, HeaderValues { values, .. }) in &self.http_headers {
            if OURS.contains(&name.to_ascii_lowercase().as_str()) {
                return Err(Error::Invalid(format!("http_headers: setting header `{name}` is not allowed")));
            }
            header_name(name)?;
            values.iter().try_for_each(|value| header_value(name, value).map(|_| ()))?;
        }
        Ok(())
    }
}

/// Makes a client of the library. [`Client`] does this when needed; use it directly where certificates never change.
///
/// A rustls crypto provider must have been installed (`main` does).
///
/// # Errors
/// When the configuration contradicts itself or a certificate file is not readable.
pub fn build(config: &Config) -> Result<reqwest::Client, Error> {
    config.validate()?;
    let base = || -> Result<reqwest::ClientBuilder, Error> {
        let mut builder = reqwest::Client::builder().no_gzip().connect_timeout(CONNECT_TIMEOUT);
        builder = match &config.proxy_url {
            Some(url) => builder.proxy(proxy(url, config.no_proxy.as_deref())?),
            None if config.proxy_from_environment => builder,
            None => builder.no_proxy(),
        };
        if !config.follow_redirects {
            builder = builder.redirect(reqwest::redirect::Policy::none());
        }
        Ok(if config.enable_http2 { builder } else { builder.http1_only() })
    };
    match tls::apply(config, base()?)?.build() {
        Err(error) if config.tls_config == TlsConfig::default() => {
            // A container without ca-certificates has no system roots; plain HTTP must work there all the same.
            tracing::warn!("no usable system certificates ({error}): https targets need tls_config.ca_file");
            base()?.tls_certs_only([]).build().map_err(Error::Build)
        }
        built => built.map_err(Error::Build),
    }
}

fn proxy(url: &str, no_proxy: Option<&str>) -> Result<reqwest::Proxy, Error> {
    let proxy = reqwest::Proxy::all(url).map_err(|error| Error::Invalid(format!("proxy_url `{url}`: {error}")))?;
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

/// What a key that defaults to `true` needs of serde.
pub(crate) fn yes() -> bool {
    true
}

/// Declares a configuration struct whose own keys stand beside those of [`Config`], as in `scrape_configs`.
///
/// serde's `flatten` turns off `deny_unknown_fields` and loses the place of a mistake, so the keys are repeated here,
/// once for all structs that need them; `http_client()` gives them back as one [`Config`].
macro_rules! with_http_client_keys {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
            /// `Authorization` header of a given type.
            #[serde(default)]
            pub authorization: Option<$crate::http_client::Authorization>,
            /// User and password.
            #[serde(default)]
            pub basic_auth: Option<$crate::http_client::BasicAuth>,
            /// Old form of `authorization.credentials`.
            #[serde(default)]
            pub bearer_token: Option<$crate::units::Secret>,
            /// Old form of `authorization.credentials_file`.
            #[serde(default)]
            pub bearer_token_file: Option<std::path::PathBuf>,
            /// Certificates of both sides.
            #[serde(default)]
            pub tls_config: $crate::http_client::TlsConfig,
            /// Proxy for all requests.
            #[serde(default)]
            pub proxy_url: Option<String>,
            /// Take the proxy from the environment.
            #[serde(default)]
            pub proxy_from_environment: bool,
            /// Hosts reached without the proxy.
            #[serde(default)]
            pub no_proxy: Option<String>,
            /// Follow redirects. Default true.
            #[serde(default = "crate::http_client::yes")]
            pub follow_redirects: bool,
            /// Offer HTTP/2 over TLS. Default true.
            #[serde(default = "crate::http_client::yes")]
            pub enable_http2: bool,
            /// More headers.
            #[serde(default)]
            pub http_headers: std::collections::BTreeMap<String, $crate::http_client::HeaderValues>,
        }

        impl $name {
            /// The keys of the HTTP client as one configuration.
            pub fn http_client(&self) -> $crate::http_client::Config {
                $crate::http_client::Config {
                    authorization: self.authorization.clone(),
                    basic_auth: self.basic_auth.clone(),
                    bearer_token: self.bearer_token.clone(),
                    bearer_token_file: self.bearer_token_file.clone(),
                    tls_config: self.tls_config.clone(),
                    proxy_url: self.proxy_url.clone(),
                    proxy_from_environment: self.proxy_from_environment,
                    no_proxy: self.no_proxy.clone(),
                    follow_redirects: self.follow_redirects,
                    enable_http2: self.enable_http2,
                    http_headers: self.http_headers.clone(),
                }
            }
        }
    };
}
pub(crate) use with_http_client_keys;

#[cfg(test)]
mod tests;
