//! Reads what Prometheus' HTTP API answers.
//!
//! In: bodies. Out: our own nouns. Native histograms have no place in them: they are left out with a warning.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::model::{Labels, Timestamp};
use crate::series::{Evaluated, Evaluation, Exemplar, QueryError, SeriesExemplars, SeriesSamples};

/// Bytes shown of an answer that is no JSON.
const SHOWN_BYTES: usize = 200;

/// `{"status":…,"data":…}` or `{"status":"error","errorType":…,"error":…}`.
#[derive(Deserialize)]
struct Envelope<T> {
    status: String,
    data: Option<T>,
    #[serde(default, rename = "errorType")]
    error_type: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    warnings: Option<Vec<String>>,
    #[serde(default)]
    infos: Option<Vec<String>>,
}

/// An answer with what the asker should know.
pub(super) struct Told<T> {
    pub(super) data: T,
    pub(super) warnings: Vec<String>,
    pub(super) infos: Vec<String>,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
pub(super) enum QueryData {
    Scalar((f64, String)),
    String((f64, String)),
    Vector(Vec<One>),
    Matrix(Vec<Many>),
}

type LabelMap = BTreeMap<String, String>;

#[derive(Deserialize)]
pub(super) struct One {
    metric: LabelMap,
    #[serde(default)]
    value: Option<(f64, String)>,
    #[serde(default)]
    histogram: Option<IgnoredAny>,
}

#[derive(Deserialize)]
pub(super) struct Many {
    metric: LabelMap,
    #[serde(default)]
    values: Vec<(f64, String)>,
    #[serde(default)]
    histograms: Vec<IgnoredAny>,
}

#[derive(Deserialize)]
pub(super) struct ExemplarsOf {
    #[serde(rename = "seriesLabels")]
    series: LabelMap,
    exemplars: Vec<OneExemplar>,
}

#[derive(Deserialize)]
struct OneExemplar {
    labels: LabelMap,
    value: String,
    timestamp: f64,
}

/// What a metric is, as a target said.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Metadata {
    /// `counter`, `gauge` …
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Its unit, mostly empty.
    #[serde(default)]
    pub unit: String,
    /// What it counts.
    #[serde(default)]
    pub help: String,
}

/// What a body says.
///
/// # Errors
/// What the upstream refuses with its words; [`QueryError::Unavailable`] with the reason for anything that is not such an
/// answer.
pub(super) fn read<T: DeserializeOwned>(status: reqwest::StatusCode, body: &[u8]) -> Result<Told<T>, QueryError> {
    let envelope: Envelope<T> = match serde_json::from_slice(body) {
        Ok(envelope) => envelope,
        Err(error) if status.is_success() => {
            return Err(away(format!("answered {status} with what is not to be read: {error}")));
        }
        Err(_) => return Err(away(format!("answered {status}: {}{}", shown(body), advice(status)))),
    };
    match (envelope.status.as_str(), envelope.data) {
        ("success", Some(data)) if status.is_success() => Ok(Told {
            data,
            warnings: envelope.warnings.unwrap_or_default(),
            infos: envelope.infos.unwrap_or_default(),
        }),
        _ => Err(refusal(status, &envelope.error_type, envelope.error)),
    }
}

/// VictoriaMetrics and some proxies write the status as the error's type, or nothing.
fn refusal(status: reqwest::StatusCode, kind: &str, reason: String) -> QueryError {
    const KINDS: [&str; 6] = ["bad_data", "execution", "timeout", "canceled", "not_found", "internal"];
    let known = KINDS.into_iter().find(|known| *known == kind);
    let by_status = match status.as_u16() {
        400 => Some("bad_data"),
        404 => Some("not_found"),
        422 => Some("execution"),
        _ => None,
    };
    match known.or(by_status.filter(|_| kind != "unavailable")) {
        Some(kind) => QueryError::Refused { kind, reason },
        None => away(format!("answered {status}: {reason}{}", advice(status))),
    }
}

fn advice(status: reqwest::StatusCode) -> &'static str {
    match status.as_u16() {
        401 | 403 => " (look at basic_auth, authorization and tls_config of storage.query_upstream)",
        404 | 405 => " (is url of storage.query_upstream the address of Prometheus' API, without /api/v1?)",
        _ => "",
    }
}

pub(super) fn away(reason: String) -> QueryError {
    QueryError::Unavailable { store: "the engine of storage.query_upstream", reason }
}

fn shown(body: &[u8]) -> Cow<'_, str> {
    let text = body.get(..SHOWN_BYTES.min(body.len())).map(String::from_utf8_lossy).unwrap_or_default();
    Cow::Owned(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The result of a query, unless it has more than `limit` samples.
pub(super) fn evaluation(told: Told<QueryData>, limit: usize) -> Result<Evaluation, QueryError> {
    let Told { data, mut warnings, infos } = told;
    let (mut samples, mut histograms) = (0, 0);
    let value = match data {
        QueryData::Scalar((at, value)) => Evaluated::Scalar(time(at), number(&value)?),
        QueryData::String((at, value)) => Evaluated::Text(time(at), value),
        QueryData::Vector(found) => {
            samples = found.len();
            histograms = found.iter().filter(|one| one.histogram.is_some()).count();
            let plain = found.into_iter().filter_map(|one| Some((one.metric, one.value?)));
            let read = plain.map(|(metric, (at, value))| Ok((labels(&metric), time(at), number(&value)?)));
            Evaluated::Vector(read.collect::<Result<_, QueryError>>()?)
        }
        QueryData::Matrix(found) => {
            samples = found.iter().map(|series| series.values.len()).sum();
            histograms = found.iter().filter(|series| !series.histograms.is_empty()).count();
            let plain = found.into_iter().filter(|series| !series.values.is_empty());
            let mut series = plain.map(samples_of).collect::<Result<Vec<_>, QueryError>>()?;
            series.sort_by(|a, b| a.labels.cmp(&b.labels));
            Evaluated::Matrix(series)
        }
    };
    if samples > limit {
        return Err(QueryError::TooManySamples);
    }
    if histograms > 0 {
        warnings.push(format!(
            "{histograms} series have native histograms, which are left out: meshscope has no place for them"
        ));
    }
    Ok(Evaluation { value, warnings, infos })
}

fn samples_of(series: Many) -> Result<SeriesSamples, QueryError> {
    let times: Arc<[Timestamp]> = series.values.iter().map(|(at, _)| time(*at)).collect();
    let values = series.values.iter().map(|(_, value)| number(value)).collect::<Result<Vec<f64>, _>>()?;
    Ok(SeriesSamples { labels: labels(&series.metric), times, values })
}

/// Exemplars by series.
pub(super) fn exemplars(found: Vec<ExemplarsOf>) -> Result<Vec<SeriesExemplars>, QueryError> {
    let one = |one: OneExemplar| {
        Ok(Exemplar { labels: labels(&one.labels), value: number(&one.value)?, at: time(one.timestamp) })
    };
    let of = |of: ExemplarsOf| {
        let exemplars = of.exemplars.into_iter().map(one).collect::<Result<_, QueryError>>()?;
        Ok(SeriesExemplars { series: labels(&of.series), exemplars })
    };
    found.into_iter().map(of).collect()
}

pub(super) fn labels(map: &LabelMap) -> Labels {
    Labels::from_pairs(map)
}

fn time(seconds: f64) -> Timestamp {
    Timestamp::from_millis((seconds * 1000.0).round() as i64)
}

/// As Go writes numbers: `+Inf`, `NaN`, `1e+06`.
fn number(text: &str) -> Result<f64, QueryError> {
    text.parse().map_err(|_| QueryError::Refused {
        kind: "internal",
        reason: format!("the engine of storage.query_upstream answered {text:?} where a number belongs"),
    })
}
