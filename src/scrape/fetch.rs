//! Asks a target for its page: the request as Prometheus 3.5 makes it, and why a scrape may fail.

use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, LOCATION, USER_AGENT};

use super::exposition::{Format, ParseError};
use super::reading::Encoding;
use crate::discovery::{Job, Protocol, Target};
use crate::http_client::{self, Answer, Client, Kept};

/// Why one scrape failed. Becomes `up == 0` and `lastError` in `/api/v1/targets`.
#[derive(Debug, thiserror::Error)]
pub enum ScrapeError {
    /// The HTTP client could not be made: a certificate or credential file.
    #[error(transparent)]
    Client(#[from] http_client::Error),
    /// No connection, no answer, or the answer broke off.
    #[error("Get \"{url}\": {reason}")]
    Request {
        /// The URL.
        url: String,
        /// Why.
        reason: String,
    },
    /// The answer took too long.
    #[error("Get \"{url}\": no complete answer within the scrape timeout of {timeout:?}")]
    Timeout {
        /// The URL.
        url: String,
        /// The timeout.
        timeout: std::time::Duration,
    },
    /// Too many scrapes were under way.
    #[error("no free scrape slot within the scrape timeout (scrape.concurrency is {concurrency})")]
    Busy {
        /// The limit.
        concurrency: usize,
    },
    /// Not 200.
    #[error("server returned HTTP status {0}")]
    Status(reqwest::StatusCode),
    /// A format that is not known, and no fallback.
    #[error("{0} and no fallback_scrape_protocol specified for target")]
    ContentType(String),
    /// Neither plain nor gzip.
    #[error("received unsupported Content-Encoding {0:?}")]
    ContentEncoding(String),
    /// Too long.
    #[error("body exceeds {limit_bytes} bytes (body_size_limit)")]
    BodyTooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// Pages of other targets take the memory.
    #[error("pages under way hold {limit_bytes} bytes (scrape.page_memory_limit)")]
    PageMemory {
        /// The limit.
        limit_bytes: u64,
    },
    /// Broken gzip.
    #[error("decompress the body: {0}")]
    Gzip(std::io::Error),
    /// The page is not well formed.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// Too many samples.
    #[error("sample_limit exceeded (number of samples: {found}, limit: {limit})")]
    SampleLimit {
        /// How many samples are left after relabelling.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// A label limit.
    #[error("{0}")]
    LabelLimit(String),
    /// Discovery forbids it.
    #[error("{0}")]
    Refused(String),
    /// A defect of ours, not of the target.
    #[error("reading the page failed unexpectedly, please report this with the page")]
    Internal,
}

/// An answer whose page is about to arrive.
pub(super) struct Opened {
    body: Body,
    pub encoding: Encoding,
    pub gzip: bool,
}

/// Who reads it.
enum Body {
    /// We ourselves, over the connection that the target's loop keeps.
    Kept(Answer),
    /// The HTTP library: over TLS, a proxy or a redirect. With its last piece.
    Library(reqwest::Response, bytes::Bytes),
}

impl Opened {
    /// The next bytes of the body; `None` after the last. The caller bounds the time and the bytes.
    pub async fn piece(&mut self, target: &Target) -> Result<Option<&[u8]>, ScrapeError> {
        match &mut self.body {
            Body::Kept(answer) => answer.piece().await.map_err(|error| failed(target, error.to_string())),
            Body::Library(response, last) => {
                let next = response.chunk().await;
                let next = next.map_err(|error| failed(target, http_client::describe(&error)))?;
                Ok(next.map(|piece| {
                    *last = piece;
                    &**last
                }))
            }
        }
    }

    /// After the last piece: gives back the buffer it lent, and keeps the connection.
    pub fn end(self, kept: &mut Kept) -> Option<Vec<u8>> {
        if let Body::Kept(answer) = self.body { Some(answer.end(kept)) } else { None }
    }
}

/// Asks for the page. `buffer` is lent until [`Opened::end`].
pub(super) async fn open(
    client: &Client,
    target: &Target,
    (kept, buffer): (&mut Kept, Vec<u8>),
) -> Result<Opened, ScrapeError> {
    let body = match ask_directly(client, target, (kept, buffer)).await? {
        Some(answer) => Body::Kept(answer),
        None => {
            kept.close();
            let request = with_headers(client.request(reqwest::Method::GET, &target.url)?, target);
            let response = request.send().await;
            let response = response.map_err(|error| failed(target, http_client::describe(&error)))?;
            Body::Library(response, bytes::Bytes::new())
        }
    };
    let (status, headers, length) = match &body {
        Body::Kept(answer) => (answer.status, &answer.headers, answer.content_length()),
        Body::Library(response, _) => (response.status(), response.headers(), response.content_length()),
    };
    if status != reqwest::StatusCode::OK {
        return Err(ScrapeError::Status(status));
    }
    let job = &target.job;
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let encoding = encoding_of(header(CONTENT_TYPE).unwrap_or(""), job)?;
    let gzip = match header(CONTENT_ENCODING).unwrap_or("").trim() {
        "" | "identity" => false,
        encoding if encoding.eq_ignore_ascii_case("gzip") => true,
        other => return Err(ScrapeError::ContentEncoding(other.to_owned())),
    };
    let limit_bytes = job.limits.body_bytes;
    if length.is_some_and(|length| length > limit_bytes) {
        return Err(ScrapeError::BodyTooLarge { limit_bytes });
    }
    Ok(Opened { body, encoding, gzip })
}

/// Over the connection that is kept; `None` when the library has to do it.
async fn ask_directly(
    client: &Client,
    target: &Target,
    (kept, buffer): (&mut Kept, Vec<u8>),
) -> Result<Option<Answer>, ScrapeError> {
    if kept.is_redirected || !client.is_direct(&target.url) {
        return Ok(None);
    }
    let request = with_headers(client.direct_request(&target.url)?, target);
    let request = request.build().map_err(|error| failed(target, http_client::describe(&error)))?;
    let answer = client.get(kept, &request, buffer).await.map_err(|error| failed(target, error.to_string()))?;
    kept.is_redirected =
        client.config().follow_redirects && answer.status.is_redirection() && answer.headers.contains_key(LOCATION);
    Ok(Some(answer).filter(|_| !kept.is_redirected))
}

fn with_headers(request: reqwest::RequestBuilder, target: &Target) -> reqwest::RequestBuilder {
    let job = &target.job;
    request
        .header(ACCEPT, accept(&job.protocols))
        .header(ACCEPT_ENCODING, if job.config.enable_compression { "gzip" } else { "identity" })
        .header(USER_AGENT, concat!("meshscope/", env!("CARGO_PKG_VERSION")))
        .header("X-Prometheus-Scrape-Timeout-Seconds", target.timeout.as_secs_f64().to_string())
}

fn failed(target: &Target, reason: String) -> ScrapeError {
    ScrapeError::Request { url: target.url.clone(), reason }
}

/// The `Accept` header, weighted as Prometheus weights it.
fn accept(protocols: &[Protocol]) -> String {
    let mut header = String::new();
    for (i, protocol) in protocols.iter().enumerate() {
        header.push_str(&format!("{};q=0.{},", protocol.media_type(), 6_usize.saturating_sub(i)));
    }
    header + &format!("*/*;q=0.{}", 6_usize.saturating_sub(protocols.len()))
}

/// How a page is written by its Content-Type, the fallback where that is missing or unknown.
fn encoding_of(content_type: &str, job: &Job) -> Result<Encoding, ScrapeError> {
    let media_type = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    match (media_type.as_str(), job.config.fallback_scrape_protocol) {
        ("text/plain", _) => Ok(Encoding::Lines(Format::Text)),
        ("application/openmetrics-text", _) => Ok(Encoding::Lines(Format::OpenMetrics)),
        ("application/vnd.google.protobuf", _) | (_, Some(Protocol::Protobuf)) => Ok(Encoding::Protobuf),
        (_, Some(Protocol::Text0 | Protocol::Text1)) => Ok(Encoding::Lines(Format::Text)),
        (_, Some(Protocol::OpenMetrics0 | Protocol::OpenMetrics1)) => Ok(Encoding::Lines(Format::OpenMetrics)),
        ("", None) => {
            Err(ScrapeError::ContentType("non-compliant scrape target sending blank Content-Type".to_owned()))
        }
        _ => Err(ScrapeError::ContentType(format!("received unsupported Content-Type {content_type:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_for_formats_as_prometheus_3_5_does() {
        assert_eq!(
            accept(&Protocol::DEFAULTS),
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
             text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
        );
    }
}
