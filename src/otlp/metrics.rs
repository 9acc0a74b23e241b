//! OTLP metrics as Prometheus 3.5 takes them in: data points into series, by its default translation
//! (`UnderscoreEscapingWithSuffixes`).
//!
//! In: the body of an export request. Out: samples, exemplars and metadata in [`crate::push::Intake`], and how many points
//! were not taken and why. Invariants: no more than one data point is held in its decoded form; a bad point keeps out no
//! other. Only cumulative temporality is taken; exponential histograms are refused, since meshscope keeps classic ones.

mod json;
mod names;
mod points;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogramDataPoint, HistogramDataPoint, NumberDataPoint, SummaryDataPoint,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::{DecodeError, Message};

use super::json::JsonError;
use crate::push::{Batch, Intake, Past};
use crate::wire::{fields, messages};
use points::{OF_RESOURCE, Translator};

/// Most data points of one request.
const POINTS_MAX: usize = 500_000;
/// Most different reasons told in one answer.
const REASONS_MAX: usize = 10;

/// What a sender is told.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Data points that were not stored, or not wholly.
    pub(crate) rejected: u64,
    /// Why, with counts; `None` when all is well.
    pub(crate) message: Option<String>,
    /// What must be given to [`Intake::store_past`].
    pub(crate) past: Past,
}

/// Why a body is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MetricsError {
    /// Not an `ExportMetricsServiceRequest`.
    #[error("not an ExportMetricsServiceRequest in protobuf: {0}")]
    Protobuf(#[from] DecodeError),
    /// Nothing is taken now: the client should come again.
    #[error("{0}")]
    Closed(#[from] crate::push::Closed),
    /// Not OTLP/JSON. The message has line and column.
    #[error("not an ExportMetricsServiceRequest in OTLP/JSON: {0}")]
    Json(#[from] JsonError),
}

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// Protobuf.
    Protobuf,
    /// JSON.
    Json,
}

/// Which kind of data a metric has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Gauge,
    Sum,
    Histogram,
    ExponentialHistogram,
    Summary,
}

/// A metric without its data points.
#[derive(Clone, Debug)]
struct Header {
    name: String,
    description: String,
    unit: String,
    shape: Shape,
    cumulative: bool,
    monotonic: bool,
}

/// One data point.
enum Point {
    Number(NumberDataPoint),
    Histogram(HistogramDataPoint),
    /// Checked and not kept: it is refused.
    Exponential,
    Summary(SummaryDataPoint),
}

/// Points not taken, by reason.
#[derive(Debug, Default)]
struct Rejections(BTreeMap<String, u64>);

impl Rejections {
    fn add(&mut self, reason: String, points: u64) {
        if self.0.len() < REASONS_MAX || self.0.contains_key(&reason) {
            *self.0.entry(reason).or_default() += points;
        } else {
            *self.0.entry("for further reasons".to_owned()).or_default() += points;
        }
    }

    fn total(&self) -> u64 {
        self.0.values().sum()
    }

    fn message(&self) -> Option<String> {
        let parts: Vec<String> =
            self.0.iter().map(|(reason, points)| format!("{points} data points: {reason}")).collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

/// Stores a body. Blocks; call it where that is allowed.
///
/// # Errors
/// When the body is no metrics export request; then nothing of it is stored.
pub(crate) fn take(intake: &Intake, body: &[u8], encoding: Encoding) -> Result<Taken, MetricsError> {
    let fill = |batch: &mut Batch<'_>| -> Result<_, MetricsError> {
        let mut translator = Translator::new(batch);
        match encoding {
            Encoding::Protobuf => read_protobuf(body, &mut translator)?,
            Encoding::Json => json::read(body, &mut translator)?,
        }
        Ok(translator.finish())
    };
    let ((mut rejections, points_of_series), mut committed) = intake.store(fill)?;
    let mut counted = std::collections::HashSet::new();
    for (series, _, error) in &committed.refused {
        // A histogram is one point in many series; `target_info` is none of the sender's.
        let point = points_of_series[series.index()];
        if point != OF_RESOURCE && counted.insert(point) {
            rejections.add(text_of(error), 1);
        }
    }
    let rejected = rejections.total();
    let counters = intake.counters();
    counters.otlp_requests.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    counters.refused_points.fetch_add(rejected, std::sync::atomic::Ordering::Relaxed);
    Ok(Taken { rejected, message: rejections.message(), past: std::mem::take(&mut committed.past) })
}

/// The reason without what differs from sample to sample.
fn text_of(error: &crate::push::SampleError) -> String {
    match error {
        crate::push::SampleError::Duplicate { .. } => "duplicate sample for timestamp".to_owned(),
        other => other.to_string(),
    }
}

/// `ExportMetricsServiceRequest { 1: repeated ResourceMetrics { 1: resource, 2: repeated ScopeMetrics { 1: scope,
/// 2: repeated Metric } } }`.
fn read_protobuf(body: &[u8], translator: &mut Translator<'_, '_>) -> Result<(), DecodeError> {
    for group in messages(body, 1) {
        let group = group?;
        let resource = messages(group, 1).next().transpose()?.map_or(Ok(Resource::default()), Resource::decode)?;
        translator.begin_resource(resource.attributes);
        for scope_metrics in messages(group, 2) {
            let scope_metrics = scope_metrics?;
            let scope = messages(scope_metrics, 1).next().transpose()?;
            scope.map(InstrumentationScope::decode).transpose()?; // checked; scope metadata is not promoted by default
            for metric in messages(scope_metrics, 2) {
                read_metric(metric?, translator)?;
            }
        }
        translator.end_resource();
    }
    Ok(())
}

/// `Metric { 1: name, 2: description, 3: unit, 5: gauge, 7: sum, 9: histogram, 10: exponential histogram, 11: summary }`.
fn read_metric(message: &[u8], translator: &mut Translator<'_, '_>) -> Result<(), DecodeError> {
    let (mut texts, mut data) = ([&[][..]; 3], None);
    for field in fields(message) {
        match field? {
            (number @ 1..=3, text) => texts[number as usize - 1] = text.bytes()?,
            (5, gauge) => data = Some((Shape::Gauge, gauge.bytes()?)),
            (7, sum) => data = Some((Shape::Sum, sum.bytes()?)),
            (9, histogram) => data = Some((Shape::Histogram, histogram.bytes()?)),
            (10, histogram) => data = Some((Shape::ExponentialHistogram, histogram.bytes()?)),
            (11, summary) => data = Some((Shape::Summary, summary.bytes()?)),
            _ => {}
        }
    }
    let [name, description, unit] = texts.map(|text| String::from_utf8_lossy(text).into_owned());
    let Some((shape, data)) = data else { return Ok(()) };
    let (mut cumulative, mut monotonic) = (matches!(shape, Shape::Gauge | Shape::Summary), false);
    for field in fields(data) {
        match field? {
            (2, temporality) if !cumulative => cumulative = temporality.varint()? == CUMULATIVE,
            (3, flag) if shape == Shape::Sum => monotonic = flag.varint()? != 0,
            _ => {}
        }
    }
    let header = Header { name, description, unit, shape, cumulative, monotonic };
    translator.begin_metric(header);
    for point in messages(data, 1) {
        let point = point?;
        let decoded = match shape {
            Shape::Gauge | Shape::Sum => Point::Number(NumberDataPoint::decode(point)?),
            Shape::Histogram => Point::Histogram(HistogramDataPoint::decode(point)?),
            Shape::ExponentialHistogram => {
                ExponentialHistogramDataPoint::decode(point)?;
                Point::Exponential
            }
            Shape::Summary => Point::Summary(SummaryDataPoint::decode(point)?),
        };
        translator.point(&decoded);
    }
    Ok(())
}

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: u64 = 2;
