//! Requests of an import, each sent until the server has it or refuses it for good.

use std::time::Duration;

/// How often a request that the server could not take for now is sent: over a minute and a half, so that a server that
/// starts anew is waited for.
const TRIES: u32 = 9;
const LONGEST_PAUSE: Duration = Duration::from_secs(20);
/// Most refusals that are told.
const PROBLEMS_MAX: usize = 10;

/// What became of the samples that were sent.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Samples stored.
    pub(super) stored: usize,
    /// What the server said of what it did not store.
    pub(super) problems: Vec<String>,
}

/// The server's receiver of imports: remote write, for administrators.
pub(super) struct Receiver {
    client: reqwest::Client,
    url: String,
}

impl Receiver {
    /// That of a meshscope server.
    pub(super) fn new(client: reqwest::Client, server: &str) -> Self {
        Self { client, url: format!("{}/api/v1/import", server.trim_end_matches('/')) }
    }

    /// Sends a remote write 2.0 message, packed with snappy.
    ///
    /// # Errors
    /// When the server cannot be reached for long, or is no meshscope.
    pub(super) async fn send(&self, packed: Vec<u8>, sent: &mut Sent) -> anyhow::Result<()> {
        let packed = axum::body::Bytes::from(packed);
        let mut pause = Duration::from_millis(500);
        for attempt in 1.. {
            let failure = match self.send_once(packed.clone(), sent).await? {
                None => return Ok(()),
                Some(failure) => failure,
            };
            if attempt >= TRIES {
                return Err(failure);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Ok(())
    }

    /// Why it is to be sent again, if it is.
    async fn send_once(&self, packed: axum::body::Bytes, sent: &mut Sent) -> anyhow::Result<Option<anyhow::Error>> {
        let url = &self.url;
        let request = self
            .client
            .post(url)
            .header("content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")
            .header("content-encoding", "snappy")
            .header("x-prometheus-remote-write-version", "2.0.0")
            .body(packed);
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => return Ok(Some(anyhow::Error::from(error).context(format!("send samples to {url}")))),
        };
        let status = answer.status();
        let written = answer.headers().get("x-prometheus-remote-write-samples-written");
        let written = written.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        let text = answer.text().await.unwrap_or_default();
        match written {
            Some(written) if status.is_success() || status.is_client_error() => {
                sent.stored += written;
                let room = PROBLEMS_MAX.saturating_sub(sent.problems.len());
                sent.problems.extend(text.lines().take(room).map(str::to_owned));
                Ok(None)
            }
            _ if status.is_server_error() => Ok(Some(anyhow::anyhow!("{url} answered {status}: {}", text.trim()))),
            _ if status == 401 || status == 403 => anyhow::bail!(
                "{url} answered {status}: {}: an import needs an administrator, see --token-file and --user",
                text.trim()
            ),
            _ => anyhow::bail!("{url} answered {status}: {}: is it a meshscope server?", text.trim()),
        }
    }
}
