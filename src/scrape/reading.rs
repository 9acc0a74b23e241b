//! A page while it arrives: lines, or protobuf families, are read as soon as they are whole.
//!
//! In: pieces of a page. Out: samples in the workspace, which nothing stores before the page has ended well. Sync.
//! Invariants: what is read of a page does not depend on how it is cut into pieces; a piece that cannot be read (a mistake,
//! a text that goes on in the next line, very many new series) makes the rest wait for the end of the page, so that a
//! page without an end fills the index of series no more than a whole one with a mistake does.

use std::borrow::Cow;
use std::hash::Hasher;

use super::admission::Admission;
use super::exposition::{
    Entry, Exposed, Format, MetricKind, ParseError, Parser, Progress, ProtobufFamily, Sample, next_family,
};
use super::fetch::ScrapeError;
use super::ingest::{Family, Reader, Sinks, TargetState};
use super::workspace::Workspace;
use crate::discovery::Target;
use crate::model::Timestamp;
use crate::rollup;

/// So many series that were never seen are taken in before it is known whether their page ends well.
const NEW_SERIES_LIMIT: usize = 2000;

/// How a page is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Lines(Format),
    Protobuf,
}

/// The page under way.
#[derive(Debug)]
pub(super) struct Reading {
    encoding: Encoding,
    at: Timestamp,
    progress: Progress,
    /// Metric families read, of protobuf.
    families: usize,
    /// The metric that the last TYPE line named.
    name: Vec<u8>,
    kind: MetricKind,
    /// Series that were never seen.
    pub(super) admitted: usize,
}

/// What became of a piece of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Read {
    /// So many bytes are done with.
    pub bytes: usize,
    /// What is left is to be offered again at the end of the page only.
    pub waits: bool,
}

impl TargetState {
    /// A page begins to arrive.
    pub fn open_page(&mut self, encoding: Encoding, at: Timestamp) {
        self.cache.begin_page();
        self.metadata.begin_page();
        let (progress, name, kind) = (Progress::default(), Vec::new(), MetricKind::Unknown);
        self.reading = Some(Reading { encoding, at, progress, families: 0, name, kind, admitted: 0 });
    }

    /// Reads the next piece of the page: whole lines, or for protobuf any bytes; what it did not read comes again at the
    /// beginning of the next piece.
    ///
    /// # Errors
    /// The first mistake of the page; of lines, only when this is the last piece.
    pub fn read(
        &mut self,
        (target, sinks): (&Target, &Sinks),
        (piece, is_last): (&[u8], bool),
        work: &mut Workspace,
    ) -> Result<Read, ScrapeError> {
        let Some(mut reading) = self.reading.take() else { return Err(ScrapeError::Internal) };
        // After a longer failure known series begin anew, and new ones with them.
        let at = reading.at;
        let zero_at = self.good_at.filter(|good_at| *good_at < at && at.since(*good_at) <= rollup::MAX_GAP);
        let reader = Reader { target, sinks, at, limits: target.job.limits, zero_at };
        let read = match reading.encoding {
            Encoding::Lines(format) => self.read_lines(&reader, &mut reading, (format, piece, is_last), work),
            Encoding::Protobuf => self.read_families(&reader, &mut reading, (piece, is_last), work),
        };
        self.reading = Some(reading);
        read
    }

    fn read_lines(
        &mut self,
        reader: &Reader<'_>,
        reading: &mut Reading,
        (format, piece, is_last): (Format, &[u8], bool),
        work: &mut Workspace,
    ) -> Result<Read, ScrapeError> {
        if is_last && piece.is_empty() && reading.progress == Progress::default() {
            // Whatever its type, a page of nothing has no series; Prometheus takes it as such.
            return Ok(Read { bytes: 0, waits: false });
        }
        let shared = &reader.sinks.metadata;
        let mut parser = Parser::window(format, piece, reading.progress, is_last);
        loop {
            let cache = &self.cache;
            let error = match parser.next_entry(|rest| cache.predict(rest)) {
                None => break,
                Some(Err(error)) => error.into(),
                Some(Ok(Entry::Sample(sample))) => {
                    let family = Family { name: &reading.name, kind: reading.kind };
                    let known = self.cache.len();
                    let taken = self.sample(reader, &sample, (family, || Ok(Cow::Borrowed(sample.key))), work);
                    reading.admitted += self.cache.len() - known;
                    match taken {
                        Ok(()) if is_last || reading.admitted <= NEW_SERIES_LIMIT => continue,
                        Ok(()) => {
                            reading.progress = parser.progress();
                            return Ok(Read { bytes: parser.offset(), waits: true });
                        }
                        Err(error) => {
                            self.counts.scraped -= u64::from(!is_last); // it comes again
                            match error {
                                Admission::Malformed(reason) => parser.error_at(sample.key, reason).into(),
                                Admission::Limit(reason) => ScrapeError::LabelLimit(reason),
                            }
                        }
                    }
                }
                Some(Ok(Entry::Kind { name, kind: new })) => {
                    reading.name.clear();
                    reading.name.extend_from_slice(name);
                    reading.kind = new;
                    self.metadata.kind(shared, name, new);
                    continue;
                }
                Some(Ok(Entry::Help { name, text })) => {
                    self.metadata.help(shared, name, (text, format));
                    continue;
                }
                Some(Ok(Entry::Unit { name, unit })) => {
                    self.metadata.unit(shared, name, unit);
                    continue;
                }
            };
            if is_last {
                return Err(error);
            }
            let (bytes, progress) = parser.entry_start();
            reading.progress = progress;
            return Ok(Read { bytes, waits: true });
        }
        reading.progress = parser.progress();
        Ok(Read { bytes: piece.len(), waits: false })
    }

    fn read_families(
        &mut self,
        reader: &Reader<'_>,
        reading: &mut Reading,
        (piece, is_last): (&[u8], bool),
        work: &mut Workspace,
    ) -> Result<Read, ScrapeError> {
        let mut bytes = 0;
        while bytes < piece.len() {
            let number = reading.families + 1;
            let mistake =
                |reason: String| ParseError { line: number, text: "protobuf metric family".to_owned(), reason };
            let family = match next_family(&piece[bytes..]) {
                Ok(Some((family, length))) => {
                    bytes += length;
                    ProtobufFamily::read(family).map_err(mistake)
                }
                Ok(None) if !is_last => break,
                Ok(None) => Err(mistake("the page ends before its end".to_owned())),
                Err(error) => Err(mistake(error.to_string())),
            };
            self.read_family(reader, &family?, (&mistake, reading), work)?;
            reading.families = number;
            if !is_last && reading.admitted > NEW_SERIES_LIMIT {
                return Ok(Read { bytes, waits: true });
            }
        }
        Ok(Read { bytes, waits: false })
    }

    fn read_family(
        &mut self,
        reader: &Reader<'_>,
        family: &ProtobufFamily<'_>,
        (mistake, reading): (&impl Fn(String) -> ParseError, &mut Reading),
        work: &mut Workspace,
    ) -> Result<(), ScrapeError> {
        let shared = &reader.sinks.metadata;
        self.metadata.kind(shared, family.name, family.kind);
        if !family.help.is_empty() {
            self.metadata.help_text(shared, family.name, family.help);
        }
        if !family.unit.is_empty() {
            self.metadata.unit(shared, family.name, family.unit);
        }
        let mut key = ProtobufKey::new(&mut self.cache.hasher(), family.name);
        let (mut labels_of, mut exemplar): (Option<*const u8>, Vec<u8>) = (None, Vec::new());
        family.samples(
            |exposed: &Exposed<'_>| {
                let series = exposed.series;
                if labels_of.replace(series.metric().as_ptr()) != Some(series.metric().as_ptr()) {
                    let mut hasher = self.cache.hasher();
                    series.hash_labels(&mut hasher);
                    key.set_labels(hasher.finish());
                }
                key.set_part(series.part());
                let exemplar = exposed.exemplar(&mut exemplar).map_err(mistake)?;
                let sample = Sample { key: &key.0, recognised: false, value: exposed.value, at: exposed.at, exemplar };
                let known = self.cache.len();
                let told = Family { name: family.name, kind: family.kind };
                let spelled = || series.spelled(family).map(Cow::Owned);
                let taken = self.sample(reader, &sample, (told, spelled), work);
                reading.admitted += self.cache.len() - known;
                taken.map_err(|error| match error {
                    Admission::Malformed(reason) => mistake(reason).into(),
                    Admission::Limit(reason) => ScrapeError::LabelLimit(reason),
                })
            },
            |reason| mistake(reason).into(),
        )
    }
}

/// What the cache knows a protobuf series by: hashes of its family's name and of its labels, and its part of the metric.
/// No key of a line begins with its first byte.
struct ProtobufKey([u8; 26]);

impl ProtobufKey {
    fn new(hasher: &mut impl Hasher, name: &[u8]) -> Self {
        hasher.write(name);
        let mut key = [0xff; 26];
        key[1..9].copy_from_slice(&hasher.finish().to_le_bytes());
        Self(key)
    }

    fn set_labels(&mut self, hash: u64) {
        self.0[9..17].copy_from_slice(&hash.to_le_bytes());
    }

    fn set_part(&mut self, part: [u8; 9]) {
        self.0[17..].copy_from_slice(&part);
    }
}
