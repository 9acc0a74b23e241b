//! Target lists of `http_sd_configs`: asks a URL for groups.
//!
//! Invariant: the answer is bounded in bytes and in time.

use std::time::Duration;

use super::{Group, HttpSdConfig};
use crate::http_client::{self, Client};

/// The largest answer that is read.
const ANSWER_LIMIT_BYTES: usize = 32 << 20;

/// Why a list could not be fetched; the caller keeps the last good one.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpSdError {
    #[error(transparent)]
    Client(#[from] http_client::Error),
    #[error("{}", http_client::describe(.0))]
    Request(#[from] reqwest::Error),
    #[error("server returned HTTP status {0}")]
    Status(reqwest::StatusCode),
    #[error("unsupported content type `{0}`, expected application/json")]
    ContentType(String),
    #[error("the answer exceeds {ANSWER_LIMIT_BYTES} bytes")]
    TooLarge,
    #[error("{0}")]
    Json(#[from] serde_json::Error),
}

/// Fetches one list; within the refresh interval, so that fetches never pile up.
pub(super) async fn fetch(client: &Client, sd: &HttpSdConfig) -> Result<Vec<Group>, HttpSdError> {
    let interval = sd.refresh_interval.get();
    let request = client
        .request(reqwest::Method::GET, &sd.url)?
        .timeout(interval.clamp(Duration::from_secs(1), Duration::from_secs(60)))
        .header("Accept", "application/json")
        .header("User-Agent", concat!("meshscope/", env!("CARGO_PKG_VERSION")))
        .header("X-Prometheus-Refresh-Interval-Seconds", interval.as_secs_f64().to_string());
    let mut response = request.send().await?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(HttpSdError::Status(response.status()));
    }
    let kind = response.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    if kind.split(';').next().map(str::trim) != Some("application/json") {
        return Err(HttpSdError::ContentType(kind));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > ANSWER_LIMIT_BYTES {
            return Err(HttpSdError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(serde_json::from_slice(&body)?)
}
