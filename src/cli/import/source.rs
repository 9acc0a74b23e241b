//! OpenMetrics files of any size, plain, gzip or zstd, from disk or standard input, a window of lines at a time.
//!
//! In: a path, `-` for standard input. Out: the entries of the page, each with its line. Invariant: no more than
//! [`ENTRY_LIMIT_BYTES`] and a window are held, however long the file is.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::scrape::exposition::{Entry, Format, ParseError, Parser, Progress};

/// Bytes of lines that are read at once.
const WINDOW_BYTES: usize = 256 * 1024;
/// Most bytes of one entry: a line, with what a quoted text continues in the next.
const ENTRY_LIMIT_BYTES: usize = 8 << 20;
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// A file being read.
pub(super) struct Source {
    reader: Box<dyn Read + Send>,
    /// Bytes read of the file as it lies on disk.
    pub(super) read_bytes: Arc<AtomicU64>,
    /// Bytes of it; `None` for a pipe.
    pub(super) size_bytes: Option<u64>,
}

/// Why reading ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stop {
    /// The file cannot be read, or not be unpacked.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// What stands there is not OpenMetrics with timestamps.
    #[error("{0}")]
    Mistake(ParseError),
    /// Whoever takes the entries has had enough.
    #[error("stopped")]
    Enough,
}

impl Source {
    /// Opens a file; what it is packed with is told by its first bytes.
    ///
    /// # Errors
    /// When it cannot be opened or begun.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let read_bytes = Arc::new(AtomicU64::new(0));
        let (raw, size_bytes): (Box<dyn Read + Send>, _) = if is_stdin(path) {
            (Box::new(io::stdin()), None)
        } else {
            let file = std::fs::File::open(path)?;
            let metadata = file.metadata()?;
            (Box::new(file), metadata.is_file().then_some(metadata.len()))
        };
        let mut raw = Counted { reader: raw, bytes: Arc::clone(&read_bytes) };
        let mut first = Vec::new();
        raw.by_ref().take(ZSTD.len() as u64).read_to_end(&mut first)?;
        let (gzip, zstd) = (first.starts_with(&GZIP), first.starts_with(&ZSTD));
        let whole = io::BufReader::with_capacity(WINDOW_BYTES, io::Cursor::new(first).chain(raw));
        let reader: Box<dyn Read + Send> = match (gzip, zstd) {
            (true, _) => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
            (_, true) => Box::new(zstd::stream::read::Decoder::with_buffer(whole)?),
            _ => Box::new(whole),
        };
        Ok(Self { reader, read_bytes, size_bytes })
    }

    /// Gives each entry to `take`, with the parser that can name its place.
    ///
    /// # Errors
    /// The first mistake, or what `take` returns.
    pub(super) fn read(
        &mut self,
        mut take: impl FnMut(Entry<'_>, &Parser<'_>) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        let (mut window, mut progress) = (Vec::new(), Progress::default());
        let mut wanted = WINDOW_BYTES;
        loop {
            let missing = wanted.saturating_sub(window.len()) as u64;
            let is_last = self.reader.by_ref().take(missing).read_to_end(&mut window)? < missing as usize;
            let whole = if is_last { window.len() } else { memchr::memrchr(b'\n', &window).map_or(0, |at| at + 1) };
            let mut parser = Parser::window(Format::OpenMetrics, &window[..whole], progress, is_last);
            let (used, reached) = loop {
                match parser.next_entry(|_| None) {
                    None => break (whole, parser.progress()),
                    Some(Ok(entry)) => take(entry, &parser)?,
                    Some(Err(error)) => {
                        let (at, before) = parser.entry_start();
                        // A quoted text may go on in lines that are not here yet.
                        if is_last || window.len() - at >= ENTRY_LIMIT_BYTES {
                            return Err(Stop::Mistake(error));
                        }
                        break (at, before);
                    }
                }
            };
            if is_last {
                return Ok(());
            }
            let left = window.len() - used;
            if left >= ENTRY_LIMIT_BYTES {
                return Err(Stop::Mistake(parser.error_at(&window[..0], "the line is longer than 8 MiB".to_owned())));
            }
            progress = reached;
            window.drain(..used);
            // Twice what could not be read, so that a long entry is not read again for every window.
            wanted = WINDOW_BYTES.max(left * 2);
        }
    }
}

/// Whether the path means standard input.
pub(super) fn is_stdin(path: &Path) -> bool {
    path.as_os_str() == "-"
}

struct Counted<R> {
    reader: R,
    bytes: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(out)?;
        self.bytes.fetch_add(count as u64, Relaxed);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn page(samples: usize) -> String {
        let mut page = "# TYPE a counter\n".to_owned();
        for i in 0..samples {
            page.push_str(&format!("a_total{{path=\"/{i}\",text=\"two\\nlines\"}} {i} {}\n", 1_600_000_000 + i));
        }
        page + "# EOF\n"
    }

    fn samples_of(bytes: &[u8]) -> Result<usize, Stop> {
        let file = std::env::temp_dir().join(format!("meshscope-import-{}-{}", std::process::id(), bytes.len()));
        std::fs::write(&file, bytes)?;
        let mut count = 0;
        let read = Source::open(&file)?.read(|entry, _| {
            count += usize::from(matches!(entry, Entry::Sample(_)));
            Ok(())
        });
        std::fs::remove_file(&file)?;
        read.map(|()| count)
    }

    #[test]
    fn files_are_unpacked_by_their_first_bytes() {
        let page = page(20_000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(page.as_bytes()).expect("packs");
        let packed = [page.clone().into_bytes(), gzip.finish().expect("packs")];
        for bytes in packed.into_iter().chain([zstd::encode_all(page.as_bytes(), 1).expect("packs")]) {
            assert_eq!(samples_of(&bytes).expect("read"), 20_000, "{} bytes", bytes.len());
        }
    }

    #[test]
    fn a_mistake_far_into_a_file_is_named_with_its_line() {
        let page = page(20_000).replace(" 19000 ", " x ");
        let error = samples_of(page.as_bytes()).expect_err("wrong").to_string();
        assert!(error.starts_with("line 19002: invalid value `x`"), "{error}");
        let cut = &page.as_bytes()[..400_000];
        assert!(matches!(samples_of(cut), Err(Stop::Mistake(_))), "a file that breaks off");
        let gzip = [&GZIP[..], b"nonsense"].concat();
        assert!(matches!(samples_of(&gzip), Err(Stop::Io(_))));
        let after = format!("{page}b 1 1\n").replace(" x ", " 1 ");
        let error = samples_of(after.as_bytes()).expect_err("wrong").to_string();
        assert!(error.starts_with("line 20002: unexpected data after # EOF"), "{error}");
    }

    #[test]
    fn a_line_without_an_end_is_not_held() {
        let endless = io::repeat(b'a').take(1 << 40);
        let mut source = Source { reader: Box::new(endless), read_bytes: Arc::default(), size_bytes: None };
        let error = source.read(|_, _| Ok(())).expect_err("too long").to_string();
        assert!(error.contains("line 1: the line is longer than 8 MiB"), "{error}");
    }
}
