//! The body of an answer on its way to the reader: unpacked, cut into whole lines, within its limits.
//!
//! In: bytes as they come over the wire. Out: pieces for [`TargetState::read`], most of them still in the buffer they came
//! in. Sync. Invariants: at most the body limit comes in, and is unpacked to; what is held (a line that is not whole yet,
//! or the rest of a page that waits for its end) is reserved of the memory for pages.

use std::io::Write;
use std::sync::atomic::Ordering;

use flate2::write::MultiGzDecoder;
use memchr::{memchr, memrchr};

use super::fetch::ScrapeError;
use super::ingest::{Sinks, TargetState};
use super::page_memory::Reservation;
use super::reading::Encoding;
use super::workspace::Workspace;
use crate::discovery::Target;

/// So much is unpacked at a time; it becomes at most a thousand times as much.
const UNPACK_STEP_BYTES: usize = 1 << 10;

/// What of a page has come.
pub(super) struct Arrival<'a> {
    target: &'a Target,
    sinks: &'a Sinks,
    memory: &'a mut Reservation,
    is_lines: bool,
    unpacking: Option<MultiGzDecoder<Vec<u8>>>,
    /// Bytes over the wire, and after unpacking.
    received: u64,
    page_bytes: u64,
    /// The rest of the page waits for its end.
    waits: bool,
}

impl<'a> Arrival<'a> {
    /// Of a page that begins to come.
    pub fn new(
        (target, sinks): (&'a Target, &'a Sinks),
        (encoding, gzip): (Encoding, bool),
        memory: &'a mut Reservation,
        work: &mut Workspace,
    ) -> Self {
        let is_lines = matches!(encoding, Encoding::Lines(_));
        let unpacking = gzip.then(|| MultiGzDecoder::new(std::mem::take(&mut work.unpacked)));
        Self { target, sinks, memory, is_lines, unpacking, received: 0, page_bytes: 0, waits: false }
    }

    /// Takes the next bytes of the body.
    ///
    /// # Errors
    /// When there are too many, they cannot be unpacked, or what they say is no page.
    pub fn take(&mut self, bytes: &[u8], state: &mut TargetState, work: &mut Workspace) -> Result<(), ScrapeError> {
        self.received += bytes.len() as u64;
        self.check(self.received)?;
        let Some(mut unpacking) = self.unpacking.take() else { return self.page(bytes, state, work) };
        for step in bytes.chunks(UNPACK_STEP_BYTES) {
            unpacking.write_all(step).map_err(ScrapeError::Gzip)?;
            let unpacked = unpacking.get_mut();
            self.page(unpacked, state, work)?;
            unpacked.clear();
        }
        self.unpacking = Some(unpacking);
        Ok(())
    }

    /// The body has come to its end. What is left of the page is in the workspace.
    ///
    /// # Errors
    /// As [`Arrival::take`], and when compressed data is cut off.
    pub fn end(&mut self, state: &mut TargetState, work: &mut Workspace) -> Result<(), ScrapeError> {
        if let Some(unpacking) = self.unpacking.take() {
            if self.received == 0 {
                return Err(ScrapeError::Gzip(std::io::ErrorKind::UnexpectedEof.into()));
            }
            let mut unpacked = unpacking.finish().map_err(ScrapeError::Gzip)?;
            self.page(&unpacked, state, work)?;
            unpacked.clear();
            work.unpacked = unpacked;
        }
        self.sinks.counters.page_bytes.fetch_add(self.page_bytes, Ordering::Relaxed);
        Ok(())
    }

    fn check(&self, bytes: u64) -> Result<(), ScrapeError> {
        let limit_bytes = self.target.job.limits.body_bytes;
        if bytes > limit_bytes { Err(ScrapeError::BodyTooLarge { limit_bytes }) } else { Ok(()) }
    }

    /// The next bytes of the page itself.
    fn page(&mut self, mut bytes: &[u8], state: &mut TargetState, work: &mut Workspace) -> Result<(), ScrapeError> {
        self.page_bytes += bytes.len() as u64;
        self.check(self.page_bytes)?;
        if !work.page.is_empty() && !self.waits {
            // What is held is one line, or one family, that is not whole.
            let end = if self.is_lines { memchr(b'\n', bytes).map(|at| at + 1) } else { Some(bytes.len()) };
            let Some(end) = end else { return self.hold(bytes, work) };
            self.hold(&bytes[..end], work)?;
            bytes = &bytes[end..];
            let mut held = std::mem::take(&mut work.page);
            let read = self.read(&held, state, work);
            held.drain(..read.as_ref().map_or(0, |read| *read));
            work.page = held;
            read?;
        }
        let whole = match self.waits || !work.page.is_empty() {
            true => 0,
            false if self.is_lines => memrchr(b'\n', bytes).map_or(0, |at| at + 1),
            false => bytes.len(),
        };
        let read = if whole > 0 { self.read(&bytes[..whole], state, work)? } else { 0 };
        self.hold(&bytes[read..], work)
    }

    fn read(&mut self, piece: &[u8], state: &mut TargetState, work: &mut Workspace) -> Result<usize, ScrapeError> {
        let read = state.read((self.target, self.sinks), (piece, false), work)?;
        self.waits = read.waits;
        Ok(read.bytes)
    }

    fn hold(&mut self, bytes: &[u8], work: &mut Workspace) -> Result<(), ScrapeError> {
        let held = (work.page.len() + bytes.len()) as u64;
        self.memory.grow_to(held).map_err(|limit_bytes| ScrapeError::PageMemory { limit_bytes })?;
        work.page.extend_from_slice(bytes);
        Ok(())
    }
}
