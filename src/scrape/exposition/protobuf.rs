//! Protobuf exposition: length-delimited `io.prometheus.client.MetricFamily`, walked in place.
//!
//! In: the bytes of a page as they arrive. Out: the samples of one family after the other, as Prometheus makes them from
//! it: classic histograms and summaries as series, native histograms as far as their classic buckets (one without any
//! gives its `+Inf` bucket, count and sum), created times ignored. Pure. Invariant: a sample of a known series allocates
//! nothing; its labels are spelled as text only when the series is new, so one path reads the labels of all formats.

use std::hash::Hasher;

use prost::DecodeError;
use prost::encoding::decode_varint;

use super::number::canonical_float;
use super::{Exemplar, MetricKind};
use crate::model::Timestamp;
use crate::wire::{Value, fields, messages};

/// The first family of `bytes`, without its length, and how many bytes it takes with it; `None` while it is incomplete.
///
/// # Errors
/// When its length is none.
pub fn next_family(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, DecodeError> {
    let mut rest = bytes;
    // A length has up to ten bytes; the last has its upper bit clear.
    if bytes.len() < 10 && bytes.iter().all(|byte| byte & 0x80 != 0) {
        return Ok(None);
    }
    let length = decode_varint(&mut rest)?;
    let prefix = bytes.len() - rest.len();
    let family = usize::try_from(length).ok().and_then(|length| rest.get(..length));
    Ok(family.map(|family| (family, prefix + family.len())))
}

/// One family of metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct Family<'a> {
    bytes: &'a [u8],
    /// Its name; that of an OpenMetrics counter ends in `_total`.
    pub name: &'a [u8],
    /// What it means, not escaped.
    pub help: &'a [u8],
    /// Its unit.
    pub unit: &'a [u8],
    /// Its kind.
    pub kind: MetricKind,
}

/// The series of a sample: the labels of its metric, a suffix of the family's name, and the bound of a bucket or quantile.
#[derive(Clone, Copy, Debug)]
pub struct Series<'a> {
    metric: &'a [u8],
    suffix: &'static str,
    bound: Option<(&'static str, f64)>,
}

/// One sample of a family.
#[derive(Clone, Copy, Debug)]
pub struct Exposed<'a> {
    /// Its series.
    pub series: Series<'a>,
    /// Its value; every NaN is the same ordinary NaN.
    pub value: f64,
    /// The time, where the page gives one.
    pub at: Option<Timestamp>,
    /// The message of its exemplar.
    exemplar: Option<&'a [u8]>,
}

impl<'a> Family<'a> {
    /// Reads what the family says of itself.
    ///
    /// # Errors
    /// When it is no such message, or its kind is unknown.
    pub fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let mut family = Self { bytes, kind: MetricKind::Counter, ..Self::default() };
        for field in fields(bytes) {
            match field.map_err(reason)? {
                (1, value) => family.name = value.bytes().map_err(reason)?,
                (2, value) => family.help = value.bytes().map_err(reason)?,
                (3, value) => family.kind = kind(value.varint().map_err(reason)?)?,
                (5, value) => family.unit = value.bytes().map_err(reason)?,
                _ => {}
            }
        }
        if family.name.is_empty() {
            return Err("the metric family has no name".to_owned());
        }
        Ok(family)
    }

    /// Hands the samples of each of its metrics to `take`.
    ///
    /// # Errors
    /// The first of the message's mistakes, or of `take`'s.
    pub fn samples<E>(
        &self,
        mut take: impl FnMut(&Exposed<'a>) -> Result<(), E>,
        mistake: impl Fn(String) -> E,
    ) -> Result<(), E> {
        for metric in messages(self.bytes, 4) {
            let failed = |error| mistake(reason(error));
            let metric = metric.map_err(failed)?;
            self.metric(metric, &mut take, &failed)?;
        }
        Ok(())
    }

    fn metric<E>(
        &self,
        metric: &'a [u8],
        take: &mut impl FnMut(&Exposed<'a>) -> Result<(), E>,
        failed: &impl Fn(DecodeError) -> E,
    ) -> Result<(), E> {
        let wanted = match self.kind {
            MetricKind::Gauge => 2,
            MetricKind::Counter => 3,
            MetricKind::Summary => 4,
            MetricKind::Histogram | MetricKind::GaugeHistogram => 7,
            _ => 5,
        };
        let (mut at, mut content): (_, &[u8]) = (None, &[]);
        for field in fields(metric) {
            match field.map_err(failed)? {
                (6, value) => {
                    let ms = value.varint().map_err(failed)? as i64;
                    at = (ms != 0).then(|| Timestamp::from_millis(ms)); // zero means none, as in Prometheus
                }
                (number, value) if number == wanted => content = value.bytes().map_err(failed)?,
                _ => {}
            }
        }
        let mut give = |(suffix, bound), value: f64, exemplar| {
            let value = if value.is_nan() { f64::NAN } else { value };
            take(&Exposed { series: Series { metric, suffix, bound }, value, at, exemplar })
        };
        match wanted {
            4 => summary(content, &mut give, failed),
            7 => histogram(content, &mut give, failed),
            _ => {
                let (mut value, mut exemplar) = (0.0, None);
                for field in fields(content) {
                    match field.map_err(failed)? {
                        (1, number) => value = double(number).map_err(failed)?,
                        (2, message) if wanted == 3 => exemplar = Some(message.bytes().map_err(failed)?),
                        _ => {}
                    }
                }
                give(("", None), value, exemplar)
            }
        }
    }
}

/// What a sample of a metric is called: a suffix of the name, and a bound.
type Part = (&'static str, Option<(&'static str, f64)>);

fn summary<'a, E>(
    summary: &'a [u8],
    give: &mut impl FnMut(Part, f64, Option<&'a [u8]>) -> Result<(), E>,
    failed: &impl Fn(DecodeError) -> E,
) -> Result<(), E> {
    let (mut count, mut sum) = (0, 0.0);
    for field in fields(summary) {
        match field.map_err(failed)? {
            (1, value) => count = value.varint().map_err(failed)?,
            (2, value) => sum = double(value).map_err(failed)?,
            (3, value) => {
                let (mut quantile, mut at) = (0.0, 0.0);
                for field in fields(value.bytes().map_err(failed)?) {
                    match field.map_err(failed)? {
                        (1, value) => quantile = double(value).map_err(failed)?,
                        (2, value) => at = double(value).map_err(failed)?,
                        _ => {}
                    }
                }
                give(("", Some(("quantile", quantile))), at, None)?;
            }
            _ => {}
        }
    }
    give(("_sum", None), sum, None)?;
    give(("_count", None), count as f64, None)
}

fn histogram<'a, E>(
    histogram: &'a [u8],
    give: &mut impl FnMut(Part, f64, Option<&'a [u8]>) -> Result<(), E>,
    failed: &impl Fn(DecodeError) -> E,
) -> Result<(), E> {
    let (mut count, mut count_float, mut sum, mut has_infinite) = (0, 0.0, 0.0, false);
    for field in fields(histogram) {
        match field.map_err(failed)? {
            (1, value) => count = value.varint().map_err(failed)?,
            (2, value) => sum = double(value).map_err(failed)?,
            (3, value) => {
                let bucket = Bucket::read(value.bytes().map_err(failed)?).map_err(failed)?;
                has_infinite |= bucket.bound == f64::INFINITY;
                give(("_bucket", Some(("le", bucket.bound))), either(bucket.float, bucket.count), bucket.exemplar)?;
            }
            (4, value) => count_float = double(value).map_err(failed)?,
            _ => {}
        }
    }
    let count = either(count_float, count);
    if !has_infinite {
        give(("_bucket", Some(("le", f64::INFINITY))), count, None)?;
    }
    give(("_sum", None), sum, None)?;
    give(("_count", None), count, None)
}

struct Bucket<'a> {
    count: u64,
    float: f64,
    bound: f64,
    exemplar: Option<&'a [u8]>,
}

impl<'a> Bucket<'a> {
    fn read(message: &'a [u8]) -> Result<Self, DecodeError> {
        let mut bucket = Self { count: 0, float: 0.0, bound: 0.0, exemplar: None };
        for field in fields(message) {
            match field? {
                (1, value) => bucket.count = value.varint()?,
                (2, value) => bucket.bound = double(value)?,
                (3, value) => bucket.exemplar = Some(value.bytes()?),
                (4, value) => bucket.float = double(value)?,
                _ => {}
            }
        }
        Ok(bucket)
    }
}

impl<'a> Series<'a> {
    /// Feeds `hasher` what tells the labels of the metric from those of others of its family.
    pub fn hash_labels(&self, hasher: &mut impl Hasher) {
        for label in messages(self.metric, 1).flatten() {
            hasher.write_usize(label.len());
            hasher.write(label);
        }
    }

    /// The metric of the series: series of one metric have the same labels.
    pub fn metric(&self) -> &'a [u8] {
        self.metric
    }

    /// What tells the series from others of its metric.
    pub fn part(&self) -> [u8; 9] {
        let mut part = [0; 9];
        part[0] = self.suffix.as_bytes().get(1).copied().unwrap_or(0) | if self.bound.is_some() { 0x80 } else { 0 };
        part[1..].copy_from_slice(&self.bound.map_or(0, |(_, bound)| bound.to_bits()).to_le_bytes());
        part
    }

    /// The series as the text format writes it.
    ///
    /// # Errors
    /// When one of its labels is no such message.
    pub fn spelled(&self, family: &Family<'_>) -> Result<Vec<u8>, String> {
        let mut text = b"{\"".to_vec();
        escape(&mut text, family.name);
        text.extend_from_slice(self.suffix.as_bytes());
        text.push(b'"');
        spell_labels(&mut text, self.metric).map_err(reason)?;
        if let Some((name, bound)) = self.bound {
            text.extend_from_slice(format!(",{name}=\"{}\"", canonical_float(&bound.to_string())).as_bytes());
        }
        text.push(b'}');
        Ok(text)
    }
}

impl<'a> Exposed<'a> {
    /// Its exemplar, the labels spelled into `text`.
    ///
    /// # Errors
    /// When it is no such message.
    pub fn exemplar<'t>(&self, text: &'t mut Vec<u8>) -> Result<Option<Exemplar<'t>>, String> {
        let Some(message) = self.exemplar else { return Ok(None) };
        let (mut value, mut at) = (0.0, None);
        for field in fields(message) {
            match field.map_err(reason)? {
                (2, number) => value = double(number).map_err(reason)?,
                (3, time) => at = Some(timestamp(time.bytes().map_err(reason)?).map_err(reason)?),
                _ => {}
            }
        }
        text.clear();
        text.push(b'{');
        spell_labels(text, message).map_err(reason)?;
        text.push(b'}');
        Ok(Some(Exemplar { labels: text, value, at }))
    }
}

/// `google.protobuf.Timestamp`.
fn timestamp(message: &[u8]) -> Result<Timestamp, DecodeError> {
    let (mut seconds, mut nanos) = (0_i64, 0_i64);
    for field in fields(message) {
        match field? {
            (1, value) => seconds = value.varint()? as i64,
            (2, value) => nanos = value.varint()? as i64,
            _ => {}
        }
    }
    Ok(Timestamp::from_millis(seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000)))
}

/// Writes the label pairs in field 1 of a message as `"name"="value"`, with commas between.
fn spell_labels(text: &mut Vec<u8>, message: &[u8]) -> Result<(), DecodeError> {
    for label in messages(message, 1) {
        let (mut name, mut value): (&[u8], &[u8]) = (&[], &[]);
        for field in fields(label?) {
            match field? {
                (1, bytes) => name = bytes.bytes()?,
                (2, bytes) => value = bytes.bytes()?,
                _ => {}
            }
        }
        text.extend_from_slice(if text.last() == Some(&b'{') { b"\"" } else { b",\"" });
        escape(text, name);
        text.extend_from_slice(b"\"=\"");
        escape(text, value);
        text.push(b'"');
    }
    Ok(())
}

fn escape(text: &mut Vec<u8>, piece: &[u8]) {
    for byte in piece {
        match byte {
            b'\\' => text.extend_from_slice(b"\\\\"),
            b'"' => text.extend_from_slice(b"\\\""),
            b'\n' => text.extend_from_slice(b"\\n"),
            byte => text.push(*byte),
        }
    }
}

fn double(value: Value<'_>) -> Result<f64, DecodeError> {
    value.fixed64().map(f64::from_bits)
}

/// A histogram counts in whole numbers or in floats, never in both.
fn either(float: f64, whole: u64) -> f64 {
    if float > 0.0 { float } else { whole as f64 }
}

fn kind(number: u64) -> Result<MetricKind, String> {
    Ok(match number {
        0 => MetricKind::Counter,
        1 => MetricKind::Gauge,
        2 => MetricKind::Summary,
        3 => MetricKind::Unknown,
        4 => MetricKind::Histogram,
        5 => MetricKind::GaugeHistogram,
        other => return Err(format!("unknown metric type {other}")),
    })
}

fn reason(error: DecodeError) -> String {
    error.to_string()
}
