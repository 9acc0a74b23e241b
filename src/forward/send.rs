//! One request: compressed, sent, judged.
//!
//! In: a message. Out: whether it was taken, must be tried again, or is refused for good, as Prometheus judges: 5xx and
//! network errors are tried again, 429 where configured, everything else that is not 2xx is final.

use std::time::Duration;

use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};

use super::config::{Protocol, RemoteWriteConfig};
use crate::http_client::{self, Client};

/// Longest pause that a receiver may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// How much of an answer is shown.
const ANSWER_BYTES: usize = 512;

/// What became of a request.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Taken; how many bytes were sent.
    Taken(usize),
    /// To be sent again, after the pause that the receiver asks for, if it does.
    Again(String, Option<Duration>),
    /// Never to be sent again.
    Refused(String),
}

/// Sends one message.
pub(super) async fn post(client: &Client, config: &RemoteWriteConfig, message: &[u8]) -> Outcome {
    let body = match snap::raw::Encoder::new().compress_vec(message) {
        Ok(body) => body,
        Err(error) => return Outcome::Refused(format!("cannot be compressed: {error}")),
    };
    let size = body.len();
    let (kind, version) = match config.protobuf_message {
        Protocol::V1 => ("application/x-protobuf", "0.1.0"),
        Protocol::V2 => ("application/x-protobuf;proto=io.prometheus.write.v2.Request", "2.0.0"),
    };
    let request = match client.request(reqwest::Method::POST, &config.url) {
        Ok(request) => request,
        // A certificate or password file that is being replaced will be back.
        Err(error) => return Outcome::Again(error.to_string(), None),
    };
    let request = request
        .header(CONTENT_TYPE, kind)
        .header(CONTENT_ENCODING, "snappy")
        .header("X-Prometheus-Remote-Write-Version", version)
        .header(USER_AGENT, concat!("meshscope/", env!("CARGO_PKG_VERSION")))
        .timeout(config.remote_timeout.get())
        .body(body);
    match request.send().await {
        Ok(answer) => judge(answer, config.queue_config.retry_on_http_429, size).await,
        Err(error) => Outcome::Again(http_client::describe(&error), None),
    }
}

async fn judge(mut answer: reqwest::Response, retries_429: bool, size: usize) -> Outcome {
    let status = answer.status();
    if status.is_success() {
        return Outcome::Taken(size);
    }
    let pause = answer.headers().get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?));
    let mut text = Vec::new();
    while text.len() < ANSWER_BYTES
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        text.extend_from_slice(&chunk);
    }
    text.truncate(ANSWER_BYTES);
    let text = String::from_utf8_lossy(&text);
    let message = format!("server returned HTTP status {status}: {}", text.lines().next().unwrap_or_default());
    if status.is_server_error() || retries_429 && status.as_u16() == 429 {
        Outcome::Again(message, pause)
    } else {
        Outcome::Refused(message)
    }
}

/// Seconds, or a date in the form that HTTP prefers.
fn retry_after(text: &str) -> Option<Duration> {
    let pause = match text.trim().parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = chrono::DateTime::parse_from_rfc2822(text.trim()).ok()?;
            (at.to_utc() - chrono::Utc::now()).to_std().ok()?
        }
    };
    Some(pause.min(RETRY_AFTER_MAX))
}
