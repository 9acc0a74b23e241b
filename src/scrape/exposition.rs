//! Exposition formats: the page of a target as entries, without copying it.
//!
//! In: the bytes of a page and its [`Format`]. Out: an iterator of [`Entry`]s whose texts point into the page.
//! Pure. Invariants: labels are looked into only when asked ([`parse_labels`]), so a page whose series are known costs
//! a scan; the first mistake ends the page with its line and reason, as in Prometheus; no byte is read twice.

mod labels;
mod number;
mod parser;
mod protobuf;

pub use labels::{LabelPair, parse_labels};
pub use number::{canonical_float, parse_float};
pub use parser::{Parser, Progress};
pub use protobuf::{Exposed, Family as ProtobufFamily, Series as ProtobufSeries, next_family};

use crate::model::Timestamp;

/// How a page is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text, versions 0.0.4 and 1.0.0 (which adds names in quotes).
    Text,
    /// OpenMetrics text, versions 0.0.1 and 1.0.0.
    OpenMetrics,
}

/// The kind of a metric, from its TYPE line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MetricKind {
    /// Only rises.
    Counter,
    /// Any value.
    Gauge,
    /// Cumulative buckets with `le`.
    Histogram,
    /// Buckets that may fall.
    GaugeHistogram,
    /// Quantiles.
    Summary,
    /// Labels with the value 1.
    Info,
    /// A set of booleans.
    StateSet,
    /// Not said.
    #[default]
    Unknown,
}

impl MetricKind {
    /// By their numbers in remote write (`MetricMetadata.MetricType`, the same in both versions).
    const BY_NUMBER: [Self; 8] = [
        Self::Unknown,
        Self::Counter,
        Self::Gauge,
        Self::Histogram,
        Self::GaugeHistogram,
        Self::Summary,
        Self::Info,
        Self::StateSet,
    ];

    /// The number that remote write gives it.
    pub fn number(self) -> u64 {
        Self::BY_NUMBER.iter().position(|kind| *kind == self).unwrap_or_default() as u64
    }

    /// The kind that remote write gives that number; unknown when it gives it none.
    pub fn of_number(number: u64) -> Self {
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        Self::BY_NUMBER.get(at).copied().unwrap_or_default()
    }

    /// As the HTTP API of Prometheus names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::StateSet => "stateset",
            Self::Unknown => "unknown",
        }
    }

    /// The name of the family that a series of this kind belongs to: without `_bucket`, `_sum` or `_count`.
    pub fn family(self, name: &str) -> &str {
        let endings: &[&str] = match self {
            Self::Histogram | Self::GaugeHistogram => &["_bucket", "_sum", "_count"],
            Self::Summary => &["_sum", "_count"],
            _ => &[],
        };
        endings.iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name)
    }
}

/// One line of a page that says something.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Entry<'a> {
    /// A sample.
    Sample(Sample<'a>),
    /// `# TYPE`: the kind of a metric.
    Kind {
        /// Metric name, as written (quotes taken off).
        name: &'a [u8],
        /// Its kind.
        kind: MetricKind,
    },
    /// `# HELP`: what a metric means.
    Help {
        /// Metric name.
        name: &'a [u8],
        /// The text, escapes as written.
        text: &'a [u8],
    },
    /// `# UNIT`: the unit of a metric.
    Unit {
        /// Metric name.
        name: &'a [u8],
        /// The unit.
        unit: &'a [u8],
    },
}

/// One sample line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample<'a> {
    /// The series as written: name and braces. Two spellings of one series have two keys.
    pub key: &'a [u8],
    /// Whether the recogniser knew the key.
    pub recognised: bool,
    /// The value; every NaN is the same ordinary NaN.
    pub value: f64,
    /// The time, where the page gives one.
    pub at: Option<Timestamp>,
    /// OpenMetrics only.
    pub exemplar: Option<Exemplar<'a>>,
}

/// An exemplar: one observation behind a counter or bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exemplar<'a> {
    /// Its labels as written, braces included; read them with [`parse_labels`].
    pub labels: &'a [u8],
    /// The observed value.
    pub value: f64,
    /// When it was observed.
    pub at: Option<Timestamp>,
}

/// The first mistake of a page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}: `{text}`")]
pub struct ParseError {
    /// 1-based.
    pub line: usize,
    /// The line, cut to a readable length.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

#[cfg(test)]
mod tests;
