//! Compares what came with what a script expects.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::series::Point;
use super::{Expectation, When, Wording};
use crate::model::{Labels, is_stale};
use crate::promql::value::{Answer, Value};

impl Wording {
    fn fits(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(message) => text == message,
            Self::Like(pattern) => regex::Regex::new(pattern).is_ok_and(|regex| regex.is_match(text)),
        }
    }
}

/// Whether the query failed as it should (`error` is how it did).
pub(super) fn check_failure(expectation: &Expectation, error: Option<String>) -> Result<(), (String, String)> {
    match (&expectation.fail, error) {
        (None, Some(error)) => Err(("a result".to_owned(), error)),
        (Some(Some(wording)), Some(error)) if !wording.fits(&error) => Err((format!("an error: {wording:?}"), error)),
        (Some(wording), None) => Err((format!("an error: {wording:?}"), "a result".to_owned())),
        _ => Ok(()),
    }
}

pub(super) fn check_notes(expectation: &Expectation, answer: &Answer) -> Result<(), (String, String)> {
    let check = |what: &str, wanted: &[Wording], none: bool, notes: &[String]| {
        // Scripts do not say the place.
        let texts: Vec<&str> =
            notes.iter().map(|note| note.rsplit_once(" (").map_or(note.as_str(), |(t, _)| t)).collect();
        let missing = wanted.iter().find(|wording| !texts.iter().any(|text| wording.fits(text)));
        let unforeseen = texts.iter().find(|text| !wanted.is_empty() && !wanted.iter().any(|one| one.fits(text)));
        match missing.or(wanted.first().filter(|_| unforeseen.is_some())) {
            Some(wording) => Err((format!("{what} {wording:?}"), format!("{texts:?}"))),
            None if none && !texts.is_empty() => Err((format!("no {what}"), format!("{texts:?}"))),
            None => Ok(()),
        }
    };
    check("warning", &expectation.warn, expectation.no_warn, &answer.warnings)?;
    check("info", &expectation.info, expectation.no_info, &answer.infos)
}

/// As upstream compares: relative to the sum of both, 1e-6.
fn nearly_equal(a: f64, b: f64) -> bool {
    const TOLERANCE: f64 = 1e-6;
    if is_stale(a) || is_stale(b) {
        return is_stale(a) && is_stale(b);
    }
    if (a.is_nan() && b.is_nan()) || a == b {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < TOLERANCE * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < TOLERANCE
}

type Rows = Vec<(Labels, Vec<(i64, f64)>)>;

pub(super) fn compare(expectation: &Expectation, when: When, value: &Value) -> Result<(), (String, String)> {
    match value {
        Value::Scalar { value, .. } => compare_scalar(expectation, *value),
        Value::String { value, .. } => {
            let expected = expectation.text.clone().unwrap_or_default();
            if expected == *value { Ok(()) } else { Err((expected, value.clone())) }
        }
        Value::Vector(samples) => {
            let rows: Rows = samples.iter().map(|s| (s.labels.clone(), vec![(s.at.as_millis(), s.value)])).collect();
            let When::Instant { at_ms } = when else { return Err(("a matrix".to_owned(), "a vector".to_owned())) };
            compare_rows(expectation, (at_ms, 1), &rows)
        }
        Value::Matrix(series) => {
            let rows: Rows = series
                .iter()
                .map(|series| {
                    let times = series.times.iter().map(|time| time.as_millis());
                    (series.labels.clone(), times.zip(series.values.iter().copied()).collect())
                })
                .collect();
            let times = match (when, expectation.range_vector) {
                (_, Some(times)) => times,
                (When::Range { start_ms, step_ms, .. }, None) => (start_ms, step_ms),
                (When::Instant { at_ms }, None) => (at_ms, 1),
            };
            compare_rows(expectation, times, &rows)
        }
    }
}

fn compare_scalar(expectation: &Expectation, got: f64) -> Result<(), (String, String)> {
    match expectation.scalar {
        Some(expected) if nearly_equal(expected, got) => Ok(()),
        Some(expected) => Err((expected.to_string(), got.to_string())),
        None => Err((show_expected(expectation), format!("scalar {got}"))),
    }
}

/// The step at `at_ms` of a range result against what the instant query should yield.
pub(super) fn compare_middle(expectation: &Expectation, at_ms: i64, value: &Value) -> Result<(), (String, String)> {
    let Value::Matrix(series) = value else { return Err(("a matrix".to_owned(), format!("{value:?}"))) };
    let mut rows: Rows = Vec::new();
    for one in series {
        if let Some(i) = one.times.iter().position(|time| time.as_millis() == at_ms) {
            rows.push((one.labels.clone(), vec![(at_ms, one.values[i])]));
        }
    }
    match (expectation.scalar, rows.as_slice()) {
        (Some(_), [(_, points)]) => compare_scalar(expectation, points[0].1),
        _ => compare_rows(expectation, (at_ms, 1), &rows),
    }
}

fn compare_rows(
    expectation: &Expectation,
    (start_ms, step_ms): (i64, i64),
    rows: &Rows,
) -> Result<(), (String, String)> {
    let expected: Rows = expectation
        .series
        .iter()
        .map(|(labels, points)| {
            let values = points.iter().enumerate().filter_map(|(i, point)| match point {
                Point::Value(value) => Some((start_ms + step_ms * i as i64, *value)),
                Point::Missing | Point::Histogram => None,
            });
            (labels.clone(), values.collect())
        })
        .collect();
    let same = |a: &[(i64, f64)], b: &[(i64, f64)]| {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && nearly_equal(a.1, b.1))
    };
    let fits = if expectation.ordered {
        expected.len() == rows.len() && expected.iter().zip(rows).all(|(a, b)| a.0 == b.0 && same(&a.1, &b.1))
    } else {
        let by_labels: BTreeMap<&Labels, &Vec<(i64, f64)>> = rows.iter().map(|(labels, row)| (labels, row)).collect();
        by_labels.len() == rows.len()
            && expected.len() == rows.len()
            && expected.iter().all(|(labels, row)| by_labels.get(labels).is_some_and(|got| same(row, got)))
    };
    if fits && expectation.scalar.is_none() { Ok(()) } else { Err((show_expected(expectation), show_rows(rows))) }
}

fn show_expected(expectation: &Expectation) -> String {
    if let Some(scalar) = expectation.scalar {
        return format!("scalar {scalar}");
    }
    let mut out = String::new();
    for (labels, points) in &expectation.series {
        let _ = write!(out, "\n  {labels}");
        for point in points {
            let _ = match point {
                Point::Missing => write!(out, " _"),
                Point::Value(value) => write!(out, " {value}"),
                Point::Histogram => write!(out, " {{{{}}}}"),
            };
        }
    }
    if out.is_empty() { "nothing".to_owned() } else { out }
}

fn show_rows(rows: &Rows) -> String {
    let mut out = String::new();
    for (labels, points) in rows {
        let _ = write!(out, "\n  {labels}");
        for (at, value) in points {
            let _ = write!(out, " {value}@{at}");
        }
    }
    if out.is_empty() { "nothing".to_owned() } else { out }
}
