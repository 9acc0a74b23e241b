//! A time limit for the first bytes of a connection, which nobody else keeps: until they are there it is not known whether
//! HTTP/1.1 or HTTP/2 is spoken, and only then the limits of those hold.
//!
//! Invariant: a connection that does not say which protocol it speaks ends after [`OPENING_TIME`].

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// Longest time until the protocol is known, a TLS handshake included.
const OPENING_TIME: Duration = Duration::from_secs(30);
/// The first bytes of HTTP/2 (RFC 9113, 3.4). What differs in one of them is HTTP/1.1.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection.
pub(super) struct Opening<S> {
    stream: S,
    /// The limit, and how much of the preface was seen; gone when the protocol is known.
    unknown: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<S> Opening<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, unknown: Some((Box::pin(tokio::time::sleep(OPENING_TIME)), 0)) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Opening<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = out.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, out);
        let Some((deadline, seen)) = &mut this.unknown else { return read };
        if read.is_pending() {
            ready!(deadline.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let new = &out.filled()[before..];
        let expected = &PREFACE[*seen..(*seen + new.len()).min(PREFACE.len())];
        *seen += expected.len();
        if *seen == PREFACE.len() || !new.starts_with(expected) {
            this.unknown = None;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Opening<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Whether a connection that says `first` and then nothing is still open after an hour.
    async fn stays(first: &[u8]) -> bool {
        let (mut client, server) = tokio::io::duplex(1024);
        let mut server = Opening::new(server);
        client.write_all(first).await.expect("write");
        let mut rest = vec![0; 100];
        let reading = async {
            loop {
                if let Err(error) = server.read(&mut rest).await {
                    return error.kind();
                }
            }
        };
        match tokio::time::timeout(Duration::from_secs(3600), reading).await {
            Ok(kind) => {
                assert_eq!(kind, io::ErrorKind::TimedOut);
                false
            }
            Err(_) => true,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_does_not_say_what_it_speaks_ends() {
        for (first, expect) in [
            (&b""[..], false),
            (b"P", false),
            (b"PRI * HTTP/2.0", false),
            (b"GET", true),
            (b"POST / HTTP/1.1\r\n", true),
            (PREFACE, true),
        ] {
            assert_eq!(stays(first).await, expect, "{}", String::from_utf8_lossy(first));
        }
    }
}
