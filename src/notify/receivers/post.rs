//! One HTTP request of a receiver, and what its answer means.
//!
//! In: an address, a client, a body. Out: an [`Answer`] or a [`SendError`]. Invariant: no more of an answer is read than
//! is shown, and an address, which may hold a token, is in no message.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use serde::Serialize;

use super::{NOT_SUPPORTED, Parts};
use crate::gotemplate::go_escaped;
use crate::http_client;
use crate::units::{PromDuration, Secret};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Most characters of an answer that are put into an error.
const EXCERPT_CHARS: usize = 200;

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub(in crate::notify) enum SendError {
    /// Worth another try: no answer, 5xx, or what this kind of receiver says is temporary.
    #[error("{0}")]
    Recoverable(String),
    /// Another try would get the same answer.
    #[error("{0}")]
    Final(String),
}

/// Where to send.
pub(super) enum Address {
    Given(Secret),
    File { key: String, file: PathBuf },
}

impl Address {
    /// One of an address and a file that holds it.
    pub(super) fn new(key: &str, url: Option<Secret>, file: Option<PathBuf>) -> Result<Self, String> {
        match (url, file) {
            (Some(url), None) => {
                if url.reveal().contains("{{") {
                    return Err(format!("{key}: a template {NOT_SUPPORTED}; write one receiver for each address"));
                }
                check_url(key, url.reveal())?;
                Ok(Self::Given(url))
            }
            (None, Some(file)) => Ok(Self::File { key: format!("{key}_file"), file }),
            (None, None) => Err(format!("one of {key} or {key}_file must be configured")),
            (Some(_), Some(_)) => Err(format!("at most one of {key} & {key}_file must be configured")),
        }
    }

    async fn read(&self) -> Result<String, SendError> {
        match self {
            Self::Given(url) => Ok(url.reveal().to_owned()),
            Self::File { key, file } => read_secret(key, file).await,
        }
    }
}

/// Whether requests can go there.
pub(in crate::notify) fn check_url(key: &str, url: &str) -> Result<(), String> {
    let parsed = reqwest::Url::parse(url).map_err(|error| format!("{key}: {error}"))?;
    match parsed.scheme() {
        "http" | "https" => Ok(()),
        scheme => Err(format!("{key}: unsupported scheme {scheme:?} for URL: write http or https")),
    }
}

/// The text of a file without white space around it.
pub(super) async fn read_secret(key: &str, file: &Path) -> Result<String, SendError> {
    let text = tokio::fs::read_to_string(file).await;
    let text = text.map_err(|error| SendError::Recoverable(format!("read {key} {}: {error}", file.display())))?;
    Ok(text.trim().to_owned())
}

/// A checked endpoint.
pub(super) struct Post {
    address: Address,
    client: http_client::Client,
    timeout: Duration,
}

/// What the endpoint said.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: reqwest::StatusCode,
    pub(super) is_json: bool,
    pub(super) body: String,
}

impl Post {
    pub(super) fn new(
        address: Address,
        own: Option<&http_client::Config>,
        timeout: PromDuration,
        parts: &Parts<'_>,
    ) -> Result<Self, String> {
        let config = own.or(parts.globals.http_config.as_ref()).cloned().unwrap_or_default();
        config.validate().map_err(|error| format!("http_config: {error}"))?;
        let timeout = if timeout.is_zero() { DEFAULT_TIMEOUT } else { timeout.get() };
        Ok(Self { address, client: http_client::Client::reaching(config, parts.reach.clone()), timeout })
    }

    /// One POST of JSON.
    pub(super) async fn json(&self, body: String) -> Result<Answer, SendError> {
        self.send(reqwest::Method::POST, "application/json", body, None).await
    }

    /// One request.
    pub(super) async fn send(
        &self,
        method: reqwest::Method,
        content_type: &str,
        body: String,
        header: Option<(HeaderName, HeaderValue)>,
    ) -> Result<Answer, SendError> {
        let url = self.address.read().await?;
        let mut request = (self.client.request(method, &url))
            .map_err(|error| SendError::Recoverable(error.to_string()))?
            .timeout(self.timeout)
            .header(CONTENT_TYPE, content_type)
            .header(USER_AGENT, concat!("meshscope/", env!("CARGO_PKG_VERSION")))
            .body(body);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let answer = request.send().await.map_err(|error| SendError::Recoverable(network_reason(&error)))?;
        let status = answer.status();
        let kind = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_json = kind.is_some_and(|kind| kind.starts_with("application/json"));
        Ok(Answer { status, is_json, body: beginning(answer).await })
    }
}

/// No more of the body than is needed: an endpoint must not fill our memory.
async fn beginning(mut answer: reqwest::Response) -> String {
    let mut read = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        read.extend_from_slice(&chunk[..chunk.len().min(ANSWER_BYTES_MAX - read.len())]);
        if read.len() >= ANSWER_BYTES_MAX {
            break;
        }
    }
    String::from_utf8_lossy(&read).into_owned()
}

impl Answer {
    /// 2xx is a success; 5xx and `retried` are worth another try, every other status is final for this flush.
    pub(super) fn check(&self, retried: &[u16]) -> Result<(), SendError> {
        if self.status.is_success() {
            return Ok(());
        }
        let excerpt: String = self.body.chars().take(EXCERPT_CHARS).collect();
        let reason = format!("unexpected status code {}: {}", self.status, excerpt.trim());
        let again = self.status.is_server_error() || retried.contains(&self.status.as_u16());
        Err(if again { SendError::Recoverable(reason) } else { SendError::Final(reason) })
    }
}

/// JSON as Go's encoder writes it, with its final newline.
pub(super) fn json_text(value: &impl Serialize) -> Result<String, String> {
    let text = serde_json::to_string(value).map_err(|error| format!("encode: {error}"))?;
    Ok(go_escaped(&text) + "\n")
}

/// The cause of a network error without its address, which may hold a token.
fn network_reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer within the timeout".to_owned();
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    format!("cannot deliver: {cause}")
}
