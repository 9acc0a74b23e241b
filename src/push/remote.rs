//! Remote write, versions 1.0 and 2.0: protobuf bodies into batches.
//!
//! In: a decompressed body. Out: samples in memory, and what the sender must be told. Rules and texts are those of
//! Prometheus 3.5 (`storage/remote/write_handler.go`) and of the specification
//! (prometheus.io/docs/specs/prw/remote_write_spec_2_0), with one difference: in 1.0 too, a refused sample does not lose
//! the others of its request. Native histograms are refused; created timestamps are read over, as Prometheus does unless
//! told otherwise.

use std::sync::atomic::Ordering::Relaxed;

use prost::DecodeError;

use super::batch::{Batch, Committed, SeriesId};
use super::{Intake, labels};
use crate::model::{Labels, Timestamp};
use crate::scrape::exposition::MetricKind;
use crate::series::Exemplar;
use crate::wire::{Value, fields, messages};

/// Most mistakes named in one answer.
const SHOWN_PROBLEMS: usize = 50;
/// Most labels that are read of one series, whatever the configuration says.
const LABELS_READ_MAX: usize = 100_000;
/// Most samples and exemplars of one request: a few bytes of a body must not become many in memory without an end.
const SAMPLES_MAX: usize = 1_000_000;
/// Most symbols of one request.
const SYMBOLS_MAX: usize = 2_000_000;

/// Which message a body holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// `prometheus.WriteRequest`.
    V1,
    /// `io.prometheus.write.v2.Request`.
    V2,
}

/// Why a body is refused as a whole.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// It is not the message that it should be.
    #[error("{0}")]
    Protobuf(#[from] DecodeError),
    /// Nothing is taken now: the sender should come again.
    #[error("{0}")]
    Closed(#[from] super::Closed),
    /// It has more parts than one request may have.
    #[error("the request has more than {limit} {what}: send smaller requests")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}

/// What a sender is told.
#[derive(Debug, Default)]
pub struct Written {
    /// Samples stored.
    pub samples: usize,
    /// Native histograms stored: none.
    pub histograms: usize,
    /// Exemplars kept.
    pub exemplars: usize,
    /// What was refused, in the sender's terms; empty when all is well.
    pub problems: Vec<String>,
    /// What must be given to [`Intake::store_past`].
    pub past: super::Past,
    /// Mistakes that are not among `problems` because they are too many.
    omitted: usize,
}

impl Written {
    /// All mistakes, one on a line.
    pub fn message(&self) -> String {
        let mut lines = self.problems.clone();
        if self.omitted > 0 {
            lines.push(format!("and {} more", self.omitted));
        }
        lines.join("\n")
    }

    fn problem(&mut self, text: impl FnOnce() -> String) {
        if self.problems.len() < SHOWN_PROBLEMS {
            self.problems.push(text());
        } else {
            self.omitted += 1;
        }
    }
}

/// Stores a body. Blocks; call it where that is allowed.
///
/// # Errors
/// When the body is no message of that version, or has too many parts; then nothing of it is stored.
pub fn write(intake: &Intake, version: Version, body: &[u8]) -> Result<Written, WriteError> {
    write_from(intake, version, body, false)
}

/// As [`write()`]; `scraper`: the sender scrapes, and sends all that it scrapes.
///
/// # Errors
/// As [`write()`].
pub fn write_from(intake: &Intake, version: Version, body: &[u8], scraper: bool) -> Result<Written, WriteError> {
    let fill = |batch: &mut Batch<'_>| -> Result<Written, WriteError> {
        if scraper {
            batch.of_scraper();
        }
        let mut reader = Reader { written: Written::default(), version, intake, parts: 0 };
        match version {
            Version::V1 => reader.read_v1(batch, body)?,
            Version::V2 => reader.read_v2(batch, body)?,
        }
        Ok(reader.written)
    };
    let (written, committed) = intake.store(fill)?;
    Ok(conclude(written, committed, version))
}

fn conclude(mut written: Written, mut committed: Committed, version: Version) -> Written {
    (written.samples, written.exemplars) = (committed.accepted, committed.exemplars);
    written.past = std::mem::take(&mut committed.past);
    match version {
        // As Prometheus, which stops at the first; here the rest is stored.
        Version::V1 => {
            if let Some((_, _, error)) = committed.refused.first() {
                written.problem(|| error.to_string());
            }
        }
        Version::V2 => {
            for (series, _, error) in &committed.refused {
                written.problem(|| format!("{error} for series {}", of_series(&committed, *series)));
            }
            for (series, error) in &committed.refused_exemplars {
                // Of exemplars Prometheus names only those that come late.
                if *error == crate::series::ExemplarError::OutOfOrder {
                    written.problem(|| format!("{error} for series {}", of_series(&committed, *series)));
                }
            }
        }
    }
    written
}

fn of_series(committed: &Committed, series: SeriesId) -> String {
    let pairs: Vec<(&[u8], &[u8])> =
        committed.labels(series).iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    labels::shown(&pairs)
}

struct Reader<'a> {
    written: Written,
    version: Version,
    intake: &'a Intake,
    /// Samples and exemplars read so far.
    parts: usize,
}

type Pairs<'a> = Vec<(&'a [u8], &'a [u8])>;

impl Reader<'_> {
    /// `WriteRequest { 1: repeated TimeSeries, 3: repeated MetricMetadata }`.
    fn read_v1(&mut self, batch: &mut Batch<'_>, body: &[u8]) -> Result<(), WriteError> {
        let mut pairs = Pairs::new();
        for field in fields(body) {
            match field? {
                (1, series) => {
                    let message = series.bytes()?;
                    // Two bytes of a request must not become a label each: a series of that many is refused unread.
                    let count = messages(message, 1).count();
                    pairs.clear();
                    for label in messages(message, 1).take(LABELS_READ_MAX) {
                        pairs.push(v1_label(label?)?);
                    }
                    self.series(batch, message, &pairs, count, &[])?;
                }
                (3, metadata) => v1_metadata(batch, metadata.bytes()?)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// `Request { 4: repeated string symbols, 5: repeated TimeSeries }`.
    fn read_v2(&mut self, batch: &mut Batch<'_>, body: &[u8]) -> Result<(), WriteError> {
        let symbols: Vec<&[u8]> = messages(body, 4).take(SYMBOLS_MAX + 1).collect::<Result<_, _>>()?;
        if symbols.len() > SYMBOLS_MAX {
            return Err(WriteError::TooMany { what: "symbols", limit: SYMBOLS_MAX });
        }
        let (mut pairs, mut references) = (Pairs::new(), Vec::new());
        for series in messages(body, 5) {
            let message = series?;
            references.clear();
            read_references(message, &mut references)?;
            pairs.clear();
            if let Err(reason) = resolve(&references, &symbols, &mut pairs) {
                let shown = &references[..references.len().min(20)];
                self.written.problem(|| format!("parsing labels for series {shown:?}: {reason}"));
                continue;
            }
            self.series(batch, message, &pairs, pairs.len(), &symbols)?;
        }
        Ok(())
    }

    /// The samples, exemplars and, in 2.0, the metadata of a series. In both versions samples are field 2; exemplars and
    /// histograms have changed places.
    fn series(
        &mut self,
        batch: &mut Batch<'_>,
        message: &[u8],
        pairs: &[(&[u8], &[u8])],
        label_count: usize,
        symbols: &[&[u8]],
    ) -> Result<(), WriteError> {
        let (exemplar_field, histogram_field) = match self.version {
            Version::V1 => (3, 4),
            Version::V2 => (4, 3),
        };
        // All of it is read before any of it counts, so that a broken message is found whatever its labels are.
        let (mut samples, mut exemplars, mut histograms) = (Vec::new(), Vec::new(), 0_u64);
        for field in fields(message) {
            match field? {
                (2, sample) => samples.push(read_sample(sample.bytes()?)?),
                (number, exemplar) if number == exemplar_field => exemplars.push(exemplar.bytes()?),
                (number, histogram) if number == histogram_field => {
                    histogram.bytes()?;
                    histograms += 1;
                }
                _ => {}
            }
            if self.parts + samples.len() + exemplars.len() > SAMPLES_MAX {
                return Err(WriteError::TooMany { what: "samples and exemplars", limit: SAMPLES_MAX });
            }
        }
        self.parts += samples.len() + exemplars.len();
        let series = match batch.series(pairs) {
            Ok(series) if label_count == pairs.len() => series,
            Ok(_) => {
                self.written.problem(|| format!("{label_count} labels are too many for a series"));
                return Ok(());
            }
            Err(error) => {
                // Prometheus passes over invalid labels of 1.0 and only logs them; limits are ours, and are always told.
                let told = self.version == Version::V2
                    || matches!(error, super::SeriesError::Limit { .. } | super::SeriesError::Full { .. });
                match told {
                    true => self.written.problem(|| error.to_string()),
                    false => tracing::debug!(%error, "a series of a remote write request is passed over"),
                }
                return Ok(());
            }
        };
        for (at, value) in samples {
            batch.sample(series, at, value);
        }
        if histograms > 0 {
            self.intake.counters().native_histograms.fetch_add(histograms, Relaxed);
            let labels = labels::shown(pairs);
            self.written.problem(|| format!("native histograms are disabled for series {labels}"));
        }
        for exemplar in exemplars {
            self.exemplar(batch, series, exemplar, symbols)?;
        }
        if self.version == Version::V2 {
            v2_metadata(batch, message, pairs, symbols)?;
        }
        Ok(())
    }

    fn exemplar(
        &mut self,
        batch: &mut Batch<'_>,
        series: SeriesId,
        message: &[u8],
        symbols: &[&[u8]],
    ) -> Result<(), WriteError> {
        let mut pairs = Pairs::new();
        match self.version {
            Version::V1 => {
                for label in messages(message, 1) {
                    pairs.push(v1_label(label?)?);
                }
            }
            Version::V2 => {
                let mut references = Vec::new();
                read_references(message, &mut references)?;
                if let Err(reason) = resolve(&references, symbols, &mut pairs) {
                    self.written.problem(|| format!("parsing exemplar: {reason}"));
                    return Ok(());
                }
            }
        }
        let (mut at, mut value) = (0, 0.0);
        for field in fields(message) {
            match field? {
                (2, bits) => value = f64::from_bits(bits.fixed64()?),
                (3, time) => at = time.varint()? as i64,
                _ => {}
            }
        }
        let labels: Labels =
            pairs.iter().map(|(n, v)| (String::from_utf8_lossy(n), String::from_utf8_lossy(v))).collect();
        batch.exemplar(series, Exemplar { labels, value, at: Timestamp::from_millis(at) });
        Ok(())
    }
}

/// `Label { 1: name, 2: value }`.
fn v1_label(message: &[u8]) -> Result<(&[u8], &[u8]), DecodeError> {
    let (mut name, mut value) = (&[][..], &[][..]);
    for field in fields(message) {
        match field? {
            (1, text) => name = text.bytes()?,
            (2, text) => value = text.bytes()?,
            _ => {}
        }
    }
    Ok((name, value))
}

/// `Sample { 1: double value, 2: int64 timestamp in ms }`, in both versions.
fn read_sample(message: &[u8]) -> Result<(Timestamp, f64), DecodeError> {
    let (mut at, mut value) = (0, 0.0);
    for field in fields(message) {
        match field? {
            (1, bits) => value = f64::from_bits(bits.fixed64()?),
            (2, time) => at = time.varint()? as i64,
            _ => {}
        }
    }
    Ok((Timestamp::from_millis(at), value))
}

/// `MetricMetadata { 1: type, 2: family name, 4: help, 5: unit }` of 1.0.
fn v1_metadata(batch: &mut Batch<'_>, message: &[u8]) -> Result<(), WriteError> {
    let (mut kind, mut texts) = (0, [&[][..]; 3]);
    for field in fields(message) {
        match field? {
            (1, number) => kind = number.varint()?,
            (2, text) => texts[0] = text.bytes()?,
            (4, text) => texts[1] = text.bytes()?,
            (5, text) => texts[2] = text.bytes()?,
            _ => {}
        }
    }
    let [name, help, unit] = texts.map(String::from_utf8_lossy);
    batch.metadata(&name, MetricKind::of_number(kind), &help, &unit);
    Ok(())
}

/// `Metadata { 1: type, 3: help reference, 4: unit reference }` in field 5 of a series of 2.0.
fn v2_metadata(
    batch: &mut Batch<'_>,
    message: &[u8],
    pairs: &[(&[u8], &[u8])],
    symbols: &[&[u8]],
) -> Result<(), WriteError> {
    let Some(metadata) = messages(message, 5).next().transpose()? else { return Ok(()) };
    let (mut kind, mut help, mut unit) = (0, 0, 0);
    for field in fields(metadata) {
        match field? {
            (1, number) => kind = number.varint()?,
            (3, reference) => help = reference.varint()?,
            (4, reference) => unit = reference.varint()?,
            _ => {}
        }
    }
    if (kind, help, unit) == (0, 0, 0) {
        return Ok(());
    }
    let text = |reference: u64| {
        let symbol = usize::try_from(reference).ok().and_then(|at| symbols.get(at)).copied().unwrap_or_default();
        String::from_utf8_lossy(symbol)
    };
    let name = pairs.iter().find(|(name, _)| *name == crate::model::METRIC_NAME.as_bytes());
    let name = String::from_utf8_lossy(name.map_or(&[], |(_, value)| value));
    let kind = MetricKind::of_number(kind);
    batch.metadata(kind.family(&name), kind, &text(help), &text(unit));
    Ok(())
}

/// The label references of a series or exemplar (field 1): packed, or one by one.
fn read_references(message: &[u8], references: &mut Vec<u64>) -> Result<(), DecodeError> {
    for field in fields(message) {
        match field? {
            (1, Value::Bytes(mut packed)) => {
                while !packed.is_empty() {
                    references.push(prost::encoding::decode_varint(&mut packed)?);
                }
            }
            (1, reference) => references.push(reference.varint()?),
            _ => {}
        }
    }
    Ok(())
}

/// The pairs that references stand for.
fn resolve<'a>(references: &[u64], symbols: &[&'a [u8]], pairs: &mut Pairs<'a>) -> Result<(), String> {
    if !references.len().is_multiple_of(2) {
        return Err(format!("invalid labelRefs length {}", references.len()));
    }
    let text = |reference: u64, what: &str, at: usize| {
        let symbol = usize::try_from(reference).ok().and_then(|reference| symbols.get(reference));
        symbol.copied().ok_or_else(|| {
            format!("labelRefs {at} ({what}) = {reference} outside of symbols table (size {})", symbols.len())
        })
    };
    for (i, pair) in references.chunks_exact(2).enumerate() {
        pairs.push((text(pair[0], "name", 2 * i)?, text(pair[1], "value", 2 * i + 1)?));
    }
    Ok(())
}
