//! What an evaluation answers.

use std::time::Duration;

use super::ast::ValueKind;
use crate::model::{Labels, Timestamp};
use crate::series::{Evaluated, Evaluation, SeriesSamples};

/// The result of a query and what the asker should know about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The result.
    pub value: Value,
    /// Full texts (`PromQL warning: …`, or what a store says), without repeats.
    pub warnings: Vec<String>,
    /// Full texts (`PromQL info: …`), without repeats.
    pub infos: Vec<String>,
    /// What it cost.
    pub stats: Stats,
}

impl Answer {
    /// What a store has evaluated by itself, with how long the query waited for its turn, and for the store.
    pub(super) fn passed_on(passed: Evaluation, (queued, selecting): (Duration, Duration)) -> Self {
        let Evaluation { value, warnings, infos } = passed;
        let value = match value {
            Evaluated::Scalar(at, value) => Value::Scalar { at, value },
            Evaluated::Text(at, value) => Value::String { at, value },
            Evaluated::Matrix(series) => Value::Matrix(series),
            Evaluated::Vector(samples) => Value::Vector(
                samples.into_iter().map(|(labels, at, value)| InstantSample { labels, at, value }).collect(),
            ),
        };
        Self { value, warnings, infos, stats: Stats { queued, selecting, ..Stats::default() } }
    }
}

/// What an evaluation cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Samples taken from the store.
    pub samples_loaded: usize,
    /// Series taken from the store.
    pub series_loaded: usize,
    /// Most samples held at one time, those taken from the store included.
    pub samples_peak: usize,
    /// Waiting for the turn.
    pub queued: Duration,
    /// Selecting samples.
    pub selecting: Duration,
    /// Evaluating, waiting for a thread included.
    pub evaluating: Duration,
}

/// A result.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// One number.
    Scalar {
        /// When.
        at: Timestamp,
        /// What.
        value: f64,
    },
    /// One sample of each series. In no order, but for `sort`, `topk` and their like.
    Vector(Vec<InstantSample>),
    /// Samples of each series, sorted by labels.
    Matrix(Vec<SeriesSamples>),
    /// A text.
    String {
        /// When.
        at: Timestamp,
        /// What.
        value: String,
    },
}

/// One sample of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct InstantSample {
    /// Which series.
    pub labels: Labels,
    /// The time of the evaluation.
    pub at: Timestamp,
    /// What.
    pub value: f64,
}

impl Value {
    /// What kind of result it is.
    pub fn kind(&self) -> ValueKind {
        match self {
            Self::Scalar { .. } => ValueKind::Scalar,
            Self::Vector(_) => ValueKind::Vector,
            Self::Matrix(_) => ValueKind::Matrix,
            Self::String { .. } => ValueKind::String,
        }
    }
}

/// A value as Prometheus writes it in JSON: shortest form, an exponent of two digits at least below 1e-6 and from 1e21.
pub fn format_value(value: f64) -> String {
    let magnitude = value.abs();
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if magnitude == 0.0 || magnitude.is_infinite() || (1e-6..1e21).contains(&magnitude) {
        return super::print::plain_number(value);
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_values_as_prometheus_json_does() {
        let check = |value: f64, expect: &str| assert_eq!(format_value(value), expect);
        check(0.0, "0");
        check(-0.0, "-0");
        check(1.0, "1");
        check(0.1 + 0.2, "0.30000000000000004");
        check(1e-6, "0.000001");
        check(1e-7, "1e-07");
        check(-1.5e-10, "-1.5e-10");
        check(1e20, "100000000000000000000");
        check(1e21, "1e+21");
        check(1.25e300, "1.25e+300");
        check(f64::NAN, "NaN");
        check(f64::INFINITY, "+Inf");
        check(f64::NEG_INFINITY, "-Inf");
    }
}
