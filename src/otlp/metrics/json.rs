//! Metrics as OTLP/JSON. Lists of points are split before they are read, so that one point at a time is decoded.

use opentelemetry_proto::tonic::metrics::v1 as proto;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::points::Translator;
use super::{Header, Point, Shape};
use crate::otlp::json::{JsonError, KeyValue, Many, all, list, part, utf8_error};
use crate::otlp::json_scalars::{Double, Hex, Whole};

/// Gives all points of a body to the translator.
pub(super) fn read(body: &[u8], translator: &mut Translator<'_, '_>) -> Result<(), JsonError> {
    let whole = std::str::from_utf8(body).map_err(|error| utf8_error(body, error))?;
    let request: Request<'_> = part(whole, whole)?;
    for group in items(whole, request.resource_metrics)? {
        let ResourceMetrics { resource, scope_metrics } = part(whole, group.get())?;
        let resource = resource.map_or(Ok(Resource::default()), |resource| part(whole, resource.get()))?;
        translator.begin_resource(all(resource.attributes));
        for group in items(whole, scope_metrics)? {
            let ScopeMetrics { metrics } = part(whole, group.get())?;
            for metric in items(whole, metrics)? {
                read_metric(whole, part(whole, metric.get())?, translator)?;
            }
        }
        translator.end_resource();
    }
    Ok(())
}

fn items<'a>(whole: &str, raw: Option<&'a RawValue>) -> Result<Vec<&'a RawValue>, JsonError> {
    raw.map_or(Ok(Vec::new()), |raw| list(whole, raw))
}

fn read_metric(whole: &str, metric: Metric<'_>, translator: &mut Translator<'_, '_>) -> Result<(), JsonError> {
    let Metric { name, description, unit, gauge, sum, histogram, exponential_histogram, summary } = metric;
    let shapes = [
        (Shape::Gauge, gauge),
        (Shape::Sum, sum),
        (Shape::Histogram, histogram),
        (Shape::ExponentialHistogram, exponential_histogram),
        (Shape::Summary, summary),
    ];
    let Some((shape, data)) = shapes.into_iter().find_map(|(shape, data)| Some((shape, data?))) else { return Ok(()) };
    let Data { data_points, aggregation_temporality, is_monotonic } = part(whole, data.get())?;
    let cumulative = matches!(shape, Shape::Gauge | Shape::Summary)
        || aggregation_temporality
            .is_some_and(|raw| matches!(raw.get(), "2" | "\"AGGREGATION_TEMPORALITY_CUMULATIVE\""));
    translator.begin_metric(Header {
        name: name.unwrap_or_default(),
        description: description.unwrap_or_default(),
        unit: unit.unwrap_or_default(),
        shape,
        cumulative,
        monotonic: is_monotonic.unwrap_or_default(),
    });
    for point in items(whole, data_points)? {
        let point: DataPoint = part(whole, point.get())?;
        translator.point(&match shape {
            Shape::Gauge | Shape::Sum => Point::Number(point.into()),
            Shape::Histogram => Point::Histogram(point.into()),
            Shape::ExponentialHistogram => Point::Exponential,
            Shape::Summary => Point::Summary(point.into()),
        });
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    #[serde(borrow, default)]
    resource_metrics: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceMetrics<'a> {
    #[serde(borrow, default)]
    resource: Option<&'a RawValue>,
    #[serde(borrow, default)]
    scope_metrics: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Resource {
    attributes: Many<KeyValue>,
}

#[derive(Deserialize)]
struct ScopeMetrics<'a> {
    #[serde(borrow, default)]
    metrics: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metric<'a> {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    unit: Option<String>,
    #[serde(borrow, default)]
    gauge: Option<&'a RawValue>,
    #[serde(borrow, default)]
    sum: Option<&'a RawValue>,
    #[serde(borrow, default)]
    histogram: Option<&'a RawValue>,
    #[serde(borrow, default)]
    exponential_histogram: Option<&'a RawValue>,
    #[serde(borrow, default)]
    summary: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    #[serde(borrow, default)]
    data_points: Option<&'a RawValue>,
    #[serde(borrow, default)]
    aggregation_temporality: Option<&'a RawValue>,
    #[serde(default)]
    is_monotonic: Option<bool>,
}

/// The fields of all kinds of points.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct DataPoint {
    attributes: Many<KeyValue>,
    time_unix_nano: Option<Whole<u64>>,
    flags: Option<Whole<u64>>,
    as_double: Option<Double>,
    as_int: Option<Whole<i64>>,
    count: Option<Whole<u64>>,
    sum: Option<Double>,
    bucket_counts: Option<Vec<Whole<u64>>>,
    explicit_bounds: Option<Vec<Double>>,
    quantile_values: Many<Quantile>,
    exemplars: Many<Exemplar>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Quantile {
    quantile: Option<Double>,
    value: Option<Double>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Exemplar {
    filtered_attributes: Many<KeyValue>,
    time_unix_nano: Option<Whole<u64>>,
    as_double: Option<Double>,
    as_int: Option<Whole<i64>>,
    span_id: Option<Hex>,
    trace_id: Option<Hex>,
}

fn whole<T: Default>(value: Option<Whole<T>>) -> T {
    value.map(|value| value.0).unwrap_or_default()
}

fn double(value: Option<Double>) -> f64 {
    value.map_or(0.0, |value| value.0)
}

impl From<DataPoint> for proto::NumberDataPoint {
    fn from(point: DataPoint) -> Self {
        use proto::number_data_point::Value;
        let of_double = point.as_double.map(|value| Value::AsDouble(value.0));
        Self {
            attributes: all(point.attributes),
            time_unix_nano: whole(point.time_unix_nano),
            flags: whole(point.flags) as u32,
            value: of_double.or(point.as_int.map(|value| Value::AsInt(value.0))),
            exemplars: all(point.exemplars),
            ..Self::default()
        }
    }
}

impl From<DataPoint> for proto::HistogramDataPoint {
    fn from(point: DataPoint) -> Self {
        Self {
            attributes: all(point.attributes),
            time_unix_nano: whole(point.time_unix_nano),
            flags: whole(point.flags) as u32,
            count: whole(point.count),
            sum: point.sum.map(|sum| sum.0),
            bucket_counts: point.bucket_counts.unwrap_or_default().into_iter().map(|count| count.0).collect(),
            explicit_bounds: point.explicit_bounds.unwrap_or_default().into_iter().map(|bound| bound.0).collect(),
            exemplars: all(point.exemplars),
            ..Self::default()
        }
    }
}

impl From<DataPoint> for proto::SummaryDataPoint {
    fn from(point: DataPoint) -> Self {
        Self {
            attributes: all(point.attributes),
            time_unix_nano: whole(point.time_unix_nano),
            flags: whole(point.flags) as u32,
            count: whole(point.count),
            sum: double(point.sum),
            quantile_values: all(point.quantile_values),
            ..Self::default()
        }
    }
}

impl From<Quantile> for proto::summary_data_point::ValueAtQuantile {
    fn from(quantile: Quantile) -> Self {
        Self { quantile: double(quantile.quantile), value: double(quantile.value) }
    }
}

impl From<Exemplar> for proto::Exemplar {
    fn from(exemplar: Exemplar) -> Self {
        use proto::exemplar::Value;
        let of_double = exemplar.as_double.map(|value| Value::AsDouble(value.0));
        let bytes = |hex: Option<Hex>| hex.map(|Hex(bytes)| bytes).unwrap_or_default();
        Self {
            filtered_attributes: all(exemplar.filtered_attributes),
            time_unix_nano: whole(exemplar.time_unix_nano),
            value: of_double.or(exemplar.as_int.map(|value| Value::AsInt(value.0))),
            span_id: bytes(exemplar.span_id),
            trace_id: bytes(exemplar.trace_id),
        }
    }
}
