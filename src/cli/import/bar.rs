//! How far an import is, on a terminal only.

use std::io::{IsTerminal, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How often it is drawn.
const INTERVAL: Duration = Duration::from_millis(200);
const WIDTH: u64 = 40;

/// A bar for a file of known size, a count for a pipe.
pub(super) struct Bar {
    label: String,
    read_bytes: Arc<AtomicU64>,
    size_bytes: Option<u64>,
    began: Instant,
    drawn: Option<Instant>,
    shown: bool,
}

impl Bar {
    /// `doing` is what is done with the file.
    pub(super) fn new(doing: &str, file: &Path, read_bytes: &Arc<AtomicU64>, size_bytes: Option<u64>) -> Self {
        let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
        let (label, read_bytes) = (format!("{doing} {name}"), Arc::clone(read_bytes));
        Self {
            label,
            read_bytes,
            size_bytes,
            began: Instant::now(),
            drawn: None,
            shown: std::io::stderr().is_terminal(),
        }
    }

    /// Draws it when it is time.
    pub(super) fn show(&mut self, samples: usize) {
        if self.shown && self.drawn.is_none_or(|at| at.elapsed() >= INTERVAL) {
            self.drawn = Some(Instant::now());
            self.draw(samples);
        }
    }

    /// Draws it for the last time.
    pub(super) fn end(&mut self, samples: usize) {
        if self.shown {
            self.draw(samples);
            eprintln!();
        }
    }

    fn draw(&self, samples: usize) {
        let rate = samples as f64 / self.began.elapsed().as_secs_f64().max(0.001);
        let far = match self.size_bytes.filter(|size| *size > 0) {
            Some(size) => {
                let read = self.read_bytes.load(Relaxed).min(size);
                let filled = (read * WIDTH / size) as usize;
                format!("[{}{}] {}%", "#".repeat(filled), " ".repeat(WIDTH as usize - filled), read * 100 / size)
            }
            None => format!("{} MiB", self.read_bytes.load(Relaxed) >> 20),
        };
        eprint!("\r\u{1b}[K{} {far} {samples} samples, {rate:.0}/s", self.label);
        let _ = std::io::stderr().flush();
    }
}
