//! One connection to one server, asked again and again: what scraping does. HTTP/1.1 without TLS and without a proxy.
//!
//! In: a GET request. Out: its head, and the body in pieces that lie in the one buffer the caller lends. The HTTP library
//! reads on a task of its own, hands each piece over a channel and keeps a buffer of its own for each connection; here
//! the one who wants the bytes reads them. Framing is that of RFC 9112 §6 and §7.
//! Invariants: a connection is kept only after an answer that has come whole; the head, a line of the framing and the
//! trailers are bounded; nothing of the body is held but what the buffer has.

mod framing;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use reqwest::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use reqwest::{Request, StatusCode, Url};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::resolve::CachingResolver;
use super::{CONNECT_TIMEOUT, IDLE_TIMEOUT};
use framing::{Ahead, Framing};

/// Bytes of the buffer: a page of a thousand of Istio's series comes in about six reads.
pub(crate) const BUFFER_BYTES: usize = 128 << 10;
/// Bytes of a head; servers of metrics send some hundred.
const HEAD_LIMIT_BYTES: usize = 64 << 10;
const HEADERS_MAX: usize = 100;
/// A run of bytes up to this size is moved up to the one before it, so that small chunks are not read one by one.
const MERGED_RUN_BYTES: usize = 16 << 10;
/// When a name has several addresses, one that does not answer gives way to the next after this.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_secs(1);

/// Why an exchange failed. The messages are those of [`super::describe`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum DirectError {
    /// No connection.
    #[error("connect: {0}")]
    Connect(String),
    /// The request could not be sent, or what came back is no head of an answer.
    #[error("send the request: {0}")]
    Send(String),
    /// The body broke off or is not framed as it should be.
    #[error("read the body: {0}")]
    Body(String),
}

/// The connection kept between requests.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// With the time of its last use.
    idle: Option<(TcpStream, Instant)>,
    /// The server sends elsewhere: the HTTP library follows.
    pub is_redirected: bool,
}

/// An answer whose body is about to arrive.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    stream: TcpStream,
    buffer: Vec<u8>,
    /// What of the buffer has come and is not taken.
    at: usize,
    end: usize,
    framing: Framing,
    keeps: bool,
}

impl Kept {
    /// Closes it.
    pub fn close(&mut self) {
        self.idle = None;
    }

    /// A connection that the server has not closed and that said nothing unasked.
    fn take_usable(&mut self) -> Option<TcpStream> {
        let (stream, used) = self.idle.take()?;
        let is_quiet = matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        (is_quiet && used.elapsed() < IDLE_TIMEOUT).then_some(stream)
    }

    /// Sends a request without a body and reads the head of its answer. `buffer` is given back by [`Answer::end`].
    ///
    /// # Errors
    /// When there is no connection or what comes is no answer. A connection that the server closed before it answered
    /// anything is replaced once.
    pub(super) async fn get(
        &mut self,
        resolver: &CachingResolver,
        request: &Request,
        mut buffer: Vec<u8>,
    ) -> Result<Answer, DirectError> {
        buffer.resize(BUFFER_BYTES, 0);
        let head = head_of(request);
        if let Some(mut stream) = self.take_usable() {
            match ask(&mut stream, &head, &mut buffer).await {
                Ok(end) => return Answer::read_head(stream, buffer, end).await,
                Err(error) => tracing::trace!("a kept connection was closed meanwhile: {error}"),
            }
        }
        let mut stream = connect(resolver, request.url()).await.map_err(DirectError::Connect)?;
        let end = ask(&mut stream, &head, &mut buffer).await.map_err(|error| DirectError::Send(error.to_string()))?;
        Answer::read_head(stream, buffer, end).await
    }
}

/// Writes the request and waits for the first bytes of the answer.
async fn ask(stream: &mut TcpStream, head: &[u8], buffer: &mut [u8]) -> io::Result<usize> {
    stream.write_all(head).await?;
    match stream.read(buffer).await? {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "connection closed before message completed")),
        read => Ok(read),
    }
}

fn head_of(request: &Request) -> Vec<u8> {
    let url = request.url();
    let mut head = format!("{} {}", request.method(), url.path()).into_bytes();
    if let Some(query) = url.query() {
        head.extend_from_slice(format!("?{query}").as_bytes());
    }
    head.extend_from_slice(b" HTTP/1.1\r\n");
    if !request.headers().contains_key(HOST) {
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        head.extend_from_slice(format!("host: {}{port}\r\n", url.host_str().unwrap_or_default()).as_bytes());
    }
    for (name, value) in request.headers() {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

async fn connect(resolver: &CachingResolver, url: &Url) -> Result<TcpStream, String> {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(80);
    let addresses = match host.trim_matches(['[', ']']).parse::<std::net::IpAddr>() {
        Ok(address) => {
            resolver.reach().check(host, address)?;
            vec![SocketAddr::new(address, port)]
        }
        Err(_) => resolver.addresses(host).await?,
    };
    let mut reason = format!("`{host}` has no address");
    for (number, mut address) in addresses.iter().copied().enumerate() {
        address.set_port(port);
        let limit = if number + 1 < addresses.len() { NEXT_ADDRESS_AFTER } else { CONNECT_TIMEOUT };
        match timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true).map_err(|error| error.to_string())?;
                return Ok(stream);
            }
            Ok(Err(error)) => reason = error.to_string(),
            Err(_) => reason = format!("{address} does not answer"),
        }
    }
    Err(reason)
}

impl Answer {
    async fn read_head(mut stream: TcpStream, mut buffer: Vec<u8>, mut end: usize) -> Result<Self, DirectError> {
        let refuse = |reason: &str| DirectError::Send(reason.to_owned());
        let mut at = 0;
        loop {
            if let Some(head) = parse_head(&buffer[at..end]).map_err(DirectError::Send)? {
                at += head.bytes;
                if head.status.is_informational() {
                    continue; // the answer itself follows
                }
                let Head { status, headers, is_1_1, .. } = head;
                let framing = framing_of(status, &headers).map_err(DirectError::Send)?;
                let keeps = is_1_1 && !has_token(&headers, CONNECTION, "close") && framing.ends_by_itself();
                return Ok(Self { status, headers, stream, buffer, at, end, framing, keeps });
            }
            buffer.copy_within(at..end, 0);
            (at, end) = (0, end - at);
            if end >= HEAD_LIMIT_BYTES {
                return Err(refuse("the head of the answer is too large"));
            }
            match stream.read(&mut buffer[end..]).await {
                Ok(0) => return Err(refuse("connection closed before message completed")),
                Ok(read) => end += read,
                Err(error) => return Err(DirectError::Send(error.to_string())),
            }
        }
    }

    /// How long the body is, when the head says.
    pub fn content_length(&self) -> Option<u64> {
        self.framing.length()
    }

    /// The next bytes of the body; `None` after the last. The caller bounds the time and the bytes.
    ///
    /// # Errors
    /// When the body breaks off or is not framed as it should be.
    pub async fn piece(&mut self) -> Result<Option<&[u8]>, DirectError> {
        loop {
            match self.arrived().map_err(DirectError::Body)? {
                (Some((start, end)), _) => return Ok(Some(&self.buffer[start..end])),
                (None, Ahead::End) => return Ok(None),
                (None, _) => self.receive().await?,
            }
        }
    }

    /// What of the body lies in the buffer: the next run of bytes with the small ones after it, and what comes then.
    fn arrived(&mut self) -> Result<(Option<(usize, usize)>, Ahead), String> {
        let mut run: Option<(usize, usize)> = None;
        loop {
            let ahead = self.framing.ahead(&self.buffer[..self.end], &mut self.at)?;
            match (ahead, &mut run) {
                (Ahead::Data(bytes), None) => run = Some((self.at, self.at + bytes)),
                (Ahead::Data(bytes), Some((_, end))) if bytes <= MERGED_RUN_BYTES => {
                    self.buffer.copy_within(self.at..self.at + bytes, *end);
                    *end += bytes;
                }
                (ahead, _) => return Ok((run, ahead)),
            }
            if let Ahead::Data(bytes) = ahead {
                self.at += bytes;
                self.framing.took(bytes);
            }
        }
    }

    async fn receive(&mut self) -> Result<(), DirectError> {
        self.buffer.copy_within(self.at..self.end, 0); // at most a part of a line of the framing
        (self.at, self.end) = (0, self.end - self.at);
        match self.stream.read(&mut self.buffer[self.end..]).await {
            Ok(0) => self.framing.closed().map_err(DirectError::Body),
            Ok(read) => {
                self.end += read;
                Ok(())
            }
            Err(error) => Err(DirectError::Body(error.to_string())),
        }
    }

    /// Keeps the connection when the answer has come whole and the server allows it. Gives the buffer back.
    pub fn end(self, kept: &mut Kept) -> Vec<u8> {
        if self.keeps && self.framing.is_done() && self.at == self.end {
            kept.idle = Some((self.stream, Instant::now()));
        }
        self.buffer
    }
}

struct Head {
    status: StatusCode,
    headers: HeaderMap,
    is_1_1: bool,
    bytes: usize,
}

/// Reads a head; `None` when it is not whole.
fn parse_head(bytes: &[u8]) -> Result<Option<Head>, String> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let invalid = |error: String| format!("invalid HTTP answer: {error}");
    let bytes = match response.parse(bytes).map_err(|error| invalid(error.to_string()))? {
        httparse::Status::Complete(bytes) => bytes,
        httparse::Status::Partial => return Ok(None),
    };
    let status = StatusCode::from_u16(response.code.unwrap_or_default()).map_err(|error| invalid(error.to_string()))?;
    let mut found = HeaderMap::with_capacity(response.headers.len());
    for header in response.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|error| invalid(error.to_string()))?;
        found.append(name, HeaderValue::from_bytes(header.value).map_err(|error| invalid(error.to_string()))?);
    }
    Ok(Some(Head { status, headers: found, is_1_1: response.version == Some(1), bytes }))
}

/// How the end of the body is found (RFC 9112 §6.3).
fn framing_of(status: StatusCode, headers: &HeaderMap) -> Result<Framing, String> {
    if status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED {
        return Ok(Framing::sized(0));
    }
    if let Some(coding) = headers.get(TRANSFER_ENCODING) {
        let is_single = headers.get_all(TRANSFER_ENCODING).iter().count() == 1;
        return match coding.to_str().map(|coding| coding.trim().to_ascii_lowercase()) {
            Ok(coding) if coding == "chunked" && is_single => Ok(Framing::chunked()),
            _ => Err(format!("unsupported transfer-encoding {coding:?}")),
        };
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter().map(|value| value.to_str().unwrap_or_default().trim());
    let Some(length) = lengths.next() else { return Ok(Framing::until_close()) };
    let is_plain = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    match length.parse() {
        Ok(bytes) if is_plain && lengths.all(|other| other == length) => Ok(Framing::sized(bytes)),
        _ => Err(format!("invalid content-length {length:?}")),
    }
}

fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let values = headers.get_all(name);
    let mut texts = values.iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(','));
    texts.any(|part| part.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests;
