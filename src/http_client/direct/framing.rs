//! Where in the bytes of a connection the body of an answer lies (RFC 9112 §6 and §7). Pure.
//!
//! In: what has come. Out: how much of it is body. Invariant: lines of the framing and trailers are bounded.

use memchr::memchr;

/// Bytes of the line before a chunk, with its extensions, and of a line of the trailers.
const LINE_LIMIT_BYTES: usize = 4 << 10;
/// Bytes of all trailers.
const TRAILERS_LIMIT_BYTES: usize = 16 << 10;

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ahead {
    /// So many bytes of the body, at the place given.
    Data(usize),
    /// More must arrive first.
    More,
    /// The body has ended.
    End,
}

/// How the body is framed, and how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Framing {
    kind: Kind,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sized(u64),
    Chunked,
    UntilClose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The line that says how long the next chunk is.
    Size,
    /// So many bytes of the body are left, of this chunk or of all.
    Data(u64),
    /// The line end after a chunk.
    ChunkEnd,
    /// Trailers, of which so many bytes have come.
    Trailers(usize),
    Done,
}

impl Framing {
    /// A body of that length.
    pub fn sized(bytes: u64) -> Self {
        Self { kind: Kind::Sized(bytes), step: if bytes == 0 { Step::Done } else { Step::Data(bytes) } }
    }

    /// A body in chunks.
    pub fn chunked() -> Self {
        Self { kind: Kind::Chunked, step: Step::Size }
    }

    /// A body that ends with the connection.
    pub fn until_close() -> Self {
        Self { kind: Kind::UntilClose, step: Step::Data(u64::MAX) }
    }

    /// Whether its end is seen without the connection's.
    pub fn ends_by_itself(&self) -> bool {
        self.kind != Kind::UntilClose
    }

    /// The whole length, when it is told ahead.
    pub fn length(&self) -> Option<u64> {
        if let Kind::Sized(bytes) = self.kind { Some(bytes) } else { None }
    }

    /// Whether the body has come whole.
    pub fn is_done(&self) -> bool {
        self.step == Step::Done
    }

    /// What of `arrived` from `at` on is next; moves `at` past lines of the framing.
    ///
    /// # Errors
    /// When a line is not what it should be.
    pub fn ahead(&mut self, arrived: &[u8], at: &mut usize) -> Result<Ahead, String> {
        loop {
            let rest = &arrived[*at..];
            match self.step {
                Step::Done => return Ok(Ahead::End),
                Step::Data(_) if rest.is_empty() => return Ok(Ahead::More),
                Step::Data(left) => {
                    let bytes = usize::try_from(left).map_or(rest.len(), |left| rest.len().min(left));
                    return Ok(Ahead::Data(bytes));
                }
                Step::Size | Step::ChunkEnd | Step::Trailers(_) => {
                    let Some(end) = memchr(b'\n', &rest[..rest.len().min(LINE_LIMIT_BYTES)]) else {
                        let is_short = rest.len() < LINE_LIMIT_BYTES;
                        return if is_short {
                            Ok(Ahead::More)
                        } else {
                            Err("a line of chunked body is too long".into())
                        };
                    };
                    self.line(&rest[..=end])?;
                    *at += end + 1;
                }
            }
        }
    }

    /// One line of the framing, with its end.
    fn line(&mut self, line: &[u8]) -> Result<(), String> {
        let text = line.strip_suffix(b"\r\n").ok_or("a line of a chunked body does not end with CR LF")?;
        self.step = match self.step {
            Step::Size => match chunk_size(text)? {
                0 => Step::Trailers(0),
                bytes => Step::Data(bytes),
            },
            Step::ChunkEnd if text.is_empty() => Step::Size,
            Step::ChunkEnd => return Err("a chunk is longer than it says".to_owned()),
            Step::Trailers(_) if text.is_empty() => Step::Done,
            Step::Trailers(before) if before + line.len() > TRAILERS_LIMIT_BYTES => {
                return Err("the trailers are too long".to_owned());
            }
            Step::Trailers(before) => Step::Trailers(before + line.len()),
            other => other,
        };
        Ok(())
    }

    /// So many bytes of the body were taken.
    pub fn took(&mut self, bytes: usize) {
        if let (Step::Data(left), false) = (self.step, self.kind == Kind::UntilClose) {
            self.step = match (left.saturating_sub(bytes as u64), self.kind) {
                (0, Kind::Chunked) => Step::ChunkEnd,
                (0, _) => Step::Done,
                (left, _) => Step::Data(left),
            };
        }
    }

    /// The connection has ended.
    ///
    /// # Errors
    /// When the body has not.
    pub fn closed(&mut self) -> Result<(), String> {
        if self.kind != Kind::UntilClose {
            return Err("end of file before message length reached".to_owned());
        }
        self.step = Step::Done;
        Ok(())
    }
}

/// The number at the start of a chunk's line; extensions after it mean nothing to us.
fn chunk_size(line: &[u8]) -> Result<u64, String> {
    let digits = line.split(|byte| matches!(byte, b';' | b' ' | b'\t')).next().unwrap_or_default();
    let text = std::str::from_utf8(digits).unwrap_or_default();
    let is_hex = !text.is_empty() && text.len() <= 15 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let size = u64::from_str_radix(text, 16).ok().filter(|_| is_hex);
    size.ok_or_else(|| format!("invalid chunk size {:?}", String::from_utf8_lossy(&line[..line.len().min(40)])))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// The body that comes out when `bytes` arrive in pieces of `step`.
    fn read(mut framing: Framing, bytes: &[u8], step: usize) -> Result<(Vec<u8>, usize), String> {
        let (mut body, mut at, mut end) = (Vec::new(), 0, 0);
        loop {
            match framing.ahead(&bytes[..end], &mut at)? {
                Ahead::Data(length) => {
                    body.extend_from_slice(&bytes[at..at + length]);
                    at += length;
                    framing.took(length);
                }
                Ahead::End => return Ok((body, at)),
                Ahead::More if end == bytes.len() => framing.closed()?,
                Ahead::More => end = (end + step).min(bytes.len()),
            }
        }
    }

    #[test]
    fn bodies_come_out_however_they_arrive() {
        let chunks: &[u8] = b"3\r\nabc\r\n10;name=\"v\"\r\n0123456789abcdef\r\n0\r\nx: y\r\n\r\n";
        for step in [1, 2, 3, 7, 1000] {
            let (body, at) = read(Framing::chunked(), chunks, step).unwrap();
            assert_eq!((body.as_slice(), at), (&b"abc0123456789abcdef"[..], chunks.len()), "{step}");
            assert_eq!(read(Framing::sized(3), b"abcd", step).unwrap(), (b"abc".to_vec(), 3), "{step}");
            assert_eq!(read(Framing::until_close(), b"abcd", step).unwrap().0, b"abcd", "{step}");
        }
        assert_eq!(read(Framing::sized(0), b"HTTP", 1).unwrap().1, 0);
    }

    #[test]
    fn what_is_not_framed_as_it_should_be_is_refused() {
        let long = [b"1;".as_slice(), &[b'x'; LINE_LIMIT_BYTES]].concat();
        let trailers = [b"0\r\n".as_slice(), &b"name: value\r\n".repeat(2000)].concat();
        let cases: [(&[u8], &str); 9] = [
            (b"x\r\nabc", "invalid chunk size"),
            (b"-1\r\nabc", "invalid chunk size"),
            (b"\r\nabc", "invalid chunk size"),
            (b"ffffffffffffffffff\r\n", "invalid chunk size"),
            (b"3\nabc\r\n0\r\n\r\n", "does not end with CR LF"),
            (b"3\r\nabcd\r\n", "longer than it says"),
            (&long, "too long"),
            (&trailers, "the trailers are too long"),
            (b"3\r\nab", "end of file before message length reached"),
        ];
        for (bytes, reason) in cases {
            let error = read(Framing::chunked(), bytes, 5).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        assert!(read(Framing::sized(5), b"abcd", 3).unwrap_err().contains("end of file"));
    }
}
