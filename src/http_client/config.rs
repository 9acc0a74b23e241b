//! The HTTP client block of a configuration: its keys, and what of them goes together.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::Deserialize;

use super::{Error, header_name, header_value};
use crate::units::Secret;

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
    /// OAuth 2.0, which is not offered: read so that a pasted file loads, and named in a warning.
    pub oauth2: Option<NotOffered>,
}

/// A block that is read and not looked into.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct NotOffered;

impl<'de> Deserialize<'de> for NotOffered {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
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
            oauth2: None,
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
    /// PEM bundle that alone is trusted, itself; unset means the system's roots.
    pub ca: Option<String>,
    /// PEM chain of our own certificate, itself; needs a key.
    pub cert: Option<String>,
    /// PEM key of our own certificate, itself.
    pub key: Option<Secret>,
    /// PEM bundle that alone is trusted; unset means the system's roots.
    pub ca_file: Option<PathBuf>,
    /// PEM chain of our own certificate; needs `key_file`.
    pub cert_file: Option<PathBuf>,
    /// PEM key of our own certificate.
    pub key_file: Option<PathBuf>,
    /// The name the server's certificate must bear, instead of the host of the URL.
    pub server_name: Option<String>,
    /// Oldest version of TLS that is spoken. Default 1.2, and nothing older is.
    pub min_version: Option<TlsVersion>,
    /// Newest version of TLS that is spoken. Default 1.3.
    pub max_version: Option<TlsVersion>,
    /// Trust any certificate.
    pub insecure_skip_verify: bool,
}

/// A version of TLS, as Prometheus writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum TlsVersion {
    /// 1.0, which is not spoken.
    TLS10,
    /// 1.1, which is not spoken.
    TLS11,
    /// 1.2.
    TLS12,
    /// 1.3.
    TLS13,
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
        if self.bearer_token.is_some() && self.bearer_token_file.is_some() {
            return invalid("at most one of bearer_token & bearer_token_file must be configured");
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
        let twice = [
            tls.ca.is_some() && tls.ca_file.is_some(),
            tls.cert.is_some() && tls.cert_file.is_some(),
            tls.key.is_some() && tls.key_file.is_some(),
        ];
        if twice.contains(&true) {
            return invalid("tls_config: set each of ca, cert and key directly or by file, not both");
        }
        let has_certificate = tls.cert_file.is_some() || tls.cert.is_some();
        if has_certificate != (tls.key_file.is_some() || tls.key.is_some()) {
            return invalid("tls_config: cert_file and key_file belong together");
        }
        if tls.max_version.is_some_and(|max| max < TlsVersion::TLS12) {
            return invalid("tls_config: max_version must be TLS12 or TLS13: nothing older is spoken");
        }
        if tls.min_version.zip(tls.max_version).is_some_and(|(min, max)| min > max) {
            return invalid("tls_config: min_version is newer than max_version");
        }
        if self.no_proxy.as_ref().is_some_and(|hosts| !hosts.is_empty()) && self.proxy_url.is_none() {
            return invalid("no_proxy needs proxy_url, the proxy that its hosts are reached without");
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

impl TlsConfig {
    /// The oldest and the newest version that may be spoken.
    pub(crate) fn versions(&self) -> [TlsVersion; 2] {
        let oldest = self.min_version.unwrap_or(TlsVersion::TLS12).max(TlsVersion::TLS12);
        [oldest, self.max_version.unwrap_or(TlsVersion::TLS13)]
    }

    /// When its files were last written; `None` for one that is missing.
    pub(super) fn modified(&self) -> Vec<Option<SystemTime>> {
        let files = [&self.ca_file, &self.cert_file, &self.key_file].into_iter().flatten();
        files.map(|path| std::fs::metadata(path).and_then(|meta| meta.modified()).ok()).collect()
    }
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
                    oauth2: None,
                }
            }
        }
    };
}
pub(crate) use with_http_client_keys;
