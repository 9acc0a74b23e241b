//! Mail: one message for each notification, over SMTP with TLS.
//!
//! In: a notification. Out: the whole message, recorded as it is sent, so that a second delivery bears the same
//! `Message-Id` and mail servers can drop it. The crate `lettre` encodes and speaks SMTP.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailboxes, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{
    Certificate, CertificateStore, Identity, Tls, TlsParameters, TlsVersion as SmtpTls,
};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

use super::config::EmailConfig;
use super::post::{SendError, read_secret};
use super::templates::{About, Text};
use super::{NOT_SUPPORTED, Parts, group_hash};
use crate::http_client::{Reach, TlsConfig, TlsVersion};
use crate::notify::core::Notification;

const TIMEOUT: Duration = Duration::from_secs(30);
/// An address that does not answer gives way to the next after this.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_secs(5);
const SUBJECT: &str = "{{ template \"email.default.subject\" . }}";

/// Checked mail.
pub(in crate::notify) struct Email {
    config: EmailConfig,
    host: String,
    port: u16,
    from: Text,
    to: Text,
    headers: Vec<(String, Text)>,
    html: Option<Text>,
    text: Option<Text>,
    reach: Reach,
}

/// What is recorded.
#[derive(Serialize, Deserialize)]
struct Mail {
    from: String,
    to: Vec<String>,
    message: String,
}

impl Email {
    pub(super) fn new(config: &EmailConfig, parts: &Parts<'_>) -> Result<Self, String> {
        let config = with_globals(config.clone(), parts);
        let missing = |key: &str| format!("{key}: give it here or as global.smtp_{key}");
        if config.to.is_empty() {
            return Err("missing to address in email config: give `to`".to_owned());
        }
        if config.auth_secret.is_some() || config.auth_secret_file.is_some() {
            return Err(format!("auth_secret (CRAM-MD5) {NOT_SUPPORTED}; use auth_password over TLS"));
        }
        if config.tls_config.as_ref().is_some_and(|tls| tls.versions()[1] < TlsVersion::TLS13) {
            return Err("tls_config: max_version: mail servers may always choose TLS 1.3".to_owned());
        }
        if config.auth_password.is_some() && config.auth_password_file.is_some() {
            return Err("at most one of auth_password & auth_password_file must be configured".to_owned());
        }
        if config.threading.enabled && !["none", "daily"].contains(&config.threading.thread_by_date.as_str()) {
            return Err("threading.thread_by_date must be either none or daily".to_owned());
        }
        let smarthost = config.smarthost.as_deref().ok_or_else(|| missing("smarthost"))?;
        let (host, port) = smarthost.rsplit_once(':').ok_or(format!("smarthost: {smarthost:?} has no port"))?;
        let port = port.parse().map_err(|_| format!("smarthost: {port:?} is not a port"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let from = config.from.as_deref().ok_or_else(|| missing("from"))?;
        let of = |key: &str, written: &str| parts.templates.text(key, written);
        let mut headers = Vec::new();
        for (name, default) in [("Subject", SUBJECT), ("To", &config.to), ("From", from)] {
            if !config.headers.keys().any(|given| given.eq_ignore_ascii_case(name)) {
                headers.push((name.to_owned(), of(name, default)?));
            }
        }
        for (name, written) in &config.headers {
            HeaderName::new_from_ascii(name.clone()).map_err(|_| format!("headers: {name:?} is not a header name"))?;
            if headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
                return Err(format!("headers: duplicate header {name:?}"));
            }
            headers.push((name.clone(), of(name, written)?));
        }
        let written = |text: &String| (!text.is_empty()).then(|| text.clone());
        Ok(Self {
            from: of("from", from)?,
            to: of("to", &config.to)?,
            html: written(&config.html).map(|html| parts.templates.html("html", &html)).transpose()?,
            text: written(&config.text).map(|text| of("text", &text)).transpose()?,
            reach: parts.reach.clone(),
            headers,
            host,
            port,
            config,
        })
    }

    pub(super) fn send_resolved(&self) -> bool {
        self.config.send_resolved
    }

    pub(super) fn render(&self, notification: &Notification, about: &About) -> Result<String, String> {
        let from = mailboxes("from", &self.from.run(about)?)?;
        let [sender] = from.as_slice() else { return Err("from: there must be exactly one address".to_owned()) };
        let to = mailboxes("to", &self.to.run(about)?)?;
        let addresses: Vec<Address> = to.iter().map(|one| one.email.clone()).collect();
        let envelope = lettre::address::Envelope::new(Some(sender.email.clone()), addresses);
        let envelope = envelope.map_err(|error| format!("to: {error}"))?;
        let mut builder =
            Message::builder().from(sender.clone()).date(std::time::SystemTime::from(notification.at.to_chrono()));
        for (name, value) in self.identity(notification) {
            builder = builder.raw_header(header(&name, value)?);
        }
        for (name, text) in &self.headers {
            // One line: a line feed in a label must not begin another header.
            let value = text.run(about)?.split_whitespace().collect::<Vec<_>>().join(" ");
            builder = builder.raw_header(header(name, value)?);
        }
        let mut body = MultiPart::alternative().build();
        if let Some(text) = &self.text {
            body = body.singlepart(SinglePart::plain(text.run(about)?));
        }
        if let Some(html) = &self.html {
            body = body.singlepart(SinglePart::html(html.run(about)?));
        }
        let message =
            builder.envelope(envelope.clone()).multipart(body).map_err(|error| format!("the mail: {error}"))?;
        let mail = Mail {
            from: sender.email.to_string(),
            to: envelope.to().iter().map(ToString::to_string).collect(),
            message: String::from_utf8_lossy(&message.formatted()).into_owned(),
        };
        serde_json::to_string(&mail).map_err(|error| format!("encode: {error}"))
    }

    /// What makes this message itself, and one of its thread.
    fn identity(&self, notification: &Notification) -> Vec<(String, String)> {
        let hash = group_hash(&notification.group_key);
        let Notification { at, integration, .. } = notification;
        let short = &hash[..16];
        let mut found = vec![
            ("Message-Id".to_owned(), format!("<{short}.{}.{integration}@meshscope>", at.as_millis())),
            ("X-Meshscope-Group".to_owned(), short.to_owned()),
        ];
        if self.config.threading.enabled {
            let day = match self.config.threading.thread_by_date.as_str() {
                "daily" => at.to_chrono().format("%Y-%m-%d").to_string(),
                _ => String::new(),
            };
            let thread = format!("<alert-{hash}-{day}@meshscope>");
            found.push(("References".to_owned(), thread.clone()));
            found.push(("In-Reply-To".to_owned(), thread));
        }
        found
    }

    /// One attempt. As in Alertmanager whatever the server says is worth another: it may be busy, or grey-list.
    pub(super) async fn send(&self, body: &str) -> Result<(), SendError> {
        let mail: Mail =
            serde_json::from_str(body).map_err(|error| SendError::Final(format!("the recorded mail: {error}")))?;
        let refused = |error: lettre::address::AddressError| SendError::Final(format!("the recorded mail: {error}"));
        let from: Address = mail.from.parse().map_err(refused)?;
        let to = mail.to.iter().map(|to| to.parse()).collect::<Result<Vec<Address>, _>>().map_err(refused)?;
        let envelope = lettre::address::Envelope::new(Some(from), to)
            .map_err(|error| SendError::Final(format!("the recorded mail: {error}")))?;
        let address = self
            .address()
            .await
            .map_err(|reason| SendError::Recoverable(format!("{}:{}: connect: {reason}", self.host, self.port)))?;
        let transport = self.transport(address).await?;
        match transport.send_raw(&envelope, mail.message.as_bytes()).await {
            Ok(_) => Ok(()),
            Err(error) => {
                let mut texts = vec![error.to_string()];
                let mut cause = std::error::Error::source(&error);
                while let Some(deeper) = cause {
                    let text = deeper.to_string();
                    if !texts.iter().any(|known| known.contains(&text)) {
                        texts.push(text);
                    }
                    cause = deeper.source();
                }
                Err(SendError::Recoverable(format!("{}:{}: {}", self.host, self.port, texts.join(": "))))
            }
        }
    }

    /// The server's first address that may be connected to and answers. Looked up here, so that what is judged is what is
    /// connected to; the certificate must bear the name all the same.
    async fn address(&self) -> Result<IpAddr, String> {
        let found = self.reach.look_up(&self.host, self.port).await?;
        let (last, before) = found.split_last().ok_or("the name has no address")?;
        for address in before {
            if tokio::time::timeout(NEXT_ADDRESS_AFTER, TcpStream::connect(address))
                .await
                .is_ok_and(|made| made.is_ok())
            {
                return Ok(address.ip());
            }
        }
        Ok(last.ip())
    }

    async fn transport(&self, address: IpAddr) -> Result<AsyncSmtpTransport<Tokio1Executor>, SendError> {
        let EmailConfig { require_tls, force_implicit_tls, auth_username, hello, .. } = &self.config;
        let tls = match () {
            () if force_implicit_tls.unwrap_or(self.port == 465) => Tls::Wrapper(self.tls().await?),
            () if require_tls.unwrap_or(true) => Tls::Required(self.tls().await?),
            () => Tls::None,
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(address.to_string())
            .port(self.port)
            .timeout(Some(TIMEOUT))
            .tls(tls)
            .hello_name(ClientId::Domain(hello.clone().unwrap_or_else(|| "localhost".to_owned())));
        if let Some(user) = auth_username.as_ref().filter(|user| !user.is_empty()) {
            let password = match (&self.config.auth_password, &self.config.auth_password_file) {
                (_, Some(file)) => read_secret("auth_password_file", file).await?,
                (given, None) => given.as_ref().map(|secret| secret.reveal().to_owned()).unwrap_or_default(),
            };
            builder = builder
                .credentials(Credentials::new(user.clone(), password))
                .authentication(vec![Mechanism::Plain, Mechanism::Login]);
        }
        Ok(builder.build())
    }

    async fn tls(&self) -> Result<TlsParameters, SendError> {
        let wrong = |key: &str, reason: String| SendError::Recoverable(format!("tls_config.{key}: {reason}"));
        let config = self.config.tls_config.clone().unwrap_or_default();
        let [oldest, _] = config.versions();
        let TlsConfig { ca, cert, key, ca_file, cert_file, key_file, server_name, insecure_skip_verify, .. } = config;
        let oldest = if oldest == TlsVersion::TLS13 { SmtpTls::Tlsv13 } else { SmtpTls::Tlsv12 };
        let mut builder = TlsParameters::builder(server_name.unwrap_or_else(|| self.host.clone()))
            .set_min_tls_version(oldest)
            .dangerous_accept_invalid_certs(insecure_skip_verify);
        let read = |key, file: Option<PathBuf>, direct: Option<String>| async move {
            match file {
                Some(file) => tokio::fs::read(file).await.map(Some).map_err(|error| wrong(key, error.to_string())),
                None => Ok(direct.map(String::into_bytes)),
            }
        };
        if let Some(pem) = read("ca_file", ca_file, ca).await? {
            let certificate = Certificate::from_pem(&pem).map_err(|error| wrong("ca_file", error.to_string()))?;
            builder = builder.certificate_store(CertificateStore::None).add_root_certificate(certificate);
        }
        let key = key.map(|key| key.reveal().to_owned());
        let own = (read("cert_file", cert_file, cert).await?, read("key_file", key_file, key).await?);
        if let (Some(certificate), Some(key)) = own {
            let identity =
                Identity::from_pem(&certificate, &key).map_err(|error| wrong("cert_file", error.to_string()))?;
            builder = builder.identify_with(identity);
        }
        builder.build().map_err(|error| wrong("ca_file", error.to_string()))
    }
}

fn with_globals(mut config: EmailConfig, parts: &Parts<'_>) -> EmailConfig {
    let globals = parts.globals.clone();
    config.from = config.from.or(globals.smtp_from);
    config.smarthost = config.smarthost.or(globals.smtp_smarthost);
    config.hello = config.hello.or(globals.smtp_hello);
    config.auth_username = config.auth_username.or(globals.smtp_auth_username);
    if config.auth_password.is_none() && config.auth_password_file.is_none() {
        config.auth_password = globals.smtp_auth_password;
        config.auth_password_file = globals.smtp_auth_password_file;
    }
    config.require_tls = config.require_tls.or(globals.smtp_require_tls);
    config.force_implicit_tls = config.force_implicit_tls.or(globals.smtp_force_implicit_tls);
    config.tls_config = config.tls_config.or(globals.smtp_tls_config);
    config
}

fn header(name: &str, value: String) -> Result<HeaderValue, String> {
    let known = HeaderName::new_from_ascii(name.to_owned()).map_err(|_| format!("{name:?} is not a header name"))?;
    Ok(HeaderValue::new(known, value))
}

fn mailboxes(key: &str, text: &str) -> Result<Vec<lettre::message::Mailbox>, String> {
    let read: Mailboxes = text.parse().map_err(|error| format!("{key}: {text:?}: {error}"))?;
    Ok(read.into_iter().collect())
}
