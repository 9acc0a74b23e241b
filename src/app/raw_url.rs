//! Takes URLs as people type them: `curl 'http://…/api/v1/query?query=up{job="x"}'`.
//!
//! In: connections. Out: the same, with what Go's server takes in a request line and ours refuses (`"`, `<`, `>`, `#` and
//! bytes that are not ASCII) percent-encoded, which names the same. Invariants: nothing after the request line is changed,
//! and at most three times what one read gave is held.
//!
//! The first line of a connection is a request line for certain. A later one is taken for it when it begins what is read
//! after an answer was written, and is a `GET` or `HEAD`: then no body can be under way that looks alike, but for one that
//! was refused before it was sent. Other methods carry their parameters in the body.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most bytes of a request line that are read at once.
const CHUNK_BYTES: usize = 8 * 1024;

/// A connection whose request lines are mended as they are read.
pub(super) struct Lenient<S> {
    stream: S,
    place: Place,
    /// Mended bytes that the reader had no room for, from `given` on.
    mended: Vec<u8>,
    given: usize,
}

/// Where in a request the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In a request line.
    Line,
    /// In headers or a body.
    Rest,
    /// After an answer: what comes may be a request line.
    Answered,
}

impl<S> Lenient<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, place: Place::Line, mended: Vec::new(), given: 0 }
    }

    fn give(&mut self, out: &mut ReadBuf<'_>) {
        let count = out.remaining().min(self.mended.len() - self.given);
        out.put_slice(&self.mended[self.given..self.given + count]);
        self.given += count;
        if self.given == self.mended.len() {
            self.mended.clear();
            self.given = 0;
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        if self.place == Place::Answered {
            let is_request = bytes.starts_with(b"GET /") || bytes.starts_with(b"HEAD /");
            self.place = if is_request { Place::Line } else { Place::Rest };
        }
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                _ if self.place == Place::Rest => return self.mended.extend_from_slice(&bytes[at..]),
                b'\n' => {
                    self.place = Place::Rest;
                    self.mended.push(b'\n');
                }
                b'"' | b'<' | b'>' | b'#' | 0x80.. => {
                    let digit = |value: u8| b"0123456789ABCDEF"[usize::from(value & 15)];
                    self.mended.extend([b'%', digit(byte >> 4), digit(*byte)]);
                }
                other => self.mended.push(*other),
            }
        }
    }

    fn wrote(&mut self, bytes: &[u8]) {
        // `100 Continue` asks for a body.
        if self.place == Place::Rest && !bytes.starts_with(b"HTTP/1.1 1") {
            self.place = Place::Answered;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lenient<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.mended.is_empty() {
            if self.place == Place::Rest {
                return Pin::new(&mut self.stream).poll_read(context, out);
            }
            let mut room = [0; CHUNK_BYTES];
            let mut chunk = ReadBuf::new(&mut room);
            ready!(Pin::new(&mut self.stream).poll_read(context, &mut chunk))?;
            self.take(chunk.filled());
        }
        self.give(out);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Lenient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.wrote(bytes);
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
        self.wrote(parts.first().map_or(&[], |part| part));
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

    /// What a server reads of pieces that a client sends, with an answer written before each piece that follows `^`.
    async fn read(pieces: &[&[u8]], room: usize) -> Vec<u8> {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let mut server = Lenient::new(server);
        let mut got = Vec::new();
        for piece in pieces {
            let piece = match piece.strip_prefix(b"^") {
                Some(piece) => {
                    server.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("write");
                    piece
                }
                None => piece,
            };
            client.write_all(piece).await.expect("write");
            let mut left = vec![0; room];
            loop {
                let reading = tokio::time::timeout(std::time::Duration::from_millis(5), server.read(&mut left));
                match reading.await {
                    Ok(count) => got.extend_from_slice(&left[..count.expect("read")]),
                    Err(_) => break,
                }
            }
        }
        got
    }

    #[tokio::test]
    async fn request_lines_are_mended_and_nothing_else() {
        let check = async |pieces: &[&[u8]], expect: &[u8]| {
            for room in [1, 3, 4096] {
                let got = read(pieces, room).await;
                let shown = (String::from_utf8_lossy(&got).into_owned(), String::from_utf8_lossy(expect).into_owned());
                assert_eq!(got, expect, "{shown:?}");
            }
        };
        check(&[b"GET /q?a=x{b=\"c\"} HTTP/1.1\r\nX: \"\r\n\r\n"], b"GET /q?a=x{b=%22c%22} HTTP/1.1\r\nX: \"\r\n\r\n")
            .await;
        check(
            &[b"GET /q?a=\"", b"<\xc3\xbc#> HTTP/1.1\r\n", b"X: <\r\n\r\n"],
            b"GET /q?a=%22%3C%C3%BC%23%3E HTTP/1.1\r\nX: <\r\n\r\n",
        )
        .await;
        // A body is not touched, whatever it looks like; nor is one after `100 Continue`.
        check(&[b"POST / HTTP/1.1\r\n\r\n", b"GET /\"\n"], b"POST / HTTP/1.1\r\n\r\nGET /\"\n").await;
        check(&[b"GET / HTTP/1.1\r\n\r\n", b"^GET /\"\n\""], b"GET / HTTP/1.1\r\n\r\nGET /%22\n\"").await;
        check(&[b"GET / HTTP/1.1\r\n\r\n", b"^POST /\"\n\""], b"GET / HTTP/1.1\r\n\r\nPOST /\"\n\"").await;
    }
}
